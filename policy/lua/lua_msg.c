/* lua_msg.c - msg: envelope, header, body, dictionaries, and where the message is to go
 * What the running phase does not allow is an error, and so is changing another message than the phase's. */
#include <string.h>

#include "policy/lua/lua_int.h"
#include "policy/policy_words.h"
#include "spool/format/addr.h"
#include "spool/format/header.h"

enum { HEADER_VALUES_MAX = 1000, MSG_BYTES_A_STEP = 32 };
#define TIME_MAX INT64_C(253402300800) /* the year 10000, seconds */

/* The message at 1, which the phase may change in this way. */
static struct policy_msg *
check_change(lua_State *L, enum policy_may what, const char *function)
{
	struct policy_msg *m = check_msg(L, 1);

	if (check_may(L, what, function)->msg != m)
		luaL_error(L, "msys: %s: this is not the message of the running callout", function);
	return m;
}

static struct slice
block_bytes(lua_State *L, struct policy_block *b)
{
	struct slice s = { 0 };
	const enum err e = policy_block_bytes(b, &s);

	if (e != OK)
		luaL_error(L, "msys: the message cannot be read: %s", err_text(e));
	return s;
}

/* --- dictionaries --------------------------------------------------------------------------------------------------
 */

static struct policy_context *
select_context(lua_State *L)
{
	struct policy_msg *m = check_msg(L, 1);

	return context_select(L, 2, policy_msg_conn_context(m), policy_msg_mess_context(m));
}

static int
msg_context_get(lua_State *L)
{
	struct policy_context *c = select_context(L);

	return context_push(L, c, check_slice(L, 3));
}

static int
msg_context_exists(lua_State *L)
{
	struct policy_context *c = select_context(L);

	return context_exists(L, c, check_slice(L, 3));
}

static int
msg_context_exists_and_get(lua_State *L)
{
	struct policy_context *c = select_context(L);

	return context_exists_and_get(L, c, check_slice(L, 3));
}

static int
msg_context_set(lua_State *L)
{
	struct policy_context *c = select_context(L);
	const struct slice key = check_slice(L, 3);

	lua_settop(L, 4);
	context_store(L, c, key, 4);
	return 0;
}

static int
msg_context_delete(lua_State *L)
{
	struct policy_context *c = select_context(L);

	lua_pushinteger(L, policy_context_delete(c, check_slice(L, 3)));
	return 1;
}

/* --- envelope ------------------------------------------------------------------------------------------------------
 */

static struct slice
check_address(lua_State *L, int arg, unsigned allow)
{
	const struct slice text = check_text(L, arg);
	struct addr a;

	luaL_argcheck(L, addr_parse(text, allow | ADDR_UTF8, &a) == OK, arg, "not a mail address");
	return text;
}

/* mailfrom([address]) */
static int
msg_mailfrom(lua_State *L)
{
	struct policy_msg *m = check_msg(L, 1);

	if (!lua_isnoneornil(L, 2)) {
		check_change(L, MAY_SENDER, "msg:mailfrom(address)");
		policy_msg_set_sender(m, check_address(L, 2, ADDR_NULL));
	}
	push_slice(L, policy_msg_sender(m));
	return 1;
}

/* rcptto([address]) */
static int
msg_rcptto(lua_State *L)
{
	struct policy_msg *m = check_msg(L, 1);

	if (!lua_isnoneornil(L, 2)) {
		check_change(L, MAY_RCPT, "msg:rcptto(address)");
		policy_msg_set_rcpt(m, check_address(L, 2, ADDR_POSTMASTER));
	}
	push_slice(L, policy_msg_rcpt(m));
	return 1;
}

enum { ENV_FROM = 1, ENV_TO = 2, ENV_COMPLETE = 4 };

