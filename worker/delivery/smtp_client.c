/* smtp_client.c - the outbound dialogue as a state machine
 * Replies come in the order of the commands, so the state is the command whose reply is awaited; with PIPELINING those
 * behind it are already on their way. The owner is told at the end of the turn (client_tell), but for `opened` and
 * `want`, which ask him for something. */
#include "worker/delivery/smtp_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/format/reply.h"
#include "worker/net/loop.h"
#include "worker/net/stream.h"

enum state {
	ST_CONNECTING, /* TCP */
	ST_BANNER,     /* 220 awaited */
	ST_EHLO,
	ST_HELO,  /* EHLO was refused */
	ST_READY, /* between transactions */
	ST_RSET,
	ST_MAIL,
	ST_RCPT, /* of c->rcpt */
	ST_DATA,
	ST_BODY,  /* writing; the final dot has not left */
	ST_DOT,   /* the final dot is written */
	ST_QUIT,  /* said; the far side's session counts until it has answered or closed */
	ST_CLOSED /* down is told, or about to be */
};

enum {
	BODY_HIGH = 128 * 1024,
	/* The end of a message that is no more than this waits for its final dot, to leave with it: half the system
	 * calls, and the far side is woken once. The time that sending takes is not worth overlapping with a sync. */
	WHOLE_MAX = 32 * 1024,
	TEXT_MAX = 2048,
	QUIT_SECONDS = 5
};

struct outcome {
	enum smtp_how how;
	bool set, internal;
	int code;
	enum smtp_stage stage;
	size_t at, n; /* text, in c->texts */
};

struct capabilities {
	bool pipelining, eight_bit, utf8, dsn, size;
	uint64_t size_max;
};

struct smtp_client {
	struct loop *loop;
	struct stream *stream;
	char *ehlo;
	struct smtp_timeouts timeouts;
	const struct smtp_client_ops *ops;
	void *arg;
	enum state state;
	struct ev_timer timer;
	struct ev_later later;
	struct capabilities caps;
	bool greeted, quit, need_rset;
	unsigned transactions, delivered;
	bool telling, dead; /* client_tell is on the stack; freed meanwhile */

	/* the transaction */
	const struct smtp_mail *mail;
	struct outcome *outcomes;
	unsigned outcomes_cap;
	struct bytes texts;
	unsigned rcpt;     /* whose reply is next */
	unsigned accepted; /* recipients without an outcome that the far side takes */
	bool mail_ok, last_given, dot_allowed, dot_gone, wanting, at_line_start, after_cr;
	uint64_t sent;

	/* what is to be told */
	bool tell_done, tell_idle, tell_down;
	struct bytes down_text;
	struct smtp_down down;
	struct bytes reply;
};

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

static bool
in_transaction(const struct smtp_client *c)
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

static void
client_set_deadline(struct smtp_client *c)
{
	loop_timer_set(c->loop, &c->timer, loop_now(c->loop) + (usec_t)timeout_of(c) * USEC_PER_SEC, client_on_timer,
		       c);
}

static void
client_enter(struct smtp_client *c, enum state s)
{
	c->state = s;
	client_set_deadline(c);
}

static void
client_tell_soon(struct smtp_client *c)
{
	loop_later(c->loop, &c->later, client_tell, c);
}

/* ---- outcomes of the transaction ---- */

static void
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

static void
client_outcomes(struct smtp_client *c, enum smtp_how how, int code, bool internal, struct slice text)
{
	for (unsigned i = 0; i < c->mail->n; i++)
		client_outcome(c, i, how, code, internal, text);
	c->accepted = 0;
}

/* The transaction is over and the connection can go on. */
static void
client_finish(struct smtp_client *c)
{
	c->tell_done = true;
	c->tell_idle = true;
	c->transactions++;
	client_enter(c, ST_READY);
	client_tell_soon(c);
}

/* The connection is over. Politely: QUIT and FIN; else at once. */
static void
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
	if (in_transaction(c))
		c->tell_done = true;
	c->tell_down = true;
	c->tell_idle = false;
	c->state = ST_CLOSED;
	loop_timer_stop(c->loop, &c->timer);
	client_tell_soon(c);
}

