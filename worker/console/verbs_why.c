/* verbs_why.c - what holds a message or a queue: the chain from the message outwards
 * What the map, the state and the configuration say is read here; what is only in its owner's memory (connections,
 * limits, hosts) is asked of that worker. Queues are asked for one after the other. */
#include <stdlib.h>

#include "policy/conf/conf.h"
#include "shm/base/mem.h"
#include "spool/spool_id.h"
#include "worker/console/console_int.h"

enum { WHY_SECONDS = 5, TARGETS_MOST = 20, HOLDS_MOST = 64, PAGE = 256, QUEUES_MOST = 100000 };

/* Stages of the dialogue, as the mainlog numbers them. */
enum { STAGE_NOT_CONNECTED = 0, STAGE_BANNER = 12 };

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
	bool more; /* queues were left out */
	bool old;  /* the keeper did not commit first: the map may lag */
};

static void
why_free(void *own)
{
	struct why *w = own;

	for (unsigned i = 0; i < w->n; i++) {
		free(w->targets[i].binding);
		free(w->targets[i].domain);
		free(w->targets[i].row);
		bytes_fini(&w->targets[i].holds);
	}
	free(w);
}

/* ---- holds that the console itself knows ---- */

static void
say(struct target *t, enum ask_level level, const char *cause, struct ask_hold *h)
{
	h->level = (uint8_t)level;
	h->cause = slice_str(cause);
	ask_hold_encode(h, &t->holds);
}

static void
hold(struct target *t, enum ask_level level, const char *cause, struct ask_hold *h)
{
	h->holds = true;
	say(t, level, cause, h);
}

/* Limit, value and place are the option's. */
static void
say_option(struct command *c, struct target *t, enum ask_level level, const char *cause, enum opt_id id,
	   struct ask_hold *h)
{
	const struct conf *conf = c->console->env->conf;
	const struct conf_view *v = conf_sending(conf, slice_str(t->binding), slice_str(t->domain));
	struct bytes value = { 0 }, set = { 0 };

	conf_written(v, id, &value);
	conf_where(v, id, &set);
	h->limit = slice_str(conf_row(conf, id)->name);
	h->value = slice_bytes(&value);
	h->set = slice_bytes(&set);
	say(t, level, cause, h);
	bytes_fini(&value);
	bytes_fini(&set);
}

static void
hold_option(struct command *c, struct target *t, enum ask_level level, const char *cause, enum opt_id id,
	    struct ask_hold *h)
{
	h->holds = true;
	say_option(c, t, level, cause, id, h);
}

/* The last outcome: what was said, by whom, when. */
static void
add_answer(struct bytes *out, const struct index_row *row)
{
	if (row->said_at == 0)
		return;
	bytes_addf(out, "try %u: ", row->tries);
	if (row->reason.n > 0 && row->state == ROW_QUEUED)
		bytes_addf(out, "\"%.*s\", ", (int)row->reason.n, row->reason.p);
	if (row->remote.n > 0)
		bytes_addf(out, "%.*s, ", (int)row->remote.n, row->remote.p);
	ask_add_moment(out, row->said_at);
}

static bool
says(struct slice text, const char *part)
{
	return memmem(text.p, text.n, part, strlen(part)) != NULL;
}

/* What went wrong at the last try, and the option that had a part in it. */
static void
say_retry(struct command *c, struct target *t, struct ask_hold *h)
{
	bool internal = says(t->row->reason, "[internal]");
	const char *cause =
		internal ? "waits for its next try: the dialogue failed" : "waits for its next try: refused for now";
	bool dns = internal && says(t->row->reason, " 4.4.3 "), mute = internal && t->row->stage == STAGE_BANNER;

	if (dns)
		cause = "waits for its next try: DNS failure";
	else if (mute)
		cause = "waits for its next try: no greeting in time";
	else if (t->row->stage == STAGE_NOT_CONNECTED)
		cause = "waits for its next try: no connection";
	hold_option(c, t, ASK_AT_MESSAGE, cause, OPT_RETRY_INTERVAL, h);
	if (dns)
		say_option(c, t, ASK_AT_DOMAIN, "hosts are asked for at", OPT_RESOLV_CONF, &(struct ask_hold){ 0 });
	if (mute)
		say_option(c, t, ASK_AT_HOST, "a greeting is waited for", OPT_EHLO_TIMEOUT, &(struct ask_hold){ 0 });
}

