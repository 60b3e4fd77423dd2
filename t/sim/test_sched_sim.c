/* A day in seconds: two workers a generation that own queues and lend to each other, a keeper that lags, a network that
 * refuses, stalls and forgets, an operator who holds and releases, and a clock that only this file moves. The owners and
 * their schedule are the real ones; journals and map are arrays here. Each seed is one run; SIM_SEEDS says how many
 * (default 1,000), SIM_FIRST which is the first. Seen to at every step: one owner; no second delivery that was not named
 * in doubt; order within a queue and priority, also of what is lent; no rate and no connection limit exceeded, over all
 * workers of all generations; nobody starves; nothing outlives its deadline; what is held stays; and at the end every
 * message has ended and nothing is on loan, whatever hints were lost and whoever died. */
enum {
	MAILS = 150,
	QUEUES = 4,
	PAGE_ROWS = 3,
	HOT = 2, /* the queue that most of the mail is for */
	WORKERS = 2,
	LIVES = 14,
	JOBS = 64,
	CONNS_QUEUE = 3, /* over all workers */
	CONNS_OWNER = 4,
	RATE = 5,     /* takes a second of queue 0 */
	LASTS = 40,   /* seconds of trouble */
	PATIENCE = 8, /* seconds after which a queue with ready mail counts as starved */
	HELD_BY = 15, /* seconds after which what was held is begun by nobody any more */
};

#include "t/sim/sim_life.h"

