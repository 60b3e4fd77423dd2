/* esmtp_args.h - the arguments of SMTP commands: bytes in, struct or reason out. Pure.
 * Slices point into the line that was given. */
#ifndef WORKER_RECEPTION_ESMTP_ARGS_H
#define WORKER_RECEPTION_ESMTP_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "spool/format/addr.h"

enum args_result {
	ARGS_OK,
	ARGS_SYNTAX,     /* 501 */
	ARGS_UNKNOWN,    /* 555: a parameter that we do not know or do not offer */
	ARGS_BAD_VALUE,  /* 501: a known parameter with a value that it cannot have, or given twice */
	ARGS_NEEDS_UTF8, /* 553: 8-bit address outside SMTPUTF8 */
	ARGS_TOO_LONG,   /* 501: address longer than the RFC allows */
};

struct mail_args {
	struct addr from;
	bool eightbit; /* BODY=8BITMIME */
	bool utf8;     /* SMTPUTF8 */
	uint64_t size; /* SIZE=, 0 when not given */
};

/* Verb and rest of a line: "MAIL FROM:<..." is verb "MAIL", args "FROM:<...". */
void args_split(struct slice line, struct slice *verb, struct slice *args);
/* "EHLO" argument: one word of printable characters, 8-bit allowed (RFC 6531 3.7.1), at most 255. */
enum args_result args_helo(struct slice args, struct slice *name);
/* "FROM:<path> [parameters]" */
enum args_result args_mail(struct slice args, struct mail_args *out);
/* "TO:<path> [parameters]"; utf8: the transaction has SMTPUTF8. */
enum args_result args_rcpt(struct slice args, bool utf8, struct addr *out);

#endif
