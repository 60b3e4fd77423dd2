/* lua_gc.c - finalizers of scripts, run where they can be stopped
 * Lua runs a __gc function inside whatever allocation triggers it, with hooks off: one that loops could never be
 * stopped. So no object of a script is ever marked for Lua's own finalization: setmetatable shows Lua the metatable
 * without its __gc, and hangs a guard on the object instead, a userdata of ours that is collected together with it
 * (weak-keyed table object -> guard, guard -> object: an ephemeron). The guard's own finalizer, in C, only puts it in a
 * list. What is in the list runs as ordinary script code: at the end of the callout that made the object, under that
 * callout's budget, or later between callouts, under a budget of their own. */
#include "policy/lua/lua_int.h"
#include "shm/base/log.h"

enum { PENDING_MAX = 100000 };

struct guard {
	uint64_t serial; /* of the callout that made the object */
};

static const char GUARD[] = "impetus guard";

/* A finalizer: hooks are off, so nothing of a script may run here. */
static int
guard_gc(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);

	if (h->npending == PENDING_MAX)
		return 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, h->pending_ref);
	lua_pushvalue(L, 1);
	lua_rawseti(L, -2, (lua_Integer)h->npending + 1);
	h->npending++;
	return 0;
}

void
finalizers_open(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);

	luaL_newmetatable(L, GUARD);
	lua_pushcfunction(L, guard_gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
	lua_newtable(L);
	lua_newtable(L);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	h->guards_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_newtable(L);
	h->pending_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* A guard for the object at 1, unless it has one. */
static void
guard_add(lua_State *L)
{
	const struct lua_host *h = lua_host_of(L);

	lua_rawgeti(L, LUA_REGISTRYINDEX, h->guards_ref);
	lua_pushvalue(L, 1);
	if (lua_rawget(L, -2) == LUA_TNIL) {
		struct guard *g = lua_newuserdatauv(L, sizeof(*g), 1);

		g->serial = h->serial;
		lua_pushvalue(L, 1);
		lua_setiuservalue(L, -2, 1);
		luaL_setmetatable(L, GUARD);
		lua_pushvalue(L, 1);
		lua_pushvalue(L, -2);
		lua_rawset(L, -5);
	}
	lua_settop(L, 2);
}

/* The base library's function for scripts. Stack: table, metatable or nil. */
int
finalizers_setmetatable(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
	if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
		return luaL_error(L, "cannot change a protected metatable");
	lua_settop(L, 2);
	lua_pushliteral(L, "__gc");
	if (lua_isnil(L, 2) || (lua_pushvalue(L, 3), lua_rawget(L, 2)) == LUA_TNIL) {
		lua_settop(L, 2);
		lua_setmetatable(L, 1);
		return 1;
	}
	/* 1 table, 2 metatable, 3 "__gc", 4 its value. Setting the field back finds its old node, so it cannot fail. */
	lua_pushvalue(L, 3);
	lua_pushnil(L);
	lua_rawset(L, 2);
	lua_pushvalue(L, 2);
	lua_setmetatable(L, 1);
	lua_rawset(L, 2);
	guard_add(L);
	lua_settop(L, 1);
	return 1;
}

/* Pushes __gc and the object of the pending guard at index; false (nothing pushed) when there is no function. */
static bool
push_finalizer(lua_State *L, int guard)
{
	guard = lua_absindex(L, guard);
	lua_getiuservalue(L, guard, 1);
	if (luaL_getmetafield(L, -1, "__gc") != LUA_TFUNCTION) {
		lua_settop(L, guard);
		return false;
	}
	lua_insert(L, -2);
	return true;
}

/* Takes pending entry i out of the list at index `list`: the last one takes its place. */
static void
pending_drop(lua_State *L, struct lua_host *h, int list, size_t i)
{
	lua_rawgeti(L, list, (lua_Integer)h->npending);
	lua_rawseti(L, list, (lua_Integer)i);
	lua_pushnil(L);
	lua_rawseti(L, list, (lua_Integer)h->npending);
	h->npending--;
}

static void
finalizer_call(lua_State *L)
{
	const int status = lua_pcall(L, 1, 0, 0);

	budget_note_error(L, status);
	/* The error is not made a string: its __tostring would be script code outside any pcall. */
	if (status != LUA_OK && !budget_spent(L))
		log_warn("scriptlet", "error in a __gc function: %s",
			 lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1));
}

void
finalizers_run(lua_State *L, uint64_t serial)
{
	struct lua_host *h = lua_host_of(L);
	const int top = lua_gettop(L);

	luaL_checkstack(L, 10, "finalizers");
	lua_rawgeti(L, LUA_REGISTRYINDEX, h->pending_ref);
	for (size_t i = h->npending; i >= 1 && !budget_spent(L); i--) {
		if (i > h->npending)
			continue;
		lua_rawgeti(L, top + 1, (lua_Integer)i);
		const struct guard *g = lua_touserdata(L, -1);
		if (g != NULL && g->serial == serial) {
			pending_drop(L, h, top + 1, i);
			if (push_finalizer(L, -1))
				finalizer_call(L);
		}
		lua_settop(L, top + 1);
	}
	lua_settop(L, top);
}

bool
finalizers_next(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);
	const int top = lua_gettop(L);

	lua_rawgeti(L, LUA_REGISTRYINDEX, h->pending_ref);
	while (h->npending > 0) {
		lua_rawgeti(L, top + 1, (lua_Integer)h->npending);
		const struct guard *g = lua_touserdata(L, -1);
		pending_drop(L, h, top + 1, h->npending);
		if (g != NULL && g->serial >= h->skip_before && push_finalizer(L, -1)) {
			lua_rotate(L, top + 1, 2); /* function and object below, list and guard above */
			lua_settop(L, top + 2);
			return true;
		}
		lua_settop(L, top + 1);
	}
	lua_settop(L, top);
	return false;
}
