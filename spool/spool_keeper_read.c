#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

enum { WINDOW = 256 << 10 };

void
keeper_busy(struct keeper *k)
{
	if (k->conf.hooks->busy != NULL)
		k->conf.hooks->busy(k->conf.hooks_arg);
}

/* ---- bytes ---- */

/* n bytes at off; more are read along, but none from `limit` on: what is not synced may still change. ERR_NOTFOUND: the
 * file ends before. */
static enum err
window_get(struct keeper *k, struct kfile *f, uint64_t off, size_t n, uint64_t limit, struct slice *out)
{
	struct kwindow *w = &k->window;
	size_t reach = w->reach != 0 ? w->reach : WINDOW, want = n > reach ? n : reach, got;
	enum err e;

	if (w->seg == f->number && off >= w->off && off + n <= w->off + w->b.n) {
		*out = slice_of(w->b.p + (off - w->off), n);
		return OK;
	}
	if (off + n > limit)
		return ERR_NOTFOUND;
	if (off + want > limit)
		want = (size_t)(limit - off);
	w->seg = 0;
	w->b.n = 0;
	if (kfile_fd(k, f) < 0)
		return errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
	keeper_busy(k);
	e = segment_read(f->fd, off, bytes_room(&w->b, want), want, &got);
	if (e != OK)
		return e;
	w->seg = f->number;
	w->off = off;
	w->b.n = got;
	if (got < n)
		return ERR_NOTFOUND;
	*out = slice_of(w->b.p, n);
	return OK;
}

enum err
keeper_raw(struct keeper *k, struct kfile *f, uint32_t off, uint32_t limit, struct record_head *h,
	   struct slice *head_and_meta)
{
	struct slice raw;
	enum err e = window_get(k, f, off, RECORD_HEAD, limit, &raw);

	if (e == OK)
		e = record_head_read(raw, (struct place){ f->number, off }, h);
	if (e == OK)
		e = window_get(k, f, off, RECORD_HEAD + (size_t)h->meta_len, limit, &raw);
	if (e == OK)
		e = record_meta_check(h, slice_of(raw.p + RECORD_HEAD, h->meta_len));
	if (e == OK)
		*head_and_meta = raw;
	return e;
}

static bool
bad_bytes(enum err e)
{
	return e == ERR_NOTFOUND || e == ERR_DAMAGED || e == ERR_RANGE || e == ERR_SYNTAX;
}

enum err
keeper_resync(struct keeper *k, struct kfile *f, uint32_t off, uint32_t limit, uint32_t *found)
{
	struct record_head h;
	struct slice raw;

	for (; off < limit && limit - off >= RECORD_HEAD; off += RECORD_ALIGN) {
		enum err e = window_get(k, f, off, RECORD_HEAD, limit, &raw);

		if (e != OK)
			return e;
		off += (uint32_t)record_skip(slice_of(raw.p, (size_t)(k->window.off + k->window.b.n - off)));
		e = window_get(k, f, off, RECORD_HEAD, limit, &raw);
		if (e != OK)
			return e;
		if (record_head_read(raw, (struct place){ f->number, off }, &h) != OK)
			continue;
		e = keeper_raw(k, f, off, limit, &h, &raw);
		if (e == OK)
			*found = off;
		if (e == OK || !bad_bytes(e))
			return e;
	}
	return ERR_NOTFOUND;
}

/* ---- one record for the fold ---- */

static enum err
body_of(struct keeper *k, struct kfile *f, const struct record_head *h, uint32_t limit, uint16_t blob, uint32_t *seg)
{
	uint64_t at = h->at.off + (uint64_t)RECORD_HEAD + h->meta_len;
	struct blob_ref ref;
	struct slice table;
	uint32_t count;
	enum err e = window_get(k, f, at, 4, limit, &table);

	if (e == OK)
		e = blob_table_count(h, table, &count);
	if (e == OK)
		e = window_get(k, f, at, (size_t)blob_table_size(count), limit, &table);
	if (e == OK)
		e = blob_table_get(h, table, blob, &ref);
	if (e == OK)
		*seg = ref.where == BLOB_BODY ? ref.seg : 0;
	return e;
}

/* Bodies are looked up before the items are decoded: both borrow from the window. */
static enum err
read_bodies(struct keeper *k, struct kfile *f, const struct record_head *h, struct slice raw, uint32_t limit)
{
	struct item_reader r;
	uint16_t last_blob = BLOB_NONE;
	uint32_t last_seg = 0;
	struct bytes meta = { 0 };
	enum err e = OK;

	bytes_add(&meta, raw.p + RECORD_HEAD, h->meta_len);
	item_reader_init(&r, h, slice_bytes(&meta));
	for (uint32_t i = 0; i < h->items && e == OK; i++) {
		struct spool_item it;

		k->items[i].body_seg = 0;
		e = item_next(&r, &it);
		if (e != OK || it.kind != ITEM_MESSAGE || it.message.size <= BLOB_INLINE_MAX ||
		    it.message.body_blob == BLOB_NONE)
			continue;
		if (it.message.body_blob != last_blob)
			e = body_of(k, f, h, limit, it.message.body_blob, &last_seg);
		last_blob = it.message.body_blob;
		k->items[i].body_seg = last_seg;
	}
	bytes_fini(&meta);
	return e;
}

