/* stream.h - a buffered non-blocking socket that says what happened in six events
 * new or connect -> open -> (EOF or ERROR) -> closed by its owner. After EOF the owner may still write; after ERROR it
 * can only close. Writing never fails and never blocks: what is written is buffered and leaves in one system call at the
 * end of the turn; a failure shows as STREAM_ERROR, never before stream_write returns. The owner watches
 * stream_pending() and stops producing above its high water.
 * Reading: bytes arrive in a buffer shared by all streams of the thread; only what the owner leaves unconsumed is
 * copied and kept by the stream. So an idle stream holds no buffer at all.
 * Events are called from the loop, never from inside a stream_ call. In the callback the owner may call anything here,
 * stream_close included: the memory goes at the end of the turn and no event follows a close.
 * Bytes go through a transport row (plain sockets today), so that TLS becomes another row, not another object.
 * Thread: the loop's. */
#ifndef WORKER_NET_STREAM_H
#define WORKER_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "worker/net/loop.h"

struct stream;

enum stream_event {
	STREAM_CONNECTED, /* an outgoing connection stands */
	STREAM_READABLE,  /* stream_in has bytes that its owner has not seen, or sees again after hold */
	STREAM_DRAINED,   /* all that was written is in the kernel's hands */
	STREAM_EOF,       /* the peer writes no more; comes after all its bytes, once */
	STREAM_ERROR,     /* connection refused, reset, ...: stream_error has the errno. Once, nothing after it */
};

typedef void stream_fn(struct stream *s, enum stream_event ev, void *arg);

/* At most this much is kept unread for an owner that does not consume; then the socket is left alone. */
enum { STREAM_IN_MAX = 128 * 1024 };

/* Takes fd, a connected socket: non-blocking, no duplicates, with the options that it shall have (stream_listen). */
struct stream *stream_new(struct loop *l, int fd, stream_fn *fn, void *arg);
/* Gives a listening socket the options that what it accepts inherits (socket(7), tcp(7)): a system call less for each
 * of three. What an address family does not know is left alone. */
void stream_listen(int fd);
/* Begins to connect; `local` (address to bind, port 0) may be NULL. NULL, with errno, when it fails at once (no
 * descriptor, address not ours, unreachable); else STREAM_CONNECTED or STREAM_ERROR follows. The time allowed is the
 * owner's business. What is written before it stands leaves afterwards. */
struct stream *stream_connect(struct loop *l, const struct sockaddr *local, const struct sockaddr *remote,
			      stream_fn *fn, void *arg);

/* What has arrived and is not consumed. In a callback it holds until that returns (stream_close apart), consumed bytes
 * too; outside of one, until the next turn. */
struct slice stream_in(const struct stream *s);
/* n must not exceed stream_in's. */
void stream_consume(struct stream *s, size_t n);
/* Reads at most so many bytes at a time (64 KiB unless told otherwise; 1 at least): what one turn gives this peer, and
 * what an owner that stops consuming has to keep. */
void stream_read_at_most(struct stream *s, size_t n);
/* true: no STREAM_READABLE (nor EOF) until false again; bytes stay where they are and the peer feels it. On false
 * unconsumed bytes are announced again. */
void stream_hold_reading(struct stream *s, bool hold);
/* The peer has closed its side (EOF seen, announced or not). */
bool stream_ended(const struct stream *s);

/* Copies. */
void stream_write(struct stream *s, struct slice bytes);
void stream_writef(struct stream *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Borrows the bytes until release(arg) is called: written, or dropped at close. release may be NULL (the bytes outlive
 * the stream). It is called from the loop or from stream_close, and must not call into the stream. */
void stream_borrow(struct stream *s, struct slice bytes, void (*release)(void *arg), void *arg);
/* true: what is written from now on is only gathered, until false again, or stream_flush: so that it leaves in one piece
 * with what is still to come. What the kernel has already refused to take is written on. */
void stream_gather(struct stream *s, bool gather);
/* Writes what is pending now instead of at the end of the turn. */
void stream_flush(struct stream *s);
/* Bytes written here and not yet taken by the kernel. */
size_t stream_pending(const struct stream *s);

/* errno of STREAM_ERROR, else 0. */
int stream_error(const struct stream *s);
int stream_fd(const struct stream *s);
/* Changes who is told. */
void stream_set_owner(struct stream *s, stream_fn *fn, void *arg);

/* Closes at once, drops what is pending, clears the caller's pointer. NULL inside is fine. */
void stream_close(struct stream **s);
/* Lets go politely: what is pending is written, then FIN; what still comes is dropped, so that no reset overtakes our
 * last words; all that for at most 5 seconds. No event follows. Clears the caller's pointer. */
void stream_finish(struct stream **s);
/* Lets go of a peer that has said that it sends nothing more: what is pending is written, within 5 seconds, then it is
 * closed at once. No event follows. Clears the caller's pointer. */
void stream_end(struct stream **s);
/* Streams let go by stream_finish or stream_end and not yet closed, of this thread. */
size_t stream_lingering(void);

#endif
