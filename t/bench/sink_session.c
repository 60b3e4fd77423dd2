/* Commands are taken from what one recv brought, their answers leave in one send. A message that came whole with that
 * recv is looked at where it lies; what is left over waits in the session's own buffer. */
#include "t/bench/sink.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

enum { IN_MAX = 64 << 20, COMMON = 1 << 18, RCPTS_MAX = 5000 };

struct session {
	TAILQ_ENTRY(session) next;
	int fd;
	bool waits, paused; /* on the list of those that wait; because it reads slowly */
	bool content, mail, closing, mute;
	uint32_t rcpts;
	uint16_t *numbers; /* of r<number>@: which of a message's recipients these are */
	usec_t due;
	char *in, *out; /* out: answers not sent yet */
	size_t in_len, in_room, scanned, out_len, out_room;
};

TAILQ_HEAD(sessions, session);

static const struct sink_options *opt;
static struct sink_counts *sh;
static count_t *seen_bits;
static int epfd;
static struct sessions waiting = TAILQ_HEAD_INITIALIZER(waiting); /* all wait equally long: in order of time */
static char common[COMMON];
static struct {
	char text[1 << 16];
	size_t len;
	usec_t since;
} record;

/* ---- the record of arrivals */

static void
record_flush(void)
{
	if (record.len > 0 && write(opt->log_fd, record.text, record.len) != (ssize_t)record.len)
		log_fatal("sink", "cannot write the record");
	record.len = 0;
}

static void
record_message(usec_t now, uint32_t serial, uint32_t rcpt, size_t size)
{
	if (opt->log_fd < 0)
		return;
	if (record.len + 64 > sizeof record.text)
		record_flush();
	if (record.len == 0)
		record.since = now;
	record.len +=
		(size_t)snprintf(record.text + record.len, 64, "%lld %u %u %zu\n", (long long)now, serial, rcpt, size);
}

/* ---- answers */

static void
say(struct session *s, const char *text)
{
	size_t n = strlen(text);

	if (s->mute)
		return;
	if (s->out_len + n > s->out_room) {
		s->out_room = (s->out_len + n) * 2 < 256 ? 256 : (s->out_len + n) * 2;
		s->out = mem_array(s->out, s->out_room, 1);
	}
	memcpy(s->out + s->out_len, text, n);
	s->out_len += n;
}

/* True if this stage is to be answered as it should. */
static bool
stage(struct session *s, enum sink_stage at)
{
	int code = opt->answer[at];
	char text[64];

	if (code < 0 || atomic_fetch_add(&sh->turn[at], 1) % opt->share[at] != 0)
		return true;
	count_add(&sh->refused, 1);
	if (code == ANSWER_SILENT) {
		s->mute = true;
	} else if (code == ANSWER_CLOSE) {
		s->closing = true;
	} else {
		snprintf(text, sizeof text, "%d %d.3.0 as the bench wants it\r\n", code, code / 100);
		say(s, text);
		s->closing = code == 421;
	}
	return false;
}

/* ---- a message */

static bool
seen_before(uint32_t serial)
{
	uint64_t bit = UINT64_C(1) << (serial % 64);

	return (atomic_fetch_or_explicit(&seen_bits[serial / 64], bit, memory_order_relaxed) & bit) != 0;
}

static void
message_taken(struct session *s, const char *data, size_t len)
{
	usec_t now = clock_mono();
	uint64_t none = 0;
	uint32_t serial = 0;
	enum wire_found found = wire_check(data, len, &serial);

	count_add(&sh->msgs, 1);
	count_add(&sh->rcpts, s->rcpts);
	count_add(&sh->bytes, len);
	if (found == WIRE_FOREIGN)
		count_add(&sh->foreign, 1);
	if (found == WIRE_ALTERED)
		count_add(&sh->altered, 1);
	for (uint32_t i = 0; i < s->rcpts; i++) {
		if (found != WIRE_FOREIGN && seen_before(serial + s->numbers[i]))
			count_add(&sh->again, 1);
		record_message(now, serial, s->numbers[i], len);
	}
	atomic_compare_exchange_strong(&sh->first, &none, (uint64_t)now);
	atomic_store_explicit(&sh->last, (uint64_t)now, memory_order_relaxed);
}

static void
transaction_reset(struct session *s)
{
	s->mail = s->content = false;
	s->rcpts = 0;
}

