/* spool_id.h - the one id of the house: messages, batches and connections
 * 64 bits: 42 bits milliseconds since 2020-01-01 UTC, 8 bits slot, 14 bits sequence. So ids sort by time, two slots
 * never make the same one, and one slot makes 16,384 in a millisecond before it borrows from the next. As text it is
 * XX/YY-NNNNN-HHHHHHHH: bits 63..56 and 55..48 in hex, 47..32 in decimal, 31..0 in hex, lower case; the mapping is one
 * to one. 0 is the null id, 00/00-00000-00000000. Pure, no errors; a generator belongs to one thread. */
#ifndef SPOOL_SPOOL_ID_H
#define SPOOL_SPOOL_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"

typedef uint64_t msgid_t;

enum { ID_TEXT = 24 /* with the NUL */, ID_SLOTS = 256 };

void id_text(msgid_t id, char out[ID_TEXT]);
/* The whole of s, in exactly the spelling that id_text makes (hex digits of either case). */
bool id_parse(struct slice s, msgid_t *out);
/* When it was made, by the real clock: microseconds since 1970. */
usec_t id_time(msgid_t id);
uint8_t id_slot(msgid_t id);
/* The lowest id of any slot at that time: ids below it were made before. 0 for times before 2020. */
msgid_t id_at(usec_t real);

/* Makes ids for one slot. Not seeded twice in a process's life: see id_source_init. */
struct id_source {
	uint64_t last; /* time and sequence of the last id, without the slot: (ms << 14 | sequence) */
	uint8_t slot;
};

/* Every id it makes is above `floor`, whatever slot that has: the highest id that an earlier process may have made. */
void id_source_init(struct id_source *src, uint8_t slot, msgid_t floor);
/* Above every id it made before, also when the clock stepped back; never 0. */
msgid_t id_next(struct id_source *src);
/* The highest id made so far (or the floor): what a successor is seeded with. */
msgid_t id_last(const struct id_source *src);

#endif
