#include "policy/lit_table.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

/* What is looked up among a hundred thousand touches two cache lines: an entry, and the key it points to. */
struct key {
	uint32_t space, len;
	char text[];
};
struct entry {
	const struct key *key; /* NULL = free */
	uint32_t hash, value;
};

struct lit_table {
	struct entry *entries;
	size_t n, size; /* size: a power of two, at least twice n */
	struct pool *pool;
};

struct lit_table *lit_table_new(void)
{
	struct lit_table *t = mem_zalloc(sizeof(*t));
	t->size = 16;
	t->entries = mem_zalloc(t->size * sizeof(*t->entries));
	t->pool = pool_new(1024);
	return t;
}

void lit_table_free(struct lit_table **pp)
{
	if (*pp == NULL)
		return;
	pool_free(&(*pp)->pool);
	mem_free(&(*pp)->entries);
	mem_free(pp);
}

static uint32_t hash_of(uint32_t space, const char *text, size_t len)
{
	/* keyed: values of messages are looked up too */
	return (uint32_t)hash_bytes(text, len) ^ (space * 0x9e3779b1u);
}

static struct entry *find(
        const struct lit_table *t, uint32_t hash, uint32_t space, const char *text, size_t len)
{
	for (size_t i = hash & (t->size - 1);; i = (i + 1) & (t->size - 1)) {
		struct entry *e = &t->entries[i];
		if (e->key == NULL)
			return e;
		if (e->hash == hash && e->key->space == space && e->key->len == len &&
		        memcmp(e->key->text, text, len) == 0)
			return e;
	}
}

static void grow(struct lit_table *t)
{
	struct entry *old = t->entries;
	size_t old_size = t->size;
	t->size *= 2;
	t->entries = mem_zalloc(t->size * sizeof(*t->entries));
	for (size_t i = 0; i < old_size; i++) {
		if (old[i].key == NULL)
			continue;
		size_t at = old[i].hash & (t->size - 1);
		while (t->entries[at].key != NULL)
			at = (at + 1) & (t->size - 1);
		t->entries[at] = old[i];
	}
	mem_free(&old);
}

uint32_t *lit_table_put(
        struct lit_table *t, uint32_t space, const char *text, size_t len, uint32_t fresh, bool *added)
{
	if (2 * (t->n + 1) > t->size)
		grow(t);
	uint32_t hash = hash_of(space, text, len);
	struct entry *e = find(t, hash, space, text, len);
	*added = e->key == NULL;
	if (*added) {
		struct key *key = pool_alloc(t->pool, sizeof(*key) + len);
		key->space = space;
		key->len = (uint32_t)len;
		memcpy(key->text, text, len);
		*e = (struct entry){.key = key, .hash = hash, .value = fresh};
		t->n++;
	}
	return &e->value;
}

bool lit_table_get(const struct lit_table *t, uint32_t space, const char *text, size_t len, uint32_t *value)
{
	if (t->n == 0)
		return false;
	const struct entry *e = find(t, hash_of(space, text, len), space, text, len);
	if (e->key == NULL)
		return false;
	*value = e->value;
	return true;
}

size_t lit_table_count(const struct lit_table *t)
{
	return t->n;
}
