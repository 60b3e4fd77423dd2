/* resolver.c - queries, cache and the c-ares channel they go through
 * An entry is one (name, type): waiting (a question is under way, waiters queue at it), answered, or kept. Waiters are
 * told at the end of the turn, so no callback runs inside resolver_query, and c-ares never sees a caller from inside
 * its own callback. */
#include "worker/net/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <bsd/sys/tree.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "worker/net/loop.h"

enum {
	FAILURE_TTL = 5,            /* seconds a failure is believed */
	CHASES_MAX = 8,             /* questions for one entry, when servers leave CNAMEs to us */
	CACHE_BYTES_MAX = 64 << 20, /* whatever the number of entries */
	UDP_SIZE = 1232,            /* EDNS: what passes everywhere unfragmented */
	TICK_MIN_MS = 20,
	TICK_MAX_MS = 250,
};

/* One c-ares channel with its descriptors. Another takes over at a reload; this one ends with its last question. */
struct channel {
	struct resolver *resolver;
	ares_channel ares;
	SLIST_HEAD(, channel_io) ios;
	struct ev_timer tick;
	usec_t tick_every;
	unsigned pending;
	bool retired, serverless;
	TAILQ_ENTRY(channel) link;
};

struct channel_io {
	struct channel *channel;
	struct ev_io io;
	SLIST_ENTRY(channel_io) link;
};

struct resolver_query {
	struct entry *entry;
	resolver_done *done;
	void *arg;
	TAILQ_ENTRY(resolver_query) link;
};

struct entry {
	RB_ENTRY(entry) node;
	TAILQ_ENTRY(entry) lru;
	TAILQ_ENTRY(entry) ready;
	TAILQ_HEAD(, resolver_query) waiters;
	struct resolver *resolver;
	struct channel *channel; /* of the question under way, else NULL */
	struct dns_answer *answer;
	size_t cost;
	usec_t until; /* answer may be used before this (loop time) */
	enum dns_type type;
	uint8_t chases;
	bool queued;  /* on the ready list: its waiters are told this turn */
	bool telling; /* its waiters are being told: the answer must stay */
	char name[];
};

RB_HEAD(entries, entry);

struct resolver {
	struct loop *loop;
	struct resolver_conf conf;
	struct channel *channel;
	TAILQ_HEAD(, channel) channels;
	struct entries entries;
	TAILQ_HEAD(lru, entry) lru; /* oldest use first */
	TAILQ_HEAD(, entry) ready;
	struct ev_later later;
	struct dns_answer *bad; /* what resolver_cached gives for a bad name */
	size_t bytes;
	struct resolver_stats stats;
};

static int
entry_compare(struct entry *a, struct entry *b)
{
	int d = (int)a->type - (int)b->type;

	return d != 0 ? d : strcmp(a->name, b->name);
}

RB_GENERATE_INTERNAL(entries, entry, node, entry_compare, __attribute__((unused)) static)

/* Lower case, without the final dot. Only what c-ares gives back unescaped can be asked for. */
static bool
name_clean(const char *name, char out[DNS_NAME_MAX])
{
	size_t n = strlen(name), label = 0;

	if (n > 0 && name[n - 1] == '.')
		n--;
	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c == '.' ? label == 0 : c <= ' ' || c >= 127 || strchr("\";\\()@$", c) != NULL)
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
		out[i] = ascii_lower((char)c);
	}
	out[n] = '\0';
	return label > 0;
}

/* ---- the channel ---- */

static void channel_collect(struct channel *c);

static void
channel_on_io(struct ev_io *io, uint32_t events, void *arg)
{
	struct channel *c = arg;
	bool in = (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0, out = (events & (EPOLLOUT | EPOLLERR)) != 0;

	ares_process_fd(c->ares, in ? io->fd : ARES_SOCKET_BAD, out ? io->fd : ARES_SOCKET_BAD);
	channel_collect(c);
}

/* c-ares opened, wants other events on, or is about to close fd. */
static void
channel_on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct channel *c = arg;
	struct channel_io *cio, *spare = NULL;
	uint32_t events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0);

	SLIST_FOREACH (cio, &c->ios, link) {
		if (cio->io.armed && cio->io.fd == fd)
			break;
		if (!cio->io.armed)
			spare = cio;
	}
	if (cio != NULL && events == 0) {
		loop_io_del(c->resolver->loop, &cio->io);
	} else if (cio != NULL) {
		loop_io_mod(c->resolver->loop, &cio->io, events);
	} else if (events != 0) {
		if (spare == NULL) {
			spare = mem_zalloc(sizeof(*spare));
			spare->channel = c;
			SLIST_INSERT_HEAD(&c->ios, spare, link);
		}
		loop_io_add(c->resolver->loop, &spare->io, fd, events, channel_on_io, c);
	}
}