static enum err
read_items(struct keeper *k, const struct record_head *h, struct slice raw)
{
	struct item_reader r;
	enum err e = OK;

	item_reader_init(&r, h, slice_of(raw.p + RECORD_HEAD, h->meta_len));
	for (uint32_t i = 0; i < h->items && e == OK; i++)
		e = item_next(&r, &k->items[i].item);
	return e;
}

/* Only a record with messages can be long enough to have a body of its own. */
static bool
may_have_bodies(const struct record_head *h)
{
	return h->blob_len > 0;
}

static enum err
decode(struct keeper *k, struct kfile *f, uint32_t off, uint32_t limit, struct record_head *h)
{
	struct slice raw;
	enum err e = keeper_raw(k, f, off, limit, h, &raw);

	if (e != OK || h->type == RECORD_TOC)
		return e;
	if (h->items > k->items_cap) {
		k->items_cap = h->items;
		k->items = mem_array(k->items, k->items_cap, sizeof(*k->items));
	}
	for (uint32_t i = 0; i < h->items; i++)
		k->items[i].body_seg = 0;
	if (may_have_bodies(h))
		e = read_bodies(k, f, h, raw, limit);
	if (e == OK)
		e = keeper_raw(k, f, off, limit, h, &raw);
	return e == OK ? read_items(k, h, raw) : e;
}

/* Damage: passed over up to the next good record, or to the limit. */
static enum err
lost(struct keeper *k, struct kfile *f, uint32_t off, uint32_t limit, uint32_t recipients, struct fold_record *out)
{
	uint32_t next = limit;
	enum err e = keeper_resync(k, f, off + RECORD_ALIGN, limit, &next);

	if (e != OK && e != ERR_NOTFOUND)
		return e;
	*out = (struct fold_record){ .off = off, .next = next, .count = recipients, .lost = true };
	return OK;
}

enum err
keeper_record(void *arg, uint32_t seg, uint32_t off, uint32_t limit, struct fold_record *out)
{
	struct keeper *k = arg;
	struct kfile *f = kfile_find(k, seg);
	struct record_head h = { .type = 0 };
	uint64_t next;
	enum err e;

	if (f == NULL || f->bad)
		return ERR_NOTFOUND;
	if (off < SEGMENT_HEAD)
		off = SEGMENT_HEAD;
	if (off >= limit)
		return ERR_EOF;
	e = decode(k, f, off, limit, &h);
	if (bad_bytes(e))
		return lost(k, f, off, limit, h.type == RECORD_MESSAGE ? h.items : 0, out);
	if (e != OK)
		return e;
	next = off + record_size(&h);
	k->counts.records++;
	k->urgent = k->urgent || h.type == RECORD_HANDOVER; /* a partition's next owner waits for it */
	*out = (struct fold_record){ .off = off,
				     .next = next > limit ? limit : (uint32_t)next,
				     .mark = h.mark,
				     .id_high = h.id_high,
				     .items = k->items,
				     .count = h.type == RECORD_TOC ? 0 : h.items };
	return OK;
}

/* ---- how far a dead writer's segment may be trusted ---- */

struct walk {
	uint32_t mark; /* the highest that was seen */
	uint32_t end;  /* of the last whole record */
	uint32_t torn; /* a bad place that no mark covers yet; 0: none */
};

static void
walk_good(struct walk *w, const struct record_head *h, uint32_t off)
{
	if (h->mark > w->mark)
		w->mark = h->mark;
	if (w->torn != 0 && w->mark > w->torn)
		w->torn = 0; /* it was synced once: damage, and what follows counts */
	if (w->torn == 0)
		w->end = off + (uint32_t)record_size(h);
}

/* Every good record from off on, also behind bad ones: only a later mark tells damage from a torn write. */
static enum err
walk_segment(struct keeper *k, struct kfile *f, uint32_t off, struct walk *w)
{
	struct record_head h;
	struct slice raw;
	enum err e;

	w->end = off;
	for (;;) {
		e = keeper_raw(k, f, off, UINT32_MAX, &h, &raw);
		if (e == OK) {
			walk_good(w, &h, off);
			off += (uint32_t)record_size(&h);
			continue;
		}
		if (!bad_bytes(e))
			return e;
		if (w->torn == 0 && off >= w->mark)
			w->torn = off;
		e = keeper_resync(k, f, off + RECORD_ALIGN, UINT32_MAX, &off);
		if (e == ERR_NOTFOUND)
			break;
		if (e != OK)
			return e;
	}
	if (w->mark > w->end)
		w->end = w->mark;
	return OK;
}

