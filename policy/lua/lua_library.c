/* lua_library.c - what scripts see of table, math, utf8, os and debug
 * A C function runs between two looks at the budget, so each whose time grows with its arguments is charged for them
 * first: rows name function and cost. What could reach the machine (files, processes, the environment) or take the
 * budget's hook away is not there. */
#include <string.h>

#include "policy/lua/lua_int.h"

typedef uint64_t cost_fn(lua_State *L);

static lua_Integer
length_of(lua_State *L, int arg)
{
	if (lua_type(L, arg) == LUA_TTABLE && luaL_getmetafield(L, arg, "__len") == LUA_TNIL)
		return (lua_Integer)lua_rawlen(L, arg);
	lua_settop(L, lua_gettop(L) - (lua_type(L, arg) == LUA_TTABLE));
	return lua_istable(L, arg) || lua_isstring(L, arg) ? luaL_len(L, arg) : 0;
}

static lua_Integer
integer_or(lua_State *L, int arg, lua_Integer def)
{
	return lua_isinteger(L, arg) || lua_isnumber(L, arg) ? lua_tointeger(L, arg) : def;
}

static uint64_t
span(lua_Integer from, lua_Integer to)
{
	return to < from ? 0 : (uint64_t)to - (uint64_t)from + 1;
}

static uint64_t
cost_text(lua_State *L)
{
	size_t n = 0;

	if (lua_type(L, 1) == LUA_TSTRING)
		lua_tolstring(L, 1, &n);
	return n / 4;
}

/* string.byte(s, i, j), utf8.codepoint(s, i, j): a result each. */
static uint64_t
cost_bytes(lua_State *L)
{
	return lua_gettop(L) < 3 ? 0 : cost_text(L);
}

static uint64_t
cost_concat(lua_State *L)
{
	return span(integer_or(L, 3, 1), integer_or(L, 4, lua_isnoneornil(L, 4) ? length_of(L, 1) : 0));
}

static uint64_t
cost_unpack(lua_State *L)
{
	const uint64_t n = span(integer_or(L, 2, 1), integer_or(L, 3, lua_isnoneornil(L, 3) ? length_of(L, 1) : 0));

	return n > 1000000 ? 1 : n; /* too many: it raises at once */
}

/* table.insert(t, pos, v), table.remove(t, pos): what lies behind pos moves. */
static uint64_t
cost_shift(lua_State *L)
{
	return lua_isnumber(L, 2) ? span(lua_tointeger(L, 2), length_of(L, 1)) : 0;
}

static uint64_t
cost_insert(lua_State *L)
{
	return lua_gettop(L) < 3 ? 0 : cost_shift(L);
}

static uint64_t
cost_move(lua_State *L)
{
	return span(integer_or(L, 2, 1), integer_or(L, 3, 0));
}

static uint64_t
cost_sort(lua_State *L)
{
	const uint64_t n = (uint64_t)length_of(L, 1);
	uint64_t depth = 1;

	for (uint64_t i = n; i > 1; i >>= 1)
		depth++;
	return n > UINT64_C(1) << 32 ? 1 : 2 * n * depth;
}

static const struct charged {
	const char *library, *function;
	cost_fn *cost;
} charged[] = {
	{ "string", "byte", cost_bytes },    { "string", "format", cost_text },  { "string", "pack", cost_text },
	{ "string", "packsize", cost_text }, { "string", "unpack", cost_text },  { "string", "upper", cost_text },
	{ "string", "lower", cost_text },    { "string", "reverse", cost_text }, { "utf8", "len", cost_text },
	{ "utf8", "codepoint", cost_text },  { "utf8", "offset", cost_text },    { "table", "concat", cost_concat },
	{ "table", "unpack", cost_unpack },  { "table", "insert", cost_insert }, { "table", "remove", cost_shift },
	{ "table", "move", cost_move },      { "table", "sort", cost_sort },     { "os", "date", cost_text },
	{ "_G", "tonumber", cost_text },
};

/* Upvalues: number of the row, the library's own function. That one is called in this frame, so that its errors name
 * the script's line and the function by its name. */
static int
call_charged(lua_State *L)
{
	const struct charged *row = &charged[lua_tointeger(L, lua_upvalueindex(1))];

	budget_charge(L, row->cost(L) + 1);
	return lua_tocfunction(L, lua_upvalueindex(2))(L);
}

static void
charge_functions(lua_State *L)
{
	for (size_t i = 0; i < sizeof(charged) / sizeof(charged[0]); i++) {
		lua_getglobal(L, charged[i].library);
		lua_pushinteger(L, (lua_Integer)i);
		lua_getfield(L, -2, charged[i].function);
		lua_pushcclosure(L, call_charged, 2);
		lua_setfield(L, -2, charged[i].function);
		lua_pop(L, 1);
	}
}

/* debug.getinfo([thread,] function or level [, what]) without the function itself: among those on the stack are ours,
 * which nobody may call. Upvalue: the library's. */
static int
debug_getinfo(lua_State *L)
{
	static const char harmless[] = "Slntu";
	const int what = lua_isthread(L, 1) ? 3 : 2;
	const char *asked = luaL_optstring(L, what, harmless);

	if (asked[strspn(asked, harmless)] != '\0')
		return luaL_error(L, "debug.getinfo: only \"%s\" is possible here", harmless);
	lua_settop(L, what - 1);
	lua_pushstring(L, asked);
	/* In this frame, so that levels count from the script. */
	return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* Keeps only these of a library; NULL ends. */
static void
open_some(lua_State *L, const char *name, lua_CFunction open, const char *const *keep)
{
	luaL_requiref(L, name, open, 0);
	lua_newtable(L);
	for (; *keep != NULL; keep++) {
		lua_getfield(L, -2, *keep);
		lua_setfield(L, -2, *keep);
	}
	lua_pushvalue(L, -1);
	lua_setglobal(L, name);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_insert(L, -2);
	lua_setfield(L, -2, name);
	lua_pop(L, 2);
}

void
library_open(lua_State *L)
{
	static const char *const os[] = { "clock", "date", "difftime", "time", NULL };
	static const char *const debug[] = { "traceback", "getinfo", NULL };

	luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 1);
	luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 1);
	luaL_requiref(L, LUA_UTF8LIBNAME, luaopen_utf8, 1);
	lua_pop(L, 3);
	open_some(L, LUA_OSLIBNAME, luaopen_os, os);
	open_some(L, LUA_DBLIBNAME, luaopen_debug, debug);
	lua_getglobal(L, LUA_DBLIBNAME);
	lua_getfield(L, -1, "getinfo");
	lua_pushcclosure(L, debug_getinfo, 1);
	lua_setfield(L, -2, "getinfo");
	lua_pop(L, 1);
	charge_functions(L);
}
