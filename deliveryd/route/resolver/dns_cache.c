/* dns_cache - see dns_cache.h */
#include "config.h"
#include "route/resolver/dns_cache.h"

#include <string.h>
#include "base/mem.h"
#include "route/resolver/dns_hash.h"

struct entry {
	UT_hash_handle hh;
	struct entry *newer, *older; /* by last use */
	struct dns_result *result;   /* shares */
	uint64_t expires_us;
	size_t bytes;
	unsigned key_len;
	uint8_t key[];
};

struct dns_cache {
	struct entry *table;
	struct entry *newest, *oldest;
	unsigned n, max_entries;
	size_t bytes, max_bytes;
};

struct dns_cache *dns_cache_new(unsigned max_entries, size_t max_bytes)
{
	struct dns_cache *c = mem_zalloc(sizeof(*c));

	c->max_entries = max_entries;
	c->max_bytes = max_bytes;
	return c;
}

static void list_remove(struct dns_cache *c, struct entry *e)
{
	*(e->newer ? &e->newer->older : &c->newest) = e->older;
	*(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void list_add(struct dns_cache *c, struct entry *e)
{
	e->newer = NULL;
	e->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
}

static void drop(struct dns_cache *c, struct entry *e)
{
	HASH_DELETE(hh, c->table, e);
	list_remove(c, e);
	c->n--;
	c->bytes -= e->bytes;
	dns_result_unref(&e->result);
	mem_free(&e);
}

void dns_cache_clear(struct dns_cache *c)
{
	while (c->oldest)
		drop(c, c->oldest);
}

void dns_cache_free(struct dns_cache **p)
{
	if (!*p)
		return;
	dns_cache_clear(*p);
	mem_free(p);
}

static struct entry *find(struct dns_cache *c, const struct dns_key *key)
{
	struct entry *e;

	HASH_FIND(hh, c->table, key->bytes, key->len, e);
	return e;
}

struct dns_result *dns_cache_find(
        struct dns_cache *c, const struct dns_question *q, uint64_t now_us, uint64_t *expires_us)
{
	struct dns_key key;
	struct entry *e;

	dns_key_set(&key, q);
	e = find(c, &key);
	if (!e)
		return NULL;
	if (e->expires_us <= now_us) {
		drop(c, e);
		return NULL;
	}
	list_remove(c, e);
	list_add(c, e);
	*expires_us = e->expires_us;
	return e->result;
}

void dns_cache_put(
        struct dns_cache *c, const struct dns_question *q, struct dns_result *r, uint64_t expires_us)
{
	struct dns_key key;
	struct entry *e;

	dns_key_set(&key, q);
	e = find(c, &key);
	if (e)
		drop(c, e);
	e = mem_zalloc(sizeof(*e) + key.len);
	e->result = dns_result_ref(r);
	e->expires_us = expires_us;
	e->bytes = sizeof(*e) + key.len + r->bytes;
	e->key_len = key.len;
	memcpy(e->key, key.bytes, key.len);
	HASH_ADD_KEYPTR(hh, c->table, e->key, e->key_len, e);
	list_add(c, e);
	c->n++;
	c->bytes += e->bytes;
	while (c->n > c->max_entries || c->bytes > c->max_bytes)
		drop(c, c->oldest);
}

bool dns_cache_drop(struct dns_cache *c, const struct dns_question *q)
{
	struct dns_key key;
	struct entry *e;

	dns_key_set(&key, q);
	e = find(c, &key);
	if (e)
		drop(c, e);
	return e != NULL;
}

unsigned dns_cache_drop_tlsa(struct dns_cache *c, const struct dns_name *hosts, unsigned n)
{
	struct entry *e, *next;
	unsigned dropped = 0;

	HASH_ITER (hh, c->table, e, next) {
		if (!dns_key_is_tlsa_of(e->key, e->key_len, hosts, n))
			continue;
		drop(c, e);
		dropped++;
	}
	return dropped;
}

unsigned dns_cache_entries(const struct dns_cache *c)
{
	return c->n;
}

size_t dns_cache_bytes(const struct dns_cache *c)
{
	return c->bytes;
}
