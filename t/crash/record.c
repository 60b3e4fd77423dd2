/* record.c - an LD_PRELOAD library that writes down what a process does to the files below RECORD_ROOT, and what it says
 * For t/crash/powercut.py, which replays it up to a cut. The log is one shared mapping (RECORD_LOG), so it outlives forks
 * and closed descriptors, and all processes share one order. An effect is recorded after the call that had it, a sync
 * twice, before and after: a write counts as durable only if it was recorded before the begin of a sync that ended. What is
 * said to a peer is recorded before it is sent when it is an acknowledgement, after when it is mail: so a replay never
 * expects more, or less, than a client could. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOG_BYTES (UINT64_C(4) << 30)

struct event {
	uint64_t length; /* whole event, a multiple of 8; written last */
	uint64_t ino;
	uint64_t off;
	uint64_t name_len, data_len;
	uint32_t op;
	uint32_t flags;
};

enum { F_DSYNC = 1 };

static struct {
	_Atomic uint64_t used;
	char data[];
} * logmap;
static char root[PATH_MAX];
static unsigned sink_port;

static void
setup(void)
{
	const char *path = getenv("RECORD_LOG"), *r = getenv("RECORD_ROOT"), *port = getenv("RECORD_SINK");
	int fd;

	if (path == NULL || r == NULL || logmap != NULL)
		return;
	sink_port = port != NULL ? (unsigned)atoi(port) : 0;
	snprintf(root, sizeof root, "%s", r);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || ftruncate(fd, (off_t)LOG_BYTES) != 0)
		abort();
	logmap = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (logmap == MAP_FAILED)
		abort();
	close(fd);
}

__attribute__((constructor)) static void
begin(void)
{
	setup();
}

static void
record(uint32_t op, uint64_t ino, uint64_t off, uint32_t flags, const char *name, const struct iovec *v, int n,
       size_t bytes)
{
	size_t name_len = name != NULL ? strlen(name) : 0, left = bytes;
	uint64_t length = (sizeof(struct event) + name_len + bytes + 7) & ~UINT64_C(7);
	uint64_t at = atomic_fetch_add(&logmap->used, length);
	struct event *e = (struct event *)(void *)(logmap->data + at);
	char *to = (char *)(e + 1);

	if (at + length + 64 > LOG_BYTES)
		abort();
	e->ino = ino;
	e->off = off;
	e->op = op;
	e->flags = flags;
	e->name_len = name_len;
	e->data_len = bytes;
	memcpy(to, name, name_len);
	to += name_len;
	for (int i = 0; i < n && left > 0; i++) {
		size_t part = v[i].iov_len < left ? v[i].iov_len : left;
		memcpy(to, v[i].iov_base, part);
		to += part;
		left -= part;
	}
	atomic_thread_fence(memory_order_release);
	e->length = length;
}

/* The path of an open descriptor, if it lies below the root. */
static int
path_of(int fd, char out[PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, out, PATH_MAX - 1);
	if (n <= 0)
		return 0;
	out[n] = '\0';
	return strncmp(out, root, strlen(root)) == 0;
}

static int
full_path(int dirfd, const char *path, char out[PATH_MAX])
{
	char base[PATH_MAX];

	if (path[0] == '/')
		snprintf(out, PATH_MAX, "%s", path);
	else {
		if (dirfd == AT_FDCWD) {
			if (getcwd(base, sizeof base) == NULL)
				return 0;
		} else {
			char link[64];
			ssize_t n;
			snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
			if ((n = readlink(link, base, sizeof base - 1)) <= 0)
				return 0;
			base[n] = '\0';
		}
		if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
			return 0;
	}
	return strncmp(out, root, strlen(root)) == 0;
}

static int
watched(int fd, struct stat *st)
{
	char path[PATH_MAX];
	int saved = errno, yes;

	yes = logmap != NULL && fstat(fd, st) == 0 && (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) &&
	      path_of(fd, path);
	errno = saved;
	return yes;
}

#define REAL(type, name, ...)             \
	static type (*real)(__VA_ARGS__); \
	if (real == NULL)                 \
	*(void **)&real = dlsym(RTLD_NEXT, name)

static void
opened(int dirfd, const char *path, int fd, int flags, int existed)
{
	char full[PATH_MAX];
	struct stat st;
	int saved = errno;

	if (logmap == NULL || fd < 0 || (flags & (O_CREAT | O_TRUNC)) == 0 || !full_path(dirfd, path, full))
		;
	else if (fstat(fd, &st) == 0 && !existed)
		record('C', st.st_ino, 0, 0, full, NULL, 0, 0);
	else if (fstat(fd, &st) == 0 && (flags & O_TRUNC) != 0)
		record('T', st.st_ino, 0, 0, NULL, NULL, 0, 0);
	errno = saved;
}

