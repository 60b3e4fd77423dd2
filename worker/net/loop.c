#include "worker/net/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

enum {
	EVENTS_A_TURN = 256,
	HOOKS_MAX = 8,
	LATER_ROUNDS = 4096, /* later events a turn runs before it goes on to the next turn */
	HEARTBEAT_MS = 1000,
};

/* The heap is by `at` of the entry, which may be earlier than the timer's own: then the entry is put right when it
 * comes up. So pushing an idle timer ahead costs one store. */
struct heap_entry {
	usec_t at;
	struct ev_timer *t;
};

struct loop {
	int epfd;
	bool stopping;
	usec_t now;
	struct epoll_event events[EVENTS_A_TURN];
	int nevents, at_event; /* of the turn that runs */
	struct heap_entry *heap;
	uint32_t heap_n, heap_cap;
	TAILQ_HEAD(, ev_later) later;
	struct {
		ev_fn *fn;
		void *arg;
	} hooks[HOOKS_MAX];
	unsigned nhooks;
};

struct loop *
loop_new(void)
{
	struct loop *l = mem_zalloc(sizeof *l);

	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		log_errno(LOG_LVL_ERROR, "net", "epoll_create1");
		log_fatal("net", "no event loop");
	}
	TAILQ_INIT(&l->later);
	l->now = clock_mono();
	return l;
}

void
loop_free(struct loop **lp)
{
	struct loop *l = *lp;

	if (l == NULL)
		return;
	*lp = NULL;
	close(l->epfd);
	free(l->heap);
	free(l);
}

usec_t
loop_now(const struct loop *l)
{
	return l->now;
}

void
loop_stop(struct loop *l)
{
	l->stopping = true;
}

/* Descriptors. */

static void
control(struct loop *l, int op, struct ev_io *io, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = io };

	if (epoll_ctl(l->epfd, op, io->fd, &ev) != 0) {
		log_errno(LOG_LVL_ERROR, "net", "epoll_ctl %d on descriptor %d", op, io->fd);
		log_fatal("net", "the event loop is out of order");
	}
	io->events = events;
}

void
loop_io_add(struct loop *l, struct ev_io *io, int fd, uint32_t events, ev_io_fn *fn, void *arg)
{
	require_that(!io->armed, "net");
	io->fd = fd;
	io->fn = fn;
	io->arg = arg;
	control(l, EPOLL_CTL_ADD, io, events);
	io->armed = true;
}

void
loop_io_mod(struct loop *l, struct ev_io *io, uint32_t events)
{
	require_that(io->armed && (io->events & EPOLLEXCLUSIVE) == 0, "net");
	if (io->events != events)
		control(l, EPOLL_CTL_MOD, io, events);
}

/* What this turn has seen already must not reach an owner that is gone. */
static void
forget(struct loop *l, struct ev_io *io)
{
	io->armed = false;
	for (int i = l->at_event; i < l->nevents; i++)
		if (l->events[i].data.ptr == io)
			l->events[i].data.ptr = NULL;
}

void
loop_io_del(struct loop *l, struct ev_io *io)
{
	if (!io->armed)
		return;
	control(l, EPOLL_CTL_DEL, io, 0);
	forget(l, io);
}

void
loop_io_close(struct loop *l, struct ev_io *io)
{
	if (io->armed)
		forget(l, io);
	close(io->fd);
}

/* Timers: a 4-ary heap, each timer knows its place. */

static void
heap_put(struct loop *l, uint32_t i, struct heap_entry e)
{
	l->heap[i] = e;
	e.t->place = i + 1;
}

static void
heap_up(struct loop *l, uint32_t i, struct heap_entry e)
{
	while (i > 0) {
		uint32_t parent = (i - 1) / 4;
		if (l->heap[parent].at <= e.at)
			break;
		heap_put(l, i, l->heap[parent]);
		i = parent;
	}
	heap_put(l, i, e);
}

static void
heap_down(struct loop *l, uint32_t i, struct heap_entry e)
{
	for (;;) {
		uint32_t first = 4 * i + 1, least = first;

		if (first >= l->heap_n)
			break;
		for (uint32_t c = first + 1; c < first + 4 && c < l->heap_n; c++)
			if (l->heap[c].at < l->heap[least].at)
				least = c;
		if (l->heap[least].at >= e.at)
			break;
		heap_put(l, i, l->heap[least]);
		i = least;
	}
	heap_put(l, i, e);
}

static void
heap_remove(struct loop *l, struct ev_timer *t)
{
	uint32_t i = t->place - 1;
	struct heap_entry last = l->heap[--l->heap_n];

	t->place = 0;
	if (last.t == t)
		return;
	if (i > 0 && l->heap[(i - 1) / 4].at > last.at)
		heap_up(l, i, last);
	else
		heap_down(l, i, last);
}

