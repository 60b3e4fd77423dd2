/* A year in less than a second: mail in bursts, hosts that are down for days,
 * greylist, refuse, stall and forget, DNS that fails, throttles, suspended
 * bindings, new configurations by reload and in place, processes that die,
 * clocks that are set. Owners, schedule, retry rules, delivery, limits and
 * routes are the real ones (year_world.h has the rest); time jumps from event
 * to event. Each seed is one year; YEAR_SEEDS says how many (default 25),
 * YEAR_FIRST which is the first. Seen to at every step: one owner; no second
 * delivery that was not named in doubt; nothing past its expiry; no throttle,
 * no connection limit and no bound of messages in work exceeded; no message
 * without a next time; order within a queue and priority, taken and sent; no
 * queue starves another; and at the end every message has ended. */
#include "t/sim/year_world.h"

enum {
	YEAR = 365,
	PATIENCE = 60,   /* s after which a queue with ready mail counts as starved */
	RIPE = 6 * 3600, /* s after which a due message must have been taken */
	HELD = 6 * 3600, /* s after which one that was taken must be given back or ended */
	LATE = 2 * 3600, /* s after its deadline at which a message must have ended */
	POLLS = 4,       /* looks without a reason, before time jumps to the next event */
	STEPS_MAX = 3000000,
	VARIANTS = 3,
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
	"message_expiration = 259200\n" THROTTLES "Binding \"b2\" { idle_timeout = 30 }\n",
	"hostname = \"mx.test\"\nmax_outbound_connections = 5\nmax_retries = "
	"6\nmax_deliveries_per_connection = 3\n"
	"max_resident_messages = 6\n"
	"message_expiration = 43200\n" THROTTLES "Binding \"b2\" { }\n",
};
static struct conf *confs[VARIANTS];

static const struct opt_row extra_rows[] = {
	{ .id = OPT_HOSTNAME,
	  .name = "hostname",
	  .type = OPT_STRING,
	  .scopes = IN_GLOBAL,
	  .side = SIDE_BOTH,
	  .help = "x" },
};
static const struct opt_table extra = OPT_TABLE(extra_rows);

static uint64_t
hash_of(int queue)
{
	return spool_queue_hash(slice_str(queues[queue].binding), slice_str(queues[queue].domain));
}

static const struct conf_view *
view_of(const struct life_sim *l, int queue)
{
	return conf_sending(l->conf, slice_str(queues[queue].binding), slice_str(queues[queue].domain));
}

static struct sched_retry
retry_of(int queue)
{
	return delivery_retry(view_of(&sim.lives[sim.owner], queue));
}

static bool
is_suspended(int queue)
{
	const char *b = queues[queue].binding;

	return b[0] == 'b' && sim.suspended[b[1] - '1'];
}

/* ---- what is seen to, where it happens ---- */

/* Nothing that is ready comes before what was taken. */
static void
check_order(const struct owner_mem *m)
{
	for (struct sched_msg *s = RB_ROOT(&m->msg.queue->sched.ready); s != NULL; s = RB_LEFT(s, link))
		MUST(s->priority < m->msg.priority ||
			     (s->priority == m->msg.priority &&
			      (s->due > m->msg.due || (s->due == m->msg.due && s->id > m->msg.id))),
		     "taken out of order");
}

