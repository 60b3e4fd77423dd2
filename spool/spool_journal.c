#include "spool/spool_journal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_area.h"

/* Only here is one made, only by batch_run, only for a record that is synced. */
struct spool_proof {
	struct place place;
};

struct place
proof_place(const struct spool_proof *proof)
{
	return proof->place;
}

/* A record of a batch: its bytes, and what is to be said of it. */
struct entry {
	size_t at; /* in the batch's bytes */
	size_t len;
	struct place place; /* where it was written last */
	enum err why;
	spool_done *done;
	void *arg;
};

struct batch {
	STAILQ_ENTRY(batch) link; /* in the list of unused ones */
	struct post post;
	struct journal *journal;
	struct bytes buf;
	struct entry *e;
	size_t n, cap;
	msgid_t id_high;
};

/* What the journal knows of the next segment. */
enum next_state {
	NEXT_NONE,   /* not asked for, or it could not be made */
	NEXT_MAKING, /* the reading thread is at it */
	NEXT_READY,
};

/* What the thread does between batches. */
enum rest {
	AWAKE,
	LINGERING, /* for PATIENCE after a sync: only what is urgent wakes it */
	ASLEEP,    /* anything does */
};

enum {
	ENDS_MAX = 64,         /* failed segments that no synced END names yet: more and it is no use */
	BUFFER_KEPT = 4 << 20, /* a batch that grew above this gives its memory back */
};
#define RETRY_AFTER USEC_PER_SEC
/* Patient records share syncs at least this far apart. */
static const long PATIENCE_NS = 2000000;
/* What is expected comes within that, or is waited for asleep. */
static const long EXPECT_NS = 60000;

struct journal {
	struct journal_conf conf;
	pthread_t thread;

	pthread_mutex_t lock; /* of this block */
	pthread_cond_t more;  /* something in `open`, a probe, the end */
	pthread_cond_t made;  /* `next_state` left NEXT_MAKING */
	struct batch *open;   /* gathers */
	STAILQ_HEAD(, batch) unused;
	_Atomic enum rest rest; /* set under the lock */
	_Atomic bool urgent;    /* not all of `open` is patient */
	bool expected;          /* what is urgent comes in a moment */
	bool probe, closing;
	struct timespec patient_until;
	enum next_state next_state;
	usec_t next_failed; /* when it could not be made; 0: it could */
	struct segment next;
	struct spool_end unsealed[ENDS_MAX]; /* could not be sealed: where they end is said in a record */
	size_t unsealed_n;

	_Atomic bool broken;
	_Atomic size_t waiting; /* bytes in `open` */

	/* The journal thread's own. */
	struct segment seg; /* fd -1: none */
	uint32_t off;       /* where the next record goes */
	uint32_t mark;      /* synced up to here */
	struct bytes toc;   /* entries of what is synced */
	msgid_t id_high;
	struct spool_end ends[ENDS_MAX]; /* to be said in the next write */
	size_t ends_n;
	usec_t tried; /* when a broken one last tried again */
	struct record scratch;
	struct bytes scratch_bytes;

	struct cold_job make_job; /* in use while NEXT_MAKING */
};

/* A full segment on its way to its seal. */
struct sealing {
	struct cold_job job;
	struct journal *journal;
	struct segment seg;
	uint32_t end;
	struct bytes toc;
	msgid_t id_high;
};

/* ---------------------------------------------------------------- batches */

static struct batch *
batch_get(struct journal *j)
{
	struct batch *b = STAILQ_FIRST(&j->unused);

	if (b != NULL) {
		STAILQ_REMOVE_HEAD(&j->unused, link);
		return b;
	}
	b = mem_zalloc(sizeof *b);
	b->journal = j;
	return b;
}

static void
batch_free(struct batch *b)
{
	bytes_fini(&b->buf);
	free(b->e);
	free(b);
}

