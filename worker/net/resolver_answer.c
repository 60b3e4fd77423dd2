/* resolver_answer.c - a DNS reply in wire form made an answer
 * c-ares reads names (compression pointers, bounds, loops); the records around them are walked here, because its own
 * parsers leave out what we need: TTLs of MX and TXT, the CNAME chain, the negative TTL. Anything that does not add up
 * is DNS_SERVFAIL: a reply is believed whole or not at all. */
#include "worker/net/resolver.h"

#include <ares.h>
#include <stdlib.h>

#include "shm/base/mem.h"

enum { FLAG_TRUNCATED = 0x02 };

enum {
	HEADER_SIZE = 12,
	CHAIN_MAX = 16,      /* CNAMEs followed in one reply */
	TEXTS_MAX = 1 << 17, /* bytes of all texts of one answer */
	TYPE_SOA = 6,
	CLASS_IN = 1,
	RCODE_NXDOMAIN = 3,
	NEGATIVE_TTL = 60,       /* without a SOA that says better */
	NEGATIVE_TTL_MAX = 3600, /* RFC 2308 suggests hours at most */
};

struct wire {
	const unsigned char *p;
	size_t n;
	size_t at;
};

struct rr {
	char *owner; /* c-ares' memory */
	unsigned type, class;
	uint32_t ttl;
	size_t data, len; /* offset and length of its rdata */
};

struct found {
	struct dns_record records[DNS_RECORDS_MAX];
	uint16_t n;
	struct bytes texts;
	uint32_t ttl;
};

static unsigned
wire_u16(const struct wire *w, size_t at)
{
	return (unsigned)w->p[at] << 8 | w->p[at + 1];
}

static uint32_t
wire_u32(const struct wire *w, size_t at)
{
	return (uint32_t)wire_u16(w, at) << 16 | wire_u16(w, at + 2);
}

/* The name at `at` in lower case, and where it ends. NULL when it is none. Freed by ares_free_string. */
static char *
wire_name(const struct wire *w, size_t at, size_t *end)
{
	char *name;
	long len;

	if (at >= w->n || ares_expand_name(w->p + at, w->p, (int)w->n, &name, &len) != ARES_SUCCESS)
		return NULL;
	if (strlen(name) >= DNS_NAME_MAX) {
		ares_free_string(name);
		return NULL;
	}
	for (char *c = name; *c != '\0'; c++)
		*c = ascii_lower(*c);
	*end = at + (size_t)len;
	return name;
}

static bool
wire_rr(struct wire *w, struct rr *rr)
{
	size_t at;

	rr->owner = wire_name(w, w->at, &at);
	if (rr->owner == NULL)
		return false;
	if (w->n - at < 10 || w->n - at - 10 < wire_u16(w, at + 8)) {
		ares_free_string(rr->owner);
		return false;
	}
	rr->type = wire_u16(w, at);
	rr->class = wire_u16(w, at + 2);
	rr->ttl = wire_u32(w, at + 4);
	if (rr->ttl > INT32_MAX) /* RFC 2181 section 8 */
		rr->ttl = 0;
	rr->len = wire_u16(w, at + 8);
	rr->data = at + 10;
	w->at = rr->data + rr->len;
	return true;
}

/* Calls fn for each of `count` records from w->at on; false when one cannot be read. fn says whether to go on. */
static bool
wire_each(struct wire *w, unsigned count, bool (*fn)(void *arg, const struct wire *w, const struct rr *rr), void *arg)
{
	for (unsigned i = 0; i < count; i++) {
		struct rr rr;

		if (!wire_rr(w, &rr))
			return false;
		bool go = fn(arg, w, &rr);

		ares_free_string(rr.owner);
		if (!go)
			break;
	}
	return true;
}

struct chase {
	char at[DNS_NAME_MAX];
	bool moved, broken;
	uint32_t ttl;
};

static bool
chase_step(void *arg, const struct wire *w, const struct rr *rr)
{
	struct chase *c = arg;
	size_t end;
	char *target;

	if (rr->type != DNS_CNAME || rr->class != CLASS_IN || strcmp(rr->owner, c->at) != 0)
		return true;
	target = wire_name(w, rr->data, &end);
	if (target == NULL) {
		c->broken = true;
		return false;
	}
	memcpy(c->at, target, strlen(target) + 1);
	ares_free_string(target);
	c->moved = true;
	if (rr->ttl < c->ttl)
		c->ttl = rr->ttl;
	return false;
}

