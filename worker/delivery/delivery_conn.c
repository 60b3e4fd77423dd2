/* delivery_conn.c - one connection of a queue: route, hosts one after the other, messages, QUIT
 * A host that cannot be reached, or refuses at its greeting, is followed by the next in the same attempt. What all of
 * them say is the answer to the mail that waits. */
#include "worker/delivery/delivery_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

#define TEXT_NO_HOSTS      "451 4.4.1 [internal] No valid hosts"
#define TEXT_NO_CONNECTION TEXT_NO_HOSTS " (unable to make any connections)"
#define TEXT_ALL_AVOIDED   "421 4.4.0 [internal] no MXs for this domain could be reached at this time"

enum {
	WAIT_RATHER = 5,  /* seconds: a host avoided no longer than this is waited for, without a failed try */
	AVOID_MOST = 120, /* seconds a host is avoided at most */
	SOFT_LIMIT = 30,  /* seconds a refused further connection counts */
	BIND_TOLD = 60,   /* seconds between two lines about addresses that are not ours */
};

static void try_next(struct dconn *c);

static usec_t
now_of(const struct dconn *c)
{
	return loop_now(c->q->d->env.loop);
}

/* ---- idle list ---- */

static void
set_idle(struct dconn *c, bool idle)
{
	if (c->is_idle == idle)
		return;
	c->is_idle = idle;
	if (idle) {
		TAILQ_INSERT_HEAD(&c->q->idle, c, idle_link);
		c->q->nidle++;
		way_rest(c);
	} else {
		TAILQ_REMOVE(&c->q->idle, c, idle_link);
		c->q->nidle--;
		way_wake(c);
	}
}

static void
set_greeted(struct dconn *c, bool greeted)
{
	struct dqueue *q = c->q;

	if (c->was_greeted == greeted)
		return;
	c->was_greeted = greeted;
	if (greeted) {
		q->greeted++;
		q->nconnecting--;
	} else {
		q->greeted--;
		q->nconnecting++;
	}
}

/* ---- failures ---- */

static void
keep_failure(struct dconn *c, enum smtp_stage stage, struct slice text)
{
	c->failure.n = 0;
	bytes_add_slice(&c->failure, text);
	c->failure_stage = stage;
	c->unbound = false;
}

/* Every attempt meets it, so the paniclog hears of it seldom. */
static void
tell_unbound(struct dconn *c, const char *address, const char *why)
{
	struct delivery *d = c->q->d;

	if (d->told_bind != 0 && now_of(c) - d->told_bind < BIND_TOLD * USEC_PER_SEC)
		return;
	d->told_bind = now_of(c);
	log_error("delivery", "binding %.*s: cannot bind %s: %s", (int)c->q->binding.n, c->q->binding.p, address, why);
}

/* No connection could be begun to the present host. Is our own address the cause? */
static void
keep_no_connection(struct dconn *c, const struct sockaddr_storage *local)
{
	char address[HOST_TEXT], text[sizeof(TEXT_NO_HOSTS) + HOST_TEXT + 64];
	const char *why;

	keep_failure(c, SMTP_NOT_CONNECTED, SLICE(TEXT_NO_CONNECTION));
	if (local->ss_family == 0 || delivery_can_bind(local) || errno == 0)
		return;
	why = strerror(errno);
	host_text(local, false, address);
	snprintf(text, sizeof(text), TEXT_NO_HOSTS " (cannot bind %s: %s)", address, why);
	keep_failure(c, SMTP_NOT_CONNECTED, slice_str(text));
	c->unbound = true;
	tell_unbound(c, address, why);
}

