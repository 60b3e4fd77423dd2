#include "shm/base/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static uint32_t table[256];
static bool have_instruction;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
setup(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = (c & 1) != 0 ? (c >> 1) ^ UINT32_C(0x82f63b78) : c >> 1;
		table[i] = c;
	}
#if defined(__x86_64__)
	have_instruction = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
crc_instruction(uint32_t crc, const unsigned char *p, size_t n)
{
	uint64_t c = crc;

	for (; n >= 8; p += 8, n -= 8) {
		uint64_t word;
		memcpy(&word, p, sizeof word);
		c = __builtin_ia32_crc32di(c, word);
	}
	for (; n > 0; p++, n--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p);
	return (uint32_t)c;
}
#endif

uint32_t
crc32c(uint32_t crc, const void *data, size_t n)
{
	const unsigned char *p = data;

	pthread_once(&once, setup);
	crc = ~crc;
#if defined(__x86_64__)
	if (have_instruction)
		return ~crc_instruction(crc, p, n);
#endif
	for (; n > 0; p++, n--)
		crc = table[(crc ^ *p) & 0xff] ^ (crc >> 8);
	return ~crc;
}