static void
channel_on_tick(void *arg)
{
	struct channel *c = arg;

	if (c->pending > 0)
		loop_timer_set(c->resolver->loop, &c->tick, loop_now(c->resolver->loop) + c->tick_every,
			       channel_on_tick, c);
	ares_process_fd(c->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	channel_collect(c);
}

static void
channel_free(struct channel *c)
{
	struct channel_io *cio;

	TAILQ_REMOVE(&c->resolver->channels, c, link);
	ares_destroy(c->ares);
	loop_timer_stop(c->resolver->loop, &c->tick);
	while ((cio = SLIST_FIRST(&c->ios)) != NULL) {
		SLIST_REMOVE_HEAD(&c->ios, link);
		loop_io_del(c->resolver->loop, &cio->io);
		free(cio);
	}
	free(c);
}

/* Never from inside c-ares. */
static void
channel_collect(struct channel *c)
{
	if (c->retired && c->pending == 0)
		channel_free(c);
}

static bool
channel_servers(struct channel *c, const struct resolver_conf *conf)
{
	struct ares_addr_port_node nodes[RESOLVER_SERVERS_MAX] = { 0 };

	for (unsigned i = 0; i < conf->n; i++) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)&conf->servers[i];
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&conf->servers[i];

		nodes[i].next = i + 1 < conf->n ? &nodes[i + 1] : NULL;
		nodes[i].family = conf->servers[i].ss_family;
		if (nodes[i].family == AF_INET) {
			nodes[i].addr.addr4 = v4->sin_addr;
			nodes[i].udp_port = nodes[i].tcp_port = ntohs(v4->sin_port);
		} else {
			memcpy(&nodes[i].addr.addr6, &v6->sin6_addr, sizeof(nodes[i].addr.addr6));
			nodes[i].udp_port = nodes[i].tcp_port = ntohs(v6->sin6_port);
		}
	}
	c->serverless = conf->n == 0;
	return c->serverless || ares_set_servers_ports(c->ares, nodes) == ARES_SUCCESS;
}

static struct channel *
channel_new(struct resolver *r, const struct resolver_conf *conf)
{
	struct channel *c = mem_zalloc(sizeof(*c));
	char nowhere[] = "/nonexistent", lookups[] = "b";
	unsigned tick_ms = conf->timeout_ms / 10;
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
		.timeout = (int)conf->timeout_ms,
		.tries = (int)conf->attempts,
		.lookups = lookups,
		.ednspsz = UDP_SIZE,
		.resolvconf_path = nowhere,
		.sock_state_cb = channel_on_socket,
		.sock_state_cb_data = c,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS |
		   ARES_OPT_EDNSPSZ | ARES_OPT_RESOLVCONF | ARES_OPT_SOCK_STATE_CB | ARES_OPT_NOROTATE;
	int rc = ares_init_options(&c->ares, &o, mask);

	if (rc != ARES_SUCCESS) {
		log_error("resolver", "c-ares: %s", ares_strerror(rc));
		errno = ENOMEM;
		free(c);
		return NULL;
	}
	c->resolver = r;
	SLIST_INIT(&c->ios);
	tick_ms = tick_ms < TICK_MIN_MS ? TICK_MIN_MS : tick_ms > TICK_MAX_MS ? TICK_MAX_MS : tick_ms;
	c->tick_every = tick_ms * USEC_PER_MS;
	TAILQ_INSERT_TAIL(&r->channels, c, link);
	if (!channel_servers(c, conf)) {
		channel_free(c);
		errno = EINVAL;
		return NULL;
	}
	return c;
}

/* ---- the cache ---- */

