#include "shm/shm_request.h"

static const struct req_row rows[REQ_TYPE_MAX] = {
#define SHM_REQ_ROW(name, text, askers, answerers, min, max, reply, states, pace) \
	[REQ_##name] = { #name, text, askers, answerers, min, max, reply, states, pace },
	SHM_REQUESTS(SHM_REQ_ROW)
#undef SHM_REQ_ROW
};

const struct req_row *
req_row(unsigned type)
{
	return type > REQ_NONE && type < REQ_TYPE_MAX ? &rows[type] : NULL;
}

static const char *
reply_violation(const struct req_head *h, const struct req_row *row, enum role sender, enum role receiver)
{
	if (!row->reply)
		return "answers what wants no answer";
	if ((row->answerers & ROLE_BIT(sender)) == 0)
		return "answers what it was not asked";
	if (receiver != ROLE_NONE && (row->askers & ROLE_BIT(receiver)) == 0)
		return "answers who may not ask";
	if (h->status >= ERR_MAX)
		return "answers with a false status";
	return NULL;
}

static const char *
pace_violation(const struct req_row *row, unsigned type, struct req_meter *m, usec_t now)
{
	if (row->per_second > 0 && now - m->window[type] >= USEC_PER_SEC) {
		m->window[type] = now;
		m->used[type] = 0;
	}
	if (row->per_second < 0 && m->used[type] > 0)
		return "asks again what may be asked once";
	if (row->per_second > 0 && m->used[type] >= (uint32_t)row->per_second)
		return "asks too often";
	m->used[type]++;
	return NULL;
}

static const char *
question_violation(const struct req_head *h, const struct req_row *row, enum role asker, enum slot_state state,
		   enum role answerer)
{
	if (h->flags != 0)
		return "asks with false flags";
	if ((row->askers & ROLE_BIT(asker)) == 0)
		return "asks what its role may not";
	if (answerer != ROLE_NONE && (row->answerers & ROLE_BIT(answerer)) == 0)
		return "asks who does not answer this";
	if ((row->states & STATE_BIT(state)) == 0)
		return "asks when it may not";
	if (h->len < row->min || h->len > row->max)
		return "asks with a false size";
	return NULL;
}

const char *
req_violation(const struct req_head *h, size_t packet_len, enum role asker, enum slot_state state, enum role answerer,
	      struct req_meter *m, usec_t now)
{
	const struct req_row *row = req_row(h->type);
	const char *v;

	if (packet_len != sizeof(*h) + h->len || h->len > REQ_PAYLOAD)
		return "sends a packet of a false length";
	if (row == NULL)
		return "asks what is not in the table";
	if ((h->flags & ~(REQ_REPLY | REQ_MORE)) != 0)
		return "sends false flags";
	if ((h->flags & REQ_REPLY) != 0)
		return reply_violation(h, row, asker, answerer);
	v = question_violation(h, row, asker, state, answerer);
	return v != NULL ? v : pace_violation(row, h->type, m, now);
}

enum err
req_done(struct slice rest)
{
	return rest.n == 0 ? OK : ERR_SYNTAX;
}
