/* The chain and its verdicts, with hooks in C. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/policy_int.h"

/* What a test's hook does, and what became of it. */
struct act {
	enum policy_answer answer;
	int code;
	const char *text;
	bool disconnect;
	int called, cancelled;
	struct policy_run *waits;
};

static void
act_cancel(struct policy_run *r, void *arg)
{
	(void)r;
	((struct act *)arg)->cancelled++;
}

static enum policy_answer
act_hook(struct policy_run *r, void *arg)
{
	struct act *a = arg;

	a->called++;
	if (a->code != 0)
		assert_int_equal(policy_reply(r, a->code, slice_str(a->text), a->disconnect), OK);
	if (a->answer == ANSWER_WAIT) {
		a->waits = r;
		policy_waits(r, act_cancel, a);
	}
	return a->answer;
}

static void
on_done(struct policy_run *r, void *arg)
{
	(void)r;
	++*(int *)arg;
}

struct fixture {
	struct policy_host_ops ops;
	struct policy *policy;
	struct policy_session *session;
	struct policy_run run;
	int done;
};

static void
open_fixture(struct fixture *f, struct act *acts, size_t n)
{
	static const char *const names[] = { "first", "second", "third" };
	const struct policy_session_env env = { .conn = 5 };

	*f = (struct fixture){ 0 };
	f->policy = policy_new("mx.example.test", &f->ops);
	for (size_t i = 0; i < n; i++) {
		const struct policy_hook hook = { names[i], names[i], "", act_hook, &acts[i] };

		assert_int_equal(policy_hook_add(f->policy, PHASE_DATA, &hook), OK);
	}
	f->session = policy_session_new(f->policy, &env);
	f->run.phase = PHASE_DATA;
	f->run.session = f->session;
	f->run.done = on_done;
	f->run.arg = &f->done;
}

static void
close_fixture(struct fixture *f)
{
	policy_run_fini(&f->run);
	policy_session_free(&f->session);
	policy_free(&f->policy);
}

#define REFUSAL "mx.example.test temporary issue, please retry your message later"

