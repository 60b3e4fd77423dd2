#include "worker/net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "worker/net/outq.h"

enum {
	READ_BYTES = 64 * 1024, /* the shared buffer */
	PIECES_A_WRITE = 32,
	LINGER_SECONDS = 5,
};

/* Moves bytes between a stream and its descriptor; read and writev as the system calls, errno included. */
struct transport {
	ssize_t (*read)(struct stream *s, void *p, size_t n);
	ssize_t (*writev)(struct stream *s, const struct iovec *v, int n);
};

struct stream {
	struct loop *loop;
	const struct transport *transport;
	stream_fn *fn;
	void *arg;
	struct ev_io io;
	struct ev_later later; /* flushes, announces again, frees */
	struct ev_timer linger;
	size_t at_most;  /* bytes a read */
	struct slice in; /* unconsumed: in the shared buffer while its callback runs, else in kept */
	struct bytes kept;
	struct outq out;
	int error;
	bool connecting, held, ended, eof_told, error_told, announce, drained_due, closed, finishing, parted,
		unwritable, gathering;
};

/* One thread, one loop: one buffer that every read goes through. */
static _Thread_local char *shared_buffer;
static _Thread_local size_t lingering;

static void stream_on_io(struct ev_io *io, uint32_t events, void *arg);
static void stream_on_later(void *arg);
static void fail(struct stream *s, int error);

static ssize_t
plain_read(struct stream *s, void *p, size_t n)
{
	return recv(s->io.fd, p, n, 0);
}

static ssize_t
plain_writev(struct stream *s, const struct iovec *v, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = (size_t)n };

	return sendmsg(s->io.fd, &m, MSG_NOSIGNAL);
}

static const struct transport plain = { plain_read, plain_writev };

/* Making and unmaking. */

static struct stream *
stream_make(struct loop *l, int fd, bool connecting, stream_fn *fn, void *arg)
{
	struct stream *s = mem_zalloc(sizeof *s);

	s->loop = l;
	s->transport = &plain;
	s->fn = fn;
	s->arg = arg;
	s->connecting = connecting;
	s->at_most = READ_BYTES;
	outq_init(&s->out);
	loop_io_add(l, &s->io, fd, connecting ? EPOLLOUT : EPOLLIN | EPOLLRDHUP, stream_on_io, s);
	return s;
}

struct stream *
stream_new(struct loop *l, int fd, stream_fn *fn, void *arg)
{
	return stream_make(l, fd, false, fn, arg);
}

/* We gather output ourselves, one write a turn; waiting for acknowledgements would only add delay. Fails on sockets that
 * are not TCP, which is fine. */
