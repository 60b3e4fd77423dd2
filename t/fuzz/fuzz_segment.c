/* Journals that say anything, with right checksums and without: the keeper folds them, settles the dead, reclaims and
 * rebuilds. It ends, in bounded work; the ledger adds up; and the next keeper finds the map as this one left it.
 * Input: steps of u8 what, u8 segment, u16 length, bytes. The folder stands in memory where there is such a place. */
#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/mem.h"
#include "spool/spool_keeper.h"
#include "t/fuzz/home.h"
#include "t/fuzz/mend.h"

enum { SEGMENTS = 4, STEPS_MAX = 64, WORK_MAX = 20000, KEEPER = 1000, TURNS_STUCK = 8 };
enum step { RECORD, RAW, ENDED, TOC, SEAL, HEAD, MARK, DIE, TURN, RESTART, REBUILD, STEPS };

struct writer {
	uint32_t off, mark;
	bool begun, dead;
};

struct world {
	struct home home;
	struct writer w[SEGMENTS]; /* writer N writes segment N, both counted from 1 */
	struct keeper *k;
	_Atomic uint32_t highest;
	uint64_t lives;
	unsigned work;
	bool heads; /* one was changed */
};

static usec_t
still(void)
{
	return 1000 * USEC_PER_SEC;
}

/* ---- what the keeper asks ---- */

static struct writer *
writer_of(struct world *w, uint64_t number)
{
	return number >= 1 && number <= SEGMENTS ? &w->w[number - 1] : NULL;
}

/* Told at every read, and the tail at every turn: both have an end. */
static void
on_busy(void *arg)
{
	require_that(++((struct world *)arg)->work < WORK_MAX, "fuzz");
}

static bool
on_alive(void *arg, uint64_t writer)
{
	struct writer *w = writer_of(arg, writer);

	return w != NULL && !w->dead;
}

static bool
on_mark(void *arg, uint64_t writer, uint32_t *seg, uint32_t *mark)
{
	struct writer *w = writer_of(arg, writer);

	if (w == NULL || w->mark == 0)
		return false;
	*seg = (uint32_t)writer;
	*mark = w->mark;
	return true;
}

static void
on_tail(void *arg, uint64_t bytes, int64_t messages)
{
	(void)bytes;
	(void)messages;
	on_busy(arg);
}

static const struct keeper_hooks hooks = { .alive = on_alive, .mark = on_mark, .busy = on_busy, .tail = on_tail };

/* ---- files ---- */

