#include "spool/spool_cold.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

#include "shm/base/clock.h"

int
spool_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(thread, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0)
		pthread_setname_np(*thread, name);
	return error;
}

/* Under the lock: the next job, or NULL when it is time for a tick or for the end. */
static struct cold_job *
job_wait(struct cold *c, const struct timespec *until)
{
	for (;;) {
		struct cold_list *from = STAILQ_EMPTY(&c->urgent) ? &c->jobs : &c->urgent;
		struct cold_job *job = STAILQ_FIRST(from);
		if (job != NULL) {
			STAILQ_REMOVE_HEAD(from, link);
			return job;
		}
		if (c->closing || pthread_cond_timedwait(&c->more, &c->lock, until) == ETIMEDOUT)
			return NULL;
	}
}

static void
job_done(struct post *p)
{
	struct cold_job *job = (struct cold_job *)(void *)((char *)p - offsetof(struct cold_job, post));

	job->done(job);
}

static void
job_run(struct cold *c, struct cold_job *job)
{
	bool answers = job->done != NULL;

	job->fn(job);
	if (answers)
		postbox_put(c->box, &job->post, job_done);
}

/* The system's monotonic clock: it is a wait, not something that a simulation decides. */
static bool
tick_is_due(struct timespec *next)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec < next->tv_sec || (now.tv_sec == next->tv_sec && now.tv_nsec < next->tv_nsec))
		return false;
	*next = now;
	next->tv_sec++;
	return true;
}

static void *
cold_main(void *arg)
{
	struct cold *c = arg;
	struct timespec next = { 0 };
	bool over = false;

	while (!over) {
		struct cold_job *job;
		if (tick_is_due(&next))
			c->tick(c->tick_arg);
		pthread_mutex_lock(&c->lock);
		job = job_wait(c, &next);
		over = job == NULL && c->closing;
		pthread_mutex_unlock(&c->lock);
		if (job != NULL)
			job_run(c, job);
	}
	return NULL;
}

bool
cold_start(struct cold *c, struct postbox *box, void (*tick)(void *arg), void *tick_arg)
{
	pthread_condattr_t attr;

	*c = (struct cold){ .box = box, .tick = tick, .tick_arg = tick_arg };
	STAILQ_INIT(&c->jobs);
	STAILQ_INIT(&c->urgent);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->more, &attr);
	pthread_condattr_destroy(&attr);
	errno = spool_thread_start(&c->thread, "spool-read", cold_main, c);
	return errno == 0;
}

void
cold_stop(struct cold *c)
{
	pthread_mutex_lock(&c->lock);
	c->closing = true;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
}

static void
add(struct cold *c, struct cold_list *to, struct cold_job *job)
{
	pthread_mutex_lock(&c->lock);
	STAILQ_INSERT_TAIL(to, job, link);
	pthread_mutex_unlock(&c->lock);
	/* Behind the lock, or it would wake only to wait for us. */
	pthread_cond_signal(&c->more);
}

void
cold_add(struct cold *c, struct cold_job *job)
{
	add(c, &c->jobs, job);
}

void
cold_add_urgent(struct cold *c, struct cold_job *job)
{
	add(c, &c->urgent, job);
}
