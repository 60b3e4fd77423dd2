/* rig.h - the real session code on a socket pair, with a spool and a policy that the test holds in its hand
 * The clock is the rig's: it moves only by rig_wait. Policy answers at once with what `rig_verdict` says for the phase,
 * or waits until rig_policy_answers; the store keeps what it is given and says "synced" at the end of each turn, or, with
 * rig->hold_sync, when rig_synced is called. Header only: each test program is one file. A
 * fuzzer defines RIG_IN_FUZZER. */
#ifndef T_SMTP_RIG_H
#define T_SMTP_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#ifdef RIG_IN_FUZZER
#define assert_true(x)         ((x) ? (void)0 : abort())
#define assert_null(x)         assert_true((x) == NULL)
#define assert_non_null(x)     assert_true((x) != NULL)
#define assert_int_equal(a, b) assert_true((a) == (b))
#define assert_ptr_equal(a, b) assert_true((a) == (b))
#define fail_msg(...)          (fprintf(stderr, __VA_ARGS__), abort())
#else
#include <cmocka.h>
#endif

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policy/conf/conf.h"
#include "policy/policy.h"
#include "shm/base/mem.h"
#include "worker/net/loop.h"
#include "worker/net/stream.h"
#include "worker/reception/reception.h"
#include "worker/reception/reception_options.h"

enum { RIG_MAILS = 64, RIG_LARGE = 16 };

/* A mail that reached the store, as text: header and body of item i one after the other. */
struct rig_mail {
	size_t n;
	char *rcpts; /* "a@x b@y " */
	char *sender;
	struct bytes content;   /* of the first item, our Received field cut off */
	struct bytes received;  /* that field */
	char *binding, *domain; /* of the first */
	bool eightbit, utf8, nul, has_notice;
	struct bytes notice;
	reception_done_fn *done;
	void *arg;
	bool answered;
};

struct rig {
	struct loop *loop;
	struct conf *conf;
	struct policy *policy;
	struct reception *r;
	struct reception_store store;
	struct reception_policy ask;
	int fd;           /* the client's end, -1 once closed */
	struct bytes got; /* what the server said and no one has looked at */
	bool closed;      /* by the server */
	bool hold_sync;
	enum err sync_says;
	struct rig_mail mails[RIG_MAILS];
	size_t nmails;
	bool accepting, drained;
	enum err submit_says;
	uint64_t next_id;
	/* policy */
	struct policy_verdict verdicts[PHASE_MAX];
	bool waits[PHASE_MAX];
	bool discards[PHASE_MAX];
	const char *refuse_rcpt; /* in data_spool_each_rcpt */
	struct policy_run *waiting;
	int asked[PHASE_MAX], cancelled;
	struct bytes phases; /* names, in order */
	/* streamed bodies */
	unsigned announced; /* messages, to the store */
	unsigned larges, larges_freed;
	size_t large_room; /* bytes after which an append says ERR_AGAIN; 0: never */
	enum err large_says;
	bool full; /* it said so, and room has not been called */
	void (*room)(void *arg);
	void *room_arg;
};

static struct rig *the_rig;
static usec_t rig_clock = 1000 * USEC_PER_SEC;

static usec_t
rig_mono(void)
{
	return rig_clock;
}

static usec_t
rig_real(void)
{
	return INT64_C(1795248000) * USEC_PER_SEC + rig_clock;
}

/* The store. */

struct rig_large {
	struct bytes data;
};

static bool
rig_accepting(void *arg)
{
	return ((struct rig *)arg)->accepting;
}

static void
rig_announced(void *arg)
{
	((struct rig *)arg)->announced++;
}

static uint64_t
rig_new_id(void *arg)
{
	return ++((struct rig *)arg)->next_id;
}

static void *
rig_body_new(void *arg, void (*room)(void *room_arg), void *room_arg)
{
	struct rig *g = arg;

	g->larges++;
	g->room = room;
	g->room_arg = room_arg;
	return mem_zalloc(sizeof(struct rig_large));
}