/* Everything was tried, or nothing may be: what does the mail that waits get? Frees c. */
static void
give_up(struct dconn *c)
{
	struct dqueue *q = c->q;
	struct slice text = slice_bytes(&c->failure);
	struct job *j;

	q->proven = false;
	if (q->greeted > 0) {
		/* Others stand: this host takes no more of them just now. */
		q->proven = true;
		q->soft_until = now_of(c) + SOFT_LIMIT * USEC_PER_SEC;
	} else if (dqueue_give_back(q)) {
		/* The host may take no more than the owner has. */
	} else if (c->refused_only && text.n > 0 && text.p[0] == '5') {
		/* A refusal for good counts for one message: the next asks again. */
		struct smtp_result r = { .how = SMTP_REPLY, .stage = c->failure_stage, .text = text };

		r.code = (text.p[0] - '0') * 100;
		if ((j = dqueue_next(q)) != NULL)
			job_settle(j, c, &r);
	} else if ((c->failure_stage == SMTP_NOT_CONNECTED && !c->unbound) || text.n == 0) {
		dqueue_fail_waiting(q, c, SMTP_NOT_CONNECTED, SLICE(TEXT_NO_CONNECTION));
	} else {
		dqueue_fail_waiting(q, c, c->failure_stage, text);
	}
	dconn_free(c);
	dqueue_connect(q);
}

/* No host may be tried before `until`. */
static void
all_avoided(struct dconn *c, usec_t until)
{
	struct dqueue *q = c->q;

	q->proven = false;
	if (q->greeted > 0)
		q->soft_until = until;
	else if (dqueue_give_back(q))
		; /* our memory of hosts is not the owner's */
	else if (until - now_of(c) <= WAIT_RATHER * USEC_PER_SEC)
		dqueue_hold_off(q, until);
	else
		dqueue_fail_waiting(q, c, SMTP_NOT_CONNECTED, SLICE(TEXT_ALL_AVOIDED));
	dconn_free(c);
}

static void
avoid_host(struct dconn *c, struct slice why)
{
	struct dqueue *q = c->q;
	usec_t most = conf_int(delivery_view(q->d, q), OPT_RETRY_INTERVAL) * USEC_PER_SEC / 2;

	if (most > AVOID_MOST * USEC_PER_SEC)
		most = AVOID_MOST * USEC_PER_SEC;
	host_failed(q->d->hosts, &c->hops[c->hop].address, now_of(c), most, why);
	delivery_count(q->d, CELL_CONNECTIONS_OUT_FAILED, 1);
}

/* ---- what the client tells ---- */

static void
on_idle(void *arg)
{
	struct dconn *c = arg;
	struct delivery *d = c->q->d;

	if (!c->was_greeted) {
		set_greeted(c, true);
		c->q->proven = true;
		host_worked(d->hosts, &c->hops[c->hop].address);
	}
	dconn_serve(c);
}

static void
on_opened(void *arg)
{
	struct dconn *c = arg;

	if (c->job != NULL)
		job_opened(c->job);
}

static void
on_want(void *arg)
{
	struct dconn *c = arg;

	if (c->job != NULL)
		job_want(c->job);
}

static void
on_mail_done(void *arg, const struct smtp_result *results, unsigned n)
{
	struct dconn *c = arg;
	struct job *j = c->job;
	int64_t most = conf_int(delivery_view(c->q->d, c->q), OPT_MAX_DELIVERIES_PER_CONNECTION);

	require_that(n == 1 && j != NULL, "delivery");
	c->job = NULL;
	job_answered(j, &results[0]);
	if (c->client != NULL && (c->q->d->draining || (most > 0 && smtp_client_delivered(c->client) >= most)))
		smtp_client_quit(c->client);
}

static void
on_down(void *arg, const struct smtp_down *why)
{
	struct dconn *c = arg;
	struct dqueue *q = c->q;

	set_idle(c, false);
	smtp_client_free(&c->client);
	delivery_count(q->d, CELL_SESSIONS_OUT, -1);
	if (c->was_greeted || why->asked || q->d->draining) {
		dconn_free(c);
		(void)dqueue_refill(q);
		dqueue_connect(q);
		return;
	}
	keep_failure(c, why->stage, why->text);
	c->refused_only = c->refused_only && !why->internal && why->code >= 500;
	avoid_host(c, why->text);
	c->hop++;
	try_next(c);
}

