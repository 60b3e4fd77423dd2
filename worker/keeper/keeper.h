/* keeper.h - the keeper role: the one process that writes index and state
 * A loop around spool/spool_keeper: a turn when the doorbell rings, when a life has ended, when somebody asks, and by
 * the clock. No network, no sessions; while it is away mail flows on. What it is asked (shm/shm_request.h):
 *     KEEPER_COMMIT   no payload. Answered when everything that was synced before the question is in the map.
 *     KEEPER_BINDING  u8 suspension (enum state_suspension), then the binding's name to the end. Answered when it is
 *                     durable; every worker gets the same payload as BINDING_CHANGED. ERR_SYNTAX, ERR_RANGE.
 *     KEEPER_LEDGER, KEEPER_ASK  nothing yet: ERR_UNSUPPORTED; the ledger is read from the map after a commit.
 * What it sends: WORKER_DUE (u64 id) to the owner of a message whose deadline has passed; a ring of every worker's
 * doorbell after each commit. */
#ifndef WORKER_KEEPER_KEEPER_H
#define WORKER_KEEPER_KEEPER_H

#include "worker/role.h"

extern const struct role_ops keeper_role;

#endif
