#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

enum { RECLAIM_MAX = 64 }; /* segments in one go */

/* ---- what segments say, gathered and saved ---- */

struct gather {
	struct ended_entry *list;
	size_t n, cap;
};

static void
gather_add(struct gather *g, struct ended_entry e)
{
	if (g->n == g->cap) {
		g->cap = g->cap == 0 ? 256 : g->cap * 2;
		g->list = mem_array(g->list, g->cap, sizeof(*g->list));
	}
	g->list[g->n++] = e;
}

static enum err
says_ended(void *arg, uint32_t seg, msgid_t id)
{
	gather_add(arg, (struct ended_entry){ .kind = ENDED_MESSAGE, .seg = seg, .id = id });
	return OK;
}

static enum err
says_resolved(void *arg, uint32_t seg, msgid_t id, uint32_t n)
{
	gather_add(arg, (struct ended_entry){ .kind = ENDED_ATTEMPTS, .seg = seg, .n = n, .id = id });
	return OK;
}

static enum err
says_ends(void *arg, uint32_t seg, uint32_t mark)
{
	gather_add(arg, (struct ended_entry){ .kind = ENDED_AT, .seg = seg, .n = mark });
	return OK;
}

static const struct fold_saying saying = { .ended = says_ended, .resolved = says_resolved, .ends = says_ends };