static const struct smtp_client_ops client_ops = {
	.idle = on_idle,
	.opened = on_opened,
	.want = on_want,
	.mail_done = on_mail_done,
	.down = on_down,
};

/* ---- connecting ---- */

static struct smtp_timeouts
timeouts(const struct conf_view *v)
{
	return (struct smtp_timeouts){
		.connect = (unsigned)conf_int(v, OPT_CONNECT_TIMEOUT),
		.ehlo = (unsigned)conf_int(v, OPT_EHLO_TIMEOUT),
		.mailfrom = (unsigned)conf_int(v, OPT_MAILFROM_TIMEOUT),
		.rcptto = (unsigned)conf_int(v, OPT_RCPTTO_TIMEOUT),
		.body = (unsigned)conf_int(v, OPT_BODY_TIMEOUT),
		.rset = (unsigned)conf_int(v, OPT_RSET_TIMEOUT),
		.idle = (unsigned)conf_int(v, OPT_IDLE_TIMEOUT),
	};
}

static void
ehlo_name(const struct dconn *c, const struct conf_view *v, char out[DNS_NAME_MAX])
{
	const char *name = conf_str(v, OPT_EHLO_HOSTNAME);
	const struct job *j = TAILQ_FIRST(&c->q->waiting);
	struct slice sender = j == NULL ? SLICE("") : j->got->message.sender;
	const char *at = sender.n == 0 ? NULL : memrchr(sender.p, '@', sender.n);

	snprintf(out, DNS_NAME_MAX, "%s", delivery_hostname(c->q->d));
	if (strcmp(name, "__message__") == 0 && at != NULL)
		(void)route_ascii(slice_of(at + 1, (size_t)(sender.p + sender.n - at - 1)), out);
	else if (strcmp(name, "__message__") != 0 && strcmp(name, "__hostname__") != 0)
		snprintf(out, DNS_NAME_MAX, "%s", name);
}

/* The bind address, if it is of the host's family. False: this host cannot be reached from it. */
static bool
local_address(const struct dconn *c, const struct conf_view *v, struct sockaddr_storage *local)
{
	if (!delivery_bind_address(conf_str(v, OPT_BIND_ADDRESS), local)) {
		log_error("delivery", "binding %.*s: bind_address is no address: %s", (int)c->q->binding.n,
			  c->q->binding.p, conf_str(v, OPT_BIND_ADDRESS));
		return false;
	}
	return local->ss_family == 0 || local->ss_family == c->hops[c->hop].address.ss_family;
}

/* A connection of another queue, at rest, becomes this one: it stands, so the host works. */
static void
take_over(struct dconn *c, struct dconn *from)
{
	c->client = from->client;
	from->client = NULL;
	smtp_client_set_arg(c->client, c);
	dconn_free(from);
	on_idle(c);
}

static bool
connect_to(struct dconn *c, const struct way_what *what)
{
	struct delivery *d = c->q->d;
	struct smtp_client_conf conf = {
		.loop = d->env.loop,
		.local = what->local->ss_family == 0 ? NULL : (const struct sockaddr *)what->local,
		.remote = (const struct sockaddr *)what->remote,
		.ehlo = what->ehlo,
		.timeouts = what->timeouts,
		.ops = &client_ops,
		.arg = c,
	};

	c->client = smtp_client_new(&conf);
	if (c->client == NULL)
		return false;
	delivery_count(d, CELL_SESSIONS_OUT, 1);
	delivery_count(d, CELL_CONNECTIONS_OUT, 1);
	return true;
}

