#include "queue/queue_in.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/split_hash.h"

const char *hold_name(enum hold hold)
{
	static const char *const names[] = {
	        [HOLD_NONE] = NULL,
	        [HOLD_SUSPENDED] = "suspended",
	        [HOLD_CURFEW] = "curfew",
	        [HOLD_REMOVED] = "binding not in the configuration",
	        [HOLD_NO_MEMBER] = "no member of the group is usable",
	        [HOLD_SOURCE] = "source_down: the source address is not on this machine",
	};
	return names[hold];
}

/* --- by key ---------------------------------------------------------------------------------------------------- */

static uint64_t key_hash(const struct hop_key *k)
{
	uint64_t h = (((uint64_t)k->binding << 32) | k->hop) * UINT64_C(0x9e3779b97f4a7c15);
	h ^= (uintptr_t)k->profile + ((uint64_t)k->port << 17) + ((uint64_t)k->hop_type << 1) + k->suspended +
	     ((uint64_t)k->scopes << 33);
	h ^= (uint64_t)k->demand * UINT64_C(0xc2b2ae3d27d4eb4f);
	return (h * UINT64_C(0xff51afd7ed558ccd)) >> 20;
}

bool hop_key_equal(const struct hop_key *a, const struct hop_key *b)
{
	return hop_key_same_place(a, b) && a->demand == b->demand;
}

bool hop_key_same_place(const struct hop_key *a, const struct hop_key *b)
{
	return a->binding == b->binding && a->hop == b->hop && a->port == b->port &&
	       a->hop_type == b->hop_type && a->suspended == b->suspended && a->scopes == b->scopes &&
	       a->profile == b->profile;
}

static uint32_t bucket_number(const struct hop_key *k, uint32_t n_buckets)
{
	return split_hash_bucket((uint32_t)key_hash(k), n_buckets);
}

static struct hop_queue **bucket_of(struct queue *q, const struct hop_key *k)
{
	return &q->hop_buckets[bucket_number(k, q->n_hop_buckets)];
}

static void *array_with_room(void *array, uint32_t n, uint32_t *size)
{
	if (n < *size)
		return array;
	*size = *size ? *size * 2 : 256;
	return mem_array(array, *size, sizeof(void *));
}

static void add_bucket(struct queue *q)
{
	uint32_t added = q->n_hop_buckets;
	q->hop_buckets = array_with_room(q->hop_buckets, added, &q->size_hop_buckets);
	q->hop_buckets[added] = NULL;
	struct hop_queue **kept = added ? &q->hop_buckets[split_hash_from(added)] : NULL;
	while (kept && *kept) {
		struct hop_queue *hq = *kept;
		if (bucket_number(&hq->key, added + 1) == added) {
			*kept = hq->hash_next;
			hq->hash_next = q->hop_buckets[added];
			q->hop_buckets[added] = hq;
		} else {
			kept = &hq->hash_next;
		}
	}
	q->n_hop_buckets++;
}

struct hop_queue *hop_queue_get(
        struct queue *q, const struct hop_key *key, struct profile *profile, enum hold hold)
{
	if (q->n_hop_queues >= q->n_hop_buckets)
		add_bucket(q);
	struct hop_queue **bucket = bucket_of(q, key);
	for (struct hop_queue *hq = *bucket; hq; hq = hq->hash_next) {
		if (!hop_key_equal(&hq->key, key))
			continue;
		/* what the key does not say: a binding that is back, a group that has members again */
		if (hq->hold != hold && hq->hold != HOLD_SOURCE)
			hop_queue_hold(hq, hold);
		hq->generation = q->generation;
		return hq;
	}
	struct hop_queue *hq = mem_zalloc(sizeof(*hq));
	hq->q = q;
	hq->generation = q->generation;
	hq->key = *key;
	hq->profile = profile ? profile_ref(profile) : NULL;
	intern_ref(q->names, key->hop);
	intern_ref(q->names, key->scopes);
	intern_ref(q->names, key->demand);
	hq->hold = hold;
	link_init(&hq->of_binding);
	link_init(&hq->work);
	link_add_tail(&binding_at(q, key->binding)->queues, &hq->of_binding);
	hq->number = numbered_add(&q->hop_queues, hq);
	hq->hash_next = *bucket;
	*bucket = hq;
	q->n_hop_queues++;
	return hq;
}