/* At most n in a window that begins with its first. */
static void
check_throttle(const struct life_sim *l, int queue)
{
	const struct conf_view *v = view_of(l, queue);
	struct conf_rate rate = conf_rate(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
	uint64_t origin = conf_origin(v, OPT_OUTBOUND_THROTTLE_MESSAGES);
	struct window *w = NULL;

	if (rate.n == 0)
		return;
	for (int i = 0; i < ORIGINS && w == NULL; i++)
		if (sim.windows[i].origin == origin || sim.windows[i].begun == 0)
			w = &sim.windows[i];
	MUST(w != NULL, "more throttles than were configured");
	if (w->begun == 0 || sim.now - w->begun >= S(rate.seconds))
		*w = (struct window){ origin, sim.now, 0 };
	MUST(++w->n <= rate.n, "the throttle is exceeded: %u in %u s", w->n, rate.seconds);
}

/* No more in one process's hands than its share; errands come on top. */
static void
check_resident(const struct life_sim *l)
{
	int64_t most = conf_int(conf_global(l->conf), OPT_MAX_RESIDENT_MESSAGES);
	const struct dqueue *q;
	unsigned errands = 0;

	TAILQ_FOREACH (q, &l->d->queues, link)
		errands += q->errands;
	MUST(most == 0 || l->d->njobs <= most + errands, "%u messages in hand, where %d may be", l->d->njobs,
	     (int)most);
}

static void
on_taken(int life, int no)
{
	struct mail *m = &sim.mail[no];
	struct owner_mem *mem = mem_find(sim.lives[life].o, m->id);

	MUST(mem != NULL, "delivery has a message that its owner has not");
	m->errand = mem->errand;
	if (!m->errand) {
		check_order(mem);
		check_throttle(&sim.lives[life], m->queue);
		check_resident(&sim.lives[life]);
	}
	m->holder = life;
	m->loaded = m->sent = false;
	m->turn = ++sim.turns;
	m->since = sim.now;
	m->named = m->named || mem->msg.doubtful;
}

/* Of what was taken before it and stands ready in the same hands, nothing is
 * left behind. One that came back from a connection which had ended goes to the
 * end. */
static void
on_send(int life, int no, const struct dconn *c)
{
	struct mail *m = &sim.mail[no];

	MUST(m->holder == life && m->loaded, "message %d is sent by who has it not", no);
	MUST(c->q->binding.n > 0 && hash_of(m->queue) == owner_queue_hash(c->q->oq),
	     "sent on another queue's connection");
	for (int i = 0; i < sim.n_live && !m->sent; i++) {
		const struct mail *other = &sim.mail[sim.live[i]];

		MUST(other->queue != m->queue || other->holder != life || !other->loaded || other->sent ||
			     other->errand || other->turn >= m->turn || other->priority < m->priority,
		     "message %d overtakes another", no);
	}
	m->sent = true;
}

/* Open connections that count with this one: of its queue, of its binding, of
 * the server. */
static void
on_connect(int life, const struct dconn *c)
{
	const struct conf *conf = sim.lives[life].conf;
	const struct conf_view *v = conf_sending(conf, c->q->binding, c->q->domain);
	int64_t max = conf_int(v, OPT_MAX_OUTBOUND_CONNECTIONS),
		of_server = conf_int(conf_global(conf), OPT_SERVER_MAX_OUTBOUND_CONNECTIONS);
	int queue = 0, binding = 0, all = 0;

	for (int i = 0; i < CLIENTS; i++) {
		const struct dconn *other = sim.clients[i].used ? sim.clients[i].arg : NULL;
		bool same = other != NULL && slice_eq(other->q->binding, c->q->binding);

		all += other != NULL;
		binding += same;
		queue += same && slice_eq(other->q->domain, c->q->domain);
	}
	MUST(max < 0 || queue <= max, "%d connections of a queue, where %d may be", queue, (int)max);
	MUST(all <= of_server, "%d connections, where %d may be", all, (int)of_server);
	if (slice_eq(c->q->binding, SLICE("b1")))
		MUST(binding <= conf_int(v, OPT_SERVER_MAX_OUTBOUND_CONNECTIONS), "%d connections of binding b1",
		     binding);
}

static void
check_alone(int life, int no)
{
	const struct mail *m = &sim.mail[no];

	MUST(m->holder == life, "message %d is written about by who has it not", no);
	MUST(!m->ended, "message %d has ended, and is tried", no);
	for (int i = 0; i < sim.n_lives; i++) {
		struct owner_mem *mem = i == life || sim.lives[i].o == NULL ? NULL : mem_find(sim.lives[i].o, m->id);

		MUST(mem == NULL || mem->state != MSG_OPEN, "message %d has two owners", no);
	}
}

static void
on_attempt(int life, int no)
{
	check_alone(life, no);
	sim.mail[no].open_now = true;
}

static void
on_dot(int no)
{
	struct mail *m = &sim.mail[no];

	MUST(m->open_now, "the dot of message %d left before its attempt", no);
	MUST(m->dots == 0 || m->named, "message %d is delivered twice, and not named in doubt", no);
	m->dots++;
	m->named = false;
}

/* A next time: after now, and within what the schedule may say. */
static void
on_outcome(int life, int no, const struct spool_outcome *o)
{
	const struct mail *m = &sim.mail[no];
	struct sched_retry retry = delivery_retry(view_of(&sim.lives[life], m->queue));
	usec_t real = sim_real(), deadline = sched_deadline(&retry, m->received);
	usec_t most = real + S(retry.max_retry_interval > retry.retry_interval ? retry.max_retry_interval
									       : retry.retry_interval);

	check_alone(life, no);
	if (o->kind != OUTCOME_DEFERRED && o->kind != OUTCOME_DOUBTFUL)
		return;
	MUST(o->next_due >= real, "message %d is deferred into the past", no);
	MUST(o->next_due <= most && (o->next_due <= deadline || deadline < real),
	     "message %d has no next time before it expires", no);
}

static int new_mail(int queue, struct place place, msgid_t id, const char *sender);

static int
queue_named(struct slice binding, struct slice domain)
{
	for (int i = 0; i < QUEUES; i++)
		if (slice_eq(binding, slice_str(queues[i].binding)) && slice_eq(domain, slice_str(queues[i].domain)))
			return i;
	MUST(false, "a notice to nowhere");
	return 0;
}

/* The record is on disk, whoever learns of it. */
static void
on_landed(int life, const struct spool_txn *t, struct place place)
{
	if (t->notice) {
		int no = new_mail(queue_named(t->message.binding, t->message.domain), place, t->message.id, "");

		(void)append(life, (struct fact){ .what = FACT_MAIL, .mail = no });
	}
	for (unsigned i = 0; i < t->n; i++)
		if (t->facts[i].what == FACT_END && outcome_is_final(t->facts[i].kind))
			sim.mail[t->facts[i].mail].ended = true;
}

/* ---- journals and map, as SPOOL.md has them ---- */

static void
fold_mail(int no)
{
	struct mail *m = &sim.mail[no];

	if (m->in_map)
		return;
	m->in_map = true;
	m->due = m->received;
}

static void
fold_fact(const struct life_sim *l, const struct fact *f)
{
	struct mail *m = &sim.mail[f->mail];

	if (f->what == FACT_HAND)
		return;
	fold_mail(f->mail);
	if (f->what == FACT_TRY && f->n > m->tries && !m->over) {
		m->tries = f->n;
		m->open = l->writer;
		m->doubt = false;
	} else if (f->what == FACT_END && !m->over) {
		if (outcome_is_final(f->kind)) {
			m->over = true;
			m->open = 0;
		} else if (f->n >= m->tries) {
			m->tries = f->n;
			m->open = 0;
			m->due = f->due;
			m->doubt = f->kind == OUTCOME_DOUBTFUL;
		}
	}
}

static void
fold_one(struct life_sim *l)
{
	const struct fact *f = &l->facts[l->folded];

	if (f->what == FACT_HAND)
		l->handed = true;
	fold_fact(l, f);
	l->folded++;
}

static void
fold_life(struct life_sim *l)
{
	while (l->folded < l->n) {
		const struct fact *f = &l->facts[l->folded];
		struct mail *m = &sim.mail[f->mail];
		struct life_sim *home = f->what == FACT_HAND ? l : &sim.lives[m->place.seg - 1];

		while (home != l && home->folded <= m->place.off / 8)
			fold_one(home);
		fold_one(l);
	}
	if (l->alive || l->settled)
		return;
	l->settled = true;
	for (int i = 0; i < sim.n_live; i++) {
		struct mail *m = &sim.mail[sim.live[i]];

		if (m->open != l->writer)
			continue;
		m->open = 0;
		m->doubt = true;
	}
}

static bool
dirty(void)
{
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].folded < sim.lives[i].n || (!sim.lives[i].alive && !sim.lives[i].settled))
			return true;
	return false;
}