static bool
entry_fresh(const struct entry *e)
{
	return e->answer != NULL && (e->telling || loop_now(e->resolver->loop) < e->until);
}

static bool
entry_idle(const struct entry *e)
{
	return e->channel == NULL && !e->queued && !e->telling;
}

static struct entry *
entry_find(struct resolver *r, const char *name, enum dns_type type)
{
	union {
		struct entry e;
		char room[sizeof(struct entry) + DNS_NAME_MAX];
	} key;

	key.e.type = type;
	memcpy(key.room + offsetof(struct entry, name), name, strlen(name) + 1);
	return RB_FIND(entries, &r->entries, &key.e);
}

static struct entry *
entry_new(struct resolver *r, const char *name, enum dns_type type)
{
	size_t n = strlen(name) + 1;
	struct entry *e = mem_zalloc(sizeof(*e) + n);

	e->resolver = r;
	e->type = type;
	memcpy(e->name, name, n);
	TAILQ_INIT(&e->waiters);
	RB_INSERT(entries, &r->entries, e);
	TAILQ_INSERT_TAIL(&r->lru, e, lru);
	r->stats.cached++;
	e->cost = sizeof(*e) + n;
	r->bytes += e->cost;
	return e;
}

static void
entry_free(struct entry *e)
{
	struct resolver *r = e->resolver;

	RB_REMOVE(entries, &r->entries, e);
	TAILQ_REMOVE(&r->lru, e, lru);
	r->stats.cached--;
	r->bytes -= e->cost;
	dns_answer_free(&e->answer);
	free(e);
}

static void
entry_used(struct entry *e)
{
	TAILQ_REMOVE(&e->resolver->lru, e, lru);
	TAILQ_INSERT_TAIL(&e->resolver->lru, e, lru);
}

/* Lets the longest unused go until the bounds hold again. */
static void
cache_trim(struct resolver *r)
{
	struct entry *e, *next;

	TAILQ_FOREACH_SAFE (e, &r->lru, lru, next) {
		if (r->stats.cached <= r->conf.cache_max && r->bytes <= CACHE_BYTES_MAX)
			return;
		if (entry_idle(e))
			entry_free(e);
	}
}

/* ---- telling ---- */

static void
entry_tell(struct entry *e)
{
	struct resolver_query *q;

	e->telling = true;
	while (e->channel == NULL && (q = TAILQ_FIRST(&e->waiters)) != NULL) {
		TAILQ_REMOVE(&e->waiters, q, link);
		q->done(q->arg, e->answer);
		free(q);
	}
	e->telling = false;
}

static void
resolver_on_later(void *arg)
{
	struct resolver *r = arg;
	struct entry *e;

	while ((e = TAILQ_FIRST(&r->ready)) != NULL) {
		TAILQ_REMOVE(&r->ready, e, ready);
		e->queued = false;
		entry_tell(e);
	}
	cache_trim(r);
}

static void
entry_ready(struct entry *e)
{
	struct resolver *r = e->resolver;

	if (!e->queued) {
		e->queued = true;
		TAILQ_INSERT_TAIL(&r->ready, e, ready);
	}
	loop_later(r->loop, &r->later, resolver_on_later, r);
}

static uint32_t
answer_ttl(const struct resolver *r, const struct dns_answer *a)
{
	if (a->status == DNS_SERVFAIL || a->status == DNS_TIMEOUT || a->status == DNS_LOOP)
		return FAILURE_TTL;
	if (a->ttl < r->conf.min_ttl)
		return r->conf.min_ttl;
	return a->ttl > r->conf.max_ttl ? r->conf.max_ttl : a->ttl;
}

/* Takes a. */
static void
entry_answer(struct entry *e, struct dns_answer *a)
{
	struct resolver *r = e->resolver;
	size_t cost = sizeof(*e) + strlen(e->name) + 1 + sizeof(*a) + a->n * sizeof(struct dns_record);

	for (unsigned i = 0; i < a->n; i++)
		cost += a->records[i].text.n;
	r->bytes = r->bytes - e->cost + cost;
	e->cost = cost;
	dns_answer_free(&e->answer);
	e->answer = a;
	e->until = loop_now(r->loop) + (usec_t)answer_ttl(r, a) * USEC_PER_SEC;
	r->stats.failures += a->status == DNS_SERVFAIL;
	r->stats.timeouts += a->status == DNS_TIMEOUT;
	entry_ready(e);
}

