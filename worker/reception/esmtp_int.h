/* esmtp_int.h - one SMTP session, for the files esmtp_*.c only
 * A session reads commands from its stream; each is an object in a queue (new, running, replied, done) and its reply
 * leaves when all before it have left. At most one command is `current`: it waits for policy, and until it is replied or
 * detached nothing more is read. A command that is detached waits for the spool only: its transaction is over as far as
 * the session is concerned, and the next commands run.
 * Lifetimes: session (struct esmtp), mail transaction (struct esmtp_txn, its arena), command (pooled), and what was given to
 * the spool (struct esmtp_sent: outlives its session, because a message whose proof is on its way is a message).
 * A session that closes cancels what it waits for at once and is freed at the end of the turn. */
#ifndef WORKER_RECEPTION_ESMTP_INT_H
#define WORKER_RECEPTION_ESMTP_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "policy/policy.h"
#include "shm/base/arena.h"
#include "shm/base/bytes.h"
#include "worker/net/loop.h"
#include "worker/net/stream.h"
#include "worker/reception/esmtp_args.h"
#include "worker/reception/esmtp_line.h"
#include "worker/reception/reception_int.h"

struct esmtp;
struct esmtp_cmd;
struct esmtp_sent;

enum esmtp_state {
	ES_CONNECT, /* policy is asked about the connection; we have said nothing yet */
	ES_BANNER,  /* 220 is said, neither EHLO nor HELO was */
	ES_READY,   /* between transactions */
	ES_MAIL,    /* a sender is accepted */
	ES_RCPT,    /* and at least one recipient */
	ES_BODY,    /* 354 is said: bytes are content until the final dot */
	ES_JUDGE,   /* the final dot was seen: policy, then the door of the spool */
	ES_CLOSING, /* the last reply is said; only output is still on its way */
	ES_STATES
};
#define IN(state)   (1u << (state))
#define IN_ANY      (IN(ES_BANNER) | IN(ES_READY) | IN(ES_MAIL) | IN(ES_RCPT))
#define IN_MAIL_TXN (IN(ES_MAIL) | IN(ES_RCPT))

/* A row a verb. check looks at the argument and replies when it is bad (false); run does the work and replies, now or
 * later. */
struct esmtp_verb {
	const char *name;
	unsigned states; /* where it is legal */
	unsigned flags;  /* enum esmtp_verb_flag */
	bool (*check)(struct esmtp_cmd *c, struct slice args);
	void (*run)(struct esmtp_cmd *c, struct slice args);
};
enum esmtp_verb_flag {
	VERB_BARE = 1,   /* takes no argument */
	VERB_DRAINS = 2, /* where a session that is to go is told 421 */
};

enum esmtp_cmd_state { CMD_NEW, CMD_RUNNING, CMD_REPLIED, CMD_DONE };

struct esmtp_cmd {
	STAILQ_ENTRY(esmtp_cmd) link;
	struct esmtp *s;
	const struct esmtp_verb *verb; /* NULL: unknown, or the greeting */
	enum esmtp_cmd_state state;
	bool last;               /* the connection closes behind this reply */
	bool quit;               /* at the client's own wish */
	struct esmtp_sent *sent; /* what it waits for while detached */
	struct bytes reply;      /* formed, its turn has not come */
	unsigned tarpit;         /* seconds by which policy wants it late */
	struct ev_timer late;
};

struct esmtp_rcpt {
	struct slice addr; /* in the transaction's arena */
	struct slice line; /* "RCPT TO:<...>" */
	struct policy_msg *clone;
	uint64_t id;
	bool refused, discarded; /* no clone then */
	int code;                /* refused: what policy said */
	struct slice text;
};

/* What is collected of a message, see esmtp_body.c. */
struct esmtp_body {
	struct dots dots;
	struct bytes data;   /* header, and the body unless it is streamed */
	size_t header;       /* of data, once streamed */
	void *large;         /* the store's streamed body */
	uint64_t size;       /* content bytes seen */
	uint64_t large_size; /* of them, streamed */
	enum err failed;     /* the store has failed: the rest is passed over */
	bool too_big, waiting, eightbit, nul;
	bool no_room; /* failed: max_content_memory */
};

/* Questions between the final dot and the spool, in this order. */
enum esmtp_stage {
	JUDGE_DATA,
	JUDGE_SPOOL,
	JUDGE_EACH,    /* for each recipient */
	JUDGE_BINDING, /* for each that is left, and then */
	JUDGE_FINAL,   /* this one */
	JUDGE_NOTICE_BINDING,
	JUDGE_NOTICE_FINAL,
	JUDGE_OVER
};

