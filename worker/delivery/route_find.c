/* route_find.c - asks DNS what a route needs: MX of each spec, then addresses of each name, all at the same time */
#include "worker/delivery/route.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "shm/base/mem.h"
#include "worker/net/loop.h"

enum ask_kind { ASK_MX, ASK_A, ASK_AAAA };

struct ask {
	struct route_search *search;
	struct resolver_query *query;
	enum ask_kind kind;
	unsigned spec; /* ASK_MX: which one */
	unsigned name; /* else: which name */
};

struct route_search {
	struct route_env env;
	bool ipv6, configured;
	route_done *done;
	void *arg;
	unsigned specs_n, names_n, asks_n, waiting;
	struct ev_later later;
	enum dns_status mx;
	bool null_mx;
	unsigned names_max;
	struct route_name *names; /* large: as many as turn out to be needed */
	struct ask *asks;         /* NULL: nothing to ask */
	struct route_spec specs[];
};

static void on_answer(void *arg, const struct dns_answer *a);

static void
ask(struct route_search *s, enum ask_kind kind, unsigned which, const char *name)
{
	struct ask *q = &s->asks[s->asks_n++];
	enum dns_type type = kind == ASK_MX ? DNS_MX : kind == ASK_A ? DNS_A : DNS_AAAA;

	*q = (struct ask){ .search = s, .kind = kind, .spec = which, .name = which };
	s->waiting++;
	q->query = resolver_query(s->env.resolver, name, type, on_answer, q);
}

static void
ask_addresses(struct route_search *s, unsigned which)
{
	struct route_name *n = &s->names[which];

	n->status = DNS_NXDOMAIN;
	ask(s, ASK_A, which, n->name);
	if (s->ipv6)
		ask(s, ASK_AAAA, which, n->name);
}

/* Room for so many names more, as far as a route may have them. */
static void
names_room(struct route_search *s, unsigned more)
{
	unsigned want = s->names_n + more < ROUTE_NAMES_MAX ? s->names_n + more : ROUTE_NAMES_MAX;

	if (want <= s->names_max)
		return;
	s->names = mem_array(s->names, want, sizeof(s->names[0]));
	s->names_max = want;
}

static void
add_host(struct route_search *s, const struct route_spec *spec, bool implicit)
{
	struct route_name *n;

	names_room(s, 1);
	if (s->names_n == s->names_max)
		return;
	n = &s->names[s->names_n];
	*n = (struct route_name){ .spec = spec->preference, .port = spec->port, .implicit = implicit };
	memcpy(n->name, spec->name, sizeof(n->name));
	s->names_n++;
	if (spec->kind == ROUTE_ADDRESS) {
		n->addresses[n->n++] = spec->address;
		n->status = DNS_OK;
	} else {
		ask_addresses(s, s->names_n - 1);
	}
}

/* What is unsure outweighs what is certain: mail waits then. */
static enum dns_status
worse(enum dns_status a, enum dns_status b)
{
	return a > b ? a : b;
}

static void
on_mx(struct route_search *s, const struct route_spec *spec, const struct dns_answer *a)
{
	unsigned from = s->names_n, n;
	bool null_mx = false;

	if (a->status == DNS_NODATA) {
		add_host(s, spec, true);
		return;
	}
	if (a->status != DNS_OK) {
		s->mx = worse(s->mx, a->status);
		return;
	}
	names_room(s, (unsigned)a->n);
	n = route_mx_names(a, &s->names[from], s->names_max - from, &null_mx);
	s->null_mx = s->null_mx || null_mx;
	s->names_n += n;
	for (unsigned i = from; i < from + n; i++) {
		s->names[i].spec = spec->preference;
		s->names[i].port = spec->port;
		ask_addresses(s, i);
	}
}

/* "This host", multicast and broadcast are nobody's mail server; 0.0.0.0 would lead to ourselves, on any port. */
static bool
can_be_host(const struct dns_record *r, enum dns_type type)
{
	uint32_t v4 = ntohl(r->addr.a.s_addr);

	if (type == DNS_A)
		return v4 >> 24 != 0 && v4 >> 28 < 14;
	return !IN6_IS_ADDR_UNSPECIFIED(&r->addr.aaaa) && !IN6_IS_ADDR_MULTICAST(&r->addr.aaaa);
}

