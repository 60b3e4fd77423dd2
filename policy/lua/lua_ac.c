/* lua_ac.c - ac, the accept construct: who is connected, and what the session offers */
#include <string.h>

#include "policy/lua/lua_int.h"

static int
capability(lua_State *L, bool add)
{
	struct policy_session *s = check_ac(L, 1);
	const char *function = add ? "ac:esmtp_capability_add" : "ac:esmtp_capability_remove";
	const struct slice name = check_text(L, 2);
	const struct policy_session_env *env = policy_session_env(s);

	check_may(L, MAY_CAPABILITY, function);
	luaL_argcheck(L, name.n > 0 && name.n <= 200, 2, "1 to 200 characters");
	for (size_t i = 0; i < name.n; i++)
		luaL_argcheck(L, (unsigned char)name.p[i] >= 0x20 && (unsigned char)name.p[i] < 0x7f, 2,
			      "printable characters only");
	if (env->ops == NULL || env->ops->capability_add == NULL || env->ops->capability_remove == NULL ||
	    !(add ? env->ops->capability_add : env->ops->capability_remove)(env->owner, name))
		return luaL_error(L, "msys: %s: not possible in this session", function);
	return 0;
}

static int
ac_capability_add(lua_State *L)
{
	return capability(L, true);
}

static int
ac_capability_remove(lua_State *L)
{
	return capability(L, false);
}

/* inbound_session_count([cidr], [service]) */
static int
ac_session_count(lua_State *L)
{
	const struct policy_session_env *env = policy_session_env(check_ac(L, 1));
	const struct slice cidr = opt_slice(L, 2, SLICE("")), service = opt_slice(L, 3, SLICE("SMTP"));
	int64_t n = -1;

	if (env->ops != NULL && env->ops->inbound_sessions != NULL)
		n = env->ops->inbound_sessions(env->owner, cidr, service);
	if (n < 0)
		return luaL_error(L, "msys: ac:inbound_session_count: no such block or service here");
	lua_pushinteger(L, n);
	return 1;
}

const luaL_Reg ac_methods[] = {
	{ "esmtp_capability_add", ac_capability_add },
	{ "esmtp_capability_remove", ac_capability_remove },
	{ "inbound_session_count", ac_session_count },
	{ NULL, NULL },
};

const char *const ac_unbuilt[] = { "pbp_inbound_session_count_service", NULL };

int
ac_field(lua_State *L)
{
	const struct policy_session_env *env = policy_session_env(check_ac(L, 1));
	const char *key = luaL_checkstring(L, 2);
	char text[64];

	if (strcmp(key, "remote_addr") == 0) {
		policy_addr_text(&env->remote, true, text);
		lua_pushstring(L, text);
	} else if (strcmp(key, "local_addr") == 0) {
		policy_addr_text(&env->local, true, text);
		lua_pushstring(L, text);
	} else if (strcmp(key, "conn_id") == 0) {
		id_text(env->conn, text);
		lua_pushstring(L, text);
	} else if (strcmp(key, "protocol") == 0) {
		lua_pushinteger(L, env->protocol);
	} else {
		lua_pushnil(L);
	}
	return 1;
}
