/* year_event.h - what happens in a year of test_year_sim.c: mail comes in bursts, hosts change, processes die and are
 * replaced, configurations change, the clock is set, and the operator suspends and gives orders
 * A riot is a row of deaths, reloads and orders within minutes, most often while a burst is being worked on. */
#ifndef T_SIM_YEAR_EVENT_H
#define T_SIM_YEAR_EVENT_H

#include "t/sim/year_check.h"

static usec_t
some_time(usec_t least, usec_t most)
{
	return least + (usec_t)roll((uint64_t)(most - least));
}

/* ---- mail ---- */

static int
new_mail(int queue, struct place place, msgid_t id, const char *sender)
{
	struct mail *m = mail_new(id, queue);
	int no = (int)(m - sim.mail);

	m->place = place;
	m->priority = sim.calm ? 0 : roll(8) == 0;
	year.hand[no] = (struct hand){
		.sender = sender, .perm = roll(20) == 0 && sender[0] != '\0', .holder = -1, .opener = -1
	};
	return no;
}

static int
queue_named(struct slice binding, struct slice domain)
{
	for (int i = 0; i < QUEUES; i++)
		if (slice_eq(binding, slice_str(names[i].binding)) && slice_eq(domain, slice_str(names[i].domain)))
			return i;
	MUST(false, "a notice to nowhere");
	return 0;
}

static void
on_landed(int life, const struct spool_txn *t, struct place place)
{
	if (t->notice) {
		int no = new_mail(queue_named(t->message.binding, t->message.domain), place, t->message.id, "");

		(void)append(life, (struct fact){ .what = FACT_MAIL, .mail = no });
	}
	for (unsigned i = 0; i < t->n; i++) {
		int no = t->facts[i].mail;

		if (t->facts[i].what == FACT_TRY)
			year.hand[no].on_disk = true;
		else if (outcome_is_final(t->facts[i].kind))
			sim.mail[no].ended = true;
	}
}

/* A notice is told like other mail, or the hint is lost. */
static void
on_made(void *arg, const struct delivery_made *made)
{
	(void)arg;
	if (roll(4) > 0)
		tell(&sim.mail[mail_no(made->id)]);
}

static void
mail_comes(int queue)
{
	int no = new_mail(queue, (struct place){ 0, 0 }, id_at(sim_real()) + ++year.ids,
			  roll(2) == 0 ? "" : "a@d5.test");

	sim.mail[no].place = append(sim.at[roll(WORKERS)], (struct fact){ .what = FACT_MAIL, .mail = no });
	if (roll(4) > 0)
		tell(&sim.mail[no]);
	if (roll(4) == 0)
		tell(&sim.mail[sim.live[roll((uint64_t)sim.n_live)]]);
}

static void
riot(void)
{
	year.riot = 1 + (unsigned)roll(4);
	sim.trouble = sim.now + some_time(MS(20), S(8));
	sim.verb = sim.now + some_time(MS(20), S(8));
}

/* A burst: a few to anybody, or many to one. Some hints are lost, some come again, of any message. */
static void
arrive(void)
{
	bool flood = roll(4) == 0;
	int n = flood ? 15 + (int)roll(15) : 1 + (int)roll(3), to = (int)roll(QUEUES);

	sim.arrival = sim.now + some_time(H(1), D(9));
	sim.mood = sim.now + MS(roll(200));
	for (int i = 0; i < n && sim.mails < MAILS - 100; i++)
		mail_comes(flood ? to : (int)roll(QUEUES));
	if (flood || roll(6) == 0)
		riot();
}

/* ---- processes ---- */

static void
life_begun(int life)
{
	struct worker *w = &year.workers[life];
	struct delivery_env env = { .loop = &year.loop,
				    .conf = confs[year.variant],
				    .spool = &w->spool,
				    .owner = sim.lives[life].o,
				    .resolver = (struct resolver *)&year,
				    .area = sim.area,
				    .limits = shm_area_limits(sim.area),
				    .slot = sim.lives[life].slot,
				    .workers = WORKERS,
				    .made = on_made };

	*w = (struct worker){ .spool.life = life, .variant = year.variant };
	w->spool.txns_end = &w->spool.txns;
	w->spool.fetches_end = &w->spool.fetches;
	w->d = delivery_new(&env);
	for (int b = 0; b < 2; b++)
		if (year.suspended[b])
			owner_suspend(sim.lives[life].o, b == 0 ? SLICE("b1") : SLICE("b2"), STATE_SUSPENDED);
}

static void
life_ends(int life)
{
	delivery_free(&year.workers[life].d);
	spool_die(&year.workers[life].spool);
	year.permits = true;
	for (int i = 0; i < sim.mails; i++) {
		struct hand *h = &year.hand[i];

		h->since = h->holder == life ? 0 : h->since;
		h->holder = h->holder == life ? -1 : h->holder;
		h->opener = h->opener == life ? -1 : h->opener;
	}
}

