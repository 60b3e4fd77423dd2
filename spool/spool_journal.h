/* spool_journal.h - the journal thread: writes what gathered during the last sync, syncs once, publishes, lets go
 * It does nothing else: no index, no reading. Records are added by the loop as encoded bytes, each batch is one write
 * and one fdatasync, and the disk sets the pace: no timer for what somebody waits for. Patient records alone are synced
 * only some time after the last sync, so that they share one, and do not stand in the way of what other processes sync.
 * The thread is woken only when it sleeps, by one call; the loop by one eventfd a batch. journal_expect wakes it before
 * the record is there: it looks out for some microseconds, then sleeps again.
 *
 * Segments: the next one is made by the reading thread when the present one is half full; a full one is sealed there
 * too. Failed sync (or write): that file is never written or synced again. In a new one stands END {file, mark}, then
 * what of the batch is no new message; when that is synced, those are answered OK and the messages ERR_IO, or ERR_FULL
 * if the disk was full. If that fails too the whole batch is answered ERR_DAMAGED, and the journal is broken: new
 * messages get ERR_FULL, and at most once a second, when something else is to be written or on journal_probe, another
 * new segment is tried. Every new segment begins with the ENDs that are not yet synced, so nothing that was said not to
 * be taken ever comes back.
 *
 * Threads: add, probe, close and the callbacks: the loop. healthy: any. */
#ifndef SPOOL_SPOOL_JOURNAL_H
#define SPOOL_SPOOL_JOURNAL_H

#include "spool/spool.h"
#include "spool/spool_cold.h"
#include "spool/spool_disk.h"
#include "spool/spool_segment.h"

struct shm_slot;
struct journal;

struct journal_conf {
	struct segment_maker *maker; /* all borrowed as long as the journal */
	struct shm_slot *slot;
	struct postbox *box;
	struct cold *cold;
	struct disk *disk;
	uint64_t segment_size;
	msgid_t id_high;
};

enum {
	JOURNAL_FIRST_SIZE = 4 << 20, /* the first segment, if there is no spare: a start must not wait for long */
	JOURNAL_SWAMPED = 64 << 20,   /* bytes that wait for the disk: no new messages above that */
	JOURNAL_TOC_MAX = 24 << 20,   /* a segment with a longer table of contents is full */
};

/* Makes the first segment and starts the thread. NULL and *why. */
struct journal *journal_open(const struct journal_conf *conf, enum err *why);
/* Encodes r (which fits); done comes later. id_high: the highest id made so far. */
void journal_add(struct journal *j, const struct record *r, bool patient, msgid_t id_high, spool_done *done, void *arg);
/* Something that somebody waits for will be added within this turn: a thread that sleeps gets up meanwhile. */
void journal_expect(struct journal *j);
/* New messages have a chance: it is not broken and not swamped. */
bool journal_healthy(const struct journal *j);
/* A broken one tries again, if it is time. */
void journal_probe(struct journal *j);
/* Writes what is left and ends the thread: the callbacks are in the postbox then. Stop the reading thread after it. */
void journal_stop(struct journal *j);
/* After the last callback, and after the reading thread has ended: seals the segment, keeps an unused one as a spare.
 * Clears the pointer. */
void journal_free(struct journal **jp);

#endif
