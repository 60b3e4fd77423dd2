#include "master/privileges.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/conf/conf.h"
#include "shm/base/log.h"

#define NOBODY 65534

static enum err
failed(const char *step)
{
	log_errno(LOG_LVL_ERROR, "master", "%s", step);
	return ERR_DENIED;
}

/* ---- who ---- */

static bool
number_of(const char *s, unsigned long *out)
{
	uint64_t v;

	if (!slice_u64(slice_str(s), UINT_MAX - 1, &v))
		return false;
	*out = (unsigned long)v;
	return true;
}

static bool
find_user(const char *name, struct identity *out)
{
	struct passwd *pw = getpwnam(name);
	unsigned long n;

	if (pw == NULL && number_of(name, &n)) {
		out->uid = (uid_t)n;
		pw = getpwuid((uid_t)n);
		out->gid = pw != NULL ? pw->pw_gid : (gid_t)n;
		return true;
	}
	if (pw == NULL)
		return false;
	out->uid = pw->pw_uid;
	out->gid = pw->pw_gid;
	return true;
}

static bool
find_group(const char *name, gid_t *out)
{
	struct group *gr = getgrnam(name);
	unsigned long n;

	if (gr != NULL)
		*out = gr->gr_gid;
	else if (number_of(name, &n))
		*out = (gid_t)n;
	else
		return false;
	return true;
}

/* The group's default is only a wish: a user of another name brings its own. */
static enum err
resolve_group(const struct conf_view *v, struct identity *out, struct bytes *why)
{
	const char *name = conf_str(v, OPT_GROUP);

	if (conf_origin(v, OPT_GROUP) == 0 && strcmp(name, out->user) != 0)
		return OK;
	if (find_group(name, &out->gid) || conf_origin(v, OPT_GROUP) == 0)
		return OK;
	bytes_addf(why, "the group \"%s\" of the security stanza does not exist", name);
	return ERR_DENIED;
}

static enum err
check_not_root(const struct identity *id, struct bytes *why)
{
	if (id->uid != 0 && id->gid != 0)
		return OK;
	bytes_addf(why, "the user \"%s\" of the security stanza is root, or in root's group: as root nothing is served",
		   id->user);
	return ERR_DENIED;
}

enum err
identity_resolve(const struct conf *conf, struct identity *out, struct bytes *why)
{
	const struct conf_view *v = conf_stanza(conf, IN_SECURITY);
	enum err e;

	memset(out, 0, sizeof(*out));
	out->uid = getuid();
	out->gid = getgid();
	if (geteuid() != 0)
		return OK;
	out->privileged = true;
	snprintf(out->user, sizeof(out->user), "%s", conf_str(v, OPT_USER));
	snprintf(out->chroot, sizeof(out->chroot), "%s", conf_str(v, OPT_CHROOT));
	if (!find_user(out->user, out)) {
		bytes_addf(
			why,
			"started as root, but there is no user \"%s\" to serve as: make one (adduser --system --group "
			"--no-create-home --home /nonexistent %s), or name another: security { user = \"...\" }",
			out->user, out->user);
		return ERR_DENIED;
	}
	if ((e = resolve_group(v, out, why)) != OK)
		return e;
	return check_not_root(out, why);
}

void
identity_nobody(struct identity *out)
{
	memset(out, 0, sizeof(*out));
	out->privileged = geteuid() == 0;
	out->uid = out->privileged ? NOBODY : getuid();
	out->gid = out->privileged ? NOBODY : getgid();
}

/* ---- limits ---- */

unsigned long
privileges_limits(void)
{
	struct rlimit none = { 0, 0 }, files;

	umask(027);
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		log_errno(LOG_LVL_WARN, "master", "cannot forbid core dumps");
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return 0;
	if (geteuid() == 0 && files.rlim_max < 1048576)
		files.rlim_max = 1048576;
	files.rlim_cur = files.rlim_max;
	/* more than the system allows anybody: what we have already is the hard limit then */
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	return getrlimit(RLIMIT_NOFILE, &files) < 0 ? 0 : (unsigned long)files.rlim_cur;
}

/* The leak checker of a sanitizer build has to read its own process. */
enum err
privileges_opaque(void)
{
#if !defined(__SANITIZE_ADDRESS__)
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return failed("cannot hide the process");
#endif
	return OK;
}

/* ---- capabilities ---- */

/* Exactly the capabilities of `text` are permitted and effective; inheritable and ambient ones none. */
static enum err
caps_become(const char *text)
{
	cap_t caps = cap_from_text(text);
	enum err e = OK;

	if (caps == NULL || cap_set_proc(caps) < 0)
		e = failed("cannot set the capabilities");
	cap_free(caps);
	if (e == OK && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		e = failed("cannot clear the ambient capabilities");
	return e;
}

/* Needs SETPCAP; without it (not started as root) the set stays, and no_new_privs makes it worthless. */
static void
drop_bounding(const char *keep)
{
	cap_t caps = cap_from_text(keep);
	cap_flag_value_t kept;

	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++) {
		kept = CAP_CLEAR;
		if (caps != NULL)
			cap_get_flag(caps, c, CAP_PERMITTED, &kept);
		if (kept == CAP_CLEAR && cap_get_bound(c) == 1 && cap_drop_bound(c) < 0)
			break;
	}
	cap_free(caps);
}

#define DESCENT_CAPS "cap_sys_chroot,cap_setpcap"

enum err
privileges_user(const struct identity *id, const char *keep)
{
	char caps[256];

	if (!id->privileged)
		return OK;
	if (prctl(PR_SET_KEEPCAPS, 1) < 0)
		return failed("cannot keep capabilities over the change of user");
	if (setgroups(0, NULL) < 0)
		return failed("cannot give up root's groups");
	if (setresgid(id->gid, id->gid, id->gid) < 0)
		return failed("cannot change the group");
	if (setresuid(id->uid, id->uid, id->uid) < 0)
		return failed("cannot change the user");
	snprintf(caps, sizeof(caps), "%s%s%s=ep", DESCENT_CAPS, *keep == '\0' ? "" : ",", keep);
	return caps_become(caps);
}

enum err
privileges_root(const struct identity *id)
{
	if (!id->privileged || id->chroot[0] == '\0')
		return OK;
	if (chroot(id->chroot) < 0)
		return failed("cannot change the root directory");
	if (chdir("/") < 0)
		return failed("cannot enter the new root directory");
	return OK;
}

enum err
privileges_none(void)
{
	enum err e;

	drop_bounding("=");
	if ((e = caps_become("=")) != OK)
		return e;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failed("cannot forbid new privileges");
	return privileges_opaque();
}

enum err
privileges_master(void)
{
	static const char keep[] = "cap_net_bind_service,cap_setuid,cap_setgid,cap_sys_chroot,cap_setpcap,cap_kill,"
				   "cap_chown,cap_dac_override,cap_dac_read_search=ep";

	if (geteuid() == 0) {
		drop_bounding(keep);
		if (caps_become(keep) != OK)
			return ERR_DENIED;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failed("cannot forbid new privileges");
	return privileges_opaque();
}
