/* verbs_why.c - what holds a message or a queue: the chain from the message outwards
 * What the map, the state and the configuration say is read by the console; what is only in its owner's memory
 * (connections, limits, hosts) is asked of that worker. Queues are asked for one after the other. */
#include <stdlib.h>

#include "shm/base/mem.h"
#include "spool/spool_id.h"
#include "worker/console/why.h"

enum { WHY_SECONDS = 5, PAGE = 256, QUEUES_MOST = 100000 };

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
		why_hold(t, ASK_AT_WORKER, "the worker that owns the queue did not answer",
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
		why_hold(t, ASK_AT_WORKER, "no worker serves the queue now: its owner is starting",
			 &(struct ask_hold){ .lets_go = SLICE("when it has started") });
	}
	why_render(c);
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

/* The last attempt of it that is, or lately was, in doubt: number, state and time only. n is 0 when there is none. */
static void
last_doubt(struct index_txn *t, msgid_t id, struct index_attempt *out)
{
	struct index_attempt page[8];
	size_t got = 0;

	*out = (struct index_attempt){ .id = id };
	while (index_attempt_page(t, id, out->n, true, page, 8, &got) == OK && got > 0) {
		for (size_t i = 0; i < got && page[i].id == id; i++)
			*out = (struct index_attempt){
				.id = id, .n = page[i].n, .state = page[i].state, .since = page[i].since
			};
		if (page[got - 1].id != id)
			return;
	}
}

static void
find_doubt(struct index_txn *t, struct target *at)
{
	struct index_attempt last;

	last_doubt(t, at->row->id, &last);
	at->doubt_since = last.since;
	at->doubt_n = last.n;
}

static enum err
find_message(struct command *c, msgid_t id)
{
	struct why *w = c->own;
	struct index_row row;
	struct index_meta meta;
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
	} else if (e == ERR_NOTFOUND) {
		w->over = true;
		last_doubt(t, id, &w->doubt);
		e = index_meta(t, &meta);
		w->highest = e == OK ? meta.highest_id : 0;
		w->old = w->old || e == ERR_AGAIN; /* nothing was ever committed */
		e = e == ERR_AGAIN ? OK : e;
	}
	index_end(&t);
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

	w->old = w->old || c->worst != OK;
	if (e != OK) {
		command_end(c, e);
		return;
	}
	if (w->over) {
		why_over(c);
		return;
	}
	for (unsigned i = 0; i < w->n; i++) {
		if (w->targets[i].row != NULL)
			why_message(c, &w->targets[i]);
		why_suspension(c, &w->targets[i]);
		if (w->old)
			why_say(&w->targets[i], ASK_AT_WORKER,
				"the keeper does not commit: newer news may be missing here",
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
