/* lua_string.c - the string functions that scripts see
 * find, match, gmatch and gsub go through our matcher, whose steps are the budget's; rep charges before it builds. The
 * others are Lua's: what they make is charged as memory by the allocator, what they only read by lua_library's table.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/lua/lua_int.h"
#include "policy/lua/lua_match.h"

/* Steps left, to be counted down by a match; put back by steps_return. */
static int64_t
steps_borrow(lua_State *L)
{
	const struct budget *b = lua_host_of(L)->budget;

	return b == NULL ? INT64_MAX : b->steps;
}

static void
steps_return(lua_State *L, int64_t left)
{
	struct budget *b = lua_host_of(L)->budget;

	if (b == NULL)
		return;
	b->steps = left;
	if (left < 0 && b->spent == SPENT_NOT)
		b->spent = SPENT_STEPS;
}

/* Position argument: 1-based, negative from the end; as 0-based, at most n + 1. */
static size_t
check_init(lua_State *L, int arg, size_t n)
{
	const lua_Integer init = luaL_optinteger(L, arg, 1);

	if (init > 0)
		return (uint64_t)init - 1 > n ? n + 1 : (size_t)init - 1;
	if (init == 0 || (uint64_t) - (init + 1) >= n)
		return 0;
	return n - (size_t)-init;
}

/* One step of matching; raises for what is no answer. */
static bool
matched(lua_State *L, const struct match *m, enum match_result r)
{
	if (r == MATCH_SPENT)
		budget_raise(L);
	if (r == MATCH_BAD)
		luaL_error(L, "%s", m->error);
	return r == MATCH_YES;
}

static enum match_result
find_charged(lua_State *L, struct match *m, size_t from)
{
	int64_t steps = steps_borrow(L);

	m->steps = &steps;
	const enum match_result r = match_find(m, from);
	steps_return(L, steps);
	m->steps = NULL;
	return r;
}

static void
push_capture(lua_State *L, const struct match *m, unsigned i)
{
	if (m->captures[i].length == MATCH_POSITION)
		lua_pushinteger(L, (lua_Integer)m->captures[i].start + 1);
	else
		lua_pushlstring(L, m->subject.p + m->captures[i].start, (size_t)m->captures[i].length);
}

/* All captures, or the whole match when there are none and `whole`. */
static int
push_captures(lua_State *L, const struct match *m, bool whole)
{
	luaL_checkstack(L, MATCH_CAPTURES, "too many captures");
	if (m->ncaptures == 0 && whole) {
		lua_pushlstring(L, m->subject.p + m->start, m->end - m->start);
		return 1;
	}
	for (unsigned i = 0; i < m->ncaptures; i++)
		push_capture(L, m, i);
	return (int)m->ncaptures;
}

static int
find_plain(lua_State *L, struct slice subject, struct slice needle, size_t from)
{
	int64_t steps = steps_borrow(L);
	size_t at = 0;
	const enum match_result r = match_plain(subject, needle, from, &steps, &at);

	steps_return(L, steps);
	if (r == MATCH_SPENT)
		return budget_raise(L);
	if (r == MATCH_NO) {
		lua_pushnil(L);
		return 1;
	}
	const size_t end = at + needle.n;
	lua_pushinteger(L, (lua_Integer)at + 1);
	lua_pushinteger(L, (lua_Integer)end);
	return 2;
}

static int
find_or_match(lua_State *L, bool find)
{
	const struct slice subject = check_slice(L, 1), pattern = check_slice(L, 2);
	const size_t from = check_init(L, 3, subject.n);
	struct match m;

	if (from > subject.n) {
		lua_pushnil(L);
		return 1;
	}
	if (find && (lua_toboolean(L, 4) || match_is_plain(pattern)))
		return find_plain(L, subject, pattern, from);
	match_init(&m, subject, pattern, NULL);
	if (!matched(L, &m, find_charged(L, &m, from))) {
		lua_pushnil(L);
		return 1;
	}
	if (!find)
		return push_captures(L, &m, true);
	lua_pushinteger(L, (lua_Integer)m.start + 1);
	lua_pushinteger(L, (lua_Integer)m.end);
	return push_captures(L, &m, false) + 2;
}

