/* The closed table, every way to break it, and the channel between two processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/shm_request.h"

static void
test_every_row_is_whole(void **state)
{
	(void)state;
	assert_null(req_row(REQ_NONE));
	assert_null(req_row(REQ_TYPE_MAX));
	assert_null(req_row(65535));
	for (unsigned t = REQ_NONE + 1; t < REQ_TYPE_MAX; t++) {
		const struct req_row *r = req_row(t);

		assert_non_null(r);
		assert_true(r->askers != 0 && r->answerers != 0 && r->states != 0);
		assert_true(r->min <= r->max && r->max <= REQ_PAYLOAD);
		assert_true(strlen(r->text) > 0);
		/* one side of every row that the master does not forward is the master */
		assert_false((r->askers & REQ_M) != 0 && (r->answerers & REQ_M) != 0);
	}
}

#define HEAD(t, l, f)                           \
	{                                       \
		.type = t, .len = l, .flags = f \
	}

static void
test_what_breaks_the_table(void **state)
{
	static const struct {
		const char *name;
		struct req_head head;
		size_t packet;
		enum role asker;
		enum slot_state state;
		enum role answerer;
		const char *want; /* a part of the words; NULL: allowed */
	} table[] = {
		{ "ready", HEAD(REQ_READY, 0, 0), 12, ROLE_WORKER, SLOT_STARTING, ROLE_MASTER, NULL },
		{ "reload", HEAD(REQ_RELOAD, 0, 0), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, NULL },
		{ "a worker must not reload", HEAD(REQ_RELOAD, 0, 0), 12, ROLE_WORKER, SLOT_SERVING, ROLE_MASTER,
		  "role" },
		{ "nor speak as the master", HEAD(REQ_STOP, 0, 0), 12, ROLE_WORKER, SLOT_SERVING, ROLE_WORKER, "role" },
		{ "not yet", HEAD(REQ_RELOAD, 0, 0), 12, ROLE_CONSOLE, SLOT_STARTING, ROLE_MASTER, "when" },
		{ "unknown", HEAD(REQ_TYPE_MAX, 0, 0), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, "table" },
		{ "none", HEAD(REQ_NONE, 0, 0), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, "table" },
		{ "longer than said", HEAD(REQ_RELOAD, 0, 0), 13, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, "length" },
		{ "shorter than said", HEAD(REQ_SHUTDOWN, 1, 0), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER,
		  "length" },
		{ "too long for its row", HEAD(REQ_SHUTDOWN, 2, 0), 14, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER,
		  "size" },
		{ "too short for its row", HEAD(REQ_SHUTDOWN, 0, 0), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER,
		  "size" },
		{ "wrong answerer", HEAD(REQ_KEEPER_COMMIT, 0, 0), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_WORKER, "who" },
		{ "nobody there", HEAD(REQ_KEEPER_COMMIT, 0, 0), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_NONE, NULL },
		{ "flags", HEAD(REQ_RELOAD, 0, 8), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, "flags" },
		{ "more without reply", HEAD(REQ_RELOAD, 0, REQ_MORE), 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER,
		  "flags" },
		{ "answer", HEAD(REQ_KEEPER_COMMIT, 0, REQ_REPLY), 12, ROLE_KEEPER, SLOT_SERVING, ROLE_CONSOLE, NULL },
		{ "answer by another", HEAD(REQ_KEEPER_COMMIT, 0, REQ_REPLY), 12, ROLE_WORKER, SLOT_SERVING,
		  ROLE_CONSOLE, "not asked" },
		{ "answer to a notice", HEAD(REQ_DRAIN, 0, REQ_REPLY), 12, ROLE_WORKER, SLOT_SERVING, ROLE_MASTER,
		  "no answer" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct req_meter m = { { 0 }, { 0 } };
		const char *got = req_violation(&table[i].head, table[i].packet, table[i].asker, table[i].state,
						table[i].answerer, &m, USEC_PER_SEC);

		if ((got == NULL) != (table[i].want == NULL) || (got != NULL && strstr(got, table[i].want) == NULL))
			fail_msg("%s: got \"%s\"", table[i].name, got == NULL ? "allowed" : got);
	}
}

static void
test_pace(void **state)
{
	struct req_head ready = HEAD(REQ_READY, 0, 0), reload = HEAD(REQ_RELOAD, 0, 0);
	struct req_meter m = { { 0 }, { 0 } };
	usec_t now = 50 * USEC_PER_SEC;

	(void)state;
	assert_null(req_violation(&ready, 12, ROLE_WORKER, SLOT_STARTING, ROLE_MASTER, &m, now));
	assert_non_null(req_violation(&ready, 12, ROLE_WORKER, SLOT_STARTING, ROLE_MASTER, &m, now + 9 * USEC_PER_SEC));
	for (int i = 0; i < 10; i++)
		assert_null(req_violation(&reload, 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, &m, now));
	assert_non_null(
		req_violation(&reload, 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, &m, now + USEC_PER_SEC - 1));
	assert_null(req_violation(&reload, 12, ROLE_CONSOLE, SLOT_SERVING, ROLE_MASTER, &m, now + USEC_PER_SEC));
}

/* ---- the channel ---- */

static void
wait_for(struct req_channel *c, short events)
{
	struct pollfd p = { .fd = req_channel_fd(c), .events = events };

	assert_int_equal(poll(&p, 1, -1), 1);
}

static void
answer_thrice(void *arg, struct req_channel *c, struct req_msg *m)
{
	(void)arg;
	req_answer(c, &m->head, OK, SLICE("one "), true);
	req_answer(c, &m->head, OK, m->payload, true);
	req_answer(c, &m->head, ERR_FULL, SLICE(" end"), false);
}

struct heard {
	struct bytes text;
	enum err status;
	int ends;
};

static void
on_reply(void *arg, enum err status, struct slice payload, bool more)
{
	struct heard *h = arg;

	bytes_add_slice(&h->text, payload);
	h->status = status;
	h->ends += !more;
}

static void
no_request(void *arg, struct req_channel *c, struct req_msg *m)
{
	(void)arg;
	(void)c;
	(void)m;
	fail();
}

static void
test_ask_and_answer_between_processes(void **state)
{
	struct heard heard = { .ends = 0 };
	struct req_channel *c;
	int ours, theirs;
	pid_t pid;

	(void)state;
	assert_int_equal(req_pair(&ours, &theirs), OK);
	if ((pid = fork()) == 0) {
		c = req_channel_new(theirs, 9);
		close(ours);
		wait_for(c, POLLIN);
		_exit(req_channel_turn(c, answer_thrice, NULL) == OK ? 0 : 1);
	}
	close(theirs);
	c = req_channel_new(ours, 3);
	assert_int_equal(req_ask(c, REQ_KEEPER_ASK, REQ_TO_KEEPER, SLICE("two"), on_reply, &heard), OK);
	while (heard.ends == 0) {
		wait_for(c, POLLIN);
		req_channel_turn(c, no_request, NULL);
	}
	assert_string_equal(bytes_cstr(&heard.text), "one two end");
	assert_int_equal(heard.status, ERR_FULL);
	waitpid(pid, NULL, 0);
	wait_for(c, POLLIN);
	assert_int_equal(req_channel_turn(c, no_request, NULL), ERR_EOF);
	bytes_fini(&heard.text);
	req_channel_free(&c);
}

static void
test_an_open_question_ends_with_its_channel(void **state)
{
	struct heard heard = { .ends = 0 }, forgotten = { .ends = 0 };
	struct req_channel *c;
	int ours, theirs;

	(void)state;
	assert_int_equal(req_pair(&ours, &theirs), OK);
	c = req_channel_new(ours, 3);
	assert_int_equal(req_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""), on_reply, &heard), OK);
	assert_int_equal(req_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""), on_reply, &forgotten), OK);
	req_forget(c, &forgotten);
	req_channel_free(&c);
	assert_null(c);
	assert_int_equal(heard.ends, 1);
	assert_int_equal(heard.status, ERR_EOF);
	assert_int_equal(forgotten.ends, 0);
	close(theirs);
}

