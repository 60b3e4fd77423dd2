/* worker_ask.h - the console's questions that only a worker's memory can answer
 * Every question is answered once, now or later; what is under way is ended with the resolver. Thread: loop. */
#ifndef WORKER_WORKER_ASK_H
#define WORKER_WORKER_ASK_H

#include "shm/shm_request.h"

struct delivery;
struct loop;
struct resolver;
struct spool_owner;

/* Borrowed, as long as the worker serves. */
struct worker_knows {
	struct spool_owner *owner;
	struct delivery *delivery;
	struct resolver *resolver;
	struct loop *loop;
};

/* m is a WORKER_ASK. */
void worker_asked(const struct worker_knows *k, struct req_channel *c, const struct req_msg *m);

#endif
