#include "spool/spool_segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/crc32c.h"
#include "shm/base/fault.h"
#include "shm/base/le.h"
#include "shm/base/mem.h"

#define HEAD_MAGIC UINT32_C(0x67657369) /* "iseg" */
#define SEAL_MAGIC UINT32_C(0x6c616573) /* "seal" */
enum {
	HEAD_VERSION = 1,
	HEAD_CRC_AT = 48,
	SEAL_AT = 2048,
	SEAL_CRC_AT = 24,
	SEAL_LEN = 28,
	FLOOR_FILES_MAX = 256,  /* how far back the highest id is looked for */
	FILL_CHUNK = 256 << 10, /* a sync of the journal may have to wait for one of them */
};

/* What the system said, as ours. */
static enum err
err_of_errno(void)
{
	return errno == ENOSPC || errno == EDQUOT ? ERR_FULL : errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
}

/* A fault point of tests that fails with an errno. */
static enum err
fault_to_err(int error)
{
	if (error == 0)
		return OK;
	errno = error;
	return err_of_errno();
}

/* ---------------------------------------------------------------- plain reading and writing */

enum err
segment_read(int fd, uint64_t off, void *to, size_t n, size_t *got)
{
	size_t have = 0;

	while (have < n) {
		ssize_t r = fault_fails("file.read") ? -1 : pread(fd, (char *)to + have, n - have, (off_t)(off + have));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return ERR_IO;
		if (r == 0)
			break;
		have += (size_t)r;
	}
	*got = have;
	return OK;
}

enum err
segment_write(int fd, uint64_t off, const void *from, size_t n)
{
	size_t done = 0;

	while (done < n) {
		size_t part = fault_short("file.write", n - done);
		ssize_t w = fault_fails("file.write")
				    ? -1
				    : pwrite(fd, (const char *)from + done, part, (off_t)(off + done));
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			errno = w == 0 ? ENOSPC : errno;
			return err_of_errno();
		}
		done += (size_t)w;
	}
	return OK;
}

enum err
segment_dir_sync(int dirfd)
{
	enum err e = fault_to_err(fault_error("segment.dirsync"));

	if (e != OK)
		return e;
	return fsync(dirfd) == 0 ? OK : err_of_errno();
}

/* ---------------------------------------------------------------- the head page */

static void
seal_read(const char *p, uint32_t number, struct segment_seal *out)
{
	*out = (struct segment_seal){ 0 };
	if (le_get32(p) != SEAL_MAGIC || le_get32(p + 4) != number ||
	    crc32c(0, p, SEAL_CRC_AT) != le_get32(p + SEAL_CRC_AT))
		return;
	*out = (struct segment_seal){
		.sealed = true, .end = le_get32(p + 8), .toc = le_get32(p + 12), .id_high = le_get64(p + 16)
	};
}

static void
seal_write(const struct segment_seal *s, uint32_t number, char p[SEAL_LEN])
{
	le_put32(p, SEAL_MAGIC);
	le_put32(p + 4, number);
	le_put32(p + 8, s->end);
	le_put32(p + 12, s->toc);
	le_put64(p + 16, s->id_high);
	le_put32(p + SEAL_CRC_AT, crc32c(0, p, SEAL_CRC_AT));
}

enum err
segment_head_read(struct slice page, uint32_t number, struct segment_head *out)
{
	const char *p = page.p;
	struct segment_head h;

	if (page.n < SEGMENT_HEAD || le_get32(p) != HEAD_MAGIC ||
	    crc32c(0, p, HEAD_CRC_AT) != le_get32(p + HEAD_CRC_AT))
		return ERR_DAMAGED;
	if (le_get16(p + 4) != HEAD_VERSION)
		return ERR_VERSION;
	h = (struct segment_head){
		.kind = (enum segment_kind)(unsigned char)p[6],
		.slot = (uint8_t)p[7],
		.number = le_get32(p + 8),
		.generation = le_get32(p + 12),
		.writer = le_get64(p + 16),
		.created = (usec_t)le_get64(p + 24),
		.id_floor = le_get64(p + 32),
		.size = le_get64(p + 40),
	};
	if (h.number == 0 || (number != 0 && h.number != number) ||
	    (h.kind != SEGMENT_JOURNAL && h.kind != SEGMENT_BODY))
		return ERR_DAMAGED;
	seal_read(p + SEAL_AT, h.number, &h.seal);
	*out = h;
	return OK;
}

