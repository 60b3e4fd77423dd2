#include "spool/sched.h"

#include "shm/base/log.h"

/* ---- the retry schedule */

usec_t
sched_deadline(const struct sched_retry *r, usec_t received)
{
	return r->message_expiration == 0 ? INT64_MAX : received + (usec_t)r->message_expiration * USEC_PER_SEC;
}

/* Seconds between the try-th attempt and the next. */
static uint64_t
interval(const struct sched_retry *r, uint32_t tries)
{
	uint64_t s = r->retry_interval == 0 ? 1 : r->retry_interval;
	uint64_t cap = r->max_retry_interval == 0 ? UINT32_MAX : r->max_retry_interval;

	for (uint32_t i = 1; i < tries && s < cap; i++)
		s *= 2;
	return s < cap ? s : cap;
}

usec_t
sched_next_try(const struct sched_retry *r, uint32_t tries, usec_t received, usec_t now)
{
	usec_t next = now + (usec_t)interval(r, tries) * USEC_PER_SEC, deadline = sched_deadline(r, received);

	return next > deadline && deadline > now ? deadline : next;
}

enum sched_fate
sched_fate(const struct sched_retry *r, uint32_t tries, usec_t received, usec_t now)
{
	uint32_t retries = tries == 0 ? 0 : tries - 1;

	if (now >= sched_deadline(r, received))
		return SCHED_TOO_OLD;
	if (r->max_retries >= 0 && tries > 0 && retries >= (uint32_t)r->max_retries)
		return SCHED_TOO_MANY_TRIES;
	return SCHED_GOES_ON;
}

/* ---- orders */