/* To the present host: by a connection that stands already, or by a new one. */
static bool
begin(struct dconn *c)
{
	const struct conf_view *v = delivery_view(c->q->d, c->q);
	struct sockaddr_storage local;
	char ehlo[DNS_NAME_MAX];
	struct way_what what = { .binding = c->q->binding,
				 .local = &local,
				 .remote = &c->hops[c->hop].address,
				 .ehlo = ehlo,
				 .timeouts = timeouts(v) };
	struct dconn *rested;

	host_text(&c->hops[c->hop].address, true, c->remote);
	host_text(&c->hops[c->hop].address, false, c->ip);
	if (!local_address(c, v, &local)) {
		keep_failure(c, SMTP_NOT_CONNECTED, SLICE(TEXT_NO_CONNECTION));
		return false;
	}
	ehlo_name(c, v, ehlo);
	c->since = clock_real();
	way_leave(c->q->d, &c->way);
	c->way = way_enter(c->q->d, &what);
	rested = way_rested(c->way);
	if (rested != NULL)
		take_over(c, rested);
	else if (!connect_to(c, &what)) {
		log_errno(LOG_LVL_DEBUG, "delivery", "connect %s", c->remote);
		keep_no_connection(c, &local);
		return false;
	}
	return true;
}

/* From c->hop on: the first host that is not avoided. */
static void
try_next(struct dconn *c)
{
	struct delivery *d = c->q->d;
	usec_t soonest = 0;

	for (; c->hop < c->nhops; c->hop++) {
		usec_t until = host_until(d->hosts, &c->hops[c->hop].address, now_of(c));

		if (until != 0) {
			soonest = soonest == 0 || until < soonest ? until : soonest;
			c->refused_only = false;
			continue;
		}
		c->tried++;
		if (begin(c))
			return;
		c->refused_only = false;
	}
	if (c->tried == 0 && soonest != 0)
		all_avoided(c, soonest);
	else
		give_up(c);
}

/* ---- the route ---- */

static void
copy_hops(struct dconn *c, const struct route *r)
{
	char *names;

	c->nhops = r->n;
	c->hops = mem_alloc(r->n * (sizeof(c->hops[0]) + DNS_NAME_MAX));
	names = (char *)(c->hops + r->n);
	for (unsigned i = 0; i < r->n; i++, names += DNS_NAME_MAX) {
		memcpy(names, r->hops[i].name, strlen(r->hops[i].name) + 1);
		c->hops[i] = (struct route_hop){ r->hops[i].address, names };
	}
}

static void
on_route(void *arg, const struct route *r)
{
	struct dconn *c = arg;
	struct dqueue *q = c->q;

	c->search = NULL;
	q->d->resolving--;
	if (r->status == ROUTE_FOUND) {
		copy_hops(c, r);
		try_next(c);
		return;
	}
	q->proven = false;
	if (!dqueue_give_back(q))
		dqueue_fail_waiting(q, NULL, SMTP_NOT_CONNECTED, slice_str(r->text));
	dconn_free(c);
}

/* What the configuration of this moment says: routes, else gateway, else the domain. Gives their number. */
static unsigned
route_specs(struct dqueue *q, const struct conf_view *v, struct route_spec *specs, bool *configured)
{
	uint16_t port = (uint16_t)conf_int(v, OPT_REMOTE_SMTP_PORT);
	struct conf_list routes = conf_list(v, OPT_ROUTES);
	const char *gateway = conf_str(v, OPT_GATEWAY);
	unsigned n = 0;

	*configured = routes.n > 0 || gateway[0] != '\0';
	for (size_t i = 0; i < routes.n && n < ROUTE_SPECS_MAX; i++) {
		if (route_spec_parse(slice_str(routes.v[i]), port, (uint32_t)i, &specs[n]) != OK) {
			log_error("delivery", "routes: cannot read \"%s\"", routes.v[i]);
			continue;
		}
		if (specs[n].kind == ROUTE_DOMAIN) {
			struct route_spec mx = specs[n];

			if (route_spec_domain(q->domain, mx.port, &specs[n]) != OK)
				continue;
			specs[n].preference = mx.preference;
			*configured = false;
		}
		n++;
	}
	if (routes.n > 0)
		return n;
	if (gateway[0] != '\0')
		return route_spec_parse(slice_str(gateway), port, 0, &specs[0]) == OK;
	return route_spec_domain(q->domain, port, &specs[0]) == OK;
}