static void
verdict_table(void **state)
{
	static const struct {
		const char *name;
		struct act acts[2];
		enum policy_verdict_kind kind;
		int code;
		const char *text, *module;
		bool disconnect, failed;
		int second_called;
	} rows[] = {
		{ .name = "nobody says anything", .module = "", .second_called = 1 },
		{ .name = "done ends the chain", .acts = { { .answer = ANSWER_DONE } }, .module = "" },
		{ .name = "a refusal",
		  .acts = { { .answer = ANSWER_DONE, .code = 550, .text = "5.7.1 no" } },
		  .kind = VERDICT_REPLY,
		  .code = 550,
		  .text = "5.7.1 no",
		  .module = "first" },
		{ .name = "a refusal counts with CONT too",
		  .acts = { { .code = 451, .text = "later" } },
		  .kind = VERDICT_REPLY,
		  .code = 451,
		  .text = "later",
		  .module = "first",
		  .second_called = 1 },
		{ .name = "the last one counts",
		  .acts = { { .code = 250, .text = "ok" }, { .code = 554, .text = "no" } },
		  .kind = VERDICT_REPLY,
		  .code = 554,
		  .text = "no",
		  .module = "second",
		  .second_called = 1 },
		{ .name = "disconnect",
		  .acts = { { .answer = ANSWER_DONE, .code = 421, .text = "bye", .disconnect = true } },
		  .kind = VERDICT_REPLY,
		  .code = 421,
		  .text = "bye",
		  .module = "first",
		  .disconnect = true },
		{ .name = "line breaks in a text make no second line",
		  .acts = { { .answer = ANSWER_DONE, .code = 250, .text = "a\r\n250 b\tc\177" } },
		  .kind = VERDICT_REPLY,
		  .code = 250,
		  .text = "a  250 b c ",
		  .module = "first" },
		{ .name = "a failure is a refusal",
		  .acts = { { .answer = ANSWER_FAILED } },
		  .kind = VERDICT_REPLY,
		  .code = 421,
		  .text = REFUSAL,
		  .module = "first",
		  .disconnect = true,
		  .failed = true },
		{ .name = "a failure outdoes what was accepted before",
		  .acts = { { .code = 250, .text = "fine" }, { .answer = ANSWER_FAILED, .code = 250, .text = "fine" } },
		  .kind = VERDICT_REPLY,
		  .code = 421,
		  .text = REFUSAL,
		  .module = "second",
		  .disconnect = true,
		  .failed = true,
		  .second_called = 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct act acts[2] = { rows[i].acts[0], rows[i].acts[1] };
		struct fixture f;

		open_fixture(&f, acts, 2);
		for (int again = 0; again < 2; again++) { /* a run is used again: nothing of the last one is left */
			const struct policy_verdict *v = &f.run.verdict;

			assert_int_equal(policy_run(&f.run), OK);
			if (v->kind != rows[i].kind || v->code != rows[i].code)
				fail_msg("%s: %d", rows[i].name, v->code);
			assert_string_equal(v->module, rows[i].module);
			assert_int_equal(v->disconnect, rows[i].disconnect);
			assert_int_equal(v->failed, rows[i].failed);
			assert_int_equal(policy_verdict_refuses(v), rows[i].code >= 400);
			if (rows[i].text != NULL)
				assert_string_equal(v->text.p, rows[i].text);
		}
		assert_int_equal(acts[1].called, 2 * rows[i].second_called);
		assert_int_equal(f.done, 0);
		close_fixture(&f);
	}
}

static void
reply_bounds(void **state)
{
	struct fixture f;
	char longest[5000];

	(void)state;
	open_fixture(&f, NULL, 0);
	assert_int_equal(policy_run(&f.run), OK);
	assert_int_equal(policy_reply(&f.run, 199, SLICE("x"), false), ERR_RANGE);
	assert_int_equal(policy_reply(&f.run, 600, SLICE("x"), false), ERR_RANGE);
	assert_int_equal(policy_reply(&f.run, 250, SLICE("x"), true), ERR_RANGE);
	assert_int_equal(f.run.verdict.kind, VERDICT_CONT);
	memset(longest, 'x', sizeof(longest));
	assert_int_equal(policy_reply(&f.run, 250, slice_of(longest, sizeof(longest)), false), OK);
	assert_true(f.run.verdict.text.n < 1000);
	close_fixture(&f);
}

static void
waiting_goes_on(void **state)
{
	struct act acts[3] = { { .answer = ANSWER_WAIT }, { .answer = ANSWER_WAIT }, { .code = 250, .text = "third" } };
	struct fixture f;

	(void)state;
	open_fixture(&f, acts, 3);
	assert_int_equal(policy_run(&f.run), ERR_AGAIN);
	assert_int_equal(acts[1].called, 0);
	policy_answer(&f.run, ANSWER_CONT);
	assert_int_equal(acts[1].called, 1);
	assert_int_equal(f.done, 0);
	policy_answer(&f.run, ANSWER_CONT);
	assert_int_equal(f.done, 1);
	assert_int_equal(f.run.verdict.code, 250);
	acts[0].answer = ANSWER_CONT; /* waits in the second only, which then fails */
	assert_int_equal(policy_run(&f.run), ERR_AGAIN);
	policy_answer(&f.run, ANSWER_FAILED);
	assert_int_equal(f.done, 2);
	assert_true(f.run.verdict.failed);
	assert_string_equal(f.run.verdict.module, "second");
	assert_int_equal(acts[2].called, 1);
	close_fixture(&f);
}

static void
cancelled_is_not_called(void **state)
{
	struct act acts[1] = { { .answer = ANSWER_WAIT } };
	struct fixture f;

	(void)state;
	open_fixture(&f, acts, 1);
	policy_cancel(&f.run); /* never begun */
	assert_int_equal(policy_run(&f.run), ERR_AGAIN);
	policy_cancel(&f.run);
	policy_cancel(&f.run);
	assert_int_equal(acts[0].cancelled, 1);
	assert_int_equal(policy_run(&f.run), ERR_AGAIN);
	policy_run_fini(&f.run);
	assert_int_equal(acts[0].cancelled, 2);
	assert_int_equal(f.done, 0);
	f.run.session = f.session;
	close_fixture(&f);
}

static void
bypass(void **state)
{
	struct act acts[2] = { { .code = 550, .text = "no" }, { .code = 0 } };
	struct fixture f;

	(void)state;
	open_fixture(&f, acts, 2);
	policy_context_set(policy_session_conn(f.session), SLICE("__bypass_first"), SLICE("TRUE"));
	assert_int_equal(policy_run(&f.run), OK);
	assert_int_equal(f.run.verdict.kind, VERDICT_CONT);
	assert_int_equal(acts[0].called, 0);
	assert_int_equal(acts[1].called, 1);
	policy_context_set(policy_session_conn(f.session), SLICE("__bypass_first"), SLICE("no"));
	assert_int_equal(policy_run(&f.run), OK);
	assert_int_equal(f.run.verdict.code, 550);
	close_fixture(&f);
}

static void
on_trace(void *arg, const struct policy_trace *t)
{
	bytes_addf(arg, "%s:%s:%s;", t->phase, t->hook, t->answer);
	assert_true(t->usec >= 0);
}

static void
traced(void **state)
{
	struct act acts[3] = { { 0 }, { .answer = ANSWER_WAIT }, { .answer = ANSWER_DONE } };
	struct fixture f;
	struct bytes trace = { 0 };

	(void)state;
	open_fixture(&f, acts, 3);
	policy_trace_set(f.policy, on_trace, &trace);
	policy_context_set(policy_session_conn(f.session), SLICE("__bypass_first"), SLICE("true"));
	assert_int_equal(policy_run(&f.run), ERR_AGAIN);
	policy_answer(&f.run, ANSWER_CONT);
	assert_string_equal(bytes_cstr(&trace), "data:first:BYPASS;data:second:CONT;data:third:DONE;");
	bytes_fini(&trace);
	close_fixture(&f);
}

static void
hooks_removed(void **state)
{
	struct act acts[2] = { { .code = 550, .text = "no" }, { 0 } };
	struct fixture f;

	(void)state;
	open_fixture(&f, acts, 2);
	assert_int_equal(policy_hook_count(f.policy, PHASE_DATA), 2);
	policy_hook_remove(f.policy, act_hook);
	assert_int_equal(policy_hook_count(f.policy, PHASE_DATA), 0);
	assert_int_equal(policy_run(&f.run), OK);
	assert_int_equal(f.run.verdict.kind, VERDICT_CONT);
	const struct policy_hook hook = { "first", "module", "", act_hook, &acts[1] };
	for (int i = 0; i < 64; i++)
		assert_int_equal(policy_hook_add(f.policy, PHASE_DATA, &hook), OK);
	assert_int_equal(policy_hook_add(f.policy, PHASE_DATA, &hook), ERR_FULL);
	close_fixture(&f);
}

static void
phase_rows(void **state)
{
	enum policy_phase p;

	(void)state;
	for (int i = 0; i < PHASE_MAX; i++) {
		assert_true(policy_phase_by_callout(slice_str(policy_phases[i].callout), &p));
		assert_int_equal(p, i);
		assert_true(policy_phases[i].results != 0);
	}
	assert_false(policy_phase_by_callout(SLICE("validate_nothing"), &p));
	/* The binding is chosen after the reply, content and discarding were decided. */
	assert_false(policy_phases[PHASE_SET_BINDING].may & (MAY_CODE | MAY_CONTENT | MAY_DISCARD | MAY_TARPIT));
	for (int i = PHASE_CONNECT; i < PHASE_DATA; i++)
		assert_false(policy_phases[i].may & (MAY_CONTENT | MAY_READ));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verdict_table),   cmocka_unit_test(reply_bounds),
		cmocka_unit_test(waiting_goes_on), cmocka_unit_test(cancelled_is_not_called),
		cmocka_unit_test(bypass),          cmocka_unit_test(traced),
		cmocka_unit_test(hooks_removed),   cmocka_unit_test(phase_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
