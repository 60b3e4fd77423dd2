/* sim_map.h - what the simulations of owners stand on: one clock, one die, journals and map as arrays, the owner's world
 * Journals and map follow the rules of SPOOL.md, without bytes: a fact is a line of an array, a fold a few assignments.
 * The owners and their schedule are the real ones and see these through struct owner_world.
 * Who includes it has defined before: MAILS, QUEUES, LIVES, WORKERS (as many as a generation has), PAGE_ROWS; and defines
 * behind it names[], retry_of and in_hands. All of it is one `sim`, which a seed begins empty. */
#ifndef T_SIM_SIM_MAP_H
#define T_SIM_SIM_MAP_H

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_limits.h"
#include "spool/spool_owner_int.h"

#define MS(n) ((usec_t)(n)*USEC_PER_MS)
#define S(n)  ((usec_t)(n)*USEC_PER_SEC)

enum { COLD = 64 };

struct mail {
	msgid_t id;
	int queue;
	uint8_t priority;
	usec_t received; /* real */
	struct place place;
	/* the map's */
	bool in_map, over;
	uint32_t tries;
	usec_t due;
	uint64_t open; /* writer of the open attempt */
	bool doubt, held;
	enum row_fate fate;
	usec_t edit, tried; /* times of the newest edit and attempt */
	/* the truth */
	bool ended, named;
	int dots;
	usec_t held_at;   /* the operator was told so; 0: it is not held */
	usec_t failed_at; /* or that it will end */
	unsigned orders;  /* of the operator */
};

enum what { FACT_MAIL, FACT_TRY, FACT_END, FACT_VERB, FACT_HAND };
struct fact {
	enum what what;
	int mail;
	uint32_t n;
	enum outcome_kind kind;
	usec_t due; /* of an edit, an attempt: its time */
	enum edit_action edit;
	int about; /* of a handover: the life whose messages it speaks of */
};

/* A process life: one journal, one segment. */
struct life_sim {
	uint64_t writer;
	int slot;
	uint32_t generation;
	bool alive, settled, handed[LIVES]; /* handed: in the map, about whom */
	struct fact *facts;
	uint32_t n, cap, folded;
	struct spool_owner *o;
	struct owner_env env;
	bool draining;
	usec_t hears;
	struct standing {
		bool stands; /* ready and showable */
		usec_t waited;
	} standing[QUEUES];
	bool was_full;
	usec_t checked;
};

struct cold {
	bool used, read;
	int life;
	usec_t when;
	void (*fn)(void *), (*done)(void *);
	void *job;
};

/* A write of an owner's own. */
struct written {
	bool used;
	int life;
	usec_t when;
	struct place place;
	owner_written *done;
	void *arg;
};

static struct sim {
	uint64_t seed, random;
	usec_t now, real; /* monotonic; real is real + now */
	struct shm_area *area;
	struct mail mail[MAILS];
	int mails;
	int live[MAILS], n_live; /* what the map does not believe to be over */
	struct life_sim lives[LIVES];
	int n_lives, at[WORKERS]; /* at: the lives that own now, queue q's is at[q % WORKERS] */
	int open[LIVES], n_open;  /* lives that live, or have something to fold yet */
	uint32_t generation;
	struct cold cold[COLD];
	struct written written[COLD];
	usec_t keeper, arrival, trouble, verb, mood;
	uint64_t commits;
	bool calm;
} sim;

/* ---- given by who includes this */

struct queue_names {
	const char *binding, *domain;
};
static const struct queue_names names[QUEUES];
static struct sched_retry retry_of(int queue);
/* Somebody works on it, whatever the map says. */
static bool in_hands(int mail);

/* ---- chance and time */

static uint64_t
roll(uint64_t n)
{
	sim.random ^= sim.random << 13;
	sim.random ^= sim.random >> 7;
	sim.random ^= sim.random << 17;
	return sim.random % n;
}

#define MUST(cond, ...)                                                                        \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			fprintf(stderr, "seed %llu at %.6f s: ", (unsigned long long)sim.seed, \
				(double)sim.now / (double)USEC_PER_SEC);                       \
			fprintf(stderr, __VA_ARGS__);                                          \
			fprintf(stderr, "\n");                                                 \
			fail();                                                                \
		}                                                                              \
	} while (0)

static usec_t
sim_mono(void)
{
	return sim.now;
}

static usec_t
sim_real(void)
{
	return sim.real + sim.now;
}

