/*
 * crc - CRC32C as everything in the spool is checked by
 *
 * Chainable: crc32c(crc32c(0, a), b) is the checksum of a and b in a row. Any thread.
 */
#ifndef SPOOL_CRC_H
#define SPOOL_CRC_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t before, const void *bytes, size_t n);

#endif
