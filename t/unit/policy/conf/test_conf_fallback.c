/* policy/conf: what an option is worth at a place, for mail going out and for mail coming in. */
#include "t/unit/policy/conf/conf_test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

/* Sending: the worked values and the full order of fallback. */

struct sending {
	const char *text, *binding, *domain;
	int64_t connections;
};

static const struct sending sending[] = {
	{ "max_outbound_connections = 30 binding_group g { max_outbound_connections = 5 "
	  "binding b { max_outbound_connections = 15 domain x.com { } } }",
	  "b", "x.com", 15 },
	{ "max_outbound_connections = 30 binding_group g { max_outbound_connections = 5 "
	  "binding b { domain x.com { } } }",
	  "b", "x.com", 5 },
	{ "max_outbound_connections = 864 domain x.com { max_outbound_connections = 120 } binding b { }", "b", "x.com",
	  120 },
	{ "domain x.com { max_outbound_connections = 3 } binding b { max_outbound_connections = 72 domain x.com { } }",
	  "b", "x.com", 72 },
	/* the domain of a group outranks its binding */
	{ "binding_group g { domain x.com { max_outbound_connections = 2 } "
	  "binding b { max_outbound_connections = 3 } }",
	  "b", "x.com", 2 },
	{ "binding_group g { domain x.com { max_outbound_connections = 2 } "
	  "binding b { domain x.com { max_outbound_connections = 1 } } }",
	  "b", "x.com", 1 },
	/* what is in no group is in "default" */
	{ "binding_group default { domain x.com { max_outbound_connections = 2 } } binding b { }", "b", "x.com", 2 },
	{ "binding_group default { max_outbound_connections = 2 } binding b { }", "b", "x.com", 2 },
	/* nothing at all */
	{ "", "b", "x.com", 32 },
	{ "binding default { max_outbound_connections = 9 }", "nosuch", "x.com", 9 },
	{ "binding_group g { binding default { max_outbound_connections = 9 } }", "default", "", 9 },
	{ "binding B { max_outbound_connections = 9 } binding b { }", "b", "", 32 },
	{ "binding b { domain x.com { max_outbound_connections = 9 } }", "b", "", 32 },
	/* exact before expressions, these in order, an unset one passed over */
	{ "domain \"/x/\" { max_outbound_connections = 1 } domain x.com { max_outbound_connections = 2 }", "b", "x.com",
	  2 },
	{ "domain \"/x/\" { max_outbound_connections = 1 } domain x.com { }", "b", "x.com", 1 },
	{ "domain \"/x/\" { } domain \"/com/\" { max_outbound_connections = 2 } "
	  "domain \"/x/\" { max_outbound_connections = 1 }",
	  "b", "x.com", 1 },
	{ "domain /x[.](com|org)$/{ max_outbound_connections = 4 }", "b", "BADX.ORG", 4 },
	{ "domain \"/^X[.]COM$/\" { max_outbound_connections = 4 }", "b", "x.com", 4 },
	{ "domain /^x[.](com|org)$/{ max_outbound_connections = 4 }", "b", "badx.org", 32 },
	{ "domain /(a+)+$/ { max_outbound_connections = 4 }", "b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", 32 },
	/* one spelling */
	{ "domain X.COM. { max_outbound_connections = 7 }", "b", "x.com", 7 },
	{ "domain x.com { max_outbound_connections = 7 }", "b", "X.com.", 7 },
	{ "domain \"192.0.2.1\" { max_outbound_connections = 7 }", "b", "[192.0.2.1]", 7 },
	{ "domain \"[IPv6:2001:DB8:0::1]\" { max_outbound_connections = 7 }", "b", "[ipv6:2001:db8::1]", 7 },
	/* stanzas add up, the last value counts, also over includes of the same stanza */
	{ "domain x.com { max_outbound_connections = 7 } Domain \"x.com\" = { retry_interval = 1 }", "b", "x.com", 7 },
	{ "domain x.com { max_outbound_connections = 7 } domain X.com { max_outbound_connections = 8 }", "b", "x.com",
	  8 },
	/* unlimited is a value */
	{ "max_outbound_connections = 5 binding b { max_outbound_connections = -1 }", "b", "x.com", -1 },
};

static void
sending_follows_the_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(sending) / sizeof(sending[0]); i++) {
		const struct sending *t = &sending[i];
		struct conf *c = load_good(t->text);
		const struct conf_view *v = conf_sending(c, slice_str(t->binding), slice_str(t->domain));

		if (conf_int(v, OPT_MAX_OUTBOUND_CONNECTIONS) != t->connections)
			fail_msg("%s: %s to %s: got %lld", t->text, t->binding, t->domain,
				 (long long)conf_int(v, OPT_MAX_OUTBOUND_CONNECTIONS));
		conf_unref(&c);
	}
}

