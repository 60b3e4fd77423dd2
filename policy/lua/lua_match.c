#include "policy/lua/lua_match.h"

#include <ctype.h>
#include <string.h>

/* A pattern is read element by element:
 *   element  = "(" | "()" | ")" | "$" at the end | "%b" x y | "%f" set | "%" digit | single [ "*" | "+" | "-" | "?" ]
 *   single   = "." | "%" class-or-char | set | char
 *   set      = "[" [ "^" ] { "%" class-or-char | char "-" char | char } "]"      (a first "]" is a char)
 * match_rest matches the rest of the pattern from place p against the subject from place s; alternatives (quantifiers,
 * captures) call it again, so the depth of recursion is at most the number of elements. */

enum kind { EL_END, EL_OPEN, EL_POSITION, EL_CLOSE, EL_TAIL, EL_BALANCE, EL_FRONTIER, EL_BACKREF, EL_SINGLE };

struct element {
	enum kind kind;
	size_t at, single_end; /* the single or set, as places in the pattern */
	size_t next;           /* place behind the element */
	char quantifier;       /* 0 for none */
};

static enum match_result match_rest(struct match *m, size_t s, size_t p);

static enum match_result
bad(struct match *m, const char *why)
{
	m->error = why;
	return MATCH_BAD;
}

static bool
step(struct match *m, size_t n)
{
	return (*m->steps -= (int64_t)n) >= 0;
}

void
match_init(struct match *m, struct slice subject, struct slice pattern, int64_t *steps)
{
	m->subject = subject;
	m->anchored = pattern.n > 0 && pattern.p[0] == '^';
	m->pattern = m->anchored ? slice_of(pattern.p + 1, pattern.n - 1) : pattern;
	m->steps = steps;
	m->error = NULL;
	m->depth = 0;
	m->ncaptures = 0;
}

/* --- single characters ------------------------------------------------------------------------------------------ */

static bool
in_class(unsigned char c, unsigned char class)
{
	bool yes;

	switch (tolower(class)) {
	case 'a':
		yes = isalpha(c);
		break;
	case 'c':
		yes = iscntrl(c);
		break;
	case 'd':
		yes = isdigit(c);
		break;
	case 'g':
		yes = isgraph(c);
		break;
	case 'l':
		yes = islower(c);
		break;
	case 'p':
		yes = ispunct(c);
		break;
	case 's':
		yes = isspace(c);
		break;
	case 'u':
		yes = isupper(c);
		break;
	case 'w':
		yes = isalnum(c);
		break;
	case 'x':
		yes = isxdigit(c);
		break;
	case 'z': /* of Lua 5.1: the NUL */
		yes = c == '\0';
		break;
	default:
		return class == c;
	}
	return isupper(class) ? !yes : yes;
}

/* Behind the set that begins at `at` ("["); 0: it has no end. */
static size_t
set_end(struct slice pat, size_t at)
{
	size_t i = at + 1;

	if (i < pat.n && pat.p[i] == '^')
		i++;
	do { /* a "]" in the first place is a member */
		if (i >= pat.n)
			return 0;
		if (pat.p[i++] == '%')
			i++;
	} while (i >= pat.n || pat.p[i] != ']');
	return i + 1;
}

/* at: the "[", end: behind the "]". */
static bool
in_set(const struct match *m, unsigned char c, size_t at, size_t end)
{
	const char *p = m->pattern.p;
	const bool negated = p[at + 1] == '^';
	size_t i = at + 1 + negated;

	for (const size_t last = end - 1; i < last; i++) {
		if (p[i] == '%') {
			if (in_class(c, (unsigned char)p[++i]))
				return !negated;
		} else if (i + 2 < last && p[i + 1] == '-') {
			if ((unsigned char)p[i] <= c && c <= (unsigned char)p[i + 2])
				return !negated;
			i += 2;
		} else if ((unsigned char)p[i] == c) {
			return !negated;
		}
	}
	return negated;
}

/* Does the single of this element match the character at s? Costs a step, a set as many as it is long. */
static bool
single_matches(struct match *m, size_t s, const struct element *el)
{
	if (s >= m->subject.n)
		return false;
	const unsigned char c = (unsigned char)m->subject.p[s];
	switch (m->pattern.p[el->at]) {
	case '.':
		return true;
	case '%':
		return in_class(c, (unsigned char)m->pattern.p[el->at + 1]);
	case '[':
		return in_set(m, c, el->at, el->single_end);
	default:
		return (unsigned char)m->pattern.p[el->at] == c;
	}
}

/* --- reading the pattern ------------------------------------------------------------------------------------------ */

static enum match_result
read_single(struct match *m, size_t p, struct element *el)
{
	const struct slice pat = m->pattern;

	el->kind = EL_SINGLE;
	el->at = p;
	el->single_end = p + 1;
	if (pat.p[p] == '%') {
		if (p + 1 >= pat.n)
			return bad(m, "malformed pattern (ends with '%')");
		el->single_end = p + 2;
	} else if (pat.p[p] == '[' && (el->single_end = set_end(pat, p)) == 0) {
		return bad(m, "malformed pattern (missing ']')");
	}
	el->next = el->single_end;
	el->quantifier = 0;
	if (el->next < pat.n && strchr("*+-?", pat.p[el->next]) != NULL && pat.p[el->next] != '\0')
		el->quantifier = pat.p[el->next++];
	return MATCH_YES;
}

