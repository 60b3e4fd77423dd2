/* A year in less than a second: mail in bursts, hosts that are down for days, greylist, refuse, stall and forget, DNS
 * that fails, throttles, suspended bindings and queues, new configurations by reload and in place, processes that die in
 * the middle of it all, two workers that lend to each other, an operator who holds, releases, retries, fails and drops,
 * clocks that are set. Owners, schedule, retry rules, delivery, limits and routes are the real ones; time jumps from event
 * to event. Each seed is one year; YEAR_SEEDS says how many (default 25), YEAR_FIRST which is the first.
 * year_world.h and year_net.h: what stands for disk, network, DNS and clock; year_event.h: what happens; year_check.h:
 * what is seen to. mutations.py shows that all of this is seen to fail when it should. */
#include "t/sim/year_event.h"
#include "t/sim/year_net.h"

enum {
	YEAR = 365,
	POLLS = 4, /* looks without a reason, before time jumps to the next event */
	STEPS_MAX = 3000000,
};

/* Throttles are the same in all, for a bucket's window goes on over a change. */
#define THROTTLES                                                                                         \
	"Binding \"b1\" { outbound_throttle_messages = \"10/60\" server_max_outbound_connections = 2 }\n" \
	"Domain \"d0.test\" { outbound_throttle_messages = \"4/600\" }\n"
static const char *const texts[VARIANTS] = {
	"hostname = \"mx.test\"\nmax_outbound_connections = "
	"3\nserver_max_outbound_connections = 4\n" THROTTLES "Binding \"b2\" { max_outbound_connections = 1 }\n",
	"hostname = \"mx.test\"\nmax_outbound_connections = 2\nretry_interval = "
	"300\nmax_retry_interval = 7200\n"
	"message_expiration = 259200\n" THROTTLES
	"Binding \"b2\" { idle_timeout = 30 Domain \"d4.test\" { suspend_delivery = true } }\n",
	"hostname = \"mx.test\"\nmax_outbound_connections = 5\nmax_retries = "
	"3\nmax_deliveries_per_connection = 3\n"
	"max_resident_messages = 6\n"
	"message_expiration = 43200\n" THROTTLES "Binding \"b2\" { }\n",
};
static const struct opt_row extra_rows[] = {
	{ .id = OPT_HOSTNAME,
	  .name = "hostname",
	  .type = OPT_STRING,
	  .scopes = IN_GLOBAL,
	  .side = SIDE_BOTH,
	  .help = "x" },
};
static const struct opt_table extra = OPT_TABLE(extra_rows);

/* ---- time ---- */

/* When a message comes due, or expires, the world moves although nobody does. */
static void
mails_next(usec_t *next)
{
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];
		usec_t due = m->due - sim.real, end = deadline_of(m) - sim.real;

		if (m->ended)
			continue;
		if (due > sim.now)
			sooner(next, due);
		if (end > sim.now)
			sooner(next, end);
	}
}

/* Looks that nobody has given a reason for are left out after a few. */
static void
owners_next(usec_t *next)
{
	for (int i = 0; i < sim.n_open; i++) {
		const struct life_sim *l = &sim.lives[sim.open[i]];
		usec_t at = l->o == NULL ? INT64_MAX : owner_next(l->o);

		if (year.polls < POLLS || at <= sim.now || at > sim.now + S(1))
			sooner(next, at);
	}
}

static void
works_next(usec_t *next)
{
	for (unsigned i = 0; i < year.loop.n; i++)
		sooner(next, year.loop.timers[i]->at);
	for (int i = 0; i < CLIENTS; i++)
		if (year.clients[i].used)
			sooner(next, year.clients[i].when);
	for (struct resolver_query *q = year.queries; q != NULL; q = q->next)
		sooner(next, q->when);
	for (int i = 0; i < sim.n_open; i++) {
		const struct spool *sp = &year.workers[sim.open[i]].spool;

		if (sp->txns != NULL)
			sooner(next, sp->txns->when);
		if (sp->fetches != NULL)
			sooner(next, sp->fetches->when);
	}
}

static usec_t
next_event(void)
{
	usec_t next = sim.arrival;

	sooner(&next, sim.trouble);
	sooner(&next, sim.verb);
	sooner(&next, sim.mood);
	if (dirty() || sim.n_live > 0)
		sooner(&next, sim.keeper);
	for (int i = 0; i < HOSTS; i++)
		sooner(&next, year.far[i].until);
	world_next(&next);
	works_next(&next);
	bells_next(&next);
	mails_next(&next);
	owners_next(&next);
	return next;
}

static bool
is_full(const struct delivery *d)
{
	return d->njobs >= d->resident;
}

static void
run_owner(int life)
{
	struct life_sim *l = &sim.lives[life];

	if (l->o == NULL)
		return;
	owner_run(l->o);
	loop_run_later();
	check_starving(l, is_full(year.workers[life].d), S(PATIENCE));
	if (l->draining && delivery_idle(year.workers[life].d) && year.workers[life].spool.txns == NULL)
		end_life(life);
}

