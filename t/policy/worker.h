/* worker.h - the worker that policy thinks it has: for tests that run scripts in a host
 * One session with one message at a time. Waits are kept, and end when `worker_turn` comes to them: timers by their time,
 * questions by what `answer` says. The clock is moved by turns, and by `tick` at each look.
 * Owner: worker_open to worker_close, at most one at a time; the bundle is filled and the host made by the caller
 * between. */
#ifndef T_POLICY_WORKER_H
#define T_POLICY_WORKER_H

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "policy/lua/lua_host.h"
#include "shm/base/log.h"

enum { WORKER_WAITS = 64 };

struct wait {
	bool live;
	policy_dns_done *dns;
	void (*timer)(void *arg);
	void *arg;
	usec_t at;
	char name[128], type[8];
};

struct worker {
	struct policy_host_ops ops;
	struct policy *policy;
	struct policy_bundle *bundle;
	struct lua_host *host;
	struct policy_session *session;
	struct policy_msg *msg, *clone;
	struct wait waits[WORKER_WAITS];
	/* Ends the wait of a question and calls its dns; false: it is not answered. */
	bool (*answer)(struct worker *w, struct wait *wait);
	struct bytes capabilities; /* lines: those that scripts have added */
	struct policy_run run;
	bool done;
};

static usec_t worker_now = 1000000, worker_tick;

static inline usec_t
worker_mono(void)
{
	return worker_now += worker_tick;
}

static inline usec_t
worker_real(void)
{
	return INT64_C(1700000000) * USEC_PER_SEC;
}

/* ---- what it does for policy ---- */

static inline struct wait *
worker_wait(struct worker *w)
{
	for (size_t i = 0; i < WORKER_WAITS; i++)
		if (!w->waits[i].live) {
			w->waits[i] = (struct wait){ .live = true };
			return &w->waits[i];
		}
	require_that(false, "worker"); /* one session, one phase: it cannot wait for so much */
	return NULL;
}

static inline void *
worker_on_dns(void *arg, const char *name, const char *type, policy_dns_done *done, void *done_arg)
{
	struct wait *wait = worker_wait(arg);

	wait->dns = done;
	wait->arg = done_arg;
	snprintf(wait->name, sizeof(wait->name), "%s", name);
	snprintf(wait->type, sizeof(wait->type), "%s", type);
	return wait;
}

static inline void *
worker_on_timer(void *arg, usec_t at, void (*fn)(void *fn_arg), void *fn_arg)
{
	struct wait *wait = worker_wait(arg);

	wait->timer = fn;
	wait->arg = fn_arg;
	wait->at = at;
	return wait;
}

static inline void
worker_on_cancel(void *arg, void *wait)
{
	(void)arg;
	require_that(((struct wait *)wait)->live, "worker");
	((struct wait *)wait)->live = false;
}

static inline bool
worker_on_binding(void *arg, struct slice name)
{
	(void)arg;
	return slice_eq(name, SLICE("out1"));
}

static inline bool
worker_on_capability(void *session, struct slice name)
{
	struct worker *w = session;

	bytes_add_slice(&w->capabilities, name);
	bytes_add_char(&w->capabilities, '\n');
	return name.n > 0;
}

static inline bool
worker_on_capability_gone(void *session, struct slice name)
{
	(void)session;
	return name.n > 0;
}

static inline int64_t
worker_on_sessions(void *session, struct slice cidr, struct slice service)
{
	(void)session;
	if (!slice_eq(service, SLICE("SMTP")))
		return -1;
	return cidr.n == 0 ? 3 : 7;
}

/* One thing that is due by `until`, as the loop would; false: nothing is. */
static inline bool
worker_turn(struct worker *w, usec_t until)
{
	struct wait *next = NULL;

	for (size_t i = 0; i < WORKER_WAITS; i++) {
		struct wait *wait = &w->waits[i];

		if (wait->live && wait->dns != NULL && w->answer(w, wait))
			return true;
		if (wait->live && wait->timer != NULL && (next == NULL || wait->at < next->at))
			next = wait;
	}
	if (next == NULL || next->at > until)
		return false;
	if (next->at > worker_now)
		worker_now = next->at;
	next->live = false;
	next->timer(next->arg);
	return true;
}

