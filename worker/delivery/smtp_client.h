/* smtp_client.h - one outbound SMTP connection: greeting, EHLO, one mail transaction after another, QUIT
 * Knows the protocol and nothing of queues, spool or configuration, so that it is tested against a scripted peer.
 *
 *     connecting -> banner -> ehlo (helo) -> idle <-> transaction (rset, mail, rcpt, data, body, dot) -> closed
 *
 * It speaks to its owner by the ops below, from the loop, never from inside a call of the owner. A transaction ends
 * with mail_done and one result a recipient, exactly once, whatever happens; then either idle (ready for the next) or
 * down. The final dot is the owner's to release: he says when the attempt is on disk (smtp_client_dot). What was
 * written after that is told by the result: SMTP_DOUBT when the connection ended, or went silent, with the dot in the
 * kernel's hands and no answer; SMTP_LOST when the far side cannot have taken the message. Thread: loop. Text of the
 * far side is one line, control characters made spaces. */
#ifndef WORKER_DELIVERY_SMTP_CLIENT_H
#define WORKER_DELIVERY_SMTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"
#include "shm/base/err.h"

struct loop;
struct smtp_client;

/* Momentum's numbers (log_formats 9). */
enum smtp_stage {
	SMTP_NOT_CONNECTED = 0,
	SMTP_IDLE = 1,
	SMTP_MAIL = 2,
	SMTP_RCPT = 4,
	SMTP_DATA = 6,
	SMTP_BODY = 8,
	SMTP_CONFIRM = 9,
	SMTP_EHLO = 10,
	SMTP_BANNER = 12,
	SMTP_RSET = 13,
};

struct smtp_rcpt {
	struct slice address; /* without brackets */
	struct slice orcpt;   /* ORCPT= as given, xtext; passed on when the peer offers DSN */
	struct slice notify;  /* NOTIFY= value, or empty */
};

/* Borrowed until mail_done. */
struct smtp_mail {
	struct slice sender;
	const struct smtp_rcpt *rcpts;
	unsigned n;              /* recipients, at least 1 */
	uint64_t size;           /* bytes of header and body */
	bool eight_bit;          /* BODY=8BITMIME if offered */
	bool utf8;               /* needs SMTPUTF8: refused here with 5.6.7 where it is not offered */
	struct slice envid, ret; /* RFC 3461, or empty */
};

enum smtp_how {
	SMTP_REPLY,   /* the far side answered, or we refused in its name: code says what */
	SMTP_LOST,    /* no answer, and it cannot have taken the message: code is a 4xx of ours */
	SMTP_DOUBT,   /* no answer to the final dot: nobody knows */
	SMTP_UNTRIED, /* a connection used before ended before this transaction opened: try another one */
};

struct smtp_result {
	enum smtp_how how;
	int code;      /* 2xx, 4xx, 5xx */
	bool internal; /* the text is ours, not the far side's */
	enum smtp_stage stage;
	struct slice text; /* code and text: "550 5.1.1 no such user"; holds during the callback */
};

/* Why a connection is over. */
struct smtp_down {
	enum smtp_stage stage;
	bool greeted; /* it stood, with an answered EHLO: the host works */
	bool asked;   /* we closed it ourselves (quit, drain) */
	int code;     /* 4xx or 5xx */
	bool internal;
	struct slice text; /* as in smtp_result; holds during the callback */
};

struct smtp_client_ops {
	/* Greeted and idle: smtp_client_send may be called, from here too. Also after each transaction. */
	void (*idle)(void *arg);
	/* MAIL was accepted: the transaction is open. */
	void (*opened)(void *arg);
	/* Give more of the message, from here or later: smtp_client_give. */
	void (*want)(void *arg);
	/* One result for each recipient of the mail. */
	void (*mail_done)(void *arg, const struct smtp_result *results, unsigned n);
	/* Over; nothing follows. Free it, from here or later. */
	void (*down)(void *arg, const struct smtp_down *why);
};

/* Seconds. */
struct smtp_timeouts {
	unsigned connect, ehlo, mailfrom, rcptto, body, rset, idle;
};

struct smtp_client_conf {
	struct loop *loop;
	const struct sockaddr *local; /* to bind, or NULL */
	const struct sockaddr *remote;
	const char *ehlo; /* copied */
	struct smtp_timeouts timeouts;
	const struct smtp_client_ops *ops; /* borrowed for the client's life */
	void *arg;
};

/* NULL with errno when it cannot even begin. */
struct smtp_client *smtp_client_new(const struct smtp_client_conf *conf);
/* Closes at once; a transaction under way gets no result. Clears the caller's pointer; NULL inside is fine. */
void smtp_client_free(struct smtp_client **c);

/* The ops get this arg from now on. Only when idle, and its owner has been told so. */
void smtp_client_set_arg(struct smtp_client *c, void *arg);
/* Only when idle. */
void smtp_client_send(struct smtp_client *c, const struct smtp_mail *mail);
/* The next bytes of the message, as they are (dots are doubled here); `last` with the final ones. Copies. Only as an
 * answer to want: one give, or several, for each. */
void smtp_client_give(struct smtp_client *c, struct slice bytes, bool last);
/* The message cannot be read: the transaction is broken off, the connection too; results are SMTP_LOST with text. */
void smtp_client_break(struct smtp_client *c, int code, const char *text);
/* The attempt is on disk: the final dot may leave. Once a transaction, at any time after opened. */
void smtp_client_dot(struct smtp_client *c);
/* QUIT when the transaction, if any, is over; down follows with asked. */
void smtp_client_quit(struct smtp_client *c);

bool smtp_client_is_idle(const struct smtp_client *c);
/* The EHLO answer stands. */
bool smtp_client_greeted(const struct smtp_client *c);
/* Messages that were accepted over it. */
unsigned smtp_client_delivered(const struct smtp_client *c);
/* Where the connection is now. */
enum smtp_stage smtp_client_stage(const struct smtp_client *c);
/* Message bytes written in this transaction so far. */
uint64_t smtp_client_sent(const struct smtp_client *c);

#endif
