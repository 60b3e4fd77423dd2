#include "spool/format/dsn.h"

#include "spool/format/date.h"
#include "spool/format/header.h"
#include "spool/format/reply.h"

enum {
	TEXT_LINE_MAX = 900, /* of a field; RFC 5322 ends a line at 998 */
	HOST_MAX = 255,      /* a longer one is no name of the DNS */
};

/* Text from outside, on one line, cut at `most` bytes (not in the middle of a UTF-8 character). */
static void
add_cut(struct bytes *out, struct slice s, size_t most)
{
	size_t n = s.n < most ? s.n : most;

	while (n < s.n && n > 0 && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		bytes_add_char(out, c < ' ' || c == 127 ? ' ' : (char)c);
	}
}

/* The same, cut where a line must end. */
static void
add_clean(struct bytes *out, struct slice s)
{
	add_cut(out, s, TEXT_LINE_MAX);
}

static void
add_field(struct bytes *out, const char *name, struct slice value)
{
	bytes_addf(out, "%s: ", name);
	add_clean(out, value);
	bytes_add_str(out, "\r\n");
}

static void
add_date(struct bytes *out, const char *name, usec_t at)
{
	char text[DATE_TEXT];

	date_text(at, text);
	bytes_addf(out, "%s: %s\r\n", name, text);
}

void
dsn_status(struct slice reply, char out[REPLY_ENHANCED_TEXT])
{
	struct enhanced e = { 0 };
	struct slice text = reply, rest;
	int code = 400;

	if (reply.n >= 3 && reply.p[0] >= '2' && reply.p[0] <= '5') {
		code = (reply.p[0] - '0') * 100;
		text = slice_trim(slice_of(reply.p + 3, reply.n - 3));
	}
	if (!enhanced_take(text, code, &e, &rest))
		e = (struct enhanced){ .class = (unsigned char)(code / 100) };
	if (e.class == 3)
		e.class = 4;
	enhanced_text(&e, out);
}

static const char *
action_word(enum dsn_action a)
{
	static const char *const words[] = {
		[DSN_FAILED] = "failed",   [DSN_DELAYED] = "delayed",   [DSN_DELIVERED] = "delivered",
		[DSN_RELAYED] = "relayed", [DSN_EXPANDED] = "expanded",
	};

	return words[a];
}

/* Which parts hold 8-bit bytes, and take the UTF-8 forms for it. */
struct shape {
	bool text, status, returned;
};

static struct shape
shape_of(const struct dsn *d)
{
	struct shape s = { .text = slice_has_8bit(d->to) || slice_has_8bit(d->hostname),
			   .status = slice_has_8bit(d->envid) || slice_has_8bit(d->hostname),
			   .returned = slice_has_8bit(d->headers) };

	for (unsigned i = 0; i < d->n; i++) {
		const struct dsn_rcpt *r = &d->rcpts[i];

		s.text |= slice_has_8bit(r->rcpt) || slice_has_8bit(r->reply);
		s.status |= s.text || slice_has_8bit(r->orcpt) || slice_has_8bit(r->remote_mta);
	}
	if (d->inlined == DSN_INLINE_ALL)
		s.returned |= slice_has_8bit(d->body);
	if (d->inlined == DSN_INLINE_NONE)
		s.returned = false;
	return s;
}

