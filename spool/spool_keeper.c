#include "spool/spool_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

#define MS(n)         ((n)*USEC_PER_MS)
#define SCAN_EVERY    MS(250)
#define STILL         MS(50) /* so long without news, and the journals are still */
#define LOOK_BUSY     MS(10)
#define LOOK_IDLE     MS(100)
#define SWEEP_EVERY   (30 * USEC_PER_SEC)
#define TRY_AGAIN     USEC_PER_SEC
#define DISK_EVERY    USEC_PER_SEC
#define TURN_BYTES    (UINT64_C(8) << 20)
#define RANGE_ROWS    10000
#define COMMIT_BYTES  (UINT64_C(64) << 20)
#define COMMIT_AFTER  (2 * USEC_PER_SEC)
/* What a commit takes in memory: half a KiB a row, and a page of 4 KiB in each of three tables a row that the map has. */
#define COMMIT_ROWS   20000
#define COMMIT_IN_MAP 2500

/* ---- open, close ---- */

static enum err
take_lock(struct keeper *k)
{
	k->lockfd = openat(k->conf.spool_fd, "keeper.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (k->lockfd < 0 || fault_fails("keeper.lock"))
		return ERR_IO;
	if (flock(k->lockfd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? ERR_EXISTS : ERR_IO;
	return OK;
}

static enum err
open_folder(struct keeper *k)
{
	if (mkdirat(k->conf.spool_fd, "journal", 0750) != 0 && errno != EEXIST)
		return ERR_IO;
	k->dirfd = openat(k->conf.spool_fd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return k->dirfd < 0 ? ERR_IO : OK;
}

static uint32_t
segment_floor(struct keeper *k)
{
	struct index_txn *t = NULL;
	struct index_meta m = { .highest_seg = 0 };

	if (index_begin(k->index, &t) == OK)
		(void)index_meta(t, &m);
	index_end(&t);
	return m.highest_seg;
}

static enum err
start(struct keeper *k)
{
	enum err e = take_lock(k);

	if (e == OK)
		e = open_folder(k);
	if (e == OK) {
		disk_init(&k->disk, k->dirfd, k->conf.slot, 0, k->conf.reserve);
		e = keeper_open_index(k);
	}
	if (e != OK)
		return e;
	k->maker = (struct segment_maker){ .dirfd = k->dirfd,
					   .slot = k->conf.slot,
					   .generation = k->conf.generation,
					   .writer = k->conf.writer,
					   .highest = k->conf.highest };
	e = segment_maker_start(&k->maker, segment_floor(k));
	return e == OK ? keeper_scan(k) : e;
}

enum err
keeper_open(const struct keeper_conf *conf, struct keeper **out)
{
	struct keeper *k = mem_zalloc(sizeof(*k));
	enum err e;

	k->conf = *conf;
	if (k->conf.commit_bytes == 0)
		k->conf.commit_bytes = COMMIT_BYTES;
	if (k->conf.commit_after == 0)
		k->conf.commit_after = COMMIT_AFTER;
	k->dirfd = k->lockfd = k->own.fd = k->copy.fd = -1;
	k->fold = fold_new(&keeper_world, k);
	e = start(k);
	if (e != OK) {
		int saved = errno;

		keeper_close(&k);
		errno = saved;
		return e;
	}
	*out = k;
	return OK;
}

void
keeper_close(struct keeper **kp)
{
	struct keeper *k = *kp;
	struct kfile *f;

	if (k == NULL)
		return;
	if (k->index != NULL && !k->broken && fold_dirty(k->fold))
		(void)keeper_commit(k);
	keeper_drop_snapshot(k);
	keeper_journal_close(k);
	while ((f = RB_ROOT(&k->files)) != NULL)
		kfile_free(k, f);
	fold_free(&k->fold);
	index_close(&k->index);
	if (k->dirfd >= 0) {
		disk_fini(&k->disk);
		close(k->dirfd);
	}
	if (k->lockfd >= 0)
		close(k->lockfd);
	bytes_fini(&k->window.b);
	bytes_fini(&k->whole);
	free(k->items);
	free(k->writers);
	free(k);
	*kp = NULL;
}

/* ---- folding ---- */

static void
note_trouble(struct keeper *k, const struct kfile *f, enum err e)
{
	(void)k;
	log_errno(LOG_LVL_ERROR, "keeper", "segment %u cannot be folded on (%s)", f->number, err_text(e));
}

/* A segment that cannot be read now, or a record of which waits for another writer, does not hold up the others. */
static enum err
fold_files(struct keeper *k, bool *more, bool *waits)
{
	uint64_t start_tail = fold_tail(k->fold, NULL);
	struct kfile *f;
	enum err first = OK;

	RB_FOREACH (f, kfile_tree, &k->files) {
		uint64_t done = fold_tail(k->fold, NULL) - start_tail;
		enum err e;

		if (done >= TURN_BYTES) {
			*more = true;
			break;
		}
		if (f->bad || !f->learned || f->head.kind != SEGMENT_JOURNAL)
			continue;
		e = fold_segment(k->fold, f->number, TURN_BYTES - done);
		if (e == ERR_AGAIN && fold_waits(k->fold)) {
			*waits = true;
		} else if (e == ERR_AGAIN) {
			*more = true;
		} else if (e != OK) {
			note_trouble(k, f, e);
			first = first == OK ? e : first;
		}
		if (k->broken)
			return e;
	}
	if (fold_tail(k->fold, NULL) != start_tail)
		k->moved_at = k->now;
	return first;
}

/* ---- the dead ---- */

/* The message that a process died over gets its mark, named by the dead writer so that one death counts once. */
static enum err
convict(struct keeper *k, uint64_t writer)
{
	const struct keeper_hooks *h = k->conf.hooks;
	struct spool_edit edit = { .action = EDIT_FINGER, .at = clock_real() };
	struct index_row row;
	char peer[128], reason[64];
	msgid_t id = 0;
	enum err e;

	if (h->convicts == NULL || !h->convicts(k->conf.hooks_arg, writer, &id, peer, sizeof(peer)) || id == 0)
		return OK;
	e = fold_message(k->fold, id, &row);
	if (e != OK)
		return e == ERR_NOTFOUND ? OK : e;
	(void)snprintf(reason, sizeof(reason), "ended process %016" PRIx64, writer);
	edit.id_lo = edit.id_hi = id;
	edit.item = row.item;
	edit.place = row.place;
	edit.reason = slice_str(reason);
	if (edit.at <= row.edit)
		edit.at = row.edit + 1;
	e = keeper_write_edit(k, &edit);
	return e == OK ? fold_segment(k->fold, k->own.number, 0) : e;
}

static enum err
settle_dead(struct keeper *k)
{
	for (size_t i = 0; i < k->writers_n;) {
		uint64_t writer = k->writers[i].writer;
		enum err e = ERR_AGAIN;

		if (k->writers[i].dead && k->writers[i].scanned)
			e = fold_settle(k->fold, writer, clock_real());
		if (e == OK)
			e = convict(k, writer);
		if (e == ERR_AGAIN) {
			i++;
			continue;
		}
		if (e != OK)
			return e;
		keeper_forget_writer(k, writer);
		k->urgent = true;
	}
	return OK;
}

static bool
dead_unseen(const struct keeper *k)
{
	for (size_t i = 0; i < k->writers_n; i++)
		if (k->writers[i].dead && !k->writers[i].scanned)
			return true;
	return false;
}

static bool
dead_unsettled(const struct keeper *k)
{
	for (size_t i = 0; i < k->writers_n; i++)
		if (k->writers[i].dead)
			return true;
	return false;
}

/* ---- a turn's parts ---- */

static enum err
look_around(struct keeper *k, bool asked)
{
	enum err e = OK;

	for (size_t i = 0; i < k->writers_n; i++)
		(void)keeper_alive(k, k->writers[i].writer);
	if (asked || dead_unseen(k) || k->want_scan || k->now - k->scanned_at >= SCAN_EVERY)
		e = keeper_scan(k);
	return e == OK ? keeper_look(k) : e;
}

/* What one segment holds up is its own: the others are folded, the dead that left none such are settled. What a record
 * waits for has happened before that was written, and is seen by the next turn, which comes at once; only false bytes wait
 * longer, and the keeper sleeps meanwhile as it does without news. */
static enum err
fold_all(struct keeper *k, bool *more)
{
	bool waits = false;
	enum err e = fold_files(k, more, &waits), ranges, dead;

	if (k->broken)
		return e;
	*more = *more || (waits && !k->waited);
	k->waited = waits;
	ranges = fold_ranges(k->fold, RANGE_ROWS);
	if (ranges == ERR_AGAIN)
		*more = true;
	else if (e == OK)
		e = ranges;
	dead = settle_dead(k);
	if (e == OK)
		e = dead;
	if (e == OK && !*more && !waits && fold_rebuilding(k->fold) && !dead_unsettled(k)) {
		fault_point("rebuild.before_commit");
		fold_rebuilt(k->fold);
		k->urgent = true;
		log_info("keeper", "the index is whole");
	}
	return e;
}

static bool
expiry_due(struct keeper *k)
{
	struct index_txn *t = NULL;
	struct index_look first;
	size_t n;
	bool due = false;

	if (index_begin(k->index, &t) == OK)
		due = keeper_judge(k, index_expiry_page(t, NULL, &first, 1, &n)) == OK && first.at <= clock_real();
	index_end(&t);
	return due;
}

static enum err
sweep(struct keeper *k)
{
	if (k->swept_at != 0 && k->now - k->swept_at < SWEEP_EVERY)
		return OK;
	k->swept_at = k->now;
	if (expiry_due(k))
		k->urgent = true;
	return fold_sweep(k->fold, clock_real());
}

static bool
time_to_commit(struct keeper *k, bool hurry, bool asked, bool more)
{
	bool dirty = fold_dirty(k->fold);
	size_t in_map;

	if (!dirty)
		k->dirty_since = 0;
	else if (k->dirty_since == 0)
		k->dirty_since = k->now;
	if (fold_tail(k->fold, NULL) >= k->conf.commit_bytes)
		return true;
	if (dirty && (fold_rows(k->fold, &in_map) >= COMMIT_ROWS || in_map >= COMMIT_IN_MAP))
		return true;
	if (dirty && k->now - k->dirty_since >= k->conf.commit_after)
		return true;
	if (more)
		return false;
	return asked || k->urgent || (dirty && (hurry || k->now - k->moved_at >= STILL));
}

static enum err
tidy(struct keeper *k)
{
	struct index_segment s;
	struct kfile *f;

	k->untidy = k->reclaim && !fold_rebuilding(k->fold);
	if (k->untidy)
		return keeper_reclaim(k);
	RB_FOREACH (f, kfile_tree, &k->files) {
		if (!f->sure || f->toc || f->bad || f->head.writer == k->conf.writer)
			continue;
		if (!fold_segment_get(k->fold, f->number, &s) || s.state != SEG_SEALED || s.folded < f->limit)
			continue;
		k->untidy = true; /* one a turn */
		return keeper_toc(k, f);
	}
	return keeper_compact(k);
}

static void
tell_tail(struct keeper *k)
{
	struct kfile *f;
	struct index_segment s;
	int64_t messages;
	uint64_t bytes = fold_tail(k->fold, &messages);

	if (k->conf.hooks->tail == NULL)
		return;
	RB_FOREACH (f, kfile_tree, &k->files)
		if (!f->bad && f->mark > SEGMENT_HEAD && fold_segment_get(k->fold, f->number, &s) && f->mark > s.folded)
			bytes += f->mark - (s.folded < SEGMENT_HEAD ? SEGMENT_HEAD : s.folded);
	k->conf.hooks->tail(k->conf.hooks_arg, bytes, messages);
}

static usec_t
next_turn(struct keeper *k, bool more)
{
	usec_t next = k->now + (k->now - k->moved_at < USEC_PER_SEC ? LOOK_BUSY : LOOK_IDLE);

	if (more || dead_unseen(k) || k->urgent)
		return k->now;
	/* Tidying waits for the commit: until then another turn would find it no nearer. */
	if (!fold_dirty(k->fold) && (k->untidy || (k->reclaim && !fold_rebuilding(k->fold))))
		return k->now;
	return next;
}

static enum err
turn(struct keeper *k, bool hurry, bool asked, bool *more)
{
	enum err e = k->broken ? keeper_rebuild(k) : OK, folded;

	if (e == OK)
		e = look_around(k, asked);
	if (e != OK)
		return e;
	folded = fold_all(k, more);
	if (k->broken)
		return folded;
	e = sweep(k);
	if (e == OK && time_to_commit(k, hurry, asked, *more))
		e = keeper_commit(k);
	if (e == OK)
		e = folded; /* committed or not: what was folded is none the worse for it */
	if (e == OK && !*more && !fold_dirty(k->fold))
		e = tidy(k);
	return e == OK ? keeper_audit(k) : e;
}

enum err
keeper_turn(struct keeper *k, usec_t now_mono, bool hurry, usec_t *again)
{
	uint64_t serial = k->asked;
	bool asked = k->answered < serial, more = false;
	enum err e;

	k->now = now_mono;
	if (k->disk_at == 0 || k->now - k->disk_at >= DISK_EVERY) {
		k->disk_at = k->now;
		disk_tick(&k->disk);
	}
	e = turn(k, hurry, asked, &more);
	keeper_drop_snapshot(k);
	tell_tail(k);
	if (e == OK && !more && !dead_unseen(k))
		k->answered = serial;
	*again = e != OK ? now_mono + TRY_AGAIN : next_turn(k, more);
	return e;
}

enum err
keeper_settle(struct keeper *k, usec_t now_mono)
{
	uint64_t serial = keeper_ask(k);
	unsigned rebuilds =
		0; /* a map found damaged is built anew; one that is so again and again is the disk's doing */
	usec_t again;
	enum err e;

	do {
		e = keeper_turn(k, now_mono, true, &again);
		rebuilds += e != OK;
	} while ((e == OK && (!keeper_answered(k, serial) || again <= now_mono || fold_dirty(k->fold))) ||
		 (e != OK && k->broken && rebuilds < 3));
	return e;
}

/* ---- questions ---- */

uint64_t
keeper_ask(struct keeper *k)
{
	return ++k->asked;
}

bool
keeper_answered(const struct keeper *k, uint64_t serial)
{
	return k->answered >= serial;
}

bool
keeper_rebuilding(const struct keeper *k)
{
	return k->broken || fold_rebuilding(k->fold);
}

struct index *
keeper_index(struct keeper *k)
{
	return k->index;
}

void
keeper_counts(struct keeper *k, struct keeper_counts *out)
{
	struct kfile *f;

	*out = k->counts;
	out->doubts = fold_doubts(k->fold);
	out->segments = 0;
	RB_FOREACH (f, kfile_tree, &k->files)
		out->segments++;
}
