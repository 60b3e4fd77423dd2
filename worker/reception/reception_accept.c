/* Accepting: few a turn, and no more than the others have. The workers share the listening sockets (EPOLLEXCLUSIVE wakes
 * one or two for a connection); without more, the first to wake takes nearly all. So a worker whose sessions are
 * well above the mean stops listening, before the next connection comes: one that had been woken for it and then left it
 * alone would have used up the wake-up of the others. While it stands back it looks now and then whether something has
 * been left lying, because the rest are busy or gone, and takes that. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "worker/net/stream.h"
#include "worker/reception/reception_int.h"

enum {
	ACCEPTS_A_TURN = 4,
	LOOK_MS = 3, /* standing back: the first look, then twice as late each time */
	LOOK_MAX_MS = 100,
	STUCK_MS = 100, /* no descriptor, no memory: try again then */
	STUCK_LINE_SECONDS = 60,
	DESCRIPTORS_KEPT = 192, /* for the spool, logs, the way out */
	AHEAD_MIN = 2,          /* sessions above the mean that nobody minds */
	AHEAD_PART = 16,        /* and one part in so many of the mean */
};

#define WINDOW USEC_PER_SEC /* of what counts as lately */

static void look(void *arg);
static void on_connection(struct ev_io *io, uint32_t events, void *arg);

static void
listen_on(struct reception *r)
{
	if (r->listening || r->draining)
		return;
	r->listening = true;
	for (size_t i = 0; i < r->ndoors; i++)
		loop_io_add(r->env.loop, &r->doors[i].io, r->doors[i].fd, EPOLLIN | EPOLLEXCLUSIVE, on_connection,
			    &r->doors[i]);
}

static void
listen_off(struct reception *r)
{
	r->listening = false;
	for (size_t i = 0; i < r->ndoors; i++)
		loop_io_del(r->env.loop, &r->doors[i].io);
}

static void
stand_back(struct reception *r, unsigned ms)
{
	if (r->draining)
		return;
	listen_off(r);
	r->look_ms = ms;
	loop_timer_set(r->env.loop, &r->back, loop_now(r->env.loop) + ms * USEC_PER_MS, look, r);
}

static size_t
descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	return limit.rlim_cur > INT32_MAX ? INT32_MAX : (size_t)limit.rlim_cur;
}

/* A listener on one address accepts on that address; one on all of them has to ask each connection. */
static bool
is_wild(const struct sockaddr_storage *ss)
{
	if (ss->ss_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)ss)->sin_addr.s_addr == htonl(INADDR_ANY);
	if (ss->ss_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)(const void *)ss)->sin6_addr);
	return false;
}

static void
door_prepare(struct reception_door *door)
{
	socklen_t n = sizeof door->addr;

	stream_listen(door->fd);
	door->wild = getsockname(door->fd, (struct sockaddr *)&door->addr, &n) != 0 || is_wild(&door->addr);
}

void
accept_start(struct reception *r)
{
	size_t fds = descriptors();

	r->max_sessions = fds > (size_t)2 * DESCRIPTORS_KEPT ? fds - DESCRIPTORS_KEPT : fds / 2;
	if (r->ndoors > 0)
		log_info("esmtp", "at most %zu sessions in this worker (descriptor limit %zu)", r->max_sessions, fds);
	for (size_t i = 0; i < r->ndoors; i++)
		door_prepare(&r->doors[i]);
	listen_on(r);
}

void
accept_stop(struct reception *r)
{
	listen_off(r);
	loop_timer_stop(r->env.loop, &r->back);
}

/* A worker that serves in my generation, me included. */
static bool
is_one_of_us(const struct slot_who *me, const struct slot_who *who)
{
	return who->role == me->role && who->generation == me->generation && who->state == SLOT_SERVING;
}

/* What this slot's worker has accepted since the window began; one that is new to us begins with nothing. */
static int64_t
lately(struct reception *r, int i, uint64_t writer)
{
	struct accept_seen *seen = &r->seen[i];
	int64_t n = slot_get(shm_slot(r->env.area, i), CELL_CONNECTIONS_IN);

	if (seen->writer != writer || seen->window != r->window) {
		seen->writer = writer;
		seen->window = r->window;
		seen->n = n;
	}
	return n - seen->n;
}

static bool
above(int64_t mine, int64_t all, unsigned workers)
{
	int64_t mean = all / workers;

	return mine > mean + AHEAD_MIN + mean / AHEAD_PART;
}

/* Of the sessions that there are, or of those that came lately: of thousands that idle I may have some hundreds less,
 * and must not be given all of the next fifty for that. */
static bool
well_above_mean(struct reception *r)
{
	int64_t sessions = 0, came = 0, mine = 0;
	unsigned workers = 0;
	struct slot_who me, who;

	if (r->slot == NULL || !slot_who(r->slot, &me))
		return false;
	r->window = loop_now(r->env.loop) / WINDOW;
	for (int i = 0; i < SLOTS_MAX; i++) {
		int64_t theirs;

		if (!slot_who(shm_slot(r->env.area, i), &who) || !is_one_of_us(&me, &who))
			continue;
		theirs = lately(r, i, who.writer);
		if (who.writer == me.writer)
			mine = theirs;
		sessions += slot_get(shm_slot(r->env.area, i), CELL_SESSIONS_IN);
		came += theirs;
		workers++;
	}
	return workers >= 2 && (above((int64_t)r->nsessions, sessions, workers) || above(mine, came, workers));
}

/* accept failed. True: nobody is there, or only this one connection was lost. */
static bool
harmless(int error)
{
	return error == EAGAIN || error == EINTR || error == ECONNABORTED || error == EPROTO || error == EPERM;
}

static void
stuck(struct reception *r)
{
	usec_t now = loop_now(r->env.loop);

	if (r->told_at == 0 || now - r->told_at > STUCK_LINE_SECONDS * USEC_PER_SEC) {
		r->told_at = now;
		log_errno(LOG_LVL_ERROR, "esmtp", "cannot accept connections, %zu sessions are open", r->nsessions);
	}
	stand_back(r, STUCK_MS);
}

static bool
accept_one(struct reception_door *door)
{
	struct sockaddr_storage peer = { 0 }, local = door->addr;
	socklen_t peer_len = sizeof peer, local_len = sizeof local;
	int fd = accept4(door->fd, (struct sockaddr *)&peer, &peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (!harmless(errno))
			stuck(door->r);
		return false;
	}
	if (door->wild)
		(void)getsockname(fd, (struct sockaddr *)&local, &local_len);
	reception_take(door->r, fd, door->conf_index, (struct sockaddr *)&peer, (struct sockaddr *)&local);
	return true;
}

/* What nobody else has come for. */
static bool
take_leftovers(struct reception *r)
{
	bool took = false;

	for (size_t i = 0; i < r->ndoors; i++)
		took = accept_one(&r->doors[i]) || took;
	return took;
}

static void
look(void *arg)
{
	struct reception *r = arg;
	unsigned next = r->look_ms * 2 < LOOK_MAX_MS ? r->look_ms * 2 : LOOK_MAX_MS;

	if (take_leftovers(r))
		next = LOOK_MS;
	if (ev_timer_armed(&r->back))
		return;
	if (well_above_mean(r))
		stand_back(r, next);
	else
		listen_on(r);
}

static void
on_connection(struct ev_io *io, uint32_t events, void *arg)
{
	struct reception_door *door = arg;
	struct reception *r = door->r;

	(void)io;
	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN && r->listening && accept_one(door); i++)
		if (well_above_mean(r))
			stand_back(r, LOOK_MS);
}
