/* delivery_int.h - what the files of delivery share
 * delivery.c: the worker's object and the owner's questions. delivery_queue.c: a queue at work: how many messages are
 * taken, how many connections opened. delivery_conn.c: one connection, from route to QUIT. delivery_way.c: which queues
 * a connection at rest can serve. delivery_permit.c: what a connection must be allowed by. delivery_job.c: one message
 * from take to outcome. delivery_outcome.c: what an answer means, and the record of it. delivery_bounce.c: the notice.
 * delivery_log.c: log lines and counters. delivery_why.c: what holds a message, for the console. */
#ifndef WORKER_DELIVERY_DELIVERY_INT_H
#define WORKER_DELIVERY_DELIVERY_INT_H

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "policy/conf/conf.h"
#include "shm/shm_counters.h"
#include "spool/sched.h"
#include "spool/spool.h"
#include "spool/spool_owner.h"
#include "worker/delivery/delivery.h"
#include "worker/delivery/host_memory.h"
#include "worker/delivery/route.h"
#include "worker/delivery/smtp_client.h"
#include "worker/net/loop.h"

enum {
	JOBS_MAX = 4096,       /* messages taken, of all queues of a worker */
	CONNS_UNLIMITED = 512, /* what max_outbound_connections = -1 means for one queue */
	CONNS_MAX = 20000,     /* of a worker, below its descriptors */
	PROBES = 2,            /* connections begun to a domain that has not yet answered */
	TAKE_BATCH = 16,       /* messages taken at a time */
	CHUNK = 64 * 1024,     /* of a body that is a file */
};

#define TEXT_TOO_OLD "554 5.4.7 [internal] exceeded max time without delivery"
#define TEXT_PURGED  "554 5.7.0 [internal] Message manually purged"

struct job;
struct dconn;
struct way;
RB_HEAD(ways, way);

struct dqueue {
	struct delivery *d;
	struct owner_queue *oq;
	struct slice binding, domain;
	const struct conf_view *view; /* of view_of; found anew when the configuration is another */
	const struct conf *view_of;
	uint64_t permit;           /* limit key of its connections */
	uint64_t permit_binding;   /* and of all of its binding */
	TAILQ_HEAD(, job) waiting; /* loaded, in the order of their turn */
	TAILQ_HEAD(, dconn) idle;  /* the latest used first */
	TAILQ_HEAD(, dconn) conns;
	unsigned in_hand; /* jobs, errands left out */
	unsigned errands;
	unsigned nwaiting, nconns, nidle, nconnecting;
	unsigned greeted;      /* of nconns: answered our EHLO */
	bool proven;           /* a connection has stood, and none has failed since */
	usec_t wait_until;     /* no taking before (loop time) */
	usec_t soft_until;     /* the host refuses more connections than there are */
	struct ev_timer retry; /* for a permit */
	bool starved;          /* stands in line for one that queues share */
	uint8_t refused;       /* enum permit: which one was refused last */
	unsigned refusals;     /* in a row, while there was no connection at all */
	TAILQ_ENTRY(dqueue) link, starved_link;
};

struct dconn {
	struct dqueue *q;
	struct route_search *search;
	struct smtp_client *client;
	struct way *way; /* of the client; NULL before there is one */
	struct job *job;
	msgid_t id;
	unsigned nhops, hop;
	struct route_hop *hops;                  /* names behind them, one block */
	bool is_idle, was_greeted, refused_only; /* refused_only: every host said 5xx */
	bool unbound;                            /* failure says why our own address cannot be used */
	unsigned tried;
	unsigned permits;       /* taken: bits of enum permit */
	usec_t since;           /* real: it was begun, or its present host was */
	char remote[HOST_TEXT]; /* with port */
	char ip[HOST_TEXT];     /* without */
	struct bytes failure;   /* of the last host: code and text */
	enum smtp_stage failure_stage;
	TAILQ_ENTRY(dconn) link, idle_link, way_link, rest_link;
};

/* A piece of a body on its way from a file. While busy the reading thread uses it, so it outlives its job then. */
struct feed {
	struct job *job;           /* NULL: gone meanwhile */
	struct spool_fetched *got; /* the job's; ours when it is gone */
	uint64_t at;               /* bytes of the body read so far */
	size_t want, n;
	enum err why;
	bool busy;
	char chunk[CHUNK];
};

enum job_state {
	JOB_LOADING,  /* its bytes are being fetched */
	JOB_WAITING,  /* for a connection */
	JOB_SENDING,  /* on one */
	JOB_SETTLING, /* its outcome is on its way to the disk */
};

