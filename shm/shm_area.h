/* shm_area.h - the mapping that all processes of one master share
 * Carved by the master before the forks (memfd), inherited by every child. It holds nothing that the journals cannot do
 * without: when it is lost, so are only counts and hints. What the master reads from it is bounded before use,
 * because any child may have scribbled there.
 * Parts: slots (below), the partition table, the roll of lives, the limits (shm_limits.h), the inboxes and doorbells
 * (shm_inbox.h). All numbers are atomics; a pair that belongs together is published as one word or under a sequence
 * count, so a writer that dies in the middle of anything leaves something readable behind.
 * Threads: any, unless a call says otherwise. */
#ifndef SHM_SHM_AREA_H
#define SHM_SHM_AREA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"
#include "shm/shm_counters.h"
#include "shm/shm_role.h"

enum {
	SLOTS_MAX = 64,    /* children at one time, over all generations */
	PARTITIONS = 1024, /* queues are hashed into so many parts */
	FINGER_TEXT = 80,  /* longest peer text kept, without NUL */
	LIVES_KEPT = 256,  /* the roll remembers so many */
	SLOT_NOBODY = 255, /* no slot: a partition without owner */
};

struct shm_area;
struct shm_slot;
struct shm_limits;

/* ---- the mapping itself: master ---- */

/* NULL (errno set) when there is no memory for it. */
struct shm_area *shm_area_new(void);
/* Unmaps, closes the doorbells, clears the caller's pointer; the other processes keep theirs. */
void shm_area_free(struct shm_area **a);
/* Marks the area's descriptors as to be kept: calls keep(fd) for each. For the sweep of stray descriptors. */
void shm_area_each_fd(const struct shm_area *a, void (*keep)(int fd, void *arg), void *arg);
struct shm_limits *shm_area_limits(struct shm_area *a);

/* ---- slots ---- */

enum slot_state {
	SLOT_FREE,     /* nobody there */
	SLOT_STARTING, /* forked, not yet serving */
	SLOT_SERVING,  /* in its loop */
	SLOT_DRAINING, /* told to drain: takes no new work */
};

/* What the process is: written by the master before it forks. */
struct slot_who {
	pid_t pid;
	uint32_t generation;
	uint64_t writer; /* random and unique for each process life, across restarts too; never 0 in a taken slot */
	enum role role;
	enum slot_state state;
	usec_t born; /* monotonic */
};

/* slot must be in 0..SLOTS_MAX-1. Holds as long as the area. */
struct shm_slot *shm_slot(struct shm_area *a, int slot);
/* The slot's number. */
int slot_number(const struct shm_area *a, const struct shm_slot *s);
/* Master: a free slot is made the place of a new life (pid still 0); the roll gets its line. Finger, mark and heartbeat
 * start anew. Gives the life's writer number in *writer. */
void shm_slot_take(struct shm_area *a, int slot, enum role role, uint32_t generation, uint64_t *writer);
/* Master, after the fork. */
void shm_slot_born(struct shm_area *a, int slot, pid_t pid);
/* Master, after the process is reaped: gauges cleared, counters added to the cell of the dead, its limits given back,
 * the end noted in the roll with finger and signal (0: it exited), the slot free. Totals never step back. */
void shm_slot_reap(struct shm_area *a, int slot, int signo, bool convicts);

/* The child says where it is (STARTING -> SERVING -> DRAINING). */
void slot_set_state(struct shm_slot *s, enum slot_state state);
enum slot_state slot_state(const struct shm_slot *s);
/* A consistent copy; false when the slot is free. */
bool slot_who(const struct shm_slot *s, struct slot_who *out);

/* The loop is alive: once a turn. */
void slot_beat(struct shm_slot *s, usec_t now_mono);
usec_t slot_heartbeat(const struct shm_slot *s);

/* Journal thread: in segment `seg` everything below `mark` is synced. Readers get a consistent pair; 0/0 before the
 * first segment. Segment numbers are unique, so a pair is never mistaken for another life's. */
void slot_publish_mark(struct shm_slot *s, uint32_t seg, uint32_t mark);
void slot_mark(const struct shm_slot *s, uint32_t *seg, uint32_t *mark);

/* ---- the finger: whose bytes the loop touches now ---- */