static void
client_end_quit(struct smtp_client *c)
{
	client_close(c, true, 421, true, SLICE("4.4.2 [internal] connection closed"));
	stream_finish(&c->stream);
}

/* No more can be said on this connection: what is open ends without an answer. */
static void
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
	if (in_transaction(c) && !c->tell_done) {
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

/* ---- commands ---- */

static bool
has_control(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 127)
			return true;
	}
	return false;
}

static void
client_say_mail(struct smtp_client *c)
{
	const struct smtp_mail *m = c->mail;
	struct bytes line = { 0 };

	bytes_add_str(&line, "MAIL FROM:<");
	bytes_add_slice(&line, m->sender);
	bytes_add_char(&line, '>');
	if (c->caps.size)
		bytes_addf(&line, " SIZE=%llu", (unsigned long long)m->size);
	if (c->caps.eight_bit && m->eight_bit)
		bytes_add_str(&line, " BODY=8BITMIME");
	if (c->caps.utf8 && m->utf8)
		bytes_add_str(&line, " SMTPUTF8");
	if (c->caps.dsn && m->ret.n > 0)
		bytes_addf(&line, " RET=%.*s", (int)m->ret.n, m->ret.p);
	if (c->caps.dsn && m->envid.n > 0)
		bytes_addf(&line, " ENVID=%.*s", (int)m->envid.n, m->envid.p);
	bytes_add_str(&line, "\r\n");
	stream_write(c->stream, slice_bytes(&line));
	bytes_fini(&line);
}

static void
client_say_rcpt(struct smtp_client *c, unsigned i)
{
	const struct smtp_rcpt *r = &c->mail->rcpts[i];
	struct bytes line = { 0 };

	bytes_add_str(&line, "RCPT TO:<");
	bytes_add_slice(&line, r->address);
	bytes_add_char(&line, '>');
	if (c->caps.dsn && r->notify.n > 0)
		bytes_addf(&line, " NOTIFY=%.*s", (int)r->notify.n, r->notify.p);
	if (c->caps.dsn && r->orcpt.n > 0)
		bytes_addf(&line, " ORCPT=%.*s", (int)r->orcpt.n, r->orcpt.p);
	bytes_add_str(&line, "\r\n");
	stream_write(c->stream, slice_bytes(&line));
	bytes_fini(&line);
}

/* What cannot be said to this host is answered in its place: the text, or NULL. */
static const char *
refusal(const struct smtp_client *c, const struct smtp_mail *m, int *code)
{
	bool bad = has_control(m->sender) || has_control(m->envid) || has_control(m->ret);

	for (unsigned i = 0; i < m->n; i++)
		bad = bad || has_control(m->rcpts[i].address) || has_control(m->rcpts[i].orcpt);
	if (bad) {
		*code = 553;
		return "5.1.3 [internal] control character in address";
	}
	if (c->caps.size_max > 0 && m->size > c->caps.size_max) {
		*code = 552;
		return "5.3.4 [internal] message size exceeds the limit of the remote host";
	}
	if (m->utf8 && !c->caps.utf8) {
		*code = 550;
		return "5.6.7 [internal] SMTPUTF8 required but not offered by the remote host";
	}
	return NULL;
}

void
smtp_client_set_arg(struct smtp_client *c, void *arg)
{
	require_that(smtp_client_is_idle(c), "smtp");
	c->arg = arg;
}

void
smtp_client_send(struct smtp_client *c, const struct smtp_mail *mail)
{
	const char *no;
	int code;

	require_that(c->state == ST_READY && c->mail == NULL && mail->n > 0, "smtp");
	if (mail->n > c->outcomes_cap) {
		c->outcomes = mem_array(c->outcomes, mail->n, sizeof(c->outcomes[0]));
		c->outcomes_cap = mail->n;
	}
	memset(c->outcomes, 0, mail->n * sizeof(c->outcomes[0]));
	c->mail = mail;
	c->texts.n = 0;
	c->rcpt = c->accepted = 0;
	c->mail_ok = c->last_given = c->dot_allowed = c->dot_gone = c->wanting = c->after_cr = false;
	c->at_line_start = true;
	c->sent = 0;
	c->tell_idle = false;
	no = refusal(c, mail, &code);
	if (no != NULL) {
		c->state = ST_MAIL;
		client_outcomes(c, SMTP_REPLY, code, true, slice_str(no));
		client_finish(c);
		return;
	}
	if (c->need_rset)
		stream_write(c->stream, SLICE("RSET\r\n"));
	if (!c->need_rset || c->caps.pipelining)
		client_say_mail(c);
	if (c->caps.pipelining) {
		for (unsigned i = 0; i < mail->n; i++)
			client_say_rcpt(c, i);
		stream_write(c->stream, SLICE("DATA\r\n"));
	}
	client_enter(c, c->need_rset ? ST_RSET : ST_MAIL);
}

