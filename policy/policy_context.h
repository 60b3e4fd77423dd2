/* policy_context.h - a dictionary of text: what policy knows about a connection or a message
 * Keys and values are bytes without meaning to us. Order is that of first setting. A struct policy_context is a cheap
 * handle: all zero is the empty dictionary; a copy made by policy_context_share costs nothing until one side writes.
 * Bounded (POLICY_CONTEXT_*), because policy and, through XCLIENT and the like, peers fill it. One thread. */
#ifndef POLICY_POLICY_CONTEXT_H
#define POLICY_POLICY_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

enum {
	POLICY_CONTEXT_KEYS = 1024,
	POLICY_CONTEXT_BYTES = 1 << 20, /* keys and values together */
};

struct policy_dict;
struct policy_context {
	struct policy_dict *dict; /* NULL: empty */
};

/* ERR_FULL: a bound is reached and nothing was changed. Copies key and value. */
enum err policy_context_set(struct policy_context *c, struct slice key, struct slice value);
/* False when there is none. The value has a NUL behind it, which is not counted, and holds until c changes. */
bool policy_context_get(const struct policy_context *c, struct slice key, struct slice *value);
/* Was it there? */
bool policy_context_delete(struct policy_context *c, struct slice key);
size_t policy_context_count(const struct policy_context *c);
/* The i-th pair; i < count. Slices as from get. */
void policy_context_at(const struct policy_context *c, size_t i, struct slice *key, struct slice *value);
/* *to becomes what `from` is now; what *to was is forgotten. Neither sees later changes of the other. */
void policy_context_share(struct policy_context *to, const struct policy_context *from);
/* Empties it. */
void policy_context_clear(struct policy_context *c);

/* As bytes for the spool (versioned, little-endian), appended to *out; an empty one gives no bytes at all. */
void policy_context_pack(const struct policy_context *c, struct bytes *out);
/* The whole of `packed`; what c was is forgotten. ERR_VERSION, ERR_DAMAGED: c is empty then. No bytes: empty, OK. */
enum err policy_context_unpack(struct slice packed, struct policy_context *c);
/* Connection and message dictionary as one slice, and back (no bytes for two empty ones). */
void policy_contexts_pack(const struct policy_context *conn, const struct policy_context *mess, struct bytes *out);
enum err policy_contexts_unpack(struct slice packed, struct policy_context *conn, struct policy_context *mess);
/* "k=v,k2=v2" as the rejectlog's CTXCONN and CTXMESS print it: a value with a space or comma in double quotes, quotes
 * and control characters made harmless; keys that begin with "#" are internal and left out. */
void policy_context_print(const struct policy_context *c, struct bytes *out);

#endif
