/* Messages read back out of segments that say anything: by delivery's reader, page cache and reading thread alike, and
 * by the console's. What is given back is the message that was asked for, whole; all else is an error.
 * Input: u8 which item (and 4: the checksums are as they are, not made right), u16 length of the record, record, and
 * the file of its body, which is segment 2000001. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "spool/spool.h"
#include "spool/spool_index.h"
#include "t/fuzz/home.h"
#include "t/fuzz/mend.h"
#include "worker/console/message_text.h"

enum { ID = 10, BODY_SEGMENT = 2000001, TEXT_MOST = 8192 };

/* One spool for the process's life; segments come and go under numbers that are never used twice. */
static struct {
	struct home home;
	struct shm_area *area;
	struct spool *sp;
	uint32_t number;
} s;

struct answer {
	bool come;
	enum err why;
	struct spool_fetched *got;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
end(void)
{
	spool_close(&s.sp);
	shm_area_free(&s.area);
	home_end(&s.home);
}

static void
begin(void)
{
	struct spool_conf conf = { .slot = 3, .writer = 77, .generation = 5, .segment_size = SEGMENT_SIZE_MIN };
	enum err e = OK;

	home_begin(&s.home);
	s.area = shm_area_new();
	conf.dirfd = s.home.dir;
	conf.area = s.area;
	s.sp = spool_open(&conf, &e);
	require_that(s.sp != NULL, "fuzz");
	s.number = 1000000;
	atexit(end);
}

static void
put(uint32_t number, enum segment_kind kind, const char *p, size_t n)
{
	int fd = home_segment(&s.home, number, kind);

	require_that(segment_write(fd, SEGMENT_HEAD, p, n) == OK, "fuzz");
	close(fd);
}

static void
take_away(uint32_t number)
{
	char name[SEGMENT_NAME];

	segment_name(SEGFILE_SEG, number, name);
	(void)unlinkat(s.home.journal, name, 0);
}

static void
on_fetched(void *arg, enum err why, struct spool_fetched *got)
{
	struct answer *a = arg;

	require_that(!a->come && (got != NULL) == (why == OK), "fuzz");
	*a = (struct answer){ .come = true, .why = why, .got = got };
}

/* Every byte that is given can be read. */
static unsigned
sum(struct slice bytes)
{
	unsigned n = 0;

	for (size_t i = 0; i < bytes.n; i++)
		n += (unsigned char)bytes.p[i];
	return n;
}

static void
check_fetched(const struct spool_fetched *got)
{
	char buf[512];
	size_t n;
	uint64_t at = 0;

	require_that(got->message.id == ID, "fuzz");
	(void)(sum(got->header) + sum(got->body) + sum(got->conn_ctx) + sum(got->ctx));
	(void)(sum(got->message.sender) + sum(got->message.rcpt) + sum(got->message.peer));
	require_that(got->body_fd < 0 || got->body.n == 0, "fuzz");
	while (spool_body_read(got, at, buf, sizeof(buf), &n) == OK && n > 0) {
		at += n;
		require_that(at <= got->body_len, "fuzz");
	}
}

static enum err
fetch(struct place at, uint16_t item)
{
	struct pollfd p = { .fd = spool_event_fd(s.sp), .events = POLLIN };
	struct answer a = { .come = false };

	(void)spool_fetch(s.sp, ID, at, item, on_fetched, &a);
	while (!a.come) {
		require_that(poll(&p, 1, 30000) > 0 || errno == EINTR, "fuzz"); /* the fuzzer's alarm */
		spool_on_event(s.sp);
	}
	if (a.why == OK)
		check_fetched(a.got);
	spool_fetched_free(&a.got);
	return a.why;
}

/* The console's reader finds what delivery's found. */
static void
show(struct place at, uint16_t item, bool found)
{
	struct index_row row = { .id = ID, .place = at, .item = item };
	struct message_text text = { .raw = { 0 } };
	enum err e = message_text_read(s.home.dir, &row, TEXT_MOST, &text);

	require_that(!found || e == OK || text.envelope.id == ID, "fuzz");
	if (e == OK)
		(void)(sum(slice_bytes(&text.header)) + sum(slice_bytes(&text.body)));
	message_text_fini(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct place at;
	size_t len, room;
	uint16_t item;
	bool mended;
	char *copy;

	if (s.sp == NULL)
		begin();
	if (n < 3)
		return 0;
	item = data[0] % 4;
	mended = (data[0] & 4) == 0;
	len = data[1] + 256u * data[2];
	data += 3;
	n -= 3;
	len = len < n ? len : n;
	room = len < RECORD_HEAD ? RECORD_HEAD : len;
	at = (struct place){ ++s.number, SEGMENT_HEAD };
	copy = mem_zalloc(room);
	memcpy(copy, data, len);
	if (mended)
		mend_record(copy, room, at);
	put(at.seg, SEGMENT_JOURNAL, copy, room);
	put(BODY_SEGMENT, SEGMENT_BODY, (const char *)data + len, n - len);
	show(at, item, fetch(at, item) == OK);
	take_away(at.seg);
	take_away(BODY_SEGMENT);
	free(copy);
	return 0;
}