static void
add_address(struct route_name *n, const struct dns_record *r, enum dns_type type)
{
	struct sockaddr_storage *ss = &n->addresses[n->n];

	if (!can_be_host(r, type) || n->n == sizeof(n->addresses) / sizeof(n->addresses[0]))
		return;
	memset(ss, 0, sizeof(*ss));
	if (type == DNS_A) {
		struct sockaddr_in *sin = (struct sockaddr_in *)ss;

		sin->sin_family = AF_INET;
		sin->sin_addr = r->addr.a;
		sin->sin_port = htons(n->port);
	} else {
		struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;

		sin6->sin6_family = AF_INET6;
		sin6->sin6_addr = r->addr.aaaa;
		sin6->sin6_port = htons(n->port);
	}
	n->n++;
}

/* IPv4 first, whichever answer came first. */
static int
family_compare(const void *a, const void *b)
{
	const struct sockaddr_storage *x = a, *y = b;

	return (x->ss_family == AF_INET6) - (y->ss_family == AF_INET6);
}

static void
on_addresses(struct route_name *n, const struct dns_answer *a)
{
	for (unsigned i = 0; i < a->n; i++)
		add_address(n, &a->records[i], a->type);
	qsort(n->addresses, n->n, sizeof(n->addresses[0]), family_compare);
	if (n->n > 0)
		n->status = DNS_OK;
	else
		n->status = worse(n->status, a->status);
}

static uint32_t
pick(void *arg, uint32_t below)
{
	(void)arg;
	return arc4random_uniform(below);
}

static bool
is_own(void *arg, const struct sockaddr_storage *address, const char *name)
{
	const struct route_env *env = arg;

	return env->own(env->arg, address, name);
}

static void
search_free(struct route_search *s)
{
	free(s->names);
	free(s->asks);
	free(s);
}

static void
finish(void *arg)
{
	struct route_search *s = arg;
	struct route_facts f = {
		.names = s->names,
		.n = s->names_n,
		.mx = s->mx,
		.null_mx = s->null_mx && s->names_n == 0,
		.configured = s->configured,
		.own = is_own,
		.random = pick,
		.arg = &s->env,
	};
	struct route route;

	route_choose(&f, &route);
	s->done(s->arg, &route);
	search_free(s);
}

static void
on_answer(void *arg, const struct dns_answer *a)
{
	struct ask *q = arg;
	struct route_search *s = q->search;

	q->query = NULL;
	s->waiting--;
	if (q->kind == ASK_MX)
		on_mx(s, &s->specs[q->spec], a);
	else
		on_addresses(&s->names[q->name], a);
	if (s->waiting == 0)
		finish(s);
}

/* Addresses, as a gateway's, need one name each and no question. */
static void
make_room(struct route_search *s)
{
	bool asking = false;

	for (unsigned i = 0; i < s->specs_n; i++)
		asking = asking || s->specs[i].kind != ROUTE_ADDRESS;
	names_room(s, s->specs_n);
	if (asking)
		s->asks = mem_array(NULL, ROUTE_SPECS_MAX + 2 * ROUTE_NAMES_MAX, sizeof(s->asks[0]));
}

/* Everything is asked before the first answer: an answer never comes from within a question. */
struct route_search *
route_find(const struct route_env *env, const struct route_request *r, route_done *done, void *arg)
{
	unsigned specs_n = r->n < ROUTE_SPECS_MAX ? r->n : ROUTE_SPECS_MAX;
	struct route_search *s = mem_zalloc(sizeof(*s) + specs_n * sizeof(s->specs[0]));

	s->env = *env;
	s->ipv6 = r->ipv6;
	s->configured = r->configured;
	s->done = done;
	s->arg = arg;
	s->specs_n = specs_n;
	memcpy(s->specs, r->specs, s->specs_n * sizeof(s->specs[0]));
	make_room(s);
	for (unsigned i = 0; i < s->specs_n; i++) {
		if (s->specs[i].kind == ROUTE_NAME)
			ask(s, ASK_MX, i, s->specs[i].name);
		else
			add_host(s, &s->specs[i], false);
	}
	if (s->waiting == 0)
		loop_later(env->loop, &s->later, finish, s);
	return s;
}

void
route_cancel(struct route_search **sp)
{
	struct route_search *s = *sp;

	if (s == NULL)
		return;
	for (unsigned i = 0; i < s->asks_n; i++)
		resolver_cancel(&s->asks[i].query);
	loop_later_cancel(s->env.loop, &s->later);
	search_free(s);
	*sp = NULL;
}