static int
do_open(const char *symbol, int dirfd, const char *path, int flags, mode_t mode)
{
	REAL(int, symbol, int, const char *, int, ...);
	int existed =
		logmap != NULL && (flags & O_CREAT) != 0 && faccessat(dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	int fd = real(dirfd, path, flags, mode);

	opened(dirfd, path, fd, flags, existed);
	return fd;
}

#define MODE_OF(flags)                                \
	mode_t mode = 0;                              \
	if (((flags) & (O_CREAT | O_TMPFILE)) != 0) { \
		va_list ap;                           \
		va_start(ap, flags);                  \
		mode = va_arg(ap, mode_t);            \
		va_end(ap);                           \
	}

int
openat(int dirfd, const char *path, int flags, ...)
{
	MODE_OF(flags)
	return do_open("openat", dirfd, path, flags, mode);
}
int
openat64(int dirfd, const char *path, int flags, ...)
{
	MODE_OF(flags)
	return do_open("openat", dirfd, path, flags, mode);
}
int
open(const char *path, int flags, ...)
{
	MODE_OF(flags)
	return do_open("openat", AT_FDCWD, path, flags, mode);
}
int
open64(const char *path, int flags, ...)
{
	MODE_OF(flags)
	return do_open("openat", AT_FDCWD, path, flags, mode);
}

/* ---- writes */

static void
wrote(int fd, off_t off, const struct iovec *v, int n, ssize_t done)
{
	struct stat st;
	int saved = errno;

	if (done > 0 && watched(fd, &st)) {
		if (off < 0)
			off = lseek(fd, 0, SEEK_CUR) - done;
		record('W', st.st_ino, (uint64_t)off, (fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC)) != 0 ? F_DSYNC : 0,
		       NULL, v, n, (size_t)done);
	}
	errno = saved;
}

static int
to_sink(int fd)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof sin;

	return getpeername(fd, (struct sockaddr *)&sin, &len) == 0 && sin.sin_family == AF_INET &&
	       ntohs(sin.sin_port) == sink_port;
}

static int
is_socket(int fd)
{
	struct stat st;
	int saved = errno, yes = logmap != NULL && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);

	errno = saved;
	return yes;
}

static size_t
total(const struct iovec *v, int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += v[i].iov_len;
	return sum;
}

/* Acknowledgements and replies to clients: before they leave. */
static void
saying(int fd, const struct iovec *v, int n)
{
	int saved = errno;

	if (is_socket(fd) && !to_sink(fd) && n > 0 && v[0].iov_len >= 4 && memcmp(v[0].iov_base, "250 ", 4) == 0)
		record('A', 0, 0, 0, NULL, v, n, total(v, n));
	errno = saved;
}

static void
said(int fd, const struct iovec *v, int n, ssize_t done)
{
	int saved = errno;

	if (done > 0 && is_socket(fd) && to_sink(fd))
		record('S', (uint64_t)fd, (uint64_t)getpid(), 0, NULL, v, n, (size_t)done);
	errno = saved;
}

ssize_t
write(int fd, const void *p, size_t n)
{
	struct iovec v = { (void *)(uintptr_t)p, n };
	ssize_t done;
	REAL(ssize_t, "write", int, const void *, size_t);

	saying(fd, &v, 1);
	done = real(fd, p, n);
	wrote(fd, -1, &v, 1, done);
	said(fd, &v, 1, done);
	return done;
}
ssize_t
send(int fd, const void *p, size_t n, int flags)
{
	struct iovec v = { (void *)(uintptr_t)p, n };
	ssize_t done;
	REAL(ssize_t, "send", int, const void *, size_t, int);

	saying(fd, &v, 1);
	done = real(fd, p, n, flags);
	said(fd, &v, 1, done);
	return done;
}
ssize_t
writev(int fd, const struct iovec *v, int n)
{
	ssize_t done;
	REAL(ssize_t, "writev", int, const struct iovec *, int);

	saying(fd, v, n);
	done = real(fd, v, n);
	wrote(fd, -1, v, n, done);
	said(fd, v, n, done);
	return done;
}
ssize_t
sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t done;
	REAL(ssize_t, "sendmsg", int, const struct msghdr *, int);

	saying(fd, m->msg_iov, (int)m->msg_iovlen);
	done = real(fd, m, flags);
	said(fd, m->msg_iov, (int)m->msg_iovlen, done);
	return done;
}
ssize_t
pwrite(int fd, const void *p, size_t n, off_t off)
{
	struct iovec v = { (void *)(uintptr_t)p, n };
	ssize_t done;
	REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);

	done = real(fd, p, n, off);
	wrote(fd, off, &v, 1, done);
	return done;
}
ssize_t
pwrite64(int fd, const void *p, size_t n, off_t off)
{
	return pwrite(fd, p, n, off);
}
ssize_t
pwritev(int fd, const struct iovec *v, int n, off_t off)
{
	ssize_t done;
	REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);

	done = real(fd, v, n, off);
	wrote(fd, off, v, n, done);
	return done;
}
ssize_t
pwritev64(int fd, const struct iovec *v, int n, off_t off)
{
	return pwritev(fd, v, n, off);
}
ssize_t
pwritev2(int fd, const struct iovec *v, int n, off_t off, int flags)
{
	ssize_t done;
	REAL(ssize_t, "pwritev2", int, const struct iovec *, int, off_t, int);

	done = real(fd, v, n, off, flags);
	wrote(fd, off, v, n, done);
	return done;
}

