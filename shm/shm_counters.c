#include "shm/shm_counters.h"

#include "shm/base/log.h"

static const struct {
	enum cell_kind kind;
	const char *name;
} rows[CELL_MAX] = {
#define SHM_CELL_ROW(name, kind, text) [CELL_##name] = { CELL_IS_##kind, text },
	SHM_CELLS(SHM_CELL_ROW)
#undef SHM_CELL_ROW
};

enum cell_kind
cell_kind(enum cell c)
{
	require_that((unsigned)c < CELL_MAX, "shm");
	return rows[c].kind;
}

const char *
cell_name(enum cell c)
{
	require_that((unsigned)c < CELL_MAX, "shm");
	return rows[c].name;
}
