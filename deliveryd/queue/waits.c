#include "queue/queue_in.h"

#include <string.h>
#include <time.h>

/*
 * next_attempt_us() looks at no more than so many of the queue's deferred deliveries, those deferred longest ago: with
 * more it may be later than the very first, by less than one retry interval.
 */
#define DEFERRED_LOOKED_AT 16

static void print_limit(const struct hop_queue *hq, const struct limit *l, struct str *why)
{
	const struct queue *q = hq->q;
	const struct traffic *t = hq->traffic;
	if (l->is_throttle) {
		throttle_print(throttle_of_limit((struct limit *)l), why);
	} else if (l == &t->pair->limit && reduced_max(q, hq->key.binding, hq->key.hop) != LIMIT_NONE) {
		str_add(why, "connections reduced by a response rule");
	} else if (l == &t->own || l == &t->pair->limit) {
		str_add(why, "max_outbound_connections");
	} else if (l == &binding_at(q, hq->key.binding)->total) {
		str_add(why, "server_max_outbound_connections of the binding");
	} else if (l == &q->server || l == &q->reserve) {
		str_add(why, "server_max_outbound_connections");
	} else {
		const struct host_limit *h = container_of(l, struct host_limit, limit);
		const char *scope = h->binding == SCOPE_BINDING || h->binding == NO_BINDING ? "scope_" : "";
		const char *name = intern_text(q->names, h->mx);
		if (strncmp(name, ROLLUP_PREFIX, strlen(ROLLUP_PREFIX)) == 0)
			str_printf(why, "max_outbound_connections of all that share %s (rollup)",
			        name + strlen(ROLLUP_PREFIX));
		else
			str_printf(why, "%smax_outbound_connections of %s", scope, name);
	}
}

static bool waits_for_limit(const struct hop_queue *hq, struct str *why)
{
	for (unsigned i = 0; i < WAITERS; i++) {
		if (hq->traffic->waiters[i].at) {
			str_add(why, "waiting for ");
			print_limit(hq, hq->traffic->waiters[i].at, why);
			return true;
		}
	}
	return false;
}

/* " until 06:00" of its first mail's domain: those that share a queue need not share the hour */
static void print_until(const struct hop_queue *hq, struct str *why)
{
	struct queue *q = hq->q;
	uint32_t no = hop_queue_first(hq);
	const struct delivery *d = no ? delivery_at(q->slab, no) : NULL;
	int64_t until = d ? dest_get(q, binding_at(q, d->binding), d->domain)->curfew_until_s : 0;
	time_t at = (time_t)until;
	struct tm tm;
	char text[40];
	if (until && gmtime_r(&at, &tm) && strftime(text, sizeof(text), " until %Y-%m-%dT%H:%M:%SZ", &tm))
		str_add(why, text);
}

bool waits_for(const struct hop_queue *hq, struct str *why)
{
	const struct traffic *t = hq->traffic;
	if (hq->hold != HOLD_NONE) {
		str_add(why, hold_name(hq->hold));
		if (hq->hold == HOLD_CURFEW)
			print_until(hq, why);
		return true;
	}
	if (!t) {
		if (dead_is(hq))
			str_add(why, "a dead destination: mail waits for its next attempt");
		return dead_is(hq);
	}
	if (t->backoff_until_us > queue_now(hq->q)) {
		str_add(why, dead_is(hq) ? "back-off of a dead destination" : "back-off");
		if (t->failure) {
			str_add(why, ": ");
			outcome_print(&t->failure->outcome, why);
		}
		return true;
	}
	if (t->proxy) {
		str_printf(why, "source_down: %s", proxy_why(t->proxy));
		return true;
	}
	if (waits_for_limit(hq, why))
		return true;
	if (t->query) {
		str_add(why, "waiting for DNS");
		return true;
	}
	return false;
}

static struct throttle *full_throttle(
        struct queue *q, enum throttle_kind kind, const struct conf_throttle *of)
{
	struct str place;
	if (of->rate.count == 0)
		return NULL;
	str_init(&place);
	conf_scope_path(of->from, &place);
	struct throttle *t = throttle_find(q->throttles, kind, place.data);
	str_free(&place);
	return t && throttle_until_us(t) > queue_now(q) ? t : NULL;
}

/* What all mail of a binding waits for that has no throttle of its own. */
bool binding_waits_for(struct binding *b, struct str *why, uint64_t *until_us)
{
	struct conf_throttles of;
	struct queue *q = b->q;
	*until_us = 0;
	if (!b->conf || b->kind != BINDING_NAMED)
		return false;
	conf_resolve_throttles(b->snapshot, b->conf, NULL, &of);
	struct throttle *t = full_throttle(q, THROTTLE_MESSAGES, &of.messages);
	if (!t)
		t = full_throttle(q, THROTTLE_CONNECTIONS, &of.connections);
	if (t) {
		throttle_print(t, why);
		*until_us = throttle_until_us(t);
		return true;
	}
	if (b->total.n_waiting == 0)
		return false;
	str_add(why, "server_max_outbound_connections of the binding");
	return true;
}

uint64_t waits_until_us(const struct hop_queue *hq)
{
	const struct traffic *t = hq->traffic;
	uint64_t until = 0;
	if (!t || hq->hold != HOLD_NONE)
		return 0;
	if (t->backoff_until_us > queue_now(hq->q))
		return t->backoff_until_us;
	for (unsigned i = 0; i < WAITERS; i++) {
		struct limit *l = t->waiters[i].at;
		uint64_t at = l && l->is_throttle ? throttle_until_us(throttle_of_limit(l)) : 0;
		if (at && (!until || at < until))
			until = at;
	}
	return until;
}

uint64_t next_attempt_us(const struct hop_queue *hq)
{
	const struct queue *q = hq->q;
	uint64_t soonest = 0;
	uint32_t no = hq->deferred.head;
	for (unsigned i = 0; no && i < DEFERRED_LOOKED_AT; i++) {
		const struct delivery *d = delivery_at(q->slab, no);
		if (!soonest || d->due_us < soonest)
			soonest = d->due_us;
		no = d->next;
	}
	return soonest;
}
