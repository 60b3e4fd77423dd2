/* worker/net: the corpus of t/fuzz/fuzz_resolver.c. */
#define CORPUS       "resolver"
#define CORPUS_LEAST 6
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_resolver.c"
