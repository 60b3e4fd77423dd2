/* smtp_client.c - the outbound dialogue as a state machine
 * Replies come in the order of the commands, so the state is the command whose reply is awaited; with PIPELINING those
 * behind it are already on their way. The owner is told at the end of the turn (client_tell), but for `opened` and
 * `want`, which ask him for something. */
#include "worker/delivery/smtp_client_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

enum { TEXT_MAX = 2048, QUIT_SECONDS = 5 };

static void client_tell(void *arg);
static void client_on_timer(void *arg);

/* ---- small things ---- */

static enum smtp_stage
stage_of(enum state s)
{
	static const enum smtp_stage stages[] = {
		[ST_CONNECTING] = SMTP_NOT_CONNECTED,
		[ST_BANNER] = SMTP_BANNER,
		[ST_EHLO] = SMTP_EHLO,
		[ST_HELO] = SMTP_EHLO,
		[ST_READY] = SMTP_IDLE,
		[ST_RSET] = SMTP_RSET,
		[ST_MAIL] = SMTP_MAIL,
		[ST_RCPT] = SMTP_RCPT,
		[ST_DATA] = SMTP_DATA,
		[ST_BODY] = SMTP_BODY,
		[ST_DOT] = SMTP_CONFIRM,
		[ST_QUIT] = SMTP_IDLE,
		[ST_CLOSED] = SMTP_NOT_CONNECTED,
	};

	return stages[s];
}

bool
client_in_transaction(const struct smtp_client *c)
{
	return c->mail != NULL;
}

static unsigned
timeout_of(const struct smtp_client *c)
{
	switch (c->state) {
	case ST_CONNECTING:
		return c->timeouts.connect;
	case ST_BANNER:
	case ST_EHLO:
	case ST_HELO:
		return c->timeouts.ehlo;
	case ST_READY:
		return c->timeouts.idle;
	case ST_RSET:
		return c->timeouts.rset;
	case ST_MAIL:
		return c->timeouts.mailfrom;
	case ST_RCPT:
		return c->timeouts.rcptto;
	case ST_QUIT:
		return QUIT_SECONDS;
	case ST_DATA:
	case ST_BODY:
	case ST_DOT:
	case ST_CLOSED:
		break;
	}
	return c->timeouts.body;
}

void
client_set_deadline(struct smtp_client *c)
{
	loop_timer_set(c->loop, &c->timer, loop_now(c->loop) + (usec_t)timeout_of(c) * USEC_PER_SEC, client_on_timer,
		       c);
}

void
client_enter(struct smtp_client *c, enum state s)
{
	c->state = s;
	client_set_deadline(c);
}

void
client_tell_soon(struct smtp_client *c)
{
	loop_later(c->loop, &c->later, client_tell, c);
}

/* ---- outcomes of the transaction ---- */

void
client_outcome(struct smtp_client *c, unsigned i, enum smtp_how how, int code, bool internal, struct slice text)
{
	struct outcome *o = &c->outcomes[i];
	char number[8] = { (char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10), (char)('0' + code % 10), ' ' };

	if (o->set)
		return;
	*o = (struct outcome){
		.how = how, .set = true, .internal = internal, .code = code, .stage = stage_of(c->state)
	};
	o->at = c->texts.n;
	bytes_add(&c->texts, number, 4);
	bytes_add(&c->texts, text.p, text.n < TEXT_MAX ? text.n : TEXT_MAX);
	o->n = c->texts.n - o->at;
}

void
client_outcomes(struct smtp_client *c, enum smtp_how how, int code, bool internal, struct slice text)
{
	for (unsigned i = 0; i < c->mail->n; i++)
		client_outcome(c, i, how, code, internal, text);
	c->accepted = 0;
}

/* The transaction is over and the connection can go on. */
void
client_finish(struct smtp_client *c)
{
	c->tell_done = true;
	c->tell_idle = true;
	c->transactions++;
	client_enter(c, ST_READY);
	client_tell_soon(c);
}

