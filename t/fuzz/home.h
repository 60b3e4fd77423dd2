/* home.h - what the fuzzers of the spool's readers share: a folder in memory, made once a process and gone with it
 * A spool of segments that are put there by hand. The owner of the folder is the fuzzer; it closes what it has opened
 * below it before home_end. */
#ifndef T_FUZZ_HOME_H
#define T_FUZZ_HOME_H

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "spool/spool_segment.h"

struct home {
	char folder[64];
	int dir, journal;
};

static int
home_drop(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

/* The folder with an empty journal/ in it. */
static inline void
home_begin(struct home *h)
{
	log_set_level(LOG_LVL_FATAL);
	snprintf(h->folder, sizeof(h->folder), "%s/impetus-fuzz.XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	require_that(mkdtemp(h->folder) != NULL, "fuzz");
	h->dir = open(h->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	require_that(h->dir >= 0 && mkdirat(h->dir, "journal", 0750) == 0, "fuzz");
	h->journal = openat(h->dir, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline void
home_end(struct home *h)
{
	close(h->journal);
	close(h->dir);
	(void)nftw(h->folder, home_drop, 8, FTW_DEPTH | FTW_PHYS);
}

/* A segment with a head and nothing behind it, open for writing. */
static inline int
home_segment(const struct home *h, uint32_t number, enum segment_kind kind)
{
	struct segment_head head = { .number = number, .kind = kind, .writer = 5, .size = SEGMENT_SIZE_MIN };
	char name[SEGMENT_NAME], page[SEGMENT_HEAD];
	int fd;

	segment_head_write(&head, page);
	segment_name(SEGFILE_SEG, number, name);
	fd = openat(h->journal, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	require_that(fd >= 0 && segment_write(fd, 0, page, sizeof(page)) == OK, "fuzz");
	return fd;
}

#endif
