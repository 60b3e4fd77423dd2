/* smtp_client against a scripted peer on a loopback socket: every stage, every way to fail there.
 * A script is lines: "S:text" the peer says it, "C:prefix" it waits for that line, "B" it reads a message up to the
 * lone dot, "T:text" it says it one byte a turn, "X" it closes, "R" it resets, "W" it waits for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/delivery/smtp_client.h"
#include "worker/net/loop.h"
#include "worker/net/stream.h"

enum { TURNS_MAX = 4000, TURN_USEC = 300, STILL_TURNS = 16, STEPS_MAX = 64 };

static usec_t fake_now = 1000 * USEC_PER_SEC;

static usec_t
fake_mono(void)
{
	return fake_now;
}

static usec_t
fake_real(void)
{
	return fake_now;
}

enum dot { DOT_AT_ONCE, DOT_LATE, DOT_NEVER };

struct peer {
	struct loop *loop;
	struct stream *s;
	const char *const *script;
	int fd;
	size_t step, trickled;
	bool over;
	struct bytes heard; /* all lines that were awaited, and messages */
};

struct world {
	struct loop *loop;
	struct peer peer;
	int listener;
	struct smtp_client *client;
	struct smtp_mail mail;
	struct slice body;
	size_t given, chunk;
	enum dot dot;
	unsigned mails_left;
	struct bytes log;
	bool down;
};

static void peer_run(struct peer *p);

/* Takes a line from the peer's input. */
static bool
peer_line(struct peer *p, struct slice *line)
{
	struct slice in = stream_in(p->s);
	const char *lf = in.n == 0 ? NULL : memmem(in.p, in.n, "\r\n", 2);

	if (lf == NULL)
		return false;
	*line = slice_of(in.p, (size_t)(lf - in.p));
	return true;
}

static bool
peer_expect(struct peer *p, const char *prefix)
{
	struct slice line;

	if (!peer_line(p, &line))
		return false;
	bytes_add_slice(&p->heard, line);
	bytes_add_char(&p->heard, '\n');
	if (line.n < strlen(prefix) || memcmp(line.p, prefix, strlen(prefix)) != 0)
		fail_msg("peer expected \"%s\", got \"%.*s\"", prefix, (int)line.n, line.p);
	stream_consume(p->s, line.n + 2);
	return true;
}

/* Up to and with CRLF.CRLF, counted from a line start. */
static bool
peer_message(struct peer *p)
{
	struct slice in = stream_in(p->s);
	const char *end;

	if (in.n >= 3 && memcmp(in.p, ".\r\n", 3) == 0)
		end = in.p;
	else if (in.n == 0 || (end = memmem(in.p, in.n, "\r\n.\r\n", 5)) == NULL)
		return false;
	else
		end += 2;
	bytes_add(&p->heard, in.p, (size_t)(end - in.p));
	stream_consume(p->s, (size_t)(end - in.p) + 3);
	return true;
}

static bool
peer_trickle(struct peer *p, const char *text)
{
	size_t n = strlen(text);

	if (p->trickled < n)
		stream_write(p->s, slice_of(text + p->trickled, 1));
	else if (p->trickled == n)
		stream_write(p->s, SLICE("\r\n"));
	if (p->trickled++ <= n)
		return false;
	p->trickled = 0;
	return true;
}

static bool
peer_step(struct peer *p, const char *step)
{
	switch (step[0]) {
	case 'S':
		stream_writef(p->s, "%s\r\n", step + 2);
		return true;
	case 'T':
		return peer_trickle(p, step + 2);
	case 'C':
		return peer_expect(p, step + 2);
	case 'B':
		return peer_message(p);
	case 'R': {
		struct linger l = { 1, 0 };

		(void)setsockopt(stream_fd(p->s), SOL_SOCKET, SO_LINGER, &l, sizeof(l));
		stream_close(&p->s);
		p->over = true;
		return false;
	}
	case 'X':
		stream_flush(p->s);
		stream_close(&p->s);
		p->over = true;
		return false;
	default:
		return false;
	}
}

