/* A day in seconds: two workers a generation that own queues and lend to each other, a keeper that lags, a network that
 * refuses, stalls and forgets, an operator who holds and releases, and a clock that only this file moves. The owners and
 * their schedule are the real ones; journals and map are arrays here. Each seed is one run; SIM_SEEDS says how many
 * (default 1,000), SIM_FIRST which is the first. Seen to at every step: one owner; no second delivery that was not named
 * in doubt; order within a queue and priority, also of what is lent; no rate and no connection limit exceeded, over all
 * workers of all generations; nobody starves; nothing outlives its deadline; what is held stays; and at the end every
 * message has ended and nothing is on loan, whatever hints were lost and whoever died. */
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

enum {
	MAILS = 150,
	QUEUES = 4,
	HOT = 2, /* the queue that most of the mail is for */
	WORKERS = 2,
	LIVES = 14,
	FACTS = 4000,
	JOBS = 64,
	COLD = 64,
	CONNS_QUEUE = 3, /* over all workers */
	CONNS_OWNER = 4,
	RATE = 5,     /* takes a second of queue 0 */
	LASTS = 40,   /* seconds of trouble */
	PATIENCE = 8, /* seconds after which a queue with ready mail counts as starved */
	HELD_BY = 15, /* seconds after which what was held is begun by nobody any more */
};
static const struct sched_retry retry = {
	.retry_interval = 2, .max_retry_interval = 8, .message_expiration = 25, .max_retries = SCHED_RETRIES_NONE
};

struct mail {
	msgid_t id;
	int queue;
	uint8_t priority;
	usec_t received;
	struct place place;
	bool in_map, over; /* over: in the map's eyes */
	uint32_t tries;
	usec_t due;
	uint64_t open; /* writer of the open attempt, as the map has it */
	bool doubt, held;
	usec_t edit; /* time of the newest edit */
	/* the truth */
	bool accepted, ended, named;
	usec_t held_at;  /* the operator was told so; 0: it is not held */
	unsigned orders; /* of the operator */
	int dots;
};

enum what { FACT_MAIL, FACT_TRY, FACT_END, FACT_VERB, FACT_HAND };
struct fact {
	enum what what;
	int mail;
	uint32_t n;
	enum outcome_kind kind;
	usec_t due; /* of an edit: its time */
	enum edit_action edit;
	int about; /* of a handover: the life whose messages it speaks of */
};

/* A process life: one journal, one segment. */
struct life_sim {
	uint64_t writer;
	int slot;
	uint32_t generation;
	bool alive, settled, handed[LIVES]; /* handed: in the map, about whom */
	struct fact facts[FACTS];
	uint32_t n, folded;
	struct spool_owner *o;
	struct owner_env env;
	bool draining;
	int conns;
	usec_t hears;
	usec_t since[QUEUES]; /* ready and showable since */
};

struct job {
	bool used;
	int life;
	struct owner_msg *m;
	int mail;
	enum { READS, TELLS, WAITS, SYNCS } at;
	usec_t when;
	enum outcome_kind kind;
	usec_t due;
	struct place fact;
	bool open, errand, borrowed;
};

struct cold {
	bool used, read;
	int life;
	usec_t when;
	void (*fn)(void *), (*done)(void *);
	void *job;
};

/* Completions of the owners' own writes. */
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
	usec_t now, real;
	struct shm_area *area;
	struct mail mail[MAILS];
	int mails;
	struct life_sim lives[LIVES];
	int n_lives, at[WORKERS]; /* at: the lives that own now, queue q's is at[q % WORKERS] */
	uint32_t generation;
	struct job jobs[JOBS];
	struct cold cold[COLD];
	struct written written[COLD];
	usec_t down[QUEUES]; /* the host answers nothing until then */
	usec_t keeper, arrival, trouble, verb, mood, checked;
	uint64_t commits;
	usec_t takes[RATE]; /* of queue 0, the latest */
	bool calm, permits; /* permits: somebody took or gave one */
} sim;
static struct { /* over all seeds: what must have happened for a run to prove anything */
	long lent, borrowed_done, deaths_lending, deaths_borrowing, lost_loans, held_lent, drained_lent;
} seen;

static uint64_t
roll(uint64_t n)
{
	sim.random ^= sim.random << 13;
	sim.random ^= sim.random >> 7;
	sim.random ^= sim.random << 17;
	return sim.random % n;
}

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