static const struct sched_retry retry = {
	.retry_interval = 2, .max_retry_interval = 8, .message_expiration = 25, .max_retries = SCHED_RETRIES_ANY
};
static const struct queue_names names[QUEUES] = {
	{ "out", "a.test" }, { "out", "b.test" }, { "out", "c.test" }, { "out", "d.test" }
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

static struct { /* what delivery is here, and a network that is up or down */
	struct job jobs[JOBS];
	int conns[LIVES];
	usec_t down[QUEUES]; /* the host answers nothing until then */
	usec_t takes[RATE];  /* of queue 0, the latest */
	usec_t checked;
	bool permits; /* somebody took or gave one */
} hands;

static struct sched_retry
retry_of(int queue)
{
	(void)queue;
	return retry;
}

static bool
in_hands(int mail)
{
	(void)mail;
	return false;
}

/* ---- delivery */

static void
new_job(int life, struct owner_msg *m, bool errand)
{
	struct mail *mail = &sim.mail[mail_no(m->id)];

	for (int i = 0; i < JOBS; i++) {
		if (hands.jobs[i].used)
			continue;
		hands.jobs[i] = (struct job){ .used = true,
					      .life = life,
					      .m = m,
					      .mail = mail_no(m->id),
					      .when = sim.now + MS(1 + roll(roll(8) == 0 ? 4000 : 100)),
					      .errand = errand, /* a cold body */
					      .borrowed = owner_queue_borrowed(m->queue) };
		m->role = &hands.jobs[i];
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
		n += hands.jobs[i].used && hands.jobs[i].life == life && !hands.jobs[i].errand &&
		     sim.mail[hands.jobs[i].mail].queue == queue;
	return n;
}

static uint64_t
permit(int queue)
{
	return limit_key("sim", slice_str(names[queue].domain), SLICE(""));
}

/* What the limits say, and what is true. */
static void
check_permits(void)
{
	if (!hands.permits)
		return;
	hands.permits = false;
	for (int q = 0; q < QUEUES; q++) {
		uint32_t n = 0;

		for (int i = 0; i < JOBS; i++)
			n += hands.jobs[i].used && !hands.jobs[i].errand && sim.mail[hands.jobs[i].mail].queue == q;
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

	hands.permits = true;
	if (limit_take(shm_area_limits(sim.area), l->slot, permit(no), CONNS_QUEUE))
		return false;
	if (conns_of((int)(l - sim.lives), no) == 0)
		owner_wait(q, sim.now + (owner_queue_borrowed(q) ? S(2) : MS(200)));
	return true;
}

static bool
throttled(struct owner_queue *q)
{
	usec_t oldest = hands.takes[0];

	for (int i = 1; i < RATE; i++)
		oldest = hands.takes[i] < oldest ? hands.takes[i] : oldest;
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
		oldest = hands.takes[i] < hands.takes[oldest] ? i : oldest;
	MUST(sim.now - hands.takes[oldest] >= S(1), "the rate is exceeded");
	hands.takes[oldest] = sim.now;
}

static enum owner_served
on_ready(void *arg, struct owner_queue *q)
{
	struct life_sim *l = arg;
	int life = (int)(l - sim.lives), no = queue_no(q);
	struct owner_msg *m;

	l->standing[no] = (struct standing){ .stands = false };
	if (hands.down[no] > sim.now) {
		owner_wait(q, hands.down[no]);
		return OWNER_SERVED;
	}
	while (conns_of(life, no) * (int)owner_queue_hands(q) < CONNS_QUEUE && owner_queue_ready(q) > 0) {
		if (hands.conns[l - sim.lives] >= CONNS_OWNER)
			return OWNER_FULL;
		if (throttled(q) || no_permit(l, q))
			break;
		MUST(owner_take(q, 1, &m) == 1, "nothing is ready after all");
		check_order(m);
		note_take(no);
		hands.conns[l - sim.lives]++;
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
	return hands.down[queue_no(q)] <= sim.now;
}

static const struct owner_ops ops = { .queue_ready = on_ready, .errand = on_errand, .may_lend = on_may_lend };

static void
job_over(struct job *j)
{
	struct life_sim *l = &sim.lives[j->life];

	j->used = false;
	if (j->errand)
		return;
	hands.conns[l - sim.lives]--;
	hands.permits = true;
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
		MUST(&hands.jobs[i] == j || !hands.jobs[i].used || !hands.jobs[i].open || hands.jobs[i].mail != j->mail,
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
		if (fate == SCHED_GOES_ON)
			check_held(j->mail, S(HELD_BY));
		if (fate != SCHED_GOES_ON) { /* policy thinks about the notice: the gate is passed, nothing written */
			j->at = TELLS;
			j->when = sim.now + MS(roll(2) * roll(800));
			return;
		}
		owner_attempted(j->m, append(j->life, (struct fact){ .what = FACT_TRY,
								     .mail = j->mail,
								     .n = j->m->tries + 1,
								     .due = sim_real() }));
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
			hands.down[m->queue] = sim.now + S(1 + roll(8));
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

static void
life_begun(int life)
{
	owner_set_ops(sim.lives[life].o, &ops, &sim.lives[life]);
	hands.conns[life] = 0;
}

static void
life_ends(int life)
{
	for (int i = 0; i < JOBS; i++)
		if (hands.jobs[i].used && hands.jobs[i].life == life)
			hands.jobs[i].used = false;
	hands.permits = true;
}

static bool
has_jobs(int life)
{
	for (int i = 0; i < JOBS; i++)
		if (hands.jobs[i].used && hands.jobs[i].life == life)
			return true;
	return false;
}

static void
trouble(void)
{
	sim.trouble = sim.now + S(2 + roll(10));
	if (sim.n_lives + WORKERS > LIVES || sim.calm)
		return;
	if (roll(3) > 0)
		somebody_dies();
	else
		reload(2, NULL);
}

static void
verb(void)
{
	static const enum owner_verb_kind kinds[] = { OWNER_VERB_HOLD, OWNER_VERB_RELEASE, OWNER_VERB_RETRY };

	sim.verb = sim.now + MS(roll(1500));
	if (sim.mails > 0)
		order((int)roll((uint64_t)sim.mails), kinds[roll(3)]);
}

static void
arrive(void)
{
	struct mail *m;

	sim.arrival = sim.now + MS(roll(8) > 0 ? roll(60) : roll(3500)); /* in bursts */
	if (sim.mails == MAILS)
		return;
	m = mail_new(id_at(sim_real()) + (msgid_t)sim.mails + 1, roll(2) == 0 ? HOT : (int)roll(QUEUES));
	m->priority = roll(8) == 0;
	m->place = append(sim.at[roll(WORKERS)], (struct fact){ .what = FACT_MAIL, .mail = (int)(m - sim.mail) });
	if (roll(4) > 0)
		tell(m);
	if (roll(2) == 0)
		tell(&sim.mail[roll((uint64_t)sim.mails)]);
}

/* ---- time */

static usec_t
next_event(void)
{
	usec_t next = sim.keeper;

	sooner(&next, sim.arrival);
	sooner(&next, sim.trouble);
	sooner(&next, sim.verb);
	sooner(&next, sim.mood);
	bells_next(&next);
	for (int i = 0; i < JOBS; i++)
		if (hands.jobs[i].used)
			sooner(&next, hands.jobs[i].when);
	world_next(&next);
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL)
			sooner(&next, owner_next(sim.lives[i].o));
	return next;
}

/* Somebody owns it and nothing hinders: then it ends soon after its deadline. */
static void
check_deadlines(void)
{
	if (sim.now - hands.checked < MS(100))
		return;
	hands.checked = sim.now;
	for (int i = 0; i < sim.mails; i++)
		MUST(sim.mail[i].ended || sim_real() < deadline_of(&sim.mail[i]) + S(40),
		     "message %d outlives its deadline", i);
}

static void
step(void)
{
	usec_t next = next_event();

	sim.now = next > sim.now ? next : sim.now + 1;
	run_world_due();
	for (int i = 0; i < JOBS; i++)
		if (hands.jobs[i].used && hands.jobs[i].when <= sim.now)
			run_job(&hands.jobs[i]);
	if (sim.keeper <= sim.now) {
		keeper();
		sim.keeper = sim.now + MS(5 + roll(sim.calm ? 50 : 2500));
	}
	if (sim.arrival <= sim.now)
		arrive();
	if (sim.trouble <= sim.now)
		trouble();
	if (sim.verb <= sim.now)
		verb();
	if (sim.mood <= sim.now) {
		moods();
		sim.mood = sim.now + MS(50 + roll(800));
	}
	hear();
	for (int i = 0; i < sim.n_lives; i++) {
		struct life_sim *l = &sim.lives[i];

		if (l->o == NULL)
			continue;
		owner_run(l->o);
		check_starving(l, hands.conns[i] >= CONNS_OWNER, S(PATIENCE));
		MUST(hands.conns[l - sim.lives] <= CONNS_OWNER, "too many connections");
		if (l->draining && !has_jobs(i))
			end_life(i);
	}
	check_deadlines();
	check_permits();
}

/* Begins at `now`: monotonic time never steps back, and the roll remembers those of earlier seeds. Gives the end. */
static usec_t
one_seed(uint64_t seed, struct shm_area *area, usec_t now)
{
	begin_world(seed, area, now);
	memset(&hands, 0, sizeof hands);
	for (int i = 0; i < RATE; i++)
		hands.takes[i] = now - S(10);
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
	end_world();
	return sim.now + S(10);
}

static void
seeds(void **state)
{
	uint64_t from, count;
	struct shm_area *area = shm_area_new();
	usec_t now = S(10);

	(void)state;
	assert_non_null(area);
	begin_simulation("SIM_SEEDS", "SIM_FIRST", 1000, &from, &count);
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

/* ---- two orders about what a borrower has brought to an end, while the map has not heard of the end */

static void
turns(int n, const struct life_sim *folded)
{
	for (int i = 0; i < n; i++) {
		sim.now += MS(20);
		run_world_due();
		for (int j = 0; j < JOBS; j++)
			if (hands.jobs[j].used && hands.jobs[j].when <= sim.now)
				run_job(&hands.jobs[j]);
		if (folded != NULL)
			fold_life(&sim.lives[folded - sim.lives]);
		sim.commits++;
		hear();
		for (int w = 0; w < WORKERS; w++) {
			owner_on_doorbell(sim.lives[sim.at[w]].o);
			owner_run(sim.lives[sim.at[w]].o);
		}
	}
}

/* Of the owner that can begin nothing itself, so that the other has all of it. */
static void
lend_two(void)
{
	struct life_sim *owner = owner_of(HOT), *borrower = &sim.lives[sim.at[1]];

	hands.conns[owner - sim.lives] = CONNS_OWNER;
	slot_set(shm_slot(sim.area, owner->slot), CELL_LOOP_LOAD, 1000);
	slot_set(shm_slot(sim.area, borrower->slot), CELL_LOOP_LOAD, 0);
	for (int i = 0; i < 2; i++) {
		struct mail *m = mail_new(id_at(sim_real()) + (msgid_t)i + 1, HOT);

		m->place = append((int)(owner - sim.lives), (struct fact){ .what = FACT_MAIL, .mail = i });
		owner_tell(owner->o, &(struct owner_news){ .id = m->id,
							   .place = m->place,
							   .received_at = m->received,
							   .binding = slice_str(names[HOT].binding),
							   .domain = slice_str(names[HOT].domain) });
	}
	turns(400, owner);
}

static void
two_orders(void **state)
{
	struct shm_area *area = shm_area_new();
	uint64_t from, count;

	(void)state;
	begin_simulation("SIM_SEEDS", "SIM_FIRST", 1, &from, &count);
	begin_world(2, area, S(10));
	memset(&hands, 0, sizeof hands);
	for (int i = 0; i < RATE; i++)
		hands.takes[i] = sim.now - S(10);
	sim.calm = true;
	begin_generation(1);
	turns(100, NULL);
	lend_two();
	assert_true(sim.mail[0].ended && sim.mail[1].ended);
	assert_false(sim.mail[0].over); /* the borrower's journal is read by nobody */
	order(0, OWNER_VERB_RETRY);
	order(0, OWNER_VERB_FAIL);
	turns(200, owner_of(HOT)); /* on_errand would have it failed after all */
	assert_int_equal(sim.mail[0].fate, ROW_FAIL);
	turns(200, &sim.lives[sim.at[1]]);
	assert_true(sim.mail[0].over && sim.mail[1].over);
	assert_int_equal(sim.mail[0].dots, 1);
	end_world();
	begin_world(0, area, sim.now); /* frees what is left of it */
	clock_set_source(NULL, NULL);
	shm_area_free(&area);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(two_orders), cmocka_unit_test(seeds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
