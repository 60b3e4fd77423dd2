#include "policy/conf/conf_parse.h"

#include <stdlib.h>
#include <strings.h>

#include "policy/conf/conf_lex.h"
#include "shm/base/mem.h"

/* Deeper than any stanza of the language; a bound for the recursion. */
enum { NESTING_MAX = 16 };

struct parser {
	struct conf_reader *r;
	const struct conf_file *file;
	struct conf_lex lex;
	unsigned nesting;
	bool failed;
};

static void
expected(struct parser *p, const struct conf_token *found, const char *what)
{
	p->failed = true;
	if (found->kind != TOKEN_BAD)
		conf_report(p->r->errs, CONF_ERROR, found->pos, "found %s, expected %s",
			    conf_token_text(&p->lex, found), what);
}

static bool
is_word(const struct conf_token *t)
{
	return t->kind == TOKEN_BARE || t->kind == TOKEN_QUOTED;
}

static bool
is_name(const char *s)
{
	for (const char *c = s; *c != '\0'; c++) {
		bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_';

		if (!letter && (c == s || *c < '0' || *c > '9'))
			return false;
	}
	return *s != '\0';
}

/* Words of one value; kept in the arena when it is whole. */
struct words {
	struct conf_word *v;
	size_t n, cap;
};

static void
words_add(struct words *w, struct conf_pos pos, const char *text)
{
	if (w->n == w->cap) {
		w->cap = w->cap == 0 ? 8 : w->cap * 2;
		w->v = mem_array(w->v, w->cap, sizeof(*w->v));
	}
	w->v[w->n++] = (struct conf_word){ pos, text };
}

static void
words_keep(struct words *w, struct arena *arena, struct conf_raw *out)
{
	out->n = w->n;
	out->words = arena_alloc(arena, w->n * sizeof(*w->v));
	if (w->n > 0)
		memcpy(out->words, w->v, w->n * sizeof(*w->v));
	free(w->v);
}

/* Items stand apart by blanks; a comma behind a quoted one is passed over. */
static void
parse_list(struct parser *p, struct conf_raw *out)
{
	struct words w = { 0 };
	bool after_quoted = false;

	for (;;) {
		struct conf_token t = conf_lex_next(&p->lex, false);

		if (t.kind == TOKEN_PAREN_CLOSE)
			break;
		if (!is_word(&t)) {
			expected(p, &t, "an item of the list, or )");
			break;
		}
		if (after_quoted && t.kind == TOKEN_BARE && t.text[0] == ',') {
			t.text++;
			t.pos.column++;
			if (t.text[0] == '\0')
				continue;
		}
		after_quoted = t.kind == TOKEN_QUOTED;
		words_add(&w, t.pos, t.text);
	}
	words_keep(&w, p->r->arena, out);
}

static void
parse_dict(struct parser *p, struct conf_raw *out)
{
	struct words w = { 0 };

	for (;;) {
		struct conf_token t = conf_lex_next(&p->lex, false);

		if (t.kind == TOKEN_BRACKET_CLOSE)
			break;
		if (!is_word(&t)) {
			expected(p, &t, "a key of the dictionary, or ]");
			break;
		}
		words_add(&w, t.pos, t.text);
		t = conf_lex_next(&p->lex, false);
		if (t.kind == TOKEN_EQUALS)
			t = conf_lex_next(&p->lex, false);
		if (!is_word(&t)) {
			expected(p, &t, "the value of the key before it");
			break;
		}
		words_add(&w, t.pos, t.text);
	}
	words_keep(&w, p->r->arena, out);
}

/* t is the first token of the value. */
static void
parse_value(struct parser *p, struct conf_stmt *s, struct conf_token t)
{
	struct words w = { 0 };

	s->value.pos = t.pos;
	switch (t.kind) {
	case TOKEN_PAREN_OPEN:
		s->value.kind = RAW_LIST;
		parse_list(p, &s->value);
		return;
	case TOKEN_BRACKET_OPEN:
		s->value.kind = RAW_DICT;
		parse_dict(p, &s->value);
		return;
	case TOKEN_BARE:
	case TOKEN_QUOTED:
		s->value.kind = RAW_WORD;
		words_add(&w, t.pos, t.text);
		words_keep(&w, p->r->arena, &s->value);
		return;
	default:
		expected(p, &t, "a value: a word, ( a list ) or [ a dictionary ]");
	}
}

