/* why.h - what the files of the verb "why" share
 * verbs_why.c finds what is meant, and asks the owners of its queues; why_message.c says what holds a message by itself,
 * why_hold.c what holds its queue; why_print.c prints; why_over.c says what is
 * known of a message that is not queued any more. A hold is one link of the chain, kept encoded (struct ask_hold), as
 * the owners send theirs. Owner of all of it: the command. Thread: the console's loop. No errors: what cannot be said is
 * left out. */
#ifndef WORKER_CONSOLE_WHY_H
#define WORKER_CONSOLE_WHY_H

#include "policy/conf/conf.h"
#include "worker/console/console_int.h"

enum { TARGETS_MOST = 20 };

/* One queue, or one message in it. */
struct target {
	char *binding, *domain;
	struct index_row
		*row; /* the message; of a queue the one whose turn comes first, NULL: it has none to schedule */
	struct index_counts counts;
	bool due;
	unsigned slot;
	usec_t doubt_since; /* its last attempt in doubt; 0: none */
	uint32_t doubt_n;
	struct bytes holds; /* encoded, ours and the owner's */
};

struct why {
	msgid_t id; /* 0: queues */
	struct target targets[TARGETS_MOST];
	unsigned n, asked;
	bool over;                  /* the message has no row */
	struct index_attempt doubt; /* its last one that was in doubt; n 0: none that is still known */
	msgid_t highest;            /* that was ever seen */
	bool more;                  /* queues were left out */
	bool old;                   /* the keeper did not commit first: the map may lag */
};

/* Adds a link that explains and keeps nothing back; fills in level and cause. */
void why_say(struct target *t, enum ask_level level, const char *cause, struct ask_hold *h);
/* One that holds. */
void why_hold(struct target *t, enum ask_level level, const char *cause, struct ask_hold *h);
/* The same with an option's name, value and place. */
void why_say_option(struct command *c, struct target *t, enum ask_level level, const char *cause, enum opt_id id,
		    struct ask_hold *h);
void why_hold_option(struct command *c, struct target *t, enum ask_level level, const char *cause, enum opt_id id,
		     struct ask_hold *h);

/* What its row says: its next try, doubt, set aside, a fate. */
void why_message(struct command *c, struct target *t);
/* Suspended, by a verb or in the configuration. */
void why_suspension(struct command *c, struct target *t);

/* The answer, from what was gathered; ends the command. */
void why_render(struct command *c);
/* The same of a message that is not queued, with an exit status of its own. */
void why_over(struct command *c);

#endif
