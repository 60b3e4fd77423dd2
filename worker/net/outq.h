/* outq.h - bytes on their way out of a stream: copied or borrowed pieces, in order
 * All zero but initialised by outq_init is an empty one; an empty one holds no memory. Small copies are gathered in one
 * piece. A borrowed piece is released exactly once: when all of it was taken, or when the queue is dropped. One thread,
 * no errors. */
#ifndef WORKER_NET_OUTQ_H
#define WORKER_NET_OUTQ_H

#include <stddef.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "shm/base/bytes.h"

struct outq_piece;
struct outq {
	STAILQ_HEAD(, outq_piece) pieces;
	struct outq_piece *last; /* NULL when there is none */
	size_t pending;          /* bytes in all of them */
};

void outq_init(struct outq *q);
void outq_copy(struct outq *q, struct slice bytes);
void outq_borrow(struct outq *q, struct slice bytes, void (*release)(void *arg), void *arg);
/* Fills at most n vectors from the front; gives how many. */
int outq_gather(const struct outq *q, struct iovec *v, int n);
/* The first n bytes are gone. */
void outq_taken(struct outq *q, size_t n);
/* Forgets everything. */
void outq_drop(struct outq *q);

#endif
