/* Reading the files of a configuration: where an include is sought, what may be included, and how much. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/conf/conf_parse.h"

enum {
	INCLUDE_DEPTH_MAX = 32,
	TOTAL_MAX = 64 << 20, /* bytes of all files together: room for any configuration, not for a device */
};

const char *
conf_dir_of(struct arena *arena, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return ".";
	if (slash == path)
		return "/";
	return arena_slice(arena, slice_of(path, (size_t)(slash - path))).p;
}

/* Reads the whole of fd; false when it cannot, errno set. */
static bool
read_all(struct conf_reader *r, int fd, struct bytes *out)
{
	ssize_t n;

	do {
		n = read(fd, bytes_room(out, 65536), 65536);
		if (n < 0 && errno == EINTR) {
			n = 1;
			continue;
		}
		if (n < 0)
			return false;
		out->n += (size_t)n;
		r->bytes += (size_t)n;
		if (r->bytes > TOTAL_MAX) {
			errno = EFBIG;
			return false;
		}
	} while (n > 0);
	return true;
}

static bool
includes_itself(const struct conf_file *from, const struct stat *st)
{
	for (; from != NULL; from = from->outer)
		if (from->ino == st->st_ino && from->dev == st->st_dev)
			return true;
	return false;
}

static void parse_path(struct conf_reader *r, const struct conf_file *from, const struct conf_word *what,
		       const char *path, struct conf_stmts *out);

static int
visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* strcmp, not alphasort: the order must not depend on the locale. */
static int
by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void
parse_directory(struct conf_reader *r, const struct conf_file *from, const struct conf_word *what, const char *path,
		struct conf_stmts *out)
{
	struct dirent **names;
	int n = scandir(path, &names, visible, by_bytes);

	if (n < 0) {
		conf_report(r->errs, CONF_ERROR, what->pos, "cannot read directory %s: %s", path, strerror(errno));
		return;
	}
	for (int i = 0; i < n; i++) {
		const char *name = arena_printf(r->arena, "%s/%s", path, names[i]->d_name);
		struct stat st;

		if (stat(name, &st) != 0 || !S_ISDIR(st.st_mode))
			parse_path(r, from, what, name, out);
		free(names[i]);
	}
	free(names);
}

static void
parse_open(struct conf_reader *r, const struct conf_file *from, const struct conf_word *what, int fd,
	   struct conf_file *file, struct conf_stmts *out)
{
	struct bytes text = { 0 };
	struct stat st;

	if (fstat(fd, &st) != 0) {
		conf_report(r->errs, CONF_ERROR, what->pos, "cannot read %s: %s", file->path, strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		parse_directory(r, from, what, file->path, out);
	} else if (!S_ISREG(st.st_mode)) {
		conf_report(r->errs, CONF_ERROR, what->pos, "%s is no file and no directory", file->path);
	} else if (includes_itself(from, &st)) {
		conf_report(r->errs, CONF_ERROR, what->pos, "%s includes itself", file->path);
	} else if (!read_all(r, fd, &text)) {
		conf_report(r->errs, CONF_ERROR, what->pos, "cannot read %s: %s", file->path, strerror(errno));
	} else {
		file->dev = st.st_dev;
		file->ino = st.st_ino;
		conf_parse_text(r, file, slice_bytes(&text), out);
	}
	bytes_fini(&text);
}

static void
parse_path(struct conf_reader *r, const struct conf_file *from, const struct conf_word *what, const char *path,
	   struct conf_stmts *out)
{
	struct conf_file file = { .outer = from, .path = path, .dir = conf_dir_of(r->arena, path) };
	int fd;

	if (r->depth >= INCLUDE_DEPTH_MAX) {
		conf_report(r->errs, CONF_ERROR, what->pos, "includes are nested too deep here");
		return;
	}
	/* Not blocking: a pipe with no writer must be an error, not a wait. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		conf_report(r->errs, CONF_ERROR, what->pos, "cannot open %s: %s", path, strerror(errno));
		return;
	}
	r->depth++;
	parse_open(r, from, what, fd, &file, out);
	r->depth--;
	close(fd);
}

void
conf_parse_file(struct conf_reader *r, const char *path, struct conf_stmts *out)
{
	struct conf_word what = { { path, 0, 0 }, path };

	parse_path(r, NULL, &what, arena_strdup(r->arena, path), out);
}

/* A relative name is sought beside the including file, then beside the main file. */
static const char *
find(struct conf_reader *r, const struct conf_file *from, const char *name)
{
	const char *path;

	if (name[0] == '/')
		return name;
	path = arena_printf(r->arena, "%s/%s", from->dir, name);
	if (access(path, F_OK) == 0)
		return path;
	return arena_printf(r->arena, "%s/%s", r->dir, name);
}

/* The path behind "file://", name itself when it is no address, or NULL. */
static const char *
local_path(const char *name)
{
	const char *scheme = strstr(name, "://");

	if (scheme == NULL)
		return name;
	return strncmp(name, "file://", 7) == 0 ? name + 7 : NULL;
}

void
conf_parse_include(struct conf_reader *r, const struct conf_file *from, struct conf_word what, struct conf_stmts *out)
{
	const char *name = local_path(what.text);

	if (r->no_files)
		conf_report(r->errs, CONF_ERROR, what.pos, "no file can be included here");
	else if (name == NULL)
		conf_report(r->errs, CONF_ERROR, what.pos, "cannot include %s: only files, by path or file://",
			    what.text);
	else if (name[0] == '\0')
		conf_report(r->errs, CONF_ERROR, what.pos, "found an empty name, expected the name of a file");
	else
		parse_path(r, from, &what, find(r, from, name), out);
}
