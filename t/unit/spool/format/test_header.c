/* spool/format: where a header ends, its fields, and edits of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spool/format/header.h"

static void
where_the_header_ends(void **state)
{
	static const struct {
		const char *message;
		size_t header;
	} rows[] = {
		{ "", 0 },
		{ "\r\n", 0 },
		{ "A: b\r\n", 6 },
		{ "A: b\r\n\r\nC: d\r\n", 6 },
		{ "A: b\r\n c\r\n\td\r\n\r\n", 14 },
		{ "A: b\nC:d\n\nbody", 9 },
		{ "A : b\r\n\r\n", 7 },
		{ "no header at all\r\n", 0 },
		{ "From someone Fri Apr 06\r\nA: b\r\n\r\n", 0 },
		{ " folded first\r\nA: b\r\n", 0 },
		{ "A: b\r\nnot a field\r\nC: d\r\n\r\n", 6 },
		{ ": no name\r\n", 0 },
		{ "A: b", 4 },
		{ "A: b\r\n c", 8 },
		{ "A:\r\n\r\n", 4 },
		{ "\303\244: b\r\n\r\n", 7 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct slice m = slice_str(rows[i].message);
		bool ended;
		size_t seen = 0;

		if (header_length(m, true, &ended) != rows[i].header || !ended)
			fail_msg("%s: %zu", rows[i].message, header_length(m, true, &ended));
		/* From parts: never longer than it will be, never shorter than before; final once it says so. */
		for (size_t n = 0; n <= m.n; n++) {
			size_t part = header_length(slice_of(m.p, n), false, &ended);

			assert_true(part >= seen && part <= rows[i].header);
			if (ended)
				assert_int_equal(part, rows[i].header);
			seen = part;
		}
	}
}

static const char sample_text[] = "A: one\r\nB: two\r\n\tlines\r\na:three \r\nC:\r\n";
static const struct slice sample = { sample_text, sizeof sample_text - 1 };

static void
fields_one_by_one(void **state)
{
	struct slice rest = sample;
	struct header_field f;
	struct bytes text = { 0 };

	(void)state;
	assert_true(header_next(&rest, &f) && slice_eq(f.name, SLICE("A")) && slice_eq(f.value, SLICE(" one")));
	assert_true(header_next(&rest, &f) && slice_eq(f.value, SLICE(" two\r\n\tlines")));
	header_unfold(f.value, &text);
	assert_string_equal(bytes_cstr(&text), "two\tlines");
	assert_true(header_next(&rest, &f) && slice_eq(f.whole, SLICE("a:three \r\n")));
	assert_true(header_next(&rest, &f) && f.value.n == 0);
	assert_false(header_next(&rest, &f));
	assert_int_equal(header_count(sample, SLICE("a")), 2);
	assert_true(header_find(sample, SLICE("A"), 1, &f) && slice_eq(f.value, SLICE("three ")));
	assert_false(header_find(sample, SLICE("A"), 2, &f));
	bytes_fini(&text);
}

static void
edits(void **state)
{
	struct bytes out = { 0 };

	(void)state;
	assert_int_equal(header_without(sample, SLICE("a"), -1, &out), 2);
	assert_string_equal(bytes_cstr(&out), "B: two\r\n\tlines\r\nC:\r\n");
	out.n = 0;
	assert_int_equal(header_without(sample, SLICE("a"), 1, &out), 1);
	assert_string_equal(bytes_cstr(&out), "A: one\r\nB: two\r\n\tlines\r\nC:\r\n");
	out.n = 0;
	header_replace(sample, SLICE("a"), SLICE("new"), &out);
	assert_string_equal(bytes_cstr(&out), "A: new\r\nB: two\r\n\tlines\r\nC:\r\n");
	out.n = 0;
	header_replace(sample, SLICE("D"), SLICE("new"), &out);
	assert_memory_equal(out.p, sample.p, sample.n);
	assert_string_equal(bytes_cstr(&out) + sample.n, "D: new\r\n");
	bytes_fini(&out);
}

static void
no_value_makes_a_second_field(void **state)
{
	static const struct {
		const char *value, *line;
	} rows[] = {
		{ "x", "N: x\r\n" },
		{ " x \r\n", "N: x\r\n" },
		{ "x\r\nEvil: y", "N: x Evil: y\r\n" },
		{ "x\nEvil: y", "N: x Evil: y\r\n" },
		{ "x\r\rEvil: y", "N: x  Evil: y\r\n" },
		{ "x\r\n\r\nbody", "N: x  body\r\n" },
		{ "x\r\n y\n\tz", "N: x\r\n y\r\n\tz\r\n" },
		{ "x\r\n", "N: x\r\n" },
		{ "\001\177", "N:   \r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bytes out = { 0 };
		struct header_field f;
		struct slice rest;

		header_write(&out, SLICE("N"), slice_str(rows[i].value));
		assert_string_equal(bytes_cstr(&out), rows[i].line);
		rest = slice_bytes(&out);
		assert_true(header_next(&rest, &f));
		assert_int_equal(rest.n, 0);
		bytes_fini(&out);
	}
	assert_true(header_name_valid(SLICE("X-Y")));
	assert_false(header_name_valid(SLICE("X Y")));
	assert_false(header_name_valid(SLICE("X:Y")));
	assert_false(header_name_valid(SLICE("X\r\nY")));
	assert_false(header_name_valid(SLICE("")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(where_the_header_ends),
		cmocka_unit_test(fields_one_by_one),
		cmocka_unit_test(edits),
		cmocka_unit_test(no_value_makes_a_second_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
