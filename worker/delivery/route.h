/* route.h - where mail for a domain goes: next hops in the order in which they are to be tried
 * Two halves. The pure one (route_spec_parse, route_choose) turns what the configuration and DNS say into a list of
 * hosts; it does no I/O and is tested by tables. The other (route_find) asks the resolver for what is needed and calls
 * the first. Nothing is kept here: the resolver has the cache, and a route is computed for every connection, so a
 * corrected configuration or zone corrects queued mail.
 * RFC 5321 section 5.1 (preference, equals in random order, no MX: the address itself), RFC 7505 (null MX). A host that
 * is one of our own listeners is a loop: it and all that are not better are left out, and if none is left the mail is
 * refused. What DNS does not know for certain (no answer, failure) is "later", never "no".
 * Thread: loop. */
#ifndef WORKER_DELIVERY_ROUTE_H
#define WORKER_DELIVERY_ROUTE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"
#include "worker/net/resolver.h"

enum {
	ROUTE_HOSTS_MAX = 64, /* addresses of a route */
	ROUTE_NAMES_MAX = 32, /* host names looked at for one route */
	ROUTE_SPECS_MAX = 16, /* entries of `routes` */
};

/* One entry of `routes`, or `gateway`, or the domain itself. */
enum route_kind {
	ROUTE_DOMAIN,  /* __mx__: what DNS says of the recipient's domain */
	ROUTE_NAME,    /* a host: as MX, then as address */
	ROUTE_HOST,    /* a host: its addresses only */
	ROUTE_ADDRESS, /* an address: nothing to look up */
};

struct route_spec {
	enum route_kind kind;
	char name[DNS_NAME_MAX];         /* ASCII, lower case; the address as text for ROUTE_ADDRESS */
	struct sockaddr_storage address; /* ROUTE_ADDRESS, port set */
	uint32_t preference;             /* lower first; those of `routes` count before MX preferences */
	uint16_t port;
};

/* "host", "1.2.3.4", "[::1]", "[IPv6:::1]", "__mx__", "smtp://HOST?pref=N&port=N&ttl=N&type=mx|a". port and preference
 * are what holds when the text does not say. ERR_SYNTAX. Pure. */
enum err route_spec_parse(struct slice text, uint16_t port, uint32_t preference, struct route_spec *out);
/* The spec for a recipient's domain: a name (UTF-8 made ASCII by punycode) or an address literal. ERR_SYNTAX. Pure. */
enum err route_spec_domain(struct slice domain, uint16_t port, struct route_spec *out);

/* A domain in DNS's spelling: labels with 8-bit bytes as xn--. ERR_SYNTAX; ERR_RANGE when too long. Pure. */
enum err route_ascii(struct slice domain, char out[DNS_NAME_MAX]);

/* What DNS said of one host name. */
struct route_name {
	char name[DNS_NAME_MAX];
	uint32_t spec;       /* preference of the spec it comes from */
	uint32_t preference; /* MX */
	uint16_t port;
	bool implicit;          /* the domain itself, for want of an MX */
	enum dns_status status; /* DNS_OK: addresses; the worse of A's and AAAA's otherwise */
	unsigned n;
	struct sockaddr_storage addresses[8]; /* ports set; IPv4 first unless asked otherwise */
};

enum route_status {
	ROUTE_FOUND, /* hosts */
	ROUTE_LATER, /* text is a 4xx */
	ROUTE_NEVER, /* text is a 5xx */
};

struct route_hop {
	struct sockaddr_storage address;
	const char *name; /* for logs and notices */
};

struct route {
	enum route_status status;
	const char *text; /* the reply that stands for it; "" when found */
	unsigned n;
	struct route_hop hops[ROUTE_HOSTS_MAX];
	char names[ROUTE_NAMES_MAX][DNS_NAME_MAX]; /* where hops' names are */
};

/* All that is known when every answer is there. */
struct route_facts {
	const struct route_name *names;
	unsigned n;
	enum dns_status mx; /* worst news of the MX questions: DNS_OK, or why there are too few names */
	bool null_mx;       /* and nothing else */
	bool configured;    /* next hops are the operator's: a name that does not exist is his slip, and mail waits */
	/* Is this address (with its port), or host of that name, ourselves? */
	bool (*own)(void *arg, const struct sockaddr_storage *address, const char *name);
	uint32_t (*random)(void *arg, uint32_t below);
	void *arg;
};

/* Pure but for the callbacks. */
void route_choose(const struct route_facts *f, struct route *out);

/* Sorts MX records for route_facts: drops what is no host name; says whether it is a null MX. Gives the number of
 * records put in names (name, preference), lowest preferences first when there are more than max. Pure. */
unsigned route_mx_names(const struct dns_answer *mx, struct route_name *names, unsigned max, bool *null_mx);

/* ---- with the resolver ---- */

struct route_env {
	struct loop *loop;
	struct resolver *resolver;
	bool (*own)(void *arg, const struct sockaddr_storage *address, const char *name);
	void *arg;
};

struct route_request {
	const struct route_spec *specs; /* copied; a ROUTE_DOMAIN has become a name by route_spec_domain */
	unsigned n;
	bool ipv6;       /* use_ipv6: AAAA too */
	bool configured; /* specs are from gateway or routes */
};

struct loop;
struct route_search;

/* route holds during the call. The search is over then. */
typedef void route_done(void *arg, const struct route *route);

/* Answers on the loop, never before returning. env is copied. */
struct route_search *route_find(const struct route_env *env, const struct route_request *r, route_done *done,
				void *arg);
/* done will not be called. Clears the pointer; NULL inside is fine. */
void route_cancel(struct route_search **s);

#endif