#define MUST(cond, ...)                                                                                                \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "seed %llu at %.3f s: ", (unsigned long long)sim.seed, (double)sim.now / 1e6); \
			fprintf(stderr, __VA_ARGS__);                                                                  \
			fprintf(stderr, "\n");                                                                         \
			fail();                                                                                        \
		}                                                                                                      \
	} while (0)

/* ---- journals and map */

static const char *const domains[QUEUES] = { "a.test", "b.test", "c.test", "d.test" };

static uint64_t
hash_of(int queue)
{
	static uint64_t hashes[QUEUES];

	if (hashes[queue] == 0)
		hashes[queue] = spool_queue_hash(SLICE("out"), slice_str(domains[queue]));
	return hashes[queue];
}

static struct place
append(int life, struct fact f)
{
	struct life_sim *l = &sim.lives[life];

	MUST(l->n < FACTS, "the journal is full");
	l->facts[l->n] = f;
	return (struct place){ (uint32_t)life + 1, l->n++ * 8 };
}

static void
fold_mail(int mail)
{
	struct mail *m = &sim.mail[mail];

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
	if (f->edit == EDIT_RETRY)
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
	fold_mail(f->mail); /* rule 2 */
	if (f->what == FACT_VERB) {
		fold_edit(m, f);
		return;
	}
	if (f->what == FACT_TRY && f->n > m->tries && !m->over) {
		m->tries = f->n;
		m->open = l->writer;
		m->doubt = false;
	} else if (f->what == FACT_END && !m->over) {
		if (outcome_is_final(f->kind)) {
			m->over = m->ended = true;
			m->open = 0;
		} else if (f->n >= m->tries) {
			m->tries = f->n;
			m->open = 0;
			m->due = f->due;
			m->doubt = f->kind == OUTCOME_DOUBTFUL;
		}
	}
}

static uint32_t
mail_place_folded(const struct mail *m)
{
	return sim.lives[m->place.seg - 1].folded;
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
	if (l->alive || l->settled)
		return;
	l->settled = true;
	for (int i = 0; i < sim.mails; i++)
		if (sim.mail[i].open == l->writer) {
			sim.mail[i].open = 0;
			sim.mail[i].doubt = sim.mail[i].edit == 0 || !sim.mail[i].held;
			sim.mail[i].named = sim.mail[i].named || !sim.mail[i].doubt;
		}
}

/* As with an index that is built anew from segments of which one has gone. */
static void
forget_a_record(void)
{
	int life = (int)roll((uint64_t)sim.n_lives), about = (int)roll((uint64_t)sim.n_lives);

	if (life != about && !sim.lives[about].alive)
		sim.lives[life].handed[about] = false;
}

/* The keeper folds some journals, not all, and commits. */
static void
keeper(void)
{
	if (roll(20) == 0)
		forget_a_record();
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.calm || roll(3) > 0)
			fold_life(&sim.lives[i]);
	sim.commits++;
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL && roll(2) == 0)
			owner_on_doorbell(sim.lives[i].o);
	for (int i = 0; i < sim.mails; i++) {
		struct life_sim *l = &sim.lives[sim.at[sim.mail[i].queue % WORKERS]];

		if (sim.mail[i].in_map && !sim.mail[i].over &&
		    sched_deadline(&retry, sim.mail[i].received) <= sim_real() && l->o != NULL)
			owner_due(l->o, sim.mail[i].id);
	}
	sim.keeper = sim.now + MS(5 + roll(sim.calm ? 50 : 2500));
}

/* ---- the owner's world */

static int
life_of_env(const struct owner_env *env)
{
	return (int)((const struct life_sim *)env->arg - sim.lives);
}

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