static void
hold_retry(struct command *c, struct target *t)
{
	struct bytes seen = { 0 };
	struct ask_hold h = { .until = t->row->due };

	if (t->row->tries == 0) {
		hold(t, ASK_AT_MESSAGE, "a script has set its time",
		     &(struct ask_hold){ .limit = SLICE("msg:delay_until"), .until = t->row->due });
		return;
	}
	add_answer(&seen, t->row);
	h.evidence = slice_bytes(&seen);
	say_retry(c, t, &h);
	bytes_fini(&seen);
}

static void
hold_doubt(struct command *c, struct target *t)
{
	bool held = t->row->state == ROW_HELD;
	struct bytes seen = { 0 };
	struct ask_hold h = { .until = held ? 0 : t->row->due };

	if (t->doubt_since != 0) {
		bytes_addf(&seen, "nobody knows how try %u ended, since ", t->doubt_n);
		ask_add_moment(&seen, t->doubt_since);
		bytes_add_str(&seen, t->row->said_at != 0 ? "; " : "");
	}
	add_answer(&seen, t->row);
	h.evidence = slice_bytes(&seen);
	if (held)
		h.lets_go = SLICE("impetusctl indoubt retry, or indoubt done");
	else if (h.until <= clock_real())
		h.lets_go = SLICE("at once, as in_doubt says");
	hold_option(c, t, ASK_AT_MESSAGE, held ? "in doubt, and held" : "in doubt", OPT_IN_DOUBT, &h);
	bytes_fini(&seen);
}

static void
hold_aside(struct target *t)
{
	bool held = t->row->state == ROW_HELD;
	struct bytes set = { 0 }, seen = { 0 };

	ask_add_moment(&set, t->row->edit);
	bytes_addf(&seen, "%.*s", (int)t->row->reason.n, t->row->reason.p);
	if (!held)
		bytes_addf(&seen, "; %u processes have died of it", t->row->deaths);
	hold(t, ASK_AT_MESSAGE, held ? "held" : "quarantined",
	     &(struct ask_hold){ .limit = held ? SLICE("indoubt hold") : SLICE("quarantine"),
				 .set = slice_bytes(&set),
				 .evidence = slice_bytes(&seen),
				 .lets_go = SLICE("impetusctl quarantine release, or quarantine drop") });
	bytes_fini(&set);
	bytes_fini(&seen);
}

static void
hold_message(struct command *c, struct target *t)
{
	const struct index_row *row = t->row;

	if (row->fate != ROW_LIVES && row->state != ROW_WORK)
		hold(t, ASK_AT_MESSAGE, row->fate == ROW_FAIL ? "to be failed" : "to be discarded",
		     &(struct ask_hold){ .evidence = row->reason, .lets_go = SLICE("at once: its owner writes it") });
	else if (row->state == ROW_DOUBT || (row->state == ROW_HELD && says(row->reason, "in doubt")))
		hold_doubt(c, t);
	else if (row->state == ROW_HELD || row->state == ROW_QUARANTINED)
		hold_aside(t);
	else if (row->state == ROW_QUEUED && row->due > clock_real())
		hold_retry(c, t);
}

static enum ask_level
suspension_level(const struct conf_view *v)
{
	switch (conf_origin_scope(v, OPT_SUSPEND_DELIVERY)) {
	case IN_DOMAIN:
		return ASK_AT_DOMAIN;
	case IN_BINDING:
	case IN_BINDING_GROUP:
		return ASK_AT_BINDING;
	default:
		return ASK_AT_SERVER;
	}
}

