/* delivery_why.c - what holds a message or a queue, said from what delivery knows at this moment
 * Asked by the console, seldom; nothing is kept for it but the times that connections carry. Limits are read where they
 * are kept and not where they struck, so what is said is true now. */
#include <stdio.h>
#include <stdlib.h>

#include "shm/shm_limits.h"
#include "worker/ask.h"
#include "worker/delivery/delivery_int.h"

enum { CONNS_NAMED = 3 };

struct why {
	struct delivery *d;
	const struct ask_why *ask;
	const struct owner_found *found;
	const struct conf_view *view;
	struct dqueue *q; /* NULL: nothing of it was ever at work here */
	struct bytes *out;
};

static void
tell(const struct why *w, struct ask_hold *h, enum ask_level level, const char *cause)
{
	h->level = (uint8_t)level;
	h->cause = slice_str(cause);
	ask_hold_encode(h, w->out);
}

/* A hold by an option: limit, value and place of it are the configuration's. */
static void
tell_option(const struct why *w, struct ask_hold *h, enum ask_level level, const char *cause, const struct conf_view *v,
	    enum opt_id id)
{
	struct bytes value = { 0 }, set = { 0 };

	conf_written(v, id, &value);
	conf_where(v, id, &set);
	h->holds = true;
	h->limit = slice_str(conf_row(w->d->conf, id)->name);
	h->value = slice_bytes(&value);
	h->set = slice_bytes(&set);
	tell(w, h, level, cause);
	bytes_fini(&value);
	bytes_fini(&set);
}

/* Where in the chain an option bites that may stand in many scopes. */
static enum ask_level
level_of(const struct conf_view *v, enum opt_id id)
{
	switch (conf_origin_scope(v, id)) {
	case IN_DOMAIN:
		return ASK_AT_DOMAIN;
	case IN_BINDING:
	case IN_BINDING_GROUP:
		return ASK_AT_BINDING;
	default:
		return ASK_AT_SERVER;
	}
}

static usec_t
real_of(const struct why *w, usec_t mono)
{
	return clock_real() + (mono - loop_now(w->d->env.loop));
}

static void
add_conn(struct bytes *out, const struct dconn *c)
{
	if (c->client == NULL)
		bytes_add_str(out, "looking for hosts");
	else
		bytes_addf(out, "connection to %s (%s): %s", c->remote, c->hops[c->hop].name, dconn_stage_text(c));
	bytes_add_str(out, ", since ");
	ask_add_moment(out, c->since);
}

/* What the connections of the queue do: who waits for one wants to know. */
static void
add_conns(struct bytes *out, const struct dqueue *q)
{
	const struct dconn *c;
	unsigned n = 0;

	if (q == NULL)
		return;
	TAILQ_FOREACH (c, &q->conns, link) {
		if (n++ == CONNS_NAMED)
			break;
		bytes_add_str(out, n > 1 ? "; " : "");
		add_conn(out, c);
	}
	if (q->nconns > CONNS_NAMED)
		bytes_addf(out, "; and %u more", q->nconns - CONNS_NAMED);
}

/* ---- the message itself ---- */

static void
why_job(const struct why *w, const struct job *j)
{
	struct bytes seen = { 0 };
	struct ask_hold h = { .holds = false };
	const char *cause = "waits for a connection";

	if (j->state == JOB_LOADING) {
		cause = "in work now: being read from the disk";
	} else if (j->state == JOB_SETTLING) {
		cause = "in work now: what became of it is being written";
	} else if (j->conn != NULL) {
		cause = "in work now";
		add_conn(&seen, j->conn);
		bytes_add_str(&seen, "; this message, since ");
		ask_add_moment(&seen, j->since);
	} else {
		add_conns(&seen, w->q);
	}
	h.evidence = slice_bytes(&seen);
	tell(w, &h, ASK_AT_MESSAGE, cause);
	bytes_fini(&seen);
}