struct settled {
	enum outcome_kind kind;
	enum smtp_stage stage;
	struct bytes text;   /* code and text */
	struct bytes detail; /* for the notice: more than text says; empty: text */
	bool remote_said;    /* text is the far side's */
	bool notice;         /* a DSN is due if the sender can be told */
	usec_t next_due;
	char remote[HOST_TEXT];
	char ip[HOST_TEXT];
	char host[DNS_NAME_MAX];
	uint64_t sent;
	msgid_t conn;
};

struct job {
	struct delivery *d;
	struct dqueue *q;
	struct owner_msg *m;
	enum job_state state;
	struct spool_fetch *fetch;
	struct spool_fetched *got;
	struct dconn *conn;
	bool errand;
	enum owner_errand what;
	struct bytes reason; /* of the errand */
	uint32_t n;          /* try number */
	usec_t since;        /* real: on its connection */
	uint64_t holds;      /* of the delivery's bytes */

	struct smtp_rcpt rcpt;
	struct smtp_mail mail;
	char notify[48];
	uint32_t body_crc;
	bool header_given;
	struct feed *feed; /* of a body that is a file */

	bool gate; /* owner_may_write has said true: an outcome is owed */
	bool attempt_synced;
	unsigned in_flight; /* records of ours without an answer */
	bool orphan;        /* freed, but for the answers that are still owed to it */
	struct settled out;
	struct ev_timer retry;
	struct bounce *bounce;
	TAILQ_ENTRY(job) link; /* waiting */
	TAILQ_ENTRY(job) all;
};

struct delivery {
	struct delivery_env env;
	struct sockaddr_storage *own;
	struct conf *conf;
	struct host_memory *hosts;
	struct route_env route_env;
	struct shm_slot *slot; /* NULL in tests */
	TAILQ_HEAD(, dqueue) queues;
	TAILQ_HEAD(, job) jobs;
	struct ways ways;
	TAILQ_HEAD(rested, dconn) rested; /* the latest used first */
	TAILQ_HEAD(, dqueue) starved;     /* wait for a permit that queues share */
	unsigned nstarved;
	struct ev_timer starved_retry;
	uint64_t permit_server; /* limit key of all connections */
	unsigned resident;      /* most messages in hand: this worker's share of max_resident_messages */
	uint64_t memory;        /* and most bytes of these, of max_resident_memory */
	unsigned njobs, nconns, resolving;
	uint64_t bytes; /* of messages in hand */
	uint64_t usual; /* of one, lately: what one that is being fetched is taken for */
	bool draining, full, drained_told;
	char system_name[256]; /* when hostname is not configured */
	struct ev_later room;
	usec_t told_bind; /* when the paniclog last heard of an address that is not ours; 0: never */
};

/* delivery.c */
const struct conf_view *delivery_view(struct delivery *d, struct dqueue *q);
/* Our name: EHLO, notices, "is this MX ourselves". */
const char *delivery_hostname(const struct delivery *d);
void delivery_count(struct delivery *d, enum cell c, int64_t n);
void delivery_trace(struct delivery *d, msgid_t id, const char *event, struct slice text);
/* A job or connection has ended: others may have waited for its room. */
void delivery_room(struct delivery *d);
/* Another message may be taken. */
bool delivery_has_room(const struct delivery *d);
/* At a new configuration. */
void delivery_read_bounds(struct delivery *d);
/* ss is empty (family 0) when `text` is "*"; false: it is no address. */
bool delivery_bind_address(const char *text, struct sockaddr_storage *ss);
/* Whether a socket can be bound to this address, whatever its port. False: errno says why not, 0 if no socket was to be
 * had to try it with. Right also when addresses come and go. */
bool delivery_can_bind(const struct sockaddr_storage *a);

/* delivery_queue.c */
struct dqueue *dqueue_of(struct delivery *d, struct owner_queue *oq);
void dqueue_free(struct dqueue *q);
/* Takes what there are hands for. False: a bound that all queues share is reached. */
bool dqueue_refill(struct dqueue *q);
/* A job is loaded. */
void dqueue_job_ready(struct dqueue *q, struct job *j);
void dqueue_job_gone(struct dqueue *q, struct job *j);
/* Opens connections for jobs that wait. */
void dqueue_connect(struct dqueue *q);
/* More connections are possible, or nothing waits for one: then a sync later costs no throughput. */
bool dqueue_has_time(struct dqueue *q);
struct job *dqueue_next(struct dqueue *q);
/* Every waiting job gets this answer. */
void dqueue_fail_waiting(struct dqueue *q, const struct dconn *c, enum smtp_stage stage, struct slice text);
/* Whether its limits leave room for two workers, and nothing holds it off. */
bool dqueue_may_share(struct dqueue *q);
/* It has more connections than its part of those that it shares with another worker. */
bool dqueue_too_many(struct dqueue *q);
/* No connection to be had, and the mail is borrowed: it goes back, for its owner to judge. False: it is our own. */
bool dqueue_give_back(struct dqueue *q);
/* They go back to the owner, untried, and nothing is taken before then (loop time). */
void dqueue_hold_off(struct dqueue *q, usec_t until);
/* The bucket of outbound_throttle_messages. */
uint64_t delivery_throttle_key(const struct conf_view *v);

