/* shm_area_int.h - how the mapping is laid out; for shm_area.c, shm_limits.c and shm_inbox.c only
 * What one process writes and others read never shares a cache line with what another writes. A record of several
 * words that only the master writes stands under a sequence count (odd while it is being written); readers copy and try
 * again, a bounded number of times, so that a scribbled count cannot hang them. */
#ifndef SHM_SHM_AREA_INT_H
#define SHM_SHM_AREA_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "shm/shm_area.h"
#include "shm/shm_inbox.h"

#define SHM_LINE       64
#define SHM_ALIGNED    _Alignas(SHM_LINE)
#define WORDS_OF(type) ((sizeof(type) + 7) / 8)

typedef _Atomic uint64_t shm_word;

/* ---- slots ---- */

/* kind and length; id; text: the first word is written last and cleared first. */
enum { FINGER_WORDS = 2 + FINGER_TEXT / 8 };

struct shm_slot {
	SHM_ALIGNED _Atomic uint32_t who_seq; /* master writes this line ... */
	_Atomic uint32_t taken;
	shm_word who[WORDS_OF(struct slot_who)];
	SHM_ALIGNED _Atomic uint32_t state; /* ... the child the rest */
	_Atomic int64_t heartbeat;
	SHM_ALIGNED shm_word mark; /* segment << 32 | mark: one word, so never a false pair */
	SHM_ALIGNED shm_word finger[FINGER_WORDS];
	SHM_ALIGNED _Atomic int64_t cells[CELL_MAX];
};

/* ---- roll, partition table, the rest of the master's ---- */

struct shm_life {
	_Atomic uint32_t seq;
	shm_word words[WORDS_OF(struct life)];
};

struct shm_partitions {
	SHM_ALIGNED _Atomic uint32_t seq;
	_Atomic uint32_t generation, version;
	_Atomic uint8_t owner[PARTITIONS];
};

/* ---- limits: shm_limits.c ---- */

enum {
	LIMIT_SETS = 8192, /* a key can only be in one set ... */
	LIMIT_WAYS = 32,   /* ... of so many entries: one (key, slot) pair each */
	LIMIT_LOCKS = 128, /* set s is under lock s % LIMIT_LOCKS */
	BUCKET_WAYS = 8,
};

/* Free while count is 0, so one store makes it true and one store ends it. */
struct limit_entry {
	shm_word key;
	_Atomic uint32_t slot;
	_Atomic uint32_t count;
};
struct bucket_entry {
	shm_word key;
	_Atomic int64_t until; /* end of the window; past: the entry is free */
	_Atomic uint32_t used;
};
struct limit_lock {
	SHM_ALIGNED pthread_mutex_t mutex; /* robust, shared between processes */
};
struct shm_limits {
	struct limit_lock locks[LIMIT_LOCKS];
	SHM_ALIGNED struct limit_entry counts[LIMIT_SETS][LIMIT_WAYS];
	SHM_ALIGNED struct bucket_entry buckets[LIMIT_SETS][BUCKET_WAYS];
};
/* Zeroed memory becomes usable; false: no robust locks here. */
bool limits_init(struct shm_limits *l);

/* ---- inboxes: shm_inbox.c ---- */

struct inbox_ring {
	SHM_ALIGNED _Atomic uint32_t tail; /* the producer's: next to be written */
	SHM_ALIGNED _Atomic uint32_t head; /* the consumer's: next to be read */
	SHM_ALIGNED struct hint ring[INBOX_RING];
};
struct inbox {
	SHM_ALIGNED shm_word from; /* bit n: slot n may have put something */
	_Atomic uint32_t turn;     /* the sender to look at next */
	struct inbox_ring rings[SLOTS_MAX];
};

/* ---- all of it ---- */

struct area_map {
	SHM_ALIGNED _Atomic uint32_t segment_highest; /* spool: number of the newest segment file */
	_Atomic uint64_t index_suspect;               /* spool: the data file that a reader found damaged */
	struct shm_slot slots[SLOTS_MAX];
	SHM_ALIGNED _Atomic uint32_t dead_seq;
	_Atomic int64_t dead[CELL_MAX]; /* counters of those who are gone */
	SHM_ALIGNED _Atomic uint64_t lives_next;
	_Atomic uint32_t peer_deaths; /* lives whose end convicts a peer, ever */
	struct shm_life lives[LIVES_KEPT];
	struct shm_partitions partitions;
	SHM_ALIGNED _Atomic uint32_t now_seq;
	shm_word now[WORDS_OF(struct area_now)];
	struct shm_limits limits;
	struct inbox inboxes[SLOTS_MAX];
};

struct shm_area {
	struct area_map *map;
	int bells[SLOTS_MAX];
};

static inline struct area_map *
area_map(const struct shm_area *a)
{
	return a->map;
}

#endif
