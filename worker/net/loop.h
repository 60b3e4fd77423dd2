/* loop.h - the one event loop of a process: descriptors, timers, and what runs at the end of a turn
 * A turn: wait (until the nearest timer, at most a second), call what is ready, call the timers that are due, call the
 * "later" events, call the turn hooks. Callbacks never block and never run the loop. The ev_ structs are embedded in
 * their owners and must be all zero before first use and in place while armed; their fields are the loop's own, but
 * `fd` of an ev_io, which may be read.
 * Thread: everything here belongs to the thread that runs the loop; another thread wakes it by an eventfd that it
 * watches. Time is the loop's clock: read once a turn from clock_mono(), which tests set.
 * Errors: epoll that fails is fatal to the process (descriptors or kernel memory exhausted at start). */
#ifndef WORKER_NET_LOOP_H
#define WORKER_NET_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>

#include "shm/base/clock.h"

struct loop;
struct ev_io;
struct ev_timer;

typedef void ev_io_fn(struct ev_io *io, uint32_t events, void *arg);
typedef void ev_fn(void *arg);

struct ev_io {
	int fd;
	bool armed;
	uint32_t events; /* as registered */
	ev_io_fn *fn;
	void *arg;
};

struct ev_timer {
	usec_t at;      /* when it is wanted; 0 while stopped */
	uint32_t place; /* 1 + index in the heap, 0 outside; the heap may hold it under an earlier time */
	ev_fn *fn;
	void *arg;
};

struct ev_later {
	TAILQ_ENTRY(ev_later) link;
	bool queued;
	ev_fn *fn;
	void *arg;
};

struct loop *loop_new(void);
/* Nothing may be armed any more. Clears the caller's pointer; NULL inside is fine. */
void loop_free(struct loop **l);
/* Turns until loop_stop was called. */
void loop_run(struct loop *l);
/* The turn that runs now is the last one of loop_run. */
void loop_stop(struct loop *l);
/* One turn that waits at most `most` microseconds: for tests and drivers that have their own end condition. */
void loop_turn(struct loop *l, usec_t most);
/* Monotonic time of this turn's beginning. */
usec_t loop_now(const struct loop *l);

/* fn(io, events, arg) is called, level-triggered, while any of `events` (EPOLLIN, EPOLLOUT, ...) holds; EPOLLHUP and
 * EPOLLERR always. EPOLLEXCLUSIVE may be among them (listening sockets); such an io cannot be changed by loop_io_mod.
 * The fd stays the caller's. */
void loop_io_add(struct loop *l, struct ev_io *io, int fd, uint32_t events, ev_io_fn *fn, void *arg);
void loop_io_mod(struct loop *l, struct ev_io *io, uint32_t events);
/* Before the fd is closed. fn is not called any more, not even for what this turn has already seen. Not armed: fine. */
void loop_io_del(struct loop *l, struct ev_io *io);
/* loop_io_del and close(io->fd) in one, for a descriptor of which there is no duplicate: the kernel forgets by itself
 * what is closed, so it need not be asked. Not armed: only closes. */
void loop_io_close(struct loop *l, struct ev_io *io);

/* fn(arg) is called once, in the first turn at or after `at` (loop_now's scale, > 0). Setting an armed timer moves it;
 * moving it to a later time costs next to nothing, so an idle timer may be pushed at every read. */
void loop_timer_set(struct loop *l, struct ev_timer *t, usec_t at, ev_fn *fn, void *arg);
/* Not armed: fine. */
void loop_timer_stop(struct loop *l, struct ev_timer *t);
static inline bool
ev_timer_armed(const struct ev_timer *t)
{
	return t->at != 0;
}

/* fn(arg) is called once at the end of this turn (also when queued by another later event; a chain without end is
 * continued in the next turn, which then does not wait). Queued already: nothing changes. */
void loop_later(struct loop *l, struct ev_later *later, ev_fn *fn, void *arg);
void loop_later_cancel(struct loop *l, struct ev_later *later);

/* fn(arg) is called at the end of every turn, after the later events, and at least once a second: heartbeats. At most
 * 8 hooks; they stay for the loop's life. */
void loop_on_turn(struct loop *l, ev_fn *fn, void *arg);

#endif
