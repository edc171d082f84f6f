#include "queue/queue_in.h"

#include <string.h>

/*
 * A new snapshot is in force at once: sessions are opened, jobs handed out and retries computed by it. Deliveries are
 * moved to the queues they now belong to in slices, at the latest when they are handed out (place_first()).
 */

void rekey_begin(struct queue *q)
{
	if (!q->rekeying)
		q->rekey_next = 1;
	q->rekeying = true;
	q->rekey_left = delivery_top(q->slab); /* one that is under way goes round once more, and is not thrown back */
	q->measure_next = 0;
	queue_kick(q);
}

void rekey_some(struct queue *q, struct slice *slice)
{
	for (; q->rekey_left > 0; q->rekey_left--) {
		if (q->aliases && !queue_may_record(q))
			return; /* many moves: a commit brings us back */
		if (q->rekey_next >= delivery_top(q->slab)) {
			q->rekey_next = 1;
			continue;
		}
		uint32_t no = q->rekey_next++;
		const struct delivery *d = delivery_at(q->slab, no);
		if (d->state == DELIVERY_READY || d->state == DELIVERY_DEFERRED || d->state == DELIVERY_HELD)
			place_again(q, no);
		if (slice_over(slice)) {
			q->rekey_left--;
			queue_kick(q);
			return;
		}
	}
	if (q->aliases)
		aliases_swept(q);
	if (!binding_metrics_some(q, slice)) {
		queue_kick(q);
		return;
	}
	q->rekeying = false;
	conns_leave_outdated(q);
}

/* --- what a snapshot drops ---------------------------------------------------------------------------------------- */

#define NAMED_MAX 20

static bool still_known(const struct queue *q, const struct binding *b, const struct conf *next)
{
	const char *name = binding_name(q, b);
	if (b->kind == BINDING_GROUP)
		return conf_group_named(next, name + strlen("group:")) != NULL;
	/* what no snapshot has was dropped before */
	return b->kind != BINDING_NAMED || !b->conf || conf_binding_named(next, name);
}

bool queue_may_drop(struct queue *q, const struct policy *next, struct errors *errors)
{
	const struct conf *conf = next ? policy_conf(next) : q->conf;
	unsigned found = 0;
	for (uint32_t i = 0; i < q->bindings.n; i++) {
		const struct binding *b = binding_at(q, i);
		const char *name = binding_name(q, b);
		uint64_t n = (uint64_t)b->counts.active + b->counts.deferred + b->counts.held;
		if (n == 0 || still_known(q, b, conf) || found++ >= NAMED_MAX)
			continue;
		errors_add(errors, ERROR_ERROR,
		        "binding %s has %llu deliver%s queued: move them with \"bindpost drain %s --to "
		        "OTHER\", or "
		        "reload with --force (removed_bindings says what becomes of them)",
		        name, (unsigned long long)n, n == 1 ? "y" : "ies", name);
	}
	if (found > NAMED_MAX)
		errors_add(errors, ERROR_ERROR, "and %u more bindings that have mail", found - NAMED_MAX);
	return found == 0;
}
