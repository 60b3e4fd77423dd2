/* The resolver: its file, replies in wire form (with every truncation), and the cache against a name server of our own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/net/loop.h"
#include "worker/net/resolver.h"

/* ---- the resolver file ---- */

static void
the_file_is_read(void **state)
{
	static const struct {
		const char *text;
		unsigned n, unread, timeout_ms, attempts;
		const char *first; /* family and port of the first server */
	} rows[] = {
		{ "", 0, 0, 5000, 2, "" },
		{ "nameserver 192.0.2.1\n", 1, 0, 5000, 2, "4 53" },
		{ "nameserver 192.0.2.1:5353\n", 1, 0, 5000, 2, "4 5353" },
		{ "nameserver [192.0.2.1]:5353", 1, 0, 5000, 2, "4 5353" },
		{ "nameserver 2001:db8::1\r\nnameserver [2001:db8::2]\n", 2, 0, 5000, 2, "6 53" },
		{ "\tnameserver  [2001:db8::1]:54 \n", 1, 0, 5000, 2, "6 54" },
		{ "# nameserver 1.2.3.4\n; x\nsearch example.com\nnameserver 1.2.3.4\n", 1, 0, 5000, 2, "4 53" },
		{ "options timeout:1 attempts:3 ndots:2 rotate\nnameserver 1.2.3.4", 1, 0, 1000, 3, "4 53" },
		{ "options retrans:250 retry:1\n", 0, 0, 250, 1, "" },
		{ "options timeout:0 attempts:99\n", 0, 0, 1000, 10, "" },
		{ "nameserver nonsense\nnameserver 1.2.3.4:0\nnameserver [::1]:x\nnameserver\n", 0, 4, 5000, 2, "" },
		{ "nameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver 1.1.1.1\n"
		  "nameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver 1.1.1.1\n",
		  8, 1, 5000, 2, "4 53" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct resolver_conf c;
		char first[16] = "";
		unsigned unread = resolver_conf_parse(slice_str(rows[i].text), &c);

		if (c.n > 0)
			snprintf(first, sizeof(first), "%d %u", c.servers[0].ss_family == AF_INET ? 4 : 6,
				 ntohs(((struct sockaddr_in *)&c.servers[0])->sin_port));
		if (c.n != rows[i].n || unread != rows[i].unread || c.timeout_ms != rows[i].timeout_ms ||
		    c.attempts != rows[i].attempts || strcmp(first, rows[i].first) != 0)
			fail_msg("row %zu: n %u unread %u timeout %u attempts %u first %s", i, c.n, unread,
				 c.timeout_ms, c.attempts, first);
	}
}

/* ---- replies ---- */

static void
put_name(struct bytes *b, const char *name)
{
	while (*name != '\0') {
		size_t n = strcspn(name, ".");

		bytes_add_u8(b, (uint8_t)n);
		bytes_add(b, name, n);
		name += n + (name[n] == '.');
	}
	bytes_add_u8(b, 0);
}

static void
put_u16(struct bytes *b, unsigned v)
{
	bytes_add_u8(b, (uint8_t)(v >> 8));
	bytes_add_u8(b, (uint8_t)v);
}

/* One record as text: "owner TYPE ttl data", data as the type wants it. */
static void
put_record(struct bytes *b, const char *text)
{
	char owner[300], type[8], data[300] = "";
	struct bytes rd = { 0 };
	unsigned ttl;
	enum dns_type t;
	int n = sscanf(text, "%299s %7s %u %299[^\n]", owner, type, &ttl, data);

	assert_true(n >= 3);
	put_name(b, strcmp(owner, ".") == 0 ? "" : owner);
	if (strcmp(type, "SOA") == 0) {
		put_u16(b, 6);
		put_name(&rd, "ns");
		put_name(&rd, "root");
		for (int i = 0; i < 4; i++)
			bytes_add_u32(&rd, 0);
		put_u16(&rd, 0);
		put_u16(&rd, (unsigned)atoi(data));
	} else {
		assert_true(dns_type_parse(slice_str(type), &t));
		put_u16(b, t);
		if (t == DNS_A) {
			struct in_addr a;

			assert_int_equal(inet_pton(AF_INET, data, &a), 1);
			bytes_add(&rd, &a, 4);
		} else if (t == DNS_AAAA) {
			struct in6_addr a;

			assert_int_equal(inet_pton(AF_INET6, data, &a), 1);
			bytes_add(&rd, &a, 16);
		} else if (t == DNS_MX) {
			char *rest;

			put_u16(&rd, (unsigned)strtoul(data, &rest, 10));
			put_name(&rd, strcmp(rest + 1, ".") == 0 ? "" : rest + 1);
		} else if (t == DNS_TXT) {
			for (char *word = strtok(data, "|"); word != NULL; word = strtok(NULL, "|")) {
				bytes_add_u8(&rd, (uint8_t)strlen(word));
				bytes_add_str(&rd, word);
			}
		} else {
			put_name(&rd, data);
		}
	}
	put_u16(b, 1);
	put_u16(b, ttl >> 16);
	put_u16(b, ttl & 0xffff);
	put_u16(b, (unsigned)rd.n);
	bytes_add_slice(b, slice_bytes(&rd));
	bytes_fini(&rd);
}

struct reply {
	const char *name;
	enum dns_type type;
	unsigned rcode;
	const char *records[8]; /* answer section; those that begin with '!' go to authority */
};

static void
make_reply(const struct reply *r, unsigned id, struct bytes *b)
{
	unsigned answers = 0, authority = 0;

	for (size_t i = 0; i < 8 && r->records[i] != NULL; i++) {
		if (r->records[i][0] == '!')
			authority++;
		else
			answers++;
	}
	put_u16(b, id);
	put_u16(b, 0x8180 | r->rcode);
	put_u16(b, 1);
	put_u16(b, answers);
	put_u16(b, authority);
	put_u16(b, 0);
	put_name(b, r->name);
	put_u16(b, r->type);
	put_u16(b, 1);
	for (size_t i = 0; i < answers; i++)
		put_record(b, r->records[i]);
	for (size_t i = answers; i < answers + authority; i++)
		put_record(b, r->records[i] + 1);
}

/* "STATUS ttl canonical[ *partial]: record; record;" */
static void
show(const struct dns_answer *a, struct bytes *out)
{
	bytes_addf(out, "%d %u %s%s:", a->status, a->ttl, a->canonical, a->partial ? "*" : "");
	for (unsigned i = 0; i < a->n; i++) {
		char text[INET6_ADDRSTRLEN];
		const struct dns_record *r = &a->records[i];

		if (a->type == DNS_A || a->type == DNS_AAAA)
			bytes_addf(out, " %s",
				   inet_ntop(a->type == DNS_A ? AF_INET : AF_INET6, &r->addr, text, sizeof(text)));
		else if (a->type == DNS_MX)
			bytes_addf(out, " %u/%s", r->preference, r->text.p);
		else
			bytes_addf(out, " %s", r->text.p);
	}
}

static const struct wire_row {
	struct reply r;
	const char *want;
} wires[] = {
	{ { "a.x", DNS_A, 0, { "a.x A 60 192.0.2.1", "a.x A 30 192.0.2.2" } }, "0 30 a.x: 192.0.2.1 192.0.2.2" },
	{ { "a.x", DNS_A, 0, { "A.X A 60 192.0.2.1" } }, "0 60 a.x: 192.0.2.1" },
	{ { "a.x", DNS_AAAA, 0, { "a.x AAAA 60 2001:db8::1" } }, "0 60 a.x: 2001:db8::1" },
	{ { "a.x", DNS_MX, 0, { "a.x MX 60 10 m1.x", "a.x MX 60 5 M2.x" } }, "0 60 a.x: 10/m1.x 5/m2.x" },
	{ { "a.x", DNS_MX, 0, { "a.x MX 60 0 ." } }, "0 60 a.x: 0/" },
	{ { "a.x", DNS_TXT, 0, { "a.x TXT 60 v=spf1 |-all" } }, "0 60 a.x: v=spf1 -all" },
	{ { "1.2.0.192.in-addr.arpa", DNS_PTR, 0, { "1.2.0.192.in-addr.arpa PTR 9 h.x" } },
	  "0 9 1.2.0.192.in-addr.arpa: h.x" },
	{ { "a.x", DNS_CNAME, 0, { "a.x CNAME 60 b.x" } }, "0 60 a.x: b.x" },
	{ { "a.x", DNS_A, 0, { "a.x CNAME 10 b.x", "b.x CNAME 20 c.x", "c.x A 60 192.0.2.3" } },
	  "0 10 c.x: 192.0.2.3" },
	{ { "a.x", DNS_A, 0, { "c.x A 60 192.0.2.3", "b.x CNAME 20 c.x", "a.x CNAME 30 b.x" } },
	  "0 20 c.x: 192.0.2.3" },
	{ { "a.x", DNS_A, 0, { "a.x CNAME 10 b.x", "b.x CNAME 20 a.x" } }, "4 0 a.x:" },
	{ { "a.x", DNS_A, 0, { "a.x CNAME 10 b.y" } }, "2 10 b.y*:" },
	{ { "a.x", DNS_A, 0, { "a.x CNAME 10 b.y", "!y SOA 99 77" } }, "2 10 b.y:" },
	{ { "a.x", DNS_A, 0, { "other.x A 60 192.0.2.1" } }, "2 60 a.x:" },
	{ { "a.x", DNS_A, 0, { "a.x TXT 60 what" } }, "2 60 a.x:" },
	{ { "a.x", DNS_A, 0, { "!x SOA 99 77" } }, "2 77 a.x:" },
	{ { "a.x", DNS_A, 0, { "!x SOA 55 77" } }, "2 55 a.x:" },
	{ { "a.x", DNS_A, 3, { "!x SOA 99 9999" } }, "1 99 a.x:" },
	{ { "a.x", DNS_A, 3, { "a.x CNAME 7 b.x", "!x SOA 99 99" } }, "1 7 b.x:" },
	{ { "a.x", DNS_A, 2, { NULL } }, "5 0 a.x:" },
	{ { "a.x", DNS_A, 5, { NULL } }, "5 0 a.x:" },
};

static void
replies_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
		struct bytes b = { 0 }, have = { 0 };
		struct dns_answer *a;

		make_reply(&wires[i].r, 1, &b);
		a = dns_answer_parse((unsigned char *)b.p, b.n, wires[i].r.name, wires[i].r.type);
		show(a, &have);
		if (strcmp(bytes_cstr(&have), wires[i].want) != 0)
			fail_msg("row %zu: want %s have %s", i, wires[i].want, bytes_cstr(&have));
		dns_answer_free(&a);
		a = dns_answer_parse((unsigned char *)b.p, b.n, "another.name", wires[i].r.type);
		assert_int_equal(a->status, DNS_SERVFAIL);
		dns_answer_free(&a);
		bytes_fini(&have);
		bytes_fini(&b);
	}
}

