/* shm_request.h - what processes may ask each other, and the channel it goes through
 * Each child has one SOCK_SEQPACKET pair to the master, who is the switchboard: it checks every packet against the
 * closed table below, forwards by slot, and never looks into a payload that is not for itself. A packet is a head and
 * at most REQ_PAYLOAD bytes; descriptors travel only from master to child (logs). Whoever sends what the table does
 * not allow (type, size, asker, answerer, moment, pace, an answer to no question) is ended by the master.
 * A payload's reader consumes every byte: what is left over is a violation too (req_done).
 *
 * A question wants an answer (reply true in its row) or not. An answer is one packet, or several with REQ_MORE on all
 * but the last; its status is the answerer's enum err. When the answerer dies or there is none, the master answers
 * ERR_EOF for it; so every question is answered exactly once.
 * Threads: a channel belongs to one loop. */
#ifndef SHM_SHM_REQUEST_H
#define SHM_SHM_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"
#include "shm/shm_area.h"
#include "shm/shm_role.h"

enum {
	REQ_PAYLOAD = 16384,  /* longest payload of one packet */
	REQ_FDS = 4,          /* most descriptors with one packet */
	REQ_TO_CONSOLE = 253, /* whoever has that role now */
	REQ_TO_KEEPER = 254,
	REQ_TO_MASTER = 255,
	REQ_QUEUE_MAX = 8 << 20, /* bytes that may wait in a channel for a full socket */
};

enum { REQ_REPLY = 1, REQ_MORE = 2 };

struct req_head {
	uint16_t type;
	uint16_t len;   /* of the payload */
	uint8_t from;   /* slot, or REQ_TO_MASTER; the master corrects it, so it can be trusted */
	uint8_t to;     /* slot, or one of REQ_TO_ */
	uint8_t flags;  /* REQ_REPLY, REQ_MORE */
	uint8_t status; /* of a reply: enum err */
	uint32_t seq;   /* the asker's number; a reply repeats it */
};
_Static_assert(sizeof(struct req_head) == 12, "req_head has no holes");

/* ---- the table ----
 * X(NAME, text, who may ask, who answers, shortest, longest payload, wants a reply, states of the asker, per second)
 * states: mask of STATE_BIT(slot_state); per second: 0 = no bound, -1 = once in a life. Payload layouts stand with the
 * code that reads them: the text says where. */
#define STATE_BIT(s) (1u << (s))
#define STATE_ALL    (STATE_BIT(SLOT_STARTING) | STATE_BIT(SLOT_SERVING) | STATE_BIT(SLOT_DRAINING))
#define STATE_UP     (STATE_BIT(SLOT_SERVING) | STATE_BIT(SLOT_DRAINING))
#define REQ_M        ROLE_BIT(ROLE_MASTER)
#define REQ_C        ROLE_BIT(ROLE_CONSOLE)
#define REQ_K        ROLE_BIT(ROLE_KEEPER)
#define REQ_W        ROLE_BIT(ROLE_WORKER)
#define REQ_T        ROLE_BIT(ROLE_TRIAL)

#define SHM_REQUESTS(X)                                                                                                \
	/* master to child: master/supervise.c */                                                                      \
	X(LOGS, "new log descriptors: u8 mask, main 1, reject 2, panic 4", REQ_M, ROLE_ANY, 1, 1, false, STATE_ALL, 0) \
	X(DRAIN, "drain and end: u32 seconds left", REQ_M, ROLE_ANY, 4, 4, false, STATE_ALL, 0)                        \
	X(STOP, "end now", REQ_M, ROLE_ANY, 0, 0, false, STATE_ALL, 0)                                                 \
	X(LIFE_ENDED, "a child has ended: u64 serial in the roll", REQ_M, ROLE_ANY, 8, 8, false, STATE_ALL, 0)         \
	X(LIFE_BEGUN, "a child was forked: u64 serial in the roll", REQ_M, ROLE_ANY, 8, 8, false, STATE_ALL, 0)        \
	/* child to master */                                                                                          \
	X(READY, "I serve", ROLE_ANY, REQ_M, 0, 0, false, STATE_ALL, -1)                                               \
	X(DRAINED, "my work is done, I end", ROLE_ANY, REQ_M, 0, 0, false, STATE_ALL, -1)                              \
	X(TRIAL_LINE, "a line of what is wrong or to be said: u8 level, text", REQ_T, REQ_M, 1, REQ_PAYLOAD, false,    \
	  STATE_ALL, 0)                                                                                                \
	X(RELOAD, "console: reload; answered when it is done, with a text", REQ_C, REQ_M, 0, 0, true, STATE_UP, 10)    \
	X(REOPEN_LOGS, "console: reopen the logs", REQ_C, REQ_M, 0, 0, true, STATE_UP, 10)                             \
	X(SHUTDOWN, "console: u8 0 drain, 1 now", REQ_C, REQ_M, 1, 1, true, STATE_UP, 10)                              \
	/* to the keeper: worker/keeper/keeper.c */                                                                    \
	X(KEEPER_COMMIT, "commit what is folded now", REQ_C | REQ_W, REQ_K, 0, 0, true, STATE_UP, 1000)                \
	X(KEEPER_LEDGER, "the ledger with the tail counted in", REQ_C, REQ_K, 0, 64, true, STATE_UP, 1000)             \
	X(KEEPER_BINDING, "suspend or resume a binding, kept over restarts", REQ_C | REQ_W, REQ_K, 1, REQ_PAYLOAD,     \
	  true, STATE_UP, 10000)                                                                                       \
	X(KEEPER_ASK, "other questions of the console to the keeper", REQ_C, REQ_K, 1, REQ_PAYLOAD, true, STATE_UP,    \
	  10000)                                                                                                       \
	/* to a worker: worker/worker_main.c */                                                                        \
	X(WORKER_EDIT, "an edit for the owner: one message or a range", REQ_C | REQ_K, REQ_W, 1, REQ_PAYLOAD, true,    \
	  STATE_UP, 0)                                                                                                 \
	X(WORKER_ASK, "what only the owner's memory knows: active, delayed, queues", REQ_C, REQ_W, 1, REQ_PAYLOAD,     \
	  true, STATE_UP, 0)                                                                                           \
	X(WORKER_DUE, "keeper: look at this message's deadline: u64 id", REQ_K, REQ_W, 8, REQ_PAYLOAD, false,          \
	  STATE_UP, 0)                                                                                                 \
	X(BINDING_CHANGED, "keeper: a binding was suspended or resumed", REQ_K, REQ_W, 1, REQ_PAYLOAD, false,          \
	  STATE_UP, 0)

