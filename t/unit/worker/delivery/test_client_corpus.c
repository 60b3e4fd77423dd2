/* worker/delivery: the corpus of t/fuzz/fuzz_client.c. */
#define CORPUS       "client"
#define CORPUS_LEAST 6
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_client.c"