enum err
segment_head_load(int fd, uint32_t number, struct segment_head *out)
{
	char page[SEGMENT_HEAD];
	size_t got;
	enum err e = segment_read(fd, 0, page, sizeof page, &got);

	return e != OK ? e : segment_head_read(slice_of(page, got), number, out);
}

void
segment_head_write(const struct segment_head *h, char page[SEGMENT_HEAD])
{
	memset(page, 0, SEGMENT_HEAD);
	le_put32(page, HEAD_MAGIC);
	le_put16(page + 4, HEAD_VERSION);
	page[6] = (char)h->kind;
	page[7] = (char)h->slot;
	le_put32(page + 8, h->number);
	le_put32(page + 12, h->generation);
	le_put64(page + 16, h->writer);
	le_put64(page + 24, (uint64_t)h->created);
	le_put64(page + 32, h->id_floor);
	le_put64(page + 40, h->size);
	le_put32(page + HEAD_CRC_AT, crc32c(0, page, HEAD_CRC_AT));
}

/* ---------------------------------------------------------------- names */

void
segment_name(enum segment_file what, uint32_t number, char out[SEGMENT_NAME])
{
	const char *suffix = what == SEGFILE_TOC ? "toc" : what == SEGFILE_ENDED ? "ended" : "seg";

	if (what == SEGFILE_SPARE)
		snprintf(out, SEGMENT_NAME, "spare.%u", (unsigned)number);
	else
		snprintf(out, SEGMENT_NAME, "%010u.%s", (unsigned)number, suffix);
}

static bool
number_after(const char *name, const char *prefix, char until, uint32_t *number)
{
	size_t n = strlen(prefix), len;
	uint64_t v;

	if (strncmp(name, prefix, n) != 0)
		return false;
	len = until == 0 ? strlen(name + n) : (size_t)(strchrnul(name + n, until) - name) - n;
	if (!slice_u64(slice_of(name + n, len), UINT32_MAX, &v))
		return false;
	*number = (uint32_t)v;
	return true;
}

enum segment_file
segment_name_parse(const char *name, uint32_t *number)
{
	static const struct {
		const char *suffix;
		enum segment_file what;
	} suffixes[] = { { ".seg", SEGFILE_SEG }, { ".toc", SEGFILE_TOC }, { ".ended", SEGFILE_ENDED } };
	uint64_t v;

	if (number_after(name, "spare.", 0, number))
		return SEGFILE_SPARE;
	if (number_after(name, "reserve.", 0, number))
		return SEGFILE_RESERVE;
	if (number_after(name, "prep.", '.', number))
		return SEGFILE_PREP;
	if (strlen(name) < 10 || !slice_u64(slice_of(name, 10), UINT32_MAX, &v) || v == 0)
		return SEGFILE_OTHER;
	*number = (uint32_t)v;
	for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
		if (strcmp(name + 10, suffixes[i].suffix) == 0)
			return suffixes[i].what;
	return SEGFILE_OTHER;
}

enum err
segment_list(int dirfd, enum err (*fn)(void *arg, enum segment_file what, uint32_t number, const char *name), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 && !fault_fails("segment.list") ? fdopendir(fd) : NULL;
	struct dirent *entry;
	enum err e = OK;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return ERR_IO;
	}
	for (;;) {
		uint32_t number = 0;
		enum segment_file what;
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			e = errno != 0 ? ERR_IO : OK;
			break;
		}
		what = segment_name_parse(entry->d_name, &number);
		if (what != SEGFILE_OTHER && (e = fn(arg, what, number, entry->d_name)) != OK)
			break;
	}
	closedir(dir);
	return e;
}

