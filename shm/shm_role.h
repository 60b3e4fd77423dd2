/* shm_role.h - what a process can be
 * The numbers appear in slots and request rows; a mask is an OR of ROLE_BIT(role). Pure constants. */
#ifndef SHM_SHM_ROLE_H
#define SHM_SHM_ROLE_H

#include <stddef.h>

enum role {
	ROLE_NONE,
	ROLE_MASTER,  /* supervises, parses nothing */
	ROLE_CONSOLE, /* answers impetusctl */
	ROLE_KEEPER,  /* the only writer of the index */
	ROLE_WORKER,  /* receives and delivers */
	ROLE_TRIAL,   /* a throwaway child that tries a new configuration */
	ROLE_MAX
};

#define ROLE_BIT(r) (1u << (r))
#define ROLE_ANY    (ROLE_BIT(ROLE_CONSOLE) | ROLE_BIT(ROLE_KEEPER) | ROLE_BIT(ROLE_WORKER) | ROLE_BIT(ROLE_TRIAL))

/* "worker" ...; "none" for what is not in the list. */
const char *role_name(enum role r);

#endif
