#include "shm/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/base/le.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

bool
slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool
slice_ieq(struct slice a, struct slice b)
{
	return a.n == b.n && slice_istarts(a, b);
}

bool
slice_istarts(struct slice s, struct slice prefix)
{
	if (s.n < prefix.n)
		return false;
	for (size_t i = 0; i < prefix.n; i++)
		if (ascii_lower(s.p[i]) != ascii_lower(prefix.p[i]))
			return false;
	return true;
}

bool
slice_has_8bit(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] > 127)
			return true;
	return false;
}

struct slice
slice_trim(struct slice s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

size_t
slice_find(struct slice s, char c)
{
	const char *hit = s.n != 0 ? memchr(s.p, c, s.n) : NULL;

	return hit != NULL ? (size_t)(hit - s.p) : s.n;
}

struct slice
decimal_text(uint64_t v, char room[DECIMAL_TEXT])
{
	char *p = room + DECIMAL_TEXT;

	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	return slice_of(p, (size_t)(room + DECIMAL_TEXT - p));
}

char *
slice_dup(struct slice s)
{
	return mem_strndup(s.n != 0 ? s.p : "", s.n);
}

bool
slice_u64(struct slice s, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (s.n == 0)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';
		if (digit > 9 || v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
		if (v > max)
			return false;
	}
	*out = v;
	return true;
}

void
bytes_grow(struct bytes *b, size_t n)
{
	size_t cap = b->cap != 0 ? b->cap : 64;

	require_that(n < SIZE_MAX / 4 && b->n < SIZE_MAX / 4, "bytes");
	while (cap - b->n < n)
		cap *= 2;
	b->p = mem_array(b->p, cap, 1);
	b->cap = cap;
}

void
bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	memcpy(bytes_room(b, n), p, n);
	b->n += n;
}

void
bytes_add_slice(struct bytes *b, struct slice s)
{
	bytes_add(b, s.p, s.n);
}

void
bytes_add_str(struct bytes *b, const char *s)
{
	bytes_add(b, s, strlen(s));
}

void
bytes_add_decimal(struct bytes *b, uint64_t v)
{
	char room[DECIMAL_TEXT];

	bytes_add_slice(b, decimal_text(v, room));
}

void
bytes_addf(struct bytes *b, const char *fmt, ...)
{
	size_t room = b->cap - b->n;
	va_list ap;
	int w;

	va_start(ap, fmt);
	w = vsnprintf(room > 0 ? b->p + b->n : NULL, room, fmt, ap);
	va_end(ap);
	if (w <= 0)
		return;
	if ((size_t)w >= room) {
		(void)bytes_room(b, (size_t)w + 1);
		va_start(ap, fmt);
		vsnprintf(b->p + b->n, (size_t)w + 1, fmt, ap);
		va_end(ap);
	}
	b->n += (size_t)w;
}

void
bytes_drop(struct bytes *b, size_t n)
{
	require_that(n <= b->n, "bytes");
	if (n == 0)
		return;
	b->n -= n;
	memmove(b->p, b->p + n, b->n);
}

const char *
bytes_cstr(struct bytes *b)
{
	*bytes_room(b, 1) = '\0';
	return b->p;
}

void
bytes_fini(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){ 0 };
}

void
bytes_add_u8(struct bytes *b, uint8_t v)
{
	bytes_add(b, &v, 1);
}

void
bytes_add_u16(struct bytes *b, uint16_t v)
{
	le_put16(bytes_room(b, sizeof v), v);
	b->n += sizeof v;
}

void
bytes_add_u32(struct bytes *b, uint32_t v)
{
	le_put32(bytes_room(b, sizeof v), v);
	b->n += sizeof v;
}

void
bytes_add_u64(struct bytes *b, uint64_t v)
{
	le_put64(bytes_room(b, sizeof v), v);
	b->n += sizeof v;
}

void
bytes_add_lstr(struct bytes *b, struct slice s)
{
	require_that(s.n <= UINT32_MAX, "bytes");
	bytes_add_u32(b, (uint32_t)s.n);
	bytes_add_slice(b, s);
}

bool
take_bytes(struct slice *s, size_t n, struct slice *v)
{
	if (s->n < n)
		return false;
	*v = slice_of(s->p, n);
	s->p += n;
	s->n -= n;
	return true;
}

bool
take_u8(struct slice *s, uint8_t *v)
{
	struct slice raw;

	if (!take_bytes(s, sizeof *v, &raw))
		return false;
	*v = (uint8_t)raw.p[0];
	return true;
}

bool
take_u16(struct slice *s, uint16_t *v)
{
	struct slice raw;

	if (!take_bytes(s, sizeof *v, &raw))
		return false;
	*v = le_get16(raw.p);
	return true;
}

bool
take_u32(struct slice *s, uint32_t *v)
{
	struct slice raw;

	if (!take_bytes(s, sizeof *v, &raw))
		return false;
	*v = le_get32(raw.p);
	return true;
}

bool
take_u64(struct slice *s, uint64_t *v)
{
	struct slice raw;

	if (!take_bytes(s, sizeof *v, &raw))
		return false;
	*v = le_get64(raw.p);
	return true;
}

bool
take_i64(struct slice *s, int64_t *v)
{
	uint64_t u;

	if (!take_u64(s, &u))
		return false;
	*v = (int64_t)u;
	return true;
}

bool
take_lstr(struct slice *s, struct slice *v)
{
	struct slice at = *s;
	uint32_t n;

	if (!take_u32(&at, &n) || !take_bytes(&at, n, v))
		return false;
	*s = at;
	return true;
}
