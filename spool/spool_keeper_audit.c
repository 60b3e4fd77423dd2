#include "shm/base/log.h"
#include "spool/spool_keeper_int.h"

#define AUDIT_EVERY (INT64_C(86400) * USEC_PER_SEC)
#define AUDIT_GAP   (100 * USEC_PER_MS) /* between two pieces of some milliseconds */

/* From the start: what it met may lie where this pass has been. */
static void
take_suspicion(struct keeper *k)
{
	log_warn("keeper", "somebody met damage in the index: it is looked through");
	index_audit_stop(k->index);
	k->suspicion = true;
	k->audit_at = k->now;
}

static void
found_whole(struct keeper *k)
{
	if (k->suspicion) {
		log_warn("keeper", "the index is whole: what was met is not on the disk");
		index_clear_suspicion(k->index);
	}
	k->suspicion = false;
	k->audit_at = k->now + AUDIT_EVERY;
}

enum err
keeper_audit(struct keeper *k)
{
	enum err e;

	if (fold_rebuilding(k->fold))
		return OK;
	if (!k->suspicion && index_suspected(k->index))
		take_suspicion(k);
	if (k->now < k->audit_at)
		return OK;
	k->audit_at = k->now + AUDIT_GAP;
	e = index_audit(k->index);
	if (e == ERR_EOF) {
		found_whole(k);
		return OK;
	}
	if (e != OK)
		log_errno(LOG_LVL_ERROR, "keeper", "the index does not bear looking through (%s)", err_text(e));
	return keeper_judge(k, e);
}