/* The loop is through with it. */
static void
batch_put(struct journal *j, struct batch *b)
{
	b->buf.n = 0;
	b->n = 0;
	if (b->buf.cap > BUFFER_KEPT)
		bytes_fini(&b->buf);
	pthread_mutex_lock(&j->lock);
	STAILQ_INSERT_HEAD(&j->unused, b, link);
	pthread_mutex_unlock(&j->lock);
}

/* On the loop: lets go what waited. */
static void
batch_run(struct post *p)
{
	struct batch *b = (struct batch *)(void *)((char *)p - offsetof(struct batch, post));
	struct journal *j = b->journal;

	slot_add(j->conf.slot, CELL_JOURNAL_WAITING, -(int64_t)b->n);
	fault_point("submit.before_done");
	for (size_t i = 0; i < b->n; i++) {
		struct entry *e = &b->e[i];
		struct spool_proof proof = { e->place };
		e->done(e->arg, e->why, e->why == OK ? &proof : NULL);
	}
	batch_put(j, b);
}

void
journal_add(struct journal *j, const struct record *r, bool patient, msgid_t id_high, spool_done *done, void *arg)
{
	size_t len = record_encoded_size(r);
	struct batch *b;
	bool wake;

	pthread_mutex_lock(&j->lock);
	b = j->open;
	if (b->n == b->cap) {
		b->cap = b->cap == 0 ? 64 : b->cap * 2;
		b->e = mem_array(b->e, b->cap, sizeof *b->e);
	}
	b->e[b->n++] = (struct entry){ .at = b->buf.n, .len = len, .why = ERR_AGAIN, .done = done, .arg = arg };
	record_encode(r, bytes_room(&b->buf, len));
	b->buf.n += len;
	b->id_high = id_high;
	atomic_store_explicit(&j->waiting, b->buf.n, memory_order_relaxed);
	j->urgent = j->urgent || !patient;
	wake = j->rest == ASLEEP || (j->rest == LINGERING && !patient);
	if (wake)
		j->rest = AWAKE;
	pthread_mutex_unlock(&j->lock);
	if (wake)
		pthread_cond_signal(&j->more);
	slot_add(j->conf.slot, CELL_JOURNAL_WAITING, 1);
}

void
journal_expect(struct journal *j)
{
	bool wake;

	/* Under load it is nearly always awake, and its lock is wanted elsewhere. */
	if (atomic_load_explicit(&j->rest, memory_order_relaxed) == AWAKE)
		return;
	pthread_mutex_lock(&j->lock);
	wake = j->rest != AWAKE;
	if (wake) {
		j->expected = true;
		j->rest = AWAKE;
	}
	pthread_mutex_unlock(&j->lock);
	if (wake)
		pthread_cond_signal(&j->more);
}

bool
journal_healthy(const struct journal *j)
{
	return !atomic_load_explicit(&j->broken, memory_order_relaxed) &&
	       atomic_load_explicit(&j->waiting, memory_order_relaxed) < JOURNAL_SWAMPED;
}

/* ---------------------------------------------------------------- the next segment */

/* Reading thread. */
static void
make_run(struct cold_job *job)
{
	struct journal *j = (struct journal *)(void *)((char *)job - offsetof(struct journal, make_job));
	struct segment s = { .fd = -1 };
	enum err e;

	e = segment_make(j->conf.maker, SEGMENT_JOURNAL, j->conf.segment_size, j->conf.id_high, &s);
	if (e != OK)
		log_errno(LOG_LVL_WARN, "spool", "the next segment cannot be prepared");
	disk_tick(j->conf.disk); /* fast mail fills a disk in less than the second between two ticks */
	pthread_mutex_lock(&j->lock);
	j->next = s;
	j->next_state = e == OK ? NEXT_READY : NEXT_NONE;
	j->next_failed = e == OK ? 0 : clock_mono();
	pthread_cond_signal(&j->made);
	pthread_mutex_unlock(&j->lock);
}

