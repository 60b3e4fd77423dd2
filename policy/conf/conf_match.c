#include "policy/conf/conf_match.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static struct conf_addr
from_in6(const uint8_t bytes[16])
{
	struct conf_addr a = { .len = 16 };

	if (memcmp(bytes, mapped, sizeof(mapped)) == 0) {
		a.len = 4;
		memcpy(a.bytes, bytes + sizeof(mapped), 4);
	} else
		memcpy(a.bytes, bytes, 16);
	return a;
}

bool
conf_addr_of(const struct sockaddr *sa, struct conf_addr *out)
{
	static const struct conf_addr loopback = { .bytes = { 127, 0, 0, 1 }, .len = 4 };

	switch (sa->sa_family) {
	case AF_INET: {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		*out = (struct conf_addr){ .len = 4 };
		memcpy(out->bytes, &in.sin_addr, 4);
		return true;
	}
	case AF_INET6: {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		*out = from_in6(in6.sin6_addr.s6_addr);
		return true;
	}
	case AF_UNIX:
		*out = loopback;
		return true;
	default:
		return false;
	}
}

bool
conf_addr_parse(const char *text, struct conf_addr *out)
{
	uint8_t in6[16];

	*out = (struct conf_addr){ .len = 4 };
	if (inet_pton(AF_INET, text, out->bytes) == 1)
		return true;
	if (inet_pton(AF_INET6, text, in6) != 1)
		return false;
	*out = from_in6(in6);
	return true;
}

static void
clear_host_bits(struct conf_net *net)
{
	for (unsigned i = 0; i < net->addr.len * 8; i++)
		if (i >= net->bits)
			net->addr.bytes[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

bool
conf_net_parse(const char *text, struct conf_net *out)
{
	size_t n = strcspn(text, "/");
	char copy[INET6_ADDRSTRLEN];
	uint64_t bits;

	if (n >= sizeof(copy))
		return false;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (!conf_addr_parse(copy, &out->addr))
		return false;
	bits = UINT64_C(8) * out->addr.len;
	if (text[n] == '/' && !slice_u64(slice_str(text + n + 1), bits, &bits))
		return false;
	out->bits = (unsigned)bits;
	clear_host_bits(out);
	return true;
}

bool
conf_net_has(const struct conf_net *net, const struct conf_addr *a)
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;

	if (net->addr.len != a->len || memcmp(net->addr.bytes, a->bytes, whole) != 0)
		return false;
	return rest == 0 || (net->addr.bytes[whole] ^ a->bytes[whole]) >> (8 - rest) == 0;
}

bool
conf_net_has_peer(const struct conf_net *net, const struct sockaddr *sa)
{
	static const struct conf_addr loopback6 = { .bytes = { [15] = 1 }, .len = 16 };
	struct conf_addr a;

	if (!conf_addr_of(sa, &a))
		return false;
	return conf_net_has(net, &a) || (sa->sa_family == AF_UNIX && conf_net_has(net, &loopback6));
}

const char *
conf_net_text(struct arena *arena, const struct conf_net *net)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(net->addr.len == 4 ? AF_INET : AF_INET6, net->addr.bytes, text, sizeof(text));
	return arena_printf(arena, "%s/%u", text, net->bits);
}

/* Exact names and those behind "*." are sorted; the rare "*ending" is walked. */
struct conf_domains {
	const char **exact, **below, **ending;
	size_t n_exact, n_below, n_ending;
};

static int
by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static const char *
lower(struct arena *arena, const char *s)
{
	char *copy = arena_strdup(arena, s);

	for (char *c = copy; *c != '\0'; c++)
		*c = ascii_lower(*c);
	return copy;
}

struct conf_domains *
conf_domains_new(struct arena *arena, const char *const *v, size_t n)
{
	struct conf_domains *d = arena_alloc(arena, sizeof(*d));

	d->exact = arena_alloc(arena, n * sizeof(*d->exact));
	d->below = arena_alloc(arena, n * sizeof(*d->below));
	d->ending = arena_alloc(arena, n * sizeof(*d->ending));
	for (size_t i = 0; i < n; i++) {
		char key[CONF_DOMAIN_MAX];

		if (v[i][0] == '*' && v[i][1] == '.')
			d->below[d->n_below++] = lower(arena, v[i] + 2);
		else if (v[i][0] == '*')
			d->ending[d->n_ending++] = lower(arena, v[i] + 1);
		else if (conf_domain_key(slice_str(v[i]), key))
			d->exact[d->n_exact++] = arena_strdup(arena, key);
	}
	qsort(d->exact, d->n_exact, sizeof(*d->exact), by_text);
	qsort(d->below, d->n_below, sizeof(*d->below), by_text);
	return d;
}

static bool
among(const char **v, size_t n, const char *name)
{
	return n > 0 && bsearch(&name, v, n, sizeof(*v), by_text) != NULL;
}

static bool
ends_in(const char *name, const char *ending)
{
	size_t n = strlen(name), m = strlen(ending);

	return n >= m && strcmp(name + n - m, ending) == 0;
}

bool
conf_domains_has(const struct conf_domains *d, struct slice domain)
{
	char key[CONF_DOMAIN_MAX];

	if (!conf_domain_key(domain, key))
		return false;
	if (among(d->exact, d->n_exact, key))
		return true;
	for (const char *dot = strchr(key + 1, '.'); dot != NULL; dot = strchr(dot + 1, '.'))
		if (among(d->below, d->n_below, dot + 1))
			return true;
	for (size_t i = 0; i < d->n_ending; i++)
		if (ends_in(key, d->ending[i]))
			return true;
	return false;
}

const char *
conf_domains_check(const char *item)
{
	if (item[0] == '\0')
		return "a domain";
	if (strchr(item + 1, '*') != NULL)
		return "a domain with * at its left end only";
	if (strlen(item) >= CONF_DOMAIN_MAX)
		return "a shorter domain";
	return NULL;
}

/* An address literal in its one spelling; false when it is none. */
static bool
literal_key(struct slice d, char out[CONF_DOMAIN_MAX])
{
	static const struct slice tag = { "ipv6:", 5 };
	char text[INET6_ADDRSTRLEN + 8];
	struct conf_addr a;

	if (d.n < 3 || d.p[0] != '[' || d.p[d.n - 1] != ']' || d.n >= sizeof(text))
		return false;
	d = slice_of(d.p + 1, d.n - 2);
	if (slice_istarts(d, tag))
		d = slice_of(d.p + tag.n, d.n - tag.n);
	memcpy(text, d.p, d.n);
	text[d.n] = '\0';
	if (!conf_addr_parse(text, &a))
		return false;
	inet_ntop(a.len == 4 ? AF_INET : AF_INET6, a.bytes, text, INET6_ADDRSTRLEN);
	snprintf(out, CONF_DOMAIN_MAX, a.len == 4 ? "%s" : "[ipv6:%s]", text);
	return true;
}

bool
conf_domain_key(struct slice domain, char out[CONF_DOMAIN_MAX])
{
	if (domain.n > 0 && domain.p[domain.n - 1] == '.')
		domain.n--;
	if (domain.n == 0 || domain.n >= CONF_DOMAIN_MAX)
		return false;
	if (literal_key(domain, out))
		return true;
	for (size_t i = 0; i < domain.n; i++)
		out[i] = ascii_lower(domain.p[i]);
	out[domain.n] = '\0';
	return true;
}
