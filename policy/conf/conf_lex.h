/* conf_lex.h - text into tokens, each with its position (inside policy/conf only)
 * Pure: bytes in, tokens out. The text of a token lies in the arena, escapes resolved, with a NUL behind it.
 *
 *	comment = "#" to the end of the line | "/" "*" ... "*" "/", not nested, only where a token may begin
 *	quoted  = DQUOTE { any byte but NUL | "\" DQUOTE | "\\" | "\n" | "\r" | "\t" } DQUOTE; other backslashes stay
 *	bare    = bytes up to a blank or one of  DQUOTE # = { } [ ] ( )
 *	regex   = "/" up to a blank or "{": a bare word, only where the instance of a stanza may stand
 */
#ifndef POLICY_CONF_CONF_LEX_H
#define POLICY_CONF_CONF_LEX_H

#include "policy/conf/conf_report.h"
#include "shm/base/arena.h"

enum conf_token_kind {
	TOKEN_END,
	TOKEN_BARE,
	TOKEN_QUOTED,
	TOKEN_EQUALS,
	TOKEN_BRACE_OPEN,
	TOKEN_BRACE_CLOSE,
	TOKEN_PAREN_OPEN,
	TOKEN_PAREN_CLOSE,
	TOKEN_BRACKET_OPEN,
	TOKEN_BRACKET_CLOSE,
	TOKEN_BAD, /* reported; nothing follows */
};

struct conf_token {
	enum conf_token_kind kind;
	struct conf_pos pos;
	const char *text; /* of words; otherwise the character, for messages */
};

struct conf_lex {
	struct slice rest;
	struct conf_pos pos;
	struct arena *arena;
	struct conf_errors *errs;
};

/* Borrows text, file and the others until the last token was taken. */
void conf_lex_init(struct conf_lex *lex, struct slice text, const char *file, struct arena *arena,
		   struct conf_errors *errs);
/* instance: the token may be the instance of a stanza. After TOKEN_END and TOKEN_BAD there is only TOKEN_END. */
struct conf_token conf_lex_next(struct conf_lex *lex, bool instance);
/* "the word \"x\"", "{", "the end of the file": for messages; in the arena. */
const char *conf_token_text(struct conf_lex *lex, const struct conf_token *t);

#endif