/* The connection is over. Politely: QUIT and FIN; else at once. */
void
client_close(struct smtp_client *c, bool asked, int code, bool internal, struct slice text)
{
	char number[8] = { (char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10), (char)('0' + code % 10), ' ' };

	if (c->state == ST_CLOSED)
		return;
	c->down = (struct smtp_down){
		.stage = stage_of(c->state), .greeted = c->greeted, .asked = asked, .code = code, .internal = internal
	};
	c->down_text.n = 0;
	bytes_add(&c->down_text, number, 4);
	bytes_add(&c->down_text, text.p, text.n < TEXT_MAX ? text.n : TEXT_MAX);
	if (client_in_transaction(c))
		c->tell_done = true;
	c->tell_down = true;
	c->tell_idle = false;
	c->state = ST_CLOSED;
	loop_timer_stop(c->loop, &c->timer);
	client_tell_soon(c);
}

void
client_end_quit(struct smtp_client *c)
{
	client_close(c, true, 421, true, SLICE("4.4.2 [internal] connection closed"));
	stream_finish(&c->stream);
}

/* No more can be said on this connection: what is open ends without an answer. */
void
client_lost(struct smtp_client *c, int code, const char *text)
{
	struct slice t = slice_str(text);
	enum smtp_how how = SMTP_LOST;

	if (c->state == ST_CLOSED)
		return;
	if (c->state == ST_QUIT) {
		client_end_quit(c);
		return;
	}
	if (client_in_transaction(c) && !c->tell_done) {
		if (c->state == ST_DOT && c->dot_gone)
			how = SMTP_DOUBT;
		else if ((c->state == ST_RSET || c->state == ST_MAIL) && c->transactions > 0 && !c->mail_ok)
			how = SMTP_UNTRIED;
		client_outcomes(c, how, code, true, t);
	}
	client_close(c, false, code, true, t);
	stream_close(&c->stream);
}

static void
say_quit(struct smtp_client *c)
{
	if (c->state == ST_CLOSED || c->state == ST_QUIT)
		return;
	stream_write(c->stream, SLICE("QUIT\r\n"));
	c->tell_idle = false;
	client_enter(c, ST_QUIT);
}

static void
tell_done(struct smtp_client *c)
{
	const struct smtp_mail *mail = c->mail;
	struct smtp_result *results = mem_array(NULL, mail->n, sizeof(*results));

	for (unsigned i = 0; i < mail->n; i++) {
		const struct outcome *o = &c->outcomes[i];

		results[i] = (struct smtp_result){ .how = o->how,
						   .code = o->code,
						   .internal = o->internal,
						   .stage = o->stage,
						   .text = slice_of(c->texts.p + o->at, o->n) };
	}
	c->tell_done = false;
	c->mail = NULL;
	c->ops->mail_done(c->arg, results, mail->n);
	free(results);
}

static void
client_destroy(struct smtp_client *c)
{
	bytes_fini(&c->texts);
	bytes_fini(&c->down_text);
	bytes_fini(&c->reply);
	free(c->outcomes);
	free(c->ehlo);
	free(c);
}

static void
client_tell(void *arg)
{
	struct smtp_client *c = arg;

	c->telling = true;
	if (c->tell_done)
		tell_done(c);
	if (!c->dead && c->tell_down) {
		c->tell_down = false;
		c->down.text = slice_bytes(&c->down_text);
		c->ops->down(c->arg, &c->down);
	} else if (!c->dead && c->tell_idle) {
		c->tell_idle = false;
		if (c->quit)
			say_quit(c);
		else
			c->ops->idle(c->arg);
	}
	c->telling = false;
	if (c->dead)
		client_destroy(c);
}

/* ---- events ---- */

static void
on_failure(struct smtp_client *c, int error)
{
	char text[160];

	snprintf(text, sizeof(text), "%s [internal] %s: %s", c->state == ST_CONNECTING ? "4.4.1" : "4.4.2",
		 c->state == ST_CONNECTING ? "cannot connect" : "connection lost", strerror(error));
	client_lost(c, 451, text);
}