static enum err
rig_body_append(void *body, struct slice bytes)
{
	struct rig_large *l = body;
	size_t before = l->data.n;

	if (the_rig->large_says != OK)
		return the_rig->large_says;
	bytes_add_slice(&l->data, bytes);
	if (the_rig->large_room == 0 || before / the_rig->large_room == l->data.n / the_rig->large_room)
		return OK;
	the_rig->full = true;
	return ERR_AGAIN;
}

static void
rig_body_written(void *body, void (*ready)(void *ready_arg, enum err e, int fd, uint64_t off), void *ready_arg)
{
	(void)body;
	ready(ready_arg, OK, -1, 0);
}

static void
rig_body_free(void *body)
{
	struct rig_large *l = body;

	the_rig->larges_freed++;
	the_rig->full = false;
	bytes_fini(&l->data);
	free(l);
}

static void
rig_keep_content(struct rig_mail *m, struct slice header, struct slice body)
{
	/* Our field is the first, and folded: up to the first line end that no tab follows. */
	size_t at = 0;

	do {
		at += slice_find(slice_of(header.p + at, header.n - at), '\n') + 1;
	} while (at < header.n && header.p[at] == '\t');
	bytes_add(&m->received, header.p, at);
	bytes_add(&m->content, header.p + at, header.n - at);
	bytes_add_slice(&m->content, body);
}

static enum err
rig_submit(void *arg, struct reception_mail *mail, reception_done_fn *done, void *done_arg)
{
	struct rig *g = arg;
	struct rig_mail *m = &g->mails[g->nmails];
	struct bytes rcpts = { 0 };
	struct rig_large *l = mail->large;

	if (g->submit_says != OK) {
		if (l != NULL)
			rig_body_free(l);
		return g->submit_says;
	}
	assert_true(g->nmails < RIG_MAILS);
	g->nmails++;
	*m = (struct rig_mail){ .n = mail->n, .done = done, .arg = done_arg };
	for (size_t i = 0; i < mail->n; i++) {
		const struct reception_mail_item *it = &mail->items[i];
		if (it->generated) {
			m->has_notice = true;
			bytes_add_slice(&m->notice, it->header);
			bytes_add_slice(&m->notice, it->body);
			continue;
		}
		bytes_add_slice(&rcpts, it->rcpt);
		bytes_add_char(&rcpts, ' ');
		if (m->sender != NULL)
			continue;
		m->sender = slice_dup(it->sender);
		m->binding = slice_dup(it->binding);
		m->domain = slice_dup(it->domain);
		m->eightbit = it->eightbit;
		rig_keep_content(m, it->own_header ? it->header : mail->header,
				 it->own_body ? it->body
				 : l != NULL  ? slice_bytes(&l->data)
					      : mail->body);
	}
	m->utf8 = mail->utf8;
	m->nul = mail->nul;
	m->rcpts = slice_dup(slice_bytes(&rcpts));
	bytes_fini(&rcpts);
	if (l != NULL)
		rig_body_free(l);
	return OK;
}

static void
rig_synced(struct rig *g, size_t i, enum err e)
{
	struct rig_mail *m = &g->mails[i];

	assert_true(i < g->nmails && !m->answered);
	m->answered = true;
	/* The proof is an address that is never looked at here. */
	m->done(m->arg, e, e == OK ? (const struct spool_proof *)(const void *)m : NULL);
}

/* The store has room again. */
static __attribute__((unused)) void
rig_make_room(struct rig *g)
{
	if (!g->full)
		return;
	g->full = false;
	g->room(g->room_arg);
}

/* Policy. */

