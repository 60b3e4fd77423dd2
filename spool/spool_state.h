/* spool_state.h - what is not mail and must survive the loss of the index: a second, small LMDB environment
 * Suspensions of bindings and the policy's own assignments (key -> binding), shared by all processes. Written by the
 * keeper on request, read by all; one environment a process, opened after the fork. A value is given as a copy in the
 * caller's buffer, so no snapshot outlives a call. Calls may touch the disk. Any thread, one at a time.
 * Errors: ERR_NOTFOUND no such key; ERR_AGAIN nothing was ever written; ERR_RANGE key or value too long; ERR_IO. */
#ifndef SPOOL_SPOOL_STATE_H
#define SPOOL_SPOOL_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"

struct state;

enum { STATE_KEY_MAX = 500, STATE_VALUE_MAX = 4096, STATE_WHO = 64 };

/* `path` as in struct index_conf; `keeper` may write. */
enum err state_open(const char *path, bool keeper, struct state **out);
/* Clears the caller's pointer; NULL inside is fine. */
void state_close(struct state **s);

enum state_suspension {
	STATE_CONFIGURED /* nothing said: as suspend_delivery has it */,
	STATE_SUSPENDED,
	STATE_RESUMED
};
struct state_binding {
	enum state_suspension suspension;
	usec_t since;        /* real time */
	char who[STATE_WHO]; /* who said it, cut; "" when that was not kept */
};
/* Sets who, cut to what there is room for. */
void state_who(struct state_binding *b, struct slice who);
/* A binding without an entry is STATE_CONFIGURED, and OK. */
enum err state_binding_get(struct state *s, struct slice name, struct state_binding *out);
/* The keeper. Durable when it returns. STATE_CONFIGURED removes the entry. */
enum err state_binding_set(struct state *s, struct slice name, const struct state_binding *b);
/* Every entry, in order of name. fn must not call into the state. */
enum err state_binding_each(struct state *s, void (*fn)(void *arg, struct slice name, const struct state_binding *b),
			    void *arg);

/* Value into `value` (replaced, not added to). */
enum err state_assignment_get(struct state *s, struct slice key, struct bytes *value);
/* The keeper. Durable when it returns. An empty value removes the entry. */
enum err state_assignment_set(struct state *s, struct slice key, struct slice value);

#endif
