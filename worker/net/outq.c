#include "worker/net/outq.h"

#include <stdlib.h>

#include "shm/base/mem.h"

enum { PIECE_BYTES = 2048 }; /* smallest piece that copies are gathered in */

/* Our own bytes behind it (cap > 0), or borrowed ones. */
struct outq_piece {
	STAILQ_ENTRY(outq_piece) link;
	struct slice left; /* not yet taken */
	size_t cap;        /* of data; 0: borrowed */
	void (*release)(void *arg);
	void *arg;
	char data[];
};

void
outq_init(struct outq *q)
{
	STAILQ_INIT(&q->pieces);
	q->last = NULL;
	q->pending = 0;
}

static void
append(struct outq *q, struct outq_piece *p)
{
	STAILQ_INSERT_TAIL(&q->pieces, p, link);
	q->last = p;
}

static void
drop_first(struct outq *q, struct outq_piece *first)
{
	STAILQ_REMOVE_HEAD(&q->pieces, link);
	if (q->last == first)
		q->last = NULL;
	if (first->release != NULL)
		first->release(first->arg);
	free(first);
}

static struct outq_piece *
new_piece(struct outq *q, size_t least)
{
	size_t cap = least > PIECE_BYTES ? least : PIECE_BYTES;
	struct outq_piece *p = mem_alloc(sizeof *p + cap);

	*p = (struct outq_piece){ .left = { p->data, 0 }, .cap = cap };
	append(q, p);
	return p;
}

/* Bytes of p's data that are in use, taken ones included. */
static size_t
used(const struct outq_piece *p)
{
	return (size_t)(p->left.p - p->data) + p->left.n;
}

void
outq_copy(struct outq *q, struct slice bytes)
{
	struct outq_piece *p = q->last;

	if (bytes.n == 0)
		return;
	if (p == NULL || p->cap == 0 || p->cap - used(p) < bytes.n)
		p = new_piece(q, bytes.n);
	memcpy(p->data + used(p), bytes.p, bytes.n);
	p->left.n += bytes.n;
	q->pending += bytes.n;
}

void
outq_borrow(struct outq *q, struct slice bytes, void (*release)(void *arg), void *arg)
{
	struct outq_piece *p = mem_zalloc(sizeof *p);

	p->left = bytes;
	p->release = release;
	p->arg = arg;
	append(q, p);
	q->pending += bytes.n;
}

int
outq_gather(const struct outq *q, struct iovec *v, int n)
{
	struct outq_piece *p;
	int i = 0;

	STAILQ_FOREACH (p, &q->pieces, link) {
		if (i == n)
			break;
		v[i].iov_base = (void *)(uintptr_t)p->left.p;
		v[i].iov_len = p->left.n;
		i++;
	}
	return i;
}

void
outq_taken(struct outq *q, size_t n)
{
	struct outq_piece *p;

	q->pending -= n;
	while ((p = STAILQ_FIRST(&q->pieces)) != NULL && n >= p->left.n) {
		n -= p->left.n;
		drop_first(q, p);
	}
	if (p != NULL) {
		p->left.p += n;
		p->left.n -= n;
	}
}

void
outq_drop(struct outq *q)
{
	struct outq_piece *p;

	while ((p = STAILQ_FIRST(&q->pieces)) != NULL)
		drop_first(q, p);
	q->pending = 0;
}
