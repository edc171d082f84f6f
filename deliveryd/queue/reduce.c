#include "queue/queue_in.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/*
 * Connections of a binding to a next hop that a response rule reduced, for a while. The limit of the pair (binding x next
 * hop) is lowered at once; sessions beyond it end with their transaction. Each is a setting of the spool,
 * "reduce:BINDING/NEXT HOP" = "UNTIL MAX DOMAIN" and its cause (wall clock, microseconds).
 */
#define KEY_PREFIX "reduce:"
#define REDUCTIONS_MAX 10000u /* with more, yet others are not reduced */

struct reduction {
	char *key;    /* owns: BINDING/NEXT HOP */
	char *domain; /* owns: whose mail met the reply */
	uint32_t max;
	uint64_t until_wall_us;
	struct cause *why; /* owns */
	UT_hash_handle hh;
};

static char *key_of(const struct queue *q, uint32_t binding, uint32_t hop)
{
	return mem_printf("%s/%s", binding_name(q, binding_at(q, binding)), intern_text(q->names, hop));
}

static struct reduction *find(const struct queue *q, const char *key)
{
	struct reduction *r;
	HASH_FIND_STR(q->reductions, key, r);
	return r;
}

uint32_t reduced_max(const struct queue *q, uint32_t binding, uint32_t hop)
{
	if (!q->reductions)
		return LIMIT_NONE;
	char *key = key_of(q, binding, hop);
	const struct reduction *r = find(q, key);
	mem_free(&key);
	return r ? r->max : LIMIT_NONE;
}

static void forget(struct queue *q, struct reduction *r)
{
	HASH_DEL(q->reductions, r);
	free(r->key);
	free(r->domain);
	cause_free(&r->why);
	free(r);
}

static struct reduction *remember(struct queue *q, const char *key, uint32_t max, const char *domain,
        uint64_t until, const struct cause *why)
{
	struct reduction *r = find(q, key);
	if (r)
		forget(q, r);
	r = mem_zalloc(sizeof(*r));
	r->key = mem_strdup(key);
	r->domain = mem_strdup(domain);
	r->max = max;
	r->until_wall_us = until;
	r->why = cause_copy(why);
	HASH_ADD_KEYPTR(hh, q->reductions, r->key, strlen(r->key), r);
	return r;
}

static void record(struct queue *q, const struct reduction *r, bool over)
{
	struct str value;
	str_init(&value);
	str_printf(&value, "%" PRIu64 " %" PRIu32 " %s", r->until_wall_us, r->max, r->domain);
	cause_print(r->why, &value);
	char *name = mem_printf(KEY_PREFIX "%s", r->key);
	spool_results_setting(queue_results(q), name, over ? NULL : value.data);
	mem_free(&name);
	str_free(&value);
	queue_kick(q);
}

static void schedule(struct queue *q)
{
	uint64_t first = UINT64_MAX, now = loop_wall_us(q->loop);
	struct reduction *r, *next;
	HASH_ITER (hh, q->reductions, r, next) {
		if (r->until_wall_us < first)
			first = r->until_wall_us;
	}
	if (first == UINT64_MAX)
		timer_cancel(q->loop, &q->reduction_timer);
	else
		timer_arm_in(q->loop, &q->reduction_timer, first > now ? first - now : 0);
}

/* BINDING of the key; the rest is the next hop. */
static char *binding_of(const struct reduction *r, const char **hop)
{
	const char *slash = strchr(r->key, '/');
	*hop = slash + 1;
	return mem_strndup(r->key, (size_t)(slash - r->key));
}

static void take_effect(struct queue *q, const struct reduction *r)
{
	const char *hop;
	char *name = binding_of(r, &hop);
	const struct binding *b = binding_find(q, name);
	uint32_t id = intern_find(q->names, hop);
	if (b && id)
		pairs_bound(q, b->number, id);
	mem_free(&name);
}