/* Above the last mark blobs may be torn as well. *end: where the first bad one begins. */
static enum err
check_tail(struct keeper *k, struct kfile *f, uint32_t off, uint32_t *end)
{
	struct record_head h;
	struct slice raw;

	while (off < *end) {
		size_t n, got;
		enum err e = keeper_raw(k, f, off, UINT32_MAX, &h, &raw);

		if (e != OK && !bad_bytes(e))
			return e;
		n = e == OK ? (size_t)record_size(&h) : 0;
		if (e == OK) {
			k->whole.n = 0;
			e = segment_read(f->fd, off, bytes_room(&k->whole, n), n, &got);
			if (e != OK)
				return e;
			e = got < n ? ERR_DAMAGED
				    : record_check(slice_of(k->whole.p, n), (struct place){ f->number, off }, &h);
		}
		if (e != OK) {
			*end = off;
			return OK;
		}
		off += (uint32_t)n;
	}
	return OK;
}

/* A sync that failed may have left pages that look written and are not: the bytes are written anew, so that the sync
 * that follows speaks of them. In place: the same bytes again, nobody else writes here any more. */
static enum err
write_anew(struct keeper *k, struct kfile *f, uint32_t from, uint32_t to)
{
	int wrong;

	while (from < to) {
		size_t n = to - from < (1 << 20) ? to - from : 1 << 20, got;
		enum err e;

		k->whole.n = 0;
		e = segment_read(f->fd, from, bytes_room(&k->whole, n), n, &got);
		if (e == OK && got < n)
			e = ERR_DAMAGED;
		if (e == OK)
			e = segment_write(f->fd, from, k->whole.p, n);
		if (e != OK)
			return e;
		from += (uint32_t)n;
	}
	fault_point("keeper.before_sync");
	wrong = fault_error("keeper.sync");
	if (wrong != 0)
		errno = wrong;
	return wrong != 0 || fdatasync(f->fd) != 0 ? ERR_IO : OK;
}

static enum err
make_sure(struct keeper *k, struct kfile *f, uint32_t from)
{
	struct walk w = { .mark = f->mark };
	struct index_segment s;
	uint32_t tail;
	enum err e;

	if (fold_segment_get(k->fold, f->number, &s) && s.mark > w.mark)
		w.mark = s.mark;
	if (from < SEGMENT_HEAD)
		from = SEGMENT_HEAD;
	e = walk_segment(k, f, from, &w);
	if (e != OK)
		return e;
	tail = w.mark > from ? w.mark : from;
	e = check_tail(k, f, tail, &w.end);
	if (e == OK)
		e = write_anew(k, f, tail, w.end);
	if (e != OK) {
		log_errno(LOG_LVL_ERROR, "keeper", "segment %u: its tail from %u on cannot be made sure of", f->number,
			  tail);
		return e;
	}
	k->window.seg = 0;
	f->mark = f->limit = w.end;
	f->sure = true;
	return OK;
}

/* Full, and its seal is on its way: its records end with the last whole one. The seal's own record may be half there.
 */
static enum err
walk_left(struct keeper *k, struct kfile *f, uint32_t from, uint32_t *limit)
{
	struct walk w = { .mark = f->mark };
	enum err e;

	if (f->left_round == k->round) {
		k->want_scan = true;
		return ERR_AGAIN;
	}
	e = walk_segment(k, f, from < SEGMENT_HEAD ? SEGMENT_HEAD : from, &w);
	k->window.seg = 0;
	if (e == OK)
		*limit = f->mark = w.end;
	return e;
}

/* A living writer's: its mark. One that has just died is looked for anew by the next scan. */
static enum err
limit_open(struct keeper *k, struct kfile *f, uint32_t from, uint32_t *limit)
{
	struct fold_file now;
	enum err e = keeper_find(k, f->number, &now);

	if (e != OK)
		return e;
	if (f->sealed)
		return keeper_limit(k, f->number, from, limit);
	if (!keeper_alive(k, f->head.writer)) {
		k->want_scan = true;
		return ERR_AGAIN;
	}
	if (f->left)
		return walk_left(k, f, from, limit);
	*limit = f->mark;
	return OK;
}

enum err
keeper_limit(void *arg, uint32_t seg, uint32_t from, uint32_t *limit)
{
	struct keeper *k = arg;
	struct kfile *f = kfile_find(k, seg);
	enum err e = OK;

	if (f == NULL || f->bad)
		return ERR_NOTFOUND;
	if (!f->sealed)
		return limit_open(k, f, from, limit);
	if (kfile_fd(k, f) < 0)
		return errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
	if (!f->head.seal.sealed && !f->sure)
		e = make_sure(k, f, from);
	if (e != OK)
		return e;
	*limit = f->sure ? f->limit : f->head.seal.end;
	return OK;
}
