/* delivery_queue.c - a queue at work: how many messages are taken from the owner, how many connections they get
 * As many are in hand as there may be connections, and one more for each busy one, so that a connection that ends a
 * message finds the next already read. */
#include "worker/delivery/delivery_int.h"

#include <stdlib.h>

#include "shm/base/mem.h"
#include "shm/shm_limits.h"

enum {
	PERMIT_RETRY_MS = 200,
	PERMIT_TRIES = 25, /* then borrowed mail goes back */
	GIVEN_BACK_S = 10  /* none is taken for so long */
};

struct dqueue *
dqueue_of(struct delivery *d, struct owner_queue *oq)
{
	struct dqueue *q = owner_queue_role(oq);

	if (q != NULL)
		return q;
	q = mem_zalloc(sizeof(*q));
	q->d = d;
	q->oq = oq;
	q->binding = owner_queue_binding(oq);
	q->domain = owner_queue_domain(oq);
	q->permit = limit_key("binding_domain", q->binding, q->domain);
	q->permit_binding = limit_key("binding", q->binding, SLICE(""));
	TAILQ_INIT(&q->waiting);
	TAILQ_INIT(&q->idle);
	TAILQ_INIT(&q->conns);
	TAILQ_INSERT_TAIL(&d->queues, q, link);
	owner_queue_set_role(oq, q);
	return q;
}

void
dqueue_free(struct dqueue *q)
{
	loop_timer_stop(q->d->env.loop, &q->retry);
	permits_forget(q);
	TAILQ_REMOVE(&q->d->queues, q, link);
	free(q);
}

/* Our part of the queue's connections: whoever borrows of it has to find permits free. */
static unsigned
share(struct dqueue *q)
{
	int64_t max = conf_int(delivery_view(q->d, q), OPT_MAX_OUTBOUND_CONNECTIONS);
	unsigned hands = owner_queue_hands(q->oq);

	if (max < 0 || max > CONNS_UNLIMITED)
		max = CONNS_UNLIMITED;
	return ((unsigned)max + hands - 1) / hands;
}

static unsigned
max_conns(struct dqueue *q)
{
	unsigned max = share(q);

	/* Only while some stand: when the last has gone nothing would come to open another. */
	if (loop_now(q->d->env.loop) < q->soft_until && q->greeted > 0 && max > q->greeted)
		max = q->greeted;
	return max;
}

bool
dqueue_may_share(struct dqueue *q)
{
	usec_t now = loop_now(q->d->env.loop);

	return now >= q->wait_until && now >= q->soft_until && share(q) * owner_queue_hands(q->oq) >= 2;
}

bool
dqueue_too_many(struct dqueue *q)
{
	return owner_queue_hands(q->oq) > 1 && q->greeted > share(q);
}

bool
dqueue_give_back(struct dqueue *q)
{
	if (!owner_queue_borrowed(q->oq))
		return false;
	dqueue_hold_off(q, loop_now(q->d->env.loop) + GIVEN_BACK_S * USEC_PER_SEC);
	return true;
}

bool
dqueue_has_time(struct dqueue *q)
{
	return q->nwaiting == 0 || q->nconns < max_conns(q);
}

/* How many messages more there are hands for. */
static unsigned
room_for(struct dqueue *q)
{
	unsigned max = max_conns(q), busy = q->nconns - q->nidle - q->nconnecting;
	unsigned most = max + (busy < max ? busy : max);

	if (!q->proven && most > PROBES * 4)
		most = PROBES * 4;
	return most > q->in_hand ? most - q->in_hand : 0;
}

/* All that falls back to one scope shares its rate. */
uint64_t
delivery_throttle_key(const struct conf_view *v)
{
	uint64_t origin = conf_origin(v, OPT_OUTBOUND_THROTTLE_MESSAGES);

	return limit_key("outbound_throttle_messages", slice_of(&origin, sizeof(origin)), SLICE(""));
}

