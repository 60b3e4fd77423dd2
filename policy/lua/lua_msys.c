/* lua_msys.c - the functions of msys itself */
#include <stdlib.h>
#include <string.h>

#include "policy/lua/lua_int.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

/* --- registerModule -------------------------------------------------------------------------------------------------
 */

/* The module of that name; a new one when there is none. Stack: name, table. */
static unsigned
module_of(lua_State *L, struct lua_host *h, const char *name)
{
	unsigned i = 0;

	while (i < h->nmodules && strcmp(h->modules[i].name, name) != 0)
		i++;
	if (i == h->nmodules) {
		if (i == MODULES_MAX)
			luaL_error(L, "msys: more than %d modules", MODULES_MAX);
		h->modules[i] = (struct module){ .name = mem_strdup(name), .ref = LUA_NOREF, .self_ref = LUA_NOREF };
		h->nmodules++;
	} else if (h->modules[i].ref != LUA_NOREF) {
		luaL_error(L, "msys: a module named %s is registered already", name);
	}
	return i;
}

static void
module_bind(lua_State *L, struct module *m)
{
	lua_pushvalue(L, 2);
	m->ref = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_createtable(L, 0, 1); /* of its per-session tables: what they do not have, the module's table has */
	lua_pushvalue(L, 2);
	lua_setfield(L, -2, "__index");
	m->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	m->fresh = true;
}

/* Where the function on top begins. */
static char *
function_where(lua_State *L)
{
	struct bytes text = { 0 };
	lua_Debug ar;

	lua_pushvalue(L, -1);
	lua_getinfo(L, ">S", &ar);
	bytes_addf(&text, "%s:%d", ar.short_src, ar.linedefined);
	bytes_cstr(&text);
	return text.p;
}

static struct callout *
callout_of(lua_State *L, struct lua_host *h, unsigned module, enum policy_phase phase)
{
	struct callout *c;

	for (size_t i = 0; i < h->ncallouts; i++)
		if (h->callouts[i]->module == module && h->callouts[i]->phase == phase)
			return h->callouts[i];
	if (!h->loading) /* a chain must not grow while it runs */
		luaL_error(L, "msys: registerModule is only possible while scripts are loaded");
	c = mem_zalloc(sizeof(*c));
	c->host = h;
	c->module = module;
	c->phase = phase;
	c->ref = LUA_NOREF;
	c->where = function_where(L);
	h->callouts = mem_array(h->callouts, h->ncallouts + 1, sizeof(*h->callouts));
	h->callouts[h->ncallouts++] = c;
	const struct policy_hook hook = { h->modules[module].name, "scriptlet", c->where, task_hook, c };
	if (policy_hook_add(h->policy, phase, &hook) != OK)
		luaL_error(L, "msys: too many hooks in phase %s", policy_phases[phase].name);
	return c;
}

/* Other names that the API has. What decides over mail and would silently not do so is an error at load. */
static const struct {
	const char *name;
	bool decides;
} unbuilt_callouts[] = {
	{ "core_validate_accept", true },
	{ "core_validate_auth", true },
	{ "validate_rcptto_list", true },
	{ "validate_rcptto_list_final", true },
	{ "core_final_validation2", true },
	{ "core_post_final_validation", true },
	{ "msg_gen_data_spool", true },
	{ "core_pre_msg_each_rcpt", true },
	{ "core_post_msg_each_rcpt", true },
	{ "core_pre_esmtp_auth", true },
	{ "core_config_get_message_routing_domain", true },
	{ "core_config_get_domain_relay", true },
	{ "core_pre_ec_can_relay_to", true },
	{ "core_binding_group_choose_binding", true },
	{ "core_post_validate_set_binding", true },
	{ "core_get_outbound_tls_parameters", true },
	{ "core_get_inbound_tls_parameters", true },
	{ "core_body_modify", true },
	{ "outbound_smtp_auth_config", true },
	{ "core_generate_bounces", true },
	{ "deinit", false },
	{ "rsrc_setup", false },
	{ "validate_dealloc", false },
	{ "core_log_reception_v1", false },
	{ "core_log_delivery_v1", false },
	{ "core_log_transient_failure_v1", false },
	{ "core_log_permanent_failure_v1", false },
	{ "core_log_attempt_v1", false },
	{ "core_log_rejection", false },
	{ "core_log_error", false },
};

