/* Lending, the borrower's end: what another owner has lent stands here in the schedule, in a queue of that name, and
 * goes through the same gate. Nothing here is remembered longer than the map needs: an outcome until the map has it, so
 * that a lender that asks can be told. What never got to the gate goes back. */
#include "spool/spool_owner_int.h"

#include "shm/base/log.h"

static const usec_t SWEEP_EACH = USEC_PER_SEC / 4;
static const usec_t TAKEN_WITHIN = 5 * USEC_PER_SEC; /* what delivery has not taken by then goes back */

/* ---- saying */

static void
say_done(struct spool_owner *o, const struct owner_mem *m)
{
	const struct loan *l = m->loan;

	(void)loan_send(o, l->with,
			(struct hint){ .kind = HINT_DONE,
				       .id = m->msg.id,
				       .seg = m->fact.seg,
				       .off = m->fact.off,
				       .item = (uint16_t)l->kind,
				       .at = l->next_due,
				       .size = l->number });
}

/* If any of these does not arrive, the lender asks. */
void
borrow_back(struct spool_owner *o, struct owner_mem *m, usec_t not_before, bool no_more)
{
	(void)loan_send(o, m->loan->with,
			(struct hint){ .kind = HINT_BACK,
				       .id = m->msg.id,
				       .item = no_more,
				       .at = not_before,
				       .size = m->loan->number });
	mem_forget(o, m);
}

void
borrow_lost(struct spool_owner *o, struct owner_mem *m)
{
	(void)loan_send(o, m->loan->with,
			(struct hint){ .kind = HINT_UNKNOWN, .id = m->msg.id, .size = m->loan->number });
	mem_forget(o, m);
}

void
borrow_done(struct spool_owner *o, struct owner_mem *m, enum outcome_kind kind, usec_t next_due, struct place place)
{
	m->loan->kind = kind;
	m->loan->next_due = next_due;
	mem_past(o, m, place);
	say_done(o, m);
}

void
borrow_revoke(struct spool_owner *o, struct owner_mem *m)
{
	if (m->state == MSG_TAKEN)
		m->revoked = true;
	else if (m->state == MSG_LOADED)
		borrow_back(o, m, 0, false);
}

static void
give_back(struct spool_owner *o, const struct owner_queue *only, usec_t older_than)
{
	struct partner *p;
	struct loan *l, *next;

	TAILQ_FOREACH (p, &o->partners, link)
		TAILQ_FOREACH_SAFE (l, &p->borrowed, link, next)
			if (l->mem->state == MSG_LOADED && l->since <= older_than &&
			    (only == NULL || l->mem->msg.queue == only))
				borrow_back(o, l->mem, 0, true);
}

void
borrow_give_up(struct owner_queue *q)
{
	give_back(q->o, q, INT64_MAX);
}

void
borrow_sweep(struct spool_owner *o, usec_t now)
{
	if (now - o->swept_loans < SWEEP_EACH)
		return;
	o->swept_loans = now;
	give_back(o, NULL, now - TAKEN_WITHIN);
}

/* ---- hearing */

static void
unknown(struct spool_owner *o, const struct partner *p, const struct hint *h)
{
	(void)loan_send(o, p, (struct hint){ .kind = HINT_UNKNOWN, .id = h->id, .size = h->size });
}

/* What is left of an earlier loan, whose end its lender has seen: it counts no more. */
static bool
is_over(const struct owner_mem *m)
{
	return m->state == MSG_PAST && m->loan != NULL && !m->loan->ours;
}

/* Whose queue it is, its record says: hint.c asks for that once a queue. */
static void
take_loan(struct spool_owner *o, struct partner *p, const struct hint *h)
{
	struct owner_mem *m = mem_find(o, h->id);
	struct owner_queue *q;

	if (m != NULL && !is_over(m))
		return; /* in our hands already, which no lender can want: the outcome of that is what counts */
	if (m != NULL)
		mem_forget(o, m);
	if (o->draining || !o->serving || o->n_loaded >= OWNER_LOADED || h->seg == 0) {
		unknown(o, p, h);
		return;
	}
	q = queue_get(o, h->queue, slice_of(NULL, 0), slice_of(NULL, 0));
	m = mem_new(o, q, h->id, (struct place){ h->seg, h->off }, h->item);
	m->msg.priority = h->priority;
	m->msg.tries = h->n;
	(void)loan_new(m, p, false, h->size);
	slot_add(shm_slot(o->env.area, o->env.slot), CELL_BORROWED, 1);
	mem_load(o, m, h->at);
	owner_peek(o, q, h);
	if (q->sched.wait_until != 0 || (q->binding != NULL && q->sched.suspended))
		borrow_give_up(q);
}

static void
take_question(struct spool_owner *o, const struct partner *p, const struct hint *h)
{
	struct owner_mem *m = mem_find(o, h->id);

	if (m == NULL || (is_over(m) && (m->loan->with != p || m->loan->number != h->size)))
		unknown(o, p, h);
	else if (is_over(m))
		say_done(o, m);
	else if (h->kind == HINT_RECALL && m->loan != NULL && !m->loan->ours)
		borrow_revoke(o, m);
}

void
borrow_hint(struct spool_owner *o, const struct hint *h, int from)
{
	struct partner *p = partner_get(o, h->arg[1], from);

	if (p == NULL)
		return; /* its lender is dead: whoever comes after it finds the message in the map */
	if (h->kind == HINT_LOAN)
		take_loan(o, p, h);
	else
		take_question(o, p, h);
}
