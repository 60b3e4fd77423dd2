/* reception_spool.h - the spool as reception's store: a mail becomes one record, its messages hints to their owners
 * Owner: the worker; it lives as long as the reception and, after that, until spool_close has run the callbacks that are
 * owed. Thread: the loop's. */
#ifndef WORKER_RECEPTION_RECEPTION_SPOOL_H
#define WORKER_RECEPTION_RECEPTION_SPOOL_H

#include "spool/spool_record.h"
#include "worker/reception/reception.h"

struct spool;
struct reception_spool;

/* A message is on disk: whoever owns its queue may be told. Lost news do no harm. Slices are borrowed for the call. */
struct reception_queued {
	msgid_t id;
	struct place place;
	uint16_t item;
	uint8_t priority;
	usec_t due; /* real; 0: at once */
	struct slice binding, domain;
	usec_t received_at; /* real */
	uint64_t size;
};
typedef void reception_queued_fn(void *arg, const struct reception_queued *q);

/* queued is called on the loop after the sync, before the client hears its 250; NULL: nobody is told. */
struct reception_spool *reception_spool_new(struct spool *sp, reception_queued_fn *queued, void *arg);
/* Nothing may be in flight. Clears the caller's pointer; NULL inside is fine. */
void reception_spool_free(struct reception_spool **rs);
/* Holds as long as rs. */
const struct reception_store *reception_spool_store(const struct reception_spool *rs);

#endif
