/* Damage in the file: whatever bits are flipped, sectors zeroed or ends cut off, either it is found when the file is
 * looked through, or all that is in it is as before; and nobody ends by reading it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/bytes.h"
#include "shm/base/log.h"
#include "shm/shm_lmdb.h"

static const char *const names[] = { "message", "queue", "empty" };
enum { MESSAGE, QUEUE, EMPTY, TABLES };
enum { HARMS = 400, PAGE = 4096, HEAD_BYTES = 144 };
enum harm { HARM_HEAD, HARM_BIT, HARM_SECTOR, HARM_CUT, HARM_NONE };
static char dir[64], path[96];
static struct lmdb *l;

static struct lmdb_conf
conf(bool read_only)
{
	return (struct lmdb_conf){ .path = dir,
				   .tables = names,
				   .ntables = TABLES,
				   .readers = 4,
				   .read_only = read_only,
				   .sums = true,
				   .audit = read_only ? 0 : UINT64_C(1) << 30 };
}

static int
setup(void **state)
{
	struct lmdb_conf c;

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/impetus-lmdb.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	c = conf(false);
	return lmdb_open(&c, &l) == OK ? 0 : -1;
}

static int
teardown(void **state)
{
	char lock[96];

	(void)state;
	lmdb_close(&l);
	snprintf(lock, sizeof(lock), "%s/lock.mdb", dir);
	unlink(path);
	unlink(lock);
	return rmdir(dir);
}

/* ---- a file with everything in it ---- */

static uint32_t
next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Some of the values are longer than a page. */
static void
change(struct lmdb_txn *t, uint32_t *seed)
{
	static char value[20000];
	char key[16];
	unsigned table = next(seed) % 8 == 0 ? QUEUE : MESSAGE;
	size_t n = next(seed) % 97 == 0 ? next(seed) % sizeof(value) : next(seed) % 300;

	snprintf(key, sizeof(key), "%05u", next(seed) % 3000);
	memset(value, key[4], n);
	if (next(seed) % 3 == 0)
		(void)lmdb_del(t, table, slice_str(key));
	else
		lmdb_put(t, table, slice_str(key), slice_of(value, n));
}

static enum err
audit(void)
{
	struct lmdb_audit *a = NULL;
	enum err e = lmdb_audit_begin(l, UINT64_MAX, &a);

	while (e == OK)
		e = lmdb_audit_step(a, 7);
	lmdb_audit_end(&a);
	return e;
}

static void
churn(unsigned commits, unsigned changes, bool look)
{
	uint32_t seed = 1;

	for (unsigned i = 0; i < commits; i++) {
		struct lmdb_txn *t = lmdb_write(l);

		for (unsigned j = 0; j < changes; j++)
			change(t, &seed);
		if (i % 10 == 9)
			lmdb_empty(t, QUEUE);
		assert_int_equal(lmdb_commit(&t), OK);
		if (look)
			assert_int_equal(audit(), ERR_EOF);
	}
}

/* ---- what is in it, as one number a table ---- */

struct content {
	uint64_t entries, sum;
};

static enum err
content_of(struct lmdb *from, struct content out[TABLES])
{
	struct lmdb_txn *t = lmdb_read(from);
	enum err e;

	for (unsigned i = 0; i < TABLES; i++) {
		struct lmdb_cursor *c = lmdb_cursor_open(t, i);
		struct slice k, v;

		out[i] = (struct content){ 0 };
		for (bool more = lmdb_seek(c, SLICE(""), &k, &v); more; more = lmdb_next(c, &k, &v)) {
			out[i].entries++;
			for (size_t j = 0; j < k.n; j++)
				out[i].sum = out[i].sum * 31 + (uint8_t)k.p[j];
			for (size_t j = 0; j < v.n; j++)
				out[i].sum = out[i].sum * 31 + (uint8_t)v.p[j];
		}
		lmdb_cursor_close(&c);
	}
	e = lmdb_txn_error(t);
	lmdb_abort(&t);
	return e;
}