/* get_envelope2(flags, localpart, domain): fills two ec_strings. */
static int
msg_get_envelope2(lua_State *L)
{
	const struct policy_msg *m = check_msg(L, 1);
	const lua_Integer flags = luaL_checkinteger(L, 2);
	const bool from = (flags & ENV_FROM) != 0, complete = (flags & ENV_COMPLETE) != 0;
	struct addr a = { 0 };

	luaL_argcheck(L, from != ((flags & ENV_TO) != 0), 2, "EC_MSG_ENV_FROM or EC_MSG_ENV_TO");
	const struct slice whole = from ? policy_msg_sender(m) : policy_msg_rcpt(m);
	addr_parse(whole, ADDR_NULL | ADDR_POSTMASTER | ADDR_UTF8 | ADDR_BARE_LOCAL, &a);
	ecstring_set(L, 3, complete ? whole : a.local);
	if (!complete || !lua_isnoneornil(L, 4))
		ecstring_set(L, 4, a.domain);
	lua_pushinteger(L, 1);
	return 1;
}

/* --- header --------------------------------------------------------------------------------------------------------
 */

/* header(name): array of decoded values. */
static int
header_get(lua_State *L, struct policy_msg *m, struct slice name)
{
	struct slice rest = block_bytes(L, policy_msg_header(m));
	struct bytes *scratch = &lua_host_of(L)->scratch;
	struct header_field f;
	lua_Integer n = 0;

	budget_charge(L, rest.n / MSG_BYTES_A_STEP);
	lua_newtable(L);
	while (n < HEADER_VALUES_MAX && header_next(&rest, &f)) {
		if (!slice_ieq(f.name, name))
			continue;
		scratch->n = 0;
		policy_words_decode(f.value, scratch);
		push_slice(L, slice_bytes(scratch));
		lua_rawseti(L, -2, ++n);
	}
	return 1;
}

enum header_mode { HEADER_REPLACE, HEADER_PREPEND, HEADER_APPEND };

static void
write_value(struct bytes *out, struct slice name, struct slice text)
{
	struct bytes value = { 0 };

	policy_words_encode(text, &value);
	header_write(out, name, slice_bytes(&value));
	bytes_fini(&value);
}

/* The new fields as lines. Values at 3: a string, or an array of them; "" writes nothing. All values are Lua strings
 * already (check_values), so nothing here raises while the buffer is held. */
static void
write_values(lua_State *L, struct bytes *out, struct slice name)
{
	size_t n;

	for (lua_Integer i = 1; lua_istable(L, 3); i++) {
		if (lua_rawgeti(L, 3, i) != LUA_TSTRING) {
			lua_pop(L, 1);
			return;
		}
		const char *p = lua_tolstring(L, -1, &n);
		write_value(out, name, slice_of(p, n));
		lua_pop(L, 1);
	}
	const char *p = lua_tolstring(L, 3, &n);
	if (n > 0)
		write_value(out, name, slice_of(p, n));
}

/* Makes what stands at 3 a string or an array of strings; charges for it. */
static void
check_values(lua_State *L)
{
	uint64_t bytes = 0;

	if (!lua_istable(L, 3)) {
		bytes = check_text(L, 3).n;
	} else {
		lua_newtable(L);
		for (lua_Integer i = 1; lua_geti(L, 3, i) != LUA_TNIL; i++) {
			luaL_argcheck(L, i <= HEADER_VALUES_MAX, 3, "too many values");
			bytes += check_text(L, -1).n;
			lua_rawseti(L, -2, i);
		}
		lua_pop(L, 1);
		lua_replace(L, 3);
	}
	budget_charge(L, bytes / MSG_BYTES_A_STEP + 1);
}

/* A header that begins where there was none needs the empty line that the body did not have. */
static void
separate_body(struct policy_msg *m, struct slice body)
{
	if (body.n == 0 || body.p[0] == '\n' || (body.n > 1 && body.p[0] == '\r' && body.p[1] == '\n'))
		return;
	struct bytes whole = { 0 };
	bytes_add_str(&whole, "\r\n");
	bytes_add_slice(&whole, body);
	policy_msg_set_body(m, policy_block_take(&whole));
}

