/* verbs_queue.c - what is queued, by queue, domain and binding; the ledger; the summary */
#include <stdlib.h>

#include "policy/conf/conf.h"
#include "shm/base/mem.h"
#include "worker/console/console_int.h"

enum {
	PAGE = 256,          /* rows of one look into the map */
	COUNT_MOST = 200000, /* keys that one question counts one by one, and a page of each queue; then active is the
			      * least there are */
	MAILQ_LIMIT = 20,
	QUEUES_MOST = 100000, /* queues that one question walks through */
};

/* One line of mailq: a queue, copied out of its snapshot. */
struct line {
	uint64_t queue;
	char *binding, *domain;
	struct index_counts counts;
	uint64_t active, delayed;
	usec_t wake;
};

struct filter {
	struct slice domains[COMMAND_WORDS], bindings[COMMAND_WORDS];
	unsigned ndomains, nbindings;
	size_t limit;
};

/* Counts a queue's keys of one side, due at `now` or not, up to `most`. False: there are more. The keys of each priority
 * stand in order of their due times. */
static bool
count_side(struct index_txn *t, uint64_t queue, usec_t now, bool due, uint64_t most, uint64_t *count)
{
	struct index_queue_key key = index_queue_first(queue), keys[PAGE];
	size_t n;

	*count = 0;
	while (index_queue_page(t, &key, keys, PAGE, &n) == OK) {
		size_t i = 0;
		if (*count >= most)
			return false;
		while (i < n && (keys[i].due <= now) == due)
			i++;
		*count += i;
		if (i == n) {
			key = keys[n - 1];
			continue;
		}
		/* The other side: over it, to the rest of this priority or to the next lower one. */
		key = (struct index_queue_key){
			.queue = queue, .priority = keys[i].priority, .due = due ? INT64_MAX : now, .id = UINT64_MAX
		};
	}
	return true;
}

/* How many of `waiting` messages are due. The smaller side is counted: in a deep queue it is mostly a small one. */
static uint64_t
count_due(struct index_txn *t, uint64_t queue, uint64_t waiting, uint64_t *left)
{
	usec_t now = clock_real();
	uint64_t due = 0, late = 0;

	for (uint64_t most = PAGE; most == PAGE || most <= *left; most *= 4) {
		bool whole = count_side(t, queue, now, true, most, &due);

		*left -= due < *left ? due : *left;
		if (whole)
			break;
		whole = count_side(t, queue, now, false, most, &late);
		*left -= late < *left ? late : *left;
		if (whole)
			return late < waiting ? waiting - late : 0;
	}
	return due < waiting ? due : waiting;
}

static void
line_from(const struct index_queue *q, struct line *out)
{
	*out = (struct line){ .queue = q->queue,
			      .binding = slice_dup(q->binding),
			      .domain = slice_dup(q->domain),
			      .counts = q->counts,
			      .wake = q->wake };
}

/* Splits what waits into what is due and what is not, in snapshots of their own. */
static enum err
count_lines(struct command *c, struct line *lines, size_t n)
{
	uint64_t left = COUNT_MOST;

	for (size_t i = 0; i < n; i++) {
		struct line *l = &lines[i];
		uint64_t waiting = l->counts.in[ROW_QUEUED], due = 0;
		struct index_txn *t;
		enum err e;

		if (l->wake <= clock_real()) {
			if ((e = command_begin(c, &t)) != OK)
				return e;
			due = count_due(t, l->queue, waiting, &left);
			index_end(&t);
		}
		l->active = due + l->counts.in[ROW_WORK];
		l->delayed = waiting - due;
	}
	return OK;
}

static void
lines_free(struct line *lines, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(lines[i].binding);
		free(lines[i].domain);
	}
	free(lines);
}

static uint64_t
counts_sum(const struct index_counts *c)
{
	uint64_t sum = 0;

	for (int i = 0; i < ROW_STATES; i++)
		sum += c->in[i];
	return sum;
}

static int
larger_first(const void *a, const void *b)
{
	uint64_t x = counts_sum(&((const struct line *)a)->counts), y = counts_sum(&((const struct line *)b)->counts);

	return x < y ? 1 : x > y ? -1 : 0;
}

static bool
among(const struct slice *v, unsigned n, struct slice s, bool fold)
{
	for (unsigned i = 0; i < n; i++)
		if (fold ? slice_ieq(v[i], s) : slice_eq(v[i], s))
			return true;
	return n == 0;
}