/* Told without the product's own words. */
static usec_t
deadline_by(const struct sched_retry *retry, usec_t received)
{
	return retry->message_expiration == 0 ? INT64_MAX : received + S(retry->message_expiration);
}

static usec_t
deadline_of(const struct mail *m)
{
	struct sched_retry retry = retry_of(m->queue);

	return deadline_by(&retry, m->received);
}

/* Seeds of an environment variable, or as many as usual; the first is 1, or another variable's. From here on the clock is
 * the simulation's. */
static void
begin_simulation(const char *count, const char *first, uint64_t usual, uint64_t *from, uint64_t *n)
{
	const char *text = getenv(count), *begin = getenv(first);

	*n = text == NULL ? usual : strtoull(text, NULL, 10);
	*from = begin == NULL ? 1 : strtoull(begin, NULL, 10);
	log_set_level(LOG_LVL_FATAL);
	clock_set_source(sim_mono, sim_real);
	(void)mallopt(M_TRIM_THRESHOLD, 256 << 20); /* a look is large and lives for a moment */
	(void)mallopt(M_MMAP_THRESHOLD, 256 << 20);
}

/* ---- mail and queues */

static uint64_t
hash_of(int queue)
{
	static uint64_t hashes[QUEUES];

	if (hashes[queue] == 0)
		hashes[queue] = spool_queue_hash(slice_str(names[queue].binding), slice_str(names[queue].domain));
	return hashes[queue];
}

static int
queue_no(const struct owner_queue *q)
{
	int no = 0;

	while (hash_of(no) != owner_queue_hash(q))
		no++;
	return no;
}

static int
mail_no(msgid_t id)
{
	for (int i = 0; i < sim.n_live; i++)
		if (sim.mail[sim.live[i]].id == id)
			return sim.live[i];
	for (int i = sim.mails; i-- > 0;)
		if (sim.mail[i].id == id)
			return i;
	MUST(false, "a message that nobody sent");
	return 0;
}

static struct mail *
mail_new(msgid_t id, int queue)
{
	struct mail *m = &sim.mail[sim.mails];

	MUST(sim.mails < MAILS, "more mail than was planned");
	*m = (struct mail){ .id = id, .queue = queue, .received = sim_real() };
	sim.live[sim.n_live++] = sim.mails++;
	return m;
}

static bool
all_ended(void)
{
	for (int i = 0; i < sim.mails; i++)
		if (!sim.mail[i].ended)
			return false;
	return true;
}

/* The life whose word counts about this queue. */
static struct life_sim *
owner_of(int queue)
{
	return &sim.lives[sim.at[queue % WORKERS]];
}

/* ---- journals and map */

static struct place
append(int life, struct fact f)
{
	struct life_sim *l = &sim.lives[life];

	if (l->n == l->cap) {
		l->cap = l->cap == 0 ? 64 : l->cap * 2;
		l->facts = mem_array(l->facts, l->cap, sizeof *l->facts);
	}
	l->facts[l->n] = f;
	return (struct place){ (uint32_t)life + 1, l->n++ * 8 };
}

static void
fold_mail(struct mail *m)
{
	if (m->in_map)
		return;
	m->in_map = true;
	m->due = m->received;
}

/* What an edit decides of a doubt is on the list of doubts. */
static void
fold_edit(struct mail *m, const struct fact *f)
{
	if (m->over || f->due <= m->edit)
		return;
	m->edit = f->due;
	m->held = f->edit == EDIT_HOLD;
	m->fate = f->edit == EDIT_FAIL ? ROW_FAIL : f->edit == EDIT_DROP ? ROW_DROP : ROW_LIVES;
	if (!m->held)
		m->due = 0;
	m->named = m->named || m->doubt;
	m->doubt = false;
}

static void
fold_fact(const struct life_sim *l, const struct fact *f)
{
	struct mail *m = &sim.mail[f->mail];

	if (f->what == FACT_HAND)
		return;
	fold_mail(m); /* rule 2 */
	if (f->what == FACT_VERB) {
		fold_edit(m, f);
	} else if (f->what == FACT_TRY && f->n > m->tries && !m->over) {
		m->tries = f->n;
		m->open = l->writer;
		m->doubt = false;
		m->tried = f->due;
	} else if (f->what == FACT_END && !m->over) {
		if (outcome_is_final(f->kind)) {
			m->over = m->ended = true;
			m->open = 0;
		} else if (f->n >= m->tries) {
			m->tries = f->n;
			m->open = 0;
			m->due = f->due;
			m->doubt = f->kind == OUTCOME_DOUBTFUL && m->tried > m->edit;
			m->named = m->named || f->kind == OUTCOME_DOUBTFUL; /* or an edit has decided of it */
		}
	}
}