static void
places_that_say_nothing_share_a_view(void **state)
{
	struct conf *c = load_good("domain x.com { retry_interval = 1 } domain y.com { } binding a { } binding b { }");
	const struct conf_view *plain = conf_sending(c, SLICE("a"), SLICE("z.com"));

	(void)state;
	assert_ptr_equal(plain, conf_sending(c, SLICE("b"), SLICE("y.com")));
	assert_ptr_equal(plain, conf_sending(c, SLICE("default"), SLICE("")));
	assert_ptr_not_equal(plain, conf_sending(c, SLICE("a"), SLICE("x.com")));
	assert_ptr_equal(conf_sending(c, SLICE("a"), SLICE("x.com")), conf_sending(c, SLICE("b"), SLICE("X.COM")));
	conf_unref(&c);
}

static void
a_shared_rate_has_one_origin(void **state)
{
	const char *text = "outbound_throttle_messages = \"10/60\" binding a { } "
			   "binding b { outbound_throttle_messages = 5 domain x.com { } }";
	struct conf *c = load_good(text), *again = load_good(text);
	const struct conf_view *a = conf_sending(c, SLICE("a"), SLICE("x.com"));
	const struct conf_view *b = conf_sending(c, SLICE("b"), SLICE("x.com"));

	(void)state;
	assert_int_equal(conf_rate(a, OPT_OUTBOUND_THROTTLE_MESSAGES).n, 10);
	assert_int_equal(conf_rate(a, OPT_OUTBOUND_THROTTLE_MESSAGES).seconds, 60);
	assert_int_equal(conf_rate(b, OPT_OUTBOUND_THROTTLE_MESSAGES).seconds, 1);
	assert_true(conf_origin(a, OPT_OUTBOUND_THROTTLE_MESSAGES) != 0);
	assert_true(conf_origin(a, OPT_OUTBOUND_THROTTLE_MESSAGES) ==
		    conf_origin(conf_global(again), OPT_OUTBOUND_THROTTLE_MESSAGES));
	assert_true(conf_origin(a, OPT_OUTBOUND_THROTTLE_MESSAGES) != conf_origin(b, OPT_OUTBOUND_THROTTLE_MESSAGES));
	assert_true(conf_origin(b, OPT_OUTBOUND_THROTTLE_MESSAGES) ==
		    conf_origin(conf_sending(again, SLICE("b"), SLICE("y")), OPT_OUTBOUND_THROTTLE_MESSAGES));
	assert_true(conf_origin(a, OPT_RETRY_INTERVAL) == 0);
	conf_unref(&c);
	conf_unref(&again);
}

/* For people: where a value is written, as what, and in which scope. */
static void
a_value_says_where_it_is_from(void **state)
{
	struct conf *c = load_good("retry_interval = 60\nbinding a {\n domain x.com {\n  routes = ( a b )\n }\n}\n");
	const struct conf_view *v = conf_sending(c, SLICE("a"), SLICE("x.com"));
	struct bytes out = { 0 };

	(void)state;
	conf_where(v, OPT_RETRY_INTERVAL, &out);
	bytes_add_char(&out, '|');
	conf_written(v, OPT_RETRY_INTERVAL, &out);
	bytes_add_char(&out, '|');
	conf_where(v, OPT_ROUTES, &out);
	bytes_add_char(&out, '|');
	conf_written(v, OPT_ROUTES, &out);
	bytes_add_char(&out, '|');
	conf_where(v, OPT_OUTBOUND_THROTTLE_MESSAGES, &out);
	bytes_add_char(&out, '|');
	conf_written(v, OPT_OUTBOUND_THROTTLE_MESSAGES, &out);
	assert_string_equal(bytes_cstr(&out), "test.conf:1|60|test.conf:4|a b|default|");
	assert_int_equal(conf_origin_scope(v, OPT_RETRY_INTERVAL), IN_GLOBAL);
	assert_int_equal(conf_origin_scope(v, OPT_ROUTES), IN_DOMAIN);
	assert_int_equal(conf_origin_scope(v, OPT_OUTBOUND_THROTTLE_MESSAGES), 0);
	bytes_fini(&out);
	conf_unref(&c);
}

/* Receiving */

struct receiving {
	const char *text, *peer, *pathway;
	int64_t idle;
};

#define PATHS "pathway p { idle_time = 7 } pathway_group q { idle_time = 8 pathway r { } } "

