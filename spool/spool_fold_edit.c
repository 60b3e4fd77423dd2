#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_fold_int.h"

/* ---- keeping ---- */

struct fedit *
fedit_new(struct fedit_tree *tree, const struct fold_edit *e)
{
	struct fedit *fe = mem_zalloc(sizeof(*fe)), *old;

	fe->e = *e;
	fe->text = slices_keep((struct slice *[]){ &fe->e.binding, &fe->e.domain, &fe->e.reason }, 3);
	old = RB_INSERT(fedit_tree, tree, fe);
	if (old == NULL)
		return fe;
	free(fe->text);
	free(fe);
	return old;
}

void
fedits_free(struct fedit_tree *tree)
{
	struct fedit *e;

	while ((e = RB_ROOT(tree)) != NULL) {
		RB_REMOVE(fedit_tree, tree, e);
		free(e->text);
		free(e);
	}
}

static struct fedit *
first_of(struct fold *f, msgid_t id)
{
	struct fedit key = { .e.id = id, .e.at = INT64_MIN };
	struct fedit *e = RB_NFIND(fedit_tree, &f->edits, &key);

	return e == NULL || e->e.id != id ? NULL : e;
}

static struct fedit *
next_of(struct fedit *e)
{
	struct fedit *next = RB_NEXT(fedit_tree, NULL, e);

	return next == NULL || next->e.id != e->e.id ? NULL : next;
}

static enum err
take_loaded(void *arg, const struct fold_edit *e)
{
	struct fold *f = arg;

	fedit_new(&f->edits, e)->st.in_map = true;
	return OK;
}

enum err
fedits_load(struct fold *f, msgid_t id)
{
	if (first_of(f, id) != NULL)
		return OK;
	return f->w->edits(f->arg, id, take_loaded, f);
}

static void
let_go(struct fold *f, struct fedit *e)
{
	if (e->st.going)
		return;
	e->st.going = true;
	fold_touch(f, &e->st);
	fseg_add(f, e->e.place.seg, FSEG_EDITS, -1);
}

void
fedits_drop(struct fold *f, msgid_t id)
{
	for (struct fedit *e = first_of(f, id); e != NULL; e = next_of(e))
		let_go(f, e);
}

/* ---- what an edit does to a row ---- */

static void
decide_doubt(struct fold *f, struct frow *r, enum attempt_state became)
{
	struct fattempt *a = fattempt_find(f, r->id, r->now->tries);

	if (a != NULL && a->a.state == ATTEMPT_DOUBT)
		fattempt_close(f, a, became);
}

static void
set_aside(struct frow *r, uint8_t aside, enum row_fate fate, struct slice reason)
{
	r->now->aside = aside;
	r->now->fate = (uint8_t)fate;
	frow_reason(r, reason);
}

/* The newest edit that counted decides. False: this one came too late and says nothing. */
static bool
edit_row(struct fold *f, struct frow *r, uint8_t action, usec_t at, struct slice reason)
{
	if (at <= r->now->edit)
		return false;
	r->now->edit = at;
	switch (action) {
	case EDIT_HOLD:
		set_aside(r, ROW_HELD, ROW_LIVES, reason);
		break;
	case EDIT_QUARANTINE:
		set_aside(r, ROW_QUARANTINED, ROW_LIVES, reason);
		break;
	case EDIT_FAIL:
		set_aside(r, 0, ROW_FAIL, reason);
		break;
	case EDIT_DROP:
		set_aside(r, 0, ROW_DROP, reason);
		break;
	default:
		set_aside(r, 0, ROW_LIVES, reason);
		r->now->due = 0;
		break;
	}
	decide_doubt(f, r, r->now->aside != 0 ? ATTEMPT_HELD : ATTEMPT_RETRIED);
	frow_restate(f, r);
	return true;
}

static void
retry_row(struct fold *f, struct frow *r)
{
	r->now->due = 0;
	decide_doubt(f, r, ATTEMPT_RETRIED);
	frow_restate(f, r);
}

/* ---- one message ---- */

static struct fold_edit
kept_form(const struct spool_edit *e, struct place at, bool range)
{
	return (struct fold_edit){ .id = range ? 0 : e->id_lo,
				   .at = e->at,
				   .place = at,
				   .action = e->action,
				   .lo = e->id_lo,
				   .hi = e->id_hi,
				   .binding = e->binding,
				   .domain = e->domain,
				   .reason = e->reason };
}

static void
keep(struct fold *f, struct frow *r, const struct spool_edit *e, struct place at)
{
	struct fold_edit k = kept_form(e, at, false);
	struct fedit *fe = fedit_new(&f->edits, &k);

	fe->st.going = false;
	fold_touch(f, &fe->st);
	fseg_add(f, at.seg, FSEG_EDITS, 1);
	r->now->edits++;
}

/* A newer state makes the older one superfluous: its segment need not stay for it. */
static void
drop_older(struct fold *f, struct frow *r)
{
	for (struct fedit *e = first_of(f, r->id); e != NULL; e = next_of(e)) {
		if (e->e.action == EDIT_FINGER || e->st.going)
			continue;
		let_go(f, e);
		r->now->edits--;
	}
}

