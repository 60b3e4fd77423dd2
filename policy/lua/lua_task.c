/* lua_task.c - the one driver: a callout's coroutine from its start, through its waits, to the one exit
 * Life of a task: taken (from the spare ones) -> running -> [waiting -> running]* -> settled -> spare again; one that
 * failed is closed and its coroutine never resumed. */
#include <stdlib.h>
#include <string.h>

#include "policy/lua/lua_int.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

enum {
	AGAIN_PAUSE = 50 * 1000, /* usec between two calls of a callout that says VALIDATE_AGAIN */
	HOUSE_MAX = 64,          /* finalizers run between two callouts */
};
enum { RESULT_CODE_CONT, RESULT_CODE_DONE, RESULT_CODE_AGAIN }; /* msys.core.VALIDATE_* */

/* --- the coroutine's side -------------------------------------------------------------------------------------- */

/* Message handler of a callout: notes the stack while it is still there. */
static int
on_error(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);
	struct bytes *trace = &h->budget->trace;

	if (h->budget->spent != SPENT_NOT)
		return 1;
	trace->n = 0;
	if (lua_type(L, 1) == LUA_TSTRING)
		bytes_addf(trace, "%.*s\n", LOG_TEXT_MAX, lua_tostring(L, 1));
	else
		bytes_addf(trace, "(error object is a %s value)\n", luaL_typename(L, 1));
	budget_stack(L, trace);
	return 1;
}

/* What follows the callout in its coroutine: 1 result. */
static int
body_end(lua_State *L, int status)
{
	struct task *t = lua_host_of(L)->task;

	budget_note_error(L, status);
	t->failed = status != LUA_OK && status != LUA_YIELD;
	if (!t->failed && t->host->npending > 0)
		finalizers_run(L, t->serial);
	t->finished = true;
	return 1;
}

static int
body_k(lua_State *L, int status, lua_KContext ctx)
{
	(void)ctx;
	return body_end(L, status);
}

/* The whole of a coroutine. Stack: function, self, arguments. The pcall is also what turns hooks on again after an
 * error in one, so that pending __close functions are watched. */
static int
body(lua_State *L)
{
	lua_pushcfunction(L, on_error);
	lua_insert(L, 1);
	return body_end(L, lua_pcallk(L, lua_gettop(L) - 2, 1, 1, 0, body_k));
}

/* --- tasks ------------------------------------------------------------------------------------------------------- */

static struct task *
task_take(struct lua_host *h)
{
	struct task *t = TAILQ_FIRST(&h->spare);

	if (t != NULL) {
		TAILQ_REMOVE(&h->spare, t, link);
		h->stats.spare--;
	} else {
		t = mem_zalloc(sizeof(*t));
		t->host = h;
		t->co = lua_newthread(h->L);
		t->ref = luaL_ref(h->L, LUA_REGISTRYINDEX);
	}
	t->serial = ++h->serial;
	t->wait = WAIT_NOT;
	t->finished = t->failed = t->dns_ready = false;
	return t;
}

static void
task_free(struct task *t)
{
	luaL_unref(t->host->L, LUA_REGISTRYINDEX, t->ref);
	budget_fini(&t->budget);
	free(t);
}

/* Closes the coroutine for good: what is pending in it dies at its first instruction. */
static void
task_close(struct task *t)
{
	struct lua_host *h = t->host;

	if (t->budget.spent == SPENT_NOT)
		t->budget.spent = SPENT_CANCELLED;
	budget_enter(h, &t->budget);
	h->task = t;
	lua_sethook(t->co, lua_gethook(t->co), LUA_MASKCOUNT, 1);
	lua_resetthread(t->co);
	h->task = NULL;
	budget_leave(h);
	task_free(t);
}

static void
task_release(struct task *t)
{
	struct lua_host *h = t->host;

	lua_settop(t->co, 0);
	if (h->stats.spare == TASKS_SPARE) {
		task_free(t);
		return;
	}
	t->run = NULL;
	TAILQ_INSERT_HEAD(&h->spare, t, link);
	h->stats.spare++;
}

void
task_free_spare(struct lua_host *h)
{
	struct task *t;

	while ((t = TAILQ_FIRST(&h->spare)) != NULL) {
		TAILQ_REMOVE(&h->spare, t, link);
		task_free(t);
	}
	h->stats.spare = 0;
}

