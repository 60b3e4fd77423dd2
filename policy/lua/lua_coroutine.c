/* lua_coroutine.c - coroutines inside callouts
 * A script's own coroutine is watched by the same budget; when the budget is spent in it, the error goes on through
 * everyone who resumed it. A function that waits (msys.dnsLookup) inside one suspends the whole chain up to the driver,
 * which later wakes it from the outside in. Nobody else may touch a coroutine that waits so, nor the driver's own ones.
 */
#include "policy/lua/lua_int.h"

/* In the registry, by thread: absent for the driver's coroutines. */
enum nested { NESTED_NOT, NESTED_IDLE, NESTED_WAITS };
static const char NESTED[] = "impetus nested";

static enum nested
nested_get(lua_State *L, lua_State *co)
{
	lua_getfield(L, LUA_REGISTRYINDEX, NESTED);
	lua_pushthread(co);
	if (L != co)
		lua_xmove(co, L, 1);
	lua_rawget(L, -2);
	const enum nested n = (enum nested)lua_tointeger(L, -1);
	lua_pop(L, 2);
	return n;
}

static void
nested_set(lua_State *L, lua_State *co, enum nested n)
{
	lua_getfield(L, LUA_REGISTRYINDEX, NESTED);
	lua_pushthread(co);
	lua_xmove(co, L, 1);
	lua_pushinteger(L, n);
	lua_rawset(L, -3);
	lua_pop(L, 1);
}

static lua_State *
check_thread(lua_State *L, int arg)
{
	lua_State *co = lua_tothread(L, arg);

	luaL_argexpected(L, co != NULL, arg, "coroutine");
	return co;
}

/* --- inside the coroutine ---------------------------------------------------------------------------------------- */

static int
body_k(lua_State *L, int status, lua_KContext ctx)
{
	(void)ctx;
	if (status == LUA_OK || status == LUA_YIELD)
		return lua_gettop(L);
	budget_note_error(L, status);
	return lua_error(L);
}

/* Stack: function, arguments. The pcall turns hooks on again after an error in one (lua_int.h). */
static int
body(lua_State *L)
{
	return body_k(L, lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 0, body_k), 0);
}

/* --- create, resume, wrap ----------------------------------------------------------------------------------------- */

static int
co_create(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_State *co = lua_newthread(L);
	nested_set(L, co, NESTED_IDLE);
	budget_watch(co);
	lua_pushcfunction(co, body);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	return 1;
}

enum how { HOW_RESUME, HOW_WRAP };

/* The coroutine's error is on L's top. */
static int
resume_failed(lua_State *L, enum how how)
{
	if (how == HOW_WRAP) {
		if (lua_type(L, -1) == LUA_TSTRING) {
			luaL_where(L, 1);
			lua_insert(L, -2);
			lua_concat(L, 2);
		}
		return lua_error(L);
	}
	lua_pushboolean(L, false);
	lua_insert(L, -2);
	return 2;
}

static int
resume_done(lua_State *L, lua_State *co, int nres, enum how how)
{
	if (!lua_checkstack(L, nres + 1)) {
		lua_pop(co, nres);
		lua_pushliteral(L, "too many results to resume");
		return resume_failed(L, how);
	}
	if (how == HOW_RESUME)
		lua_pushboolean(L, true);
	lua_xmove(co, L, nres);
	return nres + (how == HOW_RESUME);
}

static int resume_k(lua_State *L, int status, lua_KContext how);

/* The coroutine waits for the outside: so do we, if we can. */
static int
resume_suspend(lua_State *L, lua_State *co, struct task *t, enum how how)
{
	nested_set(L, co, NESTED_WAITS); /* also when the wait ends here: what it waited for never comes */
	if (!lua_isyieldable(L)) {
		task_wait_stop(t);
		return luaL_error(L, "msys: a coroutine cannot wait here: C code is between it and the callout");
	}
	return lua_yieldk(L, 0, (lua_KContext)how, resume_k);
}

static int
resume_step(lua_State *L, lua_State *co, int nargs, enum how how)
{
	struct task *t = lua_host_of(L)->task;
	int nres;
	const int status = lua_resume(co, L, nargs, &nres);

	if (budget_spent(L))
		return budget_raise(L);
	if (status == LUA_YIELD && t != NULL && t->wait != WAIT_NOT)
		return resume_suspend(L, co, t, how);
	if (status == LUA_OK || status == LUA_YIELD)
		return resume_done(L, co, nres, how);
	lua_xmove(co, L, 1);
	return resume_failed(L, how); /* nothing is pending in it: body's pcall saw to that */
}

