/* The master with doubles for its roles: start, descent, deaths, reload, requests, logs, the ways out.
 * A double says what happens to it in lines of a FIFO; the test reads until the line it wants. A signal makes it act.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/master.h"
#include "shm/shm_request.h"
#include "worker/role.h"

/* ---- the doubles ---- */

enum { WORKERS_BROKEN = 5 }; /* so many workers cannot serve */

static volatile sig_atomic_t poked;
static struct req_channel *channel;
static bool ends, mute;

static void
on_poke(int signo)
{
	(void)signo;
	poked = 1;
}

static void
say(const struct role_env *env, const char *fmt, ...)
{
	int fd = openat(env->spool_dirfd, "fifo", O_WRONLY | O_CLOEXEC);
	char line[512];
	va_list ap;
	int n = snprintf(line, sizeof(line), "%s %d %u %d: ", role_name(env->role), env->slot, env->generation,
			 getpid());

	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (fd >= 0 && write(fd, line, (size_t)n) < 0)
		_exit(9);
	close(fd);
}

static unsigned
count_fds(void)
{
	unsigned n = 0;

	for (int fd = 3; fd < 1000; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void
say_serving(const struct role_env *env)
{
	cap_t caps = cap_get_proc();
	char *text = cap_to_text(caps, NULL);
	struct rlimit core;
	struct stat root;
	uid_t r, e, s;

	getrlimit(RLIMIT_CORE, &core);
	getresuid(&r, &e, &s);
	stat("/", &root);
	say(env,
	    "serves uid %u %u %u groups %d caps %s nnp %d dump %d core %d mask %03o fifo_at_root %d listeners %u fds "
	    "%u",
	    r, e, s, getgroups(0, NULL), text, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE),
	    (int)core.rlim_cur, umask(027), access("/fifo", F_OK) == 0, env->nlisteners, count_fds());
	cap_free(text);
	cap_free(caps);
}

static void
on_reply(void *arg, enum err status, struct slice payload, bool more)
{
	(void)more;
	say(arg, "answer %d %.*s", (int)status, (int)payload.n, payload.p);
}

static void
on_life_ended(const struct role_env *env, struct slice s)
{
	struct life l;
	uint64_t serial = 0;

	take_u64(&s, &serial);
	if (life_get(env->area, serial, &l))
		say(env, "heard end of slot %d signal %d convicts %d finger %llu", l.slot, l.signo, l.convicts,
		    (unsigned long long)l.finger.id);
}

static void
on_request(void *arg, struct req_channel *c, struct req_msg *m)
{
	struct role_env *env = arg;

	switch (m->head.type) {
	case REQ_DRAIN:
		say(env, "drain");
		ends = true;
		break;
	case REQ_STOP:
		say(env, "stop");
		ends = true;
		break;
	case REQ_LOGS:
		if (m->nfds > 0 && write(m->fds[0], "new\n", 4) != 4)
			_exit(8);
		say(env, "logs %u", m->nfds);
		break;
	case REQ_LIFE_ENDED:
		if (env->role == ROLE_KEEPER)
			on_life_ended(env, m->payload);
		break;
	case REQ_KEEPER_COMMIT:
		req_answer(c, &m->head, OK, SLICE(""), false);
		break;
	case REQ_KEEPER_ASK:
		say(env, "asked");
		break; /* never answered */
	default:
		break;
	}
}

/* What each does when it is poked: the console asks for a reload, a worker for what it may not. */
static void
act(struct role_env *env)
{
	poked = 0;
	if (env->role == ROLE_CONSOLE) {
		req_ask(channel, REQ_KEEPER_COMMIT, REQ_TO_KEEPER, SLICE(""), on_reply, env);
		req_ask(channel, REQ_KEEPER_ASK, REQ_TO_KEEPER, SLICE("x"), on_reply, env);
		req_ask(channel, REQ_RELOAD, REQ_TO_MASTER, SLICE(""), on_reply, env);
	}
	if (env->role == ROLE_WORKER) {
		struct req_head h = { .type = REQ_SHUTDOWN, .to = REQ_TO_MASTER };

		req_send(channel, &h, SLICE("\1"), NULL, 0);
	}
	if (env->role == ROLE_KEEPER)
		mute = true;
}

static int
double_run(struct role_env *env)
{
	struct shm_slot *slot = shm_slot(env->area, env->slot);
	struct sigaction poke = { .sa_handler = on_poke };
	struct pollfd p = { .fd = env->request_fd, .events = POLLIN };

	sigaction(SIGWINCH, &poke, NULL);
	signal(SIGSEGV, SIG_DFL); /* cmocka's handler came with the fork */
	channel = req_channel_new(env->request_fd, (uint8_t)env->slot);
	slot_set_state(slot, SLOT_SERVING);
	req_ask(channel, REQ_READY, REQ_TO_MASTER, SLICE(""), NULL, NULL);
	slot_finger_message(slot, 4711);
	say_serving(env);
	while (!ends) {
		if (!mute)
			slot_beat(slot, clock_mono());
		if (poked)
			act(env);
		poll(&p, 1, 200);
		if (req_channel_turn(channel, on_request, env) != OK) {
			say(env, "orphan");
			return 0;
		}
	}
	return 0;
}

static enum err
double_prepare(struct role_env *env)
{
	char path[256];

	if (env->workers == WORKERS_BROKEN && env->role == ROLE_WORKER)
		return ERR_DAMAGED;
	snprintf(path, sizeof(path), "%s/fifo", env->spool_path);
	return access(path, W_OK) == 0 && geteuid() == env->uid ? OK : ERR_DENIED;
}

const struct role_ops worker_role = { double_prepare, double_run };
const struct role_ops keeper_role = { double_prepare, double_run };
const struct role_ops console_role = { double_prepare, double_run };

static int
trial_double(struct role_env *env)
{
	(void)env;
	return 0;
}
const struct role_ops trial_role = { NULL, trial_double };

/* ---- the world ---- */

struct world {
	char dir[64];
	char conf[96], spool[96], fifo[128], control[96];
	FILE *lines;
	int fd;
	pid_t master;
	char line[600];
};

static void
write_conf(struct world *w, int workers, const char *extra)
{
	FILE *f = fopen(w->conf, "w");

	assert_non_null(f);
	fprintf(f,
		"hostname = \"mx.example.test\"\nspoolbase = \"%s\"\nworkers = %d\nwatchdog_interval = "
		"2\ndrain_timeout = 5\n"
		"Control_Listener { Listen \"%s\" { file_mode = \"0600\" } }\n"
		"ESMTP_Listener { Listen \"127.0.0.1:0\" { } }\n"
		"ec_logger \"ec_logger\" { mainlog = \"%s/mainlog\" rejectlog = \"\" paniclog = \"%s/paniclog\" "
		"}\n%s\n",
		w->spool, workers, w->control, w->dir, w->dir, extra);
	if (geteuid() == 0 && strstr(extra, "security") == NULL)
		fprintf(f, "security { user = \"nobody\" chroot = \"%s\" }\n", w->spool);
	fclose(f);
}

static int
setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	signal(SIGPIPE, SIG_IGN);
	snprintf(w->dir, sizeof(w->dir), "/tmp/impetus-master.XXXXXX");
	if (mkdtemp(w->dir) == NULL)
		return -1;
	chmod(w->dir, 0755);
	snprintf(w->conf, sizeof(w->conf), "%s/impetus.conf", w->dir);
	snprintf(w->spool, sizeof(w->spool), "%s/spool", w->dir);
	snprintf(w->fifo, sizeof(w->fifo), "%s/fifo", w->spool);
	snprintf(w->control, sizeof(w->control), "%s/control", w->dir);
	mkdir(w->spool, 0755);
	mkfifo(w->fifo, 0666);
	chmod(w->fifo, 0666);
	if (geteuid() == 0 && chown(w->spool, 65534, 65534) < 0)
		return -1;
	/* read and write: no end of file while the doubles open and close it */
	w->fd = open(w->fifo, O_RDWR | O_CLOEXEC);
	w->lines = fdopen(w->fd, "r+");
	write_conf(w, 2, "");
	*state = w;
	return 0;
}

