#include "config.h"
#include "conf/strmap.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

uint64_t strmap_hash(const char *key)
{
	return hash_bytes(key, strlen(key));
}

void *strmap_find(const struct strmap *m, const char *key, uint64_t hash)
{
	if (!m->n)
		return NULL;
	for (uint32_t i = (uint32_t)hash & (m->size - 1); m->entries[i].key; i = (i + 1) & (m->size - 1))
		if (strcmp(m->entries[i].key, key) == 0)
			return m->entries[i].value;
	return NULL;
}

static void put(struct strmap *m, const char *key, void *value)
{
	uint32_t i = (uint32_t)strmap_hash(key) & (m->size - 1);

	while (m->entries[i].key)
		i = (i + 1) & (m->size - 1);
	m->entries[i] = (struct strmap_entry){key, value};
}

static void grow(struct strmap *m)
{
	struct strmap old = *m;

	m->size = old.size ? old.size * 2 : 4;
	m->entries = mem_zalloc(m->size * sizeof(*m->entries));
	for (uint32_t i = 0; i < old.size; i++)
		if (old.entries[i].key)
			put(m, old.entries[i].key, old.entries[i].value);
	mem_free(&old.entries);
}

void strmap_add(struct strmap *m, const char *key, void *value)
{
	if ((uint64_t)(m->n + 1) * 4 > (uint64_t)m->size * 3)
		grow(m);
	put(m, key, value);
	m->n++;
}

void strmap_free(struct strmap *m)
{
	mem_free(&m->entries);
	*m = (struct strmap){0};
}
