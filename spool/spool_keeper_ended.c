#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/crc32c.h"
#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_keeper_int.h"

/* An entry: u8 kind, u8[3] 0, u32 n, u64 id, u32 seg, u32 crc of what stands before it. A torn one is passed over:
 * nothing was given up on its account, for that waits for the sync. */
enum { ENDED_ENTRY = 24 };

/* A message that is put off again and again is said so of by each segment that held such an outcome, and each saying is
 * a new entry, though only the last one counts. A file that has outgrown this, and twice what it needed when it was last
 * written anew, is written anew. */
enum { ENDED_FEW = 2048 * ENDED_ENTRY };

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

/* ---- only what counts ---- */

struct entries {
	struct ended_entry *list;
	size_t n, cap;
};

static enum err
collect(void *arg, const struct ended_entry *e)
{
	struct entries *all = arg;

	if (all->n == all->cap) {
		all->cap = all->cap == 0 ? 4096 : all->cap * 2;
		all->list = mem_array(all->list, all->cap, sizeof(*all->list));
	}
	all->list[all->n++] = *e;
	return OK;
}

/* The one of a message that says the most comes first: that it is over, else its highest attempt; of ends the lowest. */
static int
by_weight(const void *pa, const void *pb)
{
	const struct ended_entry *a = pa, *b = pb;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->n == b->n)
		return 0;
	return (a->n > b->n) == (a->kind == ENDED_ATTEMPTS) ? -1 : 1;
}

/* An end has no id, and an id has none. */
static size_t
keep_first_of_each(struct entries *all)
{
	size_t kept = 0;

	if (all->n > 0)
		qsort(all->list, all->n, sizeof(*all->list), by_weight);
	for (size_t i = 0; i < all->n; i++)
		if (kept == 0 || all->list[kept - 1].id != all->list[i].id)
			all->list[kept++] = all->list[i];
	return kept;
}

/* Under a name that the next keeper of this slot removes, if this one ends before it is renamed. */
static enum err
replace(struct keeper *k, uint32_t seg, struct slice entries)
{
	char prep[SEGMENT_NAME], name[SEGMENT_NAME];
	enum err e;
	int fd;

	(void)snprintf(prep, sizeof(prep), "prep.%u.ended", (unsigned)k->conf.slot);
	segment_name(SEGFILE_ENDED, seg, name);
	fd = fault_fails("ended.anew")
		     ? -1
		     : openat(k->dirfd, prep, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return ERR_IO;
	e = segment_write(fd, 0, entries.p, entries.n);
	if (e == OK && (fault_fails("ended.sync") || fdatasync(fd) != 0))
		e = ERR_IO;
	close(fd);
	fault_point("ended.before_rename");
	if (e == OK && renameat(k->dirfd, prep, k->dirfd, name) != 0)
		e = ERR_IO;
	if (e != OK)
		(void)unlinkat(k->dirfd, prep, 0);
	fault_point("ended.after_rename");
	return e == OK ? segment_dir_sync(k->dirfd) : e;
}

static enum err
write_anew(struct keeper *k, uint32_t seg, uint64_t *size)
{
	struct entries all = { 0 };
	struct bytes b = { 0 };
	enum err e = ended_read(k, seg, collect, &all);
	size_t kept = e == OK ? keep_first_of_each(&all) : 0;

	for (size_t i = 0; i < kept; i++)
		encode(&b, &all.list[i]);
	if (e == OK)
		e = replace(k, seg, slice_bytes(&b));
	*size = b.n;
	bytes_fini(&b);
	free(all.list);
	return e;
}

/* What was appended is on disk already: a file that cannot be written anew is only longer than it need be. */
static void
shorten(struct keeper *k, struct kfile *f, uint64_t size)
{
	uint64_t now = size;
	enum err e;

	if (size <= ENDED_FEW || size <= f->ended_room)
		return;
	e = write_anew(k, f->number, &now);
	if (e != OK) {
		log_errno(LOG_LVL_WARN, "keeper", "what has ended in segment %u cannot be written anew (%s)", f->number,
			  err_text(e));
		now = size;
	}
	f->ended_room = 2 * now;
}

/* ---- more of them ---- */

/* Behind whole entries only, so that a torn end does not shift what follows. */
static enum err
append(struct keeper *k, uint32_t seg, struct slice entries, bool *created)
{
	char name[SEGMENT_NAME];
	struct kfile *f = kfile_find(k, seg);
	struct stat st;
	uint64_t size = 0;
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
		size = at + entries.n;
	}
	fault_point("ended.before_sync");
	if (e == OK && (fault_fails("ended.sync") || fdatasync(fd) != 0))
		e = ERR_IO;
	close(fd);
	if (e == OK && f != NULL) {
		f->ended = true;
		shorten(k, f, size);
	}
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
