/* arena.h - memory of one lifetime (revision, session, mail transaction, command)
 * What is allocated here is freed together; cleanup hooks (descriptors, timers, references) run first, last added
 * first. Memory from it is aligned for any type. One thread. Never returns NULL (mem.h). */
#ifndef SHM_BASE_ARENA_H
#define SHM_BASE_ARENA_H

#include <stddef.h>

#include "shm/base/bytes.h"

struct arena;

struct arena *arena_new(void);
/* Runs the hooks, frees all, clears the caller's pointer. NULL inside is fine. */
void arena_free(struct arena **a);
/* Zeroed. */
void *arena_alloc(struct arena *a, size_t n);
char *arena_strdup(struct arena *a, const char *s);
/* With a NUL behind it, which is not counted. */
struct slice arena_slice(struct arena *a, struct slice s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* fn(arg) runs when the arena is freed. */
void arena_on_free(struct arena *a, void (*fn)(void *arg), void *arg);
/* Bytes it holds from the heap: for limits and tests. */
size_t arena_size(const struct arena *a);

#endif
