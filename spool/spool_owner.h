/* spool_owner.h - the owner of partitions: finds the mail that is due, lends it to delivery, remembers what it did
 * One object per worker, used on the loop's thread only. It learns of mail from hints (spool_id, place, queue) and from
 * the map, whose pages are read on the spool's reading thread; delivery asks it for work and tells it what became of
 * it. What it holds in memory is the window of each active queue, what is in work, and what it has written itself that
 * the map does not show yet; a message that is merely queued costs nothing.
 *
 * A message, as delivery sees it:
 *
 *     owner_take() -> taken -> owner_may_write() true -> attempt and outcome written -> owner_done()
 *                       |                    false -> owner_release()
 *                       `-> owner_release(): not tried after all
 *
 * The gate owner_may_write() is to be passed right before the first record about a message is put into a transaction,
 * be it an attempt or an outcome without one: only from there on is the message in work, and after a handover or a
 * console verb that got there first it is closed. Who passed it must write an outcome of that number, deferred if
 * need be, or die: a partition's next owner waits for it.
 *
 * Lending. A busy owner gives messages of a long queue to another worker of its generation that has time; there they
 * stand in a queue of the same name, and delivery sees no difference but owner_queue_borrowed(). The borrower passes
 * the gate and writes attempt and outcome itself, then tells the lender; what it cannot begin soon it gives back. A
 * message lent is remembered until the borrower has said what became of it, or the map knows: no time-out takes it back.
 * Order: who lends lends what it would take next, so within a queue and priority a message is begun at most as many
 * places out of turn as are on loan; a later try is always the owner's to order.
 *
 * Try numbers: the attempt and the outcome written for a taken message carry n = msg->tries + 1.
 *
 * Callbacks run from owner_run(), from owner_on_doorbell() or from a completion on the loop, never from within a call
 * made by delivery. */
#ifndef SPOOL_OWNER_H
#define SPOOL_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"
#include "spool/sched.h"
#include "spool/spool_id.h"
#include "spool/spool_record.h"
#include "spool/spool_state.h"

struct index;
struct shm_area;
struct spool;
struct spool_owner;
struct owner_queue;

/* A message in the hands of delivery: from the callback or the take that gives it until owner_done, owner_release. */
struct owner_msg {
	msgid_t id;
	struct place place; /* of the record with the message; its envelope and bytes come by spool_fetch */
	uint16_t item;      /* which message of that record */
	uint8_t priority;   /* higher first */
	bool doubtful;      /* its last attempt had no known end: names it "in doubt" when tried again */
	uint32_t tries;     /* attempts and outcomes so far: the next is tries + 1 */
	usec_t received_at; /* real time; from the id */
	usec_t due;         /* real time */
	struct owner_queue *queue;
	void *role; /* delivery's own, NULL when given */
};

/* Why delivery is given a message without having asked for one. */
enum owner_errand {
	OWNER_LOOK_EXPIRY, /* its deadline may have passed: expire it, or release it with owner_release() */
	OWNER_FAIL,        /* the console fails it: bounce with `reason` (the DSN in the same record) */
	OWNER_DROP,        /* the console drops it: outcome discarded, no DSN */
	OWNER_DOUBT_DONE,  /* in doubt, and taken as delivered: outcome delivered of number tries, not tries + 1 */
};

/* The option in_doubt. */
enum owner_in_doubt {
	OWNER_DOUBT_RETRY,
	OWNER_DOUBT_HOLD,
	OWNER_DOUBT_END, /* "done": given as errand OWNER_DOUBT_DONE */
};

/* What delivery says when it is shown a queue with work. */
enum owner_served {
	OWNER_SERVED, /* did what it could: shown again when new messages are ready, or after owner_kick() */
	OWNER_FULL,   /* a limit that queues share is reached: the round stops here and goes on here at owner_room() */
};

struct owner_ops {
	/* The queue has messages that may be taken: open or use connections. Queues are shown in turn, so that none
	 * starves another. May call owner_take() at once. */
	enum owner_served (*queue_ready)(void *arg, struct owner_queue *q);
	/* An errand: `m` is taken, as if by owner_take(). `reason` holds during the call. */
	void (*errand)(void *arg, struct owner_msg *m, enum owner_errand what, struct slice reason);
	/* The queue is about to be freed (nothing ready, in work or remembered): drop owner_queue_role(). Optional;
	 * false keeps it (an idle connection, a backoff worth remembering). */
	bool (*queue_idle)(void *arg, struct owner_queue *q);
	/* What to do with mail in doubt of this queue. */
	enum owner_in_doubt (*in_doubt)(void *arg, struct owner_queue *q);
	/* suspend_delivery of the configuration for this queue; asked when a queue appears and at owner_reconf(). */
	bool (*suspended)(void *arg, struct owner_queue *q);
	/* Whether connections of another worker would help: the queue's hosts answer, and its limits leave room for two.
	 * Optional: without it nothing is lent. */
	bool (*may_lend)(void *arg, struct owner_queue *q);
};

