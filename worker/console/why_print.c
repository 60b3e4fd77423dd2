#include "spool/spool_id.h"
#include "worker/console/why.h"

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

void
why_render(struct command *c)
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
