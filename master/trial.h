/* trial.h - a configuration is tried by a throwaway child before anybody serves by it
 * The child is nobody (when started as root), may read files but change none while it parses, and has no capability
 * left when it runs the scripts for the first time. It says what it found in lines, and by its exit status whether the
 * configuration can be used. A broken, endless or crashing one costs this child.
 * begun -> (lines) -> ended: by trial_ended when the process was reaped. Owner: the master. Thread: one. */
#ifndef MASTER_TRIAL_H
#define MASTER_TRIAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "master/revision.h"
#include "shm/base/clock.h"

struct req_channel;

enum { TRIAL_SECONDS = 60, TRIAL_LINES = 200 };

struct trial_spec {
	const char *path; /* of the configuration */
	bool strict;
	bool print; /* write the effective configuration to stdout */
};

struct trial {
	pid_t pid; /* 0: none */
	struct req_channel *channel;
	usec_t until; /* it is killed then */
	unsigned lines;
	revision_tell *tell;
	void *arg;
};

/* Forks it. tell gets its lines, from trial_turn. */
enum err trial_begin(struct trial *t, const struct trial_spec *spec, revision_tell *tell, void *arg);
/* The descriptor to poll for reading; -1 when there is nothing more to come. */
int trial_fd(const struct trial *t);
/* Takes the lines that have come. */
void trial_turn(struct trial *t);
/* Its process was reaped with this status: takes the last lines; true: the configuration can be used. */
bool trial_ended(struct trial *t, int status);
/* Ends it; it is reaped here. Nothing running: fine. */
void trial_cancel(struct trial *t);
/* All of it at once, for start and -t: waits. */
bool trial_run(const struct trial_spec *spec, revision_tell *tell, void *arg);

#endif
