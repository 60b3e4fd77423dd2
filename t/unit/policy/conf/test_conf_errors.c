/* policy/conf: what is wrong is found, at its place, and said with what would be right. */
#include "t/unit/policy/conf/conf_test.h"

#include <stdlib.h>
#include <string.h>

struct bad {
	const char *text;
	const char *want; /* part of the first report */
};

/* clang-format off */
static const struct bad bad[] = {
	/* lexer */
	{ "hostname = \"x", "test.conf:1:12: error: this text does not end" },
	{ "/* hostname = x", "test.conf:1:1: error: this comment does not end" },
	{ "hostname = 'x'", "test.conf:1:12: error: a ' is no quote here" },
	/* grammar */
	{ "hostname", "test.conf:1:9: error: found the end of the file, expected =" },
	{ "hostname x", "test.conf:1:11: error: found the end of the file, expected { of a stanza; an option is written hostname = x" },
	{ "hostname = }", "test.conf:1:12: error: found }, expected a value" },
	{ "= x", "test.conf:1:1: error: found =, expected the name of an option" },
	{ "\"hostname\" = x", "test.conf:1:1: error: found \"hostname\", expected the name" },
	{ "host-name = x", "found \"host-name\", expected the name" },
	{ "}", "test.conf:1:1: error: found }, expected the name" },
	{ "domain \"x\" {", "test.conf:1:13: error: found the end of the file, expected the name of an option or stanza, or }" },
	{ "relay_hosts = ( \"127.0.0.1\"", "expected an item of the list, or )" },
	{ "context = [ a = ]", "found ], expected the value of the key before it" },
	{ "context = [ a = ( x ) ]", "found (, expected the value of the key before it" },
	{ "include \"x\"", "test.conf:1:9: error: no file can be included here" },
	/* names */
	{ "hostnme = x", "test.conf:1:1: error: there is no option hostnme; did you mean hostname?" },
	{ "\n  gatway = x", "test.conf:2:3: error: there is no option gatway; did you mean gateway?" },
	{ "qqqqqqqqqqqqqqqq = x", "there is no option qqqqqqqqqqqqqqqq" },
	{ "domian \"x\" { }", "test.conf:1:1: error: there is no stanza domian; did you mean domain?" },
	{ "domain = x", "domain is a stanza, no option; write domain { ... }" },
	{ "hostname { }", "hostname is an option, no stanza; write hostname = ..." },
	{ "domain \"x\" { hostname = x }", "test.conf:1:14: error: the option hostname cannot stand in domain; it belongs in global" },
	{ "open_relay = true", "cannot stand at the top level; it belongs in esmtp_listener, listen, peer, pathway and pathway_group" },
	{ "listen \":25\" { }", "the stanza listen cannot stand at the top level; it belongs in esmtp_listener and control_listener" },
	{ "control_listener { listen \"/x\" { open_relay = true } }", "the option open_relay cannot stand in listen" },
	{ "domain \"x\" { domain \"y\" { } }", "the stanza domain cannot stand in domain" },
	{ "domain \"x\" { binding \"y\" { } }", "the stanza binding cannot stand in domain" },
	/* instances */
	{ "domain { }", "domain needs a name" },
	{ "security \"x\" { }", "test.conf:1:10: error: found \"x\", expected {: security has no name" },
	{ "binding \"a b\" { }", "found \"a b\" for binding, expected a name without blanks and colons" },
	{ "binding \"a:b\" { }", "found \"a:b\" for binding" },
	{ "binding \"\" { }", "found \"\" for binding" },
	{ "domain \"*.example.com\" { }", "test.conf:1:8: error: found \"*.example.com\" for domain, expected the expression \"/[.]example[.]com$/\": globs match in lists only" },
	{ "binding \"b\" { domain \"*example.com\" { } }", "test.conf:1:22: error: found \"*example.com\" for domain, expected the expression \"/example[.]com$/\"" },
	{ "domain \"*\" { }", "options for every domain stand outside of domain stanzas" },
	{ "domain \"a.*.b\" { }", "found \"a.*.b\" for domain, expected a domain, an address" },
	{ "domain \"/(/\" { }", "the expression /(/ is not valid, at character 2" },
	{ "esmtp_listener { listen \"25\" { } }", "found \"25\" for listen, expected an address as *:25" },
	{ "esmtp_listener { listen \"1.2.3.4:65536\" { } }", "expected an address as" },
	{ "esmtp_listener { listen \"[::1:25\" { } }", "expected an address as" },
	{ "esmtp_listener { listen \"::1:25\" { } }", "expected an address as" },
	{ "esmtp_listener { peer \"10.0.0.0/33\" { } }", "found \"10.0.0.0/33\" for peer, expected an address, or a network" },
	{ "scriptlet \"a\" { } scriptlet \"b\" { }", "there can be one scriptlet; \"a\" is in test.conf, line 1" },
	{ "binding \"a\" { }\nbinding_group \"g\" { binding \"a\" { } }", "test.conf:2:21: error: the binding \"a\" is already in another place: test.conf, line 1" },
	{ "esmtp_listener { pathway = \"p\" }", "there is no pathway \"p\"" },
	{ "scriptlet { script \"s\" { } }", "the script \"s\" needs a source" },
	{ "esmtp_listener { listen \":25\" { } }\ncontrol_listener { listen \"*:25\" { } }", "test.conf:2:20: error: *:25 is already a listen of the other listener" },
	/* values */
	{ "retry_interval = 10m", "test.conf:1:18: error: found \"10m\" for retry_interval, expected a whole number" },
	{ "retry_interval = 99999999999999999999", "expected a whole number" },
	{ "max_outbound_connections = -2", "found \"-2\" for max_outbound_connections, expected a number from -1 to 1000" },
	{ "workers = many", "expected auto, or a whole number from 1 to 32" },
	{ "workers = 0", "expected auto, or a number from 1 to 32" },
	{ "suspend_delivery = maybe", "expected true or false" },
	{ "blackhole = outside", "expected false, inline, true or internal" },
	{ "in_doubt = drop", "expected retry, hold or done" },
	{ "esmtp_listener { file_mode = 660 }", "expected an octal mode with a leading 0" },
	{ "esmtp_listener { file_mode = 0990 }", "expected an octal mode with a leading 0" },
	{ "esmtp_listener { file_mode = 01777 }", "expected an octal mode with a leading 0" },
	{ "outbound_throttle_messages = 5/0", "expected a rate: N a second, or N/S in S seconds" },
	{ "outbound_throttle_messages = fast", "expected a rate" },
	{ "relay_hosts = ( \"127.0.0.1\" \"localhost\" )", "test.conf:1:29: error: found \"localhost\" for relay_hosts" },
	{ "relay_hosts = \"127.0.0.1\"", "relay_hosts takes a list: relay_hosts = ( \"...\" )" },
	{ "relay_domains = ( \"a.*.b\" )", "expected a domain with * at its left end only" },
	{ "hostname = ( x )", "hostname takes one value: hostname = \"...\"" },
	{ "esmtp_listener { context = x }", "context takes a dictionary: context = [ key = \"...\" ]" },
	{ "esmtp_listener { smtp_extensions = ( STARTTLS ) }", "found \"STARTTLS\" for smtp_extensions, expected ENHANCEDSTATUSCODES" },
	/* known, not built, and not safe to pass over */
	{ "tls = required", "test.conf:1:1: error: the option tls is not built in this version, and to ignore it would not be safe" },
	{ "domain \"x\" { tls_verify = host }", "test.conf:1:14: error: the option tls_verify is not built" },
	{ "spf_v1 \"x\" { }", "the stanza spf_v1 is not built in this version, and to ignore it would not be safe" },
	{ "esmtp_listener { listen \":25\" { use_ssl = true } }", "the option use_ssl is not built" },
	{ "security { capabilities = \"x\" }", "the option capabilities is not built" },
	{ "default_binding = none", "the option default_binding is not built" },
};
/* clang-format on */

