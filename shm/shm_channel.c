/* The channel of shm_request.h: packets in and out of one socket, and who waits for which answer. The master uses it
 * too, so memory is asked for with malloc and its lack is an error, not an end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/shm_request.h"

/* One that waits for the socket. Descriptors are copies of the channel's own. */
struct packet {
	STAILQ_ENTRY(packet) link;
	struct req_head head;
	int fds[REQ_FDS];
	unsigned nfds;
	char payload[];
};

/* A question of ours without its last answer. */
struct question {
	LIST_ENTRY(question) link;
	uint32_t seq;
	req_on_reply *on_reply; /* NULL: forgotten */
	void *arg;
};

struct req_channel {
	int fd;
	uint8_t self;
	uint32_t seq;
	size_t waiting; /* bytes in `out` */
	STAILQ_HEAD(, packet) out;
	LIST_HEAD(, question) questions;
	char in[sizeof(struct req_head) + REQ_PAYLOAD];
};

enum err
req_pair(int *master_end, int *child_end)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return ERR_IO;
	*master_end = fds[0];
	*child_end = fds[1];
	return OK;
}

struct req_channel *
req_channel_new(int fd, uint8_t self)
{
	struct req_channel *c = req_channel_try(fd, self);

	if (c == NULL)
		log_fatal("request", "no memory for a request channel");
	return c;
}

struct req_channel *
req_channel_try(int fd, uint8_t self)
{
	struct req_channel *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->fd = fd;
	c->self = self;
	STAILQ_INIT(&c->out);
	LIST_INIT(&c->questions);
	return c;
}

static void
packet_free(struct packet *p)
{
	for (unsigned i = 0; i < p->nfds; i++)
		close(p->fds[i]);
	free(p);
}

static void
drop_out(struct req_channel *c)
{
	struct packet *p;

	while ((p = STAILQ_FIRST(&c->out)) != NULL) {
		STAILQ_REMOVE_HEAD(&c->out, link);
		packet_free(p);
	}
	c->waiting = 0;
}

void
req_channel_free(struct req_channel **cp)
{
	struct req_channel *c = *cp;
	struct question *q;

	if (c == NULL)
		return;
	*cp = NULL;
	drop_out(c);
	while ((q = LIST_FIRST(&c->questions)) != NULL) {
		LIST_REMOVE(q, link);
		if (q->on_reply != NULL)
			q->on_reply(q->arg, ERR_EOF, slice_of(NULL, 0), false);
		free(q);
	}
	close(c->fd);
	free(c);
}

int
req_channel_fd(const struct req_channel *c)
{
	return c->fd;
}

bool
req_channel_wants_write(const struct req_channel *c)
{
	return !STAILQ_EMPTY(&c->out);
}

/* ---- sending ---- */

union fd_control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(REQ_FDS * sizeof(int))];
};

static void
attach_fds(struct msghdr *m, union fd_control *control, const int *fds, unsigned nfds)
{
	struct cmsghdr *c;

	memset(control, 0, sizeof(*control));
	m->msg_control = control->buf;
	m->msg_controllen = CMSG_SPACE(nfds * sizeof(int));
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
	memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
}

/* A packet goes whole or not at all. */
static enum err
send_now(int fd, const struct req_head *h, const char *payload, const int *fds, unsigned nfds)
{
	union fd_control control;
	struct req_head head = *h;
	struct iovec iov[2] = { { &head, sizeof(head) }, { NULL, h->len } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

	memcpy(&iov[1].iov_base, &payload, sizeof(payload)); /* not written to, but iovec does not say const */
	if (nfds > 0)
		attach_fds(&m, &control, fds, nfds);
	while (sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
			return ERR_AGAIN;
		return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? ERR_EOF : ERR_IO;
	}
	return OK;
}

static enum err
send_later(struct req_channel *c, const struct req_head *h, struct slice payload, const int *fds, unsigned nfds)
{
	size_t size = sizeof(struct packet) + payload.n;
	struct packet *p;

	if (c->waiting + size > REQ_QUEUE_MAX)
		return ERR_FULL;
	if ((p = malloc(size)) == NULL)
		return ERR_NOMEM;
	p->head = *h;
	if (payload.n > 0)
		memcpy(p->payload, payload.p, payload.n);
	for (p->nfds = 0; p->nfds < nfds; p->nfds++)
		if ((p->fds[p->nfds] = fcntl(fds[p->nfds], F_DUPFD_CLOEXEC, 0)) < 0) {
			packet_free(p);
			return ERR_IO;
		}
	STAILQ_INSERT_TAIL(&c->out, p, link);
	c->waiting += size;
	return OK;
}

enum err
req_send(struct req_channel *c, const struct req_head *h, struct slice payload, const int *fds, unsigned nfds)
{
	struct req_head head = *h;
	enum err e = ERR_AGAIN;

	require_that(payload.n <= REQ_PAYLOAD && nfds <= REQ_FDS, "request");
	head.len = (uint16_t)payload.n;
	if (STAILQ_EMPTY(&c->out))
		e = send_now(c->fd, &head, payload.p, fds, nfds);
	return e == ERR_AGAIN ? send_later(c, &head, payload, fds, nfds) : e;
}

enum err
req_channel_flush(struct req_channel *c)
{
	struct packet *p;
	enum err e;

	while ((p = STAILQ_FIRST(&c->out)) != NULL) {
		e = send_now(c->fd, &p->head, p->payload, p->fds, p->nfds);
		if (e == ERR_AGAIN)
			return OK;
		if (e != OK) {
			drop_out(c);
			return e;
		}
		STAILQ_REMOVE_HEAD(&c->out, link);
		c->waiting -= sizeof(*p) + p->head.len;
		packet_free(p);
	}
	return OK;
}

/* ---- receiving ---- */

static void
take_fds(struct msghdr *m, struct req_msg *out)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (out->nfds < REQ_FDS)
				out->fds[out->nfds++] = fd;
			else
				close(fd);
		}
	}
}

