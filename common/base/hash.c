#include "config.h"
#include "base/clock.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

static uint64_t load64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* The last n (0 to 7) bytes, zeros above. */
static uint64_t load_tail(const unsigned char *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static uint64_t rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static inline void sip_rounds(uint64_t v[4], int rounds)
{
	while (rounds-- > 0) {
		v[0] += v[1];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[0] = rotl(v[0], 32);
		v[2] += v[3];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[2] = rotl(v[2], 32);
	}
}

uint64_t hash_siphash(const void *bytes, size_t n, const uint64_t key[2])
{
	const unsigned char *p = bytes;
	uint64_t v[4] = {key[0] ^ 0x736F6D6570736575u, key[1] ^ 0x646F72616E646F6Du,
	        key[0] ^ 0x6C7967656E657261u, key[1] ^ 0x7465646279746573u};
	uint64_t word, last = (uint64_t)n << 56;

	for (; n >= 8; n -= 8, p += 8) {
		word = load64(p);
		v[3] ^= word;
		sip_rounds(v, 2);
		v[0] ^= word;
	}
	last |= load_tail(p, n);
	v[3] ^= last;
	sip_rounds(v, 2);
	v[0] ^= last;
	v[2] ^= 0xFF;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t hash_key[2];
static pthread_once_t hash_once = PTHREAD_ONCE_INIT;

static void hash_draw_key(void)
{
	rnd_system.bytes(&rnd_system, hash_key, sizeof(hash_key));
}

uint64_t hash_bytes(const void *bytes, size_t n)
{
	(void)pthread_once(&hash_once, hash_draw_key);
	return hash_siphash(bytes, n, hash_key);
}

/* The finaliser of splitmix64: every input bit reaches every output bit. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/*
 * Frozen: mail already queued must choose the same group member after an upgrade. The state starts as
 * mix(seed + n); each 8 bytes, little endian, the last ones filled up with zeros, make it
 * mix(state ^ word) + 0x9E3779B97F4A7C15; the result is mix(state).
 */
uint64_t hash_stable(const void *bytes, size_t n, uint64_t seed)
{
	const unsigned char *p = bytes;
	uint64_t state = mix(seed + n);

	for (; n >= 8; n -= 8, p += 8)
		state = mix(state ^ load64(p)) + 0x9E3779B97F4A7C15u;
	if (n > 0)
		state = mix(state ^ load_tail(p, n)) + 0x9E3779B97F4A7C15u;
	return mix(state);
}