/* A verb overrides the configuration, in either direction. */
static void
hold_suspension(struct command *c, struct target *t)
{
	const struct conf_view *v = conf_sending(c->console->env->conf, slice_str(t->binding), slice_str(t->domain));
	struct bytes set = { 0 }, verb = { 0 };
	struct state_binding b;

	if (state_binding_get(c->console->state, slice_str(t->binding), &b) != OK)
		b = (struct state_binding){ .suspension = STATE_CONFIGURED };
	if (b.suspension == STATE_SUSPENDED) {
		bytes_addf(&set, "%s, ", b.who[0] != '\0' ? b.who : "somebody");
		ask_add_moment(&set, b.since);
		bytes_addf(&verb, "impetusctl binding resume %s", t->binding);
		hold(t, ASK_AT_BINDING, "the binding is suspended",
		     &(struct ask_hold){ .limit = SLICE("binding suspend"),
					 .value = slice_str(t->binding),
					 .set = slice_bytes(&set),
					 .lets_go = slice_bytes(&verb) });
	} else if (b.suspension == STATE_CONFIGURED && conf_bool(v, OPT_SUSPEND_DELIVERY)) {
		enum ask_level level = suspension_level(v);
		hold_option(c, t, level,
			    level == ASK_AT_DOMAIN    ? "the domain is suspended"
			    : level == ASK_AT_BINDING ? "the binding is suspended"
						      : "all delivery is suspended",
			    OPT_SUSPEND_DELIVERY,
			    &(struct ask_hold){ .lets_go = SLICE("a configuration without it; or, over the "
								 "configuration, impetusctl binding resume") });
	}
	bytes_fini(&set);
	bytes_fini(&verb);
}

/* ---- the answer ---- */

static void
say_hold(struct answer *a, const struct ask_hold *h)
{
	struct bytes line = { 0 };

	bytes_addf(&line, "  %-8s %.*s", ask_level_text(h->level), (int)h->cause.n, h->cause.p);
	if (h->limit.n > 0) {
		bytes_addf(&line, ": %.*s", (int)h->limit.n, h->limit.p);
		if (h->value.n > 0)
			bytes_addf(&line, " = %.*s", (int)h->value.n, h->value.p);
		if (h->set.n > 0)
			bytes_addf(&line, " (%.*s)", (int)h->set.n, h->set.p);
	}
	if (h->evidence.n > 0)
		bytes_addf(&line, "; %.*s", (int)h->evidence.n, h->evidence.p);
	if (h->until != 0) {
		bytes_add_str(&line, "; until ");
		ask_add_moment(&line, h->until);
	}
	if (h->lets_go.n > 0)
		bytes_addf(&line, "; lets go: %.*s", (int)h->lets_go.n, h->lets_go.p);
	answer_line(a, slice_bytes(&line));
	bytes_fini(&line);
}

static void
hold_cells(struct answer *a, const struct target *t, const struct ask_hold *h)
{
	answer_cell_str(a, slice_str(t->binding));
	answer_cell_str(a, slice_str(t->domain));
	answer_cell_str(a, slice_str(ask_level_text(h->level)));
	answer_cell_num(a, h->holds);
	answer_cell_str(a, h->cause);
	answer_cell_str(a, h->limit);
	answer_cell_str(a, h->value);
	answer_cell_str(a, h->set);
	answer_cell_str(a, h->evidence);
	answer_cell_str(a, h->lets_go);
	answer_cell_num(a, h->until / USEC_PER_SEC);
}

/* In the order of the chain; what a hold of one level was told later stays later. */
static unsigned
each_hold(struct answer *a, const struct target *t)
{
	unsigned holding = 0;

	for (enum ask_level level = ASK_AT_MESSAGE; level < ASK_LEVELS; level++) {
		struct slice rest = slice_bytes(&t->holds);
		struct ask_hold h;

		while (ask_hold_take(&rest, &h)) {
			if (h.level != level)
				continue;
			holding += h.holds;
			if (a->json)
				hold_cells(a, t, &h);
			else
				say_hold(a, &h);
		}
	}
	return holding;
}