/* Takes the message if its end is there: how many bytes it is with the dot, or 0. An empty message is a dot's line only. */
static size_t
take_content(struct session *s, const char *data, size_t len)
{
	const char *from = data + (s->scanned > 4 ? s->scanned - 4 : 0), *dot;
	size_t size;

	if (len >= 3 && memcmp(data, ".\r\n", 3) == 0) {
		size = 0;
	} else if ((dot = memmem(from, (size_t)(data + len - from), "\r\n.\r\n", 5)) != NULL) {
		dot += 2;
		size = (size_t)(dot - data);
	} else {
		s->scanned = len;
		return 0;
	}
	s->scanned = 0;
	s->content = false;
	if (stage(s, STAGE_DOT)) {
		message_taken(s, data, size);
		say(s, "250 2.0.0 taken\r\n");
	}
	transaction_reset(s);
	return size + 3;
}

/* ---- commands */

static void
on_rcpt(struct session *s, const char *line, size_t len)
{
	const char *r = memchr(line, '<', len);
	unsigned number = 0;

	if (!s->mail || s->rcpts >= RCPTS_MAX) {
		say(s, s->mail ? "452 4.5.3 too many\r\n" : "503 5.5.1 MAIL first\r\n");
		return;
	}
	if (!stage(s, STAGE_RCPT))
		return;
	if (r != NULL)
		(void)sscanf(r, "<r%5u@", &number);
	if ((s->rcpts & (s->rcpts - 1)) == 0)
		s->numbers = mem_array(s->numbers, s->rcpts == 0 ? 1 : s->rcpts * 2, sizeof *s->numbers);
	s->numbers[s->rcpts++] = (uint16_t)number;
	say(s, "250 2.1.5 yes\r\n");
}

static void
on_mail(struct session *s)
{
	if (s->mail) {
		count_add(&sh->odd, 1);
		say(s, "503 5.5.1 one at a time\r\n");
	} else if (stage(s, STAGE_MAIL)) {
		s->mail = true;
		say(s, "250 2.1.0 yes\r\n");
	}
}

static void
on_data(struct session *s)
{
	if (s->rcpts == 0) {
		say(s, "503 5.5.1 RCPT first\r\n");
	} else if (stage(s, STAGE_DATA)) {
		s->content = true;
		say(s, "354 go on\r\n");
	} else {
		transaction_reset(s);
	}
}

