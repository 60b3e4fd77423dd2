/* keeper_fixture.h - a keeper over a real folder, and writers whose every byte the test decides
 * A writer makes segments as the journal does, but syncs, publishes and dies when the test says so. */
#ifndef T_UNIT_SPOOL_KEEPER_FIXTURE_H
#define T_UNIT_SPOOL_KEEPER_FIXTURE_H

#include "shm/shm_lmdb.h"
#include "spool/spool_index.h"
#include "spool/spool_keeper.h"
#include "spool_fixture.h"

enum { WRITERS = 4, KEEPER = 1000 };

struct writer {
	struct segment_maker maker;
	struct segment seg;
	uint32_t off;  /* written up to here */
	uint32_t mark; /* published */
	bool dead;
	msgid_t finger; /* its death convicts this message */
};

struct kfix {
	struct fixture base;
	struct writer w[WRITERS]; /* writer numbers 1.. */
	struct keeper *k;
	struct keeper_conf conf;
	usec_t deadline; /* of every message; INT64_MAX */
	unsigned expired;
	uint64_t tail;
	char home[256];
};

static inline struct writer *
writer_of(struct kfix *f, uint64_t writer)
{
	return writer >= 1 && writer <= WRITERS ? &f->w[writer - 1] : NULL;
}

static inline bool
kfix_alive(void *arg, uint64_t writer)
{
	struct writer *w = writer_of(arg, writer);

	return w != NULL && !w->dead;
}

static inline bool
kfix_mark(void *arg, uint64_t writer, uint32_t *seg, uint32_t *mark)
{
	struct writer *w = writer_of(arg, writer);

	if (w == NULL || w->mark == 0)
		return false;
	*seg = w->seg.number;
	*mark = w->mark;
	return true;
}

static inline bool
kfix_convicts(void *arg, uint64_t writer, msgid_t *id, char *peer, size_t peer_size)
{
	struct writer *w = writer_of(arg, writer);

	(void)peer;
	(void)peer_size;
	if (w == NULL || w->finger == 0)
		return false;
	*id = w->finger;
	return true;
}

static inline usec_t
kfix_deadline(void *arg, const struct index_row *row)
{
	(void)row;
	return ((struct kfix *)arg)->deadline;
}

static inline void
kfix_expired(void *arg, const struct index_row *row)
{
	(void)row;
	((struct kfix *)arg)->expired++;
}

static inline void
kfix_tail(void *arg, uint64_t bytes, int64_t messages)
{
	(void)messages;
	((struct kfix *)arg)->tail = bytes;
}

static const struct keeper_hooks kfix_hooks = { .alive = kfix_alive,
						.mark = kfix_mark,
						.convicts = kfix_convicts,
						.deadline = kfix_deadline,
						.expired = kfix_expired,
						.tail = kfix_tail };

static inline void
kfix_init(struct kfix *f)
{
	*f = (struct kfix){ .deadline = INT64_MAX };
	fixture_init(&f->base);
	assert_non_null(getcwd(f->home, sizeof(f->home)));
	assert_int_equal(chdir(f->base.dir), 0);
	f->conf = (struct keeper_conf){ .spool_fd = f->base.dirfd,
					.index_path = "index",
					.index_size = 64 << 20,
					.highest = shm_segment_highest(f->base.area),
					.writer = KEEPER,
					.segment_size = SEGMENT_SIZE_MIN,
					.hooks = &kfix_hooks,
					.hooks_arg = f };
	for (int i = 0; i < WRITERS; i++)
		f->w[i] = (struct writer){ .seg.fd = -1,
					   .maker = { .dirfd = f->base.journal,
						      .slot = (uint8_t)(10 + i),
						      .writer = (uint64_t)i + 1,
						      .highest = f->conf.highest } };
}

static inline void
kfix_open(struct kfix *f)
{
	f->conf.writer++;
	assert_int_equal(keeper_open(&f->conf, &f->k), OK);
}

/* Everything synced is in the map, the dead are settled, what is over is gone. */
static inline void
kfix_settle(struct kfix *f)
{
	if (f->k == NULL)
		kfix_open(f);
	assert_int_equal(keeper_settle(f->k, clock_mono()), OK);
}

static inline void
kfix_fini(struct kfix *f)
{
	keeper_close(&f->k);
	for (int i = 0; i < WRITERS; i++)
		segment_close(&f->w[i].seg);
	assert_int_equal(chdir(f->home), 0);
	fixture_fini(&f->base);
}

/* ---- writers ---- */

static inline uint32_t
writer_begin(struct kfix *f, uint64_t writer)
{
	struct writer *w = writer_of(f, writer);

	segment_close(&w->seg);
	assert_int_equal(segment_make(&w->maker, SEGMENT_JOURNAL, SEGMENT_SIZE_MIN, 1, &w->seg), OK);
	w->off = SEGMENT_HEAD;
	return w->seg.number;
}

