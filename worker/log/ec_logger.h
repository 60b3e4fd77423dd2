/* ec_logger.h - mainlog, rejectlog and paniclog, in the line formats of Momentum's ec_logger
 * A line is built on the loop thread and handed to a writer that runs elsewhere (the reading thread): a log disk that
 * is full or slow costs log lines, counted, never mail or speed. Lines leave in whole lines only, by O_APPEND writes,
 * so the lines of several workers never mix. Control characters in what a peer said are made visible; in mainlog fields
 * before the last, '@' and '\' get a backslash.
 * Owner: the role; one struct eclog a process. Descriptors are the master's gift: taken here, closed when replaced.
 * Threads: eclog_panic_line may be called by every thread, all else by the loop thread.
 * Errors: none come back; what could not be written is counted (eclog_lost) and told in the paniclog once it can be. */
#ifndef WORKER_LOG_EC_LOGGER_H
#define WORKER_LOG_EC_LOGGER_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/log.h"

struct eclog;

enum eclog_file { ECLOG_MAIN, ECLOG_REJECT, ECLOG_PANIC, ECLOG_FILES };

/* Runs job(job_arg) on another thread, once: at once when it is urgent (the paniclog), else within some milliseconds, so
 * that many lines share a write. Called by the thread that made the struct eclog only; the few lines of other threads
 * are written by them. */
typedef void eclog_run(void *arg, bool urgent, void (*job)(void *job_arg), void *job_arg);

struct eclog_conf {
	int fd[ECLOG_FILES]; /* -1: not written */
	bool receptions, deliveries, transient_failures, permanent_failures, rejections, errors;
	bool panic_to_stderr; /* -f: panic lines are copied there */
	size_t backlog;       /* bytes that may wait a file; 0 = 4 MiB */
	eclog_run *run;       /* NULL: lines are written at once, by the caller */
	void *run_arg;
};

struct eclog *eclog_new(const struct eclog_conf *conf);
/* Writes what waits, closes the descriptors, clears the caller's pointer. NULL inside is fine. */
void eclog_free(struct eclog **l);
/* New descriptors after a reopen; -1 keeps the old one. Takes them. */
void eclog_reopen(struct eclog *l, const int fd[ECLOG_FILES]);
/* Lines made since the start, over all files that are written ... */
uint64_t eclog_lines(const struct eclog *l);
/* ... and those of them that were lost. */
uint64_t eclog_lost(const struct eclog *l);
/* The present descriptor, still the log's; -1: not written. */
int eclog_fd(const struct eclog *l, enum eclog_file file);
/* Writes what waits, here and now: before a drain ends, and in tests. */
void eclog_flush(struct eclog *l);

/* Ids are in their text form. All slices are borrowed for the call. Times are real time. */
struct eclog_reception {
	usec_t now;
	const char *id, *batch, *conn;
	struct slice rcpt_local, rcpt_domain, from_local, from_domain;
	struct slice peer_ip; /* "unknown" when there is none */
	uint64_t size;
	struct slice protocol; /* esmtp, internal ... */
	struct slice group, binding;
};
void eclog_log_reception(struct eclog *l, const struct eclog_reception *r);

struct eclog_delivery {
	usec_t now;
	const char *id, *batch, *conn; /* conn: the outbound connection, new each attempt */
	struct slice domain;           /* destination (routing) domain */
	uint64_t size;                 /* D: of the message; T, P: sent before the failure */
	struct slice group, binding;
	unsigned retries;  /* before this attempt */
	unsigned stage;    /* T, P: connection stage 0..22 */
	usec_t queued;     /* time since reception */
	struct slice ip;   /* remote; may be empty */
	struct slice text; /* T, P: the reply */
};
void eclog_log_delivery(struct eclog *l, const struct eclog_delivery *d);
void eclog_log_transient(struct eclog *l, const struct eclog_delivery *d);
void eclog_log_permanent(struct eclog *l, const struct eclog_delivery *d);

struct eclog_rejection {
	usec_t now;
	struct slice remote, local; /* "ip:port" */
	const char *conn;
	struct slice pathway, pathway_group; /* empty: default */
	struct slice phase;                  /* "awaiting mailfrom", "reading body" ... */
	unsigned code;
	struct slice module;             /* what ran last: scriptlet, esmtp ... */
	struct slice ctx_conn, ctx_mess; /* as eclog_context built them */
	struct slice text;               /* reply text without the code */
};
void eclog_log_rejection(struct eclog *l, const struct eclog_rejection *r);
/* Adds "k=v" to a list for CTXCONN or CTXMESS; values with a blank, comma, quote or bracket are quoted. */
void eclog_context(struct bytes *list, struct slice key, struct slice value);

/* The marks that rotation tools look for; one process a service calls it. */
void eclog_heartbeat(struct eclog *l, usec_t now);

/* A log_sink: log_set_sink(eclog_panic_line, l). */
void eclog_panic_line(void *l, enum log_level level, const char *line, size_t n);

#endif
