/* conf_row.h - one option as a row: from it follow parsing, default, bounds, scope check, fallback, -T and man page
 * Rows are constant data and stand with the module that obeys them (<module>_options.c); the daemon joins their tables
 * when it loads a configuration. A default is text and goes through the user's parser. The numbers of the options are
 * in conf_ids.h, so that a lookup is an array index and never a search by name. */
#ifndef POLICY_CONF_CONF_ROW_H
#define POLICY_CONF_CONF_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/conf/conf_ids.h"

/* A scope, as a bit: where a row's option may stand, and what a stanza is. The names are in conf_scope.c. */
enum conf_scope_bit {
	IN_GLOBAL = 1 << 0,
	IN_BINDING_GROUP = 1 << 1,
	IN_BINDING = 1 << 2,
	IN_DOMAIN = 1 << 3,
	IN_ESMTP_LISTENER = 1 << 4,
	IN_CONTROL_LISTENER = 1 << 5,
	IN_LISTEN = 1 << 6,
	IN_PEER = 1 << 7,
	IN_PATHWAY = 1 << 8,
	IN_PATHWAY_GROUP = 1 << 9,
	IN_SECURITY = 1 << 10,
	IN_EC_LOGGER = 1 << 11,
	IN_SCRIPTLET = 1 << 12,
	IN_SCRIPT = 1 << 13,
	IN_MAIL_LOOP = 1 << 14,
};
#define IN_SENDING   (IN_GLOBAL | IN_BINDING_GROUP | IN_BINDING | IN_DOMAIN)
#define IN_PATHWAYS  (IN_PATHWAY | IN_PATHWAY_GROUP)
#define IN_RECEIVING (IN_ESMTP_LISTENER | IN_LISTEN | IN_PEER | IN_PATHWAYS)

enum opt_type {
	OPT_BOOL,
	OPT_INT,     /* also one of .words: word i is the number -1 - i */
	OPT_SECONDS, /* as OPT_INT */
	OPT_BYTES,   /* as OPT_INT; a plain number, no suffix */
	OPT_MODE,    /* octal */
	OPT_ENUM,    /* one of .words; its value is the word's position */
	OPT_STRING,
	OPT_RATE,    /* "N" or "N/S" */
	OPT_LIST,    /* of strings; of .words only, when there are any */
	OPT_CIDRS,   /* a list of addresses and networks */
	OPT_DOMAINS, /* a list of domains, "*" at the left end allowed */
	OPT_DICT,
};

enum opt_side { SIDE_NONE, SIDE_RECEIVING, SIDE_SENDING, SIDE_BOTH };

struct opt_row {
	enum opt_id id;
	const char *name;
	enum opt_type type;
	const char *def;   /* as written behind "="; NULL: no value */
	int64_t min, max;  /* numbers only; both 0: what fits */
	const char *words; /* "a|b|c"; "a|b=c" for two spellings of one */
	uint32_t scopes;   /* enum conf_scope_bit */
	enum opt_side side;
	bool live;        /* may be changed without new processes */
	const char *help; /* whole sentences, for the man page */
	/* More than the type says, for each word of the value: NULL, or what would be right. May be NULL. */
	const char *(*check)(const char *word);
};

/* The rows of one module. */
struct opt_table {
	const struct opt_row *rows;
	size_t n;
};
#define OPT_TABLE(array)                                    \
	{                                                   \
		(array), sizeof(array) / sizeof((array)[0]) \
	}

#endif