static bool
row_of(const struct mail *m, struct index_row *row)
{
	if (!m->in_map || m->over || mail_place_folded(m) * 8 <= m->place.off)
		return false;
	*row = (struct index_row){ .id = m->id,
				   .place = m->place,
				   .priority = m->priority,
				   .tries = m->tries,
				   .due = m->due,
				   .received_at = m->received,
				   .writer = m->open,
				   .edit = m->edit,
				   .state = m->open != 0 ? ROW_WORK
					    : m->doubt   ? ROW_DOUBT
					    : m->held    ? ROW_HELD
							 : ROW_QUEUED,
				   .binding = SLICE("out"),
				   .domain = slice_str(domains[m->queue]) };
	return true;
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

/* Three rows a page at most, so that pages are resumed. */
static void
look_page(struct look_page *p)
{
	p->rows = mem_array(NULL, OWNER_PAGE, sizeof *p->rows);
	p->eof = true;
	for (;;) {
		struct index_row row, best = { .id = 0 };
		struct index_queue_key best_key = { 0 };

		for (int i = 0; i < sim.mails; i++) {
			if (hash_of(sim.mail[i].queue) != p->queue || !row_of(&sim.mail[i], &row) ||
			    row.state == ROW_WORK || row.state == ROW_HELD || row.due > p->due_by)
				continue;
			struct index_queue_key k = index_row_key(&row);
			if (key_order(&k, &p->after) > 0 && (best.id == 0 || key_order(&k, &best_key) < 0)) {
				best = row;
				best_key = k;
			}
		}
		if (best.id == 0)
			return;
		if (p->n == 3) {
			p->eof = false;
			return;
		}
		best.binding = best.domain = slice_of(NULL, 0);
		p->rows[p->n++] = best;
		p->after = best_key;
	}
}

static void
look_wakes(struct owner_look *l)
{
	struct index_row row;

	l->wakes = mem_array(NULL, OWNER_WAKES, sizeof *l->wakes);
	for (int q = 0; q < QUEUES; q++) {
		uint64_t hash = hash_of(q);
		usec_t due = INT64_MAX;

		if ((l->mine[hash % PARTITIONS / 64] >> (hash % 64) & 1) == 0)
			continue;
		for (int i = 0; i < sim.mails; i++)
			if (sim.mail[i].queue == q && row_of(&sim.mail[i], &row) && row.state != ROW_WORK &&
			    row.state != ROW_HELD && row.due < due)
				due = row.due;
		if (due <= l->now)
			l->wakes[l->n_wakes++] =
				(struct look_wake){ hash, due, mem_strdup("out"), mem_strdup(domains[q]) };
		else if (due < l->next_wake)
			l->next_wake = due;
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
	(void)env;
	struct index_row row;

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
		for (int k = 0; k < sim.mails; k++)
			if (sim.mail[k].id == l->wants[i].id && row_of(&sim.mail[k], &row))
				l->wants[i].row = index_row_dup(&row);
	if (l->scan)
		look_wakes(l);
	l->adopted = l->adopt && before_through(l);
	for (size_t i = 0; i < l->n_gone; i++)
		l->gone[i].yes = sim.lives[life_of_writer(l->gone[i].writer)].settled;
}

static int
mail_no(msgid_t id)
{
	for (int i = 0; i < sim.mails; i++)
		if (sim.mail[i].id == id)
			return i;
	MUST(false, "a message that nobody sent");
	return 0;
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
	(void)env;
	(void)place;
	(void)item;
	for (int i = 0; i < sim.mails; i++)
		if (sim.mail[i].id == id)
			done(arg, OK, SLICE("out"), slice_str(domains[sim.mail[i].queue]));
}

static const struct owner_world world = { world_run_cold, world_look, world_write, world_peek };

/* ---- delivery */

static int
queue_no(const struct owner_queue *q)
{
	for (int i = 0; i < QUEUES; i++)
		if (hash_of(i) == owner_queue_hash(q))
			return i;
	return 0;
}

/* Nothing that is ready comes before what was taken. */
static void
check_order(const struct owner_msg *m)
{
	struct sched_msg *s;

	for (s = RB_ROOT(&m->queue->sched.ready); s != NULL; s = RB_LEFT(s, link))
		MUST(s->priority < m->priority ||
			     (s->priority == m->priority && (s->due > m->due || (s->due == m->due && s->id > m->id))),
		     "taken out of order");
}

static void
new_job(int life, struct owner_msg *m, bool errand)
{
	struct mail *mail = &sim.mail[mail_no(m->id)];

	for (int i = 0; i < JOBS; i++) {
		if (sim.jobs[i].used)
			continue;
		sim.jobs[i] = (struct job){ .used = true,
					    .life = life,
					    .m = m,
					    .mail = mail_no(m->id),
					    .when = sim.now + MS(1 + roll(roll(8) == 0 ? 4000 : 100)),
					    .errand = errand, /* a cold body */
					    .borrowed = owner_queue_borrowed(m->queue) };
		m->role = &sim.jobs[i];
		mail->named = mail->named || m->doubtful;
		return;
	}
	MUST(false, "too many jobs");
}

static int
conns_of(int life, int queue)
{
	int n = 0;

	for (int i = 0; i < JOBS; i++)
		n += sim.jobs[i].used && sim.jobs[i].life == life && !sim.jobs[i].errand &&
		     sim.mail[sim.jobs[i].mail].queue == queue;
	return n;
}

static uint64_t
permit(int queue)
{
	return limit_key("sim", slice_str(domains[queue]), SLICE(""));
}

/* What the limits say, and what is true. */
static void
check_permits(void)
{
	if (!sim.permits)
		return;
	sim.permits = false;
	for (int q = 0; q < QUEUES; q++) {
		uint32_t n = 0;

		for (int i = 0; i < JOBS; i++)
			n += sim.jobs[i].used && !sim.jobs[i].errand && sim.mail[sim.jobs[i].mail].queue == q;
		MUST(n <= CONNS_QUEUE, "too many connections of queue %d", q);
		MUST(n == limit_count(shm_area_limits(sim.area), permit(q)), "the permits of queue %d are not exact",
		     q);
	}
}

/* Borrowed mail that finds no permit goes back, own mail waits. */
static bool
no_permit(struct life_sim *l, struct owner_queue *q)
{
	int no = queue_no(q);

	sim.permits = true;
	if (limit_take(shm_area_limits(sim.area), l->slot, permit(no), CONNS_QUEUE))
		return false;
	if (conns_of((int)(l - sim.lives), no) == 0)
		owner_wait(q, sim.now + (owner_queue_borrowed(q) ? S(2) : MS(200)));
	return true;
}

static bool
throttled(struct owner_queue *q)
{
	usec_t oldest = sim.takes[0];

	for (int i = 1; i < RATE; i++)
		oldest = sim.takes[i] < oldest ? sim.takes[i] : oldest;
	if (queue_no(q) != 0 || sim.now - oldest >= S(1))
		return false;
	owner_wait(q, oldest + S(1));
	return true;
}

static void
note_take(int queue)
{
	int oldest = 0;

	if (queue != 0)
		return;
	for (int i = 1; i < RATE; i++)
		oldest = sim.takes[i] < sim.takes[oldest] ? i : oldest;
	MUST(sim.now - sim.takes[oldest] >= S(1), "the rate is exceeded");
	sim.takes[oldest] = sim.now;
}

static enum owner_served
on_ready(void *arg, struct owner_queue *q)
{
	struct life_sim *l = arg;
	int life = (int)(l - sim.lives), no = queue_no(q);
	struct owner_msg *m;

	l->since[no] = 0;
	if (sim.down[no] > sim.now) {
		owner_wait(q, sim.down[no]);
		return OWNER_SERVED;
	}
	while (conns_of(life, no) * (int)owner_queue_hands(q) < CONNS_QUEUE && owner_queue_ready(q) > 0) {
		if (l->conns >= CONNS_OWNER)
			return OWNER_FULL;
		if (throttled(q) || no_permit(l, q))
			break;
		MUST(owner_take(q, 1, &m) == 1, "nothing is ready after all");
		check_order(m);
		note_take(no);
		l->conns++;
		new_job(life, m, false);
	}
	return OWNER_SERVED;
}

static void
on_errand(void *arg, struct owner_msg *m, enum owner_errand what, struct slice reason)
{
	(void)reason;
	MUST(what == OWNER_LOOK_EXPIRY, "an errand that nobody asked for");
	new_job((int)((struct life_sim *)arg - sim.lives), m, true);
}

static bool
on_may_lend(void *arg, struct owner_queue *q)
{
	(void)arg;
	return sim.down[queue_no(q)] <= sim.now;
}

static const struct owner_ops ops = { .queue_ready = on_ready, .errand = on_errand, .may_lend = on_may_lend };

static void
job_over(struct job *j)
{
	struct life_sim *l = &sim.lives[j->life];

	j->used = false;
	if (j->errand)
		return;
	l->conns--;
	sim.permits = true;
	limit_give(shm_area_limits(sim.area), l->slot, permit(sim.mail[j->mail].queue));
	owner_room(l->o);
}

static void
give_back(struct job *j)
{
	struct owner_queue *q = j->m->queue;
	struct owner_msg *m = j->m;

	job_over(j);
	owner_release(m, 0);
	owner_kick(q);
}

static void
check_alone(const struct job *j)
{
	for (int i = 0; i < JOBS; i++)
		MUST(&sim.jobs[i] == j || !sim.jobs[i].used || !sim.jobs[i].open || sim.jobs[i].mail != j->mail,
		     "message %d has two owners", j->mail);
}

static void
decide(struct job *j, enum outcome_kind kind)
{
	uint32_t n = j->m->tries + 1;

	j->kind = kind;
	j->due = kind == OUTCOME_DEFERRED ? sched_next_try(&retry, n, sim.mail[j->mail].received, sim_real()) : 0;
	j->fact = append(j->life,
			 (struct fact){ .what = FACT_END, .mail = j->mail, .n = n, .kind = kind, .due = j->due });
	j->at = SYNCS;
	j->when = sim.now + MS(1 + roll(20));
}

static void
start(struct job *j)
{
	struct mail *m = &sim.mail[j->mail];
	enum sched_fate fate = sched_fate(&retry, j->m->tries, m->received, sim_real());

	if (j->errand && fate == SCHED_GOES_ON) {
		give_back(j);
	} else if (!owner_may_write(j->m)) {
		give_back(j);
	} else {
		j->open = true;
		check_alone(j);
		MUST(m->held_at == 0 || sim.now - m->held_at < S(HELD_BY) || fate != SCHED_GOES_ON,
		     "message %d is held, and begun", j->mail);
		if (fate != SCHED_GOES_ON) { /* policy thinks about the notice: the gate is passed, nothing written */
			j->at = TELLS;
			j->when = sim.now + MS(roll(2) * roll(800));
			return;
		}
		owner_attempted(j->m, append(j->life,
					     (struct fact){ .what = FACT_TRY, .mail = j->mail, .n = j->m->tries + 1 }));
		j->at = WAITS;
		j->when = sim.now + MS(1 + roll(600));
	}
}

static void
dot(struct job *j)
{
	struct mail *m = &sim.mail[j->mail];

	if (!sim.calm && roll(3) == 0) {
		if (roll(3) == 0)
			sim.down[m->queue] = sim.now + S(1 + roll(8));
		decide(j, OUTCOME_DEFERRED);
		return;
	}
	MUST(m->dots == 0 || m->named, "message %d is delivered twice, and not named in doubt", j->mail);
	m->dots++;
	m->named = false;
	decide(j, OUTCOME_DELIVERED);
}

static void
settle(struct job *j)
{
	struct owner_queue *q = j->m->queue;
	struct owner_msg *m = j->m;

	if (outcome_is_final(j->kind))
		sim.mail[j->mail].ended = true;
	seen.borrowed_done += j->borrowed;
	MUST(j->kind != OUTCOME_DEFERRED || j->due > sim_real() - S(1), "deferred into the past");
	job_over(j);
	owner_done(m, j->kind, j->due, j->fact);
	owner_kick(q);
}

static void
run_job(struct job *j)
{
	switch (j->at) {
	case READS:
		start(j);
		break;
	case TELLS:
		decide(j, OUTCOME_EXPIRED);
		break;
	case WAITS:
		dot(j);
		break;
	case SYNCS:
		settle(j);
		break;
	}
}

/* ---- processes */

static int
begin_life(uint32_t generation, int slot)
{
	struct life_sim *l = &sim.lives[sim.n_lives];

	*l = (struct life_sim){ .slot = slot, .alive = true, .generation = generation };
	shm_slot_take(sim.area, slot, ROLE_WORKER, generation, &l->writer);
	slot_set_state(shm_slot(sim.area, slot), SLOT_SERVING);
	l->env = (struct owner_env){
		.area = sim.area, .slot = slot, .writer = l->writer, .generation = generation, .world = &world, .arg = l
	};
	l->o = owner_new(&l->env);
	l->o->lend = (struct lend_policy){ .busy = 200, .gap = 50, .ready = 2, .keep = 0, .most = 12 };
	owner_set_ops(l->o, &ops, l);
	return sim.n_lives++;
}

static void
begin_generation(uint32_t generation)
{
	uint8_t owner[PARTITIONS];
	int slot = generation % 2 == 0 ? 1 : 1 + WORKERS;

	for (int i = 0; i < WORKERS; i++)
		sim.at[i] = begin_life(generation, slot + i);
	for (int p = 0; p < PARTITIONS; p++)
		owner[p] = (uint8_t)(slot + p % WORKERS);
	for (int q = 0; q < QUEUES; q++)
		owner[hash_of(q) % PARTITIONS] = (uint8_t)(slot + q % WORKERS);
	partitions_publish(sim.area, generation, owner);
	sim.generation = generation;
}

static void
note_death(const struct life_sim *l)
{
	const struct partner *p;

	TAILQ_FOREACH (p, &l->o->partners, link) {
		seen.deaths_lending += p->n_lent > 0;
		seen.deaths_borrowing += !TAILQ_EMPTY(&p->borrowed);
	}
}

static void
end_life(int life)
{
	struct life_sim *l = &sim.lives[life];

	for (int i = 0; i < JOBS; i++)
		if (sim.jobs[i].used && sim.jobs[i].life == life)
			sim.jobs[i].used = false;
	for (int i = 0; i < COLD; i++) {
		struct cold *c = &sim.cold[i];

		if (c->used && c->life == life) { /* the look is freed by its own callback */
			if (!c->read)
				c->fn(c->job);
			c->done(c->job);
			c->used = false;
		}
	}
	for (int i = 0; i < COLD; i++) /* also what the last look wrote */
		if (sim.written[i].used && sim.written[i].life == life) {
			sim.written[i].used = false;
			sim.written[i].done(sim.written[i].arg, ERR_EOF, (struct place){ 0, 0 });
		}
	for (int i = 0; i < JOBS; i++) /* what the last look gave */
		if (sim.jobs[i].used && sim.jobs[i].life == life)
			sim.jobs[i].used = false;
	owner_free(&l->o);
	l->alive = false;
	sim.permits = true;
	shm_slot_reap(sim.area, l->slot, 9, false);
}

static bool
has_jobs(int life)
{
	for (int i = 0; i < JOBS; i++)
		if (sim.jobs[i].used && sim.jobs[i].life == life)
			return true;
	return false;
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

static bool
slots_free(uint32_t generation)
{
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].alive && sim.lives[i].generation % 2 == generation % 2)
			return false;
	return true;
}

static void
trouble(void)
{
	int life = (int)roll((uint64_t)sim.n_lives);

	sim.trouble = sim.now + S(2 + roll(10));
	if (sim.n_lives + WORKERS > LIVES || sim.calm)
		return;
	if (roll(3) > 0) {
		while (!sim.lives[life].alive)
			life = (int)roll((uint64_t)sim.n_lives);
		dies(life);
	} else if (slots_free(sim.generation + 1)) { /* a reload */
		begin_generation(sim.generation + 1);
		for (int i = 0; i < sim.n_lives; i++) {
			struct life_sim *l = &sim.lives[i];

			if (!l->alive || l->draining || l->generation == sim.generation)
				continue;
			seen.drained_lent += l->o->n_lent > 0;
			l->draining = true;
			slot_set_state(shm_slot(sim.area, l->slot), SLOT_DRAINING);
			owner_drain(l->o, NULL, NULL);
		}
	}
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
	if (e == OK && d.kind == OWNER_VERB_HOLD && d.n == sim.mail[d.mail].orders)
		sim.mail[d.mail].held_at = sim.now;
}

static void
order(int mail, enum owner_verb_kind kind)
{
	struct order *d = mem_alloc(sizeof *d);
	struct mail *m = &sim.mail[mail];
	struct owner_mem *mem = mem_find(sim.lives[sim.at[m->queue % WORKERS]].o, m->id);

	seen.held_lent += mem != NULL && mem->state == MSG_LENT;
	*d = (struct order){ mail, ++m->orders, kind };
	if (kind != OWNER_VERB_HOLD)
		m->held_at = 0;
	owner_verb(sim.lives[sim.at[m->queue % WORKERS]].o,
		   &(struct owner_verb){ .kind = kind, .id_lo = m->id, .id_hi = m->id }, on_ordered, d);
}

static void
verb(void)
{
	static const enum owner_verb_kind kinds[] = { OWNER_VERB_HOLD, OWNER_VERB_RELEASE, OWNER_VERB_RETRY };

	sim.verb = sim.now + MS(roll(1500));
	if (sim.mails > 0)
		order((int)roll((uint64_t)sim.mails), kinds[roll(3)]);
}

/* How busy everybody is. */
static void
mood(void)
{
	sim.mood = sim.now + MS(50 + roll(800));
	for (int i = 0; i < sim.n_lives; i++) {
		struct life_sim *l = &sim.lives[i];

		if (l->alive)
			slot_set(shm_slot(sim.area, l->slot), CELL_LOOP_LOAD, (int64_t)roll(1000));
	}
}

/* Late news, or twice: of any message, in any state. */
static void
tell(const struct mail *m)
{
	struct owner_news n = { .id = m->id,
				.place = m->place,
				.priority = m->priority,
				.received_at = m->received,
				.binding = SLICE("out"),
				.domain = slice_str(domains[m->queue]) };

	owner_tell(sim.lives[sim.at[roll(WORKERS)]].o, &n);
}

static void
arrive(void)
{
	struct mail *m = &sim.mail[sim.mails];

	sim.arrival = sim.now + MS(roll(8) > 0 ? roll(60) : roll(3500)); /* in bursts */
	if (sim.mails == MAILS)
		return;
	*m = (struct mail){ .id = id_at(sim_real()) + (msgid_t)sim.mails + 1,
			    .queue = roll(2) == 0 ? HOT : (int)roll(QUEUES),
			    .priority = roll(8) == 0,
			    .received = sim_real(),
			    .accepted = true };
	m->place = append(sim.at[roll(WORKERS)], (struct fact){ .what = FACT_MAIL, .mail = sim.mails });
	sim.mails++;
	if (roll(4) > 0)
		tell(m);
	if (roll(2) == 0)
		tell(&sim.mail[roll((uint64_t)sim.mails)]);
}

/* ---- time */

static void
sooner(usec_t *next, usec_t at)
{
	if (at < *next)
		*next = at;
}

static usec_t
next_event(void)
{
	usec_t next = sim.keeper;

	sooner(&next, sim.arrival);
	sooner(&next, sim.trouble);
	sooner(&next, sim.verb);
	sooner(&next, sim.mood);
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL)
			sooner(&next, sim.lives[i].hears);
	for (int i = 0; i < JOBS; i++)
		if (sim.jobs[i].used)
			sooner(&next, sim.jobs[i].when);
	for (int i = 0; i < COLD; i++) {
		if (sim.cold[i].used)
			sooner(&next, sim.cold[i].when);
		if (sim.written[i].used)
			sooner(&next, sim.written[i].when);
	}
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL)
			sooner(&next, owner_next(sim.lives[i].o));
	return next;
}

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
check_starving(struct life_sim *l)
{
	struct owner_queue *q;

	if (l->draining)
		return;
	for (q = queues_next(l->o, NULL); q != NULL; q = queues_next(l->o, q)) {
		int no = queue_no(q);
		bool showable =
			q->sched.n_ready > 0 && !q->sched.suspended && q->sched.wait_until == 0 && q->sched.in_round;

		if (!showable)
			l->since[no] = 0;
		else if (l->since[no] == 0)
			l->since[no] = sim.now;
		MUST(l->since[no] == 0 || sim.now - l->since[no] < S(PATIENCE), "queue %d starves", no);
	}
}

