/* shm_inbox.h - hints from slot to slot, and the bell that says look
 * A ring for each pair of slots: one producer, one consumer, so no lock. A hint may be lost: a full ring, a dead
 * consumer, a slot with a new tenant. What it names is in the journals and will be found in the map; nothing may depend
 * on a hint arriving. One that arrives may be old: who takes it checks it against the map and the checkpoints.
 * Threads: one producing thread at a time in each slot (callers with several threads serialise), one consuming. */
#ifndef SHM_SHM_INBOX_H
#define SHM_SHM_INBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/clock.h"
#include "shm/shm_area.h"

enum {
	INBOX_RING = 1024, /* hints a pair of slots can hold */
};

/* 64 bytes. What kind means is spool/'s business; here it is only carried. */
struct hint {
	uint64_t id;
	uint64_t queue;    /* hash of binding and domain */
	uint32_t seg, off; /* place of the record */
	uint32_t partition;
	uint16_t item; /* in the record */
	uint8_t kind, priority;
	int64_t at;      /* usec, real: received or due, as kind says */
	uint64_t arg[2]; /* as kind says */
	uint32_t size;
	uint32_t n; /* try number, or as kind says */
};
_Static_assert(sizeof(struct hint) == 64, "a hint is one cache line");

/* Puts a copy into the ring from -> to. False: full, the hint is lost. Ring the bell afterwards, once a batch. */
bool inbox_put(struct shm_area *a, int from, int to, const struct hint *h);
/* Takes the next hint for `to`, the senders in turn. False: all rings are empty. Fields are as the sender wrote them:
 * bound them before use. *from (may be NULL) says who sent it. */
bool inbox_take(struct shm_area *a, int to, struct hint *h, int *from);
/* Forgets what waits for `to`: when the slot gets a tenant of another kind. Master, while nobody consumes. */
void inbox_clear(struct shm_area *a, int to);

/* Wakes the slot's loop. Never blocks, never fails in a way that matters. Async-signal-safe. */
void doorbell_ring(const struct shm_area *a, int slot);
/* To be watched for reading by the slot's own loop only. */
int doorbell_fd(const struct shm_area *a, int slot);
/* The loop heard it: silences the bell. Then take hints until there are none. */
void doorbell_answer(const struct shm_area *a, int slot);

#endif
