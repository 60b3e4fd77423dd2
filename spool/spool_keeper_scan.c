#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

/* An END names the few segments that failed in a row: its copy begins before this. */
enum { END_COPY_BEFORE = SEGMENT_HEAD + 1024 };

enum { OPEN_FILES_MAX = 64, FIRST_REACH = 4096 };

static int
kfile_cmp(struct kfile *a, struct kfile *b)
{
	return a->number < b->number ? -1 : a->number > b->number;
}

RB_GENERATE(kfile_tree, kfile, node, kfile_cmp)

/* ---- files ---- */

struct kfile *
kfile_find(struct keeper *k, uint32_t number)
{
	struct kfile key = { .number = number };

	return RB_FIND(kfile_tree, &k->files, &key);
}

void
kfile_close(struct keeper *k, struct kfile *f)
{
	if (f->fd < 0)
		return;
	close(f->fd);
	f->fd = -1;
	k->open_files--;
	if (k->window.seg == f->number)
		k->window.seg = 0;
}

void
kfile_free(struct keeper *k, struct kfile *f)
{
	kfile_close(k, f);
	RB_REMOVE(kfile_tree, &k->files, f);
	free(f);
}

static void
close_some(struct keeper *k)
{
	struct kfile *f;

	RB_FOREACH (f, kfile_tree, &k->files)
		if (k->open_files >= OPEN_FILES_MAX)
			kfile_close(k, f);
}

