/* year_check.h - what test_year_sim.c sees to: some of it where it happens, the rest at every step
 * one owner             only who has taken a message sends it and writes about it, and nobody else has it begun
 * no second delivery    that was not named in doubt
 * expiry                nothing is put off at its deadline or later, expires before it, or outlives it for long
 * throttles, limits     over all processes: a rate's window, connections of a queue, a binding and the server, whose
 *                       permits are exactly as many as there are connections, and messages in one process's hands
 * a next time           what is put off has one within the schedule's bounds; what is due is taken; what is in hand ends
 * order                 in a queue and priority, when taken and when sent
 * nobody starves        a queue that may be shown is shown
 * the operator          what is held or suspended stays, what is failed ends */
#ifndef T_SIM_YEAR_CHECK_H
#define T_SIM_YEAR_CHECK_H

#include "t/sim/year_world.h"

enum {
	PATIENCE = 60,   /* s after which a queue with ready mail counts as starved */
	RIPE = 6 * 3600, /* s after which a due message must have been taken */
	HELD = 6 * 3600, /* s after which one that was taken must be given back or ended */
	LATE = 2 * 3600, /* s after its deadline at which a message must have ended */
	OBEYED = 120,    /* s after which nothing that is held is begun: recalls may be lost */
};

static bool
is_suspended(int life, int queue)
{
	const char *b = names[queue].binding;

	return (b[0] == 'b' && year.suspended[b[1] - '1']) || conf_bool(view_of(life, queue), OPT_SUSPEND_DELIVERY);
}

/* ---- when it is taken */