static void
client_on_stream(struct stream *s, enum stream_event ev, void *arg)
{
	struct smtp_client *c = arg;

	switch (ev) {
	case STREAM_CONNECTED:
		client_enter(c, ST_BANNER);
		break;
	case STREAM_READABLE:
		client_read_replies(c);
		break;
	case STREAM_DRAINED:
		if (c->state == ST_BODY)
			client_set_deadline(c);
		c->dot_gone = c->state == ST_DOT;
		client_want_more(c);
		break;
	case STREAM_EOF:
		client_lost(c, 451, "4.4.2 [internal] connection closed by remote host");
		break;
	case STREAM_ERROR:
		on_failure(c, stream_error(s));
		break;
	}
}

static void
client_on_timer(void *arg)
{
	struct smtp_client *c = arg;
	static const char *const texts[] = {
		[ST_CONNECTING] = "4.4.1 [internal] Connection Timed Out",
		[ST_BANNER] = "4.4.2 [internal] no banner",
		[ST_EHLO] = "4.4.2 [internal] no HELO/EHLO response",
		[ST_HELO] = "4.4.2 [internal] no HELO/EHLO response",
		[ST_READY] = "4.4.2 [internal] idle",
		[ST_RSET] = "4.4.2 [internal] no RSET response",
		[ST_MAIL] = "4.4.2 [internal] no MAIL FROM response",
		[ST_RCPT] = "4.4.2 [internal] no RCPT TO response",
		[ST_DATA] = "4.4.2 [internal] no DATA response",
		[ST_BODY] = "4.4.2 [internal] send BODY failed",
		[ST_DOT] = "4.4.2 [internal] no BODY response",
		[ST_QUIT] = "",
		[ST_CLOSED] = "",
	};

	if (c->state == ST_READY && !c->tell_done)
		say_quit(c);
	else if (c->state != ST_READY)
		client_lost(c, c->state == ST_CONNECTING ? 450 : 451, texts[c->state]);
}

/* ---- life ---- */

struct smtp_client *
smtp_client_new(const struct smtp_client_conf *conf)
{
	struct smtp_client *c = mem_zalloc(sizeof(*c));

	c->loop = conf->loop;
	c->timeouts = conf->timeouts;
	c->ops = conf->ops;
	c->arg = conf->arg;
	c->stream = stream_connect(conf->loop, conf->local, conf->remote, client_on_stream, c);
	if (c->stream == NULL) {
		free(c);
		return NULL;
	}
	c->ehlo = mem_strdup(conf->ehlo);
	client_enter(c, ST_CONNECTING);
	return c;
}

void
smtp_client_free(struct smtp_client **cp)
{
	struct smtp_client *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	c->state = ST_CLOSED;
	stream_close(&c->stream);
	loop_timer_stop(c->loop, &c->timer);
	loop_later_cancel(c->loop, &c->later);
	c->dead = true;
	if (!c->telling)
		client_destroy(c);
}

void
smtp_client_quit(struct smtp_client *c)
{
	c->quit = true;
	if (c->state == ST_READY && !c->tell_done && c->mail == NULL)
		say_quit(c);
	else if (!c->greeted && c->state != ST_CLOSED)
		client_lost(c, 421, "4.4.2 [internal] connection closed");
}

void
smtp_client_break(struct smtp_client *c, int code, const char *text)
{
	if (client_in_transaction(c) && !c->tell_done)
		client_outcomes(c, SMTP_LOST, code, true, slice_str(text));
	client_close(c, false, code, true, slice_str(text));
	stream_close(&c->stream);
}

void
smtp_client_set_arg(struct smtp_client *c, void *arg)
{
	require_that(smtp_client_is_idle(c), "smtp");
	c->arg = arg;
}

bool
smtp_client_is_idle(const struct smtp_client *c)
{
	return c->state == ST_READY && c->mail == NULL && !c->quit;
}

bool
smtp_client_greeted(const struct smtp_client *c)
{
	return c->greeted;
}

unsigned
smtp_client_delivered(const struct smtp_client *c)
{
	return c->delivered;
}

enum smtp_stage
smtp_client_stage(const struct smtp_client *c)
{
	return stage_of(c->state);
}

uint64_t
smtp_client_sent(const struct smtp_client *c)
{
	return c->sent;
}
