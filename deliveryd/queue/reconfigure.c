#include "queue/queue_in.h"

#include <string.h>

/*
 * A new snapshot is in force at once: sessions are opened, jobs handed out and retries computed by it. Deliveries are
 * moved to the queues they now belong to in slices, at the latest when they are handed out (place_first()).
 */

void rekey_begin(struct queue *q)
{
	q->rekeying = true;
	q->rekey_next = 1;
	queue_kick(q);
}

void rekey_some(struct queue *q, struct slice *slice)
{
	while (q->rekey_next < delivery_top(q->slab)) {
		uint32_t no = q->rekey_next++;
		const struct delivery *d = delivery_at(q->slab, no);
		if (d->state == DELIVERY_READY || d->state == DELIVERY_DEFERRED || d->state == DELIVERY_HELD)
			place_again(q, no);
		if (slice_over(slice)) {
			queue_kick(q);
			return;
		}
	}
	q->rekeying = false;
}

bool queue_may_drop(struct queue *q, const struct policy *next, struct error *err)
{
	struct conf *conf = policy_conf(next);
	for (uint32_t i = 0; i < q->bindings.n; i++) {
		const struct binding *b = binding_at(q, i);
		const char *name = binding_name(q, b);
		uint64_t n = (uint64_t)b->counts.active + b->counts.deferred + b->counts.held;
		if (b->kind == BINDING_NAMED && b->conf && n > 0 && !conf_binding_named(conf, name))
			return error_set(err,
			        "binding %s has %llu deliveries queued: move them with \"bindpost drain %s "
			        "--to OTHER\", or reload with --force",
			        name, (unsigned long long)n, name);
	}
	return true;
}