/* How many of them the table at 2 has. */
static unsigned
check_unbuilt(lua_State *L, const char *module)
{
	unsigned found = 0;

	for (size_t i = 0; i < sizeof(unbuilt_callouts) / sizeof(unbuilt_callouts[0]); i++) {
		const char *name = unbuilt_callouts[i].name;

		if (lua_getfield(L, 2, name) == LUA_TFUNCTION) {
			if (unbuilt_callouts[i].decides)
				luaL_error(L, "msys: callout %s of module %s is not built yet", name, module);
			log_warn("scriptlet", "hook %s of module %s is not built yet: it is never called", name,
				 module);
			found++;
		}
		lua_pop(L, 1);
	}
	return found;
}

/* registerModule(name, table) */
static int
msys_register_module(lua_State *L)
{
	struct lua_host *h = lua_host_of(L);
	const char *name = luaL_checkstring(L, 1);
	unsigned found = 0;

	luaL_checktype(L, 2, LUA_TTABLE);
	if (!h->loading)
		return luaL_error(L, "msys: registerModule is only possible while scripts are loaded");
	const unsigned module = module_of(L, h, name);
	module_bind(L, &h->modules[module]);
	for (int phase = 0; phase < PHASE_MAX; phase++) {
		if (lua_getfield(L, 2, policy_phases[phase].callout) == LUA_TFUNCTION) {
			struct callout *c = callout_of(L, h, module, (enum policy_phase)phase);

			c->ref = luaL_ref(L, LUA_REGISTRYINDEX);
			found++;
		} else {
			lua_pop(L, 1);
		}
	}
	found += check_unbuilt(L, name) + (lua_getfield(L, 2, "init") == LUA_TFUNCTION);
	lua_pop(L, 1);
	if (found == 0)
		log_warn("scriptlet", "no usable methods found for module %s in registerModule call", name);
	return 0;
}

/* --- expandMacro
 * ------------------------------------------------------------------------------------------------------ */

static struct slice
context_value(const struct policy_context *c, struct slice key)
{
	struct slice value = SLICE("");

	policy_context_get(c, key, &value);
	return value;
}

static const struct policy_context *
run_mess(const struct policy_run *r)
{
	return r->msg != NULL ? policy_msg_mess_context(r->msg) : policy_session_mess(r->session);
}

enum { MACRO_STEPS = 100 /* that looking a macro up costs */ };

/* What a macro stands for onto b, charged by its bytes. */
static void
add_value(lua_State *L, luaL_Buffer *b, struct slice value)
{
	budget_charge(L, MACRO_STEPS + value.n);
	luaL_addlstring(b, value.p, value.n);
}

/* %{i}: the peer's address. */
static void
add_peer(lua_State *L, const struct policy_run *r, luaL_Buffer *b)
{
	char ip[64];

	policy_addr_text(&policy_session_env(r->session)->remote, false, ip);
	add_value(L, b, slice_str(ip));
}

/* A key without namespace: the message's, else the connection's. */
static void
add_bare(lua_State *L, const struct policy_run *r, luaL_Buffer *b, struct slice key)
{
	struct slice value;

	if (!policy_context_get(run_mess(r), key, &value))
		value = context_value(policy_session_conn(r->session), key);
	add_value(L, b, value);
}

static void
add_macro(lua_State *L, const struct policy_run *r, luaL_Buffer *b, struct slice name)
{
	const size_t colon = slice_find(name, ':');
	const struct slice space = slice_of(name.p, colon);
	struct slice value = SLICE("");

	if (colon == name.n) {
		if (slice_eq(name, SLICE("i")))
			add_peer(L, r, b);
		else
			add_bare(L, r, b, name);
		return;
	}
	const struct slice key = slice_of(name.p + colon + 1, name.n - colon - 1);
	if (slice_eq(space, SLICE("vctx_conn")))
		value = context_value(policy_session_conn(r->session), key);
	else if (slice_eq(space, SLICE("vctx_mess")))
		value = context_value(run_mess(r), key);
	else
		luaL_error(L, "msys: macro %%{%s:} is not built yet", lua_pushlstring(L, space.p, space.n));
	add_value(L, b, value);
}

/* Length of the macro at text's begin, with its braces; 0: there is none. *closed: may there be a '}' ahead? One that
 * was looked for in vain is not looked for again, or many beginnings without an end would take quadratic time. */
