/* A new revision and generation, built beside what serves. Until the new workers serve, nothing that exists is
 * changed: every failure on the way throws away only what is new. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/master_int.h"
#include "policy/conf/conf.h"
#include "shm/base/log.h"

#define STARTING_TIME (20 * USEC_PER_SEC)
enum { CONSOLE_SECONDS = 5, DIES_YOUNG_MAX = 3, REPORT_MAX = 8192 };

/* ---- a generation ---- */

static int
free_slot(const struct master *m, enum role role)
{
	const struct role_row *row = role_row(role);

	for (int i = row->first_slot; i < row->first_slot + row->slots; i++)
		if (m->seats[i].state == SEAT_EMPTY)
			return i;
	return -1;
}

static void
take_seat(struct master *m, int slot, struct revision *rev, uint32_t generation)
{
	struct seat *s = &m->seats[slot];

	s->wanted = true;
	s->generation = generation;
	s->rev = rev;
	s->died_young = 0;
	seat_start(m, slot);
}

static unsigned
free_slots(const struct master *m, enum role role)
{
	const struct role_row *row = role_row(role);
	unsigned n = 0;

	for (int i = row->first_slot; i < row->first_slot + row->slots; i++)
		n += m->seats[i].state == SEAT_EMPTY;
	return n;
}

bool
generation_start(struct master *m, struct revision *rev, uint32_t generation)
{
	if (free_slots(m, ROLE_WORKER) < rev->workers || free_slots(m, ROLE_CONSOLE) < 1)
		return false;
	for (unsigned i = 0; i < rev->workers; i++)
		take_seat(m, free_slot(m, ROLE_WORKER), rev, generation);
	take_seat(m, free_slot(m, ROLE_CONSOLE), rev, generation);
	return true;
}

/* ---- the report ---- */

static void
tell(void *arg, enum log_level level, const char *text)
{
	struct master *m = arg;

	log_line(level, "config", "%s", text);
	if (m->reload.report.n < REPORT_MAX)
		bytes_addf(&m->reload.report, "%s\n", text);
}

static void
tell_errors_only(void *arg, enum log_level level, const char *text)
{
	if (level <= LOG_LVL_ERROR)
		tell(arg, level, text);
}

/* The end of a reload, good or bad: who asked is answered. */
static void
finish(struct master *m, enum err status, const char *text)
{
	struct reload *r = &m->reload;

	r->state = RELOAD_NONE;
	tell(m, status == OK ? LOG_LVL_INFO : LOG_LVL_ERROR, text);
	if (r->asked)
		switchboard_answer(m, r->asker, &r->question, status, slice_bytes(&r->report));
	r->asked = false;
	bytes_fini(&r->report);
}

/* ---- begin: the trial ---- */

void
reload_begin(struct master *m, int slot, const struct req_head *asked)
{
	struct reload *r = &m->reload;
	struct trial_spec spec = { .path = m->conf_path };

	if (m->phase != MASTER_SERVING || r->state != RELOAD_NONE) {
		if (asked == NULL)
			r->again = m->phase <= MASTER_SERVING;
		else
			switchboard_answer(m, m->seats[slot].serial, asked, ERR_STATE,
					   SLICE("a reload, a start or a stop is under way\n"));
		return;
	}
	r->again = false;
	r->asked = asked != NULL;
	if (asked != NULL) {
		r->question = *asked;
		r->asker = m->seats[slot].serial;
	}
	log_info("master", "reload: %s is tried", m->conf_path);
	if (trial_begin(&r->trial, &spec, tell, m) != OK) {
		finish(m, ERR_NOMEM, "reload: the trial cannot be started; nothing has changed");
		return;
	}
	r->state = RELOAD_TRIAL;
}

/* ---- the new generation ---- */

static void
keep_fixed(struct master *m, struct revision *next)
{
	if (strcmp(conf_str(conf_global(next->conf), OPT_SPOOLBASE), m->spool_path) != 0)
		tell(m, LOG_LVL_WARN, "spoolbase has changed: that needs a restart, the old one stays");
	if (next->id.uid != m->id.uid || next->id.gid != m->id.gid || strcmp(next->id.chroot, m->id.chroot) != 0)
		tell(m, LOG_LVL_WARN, "the security stanza has changed: that needs a restart, the old one stays");
	next->id = m->id;
}

