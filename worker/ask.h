/* ask.h - payloads that travel between console and workers, encoded and decoded in one place
 * Pure: bytes in, struct out. What is decoded borrows from the payload. Readers take every byte (ERR_SYNTAX otherwise).
 * The types of the packets, and who may send them, are shm/shm_request.h's. */
#ifndef WORKER_ASK_H
#define WORKER_ASK_H

#include <stdbool.h>
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

/* KEEPER_BINDING, BINDING_CHANGED: a binding is suspended or resumed; `suspension` is enum state_suspension, who is for
 * people. */
struct ask_binding {
	uint8_t suspension;
	struct slice name, who;
};
void ask_binding_encode(const struct ask_binding *b, struct bytes *out);
enum err ask_binding_decode(struct slice payload, struct ask_binding *out);

/* WORKER_ASK: what only a worker's memory knows. The first byte is the kind of question. */
enum ask_what {
	ASK_ABOUT_DOMAIN = 1, /* hosts, connections and backoff of a domain: text */
	ASK_ABOUT_DNS,        /* does the resolver answer for this name? One line of text; ERR_TIMEOUT: it does not */
	ASK_WHY,              /* what holds a message or a queue: ask_why_encode; answered by holds */
	ASK_WHAT_MAX
};
void ask_about_encode(enum ask_what what, struct slice word, struct bytes *out);
enum err ask_about_decode(struct slice payload, enum ask_what *what, struct slice *word);

/* Why does it not leave? */
struct ask_why {
	uint64_t id; /* 0: the queue as a whole */
	struct slice binding, domain;
	struct slice remote; /* who the last outcome speaks of: "address:port", may be empty */
	bool due;            /* there is mail whose time has come, as far as the map knows */
};
void ask_why_encode(const struct ask_why *w, struct bytes *out);
enum err ask_why_decode(struct slice payload, struct ask_why *out);

/* Where in the chain, from the message outwards. */
enum ask_level {
	ASK_AT_MESSAGE,
	ASK_AT_QUEUE,
	ASK_AT_BINDING,
	ASK_AT_DOMAIN,
	ASK_AT_HOST,
	ASK_AT_SERVER,
	ASK_AT_WORKER,
	ASK_LEVELS
};
const char *ask_level_text(enum ask_level level);

/* A moment for people, UTC: "2026-01-31 12:00:00". */
void ask_add_moment(struct bytes *out, int64_t real);

/* One link of the chain. All text is for people; what is not known is empty. */
struct ask_hold {
	uint8_t level;         /* enum ask_level */
	bool holds;            /* false: said to explain, it keeps nothing back */
	struct slice cause;    /* "suspended" */
	struct slice limit;    /* the option or verb: "max_outbound_connections" */
	struct slice value;    /* "5" */
	struct slice set;      /* "FILE:LINE", "default", "root, 2026-01-31 12:00:00" */
	struct slice evidence; /* what was seen */
	struct slice lets_go;  /* what ends it, unless it is a time */
	int64_t until;         /* real time at which it ends, 0: no time does */
};
void ask_hold_encode(const struct ask_hold *h, struct bytes *out);
/* Takes one from the front of *s; false at the end of it, or when the rest is not one. */
bool ask_hold_take(struct slice *s, struct ask_hold *out);

#endif
