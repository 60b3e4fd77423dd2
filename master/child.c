#include "master/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shm/base/log.h"
#include "worker/log/ec_logger.h"

enum { ORPHAN_SECONDS = 5, KEEP_MAX = 4096 };

/* The master is dead. The channel's end says so too, but only to a loop that turns. */
static void
on_orphaned(int signo)
{
	(void)signo;
	alarm(ORPHAN_SECONDS);
}

static void
watch_master(pid_t master)
{
	if (prctl(PR_SET_PDEATHSIG, SIGUSR2) < 0)
		log_errno(LOG_LVL_WARN, "master", "cannot watch the master");
	if (getppid() != master)
		_exit(0);
}

void
child_signals(pid_t master)
{
	static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGPIPE };
	struct sigaction orphaned = { .sa_handler = on_orphaned, .sa_flags = SA_RESTART };
	sigset_t none;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigaction(SIGUSR2, &orphaned, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	watch_master(master);
}

/* ---- descriptors ---- */

struct keep {
	int fd[KEEP_MAX];
	size_t n;
};

static void
keep_fd(int fd, void *arg)
{
	struct keep *k = arg;

	if (fd <= STDERR_FILENO)
		return;
	if (k->n == KEEP_MAX)
		log_fatal("master", "more than %d listeners cannot be handed to a child", KEEP_MAX);
	k->fd[k->n++] = fd;
}

static int
by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* All that is not in the list goes, whoever opened it: what a role is not given it does not have. */
void
child_close_strays(const struct child_start *s)
{
	struct keep k = { .n = 0 };
	unsigned from = STDERR_FILENO + 1;

	keep_fd(s->env->request_fd, &k);
	keep_fd(s->env->spool_dirfd, &k);
	for (int i = 0; i < ROLE_LOGS; i++)
		keep_fd(s->env->log_fds[i], &k);
	for (unsigned i = 0; i < s->env->nlisteners; i++)
		keep_fd(s->env->listeners[i].fd, &k);
	if (s->env->area != NULL)
		shm_area_each_fd(s->env->area, keep_fd, &k);
	qsort(k.fd, k.n, sizeof(k.fd[0]), by_number);
	for (size_t i = 0; i < k.n; i++) {
		if ((unsigned)k.fd[i] > from)
			close_range(from, (unsigned)k.fd[i] - 1, 0);
		from = (unsigned)k.fd[i] + 1;
	}
	close_range(from, ~0u, 0);
}

void
child_title(const struct role_env *env)
{
	setproctitle("%s slot %d generation %u", role_name(env->role), env->slot, (unsigned)env->generation);
}

/* The master's own line to the paniclog went with the strays; until the role has opened its logs this one serves. */
static void
speak(const struct role_env *env)
{
	struct eclog_conf c = { .fd = { -1, -1, -1 }, .errors = true, .panic_to_stderr = env->foreground };

	if (env->log_fds[ROLE_LOG_PANIC] >= 0)
		c.fd[ECLOG_PANIC] = fcntl(env->log_fds[ROLE_LOG_PANIC], F_DUPFD_CLOEXEC, 0);
	log_set_sink(eclog_panic_line, eclog_new(&c));
}

/* ---- the descent ---- */

static void
must(enum err e, const char *step)
{
	if (e != OK)
		log_fatal("master", "a child cannot %s: %s", step, err_text(e));
}

_Noreturn void
child_run(const struct child_start *s)
{
	const struct role_ops *ops = s->row->ops;

	child_signals(s->master);
	child_close_strays(s);
	speak(s->env);
	child_title(s->env);
	must(privileges_user(s->id, s->row->caps), "change its user");
	watch_master(s->master); /* the change of user forgot it */
	if (ops->prepare != NULL)
		must(ops->prepare(s->env), "prepare");
	if (s->row->chroot)
		must(privileges_root(s->id), "change its root");
	must(privileges_none(), "give up its privileges");
	watch_master(s->master);
	_exit(ops->run(s->env));
}