/* Messages that are over for the map are not looked at again. */
static void
forget_over(void)
{
	for (int i = 0; i < sim.n_live;) {
		struct mail *m = &sim.mail[sim.live[i]];

		if (m->over && m->ended && m->holder < 0)
			sim.live[i] = sim.live[--sim.n_live];
		else
			i++;
	}
}

/* The keeper folds some journals, not all, and commits; what is past its
 * deadline it tells the owner. */
static void
keeper(void)
{
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.calm || roll(3) > 0)
			fold_life(&sim.lives[i]);
	sim.commits++;
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL && roll(2) == 0)
			owner_on_doorbell(sim.lives[i].o);
	for (int i = 0; i < sim.n_live; i++) {
		struct mail *m = &sim.mail[sim.live[i]];
		struct sched_retry retry = retry_of(m->queue);

		if (m->in_map && !m->over && sched_deadline(&retry, m->received) <= sim_real())
			owner_due(sim.lives[sim.owner].o, m->id);
	}
	forget_over();
	sim.keeper = sim.now + S(60);
}

/* ---- the owner's world ---- */

static int
life_of_env(const struct owner_env *env)
{
	return (int)((const struct life_sim *)env->arg - sim.lives);
}

static void
world_run_cold(const struct owner_env *env, void (*fn)(void *), void (*done)(void *), void *job)
{
	for (int i = 0; i < COLD; i++)
		if (!sim.cold[i].used) {
			sim.cold[i] =
				(struct cold){ true, false, life_of_env(env), sim.now + MS(roll(30)), fn, done, job };
			return;
		}
	MUST(false, "too many cold jobs");
}

