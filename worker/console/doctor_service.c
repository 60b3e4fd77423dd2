/* doctor_service.c - processes, limits, logs, clock */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "policy/conf/conf.h"
#include "worker/console/doctor.h"
#include "worker/log/ec_logger.h"

enum {
	RECENT_S = 3600,  /* a death counts for so long */
	TAKE_OVER_S = 15, /* the old keeper has 10 to end, its successor is there soon after */
	STEP_MS = 1000,   /* the real clock may drift that much */
	NEAR_PERCENT = 80,
	FULL_PERCENT = 95, /* of a bound */
};

/* ---- a generation takes over ---- */

bool
doctor_takes_over(const struct role_env *env)
{
	struct area_now now;
	struct slot_who who;
	usec_t past;

	area_get_now(env->area, &now);
	past = clock_real() - now.configured_real;
	if (now.generation > 1 && past >= 0 && past < TAKE_OVER_S * USEC_PER_SEC)
		return true;
	for (int i = 0; i < SLOTS_MAX; i++)
		if (slot_who(shm_slot(env->area, i), &who) && who.generation > now.generation)
			return true;
	return false;
}

/* ---- processes ---- */

struct census {
	unsigned workers, keepers, slow;
	int slowest;        /* slot of it */
	usec_t oldest_beat; /* its age */
};

static void
count_slots(struct doctor *d, struct census *n)
{
	const struct role_env *env = d->c->console->env;
	usec_t now = clock_mono();
	usec_t bound = conf_int(conf_global(env->conf), OPT_WATCHDOG_INTERVAL) * USEC_PER_SEC / 2;

	*n = (struct census){ .slowest = -1 };
	for (int i = 0; i < SLOTS_MAX; i++) {
		struct shm_slot *slot = shm_slot(env->area, i);
		struct slot_who who;
		usec_t age;

		if (!slot_who(slot, &who) || who.state == SLOT_FREE)
			continue;
		n->workers += who.role == ROLE_WORKER && who.state == SLOT_SERVING;
		n->keepers += who.role == ROLE_KEEPER && who.state == SLOT_SERVING;
		age = now - (slot_heartbeat(slot) > who.born ? slot_heartbeat(slot) : who.born);
		n->slow += age > bound;
		if (age > n->oldest_beat) {
			n->oldest_beat = age;
			n->slowest = i;
		}
	}
}

/* Deaths by a signal that nobody asked for; the newest in *last. */
static unsigned
count_deaths(const struct shm_area *a, struct life *last)
{
	uint64_t next = lives_next(a), first = next > LIVES_KEPT ? next - LIVES_KEPT : 1;
	usec_t since = clock_mono() - RECENT_S * USEC_PER_SEC;
	unsigned n = 0;

	for (uint64_t serial = first; serial < next; serial++) {
		struct life life;

		if (!life_get(a, serial, &life) || !life.ended || life.signo == 0 || life.ended_mono < since)
			continue;
		if (n++ == 0 || life.ended_mono > last->ended_mono)
			*last = life;
	}
	return n;
}

static void
restarts(struct doctor *d)
{
	struct life last = { .serial = 0 };
	unsigned n = count_deaths(d->c->console->env->area, &last);

	if (n == 0)
		doctor_say(d, "restarts", DOCTOR_OK, "", "no process has died within the hour");
	else
		doctor_say(d, "restarts", DOCTOR_WARNING, "the paniclog says what each was working on",
			   "%u within the hour; the last: %s %d by signal %d, %lld s ago", n, role_name(last.role),
			   last.pid, last.signo, (long long)((clock_mono() - last.ended_mono) / USEC_PER_SEC));
}

void
doctor_processes(struct doctor *d)
{
	const struct role_env *env = d->c->console->env;
	struct census n;
	enum doctor_grade g = DOCTOR_OK;

	count_slots(d, &n);
	if (!d->taking_over && (n.workers == 0 || n.keepers == 0))
		g = DOCTOR_CRITICAL;
	else if (n.workers < env->workers || n.slow > 0)
		g = DOCTOR_WARNING;
	doctor_say(d, "processes", g,
		   n.slow > 0 ? "the watchdog ends a process that stays silent, and names its work in the paniclog"
			      : "they come back by themselves; if not, the paniclog says why",
		   "%u of %u workers and %u keeper serve%s; the longest silence is %lld ms (slot %d)", n.workers,
		   env->workers, n.keepers, d->taking_over ? ", a new generation takes over" : "",
		   (long long)(n.oldest_beat / USEC_PER_MS), n.slowest);
	restarts(d);
}

/* ---- limits ---- */

static enum doctor_grade
near(uint64_t n, uint64_t bound)
{
	if (bound == 0 || n * 100 < bound * NEAR_PERCENT)
		return DOCTOR_OK;
	return n * 100 < bound * FULL_PERCENT ? DOCTOR_WARNING : DOCTOR_CRITICAL;
}