static void
run_works(void)
{
	queries_run();
	for (int i = 0; i < sim.n_open; i++) {
		spool_run_fetched(&year.workers[sim.open[i]].spool);
		spool_run_synced(&year.workers[sim.open[i]].spool);
	}
	for (int i = 0; i < CLIENTS; i++)
		if (year.clients[i].used && year.clients[i].when <= sim.now)
			client_run(&year.clients[i]);
	loop_run_timers();
	loop_run_later();
}

static void
step(void)
{
	usec_t next = next_event();

	MUST(++year.steps < STEPS_MAX, "it never ends");
	sim.now = next > sim.now ? next : sim.now + 1;
	year.polls++;
	run_world_due();
	run_works();
	world_happens();
	hear();
	for (int i = 0; i < sim.n_open; i++)
		run_owner(sim.open[i]);
	check_step();
}

/* ---- years ---- */

static void
one_year(uint64_t seed, struct shm_area *area)
{
	begin_world(seed, area, S(10) + (usec_t)seed * D(500)); /* limits of the seed before are long past */
	memset(&year, 0, sizeof year);
	TAILQ_INIT(&year.loop.later);
	sim.keeper = sim.arrival = sim.mood = sim.now;
	sim.trouble = sim.now + some_time(H(1), D(5));
	sim.verb = sim.now + some_time(H(1), D(5));
	for (int i = 0; i < HOSTS; i++)
		year.far[i].until = sim.now + some_time(H(1), D(10));
	usec_t end = sim.now + D(YEAR);

	begin_generation(1);
	while (sim.now < end)
		step();
	begin_calm();
	while (!all_ended() || on_loan() > 0) {
		step();
		MUST(sim.now < end + D(10), "not all of the mail ends, or comes back");
	}
	end_world();
	MUST(year.queries == NULL && year.loop.n == 0, "something is left behind");
}

static void
load_conf(int variant, const struct opt_table *tables, size_t n)
{
	struct conf_source src = { .path = "year.conf",
				   .text = slice_str(texts[variant]),
				   .tables = tables,
				   .n_tables = n,
				   .no_files = true };
	struct conf_errors errs = { 0 };

	confs[variant] = conf_load(&src, &errs);
	for (size_t k = 0; k < errs.n; k++)
		print_message("%u:%u: %s\n", errs.v[k].line, errs.v[k].column, errs.v[k].text);
	assert_non_null(confs[variant]);
	conf_errors_fini(&errs);
	for (int q = 0; q < QUEUES; q++) {
		views[variant][q] =
			conf_sending(confs[variant], slice_str(names[q].binding), slice_str(names[q].domain));
		retries[variant][q] = delivery_retry(views[variant][q]);
	}
}

/* What must have happened, for it all to prove anything. */
static void
check_seen(uint64_t count)
{
	print_message("%ld answers at a deadline; %ld deaths, of these %ld lending and %ld borrowing; %ld reloads, %ld "
		      "while lending; %ld lent, "
		      "%ld done by borrowers, %ld loan hints lost; orders: %ld hold, %ld release, %ld retry, %ld fail, "
		      "%ld drop, %ld about lent\n",
		      seen_last_moments, seen.deaths, seen.deaths_lending, seen.deaths_borrowing, seen.reloads,
		      seen.drained_lent, seen.lent, seen.borrowed_done, seen.lost_loans, seen.orders[OWNER_VERB_HOLD],
		      seen.orders[OWNER_VERB_RELEASE], seen.orders[OWNER_VERB_RETRY], seen.orders[OWNER_VERB_FAIL],
		      seen.orders[OWNER_VERB_DROP], seen.held_lent);
	if (count < 25)
		return;
	assert_true(seen.deaths > (long)count && seen.reloads > (long)count && seen.borrowed_done > (long)count);
	assert_true(seen_last_moments > 0);
	assert_true(seen.deaths_lending > 0 && seen.deaths_borrowing > 0 && seen.drained_lent > 0);
	assert_true(seen.orders[OWNER_VERB_HOLD] > 0 && seen.orders[OWNER_VERB_FAIL] > 0 && seen.held_lent > 0);
}

static void
years(void **state)
{
	const struct opt_table tables[2] = { delivery_options, extra };
	uint64_t mails = 0, sends = 0, steps = 0, from, count;
	struct shm_area *area = shm_area_new();

	(void)state;
	assert_non_null(area);
	begin_simulation("YEAR_SEEDS", "YEAR_FIRST", 25, &from, &count);
	for (int i = 0; i < VARIANTS; i++)
		load_conf(i, tables, 2);
	for (uint64_t s = from; s < from + count; s++) {
		one_year(s, area);
		mails += (uint64_t)sim.mails;
		sends += year.sends;
		steps += year.steps;
	}
	clock_set_source(NULL, NULL);
	print_message("%llu years: %llu messages, %llu transactions, %llu steps\n", (unsigned long long)count,
		      (unsigned long long)mails, (unsigned long long)sends, (unsigned long long)steps);
	check_seen(count);
	for (int i = 0; i < VARIANTS; i++)
		conf_unref(&confs[i]);
	shm_area_free(&area);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(years) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
