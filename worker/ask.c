#include "worker/ask.h"

#include <time.h>

#include "shm/base/clock.h"

void
ask_edit_encode(const struct ask_edit *e, struct bytes *out)
{
	bytes_add_u8(out, (uint8_t)e->verb);
	bytes_add_u64(out, e->id_lo);
	bytes_add_u64(out, e->id_hi);
	bytes_add_lstr(out, e->binding);
	bytes_add_lstr(out, e->domain);
	bytes_add_lstr(out, e->reason);
}

enum err
ask_edit_decode(struct slice s, struct ask_edit *out)
{
	uint8_t verb;

	if (!take_u8(&s, &verb) || verb == 0 || verb >= ASK_VERB_MAX || !take_u64(&s, &out->id_lo) ||
	    !take_u64(&s, &out->id_hi) || !take_lstr(&s, &out->binding) || !take_lstr(&s, &out->domain) ||
	    !take_lstr(&s, &out->reason) || s.n != 0 || out->id_lo > out->id_hi)
		return ERR_SYNTAX;
	out->verb = verb;
	return OK;
}

void
ask_binding_encode(const struct ask_binding *b, struct bytes *out)
{
	bytes_add_u8(out, b->suspension);
	bytes_add_lstr(out, b->name);
	bytes_add_lstr(out, b->who);
}

enum err
ask_binding_decode(struct slice s, struct ask_binding *out)
{
	if (!take_u8(&s, &out->suspension) || !take_lstr(&s, &out->name) || !take_lstr(&s, &out->who) || s.n != 0 ||
	    out->name.n == 0)
		return ERR_SYNTAX;
	return OK;
}

void
ask_about_encode(enum ask_what what, struct slice word, struct bytes *out)
{
	bytes_add_u8(out, (uint8_t)what);
	bytes_add_lstr(out, word);
}

enum err
ask_about_decode(struct slice s, enum ask_what *what, struct slice *word)
{
	uint8_t w;

	if (!take_u8(&s, &w) || w == 0 || w >= ASK_WHAT_MAX || !take_lstr(&s, word) || s.n != 0)
		return ERR_SYNTAX;
	*what = w;
	return OK;
}

static bool
take_bool(struct slice *s, bool *v)
{
	uint8_t u;

	if (!take_u8(s, &u) || u > 1)
		return false;
	*v = u == 1;
	return true;
}

void
ask_why_encode(const struct ask_why *w, struct bytes *out)
{
	bytes_add_u8(out, ASK_WHY);
	bytes_add_u64(out, w->id);
	bytes_add_lstr(out, w->binding);
	bytes_add_lstr(out, w->domain);
	bytes_add_lstr(out, w->remote);
	bytes_add_u8(out, w->due);
}

enum err
ask_why_decode(struct slice s, struct ask_why *out)
{
	uint8_t what;

	if (!take_u8(&s, &what) || what != ASK_WHY || !take_u64(&s, &out->id) || !take_lstr(&s, &out->binding) ||
	    !take_lstr(&s, &out->domain) || !take_lstr(&s, &out->remote) || !take_bool(&s, &out->due) || s.n != 0)
		return ERR_SYNTAX;
	return OK;
}

void
ask_add_moment(struct bytes *out, int64_t real)
{
	time_t seconds = (time_t)(real / USEC_PER_SEC);
	char text[32];
	struct tm tm;

	if (gmtime_r(&seconds, &tm) != NULL && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) > 0)
		bytes_add_str(out, text);
}

const char *
ask_level_text(enum ask_level level)
{
	static const char *const text[ASK_LEVELS] = { "message", "queue",  "binding", "domain",
						      "host",    "server", "worker" };

	return level < ASK_LEVELS ? text[level] : "unknown";
}

void
ask_hold_encode(const struct ask_hold *h, struct bytes *out)
{
	bytes_add_u8(out, h->level);
	bytes_add_u8(out, h->holds);
	bytes_add_lstr(out, h->cause);
	bytes_add_lstr(out, h->limit);
	bytes_add_lstr(out, h->value);
	bytes_add_lstr(out, h->set);
	bytes_add_lstr(out, h->evidence);
	bytes_add_lstr(out, h->lets_go);
	bytes_add_u64(out, (uint64_t)h->until);
}

bool
ask_hold_take(struct slice *s, struct ask_hold *out)
{
	struct slice at = *s;

	if (!take_u8(&at, &out->level) || out->level >= ASK_LEVELS || !take_bool(&at, &out->holds) ||
	    !take_lstr(&at, &out->cause) || !take_lstr(&at, &out->limit) || !take_lstr(&at, &out->value) ||
	    !take_lstr(&at, &out->set) || !take_lstr(&at, &out->evidence) || !take_lstr(&at, &out->lets_go) ||
	    !take_i64(&at, &out->until))
		return false;
	*s = at;
	return true;
}