static size_t
macro_length(lua_State *L, struct slice text, bool *closed)
{
	if (!*closed || text.n < 3 || text.p[0] != '%' || text.p[1] != '{')
		return 0;
	const size_t end = slice_find(text, '}');
	budget_charge(L, end);
	*closed = end < text.n;
	return *closed ? end + 1 : 0;
}

/* expandMacro(text): what is no macro stays. */
static int
msys_expand_macro(lua_State *L)
{
	const struct policy_run *r = task_check(L, "msys.expandMacro")->run;
	struct slice rest = check_text(L, 1);
	bool closed = true;
	luaL_Buffer b;

	budget_charge(L, rest.n);
	luaL_buffinit(L, &b);
	while (rest.n > 0) {
		const size_t n = macro_length(L, rest, &closed);

		if (n > 0)
			add_macro(L, r, &b, slice_of(rest.p + 2, n - 3));
		else
			luaL_addchar(&b, rest.p[0]);
		rest = slice_of(rest.p + (n > 0 ? n : 1), rest.n - (n > 0 ? n : 1));
	}
	luaL_pushresult(&b);
	return 1;
}

/* --- dnsLookup
 * --------------------------------------------------------------------------------------------------------- */

/* Upper case, checked; raises for what is no type. */
static const char *
check_dns_type(lua_State *L, int arg)
{
	static const char *const types[] = { "A", "AAAA", "TXT", "MX", "PTR", "NS", "CNAME" };
	const struct slice asked = opt_slice(L, arg, SLICE("A"));

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (slice_ieq(asked, slice_str(types[i])))
			return types[i];
	luaL_error(L, "msys.dnsLookup: unknown record type %s", asked.p);
	return NULL;
}

enum { DNS_NAME_ARG = 1, DNS_TYPE_ARG, DNS_OPTIONS_ARG };
enum { DNS_STEPS = 1000 /* that a question costs */ };

static bool
dns_wants_priority(lua_State *L)
{
	bool yes = false;

	if (lua_istable(L, DNS_OPTIONS_ARG)) {
		lua_getfield(L, DNS_OPTIONS_ARG, "priority");
		yes = lua_toboolean(L, -1);
		lua_pop(L, 1);
	}
	return yes;
}

static void
push_dns_row(lua_State *L, const struct policy_dns_row *row, bool priority)
{
	if (!priority) {
		push_slice(L, row->text);
		return;
	}
	lua_createtable(L, 2, 0);
	lua_pushinteger(L, row->preference);
	lua_rawseti(L, -2, 1);
	push_slice(L, row->text);
	lua_rawseti(L, -2, 2);
}

