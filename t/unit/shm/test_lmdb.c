/* The wrapper: errors carried to the commit, ranges, a full map, readers that died, a compact copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/shm_lmdb.h"

static const char *const names[] = { "message", "queue" };
enum { MESSAGE, QUEUE };
static char dir[64];
static struct lmdb *l;

static struct lmdb_conf
conf(bool read_only, uint64_t size)
{
	return (struct lmdb_conf){
		.path = dir, .tables = names, .ntables = 2, .map_size = size, .readers = 4, .read_only = read_only
	};
}

static int
setup(void **state)
{
	struct lmdb_conf c;

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/impetus-lmdb.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	c = conf(false, 0);
	return lmdb_open(&c, &l) == OK ? 0 : -1;
}

static int
teardown(void **state)
{
	char path[128];

	(void)state;
	lmdb_close(&l);
	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/lock.mdb", dir);
	unlink(path);
	return rmdir(dir);
}

static struct slice
key(unsigned n, char buf[8])
{
	snprintf(buf, 8, "%05u", n % 100000);
	return slice_of(buf, 5);
}

static void
fill(unsigned n)
{
	struct lmdb_txn *t = lmdb_write(l);
	char buf[8];

	for (unsigned i = 0; i < n; i++)
		lmdb_append(t, MESSAGE, key(i * 2, buf), SLICE("value"));
	assert_int_equal(lmdb_commit(&t), OK);
	assert_null(t);
}

static void
test_put_get_del(void **state)
{
	struct lmdb_txn *t = lmdb_write(l);
	struct slice v;

	(void)state;
	assert_false(lmdb_get(t, MESSAGE, SLICE("a"), &v));
	lmdb_put(t, MESSAGE, SLICE("a"), SLICE("1"));
	lmdb_put(t, MESSAGE, SLICE("a"), SLICE("2"));
	lmdb_put(t, QUEUE, SLICE("a"), SLICE("3"));
	assert_int_equal(lmdb_count(t, MESSAGE), 1);
	assert_int_equal(lmdb_commit(&t), OK);
	t = lmdb_read(l);
	assert_true(lmdb_get(t, MESSAGE, SLICE("a"), &v));
	assert_true(slice_eq(v, SLICE("2")));
	lmdb_abort(&t);
	t = lmdb_write(l);
	assert_true(lmdb_del(t, MESSAGE, SLICE("a")));
	assert_false(lmdb_del(t, MESSAGE, SLICE("a")));
	lmdb_empty(t, QUEUE);
	assert_int_equal(lmdb_count(t, QUEUE), 0);
	assert_int_equal(lmdb_commit(&t), OK);
}

static void
test_an_error_is_carried_to_the_commit(void **state)
{
	struct lmdb_txn *t = lmdb_write(l);
	static char longest[600];
	struct slice v;

	(void)state;
	lmdb_put(t, MESSAGE, SLICE("a"), SLICE("1"));
	lmdb_put(t, MESSAGE, slice_of(longest, sizeof(longest)), SLICE("1"));
	assert_int_equal(lmdb_txn_error(t), ERR_RANGE);
	lmdb_put(t, MESSAGE, SLICE("b"), SLICE("1"));
	assert_false(lmdb_get(t, MESSAGE, SLICE("a"), &v));
	assert_int_equal(lmdb_commit(&t), ERR_RANGE);
	t = lmdb_write(l);
	lmdb_put(t, MESSAGE, SLICE("b"), SLICE("1"));
	lmdb_append(t, MESSAGE, SLICE("a"), SLICE("1"));
	assert_int_equal(lmdb_commit(&t), ERR_STATE);
	t = lmdb_write(l);
	lmdb_txn_fail(t, ERR_DAMAGED);
	assert_int_equal(lmdb_commit(&t), ERR_DAMAGED);
	t = lmdb_read(l);
	assert_int_equal(lmdb_count(t, MESSAGE), 0);
	lmdb_abort(&t);
}

static void
test_ranges(void **state)
{
	struct lmdb_txn *t;
	struct lmdb_cursor *c;
	struct slice k, v;
	unsigned n = 0;
	char buf[8];

	(void)state;
	fill(1000);
	t = lmdb_read(l);
	c = lmdb_cursor_open(t, MESSAGE);
	for (bool more = lmdb_seek(c, SLICE(""), &k, &v); more; more = lmdb_next(c, &k, &v))
		assert_true(slice_eq(k, key(2 * n++, buf)));
	assert_int_equal(n, 1000);
	assert_true(lmdb_seek(c, key(11, buf), &k, &v));
	assert_true(slice_eq(k, key(12, buf)));
	assert_true(lmdb_prev(c, &k, &v));
	assert_true(slice_eq(k, key(10, buf)));
	assert_true(lmdb_last(c, &k, &v));
	assert_true(slice_eq(k, key(1998, buf)));
	assert_false(lmdb_seek(c, SLICE("x"), &k, &v));
	assert_int_equal(lmdb_txn_error(t), OK);
	lmdb_cursor_close(&c);
	lmdb_abort(&t);
}

static void
test_deleting_while_walking(void **state)
{
	struct lmdb_txn *t;
	struct lmdb_cursor *c;
	struct slice k, v;
	unsigned seen = 0;

	(void)state;
	fill(2000);
	t = lmdb_write(l);
	c = lmdb_cursor_open(t, MESSAGE);
	for (bool more = lmdb_seek(c, SLICE(""), &k, &v); more; more = lmdb_next(c, &k, &v))
		if (seen++ % 3 != 0)
			lmdb_cursor_del(c);
	lmdb_cursor_close(&c);
	assert_int_equal(seen, 2000);
	assert_int_equal(lmdb_count(t, MESSAGE), 667);
	assert_int_equal(lmdb_commit(&t), OK);
}

static void
test_a_full_map_is_full(void **state)
{
	static char big[4096];
	struct lmdb_conf c = conf(false, 256 * 1024);
	struct lmdb_txn *t;
	char buf[8];

	(void)state;
	lmdb_close(&l);
	assert_int_equal(lmdb_open(&c, &l), OK);
	t = lmdb_write(l);
	for (unsigned i = 0; i < 100; i++)
		lmdb_put(t, MESSAGE, key(i, buf), slice_of(big, sizeof(big)));
	assert_int_equal(lmdb_commit(&t), ERR_FULL);
	fill(10);
}

/* Whoever writes puts a map aside and makes another, while readers open it: they find one, or none. */
static void
test_a_folder_that_is_put_aside_meanwhile(void **state)
{
	struct lmdb_conf c = conf(true, 0);
	char aside[80];
	pid_t pid;
	int status;

	(void)state;
	lmdb_close(&l);
	snprintf(aside, sizeof(aside), "%s.old", dir);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 20000; i++)
			if (rename(dir, aside) != 0 || rename(aside, dir) != 0)
				_exit(1);
		_exit(0);
	}
	for (bool over = false; !over;) {
		if (lmdb_open(&c, &l) == OK)
			lmdb_close(&l);
		over = waitpid(pid, &status, WNOHANG) == pid;
	}
	assert_int_equal(status, 0);
	assert_int_equal(lmdb_open(&c, &l), OK);
}