static int
by_segment(const void *pa, const void *pb)
{
	const struct ended_entry *a = pa, *b = pb;

	if (a->seg != b->seg)
		return a->seg < b->seg ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static enum err
write_gathered(struct keeper *k, struct gather *g)
{
	if (g->n > 0)
		qsort(g->list, g->n, sizeof(*g->list), by_segment);
	return ended_write(k, g->list, g->n);
}

static enum err
save(struct keeper *k, const uint32_t *numbers, size_t n)
{
	struct gather g = { 0 };
	enum err e = OK;

	fault_point("reclaim.before_ended");
	for (size_t i = 0; i < n && e == OK; i++)
		e = fold_says(k->fold, numbers[i], &saying, &g);
	if (e == OK)
		e = write_gathered(k, &g);
	fault_point("reclaim.after_ended");
	free(g.list);
	return e;
}

enum err
keeper_save_moved(struct keeper *k)
{
	struct gather g = { 0 };
	enum err e = fold_moved(k->fold, &saying, &g);

	if (e == OK)
		e = write_gathered(k, &g);
	free(g.list);
	return e;
}

/* ---- away with it ---- */

/* Where messages were moved away somebody may still be reading one. */
static bool
worth_keeping(struct keeper *k, struct kfile *f)
{
	struct index_segment s;
	struct stat st;

	if (fold_segment_get(k->fold, f->number, &s) && s.used)
		return false;
	return k->spares < k->conf.spares && f->head.kind == SEGMENT_JOURNAL && kfile_fd(k, f) >= 0 &&
	       fstat(f->fd, &st) == 0 && (uint64_t)st.st_size >= k->conf.segment_size;
}

static enum err
remove_file(struct keeper *k, struct kfile *f)
{
	char name[SEGMENT_NAME];

	fault_point("reclaim.before_unlink");
	if (worth_keeping(k, f) && segment_to_spare(k->dirfd, f->number) == OK) {
		k->spares++;
	} else {
		segment_name(SEGFILE_SEG, f->number, name);
		if (fault_fails("reclaim.unlink") || (unlinkat(k->dirfd, name, 0) != 0 && errno != ENOENT))
			return ERR_IO;
	}
	segment_name(SEGFILE_TOC, f->number, name);
	(void)unlinkat(k->dirfd, name, 0);
	kfile_free(k, f);
	fault_point("reclaim.after_unlink");
	return OK;
}

/* Rows that are over: files go, the directory confirms it, then the .ended, which a file that came back would need. */
static enum err
finish(struct keeper *k)
{
	struct index_segment s;
	char name[SEGMENT_NAME];
	bool any = false;
	enum err e = OK;

	for (uint32_t after = 0; e == OK && fold_segment_next(k->fold, after, &s); after = s.number) {
		struct kfile *f = s.state == SEG_OVER ? kfile_find(k, s.number) : NULL;

		any = any || s.state == SEG_OVER;
		if (f != NULL)
			e = remove_file(k, f);
	}
	if (e != OK || !any)
		return e;
	e = segment_dir_sync(k->dirfd);
	if (e != OK)
		return e;
	fault_point("reclaim.after_dirsync");
	for (uint32_t after = 0; fold_segment_next(k->fold, after, &s); after = s.number) {
		if (s.state != SEG_OVER)
			continue;
		segment_name(SEGFILE_ENDED, s.number, name);
		(void)unlinkat(k->dirfd, name, 0);
		fold_gone(k->fold, s.number);
	}
	return OK;
}

/* The highest number there is stays on the disk: where the map is lost the folder alone tells which number is the next,
 * and older segments speak of the places of one that has gone. Were its number given again, they would speak of another,
 * and wait for it. */
static size_t
choose(struct keeper *k, uint32_t numbers[RECLAIM_MAX])
{
	const struct kfile *newest = RB_MAX(kfile_tree, &k->files);
	struct index_segment s;
	size_t n = 0;

	for (uint32_t after = 0; n < RECLAIM_MAX && fold_segment_next(k->fold, after, &s); after = s.number)
		if (newest != NULL && s.number < newest->number && fold_reclaimable(k->fold, s.number))
			numbers[n++] = s.number;
	return n;
}

enum err
keeper_reclaim(struct keeper *k)
{
	uint32_t numbers[RECLAIM_MAX];
	size_t n;
	enum err e = finish(k);

	k->reclaim = false;
	if (e != OK || fold_dirty(k->fold) || !fold_copies_folded(k->fold))
		return e;
	n = choose(k, numbers);
	if (n == 0)
		return OK;
	e = save(k, numbers, n);
	if (e != OK)
		return e;
	for (size_t i = 0; i < n; i++)
		fold_over(k->fold, numbers[i]);
	e = keeper_commit(k);
	if (e != OK)
		return e;
	fault_point("reclaim.after_over");
	return finish(k);
}

/* ---- tables of contents for the dead ---- */

static enum err
toc_entries(struct keeper *k, struct kfile *f, struct bytes *entries)
{
	uint32_t off = SEGMENT_HEAD;

	while (off < f->limit) {
		struct record_head h;
		struct slice raw;
		enum err e = keeper_raw(k, f, off, f->limit, &h, &raw);

		if (e != OK)
			return e;
		if (h.type != RECORD_TOC)
			toc_add_record(entries, raw.p);
		off += (uint32_t)record_size(&h);
	}
	return OK;
}

enum err
keeper_toc(struct keeper *k, struct kfile *f)
{
	struct bytes entries = { 0 }, out = { 0 };
	char name[SEGMENT_NAME];
	enum err e = toc_entries(k, f, &entries);
	int fd;

	f->toc = true; /* also when it is damaged: then there is none, and the records are read */
	if (e == OK) {
		toc_encode(slice_bytes(&entries), (struct place){ f->number, 0 }, 0, fold_highest_id(k->fold), &out);
		segment_name(SEGFILE_TOC, f->number, name);
		fault_point("seal.before_toc");
		fd = fault_fails("toc.open")
			     ? -1
			     : openat(k->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
		e = fd < 0 ? ERR_IO : segment_write(fd, 0, out.p, out.n);
		if (e == OK && (fault_fails("toc.sync") || fdatasync(fd) != 0))
			e = ERR_IO;
		if (fd >= 0)
			close(fd);
	}
	bytes_fini(&entries);
	bytes_fini(&out);
	return e == ERR_IO || e == ERR_FULL ? e : OK;
}
