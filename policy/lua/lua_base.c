/* lua_base.c - the base functions that scripts see
 * Those that could outlive a spent budget (pcall, xpcall), reach the outside (dofile, loadfile, print) or set a
 * finalizer (setmetatable) are ours; the rest is Lua's. */
#include <string.h>

#include "policy/lua/lua_int.h"
#include "shm/base/log.h"

/* --- pcall: once the budget is spent there is nothing to go on with -------------------------------------------------
 */

/* An error that a pcall catches takes Lua's count of C calls back to the coroutine's start, so the bound on these does
 * not bound pcalls inside one another; and each that an error comes through costs a walk over all calls below it. */
static void
check_depth(lua_State *L)
{
	lua_Debug ar;

	if (lua_getstack(L, PCALL_DEPTH, &ar))
		luaL_error(L, "stack overflow: more than %d calls around a protected one", PCALL_DEPTH);
}

static int
pcall_end(lua_State *L, int status, int first)
{
	budget_note_error(L, status);
	if (budget_spent(L))
		return budget_raise(L);
	if (status == LUA_OK || status == LUA_YIELD)
		return lua_gettop(L) - first;
	lua_pushboolean(L, false);
	lua_pushvalue(L, -2);
	return 2;
}

static int
pcall_k(lua_State *L, int status, lua_KContext first)
{
	return pcall_end(L, status, (int)first);
}

static int
base_pcall(lua_State *L)
{
	luaL_checkany(L, 1);
	check_depth(L);
	lua_pushboolean(L, true);
	lua_insert(L, 1);
	return pcall_end(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, pcall_k), 0);
}

/* Message handler around a script's: that one is not called any more when the budget is spent, for the hook that ended
 * it may still be on the stack, and hooks with it off. */
static int
handler(lua_State *L)
{
	if (budget_spent(L))
		return 1;
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

static int
base_xpcall(lua_State *L)
{
	const int nargs = lua_gettop(L) - 2;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	check_depth(L);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, handler, 1);
	lua_replace(L, 2);
	lua_pushboolean(L, true); /* function, handler, args, true -> function, handler, true, function, args */
	lua_pushvalue(L, 1);
	lua_rotate(L, 3, 2);
	return pcall_end(L, lua_pcallk(L, nargs, LUA_MULTRET, 2, 2, pcall_k), 2);
}

/* --- output ------------------------------------------------------------------------------------------------------- */

static int
base_print(lua_State *L)
{
	const int n = lua_gettop(L);
	luaL_Buffer b;
	size_t len;

	luaL_buffinit(L, &b);
	for (int i = 1; i <= n; i++) {
		luaL_tolstring(L, i, NULL);
		luaL_addvalue(&b);
		if (i < n)
			luaL_addchar(&b, ' ');
	}
	luaL_pushresult(&b);
	const char *text = lua_tolstring(L, -1, &len);
	budget_charge(L, 1000 + len);
	log_info("scriptlet", "%.*s", (int)(len < LOG_TEXT_MAX ? len : LOG_TEXT_MAX), text);
	return 0;
}

/* --- loading code --------------------------------------------------------------------------------------------------
 */

/* load(chunk [, name [, mode [, env]]]): source text only, bytecode could break the state. */
static int
base_load(lua_State *L)
{
	size_t len;
	const char *text;
	const bool env = lua_gettop(L) >= 4;

	if (lua_type(L, 1) == LUA_TFUNCTION)
		return luaL_error(L, "msys: load with a function is not built: give it a string");
	text = luaL_checklstring(L, 1, &len);
	budget_charge(L, len);
	const int status = luaL_loadbufferx(L, text, len, luaL_optstring(L, 2, text), "t");
	if (status != LUA_OK) {
		budget_note_error(L, status);
		lua_pushnil(L);
		lua_insert(L, -2);
		return 2;
	}
	if (env) {
		lua_pushvalue(L, 4);
		lua_setupvalue(L, -2, 1);
	}
	return 1;
}

/* Chunk name of a script: what stands before ":12:" in messages, short enough to be whole. */
static void
push_chunk_name(lua_State *L, const char *path)
{
	const char *base = strrchr(path, '/');

	lua_pushfstring(L, "@%s", base == NULL ? path : base + 1);
}

/* The name with dots, as the bundle and `loaded` know it. */
static void
push_module_name(lua_State *L, const char *name)
{
	luaL_gsub(L, name, "/", ".");
}

static int
require_k(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx; /* 1 name, 2 dotted name, 3 loaded, 4 result */
	if (lua_isnil(L, 4)) {
		lua_pushvalue(L, 2);
		if (lua_rawget(L, 3) != LUA_TNIL)
			return 1;
		lua_pushboolean(L, true);
		lua_replace(L, 4);
	}
	lua_pushvalue(L, 2);
	lua_pushvalue(L, 4);
	lua_rawset(L, 3);
	lua_settop(L, 4);
	return 1;
}

/* require(name): served from the bundle; a file runs once a state. */
int
base_require(lua_State *L)
{
	const struct lua_host *h = lua_host_of(L);
	const char *name = luaL_checkstring(L, 1);
	const struct policy_script *s;

	lua_settop(L, 1);
	push_module_name(L, name);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_pushvalue(L, 2);
	if (lua_rawget(L, 3) != LUA_TNIL)
		return 1;
	lua_settop(L, 3);
	s = policy_bundle_find(h->conf.bundle, slice_str(name));
	if (s == NULL && strncmp(name, "msys", 4) == 0 && (name[4] == '.' || name[4] == '/'))
		return luaL_error(L, "msys: %s is not built yet", lua_tostring(L, 2));
	if (s == NULL)
		return luaL_error(L, "module '%s' not found on the search path", name);
	budget_charge(L, s->text.n);
	push_chunk_name(L, s->path);
	if (luaL_loadbufferx(L, s->text.p, s->text.n, lua_tostring(L, -1), "t") != LUA_OK)
		return lua_error(L);
	lua_remove(L, -2);
	lua_pushvalue(L, 2);
	lua_callk(L, 1, 1, 0, require_k);
	return require_k(L, LUA_OK, 0);
}

/* "collect" and "count"; what would change the collector's pace for everybody is ignored. */
static int
base_collectgarbage(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);
	const char *what = luaL_optstring(L, 1, "collect");

	if (strcmp(what, "count") == 0) {
		lua_pushnumber(L, (lua_Number)h->used / 1024);
		return 1;
	}
	if (strcmp(what, "collect") == 0) {
		budget_charge(L, h->used / 16);
		lua_gc(L, LUA_GCCOLLECT);
		if (h->task != NULL || h->loading)
			finalizers_run(L, h->task != NULL ? h->task->serial : 0);
		if (budget_spent(L))
			return budget_raise(L);
	}
	lua_pushinteger(L, 0);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "pcall", base_pcall },
	{ "xpcall", base_xpcall },
	{ "print", base_print },
	{ "load", base_load },
	{ "require", base_require },
	{ "collectgarbage", base_collectgarbage },
	{ "setmetatable", finalizers_setmetatable },
	{ NULL, NULL },
};

void
base_open(lua_State *L)
{
	static const char *const gone[] = { "dofile", "loadfile", "warn" };

	luaL_requiref(L, LUA_GNAME, luaopen_base, 0);
	luaL_setfuncs(L, functions, 0);
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		lua_pushnil(L);
		lua_setfield(L, -2, gone[i]);
	}
	lua_pop(L, 1);
}
