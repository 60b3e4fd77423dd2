#include "policy/policy_bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base/mem.h"

struct policy_bundle {
	size_t n, cap, bytes;
	struct policy_script *scripts;
};

/* The master calls this: what grows without bound below is bounded by POLICY_BUNDLE_*, so mem.h is fine at a start. */
struct policy_bundle *
policy_bundle_new(void)
{
	return mem_zalloc(sizeof(struct policy_bundle));
}

/* The bundle owns what its rows point to; the rows say const for everybody else. */
static void
script_free(struct policy_script *s)
{
	free((void *)(uintptr_t)s->name);
	free((void *)(uintptr_t)s->path);
	free((void *)(uintptr_t)s->text.p);
}

void
policy_bundle_free(struct policy_bundle **p)
{
	struct policy_bundle *b = *p;

	*p = NULL;
	if (b == NULL)
		return;
	for (size_t i = 0; i < b->n; i++)
		script_free(&b->scripts[i]);
	free(b->scripts);
	free(b);
}

static bool
name_equal(struct slice asked, const char *name)
{
	if (strlen(name) != asked.n)
		return false;
	for (size_t i = 0; i < asked.n; i++)
		if ((asked.p[i] == '/' ? '.' : asked.p[i]) != name[i])
			return false;
	return true;
}

const struct policy_script *
policy_bundle_find(const struct policy_bundle *b, struct slice name)
{
	for (size_t i = 0; i < b->n; i++)
		if (name_equal(name, b->scripts[i].name))
			return &b->scripts[i];
	return NULL;
}

enum err
policy_bundle_add(struct policy_bundle *b, const char *name, const char *path, struct slice text)
{
	if (policy_bundle_find(b, slice_str(name)) != NULL)
		return ERR_EXISTS;
	if (b->n == POLICY_BUNDLE_FILES || text.n > POLICY_BUNDLE_BYTES - b->bytes)
		return ERR_FULL;
	if (b->n == b->cap) {
		b->cap = b->cap == 0 ? 16 : b->cap * 2;
		b->scripts = mem_array(b->scripts, b->cap, sizeof(b->scripts[0]));
	}
	b->scripts[b->n++] = (struct policy_script){ .name = mem_strdup(name),
						     .path = mem_strdup(path),
						     .text = slice_of(slice_dup(text), text.n) };
	b->bytes += text.n;
	return OK;
}

/* All of fd's file, a regular one. ERR_IO with errno, ERR_FULL. */
static enum err
read_file(int fd, struct bytes *out)
{
	struct stat st;
	ssize_t got;

	if (fstat(fd, &st) < 0)
		return ERR_IO;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return ERR_IO;
	}
	do {
		if (out->n > POLICY_BUNDLE_BYTES)
			return ERR_FULL;
		got = read(fd, bytes_room(out, 16384), 16384);
		if (got > 0)
			out->n += (size_t)got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	return got < 0 ? ERR_IO : OK;
}

static enum err
add_file(struct policy_bundle *b, int dirfd, const char *file, const char *name, const char *path, struct bytes *errs)
{
	struct bytes text = { 0 };
	/* Non-blocking: a FIFO of that name must not stop a start. */
	const int fd = openat(dirfd, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	enum err e = fd < 0 ? ERR_IO : read_file(fd, &text);

	if (e == OK)
		e = policy_bundle_add(b, name, path, slice_bytes(&text));
	else if (e == ERR_IO)
		bytes_addf(errs, "%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	bytes_fini(&text);
	return e == ERR_FULL ? ERR_FULL : OK;
}

/* A name that can be a part of a module's name: no dot, for dots stand between directories. */
static bool
part_valid(const char *part, size_t n)
{
	if (n == 0 || part[0] == '.')
		return false;
	return memchr(part, '.', n) == NULL;
}

static enum err add_tree(struct policy_bundle *b, int dirfd, const char *prefix, const char *path, int depth,
			 struct bytes *errs);

static enum err
add_entry(struct policy_bundle *b, int dirfd, const struct dirent *ent, const char *prefix, const char *path, int depth,
	  struct bytes *errs)
{
	const size_t n = strlen(ent->d_name);
	struct bytes name = { 0 }, full = { 0 };
	enum err e = OK;

	bytes_addf(&full, "%s/%s", path, ent->d_name);
	if (n > 4 && strcmp(ent->d_name + n - 4, ".lua") == 0 && part_valid(ent->d_name, n - 4)) {
		bytes_addf(&name, "%s%.*s", prefix, (int)(n - 4), ent->d_name);
		e = add_file(b, dirfd, ent->d_name, bytes_cstr(&name), bytes_cstr(&full), errs);
	} else if (depth > 0 && part_valid(ent->d_name, n)) {
		const int fd = openat(dirfd, ent->d_name, O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW);

		bytes_addf(&name, "%s%s.", prefix, ent->d_name);
		if (fd >= 0)
			e = add_tree(b, fd, bytes_cstr(&name), bytes_cstr(&full), depth - 1, errs);
	}
	bytes_fini(&name);
	bytes_fini(&full);
	return e;
}

/* Takes dirfd. */
static enum err
add_tree(struct policy_bundle *b, int dirfd, const char *prefix, const char *path, int depth, struct bytes *errs)
{
	struct dirent **list = NULL;
	const int n = scandirat(dirfd, ".", &list, NULL, alphasort);
	enum err e = OK;

	if (n < 0)
		bytes_addf(errs, "%s: %s\n", path, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (e == OK)
			e = add_entry(b, dirfd, list[i], prefix, path, depth, errs);
		free(list[i]);
	}
	free(list);
	close(dirfd);
	return e;
}

enum err
policy_bundle_add_dir(struct policy_bundle *b, const char *dir, int depth, struct bytes *errs)
{
	const int fd = open(dir, O_RDONLY | O_CLOEXEC | O_DIRECTORY);

	if (fd < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			bytes_addf(errs, "%s: %s\n", dir, strerror(errno));
		return OK;
	}
	return add_tree(b, fd, "", dir, depth, errs);
}