static void
close_fds(struct req_msg *m)
{
	for (; m->nfds > 0; m->nfds--)
		close(m->fds[m->nfds - 1]);
}

enum err
req_recv(struct req_channel *c, struct req_msg *m)
{
	union fd_control control;
	struct iovec iov = { c->in, sizeof(c->in) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf)
	};
	ssize_t n;

	m->nfds = 0;
	while ((n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		continue;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return ERR_AGAIN;
	if (n < 0)
		return errno == ECONNRESET ? ERR_EOF : ERR_IO;
	take_fds(&msg, m);
	if (n == 0 && m->nfds == 0)
		return ERR_EOF;
	if ((size_t)n >= sizeof(m->head))
		memcpy(&m->head, c->in, sizeof(m->head));
	if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || (size_t)n < sizeof(m->head) ||
	    m->head.len != (size_t)n - sizeof(m->head)) {
		close_fds(m);
		return ERR_SYNTAX;
	}
	m->payload = slice_of(c->in + sizeof(m->head), m->head.len);
	return OK;
}

/* ---- asking and answering ---- */

enum err
req_ask(struct req_channel *c, enum req_type type, uint8_t to, struct slice payload, req_on_reply *on_reply, void *arg)
{
	const struct req_row *row = req_row(type);
	struct req_head h = { .type = (uint16_t)type, .from = c->self, .to = to, .seq = ++c->seq };
	struct question *q = NULL;
	enum err e;

	require_that(row != NULL && row->reply == (on_reply != NULL), "request");
	if (on_reply != NULL) {
		if ((q = malloc(sizeof(*q))) == NULL)
			return ERR_NOMEM;
		*q = (struct question){ .seq = h.seq, .on_reply = on_reply, .arg = arg };
		LIST_INSERT_HEAD(&c->questions, q, link);
	}
	e = req_send(c, &h, payload, NULL, 0);
	if (e != OK && q != NULL) {
		LIST_REMOVE(q, link);
		free(q);
	}
	return e;
}

void
req_forget(struct req_channel *c, void *arg)
{
	struct question *q;

	LIST_FOREACH (q, &c->questions, link)
		if (q->arg == arg)
			q->on_reply = NULL;
}

enum err
req_answer(struct req_channel *c, const struct req_head *question, enum err status, struct slice payload, bool more)
{
	struct req_head h = { .type = question->type,
			      .from = c->self,
			      .to = question->from,
			      .flags = (uint8_t)(more ? REQ_REPLY | REQ_MORE : REQ_REPLY),
			      .status = (uint8_t)status,
			      .seq = question->seq };

	return req_send(c, &h, payload, NULL, 0);
}

static void
on_answer(struct req_channel *c, const struct req_msg *m)
{
	bool more = (m->head.flags & REQ_MORE) != 0;
	enum err status = m->head.status < ERR_MAX ? (enum err)m->head.status : ERR_SYNTAX;
	struct question *q;
	req_on_reply *fn;
	void *arg;

	LIST_FOREACH (q, &c->questions, link)
		if (q->seq == m->head.seq)
			break;
	if (q == NULL)
		return;
	fn = q->on_reply;
	arg = q->arg;
	if (!more) {
		LIST_REMOVE(q, link);
		free(q);
	}
	if (fn != NULL)
		fn(arg, status, m->payload, more);
}

enum err
req_channel_turn(struct req_channel *c, req_on_request *on_request, void *arg)
{
	struct req_msg m;
	enum err e;

	while ((e = req_recv(c, &m)) == OK) {
		if ((m.head.flags & REQ_REPLY) != 0)
			on_answer(c, &m);
		else
			on_request(arg, c, &m);
		close_fds(&m);
	}
	return e == ERR_AGAIN ? OK : e;
}
