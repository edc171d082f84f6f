#include "queue/health.h"

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/split_hash.h"

/* What was learned of an address is forgotten after an hour in which nothing new was. */
#define KEEP_US (3600 * SECOND_US)
#define SWEPT 4 /* buckets, for each entry added */

struct entry {
	struct entry *next; /* in its bucket */
	uint64_t until_us;  /* FAILED before, PROBATION from then on; 0 = good */
	uint64_t seen_us;
	struct health_who who;
	bool unfit;
	struct addr addr;
};

struct health {
	struct entry **buckets;
	uint32_t n_buckets, size_buckets, n;
	uint32_t sweep;        /* the bucket to be looked through next */
	uint64_t *recalled_us; /* by binding */
	uint32_t n_recalled;
};

struct health *health_new(void)
{
	struct health *h = mem_zalloc(sizeof(*h));
	h->n_buckets = h->size_buckets = 256;
	h->buckets = mem_zalloc(h->n_buckets * sizeof(*h->buckets));
	return h;
}

void health_free(struct health **ph)
{
	struct health *h = *ph;
	if (!h)
		return;
	for (uint32_t b = 0; b < h->n_buckets; b++) {
		while (h->buckets[b]) {
			struct entry *e = h->buckets[b];
			h->buckets[b] = e->next;
			free(e);
		}
	}
	free(h->buckets);
	free(h->recalled_us);
	mem_free(ph);
}

/* A Unix socket has no address: its path's hash stands for it. */
static struct addr key_of(const struct route_addr *ra)
{
	if (!ra->unix_path)
		return ra->addr;
	struct addr key = {.family = AF_UNIX};
	size_t len = strlen(ra->unix_path);
	uint64_t hash[2] = {hash_bytes(ra->unix_path, len), len};
	memcpy(key.ip, hash, sizeof(key.ip));
	return key;
}

static uint64_t hash_of(struct health_who who, const struct addr *a)
{
	return addr_hash(a) ^ (who.binding * UINT64_C(0x9e3779b97f4a7c15)) ^
	       (who.demand * UINT64_C(0xc2b2ae3d27d4eb4f));
}

static struct entry **bucket_of(const struct health *h, struct health_who who, const struct addr *a)
{
	return &h->buckets[split_hash_bucket((uint32_t)hash_of(who, a), h->n_buckets)];
}

static bool same(const struct entry *e, struct health_who who, const struct addr *a)
{
	return e->who.binding == who.binding && e->who.demand == who.demand && e->addr.family == a->family &&
	       e->addr.port == a->port && e->addr.scope == a->scope &&
	       memcmp(e->addr.ip, a->ip, sizeof(a->ip)) == 0;
}

static struct entry *find(const struct health *h, struct health_who who, const struct addr *a)
{
	struct entry *e = *bucket_of(h, who, a);
	while (e && !same(e, who, a))
		e = e->next;
	return e;
}

enum health_state health_of(const struct health *h, struct health_who who, const struct route_addr *ra,
        uint64_t now_us, uint64_t *until_us)
{
	struct addr key = key_of(ra);
	const struct entry *e = find(h, who, &key);
	if (!e)
		return HEALTH_UNKNOWN;
	if (e->until_us == 0)
		return HEALTH_GOOD;
	if (e->until_us <= now_us ||
	        (who.binding < h->n_recalled && e->seen_us < h->recalled_us[who.binding]))
		return HEALTH_PROBATION;
	if (until_us)
		*until_us = e->until_us;
	return HEALTH_FAILED;
}

static void add_bucket(struct health *h)
{
	if (h->n_buckets == h->size_buckets) {
		h->size_buckets *= 2;
		h->buckets = mem_array(h->buckets, h->size_buckets, sizeof(*h->buckets));
	}
	uint32_t added = h->n_buckets;
	struct entry **kept = &h->buckets[split_hash_from(added)];
	h->buckets[added] = NULL;
	while (*kept) {
		struct entry *e = *kept;
		if (split_hash_bucket((uint32_t)hash_of(e->who, &e->addr), added + 1) == added) {
			*kept = e->next;
			e->next = h->buckets[added];
			h->buckets[added] = e;
		} else {
			kept = &e->next;
		}
	}
	h->n_buckets++;
}

/* Takes out of the next buckets what is old, so that the table does not outgrow an hour's addresses: it goes round faster
 * than entries are added. */
static void sweep_some(struct health *h, uint64_t now_us)
{
	for (unsigned i = 0; i < SWEPT; i++) {
		h->sweep = h->sweep + 1 < h->n_buckets ? h->sweep + 1 : 0;
		for (struct entry **at = &h->buckets[h->sweep]; *at;) {
			struct entry *e = *at;
			if (e->seen_us + KEEP_US < now_us && e->until_us + KEEP_US < now_us) {
				*at = e->next;
				free(e);
				h->n--;
			} else {
				at = &e->next;
			}
		}
	}
}

static struct entry *get(
        struct health *h, struct health_who who, const struct route_addr *ra, uint64_t now_us)
{
	struct addr key = key_of(ra);
	struct entry *e = find(h, who, &key);
	if (!e) {
		sweep_some(h, now_us);
		if (h->n >= h->n_buckets)
			add_bucket(h);
		struct entry **bucket = bucket_of(h, who, &key);
		e = mem_zalloc(sizeof(*e));
		e->who = who;
		e->addr = key;
		e->next = *bucket;
		*bucket = e;
		h->n++;
	}
	e->seen_us = now_us;
	return e;
}

void health_fail(struct health *h, struct health_who who, const struct route_addr *ra, uint64_t now_us,
        uint64_t until_us)
{
	/* host_failure_retry 0 still means probation */
	struct entry *e = get(h, who, ra, now_us);
	e->until_us = until_us ? until_us : 1;
	e->unfit = false;
}

void health_set_unfit(struct health *h, struct health_who who, const struct route_addr *ra)
{
	struct addr key = key_of(ra);
	struct entry *e = find(h, who, &key);
	if (e)
		e->unfit = true;
}

bool health_is_unfit(const struct health *h, struct health_who who, const struct route_addr *ra)
{
	struct addr key = key_of(ra);
	const struct entry *e = find(h, who, &key);
	return e && e->unfit;
}

void health_succeed(struct health *h, struct health_who who, const struct route_addr *ra, uint64_t now_us)
{
	struct addr key = key_of(ra);
	if (who.demand && !find(h, who, &key)) /* nothing to take back: most hosts do as they are told */
		return;
	get(h, who, ra, now_us)->until_us = 0;
}

uint32_t health_count(const struct health *h)
{
	return h->n;
}

void health_recall(struct health *h, uint32_t binding, uint64_t now_us)
{
	if (binding >= h->n_recalled) {
		uint32_t n = binding * 2 + 16;
		h->recalled_us = mem_array(h->recalled_us, n, sizeof(*h->recalled_us));
		memset(h->recalled_us + h->n_recalled, 0, (n - h->n_recalled) * sizeof(*h->recalled_us));
		h->n_recalled = n;
	}
	h->recalled_us[binding] = now_us;
}
