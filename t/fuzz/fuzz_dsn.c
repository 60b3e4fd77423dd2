/* Notices and trace fields out of what peers chose: their text makes no line and no field of its own, lines are as long
 * as RFC 5322 allows, and 7-bit is what is declared so. Each byte \1 in the input begins the next piece of text. */
#include <stddef.h>
#include <stdint.h>

#include "shm/base/log.h"
#include "spool/format/dsn.h"
#include "spool/format/header.h"
#include "spool/format/trace.h"

enum { PIECES = 10, LINE_MOST = 998 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct slice
piece(struct slice *rest)
{
	size_t n = slice_find(*rest, '\1');
	struct slice s = slice_of(rest->p, n);

	n += n < rest->n;
	*rest = slice_of(rest->p + n, rest->n - n);
	return s;
}

/* CRLF and no other control character; as many lines as `lines`, if that is not 0. */
static void
check_lines(struct slice text, size_t lines)
{
	size_t seen = 0, at = 0;

	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		require_that((c >= ' ' && c != 127) || c == '\t' || c == '\r' || c == '\n', "fuzz");
		require_that(c != '\r' || (i + 1 < text.n && text.p[i + 1] == '\n'), "fuzz");
		if (c != '\n')
			continue;
		require_that(i > 0 && text.p[i - 1] == '\r' && i - at <= LINE_MOST + 1, "fuzz");
		seen++;
		at = i + 1;
	}
	require_that(at == text.n && (lines == 0 || seen == lines), "fuzz");
}

static void
check_trace(const struct slice *p)
{
	struct trace_received t = { .helo = p[0],
				    .peer = p[1],
				    .hostname = SLICE("me.test"),
				    .protocol = SLICE("ESMTP"),
				    .sender = p[2],
				    .id = SLICE("1"),
				    .recipient = p[3] };
	struct bytes out = { 0 };
	struct slice rest;
	struct header_field f;

	trace_received(&out, &t);
	check_lines(slice_bytes(&out), 4);
	rest = slice_bytes(&out);
	require_that(header_next(&rest, &f) && rest.n == 0 && slice_eq(f.name, SLICE("Received")), "fuzz");
	bytes_fini(&out);
}

/* Which fields a notice's header has does not depend on anybody's text. */
static void
check_header(struct slice header)
{
	static const char *const names[] = { "From",           "To",           "Subject",     "Date", "Message-ID",
					     "Auto-Submitted", "MIME-Version", "Content-Type" };
	struct header_field f;
	size_t n = 0;

	check_lines(header, 0);
	while (header_next(&header, &f)) {
		require_that(n < sizeof(names) / sizeof(names[0]) && slice_eq(f.name, slice_str(names[n])), "fuzz");
		n++;
	}
	require_that(n == sizeof(names) / sizeof(names[0]), "fuzz");
}

static size_t
count(struct slice text, const char *what)
{
	size_t n = 0, len = strlen(what);

	for (size_t i = 0; i + len <= text.n; i++)
		n += memcmp(text.p + i, what, len) == 0;
	return n;
}

/* Without the returned message, for that is whatever it was. */
static void
check_body(const struct dsn *d, struct slice body)
{
	size_t parts = d->inlined == DSN_INLINE_NONE ? 2 : 3;

	require_that(count(body, "\r\n--=_") >= parts + 1, "fuzz");
	if (d->inlined != DSN_INLINE_NONE)
		return;
	check_lines(body, 0);
	require_that(count(body, "\r\n--=_") == parts + 1, "fuzz");
	require_that(count(body, "\r\nFinal-Recipient: ") == d->n, "fuzz");
	require_that(count(body, "\r\nAction: ") == d->n && count(body, "\r\nStatus: ") == d->n, "fuzz");
	require_that(count(body, "\r\nReporting-MTA: ") == 1, "fuzz");
}

static void
check_dsn(const struct slice *p, uint8_t how)
{
	struct dsn_rcpt rcpts[2] = {
		{ .rcpt = p[2],
		  .orcpt = p[3],
		  .action = (enum dsn_action)(how % 5),
		  .reply = p[4],
		  .remote_mta = p[5] },
		{ .rcpt = p[6],
		  .status = (how & 4) != 0 ? SLICE("5.1.1") : SLICE(""),
		  .reply = p[7],
		  .last_attempt = 1 },
	};
	struct dsn d = { .hostname = SLICE("me.test"),
			 .from = (how & 8) != 0 ? SLICE("m@me.test") : SLICE(""),
			 .to = p[0],
			 .envid = p[1],
			 .id_text = SLICE("6a/1f-1"),
			 .about_text = SLICE("6a/1f-0"),
			 .rcpts = rcpts,
			 .n = 1 + (how >> 4) % 2,
			 .inlined = (enum dsn_inline)((how >> 5) % 3),
			 .headers = p[8],
			 .body = p[9] };
	struct bytes header = { 0 }, body = { 0 };
	bool eight_bit = false;

	dsn_write(&d, &header, &body, &eight_bit);
	check_header(slice_bytes(&header));
	check_body(&d, slice_bytes(&body));
	if (!eight_bit)
		require_that(!slice_has_8bit(slice_bytes(&header)) && !slice_has_8bit(slice_bytes(&body)), "fuzz");
	bytes_fini(&header);
	bytes_fini(&body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice pieces[PIECES], rest;

	if (n < 1)
		return 0;
	rest = slice_of(data + 1, n - 1);
	for (int i = 0; i < PIECES; i++)
		pieces[i] = piece(&rest);
	check_trace(pieces);
	check_dsn(pieces, data[0]);
	return 0;
}
