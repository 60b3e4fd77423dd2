/* sim_life.h - processes of a simulation: generations that own, deaths at any moment, bells that are heard late, how busy
 * everybody is, and an operator who gives orders about single messages
 * Who includes it (behind sim_map.h) defines what a process is besides its owner: life_begun, life_ends; and `seen` counts
 * over all seeds what must have happened for a run to prove anything. */
#ifndef T_SIM_SIM_LIFE_H
#define T_SIM_SIM_LIFE_H

#include "shm/shm_area_int.h"
#include "t/sim/sim_map.h"

/* Of a process that is to own, in a slot of its own. */
static void life_begun(int life);
/* All that works in it ends; its owner is there yet. */
static void life_ends(int life);

static struct {
	long lent, borrowed_done, deaths, deaths_lending, deaths_borrowing, reloads, drained_lent, lost_loans,
		held_lent;
	long orders[OWNER_VERB_DONE + 1];
} seen;

/* ---- lives */

static int
begin_life(uint32_t generation, int slot)
{
	struct life_sim *l = &sim.lives[sim.n_lives];

	*l = (struct life_sim){ .slot = slot, .alive = true, .generation = generation, .hears = sim.now };
	shm_slot_take(sim.area, slot, ROLE_WORKER, generation, &l->writer);
	slot_set_state(shm_slot(sim.area, slot), SLOT_SERVING);
	l->env = (struct owner_env){
		.area = sim.area, .slot = slot, .writer = l->writer, .generation = generation, .world = &world, .arg = l
	};
	l->o = owner_new(&l->env);
	/* Worth it early: what is on loan is what a simulation has to see. */
	l->o->lend = (struct lend_policy){ .busy = 200, .gap = 50, .ready = 2, .keep = 0, .most = 12 };
	sim.open[sim.n_open++] = sim.n_lives;
	life_begun(sim.n_lives);
	return sim.n_lives++;
}

static void
end_life(int life)
{
	struct life_sim *l = &sim.lives[life];

	life_ends(life);
	owner_set_ops(l->o, NULL, NULL);
	end_world_of(life);
	seen.lent += slot_get(shm_slot(sim.area, l->slot), CELL_LENT);
	owner_free(&l->o);
	l->alive = false;
	shm_slot_reap(sim.area, l->slot, 9, false);
}

static int
slot_free_from(int slot)
{
	for (; slot < SLOTS_MAX; slot++) {
		bool taken = false;

		for (int i = 0; i < sim.n_open; i++)
			taken = taken || (sim.lives[sim.open[i]].alive && sim.lives[sim.open[i]].slot == slot);
		if (!taken)
			return slot;
	}
	return 0;
}

/* Its workers share the partitions so that queue q is the one's of at[q % WORKERS]. */
static void
begin_generation(uint32_t generation)
{
	uint8_t owner[PARTITIONS];

	for (int i = 0, slot = 0; i < WORKERS; i++) {
		slot = slot_free_from(slot + 1);
		sim.at[i] = begin_life(generation, slot);
	}
	for (int p = 0; p < PARTITIONS; p++)
		owner[p] = (uint8_t)sim.lives[sim.at[p % WORKERS]].slot;
	for (int q = 0; q < QUEUES; q++)
		owner[hash_of(q) % PARTITIONS] = (uint8_t)owner_of(q)->slot;
	partitions_publish(sim.area, generation, owner);
	sim.generation = generation;
}

static void
note_death(const struct life_sim *l)
{
	const struct partner *p;

	seen.deaths++;
	TAILQ_FOREACH (p, &l->o->partners, link) {
		seen.deaths_lending += p->n_lent > 0;
		seen.deaths_borrowing += !TAILQ_EMPTY(&p->borrowed);
	}
}

static void
dies(int life)
{
	const struct life_sim *l = &sim.lives[life];
	int slot = l->slot;

	note_death(l);
	end_life(life);
	if (l->generation != sim.generation || sim.n_lives == LIVES)
		return;
	for (int i = 0; i < WORKERS; i++) /* the same slot again */
		if (sim.at[i] == life)
			sim.at[i] = begin_life(sim.generation, slot);
}

/* Any of those that live. */
static void
somebody_dies(void)
{
	int life = sim.open[roll((uint64_t)sim.n_open)];

	while (!sim.lives[life].alive)
		life = sim.open[roll((uint64_t)sim.n_open)];
	dies(life);
}

static void
drains(struct life_sim *l)
{
	seen.drained_lent += l->o->n_lent > 0;
	l->draining = true;
	slot_set_state(shm_slot(sim.area, l->slot), SLOT_DRAINING);
	owner_drain(l->o, NULL, NULL);
}

