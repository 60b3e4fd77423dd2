/* console_int.h - shared by the console's files: the role, its sessions, a command under way
 * A command runs at once (OK or an error) or says ERR_AGAIN and is finished later by command_end, when what it asked of
 * other processes has been answered. One command a session at a time; a session that goes away takes its command along.
 * Owner: the console role. Thread: its loop. */
#ifndef WORKER_CONSOLE_INT_H
#define WORKER_CONSOLE_INT_H

#include <stdbool.h>
#include <sys/queue.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"
#include "shm/shm_request.h"
#include "spool/spool_index.h"
#include "spool/spool_state.h"
#include "worker/ask.h"
#include "worker/console/answer.h"
#include "worker/net/loop.h"
#include "worker/net/stream.h"
#include "worker/role.h"

enum { COMMAND_SECONDS = 30, COMMAND_WORDS = 32, COMMAND_LINE = 8192, SESSIONS_MOST = 256 };

struct session;
struct eclog;

struct console {
	struct role_env *env;
	struct loop *loop;
	struct req_channel *channel;
	struct index *index;
	struct state *state;
	struct eclog *log;
	struct ev_timer heartbeat;
	struct listener {
		struct ev_io io;
		struct console *console;
	} * listeners;
	TAILQ_HEAD(, session) sessions;
	unsigned nsessions;
	bool draining;
	usec_t clock_offset; /* real time less monotonic time, as it was at the start */
};

struct command {
	struct console *console;
	struct session *session;
	struct bytes line;
	struct slice words[COMMAND_WORDS]; /* in line; without the verb's own */
	unsigned nwords;
	struct answer answer;
	struct ev_timer deadline;
	unsigned waiting;                  /* answers of other processes still to come */
	enum err worst;                    /* of those that came */
	unsigned status;                   /* of an answer that is no refusal: impetusctl's exit status */
	struct bytes reply;                /* what they said */
	void (*finish)(struct command *c); /* when the last one is there; NULL: their text is the answer */
	void (*late)(struct command *c);   /* they did not all come in time; NULL: the command is refused */
	unsigned patience;                 /* seconds until then; 0: COMMAND_SECONDS */
	void *own;                         /* the verb's; freed with the command */
	void (*own_free)(void *own);       /* NULL: free() does */
};

struct verb {
	const char *words; /* "message details": the longest match wins */
	const char *usage; /* its arguments */
	const char *help;
	unsigned least, most;
	enum err (*run)(struct command *c);
};
/* Every verb, ended by a row without words. */
extern const struct verb console_verbs[];

/* Ends a command that said ERR_AGAIN; e other than OK makes the answer a refusal. Frees c. */
void command_end(struct command *c, enum err e);
/* Refuses: the text replaces whatever the answer holds. Gives e back. */
enum err command_refuse(struct command *c, enum err e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Asks another process; the command then waits for one more answer. */
enum err command_ask(struct command *c, enum req_type type, uint8_t to, struct slice payload);
/* A snapshot of the map; a refusal when there is none. */
enum err command_begin(struct command *c, struct index_txn **t);
bool command_word_is(const struct command *c, unsigned i, const char *word);
/* The words from i on, joined by blanks. On the answer's heap until the command ends. */
struct slice command_rest(struct command *c, unsigned i);
/* An id in its text form; a refusal when it is none. */
enum err command_id(struct command *c, unsigned i, msgid_t *id);

/* console_session.c */
void session_new(struct console *k, int fd);
bool session_make_room(struct console *k); /* ends the oldest idle one; false: none is idle */
void session_free(struct session *s);
struct session *session_next(struct session *s);
/* A command of it is under way, or its answer has not left. */
bool session_busy(const struct session *s);
/* Who is at the other end, for people: "root", "uid 1000". */
const char *session_who(const struct session *s);
/* console_words.c: splits words at blanks; "..." keeps them, '\' escapes in it. ERR_SYNTAX: a quote without end, or too many words. The words
 * are made in place. */
enum err command_split(struct bytes *line, struct slice *words, unsigned *n);

/* The verbs, by subject. */
enum err verb_version(struct command *c);
enum err verb_help(struct command *c);
enum err verb_summary(struct command *c);
enum err verb_ledger(struct command *c);
enum err verb_mailq(struct command *c);
enum err verb_domain(struct command *c);
enum err verb_active(struct command *c);
enum err verb_delayed(struct command *c);
enum err verb_binding_summary(struct command *c);
enum err verb_binding_suspend(struct command *c);
enum err verb_binding_resume(struct command *c);
enum err verb_message_details(struct command *c);
enum err verb_message_retry(struct command *c);
enum err verb_message_fail(struct command *c);
enum err verb_fail_domain(struct command *c);
enum err verb_indoubt_list(struct command *c);
enum err verb_indoubt_retry(struct command *c);
enum err verb_indoubt_hold(struct command *c);
enum err verb_indoubt_done(struct command *c);
enum err verb_quarantine_list(struct command *c);
enum err verb_quarantine_show(struct command *c);
enum err verb_quarantine_release(struct command *c);
enum err verb_quarantine_drop(struct command *c);
enum err verb_reopen_logs(struct command *c);
enum err verb_config_reload(struct command *c);
enum err verb_shutdown(struct command *c);
enum err verb_why(struct command *c);
enum err verb_doctor(struct command *c);

#endif
