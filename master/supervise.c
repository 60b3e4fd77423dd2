/* Children: forked into a seat, watched, reaped, started again. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/child.h"
#include "master/master_int.h"
#include "policy/conf/conf.h"
#include "shm/base/log.h"
#include "shm/shm_inbox.h"

/* Lived less than that: it died young, and its seat (only its) waits before the next try: 250, 500, 1000, 2000 ms. */
#define YOUNG          (2 * USEC_PER_SEC)
#define RESPAWN_STEP   (250 * USEC_PER_MS)
#define RESPAWN_MOST   (2 * USEC_PER_SEC)
#define STOP_TIME      (5 * USEC_PER_SEC)
#define WATCH_STARTING 10
#define BARK_TO_BITE   (5 * USEC_PER_SEC) /* between SIGABRT and SIGKILL */

/* ---- starting ---- */

static struct role_env *
make_env(struct master *m, int slot, uint64_t writer, int fd)
{
	const struct role_row *row = role_of_slot(slot);
	const struct seat *s = &m->seats[slot];
	struct role_env *env = calloc(1, sizeof(*env));

	if (env == NULL)
		return NULL;
	*env = (struct role_env){ .role = row->role,
				  .slot = slot,
				  .generation = s->generation,
				  .revision = s->rev->number,
				  .writer = writer,
				  .workers = s->rev->workers,
				  .area = m->area,
				  .request_fd = fd,
				  .conf = s->rev->conf,
				  .bundle = s->rev->bundle,
				  .log_fds = { -1, -1, m->logs.fd[ROLE_LOG_PANIC] },
				  .spool_path = m->spool_path,
				  .spool_dirfd = m->spool_dirfd,
				  .resolver = s->rev->resolver,
				  .uid = m->id.uid,
				  .gid = m->id.gid,
				  .privileged = m->privileged,
				  .foreground = m->foreground };
	if ((row->inherits & INHERITS_LOGS) != 0)
		memcpy(env->log_fds, m->logs.fd, sizeof(env->log_fds));
	if ((row->inherits & INHERITS_ESMTP) != 0)
		env->listeners = listeners_of_kind(&s->rev->listeners, LISTENER_ESMTP, &env->nlisteners);
	if ((row->inherits & INHERITS_CONTROL) != 0)
		env->listeners = listeners_of_kind(&s->rev->listeners, LISTENER_CONTROL, &env->nlisteners);
	return env;
}

static _Noreturn void
run_child(struct master *m, int slot, uint64_t writer, int fd, pid_t master)
{
	struct role_env *env = make_env(m, slot, writer, fd);
	struct identity nobody;
	struct child_start s = { .row = role_of_slot(slot), .id = &m->id, .env = env, .master = master };

	if (env == NULL)
		log_fatal("master", "no memory for a child");
	if (s.row->user == ROLE_USER_NOBODY) {
		identity_nobody(&nobody);
		s.id = &nobody;
	}
	child_run(&s);
}

static void
tell_life(struct master *m, enum req_type type, uint64_t serial)
{
	struct bytes b = { 0 };

	bytes_add_u64(&b, serial);
	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].state == SEAT_LIVE && m->seats[i].serial != serial)
			seat_tell(m, i, type, slice_bytes(&b));
	bytes_fini(&b);
}

static void
start_failed(struct master *m, int slot, const char *what)
{
	log_errno(LOG_LVL_ERROR, "master", "cannot start %s in slot %d: %s", role_name(role_of_slot(slot)->role), slot,
		  what);
	m->seats[slot].state = SEAT_WAITING;
	m->seats[slot].respawn_at = clock_mono() + USEC_PER_SEC;
}

void
seat_start(struct master *m, int slot)
{
	struct seat *s = &m->seats[slot];
	pid_t master = getpid();
	int ours, theirs;
	uint64_t writer;

	if (req_pair(&ours, &theirs) != OK) {
		start_failed(m, slot, "no socket pair");
		return;
	}
	s->serial = lives_next(m->area);
	shm_slot_take(m->area, slot, role_of_slot(slot)->role, s->generation, &writer);
	s->channel = req_channel_try(ours, REQ_TO_MASTER);
	s->pid = s->channel == NULL ? -1 : fork();
	if (s->pid == 0)
		run_child(m, slot, writer, theirs, master);
	close(theirs);
	if (s->pid < 0) {
		start_failed(m, slot, "no process");
		if (s->channel == NULL)
			close(ours);
		req_channel_free(&s->channel);
		shm_slot_reap(m->area, slot, 0, false);
		return;
	}
	shm_slot_born(m->area, slot, s->pid);
	s->state = SEAT_LIVE;
	s->born = clock_mono();
	s->kill_at = 0;
	s->ready = s->barked = false;
	s->questions = 0;
	memset(&s->meter, 0, sizeof(s->meter));
	tell_life(m, REQ_LIFE_BEGUN, s->serial);
}

/* ---- speaking ---- */