static void
next_ask(struct journal *j)
{
	bool ask;

	pthread_mutex_lock(&j->lock);
	ask = j->next_state == NEXT_NONE && (j->next_failed == 0 || clock_mono() - j->next_failed >= RETRY_AFTER);
	if (ask)
		j->next_state = NEXT_MAKING;
	pthread_mutex_unlock(&j->lock);
	if (ask)
		cold_add_urgent(j->conf.cold, &j->make_job);
}

static bool
next_take(struct journal *j, struct segment *out)
{
	bool have;

	pthread_mutex_lock(&j->lock);
	while (j->next_state == NEXT_MAKING)
		pthread_cond_wait(&j->made, &j->lock);
	have = j->next_state == NEXT_READY;
	if (have) {
		*out = j->next;
		j->next = (struct segment){ .fd = -1 };
		j->next_state = NEXT_NONE;
	}
	pthread_mutex_unlock(&j->lock);
	return have;
}

static uint64_t
small_size(const struct journal *j)
{
	return j->conf.segment_size < JOURNAL_FIRST_SIZE ? j->conf.segment_size : JOURNAL_FIRST_SIZE;
}

/* On a full disk a small one, and if need be with the help of the reserve. */
static enum err
make_small(struct journal *j, struct segment *out)
{
	enum err e = segment_make(j->conf.maker, SEGMENT_JOURNAL, small_size(j), j->id_high, out);

	if (e == ERR_FULL && disk_let_go(j->conf.disk))
		e = segment_make(j->conf.maker, SEGMENT_JOURNAL, small_size(j), j->id_high, out);
	return e;
}

/* A new segment to write to. */
static enum err
open_new(struct journal *j)
{
	struct segment s;
	enum err e = OK;

	if (!next_take(j, &s)) {
		e = segment_make(j->conf.maker, SEGMENT_JOURNAL, j->conf.segment_size, j->id_high, &s);
		if (e == ERR_FULL)
			e = make_small(j, &s);
	}
	if (e != OK) {
		log_errno(LOG_LVL_ERROR, "spool", "no new segment can be made");
		return e;
	}
	j->seg = s;
	j->off = j->mark = SEGMENT_HEAD;
	j->toc.n = 0;
	return OK;
}

/* ---------------------------------------------------------------- sealing */

static void
sealing_free(struct sealing *s)
{
	segment_close(&s->seg);
	bytes_fini(&s->toc);
	free(s);
}

/* Reading thread. What cannot be sealed ends, for the keeper, where a record says so. */
static void
seal_run(struct cold_job *job)
{
	struct sealing *s = (struct sealing *)(void *)job;
	struct journal *j = s->journal;

	if (segment_seal(&s->seg, s->end, slice_bytes(&s->toc), s->id_high) != OK) {
		log_errno(LOG_LVL_ERROR, "spool", "segment %u cannot be sealed", (unsigned)s->seg.number);
		pthread_mutex_lock(&j->lock);
		if (j->unsealed_n < ENDS_MAX)
			j->unsealed[j->unsealed_n++] = (struct spool_end){ s->seg.number, s->end };
		pthread_mutex_unlock(&j->lock);
	}
	sealing_free(s);
}

static struct sealing *
sealing_new(struct journal *j)
{
	struct sealing *s = mem_zalloc(sizeof *s);

	s->job.fn = seal_run;
	s->journal = j;
	s->seg = j->seg;
	s->end = j->mark;
	s->toc = j->toc;
	s->id_high = j->id_high;
	j->seg = (struct segment){ .fd = -1 };
	j->toc = (struct bytes){ 0 };
	return s;
}

static void
end_add(struct journal *j, uint32_t seg, uint32_t mark)
{
	if (j->ends_n == ENDS_MAX)
		log_fatal("spool", "%d segments have failed and none can be written", ENDS_MAX);
	j->ends[j->ends_n++] = (struct spool_end){ seg, mark };
}

static void
take_unsealed(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	for (size_t i = 0; i < j->unsealed_n; i++)
		end_add(j, j->unsealed[i].seg, j->unsealed[i].mark);
	j->unsealed_n = 0;
	pthread_mutex_unlock(&j->lock);
}

