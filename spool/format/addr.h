/* addr.h - mail addresses: RFC 5321 paths, SMTPUTF8 (RFC 6531), domains, address literals
 * Pure: bytes in, struct or error out. Slices point into what was given; nothing is allocated unless a call takes a
 * struct bytes. Local parts are never interpreted: "a%b@c", "b!a@c", "\"a@b\"@c" have the domain c and nothing else,
 * so no spelling of the left side can change where an address belongs. Source routes are checked and dropped.
 * Errors: ERR_SYNTAX, ERR_RANGE (longer than the RFC allows), ERR_UNSUPPORTED (8-bit where it was not allowed). */
#ifndef SPOOL_FORMAT_ADDR_H
#define SPOOL_FORMAT_ADDR_H

#include <stdbool.h>
#include <sys/socket.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

enum {
	ADDR_MAX = 254 + 64, /* local@domain, generous beside RFC 5321 4.5.3.1 (256 with the brackets) */
	ADDR_LOCAL_MAX = 64 + 64,
	ADDR_DOMAIN_MAX = 255,
};

/* What a path may be beside local@domain. */
enum addr_allow {
	ADDR_NULL = 1,       /* <> */
	ADDR_POSTMASTER = 2, /* <postmaster>, in any case, without a domain */
	ADDR_UTF8 = 4,       /* 8-bit, well-formed UTF-8 */
	ADDR_BARE_LOCAL = 8, /* a local part alone */
};

struct addr {
	struct slice text;   /* local@domain as written, no brackets, no route; empty for <> */
	struct slice local;  /* as written, with its quotes */
	struct slice domain; /* as written: name or [literal]; empty for <> and for <postmaster> */
	bool null;           /* <> */
	bool quoted;         /* the local part is a quoted string */
	bool literal;        /* the domain is an address literal */
	bool utf8;           /* has bytes above 127 */
};

/* Takes "<...>" from the front of *s, optional route dropped; on success *s is what follows the ">". */
enum err addr_take_path(struct slice *s, unsigned allow, struct addr *out);
/* All of s is an address without brackets; empty is <> when ADDR_NULL. */
enum err addr_parse(struct slice s, unsigned allow, struct addr *out);
/* The local part's value: quotes and backslashes taken away. */
void addr_local_value(const struct addr *a, struct bytes *out);

/* A host name in the wide sense of mail: labels of letters, digits, "-", "_" and, when utf8, 8-bit; no empty label, so
 * no dot at either end. */
bool domain_valid(struct slice domain, bool utf8);
/* "[192.0.2.1]", "[IPv6:2001:db8::1]" (an IPv6 address without its tag too) to an address, port 0. */
bool domain_literal(struct slice domain, struct sockaddr_storage *out);

/* UTF-8 without overlong forms, surrogates and values above 10FFFF. */
bool utf8_valid(struct slice s);

#endif
