#include "spool/format/header.h"

/* ftext = %d33-57 / %d59-126 (RFC 5322 3.6.8); 8-bit is let through: it is out there, and the field is text all the
 * same. */
static bool
is_name_char(unsigned char c)
{
	return c > ' ' && c != ':' && c != 0x7f;
}

/* Does the line at p[0..n) begin a field? Spaces before the colon are old syntax (RFC 5322 4.5). *colon: where. */
static bool
begins_field(const char *p, size_t n, size_t *colon)
{
	size_t i = 0;

	while (i < n && is_name_char((unsigned char)p[i]))
		i++;
	if (i == 0)
		return false;
	while (i < n && (p[i] == ' ' || p[i] == '\t'))
		i++;
	if (i == n || p[i] != ':')
		return false;
	*colon = i;
	return true;
}

/* Length of the line at the front with its "\n"; 0 when it has none. */
static size_t
line_length(struct slice s)
{
	size_t n = slice_find(s, '\n');

	return n < s.n ? n + 1 : 0;
}

static bool
continues(struct slice s)
{
	return s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t');
}

/* Length of the field at the front, all its lines; 0: no field there, or its end is not to be seen. *known: the
 * answer would not change with more bytes behind. */
static size_t
field_length(struct slice s, bool whole, bool *known)
{
	size_t at, n, colon;

	n = line_length(s);
	*known = n != 0 || whole;
	if (n == 0 && whole)
		n = s.n;
	if (n == 0 || !begins_field(s.p, n, &colon))
		return 0;
	for (at = n; continues(slice_of(s.p + at, s.n - at)); at += n) {
		n = line_length(slice_of(s.p + at, s.n - at));
		if (n == 0 && !whole) {
			*known = false;
			return 0;
		}
		if (n == 0)
			n = s.n - at;
	}
	if (at == s.n && !whole) {
		*known = false;
		return 0;
	}
	return at;
}

size_t
header_length(struct slice message, bool whole, bool *ended)
{
	size_t at = 0, n;

	while (at < message.n) {
		n = field_length(slice_of(message.p + at, message.n - at), whole, ended);
		if (n == 0)
			return at;
		at += n;
	}
	*ended = whole;
	return at;
}

static struct slice
without_line_end(struct slice s)
{
	if (s.n > 0 && s.p[s.n - 1] == '\n')
		s.n--;
	if (s.n > 0 && s.p[s.n - 1] == '\r')
		s.n--;
	return s;
}

bool
header_next(struct slice *header, struct header_field *out)
{
	bool known;
	size_t colon, n = field_length(*header, true, &known);
	struct header_field f;

	if (header->n == 0 || n == 0 || !begins_field(header->p, n, &colon))
		return false;
	f.whole = slice_of(header->p, n);
	f.name = slice_trim(slice_of(header->p, colon));
	f.value = without_line_end(slice_of(header->p + colon + 1, n - colon - 1));
	*header = slice_of(header->p + n, header->n - n);
	*out = f;
	return true;
}

bool
header_find(struct slice header, struct slice name, size_t n, struct header_field *out)
{
	struct header_field f;

	while (header_next(&header, &f))
		if (slice_ieq(f.name, name) && n-- == 0) {
			*out = f;
			return true;
		}
	return false;
}

size_t
header_count(struct slice header, struct slice name)
{
	struct header_field f;
	size_t n = 0;

	while (header_next(&header, &f))
		n += slice_ieq(f.name, name);
	return n;
}

void
header_unfold(struct slice value, struct bytes *out)
{
	value = slice_trim(value);
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] != '\n' && !(value.p[i] == '\r' && (i + 1 == value.n || value.p[i + 1] == '\n')))
			bytes_add_char(out, value.p[i]);
}

bool
header_name_valid(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!is_name_char((unsigned char)name.p[i]) || (unsigned char)name.p[i] >= 0x80)
			return false;
	return name.n > 0;
}

/* One byte of a field's text; the next one tells a fold from a break that must not be. */
static size_t
write_value_at(struct bytes *out, struct slice v, size_t i)
{
	size_t end = v.p[i] == '\r' && i + 1 < v.n && v.p[i + 1] == '\n' ? i + 2 : i + 1;
	unsigned char c = (unsigned char)v.p[i];

	if (c == '\n' || end == i + 2) {
		if (end < v.n && (v.p[end] == ' ' || v.p[end] == '\t'))
			bytes_add_str(out, "\r\n");
		else
			bytes_add_char(out, ' ');
		return end;
	}
	bytes_add_char(out, (c < ' ' && c != '\t') || c == 0x7f ? ' ' : (char)c);
	return i + 1;
}

void
header_write(struct bytes *out, struct slice name, struct slice value)
{
	bytes_add_slice(out, name);
	bytes_add_str(out, ": ");
	value = slice_trim(without_line_end(value));
	for (size_t i = 0; i < value.n;)
		i = write_value_at(out, value, i);
	bytes_add_str(out, "\r\n");
}

size_t
header_without(struct slice header, struct slice name, long n, struct bytes *out)
{
	struct header_field f;
	size_t dropped = 0;
	long at = 0;

	while (header_next(&header, &f)) {
		if (slice_ieq(f.name, name) && (n < 0 || at++ == n))
			dropped++;
		else
			bytes_add_slice(out, f.whole);
	}
	return dropped;
}

void
header_replace(struct slice header, struct slice name, struct slice value, struct bytes *out)
{
	struct header_field f;
	bool done = false;

	while (header_next(&header, &f)) {
		if (!slice_ieq(f.name, name)) {
			bytes_add_slice(out, f.whole);
		} else if (!done) {
			header_write(out, f.name, value);
			done = true;
		}
	}
	if (!done)
		header_write(out, name, value);
}