static enum err
highest_on_entry(void *arg, enum segment_file what, uint32_t number, const char *name)
{
	uint32_t *highest = arg;

	(void)name;
	if ((what == SEGFILE_SEG || what == SEGFILE_TOC || what == SEGFILE_ENDED) && number > *highest)
		*highest = number;
	return OK;
}

enum err
segment_highest(int dirfd, uint32_t *out)
{
	uint32_t highest = 0;
	enum err e = segment_list(dirfd, highest_on_entry, &highest);

	if (e == OK)
		*out = highest;
	return e;
}

int
segment_open(int dirfd, uint32_t number)
{
	char name[SEGMENT_NAME];

	segment_name(SEGFILE_SEG, number, name);
	return fault_fails("segment.open") ? -1 : openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* ---------------------------------------------------------------- the highest id of a slot */

struct numbers {
	uint32_t *p;
	size_t n, cap;
};

static enum err
numbers_on_entry(void *arg, enum segment_file what, uint32_t number, const char *name)
{
	struct numbers *list = arg;

	(void)name;
	if (what != SEGFILE_SEG)
		return OK;
	if (list->n == list->cap) {
		list->cap = list->cap == 0 ? 64 : list->cap * 2;
		list->p = mem_array(list->p, list->cap, sizeof *list->p);
	}
	list->p[list->n++] = number;
	return OK;
}

static int
newest_first(const void *a, const void *b)
{
	uint32_t x, y;

	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return x < y ? 1 : x > y ? -1 : 0;
}

/* Raises *high by the records of an unsealed segment, from head to head up to the first that is none; *any: there was
 * one. */
static enum err
walk_ids(int fd, uint32_t number, msgid_t *high, bool *any)
{
	enum { WINDOW = 256 << 10 };
	char *window = mem_alloc(WINDOW);
	uint64_t off = SEGMENT_HEAD, base = 0;
	size_t got = 0;
	enum err e = OK;

	for (;;) {
		struct record_head h;
		if (off < base || off + RECORD_HEAD > base + got) {
			base = off;
			if ((e = segment_read(fd, base, window, WINDOW, &got)) != OK)
				break;
		}
		if (off > UINT32_MAX || record_head_read(slice_of(window + (off - base), got - (size_t)(off - base)),
							 (struct place){ number, (uint32_t)off }, &h) != OK)
			break;
		if (h.id_high > *high)
			*high = h.id_high;
		*any = true;
		off += record_size(&h);
	}
	free(window);
	return e;
}

/* Raises *high by what one segment knows; *last when it is the slot's newest journal with a record: older
 * ones know nothing higher. */
static enum err
floor_of(int dirfd, uint32_t number, uint8_t slot, msgid_t *high, bool *last)
{
	struct segment_head h;
	int fd = segment_open(dirfd, number);
	enum err e;

	if (fd < 0)
		return errno == ENOENT ? OK : ERR_IO;
	e = segment_head_load(fd, number, &h);
	if (e == OK) {
		msgid_t known = h.seal.sealed && h.seal.id_high > h.id_floor ? h.seal.id_high : h.id_floor;
		*high = known > *high ? known : *high;
		*last = h.slot == slot && h.kind == SEGMENT_JOURNAL && h.seal.sealed;
		if (h.slot == slot && h.kind == SEGMENT_JOURNAL && !h.seal.sealed)
			e = walk_ids(fd, number, high, last); /* one made in advance may be empty: look further */
	}
	close(fd);
	return e == ERR_IO ? e : OK;
}

enum err
segment_id_floor(int dirfd, uint8_t slot, msgid_t *out)
{
	struct numbers list = { 0 };
	msgid_t high = 0;
	bool last = false;
	enum err e = segment_list(dirfd, numbers_on_entry, &list);

	if (list.n > 0)
		qsort(list.p, list.n, sizeof *list.p, newest_first);
	for (size_t i = 0; e == OK && !last && i < list.n && i < FLOOR_FILES_MAX; i++)
		e = floor_of(dirfd, list.p[i], slot, &high, &last);
	free(list.p);
	if (e == OK)
		*out = high;
	return e;
}

/* ---------------------------------------------------------------- making */

struct start {
	struct segment_maker *m;
	uint32_t highest;
};

static enum err
start_on_entry(void *arg, enum segment_file what, uint32_t number, const char *name)
{
	struct start *s = arg;

	if (what == SEGFILE_PREP && number == s->m->slot && unlinkat(s->m->dirfd, name, 0) != 0 && errno != ENOENT)
		return ERR_IO;
	return highest_on_entry(&s->highest, what, number, name);
}

enum err
segment_maker_start(struct segment_maker *m, uint32_t floor)
{
	struct start s = { .m = m, .highest = floor };
	enum err e = segment_list(m->dirfd, start_on_entry, &s);
	uint32_t known = atomic_load(m->highest);

	while (e == OK && known < s.highest && !atomic_compare_exchange_weak(m->highest, &known, s.highest))
		;
	return e;
}

struct spare {
	struct segment_maker *m;
	uint64_t size; /* wanted */
	const char *prep;
	struct segment *out;
};

/* Takes this spare, if it is large enough and nobody was quicker: ERR_EXISTS says that it is taken, and ends the list.
 */
static enum err
spare_on_entry(void *arg, enum segment_file what, uint32_t number, const char *name)
{
	struct spare *s = arg;
	struct stat st;
	int fd;

	(void)number;
	if (what != SEGFILE_SPARE || fstatat(s->m->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(st.st_mode) || (uint64_t)st.st_size < s->size)
		return OK;
	if (fault_fails("spare.take") || renameat2(s->m->dirfd, name, s->m->dirfd, s->prep, RENAME_NOREPLACE) != 0)
		return OK;
	fd = openat(s->m->dirfd, s->prep, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		unlinkat(s->m->dirfd, s->prep, 0);
		return OK;
	}
	s->out->fd = fd;
	s->out->size = (uint64_t)st.st_size;
	return ERR_EXISTS;
}

static bool
set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* Past the page cache where the file system can: it costs a tenth of the CPU, and the journal's syncs do not have to
 * wait behind a whole segment of dirty pages. */
static enum err
write_zeroes(int fd, uint64_t size)
{
	static const _Alignas(SEGMENT_PAGE) char zeroes[FILL_CHUNK];
	bool direct = set_direct(fd, true);
	enum err e = OK;

	for (uint64_t off = 0; e == OK && off < size;) {
		size_t n = size - off < FILL_CHUNK ? (size_t)(size - off) : FILL_CHUNK;

		e = segment_write(fd, off, zeroes, n);
		if (e == OK) {
			off += n;
		} else if (direct && errno == EINVAL && set_direct(fd, false)) {
			direct = false;
			e = OK;
		}
	}
	if (direct && !set_direct(fd, false) && e == OK)
		e = ERR_IO;
	return e;
}

/* Blocks that are there before a record needs them: an fdatasync then has no metadata to write. */
static enum err
fill(int fd, uint64_t size)
{
	enum err e = fault_to_err(fault_error("segment.fill"));

	if (e == OK && fallocate(fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP)
		e = err_of_errno();
	return e == OK ? write_zeroes(fd, size) : e;
}

static enum err
prep_create(struct segment_maker *m, const char *prep, uint64_t size, struct segment *out)
{
	enum err e = fault_to_err(fault_error("segment.create"));

	if (e != OK)
		return e;
	out->fd = openat(m->dirfd, prep, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (out->fd < 0)
		return err_of_errno();
	fault_point("segment.after_create");
	out->size = size;
	return size == 0 ? OK : fill(out->fd, size);
}

/* Gives the prepared file a number, a head and its name. */
static enum err
prep_name(struct segment_maker *m, const char *prep, msgid_t id_floor, struct segment *s)
{
	char page[SEGMENT_HEAD], name[SEGMENT_NAME];
	enum err e;

	for (;;) {
		uint32_t number = atomic_fetch_add(m->highest, 1) + 1;
		struct segment_head h = { .number = number,
					  .kind = s->kind,
					  .slot = m->slot,
					  .generation = m->generation,
					  .writer = m->writer,
					  .created = clock_real(),
					  .id_floor = id_floor,
					  .size = s->size };
		segment_head_write(&h, page);
		if ((e = segment_write(s->fd, 0, page, sizeof page)) != OK)
			return e;
		if ((e = fault_to_err(fault_error("segment.sync"))) != OK)
			return e;
		if (fsync(s->fd) != 0)
			return err_of_errno();
		fault_point("segment.before_rename");
		segment_name(SEGFILE_SEG, number, name);
		if (!fault_fails("segment.rename") &&
		    renameat2(m->dirfd, prep, m->dirfd, name, RENAME_NOREPLACE) == 0) {
			s->number = number;
			fault_point("segment.after_rename");
			return OK;
		}
		if (errno != EEXIST)
			return err_of_errno();
	}
}

enum err
segment_make(struct segment_maker *m, enum segment_kind kind, uint64_t size, msgid_t id_floor, struct segment *out)
{
	struct segment s = { .fd = -1, .kind = kind };
	char prep[SEGMENT_NAME];
	struct spare spare = { .m = m, .size = size, .prep = prep, .out = &s };
	enum err e;

	snprintf(prep, sizeof prep, "prep.%u.%u", (unsigned)m->slot, (unsigned)atomic_fetch_add(&m->serial, 1));
	if (kind == SEGMENT_JOURNAL) {
		e = segment_list(m->dirfd, spare_on_entry, &spare);
		if (e != OK && e != ERR_EXISTS)
			return e;
	}
	e = s.fd >= 0 ? OK : prep_create(m, prep, kind == SEGMENT_JOURNAL ? size : 0, &s);
	if (e == OK)
		e = prep_name(m, prep, id_floor, &s);
	if (e == OK && kind == SEGMENT_JOURNAL)
		e = segment_dir_sync(m->dirfd);
	if (e != OK) {
		int saved = errno;
		if (s.fd >= 0 && s.number == 0)
			unlinkat(m->dirfd, prep, 0);
		segment_drop(m, &s);
		errno = saved;
		return e;
	}
	fault_point("segment.after_dirsync");
	*out = s;
	return OK;
}

enum err
segment_seal(const struct segment *s, uint32_t end, struct slice entries, msgid_t id_high)
{
	struct bytes toc = { 0 };
	struct segment_seal seal = { .toc = end, .id_high = id_high };
	char block[SEAL_LEN];
	enum err e = fault_to_err(fault_error("segment.seal"));

	if (e != OK)
		return e;
	toc_encode(entries, (struct place){ s->number, end }, end, id_high, &toc);
	seal.end = end + (uint32_t)toc.n;
	fault_point("segment.before_toc");
	e = segment_write(s->fd, end, toc.p, toc.n);
	bytes_fini(&toc);
	if (e != OK)
		return e;
	if (fault_fails("seal.sync") || fdatasync(s->fd) != 0)
		return err_of_errno();
	fault_point("segment.before_seal");
	seal_write(&seal, s->number, block);
	if ((e = segment_write(s->fd, SEAL_AT, block, sizeof block)) != OK)
		return e;
	if (fault_fails("seal.sync") || fdatasync(s->fd) != 0)
		return err_of_errno();
	fault_point("segment.after_seal");
	return OK;
}

void
segment_close(struct segment *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

void
segment_drop(const struct segment_maker *m, struct segment *s)
{
	char name[SEGMENT_NAME];

	segment_close(s);
	if (s->number == 0)
		return;
	segment_name(SEGFILE_SEG, s->number, name);
	unlinkat(m->dirfd, name, 0);
	s->number = 0;
}

enum err
segment_to_spare(int dirfd, uint32_t number)
{
	char from[SEGMENT_NAME], to[SEGMENT_NAME];

	segment_name(SEGFILE_SEG, number, from);
	segment_name(SEGFILE_SPARE, number, to);
	return !fault_fails("spare.make") && renameat(dirfd, from, dirfd, to) == 0 ? OK : err_of_errno();
}
