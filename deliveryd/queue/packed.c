#include "queue/packed.h"

#include <string.h>
#include "base/mem.h"

static size_t number_bytes(uint32_t number)
{
	size_t n = 1;
	while (number >>= 7)
		n++;
	return n;
}

static unsigned char *put_number(unsigned char *p, uint32_t number)
{
	while (number > 0x7f) {
		*p++ = (unsigned char)(number | 0x80);
		number >>= 7;
	}
	*p++ = (unsigned char)number;
	return p;
}

char *packed_new(const char *sender, const struct packed_recipient *recipients, uint32_t n)
{
	size_t sender_size = strlen(sender) + 1;
	size_t size = sender_size;
	for (uint32_t i = 0; i < n; i++)
		size += number_bytes(recipients[i].number) + strlen(recipients[i].address) + 1;
	char *block = mem_alloc(size);
	memcpy(block, sender, sender_size);
	unsigned char *p = (unsigned char *)block + sender_size;
	for (uint32_t i = 0; i < n; i++) {
		size_t len = strlen(recipients[i].address) + 1;
		p = put_number(p, recipients[i].number);
		memcpy(p, recipients[i].address, len);
		p += len;
	}
	return block;
}

void packed_free(char **block)
{
	mem_free(block);
}

void packed_walk_init(struct packed_walk *w, const char *block)
{
	w->p = (const unsigned char *)block + strlen(block) + 1;
}

struct packed_recipient packed_walk_next(struct packed_walk *w)
{
	struct packed_recipient r = {0, NULL};
	unsigned shift = 0;
	unsigned char byte;
	do {
		byte = *w->p++;
		r.number |= (uint32_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	r.address = (const char *)w->p;
	w->p += strlen(r.address) + 1;
	return r;
}

size_t packed_size(const char *block, uint32_t n)
{
	struct packed_walk w;
	packed_walk_init(&w, block);
	while (n-- > 0)
		packed_walk_next(&w);
	return (size_t)((const char *)w.p - block);
}
