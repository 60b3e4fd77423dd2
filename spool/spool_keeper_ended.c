#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/crc32c.h"
#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "spool/spool_keeper_int.h"

/* An entry: u8 kind, u8[3] 0, u32 n, u64 id, u32 seg, u32 crc of what stands before it. A torn one is passed over:
 * nothing was given up on its account, for that waits for the sync. */
enum { ENDED_ENTRY = 24 };

static void
encode(struct bytes *b, const struct ended_entry *e)
{
	size_t at = b->n;

	bytes_add_u8(b, e->kind);
	bytes_add_u8(b, 0);
	bytes_add_u16(b, 0);
	bytes_add_u32(b, e->n);
	bytes_add_u64(b, e->id);
	bytes_add_u32(b, e->seg);
	bytes_add_u32(b, crc32c(0, b->p + at, ENDED_ENTRY - 4));
}

static bool
decode(struct slice s, uint32_t seg, struct ended_entry *e)
{
	uint32_t crc = crc32c(0, s.p, ENDED_ENTRY - 4), want;
	uint16_t pad;
	uint8_t pad8;

	return take_u8(&s, &e->kind) && take_u8(&s, &pad8) && take_u16(&s, &pad) && take_u32(&s, &e->n) &&
	       take_u64(&s, &e->id) && take_u32(&s, &e->seg) && take_u32(&s, &want) && want == crc && e->seg == seg;
}

/* Behind whole entries only, so that a torn end does not shift what follows. */
static enum err
append(struct keeper *k, uint32_t seg, struct slice entries, bool *created)
{
	char name[SEGMENT_NAME];
	struct kfile *f = kfile_find(k, seg);
	struct stat st;
	enum err e = ERR_IO;
	int fd;

	segment_name(SEGFILE_ENDED, seg, name);
	fd = fault_fails("ended.open") ? -1 : openat(k->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return ERR_IO;
	if (fstat(fd, &st) == 0) {
		uint64_t at = ((uint64_t)st.st_size + ENDED_ENTRY - 1) / ENDED_ENTRY * ENDED_ENTRY;

		*created = *created || st.st_size == 0;
		e = segment_write(fd, at, entries.p, entries.n);
	}
	fault_point("ended.before_sync");
	if (e == OK && (fault_fails("ended.sync") || fdatasync(fd) != 0))
		e = ERR_IO;
	close(fd);
	if (e == OK && f != NULL)
		f->ended = true;
	return e;
}

enum err
ended_write(struct keeper *k, const struct ended_entry *list, size_t n)
{
	struct bytes b = { 0 };
	bool created = false;
	enum err e = OK;

	for (size_t i = 0; i < n && e == OK; i++) {
		encode(&b, &list[i]);
		if (i + 1 < n && list[i + 1].seg == list[i].seg)
			continue;
		e = append(k, list[i].seg, slice_bytes(&b), &created);
		b.n = 0;
	}
	bytes_fini(&b);
	if (e == OK && created)
		e = segment_dir_sync(k->dirfd);
	return e;
}

enum err
ended_read(struct keeper *k, uint32_t seg, enum err (*fn)(void *arg, const struct ended_entry *e), void *arg)
{
	char name[SEGMENT_NAME], buf[ENDED_ENTRY * 1024];
	uint64_t at = 0;
	size_t got;
	enum err e;
	int fd;

	segment_name(SEGFILE_ENDED, seg, name);
	fd = fault_fails("ended.read") ? -1 : openat(k->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? OK : ERR_IO;
	do {
		e = segment_read(fd, at, buf, sizeof(buf), &got);
		for (size_t i = 0; e == OK && i + ENDED_ENTRY <= got; i += ENDED_ENTRY) {
			struct ended_entry entry;

			if (decode(slice_of(buf + i, ENDED_ENTRY), seg, &entry))
				e = fn(arg, &entry);
		}
		at += got;
	} while (e == OK && got == sizeof(buf));
	close(fd);
	return e;
}

struct ids {
	enum err (*fn)(void *, msgid_t id, uint32_t n);
	void *arg;
};

static enum err
one_id(void *arg, const struct ended_entry *e)
{
	struct ids *ids = arg;

	if (e->kind == ENDED_MESSAGE)
		return ids->fn(ids->arg, e->id, UINT32_MAX);
	return e->kind == ENDED_ATTEMPTS ? ids->fn(ids->arg, e->id, e->n) : OK;
}

enum err
keeper_ended(void *arg, uint32_t seg, enum err (*fn)(void *, msgid_t id, uint32_t n), void *fn_arg)
{
	struct ids ids = { fn, fn_arg };

	return ended_read(arg, seg, one_id, &ids);
}
