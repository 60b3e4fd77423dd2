#include "spool/format/reply.h"

#include <stdio.h>

enum { LINE_TEXT_MAX = 500 }; /* RFC 5321 4.5.3.1.5: 512 with code, separator and CRLF */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

enum err
reply_parse_line(struct slice line, int *code, bool *last, struct slice *text)
{
	if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5' || !is_digit(line.p[1]) || !is_digit(line.p[2]))
		return ERR_SYNTAX;
	if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
		return ERR_SYNTAX;
	*code = (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0');
	*last = line.n == 3 || line.p[3] == ' ';
	*text = line.n > 4 ? slice_of(line.p + 4, line.n - 4) : slice_of(line.p + line.n, 0);
	return OK;
}

static void
add_printable(struct bytes *out, struct slice s)
{
	char *p = bytes_room(out, s.n);

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		p[i] = c < ' ' || c == 0x7f ? ' ' : (char)c;
	}
	out->n += s.n;
}

enum err
reply_take(struct slice *in, int *code, struct bytes *text)
{
	struct slice at = *in, line, words;
	bool last = false;
	enum err e;

	text->n = 0;
	while (!last) {
		size_t n = slice_find(at, '\n');

		if (n > REPLY_LINE_MAX || (size_t)(at.p - in->p) > REPLY_MAX)
			return ERR_RANGE;
		if (n == at.n)
			return ERR_AGAIN;
		line = slice_of(at.p, n > 0 && at.p[n - 1] == '\r' ? n - 1 : n);
		at = slice_of(at.p + n + 1, at.n - n - 1);
		e = reply_parse_line(line, code, &last, &words);
		if (e != OK)
			return e;
		if (text->n > 0)
			bytes_add_char(text, ' ');
		add_printable(text, words);
	}
	*in = at;
	return OK;
}

/* One to three digits and what must follow. */
static bool
take_number(struct slice *s, unsigned short *v)
{
	size_t n = 0;

	for (*v = 0; n < s->n && n < 3 && is_digit(s->p[n]); n++)
		*v = (unsigned short)(*v * 10 + (s->p[n] - '0'));
	*s = slice_of(s->p + n, s->n - n);
	return n > 0;
}

static bool
take_char(struct slice *s, char c)
{
	if (s->n == 0 || s->p[0] != c)
		return false;
	*s = slice_of(s->p + 1, s->n - 1);
	return true;
}

bool
enhanced_take(struct slice text, int code, struct enhanced *out, struct slice *rest)
{
	struct enhanced e = { 0 };
	struct slice s = text;

	if (s.n < 5 || s.p[0] != '0' + code / 100 || (s.p[0] != '2' && s.p[0] != '4' && s.p[0] != '5'))
		return false;
	e.class = (unsigned char)(s.p[0] - '0');
	s = slice_of(s.p + 1, s.n - 1);
	if (!take_char(&s, '.') || !take_number(&s, &e.subject) || !take_char(&s, '.') || !take_number(&s, &e.detail))
		return false;
	if (s.n > 0 && !take_char(&s, ' '))
		return false;
	*out = e;
	*rest = s;
	return true;
}

void
enhanced_text(const struct enhanced *e, char out[REPLY_ENHANCED_TEXT])
{
	snprintf(out, REPLY_ENHANCED_TEXT, "%u.%u.%u", e->class % 10u, e->subject % 1000u, e->detail % 1000u);
}

void
reply_add_code(struct bytes *out, int code, bool last)
{
	char *p = bytes_room(out, 4);

	p[0] = (char)('0' + code / 100 % 10);
	p[1] = (char)('0' + code / 10 % 10);
	p[2] = (char)('0' + code % 10);
	p[3] = last ? ' ' : '-';
	out->n += 4;
}

/* One line; `first` tells whether the enhanced code still stands in the text itself. */
static void
write_line(struct bytes *out, int code, bool last, const char *enhanced, struct slice text)
{
	size_t begin = out->n;

	reply_add_code(out, code, last);
	if (enhanced[0] != '\0') {
		bytes_add_str(out, enhanced);
		bytes_add_char(out, ' ');
	}
	add_printable(out, text);
	if (out->n - begin > LINE_TEXT_MAX)
		out->n = begin + LINE_TEXT_MAX;
	bytes_add_str(out, "\r\n");
}

void
reply_write(struct bytes *out, int code, struct slice text)
{
	char enhanced[REPLY_ENHANCED_TEXT] = "";
	struct enhanced e;

	if (enhanced_take(text, code, &e, &text))
		enhanced_text(&e, enhanced);
	for (;;) {
		size_t n = slice_find(text, '\n');
		struct slice line = slice_of(text.p, n > 0 && n <= text.n && text.p[n - 1] == '\r' ? n - 1 : n);

		if (n == text.n)
			break;
		write_line(out, code, n + 1 == text.n, enhanced, line);
		text = slice_of(text.p + n + 1, text.n - n - 1);
		if (text.n == 0)
			return;
	}
	write_line(out, code, true, enhanced, text);
}
