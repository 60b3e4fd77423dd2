/* ask.h - payloads that travel between console and workers, encoded and decoded in one place
 * Pure: bytes in, struct out. What is decoded borrows from the payload. Readers take every byte (ERR_SYNTAX otherwise).
 * The types of the packets, and who may send them, are shm/shm_request.h's. */
#ifndef WORKER_ASK_H
#define WORKER_ASK_H

#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

/* WORKER_EDIT: what the console wants done with a message, or a range of them, by the owner of its queue. */
enum ask_verb {
	ASK_RETRY = 1,  /* due now */
	ASK_FAIL,       /* bounce it */
	ASK_FAIL_QUIET, /* fail it without a notice */
	ASK_DROP,       /* discard it */
	ASK_HOLD,       /* set aside */
	ASK_RELEASE,    /* back into its queue, from hold, quarantine or doubt */
	ASK_DONE,       /* in doubt: taken as delivered */
	ASK_VERB_MAX
};

struct ask_edit {
	enum ask_verb verb;
	uint64_t id_lo, id_hi; /* equal: one message */
	/* Of the queue that is meant. One message: of its row, so the answerer can see that it owns it. A range: empty
	 * binding or domain means any. */
	struct slice binding, domain;
	struct slice reason; /* "554 ..." for the failing verbs; may be empty */
};

void ask_edit_encode(const struct ask_edit *e, struct bytes *out);
enum err ask_edit_decode(struct slice payload, struct ask_edit *out);

/* KEEPER_BINDING: a binding is suspended or resumed; `suspension` is enum state_suspension. */
void ask_binding_encode(uint8_t suspension, struct slice name, struct bytes *out);
enum err ask_binding_decode(struct slice payload, uint8_t *suspension, struct slice *name);

/* WORKER_ASK: what only a worker's memory knows; the answer is text. */
enum ask_what {
	ASK_ABOUT_DOMAIN = 1, /* hosts, connections and backoff of a domain */
	ASK_WHAT_MAX
};
void ask_about_encode(enum ask_what what, struct slice word, struct bytes *out);
enum err ask_about_decode(struct slice payload, enum ask_what *what, struct slice *word);

#endif