static void
peer_run(struct peer *p)
{
	while (!p->over && p->script[p->step] != NULL && peer_step(p, p->script[p->step]))
		p->step++;
}

static void
peer_on_stream(struct stream *s, enum stream_event ev, void *arg)
{
	struct peer *p = arg;

	(void)s;
	if (ev == STREAM_READABLE)
		peer_run(p);
	else if (ev == STREAM_EOF || ev == STREAM_ERROR) {
		stream_close(&p->s);
		p->over = true;
	}
}

/* ---- the client's owner ---- */

static void
on_idle(void *arg)
{
	struct world *w = arg;

	bytes_add_str(&w->log, "idle ");
	if (w->mails_left > 0) {
		w->mails_left--;
		w->given = 0;
		smtp_client_send(w->client, &w->mail);
	}
}

static void
on_opened(void *arg)
{
	struct world *w = arg;

	bytes_add_str(&w->log, "opened ");
	if (w->dot == DOT_AT_ONCE)
		smtp_client_dot(w->client);
}

static void
on_want(void *arg)
{
	struct world *w = arg;
	size_t n = w->body.n - w->given;

	if (w->chunk > 0 && n > w->chunk)
		n = w->chunk;
	smtp_client_give(w->client, slice_of(w->body.p + w->given, n), w->given + n == w->body.n);
	w->given += n;
}

static void
on_done(void *arg, const struct smtp_result *results, unsigned n)
{
	static const char *const how[] = { "reply", "lost", "doubt", "untried" };
	struct world *w = arg;

	for (unsigned i = 0; i < n; i++)
		bytes_addf(&w->log, "done(%s,%d,%.*s) ", how[results[i].how], results[i].stage, (int)results[i].text.n,
			   results[i].text.p);
}

static void
on_down(void *arg, const struct smtp_down *why)
{
	struct world *w = arg;

	bytes_addf(&w->log, "down(%d,%.*s)", why->stage, why->asked ? 3 : (int)why->text.n,
		   why->asked ? "bye" : why->text.p);
	smtp_client_free(&w->client);
	w->down = true;
}

static const struct smtp_client_ops ops = { on_idle, on_opened, on_want, on_done, on_down };

/* ---- the world ---- */

static void
world_open(struct world *w, const char *const *script)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	struct smtp_client_conf conf = {
		.remote = (const struct sockaddr *)&sin,
		.ehlo = "out.example.test",
		.timeouts = { 300, 300, 300, 300, 600, 30, 5 },
		.ops = &ops,
		.arg = w,
	};

	clock_set_source(fake_mono, fake_real);
	w->loop = loop_new();
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(w->listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(w->listener, 1), 0);
	assert_int_equal(getsockname(w->listener, (struct sockaddr *)&sin, &len), 0);
	conf.loop = w->loop;
	w->client = smtp_client_new(&conf);
	assert_non_null(w->client);
	w->peer = (struct peer){ .loop = w->loop, .script = script };
	w->peer.fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(w->peer.fd >= 0);
	w->peer.s = stream_new(w->loop, w->peer.fd, peer_on_stream, &w->peer);
	peer_run(&w->peer);
}

static void
world_close(struct world *w)
{
	smtp_client_free(&w->client);
	stream_close(&w->peer.s);
	for (int i = 0; i < 4; i++)
		loop_turn(w->loop, 0);
	close(w->listener);
	bytes_fini(&w->peer.heard);
	bytes_fini(&w->log);
	for (int i = 0; i < 4; i++) {
		fake_now += 10 * USEC_PER_SEC;
		loop_turn(w->loop, 0);
	}
	loop_free(&w->loop);
	clock_set_source(NULL, NULL);
}

/* Turns until the connection is over; when nothing moves for a while, the fake clock jumps. */
static void
world_run(struct world *w)
{
	size_t seen = 0;
	unsigned still = 0;

	for (unsigned turn = 0; turn < TURNS_MAX && !w->down; turn++) {
		loop_turn(w->loop, TURN_USEC);
		peer_run(&w->peer);
		if (w->dot == DOT_LATE && turn == 40)
			smtp_client_dot(w->client);
		still = w->log.n + w->peer.step + w->peer.trickled == seen ? still + 1 : 0;
		seen = w->log.n + w->peer.step + w->peer.trickled;
		if (still > STILL_TURNS) {
			fake_now += 60 * USEC_PER_SEC;
			still = STILL_TURNS / 2;
		}
	}
	assert_true(w->down);
}

