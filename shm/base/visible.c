#include "shm/base/visible.h"

#include <string.h>

size_t
utf8_length(const char *text, size_t n)
{
	static const struct {
		unsigned char from, to, low, high;
		size_t length;
	} rows[] = { { 0x00, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		     { 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		     { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 } };
	const unsigned char *p = (const unsigned char *)text;

	for (size_t i = 0; n > 0 && i < sizeof rows / sizeof rows[0]; i++) {
		if (p[0] < rows[i].from || p[0] > rows[i].to || rows[i].length > n)
			continue;
		if (rows[i].length > 1 && (p[1] < rows[i].low || p[1] > rows[i].high))
			return 0;
		for (size_t k = 2; k < rows[i].length; k++)
			if (p[k] < 0x80 || p[k] > 0xbf)
				return 0;
		return rows[i].length;
	}
	return 0;
}

uint32_t
utf8_code(const char *text, size_t length)
{
	const unsigned char *p = (const unsigned char *)text;
	uint32_t c = length == 1 ? p[0] : p[0] & (0x7fu >> length);

	for (size_t i = 1; i < length; i++)
		c = c << 6 | (p[i] & 0x3fu);
	return c;
}

bool
code_is_visible(uint32_t c)
{
	static const struct {
		uint32_t from, to;
	} never[] = { { 0x00, 0x1f },     { 0x7f, 0x9f },
		      { 0x061c, 0x061c }, /* direction: Arabic letter mark, marks, embeddings, isolates */
		      { 0x200e, 0x200f }, { 0x2028, 0x202e }, /* separators, and more of direction */
		      { 0x2066, 0x2069 }, { 0xfeff, 0xfeff } };

	for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
		if (c >= never[i].from && c <= never[i].to)
			return false;
	return true;
}

void
make_visible(char *p, size_t n)
{
	while (n > 0) {
		size_t length = 1;

		if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f) {
			length = utf8_length(p, n);
			if (length == 0 || !code_is_visible(utf8_code(p, length)))
				memset(p, '?', length = length == 0 ? 1 : length);
		}
		p += length;
		n -= length;
	}
}