/* ---------------------------------------------------------------- one write, one sync */

/* n bytes of records, and behind them `pad` that belong to none. */
static enum err
write_padded(struct journal *j, const char *p, size_t n, size_t pad)
{
	int error = fault_error("journal.write");
	enum err e;

	if (error != 0) {
		errno = error;
		return error == ENOSPC || error == EDQUOT ? ERR_FULL : ERR_IO;
	}
	e = segment_write(j->seg.fd, j->off, p, n + pad);
	if (e == OK)
		j->off += (uint32_t)n;
	return e;
}

static enum err
write_at(struct journal *j, const char *p, size_t n)
{
	return write_padded(j, p, n, 0);
}

static enum err
sync_now(struct journal *j)
{
	int error;

	fault_point("journal.before_sync");
	error = fault_error("journal.sync");
	if (error == 0 && fdatasync(j->seg.fd) != 0)
		error = errno;
	if (error != 0) {
		errno = error;
		slot_add(j->conf.slot, CELL_JOURNAL_SYNC_FAILURES, 1);
		return ERR_IO;
	}
	fault_point("journal.after_sync");
	slot_add(j->conf.slot, CELL_JOURNAL_SYNCS, 1);
	slot_add(j->conf.slot, CELL_JOURNAL_BYTES, j->off - j->mark);
	j->mark = j->off;
	slot_publish_mark(j->conf.slot, j->seg.number, j->mark);
	fault_point("journal.after_mark");
	return OK;
}

/* "The last one ends at its mark", for every segment of which that is still to be said. Said twice: were the only such
 * record damaged, mail that was answered 451 would come back. */
static enum err
write_ends(struct journal *j)
{
	struct record *r = &j->scratch;
	enum err e = OK;
	size_t len;

	if (j->ends_n == 0)
		return OK;
	record_reset(r);
	for (size_t i = 0; i < j->ends_n; i++)
		record_add_end(r, &j->ends[i]);
	len = record_encoded_size(r);
	fault_point("journal.before_end");
	for (int copy = 0; copy < 2 && e == OK; copy++) {
		j->scratch_bytes.n = 0;
		record_encode(r, bytes_room(&j->scratch_bytes, len));
		record_seal(j->scratch_bytes.p, (struct place){ j->seg.number, j->off }, j->mark, j->id_high);
		e = write_at(j, j->scratch_bytes.p, len);
		if (e == OK)
			toc_add_record(&j->toc, j->scratch_bytes.p);
	}
	return e;
}

/* What a run [from, to) of a batch is about: all of it, or only what is no new message. */
static bool
is_repeated(const struct batch *b, const struct entry *e)
{
	return record_type_of(b->buf.p + e->at) != RECORD_MESSAGE;
}

static void
entry_seal(struct journal *j, struct batch *b, struct entry *e, uint32_t off)
{
	e->place = (struct place){ j->seg.number, off };
	record_seal(b->buf.p + e->at, e->place, j->mark, b->id_high);
}

/* Zeroes behind the batch's last record, up to the end of its page: a page that is written whole need not be read from
 * the disk first, as one of a segment that was filled past the page cache, or was a spare, would be. */
static size_t
pad_batch(const struct journal *j, struct batch *b, uint64_t end)
{
	size_t pad = (size_t)(-end % SEGMENT_PAGE);

	if (end + pad > j->seg.size)
		return 0;
	memset(bytes_room(&b->buf, pad), 0, pad);
	return pad;
}

/* The entries lie side by side in the batch, so a run is one write. */
static enum err
write_run(struct journal *j, struct batch *b, size_t from, size_t to)
{
	uint32_t off = j->off;
	size_t len = 0, pad;

	for (size_t i = from; i < to; i++) {
		entry_seal(j, b, &b->e[i], off + (uint32_t)len);
		len += b->e[i].len;
	}
	pad = to == b->n ? pad_batch(j, b, off + len) : 0;
	fault_point("journal.before_write");
	return write_padded(j, b->buf.p + b->e[from].at, len, pad);
}

