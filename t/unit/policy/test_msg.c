#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/policy.h"

static const struct policy_host_ops ops;

static struct policy_msg *
message(struct policy_session *s)
{
	const struct policy_msg_env env = { .sender = SLICE("a@b"), .rcpt = SLICE("x@y"), .batch = 7, .conn = 9 };
	struct policy_msg *m = policy_msg_new(s, &env);

	policy_msg_replace_header(m, SLICE("Subject: x\r\n"));
	policy_msg_replace_body(m, SLICE("\r\nbody\r\n"));
	return m;
}

static void
clones_share_until_changed(void **state)
{
	struct policy *p = policy_new("h", &ops);
	struct policy_session *s = policy_session_new_internal(p, 1);
	struct policy_msg *m = message(s), *one, *two;
	struct slice body;

	(void)state;
	policy_context_set(policy_session_mess(s), SLICE("k"), SLICE("shared"));
	assert_ptr_equal(policy_msg_mess_context(m), policy_session_mess(s));
	policy_msg_set_binding(m, SLICE("out"));
	one = policy_msg_clone(m, 11, SLICE("one@y"));
	two = policy_msg_clone(m, 12, SLICE("two@y"));
	assert_false(policy_msg_header_own(one, m) || policy_msg_body_own(one, m));
	policy_msg_replace_header(one, SLICE("X: y\r\n"));
	assert_true(policy_msg_header_own(one, m) && !policy_msg_body_own(one, m));
	assert_false(policy_msg_header_own(two, m));
	assert_string_equal(policy_msg_rcpt(one).p, "one@y");
	assert_string_equal(policy_msg_sender(two).p, "a@b");
	assert_string_equal(policy_msg_binding(two).p, "out");
	assert_int_equal(policy_msg_id(two), 12);
	assert_int_equal(policy_msg_batch(two), 7);
	policy_context_set(policy_msg_mess_context(one), SLICE("k"), SLICE("mine"));
	assert_true(policy_context_get(policy_msg_mess_context(two), SLICE("k"), &body));
	assert_string_equal(body.p, "shared");
	policy_session_reset(s); /* the next transaction begins: clones keep theirs */
	assert_true(policy_context_get(policy_msg_mess_context(two), SLICE("k"), &body));
	policy_msg_free(&m); /* before its clones */
	assert_int_equal(policy_block_bytes(policy_msg_body(two), &body), OK);
	assert_true(slice_eq(body, SLICE("\r\nbody\r\n")));
	assert_int_equal(policy_msg_size(two), 12 + 8);
	policy_msg_free(&one);
	policy_msg_free(&two);
	policy_msg_free(&two);
	policy_session_free(&s);
	policy_free(&p);
}

static void
discard_is_inherited(void **state)
{
	struct policy *p = policy_new("h", &ops);
	struct policy_session *s = policy_session_new_internal(p, 1);
	struct policy_msg *m = message(s), *one;
	struct slice why;

	(void)state;
	assert_false(policy_msg_discarded(m, &why));
	policy_msg_discard(m, SLICE("550 no"));
	one = policy_msg_clone(m, 2, SLICE("x@y"));
	assert_true(policy_msg_discarded(one, &why));
	assert_string_equal(why.p, "550 no");
	policy_msg_free(&one);
	policy_msg_free(&m);
	policy_session_free(&s);
	policy_free(&p);
}

static int released, loaded;
static enum err load_result;

static void
release(void *arg)
{
	(void)arg;
	released++;
}

static enum err
load(void *arg, struct slice *out)
{
	loaded++;
	*out = *(struct slice *)arg;
	return load_result;
}

static void
lazy_blocks(void **state)
{
	struct slice text = SLICE("12345"), got;
	struct policy_block *b = policy_block_lazy(5, load, release, &text), *second = b;

	(void)state;
	assert_int_equal(policy_block_size(b), 5);
	assert_int_equal(loaded, 0);
	load_result = ERR_IO;
	assert_int_equal(policy_block_bytes(b, &got), ERR_IO);
	load_result = OK;
	assert_int_equal(policy_block_bytes(b, &got), OK);
	assert_int_equal(policy_block_bytes(b, &got), OK);
	assert_int_equal(loaded, 2);
	assert_true(slice_eq(got, text));
	policy_block_ref(b);
	policy_block_unref(&b);
	assert_int_equal(released, 0);
	policy_block_unref(&second);
	assert_int_equal(released, 1);
	b = policy_block_lazy(6, load, release, &text); /* other bytes than were promised */
	assert_int_equal(policy_block_bytes(b, &got), ERR_DAMAGED);
	policy_block_unref(&b);
}

static void
addresses(void **state)
{
	static const struct {
		int family;
		const char *ip, *all;
	} rows[] = {
		{ AF_INET, "192.0.2.1", "192.0.2.1:25" },
		{ AF_INET6, "2001:db8::1", "2001:db8::1.25" },
		{ AF_UNSPEC, "", "" },
	};
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sockaddr_storage a = { .ss_family = (sa_family_t)rows[i].family };
		struct sockaddr_in *four = (struct sockaddr_in *)(void *)&a;
		struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)&a;

		if (rows[i].family == AF_INET6)
			inet_pton(AF_INET6, rows[i].ip, &six->sin6_addr);
		else if (rows[i].family == AF_INET)
			inet_pton(AF_INET, rows[i].ip, &four->sin_addr);
		four->sin_port = htons(25);
		policy_addr_text(&a, true, text);
		assert_string_equal(text, rows[i].all);
		policy_addr_text(&a, false, text);
		assert_string_equal(text, rows[i].ip);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clones_share_until_changed),
		cmocka_unit_test(discard_is_inherited),
		cmocka_unit_test(lazy_blocks),
		cmocka_unit_test(addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