/* Cut short anywhere it is never a good answer; with any byte changed it is read without harm. */
static void
damaged_replies_do_no_harm(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
		struct bytes b = { 0 };

		make_reply(&wires[i].r, 1, &b);
		for (size_t n = 0; n < b.n; n++) {
			unsigned char *cut = malloc(n + 1);
			struct dns_answer *a;

			memcpy(cut, b.p, n);
			a = dns_answer_parse(cut, n, wires[i].r.name, wires[i].r.type);
			assert_int_not_equal(a->status, DNS_OK);
			dns_answer_free(&a);
			free(cut);
			for (int v = 0; v < 256; v += 51) {
				char was = b.p[n];

				b.p[n] = (char)v;
				a = dns_answer_parse((unsigned char *)b.p, b.n, wires[i].r.name, wires[i].r.type);
				dns_answer_free(&a);
				b.p[n] = was;
			}
		}
		bytes_fini(&b);
	}
}

/* ---- against a server ---- */

static usec_t fake_now = USEC_PER_SEC;

static usec_t
fake_clock(void)
{
	return fake_now;
}

struct server {
	int fd;
	unsigned asked;
	const struct reply *replies;
	size_t n;
	bool silent;
};

struct world {
	struct loop *loop;
	struct server server;
	struct ev_io io;
	struct resolver *resolver;
	struct bytes log;
	unsigned told;
};