/* Delivery's end: before this, nothing is shown. Copies ops; NULL ops stops showing (drain). */
void owner_set_ops(struct spool_owner *o, const struct owner_ops *ops, void *arg);

/* Gives up to `max` messages that are due, highest priority and longest due first. 0: none now. */
size_t owner_take(struct owner_queue *q, size_t max, struct owner_msg **out);
/* The gate (above). False: the message is no longer ours to try; call owner_release(). True may be asked again. */
bool owner_may_write(struct owner_msg *m);
/* The attempt record is synced at `place`. A handover record waits for this, or for owner_done, of all that passed the
 * gate before it: so the map has their attempts when it has the record. */
void owner_attempted(struct owner_msg *m, struct place place);
/* The outcome is synced at `place`: `next_due` (real time) counts for deferred only. Frees the handle. */
void owner_done(struct owner_msg *m, enum outcome_kind kind, usec_t next_due, struct place place);
/* Not tried, nothing written: it goes back to where it stood, unless a verb or a handover waits for it. With
 * `not_before` (real time, 0: at once) it is not given again before then. Only while owner_may_write() has not said
 * true. Frees the handle. */
void owner_release(struct owner_msg *m, usec_t not_before);
/* spool_fetch found no file, or another id there: forgets it here; the map says where it is now, or that it is over.
 * Frees the handle. */
void owner_lost(struct owner_msg *m);

/* Its bytes are damaged: quarantined, by an edit that is on its way when this returns, and named to whoever lists what
 * is set aside. The handle stays: owner_release, or owner_done when the gate was passed. */
void owner_set_aside(struct owner_msg *m, struct slice reason);

/* The queue: its names hold as long as it lives. */
struct slice owner_queue_binding(const struct owner_queue *q);
struct slice owner_queue_domain(const struct owner_queue *q);
uint64_t owner_queue_hash(const struct owner_queue *q);
/* Messages that could be taken now; loaded ones only, so 0 means none and 500 means 500 or more. */
size_t owner_queue_ready(const struct owner_queue *q);
/* It is another owner's, and what is in it borrowed: mail that finds no connection is to be released, not failed. To
 * wait, or to be suspended, gives back what was not taken. */
bool owner_queue_borrowed(const struct owner_queue *q);
/* Workers that work on this queue, by what this one knows: 1, and those to whom it lends or did just now. Its connections
 * are shared between them; what there may be in all is for the limits to say. */
unsigned owner_queue_hands(const struct owner_queue *q);
/* Messages taken. */
size_t owner_queue_taken(const struct owner_queue *q);
/* Delivery's own pointer (MX state, connections, backoff). */
void owner_queue_set_role(struct owner_queue *q, void *role);
void *owner_queue_role(const struct owner_queue *q);
/* Show it again this turn if it has work: a connection ended, a limit changed. */
void owner_kick(struct owner_queue *q);
/* Do not show it before then (monotonic; a throttle, a host that is down). Replaces an earlier wait; 0 ends it. */
void owner_wait(struct owner_queue *q, usec_t until_mono);
/* A limit that queues share has room again. */
void owner_room(struct spool_owner *o);

/* ---- the worker's side ---- */

struct owner_world;

/* Borrowed as long as the owner. */
struct owner_env {
	struct shm_area *area; /* partitions, inboxes, the roll of lives */
	int slot;
	uint64_t writer;
	uint32_t generation;
	struct spool *spool;
	struct index *index;
	/* Asks the keeper to commit: something waits for it. At most twice a second; may be NULL. */
	void (*commit_please)(void *arg);
	void *arg;
	const struct owner_world *world; /* NULL: the spool and the index above; a test's twin (spool_owner_int.h) */
};

struct spool_owner *owner_new(const struct owner_env *env);
/* Forgets everything: it is in the journals. Nothing of it may be under way in the spool: after spool_close. Clears the
 * caller's pointer; NULL inside is fine. */
void owner_free(struct spool_owner **o);

/* Once a turn of the loop, and whenever owner_next has come: shows queues, looks into the map. */
void owner_run(struct spool_owner *o);
/* Monotonic time by which owner_run wants to be called; now or past if it has more to do; INT64_MAX if it only waits.
 */
