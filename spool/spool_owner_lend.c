/* Lending, the lender's end: when, how much, to whom; and what became of it. What is lent stays in memory, out of the
 * schedule, until the borrower has said that it is done or not begun, or the map knows. Time only decides when to ask:
 *
 *     lent --done--> outcome remembered    --back--> in the schedule again
 *      | ^
 *      | `-ask (now and then), recall (a verb, a drain): answered done, back, unknown, or not while it is in hand
 *      `--unknown, or the borrower is dead and all that it wrote is in the map--> the row decides
 */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

enum {
	LOAD_FULL = 1000,
	LEND_FIRST = 4, /* to one of whom it is not known yet that it gets rid of them */
};

static const usec_t PLAN_EACH = 50 * USEC_PER_MS;
static const usec_t ASK_SWEEP = USEC_PER_SEC;
static const usec_t ASK_AFTER = 10 * USEC_PER_SEC;  /* a loan that nothing was heard of */
static const usec_t LEND_AGAIN = 10 * USEC_PER_SEC; /* a queue that a borrower could do nothing with */

/* ---- partners */

struct partner *
partner_find(struct spool_owner *o, uint64_t writer)
{
	struct partner *p;

	TAILQ_FOREACH (p, &o->partners, link)
		if (p->writer == writer)
			return p;
	return NULL;
}

struct partner *
partner_new(struct spool_owner *o, uint64_t writer, int slot)
{
	struct partner *p = mem_zalloc(sizeof *p);

	p->o = o;
	p->writer = writer;
	p->slot = slot;
	TAILQ_INIT(&p->lent);
	TAILQ_INIT(&p->borrowed);
	TAILQ_INSERT_TAIL(&o->partners, p, link);
	return p;
}

static bool
is_peer(const struct spool_owner *o, int slot, struct slot_who *who)
{
	return slot != o->env.slot && slot_who(shm_slot(o->env.area, slot), who) && who->role == ROLE_WORKER &&
	       who->generation == o->env.generation;
}

/* The roll has the last word: a slot is free a moment later than it has. */
struct partner *
partner_get(struct spool_owner *o, uint64_t writer, int slot)
{
	struct partner *p = partner_find(o, writer);
	struct slot_who who;
	struct life life;

	if (p != NULL)
		return p->ended ? NULL : p;
	if (!is_peer(o, slot, &who) || who.writer != writer || !life_find(o->env.area, writer, &life) || life.ended)
		return NULL;
	return partner_new(o, writer, slot);
}

void
partners_sweep(struct spool_owner *o)
{
	struct partner *p, *next;

	TAILQ_FOREACH_SAFE (p, &o->partners, link, next)
		if (p->ended && TAILQ_EMPTY(&p->lent) && TAILQ_EMPTY(&p->borrowed) && p->record == RECORD_NONE) {
			TAILQ_REMOVE(&o->partners, p, link);
			free(p);
		}
}

/* ---- loans */

struct loan *
loan_new(struct owner_mem *m, struct partner *p, bool ours, uint32_t number)
{
	struct loan *l = mem_zalloc(sizeof *l);

	l->mem = m;
	l->with = p;
	l->ours = ours;
	l->number = number;
	l->since = clock_mono();
	m->loan = l;
	if (ours) {
		TAILQ_INSERT_TAIL(&p->lent, l, link);
		p->n_lent++;
		p->lent_at = l->since;
		p->o->n_lent++;
		m->msg.queue->lent++;
		m->msg.queue->lent_at = l->since;
	} else {
		TAILQ_INSERT_TAIL(&p->borrowed, l, link);
	}
	return l;
}

void
loan_end(struct spool_owner *o, struct owner_mem *m)
{
	struct loan *l = m->loan;

	if (l == NULL)
		return;
	m->loan = NULL;
	if (l->ours) {
		TAILQ_REMOVE(&l->with->lent, l, link);
		l->with->n_lent--;
		o->n_lent--;
		m->msg.queue->lent--;
	} else {
		TAILQ_REMOVE(&l->with->borrowed, l, link);
	}
	free(l);
}