/* Answers by name and type; what is not in the list does not exist. */
static void
server_on_io(struct ev_io *io, uint32_t events, void *arg)
{
	struct world *w = arg;
	unsigned char q[512];
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(io->fd, q, sizeof(q), 0, (struct sockaddr *)&from, &len);
	struct bytes b = { 0 };
	char name[256] = "";
	size_t at = 12;
	struct reply none = { .name = name, .rcode = 3 };
	const struct reply *r = &none;

	(void)events;
	assert_true(n > 12);
	w->server.asked++;
	while (q[at] != 0) {
		size_t have = strlen(name);

		snprintf(name + have, sizeof(name) - have, "%s%.*s", have > 0 ? "." : "", q[at], (char *)q + at + 1);
		at += q[at] + 1u;
	}
	none.type = (enum dns_type)(q[at + 1] << 8 | q[at + 2]);
	for (size_t i = 0; i < w->server.n; i++) {
		if (w->server.replies[i].type == none.type && strcmp(w->server.replies[i].name, name) == 0)
			r = &w->server.replies[i];
	}
	if (!w->server.silent) {
		make_reply(r, (unsigned)(q[0] << 8 | q[1]), &b);
		sendto(io->fd, b.p, b.n, 0, (struct sockaddr *)&from, len);
	}
	bytes_fini(&b);
}

