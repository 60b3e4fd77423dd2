/* worker/reception: where a line ends and where a message does, on every split of the input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/reception/esmtp_line.h"

static void
lines(void **state)
{
	static const struct {
		const char *in;
		size_t n;
		enum line_kind kind;
		const char *line, *rest;
	} rows[] = {
		{ "NOOP\r\n", 6, LINE_GOOD, "NOOP", "" },     { "\r\nx", 3, LINE_GOOD, "", "x" },
		{ "A\r\nB\r\n", 6, LINE_GOOD, "A", "B\r\n" }, { "NOOP\n", 5, LINE_NONE, NULL, "NOOP\n" },
		{ "NOOP\r", 5, LINE_NONE, NULL, "NOOP\r" },   { "NOOP\n\r", 6, LINE_NONE, NULL, "NOOP\n\r" },
		{ "A\nB\r\nC", 6, LINE_BAD, "A\nB", "C" },    { "A\rB\r\nC", 6, LINE_BAD, "A\rB", "C" },
		{ "A\r\r\nC", 5, LINE_BAD, "A\r", "C" },      { "\n\r\nC", 4, LINE_BAD, "\n", "C" },
		{ "A\0B\r\nC", 6, LINE_BAD, NULL, "C" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct slice in = slice_of(rows[i].in, rows[i].n), line = { 0 };
		bool skipping = false;

		assert_int_equal(line_take(&in, &line, &skipping), rows[i].kind);
		if (rows[i].line != NULL)
			assert_true(slice_eq(line, slice_str(rows[i].line)));
		assert_true(slice_eq(in, slice_str(rows[i].rest)));
		assert_false(skipping);
	}
}

static void
a_long_line_is_passed_over_to_its_end(void **state)
{
	static char buf[LINE_MAX_BYTES * 3];
	struct slice in = slice_of(buf, LINE_MAX_BYTES), line;
	bool skipping = false;

	(void)state;
	memset(buf, 'x', sizeof buf);
	memcpy(buf + LINE_MAX_BYTES - 2, "\r\n", 2);
	assert_int_equal(line_take(&in, &line, &skipping), LINE_GOOD);
	memset(buf, 'x', sizeof buf);
	in = slice_of(buf, LINE_MAX_BYTES);
	assert_int_equal(line_take(&in, &line, &skipping), LINE_NONE);
	assert_true(skipping);
	assert_int_equal(in.n, 1);
	in = slice_of(buf, sizeof buf);
	assert_int_equal(line_take(&in, &line, &skipping), LINE_NONE);
	in = SLICE("\r");
	assert_int_equal(line_take(&in, &line, &skipping), LINE_NONE);
	assert_int_equal(in.n, 1);
	in = SLICE("\r\nNOOP\r\n");
	assert_int_equal(line_take(&in, &line, &skipping), LINE_LONG);
	assert_int_equal(line_take(&in, &line, &skipping), LINE_GOOD);
	assert_true(slice_eq(line, SLICE("NOOP")));
}

/* Content: what goes in, what comes out, what is left behind the end; end false: not seen. */
static const struct {
	const char *in, *out, *rest;
	bool end;
} dots[] = {
	{ ".\r\n", "", "", true },
	{ ".\r\nQUIT\r\n", "", "QUIT\r\n", true },
	{ "a\r\n.\r\n", "a\r\n", "", true },
	{ "\r\n.\r\n", "\r\n", "", true },
	{ "..\r\n.\r\n", ".\r\n", "", true },
	{ "...\r\n.\r\n", "..\r\n", "", true },
	{ ".a\r\n.\r\n", "a\r\n", "", true },
	{ "a.\r\n.\r\n", "a.\r\n", "", true },
	{ "a\r\n..b\r\n.\r\nx", "a\r\n.b\r\n", "x", true },
	/* Nothing of this is an end (no SMTP smuggling): the bytes pass, the dot of a line goes. */
	{ "a\n.\n", "a\n.\n", "", false },
	{ "a\n.\r\nb", "a\n.\r\nb", "", false },
	{ "a\r\n.\nb", "a\r\n\nb", "", false },
	{ "a\r.\rb", "a\r.\rb", "", false },
	{ "a\r\n.\rb", "a\r\n\rb", "", false },
	{ "a\r.\r\nb", "a\r.\r\nb", "", false },
	{ "a\r.\nb", "a\r.\nb", "", false },
	{ "a\n.\rb", "a\n.\rb", "", false },
	{ "a\n\r.\r\nb", "a\n\r.\r\nb", "", false },
	{ "a\n\r.\n\rb", "a\n\r.\n\rb", "", false },
	{ "a\r\n.\r\r\nb", "a\r\n\r\r\nb", "", false },
	{ "a\r\r\n.\r\n", "a\r\r\n", "", true },
	{ "a\r\n.\r.\r\nb", "a\r\n\r.\r\nb", "", false },
	{ "a\n\n.\n\nb", "a\n\n.\n\nb", "", false },
	{ "a\r\n\n.\r\nb", "a\r\n\n.\r\nb", "", false },
	{ "a\r\n.\r", "a\r\n", "", false },
	{ "a\r\n.", "a\r\n", "", false },
	{ "\n.\r\nb", "\n.\r\nb", "", false },
	{ "\r.\r\nb", "\r.\r\nb", "", false },
	{ "..\r\n", ".\r\n", "", false },
	{ ".\r.\r\n.\r\n", "\r.\r\n", "", true },
	{ ".\r\r\n.\r\n", "\r\r\n", "", true },
};

