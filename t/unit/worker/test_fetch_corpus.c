/* worker/console and spool: the corpus of t/fuzz/fuzz_fetch.c. */
#define CORPUS       "fetch"
#define CORPUS_LEAST 5
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_fetch.c"
