#include "queue/quota.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/rate_window.h"

#define BUCKETS 4096 /* ten thousand bindings are few */

/* One throttle for all that take it from one place; held for a few comparisons at a time. */
struct inbound {
	char *place; /* owns */
	pthread_mutex_t lock;
	struct rate_window window;
	UT_hash_handle hh;
};

struct quota {
	_Atomic(struct quota *) next;             /* in its bucket */
	char *target;                             /* owns */
	_Atomic uint64_t max_messages, max_bytes; /* UINT64_MAX = no limit */
	_Atomic(struct inbound *) inbound;
	_Atomic int64_t queued, queued_bytes; /* by the queue */
	_Atomic int64_t coming, coming_bytes; /* by the handoff: on their way */
};

struct quotas {
	atomic_bool in_use;
	struct inbound *inbound; /* owns: the queue's loop */
	_Atomic(struct quota *) buckets[BUCKETS];
};

struct quotas *quotas_new(void)
{
	return mem_zalloc(sizeof(struct quotas));
}

void quotas_free(struct quotas **pq)
{
	struct quotas *q = *pq;
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct quota *next;
		for (struct quota *t = atomic_load(&q->buckets[i]); t; t = next) {
			next = atomic_load(&t->next);
			free(t->target);
			free(t);
		}
	}
	struct inbound *in, *next_in;
	HASH_ITER (hh, q->inbound, in, next_in) {
		HASH_DEL(q->inbound, in);
		pthread_mutex_destroy(&in->lock);
		rate_window_free(&in->window);
		free(in->place);
		free(in);
	}
	mem_free(pq);
}

static _Atomic(struct quota *) *bucket_of(struct quotas *q, const char *target)
{
	return &q->buckets[hash_bytes(target, strlen(target)) % BUCKETS];
}

static struct quota *find(struct quotas *q, const char *target)
{
	struct quota *t = atomic_load_explicit(bucket_of(q, target), memory_order_acquire);
	while (t && strcmp(t->target, target) != 0)
		t = atomic_load_explicit(&t->next, memory_order_acquire);
	return t;
}

/* Complete before it can be found; the queue's loop alone adds. */
struct quota *quota_get(struct quotas *q, const char *target)
{
	struct quota *t = find(q, target);
	if (t)
		return t;
	t = mem_zalloc(sizeof(*t));
	t->target = mem_strdup(target);
	atomic_init(&t->max_messages, UINT64_MAX);
	atomic_init(&t->max_bytes, UINT64_MAX);
	_Atomic(struct quota *) *bucket = bucket_of(q, target);
	atomic_init(&t->next, atomic_load(bucket));
	atomic_store_explicit(bucket, t, memory_order_release);
	return t;
}

/* --- the queue's side -------------------------------------------------------------------------------------------------- */

void quotas_in_use(struct quotas *q, bool in_use)
{
	atomic_store(&q->in_use, in_use);
}

bool quota_set(struct quota *t, uint64_t max_messages, uint64_t max_bytes)
{
	atomic_store(&t->max_messages, max_messages ? max_messages : UINT64_MAX);
	atomic_store(&t->max_bytes, max_bytes ? max_bytes : UINT64_MAX);
	return max_messages || max_bytes;
}

static struct inbound *inbound_get(struct quotas *q, const char *place, struct rate rate)
{
	struct inbound *in;
	HASH_FIND_STR(q->inbound, place, in);
	if (in) {
		pthread_mutex_lock(&in->lock);
		if (in->window.rate.count != rate.count || in->window.rate.seconds != rate.seconds)
			rate_window_set(&in->window, rate);
		pthread_mutex_unlock(&in->lock);
		return in;
	}
	in = mem_zalloc(sizeof(*in));
	in->place = mem_strdup(place);
	pthread_mutex_init(&in->lock, NULL);
	rate_window_init(&in->window, rate);
	HASH_ADD_KEYPTR(hh, q->inbound, in->place, strlen(in->place), in);
	return in;
}

bool quota_set_inbound(struct quotas *q, struct quota *t, const char *place, struct rate rate)
{
	if (rate.count == 0) {
		atomic_store(&t->inbound, NULL);
		return false;
	}
	atomic_store(&t->inbound, inbound_get(q, place, rate));
	return true;
}

void quota_queued(struct quota *t, int64_t messages, int64_t bytes)
{
	atomic_fetch_add(&t->queued, messages);
	atomic_fetch_add(&t->queued_bytes, bytes);
}

static void not_coming(struct quota *t, uint64_t bytes)
{
	atomic_fetch_sub(&t->coming, 1);
	atomic_fetch_sub(&t->coming_bytes, (int64_t)bytes);
}

void quota_settle(struct quotas *q, const char *target, uint64_t bytes)
{
	quota_give_back(q, target, bytes);
}

uint64_t quota_bytes(const struct quota *t)
{
	return (uint64_t)atomic_load(&t->queued_bytes);
}

enum quota_verdict quota_state(const struct quota *t)
{
	if ((uint64_t)atomic_load(&t->queued) >= atomic_load(&t->max_messages))
		return QUOTA_MESSAGES;
	return (uint64_t)atomic_load(&t->queued_bytes) >= atomic_load(&t->max_bytes) ? QUOTA_BYTES
	                                                                             : QUOTA_TAKEN;
}

/* --- the handoff's side --------------------------------------------------------------------------------------------------- */

static bool rate_allows(struct inbound *in, uint64_t now_us)
{
	pthread_mutex_lock(&in->lock);
	bool allowed = rate_window_count(&in->window, now_us);
	pthread_mutex_unlock(&in->lock);
	return allowed;
}

/* Counted first, then compared: two at once may both be refused where one would fit, but never both be taken. */
enum quota_verdict quota_take(struct quotas *q, const char *target, uint64_t bytes, uint64_t now_us)
{
	if (!atomic_load_explicit(&q->in_use, memory_order_relaxed))
		return QUOTA_NONE;
	struct quota *t = find(q, target);
	if (!t)
		return QUOTA_NONE;
	int64_t coming = atomic_fetch_add(&t->coming, 1) + 1;
	int64_t coming_bytes = atomic_fetch_add(&t->coming_bytes, (int64_t)bytes) + (int64_t)bytes;
	enum quota_verdict verdict = QUOTA_TAKEN;
	struct inbound *in = atomic_load(&t->inbound);
	if ((uint64_t)(coming + atomic_load(&t->queued)) > atomic_load(&t->max_messages))
		verdict = QUOTA_MESSAGES;
	else if ((uint64_t)(coming_bytes + atomic_load(&t->queued_bytes)) > atomic_load(&t->max_bytes))
		verdict = QUOTA_BYTES;
	else if (in && !rate_allows(in, now_us))
		verdict = QUOTA_RATE;
	if (verdict != QUOTA_TAKEN)
		not_coming(t, bytes);
	return verdict;
}

void quota_give_back(struct quotas *q, const char *target, uint64_t bytes)
{
	struct quota *t = find(q, target);
	if (t)
		not_coming(t, bytes);
}
