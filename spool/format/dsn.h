/* dsn.h - the text of a delivery status notification (RFC 3464 in an RFC 3462 report)
 * Pure: facts in, header and body bytes out; who it goes to, whether it is sent at all, and the null sender are the
 * caller's. A part that holds a byte above 127 takes the UTF-8 forms of RFC 6533 (message/global-...) and 8bit, so that
 * nothing has to be rewritten; otherwise all is 7-bit. Text that comes from peers is kept to one line a field: CR, LF
 * and other control characters become spaces. Threads: any. */
#ifndef SPOOL_FORMAT_DSN_H
#define SPOOL_FORMAT_DSN_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"

enum dsn_action {
	DSN_FAILED,
	DSN_DELAYED,
	DSN_DELIVERED,
	DSN_RELAYED,
	DSN_EXPANDED,
};

/* How much of the failed message is returned (bounces_inline_original; RET= of the sender goes before it). */
enum dsn_inline {
	DSN_INLINE_HEADERS,
	DSN_INLINE_NONE,
	DSN_INLINE_ALL,
};

struct dsn_rcpt {
	struct slice rcpt;  /* final recipient, without angle brackets */
	struct slice orcpt; /* as given in ORCPT= ("rfc822;a@b", decoded or not), or empty */
	enum dsn_action action;
	struct slice status;     /* "5.1.1"; empty: taken from reply by dsn_status */
	struct slice reply;      /* code and text as the remote side, or we, put it: "550 5.1.1 no such user" */
	struct slice remote_mta; /* host name of who said it; empty when it was ourselves */
	usec_t last_attempt;     /* real time; 0: left out */
};

struct dsn {
	struct slice hostname;   /* the reporting MTA */
	struct slice from;       /* mailerdaemon option; empty: mailer-daemon@hostname */
	struct slice to;         /* sender of the failed message: where this goes */
	struct slice envid;      /* ENVID= of the sender, or empty */
	struct slice id_text;    /* id of the notification itself: message-id and boundary */
	struct slice about_text; /* id of the message it is about */
	usec_t arrival;          /* of that message; real time */
	usec_t now;              /* real time */
	const struct dsn_rcpt *rcpts;
	unsigned n;
	enum dsn_inline inlined;
	struct slice headers; /* of the failed message, raw */
	struct slice body;    /* for DSN_INLINE_ALL: raw, its empty line first */
};

/* Appends the header block to headers (lines with CRLF) and the rest to body: the empty line first (as header.h says,
 * it belongs to the body), CRLF last. *eight_bit says whether either holds a byte above 127. */
void dsn_write(const struct dsn *d, struct bytes *headers, struct bytes *body, bool *eight_bit);

/* The enhanced status (RFC 3463) in a reply "550 5.1.1 text": the one behind the code when its class fits the code's,
 * else CLASS.0.0 ("5.0.0", "4.0.0"). out has room for 16. A reply without a code counts as 4. */
void dsn_status(struct slice reply, char out[16]);

#endif
