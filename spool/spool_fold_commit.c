#include <stdlib.h>

#include "spool/spool_fold_int.h"

/* ---- handing over ---- */

static enum err
put_rows(struct fold *f)
{
	struct frow *r;
	enum err e = OK;

	RB_FOREACH (r, frow_tree, &f->rows) {
		if (e != OK)
			break;
		if (r->changed && (r->was != NULL || r->now != NULL))
			e = f->w->put_row(f->arg, r->was, r->now);
	}
	return e;
}

static enum err
put_segments(struct fold *f)
{
	struct fseg *s;
	enum err e = OK;

	RB_FOREACH (s, fseg_tree, &f->segs) {
		if (e != OK)
			break;
		if (s->st.going)
			e = s->st.in_map ? f->w->del_segment(f->arg, s->s.number) : OK;
		else if (s->st.dirty && (s->file || s->st.in_map))
			e = f->w->put_segment(f->arg, &s->s);
	}
	return e;
}

static enum err
put_attempts(struct fold *f)
{
	struct fattempt *a;
	enum err e = OK;

	RB_FOREACH (a, fattempt_tree, &f->attempts) {
		if (e != OK)
			break;
		if (a->st.going)
			e = a->st.in_map ? f->w->del_attempt(f->arg, a->a.id, a->a.n) : OK;
		else if (a->st.dirty)
			e = f->w->put_attempt(f->arg, &a->a);
	}
	return e;
}

static enum err
put_edits(struct fold *f, struct fedit_tree *tree)
{
	struct fedit *x;
	enum err e = OK;

	RB_FOREACH (x, fedit_tree, tree) {
		if (e != OK)
			break;
		if (x->st.going)
			e = x->st.in_map ? f->w->del_edit(f->arg, &x->e) : OK;
		else if (x->st.dirty)
			e = f->w->put_edit(f->arg, &x->e);
	}
	return e;
}

static enum err
put_writers(struct fold *f)
{
	struct fwriter *w;
	enum err e = OK;

	RB_FOREACH (w, fwriter_tree, &f->writers) {
		if (e != OK)
			break;
		if (w->st.going)
			e = w->st.in_map ? f->w->del_writer(f->arg, w->w.writer) : OK;
		else if (w->st.dirty)
			e = f->w->put_writer(f->arg, &w->w);
	}
	return e;
}

static enum err
put_handovers(struct fold *f)
{
	struct fhand *h;
	enum err e = OK;

	RB_FOREACH (h, fhand_tree, &f->hands) {
		if (e != OK)
			break;
		if (h->st.going)
			e = h->st.in_map ? f->w->del_handover(f->arg, h->h.owner, h->h.writer) : OK;
		else if (h->st.dirty)
			e = f->w->put_handover(f->arg, &h->h);
	}
	return e;
}

static enum err
put_damages(struct fold *f)
{
	struct fdamage *d;
	enum err e = OK;

	STAILQ_FOREACH (d, &f->damages, link)
		if (e == OK)
			e = f->w->put_damage(f->arg, &d->d);
	return e;
}

enum err
fold_commit(struct fold *f, const struct index_meta *meta)
{
	struct index_meta m = f->meta;
	enum err e = f->clear ? f->w->clear(f->arg) : OK;

	if (e == OK)
		e = put_rows(f);
	if (e == OK)
		e = put_segments(f);
	if (e == OK)
		e = put_attempts(f);
	if (e == OK)
		e = put_edits(f, &f->edits);
	if (e == OK)
		e = put_edits(f, &f->ranges);
	if (e == OK)
		e = put_writers(f);
	if (e == OK)
		e = put_handovers(f);
	if (e == OK)
		e = put_damages(f);
	if (e == OK)
		e = f->w->put_ledger(f->arg, &f->ledger);
	if (e != OK)
		return e;
	m.keeper = meta->keeper;
	m.scanned_at = meta->scanned_at;
	m.commits = f->meta.commits + 1;
	if (meta->highest_seg > m.highest_seg)
		m.highest_seg = meta->highest_seg;
	if (meta->highest_id > m.highest_id)
		m.highest_id = meta->highest_id;
	return f->w->put_meta(f->arg, &m);
}

/* ---- and after ---- */

static void
settled(struct fstate *st)
{
	st->in_map = true;
	st->dirty = false;
}

static void
segments_committed(struct fold *f)
{
	struct fseg *s, *next;

	RB_FOREACH_SAFE (s, fseg_tree, &f->segs, next) {
		if (s->st.going) {
			RB_REMOVE(fseg_tree, &f->segs, s);
			free(s);
		} else if (s->file || s->st.in_map) {
			settled(&s->st);
		}
	}
}

static void
attempts_committed(struct fold *f)
{
	struct fattempt *a, *next;

	RB_FOREACH_SAFE (a, fattempt_tree, &f->attempts, next) {
		if (a->st.going)
			fattempt_free(f, a);
		else
			settled(&a->st);
	}
}

static void
ranges_committed(struct fold *f)
{
	struct fedit *e, *next;

	RB_FOREACH_SAFE (e, fedit_tree, &f->ranges, next) {
		settled(&e->st);
		if (!e->st.going)
			continue;
		RB_REMOVE(fedit_tree, &f->ranges, e);
		free(e->text);
		free(e);
	}
}

static void
writers_committed(struct fold *f)
{
	struct fwriter *w, *wnext;
	struct fhand *h, *hnext;

	RB_FOREACH_SAFE (w, fwriter_tree, &f->writers, wnext) {
		settled(&w->st);
		if (!w->st.going)
			continue;
		RB_REMOVE(fwriter_tree, &f->writers, w);
		free(w);
	}
	RB_FOREACH_SAFE (h, fhand_tree, &f->hands, hnext) {
		settled(&h->st);
		if (!h->st.going)
			continue;
		RB_REMOVE(fhand_tree, &f->hands, h);
		free(h->text);
		free(h);
	}
}

void
fold_committed(struct fold *f)
{
	struct fdamage *d;

	frows_free(f);
	fedits_free(&f->edits);
	segments_committed(f);
	attempts_committed(f);
	ranges_committed(f);
	writers_committed(f);
	while ((d = STAILQ_FIRST(&f->damages)) != NULL) {
		STAILQ_REMOVE_HEAD(&f->damages, link);
		free(d);
	}
	f->moved_n = 0;
	f->meta.commits++;
	f->base_high = f->meta.highest_id;
	f->clear = false;
	f->dirty = false;
	f->tail = 0;
	f->net = 0;
}

/* ---- questions ---- */

bool
fold_dirty(const struct fold *f)
{
	return f->dirty;
}

enum err
fold_message(struct fold *f, msgid_t id, struct index_row *out)
{
	struct frow *r;
	enum err e = frow_load(f, id, &r);

	if (e == OK && r == NULL)
		e = ERR_NOTFOUND;
	if (e == OK)
		*out = *r->now;
	return e;
}

uint64_t
fold_tail(const struct fold *f, int64_t *messages)
{
	if (messages != NULL)
		*messages = f->net;
	return f->tail;
}

size_t
fold_rows(const struct fold *f, size_t *in_map)
{
	*in_map = f->rows_in_map;
	return f->rows_n;
}

void
fold_ledger(const struct fold *f, struct index_ledger *out)
{
	*out = f->ledger;
}

msgid_t
fold_highest_id(const struct fold *f)
{
	return f->meta.highest_id;
}

size_t
fold_doubts(const struct fold *f)
{
	return f->doubts;
}
