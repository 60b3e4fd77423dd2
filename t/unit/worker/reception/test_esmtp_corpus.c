/* worker/reception: the corpus of t/fuzz/fuzz_esmtp.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "t/fuzz/corpus.h"

static void
the_corpus_runs(void **state)
{
	(void)state;
	assert_true(corpus_run("t/fuzz/corpus/esmtp/*") >= 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_corpus_runs) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Last, because it has its own idea of assertions. */
#undef assert_true
#undef assert_null
#undef assert_non_null
#undef assert_int_equal
#undef assert_ptr_equal
#undef fail_msg
#include "t/fuzz/fuzz_esmtp.c"
