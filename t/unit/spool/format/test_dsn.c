/* Delivery status notifications: the fields that RFC 3464 requires, statuses, and text that wants to be more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "spool/format/dsn.h"

/* For constant initialisers. */
#define TEXT(literal)                        \
	{                                    \
		literal, sizeof(literal) - 1 \
	}

static const struct dsn_rcpt one = {
	.rcpt = TEXT("b@example.com"),
	.action = DSN_FAILED,
	.reply = TEXT("550 5.1.1 no such user"),
	.remote_mta = TEXT("mx.example.com"),
	.last_attempt = INT64_C(1700000100000000),
};

static const struct dsn base = {
	.hostname = TEXT("mx.example.test"),
	.to = TEXT("a@sender.example"),
	.id_text = TEXT("aa/bb-00001-cafef00d"),
	.about_text = TEXT("aa/bb-00001-12345678"),
	.arrival = INT64_C(1700000000000000),
	.now = INT64_C(1700000200000000),
	.rcpts = &one,
	.n = 1,
	.inlined = DSN_INLINE_HEADERS,
	.headers = TEXT("Subject: hello\r\nFrom: a@sender.example\r\n"),
	.body = TEXT("\r\nbody text\r\n"),
};

/* Header and body as one text. */
static char *
write_out(const struct dsn *d, bool *eight_bit)
{
	struct bytes header = { 0 }, body = { 0 };

	dsn_write(d, &header, &body, eight_bit);
	assert_true(header.n > 2 && memcmp(header.p + header.n - 2, "\r\n", 2) == 0);
	assert_true(body.n > 4 && memcmp(body.p, "\r\n", 2) == 0 && memcmp(body.p + body.n - 2, "\r\n", 2) == 0);
	bytes_add_slice(&header, slice_bytes(&body));
	bytes_fini(&body);
	(void)bytes_cstr(&header);
	return header.p;
}

static void
has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void
required_fields_are_there(void **state)
{
	bool eight_bit = true;
	char *text = write_out(&base, &eight_bit);

	(void)state;
	assert_false(eight_bit);
	has(text, "From: Mail Delivery System <mailer-daemon@mx.example.test>\r\n");
	has(text, "To: <a@sender.example>\r\n");
	has(text, "Auto-Submitted: auto-replied\r\n");
	has(text, "Content-Type: multipart/report; report-type=delivery-status;\r\n");
	has(text, "Message-ID: <aa/bb-00001-cafef00d@mx.example.test>\r\n");
	has(text, "Date: Tue, 14 Nov 2023 22:16:40 +0000\r\n");
	has(text, "Content-Type: text/plain; charset=us-ascii\r\n");
	has(text, "Content-Type: message/delivery-status\r\n");
	has(text, "\r\nReporting-MTA: dns; mx.example.test\r\n");
	has(text, "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n");
	has(text, "\r\n\r\nFinal-Recipient: rfc822; b@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n");
	has(text, "Remote-MTA: dns; mx.example.com\r\n");
	has(text, "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n");
	has(text, "Last-Attempt-Date: Tue, 14 Nov 2023 22:15:00 +0000\r\n");
	has(text, "Content-Type: text/rfc822-headers\r\n");
	has(text, "\r\n\r\nSubject: hello\r\nFrom: a@sender.example\r\n--");
	assert_null(strstr(text, "body text"));
	free(text);
}

static void
every_part_stands_between_boundaries(void **state)
{
	static const struct {
		enum dsn_inline inlined;
		unsigned parts;
	} rows[] = { { DSN_INLINE_NONE, 2 }, { DSN_INLINE_HEADERS, 3 }, { DSN_INLINE_ALL, 3 } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct dsn d = base;
		bool eight_bit;
		char *text, *at, boundary[100], mark[110];
		unsigned parts = 0;

		d.inlined = rows[i].inlined;
		text = write_out(&d, &eight_bit);
		assert_int_equal(sscanf(strstr(text, "boundary="), "boundary=\"%99[^\"]", boundary), 1);
		snprintf(mark, sizeof(mark), "\r\n--%s\r\n", boundary);
		for (at = text; (at = strstr(at, mark)) != NULL; at++)
			parts++;
		assert_int_equal(parts, rows[i].parts);
		snprintf(mark, sizeof(mark), "\r\n--%s--\r\n", boundary);
		assert_string_equal(strstr(text, mark), mark);
		assert_int_equal(strstr(text, "body text") != NULL, rows[i].inlined == DSN_INLINE_ALL);
		free(text);
	}
}