static void
say_owner(struct command *c, const struct target *t)
{
	struct slot_who who;

	if (t->slot >= SLOTS_MAX || !slot_who(shm_slot(c->console->env->area, (int)t->slot), &who))
		return;
	answer_num(&c->answer, "owner_slot", t->slot);
	answer_num(&c->answer, "owner_pid", who.pid);
}

static void
say_message(struct command *c, const struct target *t)
{
	char id[ID_TEXT];

	id_text(t->row->id, id);
	answer_str(&c->answer, "id", slice_str(id));
	answer_str(&c->answer, "binding", slice_str(t->binding));
	answer_str(&c->answer, "domain", slice_str(t->domain));
	answer_str(&c->answer, "state", slice_str(row_state_text(t->row->state)));
	answer_num(&c->answer, "tries", t->row->tries);
	say_owner(c, t);
}

static void
say_queue_text(struct command *c, const struct target *t)
{
	struct bytes line = { 0 };

	bytes_addf(&line, "%s/%s:", t->binding, t->domain);
	for (enum row_state s = 0; s < ROW_STATES; s++)
		if (t->counts.in[s] > 0)
			bytes_addf(&line, " %llu %s", (unsigned long long)t->counts.in[s], row_state_text(s));
	answer_line(&c->answer, slice_bytes(&line));
	bytes_fini(&line);
}

static void
queues_table(struct command *c, const struct why *w)
{
	static const char *const columns[] = { "binding",  "domain", "queued",      "in_work",
					       "in_doubt", "held",   "quarantined", "owner_slot" };
	struct answer *a = &c->answer;

	answer_table(a, "queues", columns, 8);
	for (unsigned i = 0; i < w->n; i++) {
		answer_cell_str(a, slice_str(w->targets[i].binding));
		answer_cell_str(a, slice_str(w->targets[i].domain));
		for (int s = 0; s < ROW_STATES; s++)
			answer_cell_num(a, (int64_t)w->targets[i].counts.in[s]);
		answer_cell_num(a, w->targets[i].slot);
	}
	answer_table_end(a, NULL);
}

static void
render_json(struct command *c, const struct why *w)
{
	static const char *const columns[] = { "binding", "domain", "level",    "holds",   "cause", "limit",
					       "value",   "set",    "evidence", "lets_go", "until" };
	unsigned holding = 0;

	if (w->id == 0)
		queues_table(c, w);
	answer_table(&c->answer, "chain", columns, 11);
	for (unsigned i = 0; i < w->n; i++)
		holding += each_hold(&c->answer, &w->targets[i]);
	answer_table_end(&c->answer, NULL);
	answer_num(&c->answer, "holding", holding);
}

static void
render_text(struct command *c, const struct why *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		const struct target *t = &w->targets[i];

		if (w->id == 0)
			say_queue_text(c, t);
		else
			answer_say(&c->answer, "held by");
		if (each_hold(&c->answer, t) == 0 && t->holds.n == 0)
			answer_say(&c->answer, "  nothing: it is taken as soon as its turn comes");
	}
	if (w->more)
		answer_say(&c->answer, "and more queues: name one as BINDING/DOMAIN");
}

static void
render(struct command *c)
{
	const struct why *w = c->own;

	if (w->id != 0)
		say_message(c, &w->targets[0]);
	if (c->answer.json)
		render_json(c, w);
	else
		render_text(c, w);
	command_end(c, OK);
}

/* ---- asking the owners, one after the other ---- */

static void ask_next(struct command *c);

static void
on_owner(struct command *c)
{
	struct why *w = c->own;
	struct target *t = &w->targets[w->asked++];

	if (c->worst == OK)
		bytes_add_slice(&t->holds, slice_bytes(&c->reply));
	else
		hold(t, ASK_AT_WORKER, "the worker that owns the queue did not answer",
		     &(struct ask_hold){ .evidence = slice_str(err_text(c->worst)),
					 .lets_go = SLICE("when it, or who takes its place, has started") });
	c->worst = OK;
	ask_next(c);
}

