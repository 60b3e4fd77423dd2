#include "master/ctl/ctl_client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024 };

enum err
ctl_connect(const char *path, int *fd)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t n = strlen(path) + 1;
	int s;

	if (n > sizeof sun.sun_path) {
		errno = ENAMETOOLONG;
		return ERR_IO;
	}
	memcpy(sun.sun_path, path, n);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return ERR_IO;
	if (connect(s, (struct sockaddr *)&sun, sizeof sun) != 0) {
		int saved = errno;
		close(s);
		errno = saved;
		return ERR_IO;
	}
	*fd = s;
	return OK;
}

static enum err
send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return errno == EPIPE ? ERR_EOF : ERR_IO;
		p += w;
		n -= (size_t)w;
	}
	return OK;
}

static enum err
read_some(int fd, char *p, size_t n)
{
	while (n > 0) {
		ssize_t r = read(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return ERR_IO;
		if (r == 0)
			return ERR_EOF;
		p += r;
		n -= (size_t)r;
	}
	return OK;
}

/* The head is short and comes first: byte by byte costs nothing that matters here. */
static enum err
read_head(int fd, struct ctl_answer *a, uint64_t *length)
{
	char head[32];
	struct slice words;
	uint64_t status;
	size_t n = 0, blank;
	enum err e;

	do {
		if (n == sizeof head)
			return ERR_SYNTAX;
		if ((e = read_some(fd, head + n, 1)) != OK)
			return e;
	} while (head[n++] != '\n');
	if (head[0] != '+' && head[0] != '-')
		return ERR_SYNTAX;
	a->done = head[0] == '+';
	words = slice_of(head + 1, n - 2);
	blank = slice_find(words, ' ');
	status = !a->done;
	if (blank < words.n && !slice_u64(slice_of(words.p + blank + 1, words.n - blank - 1), CTL_STATUS_MOST, &status))
		return ERR_SYNTAX;
	a->status = (int)status;
	return slice_u64(slice_of(words.p, blank), CTL_ANSWER_MOST, length) ? OK : ERR_SYNTAX;
}

enum err
ctl_ask(int fd, struct slice line, struct ctl_answer *a)
{
	uint64_t length;
	enum err e;

	a->text.n = 0;
	if ((e = send_all(fd, line.p, line.n)) != OK || (e = send_all(fd, "\n", 1)) != OK)
		return e;
	if ((e = read_head(fd, a, &length)) != OK)
		return e;
	while (a->text.n < length) { /* memory for what has come, not for what was promised */
		size_t n = length - a->text.n < CHUNK ? (size_t)(length - a->text.n) : CHUNK;

		if ((e = read_some(fd, bytes_room(&a->text, n), n)) != OK) {
			a->text.n = 0;
			return e;
		}
		a->text.n += n;
	}
	return OK;
}

void
ctl_add_word(struct bytes *line, const char *word)
{
	if (line->n != 0)
		bytes_add_char(line, ' ');
	if (*word != '\0' && strpbrk(word, " \t\"\\\n\r") == NULL) {
		bytes_add_str(line, word);
		return;
	}
	bytes_add_char(line, '"');
	for (; *word != '\0'; word++) {
		if (*word == '"' || *word == '\\')
			bytes_add_char(line, '\\');
		bytes_add_char(line, *word == '\n' || *word == '\r' ? ' ' : *word);
	}
	bytes_add_char(line, '"');
}
