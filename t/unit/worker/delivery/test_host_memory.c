/* Hosts that did not answer: how long they are avoided, what is remembered of them, and how they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/delivery/host_memory.h"

static struct sockaddr_storage
host(const char *text)
{
	struct sockaddr_storage a;

	assert_true(host_parse(slice_str(text), &a));
	return a;
}

static void
text_there_and_back(void **state)
{
	static const char *const good[] = { "192.0.2.1:25", "[2001:db8::1]:2525", "0.0.0.0:0", "[::]:65535" };
	static const char *const bad[] = {
		"",        ":",     "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536",   "192.0.2.1:x",   "[::1:25",
		"::1]:25", "[]:25", "[:25",      "192.0.2:25", "mx.example.com:25", "[192.0.2.1]:25"
	};
	char out[HOST_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct sockaddr_storage a = host(good[i]);

		host_text(&a, true, out);
		assert_string_equal(out, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sockaddr_storage a;

		if (host_parse(slice_str(bad[i]), &a))
			fail_msg("%s is no host", bad[i]);
	}
}

static void
a_host_is_looked_at_without_being_changed(void **state)
{
	struct sockaddr_storage a = host("192.0.2.1:25"), b = host("192.0.2.1:26");
	struct host_memory *m = host_memory_new();
	usec_t s = USEC_PER_SEC, now = 1000 * s;
	struct host_state is;

	(void)state;
	assert_false(host_look(m, &a, &is));
	host_failed(m, &a, now, 60 * s, SLICE("refused"));
	host_failed(m, &a, now + s, 60 * s, SLICE("refused again"));
	assert_true(host_look(m, &a, &is));
	assert_int_equal(is.failures, 2);
	assert_int_equal(is.until, now + 3 * s);
	assert_string_equal(is.why, "refused again");
	assert_int_equal(host_until(m, &a, now + 2 * s), now + 3 * s);
	assert_int_equal(host_until(m, &a, now + 3 * s), 0);
	assert_true(host_look(m, &a, &is)); /* it may be tried; what happened is still known */
	assert_false(host_look(m, &b, &is));
	host_worked(m, &a);
	assert_false(host_look(m, &a, &is));
	host_memory_free(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_there_and_back),
		cmocka_unit_test(a_host_is_looked_at_without_being_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
