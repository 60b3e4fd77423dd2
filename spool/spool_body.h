/* spool_body.h - a large body on its way to a segment of its own
 * The public calls stand in spool.h, those for spool_submit.c in spool_int.h. The loop copies what arrives into chunks;
 * the reading thread writes them, in order, and syncs at the end. The file is made with the first chunk. One that was
 * not kept is unlinked, by its own process only; a dead process's is the keeper's to unlink, once no record can refer
 * to it. */
#ifndef SPOOL_SPOOL_BODY_H
#define SPOOL_SPOOL_BODY_H

enum {
	BODY_CHUNK = 64 << 10,    /* written at a time */
	BODY_RESUME = BODY_CHUNK, /* pending bytes below which more may come */
};

#endif
