#include "config.h"
#include "spool/crc.h"

#include <isa-l/crc.h>

uint32_t crc32c(uint32_t before, const void *bytes, size_t n)
{
	unsigned char *p = (unsigned char *)(uintptr_t)bytes; /* the library only reads */
	uint32_t crc = ~before;

	for (; n > INT_MAX; p += INT_MAX, n -= INT_MAX)
		crc = crc32_iscsi(p, INT_MAX, crc);
	return n > 0 ? ~crc32_iscsi(p, (int)n, crc) : ~crc;
}
