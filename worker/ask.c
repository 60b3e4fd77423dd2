#include "worker/ask.h"

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
ask_binding_encode(uint8_t suspension, struct slice name, struct bytes *out)
{
	bytes_add_u8(out, suspension);
	bytes_add_slice(out, name);
}

enum err
ask_binding_decode(struct slice s, uint8_t *suspension, struct slice *name)
{
	if (!take_u8(&s, suspension) || s.n == 0)
		return ERR_SYNTAX;
	*name = s;
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
