/* spool_keeper.h - the keeper's engine: folds the journals into the index and reclaims what is over
 * One keeper a spool (a lock file sees to it). It watches the journals' folder and the writers, folds what they have
 * synced, commits, settles the dead, gives segments back and rebuilds the index when it is gone or damaged. It has no
 * loop of its own: keeper_turn does a bounded piece of work and says when it wants to be called again.
 *
 * Damage in the index: the small tables, and all of a map of up to 64 MiB, are looked through before they are used; all
 * of any map in the background, a tenth of the time, after the start, then daily, and when a reader met damage.
 *
 * opened -> (rebuilding ->) keeping -> closed. Killed at any instruction, the next one goes on from the last commit.
 * Blocks on the disk; nobody waits for it but who asks for a commit. One thread.
 * Errors: ERR_EXISTS another keeper has the spool; ERR_IO, ERR_FULL the disk: logged, tried again by the next turn. */
#ifndef SPOOL_SPOOL_KEEPER_H
#define SPOOL_SPOOL_KEEPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/base/clock.h"
#include "shm/base/err.h"
#include "spool/spool_index.h"

struct keeper;

/* What the keeper asks of the world around it; all may be NULL but alive and mark. */
struct keeper_hooks {
	/* Does this writer live? What was once said to be gone never lives again. */
	bool (*alive)(void *arg, uint64_t writer);
	/* The mark that a living writer has published for its present segment; false: it has none. */
	bool (*mark)(void *arg, uint64_t writer, uint32_t *seg, uint32_t *mark);
	/* The death of this writer convicts the message (or peer) its finger pointed at. Asked once, when it is
	 * settled. */
	bool (*convicts)(void *arg, uint64_t writer, msgid_t *id, char *peer, size_t peer_size);
	/* When a message expires by today's configuration; INT64_MAX for never. */
	usec_t (*deadline)(void *arg, const struct index_row *row);
	/* A deadline has passed: its owner is to look at it. */
	void (*expired)(void *arg, const struct index_row *row);
	/* A commit is durable: owners may want to look. */
	void (*committed)(void *arg);
	/* Called often while a turn is long: the process is alive and at work. */
	void (*busy)(void *arg);
	/* So much of the journals is not in the map yet: above the bound the writers are to slow down, then refuse. */
	void (*tail)(void *arg, uint64_t bytes, int64_t messages);
};

struct keeper_conf {
	int spool_fd;              /* the spool's folder, which is the working folder too; borrowed */
	const char *index_path;    /* as in struct index_conf */
	uint64_t index_size;       /* 0: default */
	bool distrust;             /* who read the map died of it: it is put aside and built anew */
	_Atomic uint32_t *highest; /* the shared count of segment numbers (shm_segment_highest); borrowed */
	_Atomic uint64_t *suspect; /* the shared word of who meets damage in the map (shm_index_suspect); may be NULL */
	uint64_t writer;           /* of this process life */
	uint8_t slot;
	uint32_t generation;
	uint64_t segment_size;            /* of the keeper's own segments, and of spares worth keeping */
	unsigned spares;                  /* at most so many are kept for the writers */
	uint64_t reserve;                 /* bytes kept for the index when the disk is full; 0: none */
	uint64_t commit_bytes;            /* 0: 64 MiB */
	usec_t commit_after;              /* 0: 2 s */
	usec_t compact_every;             /* between two mostly dead segments that are compacted; 0: never */
	const struct keeper_hooks *hooks; /* borrowed */
	void *hooks_arg;
};

/* Takes the lock, opens the index, looks through the folder. The index is rebuilt by the turns that follow if need be.
 */
enum err keeper_open(const struct keeper_conf *conf, struct keeper **out);
/* Commits what is folded. Clears the caller's pointer; NULL inside is fine. */
void keeper_close(struct keeper **k);

/* A bounded piece of work (about a hundred milliseconds at most). Gives in *again when it wants the next turn: at or
 * before `now_mono` if there is more to do at once. `hurry`: somebody waits, commit what there is even if more comes
 * in. */
enum err keeper_turn(struct keeper *k, usec_t now_mono, bool hurry, usec_t *again);
/* The same until there is nothing left to do at once: everything synced before the call is in the map, the dead are
 * settled, what is over is reclaimed. For requests, a clean end, and tests. */
enum err keeper_settle(struct keeper *k, usec_t now_mono);

/* For "commit now": a serial, and whether everything that was synced when it was taken is committed. Call turns with
 * hurry until it is. */
uint64_t keeper_ask(struct keeper *k);
bool keeper_answered(const struct keeper *k, uint64_t serial);

bool keeper_rebuilding(const struct keeper *k);
/* The map, to read from; owned by the keeper. */
struct index *keeper_index(struct keeper *k);
struct keeper_counts {
	uint64_t records, commits, rows; /* since the start */
	uint64_t segments;               /* files that stand */
	uint64_t doubts;
	uint64_t messages, quarantined; /* as of the last commit */
	uint64_t damaged;               /* stretches found since the start */
};
void keeper_counts(struct keeper *k, struct keeper_counts *out);

#endif