/* All queues that the filter lets through, largest first. The list is cut into snapshots of one page. */
static enum err
collect(struct command *c, const struct filter *f, struct line **lines, size_t *count)
{
	struct index_queue page[PAGE];
	uint64_t after = 0;
	size_t n = 0, cap = 0, walked = 0;
	enum err e = OK;

	*lines = NULL;
	*count = 0;
	while (e == OK && walked < QUEUES_MOST) {
		struct index_txn *t;
		if ((e = command_begin(c, &t)) != OK)
			return e;
		e = index_queue_list(t, after, page, PAGE, &n);
		for (size_t i = 0; e == OK && i < n; i++, walked++) {
			after = page[i].queue;
			if (!among(f->domains, f->ndomains, page[i].domain, true) ||
			    !among(f->bindings, f->nbindings, page[i].binding, false))
				continue;
			if (*count == cap)
				*lines = mem_array(*lines, cap = cap != 0 ? cap * 2 : 64, sizeof **lines);
			line_from(&page[i], &(*lines)[(*count)++]);
		}
		index_end(&t);
	}
	if (e == OK || e == ERR_EOF) {
		if (*count > 1)
			qsort(*lines, *count, sizeof **lines, larger_first);
		return OK;
	}
	return command_refuse(c, e, "the index cannot be read: %s", err_text(e));
}

static const char *
group_of(struct command *c, struct slice binding)
{
	size_t i;

	return conf_binding_find(c->console->env->conf, binding, &i) ? conf_binding_group(c->console->env->conf, i)
								     : "default";
}

static enum err
print_lines(struct command *c, struct line *lines, size_t n, const char *none)
{
	static const char *const columns[] = { "binding_group", "binding", "domain",   "active",
					       "delayed",       "in_work", "in_doubt", "held",
					       "quarantined",   "bytes",   "next" };
	struct answer *a = &c->answer;
	enum err e = count_lines(c, lines, n);

	if (e != OK)
		return e;
	answer_table(a, "queues", columns, sizeof columns / sizeof columns[0]);
	for (size_t i = 0; i < n; i++) {
		const struct line *l = &lines[i];
		answer_cell_str(a, slice_str(group_of(c, slice_str(l->binding))));
		answer_cell_str(a, slice_str(l->binding));
		answer_cell_str(a, slice_str(l->domain));
		answer_cell_num(a, (int64_t)l->active);
		answer_cell_num(a, (int64_t)l->delayed);
		answer_cell_num(a, (int64_t)l->counts.in[ROW_WORK]);
		answer_cell_num(a, (int64_t)l->counts.in[ROW_DOUBT]);
		answer_cell_num(a, (int64_t)l->counts.in[ROW_HELD]);
		answer_cell_num(a, (int64_t)l->counts.in[ROW_QUARANTINED]);
		answer_cell_num(a, (int64_t)l->counts.bytes);
		if (l->wake == INT64_MAX)
			answer_cell_str(a, SLICE("-"));
		else
			answer_cell_time(a, l->wake);
	}
	answer_table_end(a, none);
	return OK;
}

static enum err
read_filter(struct command *c, struct filter *f)
{
	*f = (struct filter){ .limit = MAILQ_LIMIT };
	for (unsigned i = 0; i < c->nwords; i += 2) {
		uint64_t limit;
		if (i + 1 == c->nwords)
			return command_refuse(c, ERR_SYNTAX, "'%.*s' lacks its value", (int)c->words[i].n,
					      c->words[i].p);
		if (command_word_is(c, i, "-d") || command_word_is(c, i, "--domain"))
			f->domains[f->ndomains++] = c->words[i + 1];
		else if (command_word_is(c, i, "-b") || command_word_is(c, i, "--binding"))
			f->bindings[f->nbindings++] = c->words[i + 1];
		else if ((command_word_is(c, i, "-l") || command_word_is(c, i, "--limit")) &&
			 slice_u64(c->words[i + 1], QUEUES_MOST, &limit))
			f->limit = limit;
		else
			return command_refuse(c, ERR_SYNTAX,
					      "usage: mailq [-d DOMAIN ...] [-b BINDING ...] [-l LIMIT]");
	}
	return OK;
}

/* Everything synced is in the map before it is shown, so what was just accepted is there. */
static enum err
when_committed(struct command *c, void (*finish)(struct command *c))
{
	c->finish = finish;
	return command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
}

static void
mailq_finish(struct command *c)
{
	struct filter f;
	struct line *lines;
	size_t n;
	enum err e = read_filter(c, &f);

	if (e == OK && (e = collect(c, &f, &lines, &n)) == OK) {
		answer_num(&c->answer, "queue_count", (int64_t)n);
		e = print_lines(c, lines, n < f.limit ? n : f.limit, "the queue is empty");
		lines_free(lines, n);
	}
	command_end(c, e);
}

