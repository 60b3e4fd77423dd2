#include "master/roles.h"

#include "shm/base/log.h"

const struct role_row role_rows[] = {
	{ .role = ROLE_KEEPER,
	  .user = ROLE_USER_SERVING,
	  .chroot = true,
	  .caps = "",
	  .inherits = INHERITS_SPOOL,
	  .first_slot = SLOT_KEEPER,
	  .slots = 1,
	  .ops = &keeper_role,
	  .death = "mail flows on, the index waits for its successor" },
	{ .role = ROLE_CONSOLE,
	  .user = ROLE_USER_SERVING,
	  .chroot = true,
	  .caps = "",
	  .inherits = INHERITS_CONTROL | INHERITS_SPOOL | INHERITS_LOGS,
	  .first_slot = SLOT_CONSOLE_FIRST,
	  .slots = SLOT_WORKER_FIRST - SLOT_CONSOLE_FIRST,
	  .ops = &console_role,
	  .death = "its sessions end, nothing else" },
	{ .role = ROLE_TRIAL,
	  .user = ROLE_USER_NOBODY,
	  .chroot = false,
	  .caps = "cap_dac_read_search", /* to read a configuration that is root's alone */
	  .inherits = 0,
	  .first_slot = SLOT_TRIAL,
	  .slots = 0,
	  .ops = &trial_role,
	  .death = "the configuration it tried is refused" },
	{ .role = ROLE_WORKER,
	  .user = ROLE_USER_SERVING,
	  .chroot = true,
	  .caps = "",
	  .inherits = INHERITS_ESMTP | INHERITS_SPOOL | INHERITS_LOGS,
	  .first_slot = SLOT_WORKER_FIRST,
	  .slots = SLOTS_MAX - SLOT_WORKER_FIRST,
	  .partitions = true,
	  .ops = &worker_role,
	  .death = "its sessions end, what it had in work is in doubt, its queues wait for its successor" },
};
const unsigned n_role_rows = sizeof(role_rows) / sizeof(role_rows[0]);

const struct role_row *
role_row(enum role r)
{
	for (unsigned i = 0; i < n_role_rows; i++)
		if (role_rows[i].role == r)
			return &role_rows[i];
	log_panic("master", "role %d has no row", (int)r);
}

const struct role_row *
role_of_slot(int slot)
{
	for (unsigned i = 0; i < n_role_rows; i++)
		if (slot >= role_rows[i].first_slot && slot < role_rows[i].first_slot + role_rows[i].slots)
			return &role_rows[i];
	log_panic("master", "slot %d belongs to no role", slot);
}
