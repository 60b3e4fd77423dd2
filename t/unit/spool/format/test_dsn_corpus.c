/* spool/format: the corpus of t/fuzz/fuzz_dsn.c. */
#define CORPUS       "dsn"
#define CORPUS_LEAST 6
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_dsn.c"
