/* conf_parse.h - text into statements, includes followed (inside policy/conf only)
 * Knows the grammar and the files, not the names: what a statement means is the tree's business (conf_tree.h).
 *
 *	statement  = include | option | stanza
 *	include    = ( "include" | "readonly_include" ) word
 *	option     = name [ "=" ] value                  "=" may be missing only before "(" and "["
 *	stanza     = name [ instance ] [ "=" ] "{" { statement } "}"
 *	value      = word | "(" { word [ "," ] } ")" | "[" { word [ "=" ] word } "]"
 *
 * A syntax error ends its file; the files around it are still read, so that all of them are named at once. */
#ifndef POLICY_CONF_CONF_PARSE_H
#define POLICY_CONF_CONF_PARSE_H

#include <sys/queue.h>

#include "policy/conf/conf_report.h"
#include "shm/base/arena.h"

struct conf_word {
	struct conf_pos pos;
	const char *text;
};

enum conf_raw_kind { RAW_WORD, RAW_LIST, RAW_DICT };

/* A value as written. A dictionary's words are key, value, key, value. */
struct conf_raw {
	enum conf_raw_kind kind;
	struct conf_pos pos;
	struct conf_word *words;
	size_t n;
};

STAILQ_HEAD(conf_stmts, conf_stmt);

struct conf_stmt {
	STAILQ_ENTRY(conf_stmt) next;
	struct conf_word name; /* as written */
	bool stanza;
	struct conf_word instance; /* of a stanza; .text is NULL when there is none */
	struct conf_stmts body;    /* of a stanza */
	struct conf_raw value;     /* of an option */
};

/* Files being read, innermost first: finds a file that includes itself, and its way back. */
struct conf_file {
	const struct conf_file *outer;
	const char *path;
	const char *dir;
	unsigned long long dev, ino; /* 0, 0: text that is in no file */
};

struct conf_reader {
	struct arena *arena;
	struct conf_errors *errs;
	const char *dir; /* of the main file */
	bool no_files;
	size_t bytes; /* read so far */
	unsigned depth;
};

/* Adds the statements of text to out. */
void conf_parse_text(struct conf_reader *r, const struct conf_file *file, struct slice text, struct conf_stmts *out);
/* conf_file.c: the main file, or what an include names, read and parsed. */
void conf_parse_file(struct conf_reader *r, const char *path, struct conf_stmts *out);
void conf_parse_include(struct conf_reader *r, const struct conf_file *from, struct conf_word what,
			struct conf_stmts *out);
/* The directory part of path, in the arena; "." when there is none. */
const char *conf_dir_of(struct arena *arena, const char *path);

#endif
