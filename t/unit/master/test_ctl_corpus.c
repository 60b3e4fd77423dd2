/* master/ctl: the corpus of t/fuzz/fuzz_ctl.c. */
#define CORPUS       "ctl"
#define CORPUS_LEAST 12
#include "t/fuzz/corpus_test.h"
#include "t/fuzz/fuzz_ctl.c"
