/* The pattern matcher: against a table, against Lua's own string library on made-up patterns, and its step count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>

#include "policy/lua/lua_match.h"

static void
bad_patterns(void **state)
{
	static const struct {
		const char *pattern, *error;
	} rows[] = {
		{ "[a", "malformed pattern (missing ']')" },
		{ "[", "malformed pattern (missing ']')" },
		{ "[^", "malformed pattern (missing ']')" },
		{ "[]", "malformed pattern (missing ']')" },
		{ "[%", "malformed pattern (missing ']')" },
		{ "[a%", "malformed pattern (missing ']')" },
		{ "%", "malformed pattern (ends with '%')" },
		{ "a%", "malformed pattern (ends with '%')" },
		{ "%b", "malformed pattern (missing arguments to '%b')" },
		{ "%ba", "malformed pattern (missing arguments to '%b')" },
		{ "%f", "missing '[' after '%f' in pattern" },
		{ "%fa", "missing '[' after '%f' in pattern" },
		{ "%f[", "malformed pattern (missing ']')" },
		{ "(a", "unfinished capture" },
		{ "a)", "invalid pattern capture" },
		{ "%1", "invalid capture index in pattern" },
		{ "(a%1)", "invalid capture index in pattern" },
		{ "%0", "invalid capture index in pattern" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t steps = 1000;
		struct match m;

		match_init(&m, SLICE("aaaa"), slice_str(rows[i].pattern), &steps);
		if (match_find(&m, 0) != MATCH_BAD || strcmp(m.error, rows[i].error) != 0)
			fail_msg("%s: %s", rows[i].pattern, m.error == NULL ? "no error" : m.error);
	}
}

static void
limits(void **state)
{
	struct bytes pattern = { 0 };
	int64_t steps = INT64_MAX;
	struct match m;

	(void)state;
	for (int i = 0; i < MATCH_DEPTH + 1; i++)
		bytes_add_str(&pattern, "a?");
	match_init(&m, SLICE("b"), slice_bytes(&pattern), &steps);
	assert_int_equal(match_find(&m, 0), MATCH_BAD);
	assert_string_equal(m.error, "pattern too complex");
	pattern.n = 0;
	for (int i = 0; i < MATCH_CAPTURES + 1; i++)
		bytes_add_str(&pattern, "()");
	match_init(&m, SLICE("b"), slice_bytes(&pattern), &steps);
	assert_int_equal(match_find(&m, 0), MATCH_BAD);
	assert_string_equal(m.error, "too many captures");
	bytes_fini(&pattern);
}

/* Whatever the pattern, as many steps as there are and no more. */
static void
steps_end_it(void **state)
{
	static const char *const patterns[] = { "a*a*a*a*a*a*a*b", "(.-)(.-)(.-)(.-)b",       "%b()",  ".-.-.-.-.-b",
						"a?a?a?a?a?a*b",   "[a-z]*[a-z]*[a-z]*[^a]b", "%f[b]", "(a*)%1%1b" };
	struct bytes subject = { 0 };

	(void)state;
	for (int i = 0; i < 2000; i++)
		bytes_add_char(&subject, 'a');
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		for (int64_t steps = 1; steps < 100000; steps *= 10) {
			int64_t left = steps;
			struct match m;

			match_init(&m, slice_bytes(&subject), slice_str(patterns[i]), &left);
			const enum match_result r = match_find(&m, 0);
			assert_true(r == MATCH_SPENT || (r == MATCH_NO && left >= 0));
			if (r == MATCH_SPENT)
				assert_true(left < 0 && left > -200);
			if (steps <= 100)
				assert_int_equal(r, MATCH_SPENT);
		}
	}
	bytes_fini(&subject);
}

/* --- against Lua's own ---------------------------------------------------------------------------------------------
 */

static unsigned long seed = 12345;

static unsigned
rnd(unsigned n)
{
	seed = seed * 6364136223846793005ul + 1442695040888963407ul;
	return (unsigned)(seed >> 33) % n;
}

static void
make(struct bytes *b, const char *const *parts, unsigned nparts, unsigned most)
{
	b->n = 0;
	for (unsigned i = rnd(most + 1); i > 0; i--)
		bytes_add_str(b, parts[rnd(nparts)]);
	bytes_cstr(b);
}

