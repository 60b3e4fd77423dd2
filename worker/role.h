/* role.h - what a child is given, and what a role has to bring
 * The master fills one struct role_env before it forks; the child finds in it all that it may use. Order in the child:
 *   fork -> stray descriptors closed -> user changed -> prepare() -> chroot, capabilities and new privileges gone -> run()
 * prepare() runs as the serving user but still outside the new root: open LMDB, directories, whatever has a path there.
 * run() is the loop; what it returns is the exit status. A role ends when the request channel says REQ_DRAIN (finish
 * what is in work) or REQ_STOP (at once), or when the channel ends (the master is gone: close listeners at once, end
 * within 5 s). Signals: TERM, INT, HUP, QUIT, USR1 and PIPE are ignored in children before run(); the master
 * speaks through the channel, and kills when that does not help. When the master dies, each child also gets
 * SIGUSR2, on which it ends after 5 s whatever it does.
 * Owner: the child owns everything here until it exits; nothing is freed. Thread: the child's main thread. */
#ifndef WORKER_ROLE_H
#define WORKER_ROLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "shm/base/err.h"
#include "shm/shm_area.h"
#include "shm/shm_role.h"

struct conf;
struct policy_bundle; /* the scripts' source text, read before the chroot */

enum listener_kind { LISTENER_ESMTP, LISTENER_CONTROL };

struct role_listener {
	int fd; /* bound, listening, non-blocking, CLOEXEC */
	enum listener_kind kind;
	size_t index;                 /* its place in the configuration: conf_listen_at, conf_receiving */
	const char *text;             /* as configured: "127.0.0.1:2525", "/run/impetus/control" */
	struct sockaddr_storage addr; /* as bound: the true port, when 0 was asked for */
	socklen_t addrlen;
};

enum role_log { ROLE_LOG_MAIN, ROLE_LOG_REJECT, ROLE_LOG_PANIC, ROLE_LOGS };

struct role_env {
	enum role role;
	int slot;
	uint32_t generation;
	uint32_t revision; /* of the configuration */
	uint64_t writer;   /* this life's number, also in the slot */
	unsigned workers;  /* how many this generation has */
	struct shm_area *area;
	int request_fd;    /* non-blocking SOCK_SEQPACKET: hand it to req_channel_new(fd, slot) */
	struct conf *conf; /* as loaded by the master: immutable; views are remembered in it */
	const struct policy_bundle *bundle;
	const struct role_listener *listeners; /* those this role serves: workers ESMTP, console CONTROL */
	unsigned nlisteners;
	int log_fds[ROLE_LOGS]; /* append only; -1: not configured. REQ_LOGS brings new ones in this order */
	const char *spool_path; /* spoolbase: holds until the chroot */
	int spool_dirfd;        /* the same directory, open; holds after it. Never close it: as long as any process of
	                          * this master has it, no other master begins with the spool */
	const char *resolver;   /* text of the resolver file, "" when there is none */
	uid_t uid;
	gid_t gid;
	bool privileged; /* started as root: user changed, chroot done where configured */
	bool foreground; /* -f: paniclog lines go to stderr too */
};

struct role_ops {
	/* As the user, before the chroot. An error ends the child (and, in a trial, refuses the configuration). */
	enum err (*prepare)(struct role_env *env);
	int (*run)(struct role_env *env);
};

extern const struct role_ops worker_role;  /* worker/worker_main.c */
extern const struct role_ops keeper_role;  /* worker/keeper/keeper.c */
extern const struct role_ops console_role; /* worker/console/console.c */
extern const struct role_ops trial_role;   /* worker/trial.c */

#endif
