/* spool/format: the corpus of t/fuzz/fuzz_reply.c. */
#define CORPUS       "reply"
#define CORPUS_LEAST 5
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_reply.c"