static void
on_answer(void *arg, const struct dns_answer *a)
{
	struct world *w = arg;

	show(a, &w->log);
	bytes_add_char(&w->log, '\n');
	w->told++;
}

static void
world_open(struct world *w, const struct reply *replies, size_t n)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	struct resolver_conf conf;

	clock_set_source(fake_clock, fake_clock);
	*w = (struct world){ .server = { .replies = replies, .n = n } };
	w->loop = loop_new();
	w->server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(w->server.fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(w->server.fd, (struct sockaddr *)&sin, &len), 0);
	loop_io_add(w->loop, &w->io, w->server.fd, EPOLLIN, server_on_io, w);
	resolver_conf_parse(SLICE("options timeout:1 attempts:1"), &conf);
	conf.n = 1;
	memcpy(&conf.servers[0], &sin, sizeof(sin));
	w->resolver = resolver_new(w->loop, &conf);
	assert_non_null(w->resolver);
}

static void
world_wait(struct world *w, unsigned told)
{
	for (unsigned i = 0; i < 2000 && w->told < told; i++)
		loop_turn(w->loop, 2000);
	assert_int_equal(w->told, told);
}

static void
world_close(struct world *w)
{
	resolver_free(&w->resolver);
	loop_io_del(w->loop, &w->io);
	close(w->server.fd);
	bytes_fini(&w->log);
	loop_free(&w->loop);
	clock_set_source(NULL, NULL);
}