static const struct receiving receiving[] = {
	{ "esmtp_listener { idle_time = 1 listen :25 { } }", "192.0.2.1", NULL, 1 },
	{ "esmtp_listener { idle_time = 1 listen :25 { idle_time = 2 } }", "192.0.2.1", NULL, 2 },
	{ "esmtp_listener { idle_time = 1 listen :25 { idle_time = 2 } peer 192.0.2.0/24 { idle_time = 3 } }",
	  "192.0.2.1", NULL, 3 },
	{ "esmtp_listener { listen :25 { idle_time = 2 } peer 192.0.2.0/24 { idle_time = 3 } }", "192.0.3.1", NULL, 2 },
	{ "esmtp_listener { listen :25 { peer 192.0.2.0/24 { idle_time = 4 } } peer 192.0.2.1 { idle_time = 3 } }",
	  "192.0.2.1", NULL, 4 },
	{ "esmtp_listener { listen :25 { peer 0.0.0.0/0 { idle_time = 4 } peer 192.0.0.0/8 { idle_time = 5 } "
	  "peer 192.0.2.1/32 { } } }",
	  "192.0.2.1", NULL, 5 },
	{ "esmtp_listener { listen :25 { peer 2001:db8::/32 { idle_time = 6 } } }", "2001:db8::1", NULL, 6 },
	{ "esmtp_listener { listen :25 { peer 192.0.2.1 { idle_time = 6 } } }", "::ffff:192.0.2.1", NULL, 6 },
	{ "esmtp_listener { listen :25 { peer 127.0.0.0/8 { idle_time = 6 } } }", "unix", NULL, 6 },
	{ "esmtp_listener { listen :25 { peer ::1 { idle_time = 6 } } }", "unix", NULL, 6 },
	{ "esmtp_listener { listen :25 { peer 0.0.0.0/0 { idle_time = 6 } } }", "2001:db8::1", NULL, 0 },
	/* a pathway stands behind the scope that names it, before the next */
	{ PATHS "esmtp_listener { idle_time = 1 listen :25 { pathway = p } }", "192.0.2.1", NULL, 7 },
	{ PATHS "esmtp_listener { idle_time = 1 listen :25 { pathway = p idle_time = 2 } }", "192.0.2.1", NULL, 2 },
	{ PATHS "esmtp_listener { idle_time = 1 listen :25 { pathway = r } }", "192.0.2.1", NULL, 8 },
	{ PATHS "esmtp_listener { idle_time = 1 pathway = p listen :25 { } }", "192.0.2.1", NULL, 1 },
	{ PATHS "esmtp_listener { idle_time = 1 listen :25 { idle_time = 2 } }", "192.0.2.1", "p", 7 },
	{ PATHS "esmtp_listener { idle_time = 1 listen :25 { } }", "192.0.2.1", "nosuch", 1 },
	{ "pathway default { idle_time = 9 } esmtp_listener { listen :25 { } }", "192.0.2.1", NULL, 9 },
	{ "pathway_group default { idle_time = 9 } esmtp_listener { listen :25 { } }", "192.0.2.1", NULL, 9 },
	{ PATHS "pathway default { idle_time = 9 } esmtp_listener { pathway = p listen :25 { } }", "192.0.2.1", NULL,
	  7 },
	{ "esmtp_listener { listen :25 { } listen \"*:25\" { idle_time = 5 } }", "192.0.2.1", NULL, 5 },
};

static const struct sockaddr *
peer_address(const char *text)
{
	static struct sockaddr_in in;
	static struct sockaddr_in6 in6;
	static struct sockaddr_un un = { .sun_family = AF_UNIX };

	in = (struct sockaddr_in){ .sin_family = AF_INET };
	in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6 };
	if (strcmp(text, "unix") == 0)
		return (const struct sockaddr *)&un;
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		return (const struct sockaddr *)&in;
	assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
	return (const struct sockaddr *)&in6;
}

static void
receiving_follows_the_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(receiving) / sizeof(receiving[0]); i++) {
		const struct receiving *t = &receiving[i];
		struct conf *c = load_good(t->text);
		const struct conf_view *v = conf_receiving(c, 0, peer_address(t->peer), t->pathway);

		if (conf_int(v, OPT_IDLE_TIME) != t->idle)
			fail_msg("%s: %s: got %lld", t->text, t->peer, (long long)conf_int(v, OPT_IDLE_TIME));
		conf_unref(&c);
	}
}

