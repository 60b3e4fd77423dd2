/* impetusctl - asks the running service, and tells it
 * impetusctl [-s SOCKET] [--json] [COMMAND ...]. Without COMMAND: one command a line from stdin, in one session.
 * Exit status: 0 done, 1 a command was refused, 2 no service was reached or the words are off. Of doctor: 0 all is well,
 * 1 a warning, 2 something is critical, 3 it could not be asked. Of why: 3 the message is not queued. */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "master/ctl/ctl_client.h"
#include "shm/base/mem.h"

enum { DOCTOR_UNKNOWN = 3 };

#define INSTALLED_SOCKET "/run/impetus/control"

static int
usage(FILE *to, int status)
{
	fputs("usage: impetusctl [-s SOCKET] [--json] [COMMAND ...]\n"
	      "       impetusctl help       lists the commands\n",
	      to);
	return status;
}

/* The socket of a service that runs from its build folder: run/control beside this binary. */
static char *
socket_beside_binary(void)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	struct bytes path = { 0 };

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	bytes_addf(&path, "%s/run/control", dirname(self));
	if (access(bytes_cstr(&path), F_OK) == 0)
		return path.p;
	bytes_fini(&path);
	return NULL;
}

static char *
find_socket(const char *given)
{
	char *beside;

	if (given != NULL)
		return mem_strdup(given);
	if (getenv("IMPETUS_CONTROL") != NULL)
		return mem_strdup(getenv("IMPETUS_CONTROL"));
	beside = socket_beside_binary();
	return beside != NULL ? beside : mem_strdup(INSTALLED_SOCKET);
}

static int
ask_and_print(int fd, struct slice line, bool *done)
{
	struct ctl_answer a = { .done = false };
	enum err e = ctl_ask(fd, line, &a);

	if (e != OK) {
		fprintf(stderr, "impetusctl: no answer: %s\n", e == ERR_IO ? strerror(errno) : err_text(e));
		bytes_fini(&a.text);
		return 2;
	}
	fwrite(a.text.p, 1, a.text.n, a.done ? stdout : stderr);
	if (a.text.n != 0 && a.text.p[a.text.n - 1] != '\n')
		fputc('\n', a.done ? stdout : stderr);
	if (fflush(stdout) != 0) {
		fprintf(stderr, "impetusctl: cannot write: %s\n", strerror(errno));
		a.status = 2;
	}
	bytes_fini(&a.text);
	*done = a.done;
	return a.status;
}

static int
run_stdin(int fd, bool json)
{
	bool terminal = isatty(STDIN_FILENO);
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int status = 0;

	for (;;) {
		struct bytes out = { 0 };
		bool done = false;
		int got;
		if (terminal) {
			fputs("impetus> ", stdout);
			fflush(stdout);
		}
		if ((n = getline(&line, &cap, stdin)) < 0)
			break;
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			n--;
		if (slice_trim(slice_of(line, (size_t)n)).n == 0)
			continue;
		if (json)
			bytes_add_str(&out, "--json ");
		bytes_add(&out, line, (size_t)n);
		got = ask_and_print(fd, slice_bytes(&out), &done);
		bytes_fini(&out);
		status = got > status ? got : status;
		if (got == 2 && !done)
			break;
	}
	free(line);
	return status;
}

static int
run_words(int fd, bool json, char **words)
{
	bool doctor = strcasecmp(*words, "doctor") == 0, done = false;
	struct bytes line = { 0 };
	int status;

	if (json)
		ctl_add_word(&line, "--json");
	for (; *words != NULL; words++)
		ctl_add_word(&line, *words);
	status = ask_and_print(fd, slice_bytes(&line), &done);
	bytes_fini(&line);
	return doctor && !done ? DOCTOR_UNKNOWN : status;
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' },
					       { "help", no_argument, NULL, 'h' },
					       { NULL, 0, NULL, 0 } };
	const char *given = NULL;
	bool json = false;
	char *path;
	int c, fd, status;

	/* '+': a command's own words, also those with a dash, are the command's. */
	while ((c = getopt_long(argc, argv, "+s:h", longs, NULL)) != -1) {
		if (c == 's')
			given = optarg;
		else if (c == 'j')
			json = true;
		else
			return c == 'h' ? usage(stdout, 0) : usage(stderr, 2);
	}
	path = find_socket(given);
	if (ctl_connect(path, &fd) != OK) {
		fprintf(stderr, "impetusctl: cannot reach %s: %s%s\n", path, strerror(errno),
			errno == ENOENT || errno == ECONNREFUSED ? " (is impetusd running?)" : "");
		free(path);
		return argv[optind] != NULL && strcasecmp(argv[optind], "doctor") == 0 ? DOCTOR_UNKNOWN : 2;
	}
	free(path);
	status = argv[optind] == NULL ? run_stdin(fd, json) : run_words(fd, json, argv + optind);
	close(fd);
	return status;
}
