/* lua_handle.c - userdata for session and message, and what all their methods share
 * A userdata holds a handle, not the object: when the session or message goes, the handle is emptied, and a script that
 * kept it gets an error. Each object has one userdata a state, found by the object's attachment, so a callout that sees
 * an object again makes nothing. */
#include <stdlib.h>
#include <string.h>

#include "policy/lua/lua_int.h"
#include "shm/base/mem.h"

/* Hangs on a session: its userdata and its modules' tables. */
struct session_refs {
	struct lua_host *host;
	uint64_t generation;
	int ac, vctx;
	struct handle *ac_handle, *vctx_handle;
	unsigned nselfs;
	int selfs[]; /* by module */
};

struct msg_refs {
	struct lua_host *host;
	uint64_t generation;
	int msg;
	struct handle *handle;
};

static struct handle *
handle_new(lua_State *L, const char *class, void *object, int *ref)
{
	struct handle *h = lua_newuserdatauv(L, sizeof(*h), 0);

	h->object = object;
	luaL_setmetatable(L, class);
	lua_pushvalue(L, -1);
	*ref = luaL_ref(L, LUA_REGISTRYINDEX);
	return h;
}

static void
session_gone(void *ptr)
{
	struct session_refs *s = ptr;

	if (s->generation == s->host->generation) {
		lua_State *L = s->host->L;

		if (s->ac_handle != NULL)
			s->ac_handle->object = NULL;
		if (s->vctx_handle != NULL)
			s->vctx_handle->object = NULL;
		luaL_unref(L, LUA_REGISTRYINDEX, s->ac);
		luaL_unref(L, LUA_REGISTRYINDEX, s->vctx);
		for (unsigned i = 0; i < s->nselfs; i++)
			luaL_unref(L, LUA_REGISTRYINDEX, s->selfs[i]);
	}
	free(s);
}

static struct session_refs *
session_refs(lua_State *L, struct policy_session *session)
{
	struct lua_host *h = lua_host_of(L);
	struct policy_attachment *a = policy_session_attachment(session, LANGUAGE_LUA);
	struct session_refs *s = a->ptr;

	if (s != NULL && s->generation == h->generation)
		return s;
	free(s);
	s = mem_zalloc(sizeof(*s) + h->nmodules * sizeof(s->selfs[0]));
	s->host = h;
	s->generation = h->generation;
	s->ac = s->vctx = LUA_NOREF;
	s->nselfs = h->nmodules;
	for (unsigned i = 0; i < s->nselfs; i++)
		s->selfs[i] = LUA_NOREF;
	*a = (struct policy_attachment){ s, session_gone };
	return s;
}

void
push_ac(lua_State *L, struct policy_session *session)
{
	struct session_refs *s = session_refs(L, session);

	if (s->ac_handle == NULL)
		s->ac_handle = handle_new(L, CLASS_AC, session, &s->ac);
	else
		lua_rawgeti(L, LUA_REGISTRYINDEX, s->ac);
}

void
push_vctx(lua_State *L, struct policy_session *session)
{
	struct session_refs *s = session_refs(L, session);

	if (s->vctx_handle == NULL)
		s->vctx_handle = handle_new(L, CLASS_VCTX, session, &s->vctx);
	else
		lua_rawgeti(L, LUA_REGISTRYINDEX, s->vctx);
}

void
push_self(lua_State *L, struct policy_session *session, unsigned module)
{
	struct session_refs *s = session_refs(L, session);
	const struct lua_host *h = s->host;

	if (module < s->nselfs && s->selfs[module] != LUA_NOREF) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, s->selfs[module]);
		return;
	}
	lua_newtable(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, h->modules[module].self_ref);
	lua_setmetatable(L, -2);
	if (module < s->nselfs) { /* not for a module that was registered after the session began */
		lua_pushvalue(L, -1);
		s->selfs[module] = luaL_ref(L, LUA_REGISTRYINDEX);
	}
}

static void
msg_gone(void *ptr)
{
	struct msg_refs *m = ptr;

	if (m->generation == m->host->generation) {
		m->handle->object = NULL;
		luaL_unref(m->host->L, LUA_REGISTRYINDEX, m->msg);
	}
	free(m);
}

void
push_msg(lua_State *L, struct policy_msg *msg)
{
	struct lua_host *h = lua_host_of(L);
	struct policy_attachment *a = policy_msg_attachment(msg, LANGUAGE_LUA);
	struct msg_refs *m = a->ptr;

	if (m != NULL && m->generation == h->generation) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, m->msg);
		return;
	}
	free(m);
	m = mem_zalloc(sizeof(*m));
	m->host = h;
	m->generation = h->generation;
	*a = (struct policy_attachment){ m, msg_gone };
	m->handle = handle_new(L, CLASS_MSG, msg, &m->msg);
}

static void *
check_object(lua_State *L, int arg, const char *class)
{
	const struct handle *h = luaL_checkudata(L, arg, class);

	if (h->object == NULL)
		luaL_error(L, "msys: this %s is over: it cannot be kept for later", strchr(class, ':') + 2);
	return h->object;
}

