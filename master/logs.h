/* logs.h - the log files: opened by the master, written by the children and by the master itself
 * Each is opened for appending, without following a link at its end; as root only in a directory that nobody but root
 * can write (a child must not be able to put something else there). What cannot be opened at a reopen keeps its old
 * descriptor. The master's own lines go to the paniclog, and to stderr when told so.
 * Owner: the master. Thread: one. */
#ifndef MASTER_LOGS_H
#define MASTER_LOGS_H

#include <stdbool.h>

#include "shm/base/err.h"
#include "worker/role.h"

struct revision;
struct eclog;

struct logs {
	int fd[ROLE_LOGS]; /* -1: not wanted */
	struct eclog *own; /* NULL before logs_speak */
};

void logs_init(struct logs *l);
/* Opens what the revision names; a log that it does not name is closed. An error names the first that could not be had:
 * its old descriptor (if any) stays, and so do the others' new ones. */
enum err logs_open(struct logs *l, const struct revision *r, bool privileged);
/* The master's log lines go there from now on, and also to stderr if told so. */
void logs_speak(struct logs *l, bool to_stderr);
/* Closes; lines go to stderr again. */
void logs_fini(struct logs *l);
/* The bits of the logs that are open, lowest first: the payload of REQ_LOGS; fds get their descriptors. */
unsigned char logs_mask(const struct logs *l, int fds[ROLE_LOGS], unsigned *n);

#endif