/* ---- asking ---- */

static void entry_ask(struct entry *e, struct channel *c, const char *name);

static struct dns_answer *
answer_of(const struct entry *e, const char *asked, int status, const unsigned char *wire, int n)
{
	switch (status) {
	case ARES_SUCCESS:
	case ARES_ENODATA:
	case ARES_ENOTFOUND:
		if (wire != NULL && n > 0)
			return dns_answer_parse(wire, (size_t)n, asked, e->type);
		return dns_answer_none(asked, e->type, DNS_SERVFAIL, 0);
	case ARES_EBADNAME:
		return dns_answer_none(asked, e->type, DNS_BADNAME, FAILURE_TTL);
	case ARES_ETIMEOUT:
	case ARES_ECONNREFUSED:
		return dns_answer_none(asked, e->type, DNS_TIMEOUT, 0);
	default:
		return dns_answer_none(asked, e->type, DNS_SERVFAIL, 0);
	}
}

struct question {
	struct entry *entry;
	char name[DNS_NAME_MAX];
};

/* A server left us in the middle of a CNAME chain: ask on, under the same entry. */
static bool
entry_chase(struct entry *e, struct channel *c, struct dns_answer *a)
{
	char next[DNS_NAME_MAX];

	if (!a->partial)
		return false;
	if (e->chases >= CHASES_MAX) {
		a->status = DNS_LOOP;
		return false;
	}
	if (!name_clean(a->canonical, next))
		return false;
	e->chases++;
	dns_answer_free(&a);
	entry_ask(e, c, next);
	return true;
}

static void
channel_on_answer(void *arg, int status, int timeouts, unsigned char *wire, int n)
{
	struct question *q = arg;
	struct entry *e = q->entry;
	struct channel *c = e->channel;
	struct dns_answer *a;

	(void)timeouts;
	c->pending--;
	c->resolver->stats.waiting--;
	if (status != ARES_EDESTRUCTION) {
		a = answer_of(e, q->name, status, wire, n);
		e->channel = NULL;
		if (!entry_chase(e, c, a))
			entry_answer(e, a);
	}
	free(q);
}

static void
entry_ask(struct entry *e, struct channel *c, const char *name)
{
	struct resolver *r = e->resolver;
	struct question *q;

	if (c->serverless) {
		entry_answer(e, dns_answer_none(name, e->type, DNS_TIMEOUT, 0));
		return;
	}
	q = mem_zalloc(sizeof(*q));
	q->entry = e;
	memcpy(q->name, name, strlen(name) + 1);
	e->channel = c;
	c->pending++;
	r->stats.waiting++;
	r->stats.sent++;
	if (!ev_timer_armed(&c->tick))
		loop_timer_set(r->loop, &c->tick, loop_now(r->loop) + c->tick_every, channel_on_tick, c);
	ares_query(c->ares, name, 1, (int)e->type, channel_on_answer, q);
}

struct resolver_query *
resolver_query(struct resolver *r, const char *name, enum dns_type type, resolver_done *done, void *arg)
{
	struct resolver_query *q = mem_zalloc(sizeof(*q));
	char clean[DNS_NAME_MAX];
	bool good = name_clean(name, clean);
	struct entry *e;

	r->stats.asked++;
	if (!good)
		clean[0] = '\0';
	e = entry_find(r, clean, type);
	if (e == NULL)
		e = entry_new(r, clean, type);
	*q = (struct resolver_query){ .entry = e, .done = done, .arg = arg };
	TAILQ_INSERT_TAIL(&e->waiters, q, link);
	entry_used(e);
	if (e->channel != NULL)
		return q;
	if (!good && e->answer == NULL) {
		entry_answer(e, dns_answer_none(clean, type, DNS_BADNAME, UINT32_MAX));
	} else if (entry_fresh(e)) {
		r->stats.hits++;
		entry_ready(e);
	} else {
		e->chases = 0;
		entry_ask(e, r->channel, clean);
	}
	return q;
}

void
resolver_cancel(struct resolver_query **q)
{
	if (*q != NULL) {
		TAILQ_REMOVE(&(*q)->entry->waiters, *q, link);
		free(*q);
		*q = NULL;
	}
}