/* ---- syncs */

static int
do_sync(const char *symbol, int fd)
{
	struct stat st;
	char path[PATH_MAX] = "";
	int watch = watched(fd, &st), rc;
	REAL(int, symbol, int);

	if (watch && S_ISDIR(st.st_mode))
		path_of(fd, path);
	if (watch)
		record('B', st.st_ino, (uint64_t)getpid() << 32 | (uint32_t)fd, 0, path, NULL, 0, 0);
	rc = real(fd);
	if (watch && rc == 0)
		record('E', st.st_ino, (uint64_t)getpid() << 32 | (uint32_t)fd, 0, path, NULL, 0, 0);
	return rc;
}
int
fsync(int fd)
{
	return do_sync("fsync", fd);
}
int
fdatasync(int fd)
{
	return do_sync("fdatasync", fd);
}

/* ---- names and sizes */

static void
renamed(int olddir, const char *old, int newdir, const char *new, int rc)
{
	char a[PATH_MAX], b[PATH_MAX];
	int saved = errno;

	if (rc == 0 && logmap != NULL && full_path(olddir, old, a) && full_path(newdir, new, b)) {
		struct iovec v = { b, strlen(b) };
		record('R', 0, 0, 0, a, &v, 1, v.iov_len);
	}
	errno = saved;
}
int
renameat(int olddir, const char *old, int newdir, const char *new)
{
	int rc;
	REAL(int, "renameat", int, const char *, int, const char *);

	rc = real(olddir, old, newdir, new);
	renamed(olddir, old, newdir, new, rc);
	return rc;
}
int
renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
	int rc;
	REAL(int, "renameat2", int, const char *, int, const char *, unsigned);

	rc = real(olddir, old, newdir, new, flags);
	renamed(olddir, old, newdir, new, rc);
	return rc;
}
int
rename(const char *old, const char *new)
{
	return renameat(AT_FDCWD, old, AT_FDCWD, new);
}
int
unlinkat(int dirfd, const char *path, int flags)
{
	char full[PATH_MAX];
	int rc, watch = logmap != NULL && flags == 0 && full_path(dirfd, path, full);
	REAL(int, "unlinkat", int, const char *, int);

	rc = real(dirfd, path, flags);
	if (rc == 0 && watch)
		record('U', 0, 0, 0, full, NULL, 0, 0);
	return rc;
}
int
unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}
int
mkdirat(int dirfd, const char *path, mode_t mode)
{
	char full[PATH_MAX];
	int rc;
	REAL(int, "mkdirat", int, const char *, mode_t);

	rc = real(dirfd, path, mode);
	if (rc == 0 && logmap != NULL && full_path(dirfd, path, full))
		record('M', 0, 0, 0, full, NULL, 0, 0);
	return rc;
}
int
mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}
int
ftruncate(int fd, off_t n)
{
	struct stat st;
	int rc;
	REAL(int, "ftruncate", int, off_t);

	rc = real(fd, n);
	if (rc == 0 && watched(fd, &st))
		record('T', st.st_ino, (uint64_t)n, 0, NULL, NULL, 0, 0);
	return rc;
}
int
ftruncate64(int fd, off_t n)
{
	return ftruncate(fd, n);
}
int
fallocate(int fd, int mode, off_t off, off_t n)
{
	struct stat st;
	int rc;
	REAL(int, "fallocate", int, int, off_t, off_t);

	rc = real(fd, mode, off, n);
	if (rc == 0 && watched(fd, &st))
		record('F', st.st_ino, (uint64_t)(off + n), (uint32_t)mode, NULL, NULL, 0, 0);
	return rc;
}
