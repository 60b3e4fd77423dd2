/* answer.h - what a command says, once for people and once for programs
 * A verb adds fields and tables; the answer renders them as aligned text or, with --json, as one JSON object (fields by
 * name, a table as an array of objects). Strings that are not UTF-8 come out with U+FFFD in JSON, control characters
 * are made visible in text. Owner: the command. No errors. */
#ifndef WORKER_CONSOLE_ANSWER_H
#define WORKER_CONSOLE_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base/bytes.h"
#include "shm/base/clock.h"

enum { ANSWER_COLUMNS = 16 };

struct answer {
	bool json;
	struct bytes out;
	bool first; /* JSON: no comma yet at the top level */
	/* the table under construction */
	const char *const *columns;
	unsigned ncolumns, column;
	uint64_t rows;
	struct bytes cells; /* text: length-prefixed cells, laid out when the table ends */
};

void answer_init(struct answer *a, bool json);
void answer_fini(struct answer *a);
/* Everything so far is forgotten. */
void answer_reset(struct answer *a);
/* The whole of it; holds until the next call. */
struct slice answer_text(struct answer *a);

void answer_str(struct answer *a, const char *name, struct slice value);
void answer_num(struct answer *a, const char *name, int64_t value);
/* A moment, real time: "2026-01-31 12:00:00" in UTC, in JSON Unix seconds; 0 is "now". */
void answer_time(struct answer *a, const char *name, usec_t value);
/* Text of several lines: one below the other; in JSON an array of them. */
void answer_lines(struct answer *a, const char *name, struct slice text);
/* Prose; in JSON the field "message". */
void answer_say(struct answer *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A line made of what others said: control characters are made visible. Text only. */
void answer_line(struct answer *a, struct slice line);

/* columns: names, kept until answer_table_end. */
void answer_table(struct answer *a, const char *name, const char *const *columns, unsigned n);
void answer_cell_str(struct answer *a, struct slice value);
void answer_cell_num(struct answer *a, int64_t value);
void answer_cell_time(struct answer *a, usec_t value);
/* `none` is said in text when there was no row; NULL for nothing. */
void answer_table_end(struct answer *a, const char *none);

#endif
