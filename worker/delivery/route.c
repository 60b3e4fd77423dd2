/* route.c - the pure half of routing: specs, the choice among hosts, names in DNS's spelling */
#include "worker/delivery/route.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/format/addr.h"

#define TEXT_NXDOMAIN "554 5.4.4 [internal] Domain Lookup Failed"
#define TEXT_NODATA   "554 5.4.4 [internal] no MX or A for domain"
#define TEXT_NULL_MX  "550 5.4.4 [internal] NULL MX domain does not accept mail"
#define TEXT_LOOP     "554 5.4.6 [internal] mail loop detected"
#define TEXT_DNS      "451 4.4.3 [internal] Domain Lookup Failed: try again later"
#define TEXT_NO_HOSTS "451 4.4.1 [internal] No valid hosts"

static void
set_port(struct sockaddr_storage *a, uint16_t port)
{
	if (a->ss_family == AF_INET6)
		((struct sockaddr_in6 *)a)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)a)->sin_port = htons(port);
}

/* An address, bare (IPv4) or in brackets. */
static bool
parse_address(struct slice text, struct sockaddr_storage *out)
{
	char v4[INET_ADDRSTRLEN];
	struct sockaddr_in *sin = (struct sockaddr_in *)out;

	if (text.n > 2 && text.p[0] == '[')
		return domain_literal(text, out);
	if (text.n >= sizeof(v4))
		return false;
	memcpy(v4, text.p, text.n);
	v4[text.n] = '\0';
	memset(out, 0, sizeof(*out));
	sin->sin_family = AF_INET;
	return inet_pton(AF_INET, v4, &sin->sin_addr) == 1;
}

static enum err
spec_host(struct slice host, struct route_spec *out)
{
	if (host.n == 0 || host.n >= DNS_NAME_MAX)
		return ERR_SYNTAX;
	if (parse_address(host, &out->address)) {
		out->kind = ROUTE_ADDRESS;
		set_port(&out->address, out->port);
		memcpy(out->name, host.p, host.n);
		out->name[host.n] = '\0';
		return OK;
	}
	if (host.p[0] == '[')
		return ERR_SYNTAX;
	return route_ascii(host, out->name);
}

/* One "key=value" of a routes URL. ttl is read and forgotten: the resolver keeps what DNS says. */
static enum err
spec_parameter(struct slice pair, struct route_spec *out)
{
	size_t eq = slice_find(pair, '=');
	struct slice key = slice_of(pair.p, eq), value;
	uint64_t v;

	if (eq == pair.n)
		return ERR_SYNTAX;
	value = slice_of(pair.p + eq + 1, pair.n - eq - 1);
	if (slice_ieq(key, SLICE("type"))) {
		if (!slice_ieq(value, SLICE("mx")) && !slice_ieq(value, SLICE("a")))
			return ERR_SYNTAX;
		out->kind = slice_ieq(value, SLICE("a")) ? ROUTE_HOST : ROUTE_NAME;
		return OK;
	}
	if (slice_ieq(key, SLICE("port"))) {
		if (!slice_u64(value, 65535, &v) || v == 0)
			return ERR_SYNTAX;
		out->port = (uint16_t)v;
		return OK;
	}
	if (slice_ieq(key, SLICE("pref"))) {
		if (!slice_u64(value, UINT32_MAX, &v))
			return ERR_SYNTAX;
		out->preference = (uint32_t)v;
		return OK;
	}
	return slice_ieq(key, SLICE("ttl")) && slice_u64(value, UINT32_MAX, &v) ? OK : ERR_SYNTAX;
}

enum err
route_spec_parse(struct slice text, uint16_t port, uint32_t preference, struct route_spec *out)
{
	struct slice host = text, rest = { 0 };
	size_t at;

	*out = (struct route_spec){ .kind = ROUTE_NAME, .port = port, .preference = preference };
	if (slice_istarts(text, SLICE("smtp://"))) {
		host = slice_of(text.p + 7, text.n - 7);
		at = slice_find(host, '?');
		if (at < host.n)
			rest = slice_of(host.p + at + 1, host.n - at - 1);
		host.n = at;
	}
	while (rest.n > 0) {
		at = slice_find(rest, '&');
		if (spec_parameter(slice_of(rest.p, at), out) != OK)
			return ERR_SYNTAX;
		if (at < rest.n)
			at++;
		rest = slice_of(rest.p + at, rest.n - at);
	}
	if (slice_ieq(host, SLICE("__mx__"))) {
		out->kind = ROUTE_DOMAIN;
		return OK;
	}
	return spec_host(host, out);
}

enum err
route_spec_domain(struct slice domain, uint16_t port, struct route_spec *out)
{
	*out = (struct route_spec){ .kind = ROUTE_NAME, .port = port };
	return spec_host(domain, out);
}

/* ---- choosing ---- */

/* By spec, then MX preference. */
static int
name_compare(const void *a, const void *b)
{
	const struct route_name *x = *(const struct route_name *const *)a, *y = *(const struct route_name *const *)b;

	if (x->spec != y->spec)
		return x->spec < y->spec ? -1 : 1;
	return x->preference < y->preference ? -1 : x->preference > y->preference;
}