static void
start(struct world *w)
{
	struct master_options_given given = { .conf_path = w->conf, .foreground = true };
	char err[128];

	snprintf(err, sizeof(err), "%s/stderr", w->dir);
	if ((w->master = fork()) == 0) {
		int fd = open(err, O_WRONLY | O_CREAT | O_APPEND, 0600);

		dup2(fd, STDERR_FILENO);
		_exit(master_run(&given));
	}
}

/* The next line in which all of the words stand; the test hangs, and is ended by its runner, when it does not come. */
static const char *
expect(struct world *w, const char *a, const char *b)
{
	do {
		assert_non_null(fgets(w->line, sizeof(w->line), w->lines));
	} while (strstr(w->line, a) == NULL || strstr(w->line, b) == NULL);
	return w->line;
}

/* Lines of different processes come in any order: until each of these has been seen, by what one begins with and one
 * word that stands in it. */
struct want {
	const char *who, *word;
	bool seen;
};

static void
expect_all(struct world *w, struct want *wants, size_t n)
{
	for (size_t left = n; left > 0;) {
		assert_non_null(fgets(w->line, sizeof(w->line), w->lines));
		for (size_t i = 0; i < n; i++)
			if (!wants[i].seen && strncmp(w->line, wants[i].who, strlen(wants[i].who)) == 0 &&
			    strstr(w->line, wants[i].word) != NULL) {
				wants[i].seen = true;
				left--;
				break;
			}
	}
}

