/* spool: the corpus of t/fuzz/fuzz_segment.c. */
#define CORPUS       "segment"
#define CORPUS_LEAST 14
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_segment.c"
