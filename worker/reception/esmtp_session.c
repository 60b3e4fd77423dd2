/* A session's life: from accept to the end of the turn in which it closed, its bytes and its two timers. */
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_limits.h"
#include "worker/reception/esmtp_int.h"
#include "worker/reception/reception_options.h"

enum {
	COMMAND_SECONDS = 300, /* from the first byte of a line to its CRLF (RFC 5321 4.5.3.2.7) */
	CONTENT_SECONDS = 600, /* for content, and one second more for each CONTENT_RATE bytes of it */
	CONTENT_RATE = 1024,
	OUTPUT_HIGH = 4096,    /* a peer that does not read its replies is not read either */
	COMMAND_BYTES = 512,   /* read at a time while commands come: what one session gets done before the next one */
	CONTENT_BYTES = 65536, /* and while content comes */
	SENT_MAX = 32,         /* transactions of one session that wait for the spool */
};

static void esmtp_on_event(struct stream *stream, enum stream_event ev, void *arg);
static void esmtp_on_idle(void *arg);
static void esmtp_on_deadline(void *arg);

/* The finger: whose bytes the loop touches now. */
static void
finger_on(struct esmtp *s)
{
	if (s->r->slot != NULL)
		slot_finger_peer(s->r->slot, slice_str(s->peer_ip));
}

static void
finger_off(struct reception *r)
{
	if (r->slot != NULL)
		slot_finger_clear(r->slot);
}

static void
address_text(const struct sockaddr *sa, char ip[INET6_ADDRSTRLEN], char *endpoint, size_t n)
{
	const void *addr = NULL;
	unsigned port = 0;

	if (sa != NULL && sa->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)sa;
		addr = &v4->sin_addr;
		port = ntohs(v4->sin_port);
	} else if (sa != NULL && sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const void *)sa;
		addr = &v6->sin6_addr;
		port = ntohs(v6->sin6_port);
	}
	if (addr == NULL || inet_ntop(sa->sa_family, addr, ip, INET6_ADDRSTRLEN) == NULL)
		memcpy(ip, "local", sizeof "local");
	snprintf(endpoint, n, strchr(ip, ':') != NULL ? "[%s]:%u" : "%s:%u", ip, port);
}

