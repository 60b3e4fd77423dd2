#include "policy/conf/conf_lex.h"

static const char single[] = "={}()[]";

void
conf_lex_init(struct conf_lex *lex, struct slice text, const char *file, struct arena *arena, struct conf_errors *errs)
{
	*lex = (struct conf_lex){ .rest = text, .pos = { file, 1, 1 }, .arena = arena, .errs = errs };
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

static void
step(struct conf_lex *lex, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (lex->rest.p[i] == '\n') {
			lex->pos.line++;
			lex->pos.column = 1;
		} else
			lex->pos.column++;
	}
	lex->rest.p += n;
	lex->rest.n -= n;
}

static bool
at(const struct conf_lex *lex, const char *what)
{
	size_t n = strlen(what);

	return lex->rest.n >= n && memcmp(lex->rest.p, what, n) == 0;
}

/* False when a comment does not end. */
static bool
skip_comment(struct conf_lex *lex)
{
	struct slice s = lex->rest;
	const char *end;

	if (s.p[0] == '#') {
		step(lex, slice_find(s, '\n'));
		return true;
	}
	end = memmem(s.p + 2, s.n - 2, "*/", 2);
	if (end == NULL) {
		conf_report(lex->errs, CONF_ERROR, lex->pos, "this comment does not end; close it with */");
		return false;
	}
	step(lex, (size_t)(end - s.p) + 2);
	return true;
}

static bool
skip_blank(struct conf_lex *lex)
{
	while (lex->rest.n > 0) {
		if (is_blank(lex->rest.p[0]))
			step(lex, 1);
		else if (lex->rest.p[0] == '#' || at(lex, "/*")) {
			if (!skip_comment(lex))
				return false;
		} else
			break;
	}
	return true;
}

static struct conf_token
bad(struct conf_lex *lex, struct conf_pos pos)
{
	lex->rest.n = 0;
	return (struct conf_token){ TOKEN_BAD, pos, "" };
}

/* What a backslash before c stands for, or NUL when it stands for itself. */
static char
escape(char c)
{
	switch (c) {
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case '"':
	case '\\':
		return c;
	default:
		return '\0';
	}
}

/* Length of the quoted text behind its opening quote, or the whole rest when it does not end. */
static size_t
quoted_length(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"')
			return i;
		if (s.p[i] == '\\')
			i++;
	}
	return s.n;
}

static struct conf_token
lex_quoted(struct conf_lex *lex)
{
	struct conf_pos pos = lex->pos;
	struct slice in = { lex->rest.p + 1, lex->rest.n - 1 };
	size_t n = quoted_length(in), used = 0;
	char *text;

	if (n >= in.n) {
		conf_report(lex->errs, CONF_ERROR, pos, "this text does not end; close it with \"");
		return bad(lex, pos);
	}
	text = arena_alloc(lex->arena, n + 1);
	for (size_t i = 0; i < n; i++) {
		char c = in.p[i];

		if (c == '\\' && escape(in.p[i + 1]) != '\0')
			c = escape(in.p[++i]);
		text[used++] = c;
	}
	step(lex, n + 2);
	return (struct conf_token){ TOKEN_QUOTED, pos, text };
}

static size_t
bare_length(struct slice s, bool instance)
{
	bool regex = instance && s.p[0] == '/';
	size_t i;

	for (i = 0; i < s.n && !is_blank(s.p[i]); i++)
		if (regex ? s.p[i] == '{' : strchr("\"#={}[]()", s.p[i]) != NULL)
			break;
	return i;
}

static struct conf_token
lex_bare(struct conf_lex *lex, bool instance)
{
	struct conf_pos pos = lex->pos;
	struct slice word = { lex->rest.p, bare_length(lex->rest, instance) };

	if (!(instance && word.p[0] == '/') && slice_find(word, '\'') < word.n) {
		conf_report(lex->errs, CONF_ERROR, pos, "a ' is no quote here; quote with \"");
		return bad(lex, pos);
	}
	step(lex, word.n);
	return (struct conf_token){ TOKEN_BARE, pos, arena_slice(lex->arena, word).p };
}

struct conf_token
conf_lex_next(struct conf_lex *lex, bool instance)
{
	static const enum conf_token_kind kinds[] = {
		TOKEN_EQUALS,      TOKEN_BRACE_OPEN,   TOKEN_BRACE_CLOSE,   TOKEN_PAREN_OPEN,
		TOKEN_PAREN_CLOSE, TOKEN_BRACKET_OPEN, TOKEN_BRACKET_CLOSE,
	};
	static const char *const texts[] = { "=", "{", "}", "(", ")", "[", "]" };
	struct conf_pos pos;
	const char *found;

	if (!skip_blank(lex))
		return bad(lex, lex->pos);
	pos = lex->pos;
	if (lex->rest.n == 0)
		return (struct conf_token){ TOKEN_END, pos, "" };
	if (lex->rest.p[0] == '"')
		return lex_quoted(lex);
	found = strchr(single, lex->rest.p[0]);
	if (found == NULL)
		return lex_bare(lex, instance);
	step(lex, 1);
	return (struct conf_token){ kinds[found - single], pos, texts[found - single] };
}

const char *
conf_token_text(struct conf_lex *lex, const struct conf_token *t)
{
	switch (t->kind) {
	case TOKEN_END:
		return "the end of the file";
	case TOKEN_BARE:
	case TOKEN_QUOTED:
		return arena_printf(lex->arena, "\"%.60s\"", t->text);
	default:
		return t->text;
	}
}
