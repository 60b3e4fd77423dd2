#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_fold_int.h"

/* ---- rule 5 ---- */

static bool
writer_gone(struct fold *f, uint64_t writer)
{
	struct fwriter key = { .w.writer = writer }, *w = RB_FIND(fwriter_tree, &f->writers, &key);

	return w != NULL && w->w.gone && !w->st.dirty && !w->st.going;
}

/* Nothing but messages keeps it. */
static bool
committed_whole(struct fold *f, const struct fseg *s)
{
	return s != NULL && s->file && s->st.in_map && !s->st.dirty && s->s.state != SEG_OVER && !f->meta.rebuilding &&
	       s->s.attempts == 0 && s->s.edits == 0 && s->s.damaged == 0;
}

bool
fold_reclaimable(struct fold *f, uint32_t number)
{
	struct fseg *s = fseg_find(f, number);

	if (!committed_whole(f, s) || s->s.messages > 0)
		return false;
	if (s->s.kind == SEGMENT_BODY)
		return s->s.used || writer_gone(f, s->s.writer);
	return s->complete;
}

bool
fold_movable(struct fold *f, uint32_t number)
{
	struct fseg *s = fseg_find(f, number);

	return committed_whole(f, s) && s->s.kind == SEGMENT_JOURNAL && s->complete && s->s.messages > 0;
}

static bool
stands(struct fold *f, uint32_t number, uint32_t self)
{
	struct fseg *s = number == 0 || number == self ? NULL : fseg_find(f, number);

	return s != NULL && (s->file || s->st.in_map);
}

/* Attempts that stand in the segment itself: their outcomes need not be saved, a rebuild will not meet them. */
struct own_attempts {
	struct fended *list;
	size_t n, cap;
};

static bool
own_find(const struct own_attempts *own, msgid_t id, uint32_t n)
{
	for (size_t i = own->n; i > 0; i--)
		if (own->list[i - 1].id == id && own->list[i - 1].n == n)
			return true;
	return false;
}

static void
own_add(struct own_attempts *own, msgid_t id, uint32_t n)
{
	if (own->n == own->cap) {
		own->cap = own->cap == 0 ? 64 : own->cap * 2;
		own->list = mem_array(own->list, own->cap, sizeof(*own->list));
	}
	own->list[own->n++] = (struct fended){ .id = id, .n = n };
}

struct says {
	struct fold *f;
	uint32_t number;
	const struct fold_saying *saying;
	void *arg;
	struct own_attempts own;
};

/* Of a message that was moved, what an outcome says is beside its new segment since it was folded (fold_moved). */
static enum err
outcome_says(struct says *s, const struct spool_outcome *o)
{
	struct frow *r;
	enum err e;

	if (outcome_is_final(o->kind))
		return stands(s->f, o->place.seg, s->number) ? s->saying->ended(s->arg, o->place.seg, o->id) : OK;
	if (o->kind != OUTCOME_DEFERRED || own_find(&s->own, o->id, o->n))
		return OK;
	e = frow_load(s->f, o->id, &r);
	if (e != OK || r == NULL || !stands(s->f, r->now->place.seg, s->number))
		return e;
	return s->saying->resolved(s->arg, r->now->place.seg, o->id, o->n);
}

static enum err
item_says(struct says *s, const struct spool_item *it)
{
	switch (it->kind) {
	case ITEM_ATTEMPT:
		own_add(&s->own, it->attempt.id, it->attempt.n);
		return OK;
	case ITEM_OUTCOME:
		return outcome_says(s, &it->outcome);
	case ITEM_END:
		return it->end.seg < s->number && stands(s->f, it->end.seg, s->number)
			       ? s->saying->ends(s->arg, it->end.seg, it->end.mark)
			       : OK;
	default:
		return OK;
	}
}

enum err
fold_says(struct fold *f, uint32_t number, const struct fold_saying *saying, void *arg)
{
	struct says s = { .f = f, .number = number, .saying = saying, .arg = arg };
	struct fseg *fs = fseg_find(f, number);
	struct fold_record rec;
	uint32_t off = 0;
	enum err e = OK;

	while (e == OK && fs->s.kind == SEGMENT_JOURNAL) {
		e = f->w->record(f->arg, number, off, fs->s.folded, &rec);
		for (uint32_t i = 0; e == OK && rec.items != NULL && i < rec.count; i++)
			e = item_says(&s, &rec.items[i].item);
		off = e == OK ? rec.next : off;
	}
	free(s.own.list);
	return e == ERR_EOF ? OK : e;
}

