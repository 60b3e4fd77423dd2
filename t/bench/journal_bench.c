/* How many messages a second the journal takes, by how many are in work; beside it what the disk gives at
 * best: bare pwrite + fdatasync of as many bytes as a sync took.
 *
 *     journal_bench [DIR [SECONDS [BYTES]]]
 *
 * One process, one loop: a message is submitted again as soon as its answer comes. The keeper's part, turning old
 * segments into spares, is played by reusing none: so this is the price with every segment zero-filled anew (spares:
 * SPARES=1). */
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "shm/shm_area.h"
#include "spool/spool.h"
#include "spool/spool_segment.h"

struct bench {
	struct spool *sp;
	struct shm_area *area;
	struct slice body;
	usec_t until;
	uint64_t done, failed;
	usec_t waited;
	int spares_dir; /* -1: no spares */
	uint32_t spared;
};

struct one {
	struct bench *b;
	usec_t began;
};

static void submit(struct one *o);

/* What the keeper does with a segment whose messages are over. */
static void
recycle(struct bench *b, uint32_t now)
{
	for (; b->spared + 2 < now; b->spared++)
		(void)segment_to_spare(b->spares_dir, b->spared);
}

static void
on_done(void *arg, enum err why, const struct spool_proof *proof)
{
	struct one *o = arg;
	struct bench *b = o->b;
	usec_t now = clock_mono();

	if (why != OK)
		b->failed++;
	else if (b->spares_dir >= 0)
		recycle(b, proof_place(proof).seg);
	b->done++;
	b->waited += now - o->began;
	if (now < b->until && why == OK)
		submit(o);
}

static void
submit(struct one *o)
{
	struct bench *b = o->b;
	struct spool_txn *txn = spool_txn_new(b->sp);
	struct spool_message m = { .id = spool_new_id(b->sp),
				   .received_at = clock_real(),
				   .origin = ORIGIN_ACCEPTED,
				   .sender = SLICE("sender@example.com"),
				   .rcpt = SLICE("recipient@example.net"),
				   .binding = SLICE("out1"),
				   .domain = SLICE("example.net"),
				   .peer = SLICE("192.0.2.1:40000"),
				   .conn_ctx_blob = BLOB_NONE,
				   .ctx_blob = BLOB_NONE };

	o->began = clock_mono();
	m.header_blob = spool_txn_blob(txn, SLICE("Subject: a message of the bench\r\nFrom: a@example.com\r\n\r\n"));
	m.body_blob = spool_txn_blob(txn, b->body);
	spool_txn_message(txn, &m);
	if (spool_submit(txn, on_done, o) != OK)
		b->failed++;
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* The disk's own limit: blocks as large as what one sync took, each synced, nothing else done. Syncs a second. */
static double
bare(int dirfd, size_t bytes, double seconds)
{
	static const char zeroes[1 << 20];
	enum { ROOM = 64 };
	size_t block = (bytes + 4095) / 4096 * 4096;
	char *data = mem_zalloc(block);
	int fd = openat(dirfd, "bare", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	usec_t began, until;
	uint64_t n = 0, off = 0;

	for (int i = 0; i < ROOM; i++)
		if (segment_write(fd, (uint64_t)i << 20, zeroes, sizeof zeroes) != OK)
			log_fatal("bench", "cannot write");
	fsync(fd);
	began = clock_mono();
	until = began + (usec_t)(seconds * 1e6);
	while (clock_mono() < until) {
		if (segment_write(fd, off, data, block) != OK || fdatasync(fd) != 0)
			log_fatal("bench", "cannot sync");
		off = off + 2 * block > (uint64_t)ROOM << 20 ? 0 : off + block;
		n++;
	}
	close(fd);
	unlinkat(dirfd, "bare", 0);
	free(data);
	return (double)n * 1e6 / (double)(clock_mono() - began);
}

static void
run(struct bench *b, int in_work, double seconds, int dirfd)
{
	struct one *ones = mem_array(NULL, (size_t)in_work, sizeof *ones);
	struct shm_slot *slot = shm_slot(b->area, 0);
	int64_t syncs = slot_get(slot, CELL_JOURNAL_SYNCS);
	usec_t began = clock_mono();
	double cpu = cpu_seconds(), took, a_sync;

	b->done = b->failed = 0;
	b->waited = 0;
	b->until = began + (usec_t)(seconds * 1e6);
	for (int i = 0; i < in_work; i++) {
		ones[i] = (struct one){ b, 0 };
		submit(&ones[i]);
	}
	while (spool_in_flight(b->sp) > 0) {
		struct pollfd p = { .fd = spool_event_fd(b->sp), .events = POLLIN };
		poll(&p, 1, -1);
		spool_on_event(b->sp);
	}
	took = (double)(clock_mono() - began) / 1e6;
	syncs = slot_get(slot, CELL_JOURNAL_SYNCS) - syncs;
	a_sync = (double)b->done / (double)(syncs > 0 ? syncs : 1);
	cpu = cpu_seconds() - cpu;
	printf("%6d in work: %9.0f messages/s  %7.0f syncs/s  %6.1f a sync  %7.2f ms each  %5.1f us cpu each  failed "
	       "%llu  bare %.0f messages/s\n",
	       in_work, (double)b->done / took, (double)syncs / took, a_sync,
	       (double)b->waited / 1e3 / (double)(b->done > 0 ? b->done : 1),
	       cpu * 1e6 / (double)(b->done > 0 ? b->done : 1), (unsigned long long)b->failed,
	       a_sync * bare(dirfd, (size_t)(a_sync * (double)b->body.n), seconds / 2));
	free(ones);
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

int
main(int argc, char **argv)
{
	static const int in_work[] = { 1, 10, 50, 200, 1000 };
	const char *parent = argc > 1 ? argv[1] : "build";
	double seconds = argc > 2 ? atof(argv[2]) : 3;
	size_t bytes = argc > 3 ? (size_t)atoi(argv[3]) : 1000;
	struct bench b = { .area = shm_area_new(), .spares_dir = -1, .spared = 1 };
	struct spool_conf conf = { .slot = 0, .writer = 1, .area = b.area };
	char dir[512];
	enum err why;

	snprintf(dir, sizeof dir, "%s/journal-bench.XXXXXX", parent);
	if (b.area == NULL || mkdtemp(dir) == NULL)
		log_fatal("bench", "cannot start in %s", parent);
	conf.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b.sp = spool_open(&conf, &why);
	if (b.sp == NULL)
		log_fatal("bench", "no spool: %s", err_text(why));
	if (getenv("SPARES") != NULL)
		b.spares_dir = openat(conf.dirfd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b.body = slice_of(mem_zalloc(bytes), bytes);
	printf("messages of %zu bytes, %g s each, %s\n", bytes, seconds,
	       b.spares_dir >= 0 ? "segments recycled" : "every segment made anew");
	for (size_t i = 0; i < sizeof in_work / sizeof in_work[0]; i++)
		run(&b, in_work[i], seconds, conf.dirfd);
	spool_close(&b.sp);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}
