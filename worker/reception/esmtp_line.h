/* esmtp_line.h - where a command line ends, and where a message does: the two places that smuggling attacks. Pure.
 * A command line ends in CRLF and in nothing else; a CR or LF that stands alone, and a NUL, make it a bad line, but
 * never two lines. Content ends in CRLF.CRLF and in nothing else (the CRLF of the DATA command counts as the first
 * one): a dot at the beginning of a line, that is behind CRLF, is taken away; every other byte, lone CR and LF and NUL
 * included, passes unchanged. Both work on any split of the input. */
#ifndef WORKER_RECEPTION_ESMTP_LINE_H
#define WORKER_RECEPTION_ESMTP_LINE_H

#include <stdbool.h>

#include "shm/base/bytes.h"

/* RFC 5321 says 512, RFC 6531 and parameters ask for more; with this CRLF. */
enum { LINE_MAX_BYTES = 4096 };

enum line_kind {
	LINE_NONE, /* not all there yet; what is left in *in is to be given again with more behind it */
	LINE_GOOD,
	LINE_BAD,  /* has a CR or LF that stands alone, or a NUL */
	LINE_LONG, /* was longer than LINE_MAX_BYTES; all of it is taken now */
};

/* Takes a line from the front of *in; *line is without CRLF. *skipping, false at first, keeps between calls that the
 * rest of an overlong line is being passed over. */
enum line_kind line_take(struct slice *in, struct slice *line, bool *skipping);

enum dots_state {
	DOTS_BEGIN, /* behind CRLF */
	DOTS_TEXT,
	DOTS_CR,     /* behind a CR that was not at a line's beginning */
	DOTS_DOT,    /* behind CRLF "." : the dot is held back */
	DOTS_DOT_CR, /* behind CRLF "." CR : the CR is held back too */
};

/* All zero is the beginning of content. */
struct dots {
	enum dots_state state;
};

typedef void dots_sink(void *arg, struct slice bytes);

/* Passes content from *in to sink, in order, in as few pieces as there are; *in is what was not taken. True: the end
 * was seen, and *in is what follows it. False: all was taken. */
bool dots_feed(struct dots *d, struct slice *in, dots_sink *sink, void *arg);

#endif