static pid_t
pid_of(const char *line)
{
	int slot, generation, pid = 0;
	char role[32];

	assert_int_equal(sscanf(line, "%31s %d %d %d:", role, &slot, &generation, &pid), 4);
	return pid;
}

/* Keeper, console and workers, in any order. */
static void
expect_serving(struct world *w, int workers)
{
	for (int seen = 0; seen < workers + 2; seen++)
		expect(w, "", "serves");
}

static void
stop(struct world *w, int signo, int want)
{
	int status = -1;

	kill(w->master, signo);
	assert_int_equal(waitpid(w->master, &status, 0), w->master);
	w->master = 0;
	assert_int_equal(status, want);
}

static bool
file_has(struct world *w, const char *name, const char *text)
{
	static char buf[65536];
	char path[256];
	FILE *f;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	if ((f = fopen(path, "r")) != NULL) {
		n = fread(buf, 1, sizeof(buf) - 1, f);
		fclose(f);
	}
	buf[n] = '\0';
	return strstr(buf, text) != NULL;
}

/* The master says so in its log only. */
static void
wait_serving(struct world *w)
{
	while (!file_has(w, "paniclog", "master: serves"))
		poll(NULL, 0, 10);
}

static int
teardown(void **state)
{
	struct world *w = *state;
	char cmd[128];

	if (w->master > 0) {
		kill(w->master, SIGKILL);
		waitpid(w->master, NULL, 0);
	}
	fclose(w->lines);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	if (system(cmd) != 0)
		return -1;
	free(w);
	return 0;
}

/* ---- tests ---- */

static void
test_children_have_nothing_left(void **state)
{
	struct world *w = *state;
	const char *line;

	start(w);
	line = expect(w, "worker", "serves");
	assert_non_null(strstr(line, " caps = "));
	assert_non_null(strstr(line, " nnp 1 "));
	assert_non_null(strstr(line, " core 0 "));
	assert_non_null(strstr(line, " mask 027 "));
	assert_non_null(strstr(line, " listeners 1 "));
	/* 64 bells, channel, spool, mainlog, paniclog and its copy, one listener, the FIFO */
	assert_non_null(strstr(line, " fds 7"));
#if !defined(__SANITIZE_ADDRESS__)
	assert_non_null(strstr(line, " dump 0 "));
#endif
	if (geteuid() == 0) {
		assert_non_null(strstr(line, " uid 65534 65534 65534 groups 0 "));
		assert_non_null(strstr(line, " fifo_at_root 1 "));
	}
	stop(w, SIGTERM, 0);
}