/* Follows the CNAMEs of the answer section from c->at. */
static enum dns_status
chase(const struct wire *w, unsigned count, struct chase *c)
{
	for (unsigned steps = 0; steps <= CHAIN_MAX; steps++) {
		struct wire from = *w;

		c->moved = false;
		if (!wire_each(&from, count, chase_step, c) || c->broken)
			return DNS_SERVFAIL;
		if (!c->moved)
			return DNS_OK;
	}
	return DNS_LOOP;
}

struct gather {
	const char *owner;
	enum dns_type type;
	struct found *found;
	bool broken;
};

/* Texts are kept as offsets until the block has its final place. */
static void
keep_text(struct gather *g, struct dns_record *r, const void *p, size_t n)
{
	r->text = (struct slice){ (const char *)(uintptr_t)g->found->texts.n, n };
	bytes_add(&g->found->texts, p, n);
	bytes_add_char(&g->found->texts, '\0');
}

static bool
keep_name(struct gather *g, struct dns_record *r, const struct wire *w, size_t at, const struct rr *rr)
{
	size_t end;
	char *name = wire_name(w, at, &end);
	bool fits = name != NULL && end == rr->data + rr->len;

	if (fits)
		keep_text(g, r, name, strlen(name));
	if (name != NULL)
		ares_free_string(name);
	return fits;
}

static bool
keep_strings(struct gather *g, struct dns_record *r, const struct wire *w, const struct rr *rr)
{
	struct bytes joined = { 0 };
	size_t at = rr->data, end = rr->data + rr->len;

	while (at < end && w->p[at] <= end - at - 1) {
		bytes_add(&joined, w->p + at + 1, w->p[at]);
		at += 1u + w->p[at];
	}
	if (at == end)
		keep_text(g, r, joined.p, joined.n);
	bytes_fini(&joined);
	return at == end;
}

static bool
keep_data(struct gather *g, struct dns_record *r, const struct wire *w, const struct rr *rr)
{
	switch (g->type) {
	case DNS_A:
		if (rr->len == 4)
			memcpy(&r->addr.a, w->p + rr->data, 4);
		return rr->len == 4;
	case DNS_AAAA:
		if (rr->len == 16)
			memcpy(&r->addr.aaaa, w->p + rr->data, 16);
		return rr->len == 16;
	case DNS_MX:
		if (rr->len < 3)
			return false;
		r->preference = (uint16_t)wire_u16(w, rr->data);
		return keep_name(g, r, w, rr->data + 2, rr);
	case DNS_TXT:
		return keep_strings(g, r, w, rr);
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
		return keep_name(g, r, w, rr->data, rr);
	}
	return false;
}

static bool
gather_step(void *arg, const struct wire *w, const struct rr *rr)
{
	struct gather *g = arg;
	struct dns_record r = { .ttl = rr->ttl };

	if (rr->type != (unsigned)g->type || rr->class != CLASS_IN || strcmp(rr->owner, g->owner) != 0)
		return true;
	if (g->found->n == DNS_RECORDS_MAX || g->found->texts.n + rr->len > TEXTS_MAX)
		return false;
	if (!keep_data(g, &r, w, rr)) {
		g->broken = true;
		return false;
	}
	g->found->records[g->found->n++] = r;
	if (rr->ttl < g->found->ttl)
		g->found->ttl = rr->ttl;
	return true;
}

struct negative {
	bool soa;
	uint32_t ttl;
};

/* RFC 2308: the smaller of the SOA's own TTL and its last field. */
static bool
negative_step(void *arg, const struct wire *w, const struct rr *rr)
{
	struct negative *n = arg;

	if (rr->type != TYPE_SOA || rr->len < 22)
		return true;
	uint32_t minimum = wire_u32(w, rr->data + rr->len - 4);

	n->soa = true;
	n->ttl = minimum < rr->ttl ? minimum : rr->ttl;
	if (n->ttl > NEGATIVE_TTL_MAX)
		n->ttl = NEGATIVE_TTL_MAX;
	return false;
}