enum err
verb_mailq(struct command *c)
{
	struct filter f;
	enum err e = read_filter(c, &f);

	return e != OK ? e : when_committed(c, mailq_finish);
}

static enum err
threshold(struct command *c, bool delayed)
{
	static const char *const columns[] = { "domain", "active", "delayed" };
	struct filter f = { .limit = 0 };
	uint64_t least, active = 0, waiting = 0;
	struct line *lines;
	size_t n;
	enum err e;

	if (!slice_u64(c->words[0], UINT32_MAX, &least))
		return command_refuse(c, ERR_SYNTAX, "the threshold must be a number");
	if ((e = collect(c, &f, &lines, &n)) != OK)
		return e;
	e = count_lines(c, lines, n);
	answer_table(&c->answer, "domains", columns, 3);
	for (size_t i = 0; e == OK && i < n; i++) {
		active += lines[i].active;
		waiting += lines[i].delayed;
		if ((delayed ? lines[i].delayed : lines[i].active) <= least)
			continue;
		answer_cell_str(&c->answer, slice_str(lines[i].domain));
		answer_cell_num(&c->answer, (int64_t)lines[i].active);
		answer_cell_num(&c->answer, (int64_t)lines[i].delayed);
	}
	answer_table_end(&c->answer, "no domain is above the threshold");
	answer_num(&c->answer, "total_active", (int64_t)active);
	answer_num(&c->answer, "total_delayed", (int64_t)waiting);
	lines_free(lines, n);
	return e;
}

static void
active_finish(struct command *c)
{
	command_end(c, threshold(c, false));
}

static void
delayed_finish(struct command *c)
{
	command_end(c, threshold(c, true));
}

enum err
verb_active(struct command *c)
{
	return when_committed(c, active_finish);
}

enum err
verb_delayed(struct command *c)
{
	return when_committed(c, delayed_finish);
}

/* ---- domain: its queues from the map, its hosts from the workers' memory */

static void
domain_finish(struct command *c)
{
	struct filter f = { .ndomains = 1, .limit = MAILQ_LIMIT };
	struct line *lines;
	size_t n;
	enum err e;

	f.domains[0] = c->words[0];
	answer_str(&c->answer, "domain", c->words[0]);
	if ((e = collect(c, &f, &lines, &n)) == OK) {
		e = print_lines(c, lines, n, "no mail is queued for this domain");
		lines_free(lines, n);
		answer_lines(&c->answer, "workers", slice_bytes(&c->reply));
	}
	command_end(c, e);
}

enum err
verb_domain(struct command *c)
{
	struct bytes ask = { 0 };
	enum err e;

	c->finish = domain_finish;
	ask_about_encode(ASK_ABOUT_DOMAIN, c->words[0], &ask);
	e = command_ask(c, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""));
	for (int slot = 0; slot < SLOTS_MAX && e == ERR_AGAIN; slot++) {
		struct slot_who who;
		if (slot_who(shm_slot(c->console->env->area, slot), &who) && who.role == ROLE_WORKER)
			e = command_ask(c, REQ_WORKER_ASK, (uint8_t)slot, slice_bytes(&ask));
	}
	bytes_fini(&ask);
	return e;
}

/* ---- bindings */

static const char *
suspension_text(struct command *c, struct slice name)
{
	struct state_binding b;

	if (state_binding_get(c->console->state, name, &b) != OK)
		return "as configured";
	return b.suspension == STATE_SUSPENDED ? "suspended"
	       : b.suspension == STATE_RESUMED ? "resumed"
					       : "as configured";
}

static void
binding_row(struct command *c, struct slice name, const struct index_counts *n)
{
	struct answer *a = &c->answer;

	answer_cell_str(a, slice_str(group_of(c, name)));
	answer_cell_str(a, name);
	answer_cell_str(a, slice_str(suspension_text(c, name)));
	for (int i = 0; i < ROW_STATES; i++)
		answer_cell_num(a, (int64_t)n->in[i]);
	answer_cell_num(a, (int64_t)n->bytes);
}

static enum err
binding_rows(struct command *c)
{
	static const char *const columns[] = { "binding_group", "binding", "delivery",    "queued", "in_work",
					       "in_doubt",      "held",    "quarantined", "bytes" };
	const struct conf *conf = c->console->env->conf;
	struct index_txn *t;
	enum err e = command_begin(c, &t);

	if (e != OK)
		return e;
	answer_table(&c->answer, "bindings", columns, 4 + ROW_STATES);
	for (size_t i = 0; i < conf_binding_count(conf); i++) {
		struct slice name = slice_str(conf_binding_name(conf, i));
		struct index_binding b = { 0 };
		if (c->nwords == 1 && !slice_eq(name, c->words[0]))
			continue;
		if (index_binding_get(t, name, &b) != OK)
			b = (struct index_binding){ 0 };
		binding_row(c, name, &b.counts);
	}
	index_end(&t);
	answer_table_end(&c->answer, "no such binding");
	return OK;
}