static inline bool
worker_waits(const struct worker *w)
{
	for (size_t i = 0; i < WORKER_WAITS; i++)
		if (w->waits[i].live)
			return true;
	return false;
}

/* ---- its session ---- */

static inline void
worker_session(struct worker *w)
{
	static const struct policy_view_ops view = { worker_on_capability, worker_on_capability_gone,
						     worker_on_sessions };
	struct policy_session_env env = { .ops = &view, .owner = w, .conn = 0x1234, .protocol = POLICY_ESMTP };
	const struct policy_msg_env mail = { .sender = SLICE("from@sender.example"),
					     .rcpt = SLICE("to@example.com"),
					     .id = 1,
					     .batch = 2,
					     .conn = 0x1234 };
	const struct sockaddr_in in = { .sin_family = AF_INET,
					.sin_port = htons(4321),
					.sin_addr.s_addr = htonl(0xc0000207) };

	memcpy(&env.remote, &in, sizeof(in));
	w->session = policy_session_new(w->policy, &env);
	w->msg = policy_msg_new(w->session, &mail);
	policy_msg_replace_header(w->msg, SLICE("Received: from x by y\r\nSubject: =?iso-8859-1?Q?caf=E9?= au\r\n"
						" lait\r\nTo: <to@example.com>\r\n"));
	policy_msg_replace_body(w->msg, SLICE("\r\nHello\r\nworld\r\n"));
}

static inline void
worker_session_end(struct worker *w)
{
	policy_run_fini(&w->run);
	policy_msg_free(&w->clone);
	policy_msg_free(&w->msg);
	policy_session_free(&w->session);
}

static inline void
worker_on_done(struct policy_run *r, void *arg)
{
	(void)r;
	((struct worker *)arg)->done = true;
}

/* In the phases of one recipient a clone is what they see, as in reception. */
static inline struct policy_msg *
worker_msg(struct worker *w, enum policy_phase phase)
{
	if (phase < PHASE_MAILFROM)
		return NULL;
	if (phase < PHASE_EACH_RCPT)
		return w->msg;
	if (w->clone == NULL)
		w->clone = policy_msg_clone(w->msg, 3, policy_msg_rcpt(w->msg));
	return w->clone;
}

/* ERR_AGAIN: it waits, and `done` tells when it is over. */
static inline enum err
worker_phase(struct worker *w, enum policy_phase phase)
{
	policy_run_fini(&w->run);
	w->done = false;
	w->run = (struct policy_run){ .phase = phase,
				      .session = w->session,
				      .msg = worker_msg(w, phase),
				      .str = phase == PHASE_EHLO ? SLICE("client.example")
								 : SLICE("someone@example.net"),
				      .done = worker_on_done,
				      .arg = w };
	return policy_run(&w->run);
}

/* ---- its life ---- */

static inline void
worker_open(struct worker *w, bool (*answer)(struct worker *w, struct wait *wait), log_sink *sink, void *sink_arg)
{
	*w = (struct worker){ .answer = answer };
	w->ops = (struct policy_host_ops){ worker_on_dns,    worker_on_cancel,  worker_on_timer,
					   worker_on_cancel, worker_on_binding, w };
	w->policy = policy_new("mx.example.test", &w->ops);
	w->bundle = policy_bundle_new();
	log_set_sink(sink, sink_arg);
	clock_set_source(worker_mono, worker_real);
}

static inline void
worker_close(struct worker *w)
{
	worker_session_end(w);
	lua_host_free(&w->host);
	policy_free(&w->policy);
	policy_bundle_free(&w->bundle);
	bytes_fini(&w->capabilities);
	log_set_sink(NULL, NULL);
	clock_set_source(NULL, NULL);
}

#endif
