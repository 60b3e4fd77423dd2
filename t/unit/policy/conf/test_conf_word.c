/* policy/conf: the checks of single words that rows may name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "policy/conf/conf_suggest.h"
#include "policy/conf/conf_word.h"

static void
words_are_what_they_must_be(void **state)
{
	static const struct {
		const char *(*check)(const char *word);
		const char *word;
		int good;
	} t[] = {
		{ conf_word_path, "/x", 1 },
		{ conf_word_path, "x", 0 },
		{ conf_word_path, "", 0 },
		{ conf_word_path_or_none, "", 1 },
		{ conf_word_path_or_none, "x", 0 },
		{ conf_word_name, "mx.example.com", 1 },
		{ conf_word_name, "", 0 },
		{ conf_word_name, "a b", 0 },
		{ conf_word_name, "a\r\nRSET", 0 },
		{ conf_word_name, "b\xc3\xbc.example", 1 },
		{ conf_word_name, "a\x7f", 0 },
		{ conf_word_line, "two words", 1 },
		{ conf_word_line, "a\nb", 0 },
		{ conf_word_address, "*", 1 },
		{ conf_word_address, "192.0.2.1", 1 },
		{ conf_word_address, "2001:db8::1", 1 },
		{ conf_word_address, "localhost", 0 },
		{ conf_word_address, "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		if ((t[i].check(t[i].word) == NULL) != t[i].good)
			fail_msg("\"%s\" (row %zu)", t[i].word, i);
}

static void
the_nearest_name_is_suggested(void **state)
{
	static const char *const names[] = { "hostname", "gateway", "routes", "tls" };
	static const struct {
		const char *wanted, *best;
	} t[] = {
		{ "hostnme", "hostname" }, { "HOSTNAME", "hostname" },
		{ "gatewya", "gateway" },  { "route", "routes" },
		{ "tsl", "tls" },          { "t", NULL },
		{ "zzzzzz", NULL },        { "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct conf_suggest s;

		conf_suggest_init(&s, t[i].wanted);
		for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
			conf_suggest_offer(&s, names[n]);
		if (t[i].best == NULL)
			assert_null(s.best);
		else
			assert_string_equal(s.best, t[i].best);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_what_they_must_be),
		cmocka_unit_test(the_nearest_name_is_suggested),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
