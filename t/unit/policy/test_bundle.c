#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "policy/policy_bundle.h"

static void
put(const char *dir, const char *file, const char *text)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void
sub(const char *dir, const char *name, char *out, size_t size)
{
	snprintf(out, size, "%s/%s", dir, name);
	assert_int_equal(mkdir(out, 0700), 0);
}

static const char *
text_of(const struct policy_bundle *b, const char *name)
{
	const struct policy_script *s = policy_bundle_find(b, slice_str(name));

	return s == NULL ? NULL : s->text.p;
}

static void
directories(void **state)
{
	char dir[] = "/tmp/impetus-bundle-XXXXXX", first[256], second[256], deep[300], deeper[340], cmd[400];
	struct policy_bundle *b = policy_bundle_new();
	struct bytes errs = { 0 };

	(void)state;
	assert_non_null(mkdtemp(dir));
	sub(dir, "first", first, sizeof(first));
	sub(dir, "second", second, sizeof(second));
	sub(first, "msys", deep, sizeof(deep));
	sub(deep, "deeper", deeper, sizeof(deeper));
	put(first, "site.lua", "first");
	put(first, "notes.txt", "no script");
	put(first, "odd.name.lua", "no module name");
	put(first, ".hidden.lua", "hidden");
	put(deep, "boot.lua", "boot");
	put(deeper, "far.lua", "far");
	put(second, "site.lua", "second");
	put(second, "other.lua", "other");
	snprintf(deep, sizeof(deep), "%s/fifo.lua", second);
	assert_int_equal(mkfifo(deep, 0600), 0);

	assert_int_equal(policy_bundle_add_dir(b, first, 1, &errs), OK);
	assert_int_equal(errs.n, 0);
	assert_int_equal(policy_bundle_add_dir(b, second, POLICY_BUNDLE_DEPTH, &errs), OK);
	assert_non_null(strstr(bytes_cstr(&errs), "fifo.lua")); /* said, and nobody waits for it */
	assert_int_equal(policy_bundle_add_dir(b, "/nonexistent", 1, &errs), OK);
	assert_string_equal(text_of(b, "site"), "first"); /* the earlier directory wins */
	assert_string_equal(text_of(b, "other"), "other");
	assert_string_equal(text_of(b, "msys.boot"), "boot");
	assert_string_equal(text_of(b, "msys/boot"), "boot");
	assert_null(text_of(b, "msys.deeper.far")); /* below the depth asked for */
	assert_null(text_of(b, "odd.name"));
	assert_null(text_of(b, "../first/site"));
	assert_null(text_of(b, ""));
	policy_bundle_free(&b);
	bytes_fini(&errs);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

static void
bounds(void **state)
{
	struct policy_bundle *b = policy_bundle_new();
	char name[32];

	(void)state;
	for (int i = 0; i < POLICY_BUNDLE_FILES; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		assert_int_equal(policy_bundle_add(b, name, "p", SLICE("x")), OK);
	}
	assert_int_equal(policy_bundle_add(b, "m5", "p", SLICE("x")), ERR_EXISTS);
	assert_int_equal(policy_bundle_add(b, "more", "p", SLICE("x")), ERR_FULL);
	policy_bundle_free(&b);
	policy_bundle_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(directories), cmocka_unit_test(bounds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