static enum err
rig_ask(struct policy_run *r)
{
	struct rig *g = the_rig;

	g->asked[r->phase]++;
	bytes_add_str(&g->phases, policy_phases[r->phase].name);
	bytes_add_char(&g->phases, ' ');
	r->verdict = g->verdicts[r->phase];
	if (r->verdict.module == NULL)
		r->verdict.module = "";
	if (r->phase == PHASE_EACH_RCPT && g->refuse_rcpt != NULL &&
	    slice_eq(policy_msg_rcpt(r->msg), slice_str(g->refuse_rcpt)))
		r->verdict = (struct policy_verdict){
			.kind = VERDICT_REPLY, .code = 550, .text = SLICE("5.7.1 not you"), .module = "test"
		};
	if (g->discards[r->phase])
		policy_msg_discard(r->msg, SLICE("550 5.7.0 test"));
	if (!g->waits[r->phase])
		return OK;
	assert_null(g->waiting);
	g->waiting = r;
	return ERR_AGAIN;
}

static void
rig_cancel(struct policy_run *r)
{
	assert_ptr_equal(the_rig->waiting, r);
	the_rig->waiting = NULL;
	the_rig->cancelled++;
}

static __attribute__((unused)) void
rig_policy_answers(struct rig *g)
{
	struct policy_run *r = g->waiting;

	assert_non_null(r);
	g->waiting = NULL;
	r->done(r, r->arg);
}

/* Turns of the loop, and what the client sees. */

static void
rig_read(struct rig *g)
{
	char buf[65536];
	ssize_t n;

	while (g->fd >= 0 && !g->closed && (n = recv(g->fd, buf, sizeof buf, MSG_DONTWAIT)) >= 0) {
		if (n == 0)
			g->closed = true;
		bytes_add(&g->got, buf, (size_t)n);
	}
}

enum { ROUNDS = 64 };

/* Has the client sent what the server has not read yet? */
static bool
rig_unread(struct rig *g)
{
	int n = 0;

	return g->fd >= 0 && ioctl(g->fd, SIOCOUTQ, &n) == 0 && n > 0;
}

static void
rig_turn(struct rig *g)
{
	/* A server that reads a little at a time is given the turns that it needs; one that does not read, enough. */
	for (int round = 0; round == 0 || (round < ROUNDS && rig_unread(g)); round++) {
		for (int i = 0; i < 4; i++) {
			loop_turn(g->loop, 0);
			for (size_t m = 0; m < g->nmails && !g->hold_sync; m++)
				if (!g->mails[m].answered)
					rig_synced(g, m, g->sync_says);
		}
		rig_read(g);
	}
}

static __attribute__((unused)) void
rig_wait(struct rig *g, usec_t usec)
{
	rig_clock += usec;
	rig_turn(g);
}

static void
rig_send(struct rig *g, struct slice bytes)
{
	while (bytes.n > 0) {
		ssize_t n = send(g->fd, bytes.p, bytes.n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			bytes = slice_of(bytes.p + n, bytes.n - (size_t)n);
		else if (g->closed)
			return;
		rig_turn(g);
	}
}

/* What was said so far, and forgets it. */
static const char *
rig_said(struct rig *g)
{
	static struct bytes last;

	bytes_fini(&last);
	last = g->got;
	g->got = (struct bytes){ 0 };
	return bytes_cstr(&last);
}

static __attribute__((unused)) void
rig_expect_at(struct rig *g, const char *want, const char *file, int line)
{
	const char *said;

	rig_turn(g);
	said = rig_said(g);
	if (strcmp(said, want) != 0)
		fail_msg("%s:%d: wanted:\n%s\ngot:\n%s", file, line, want, said);
}
#define rig_expect(g, want) rig_expect_at(g, want, __FILE__, __LINE__)

/* Sends a text and expects exactly that answer. */
#define rig_talk(g, text, want)               \
	do {                                  \
		rig_send(g, slice_str(text)); \
		rig_expect(g, want);          \
	} while (0)

static void
rig_drained(void *arg)
{
	((struct rig *)arg)->drained = true;
}

/* A new connection of the same server from that address. */
static void
rig_connect_from(struct rig *g, const char *ip)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(4321) };
	struct sockaddr_in local = { .sin_family = AF_INET, .sin_port = htons(25) };
	int pair[2];

	assert_int_equal(inet_pton(AF_INET, ip, &peer.sin_addr), 1);
	local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	g->fd = pair[0];
	g->closed = false;
	reception_take(g->r, pair[1], 0, (struct sockaddr *)&peer, (struct sockaddr *)&local);
	rig_turn(g);
}

