/* roles.h - the table of what the master starts
 * A row says who a process is, where it lives, what it is given and what its death means; a later role is one more row.
 * Which requests a role may make stands in the rows of shm/shm_request.h (its column "who may ask"). Slots are
 * given to roles for good, so that a packet that is late never reaches another kind of process. Constant data. */
#ifndef MASTER_ROLES_H
#define MASTER_ROLES_H

#include <stdbool.h>

#include "shm/shm_area.h"
#include "shm/shm_role.h"
#include "worker/role.h"

/* As whom it serves, when the master was started as root. */
enum role_user {
	ROLE_USER_SERVING, /* the user of the security stanza */
	ROLE_USER_NOBODY,
};

/* What a child keeps of the descriptors, beside its channel, its log and the doorbells. */
enum role_inherits {
	INHERITS_ESMTP = 1 << 0,   /* listening sockets */
	INHERITS_CONTROL = 1 << 1, /* control sockets */
	INHERITS_SPOOL = 1 << 2,   /* the spool's directory */
	INHERITS_LOGS = 1 << 3,    /* mainlog and rejectlog too */
};

enum {
	SLOT_KEEPER = 0,
	SLOT_CONSOLE_FIRST = 1, /* three: the one that serves, its successor, and one that still drains */
	SLOT_WORKER_FIRST = 4,
	SLOT_TRIAL = 252,                                  /* no slot: it has no part in what is shared */
	WORKERS_MAX = (SLOTS_MAX - SLOT_WORKER_FIRST) / 2, /* two generations at a time */
};

struct role_row {
	enum role role;
	enum role_user user;
	bool chroot; /* lives in the root of the security stanza */
	const char
		*caps; /* capabilities kept for prepare(), besides those the descent itself needs; none outlives it */
	unsigned inherits; /* enum role_inherits */
	int first_slot, slots;
	bool partitions; /* owns queues */
	const struct role_ops *ops;
	const char *death; /* what it means, for the log */
};

extern const struct role_row role_rows[];
extern const unsigned n_role_rows;
/* The row of a role that has one. */
const struct role_row *role_row(enum role r);
/* The row whose slot this is. */
const struct role_row *role_of_slot(int slot);

#endif
