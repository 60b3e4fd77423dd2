/* spool: the corpus of t/fuzz/fuzz_record.c. */
#define CORPUS       "record"
#define CORPUS_LEAST 12
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_record.c"