void
seat_tell(struct master *m, int slot, enum req_type type, struct slice payload)
{
	struct seat *s = &m->seats[slot];

	if (s->state == SEAT_LIVE && s->channel != NULL)
		(void)req_ask(s->channel, type, (uint8_t)slot, payload, NULL, NULL);
}

static void
set_deadline(struct seat *s, usec_t at)
{
	if (s->kill_at == 0 || at < s->kill_at)
		s->kill_at = at;
}

void
seat_drain(struct master *m, int slot, unsigned seconds)
{
	struct seat *s = &m->seats[slot];
	struct bytes b = { 0 };

	s->wanted = false;
	if (s->state == SEAT_WAITING)
		s->state = SEAT_EMPTY;
	if (s->state != SEAT_LIVE)
		return;
	bytes_add_u32(&b, seconds);
	seat_tell(m, slot, REQ_DRAIN, slice_bytes(&b));
	bytes_fini(&b);
	set_deadline(s, clock_mono() + (usec_t)seconds * USEC_PER_SEC + STOP_TIME);
}

void
seat_stop(struct master *m, int slot)
{
	struct seat *s = &m->seats[slot];

	s->wanted = false;
	if (s->state == SEAT_WAITING)
		s->state = SEAT_EMPTY;
	if (s->state != SEAT_LIVE)
		return;
	seat_tell(m, slot, REQ_STOP, SLICE(""));
	set_deadline(s, clock_mono() + STOP_TIME);
}

void
seat_violates(struct master *m, int slot, const char *what)
{
	struct seat *s = &m->seats[slot];

	log_error("master", "%s in slot %d (pid %d) %s: it is ended", role_name(role_of_slot(slot)->role), slot,
		  (int)s->pid, what);
	kill(s->pid, SIGKILL);
	/* nothing more of it is heard; what was asked of it is answered when it is reaped */
	req_channel_free(&s->channel);
}

void
supervise_hand_logs(struct master *m)
{
	struct req_head h = { .type = REQ_LOGS, .from = REQ_TO_MASTER };

	for (int i = 0; i < SLOTS_MAX; i++) {
		struct seat *s = &m->seats[i];
		int fds[ROLE_LOGS];
		unsigned n;
		unsigned char mask = logs_mask(&m->logs, fds, &n);

		if (s->state != SEAT_LIVE || s->channel == NULL)
			continue;
		if ((role_of_slot(i)->inherits & INHERITS_LOGS) == 0) {
			mask &= 1u << ROLE_LOG_PANIC;
			fds[0] = m->logs.fd[ROLE_LOG_PANIC];
			n = mask != 0;
		}
		h.to = (uint8_t)i;
		(void)req_send(s->channel, &h, slice_of(&mask, 1), fds, n);
	}
}

/* ---- counting ---- */

static unsigned
count_seats(const struct master *m, enum role role, uint32_t generation, bool ready)
{
	const struct role_row *row = role_row(role);
	unsigned n = 0;

	for (int i = row->first_slot; i < row->first_slot + row->slots; i++)
		if (m->seats[i].state == SEAT_LIVE && (generation == 0 || m->seats[i].generation == generation) &&
		    (!ready || m->seats[i].ready))
			n++;
	return n;
}

unsigned
seats_live(const struct master *m, enum role role, uint32_t generation)
{
	return count_seats(m, role, generation, false);
}

unsigned
seats_ready(const struct master *m, enum role role, uint32_t generation)
{
	return count_seats(m, role, generation, true);
}

void
supervise_share_partitions(struct master *m)
{
	uint8_t owner[PARTITIONS], slots[SLOTS_MAX];
	unsigned n = 0;

	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].wanted && m->seats[i].generation == m->generation && role_of_slot(i)->partitions)
			slots[n++] = (uint8_t)i;
	for (unsigned p = 0; p < PARTITIONS; p++)
		owner[p] = n == 0 ? SLOT_NOBODY : slots[p % n];
	partitions_publish(m->area, m->generation, owner);
	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].state == SEAT_LIVE)
			doorbell_ring(m->area, i);
}

/* ---- dying ---- */

static bool
signal_convicts(int signo)
{
	return signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL || signo == SIGSYS ||
	       signo == SIGABRT;
}

static void
log_finger(const struct master *m, int slot)
{
	struct finger f;

	slot_finger(shm_slot(m->area, slot), &f);
	if (f.kind == FINGER_MESSAGE)
		log_error("master", "slot %d: its finger is on message %016llx", slot, (unsigned long long)f.id);
	else if (f.kind == FINGER_PEER)
		log_error("master", "slot %d: its finger is on peer %s", slot, f.text);
	else
		log_error("master", "slot %d: its finger is on nothing", slot);
}

static void
log_death(const struct master *m, int slot, int status)
{
	const struct role_row *row = role_of_slot(slot);
	const struct seat *s = &m->seats[slot];

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		log_info("master", "%s in slot %d (pid %d, generation %u) has ended", role_name(row->role), slot,
			 (int)s->pid, (unsigned)s->generation);
		return;
	}
	if (WIFSIGNALED(status))
		log_error("master", "%s in slot %d (pid %d, generation %u) was ended by signal %d (%s): %s",
			  role_name(row->role), slot, (int)s->pid, (unsigned)s->generation, WTERMSIG(status),
			  strsignal(WTERMSIG(status)), row->death);
	else
		log_error("master", "%s in slot %d (pid %d, generation %u) ended with status %d: %s",
			  role_name(row->role), slot, (int)s->pid, (unsigned)s->generation, WEXITSTATUS(status),
			  row->death);
	if (WIFSIGNALED(status) && signal_convicts(WTERMSIG(status)))
		log_finger(m, slot);
}

