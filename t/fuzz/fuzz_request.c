/* Packets of a child that has gone mad, as the master reads them: nothing is let through that the table does not allow,
 * an answer reaches who asked, once, and no descriptor is left over.
 * First byte: role, state, pace. Then packets: u8 descriptors sent along, u16 length, bytes (a head and a payload). */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/shm_request.h"

enum { PACKETS_MAX = 64, SENT_FDS = 7, QUESTIONS = 3 };

struct asked {
	unsigned answers;
	bool over;
};

struct master {
	enum role role;
	enum slot_state state;
	enum role answerer;
	struct req_meter meter;
	usec_t now;
	unsigned once[REQ_TYPE_MAX], taken;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
on_reply(void *arg, enum err status, struct slice payload, bool more)
{
	struct asked *q = arg;

	require_that(!q->over && status < ERR_MAX && payload.n <= REQ_PAYLOAD, "fuzz");
	q->over = !more;
	q->answers++;
}

/* What the table says, read a second time. */
static void
check_allowed(struct master *m, const struct req_head *h, struct slice payload)
{
	const struct req_row *row = req_row(h->type);

	require_that(row != NULL && (h->flags & ~(REQ_REPLY | REQ_MORE)) == 0 && payload.n == h->len, "fuzz");
	if ((h->flags & REQ_REPLY) != 0) {
		require_that(row->reply && (row->answerers & ROLE_BIT(m->role)) != 0, "fuzz");
		return;
	}
	require_that((row->askers & ROLE_BIT(m->role)) != 0 && (row->states & STATE_BIT(m->state)) != 0, "fuzz");
	require_that(payload.n >= row->min && payload.n <= row->max, "fuzz");
	require_that(row->per_second >= 0 || m->once[h->type]++ == 0, "fuzz");
}

static void
on_request(void *arg, struct req_channel *c, struct req_msg *msg)
{
	struct master *m = arg;

	(void)c;
	require_that(msg->nfds <= REQ_FDS && msg->payload.n == msg->head.len, "fuzz");
	if (req_violation(&msg->head, sizeof(msg->head) + msg->payload.n, m->role, m->state, m->answerer, &m->meter,
			  m->now) == NULL)
		check_allowed(m, &msg->head, msg->payload);
	m->taken++;
}

/* Sends bytes as they are, which no channel of ours would. */
static void
send_raw(int fd, const uint8_t *p, size_t n, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(SENT_FDS * sizeof(int))];
	} control;
	char copy[sizeof(struct req_head) + REQ_PAYLOAD + 64];
	struct iovec iov = { copy, n < sizeof(copy) ? n : sizeof(copy) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	memcpy(copy, p, iov.iov_len);
	if (nfds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		for (unsigned i = 0; i < nfds; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
	}
	(void)sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The lowest free descriptor: the same before and after, or something was left open. */
static int
lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static void
play(struct master *m, int child, struct req_channel *c, struct slice in)
{
	for (unsigned i = 0; i < PACKETS_MAX && in.n >= 3; i++) {
		unsigned nfds = (unsigned char)in.p[0] % (SENT_FDS + 1);
		size_t len = (unsigned char)in.p[1] + 256u * (unsigned char)in.p[2];
		enum err e;

		in = slice_of(in.p + 3, in.n - 3);
		len = len < in.n ? len : in.n;
		send_raw(child, (const uint8_t *)in.p, len, (nfds & 4) != 0 ? nfds : 0);
		in = slice_of(in.p + len, in.n - len);
		e = req_channel_turn(c, on_request, m);
		require_that(e == OK || e == ERR_SYNTAX || e == ERR_EOF, "fuzz");
		if (e != OK)
			return; /* ended by the master */
		m->now += USEC_PER_SEC / 4;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct asked asked[QUESTIONS] = { { .answers = 0 } };
	struct master m = { .now = 1000 * USEC_PER_SEC };
	int free_before = lowest_free(), master, child;
	struct req_channel *c;

	if (n < 2)
		return 0;
	log_set_level(LOG_LVL_FATAL);
	m.role = (enum role)(ROLE_MASTER + data[0] % 5);
	m.state = (enum slot_state)(SLOT_STARTING + (data[0] >> 4) % 3);
	m.answerer = (enum role)(data[1] % 6);
	require_that(req_pair(&master, &child) == OK, "fuzz");
	c = req_channel_new(master, REQ_TO_MASTER);
	for (int i = 0; i < QUESTIONS; i++)
		require_that(req_ask(c, REQ_WORKER_ASK, 1, SLICE("x"), on_reply, &asked[i]) == OK, "fuzz");
	play(&m, child, c, slice_of(data + 2, n - 2));
	req_forget(c, &asked[0]);
	req_channel_free(&c);
	for (int i = 1; i < QUESTIONS; i++)
		require_that(asked[i].over, "fuzz");
	close(child);
	require_that(lowest_free() == free_before, "fuzz");
	return 0;
}
