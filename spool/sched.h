/* sched.h - the schedule: which message of which queue is next, and when
 * Pure: no clock, no disk, no network; every call that needs the time is given it. The owner (spool_owner.h) feeds it;
 * the simulation in t/sim drives it with a clock of its own.
 *
 * A queue holds the messages that are loaded: ready ones (due, by priority, then due time, then id), and waiting ones
 * (due later). Queues with ready messages stand in a round; each is shown in turn, so none starves another. A queue is
 * out of the round while it is suspended, told to wait until a moment, or has nothing that is new since it was shown.
 *
 * Two clocks meet here: due times are real time (they survive a restart), waits of queues are monotonic.
 * Owner: the caller owns queues and messages, which are embedded in its own structs; the schedule links them. One
 * thread. No errors: what cannot be is a broken invariant of ours. */
#ifndef SPOOL_SCHED_H
#define SPOOL_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/queue.h>
#include <bsd/sys/tree.h>

#include "shm/base/clock.h"

/* ---- the retry schedule (spec/phases.md section 7) */

enum {
	SCHED_RETRIES_ANY =
		-1, /* no number: only the expiration counts, so a try that an operator wants costs nothing */
};

struct sched_retry {
	uint32_t retry_interval;     /* s; 0 counts as 1: a refused message never spins */
	uint32_t max_retry_interval; /* s; 0: no cap */
	uint32_t message_expiration; /* s; 0: never expires */
	int32_t max_retries;         /* or SCHED_RETRIES_ANY */
};

/* When to try next after the try-th attempt (1 is the first) failed at `now`: now + retry_interval * 2^(tries-1), at
 * most max_retry_interval later, and never later than the deadline, so that a message gets its last attempt there. */
usec_t sched_next_try(const struct sched_retry *r, uint32_t tries, usec_t received, usec_t now);
/* The moment of expiry; INT64_MAX: never. */
usec_t sched_deadline(const struct sched_retry *r, usec_t received);
enum sched_fate {
	SCHED_GOES_ON,
	SCHED_TOO_OLD,       /* exceeded max time without delivery */
	SCHED_TOO_MANY_TRIES /* exceeded max retries without delivery */
};
/* Whether a message with so many failed attempts may be tried again. */
enum sched_fate sched_fate(const struct sched_retry *r, uint32_t tries, usec_t received, usec_t now);

/* ---- messages and queues */

enum sched_at {
	SCHED_NOWHERE, /* not in the schedule */
	SCHED_READY,   /* due: may be taken */
	SCHED_WAITING, /* due later */
	SCHED_TAKEN,   /* in somebody's hands */
};

struct sched_queue;
struct sched_msg {
	uint64_t id;
	usec_t due;       /* real time */
	uint8_t priority; /* higher first */
	enum sched_at at;
	struct sched_queue *queue;
	RB_ENTRY(sched_msg) link; /* in its queue's ready ones, or among the waiting */
};
RB_HEAD(sched_msgs, sched_msg);

struct sched_queue {
	struct sched_msgs ready;
	size_t n_ready, n_waiting, n_taken;
	bool suspended;
	bool in_round;
	usec_t wait_until; /* monotonic; 0: does not wait */
	TAILQ_ENTRY(sched_queue) round;
	RB_ENTRY(sched_queue) waits;
};
RB_HEAD(sched_waits, sched_queue);
TAILQ_HEAD(sched_round, sched_queue);

struct sched {
	struct sched_round round;
	struct sched_msgs waiting;
	struct sched_waits waits;
	bool full; /* the round stands still */
};

void sched_init(struct sched *s);
void sched_queue_init(struct sched_queue *q);
/* Nothing may be in it. */
void sched_queue_fini(struct sched *s, struct sched_queue *q);

/* id, due and priority are set, `at` is NOWHERE. Ready if it is due at now_real. */
void sched_add(struct sched *s, struct sched_queue *q, struct sched_msg *m, usec_t now_real);
/* Out of the schedule, wherever it is. */
void sched_remove(struct sched *s, struct sched_msg *m);
/* The one that would be taken next; NULL: none, or the queue is suspended. */
struct sched_msg *sched_first(const struct sched_queue *q);
/* The first ready one, now taken. NULL: none, or the queue is suspended. */
struct sched_msg *sched_take(struct sched *s, struct sched_queue *q);
/* Taken, of one that is nowhere: for errands. */
void sched_take_away(struct sched_queue *q, struct sched_msg *m);
/* A taken one goes back: to its old place, or to wait until not_before (real time) if that is later. */
void sched_put_back(struct sched *s, struct sched_msg *m, usec_t not_before, usec_t now_real);

void sched_suspend(struct sched *s, struct sched_queue *q, bool suspended);
/* Not shown before then (monotonic); 0 ends the wait. */
void sched_wait(struct sched *s, struct sched_queue *q, usec_t until_mono);
/* To be shown again, if it has ready messages. */
void sched_kick(struct sched *s, struct sched_queue *q);

/* What has come due becomes ready; waits that are over end. */
void sched_turn(struct sched *s, usec_t now_real, usec_t now_mono);
/* The next queue of the round, which leaves it; NULL: none, or the round stands still. */
struct sched_queue *sched_show(struct sched *s);
/* What the shown queue met is a limit that all share: it comes first when there is room again. */
void sched_full(struct sched *s, struct sched_queue *q);
void sched_room(struct sched *s);
/* Monotonic time of the next sched_turn that has something to do; INT64_MAX: none. */
usec_t sched_next(const struct sched *s, usec_t now_real, usec_t now_mono);

#endif