static void
shuffle_equals(const struct route_facts *f, const struct route_name **order)
{
	for (unsigned from = 0, to; from < f->n; from = to) {
		for (to = from + 1; to < f->n && name_compare(&order[from], &order[to]) == 0;)
			to++;
		for (unsigned i = to - from; i > 1; i--) {
			unsigned j = f->random(f->arg, i);
			const struct route_name *tmp = order[from + i - 1];

			order[from + i - 1] = order[from + j];
			order[from + j] = tmp;
		}
	}
}

static bool
name_is_own(const struct route_facts *f, const struct route_name *n)
{
	for (unsigned i = 0; i < n->n; i++) {
		if (f->own(f->arg, &n->addresses[i], n->name))
			return true;
	}
	return false;
}

/* How many of the ordered names are better than ourselves: RFC 5321 section 5.1. */
static unsigned
better_than_own(const struct route_facts *f, const struct route_name **order, bool *own)
{
	for (unsigned i = 0; i < f->n; i++) {
		if (!name_is_own(f, order[i]))
			continue;
		*own = true;
		while (i > 0 && name_compare(&order[i - 1], &order[i]) == 0)
			i--;
		return i;
	}
	return f->n;
}

static void
add_hops(const struct route_name *n, unsigned slot, struct route *out)
{
	memcpy(out->names[slot], n->name, sizeof(n->name));
	for (unsigned i = 0; i < n->n && out->n < ROUTE_HOSTS_MAX; i++)
		out->hops[out->n++] = (struct route_hop){ n->addresses[i], out->names[slot] };
}

static void
settle(struct route *out, enum route_status status, const char *text)
{
	out->status = status;
	out->text = text;
}

/* A host that DNS may know more of tomorrow: no answer, or an MX without an address that we use (perhaps only IPv6). */
static bool
name_unsure(const struct route_name *n)
{
	return n->status == DNS_NODATA ? !n->implicit : n->status != DNS_NXDOMAIN && n->status != DNS_BADNAME;
}

/* Nothing to connect to among the first `usable`: for certain, or only for now? Behind them come we ourselves, if own.
 */
static void
explain(const struct route_facts *f, const struct route_name **order, unsigned usable, bool own, struct route *out)
{
	bool mx_sure = f->mx == DNS_OK || f->mx == DNS_NXDOMAIN || f->mx == DNS_BADNAME;
	bool unsure = false, exists = false;

	for (unsigned i = 0; i < usable; i++) {
		unsure = unsure || name_unsure(order[i]);
		exists = exists || order[i]->status == DNS_NODATA;
	}
	if (f->null_mx)
		settle(out, ROUTE_NEVER, TEXT_NULL_MX);
	else if (!mx_sure)
		settle(out, ROUTE_LATER, TEXT_DNS);
	else if (unsure)
		settle(out, ROUTE_LATER, TEXT_NO_HOSTS);
	else if (own)
		settle(out, ROUTE_NEVER, TEXT_LOOP);
	else if (f->configured)
		settle(out, ROUTE_LATER, TEXT_NO_HOSTS);
	else
		settle(out, ROUTE_NEVER, exists ? TEXT_NODATA : TEXT_NXDOMAIN);
}

void
route_choose(const struct route_facts *f, struct route *out)
{
	const struct route_name *order[ROUTE_NAMES_MAX];
	bool own = false;
	unsigned usable;

	out->n = 0;
	settle(out, ROUTE_FOUND, "");
	for (unsigned i = 0; i < f->n; i++)
		order[i] = &f->names[i];
	qsort(order, f->n, sizeof(order[0]), name_compare);
	shuffle_equals(f, order);
	usable = better_than_own(f, order, &own);
	for (unsigned i = 0; i < usable; i++)
		add_hops(order[i], i, out);
	if (out->n == 0)
		explain(f, order, usable, own, out);
}

static int
mx_compare(const void *a, const void *b)
{
	const struct dns_record *x = *(const struct dns_record *const *)a, *y = *(const struct dns_record *const *)b;

	return x->preference < y->preference ? -1 : x->preference > y->preference;
}

unsigned
route_mx_names(const struct dns_answer *mx, struct route_name *names, unsigned max, bool *null_mx)
{
	const struct dns_record *order[DNS_RECORDS_MAX];
	unsigned n = 0, kept = 0;

	*null_mx = mx->n > 0;
	for (unsigned i = 0; i < mx->n; i++) {
		if (mx->records[i].text.n == 0)
			continue;
		*null_mx = false;
		order[n++] = &mx->records[i];
	}
	qsort(order, n, sizeof(order[0]), mx_compare);
	for (unsigned i = 0; i < n && kept < max; i++) {
		struct route_name *name = &names[kept];

		if (order[i]->text.n >= DNS_NAME_MAX)
			continue;
		*name = (struct route_name){ .preference = order[i]->preference };
		memcpy(name->name, order[i]->text.p, order[i]->text.n + 1);
		kept++;
	}
	return kept;
}