static int
open_file(struct world *w, enum segment_file what, uint32_t number)
{
	char name[SEGMENT_NAME];
	int fd;

	segment_name(what, number, name);
	fd = openat(w->home.journal, name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	require_that(fd >= 0, "fuzz");
	return fd;
}

static void
put(struct world *w, enum segment_file what, uint32_t number, uint64_t off, const char *p, size_t n)
{
	int fd = open_file(w, what, number);

	require_that(segment_write(fd, off, p, n) == OK, "fuzz");
	close(fd);
}

/* As its writer would make it. */
static void
begin(struct world *w, uint32_t number)
{
	struct segment_head h = { .number = number,
				  .kind = SEGMENT_JOURNAL,
				  .slot = (uint8_t)number,
				  .writer = number,
				  .created = still(),
				  .size = SEGMENT_SIZE_MIN };
	char page[SEGMENT_HEAD];
	struct writer *wr = &w->w[number - 1];

	if (wr->begun)
		return;
	segment_head_write(&h, page);
	put(w, SEGFILE_SEG, number, 0, page, sizeof(page));
	wr->begun = true;
	wr->off = SEGMENT_HEAD;
	if (w->highest < number)
		w->highest = number;
}

static void
add(struct world *w, uint32_t number, const char *p, size_t n)
{
	struct writer *wr = &w->w[number - 1];

	put(w, SEGFILE_SEG, number, wr->off, p, n);
	wr->off += (uint32_t)((n + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1));
}

/* ---- keepers ---- */

static void
open_keeper(struct world *w)
{
	struct keeper_conf conf = { .spool_fd = w->home.dir,
				    .index_path = "index",
				    .index_size = 16 << 20,
				    .highest = &w->highest,
				    .writer = KEEPER + w->lives,
				    .segment_size = SEGMENT_SIZE_MIN,
				    .hooks = &hooks,
				    .hooks_arg = w };

	w->work = 0;
	w->lives++;
	require_that(keeper_open(&conf, &w->k) == OK, "fuzz");
}

static void
settle(struct world *w)
{
	enum err e = OK;

	if (w->k == NULL)
		open_keeper(w);
	w->work = 0;
	/* What a later version wrote is left alone and holds up nobody else, but each turn ends with it. */
	for (int i = 0; i < TURNS_STUCK; i++)
		if ((e = keeper_settle(w->k, clock_mono())) == OK)
			return;
	require_that(e == ERR_VERSION, "fuzz");
}

/* True: the next keeper does not believe the map that it found. */
static bool
succeed(struct world *w)
{
	bool anew;

	keeper_close(&w->k);
	open_keeper(w);
	anew = keeper_rebuilding(w->k);
	settle(w);
	return anew;
}

static void
map_text(struct world *w, struct bytes *out)
{
	struct index_txn *t;
	struct index_row rows[64];
	struct index_attempt attempts[64];
	struct index_ledger l;
	size_t n = 0, m = 0;

	require_that(index_begin(keeper_index(w->k), &t) == OK, "fuzz");
	(void)index_message_page(t, 0, rows, 64, &n);
	for (size_t i = 0; i < n; i++)
		bytes_addf(out, "%llu at %u:%u tries %u state %u due %lld\n", (unsigned long long)rows[i].id,
			   rows[i].place.seg, rows[i].place.off, rows[i].tries, rows[i].state, (long long)rows[i].due);
	(void)index_attempt_page(t, 0, 0, false, attempts, 64, &m);
	for (size_t i = 0; i < m; i++)
		bytes_addf(out, "%llu.%u %d\n", (unsigned long long)attempts[i].id, attempts[i].n, attempts[i].state);
	require_that(index_ledger(t, &l) == OK && index_ledger_difference(&l) == 0, "fuzz");
	index_end(&t);
}

/* ---- steps ---- */

static void
step_record(struct world *w, uint32_t seg, const uint8_t *p, size_t n)
{
	size_t room = n < RECORD_HEAD ? RECORD_HEAD : n;
	char *copy = mem_zalloc(room);

	memcpy(copy, p, n);
	mend_record(copy, room, (struct place){ seg, w->w[seg - 1].off });
	add(w, seg, copy, room);
	free(copy);
}

static void
step_beside(struct world *w, enum step what, uint32_t seg, const uint8_t *p, size_t n)
{
	size_t room = n < RECORD_HEAD ? RECORD_HEAD : n;
	char *copy = mem_zalloc(room);

	memcpy(copy, p, n);
	if (what == TOC)
		mend_record(copy, room, (struct place){ seg, 0 });
	else
		mend_ended(copy, n, seg);
	put(w, what == TOC ? SEGFILE_TOC : SEGFILE_ENDED, seg, 0, copy, what == TOC ? room : n);
	free(copy);
}

/* Seal or head: what is given, over what stands there. */
static void
step_page(struct world *w, enum step what, uint32_t seg, const uint8_t *p, size_t n)
{
	char page[SEGMENT_HEAD];
	size_t got, from = what == HEAD ? 0 : 2056;
	int fd = open_file(w, SEGFILE_SEG, seg);

	require_that(segment_read(fd, 0, page, sizeof(page), &got) == OK && got == sizeof(page), "fuzz");
	close(fd);
	memcpy(page + from, p, n < 48 ? n : 48);
	w->heads = w->heads || what == HEAD;
	if (what == HEAD)
		mend_head(page, seg);
	else
		mend_seal(page, seg);
	put(w, SEGFILE_SEG, seg, 0, page, sizeof(page));
}

static void
step(struct world *w, enum step what, uint32_t seg, const uint8_t *p, size_t n)
{
	struct writer *wr = &w->w[seg - 1];

	begin(w, seg);
	if (wr->dead && (what == RECORD || what == RAW || what == SEAL || what == MARK))
		return; /* nobody appends to a dead writer's segment */
	switch (what) {
	case RECORD:
		step_record(w, seg, p, n);
		break;
	case RAW:
		add(w, seg, (const char *)p, n);
		break;
	case ENDED:
	case TOC:
		step_beside(w, what, seg, p, n);
		break;
	case SEAL:
	case HEAD:
		step_page(w, what, seg, p, n);
		break;
	case MARK:
		wr->mark = n < 4 ? wr->off : le_get32((const char *)p);
		break;
	case DIE:
		wr->dead = true;
		break;
	case REBUILD:
		keeper_close(&w->k);
		(void)unlinkat(w->home.dir, "index/data.mdb", 0);
		settle(w);
		break;
	case RESTART:
		keeper_close(&w->k);
		settle(w);
		break;
	case TURN:
	case STEPS:
		settle(w);
		break;
	}
}

static void
steps(struct world *w, const uint8_t *p, size_t n)
{
	for (unsigned i = 0; i < STEPS_MAX && n >= 4; i++) {
		enum step what = (enum step)(p[0] % STEPS);
		uint32_t seg = 1 + p[1] % SEGMENTS;
		size_t len = p[2] + 256u * p[3];

		p += 4;
		n -= 4;
		len = len > n ? n : len;
		step(w, what, seg, p, len);
		p += len;
		n -= len;
	}
}

/* All die: what is settled then stays so for whoever comes next. A head that was changed under a keeper who knew it is
 * read by the next one, who builds the map anew: that map is the one to compare with, for a rebuild forgets due times and
 * tries, and other heads are other segments. */
static void
check_end(struct world *w)
{
	struct bytes before = { 0 }, after = { 0 };

	for (int i = 0; i < SEGMENTS; i++)
		w->w[i].dead = true;
	settle(w);
	settle(w);
	map_text(w, &before);
	if (succeed(w) && w->heads) {
		before.n = 0;
		map_text(w, &before);
		(void)succeed(w);
	}
	map_text(w, &after);
	require_that(slice_eq(slice_bytes(&before), slice_bytes(&after)), "fuzz");
	bytes_fini(&before);
	bytes_fini(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct world w = { .work = 0 };

	clock_set_source(still, still);
	home_begin(&w.home);
	require_that(before >= 0 && fchdir(w.home.dir) == 0, "fuzz");
	steps(&w, data, n);
	check_end(&w);
	keeper_close(&w.k);
	require_that(fchdir(before) == 0, "fuzz");
	close(before);
	home_end(&w.home);
	clock_set_source(NULL, NULL);
	return 0;
}
