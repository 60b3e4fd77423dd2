#include "worker/console/why.h"

/* ---- one link of the chain ---- */

void
why_say(struct target *t, enum ask_level level, const char *cause, struct ask_hold *h)
{
	h->level = (uint8_t)level;
	h->cause = slice_str(cause);
	ask_hold_encode(h, &t->holds);
}

void
why_hold(struct target *t, enum ask_level level, const char *cause, struct ask_hold *h)
{
	h->holds = true;
	why_say(t, level, cause, h);
}

/* Limit, value and place are the option's. */
void
why_say_option(struct command *c, struct target *t, enum ask_level level, const char *cause, enum opt_id id,
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
	why_say(t, level, cause, h);
	bytes_fini(&value);
	bytes_fini(&set);
}

void
why_hold_option(struct command *c, struct target *t, enum ask_level level, const char *cause, enum opt_id id,
		struct ask_hold *h)
{
	h->holds = true;
	why_say_option(c, t, level, cause, id, h);
}

/* ---- what holds a queue ---- */

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
void
why_suspension(struct command *c, struct target *t)
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
		why_hold(t, ASK_AT_BINDING, "the binding is suspended",
			 &(struct ask_hold){ .limit = SLICE("binding suspend"),
					     .value = slice_str(t->binding),
					     .set = slice_bytes(&set),
					     .lets_go = slice_bytes(&verb) });
	} else if (b.suspension == STATE_CONFIGURED && conf_bool(v, OPT_SUSPEND_DELIVERY)) {
		enum ask_level level = suspension_level(v);
		why_hold_option(c, t, level,
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