const struct dns_answer *
resolver_cached(struct resolver *r, const char *name, enum dns_type type)
{
	char clean[DNS_NAME_MAX];
	struct entry *e;

	if (!name_clean(name, clean))
		return r->bad;
	e = entry_find(r, clean, type);
	if (e == NULL || !entry_fresh(e) || e->channel != NULL)
		return NULL;
	entry_used(e);
	r->stats.asked++;
	r->stats.hits++;
	return e->answer;
}

/* ---- life ---- */

struct resolver *
resolver_new(struct loop *loop, const struct resolver_conf *conf)
{
	struct resolver *r = mem_zalloc(sizeof(*r));

	r->loop = loop;
	r->conf = *conf;
	RB_INIT(&r->entries);
	TAILQ_INIT(&r->lru);
	TAILQ_INIT(&r->ready);
	TAILQ_INIT(&r->channels);
	r->channel = channel_new(r, conf);
	if (r->channel == NULL) {
		free(r);
		return NULL;
	}
	r->bad = dns_answer_none("", DNS_A, DNS_BADNAME, UINT32_MAX);
	return r;
}

enum err
resolver_set_servers(struct resolver *r, const struct resolver_conf *conf)
{
	struct channel *c = channel_new(r, conf), *old = r->channel;

	if (c == NULL)
		return ERR_IO;
	r->conf = *conf;
	r->channel = c;
	old->retired = true;
	channel_collect(old);
	return OK;
}

void
resolver_free(struct resolver **rp)
{
	struct resolver *r = *rp;
	struct channel *c, *next;
	struct entry *e;
	struct resolver_query *q;

	if (r == NULL)
		return;
	TAILQ_FOREACH_SAFE (c, &r->channels, link, next)
		channel_free(c);
	loop_later_cancel(r->loop, &r->later);
	while ((e = TAILQ_FIRST(&r->lru)) != NULL) {
		while ((q = TAILQ_FIRST(&e->waiters)) != NULL) {
			TAILQ_REMOVE(&e->waiters, q, link);
			free(q);
		}
		entry_free(e);
	}
	dns_answer_free(&r->bad);
	free(r);
	*rp = NULL;
}

void
resolver_stats(const struct resolver *r, struct resolver_stats *out)
{
	*out = r->stats;
}

/* ---- words ---- */

bool
resolver_ptr_name(const struct sockaddr *addr, char *out)
{
	if (addr->sa_family == AF_INET) {
		const unsigned char *b = (const unsigned char *)&((const struct sockaddr_in *)addr)->sin_addr;

		snprintf(out, DNS_NAME_MAX, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1], b[0]);
		return true;
	}
	if (addr->sa_family != AF_INET6)
		return false;
	const unsigned char *b = ((const struct sockaddr_in6 *)addr)->sin6_addr.s6_addr;
	char *at = out;

	for (int i = 15; i >= 0; i--)
		at += snprintf(at, 5, "%x.%x.", b[i] & 0xfu, b[i] >> 4u);
	memcpy(at, "ip6.arpa", sizeof("ip6.arpa"));
	return true;
}

const char *
dns_status_text(enum dns_status s)
{
	static const char *const texts[] = {
		[DNS_OK] = "ok",
		[DNS_NXDOMAIN] = "no such name",
		[DNS_NODATA] = "no such record",
		[DNS_BADNAME] = "not a domain name",
		[DNS_LOOP] = "aliases without end",
		[DNS_SERVFAIL] = "server failure",
		[DNS_TIMEOUT] = "no answer",
	};

	return texts[s];
}

bool
dns_type_parse(struct slice text, enum dns_type *out)
{
	static const struct {
		struct slice name;
		enum dns_type type;
	} types[] = {
		{ { "A", 1 }, DNS_A },     { { "AAAA", 4 }, DNS_AAAA }, { { "MX", 2 }, DNS_MX },
		{ { "TXT", 3 }, DNS_TXT }, { { "PTR", 3 }, DNS_PTR },   { { "CNAME", 5 }, DNS_CNAME },
		{ { "NS", 2 }, DNS_NS },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (slice_ieq(text, types[i].name)) {
			*out = types[i].type;
			return true;
		}
	}
	return false;
}
