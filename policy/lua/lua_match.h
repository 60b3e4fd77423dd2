/* lua_match.h - Lua patterns with a step count
 * The language is that of Lua 5.4 (classes, sets, quantifiers * + - ?, captures, %b, %f, %1). Every comparison is a
 * step; when the steps are used up matching ends with MATCH_SPENT, whatever the pattern. Recursion is bounded by
 * MATCH_DEPTH. Pure: bytes in, positions out; knows nothing of Lua's state. */
#ifndef POLICY_LUA_LUA_MATCH_H
#define POLICY_LUA_LUA_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/base/bytes.h"

enum { MATCH_CAPTURES = 32, MATCH_DEPTH = 200 };

enum match_result {
	MATCH_NO,
	MATCH_YES,
	MATCH_SPENT, /* out of steps */
	MATCH_BAD,   /* the pattern is malformed or too complex: m->error says how */
};

struct match {
	/* set by match_init */
	struct slice subject, pattern; /* pattern without its anchor */
	bool anchored;
	int64_t *steps;
	/* after MATCH_YES */
	size_t start, end; /* of the whole match */
	unsigned ncaptures;
	struct match_capture {
		size_t start;
		ptrdiff_t length; /* or MATCH_POSITION */
	} captures[MATCH_CAPTURES];
	const char *error; /* after MATCH_BAD */
	unsigned depth;
};
enum { MATCH_POSITION = -1, MATCH_OPEN = -2 };

/* *steps is counted down; borrowed, like the slices, until m is used no more. */
void match_init(struct match *m, struct slice subject, struct slice pattern, int64_t *steps);
/* Matches at exactly this place of the subject (at <= subject.n). */
enum match_result match_at(struct match *m, size_t at);
/* The first match at or after `from`. */
enum match_result match_find(struct match *m, size_t from);
/* First place of needle at or after from, without patterns. *at is set on MATCH_YES. */
enum match_result match_plain(struct slice subject, struct slice needle, size_t from, int64_t *steps, size_t *at);
/* Has the pattern none of the special characters? */
bool match_is_plain(struct slice pattern);

#endif