static void
utf8_takes_the_forms_of_rfc_6533(void **state)
{
	struct dsn_rcpt rcpt = one;
	struct dsn d = base;
	bool eight_bit = false;
	char *text;

	(void)state;
	rcpt.rcpt = SLICE("\xc3\xa9@example.com");
	d.rcpts = &rcpt;
	text = write_out(&d, &eight_bit);
	assert_true(eight_bit);
	has(text, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
	has(text, "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n");
	has(text, "Final-Recipient: utf-8; \xc3\xa9@example.com\r\n");
	has(text, "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n");
	free(text);

	d = base;
	d.headers = SLICE("Subject: \xc3\xa9\r\n");
	text = write_out(&d, &eight_bit);
	assert_true(eight_bit);
	has(text, "Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: 7bit\r\n");
	has(text, "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n");
	free(text);

	d.inlined = DSN_INLINE_NONE;
	text = write_out(&d, &eight_bit);
	assert_false(eight_bit);
	free(text);
}

static void
what_peers_say_stays_on_its_line(void **state)
{
	struct dsn_rcpt rcpt = one;
	struct dsn d = base;
	struct bytes longest = { 0 };
	bool eight_bit;
	char *text;

	(void)state;
	rcpt.reply = SLICE("550 no\r\nAction: delivered\r\n\r\n--x");
	rcpt.remote_mta = SLICE("mx\nEvil: 1");
	rcpt.orcpt = SLICE("rfc822;a\r\nEvil: 2");
	d.envid = SLICE("id\r\nEvil: 3");
	d.rcpts = &rcpt;
	text = write_out(&d, &eight_bit);
	assert_null(strstr(text, "\nEvil"));
	assert_null(strstr(text, "\nAction: delivered"));
	has(text, "Original-Recipient: rfc822;a  Evil: 2\r\n");
	has(text, "Original-Envelope-Id: id  Evil: 3\r\n");
	free(text);

	for (int i = 0; i < 3000; i++)
		bytes_add_str(&longest, "\xc3\xa9");
	rcpt.reply = slice_bytes(&longest);
	text = write_out(&d, &eight_bit);
	for (char *line = text, *end; (end = strstr(line, "\r\n")) != NULL; line = end + 2)
		assert_true(end - line <= 998);
	assert_null(strstr(text, "\xc3\r\n"));
	bytes_fini(&longest);
	free(text);
}

static void
statuses_follow_the_reply(void **state)
{
	static const struct {
		const char *reply, *want;
	} rows[] = {
		{ "550 5.1.1 no such user", "5.1.1" },
		{ "550 no such user", "5.0.0" },
		{ "450 4.2.2 full", "4.2.2" },
		{ "450 5.2.2 which?", "4.0.0" },
		{ "550", "5.0.0" },
		{ "", "4.0.0" },
		{ "nonsense", "4.0.0" },
		{ "250 2.1.5 fine", "2.1.5" },
		{ "354 go", "4.0.0" },
		{ "550 5.1234.1 x", "5.0.0" },
		{ "550-5.7.1 x", "5.0.0" },
		{ "554 5.4.7 [internal] x", "5.4.7" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char out[16];

		dsn_status(slice_str(rows[i].reply), out);
		if (strcmp(out, rows[i].want) != 0)
			fail_msg("%s: %s", rows[i].reply, out);
	}
}

static void
several_recipients_have_a_group_each(void **state)
{
	struct dsn_rcpt rcpts[2] = { one, one };
	struct dsn d = base;
	bool eight_bit;
	char *text;

	(void)state;
	rcpts[1].rcpt = SLICE("c@example.com");
	rcpts[1].remote_mta = SLICE("");
	rcpts[1].reply = SLICE("554 5.4.7 [internal] exceeded max time without delivery");
	d.rcpts = rcpts;
	d.n = 2;
	text = write_out(&d, &eight_bit);
	has(text, "\r\n\r\nFinal-Recipient: rfc822; c@example.com\r\nAction: failed\r\nStatus: 5.4.7\r\n"
		  "Diagnostic-Code: X-Impetus; 554 5.4.7");
	has(text, "these recipients");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(required_fields_are_there),
		cmocka_unit_test(every_part_stands_between_boundaries),
		cmocka_unit_test(utf8_takes_the_forms_of_rfc_6533),
		cmocka_unit_test(what_peers_say_stays_on_its_line),
		cmocka_unit_test(statuses_follow_the_reply),
		cmocka_unit_test(several_recipients_have_a_group_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