/* ---- limits ---- */

static void
why_connections(const struct why *w, const struct permits *p)
{
	uint32_t n = limit_count(w->d->env.limits, p->of[PERMIT_QUEUE].key);
	struct bytes seen = { 0 };

	if (n < p->of[PERMIT_QUEUE].most)
		return;
	bytes_addf(&seen, "%u in use", n);
	if (w->q != NULL && w->q->nconns > 0)
		bytes_add_str(&seen, ": ");
	add_conns(&seen, w->q);
	tell_option(w,
		    &(struct ask_hold){ .evidence = slice_bytes(&seen),
					.lets_go = SLICE("when one of them ends its message or closes") },
		    ASK_AT_QUEUE, "connection limit of binding and domain", w->view, OPT_MAX_OUTBOUND_CONNECTIONS);
	bytes_fini(&seen);
}

static void
why_shared(const struct why *w, const struct permits *p, enum permit which)
{
	bool server = which == PERMIT_SERVER;
	struct bytes seen = { 0 };
	uint32_t n;

	if (p->of[which].key == 0 || (n = limit_count(w->d->env.limits, p->of[which].key)) < p->of[which].most)
		return;
	bytes_addf(&seen, "%u in use, %u by this worker", n,
		   limit_held(w->d->env.limits, w->d->env.slot, p->of[which].key));
	tell_option(w,
		    &(struct ask_hold){ .evidence = slice_bytes(&seen),
					.lets_go = SLICE("when a connection closes; then it is the turn of who waits "
							 "longest") },
		    server ? ASK_AT_SERVER : ASK_AT_BINDING,
		    server ? "connection limit of the server" : "connection limit of the binding",
		    server ? conf_global(w->d->conf) : w->view, OPT_SERVER_MAX_OUTBOUND_CONNECTIONS);
	bytes_fini(&seen);
}

static bool
why_throttle(const struct why *w)
{
	struct conf_rate rate = conf_rate(w->view, OPT_OUTBOUND_THROTTLE_MESSAGES);
	struct bytes seen = { 0 };
	usec_t until;

	if (rate.n == 0)
		return false;
	until = bucket_until(w->d->env.limits, delivery_throttle_key(w->view), rate.n, rate.seconds,
			     loop_now(w->d->env.loop));
	if (until == 0)
		return false;
	bytes_addf(&seen, "%u messages were let through in these %u s", rate.n, rate.seconds);
	tell_option(w, &(struct ask_hold){ .evidence = slice_bytes(&seen), .until = real_of(w, until) },
		    level_of(w->view, OPT_OUTBOUND_THROTTLE_MESSAGES), "message throttle", w->view,
		    OPT_OUTBOUND_THROTTLE_MESSAGES);
	bytes_fini(&seen);
	return true;
}

static void
why_limits(const struct why *w)
{
	struct permits p;
	bool throttled;

	if (w->d->env.limits == NULL)
		return;
	throttled = why_throttle(w);
	if (w->q != NULL) {
		permits_of(w->q, &p);
		why_connections(w, &p);
		why_shared(w, &p, PERMIT_BINDING);
		why_shared(w, &p, PERMIT_SERVER);
	}
	if (w->q != NULL && !throttled && w->q->wait_until > loop_now(w->d->env.loop))
		tell(w, &(struct ask_hold){ .holds = true, .until = real_of(w, w->q->wait_until) }, ASK_AT_HOST,
		     "every host of this domain is being avoided");
	if (w->q != NULL && w->q->soft_until > loop_now(w->d->env.loop) && w->q->nidle == 0)
		tell(w,
		     &(struct ask_hold){ .holds = true,
					 .evidence = SLICE("a further connection was refused while others stood"),
					 .until = real_of(w, w->q->soft_until) },
		     ASK_AT_HOST, "the host takes no more connections than there are");
}

/* ---- room ---- */

