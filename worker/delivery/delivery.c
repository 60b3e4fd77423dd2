#include "worker/delivery/delivery_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "shm/shm_limits.h"

/* ---- who we are ---- */

static uint16_t
port_of(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)a)->sin6_port
					: ((const struct sockaddr_in *)a)->sin_port;
}

static bool
is_wildcard(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr == htonl(INADDR_ANY);
	return a->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static bool
same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
		      sizeof(struct in6_addr)) == 0;
}

bool
delivery_can_bind(const struct sockaddr_storage *a)
{
	struct sockaddr_storage any = *a;
	socklen_t len = a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	int fd = socket(a->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int why;

	errno = 0;
	if (fd < 0)
		return false;
	if (any.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&any)->sin6_port = 0;
	else
		((struct sockaddr_in *)&any)->sin_port = 0;
	why = bind(fd, (const struct sockaddr *)&any, len) == 0 ? 0 : errno;
	close(fd);
	errno = why;
	return why == 0;
}

/* A listener of ours serves this address; or it is the host of our own name, on a port that we serve: the address may
 * be in front of a translation. */
static bool
delivery_own(void *arg, const struct sockaddr_storage *a, const char *name)
{
	struct delivery *d = arg;
	const char *hostname = delivery_hostname(d);

	for (size_t i = 0; i < d->env.own_n; i++) {
		const struct sockaddr_storage *own = &d->own[i];

		if ((own->ss_family != AF_INET && own->ss_family != AF_INET6) || port_of(own) != port_of(a))
			continue;
		if (same_address(own, a) || (is_wildcard(own) && delivery_can_bind(a)) ||
		    (is_wildcard(a) && delivery_can_bind(own)))
			return true;
		if (slice_ieq(slice_str(name), slice_str(hostname)))
			return true;
	}
	return false;
}

bool
delivery_bind_address(const char *text, struct sockaddr_storage *ss)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	if (text[0] == '\0' || strcmp(text, "*") == 0)
		return true;
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		return true;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		return true;
	}
	return false;
}

/* ---- small things ---- */

const struct conf_view *
delivery_view(struct delivery *d, struct dqueue *q)
{
	if (q->view_of != d->conf) {
		q->view_of = d->conf;
		q->view = conf_sending(d->conf, q->binding, q->domain);
	}
	return q->view;
}

const char *
delivery_hostname(const struct delivery *d)
{
	const char *name = conf_str(conf_global(d->conf), OPT_HOSTNAME);

	return name[0] != '\0' ? name : d->system_name;
}

void
delivery_count(struct delivery *d, enum cell c, int64_t n)
{
	if (d->slot != NULL)
		slot_add(d->slot, c, n);
}

void
delivery_trace(struct delivery *d, msgid_t id, const char *event, struct slice text)
{
	if (d->env.trace != NULL)
		d->env.trace(d->env.trace_arg, id, event, text);
}

/* One message is always taken, however large. */
bool
delivery_has_room(const struct delivery *d)
{
	return d->njobs < d->resident && (d->bytes < d->memory || d->njobs == 0);
}

void
delivery_read_bounds(struct delivery *d)
{
	int64_t most = conf_int(conf_global(d->conf), OPT_MAX_RESIDENT_MESSAGES);
	int64_t bytes = conf_int(conf_global(d->conf), OPT_MAX_RESIDENT_MEMORY);
	int64_t workers = d->env.workers == 0 ? 1 : d->env.workers;

	most = most == 0 ? JOBS_MAX : (most + workers - 1) / workers;
	d->resident = most < JOBS_MAX ? (unsigned)most : JOBS_MAX;
	d->memory = bytes == 0 ? UINT64_MAX : (uint64_t)((bytes + workers - 1) / workers);
}

static void
on_room(void *arg)
{
	struct delivery *d = arg;

	if (d->full && delivery_has_room(d)) {
		d->full = false;
		owner_room(d->env.owner);
	}
	if (d->draining && delivery_idle(d) && !d->drained_told) {
		d->drained_told = true;
		if (d->env.drained != NULL)
			d->env.drained(d->env.arg);
	}
}

void
delivery_room(struct delivery *d)
{
	if (d->full || d->draining)
		loop_later(d->env.loop, &d->room, on_room, d);
}

/* ---- the owner's questions ---- */

static enum owner_served
on_queue_ready(void *arg, struct owner_queue *oq)
{
	struct delivery *d = arg;

	if (d->draining)
		return OWNER_SERVED;
	return dqueue_refill(dqueue_of(d, oq)) ? OWNER_SERVED : OWNER_FULL;
}

static void
on_errand(void *arg, struct owner_msg *m, enum owner_errand what, struct slice reason)
{
	(void)job_new_errand(dqueue_of(arg, m->queue), m, what, reason);
}

static bool
on_queue_idle(void *arg, struct owner_queue *oq)
{
	struct dqueue *q = owner_queue_role(oq);

	(void)arg;
	if (q == NULL)
		return true;
	if (q->nconns > 0 || q->in_hand > 0 || q->errands > 0)
		return false;
	owner_queue_set_role(oq, NULL);
	dqueue_free(q);
	return true;
}