static void
fold_one(struct life_sim *l)
{
	const struct fact *f = &l->facts[l->folded++];

	if (f->what == FACT_HAND)
		l->handed[f->about] = true;
	else
		fold_fact(l, f);
}

/* What the dead had open is in doubt; of what was held the operator has decided. */
static void
settle_life(struct life_sim *l)
{
	l->settled = true;
	for (int i = 0; i < sim.n_live; i++) {
		struct mail *m = &sim.mail[sim.live[i]];

		if (m->open != l->writer)
			continue;
		m->open = 0;
		m->doubt = m->edit == 0 || (!m->held && m->fate == ROW_LIVES);
		m->named = m->named || !m->doubt;
	}
}

/* A message's own record before what is said about it. */
static void
fold_life(struct life_sim *l)
{
	while (l->folded < l->n) {
		const struct fact *f = &l->facts[l->folded];
		struct life_sim *home = f->what == FACT_HAND ? l : &sim.lives[sim.mail[f->mail].place.seg - 1];

		while (home != l && home->folded <= sim.mail[f->mail].place.off / 8)
			fold_one(home);
		fold_one(l);
	}
	if (!l->alive && !l->settled)
		settle_life(l);
}

/* As with an index that is built anew from segments of which one has gone. */
static void
forget_a_record(void)
{
	int life = (int)roll((uint64_t)sim.n_lives), about = (int)roll((uint64_t)sim.n_lives);

	if (life != about && !sim.lives[about].alive)
		sim.lives[life].handed[about] = false;
}

static inline bool
dirty(void)
{
	for (int i = 0; i < sim.n_open; i++) {
		const struct life_sim *l = &sim.lives[sim.open[i]];

		if (l->folded < l->n || !l->alive)
			return true;
	}
	return false;
}

/* What is over is not looked at again. */
static void
forget_over(void)
{
	for (int i = 0; i < sim.n_open;)
		if (sim.lives[sim.open[i]].settled)
			sim.open[i] = sim.open[--sim.n_open];
		else
			i++;
	for (int i = 0; i < sim.n_live;)
		if (sim.mail[sim.live[i]].over && !in_hands(sim.live[i]))
			sim.live[i] = sim.live[--sim.n_live];
		else
			i++;
}

/* The keeper folds some journals, not all, and commits; what is past its deadline it tells the owner. */
static void
keeper(void)
{
	if (roll(20) == 0)
		forget_a_record();
	for (int i = 0; i < sim.n_open; i++)
		if (sim.calm || roll(3) > 0)
			fold_life(&sim.lives[sim.open[i]]);
	sim.commits++;
	for (int i = 0; i < sim.n_open; i++)
		if (sim.lives[sim.open[i]].o != NULL && roll(2) == 0)
			owner_on_doorbell(sim.lives[sim.open[i]].o);
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];
		struct life_sim *l = owner_of(m->queue);

		if (m->in_map && !m->over && deadline_of(m) <= sim_real() && l->o != NULL)
			owner_due(l->o, m->id);
	}
	forget_over();
}

/* ---- the owner's world: one snapshot */

static int
life_of_env(const struct owner_env *env)
{
	return (int)((const struct life_sim *)env->arg - sim.lives);
}

static bool
row_of(const struct mail *m, struct index_row *row)
{
	if (!m->in_map || m->over || sim.lives[m->place.seg - 1].folded * 8 <= m->place.off)
		return false;
	*row = (struct index_row){ .id = m->id,
				   .place = m->place,
				   .priority = m->priority,
				   .tries = m->tries,
				   .due = m->fate != ROW_LIVES ? 0 : m->due,
				   .received_at = m->received,
				   .writer = m->open,
				   .edit = m->edit,
				   .fate = (uint8_t)m->fate,
				   .state = m->open != 0 ? ROW_WORK
					    : m->doubt   ? ROW_DOUBT
					    : m->held    ? ROW_HELD
							 : ROW_QUEUED,
				   .binding = slice_str(names[m->queue].binding),
				   .domain = slice_str(names[m->queue].domain) };
	return true;
}

/* In the index of queues. */
static bool
row_stands(const struct mail *m, struct index_row *row)
{
	return row_of(m, row) && row->state != ROW_WORK && row->state != ROW_HELD;
}