static void
start_next(struct master *m)
{
	struct reload *r = &m->reload;
	struct bytes why = { 0 };
	enum err e;

	r->next = revision_load(m->conf_path, false, tell_errors_only, m);
	if (r->next == NULL) {
		finish(m, ERR_SYNTAX, "reload: the configuration cannot be used; nothing has changed");
		return;
	}
	keep_fixed(m, r->next);
	r->next->number = m->rev->number + 1;
	e = listeners_open(r->next->conf, &m->id, &m->rev->listeners, &r->next->listeners, &why);
	if (e != OK)
		tell(m, LOG_LVL_ERROR, bytes_cstr(&why));
	else if (!generation_start(m, r->next, m->last_generation + 1))
		tell(m, LOG_LVL_ERROR, "too many earlier generations still drain");
	else
		r->state = RELOAD_STARTING;
	bytes_fini(&why);
	if (r->state == RELOAD_STARTING) {
		m->last_generation++;
		r->until = clock_mono() + STARTING_TIME;
		return;
	}
	revision_free(&r->next, m->rev);
	finish(m, e != OK ? e : ERR_FULL, "reload: the new generation cannot start; nothing has changed");
}

void
reload_trial_ended(struct master *m, int status)
{
	bool good = trial_ended(&m->reload.trial, status);

	if (m->reload.state != RELOAD_TRIAL)
		return;
	if (good)
		start_next(m);
	else
		finish(m, ERR_SYNTAX, "reload: the configuration cannot be used; nothing has changed");
}

/* ---- its success or failure ---- */

static void
throw_away(struct master *m)
{
	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].rev == m->reload.next) {
			seat_stop(m, i);
			m->seats[i].rev = m->rev;
		}
	revision_free(&m->reload.next, m->rev);
}

/* The keeper is one: its successor comes when it has ended. Mail flows on meanwhile. */
static void
renew_keeper(struct master *m)
{
	struct seat *s = &m->seats[SLOT_KEEPER];

	seat_drain(m, SLOT_KEEPER, 10);
	s->wanted = true;
	if (s->state == SEAT_EMPTY) {
		s->generation = m->generation;
		s->state = SEAT_WAITING;
		s->respawn_at = clock_mono();
	}
}

/* Workers have the configured time for their sessions; a console only ends a command. */
static void
drain_old(struct master *m)
{
	unsigned seconds = (unsigned)conf_int(conf_global(m->rev->conf), OPT_DRAIN_TIMEOUT);

	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].state != SEAT_EMPTY && i != SLOT_KEEPER && m->seats[i].generation != m->generation &&
		    m->seats[i].kill_at == 0)
			seat_drain(m, i, role_of_slot(i)->partitions ? seconds : CONSOLE_SECONDS);
}

static void
announce(struct master *m)
{
	struct area_now now;

	area_get_now(m->area, &now);
	now.generation = m->generation;
	now.revision = m->rev->number;
	now.configured_real = clock_real();
	area_set_now(m->area, &now);
}

static void
succeed(struct master *m)
{
	struct revision *old = m->rev;
	char text[128];

	m->rev = m->reload.next;
	m->reload.next = NULL;
	m->generation = m->last_generation;
	for (int i = 0; i < SLOTS_MAX; i++)
		m->seats[i].rev = m->rev;
	revision_free(&old, m->rev);
	announce(m);
	supervise_share_partitions(m);
	snprintf(text, sizeof(text), "reload: revision %u serves, generation %u", (unsigned)m->rev->number,
		 (unsigned)m->generation);
	finish(m, OK, text);
	drain_old(m);
	renew_keeper(m);
	master_reopen_logs(m);
}

static bool
dies_young(const struct master *m)
{
	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].rev == m->reload.next && m->seats[i].died_young >= DIES_YOUNG_MAX)
			return true;
	return false;
}

void
reload_tick(struct master *m, usec_t now)
{
	struct reload *r = &m->reload;

	if (r->state == RELOAD_TRIAL && now > r->trial.until) {
		trial_cancel(&r->trial);
		finish(m, ERR_TIMEOUT, "reload: the trial of the configuration does not end; nothing has changed");
	}
	if (r->state == RELOAD_STARTING) {
		if (seats_ready(m, ROLE_WORKER, m->last_generation) == r->next->workers &&
		    seats_ready(m, ROLE_CONSOLE, m->last_generation) == 1) {
			succeed(m);
		} else if (now > r->until || dies_young(m)) {
			throw_away(m);
			finish(m, ERR_TIMEOUT, "reload: the new generation does not come up; the old one serves on");
		}
	}
	if (r->state == RELOAD_NONE && r->again && m->phase == MASTER_SERVING)
		reload_begin(m, 0, NULL);
}

void
reload_cancel(struct master *m)
{
	struct reload *r = &m->reload;

	r->again = false;
	if (r->state == RELOAD_NONE)
		return;
	trial_cancel(&r->trial);
	if (r->next != NULL)
		throw_away(m);
	finish(m, ERR_STATE, "reload: given up, for the end has come");
}
