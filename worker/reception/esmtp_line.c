#include "worker/reception/esmtp_line.h"

static void
drop(struct slice *s, size_t n)
{
	s->p += n;
	s->n -= n;
}

/* Position of the first CRLF in s, or s.n. */
static size_t
find_crlf(struct slice s)
{
	const char *end = s.p + s.n;

	for (const char *p = s.p; p < end; p++) {
		p = memchr(p, '\n', (size_t)(end - p));
		if (p == NULL)
			return s.n;
		if (p > s.p && p[-1] == '\r')
			return (size_t)(p - 1 - s.p);
	}
	return s.n;
}

static bool
has_lone(struct slice line)
{
	return slice_find(line, '\r') < line.n || slice_find(line, '\n') < line.n || slice_find(line, '\0') < line.n;
}

enum line_kind
line_take(struct slice *in, struct slice *line, bool *skipping)
{
	size_t n = find_crlf(*in);

	if (n == in->n) {
		if (n >= LINE_MAX_BYTES)
			*skipping = true;
		/* The last byte may be the CR of the CRLF. */
		if (*skipping && n > 1)
			drop(in, n - 1);
		return LINE_NONE;
	}
	*line = slice_of(in->p, n);
	drop(in, n + 2);
	if (*skipping || n + 2 > LINE_MAX_BYTES) {
		*skipping = false;
		return LINE_LONG;
	}
	return has_lone(*line) ? LINE_BAD : LINE_GOOD;
}

/* The state behind byte c, for the states that hold nothing back. */
static enum dots_state
behind(enum dots_state state, char c)
{
	if (c == '\r')
		return DOTS_CR;
	return c == '\n' && state == DOTS_CR ? DOTS_BEGIN : DOTS_TEXT;
}

/* From s.p[at] on, in the middle of a line: the first place behind a CRLF (state DOTS_BEGIN then), or s.n. */
static size_t
pass_line(struct dots *d, struct slice s, size_t at)
{
	while (at < s.n) {
		size_t n;

		if (d->state == DOTS_CR) {
			d->state = behind(d->state, s.p[at++]);
			if (d->state == DOTS_BEGIN)
				return at;
			continue;
		}
		n = at + slice_find(slice_of(s.p + at, s.n - at), '\r');
		if (n < s.n)
			d->state = DOTS_CR;
		at = n < s.n ? n + 1 : n;
	}
	return at;
}

static void
emit(dots_sink *sink, void *arg, const char *p, size_t n)
{
	if (n > 0)
		sink(arg, slice_of(p, n));
}

bool
dots_feed(struct dots *d, struct slice *in, dots_sink *sink, void *arg)
{
	struct slice s = *in;
	size_t from = 0, at = 0; /* s[from..at) is content that was not passed on yet */

	while (at < s.n) {
		char c = s.p[at];

		switch (d->state) {
		case DOTS_BEGIN:
			if (c == '.') {
				emit(sink, arg, s.p + from, at - from);
				from = ++at;
				d->state = DOTS_DOT;
				break;
			}
			d->state = DOTS_TEXT;
			break;
		case DOTS_TEXT:
		case DOTS_CR:
			at = pass_line(d, s, at);
			break;
		case DOTS_DOT:
			/* A CR here may be the end's: not content until the next byte says so. */
			if (c == '\r')
				from = ++at;
			d->state = c == '\r' ? DOTS_DOT_CR : DOTS_TEXT;
			break;
		case DOTS_DOT_CR:
			if (c == '\n') {
				*in = slice_of(s.p + at + 1, s.n - at - 1);
				return true;
			}
			emit(sink, arg, "\r", 1);
			d->state = DOTS_CR;
			break;
		}
	}
	emit(sink, arg, s.p + from, at - from);
	*in = slice_of(s.p + s.n, 0);
	return false;
}