/* ---- harm ---- */

static struct bytes whole; /* the file before */

static void
keep_whole(void)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(fstat(fd, &st), 0);
	whole.n = 0;
	assert_int_equal(read(fd, bytes_room(&whole, (size_t)st.st_size), (size_t)st.st_size), st.st_size);
	whole.n = (size_t)st.st_size;
	close(fd);
}

/* Each on a file that was whole. */
static void
harm(enum harm how, uint32_t *seed)
{
	static const char zero[512];
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
	size_t at = 2 * PAGE + next(seed) % (whole.n - 2 * PAGE);
	char byte = (char)(whole.p[at] ^ (1 << next(seed) % 8));
	char lock[96];

	snprintf(lock, sizeof(lock), "%s/lock.mdb", dir);
	unlink(lock);
	assert_int_equal(write(fd, whole.p, whole.n), whole.n);
	switch (how) {
	case HARM_HEAD: /* a word near a page's head, where one bit does most */
		at = at / PAGE * PAGE + next(seed) % 64;
		byte = (char)(whole.p[at] ^ (1 << next(seed) % 8));
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		break;
	case HARM_BIT:
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		break;
	case HARM_SECTOR:
		assert_int_equal(pwrite(fd, zero, 512, (off_t)(at / 512 * 512)), 512);
		break;
	case HARM_CUT:
		assert_int_equal(ftruncate(fd, (off_t)at), 0);
		break;
	case HARM_NONE:
		break;
	}
	close(fd);
}

static void
same_content(const struct content a[TABLES], const struct content b[TABLES])
{
	for (unsigned i = 0; i < TABLES; i++) {
		assert_int_equal(a[i].entries, b[i].entries);
		assert_int_equal(a[i].sum, b[i].sum);
	}
}

/* ---- tests ---- */

/* No whole file is called damaged, however it came to be. */
static void
test_a_whole_file_is_whole(void **state)
{
	(void)state;
	assert_int_equal(audit(), ERR_EOF);
	churn(300, 40, true);
	churn(5, 3000, true);
}

static void
test_damage_is_found_or_does_no_harm(void **state)
{
	struct content before[TABLES], after[TABLES];
	struct lmdb_conf c = conf(false);
	uint32_t seed = 3;
	unsigned found = 0;

	(void)state;
	churn(20, 600, false);
	assert_int_equal(content_of(l, before), OK);
	lmdb_close(&l);
	keep_whole();
	for (unsigned i = 0; i < HARMS; i++) {
		enum err e;

		harm((enum harm)(i % HARM_NONE), &seed);
		e = lmdb_open(&c, &l);
		if (e == OK) {
			assert_int_equal(content_of(l, after), OK);
			same_content(before, after);
		} else {
			assert_int_equal(e, ERR_DAMAGED);
			found++;
		}
		lmdb_close(&l);
	}
	assert_true(found > HARMS / 4);
	bytes_fini(&whole);
}

/* Every bit of what is in use of the two heads; none is an error of the disk's. The number of the commit is left out: two
 * of its bits may give the neighbour on the other side, and the state before the last commit. */
static void
test_a_damaged_head_is_found_or_does_no_harm(void **state)
{
	struct content before[TABLES], after[TABLES];
	struct lmdb_conf c = conf(false);
	uint32_t seed = 5;
	unsigned found = 0;

	(void)state;
	churn(6, 200, false);
	assert_int_equal(content_of(l, before), OK);
	lmdb_close(&l);
	keep_whole();
	for (size_t bit = 0; bit < (size_t)2 * HEAD_BYTES * 8; bit++) {
		size_t at = bit / 8 / HEAD_BYTES * PAGE + bit / 8 % HEAD_BYTES;
		char byte = (char)(whole.p[at] ^ (1 << bit % 8));
		enum err e;
		int fd;

		harm(HARM_NONE, &seed);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		close(fd);
		e = lmdb_open(&c, &l);
		if (e == OK) {
			assert_int_equal(content_of(l, after), OK);
			same_content(before, after);
		} else {
			assert_true(e == ERR_DAMAGED || e == ERR_VERSION);
			found++;
		}
		lmdb_close(&l);
	}
	assert_true(found > 2 * HEAD_BYTES);
	bytes_fini(&whole);
}