usec_t owner_next(struct spool_owner *o);
/* The bell rang: takes the hints, and looks whether the keeper has committed. */
void owner_on_doorbell(struct spool_owner *o);

/* A process has ended: what it lent or borrowed is looked after. Found out within a second without this call. */
void owner_on_life(struct spool_owner *o);

/* A message is on disk, by this process's hand: its owner is told, who may be we ourselves. Copies. The bell of others
 * rings at the next owner_run. */
struct owner_news {
	msgid_t id;
	struct place place;
	uint16_t item;
	uint8_t priority;
	usec_t received_at;
	usec_t due; /* real; 0: at once */
	struct slice binding, domain;
};
void owner_tell(struct spool_owner *o, const struct owner_news *n);

/* The keeper says that this message's deadline may have passed. */
void owner_due(struct spool_owner *o, msgid_t id);

/* What the console wants. One message: id_lo == id_hi. A range: every message with that binding and domain (empty:
 * any). */
enum owner_verb_kind {
	OWNER_VERB_RETRY,   /* due now */
	OWNER_VERB_FAIL,    /* bounce it */
	OWNER_VERB_DROP,    /* end it without a notice */
	OWNER_VERB_HOLD,    /* set aside */
	OWNER_VERB_RELEASE, /* back into its queue: from hold, quarantine or doubt */
	OWNER_VERB_DONE,    /* in doubt: taken as delivered; one message only */
};
struct owner_verb {
	enum owner_verb_kind kind;
	msgid_t id_lo, id_hi;
	struct slice binding, domain, reason;
};
/* done is called once, later: OK: the edit is on disk and will be obeyed; ERR_NOTFOUND: no such message; ERR_STATE: not
 * ours, or (DONE) not in doubt; else the spool's error. Copies. */
void owner_verb(struct spool_owner *o, const struct owner_verb *v, void (*done)(void *arg, enum err), void *arg);

/* A binding was suspended or resumed by the console; STATE_CONFIGURED: as ops->suspended says. */
void owner_suspend(struct spool_owner *o, struct slice binding, enum state_suspension how);
/* A new configuration: asks ops->suspended again for every queue. */
void owner_reconf(struct spool_owner *o);

/* Hands all partitions on: nothing is given to delivery any more, the gate closes for what is not begun, own or
 * borrowed, and a handover record names what is in work; done is called when it is synced. Errands and owner_done go on.
 * Once. */
void owner_drain(struct spool_owner *o, void (*done)(void *arg), void *arg);

struct owner_counts {
	uint32_t partitions; /* that are ours */
	uint32_t waiting;    /* that are to be ours: somebody before us is not through yet */
	uint32_t queues;     /* in memory */
	uint32_t loaded;     /* messages that wait in the schedule */
	uint32_t taken;      /* by delivery */
	uint32_t remembered; /* written about, and not in the map yet */
	uint32_t lent;       /* to other workers */
};
void owner_counts(const struct spool_owner *o, struct owner_counts *out);
/* Each queue in memory: for the console. */
void owner_each_queue(struct spool_owner *o, void (*fn)(void *arg, struct owner_queue *q), void *arg);
bool owner_queue_suspended(const struct owner_queue *q);

/* Where a message is, for the console. */
enum owner_where {
	OWNER_FOREIGN,  /* its partition is another worker's */
	OWNER_STARTING, /* ours, but who owned it before is not through yet */
	OWNER_HANDED,   /* was ours: we drain */
	OWNER_ABSENT,   /* not in memory: the map has it, and it is not due or its turn has not come */
	OWNER_READY,    /* due, waits to be taken */
	OWNER_LATER,    /* in memory, due later */
	OWNER_TAKEN,    /* in delivery's hands */
	OWNER_LENT,     /* with another worker */
	OWNER_EDITING,  /* out of the schedule: what the console wants of it is being written */
	OWNER_OVER,     /* what became of it is written, and not yet in the map */
};
struct owner_found {
	enum owner_where where;
	usec_t due;                /* real; OWNER_READY, OWNER_LATER */
	void *role;                /* OWNER_TAKEN: delivery's own */
	struct owner_queue *queue; /* NULL: not in memory. Holds until the next turn */
	usec_t wait_until;         /* monotonic: the queue is not shown before then; 0 */
	bool full;                 /* the round stands still: a limit that all queues share is reached */
};
/* id 0: of the queue alone; where is OWNER_READY when it has mail that is due and not taken, OWNER_ABSENT if not. */
void owner_find(struct spool_owner *o, uint64_t queue, msgid_t id, struct owner_found *out);

#endif