static void parse_body(struct parser *p, struct conf_stmts *out, enum conf_token_kind end);

/* Behind the opening brace. */
static void
parse_stanza(struct parser *p, struct conf_stmt *s)
{
	s->stanza = true;
	if (p->nesting >= NESTING_MAX) {
		p->failed = true;
		conf_report(p->r->errs, CONF_ERROR, s->name.pos, "stanzas are nested too deep here");
		return;
	}
	p->nesting++;
	parse_body(p, &s->body, TOKEN_BRACE_CLOSE);
	p->nesting--;
}

/* Behind "NAME INSTANCE". */
static void
parse_named_stanza(struct parser *p, struct conf_stmt *s)
{
	struct conf_token t = conf_lex_next(&p->lex, false);

	if (t.kind == TOKEN_EQUALS)
		t = conf_lex_next(&p->lex, false);
	if (t.kind == TOKEN_BRACE_OPEN) {
		parse_stanza(p, s);
		return;
	}
	expected(p, &t,
		 arena_printf(p->r->arena, "{ of a stanza; an option is written %s = %s", s->name.text,
			      s->instance.text));
}

/* Behind the name: decides whether it is an option or a stanza. */
static void
parse_statement(struct parser *p, struct conf_stmt *s)
{
	struct conf_token t = conf_lex_next(&p->lex, true);

	if (t.kind == TOKEN_EQUALS) {
		t = conf_lex_next(&p->lex, false);
		if (t.kind == TOKEN_BRACE_OPEN)
			parse_stanza(p, s);
		else
			parse_value(p, s, t);
	} else if (t.kind == TOKEN_BRACE_OPEN) {
		parse_stanza(p, s);
	} else if (is_word(&t)) {
		s->instance = (struct conf_word){ t.pos, t.text };
		parse_named_stanza(p, s);
	} else if (t.kind == TOKEN_PAREN_OPEN || t.kind == TOKEN_BRACKET_OPEN) {
		parse_value(p, s, t);
	} else {
		expected(p, &t, "= and a value, or the { of a stanza");
	}
}

static void
parse_include(struct parser *p, struct conf_stmts *out)
{
	struct conf_token t = conf_lex_next(&p->lex, false);

	if (is_word(&t))
		conf_parse_include(p->r, p->file, (struct conf_word){ t.pos, t.text }, out);
	else
		expected(p, &t, "the name of a file");
}

static void
parse_body(struct parser *p, struct conf_stmts *out, enum conf_token_kind end)
{
	while (!p->failed) {
		struct conf_token t = conf_lex_next(&p->lex, false);
		struct conf_stmt *s;

		if (t.kind == end)
			return;
		if (t.kind != TOKEN_BARE || !is_name(t.text)) {
			expected(p, &t,
				 end == TOKEN_END ? "the name of an option or stanza"
						  : "the name of an option or stanza, or }");
			return;
		}
		if (strcasecmp(t.text, "include") == 0 || strcasecmp(t.text, "readonly_include") == 0) {
			parse_include(p, out);
			continue;
		}
		s = arena_alloc(p->r->arena, sizeof(*s));
		STAILQ_INIT(&s->body);
		s->name = (struct conf_word){ t.pos, t.text };
		parse_statement(p, s);
		if (!p->failed)
			STAILQ_INSERT_TAIL(out, s, next);
	}
}

/* A NUL cannot be in any name or value; everything behind this check may use C strings. */
static bool
has_no_nul(struct conf_reader *r, const char *file, struct slice text)
{
	struct conf_pos pos = { file, 1, 1 };
	size_t nul = slice_find(text, '\0');

	if (nul == text.n)
		return true;
	for (size_t i = 0; i < nul; i++) {
		pos.column = text.p[i] == '\n' ? 1 : pos.column + 1;
		pos.line += text.p[i] == '\n';
	}
	conf_report(r->errs, CONF_ERROR, pos, "found a NUL byte, expected text");
	return false;
}

void
conf_parse_text(struct conf_reader *r, const struct conf_file *file, struct slice text, struct conf_stmts *out)
{
	struct parser p = { .r = r, .file = file };

	if (!has_no_nul(r, file->path, text))
		return;
	conf_lex_init(&p.lex, text, file->path, r->arena, r->errs);
	parse_body(&p, out, TOKEN_END);
}
