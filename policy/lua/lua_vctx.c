/* lua_vctx.c - vctx: the session's dictionaries and the reply of the running phase */
#include <stdlib.h>
#include <string.h>

#include "policy/lua/lua_int.h"

enum { TARPIT_MAX = 3600 };

/* The message of the running phase when it is one recipient's: then its own message dictionary counts, so that what a
 * script notes for one recipient is not seen with the next. */
static struct policy_msg *
own_msg(lua_State *L, const struct policy_session *s)
{
	const struct policy_run *r = task_run(L);

	return r != NULL && r->session == s && r->msg != NULL && policy_msg_is_clone(r->msg) ? r->msg : NULL;
}

static struct policy_context *
select_context(lua_State *L, struct policy_session *s)
{
	struct policy_msg *m = own_msg(L, s);

	return context_select(L, 2, policy_session_conn(s),
			      m != NULL ? policy_msg_mess_context(m) : policy_session_mess(s));
}

/* get(type, key) */
static int
vctx_get(lua_State *L)
{
	struct policy_context *c = select_context(L, check_vctx(L, 1));

	return context_push(L, c, check_slice(L, 3));
}

/* exists(type, key): 1 or 0, both true in Lua. */
static int
vctx_exists(lua_State *L)
{
	struct policy_context *c = select_context(L, check_vctx(L, 1));

	return context_exists(L, c, check_slice(L, 3));
}

static int
vctx_exists_and_get(lua_State *L)
{
	struct policy_context *c = select_context(L, check_vctx(L, 1));

	return context_exists_and_get(L, c, check_slice(L, 3));
}

/* set(type, key, value): nil deletes. */
static int
vctx_set(lua_State *L)
{
	struct policy_session *s = check_vctx(L, 1);
	struct policy_context *c = select_context(L, s);
	const struct slice key = check_slice(L, 3);
	struct policy_msg *m = own_msg(L, s);

	lua_settop(L, 4);
	context_store(L, c, key, 4);
	if (m != NULL && c == policy_session_conn(s)) /* the message has its copy already */
		context_store(L, policy_msg_conn_context(m), key, 4);
	return 0;
}

static int
vctx_delete(lua_State *L)
{
	struct policy_session *s = check_vctx(L, 1);
	struct policy_context *c = select_context(L, s);
	const struct slice key = check_slice(L, 3);
	struct policy_msg *m = own_msg(L, s);

	if (m != NULL && c == policy_session_conn(s))
		policy_context_delete(policy_msg_conn_context(m), key);
	lua_pushinteger(L, policy_context_delete(c, key));
	return 1;
}

/* A code is a number or text that begins with one. */
static int
check_code(lua_State *L, int arg)
{
	const lua_Integer code =
		lua_type(L, arg) == LUA_TSTRING ? strtol(lua_tostring(L, arg), NULL, 10) : luaL_checkinteger(L, arg);

	luaL_argcheck(L, code >= 200 && code <= 599, arg, "no reply code");
	return (int)code;
}

/* set_code(code, text) */
static int
vctx_set_code(lua_State *L)
{
	struct policy_run *r = check_may(L, MAY_CODE, "vctx:set_code");

	check_vctx(L, 1);
	const int code = check_code(L, 2);
	policy_reply(r, code, lua_isnoneornil(L, 3) ? SLICE("") : check_text(L, 3), false);
	return 0;
}

/* disconnect(code, text) */
static int
vctx_disconnect(lua_State *L)
{
	struct policy_run *r = check_may(L, MAY_CODE, "vctx:disconnect");

	check_vctx(L, 1);
	const int code = check_code(L, 2);
	luaL_argcheck(L, code >= 400, 2, "a disconnect needs a 4xx or 5xx code");
	policy_reply(r, code, lua_isnoneornil(L, 3) ? SLICE("") : check_text(L, 3), true);
	return 0;
}

/* tarpit(seconds): adds up. */
static int
vctx_tarpit(lua_State *L)
{
	struct policy_run *r = check_may(L, MAY_TARPIT, "vctx:tarpit");
	const lua_Number seconds = luaL_checknumber(L, 2);

	check_vctx(L, 1);
	luaL_argcheck(L, seconds >= 0 && seconds <= TARPIT_MAX, 2, "0 to 3600 seconds");
	r->verdict.tarpit += (unsigned)seconds;
	if (r->verdict.tarpit > TARPIT_MAX)
		r->verdict.tarpit = TARPIT_MAX;
	return 0;
}

const luaL_Reg vctx_methods[] = {
	{ "get", vctx_get },
	{ "set", vctx_set },
	{ "exists", vctx_exists },
	{ "exists_and_get", vctx_exists_and_get },
	{ "delete", vctx_delete },
	{ "set_code", vctx_set_code },
	{ "disconnect", vctx_disconnect },
	{ "tarpit", vctx_tarpit },
	{ NULL, NULL },
};

const char *const vctx_unbuilt[] = { "add_recipient", "recipient_list", "remove_recipient",
				     "pbp_action",    "pbp_disconnect", NULL };

/* vctx.code, vctx.note: the reply so far. */
int
vctx_field(lua_State *L)
{
	const struct policy_run *r = task_check(L, "vctx")->run;
	const char *key = luaL_checkstring(L, 2);

	check_vctx(L, 1);
	if (strcmp(key, "code") == 0)
		lua_pushinteger(L, r->verdict.code);
	else if (strcmp(key, "note") == 0)
		push_slice(L, r->verdict.text);
	else
		lua_pushnil(L);
	return 1;
}
