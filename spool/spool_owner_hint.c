/* News of messages: by our own hand, or from inboxes. A hint may be lost or old; it counts only against what the map of
 * the last look says. */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/mem.h"

enum { HINTS_A_TURN = 4096 };

/* ---- to whom they belong */

bool
owner_hint_put(struct spool_owner *o, int slot, const struct hint *h)
{
	struct shm_slot *own = shm_slot(o->env.area, o->env.slot);

	if (!inbox_put(o->env.area, o->env.slot, slot, h)) {
		slot_add(own, CELL_HINTS_LOST, 1);
		return false;
	}
	slot_add(own, CELL_HINTS_SENT, 1);
	o->bells |= UINT64_C(1) << slot;
	return true;
}

void
owner_tell(struct spool_owner *o, const struct owner_news *n)
{
	struct hint h = { .kind = HINT_MESSAGE,
			  .id = n->id,
			  .queue = spool_queue_hash(n->binding, n->domain),
			  .seg = n->place.seg,
			  .off = n->place.off,
			  .item = n->item,
			  .priority = n->priority,
			  .at = n->received_at,
			  .arg = { (uint64_t)n->due } };
	unsigned slot;

	h.partition = (uint32_t)(h.queue % PARTITIONS);
	slot = partition_owner(o->env.area, h.partition);
	if (slot == (unsigned)o->env.slot)
		owner_take_hint(o, &h, n->binding, n->domain);
	else if (slot < SLOTS_MAX)
		(void)owner_hint_put(o, (int)slot, &h);
}

/* Of a loan only what is meant for this life, not for a former tenant of the slot. */
static void
take_hint(struct spool_owner *o, const struct hint *h, int from)
{
	if (h->kind != HINT_MESSAGE && h->arg[0] != o->env.writer)
		return;
	switch (h->kind) {
	case HINT_MESSAGE:
		if (h->seg != 0)
			owner_take_hint(o, h, slice_of(NULL, 0), slice_of(NULL, 0));
		break;
	case HINT_LOAN:
	case HINT_RECALL:
	case HINT_ASK:
		borrow_hint(o, h, from);
		break;
	case HINT_DONE:
	case HINT_BACK:
	case HINT_UNKNOWN:
		loan_answered(o, h);
		break;
	case HINT_SAY:
		hand_again(o, h->arg[1]);
		break;
	default:
		break;
	}
}

void
owner_on_doorbell(struct spool_owner *o)
{
	struct hint h;
	int from;

	doorbell_answer(o->env.area, o->env.slot);
	o->news = true;
	for (int i = 0; i < HINTS_A_TURN && inbox_take(o->env.area, o->env.slot, &h, &from); i++)
		take_hint(o, &h, from);
}

/* ---- whose queue it is */

struct peek {
	struct spool_owner *o;
	uint64_t hash;
};

static void
on_peeked(void *arg, enum err e, struct slice binding, struct slice domain)
{
	struct peek p = *(struct peek *)arg;
	struct owner_queue *q = queue_find(p.o, p.hash);
	struct owner_mem *m, *next;

	free(arg);
	if (q == NULL)
		return;
	q->peeking = false;
	if (e == OK && spool_queue_hash(binding, domain) == p.hash) {
		(void)queue_get(p.o, p.hash, binding, domain);
		return;
	}
	if (q->binding != NULL)
		return;
	/* The messages will be found in the map, with the queue's name. */
	for (m = mems_next(p.o, NULL); m != NULL; m = next) {
		next = mems_next(p.o, m);
		if (m->msg.queue == q && m->state == MSG_LOADED && m->loan != NULL)
			borrow_lost(p.o, m);
		else if (m->msg.queue == q && m->state == MSG_LOADED)
			mem_forget(p.o, m);
	}
	q->missed = true;
}

void
owner_peek(struct spool_owner *o, struct owner_queue *q, const struct hint *h)
{
	struct peek *p;

	if (q->binding != NULL || q->peeking)
		return;
	p = mem_alloc(sizeof *p);
	*p = (struct peek){ o, q->hash };
	q->peeking = true;
	o->world->peek(&o->env, h->id, (struct place){ h->seg, h->off }, h->item, on_peeked, p);
}

/* ---- what they are worth */

static void
believe(struct spool_owner *o, const struct hint *h, struct slice binding, struct slice domain)
{
	struct owner_queue *q = queue_get(o, h->queue, binding, domain);
	struct owner_mem *m;

	/* Not its time yet: the map says when, and a queued message costs nothing until then. */
	if ((usec_t)h->arg[0] > clock_real()) {
		if ((usec_t)h->arg[0] < o->next_wake)
			o->next_wake = (usec_t)h->arg[0];
		return;
	}
	/* What jumps the queue is not to wait behind a full window; what is suspended is not to fill the memory of all. */
	if (q->sched.suspended || (queue_window_full(q) && h->priority == 0) || o->n_loaded >= OWNER_LOADED ||
	    owner_in_range(o, h->id, 0, q)) {
		q->missed = true;
		return;
	}
	m = mem_new(o, q, h->id, (struct place){ h->seg, h->off }, h->item);
	m->msg.priority = h->priority;
	mem_load(o, m, m->msg.received_at);
	owner_peek(o, q, h);
}

/* Beyond the checkpoint it is new. Below, or where nothing was read yet, the row decides. */
void
owner_take_hint(struct spool_owner *o, const struct hint *h, struct slice binding, struct slice domain)
{
	struct owner_seg *seg;

	if (!owner_has(o, h->queue) || mem_find(o, h->id) != NULL)
		return;
	seg = seg_get(o, h->seg);
	if (seg->read && !o->rebuilding && !(seg->found ? seg->over || h->off < seg->folded : false)) {
		believe(o, h, binding, domain);
		return;
	}
	if (o->n_wants < OWNER_HINTS_HELD) {
		struct want w = { .what = WANT_HINT, .id = h->id, .hint = *h };
		owner_want(o, &w);
		return;
	}
	queue_get(o, h->queue, binding, domain)->missed = true;
}

void
owner_hint_seen(struct spool_owner *o, const struct hint *h, const struct index_row *row)
{
	struct owner_seg *seg = seg_get(o, h->seg);

	if (!owner_has(o, h->queue) || mem_find(o, h->id) != NULL || o->rebuilding)
		return;
	if (row != NULL)
		owner_row(o, queue_get(o, h->queue, row->binding, row->domain), row);
	else if (seg->read && !seg->found)
		believe(o, h, slice_of(NULL, 0), slice_of(NULL, 0));
	else if (seg->read && !seg->over && h->off >= seg->folded)
		believe(o, h, slice_of(NULL, 0), slice_of(NULL, 0));
}
