/* resolver.h - DNS for one worker: queries, a cache with time to live, one home for c-ares
 * A query goes out once however many ask for it at the same time (coalescing); every answer, also "there is none", is
 * kept as long as its TTL says, failures for a few seconds so that a dead server is not hammered. Only DNS is asked: no
 * hosts file, no nsswitch. The servers are those of the resolver file, whose text was read before the chroot.
 * Answers are not judged here: what NXDOMAIN means for mail is the router's business.
 * Owner: the worker. Thread: loop. Nothing here is trusted to be well formed: names and records are bounded and
 * checked before anyone sees them. */
#ifndef WORKER_NET_RESOLVER_H
#define WORKER_NET_RESOLVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

struct loop;
struct resolver;
struct resolver_query;

/* The numbers are DNS's own. */
enum dns_type {
	DNS_A = 1,
	DNS_NS = 2,
	DNS_CNAME = 5,
	DNS_PTR = 12,
	DNS_MX = 15,
	DNS_TXT = 16,
	DNS_AAAA = 28,
};

enum dns_status {
	DNS_OK,       /* n > 0 records of the type asked for */
	DNS_NXDOMAIN, /* the name (or the end of its CNAME chain) does not exist */
	DNS_NODATA,   /* the name exists, without records of this type */
	DNS_BADNAME,  /* what was asked for is no domain name: asked of nobody */
	DNS_LOOP,     /* the CNAMEs lead nowhere or in a circle */
	DNS_SERVFAIL, /* servers answered, but with a failure or with nonsense */
	DNS_TIMEOUT,  /* no server answered, or none is configured */
};

enum {
	DNS_NAME_MAX = 256,    /* with NUL; presentation form */
	DNS_RECORDS_MAX = 256, /* of one answer; what goes beyond is left out */
	RESOLVER_SERVERS_MAX = 8,
};

struct dns_record {
	uint32_t ttl;        /* seconds, as received */
	uint16_t preference; /* MX only */
	union {
		struct in_addr a;
		struct in6_addr aaaa;
	} addr;
	/* MX, PTR, NS, CNAME: the name, without its last dot ("" is the root: a null MX); TXT: the strings joined.
	 * With a NUL behind it, which is not counted. Empty for A, AAAA. */
	struct slice text;
};

struct dns_answer {
	enum dns_status status;
	enum dns_type type;
	uint32_t ttl;          /* seconds this answer may be kept: the smallest of the chain, or the negative TTL */
	const char *name;      /* asked for, lower case */
	const char *canonical; /* where the CNAMEs ended; name when there was none */
	bool partial; /* DNS_NODATA because the server did not follow the CNAME: canonical is to be asked for */
	uint16_t n;
	const struct dns_record *records;
};

/* What a resolver file says. Understood: "nameserver ADDRESS", "nameserver [ADDRESS]:PORT", "nameserver ADDRESS:PORT"
 * (IPv4), "options timeout:N attempts:N ndots:N use-vc rotate ..."; everything else in it is passed over. */
struct resolver_conf {
	struct sockaddr_storage servers[RESOLVER_SERVERS_MAX];
	unsigned n;
	unsigned timeout_ms; /* a try; default 5000 */
	unsigned attempts;   /* tries a server; default 2 */
	uint32_t min_ttl;    /* seconds; min_dns_ttl */
	uint32_t max_ttl;    /* seconds; max_dns_ttl */
	unsigned cache_max;  /* entries */
};

/* Pure. Fills *out with defaults and what the text says; lines it cannot read are passed over, their number is the
 * result. No nameserver line: n = 0, and every query ends in DNS_TIMEOUT at once. */
unsigned resolver_conf_parse(struct slice text, struct resolver_conf *out);

/* Copies conf. ERR_IO through NULL with errno set when c-ares or a descriptor refuses. */
struct resolver *resolver_new(struct loop *loop, const struct resolver_conf *conf);
/* Other servers from now on (reload); queries under way are answered by the old. The cache stays. */
enum err resolver_set_servers(struct resolver *r, const struct resolver_conf *conf);
/* Ends all: waiting callbacks are not called any more. NULL inside is fine. */
void resolver_free(struct resolver **r);

/* Called once, on the loop, never before resolver_query has returned. answer and all it points to hold until the
 * callback returns. The query is over then: its handle must not be used again. */
typedef void resolver_done(void *arg, const struct dns_answer *answer);

/* Asks for name (a final dot is fine) and type. Never NULL: what cannot be asked is answered too. */
struct resolver_query *resolver_query(struct resolver *r, const char *name, enum dns_type type, resolver_done *done,
				      void *arg);
/* The callback is not called. Clears the caller's pointer; NULL inside is fine. */
void resolver_cancel(struct resolver_query **q);

/* The answer if the cache has it now, else NULL. Holds until the next call into the resolver or the next loop turn. */
const struct dns_answer *resolver_cached(struct resolver *r, const char *name, enum dns_type type);

/* The name that asks for the PTR of an address; out has room for DNS_NAME_MAX. False for other families. */
bool resolver_ptr_name(const struct sockaddr *addr, char *out);

const char *dns_status_text(enum dns_status s);
/* "MX" and so on; false for a type that is not served here. Any case. */
bool dns_type_parse(struct slice text, enum dns_type *out);

struct resolver_stats {
	uint64_t asked;    /* queries of ours, cached or not */
	uint64_t hits;     /* answered from the cache */
	uint64_t sent;     /* questions handed to c-ares */
	uint64_t timeouts; /* that ended in DNS_TIMEOUT */
	uint64_t failures; /* that ended in DNS_SERVFAIL */
	uint32_t cached;   /* entries now */
	uint32_t waiting;  /* questions under way */
};
void resolver_stats(const struct resolver *r, struct resolver_stats *out);

/* One DNS reply in wire form made an answer (type and lower-case name as asked). Pure; gives a heap answer, freed by
 * dns_answer_free. For the resolver itself, its tests and fuzzers. Never NULL: nonsense is DNS_SERVFAIL. */
struct dns_answer *dns_answer_parse(const unsigned char *wire, size_t n, const char *name, enum dns_type type);
/* An answer without records. */
struct dns_answer *dns_answer_none(const char *name, enum dns_type type, enum dns_status status, uint32_t ttl);
void dns_answer_free(struct dns_answer **a);

#endif