#define HELLO      "S:220 there", "C:EHLO out.example.test"
#define PLAIN      HELLO, "S:250 there"
#define PIPED      HELLO, "S:250-there", "S:250-PIPELINING", "S:250-SIZE 1000", "S:250 8BITMIME"
#define MAIL       "C:MAIL FROM:<a@x>"
#define RCPT       "C:RCPT TO:<b@y>"
#define PIPE_GROUP MAIL, RCPT, "C:DATA"

static const struct dialogue {
	const char *name;
	const char *script[STEPS_MAX];
	const char *want;
	unsigned mails;
	enum dot dot;
	unsigned rcpts;
} dialogues[] = {
	{ "plain",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "S:250 2.0.0 taken", "C:QUIT", "X" },
	  "idle opened done(reply,9,250 2.0.0 taken) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "pipelined",
	  { PIPED, PIPE_GROUP, "S:250 ok", "S:250 ok", "S:354 go", "B", "S:250 taken", "C:QUIT", "X" },
	  "idle opened done(reply,9,250 taken) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "the dot waits for the disk",
	  { PIPED, PIPE_GROUP, "S:250 ok", "S:250 ok", "S:354 go", "B", "S:250 taken", "C:QUIT", "X" },
	  "idle opened done(reply,9,250 taken) idle down(1,bye)",
	  1,
	  DOT_LATE,
	  1 },
	{ "the dot never leaves without it",
	  { PIPED, PIPE_GROUP, "S:250 ok", "S:250 ok", "S:354 go", "B", "S:250 taken" },
	  "idle opened done(lost,8,451 4.4.2 [internal] send BODY failed) down(8,451 4.4.2 [internal] send BODY "
	  "failed)",
	  1,
	  DOT_NEVER,
	  1 },
	{ "answers byte by byte",
	  { "T:220 there", "C:EHLO", "T:250 there", MAIL, "T:250 ok", RCPT, "T:250 ok", "C:DATA", "T:354 go", "B",
	    "T:250 taken", "C:QUIT", "X" },
	  "idle opened done(reply,9,250 taken) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "replies of several lines",
	  { "S:220-hello", "S:220 there", "C:EHLO", "S:250 there", MAIL, "S:250-a", "S:250 b", RCPT, "S:550-5.1.1 no",
	    "S:550 5.1.1 such", "C:QUIT", "X" },
	  "idle opened done(reply,4,550 5.1.1 no 5.1.1 such) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "two messages, one connection",
	  { PIPED, PIPE_GROUP, "S:250 ok", "S:250 ok", "S:354 go", "B", "S:250 one", PIPE_GROUP, "S:250 ok", "S:250 ok",
	    "S:354 go", "B", "S:250 two", "C:QUIT", "X" },
	  "idle opened done(reply,9,250 one) idle opened done(reply,9,250 two) idle down(1,bye)",
	  2,
	  DOT_AT_ONCE,
	  1 },
	{ "the last line's code counts",
	  { "S:220-hello", "S:521 no mail here", "X" },
	  "down(12,521 hello no mail here)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "greeting 421", { "S:421 busy", "X" }, "down(12,421 busy)", 1, DOT_AT_ONCE, 1 },
	{ "no greeting", { "W" }, "down(12,451 4.4.2 [internal] no banner)", 1, DOT_AT_ONCE, 1 },
	{ "closed before the greeting",
	  { "X" },
	  "down(12,451 4.4.2 [internal] connection closed by remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "not SMTP",
	  { "S:HTTP/1.1 400 Bad Request", "W" },
	  "down(12,451 4.5.0 [internal] invalid reply from remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "EHLO unknown: HELO",
	  { HELLO, "S:500 what", "C:HELO out.example.test", "S:250 there", MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA",
	    "S:354 go", "B", "S:250 taken", "C:QUIT", "X" },
	  "idle opened done(reply,9,250 taken) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "EHLO 4xx", { HELLO, "S:450 later", "C:QUIT" }, "down(10,450 later)", 1, DOT_AT_ONCE, 1 },
	{ "EHLO without answer",
	  { HELLO, "W" },
	  "down(10,451 4.4.2 [internal] no HELO/EHLO response)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "MAIL 4xx",
	  { PLAIN, MAIL, "S:451 later", "C:QUIT", "X" },
	  "idle done(reply,2,451 later) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "MAIL 5xx pipelined",
	  { PIPED, PIPE_GROUP, "S:550 no", "S:503 what", "S:503 what", "C:QUIT", "X" },
	  "idle done(reply,2,550 no) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "MAIL without answer",
	  { PLAIN, MAIL, "W" },
	  "idle done(lost,2,451 4.4.2 [internal] no MAIL FROM response) down(2,451 4.4.2 [internal] no MAIL FROM "
	  "response)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "closed at MAIL",
	  { PLAIN, MAIL, "X" },
	  "idle done(lost,2,451 4.4.2 [internal] connection closed by remote host) down(2,451 4.4.2 [internal] "
	  "connection closed by remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "closed at MAIL of a used connection",
	  { PIPED, PIPE_GROUP, "S:250 ok", "S:250 ok", "S:354 go", "B", "S:250 one", MAIL, "X" },
	  "idle opened done(reply,9,250 one) idle done(untried,2,451 4.4.2 [internal] connection closed by remote "
	  "host) down(2,451 4.4.2 [internal] connection closed by remote host)",
	  2,
	  DOT_AT_ONCE,
	  1 },
	{ "421 at MAIL of a used connection",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "S:250 one", MAIL, "S:421 enough",
	    "X" },
	  "idle opened done(reply,9,250 one) idle done(untried,2,421 enough) down(2,421 enough)",
	  2,
	  DOT_AT_ONCE,
	  1 },
	{ "RCPT 5xx, then RSET and the next",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:550 no", "C:RSET", "S:250 ok", MAIL, "S:250 ok", RCPT, "S:250 ok",
	    "C:DATA", "S:354 go", "B", "S:250 two", "C:QUIT", "X" },
	  "idle opened done(reply,4,550 no) idle opened done(reply,9,250 two) idle down(1,bye)",
	  2,
	  DOT_AT_ONCE,
	  1 },
	{ "RCPT 4xx pipelined, then RSET and the next",
	  { PIPED, PIPE_GROUP, "S:250 ok", "S:450 full", "S:554 none", "C:RSET", PIPE_GROUP, "S:250 ok", "S:250 ok",
	    "S:250 ok", "S:354 go", "B", "S:250 two", "C:QUIT", "X" },
	  "idle opened done(reply,4,450 full) idle opened done(reply,9,250 two) idle down(1,bye)",
	  2,
	  DOT_AT_ONCE,
	  1 },
	{ "RSET refused",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:550 no", "C:RSET", "S:421 go away", "X" },
	  "idle opened done(reply,4,550 no) idle done(untried,13,421 go away) down(13,421 go away)",
	  2,
	  DOT_AT_ONCE,
	  1 },
	{ "RCPT refused but DATA taken",
	  { PIPED, PIPE_GROUP, "S:250 ok", "S:550 no", "S:354 go", "W" },
	  "idle opened done(reply,4,550 no) down(6,451 4.5.0 [internal] unexpected reply from remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "one of two recipients",
	  { PIPED, MAIL, RCPT, "C:RCPT TO:<c@y>", "C:DATA", "S:250 ok", "S:550 no", "S:250 ok", "S:354 go", "B",
	    "S:250 taken", "C:QUIT", "X" },
	  "idle opened done(reply,4,550 no) done(reply,9,250 taken) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  2 },
	{ "421 at the second recipient",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:RCPT", "S:421 bye", "X" },
	  "idle opened done(reply,4,421 bye) done(reply,4,421 bye) down(4,421 bye)",
	  1,
	  DOT_AT_ONCE,
	  2 },
	{ "DATA 4xx",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:451 later", "C:QUIT", "X" },
	  "idle opened done(reply,6,451 later) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "DATA 250",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:250 what", "W" },
	  "idle opened done(lost,6,451 4.5.0 [internal] unexpected reply from remote host) down(6,451 4.5.0 [internal] "
	  "unexpected reply from remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "closed at DATA",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "X" },
	  "idle opened done(lost,6,451 4.4.2 [internal] connection closed by remote host) down(6,451 4.4.2 [internal] "
	  "connection closed by remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "refused in the middle of the message",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "S:552 too much", "X" },
	  "idle opened done(reply,8,552 too much) down(8,552 too much)",
	  1,
	  DOT_NEVER,
	  1 },
	{ "closed before the dot",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "X" },
	  "idle opened done(lost,8,451 4.4.2 [internal] connection closed by remote host) down(8,451 4.4.2 [internal] "
	  "connection closed by remote host)",
	  1,
	  DOT_NEVER,
	  1 },
	{ "closed after the dot",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "X" },
	  "idle opened done(doubt,9,451 4.4.2 [internal] connection closed by remote host) down(9,451 4.4.2 [internal] "
	  "connection closed by remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "reset after the dot",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "R" },
	  "idle opened done(doubt,9,451 4.4.2 [internal] connection lost: Connection reset by peer) down(9,451 4.4.2 "
	  "[internal] connection lost: Connection reset by peer)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "silent after the dot",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "W" },
	  "idle opened done(doubt,9,451 4.4.2 [internal] no BODY response) down(9,451 4.4.2 [internal] no BODY "
	  "response)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "nonsense after the dot",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "S:9 what", "W" },
	  "idle opened done(doubt,9,451 4.5.0 [internal] invalid reply from remote host) down(9,451 4.5.0 [internal] "
	  "invalid reply from remote host)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "4xx to the message",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "S:452 full", "C:QUIT", "X" },
	  "idle opened done(reply,9,452 full) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "5xx to the message",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "S:554 spam", "C:QUIT", "X" },
	  "idle opened done(reply,9,554 spam) idle down(1,bye)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "421 while idle",
	  { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "B", "S:250 one", "S:421 bored", "X" },
	  "idle opened done(reply,9,250 one) down(1,421 bored)",
	  1,
	  DOT_AT_ONCE,
	  1 },
	{ "answers before the questions", { PIPED, "S:250 ok", "S:250 ok", "W" }, "down(1,421 ok)", 1, DOT_AT_ONCE, 1 },
};