static void
test_what_is_no_packet(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		enum err want;
	} table[] = {
		{ "x", 1, ERR_SYNTAX },
		{ "\1\0\5\0\0\0\0\0\1\0\0\0", 12, ERR_SYNTAX },
		{ "\1\0\1\0\0\0\0\0\1\0\0\0ab", 14, ERR_SYNTAX },
		{ "\1\0\1\0\0\0\0\0\1\0\0\0a", 13, OK },
	};
	struct req_channel *c;
	struct req_msg m;
	int ours, theirs;

	(void)state;
	assert_int_equal(req_pair(&ours, &theirs), OK);
	c = req_channel_new(ours, 3);
	assert_int_equal(req_recv(c, &m), ERR_AGAIN);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(send(theirs, table[i].bytes, table[i].n, 0), table[i].n);
		assert_int_equal(req_recv(c, &m), table[i].want);
	}
	close(theirs);
	assert_int_equal(req_recv(c, &m), ERR_EOF);
	req_channel_free(&c);
}

static int numbers_seen;

static void
on_number(void *arg, struct req_channel *c, struct req_msg *m)
{
	uint32_t n;
	struct slice s = m->payload;

	(void)arg;
	(void)c;
	assert_true(take_u32(&s, &n));
	assert_int_equal(req_done(slice_of(s.p, s.n)), ERR_SYNTAX);
	assert_int_equal(n, numbers_seen);
	numbers_seen++;
}

