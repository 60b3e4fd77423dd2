/* reply.h - SMTP replies: reading those of a remote server, writing our own
 * A reply is one or more lines "CODE-text" and a last "CODE text"; its text may begin with an enhanced status code
 * (RFC 3463) "class.subject.detail". Pure.
 * Errors: ERR_SYNTAX for what is no reply, ERR_RANGE for one that is longer than we read. */
#ifndef SPOOL_FORMAT_REPLY_H
#define SPOOL_FORMAT_REPLY_H

#include <stdbool.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

struct enhanced {
	unsigned char class; /* 2, 4, 5; 0: none */
	unsigned short subject, detail;
};

enum {
	REPLY_LINE_MAX = 4096,    /* a line of a remote reply; RFC 5321 says 512, the world says more */
	REPLY_MAX = 64 * 1024,    /* all lines of one */
	REPLY_ENHANCED_TEXT = 16, /* with NUL */
};

/* One line without its line end: code, whether it is the last, the text behind the separator. */
enum err reply_parse_line(struct slice line, int *code, bool *last, struct slice *text);
/* Takes a whole reply from the front of *in. ERR_AGAIN: not all there yet (nothing taken). On OK *code is the last
 * line's and *text (cleared first) has all lines' texts, joined by one space, control characters as spaces. A bare LF
 * ends a line here too: it is the remote's reply, not ours, and nothing hangs on it. */
enum err reply_take(struct slice *in, int *code, struct bytes *text);
/* The enhanced code at the front of text, if there is one that fits `code`'s class; *rest is the text behind it. */
bool enhanced_take(struct slice text, int code, struct enhanced *out, struct slice *rest);
void enhanced_text(const struct enhanced *e, char out[REPLY_ENHANCED_TEXT]);

/* "CODE " or, when more lines follow, "CODE-". */
void reply_add_code(struct bytes *out, int code, bool last);
/* Writes "CODE[ -]text CRLF" lines to *out: text is split at "\n", control characters become spaces, lines are cut at
 * 500 bytes; an enhanced code in the text is repeated on every line. */
void reply_write(struct bytes *out, int code, struct slice text);

#endif
