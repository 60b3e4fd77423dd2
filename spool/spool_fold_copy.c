/* Rule 5: messages that a keeper has moved out of a segment that is mostly dead. */
#include "shm/base/mem.h"
#include "spool/spool_fold_int.h"

void
fmoved_add(struct fold *f, uint32_t seg, msgid_t id)
{
	if (f->moved_n == f->moved_cap) {
		f->moved_cap = f->moved_cap == 0 ? 64 : f->moved_cap * 2;
		f->moved = mem_array(f->moved, f->moved_cap, sizeof(*f->moved));
	}
	f->moved[f->moved_n++] = (struct fmoved){ .id = id, .seg = seg };
	f->dirty = true;
}

/* Someone may still be reading there: a file that messages were moved out of is unlinked, and never becomes a spare. */
static void
left_behind(struct fold *f, uint32_t number, msgid_t id)
{
	struct fseg *s = fseg_find(f, number);

	if (s == NULL || (!s->file && !s->st.in_map))
		return;
	s->s.used = true;
	fold_touch(f, &s->st);
	fmoved_add(f, number, id);
}

static void
move(struct fold *f, struct frow *r, struct place at, uint16_t item)
{
	left_behind(f, r->now->place.seg, r->id);
	fseg_add(f, r->now->place.seg, FSEG_MESSAGES, -1);
	fseg_add(f, at.seg, FSEG_MESSAGES, 1);
	r->now->place = at;
	r->now->item = item;
	frow_changed(f, r);
}

/* A rebuild meets the copy first: tries and due time are in it, edits come by their own records. */
static void
carry(struct fold *f, const struct spool_copy *c, const struct fold_item *it, struct place at, uint16_t item)
{
	struct frow *r = frow_new(f, it, at, item);

	r->now->tries = c->tries;
	r->now->due = c->due;
	frow_reason(r, c->reason);
	left_behind(f, c->from.seg, r->id);
}

/* Where no row stands at the place that it was taken from, the message is over, or stands elsewhere: then it must not
 * come back from this copy. */
void
fcopy_apply(struct fold *f, const struct spool_copy *c, const struct fold_item *it, struct place at, uint16_t item)
{
	struct frow key = { .id = c->id }, *r = RB_FIND(frow_tree, &f->rows, &key);
	uint32_t n = 0;

	if (c->id > f->meta.highest_id)
		f->meta.highest_id = c->id;
	fbody_used(f, it);
	if (r == NULL && f->meta.rebuilding && !(fended_find(f, c->id, at.seg, &n) && n == UINT32_MAX))
		carry(f, c, it, at, item);
	else if (r == NULL || r->now == NULL)
		fmoved_add(f, at.seg, c->id);
	else if (place_eq(r->now->place, c->from))
		move(f, r, at, item);
	else if (!place_eq(r->now->place, at))
		fmoved_add(f, at.seg, c->id);
}

bool
fold_copies_folded(struct fold *f)
{
	struct fseg *s;

	RB_FOREACH (s, fseg_tree, &f->segs)
		if (s->copies && fseg_foldable(s) && (s->s.state != SEG_OPEN || s->s.folded < s->s.mark))
			return false;
	return true;
}

enum err
fold_moved(struct fold *f, const struct fold_saying *saying, void *arg)
{
	enum err e = OK;

	for (size_t i = 0; i < f->moved_n && e == OK; i++)
		e = saying->ended(arg, f->moved[i].seg, f->moved[i].id);
	return e;
}