static const struct reply zone[] = {
	{ "a.x", DNS_A, 0, { "a.x A 60 192.0.2.1" } },         { "zero.x", DNS_A, 0, { "zero.x A 0 192.0.2.2" } },
	{ "alias.x", DNS_A, 0, { "alias.x CNAME 60 far.y" } }, { "far.y", DNS_A, 0, { "far.y CNAME 40 end.z" } },
	{ "end.z", DNS_A, 0, { "end.z A 30 192.0.2.9" } },     { "l1.x", DNS_A, 0, { "l1.x CNAME 60 l2.x" } },
	{ "l2.x", DNS_A, 0, { "l2.x CNAME 60 l1.x" } },
};
enum { ZONE = sizeof(zone) / sizeof(zone[0]) };

static void
answers_are_kept_as_long_as_they_say(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, zone, ZONE);
	resolver_query(w.resolver, "A.x.", DNS_A, on_answer, &w);
	resolver_query(w.resolver, "a.X", DNS_A, on_answer, &w);
	assert_int_equal(w.told, 0);
	world_wait(&w, 2);
	assert_int_equal(w.server.asked, 1); /* together */
	resolver_query(w.resolver, "a.x", DNS_A, on_answer, &w);
	world_wait(&w, 3);
	assert_int_equal(w.server.asked, 1); /* from the cache */
	assert_non_null(resolver_cached(w.resolver, "a.x", DNS_A));
	assert_null(resolver_cached(w.resolver, "a.x", DNS_MX));
	fake_now += 61 * USEC_PER_SEC;
	loop_turn(w.loop, 0);
	assert_null(resolver_cached(w.resolver, "a.x", DNS_A));
	resolver_query(w.resolver, "a.x", DNS_A, on_answer, &w);
	world_wait(&w, 4);
	assert_int_equal(w.server.asked, 2); /* too old */
	assert_string_equal(bytes_cstr(&w.log), "0 60 a.x: 192.0.2.1\n0 60 a.x: 192.0.2.1\n0 60 a.x: 192.0.2.1\n"
						"0 60 a.x: 192.0.2.1\n");
	resolver_query(w.resolver, "none.x", DNS_A, on_answer, &w);
	world_wait(&w, 5);
	resolver_query(w.resolver, "none.x", DNS_A, on_answer, &w);
	world_wait(&w, 6);
	assert_int_equal(w.server.asked, 3); /* "there is none" is kept too */
	world_close(&w);
}

static void
aliases_are_followed_where_the_server_does_not(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, zone, ZONE);
	resolver_query(w.resolver, "alias.x", DNS_A, on_answer, &w);
	world_wait(&w, 1);
	assert_string_equal(bytes_cstr(&w.log), "0 30 end.z: 192.0.2.9\n");
	resolver_query(w.resolver, "l1.x", DNS_A, on_answer, &w);
	world_wait(&w, 2);
	assert_non_null(strstr(bytes_cstr(&w.log), "\n4 "));
	world_close(&w);
}

static void
bad_names_are_asked_of_nobody(void **state)
{
	static const char *const names[] = { "", ".", "a..b", ".a", "a b", "a\x01", "\xc3\xbc.x", "a@b", "a;b" };
	struct world w;

	(void)state;
	world_open(&w, zone, ZONE);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		resolver_query(w.resolver, names[i], DNS_A, on_answer, &w);
		assert_int_equal(resolver_cached(w.resolver, names[i], DNS_A)->status, DNS_BADNAME);
	}
	world_wait(&w, sizeof(names) / sizeof(names[0]));
	assert_int_equal(w.server.asked, 0);
	world_close(&w);
}

static void
what_is_cancelled_is_not_told(void **state)
{
	struct world w;
	struct resolver_query *q;

	(void)state;
	world_open(&w, zone, ZONE);
	q = resolver_query(w.resolver, "a.x", DNS_A, on_answer, &w);
	resolver_query(w.resolver, "a.x", DNS_A, on_answer, &w);
	resolver_cancel(&q);
	assert_null(q);
	world_wait(&w, 1);
	q = resolver_query(w.resolver, "a.x", DNS_A, on_answer, &w);
	resolver_cancel(&q);
	for (int i = 0; i < 5; i++)
		loop_turn(w.loop, 100);
	assert_int_equal(w.told, 1);
	resolver_query(w.resolver, "zero.x", DNS_A, on_answer, &w);
	world_close(&w); /* with a question under way */
}

