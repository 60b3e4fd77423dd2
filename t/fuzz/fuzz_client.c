/* The outbound dialogue against a peer that says anything: whatever comes, each mail ends once with a result a
 * recipient, the connection ends once and within its timeouts, nothing that the peer says gets into what we say, and no
 * final dot leaves before its owner lets it.
 * First byte: recipients, mails, capabilities wanted. Second: when the dot is let go, size of the pieces of the message.
 * Then what the peer says; a NUL is "until nothing moves", \1 "close", \2 "a minute later", \3 "the dot may go", \4 "our
 * owner wants to quit". */
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "worker/delivery/smtp_client.h"
#include "worker/net/loop.h"

enum { TURNS_MAX = 2000, STILL = 3, RCPTS = 3, MAILS = 4 };

#define BODY "Subject: fuzz\r\n\r\n.\r\n..two\r\na bare\n.lf and\r.cr\r\nno end"

struct world {
	struct loop *loop;
	struct smtp_client *client;
	struct smtp_rcpt rcpts[RCPTS];
	struct smtp_mail mail;
	int listener, peer;
	bool sending, opened, down, dot_now;
	unsigned mails, sent, done, taken;
	bool may[MAILS + 1];       /* the dot of mail N, counted from 1, may go */
	unsigned begun[MAILS + 1]; /* mails whose message was begun, in order */
	unsigned bodies_given, bodies_heard;
	size_t given, piece;
	struct bytes heard; /* what we said */
	size_t read;        /* of it, understood */
	bool in_body;
	struct bytes body;
	unsigned events;
};

static usec_t fake_now;

static usec_t
fake_clock(void)
{
	return fake_now;
}

/* ---- the client's owner ---- */

static void
on_idle(void *arg)
{
	struct world *w = arg;

	w->events++;
	require_that(!w->sending && !w->down, "fuzz");
	if (w->sent == w->mails)
		return;
	w->sending = true;
	w->opened = false;
	w->given = 0;
	w->sent++;
	smtp_client_send(w->client, &w->mail);
}

static void
let_dot_go(struct world *w)
{
	if (!w->sending || !w->opened || w->may[w->sent])
		return;
	w->may[w->sent] = true;
	smtp_client_dot(w->client);
}

static void
on_opened(void *arg)
{
	struct world *w = arg;

	w->events++;
	require_that(w->sending && !w->opened && !w->down, "fuzz");
	w->opened = true;
	if (w->dot_now)
		let_dot_go(w);
}

static void
on_want(void *arg)
{
	struct world *w = arg;
	size_t left = sizeof(BODY) - 1 - w->given, n = left < w->piece ? left : w->piece;

	w->events++;
	require_that(w->sending && w->opened && left > 0, "fuzz");
	if (w->given == 0)
		w->begun[w->bodies_given++] = w->sent;
	w->given += n;
	smtp_client_give(w->client, slice_of(&BODY[w->given - n], n), n == left);
}

static void
check_text(int code, struct slice text)
{
	require_that(code >= 200 && code <= 599 && code / 100 != 3, "fuzz");
	require_that(text.n >= 4 && text.p[0] == '0' + code / 100 && text.p[3] == ' ', "fuzz");
	for (size_t i = 0; i < text.n; i++)
		require_that((unsigned char)text.p[i] >= ' ' && text.p[i] != 127, "fuzz");
}

static void
on_done(void *arg, const struct smtp_result *results, unsigned n)
{
	struct world *w = arg;
	bool taken = false;

	w->events++;
	require_that(w->sending && !w->down && n == w->mail.n, "fuzz");
	w->sending = false;
	w->done++;
	for (unsigned i = 0; i < n; i++) {
		const struct smtp_result *r = &results[i];

		check_text(r->code, r->text);
		require_that(r->how <= SMTP_UNTRIED && (r->how == SMTP_REPLY || r->code >= 400), "fuzz");
		if (r->how == SMTP_DOUBT || r->code < 300)
			require_that(r->stage == SMTP_CONFIRM && w->may[w->sent] && w->given == sizeof(BODY) - 1,
				     "fuzz");
		taken = taken || r->code < 300;
	}
	w->taken += taken;
	require_that(smtp_client_delivered(w->client) == w->taken, "fuzz");
}

static void
on_down(void *arg, const struct smtp_down *why)
{
	struct world *w = arg;

	w->events++;
	require_that(!w->down && !w->sending && w->done == w->sent, "fuzz");
	check_text(why->code, why->text);
	w->down = true;
	smtp_client_free(&w->client);
}

static const struct smtp_client_ops ops = { on_idle, on_opened, on_want, on_done, on_down };

/* ---- what we said ---- */

/* Our own words and nothing else. */
static void
check_command(struct world *w, struct slice line)
{
	static const char *const whole[] = { "EHLO me.test", "HELO me.test", "DATA", "RSET", "QUIT" };
	static const char *const begins[] = { "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<\"c d\"@y>",
					      "RCPT TO:<e@[192.0.2.1]>" };
	bool known = false;

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		known = known || slice_eq(line, slice_str(whole[i]));
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		known = known || slice_istarts(line, slice_str(begins[i]));
	require_that(known && w->body.n == 0, "fuzz");
}

static void
hear_line(struct world *w, struct slice line)
{
	if (!w->in_body && slice_eq(line, SLICE("Subject: fuzz")))
		w->in_body = true;
	if (!w->in_body) {
		check_command(w, line);
	} else if (slice_eq(line, SLICE("."))) {
		require_that(slice_eq(slice_bytes(&w->body), SLICE(BODY "\r\n")), "fuzz");
		require_that(w->bodies_heard < w->bodies_given && w->may[w->begun[w->bodies_heard]], "fuzz");
		w->bodies_heard++;
		w->in_body = false;
		w->body.n = 0;
	} else {
		bytes_add(&w->body, line.p + (line.n > 0 && line.p[0] == '.'),
			  line.n - (line.n > 0 && line.p[0] == '.'));
		bytes_add_str(&w->body, "\r\n");
	}
}

