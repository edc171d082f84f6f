/*
 * split_hash - which bucket, in a hash table that grows by one bucket at a time (linear hashing)
 *
 * Purpose    A table of a million that doubles holds its loop up for as long as it takes to move everything. These tables
 *            never move more than one chain: bucket n takes its own from bucket split_hash_from(n), no other changes.
 * Use        item at bucket split_hash_bucket(hash, n_buckets); to grow: make room for bucket n_buckets, move there what of
 *            the chain at split_hash_from(n_buckets) has split_hash_bucket(hash, n_buckets + 1) == n_buckets, then count it.
 *            The array grows by doubling (realloc; large ones are moved as pages, not as bytes).
 */
#ifndef BASE_SPLIT_HASH_H
#define BASE_SPLIT_HASH_H

#include <stdint.h>

/* n_buckets > 0 */
static inline uint32_t split_hash_bucket(uint32_t hash, uint32_t n_buckets)
{
	uint32_t mask = UINT32_MAX >> __builtin_clz(n_buckets);
	uint32_t i = hash & mask;

	return i < n_buckets ? i : i & mask >> 1;
}

static inline uint32_t split_hash_from(uint32_t bucket) /* > 0 */
{
	return bucket & ~(UINT32_C(1) << (31 - __builtin_clz(bucket)));
}

#endif
