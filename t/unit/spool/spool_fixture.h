/* spool_fixture.h - a spool in a fresh directory, for the tests of this folder
 * One area and one directory a test; the spool may be closed and opened again in it. */
#ifndef T_UNIT_SPOOL_SPOOL_FIXTURE_H
#define T_UNIT_SPOOL_SPOOL_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "spool/spool.h"
#include "spool/spool_segment.h"

struct fixture {
	char dir[64];
	int dirfd;   /* spoolbase */
	int journal; /* journal/, after the first open */
	struct shm_area *area;
	struct spool_conf conf;
	struct spool *sp;
};

static inline void
fixture_quiet(void *arg, enum log_level level, const char *line, size_t len)
{
	(void)arg;
	(void)level;
	(void)line;
	(void)len;
}

static inline void
fixture_init(struct fixture *f)
{
	*f = (struct fixture){ .journal = -1 };
	snprintf(f->dir, sizeof f->dir, "/tmp/impetus-spool.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dirfd >= 0);
	assert_int_equal(mkdirat(f->dirfd, "journal", 0750), 0);
	f->journal = openat(f->dirfd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->area = shm_area_new();
	assert_non_null(f->area);
	f->conf = (struct spool_conf){ .dirfd = f->dirfd,
				       .slot = 3,
				       .writer = 77,
				       .generation = 5,
				       .area = f->area,
				       .segment_size = SEGMENT_SIZE_MIN };
	log_set_sink(fixture_quiet, NULL);
}

static inline int
fixture_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void
fixture_fini(struct fixture *f)
{
	spool_close(&f->sp);
	close(f->journal);
	close(f->dirfd);
	shm_area_free(&f->area);
	nftw(f->dir, fixture_remove, 16, FTW_DEPTH | FTW_PHYS);
	log_set_sink(NULL, NULL);
}

static inline void
fixture_open(struct fixture *f)
{
	enum err e = OK;

	f->sp = spool_open(&f->conf, &e);
	assert_int_equal(e, OK);
	assert_non_null(f->sp);
}

/* Waits for the threads, then runs what they have. */
static inline void
fixture_turn(struct fixture *f)
{
	struct pollfd p = { .fd = spool_event_fd(f->sp), .events = POLLIN };

	assert_int_equal(poll(&p, 1, 30000), 1);
	spool_on_event(f->sp);
}

/* What a callback of spool_submit said. */
struct answer {
	bool come;
	int number; /* of all answers, in order */
	enum err why;
	struct place place;
};
static int answers_so_far;

static inline void
answer_take(void *arg, enum err why, const struct spool_proof *proof)
{
	struct answer *a = arg;

	assert_false(a->come);
	assert_int_equal(proof != NULL, why == OK);
	a->come = true;
	a->number = answers_so_far++;
	a->why = why;
	if (proof != NULL)
		a->place = proof_place(proof);
}

static inline void
answers_await(struct fixture *f, const struct answer *a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		while (!a[i].come)
			fixture_turn(f);
}

static inline struct spool_message
message_of(msgid_t id, const char *rcpt)
{
	return (struct spool_message){ .id = id,
				       .batch = id,
				       .received_at = 1,
				       .origin = ORIGIN_ACCEPTED,
				       .protocol = PROTOCOL_ESMTP,
				       .sender = SLICE("a@example.com"),
				       .rcpt = slice_str(rcpt),
				       .binding = SLICE("out1"),
				       .domain = SLICE("example.com"),
				       .peer = SLICE("127.0.0.1:1234"),
				       .header_blob = BLOB_NONE,
				       .body_blob = BLOB_NONE,
				       .conn_ctx_blob = BLOB_NONE,
				       .ctx_blob = BLOB_NONE };
}

/* One recipient, header and body inline. */
static inline enum err
submit_message(struct fixture *f, msgid_t id, struct slice header, struct slice body, struct answer *a)
{
	struct spool_txn *txn = spool_txn_new(f->sp);
	struct spool_message m = message_of(id, "b@example.com");

	m.header_blob = spool_txn_blob(txn, header);
	m.body_blob = spool_txn_blob(txn, body);
	m.size = header.n + body.n;
	spool_txn_message(txn, &m);
	return spool_submit(txn, answer_take, a);
}

static inline enum err
submit_outcome(struct fixture *f, msgid_t id, struct place place, struct answer *a)
{
	struct spool_txn *txn = spool_txn_new(f->sp);
	struct spool_outcome o = {
		.id = id, .n = 1, .kind = OUTCOME_DELIVERED, .place = place, .text = SLICE("250 ok")
	};

	spool_txn_outcome(txn, &o);
	return spool_submit(txn, answer_take, a);
}

static inline enum err
submit_attempt(struct fixture *f, msgid_t id, struct place place, struct answer *a)
{
	struct spool_txn *txn = spool_txn_new(f->sp);
	struct spool_attempt t = { .id = id, .n = 1, .place = place };

	spool_txn_attempt(txn, &t);
	return spool_submit(txn, answer_take, a);
}

/* The whole file, or n = 0. */
static inline struct bytes
file_of(const struct fixture *f, uint32_t number)
{
	struct bytes b = { 0 };
	struct stat st;
	size_t got;
	int fd = segment_open(f->journal, number);

	if (fd < 0)
		return b;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(segment_read(fd, 0, bytes_room(&b, (size_t)st.st_size + 1), (size_t)st.st_size, &got), OK);
	b.n = got;
	close(fd);
	return b;
}

/* The record at `at` is whole; its first item. Its slices hold until *file is freed. */
static inline struct record_head
record_at(const struct fixture *f, struct place at, struct bytes *file, struct spool_item *first)
{
	struct record_head h;
	struct slice record;

	*file = file_of(f, at.seg);
	assert_true(file->n > at.off);
	record = slice_of(file->p + at.off, file->n - at.off);
	assert_int_equal(record_check(record, at, &h), OK);
	assert_int_equal(item_get(&h, slice_of(record.p + RECORD_HEAD, h.meta_len), 0, first), OK);
	return h;
}

static inline enum err
files_on_entry(void *arg, enum segment_file what, uint32_t number, const char *name)
{
	int *counts = arg;

	(void)number;
	(void)name;
	counts[what]++;
	return OK;
}

/* How many files of a sort there are. */
static inline int
files_count(const struct fixture *f, enum segment_file what)
{
	int counts[SEGFILE_OTHER + 1] = { 0 };

	assert_int_equal(segment_list(f->journal, files_on_entry, counts), OK);
	return counts[what];
}

/* Tests that need fault points are passed over where they are not built in. */
static inline void
faults(const char *rules)
{
#ifdef IMPETUS_FAULTS
	fault_set(rules);
#else
	if (rules != NULL)
		skip();
#endif
}

#endif
