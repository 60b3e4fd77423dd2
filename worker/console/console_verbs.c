#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"
#include "spool/spool_id.h"
#include "worker/console/console_int.h"

const struct verb console_verbs[] = {
	{ "active", "THRESHOLD", "domains with more than THRESHOLD messages that are due", 1, 1, verb_active },
	{ "binding resume", "BINDING", "deliver again over BINDING; kept over restarts", 1, 1, verb_binding_resume },
	{ "binding summary", "[BINDING]", "messages on each binding", 0, 1, verb_binding_summary },
	{ "binding suspend", "BINDING", "deliver nothing over BINDING; kept over restarts", 1, 1,
	  verb_binding_suspend },
	{ "config reload", "", "read the configuration again; a broken one changes nothing", 0, 0, verb_config_reload },
	{ "delayed", "THRESHOLD", "domains with more than THRESHOLD messages waiting for their next try", 1, 1,
	  verb_delayed },
	{ "doctor", "", "is the service well: a line a check, and what to do; for monitoring by its exit status", 0, 0,
	  verb_doctor },
	{ "domain", "DOMAIN", "queues, hosts and connections of DOMAIN", 1, 1, verb_domain },
	{ "fail domain", "[quiet] DOMAIN [REASON]", "fail all mail to DOMAIN, with a notice unless quiet", 1,
	  COMMAND_WORDS, verb_fail_domain },
	{ "help", "[COMMAND]", "the commands, or one of them", 0, COMMAND_WORDS, verb_help },
	{ "indoubt done", "ID", "take a message in doubt as delivered", 1, 1, verb_indoubt_done },
	{ "indoubt hold", "ID", "set a message in doubt aside", 1, 1, verb_indoubt_hold },
	{ "indoubt list", "", "attempts whose end nobody knows, and for a day what became of them", 0, 0,
	  verb_indoubt_list },
	{ "indoubt retry", "ID", "try a message in doubt again: it may arrive twice", 1, 1, verb_indoubt_retry },
	{ "ledger", "", "what came in against what went out and what is queued", 0, 0, verb_ledger },
	{ "mailq", "[-d DOMAIN ...] [-b BINDING ...] [-l LIMIT]", "queues by size, 20 unless LIMIT says otherwise", 0,
	  COMMAND_WORDS, verb_mailq },
	{ "message details", "[full|body] ID", "what is known of a queued message; its text with full or body", 1, 2,
	  verb_message_details },
	{ "message fail", "[quiet] ID", "fail a message, with a notice unless quiet", 1, 2, verb_message_fail },
	{ "message retry", "ID", "try a message now", 1, 1, verb_message_retry },
	{ "quarantine drop", "ID", "discard a quarantined message", 1, 1, verb_quarantine_drop },
	{ "quarantine list", "", "messages set aside: they ended processes, or are damaged", 0, 0,
	  verb_quarantine_list },
	{ "quarantine release", "ID", "queue a quarantined or held message again", 1, 1, verb_quarantine_release },
	{ "quarantine show", "ID", "why a message was set aside, and its text", 1, 1, verb_quarantine_show },
	{ "reopen logs", "", "close and open the log files", 0, 0, verb_reopen_logs },
	{ "shutdown", "[now]", "drain and stop; now: at once", 0, 1, verb_shutdown },
	{ "summary", "", "processes, sessions, queues and counters", 0, 0, verb_summary },
	{ "version", "", "the version of the service", 0, 0, verb_version },
	{ "why", "ID|BINDING/DOMAIN|DOMAIN", "what holds a message or the mail of a queue, and when it lets go", 1, 1,
	  verb_why },
	{ NULL, NULL, NULL, 0, 0, NULL },
};

bool
command_word_is(const struct command *c, unsigned i, const char *word)
{
	return i < c->nwords && slice_ieq(c->words[i], slice_str(word));
}

struct slice
command_rest(struct command *c, unsigned i)
{
	struct bytes joined = { 0 };

	for (; i < c->nwords; i++) {
		if (joined.n != 0)
			bytes_add_char(&joined, ' ');
		bytes_add_slice(&joined, c->words[i]);
	}
	free(c->own);
	c->own = joined.p;
	return slice_bytes(&joined);
}

enum err
command_refuse(struct command *c, enum err e, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	answer_reset(&c->answer);
	answer_say(&c->answer, "%s", text);
	return e;
}

