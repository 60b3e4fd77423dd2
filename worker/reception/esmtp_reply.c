/* Replies: in the order of the commands, whatever the order of the answers. */
#include <stdarg.h>
#include <stdio.h>

#include "spool/format/reply.h"
#include "worker/reception/esmtp_int.h"

enum {
	ERRORS_MAX = 100, /* bad commands in a row, then 421 */
	REPLY_TEXT = 1024,
};

void
esmtp_blame(struct esmtp *s, const char *module)
{
	s->module = module != NULL ? module : "";
}

/* Our own one-line replies need no splitting. */
static void
format(struct bytes *out, int code, struct slice text)
{
	char *p;

	if (slice_find(text, '\n') < text.n || text.n > 480) {
		reply_write(out, code, text);
		return;
	}
	reply_add_code(out, code, true);
	p = bytes_room(out, text.n);
	for (size_t i = 0; i < text.n; i++)
		p[i] = (unsigned char)text.p[i] < ' ' || text.p[i] == 0x7f ? ' ' : text.p[i];
	out->n += text.n;
	bytes_add_str(out, "\r\n");
}

/* Writes every reply whose turn has come. */
static void
flush_replies(struct esmtp *s)
{
	struct esmtp_cmd *c;

	while (!s->closed && (c = STAILQ_FIRST(&s->cmds)) != NULL && c->state == CMD_REPLIED) {
		bool last = c->last, quit = c->quit && stream_in(s->stream).n == 0;

		STAILQ_REMOVE_HEAD(&s->cmds, link);
		stream_write(s->stream, slice_bytes(&c->reply));
		c->state = CMD_DONE;
		esmtp_cmd_free(c);
		if (last && quit)
			esmtp_end(s);
		else if (last)
			esmtp_finish(s);
	}
}

static void
account(struct esmtp *s, int code, struct slice text)
{
	bool bad_command = code >= 500 && code <= 504;

	if (code >= 400) {
		reception_count(s->r, code < 500 ? CELL_REJECTED_TEMP : CELL_REJECTED_PERM, 1);
		esmtp_log_refusal(s, code, text);
	}
	s->module = "";
	if (bad_command || code == 555)
		s->errors++;
	else if (code < 400)
		s->errors = 0;
}

/* The reply is formed; its turn may have come. */
static void
replied(struct esmtp_cmd *c)
{
	struct esmtp *s = c->s;

	c->state = CMD_REPLIED;
	if (s->current == c)
		s->current = NULL;
	if (c->last && s->state != ES_CLOSING) {
		esmtp_txn_drop(s);
		esmtp_enter(s, ES_CLOSING);
	}
	flush_replies(s);
	esmtp_go_on(s);
}

static void
tarpit_over(void *arg)
{
	replied(arg);
}

void
esmtp_reply_slice(struct esmtp_cmd *c, int code, struct slice text)
{
	struct esmtp *s = c->s;
	struct loop *l = s->r->env.loop;

	account(s, code, text);
	if (s->errors >= ERRORS_MAX) {
		code = 421;
		text = SLICE("4.7.0 Too many errors, closing connection");
	}
	format(&c->reply, code, text);
	c->sent = NULL;
	if (code == 421)
		c->last = true;
	if (c->tarpit > 0)
		loop_timer_set(l, &c->late, loop_now(l) + c->tarpit * USEC_PER_SEC, tarpit_over, c);
	else
		replied(c);
}

void
esmtp_reply(struct esmtp_cmd *c, int code, const char *text)
{
	esmtp_reply_slice(c, code, slice_str(text));
}

void
esmtp_replyf(struct esmtp_cmd *c, int code, const char *fmt, ...)
{
	char text[REPLY_TEXT];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	esmtp_reply_slice(c, code, slice_of(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
}

void
esmtp_reply_verdict(struct esmtp_cmd *c, const struct policy_verdict *v, int code, const char *text)
{
	if (v->kind != VERDICT_REPLY) {
		esmtp_reply(c, code, text);
		return;
	}
	esmtp_blame(c->s, v->module);
	if (v->disconnect)
		c->last = true;
	esmtp_reply_slice(c, v->code, v->text);
}

void
esmtp_no_reply(struct esmtp_cmd *c)
{
	c->sent = NULL;
	esmtp_close(c->s);
}

void
esmtp_bye(struct esmtp *s, const char *text)
{
	struct bytes out = { 0 };

	if (s->closed)
		return;
	account(s, 421, slice_str(text));
	format(&out, 421, slice_str(text));
	stream_write(s->stream, slice_bytes(&out));
	bytes_fini(&out);
	esmtp_finish(s);
}
