/* policy_bundle.h - the texts of all scripts, read before the root directory changes
 * The master reads every *.lua below the search directories once and hands the bundle down with the fork; `source` of a
 * script stanza and `require` are served from it, by module name: "a.b", "a/b" and the file a/b.lua are the same. An
 * earlier directory wins. Nothing is compiled here. Bounded: POLICY_BUNDLE_*. Owner: the generation. */
#ifndef POLICY_POLICY_BUNDLE_H
#define POLICY_POLICY_BUNDLE_H

#include <stddef.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

enum {
	POLICY_BUNDLE_FILES = 4096,
	POLICY_BUNDLE_BYTES = 64 << 20,
	POLICY_BUNDLE_DEPTH = 8, /* enough for any tree of scripts */
};

struct policy_bundle;

struct policy_script {
	const char *name; /* "site", "msys.boot": dots between directories */
	const char *path; /* the file, for messages */
	struct slice text;
};

struct policy_bundle *policy_bundle_new(void);
/* Clears the caller's pointer; NULL inside is fine. */
void policy_bundle_free(struct policy_bundle **b);
/* Adds all *.lua files of dir, and of its subdirectories down to `depth` below it (0: none; the configuration file's
 * directory may have anything beside it, so 1 there), that have no name yet. A directory that does not exist is passed
 * over. Symbolic links to files are followed, those to directories not. errs gets a line for each file that could not
 * be read. ERR_FULL: a bound. */
enum err policy_bundle_add_dir(struct policy_bundle *b, const char *dir, int depth, struct bytes *errs);
/* Adds one text; for tests and built-in scripts. ERR_EXISTS: the name is taken. Copies. */
enum err policy_bundle_add(struct policy_bundle *b, const char *name, const char *path, struct slice text);
/* By module name, "." or "/" between directories. NULL: none. */
const struct policy_script *policy_bundle_find(const struct policy_bundle *b, struct slice name);

#endif