void next_hop_of(const struct hop_queue *hq, struct next_hop *hop)
{
	*hop = (struct next_hop){
	        .type = hq->key.hop_type,
	        .name = intern_text(hq->q->names, hq->key.hop),
	        .port = hq->key.port,
	};
}

/* --- traffic ----------------------------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
	return text ? mem_strdup(text) : NULL;
}

struct failure *failure_new(const struct outcome *o, const struct session_facts *facts)
{
	struct failure *f = mem_zalloc(sizeof(*f));
	f->outcome = *o;
	if (!facts)
		return f;
	f->facts.source = facts->source;
	f->facts.peer = facts->peer;
	f->facts.proxy = facts->proxy;
	f->facts.claimed = facts->claimed;
	f->facts.tls_resumed = facts->tls_resumed;
	f->facts.tls_insecure_mx = facts->tls_insecure_mx;
	f->facts.mx = f->mx = copy(facts->mx);
	f->facts.ehlo = f->ehlo = copy(facts->ehlo);
	f->facts.tls_version = f->tls_version = copy(facts->tls_version);
	f->facts.tls_cipher = f->tls_cipher = copy(facts->tls_cipher);
	f->facts.tls_verified = f->tls_verified = copy(facts->tls_verified);
	f->facts.tls_sni = f->tls_sni = copy(facts->tls_sni);
	return f;
}

void failure_free(struct failure **pf)
{
	if (!*pf)
		return;
	free((*pf)->mx);
	free((*pf)->ehlo);
	free((*pf)->tls_version);
	free((*pf)->tls_cipher);
	free((*pf)->tls_verified);
	free((*pf)->tls_sni);
	mem_free(pf);
}

static void backoff_over(void *ctx)
{
	struct traffic *t = ctx;
	hop_queue_work(t->hq);
}

static uint32_t pair_bucket_number(uint32_t binding, uint32_t hop, uint32_t n_buckets)
{
	uint64_t h = (((uint64_t)binding << 32) | hop) * UINT64_C(0x9e3779b97f4a7c15);
	return split_hash_bucket((uint32_t)(h >> 32), n_buckets);
}

static struct pair **pair_bucket(struct queue *q, uint32_t binding, uint32_t hop)
{
	return &q->pair_buckets[pair_bucket_number(binding, hop, q->n_pair_buckets)];
}

static void add_pair_bucket(struct queue *q)
{
	uint32_t added = q->n_pair_buckets;
	q->pair_buckets = array_with_room(q->pair_buckets, added, &q->size_pair_buckets);
	q->pair_buckets[added] = NULL;
	struct pair **kept = added ? &q->pair_buckets[split_hash_from(added)] : NULL;
	while (kept && *kept) {
		struct pair *p = *kept;
		if (pair_bucket_number(p->binding, p->hop, added + 1) == added) {
			*kept = p->hash_next;
			p->hash_next = q->pair_buckets[added];
			q->pair_buckets[added] = p;
		} else {
			kept = &p->hash_next;
		}
	}
	q->n_pair_buckets++;
}

/*
 * The bound is the largest value among its queues: those that the configuration in force puts mail into. What was before
 * a reload does not keep it up, though its sessions count until they have ended.
 */
static void pair_bound(struct queue *q, struct pair *p)
{
	uint32_t max = 0, before = 0;
	p->generation = q->generation;
	for (const struct link *l = p->traffics.next; l != &p->traffics; l = l->next) {
		const struct traffic *t = container_of(l, struct traffic, of_pair);
		if (t->own.max > before)
			before = t->own.max;
		if (t->hq->generation != q->generation)
			continue;
		if (t->own.max > max)
			max = t->own.max;
	}
	max = max ? max : before;
	uint32_t reduced = reduced_max(q, p->binding, p->hop);
	p->limit.max = max < reduced ? max : reduced;
	limit_freed(q, &p->limit);
}

void pairs_bound(struct queue *q, uint32_t binding, uint32_t hop)
{
	if (q->n_pair_buckets == 0)
		return;
	for (struct pair *p = *pair_bucket(q, binding, hop); p; p = p->hash_next) {
		if (p->binding == binding && p->hop == hop)
			pair_bound(q, p);
	}
}

