/* worker/reception: the corpus of t/fuzz/fuzz_esmtp.c. */
#define CORPUS       "esmtp"
#define CORPUS_LEAST 2
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_esmtp.c"
