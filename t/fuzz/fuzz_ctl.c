/* The client of the control socket: an answer that is read is the one that was sent, whatever else comes is an error;
 * and words that it sends are the words that the service finds.
 * First byte: what the rest is. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "master/ctl/ctl_client.c"
#include "shm/base/log.h"
#include "worker/console/console_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What was asked so far: the room in the socket has an end, and who asks waits for it. */
static void
drain(int fd)
{
	char sink[512];

	while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		continue;
}

static void
check_answer(struct slice said)
{
	struct ctl_answer a = { .done = false };
	int fd[2];

	require_that(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0, "fuzz");
	require_that(send_all(fd[1], said.p, said.n) == OK && shutdown(fd[1], SHUT_WR) == 0, "fuzz");
	while (ctl_ask(fd[0], SLICE("summary"), &a) == OK) {
		size_t head = slice_find(said, '\n') + 1;

		drain(fd[1]);
		require_that(said.n >= head + a.text.n && said.p[0] == (a.done ? '+' : '-'), "fuzz");
		require_that(slice_eq(slice_bytes(&a.text), slice_of(said.p + head, a.text.n)), "fuzz");
		require_that(a.status >= 0 && a.status <= CTL_STATUS_MOST, "fuzz");
		said = slice_of(said.p + head + a.text.n, said.n - head - a.text.n);
	}
	require_that(a.text.n == 0, "fuzz");
	close(fd[0]);
	close(fd[1]);
	bytes_fini(&a.text);
}

/* Words are parted by NULs. */
static void
check_words(struct slice in)
{
	struct bytes line = { 0 }, copy = { 0 };
	struct slice words[COMMAND_WORDS], rest;
	unsigned n, sent = 0;

	bytes_add_slice(&copy, in);
	bytes_add_char(&copy, '\0');
	for (size_t i = 0; i < copy.n; i++)
		if (copy.p[i] == '\n' || copy.p[i] == '\r')
			copy.p[i] = ' '; /* as it sends them */
	rest = slice_bytes(&copy);
	while (rest.n > 0 && sent < COMMAND_WORDS) {
		size_t len = strlen(rest.p);

		ctl_add_word(&line, rest.p);
		rest = slice_of(rest.p + len + 1, rest.n - len - 1);
		sent++;
	}
	require_that(command_split(&line, words, &n) == OK && n == sent, "fuzz");
	rest = slice_bytes(&copy);
	for (unsigned i = 0; i < n; i++) {
		require_that(slice_eq(words[i], slice_str(rest.p)), "fuzz");
		rest = slice_of(rest.p + words[i].n + 1, rest.n - words[i].n - 1);
	}
	bytes_fini(&line);
	bytes_fini(&copy);
}

/* A line of anybody's: words lie within it and do not overlap. */
static void
check_split(struct slice in)
{
	struct bytes line = { 0 };
	struct slice words[COMMAND_WORDS];
	unsigned n;
	const char *at;

	bytes_add_slice(&line, in);
	at = line.p;
	if (command_split(&line, words, &n) == OK)
		for (unsigned i = 0; i < n; i++) {
			require_that(words[i].p >= at && words[i].p + words[i].n <= line.p + line.n, "fuzz");
			at = words[i].p + words[i].n;
		}
	bytes_fini(&line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 1)
		return 0;
	switch (data[0] % 3) {
	case 0:
		check_answer(slice_of(data + 1, n - 1));
		break;
	case 1:
		check_words(slice_of(data + 1, n - 1));
		break;
	default:
		check_split(slice_of(data + 1, n - 1));
		break;
	}
	return 0;
}