/* Somebody owns it and nothing hinders: then it ends soon after its deadline. */
static void
check_deadlines(void)
{
	if (sim.now - sim.checked < MS(100))
		return;
	sim.checked = sim.now;
	for (int i = 0; i < sim.mails; i++)
		MUST(sim.mail[i].ended || sim_real() < sched_deadline(&retry, sim.mail[i].received) + S(40),
		     "message %d outlives its deadline", i);
}

/* The bells: sometimes late, and some of what was said is lost. */
static void
hear(void)
{
	struct hint h;

	for (int i = 0; i < sim.n_lives; i++) {
		if (sim.lives[i].o == NULL || sim.lives[i].hears > sim.now)
			continue;
		sim.lives[i].hears = sim.now + MS(10 + roll(100));
		if (roll(12) == 0 && inbox_take(sim.area, sim.lives[i].slot, &h, NULL))
			seen.lost_loans += h.kind != HINT_MESSAGE;
		owner_on_doorbell(sim.lives[i].o);
	}
}

static void
step(void)
{
	usec_t next = next_event();

	sim.now = next > sim.now ? next : sim.now + 1;
	for (int i = 0; i < COLD; i++) {
		if (sim.cold[i].used && sim.cold[i].when <= sim.now)
			run_cold(&sim.cold[i]);
		if (sim.written[i].used && sim.written[i].when <= sim.now) {
			sim.written[i].used = false;
			sim.written[i].done(sim.written[i].arg, OK, sim.written[i].place);
		}
	}
	for (int i = 0; i < JOBS; i++)
		if (sim.jobs[i].used && sim.jobs[i].when <= sim.now)
			run_job(&sim.jobs[i]);
	if (sim.keeper <= sim.now)
		keeper();
	if (sim.arrival <= sim.now)
		arrive();
	if (sim.trouble <= sim.now)
		trouble();
	if (sim.verb <= sim.now)
		verb();
	if (sim.mood <= sim.now)
		mood();
	hear();
	for (int i = 0; i < sim.n_lives; i++) {
		struct life_sim *l = &sim.lives[i];

		if (l->o == NULL)
			continue;
		owner_run(l->o);
		check_starving(l);
		MUST(l->conns <= CONNS_OWNER, "too many connections");
		if (l->draining && !has_jobs(i))
			end_life(i);
	}
	check_deadlines();
	check_permits();
}

