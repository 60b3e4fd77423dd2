/* smtp_client_reply.c - what a reply of the far side means, by the command that it answers */
#include "worker/delivery/smtp_client_int.h"

#include "spool/format/reply.h"

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

void
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
