#include "shm/shm_limits.h"

#include <errno.h>
#include <sys/random.h>

#include "shm/base/log.h"
#include "shm/shm_area_int.h"

/* Differs with every master, so that nobody can choose names that fall into one set; inherited over the forks. */
static uint64_t seed;

/* FNV-1a, then a finishing mix so that the low bits, which choose the set, depend on every byte. */
static uint64_t
hash_add(uint64_t h, struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)ascii_lower(s.p[i])) * UINT64_C(0x100000001b3);
	return h * UINT64_C(0x100000001b3); /* as after a NUL: "ab","c" is not "a","bc" */
}

uint64_t
limit_key(const char *subject, struct slice a, struct slice b)
{
	uint64_t h = hash_add(seed ^ UINT64_C(0xcbf29ce484222325), slice_str(subject));

	h = hash_add(hash_add(h, a), b);
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return h == 0 ? 1 : h;
}

bool
limits_init(struct shm_limits *l)
{
	pthread_mutexattr_t attr;
	bool ok;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed) || pthread_mutexattr_init(&attr) != 0)
		return false;
	ok = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0 &&
	     pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0;
	for (int i = 0; ok && i < LIMIT_LOCKS; i++)
		ok = pthread_mutex_init(&l->locks[i].mutex, &attr) == 0;
	pthread_mutexattr_destroy(&attr);
	return ok;
}

static size_t
set_of(uint64_t key)
{
	return key % LIMIT_SETS;
}

/* A holder that died left nothing half done: each change is one store (shm_area_int.h). */
static pthread_mutex_t *
lock_set(struct shm_limits *l, size_t set)
{
	pthread_mutex_t *m = &l->locks[set % LIMIT_LOCKS].mutex;
	int e = pthread_mutex_lock(m);

	if (e == EOWNERDEAD)
		e = pthread_mutex_consistent(m);
	if (e != 0) {
		errno = e;
		log_panic("shm", "a lock of the limits cannot be taken");
	}
	return m;
}

static uint32_t
entry_count(const struct limit_entry *e)
{
	return atomic_load_explicit(&e->count, memory_order_acquire);
}

/* The entry of key and slot; with `sum`, what all slots hold of key; with `spare`, an entry to begin with. */
static struct limit_entry *
find_entry(struct limit_entry *set, uint64_t key, uint32_t slot, uint32_t *sum, struct limit_entry **spare)
{
	struct limit_entry *found = NULL;
	uint32_t n;

	*sum = 0;
	*spare = NULL;
	for (int i = 0; i < LIMIT_WAYS; i++) {
		n = entry_count(&set[i]);
		if (n == 0) {
			*spare = &set[i];
		} else if (atomic_load_explicit(&set[i].key, memory_order_relaxed) == key) {
			*sum += n;
			if (atomic_load_explicit(&set[i].slot, memory_order_relaxed) == slot)
				found = &set[i];
		}
	}
	return found;
}

