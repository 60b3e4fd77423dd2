#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_fold_int.h"

/* ---- before: everything that can fail ---- */

static enum err
load_segment(struct fold *f, uint32_t number)
{
	struct fseg *s;

	return number == 0 ? OK : fseg_look(f, number, &s);
}

static enum err
load_one(struct fold *f, msgid_t id, bool ends)
{
	struct frow *r;
	enum err e = frow_load(f, id, &r);

	if (e == OK && r != NULL && ends && r->now->edits > 0)
		e = fedits_load(f, id);
	return e;
}

static enum err
load_item(struct fold *f, const struct fold_item *it)
{
	const struct spool_item *i = &it->item;
	enum err e;

	switch (i->kind) {
	case ITEM_MESSAGE:
		e = load_segment(f, it->body_seg);
		return e != OK ? e : load_one(f, i->message.id, false);
	case ITEM_ATTEMPT:
		return load_one(f, i->attempt.id, false);
	case ITEM_OUTCOME:
		return load_one(f, i->outcome.id, outcome_is_final(i->outcome.kind));
	case ITEM_EDIT:
		return i->edit.id_lo == i->edit.id_hi && i->edit.id_lo != 0 ? load_one(f, i->edit.id_lo, true) : OK;
	case ITEM_END:
		return load_segment(f, i->end.seg);
	case ITEM_HANDOVER:
	case ITEM_COPY: /* the message that follows is loaded */
		return OK;
	default:
		return ERR_VERSION;
	}
}

/* ---- messages ---- */

static void
count_in(struct fold *f, uint8_t origin)
{
	if (f->meta.rebuilding)
		f->ledger.carried++;
	else if (origin == ORIGIN_GENERATED)
		f->ledger.generated++;
	else
		f->ledger.accepted++;
}

static struct index_row *
row_of(const struct spool_message *m, struct place at, uint16_t item, uint32_t body_seg)
{
	return index_row_dup(&(struct index_row){
		.id = m->id,
		.place = at,
		.item = item,
		.priority = m->priority,
		.state = ROW_QUEUED,
		.origin = m->origin,
		.body_seg = body_seg,
		.received_at = m->received_at,
		.due = m->due,
		.size = m->size,
		.sender = m->sender,
		.rcpt = m->rcpt,
		.binding = m->binding,
		.domain = m->domain,
	});
}

void
fbody_used(struct fold *f, const struct fold_item *it)
{
	struct fseg *b = it->body_seg != 0 ? fseg_find(f, it->body_seg) : NULL;

	if (b == NULL)
		return;
	b->s.used = true;
	fold_touch(f, &b->st);
}

struct frow *
frow_new(struct fold *f, const struct fold_item *it, struct place at, uint16_t item)
{
	const struct spool_message *m = &it->item.message;
	struct frow *r = mem_zalloc(sizeof(*r));

	r->id = m->id;
	r->now = row_of(m, at, item, it->body_seg);
	RB_INSERT(frow_tree, &f->rows, r);
	f->rows_n++;
	fseg_add(f, at.seg, FSEG_MESSAGES, 1);
	fseg_add(f, it->body_seg, FSEG_MESSAGES, 1);
	count_in(f, m->origin);
	f->net++;
	frow_changed(f, r);
	franges_apply(f, r);
	return r;
}

static void
apply_message(struct fold *f, const struct fold_item *it, struct place at, uint16_t item)
{
	const struct spool_message *m = &it->item.message;
	struct frow key = { .id = m->id }, *r = RB_FIND(frow_tree, &f->rows, &key);
	uint32_t n = 0;

	if (m->id > f->meta.highest_id)
		f->meta.highest_id = m->id;
	fbody_used(f, it);
	/* folded before, or what rule 7 found to be over */
	if (r == NULL && !(fended_find(f, m->id, at.seg, &n) && n == UINT32_MAX))
		(void)frow_new(f, it, at, item);
}

/* ---- attempts and outcomes ---- */

/* The attempt before this one cannot be open any more, whoever has not said so yet. */
static void
close_older(struct fold *f, struct frow *r)
{
	struct fattempt *a = fattempt_find(f, r->id, r->now->tries);

	if (a != NULL && a->a.state <= ATTEMPT_DOUBT)
		fattempt_close(f, a, ATTEMPT_RETRIED);
}

