#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_fold_int.h"

/* ---- rule 4 ---- */

static bool
all_folded(struct fold *f, uint64_t writer)
{
	struct fseg *s;

	RB_FOREACH (s, fseg_tree, &f->segs)
		if (s->s.writer == writer && s->s.kind == SEGMENT_JOURNAL && s->file && s->s.state != SEG_OVER &&
		    !s->complete)
			return false;
	return true;
}

/* The rows of what this writer had open; may fail, so it comes before any change. */
static enum err
load_rows(struct fold *f, uint64_t writer)
{
	struct fattempt *a;
	struct frow *r;

	RB_FOREACH (a, fattempt_tree, &f->attempts) {
		enum err e;

		if (a->a.writer != writer || a->a.state != ATTEMPT_OPEN || a->st.going)
			continue;
		e = frow_load(f, a->a.id, &r);
		if (e != OK)
			return e;
	}
	return OK;
}

static void
unpaired(struct fold *f, struct fattempt *a, usec_t now)
{
	struct frow *r = frow_find(f, a->a.id);

	fattempt_doubt(f, a, now);
	if (r == NULL) {
		fattempt_close(f, a, ATTEMPT_RETRIED);
		return;
	}
	if (a->a.at <= r->now->edit)
		fattempt_close(f, a, r->now->aside != 0 ? ATTEMPT_HELD : ATTEMPT_RETRIED);
	frow_restate(f, r);
}

enum err
fold_settle(struct fold *f, uint64_t writer, usec_t now)
{
	struct fwriter key = { .w.writer = writer }, *w = RB_FIND(fwriter_tree, &f->writers, &key);
	struct fattempt *a;
	enum err e;

	if (!all_folded(f, writer))
		return ERR_AGAIN;
	e = load_rows(f, writer);
	if (e != OK)
		return e;
	RB_FOREACH (a, fattempt_tree, &f->attempts)
		if (a->a.writer == writer && a->a.state == ATTEMPT_OPEN && !a->st.going)
			unpaired(f, a, now);
	if (w != NULL && w->w.gone)
		return OK;
	if (w == NULL) {
		w = mem_zalloc(sizeof(*w));
		w->w.writer = writer;
		RB_INSERT(fwriter_tree, &f->writers, w);
	}
	w->w.gone = true;
	w->w.when = now;
	w->st.going = false;
	fold_touch(f, &w->st);
	return OK;
}

/* ---- forgetting ---- */

static void
sweep_attempts(struct fold *f, usec_t now)
{
	struct fattempt *a;

	RB_FOREACH (a, fattempt_tree, &f->attempts) {
		if (a->a.state <= ATTEMPT_DOUBT || a->st.going || a->a.since + DAY > now)
			continue;
		a->st.going = true;
		fold_touch(f, &a->st);
	}
}

static bool
has_files(struct fold *f, uint64_t writer)
{
	struct fseg *s;

	RB_FOREACH (s, fseg_tree, &f->segs)
		if (s->s.writer == writer)
			return true;
	return false;
}

static void
sweep_handovers(struct fold *f, uint64_t owner)
{
	struct fhand *h;

	RB_FOREACH (h, fhand_tree, &f->hands) {
		if (h->h.owner != owner)
			continue;
		h->st.going = true;
		fold_touch(f, &h->st);
	}
}

static void
sweep_writers(struct fold *f, usec_t now)
{
	struct fwriter *w;

	RB_FOREACH (w, fwriter_tree, &f->writers) {
		if (!w->w.gone || w->st.going || w->w.when + DAY > now || has_files(f, w->w.writer))
			continue;
		w->st.going = true;
		fold_touch(f, &w->st);
		sweep_handovers(f, w->w.writer);
	}
}

static enum err
any_row(void *arg, const struct index_row *row)
{
	(void)arg;
	(void)row;
	return ERR_EXISTS;
}

/* A range stays while any message is left that it could have met: which ones it did is not worth counting. */
static enum err
sweep_range(struct fold *f, struct fedit *e)
{
	struct frow key = { .id = e->e.lo }, *r = RB_NFIND(frow_tree, &f->rows, &key);
	enum err err;

	for (; r != NULL && r->id <= e->e.hi; r = RB_NEXT(frow_tree, &f->rows, r))
		if (r->now != NULL)
			return OK;
	err = f->w->rows(f->arg, e->e.lo, e->e.hi, any_row, NULL);
	if (err != OK)
		return err == ERR_EXISTS ? OK : err;
	e->st.going = true;
	fold_touch(f, &e->st);
	fseg_add(f, e->e.place.seg, FSEG_EDITS, -1);
	return OK;
}

enum err
fold_sweep(struct fold *f, usec_t now)
{
	struct fedit *e;

	sweep_attempts(f, now);
	sweep_writers(f, now);
	RB_FOREACH (e, fedit_tree, &f->ranges) {
		enum err err;

		if (e->st.going || e->e.at + DAY > now || f->clear)
			continue;
		err = sweep_range(f, e);
		if (err != OK)
			return err;
	}
	return OK;
}