bool
loan_send(struct spool_owner *o, const struct partner *p, struct hint h)
{
	h.arg[0] = p->writer;
	h.arg[1] = o->env.writer;
	return !p->ended && owner_hint_put(o, p->slot, &h);
}

static void
count(struct spool_owner *o)
{
	slot_add(shm_slot(o->env.area, o->env.slot), CELL_LENT, 1);
}

/* What is doubtful stays with us: it is named when it is tried. */
static bool
lend_one(struct spool_owner *o, struct partner *p, struct owner_queue *q)
{
	struct sched_msg *s = sched_first(&q->sched);
	struct owner_mem *m = s == NULL ? NULL : mem_of_sched(s);
	struct hint h = { .kind = HINT_LOAN, .queue = q->hash, .size = o->loans + 1 };

	if (m == NULL || m->msg.doubtful)
		return false;
	h.id = m->msg.id;
	h.seg = m->msg.place.seg;
	h.off = m->msg.place.off;
	h.item = m->msg.item;
	h.priority = m->msg.priority;
	h.at = m->msg.due;
	h.n = m->msg.tries;
	if (!loan_send(o, p, h))
		return false;
	mem_unload(o, m);
	mem_no_longer_past(o, m); /* what is on loan is remembered anyway */
	m->state = MSG_LENT;
	(void)loan_new(m, p, true, ++o->loans);
	count(o);
	return true;
}

/* ---- how much */

static int64_t
load_of(const struct spool_owner *o, int slot)
{
	int64_t load = slot_get(shm_slot(o->env.area, slot), CELL_LOOP_LOAD);

	/* A test has no other way to make a load certain. */
	if (fault_error("owner.busy") != 0)
		return slot == o->env.slot ? LOAD_FULL : 0;
	return load < 0 ? 0 : load > LOAD_FULL ? LOAD_FULL : load;
}

/* Who is to have how much, by the loads of this moment. */
static void
plan(struct spool_owner *o)
{
	int64_t mine = load_of(o, o->env.slot);
	struct slot_who who;
	struct partner *p;

	o->lending = false;
	TAILQ_FOREACH (p, &o->partners, link)
		p->target = 0;
	for (int i = 0; i < SLOTS_MAX && mine >= o->lend.busy; i++) {
		int64_t less;

		if (!is_peer(o, i, &who) || who.state != SLOT_SERVING)
			continue;
		less = mine - load_of(o, i);
		if (less < o->lend.gap || (p = partner_get(o, who.writer, i)) == NULL)
			continue;
		p->target = (unsigned)(less * o->lend.most / LOAD_FULL);
		if (!p->works && p->target > LEND_FIRST)
			p->target = LEND_FIRST;
		o->lending = true;
	}
}

static bool
may_lend(struct spool_owner *o, struct owner_queue *q, usec_t now)
{
	if (q->binding == NULL || q->sched.suspended || q->sched.wait_until != 0 || now < q->lend_after)
		return false;
	return o->ops.may_lend != NULL && o->ops.may_lend(o->ops_arg, q);
}

static void
lend_some(struct spool_owner *o, usec_t now)
{
	struct owner_queue *q = o->hot;
	struct partner *p;

	if (!o->lending || !may_lend(o, q, now))
		return;
	TAILQ_FOREACH (p, &o->partners, link)
		while (!p->ended && p->n_lent < p->target && q->sched.n_ready > o->lend.keep)
			if (!lend_one(o, p, q))
				break;
}

/* ---- asking */

static void
ask(struct spool_owner *o, struct loan *l, enum hint_kind kind)
{
	if (!l->lost)
		(void)loan_send(o, l->with,
				(struct hint){ .kind = (uint8_t)kind, .id = l->mem->msg.id, .size = l->number });
}

void
loan_recall(struct spool_owner *o, struct owner_mem *m)
{
	ask(o, m->loan, HINT_RECALL);
}

static void
ask_all(struct spool_owner *o, usec_t now)
{
	struct partner *p;
	struct loan *l;

	if (now - o->asked_loans < ASK_SWEEP)
		return;
	o->asked_loans = now;
	TAILQ_FOREACH (p, &o->partners, link)
		TAILQ_FOREACH (l, &p->lent, link) {
			if (p->ended || (!l->mem->revoked && now - l->since < ASK_AFTER))
				continue;
			l->since = now;
			ask(o, l, l->mem->revoked ? HINT_RECALL : HINT_ASK);
		}
}