static bool
owner_serves(struct command *c, struct target *t)
{
	struct slot_who who;

	if (t->slot >= SLOTS_MAX || !slot_who(shm_slot(c->console->env->area, (int)t->slot), &who))
		return false;
	return who.state == SLOT_SERVING || who.state == SLOT_DRAINING;
}

static bool
ask_owner(struct command *c, struct target *t, msgid_t id)
{
	struct ask_why ask = { .id = id,
			       .binding = slice_str(t->binding),
			       .domain = slice_str(t->domain),
			       .remote = t->row != NULL ? t->row->remote : SLICE(""),
			       .due = t->due };
	struct bytes payload = { 0 };
	enum err e;

	ask_why_encode(&ask, &payload);
	e = payload.n > REQ_PAYLOAD ? ERR_RANGE
				    : command_ask(c, REQ_WORKER_ASK, (uint8_t)t->slot, slice_bytes(&payload));
	bytes_fini(&payload);
	return e == ERR_AGAIN;
}

static void
ask_next(struct command *c)
{
	struct why *w = c->own;

	c->finish = on_owner;
	for (; w->asked < w->n; w->asked++) {
		struct target *t = &w->targets[w->asked];
		c->reply.n = 0;
		if (owner_serves(c, t) && ask_owner(c, t, w->id))
			return;
		hold(t, ASK_AT_WORKER, "no worker serves the queue now: its owner is starting",
		     &(struct ask_hold){ .lets_go = SLICE("when it has started") });
	}
	render(c);
}

/* ---- what the map says ---- */

static struct target *
target_add(struct command *c, struct slice binding, struct slice domain)
{
	struct why *w = c->own;
	struct target *t = &w->targets[w->n++];

	t->binding = slice_dup(binding);
	t->domain = slice_dup(domain);
	t->slot = partition_owner(c->console->env->area, (unsigned)(spool_queue_hash(binding, domain) % PARTITIONS));
	return t;
}

/* The last attempt of it that is, or lately was, in doubt. */
static void
find_doubt(struct index_txn *t, struct target *at)
{
	struct index_attempt page[8];
	uint32_t n = 0;
	size_t got = 0;

	while (index_attempt_page(t, at->row->id, n, true, page, 8, &got) == OK && got > 0) {
		for (size_t i = 0; i < got && page[i].id == at->row->id; i++) {
			at->doubt_since = page[i].since;
			at->doubt_n = page[i].n;
		}
		if (page[got - 1].id != at->row->id)
			return;
		n = page[got - 1].n;
	}
}

static enum err
not_queued(struct command *c, msgid_t id)
{
	char text[ID_TEXT];

	id_text(id, text);
	return command_refuse(c, ERR_NOTFOUND,
			      "%s is not queued: delivered, failed, or never here. What became of it stands in the "
			      "mainlog: grep %s %s",
			      text, text, conf_str(conf_stanza(c->console->env->conf, IN_EC_LOGGER), OPT_MAINLOG));
}

static enum err
find_message(struct command *c, msgid_t id)
{
	struct index_row row;
	struct index_txn *t;
	struct target *at;
	enum err e = command_begin(c, &t);

	if (e != OK)
		return e;
	e = index_message_get(t, id, &row);
	if (e == OK) {
		at = target_add(c, row.binding, row.domain);
		at->row = index_row_dup(&row);
		at->due = row.state == ROW_QUEUED && row.due <= clock_real();
		find_doubt(t, at);
	}
	index_end(&t);
	if (e == ERR_NOTFOUND)
		return not_queued(c, id);
	return e == OK ? OK : command_refuse(c, e, "the index cannot be read: %s", err_text(e));
}