static void
dialogues_end_as_written(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(dialogues) / sizeof(dialogues[0]); i++) {
		const struct dialogue *d = &dialogues[i];
		struct smtp_rcpt rcpts[] = { { .address = SLICE("b@y") }, { .address = SLICE("c@y") } };
		struct world w = { .mails_left = d->mails, .dot = d->dot, .body = SLICE("hello\r\n") };

		w.mail = (struct smtp_mail){ .sender = SLICE("a@x"), .rcpts = rcpts, .n = d->rcpts, .size = 7 };
		world_open(&w, d->script);
		world_run(&w);
		if (strcmp(bytes_cstr(&w.log), d->want) != 0)
			fail_msg("%s:\n want %s\n have %s", d->name, d->want, bytes_cstr(&w.log));
		world_close(&w);
	}
}

/* A small message waits for its dot, a large one does not: the far side hears of it before the attempt is on disk. */
static void
only_a_small_message_waits_for_its_dot(void **state)
{
	static const char *const script[] = { PLAIN,    MAIL,       "S:250 ok", RCPT, "S:250 ok",
					      "C:DATA", "S:354 go", "C:hello",  "X",  NULL };
	static const struct {
		size_t size;
		const char *want;
	} cases[] = {
		{ 7, "idle opened done(lost,8,451 4.4.2 [internal] send BODY failed) down(8,451 4.4.2 [internal] send "
		     "BODY failed)" },
		{ 100000, "idle opened done(lost,8,451 4.4.2 [internal] connection lost: Connection reset by peer) "
			  "down(8,451 4.4.2 [internal] connection lost: Connection reset by peer)" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct smtp_rcpt rcpt = { .address = SLICE("b@y") };
		struct world w = { .mails_left = 1, .dot = DOT_NEVER };
		struct bytes body = { 0 };

		while (body.n < cases[i].size)
			bytes_add_str(&body, "hello\r\n");
		w.body = slice_bytes(&body);
		w.mail = (struct smtp_mail){ .sender = SLICE("a@x"), .rcpts = &rcpt, .n = 1, .size = body.n };
		world_open(&w, script);
		world_run(&w);
		assert_string_equal(bytes_cstr(&w.log), cases[i].want);
		world_close(&w);
		bytes_fini(&body);
	}
}

/* ---- transparency ---- */

static const struct transparent {
	const char *text, *wire;
	size_t n;
} transparent[] = {
#define SAME(s)                     \
	{                           \
		s, s, sizeof(s) - 1 \
	}
#define BECOMES(s, t)               \
	{                           \
		s, t, sizeof(s) - 1 \
	}
	SAME("a\r\nb\r\n"),
	BECOMES(".\r\n", "..\r\n"),
	BECOMES("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n"),
	BECOMES("a\r\n..\r\n.b\r\n", "a\r\n...\r\n..b\r\n"),
	SAME("a\n.\r\nb\r\n"),
	SAME("a\r.\r\nb\r\n"),
	SAME("a\r\r\n\n.\r\n\r\n"),
	BECOMES("\r\n\r\n.", "\r\n\r\n..\r\n"),
	BECOMES("no end", "no end\r\n"),
	BECOMES("cr end\r", "cr end\r\r\n"),
	BECOMES("lf end\n", "lf end\n\r\n"),
	BECOMES("", ""),
};

static const char *const message_script[] = { PIPED, PIPE_GROUP,    "S:250 ok", "S:250 ok", "S:354 go",
					      "B",   "S:250 taken", "C:QUIT",   "X",        NULL };

/* Cut at every place: the state between two pieces must not matter. */
static void
dots_are_doubled_wherever_the_bytes_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(transparent) / sizeof(transparent[0]); i++) {
		for (size_t chunk = 1; chunk <= transparent[i].n + 1; chunk++) {
			struct smtp_rcpt rcpt = { .address = SLICE("b@y") };
			struct world w = { .mails_left = 1, .chunk = chunk };
			const char *at, *wire = transparent[i].wire;

			w.body = slice_of(transparent[i].text, transparent[i].n);
			w.mail = (struct smtp_mail){ .sender = SLICE("a@x"), .rcpts = &rcpt, .n = 1, .size = w.body.n };
			world_open(&w, message_script);
			world_run(&w);
			at = strstr(bytes_cstr(&w.peer.heard), "DATA\n");
			assert_non_null(at);
			at += 5;
			if (strncmp(at, wire, strlen(wire)) != 0 ||
			    (at[strlen(wire)] != '\0' && strncmp(at + strlen(wire), "QUIT", 4) != 0))
				fail_msg("row %zu in pieces of %zu: %s", i, chunk, at);
			world_close(&w);
		}
	}
}