static bool
row_of(const struct mail *m, struct index_row *row)
{
	if (!m->in_map || m->over || sim.lives[m->place.seg - 1].folded * 8 <= m->place.off)
		return false;
	*row = (struct index_row){ .id = m->id,
				   .place = m->place,
				   .priority = m->priority,
				   .tries = m->tries,
				   .due = m->due,
				   .received_at = m->received,
				   .writer = m->open,
				   .state = m->open != 0 ? ROW_WORK
					    : m->doubt   ? ROW_DOUBT
							 : ROW_QUEUED,
				   .binding = slice_str(queues[m->queue].binding),
				   .domain = slice_str(queues[m->queue].domain) };
	return true;
}

static int
key_order(const struct index_queue_key *a, const struct index_queue_key *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->due != b->due)
		return a->due < b->due ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static bool
page_next(const struct look_page *p, struct index_row *best, struct index_queue_key *best_key)
{
	struct index_row row;

	best->id = 0;
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];
		struct index_queue_key k;

		if (hash_of(m->queue) != p->queue || !row_of(m, &row) || row.state == ROW_WORK || row.due > p->due_by)
			continue;
		k = index_row_key(&row);
		if (key_order(&k, &p->after) > 0 && (best->id == 0 || key_order(&k, best_key) < 0)) {
			*best = row;
			*best_key = k;
		}
	}
	return best->id != 0;
}

/* Five rows a page at most, so that pages are resumed. */
static void
look_page(struct look_page *p)
{
	struct index_row best;
	struct index_queue_key key;

	p->rows = mem_array(NULL, OWNER_PAGE, sizeof *p->rows);
	p->eof = true;
	while (page_next(p, &best, &key)) {
		if (p->n == 5) {
			p->eof = false;
			return;
		}
		best.binding = best.domain = slice_of(NULL, 0);
		p->rows[p->n++] = best;
		p->after = key;
	}
}

static void
look_wakes(struct owner_look *l)
{
	struct index_row row;
	usec_t due[QUEUES];

	l->wakes = mem_array(NULL, OWNER_WAKES, sizeof *l->wakes);
	for (int q = 0; q < QUEUES; q++)
		due[q] = INT64_MAX;
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];

		if (row_of(m, &row) && row.state != ROW_WORK && row.due < due[m->queue])
			due[m->queue] = row.due;
	}
	for (int q = 0; q < QUEUES; q++) {
		uint64_t hash = hash_of(q);

		if ((l->mine[hash % PARTITIONS / 64] >> (hash % 64) & 1) == 0)
			continue;
		if (due[q] <= l->now)
			l->wakes[l->n_wakes++] = (struct look_wake){ hash, due[q], mem_strdup(queues[q].binding),
								     mem_strdup(queues[q].domain) };
		else if (due[q] < l->next_wake)
			l->next_wake = due[q];
	}
}

static bool
before_through(void)
{
	for (int i = 0; i < sim.n_lives; i++) {
		const struct life_sim *l = &sim.lives[i];

		if (i != sim.owner && (l->alive ? !l->handed : !l->settled))
			return false;
	}
	return true;
}

static void
world_look(const struct owner_env *env, struct owner_look *l)
{
	struct index_row row;

	l->e = OK;
	l->meta = (struct index_meta){ .keeper = 1, .commits = sim.commits, .scanned_at = sim.now };
	l->keeper = 1;
	for (size_t i = 0; i < l->n_segs; i++)
		l->segs[i] = (struct look_seg){ .number = l->segs[i].number,
						.found = true,
						.folded = sim.lives[l->segs[i].number - 1].folded * 8 };
	for (size_t i = 0; i < l->n_pages; i++)
		look_page(&l->pages[i]);
	for (size_t i = 0; i < l->n_wants; i++)
		for (int k = 0; k < sim.n_live; k++)
			if (sim.mail[sim.live[k]].id == l->wants[i].id && row_of(&sim.mail[sim.live[k]], &row))
				l->wants[i].row = index_row_dup(&row);
	if (l->scan)
		look_wakes(l);
	l->adopted = l->adopt && life_of_env(env) == sim.owner && before_through();
}