struct limit *traffic_pair_limit(struct traffic *t)
{
	struct queue *q = t->hq->q;
	struct pair *p = t->pair;
	t->hq->generation = q->generation; /* its first delivery was looked at: place_first() */
	if (q->rekeying || p->generation != q->generation || t->own.max > p->limit.max)
		pair_bound(q, p);
	return &p->limit;
}

struct counts pairs_counts(struct queue *q, uint32_t binding, uint32_t hop)
{
	struct counts c = {0};
	for (const struct pair *p = q->n_pair_buckets ? *pair_bucket(q, binding, hop) : NULL; p;
	        p = p->hash_next) {
		if (p->binding != binding || p->hop != hop)
			continue;
		for (const struct link *l = p->traffics.next; l != &p->traffics; l = l->next) {
			const struct traffic *t = container_of(l, struct traffic, of_pair);
			bool held = t->hq->hold != HOLD_NONE;
			uint32_t ready = t->hq->n[DELIVERY_READY];
			c.active += hop_queue_active(t->hq) - (held ? ready : 0);
			c.deferred += t->hq->n[DELIVERY_DEFERRED];
			c.held += t->hq->n[DELIVERY_HELD] + (held ? ready : 0);
			c.connections += t->n_conns;
		}
	}
	return c;
}

static bool pair_is(const struct pair *p, const struct hop_key *k)
{
	return p->binding == k->binding && p->hop == k->hop && p->port == k->port &&
	       p->hop_type == k->hop_type;
}

static void pair_join(struct queue *q, const struct hop_key *k, struct traffic *t)
{
	if (q->n_pairs >= q->n_pair_buckets)
		add_pair_bucket(q);
	struct pair **bucket = pair_bucket(q, k->binding, k->hop);
	struct pair *p = *bucket;
	while (p && !pair_is(p, k))
		p = p->hash_next;
	if (!p) {
		p = mem_zalloc(sizeof(*p));
		p->binding = k->binding;
		p->hop = k->hop; /* the queues hold a reference */
		p->port = k->port;
		p->hop_type = k->hop_type;
		limit_init(&p->limit, 0);
		link_init(&p->traffics);
		q->n_pairs++;
		p->hash_next = *bucket;
		*bucket = p;
	}
	t->pair = p;
	link_init(&t->of_pair);
	link_add_tail(&p->traffics, &t->of_pair);
	pair_bound(q, p);
}

static void pair_leave(struct queue *q, const struct hop_key *k, struct traffic *t)
{
	struct pair *p = t->pair;
	link_remove(&t->of_pair);
	if (link_linked(&p->traffics)) {
		pair_bound(q, p);
		return;
	}
	assert(limit_idle(&p->limit));
	q->n_pairs--;
	struct pair **at = pair_bucket(q, k->binding, k->hop);
	while (*at != p)
		at = &(*at)->hash_next;
	*at = p->hash_next;
	link_remove(&p->limit.wake_link);
	free(p);
}

struct traffic *traffic_get(struct hop_queue *hq)
{
	if (hq->traffic)
		return hq->traffic;
	struct traffic *t = mem_zalloc(sizeof(*t));
	t->hq = hq;
	limit_init(&t->own, hq->key.profile->o.max_outbound_connections);
	for (unsigned i = 0; i < WAITERS; i++)
		waiter_init(&t->waiters[i], t);
	link_init(&t->conns);
	link_init(&t->idle);
	link_init(&t->of_proxy);
	timer_init(&t->backoff, backoff_over, t);
	pair_join(hq->q, &hq->key, t);
	scopes_throttles(hq->q, hq->key.scopes, t->throttles);
	hq->traffic = t;
	return t;
}

void traffic_wait(struct traffic *t, struct limit *l)
{
	struct waiter *free = NULL;
	for (unsigned i = 0; i < WAITERS; i++) {
		if (t->waiters[i].at == l)
			return;
		if (!t->waiters[i].at)
			free = &t->waiters[i];
	}
	if (free)
		waiter_wait(free, l);
	/* a limit with room that others wait for must be looked at again */
	limit_freed(t->hq->q, l);
}

void traffic_stop_waiting(struct traffic *t)
{
	for (unsigned i = 0; i < WAITERS; i++)
		waiter_leave(&t->waiters[i]);
}

