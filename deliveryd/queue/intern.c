#include "queue/intern.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/split_hash.h"

struct name {
	char *text;
	uint32_t refs;
	uint32_t hash;
	uint32_t next; /* in its bucket; in the list of free ids */
};

struct intern {
	struct name *names; /* [0] is not used */
	uint32_t n, size;   /* ids given so far, room */
	uint32_t free;      /* first id to give again */
	uint32_t used;
	uint32_t *buckets;
	uint32_t n_buckets, size_buckets;
	size_t text_bytes;
};

struct intern *intern_new(void)
{
	struct intern *t = mem_zalloc(sizeof(*t));
	t->n = 1;
	t->size = 64;
	t->names = mem_array(NULL, t->size, sizeof(*t->names));
	memset(&t->names[0], 0, sizeof(t->names[0]));
	t->n_buckets = t->size_buckets = 64;
	t->buckets = mem_zalloc(t->n_buckets * sizeof(*t->buckets));
	return t;
}

void intern_free(struct intern **pt)
{
	struct intern *t = *pt;
	if (!t)
		return;
	for (uint32_t id = 1; id < t->n; id++)
		free(t->names[id].text);
	free(t->names);
	free(t->buckets);
	mem_free(pt);
}

static uint32_t lookup(const struct intern *t, const char *text, uint32_t hash)
{
	uint32_t id = t->buckets[split_hash_bucket(hash, t->n_buckets)];
	while (id && (t->names[id].hash != hash || strcmp(t->names[id].text, text) != 0))
		id = t->names[id].next;
	return id;
}

/* One bucket more: there may be hundreds of thousands of names. */
static void add_bucket(struct intern *t)
{
	if (t->n_buckets == t->size_buckets) {
		t->size_buckets *= 2;
		t->buckets = mem_array(t->buckets, t->size_buckets, sizeof(*t->buckets));
	}
	uint32_t added = t->n_buckets, *kept = &t->buckets[split_hash_from(added)], next;
	t->buckets[added] = 0;
	for (uint32_t id = *kept; id; id = next) {
		struct name *name = &t->names[id];
		next = name->next;
		if (split_hash_bucket(name->hash, added + 1) == added) {
			name->next = t->buckets[added];
			t->buckets[added] = id;
			*kept = next;
		} else {
			kept = &name->next;
		}
	}
	t->n_buckets++;
}

static uint32_t new_id(struct intern *t)
{
	if (t->free) {
		uint32_t id = t->free;
		t->free = t->names[id].next;
		return id;
	}
	if (t->n == t->size) {
		t->size *= 2;
		t->names = mem_array(t->names, t->size, sizeof(*t->names));
	}
	return t->n++;
}

uint32_t intern_get(struct intern *t, const char *text)
{
	if (!text || !*text)
		return 0;
	size_t len = strlen(text);
	uint32_t hash = (uint32_t)hash_bytes(text, len);
	uint32_t id = lookup(t, text, hash);
	if (id) {
		t->names[id].refs++;
		return id;
	}
	if (t->used >= t->n_buckets)
		add_bucket(t);
	id = new_id(t);
	uint32_t *bucket = &t->buckets[split_hash_bucket(hash, t->n_buckets)];
	t->names[id] =
	        (struct name){.text = mem_strndup(text, len), .refs = 1, .hash = hash, .next = *bucket};
	*bucket = id;
	t->used++;
	t->text_bytes += len + 1;
	return id;
}

uint32_t intern_find(const struct intern *t, const char *text)
{
	if (!text || !*text)
		return 0;
	return lookup(t, text, (uint32_t)hash_bytes(text, strlen(text)));
}

void intern_ref(struct intern *t, uint32_t id)
{
	if (!id)
		return;
	assert(id < t->n && t->names[id].refs > 0);
	t->names[id].refs++;
}

void intern_drop(struct intern *t, uint32_t id)
{
	if (!id)
		return;
	struct name *name = &t->names[id];
	assert(id < t->n && name->refs > 0);
	if (--name->refs > 0)
		return;
	uint32_t *at = &t->buckets[split_hash_bucket(name->hash, t->n_buckets)];
	while (*at != id)
		at = &t->names[*at].next;
	*at = name->next;
	t->text_bytes -= strlen(name->text) + 1;
	mem_free(&name->text);
	name->next = t->free;
	t->free = id;
	t->used--;
}

const char *intern_text(const struct intern *t, uint32_t id)
{
	if (!id)
		return "";
	assert(id < t->n && t->names[id].text);
	return t->names[id].text;
}

uint32_t intern_count(const struct intern *t)
{
	return t->used;
}

size_t intern_bytes(const struct intern *t)
{
	return t->size * sizeof(*t->names) + t->size_buckets * sizeof(*t->buckets) + t->text_bytes;
}
