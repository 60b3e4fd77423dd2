/* spool/format: the corpus of t/fuzz/fuzz_addr.c. */
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
	assert_true(corpus_run("t/fuzz/corpus/addr/*") >= 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_corpus_runs) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "t/fuzz/fuzz_addr.c"
