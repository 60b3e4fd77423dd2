/* role_base.h - what every role's loop has: channel to the master, heartbeat, logs, and the words that end it
 * A role fills in the callbacks, calls role_base_open, sets up its own things, role_base_serve, loop_run, and
 * role_base_close. The base answers LOGS itself; DRAIN and STOP become callbacks; a master that is gone is a STOP after
 * which the process ends within 5 s whatever the role does. Everything else on the channel goes to on_request.
 * Owner: the role, for its process's life. Thread: the loop's. Errors: none come back; what cannot be is fatal. */
#ifndef WORKER_ROLE_BASE_H
#define WORKER_ROLE_BASE_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/shm_request.h"
#include "worker/log/ec_logger.h"
#include "worker/net/loop.h"
#include "worker/role.h"

struct index;
struct state;

struct role_base {
	/* the role's, before role_base_open */
	struct role_env *env;
	void (*on_drain)(void *arg, unsigned seconds); /* finish what is in work, then role_base_drained */
	void (*on_stop)(void *arg);                    /* now; NULL: the loop is stopped */
	req_on_request *on_request;                    /* NULL: nothing else is asked of this role */
	void *arg;
	/* the base's */
	struct loop *loop;
	struct req_channel *channel;
	struct ev_io io;
	struct eclog *log;
	struct ev_timer last_call; /* the master is gone, or a drain takes too long */
	usec_t gave_back;          /* when unused memory was last given back */
	usec_t counted;            /* when log lines were last told to the slot */
	bool ending;
};

/* The spool becomes the working directory: what is in it is found by paths below it, now and after a rebuild. In
 * prepare, and, as a chroot leaves it, in run again. What goes wrong is logged here. */
enum err role_enter_spool(const struct role_env *env);
/* The prepare of a role that reads what the keeper writes: enters the spool, opens both. What goes wrong is logged
 * here. */
enum err role_open_spool(const struct role_env *env, struct index **index, struct state **state);
/* Loop, channel and logs stand, the paniclog is the log's sink. run, run_arg: who writes log lines (eclog_run); NULL:
 * the loop itself. */
void role_base_open(struct role_base *b, eclog_run *run, void *run_arg);
/* From here on the role serves: the slot says so, and the master is told. */
void role_base_serve(struct role_base *b);
/* The drain is done: tells the master and ends the loop. */
void role_base_drained(struct role_base *b);
/* Writes the last log lines. */
void role_base_close(struct role_base *b);

#endif
