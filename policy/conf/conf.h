/* conf.h - the configuration: one immutable, counted state of it (a revision), and what it says at each place
 * conf_load reads, checks and types everything at once: a struct conf is valid or does not exist. Everything in it
 * (text, lists, views, listens, scripts) lives in its arena until the last reference goes.
 *
 * A view is what one place sees of all options: its own value, or that of the scope it falls back to, or the default.
 * Finding a view compares names, networks and expressions, so it is done once a connection (conf_receiving) or once a
 * queue (conf_sending); reading from it is an array index. Equal places share one view, so views stay few.
 *
 * Thread: one, after conf_load (views are remembered when they are first asked for).
 * Knows nothing of phases, scripts or messages. */
#ifndef POLICY_CONF_CONF_H
#define POLICY_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "policy/conf/conf_ids.h"
#include "policy/conf/conf_row.h"
#include "shm/base/bytes.h"
#include "shm/base/err.h"

struct conf;
struct conf_view;

/* What was found, worst first. Only CONF_ERROR keeps a configuration from being used. */
enum conf_severity {
	CONF_ERROR,
	CONF_NOT_BUILT, /* an option or stanza that this version passes over */
	CONF_WARNING,
};

struct conf_error {
	enum conf_severity severity;
	const char *file;
	unsigned line, column; /* from 1; 0: the file as a whole */
	const char *text;      /* what was found there, and what would be right */
};

/* All zero is an empty one. Not a constructor's business: the caller owns it and may load into it twice. */
struct conf_errors {
	struct conf_error *v;
	size_t n, cap;
	size_t count[CONF_WARNING + 1];
};

/* "FILE:LINE:COLUMN: error: TEXT" without newline, appended to out. */
void conf_error_print(const struct conf_error *e, struct bytes *out);
void conf_errors_fini(struct conf_errors *errs);

struct conf_source {
	const char *path;  /* the main file; names it in messages also when text is given */
	struct slice text; /* used instead of the file when .p is set */
	const struct opt_table *tables;
	size_t n_tables;
	bool strict;   /* what is not built is an error */
	bool no_files; /* an include is an error: for text from somewhere else */
};

/* NULL when there was an error; errs has all that was found, notes and warnings also on success. Borrows the tables for
 * the life of the configuration, path and text for the call. Opens files, so before a chroot. */
struct conf *conf_load(const struct conf_source *src, struct conf_errors *errs);
struct conf *conf_ref(struct conf *c);
/* Gives the reference back and clears the pointer; NULL inside is fine. */
void conf_unref(struct conf **c);

/* The directory of the main file, without a slash at its end: the first place of the search path for scripts. */
const char *conf_dir(const struct conf *c);
/* The row of an option; NULL when no table of this configuration has it. */
const struct opt_row *conf_row(const struct conf *c, enum opt_id id);
/* The effective configuration in its own language: reading it again gives an equal configuration. Defaults that are in
 * force are comments in it. */
void conf_print(const struct conf *c, struct bytes *out);

/* Views. Never NULL unless said; they hold as long as the caller's reference to c. */
const struct conf_view *conf_global(const struct conf *c);
/* The stanza of a scope that exists once (security, ec_logger, scriptlet, mail_loop); all defaults when it is not
 * written. conf_has_stanza tells whether it is, and not turned off by enabled = false. */
const struct conf_view *conf_stanza(const struct conf *c, enum conf_scope_bit scope);
bool conf_has_stanza(const struct conf *c, enum conf_scope_bit scope);

/* Values. The option must be in the tables that were loaded, and of the type that is asked for: anything else is a
 * broken invariant of ours. */
bool conf_bool(const struct conf_view *v, enum opt_id id);
/* Of OPT_INT, OPT_SECONDS, OPT_BYTES, OPT_MODE and OPT_ENUM; 0 when it has no value. */
int64_t conf_int(const struct conf_view *v, enum opt_id id);
/* Of OPT_STRING; never NULL, "" when it has no value. */
const char *conf_str(const struct conf_view *v, enum opt_id id);
/* It has a value: a written one or a default. "" and 0 are values. */
bool conf_is_set(const struct conf_view *v, enum opt_id id);
/* Names the stanza that the value comes from: equal in all processes and over reloads, 0 for a default. Buckets and
 * limits that a scope shares with what falls back to it are keyed by it. */
