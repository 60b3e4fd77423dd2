#include "worker/reception/esmtp_args.h"

static void
skip_blanks(struct slice *s)
{
	while (s->n > 0 && (s->p[0] == ' ' || s->p[0] == '\t')) {
		s->p++;
		s->n--;
	}
}

/* Up to the next blank; empty at the end. */
static struct slice
take_word(struct slice *s)
{
	size_t n = 0;
	struct slice word;

	skip_blanks(s);
	while (n < s->n && s->p[n] != ' ' && s->p[n] != '\t')
		n++;
	word = slice_of(s->p, n);
	s->p += n;
	s->n -= n;
	return word;
}

void
args_split(struct slice line, struct slice *verb, struct slice *args)
{
	*verb = take_word(&line);
	*args = slice_trim(line);
}

enum args_result
args_helo(struct slice args, struct slice *name)
{
	struct slice word = take_word(&args);

	if (word.n == 0 || word.n > ADDR_DOMAIN_MAX || slice_trim(args).n != 0)
		return ARGS_SYNTAX;
	for (size_t i = 0; i < word.n; i++)
		if ((unsigned char)word.p[i] <= ' ' || word.p[i] == 0x7f)
			return ARGS_SYNTAX;
	*name = word;
	return ARGS_OK;
}

/* "FROM:" or "TO:" and the path. A blank behind the colon is not in the grammar, but common. What follows the path is
 * a blank or the end. */
static enum args_result
take_path(struct slice *args, struct slice keyword, unsigned allow, struct addr *out)
{
	enum err e;

	if (!slice_istarts(*args, keyword))
		return ARGS_SYNTAX;
	args->p += keyword.n;
	args->n -= keyword.n;
	skip_blanks(args);
	e = addr_take_path(args, allow, out);
	if (e == ERR_RANGE)
		return ARGS_TOO_LONG;
	if (e != OK || (args->n > 0 && args->p[0] != ' ' && args->p[0] != '\t'))
		return ARGS_SYNTAX;
	return ARGS_OK;
}

/* esmtp-param = esmtp-keyword ["=" esmtp-value] */
static enum args_result
mail_parameter(struct slice word, unsigned *seen, struct mail_args *out)
{
	enum { SEEN_SIZE = 1, SEEN_BODY = 2, SEEN_UTF8 = 4 };
	size_t eq = slice_find(word, '=');
	struct slice key = slice_of(word.p, eq);
	struct slice value = eq < word.n ? slice_of(word.p + eq + 1, word.n - eq - 1) : slice_of(word.p + eq, 0);
	unsigned which;
	bool good;

	if (slice_ieq(key, SLICE("SIZE"))) {
		which = SEEN_SIZE;
		good = slice_u64(value, UINT64_MAX, &out->size);
	} else if (slice_ieq(key, SLICE("BODY"))) {
		which = SEEN_BODY;
		out->eightbit = slice_ieq(value, SLICE("8BITMIME"));
		good = out->eightbit || slice_ieq(value, SLICE("7BIT"));
	} else if (slice_ieq(key, SLICE("SMTPUTF8"))) {
		which = SEEN_UTF8;
		out->utf8 = good = eq == word.n;
	} else {
		return ARGS_UNKNOWN;
	}
	if (!good || (*seen & which) != 0)
		return ARGS_BAD_VALUE;
	*seen |= which;
	return ARGS_OK;
}

enum args_result
args_mail(struct slice args, struct mail_args *out)
{
	struct mail_args m = { 0 };
	enum args_result r = take_path(&args, SLICE("FROM:"), ADDR_NULL | ADDR_UTF8, &m.from);
	struct slice word;
	unsigned seen = 0;

	while (r == ARGS_OK && (word = take_word(&args)).n > 0)
		r = mail_parameter(word, &seen, &m);
	if (r == ARGS_OK && m.from.utf8 && !m.utf8)
		r = ARGS_NEEDS_UTF8;
	if (r == ARGS_OK)
		*out = m;
	return r;
}

enum args_result
args_rcpt(struct slice args, bool utf8, struct addr *out)
{
	struct addr a;
	enum args_result r = take_path(&args, SLICE("TO:"), ADDR_POSTMASTER | ADDR_UTF8, &a);

	if (r == ARGS_OK && take_word(&args).n > 0)
		r = ARGS_UNKNOWN;
	if (r == ARGS_OK && a.utf8 && !utf8)
		r = ARGS_NEEDS_UTF8;
	if (r == ARGS_OK)
		*out = a;
	return r;
}
