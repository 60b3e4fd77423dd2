/* worker/reception: arguments of SMTP commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/reception/esmtp_args.h"

static const struct {
	const char *args;
	enum args_result result;
	const char *from;
	uint64_t size;
	bool eightbit, utf8;
} mails[] = {
	{ "FROM:<a@b.example>", ARGS_OK, "a@b.example", 0, false, false },
	{ "from:<a@b.example>", ARGS_OK, "a@b.example", 0, false, false },
	{ "FROM: <a@b.example>", ARGS_OK, "a@b.example", 0, false, false },
	{ "FROM:<>", ARGS_OK, "", 0, false, false },
	{ "FROM:<> ", ARGS_OK, "", 0, false, false },
	{ "FROM:<@x,@y:a@b>", ARGS_OK, "a@b", 0, false, false },
	{ "FROM:<a@b> SIZE=12", ARGS_OK, "a@b", 12, false, false },
	{ "FROM:<a@b> BODY=8BITMIME size=0", ARGS_OK, "a@b", 0, true, false },
	{ "FROM:<a@b> body=7bit", ARGS_OK, "a@b", 0, false, false },
	{ "FROM:<a@b> SMTPUTF8", ARGS_OK, "a@b", 0, false, true },
	{ "FROM:<\303\244@b> SMTPUTF8", ARGS_OK, "\303\244@b", 0, false, true },
	{ "FROM:<\303\244@b>", ARGS_NEEDS_UTF8, NULL, 0, false, false },
	{ "FROM:<\303@b> SMTPUTF8", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM:<a@b> SMTPUTF8=1", ARGS_BAD_VALUE, NULL, 0, false, false },
	{ "FROM:<a@b> SIZE=", ARGS_BAD_VALUE, NULL, 0, false, false },
	{ "FROM:<a@b> SIZE=-1", ARGS_BAD_VALUE, NULL, 0, false, false },
	{ "FROM:<a@b> SIZE=99999999999999999999", ARGS_BAD_VALUE, NULL, 0, false, false },
	{ "FROM:<a@b> SIZE=1 SIZE=2", ARGS_BAD_VALUE, NULL, 0, false, false },
	{ "FROM:<a@b> BODY=BINARYMIME", ARGS_BAD_VALUE, NULL, 0, false, false },
	{ "FROM:<a@b> RET=FULL", ARGS_UNKNOWN, NULL, 0, false, false },
	{ "FROM:<a@b> X", ARGS_UNKNOWN, NULL, 0, false, false },
	{ "FROM:<a@b>SIZE=1", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM:a@b", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM:", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM", ARGS_SYNTAX, NULL, 0, false, false },
	{ "", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM <a@b>", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM:<a@b", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM:<a>", ARGS_SYNTAX, NULL, 0, false, false },
	{ "FROM:<postmaster>", ARGS_SYNTAX, NULL, 0, false, false },
	{ "TO:<a@b>", ARGS_SYNTAX, NULL, 0, false, false },
};

static void
mail_from(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof mails / sizeof mails[0]; i++) {
		struct mail_args m = { 0 };
		enum args_result r = args_mail(slice_str(mails[i].args), &m);

		if (r != mails[i].result)
			fail_msg("%s: %d", mails[i].args, r);
		if (r != ARGS_OK)
			continue;
		assert_true(slice_eq(m.from.text, slice_str(mails[i].from)));
		assert_int_equal(m.size, mails[i].size);
		assert_int_equal(m.eightbit, mails[i].eightbit);
		assert_int_equal(m.utf8, mails[i].utf8);
	}
}

static void
rcpt_to(void **state)
{
	static const struct {
		const char *args;
		bool utf8;
		enum args_result result;
		const char *text;
	} rows[] = {
		{ "TO:<a@b>", false, ARGS_OK, "a@b" },
		{ "to:<postmaster>", false, ARGS_OK, "postmaster" },
		{ "TO:<PostMaster>", false, ARGS_OK, "PostMaster" },
		{ "TO:<someone>", false, ARGS_SYNTAX, NULL },
		{ "TO:<>", false, ARGS_SYNTAX, NULL },
		{ "TO:<a@b> NOTIFY=NEVER", false, ARGS_UNKNOWN, NULL },
		{ "TO:<\303\244@b>", false, ARGS_NEEDS_UTF8, NULL },
		{ "TO:<\303\244@b>", true, ARGS_OK, "\303\244@b" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct addr a = { 0 };

		assert_int_equal(args_rcpt(slice_str(rows[i].args), rows[i].utf8, &a), rows[i].result);
		if (rows[i].text != NULL)
			assert_true(slice_eq(a.text, slice_str(rows[i].text)));
	}
}

static void
helo_names(void **state)
{
	static const struct {
		const char *args;
		enum args_result result;
	} rows[] = { { "client.example", ARGS_OK }, { "[192.0.2.1]", ARGS_OK },
		     { "under_score", ARGS_OK },    { "x ", ARGS_OK },
		     { "", ARGS_SYNTAX },           { "two words", ARGS_SYNTAX },
		     { "tab\there", ARGS_SYNTAX },  { "bell\007", ARGS_SYNTAX } };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct slice name;

		assert_int_equal(args_helo(slice_str(rows[i].args), &name), rows[i].result);
	}
}

static void
verbs_are_cut_at_the_blank(void **state)
{
	struct slice verb, args;

	(void)state;
	args_split(SLICE("MAIL FROM:<a@b> "), &verb, &args);
	assert_true(slice_eq(verb, SLICE("MAIL")) && slice_eq(args, SLICE("FROM:<a@b>")));
	args_split(SLICE(""), &verb, &args);
	assert_true(verb.n == 0 && args.n == 0);
	args_split(SLICE("QUIT"), &verb, &args);
	assert_true(slice_eq(verb, SLICE("QUIT")) && args.n == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_from),
		cmocka_unit_test(rcpt_to),
		cmocka_unit_test(helo_names),
		cmocka_unit_test(verbs_are_cut_at_the_blank),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