static void
open_attempt(struct fold *f, struct frow *r, uint32_t n, uint64_t writer, uint32_t seg, usec_t at)
{
	close_older(f, r);
	r->now->tries = n;
	frow_said(r, NULL);
	if (r->now->aside == 0 && r->now->fate == ROW_LIVES)
		frow_reason(r,
			    SLICE("")); /* the last reply is no reason any more, whether its outcome was met or not */
	fattempt_new(f, r->now,
		     &(struct index_attempt){
			     .id = r->id, .n = n, .state = ATTEMPT_OPEN, .writer = writer, .seg = seg, .at = at });
}

static void
apply_attempt(struct fold *f, const struct spool_attempt *a, const struct fseg *s)
{
	struct frow *r = frow_find(f, a->id);
	uint32_t resolved = 0;

	if (r == NULL || a->n <= r->now->tries)
		return;
	if (fended_find(f, a->id, r->now->place.seg, &resolved) && a->n <= resolved) {
		r->now->tries = a->n;
		frow_changed(f, r);
		return;
	}
	open_attempt(f, r, a->n, s->s.writer, s->s.number, a->at);
	frow_restate(f, r);
}

static void
end_message(struct fold *f, struct frow *r, enum outcome_kind kind)
{
	switch (kind) {
	case OUTCOME_DELIVERED:
		f->ledger.delivered++;
		frow_end(f, r, ATTEMPT_DELIVERED);
		break;
	case OUTCOME_BOUNCED:
		f->ledger.bounced++;
		frow_end(f, r, ATTEMPT_FAILED);
		break;
	case OUTCOME_EXPIRED:
		f->ledger.expired++;
		frow_end(f, r, ATTEMPT_FAILED);
		break;
	default:
		f->ledger.discarded++;
		frow_end(f, r, ATTEMPT_DISCARDED);
		break;
	}
}

static void
apply_deferred(struct fold *f, struct frow *r, const struct spool_outcome *o, struct fattempt *a)
{
	if (a != NULL)
		fattempt_close(f, a, ATTEMPT_RETRIED);
	else
		close_older(f, r);
	r->now->tries = o->n;
	r->now->due = o->next_due;
	frow_said(r, o);
	if (r->now->aside == 0 && r->now->fate == ROW_LIVES)
		frow_reason(r, o->text);
	f->ledger.deferrals++;
	frow_restate(f, r);
}

static void
apply_doubtful(struct fold *f, struct frow *r, const struct spool_outcome *o, struct fattempt *a, const struct fseg *s)
{
	if (a == NULL) {
		open_attempt(f, r, o->n, s->s.writer, s->s.number, o->at);
		a = fattempt_find(f, r->id, o->n);
	}
	if (a->a.state == ATTEMPT_OPEN)
		fattempt_doubt(f, a, o->at);
	frow_said(r, o);
	if (a->a.at <= r->now->edit)
		fattempt_close(f, a, r->now->aside != 0 ? ATTEMPT_HELD : ATTEMPT_RETRIED);
	frow_restate(f, r);
	/* Not at once: a next hop that always breaks there would get it every second. */
	if (r->now->state == ROW_DOUBT && r->now->fate == ROW_LIVES)
		r->now->due = o->next_due;
}

/* Rule 3. What is not final counts once: for a try that is open, or for one that was never written down as open. */
static void
apply_outcome(struct fold *f, const struct spool_outcome *o, const struct fseg *s)
{
	struct frow *r = frow_find(f, o->id);
	struct fattempt *a;

	if (r == NULL)
		return;
	if (outcome_is_final(o->kind)) {
		/* Its record does not say so of the place that the message was moved to meanwhile. */
		if (!place_eq(o->place, r->now->place))
			fmoved_add(f, r->now->place.seg, o->id);
		end_message(f, r, o->kind);
		return;
	}
	a = fattempt_find(f, o->id, o->n);
	if (a != NULL && a->a.state > ATTEMPT_DOUBT)
		return;
	if (o->n < r->now->tries || (o->n == r->now->tries && a == NULL))
		return;
	if (o->kind == OUTCOME_DEFERRED)
		apply_deferred(f, r, o, a);
	else
		apply_doubtful(f, r, o, a, s);
}

