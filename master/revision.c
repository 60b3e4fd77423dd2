#include "master/revision.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/master_options.h"
#include "master/roles.h"
#include "policy/conf/conf.h"
#include "policy/policy_bundle.h"
#include "policy/policy_options.h"
#include "worker/delivery/delivery_options.h"
#include "worker/log/ec_logger_options.h"
#include "worker/reception/reception_options.h"

#define POLICY_DIR  IMPETUS_PREFIX "/share/impetus/policy"
#define RESOLV_CONF "/etc/resolv.conf"

enum { RESOLVER_MAX = 65536 };

static enum log_level
level_of(enum conf_severity s)
{
	return s == CONF_ERROR ? LOG_LVL_ERROR : LOG_LVL_WARN;
}

static void
tell_errors(const struct conf_errors *errs, revision_tell *tell, void *arg)
{
	struct bytes line = { 0 };

	for (size_t i = 0; i < errs->n; i++) {
		line.n = 0;
		conf_error_print(&errs->v[i], &line);
		tell(arg, level_of(errs->v[i].severity), bytes_cstr(&line));
	}
	bytes_fini(&line);
}

static struct conf *
load_conf(const char *path, bool strict, revision_tell *tell, void *arg)
{
	const struct opt_table tables[] = { master_options, policy_options, reception_options, delivery_options,
					    ec_logger_options };
	struct conf_source src = {
		.path = path, .tables = tables, .n_tables = sizeof(tables) / sizeof(tables[0]), .strict = strict
	};
	struct conf_errors errs = { 0 };
	struct conf *conf = conf_load(&src, &errs);

	tell_errors(&errs, tell, arg);
	conf_errors_fini(&errs);
	return conf;
}

/* The configuration's directory, its lua/, then what is installed. */
static enum err
load_bundle(struct revision *r, struct bytes *why)
{
	struct bytes lua = { 0 };
	enum err e;

	bytes_addf(&lua, "%s/lua", conf_dir(r->conf));
	r->bundle = policy_bundle_new();
	e = policy_bundle_add_dir(r->bundle, conf_dir(r->conf), 1, why);
	if (e == OK)
		e = policy_bundle_add_dir(r->bundle, bytes_cstr(&lua), POLICY_BUNDLE_DEPTH, why);
	if (e == OK)
		e = policy_bundle_add_dir(r->bundle, POLICY_DIR, POLICY_BUNDLE_DEPTH, why);
	bytes_fini(&lua);
	return e;
}

static enum err
read_file(const char *path, size_t max, struct bytes *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? ERR_NOTFOUND : ERR_IO;
	while (out->n < max && (n = read(fd, bytes_room(out, 4096), 4096)) > 0)
		out->n += (size_t)n;
	close(fd);
	return OK;
}

static void
load_resolver(struct revision *r, revision_tell *tell, void *arg)
{
	const struct conf_view *v = conf_global(r->conf);
	const char *path = conf_is_set(v, OPT_RESOLV_CONF) ? conf_str(v, OPT_RESOLV_CONF) : RESOLV_CONF;
	struct bytes text = { 0 }, line = { 0 };

	if (read_file(path, RESOLVER_MAX, &text) != OK) {
		bytes_addf(&line, "the resolver file %s cannot be read: %s", path, strerror(errno));
		tell(arg, LOG_LVL_WARN, bytes_cstr(&line));
	}
	r->resolver = slice_dup(slice_bytes(&text));
	bytes_fini(&text);
	bytes_fini(&line);
}

static unsigned
count_workers(const struct revision *r)
{
	int64_t n = conf_int(conf_global(r->conf), OPT_WORKERS);

	if (n == WORKERS_AUTO)
		n = sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned)n;
}

/* Without a place for them in the new root, the spool's paths would end at the chroot. */
static enum err
check_paths(const struct revision *r, struct bytes *why)
{
	const char *spool = conf_str(conf_global(r->conf), OPT_SPOOLBASE);

	if (spool[0] == '/' && (r->id.chroot[0] == '\0' || r->id.chroot[0] == '/'))
		return OK;
	bytes_addf(why, "spoolbase and chroot must be absolute paths");
	return ERR_RANGE;
}

struct revision *
revision_load(const char *path, bool strict, revision_tell *tell, void *arg)
{
	struct revision *r = calloc(1, sizeof(*r));
	struct bytes why = { 0 };
	enum err e;

	if (r == NULL || (r->conf = load_conf(path, strict, tell, arg)) == NULL) {
		free(r);
		return NULL;
	}
	r->workers = count_workers(r);
	load_resolver(r, tell, arg);
	e = identity_resolve(r->conf, &r->id, &why);
	if (e == OK)
		e = check_paths(r, &why);
	if (e == OK)
		e = load_bundle(r, &why);
	if (why.n > 0)
		tell(arg, e == OK ? LOG_LVL_WARN : LOG_LVL_ERROR, bytes_cstr(&why));
	else if (e != OK)
		tell(arg, LOG_LVL_ERROR, "the scripts cannot be read: there are too many, or they are too large");
	bytes_fini(&why);
	if (e != OK)
		revision_free(&r, NULL);
	return r;
}

void
revision_free(struct revision **rp, const struct revision *survivor)
{
	struct revision *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	listeners_close(&r->listeners, survivor == NULL ? NULL : &survivor->listeners);
	policy_bundle_free(&r->bundle);
	conf_unref(&r->conf);
	free(r->resolver);
	free(r);
}

void
revision_print(const struct revision *r, struct bytes *out)
{
	conf_print(r->conf, out);
}

const char *
revision_log_path(const struct revision *r, int log, unsigned *mode)
{
	static const struct {
		enum opt_id path, mode;
	} rows[ROLE_LOGS] = {
		[ROLE_LOG_MAIN] = { OPT_MAINLOG, OPT_MAINLOG_MODE },
		[ROLE_LOG_REJECT] = { OPT_REJECTLOG, OPT_REJECTLOG_MODE },
		[ROLE_LOG_PANIC] = { OPT_PANICLOG, OPT_PANICLOG_MODE },
	};
	const struct conf_view *v = conf_stanza(r->conf, IN_EC_LOGGER);

	*mode = (unsigned)conf_int(v, rows[log].mode);
	return conf_has_stanza(r->conf, IN_EC_LOGGER) ? conf_str(v, rows[log].path) : "";
}
