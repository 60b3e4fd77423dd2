/* listeners.h - the sockets of one revision: bound by the master, served by the children
 * A set owns its descriptors. At a reload the new set takes a duplicate of what the old one has already bound, so no
 * socket that stays is ever closed; what only the old set has ends with it, and with the children that still serve it.
 * A Unix socket left by a dead process is taken over; one that somebody serves, or a file that is no socket, is an
 * error. Errors are logged here. Thread: one. */
#ifndef MASTER_LISTENERS_H
#define MASTER_LISTENERS_H

#include <stddef.h>

#include "master/privileges.h"
#include "shm/base/err.h"
#include "worker/role.h"

struct conf;

struct listeners {
	size_t n;
	struct role_listener *v;
};

/* Binds what `conf` asks for and `old` (may be NULL) does not have. Nothing is left open on an error; `why` gets a line
 * for each socket that could not be had. ERR_EXISTS: an address is in use (worth another try while a predecessor ends).
 */
enum err listeners_open(const struct conf *conf, const struct identity *id, const struct listeners *old,
			struct listeners *out, struct bytes *why);
/* Closes. Unix sockets that `survivor` (NULL: none) does not have are unlinked. */
void listeners_close(struct listeners *l, const struct listeners *survivor);
/* Closes those of one kind only: nobody new is let in. */
void listeners_close_kind(struct listeners *l, enum listener_kind kind);
/* Copies those of one kind to a new array; NULL with *n = 0 when there are none. The descriptors are shared. */
struct role_listener *listeners_of_kind(const struct listeners *l, enum listener_kind kind, unsigned *n);

#endif
