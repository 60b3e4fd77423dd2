/* Handover records. At a drain: all that is mine, and all that I borrowed, but these, which are in work. About a dead
 * worker of our generation: all that I borrowed of it but these. Whoever owns next waits for them; so each is written
 * only when nothing is left that has passed the gate without a word in the journal: what is not in the map by then is
 * not begun any more. The ids are for people. */
#include "spool/spool_owner_int.h"

#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

static const usec_t LIVES_EACH = 100 * USEC_PER_MS;
static const usec_t AGAIN = USEC_PER_SEC;

/* ---- a drain */

static void
on_handed(void *arg, enum err e, struct place place)
{
	struct spool_owner *o = arg;

	(void)place;
	if (e != OK)
		log_error("owner",
			  "the handover record is not on disk (%s): the next owner waits for this process's end",
			  err_text(e));
	if (o->drained != NULL)
		o->drained(o->drained_arg);
}

static void
write_own(struct spool_owner *o)
{
	msgid_t *ids = mem_array(NULL, o->n_taken + 1, sizeof *ids);
	struct owner_fact f = { .kind = FACT_HANDOVER, .owner = o->env.writer, .ids = ids };
	struct owner_mem *m;
	enum err e;

	for (m = mems_next(o, NULL); m != NULL; m = mems_next(o, m))
		if (m->state == MSG_OPEN)
			ids[f.count++] = m->msg.id;
	e = o->world->write(&o->env, &f, on_handed, o);
	free(ids);
	if (e != OK)
		on_handed(o, e, (struct place){ 0, 0 });
}

/* Everything that delivery has not begun is forgotten, given back, or its gate is closed. */
static void
let_go(struct spool_owner *o)
{
	struct owner_mem *m, *next;

	for (m = mems_next(o, NULL); m != NULL; m = next) {
		next = mems_next(o, m);
		if (m->loan != NULL && !m->loan->ours) {
			borrow_revoke(o, m);
			continue;
		}
		m->revoked = true;
		if (m->state == MSG_LENT)
			loan_recall(o, m);
		else if (m->state == MSG_LOADED)
			mem_forget(o, m);
		else if (m->state == MSG_PAST)
			mem_unload(o, m);
	}
}

static void
hand_on(struct spool_owner *o)
{
	if (!o->handing || o->unsaid > 0)
		return;
	o->handing = false;
	write_own(o);
}

void
owner_drain(struct spool_owner *o, void (*done)(void *arg), void *arg)
{
	o->draining = true;
	o->drained = done;
	o->drained_arg = arg;
	let_go(o);
	o->handing = true;
	hand_on(o);
}

/* ---- the dead */

static void
bury(struct spool_owner *o, uint64_t writer, int slot)
{
	struct partner *p = partner_find(o, writer);
	struct loan *l, *next;

	if (p == NULL)
		p = partner_new(o, writer, slot);
	p->ended = true;
	p->ended_at = clock_mono();
	p->record = RECORD_DUE;
	TAILQ_FOREACH_SAFE (l, &p->borrowed, link, next)
		borrow_revoke(o, l->mem);
}

/* Who was born before it ended may have borrowed of it: the same rule as in want_borrowers. */
static void
look_at_lives(struct spool_owner *o)
{
	uint64_t next = lives_next(o->env.area), first = next > LIVES_KEPT ? next - LIVES_KEPT : 1;
	struct slot_who self;
	struct life life;

	if (!slot_who(shm_slot(o->env.area, o->env.slot), &self))
		return;
	for (uint64_t serial = first; serial < next; serial++) {
		if (o->mourned[serial % LIVES_KEPT] == serial || !life_get(o->env.area, serial, &life) || !life.ended)
			continue;
		o->mourned[serial % LIVES_KEPT] = serial;
		if (life.role == ROLE_WORKER && life.generation == o->env.generation && self.born <= life.ended_mono)
			bury(o, life.writer, life.slot);
	}
}

struct said {
	struct spool_owner *o;
	uint64_t about;
};

static void
on_said(void *arg, enum err e, struct place place)
{
	struct said s = *(struct said *)arg;
	struct partner *p = partner_find(s.o, s.about);

	(void)place;
	free(arg);
	p->record = e == OK ? RECORD_NONE : RECORD_DUE;
	p->record_after = clock_mono() + AGAIN;
	if (e != OK)
		log_error("owner", "the handover record about a dead worker is not on disk (%s): again", err_text(e));
}

static void
write_about(struct spool_owner *o, struct partner *p)
{
	msgid_t *ids = mem_array(NULL, o->n_taken + 1, sizeof *ids);
	struct owner_fact f = { .kind = FACT_HANDOVER, .owner = p->writer, .ids = ids };
	struct said *s = mem_alloc(sizeof *s);
	struct loan *l;
	enum err e;

	TAILQ_FOREACH (l, &p->borrowed, link)
		if (l->mem->state == MSG_OPEN)
			ids[f.count++] = l->mem->msg.id;
	*s = (struct said){ o, p->writer };
	p->record = RECORD_ON_ITS_WAY;
	e = o->world->write(&o->env, &f, on_said, s);
	free(ids);
	if (e != OK)
		on_said(s, e, (struct place){ 0, 0 });
}

void
owner_hand(struct spool_owner *o, usec_t now)
{
	struct partner *p;

	hand_on(o);
	if (now - o->looked_at_lives >= LIVES_EACH) {
		o->looked_at_lives = now;
		look_at_lives(o);
	}
	TAILQ_FOREACH (p, &o->partners, link)
		if (p->record == RECORD_DUE && p->unsaid == 0 && now >= p->record_after)
			write_about(o, p);
	partners_sweep(o);
}

void
owner_on_life(struct spool_owner *o)
{
	o->looked_at_lives = 0;
	o->news = true;
}

/* ---- a record that is not in the map: forgotten after a day, or with an index that was lost */

void
hand_again(struct spool_owner *o, uint64_t dead)
{
	struct partner *p;
	struct life life;

	if (!life_find(o->env.area, dead, &life) || !life.ended)
		return;
	o->looked_at_lives = 0; /* buried first, if we have not heard of it yet */
	p = partner_find(o, dead);
	if (p == NULL || (p->ended && p->record == RECORD_NONE))
		bury(o, dead, life.slot);
}

void
hand_missing(struct spool_owner *o, const struct owner_look *l, usec_t now)
{
	if (o->asked_records == 0)
		o->asked_records = now; /* it is on its way, at first */
	if (now - o->asked_records < AGAIN)
		return;
	o->asked_records = now;
	for (size_t i = 0; i < l->n_before; i++) {
		const struct look_before *b = &l->before[i];
		struct hint h = { .kind = HINT_SAY, .arg = { b->by, b->writer } };

		if (b->missing)
			(void)owner_hint_put(o, b->slot, &h);
	}
}