static void
hear(struct world *w)
{
	ssize_t n;

	while (w->peer >= 0 && (n = read(w->peer, bytes_room(&w->heard, 4096), 4096)) > 0)
		w->heard.n += (size_t)n;
	while (w->read < w->heard.n) {
		const char *from = w->heard.p + w->read;
		const char *end = memmem(from, w->heard.n - w->read, "\r\n", 2);

		if (end == NULL)
			return;
		hear_line(w, slice_of(from, (size_t)(end - from)));
		w->read += (size_t)(end - from) + 2;
	}
}

/* ---- the peer ---- */

static void
settle(struct world *w)
{
	for (unsigned still = 0, turns = 0; still < STILL && !w->down; turns++) {
		size_t heard = w->heard.n;
		unsigned events = w->events;

		require_that(turns < TURNS_MAX, "fuzz");
		loop_turn(w->loop, 0);
		hear(w);
		still = heard == w->heard.n && events == w->events ? still + 1 : 0;
	}
}

static void
hang_up(struct world *w)
{
	if (w->peer >= 0)
		close(w->peer);
	w->peer = -1;
}

static void
say(struct world *w, const uint8_t *p, size_t n)
{
	while (n > 0 && w->peer >= 0) {
		ssize_t sent = send(w->peer, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			p += sent;
			n -= (size_t)sent;
		}
		if (sent <= 0 && w->down)
			return;
		if (sent <= 0)
			settle(w);
		if (sent <= 0 && !w->down && smtp_client_stage(w->client) == SMTP_NOT_CONNECTED)
			return;
	}
}

static void
act(struct world *w, uint8_t what)
{
	settle(w);
	if (what == 1)
		hang_up(w);
	else if (what == 2)
		fake_now += 61 * USEC_PER_SEC;
	else if (what == 3)
		let_dot_go(w);
	else if (what == 4 && !w->down)
		smtp_client_quit(w->client);
	settle(w);
}

static void
play(struct world *w, const uint8_t *p, size_t n)
{
	size_t from = 0;

	for (size_t i = 0; i <= n && !w->down; i++) {
		if (i < n && p[i] > 4)
			continue;
		say(w, p + from, i - from);
		from = i + 1;
		if (i < n)
			act(w, p[i]);
	}
	/* Whatever is missing now never comes: every wait has an end. */
	settle(w);
	for (unsigned i = 0; !w->down; i++) {
		require_that(i < 100, "fuzz");
		fake_now += 61 * USEC_PER_SEC;
		settle(w);
	}
	require_that(w->done == w->sent, "fuzz");
}

static void
world_open(struct world *w, uint8_t how, uint8_t dot)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct smtp_client_conf conf = {
		.ehlo = "me.test", .timeouts = { 60, 60, 60, 60, 120, 30, 5 }, .ops = &ops, .arg = w
	};
	union {
		struct sockaddr sa;
		struct sockaddr_un un;
	} at;
	socklen_t len = sizeof(struct sockaddr_in); /* as long as a client's address is: an abstract name of 14 bytes */

	*w = (struct world){
		.rcpts = { { .address = SLICE("b@y"), .orcpt = SLICE("rfc822;b@y"), .notify = SLICE("NEVER") },
			   { .address = SLICE("\"c d\"@y") },
			   { .address = SLICE("e@[192.0.2.1]") } },
		.mail = { .sender = SLICE("a@x"),
			  .rcpts = w->rcpts,
			  .n = 1 + how % RCPTS,
			  .size = sizeof(BODY) - 1,
			  .eight_bit = (how & 16) != 0,
			  .utf8 = (how & 32) != 0,
			  .envid = (how & 64) != 0 ? SLICE("e") : SLICE(""),
			  .ret = (how & 64) != 0 ? SLICE("HDRS") : SLICE("") },
		.mails = 1 + how / 4 % MAILS,
		.dot_now = (dot & 1) != 0,
		.piece = 1 + (dot >> 1) % 64
	};
	snprintf(sun.sun_path + 1, 13, "fz%d", (int)getpid());
	at.un = sun;
	w->loop = loop_new();
	w->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require_that(bind(w->listener, &at.sa, len) == 0 && listen(w->listener, 1) == 0, "fuzz");
	conf.loop = w->loop;
	conf.remote = &at.sa;
	w->client = smtp_client_new(&conf);
	require_that(w->client != NULL, "fuzz");
	w->peer = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	require_that(w->peer >= 0, "fuzz");
}

static void
world_close(struct world *w)
{
	smtp_client_free(&w->client);
	hang_up(w);
	close(w->listener);
	for (int i = 0; i < 3; i++) { /* a stream that is finishing waits for the peer a while */
		fake_now += 100 * USEC_PER_SEC;
		loop_turn(w->loop, 0);
	}
	loop_free(&w->loop);
	bytes_fini(&w->heard);
	bytes_fini(&w->body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct world w;

	if (n < 2)
		return 0;
	log_set_level(LOG_LVL_FATAL);
	clock_set_source(fake_clock, fake_clock);
	fake_now = 1000 * USEC_PER_SEC;
	world_open(&w, data[0], data[1]);
	play(&w, data + 2, n - 2);
	world_close(&w);
	clock_set_source(NULL, NULL);
	return 0;
}
