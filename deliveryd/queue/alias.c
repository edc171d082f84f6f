#include "queue/queue_in.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/*
 * A binding that is drained: what names it goes to another one instead, what is queued now and what still comes (stamps
 * live a while), until the last stamp made before has expired. A setting of the spool, "alias:NAME" = "UNTIL TARGET"
 * (wall clock, microseconds). The binding is suspended as well, so that nothing starts and no group chooses it.
 *
 * The queue's loop alone changes the table, under the lock; net threads read it under the lock.
 */
#define KEY_PREFIX "alias:"
#define CHAIN_MAX 8 /* drained to what is drained later */

struct alias {
	char *name, *to; /* owns */
	char *who;       /* owns; until the sweep has been told */
	uint64_t until_wall_us;
	uint64_t moved;
	UT_hash_handle hh;
};

static struct alias *find(const struct queue *q, const char *name)
{
	struct alias *a;
	HASH_FIND_STR(q->aliases, name, a);
	return a;
}

const char *alias_of(const struct queue *q, const char *name)
{
	struct alias *a = find(q, name);
	const char *to = NULL;
	for (unsigned i = 0; a && i < CHAIN_MAX; i++) {
		to = a->to;
		a = find(q, to);
	}
	return to;
}

bool queue_has_alias(void *queue, const char *name)
{
	struct queue *q = queue;
	pthread_mutex_lock(&q->alias_lock);
	bool has = find(q, name) != NULL;
	pthread_mutex_unlock(&q->alias_lock);
	return has;
}

static void forget(struct queue *q, struct alias *a)
{
	pthread_mutex_lock(&q->alias_lock);
	HASH_DEL(q->aliases, a);
	pthread_mutex_unlock(&q->alias_lock);
	free(a->name);
	free(a->to);
	free(a->who);
	free(a);
}

static struct alias *remember(struct queue *q, const char *name, const char *to, uint64_t until_wall_us)
{
	struct alias *a = find(q, name);
	if (a)
		forget(q, a);
	a = mem_zalloc(sizeof(*a));
	a->name = mem_strdup(name);
	a->to = mem_strdup(to);
	a->until_wall_us = until_wall_us;
	pthread_mutex_lock(&q->alias_lock);
	HASH_ADD_KEYPTR(hh, q->aliases, a->name, strlen(a->name), a);
	pthread_mutex_unlock(&q->alias_lock);
	return a;
}

static void record(struct queue *q, const char *name, const char *value)
{
	char *key = mem_printf(KEY_PREFIX "%s", name);
	spool_results_setting(queue_results(q), key, value);
	mem_free(&key);
	queue_kick(q);
}

static void schedule(struct queue *q)
{
	uint64_t first = UINT64_MAX, now = loop_wall_us(q->loop);
	struct alias *a, *next;
	HASH_ITER (hh, q->aliases, a, next) {
		if (a->until_wall_us < first)
			first = a->until_wall_us;
	}
	if (first == UINT64_MAX)
		timer_cancel(q->loop, &q->alias_timer);
	else
		timer_arm_in(q->loop, &q->alias_timer, first > now ? first - now : 0);
}

uint64_t alias_begin(struct queue *q, const char *name, const char *to, const char *who)
{
	uint64_t until = loop_wall_us(q->loop) + conf_process(q->conf)->stamp_lifetime_s * SECOND_US;
	char *value = mem_printf("%" PRIu64 " %s", until, to);
	struct alias *a = remember(q, name, to, until);
	a->who = mem_strdup(who);
	record(q, name, value);
	mem_free(&value);
	q->generation++;
	rekey_begin(q);
	schedule(q);
	return until;
}

void alias_end(struct queue *q, const char *name)
{
	struct alias *a = find(q, name);
	if (!a)
		return;
	record(q, name, NULL);
	forget(q, a);
	schedule(q);
}

/* What the configuration still has stays suspended, until it is resumed. */
void aliases_expire(void *ctx)
{
	struct queue *q = ctx;
	uint64_t now = loop_wall_us(q->loop);
	struct alias *a, *next;
	HASH_ITER (hh, q->aliases, a, next) {
		if (a->until_wall_us > now)
			continue;
		char *name = mem_strdup(a->name);
		log_notice(
		        "%s was drained so long ago that no stamp names it any more: it is forgotten", name);
		alias_end(q, name);
		if (!policy_target_known(q->conf, name))
			(void)suspend_end(q, name, NULL, NULL);
		mem_free(&name);
	}
	schedule(q);
}

/* The alias for a delivery's group, or for the binding it is at. */
static struct alias *of_delivery(const struct queue *q, const struct delivery *d)
{
	struct alias *a = NULL;
	if (!q->aliases)
		return NULL;
	if (d->group) {
		char *name = mem_printf("group:%s", intern_text(q->names, d->group));
		a = find(q, name);
		mem_free(&name);
	}
	return a ? a : find(q, binding_name(q, binding_at(q, d->binding)));
}

bool alias_means(const struct queue *q, const struct delivery *d)
{
	return of_delivery(q, d) != NULL;
}

void alias_apply(struct queue *q, struct delivery *d)
{
	struct alias *a = of_delivery(q, d);
	if (!a)
		return;
	move_record(q, d, alias_of(q, a->name));
	place_target(q, d, alias_of(q, a->name));
	a->moved++;
}

/* All that was there has been looked at. */
void aliases_swept(struct queue *q)
{
	struct alias *a, *next;
	HASH_ITER (hh, q->aliases, a, next) {
		struct selection of = {.binding = {.at = (const char **)&a->name, .n = 1}};
		if (!a->who)
			continue;
		event_rebind(q, a->to, &of, a->moved, a->who);
		mem_free(&a->who);
	}
}

bool alias_restore(struct queue *q, const char *key, const char *value)
{
	char *to;
	if (strncmp(key, KEY_PREFIX, strlen(KEY_PREFIX)) != 0)
		return false;
	uint64_t until = strtoull(value, &to, 10);
	if (*to == ' ' && to[1])
		(void)remember(q, key + strlen(KEY_PREFIX), to + 1, until);
	return true;
}

void aliases_start(struct queue *q)
{
	if (!q->aliases)
		return;
	rekey_begin(q); /* mail restored before the setting was read, or not yet moved when we stopped */
	schedule(q);
}

void aliases_free(struct queue *q)
{
	struct alias *a, *next;
	HASH_ITER (hh, q->aliases, a, next)
		forget(q, a);
	timer_cancel(q->loop, &q->alias_timer);
	pthread_mutex_destroy(&q->alias_lock);
}
