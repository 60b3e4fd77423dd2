/* Packets between children: each is checked against the table, sent on by slot, and never looked into. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "master/master_int.h"
#include "shm/base/log.h"

enum { QUESTIONS_MAX = 4096 }; /* open ones a child may have */

/* ---- who ---- */

static bool
live(const struct master *m, int slot)
{
	return slot >= 0 && slot < SLOTS_MAX && m->seats[slot].state == SEAT_LIVE && m->seats[slot].channel != NULL;
}

/* Of two consoles the one that was started last: the other drains. */
static int
slot_of_role(const struct master *m, enum role role)
{
	const struct role_row *row = role_row(role);
	int best = -1;

	for (int i = row->first_slot; i < row->first_slot + row->slots; i++)
		if (live(m, i) && (best < 0 || m->seats[i].serial > m->seats[best].serial))
			best = i;
	return best;
}

/* -1: nobody there. */
static int
resolve(const struct master *m, uint8_t to)
{
	if (to == REQ_TO_KEEPER)
		return slot_of_role(m, ROLE_KEEPER);
	if (to == REQ_TO_CONSOLE)
		return slot_of_role(m, ROLE_CONSOLE);
	return live(m, to) ? to : -1;
}

static enum role
role_at(const struct master *m, uint8_t to, int slot)
{
	(void)m;
	if (to == REQ_TO_MASTER)
		return ROLE_MASTER;
	return slot < 0 ? ROLE_NONE : role_of_slot(slot)->role;
}

/* ---- answers ---- */

static void
answer_for(struct master *m, int asker_slot, const struct req_head *question, enum err status, struct slice text)
{
	struct req_head h = { .type = question->type,
			      .from = REQ_TO_MASTER,
			      .to = (uint8_t)asker_slot,
			      .flags = REQ_REPLY,
			      .status = (uint8_t)status,
			      .seq = question->seq };

	if (live(m, asker_slot))
		(void)req_send(m->seats[asker_slot].channel, &h, text, NULL, 0);
}

void
switchboard_answer(struct master *m, uint64_t asker, const struct req_head *question, enum err status,
		   struct slice text)
{
	if (text.n > REQ_PAYLOAD)
		text.n = REQ_PAYLOAD;
	if (question->from < SLOTS_MAX && m->seats[question->from].serial == asker)
		answer_for(m, question->from, question, status, text);
}

static void
question_end(struct master *m, struct question *q)
{
	if (q->asker != 0 && m->seats[q->asker_slot].serial == q->asker)
		m->seats[q->asker_slot].questions--;
	LIST_REMOVE(q, link);
	free(q);
}

void
switchboard_forget(struct master *m, int slot)
{
	uint64_t serial = m->seats[slot].serial;
	struct question *q, *next;

	for (q = LIST_FIRST(&m->questions); q != NULL; q = next) {
		next = LIST_NEXT(q, link);
		if (q->asker == serial)
			q->asker = 0;
		if (q->answerer != serial)
			continue;
		if (q->asker != 0) {
			struct req_head h = { .type = q->type, .seq = q->seq };

			answer_for(m, q->asker_slot, &h, ERR_EOF, SLICE(""));
		}
		question_end(m, q);
	}
}

/* NULL, or what is wrong with it. */
static const char *
forward_answer(struct master *m, int from, const struct req_msg *msg)
{
	struct question *q;

	LIST_FOREACH (q, &m->questions, link)
		if (q->answerer == m->seats[from].serial && q->asker_slot == msg->head.to && q->seq == msg->head.seq &&
		    q->type == msg->head.type)
			break;
	if (q == NULL)
		return "answers a question that nobody asked";
	if (q->asker != 0 && live(m, q->asker_slot) &&
	    req_send(m->seats[q->asker_slot].channel, &msg->head, msg->payload, NULL, 0) == ERR_FULL)
		seat_violates(m, q->asker_slot, "does not take its answers");
	if ((msg->head.flags & REQ_MORE) == 0)
		question_end(m, q);
	return NULL;
}

