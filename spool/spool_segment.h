/* spool_segment.h - segment files: made, numbered, sealed, opened, listed
 * In spoolbase/journal/:
 *     NNNNNNNNNN.seg    a segment: a journal or one large body; ten digits, numbers from 1, never used twice
 *     NNNNNNNNNN.toc    beside the segment of a dead writer: its table of contents (one RECORD_TOC), by the keeper
 *     NNNNNNNNNN.ended  beside a segment: what segments that are gone said of it, by the keeper
 *     spare.N           an old segment that may become a new one: whole blocks written, content without meaning
 *     prep.S.N          a segment of slot S in the making, not yet anything; remnants of a dead S go when S starts
 * again reserve.S         blocks kept for outcomes when the disk is full (spool_disk.h) A process writes only segments
 * that it made itself. A .seg file has had a whole, synced head before it got that name (head written and synced under
 * prep.S.N, renamed without replacing anything, directory synced): so a file without a good head is damage, and old
 * bytes behind the head of a former spare never name this segment. The first SEGMENT_HEAD bytes are the head page: the
 * head (at 0) is written once. The seal (at 2048) is written and synced by the writer when the segment is full, after
 * the RECORD_TOC that ends it; never after a failed sync. Records begin at SEGMENT_HEAD. A segment whose writer is gone
 * and that has no seal ends with its last whole record, or where an END or its .ended says. A body segment has no
 * records and no seal: the bytes of one body from SEGMENT_HEAD on. Numbers come from one counter in shared memory,
 * raised at each process's start above every file in the directory and above what the index knows: so a number is not
 * used again even if its file has come and gone meanwhile. Blocking I/O: never on the loop. Errors: ERR_IO (errno),
 * ERR_FULL (ENOSPC, EDQUOT), ERR_NOTFOUND, ERR_DAMAGED. */
#ifndef SPOOL_SPOOL_SEGMENT_H
#define SPOOL_SPOOL_SEGMENT_H

#include <stdatomic.h>

#include "shm/base/err.h"
#include "spool/spool_record.h"

enum {
	SEGMENT_HEAD = 4096,
	SEGMENT_SIZE_MIN = 64 << 10,
	SEGMENT_NAME = 32,   /* longest file name, with NUL */
	SEGMENT_PAGE = 4096, /* what page cache and disk read and write at once */
};
#define SEGMENT_SIZE_MAX (UINT64_C(2) << 30)

enum segment_kind { SEGMENT_JOURNAL = 1, SEGMENT_BODY = 2 };

struct segment_seal {
	bool sealed;
	uint32_t end; /* records end here; the RECORD_TOC, which is the last one, begins at toc */
	uint32_t toc;
	msgid_t id_high;
};

struct segment_head {
	uint32_t number;
	enum segment_kind kind;
	uint8_t slot;
	uint32_t generation;
	uint64_t writer;  /* the process life that wrote it: slot_who.writer */
	usec_t created;   /* real clock */
	msgid_t id_floor; /* highest id its writer had made */
	uint64_t size;    /* blocks written when it was made; records may go beyond if one did not fit */
	struct segment_seal seal;
};

/* `page`: the first SEGMENT_HEAD bytes of the file with that number (0: any). ERR_DAMAGED, ERR_VERSION. */
enum err segment_head_read(struct slice page, uint32_t number, struct segment_head *out);
/* The same from a file. */
enum err segment_head_load(int fd, uint32_t number, struct segment_head *out);
/* A page with that head and no seal. */
void segment_head_write(const struct segment_head *h, char page[SEGMENT_HEAD]);

/* ---------------------------------------------------------------- names */

enum segment_file {
	SEGFILE_SEG,
	SEGFILE_TOC,
	SEGFILE_ENDED,
	SEGFILE_SPARE,
	SEGFILE_PREP,
	SEGFILE_RESERVE,
	SEGFILE_OTHER
};

/* SEG, TOC, ENDED and SPARE only. */
void segment_name(enum segment_file what, uint32_t number, char out[SEGMENT_NAME]);
/* What a name in the directory is; *number: of the segment or spare, or the slot of a PREP and RESERVE. */
enum segment_file segment_name_parse(const char *name, uint32_t *number);
/* Calls fn for every entry but OTHER, in no order; stops when fn gives an error and returns that. */
enum err segment_list(int dirfd, enum err (*fn)(void *arg, enum segment_file what, uint32_t number, const char *name),
		      void *arg);
/* The highest number of a SEG, TOC or ENDED; 0 if there is none. */
enum err segment_highest(int dirfd, uint32_t *out);
/* The highest id that a process in `slot` can have made, by heads and records of the newest segments. */
enum err segment_id_floor(int dirfd, uint8_t slot, msgid_t *out);

/* For reading; CLOEXEC. -1 and errno. */
int segment_open(int dirfd, uint32_t number);
/* The whole of [off, off + n), short only at the end of the file: *got. EINTR and short reads are handled. */
enum err segment_read(int fd, uint64_t off, void *to, size_t n, size_t *got);
/* All of it, at off; EINTR and short writes are handled. */
enum err segment_write(int fd, uint64_t off, const void *from, size_t n);
/* fsync of the directory. */
enum err segment_dir_sync(int dirfd);

/* ---------------------------------------------------------------- making */

/* Who makes segments: one in a process; its threads may share it. */
struct segment_maker {
	int dirfd;
	uint8_t slot;
	uint32_t generation;
	uint64_t writer;
	_Atomic uint32_t *highest; /* shared memory: the highest number given out */
	_Atomic uint32_t serial;   /* of prep files */
};

/* A segment that this process made and may write. */
struct segment {
	int fd; /* -1: none */
	uint32_t number;
	enum segment_kind kind;
	uint64_t size; /* blocks that are there */
};

/* Raises *m->highest above every file and `floor` (what the index knows), removes the slot's prep files. Once a start.
 */
enum err segment_maker_start(struct segment_maker *m, uint32_t floor);
/* Takes a spare if there is one of at least `size` bytes, else makes a new file of `size` zeroed bytes; gives it a new
 * number and head; file and directory are synced when it returns OK. A body is made without zeroes, and with its head
 * synced only: its writer syncs the rest, and the directory. Nothing is left behind on failure. */
enum err segment_make(struct segment_maker *m, enum segment_kind kind, uint64_t size, msgid_t id_floor,
		      struct segment *out);
/* Full: adds the RECORD_TOC at `end`, syncs, writes the seal, syncs. `entries`: see toc_add. */
enum err segment_seal(const struct segment *s, uint32_t end, struct slice entries, msgid_t id_high);
void segment_close(struct segment *s);
/* Closes and removes the file. */
void segment_drop(const struct segment_maker *m, struct segment *s);
/* The keeper: segment `number` is over; makes it spare.N instead of unlinking it. The directory is not synced. */
enum err segment_to_spare(int dirfd, uint32_t number);

#endif
