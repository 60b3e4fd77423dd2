#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/policy_words.h"

static void
decoded(void **state)
{
	static const struct {
		const char *value, *want;
	} rows[] = {
		{ " plain", "plain" },
		{ " =?iso-8859-1?Q?caf=E9?=", "caf\303\251" },
		{ " =?UTF-8?B?Z3LDvMOfZQ==?= x", "gr\303\274\303\237e x" },
		{ " =?utf-8?q?a_b?= =?utf-8?q?_c?=", "a b c" }, /* space between two words is not text */
		{ " =?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab" },   /* nor is a fold */
		{ " =?utf-8?q?a?= b =?utf-8?q?c?=", "a b c" },
		{ " =?windows-1252?Q?=80?= =?iso-8859-15?Q?=A4?=", "\342\202\254\342\202\254" },
		{ " =?us-ascii*en?q?hi?=", "hi" },                     /* RFC 2231's language */
		{ " =?koi8-r?B?8NLJ18XU?=", "=?koi8-r?B?8NLJ18XU?=" }, /* unknown: as written */
		{ " =?utf-8?q?=zz?=", "=?utf-8?q?=zz?=" },
		{ " =?utf-8?q?=4?=", "=?utf-8?q?=4?=" },
		{ " =?utf-8?b?***?=", "=?utf-8?b?***?=" },
		{ " =?utf-8?x?a?=", "=?utf-8?x?a?=" },
		{ " =?utf-8?q?open", "=?utf-8?q?open" },
		{ " =?utf-8?q?a=0D=0Ab=00?=", "a  b " }, /* no line break is smuggled in */
		{ " =?", "=?" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bytes out = { 0 };

		bytes_add_str(&out, "<");
		policy_words_decode(slice_str(rows[i].value), &out);
		if (strcmp(bytes_cstr(&out) + 1, rows[i].want) != 0)
			fail_msg("%s: %s", rows[i].value, out.p);
		bytes_fini(&out);
	}
}

static void
encoded(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "plain text", "plain text" },
		{ "gr\303\274\303\237e an alle", "=?UTF-8?B?Z3LDvMOfZQ==?= an alle" },
		{ "a \303\274 \303\274 b", "a =?UTF-8?B?w7wgw7w=?= b" },
		{ "J\303\266rg <j\303\266rg@example.com>", "=?UTF-8?B?SsO2cmc=?= <j\303\266rg@example.com>" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bytes out = { 0 };

		policy_words_encode(slice_str(rows[i].text), &out);
		assert_string_equal(bytes_cstr(&out), rows[i].want);
		bytes_fini(&out);
	}
}

/* Every word stays within RFC 2047's 75, every line within 998, and what was encoded comes back. */
static void
there_and_back(void **state)
{
	(void)state;
	for (size_t n = 1; n < 3000; n = n * 3 / 2 + 1) {
		struct bytes text = { 0 }, coded = { 0 }, back = { 0 };
		size_t line = 0;

		for (size_t i = 0; i < n; i++)
			bytes_add_str(&text, i % 17 == 16 ? " word" : i % 3 == 0 ? "\342\202\254" : "\303\274");
		bytes_add_str(&text, " end");
		policy_words_encode(slice_bytes(&text), &coded);
		for (size_t i = 0; i < coded.n; i++) {
			line = coded.p[i] == '\n' ? 0 : line + 1;
			assert_true(line < 998);
		}
		policy_words_decode(slice_bytes(&coded), &back);
		assert_string_equal(bytes_cstr(&back), bytes_cstr(&text));
		bytes_fini(&text);
		bytes_fini(&coded);
		bytes_fini(&back);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decoded),
		cmocka_unit_test(encoded),
		cmocka_unit_test(there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
