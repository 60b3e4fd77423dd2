/* area_fixture.h - for tests of what stands in the shared area: an area of its own for each test */
#ifndef T_UNIT_SHM_AREA_FIXTURE_H
#define T_UNIT_SHM_AREA_FIXTURE_H

#include "shm/shm_area.h"

static struct shm_area *area;

static int
setup(void **state)
{
	(void)state;
	area = shm_area_new();
	return area == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	shm_area_free(&area);
	return area != NULL;
}

#define WITH_AREA(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
