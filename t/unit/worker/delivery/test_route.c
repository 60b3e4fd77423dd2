/* Routing without a network: specs, MX sets in, host list out, what no host means, names in DNS's spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/delivery/host_memory.h"
#include "worker/delivery/route.h"

static void
specs_are_read(void **state)
{
	static const struct {
		const char *text;
		enum err want;
		enum route_kind kind;
		const char *name;
		uint16_t port;
		uint32_t preference;
	} rows[] = {
		{ "mail.example.com", OK, ROUTE_NAME, "mail.example.com", 25, 7 },
		{ "Mail.Example.COM.", OK, ROUTE_NAME, "mail.example.com", 25, 7 },
		{ "127.0.0.1", OK, ROUTE_ADDRESS, "127.0.0.1", 25, 7 },
		{ "[127.0.0.1]", OK, ROUTE_ADDRESS, "[127.0.0.1]", 25, 7 },
		{ "[::1]", OK, ROUTE_ADDRESS, "[::1]", 25, 7 },
		{ "[IPv6:2001:db8::1]", OK, ROUTE_ADDRESS, "[IPv6:2001:db8::1]", 25, 7 },
		{ "__mx__", OK, ROUTE_DOMAIN, "", 25, 7 },
		{ "smtp://h.example?pref=3&port=2525&ttl=60&type=a", OK, ROUTE_HOST, "h.example", 2525, 3 },
		{ "smtp://h.example?type=mx", OK, ROUTE_NAME, "h.example", 25, 7 },
		{ "smtp://[::1]?port=26", OK, ROUTE_ADDRESS, "[::1]", 26, 7 },
		{ "smtp://10.0.0.1", OK, ROUTE_ADDRESS, "10.0.0.1", 25, 7 },
		{ "smtp://__mx__?pref=1", OK, ROUTE_DOMAIN, "", 25, 1 },
		{ "b\xc3\xbc"
		  "cher.example",
		  OK, ROUTE_NAME, "xn--bcher-kva.example", 25, 7 },
		{ "", ERR_SYNTAX, 0, "", 0, 0 },
		{ "[not.an.address]", ERR_SYNTAX, 0, "", 0, 0 },
		{ "a..b", ERR_SYNTAX, 0, "", 0, 0 },
		{ "smtp://h?port=0", ERR_SYNTAX, 0, "", 0, 0 },
		{ "smtp://h?port=70000", ERR_SYNTAX, 0, "", 0, 0 },
		{ "smtp://h?type=x", ERR_SYNTAX, 0, "", 0, 0 },
		{ "smtp://h?what=1", ERR_SYNTAX, 0, "", 0, 0 },
		{ "smtp://h?pref", ERR_SYNTAX, 0, "", 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct route_spec s;
		enum err e = route_spec_parse(slice_str(rows[i].text), 25, 7, &s);

		if (e != rows[i].want)
			fail_msg("%s: %s", rows[i].text, err_text(e));
		if (e != OK)
			continue;
		assert_int_equal(s.kind, rows[i].kind);
		assert_string_equal(s.name, rows[i].name);
		assert_int_equal(s.port, rows[i].port);
		assert_int_equal(s.preference, rows[i].preference);
		if (s.kind == ROUTE_ADDRESS)
			assert_int_equal(ntohs(((struct sockaddr_in *)&s.address)->sin_port), rows[i].port);
	}
}

static void
domains_become_ascii(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "Example.COM", "example.com" },
		{ "example.com.", "example.com" },
		{ "m\xc3\xbc"
		  "nchen.example",
		  "xn--mnchen-3ya.example" },
		{ "\xe4\xbe\x8b\xe3\x81\x88.\xe3\x83\x86\xe3\x82\xb9\xe3\x83\x88", "xn--r8jz45g.xn--zckzah" },
		{ "\xf0\x9f\x92\xa9.la", "xn--ls8h.la" },
		{ "\xff.example", NULL },
		{ ".example", NULL },
		{ "", NULL },
	};
	char out[DNS_NAME_MAX], longest[400];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum err e = route_ascii(slice_str(rows[i].in), out);

		assert_int_equal(e == OK, rows[i].out != NULL);
		if (e == OK)
			assert_string_equal(out, rows[i].out);
	}
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(route_ascii(slice_of(longest, 64), out), ERR_RANGE);
	for (size_t i = 60; i < sizeof(longest); i += 60)
		longest[i] = '.';
	assert_int_equal(route_ascii(slice_of(longest, 300), out), ERR_RANGE);
	for (size_t i = 0; i < sizeof(longest); i += 2)
		memcpy(longest + i, "\xc3\xbc", 2);
	assert_int_equal(route_ascii(slice_of(longest, sizeof(longest)), out), ERR_RANGE);
}

/* ---- choosing ---- */

