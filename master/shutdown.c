/* The way out. First the workers end, while the keeper still commits what they write and the console still answers;
 * then these two. Fast: all at once. */
#include "master/master_int.h"
#include "policy/conf/conf.h"
#include "shm/base/log.h"

enum { ENDING_SECONDS = 10 };

static void
each_seat(struct master *m, enum role role, void (*fn)(struct master *m, int slot, unsigned seconds), unsigned seconds)
{
	const struct role_row *row = role_row(role);

	for (int i = row->first_slot; i < row->first_slot + row->slots; i++)
		fn(m, i, seconds);
}

static void
stop_seat(struct master *m, int slot, unsigned seconds)
{
	(void)seconds;
	seat_stop(m, slot);
}

static void
begin_ending(struct master *m)
{
	m->phase = MASTER_ENDING;
	each_seat(m, ROLE_KEEPER, seat_drain, ENDING_SECONDS);
	each_seat(m, ROLE_CONSOLE, seat_drain, 1);
}

static void
stop_all(struct master *m)
{
	m->phase = MASTER_ENDING;
	m->fast = true;
	each_seat(m, ROLE_WORKER, stop_seat, 0);
	each_seat(m, ROLE_KEEPER, stop_seat, 0);
	each_seat(m, ROLE_CONSOLE, stop_seat, 0);
}

void
shutdown_begin(struct master *m, bool fast)
{
	unsigned seconds = (unsigned)conf_int(conf_global(m->rev->conf), OPT_DRAIN_TIMEOUT);

	if (m->fast || (m->phase >= MASTER_DRAINING && !fast))
		return;
	if (m->phase < MASTER_DRAINING) {
		reload_cancel(m);
		/* the control sockets stay: the console still serves */
		listeners_close_kind(&m->rev->listeners, LISTENER_ESMTP);
		log_info("master", fast ? "stops now" : "drains, for at most %u s, and stops", seconds);
	}
	if (fast) {
		stop_all(m);
		return;
	}
	m->phase = MASTER_DRAINING;
	m->until = clock_mono() + (usec_t)seconds * USEC_PER_SEC;
	each_seat(m, ROLE_WORKER, seat_drain, seconds);
}

bool
shutdown_tick(struct master *m, usec_t now)
{
	(void)now; /* each child has its own deadline */
	if (m->phase == MASTER_DRAINING && seats_live(m, ROLE_WORKER, 0) == 0)
		begin_ending(m);
	if (m->phase != MASTER_ENDING)
		return false;
	for (int i = 0; i < SLOTS_MAX; i++)
		if (m->seats[i].state == SEAT_LIVE)
			return false;
	return true;
}
