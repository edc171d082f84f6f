#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

/*
 * What moves most, for `bindpost top`: attempts by binding, and by binding and next hop, of the last seconds. There may be
 * a hundred thousand destinations: kept are those in which something happened last, in sets of WAYS, so that an attempt
 * costs the look at one set.
 */
#define SETS 64
#define WAYS 8
#define WINDOW_US (10 * SECOND_US)
#define REPLY_SIZE 160

struct active {
	uint32_t binding, hop; /* hop: interned, a reference; 0 = all of the binding's */
	uint64_t window;       /* which one `now` is */
	uint32_t now[N_TOTALS], before[N_TOTALS];
	uint64_t last_us; /* 0 = not in use */
	uint16_t code;
	char reply[REPLY_SIZE]; /* of the last attempt; cut */
};

struct activity {
	struct active bindings[SETS][WAYS], hops[SETS][WAYS];
};

struct activity *activity_new(void)
{
	return mem_zalloc(sizeof(struct activity));
}

void activity_free(struct queue *q)
{
	for (unsigned i = 0; q->activity && i < SETS * WAYS; i++)
		intern_drop(q->names, q->activity->hops[i / WAYS][i % WAYS].hop);
	mem_free(&q->activity);
}

static void roll(struct active *a, uint64_t window)
{
	if (a->window == window)
		return;
	if (a->window + 1 == window)
		memcpy(a->before, a->now, sizeof(a->before));
	else
		memset(a->before, 0, sizeof(a->before));
	memset(a->now, 0, sizeof(a->now));
	a->window = window;
}

static struct active *get(struct queue *q, struct active sets[SETS][WAYS], uint32_t binding, uint32_t hop)
{
	uint64_t h = (((uint64_t)binding << 32) | hop) * UINT64_C(0x9e3779b97f4a7c15);
	struct active *set = sets[h >> 58], *oldest = &set[0];
	_Static_assert(SETS == 64, "six bits of the hash");
	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].last_us && set[i].binding == binding && set[i].hop == hop)
			return &set[i];
		if (set[i].last_us < oldest->last_us)
			oldest = &set[i];
	}
	intern_drop(q->names, oldest->hop);
	intern_ref(q->names, hop);
	*oldest = (struct active){.binding = binding, .hop = hop};
	return oldest;
}

static void note(
        struct queue *q, struct active *a, enum total what, const struct outcome *o /* NULL = no attempt */)
{
	roll(a, queue_now(q) / WINDOW_US);
	a->now[what]++;
	a->last_us = queue_now(q) ? queue_now(q) : 1;
	if (!o)
		return;
	a->code = o->code;
	size_t len = strnlen(o->reply, REPLY_SIZE - 1);
	memcpy(a->reply, o->reply, len);
	a->reply[len] = 0;
}

void activity_note(struct queue *q, uint32_t binding, uint32_t hop, enum total what, const struct outcome *o)
{
	note(q, get(q, q->activity->bindings, binding, 0), what, o);
	if (hop)
		note(q, get(q, q->activity->hops, binding, hop), what, o);
}

/* --- shown -------------------------------------------------------------------------------------------------------- */

/* A second, times a million */
static uint64_t rate(const struct queue *q, const struct active *a, enum total what)
{
	uint64_t into = queue_now(q) - a->window * WINDOW_US;
	return ((uint64_t)a->now[what] + a->before[what]) * SECOND_US * SECOND_US / (WINDOW_US + into);
}

static uint64_t weight(const struct active *a)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < N_TOTALS; i++)
		sum += a->now[i] + a->before[i];
	return sum;
}

static int heavier(const void *pa, const void *pb)
{
	const struct active *a = *(struct active *const *)pa, *b = *(struct active *const *)pb;
	uint64_t wa = weight(a), wb = weight(b);
	if (wa != wb)
		return wa > wb ? -1 : 1;
	return a->last_us > b->last_us ? -1 : a->last_us < b->last_us;
}

static void print_rates(const struct queue *q, const struct active *a, struct json_out *out)
{
	static const char *const keys[N_TOTALS] = {[TOTAL_RECEIVED] = "received",
	        [TOTAL_DELIVERED] = "delivered",
	        [TOTAL_DEFERRALS] = "deferrals",
	        [TOTAL_BOUNCED] = "bounced",
	        [TOTAL_EXPIRED] = "expired",
	        [TOTAL_UNCERTAIN] = "uncertain"};
	jw_object(out, "per_second");
	for (unsigned i = 0; i < N_TOTALS; i++)
		if (keys[i])
			jw_seconds(out, keys[i], rate(q, a, i));
	jw_end_object(out);
}

static void print_counts(const struct counts *c, struct json_out *out)
{
	jw_uint(out, "active", c->active);
	jw_uint(out, "deferred", c->deferred);
	jw_uint(out, "held", c->held);
	jw_uint(out, "connections", c->connections);
}

static void print_active(struct queue *q, const struct active *a, struct json_out *out)
{
	const struct binding *b = binding_at(q, a->binding);
	const char *group = binding_group_name(b);
	struct counts counts = b->counts;
	jw_object(out, NULL);
	jw_str(out, "binding", binding_name(q, b));
	if (group)
		jw_str(out, "group", group);
	if (a->hop) {
		jw_str(out, "next_hop", intern_text(q->names, a->hop));
		counts = pairs_counts(q, a->binding, a->hop);
	}
	print_rates(q, a, out);
	print_counts(&counts, out);
	jw_time(out, "last_attempt", loop_wall_us(q->loop) - (queue_now(q) - a->last_us));
	if (a->reply[0]) {
		if (a->code)
			jw_uint(out, "code", a->code);
		jw_str(out, "reply", a->reply);
	}
	jw_end_object(out);
}

static bool wanted(const struct queue *q, const struct active *a, const struct queue_ask *ask)
{
	if (ask->binding[0] && strcmp(ask->binding, binding_name(q, binding_at(q, a->binding))) != 0)
		return false;
	return !ask->domain[0] || !a->hop || strcmp(ask->domain, intern_text(q->names, a->hop)) == 0;
}

static void print_list(struct queue *q, const char *key, struct active sets[SETS][WAYS],
        const struct queue_ask *ask, unsigned limit, struct json_out *out)
{
	struct active *in_use[SETS * WAYS];
	unsigned n = 0;
	for (unsigned i = 0; i < SETS * WAYS; i++) {
		struct active *a = &sets[i / WAYS][i % WAYS];
		if (!a->last_us || !wanted(q, a, ask))
			continue;
		roll(a, queue_now(q) / WINDOW_US);
		in_use[n++] = a;
	}
	qsort(in_use, n, sizeof(struct active *), heavier);
	jw_array(out, key);
	for (unsigned i = 0; i < n && i < limit; i++)
		print_active(q, in_use[i], out);
	jw_end_array(out);
}

void activity_print(struct queue *q, const struct queue_ask *ask, unsigned limit, struct json_out *out)
{
	jw_object(out, NULL);
	jw_time(out, "time", loop_wall_us(q->loop));
	print_list(q, "bindings", q->activity->bindings, ask, limit, out);
	print_list(q, "destinations", q->activity->hops, ask, limit, out);
	jw_end_object(out);
}