static lua_State *
resumed_thread(lua_State *L, enum how how)
{
	return lua_tothread(L, how == HOW_WRAP ? lua_upvalueindex(1) : 1);
}

static int
resume_k(lua_State *L, int status, lua_KContext ctx)
{
	lua_State *co = resumed_thread(L, (enum how)ctx);

	(void)status;
	nested_set(L, co, NESTED_IDLE);
	return resume_step(L, co, 0, (enum how)ctx);
}

/* Has it begun and not ended, without being suspended? It runs, or has resumed who runs. */
static bool
is_active(lua_State *co)
{
	lua_Debug ar;

	return lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar) != 0;
}

/* May it be resumed? NULL: yes. */
static const char *
resume_refusal(lua_State *L, lua_State *co)
{
	if (nested_get(L, co) != NESTED_IDLE)
		return "cannot resume this coroutine: it is not the script's, or waits";
	if (lua_status(co) == LUA_YIELD)
		return NULL;
	if (is_active(co))
		return "cannot resume non-suspended coroutine";
	return lua_status(co) == LUA_OK && lua_gettop(co) > 0 ? NULL : "cannot resume dead coroutine";
}

static int
resume_begin(lua_State *L, lua_State *co, int nargs, enum how how)
{
	/* One that ends within BUDGET_COUNT instructions is never looked at by its own hook. */
	budget_look(L);
	const char *refusal = resume_refusal(L, co);

	if (refusal == NULL && !lua_checkstack(co, nargs))
		refusal = "too many arguments to resume";
	if (refusal != NULL) {
		lua_pushstring(L, refusal);
		return resume_failed(L, how);
	}
	const bool first = lua_status(co) == LUA_OK;
	lua_xmove(L, co, nargs);
	return resume_step(L, co, nargs + first, how);
}

static int
co_resume(lua_State *L)
{
	lua_State *co = check_thread(L, 1);

	return resume_begin(L, co, lua_gettop(L) - 1, HOW_RESUME);
}

static int
co_wrapped(lua_State *L)
{
	return resume_begin(L, resumed_thread(L, HOW_WRAP), lua_gettop(L), HOW_WRAP);
}

static int
co_wrap(lua_State *L)
{
	co_create(L);
	lua_pushcclosure(L, co_wrapped, 1);
	return 1;
}

static int co_yield (lua_State *L)
{
	if (nested_get(L, L) == NESTED_NOT)
		return luaL_error(L, "attempt to yield from outside a coroutine");
	return lua_yield(L, lua_gettop(L));
}

static int
co_close(lua_State *L)
{
	lua_State *co = check_thread(L, 1);

	if (nested_get(L, co) != NESTED_IDLE || is_active(co))
		return luaL_error(L, "cannot close this coroutine");
	/* What closing runs in co does not count as C calls of ours: Lua's own bound against a C stack that overflows
	 * is not in force here. */
	struct lua_host *h = lua_host_of(L);
	if (h->closing == CLOSE_DEPTH)
		return luaL_error(L, "too many coroutines closed inside one another");
	h->closing++;
	const int status = lua_resetthread(co);
	h->closing--;
	if (budget_spent(L))
		return budget_raise(L);
	if (status == LUA_OK) {
		lua_pushboolean(L, true);
		return 1;
	}
	lua_pushboolean(L, false);
	lua_xmove(co, L, 1);
	return 2;
}

static const luaL_Reg functions[] = {
	{ "create", co_create }, { "resume", co_resume }, { "wrap", co_wrap },
	{ "yield", co_yield },   { "close", co_close },   { NULL, NULL },
};

void
coroutine_open(lua_State *L)
{
	lua_newtable(L); /* thread -> enum nested; threads are forgotten with their last user */
	lua_newtable(L);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_setfield(L, LUA_REGISTRYINDEX, NESTED);
	luaL_requiref(L, LUA_COLIBNAME, luaopen_coroutine, 1);
	luaL_setfuncs(L, functions, 0);
	lua_pop(L, 1);
}
