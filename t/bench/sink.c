/* sink - accepts all mail, looks whether it is whole, throws it away and counts; misbehaves when asked to
 *
 * t/bench/README.md says what the options and the counts are. */
#include "t/bench/sink.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

static const char *const stages[STAGES] = { "banner", "ehlo", "mail", "rcpt", "data", "dot" };
static volatile sig_atomic_t signals;

static void
on_signal(int sig)
{
	(void)sig;
	signals++;
}

static void
usage(void)
{
	fprintf(stderr,
		"sink [-a HOST:PORT] [-p PROCESSES] [-x STAGE=CODE|silent|close[/N]]... [-L MS] [-T MS] [-R BYTES]\n"
		"     [-o FILE] [-m MESSAGES] [-e MS] [-P]\n"
		"STAGE: banner ehlo mail rcpt data dot; -P without PIPELINING; see t/bench/README.md\n");
	exit(2);
}

/* "rcpt=451/10": each tenth RCPT is answered 451. */
static void
misbehave(char *text, struct sink_options *o)
{
	char *what = strchr(text, '='), *each;

	if (what == NULL)
		usage();
	*what++ = '\0';
	if ((each = strchr(what, '/')) != NULL)
		*each++ = '\0';
	for (int i = 0; i < STAGES; i++) {
		if (strcmp(text, stages[i]) != 0)
			continue;
		o->share[i] = each == NULL ? 1 : wire_number(each, "-x", 1, 1000000);
		if (strcmp(what, "silent") == 0)
			o->answer[i] = ANSWER_SILENT;
		else if (strcmp(what, "close") == 0)
			o->answer[i] = ANSWER_CLOSE;
		else
			o->answer[i] = (int)wire_number(what, "-x", 400, 599);
		return;
	}
	usage();
}

static void
options(int argc, char **argv, struct sink_options *o)
{
	int c;

	while ((c = getopt(argc, argv, "a:p:x:L:T:R:o:m:e:P")) != -1) {
		switch (c) {
		case 'a':
			if (!wire_address(optarg, &o->at))
				usage();
			break;
		case 'p':
			o->processes = wire_number(optarg, "-p", 1, 64);
			break;
		case 'x':
			misbehave(optarg, o);
			break;
		case 'L':
			o->latency = wire_number(optarg, "-L", 1, 3600000);
			break;
		case 'T':
			o->trickle = wire_number(optarg, "-T", 1, 3600000);
			break;
		case 'R':
			o->slow = wire_number(optarg, "-R", 1, 1 << 30);
			break;
		case 'm':
			o->max = wire_number(optarg, "-m", 1, UINT64_MAX);
			break;
		case 'e':
			o->every = wire_number(optarg, "-e", 1, 3600000);
			break;
		case 'P':
			o->no_pipelining = true;
			break;
		case 'o':
			o->log_fd = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
			if (o->log_fd < 0)
				log_fatal("sink", "cannot open %s", optarg);
			break;
		default:
			usage();
		}
	}
	if (optind != argc)
		usage();
	if (o->slow > 0 && o->latency == 0)
		o->latency = 1000;
}

static void
print(struct sink_counts *c, const char *what, usec_t began)
{
	char line[512];
	int n = snprintf(line, sizeof line,
			 "%s t=%.3f rcpts=%llu msgs=%llu bytes=%llu again=%llu altered=%llu foreign=%llu refused=%llu "
			 "cut=%llu odd=%llu "
			 "conns=%llu open=%llu first=%.6f last=%.6f\n",
			 what, (double)(clock_mono() - began) / 1e6, (unsigned long long)count_get(&c->rcpts),
			 (unsigned long long)count_get(&c->msgs), (unsigned long long)count_get(&c->bytes),
			 (unsigned long long)count_get(&c->again), (unsigned long long)count_get(&c->altered),
			 (unsigned long long)count_get(&c->foreign), (unsigned long long)count_get(&c->refused),
			 (unsigned long long)count_get(&c->cut), (unsigned long long)count_get(&c->odd),
			 (unsigned long long)count_get(&c->conns), (unsigned long long)count_get(&c->open),
			 (double)count_get(&c->first) / 1e6, (double)count_get(&c->last) / 1e6);

	if (n < 0 || write(1, line, (size_t)n) != n)
		_exit(1); /* nobody listens any more */
}

static int
bound(const struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
	    bind(fd, (const struct sockaddr *)at, sizeof *at) != 0 || listen(fd, 4096) != 0) {
		perror("sink: cannot listen");
		exit(1);
	}
	return fd;
}

int
main(int argc, char **argv)
{
	struct sink_options o = { .processes = 1, .every = 100, .log_fd = -1, .answer = { -1, -1, -1, -1, -1, -1 } };
	struct sink_counts *c = wire_share(sizeof *c);
	count_t *stop = wire_share(sizeof *stop), *seen = wire_share((UINT64_C(1) << 32) / 8);
	struct sigaction sa = { .sa_handler = on_signal };
	usec_t began = clock_mono(), printed = began;

	wire_address("2626", &o.at);
	options(argc, argv, &o);
	wire_descriptors();
	int fd = bound(&o.at), status = 0, rc = 0;
	pid_t *kids = mem_array(NULL, o.processes, sizeof *kids);
	for (uint64_t i = 0; i < o.processes; i++) {
		if ((kids[i] = fork()) < 0)
			log_fatal("sink", "cannot fork");
		if (kids[i] == 0) {
			signal(SIGINT, SIG_IGN);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sink_run(&o, c, seen, fd, stop);
			_exit(0);
		}
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	print(c, "run", began); /* so that whoever started it knows that it listens */
	while (signals == 0 && (o.max == 0 || count_get(&c->rcpts) < o.max) && waitpid(-1, &status, WNOHANG) == 0) {
		if (clock_mono() - printed >= (usec_t)o.every * USEC_PER_MS) {
			printed = clock_mono();
			print(c, "run", began);
		}
		poll(NULL, 0, 10);
	}
	rc = status != 0;
	atomic_store(stop, 1);
	for (uint64_t i = 0; i < o.processes; i++)
		(void)waitpid(kids[i], &status, 0);
	print(c, "end", began);
	free(kids);
	return rc;
}