static void
errors_say_where_and_what(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct conf_errors errs = { 0 };
		struct conf *c = load_text(bad[i].text, false, &errs);
		char *got = reports(&errs);

		if (c != NULL || strstr(got, bad[i].want) == NULL)
			fail_msg("%s\nwant: %s\ngot:  %s", bad[i].text, bad[i].want, got);
		free(got);
		conf_errors_fini(&errs);
	}
}

static void
all_errors_are_named_at_once(void **state)
{
	struct conf_errors errs = { 0 };

	(void)state;
	assert_null(load_text("hostnme = x\nworkers = many\ndomian \"x\" { }\n", false, &errs));
	assert_int_equal(errs.count[CONF_ERROR], 3);
	assert_int_equal(errs.v[2].line, 3);
	conf_errors_fini(&errs);
}

static void
what_is_not_built_is_named_once(void **state)
{
	const char *text = "xclient = no\npidfile = \"/x\"\npidfile = \"/y\"\nsnmp { port = 1 }\nlua_thing { }";
	struct conf_errors errs = { 0 };
	char *got;

	(void)state;
	assert_null(load_text(text, false, &errs));
	got = reports(&errs);
	assert_string_equal(got, "test.conf:1:1: not built: the option xclient is passed over by this version\n"
				 "test.conf:2:1: not built: the option pidfile is passed over by this version\n"
				 "test.conf:4:1: not built: the stanza snmp is passed over by this version\n"
				 "test.conf:5:1: error: there is no stanza lua_thing\n");
	free(got);
	conf_errors_fini(&errs);
}

