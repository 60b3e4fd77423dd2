#include "spool/spool_id.h"
#include "worker/console/why.h"

enum { STATUS_OVER = 3 }; /* the exit status of impetusctl */

/* Of a message that is over the spool keeps nothing, but for a day what became of one that was in doubt: its end stands in
 * the mainlog, which the console cannot read. So it says where to look, and for what. */
static void
say_became(struct command *c, const struct why *w)
{
	const struct index_attempt *a = &w->doubt;

	if (a->n == 0 || a->state < ATTEMPT_DELIVERED)
		return;
	answer_str(&c->answer, "became", slice_str(attempt_state_text((enum attempt_state)a->state)));
	answer_num(&c->answer, "try_in_doubt", a->n);
	answer_time(&c->answer, "in_doubt_since", a->since);
}

/* Rotated logs stand beside it, compressed ones too. */
static void
say_where(struct command *c, const char *id)
{
	const char *log = conf_str(conf_stanza(c->console->env->conf, IN_EC_LOGGER), OPT_MAINLOG);
	struct bytes find = { 0 };

	bytes_addf(&find, "zgrep -h %s %s*", id, log);
	answer_str(&c->answer, "log", slice_str(log));
	answer_str(&c->answer, "find", slice_bytes(&find));
	bytes_fini(&find);
}

static const char *
in_words(const struct why *w, bool never)
{
	if (never)
		return "no message had so high an id yet";
	if (w->old)
		return "the keeper does not commit: it may be too new for the index; if not, its last line in the log "
		       "is its "
		       "end";
	return "delivered, failed or discarded, if it ever was here: its last line in the log is its end (D delivered, "
	       "P "
	       "failed)";
}

void
why_over(struct command *c)
{
	const struct why *w = c->own;
	bool never = w->id > w->highest && !w->old;
	char id[ID_TEXT];

	id_text(w->id, id);
	answer_str(&c->answer, "id", slice_str(id));
	answer_str(&c->answer, "state", never ? SLICE("never here") : SLICE("not queued"));
	if (!never) {
		answer_time(&c->answer, "made", id_time(w->id));
		say_became(c, w);
		say_where(c, id);
	}
	if (!c->answer.json)
		answer_say(&c->answer, "%s", in_words(w, never));
	c->status = STATUS_OVER;
	command_end(c, OK);
}