/* What begins with "%" and is no single. */
static enum match_result
read_escape(struct match *m, size_t p, struct element *el)
{
	const struct slice pat = m->pattern;
	const char c = p + 1 < pat.n ? pat.p[p + 1] : '\0';

	el->at = p + 2;
	if (c == 'b') {
		el->kind = EL_BALANCE;
		el->next = p + 4;
		return el->next <= pat.n ? MATCH_YES : bad(m, "malformed pattern (missing arguments to '%b')");
	}
	if (c == 'f') {
		el->kind = EL_FRONTIER;
		if (p + 2 >= pat.n || pat.p[p + 2] != '[')
			return bad(m, "missing '[' after '%f' in pattern");
		el->single_end = el->next = set_end(pat, p + 2);
		return el->next != 0 ? MATCH_YES : bad(m, "malformed pattern (missing ']')");
	}
	if (c >= '0' && c <= '9') {
		el->kind = EL_BACKREF;
		el->at = p + 1;
		el->next = p + 2;
		return MATCH_YES;
	}
	return read_single(m, p, el);
}

static enum match_result
read_element(struct match *m, size_t p, struct element *el)
{
	const struct slice pat = m->pattern;

	*el = (struct element){ .kind = EL_END, .at = p, .next = p + 1 };
	if (p >= pat.n)
		return MATCH_YES;
	switch (pat.p[p]) {
	case '(':
		el->kind = p + 1 < pat.n && pat.p[p + 1] == ')' ? EL_POSITION : EL_OPEN;
		el->next += el->kind == EL_POSITION;
		return MATCH_YES;
	case ')':
		el->kind = EL_CLOSE;
		return MATCH_YES;
	case '$':
		if (p + 1 == pat.n) {
			el->kind = EL_TAIL;
			return MATCH_YES;
		}
		return read_single(m, p, el);
	case '%':
		return read_escape(m, p, el);
	default:
		return read_single(m, p, el);
	}
}

/* --- matching ------------------------------------------------------------------------------------------------------
 */

static enum match_result
capture_open(struct match *m, size_t s, size_t next, ptrdiff_t length)
{
	if (m->ncaptures == MATCH_CAPTURES)
		return bad(m, "too many captures");
	m->captures[m->ncaptures++] = (struct match_capture){ s, length };
	const enum match_result r = match_rest(m, s, next);
	if (r == MATCH_NO)
		m->ncaptures--;
	return r;
}

static enum match_result
capture_close(struct match *m, size_t s, size_t next)
{
	unsigned i = m->ncaptures;

	while (i > 0 && m->captures[i - 1].length != MATCH_OPEN)
		i--;
	if (i == 0)
		return bad(m, "invalid pattern capture");
	m->captures[i - 1].length = (ptrdiff_t)(s - m->captures[i - 1].start);
	const enum match_result r = match_rest(m, s, next);
	if (r == MATCH_NO)
		m->captures[i - 1].length = MATCH_OPEN;
	return r;
}

/* Place behind the balanced piece at s, or 0. */
static size_t
balance_end(struct match *m, size_t s, char open, char close)
{
	size_t level = 1;

	if (s >= m->subject.n || m->subject.p[s] != open)
		return 0;
	for (size_t i = s + 1; i < m->subject.n && step(m, 1); i++) {
		if (m->subject.p[i] == close) {
			if (--level == 0)
				return i + 1;
		} else if (m->subject.p[i] == open) {
			level++;
		}
	}
	return 0;
}

/* Is s the border of the set: what precedes is outside, what follows inside? The ends count as NUL. */
static bool
frontier(struct match *m, size_t s, const struct element *el)
{
	const unsigned char before = s == 0 ? 0 : (unsigned char)m->subject.p[s - 1];
	const unsigned char after = s < m->subject.n ? (unsigned char)m->subject.p[s] : 0;

	return !in_set(m, before, el->at, el->single_end) && in_set(m, after, el->at, el->single_end);
}

static enum match_result
backref(struct match *m, size_t *s, const struct element *el)
{
	const int n = m->pattern.p[el->at] - '1';

	if (n < 0 || (unsigned)n >= m->ncaptures || m->captures[n].length == MATCH_OPEN)
		return bad(m, "invalid capture index in pattern");
	const size_t len = m->captures[n].length == MATCH_POSITION ? 0 : (size_t)m->captures[n].length;
	if (!step(m, len / 16))
		return MATCH_SPENT;
	if (len > m->subject.n - *s || memcmp(m->subject.p + m->captures[n].start, m->subject.p + *s, len) != 0)
		return MATCH_NO;
	*s += len;
	return MATCH_YES;
}