/* After a failure: one by one. */
static enum err
write_repeated(struct journal *j, struct batch *b, size_t from, size_t to)
{
	enum err e = OK;

	for (size_t i = from; e == OK && i < to; i++) {
		if (!is_repeated(b, &b->e[i]))
			continue;
		entry_seal(j, b, &b->e[i], j->off);
		e = write_at(j, b->buf.p + b->e[i].at, b->e[i].len);
	}
	return e;
}

static void
run_is_synced(struct journal *j, struct batch *b, size_t from, size_t to, bool repeated_only)
{
	for (size_t i = from; i < to; i++) {
		if (repeated_only && !is_repeated(b, &b->e[i]))
			continue;
		b->e[i].why = OK;
		toc_add_record(&j->toc, b->buf.p + b->e[i].at);
	}
	j->ends_n = 0;
	if (b->id_high > j->id_high)
		j->id_high = b->id_high;
}

static void
run_answer(struct batch *b, size_t from, size_t to, enum err why)
{
	for (size_t i = from; i < to; i++)
		if (b->e[i].why == ERR_AGAIN)
			b->e[i].why = why;
}

/* ---------------------------------------------------------------- failure */

/* The present segment is never written or synced again. One that holds nothing synced is removed. */
static void
abandon(struct journal *j)
{
	bool empty = j->mark == SEGMENT_HEAD;

	end_add(j, j->seg.number, j->mark);
	log_error("spool", "segment %u is given up at %u", (unsigned)j->seg.number, (unsigned)j->mark);
	if (empty) {
		segment_drop(j->conf.maker, &j->seg);
		(void)segment_dir_sync(j->conf.maker->dirfd);
	}
	segment_close(&j->seg);
	j->seg = (struct segment){ .fd = -1 };
}

static void
set_broken(struct journal *j, bool broken)
{
	if (atomic_load(&j->broken) == broken)
		return;
	atomic_store(&j->broken, broken);
	j->tried = clock_mono();
	if (broken)
		log_error("spool", "the journal cannot be written: new mail is refused");
	else
		log_info("spool", "the journal can be written again");
}

/* The run [from, to) was written, or begun, and failed with `cause`. */
static void
run_failed(struct journal *j, struct batch *b, size_t from, size_t to, enum err cause)
{
	enum err e;

	log_errno(LOG_LVL_ERROR, "spool", "segment %u: a sync or write failed", (unsigned)j->seg.number);
	abandon(j);
	e = open_new(j);
	if (e == OK) {
		e = write_ends(j);
		if (e == OK)
			e = write_repeated(j, b, from, to);
		if (e == OK)
			e = sync_now(j);
		if (e != OK) {
			log_errno(LOG_LVL_ERROR, "spool", "segment %u failed too", (unsigned)j->seg.number);
			abandon(j);
		}
	}
	if (e == OK) {
		run_is_synced(j, b, from, to, true);
		run_answer(b, from, to, cause);
		return;
	}
	run_answer(b, from, to, ERR_DAMAGED);
	set_broken(j, true);
}

/* A broken journal: a new segment that says where the failed ones end. */
static bool
recover(struct journal *j)
{
	usec_t now = clock_mono();

	if (now - j->tried < RETRY_AFTER)
		return false;
	j->tried = now;
	if (open_new(j) != OK)
		return false;
	if (write_ends(j) != OK || sync_now(j) != OK) {
		abandon(j);
		j->ends_n--; /* it held nothing but ENDs, and is gone */
		return false;
	}
	j->ends_n = 0;
	set_broken(j, false);
	return true;
}

/* ---------------------------------------------------------------- the thread */

/* Full: seal it and go on in the next. */
static enum err
rotate(struct journal *j)
{
	if (j->seg.fd >= 0) {
		struct sealing *s = sealing_new(j);
		cold_add(j->conf.cold, &s->job);
	}
	return open_new(j);
}

