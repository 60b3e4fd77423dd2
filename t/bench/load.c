/* load - sends mail to an MTA over many sessions with few system calls, and counts what becomes of it
 *
 * t/bench/README.md says what the options and the counts are. */
#include "t/bench/load.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/base/clock.h"
#include "shm/base/log.h"
#include "shm/base/mem.h"

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
		"load [-a HOST:PORT] [-s SESSIONS] [-m MESSAGES] [-t SECONDS] [-l BYTES] [-p PROCESSES]\n"
		"     [-n RECIPIENTS] [-d DOMAINS] [-D SUFFIX] [-f SENDER] [-b FIRST] [-S ADDRESSES] [-w MS] [-e MS]\n"
		"     [-g SECONDS] [-1] [-P] [-i]\n"
		"-1 one message a connection, -P pipelining, -i idle sessions; see t/bench/README.md\n");
	exit(2);
}

static void
options(int argc, char **argv, struct load_options *o)
{
	int c;

	while ((c = getopt(argc, argv, "a:s:m:t:l:p:n:d:D:f:b:S:w:e:g:1Pi")) != -1) {
		switch (c) {
		case 'a':
			if (!wire_address(optarg, &o->to))
				usage();
			break;
		case 's':
			o->sessions = wire_number(optarg, "-s", 1, 1000000);
			break;
		case 'm':
			o->messages = wire_number(optarg, "-m", 1, UINT32_MAX);
			break;
		case 't':
			o->seconds = wire_number(optarg, "-t", 1, 1000000);
			break;
		case 'l':
			o->bytes = wire_number(optarg, "-l", 1, 1 << 30);
			break;
		case 'p':
			o->processes = wire_number(optarg, "-p", 1, 64);
			break;
		case 'n':
			o->rcpts = wire_number(optarg, "-n", 1, 1000);
			break;
		case 'd':
			o->domains = wire_number(optarg, "-d", 1, 1000000000);
			break;
		case 'D':
			o->suffix = optarg;
			break;
		case 'f':
			o->from = optarg;
			break;
		case 'b':
			o->base = wire_number(optarg, "-b", 0, UINT32_MAX);
			break;
		case 'S':
			o->sources = wire_number(optarg, "-S", 1, 65000);
			break;
		case 'w':
			o->pause = wire_number(optarg, "-w", 0, 3600000);
			break;
		case 'e':
			o->every = wire_number(optarg, "-e", 1, 3600000);
			break;
		case 'g':
			o->grace = wire_number(optarg, "-g", 0, 3600);
			break;
		case '1':
			o->one = true;
			break;
		case 'P':
			o->pipeline = true;
			break;
		case 'i':
			o->idle = true;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || o->messages % o->rcpts != 0)
		usage();
	o->bytes = (o->bytes + WIRE_LINE - 1) / WIRE_LINE * WIRE_LINE;
}

static void
print(struct load_counts *c, const char *what, usec_t began)
{
	uint64_t settled = count_get(&c->ok) + count_get(&c->temp) + count_get(&c->perm) + count_get(&c->lost);
	char line[1024];
	int n = snprintf(line, sizeof line,
			 "%s t=%.3f ok=%llu tx=%llu sent=%llu temp=%llu perm=%llu lost=%llu unfinished=%llu conns=%llu "
			 "open=%llu "
			 "idle=%llu noconn=%llu shut=%llu ended=%llu odd=%llu first=%.6f last=%.6f",
			 what, (double)(clock_mono() - began) / 1e6, (unsigned long long)count_get(&c->ok),
			 (unsigned long long)count_get(&c->tx), (unsigned long long)count_get(&c->sent),
			 (unsigned long long)count_get(&c->temp), (unsigned long long)count_get(&c->perm),
			 (unsigned long long)count_get(&c->lost), (unsigned long long)(count_get(&c->begun) - settled),
			 (unsigned long long)count_get(&c->conns), (unsigned long long)count_get(&c->open),
			 (unsigned long long)count_get(&c->idle), (unsigned long long)count_get(&c->noconn),
			 (unsigned long long)count_get(&c->shut), (unsigned long long)count_get(&c->ended),
			 (unsigned long long)count_get(&c->odd), (double)count_get(&c->first) / 1e6,
			 (double)count_get(&c->last) / 1e6);

	if (n < 0 || write(1, line, (size_t)n) != n)
		_exit(1); /* nobody listens any more */
}

/* The share of messages answered within so many microseconds: the upper bound of the step that holds it. */
static double
share_within(struct load_counts *c, double share)
{
	uint64_t all = count_get(&c->tx), seen = 0;

	for (unsigned i = 0; i < LOAD_LATENCIES; i++) {
		seen += count_get(&c->took[i]);
		if (all > 0 && (double)seen >= share * (double)all)
			return (double)(1ULL << (i / 2)) * (i % 2 ? 1.41421356 : 1.0);
	}
	return 0;
}

static uint64_t
reap(pid_t *kids, uint64_t n)
{
	uint64_t alive = 0;

	for (uint64_t i = 0; i < n; i++) {
		int status;

		if (kids[i] > 0 && waitpid(kids[i], &status, WNOHANG) == kids[i]) {
			kids[i] = 0;
			if (status != 0) {
				fprintf(stderr, "load: a process ended with %d\n", status);
				exit(1);
			}
		}
		alive += kids[i] > 0;
	}
	return alive;
}

/* Prints until all processes have ended; sets stop when the time is up or a signal came, ends them after the grace. */
static void
supervise(const struct load_options *o, struct load_counts *c, pid_t *kids, usec_t began)
{
	usec_t stopped = 0, printed = began;

	while (reap(kids, o->processes) > 0) {
		usec_t now = clock_mono();

		if (signals > 0 || (o->seconds > 0 && now - began >= (usec_t)o->seconds * USEC_PER_SEC))
			atomic_store(&c->stop, 1);
		if (stopped == 0 && count_get(&c->stop))
			stopped = now;
		if (stopped > 0 && (signals > 1 || now - stopped > (usec_t)o->grace * USEC_PER_SEC)) {
			for (uint64_t i = 0; i < o->processes; i++)
				if (kids[i] > 0) {
					kill(kids[i], SIGKILL);
					waitpid(kids[i], NULL, 0);
				}
			return;
		}
		if (now - printed >= (usec_t)o->every * USEC_PER_MS) {
			print(c, "run", began);
			(void)!write(1, "\n", 1);
			printed = now;
		}
		poll(NULL, 0, 10);
	}
}

int
main(int argc, char **argv)
{
	struct load_options o = { .sessions = 1,
				  .bytes = 4096,
				  .processes = 1,
				  .rcpts = 1,
				  .domains = 1,
				  .pause = 100,
				  .every = 100,
				  .grace = 30,
				  .suffix = "test",
				  .from = "from@source.test" };
	struct load_counts *c = wire_share(sizeof *c);
	struct sigaction sa = { .sa_handler = on_signal };
	usec_t began = clock_mono();
	char tail[128];
	int n;

	wire_address("2525", &o.to);
	options(argc, argv, &o);
	wire_descriptors();
	pid_t *kids = mem_array(NULL, o.processes, sizeof *kids);
	for (uint64_t i = 0; i < o.processes; i++) {
		if ((kids[i] = fork()) < 0)
			log_fatal("load", "cannot fork");
		if (kids[i] == 0) {
			signal(SIGINT, SIG_IGN);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			load_run(&o, c, i, o.processes);
			_exit(0);
		}
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	supervise(&o, c, kids, began);
	print(c, "end", began);
	n = snprintf(tail, sizeof tail, " p50_ms=%.3f p99_ms=%.3f max_ms=%.3f\n", share_within(c, 0.5) / 1e3,
		     share_within(c, 0.99) / 1e3, share_within(c, 1) / 1e3);
	free(kids);
	return n > 0 && write(1, tail, (size_t)n) == n ? 0 : 1;
}
