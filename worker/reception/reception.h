/* reception.h - the SMTP server of one worker: from accept to the 250 that the spool's proof allows
 * reception_new begins to accept on the listeners it is given; reception_drain stops accepting, and sessions end with
 * 421 at their next MAIL or RSET (running transactions are finished first); reception_stop ends them with 421 now.
 * What it uses of other floors comes in by the env: policy is asked through `ask`, mail goes to disk through
 * `store`, both rows of functions, so that tests put others in their place. 250 after the final dot is written by the
 * function that is handed the spool's proof and by no other.
 * Owner: the worker role. Thread: the loop's. Errors never leave: a peer's mistake is a reply, a fault of ours 4xx. */
#ifndef WORKER_RECEPTION_RECEPTION_H
#define WORKER_RECEPTION_RECEPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"

struct conf;
struct eclog;
struct loop;
struct policy;
struct policy_run;
struct reception;
struct shm_area;
struct shm_limits;
struct spool_proof;

struct reception_listener {
	int fd;              /* listening, non-blocking; stays the caller's */
	unsigned conf_index; /* which listen scope of the configuration */
};

/* One message of a mail as it goes to disk: a recipient's, or a notice of ours about recipients that were refused after
 * the final dot. */
struct reception_mail_item {
	uint64_t id;
	struct slice sender, rcpt;
	struct slice header, body; /* used when `own_...`, else the mail's */
	bool own_header, own_body;
	bool generated; /* a notice: null sender, both its own */
	bool eightbit;
	uint8_t priority;
	usec_t due;                         /* real; not tried before then, 0: at once */
	struct slice binding;               /* name, never empty */
	struct slice domain;                /* routing domain, lower case; the queue is (binding, domain) */
	struct slice conn_context, context; /* dictionaries, packed; equal slices become one blob; may be empty */
};

/* One mail transaction: one record. Slices are borrowed until submit returns. */
struct reception_mail {
	uint64_t batch, conn;
	usec_t received_at;  /* real */
	struct slice peer;   /* "ip:port" */
	struct slice header; /* shared, our Received field on top */
	struct slice body;   /* shared; not used when large is set */
	void *large;         /* a streamed body, see body_new */
	uint64_t large_size;
	bool utf8, nul; /* SMTPUTF8 asked for; NUL bytes seen */
	const struct reception_mail_item *items;
	size_t n;
};

typedef void reception_done_fn(void *arg, enum err e, const struct spool_proof *proof);

/* The spool as reception sees it: spool.h's promises, row by row (reception_spool.h makes one of a struct spool). */
struct reception_store {
	/* false: new mail is answered 452 at MAIL and DATA. */
	bool (*accepting)(void *arg);
	/* Content has begun to come; a whole message follows, most likely at once. */
	void (*expect)(void *arg);
	/* Ids of connections, batches and messages: never repeat, never go back. */
	uint64_t (*new_id)(void *arg);
	/* A body that is too large for memory, written as it arrives. */
	void *(*body_new)(void *arg, void (*room)(void *room_arg), void *room_arg);
	/* OK; ERR_AGAIN: taken, but stop reading until room() is called; ERR_FULL, ERR_IO: it has failed. */
	enum err (*body_append)(void *body, struct slice bytes);
	/* Complete: ready is called with all its bytes readable in fd at *off, or with an error. */
	void (*body_written)(void *body, void (*ready)(void *ready_arg, enum err e, int fd, uint64_t off),
			     void *ready_arg);
	void (*body_free)(void *body);
	/* Takes mail->large in every case; borrows all else until it returns. OK: done is called on the loop, later. */
	enum err (*submit)(void *arg, struct reception_mail *mail, reception_done_fn *done, void *done_arg);
	void *arg;
};

/* Policy as reception sees it: policy_run, policy_cancel of policy/policy.h. */
struct reception_policy {
	enum err (*run)(struct policy_run *r);
	void (*cancel)(struct policy_run *r);
};

struct reception_env {
	struct loop *loop;
	struct conf *conf;         /* borrowed until reception_free; an immutable one, but it remembers views */
	struct policy *policy;     /* borrowed likewise */
	struct shm_area *area;     /* gauges, counters, finger; NULL: none kept (tests) */
	struct shm_limits *limits; /* NULL: session limits are not kept (tests) */
	int slot;
	struct eclog *log; /* NULL: no mainlog and rejectlog lines (tests) */
	const struct reception_store *store;
	const struct reception_policy *ask;         /* NULL: policy_run and policy_cancel themselves */
	const struct reception_listener *listeners; /* copied */
	size_t nlisteners;
	/* The peer was convicted (its bytes killed workers) and is answered 421 for now. NULL: nobody is. */
	bool (*refused_peer)(void *arg, const struct sockaddr *peer);
	/* The last session of a drain has ended. NULL: nobody asks. */
	void (*drained)(void *arg);
	void *arg;
};

struct reception *reception_new(const struct reception_env *env);
/* Drops all sessions. Clears the caller's pointer; NULL inside is fine. */
void reception_free(struct reception **r);

/* Stops accepting for good; sessions are answered 421 with reconfig_message at MAIL and RSET, idle ones when their
 * next command comes or after idle_time. env.drained is called from the loop once none is left. */
void reception_drain(struct reception *r);
/* Answers 421 to every session that has no message on its way to disk, and closes it; those finish first. */
void reception_stop(struct reception *r);
size_t reception_sessions(const struct reception *r);

/* Starts a session on a connected socket, as accept would: tests and `make run`. Takes fd. */
void reception_take(struct reception *r, int fd, unsigned conf_index, const struct sockaddr *peer,
		    const struct sockaddr *local);

#endif
