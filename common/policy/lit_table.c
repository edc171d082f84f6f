#include "policy/lit_table.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

/*
 * What is looked up among a hundred thousand touches two cache lines: one of slots, eight of them in it, and one of
 * the record a slot points to, which has the key and the value side by side.
 */
struct slot {
	uint32_t hash, at; /* at: the record, in units of RECORD_UNIT; 0 = free */
};
struct record {
	uint32_t value, len;
	char text[];
};
#define RECORD_UNIT 8u
#define CACHE_LINE MEM_CACHE_LINE

struct lit_table {
	struct slot *slots;     /* owns */
	unsigned char *records; /* owns; begins on a cache line */
	size_t n, size;         /* of slots; size: a power of two, a fifth of it free */
	size_t used, room;      /* bytes of records */
};

static struct slot *new_slots(size_t n)
{
	struct slot *slots = mem_table(n * sizeof(*slots));
	memset(slots, 0, n * sizeof(*slots));
	return slots;
}

struct lit_table *lit_table_new(void)
{
	struct lit_table *t = mem_zalloc(sizeof(*t));
	t->size = 8;
	t->slots = new_slots(t->size);
	t->room = 4 * CACHE_LINE;
	t->records = mem_table(t->room);
	t->used = RECORD_UNIT; /* 0 means free */
	return t;
}

void lit_table_free(struct lit_table **pp)
{
	if (*pp == NULL)
		return;
	mem_free(&(*pp)->records);
	mem_free(&(*pp)->slots);
	mem_free(pp);
}

static struct record *record_at(const struct lit_table *t, uint32_t at)
{
	return (struct record *)(t->records + (size_t)at * RECORD_UNIT);
}

/* The slot that holds the key, or the free one it would get. */
static struct slot *find(const struct lit_table *t, uint32_t hash, const char *text, size_t len)
{
	for (size_t i = hash & (t->size - 1);; i = (i + 1) & (t->size - 1)) {
		struct slot *slot = &t->slots[i];
		if (slot->at == 0)
			return slot;
		if (slot->hash != hash)
			continue;
		const struct record *r = record_at(t, slot->at);
		if (r->len == len && memcmp(r->text, text, len) == 0)
			return slot;
	}
}

static void grow(struct lit_table *t)
{
	struct slot *old = t->slots;
	size_t old_size = t->size;
	t->size *= 2;
	t->slots = new_slots(t->size);
	for (size_t i = 0; i < old_size; i++) {
		if (old[i].at == 0)
			continue;
		size_t to = old[i].hash & (t->size - 1);
		while (t->slots[to].at != 0)
			to = (to + 1) & (t->size - 1);
		t->slots[to] = old[i];
	}
	mem_free(&old);
}

/* A record that fits into a cache line does not lie across two. */
static uint32_t new_record(struct lit_table *t, const char *text, size_t len, uint32_t value)
{
	size_t bytes = (sizeof(struct record) + len + RECORD_UNIT - 1) / RECORD_UNIT * RECORD_UNIT;
	size_t left = CACHE_LINE - t->used % CACHE_LINE;
	if (bytes > left && left < CACHE_LINE)
		t->used += bytes <= CACHE_LINE ? left : 0;
	while (t->used + bytes > t->room) {
		unsigned char *more = mem_table(2 * t->room);
		memcpy(more, t->records, t->room);
		mem_free(&t->records);
		t->records = more;
		t->room *= 2;
	}
	uint32_t at = (uint32_t)(t->used / RECORD_UNIT);
	struct record *r = record_at(t, at);
	r->value = value;
	r->len = (uint32_t)len;
	memcpy(r->text, text, len);
	t->used += bytes;
	return at;
}

uint32_t lit_table_hash(const char *key, size_t len)
{
	return (uint32_t)hash_bytes(key, len); /* keyed: values of messages are looked up too */
}

void lit_table_expect(const struct lit_table *t, uint32_t hash)
{
	__builtin_prefetch(&t->slots[hash & (t->size - 1)]);
}

void lit_table_expect_record(const struct lit_table *t, uint32_t hash)
{
	for (size_t i = hash & (t->size - 1); t->slots[i].at != 0; i = (i + 1) & (t->size - 1))
		if (t->slots[i].hash == hash) {
			__builtin_prefetch(record_at(t, t->slots[i].at));
			return;
		}
}

uint32_t *lit_table_put(struct lit_table *t, const char *text, size_t len, uint32_t fresh, bool *added)
{
	if (5 * (t->n + 1) > 4 * t->size)
		grow(t);
	uint32_t hash = lit_table_hash(text, len);
	struct slot *slot = find(t, hash, text, len);
	*added = slot->at == 0;
	if (*added) {
		*slot = (struct slot){.hash = hash, .at = new_record(t, text, len, fresh)};
		t->n++;
	}
	return &record_at(t, slot->at)->value;
}

bool lit_table_get_hashed(
        const struct lit_table *t, uint32_t hash, const char *text, size_t len, uint32_t *value)
{
	if (t->n == 0)
		return false;
	const struct slot *slot = find(t, hash, text, len);
	if (slot->at == 0)
		return false;
	*value = record_at(t, slot->at)->value;
	return true;
}

bool lit_table_get(const struct lit_table *t, const char *text, size_t len, uint32_t *value)
{
	return t->n > 0 && lit_table_get_hashed(t, lit_table_hash(text, len), text, len, value);
}

size_t lit_table_count(const struct lit_table *t)
{
	return t->n;
}