/* One block: answer, records, texts, both names. */
static struct dns_answer *
answer_build(const struct found *f, const char *name, const char *canonical, enum dns_type type)
{
	size_t names = strlen(name) + 1, canon = strlen(canonical) + 1;
	size_t records = f == NULL ? 0 : f->n * sizeof(struct dns_record), texts = f == NULL ? 0 : f->texts.n;
	struct dns_answer *a = mem_zalloc(sizeof(*a) + records + texts + names + canon);
	struct dns_record *r = (struct dns_record *)(a + 1);
	char *text = (char *)r + records;

	if (records > 0)
		memcpy(r, f->records, records);
	if (texts > 0)
		memcpy(text, f->texts.p, texts);
	a->n = f == NULL ? 0 : f->n;
	for (unsigned i = 0; i < a->n; i++)
		r[i].text.p = text + (uintptr_t)r[i].text.p;
	a->records = r;
	a->type = type;
	a->name = memcpy(text + texts, name, names);
	a->canonical = memcpy(text + texts + names, canonical, canon);
	return a;
}

struct dns_answer *
dns_answer_none(const char *name, enum dns_type type, enum dns_status status, uint32_t ttl)
{
	struct dns_answer *a = answer_build(NULL, name, name, type);

	a->status = status;
	a->ttl = ttl;
	return a;
}

/* Header and question, which must be the one we asked. */
static bool
question_is(struct wire *w, const char *name, enum dns_type type)
{
	size_t end;
	char *asked;
	bool same;

	if (w->n < HEADER_SIZE || w->n > 65535 || wire_u16(w, 4) != 1)
		return false;
	asked = wire_name(w, HEADER_SIZE, &end);
	if (asked == NULL)
		return false;
	same = strcmp(asked, name) == 0 && w->n - end >= 4 && wire_u16(w, end) == (unsigned)type;
	ares_free_string(asked);
	w->at = end + 4;
	return same;
}

static struct dns_answer *
answer_negative(const struct wire *w, struct found *f, const struct chase *c, const char *name, enum dns_type type)
{
	struct negative neg = { .ttl = NEGATIVE_TTL };
	struct wire authority = *w;
	struct dns_answer *a = answer_build(f, name, c->at, type);
	bool chained = strcmp(c->at, name) != 0;

	(void)wire_each(&authority, wire_u16(w, 8), negative_step, &neg);
	a->status = (w->p[3] & 0xf) == RCODE_NXDOMAIN ? DNS_NXDOMAIN : DNS_NODATA;
	a->partial = a->status == DNS_NODATA && chained && !neg.soa;
	a->ttl = chained && c->ttl < neg.ttl ? c->ttl : neg.ttl;
	return a;
}

static struct dns_answer *
answer_read(struct wire *w, struct found *f, const char *name, enum dns_type type)
{
	struct chase c = { .ttl = UINT32_MAX };
	struct gather g = { .owner = c.at, .type = type, .found = f };
	enum dns_status s = DNS_OK;
	unsigned rcode = w->p[3] & 0xf, count = wire_u16(w, 6);

	if (rcode != 0 && rcode != RCODE_NXDOMAIN)
		return dns_answer_none(name, type, DNS_SERVFAIL, 0);
	memcpy(c.at, name, strlen(name) + 1);
	if (type != DNS_CNAME)
		s = chase(w, count, &c);
	if (s != DNS_OK)
		return dns_answer_none(name, type, s, 0);
	f->ttl = c.ttl;
	struct wire answers = *w;

	if (!wire_each(&answers, count, gather_step, &g) || g.broken)
		return dns_answer_none(name, type, DNS_SERVFAIL, 0);
	if (f->n == 0)
		return answer_negative(&answers, f, &c, name, type);
	struct dns_answer *a = answer_build(f, name, c.at, type);

	a->status = DNS_OK;
	a->ttl = f->ttl;
	return a;
}

struct dns_answer *
dns_answer_parse(const unsigned char *bytes, size_t n, const char *name, enum dns_type type)
{
	struct wire w = { .p = bytes, .n = n };
	struct dns_answer *a;
	struct found *f;

	/* c-ares has asked by TCP after a truncated answer: one that is cut there too says nothing for certain. */
	if (strlen(name) >= DNS_NAME_MAX || !question_is(&w, name, type) || (bytes[2] & FLAG_TRUNCATED) != 0)
		return dns_answer_none(name, type, DNS_SERVFAIL, 0);
	f = mem_zalloc(sizeof(*f));
	a = answer_read(&w, f, name, type);
	bytes_fini(&f->texts);
	free(f);
	return a;
}

void
dns_answer_free(struct dns_answer **a)
{
	free(*a);
	*a = NULL;
}
