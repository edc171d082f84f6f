/*
 * clock, rnd - time and chance, passed in as small interfaces so that tests bring their own
 *
 * All times are microseconds (suffix _us). Intervals use mono_us; wall_us (since 1970) is for ids, logs,
 * expiry.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define SECOND_US ((uint64_t)1000000)

struct clock {
	uint64_t (*mono_us)(struct clock *);
	uint64_t (*wall_us)(struct clock *);
};
extern struct clock clock_system; /* the machine's; any thread */

/* Tests: stands until moved. */
struct fake_clock {
	struct clock clock;
	uint64_t mono, wall; /* µs */
};
void fake_clock_init(struct fake_clock *, uint64_t wall_us);
void fake_clock_advance(struct fake_clock *, uint64_t us);

/* RFC 3339 with microseconds and Z: "2026-11-20T16:10:41.000123Z" (27 bytes and NUL) */
#define TIME_TEXT_SIZE 32
const char *time_print(uint64_t wall_us, char buf[TIME_TEXT_SIZE]);
/* RFC 5322 date in UTC: "Fri, 20 Nov 2026 16:10:41 +0000" */
const char *time_print_rfc5322(uint64_t wall_us, char buf[TIME_TEXT_SIZE]);

struct rnd {
	void (*bytes)(struct rnd *, void *, size_t);
};
extern struct rnd rnd_system; /* getrandom(), unguessable; any thread */
uint64_t rnd_u64(struct rnd *);
uint64_t rnd_below(struct rnd *, uint64_t limit); /* even over 0 .. limit-1; limit > 0 */
/* Tests: a fixed sequence from a seed. */
struct fake_rnd {
	struct rnd rnd;
	uint64_t state;
};
void fake_rnd_init(struct fake_rnd *, uint64_t seed);

/* SipHash-2-4: hash tables over foreign keys; key drawn once at start. */
uint64_t hash_bytes(const void *, size_t);
uint64_t hash_siphash(const void *, size_t, const uint64_t key[2]); /* with a key of one's own */
/* Fixed, unkeyed 64-bit mix: for decisions that must be the same after a restart (rendezvous hash). */
uint64_t hash_stable(const void *, size_t, uint64_t seed);

#endif
