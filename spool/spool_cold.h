/* spool_cold.h - the reading thread: whatever may wait for a disk and is not the journal's write
 * Jobs run one after another in order of arrival; urgent ones (the next segment, which the journal may wait for) first.
 * About once a second, also when idle, it runs `tick`: the watch over the disk. A job is embedded in what it is about
 * and is not touched any more once `done` is called (or, without one, once `fn` was). */
#ifndef SPOOL_SPOOL_COLD_H
#define SPOOL_SPOOL_COLD_H

#include "spool/spool_post.h"

struct cold_job {
	STAILQ_ENTRY(cold_job) link;
	struct post post;
	void (*fn)(struct cold_job *job);   /* on the reading thread */
	void (*done)(struct cold_job *job); /* on the loop; NULL: fn may free the job */
};
STAILQ_HEAD(cold_list, cold_job);

struct cold {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct cold_list jobs, urgent;
	bool closing;
	pthread_t thread;
	struct postbox *box;
	void (*tick)(void *arg);
	void *tick_arg;
};

/* Starts the thread. False, errno set: it cannot. */
bool cold_start(struct cold *c, struct postbox *box, void (*tick)(void *arg), void *tick_arg);
/* Runs the jobs that are left, then ends the thread. Their posts are still to be run. */
void cold_stop(struct cold *c);
/* Any thread. fn and done are set in the job. */
void cold_add(struct cold *c, struct cold_job *job);
void cold_add_urgent(struct cold *c, struct cold_job *job);

/* A thread of the spool: no signal is delivered to it. 0 or an errno. */
int spool_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *arg), void *arg);

#endif