static void
end_line(struct bytes *out)
{
	if (out->n > 0 && out->p[out->n - 1] != '\n')
		bytes_add_str(out, "\r\n");
}

static int
header_set(lua_State *L, struct policy_msg *m, struct slice name, enum header_mode mode)
{
	const struct slice old = block_bytes(L, policy_msg_header(m));
	const struct slice body = old.n == 0 ? block_bytes(L, policy_msg_body(m)) : SLICE("");
	struct bytes header = { 0 };
	size_t gone = 0;

	budget_charge(L, old.n / MSG_BYTES_A_STEP);
	check_values(L);
	bytes_room(&header, old.n + 256);
	if (mode == HEADER_PREPEND)
		write_values(L, &header, name);
	if (mode == HEADER_REPLACE)
		gone = header_without(old, name, -1, &header);
	else
		bytes_add_slice(&header, old);
	if (mode != HEADER_PREPEND) {
		end_line(&header);
		write_values(L, &header, name);
	}
	const bool wrote = header.n != old.n || gone > 0;
	if (old.n == 0 && header.n > 0)
		separate_body(m, body);
	policy_msg_set_header(m, policy_block_take(&header));
	lua_pushboolean(L, wrote);
	return 1;
}

/* header(name) and header(name, value[, mode]) */
static int
msg_header(lua_State *L)
{
	static const char *const modes[] = { "replace", "prepend", "append", NULL };
	struct policy_msg *m = check_msg(L, 1);
	const struct slice name = check_slice(L, 2);

	if (lua_isnoneornil(L, 3)) {
		check_may(L, MAY_READ, "msg:header");
		return header_get(L, m, name);
	}
	luaL_argcheck(L, header_name_valid(name), 2, "not a header name");
	const enum header_mode mode = (enum header_mode)luaL_checkoption(L, 4, "replace", modes);
	check_change(L, MAY_CONTENT, "msg:header(name, value)");
	lua_settop(L, 3);
	return header_set(L, m, name, mode);
}

/* --- body ----------------------------------------------------------------------------------------------------------
 */

/* Without the empty line that separates it from the header. */
static struct slice
body_text(struct slice body)
{
	const size_t skip = body.n > 0 && body.p[0] == '\n'                        ? 1
			    : body.n > 1 && body.p[0] == '\r' && body.p[1] == '\n' ? 2
										   : 0;

	return slice_of(body.p + skip, body.n - skip);
}

/* A new body from a script's text: the mark that ends DATA goes, line ends become CRLF, the last line gets one. */
static struct policy_block *
body_block(struct slice text)
{
	struct bytes out = { 0 };

	if (text.n >= 5 && memcmp(text.p + text.n - 5, "\r\n.\r\n", 5) == 0)
		text.n -= 3;
	bytes_room(&out, text.n + 64);
	bytes_add_str(&out, "\r\n");
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '\n' && (i == 0 || text.p[i - 1] != '\r'))
			bytes_add_char(&out, '\r');
		bytes_add_char(&out, text.p[i]);
		if (text.p[i] == '\r' && (i + 1 == text.n || text.p[i + 1] != '\n'))
			bytes_add_char(&out, '\n');
	}
	end_line(&out);
	return policy_block_take(&out);
}

/* body([text]) */
static int
msg_body(lua_State *L)
{
	struct policy_msg *m = check_msg(L, 1);

	check_may(L, MAY_READ, "msg:body");
	if (!lua_isnoneornil(L, 2)) {
		check_change(L, MAY_CONTENT, "msg:body(text)");
		const struct slice text = check_text(L, 2);
		budget_charge(L, text.n / MSG_BYTES_A_STEP);
		policy_msg_set_body(m, body_block(text));
		lua_settop(L, 2);
		return 1;
	}
	push_slice(L, body_text(block_bytes(L, policy_msg_body(m))));
	return 1;
}

