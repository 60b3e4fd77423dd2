/* spool_disk.h - is there room on the disk, and the reserve for when there is none
 * Below free_min new mail is refused before DATA; outcomes and DSNs go on. A reserve file (reserve.S, blocks allocated)
 * is let go when the journal itself, or the keeper's index, finds the disk full; then new mail is refused until there is
 * room for free_min and the reserve again. One that a dead process left is taken over. Init and fini: before and after the threads. Tick: the reading thread, about once a second, and
 * after what took much room.
 * The rest: any thread. */
#ifndef SPOOL_SPOOL_DISK_H
#define SPOOL_SPOOL_DISK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/base/err.h"

/* What each process that writes to the spool keeps in reserve. */
#define DISK_RESERVE (UINT64_C(8) << 20)

struct disk {
	int dirfd;
	int slot;
	uint64_t free_min, reserve;
	_Atomic bool low;   /* free space is below free_min */
	_Atomic bool spent; /* the reserve was let go */
	pthread_mutex_t lock;
	bool reserved; /* the file is there; under lock */
};

void disk_init(struct disk *d, int dirfd, int slot, uint64_t free_min, uint64_t reserve);
/* Removes the reserve file. */
void disk_fini(struct disk *d);
void disk_tick(struct disk *d);
/* The journal or the index found no room. True: the reserve was let go just now, try again. */
bool disk_let_go(struct disk *d);
/* Less is free than the reserve holds. */
bool disk_short(const struct disk *d);
/* Bytes that the file of this slot really holds, in the journal's folder dirfd. Any process. ERR_NOTFOUND: there is no
 * such file. ERR_IO. */
enum err disk_reserved(int dirfd, int slot, uint64_t *bytes);
/* New mail may come. */
bool disk_has_room(const struct disk *d);

#endif