/* ---- handovers, ends, damage ---- */

static void
apply_handover(struct fold *f, const struct spool_handover *h, const struct fseg *s, struct place at)
{
	struct fhand key = { .h.owner = h->owner, .h.writer = s->s.writer }, *fh = RB_FIND(fhand_tree, &f->hands, &key);

	if (fh == NULL) {
		fh = mem_zalloc(sizeof(*fh));
		fh->h.owner = h->owner;
		fh->h.writer = s->s.writer;
		RB_INSERT(fhand_tree, &f->hands, fh);
	}
	free(fh->text);
	fh->h.place = at;
	fh->h.ids = h->ids;
	fh->text = slices_keep((struct slice *[]){ &fh->h.ids }, 1);
	fh->st.going = false;
	fold_touch(f, &fh->st);
}

/* Facts only point back in time. Of a segment that is not there nothing is kept: the map would not know it, so the next
 * keeper would fold one that came by that number further than this one does. */
static void
apply_end(struct fold *f, const struct spool_end *end, const struct fseg *self)
{
	struct fseg *s = end->seg < self->s.number ? fseg_find(f, end->seg) : NULL;

	if (s != NULL && (s->file || s->st.in_map))
		fseg_ends(f, s, end->mark);
}

/* The bytes stay where they are: the segment keeps its count and so its file. */
static struct fdamage *
damage(struct fold *f, struct fseg *s, const struct fold_record *rec)
{
	struct fdamage *d = mem_zalloc(sizeof(*d));

	d->d.place = (struct place){ s->s.number, rec->off };
	d->d.len = rec->next - rec->off;
	STAILQ_INSERT_TAIL(&f->damages, d, link);
	s->s.damaged++;
	f->ledger.damaged_records++;
	fold_touch(f, &s->st);
	return d;
}

/* Nobody was lost with it that the ledger knows of: of the message that it speaks of there is no record. */
void
fold_apply_false(struct fold *f, struct fseg *s, const struct fold_record *rec, struct place nothing)
{
	damage(f, s, rec)->d.nothing = nothing;
}

static void
apply_lost(struct fold *f, struct fseg *s, const struct fold_record *rec)
{
	damage(f, s, rec)->d.recipients = rec->count;
	f->ledger.damaged += rec->count;
	if (f->meta.rebuilding)
		f->ledger.carried += rec->count;
	else
		f->ledger.accepted += rec->count;
}

/* ---- one record ---- */

static void
apply_item(struct fold *f, struct fseg *s, const struct fold_record *rec, uint16_t i)
{
	const struct fold_item *it = &rec->items[i];
	struct place at = { s->s.number, rec->off };

	switch (it->item.kind) {
	case ITEM_MESSAGE:
		if (i > 0 && it[-1].item.kind == ITEM_COPY)
			fcopy_apply(f, &it[-1].item.copy, it, at, i);
		else
			apply_message(f, it, at, i);
		break;
	case ITEM_COPY:
		break;
	case ITEM_ATTEMPT:
		apply_attempt(f, &it->item.attempt, s);
		break;
	case ITEM_OUTCOME:
		apply_outcome(f, &it->item.outcome, s);
		break;
	case ITEM_EDIT:
		fedit_apply(f, &it->item.edit, at);
		break;
	case ITEM_HANDOVER:
		apply_handover(f, &it->item.handover, s, at);
		break;
	default:
		apply_end(f, &it->item.end, s);
		break;
	}
}

enum err
fold_apply(struct fold *f, struct fseg *s, const struct fold_record *rec)
{
	if (rec->lost) {
		apply_lost(f, s, rec);
		return OK;
	}
	for (uint32_t i = 0; i < rec->count; i++) {
		enum err e = load_item(f, &rec->items[i]);

		if (e != OK)
			return e;
	}
	for (uint32_t i = 0; i < rec->count; i++)
		apply_item(f, s, rec, (uint16_t)i);
	return OK;
}