static void
task_stop_deadline(struct task *t)
{
	const struct policy_host_ops *ops = policy_host(t->host->policy);

	if (t->deadline != NULL)
		ops->timer_stop(ops->arg, t->deadline);
	t->deadline = NULL;
}

void
task_wait_stop(struct task *t)
{
	const struct policy_host_ops *ops = policy_host(t->host->policy);

	if (t->wait == WAIT_DNS)
		ops->dns_cancel(ops->arg, t->wait_handle);
	else if (t->wait == WAIT_AGAIN)
		ops->timer_stop(ops->arg, t->wait_handle);
	t->wait = WAIT_NOT;
	t->wait_handle = NULL;
}

/* --- the exit ------------------------------------------------------------------------------------------------------
 */

static void
log_callout_error(const struct task *t, const char *reason)
{
	const struct callout *c = t->callout;
	char conn[ID_TEXT];

	if (c == NULL) {
		log_error("scriptlet", "__gc function between callouts: %s", reason);
		return;
	}
	id_text(policy_session_env(t->run->session)->conn, conn);
	log_error("scriptlet", "CALLOUT error in %s:%s (phase %s, connection %s, defined at %s): %s",
		  t->host->modules[c->module].name, policy_phases[c->phase].callout, policy_phases[c->phase].name, conn,
		  c->where, reason);
}

static void
log_trace(struct bytes *trace)
{
	struct slice rest = slice_bytes(trace);

	while (rest.n > 0) {
		const size_t n = slice_find(rest, '\n');

		log_error("scriptlet", "CALLOUT error   %.*s", (int)n, rest.p);
		rest = slice_of(rest.p + n, rest.n - n);
		if (rest.n > 0)
			rest = slice_of(rest.p + 1, rest.n - 1);
	}
}

/* The one exit of error, overrun and wrong result: logged once, the coroutine never runs again. */
static enum policy_answer
task_fail(struct task *t, const char *reason)
{
	struct lua_host *h = t->host;

	if (t->budget.spent != SPENT_NOT) {
		reason = budget_spent_text(t->budget.spent);
		h->stats.overruns++;
	}
	log_callout_error(t, reason);
	log_trace(&t->budget.trace);
	h->stats.failed++;
	task_stop_deadline(t);
	task_wait_stop(t);
	task_close(t);
	return ANSWER_FAILED;
}

/* --- the driver ----------------------------------------------------------------------------------------------------
 */

/* Runs the coroutine until it waits or ends. */
static int
task_resume(struct task *t, int nargs)
{
	struct lua_host *h = t->host;
	int nres, status;

	budget_enter(h, &t->budget);
	h->task = t;
	if (nargs >= 0)
		budget_watch(t->co);
	status = lua_resume(t->co, h->L, nargs < 0 ? 0 : nargs, &nres);
	budget_note_error(h->L, status);
	h->task = NULL;
	budget_leave(h);
	return status;
}

/* Function, self and arguments of the callout onto its coroutine; gives their number less the function. */
static int
task_push_call(struct task *t)
{
	struct policy_run *r = t->run;
	const struct policy_phase_row *row = &policy_phases[t->callout->phase];
	lua_State *co = t->co;
	int n = 1;

	lua_pushcfunction(co, body);
	lua_rawgeti(co, LUA_REGISTRYINDEX, t->callout->ref);
	push_self(co, r->session, t->callout->module);
	for (; n <= POLICY_PARAMS && row->params[n - 1] != PARAM_END; n++) {
		switch ((enum policy_param)row->params[n - 1]) {
		case PARAM_STR:
			push_ecstring(co, r->str);
			break;
		case PARAM_MSG:
			push_msg(co, r->msg);
			break;
		case PARAM_AC:
			push_ac(co, r->session);
			break;
		case PARAM_VCTX:
			push_vctx(co, r->session);
			break;
		case PARAM_END:
			break;
		}
	}
	return n + 1; /* body's arguments: function, self, n - 1 parameters */
}