static void
why_room(const struct why *w)
{
	const struct delivery *d = w->d;
	struct bytes seen = { 0 };
	struct ask_hold h = { .lets_go = SLICE("when a message in work ends") };

	if (delivery_has_room(d))
		return;
	bytes_addf(&seen, "%u messages (%llu bytes) are in memory here, room for %u", d->njobs,
		   (unsigned long long)d->bytes, d->resident);
	if (d->memory != UINT64_MAX)
		bytes_addf(&seen, " (%llu bytes)", (unsigned long long)d->memory);
	h.evidence = slice_bytes(&seen);
	tell_option(w, &h, ASK_AT_WORKER, "no room for resident messages", conf_global(d->conf),
		    d->njobs >= d->resident ? OPT_MAX_RESIDENT_MESSAGES : OPT_MAX_RESIDENT_MEMORY);
	bytes_fini(&seen);
}

/* ---- the host the last outcome speaks of ---- */

static void
why_host(const struct why *w)
{
	struct sockaddr_storage a;
	struct host_state s;
	struct bytes seen = { 0 };
	struct ask_hold h;

	if (!host_parse(w->ask->remote, &a) || !host_look(w->d->hosts, &a, &s))
		return;
	bytes_addf(&seen, "%.*s failed (%u in a row), the last time: %s", (int)w->ask->remote.n, w->ask->remote.p,
		   s.failures, s.why);
	h = (struct ask_hold){ .holds = s.until > loop_now(w->d->env.loop), .evidence = slice_bytes(&seen) };
	if (h.holds)
		h.until = real_of(w, s.until);
	tell(w, &h, ASK_AT_HOST, h.holds ? "the host is being avoided" : "the host may be tried again");
	bytes_fini(&seen);
}

/* ---- the owner ---- */

static void
why_owner(const struct why *w)
{
	static const struct {
		const char *cause, *lets_go;
	} rows[] = {
		[OWNER_FOREIGN] = { "the queue has just passed to another worker", "at once: ask again" },
		[OWNER_STARTING] = { "the worker that owns the queue is starting",
				     "when the keeper has committed what the owner before it wrote" },
		[OWNER_HANDED] = { "the worker is draining", "when the next generation has taken the queue over" },
		[OWNER_LENT] = { "the queue's owner is busy and has lent it to another worker",
				 "when that worker says what became of it, or gives it back" },
		[OWNER_EDITING] = { "out of its queue: a console command about it is being written",
				    "at once: ask again" },
		[OWNER_OVER] = { "what became of it is written and not yet in the index", "at once: ask again" },
	};
	enum owner_where at = w->found->where;

	if (at >= sizeof(rows) / sizeof(rows[0]) || rows[at].cause == NULL)
		return;
	tell(w, &(struct ask_hold){ .holds = at != OWNER_OVER, .lets_go = slice_str(rows[at].lets_go) }, ASK_AT_WORKER,
	     rows[at].cause);
}

/* Its time has come, and it is on no connection: limits are what it waits for. */
static bool
waits_now(const struct why *w, const struct job *j)
{
	switch (w->found->where) {
	case OWNER_READY:
		return true;
	case OWNER_TAKEN:
		return j == NULL || j->state == JOB_WAITING;
	case OWNER_ABSENT:
		return w->ask->due;
	default:
		return false;
	}
}

void
delivery_why(struct delivery *d, const struct ask_why *ask, const struct owner_found *found, struct bytes *out)
{
	struct why w = { .d = d, .ask = ask, .found = found, .out = out };
	const struct job *j = found->where == OWNER_TAKEN ? found->role : NULL;

	w.view = conf_sending(d->conf, ask->binding, ask->domain);
	w.q = found->queue == NULL ? NULL : owner_queue_role(found->queue);
	if (j != NULL)
		why_job(&w, j);
	if (waits_now(&w, j)) {
		why_limits(&w);
		if (j == NULL)
			why_room(&w);
	}
	why_host(&w);
	why_owner(&w);
}
