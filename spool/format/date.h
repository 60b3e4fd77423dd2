/* date.h - dates as mail writes them (RFC 5322 3.3), in UTC, whatever the locale and the zone. Pure. */
#ifndef SPOOL_FORMAT_DATE_H
#define SPOOL_FORMAT_DATE_H

#include "shm/base/clock.h"

enum { DATE_TEXT = 40 }; /* with NUL */

/* "Sat, 21 Nov 2026 08:00:00 +0000" of a real time (clock_real). Before 1970 or after 9999: the nearest that can be
 * written. */
void date_text(usec_t real, char out[DATE_TEXT]);

#endif
