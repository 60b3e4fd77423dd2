/* privileges.h - who serves, and each single step down
 * Every step either succeeds or says why not (logged here) and gives an error; the callers treat any error as fatal.
 * Nothing here can be undone. The descent of a child is privileges_user, prepare(), privileges_root, privileges_none
 * in that order (child.c); that of the master is privileges_master.
 *
 * The master stays uid 0 after a start as root, with these capabilities and no other:
 *   NET_BIND_SERVICE         listeners below 1024 at a reload
 *   SETUID SETGID            new children change their user
 *   SYS_CHROOT               and their root
 *   SETPCAP                  and give up the capabilities themselves
 *   KILL                     children belong to another user
 *   CHOWN DAC_OVERRIDE       control sockets and logs in directories of the serving user
 *   DAC_READ_SEARCH          what the trial child needs to read a private configuration
 * Thread: one. */
#ifndef MASTER_PRIVILEGES_H
#define MASTER_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "shm/base/bytes.h"
#include "shm/base/err.h"

struct conf;

struct identity {
	bool privileged; /* started as root: the rest is to be obeyed */
	uid_t uid;
	gid_t gid;
	char user[64];
	char chroot[4096]; /* "": none */
};

/* Who is to serve by this configuration. Not root: we ourselves, and the stanza is passed over. Root: the security
 * user, which must exist and must not be root; otherwise ERR_DENIED and in *why what is wrong and how to mend it. */
enum err identity_resolve(const struct conf *conf, struct identity *out, struct bytes *why);
/* For the trial of a configuration whose user is not known yet: nobody. */
void identity_nobody(struct identity *out);

/* No core dumps, umask 027, the descriptor limit raised to what is allowed; gives that limit. At start. */
unsigned long privileges_limits(void);
/* Not readable by a debugger or /proc; after every change of user, which undoes it. */
enum err privileges_opaque(void);

/* Groups, group and user are changed; of the capabilities those in `keep` (cap_from_text names, comma-separated) stay
 * and what the next steps need. Not privileged: nothing. */
enum err privileges_user(const struct identity *id, const char *keep);
/* The new root. */
enum err privileges_root(const struct identity *id);
/* No capability is left in any set, and none can come back by exec. */
enum err privileges_none(void);
/* Master started as root: all but the listed ones. */
enum err privileges_master(void);

#endif
