#include "policy/policy_words.h"

#include "spool/format/header.h"

enum {
	WORD_BYTES = 45 /* of UTF-8 in one encoded word: 60 in base64, 75 at most with its frame */,
	LINE_MAX_BYTES = 900
};

enum charset { CHARSET_UTF8, CHARSET_LATIN1, CHARSET_LATIN9, CHARSET_CP1252, CHARSET_UNKNOWN };

static enum charset
charset_of(struct slice name)
{
	static const struct {
		struct slice name;
		enum charset charset;
	} rows[] = {
		{ { "utf-8", 5 }, CHARSET_UTF8 },          { { "utf8", 4 }, CHARSET_UTF8 },
		{ { "us-ascii", 8 }, CHARSET_UTF8 },       { { "ascii", 5 }, CHARSET_UTF8 },
		{ { "iso-8859-1", 10 }, CHARSET_LATIN1 },  { { "latin1", 6 }, CHARSET_LATIN1 },
		{ { "iso-8859-15", 11 }, CHARSET_LATIN9 }, { { "windows-1252", 12 }, CHARSET_CP1252 },
		{ { "cp1252", 6 }, CHARSET_CP1252 },
	};
	const size_t star = slice_find(name, '*'); /* RFC 2231: charset*language */

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (slice_ieq(slice_of(name.p, star), rows[i].name))
			return rows[i].charset;
	return CHARSET_UNKNOWN;
}

static void
add_codepoint(struct bytes *out, unsigned c)
{
	if (c < 0x80) {
		bytes_add_char(out, (char)c);
	} else if (c < 0x800) {
		bytes_add_char(out, (char)(0xc0 | c >> 6));
		bytes_add_char(out, (char)(0x80 | (c & 0x3f)));
	} else {
		bytes_add_char(out, (char)(0xe0 | c >> 12));
		bytes_add_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
		bytes_add_char(out, (char)(0x80 | (c & 0x3f)));
	}
}

static unsigned
codepoint(enum charset charset, unsigned char c)
{
	static const unsigned short cp1252[32] = {
		0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,  0x2030, 0x160,
		0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
		0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178,
	};
	static const struct {
		unsigned char from;
		unsigned short to;
	} latin9[] = { { 0xa4, 0x20ac }, { 0xa6, 0x160 }, { 0xa8, 0x161 }, { 0xb4, 0x17d },
		       { 0xb8, 0x17e },  { 0xbc, 0x152 }, { 0xbd, 0x153 }, { 0xbe, 0x178 } };

	if (charset == CHARSET_CP1252 && c >= 0x80 && c < 0xa0)
		return cp1252[c - 0x80];
	for (size_t i = 0; charset == CHARSET_LATIN9 && i < sizeof(latin9) / sizeof(latin9[0]); i++)
		if (latin9[i].from == c)
			return latin9[i].to;
	return c;
}

static void
add_converted(struct bytes *out, enum charset charset, struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		const unsigned char c = (unsigned char)s.p[i];

		if (c == '\r' || c == '\n' || c == '\0')
			bytes_add_char(out, ' ');
		else if (charset == CHARSET_UTF8)
			bytes_add_char(out, (char)c);
		else
			add_codepoint(out, codepoint(charset, c));
	}
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
decode_q(struct slice s, struct bytes *out)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '=') {
			bytes_add_char(out, s.p[i] == '_' ? ' ' : s.p[i]);
			continue;
		}
		const int high = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
		const int low = high >= 0 ? hex_digit(s.p[i + 2]) : -1;
		if (low < 0)
			return false;
		bytes_add_char(out, (char)(high << 4 | low));
		i += 2;
	}
	return true;
}

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool
decode_b(struct slice s, struct bytes *out)
{
	unsigned bits = 0, have = 0;

	while (s.n > 0 && s.p[s.n - 1] == '=')
		s.n--;
	for (size_t i = 0; i < s.n; i++) {
		const int d = base64_digit(s.p[i]);

		if (d < 0)
			return false;
		bits = bits << 6 | (unsigned)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			bytes_add_char(out, (char)(bits >> have & 0xff));
		}
	}
	return true;
}

/* encoded-word = "=?" charset "?" ("Q" / "B") "?" text "?="   with no space inside. Length of the one at the front, its
 * text appended; 0: none that we can read. */