/* Written, not yet synced. */
static inline struct place
writer_put(struct kfix *f, uint64_t writer, struct record *r)
{
	struct writer *w = writer_of(f, writer);
	uint64_t n = record_encoded_size(r);
	struct place at;
	char *buf = mem_alloc(n);

	if (w->seg.fd < 0)
		writer_begin(f, writer);
	at = (struct place){ w->seg.number, w->off };
	record_encode(r, buf);
	record_seal(buf, at, w->mark == 0 ? SEGMENT_HEAD : w->mark, 1);
	assert_int_equal(segment_write(w->seg.fd, w->off, buf, n), OK);
	w->off += (uint32_t)n;
	free(buf);
	record_fini(r);
	return at;
}

static inline void
writer_sync(struct kfix *f, uint64_t writer)
{
	struct writer *w = writer_of(f, writer);

	w->mark = w->off;
}

static inline void
writer_die(struct kfix *f, uint64_t writer)
{
	writer_of(f, writer)->dead = true;
}

/* With a small body inline. */
static inline struct place
put_message(struct kfix *f, uint64_t writer, msgid_t id)
{
	struct record r = { .items = 0 };
	struct spool_message m = message_of(id, "b@example.com");

	m.received_at = clock_real();
	m.body_blob = record_add_blob(&r, SLICE("a body of some bytes, so that there is something to tear"));
	m.size = 56;
	record_add_message(&r, &m);
	return writer_put(f, writer, &r);
}

static inline struct place
put_attempt(struct kfix *f, uint64_t writer, msgid_t id, uint32_t n, struct place p)
{
	struct record r = { .items = 0 };
	struct spool_attempt a = { .id = id, .n = n, .place = p, .at = 1000 };

	record_add_attempt(&r, &a);
	return writer_put(f, writer, &r);
}

static inline struct place
put_outcome(struct kfix *f, uint64_t writer, msgid_t id, uint32_t n, enum outcome_kind kind, struct place p)
{
	struct record r = { .items = 0 };
	struct spool_outcome o = {
		.id = id, .n = n, .kind = (uint8_t)kind, .place = p, .next_due = 5000, .text = SLICE("450 later")
	};

	record_add_outcome(&r, &o);
	return writer_put(f, writer, &r);
}

static inline struct place
put_edit(struct kfix *f, uint64_t writer, msgid_t id, enum edit_action action, usec_t at, struct place p)
{
	struct record r = { .items = 0 };
	struct spool_edit e = {
		.id_lo = id, .id_hi = id, .action = (uint8_t)action, .at = at, .place = p, .reason = SLICE("why")
	};

	record_add_edit(&r, &e);
	return writer_put(f, writer, &r);
}

/* Turns a byte of a file. */
static inline void
spoil(struct kfix *f, uint32_t seg, uint32_t off)
{
	char name[SEGMENT_NAME], c;
	int fd;

	segment_name(SEGFILE_SEG, seg, name);
	fd = openat(f->base.journal, name, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, off), 1);
	c = (char)(c ^ 0x5a);
	assert_int_equal(pwrite(fd, &c, 1, off), 1);
	close(fd);
}

static inline bool
has_file(struct kfix *f, enum segment_file what, uint32_t number)
{
	char name[SEGMENT_NAME];

	segment_name(what, number, name);
	return faccessat(f->base.journal, name, F_OK, 0) == 0;
}

/* ---- what the map says ---- */

static inline struct index_txn *
map_begin(struct kfix *f)
{
	struct index_txn *t = NULL;

	assert_int_equal(index_begin(keeper_index(f->k), &t), OK);
	return t;
}

static inline struct index_ledger
map_ledger(struct kfix *f)
{
	struct index_txn *t = map_begin(f);
	struct index_ledger l;

	assert_int_equal(index_ledger(t, &l), OK);
	index_end(&t);
	return l;
}

/* The state of a message; ROW_STATES: no row. */
static inline enum row_state
map_state(struct kfix *f, msgid_t id)
{
	struct index_txn *t = map_begin(f);
	struct index_row row;
	enum err e = index_message_get(t, id, &row);
	enum row_state s = e == OK ? (enum row_state)row.state : ROW_STATES;

	assert_true(e == OK || e == ERR_NOTFOUND);
	index_end(&t);
	return s;
}

/* Everything about mail, as text on the heap. */
static inline char *
map_text(struct kfix *f)
{
	struct index_txn *t = map_begin(f);
	struct index_row rows[64];
	struct index_attempt att[64];
	struct index_ledger l;
	struct bytes b = { 0 };
	size_t n = 0, m = 0;
	char *text;

	(void)index_message_page(t, 0, rows, 64, &n);
	for (size_t i = 0; i < n; i++)
		bytes_addf(&b, "row %d at %u:%u tries %u %s\n", (int)rows[i].id, rows[i].place.seg, rows[i].place.off,
			   rows[i].tries, row_state_text((enum row_state)rows[i].state));
	(void)index_attempt_page(t, 0, 0, false, att, 64, &m);
	for (size_t i = 0; i < m; i++)
		bytes_addf(&b, "attempt %d.%u %s\n", (int)att[i].id, att[i].n,
			   attempt_state_text((enum attempt_state)att[i].state));
	assert_int_equal(index_ledger(t, &l), OK);
	assert_int_equal(index_ledger_difference(&l), 0);
	text = mem_strdup(bytes_cstr(&b));
	bytes_fini(&b);
	index_end(&t);
	return text;
}

#endif
