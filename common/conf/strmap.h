/*
 * strmap - names to pointers: open addressing, 16 bytes an entry and a third free
 *
 * uthash costs 56 bytes an entry; with 10,000 bindings that each have a few domains that is what counts.
 * Keys are borrowed. The hash is the caller's, so that one look-up of a domain in several maps hashes once.
 * Threads    Reading: any, once built.
 */
#ifndef CONF_STRMAP_H
#define CONF_STRMAP_H

#include <stddef.h>
#include <stdint.h>

struct strmap_entry {
	const char *key; /* NULL = free */
	void *value;
};
struct strmap {
	struct strmap_entry *entries; /* owns */
	uint32_t size, n;             /* size: 0 or a power of two */
};

uint64_t strmap_hash(const char *key);
void *strmap_find(const struct strmap *, const char *key, uint64_t hash);
static inline void *strmap_get(const struct strmap *m, const char *key)
{
	return m->n ? strmap_find(m, key, strmap_hash(key)) : NULL;
}
/* The key must not be there yet. */
void strmap_add(struct strmap *, const char *key, void *value);
void strmap_free(struct strmap *);

#endif