/* Takes the next finalizer's task on what is left of the house's budget; NULL: none is due. */
static struct task *
house_take(struct lua_host *h, uint64_t steps, usec_t deadline)
{
	struct task *t = task_take(h);

	t->run = NULL;
	t->callout = NULL;
	budget_init(&t->budget, steps, h->conf.max_memory, deadline);
	lua_pushcfunction(t->co, body);
	if (finalizers_next(t->co))
		return t;
	task_release(t);
	return NULL;
}

/* Finalizers of objects that earlier callouts left, on a budget of their own, one for all that are due: no session pays
 * for another's. Who left one that spends it may have left thousands, which the collector brings forth over many
 * callouts: those of all objects made until now are skipped. */
static void
house_run(struct lua_host *h)
{
	const usec_t time = h->conf.max_time < BUDGET_SLICE ? h->conf.max_time : BUDGET_SLICE;
	const usec_t deadline = clock_mono() + time;
	uint64_t steps = h->conf.max_instructions;
	struct task *t;

	/* A finalizer may make more of its kind: the rest waits for the next callout's end. */
	for (int i = 0; i < HOUSE_MAX && (t = house_take(h, steps, deadline)) != NULL; i++) {
		const bool ok = task_resume(t, 2) == LUA_OK && !t->failed;

		steps = t->budget.steps > 0 ? (uint64_t)t->budget.steps : 0;
		if (t->budget.spent != SPENT_NOT) {
			h->skip_before = h->serial + 1;
			log_error("scriptlet", "__gc functions have spent their budget: "
					       "those of all objects made until now are skipped");
			task_fail(t, "");
			return;
		}
		if (ok)
			task_release(t);
		else
			task_fail(t, "error in a __gc function");
	}
}

static enum policy_answer
task_settle(struct task *t, enum policy_answer a)
{
	struct lua_host *h = t->host;

	task_stop_deadline(t);
	task_release(t);
	if (h->npending > 0)
		house_run(h);
	return a;
}

static enum policy_answer task_step(struct task *t, int nargs);

static void
task_cancel(struct policy_run *r, void *arg)
{
	struct task *t = arg;

	(void)r;
	TAILQ_REMOVE(&t->host->waiting, t, link);
	t->host->stats.waiting--;
	task_stop_deadline(t);
	task_wait_stop(t);
	task_close(t);
}

/* A task that waits is to go on, or to end: it is not in the list of those that wait any more. */
static void
task_wakes(struct task *t)
{
	TAILQ_REMOVE(&t->host->waiting, t, link);
	t->host->stats.waiting--;
	t->wait = WAIT_NOT;
	t->wait_handle = NULL;
}

/* Hands a woken task's answer on, unless it waits again. */
static void
task_answer(struct policy_run *r, enum policy_answer a)
{
	if (a != ANSWER_WAIT)
		policy_answer(r, a);
}

static void
task_on_deadline(void *arg)
{
	struct task *t = arg;
	struct policy_run *r = t->run;

	t->deadline = NULL;
	TAILQ_REMOVE(&t->host->waiting, t, link);
	t->host->stats.waiting--;
	t->budget.spent = SPENT_TIME;
	budget_stack(t->co, &t->budget.trace);
	task_answer(r, task_fail(t, ""));
}

void
task_on_dns(void *arg, const char *error, const struct policy_dns_row *rows, size_t n)
{
	struct task *t = arg;
	struct policy_run *r = t->run;

	task_wakes(t);
	t->dns_ready = true;
	t->dns_error = error;
	t->dns_rows = rows;
	t->dns_n = n;
	task_answer(r, task_step(t, -1));
}

static void
task_on_again(void *arg)
{
	struct task *t = arg;
	struct policy_run *r = t->run;

	task_wakes(t);
	t->finished = false;
	task_answer(r, task_step(t, task_push_call(t)));
}

/* The task stays suspended: whoever it waits for, its deadline, or a cancel ends that. */
static enum policy_answer
task_suspend(struct task *t)
{
	const struct policy_host_ops *ops = policy_host(t->host->policy);

	if (t->deadline == NULL)
		t->deadline = ops->timer_start(ops->arg, t->budget.deadline, task_on_deadline, t);
	TAILQ_INSERT_TAIL(&t->host->waiting, t, link);
	t->host->stats.waiting++;
	policy_waits(t->run, task_cancel, t);
	return ANSWER_WAIT;
}

