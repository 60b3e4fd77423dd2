#include "master/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "master/revision.h"
#include "shm/base/log.h"
#include "worker/log/ec_logger.h"

void
logs_init(struct logs *l)
{
	for (int i = 0; i < ROLE_LOGS; i++)
		l->fd[i] = -1;
	l->own = NULL;
}

/* Made when only it is missing, as a fresh system has no folder of ours below /var/log. */
static int
open_dir(const char *path, bool privileged)
{
	char *dir = strdup(path), *slash = dir == NULL ? NULL : strrchr(dir, '/');
	struct stat st;
	int fd = -1;

	if (slash != NULL) {
		*slash = '\0';
		(void)mkdir(slash == dir ? "/" : dir, 0755);
		fd = open(slash == dir ? "/" : dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	} else {
		errno = EINVAL;
	}
	free(dir);
	if (fd >= 0 && privileged && (fstat(fd, &st) < 0 || st.st_uid != 0 || (st.st_mode & S_IWOTH) != 0)) {
		close(fd);
		errno = EPERM;
		return -1;
	}
	return fd;
}

static int
open_one(const char *path, unsigned mode, bool privileged)
{
	int dir = open_dir(path, privileged), fd, e;
	struct stat st;
	mode_t mask;

	if (dir < 0)
		return -1;
	mask = umask(0); /* the mode is the operator's to say */
	fd = openat(dir, strrchr(path, '/') + 1,
		    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode);
	e = errno;
	umask(mask);
	close(dir);
	if (fd >= 0 && (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)))) {
		close(fd);
		fd = -1;
		e = EINVAL;
	}
	errno = e;
	return fd;
}

enum err
logs_open(struct logs *l, const struct revision *r, bool privileged)
{
	enum err e = OK;

	for (int i = 0; i < ROLE_LOGS; i++) {
		unsigned mode;
		const char *path = revision_log_path(r, i, &mode);
		int fd = *path == '\0' ? -1 : open_one(path, mode, privileged);

		if (fd < 0 && *path != '\0') {
			log_errno(LOG_LVL_ERROR, "master", "cannot open the log %s", path);
			e = ERR_IO;
			continue;
		}
		if (l->fd[i] >= 0)
			close(l->fd[i]);
		l->fd[i] = fd;
	}
	return e;
}

void
logs_speak(struct logs *l, bool to_stderr)
{
	int panic = l->fd[ROLE_LOG_PANIC];
	struct eclog_conf c = { .fd = { -1, -1, -1 }, .errors = true, .panic_to_stderr = to_stderr };

	if (panic >= 0)
		c.fd[ECLOG_PANIC] = fcntl(panic, F_DUPFD_CLOEXEC, 0);
	log_set_sink(NULL, NULL);
	eclog_free(&l->own);
	l->own = eclog_new(&c);
	log_set_sink(eclog_panic_line, l->own);
}

void
logs_fini(struct logs *l)
{
	log_set_sink(NULL, NULL);
	eclog_free(&l->own);
	for (int i = 0; i < ROLE_LOGS; i++)
		if (l->fd[i] >= 0)
			close(l->fd[i]);
	logs_init(l);
}

unsigned char
logs_mask(const struct logs *l, int fds[ROLE_LOGS], unsigned *n)
{
	unsigned char mask = 0;

	*n = 0;
	for (int i = 0; i < ROLE_LOGS; i++)
		if (l->fd[i] >= 0) {
			mask |= (unsigned char)(1u << i);
			fds[(*n)++] = l->fd[i];
		}
	return mask;
}
