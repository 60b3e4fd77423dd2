/* policy/conf: what is written is understood: words, values, stanzas, files, and the printed configuration. */
#include "t/unit/policy/conf/conf_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Words */

static void
words_are_read_as_written(void **state)
{
	static const struct {
		const char *text, *want;
	} t[] = {
		{ "hostname = mx", "mx" },
		{ "HostName=mx", "mx" },
		{ "hostname = \"a b\" # c", "a b" },
		{ "# c\n/* d * / e */ hostname /* f */ = /* g */ mx", "mx" },
		{ "hostname = a/*b", "a/*b" },
		{ "hostname = /var/x", "/var/x" },
		{ "hostname = a,b;c", "a,b;c" },
		{ "hostname = \"a\\\"b\\\\c\\n\\r\\td\\.e\"", "a\"b\\c\n\r\td\\.e" },
		{ "hostname = \"two\nlines\"", "two\nlines" },
		{ "hostname = \"^b-\\d+@\"", "^b-\\d+@" },
		{ "hostname = \"\"", "" },
		{ "hostname = mx retry_interval = 5", "mx" },
		{ "retry_interval=5hostname=mx", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct conf_errors errs = { 0 };
		struct conf *c = load_text(t[i].text, false, &errs);

		if ((c == NULL) != (t[i].want == NULL))
			fail_msg("%s\n%s", t[i].text, reports(&errs));
		if (c != NULL)
			assert_string_equal(conf_str(conf_global(c), OPT_HOSTNAME), t[i].want);
		conf_unref(&c);
		conf_errors_fini(&errs);
	}
}

static void
values_have_their_types(void **state)
{
	struct conf *c =
		load_good("suspend_delivery = ENABLED workers = AUTO in_doubt = Hold blackhole = yes "
			  "max_outbound_connections = -1 routes ( \"a\", \"b\",c, d ) retry_interval = \"60\"");
	const struct conf_view *g = conf_global(c);

	(void)state;
	assert_true(conf_bool(g, OPT_SUSPEND_DELIVERY));
	assert_int_equal(conf_int(g, OPT_WORKERS), WORKERS_AUTO);
	assert_int_equal(conf_int(g, OPT_IN_DOUBT), IN_DOUBT_HOLD);
	assert_int_equal(conf_int(g, OPT_BLACKHOLE), BLACKHOLE_INLINE);
	assert_int_equal(conf_int(g, OPT_MAX_OUTBOUND_CONNECTIONS), -1);
	assert_int_equal(conf_int(g, OPT_RETRY_INTERVAL), 60);
	assert_int_equal(conf_list(g, OPT_ROUTES).n, 4);
	assert_string_equal(conf_list(g, OPT_ROUTES).v[1], "b");
	assert_string_equal(conf_list(g, OPT_ROUTES).v[2], "c,");
	assert_int_equal(conf_int(conf_stanza(c, IN_ESMTP_LISTENER), OPT_FILE_MODE), 0660);
	assert_false(conf_is_set(g, OPT_GATEWAY));
	assert_true(conf_is_set(g, OPT_BIND_ADDRESS));
	assert_string_equal(conf_str(g, OPT_GATEWAY), "");
	conf_unref(&c);
}

static void
every_spelling_of_a_boolean(void **state)
{
	static const char *const words[2][5] = { { "false", "off", "Disabled", "no", "\"0\"" },
						 { "TRUE", "on", "enabled", "yes", "1" } };

	(void)state;
	for (int b = 0; b < 2; b++)
		for (int i = 0; i < 5; i++) {
			char text[64];
			struct conf *c;

			snprintf(text, sizeof(text), "suspend_delivery = %s", words[b][i]);
			c = load_good(text);
			assert_int_equal(conf_bool(conf_global(c), OPT_SUSPEND_DELIVERY), b);
			conf_unref(&c);
		}
}

/* Lists of what there is */

static void
listens_are_normalised(void **state)
{
	static const struct {
		const char *written, *text;
		int family;
	} t[] = {
		{ ":25", "*:25", AF_INET },
		{ "*:25", "*:25", AF_INET },
		{ "192.0.2.1:0", "192.0.2.1:0", AF_INET },
		{ "[*]:25", "[*]:25", AF_INET6 },
		{ "[::]:25", "[*]:25", AF_INET6 },
		{ "[2001:DB8:0::1]:587", "[2001:db8::1]:587", AF_INET6 },
		{ "/run/x/control", "/run/x/control", AF_UNIX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char text[96];
		struct conf *c;

		snprintf(text, sizeof(text), "esmtp_listener { listen \"%s\" { } }", t[i].written);
		c = load_good(text);
		assert_int_equal(conf_listen_count(c), 1);
		assert_string_equal(conf_listen_at(c, 0)->text, t[i].text);
		assert_int_equal(conf_listen_at(c, 0)->sa.ss_family, t[i].family);
		conf_unref(&c);
	}
}

static void
listens_come_in_order_without_disabled_ones(void **state)
{
	struct conf *c = load_good("control_listener { listen /x { file_mode = 0600 } } "
				   "esmtp_listener { listen :25 { } listen :26 { enable = off } listen :27 { } }");

	(void)state;
	assert_int_equal(conf_listen_count(c), 3);
	assert_int_equal(conf_listen_at(c, 0)->kind, LISTEN_CONTROL);
	assert_int_equal(conf_int(conf_listen_at(c, 0)->view, OPT_FILE_MODE), 0600);
	assert_int_equal(conf_listen_at(c, 1)->kind, LISTEN_ESMTP);
	assert_int_equal(conf_int(conf_listen_at(c, 1)->view, OPT_FILE_MODE), 0660);
	assert_string_equal(conf_listen_at(c, 2)->text, "*:27");
	conf_unref(&c);
}

static void
bindings_are_found_by_name(void **state)
{
	struct conf *c = load_good("binding out2 { } binding_group g { binding out1 { } } binding Out1 { }");
	size_t i;

	(void)state;
	assert_int_equal(conf_binding_count(c), 4);
	assert_string_equal(conf_binding_name(c, 0), "default");
	assert_true(conf_binding_find(c, SLICE("out1"), &i));
	assert_string_equal(conf_binding_name(c, i), "out1");
	assert_string_equal(conf_binding_group(c, i), "g");
	assert_true(conf_binding_find(c, SLICE("Out1"), &i));
	assert_string_equal(conf_binding_group(c, i), "default");
	assert_true(conf_binding_find(c, SLICE("default"), &i));
	assert_int_equal(i, 0);
	assert_false(conf_binding_find(c, SLICE("out"), &i));
	assert_false(conf_binding_find(c, SLICE("out11"), &i));
	assert_false(conf_binding_find(c, SLICE(""), &i));
	conf_unref(&c);
}

static void
scripts_are_listed(void **state)
{
	struct conf *c = load_good(
		"scriptlet \"scriptlet\" { script \"site\" { source = \"site\" }\n script b { source = c } }");

	(void)state;
	assert_int_equal(conf_script_count(c), 2);
	assert_string_equal(conf_script_at(c, 0)->name, "site");
	assert_string_equal(conf_script_at(c, 1)->source, "c");
	assert_int_equal(conf_script_at(c, 1)->line, 2);
	assert_true(conf_has_stanza(c, IN_SCRIPTLET));
	assert_false(conf_has_stanza(c, IN_SECURITY));
	assert_string_equal(conf_str(conf_stanza(c, IN_SECURITY), OPT_USER), "impetus");
	conf_unref(&c);
}

static void
a_module_that_is_turned_off_is_not_there(void **state)
{
	struct conf *c = load_good("scriptlet { enabled = false script a { source = b } } ec_logger { enabled = no }");

	(void)state;
	assert_int_equal(conf_script_count(c), 0);
	assert_false(conf_has_stanza(c, IN_SCRIPTLET));
	assert_false(conf_has_stanza(c, IN_EC_LOGGER));
	conf_unref(&c);
}

static void
a_name_of_option_and_stanza_is_decided_by_what_follows(void **state)
{
	struct conf *c = load_good("pathway \"p\" { idle_time = 3 } esmtp_listener { pathway = \"p\" listen :25 { } }");

	(void)state;
	assert_int_equal(
		conf_int(conf_receiving(c, 0, (const struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET },
					NULL),
			 OPT_IDLE_TIME),
		3);
	conf_unref(&c);
}

static void
a_reference_keeps_it(void **state)
{
	struct conf *c = load_good("hostname = x"), *second = conf_ref(c);

	(void)state;
	conf_unref(&c);
	assert_null(c);
	assert_string_equal(conf_str(conf_global(second), OPT_HOSTNAME), "x");
	conf_unref(&second);
	conf_unref(&second);
}

/* The printed configuration */

static void
what_is_printed_reads_back_the_same(void **state)
{
	struct conf *c =
		load_good("hostname = \"a\\\\\\\"b\\.c\nd\" relay_hosts = ( 127.0.0.0/8 \"::1\" ) "
			  "binding_group g { retry_interval = 7 binding b { domain \"/a\\d{2}/\" { gateway = x } } } "
			  "esmtp_listener { listen :25 { peer 10.0.0.0/8 { context = [ \"a b\" = \"}\" c = 2 ] } } } "
			  "security { chroot = /x }");
	struct bytes first = { 0 }, second = { 0 };
	struct conf *again;

	(void)state;
	conf_print(c, &first);
	again = load_good(bytes_cstr(&first));
	conf_print(again, &second);
	assert_string_equal(bytes_cstr(&first), bytes_cstr(&second));
	assert_non_null(strstr(first.p, "# max_outbound_connections = \"32\"\n"));
	assert_non_null(strstr(first.p, "\t# user = \"impetus\"\n\tchroot = \"/x\"\n"));
	assert_non_null(strstr(first.p, "\t\tDomain \"/a\\\\d{2}/\" {\n"));
	assert_string_equal(conf_str(conf_global(again), OPT_HOSTNAME), "a\\\"b\\.c\nd");
	conf_unref(&c);
	conf_unref(&again);
	bytes_fini(&first);
	bytes_fini(&second);
}

/* Files */

static char dir[] = "/tmp/conf-test-XXXXXX";

static void
put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static struct conf *
load_dir(const char *main_text, struct conf_errors *errs)
{
	char path[256];
	struct conf_source src = { .path = path, .tables = &test_table, .n_tables = 1 };

	put("main.conf", main_text);
	snprintf(path, sizeof(path), "%s/main.conf", dir);
	return conf_load(&src, errs);
}

static int
files_set_up(void **state)
{
	char path[256];

	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	for (const char *const *d = (const char *const[]){ "sub", "sub/d", "sub/d/deeper", "empty", NULL }; *d != NULL;
	     d++) {
		snprintf(path, sizeof(path), "%s/%s", dir, *d);
		mkdir(path, 0755);
	}
	put("sub/a.conf", "include \"b.conf\" include \"top.conf\"");
	put("sub/b.conf", "hostname = from-sub");
	put("b.conf", "hostname = from-top");
	put("top.conf", "retry_interval = 77");
	put("sub/d/20.conf", "hostname = twenty");
	put("sub/d/10.conf", "hostname = ten gateway = ten");
	put("sub/d/.hidden", "what is this");
	put("sub/d/deeper/30.conf", "neither is this");
	put("self.conf", "include \"self.conf\"");
	put("bad.conf", "\n   hostnme = x");
	put("inner.conf", "retry_interval = 5");
	return 0;
}

static int
files_tear_down(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void
includes_are_found_and_read_in_place(void **state)
{
	static const struct {
		const char *text, *hostname;
		int64_t retry;
	} t[] = {
		{ "include \"sub/a.conf\"", "from-sub", 77 },
		{ "include sub/d", "twenty", 1200 },
		{ "readonly_include \"sub/d\"", "twenty", 1200 },
		{ "include empty hostname = x", "x", 1200 },
		{ "include b.conf include b.conf", "from-top", 1200 },
		{ "hostname = x include \"b.conf\"", "from-top", 1200 },
		{ "include \"b.conf\" hostname = x", "x", 1200 },
		{ "include b.conf domain x.com { include inner.conf }", "from-top", 1200 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct conf_errors errs = { 0 };
		struct conf *c = load_dir(t[i].text, &errs);

		if (c == NULL)
			fail_msg("%s\n%s", t[i].text, reports(&errs));
		assert_string_equal(conf_str(conf_global(c), OPT_HOSTNAME), t[i].hostname);
		assert_int_equal(conf_int(conf_global(c), OPT_RETRY_INTERVAL), t[i].retry);
		assert_string_equal(conf_dir(c), dir);
		conf_unref(&c);
		conf_errors_fini(&errs);
	}
}

static void
an_include_inside_a_stanza_belongs_to_it(void **state)
{
	struct conf_errors errs = { 0 };
	struct conf *c = load_dir("domain x.com { include inner.conf }", &errs);

	(void)state;
	assert_non_null(c);
	assert_int_equal(conf_int(conf_sending(c, SLICE("b"), SLICE("x.com")), OPT_RETRY_INTERVAL), 5);
	conf_unref(&c);
	conf_errors_fini(&errs);
}

static void
an_absolute_include_is_taken_as_it_is(void **state)
{
	struct conf_errors errs = { 0 };
	char text[256];
	struct conf *c;

	(void)state;
	snprintf(text, sizeof(text), "include \"file://%s/sub/b.conf\" include \"%s/inner.conf\"", dir, dir);
	c = load_dir(text, &errs);
	assert_non_null(c);
	assert_string_equal(conf_str(conf_global(c), OPT_HOSTNAME), "from-sub");
	assert_int_equal(conf_int(conf_global(c), OPT_RETRY_INTERVAL), 5);
	conf_unref(&c);
	conf_errors_fini(&errs);
}

static void
what_cannot_be_included_is_an_error(void **state)
{
	static const struct {
		const char *text, *want;
	} t[] = {
		{ " include \"nosuch.conf\"", "main.conf:1:10: error: cannot open " },
		{ "include \"self.conf\"", "self.conf:1:9: error: " },
		{ "include \"main.conf\"", "main.conf includes itself" },
		{ "include \"http://x/y\"", "only files, by path or file://" },
		{ "include \"\"", "expected the name of a file" },
		{ "include =", "expected the name of a file" },
		{ "include /dev/null", "/dev/null is no file and no directory" },
		{ "include \"bad.conf\"", "bad.conf:2:4: error: there is no option hostnme; did you mean hostname?" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct conf_errors errs = { 0 };
		struct conf *c = load_dir(t[i].text, &errs);
		char *got = reports(&errs);

		if (c != NULL || strstr(got, t[i].want) == NULL)
			fail_msg("%s\nwant: %s\ngot:  %s", t[i].text, t[i].want, got);
		free(got);
		conf_errors_fini(&errs);
	}
}

static void
a_missing_main_file_is_an_error(void **state)
{
	struct conf_errors errs = { 0 };
	struct conf_source src = { .path = "/nonexistent/x.conf", .tables = &test_table, .n_tables = 1 };

	(void)state;
	assert_null(conf_load(&src, &errs));
	assert_string_equal(errs.v[0].file, "/nonexistent/x.conf");
	assert_non_null(strstr(errs.v[0].text, strerror(ENOENT)));
	conf_errors_fini(&errs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_read_as_written),
		cmocka_unit_test(values_have_their_types),
		cmocka_unit_test(every_spelling_of_a_boolean),
		cmocka_unit_test(listens_are_normalised),
		cmocka_unit_test(listens_come_in_order_without_disabled_ones),
		cmocka_unit_test(bindings_are_found_by_name),
		cmocka_unit_test(scripts_are_listed),
		cmocka_unit_test(a_module_that_is_turned_off_is_not_there),
		cmocka_unit_test(a_name_of_option_and_stanza_is_decided_by_what_follows),
		cmocka_unit_test(a_reference_keeps_it),
		cmocka_unit_test(what_is_printed_reads_back_the_same),
		cmocka_unit_test(includes_are_found_and_read_in_place),
		cmocka_unit_test(an_include_inside_a_stanza_belongs_to_it),
		cmocka_unit_test(an_absolute_include_is_taken_as_it_is),
		cmocka_unit_test(what_cannot_be_included_is_an_error),
		cmocka_unit_test(a_missing_main_file_is_an_error),
	};

	return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
