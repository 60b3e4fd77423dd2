/* A command line into words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/console/console_int.h"

/* want: the words, each ended by '|'; NULL: refused. */
static const struct {
	const char *line, *want;
} rows[] = {
	{ "", "" },
	{ " \t ", "" },
	{ "mailq", "mailq|" },
	{ "  binding \t suspend  out1 ", "binding|suspend|out1|" },
	{ "fail domain x \"550 go away\"", "fail|domain|x|550 go away|" },
	{ "a \"\" b", "a||b|" },
	{ "\"a \\\"b\\\" \\\\c\"", "a \"b\" \\c|" },
	{ "a\\ b", "a\\|b|" },
	{ "it\"s", "it\"s|" },
	{ "\"a\"b", "a|b|" },
	{ "\"open", NULL },
	{ "\"open\\\"", NULL },
	{ "\"", NULL },
};

static void
lines_become_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct slice words[COMMAND_WORDS];
		struct bytes line = { 0 }, got = { 0 };
		unsigned n = 0;
		enum err e;

		bytes_add_str(&line, rows[i].line);
		e = command_split(&line, words, &n);
		assert_int_equal(e, rows[i].want == NULL ? ERR_SYNTAX : OK);
		for (unsigned w = 0; e == OK && w < n; w++) {
			bytes_add_slice(&got, words[w]);
			bytes_add_char(&got, '|');
		}
		if (e == OK)
			assert_string_equal(bytes_cstr(&got), rows[i].want);
		bytes_fini(&line);
		bytes_fini(&got);
	}
}

static void
there_is_a_bound(void **state)
{
	struct slice words[COMMAND_WORDS];
	struct bytes line = { 0 };
	unsigned n = 0;

	(void)state;
	for (int i = 0; i < COMMAND_WORDS; i++)
		bytes_add_str(&line, "w ");
	assert_int_equal(command_split(&line, words, &n), OK);
	assert_int_equal(n, COMMAND_WORDS);
	line.n = 0;
	for (int i = 0; i <= COMMAND_WORDS; i++)
		bytes_add_str(&line, "w ");
	assert_int_equal(command_split(&line, words, &n), ERR_SYNTAX);
	bytes_fini(&line);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_become_words),
		cmocka_unit_test(there_is_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