/* ---- the message ---- */

static void
say_dot(struct smtp_client *c)
{
	stream_write(c->stream, SLICE(".\r\n"));
	stream_gather(c->stream, false);
	client_enter(c, ST_DOT);
}

/* The first line end (CRLF) from `from` on whose LF is in s; gives the place behind it, or s.n. The CR may have been in
 * the bytes before. Only CRLF is a line end: a bare LF or CR is content, here as on the way in. */
static size_t
line_end(const struct smtp_client *c, struct slice s, size_t from)
{
	size_t at = from;

	while (at < s.n) {
		const char *lf = memchr(s.p + at, '\n', s.n - at);

		if (lf == NULL)
			return s.n;
		at = (size_t)(lf - s.p) + 1;
		if (at >= 2 ? s.p[at - 2] == '\r' : c->after_cr)
			return at;
	}
	return s.n;
}

static bool
ends_line(const struct smtp_client *c, struct slice s)
{
	if (s.p[s.n - 1] != '\n')
		return false;
	return s.n >= 2 ? s.p[s.n - 2] == '\r' : c->after_cr;
}

/* RFC 5321 4.5.2: a dot that begins a line is doubled. */
static void
write_transparent(struct smtp_client *c, struct slice s)
{
	size_t written = 0, at = 0;

	if (s.n == 0)
		return;
	if (c->at_line_start && s.p[0] == '.')
		stream_write(c->stream, SLICE("."));
	while ((at = line_end(c, s, at)) < s.n) {
		if (s.p[at] != '.')
			continue;
		stream_write(c->stream, slice_of(s.p + written, at - written));
		stream_write(c->stream, SLICE("."));
		written = at;
	}
	stream_write(c->stream, slice_of(s.p + written, s.n - written));
	c->at_line_start = ends_line(c, s);
	c->after_cr = s.p[s.n - 1] == '\r';
	c->sent += s.n;
}

void
smtp_client_give(struct smtp_client *c, struct slice bytes, bool last)
{
	if (c->state != ST_BODY)
		return; /* the connection was lost meanwhile */
	write_transparent(c, bytes);
	c->wanting = false;
	if (last) {
		if (!c->at_line_start)
			stream_write(c->stream, SLICE("\r\n"));
		c->last_given = true;
		if (c->dot_allowed)
			say_dot(c);
		else
			stream_gather(c->stream, stream_pending(c->stream) <= WHOLE_MAX);
	}
	client_set_deadline(c);
}

void
smtp_client_dot(struct smtp_client *c)
{
	c->dot_allowed = true;
	if (c->state == ST_BODY && c->last_given)
		say_dot(c);
}

static void
client_want_more(struct smtp_client *c)
{
	if (c->state == ST_BODY && !c->last_given && !c->wanting && stream_pending(c->stream) < BODY_HIGH) {
		c->wanting = true;
		c->ops->want(c->arg);
	}
}

void
smtp_client_break(struct smtp_client *c, int code, const char *text)
{
	if (in_transaction(c) && !c->tell_done)
		client_outcomes(c, SMTP_LOST, code, true, slice_str(text));
	client_close(c, false, code, true, slice_str(text));
	stream_close(&c->stream);
}

/* ---- replies ---- */

static void
on_unexpected(struct smtp_client *c, int code)
{
	(void)code;
	client_lost(c, 451, "4.5.0 [internal] unexpected reply from remote host");
}

