#include "spool/format/date.h"

#include <stdio.h>
#include <time.h>

void
date_text(usec_t real, char out[DATE_TEXT])
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	const time_t last = 253402300799; /* 9999-12-31 23:59:59 */
	time_t t = real < 0 ? 0 : (time_t)(real / USEC_PER_SEC);
	struct tm tm;

	if (t > last)
		t = last;
	gmtime_r(&t, &tm);
	snprintf(out, DATE_TEXT, "%s, %02u %s %04u %02u:%02u:%02u +0000", days[tm.tm_wday % 7],
		 (unsigned)tm.tm_mday % 32, months[tm.tm_mon % 12], (unsigned)(tm.tm_year + 1900) % 10000,
		 (unsigned)tm.tm_hour % 24, (unsigned)tm.tm_min % 60, (unsigned)tm.tm_sec % 61);
}