/* As many as the rate lets through now, at most n. */
static unsigned
throttle(struct dqueue *q, unsigned n)
{
	const struct conf_view *v = delivery_view(q->d, q);
	struct conf_rate rate = conf_rate(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
	usec_t now = loop_now(q->d->env.loop), again = 0;
	unsigned got = 0;
	uint64_t key;

	if (rate.n == 0 || q->d->env.limits == NULL)
		return n;
	key = delivery_throttle_key(v);
	while (got < n && bucket_take(q->d->env.limits, key, rate.n, rate.seconds, now, &again))
		got++;
	if (got < n && again > now) {
		q->wait_until = again;
		owner_wait(q->oq, again);
	}
	return got;
}

static void
unthrottle(struct dqueue *q, unsigned n)
{
	const struct conf_view *v = delivery_view(q->d, q);
	struct conf_rate rate = conf_rate(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
	uint64_t key;

	if (rate.n == 0 || q->d->env.limits == NULL)
		return;
	key = delivery_throttle_key(v);
	while (n-- > 0)
		bucket_give(q->d->env.limits, key, loop_now(q->d->env.loop));
}

/* So many of `want` as there is memory for, one at least. */
static unsigned
fitting(const struct delivery *d, unsigned want)
{
	uint64_t fit = d->bytes < d->memory ? (d->memory - d->bytes) / (d->usual + 1) + 1 : 1;

	return fit < want ? (unsigned)fit : want;
}

bool
dqueue_refill(struct dqueue *q)
{
	struct delivery *d = q->d;
	struct owner_msg *msgs[TAKE_BATCH];
	unsigned want;

	while (!d->draining && loop_now(d->env.loop) >= q->wait_until && (want = room_for(q)) > 0) {
		size_t ready = owner_queue_ready(q->oq), got;

		if (!delivery_has_room(d)) {
			d->full = true;
			return false;
		}
		want = want < TAKE_BATCH ? want : TAKE_BATCH;
		want = want < d->resident - d->njobs ? want : d->resident - d->njobs;
		want = want < ready ? want : (unsigned)ready;
		want = fitting(d, want);
		want = want == 0 ? 0 : throttle(q, want);
		if (want == 0)
			break;
		got = owner_take(q->oq, want, msgs);
		if (got < want)
			unthrottle(q, want - (unsigned)got);
		for (size_t i = 0; i < got; i++)
			(void)job_new(q, msgs[i]);
		if (got == 0)
			break;
	}
	return true;
}

struct job *
dqueue_next(struct dqueue *q)
{
	struct job *j = TAILQ_FIRST(&q->waiting);

	if (j != NULL) {
		TAILQ_REMOVE(&q->waiting, j, link);
		q->nwaiting--;
		j->state = JOB_SENDING;
	}
	return j;
}

void
dqueue_job_ready(struct dqueue *q, struct job *j)
{
	struct dconn *c = TAILQ_FIRST(&q->idle);

	j->state = JOB_WAITING;
	TAILQ_INSERT_TAIL(&q->waiting, j, link);
	q->nwaiting++;
	if (c != NULL)
		dconn_serve(c);
	else
		dqueue_connect(q);
}

void
dqueue_job_gone(struct dqueue *q, struct job *j)
{
	if (j->state == JOB_WAITING) {
		TAILQ_REMOVE(&q->waiting, j, link);
		q->nwaiting--;
	}
}

static void
on_retry(void *arg)
{
	dqueue_connect(arg);
}

void
dqueue_connect(struct dqueue *q)
{
	struct delivery *d = q->d;

	while (!d->draining && q->nwaiting > q->nidle + q->nconnecting && q->nconns < max_conns(q)) {
		if (!q->proven && q->nconnecting >= PROBES)
			return;
		if (d->nconns < CONNS_MAX && dconn_new(q) != NULL) {
			q->refusals = 0;
			continue;
		}
		/* Somebody else holds what we may have: an owner before us, or one that lends, whose connections are
		 * ending. */
		if (q->nconns == 0 && ++q->refusals >= PERMIT_TRIES && dqueue_give_back(q)) {
			q->refusals = 0;
			permits_forget(q);
		} else if (q->nconns == 0 && !q->starved) {
			loop_timer_set(d->env.loop, &q->retry, loop_now(d->env.loop) + PERMIT_RETRY_MS * USEC_PER_MS,
				       on_retry, q);
		}
		return;
	}
}

void
dqueue_fail_waiting(struct dqueue *q, const struct dconn *c, enum smtp_stage stage, struct slice text)
{
	struct smtp_result r = { .how = SMTP_REPLY, .internal = true, .stage = stage, .text = text };
	TAILQ_HEAD(, job) failed = TAILQ_HEAD_INITIALIZER(failed);
	struct job *j;

	r.code = text.n >= 3 ? (text.p[0] - '0') * 100 : 451;
	while ((j = dqueue_next(q)) != NULL)
		TAILQ_INSERT_TAIL(&failed, j, link);
	while ((j = TAILQ_FIRST(&failed)) != NULL) {
		TAILQ_REMOVE(&failed, j, link);
		job_settle(j, c, &r);
	}
}

void
dqueue_hold_off(struct dqueue *q, usec_t until)
{
	struct job *j;

	if (until > 0) {
		q->wait_until = until;
		owner_wait(q->oq, until);
	}
	while ((j = TAILQ_FIRST(&q->waiting)) != NULL)
		job_release(j, 0);
}