/* The callout has returned: its result on top of the coroutine's stack. */
static enum policy_answer
task_result(struct task *t)
{
	const struct policy_phase_row *row = &policy_phases[t->callout->phase];
	const struct policy_host_ops *ops = policy_host(t->host->policy);
	static const unsigned bits[] = { RESULT_CONT, RESULT_DONE, RESULT_AGAIN };
	int whole = 0;
	const lua_Integer v = lua_type(t->co, -1) == LUA_TNUMBER ? lua_tointegerx(t->co, -1, &whole) : -1;

	if ((row->results & RESULT_NONE) != 0)
		return task_settle(t, ANSWER_CONT);
	if (!whole || v < RESULT_CODE_CONT || v > RESULT_CODE_AGAIN || (row->results & bits[v]) == 0) {
		struct bytes why = { 0 };

		bytes_addf(&why, "returned %s%s, which is no result of this phase", luaL_typename(t->co, -1),
			   lua_type(t->co, -1) == LUA_TNUMBER ? " of another value" : "");
		const enum policy_answer a = task_fail(t, bytes_cstr(&why));
		bytes_fini(&why);
		return a;
	}
	if (v != RESULT_CODE_AGAIN)
		return task_settle(t, v == RESULT_CODE_DONE ? ANSWER_DONE : ANSWER_CONT);
	if (ops->timer_start == NULL)
		return task_fail(t, "VALIDATE_AGAIN where nothing can wait");
	lua_settop(t->co, 0);
	t->wait = WAIT_AGAIN;
	t->wait_handle = ops->timer_start(ops->arg, clock_mono() + AGAIN_PAUSE, task_on_again, t);
	return task_suspend(t);
}

/* nargs < 0: goes on after a wait. */
static enum policy_answer
task_step(struct task *t, int nargs)
{
	const int status = task_resume(t, nargs);

	if (t->budget.spent != SPENT_NOT)
		return task_fail(t, "");
	if (status == LUA_YIELD && t->wait != WAIT_NOT)
		return task_suspend(t);
	if (status == LUA_YIELD)
		return task_fail(t, "yielded outside a coroutine of its own");
	if (status != LUA_OK || !t->finished || t->failed)
		return task_fail(t, "script error");
	return task_result(t);
}

enum policy_answer
task_hook(struct policy_run *r, void *arg)
{
	const struct callout *c = arg;
	struct lua_host *h = c->host;

	if (h->worn)
		lua_host_renew(h);
	if (c->ref == LUA_NOREF) {
		log_error("scriptlet", "CALLOUT error in %s:%s: gone since the scripts were loaded anew",
			  h->modules[c->module].name, policy_phases[c->phase].callout);
		return ANSWER_FAILED;
	}
	struct task *t = task_take(h);
	h->stats.callouts++;
	t->run = r;
	t->callout = c;
	budget_init(&t->budget, h->conf.max_instructions, h->conf.max_memory, clock_mono() + h->conf.max_time);
	return task_step(t, task_push_call(t));
}

void
task_fail_waiting(struct lua_host *h)
{
	struct task *t;

	while ((t = TAILQ_FIRST(&h->waiting)) != NULL) {
		/* The analyzer does not see that TAILQ_REMOVE takes the first one off the list.
		 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		struct policy_run *r = t->run;

		TAILQ_REMOVE(&h->waiting, t, link);
		h->stats.waiting--;
		t->budget.spent = SPENT_CANCELLED;
		task_answer(r, task_fail(t, ""));
	}
}

/* --- for functions that scripts call ---------------------------------------------------------------------------- */

struct task *
task_check(lua_State *L, const char *function)
{
	struct task *t = lua_host_of(L)->task;

	if (t == NULL || t->run == NULL)
		luaL_error(L, "msys: %s is only possible in a callout", function);
	return t;
}

struct policy_run *
task_run(lua_State *L)
{
	const struct task *t = lua_host_of(L)->task;

	return t == NULL ? NULL : t->run;
}

void
task_check_wait(lua_State *L, const char *function)
{
	const struct task *t = task_check(L, function);

	if (policy_host(t->host->policy)->timer_start == NULL)
		luaL_error(L, "msys: %s is not possible here: nothing can wait", function);
	if (!lua_isyieldable(L))
		luaL_error(L, "msys: %s cannot wait inside a function that C code calls", function);
}
