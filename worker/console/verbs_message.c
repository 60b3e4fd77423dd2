/* verbs_message.c - single messages: what is known, what is to become of them; doubt and quarantine
 * The console decides nothing: it finds the row, and asks the owner of the row's queue, who writes what is decided. */
#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_id.h"
#include "worker/console/console_int.h"
#include "worker/console/message_text.h"

enum { PAGE = 256, LIST_MOST = 100000, TEXT_MOST = 1 << 20 };

static uint8_t
owner_of(struct command *c, struct slice binding, struct slice domain)
{
	return (uint8_t)partition_owner(c->console->env->area,
					(unsigned)(spool_queue_hash(binding, domain) % PARTITIONS));
}

/* On the command's own heap: holds until it ends. */
static enum err
find_row(struct command *c, msgid_t id, struct index_row **out)
{
	struct index_row row;
	struct index_txn *t;
	enum err e = command_begin(c, &t);
	char text[ID_TEXT];

	if (e != OK)
		return e;
	e = index_message_get(t, id, &row);
	if (e == OK) {
		free(c->own);
		*out = c->own = index_row_dup(&row);
	}
	index_end(&t);
	id_text(id, text);
	if (e == ERR_NOTFOUND)
		(void)command_refuse(c, e, "%s is not queued: delivered, failed, or never here (see the mainlog)",
				     text);
	else if (e != OK)
		(void)command_refuse(c, e, "the index cannot be read: %s", err_text(e));
	return e;
}

/* ---- what the owner is asked */

struct wish {
	enum ask_verb verb;
	unsigned word; /* which one is the id */
	const char *reason;
	unsigned states;     /* mask of row states it makes sense for; 0: all */
	const char *refusal; /* said for the others */
};

static enum err
ask_owner(struct command *c, const struct wish *w)
{
	struct ask_edit edit = { .verb = w->verb, .reason = slice_str(w->reason) };
	struct bytes payload = { 0 };
	struct index_row *row = NULL;
	msgid_t id = 0;
	uint8_t slot;
	enum err e;

	if ((e = command_id(c, w->word, &id)) != OK || (e = find_row(c, id, &row)) != OK)
		return e;
	if (w->states != 0 && (w->states & 1u << row->state) == 0)
		return command_refuse(c, ERR_STATE, "%s: it is %s", w->refusal, row_state_text(row->state));
	slot = owner_of(c, row->binding, row->domain);
	if (slot == SLOT_NOBODY)
		return command_refuse(c, ERR_AGAIN, "no worker owns its queue now: ask again");
	edit.id_lo = edit.id_hi = id;
	edit.binding = row->binding;
	edit.domain = row->domain;
	ask_edit_encode(&edit, &payload);
	c->finish = NULL;
	e = command_ask(c, REQ_WORKER_EDIT, slot, slice_bytes(&payload));
	bytes_fini(&payload);
	return e;
}

static const struct wish *
wish_of(struct command *c)
{
	return c->own;
}

/* The row may still be in the unfolded tail: it is committed before it is sought. */
static void
wish_finish(struct command *c)
{
	struct wish w = *wish_of(c);
	enum err e;

	c->reply.n = 0;
	e = ask_owner(c, &w);
	if (e != ERR_AGAIN || c->waiting == 0)
		command_end(c, e);
}

static enum err
wish(struct command *c, const struct wish *w)
{
	struct wish *kept = mem_alloc(sizeof *kept);

	*kept = *w;
	free(c->own);
	c->own = kept;
	c->finish = wish_finish;
	return command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
}

enum err
verb_message_retry(struct command *c)
{
	return wish(c, &(struct wish){ .verb = ASK_RETRY,
				       .states = 1u << ROW_QUEUED | 1u << ROW_DOUBT,
				       .refusal = "only a queued message can be retried" });
}

enum err
verb_message_fail(struct command *c)
{
	bool quiet = command_word_is(c, 0, "quiet");

	if (c->nwords != 1u + quiet)
		return command_refuse(c, ERR_SYNTAX, "usage: message fail [quiet] ID");
	return wish(c, &(struct wish){ .verb = quiet ? ASK_FAIL_QUIET : ASK_FAIL,
				       .word = quiet,
				       .reason = "554 manually failed." });
}

enum err
verb_indoubt_retry(struct command *c)
{
	return wish(c, &(struct wish){ .verb = ASK_RELEASE,
				       .states = 1u << ROW_DOUBT | 1u << ROW_HELD,
				       .refusal = "not in doubt" });
}