enum err
command_id(struct command *c, unsigned i, msgid_t *id)
{
	if (i < c->nwords && id_parse(c->words[i], id))
		return OK;
	return command_refuse(c, ERR_SYNTAX, "'%.*s' is no message id: it looks like 6a/1f-00123-0000beef",
			      i < c->nwords ? (int)c->words[i].n : 0, i < c->nwords ? c->words[i].p : "");
}

enum err
command_begin(struct command *c, struct index_txn **t)
{
	enum err e = index_begin(c->console->index, t);

	if (e == ERR_AGAIN)
		return command_refuse(c, ERR_STATE, "the index is not there yet: the keeper is building it, ask again");
	if (e != OK)
		return command_refuse(c, e, "the index cannot be read: %s", err_text(e));
	return OK;
}

static void
on_reply(void *arg, enum err status, struct slice payload, bool more)
{
	struct command *c = arg;

	bytes_add_slice(&c->reply, payload);
	if (more)
		return;
	if (status != OK && c->worst == OK)
		c->worst = status;
	if (--c->waiting > 0)
		return;
	if (c->finish != NULL) {
		c->finish(c);
		return;
	}
	if (c->worst != OK) {
		struct slice said = slice_bytes(&c->reply);
		command_refuse(c, c->worst, "%.*s", said.n != 0 ? (int)said.n : 256,
			       said.n != 0 ? said.p : err_text(c->worst));
	} else if (c->reply.n != 0)
		answer_say(&c->answer, "%s", bytes_cstr(&c->reply));
	else
		answer_say(&c->answer, "done");
	command_end(c, c->worst);
}

/* Who was asked may be stuck; the operator is told so, and the session goes on. */
static void
on_deadline(void *arg)
{
	struct command *c = arg;

	if (c->late != NULL) {
		req_forget(c->console->channel, c);
		c->waiting = 0;
		c->late(c);
		return;
	}
	command_end(c, command_refuse(c, ERR_TIMEOUT, "no answer within %d seconds from %u process(es)",
				      COMMAND_SECONDS, c->waiting));
}

enum err
command_ask(struct command *c, enum req_type type, uint8_t to, struct slice payload)
{
	enum err e = req_ask(c->console->channel, type, to, payload, on_reply, c);

	if (e != OK)
		return command_refuse(c, e, "cannot be asked now: %s", err_text(e));
	c->waiting++;
	loop_timer_set(c->console->loop, &c->deadline,
		       loop_now(c->console->loop) + (c->patience != 0 ? c->patience : COMMAND_SECONDS) * USEC_PER_SEC,
		       on_deadline, c);
	return ERR_AGAIN;
}

enum err
verb_version(struct command *c)
{
	answer_str(&c->answer, "name", SLICE("impetus"));
	answer_str(&c->answer, "version", slice_str(IMPETUS_VERSION));
	return OK;
}

enum err
verb_help(struct command *c)
{
	static const char *const columns[] = { "command", "arguments", "meaning" };
	struct slice prefix = command_rest(c, 0);

	answer_table(&c->answer, "commands", columns, 3);
	for (const struct verb *v = console_verbs; v->words != NULL; v++) {
		if (!slice_istarts(slice_str(v->words), prefix))
			continue;
		answer_cell_str(&c->answer, slice_str(v->words));
		answer_cell_str(&c->answer, slice_str(v->usage));
		answer_cell_str(&c->answer, slice_str(v->help));
	}
	answer_table_end(&c->answer, "no such command");
	return OK;
}

enum err
verb_reopen_logs(struct command *c)
{
	return command_ask(c, REQ_REOPEN_LOGS, REQ_TO_MASTER, SLICE(""));
}

enum err
verb_config_reload(struct command *c)
{
	return command_ask(c, REQ_RELOAD, REQ_TO_MASTER, SLICE(""));
}

enum err
verb_shutdown(struct command *c)
{
	char now = 0;

	if (c->nwords == 1) {
		if (!command_word_is(c, 0, "now"))
			return command_refuse(c, ERR_SYNTAX, "usage: shutdown [now]");
		now = 1;
	}
	return command_ask(c, REQ_SHUTDOWN, REQ_TO_MASTER, slice_of(&now, 1));
}