enum finger_kind { FINGER_NONE, FINGER_MESSAGE, FINGER_PEER };
struct finger {
	enum finger_kind kind;
	uint64_t id;                /* FINGER_MESSAGE */
	char text[FINGER_TEXT + 1]; /* FINGER_PEER: the address without port, cut */
};

/* Loop thread: on entry ... */
void slot_finger_message(struct shm_slot *s, uint64_t id);
void slot_finger_peer(struct shm_slot *s, struct slice peer);
/* ... and on return. */
void slot_finger_clear(struct shm_slot *s);
/* What it points at now; text is always terminated and printable. */
void slot_finger(const struct shm_slot *s, struct finger *out);

/* ---- counters and gauges ---- */

void slot_add(struct shm_slot *s, enum cell c, int64_t n);
/* For gauges that are measured rather than counted. */
void slot_set(struct shm_slot *s, enum cell c, int64_t v);
int64_t slot_get(const struct shm_slot *s, enum cell c);
/* Over all slots, and the dead for a counter. Never less than an earlier answer for the same counter. */
int64_t shm_total(const struct shm_area *a, enum cell c);

/* ---- the roll of lives: who lived and how it ended ----
 * One line a process life, in order of birth, serial numbers from 1. The keeper reads from it which writers are gone
 * and whom a death convicts (at the sealing); an owner, which earlier writers it has to wait for; reception, which
 * peers have killed. Written by the master only. */
struct life {
	uint64_t serial;
	uint64_t writer;
	uint32_t generation;
	pid_t pid;
	uint8_t slot;
	enum role role;
	bool ended;
	bool convicts; /* SEGV BUS FPE ILL SYS ABRT: the finger's doing; SIGKILL, TERM and the OOM killer convict nobody
			*/
	int signo;     /* 0: it exited */
	usec_t born_mono, ended_mono;
	uint32_t seg, mark;   /* last published, once it has ended */
	struct finger finger; /* where it pointed when it died */
};

/* The serial the next life will get: lines first..next-1 exist, those older than LIVES_KEPT are forgotten. */
uint64_t lives_next(const struct shm_area *a);
/* False: not written yet, or forgotten. */
bool life_get(const struct shm_area *a, uint64_t serial, struct life *out);
/* The latest life of this writer; false: unknown to this master, so it is no living process of ours. */
bool life_find(const struct shm_area *a, uint64_t writer, struct life *out);
/* How many deaths since `since` (monotonic) convict this peer. Cheap while there are none. */
unsigned lives_peer_deaths(const struct shm_area *a, struct slice peer, usec_t since);

/* ---- the partition table: who owns which queues ---- */

struct partition_table {
	uint32_t generation;       /* of the workers that are to own */
	uint32_t version;          /* rises with every change, 0 before the first */
	uint8_t owner[PARTITIONS]; /* slot, or SLOT_NOBODY */
};

/* Master: all at once, as a new version; then ring the doorbells. */
void partitions_publish(struct shm_area *a, uint32_t generation, const uint8_t owner[PARTITIONS]);
/* A cheap question to ask each turn. */
uint32_t partitions_version(const struct shm_area *a);
/* A consistent copy; every owner is below SLOTS_MAX or SLOT_NOBODY. */
void partitions_read(const struct shm_area *a, struct partition_table *out);
/* The owner now, without a copy; SLOT_NOBODY when there is none or partition is out of range. */
unsigned partition_owner(const struct shm_area *a, unsigned partition);

/* ---- marks the master sets for all ---- */

/* Revision and generation in force, and the time of the last reload (real clock): for the console. */
struct area_now {
	uint32_t generation;
	uint32_t revision;
	usec_t started_real, configured_real;
	pid_t master;
};
void area_set_now(struct shm_area *a, const struct area_now *now);
void area_get_now(const struct shm_area *a, struct area_now *out);

/* ---- what the spools of all processes share ---- */

/* The highest segment number given out: a process that makes a segment file adds 1 and takes what it gets. Each spool
 * raises it at its start above all that exists. */
_Atomic uint32_t *shm_segment_highest(struct shm_area *a);
/* The inode of an index's file that somebody could not read: the keeper looks through it if it still is the index. */
_Atomic uint64_t *shm_index_suspect(struct shm_area *a);

#endif