static enum err
world_write(const struct owner_env *env, const struct owner_fact *f, owner_written *done, void *arg)
{
	int life = life_of_env(env);
	struct place place;

	MUST(f->kind == FACT_HANDOVER, "an edit that nobody asked for");
	place = append(life, (struct fact){ .what = FACT_HAND });
	for (int i = 0; i < COLD; i++)
		if (!sim.written[i].used) {
			sim.written[i] = (struct written){ true, life, sim.now + MS(1 + roll(10)), place, done, arg };
			return OK;
		}
	return ERR_FULL;
}

static void
world_peek(const struct owner_env *env, msgid_t id, struct place place, uint16_t item, owner_peeked *done, void *arg)
{
	int no = mail_no(id);

	(void)env;
	(void)place;
	(void)item;
	done(arg, OK, slice_str(queues[sim.mail[no].queue].binding), slice_str(queues[sim.mail[no].queue].domain));
}

static const struct owner_world world = { world_run_cold, world_look, world_write, world_peek };

/* ---- processes ---- */

static void on_made(void *arg, const struct delivery_made *made);

static void
open_delivery(struct life_sim *l)
{
	struct delivery_env env = { .loop = &sim.loop,
				    .conf = l->conf,
				    .spool = &l->spool,
				    .owner = l->o,
				    .resolver = (struct resolver *)&sim,
				    .area = sim.area,
				    .limits = shm_area_limits(sim.area),
				    .slot = l->slot,
				    .made = on_made,
				    .arg = l };

	l->d = delivery_new(&env);
	for (int b = 0; b < 2; b++)
		if (sim.suspended[b])
			owner_suspend(l->o, b == 0 ? SLICE("b1") : SLICE("b2"), STATE_SUSPENDED);
}

static void
begin_life(uint32_t generation, int slot, struct conf *conf)
{
	struct life_sim *l = &sim.lives[sim.n_lives];
	uint8_t owner[PARTITIONS];

	*l = (struct life_sim){ .slot = slot, .alive = true, .conf = conf, .spool.life = sim.n_lives };
	l->spool.txns_end = &l->spool.txns;
	l->spool.fetches_end = &l->spool.fetches;
	shm_slot_take(sim.area, slot, ROLE_WORKER, generation, &l->writer);
	memset(owner, slot, sizeof owner);
	partitions_publish(sim.area, generation, owner);
	l->env = (struct owner_env){
		.area = sim.area, .slot = slot, .writer = l->writer, .generation = generation, .world = &world, .arg = l
	};
	l->o = owner_new(&l->env);
	sim.owner = sim.n_lives++;
	sim.generation = generation;
	open_delivery(l);
}

static void
end_life(int no)
{
	struct life_sim *l = &sim.lives[no];

	delivery_free(&l->d);
	spool_die(&l->spool);
	for (int i = 0; i < COLD; i++) {
		struct cold *c = &sim.cold[i];

		if (c->used && c->life == no) { /* the look is freed by its own callback */
			if (!c->read)
				c->fn(c->job);
			c->done(c->job);
			c->used = false;
		}
		if (sim.written[i].used && sim.written[i].life == no)
			sim.written[i].used = false;
	}
	owner_free(&l->o);
	l->alive = false;
	for (int i = 0; i < sim.mails; i++)
		if (sim.mail[i].holder == no) {
			sim.mail[i].holder = -1;
			sim.mail[i].since = 0;
		}
	shm_slot_reap(sim.area, l->slot, 9, false);
}

/* ---- what happens in a year ---- */

static int
new_mail(int queue, struct place place, msgid_t id, const char *sender)
{
	struct mail *m = &sim.mail[sim.mails];

	MUST(sim.mails < MAILS, "more mail than was planned");
	*m = (struct mail){ .id = id,
			    .queue = queue,
			    .priority = sim.calm ? 0 : roll(8) == 0,
			    .received = sim_real(),
			    .place = place,
			    .sender = sender,
			    .perm = roll(20) == 0 && sender[0] != '\0',
			    .holder = -1 };
	sim.live[sim.n_live++] = sim.mails;
	return sim.mails++;
}

static void
tell(const struct mail *m)
{
	struct owner_news n = { .id = m->id,
				.place = m->place,
				.priority = m->priority,
				.received_at = m->received,
				.binding = slice_str(queues[m->queue].binding),
				.domain = slice_str(queues[m->queue].domain) };

	owner_tell(sim.lives[sim.owner].o, &n);
}

/* A notice is told like other mail, or the hint is lost. */
static void
on_made(void *arg, const struct delivery_made *made)
{
	(void)arg;
	if (roll(4) > 0)
		tell(&sim.mail[mail_no(made->id)]);
}

static usec_t
some_time(usec_t least, usec_t most)
{
	return least + (usec_t)roll((uint64_t)(most - least));
}