enum req_type {
	REQ_NONE,
#define SHM_REQ_ENUM(name, text, askers, answerers, min, max, reply, states, pace) REQ_##name,
	SHM_REQUESTS(SHM_REQ_ENUM)
#undef SHM_REQ_ENUM
		REQ_TYPE_MAX
};

struct req_row {
	const char *name, *text;
	unsigned askers, answerers; /* masks of ROLE_BIT */
	uint16_t min, max;
	bool reply;
	unsigned states; /* mask of STATE_BIT */
	int per_second;
};
/* NULL for a type that is not in the table. */
const struct req_row *req_row(unsigned type);

/* How often one child asked: kept by the master for each child. */
struct req_meter {
	usec_t window[REQ_TYPE_MAX];
	uint32_t used[REQ_TYPE_MAX];
};
/* May a child of this role, in this state, send this packet? NULL: yes (and it is counted in m). Otherwise the words
 * for the log. Replies are checked for size and role only; whether they answer a question is the switchboard's to
 * know. `answerer` is the role of who h->to names. Pure. */
const char *req_violation(const struct req_head *h, size_t packet_len, enum role asker, enum slot_state state,
			  enum role answerer, struct req_meter *m, usec_t now);

/* ---- reading payloads ---- */

/* OK when every byte was taken, otherwise ERR_SYNTAX: the last line of every reader. */
enum err req_done(struct slice rest);

/* ---- a channel end ---- */

struct req_channel;

struct req_msg {
	struct req_head head;
	struct slice payload; /* holds until the next receive on this channel */
	int fds[REQ_FDS];     /* the receiver's from now on; close them */
	unsigned nfds;
};

/* A pair for a child: both ends CLOEXEC, non-blocking. */
enum err req_pair(int *master_end, int *child_end);
/* Takes fd. self: own slot, or REQ_TO_MASTER. */
struct req_channel *req_channel_new(int fd, uint8_t self);
/* The master's: NULL, and fd not taken, when there is no memory; the other ends the process then. */
struct req_channel *req_channel_try(int fd, uint8_t self);
/* Closes; what waits to be sent is lost; questions of ours that are open get ERR_EOF. NULL inside is fine. */
void req_channel_free(struct req_channel **c);
int req_channel_fd(const struct req_channel *c);
/* True while packets wait for the socket: watch for writing too, then call req_channel_flush. */
bool req_channel_wants_write(const struct req_channel *c);
enum err req_channel_flush(struct req_channel *c);

/* One packet. Waits in the channel when the socket is full. ERR_FULL: too much waits; ERR_EOF: the other end is gone. */
enum err req_send(struct req_channel *c, const struct req_head *h, struct slice payload, const int *fds, unsigned nfds);
/* ERR_AGAIN: none there now; ERR_EOF: the other end is gone; ERR_SYNTAX: not a packet of ours (too short, false length). */
enum err req_recv(struct req_channel *c, struct req_msg *m);

/* ---- asking and answering, on top of it (children and master alike) ---- */

/* Each packet of the answer; `more` false on the last. On ERR_EOF from a dead answerer payload is empty and more false. */
typedef void req_on_reply(void *arg, enum err status, struct slice payload, bool more);
/* A question, or a notice, from the other end. Answer now or later with req_answer(c, &head copy, ...); must not free c. */
typedef void req_on_request(void *arg, struct req_channel *c, struct req_msg *m);

/* Sends a question; on_reply runs from req_channel_turn, never from here (NULL for types that want no reply). */
enum err req_ask(struct req_channel *c, enum req_type type, uint8_t to, struct slice payload, req_on_reply *on_reply,
		 void *arg);
/* Forgets the callbacks with this arg (its owner goes away); the answers are dropped when they come. */
void req_forget(struct req_channel *c, void *arg);
/* Answers the question with this head. */
enum err req_answer(struct req_channel *c, const struct req_head *question, enum err status, struct slice payload,
		    bool more);
/* Receives all there is: replies go to their callbacks, the rest to on_request (descriptors it does not take over are
 * closed after it returns: to keep them set m->nfds to 0). OK when the socket is drained; ERR_EOF:
 * the master is gone, end; ERR_SYNTAX: the other end is mad. */
enum err req_channel_turn(struct req_channel *c, req_on_request *on_request, void *arg);

#endif
