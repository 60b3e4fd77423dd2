/* worker/net: streams, over socket pairs and loopback; no waiting but for what the kernel has promised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/mem.h"
#include "worker/net/stream.h"

struct end {
	struct loop *l;
	struct stream *s;
	int peer; /* the other end */
	int seen[STREAM_ERROR + 1];
	size_t leave; /* bytes not consumed */
	bool close_it, write_back, finish_it;
	struct bytes in;
};

static void
on_event(struct stream *s, enum stream_event ev, void *arg)
{
	struct end *e = arg;
	struct slice in = stream_in(s);

	assert_ptr_equal(s, e->s);
	e->seen[ev]++;
	if (ev != STREAM_READABLE)
		return;
	if (in.n > e->leave) {
		bytes_add(&e->in, in.p, in.n - e->leave);
		stream_consume(s, in.n - e->leave);
		if (e->write_back)
			stream_write(s, slice_of(in.p, in.n - e->leave));
	}
	if (e->close_it)
		stream_close(&e->s);
	if (e->finish_it)
		stream_finish(&e->s);
}

static struct end *
make(void)
{
	struct end *e = mem_zalloc(sizeof *e);
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	e->l = loop_new();
	e->s = stream_new(e->l, pair[0], on_event, e);
	e->peer = pair[1];
	return e;
}

static void
drop(struct end *e)
{
	stream_close(&e->s);
	loop_turn(e->l, 0);
	loop_turn(e->l, 0);
	loop_free(&e->l);
	if (e->peer >= 0)
		close(e->peer);
	bytes_fini(&e->in);
	free(e);
}