uint64_t conf_origin(const struct conf_view *v, enum opt_id id);
/* The scope of that stanza; 0 for a default. */
uint32_t conf_origin_scope(const struct conf_view *v, enum opt_id id);
/* For people: where the value is written, "FILE:LINE", or "default"; and the value as written there, "" when it has
 * none. Both are appended to out. */
void conf_where(const struct conf_view *v, enum opt_id id, struct bytes *out);
void conf_written(const struct conf_view *v, enum opt_id id, struct bytes *out);

struct conf_rate {
	uint32_t n;       /* events in `seconds`; 0: no limit */
	uint32_t seconds; /* at least 1 */
};
struct conf_rate conf_rate(const struct conf_view *v, enum opt_id id);

struct conf_list {
	size_t n;
	const char *const *v;
};
/* Of OPT_LIST, OPT_CIDRS, OPT_DOMAINS, as written; empty when it has no value. */
struct conf_list conf_list(const struct conf_view *v, enum opt_id id);
/* Of OPT_CIDRS: does it contain that address? A Unix socket counts as 127.0.0.1 and as ::1; an IPv4-mapped IPv6
 * address as its IPv4 address. */
bool conf_has_addr(const struct conf_view *v, enum opt_id id, const struct sockaddr *sa);
/* Of OPT_DOMAINS: exact, "*.x" for what is below x, "*x" for what ends in x; ASCII case does not matter. */
bool conf_has_domain(const struct conf_view *v, enum opt_id id, struct slice domain);
/* Of OPT_LIST: that word, ASCII case does not matter. */
bool conf_has_word(const struct conf_view *v, enum opt_id id, const char *word);

struct conf_pair {
	const char *key, *value;
};
struct conf_dict {
	size_t n;
	const struct conf_pair *v;
};
/* Of OPT_DICT; empty when it has no value. */
struct conf_dict conf_dict(const struct conf_view *v, enum opt_id id);

/* Listens: every socket to serve, all kinds, in the order of their first appearance. Disabled ones are left out. */
enum conf_listen_kind { LISTEN_ESMTP, LISTEN_CONTROL };

struct conf_listen {
	enum conf_listen_kind kind;
	const char *text;           /* normalised: "127.0.0.1:25", "*:25", "[::1]:25", "[*]:25" or an absolute path */
	struct sockaddr_storage sa; /* AF_INET, AF_INET6 or AF_UNIX */
	socklen_t salen;
	const struct conf_view *view; /* file_mode, listen_backlog and the like: without any peer */
};
size_t conf_listen_count(const struct conf *c);
const struct conf_listen *conf_listen_at(const struct conf *c, size_t index);

/* What a client at peer sees on that listen: its most specific Peer first, as spec'd for receiving options. pathway is
 * one chosen by a script (it counts before all), or NULL. */
const struct conf_view *conf_receiving(const struct conf *c, size_t listen_index, const struct sockaddr *peer,
				       const char *pathway);

/* Bindings: "default" is always there and is number 0. Names are case-sensitive. */
size_t conf_binding_count(const struct conf *c);
const char *conf_binding_name(const struct conf *c, size_t index);
/* The name of its group, "default" when it is in none. */
const char *conf_binding_group(const struct conf *c, size_t index);
/* False when there is no binding of that name. */
bool conf_binding_find(const struct conf *c, struct slice name, size_t *index);

/* What mail on that binding to that domain sees; an unknown binding sees what "default" sees. domain in any case; an
 * empty one asks for the binding's own view. */
const struct conf_view *conf_sending(const struct conf *c, struct slice binding, struct slice domain);

/* Scripts of the scriptlet stanza, in order of appearance; none when it is turned off. */
struct conf_script {
	const char *name;   /* the instance of the script stanza */
	const char *source; /* module or file, never empty */
	const char *file;   /* where the stanza stands */
	unsigned line, column;
};
size_t conf_script_count(const struct conf *c);
const struct conf_script *conf_script_at(const struct conf *c, size_t index);

#endif
