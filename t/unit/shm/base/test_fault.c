/* Fault points: what a rule hits, how often, and that an error reaches the one who asks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "shm/base/fault.h"

#ifdef IMPETUS_FAULTS
static void
once_at_the_nth_passage(void **state)
{
	(void)state;
	fault_set("a.b=EIO@2");
	assert_int_equal(fault_error("a.b"), 0);
	assert_int_equal(fault_error("a.c"), 0);
	assert_int_equal(fault_error("a.b"), EIO);
	assert_int_equal(fault_error("a.b"), 0);
}

static void
from_then_on_until_taken_away(void **state)
{
	(void)state;
	fault_set("a.b=ENOSPC@2*");
	assert_false(fault_fails("a.b"));
	errno = 0;
	assert_true(fault_fails("a.b"));
	assert_int_equal(errno, ENOSPC);
	assert_true(fault_fails("a.b"));
	fault_set(NULL);
	assert_false(fault_fails("a.b"));
}

static void
a_write_is_cut_short_and_then_fails(void **state)
{
	(void)state;
	fault_set("a.b=short,a.b=EIO@2");
	assert_int_equal(fault_short("a.b", 100), 50);
	assert_false(fault_fails("a.b"));
	assert_int_equal(fault_short("a.b", 50), 50);
	assert_true(fault_fails("a.b"));
	assert_int_equal(fault_short("a.b", 1), 1);
	fault_set(NULL);
}

static void
words_that_are_no_rule_are_none(void **state)
{
	(void)state;
	fault_set("nothing,=EIO,a.b=EWHAT");
	assert_int_equal(fault_error("a.b"), 0);
	fault_set(NULL);
}
#endif

int
main(void)
{
#ifdef IMPETUS_FAULTS
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_at_the_nth_passage),
		cmocka_unit_test(from_then_on_until_taken_away),
		cmocka_unit_test(a_write_is_cut_short_and_then_fails),
		cmocka_unit_test(words_that_are_no_rule_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
#else
	return 0;
#endif
}
