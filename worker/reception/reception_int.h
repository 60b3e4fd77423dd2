/* reception_int.h - what the files of reception share: the worker's sessions, listeners and pools */
#ifndef WORKER_RECEPTION_RECEPTION_INT_H
#define WORKER_RECEPTION_RECEPTION_INT_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "policy/conf/conf.h"
#include "shm/shm_area.h"
#include "worker/net/loop.h"
#include "worker/reception/reception.h"

struct esmtp;
struct esmtp_cmd;

struct reception_door {
	struct reception *r;
	struct ev_io io;
	int fd;
	unsigned conf_index;
	bool wild; /* bound to every address */
	struct sockaddr_storage addr;
};

/* Connections that a slot's worker had accepted when the window began. */
struct accept_seen {
	uint64_t writer;
	usec_t window;
	int64_t n;
};

struct reception {
	struct reception_env env;
	struct reception_policy ask;
	struct shm_slot *slot; /* NULL: no area */
	struct reception_door *doors;
	size_t ndoors;
	bool listening, draining, stopping, told;
	struct ev_timer back; /* looks again while it stands back */
	unsigned look_ms;     /* after so long */
	struct accept_seen seen[SLOTS_MAX];
	usec_t window; /* number of the present one */
	struct ev_later drain;
	TAILQ_HEAD(, esmtp) sessions;
	size_t nsessions, max_sessions;
	size_t in_flight;               /* transactions at the spool, with or without a session */
	int64_t content;                /* bytes of content in memory, see reception_memory.c */
	STAILQ_HEAD(, esmtp_cmd) spare; /* commands to be used again */
	size_t nspare;
	usec_t told_at; /* of the last line about accept failing: one a minute */
};

/* reception_accept.c */
void accept_start(struct reception *r);
void accept_stop(struct reception *r);

/* reception_memory.c */
/* More content may be taken into memory. */
bool reception_room(const struct reception *r);
/* So many bytes of content are in memory now; negative: they are not any more. */
void reception_hold(struct reception *r, int64_t n);

/* reception.c */
static inline void
reception_count(struct reception *r, enum cell c, int64_t n)
{
	if (r->slot != NULL)
		slot_add(r->slot, c, n);
}
/* The last session and the last transaction may have gone: tells who waits for it. */
void reception_check_drained(struct reception *r);

/* esmtp_session.c */
/* Takes fd. */
void esmtp_new(struct reception *r, int fd, unsigned conf_index, const struct sockaddr *peer,
	       const struct sockaddr *local);
/* To be told 421 at its next MAIL or RSET; one that is between transactions when `now` is told at once. */
void esmtp_drain(struct esmtp *s, bool now);
void esmtp_kill(struct esmtp *s);

#endif