/* A burst: a few to anybody, or many to one. Some hints are lost, some come
 * again, of any message. */
static void
arrive(void)
{
	bool flood = roll(6) == 0;
	int n = flood ? 15 + (int)roll(15) : 1 + (int)roll(3), to = (int)roll(QUEUES);

	sim.arrival = sim.now + some_time(H(1), D(9));
	for (int i = 0; i < n && sim.mails < MAILS - 100; i++) {
		int no = new_mail(flood ? to : (int)roll(QUEUES), (struct place){ 0, 0 }, id_at(sim_real()) + ++sim.ids,
				  roll(2) == 0 ? "" : "a@d5.test");
		struct mail *m = &sim.mail[no];

		m->place = append(sim.owner, (struct fact){ .what = FACT_MAIL, .mail = no });
		if (roll(4) > 0)
			tell(m);
		if (roll(4) == 0)
			tell(&sim.mail[sim.live[roll((uint64_t)sim.n_live)]]);
	}
}

static void
far_changes(struct far *f)
{
	bool good = f->mode != UP || sim.calm;

	f->mode = good ? UP : (enum mode)(1 + roll(MODES - 1));
	f->until = sim.calm ? INT64_MAX : good ? sim.now + some_time(H(6), D(20)) : sim.now + some_time(S(600), D(4));
}

static void
new_generation(void)
{
	struct life_sim *l = &sim.lives[sim.owner];

	begin_life(sim.generation + 1, l->slot % 60 + 1, confs[roll(VARIANTS)]);
	l->draining = true;
	owner_drain(l->o, NULL, NULL);
	delivery_drain(l->d);
}

static void
suspend_or_resume(int b)
{
	sim.suspended[b] = !sim.suspended[b];
	for (int i = 0; i < sim.n_lives; i++)
		if (sim.lives[i].o != NULL)
			owner_suspend(sim.lives[i].o, b == 0 ? SLICE("b1") : SLICE("b2"),
				      sim.suspended[b] ? STATE_SUSPENDED : STATE_RESUMED);
	for (int i = 0; i < sim.n_live; i++)
		sim.mail[sim.live[i]].since = sim.mail[sim.live[i]].holder < 0 ? 0 : sim.mail[sim.live[i]].since;
}

static void
trouble(void)
{
	struct life_sim *l = &sim.lives[sim.owner];
	int slot = l->slot;
	struct conf *conf = l->conf;

	sim.trouble = sim.now + some_time(H(2), D(14));
	if (sim.calm)
		return;
	switch (roll(6)) {
	case 0:
		if (sim.n_lives < LIVES) {
			end_life(sim.owner);
			begin_life(sim.generation, slot, conf);
		}
		break;
	case 1:
		if (sim.n_lives < LIVES)
			new_generation();
		break;
	case 2: /* a revision, in place */
		l->conf = confs[roll(VARIANTS)];
		delivery_set_conf(l->d, l->conf);
		owner_reconf(l->o);
		break;
	case 3:
	case 4:
		suspend_or_resume((int)roll(2));
		break;
	default: /* the clock is set */
		sim.real += roll(2) == 0 ? some_time(S(1), H(6)) : -some_time(S(1), H(6));
	}
}

/* ---- time ---- */

static void
sooner(usec_t *next, usec_t at)
{
	if (at < *next)
		*next = at;
}

/* When a message comes due, or expires, the world moves although nobody does.
 */
static void
mails_next(usec_t *next)
{
	for (int i = 0; i < sim.n_live; i++) {
		const struct mail *m = &sim.mail[sim.live[i]];
		struct sched_retry retry = retry_of(m->queue);
		usec_t due = m->due - sim.real, end = sched_deadline(&retry, m->received) - sim.real;

		if (m->ended)
			continue;
		if (due > sim.now)
			sooner(next, due);
		if (end > sim.now)
			sooner(next, end);
	}
}

static usec_t
owners_next(void)
{
	usec_t next = INT64_MAX;

	for (int i = 0; i < sim.n_lives; i++) {
		struct life_sim *l = &sim.lives[i];
		usec_t at = l->o == NULL ? INT64_MAX : owner_next(l->o);

		if (l->o != NULL && l->o->adopted && sim.polls >= POLLS && at > sim.now && at <= sim.now + S(1))
			continue;
		sooner(&next, at);
	}
	return next;
}