void
owner_lend(struct spool_owner *o, usec_t now)
{
	bool serves = o->adopted && o->serving && !o->draining;

	if (o->hot != NULL && (!serves || o->hot->sched.n_ready <= o->lend.keep))
		o->hot = NULL;
	if (o->hot != NULL && now - o->planned >= PLAN_EACH) {
		o->planned = now;
		plan(o);
	}
	if (o->hot != NULL)
		lend_some(o, now);
	if (!TAILQ_EMPTY(&o->partners)) {
		ask_all(o, now);
		borrow_sweep(o, now);
	}
}

/* ---- what becomes of it */

/* Not begun there. As owner_release. */
static void
take_back(struct spool_owner *o, struct owner_mem *m, usec_t not_before)
{
	struct owner_queue *q = m->msg.queue;

	loan_end(o, m);
	if (m->writing > 0) {
		m->state = MSG_EDITING;
	} else if (m->revoked && m->fact.seg != 0) {
		mem_past(o, m, m->fact);
	} else if (m->revoked || o->draining) {
		q->missed = true;
		mem_forget(o, m);
	} else {
		mem_load(o, m, not_before > m->msg.due ? not_before : m->msg.due);
	}
}

/* Only a look that begins from now on can tell; until it has, nobody else believes the map either. */
static void
ask_the_map(struct spool_owner *o, struct owner_mem *m)
{
	struct want w = { .what = WANT_LOAN, .id = m->msg.id };

	m->loan->lost = true;
	owner_want(o, &w);
}

void
loan_row(struct spool_owner *o, msgid_t id, const struct index_row *row)
{
	struct owner_mem *m = mem_find(o, id);
	struct owner_queue *q;

	if (m == NULL || m->state != MSG_LENT || !m->loan->lost)
		return;
	q = m->msg.queue;
	loan_end(o, m);
	if (m->writing > 0) {
		m->state = MSG_EDITING;
	} else if (m->fact.seg != 0 && !seg_passed(o, seg_get(o, m->fact.seg), m->fact, m->fact_at)) {
		m->again = true; /* an earlier outcome, or an edit, is not in the row yet */
		mem_past(o, m, m->fact);
	} else {
		mem_forget(o, m);
		if (row != NULL)
			owner_row(o, q, row);
	}
}

void
loan_answered(struct spool_owner *o, const struct hint *h)
{
	struct owner_mem *m = mem_find(o, h->id);

	if (m == NULL || m->state != MSG_LENT || m->loan->number != h->size || m->loan->with->writer != h->arg[1] ||
	    m->loan->lost)
		return;
	if (h->kind == HINT_DONE && h->item < OUTCOME_KIND_MAX && h->seg != 0) {
		m->loan->with->works = true;
		loan_end(o, m);
		mem_done(o, m, (enum outcome_kind)h->item, h->at, (struct place){ h->seg, h->off });
	} else if (h->kind == HINT_BACK) {
		if (h->item != 0) {
			m->msg.queue->lend_after = clock_mono() + LEND_AGAIN;
			m->loan->with->works = false;
		}
		take_back(o, m, h->at);
	} else {
		ask_the_map(o, m);
	}
}

/* ---- borrowers that are dead */

void
lend_want_gone(struct spool_owner *o, struct owner_look *l)
{
	const struct partner *p;

	TAILQ_FOREACH (p, &o->partners, link)
		if (p->ended && p->n_lent > 0 && l->n_gone < SLOTS_MAX)
			l->gone[l->n_gone++] = (struct look_gone){ .writer = p->writer, .since = p->ended_at };
}

void
lend_take_gone(struct spool_owner *o, const struct owner_look *l)
{
	for (size_t i = 0; i < l->n_gone; i++) {
		struct partner *p = l->gone[i].yes ? partner_find(o, l->gone[i].writer) : NULL;
		struct loan *loan;

		if (p == NULL)
			continue;
		TAILQ_FOREACH (loan, &p->lent, link)
			if (!loan->lost)
				ask_the_map(o, loan->mem);
	}
}