static size_t
take_word(struct slice s, struct bytes *out)
{
	struct bytes raw = { 0 };
	size_t charset_end, text, end;
	bool ok;

	if (s.n < 8 || s.p[0] != '=' || s.p[1] != '?')
		return 0;
	charset_end = 2 + slice_find(slice_of(s.p + 2, s.n - 2), '?');
	if (charset_end + 3 >= s.n || s.p[charset_end + 2] != '?')
		return 0;
	text = charset_end + 3;
	end = text + slice_find(slice_of(s.p + text, s.n - text), '?');
	if (end + 1 >= s.n || s.p[end + 1] != '=')
		return 0;
	const struct slice coded = slice_of(s.p + text, end - text);
	const enum charset charset = charset_of(slice_of(s.p + 2, charset_end - 2));
	const char encoding = ascii_lower(s.p[charset_end + 1]);
	if (charset == CHARSET_UNKNOWN || slice_find(coded, ' ') < coded.n)
		return 0;
	ok = encoding == 'q' ? decode_q(coded, &raw) : encoding == 'b' && decode_b(coded, &raw);
	if (ok)
		add_converted(out, charset, slice_bytes(&raw));
	bytes_fini(&raw);
	return ok ? end + 2 : 0;
}

void
policy_words_decode(struct slice value, struct bytes *out)
{
	struct bytes line = { 0 };
	size_t kept = 0; /* length of *out before the space that follows an encoded word */
	bool after_word = false;

	header_unfold(value, &line);
	for (size_t i = 0; i < line.n;) {
		const struct slice rest = slice_of(line.p + i, line.n - i);
		const size_t before = out->n;
		const size_t n = take_word(rest, out);

		if (n > 0) {
			if (after_word) { /* space between two encoded words is not text */
				memmove(out->p + kept, out->p + before, out->n - before);
				out->n -= before - kept;
			}
			kept = out->n;
			after_word = true;
			i += n;
		} else {
			after_word = after_word && (rest.p[0] == ' ' || rest.p[0] == '\t');
			bytes_add_char(out, rest.p[0]);
			i++;
		}
	}
	bytes_fini(&line);
}

/* --- encoding ---------------------------------------------------------------------------------------------------- */

static bool
word_needs(struct slice w)
{
	bool eight = false, address = w.n > 0 && w.p[0] == '<';

	for (size_t i = 0; i < w.n; i++) {
		eight = eight || (unsigned char)w.p[i] >= 0x80;
		address = address || w.p[i] == '@';
	}
	return eight && !address;
}

static void
add_base64(struct slice s, struct bytes *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < s.n; i += 3) {
		unsigned v = 0;

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (i + k < s.n ? (unsigned char)s.p[i + k] : 0);
		for (size_t k = 0; k < 4; k++)
			bytes_add_char(out, i + k > s.n ? '=' : digits[v >> (18 - 6 * k) & 0x3f]);
	}
}

/* At most WORD_BYTES, not cutting a character. */
static size_t
piece_length(struct slice s)
{
	size_t n = s.n < WORD_BYTES ? s.n : WORD_BYTES;

	while (n < s.n && n > 1 && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n--;
	return n;
}

static void
add_encoded(struct slice s, struct bytes *out)
{
	for (bool first = true; s.n > 0; first = false) {
		const size_t n = piece_length(s);

		bytes_add_str(out, first ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
		add_base64(slice_of(s.p, n), out);
		bytes_add_str(out, "?=");
		s = slice_of(s.p + n, s.n - n);
	}
}

static struct slice
next_word(struct slice s)
{
	return slice_of(s.p, slice_find(s, ' '));
}

/* Length of the words at the front that need encoding, the spaces between them included. */
static size_t
run_length(struct slice s)
{
	size_t n = next_word(s).n;

	while (n + 1 < s.n) {
		const struct slice w = next_word(slice_of(s.p + n + 1, s.n - n - 1));

		if (!word_needs(w))
			break;
		n += 1 + w.n;
	}
	return n;
}

/* Bytes since the last line end of what was added behind `from`. */
static size_t
line_length(const struct bytes *out, size_t from)
{
	size_t at = out->n;

	while (at > from && out->p[at - 1] != '\n')
		at--;
	return out->n - at;
}

void
policy_words_encode(struct slice text, struct bytes *out)
{
	const size_t from = out->n;

	for (bool first = true; first || text.n > 0; first = false) {
		if (!first) { /* the space between two words is where a line may be folded */
			text = slice_of(text.p + 1, text.n - 1);
			bytes_add_str(out, line_length(out, from) + next_word(text).n > LINE_MAX_BYTES ? "\r\n " : " ");
		}
		const bool encode = word_needs(next_word(text));
		const size_t n = encode ? run_length(text) : next_word(text).n;

		if (encode)
			add_encoded(slice_of(text.p, n), out);
		else
			bytes_add_slice(out, slice_of(text.p, n));
		text = slice_of(text.p + n, text.n - n);
	}
}