/* ---- questions ---- */

static void
note_question(struct master *m, int from, int to, const struct req_head *h)
{
	struct question *q = malloc(sizeof(*q));

	if (q == NULL) {
		answer_for(m, from, h, ERR_NOMEM, SLICE(""));
		return;
	}
	*q = (struct question){ .asker = m->seats[from].serial,
				.answerer = m->seats[to].serial,
				.asker_slot = from,
				.answerer_slot = to,
				.type = h->type,
				.seq = h->seq };
	LIST_INSERT_HEAD(&m->questions, q, link);
	m->seats[from].questions++;
}

static const char *
forward_question(struct master *m, int from, int to, const struct req_msg *msg)
{
	bool reply = req_row(msg->head.type)->reply;
	struct req_head h = msg->head;
	enum err e;

	if (reply && m->seats[from].questions >= QUESTIONS_MAX)
		return "asks more than can be answered";
	if (to < 0) {
		if (reply)
			answer_for(m, from, &h, ERR_EOF, SLICE(""));
		return NULL;
	}
	h.to = (uint8_t)to;
	e = req_send(m->seats[to].channel, &h, msg->payload, NULL, 0);
	if (reply && e == OK)
		note_question(m, from, to, &h);
	else if (reply)
		answer_for(m, from, &h, e, SLICE(""));
	return NULL;
}

/* ---- the master's own ---- */

static void
on_ready(struct master *m, int slot)
{
	m->seats[slot].ready = true;
}

static void
to_master(struct master *m, int from, const struct req_msg *msg)
{
	switch (msg->head.type) {
	case REQ_READY:
		on_ready(m, from);
		break;
	case REQ_RELOAD:
		reload_begin(m, from, &msg->head);
		break;
	case REQ_REOPEN_LOGS:
		master_reopen_logs(m);
		answer_for(m, from, &msg->head, OK, SLICE(""));
		break;
	case REQ_SHUTDOWN:
		answer_for(m, from, &msg->head, OK, SLICE(""));
		shutdown_begin(m, msg->payload.p[0] == 1);
		break;
	default: /* DRAINED: its end will tell */
		break;
	}
}

/* ---- a packet ---- */

static void
on_packet(struct master *m, int from, struct req_msg *msg)
{
	struct seat *s = &m->seats[from];
	int to;
	const char *wrong;

	msg->head.from = (uint8_t)from;
	to = resolve(m, msg->head.to);
	wrong = req_violation(&msg->head, sizeof(msg->head) + msg->payload.n, role_of_slot(from)->role,
			      slot_state(shm_slot(m->area, from)), role_at(m, msg->head.to, to), &s->meter,
			      clock_mono());
	if (wrong == NULL && msg->nfds > 0)
		wrong = "sends descriptors";
	for (; msg->nfds > 0; msg->nfds--)
		close(msg->fds[msg->nfds - 1]);
	if (wrong == NULL && (msg->head.flags & REQ_REPLY) != 0)
		wrong = forward_answer(m, from, msg);
	else if (wrong == NULL && msg->head.to == REQ_TO_MASTER)
		to_master(m, from, msg);
	else if (wrong == NULL)
		wrong = forward_question(m, from, to, msg);
	if (wrong != NULL)
		seat_violates(m, from, wrong);
}

void
switchboard_turn(struct master *m, int slot)
{
	struct seat *s = &m->seats[slot];
	struct req_msg msg;
	enum err e = OK;

	while (s->channel != NULL && (e = req_recv(s->channel, &msg)) == OK)
		on_packet(m, slot, &msg);
	if (s->channel == NULL || e == ERR_AGAIN)
		return;
	if (e == ERR_SYNTAX)
		seat_violates(m, slot, "sends what is no packet");
	else
		req_channel_free(&s->channel); /* it has closed its end: its death follows */
}