enum err
verb_indoubt_hold(struct command *c)
{
	return wish(c, &(struct wish){ .verb = ASK_HOLD,
				       .reason = "in doubt, held by the operator",
				       .states = 1u << ROW_DOUBT,
				       .refusal = "not in doubt" });
}

enum err
verb_indoubt_done(struct command *c)
{
	return wish(c, &(struct wish){ .verb = ASK_DONE,
				       .states = 1u << ROW_DOUBT | 1u << ROW_HELD,
				       .refusal = "not in doubt" });
}

enum err
verb_quarantine_release(struct command *c)
{
	return wish(c, &(struct wish){ .verb = ASK_RELEASE,
				       .states = 1u << ROW_QUARANTINED | 1u << ROW_HELD,
				       .refusal = "not set aside" });
}

enum err
verb_quarantine_drop(struct command *c)
{
	return wish(c, &(struct wish){ .verb = ASK_DROP,
				       .reason = "550 5.7.1 dropped by the operator",
				       .states = 1u << ROW_QUARANTINED | 1u << ROW_HELD,
				       .refusal = "not set aside" });
}

/* ---- a whole domain: every worker does its part */

enum err
verb_fail_domain(struct command *c)
{
	bool quiet = command_word_is(c, 0, "quiet");
	struct ask_edit edit = { .verb = quiet ? ASK_FAIL_QUIET : ASK_FAIL, .id_hi = UINT64_MAX };
	struct bytes payload = { 0 };
	enum err e = OK;

	if (c->nwords < 1u + quiet)
		return command_refuse(c, ERR_SYNTAX, "usage: fail domain [quiet] DOMAIN [REASON]");
	edit.domain = c->words[quiet];
	edit.reason = c->nwords > 1u + quiet ? command_rest(c, 1u + quiet) : SLICE("554 Message manually purged.");
	ask_edit_encode(&edit, &payload);
	for (int slot = 0; slot < SLOTS_MAX && (e == OK || e == ERR_AGAIN); slot++) {
		struct slot_who who;
		if (slot_who(shm_slot(c->console->env->area, slot), &who) && who.role == ROLE_WORKER &&
		    who.state == SLOT_SERVING)
			e = command_ask(c, REQ_WORKER_EDIT, (uint8_t)slot, slice_bytes(&payload));
	}
	bytes_fini(&payload);
	return e == OK ? command_refuse(c, ERR_STATE, "no worker is serving now: ask again") : e;
}

/* ---- details */

static void
say_row(struct answer *a, const struct index_row *row)
{
	char id[ID_TEXT];

	id_text(row->id, id);
	answer_str(a, "id", slice_str(id));
	answer_str(a, "sender", row->sender);
	answer_str(a, "recipient", row->rcpt);
	answer_str(a, "binding", row->binding);
	answer_str(a, "domain", row->domain);
	answer_str(a, "state", slice_str(row_state_text(row->state)));
	answer_num(a, "tries", row->tries);
	answer_num(a, "priority", row->priority);
	answer_num(a, "size", (int64_t)row->size);
	answer_time(a, "received", row->received_at);
	answer_time(a, "next_try", row->due);
	answer_num(a, "deaths", row->deaths);
	answer_str(a, "reason", row->reason);
	answer_num(a, "segment", row->place.seg);
	answer_num(a, "offset", row->place.off);
}

static void
say_envelope(struct answer *a, const struct spool_message *m)
{
	char id[ID_TEXT];

	id_text(m->batch, id);
	answer_str(a, "batch", slice_str(id));
	id_text(m->conn, id);
	answer_str(a, "connection", slice_str(id));
	answer_str(a, "peer", m->peer);
}

static enum err
details(struct command *c, unsigned word, bool envelope, bool body)
{
	struct message_text text = { 0 };
	struct index_row *row = NULL;
	msgid_t id = 0;
	enum err e;

	if ((e = command_id(c, word, &id)) != OK || (e = find_row(c, id, &row)) != OK)
		return e;
	e = message_text_read(c->console->env->spool_dirfd, row, body ? TEXT_MOST : 0, &text);
	/* What is known is said even when the bytes are damaged: that is when an operator asks. */
	if (envelope)
		say_row(&c->answer, row);
	if (envelope && (e == OK || text.raw.n != 0))
		say_envelope(&c->answer, &text.envelope);
	if (e != OK && body)
		answer_str(&c->answer, "unreadable", slice_str(err_text(e)));
	if (body && c->answer.json) {
		answer_str(&c->answer, "header", slice_bytes(&text.header));
		answer_str(&c->answer, "body", slice_bytes(&text.body));
	} else if (body) {
		bytes_add_char(&c->answer.out, '\n');
		bytes_add_slice(&c->answer.out, slice_bytes(&text.header));
		bytes_add_slice(&c->answer.out, slice_bytes(&text.body));
	}
	message_text_fini(&text);
	return OK;
}