void
fold_over(struct fold *f, uint32_t number)
{
	struct fseg *s = fseg_find(f, number);

	s->s.state = SEG_OVER;
	fold_touch(f, &s->st);
}

void
fold_gone(struct fold *f, uint32_t number)
{
	struct fseg *s = fseg_find(f, number);

	if (s == NULL)
		return;
	s->file = false;
	s->st.going = true;
	fold_touch(f, &s->st);
}

/* ---- rule 7 ---- */

void
fold_rebuild(struct fold *f)
{
	fold_forget(f);
	f->ledger = (struct index_ledger){ 0 };
	f->meta.rebuilding = true;
	f->base_high = 0;
	f->clear = true;
	f->dirty = true;
}

bool
fold_rebuilding(const struct fold *f)
{
	return f->meta.rebuilding;
}

static int
fended_cmp(const void *pa, const void *pb)
{
	const struct fended *a = pa, *b = pb;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return a->n < b->n ? 1 : a->n > b->n ? -1 : 0;
}

/* The highest n of an id comes first. */
bool
fended_find(const struct fold *f, msgid_t id, uint32_t seg, uint32_t *n)
{
	size_t lo = 0, hi = f->ended_n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->ended[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < f->ended_n && f->ended[lo].id == id; lo++)
		if (f->ended[lo].seg == 0 || f->ended[lo].seg == seg) {
			*n = f->ended[lo].n;
			return true;
		}
	return false;
}

static void
ended_add(struct fold *f, msgid_t id, uint32_t n, uint32_t seg)
{
	if (f->ended_n == f->ended_cap) {
		f->ended_cap = f->ended_cap == 0 ? 1024 : f->ended_cap * 2;
		f->ended = mem_array(f->ended, f->ended_cap, sizeof(*f->ended));
	}
	f->ended[f->ended_n++] = (struct fended){ .id = id, .n = n, .seg = seg };
}

struct beside {
	struct fold *f;
	uint32_t seg;
};

static enum err
ended_beside(void *arg, msgid_t id, uint32_t n)
{
	struct beside *b = arg;

	ended_add(b->f, id, n, b->seg);
	return OK;
}

/* Whose segment has gone will not be met again, but as a copy. */
static bool
may_come_back(struct fold *f, uint32_t seg)
{
	return f->copies || stands(f, seg, 0);
}

static enum err
scan_segment(struct fold *f, const struct fseg *s)
{
	struct fold_record rec;
	struct beside b = { f, s->s.number };
	uint32_t limit = s->s.end, off = 0;
	enum err e = f->w->ended(f->arg, s->s.number, ended_beside, &b);

	if (e == OK && limit == UINT32_MAX)
		e = f->w->limit(f->arg, s->s.number, 0, &limit);
	while (e == OK) {
		e = f->w->record(f->arg, s->s.number, off, limit, &rec);
		for (uint32_t i = 0; e == OK && rec.items != NULL && i < rec.count; i++) {
			const struct spool_item *it = &rec.items[i].item;

			if (it->kind == ITEM_OUTCOME && outcome_is_final(it->outcome.kind) &&
			    may_come_back(f, it->outcome.place.seg))
				ended_add(f, it->outcome.id, UINT32_MAX, 0);
		}
		off = e == OK ? rec.next : off;
	}
	return e == ERR_EOF ? OK : e;
}

enum err
fold_rebuild_ended(struct fold *f)
{
	struct fseg *s;

	f->ended_n = 0;
	f->copies = false;
	RB_FOREACH (s, fseg_tree, &f->segs)
		f->copies = f->copies || s->copies;
	RB_FOREACH (s, fseg_tree, &f->segs) {
		enum err e;

		if (!s->file || s->s.kind != SEGMENT_JOURNAL)
			continue;
		/* Missing some does no harm: their messages get a row, and lose it again when the fold comes to them.
		 */
		e = scan_segment(f, s);
		if (e != OK && e != ERR_NOTFOUND && e != ERR_AGAIN)
			return e;
	}
	if (f->ended_n > 0)
		qsort(f->ended, f->ended_n, sizeof(*f->ended), fended_cmp);
	return OK;
}

void
fold_rebuilt(struct fold *f)
{
	f->meta.rebuilding = false;
	free(f->ended);
	f->ended = NULL;
	f->ended_n = f->ended_cap = 0;
	f->dirty = true;
}
