/* header.h - the header of a message: where it ends, its fields, and edits of it
 * A message's bytes are header + body, nothing in between: the empty line that separates them, where there is one,
 * is the beginning of the body. So header and body written one after the other are the message, byte for byte,
 * whatever it looks like, and an edited header changes nothing but its fields.
 * The header is the longest beginning that consists of whole lines ("\n" ends a line, "\r\n" too) that are fields
 * (name of printable characters, ":", text) or continuations (begin with space or tab). A message that begins with
 * anything else has an empty header.
 * Pure: slices point into what was given; edits write a new header. */
#ifndef SPOOL_FORMAT_HEADER_H
#define SPOOL_FORMAT_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/base/bytes.h"

struct header_field {
	struct slice whole; /* all its lines with their ends */
	struct slice name;  /* as written, without ":" and spaces before it */
	struct slice value; /* raw: behind the ":", folded, without the last line end; leading spaces still there */
};

/* Length of the header of this message. *ended: the end was seen, that is, more bytes could not make the header longer
 * (always so when `whole` says that there are no more). While not ended the value is the part that is safely header:
 * whole fields whose end was seen. */
size_t header_length(struct slice message, bool whole, bool *ended);

/* Takes the next field from the front of *header. false at the end (or at what is no field). */
bool header_next(struct slice *header, struct header_field *out);
/* The n-th (from 0) field of that name, ASCII case aside. */
bool header_find(struct slice header, struct slice name, size_t n, struct header_field *out);
/* How many fields have that name. */
size_t header_count(struct slice header, struct slice name);

/* The value on one line: line ends dropped, spaces at both ends off. */
void header_unfold(struct slice value, struct bytes *out);

/* May this be the name of a field? Printable ASCII without colon and space. */
bool header_name_valid(struct slice name);
/* "Name: value" and line end at the end of *out. A value with line breaks keeps only those that a space or a tab
 * follows; other control characters but tab become spaces: no value can make a second field or end the header. */
void header_write(struct bytes *out, struct slice name, struct slice value);
/* Copies header to *out without the fields of that name: all of them, or only the n-th when n >= 0. Gives how many. */
size_t header_without(struct slice header, struct slice name, long n, struct bytes *out);
/* Copies header to *out; the first field of that name gets the new value and the others go; appended when none. */
void header_replace(struct slice header, struct slice name, struct slice value, struct bytes *out);

#endif
