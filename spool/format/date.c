#include "spool/format/date.h"

#include <string.h>
#include <time.h>

/* Two digits and what follows them. */
static char *
pair_put(char *p, int v, char then)
{
	p[0] = (char)('0' + v / 10 % 10);
	p[1] = (char)('0' + v % 10);
	p[2] = then;
	return p + 3;
}

static char *
word_put(char *p, const char word[4], char then)
{
	memcpy(p, word, 3);
	p[3] = then;
	return p + 4;
}

void
date_text(usec_t real, char out[DATE_TEXT])
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	const time_t last = 253402300799; /* 9999-12-31 23:59:59 */
	time_t t = real < 0 ? 0 : (time_t)(real / USEC_PER_SEC);
	struct tm tm;
	char *p = out;

	if (t > last)
		t = last;
	gmtime_r(&t, &tm);
	p = word_put(p, days[tm.tm_wday % 7], ',');
	*p++ = ' ';
	p = pair_put(p, tm.tm_mday, ' ');
	p = word_put(p, months[tm.tm_mon % 12], ' ');
	p = pair_put(p, (tm.tm_year + 1900) / 100, ' ') - 1;
	p = pair_put(p, (tm.tm_year + 1900) % 100, ' ');
	p = pair_put(p, tm.tm_hour, ':');
	p = pair_put(p, tm.tm_min, ':');
	p = pair_put(p, tm.tm_sec, ' ');
	memcpy(p, "+0000", sizeof "+0000");
}