static void
collect(void *arg, struct slice bytes)
{
	assert_true(bytes.n > 0);
	bytes_add_slice(arg, bytes);
}

static void
check_dots(size_t i, size_t cut)
{
	size_t n = strlen(dots[i].in);
	struct bytes out = { 0 };
	struct dots d = { 0 };
	struct slice in = slice_of(dots[i].in, cut);
	bool end = dots_feed(&d, &in, collect, &out);

	if (!end) {
		assert_int_equal(in.n, 0);
		in = slice_of(dots[i].in + cut, n - cut);
		end = dots_feed(&d, &in, collect, &out);
	} else {
		in.n += n - cut;
	}
	if (end != dots[i].end || strcmp(bytes_cstr(&out), dots[i].out) != 0 || !slice_eq(in, slice_str(dots[i].rest)))
		fail_msg("row %zu cut at %zu: end %d, \"%s\"", i, cut, end, bytes_cstr(&out));
	bytes_fini(&out);
}

static void
content_on_every_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dots / sizeof dots[0]; i++)
		for (size_t cut = 0; cut <= strlen(dots[i].in); cut++)
			check_dots(i, cut);
}

/* The definition, written as a search in the whole text: what dots_feed has to agree with. */
static bool
by_definition(struct slice in, struct bytes *out, size_t *used)
{
	bool begin = true;

	for (size_t i = 0; i < in.n; i++) {
		if (begin && in.p[i] == '.') {
			if (in.n - i >= 3 && memcmp(in.p + i, ".\r\n", 3) == 0) {
				*used = i + 3;
				return true;
			}
			if (i + 1 == in.n || (i + 2 == in.n && in.p[i + 1] == '\r'))
				break; /* may still become an end */
			begin = false;
			continue;
		}
		bytes_add_char(out, in.p[i]);
		begin = in.p[i] == '\n' && i > 0 && in.p[i - 1] == '\r';
	}
	*used = in.n;
	return false;
}

/* All texts of up to 8 of the four kinds of bytes that matter. */
static void
content_agrees_with_its_definition(void **state)
{
	static const char kinds[] = "\r\n.x";
	char text[8];

	(void)state;
	for (size_t n = 1; n <= sizeof text; n++)
		for (size_t code = 0; code < (size_t)1 << (2 * n); code++) {
			struct bytes want = { 0 }, got = { 0 };
			struct dots d = { 0 };
			struct slice in;
			size_t used;
			bool end;

			for (size_t i = 0; i < n; i++)
				text[i] = kinds[code >> (2 * i) & 3];
			end = by_definition(slice_of(text, n), &want, &used);
			in = slice_of(text, n);
			assert_int_equal(dots_feed(&d, &in, collect, &got), end);
			assert_int_equal(n - in.n, used);
			assert_true(slice_eq(slice_bytes(&got), slice_bytes(&want)));
			bytes_fini(&want);
			bytes_fini(&got);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),
		cmocka_unit_test(a_long_line_is_passed_over_to_its_end),
		cmocka_unit_test(content_on_every_split),
		cmocka_unit_test(content_agrees_with_its_definition),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
