/* worker/reception: who is let in, and by which worker. Two workers stand in one process, each with its loop and its slot
 * of a real shared area; they share a listening socket as forked ones do. */
#include "t/smtp/rig.h"

#include <errno.h>
#include <poll.h>

#include "shm/shm_area.h"
#include "shm/shm_limits.h"
#include "worker/reception/esmtp_int.h"

enum { WORKERS = 2, CLIENTS = 200 };

struct site {
	struct rig *rig; /* store, policy, configuration; its own reception is not used */
	struct shm_area *area;
	struct loop *loops[WORKERS];
	struct reception *workers[WORKERS];
	int listener;
	struct sockaddr_in at;
	bool convicted;
	int clients[CLIENTS];
};

static bool
is_convicted(void *arg, const struct sockaddr *peer)
{
	assert_int_equal(peer->sa_family, AF_INET);
	return ((struct site *)arg)->convicted;
}

static struct site *
site_new_on(const char *conf_text, in_addr_t address)
{
	struct site *s = mem_zalloc(sizeof *s);
	struct reception_listener door = { 0 };
	socklen_t n = sizeof s->at;
	uint64_t writer;

	s->rig = rig_new(conf_text);
	s->area = shm_area_new();
	assert_non_null(s->area);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	s->at = (struct sockaddr_in){ .sin_family = AF_INET };
	s->at.sin_addr.s_addr = htonl(address);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&s->at, n), 0);
	assert_int_equal(listen(s->listener, CLIENTS), 0);
	assert_int_equal(getsockname(s->listener, (struct sockaddr *)&s->at, &n), 0);
	door.fd = s->listener;
	for (int i = 0; i < WORKERS; i++) {
		struct reception_env env = { .conf = s->rig->conf,
					     .policy = s->rig->policy,
					     .area = s->area,
					     .limits = shm_area_limits(s->area),
					     .slot = i,
					     .store = &s->rig->store,
					     .ask = &s->rig->ask,
					     .listeners = &door,
					     .nlisteners = 1,
					     .refused_peer = is_convicted,
					     .arg = s };

		shm_slot_take(s->area, i, ROLE_WORKER, 1, &writer);
		shm_slot_born(s->area, i, getpid());
		slot_set_state(shm_slot(s->area, i), SLOT_SERVING);
		s->loops[i] = loop_new();
		env.loop = s->loops[i];
		s->workers[i] = reception_new(&env);
	}
	for (int i = 0; i < CLIENTS; i++)
		s->clients[i] = -1;
	return s;
}

static struct site *
site_new(const char *conf_text)
{
	return site_new_on(conf_text, INADDR_LOOPBACK);
}

static void
site_turn(struct site *s, usec_t later)
{
	rig_clock += later;
	for (int i = 0; i < WORKERS; i++)
		loop_turn(s->loops[i], 0);
}

static void
site_connect(struct site *s, int i)
{
	s->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(s->clients[i], (struct sockaddr *)&s->at, sizeof s->at), 0);
}

