/* shm/base/visible: what strangers write, before an operator's eyes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "shm/base/visible.h"

static void
what_steers_a_terminal_is_taken_away(void **state)
{
	static const struct {
		const char *said, *seen;
	} rows[] = {
		{ "", "" },
		{ "plain ~ text", "plain ~ text" },
		{ "\r\n\t\x1b[31m\x7f", "???"
					"?[31m?" },
		{ "gr\xc3\xbc\xc3\x9f"
		  "e \xe4\xbd\xa0 \xf0\x9f\x93\xa7",
		  "gr\xc3\xbc\xc3\x9f"
		  "e \xe4\xbd\xa0 \xf0\x9f\x93\xa7" },
		{ "\xc2\x9b"
		  "31m \xc2\x90 \xc2\x85",
		  "??31m ?? ??" },
		{ "\x9b"
		  "31m",
		  "?31m" },
		{ "a\xe2\x80\xae"
		  "b\xe2\x81\xa6"
		  "c\xe2\x80\xa8"
		  "d\xd8\x9c",
		  "a???b???c???d??" },
		{ "\xef\xbb\xbfx", "???x" },
		{ "\xc2\xa0\xe2\x80\x94", "\xc2\xa0\xe2\x80\x94" },
		{ "\xc0\xaf\xe0\x80\x80\xed\xa0\x80\xf5\x80\x80\x80", "????????????" }, /* no UTF-8 */
		{ "cut \xe4\xbd", "cut ??" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[64];
		size_t n = strlen(rows[i].said);

		memcpy(text, rows[i].said, n + 1);
		make_visible(text, n);
		assert_string_equal(text, rows[i].seen);
	}
}

/* Every sequence of one to three bytes stays as long as it is, and nothing is touched behind its end. */
static void
the_length_stays(void **state)
{
	(void)state;
	for (uint32_t v = 0; v < 1 << 24; v += 7) {
		char text[5] = { (char)(v >> 16), (char)(v >> 8), (char)v, '\x9b', 0 };

		make_visible(text, 3);
		assert_int_equal((unsigned char)text[3], 0x9b);
		for (size_t i = 0; i < 3; i++)
			assert_false((unsigned char)text[i] < ' ');
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_steers_a_terminal_is_taken_away),
		cmocka_unit_test(the_length_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