static void
lists_and_dictionaries_are_replaced_whole(void **state)
{
	struct conf *c =
		load_good("relay_hosts = ( 10.0.0.0/8 ) esmtp_listener { context = [ a = 1 b = 2 ] "
			  "listen :25 { peer 127.0.0.0/8 { relay_hosts ( 127.0.0.1 ) context [ \"a\" 3 ] } } }");
	const struct conf_view *v = conf_receiving(c, 0, peer_address("127.0.0.1"), NULL);

	(void)state;
	assert_int_equal(conf_list(v, OPT_RELAY_HOSTS).n, 1);
	assert_true(conf_has_addr(v, OPT_RELAY_HOSTS, peer_address("127.0.0.1")));
	assert_false(conf_has_addr(v, OPT_RELAY_HOSTS, peer_address("10.0.0.1")));
	assert_int_equal(conf_dict(v, OPT_CONTEXT).n, 1);
	assert_string_equal(conf_dict(v, OPT_CONTEXT).v[0].key, "a");
	assert_string_equal(conf_dict(v, OPT_CONTEXT).v[0].value, "3");
	v = conf_receiving(c, 0, peer_address("192.0.2.1"), NULL);
	assert_int_equal(conf_dict(v, OPT_CONTEXT).n, 2);
	assert_true(conf_has_addr(v, OPT_RELAY_HOSTS, peer_address("10.255.0.1")));
	conf_unref(&c);
}

/* Matching */

static void
networks_contain_what_they_say(void **state)
{
	static const struct {
		const char *net, *addr;
		bool want;
	} t[] = {
		{ "192.0.2.0/24", "192.0.2.255", true },
		{ "192.0.2.0/24", "192.0.3.0", false },
		{ "192.0.2.9/24", "192.0.2.1", true },
		{ "0.0.0.0/0", "203.0.113.9", true },
		{ "192.0.2.128/25", "192.0.2.127", false },
		{ "192.0.2.128/25", "192.0.2.128", true },
		{ "192.0.2.1", "192.0.2.1", true },
		{ "192.0.2.1", "192.0.2.2", false },
		{ "2001:db8::/33", "2001:db8:7fff::", true },
		{ "2001:db8::/33", "2001:db8:8000::", false },
		{ "::/0", "192.0.2.1", false },
		{ "::1", "0:0::1", true },
		{ "192.0.2.0/24", "::ffff:192.0.2.7", true },
		{ "127.0.0.1", "unix", true },
		{ "::1/128", "unix", true },
		{ "10.0.0.0/8", "unix", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char text[128];
		struct conf *c;

		snprintf(text, sizeof(text), "relay_hosts = ( \"%s\" )", t[i].net);
		c = load_good(text);
		if (conf_has_addr(conf_global(c), OPT_RELAY_HOSTS, peer_address(t[i].addr)) != t[i].want)
			fail_msg("%s in %s", t[i].addr, t[i].net);
		conf_unref(&c);
	}
}

static void
domain_globs_match_at_the_left_end(void **state)
{
	static const struct {
		const char *list, *domain;
		bool want;
	} t[] = {
		{ "example.com", "EXAMPLE.com", true },
		{ "example.com", "example.com.", true },
		{ "example.com", "a.example.com", false },
		{ "*.example.com", "a.example.com", true },
		{ "*.example.com", "example.com", false },
		{ "*.example.com", "b.a.EXAMPLE.com", true },
		{ "*.example.com", ".example.com", false },
		{ "*.example.com", "badexample.com", false },
		{ "*example.com", "badexample.com", true },
		{ "*example.com", "example.com", true },
		{ "*example.com", "example.com.evil", false },
		{ "*", "anything.test", true },
		{ "x.com", "", false },
		{ "[192.0.2.1]", "[192.0.2.1]", true },
		{ "b.com a.com c.com", "a.com", true },
		{ "*.b.com *.a.com", "x.a.com", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char text[128];
		struct conf *c;

		if (t[i].list[0] == '[')
			snprintf(text, sizeof(text), "relay_domains = ( \"%s\" )", t[i].list);
		else
			snprintf(text, sizeof(text), "relay_domains = ( %s )", t[i].list);
		c = load_good(text);
		if (conf_has_domain(conf_global(c), OPT_RELAY_DOMAINS, slice_str(t[i].domain)) != t[i].want)
			fail_msg("%s in ( %s )", t[i].domain, t[i].list);
		conf_unref(&c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sending_follows_the_order),
		cmocka_unit_test(places_that_say_nothing_share_a_view),
		cmocka_unit_test(a_shared_rate_has_one_origin),
		cmocka_unit_test(a_value_says_where_it_is_from),
		cmocka_unit_test(receiving_follows_the_order),
		cmocka_unit_test(lists_and_dictionaries_are_replaced_whole),
		cmocka_unit_test(networks_contain_what_they_say),
		cmocka_unit_test(domain_globs_match_at_the_left_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
