/* trace.h - the Received field that every accepted message gets on top (RFC 5321 4.4). Pure.
 * Everything that the peer said (EHLO name, sender) is cleaned: nothing of it can begin a line or leave its comment. */
#ifndef SPOOL_FORMAT_TRACE_H
#define SPOOL_FORMAT_TRACE_H

#include "shm/base/bytes.h"
#include "shm/base/clock.h"

struct trace_received {
	struct slice helo;      /* what the peer called itself; empty: it did not say */
	struct slice peer;      /* "192.0.2.1:4321" or "[2001:db8::1]:4321" */
	struct slice hostname;  /* ours */
	struct slice protocol;  /* "ESMTP", "SMTP", "UTF8SMTP" (RFC 6531: with SMTPUTF8), later ESMTPS, ESMTPA */
	struct slice sender;    /* envelope sender, empty for <> */
	struct slice id;        /* message id */
	struct slice recipient; /* for <...>; empty: not said (more than one, so that none learns of another) */
	usec_t at;              /* real time */
};

/* Appends the field, folded, with its line end. */
void trace_received(struct bytes *out, const struct trace_received *t);

#endif
