/* revision.h - one state of the configuration with all that follows from it and has to be read before a chroot
 * Immutable once loaded, but for the views that the configuration remembers. The children of a generation get their
 * copy by the fork; the master keeps the one in force and, during a reload, the one that is to follow.
 * Owner: the master; in a trial, the trial child. Thread: one. */
#ifndef MASTER_REVISION_H
#define MASTER_REVISION_H

#include <stdbool.h>
#include <stdint.h>

#include "master/listeners.h"
#include "master/privileges.h"
#include "shm/base/err.h"
#include "shm/base/log.h"

struct conf;
struct policy_bundle;

struct revision {
	uint32_t number;
	struct conf *conf;
	struct policy_bundle *bundle;
	char *resolver;             /* text of the resolver file, "" when there is none */
	struct identity id;         /* who is to serve */
	struct listeners listeners; /* empty until listeners_open */
	unsigned workers;
};

/* Receives each line of what is wrong or noteworthy. */
typedef void revision_tell(void *arg, enum log_level level, const char *text);

/* Reads and checks everything but the listeners and the scripts' meaning. NULL: it cannot be used, and tell said why.
 */
struct revision *revision_load(const char *path, bool strict, revision_tell *tell, void *arg);
/* Closes its listeners, but for the paths of Unix sockets that `survivor` has too. NULL inside is fine. */
void revision_free(struct revision **r, const struct revision *survivor);
/* The effective configuration (impetusd -T). */
void revision_print(const struct revision *r, struct bytes *out);
/* Paths of the logs, in the order of enum role_log; "" when none is wanted. */
const char *revision_log_path(const struct revision *r, int log, unsigned *mode);

#endif
