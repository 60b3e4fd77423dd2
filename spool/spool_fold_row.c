#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_fold_int.h"

/* ---- rows ---- */

struct frow *
frow_find(struct fold *f, msgid_t id)
{
	struct frow key = { .id = id }, *r = RB_FIND(frow_tree, &f->rows, &key);

	return r == NULL || r->now == NULL ? NULL : r;
}

enum err
frow_load(struct fold *f, msgid_t id, struct frow **out)
{
	struct frow key = { .id = id }, *r = RB_FIND(frow_tree, &f->rows, &key);
	struct index_row row;
	enum err e;

	*out = r == NULL || r->now == NULL ? NULL : r;
	if (r != NULL || id > f->base_high || f->clear)
		return OK;
	e = f->w->row(f->arg, id, &row);
	if (e != OK)
		return e == ERR_NOTFOUND ? OK : e;
	r = mem_zalloc(sizeof(*r));
	r->id = id;
	r->was = index_row_dup(&row);
	r->now = index_row_dup(&row);
	RB_INSERT(frow_tree, &f->rows, r);
	f->rows_n++;
	f->rows_in_map++;
	franges_apply(f, r);
	*out = r;
	return OK;
}

void
frow_changed(struct fold *f, struct frow *r)
{
	r->changed = true;
	f->dirty = true;
}

void
frow_reason(struct frow *r, struct slice reason)
{
	struct index_row tmp = *r->now, *old = r->now;

	if (slice_eq(tmp.reason, reason))
		return;
	tmp.reason = reason;
	r->now = index_row_dup(&tmp);
	free(old);
}

void
frow_said(struct frow *r, const struct spool_outcome *o)
{
	struct index_row tmp = *r->now, *old = r->now;

	tmp.said_at = o == NULL ? 0 : o->at;
	tmp.stage = o == NULL ? 0 : o->stage;
	tmp.remote = o == NULL ? SLICE("") : o->remote;
	if (tmp.said_at == old->said_at && tmp.stage == old->stage && slice_eq(tmp.remote, old->remote))
		return;
	r->now = index_row_dup(&tmp);
	free(old);
}

void
frow_restate(struct fold *f, struct frow *r)
{
	struct fattempt *a = fattempt_find(f, r->id, r->now->tries);
	bool open = a != NULL && a->a.state <= ATTEMPT_DOUBT;

	r->now->writer = open ? a->a.writer : 0;
	if (open)
		r->now->state = a->a.state == ATTEMPT_OPEN ? ROW_WORK : ROW_DOUBT;
	else
		r->now->state = r->now->aside != 0 ? r->now->aside : ROW_QUEUED;
	if (r->now->state == ROW_DOUBT || r->now->fate != ROW_LIVES)
		r->now->due = 0;
	frow_changed(f, r);
}

void
frow_end(struct fold *f, struct frow *r, enum attempt_state became)
{
	struct fattempt key = { .a.id = r->id }, *a = RB_NFIND(fattempt_tree, &f->attempts, &key), *next;

	for (; a != NULL && a->a.id == r->id; a = next) {
		next = RB_NEXT(fattempt_tree, &f->attempts, a);
		fattempt_close(f, a, became);
	}
	fedits_drop(f, r->id);
	fseg_add(f, r->now->place.seg, FSEG_MESSAGES, -1);
	fseg_add(f, r->now->body_seg, FSEG_MESSAGES, -1);
	free(r->now);
	r->now = NULL;
	f->net--;
	frow_changed(f, r);
}

void
frows_free(struct fold *f)
{
	struct frow *r;

	while ((r = RB_ROOT(&f->rows)) != NULL) {
		RB_REMOVE(frow_tree, &f->rows, r);
		free(r->was);
		free(r->now);
		free(r);
	}
	f->rows_n = f->rows_in_map = 0;
}

/* ---- attempts ---- */

struct fattempt *
fattempt_find(struct fold *f, msgid_t id, uint32_t n)
{
	struct fattempt key = { .a.id = id, .a.n = n }, *a = RB_FIND(fattempt_tree, &f->attempts, &key);

	return a == NULL || a->st.going ? NULL : a;
}

struct fattempt *
fattempt_new(struct fold *f, const struct index_row *row, const struct index_attempt *a)
{
	struct fattempt key = { .a.id = a->id, .a.n = a->n }, *fa = RB_FIND(fattempt_tree, &f->attempts, &key);

	if (fa == NULL) {
		fa = mem_zalloc(sizeof(*fa));
		fa->a.id = a->id;
		fa->a.n = a->n;
		RB_INSERT(fattempt_tree, &f->attempts, fa);
	}
	free(fa->text);
	fa->a = *a;
	fa->a.rcpt = row->rcpt;
	fa->a.domain = row->domain;
	fa->a.binding = row->binding;
	fa->text = slices_keep((struct slice *[]){ &fa->a.rcpt, &fa->a.domain, &fa->a.binding }, 3);
	fa->st.going = false;
	fold_touch(f, &fa->st);
	fseg_add(f, a->seg, FSEG_ATTEMPTS, 1);
	return fa;
}

void
fattempt_close(struct fold *f, struct fattempt *a, enum attempt_state became)
{
	bool was_open = a->a.state == ATTEMPT_OPEN, was_doubt = a->a.state == ATTEMPT_DOUBT;

	if (a->st.going)
		return;
	if (was_open || was_doubt)
		fseg_add(f, a->a.seg, FSEG_ATTEMPTS, -1);
	f->doubts -= was_doubt;
	if (was_open)
		a->st.going = true;
	else
		a->a.state = (uint8_t)became;
	fold_touch(f, &a->st);
}

void
fattempt_doubt(struct fold *f, struct fattempt *a, usec_t now)
{
	a->a.state = ATTEMPT_DOUBT;
	a->a.since = now;
	f->doubts++;
	f->ledger.doubts++;
	fold_touch(f, &a->st);
}

void
fattempt_free(struct fold *f, struct fattempt *a)
{
	RB_REMOVE(fattempt_tree, &f->attempts, a);
	free(a->text);
	free(a);
}
