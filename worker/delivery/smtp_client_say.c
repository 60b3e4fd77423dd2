/* smtp_client_say.c - what the outbound client says: commands, and the message with its dots doubled */
#include "worker/delivery/smtp_client_int.h"

#include "shm/base/log.h"
#include "shm/base/mem.h"

enum {
	BODY_HIGH = 128 * 1024,
	/* The end of a message that is no more than this waits for its final dot, to leave with it: half the system
	 * calls, and the far side is woken once. The time that sending takes is not worth overlapping with a sync. */
	WHOLE_MAX = 32 * 1024,
};

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

void
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

void
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

void
client_want_more(struct smtp_client *c)
{
	if (c->state == ST_BODY && !c->last_given && !c->wanting && stream_pending(c->stream) < BODY_HIGH) {
		c->wanting = true;
		c->ops->want(c->arg);
	}
}