/* What client i hears, waiting for it as long as the kernel needs: the answer is on its way. */
static const char *
site_hears(struct site *s, int i)
{
	static char text[512];
	struct pollfd p = { .fd = s->clients[i], .events = POLLIN };
	ssize_t n;

	for (int turn = 0; turn < 100 && poll(&p, 1, 0) == 0; turn++)
		site_turn(s, USEC_PER_MS);
	n = recv(s->clients[i], text, sizeof text - 1, MSG_DONTWAIT);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void
site_free(struct site *s)
{
	for (int i = 0; i < CLIENTS; i++)
		if (s->clients[i] >= 0)
			close(s->clients[i]);
	for (int i = 0; i < WORKERS; i++) {
		reception_free(&s->workers[i]);
		assert_int_equal(slot_get(shm_slot(s->area, i), CELL_SESSIONS_IN), 0);
	}
	for (int i = 0; i < 5; i++)
		site_turn(s, 10 * USEC_PER_SEC);
	for (int i = 0; i < WORKERS; i++)
		loop_free(&s->loops[i]);
	close(s->listener);
	shm_area_free(&s->area);
	rig_free(s->rig);
	free(s);
}

/* As policy and the logs see it. */
static void
assert_reached_at(in_addr_t listening, in_addr_t reached, const char *ip)
{
	struct site *s = site_new_on("", listening);
	struct esmtp *session = NULL;
	char want[64];

	s->at.sin_addr.s_addr = htonl(reached);
	site_connect(s, 0);
	assert_string_not_equal(site_hears(s, 0), "");
	for (int i = 0; i < WORKERS && session == NULL; i++)
		session = TAILQ_FIRST(&s->workers[i]->sessions);
	assert_non_null(session);
	snprintf(want, sizeof want, "%s:%u", ip, (unsigned)ntohs(s->at.sin_port));
	assert_string_equal(session->local, want);
	site_free(s);
}

static void
the_address_that_was_reached_is_known(void **state)
{
	(void)state;
	assert_reached_at(INADDR_LOOPBACK, INADDR_LOOPBACK, "127.0.0.1");
	assert_reached_at(INADDR_LOOPBACK + 4, INADDR_LOOPBACK + 4, "127.0.0.5");
	assert_reached_at(INADDR_ANY, INADDR_LOOPBACK + 6, "127.0.0.7");
}

static void
assert_shared(struct site *s)
{
	size_t first = reception_sessions(s->workers[0]), second = reception_sessions(s->workers[1]);

	assert_int_equal(first + second, CLIENTS);
	if (first * 10 > CLIENTS * 6 || second * 10 > CLIENTS * 6)
		fail_msg("%zu and %zu", first, second);
	assert_int_equal(shm_total(s->area, CELL_SESSIONS_IN), CLIENTS);
	assert_int_equal(shm_total(s->area, CELL_CONNECTIONS_IN), CLIENTS);
}

/* All at once; and one at a time, far apart, when one worker always looks first. */
static void
workers_share_what_comes(void **state)
{
	struct site *s = site_new("");

	(void)state;
	for (int i = 0; i < CLIENTS; i++)
		site_connect(s, i);
	for (int i = 0; i < 1000; i++)
		site_turn(s, USEC_PER_MS);
	assert_shared(s);
	site_free(s);
	s = site_new("");
	for (int i = 0; i < CLIENTS; i++) {
		site_connect(s, i);
		site_turn(s, 0);
		site_turn(s, 50 * USEC_PER_MS);
	}
	for (int i = 0; i < 1000; i++)
		site_turn(s, USEC_PER_MS);
	assert_shared(s);
	site_free(s);
}

/* Where thousands idle, no worker is well above the mean by a few more: what came lately decides. */
static void
workers_share_what_comes_beside_a_crowd(void **state)
{
	struct site *s = site_new("");

	(void)state;
	for (int i = 0; i < WORKERS; i++)
		slot_add(shm_slot(s->area, i), CELL_SESSIONS_IN, 1000);
	for (int i = 0; i < CLIENTS; i++) {
		site_connect(s, i);
		site_turn(s, 0);
		site_turn(s, 20 * USEC_PER_MS);
	}
	for (int i = 0; i < 1000; i++)
		site_turn(s, USEC_PER_MS);
	for (int i = 0; i < WORKERS; i++)
		slot_add(shm_slot(s->area, i), CELL_SESSIONS_IN, -1000);
	assert_shared(s);
	site_free(s);
}

/* A worker that does not turn does not keep the other from taking everything in the end. */
static void
a_stuck_neighbour_leaves_nobody_outside(void **state)
{
	struct site *s = site_new("");

	(void)state;
	for (int i = 0; i < CLIENTS; i++)
		site_connect(s, i);
	for (int i = 0; i < 30000 && reception_sessions(s->workers[0]) < CLIENTS; i++) {
		rig_clock += USEC_PER_MS;
		loop_turn(s->loops[0], 0);
	}
	assert_int_equal(reception_sessions(s->workers[0]), CLIENTS);
	site_free(s);
}

#define LIMITED "ESMTP_Listener { listener_sessions = 3 Listen \"127.0.0.1:25\" { } }"

static void
listener_sessions_count_over_all_workers(void **state)
{
	struct site *s = site_new(LIMITED);
	int refused = 0, greeted = 0;

	(void)state;
	for (int i = 0; i < 5; i++) {
		const char *said;

		site_connect(s, i);
		said = site_hears(s, i);
		greeted += strcmp(said, "220 mx.test ESMTP\r\n") == 0;
		refused += strcmp(said, "421 4.4.5 Service unavailable, concurrency limit reached\r\n") == 0;
	}
	assert_int_equal(greeted, 3);
	assert_int_equal(refused, 2);
	assert_int_equal(shm_total(s->area, CELL_CONNECTIONS_REFUSED), 2);
	/* One leaves, one more may come. */
	close(s->clients[0]);
	s->clients[0] = -1;
	for (int i = 0; i < 5; i++)
		site_turn(s, USEC_PER_MS);
	site_connect(s, 5);
	assert_string_equal(site_hears(s, 5), "220 mx.test ESMTP\r\n");
	site_free(s);
}

static void
a_convicted_peer_is_kept_out(void **state)
{
	struct site *s = site_new("");

	(void)state;
	s->convicted = true;
	site_connect(s, 0);
	assert_string_equal(site_hears(s, 0), "421 4.4.5 Service unavailable\r\n");
	s->convicted = false;
	site_connect(s, 1);
	assert_string_equal(site_hears(s, 1), "220 mx.test ESMTP\r\n");
	site_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(workers_share_what_comes),
		cmocka_unit_test(the_address_that_was_reached_is_known),
		cmocka_unit_test(workers_share_what_comes_beside_a_crowd),
		cmocka_unit_test(a_stuck_neighbour_leaves_nobody_outside),
		cmocka_unit_test(listener_sessions_count_over_all_workers),
		cmocka_unit_test(a_convicted_peer_is_kept_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
