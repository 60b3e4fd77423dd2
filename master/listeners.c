#include "master/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"

static enum err
refuse(struct bytes *why, const char *text, const char *what)
{
	int e = errno;

	if (why->n > 0)
		bytes_add_char(why, '\n');
	bytes_addf(why, "listener %s: %s: %s", text, what, strerror(e));
	return e == EADDRINUSE ? ERR_EXISTS : ERR_IO;
}

/* ---- one socket ---- */

/* Somebody answers there: it is in use. Nobody: it is the remnant of a process that was killed. */
static int
clear_stale(const struct sockaddr_un *sun, socklen_t len)
{
	struct stat st;
	int fd, rc;

	if (lstat(sun->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return -1;
	}
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
		return -1;
	rc = connect(fd, (const struct sockaddr *)sun, len);
	if (rc == 0 || errno == EAGAIN) {
		close(fd);
		errno = EADDRINUSE;
		return -1;
	}
	close(fd);
	return unlink(sun->sun_path);
}

/* /run is empty after every boot: the last directory of the path is made when it is missing. */
static void
make_parent(const char *path)
{
	char *dir = strdup(path), *slash = dir == NULL ? NULL : strrchr(dir, '/');

	if (slash != NULL && slash != dir) {
		*slash = '\0';
		if (mkdir(dir, 0755) == 0)
			(void)chmod(dir, 0755);
	}
	free(dir);
}

static int
unix_mode(const struct conf_listen *l, const struct identity *id)
{
	const struct sockaddr_un *sun = (const void *)&l->sa;

	if (id->privileged && lchown(sun->sun_path, (uid_t)-1, id->gid) < 0)
		return -1;
	return chmod(sun->sun_path, (mode_t)conf_int(l->view, OPT_FILE_MODE));
}

static int
bind_unix(int fd, const struct conf_listen *l, const struct identity *id)
{
	const struct sockaddr_un *sun = (const void *)&l->sa;
	mode_t mask;
	int rc;

	make_parent(sun->sun_path);
	if (clear_stale(sun, l->salen) < 0)
		return -1;
	mask = umask(0177); /* nobody else's until its mode is set */
	rc = bind(fd, (const struct sockaddr *)sun, l->salen);
	umask(mask);
	return rc < 0 ? -1 : unix_mode(l, id);
}

static int
bind_inet(int fd, const struct conf_listen *l)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return -1;
	/* "*" and "[*]" are two listens: neither takes the other's port */
	if (l->sa.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
		return -1;
	return bind(fd, (const struct sockaddr *)&l->sa, l->salen);
}

static enum err
open_one(const struct conf_listen *l, const struct identity *id, int *out, struct bytes *why)
{
	int fd = socket(l->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	enum err e = OK;

	if (fd < 0)
		return refuse(why, l->text, "cannot make a socket");
	if ((l->sa.ss_family == AF_UNIX ? bind_unix(fd, l, id) : bind_inet(fd, l)) < 0)
		e = refuse(why, l->text, "cannot bind");
	else if (listen(fd, (int)conf_int(l->view, OPT_LISTEN_BACKLOG)) < 0)
		e = refuse(why, l->text, "cannot listen");
	if (e != OK) {
		close(fd);
		return e;
	}
	*out = fd;
	return OK;
}

/* What is bound already gets the backlog and mode of the new configuration. */
static enum err
take_over(const struct conf_listen *l, const struct identity *id, const struct role_listener *old, int *out,
	  struct bytes *why)
{
	int fd = fcntl(old->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return refuse(why, l->text, "cannot keep the socket");
	(void)listen(fd, (int)conf_int(l->view, OPT_LISTEN_BACKLOG));
	if (l->sa.ss_family == AF_UNIX && unix_mode(l, id) < 0)
		log_errno(LOG_LVL_WARN, "master", "listener %s: cannot set its mode", l->text);
	*out = fd;
	return OK;
}

/* ---- a set ---- */

static enum listener_kind
kind_of(const struct conf_listen *l)
{
	return l->kind == LISTEN_CONTROL ? LISTENER_CONTROL : LISTENER_ESMTP;
}

static const struct role_listener *
find(const struct listeners *set, enum listener_kind kind, const char *text)
{
	for (size_t i = 0; set != NULL && i < set->n; i++)
		if (set->v[i].kind == kind && strcmp(set->v[i].text, text) == 0)
			return &set->v[i];
	return NULL;
}

static enum err
add_one(const struct conf_listen *l, size_t index, const struct identity *id, const struct listeners *old,
	struct listeners *out, struct bytes *why)
{
	struct role_listener *r = &out->v[out->n];
	const struct role_listener *has = find(old, kind_of(l), l->text);
	enum err e = has != NULL ? take_over(l, id, has, &r->fd, why) : open_one(l, id, &r->fd, why);

	if (e != OK)
		return e;
	r->kind = kind_of(l);
	r->index = index;
	r->addrlen = sizeof(r->addr);
	if (getsockname(r->fd, (struct sockaddr *)&r->addr, &r->addrlen) < 0)
		r->addrlen = 0;
	r->text = strdup(l->text);
	out->n++;
	return r->text == NULL ? ERR_NOMEM : OK;
}

enum err
listeners_open(const struct conf *conf, const struct identity *id, const struct listeners *old, struct listeners *out,
	       struct bytes *why)
{
	size_t n = conf_listen_count(conf);
	enum err e = OK, one;

	out->n = 0;
	if ((out->v = calloc(n + 1, sizeof(*out->v))) == NULL)
		return ERR_NOMEM;
	for (size_t i = 0; i < n; i++) {
		one = add_one(conf_listen_at(conf, i), i, id, old, out, why);
		/* all that fail are named; a busy address is only worth a wait if nothing else is wrong */
		if (one != OK && (e == OK || e == ERR_EXISTS))
			e = one;
	}
	if (e != OK)
		listeners_close(out, old);
	return e;
}

static void
close_one(const struct role_listener *r, const struct listeners *survivor)
{
	const struct sockaddr_un *sun = (const void *)&r->addr;

	if (r->addr.ss_family == AF_UNIX && r->text != NULL && find(survivor, r->kind, r->text) == NULL)
		(void)unlink(sun->sun_path);
	close(r->fd);
	free((void *)(uintptr_t)r->text);
}

void
listeners_close(struct listeners *l, const struct listeners *survivor)
{
	for (size_t i = 0; i < l->n; i++)
		close_one(&l->v[i], survivor);
	free(l->v);
	l->v = NULL;
	l->n = 0;
}

void
listeners_close_kind(struct listeners *l, enum listener_kind kind)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i].kind == kind)
			close_one(&l->v[i], NULL);
		else
			l->v[kept++] = l->v[i];
	}
	l->n = kept;
}

struct role_listener *
listeners_of_kind(const struct listeners *l, enum listener_kind kind, unsigned *n)
{
	struct role_listener *v = calloc(l->n + 1, sizeof(*v));

	*n = 0;
	if (v == NULL)
		return NULL;
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].kind == kind)
			v[(*n)++] = l->v[i];
	return v;
}