/* A successor is of the generation in force, unless it belongs to the one that is coming up. */
static void
plan_successor(const struct master *m, struct seat *s, usec_t now)
{
	usec_t delay = 0;

	if (!s->wanted) {
		s->state = SEAT_EMPTY;
		return;
	}
	if (now - s->born < YOUNG && s->kill_at == 0) { /* one that was told to end did not die */
		delay = s->died_young < 4 ? RESPAWN_STEP << s->died_young : RESPAWN_MOST;
		s->died_young++;
	} else {
		s->died_young = 0;
	}
	if (s->rev == m->rev)
		s->generation = m->generation;
	s->state = SEAT_WAITING;
	s->respawn_at = now + (delay < RESPAWN_MOST ? delay : RESPAWN_MOST);
}

static void
on_death(struct master *m, int slot, int status)
{
	struct seat *s = &m->seats[slot];
	int signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	uint64_t serial = s->serial;

	if (s->channel != NULL)
		switchboard_turn(m, slot); /* its last words */
	log_death(m, slot, status);
	switchboard_forget(m, slot);
	req_channel_free(&s->channel);
	shm_slot_reap(m->area, slot, signo, signal_convicts(signo));
	plan_successor(m, s, clock_mono());
	/* a tenant of another generation must not take the old one's hints for its own */
	if (s->state == SEAT_EMPTY)
		inbox_clear(m->area, slot);
	tell_life(m, REQ_LIFE_ENDED, serial);
}

void
supervise_reap(struct master *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == m->reload.trial.pid) {
			reload_trial_ended(m, status);
			continue;
		}
		for (int i = 0; i < SLOTS_MAX; i++)
			if (m->seats[i].state == SEAT_LIVE && m->seats[i].pid == pid) {
				on_death(m, i, status);
				break;
			}
	}
}

/* ---- watching ---- */

/* Before its first turn a child may have much to do: a keeper may copy its index. */
static usec_t
watchdog_time(const struct seat *s)
{
	usec_t t = conf_int(conf_global(s->rev->conf), OPT_WATCHDOG_INTERVAL) * USEC_PER_SEC;

	return s->ready ? t : WATCH_STARTING * t;
}

/* What is in the mapping may be nonsense: a heartbeat from the far future is as good as none. One a little ahead is an
 * ordinary one: `now` is this turn's beginning, and children beat on during the turn. */
static usec_t
last_sign(const struct master *m, int slot, usec_t now)
{
	usec_t beat = slot_heartbeat(shm_slot(m->area, slot));

	return beat > m->seats[slot].born && beat <= now + USEC_PER_SEC ? beat : m->seats[slot].born;
}

static void
watch(struct master *m, int slot, usec_t now)
{
	struct seat *s = &m->seats[slot];
	usec_t silent = now - last_sign(m, slot, now);

	if (s->barked || silent < watchdog_time(s))
		return;
	log_error("master", "%s in slot %d (pid %d) has been silent for %lld s: it is ended",
		  role_name(role_of_slot(slot)->role), slot, (int)s->pid, (long long)(silent / USEC_PER_SEC));
	log_finger(m, slot);
	s->barked = true;
	kill(s->pid, SIGABRT);
	set_deadline(s, now + BARK_TO_BITE);
}

static void
keep_deadline(struct master *m, int slot, usec_t now)
{
	struct seat *s = &m->seats[slot];

	if (s->kill_at == 0 || now < s->kill_at)
		return;
	log_error("master", "%s in slot %d (pid %d) does not end: it is killed", role_name(role_of_slot(slot)->role),
		  slot, (int)s->pid);
	kill(s->pid, SIGKILL);
	s->kill_at = now + USEC_PER_SEC;
}

void
supervise_tick(struct master *m, usec_t now)
{
	for (int i = 0; i < SLOTS_MAX; i++) {
		struct seat *s = &m->seats[i];

		if (s->state == SEAT_WAITING && s->wanted && s->respawn_at <= now)
			seat_start(m, i);
		if (s->state == SEAT_LIVE) {
			watch(m, i, now);
			keep_deadline(m, i, now);
		}
	}
}

usec_t
supervise_next(const struct master *m, usec_t now)
{
	usec_t next = now + USEC_PER_SEC;

	for (int i = 0; i < SLOTS_MAX; i++) {
		const struct seat *s = &m->seats[i];

		if (s->state == SEAT_WAITING && s->respawn_at < next)
			next = s->respawn_at;
		if (s->state == SEAT_LIVE && s->kill_at != 0 && s->kill_at < next)
			next = s->kill_at;
	}
	return next;
}
