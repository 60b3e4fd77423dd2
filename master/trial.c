#include "master/trial.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/child.h"
#include "policy/conf/conf.h"
#include "shm/shm_request.h"

/* ---- the child ---- */

static struct req_channel *to_master;

static void
say(void *arg, enum log_level level, const char *text)
{
	struct req_head h = { .type = REQ_TRIAL_LINE, .from = SLOT_TRIAL, .to = REQ_TO_MASTER };
	struct bytes b = { 0 };
	struct slice s = slice_str(text);

	(void)arg;
	bytes_add_u8(&b, (uint8_t)level);
	bytes_add_slice(&b, slice_of(s.p, s.n < 4000 ? s.n : 4000));
	(void)req_send(to_master, &h, slice_bytes(&b), NULL, 0);
	bytes_fini(&b);
}

static void
say_log_line(void *arg, enum log_level level, const char *line, size_t len)
{
	char text[4096];

	snprintf(text, sizeof(text), "%.*s", (int)(len < 4000 ? len : 4000), line);
	say(arg, level, text);
}

static void
print_to_stdout(const struct revision *r)
{
	struct bytes out = { 0 };

	revision_print(r, &out);
	for (size_t at = 0; at < out.n;) {
		ssize_t n = write(STDOUT_FILENO, out.p + at, out.n - at);

		if (n < 0 && errno != EINTR)
			break;
		at += n < 0 ? 0 : (size_t)n;
	}
	bytes_fini(&out);
}

/* Lines that still wait leave before the process does; the socket blocks for that. */
static _Noreturn void
end_trial(int status)
{
	struct pollfd p = { .fd = req_channel_fd(to_master), .events = POLLOUT };

	while (req_channel_wants_write(to_master) && poll(&p, 1, 10000) == 1)
		if (req_channel_flush(to_master) != OK)
			break;
	_exit(status);
}

static void
must(enum err e, const char *step)
{
	char text[128];

	if (e == OK)
		return;
	snprintf(text, sizeof(text), "the trial cannot %s: %s", step, err_text(e));
	say(NULL, LOG_LVL_ERROR, text);
	end_trial(1);
}

static _Noreturn void
trial_child(const struct trial_spec *spec, int fd, pid_t master)
{
	struct role_env env = {
		.role = ROLE_TRIAL, .slot = SLOT_TRIAL, .request_fd = fd, .log_fds = { -1, -1, -1 }, .spool_dirfd = -1
	};
	const struct role_row *row = role_row(ROLE_TRIAL);
	struct identity nobody;
	struct child_start start = { .row = row, .id = &nobody, .env = &env, .master = master };
	struct revision *r;

	to_master = req_channel_new(fd, SLOT_TRIAL);
	log_set_sink(say_log_line, NULL);
	child_signals(master);
	child_close_strays(&start);
	child_title(&env);
	identity_nobody(&nobody);
	must(privileges_user(&nobody, row->caps), "change its user");
	r = revision_load(spec->path, spec->strict, say, NULL);
	must(privileges_none(), "give up its privileges");
	child_signals(master);
	if (r == NULL)
		end_trial(1);
	if (spec->print)
		print_to_stdout(r);
	env.conf = r->conf;
	env.bundle = r->bundle;
	env.resolver = r->resolver;
	env.workers = r->workers;
	end_trial(row->ops->run(&env));
}

/* ---- the master's side ---- */

enum err
trial_begin(struct trial *t, const struct trial_spec *spec, revision_tell *tell, void *arg)
{
	pid_t master = getpid();
	int ours, theirs;
	enum err e = req_pair(&ours, &theirs);

	if (e != OK)
		return e;
	*t = (struct trial){ .tell = tell, .arg = arg, .until = clock_mono() + TRIAL_SECONDS * USEC_PER_SEC };
	t->channel = req_channel_try(ours, REQ_TO_MASTER);
	t->pid = t->channel == NULL ? -1 : fork();
	if (t->pid == 0)
		trial_child(spec, theirs, master);
	close(theirs);
	if (t->pid > 0)
		return OK;
	if (t->channel == NULL)
		close(ours);
	req_channel_free(&t->channel);
	t->pid = 0;
	return ERR_NOMEM;
}

int
trial_fd(const struct trial *t)
{
	return t->channel == NULL ? -1 : req_channel_fd(t->channel);
}

static void
take_line(struct trial *t, const struct req_msg *m)
{
	struct slice s = m->payload;
	uint8_t level;
	char text[4096];

	if (m->head.type != REQ_TRIAL_LINE || !take_u8(&s, &level) || t->lines++ >= TRIAL_LINES)
		return;
	snprintf(text, sizeof(text), "%.*s", (int)(s.n < sizeof(text) ? s.n : sizeof(text) - 1), s.p);
	t->tell(t->arg, level <= LOG_LVL_DEBUG ? (enum log_level)level : LOG_LVL_WARN, text);
}

static void
on_line(void *arg, struct req_channel *c, struct req_msg *m)
{
	(void)c;
	take_line(arg, m);
}

void
trial_turn(struct trial *t)
{
	if (t->channel != NULL && req_channel_turn(t->channel, on_line, t) != OK)
		req_channel_free(&t->channel);
}

bool
trial_ended(struct trial *t, int status)
{
	char text[128];

	trial_turn(t);
	req_channel_free(&t->channel);
	t->pid = 0;
	if (WIFSIGNALED(status)) {
		snprintf(text, sizeof(text), "the trial of the configuration was ended by %s",
			 strsignal(WTERMSIG(status)));
		t->tell(t->arg, LOG_LVL_ERROR, text);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void
trial_cancel(struct trial *t)
{
	if (t->pid == 0)
		return;
	kill(t->pid, SIGKILL);
	while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	req_channel_free(&t->channel);
	t->pid = 0;
}

bool
trial_run(const struct trial_spec *spec, revision_tell *tell, void *arg)
{
	struct trial t;
	struct pollfd p = { .events = POLLIN };
	int status;

	if (trial_begin(&t, spec, tell, arg) != OK) {
		tell(arg, LOG_LVL_ERROR, "cannot start the trial of the configuration");
		return false;
	}
	while ((p.fd = trial_fd(&t)) >= 0 && clock_mono() < t.until) {
		(void)poll(&p, 1, 1000);
		trial_turn(&t);
	}
	if (p.fd >= 0)
		kill(t.pid, SIGKILL);
	while (waitpid(t.pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return trial_ended(&t, status);
}
