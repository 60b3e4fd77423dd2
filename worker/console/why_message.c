#include "worker/console/why.h"

/* Stages of the dialogue, as the mainlog numbers them. */
enum { STAGE_NOT_CONNECTED = 0, STAGE_BANNER = 12 };

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
	why_hold_option(c, t, ASK_AT_MESSAGE, cause, OPT_RETRY_INTERVAL, h);
	if (dns)
		why_say_option(c, t, ASK_AT_DOMAIN, "hosts are asked for at", OPT_RESOLV_CONF, &(struct ask_hold){ 0 });
	if (mute)
		why_say_option(c, t, ASK_AT_HOST, "a greeting is waited for", OPT_EHLO_TIMEOUT,
			       &(struct ask_hold){ 0 });
}

static void
hold_retry(struct command *c, struct target *t)
{
	struct bytes seen = { 0 };
	struct ask_hold h = { .until = t->row->due };

	if (t->row->tries == 0) {
		why_hold(t, ASK_AT_MESSAGE, "a script has set its time",
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
	why_hold_option(c, t, ASK_AT_MESSAGE, held ? "in doubt, and held" : "in doubt", OPT_IN_DOUBT, &h);
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
	why_hold(t, ASK_AT_MESSAGE, held ? "held" : "quarantined",
		 &(struct ask_hold){ .limit = held ? SLICE("indoubt hold") : SLICE("quarantine"),
				     .set = slice_bytes(&set),
				     .evidence = slice_bytes(&seen),
				     .lets_go = SLICE("impetusctl quarantine release, or quarantine drop") });
	bytes_fini(&set);
	bytes_fini(&seen);
}

void
why_message(struct command *c, struct target *t)
{
	const struct index_row *row = t->row;

	if (row->fate != ROW_LIVES && row->state != ROW_WORK)
		why_hold(t, ASK_AT_MESSAGE, row->fate == ROW_FAIL ? "to be failed" : "to be discarded",
			 &(struct ask_hold){ .evidence = row->reason,
					     .lets_go = SLICE("at once: its owner writes it") });
	else if (row->state == ROW_DOUBT || (row->state == ROW_HELD && says(row->reason, "in doubt")))
		hold_doubt(c, t);
	else if (row->state == ROW_HELD || row->state == ROW_QUARANTINED)
		hold_aside(t);
	else if (row->state == ROW_QUEUED && row->due > clock_real())
		hold_retry(c, t);
}
