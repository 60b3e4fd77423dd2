/* smtp_client_int.h - what the files of the outbound client share
 * smtp_client.c: states, deadlines, what the owner is told, events. smtp_client_say.c: commands and the message, what
 * goes out. smtp_client_reply.c: what each reply means, what comes in. */
#ifndef WORKER_DELIVERY_SMTP_CLIENT_INT_H
#define WORKER_DELIVERY_SMTP_CLIENT_INT_H

#include "worker/delivery/smtp_client.h"
#include "worker/net/loop.h"
#include "worker/net/stream.h"

enum state {
	ST_CONNECTING, /* TCP */
	ST_BANNER,     /* 220 awaited */
	ST_EHLO,
	ST_HELO,  /* EHLO was refused */
	ST_READY, /* between transactions */
	ST_RSET,
	ST_MAIL,
	ST_RCPT, /* of c->rcpt */
	ST_DATA,
	ST_BODY,  /* writing; the final dot has not left */
	ST_DOT,   /* the final dot is written */
	ST_QUIT,  /* said; the far side's session counts until it has answered or closed */
	ST_CLOSED /* down is told, or about to be */
};

struct outcome {
	enum smtp_how how;
	bool set, internal;
	int code;
	enum smtp_stage stage;
	size_t at, n; /* text, in c->texts */
};

struct capabilities {
	bool pipelining, eight_bit, utf8, dsn, size;
	uint64_t size_max;
};

struct smtp_client {
	struct loop *loop;
	struct stream *stream;
	char *ehlo;
	struct smtp_timeouts timeouts;
	const struct smtp_client_ops *ops;
	void *arg;
	enum state state;
	struct ev_timer timer;
	struct ev_later later;
	struct capabilities caps;
	bool greeted, quit, need_rset;
	unsigned transactions, delivered;
	bool telling, dead; /* client_tell is on the stack; freed meanwhile */

	/* the transaction */
	const struct smtp_mail *mail;
	struct outcome *outcomes;
	unsigned outcomes_cap;
	struct bytes texts;
	unsigned rcpt;     /* whose reply is next */
	unsigned accepted; /* recipients without an outcome that the far side takes */
	bool mail_ok, last_given, dot_allowed, dot_gone, wanting, at_line_start, after_cr;
	uint64_t sent;

	/* what is to be told */
	bool tell_done, tell_idle, tell_down;
	struct bytes down_text;
	struct smtp_down down;
	struct bytes reply;
};

/* smtp_client.c */
bool client_in_transaction(const struct smtp_client *c);
void client_set_deadline(struct smtp_client *c);
void client_enter(struct smtp_client *c, enum state s);
void client_tell_soon(struct smtp_client *c);
/* Of one recipient, if it has none yet; of all. */
void client_outcome(struct smtp_client *c, unsigned i, enum smtp_how how, int code, bool internal, struct slice text);
void client_outcomes(struct smtp_client *c, enum smtp_how how, int code, bool internal, struct slice text);
/* The transaction is over and the connection can go on. */
void client_finish(struct smtp_client *c);
/* The connection is over; the caller ends the stream. */
void client_close(struct smtp_client *c, bool asked, int code, bool internal, struct slice text);
void client_end_quit(struct smtp_client *c);
/* No more can be said on this connection: what is open ends without an answer. */
void client_lost(struct smtp_client *c, int code, const char *text);

/* smtp_client_say.c */
void client_say_mail(struct smtp_client *c);
void client_say_rcpt(struct smtp_client *c, unsigned i);
/* Asks the owner for more of the message, if there is room for it. */
void client_want_more(struct smtp_client *c);

/* smtp_client_reply.c */
void client_read_replies(struct smtp_client *c);

#endif