static int
key_order(const struct index_queue_key *a, const struct index_queue_key *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->due != b->due)
		return a->due < b->due ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static bool
page_next(const struct look_page *p, struct index_row *best, struct index_queue_key *best_key)
{
	struct index_row row;

	best->id = 0;
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];
		struct index_queue_key k;

		if (hash_of(m->queue) != p->queue || !row_stands(m, &row) || row.due > p->due_by)
			continue;
		k = (struct index_queue_key){ p->queue, row.priority, row.due, row.id };
		if (key_order(&k, &p->after) > 0 && (best->id == 0 || key_order(&k, best_key) < 0)) {
			*best = row;
			*best_key = k;
		}
	}
	return best->id != 0;
}

/* A few rows a page at most, so that pages are resumed. */
static void
look_page(struct look_page *p)
{
	struct index_queue_key key;
	struct index_row best;

	p->rows = mem_array(NULL, OWNER_PAGE, sizeof *p->rows);
	p->eof = true;
	while (page_next(p, &best, &key)) {
		if (p->n == PAGE_ROWS) {
			p->eof = false;
			return;
		}
		best.binding = best.domain = slice_of(NULL, 0);
		p->rows[p->n++] = best;
		p->after = key;
	}
}

static void
look_wakes(struct owner_look *l)
{
	struct index_row row;
	usec_t due[QUEUES];

	l->wakes = mem_array(NULL, OWNER_WAKES, sizeof *l->wakes);
	for (int q = 0; q < QUEUES; q++)
		due[q] = INT64_MAX;
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];

		if (row_stands(m, &row) && row.due < due[m->queue])
			due[m->queue] = row.due;
	}
	for (int q = 0; q < QUEUES; q++) {
		uint64_t hash = hash_of(q);

		if ((l->mine[hash % PARTITIONS / 64] >> (hash % 64) & 1) == 0)
			continue;
		if (due[q] <= l->now)
			l->wakes[l->n_wakes++] = (struct look_wake){ hash, due[q], mem_strdup(names[q].binding),
								     mem_strdup(names[q].domain) };
		else if (due[q] < l->next_wake)
			l->next_wake = due[q];
	}
}

static int
life_of_writer(uint64_t writer)
{
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].writer == writer)
			return i;
	return -1; /* of a seed before this one */
}

static bool
before_through(const struct owner_look *l)
{
	bool yes = true;

	for (size_t i = 0; i < l->n_before; i++) {
		struct look_before *b = &l->before[i];
		int life = life_of_writer(b->writer), by = life_of_writer(b->by != 0 ? b->by : b->writer);

		if (life < 0)
			continue;
		b->missing = b->by != 0 && !sim.lives[by].handed[life];
		yes = yes && !b->missing;
		if (b->by == 0)
			yes = yes && (b->alive ? sim.lives[life].handed[life] : sim.lives[life].settled);
	}
	return yes;
}

static void
world_look(const struct owner_env *env, struct owner_look *l)
{
	struct index_row row;

	(void)env;
	l->e = OK;
	l->meta = (struct index_meta){ .keeper = 1, .commits = sim.commits, .scanned_at = sim.now };
	l->keeper = 1;
	for (size_t i = 0; i < l->n_segs; i++)
		l->segs[i] = (struct look_seg){ .number = l->segs[i].number,
						.found = true,
						.folded = sim.lives[l->segs[i].number - 1].folded * 8 };
	for (size_t i = 0; i < l->n_pages; i++)
		look_page(&l->pages[i]);
	for (size_t i = 0; i < l->n_wants; i++)
		for (int k = 0; k < sim.n_live; k++)
			if (sim.mail[sim.live[k]].id == l->wants[i].id && row_of(&sim.mail[sim.live[k]], &row))
				l->wants[i].row = index_row_dup(&row);
	if (l->scan)
		look_wakes(l);
	l->adopted = l->adopt && before_through(l);
	for (size_t i = 0; i < l->n_gone; i++)
		l->gone[i].yes = sim.lives[life_of_writer(l->gone[i].writer)].settled;
}

/* ---- the owner's world: what comes later */

static void
world_run_cold(const struct owner_env *env, void (*fn)(void *), void (*done)(void *), void *job)
{
	for (int i = 0; i < COLD; i++)
		if (!sim.cold[i].used) {
			sim.cold[i] =
				(struct cold){ true, false, life_of_env(env), sim.now + MS(roll(30)), fn, done, job };
			return;
		}
	MUST(false, "too many cold jobs");
}

