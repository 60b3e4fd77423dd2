/* crc32c.h - CRC32C (Castagnoli), by the processor's instruction where it has one
 * Start with 0; feed pieces in order: crc32c(crc32c(0, a), b) is the value of a followed by b. No errors, any thread.
 */
#ifndef SHM_BASE_CRC32C_H
#define SHM_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
