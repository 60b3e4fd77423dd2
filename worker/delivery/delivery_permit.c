/* delivery_permit.c - what a connection must be allowed by: its binding and domain, its binding, the whole server
 * All are counts that the processes of a master share (shm_limits.h). A queue that the server's or the binding's own
 * limit turned away stands in line; the first of the line is tried when a connection of this worker ends, and now and
 * then, because those of other workers end unheard. */
#include "worker/delivery/delivery_int.h"

#include "shm/shm_limits.h"

enum { STARVED_RETRY_MS = 200 };

/* The binding's own total: only where a binding or a group says so. */
static bool
binding_most(struct dqueue *q, uint32_t *max)
{
	const struct conf_view *v = delivery_view(q->d, q);

	if ((conf_origin_scope(v, OPT_SERVER_MAX_OUTBOUND_CONNECTIONS) & (IN_BINDING | IN_BINDING_GROUP)) == 0)
		return false;
	*max = (uint32_t)conf_int(v, OPT_SERVER_MAX_OUTBOUND_CONNECTIONS);
	return true;
}

void
permits_of(struct dqueue *q, struct permits *p)
{
	int64_t max = conf_int(delivery_view(q->d, q), OPT_MAX_OUTBOUND_CONNECTIONS);

	*p = (struct permits){
		.of = { [PERMIT_QUEUE] = { .key = q->permit, .most = max < 0 ? UINT32_MAX : (uint32_t)max },
			[PERMIT_BINDING] = { .key = q->permit_binding },
			[PERMIT_SERVER] = { .key = q->d->permit_server,
					    .most = (uint32_t)conf_int(conf_global(q->d->conf),
								       OPT_SERVER_MAX_OUTBOUND_CONNECTIONS) } }
	};
	if (!binding_most(q, &p->of[PERMIT_BINDING].most))
		p->of[PERMIT_BINDING].key = 0;
}

static void
on_starved(void *arg)
{
	struct delivery *d = arg;
	struct dqueue *q;

	/* Each at most once: who still gets none, or wants more, stands at the end again. */
	for (unsigned n = d->nstarved; n > 0 && !d->draining && (q = TAILQ_FIRST(&d->starved)) != NULL; n--) {
		unsigned before = q->nconns;

		permits_forget(q);
		dqueue_connect(q);
		if (q->nconns == before && q->starved && q->refused == PERMIT_SERVER)
			return;
	}
}

/* To the end of the line; the timer is for what other workers give back. */
static void
starve(struct dqueue *q)
{
	struct delivery *d = q->d;

	if (!q->starved) {
		TAILQ_INSERT_TAIL(&d->starved, q, starved_link);
		d->nstarved++;
	}
	q->starved = true;
	loop_timer_set(d->env.loop, &d->starved_retry, loop_now(d->env.loop) + STARVED_RETRY_MS * USEC_PER_MS,
		       on_starved, d);
}

void
permits_forget(struct dqueue *q)
{
	if (q->starved) {
		TAILQ_REMOVE(&q->d->starved, q, starved_link);
		q->d->nstarved--;
	}
	q->starved = false;
}

enum permit
permits_take(struct dqueue *q, unsigned *taken)
{
	struct delivery *d = q->d;
	struct permits p;

	*taken = 0;
	if (d->env.limits == NULL)
		return PERMIT_ALL;
	permits_of(q, &p);
	for (enum permit i = PERMIT_QUEUE; i < PERMIT_ALL; i++) {
		if (p.of[i].key == 0)
			continue;
		if (!limit_take(d->env.limits, d->env.slot, p.of[i].key, p.of[i].most)) {
			permits_give(q, *taken);
			q->refused = (uint8_t)i;
			if (i != PERMIT_QUEUE) {
				starve(q);
				way_yield(d, i == PERMIT_SERVER ? SLICE("") : q->binding);
			}
			return i;
		}
		*taken |= 1u << i;
	}
	return PERMIT_ALL;
}

void
permits_give(struct dqueue *q, unsigned taken)
{
	const uint64_t keys[PERMIT_ALL] = { q->permit, q->permit_binding, q->d->permit_server };
	struct delivery *d = q->d;

	for (enum permit i = PERMIT_QUEUE; i < PERMIT_ALL; i++)
		if ((taken & 1u << i) != 0)
			limit_give(d->env.limits, d->env.slot, keys[i]);
	if ((taken & 1u << PERMIT_SERVER) != 0 && !d->draining && !TAILQ_EMPTY(&d->starved))
		loop_timer_set(d->env.loop, &d->starved_retry, loop_now(d->env.loop), on_starved, d);
}