static void
no_delay(int fd)
{
	int one = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Keep-alive: idle times may be without end, but a peer that is gone without a word must not stay for ever. */
void
stream_listen(int fd)
{
	int one = 1;

	no_delay(fd);
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

static socklen_t
address_length(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* Lets the kernel choose the port at connect, so that one source address can serve more than 28,000 next hops. */
static int
bind_local(int fd, const struct sockaddr *local)
{
	int one = 1;

	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	return bind(fd, local, address_length(local));
}

struct stream *
stream_connect(struct loop *l, const struct sockaddr *local, const struct sockaddr *remote, stream_fn *fn, void *arg)
{
	int fd = socket(remote->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int saved;

	if (fd < 0)
		return NULL;
	no_delay(fd);
	if (local != NULL && bind_local(fd, local) != 0)
		goto out;
	if (connect(fd, remote, address_length(remote)) == 0 || errno == EINPROGRESS)
		return stream_make(l, fd, true, fn, arg);
out:
	saved = errno;
	close(fd);
	errno = saved;
	return NULL;
}

static void
stream_destroy(struct stream *s)
{
	loop_later_cancel(s->loop, &s->later);
	outq_drop(&s->out);
	bytes_fini(&s->kept);
	free(s);
}

/* The descriptor goes now, the memory at the end of the turn: a callback further up the stack may still hold s. */
static void
shut(struct stream *s)
{
	loop_timer_stop(s->loop, &s->linger);
	loop_io_close(s->loop, &s->io);
	if (s->finishing)
		lingering--;
	s->closed = true;
	outq_drop(&s->out);
	loop_later(s->loop, &s->later, stream_on_later, s);
}

void
stream_close(struct stream **sp)
{
	struct stream *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	shut(s);
}

static void
linger_over(void *arg)
{
	shut(arg);
}

static void
let_go(struct stream **sp, bool parted)
{
	struct stream *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	s->finishing = true;
	s->parted = parted;
	s->gathering = false;
	lingering++;
	if (s->error != 0 || s->connecting) {
		shut(s);
		return;
	}
	bytes_fini(&s->kept);
	s->in = slice_of(NULL, 0);
	loop_timer_set(s->loop, &s->linger, loop_now(s->loop) + LINGER_SECONDS * USEC_PER_SEC, linger_over, s);
	s->drained_due = true;
	loop_later(s->loop, &s->later, stream_on_later, s);
}

void
stream_finish(struct stream **sp)
{
	let_go(sp, false);
}

void
stream_end(struct stream **sp)
{
	let_go(sp, true);
}

size_t
stream_lingering(void)
{
	return lingering;
}

void
stream_set_owner(struct stream *s, stream_fn *fn, void *arg)
{
	s->fn = fn;
	s->arg = arg;
}

/* What the loop watches follows from the state, in one place. */
static void
watch(struct stream *s)
{
	uint32_t want = 0;

	if (!s->io.armed)
		return;
	if (s->connecting || s->unwritable)
		want |= EPOLLOUT;
	if (!s->connecting && !s->ended && s->error == 0 && (s->finishing || (!s->held && s->in.n < STREAM_IN_MAX)))
		want |= EPOLLIN | EPOLLRDHUP;
	loop_io_mod(s->loop, &s->io, want);
}

static void
tell(struct stream *s, enum stream_event ev)
{
	if (!s->closed && !s->finishing)
		s->fn(s, ev, s->arg);
}

/* Reading. */

struct slice
stream_in(const struct stream *s)
{
	return s->in;
}

void
stream_consume(struct stream *s, size_t n)
{
	require_that(n <= s->in.n, "net");
	s->in.p += n;
	s->in.n -= n;
	watch(s);
}

/* After a callback: what is left in the shared buffer becomes ours, what is used up of ours goes. */
static void
keep_rest(struct stream *s)
{
	bool ours = s->kept.p != NULL;

	if (s->closed || s->finishing)
		return;
	if (s->in.n == 0) {
		bytes_fini(&s->kept);
		s->in = slice_of(NULL, 0);
	} else if (ours) {
		bytes_drop(&s->kept, s->kept.n - s->in.n);
		s->in = slice_bytes(&s->kept);
	} else {
		bytes_add_slice(&s->kept, s->in);
		s->in = slice_bytes(&s->kept);
	}
}

/* Tells of what is in s->in, and of the end when it was reached and nothing before it waits. */
static void
deliver_input(struct stream *s, bool news)
{
	if (news && s->in.n > 0)
		tell(s, STREAM_READABLE);
	keep_rest(s);
	if (s->ended && !s->eof_told && !s->held && !s->closed && s->error == 0) {
		s->eof_told = true;
		tell(s, STREAM_EOF);
		keep_rest(s);
	}
}

/* Behind what is kept, or, as nearly always, the shared buffer. */
static char *
read_place(struct stream *s, size_t *room)
{
	keep_rest(s);
	if (s->kept.p != NULL) {
		*room = s->at_most < READ_BYTES / 4 ? s->at_most : READ_BYTES / 4;
		(void)bytes_room(&s->kept, *room);
		s->in = slice_bytes(&s->kept);
		return s->kept.p + s->kept.n;
	}
	*room = s->at_most;
	if (shared_buffer == NULL)
		shared_buffer = mem_alloc(READ_BYTES);
	return shared_buffer;
}

static void
read_some(struct stream *s)
{
	size_t room;
	char *p = read_place(s, &room);
	ssize_t n = s->transport->read(s, p, room);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		fail(s, errno);
		return;
	}
	if (n == 0) {
		s->ended = true;
	} else if (s->finishing) {
		return;
	} else if (s->kept.p != NULL) {
		s->kept.n += (size_t)n;
		s->in = slice_bytes(&s->kept);
	} else {
		s->in = slice_of(p, (size_t)n);
	}
	deliver_input(s, n > 0);
}

void
stream_hold_reading(struct stream *s, bool hold)
{
	if (s->held == hold)
		return;
	s->held = hold;
	if (!hold) {
		s->announce = true;
		loop_later(s->loop, &s->later, stream_on_later, s);
	}
	watch(s);
}

void
stream_read_at_most(struct stream *s, size_t n)
{
	require_that(n > 0, "net");
	s->at_most = n < READ_BYTES ? n : READ_BYTES;
}

bool
stream_ended(const struct stream *s)
{
	return s->ended;
}

/* Writing. */

void
stream_flush(struct stream *s)
{
	struct iovec v[PIECES_A_WRITE];

	while (s->out.pending > 0 && !s->connecting && !s->closed && s->error == 0) {
		ssize_t n = s->transport->writev(s, v, outq_gather(&s->out, v, PIECES_A_WRITE));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* Told from the loop, never from inside a call of the owner's. */
			s->error = errno;
			outq_drop(&s->out);
			loop_later(s->loop, &s->later, stream_on_later, s);
			return;
		}
		outq_taken(&s->out, (size_t)n);
	}
	s->unwritable = s->out.pending > 0;
	watch(s);
}

static void
will_flush(struct stream *s)
{
	s->drained_due = true;
	if (!s->unwritable && !s->gathering)
		loop_later(s->loop, &s->later, stream_on_later, s);
}

void
stream_gather(struct stream *s, bool gather)
{
	if (s->gathering == gather || s->closed)
		return;
	s->gathering = gather;
	if (!gather && s->out.pending > 0)
		will_flush(s);
}

void
stream_write(struct stream *s, struct slice bytes)
{
	if (bytes.n == 0 || s->error != 0 || s->closed)
		return;
	outq_copy(&s->out, bytes);
	will_flush(s);
}

void
stream_writef(struct stream *s, const char *fmt, ...)
{
	char text[1024], *long_text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof text) {
		long_text = mem_alloc((size_t)n + 1);
		va_start(ap, fmt);
		vsnprintf(long_text, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	stream_write(s, slice_of(long_text != NULL ? long_text : text, (size_t)n));
	free(long_text);
}

void
stream_borrow(struct stream *s, struct slice bytes, void (*release)(void *arg), void *arg)
{
	if (bytes.n == 0 || s->error != 0 || s->closed) {
		if (release != NULL)
			release(arg);
		return;
	}
	outq_borrow(&s->out, bytes, release, arg);
	will_flush(s);
}

size_t
stream_pending(const struct stream *s)
{
	return s->out.pending;
}

int
stream_error(const struct stream *s)
{
	return s->error;
}

int
stream_fd(const struct stream *s)
{
	return s->io.fd;
}

/* Events. */

/* From the loop only. A stream let go has nobody to tell and just closes. */
static void
fail(struct stream *s, int error)
{
	s->error = error;
	outq_drop(&s->out);
	/* epoll would report the broken connection in every turn until the owner closes. */
	loop_io_del(s->loop, &s->io);
	if (s->finishing) {
		shut(s);
	} else if (!s->error_told) {
		s->error_told = true;
		tell(s, STREAM_ERROR);
	}
}

static void
connected(struct stream *s)
{
	int error = 0;
	socklen_t n = sizeof error;

	if (getsockopt(s->io.fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
		error = errno;
	if (error != 0) {
		fail(s, error);
		return;
	}
	s->connecting = false;
	s->unwritable = false;
	watch(s);
	tell(s, STREAM_CONNECTED);
	if (!s->closed && s->out.pending > 0)
		loop_later(s->loop, &s->later, stream_on_later, s);
}

static void
flush_and_tell(struct stream *s)
{
	if (s->gathering && !s->unwritable)
		return;
	stream_flush(s);
	if (s->error != 0 || s->out.pending > 0 || s->connecting || s->closed || !s->drained_due)
		return;
	s->drained_due = false;
	if (!s->finishing)
		tell(s, STREAM_DRAINED);
	else if (s->ended || s->parted)
		shut(s);
	else
		(void)shutdown(s->io.fd, SHUT_WR);
}

/* One later event serves all: the flags say what is to be done. */
static void
stream_on_later(void *arg)
{
	struct stream *s = arg;

	if (s->closed) {
		stream_destroy(s);
		return;
	}
	if (s->error != 0) {
		fail(s, s->error);
		return;
	}
	flush_and_tell(s);
	if (s->announce && !s->closed && !s->held && s->error == 0) {
		s->announce = false;
		deliver_input(s, true);
		watch(s);
		if (!s->closed && s->out.pending > 0)
			will_flush(s);
	}
}

static void
stream_on_io(struct ev_io *io, uint32_t events, void *arg)
{
	struct stream *s = arg;

	(void)io;
	if (s->connecting) {
		connected(s);
		return;
	}
	if ((events & EPOLLOUT) != 0 && s->unwritable)
		flush_and_tell(s);
	if (s->closed || s->error != 0)
		return;
	if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 && (!s->held || s->finishing) && !s->ended) {
		read_some(s);
		if (!s->closed)
			watch(s);
	} else if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
		/* Nothing to read or not wanted, yet the connection is gone: epoll would go on telling us. */
		int error = 0;
		socklen_t n = sizeof error;

		(void)getsockopt(s->io.fd, SOL_SOCKET, SO_ERROR, &error, &n);
		fail(s, error != 0 ? error : EPIPE);
	}
	if (s->finishing && s->ended && s->out.pending == 0 && !s->closed)
		shut(s);
}
