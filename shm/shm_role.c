#include "shm/shm_role.h"

const char *
role_name(enum role r)
{
	static const char *const names[ROLE_MAX] = {
		[ROLE_NONE] = "none",     [ROLE_MASTER] = "master", [ROLE_CONSOLE] = "console",
		[ROLE_KEEPER] = "keeper", [ROLE_WORKER] = "worker", [ROLE_TRIAL] = "trial",
	};

	return (unsigned)r < ROLE_MAX ? names[r] : "none";
}
