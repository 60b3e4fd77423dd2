/* What content costs in memory: counted from its first byte until it is on disk or refused, over all workers, against
 * max_content_memory. It bounds what many slow senders, or a slow disk, can make the workers hold. */
#include "policy/conf/conf.h"
#include "worker/reception/reception_int.h"

/* Of the bound: as long as this worker alone holds no more than one part in so many, the others need not be asked, and
 * with as many workers as may run (30) it is not passed by half. */
enum { SMALL_PART = 64 };

bool
reception_room(const struct reception *r)
{
	int64_t max = conf_int(conf_global(r->env.conf), OPT_MAX_CONTENT_MEMORY);

	if (max <= 0 || r->content < max / SMALL_PART)
		return true;
	return (r->env.area != NULL ? shm_total(r->env.area, CELL_CONTENT_BYTES) : r->content) < max;
}

void
reception_hold(struct reception *r, int64_t n)
{
	r->content += n;
	reception_count(r, CELL_CONTENT_BYTES, n);
}
