/* message_text.h - one message's envelope and bytes, read from its segment for an operator to see
 * Reads only; blocks on the disk, which in the console harms nobody. Owner: the caller, message_text_fini.
 * Errors: ERR_NOTFOUND the row is older than the file (ask again), ERR_DAMAGED, ERR_IO. */
#ifndef WORKER_CONSOLE_MESSAGE_TEXT_H
#define WORKER_CONSOLE_MESSAGE_TEXT_H

#include "shm/base/bytes.h"
#include "shm/base/err.h"
#include "spool/spool_index.h"
#include "spool/spool_record.h"

struct message_text {
	struct spool_message envelope; /* borrows from raw */
	struct bytes raw, header, body;
};

/* spool_fd: the spool's folder. At most `most` bytes of header and of body each. All zero *out before the call. */
enum err message_text_read(int spool_fd, const struct index_row *row, size_t most, struct message_text *out);
void message_text_fini(struct message_text *m);

#endif