/* More than the socket takes waits in the channel, and comes in order. */
static void
test_a_full_socket_loses_nothing(void **state)
{
	enum { N = 600 };
	static char big[8192];
	struct req_channel *a, *b;
	struct req_head h = { .type = REQ_LOGS };
	int ours, theirs;

	(void)state;
	numbers_seen = 0;
	assert_int_equal(req_pair(&ours, &theirs), OK);
	a = req_channel_new(ours, REQ_TO_MASTER);
	b = req_channel_new(theirs, 3);
	for (uint32_t i = 0; i < N; i++) {
		memcpy(big, &i, sizeof(i));
		assert_int_equal(req_send(a, &h, slice_of(big, sizeof(big)), NULL, 0), OK);
	}
	assert_true(req_channel_wants_write(a));
	while (numbers_seen < N) {
		assert_int_equal(req_channel_turn(b, on_number, NULL), OK);
		assert_int_equal(req_channel_flush(a), OK);
	}
	assert_false(req_channel_wants_write(a));
	req_channel_free(&a);
	req_channel_free(&b);
}

static void
test_descriptors_travel_and_wait_too(void **state)
{
	struct req_channel *a, *b;
	struct req_head h = { .type = REQ_LOGS };
	struct req_msg m;
	int ours, theirs, p[2];
	char c;

	(void)state;
	assert_int_equal(req_pair(&ours, &theirs), OK);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	a = req_channel_new(ours, REQ_TO_MASTER);
	b = req_channel_new(theirs, 3);
	while (!req_channel_wants_write(a))
		assert_int_equal(req_send(a, &h, SLICE("x"), NULL, 0), OK);
	assert_int_equal(req_send(a, &h, SLICE("f"), &p[1], 1), OK);
	close(p[1]);
	do {
		while (req_recv(b, &m) == ERR_AGAIN)
			assert_int_equal(req_channel_flush(a), OK);
	} while (m.payload.p[0] != 'f');
	assert_int_equal(m.nfds, 1);
	assert_true((fcntl(m.fds[0], F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(write(m.fds[0], "z", 1), 1);
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(c, 'z');
	close(m.fds[0]);
	close(p[0]);
	req_channel_free(&a);
	req_channel_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row_is_whole),
		cmocka_unit_test(test_what_breaks_the_table),
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_ask_and_answer_between_processes),
		cmocka_unit_test(test_an_open_question_ends_with_its_channel),
		cmocka_unit_test(test_what_is_no_packet),
		cmocka_unit_test(test_a_full_socket_loses_nothing),
		cmocka_unit_test(test_descriptors_travel_and_wait_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