static void
test_deaths(void **state)
{
	static const struct {
		int signo;
		const char *want;
	} table[] = { { SIGKILL, "signal 9 convicts 0 finger 4711" }, { SIGSEGV, "signal 11 convicts 1 finger 4711" } };
	struct world *w = *state;
	pid_t pid;

	start(w);
	pid = pid_of(expect(w, "worker 4 1", "serves"));
	for (size_t i = 0; i < 2; i++) {
		kill(pid, table[i].signo);
		expect(w, "keeper", table[i].want);
		pid = pid_of(expect(w, "worker 4 1", "serves"));
	}
	stop(w, SIGTERM, 0);
	assert_true(file_has(w, "paniclog", "its finger is on message"));
	assert_true(file_has(w, "stderr", "was ended by signal 11"));
}

static void
test_term_drains_workers_first(void **state)
{
	struct world *w = *state;

	start(w);
	expect_serving(w, 2);
	kill(w->master, SIGTERM);
	expect(w, "worker", "drain");
	expect(w, "worker", "drain");
	expect(w, "keeper", "drain");
	stop(w, 0, 0);
	assert_int_equal(access(w->control, F_OK), -1);
	assert_true(file_has(w, "paniclog", "has stopped"));
}

static void
test_int_stops_at_once(void **state)
{
	struct world *w = *state;

	start(w);
	expect_serving(w, 2);
	kill(w->master, SIGINT);
	expect(w, "worker", "stop");
	stop(w, 0, 0);
}

static void
test_orphans_end(void **state)
{
	struct world *w = *state;

	start(w);
	expect_serving(w, 2);
	stop(w, SIGKILL, SIGKILL);
	for (int i = 0; i < 4; i++)
		expect(w, "", "orphan");
	/* the next one waits for them, takes over the socket they left, and serves */
	start(w);
	expect_serving(w, 2);
	stop(w, SIGTERM, 0);
}

static void
test_reload(void **state)
{
	struct want refused[] = { { "console 1 1 ", "answer 0", false }, { "console 1 1 ", "answer 6", false } };
	struct want renewed[] = { { "worker 6 2 ", "serves", false },
				  { "worker 7 2 ", "serves", false },
				  { "worker 8 2 ", "serves", false },
				  { "console 1 1 ", "drain", false },
				  { "keeper 0 2 ", "serves", false } };
	struct world *w = *state;
	pid_t console;

	start(w);
	console = pid_of(expect(w, "console", "serves"));
	wait_serving(w);
	write_conf(w, 2, "no_such_option = 1");
	kill(console, SIGWINCH);
	expect_all(w, refused, 2);
	assert_true(file_has(w, "paniclog", "no_such_option"));
	assert_true(file_has(w, "paniclog", "nothing has changed"));
	write_conf(w, 3, "");
	kill(console, SIGWINCH);
	expect_all(w, renewed, 5);
	stop(w, SIGTERM, 0);
	assert_true(file_has(w, "paniclog", "revision 2 serves, generation 2"));
}

static void
test_a_generation_that_cannot_serve_is_given_up(void **state)
{
	struct world *w = *state;
	pid_t console;

	start(w);
	console = pid_of(expect(w, "console", "serves"));
	wait_serving(w);
	write_conf(w, WORKERS_BROKEN, "");
	kill(console, SIGWINCH);
	expect(w, "console 1 1", "answer 12");
	assert_true(file_has(w, "paniclog", "the old one serves on"));
	write_conf(w, 2, "");
	kill(console, SIGWINCH);
	expect(w, "worker", "serves");
	expect(w, "worker", "serves");
	expect(w, "console 1 1", "drain");
	stop(w, SIGTERM, 0);
}

static void
test_an_answerer_that_dies_is_answered_for(void **state)
{
	struct world *w = *state;
	pid_t console, keeper;

	start(w);
	keeper = pid_of(expect(w, "keeper 0 1", "serves"));
	console = pid_of(expect(w, "console", "serves"));
	wait_serving(w);
	kill(console, SIGWINCH);
	expect(w, "keeper", "asked");
	kill(keeper, SIGKILL);
	expect(w, "console", "answer 2");
	stop(w, SIGTERM, 0);
}

