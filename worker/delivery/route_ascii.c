/* route_ascii.c - domains with 8-bit labels in DNS's spelling (punycode, RFC 3492)
 * Only the encoding, with ASCII letters in lower case: what a mail client sends is already in the form that IDNA
 * asks for, or will not be found. */
#include "worker/delivery/route.h"

#include <stdio.h>

#include "spool/format/addr.h"

enum {
	BASE = 36,
	TMIN = 1,
	TMAX = 26,
	SKEW = 38,
	DAMP = 700,
	INITIAL_BIAS = 72,
	INITIAL_N = 128,
	LABEL_MAX = 63,
};

static uint32_t
adapt(uint32_t delta, uint32_t points, bool first)
{
	uint32_t k = 0;

	delta = first ? delta / DAMP : delta / 2;
	delta += delta / points;
	for (; delta > ((BASE - TMIN) * TMAX) / 2; k += BASE)
		delta /= BASE - TMIN;
	return k + (BASE - TMIN + 1) * delta / (delta + SKEW);
}

/* Checked UTF-8 to code points; at most LABEL_MAX, since each needs a byte of its own in the label. */
static size_t
decode(struct slice s, uint32_t out[LABEL_MAX + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < s.n && n <= LABEL_MAX;) {
		unsigned char c = (unsigned char)s.p[i];
		unsigned more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		uint32_t v = more == 0 ? (uint32_t)(unsigned char)ascii_lower((char)c) : c & (0x3fu >> more);

		for (i++; more > 0; more--, i++)
			v = v << 6 | ((unsigned char)s.p[i] & 0x3f);
		out[n++] = v;
	}
	return n;
}

static char
digit(uint32_t d)
{
	return (char)(d < 26 ? 'a' + d : '0' + (d - 26));
}

/* One delta as a number of variable length. */
static void
put_delta(struct bytes *out, uint32_t delta, uint32_t bias)
{
	uint32_t q = delta;

	for (uint32_t k = BASE;; k += BASE) {
		uint32_t t = k <= bias ? TMIN : k >= bias + TMAX ? TMAX : k - bias;

		if (q < t)
			break;
		bytes_add_char(out, digit(t + (q - t) % (BASE - t)));
		q = (q - t) / (BASE - t);
	}
	bytes_add_char(out, digit(q));
}

static void
encode(const uint32_t *in, size_t n, struct bytes *out)
{
	uint32_t next = INITIAL_N, delta = 0, bias = INITIAL_BIAS, basic = 0, done;

	for (size_t i = 0; i < n; i++) {
		if (in[i] < 0x80) {
			bytes_add_char(out, (char)in[i]);
			basic++;
		}
	}
	if (basic > 0)
		bytes_add_char(out, '-');
	for (done = basic; done < n; delta++, next++) {
		uint32_t m = UINT32_MAX;

		for (size_t i = 0; i < n; i++)
			m = in[i] >= next && in[i] < m ? in[i] : m;
		delta += (m - next) * (done + 1); /* at most 0x10ffff * 64: no overflow */
		next = m;
		for (size_t i = 0; i < n; i++) {
			delta += in[i] < next;
			if (in[i] != next)
				continue;
			put_delta(out, delta, bias);
			bias = adapt(delta, done + 1, done == basic);
			delta = 0;
			done++;
		}
	}
}

static enum err
add_label(struct slice label, struct bytes *out)
{
	uint32_t points[LABEL_MAX + 1];
	size_t from = out->n, n;
	bool plain = true;

	for (size_t i = 0; i < label.n; i++)
		plain = plain && (unsigned char)label.p[i] < 0x80;
	if (plain) {
		for (size_t i = 0; i < label.n; i++)
			bytes_add_char(out, ascii_lower(label.p[i]));
	} else {
		n = decode(label, points);
		bytes_add_str(out, "xn--");
		if (n <= LABEL_MAX)
			encode(points, n, out);
		else
			return ERR_RANGE;
	}
	if (out->n == from)
		return ERR_SYNTAX;
	return out->n - from > LABEL_MAX ? ERR_RANGE : OK;
}

enum err
route_ascii(struct slice domain, char out[DNS_NAME_MAX])
{
	struct bytes b = { 0 };
	enum err e = OK;

	if (domain.n > 0 && domain.p[domain.n - 1] == '.')
		domain.n--;
	if (domain.n == 0 || domain.n > (size_t)4 * DNS_NAME_MAX || !utf8_valid(domain))
		return ERR_SYNTAX;
	while (e == OK) {
		size_t dot = slice_find(domain, '.');

		e = add_label(slice_of(domain.p, dot), &b);
		if (e != OK || dot == domain.n)
			break;
		bytes_add_char(&b, '.');
		domain = slice_of(domain.p + dot + 1, domain.n - dot - 1);
	}
	if (e == OK && b.n > DNS_NAME_MAX - 3)
		e = ERR_RANGE;
	if (e == OK) {
		memcpy(out, b.p, b.n);
		out[b.n] = '\0';
	}
	bytes_fini(&b);
	return e;
}