static void traffic_free(struct hop_queue *hq)
{
	struct traffic *t = hq->traffic;
	traffic_stop_waiting(t);
	proxy_stop_waiting(t);
	route_cancel(&t->query);
	route_unref(&t->route);
	timer_cancel(hq->q->loop, &t->backoff);
	failure_free(&t->failure);
	failure_free(&t->drain);
	assert(limit_idle(&t->own));
	link_remove(&t->own.wake_link);
	for (unsigned i = 0; i < N_THROTTLE_KINDS; i++)
		throttle_unuse(&t->throttles[i]);
	pair_leave(hq->q, &hq->key, t);
	mem_free(&hq->traffic);
}

static bool traffic_over(const struct hop_queue *hq)
{
	const struct traffic *t = hq->traffic;
	return t->n_conns == 0 && hq->n[DELIVERY_OUT] == 0 && t->backoff_until_us <= queue_now(hq->q) &&
	       (hq->n[DELIVERY_READY] == 0 || hq->hold != HOLD_NONE);
}

/* --- life ---------------------------------------------------------------------------------------------------------- */

uint32_t hop_queue_active(const struct hop_queue *hq)
{
	return hq->n[DELIVERY_READY] + hq->n[DELIVERY_OUT] + hq->n[DELIVERY_BOUNCING];
}

void hop_queue_work(struct hop_queue *hq)
{
	if (!link_linked(&hq->work))
		link_add_tail(&hq->q->work, &hq->work);
	queue_kick(hq->q);
}

static void hop_queue_free(struct hop_queue *hq)
{
	struct queue *q = hq->q;
	if (hq->traffic)
		traffic_free(hq);
	struct hop_queue **at = bucket_of(q, &hq->key);
	while (*at != hq)
		at = &(*at)->hash_next;
	*at = hq->hash_next;
	link_remove(&hq->of_binding);
	link_remove(&hq->work);
	numbered_remove(&q->hop_queues, hq->number);
	intern_drop(q->names, hq->key.hop);
	intern_drop(q->names, hq->key.scopes);
	intern_drop(q->names, hq->key.demand);
	profile_unref(&hq->profile);
	q->n_hop_queues--;
	free(hq);
}

void hop_queue_free_if_empty(struct hop_queue *hq)
{
	if (hq->traffic && traffic_over(hq))
		traffic_free(hq);
	if (hq->traffic)
		return;
	for (int state = DELIVERY_READY; state < DELIVERY_N_STATES; state++) {
		if (hq->n[state])
			return;
	}
	hop_queue_free(hq);
}

void hop_queues_free(struct queue *q)
{
	for (uint32_t i = 0; i < q->hop_queues.n; i++) {
		if (q->hop_queues.at[i])
			hop_queue_free(q->hop_queues.at[i]);
	}
}

void hop_queue_hold(struct hop_queue *hq, enum hold hold)
{
	struct queue *q = hq->q;
	bool was = hq->hold != HOLD_NONE, is = hold != HOLD_NONE;
	hq->hold = hold;
	if (was != is) {
		/* ready mail of a queue on hold counts as held */
		struct counts *of[] = {&q->counts, &binding_at(q, hq->key.binding)->counts};
		uint32_t n = hq->n[DELIVERY_READY];
		for (unsigned i = 0; i < array_len(of); i++) {
			of[i]->held += is ? n : -n;
			of[i]->active -= is ? n : -n;
		}
		binding_metrics_set(binding_at(q, hq->key.binding));
	}
	hop_queue_work(hq);
}

/* --- order ----------------------------------------------------------------------------------------------------------- */

/*
 * High goes before normal before low; but every fourth job may be a normal one and every sixteenth a low one before
 * the others, so that none is starved.
 */
uint32_t hop_queue_first(const struct hop_queue *hq)
{
	static const uint8_t order[3][3] = {{0, 1, 2}, {1, 0, 2}, {2, 0, 1}};
	const uint8_t *o = order[hq->turns % 16 == 15 ? 2 : hq->turns % 4 == 3 ? 1 : 0];
	for (unsigned i = 0; i < 3; i++) {
		if (hq->ready[o[i]].head)
			return hq->ready[o[i]].head;
	}
	return 0;
}
