#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/policy_context.h"

static void
set(struct policy_context *c, const char *k, const char *v)
{
	assert_int_equal(policy_context_set(c, slice_str(k), slice_str(v)), OK);
}

static const char *
get(const struct policy_context *c, const char *k)
{
	struct slice v;

	return policy_context_get(c, slice_str(k), &v) ? v.p : NULL;
}

static void
set_get_delete(void **state)
{
	struct policy_context c = { 0 };

	(void)state;
	assert_null(get(&c, "a"));
	assert_false(policy_context_delete(&c, SLICE("a")));
	set(&c, "a", "1");
	set(&c, "b", "");
	set(&c, "", "empty key");
	set(&c, "a", "2");
	assert_int_equal(policy_context_count(&c), 3);
	assert_string_equal(get(&c, "a"), "2");
	assert_string_equal(get(&c, "b"), "");
	assert_string_equal(get(&c, ""), "empty key");
	/* a value that lies in what it replaces */
	struct slice own;
	policy_context_get(&c, SLICE("a"), &own);
	assert_int_equal(policy_context_set(&c, SLICE("a"), own), OK);
	assert_string_equal(get(&c, "a"), "2");
	assert_true(policy_context_delete(&c, SLICE("b")));
	assert_false(policy_context_delete(&c, SLICE("b")));
	assert_int_equal(policy_context_count(&c), 2);
	policy_context_clear(&c);
	assert_int_equal(policy_context_count(&c), 0);
}

static void
shared_until_written(void **state)
{
	struct policy_context a = { 0 }, b = { 0 };

	(void)state;
	set(&a, "k", "old");
	set(&b, "gone", "x");
	policy_context_share(&b, &a);
	assert_ptr_equal(a.dict, b.dict);
	assert_null(get(&b, "gone"));
	set(&b, "k", "new");
	assert_string_equal(get(&a, "k"), "old");
	assert_string_equal(get(&b, "k"), "new");
	policy_context_share(&b, &a);
	assert_false(policy_context_delete(&b, SLICE("none")));
	assert_ptr_equal(a.dict, b.dict); /* nothing was written */
	assert_true(policy_context_delete(&b, SLICE("k")));
	assert_string_equal(get(&a, "k"), "old");
	policy_context_share(&a, &a);
	assert_string_equal(get(&a, "k"), "old");
	policy_context_clear(&a);
	policy_context_clear(&b);
}

static void
bounds(void **state)
{
	struct policy_context c = { 0 };
	char key[16], *big = calloc(1, POLICY_CONTEXT_BYTES + 1);

	(void)state;
	for (int i = 0; i < POLICY_CONTEXT_KEYS; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		set(&c, key, "v");
	}
	assert_int_equal(policy_context_set(&c, SLICE("more"), SLICE("v")), ERR_FULL);
	set(&c, "k7", "another"); /* an old key is no new one */
	assert_int_equal(policy_context_count(&c), POLICY_CONTEXT_KEYS);
	assert_int_equal(policy_context_set(&c, SLICE("k8"), slice_of(big, POLICY_CONTEXT_BYTES + 1)), ERR_FULL);
	assert_int_equal(policy_context_set(&c, SLICE("k8"), slice_of(big, POLICY_CONTEXT_BYTES)), ERR_FULL);
	assert_string_equal(get(&c, "k8"), "v");
	policy_context_clear(&c);
	assert_int_equal(policy_context_set(&c, SLICE("k"), slice_of(big, POLICY_CONTEXT_BYTES - 1)), OK);
	assert_int_equal(policy_context_set(&c, SLICE("l"), SLICE("")), ERR_FULL);
	assert_int_equal(policy_context_set(&c, SLICE("k"), SLICE("small")), OK);
	assert_int_equal(policy_context_set(&c, SLICE("l"), SLICE("")), OK);
	policy_context_clear(&c);
	free(big);
}

static void
packed_and_back(void **state)
{
	struct policy_context a = { 0 }, b = { 0 }, c = { 0 };
	struct bytes packed = { 0 };

	(void)state;
	policy_contexts_pack(&a, &b, &packed);
	assert_int_equal(packed.n, 0);
	assert_int_equal(policy_contexts_unpack(slice_bytes(&packed), &a, &b), OK);
	set(&a, "conn", "1");
	assert_int_equal(policy_context_set(&b, SLICE("m\0x"), SLICE("\0\377")), OK);
	set(&b, "second", "2");
	policy_contexts_pack(&a, &b, &packed);
	set(&c, "old", "x");
	assert_int_equal(policy_contexts_unpack(slice_bytes(&packed), &c, &b), OK);
	assert_int_equal(policy_context_count(&c), 1);
	assert_string_equal(get(&c, "conn"), "1");
	struct slice v;
	assert_true(policy_context_get(&b, SLICE("m\0x"), &v));
	assert_true(slice_eq(v, SLICE("\0\377")));
	for (size_t n = 1; n < packed.n; n++) { /* every cut is damage, never half a dictionary */
		assert_int_equal(policy_contexts_unpack(slice_of(packed.p, n), &b, &c), ERR_DAMAGED);
		assert_int_equal(policy_context_count(&b) + policy_context_count(&c), 0);
	}
	packed.p[0] = 99;
	assert_int_equal(policy_contexts_unpack(slice_bytes(&packed), &b, &c), ERR_VERSION);
	policy_context_clear(&a);
	bytes_fini(&packed);
}

static void
printed(void **state)
{
	static const struct {
		const char *key, *value, *want;
	} rows[] = {
		{ "k", "v", "k=v" },
		{ "k", "two words", "k=\"two words\"" },
		{ "k", "a,b", "k=\"a,b\"" },
		{ "k", "x\r\nE=250", "k=x??E=250" },
		{ "k", "] M=none", "k=\"] M=none\"" },
		{ "k", "say \"hi\"", "k=\"say 'hi'\"" },
		{ "#internal", "x", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct policy_context c = { 0 };
		struct bytes out = { 0 };

		set(&c, rows[i].key, rows[i].value);
		policy_context_print(&c, &out);
		assert_string_equal(bytes_cstr(&out), rows[i].want);
		bytes_fini(&out);
		policy_context_clear(&c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_get_delete), cmocka_unit_test(shared_until_written),
		cmocka_unit_test(bounds),         cmocka_unit_test(packed_and_back),
		cmocka_unit_test(printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
