#include "session/host_memory.h"

#include "base/clock.h"
#include "base/mem.h"

#define PLACES 2048

struct host_memory {
	struct {
		struct addr addr;
		uint64_t until_us;
	} at[PLACES];
};

struct host_memory *host_memory_new(void)
{
	return mem_zalloc(sizeof(struct host_memory));
}

void host_memory_free(struct host_memory **pmemory)
{
	mem_free(pmemory);
}

static size_t place_of(const struct addr *a)
{
	return (hash_bytes(a->ip, sizeof(a->ip)) ^ a->port) % PLACES;
}

void host_memory_set(struct host_memory *m, const struct addr *a, uint64_t until_us)
{
	m->at[place_of(a)].addr = *a;
	m->at[place_of(a)].until_us = until_us;
}

bool host_memory_has(const struct host_memory *m, const struct addr *a, uint64_t now_us)
{
	const struct addr *b = &m->at[place_of(a)].addr;

	return m->at[place_of(a)].until_us > now_us && addr_equal_ip(a, b) && a->port == b->port;
}