static void
find_route(struct dconn *c)
{
	struct delivery *d = c->q->d;
	const struct conf_view *v = delivery_view(d, c->q);
	struct route_spec specs[ROUTE_SPECS_MAX];
	struct route_request r = { .specs = specs };

	r.ipv6 = conf_bool(conf_global(d->conf), OPT_USE_IPV6);
	r.n = route_specs(c->q, v, specs, &r.configured);
	d->resolving++;
	c->search = route_find(&d->route_env, &r, on_route, c);
}

/* ---- life ---- */

struct dconn *
dconn_new(struct dqueue *q)
{
	struct delivery *d = q->d;
	struct dconn *c;
	unsigned permits;

	if (permits_take(q, &permits) != PERMIT_ALL)
		return NULL;
	c = mem_zalloc(sizeof(*c));
	c->q = q;
	c->permits = permits;
	c->since = clock_real();
	c->refused_only = true;
	TAILQ_INSERT_TAIL(&q->conns, c, link);
	q->nconns++;
	q->nconnecting++;
	d->nconns++;
	find_route(c);
	return c;
}

void
dconn_free(struct dconn *c)
{
	struct dqueue *q = c->q;
	struct delivery *d = q->d;

	if (c->search != NULL)
		d->resolving--;
	route_cancel(&c->search);
	set_idle(c, false);
	set_greeted(c, false);
	if (c->client != NULL)
		delivery_count(d, CELL_SESSIONS_OUT, -1);
	smtp_client_free(&c->client);
	if (c->job != NULL)
		c->job->conn = NULL;
	TAILQ_REMOVE(&q->conns, c, link);
	q->nconns--;
	q->nconnecting--;
	d->nconns--;
	permits_give(q, c->permits);
	way_leave(d, &c->way);
	bytes_fini(&c->failure);
	free(c->hops);
	free(c);
	owner_kick(q->oq);
	delivery_room(d);
}

void
dconn_serve(struct dconn *c)
{
	struct dqueue *q = c->q;
	struct job *j;

	if (!smtp_client_is_idle(c->client))
		return;
	if (dqueue_too_many(q)) {
		set_idle(c, false);
		smtp_client_quit(c->client);
		return;
	}
	j = q->d->draining ? NULL : dqueue_next(q);
	set_idle(c, j == NULL);
	if (j != NULL)
		job_start(j, c);
	(void)dqueue_refill(q);
}

const char *
dconn_stage_text(const struct dconn *c)
{
	static const char *const words[] = { [SMTP_NOT_CONNECTED] = "connecting",
					     [SMTP_IDLE] = "idle",
					     [SMTP_MAIL] = "mail",
					     [SMTP_RCPT] = "rcpt",
					     [SMTP_DATA] = "data",
					     [SMTP_BODY] = "body",
					     [SMTP_CONFIRM] = "dot",
					     [SMTP_EHLO] = "ehlo",
					     [SMTP_BANNER] = "banner",
					     [SMTP_RSET] = "rset" };

	return c->client == NULL ? "looking for hosts" : words[smtp_client_stage(c->client)];
}

void
dconn_describe(const struct dconn *c, struct bytes *out)
{
	if (c->client == NULL)
		bytes_add_str(out, "connection: looking for hosts\n");
	else
		bytes_addf(out, "connection to %s (%s): %s, %u delivered\n", c->remote, c->hops[c->hop].name,
			   dconn_stage_text(c), smtp_client_delivered(c->client));
}
