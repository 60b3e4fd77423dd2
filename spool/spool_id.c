#include "spool/spool_id.h"

enum { SEQ_BITS = 14, SLOT_BITS = 8 };
#define EPOCH_MS INT64_C(1577836800000) /* 2020-01-01 UTC */
#define MS_MAX   ((UINT64_C(1) << 42) - 1)
#define SEQ_MASK ((UINT64_C(1) << SEQ_BITS) - 1)

static uint64_t
ms_of(msgid_t id)
{
	return id >> (SEQ_BITS + SLOT_BITS);
}

/* Milliseconds since the epoch of ids, within their 42 bits (till 2159). */
static uint64_t
ms_at(usec_t real)
{
	int64_t ms = real / USEC_PER_MS - EPOCH_MS;

	if (ms < 0)
		return 0;
	return (uint64_t)ms > MS_MAX ? MS_MAX : (uint64_t)ms;
}

/* The last n digits of v. */
static char *
digits_put(char *p, size_t n, unsigned base, uint64_t v)
{
	for (size_t i = n; i-- > 0; v /= base)
		p[i] = "0123456789abcdef"[v % base];
	return p + n;
}

/* Several times a message, in its log line, trace and reply: too often for printf. */
void
id_text(msgid_t id, char out[ID_TEXT])
{
	char *p = digits_put(out, 2, 16, id >> 56);

	*p++ = '/';
	p = digits_put(p, 2, 16, id >> 48);
	*p++ = '-';
	p = digits_put(p, 5, 10, id >> 32 & 0xffff);
	*p++ = '-';
	p = digits_put(p, 8, 16, id);
	*p = '\0';
}

static bool
digits_take(const char *p, size_t n, unsigned base, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++) {
		char c = ascii_lower(p[i]);
		unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
			     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
						    : 99;
		if (d >= base)
			return false;
		v = v * base + d;
	}
	*out = v;
	return true;
}

bool
id_parse(struct slice s, msgid_t *out)
{
	uint64_t a, b, c, d;

	if (s.n != 20 || s.p[2] != '/' || s.p[5] != '-' || s.p[11] != '-')
		return false;
	if (!digits_take(s.p, 2, 16, &a) || !digits_take(s.p + 3, 2, 16, &b) || !digits_take(s.p + 6, 5, 10, &c) ||
	    !digits_take(s.p + 12, 8, 16, &d) || c > 0xffff)
		return false;
	*out = a << 56 | b << 48 | c << 32 | d;
	return true;
}

usec_t
id_time(msgid_t id)
{
	return ((int64_t)ms_of(id) + EPOCH_MS) * USEC_PER_MS;
}

uint8_t
id_slot(msgid_t id)
{
	return (uint8_t)(id >> SEQ_BITS);
}

msgid_t
id_at(usec_t real)
{
	return ms_at(real) << (SEQ_BITS + SLOT_BITS);
}

void
id_source_init(struct id_source *src, uint8_t slot, msgid_t floor)
{
	src->slot = slot;
	src->last = floor == 0 ? 0 : ms_of(floor) << SEQ_BITS | SEQ_MASK;
}

msgid_t
id_next(struct id_source *src)
{
	uint64_t now = ms_at(clock_real()) << SEQ_BITS;

	src->last = now > src->last ? now : src->last + 1;
	return id_last(src);
}

msgid_t
id_last(const struct id_source *src)
{
	return (src->last >> SEQ_BITS) << (SEQ_BITS + SLOT_BITS) | (uint64_t)src->slot << SEQ_BITS |
	       (src->last & SEQ_MASK);
}