static void
read_capability(struct capabilities *caps, struct slice line)
{
	size_t n = slice_find(line, ' ');
	struct slice word = slice_of(line.p, n), rest = slice_trim(slice_of(line.p + n, line.n - n));

	if (slice_ieq(word, SLICE("PIPELINING"))) {
		caps->pipelining = true;
	} else if (slice_ieq(word, SLICE("8BITMIME"))) {
		caps->eight_bit = true;
	} else if (slice_ieq(word, SLICE("SMTPUTF8"))) {
		caps->utf8 = true;
	} else if (slice_ieq(word, SLICE("DSN"))) {
		caps->dsn = true;
	} else if (slice_ieq(word, SLICE("SIZE"))) {
		caps->size = true;
		if (!slice_u64(rest, UINT64_MAX, &caps->size_max))
			caps->size_max = 0;
	}
}

/* raw: the whole EHLO reply, which reply_take has found to be well formed. */
static void
read_capabilities(struct smtp_client *c, struct slice raw)
{
	bool first = true, last = false;
	struct slice text;
	int code;

	c->caps = (struct capabilities){ 0 };
	while (raw.n > 0 && !last) {
		size_t n = slice_find(raw, '\n'), len = n > 0 && raw.p[n - 1] == '\r' ? n - 1 : n;

		if (reply_parse_line(slice_of(raw.p, len), &code, &last, &text) != OK)
			return;
		if (!first)
			read_capability(&c->caps, slice_trim(text));
		first = false;
		if (n < raw.n)
			n++;
		raw = slice_of(raw.p + n, raw.n - n);
	}
}

static void
greeted(struct smtp_client *c)
{
	c->greeted = true;
	c->tell_idle = true;
	client_enter(c, ST_READY);
	client_tell_soon(c);
}

static void
refused_connection(struct smtp_client *c, int code, struct slice text)
{
	client_close(c, false, code, false, text);
	stream_finish(&c->stream);
}

static void
on_greeting(struct smtp_client *c, int code, struct slice raw, struct slice text)
{
	if (c->state == ST_BANNER && code == 220) {
		stream_writef(c->stream, "EHLO %s\r\n", c->ehlo);
		client_enter(c, ST_EHLO);
	} else if (c->state != ST_BANNER && code == 250) {
		if (c->state == ST_EHLO)
			read_capabilities(c, raw);
		greeted(c);
	} else if (c->state == ST_EHLO && code >= 500) {
		stream_writef(c->stream, "HELO %s\r\n", c->ehlo);
		client_enter(c, ST_HELO);
	} else if (code >= 400) {
		refused_connection(c, code, text);
	} else {
		on_unexpected(c, code);
	}
}

/* What comes after a transaction has been refused, or in part: a 421 says that the connection ends. */
static void
finish_refused(struct smtp_client *c, int code, struct slice text)
{
	c->need_rset = c->mail_ok;
	if (code == 421) {
		client_outcomes(c, SMTP_REPLY, code, false, text);
		client_close(c, false, code, false, text);
		stream_finish(&c->stream);
	} else {
		client_finish(c);
	}
}

/* All recipients have been answered for. */
static void
after_rcpts(struct smtp_client *c)
{
	if (c->accepted == 0 && !c->caps.pipelining) {
		c->need_rset = c->mail_ok;
		client_finish(c);
		return;
	}
	if (!c->caps.pipelining)
		stream_write(c->stream, SLICE("DATA\r\n"));
	client_enter(c, ST_DATA);
}

static void
on_mail_reply(struct smtp_client *c, int code, struct slice text)
{
	if (code < 300) {
		c->mail_ok = true;
		client_enter(c, ST_RCPT);
		if (!c->caps.pipelining)
			client_say_rcpt(c, 0);
		c->ops->opened(c->arg);
	} else if (code < 400) {
		on_unexpected(c, code);
	} else if (code == 421) {
		client_outcomes(c, c->transactions > 0 ? SMTP_UNTRIED : SMTP_REPLY, code, false, text);
		refused_connection(c, code, text);
	} else {
		client_outcomes(c, SMTP_REPLY, code, false, text);
		if (c->caps.pipelining)
			client_enter(c, ST_RCPT);
		else
			finish_refused(c, code, text);
	}
}

