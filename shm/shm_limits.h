/* shm_limits.h - keyed counts and token buckets, exact over all processes
 * A count is the sum of what each slot's ledger says it holds; taking is noting one more in the own ledger, so what a
 * process held is given back for it when it is reaped, wherever it died. Keys are 64-bit hashes that the caller makes
 * (limit_key): sessions per listener, connections per binding and domain, per host, server-wide.
 * Room for about 250,000 (key, slot) pairs that are not zero; when a key finds no room, taking fails as if the limit
 * were reached: refuse for now, never exceed. Threads: any. Locks are robust: a holder that dies is survived. The
 * master only clears (shm_slot_reap), without a lock. */
#ifndef SHM_SHM_LIMITS_H
#define SHM_SHM_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"

struct shm_limits;

/* A key of a subject ("host", "binding_domain", ...) and up to two names; ASCII case does not matter. Never 0. The same
 * in all processes of a master once shm_area_new has been called, different in the next. */
uint64_t limit_key(const char *subject, struct slice a, struct slice b);

/* One more for `slot` unless `max` are taken over all slots. max is the bound itself (0: none may be taken);
 * UINT32_MAX only counts. True: taken, give it back once. */
bool limit_take(struct shm_limits *l, int slot, uint64_t key, uint32_t max);
/* Gives back one that this slot holds; giving what is not held is a broken invariant (panic). */
void limit_give(struct shm_limits *l, int slot, uint64_t key);
/* Held now, over all slots. */
uint32_t limit_count(struct shm_limits *l, uint64_t key);
/* Held now by one slot. */
uint32_t limit_held(struct shm_limits *l, int slot, uint64_t key);
/* Master: what a dead slot held is free again. */
void limits_clear_slot(struct shm_limits *l, int slot);

/* A rate of n per `per_seconds`: at most n in a window that begins with its first. True: one is spent. False: none is
 * left; *when_again is the moment (same clock as now) when one will be. A bucket that no process has used for its
 * window is forgotten, which changes nothing. n = 0 never lets any through (when_again = now + one window). When there
 * is no room for the key: false, one second on. */
bool bucket_take(struct shm_limits *l, uint64_t key, uint32_t n, uint32_t per_seconds, usec_t now, usec_t *when_again);
/* When the next one will be let through, by what was spent so far; 0: at once. Spends nothing. */
usec_t bucket_until(struct shm_limits *l, uint64_t key, uint32_t n, uint32_t per_seconds, usec_t now);
/* Gives one back that was taken but not used, in the same window. */
void bucket_give(struct shm_limits *l, uint64_t key, usec_t now);

#endif
