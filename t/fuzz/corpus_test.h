/* corpus_test.h - the whole of an ordinary test that plays a fuzzer's corpus
 * Who includes it has defined CORPUS, a folder of t/fuzz/corpus, and CORPUS_LEAST, how many files are in it at least, and
 * includes the fuzzer's own source behind it: that one has its own idea of assertions. */
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
	assert_true(corpus_run("t/fuzz/corpus/" CORPUS "/*") >= CORPUS_LEAST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_corpus_runs) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#undef assert_true
#undef assert_false
#undef assert_null
#undef assert_non_null
#undef assert_int_equal
#undef assert_ptr_equal
#undef assert_string_equal
#undef fail
#undef fail_msg