static int
order(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* The waiting are sought by time alone, so both trees can have one order: the waiting have priority 0 in it. */
static int
msg_order(const struct sched_msg *a, const struct sched_msg *b)
{
	if (a->at == SCHED_READY && a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->due != b->due)
		return a->due < b->due ? -1 : 1;
	return order(a->id, b->id);
}

static int
wait_order(const struct sched_queue *a, const struct sched_queue *b)
{
	if (a->wait_until != b->wait_until)
		return a->wait_until < b->wait_until ? -1 : 1;
	return order((uintptr_t)a, (uintptr_t)b);
}

RB_GENERATE_INTERNAL(sched_msgs, sched_msg, link, msg_order, __attribute__((unused)) static)
RB_GENERATE_INTERNAL(sched_waits, sched_queue, waits, wait_order, __attribute__((unused)) static)

/* ---- the round */

static bool
may_show(const struct sched_queue *q)
{
	return q->n_ready > 0 && !q->suspended && q->wait_until == 0;
}

static void
join_round(struct sched *s, struct sched_queue *q)
{
	if (q->in_round || !may_show(q))
		return;
	q->in_round = true;
	TAILQ_INSERT_TAIL(&s->round, q, round);
}

static void
leave_round(struct sched *s, struct sched_queue *q)
{
	if (!q->in_round)
		return;
	q->in_round = false;
	TAILQ_REMOVE(&s->round, q, round);
}

struct sched_queue *
sched_show(struct sched *s)
{
	struct sched_queue *q = s->full ? NULL : TAILQ_FIRST(&s->round);

	if (q != NULL)
		leave_round(s, q);
	return q;
}

void
sched_full(struct sched *s, struct sched_queue *q)
{
	s->full = true;
	if (q->in_round || !may_show(q))
		return;
	q->in_round = true;
	TAILQ_INSERT_HEAD(&s->round, q, round);
}

void
sched_room(struct sched *s)
{
	s->full = false;
}

void
sched_kick(struct sched *s, struct sched_queue *q)
{
	join_round(s, q);
}

void
sched_suspend(struct sched *s, struct sched_queue *q, bool suspended)
{
	q->suspended = suspended;
	if (suspended)
		leave_round(s, q);
	else
		join_round(s, q);
}

void
sched_wait(struct sched *s, struct sched_queue *q, usec_t until_mono)
{
	if (q->wait_until != 0)
		RB_REMOVE(sched_waits, &s->waits, q);
	q->wait_until = until_mono;
	if (until_mono == 0) {
		join_round(s, q);
		return;
	}
	leave_round(s, q);
	RB_INSERT(sched_waits, &s->waits, q);
}

/* ---- messages */

void
sched_init(struct sched *s)
{
	*s = (struct sched){ .full = false };
	TAILQ_INIT(&s->round);
	RB_INIT(&s->waiting);
	RB_INIT(&s->waits);
}

void
sched_queue_init(struct sched_queue *q)
{
	*q = (struct sched_queue){ .n_ready = 0 };
	RB_INIT(&q->ready);
}

void
sched_queue_fini(struct sched *s, struct sched_queue *q)
{
	require_that(q->n_ready == 0 && q->n_waiting == 0 && q->n_taken == 0, "sched");
	leave_round(s, q);
	if (q->wait_until != 0)
		RB_REMOVE(sched_waits, &s->waits, q);
	q->wait_until = 0;
}

static void
make_ready(struct sched *s, struct sched_queue *q, struct sched_msg *m)
{
	m->at = SCHED_READY;
	RB_INSERT(sched_msgs, &q->ready, m);
	q->n_ready++;
	join_round(s, q);
}

static void
place(struct sched *s, struct sched_queue *q, struct sched_msg *m, usec_t now_real)
{
	if (m->due <= now_real) {
		make_ready(s, q, m);
		return;
	}
	m->at = SCHED_WAITING;
	RB_INSERT(sched_msgs, &s->waiting, m);
	q->n_waiting++;
}

void
sched_add(struct sched *s, struct sched_queue *q, struct sched_msg *m, usec_t now_real)
{
	require_that(m->at == SCHED_NOWHERE, "sched");
	m->queue = q;
	place(s, q, m, now_real);
}

void
sched_remove(struct sched *s, struct sched_msg *m)
{
	struct sched_queue *q = m->queue;

	switch (m->at) {
	case SCHED_NOWHERE:
		return;
	case SCHED_READY:
		RB_REMOVE(sched_msgs, &q->ready, m);
		if (--q->n_ready == 0)
			leave_round(s, q);
		break;
	case SCHED_WAITING:
		RB_REMOVE(sched_msgs, &s->waiting, m);
		q->n_waiting--;
		break;
	case SCHED_TAKEN:
		q->n_taken--;
		break;
	}
	m->at = SCHED_NOWHERE;
}

void
sched_take_away(struct sched_queue *q, struct sched_msg *m)
{
	require_that(m->at == SCHED_NOWHERE, "sched");
	m->queue = q;
	m->at = SCHED_TAKEN;
	q->n_taken++;
}

struct sched_msg *
sched_first(const struct sched_queue *q)
{
	/* The tree's searches take no const; nothing is changed. */
	return q->suspended ? NULL : RB_MIN(sched_msgs, (struct sched_msgs *)(uintptr_t)&q->ready);
}

struct sched_msg *
sched_take(struct sched *s, struct sched_queue *q)
{
	struct sched_msg *m = sched_first(q);

	if (m == NULL)
		return NULL;
	sched_remove(s, m);
	sched_take_away(q, m);
	return m;
}

void
sched_put_back(struct sched *s, struct sched_msg *m, usec_t not_before, usec_t now_real)
{
	struct sched_queue *q = m->queue;

	require_that(m->at == SCHED_TAKEN, "sched");
	sched_remove(s, m);
	if (not_before > m->due)
		m->due = not_before;
	place(s, q, m, now_real);
}

void
sched_turn(struct sched *s, usec_t now_real, usec_t now_mono)
{
	struct sched_msg *m;
	struct sched_queue *q;

	while ((m = RB_MIN(sched_msgs, &s->waiting)) != NULL && m->due <= now_real) {
		sched_remove(s, m);
		make_ready(s, m->queue, m);
	}
	while ((q = RB_MIN(sched_waits, &s->waits)) != NULL && q->wait_until <= now_mono)
		sched_wait(s, q, 0);
}

usec_t
sched_next(const struct sched *s, usec_t now_real, usec_t now_mono)
{
	/* The trees' searches take no const; nothing is changed. */
	struct sched_msg *m = RB_MIN(sched_msgs, (struct sched_msgs *)(uintptr_t)&s->waiting);
	struct sched_queue *q = RB_MIN(sched_waits, (struct sched_waits *)(uintptr_t)&s->waits);
	usec_t next = q == NULL ? INT64_MAX : q->wait_until;

	if (!s->full && !TAILQ_EMPTY(&s->round))
		return now_mono;
	if (m != NULL && now_mono + (m->due - now_real) < next)
		next = now_mono + (m->due - now_real);
	return next < now_mono ? now_mono : next;
}
