/* load.h - the parts of the load generator: load.c reads options, forks and prints; load_session.c speaks SMTP
 * A message is a transaction with one or more recipients; all counts but tx and those of connections are of recipients.
 * Each recipient of a begun message ends in exactly one of ok, temp, perm, lost, or is unfinished when the time is up. */
#ifndef T_BENCH_LOAD_H
#define T_BENCH_LOAD_H

#include "t/bench/wire.h"

enum { LOAD_LATENCIES = 56 };

struct load_options {
	struct sockaddr_in to;
	uint64_t messages, seconds, sessions, bytes, processes, rcpts, domains, base, sources, pause, every, grace;
	const char *suffix, *from;
	bool one, pipeline, idle;
};

struct load_counts {
	count_t next;              /* the next message's first number */
	count_t stop;              /* not a count: set when no new message is to begin */
	count_t begun;             /* MAIL was said */
	count_t sent;              /* the final dot was sent */
	count_t ok, tx;            /* answered 2xx; the same in transactions */
	count_t temp, perm, lost;  /* refused 4xx, refused 5xx, the connection ended first */
	count_t conns, open, idle; /* sessions whose EHLO was answered; of those now open, now idle (-i) */
	count_t noconn, shut,
		ended;       /* no connection; refused at the banner, at EHLO or with 421; ended by the other side */
	count_t odd;         /* replies that are none, or that nothing had asked for */
	count_t first, last; /* when the first and the last was answered 2xx: monotonic, microseconds */
	count_t took[LOAD_LATENCIES]; /* final dot to 2xx: longest 2^(i/2) microseconds */
};

/* Runs sessions number first, first + step, ... below opt->sessions, until all is sent or stop is set and each has ended. */
void load_run(const struct load_options *opt, struct load_counts *counts, uint64_t first, uint64_t step);

#endif
