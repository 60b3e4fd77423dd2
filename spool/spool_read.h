/* spool_read.h - how messages are read back: a few open segments, the page cache first, then the reading thread
 * The loop reads only what is in memory (RWF_NOWAIT) of segments that it has open; anything else (another file, a
 * cold page, a body in its own file) is one job of the reading thread. For the spool's own files; others see spool.h.
 */
#ifndef SPOOL_SPOOL_READ_H
#define SPOOL_SPOOL_READ_H

#include <stdint.h>

enum { FD_CACHE = 32 };

/* Open segments, least recently used last to go. */
struct fd_cache {
	struct {
		uint32_t number; /* 0: free */
		int fd;
		uint64_t used;
	} at[FD_CACHE];
	uint64_t clock;
};

void fd_cache_fini(struct fd_cache *c);

#endif