static bool
own_port_is_9(void *arg, const struct sockaddr_storage *a, const char *name)
{
	(void)arg;
	(void)name;
	return ntohs(((const struct sockaddr_in *)a)->sin_port) == 9;
}

static uint32_t
always(void *arg, uint32_t below)
{
	uint32_t v = *(uint32_t *)arg;

	return v < below ? v : below - 1;
}

struct host_in {
	const char *name;
	uint32_t spec, preference;
	enum dns_status status;
	uint16_t ports[4]; /* one address each; 9 is ourselves */
	bool implicit;
};

static void
hosts_are_chosen(void **state)
{
	static const struct {
		const char *name;
		struct host_in hosts[6];
		enum dns_status mx;
		bool null_mx, configured;
		uint32_t random;
		enum route_status status;
		const char *want; /* "name:port ..." or the text's beginning */
	} rows[] = {
		{ "sorted by preference",
		  { { "b", 0, 20, DNS_OK, { 25 }, false }, { "a", 0, 10, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  99,
		  ROUTE_FOUND,
		  "a:25 b:25 " },
		{ "equals stay with one draw",
		  { { "a", 0, 10, DNS_OK, { 25 }, false },
		    { "b", 0, 10, DNS_OK, { 25 }, false },
		    { "c", 0, 10, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  99,
		  ROUTE_FOUND,
		  "a:25 b:25 c:25 " },
		{ "and turn with another",
		  { { "a", 0, 10, DNS_OK, { 25 }, false },
		    { "b", 0, 10, DNS_OK, { 25 }, false },
		    { "c", 0, 10, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_FOUND,
		  "b:25 c:25 a:25 " },
		{ "a better one is never behind a worse one",
		  { { "z", 0, 20, DNS_OK, { 25 }, false },
		    { "a", 0, 10, DNS_OK, { 25 }, false },
		    { "b", 0, 10, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_FOUND,
		  "b:25 a:25 z:25 " },
		{ "the order of routes goes before preference",
		  { { "second", 1, 0, DNS_OK, { 25 }, false }, { "first", 0, 50, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  true,
		  0,
		  ROUTE_FOUND,
		  "first:25 second:25 " },
		{ "all addresses of a host",
		  { { "a", 0, 10, DNS_OK, { 25, 26, 27 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_FOUND,
		  "a:25 a:26 a:27 " },
		{ "a host without an address is passed over",
		  { { "a", 0, 10, DNS_NXDOMAIN, { 0 }, false }, { "b", 0, 20, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_FOUND,
		  "b:25 " },
		{ "ourselves and what is not better",
		  { { "a", 0, 10, DNS_OK, { 25 }, false },
		    { "me", 0, 20, DNS_OK, { 9 }, false },
		    { "c", 0, 30, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_FOUND,
		  "a:25 " },
		{ "equal to ourselves is not better",
		  { { "a", 0, 10, DNS_OK, { 25 }, false },
		    { "me", 0, 20, DNS_OK, { 9 }, false },
		    { "c", 0, 20, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_FOUND,
		  "a:25 " },
		{ "we are the best: a loop",
		  { { "me", 0, 10, DNS_OK, { 25, 9 }, false }, { "b", 0, 20, DNS_OK, { 25 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_NEVER,
		  "554 5.4.6" },
		{ "a gateway that is ourselves: a loop",
		  { { "me", 0, 0, DNS_OK, { 9 }, false } },
		  DNS_OK,
		  false,
		  true,
		  0,
		  ROUTE_NEVER,
		  "554 5.4.6" },
		{ "better ones do not exist, we are next",
		  { { "a", 0, 10, DNS_NXDOMAIN, { 0 }, false }, { "me", 0, 20, DNS_OK, { 9 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_NEVER,
		  "554 5.4.6" },
		{ "better ones are unknown now, we are next",
		  { { "a", 0, 10, DNS_TIMEOUT, { 0 }, false }, { "me", 0, 20, DNS_OK, { 9 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_LATER,
		  "451 4.4.1" },
		{ "null MX", { { 0 } }, DNS_OK, true, false, 0, ROUTE_NEVER, "550 5.4.4 [internal] NULL MX" },
		{ "no such domain",
		  { { 0 } },
		  DNS_NXDOMAIN,
		  false,
		  false,
		  0,
		  ROUTE_NEVER,
		  "554 5.4.4 [internal] Domain Lookup Failed" },
		{ "no domain name", { { 0 } }, DNS_BADNAME, false, false, 0, ROUTE_NEVER, "554 5.4.4" },
		{ "DNS silent", { { 0 } }, DNS_TIMEOUT, false, false, 0, ROUTE_LATER, "451 4.4.3" },
		{ "DNS failing", { { 0 } }, DNS_SERVFAIL, false, false, 0, ROUTE_LATER, "451 4.4.3" },
		{ "aliases in a circle", { { 0 } }, DNS_LOOP, false, false, 0, ROUTE_LATER, "451 4.4.3" },
		{ "neither MX nor address",
		  { { "d", 0, 0, DNS_NODATA, { 0 }, true } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_NEVER,
		  "554 5.4.4 [internal] no MX or A" },
		{ "implicit MX, address unknown now",
		  { { "d", 0, 0, DNS_SERVFAIL, { 0 }, true } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_LATER,
		  "451 4.4.1" },
		{ "MX names nothing that exists",
		  { { "a", 0, 10, DNS_NXDOMAIN, { 0 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_NEVER,
		  "554 5.4.4" },
		{ "MX names a host without IPv4",
		  { { "a", 0, 10, DNS_NODATA, { 0 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_LATER,
		  "451 4.4.1" },
		{ "one MX gone, one unknown now",
		  { { "a", 0, 10, DNS_NXDOMAIN, { 0 }, false }, { "b", 0, 20, DNS_SERVFAIL, { 0 }, false } },
		  DNS_OK,
		  false,
		  false,
		  0,
		  ROUTE_LATER,
		  "451 4.4.1" },
		{ "a gateway that does not exist waits for its operator",
		  { { 0 } },
		  DNS_NXDOMAIN,
		  false,
		  true,
		  0,
		  ROUTE_LATER,
		  "451 4.4.1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct route_name *names = calloc(6, sizeof(*names));
		struct route *r = calloc(1, sizeof(*r));
		uint32_t random = rows[i].random;
		struct route_facts f = { .names = names,
					 .mx = rows[i].mx,
					 .null_mx = rows[i].null_mx,
					 .configured = rows[i].configured,
					 .own = own_port_is_9,
					 .random = always,
					 .arg = &random };
		struct bytes have = { 0 };

		for (; f.n < 6 && rows[i].hosts[f.n].name != NULL; f.n++) {
			const struct host_in *h = &rows[i].hosts[f.n];
			struct route_name *n = &names[f.n];

			snprintf(n->name, sizeof(n->name), "%s", h->name);
			n->spec = h->spec;
			n->preference = h->preference;
			n->status = h->status;
			n->implicit = h->implicit;
			for (; n->n < 4 && h->ports[n->n] != 0; n->n++) {
				struct sockaddr_in *sin = (struct sockaddr_in *)&n->addresses[n->n];

				sin->sin_family = AF_INET;
				sin->sin_port = htons(h->ports[n->n]);
			}
		}
		route_choose(&f, r);
		for (unsigned k = 0; k < r->n; k++)
			bytes_addf(&have, "%s:%u ", r->hops[k].name,
				   ntohs(((struct sockaddr_in *)&r->hops[k].address)->sin_port));
		if (r->n == 0)
			bytes_add_str(&have, r->text);
		if (r->status != rows[i].status || strncmp(bytes_cstr(&have), rows[i].want, strlen(rows[i].want)) != 0)
			fail_msg("%s: %d %s", rows[i].name, r->status, bytes_cstr(&have));
		bytes_fini(&have);
		free(names);
		free(r);
	}
}

static void
mx_records_become_names(void **state)
{
	struct dns_record records[] = { { .preference = 20, .text = SLICE("b") },
					{ .preference = 10, .text = SLICE("a") },
					{ .preference = 0, .text = SLICE("") } };
	struct dns_answer mx = { .status = DNS_OK, .type = DNS_MX, .n = 3, .records = records };
	struct route_name *names = calloc(4, sizeof(*names));
	bool null_mx;

	(void)state;
	assert_int_equal(route_mx_names(&mx, names, 4, &null_mx), 2);
	assert_false(null_mx);
	assert_string_equal(names[0].name, "a");
	assert_string_equal(names[1].name, "b");
	assert_int_equal(route_mx_names(&mx, names, 1, &null_mx), 1);
	assert_string_equal(names[0].name, "a");
	mx.records = &records[2];
	mx.n = 1;
	assert_int_equal(route_mx_names(&mx, names, 4, &null_mx), 0);
	assert_true(null_mx);
	free(names);
}

static void
a_dead_host_is_left_alone_longer_and_longer(void **state)
{
	struct host_memory *m = host_memory_new();
	struct sockaddr_storage a = { 0 }, b = { 0 };
	usec_t now = USEC_PER_SEC, most = 5 * USEC_PER_SEC, until;
	struct bytes out = { 0 };

	(void)state;
	((struct sockaddr_in *)&a)->sin_family = AF_INET;
	((struct sockaddr_in *)&a)->sin_port = htons(25);
	b = a;
	((struct sockaddr_in *)&b)->sin_port = htons(26);
	assert_int_equal(host_until(m, &a, now), 0);
	for (usec_t want = 1; want <= 8; want *= 2) {
		host_failed(m, &a, now, most, SLICE("why"));
		host_failed(m, &a, now, most, SLICE("the same failure again"));
		until = host_until(m, &a, now);
		assert_int_equal(until - now, (want > 5 ? 5 : want) * USEC_PER_SEC);
		assert_int_equal(host_until(m, &b, now), 0);
		now = until;
		assert_int_equal(host_until(m, &a, now), 0);
	}
	host_failed(m, &a, now, most, SLICE("why"));
	host_memory_describe(m, now, &out);
	assert_non_null(strstr(bytes_cstr(&out), "host 0.0.0.0:25 avoided for 5 s after 5 failures: why"));
	host_worked(m, &a);
	assert_int_equal(host_until(m, &a, now), 0);
	for (unsigned i = 0; i < HOST_MEMORY_MAX + 10; i++) {
		((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(i);
		host_failed(m, &a, now, most, SLICE(""));
	}
	((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(9);
	assert_int_equal(host_until(m, &a, now), 0);
	((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(10);
	assert_int_not_equal(host_until(m, &a, now), 0);
	bytes_fini(&out);
	host_memory_free(&m);
	assert_null(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs_are_read),
		cmocka_unit_test(domains_become_ascii),
		cmocka_unit_test(hosts_are_chosen),
		cmocka_unit_test(mx_records_become_names),
		cmocka_unit_test(a_dead_host_is_left_alone_longer_and_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