static void
details_finish(struct command *c)
{
	bool full = command_word_is(c, 0, "full"), body = command_word_is(c, 0, "body");

	command_end(c, details(c, full || body, !body, full || body));
}

static void
show_finish(struct command *c)
{
	command_end(c, details(c, 0, true, true));
}

enum err
verb_message_details(struct command *c)
{
	if (c->nwords == 2 && !command_word_is(c, 0, "full") && !command_word_is(c, 0, "body"))
		return command_refuse(c, ERR_SYNTAX, "usage: message details [full|body] ID");
	c->finish = details_finish;
	return command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
}

enum err
verb_quarantine_show(struct command *c)
{
	c->finish = show_finish;
	return command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
}

/* ---- lists */

static void
cell_id(struct answer *a, msgid_t id)
{
	char text[ID_TEXT];

	id_text(id, text);
	answer_cell_str(a, slice_str(text));
}

static void
doubts_page(struct answer *a, const struct index_attempt *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		cell_id(a, v[i].id);
		answer_cell_num(a, v[i].n);
		answer_cell_str(a, slice_str(attempt_state_text(v[i].state)));
		answer_cell_time(a, v[i].since);
		answer_cell_str(a, v[i].binding);
		answer_cell_str(a, v[i].domain);
		answer_cell_str(a, v[i].rcpt);
	}
}

static enum err
doubts(struct command *c)
{
	static const char *const columns[] = { "id", "attempt", "state", "since", "binding", "domain", "recipient" };
	struct index_attempt page[PAGE];
	msgid_t after = 0;
	uint32_t after_n = 0;
	size_t n, listed = 0;
	enum err e = OK;

	answer_table(&c->answer, "attempts", columns, 7);
	while (e == OK && listed < LIST_MOST) {
		struct index_txn *t;
		if ((e = command_begin(c, &t)) != OK)
			return e;
		if ((e = index_attempt_page(t, after, after_n, true, page, PAGE, &n)) == OK && n > 0) {
			doubts_page(&c->answer, page, n);
			after = page[n - 1].id;
			after_n = page[n - 1].n;
			listed += n;
		}
		index_end(&t);
	}
	if (e != OK && e != ERR_EOF)
		return command_refuse(c, e, "the index cannot be read: %s", err_text(e));
	answer_table_end(&c->answer, "nothing is, or was within a day, in doubt");
	return OK;
}

static enum err
asides(struct command *c)
{
	static const char *const columns[] = { "id",     "state",  "deaths",    "binding",
					       "domain", "sender", "recipient", "reason" };
	struct index_row page[PAGE];
	msgid_t after = 0;
	size_t n, listed = 0;
	enum err e = OK;

	answer_table(&c->answer, "messages", columns, 8);
	while (e == OK && listed < LIST_MOST) {
		struct index_txn *t;
		if ((e = command_begin(c, &t)) != OK)
			return e;
		e = index_aside_page(t, after, ASIDE_ANY, page, PAGE, &n);
		for (size_t i = 0; e == OK && i < n; i++, listed++) {
			after = page[i].id;
			cell_id(&c->answer, page[i].id);
			answer_cell_str(&c->answer, slice_str(row_state_text(page[i].state)));
			answer_cell_num(&c->answer, page[i].deaths);
			answer_cell_str(&c->answer, page[i].binding);
			answer_cell_str(&c->answer, page[i].domain);
			answer_cell_str(&c->answer, page[i].sender);
			answer_cell_str(&c->answer, page[i].rcpt);
			answer_cell_str(&c->answer, page[i].reason);
		}
		index_end(&t);
	}
	if (e != OK && e != ERR_EOF)
		return command_refuse(c, e, "the index cannot be read: %s", err_text(e));
	answer_table_end(&c->answer, "nothing is set aside");
	return OK;
}

static void
doubts_finish(struct command *c)
{
	command_end(c, doubts(c));
}

static void
asides_finish(struct command *c)
{
	command_end(c, asides(c));
}

enum err
verb_indoubt_list(struct command *c)
{
	c->finish = doubts_finish;
	return command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
}

enum err
verb_quarantine_list(struct command *c)
{
	c->finish = asides_finish;
	return command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
}