/* ---- what the far side offers ---- */

static void
what_is_offered_is_used(void **state)
{
	static const struct {
		const char *ehlo, *line;
		bool eight, utf8;
	} rows[] = {
		{ "S:250 there", "MAIL FROM:<a@x>\n", true, false },
		{ "S:250 SIZE", "MAIL FROM:<a@x>\n", true, false },
		{ "S:250-there\r\n250-SIZE 100\r\n250 8bitmime", "MAIL FROM:<a@x> SIZE=7 BODY=8BITMIME\n", true,
		  false },
		{ "S:250-there\r\n250-size\r\n250 8BITMIME", "MAIL FROM:<a@x> SIZE=7\n", false, false },
		{ "S:250-there\r\n250-8BITMIME\r\n250 SMTPUTF8", "MAIL FROM:<a@x> BODY=8BITMIME SMTPUTF8\n", true,
		  true },
		{ "S:250-there\r\n250 SIZE 6", NULL, false, false },
		{ "S:250-there\r\n250 8BITMIME", NULL, true, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *script[] = { HELLO,       rows[i].ehlo, rows[i].line == NULL ? "C:QUIT" : "C:MAIL",
					 "S:421 bye", "X",          NULL };
		struct smtp_rcpt rcpt = { .address = SLICE("b@y") };
		struct world w = { .mails_left = 1 };

		w.mail = (struct smtp_mail){ .sender = SLICE("a@x"),
					     .rcpts = &rcpt,
					     .n = 1,
					     .size = 7,
					     .eight_bit = rows[i].eight,
					     .utf8 = rows[i].utf8 };
		world_open(&w, script);
		world_run(&w);
		if (rows[i].line != NULL)
			assert_non_null(strstr(bytes_cstr(&w.peer.heard), rows[i].line));
		else
			assert_non_null(strstr(bytes_cstr(&w.log), i == 5 ? "552 5.3.4" : "550 5.6.7"));
		world_close(&w);
	}
}

static void
an_address_cannot_smuggle_a_command(void **state)
{
	const char *script[] = { PLAIN, "C:QUIT", "X", NULL };
	struct smtp_rcpt rcpt = { .address = SLICE("b@y>\r\nRCPT TO:<c@z") };
	struct world w = { .mails_left = 1 };

	(void)state;
	w.mail = (struct smtp_mail){ .sender = SLICE("a@x"), .rcpts = &rcpt, .n = 1, .size = 7 };
	world_open(&w, script);
	world_run(&w);
	assert_non_null(strstr(bytes_cstr(&w.log), "done(reply,2,553 5.1.3"));
	world_close(&w);
}

/* A large message to a peer that reads slowly: all of it arrives, in bounded memory. */
static void
a_large_message_flows(void **state)
{
	size_t n = 3 << 20;
	char *big = malloc(n);
	struct smtp_rcpt rcpt = { .address = SLICE("b@y") };
	struct world w = { .mails_left = 1, .chunk = 65536 };
	const char *script[] = { PLAIN, MAIL, "S:250 ok", RCPT, "S:250 ok", "C:DATA", "S:354 go", "W", NULL };
	int fd;
	size_t heard = 0;
	char buf[65536];

	(void)state;
	for (size_t i = 0; i < n; i++)
		big[i] = i % 70 == 68 ? '\r' : i % 70 == 69 ? '\n' : 'x';
	memcpy(big + n - 2, "\r\n", 2);
	w.body = slice_of(big, n);
	w.mail = (struct smtp_mail){ .sender = SLICE("a@x"), .rcpts = &rcpt, .n = 1, .size = n };
	world_open(&w, script);
	for (unsigned i = 0; i < 200 && w.given == 0; i++)
		loop_turn(w.loop, 1000);
	fd = dup(w.peer.fd);
	stream_hold_reading(w.peer.s, true);
	heard = stream_in(w.peer.s).n;
	while (heard < n + 3) {
		ssize_t got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (got > 0)
			heard += (size_t)got;
		loop_turn(w.loop, 1000);
	}
	assert_int_equal(heard, n + 3);
	assert_int_equal(smtp_client_stage(w.client), SMTP_CONFIRM);
	assert_int_equal(send(fd, "250 ok\r\n", 8, MSG_NOSIGNAL), 8);
	for (unsigned i = 0; i < 200 && strstr(bytes_cstr(&w.log), "done") == NULL; i++)
		loop_turn(w.loop, 1000);
	assert_non_null(strstr(bytes_cstr(&w.log), "done(reply,9,250 ok)"));
	close(fd);
	world_close(&w);
	free(big);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dialogues_end_as_written),
		cmocka_unit_test(only_a_small_message_waits_for_its_dot),
		cmocka_unit_test(dots_are_doubled_wherever_the_bytes_are_cut),
		cmocka_unit_test(what_is_offered_is_used),
		cmocka_unit_test(an_address_cannot_smuggle_a_command),
		cmocka_unit_test(a_large_message_flows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