static void
on_rcpt_reply(struct smtp_client *c, int code, struct slice text)
{
	if (code >= 300 && code < 400) {
		on_unexpected(c, code);
		return;
	}
	if (code < 300 && !c->outcomes[c->rcpt].set)
		c->accepted++;
	else
		client_outcome(c, c->rcpt, SMTP_REPLY, code, false, text);
	c->rcpt++;
	if (code == 421) {
		finish_refused(c, code, text);
	} else if (c->rcpt == c->mail->n) {
		after_rcpts(c);
	} else {
		if (!c->caps.pipelining)
			client_say_rcpt(c, c->rcpt);
		client_enter(c, ST_RCPT);
	}
}

static void
on_data_reply(struct smtp_client *c, int code, struct slice text)
{
	if (code >= 400) {
		client_outcomes(c, SMTP_REPLY, code, false, text);
		finish_refused(c, code, text);
	} else if (code >= 300 && c->accepted > 0) {
		client_enter(c, ST_BODY);
		client_want_more(c);
	} else {
		/* It wants a message for nobody, or did not wait for one. */
		on_unexpected(c, code);
	}
}

static void
on_dot_reply(struct smtp_client *c, int code, struct slice text)
{
	if (code >= 300 && code < 400) {
		client_lost(c, 451, "4.5.0 [internal] unexpected reply from remote host");
		return;
	}
	client_outcomes(c, SMTP_REPLY, code, false, text);
	c->need_rset = false;
	if (code < 300)
		c->delivered++;
	if (code == 421)
		refused_connection(c, code, text);
	else
		client_finish(c);
}

/* The far side answers before the end: it will not take the message, whatever else we send. */
static void
on_early_reply(struct smtp_client *c, int code, struct slice text)
{
	if (code < 400) {
		on_unexpected(c, code);
		return;
	}
	client_outcomes(c, SMTP_REPLY, code, false, text);
	client_close(c, false, code, false, text);
	stream_close(&c->stream);
}

static void
on_rset_reply(struct smtp_client *c, int code, struct slice text)
{
	if (code >= 400) {
		client_outcomes(c, SMTP_UNTRIED, code, false, text);
		refused_connection(c, code, text);
		return;
	}
	if (code >= 300) {
		on_unexpected(c, code);
		return;
	}
	c->need_rset = false;
	if (!c->caps.pipelining)
		client_say_mail(c);
	client_enter(c, ST_MAIL);
}

static void
on_reply(struct smtp_client *c, int code, struct slice raw, struct slice text)
{
	switch (c->state) {
	case ST_BANNER:
	case ST_EHLO:
	case ST_HELO:
		on_greeting(c, code, raw, text);
		break;
	case ST_READY:
		refused_connection(c, code >= 400 ? code : 421, text);
		break;
	case ST_RSET:
		on_rset_reply(c, code, text);
		break;
	case ST_MAIL:
		on_mail_reply(c, code, text);
		break;
	case ST_RCPT:
		on_rcpt_reply(c, code, text);
		break;
	case ST_DATA:
		on_data_reply(c, code, text);
		break;
	case ST_BODY:
		on_early_reply(c, code, text);
		break;
	case ST_DOT:
		on_dot_reply(c, code, text);
		break;
	case ST_QUIT:
		client_end_quit(c);
		break;
	case ST_CONNECTING:
	case ST_CLOSED:
		break;
	}
}

/* ---- events ---- */

static void
client_read_replies(struct smtp_client *c)
{
	while (c->state != ST_CLOSED) {
		struct slice in = stream_in(c->stream), rest = in;
		int code = 0;
		enum err e;

		if (in.n == 0)
			return;
		e = reply_take(&rest, &code, &c->reply);
		if (e == ERR_AGAIN)
			return;
		if (e != OK) {
			client_lost(c, 451, "4.5.0 [internal] invalid reply from remote host");
			return;
		}
		on_reply(c, code, slice_of(in.p, in.n - rest.n), slice_bytes(&c->reply));
		if (c->state != ST_CLOSED)
			stream_consume(c->stream, in.n - rest.n);
	}
}

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