static void
add_queue(struct command *c, struct index_txn *t, const struct index_queue *q)
{
	struct index_queue_key first = index_queue_first(q->queue);
	struct target *at = target_add(c, q->binding, q->domain);
	struct index_row row;
	size_t n = 0;

	at->counts = q->counts;
	at->due = q->wake <= clock_real();
	if (index_queue_rows(t, &first, &row, 1, &n) == OK && n == 1) {
		at->row = index_row_dup(&row);
		find_doubt(t, at);
	}
}

static enum err
find_queues(struct command *c, struct slice binding, struct slice domain)
{
	struct index_queue page[PAGE];
	struct why *w = c->own;
	uint64_t after = 0;
	size_t n = 0, walked = 0;
	enum err e = OK;

	while (e == OK && walked < QUEUES_MOST && !w->more) {
		struct index_txn *t;
		if ((e = command_begin(c, &t)) != OK)
			return e;
		e = index_queue_list(t, after, page, PAGE, &n);
		for (size_t i = 0; e == OK && i < n; i++, walked++) {
			after = page[i].queue;
			if (!slice_ieq(page[i].domain, domain) ||
			    (binding.n > 0 && !slice_eq(page[i].binding, binding)))
				continue;
			w->more = w->n == TARGETS_MOST;
			if (!w->more)
				add_queue(c, t, &page[i]);
		}
		index_end(&t);
	}
	if (e != OK && e != ERR_EOF)
		return command_refuse(c, e, "the index cannot be read: %s", err_text(e));
	if (w->n == 0)
		return command_refuse(c, ERR_NOTFOUND, "no mail is queued for %.*s%s%.*s", (int)binding.n, binding.p,
				      binding.n > 0 ? "/" : "", (int)domain.n, domain.p);
	return OK;
}

/* BINDING/DOMAIN, or a domain: a domain has no slash. */
static enum err
find_word(struct command *c, struct slice word)
{
	const char *slash = memrchr(word.p, '/', word.n);
	size_t n = slash == NULL ? 0 : (size_t)(slash - word.p);

	if (slash == NULL)
		return find_queues(c, SLICE(""), word);
	if (n == 0 || n + 1 == word.n)
		return command_refuse(c, ERR_SYNTAX, "usage: why ID|BINDING/DOMAIN|DOMAIN");
	return find_queues(c, slice_of(word.p, n), slice_of(slash + 1, word.n - n - 1));
}

/* The worker did not answer: that is said, and the others are asked. */
static void
owner_late(struct command *c)
{
	c->worst = ERR_TIMEOUT;
	on_owner(c);
}

static void
why_finish(struct command *c)
{
	struct why *w = c->own;
	enum err e = w->id != 0 ? find_message(c, w->id) : find_word(c, c->words[0]);

	if (e != OK) {
		command_end(c, e);
		return;
	}
	for (unsigned i = 0; i < w->n; i++) {
		if (w->targets[i].row != NULL)
			hold_message(c, &w->targets[i]);
		hold_suspension(c, &w->targets[i]);
		if (w->old || c->worst != OK)
			say(&w->targets[i], ASK_AT_WORKER, "the keeper does not commit: newer news may be missing here",
			    &(struct ask_hold){ .holds = false });
	}
	c->worst = OK;
	c->late = owner_late;
	ask_next(c);
}

/* Who asks why wants an answer most when something stands still: the map is read as it is. */
static void
commit_late(struct command *c)
{
	struct why *w = c->own;

	w->old = true;
	why_finish(c);
}

enum err
verb_why(struct command *c)
{
	struct why *w = mem_zalloc(sizeof *w);

	c->own = w;
	c->own_free = why_free;
	if (c->words[0].n == 0)
		return command_refuse(c, ERR_SYNTAX, "usage: why ID|BINDING/DOMAIN|DOMAIN");
	(void)id_parse(c->words[0], &w->id);
	c->finish = why_finish;
	c->late = commit_late;
	c->patience = WHY_SECONDS;
	return command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
}