/* --- where it goes --------------------------------------------------------------------------------------------------
 */

/* binding([name]) */
static int
msg_binding(lua_State *L)
{
	struct policy_msg *m = check_msg(L, 1);

	if (!lua_isnoneornil(L, 2)) {
		check_change(L, MAY_BINDING, "msg:binding(name)");
		const struct policy_host_ops *ops = policy_host(lua_host_of(L)->policy);
		const struct slice name = check_text(L, 2);
		const bool plain = slice_ieq(name, SLICE("default"));

		if (!plain && ops->binding_known != NULL && !ops->binding_known(ops->arg, name)) {
			lua_pushnil(L);
			return 1;
		}
		policy_msg_set_binding(m, name);
	}
	const struct slice now = policy_msg_binding(m);
	if (now.n == 0)
		lua_pushnil(L);
	else
		push_slice(L, now);
	return 1;
}

/* routing_domain([domain]): a domain, host or address; kept in lower case. */
static int
msg_routing_domain(lua_State *L)
{
	struct policy_msg *m = check_msg(L, 1);
	char lower[ADDR_DOMAIN_MAX + 1];
	struct sockaddr_storage literal;

	if (!lua_isnoneornil(L, 2)) {
		check_change(L, MAY_ROUTE, "msg:routing_domain(domain)");
		const struct slice name = check_text(L, 2);

		luaL_argcheck(
			L, name.n <= ADDR_DOMAIN_MAX && (domain_valid(name, false) || domain_literal(name, &literal)),
			2, "not a domain or address");
		for (size_t i = 0; i < name.n; i++)
			lower[i] = ascii_lower(name.p[i]);
		policy_msg_set_routing_domain(m, slice_of(lower, name.n));
	}
	push_slice(L, policy_msg_routing_domain(m));
	return 1;
}

/* delay_until([time]): seconds since the epoch, fractions allowed; it is not tried before then. A time that is past is
 * now. Gives the time that holds, nil for none. */
static int
msg_delay_until(lua_State *L)
{
	struct policy_msg *m = check_msg(L, 1);

	if (!lua_isnoneornil(L, 2)) {
		check_change(L, MAY_BINDING, "msg:delay_until(time)");
		const lua_Number at = luaL_checknumber(L, 2);
		luaL_argcheck(L, at >= 0 && at < (lua_Number)TIME_MAX, 2, "not a time in seconds since the epoch");
		policy_msg_set_due(m, (usec_t)(at * (lua_Number)USEC_PER_SEC));
	}
	if (policy_msg_due(m) == 0)
		lua_pushnil(L);
	else
		lua_pushnumber(L, (lua_Number)policy_msg_due(m) / (lua_Number)USEC_PER_SEC);
	return 1;
}

static bool
begins_with_code(struct slice s)
{
	return s.n >= 3 && s.p[0] >= '2' && s.p[0] <= '5' && s.p[1] >= '0' && s.p[1] <= '9' && s.p[2] >= '0' &&
	       s.p[2] <= '9' && (s.n == 3 || s.p[3] == ' ');
}

/* discard([reason]) */
static int
msg_discard(lua_State *L)
{
	struct policy_msg *m = check_change(L, MAY_DISCARD, "msg:discard");
	struct slice why = lua_isnoneornil(L, 2) ? SLICE("550 5.7.0 discarded by policy") : check_text(L, 2);

	if (!begins_with_code(why))
		why = SLICE("550 5.7.1 [internal] discarded by policy");
	policy_msg_discard(m, why);
	return 0;
}

/* --- facts ---------------------------------------------------------------------------------------------------------
 */

static int
msg_get_message_size(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)policy_msg_size(check_msg(L, 1)));
	return 1;
}