/* At most n in a window that begins with its first. */
static void
check_throttle(int life, int queue)
{
	const struct conf_view *v = view_of(life, queue);
	struct conf_rate rate = conf_rate(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
	uint64_t origin = conf_origin(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
	struct window *w = NULL;

	if (rate.n == 0)
		return;
	for (int i = 0; i < ORIGINS && w == NULL; i++)
		if (year.windows[i].origin == origin || year.windows[i].begun == 0)
			w = &year.windows[i];
	MUST(w != NULL, "more throttles than were configured");
	if (w->begun == 0 || sim.now - w->begun >= S(rate.seconds))
		*w = (struct window){ origin, sim.now, 0 };
	MUST(++w->n <= rate.n, "the throttle is exceeded: %u in %u s", w->n, rate.seconds);
}

/* No more in one process's hands than its share; errands come on top. */
static void
check_resident(int life)
{
	int64_t most = conf_int(conf_global(conf_of(life)), OPT_MAX_RESIDENT_MESSAGES);
	const struct delivery *d = year.workers[life].d;
	const struct dqueue *q;
	unsigned errands = 0;

	TAILQ_FOREACH (q, &d->queues, link)
		errands += q->errands;
	MUST(most == 0 || d->njobs <= (most + WORKERS - 1) / WORKERS + errands, "%u messages in hand, where %d may be",
	     d->njobs, (int)most);
}

static void
on_taken(int life, int no)
{
	const struct mail *m = &sim.mail[no];
	struct hand *h = &year.hand[no];
	struct owner_mem *mem = mem_find(sim.lives[life].o, m->id);

	MUST(mem != NULL, "delivery has a message that its owner has not");
	h->errand = mem->errand;
	if (!h->errand) {
		MUST(!is_suspended(life, m->queue), "message %d of a suspended queue is taken", no);
		check_order(&mem->msg);
		check_throttle(life, m->queue);
		check_resident(life);
	}
	h->holder = life;
	h->loaded = h->sent = h->on_disk = false;
	h->turn = ++year.turns;
	h->since = sim.now;
	sim.mail[no].named = m->named || mem->msg.doubtful;
}

/* ---- when it is sent */

/* Ready for a connection, in the same hands. One whose outcome is on its way to the disk is ready no more. */
static bool
stands_ready(int life, int no)
{
	const struct hand *h = &year.hand[no];
	struct owner_mem *mem;

	if (h->holder != life || !h->loaded || h->sent || h->errand)
		return false;
	mem = mem_find(sim.lives[life].o, sim.mail[no].id);
	return mem != NULL && mem->msg.role != NULL && ((struct job *)mem->msg.role)->state == JOB_WAITING;
}

/* Of what was taken before it and stands ready nothing is left behind. One that came back from a connection which had
 * ended goes to the end. */
static void
check_overtaking(int life, int no)
{
	const struct mail *m = &sim.mail[no];

	for (int i = 0; i < sim.n_live && !year.hand[no].sent; i++) {
		int other = sim.live[i];

		MUST(sim.mail[other].queue != m->queue || year.hand[other].turn >= year.hand[no].turn ||
			     sim.mail[other].priority < m->priority || !stands_ready(life, other),
		     "message %d overtakes %d", no, other);
	}
}

/* What was revoked while it waited may still be offered: the gate is before the first record about it. */
static void
on_send(int life, int no, const struct dconn *c)
{
	const struct mail *m = &sim.mail[no];
	struct owner_mem *mem = mem_find(sim.lives[life].o, m->id);

	MUST(mem != NULL, "message %d is sent by who has it not", no);
	MUST(c->q->binding.n > 0 && hash_of(m->queue) == owner_queue_hash(c->q->oq),
	     "sent on another queue's connection");
	if (mem->revoked)
		return;
	MUST(year.hand[no].holder == life && year.hand[no].loaded, "message %d is sent by who has it not", no);
	check_overtaking(life, no);
	year.hand[no].sent = true;
}

/* Open connections that count with this one: of its queue, of its binding, of the server. */
static void
on_connect(int life, const struct dconn *c)
{
	const struct conf_view *v = conf_sending(conf_of(life), c->q->binding, c->q->domain);
	int64_t max = conf_int(v, OPT_MAX_OUTBOUND_CONNECTIONS),
		of_server = conf_int(conf_global(conf_of(life)), OPT_SERVER_MAX_OUTBOUND_CONNECTIONS);
	int queue = 0, binding = 0, all = 0;

	for (int i = 0; i < CLIENTS; i++) {
		const struct dconn *other = year.clients[i].used ? year.clients[i].arg : NULL;
		bool same = other != NULL && slice_eq(other->q->binding, c->q->binding);

		all += other != NULL;
		binding += same;
		queue += same && slice_eq(other->q->domain, c->q->domain);
	}
	MUST(max < 0 || queue <= max, "%d connections of a queue, where %d may be", queue, (int)max);
	MUST(all <= of_server, "%d connections, where %d may be", all, (int)of_server);
	if (slice_eq(c->q->binding, SLICE("b1")))
		MUST(binding <= conf_int(v, OPT_SERVER_MAX_OUTBOUND_CONNECTIONS), "%d connections of binding b1",
		     binding);
}

/* Connections of a queue, of all processes, with those that look for their host. */
static unsigned
connections_of(int queue)
{
	unsigned n = 0;

	for (int i = 0; i < sim.n_open; i++) {
		const struct delivery *d = year.workers[sim.open[i]].d;
		const struct dqueue *q;

		if (d == NULL)
			continue;
		TAILQ_FOREACH (q, &d->queues, link)
			if (owner_queue_hash(q->oq) == hash_of(queue))
				n += q->nconns;
	}
	return n;
}

/* What the limits count, and what is true. */
static void
check_permits(void)
{
	struct shm_limits *limits = shm_area_limits(sim.area);
	unsigned all = 0, b1 = 0;

	if (!year.permits)
		return;
	year.permits = false;
	for (int q = 0; q < QUEUES; q++) {
		struct slice binding = slice_str(names[q].binding);
		unsigned n = connections_of(q);

		MUST(n == limit_count(limits, limit_key("binding_domain", binding, slice_str(names[q].domain))),
		     "the permits of queue %d are not exact", q);
		all += n;
		b1 += slice_eq(binding, SLICE("b1")) ? n : 0;
	}
	MUST(b1 == limit_count(limits, limit_key("binding", SLICE("b1"), SLICE(""))),
	     "the permits of binding b1 are not exact");
	MUST(all == limit_count(limits, limit_key("outbound", SLICE(""), SLICE(""))),
	     "the permits of the server are not exact");
}

/* ---- when something is written about it */

static void
check_alone(int life, int no)
{
	const struct hand *h = &year.hand[no];

	MUST(h->opener < 0 || h->opener == life, "message %d has two owners", no);
	MUST(h->holder == life, "message %d is written about by who has it not", no);
	MUST(!sim.mail[no].ended, "message %d has ended, and is tried", no);
	for (int i = 0; i < sim.n_open; i++) {
		struct spool_owner *o = sim.open[i] == life ? NULL : sim.lives[sim.open[i]].o;
		struct owner_mem *mem = o == NULL ? NULL : mem_find(o, sim.mail[no].id);

		MUST(mem == NULL || mem->state != MSG_OPEN, "message %d has two owners", no);
	}
}

static void
on_attempt(int life, int no)
{
	check_alone(life, no);
	check_held(no, S(OBEYED));
	year.hand[no].opener = life;
}

static void
on_dot(int life, int no)
{
	struct mail *m = &sim.mail[no];

	MUST(year.hand[no].opener == life && year.hand[no].on_disk, "the dot of message %d left before its attempt",
	     no);
	MUST(m->dots == 0 || m->named, "message %d is delivered twice, and not named in doubt", no);
	m->dots++;
	m->named = false;
}

/* A next time: after now, before the end, and within what the schedule may say. */
static void
check_next_time(int no, const struct sched_retry *retry, usec_t next)
{
	usec_t real = sim_real(), deadline = deadline_by(retry, sim.mail[no].received);
	uint32_t longest =
		retry->max_retry_interval > retry->retry_interval ? retry->max_retry_interval : retry->retry_interval;

	MUST(next >= real, "message %d is deferred into the past", no);
	MUST(next <= real + S(longest) && (next <= deadline || deadline < real),
	     "message %d has no next time before it expires", no);
}

static long seen_last_moments; /* answers at a deadline, by which a message expired */

static void
on_outcome(int life, int no, const struct spool_outcome *o)
{
	struct sched_retry retry = retries[year.workers[life].variant][sim.mail[no].queue];
	usec_t deadline = deadline_by(&retry, sim.mail[no].received);
	uint32_t most = retry.max_retries < 0 ? UINT32_MAX : (uint32_t)retry.max_retries;
	bool tried_enough = o->n > most;

	check_alone(life, no);
	year.hand[no].opener = -1;
	seen_last_moments += o->kind == OUTCOME_EXPIRED && sim_real() == deadline;
	seen.borrowed_done += owner_queue_borrowed(mem_find(sim.lives[life].o, sim.mail[no].id)->msg.queue);
	MUST(o->kind != OUTCOME_DEFERRED || sim_real() < deadline, "message %d is put off past its deadline", no);
	MUST(o->kind != OUTCOME_EXPIRED || sim_real() >= deadline || tried_enough,
	     "message %d expires before its deadline", no);
	MUST(o->kind != OUTCOME_DEFERRED || !tried_enough, "message %d is put off after its last try", no);
	if (o->kind == OUTCOME_DEFERRED || o->kind == OUTCOME_DOUBTFUL)
		check_next_time(no, &retry, o->next_due);
}

/* ---- at every step */

/* Whoever had it has given it back: its owner has it no more in delivery's hands. */
static void
see_holder(int no)
{
	struct hand *h = &year.hand[no];
	struct owner_mem *mem;

	if (h->holder < 0)
		return;
	mem = mem_find(sim.lives[h->holder].o, sim.mail[no].id);
	if (mem != NULL && (mem->state == MSG_TAKEN || mem->state == MSG_OPEN))
		return;
	h->holder = -1;
	h->since = 0;
}

/* In hand, it ends or comes back; else it is taken when it is due, unless somebody wants it to stay. */
static void
check_moves(int no)
{
	const struct mail *m = &sim.mail[no];
	struct hand *h = &year.hand[no];

	if (h->holder >= 0)
		MUST(sim.now - h->since < S(HELD), "message %d is held and nothing becomes of it", no);
	else if (sim_real() < m->due || m->held || is_suspended(sim.at[m->queue % WORKERS], m->queue))
		h->since = 0;
	else if (h->since == 0)
		h->since = sim.now;
	else
		MUST(sim.now - h->since < S(RIPE),
		     "message %d of queue %d, tried %u times, is due, and nobody takes it", no, m->queue, m->tries);
}

static void
check_mail(int no)
{
	const struct mail *m = &sim.mail[no];
	struct hand *h = &year.hand[no];

	see_holder(no);
	if (m->ended)
		return;
	check_moves(no);
	MUST(m->failed_at == 0 || sim.now - m->failed_at < S(RIPE), "message %d was failed, and has not ended", no);
	if (sim_real() < deadline_of(m))
		h->late = 0;
	else if (h->late == 0)
		h->late = sim.now;
	MUST(h->late == 0 || sim.now - h->late < S(LATE), "message %d outlives its deadline", no);
}

static void
check_step(void)
{
	for (int i = 0; i < sim.n_live; i++)
		check_mail(sim.live[i]);
	check_permits();
}

#endif
