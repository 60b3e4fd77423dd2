/* Start, signals, and the loop that acts on what they said. */
#include "master/master.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "master/master_int.h"
#include "policy/conf/conf.h"
#include "shm/base/log.h"

/* Children of a master that was killed end within 5 s; they hold the spool and the addresses till then. */
enum { PREDECESSOR_SECONDS = 15, KEEPER_SECONDS = 3, DIES_YOUNG_MAX = 5 };

/* ---- start: the configuration ---- */

static void
tell_stderr(void *arg, enum log_level level, const char *text)
{
	(void)arg;
	log_line(level, "config", "%s", text);
}

/* What is only noteworthy the trial has said already. */
static void
tell_errors_only(void *arg, enum log_level level, const char *text)
{
	if (level <= LOG_LVL_ERROR)
		tell_stderr(arg, level, text);
}

static bool
start_configuration(struct master *m)
{
	struct trial_spec spec = { .path = m->conf_path };

	if (!trial_run(&spec, tell_stderr, NULL))
		return false;
	m->rev = revision_load(m->conf_path, false, tell_errors_only, NULL);
	if (m->rev == NULL)
		return false;
	m->rev->number = 1;
	m->id = m->rev->id;
	m->privileged = m->id.privileged;
	return true;
}

/* ---- start: into the background ---- */

/* The parent stays until the child serves, so that its exit status tells. */
static bool
start_background(struct master *m)
{
	int fds[2];
	char word;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_errno(LOG_LVL_ERROR, "master", "cannot go into the background");
		return false;
	}
	if (pid > 0) {
		close(fds[1]);
		_exit(read(fds[0], &word, 1) == 1 ? 0 : 1);
	}
	close(fds[0]);
	setsid();
	m->ready_fd = fds[1];
	return true;
}

static void
end_background(struct master *m)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (m->ready_fd < 0)
		return;
	if (write(m->ready_fd, "r", 1) < 0)
		log_errno(LOG_LVL_WARN, "master", "the parent has gone");
	close(m->ready_fd);
	m->ready_fd = -1;
	logs_speak(&m->logs, false);
	if (null >= 0) {
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
}

/* ---- start: the spool ---- */

static bool
is_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int n = 0;

	if (d == NULL)
		return false;
	while (n <= 2 && readdir(d) != NULL)
		n++;
	closedir(d);
	return n <= 2;
}

static bool
own_spool(const struct master *m)
{
	struct stat st;

	if (!m->privileged)
		return true;
	if (fstat(m->spool_dirfd, &st) == 0 && st.st_uid == m->id.uid)
		return true;
	if (st.st_uid == 0 && is_empty(m->spool_dirfd) && fchown(m->spool_dirfd, m->id.uid, m->id.gid) == 0)
		return true;
	log_error("master", "the spool %s belongs to uid %u, but is to be used by %s", m->spool_path,
		  (unsigned)st.st_uid, m->id.user);
	return false;
}

/* The lock is on the open directory, which the children inherit: it is free when the last process of an earlier master
 * has ended, so no journal ever has two masters' writers. */
static bool
lock_spool(const struct master *m)
{
	usec_t until = clock_mono() + PREDECESSOR_SECONDS * USEC_PER_SEC;
	struct timespec pause = { .tv_nsec = 20L * 1000 * 1000 };
	bool said = false;

	while (flock(m->spool_dirfd, LOCK_EX | LOCK_NB) < 0) {
		if (clock_mono() > until) {
			log_error("master", "the spool %s is in use by another impetusd", m->spool_path);
			return false;
		}
		if (!said)
			log_info("master", "waits for the end of another impetusd with this spool");
		said = true;
		nanosleep(&pause, NULL);
	}
	return true;
}

static bool
start_spool(struct master *m)
{
	m->spool_path = strdup(conf_str(conf_global(m->rev->conf), OPT_SPOOLBASE));
	if (m->spool_path == NULL)
		return false;
	(void)mkdir(m->spool_path, 0750);
	m->spool_dirfd = open(m->spool_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->spool_dirfd < 0) {
		log_errno(LOG_LVL_ERROR, "master", "cannot open the spool %s", m->spool_path);
		return false;
	}
	return own_spool(m) && lock_spool(m);
}