/* A session in costs one, a connection out one, and a few each process. */
static void
descriptors(struct doctor *d)
{
	const struct role_env *env = d->c->console->env;
	struct rlimit most;
	uint64_t worst = 0;

	if (getrlimit(RLIMIT_NOFILE, &most) != 0)
		return;
	for (int i = 0; i < SLOTS_MAX; i++) {
		struct shm_slot *slot = shm_slot(env->area, i);
		struct slot_who who;
		int64_t n;

		if (!slot_who(slot, &who) || who.role != ROLE_WORKER)
			continue;
		n = slot_get(slot, CELL_SESSIONS_IN) + slot_get(slot, CELL_SESSIONS_OUT);
		worst = n > 0 && (uint64_t)n > worst ? (uint64_t)n : worst;
	}
	doctor_say(d, "descriptors", near(worst, most.rlim_cur),
		   "raise the limit of open files (LimitNOFILE), start more workers, or bound the sessions",
		   "%llu sessions in the busiest worker, %llu descriptors a process", (unsigned long long)worst,
		   (unsigned long long)most.rlim_cur);
}

/* The smallest bound that an SMTP listener has; 0: none. */
static uint64_t
sessions_bound(const struct conf *conf)
{
	uint64_t least = 0;

	for (size_t i = 0; i < conf_listen_count(conf); i++) {
		const struct conf_listen *l = conf_listen_at(conf, i);
		int64_t n = l->kind == LISTEN_ESMTP ? conf_int(l->view, OPT_SERVICE_SESSIONS) : 0;

		if (n > 0 && (least == 0 || (uint64_t)n < least))
			least = (uint64_t)n;
	}
	return least;
}

static void
sessions(struct doctor *d, const char *check, enum cell cell, uint64_t bound, const char *option)
{
	int64_t n = shm_total(d->c->console->env->area, cell);
	uint64_t is = n > 0 ? (uint64_t)n : 0;

	if (bound == 0)
		doctor_say(d, check, DOCTOR_OK, "", "%llu, %s sets no bound", (unsigned long long)is, option);
	else
		doctor_say(d, check, near(is, bound), "raise the bound if this is no attack", "%llu, %s is %llu",
			   (unsigned long long)is, option, (unsigned long long)bound);
}

void
doctor_limits(struct doctor *d)
{
	const struct conf *conf = d->c->console->env->conf;

	descriptors(d);
	sessions(d, "sessions_in", CELL_SESSIONS_IN, sessions_bound(conf), "service_sessions");
	sessions(d, "sessions_out", CELL_SESSIONS_OUT,
		 (uint64_t)conf_int(conf_global(conf), OPT_SERVER_MAX_OUTBOUND_CONNECTIONS),
		 "server_max_outbound_connections");
}

/* ---- logs ---- */

static bool
log_ok(struct doctor *d, enum eclog_file file, const char *name)
{
	int fd = eclog_fd(d->c->console->log, file);
	struct statvfs v;
	struct stat st;

	if (fd < 0)
		return true; /* not configured */
	if (fstat(fd, &st) != 0 || (S_ISREG(st.st_mode) && st.st_nlink == 0)) {
		doctor_say(d, "logs", DOCTOR_WARNING, "impetusctl reopen logs", "%s: its file was removed", name);
		return false;
	}
	if (S_ISREG(st.st_mode) && fstatvfs(fd, &v) == 0 && v.f_bavail < v.f_blocks / 100) {
		doctor_say(d, "logs", DOCTOR_WARNING, "make room: lines are lost, mail is not",
			   "%s: less than 1 %% of its disk is free", name);
		return false;
	}
	return true;
}

void
doctor_logs(struct doctor *d)
{
	int64_t lost = shm_total(d->c->console->env->area, CELL_LOG_DROPPED);

	if (!log_ok(d, ECLOG_MAIN, "mainlog") || !log_ok(d, ECLOG_REJECT, "rejectlog") ||
	    !log_ok(d, ECLOG_PANIC, "paniclog"))
		return;
	doctor_say(d, "logs", lost > 0 ? DOCTOR_WARNING : DOCTOR_OK,
		   "the disk of the logs was full or too slow: look at it", "writable, %lld lines lost",
		   (long long)lost);
}

/* ---- clock ---- */

void
doctor_clock(struct doctor *d)
{
	struct console *k = d->c->console;
	long long step = (long long)((clock_real() - clock_mono() - k->clock_offset) / USEC_PER_MS), ahead = 0;
	struct index_meta m;
	struct index_txn *t;

	if (index_begin(k->index, &t) == OK) {
		if (index_meta(t, &m) == OK && m.highest_id != 0)
			ahead = (long long)((id_time(m.highest_id) - clock_real()) / USEC_PER_MS);
		index_end(&t);
	}
	doctor_say(d, "clock", step > STEP_MS || step < -STEP_MS || ahead > STEP_MS ? DOCTOR_WARNING : DOCTOR_OK,
		   "let the clock run even (chrony slews); retry times are as of the clock then",
		   "moved by %lld ms against the monotonic one since the console began; ids are %lld ms ahead of it",
		   step, ahead > 0 ? ahead : 0);
}