/* A file that was cut off once ended every process that read it, by SIGBUS, and so the whole service. */
static void
test_a_file_cut_off_is_damage(void **state)
{
	struct lmdb_conf c = conf(false, 0);
	struct lmdb_txn *t;
	char path[128], buf[8];
	struct slice v;
	enum err e;

	(void)state;
	fill(20000);
	lmdb_close(&l);
	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	assert_int_equal(truncate(path, 5 * 4096), 0);
	e = lmdb_open(&c, &l);
	if (e == OK) {
		t = lmdb_read(l);
		for (unsigned i = 0; i < 20000; i++)
			(void)lmdb_get(t, MESSAGE, key(i, buf), &v);
		e = lmdb_txn_error(t);
		lmdb_abort(&t);
	}
	assert_int_equal(e, ERR_DAMAGED);
}

/* Readers killed in the middle of a transaction do not use up the table. */
static void
test_dead_readers_are_cleared(void **state)
{
	struct lmdb_conf c = conf(true, 0);
	struct lmdb *r;
	struct lmdb_txn *t;
	struct slice v;
	int status;
	pid_t pid;

	(void)state;
	fill(1);
	lmdb_close(&l);
	for (int i = 0; i < 12; i++) {
		if ((pid = fork()) == 0) {
			if (lmdb_open(&c, &r) != OK)
				_exit(1);
			t = lmdb_read(r);
			if (!lmdb_get(t, MESSAGE, SLICE("00000"), &v))
				_exit(2);
			raise(SIGKILL);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
	}
	c = conf(false, 0);
	assert_int_equal(lmdb_open(&c, &l), OK);
	lmdb_clear_stale(l);
	t = lmdb_read(l);
	assert_int_equal(lmdb_txn_error(t), OK);
	lmdb_abort(&t);
}

static void
test_reading_what_is_not_there(void **state)
{
	struct lmdb_conf c = conf(true, 0);
	struct lmdb *r = NULL;

	(void)state;
	c.path = "/tmp/impetus-no-such-directory";
	assert_int_equal(lmdb_open(&c, &r), ERR_NOTFOUND);
	assert_null(r);
}

static void
test_compact_copy(void **state)
{
	char copy[64], data[96];
	struct lmdb_usage before, after;
	struct lmdb_conf c = conf(true, 0);
	struct lmdb_txn *t;
	struct lmdb *r;
	struct slice v;

	(void)state;
	fill(20000);
	t = lmdb_write(l);
	lmdb_empty(t, MESSAGE);
	lmdb_put(t, MESSAGE, SLICE("k"), SLICE("v"));
	assert_int_equal(lmdb_commit(&t), OK);
	snprintf(copy, sizeof(copy), "/tmp/impetus-copy.XXXXXX");
	assert_non_null(mkdtemp(copy));
	assert_int_equal(lmdb_usage(l, &before), OK);
	assert_true(before.free_bytes > before.file_bytes * 3 / 4);
	assert_int_equal(lmdb_copy_compact(l, copy), OK);
	c.path = copy;
	assert_int_equal(lmdb_open(&c, &r), OK);
	assert_int_equal(lmdb_usage(r, &after), OK);
	assert_true(after.file_bytes < before.file_bytes / 10);
	t = lmdb_read(r);
	assert_true(lmdb_get(t, MESSAGE, SLICE("k"), &v));
	assert_int_equal(lmdb_count(t, MESSAGE), 1);
	lmdb_abort(&t);
	lmdb_close(&r);
	snprintf(data, sizeof(data), "%s/data.mdb", copy);
	unlink(data);
	snprintf(data, sizeof(data), "%s/lock.mdb", copy);
	unlink(data);
	rmdir(copy);
}

int
main(void)
{
#define WITH_ENV(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_ENV(test_put_get_del),
		WITH_ENV(test_an_error_is_carried_to_the_commit),
		WITH_ENV(test_ranges),
		WITH_ENV(test_deleting_while_walking),
		WITH_ENV(test_a_full_map_is_full),
		WITH_ENV(test_a_folder_that_is_put_aside_meanwhile),
		WITH_ENV(test_a_file_cut_off_is_damage),
		WITH_ENV(test_dead_readers_are_cleared),
		WITH_ENV(test_reading_what_is_not_there),
		WITH_ENV(test_compact_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
