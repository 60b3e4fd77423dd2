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
	SCHED_RETRIES_AUTO = -1, /* as many as message_expiration has room for */
	SCHED_RETRIES_NONE = -2, /* no number: only the expiration counts */
};

struct sched_retry {
	uint32_t retry_interval;     /* s; 0 counts as 1: a refused message never spins */
	uint32_t max_retry_interval; /* s; 0: no cap */
	uint32_t message_expiration; /* s; 0: never expires */
	int32_t max_retries;         /* or SCHED_RETRIES_* */
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
/* How many retries "auto" means. */
uint32_t sched_auto_retries(const struct sched_retry *r);

#endif
