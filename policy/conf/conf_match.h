/* conf_match.h - networks, domain globs and expressions, ready to be asked (inside policy/conf only) */
#ifndef POLICY_CONF_CONF_MATCH_H
#define POLICY_CONF_CONF_MATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shm/base/arena.h"
#include "shm/base/bytes.h"

/* An address as bytes: 4 of IPv4 (also when it came mapped into IPv6), 16 of IPv6. */
struct conf_addr {
	uint8_t bytes[16];
	unsigned len;
};

/* False for other families. A Unix socket is answered as 127.0.0.1; conf_net_has_peer knows of ::1. */
bool conf_addr_of(const struct sockaddr *sa, struct conf_addr *out);
bool conf_addr_parse(const char *text, struct conf_addr *out);

struct conf_net {
	struct conf_addr addr; /* host bits are 0 */
	unsigned bits;
};

/* "192.0.2.0/24", "2001:db8::/32", or an address alone. Host bits may be set. */
bool conf_net_parse(const char *text, struct conf_net *out);
bool conf_net_has(const struct conf_net *net, const struct conf_addr *a);
/* The client of a connection; one at a Unix socket is at both loopback addresses. */
bool conf_net_has_peer(const struct conf_net *net, const struct sockaddr *sa);
/* The one spelling of it, with its length. */
const char *conf_net_text(struct arena *arena, const struct conf_net *net);

/* A list of domains: names, "*.below" and "*ending". */
struct conf_domains;

struct conf_domains *conf_domains_new(struct arena *arena, const char *const *v, size_t n);
bool conf_domains_has(const struct conf_domains *d, struct slice domain);
/* NULL, or what is wrong with that item. */
const char *conf_domains_check(const char *item);

/* The one spelling of a domain: lower case, no dot at its end, an IPv4 literal without brackets, an IPv6 literal as
 * "[ipv6:ADDRESS]". False when it is empty or longer than any domain. */
enum { CONF_DOMAIN_MAX = 256 };
bool conf_domain_key(struct slice domain, char out[CONF_DOMAIN_MAX]);

/* A Perl-compatible expression, case-insensitive, unanchored, with bounded effort: what would take too long does not
 * match. Lives as long as the arena. */
struct conf_regex;

/* NULL and *why (in the arena) when it is none. */
struct conf_regex *conf_regex_new(struct arena *arena, const char *pattern, const char **why);
bool conf_regex_has(const struct conf_regex *re, const char *subject);

#endif