static void
say(struct end *e, const char *text)
{
	assert_int_equal(send(e->peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static size_t
hear(struct end *e, char *buf, size_t n)
{
	ssize_t got = recv(e->peer, buf, n, MSG_DONTWAIT);

	return got > 0 ? (size_t)got : 0;
}

static void
what_is_left_is_kept_and_comes_first(void **state)
{
	struct end *e = make();

	(void)state;
	e->leave = 3;
	say(e, "abcdef");
	loop_turn(e->l, 0);
	assert_int_equal(stream_in(e->s).n, 3);
	say(e, "ghi");
	loop_turn(e->l, 0);
	assert_true(slice_eq(stream_in(e->s), SLICE("ghi")));
	assert_true(slice_eq(slice_bytes(&e->in), SLICE("abcdef")));
	/* Consumed out of a callback: it does not come back. */
	stream_consume(e->s, 2);
	e->leave = 0;
	say(e, "jkl");
	loop_turn(e->l, 0);
	assert_true(slice_eq(slice_bytes(&e->in), SLICE("abcdefijkl")));
	assert_int_equal(stream_in(e->s).n, 0);
	drop(e);
}

static void
held_reading_waits_and_is_announced_again(void **state)
{
	struct end *e = make();

	(void)state;
	e->leave = 2;
	say(e, "ab");
	loop_turn(e->l, 0);
	assert_int_equal(e->seen[STREAM_READABLE], 1);
	stream_hold_reading(e->s, true);
	say(e, "cd");
	assert_int_equal(shutdown(e->peer, SHUT_WR), 0);
	loop_turn(e->l, 0);
	assert_int_equal(e->seen[STREAM_READABLE], 1);
	assert_int_equal(e->seen[STREAM_EOF], 0);
	e->leave = 0;
	stream_hold_reading(e->s, false);
	for (int i = 0; i < 4; i++)
		loop_turn(e->l, 0);
	assert_true(slice_eq(slice_bytes(&e->in), SLICE("abcd")));
	assert_int_equal(e->seen[STREAM_EOF], 1);
	assert_true(stream_ended(e->s));
	drop(e);
}

static void
an_owner_that_does_not_consume_is_not_drowned(void **state)
{
	struct end *e = make();
	static char block[16384];
	size_t sent = 0;

	(void)state;
	e->leave = SIZE_MAX;
	for (int i = 0; i < 200; i++) {
		ssize_t n = send(e->peer, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		loop_turn(e->l, 0);
	}
	assert_true(stream_in(e->s).n >= STREAM_IN_MAX && stream_in(e->s).n < STREAM_IN_MAX + 65536);
	assert_true(sent < 200 * sizeof block);
	stream_consume(e->s, stream_in(e->s).n);
	e->leave = 0;
	loop_turn(e->l, 0);
	assert_true(e->in.n > 0);
	drop(e);
}

static void
writes_of_a_turn_leave_together(void **state)
{
	struct end *e = make();
	char buf[64];

	(void)state;
	stream_write(e->s, SLICE("one "));
	stream_writef(e->s, "%s %d ", "two", 3);
	stream_borrow(e->s, SLICE("four"), NULL, NULL);
	assert_int_equal(stream_pending(e->s), 14);
	assert_int_equal(hear(e, buf, sizeof buf), 0);
	loop_turn(e->l, 0);
	assert_int_equal(hear(e, buf, sizeof buf), 14);
	assert_memory_equal(buf, "one two 3 four", 14);
	assert_int_equal(e->seen[STREAM_DRAINED], 1);
	stream_write(e->s, SLICE("now"));
	stream_flush(e->s);
	assert_int_equal(hear(e, buf, sizeof buf), 3);
	drop(e);
}

static void
gathered_writes_wait_to_be_let_go(void **state)
{
	struct end *e = make();
	char buf[64];

	(void)state;
	stream_write(e->s, SLICE("one "));
	stream_gather(e->s, true); /* the turn's flush finds it so */
	loop_turn(e->l, 0);
	stream_write(e->s, SLICE("two "));
	loop_turn(e->l, 0);
	assert_int_equal(hear(e, buf, sizeof buf), 0);
	assert_int_equal(e->seen[STREAM_DRAINED], 0);
	stream_gather(e->s, false);
	loop_turn(e->l, 0);
	assert_int_equal(hear(e, buf, sizeof buf), 8);
	assert_memory_equal(buf, "one two ", 8);
	assert_int_equal(e->seen[STREAM_DRAINED], 1);
	stream_gather(e->s, true);
	stream_write(e->s, SLICE("end"));
	stream_finish(&e->s);
	loop_turn(e->l, 0);
	assert_int_equal(hear(e, buf, sizeof buf), 3);
	close(e->peer);
	e->peer = -1;
	loop_turn(e->l, 0);
	drop(e);
}

static void
released(void *arg)
{
	++*(int *)arg;
}

/* More than the socket takes: all arrives, in order, and each borrowed piece is released once. */
static void
large_output_is_written_as_it_goes(void **state)
{
	enum { PIECES = 300, PIECE = 10000 };
	struct end *e = make();
	static char block[PIECE], buf[65536];
	int given = 0;
	size_t got = 0;

	(void)state;
	for (size_t i = 0; i < PIECE; i++)
		block[i] = (char)('a' + i % 26);
	for (int i = 0; i < PIECES; i++) {
		if (i % 2 == 0)
			stream_borrow(e->s, slice_of(block, PIECE), released, &given);
		else
			stream_write(e->s, slice_of(block, PIECE));
	}
	while (got < (size_t)PIECES * PIECE) {
		size_t n;

		loop_turn(e->l, 0);
		n = hear(e, buf, sizeof buf);
		for (size_t i = 0; i < n; i++)
			if (buf[i] != 'a' + (char)((got + i) % PIECE % 26))
				fail_msg("byte %zu", got + i);
		got += n;
	}
	loop_turn(e->l, 0);
	assert_int_equal(given, PIECES / 2);
	assert_int_equal(stream_pending(e->s), 0);
	assert_int_equal(e->seen[STREAM_DRAINED], 1);
	drop(e);
}

static void
closing_in_the_callback_is_fine(void **state)
{
	struct end *e = make();
	int given = 0;

	(void)state;
	e->close_it = true;
	e->write_back = true;
	stream_borrow(e->s, SLICE("x"), released, &given);
	say(e, "abc");
	loop_turn(e->l, 0);
	assert_null(e->s);
	assert_int_equal(given, 1);
	assert_int_equal(e->seen[STREAM_EOF] + e->seen[STREAM_ERROR], 0);
	drop(e);
}

static void
finishing_writes_the_rest_and_ends(void **state)
{
	struct end *e = make();
	char buf[16];

	(void)state;
	e->finish_it = true;
	e->write_back = true;
	say(e, "bye");
	loop_turn(e->l, 0);
	assert_null(e->s);
	assert_int_equal(stream_lingering(), 1);
	say(e, "more that nobody reads");
	loop_turn(e->l, 0);
	assert_int_equal(hear(e, buf, sizeof buf), 3);
	assert_int_equal(recv(e->peer, buf, sizeof buf, MSG_DONTWAIT), 0);
	assert_int_equal(shutdown(e->peer, SHUT_WR), 0);
	for (int i = 0; i < 3; i++)
		loop_turn(e->l, 0);
	assert_int_equal(stream_lingering(), 0);
	drop(e);
}

/* Nothing more is expected of the peer: its last words are for nobody, and its FIN is not waited for. */
static void
ending_closes_behind_the_rest(void **state)
{
	struct end *e = make();
	char buf[16];

	(void)state;
	stream_write(e->s, SLICE("bye"));
	stream_end(&e->s);
	assert_null(e->s);
	assert_int_equal(stream_lingering(), 1);
	loop_turn(e->l, 0);
	assert_int_equal(stream_lingering(), 0);
	assert_int_equal(hear(e, buf, sizeof buf), 3);
	assert_int_equal(send(e->peer, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	drop(e);
}

static void
a_reset_is_an_error_once(void **state)
{
	struct end *e = make();

	(void)state;
	say(e, "unread");
	close(e->peer);
	e->peer = -1;
	for (int i = 0; i < 3; i++)
		loop_turn(e->l, 0);
	stream_write(e->s, SLICE("into the void"));
	for (int i = 0; i < 3; i++)
		loop_turn(e->l, 0);
	assert_int_equal(e->seen[STREAM_READABLE], 1);
	assert_int_equal(e->seen[STREAM_ERROR], 1);
	assert_int_not_equal(stream_error(e->s), 0);
	drop(e);
}

static int
listener(struct sockaddr_in *at)
{
	socklen_t n = sizeof *at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET };
	at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof *at), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &n), 0);
	return fd;
}

static int
option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t n = sizeof value;

	assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
	return value;
}

static void
what_a_listener_accepts_has_its_options(void **state)
{
	struct sockaddr_in at;
	int fd = listener(&at), to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), got;

	(void)state;
	stream_listen(fd);
	assert_int_equal(connect(to, (struct sockaddr *)&at, sizeof at), 0);
	got = accept(fd, NULL, NULL);
	assert_int_equal(option_of(got, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option_of(got, SOL_SOCKET, SO_KEEPALIVE), 1);
	close(got);
	close(to);
	close(fd);
}

static void
connecting_succeeds_or_says_why(void **state)
{
	struct end e = { .l = loop_new(), .peer = -1 };
	struct sockaddr_in at, from = { .sin_family = AF_INET };
	int fd = listener(&at), got;

	(void)state;
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	e.s = stream_connect(e.l, (struct sockaddr *)&from, (struct sockaddr *)&at, on_event, &e);
	assert_non_null(e.s);
	stream_write(e.s, SLICE("early"));
	for (int i = 0; i < 100 && e.seen[STREAM_DRAINED] == 0; i++)
		loop_turn(e.l, 100 * USEC_PER_MS);
	assert_int_equal(e.seen[STREAM_CONNECTED], 1);
	assert_int_equal(e.seen[STREAM_DRAINED], 1);
	got = accept(fd, NULL, NULL);
	assert_true(got >= 0);
	close(got);
	stream_close(&e.s);
	close(fd);
	/* Nobody listens there now. */
	e.s = stream_connect(e.l, NULL, (struct sockaddr *)&at, on_event, &e);
	for (int i = 0; i < 100 && e.s != NULL && e.seen[STREAM_ERROR] == 0; i++)
		loop_turn(e.l, 100 * USEC_PER_MS);
	assert_int_equal(e.seen[STREAM_ERROR], 1);
	assert_int_equal(stream_error(e.s), ECONNREFUSED);
	stream_close(&e.s);
	loop_turn(e.l, 0);
	loop_free(&e.l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left_is_kept_and_comes_first),
		cmocka_unit_test(held_reading_waits_and_is_announced_again),
		cmocka_unit_test(an_owner_that_does_not_consume_is_not_drowned),
		cmocka_unit_test(writes_of_a_turn_leave_together),
		cmocka_unit_test(gathered_writes_wait_to_be_let_go),
		cmocka_unit_test(large_output_is_written_as_it_goes),
		cmocka_unit_test(closing_in_the_callback_is_fine),
		cmocka_unit_test(finishing_writes_the_rest_and_ends),
		cmocka_unit_test(ending_closes_behind_the_rest),
		cmocka_unit_test(what_a_listener_accepts_has_its_options),
		cmocka_unit_test(a_reset_is_an_error_once),
		cmocka_unit_test(connecting_succeeds_or_says_why),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
