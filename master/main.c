/* impetusd: reads the command line; what follows is in master.c. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/master.h"
#include "master/trial.h"
#include "shm/base/log.h"

#define DEFAULT_CONF IMPETUS_SYSCONFDIR "/impetus/impetus.conf"

enum { OPT_STRICT = 256 };

struct given {
	const char *conf;
	bool foreground, test, strict, print, version;
};

static int
usage(void)
{
	fputs("usage: impetusd [-c FILE] [-f] [-t [--strict]] [-T] [-V]\n"
	      "  -c FILE   configuration (default " DEFAULT_CONF ")\n"
	      "  -f        stay in the foreground, copy start-up and paniclog lines to stderr\n"
	      "  -t        check the configuration and exit with 0 or 1; --strict: what is not built is an error\n"
	      "  -T        print the effective configuration\n"
	      "  -V        print the version\n",
	      stderr);
	return 1;
}

static bool
read_options(int argc, char **argv, struct given *g)
{
	static const struct option longs[] = { { "strict", no_argument, NULL, OPT_STRICT }, { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "c:ftTV", longs, NULL)) != -1)
		switch (c) {
		case 'c':
			g->conf = optarg;
			break;
		case 'f':
			g->foreground = true;
			break;
		case 't':
			g->test = true;
			break;
		case 'T':
			g->print = true;
			break;
		case 'V':
			g->version = true;
			break;
		case OPT_STRICT:
			g->strict = true;
			break;
		default:
			return false;
		}
	return optind == argc && (!g->strict || g->test);
}

static void
tell_plain(void *arg, enum log_level level, const char *text)
{
	(void)arg;
	(void)level;
	for (const char *p = text; *p != '\0'; p++)
		fputc((unsigned char)*p < ' ' && *p != '\n' && *p != '\t' ? '?' : *p, stderr);
	fputc('\n', stderr);
}

static int
check(const struct given *g, const char *conf)
{
	struct trial_spec spec = { .path = conf, .strict = g->strict, .print = g->print };

	return trial_run(&spec, tell_plain, NULL) ? 0 : 1;
}

/* 0, 1 and 2 are always something, so that nothing we open becomes one of them; all else is not ours. */
static void
clean_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	close_range(STDERR_FILENO + 1, ~0u, 0);
}

int
main(int argc, char **argv, char **envp)
{
	struct given g = { .conf = DEFAULT_CONF };
	struct master_options_given master = { .conf_path = NULL };
	char conf[PATH_MAX];

	clean_descriptors();
	if (!read_options(argc, argv, &g))
		return usage();
	if (g.version) {
		puts("impetusd " IMPETUS_VERSION);
		return 0;
	}
	if (realpath(g.conf, conf) == NULL) {
		fprintf(stderr, "impetusd: %s: %s\n", g.conf, strerror(errno));
		return 1;
	}
	setproctitle_init(argc, argv, envp);
	if (g.test || g.print)
		return check(&g, conf);
	if (chdir("/") < 0)
		return 1;
	master.conf_path = conf;
	master.foreground = g.foreground;
	return master_run(&master);
}
