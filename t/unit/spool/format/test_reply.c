/* spool/format: SMTP replies, dates, the Received field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spool/format/date.h"
#include "spool/format/header.h"
#include "spool/format/reply.h"
#include "spool/format/trace.h"

static void
replies_are_taken_whole(void **state)
{
	static const struct {
		const char *in;
		enum err result;
		int code;
		const char *text, *rest;
	} rows[] = {
		{ "250 OK\r\n", OK, 250, "OK", "" },
		{ "250 OK\n", OK, 250, "OK", "" },
		{ "250\r\n", OK, 250, "", "" },
		{ "250-a\r\n250-b\r\n250 c\r\n220 x", OK, 250, "a b c", "220 x" },
		{ "421-4.7.0 a\r\n421 4.7.0 b\r\n", OK, 421, "4.7.0 a 4.7.0 b", "" },
		{ "550 a\tb\033[0m\r\n", OK, 550, "a b [0m", "" },
		{ "250-a\r\n", ERR_AGAIN, 0, NULL, NULL },
		{ "25", ERR_AGAIN, 0, NULL, NULL },
		{ "", ERR_AGAIN, 0, NULL, NULL },
		{ "hello\r\n", ERR_SYNTAX, 0, NULL, NULL },
		{ "150 x\r\n", ERR_SYNTAX, 0, NULL, NULL },
		{ "250x\r\n", ERR_SYNTAX, 0, NULL, NULL },
		{ "\r\n", ERR_SYNTAX, 0, NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct slice in = slice_str(rows[i].in);
		struct bytes text = { 0 };
		int code = 0;
		enum err e = reply_take(&in, &code, &text);

		if (e != rows[i].result)
			fail_msg("%s: %s", rows[i].in, err_text(e));
		if (e == OK) {
			assert_int_equal(code, rows[i].code);
			assert_string_equal(bytes_cstr(&text), rows[i].text);
			assert_true(slice_eq(in, slice_str(rows[i].rest)));
		} else {
			assert_true(slice_eq(in, slice_str(rows[i].in)));
		}
		bytes_fini(&text);
	}
}

static void
enhanced_codes(void **state)
{
	static const struct {
		const char *text;
		int code;
		bool there;
		const char *rest;
	} rows[] = { { "2.1.0 ok", 250, true, "ok" },    { "5.7.1", 550, true, "" },
		     { "5.7.1 x", 250, false, NULL },    { "5.7 x", 550, false, NULL },
		     { "5.7.1234 x", 550, false, NULL }, { "5.7.1x", 550, false, NULL },
		     { "", 550, false, NULL },           { "4.100.999 y", 451, true, "y" } };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct enhanced e;
		struct slice rest;

		assert_int_equal(enhanced_take(slice_str(rows[i].text), rows[i].code, &e, &rest), rows[i].there);
		if (rows[i].there)
			assert_true(slice_eq(rest, slice_str(rows[i].rest)));
	}
}

static void
replies_are_written(void **state)
{
	static const struct {
		int code;
		const char *text, *wire;
	} rows[] = {
		{ 250, "2.0.0 OK", "250 2.0.0 OK\r\n" },
		{ 250, "a\nb\nc", "250-a\r\n250-b\r\n250 c\r\n" },
		{ 550, "5.7.1 a\nb", "550-5.7.1 a\r\n550 5.7.1 b\r\n" },
		{ 250, "a\r\nb", "250-a\r\n250 b\r\n" },
		{ 250, "a\rb", "250 a b\r\n" },
		{ 250, "", "250 \r\n" },
		{ 550, "a\n", "550 a\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bytes out = { 0 };

		reply_write(&out, rows[i].code, slice_str(rows[i].text));
		assert_string_equal(bytes_cstr(&out), rows[i].wire);
		bytes_fini(&out);
	}
}

static void
dates(void **state)
{
	static const struct {
		usec_t at;
		const char *text;
	} rows[] = { { 0, "Thu, 01 Jan 1970 00:00:00 +0000" },
		     { -5, "Thu, 01 Jan 1970 00:00:00 +0000" },
		     { INT64_C(951827696) * USEC_PER_SEC, "Tue, 29 Feb 2000 12:34:56 +0000" },
		     { INT64_MAX, "Fri, 31 Dec 9999 23:59:59 +0000" } };
	char text[DATE_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		date_text(rows[i].at, text);
		assert_string_equal(text, rows[i].text);
	}
}

static void
a_peer_cannot_leave_its_place_in_received(void **state)
{
	struct trace_received t = { .helo = SLICE("evil) by mx\r\nX-Evil: yes\r\n\r\n("),
				    .peer = SLICE("[2001:db8::1]:4321"),
				    .hostname = SLICE("mx.test"),
				    .protocol = SLICE("ESMTP"),
				    .sender = SLICE("\"a)\\b>\"@c"),
				    .id = SLICE("01/02-00003-00000004"),
				    .recipient = SLICE("x@y") };
	struct bytes out = { 0 };
	struct header_field f;
	struct slice rest;

	(void)state;
	trace_received(&out, &t);
	rest = slice_bytes(&out);
	assert_true(header_next(&rest, &f));
	assert_int_equal(rest.n, 0);
	assert_true(slice_eq(f.name, SLICE("Received")));
	assert_string_equal(
		bytes_cstr(&out),
		"Received: from [IPv6:2001:db8::1] ([2001:db8::1]:4321 "
		"helo=evil?\?by?mx?\?X-Evil:?yes?\?\?\?\?)\r\n\tby mx.test (envelope-from <\"a?\?b?\"@c>)\r\n"
		"\t(impetus " IMPETUS_VERSION ") with ESMTP\r\n\tid 01/02-00003-00000004 for <x@y>; "
		"Thu, 01 Jan 1970 00:00:00 +0000\r\n");
	bytes_fini(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies_are_taken_whole),
		cmocka_unit_test(enhanced_codes),
		cmocka_unit_test(replies_are_written),
		cmocka_unit_test(dates),
		cmocka_unit_test(a_peer_cannot_leave_its_place_in_received),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
