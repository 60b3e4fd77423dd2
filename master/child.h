/* child.h - what happens in a child between its fork and its role
 * One step a line; each failure ends the child with status 1 and a line in the log. Runs in the child only. */
#ifndef MASTER_CHILD_H
#define MASTER_CHILD_H

#include <sys/types.h>

#include "master/privileges.h"
#include "master/roles.h"

struct child_start {
	const struct role_row *row;
	const struct identity *id;
	struct role_env *env; /* complete but for uid, gid and privileged */
	pid_t master;         /* to see that it still lives */
};

_Noreturn void child_run(const struct child_start *s);

/* The pieces, for the trial, whose descent has one step more. */
void child_signals(pid_t master);
void child_close_strays(const struct child_start *s);
void child_title(const struct role_env *env);

#endif