/* ---- start: the rest ---- */

static bool
start_listeners(struct master *m)
{
	usec_t until = clock_mono() + PREDECESSOR_SECONDS * USEC_PER_SEC / 2;
	struct timespec pause = { .tv_nsec = 50L * 1000 * 1000 };
	struct bytes why = { 0 };
	enum err e;

	for (;;) {
		why.n = 0;
		e = listeners_open(m->rev->conf, &m->id, NULL, &m->rev->listeners, &why);
		if (e != ERR_EXISTS || clock_mono() > until)
			break;
		nanosleep(&pause, NULL);
	}
	if (e != OK)
		log_error("master", "%s", bytes_cstr(&why));
	bytes_fini(&why);
	return e == OK;
}

static bool
start_signals(struct master *m)
{
	static const int caught[] = { SIGCHLD, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT, SIGTERM, SIGINT };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		sigaddset(&set, caught[i]);
		signal(caught[i], SIG_DFL); /* a shell's background job ignores some, and those never arrive */
	}
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return false;
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->signal_fd >= 0;
}

static bool
start_area(struct master *m)
{
	struct area_now now = { .generation = 1,
				.revision = 1,
				.started_real = clock_real(),
				.configured_real = clock_real(),
				.master = getpid() };

	m->area = shm_area_new();
	if (m->area == NULL) {
		log_errno(LOG_LVL_ERROR, "master", "cannot make the shared memory");
		return false;
	}
	area_set_now(m->area, &now);
	return true;
}

static bool
start_all(struct master *m, unsigned long files)
{
	if (!start_configuration(m) || (!m->foreground && !start_background(m)) || !start_signals(m))
		return false;
	if (logs_open(&m->logs, m->rev, m->privileged) != OK)
		return false;
	logs_speak(&m->logs, true);
	if (!start_spool(m) || !start_listeners(m) || !start_area(m) || privileges_master() != OK)
		return false;
	log_info("master", "impetusd %s starts: %u workers, spool %s, up to %lu descriptors a process", IMPETUS_VERSION,
		 m->rev->workers, m->spool_path, files);
	if (!m->privileged && conf_has_stanza(m->rev->conf, IN_SECURITY))
		log_info("master", "not started as root: the security stanza is passed over");
	m->generation = m->last_generation = 1;
	m->seats[SLOT_KEEPER] = (struct seat){ .wanted = true, .generation = 1, .rev = m->rev };
	seat_start(m, SLOT_KEEPER);
	m->started = clock_mono();
	return true;
}

/* ---- coming up ---- */

static bool
cannot_come_up(const struct master *m)
{
	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].died_young >= DIES_YOUNG_MAX)
			return true;
	return false;
}

/* The keeper first, for it makes the index that the others open; they do not wait for it for ever. False: it is no use.
 */
static bool
starting_tick(struct master *m, usec_t now)
{
	if (m->phase != MASTER_STARTING)
		return true;
	if (cannot_come_up(m)) {
		log_error("master", "the children cannot serve: given up");
		return false;
	}
	if (seats_live(m, ROLE_CONSOLE, 0) == 0 && m->seats[SLOT_CONSOLE_FIRST].state == SEAT_EMPTY &&
	    (m->seats[SLOT_KEEPER].ready || now - m->started > KEEPER_SECONDS * USEC_PER_SEC)) {
		generation_start(m, m->rev, 1);
		supervise_share_partitions(m);
	}
	if (seats_ready(m, ROLE_WORKER, 1) < m->rev->workers || seats_ready(m, ROLE_CONSOLE, 1) < 1)
		return true;
	m->phase = MASTER_SERVING;
	setproctitle("master generation 1");
	log_info("master", "serves");
	end_background(m);
	return true;
}

/* ---- the loop ---- */

