/* A value as written into a value as used: one function a type, all alike. */
#include <strings.h>

#include "policy/conf/conf_tree.h"

struct parse {
	struct arena *arena;
	struct conf_errors *errs;
	const struct opt_row *row;
};

static bool
wrong(const struct parse *p, const struct conf_word *w, const char *right)
{
	conf_report(p->errs, CONF_ERROR, w->pos, "found \"%.80s\" for %s, expected %s", w->text, p->row->name, right);
	return false;
}

/* -1: text is none. */
static int
boolean(const char *text)
{
	static const char *const words[][5] = {
		{ "false", "off", "disabled", "no", "0" },
		{ "true", "on", "enabled", "yes", "1" },
	};

	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 5; j++)
			if (strcasecmp(text, words[i][j]) == 0)
				return i;
	return -1;
}

/* Position of text among "a|b=c|d", where b and c have the same; -1 when it is not there. */
static int
word_index(const char *words, const char *text)
{
	size_t n = strpbrk(text, "|=") == NULL ? strlen(text) : 0;
	int index = 0;

	while (words != NULL && n > 0) {
		if (strncasecmp(words, text, n) == 0 && strchr("|=", words[n]) != NULL)
			return index;
		words = strpbrk(words, "|=");
		if (words != NULL)
			index += *words++ == '|';
	}
	return -1;
}

/* "retry, hold or done" */
static const char *
words_text(struct arena *arena, const char *words)
{
	struct bytes out = { 0 };
	const char *text, *last = strrchr(words, '|');

	for (const char *c = words; *c != '\0'; c++) {
		if (*c == '|' || *c == '=')
			bytes_add_str(&out, c == last ? " or " : ", ");
		else
			bytes_add_char(&out, *c);
	}
	text = arena_slice(arena, slice_bytes(&out)).p;
	bytes_fini(&out);
	return text;
}

static bool
parse_bool(const struct parse *p, const struct conf_word *w, struct conf_value *out)
{
	int b = boolean(w->text);

	if (b < 0)
		return wrong(p, w, "true or false");
	out->num = b;
	return true;
}

static bool
parse_number(const char *text, unsigned base, int64_t *out)
{
	bool negative = *text == '-';
	uint64_t v = 0;

	text += negative;
	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		unsigned digit = (unsigned)(*text - '0');

		if (*text < '0' || digit >= base || v > ((uint64_t)INT64_MAX - digit) / base)
			return false;
		v = v * base + digit;
	}
	*out = negative ? -(int64_t)v : (int64_t)v;
	return true;
}

static const char *
range_text(const struct parse *p, const char *kind)
{
	const struct opt_row *row = p->row;
	const char *words =
		row->words == NULL ? "" : arena_printf(p->arena, "%s, or ", words_text(p->arena, row->words));

	if (row->min == 0 && row->max == 0)
		return arena_printf(p->arena, "%s%s", words, kind);
	return arena_printf(p->arena, "%s%s from %lld to %lld", words, kind, (long long)row->min, (long long)row->max);
}

static bool
parse_int(const struct parse *p, const struct conf_word *w, struct conf_value *out)
{
	const struct opt_row *row = p->row;
	int word = word_index(row->words, w->text);

	if (word >= 0) {
		out->num = -1 - word;
		return true;
	}
	if (!parse_number(w->text, 10, &out->num))
		return wrong(p, w, range_text(p, "a whole number"));
	if ((row->min != 0 || row->max != 0) && (out->num < row->min || out->num > row->max))
		return wrong(p, w, range_text(p, "a number"));
	return true;
}

static bool
parse_mode(const struct parse *p, const struct conf_word *w, struct conf_value *out)
{
	if (w->text[0] != '0' || !parse_number(w->text, 8, &out->num) || out->num > p->row->max)
		return wrong(p, w, "an octal mode with a leading 0, such as 0660");
	return true;
}

static bool
parse_enum(const struct parse *p, const struct conf_word *w, struct conf_value *out)
{
	int index = word_index(p->row->words, w->text), b = boolean(w->text);

	/* Where true or false are words, their other spellings are good as well. */
	if (index < 0 && b >= 0)
		index = word_index(p->row->words, b ? "true" : "false");
	if (index < 0)
		return wrong(p, w, words_text(p->arena, p->row->words));
	out->num = index;
	return true;
}

static bool
parse_rate(const struct parse *p, const struct conf_word *w, struct conf_value *out)
{
	struct slice s = slice_str(w->text), n = { s.p, slice_find(s, '/') };
	uint64_t events, seconds = 1;

	if (!slice_u64(n, UINT32_MAX, &events) ||
	    (n.n < s.n && !slice_u64(slice_of(s.p + n.n + 1, s.n - n.n - 1), 31536000, &seconds)) || seconds == 0)
		return wrong(p, w, "a rate: N a second, or N/S in S seconds");
	out->rate = (struct conf_rate){ .n = (uint32_t)events, .seconds = (uint32_t)seconds };
	return true;
}