struct again {
	struct world *w;
	unsigned left;
};

static void
ask_again(void *arg, const struct dns_answer *a)
{
	struct again *g = arg;

	assert_int_equal(a->status, DNS_OK);
	g->w->told++;
	if (g->left-- > 0)
		resolver_query(g->w->resolver, "zero.x", DNS_A, ask_again, g);
}

/* An answer that may not be kept still serves all who wait for it, and a callback may ask the same again. */
static void
a_callback_may_ask(void **state)
{
	struct world w;
	struct again g = { &w, 3 };

	(void)state;
	world_open(&w, zone, ZONE);
	resolver_query(w.resolver, "zero.x", DNS_A, ask_again, &g);
	resolver_query(w.resolver, "zero.x", DNS_A, on_answer, &w);
	world_wait(&w, 5);
	world_close(&w);
}

static void
silence_and_no_server_are_timeouts(void **state)
{
	struct world w;
	struct resolver_conf none;
	struct resolver_stats stats;

	(void)state;
	world_open(&w, zone, ZONE);
	resolver_conf_parse(SLICE(""), &none);
	assert_int_equal(resolver_set_servers(w.resolver, &none), OK);
	resolver_query(w.resolver, "a.x", DNS_A, on_answer, &w);
	world_wait(&w, 1);
	assert_string_equal(bytes_cstr(&w.log), "6 0 a.x:\n");
	resolver_stats(w.resolver, &stats);
	assert_int_equal(stats.timeouts, 1);
	assert_int_equal(stats.sent, 0);
	assert_int_equal(stats.waiting, 0);
	world_close(&w);
}

static void
the_cache_is_bounded(void **state)
{
	struct world w;
	struct resolver_conf conf;
	struct resolver_stats stats;
	char name[32];

	(void)state;
	world_open(&w, zone, ZONE);
	resolver_conf_parse(SLICE(""), &conf);
	conf.cache_max = 10;
	assert_int_equal(resolver_set_servers(w.resolver, &conf), OK);
	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "h%u.x", i);
		resolver_query(w.resolver, name, DNS_A, on_answer, &w);
	}
	world_wait(&w, 50);
	loop_turn(w.loop, 0);
	resolver_stats(w.resolver, &stats);
	assert_int_equal(stats.cached, 10);
	assert_null(resolver_cached(w.resolver, "h0.x", DNS_A));
	assert_non_null(resolver_cached(w.resolver, "h49.x", DNS_A));
	world_close(&w);
}

static void
addresses_become_names(void **state)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr other = { .sa_family = AF_UNIX };
	char out[DNS_NAME_MAX];

	(void)state;
	inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr);
	inet_pton(AF_INET6, "2001:db8::1", &v6.sin6_addr);
	assert_true(resolver_ptr_name((struct sockaddr *)&v4, out));
	assert_string_equal(out, "1.2.0.192.in-addr.arpa");
	assert_true(resolver_ptr_name((struct sockaddr *)&v6, out));
	assert_string_equal(out, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
	assert_false(resolver_ptr_name(&other, out));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_file_is_read),
		cmocka_unit_test(replies_are_read),
		cmocka_unit_test(damaged_replies_do_no_harm),
		cmocka_unit_test(answers_are_kept_as_long_as_they_say),
		cmocka_unit_test(aliases_are_followed_where_the_server_does_not),
		cmocka_unit_test(bad_names_are_asked_of_nobody),
		cmocka_unit_test(what_is_cancelled_is_not_told),
		cmocka_unit_test(a_callback_may_ask),
		cmocka_unit_test(silence_and_no_server_are_timeouts),
		cmocka_unit_test(the_cache_is_bounded),
		cmocka_unit_test(addresses_become_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