static bool
all_ended(void)
{
	for (int i = 0; i < sim.mails; i++)
		if (!sim.mail[i].ended)
			return false;
	return true;
}

static long
on_loan(void)
{
	long n = 0;

	for (int i = 0; i < sim.n_lives; i++)
		n += sim.lives[i].o == NULL ? 0 : (long)sim.lives[i].o->n_lent;
	return n;
}

/* Begins at `now`: monotonic time never steps back, and the roll remembers those of earlier seeds. Gives the end. */
static usec_t
one_seed(uint64_t seed, struct shm_area *area, usec_t now)
{
	uint64_t real = UINT64_C(1700000000) * 1000000;

	memset(&sim, 0, sizeof sim);
	sim = (struct sim){ .seed = seed,
			    .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1,
			    .real = (usec_t)real - now,
			    .now = now,
			    .area = area };
	for (int i = 0; i < RATE; i++)
		sim.takes[i] = now - S(10);
	for (int i = 0; i < SLOTS_MAX; i++)
		inbox_clear(area, i);
	sim.keeper = sim.arrival = sim.verb = sim.mood = sim.now;
	sim.trouble = sim.now + S(2 + roll(10));
	begin_generation(1);
	while (sim.now < now + S(LASTS))
		step();
	sim.calm = true;
	sim.arrival = sim.trouble = sim.verb = INT64_MAX;
	for (int i = 0; i < sim.mails; i++)
		if (!sim.mail[i].ended)
			order(i, OWNER_VERB_RELEASE);
	while (!all_ended() || on_loan() > 0) {
		step();
		MUST(sim.now < now + S(LASTS + 120), "not all of the mail ends, or comes back");
	}
	for (int i = 1; i <= 2 * WORKERS; i++)
		seen.lent += slot_get(shm_slot(area, i), CELL_LENT);
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL)
			end_life(i);
	return sim.now + S(10);
}