/* delivery_permit.c */
enum permit { PERMIT_QUEUE, PERMIT_BINDING, PERMIT_SERVER, PERMIT_ALL };
struct permits {
	struct {
		uint64_t key; /* 0: there is no such limit */
		uint32_t most;
	} of[PERMIT_ALL];
};
/* What holds for a connection of this queue now. */
void permits_of(struct dqueue *q, struct permits *p);
/* One of each, noted in *taken. PERMIT_ALL: it may be opened; else which one was refused, and nothing is taken: for a
 * limit that queues share the queue then stands in line. */
enum permit permits_take(struct dqueue *q, unsigned *taken);
void permits_give(struct dqueue *q, unsigned taken);
/* Out of the line. */
void permits_forget(struct dqueue *q);

/* delivery_conn.c */
struct dconn *dconn_new(struct dqueue *q);
void dconn_free(struct dconn *c);
/* It is idle, or will be: gives it the next job, or lets it idle. */
void dconn_serve(struct dconn *c);
void dconn_describe(const struct dconn *c, struct bytes *out);
/* What it is doing, in one word. */
const char *dconn_stage_text(const struct dconn *c);

/* delivery_way.c */
/* All that makes one connection as good as another, but for its queue. */
struct way_what {
	struct slice binding;
	const struct sockaddr_storage *local; /* family 0: any */
	const struct sockaddr_storage *remote;
	const char *ehlo;
	struct smtp_timeouts timeouts;
};
/* Found or made. way_leave gives it back; what nobody goes is forgotten. */
struct way *way_enter(struct delivery *d, const struct way_what *what);
void way_leave(struct delivery *d, struct way **w);
/* A connection begins, or ends, to be at rest on it. */
void way_rest(struct dconn *c);
void way_wake(struct dconn *c);
/* A limit that queues share is reached: what rests longest, on this binding (empty: on any), makes room for mail. */
void way_yield(struct delivery *d, struct slice binding);
/* One at rest, the latest used; NULL: there is none. */
struct dconn *way_rested(struct way *w);

/* delivery_job.c */
struct job *job_new(struct dqueue *q, struct owner_msg *m);
struct job *job_new_errand(struct dqueue *q, struct owner_msg *m, enum owner_errand what, struct slice reason);
void job_free(struct job *j);
/* Back to the owner: not tried, nothing written. */
void job_release(struct job *j, usec_t not_before);
void job_start(struct job *j, struct dconn *c);
void job_opened(struct job *j);
void job_want(struct job *j);
void job_answered(struct job *j, const struct smtp_result *r);
/* A record of this job has its answer. True: nobody is interested any more. */
bool job_landed(struct job *j);
/* The gate of the owner; true only once it was passed. */
bool job_gate(struct job *j);

/* delivery_outcome.c */
/* What an answer means. c may be NULL (no connection). */
void job_settle(struct job *j, const struct dconn *c, const struct smtp_result *r);
/* A final failure, or another end, without an answer of the far side. */
void job_end(struct job *j, enum outcome_kind kind, struct slice text, bool notice);
/* The outcome is decided (and the notice made): to the journal. */
void job_submit(struct job *j);
struct sched_retry delivery_retry(const struct conf_view *v);

/* delivery_bounce.c */
struct bounce;
/* Makes the notice and asks policy; then job_submit. May be called again after a failed one. */
void bounce_begin(struct job *j);
bool bounce_wanted(const struct job *j);
/* Adds the notice to the record: its item number. */
uint16_t bounce_add(struct bounce *b, struct spool_txn *txn);
/* It is on disk. */
void bounce_made(struct bounce *b, struct place place, uint16_t item);
void bounce_free(struct bounce **b);

/* delivery_log.c */
void log_outcome(const struct job *j);
void log_notice(const struct job *j, const struct spool_message *m);
void count_outcome(const struct job *j);

#endif