static usec_t
next_event(void)
{
	usec_t next = sim.arrival;

	sooner(&next, sim.trouble);
	if (dirty() || sim.n_live > 0)
		sooner(&next, sim.keeper);
	for (int i = 0; i < HOSTS; i++)
		sooner(&next, sim.far[i].until);
	for (unsigned i = 0; i < sim.loop.n; i++)
		sooner(&next, sim.loop.timers[i]->at);
	for (int i = 0; i < CLIENTS; i++)
		if (sim.clients[i].used)
			sooner(&next, sim.clients[i].when);
	for (struct resolver_query *q = sim.queries; q != NULL; q = q->next)
		sooner(&next, q->when);
	for (int i = 0; i < COLD; i++) {
		if (sim.cold[i].used)
			sooner(&next, sim.cold[i].when);
		if (sim.written[i].used)
			sooner(&next, sim.written[i].when);
	}
	for (int i = 0; i < sim.n_lives; i++) {
		if (sim.lives[i].spool.txns != NULL)
			sooner(&next, sim.lives[i].spool.txns->when);
		if (sim.lives[i].spool.fetches != NULL)
			sooner(&next, sim.lives[i].spool.fetches->when);
	}
	mails_next(&next);
	sooner(&next, owners_next());
	return next;
}

static void
run_cold(struct cold *c)
{
	if (!c->read) { /* read now, given later: the snapshot ages on its way */
		c->fn(c->job);
		c->read = true;
		c->when = sim.now + MS(roll(20));
		return;
	}
	c->used = false;
	c->done(c->job);
}

/* ---- what is seen to, at every step ---- */

static void
check_starving(struct life_sim *l)
{
	struct owner_queue *q;

	if (l->draining)
		return;
	for (q = queues_next(l->o, NULL); q != NULL; q = queues_next(l->o, q)) {
		bool showable =
			q->sched.n_ready > 0 && !q->sched.suspended && q->sched.wait_until == 0 && q->sched.in_round;
		int no = 0;

		while (hash_of(no) != q->hash)
			no++;
		if (!showable)
			l->since[no] = 0;
		else if (l->since[no] == 0)
			l->since[no] = sim.now;
		MUST(l->since[no] == 0 || sim.now - l->since[no] < S(PATIENCE), "queue %d starves", no);
	}
}

/* Whoever had it has given it back: its owner has it no more in delivery's
 * hands. */
static void
see_holder(struct mail *m)
{
	struct owner_mem *mem;

	if (m->holder < 0)
		return;
	mem = mem_find(sim.lives[m->holder].o, m->id);
	if (mem != NULL && (mem->state == MSG_TAKEN || mem->state == MSG_OPEN))
		return;
	m->holder = -1;
	m->since = 0;
	m->open_now = false;
}

static void
check_mail(int no)
{
	struct mail *m = &sim.mail[no];
	struct sched_retry retry = retry_of(m->queue);
	usec_t real = sim_real();

	see_holder(m);
	if (m->ended)
		return;
	if (m->holder >= 0) {
		MUST(sim.now - m->since < S(HELD), "message %d is held and nothing becomes of it", no);
	} else if (real < m->due || is_suspended(m->queue)) {
		m->since = 0;
	} else if (m->since == 0) {
		m->since = sim.now;
	} else {
		MUST(sim.now - m->since < S(RIPE),
		     "message %d of queue %d, tried %u times, is due, and nobody takes it", no, m->queue, m->tries);
	}
	if (real < sched_deadline(&retry, m->received))
		m->late = 0;
	else if (m->late == 0)
		m->late = sim.now;
	MUST(m->late == 0 || sim.now - m->late < S(LATE), "message %d outlives its deadline", no);
}

static void
run_owner(int i)
{
	struct life_sim *l = &sim.lives[i];

	if (l->o == NULL)
		return;
	owner_run(l->o);
	loop_run_later();
	check_starving(l);
	if (l->draining && delivery_idle(l->d) && l->spool.txns == NULL)
		end_life(i);
}

static void
run_due(void)
{
	for (int i = 0; i < COLD; i++) {
		if (sim.cold[i].used && sim.cold[i].when <= sim.now)
			run_cold(&sim.cold[i]);
		if (sim.written[i].used && sim.written[i].when <= sim.now) {
			sim.written[i].used = false;
			sim.written[i].done(sim.written[i].arg, OK, sim.written[i].place);
		}
	}
	queries_run();
	for (int i = 0; i < sim.n_lives; i++) {
		spool_run_fetched(&sim.lives[i].spool);
		spool_run_synced(&sim.lives[i].spool);
	}
	for (int i = 0; i < CLIENTS; i++)
		if (sim.clients[i].used && sim.clients[i].when <= sim.now)
			client_run(&sim.clients[i]);
	loop_run_timers();
	loop_run_later();
}