static bool
parse_string(const struct parse *p, const struct conf_word *w, struct conf_value *out)
{
	(void)p;
	(void)w;
	(void)out;
	return true;
}

static bool
check_item(const struct parse *p, const struct conf_word *w)
{
	const char *right;

	if (p->row->type == OPT_DOMAINS && (right = conf_domains_check(w->text)) != NULL)
		return wrong(p, w, right);
	if (p->row->words != NULL && word_index(p->row->words, w->text) < 0)
		return wrong(p, w, words_text(p->arena, p->row->words));
	return true;
}

static bool
parse_list(const struct parse *p, const struct conf_raw *raw, struct conf_value *out)
{
	const char **items = arena_alloc(p->arena, (raw->n + 1) * sizeof(*items));
	bool good = true;

	for (size_t i = 0; i < raw->n; i++) {
		items[i] = raw->words[i].text;
		good &= check_item(p, &raw->words[i]);
	}
	out->list = (struct conf_list){ raw->n, items };
	if (p->row->type == OPT_DOMAINS && good)
		out->domains = conf_domains_new(p->arena, items, raw->n);
	return good;
}

static bool
parse_nets(const struct parse *p, const struct conf_raw *raw, struct conf_value *out)
{
	bool good = parse_list(p, raw, out);

	out->nets = arena_alloc(p->arena, raw->n * sizeof(*out->nets));
	for (size_t i = 0; i < raw->n; i++)
		if (!conf_net_parse(raw->words[i].text, &out->nets[i]))
			good = wrong(p, &raw->words[i], "an address, or a network as 192.0.2.0/24 or 2001:db8::/32");
	return good;
}

/* A key written twice has its last value, at its first place. */
static bool
parse_dict(const struct parse *p, const struct conf_raw *raw, struct conf_value *out)
{
	struct conf_pair *pairs = arena_alloc(p->arena, (raw->n / 2 + 1) * sizeof(*pairs));
	size_t n = 0;

	for (size_t i = 0; i + 1 < raw->n; i += 2) {
		size_t k = 0;

		while (k < n && strcmp(pairs[k].key, raw->words[i].text) != 0)
			k++;
		pairs[k] = (struct conf_pair){ raw->words[i].text, raw->words[i + 1].text };
		n += k == n;
	}
	out->dict = (struct conf_dict){ n, pairs };
	return true;
}

static bool
parse_word(const struct parse *p, const struct conf_word *w, struct conf_value *out)
{
	static bool (*const parsers[])(const struct parse *, const struct conf_word *, struct conf_value *) = {
		[OPT_BOOL] = parse_bool, [OPT_INT] = parse_int,   [OPT_SECONDS] = parse_int,   [OPT_BYTES] = parse_int,
		[OPT_MODE] = parse_mode, [OPT_ENUM] = parse_enum, [OPT_STRING] = parse_string, [OPT_RATE] = parse_rate,
	};

	return parsers[p->row->type](p, w, out);
}

static bool
check_words(const struct parse *p, const struct conf_raw *raw)
{
	const char *right;
	bool good = true;

	for (size_t i = 0; p->row->check != NULL && i < raw->n; i++)
		if ((right = p->row->check(raw->words[i].text)) != NULL)
			good = wrong(p, &raw->words[i], right);
	return good;
}

static enum conf_raw_kind
kind_of(enum opt_type type)
{
	switch (type) {
	case OPT_LIST:
	case OPT_CIDRS:
	case OPT_DOMAINS:
		return RAW_LIST;
	case OPT_DICT:
		return RAW_DICT;
	default:
		return RAW_WORD;
	}
}

bool
conf_value_parse(struct arena *arena, struct conf_errors *errs, const struct opt_row *row, const struct conf_raw *raw,
		 struct conf_value *out)
{
	static const char *const kinds[] = {
		[RAW_WORD] = "one value: %s = \"...\"",
		[RAW_LIST] = "a list: %s = ( \"...\" )",
		[RAW_DICT] = "a dictionary: %s = [ key = \"...\" ]",
	};
	struct parse p = { arena, errs, row };

	*out = (struct conf_value){ .row = row, .raw = *raw };
	if (raw->kind != kind_of(row->type)) {
		conf_report(errs, CONF_ERROR, raw->pos, "%s takes %s", row->name,
			    arena_printf(arena, kinds[kind_of(row->type)], row->name));
		return false;
	}
	if (!check_words(&p, raw))
		return false;
	if (raw->kind == RAW_DICT)
		return parse_dict(&p, raw, out);
	if (row->type == OPT_CIDRS)
		return parse_nets(&p, raw, out);
	if (raw->kind == RAW_LIST)
		return parse_list(&p, raw, out);
	return parse_word(&p, &raw->words[0], out);
}