static int
str_find(lua_State *L)
{
	return find_or_match(L, true);
}

static int
str_match(lua_State *L)
{
	return find_or_match(L, false);
}

/* --- gmatch: an iterator that keeps subject and pattern as upvalues --------------------------------------------------
 */

enum { GMATCH_SUBJECT = 1, GMATCH_PATTERN, GMATCH_FROM, GMATCH_LAST };

static int
gmatch_next(lua_State *L)
{
	size_t sn, pn;
	const char *s = lua_tolstring(L, lua_upvalueindex(GMATCH_SUBJECT), &sn);
	const char *p = lua_tolstring(L, lua_upvalueindex(GMATCH_PATTERN), &pn);
	size_t from = (size_t)lua_tointeger(L, lua_upvalueindex(GMATCH_FROM));
	const lua_Integer last = lua_tointeger(L, lua_upvalueindex(GMATCH_LAST));
	struct match m;

	match_init(&m, slice_of(s, sn), slice_of(p, pn), NULL);
	m.pattern = slice_of(p, pn); /* "^" is no anchor here */
	m.anchored = false;
	/* An empty match right behind the last one is the same place again. */
	for (; from <= sn && matched(L, &m, find_charged(L, &m, from)); from = m.start + 1) {
		if ((lua_Integer)m.end == last)
			continue;
		lua_pushinteger(L, (lua_Integer)m.end);
		lua_copy(L, -1, lua_upvalueindex(GMATCH_FROM));
		lua_replace(L, lua_upvalueindex(GMATCH_LAST));
		return push_captures(L, &m, true);
	}
	lua_pushinteger(L, (lua_Integer)sn + 1);
	lua_replace(L, lua_upvalueindex(GMATCH_FROM));
	return 0;
}

static int
str_gmatch(lua_State *L)
{
	const struct slice subject = check_slice(L, 1);

	check_slice(L, 2);
	const size_t from = check_init(L, 3, subject.n);
	lua_settop(L, 2);
	lua_pushinteger(L, (lua_Integer)from);
	lua_pushinteger(L, -1);
	lua_pushcclosure(L, gmatch_next, 4);
	return 1;
}

/* --- gsub ------------------------------------------------------------------------------------------------------------
 */

/* Index of the capture that "%N" in a replacement names, or -1 for the whole match. */
static int
capture_index(lua_State *L, const struct match *m, char digit)
{
	const int i = digit - '1';

	if (digit == '0' || (i == 0 && m->ncaptures == 0))
		return -1;
	if (i >= (int)m->ncaptures)
		luaL_error(L, "invalid capture index %%%d in replacement string", i + 1);
	return i;
}

static void
add_capture(lua_State *L, luaL_Buffer *b, const struct match *m, int i)
{
	if (i < 0) {
		luaL_addlstring(b, m->subject.p + m->start, m->end - m->start);
	} else if (m->captures[i].length == MATCH_POSITION) {
		lua_pushinteger(L, (lua_Integer)m->captures[i].start + 1);
		luaL_tolstring(L, -1, NULL);
		lua_remove(L, -2);
		luaL_addvalue(b);
	} else {
		luaL_addlstring(b, m->subject.p + m->captures[i].start, (size_t)m->captures[i].length);
	}
}

static void
add_template(lua_State *L, luaL_Buffer *b, const struct match *m, struct slice repl)
{
	for (size_t i = 0; i < repl.n; i++) {
		if (repl.p[i] != '%') {
			luaL_addchar(b, repl.p[i]);
			continue;
		}
		i++;
		if (i < repl.n && repl.p[i] == '%')
			luaL_addchar(b, '%');
		else if (i < repl.n && repl.p[i] >= '0' && repl.p[i] <= '9')
			add_capture(L, b, m, capture_index(L, m, repl.p[i]));
		else
			luaL_error(L, "invalid use of '%%' in replacement string");
	}
}

