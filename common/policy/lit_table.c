#include "policy/lit_table.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

struct entry {
	const char *key; /* NULL = free */
	uint32_t len, space, value, hash;
};

struct lit_table {
	struct entry *entries;
	size_t n, size; /* size: a power of two, at least twice n */
};

struct lit_table *lit_table_new(void)
{
	struct lit_table *t = mem_zalloc(sizeof(*t));
	t->size = 16;
	t->entries = mem_zalloc(t->size * sizeof(*t->entries));
	return t;
}

void lit_table_free(struct lit_table **pp)
{
	if (*pp == NULL)
		return;
	mem_free(&(*pp)->entries);
	mem_free(pp);
}

static uint32_t hash_of(uint32_t space, const char *key, size_t len)
{
	/* keyed: values of messages are looked up too */
	return (uint32_t)hash_bytes(key, len) ^ (space * 0x9e3779b1u);
}

static struct entry *find(
        const struct lit_table *t, uint32_t hash, uint32_t space, const char *key, size_t len)
{
	for (size_t i = hash & (t->size - 1);; i = (i + 1) & (t->size - 1)) {
		struct entry *e = &t->entries[i];
		if (e->key == NULL)
			return e;
		if (e->hash == hash && e->space == space && e->len == len && memcmp(e->key, key, len) == 0)
			return e;
	}
}

static void grow(struct lit_table *t)
{
	struct lit_table old = *t;
	t->size *= 2;
	t->entries = mem_zalloc(t->size * sizeof(*t->entries));
	for (size_t i = 0; i < old.size; i++) {
		const struct entry *e = &old.entries[i];
		if (e->key != NULL)
			*find(t, e->hash, e->space, e->key, e->len) = *e;
	}
	mem_free(&old.entries);
}

uint32_t *lit_table_put(
        struct lit_table *t, uint32_t space, const char *key, size_t len, uint32_t fresh, bool *added)
{
	if (2 * (t->n + 1) > t->size)
		grow(t);
	uint32_t hash = hash_of(space, key, len);
	struct entry *e = find(t, hash, space, key, len);
	*added = e->key == NULL;
	if (*added) {
		*e = (struct entry){
		        .key = key, .len = (uint32_t)len, .space = space, .value = fresh, .hash = hash};
		t->n++;
	}
	return &e->value;
}

bool lit_table_get(const struct lit_table *t, uint32_t space, const char *key, size_t len, uint32_t *value)
{
	if (t->n == 0)
		return false;
	const struct entry *e = find(t, hash_of(space, key, len), space, key, len);
	if (e->key == NULL)
		return false;
	*value = e->value;
	return true;
}

size_t lit_table_count(const struct lit_table *t)
{
	return t->n;
}
