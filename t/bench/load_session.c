/* A session is a state and what it says on a reply; sockets never block; one epoll loop runs all of a process. */
#include "t/bench/load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

enum state {
	ST_NONE,   /* no connection; on the list of those that wait, or of those that wait for their turn to connect */
	ST_BANNER, /* connecting or connected: 220 is awaited */
	ST_EHLO,
	ST_MAIL,
	ST_RCPT,
	ST_DATA,
	ST_DOT, /* the message is on its way or has been sent */
	ST_RSET,
	ST_IDLE,
	ST_PAUSE, /* after a refusal: connected, and on the list of those that wait */
	ST_QUIT,
	ST_OVER,
};

struct session {
	TAILQ_ENTRY(session) next;
	usec_t due, began; /* while it waits; when the final dot was sent */
	uint64_t number;
	int fd, refused; /* refused: first digit of the answer to MAIL, when that was no yes */
	enum state state;
	bool pipelining, out_armed;
	uint32_t serial, answered, taken, settled; /* recipients: answered, accepted, counted */
	size_t in_len, head_len, fill_len, tail_len, sent;
	char in[1024], head[WIRE_HEAD_MAX], tail[WIRE_TAIL_MAX];
};

TAILQ_HEAD(sessions, session);

static const struct load_options *opt;
static struct load_counts *sh;
static int epfd;
static uint64_t opening, left;
static struct sessions waiting = TAILQ_HEAD_INITIALIZER(waiting); /* all wait equally long: in order of time */
static struct sessions turn = TAILQ_HEAD_INITIALIZER(turn);       /* for their turn to connect */
enum { OPENING_MAX = 100 };

/* ---- connections */

static bool
in_message(const struct session *s)
{
	return s->state >= ST_MAIL && s->state <= ST_DOT;
}

static void
settle(struct session *s, count_t *as, uint32_t n)
{
	count_add(as, n);
	s->settled += n;
}

static void
session_enter(struct session *s, enum state to)
{
	if (s->state == ST_IDLE)
		count_add(&sh->idle, (uint64_t)-1);
	if (s->state == ST_PAUSE)
		TAILQ_REMOVE(&waiting, s, next);
	if (to == ST_IDLE)
		count_add(&sh->idle, 1);
	if (to == ST_PAUSE || to == ST_NONE) {
		s->due = clock_mono() + (usec_t)opt->pause * USEC_PER_MS;
		TAILQ_INSERT_TAIL(&waiting, s, next);
	}
	if (to == ST_OVER)
		left--;
	s->state = to;
}

/* Closes; then comes back at once, after a pause, or not at all. */
static void
session_close(struct session *s)
{
	bool quit = s->state == ST_QUIT;

	if (s->state == ST_BANNER || s->state == ST_EHLO)
		opening--;
	else
		count_add(&sh->open, (uint64_t)-1);
	close(s->fd);
	s->fd = -1;
	if (count_get(&sh->stop)) {
		session_enter(s, ST_OVER);
	} else if (quit) {
		s->state = ST_NONE;
		TAILQ_INSERT_TAIL(&turn, s, next);
	} else {
		session_enter(s, ST_NONE);
	}
}

/* The other side has ended the connection. */
static void
session_ended(struct session *s)
{
	if (in_message(s))
		settle(s, &sh->lost, (uint32_t)opt->rcpts - s->settled);
	else if (s->state == ST_BANNER || s->state == ST_EHLO)
		count_add(&sh->noconn, 1);
	else if (s->state != ST_QUIT)
		count_add(&sh->ended, 1);
	session_close(s);
}

/* 421, or no yes to the banner or EHLO. */
static void
session_shut(struct session *s)
{
	count_add(&sh->shut, 1);
	if (in_message(s))
		settle(s, &sh->temp, (uint32_t)opt->rcpts - s->settled);
	session_close(s);
}

