/* What travels between console and workers: read as it was written, and nothing that is cut, or too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/ask.h"

/* Every shorter form of it is refused, and one with a byte behind it. */
#define REFUSED_WHEN_CUT(payload, decode, out)                                                 \
	do {                                                                                   \
		for (size_t cut = 0; cut < (payload).n; cut++)                                 \
			assert_int_equal(decode(slice_of((payload).p, cut), out), ERR_SYNTAX); \
		bytes_add_char(&(payload), 'x');                                               \
		assert_int_equal(decode(slice_bytes(&(payload)), out), ERR_SYNTAX);            \
		bytes_fini(&(payload));                                                        \
	} while (0)

static void
an_edit(void **state)
{
	struct ask_edit in = { .verb = ASK_HOLD,
			       .id_lo = 7,
			       .id_hi = 9,
			       .binding = SLICE("out1"),
			       .domain = SLICE("example.com"),
			       .reason = SLICE("why not") },
			out;
	struct bytes p = { 0 };

	(void)state;
	ask_edit_encode(&in, &p);
	assert_int_equal(ask_edit_decode(slice_bytes(&p), &out), OK);
	assert_true(out.verb == ASK_HOLD && out.id_lo == 7 && out.id_hi == 9);
	assert_true(slice_eq(out.binding, in.binding) && slice_eq(out.domain, in.domain) &&
		    slice_eq(out.reason, in.reason));
	REFUSED_WHEN_CUT(p, ask_edit_decode, &out);
	in.id_lo = 10;
	ask_edit_encode(&in, &p);
	assert_int_equal(ask_edit_decode(slice_bytes(&p), &out), ERR_SYNTAX);
	bytes_fini(&p);
}

static void
a_binding(void **state)
{
	struct ask_binding in = { .suspension = 1, .name = SLICE("out1"), .who = SLICE("root") }, out;
	struct bytes p = { 0 };

	(void)state;
	ask_binding_encode(&in, &p);
	assert_int_equal(ask_binding_decode(slice_bytes(&p), &out), OK);
	assert_true(out.suspension == 1 && slice_eq(out.name, in.name) && slice_eq(out.who, in.who));
	REFUSED_WHEN_CUT(p, ask_binding_decode, &out);
	in.name = SLICE("");
	ask_binding_encode(&in, &p);
	assert_int_equal(ask_binding_decode(slice_bytes(&p), &out), ERR_SYNTAX);
	bytes_fini(&p);
}

static void
a_question_why(void **state)
{
	struct ask_why in = { .id = 5,
			      .binding = SLICE("b"),
			      .domain = SLICE("d"),
			      .remote = SLICE("r:1"),
			      .due = true },
		       out;
	struct bytes p = { 0 };

	(void)state;
	ask_why_encode(&in, &p);
	assert_int_equal(p.p[0], ASK_WHY);
	assert_int_equal(ask_why_decode(slice_bytes(&p), &out), OK);
	assert_true(out.id == 5 && out.due && slice_eq(out.binding, in.binding) && slice_eq(out.domain, in.domain) &&
		    slice_eq(out.remote, in.remote));
	p.p[p.n - 1] = 2; /* no boolean */
	assert_int_equal(ask_why_decode(slice_bytes(&p), &out), ERR_SYNTAX);
	p.p[p.n - 1] = 1;
	REFUSED_WHEN_CUT(p, ask_why_decode, &out);
}

static void
holds_one_after_the_other(void **state)
{
	struct ask_hold in = { .level = ASK_AT_HOST,
			       .holds = true,
			       .cause = SLICE("c"),
			       .limit = SLICE("l"),
			       .value = SLICE("v"),
			       .set = SLICE("s"),
			       .evidence = SLICE("e"),
			       .lets_go = SLICE("g"),
			       .until = -1 },
			out;
	struct bytes p = { 0 };
	struct slice rest;
	size_t one;

	(void)state;
	ask_hold_encode(&in, &p);
	one = p.n;
	ask_hold_encode(&(struct ask_hold){ .level = ASK_AT_WORKER }, &p);
	rest = slice_bytes(&p);
	assert_true(ask_hold_take(&rest, &out));
	assert_true(out.level == ASK_AT_HOST && out.holds && out.until == -1);
	assert_true(slice_eq(out.cause, in.cause) && slice_eq(out.limit, in.limit) && slice_eq(out.value, in.value));
	assert_true(slice_eq(out.set, in.set) && slice_eq(out.evidence, in.evidence) &&
		    slice_eq(out.lets_go, in.lets_go));
	assert_true(ask_hold_take(&rest, &out));
	assert_true(out.level == ASK_AT_WORKER && !out.holds && out.cause.n == 0 && rest.n == 0);
	assert_false(ask_hold_take(&rest, &out));
	for (size_t cut = 0; cut < one; cut++) {
		rest = slice_of(p.p, cut);
		assert_false(ask_hold_take(&rest, &out));
		assert_int_equal(rest.n, cut); /* untouched */
	}
	p.p[0] = ASK_LEVELS;
	rest = slice_bytes(&p);
	assert_false(ask_hold_take(&rest, &out));
	bytes_fini(&p);
}

static void
moments_and_levels_have_words(void **state)
{
	struct bytes out = { 0 };

	(void)state;
	ask_add_moment(&out, INT64_C(1769860800) * 1000000);
	assert_string_equal(bytes_cstr(&out), "2026-01-31 12:00:00");
	assert_string_equal(ask_level_text(ASK_AT_MESSAGE), "message");
	assert_string_equal(ask_level_text(ASK_AT_WORKER), "worker");
	assert_string_equal(ask_level_text(ASK_LEVELS), "unknown");
	bytes_fini(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_edit),
		cmocka_unit_test(a_binding),
		cmocka_unit_test(a_question_why),
		cmocka_unit_test(holds_one_after_the_other),
		cmocka_unit_test(moments_and_levels_have_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