static int
dns_k(lua_State *L, int status, lua_KContext priority)
{
	struct task *t = task_check(L, "msys.dnsLookup");

	(void)status;
	if (!t->dns_ready)
		return luaL_error(L, "msys.dnsLookup: resumed without an answer");
	t->dns_ready = false;
	if (t->dns_error != NULL) {
		lua_pushnil(L);
		lua_pushstring(L, t->dns_error);
		return 2;
	}
	lua_createtable(L, (int)t->dns_n, 0);
	for (size_t i = 0; i < t->dns_n; i++) {
		push_dns_row(L, &t->dns_rows[i], priority != 0);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* dnsLookup(name [, type [, options]]): array, or nil and an error such as "NXDOMAIN". */
static int
msys_dns_lookup(lua_State *L)
{
	const char *name = luaL_checkstring(L, DNS_NAME_ARG);
	const char *type = check_dns_type(L, DNS_TYPE_ARG);
	const bool priority = dns_wants_priority(L) && strcmp(type, "MX") == 0;
	struct task *t = task_check(L, "msys.dnsLookup");
	const struct policy_host_ops *ops = policy_host(t->host->policy);

	task_check_wait(L, "msys.dnsLookup");
	if (ops->dns_start == NULL)
		return luaL_error(L, "msys.dnsLookup: there is no resolver here");
	if (lua_istable(L, DNS_OPTIONS_ARG) && lua_getfield(L, DNS_OPTIONS_ARG, "server") != LUA_TNIL)
		return luaL_error(L, "msys: option server of msys.dnsLookup is not built yet");
	budget_charge(L, DNS_STEPS);
	t->wait = WAIT_DNS;
	t->wait_handle = ops->dns_start(ops->arg, name, type, task_on_dns, t);
	return lua_yieldk(L, 0, priority, dns_k);
}

/* --- the rest
 * ------------------------------------------------------------------------------------------------------------ */

/* log(level, text): levels as in syslog. */
static int
msys_log(lua_State *L)
{
	const lua_Integer level = luaL_checkinteger(L, 1);
	const struct slice text = check_text(L, 2);

	budget_charge(L, 1000 + text.n);
	log_line(level <= 3   ? LOG_LVL_ERROR
		 : level == 4 ? LOG_LVL_WARN
		 : level <= 6 ? LOG_LVL_INFO
			      : LOG_LVL_DEBUG,
		 "scriptlet", "%.*s", (int)(text.n < LOG_TEXT_MAX ? text.n : LOG_TEXT_MAX), text.p);
	return 0;
}

/* type(value): the class of a userdata. */
static int
msys_type(lua_State *L)
{
	luaL_checkany(L, 1);
	if (luaL_getmetafield(L, 1, "__name") != LUA_TSTRING)
		lua_pushstring(L, luaL_typename(L, 1));
	return 1;
}

static int
msys_async_ok(lua_State *L)
{
	lua_pushboolean(L, task_run(L) != NULL && lua_isyieldable(L));
	return 1;
}

static const luaL_Reg functions[] = {
	{ "registerModule", msys_register_module },
	{ "expandMacro", msys_expand_macro },
	{ "dnsLookup", msys_dns_lookup },
	{ "log", msys_log },
	{ "type", msys_type },
	{ "asyncOk", msys_async_ok },
	{ NULL, NULL },
};

static const char *const unbuilt_functions[] = {
	"cast",           "config",   "getClassMetaTable", "getopt",          "lock",      "parseRFC2822Addresses",
	"pcre_match",     "readfile", "registerAuth",      "registerControl", "runInInst", "runInPool",
	"runSieveScript", "shareGet", "shareSet",          "shareUnset",      "sleep",     "snmpTrap",
	"unlock",         NULL,
};

static const char *const unbuilt_modules[] = {
	"adaptive",      "apn",       "audit",      "audit_series", "av",
	"base64",        "beta",      "bounce",     "brightmail",   "cidr",
	"cloudmark",     "commtouch", "counter",    "datasource",   "db",
	"delivery",      "dp_config", "dumper",     "expurgate",    "gauge_cache",
	"gcm",           "http",      "httpclnt",   "httpsrv",      "idn",
	"message_scope", "mstore",    "os",         "pbp",          "pcre",
	"policyeditor",  "qp",        "rfc3464",    "spamc",        "symantec_beik",
	"threadpool",    "timer",     "tls_params", "validate",     NULL,
};

static bool
listed(const char *const *list, const char *name)
{
	for (; *list != NULL; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

/* msys.NAME that is not there: nil, unless the API has it. */
static int
msys_index(lua_State *L)
{
	const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

	lua_pushfstring(L, "msys.%s", key);
	if (listed(unbuilt_modules, key))
		return luaL_error(L, "msys: %s is not built yet", lua_tostring(L, -1));
	if (listed(unbuilt_functions, key))
		push_unbuilt(L, lua_tostring(L, -1));
	else
		lua_pushnil(L);
	return 1;
}

/* What require gives for the modules that are always there. */
static void
open_modules(lua_State *L, int msys)
{
	static const char *const extended[] = { "msys.extended.ac", "msys.extended.vctx", "msys.extended.message",
						"msys.extended.message_routing" };

	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_pushvalue(L, msys);
	lua_setfield(L, -2, "msys");
	lua_getfield(L, msys, "core");
	lua_setfield(L, -2, "msys.core");
	for (size_t i = 0; i < sizeof(extended) / sizeof(extended[0]); i++) {
		lua_newtable(L);
		lua_setfield(L, -2, extended[i]);
	}
	lua_pop(L, 1);
}

void
msys_open(lua_State *L)
{
	lua_newtable(L);
	const int msys = lua_gettop(L);
	luaL_setfuncs(L, functions, 0);
	core_open(L, msys);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, msys_index);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, msys);
	open_modules(L, msys);
	lua_setglobal(L, "msys");
}