/* Readers are not asked to look through it first. */
static void
test_nobody_ends_by_reading_it(void **state)
{
	struct content read[TABLES];
	struct lmdb_conf c = conf(true);
	uint32_t seed = 4;
	unsigned found = 0;

	(void)state;
	churn(20, 600, false);
	lmdb_close(&l);
	keep_whole();
	for (unsigned i = 0; i < HARMS; i++) {
		enum err e;

		harm((enum harm)(i % HARM_NONE), &seed);
		e = lmdb_open(&c, &l);
		if (e == OK)
			e = content_of(l, read);
		found += e == ERR_DAMAGED;
		lmdb_close(&l);
	}
	assert_true(found > HARMS / 8);
	bytes_fini(&whole);
}

/* One byte of a value: no structure says that it is false. */
static void
test_a_false_value_is_damage(void **state)
{
	struct lmdb_conf c = conf(true);
	struct lmdb_txn *t = lmdb_write(l);
	struct lmdb_cursor *cursor;
	struct slice k, v;
	char *at;
	int fd;

	(void)state;
	lmdb_put(t, MESSAGE, SLICE("a"), SLICE("good"));
	lmdb_put(t, MESSAGE, SLICE("b"), SLICE("to be false"));
	assert_int_equal(lmdb_commit(&t), OK);
	lmdb_close(&l);
	keep_whole();
	at = memmem(whole.p, whole.n, "to be false", 11);
	assert_non_null(at);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "T", 1, at - whole.p), 1);
	close(fd);
	bytes_fini(&whole);
	assert_int_equal(lmdb_open(&c, &l), OK);
	t = lmdb_read(l);
	assert_true(lmdb_get(t, MESSAGE, SLICE("a"), &v));
	assert_true(slice_eq(v, SLICE("good")));
	assert_false(lmdb_get(t, MESSAGE, SLICE("b"), &v));
	assert_int_equal(lmdb_txn_error(t), ERR_DAMAGED);
	lmdb_abort(&t);
	t = lmdb_read(l);
	cursor = lmdb_cursor_open(t, MESSAGE);
	assert_true(lmdb_seek(cursor, SLICE(""), &k, &v));
	assert_false(lmdb_next(cursor, &k, &v));
	lmdb_cursor_close(&cursor);
	assert_int_equal(lmdb_txn_error(t), ERR_DAMAGED);
	lmdb_abort(&t);
}

/* What was written without sums is of another format, not damaged. */
static void
test_a_file_without_sums_is_another_version(void **state)
{
	struct lmdb_conf c = conf(false);
	struct lmdb_txn *t;

	(void)state;
	lmdb_close(&l);
	unlink(path);
	c.sums = false;
	c.audit = 0;
	assert_int_equal(lmdb_open(&c, &l), OK);
	t = lmdb_write(l);
	lmdb_put(t, MESSAGE, SLICE("a"), SLICE("1"));
	assert_int_equal(lmdb_commit(&t), OK);
	lmdb_close(&l);
	c.sums = true;
	assert_int_equal(lmdb_open(&c, &l), ERR_VERSION);
	c.read_only = true;
	assert_int_equal(lmdb_open(&c, &l), ERR_NOTFOUND);
}

int
main(void)
{
#define WITH_ENV(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_ENV(test_a_whole_file_is_whole),
		WITH_ENV(test_damage_is_found_or_does_no_harm),
		WITH_ENV(test_a_damaged_head_is_found_or_does_no_harm),
		WITH_ENV(test_nobody_ends_by_reading_it),
		WITH_ENV(test_a_false_value_is_damage),
		WITH_ENV(test_a_file_without_sums_is_another_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
