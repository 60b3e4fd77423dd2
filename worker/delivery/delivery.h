/* delivery.h - mail on its way out: queues that this worker owns, to the hosts that take it
 * Takes due messages from the owner (spool_owner.h), finds the next hop (router), speaks SMTP to it (client) and writes
 * what became of it. No route, limit or deadline is stored: all are computed at each attempt from the configuration of
 * that moment. Order that must hold, and where: the attempt record is synced before the final dot leaves; the outcome
 * record is synced before its log line is written; a final failure and the notice that it makes are one record.
 * Owner: the worker. Thread: loop. */
#ifndef WORKER_DELIVERY_DELIVERY_H
#define WORKER_DELIVERY_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"
#include "spool/spool_record.h"

struct conf;
struct delivery;
struct eclog;
struct loop;
struct policy;
struct resolver;
struct shm_area;
struct shm_limits;
struct spool;
struct spool_owner;

/* A message that delivery made; slices hold during the call. */
struct delivery_made {
	uint64_t id;
	struct place place;
	uint16_t item;
	uint8_t priority;
	int64_t due; /* real time; 0: at once */
	struct slice binding, domain;
	uint64_t size;
	int64_t received_at; /* real time */
};

/* Borrowed until delivery_free, all of it. */
struct delivery_env {
	struct loop *loop;
	struct conf *conf;
	struct spool *spool;
	struct spool_owner *owner;
	struct resolver *resolver;
	struct policy *policy; /* NULL: generated messages pass no phase (tests) */
	struct eclog *log;     /* NULL: no log lines */
	struct shm_area *area;
	struct shm_limits *limits;
	int slot;
	unsigned workers; /* that share max_resident_messages; 0 counts as 1 */
	/* Addresses of our own SMTP listeners, wildcards as they are: a next hop among them is a loop. */
	const struct sockaddr_storage *own;
	size_t own_n;
	/* A notice of ours is on disk: its queue's owner is to hear of it, as of any new message. */
	void (*made)(void *arg, const struct delivery_made *m);
	/* Nothing is in work any more after a drain. NULL: nobody asks. */
	void (*drained)(void *arg);
	void *arg;
	/* Each event of an attempt, for `make run`; NULL for none. */
	void (*trace)(void *arg, uint64_t id, const char *event, struct slice text);
	void *trace_arg;
};

/* Starts taking work from the owner at the end of this loop turn. Copies env. */
struct delivery *delivery_new(const struct delivery_env *env);
/* No new work is taken; transactions under way are finished; idle connections say QUIT. */
void delivery_drain(struct delivery *d);
/* Whether nothing is in work any more (no attempt open, every outcome synced). */
bool delivery_idle(const struct delivery *d);
/* Closes all connections as they are: what is in work is in doubt for who comes after. NULL inside is fine. */
void delivery_free(struct delivery **d);

/* A new revision: from the next attempt on. Borrowed like env.conf; the old one must hold until then. */
void delivery_set_conf(struct delivery *d, struct conf *conf);

struct delivery_counts {
	uint32_t connections; /* open or being opened */
	uint32_t idle;        /* of these, waiting for mail */
	uint32_t in_work;     /* messages taken from the owner, without a synced outcome */
	uint32_t resolving;   /* of these, waiting for DNS */
};
void delivery_counts(const struct delivery *d, struct delivery_counts *out);

/* What holds this message, or the queue as a whole, as far as delivery and its limits go: holds (worker/ask.h), in no
 * order, appended to out. found: what the owner says of it. */
struct ask_why;
struct owner_found;
void delivery_why(struct delivery *d, const struct ask_why *w, const struct owner_found *found, struct bytes *out);
/* One line a host that is being avoided, and one a connection of this domain, as text for the console. */
void delivery_describe(const struct delivery *d, struct slice domain, struct bytes *out);

#endif
