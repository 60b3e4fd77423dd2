/* spool/format: addresses and paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spool/format/addr.h"

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
	const char *in;
	unsigned allow;
	enum err result;
	const char *local, *domain, *rest;
} paths[] = {
	{ "<a@b>", 0, OK, "a", "b", "" },
	{ "<a@b.example> SIZE=1", 0, OK, "a", "b.example", " SIZE=1" },
	{ "<a.b+c=d@b-c.example>", 0, OK, "a.b+c=d", "b-c.example", "" },
	{ "<!#$%&'*+-/=?^_`{|}~@b>", 0, OK, "!#$%&'*+-/=?^_`{|}~", "b", "" },
	{ "<>", ADDR_NULL, OK, "", "", "" },
	{ "<>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	/* the left side is never looked into: the domain is what stands behind the last @ outside quotes */
	{ "<a%c.example@b>", 0, OK, "a%c.example", "b", "" },
	{ "<c.example!a@b>", 0, OK, "c.example!a", "b", "" },
	{ "<\"a@c.example\"@b>", 0, OK, "\"a@c.example\"", "b", "" },
	{ "<\"a\\\"@c\"@b>", 0, OK, "\"a\\\"@c\"", "b", "" },
	{ "<\">\"@b>", 0, OK, "\">\"", "b", "" },
	{ "<\" \"@b>", 0, OK, "\" \"", "b", "" },
	{ "<\"\"@b>", 0, OK, "\"\"", "b", "" },
	{ "<a@c@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<\"a\"b@c>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<\"a@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<\"a\\\n\"@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<\"a\n\"@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	/* routes */
	{ "<@x:a@b>", 0, OK, "a", "b", "" },
	{ "<@x,@[192.0.2.1]:a@b>", 0, OK, "a", "b", "" },
	{ "<@x:>", ADDR_NULL, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<@x,a@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<@x@y:a@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<@x", 0, ERR_SYNTAX, NULL, NULL, NULL },
	/* domains */
	{ "<a@b.>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@.b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@b..c>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@-b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@b->", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@b_c>", 0, OK, "a", "b_c", "" },
	{ "<a@b%2e>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@b c>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@" X64 ">", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@[192.0.2.1]>", 0, OK, "a", "[192.0.2.1]", "" },
	{ "<a@[IPv6:2001:db8::1]>", 0, OK, "a", "[IPv6:2001:db8::1]", "" },
	{ "<a@[ipv6:::1]>", 0, OK, "a", "[ipv6:::1]", "" },
	{ "<a@[192.0.2]>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@[IPv6:192.0.2.1]>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@[]>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@[192.0.2.1>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a@[192.0.2.1]b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	/* dots of the local part */
	{ "<.a@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a.@b>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a..b@c>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a b@c>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a\t@c>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	/* without a domain */
	{ "<postmaster>", ADDR_POSTMASTER, OK, "postmaster", "", "" },
	{ "<POSTMASTER>", ADDR_POSTMASTER, OK, "POSTMASTER", "", "" },
	{ "<postmaster>", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<other>", ADDR_POSTMASTER, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<other>", ADDR_BARE_LOCAL, OK, "other", "", "" },
	/* lengths, 8-bit */
	{ "<" X64 X64 "@b>", 0, OK, X64 X64, "b", "" },
	{ "<" X64 X64 "x@b>", 0, ERR_RANGE, NULL, NULL, NULL },
	{ "<\303\244@b>", 0, ERR_UNSUPPORTED, NULL, NULL, NULL },
	{ "<\303\244@b\303\274cher.example>", ADDR_UTF8, OK, "\303\244", "b\303\274cher.example", "" },
	{ "<\300\257@b>", ADDR_UTF8, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<a", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "a@b", 0, ERR_SYNTAX, NULL, NULL, NULL },
	{ "<", ADDR_NULL, ERR_SYNTAX, NULL, NULL, NULL },
	{ "", ADDR_NULL, ERR_SYNTAX, NULL, NULL, NULL },
};

static void
paths_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		struct slice in = slice_str(paths[i].in);
		struct addr a = { 0 };
		enum err e = addr_take_path(&in, paths[i].allow, &a);

		if (e != paths[i].result)
			fail_msg("%s: %s", paths[i].in, err_text(e));
		if (e != OK) {
			assert_true(slice_eq(in, slice_str(paths[i].in)));
			continue;
		}
		assert_true(slice_eq(a.local, slice_str(paths[i].local)));
		assert_true(slice_eq(a.domain, slice_str(paths[i].domain)));
		assert_true(slice_eq(in, slice_str(paths[i].rest)));
		assert_int_equal(a.null, a.text.n == 0);
		assert_int_equal(a.literal, a.domain.n > 0 && a.domain.p[0] == '[');
	}
}

static void
addresses_without_brackets(void **state)
{
	struct addr a;
	struct bytes value = { 0 };

	(void)state;
	assert_int_equal(addr_parse(SLICE("a@b"), 0, &a), OK);
	assert_int_equal(addr_parse(SLICE(""), 0, &a), ERR_SYNTAX);
	assert_int_equal(addr_parse(SLICE(""), ADDR_NULL, &a), OK);
	assert_int_equal(addr_parse(SLICE("a@b>"), 0, &a), ERR_SYNTAX);
	assert_int_equal(addr_parse(SLICE("\"a\\\"b c\"@d"), 0, &a), OK);
	addr_local_value(&a, &value);
	assert_string_equal(bytes_cstr(&value), "a\"b c");
	bytes_fini(&value);
}

static void
utf8_table(void **state)
{
	static const struct {
		const char *in;
		bool good;
	} rows[] = { { "", true },
		     { "abc", true },
		     { "\303\244", true },
		     { "\342\202\254", true },
		     { "\360\237\230\200", true },
		     { "\364\217\277\277", true },
		     { "\300\200", false },
		     { "\301\277", false },
		     { "\340\237\277", false },
		     { "\355\240\200", false },
		     { "\360\217\277\277", false },
		     { "\364\220\200\200", false },
		     { "\365\200\200\200", false },
		     { "\200", false },
		     { "\303", false },
		     { "\342\202", false },
		     { "\303a", false } };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_int_equal(utf8_valid(slice_str(rows[i].in)), rows[i].good);
}

static void
literals(void **state)
{
	struct sockaddr_storage ss;

	(void)state;
	assert_true(domain_literal(SLICE("[192.0.2.1]"), &ss));
	assert_int_equal(ss.ss_family, AF_INET);
	assert_true(domain_literal(SLICE("[IPv6:2001:db8::1]"), &ss));
	assert_int_equal(ss.ss_family, AF_INET6);
	assert_false(domain_literal(SLICE("192.0.2.1"), &ss));
	assert_false(domain_literal(SLICE("[192.0.2.1\0]"), &ss));
	assert_false(domain_valid(SLICE("[192.0.2.1]"), false));
	assert_true(domain_valid(SLICE("mx.example"), false));
	assert_false(domain_valid(SLICE("mx.example."), false));
	assert_false(domain_valid(SLICE(""), false));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_table),
		cmocka_unit_test(addresses_without_brackets),
		cmocka_unit_test(utf8_table),
		cmocka_unit_test(literals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