/* A table's or function's answer for the match; false and nil keep it. */
static void
add_looked_up(lua_State *L, luaL_Buffer *b, const struct match *m)
{
	if (lua_type(L, 3) == LUA_TFUNCTION) {
		lua_pushvalue(L, 3);
		lua_call(L, push_captures(L, m, true), 1);
	} else {
		if (m->ncaptures == 0)
			lua_pushlstring(L, m->subject.p + m->start, m->end - m->start);
		else
			push_capture(L, m, 0);
		lua_gettable(L, 3);
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		luaL_addlstring(b, m->subject.p + m->start, m->end - m->start);
	} else if (!lua_isstring(L, -1)) {
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	} else {
		luaL_addvalue(b);
	}
}

static void
add_replacement(lua_State *L, luaL_Buffer *b, const struct match *m, int type)
{
	size_t n;

	budget_charge(L, 1);
	if (type == LUA_TTABLE || type == LUA_TFUNCTION) {
		add_looked_up(L, b, m);
	} else {
		const char *repl = lua_tolstring(L, 3, &n);

		add_template(L, b, m, slice_of(repl, n));
	}
}

static int
str_gsub(lua_State *L)
{
	const struct slice subject = check_slice(L, 1), pattern = check_slice(L, 2);
	const int type = lua_type(L, 3);
	const lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)subject.n + 1);
	lua_Integer done = 0;
	size_t from = 0, copied = 0;
	bool moved = true; /* an empty match is allowed at `from` */
	struct match m;
	luaL_Buffer b;

	luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE,
			 3, "string/function/table");
	match_init(&m, subject, pattern, NULL);
	luaL_buffinit(L, &b);
	while (done < most && from <= subject.n && matched(L, &m, find_charged(L, &m, from))) {
		if (m.end == m.start && m.start == from && !moved) {
			from++;
			moved = true;
			if (m.anchored)
				break;
			continue;
		}
		luaL_addlstring(&b, subject.p + copied, m.start - copied);
		add_replacement(L, &b, &m, type);
		done++;
		copied = from = m.end;
		moved = false;
		if (m.anchored)
			break;
	}
	luaL_addlstring(&b, subject.p + copied, subject.n - copied);
	luaL_pushresult(&b);
	lua_pushinteger(L, done);
	return 2;
}

/* --- rep
 * --------------------------------------------------------------------------------------------------------------- */

static int
str_rep(lua_State *L)
{
	const struct slice s = check_slice(L, 1), sep = opt_slice(L, 3, SLICE(""));
	const lua_Integer times = luaL_checkinteger(L, 2);
	luaL_Buffer b;

	if (times <= 0 || s.n + sep.n == 0) {
		lua_pushliteral(L, "");
		return 1;
	}
	if (s.n + sep.n < s.n || s.n + sep.n > (size_t)INT64_MAX / (size_t)times)
		return luaL_error(L, "resulting string too large");
	const size_t total = (size_t)times * s.n + (size_t)(times - 1) * sep.n;
	budget_charge(L, total / 64 + (size_t)times / 8);
	char *p = luaL_buffinitsize(L, &b, total);
	for (lua_Integer i = 0; i < times; i++) {
		memcpy(p, s.p, s.n);
		p += s.n;
		if (i + 1 < times) {
			memcpy(p, sep.p, sep.n);
			p += sep.n;
		}
	}
	luaL_pushresultsize(&b, total);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "find", str_find }, { "match", str_match }, { "gmatch", str_gmatch }, { "gfind", str_gmatch },
	{ "gsub", str_gsub }, { "rep", str_rep },     { NULL, NULL },
};

void
string_open(lua_State *L)
{
	luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1);
	luaL_setfuncs(L, functions, 0);
	lua_pushnil(L);
	lua_setfield(L, -2, "dump");
	lua_pop(L, 1);
}
