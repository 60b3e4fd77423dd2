#include "policy/conf/conf_suggest.h"

#include <string.h>

#include "shm/base/bytes.h"

enum { NAME_MAX_LENGTH = 63, FAR = 1000 };

static unsigned
least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edits from a to b: one character more, less or other, or two neighbours swapped. */
static unsigned
distance(const char *a, const char *b)
{
	unsigned rows[3][NAME_MAX_LENGTH + 2];
	size_t na = strlen(a), nb = strlen(b);

	if (na > NAME_MAX_LENGTH || nb > NAME_MAX_LENGTH)
		return FAR;
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *now = rows[i % 3], *up = rows[(i + 2) % 3], *upup = rows[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			char ca = ascii_lower(a[i - 1]), cb = ascii_lower(b[j - 1]);

			now[j] = least(up[j] + 1, now[j - 1] + 1, up[j - 1] + (ca != cb));
			if (i > 1 && j > 1 && ca == ascii_lower(b[j - 2]) && cb == ascii_lower(a[i - 2]))
				now[j] = least(now[j], upup[j - 2] + 1, FAR);
		}
	}
	return rows[na % 3][nb];
}

void
conf_suggest_init(struct conf_suggest *s, const char *wanted)
{
	unsigned n = (unsigned)strlen(wanted);

	/* A third of the letters may be wrong: more, and the suggestion is a guess. */
	*s = (struct conf_suggest){ .wanted = wanted, .distance = n < 3 ? 2 : n / 3 + 1 };
}

void
conf_suggest_offer(struct conf_suggest *s, const char *candidate)
{
	unsigned d = distance(s->wanted, candidate);

	if (d < s->distance) {
		s->distance = d;
		s->best = candidate;
	}
}
