#include "config.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/mem.h"

static void system_bytes(struct rnd *rnd, void *out, size_t n)
{
	unsigned char *p = out;

	(void)rnd;
	while (n > 0) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			abort(); /* no kernel without it; guessable numbers would be worse */
		p += got;
		n -= (size_t)got;
	}
}

struct rnd rnd_system = {system_bytes};

uint64_t rnd_u64(struct rnd *rnd)
{
	uint64_t v;

	rnd->bytes(rnd, &v, sizeof(v));
	return v;
}

uint64_t rnd_below(struct rnd *rnd, uint64_t limit)
{
	uint64_t uneven, v;

	assert(limit > 0);
	uneven = (0 - limit) %
	         limit; /* 2^64 mod limit: so many values at the bottom would favour some results */
	do
		v = rnd_u64(rnd);
	while (v < uneven);
	return v % limit;
}

/* splitmix64 */
static uint64_t fake_next(struct fake_rnd *fake)
{
	uint64_t z = fake->state += 0x9E3779B97F4A7C15u;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

static void fake_bytes(struct rnd *rnd, void *out, size_t n)
{
	struct fake_rnd *fake = container_of(rnd, struct fake_rnd, rnd);
	unsigned char *p = out;

	while (n > 0) {
		uint64_t v = fake_next(fake);
		size_t part = n < sizeof(v) ? n : sizeof(v);

		memcpy(p, &v, part);
		p += part;
		n -= part;
	}
}

void fake_rnd_init(struct fake_rnd *fake, uint64_t seed)
{
	fake->rnd.bytes = fake_bytes;
	fake->state = seed;
}