static bool
has_room(const struct journal *j, uint64_t n)
{
	if (j->seg.fd < 0)
		return false;
	return j->off == SEGMENT_HEAD || (j->off + n <= j->seg.size && j->toc.n < JOURNAL_TOC_MAX);
}

/* How many entries from `from` on go into the present segment: one at least. */
static size_t
run_end(const struct journal *j, const struct batch *b, size_t from)
{
	uint64_t len = b->e[from].len;
	size_t to = from + 1;

	while (to < b->n && j->off + len + b->e[to].len <= j->seg.size)
		len += b->e[to++].len;
	return to;
}

/* Gives where to go on: at `from` again if nothing could be written and the journal is broken now. */
static size_t
write_some(struct journal *j, struct batch *b, size_t from)
{
	size_t to;
	enum err e = OK;

	if (!has_room(j, b->e[from].len))
		e = rotate(j);
	if (e != OK) {
		set_broken(j, true);
		return from;
	}
	to = run_end(j, b, from);
	e = write_ends(j);
	if (e == OK)
		e = write_run(j, b, from, to);
	fault_point("journal.after_write");
	if (e == OK)
		e = sync_now(j);
	if (e == OK)
		run_is_synced(j, b, from, to, false);
	else
		run_failed(j, b, from, to, e);
	return to;
}

static void
batch_write(struct journal *j, struct batch *b)
{
	size_t i = 0;

	take_unsealed(j);
	while (i < b->n) {
		if (atomic_load(&j->broken) && !(is_repeated(b, &b->e[i]) && recover(j)))
			b->e[i++].why = ERR_FULL;
		else
			i = write_some(j, b, i);
	}
	slot_add(j->conf.slot, CELL_JOURNAL_RECORDS, (int64_t)b->n);
	if (j->seg.fd >= 0 && j->off > j->seg.size / 2)
		next_ask(j);
}

/* The system's monotonic clock: it is a wait, not something that a simulation decides. */
static void
be_patient(struct journal *j)
{
	struct timespec *t = &j->patient_until;

	clock_gettime(CLOCK_MONOTONIC, t);
	t->tv_nsec += PATIENCE_NS;
	if (t->tv_nsec >= 1000000000) {
		t->tv_nsec -= 1000000000;
		t->tv_sec++;
	}
}

/* Under the lock, which is free meanwhile. Asleep again, it would have to be woken once more: two hand-overs between cores
 * for one message. */
static void
look_out(struct journal *j)
{
	struct timespec began, now;

	j->expected = false;
	pthread_mutex_unlock(&j->lock);
	clock_gettime(CLOCK_MONOTONIC, &began);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (!atomic_load_explicit(&j->urgent, memory_order_acquire) &&
	       (now.tv_sec - began.tv_sec) * 1000000000L + now.tv_nsec - began.tv_nsec < EXPECT_NS);
	pthread_mutex_lock(&j->lock);
}

/* Under the lock. After a sync it lingers, woken by what is urgent only; then anything will do. */
static void
rest(struct journal *j)
{
	bool lingered = false;

	while (!j->urgent && !j->probe && !j->closing && !(lingered && j->open->n > 0)) {
		if (j->expected) {
			look_out(j);
			continue;
		}
		j->rest = lingered ? ASLEEP : LINGERING;
		if (lingered)
			pthread_cond_wait(&j->more, &j->lock);
		else
			lingered = pthread_cond_timedwait(&j->more, &j->lock, &j->patient_until) == ETIMEDOUT;
	}
	j->rest = AWAKE;
}

/* Rests until there is something; gives what gathered, or NULL for a probe (*over: the end). */
static struct batch *
batch_wait(struct journal *j, bool *probe, bool *over)
{
	struct batch *b = NULL;

	pthread_mutex_lock(&j->lock);
	rest(j);
	*probe = j->probe;
	j->probe = false;
	*over = j->closing && j->open->n == 0;
	if (j->open->n > 0) {
		b = j->open;
		j->open = batch_get(j);
		j->urgent = false;
		atomic_store_explicit(&j->waiting, 0, memory_order_relaxed);
	}
	pthread_mutex_unlock(&j->lock);
	return b;
}

