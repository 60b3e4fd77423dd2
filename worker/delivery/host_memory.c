#include "worker/delivery/host_memory.h"

#include <arpa/inet.h>
#include <bsd/sys/tree.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "shm/base/mem.h"

enum { FAILURES_MAX = 20, WHY_MAX = 120 };

struct host {
	RB_ENTRY(host) node;
	TAILQ_ENTRY(host) lru;
	unsigned char key[19]; /* family, address, port */
	struct sockaddr_storage address;
	unsigned failures;
	usec_t until;
	char why[WHY_MAX];
};

RB_HEAD(hosts, host);

struct host_memory {
	struct hosts hosts;
	TAILQ_HEAD(, host) lru; /* longest unused first */
	unsigned n;
};

static int
host_compare(struct host *a, struct host *b)
{
	return memcmp(a->key, b->key, sizeof(a->key));
}

RB_GENERATE_INTERNAL(hosts, host, node, host_compare, __attribute__((unused)) static)

static void
make_key(const struct sockaddr_storage *a, unsigned char key[19])
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)a;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)a;

	memset(key, 0, 19);
	key[0] = (unsigned char)a->ss_family;
	if (a->ss_family == AF_INET6) {
		memcpy(key + 1, &sin6->sin6_addr, 16);
		memcpy(key + 17, &sin6->sin6_port, 2);
	} else {
		memcpy(key + 1, &sin->sin_addr, 4);
		memcpy(key + 17, &sin->sin_port, 2);
	}
}

static struct host *
find(struct host_memory *m, const struct sockaddr_storage *a)
{
	struct host key;

	make_key(a, key.key);
	return RB_FIND(hosts, &m->hosts, &key);
}

static void
forget(struct host_memory *m, struct host *h)
{
	RB_REMOVE(hosts, &m->hosts, h);
	TAILQ_REMOVE(&m->lru, h, lru);
	m->n--;
	free(h);
}

struct host_memory *
host_memory_new(void)
{
	struct host_memory *m = mem_zalloc(sizeof(*m));

	RB_INIT(&m->hosts);
	TAILQ_INIT(&m->lru);
	return m;
}

void
host_memory_free(struct host_memory **m)
{
	struct host *h;

	if (*m == NULL)
		return;
	while ((h = TAILQ_FIRST(&(*m)->lru)) != NULL)
		forget(*m, h);
	free(*m);
	*m = NULL;
}

static struct host *
remember(struct host_memory *m, const struct sockaddr_storage *a)
{
	struct host *h = find(m, a);

	if (h != NULL) {
		TAILQ_REMOVE(&m->lru, h, lru);
	} else {
		if (m->n == HOST_MEMORY_MAX)
			forget(m, TAILQ_FIRST(&m->lru));
		h = mem_zalloc(sizeof(*h));
		make_key(a, h->key);
		h->address = *a;
		RB_INSERT(hosts, &m->hosts, h);
		m->n++;
	}
	TAILQ_INSERT_TAIL(&m->lru, h, lru);
	return h;
}

void
host_failed(struct host_memory *m, const struct sockaddr_storage *a, usec_t now, usec_t most, struct slice why)
{
	struct host *h = remember(m, a);
	usec_t wait;
	size_t n = why.n < WHY_MAX - 1 ? why.n : WHY_MAX - 1;

	if (now < h->until)
		return; /* another connection of the same round failed too: that is one failure */
	if (h->failures < FAILURES_MAX)
		h->failures++;
	wait = USEC_PER_SEC << (h->failures - 1);
	h->until = now + (wait < most ? wait : most);
	memcpy(h->why, why.p, n);
	h->why[n] = '\0';
}

void
host_worked(struct host_memory *m, const struct sockaddr_storage *a)
{
	struct host *h = m->n == 0 ? NULL : find(m, a);

	if (h != NULL)
		forget(m, h);
}

usec_t
host_until(struct host_memory *m, const struct sockaddr_storage *a, usec_t now)
{
	struct host *h = m->n == 0 ? NULL : find(m, a);

	return h == NULL || h->until <= now ? 0 : h->until;
}

bool
host_look(struct host_memory *m, const struct sockaddr_storage *a, struct host_state *out)
{
	struct host *h = m->n == 0 ? NULL : find(m, a);

	if (h == NULL)
		return false;
	*out = (struct host_state){ .failures = h->failures, .until = h->until, .why = h->why };
	return true;
}

void
host_memory_describe(const struct host_memory *m, usec_t now, struct bytes *out)
{
	struct host *h;

	TAILQ_FOREACH (h, &m->lru, lru) {
		char text[HOST_TEXT];

		if (h->until <= now)
			continue;
		host_text(&h->address, true, text);
		bytes_addf(out, "host %s avoided for %lld s after %u failures: %s\n", text,
			   (long long)((h->until - now + USEC_PER_SEC - 1) / USEC_PER_SEC), h->failures, h->why);
	}
}

void
host_text(const struct sockaddr_storage *a, bool with_port, char out[HOST_TEXT])
{
	char text[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in *sin = (const struct sockaddr_in *)a;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)a;
	bool v6 = a->ss_family == AF_INET6;

	inet_ntop(a->ss_family, v6 ? (const void *)&sin6->sin6_addr : (const void *)&sin->sin_addr, text, sizeof(text));
	if (!with_port)
		snprintf(out, HOST_TEXT, "%s", text);
	else
		snprintf(out, HOST_TEXT, v6 ? "[%s]:%u" : "%s:%u", text, ntohs(v6 ? sin6->sin6_port : sin->sin_port));
}

bool
host_parse(struct slice text, struct sockaddr_storage *out)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)out;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)out;
	const char *colon = text.n == 0 ? NULL : memrchr(text.p, ':', text.n);
	char address[HOST_TEXT];
	bool v6 = text.n > 0 && text.p[0] == '[';
	uint64_t port;
	size_t n;

	if (colon == NULL || !slice_u64(slice_of(colon + 1, (size_t)(text.p + text.n - colon - 1)), 65535, &port))
		return false;
	n = (size_t)(colon - text.p);
	if (n >= sizeof(address) || (v6 && (n < 2 || text.p[n - 1] != ']')))
		return false;
	memcpy(address, text.p + v6, n - 2 * (size_t)v6);
	address[n - 2 * (size_t)v6] = '\0';
	memset(out, 0, sizeof(*out));
	out->ss_family = v6 ? AF_INET6 : AF_INET;
	if (v6)
		sin6->sin6_port = htons((uint16_t)port);
	else
		sin->sin_port = htons((uint16_t)port);
	return inet_pton(out->ss_family, address, v6 ? (void *)&sin6->sin6_addr : (void *)&sin->sin_addr) == 1;
}
