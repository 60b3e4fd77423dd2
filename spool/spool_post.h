/* spool_post.h - what the spool's threads have for the loop: a list, and an eventfd that says there is something
 * A post is embedded in what it is about and lies in the list at most once. The eventfd is written only when the list
 * was empty, so one syscall serves however many. Put: any thread. Run: the loop. */
#ifndef SPOOL_SPOOL_POST_H
#define SPOOL_SPOOL_POST_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

struct post {
	STAILQ_ENTRY(post) link;
	void (*run)(struct post *p); /* on the loop; may free p and put others */
};
STAILQ_HEAD(post_list, post);

struct postbox {
	pthread_mutex_t lock;
	struct post_list list;
	int fd;
};

/* False, errno set: no eventfd. */
bool postbox_init(struct postbox *box);
/* The list must be empty. */
void postbox_fini(struct postbox *box);
void postbox_put(struct postbox *box, struct post *p, void (*run)(struct post *p));
/* Runs, in order, what was there when it was called. */
void postbox_run(struct postbox *box);
/* Waits until there is something to run: for closing only. */
void postbox_wait(struct postbox *box);

#endif