/* A new generation; the others drain, each when `also` has been told. At most `most` generations at a time. */
static void
reload(unsigned most, void (*also)(int life))
{
	uint32_t oldest = sim.generation;

	for (int i = 0; i < sim.n_open; i++)
		if (sim.lives[sim.open[i]].alive && sim.lives[sim.open[i]].generation < oldest)
			oldest = sim.lives[sim.open[i]].generation;
	if (sim.generation - oldest + 2 > most || sim.n_lives + WORKERS > LIVES)
		return;
	seen.reloads++;
	begin_generation(sim.generation + 1);
	for (int i = 0; i < sim.n_open; i++) {
		struct life_sim *l = &sim.lives[sim.open[i]];

		if (!l->alive || l->draining || l->generation == sim.generation)
			continue;
		drains(l);
		if (also != NULL)
			also(sim.open[i]);
	}
}

/* ---- bells, and how busy everybody is */

static bool
is_rung(const struct life_sim *l)
{
	return l->o != NULL && atomic_load(&area_map(sim.area)->inboxes[l->slot].from) != 0;
}

/* Some of what was said is lost. */
static void
hear(void)
{
	struct hint h;

	for (int i = 0; i < sim.n_open; i++) {
		struct life_sim *l = &sim.lives[sim.open[i]];

		if (!is_rung(l) || l->hears > sim.now)
			continue;
		l->hears = sim.now + MS(10 + roll(100));
		if (roll(12) == 0 && inbox_take(sim.area, l->slot, &h, NULL))
			seen.lost_loans += h.kind != HINT_MESSAGE;
		owner_on_doorbell(l->o);
	}
}

static void
bells_next(usec_t *next)
{
	for (int i = 0; i < sim.n_open; i++)
		if (is_rung(&sim.lives[sim.open[i]]))
			sooner(next, sim.lives[sim.open[i]].hears);
}

static void
moods(void)
{
	for (int i = 0; i < sim.n_open; i++)
		if (sim.lives[sim.open[i]].alive)
			slot_set(shm_slot(sim.area, sim.lives[sim.open[i]].slot), CELL_LOOP_LOAD, (int64_t)roll(1000));
}

static long
on_loan(void)
{
	long n = 0;

	for (int i = 0; i < sim.n_open; i++)
		n += sim.lives[sim.open[i]].o == NULL ? 0 : (long)sim.lives[sim.open[i]].o->n_lent;
	return n;
}

/* ---- the operator */

struct order {
	int mail;
	unsigned n;
	enum owner_verb_kind kind;
};

static void
on_ordered(void *arg, enum err e)
{
	struct order d = *(struct order *)arg;

	free(arg);
	if (e != OK || d.n != sim.mail[d.mail].orders)
		return;
	if (d.kind == OWNER_VERB_HOLD)
		sim.mail[d.mail].held_at = sim.now;
	else if (d.kind == OWNER_VERB_FAIL || d.kind == OWNER_VERB_DROP)
		sim.mail[d.mail].failed_at = sim.now;
}

static void
order(int mail, enum owner_verb_kind kind)
{
	struct order *d = mem_alloc(sizeof *d);
	struct mail *m = &sim.mail[mail];
	struct owner_mem *mem = mem_find(owner_of(m->queue)->o, m->id);

	seen.held_lent += mem != NULL && mem->state == MSG_LENT;
	seen.orders[kind]++;
	*d = (struct order){ mail, ++m->orders, kind };
	m->failed_at = 0;
	if (kind != OWNER_VERB_HOLD)
		m->held_at = 0;
	owner_verb(owner_of(m->queue)->o, &(struct owner_verb){ .kind = kind, .id_lo = m->id, .id_hi = m->id },
		   on_ordered, d);
}

/* Nobody begins what is held, once that is known for longer than `lag`. */
static void
check_held(int mail, usec_t lag)
{
	MUST(sim.mail[mail].held_at == 0 || sim.now - sim.mail[mail].held_at < lag, "message %d is held, and begun",
	     mail);
}

/* Late news, or twice: of any message, in any state, to anybody. */
static void
tell(const struct mail *m)
{
	struct owner_news n = { .id = m->id,
				.place = m->place,
				.priority = m->priority,
				.received_at = m->received,
				.binding = slice_str(names[m->queue].binding),
				.domain = slice_str(names[m->queue].domain) };

	owner_tell(sim.lives[sim.at[roll(WORKERS)]].o, &n);
}

static void
begin_world(uint64_t seed, struct shm_area *area, usec_t now)
{
	for (int i = 0; i < sim.n_lives; i++) /* of the seed before */
		free(sim.lives[i].facts);
	memset(&sim, 0, sizeof sim);
	sim.seed = seed;
	sim.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	sim.now = now;
	sim.real = INT64_C(1700000000) * USEC_PER_SEC - now;
	sim.area = area;
	for (int i = 0; i < SLOTS_MAX; i++)
		inbox_clear(area, i);
}

static void
end_world(void)
{
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL)
			end_life(i);
}

#endif