/* For writing too: a dead writer's tail is written anew before it is trusted. */
int
kfile_fd(struct keeper *k, struct kfile *f)
{
	char name[SEGMENT_NAME];

	if (f->fd >= 0)
		return f->fd;
	close_some(k);
	segment_name(SEGFILE_SEG, f->number, name);
	f->fd = fault_fails("keeper.open") ? -1 : openat(k->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (f->fd >= 0)
		k->open_files++;
	return f->fd;
}

/* ---- writers ---- */

static struct kwriter *
writer_find(struct keeper *k, uint64_t writer)
{
	for (size_t i = 0; i < k->writers_n; i++)
		if (k->writers[i].writer == writer)
			return &k->writers[i];
	return NULL;
}

static void
writer_note(struct keeper *k, uint64_t writer)
{
	if (writer_find(k, writer) != NULL)
		return;
	if (k->writers_n == k->writers_cap) {
		k->writers_cap = k->writers_cap == 0 ? 16 : k->writers_cap * 2;
		k->writers = mem_array(k->writers, k->writers_cap, sizeof(*k->writers));
	}
	k->writers[k->writers_n++] = (struct kwriter){ .writer = writer };
}

void
keeper_forget_writer(struct keeper *k, uint64_t writer)
{
	struct kwriter *w = writer_find(k, writer);

	if (w != NULL)
		*w = k->writers[--k->writers_n];
}

/* Who was dead before a scan began has no files that the scan did not see. */
bool
keeper_alive(struct keeper *k, uint64_t writer)
{
	struct kwriter *w;

	if (writer == k->conf.writer)
		return true;
	w = writer_find(k, writer);
	if (w != NULL && w->dead)
		return false;
	if (k->conf.hooks->alive(k->conf.hooks_arg, writer))
		return true;
	if (w != NULL)
		w->dead = true;
	return false;
}

/* ---- what is known of a file ---- */

/* The record that may say where others end: the first one, or, were it damaged, its copy right behind. */
static enum err
first_record(struct keeper *k, struct kfile *f, struct record_head *h, struct slice *raw)
{
	enum err e;

	k->window.reach = FIRST_REACH;
	e = keeper_raw(k, f, SEGMENT_HEAD, UINT32_MAX, h, raw);
	for (uint32_t off = SEGMENT_HEAD + RECORD_ALIGN;
	     (e == ERR_DAMAGED || e == ERR_NOTFOUND) && off < END_COPY_BEFORE; off += RECORD_ALIGN)
		e = keeper_raw(k, f, off, UINT32_MAX, h, raw);
	k->window.reach = 0;
	return e;
}

/* What the ENDs of this record say of segments before its own. */
static enum err
tell_ends(struct keeper *k, const struct record_head *h, struct slice raw, struct fold_file *file)
{
	struct item_reader r;
	struct spool_item it;
	enum err e = OK;

	item_reader_init(&r, h, slice_of(raw.p + RECORD_HEAD, raw.n - RECORD_HEAD));
	while (e == OK && item_next(&r, &it) == OK) {
		if (it.kind != ITEM_END || it.end.seg >= file->number)
			continue;
		file->end_of = it.end.seg;
		file->end_at = it.end.mark;
		e = fold_see(k->fold, file);
	}
	return e;
}

/* Heads first: a segment may begin with where others end, or hold what was moved. */
static enum err
tell_first(struct keeper *k, struct kfile *f, struct fold_file *file)
{
	struct record_head h;
	struct slice raw;
	enum err e, told;

	if (f->head.kind != SEGMENT_JOURNAL)
		return OK;
	e = first_record(k, f, &h, &raw);
	k->window.seg = 0; /* read beyond what is synced: not to be kept */
	f->copies = f->copies || (e == OK && h.type == RECORD_COPY);
	file->copies = f->copies;
	told = fold_see(k->fold, file);
	if (told != OK)
		return told;
	if (e == OK && h.type == RECORD_END)
		return tell_ends(k, &h, raw, file);
	return e == ERR_IO ? e : OK;
}

static enum err
own_end(void *arg, const struct ended_entry *e)
{
	struct fold_file *file = arg;

	if (e->kind == ENDED_AT) {
		file->end_of = e->seg;
		file->end_at = e->n;
	}
	return OK;
}

static struct fold_file
file_of(struct keeper *k, const struct kfile *f)
{
	return (struct fold_file){ .number = f->number,
				   .kind = (uint8_t)f->head.kind,
				   .slot = f->head.slot,
				   .writer = f->head.writer,
				   .keepers = f->head.writer == k->conf.writer,
				   .copies = f->copies,
				   .sealed = f->sealed,
				   .mark = f->mark };
}

static enum err
tell(struct keeper *k, struct kfile *f)
{
	struct fold_file file = file_of(k, f);
	enum err e = fold_see(k->fold, &file);

	f->told = f->sealed && e == OK;
	return e;
}

/* The first time: head, and what it or its .ended says of ends. */
static enum err
tell_new(struct keeper *k, struct kfile *f)
{
	struct fold_file file = file_of(k, f);
	enum err e = OK;

	if (f->ended)
		e = ended_read(k, f->number, own_end, &file);
	if (e == OK)
		e = fold_see(k->fold, &file);
	return e == OK ? tell_first(k, f, &file) : e;
}

/* Read through a window of its own: the fold may be asking, with a record in its hands that lies in the keeper's. */
static bool
any_record(struct keeper *k, struct kfile *f)
{
	struct kwindow kept = k->window;
	uint32_t first;
	enum err e;

	k->window = (struct kwindow){ .seg = 0 };
	e = keeper_resync(k, f, SEGMENT_HEAD, UINT32_MAX, &first);
	bytes_fini(&k->window.b);
	k->window = kept;
	return e == OK;
}

/* A journal whose head is damaged is not lost: each record names its segment, and the map knows the writer. One that is
 * not in the map gets a writer of its own, who is dead. Not while a living one may be writing to it: then it is looked
 * at by the next keeper. */
static bool
guess_head(struct keeper *k, struct kfile *f)
{
	const struct keeper_hooks *h = k->conf.hooks;
	struct index_segment s = { .kind = SEGMENT_JOURNAL, .writer = UINT64_MAX - f->number };
	uint32_t seg, mark;
	bool known = fold_segment_get(k->fold, f->number, &s);

	for (size_t i = 0; i < k->writers_n; i++)
		if (h->mark(k->conf.hooks_arg, k->writers[i].writer, &seg, &mark) && seg <= f->number)
			return false;
	if (!known && !any_record(k, f))
		return false;
	f->head = (struct segment_head){
		.number = f->number, .kind = (enum segment_kind)s.kind, .slot = s.slot, .writer = s.writer
	};
	return true;
}

/* A head has a checksum, a row of the map has none. A writer that never was is never gone, and all who come after him
 * would wait for that. */
static void
check_row(struct keeper *k, const struct kfile *f)
{
	struct index_segment s;

	if (!fold_segment_get(k->fold, f->number, &s) || (s.writer == f->head.writer && s.kind == f->head.kind))
		return;
	log_error("keeper", "damage: the index has another writer of segment %u than its head: it is built anew",
		  f->number);
	k->broken = true;
}

static enum err
load_head(struct keeper *k, struct kfile *f)
{
	int fd = kfile_fd(k, f);
	enum err e = fd >= 0 ? segment_head_load(fd, f->number, &f->head) : errno == ENOENT ? ERR_NOTFOUND : ERR_IO;

	if (e == ERR_NOTFOUND || e == ERR_IO)
		return e;
	if (e == ERR_DAMAGED && guess_head(k, f)) {
		log_error("keeper",
			  "damage: segment %u has no head that can be read; its records are used all the same",
			  f->number);
		e = OK;
	}
	if (e != OK) {
		f->bad = true;
		kfile_close(k, f);
		log_error("keeper", "segment %u has no head that can be read (%s): left as it is", f->number,
			  err_text(e));
		return OK;
	}
	check_row(k, f);
	f->sealed = f->head.seal.sealed;
	return OK;
}

/* Dead, and a scan has seen all it ever made: so what it said of its ends is known. */
static bool
all_seen(struct keeper *k, uint64_t writer)
{
	const struct kwriter *w = writer_find(k, writer);

	return w == NULL || w->scanned;
}

/* Its writer has gone on. The files that follow may have been seen when they were still empty: their first records,
 * which may say where this one ends, are read again by the next scan. */
static void
left_behind(struct keeper *k, struct kfile *f)
{
	struct kfile *g;

	f->left = true;
	f->left_round = k->round;
	k->want_scan = true;
	for (g = RB_NEXT(kfile_tree, &k->files, f); g != NULL; g = RB_NEXT(kfile_tree, &k->files, g))
		if (g->head.writer == f->head.writer && !g->bad)
			g->learned = false;
}

/* Its writer is gone, and what it wrote last may have been the seal: then that says where its records end, as it does for
 * the next keeper. Without one, or one that cannot be read, its tail is made sure of. */
static void
last_seal(struct keeper *k, struct kfile *f)
{
	struct segment_head h;

	if (kfile_fd(k, f) >= 0 && segment_head_load(f->fd, f->number, &h) == OK)
		f->head.seal = h.seal;
}

/* Marks, seals and deaths since the last look. */
static void
refresh(struct keeper *k, struct kfile *f)
{
	const struct keeper_hooks *h = k->conf.hooks;
	uint32_t seg = 0, mark = 0;

	if (f->head.writer == k->conf.writer) {
		if (f->number == k->own.number || f->number == k->copy.number)
			f->mark = f->number == k->own.number ? k->own_off : k->copy_off;
		f->sealed = f->number != k->own.number && f->number != k->copy.number;
		f->sure = f->sealed;
		f->limit = f->mark;
		return;
	}
	if (!keeper_alive(k, f->head.writer)) {
		if (f->sealed || !all_seen(k, f->head.writer))
			return;
		last_seal(k, f);
		f->sealed = true;
		return;
	}
	if (f->head.kind != SEGMENT_JOURNAL || !h->mark(k->conf.hooks_arg, f->head.writer, &seg, &mark))
		return;
	if (seg == f->number && mark > f->mark)
		f->mark = mark;
	if (seg <= f->number || f->head.seal.sealed)
		return;
	if (!f->left)
		left_behind(k, f);
	if (kfile_fd(k, f) >= 0 && segment_head_load(f->fd, f->number, &f->head) == OK)
		f->sealed = f->head.seal.sealed;
}

enum err
keeper_look(struct keeper *k)
{
	struct kfile *f;
	enum err e;

	RB_FOREACH (f, kfile_tree, &k->files) {
		if (f->bad || f->told)
			continue;
		refresh(k, f);
		e = tell(k, f);
		if (e != OK)
			return e;
	}
	return OK;
}

/* ---- the folder ---- */

static struct kfile *
kfile_want(struct keeper *k, uint32_t number)
{
	struct kfile *f = kfile_find(k, number);

	if (f != NULL)
		return f;
	f = mem_zalloc(sizeof(*f));
	f->number = number;
	f->fd = -1;
	RB_INSERT(kfile_tree, &k->files, f);
	return f;
}

static enum err
learn(struct keeper *k, struct kfile *f)
{
	enum err e = f->head.number == 0 ? load_head(k, f) : OK;

	if (e == OK && !f->bad) {
		writer_note(k, f->head.writer); /* also for a rebuild, which settles the dead anew */
		refresh(k, f);
		e = tell_new(k, f);
	}
	f->learned = e == OK;
	return e;
}

static enum err
note_entry(void *arg, enum segment_file what, uint32_t number, const char *name)
{
	struct keeper *k = arg;

	(void)name;
	switch (what) {
	case SEGFILE_SEG:
		kfile_want(k, number)->round = k->round;
		break;
	case SEGFILE_TOC:
		kfile_want(k, number)->toc = true;
		break;
	case SEGFILE_ENDED:
		kfile_want(k, number)->ended = true;
		break;
	case SEGFILE_SPARE:
		k->spares++;
		break;
	default:
		break;
	}
	return OK;
}

/* A body that its writer gave up, or a journal to which nothing was ever written, is no news; anything else should not
 * have vanished. Its row goes all the same: there is nothing left to fold or to give back. */
static void
vanished(struct keeper *k, struct kfile *f)
{
	struct index_segment s;

	if (f->head.number != 0 && fold_segment_get(k->fold, f->number, &s) && s.state != SEG_OVER) {
		if (s.messages > 0 || (s.kind == SEGMENT_JOURNAL && s.folded > SEGMENT_HEAD))
			log_error("keeper", "segment %u has vanished with %u messages", f->number, s.messages);
		if (s.messages == 0 && s.attempts == 0 && s.edits == 0)
			fold_gone(k->fold, f->number);
	}
	kfile_free(k, f);
}

/* What stands beside a segment that is gone. */
static void
drop_beside(struct keeper *k, uint32_t number)
{
	struct index_segment s;
	char name[SEGMENT_NAME];

	if (fold_segment_get(k->fold, number, &s))
		return; /* the directory has not confirmed it yet */
	segment_name(SEGFILE_TOC, number, name);
	(void)unlinkat(k->dirfd, name, 0);
	segment_name(SEGFILE_ENDED, number, name);
	(void)unlinkat(k->dirfd, name, 0);
}

static enum err
after_scan(struct keeper *k)
{
	struct kfile *f, *next;
	enum err e;

	RB_FOREACH_SAFE (f, kfile_tree, &k->files, next) {
		bool beside = f->toc || f->ended;
		uint32_t number = f->number;

		if (f->round != k->round) {
			vanished(k, f);
			if (beside)
				drop_beside(k, number);
			continue;
		}
		if (f->learned)
			continue;
		e = learn(k, f);
		if (e == ERR_NOTFOUND)
			kfile_free(k, f);
		else if (e != OK)
			return e;
	}
	return OK;
}

enum err
keeper_scan(struct keeper *k)
{
	usec_t began = clock_mono();
	enum err e;

	for (size_t i = 0; i < k->writers_n; i++) {
		(void)keeper_alive(k, k->writers[i].writer);
		k->writers[i].scanned = k->writers[i].dead;
	}
	k->want_scan = false;
	k->round++;
	k->spares = 0;
	e = segment_list(k->dirfd, note_entry, k);
	if (e == OK)
		e = after_scan(k);
	if (e == OK)
		k->scanned_at = began;
	return e;
}

enum err
keeper_find(void *arg, uint32_t seg, struct fold_file *out)
{
	struct keeper *k = arg;
	struct kfile *f = kfile_find(k, seg);
	enum err e = OK;

	if (f == NULL) {
		f = kfile_want(k, seg);
		f->round = k->round;
		e = load_head(k, f);
		if (e != OK)
			kfile_free(k, f);
	} else if (f->head.number == 0 && !f->bad) {
		e = load_head(k, f); /* only what stands beside it was seen, or its head could not be read then */
	}
	if (e != OK)
		return e;
	if (f->bad)
		return ERR_NOTFOUND;
	if (!f->learned)
		writer_note(k, f->head.writer);
	refresh(k, f);
	*out = file_of(k, f);
	return OK;
}