static void
run_world(void)
{
	bool was_dirty = dirty();

	for (int i = 0; i < HOSTS; i++)
		if (sim.far[i].until <= sim.now)
			far_changes(&sim.far[i]);
	if (sim.arrival <= sim.now) {
		arrive();
		sim.polls = 0;
	}
	if (sim.trouble <= sim.now) {
		trouble();
		sim.polls = 0;
	}
	if (sim.keeper <= sim.now) {
		keeper();
		sim.polls = was_dirty ? 0 : sim.polls;
	}
	if (dirty() && sim.keeper > sim.now + MS(2500))
		sim.keeper = sim.now + MS(5 + roll(sim.calm ? 50 : 2500));
}

static void
step(void)
{
	usec_t next = next_event();

	MUST(++sim.steps < STEPS_MAX, "it never ends");
	sim.now = next > sim.now ? next : sim.now + 1;
	sim.polls++;
	run_due();
	run_world();
	for (int i = 0; i < sim.n_lives; i++)
		run_owner(i);
	for (int i = 0; i < sim.n_live; i++)
		check_mail(sim.live[i]);
}

static bool
all_ended(void)
{
	for (int i = 0; i < sim.mails; i++)
		if (!sim.mail[i].ended)
			return false;
	return true;
}

static void
begin_calm(void)
{
	sim.calm = true;
	sim.arrival = sim.trouble = INT64_MAX;
	for (int b = 0; b < 2; b++)
		if (sim.suspended[b])
			suspend_or_resume(b);
	for (int i = 0; i < HOSTS; i++)
		far_changes(&sim.far[i]);
}

static void
one_year(uint64_t seed, struct shm_area *area)
{
	memset(&sim, 0, sizeof sim);
	sim.seed = seed;
	sim.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	sim.real = INT64_C(1700000000) * USEC_PER_SEC;
	sim.now = S(10) + (usec_t)seed * D(500); /* limits of the seed before are long past */
	sim.area = area;
	TAILQ_INIT(&sim.loop.later);
	sim.keeper = sim.arrival = sim.now;
	sim.trouble = sim.now + some_time(H(1), D(5));
	for (int i = 0; i < HOSTS; i++)
		sim.far[i].until = sim.now + some_time(H(1), D(10));
	usec_t end = sim.now + D(YEAR);

	begin_life(1, 1, confs[0]);
	while (sim.now < end)
		step();
	begin_calm();
	while (!all_ended()) {
		step();
		MUST(sim.now < end + D(10), "not all of the mail ends");
	}
	for (int i = 0; i < sim.n_lives; i++) {
		if (sim.lives[i].o != NULL)
			end_life(i);
		free(sim.lives[i].facts);
	}
	MUST(sim.queries == NULL && sim.loop.n == 0, "something is left behind");
}

static void
load_confs(void)
{
	static struct opt_table tables[2];

	tables[0] = delivery_options;
	tables[1] = extra;
	for (int i = 0; i < VARIANTS; i++) {
		struct conf_source src = { .path = "year.conf",
					   .text = slice_str(texts[i]),
					   .tables = tables,
					   .n_tables = 2,
					   .no_files = true };
		struct conf_errors errs = { 0 };

		confs[i] = conf_load(&src, &errs);
		for (size_t k = 0; k < errs.n; k++)
			print_message("%u:%u: %s\n", errs.v[k].line, errs.v[k].column, errs.v[k].text);
		assert_non_null(confs[i]);
		conf_errors_fini(&errs);
	}
}

static void
years(void **state)
{
	const char *n = getenv("YEAR_SEEDS"), *first = getenv("YEAR_FIRST");
	uint64_t from = first == NULL ? 1 : strtoull(first, NULL, 10), count = n == NULL ? 25 : strtoull(n, NULL, 10);
	uint64_t mails = 0, sends = 0, steps = 0;
	struct shm_area *area = shm_area_new();

	(void)state;
	assert_non_null(area);
	log_set_level(LOG_LVL_FATAL);
	load_confs();
	clock_set_source(sim_mono, sim_real);
	for (uint64_t s = from; s < from + count; s++) {
		one_year(s, area);
		mails += (uint64_t)sim.mails;
		sends += sim.sends;
		steps += sim.steps;
	}
	clock_set_source(NULL, NULL);
	print_message("%llu years: %llu messages, %llu transactions, %llu steps\n", (unsigned long long)count,
		      (unsigned long long)mails, (unsigned long long)sends, (unsigned long long)steps);
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