static bool
known(struct fold *f, const struct spool_edit *e, struct place at)
{
	for (struct fedit *k = first_of(f, e->id_lo); k != NULL; k = next_of(k))
		if ((k->e.at == e->at && place_eq(k->e.place, at)) ||
		    (e->action == EDIT_FINGER && k->e.action == EDIT_FINGER && slice_eq(k->e.reason, e->reason)))
			return true;
	return false;
}

/* One death is chance, the second a conviction. The reason names the dead writer, so that one death counts once. */
static void
finger(struct fold *f, struct frow *r, const struct spool_edit *e, struct place at)
{
	keep(f, r, e, at);
	if (r->now->deaths < UINT8_MAX)
		r->now->deaths++;
	frow_changed(f, r);
	if (r->now->deaths >= 2)
		(void)edit_row(f, r, EDIT_QUARANTINE, e->at, e->reason);
}

static void
edit_message(struct fold *f, const struct spool_edit *e, struct place at)
{
	struct frow *r = frow_find(f, e->id_lo);

	if (r == NULL)
		return;
	if (e->action == EDIT_RETRY && r->now->aside == 0) {
		retry_row(f, r);
	} else if (known(f, e, at)) {
		return;
	} else if (e->action == EDIT_FINGER) {
		finger(f, r, e, at);
	} else if (e->at > r->now->edit) {
		drop_older(f, r);
		keep(f, r, e, at);
		(void)edit_row(f, r, e->action, e->at, e->reason);
	}
}

/* ---- ranges ---- */

static bool
covers(const struct fold_edit *e, const struct index_row *row)
{
	return row->id >= e->lo && row->id <= e->hi && (e->binding.n == 0 || slice_eq(e->binding, row->binding)) &&
	       (e->domain.n == 0 || slice_ieq(e->domain, row->domain));
}

static void
range_row(struct fold *f, const struct fold_edit *e, struct frow *r)
{
	if (!covers(e, r->now) || e->at <= r->now->edit)
		return;
	if (e->action == EDIT_RETRY && r->now->aside == 0) {
		r->now->edit = e->at;
		retry_row(f, r);
	} else if (e->action != EDIT_RETRY) {
		(void)edit_row(f, r, e->action, e->at, e->reason);
	}
}

void
franges_apply(struct fold *f, struct frow *r)
{
	struct fedit *e;

	RB_FOREACH (e, fedit_tree, &f->ranges)
		if (!e->st.going)
			range_row(f, &e->e, r);
}

static void
edit_range(struct fold *f, const struct spool_edit *e, struct place at)
{
	struct fold_edit k = kept_form(e, at, true);
	struct fedit key = { .e = k }, *fe = RB_FIND(fedit_tree, &f->ranges, &key);
	struct frow *r;

	if (fe != NULL)
		return;
	fe = fedit_new(&f->ranges, &k);
	fold_touch(f, &fe->st);
	fseg_add(f, at.seg, FSEG_EDITS, 1);
	RB_FOREACH (r, frow_tree, &f->rows)
		if (r->now != NULL)
			range_row(f, &fe->e, r);
}

void
fedit_apply(struct fold *f, const struct spool_edit *e, struct place at)
{
	if (e->id_lo != e->id_hi)
		edit_range(f, e, at);
	else if (e->id_lo != 0)
		edit_message(f, e, at);
}

/* Rows of the map are reached a portion at a time; whoever is touched before has it from frow_load. */
struct range_scan {
	struct fold_edit *e;
	size_t left;
	msgid_t *ids;
	size_t n;
};

static enum err
scan_row(void *arg, const struct index_row *row)
{
	struct range_scan *s = arg;

	if (s->left == 0)
		return ERR_FULL;
	s->left--;
	if (covers(s->e, row))
		s->ids[s->n++] = row->id;
	s->e->done = row->id;
	return OK;
}

static enum err
range_portion(struct fold *f, struct fedit *fe, size_t rows)
{
	struct range_scan s = { .e = &fe->e, .left = rows, .ids = mem_array(NULL, rows, sizeof(msgid_t)) };
	msgid_t before = fe->e.done;
	enum err e = f->w->rows(f->arg, fe->e.done + 1 > fe->e.lo ? fe->e.done + 1 : fe->e.lo, fe->e.hi, scan_row, &s);
	enum err bad = OK;

	for (size_t i = 0; i < s.n && bad == OK; i++) {
		struct frow *r;

		bad = frow_load(f, s.ids[i], &r);
	}
	free(s.ids);
	if (bad != OK)
		fe->e.done = before;
	else if (e == OK)
		fe->e.done = fe->e.hi;
	fold_touch(f, &fe->st);
	return bad != OK ? bad : e == ERR_FULL ? ERR_AGAIN : e;
}

enum err
fold_ranges(struct fold *f, size_t rows)
{
	struct fedit *e;

	RB_FOREACH (e, fedit_tree, &f->ranges) {
		enum err err;

		if (e->st.going || e->e.done >= e->e.hi || f->clear)
			continue;
		err = range_portion(f, e, rows);
		if (err != OK)
			return err;
	}
	return OK;
}
