/* spool/format: the corpus of t/fuzz/fuzz_addr.c. */
#define CORPUS       "addr"
#define CORPUS_LEAST 2
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_addr.c"