static void
binding_finish(struct command *c)
{
	command_end(c, binding_rows(c));
}

enum err
verb_binding_summary(struct command *c)
{
	return when_committed(c, binding_finish);
}

static enum err
suspend(struct command *c, enum state_suspension wish)
{
	struct bytes ask = { 0 };
	size_t index;
	enum err e;

	if (!conf_binding_find(c->console->env->conf, c->words[0], &index))
		return command_refuse(c, ERR_NOTFOUND, "there is no binding '%.*s'", (int)c->words[0].n, c->words[0].p);
	ask_binding_encode(&(struct ask_binding){ .suspension = (uint8_t)wish,
						  .name = c->words[0],
						  .who = slice_str(session_who(c->session)) },
			   &ask);
	e = command_ask(c, REQ_KEEPER_BINDING, REQ_TO_KEEPER, slice_bytes(&ask));
	bytes_fini(&ask);
	return e;
}

enum err
verb_binding_suspend(struct command *c)
{
	return suspend(c, STATE_SUSPENDED);
}

enum err
verb_binding_resume(struct command *c)
{
	return suspend(c, STATE_RESUMED);
}

/* ---- ledger and summary */

static enum err
ledger_say(struct command *c)
{
	struct index_ledger l;
	struct index_txn *t;
	enum err e = command_begin(c, &t);

	if (e != OK)
		return e;
	e = index_ledger(t, &l);
	index_end(&t);
	if (e != OK)
		return command_refuse(c, e, "the ledger cannot be read: %s", err_text(e));
	answer_num(&c->answer, "carried", (int64_t)l.carried);
	answer_num(&c->answer, "accepted", (int64_t)l.accepted);
	answer_num(&c->answer, "generated", (int64_t)l.generated);
	answer_num(&c->answer, "delivered", (int64_t)l.delivered);
	answer_num(&c->answer, "bounced", (int64_t)l.bounced);
	answer_num(&c->answer, "expired", (int64_t)l.expired);
	answer_num(&c->answer, "discarded", (int64_t)l.discarded);
	answer_num(&c->answer, "damaged", (int64_t)l.damaged);
	answer_num(&c->answer, "queued", (int64_t)l.queued);
	answer_num(&c->answer, "difference", index_ledger_difference(&l));
	return OK;
}

static void
ledger_finish(struct command *c)
{
	command_end(c, ledger_say(c));
}

enum err
verb_ledger(struct command *c)
{
	return when_committed(c, ledger_finish);
}

static void
summary_processes(struct command *c)
{
	static const char *const columns[] = { "slot",  "role",        "pid",         "generation",
					       "state", "sessions_in", "sessions_out" };
	static const char *const states[] = { "free", "starting", "serving", "draining" };
	struct answer *a = &c->answer;

	answer_table(a, "processes", columns, 7);
	for (int i = 0; i < SLOTS_MAX; i++) {
		struct shm_slot *slot = shm_slot(c->console->env->area, i);
		struct slot_who who;
		if (!slot_who(slot, &who))
			continue;
		answer_cell_num(a, i);
		answer_cell_str(a, slice_str(role_name(who.role)));
		answer_cell_num(a, who.pid);
		answer_cell_num(a, who.generation);
		answer_cell_str(a, slice_str(states[who.state <= SLOT_DRAINING ? who.state : SLOT_FREE]));
		answer_cell_num(a, slot_get(slot, CELL_SESSIONS_IN));
		answer_cell_num(a, slot_get(slot, CELL_SESSIONS_OUT));
	}
	answer_table_end(a, NULL);
}

static void
summary_finish(struct command *c)
{
	struct area_now now;

	area_get_now(c->console->env->area, &now);
	answer_num(&c->answer, "uptime_seconds", (clock_real() - now.started_real) / USEC_PER_SEC);
	answer_num(&c->answer, "generation", now.generation);
	summary_processes(c);
	for (enum cell i = 0; i < CELL_MAX; i++)
		answer_num(&c->answer, cell_name(i), shm_total(c->console->env->area, i));
	command_end(c, ledger_say(c));
}

enum err
verb_summary(struct command *c)
{
	return when_committed(c, summary_finish);
}