/* "all", "ip" or "port" of an address. */
static int
push_address(lua_State *L, const struct sockaddr_storage *a)
{
	static const char *const flags[] = { "all", "ip", "port", NULL };
	const int flag = luaL_checkoption(L, 2, "all", flags);
	char text[64], ip[64];

	policy_addr_text(a, true, text);
	policy_addr_text(a, false, ip);
	const size_t n = strlen(ip);
	lua_pushstring(L, flag == 0 ? text : flag == 1 ? ip : text[n] == '\0' ? "" : text + n + 1);
	return 1;
}

static int
msg_reception_peer(lua_State *L)
{
	return push_address(L, &policy_session_env(policy_msg_session(check_msg(L, 1)))->remote);
}

static int
msg_listener_addr(lua_State *L)
{
	return push_address(L, &policy_session_env(policy_msg_session(check_msg(L, 1)))->local);
}

const luaL_Reg msg_methods[] = {
	{ "context_get", msg_context_get },
	{ "context_set", msg_context_set },
	{ "context_exists", msg_context_exists },
	{ "context_exists_and_get", msg_context_exists_and_get },
	{ "context_delete", msg_context_delete },
	{ "mailfrom", msg_mailfrom },
	{ "rcptto", msg_rcptto },
	{ "get_envelope2", msg_get_envelope2 },
	{ "header", msg_header },
	{ "body", msg_body },
	{ "binding", msg_binding },
	{ "routing_domain", msg_routing_domain },
	{ "delay_until", msg_delay_until },
	{ "discard", msg_discard },
	{ "get_message_size", msg_get_message_size },
	{ "reception_peer", msg_reception_peer },
	{ "listener_addr", msg_listener_addr },
	{ NULL, NULL },
};

const char *const msg_unbuilt[] = {
	"address_header",
	"binding_group",
	"body_match",
	"body_replace",
	"build",
	"code",
	"copy",
	"forward",
	"get_code",
	"get_delivery_method",
	"inject",
	"is_mcmt",
	"makeBoundary",
	"makeContainer",
	"makePart",
	"mime",
	"raw",
	"raw_match",
	"raw_replace",
	"set_code",
	"text",
	"text_match",
	"text_replace",
	NULL,
};

static void
push_id(lua_State *L, msgid_t id)
{
	char text[ID_TEXT];

	id_text(id, text);
	lua_pushstring(L, text);
}

int
msg_field(lua_State *L)
{
	const struct policy_msg *m = check_msg(L, 1);
	const struct policy_session_env *env = policy_session_env(policy_msg_session(m));
	const char *key = luaL_checkstring(L, 2);
	char text[64];

	if (strcmp(key, "id") == 0) {
		push_id(L, policy_msg_id(m));
	} else if (strcmp(key, "batch_id") == 0) {
		push_id(L, policy_msg_batch(m));
	} else if (strcmp(key, "conn_id") == 0) {
		push_id(L, policy_msg_conn(m));
	} else if (strcmp(key, "priority") == 0) {
		lua_pushinteger(L, policy_msg_priority(m));
	} else if (strcmp(key, "recv_method") == 0) {
		lua_pushinteger(L, env->protocol);
	} else if (strcmp(key, "recv_from") == 0 || strcmp(key, "recv_via") == 0) {
		policy_addr_text(key[5] == 'f' ? &env->remote : &env->local, true, text);
		lua_pushstring(L, text);
	} else {
		lua_pushnil(L);
	}
	return 1;
}

/* msg.priority = 0 or 1; nothing else can be assigned. */
int
msg_set_field(lua_State *L)
{
	const char *key = luaL_checkstring(L, 2);

	if (strcmp(key, "priority") != 0)
		return luaL_error(L, "msys: msg.%s cannot be assigned", key);
	struct policy_msg *m = check_change(L, MAY_BINDING, "msg.priority = ");
	const lua_Integer v = luaL_checkinteger(L, 3);
	luaL_argcheck(L, v == 0 || v == 1, 3, "0 or 1");
	policy_msg_set_priority(m, (uint8_t)v);
	return 0;
}
