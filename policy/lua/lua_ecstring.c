/* lua_ecstring.c - ec_string: a text that can be written to
 * tostring(s), #s, s .. "x", s == t, s.buffer, s:set(text), s:write(text[, len]); its text is a Lua string, so it is
 * charged like one. The methods of strings work on it too (s:match("x") is tostring(s):match("x")). */
#include <string.h>

#include "policy/lua/lua_int.h"

void
push_ecstring(lua_State *L, struct slice text)
{
	lua_newuserdatauv(L, 0, 1);
	push_slice(L, text);
	lua_setiuservalue(L, -2, 1);
	luaL_setmetatable(L, CLASS_ECSTRING);
}

void
ecstring_set(lua_State *L, int arg, struct slice text)
{
	luaL_checkudata(L, arg, CLASS_ECSTRING);
	arg = lua_absindex(L, arg);
	push_slice(L, text);
	lua_setiuservalue(L, arg, 1);
}

struct slice
check_text(lua_State *L, int arg)
{
	size_t n;

	if (luaL_testudata(L, arg, CLASS_ECSTRING) == NULL)
		return check_slice(L, arg);
	arg = lua_absindex(L, arg);
	lua_getiuservalue(L, arg, 1);
	lua_replace(L, arg); /* the argument is its text from here on, so the slice holds */
	const char *p = lua_tolstring(L, arg, &n);
	return slice_of(p, n);
}

static int
ecstring_tostring(lua_State *L)
{
	check_text(L, 1);
	lua_settop(L, 1);
	return 1;
}

static int
ecstring_len(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)check_text(L, 1).n);
	return 1;
}

static int
ecstring_concat(lua_State *L)
{
	lua_settop(L, 2);
	check_text(L, 1);
	check_text(L, 2);
	lua_concat(L, 2);
	return 1;
}

static int
ecstring_eq(lua_State *L)
{
	lua_settop(L, 2);
	lua_pushboolean(L, slice_eq(check_text(L, 1), check_text(L, 2)));
	return 1;
}

static int
method_set(lua_State *L)
{
	luaL_checkudata(L, 1, CLASS_ECSTRING);
	ecstring_set(L, 1, check_text(L, 2));
	return 0;
}

static int
method_write(lua_State *L)
{
	luaL_checkudata(L, 1, CLASS_ECSTRING);
	struct slice text = check_text(L, 2);
	const lua_Integer n = luaL_optinteger(L, 3, (lua_Integer)text.n);

	luaL_argcheck(L, n >= 0 && (size_t)n <= text.n, 3, "longer than the text");
	lua_getiuservalue(L, 1, 1);
	lua_pushlstring(L, text.p, (size_t)n);
	lua_concat(L, 2);
	lua_setiuservalue(L, 1, 1);
	return 0;
}

static const luaL_Reg methods[] = { { "set", method_set }, { "write", method_write }, { NULL, NULL } };

/* Upvalue: the string function. */
static int
string_method(lua_State *L)
{
	check_text(L, 1);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

static int
ecstring_field(lua_State *L)
{
	if (lua_type(L, 2) != LUA_TSTRING)
		return 0;
	if (strcmp(lua_tostring(L, 2), "buffer") == 0) {
		lua_settop(L, 1);
		check_text(L, 1);
		return 1;
	}
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, LUA_STRLIBNAME);
	lua_pushvalue(L, 2);
	if (lua_rawget(L, -2) != LUA_TFUNCTION)
		return 0;
	lua_pushcclosure(L, string_method, 1);
	return 1;
}

void
ecstring_open(lua_State *L)
{
	static const luaL_Reg meta[] = { { "__tostring", ecstring_tostring },
					 { "__len", ecstring_len },
					 { "__concat", ecstring_concat },
					 { "__eq", ecstring_eq },
					 { NULL, NULL } };
	const struct class_def def = { CLASS_ECSTRING, methods, ecstring_field, NULL, NULL };

	class_open(L, &def);
	luaL_getmetatable(L, CLASS_ECSTRING);
	luaL_setfuncs(L, meta, 0);
	lua_pop(L, 1);
}