/* Lua's answer as text: "no", "bad", or start, end and captures. */
static void
lua_answer(lua_State *L, struct slice subject, struct slice pattern, struct bytes *out)
{
	lua_getglobal(L, "string");
	lua_getfield(L, -1, "find");
	lua_remove(L, -2);
	lua_pushlstring(L, subject.p, subject.n);
	lua_pushlstring(L, pattern.p, pattern.n);
	if (lua_pcall(L, 2, LUA_MULTRET, 0) != LUA_OK) {
		bytes_add_str(out, "bad");
	} else if (lua_isnil(L, 1)) {
		bytes_add_str(out, "no");
	} else {
		for (int i = 1; i <= lua_gettop(L); i++) {
			bytes_add_str(out, lua_isinteger(L, i) ? "#" : "");
			bytes_addf(out, "%s;", lua_tostring(L, i));
		}
	}
	lua_settop(L, 0);
}

static void
our_answer(struct slice subject, struct slice pattern, struct bytes *out)
{
	int64_t steps = INT64_MAX;
	struct match m;
	size_t at;

	if (match_is_plain(pattern)) {
		if (match_plain(subject, pattern, 0, &steps, &at) == MATCH_YES)
			bytes_addf(out, "#%zu;#%zu;", at + 1, at + pattern.n);
		else
			bytes_add_str(out, "no");
		return;
	}
	match_init(&m, subject, pattern, &steps);
	const enum match_result r = match_find(&m, 0);
	if (r != MATCH_YES) {
		bytes_add_str(out, r == MATCH_NO ? "no" : "bad");
		return;
	}
	bytes_addf(out, "#%zu;#%zu;", m.start + 1, m.end);
	for (unsigned i = 0; i < m.ncaptures; i++) {
		const struct match_capture *c = &m.captures[i];

		if (c->length == MATCH_POSITION)
			bytes_addf(out, "#%zu;", c->start + 1);
		else
			bytes_addf(out, "%.*s;", (int)c->length, subject.p + c->start);
	}
}

/* A back reference to a position capture never matches in Lua's library and matches nothing in ours: left out. */
static bool
comparable(const char *pattern)
{
	return strstr(pattern, "()") == NULL || strpbrk(pattern, "123456789") == NULL;
}

static void
like_luas_own(void **state)
{
	static const char *const parts[] = { "a",    "b",    "(",    ")",    "()",    ".",    "%a",   "%d",   "%W",
					     "%s",   "[ab]", "[^a]", "[]",   "[a-c",  "]",    "*",    "+",    "-",
					     "?",    "%1",   "%z",   "%b()", "%f[a]", "$",    "^",    "%",    "%%",
					     "[%a]", "[a-]", "1",    " ",    "x",     "(a*)", "(.-)", "[^]a]" };
	static const char *const letters[] = { "a", "b", "x", "(", ")", "1", " ", "-", "]", "%", "^", "c" };
	lua_State *L = luaL_newstate();
	struct bytes pattern = { 0 }, subject = { 0 }, want = { 0 }, got = { 0 };
	unsigned matched = 0;

	(void)state;
	luaL_requiref(L, "string", luaopen_string, 1);
	lua_settop(L, 0);
	for (int i = 0; i < 100000; i++) {
		make(&pattern, parts, sizeof(parts) / sizeof(parts[0]), 6);
		make(&subject, letters, sizeof(letters) / sizeof(letters[0]), 12);
		if (!comparable(pattern.p))
			continue;
		want.n = got.n = 0;
		lua_answer(L, slice_bytes(&subject), slice_bytes(&pattern), &want);
		our_answer(slice_bytes(&subject), slice_bytes(&pattern), &got);
		if (strcmp(bytes_cstr(&want), bytes_cstr(&got)) != 0)
			fail_msg("subject \"%s\" pattern \"%s\": Lua %s, we %s", subject.p, pattern.p, want.p, got.p);
		matched += want.p[0] == '#';
	}
	assert_true(matched > 1000);
	bytes_fini(&pattern);
	bytes_fini(&subject);
	bytes_fini(&want);
	bytes_fini(&got);
	lua_close(L);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_patterns),
		cmocka_unit_test(limits),
		cmocka_unit_test(steps_end_it),
		cmocka_unit_test(like_luas_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