static void
test_who_breaks_the_table_is_ended(void **state)
{
	struct world *w = *state;
	pid_t pid;

	start(w);
	pid = pid_of(expect(w, "worker 4 1", "serves"));
	kill(pid, SIGWINCH);
	expect(w, "keeper", "heard end of slot 4 signal 9 convicts 0");
	expect(w, "worker 4 1", "serves");
	stop(w, SIGTERM, 0);
	assert_true(file_has(w, "paniclog", "asks what its role may not"));
}

static void
test_who_is_silent_is_ended(void **state)
{
	struct world *w = *state;
	pid_t keeper;

	start(w);
	keeper = pid_of(expect(w, "keeper 0 1", "serves"));
	kill(keeper, SIGWINCH);
	assert_int_not_equal(pid_of(expect(w, "keeper 0 1", "serves")), keeper);
	stop(w, SIGTERM, 0);
	assert_true(file_has(w, "paniclog", "has been silent for 2 s"));
	assert_true(file_has(w, "paniclog", "was ended by signal 6"));
}

static void
test_logs_are_handed_out_anew(void **state)
{
	struct world *w = *state;
	char from[128], to[128];

	start(w);
	expect_serving(w, 2);
	snprintf(from, sizeof(from), "%s/mainlog", w->dir);
	snprintf(to, sizeof(to), "%s/mainlog.1", w->dir);
	assert_int_equal(rename(from, to), 0);
	kill(w->master, SIGUSR1);
	expect(w, "worker", "logs 2");
	expect(w, "worker", "logs 2");
	assert_true(file_has(w, "mainlog", "new"));
	stop(w, SIGTERM, 0);
}

static void
test_sockets(void **state)
{
	struct world *w = *state;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	/* left by a dead process */
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", w->control);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd);
	start(w);
	expect_serving(w, 2);
	assert_int_equal(stat(w->control, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd);
	stop(w, SIGTERM, 0);
}

static void
test_what_is_no_socket_stays(void **state)
{
	struct world *w = *state;
	int status;

	close(open(w->control, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	start(w);
	assert_int_equal(waitpid(w->master, &status, 0), w->master);
	w->master = 0;
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_int_equal(access(w->control, F_OK), 0);
	assert_true(file_has(w, "stderr", "cannot bind"));
}

static void
test_root_does_not_serve(void **state)
{
	static const struct {
		const char *security, *want;
	} table[] = {
		{ "security { user = \"impetus-no-such-user\" }", "adduser --system" },
		{ "security { user = \"root\" }", "is root" },
		{ "security { user = \"0\" }", "is root" },
		{ "security { user = \"nobody\" group = \"no-such-group\" }", "no-such-group" },
	};
	struct world *w = *state;
	int status;

	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		write_conf(w, 2, table[i].security);
		start(w);
		assert_int_equal(waitpid(w->master, &status, 0), w->master);
		w->master = 0;
		assert_int_equal(WEXITSTATUS(status), 1);
		assert_true(file_has(w, "stderr", table[i].want));
	}
}

int
main(int argc, char **argv, char **envp)
{
#define WITH_WORLD(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_WORLD(test_children_have_nothing_left),
		WITH_WORLD(test_deaths),
		WITH_WORLD(test_term_drains_workers_first),
		WITH_WORLD(test_int_stops_at_once),
		WITH_WORLD(test_orphans_end),
		WITH_WORLD(test_reload),
		WITH_WORLD(test_a_generation_that_cannot_serve_is_given_up),
		WITH_WORLD(test_an_answerer_that_dies_is_answered_for),
		WITH_WORLD(test_who_breaks_the_table_is_ended),
		WITH_WORLD(test_who_is_silent_is_ended),
		WITH_WORLD(test_logs_are_handed_out_anew),
		WITH_WORLD(test_sockets),
		WITH_WORLD(test_what_is_no_socket_stays),
		WITH_WORLD(test_root_does_not_serve),
	};

	setproctitle_init(argc, argv, envp);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