struct policy_session *
check_ac(lua_State *L, int arg)
{
	return check_object(L, arg, CLASS_AC);
}

struct policy_session *
check_vctx(lua_State *L, int arg)
{
	return check_object(L, arg, CLASS_VCTX);
}

struct policy_msg *
check_msg(lua_State *L, int arg)
{
	return check_object(L, arg, CLASS_MSG);
}

struct policy_run *
check_may(lua_State *L, enum policy_may what, const char *function)
{
	struct policy_run *r = task_check(L, function)->run;

	if (!policy_run_may(r, what))
		luaL_error(L, "msys: %s is not allowed in phase %s", function, policy_phases[r->phase].name);
	return r;
}

struct slice
check_slice(lua_State *L, int arg)
{
	size_t n;
	const char *p = luaL_checklstring(L, arg, &n);

	return slice_of(p, n);
}

struct slice
opt_slice(lua_State *L, int arg, struct slice def)
{
	return lua_isnoneornil(L, arg) ? def : check_slice(L, arg);
}

void
push_slice(lua_State *L, struct slice s)
{
	lua_pushlstring(L, s.n == 0 ? "" : s.p, s.n);
}

/* --- classes -------------------------------------------------------------------------------------------------------
 */

/* Upvalues: methods, field function or nil. Stack: object, key. */
static int
class_index(lua_State *L)
{
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL || lua_isnil(L, lua_upvalueindex(2)))
		return 1;
	lua_settop(L, 2);
	return lua_tocfunction(L, lua_upvalueindex(2))(L);
}

static int
unbuilt_call(lua_State *L)
{
	return luaL_error(L, "msys: %s is not built yet", lua_tostring(L, lua_upvalueindex(1)));
}

void
push_unbuilt(lua_State *L, const char *name)
{
	lua_pushstring(L, name);
	lua_pushcclosure(L, unbuilt_call, 1);
}

static void
push_methods(lua_State *L, const struct class_def *def)
{
	lua_newtable(L);
	luaL_setfuncs(L, def->methods, 0);
	for (const char *const *name = def->unbuilt; name != NULL && *name != NULL; name++) {
		push_unbuilt(L, *name);
		lua_setfield(L, -2, *name);
	}
}

void
class_open(lua_State *L, const struct class_def *def)
{
	luaL_newmetatable(L, def->name);
	push_methods(L, def);
	if (def->field != NULL)
		lua_pushcfunction(L, def->field);
	else
		lua_pushnil(L);
	lua_pushcclosure(L, class_index, 2);
	lua_setfield(L, -2, "__index");
	if (def->set != NULL) {
		lua_pushcfunction(L, def->set);
		lua_setfield(L, -2, "__newindex");
	}
	lua_pushliteral(L, "msys object");
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

void
handles_open(lua_State *L)
{
	const struct class_def defs[] = {
		{ CLASS_AC, ac_methods, ac_field, NULL, ac_unbuilt },
		{ CLASS_VCTX, vctx_methods, vctx_field, NULL, vctx_unbuilt },
		{ CLASS_MSG, msg_methods, msg_field, msg_set_field, msg_unbuilt },
	};

	for (size_t i = 0; i < sizeof(defs) / sizeof(defs[0]); i++)
		class_open(L, &defs[i]);
}

/* --- dictionaries --------------------------------------------------------------------------------------------------
 */

struct policy_context *
context_select(lua_State *L, int arg, struct policy_context *conn, struct policy_context *mess)
{
	const lua_Integer type = luaL_checkinteger(L, arg);

	luaL_argcheck(L, type == CTX_CONN || type == CTX_MESS, arg, "VCTX_CONN or VCTX_MESS expected");
	return type == CTX_CONN ? conn : mess;
}

int
context_push(lua_State *L, const struct policy_context *c, struct slice key)
{
	struct slice value = SLICE("");

	policy_context_get(c, key, &value);
	push_slice(L, value);
	return 1;
}

int
context_exists(lua_State *L, const struct policy_context *c, struct slice key)
{
	struct slice value;

	lua_pushinteger(L, policy_context_get(c, key, &value));
	return 1;
}

int
context_exists_and_get(lua_State *L, const struct policy_context *c, struct slice key)
{
	struct slice value;
	const bool there = policy_context_get(c, key, &value);

	lua_pushinteger(L, there);
	if (there)
		push_slice(L, value);
	else
		lua_pushnil(L);
	return 2;
}

void
context_store(lua_State *L, struct policy_context *c, struct slice key, int value_arg)
{
	struct slice value;

	if (lua_isnoneornil(L, value_arg)) {
		policy_context_delete(c, key);
		return;
	}
	if (lua_isboolean(L, value_arg))
		value = lua_toboolean(L, value_arg) ? SLICE("true") : SLICE("false");
	else
		value = check_text(L, value_arg);
	budget_charge(L, policy_context_count(c) / 8 + value.n / 64);
	if (policy_context_set(c, key, value) != OK)
		luaL_error(L, "msys: the context is full (%d keys, %d bytes)", POLICY_CONTEXT_KEYS,
			   POLICY_CONTEXT_BYTES);
}
