/* lua_core.c - msys.core: the constants, and the C API's functions under their C names */
#include "policy/lua/lua_int.h"

static const struct {
	const char *name;
	lua_Integer value;
} constants[] = {
	{ "VALIDATE_CONT", 0 },
	{ "VALIDATE_DONE", 1 },
	{ "VALIDATE_AGAIN", 2 },
	{ "EC_HOOK_CONT", 0 },
	{ "EC_HOOK_DONE", 1 },
	{ "EC_HOOK_RETRY", 2 },
	/* Scripts mix the pairs, so they are the same. */
	{ "VCTX_CONN", CTX_CONN },
	{ "VCTX_MESS", CTX_MESS },
	{ "ECMESS_CTX_CONN", CTX_CONN },
	{ "ECMESS_CTX_MESS", CTX_MESS },
	{ "P_ESMTP", POLICY_ESMTP },
	{ "P_ECSTREAM", POLICY_ECSTREAM },
	{ "P_INTERNAL", POLICY_INTERNAL },
	{ "P_HTTP", POLICY_HTTP },
	{ "EC_MSG_ENV_FROM", 1 },
	{ "EC_MSG_ENV_TO", 2 },
	{ "EC_MSG_ENV_COMPLETE", 4 },
	{ "AF_INET", AF_INET },
	{ "AF_INET6", AF_INET6 },
	{ "LOG_DEBUG", 7 },
	{ "LOG_INFO", 6 },
	{ "LOG_NOTICE", 5 },
	{ "LOG_WARNING", 4 },
	{ "LOG_ERROR", 3 },
	{ "LOG_CRITICAL", 2 },
};

/* accept_construct_get_message_construct(ac): { message, ctx }, or nil before MAIL. */
static int
core_message_construct(lua_State *L)
{
	struct policy_session *s = check_ac(L, 1);
	const struct policy_run *r = task_run(L);

	if (r == NULL || r->session != s || r->msg == NULL) {
		lua_pushnil(L);
		return 1;
	}
	lua_createtable(L, 0, 2);
	push_msg(L, r->msg);
	lua_setfield(L, -2, "message");
	push_vctx(L, s);
	lua_setfield(L, -2, "ctx");
	return 1;
}

static int
core_get_now_ts(lua_State *L)
{
	lua_pushinteger(L, clock_real() / USEC_PER_SEC);
	return 1;
}

static int
core_protocol_string(lua_State *L)
{
	static const char *const names[] = { "unknown", "esmtp", "ecstream", "internal", "http" };
	const lua_Integer p = luaL_checkinteger(L, 1);

	lua_pushstring(L, names[p >= POLICY_ESMTP && p <= POLICY_HTTP ? p : 0]);
	return 1;
}

static int
core_string_new(lua_State *L)
{
	push_ecstring(L, SLICE(""));
	return 1;
}

static const luaL_Reg functions[] = {
	{ "accept_construct_get_message_construct", core_message_construct },
	{ "get_now_ts", core_get_now_ts },
	{ "protocol_string", core_protocol_string },
	{ "string_new", core_string_new },
	{ NULL, NULL },
};

static const char *const unbuilt[] = {
	"config_get_binding_group_size",
	"config_get_binding_id_from_name",
	"config_get_binding_name_from_id",
	"dict_add_key_value",
	"dict_key_delete",
	"dict_stringprint",
	"dict_iter2",
	"dict_next",
	"dict_iter2_free",
	"dns_get_domain",
	"ec_message_context_firstkey",
	"ec_message_context_nextkey",
	"ec_message_new",
	"ec_sockaddr_family",
	"io_wrapper_open",
	"mail_queue_delay_domain",
	"scheduler_for_domain",
	"stringwrite",
};

/* msg_methods under the C spelling: ec_message_context_get(msg, ...) is msg:context_get(...). */
static void
open_c_names(lua_State *L)
{
	for (const luaL_Reg *m = msg_methods; m->name != NULL; m++) {
		lua_pushfstring(L, "ec_message_%s", m->name);
		lua_pushcfunction(L, m->func);
		lua_rawset(L, -3);
	}
	for (const luaL_Reg *m = vctx_methods; m->name != NULL; m++) {
		lua_pushfstring(L, "validate_context_%s", m->name);
		lua_pushcfunction(L, m->func);
		lua_rawset(L, -3);
	}
}

void
core_open(lua_State *L, int msys)
{
	msys = lua_absindex(L, msys);
	lua_newtable(L);
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
		lua_pushinteger(L, constants[i].value);
		lua_setfield(L, -2, constants[i].name);
	}
	luaL_setfuncs(L, functions, 0);
	for (size_t i = 0; i < sizeof(unbuilt) / sizeof(unbuilt[0]); i++) {
		lua_pushfstring(L, "msys.core.%s", unbuilt[i]);
		push_unbuilt(L, lua_tostring(L, -1));
		lua_remove(L, -2);
		lua_setfield(L, -2, unbuilt[i]);
	}
	open_c_names(L);
	lua_setfield(L, msys, "core");
}