static void
seeds(void **state)
{
	const char *n = getenv("SIM_SEEDS"), *first = getenv("SIM_FIRST");
	uint64_t from = first == NULL ? 1 : strtoull(first, NULL, 10), count = n == NULL ? 1000 : strtoull(n, NULL, 10);
	struct shm_area *area = shm_area_new();
	usec_t now = S(10);

	(void)state;
	assert_non_null(area);
	log_set_level(LOG_LVL_FATAL);
	clock_set_source(sim_mono, sim_real);
	for (uint64_t s = from; s < from + count; s++)
		now = one_seed(s, area, now);
	clock_set_source(NULL, NULL);
	fprintf(stderr,
		"lent %ld, done by borrowers %ld, deaths of lenders %ld, of borrowers %ld, loan hints lost %ld, "
		"verbs about lent %ld, drains of lenders %ld\n",
		seen.lent, seen.borrowed_done, seen.deaths_lending, seen.deaths_borrowing, seen.lost_loans,
		seen.held_lent, seen.drained_lent);
	if (count >= 100) {
		assert_true(seen.borrowed_done > (long)count);
		assert_true(seen.deaths_lending > 0 && seen.deaths_borrowing > 0 && seen.lost_loans > 0);
		assert_true(seen.held_lent > 0 && seen.drained_lent > 0);
	}
	shm_area_free(&area);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(seeds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