static enum owner_in_doubt
on_in_doubt(void *arg, struct owner_queue *oq)
{
	struct delivery *d = arg;

	(void)oq;
	switch (conf_int(conf_global(d->conf), OPT_IN_DOUBT)) {
	case IN_DOUBT_HOLD:
		return OWNER_DOUBT_HOLD;
	case IN_DOUBT_DONE:
		return OWNER_DOUBT_END;
	default:
		return OWNER_DOUBT_RETRY;
	}
}

static bool
on_suspended(void *arg, struct owner_queue *oq)
{
	struct delivery *d = arg;

	return conf_bool(conf_sending(d->conf, owner_queue_binding(oq), owner_queue_domain(oq)), OPT_SUSPEND_DELIVERY);
}

/* Connections of another worker would get as far as ours. */
static bool
on_may_lend(void *arg, struct owner_queue *oq)
{
	const struct delivery *d = arg;
	struct dqueue *q = owner_queue_role(oq);

	return q != NULL && !d->draining && q->proven && dqueue_may_share(q);
}

static const struct owner_ops ops = {
	.queue_ready = on_queue_ready,
	.errand = on_errand,
	.queue_idle = on_queue_idle,
	.in_doubt = on_in_doubt,
	.suspended = on_suspended,
	.may_lend = on_may_lend,
};

/* ---- life ---- */

struct delivery *
delivery_new(const struct delivery_env *env)
{
	struct delivery *d = mem_zalloc(sizeof(*d));

	d->env = *env;
	d->conf = env->conf;
	d->own = mem_array(NULL, env->own_n + 1, sizeof(d->own[0]));
	for (size_t i = 0; i < env->own_n; i++)
		d->own[i] = env->own[i];
	d->hosts = host_memory_new();
	if (gethostname(d->system_name, sizeof(d->system_name) - 1) != 0)
		memcpy(d->system_name, "localhost", sizeof("localhost"));
	d->route_env =
		(struct route_env){ .loop = env->loop, .resolver = env->resolver, .own = delivery_own, .arg = d };
	d->slot = env->area == NULL ? NULL : shm_slot(env->area, env->slot);
	TAILQ_INIT(&d->queues);
	TAILQ_INIT(&d->starved);
	TAILQ_INIT(&d->jobs);
	RB_INIT(&d->ways);
	TAILQ_INIT(&d->rested);
	d->permit_server = limit_key("outbound", SLICE(""), SLICE(""));
	delivery_read_bounds(d);
	owner_set_ops(env->owner, &ops, d);
	return d;
}

/* Jobs that wait go back; those on a connection, or with a record on its way, are finished. */
void
delivery_drain(struct delivery *d)
{
	struct dqueue *q;
	struct dconn *c, *next;

	d->draining = true;
	TAILQ_FOREACH (q, &d->queues, link) {
		dqueue_hold_off(q, 0);
		TAILQ_FOREACH_SAFE (c, &q->conns, link, next) {
			if (c->client != NULL)
				smtp_client_quit(c->client);
			else
				dconn_free(c);
		}
	}
	delivery_room(d);
}

bool
delivery_idle(const struct delivery *d)
{
	return d->njobs == 0;
}

void
delivery_free(struct delivery **dp)
{
	struct delivery *d = *dp;
	struct dqueue *q;
	struct job *j;

	if (d == NULL)
		return;
	d->draining = true;
	owner_set_ops(d->env.owner, NULL, NULL);
	TAILQ_FOREACH (q, &d->queues, link) {
		while (!TAILQ_EMPTY(&q->conns))
			dconn_free(TAILQ_FIRST(&q->conns));
	}
	while ((j = TAILQ_FIRST(&d->jobs)) != NULL)
		job_free(j);
	while ((q = TAILQ_FIRST(&d->queues)) != NULL) {
		owner_queue_set_role(q->oq, NULL);
		dqueue_free(q);
	}
	loop_later_cancel(d->env.loop, &d->room);
	loop_timer_stop(d->env.loop, &d->starved_retry);
	host_memory_free(&d->hosts);
	free(d->own);
	free(d);
	*dp = NULL;
}

void
delivery_set_conf(struct delivery *d, struct conf *conf)
{
	struct dqueue *q;

	d->conf = conf;
	delivery_read_bounds(d);
	TAILQ_FOREACH (q, &d->queues, link)
		q->view_of = NULL; /* a new one may stand where an old one stood */
}

void
delivery_counts(const struct delivery *d, struct delivery_counts *out)
{
	const struct dqueue *q;

	*out = (struct delivery_counts){ .connections = d->nconns, .in_work = d->njobs, .resolving = d->resolving };
	TAILQ_FOREACH (q, &d->queues, link)
		out->idle += q->nidle;
}

void
delivery_describe(const struct delivery *d, struct slice domain, struct bytes *out)
{
	const struct dqueue *q;
	const struct dconn *c;

	TAILQ_FOREACH (q, &d->queues, link) {
		if (!slice_ieq(q->domain, domain))
			continue;
		bytes_addf(out, "binding %.*s: %u connections (%u idle), %u messages in hand\n", (int)q->binding.n,
			   q->binding.p, q->nconns, q->nidle, q->in_hand);
		TAILQ_FOREACH (c, &q->conns, link)
			dconn_describe(c, out);
	}
	host_memory_describe(d->hosts, loop_now(d->env.loop), out);
}
