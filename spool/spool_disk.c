#include "spool/spool_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shm/base/fault.h"
#include "shm/base/log.h"
#include "spool/spool_segment.h"

enum { BLOCK = 512 }; /* of st_blocks */

static void
reserve_name(int slot, char out[SEGMENT_NAME])
{
	snprintf(out, SEGMENT_NAME, "reserve.%d", slot);
}

enum err
disk_reserved(int dirfd, int slot, uint64_t *bytes)
{
	char name[SEGMENT_NAME];
	struct stat st;
	uint64_t there;

	reserve_name(slot, name);
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
	there = S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * BLOCK : 0;
	*bytes = there < (uint64_t)st.st_size ? there : (uint64_t)st.st_size;
	return OK;
}

/* Also one that the process before us left when it died. */
static bool
reserve_found(const struct disk *d)
{
	uint64_t bytes;

	return disk_reserved(d->dirfd, d->slot, &bytes) == OK && bytes >= d->reserve;
}

void
disk_init(struct disk *d, int dirfd, int slot, uint64_t free_min, uint64_t reserve)
{
	*d = (struct disk){ .dirfd = dirfd, .slot = slot, .free_min = free_min, .reserve = reserve };
	d->reserved = reserve != 0 && dirfd >= 0 && reserve_found(d);
	pthread_mutex_init(&d->lock, NULL);
}

static void
reserve_remove(struct disk *d)
{
	char name[SEGMENT_NAME];

	reserve_name(d->slot, name);
	unlinkat(d->dirfd, name, 0);
	d->reserved = false;
}

void
disk_fini(struct disk *d)
{
	reserve_remove(d);
	pthread_mutex_destroy(&d->lock);
}

bool
disk_let_go(struct disk *d)
{
	bool had;

	pthread_mutex_lock(&d->lock);
	had = d->reserved;
	if (had) {
		reserve_remove(d);
		atomic_store(&d->spent, true);
	}
	pthread_mutex_unlock(&d->lock);
	if (had)
		log_warn("spool", "the disk is full: the reserve is let go, new mail is refused");
	return had;
}

static bool
reserve_make(struct disk *d)
{
	char name[SEGMENT_NAME];
	int fd;
	bool done;

	reserve_name(d->slot, name);
	fd = openat(d->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return false;
	done = !fault_fails("disk.reserve") && (fallocate(fd, 0, 0, (off_t)d->reserve) == 0 || errno == EOPNOTSUPP);
	close(fd);
	if (!done)
		reserve_remove(d);
	return done;
}

/* Free for us, or as much as there can be if nobody knows. */
static uint64_t
free_bytes(const struct disk *d)
{
	struct statvfs st;

	if (fault_error("disk.free") != 0)
		return 0;
	if (fstatvfs(d->dirfd, &st) != 0)
		return UINT64_MAX;
	return (uint64_t)st.f_bavail * st.f_frsize;
}

static void
watch_free(struct disk *d, uint64_t room)
{
	bool was = atomic_load(&d->low);
	/* Some room above the line before mail is taken again, so that it does not flutter. */
	bool low = d->free_min != 0 && room < d->free_min + (was ? d->free_min / 16 : 0);

	if (low == was)
		return;
	atomic_store(&d->low, low);
	if (low)
		log_warn("spool", "free space is below spool_free_min: new mail is refused");
	else
		log_info("spool", "free space is above spool_free_min again");
}

void
disk_tick(struct disk *d)
{
	uint64_t room = free_bytes(d);

	watch_free(d, room);
	if (d->reserve == 0)
		return;
	pthread_mutex_lock(&d->lock);
	/* Somebody may have removed it, or cut it short, to make room. */
	d->reserved = d->reserved && reserve_found(d);
	if (!d->reserved && room >= d->free_min + d->reserve && reserve_make(d)) {
		d->reserved = true;
		atomic_store(&d->spent, false);
	}
	pthread_mutex_unlock(&d->lock);
}

bool
disk_short(const struct disk *d)
{
	return free_bytes(d) < d->reserve;
}

bool
disk_has_room(const struct disk *d)
{
	return !atomic_load(&d->low) && !atomic_load(&d->spent);
}
