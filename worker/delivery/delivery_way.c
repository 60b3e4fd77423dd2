/* delivery_way.c - which queues a connection at rest can serve
 * With a gateway, or an MX that many domains share, the mail of a hundred thousand domains goes to one host: a connection
 * for each would cost more than its message. So a connection that rests for want of mail in its queue is known by its
 * way, and another queue that is about to connect by the same way takes it over. It counts against the limit of one
 * queue at a time: the one that has it. */
#include "worker/delivery/delivery_int.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "shm/base/mem.h"

struct way {
	RB_ENTRY(way) node;
	struct bytes key;
	unsigned users;
	TAILQ_HEAD(, dconn) rested; /* the latest used first */
};

static int
way_order(const struct way *a, const struct way *b)
{
	if (a->key.n != b->key.n)
		return a->key.n < b->key.n ? -1 : 1;
	return memcmp(a->key.p, b->key.p, a->key.n);
}

RB_GENERATE_INTERNAL(ways, way, node, way_order, __attribute__((unused)) static)

static void
add_address(struct bytes *key, const struct sockaddr_storage *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;

	bytes_add(key, (const char *)&a->ss_family, sizeof(a->ss_family));
	if (a->ss_family == AF_INET) {
		bytes_add(key, (const char *)&v4->sin_addr, sizeof(v4->sin_addr));
		bytes_add(key, (const char *)&v4->sin_port, sizeof(v4->sin_port));
	} else if (a->ss_family == AF_INET6) {
		bytes_add(key, (const char *)&v6->sin6_addr, sizeof(v6->sin6_addr));
		bytes_add(key, (const char *)&v6->sin6_port, sizeof(v6->sin6_port));
	}
}

/* Parts of fixed length, then names with their ends: no two ways have one key. */
static void
make_key(struct bytes *key, const struct way_what *what)
{
	add_address(key, what->local);
	add_address(key, what->remote);
	bytes_add(key, (const char *)&what->timeouts, sizeof(what->timeouts));
	bytes_add(key, what->ehlo, strlen(what->ehlo) + 1);
	bytes_add_slice(key, what->binding);
}

struct way *
way_enter(struct delivery *d, const struct way_what *what)
{
	struct way want = { .users = 0 }, *w;

	make_key(&want.key, what);
	w = RB_FIND(ways, &d->ways, &want);
	if (w == NULL) {
		w = mem_zalloc(sizeof(*w));
		w->key = want.key; /* it moves */
		want.key = (struct bytes){ 0 };
		TAILQ_INIT(&w->rested);
		RB_INSERT(ways, &d->ways, w);
	}
	bytes_fini(&want.key);
	w->users++;
	return w;
}

void
way_leave(struct delivery *d, struct way **wp)
{
	struct way *w = *wp;

	*wp = NULL;
	if (w == NULL || --w->users > 0)
		return;
	RB_REMOVE(ways, &d->ways, w);
	bytes_fini(&w->key);
	free(w);
}

void
way_rest(struct dconn *c)
{
	TAILQ_INSERT_HEAD(&c->way->rested, c, way_link);
	TAILQ_INSERT_HEAD(&c->q->d->rested, c, rest_link);
}

void
way_wake(struct dconn *c)
{
	TAILQ_REMOVE(&c->way->rested, c, way_link);
	TAILQ_REMOVE(&c->q->d->rested, c, rest_link);
}

/* One that has rested too long has said QUIT, and all that have rested longer with it. */
struct dconn *
way_rested(struct way *w)
{
	struct dconn *c = TAILQ_FIRST(&w->rested);

	return c != NULL && smtp_client_is_idle(c->client) ? c : NULL;
}

void
way_yield(struct delivery *d, struct slice binding)
{
	struct dconn *c;

	TAILQ_FOREACH_REVERSE(c, &d->rested, rested, rest_link)
	{
		if (!smtp_client_is_idle(c->client) || (binding.n > 0 && !slice_eq(c->q->binding, binding)))
			continue;
		smtp_client_quit(c->client);
		return;
	}
}