static void
session_connect(struct session *s)
{
	struct sockaddr_in from = { .sin_family = AF_INET };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = s };
	int on = 1;

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		log_fatal("load", "no socket");
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (opt->sources > 0) {
		/* 127.1.0.1 onward; the port is chosen at connect, so each address has all of them. */
		from.sin_addr.s_addr = htonl(0x7f010001U + (uint32_t)(s->number % opt->sources));
		setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
		if (bind(s->fd, (struct sockaddr *)&from, sizeof from) != 0)
			log_fatal("load", "cannot bind the source address");
	}
	s->state = ST_BANNER;
	s->in_len = 0;
	s->pipelining = s->out_armed = false;
	opening++;
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, s->fd, &ev) != 0)
		log_fatal("load", "epoll");
	if (connect(s->fd, (struct sockaddr *)(uintptr_t)&opt->to, sizeof opt->to) != 0 && errno != EINPROGRESS)
		session_ended(s);
}

/* ---- what it says */

/* In one call: commands are short, and nothing else is on its way. When it fails so does the next recv. */
static void
session_say(struct session *s, enum state to, const char *text, size_t len)
{
	session_enter(s, to);
	if (send(s->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
		shutdown(s->fd, SHUT_RDWR);
}

static size_t
rcpt_address(char *out, size_t room, const struct session *s, uint32_t i)
{
	return (size_t)snprintf(out, room, "r%u@d%u.%s", i, (uint32_t)((s->serial / opt->rcpts + i) % opt->domains),
				opt->suffix);
}

static size_t
rcpt_command(char *out, size_t room, const struct session *s, uint32_t i)
{
	char address[256];

	rcpt_address(address, sizeof address, s, i);
	return (size_t)snprintf(out, room, "RCPT TO:<%s>\r\n", address);
}

static void
say_mail(struct session *s)
{
	static char all[1 << 20];
	size_t n = (size_t)snprintf(all, sizeof all, "MAIL FROM:<%s>\r\n", opt->from);

	s->answered = s->taken = s->settled = 0;
	s->refused = 0;
	count_add(&sh->begun, opt->rcpts);
	if (s->pipelining) {
		for (uint32_t i = 0; i < opt->rcpts; i++)
			n += rcpt_command(all + n, sizeof all - n, s, i);
		n += (size_t)snprintf(all + n, sizeof all - n, "DATA\r\n");
	}
	session_say(s, ST_MAIL, all, n);
}

static void
say_rcpt(struct session *s)
{
	char cmd[300];

	session_say(s, ST_RCPT, cmd, rcpt_command(cmd, sizeof cmd, s, s->answered));
}

/* The next message, or QUIT. */
static void
session_next(struct session *s)
{
	uint64_t n;

	if (opt->idle && !count_get(&sh->stop)) {
		session_enter(s, ST_IDLE);
		return;
	}
	if (!count_get(&sh->stop)) {
		n = atomic_fetch_add(&sh->next, opt->rcpts);
		if (opt->messages == 0 || n + opt->rcpts <= opt->messages) {
			s->serial = (uint32_t)(opt->base + n);
			say_mail(s);
			return;
		}
		atomic_store(&sh->stop, 1);
	}
	session_say(s, ST_QUIT, "QUIT\r\n", 6);
}

static void
session_watch(struct session *s, bool out)
{
	struct epoll_event ev = { .events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = s };

	if (out != s->out_armed && epoll_ctl(epfd, EPOLL_CTL_MOD, s->fd, &ev) != 0)
		log_fatal("load", "epoll");
	s->out_armed = out;
}

/* As much of what is left of the message as the socket takes. */
static void
session_push(struct session *s)
{
	struct iovec part[3] = { { s->head, s->head_len },
				 { (void *)(uintptr_t)wire_fill(s->fill_len), s->fill_len },
				 { s->tail, s->tail_len } };
	struct msghdr m = { .msg_iov = part, .msg_iovlen = 3 };
	size_t skip = s->sent, all = s->head_len + s->fill_len + s->tail_len;
	ssize_t n;

	for (; m.msg_iovlen > 1 && skip >= m.msg_iov->iov_len; m.msg_iov++, m.msg_iovlen--)
		skip -= m.msg_iov->iov_len;
	m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + skip;
	m.msg_iov->iov_len -= skip;
	n = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN) {
		shutdown(s->fd, SHUT_RDWR);
		session_watch(s, false);
		return;
	}
	s->sent += n > 0 ? (size_t)n : 0;
	session_watch(s, s->sent < all);
	if (s->sent == all) {
		s->began = clock_mono();
		count_add(&sh->sent, s->taken);
	}
}

/* After 354. With no recipient accepted (that happens with pipelining) only the dot is sent. */
static void
say_content(struct session *s)
{
	char to[256];

	session_enter(s, ST_DOT);
	s->sent = s->head_len = s->fill_len = 0;
	if (s->taken > 0) {
		rcpt_address(to, sizeof to, s, 0);
		s->fill_len = opt->bytes - WIRE_LINE;
		s->head_len = wire_head(s->head, s->serial, opt->from, to, opt->bytes);
		s->tail_len = wire_tail(s->tail, s->serial);
	} else {
		s->tail_len = (size_t)snprintf(s->tail, sizeof s->tail, ".\r\n");
	}
	session_push(s);
}

/* ---- what it hears */

static count_t *
refusal(int code)
{
	return code / 100 == 5 ? &sh->perm : &sh->temp;
}

static void
on_mail(struct session *s, int code)
{
	s->refused = code / 100 == 2 ? 0 : code;
	if (s->pipelining) {
		session_enter(s, ST_RCPT);
	} else if (s->refused) {
		settle(s, refusal(code), (uint32_t)opt->rcpts);
		session_say(s, ST_RSET, "RSET\r\n", 6);
	} else {
		say_rcpt(s);
	}
}

static void
on_rcpt(struct session *s, int code)
{
	s->answered++;
	if (code / 100 == 2)
		s->taken++;
	else
		settle(s, refusal(s->refused ? s->refused : code), 1);
	if (s->answered < opt->rcpts) {
		if (!s->pipelining)
			say_rcpt(s);
	} else if (s->pipelining) {
		session_enter(s, ST_DATA);
	} else if (s->taken > 0) {
		session_say(s, ST_DATA, "DATA\r\n", 6);
	} else {
		session_say(s, ST_RSET, "RSET\r\n", 6);
	}
}

static void
on_data(struct session *s, int code)
{
	if (code == 354) {
		say_content(s);
	} else {
		settle(s, refusal(code), s->taken);
		session_say(s, ST_RSET, "RSET\r\n", 6);
	}
}

static void
count_took(usec_t took)
{
	unsigned i = 0;

	/* 2^(i/2): the even ones are shifts, the odd ones lie between by 1.414. */
	while (i < LOAD_LATENCIES - 1 && (double)took > (double)(1ULL << (i / 2)) * (i % 2 ? 1.41421356 : 1.0))
		i++;
	count_add(&sh->took[i], 1);
}

static void
on_dot(struct session *s, int code)
{
	usec_t now = clock_mono();
	uint64_t none = 0;
	bool yes = code / 100 == 2 && s->taken > 0;

	if (yes) {
		settle(s, &sh->ok, s->taken);
		count_add(&sh->tx, 1);
		count_took(now - s->began);
		atomic_compare_exchange_strong(&sh->first, &none, (uint64_t)now);
		atomic_store_explicit(&sh->last, (uint64_t)now, memory_order_relaxed);
	} else {
		settle(s, refusal(code), s->taken);
	}
	if (opt->one && yes)
		session_say(s, ST_QUIT, "QUIT\r\n", 6);
	else if (yes || count_get(&sh->stop))
		session_next(s);
	else
		session_enter(s, ST_PAUSE);
}

static void
session_reply(struct session *s, int code)
{
	bool yes = code / 100 == 2;

	if (s->state == ST_QUIT)
		session_close(s);
	else if (code == 421 || ((s->state == ST_BANNER || s->state == ST_EHLO) && !yes))
		session_shut(s);
	else if (s->state == ST_BANNER)
		session_say(s, ST_EHLO, "EHLO load.test\r\n", 16);
	else if (s->state == ST_EHLO) {
		count_add(&sh->conns, 1);
		count_add(&sh->open, 1);
		opening--;
		session_next(s);
	} else if (s->state == ST_MAIL)
		on_mail(s, code);
	else if (s->state == ST_RCPT)
		on_rcpt(s, code);
	else if (s->state == ST_DATA)
		on_data(s, code);
	else if (s->state == ST_DOT)
		on_dot(s, code);
	else if (s->state == ST_RSET && !count_get(&sh->stop))
		session_enter(s, ST_PAUSE);
	else if (s->state == ST_RSET)
		session_next(s);
	else
		count_add(&sh->odd, 1);
}

/* One line: false if it is no reply's. */
static bool
session_line(struct session *s, const char *line, size_t len)
{
	int code = 0;

	if (len < 3 || (len > 3 && line[3] != ' ' && line[3] != '-'))
		return false;
	for (int i = 0; i < 3; i++) {
		if (line[i] < '0' || line[i] > '9')
			return false;
		code = code * 10 + line[i] - '0';
	}
	if (s->state == ST_EHLO && opt->pipeline && len >= 14 && strncasecmp(line + 4, "PIPELINING", 10) == 0)
		s->pipelining = true;
	if (len == 3 || line[3] == ' ')
		session_reply(s, code);
	return true;
}

static void
session_read(struct session *s)
{
	ssize_t n = recv(s->fd, s->in + s->in_len, sizeof s->in - s->in_len, MSG_DONTWAIT);
	char *line = s->in, *end, *nl;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		session_ended(s);
		return;
	}
	end = s->in + s->in_len + (size_t)n;
	while ((nl = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		if (!session_line(s, line, (size_t)(nl - line) - (nl > line && nl[-1] == '\r'))) {
			count_add(&sh->odd, 1);
			session_ended(s);
		}
		if (s->fd < 0)
			return;
		line = nl + 1;
	}
	s->in_len = (size_t)(end - line);
	memmove(s->in, line, s->in_len);
	if (s->in_len == sizeof s->in) {
		count_add(&sh->odd, 1);
		session_ended(s);
	}
}

/* ---- the loop */

/* stop was set: who is silent must be told. */
static void
wake_silent(struct session *all, uint64_t n)
{
	for (struct session *s = all; s < all + n; s++) {
		if (s->state == ST_IDLE || s->state == ST_PAUSE)
			session_say(s, ST_QUIT, "QUIT\r\n", 6);
	}
}

static void
run_waiting(void)
{
	struct session *s;
	usec_t now = TAILQ_EMPTY(&waiting) ? 0 : clock_mono();
	bool stop = count_get(&sh->stop) != 0;

	while ((s = TAILQ_FIRST(&waiting)) != NULL && (s->due <= now || stop)) {
		if (s->state == ST_PAUSE) {
			session_enter(s, ST_RSET);
			session_next(s);
		} else {
			TAILQ_REMOVE(&waiting, s, next);
			TAILQ_INSERT_TAIL(&turn, s, next);
		}
	}
	while ((s = TAILQ_FIRST(&turn)) != NULL && (opening < OPENING_MAX || stop)) {
		TAILQ_REMOVE(&turn, s, next);
		if (stop)
			session_enter(s, ST_OVER);
		else
			session_connect(s);
	}
}

void
load_run(const struct load_options *options, struct load_counts *counts, uint64_t first, uint64_t step)
{
	enum { EVENTS = 256, TICK_MS = 20 };
	struct epoll_event ev[EVENTS];
	uint64_t n = first < options->sessions ? (options->sessions - first - 1) / step + 1 : 0;
	struct session *all = mem_array(NULL, n + 1, sizeof *all);
	bool told = false;

	opt = options;
	sh = counts;
	left = n;
	epfd = epoll_create1(EPOLL_CLOEXEC);
	memset(all, 0, (n + 1) * sizeof *all);
	for (uint64_t i = 0; i < n; i++) {
		all[i].number = first + i * step;
		all[i].fd = -1;
		TAILQ_INSERT_TAIL(&turn, &all[i], next);
	}
	while (left > 0) {
		if (!told && count_get(&sh->stop)) {
			told = true;
			wake_silent(all, n);
		}
		run_waiting();
		int k = left > 0 ? epoll_wait(epfd, ev, EVENTS, TICK_MS) : 0;
		for (int i = 0; i < k; i++) {
			struct session *s = ev[i].data.ptr;

			if (s->fd >= 0 && (ev[i].events & EPOLLOUT))
				session_push(s);
			if (s->fd >= 0 && (ev[i].events & ~(uint32_t)EPOLLOUT))
				session_read(s);
		}
	}
	close(epfd);
	free(all);
}