void
master_reopen_logs(struct master *m)
{
	if (logs_open(&m->logs, m->rev, m->privileged) != OK)
		log_error("master", "a log could not be opened anew: the old one stays");
	logs_speak(&m->logs, m->foreground || m->ready_fd >= 0);
	supervise_hand_logs(m);
	log_info("master", "logs are open");
}

static void
on_signal(struct master *m, unsigned signo)
{
	switch (signo) {
	case SIGHUP:
		reload_begin(m, 0, NULL);
		break;
	case SIGUSR1:
		master_reopen_logs(m);
		break;
	case SIGUSR2:
		log_warn("master", "SIGUSR2: changing the binary while it serves is not built");
		break;
	case SIGTERM:
	case SIGQUIT:
		shutdown_begin(m, false);
		break;
	case SIGINT:
		shutdown_begin(m, true);
		break;
	default: /* SIGCHLD: every turn looks */
		break;
	}
}

static void
take_signals(struct master *m)
{
	struct signalfd_siginfo info;

	while (read(m->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		on_signal(m, info.ssi_signo);
}

struct waiting {
	struct pollfd p[SLOTS_MAX + 2];
	int slot[SLOTS_MAX + 2];
	nfds_t n;
};

static void
wait_for(struct waiting *w, int fd, short events, int slot)
{
	w->p[w->n] = (struct pollfd){ .fd = fd, .events = events };
	w->slot[w->n++] = slot;
}

static void
wait_for_news(struct master *m, struct waiting *w, usec_t most)
{
	w->n = 0;
	wait_for(w, m->signal_fd, POLLIN, -1);
	wait_for(w, trial_fd(&m->reload.trial), POLLIN, -2);
	for (int i = 0; i < SLOTS_MAX; i++) {
		const struct seat *s = &m->seats[i];

		if (s->state == SEAT_LIVE && s->channel != NULL)
			wait_for(w, req_channel_fd(s->channel),
				 req_channel_wants_write(s->channel) ? POLLIN | POLLOUT : POLLIN, i);
	}
	if (poll(w->p, w->n, most <= 0 ? 0 : (int)(most / USEC_PER_MS) + 1) < 0)
		w->n = 0;
}

static void
serve_child(struct master *m, int slot, short events)
{
	struct seat *s = &m->seats[slot];

	if (s->state == SEAT_LIVE && s->channel != NULL && (events & POLLOUT) != 0)
		(void)req_channel_flush(s->channel);
	if (s->state == SEAT_LIVE && s->channel != NULL)
		switchboard_turn(m, slot);
}

static int
loop(struct master *m)
{
	struct waiting w;
	usec_t now;

	for (;;) {
		now = clock_mono();
		supervise_reap(m);
		supervise_tick(m, now);
		reload_tick(m, now);
		if (!starting_tick(m, now))
			return 1;
		if (shutdown_tick(m, now))
			return 0;
		wait_for_news(m, &w, supervise_next(m, now) - now);
		for (nfds_t i = 0; i < w.n; i++)
			if (w.p[i].revents != 0 && w.slot[i] >= 0)
				serve_child(m, w.slot[i], w.p[i].revents);
			else if (w.p[i].revents != 0 && w.slot[i] == -2)
				trial_turn(&m->reload.trial);
		take_signals(m);
	}
}

/* Whoever is left when we give up at the start. */
static void
kill_rest(struct master *m)
{
	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].state == SEAT_LIVE)
			kill(m->seats[i].pid, SIGKILL);
}

int
master_run(const struct master_options_given *given)
{
	static struct master m;
	unsigned long files = privileges_limits();
	int status = 1;

	m.conf_path = given->conf_path;
	m.foreground = given->foreground;
	m.ready_fd = m.spool_dirfd = m.signal_fd = -1;
	logs_init(&m.logs);
	LIST_INIT(&m.questions);
	setproctitle("master");
	tzset();
	if (start_all(&m, files))
		status = loop(&m);
	kill_rest(&m);
	if (status == 0)
		log_info("master", "has stopped");
	revision_free(&m.rev, NULL);
	logs_fini(&m.logs);
	shm_area_free(&m.area);
	free(m.spool_path);
	return status;
}