bool
limit_take(struct shm_limits *l, int slot, uint64_t key, uint32_t max)
{
	size_t set = set_of(key);
	struct limit_entry *e, *spare;
	uint32_t sum;
	pthread_mutex_t *m = lock_set(l, set);

	e = find_entry(l->counts[set], key, (uint32_t)slot, &sum, &spare);
	if (sum >= max || (e == NULL && spare == NULL)) {
		pthread_mutex_unlock(m);
		return false;
	}
	if (e == NULL) {
		e = spare;
		atomic_store_explicit(&e->key, key, memory_order_relaxed);
		atomic_store_explicit(&e->slot, (uint32_t)slot, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&e->count, 1, memory_order_release);
	pthread_mutex_unlock(m);
	return true;
}

void
limit_give(struct shm_limits *l, int slot, uint64_t key)
{
	size_t set = set_of(key);
	struct limit_entry *e, *spare;
	uint32_t sum;
	pthread_mutex_t *m = lock_set(l, set);

	e = find_entry(l->counts[set], key, (uint32_t)slot, &sum, &spare);
	require_that(e != NULL, "shm");
	atomic_fetch_sub_explicit(&e->count, 1, memory_order_release);
	pthread_mutex_unlock(m);
}

uint32_t
limit_count(struct shm_limits *l, uint64_t key)
{
	size_t set = set_of(key);
	struct limit_entry *spare;
	uint32_t sum;
	pthread_mutex_t *m = lock_set(l, set);

	find_entry(l->counts[set], key, 0, &sum, &spare);
	pthread_mutex_unlock(m);
	return sum;
}

uint32_t
limit_held(struct shm_limits *l, int slot, uint64_t key)
{
	size_t set = set_of(key);
	struct limit_entry *e, *spare;
	uint32_t sum, held;
	pthread_mutex_t *m = lock_set(l, set);

	e = find_entry(l->counts[set], key, (uint32_t)slot, &sum, &spare);
	held = e == NULL ? 0 : entry_count(e);
	pthread_mutex_unlock(m);
	return held;
}

/* No lock: the master must not wait for a child. An entry of the dead slot is nobody else's to change; one that is
 * free, or becomes another slot's meanwhile, is left alone. */
void
limits_clear_slot(struct shm_limits *l, int slot)
{
	struct limit_entry *e;

	for (size_t i = 0; i < (size_t)LIMIT_SETS * LIMIT_WAYS; i++) {
		e = &l->counts[0][0] + i;
		if (entry_count(e) != 0 && atomic_load_explicit(&e->slot, memory_order_relaxed) == (uint32_t)slot)
			atomic_store_explicit(&e->count, 0, memory_order_release);
	}
}

/* ---- buckets ---- */

static struct bucket_entry *
find_bucket(struct bucket_entry *set, uint64_t key, usec_t now)
{
	struct bucket_entry *spare = NULL;

	for (int i = 0; i < BUCKET_WAYS; i++) {
		if (atomic_load_explicit(&set[i].until, memory_order_relaxed) <= now)
			spare = &set[i];
		else if (atomic_load_explicit(&set[i].key, memory_order_relaxed) == key)
			return &set[i];
	}
	if (spare != NULL) {
		atomic_store_explicit(&spare->until, 0, memory_order_relaxed);
		atomic_store_explicit(&spare->key, key, memory_order_relaxed);
		atomic_store_explicit(&spare->used, 0, memory_order_relaxed);
	}
	return spare;
}

static bool
bucket_spend(struct bucket_entry *b, uint32_t n, usec_t window, usec_t now, usec_t *when_again)
{
	usec_t until;

	if (b == NULL) {
		*when_again = now + USEC_PER_SEC;
		return false;
	}
	until = atomic_load_explicit(&b->until, memory_order_relaxed);
	if (until != 0 && atomic_load_explicit(&b->used, memory_order_relaxed) >= n) {
		/* a window longer than ours was made by another rate for the same key, before a reload */
		*when_again = until - now > window ? now + window : until;
		return false;
	}
	atomic_fetch_add_explicit(&b->used, 1, memory_order_relaxed);
	if (until == 0)
		atomic_store_explicit(&b->until, now + window, memory_order_release);
	return true;
}

bool
bucket_take(struct shm_limits *l, uint64_t key, uint32_t n, uint32_t per_seconds, usec_t now, usec_t *when_again)
{
	size_t set = set_of(key);
	usec_t window = (usec_t)(per_seconds == 0 ? 1 : per_seconds) * USEC_PER_SEC;
	pthread_mutex_t *m;
	bool ok;

	if (n == 0) {
		*when_again = now + window;
		return false;
	}
	m = lock_set(l, set);
	ok = bucket_spend(find_bucket(l->buckets[set], key, now), n, window, now, when_again);
	pthread_mutex_unlock(m);
	return ok;
}

usec_t
bucket_until(struct shm_limits *l, uint64_t key, uint32_t n, uint32_t per_seconds, usec_t now)
{
	struct bucket_entry *set = l->buckets[set_of(key)];
	usec_t window = (usec_t)(per_seconds == 0 ? 1 : per_seconds) * USEC_PER_SEC, again = 0;
	pthread_mutex_t *m = lock_set(l, set_of(key));

	for (int i = 0; i < BUCKET_WAYS; i++) {
		usec_t until = atomic_load_explicit(&set[i].until, memory_order_relaxed);

		if (until > now && atomic_load_explicit(&set[i].key, memory_order_relaxed) == key &&
		    atomic_load_explicit(&set[i].used, memory_order_relaxed) >= n)
			again = until - now > window ? now + window : until;
	}
	pthread_mutex_unlock(m);
	return again;
}

void
bucket_give(struct shm_limits *l, uint64_t key, usec_t now)
{
	struct bucket_entry *set = l->buckets[set_of(key)];
	pthread_mutex_t *m = lock_set(l, set_of(key));

	for (int i = 0; i < BUCKET_WAYS; i++)
		if (atomic_load_explicit(&set[i].until, memory_order_relaxed) > now &&
		    atomic_load_explicit(&set[i].key, memory_order_relaxed) == key &&
		    atomic_load_explicit(&set[i].used, memory_order_relaxed) > 0)
			atomic_fetch_sub_explicit(&set[i].used, 1, memory_order_relaxed);
	pthread_mutex_unlock(m);
}