static void
heap_insert(struct loop *l, struct ev_timer *t)
{
	if (l->heap_n == l->heap_cap) {
		l->heap_cap = l->heap_cap != 0 ? l->heap_cap * 2 : 64;
		l->heap = mem_array(l->heap, l->heap_cap, sizeof *l->heap);
	}
	l->heap_n++;
	heap_up(l, l->heap_n - 1, (struct heap_entry){ t->at, t });
}

void
loop_timer_set(struct loop *l, struct ev_timer *t, usec_t at, ev_fn *fn, void *arg)
{
	require_that(at > 0, "net");
	t->fn = fn;
	t->arg = arg;
	t->at = at;
	if (t->place == 0)
		heap_insert(l, t);
	else if (at < l->heap[t->place - 1].at)
		heap_up(l, t->place - 1, (struct heap_entry){ at, t });
}

void
loop_timer_stop(struct loop *l, struct ev_timer *t)
{
	if (t->place != 0)
		heap_remove(l, t);
	t->at = 0;
}

static void
run_timers(struct loop *l)
{
	/* A timer that sets itself anew for now or the past waits for the next turn: `now` does not move here, and an
	 * entry is due only up to what the heap held at the beginning, at most once each. */
	for (uint32_t budget = l->heap_n; budget > 0 && l->heap_n > 0 && l->heap[0].at <= l->now; budget--) {
		struct ev_timer *t = l->heap[0].t;

		if (t->at > l->now) {
			heap_down(l, 0, (struct heap_entry){ t->at, t });
			continue;
		}
		heap_remove(l, t);
		t->at = 0;
		t->fn(t->arg);
	}
}

/* Milliseconds to wait, rounded up so that a timer is due when the wait ends. */
static int
wait_ms(struct loop *l, usec_t most)
{
	usec_t us = HEARTBEAT_MS * USEC_PER_MS;

	if (!TAILQ_EMPTY(&l->later))
		return 0;
	if (l->heap_n > 0 && l->heap[0].at - l->now < us)
		us = l->heap[0].at - l->now;
	if (most < us)
		us = most;
	return us <= 0 ? 0 : (int)((us + USEC_PER_MS - 1) / USEC_PER_MS);
}

/* What runs at the end of a turn. */

void
loop_later(struct loop *l, struct ev_later *later, ev_fn *fn, void *arg)
{
	later->fn = fn;
	later->arg = arg;
	if (later->queued)
		return;
	later->queued = true;
	TAILQ_INSERT_TAIL(&l->later, later, link);
}

void
loop_later_cancel(struct loop *l, struct ev_later *later)
{
	if (!later->queued)
		return;
	later->queued = false;
	TAILQ_REMOVE(&l->later, later, link);
}

static void
run_later(struct loop *l)
{
	struct ev_later *later;

	for (int i = 0; i < LATER_ROUNDS && (later = TAILQ_FIRST(&l->later)) != NULL; i++) {
		loop_later_cancel(l, later);
		later->fn(later->arg);
	}
}

void
loop_on_turn(struct loop *l, ev_fn *fn, void *arg)
{
	require_that(l->nhooks < HOOKS_MAX, "net");
	l->hooks[l->nhooks].fn = fn;
	l->hooks[l->nhooks].arg = arg;
	l->nhooks++;
}

static void
run_ready(struct loop *l)
{
	for (l->at_event = 0; l->at_event < l->nevents; l->at_event++) {
		struct ev_io *io = l->events[l->at_event].data.ptr;
		if (io != NULL)
			io->fn(io, l->events[l->at_event].events, io->arg);
	}
	l->nevents = 0;
}

void
loop_turn(struct loop *l, usec_t most)
{
	l->now = clock_mono();
	l->nevents = epoll_wait(l->epfd, l->events, EVENTS_A_TURN, wait_ms(l, most));
	if (l->nevents < 0) {
		if (errno != EINTR) {
			log_errno(LOG_LVL_ERROR, "net", "epoll_wait");
			log_fatal("net", "the event loop is out of order");
		}
		l->nevents = 0;
	}
	l->now = clock_mono();
	run_ready(l);
	run_timers(l);
	run_later(l);
	for (unsigned i = 0; i < l->nhooks; i++)
		l->hooks[i].fn(l->hooks[i].arg);
	run_later(l); /* what the hooks began: else a wait of no time would come before it */
}

void
loop_run(struct loop *l)
{
	l->stopping = false;
	while (!l->stopping)
		loop_turn(l, HEARTBEAT_MS * USEC_PER_MS);
}