static void
drain_too(int life)
{
	delivery_drain(year.workers[life].d);
}

static void
new_conf_in_place(int variant)
{
	year.variant = variant;
	for (int i = 0; i < WORKERS; i++) {
		struct worker *w = &year.workers[sim.at[i]];

		w->variant = variant;
		delivery_set_conf(w->d, confs[variant]);
		owner_reconf(sim.lives[sim.at[i]].o);
	}
}

/* ---- hosts and operator ---- */

static void
far_changes(struct far *f)
{
	bool good = f->mode != UP || sim.calm;

	f->mode = good ? UP : (enum mode)(1 + roll(MODES - 1));
	f->until = sim.calm ? INT64_MAX : good ? sim.now + some_time(H(6), D(20)) : sim.now + some_time(S(600), D(4));
}

static void
suspend_or_resume(int b)
{
	year.suspended[b] = !year.suspended[b];
	for (int i = 0; i < sim.n_open; i++)
		if (sim.lives[sim.open[i]].o != NULL)
			owner_suspend(sim.lives[sim.open[i]].o, b == 0 ? SLICE("b1") : SLICE("b2"),
				      year.suspended[b] ? STATE_SUSPENDED : STATE_CONFIGURED);
}

/* Two or three orders about anything that is there. */
static void
orders(void)
{
	static const enum owner_verb_kind kinds[] = { OWNER_VERB_HOLD, OWNER_VERB_HOLD,    OWNER_VERB_RELEASE,
						      OWNER_VERB_FAIL, OWNER_VERB_RELEASE, OWNER_VERB_RETRY,
						      OWNER_VERB_DROP, OWNER_VERB_RETRY };

	sim.verb = sim.now + (year.riot > 0 ? some_time(MS(20), S(20)) : some_time(H(2), D(10)));
	for (unsigned n = 2 + (unsigned)roll(2); n > 0 && sim.n_live > 0; n--)
		order(sim.live[roll((uint64_t)sim.n_live)], kinds[roll(sizeof kinds / sizeof kinds[0])]);
}

static void
trouble(void)
{
	uint64_t kind = roll(year.riot > 0 ? 4 : 8);

	year.riot -= year.riot > 0;
	sim.trouble = sim.now + (year.riot > 0 ? some_time(MS(20), S(8)) : some_time(H(2), D(14)));
	if (sim.calm || (kind < 4 && sim.n_lives + WORKERS > LIVES))
		return;
	switch (kind) {
	case 0:
	case 1:
		somebody_dies();
		break;
	case 2:
	case 3:
		year.variant = (int)roll(VARIANTS);
		reload(4, drain_too);
		break;
	case 4:
		new_conf_in_place((int)roll(VARIANTS));
		break;
	case 5:
	case 6:
		suspend_or_resume((int)roll(2));
		break;
	default: /* the clock is set */
		sim.real += roll(2) == 0 ? some_time(S(1), H(6)) : -some_time(S(1), H(6));
	}
}

/* Everything works, everything goes on. */
static void
begin_calm(void)
{
	sim.calm = true;
	sim.arrival = sim.trouble = sim.verb = INT64_MAX;
	for (int b = 0; b < 2; b++)
		if (year.suspended[b])
			suspend_or_resume(b);
	new_conf_in_place(0);
	for (int i = 0; i < HOSTS; i++)
		far_changes(&year.far[i]);
	for (int i = 0; i < sim.n_live; i++)
		if (sim.mail[sim.live[i]].orders > 0)
			order(sim.live[i], OWNER_VERB_RELEASE);
}

/* Of what is about to expire some is tried once more by hand: its answer may come at the last moment, or at the next. */
static void
last_tries(void)
{
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];
		usec_t left = deadline_of(m) - sim_real();

		if (left > 0 && left < S(300) && !m->ended && roll(2) == 0)
			order(sim.live[i], OWNER_VERB_RETRY);
	}
}

static void
world_happens(void)
{
	bool was_dirty = dirty();

	for (int i = 0; i < HOSTS; i++)
		if (year.far[i].until <= sim.now)
			far_changes(&year.far[i]);
	if (sim.arrival <= sim.now || sim.trouble <= sim.now || sim.verb <= sim.now)
		year.polls = 0;
	if (sim.arrival <= sim.now)
		arrive();
	if (sim.trouble <= sim.now)
		trouble();
	if (sim.verb <= sim.now)
		orders();
	if (sim.mood <= sim.now) {
		moods();
		sim.mood = sim.now + (year.riot > 0 ? some_time(MS(20), S(2)) : some_time(S(10), H(12)));
	}
	if (sim.keeper <= sim.now) {
		keeper();
		sim.keeper = sim.now + S(300);
		if (!sim.calm && !was_dirty)
			last_tries();
		year.polls = was_dirty ? 0 : year.polls;
	}
	if (dirty() && sim.keeper > sim.now + MS(2500))
		sim.keeper = sim.now + MS(5 + roll(sim.calm ? 50 : 2500));
}

#endif
