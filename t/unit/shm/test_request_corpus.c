/* shm: the corpus of t/fuzz/fuzz_request.c. */
#define CORPUS       "request"
#define CORPUS_LEAST 6
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_request.c"