static void
write_headers(const struct dsn *d, const char *boundary, struct bytes *out)
{
	const char *report = "delivery-status";

	bytes_add_str(out, "From: Mail Delivery System <");
	if (d->from.n > 0) {
		add_clean(out, d->from);
	} else {
		bytes_add_str(out, "mailer-daemon@");
		add_clean(out, d->hostname);
	}
	bytes_add_str(out, ">\r\n");
	bytes_add_str(out, "To: <");
	add_clean(out, d->to);
	bytes_add_str(out, ">\r\n");
	bytes_addf(out, "Subject: %s\r\n",
		   d->n > 0 && d->rcpts[0].action == DSN_DELAYED ? "Delayed mail: still being retried"
								 : "Mail delivery failed: returned to sender");
	add_date(out, "Date", d->now);
	bytes_add_str(out, "Message-ID: <");
	add_clean(out, d->id_text);
	bytes_add_char(out, '@');
	add_clean(out, d->hostname);
	bytes_add_str(out, ">\r\n");
	bytes_add_str(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
	bytes_addf(out, "Content-Type: multipart/report; report-type=%s;\r\n\tboundary=\"%s\"\r\n", report, boundary);
}

static void
write_part(struct bytes *out, const char *boundary, const char *type, const char *charset, bool eight_bit)
{
	bytes_addf(out, "--%s\r\nContent-Type: %s%s\r\n", boundary, type, charset);
	bytes_addf(out, "Content-Transfer-Encoding: %s\r\n\r\n", eight_bit ? "8bit" : "7bit");
}

static const char *
verdict_text(enum dsn_action a)
{
	switch (a) {
	case DSN_DELAYED:
		return "has not been delivered yet. It is still being tried.\r\nYou need not send it again";
	case DSN_DELIVERED:
	case DSN_RELAYED:
	case DSN_EXPANDED:
		return "has been delivered";
	case DSN_FAILED:
		break;
	}
	return "could not be delivered";
}

static void
write_text(const struct dsn *d, struct bytes *out)
{
	bytes_add_str(out, "This is the mail system at host ");
	add_clean(out, d->hostname);
	bytes_addf(out, ".\r\n\r\nYour message %s", verdict_text(d->n > 0 ? d->rcpts[0].action : DSN_FAILED));
	bytes_addf(out, " to %s:\r\n", d->n == 1 ? "this recipient" : "these recipients");
	for (unsigned i = 0; i < d->n; i++) {
		const struct dsn_rcpt *r = &d->rcpts[i];

		bytes_add_str(out, "\r\n<");
		add_clean(out, r->rcpt);
		bytes_add_str(out, ">\r\n    ");
		if (r->remote_mta.n > 0) {
			bytes_add_str(out, "host ");
			add_cut(out, r->remote_mta, HOST_MAX);
			bytes_add_str(out, " said: ");
		}
		add_cut(out, r->reply, r->remote_mta.n > 0 ? TEXT_LINE_MAX - HOST_MAX : TEXT_LINE_MAX);
		bytes_add_str(out, "\r\n");
	}
	bytes_add_str(out, "\r\n");
}

static void
add_typed(struct bytes *out, const char *name, const char *type, struct slice value)
{
	bytes_addf(out, "%s: %s; ", name, type);
	add_clean(out, value);
	bytes_add_str(out, "\r\n");
}

static void
write_rcpt_status(const struct dsn_rcpt *r, struct bytes *out)
{
	char status[REPLY_ENHANCED_TEXT];

	bytes_add_str(out, "\r\n");
	if (r->orcpt.n > 0 && memchr(r->orcpt.p, ';', r->orcpt.n) != NULL)
		add_field(out, "Original-Recipient", r->orcpt);
	else if (r->orcpt.n > 0)
		add_typed(out, "Original-Recipient", slice_has_8bit(r->orcpt) ? "utf-8" : "rfc822", r->orcpt);
	add_typed(out, "Final-Recipient", slice_has_8bit(r->rcpt) ? "utf-8" : "rfc822", r->rcpt);
	bytes_addf(out, "Action: %s\r\n", action_word(r->action));
	dsn_status(r->reply, status);
	add_field(out, "Status", r->status.n > 0 ? r->status : slice_str(status));
	if (r->remote_mta.n > 0)
		add_typed(out, "Remote-MTA", "dns", r->remote_mta);
	if (r->reply.n > 0)
		add_typed(out, "Diagnostic-Code", r->remote_mta.n > 0 ? "smtp" : "X-Impetus", r->reply);
	if (r->last_attempt != 0)
		add_date(out, "Last-Attempt-Date", r->last_attempt);
}

static void
write_status(const struct dsn *d, struct bytes *out)
{
	add_typed(out, "Reporting-MTA", "dns", d->hostname);
	if (d->envid.n > 0)
		add_field(out, "Original-Envelope-Id", d->envid);
	if (d->about_text.n > 0)
		add_field(out, "X-Impetus-Message-Id", d->about_text);
	add_date(out, "Arrival-Date", d->arrival);
	for (unsigned i = 0; i < d->n; i++)
		write_rcpt_status(&d->rcpts[i], out);
	bytes_add_str(out, "\r\n");
}

static void
end_line(struct bytes *out)
{
	if (out->n < 2 ||
	    memcmp(out->p + out->n - 2, "\r\n", 2) != 0) /* a bare LF ends no line: no boundary may follow it */
		bytes_add_str(out, "\r\n");
}

/* The header block, without an empty line that a caller may have left at its end. */
static struct slice
header_only(struct slice h)
{
	while (h.n >= 4 && memcmp(h.p + h.n - 4, "\r\n\r\n", 4) == 0)
		h.n -= 2;
	return h;
}

static void
write_returned(const struct dsn *d, const char *boundary, bool eight_bit, struct bytes *out)
{
	bool all = d->inlined == DSN_INLINE_ALL;

	if (d->inlined == DSN_INLINE_NONE)
		return;
	if (all)
		write_part(out, boundary, eight_bit ? "message/global" : "message/rfc822", "", eight_bit);
	else
		write_part(out, boundary, eight_bit ? "message/global-headers" : "text/rfc822-headers", "", eight_bit);
	bytes_add_slice(out, all ? d->headers : header_only(d->headers));
	if (all)
		bytes_add_slice(out, d->body);
	end_line(out);
}

/* Not in any part: the id is ours and new. Only characters that need no care in a boundary. */
static void
make_boundary(const struct dsn *d, char *out, size_t size)
{
	size_t n = 0;

	out[n++] = '=';
	out[n++] = '_';
	for (size_t i = 0; i < d->id_text.n && n < size - 1; i++) {
		char c = d->id_text.p[i];

		out[n++] = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ? c : '_';
	}
	out[n] = '\0';
}

void
dsn_write(const struct dsn *d, struct bytes *headers, struct bytes *body, bool *eight_bit)
{
	struct shape s = shape_of(d);
	char boundary[64];

	make_boundary(d, boundary, sizeof(boundary));
	write_headers(d, boundary, headers);
	bytes_add_str(body, "\r\nThis is a MIME-encapsulated message.\r\n\r\n");
	write_part(body, boundary, "text/plain; charset=", s.text ? "utf-8" : "us-ascii", s.text);
	write_text(d, body);
	write_part(body, boundary, s.status ? "message/global-delivery-status" : "message/delivery-status", "",
		   s.status);
	write_status(d, body);
	write_returned(d, boundary, s.returned, body);
	bytes_addf(body, "--%s--\r\n", boundary);
	*eight_bit = s.text || s.status || s.returned;
}