struct esmtp_txn {
	struct arena *arena;
	struct policy_msg *msg;
	uint64_t id;        /* the batch's, and the first recipient's message id */
	usec_t received_at; /* real */
	struct slice sender;
	bool eightbit, utf8; /* as declared */
	struct esmtp_rcpt *rcpts;
	size_t n, cap;
	uint32_t tried; /* RCPT commands, refused ones too */
	struct esmtp_body body;
	int64_t held; /* bytes of content that reception_hold was told of */
	enum esmtp_stage stage;
	size_t at;             /* recipient that the stage is at */
	bool kept;             /* one recipient at least has passed */
	struct slice own_text; /* policy's text for the 250; empty: ours */
	struct policy_session *notice_session;
	struct policy_msg *notice;
	bool notice_eightbit;
	bool moved; /* the arena is that of what was sent now */
};

struct esmtp {
	TAILQ_ENTRY(esmtp) link;
	struct reception *r;
	struct stream *stream; /* NULL once closed */
	const struct conf_view *view;
	enum esmtp_state state;
	msgid_t conn;
	struct policy_session *policy;
	struct policy_run run; /* of the current command */
	bool asking;           /* run waits */
	void (*answered)(struct esmtp *s);
	STAILQ_HEAD(, esmtp_cmd) cmds;
	struct esmtp_cmd *current;
	struct esmtp_txn *txn;
	struct slice line; /* of the command that is being begun */
	struct ev_timer idle,
		deadline; /* deadline: of the command whose line, or content, is coming in, or of a tarpit */
	struct ev_later go, gone;
	const char *module;   /* who refused, for M= */
	char *helo;           /* NULL: not said */
	struct bytes caps;    /* EHLO lines that policy added, each with "\n" */
	uint64_t keys[2];     /* limits that are taken; 0: none */
	usec_t content_began; /* monotonic */
	uint32_t accepted, rcpts, errors;
	bool extended; /* EHLO, not HELO */
	bool skipping; /* an overlong line */
	bool ended;    /* the peer writes no more */
	bool draining; /* 421 at MAIL and RSET */
	bool reading;  /* in the loop that takes commands from the input */
	bool closed;
	char peer_ip[INET6_ADDRSTRLEN];
	char peer[INET6_ADDRSTRLEN + 8], local[INET6_ADDRSTRLEN + 8]; /* "ip:port" */
};

/* esmtp_state.c */
/* The only way to change the state: asserts that the move is legal. */
void esmtp_enter(struct esmtp *s, enum esmtp_state to);
/* For the rejectlog's P=. */
const char *esmtp_state_text(enum esmtp_state state);

/* esmtp_session.c */
/* Closes at once; cancels what is waited for; memory goes at the end of the turn. */
void esmtp_close(struct esmtp *s);
/* Behind the last reply. */
void esmtp_finish(struct esmtp *s);
/* Behind the reply to QUIT, after which a client sends nothing (RFC 5321 4.1.1.10). */
void esmtp_end(struct esmtp *s);
/* The current command is over, or content may go on: reads what comes next, at the end of the turn, for the caller may
 * be deep in a command. */
void esmtp_go_on(struct esmtp *s);

/* esmtp_reply.c */
/* Ends the command (state replied); its reply leaves in its turn. text: one line, or several with "\n"; an enhanced
 * code in front of it. 4xx and 5xx are counted and go to the rejectlog. 421 closes behind it. */