static void
on_hello(struct session *s, bool extended)
{
	if (!stage(s, STAGE_EHLO))
		return;
	transaction_reset(s);
	if (!extended)
		say(s, "250 sink.test\r\n");
	else
		say(s, opt->no_pipelining ? "250-sink.test\r\n250 8BITMIME\r\n"
					  : "250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
}

static bool
is(const char *line, size_t len, const char *verb)
{
	size_t n = strlen(verb);

	return len >= n && strncasecmp(line, verb, n) == 0;
}

static void
command(struct session *s, const char *line, size_t len)
{
	if (is(line, len, "MAIL FROM:"))
		on_mail(s);
	else if (is(line, len, "RCPT TO:"))
		on_rcpt(s, line, len);
	else if (is(line, len, "DATA"))
		on_data(s);
	else if (is(line, len, "EHLO ") || is(line, len, "HELO "))
		on_hello(s, line[0] == 'E' || line[0] == 'e');
	else if (is(line, len, "RSET")) {
		transaction_reset(s);
		say(s, "250 2.0.0 forgotten\r\n");
	} else if (is(line, len, "NOOP")) {
		say(s, "250 2.0.0 yes\r\n");
	} else if (is(line, len, "QUIT")) {
		say(s, "221 2.0.0 bye\r\n");
		s->closing = true;
	} else {
		count_add(&sh->odd, 1);
		say(s, "500 5.5.2 what\r\n");
	}
}

/* Returns how much of data was used. */
static size_t
take(struct session *s, const char *data, size_t len)
{
	size_t used = 0;

	while (used < len && !s->closing && !s->mute) {
		size_t n;

		if (s->content) {
			n = take_content(s, data + used, len - used);
		} else {
			const char *nl = memchr(data + used, '\n', len - used);

			n = nl == NULL ? 0 : (size_t)(nl - data - (ptrdiff_t)used) + 1;
			if (n > 0)
				command(s, data + used, n - (n > 1 && nl[-1] == '\r' ? 2 : 1));
		}
		if (n == 0)
			break;
		used += n;
	}
	return s->closing || s->mute ? len : used;
}

/* ---- connections */

static void
session_close(struct session *s)
{
	if (s->waits)
		TAILQ_REMOVE(&waiting, s, next);
	count_add(&sh->open, (uint64_t)-1);
	close(s->fd);
	free(s->in);
	free(s->out);
	free(s->numbers);
	free(s);
}

static void
session_listen(struct session *s, bool in)
{
	struct epoll_event ev = { .events = in ? EPOLLIN : 0, .data.ptr = s };

	if (epoll_ctl(epfd, EPOLL_CTL_MOD, s->fd, &ev) != 0)
		log_fatal("sink", "epoll");
}

static void
session_wait(struct session *s, uint64_t ms)
{
	if (s->waits)
		return;
	s->due = clock_mono() + (usec_t)ms * USEC_PER_MS;
	s->waits = true;
	TAILQ_INSERT_TAIL(&waiting, s, next);
}

/* Sends what there is to say, or so much of it as is due now. False: the session is gone. */
static bool
session_speak(struct session *s, bool due)
{
	size_t n = opt->trickle > 0 && s->out_len > 1 ? 1 : s->out_len;

	if (s->out_len == 0 && !s->closing)
		return true;
	if (!due && (opt->latency > 0 || opt->trickle > 0)) {
		session_wait(s, opt->latency + opt->trickle);
		return true;
	}
	/* A peer that lets a few answers pile up unread until the socket is full has earned the end. */
	if (n > 0 && send(s->fd, s->out, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n) {
		session_close(s);
		return false;
	}
	s->out_len -= n;
	if (s->out_len > 0) {
		memmove(s->out, s->out + n, s->out_len);
		session_wait(s, opt->latency + opt->trickle);
	} else if (s->closing) {
		session_close(s);
		return false;
	}
	return true;
}

/* Room for one more recv: the common buffer unless something is left over from the last one. */
static char *
session_room(struct session *s, size_t *room)
{
	if (s->in_len == 0) {
		*room = sizeof common;
		return common;
	}
	if (s->in_room - s->in_len < s->in_len || s->in_room - s->in_len < 4096) {
		s->in_room = s->in_len * 2 < 16384 ? 16384 : s->in_len * 2;
		s->in = mem_array(s->in, s->in_room, 1);
	}
	*room = s->in_room - s->in_len;
	return s->in + s->in_len;
}

static void
session_keep(struct session *s, const char *data, size_t len)
{
	if (len == 0) {
		free(s->in);
		s->in = NULL;
		s->in_room = 0;
	} else if (s->in_len > 0) {
		memmove(s->in, data, len);
	} else {
		s->in_room = len < 8192 ? 16384 : len * 2;
		s->in = mem_array(NULL, s->in_room, 1);
		memcpy(s->in, data, len);
	}
	s->in_len = len;
}

static void
session_read(struct session *s)
{
	size_t room, len, used;
	char *at = session_room(s, &room), *data;
	ssize_t n = recv(s->fd, at, opt->slow > 0 && opt->slow < room ? opt->slow : room, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || s->in_len > IN_MAX) {
		count_add(&sh->cut, s->mail ? 1 : 0);
		session_close(s);
		return;
	}
	data = at == common ? common : s->in;
	len = s->in_len + (size_t)n;
	used = take(s, data, len);
	session_keep(s, data + used, len - used);
	if (!session_speak(s, false))
		return;
	if (opt->slow > 0 && !s->paused) {
		s->paused = true;
		session_listen(s, false);
		session_wait(s, opt->latency + opt->trickle);
	}
}

static void
run_waiting(void)
{
	struct session *s;
	usec_t now = TAILQ_EMPTY(&waiting) ? 0 : clock_mono();

	while ((s = TAILQ_FIRST(&waiting)) != NULL && s->due <= now) {
		TAILQ_REMOVE(&waiting, s, next);
		s->waits = false;
		if (s->paused) {
			s->paused = false;
			session_listen(s, true);
		}
		(void)session_speak(s, true);
	}
}

static void
take_connections(int listener)
{
	int fd, on = 1;

	for (int i = 0; i < 64 && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0; i++) {
		struct session *s = mem_zalloc(sizeof *s);
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = s };

		s->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) != 0)
			log_fatal("sink", "epoll");
		count_add(&sh->conns, 1);
		count_add(&sh->open, 1);
		if (stage(s, STAGE_BANNER))
			say(s, "220 sink.test ESMTP\r\n");
		(void)session_speak(s, false);
	}
}

void
sink_run(const struct sink_options *options, struct sink_counts *counts, count_t *seen, int listener, count_t *stop)
{
	enum { EVENTS = 256, TICK_MS = 50, FLUSH_MS = 200 };
	struct epoll_event ev[EVENTS] = { { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL } };

	opt = options;
	sh = counts;
	seen_bits = seen;
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &ev[0]) != 0)
		log_fatal("sink", "epoll");
	while (!count_get(stop)) {
		int wait = TICK_MS, k;

		if (!TAILQ_EMPTY(&waiting))
			wait = 1;
		k = epoll_wait(epfd, ev, EVENTS, wait);
		for (int i = 0; i < k; i++) {
			if (ev[i].data.ptr == NULL)
				take_connections(listener);
			else
				session_read(ev[i].data.ptr);
		}
		run_waiting();
		if (record.len > 0 && clock_mono() - record.since > FLUSH_MS * USEC_PER_MS)
			record_flush();
	}
	record_flush();
}
