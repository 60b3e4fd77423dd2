/* sink.h - the parts of the sink: sink.c reads options, forks and prints; sink_session.c speaks SMTP
 * It accepts all mail and throws it away, after it has looked whether each message is one that load made, is unaltered,
 * and is there for the first time. It can also misbehave, in one way at a time for each stage of the dialogue. */
#ifndef T_BENCH_SINK_H
#define T_BENCH_SINK_H

#include <sys/types.h>

#include "t/bench/wire.h"

enum sink_stage { STAGE_BANNER, STAGE_EHLO, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_DOT, STAGES };
enum { ANSWER_SILENT = 0, ANSWER_CLOSE = 1 }; /* instead of a code: no answer ever; the connection is closed */

struct sink_options {
	struct sockaddr_in at;
	uint64_t processes, every, latency, trickle, slow, max;
	int answer[STAGES];     /* -1: as it should */
	uint64_t share[STAGES]; /* each n-th time only */
	bool no_pipelining;
	int log_fd; /* -1: none */
};

struct sink_counts {
	count_t conns, open;
	count_t msgs, rcpts, bytes; /* answered 250 after the final dot; recipients of these; their size */
	count_t again;              /* recipients of messages that came before */
	count_t altered, foreign;   /* messages of load's, but not as sent; messages of others */
	count_t refused;            /* answers given because of -x */
	count_t cut;                /* connections that ended within a message */
	count_t odd;                /* commands that are none, or out of order */
	count_t first, last;        /* when the first and last came: monotonic, microseconds */
	count_t turn[STAGES];       /* for share */
};

/* Serves until stop is set. seen: a bit for each serial number, shared by all processes. */
void sink_run(const struct sink_options *opt, struct sink_counts *counts, count_t *seen, int listener, count_t *stop);

#endif