static void
strict_makes_what_is_not_built_an_error(void **state)
{
	struct conf_errors errs = { 0 };
	struct conf *c = load_text("pidfile = \"/x\"", false, &errs);

	(void)state;
	assert_non_null(c);
	assert_int_equal(errs.count[CONF_NOT_BUILT], 1);
	conf_unref(&c);
	conf_errors_fini(&errs);
	assert_null(load_text("pidfile = \"/x\"", true, &errs));
	assert_int_equal(errs.count[CONF_ERROR], 1);
	conf_errors_fini(&errs);
}

static void
a_value_that_asks_for_nothing_is_never_refused(void **state)
{
	struct conf_errors errs = { 0 };
	struct conf *c = load_text("tls = NO delivery_method = smtp use_dane = false", false, &errs);

	(void)state;
	assert_non_null(c);
	assert_int_equal(errs.count[CONF_NOT_BUILT], 3);
	conf_unref(&c);
	conf_errors_fini(&errs);
}

static void
an_option_built_for_one_side_is_named_on_the_other(void **state)
{
	struct conf_errors errs = { 0 };
	struct conf *c = load_text("binding \"b\" { max_recipients_per_connection = 5 }", false, &errs);

	(void)state;
	assert_non_null(c);
	assert_int_equal(errs.count[CONF_NOT_BUILT], 1);
	conf_unref(&c);
	conf_errors_fini(&errs);
}

static void
a_value_that_is_replaced_is_warned_of(void **state)
{
	struct conf_errors errs = { 0 };
	struct conf *c = load_text("hostname = a\nhostname = b", false, &errs);

	(void)state;
	assert_non_null(c);
	assert_string_equal(conf_str(conf_global(c), OPT_HOSTNAME), "b");
	assert_int_equal(errs.count[CONF_WARNING], 1);
	assert_string_equal(errs.v[0].text, "hostname replaces the value of line 1");
	conf_unref(&c);
	conf_errors_fini(&errs);
}

static void
a_nul_byte_is_no_text(void **state)
{
	struct conf_errors errs = { 0 };
	struct conf_source src = { .path = "t", .text = { "a\n\0b", 4 }, .no_files = true };

	(void)state;
	assert_null(conf_load(&src, &errs));
	assert_int_equal(errs.v[0].line, 2);
	assert_int_equal(errs.v[0].column, 1);
	conf_errors_fini(&errs);
}

static void
deep_nesting_is_an_error_not_a_crash(void **state)
{
	struct conf_errors errs = { 0 };
	struct bytes text = { 0 };

	(void)state;
	for (int i = 0; i < 100000; i++)
		bytes_add_str(&text, "a{");
	assert_null(load_text(bytes_cstr(&text), false, &errs));
	assert_non_null(strstr(errs.v[0].text, "nested too deep"));
	bytes_fini(&text);
	conf_errors_fini(&errs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_say_where_and_what),
		cmocka_unit_test(all_errors_are_named_at_once),
		cmocka_unit_test(what_is_not_built_is_named_once),
		cmocka_unit_test(strict_makes_what_is_not_built_an_error),
		cmocka_unit_test(a_value_that_asks_for_nothing_is_never_refused),
		cmocka_unit_test(an_option_built_for_one_side_is_named_on_the_other),
		cmocka_unit_test(a_value_that_is_replaced_is_warned_of),
		cmocka_unit_test(a_nul_byte_is_no_text),
		cmocka_unit_test(deep_nesting_is_an_error_not_a_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