void esmtp_reply(struct esmtp_cmd *c, int code, const char *text);
void esmtp_replyf(struct esmtp_cmd *c, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void esmtp_reply_slice(struct esmtp_cmd *c, int code, struct slice text);
/* The reply of a command that policy was asked about: its own, or the usual one. */
void esmtp_reply_verdict(struct esmtp_cmd *c, const struct policy_verdict *v, int code, const char *text);
/* Before a reply: "refused by" for M=. Reset by each reply. */
void esmtp_blame(struct esmtp *s, const char *module);
/* Ends the command without an answer and closes: nobody can say what became of the message. */
void esmtp_no_reply(struct esmtp_cmd *c);
/* 421 right now, out of any command, and close. */
void esmtp_bye(struct esmtp *s, const char *text);

/* esmtp_command.c */
/* A new command at the end of the queue, and current. */
struct esmtp_cmd *esmtp_cmd_new(struct esmtp *s, const struct esmtp_verb *verb);
/* The command waits for the spool only; the session goes on. */
void esmtp_cmd_detach(struct esmtp_cmd *c, struct esmtp_sent *sent);
void esmtp_cmd_free(struct esmtp_cmd *c);
/* Looks the line up in the table, checks, runs. */
void esmtp_command(struct esmtp *s, enum line_kind kind, struct slice line);
/* Asks policy in the name of the current command. OK: s->run.verdict is there. ERR_AGAIN: answered(s) is called when it
 * is. str must hold until then. */
enum err esmtp_ask(struct esmtp *s, enum policy_phase phase, struct policy_msg *msg, struct slice str,
		   void (*answered)(struct esmtp *s));

/* esmtp_greet.c */
void esmtp_greet(struct esmtp *s);
bool esmtp_check_ehlo(struct esmtp_cmd *c, struct slice args);
bool esmtp_check_helo(struct esmtp_cmd *c, struct slice args);
void esmtp_run_ehlo(struct esmtp_cmd *c, struct slice args);
void esmtp_run_helo(struct esmtp_cmd *c, struct slice args);
extern const struct policy_view_ops esmtp_view_ops;

/* Text behind 452 when max_content_memory is reached. */
#define ESMTP_NO_MEMORY "4.3.1 Too much mail in memory, try again later"

/* esmtp_mail.c, esmtp_rcpt.c, esmtp_data.c */
void esmtp_run_mail(struct esmtp_cmd *c, struct slice args);
void esmtp_run_rcpt(struct esmtp_cmd *c, struct slice args);
bool esmtp_check_data(struct esmtp_cmd *c, struct slice args);
void esmtp_run_data(struct esmtp_cmd *c, struct slice args);
/* Content from the front of *in. True: the final dot was seen (or the message is given up and the session with it). */
bool esmtp_content(struct esmtp *s, struct slice *in);
/* Says 501, 553 or 555 for a result that is not ARGS_OK. */
void esmtp_bad_args(struct esmtp_cmd *c, enum args_result r, const char *what);

/* esmtp_txn.c */
struct esmtp_txn *esmtp_txn_new(struct esmtp *s, const struct mail_args *m);
struct esmtp_rcpt *esmtp_txn_add(struct esmtp_txn *t, struct slice addr, struct slice line);
/* Forgets the session's transaction, with all it has; none: fine. */
void esmtp_txn_drop(struct esmtp *s);

/* esmtp_body.c */
/* Content, without the dots; too much of it, or a store that fails, is remembered and said behind the final dot. */
void esmtp_body_add(struct esmtp *s, struct slice bytes);
/* The transaction's content is not in memory any more, as far as reception_hold knows. */
void esmtp_body_let_go(struct esmtp *s);
void esmtp_body_fini(const struct reception_store *store, struct esmtp_body *b);

/* esmtp_judge.c: from the final dot to the reply, or to the door of the spool. */
void esmtp_judge(struct esmtp *s);
/* Ends the transaction with a reply; the session is ready for the next, or closing. */
void esmtp_judge_reply(struct esmtp *s, int code, struct slice text);

/* esmtp_message.c: what policy is shown of it. */
void esmtp_make_message(struct esmtp *s, int large_fd, uint64_t large_off);
/* More Received fields than allowed. */
bool esmtp_loops(const struct esmtp *s);
struct policy_msg *esmtp_make_clone(struct esmtp *s, struct esmtp_rcpt *rcpt);
/* The notice about the refused ones, in t->notice, unless the sender is the null one. */
void esmtp_make_notice(struct esmtp *s);

/* esmtp_sent.c */
/* Hands the transaction to the store and detaches the current command; or replies that it could not. */
void esmtp_send_to_spool(struct esmtp *s);
/* The session is gone: its sent ones go on alone. */
void esmtp_sent_orphan(struct esmtp_sent *sent);

/* esmtp_relay.c */
/* At connect: sets can_relay when the client is one that may. */
void esmtp_relay_client(struct esmtp *s, const struct sockaddr *peer);
bool esmtp_relay_allowed(struct esmtp *s, const struct addr *rcpt);

/* esmtp_log.c */
void esmtp_log_refusal(struct esmtp *s, int code, struct slice text);
/* A message that policy took away. */
void esmtp_log_discard(struct esmtp *s, struct slice why);

#endif