static struct policy_session *
policy_for(struct esmtp *s, const struct sockaddr *peer, const struct sockaddr *local)
{
	struct policy_session_env env = {
		.ops = &esmtp_view_ops, .owner = s, .conn = s->conn, .protocol = POLICY_ESMTP
	};
	struct policy_session *p;
	struct conf_dict initial = conf_dict(s->view, OPT_CONTEXT);

	if (peer != NULL)
		memcpy(&env.remote, peer,
		       peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	if (local != NULL)
		memcpy(&env.local, local,
		       local->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	p = policy_session_new(s->r->env.policy, &env);
	(void)policy_context_set(policy_session_conn(p), SLICE("pathway"), slice_str(conf_str(s->view, OPT_PATHWAY)));
	for (size_t i = 0; i < initial.n; i++)
		(void)policy_context_set(policy_session_conn(p), slice_str(initial.v[i].key),
					 slice_str(initial.v[i].value));
	return p;
}

/* One limit of the listener's; true when there is room, and then it is taken. */
static bool
take_limit(struct esmtp *s, enum opt_id id, const char *subject, uint64_t *key)
{
	int64_t max = conf_int(s->view, id);
	char scope[24];

	if (max <= 0 || s->r->env.limits == NULL)
		return true;
	snprintf(scope, sizeof scope, "%016llx", (unsigned long long)conf_origin(s->view, id));
	*key = limit_key(subject, slice_str(scope), slice_of(NULL, 0));
	if (limit_take(s->r->env.limits, s->r->env.slot, *key, (uint32_t)max))
		return true;
	*key = 0;
	return false;
}

static bool
room_for(struct esmtp *s)
{
	return s->r->nsessions <= s->r->max_sessions &&
	       take_limit(s, OPT_LISTENER_SESSIONS, "listener_sessions", &s->keys[0]) &&
	       take_limit(s, OPT_SERVICE_SESSIONS, "service_sessions", &s->keys[1]);
}

static bool
convicted(struct reception *r, const struct sockaddr *peer)
{
	return r->env.refused_peer != NULL && peer != NULL && r->env.refused_peer(r->env.arg, peer);
}

void
esmtp_new(struct reception *r, int fd, unsigned conf_index, const struct sockaddr *peer, const struct sockaddr *local)
{
	struct esmtp *s = mem_zalloc(sizeof *s);

	s->r = r;
	s->conn = r->env.store->new_id(r->env.store->arg);
	s->view = conf_receiving(r->env.conf, conf_index, peer, NULL);
	s->stream = stream_new(r->env.loop, fd, esmtp_on_event, s);
	s->module = "";
	s->draining = r->draining;
	STAILQ_INIT(&s->cmds);
	address_text(peer, s->peer_ip, s->peer, sizeof s->peer);
	address_text(local, (char[INET6_ADDRSTRLEN]){ 0 }, s->local, sizeof s->local);
	s->policy = policy_for(s, peer, local);
	TAILQ_INSERT_TAIL(&r->sessions, s, link);
	r->nsessions++;
	reception_count(r, CELL_SESSIONS_IN, 1);
	reception_count(r, CELL_CONNECTIONS_IN, 1);
	finger_on(s);
	if (convicted(r, peer) || !room_for(s)) {
		reception_count(r, CELL_CONNECTIONS_REFUSED, 1);
		esmtp_bye(s, convicted(r, peer) ? "4.4.5 Service unavailable"
						: "4.4.5 Service unavailable, concurrency limit reached");
	} else {
		esmtp_relay_client(s, peer);
		esmtp_greet(s);
	}
	finger_off(r);
}

/* Ends. */

static void
esmtp_free(void *arg)
{
	struct esmtp *s = arg;
	struct reception *r = s->r;

	policy_run_fini(&s->run);
	policy_session_free(&s->policy);
	bytes_fini(&s->caps);
	free(s->helo);
	free(s);
	reception_check_drained(r);
}

static void
give_limits(struct esmtp *s)
{
	for (size_t i = 0; i < sizeof s->keys / sizeof s->keys[0]; i++)
		if (s->keys[i] != 0)
			limit_give(s->r->env.limits, s->r->env.slot, s->keys[i]);
}

/* Everything but the stream. */
static void
leave(struct esmtp *s)
{
	struct reception *r = s->r;
	struct esmtp_cmd *c;

	require_that(!s->closed, "esmtp");
	s->closed = true;
	esmtp_enter(s, ES_CLOSING);
	if (s->asking)
		r->ask.cancel(&s->run);
	s->asking = false;
	loop_timer_stop(r->env.loop, &s->idle);
	loop_timer_stop(r->env.loop, &s->deadline);
	loop_later_cancel(r->env.loop, &s->go);
	while ((c = STAILQ_FIRST(&s->cmds)) != NULL) {
		STAILQ_REMOVE_HEAD(&s->cmds, link);
		if (c->sent != NULL)
			esmtp_sent_orphan(c->sent);
		esmtp_cmd_free(c);
	}
	s->current = NULL;
	esmtp_txn_drop(s);
	give_limits(s);
	TAILQ_REMOVE(&r->sessions, s, link);
	r->nsessions--;
	reception_count(r, CELL_SESSIONS_IN, -1);
	loop_later(r->env.loop, &s->gone, esmtp_free, s);
}

void
esmtp_close(struct esmtp *s)
{
	if (s->closed)
		return;
	leave(s);
	stream_close(&s->stream);
}

void
esmtp_finish(struct esmtp *s)
{
	if (s->closed)
		return;
	leave(s);
	stream_finish(&s->stream);
}

void
esmtp_end(struct esmtp *s)
{
	if (s->closed)
		return;
	leave(s);
	stream_end(&s->stream);
}

void
esmtp_kill(struct esmtp *s)
{
	esmtp_close(s);
}

/* A transaction that the spool has is waited for: its client is to hear what became of it. */
static bool
has_sent(const struct esmtp *s)
{
	struct esmtp_cmd *c;

	STAILQ_FOREACH (c, &s->cmds, link)
		if (c->sent != NULL)
			return true;
	return false;
}

void
esmtp_drain(struct esmtp *s, bool now)
{
	s->draining = true;
	if (now && !has_sent(s))
		esmtp_bye(s, "4.3.2 Service is shutting down");
}

/* Timers. */

/* idle_time runs while we wait for the peer, not while it waits for us. */
static void
set_idle(struct esmtp *s)
{
	int64_t seconds = conf_int(s->view, OPT_IDLE_TIME);
	struct loop *l = s->r->env.loop;

	if (s->closed)
		return;
	if (seconds > 0 && STAILQ_EMPTY(&s->cmds))
		loop_timer_set(l, &s->idle, loop_now(l) + seconds * USEC_PER_SEC, esmtp_on_idle, s);
	else if (seconds > 0 && s->state == ES_BODY && !s->txn->body.waiting)
		loop_timer_set(l, &s->idle, loop_now(l) + seconds * USEC_PER_SEC, esmtp_on_idle, s);
	else
		loop_timer_stop(l, &s->idle);
}

/* The command's own deadline begins with the first byte of its line and is not moved by the next ones. */
static void
set_deadline(struct esmtp *s)
{
	struct loop *l = s->r->env.loop;
	bool part = stream_in(s->stream).n > 0 || s->skipping;

	if (s->state == ES_BODY) {
		if (!ev_timer_armed(&s->deadline))
			loop_timer_set(l, &s->deadline, s->content_began + CONTENT_SECONDS * USEC_PER_SEC,
				       esmtp_on_deadline, s);
	} else if (!part || s->current != NULL) {
		loop_timer_stop(l, &s->deadline);
	} else if (!ev_timer_armed(&s->deadline)) {
		loop_timer_set(l, &s->deadline, loop_now(l) + COMMAND_SECONDS * USEC_PER_SEC, esmtp_on_deadline, s);
	}
}

static void
esmtp_on_idle(void *arg)
{
	esmtp_bye(arg, "4.4.2 Timeout, closing connection");
}

static void
esmtp_on_deadline(void *arg)
{
	struct esmtp *s = arg;
	struct loop *l = s->r->env.loop;

	if (s->state == ES_BODY) {
		usec_t at = s->content_began +
			    (CONTENT_SECONDS + (usec_t)(s->txn->body.size / CONTENT_RATE)) * USEC_PER_SEC;
		if (s->txn->body.waiting || at > loop_now(l)) {
			loop_timer_set(l, &s->deadline, at > loop_now(l) ? at : loop_now(l) + USEC_PER_SEC,
				       esmtp_on_deadline, s);
			return;
		}
	}
	esmtp_bye(s, "4.4.2 Timeout, closing connection");
}

/* Bytes. */

static size_t
waiting_for_spool(const struct esmtp *s)
{
	struct esmtp_cmd *c;
	size_t n = 0;

	STAILQ_FOREACH (c, &s->cmds, link)
		n++;
	return n;
}

/* May another command (or more content) be taken from the input now? */
static bool
may_read(const struct esmtp *s)
{
	if (s->closed || s->state == ES_CLOSING)
		return false;
	if (s->state == ES_BODY)
		return !s->txn->body.waiting;
	return s->current == NULL && stream_pending(s->stream) < OUTPUT_HIGH &&
	       (STAILQ_EMPTY(&s->cmds) || waiting_for_spool(s) < SENT_MAX);
}

/* One unit from the front of the input. False: there is no whole one. */
static bool
take_unit(struct esmtp *s)
{
	struct slice in = stream_in(s->stream), rest = in, line = { 0 };
	enum line_kind kind;

	if (in.n == 0)
		return false;
	if (s->state == ES_BODY) {
		bool end = esmtp_content(s, &rest);
		if (!s->closed)
			stream_consume(s->stream, in.n - rest.n);
		if (end && !s->closed)
			esmtp_judge(s);
		return end;
	}
	kind = line_take(&rest, &line, &s->skipping);
	stream_consume(s->stream, in.n - rest.n);
	if (kind == LINE_NONE)
		return false;
	esmtp_command(s, kind, line);
	return true;
}

static void
read_input(struct esmtp *s)
{
	s->reading = true;
	while (may_read(s) && take_unit(s))
		loop_timer_stop(s->r->env.loop, &s->deadline);
	s->reading = false;
	if (s->closed)
		return;
	if (s->r->stopping && !has_sent(s)) {
		esmtp_bye(s, "4.3.2 Service is shutting down");
		return;
	}
	stream_read_at_most(s->stream, s->state == ES_BODY ? CONTENT_BYTES : COMMAND_BYTES);
	stream_hold_reading(s->stream, !may_read(s));
	/* All that the peer will ever send is used, and all answers that it may wait for are given. */
	if (s->ended && may_read(s) && STAILQ_EMPTY(&s->cmds)) {
		esmtp_finish(s);
		return;
	}
	set_idle(s);
	set_deadline(s);
}

/* Bytes that wait are announced by the stream, so that they are its callback's; without any, what else may follow. */
static void
esmtp_on_go(void *arg)
{
	struct esmtp *s = arg;
	struct reception *r = s->r;

	finger_on(s);
	if (stream_in(s->stream).n > 0 && may_read(s)) {
		stream_hold_reading(s->stream, true);
		stream_hold_reading(s->stream, false);
	} else {
		read_input(s);
	}
	finger_off(r);
}

void
esmtp_go_on(struct esmtp *s)
{
	if (!s->closed && !s->reading)
		loop_later(s->r->env.loop, &s->go, esmtp_on_go, s);
}

static void
esmtp_on_event(struct stream *stream, enum stream_event ev, void *arg)
{
	struct esmtp *s = arg;
	struct reception *r = s->r;

	(void)stream;
	finger_on(s);
	switch (ev) {
	case STREAM_READABLE:
		read_input(s);
		break;
	case STREAM_EOF:
		s->ended = true;
		read_input(s);
		break;
	case STREAM_DRAINED:
		if (may_read(s))
			read_input(s);
		break;
	case STREAM_CONNECTED:
		break;
	case STREAM_ERROR:
		esmtp_close(s);
		break;
	}
	finger_off(r);
}