static void post_event(
        struct queue *q, enum event_type type, const struct reduction *r, const char *who, const char *reason)
{
	struct event e = {.type = type, .domain = r->domain, .who = who, .reason = reason};
	char *name = binding_of(r, &e.next_hop);
	e.binding = name;
	e.rule = r->why->rule;
	e.detail = r->why->then;
	if (type == EVENT_THROTTLE) {
		e.reply = r->why->reply;
		e.until_wall_us = r->until_wall_us;
	}
	event_post(q->events, &e);
	mem_free(&name);
}

void reduce_begin(struct queue *q, const struct hop_queue *hq, const char *domain, uint32_t max,
        uint64_t for_us, const struct cause *why)
{
	char *key = key_of(q, hq->key.binding, hq->key.hop);
	const struct reduction *r = find(q, key);
	if (r ? r->max > max
	      : HASH_COUNT(q->reductions) <
	                        REDUCTIONS_MAX) { /* one that is in force is neither longer nor shorter for another reply */
		r = remember(q, key, max, domain, loop_wall_us(q->loop) + for_us, why);
		record(q, r, false);
		post_event(q, EVENT_THROTTLE, r, NULL, "response rule");
		take_effect(q, r);
		schedule(q);
	}
	mem_free(&key);
}

static void end(struct queue *q, struct reduction *r, const char *who, const char *reason)
{
	post_event(q, EVENT_RESUME, r, who, reason);
	record(q, r, true);
	r->max = LIMIT_NONE;
	take_effect(q, r);
	forget(q, r);
}

void reductions_expire(void *ctx)
{
	struct queue *q = ctx;
	uint64_t now = loop_wall_us(q->loop);
	struct reduction *r, *next;
	HASH_ITER (hh, q->reductions, r, next) {
		if (r->until_wall_us <= now)
			end(q, r, NULL, "its time is over");
	}
	schedule(q);
}

/* Of a binding, or of a group's members; domain NULL = all */
static bool is_of(const struct queue *q, const struct reduction *r, const char *target, const char *domain)
{
	const char *hop;
	char *name = binding_of(r, &hop);
	bool is = strcmp(name, target) == 0;
	if (strncmp(target, "group:", 6) == 0) {
		const struct binding *b = binding_find(q, name);
		const char *group = b ? binding_group_name(b) : NULL;
		is = group && strcmp(group, target + 6) == 0;
	}
	mem_free(&name);
	return is && (!domain || strcmp(domain, r->domain) == 0);
}

bool reductions_end(struct queue *q, const char *target, const char *domain, const char *who)
{
	struct reduction *r, *next;
	bool any = false;
	HASH_ITER (hh, q->reductions, r, next) {
		if (!is_of(q, r, target, domain))
			continue;
		end(q, r, who, "by command");
		any = true;
	}
	schedule(q);
	return any;
}

bool reductions_each(const struct queue *q, reduction_row *row, void *ctx)
{
	struct reduction *r, *next;
	HASH_ITER (hh, q->reductions, r, next) {
		const char *hop;
		char *name = binding_of(r, &hop);
		bool go_on = row(ctx, name, r->domain, hop, r->why, r->until_wall_us);
		mem_free(&name);
		if (!go_on)
			return false;
	}
	return true;
}

bool reduction_restore(struct queue *q, const char *key, const char *value)
{
	char domain[256];
	uint64_t until;
	uint32_t max;
	int n = 0;
	if (strncmp(key, KEY_PREFIX, strlen(KEY_PREFIX)) != 0)
		return false;
	key += strlen(KEY_PREFIX);
	bool whole = strchr(key, '/') &&
	             sscanf(value, "%" SCNu64 " %" SCNu32 " %255[^\t]%n", &until, &max, domain, &n) == 3;
	struct cause *why = whole ? cause_parse(value + n) : NULL;
	if (why)
		remember(q, key, max, domain, until, why);
	cause_free(&why);
	return true;
}

void reductions_start(struct queue *q)
{
	if (q->reductions)
		schedule(q);
}

void reductions_free(struct queue *q)
{
	struct reduction *r, *next;
	HASH_ITER (hh, q->reductions, r, next)
		forget(q, r);
	timer_cancel(q->loop, &q->reduction_timer);
}