/* As many as there are, then fewer. */
static enum match_result
match_greedy(struct match *m, size_t s, const struct element *el, size_t least)
{
	const size_t cost = el->single_end - el->at;
	size_t n = 0;

	while (single_matches(m, s + n, el)) {
		if (!step(m, cost))
			return MATCH_SPENT;
		n++;
	}
	for (; n + 1 > least; n--) {
		const enum match_result r = match_rest(m, s + n, el->next);

		if (r != MATCH_NO || n == 0)
			return r;
	}
	return MATCH_NO;
}

/* As few as will do. */
static enum match_result
match_lazy(struct match *m, size_t s, const struct element *el)
{
	const size_t cost = el->single_end - el->at;

	for (;; s++) {
		const enum match_result r = match_rest(m, s, el->next);

		if (r != MATCH_NO)
			return r;
		if (!single_matches(m, s, el))
			return MATCH_NO;
		if (!step(m, cost))
			return MATCH_SPENT;
	}
}

static enum match_result
match_optional(struct match *m, size_t s, const struct element *el)
{
	if (single_matches(m, s, el)) {
		const enum match_result r = match_rest(m, s + 1, el->next);

		if (r != MATCH_NO)
			return r;
	}
	return match_rest(m, s, el->next);
}

static enum match_result
match_quantified(struct match *m, size_t s, const struct element *el)
{
	switch (el->quantifier) {
	case '*':
		return match_greedy(m, s, el, 0);
	case '+':
		return match_greedy(m, s, el, 1);
	case '-':
		return match_lazy(m, s, el);
	default:
		return match_optional(m, s, el);
	}
}

/* One element that neither branches nor ends. MATCH_YES: go on at *s. */
static enum match_result
match_simple(struct match *m, size_t *s, const struct element *el)
{
	switch (el->kind) {
	case EL_BALANCE: {
		const size_t end = balance_end(m, *s, m->pattern.p[el->at], m->pattern.p[el->at + 1]);

		if (end == 0)
			return *m->steps < 0 ? MATCH_SPENT : MATCH_NO;
		*s = end;
		return MATCH_YES;
	}
	case EL_FRONTIER:
		return frontier(m, *s, el) ? MATCH_YES : MATCH_NO;
	case EL_BACKREF:
		return backref(m, s, el);
	default:
		if (!single_matches(m, *s, el))
			return MATCH_NO;
		(*s)++;
		return MATCH_YES;
	}
}

/* Elements in a row, until one branches (and so decides the rest) or fails. */
static enum match_result
match_row(struct match *m, size_t s, size_t p)
{
	struct element el;
	enum match_result r;

	for (;; p = el.next) {
		if ((r = read_element(m, p, &el)) != MATCH_YES)
			return r;
		if (!step(m, el.kind == EL_SINGLE || el.kind == EL_FRONTIER ? el.single_end - el.at + 1 : 1))
			return MATCH_SPENT;
		switch (el.kind) {
		case EL_END:
			m->end = s;
			return MATCH_YES;
		case EL_TAIL:
			m->end = s;
			return s == m->subject.n ? MATCH_YES : MATCH_NO;
		case EL_OPEN:
			return capture_open(m, s, el.next, MATCH_OPEN);
		case EL_POSITION:
			return capture_open(m, s, el.next, MATCH_POSITION);
		case EL_CLOSE:
			return capture_close(m, s, el.next);
		default:
			if (el.quantifier != 0)
				return match_quantified(m, s, &el);
			if ((r = match_simple(m, &s, &el)) != MATCH_YES)
				return r;
		}
	}
}

static enum match_result
match_rest(struct match *m, size_t s, size_t p)
{
	if (m->depth == MATCH_DEPTH)
		return bad(m, "pattern too complex");
	m->depth++;
	const enum match_result r = match_row(m, s, p);
	m->depth--;
	return r;
}

enum match_result
match_at(struct match *m, size_t at)
{
	m->ncaptures = 0;
	m->depth = 0;
	m->start = at;
	enum match_result r = match_rest(m, at, 0);
	for (unsigned i = 0; r == MATCH_YES && i < m->ncaptures; i++)
		if (m->captures[i].length == MATCH_OPEN)
			r = bad(m, "unfinished capture");
	return r;
}

enum match_result
match_find(struct match *m, size_t from)
{
	enum match_result r;

	do {
		r = match_at(m, from);
	} while (r == MATCH_NO && !m->anchored && ++from <= m->subject.n);
	return r;
}

enum match_result
match_plain(struct slice subject, struct slice needle, size_t from, int64_t *steps, size_t *at)
{
	const char *hit = NULL;

	/* memmem is linear in both. */
	if ((*steps -= (int64_t)((subject.n - from + needle.n) / 16 + 1)) < 0)
		return MATCH_SPENT;
	if (needle.n == 0)
		hit = subject.p + from;
	else if (needle.n <= subject.n - from)
		hit = memmem(subject.p + from, subject.n - from, needle.p, needle.n);
	if (hit == NULL)
		return MATCH_NO;
	*at = (size_t)(hit - subject.p);
	return MATCH_YES;
}

bool
match_is_plain(struct slice pattern)
{
	for (size_t i = 0; i < pattern.n; i++)
		if (pattern.p[i] != '\0' && strchr("^$*+?.([%-", pattern.p[i]) != NULL)
			return false;
	return true;
}