static void
rig_hang_up(struct rig *g)
{
	if (g->fd >= 0)
		close(g->fd);
	g->fd = -1;
	rig_turn(g);
}

static struct conf *
rig_conf(const char *text)
{
	const struct opt_table tables[] = { reception_options };
	struct bytes all = { 0 };
	struct conf_source src = { .path = "rig.conf", .tables = tables, .n_tables = 1, .no_files = true };
	struct conf_errors errs = { 0 };
	struct conf *c;

	bytes_addf(&all, "%s\n", text);
	if (strstr(text, "Listener") == NULL)
		bytes_add_str(&all, "ESMTP_Listener { Listen \"127.0.0.1:25\" { } }\n");
	src.text = slice_bytes(&all);
	c = conf_load(&src, &errs);
	if (c == NULL)
		fail_msg("configuration: %s", errs.n > 0 ? errs.v[0].text : "?");
	conf_errors_fini(&errs);
	bytes_fini(&all);
	return c;
}

static struct rig *
rig_new(const char *conf_text)
{
	struct rig *g = mem_zalloc(sizeof *g);
	struct reception_env env = { 0 };

	the_rig = g;
	clock_set_source(rig_mono, rig_real);
	g->loop = loop_new();
	g->conf = rig_conf(conf_text);
	g->policy = policy_new("mx.test", NULL);
	g->accepting = true;
	g->fd = -1;
	g->store = (struct reception_store){ rig_accepting, rig_announced,   rig_new_id,
					     rig_body_new,  rig_body_append, rig_body_written,
					     rig_body_free, rig_submit,      g };
	g->ask = (struct reception_policy){ rig_ask, rig_cancel };
	env.loop = g->loop;
	env.conf = g->conf;
	env.policy = g->policy;
	env.store = &g->store;
	env.ask = &g->ask;
	env.drained = rig_drained;
	env.arg = g;
	g->r = reception_new(&env);
	return g;
}

/* The usual start: connected from an address that may relay to example.com only, greeted. */
static __attribute__((unused)) struct rig *
rig_ready(void)
{
	struct rig *g = rig_new("relay_domains = ( \"example.com\" \"*.example.com\" )");

	rig_connect_from(g, "192.0.2.1");
	rig_expect(g, "220 mx.test ESMTP\r\n");
	rig_send(g, SLICE("EHLO client\r\n"));
	rig_turn(g);
	(void)rig_said(g);
	return g;
}

static void
rig_free(struct rig *g)
{
	g->hold_sync = false;
	rig_turn(g);
	reception_free(&g->r);
	rig_hang_up(g);
	rig_clock += 10 * USEC_PER_SEC;
	for (int i = 0; i < 3; i++)
		loop_turn(g->loop, 0);
	assert_int_equal(stream_lingering(), 0);
	assert_int_equal(g->larges, g->larges_freed);
	for (size_t i = 0; i < g->nmails; i++) {
		struct rig_mail *m = &g->mails[i];
		free(m->rcpts);
		free(m->sender);
		free(m->binding);
		free(m->domain);
		bytes_fini(&m->content);
		bytes_fini(&m->received);
		bytes_fini(&m->notice);
	}
	policy_free(&g->policy);
	conf_unref(&g->conf);
	loop_free(&g->loop);
	bytes_fini(&g->got);
	bytes_fini(&g->phases);
	(void)rig_said(g);
	free(g);
	clock_set_source(NULL, NULL);
}

#endif