static void *
journal_main(void *arg)
{
	struct journal *j = arg;
	bool over = false, probe;

	while (!over) {
		struct batch *b = batch_wait(j, &probe, &over);
		if (probe && atomic_load(&j->broken))
			(void)recover(j);
		if (b == NULL)
			continue;
		batch_write(j, b);
		be_patient(j);
		postbox_put(j->conf.box, &b->post, batch_run);
	}
	return NULL;
}

/* ---------------------------------------------------------------- start and end */

/* On a full disk it begins broken: whoever is served here waits for room, and need not die for it. */
static enum err
first_segment(struct journal *j)
{
	enum err e = make_small(j, &j->seg);

	if (e == ERR_FULL) {
		log_errno(LOG_LVL_ERROR, "spool", "no first segment can be made");
		j->seg = (struct segment){ .fd = -1 };
		set_broken(j, true);
		return OK;
	}
	if (e != OK)
		return e;
	j->off = j->mark = SEGMENT_HEAD;
	slot_publish_mark(j->conf.slot, j->seg.number, j->mark);
	return OK;
}

struct journal *
journal_open(const struct journal_conf *conf, enum err *why)
{
	struct journal *j = mem_zalloc(sizeof *j);
	pthread_condattr_t attr;
	enum err e;

	j->conf = *conf;
	j->id_high = conf->id_high;
	j->next.fd = j->seg.fd = -1;
	j->make_job.fn = make_run;
	STAILQ_INIT(&j->unused);
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&j->more, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&j->made, NULL);
	j->open = batch_get(j);
	e = first_segment(j);
	if (e == OK) {
		errno = spool_thread_start(&j->thread, "spool-journal", journal_main, j);
		if (errno == 0)
			return j;
		e = ERR_IO;
		if (j->seg.fd >= 0)
			segment_drop(conf->maker, &j->seg);
	}
	*why = e;
	batch_free(j->open);
	free(j);
	return NULL;
}

static void
wake(struct journal *j, bool *flag)
{
	pthread_mutex_lock(&j->lock);
	*flag = true;
	j->rest = AWAKE;
	pthread_cond_signal(&j->more);
	pthread_mutex_unlock(&j->lock);
}

void
journal_probe(struct journal *j)
{
	wake(j, &j->probe);
}

void
journal_stop(struct journal *j)
{
	wake(j, &j->closing);
	pthread_join(j->thread, NULL);
}

/* The last segment: sealed, or removed if nothing was ever written to it. */
static void
last_segment(struct journal *j)
{
	if (j->seg.fd < 0)
		return;
	if (j->mark == SEGMENT_HEAD) {
		segment_drop(j->conf.maker, &j->seg);
		return;
	}
	if (segment_seal(&j->seg, j->mark, slice_bytes(&j->toc), j->id_high) != OK)
		log_errno(LOG_LVL_WARN, "spool", "segment %u cannot be sealed", (unsigned)j->seg.number);
	segment_close(&j->seg);
}

void
journal_free(struct journal **jp)
{
	struct journal *j = *jp;
	struct batch *b;

	last_segment(j);
	if (j->next_state == NEXT_READY) {
		uint32_t number = j->next.number;
		segment_close(&j->next);
		(void)segment_to_spare(j->conf.maker->dirfd, number);
	}
	batch_free(j->open);
	while ((b = STAILQ_FIRST(&j->unused)) != NULL) {
		STAILQ_REMOVE_HEAD(&j->unused, link);
		batch_free(b);
	}
	bytes_fini(&j->toc);
	bytes_fini(&j->scratch_bytes);
	record_fini(&j->scratch);
	pthread_cond_destroy(&j->more);
	pthread_cond_destroy(&j->made);
	pthread_mutex_destroy(&j->lock);
	free(j);
	*jp = NULL;
}
