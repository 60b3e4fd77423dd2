/* What a command says: once for people, once for programs; nothing that others said gets through raw. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/console/answer.h"

static const char *const columns[] = { "name", "n" };

static void
fill(struct answer *a)
{
	answer_str(a, "who", SLICE("a\"b\\c\x01\xff\xc3\xa4"));
	answer_num(a, "count", -3);
	answer_time(a, "at", 86400 * USEC_PER_SEC);
	answer_table(a, "rows", columns, 2);
	answer_cell_str(a, SLICE("x\ny"));
	answer_cell_num(a, 1);
	answer_cell_str(a, SLICE("longer"));
	answer_cell_num(a, 22);
	answer_table_end(a, "none");
}

static void
check(bool json, void (*say)(struct answer *a), const char *want)
{
	struct answer a;
	struct bytes got = { 0 };

	answer_init(&a, json);
	say(&a);
	bytes_add_slice(&got, answer_text(&a));
	assert_string_equal(bytes_cstr(&got), want);
	bytes_fini(&got);
	answer_fini(&a);
}

static void
an_object_for_programs(void **state)
{
	(void)state;
	check(true, fill,
	      "{\"who\":\"a\\\"b\\\\c\\u0001\\ufffd\xc3\xa4\",\"count\":-3,\"at\":86400,"
	      "\"rows\":[{\"name\":\"x\\u000ay\",\"n\":1},{\"name\":\"longer\",\"n\":22}]}\n");
}

static void
lines_for_people(void **state)
{
	(void)state;
	check(false, fill,
	      "who                      a\"b\\c??\xc3\xa4\n"
	      "count                    -3\n"
	      "at                       1970-01-02 00:00:00\n"
	      "name    n\n"
	      "x?y     1\n"
	      "longer  22\n");
}

static void
say_empty(struct answer *a)
{
	answer_table(a, "rows", columns, 2);
	answer_table_end(a, "nothing there");
	answer_say(a, "%d of %d", 1, 2);
	answer_time(a, "due", 0);
}

static void
an_empty_table_and_prose(void **state)
{
	(void)state;
	check(false, say_empty, "nothing there\n1 of 2\ndue                      now\n");
	check(true, say_empty, "{\"rows\":[],\"message\":\"1 of 2\",\"due\":0}\n");
}

static void
say_lines(struct answer *a)
{
	answer_lines(a, "hosts", SLICE("one\ntwo\x01\n"));
	answer_lines(a, "none", SLICE(""));
}

static void
lines_one_below_the_other(void **state)
{
	(void)state;
	check(false, say_lines, "hosts                    one\n                         two?\n");
	check(true, say_lines, "{\"hosts\":[\"one\",\"two\\u0001\"],\"none\":[]}\n");
}

static void
say_nothing(struct answer *a)
{
	answer_str(a, "forgotten", SLICE("x"));
	answer_reset(a);
}

static void
what_is_reset_is_forgotten(void **state)
{
	(void)state;
	check(false, say_nothing, "");
	check(true, say_nothing, "{}\n");
}

static void
say_line(struct answer *a)
{
	answer_line(a, SLICE("  a\tb\x1b[31m"));
}

static void
a_line_cannot_move_the_cursor(void **state)
{
	(void)state;
	check(false, say_line, "  a?b?[31m\n");
}

/* Sequences at the edges of UTF-8 (RFC 3629): overlong, surrogate, too large, cut. */
static void
only_utf8_is_json(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "\xc0\x80", "\\ufffd\\ufffd" },
		{ "\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd" },
		{ "\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd" },
		{ "\xe2\x82", "\\ufffd\\ufffd" },
		{ "\xe2\x82\xac", "\xe2\x82\xac" },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct answer a;
		struct bytes got = { 0 }, want = { 0 };

		answer_init(&a, true);
		answer_str(&a, "s", slice_str(rows[i].in));
		bytes_add_slice(&got, answer_text(&a));
		bytes_addf(&want, "{\"s\":\"%s\"}\n", rows[i].out);
		assert_string_equal(bytes_cstr(&got), bytes_cstr(&want));
		bytes_fini(&got);
		bytes_fini(&want);
		answer_fini(&a);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_object_for_programs),     cmocka_unit_test(lines_for_people),
		cmocka_unit_test(an_empty_table_and_prose),   cmocka_unit_test(lines_one_below_the_other),
		cmocka_unit_test(what_is_reset_is_forgotten), cmocka_unit_test(a_line_cannot_move_the_cursor),
		cmocka_unit_test(only_utf8_is_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