static enum err
world_write(const struct owner_env *env, const struct owner_fact *f, owner_written *done, void *arg)
{
	int life = life_of_env(env);
	struct place place;

	MUST(f->kind != FACT_OUTCOME, "an attempt of its own that nobody knows of");
	MUST(f->kind != FACT_HANDOVER || life_of_writer(f->owner) >= 0, "a record about somebody of another time");
	if (f->kind == FACT_HANDOVER)
		place = append(life, (struct fact){ .what = FACT_HAND, .about = life_of_writer(f->owner) });
	else
		place = append(life, (struct fact){ .what = FACT_VERB,
						    .mail = mail_no(f->edit.id_lo),
						    .due = f->edit.at,
						    .edit = (enum edit_action)f->edit.action });
	for (int i = 0; i < COLD; i++)
		if (!sim.written[i].used) {
			sim.written[i] = (struct written){ true, life, sim.now + MS(1 + roll(10)), place, done, arg };
			return OK;
		}
	return ERR_FULL;
}

static void
world_peek(const struct owner_env *env, msgid_t id, struct place place, uint16_t item, owner_peeked *done, void *arg)
{
	const struct queue_names *of = &names[sim.mail[mail_no(id)].queue];

	(void)env;
	(void)place;
	(void)item;
	done(arg, OK, slice_str(of->binding), slice_str(of->domain));
}

static const struct owner_world world = { world_run_cold, world_look, world_write, world_peek };

static void
run_cold(struct cold *c)
{
	if (!c->read) { /* read now, given later: the snapshot ages on its way */
		c->fn(c->job);
		c->read = true;
		c->when = sim.now + MS(roll(20));
		return;
	}
	c->used = false;
	c->done(c->job);
}

static void
run_written(struct written *w, enum err e)
{
	w->used = false;
	w->done(w->arg, e, e == OK ? w->place : (struct place){ 0, 0 });
}

static void
run_world_due(void)
{
	for (int i = 0; i < COLD; i++) {
		if (sim.cold[i].used && sim.cold[i].when <= sim.now)
			run_cold(&sim.cold[i]);
		if (sim.written[i].used && sim.written[i].when <= sim.now)
			run_written(&sim.written[i], OK);
	}
}

/* The process ends: whoever waits is told so that it frees what it holds. */
static void
end_world_of(int life)
{
	for (int i = 0; i < COLD; i++) {
		struct cold *c = &sim.cold[i];

		if (!c->used || c->life != life)
			continue;
		if (!c->read)
			c->fn(c->job);
		c->done(c->job);
		c->used = false;
	}
	for (int i = 0; i < COLD; i++) /* also what the last look wrote */
		if (sim.written[i].used && sim.written[i].life == life)
			run_written(&sim.written[i], ERR_EOF);
}

static void
sooner(usec_t *next, usec_t at)
{
	if (at < *next)
		*next = at;
}

static void
world_next(usec_t *next)
{
	for (int i = 0; i < COLD; i++) {
		if (sim.cold[i].used)
			sooner(next, sim.cold[i].when);
		if (sim.written[i].used)
			sooner(next, sim.written[i].when);
	}
}

/* ---- what is seen to in every simulation */

/* Nothing that is ready comes before what was taken. */
static void
check_order(const struct owner_msg *m)
{
	for (struct sched_msg *s = RB_ROOT(&m->queue->sched.ready); s != NULL; s = RB_LEFT(s, link))
		MUST(s->priority < m->priority ||
			     (s->priority == m->priority && (s->due > m->due || (s->due == m->due && s->id > m->id))),
		     "taken out of order");
}

/* A queue that may be shown is shown soon; time in which a limit that all queues share is reached counts for nobody. */
static void
check_starving(struct life_sim *l, bool full, usec_t patience)
{
	usec_t passed = l->was_full ? 0 : sim.now - l->checked;

	l->was_full = full;
	l->checked = sim.now;
	if (l->draining)
		return;
	for (struct owner_queue *q = queues_next(l->o, NULL); q != NULL; q = queues_next(l->o, q)) {
		struct standing *s = &l->standing[queue_no(q)];

		if (q->sched.n_ready == 0 || q->sched.suspended || q->sched.wait_until != 0 || !q->sched.in_round)
			*s = (struct standing){ false, 0 };
		else if (!s->stands)
			s->stands = true;
		else
			s->waited += passed;
		MUST(s->waited < patience, "queue %d starves", queue_no(q));
	}
}

#endif
