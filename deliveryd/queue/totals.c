#include "queue/queue_in.h"

#include <string.h>

struct binding_metrics {
	metric *totals[N_TOTALS]; /* some are NULL */
	metric *active, *deferred, *held, *connections, *bytes;
};

static const struct {
	const char *name, *help;
} families[N_TOTALS] = {
        [TOTAL_RECEIVED] = {"bindpost_binding_received_total", "Recipients taken over for a binding."},
        [TOTAL_DELIVERED] = {"bindpost_binding_delivered_total", "Recipients delivered from a binding."},
        [TOTAL_DEFERRALS] = {"bindpost_binding_deferred_total",
                "Attempts of a binding that ended in a deferral."},
        [TOTAL_BOUNCED] = {"bindpost_binding_bounced_total", "Recipients of a binding refused for good."},
        [TOTAL_EXPIRED] = {"bindpost_binding_expired_total", "Recipients of a binding given up on."},
};

/* The second in which we are; the slots of those since the last call are empty. */
static uint32_t *slot_of_now(struct queue *q)
{
	struct recent *r = &q->recent;
	uint64_t now = queue_now(q) / SECOND_US;
	uint64_t passed = now - r->second;
	for (uint64_t i = 0; i < passed && i < RECENT_SECONDS; i++)
		memset(r->n[(now - i) % RECENT_SECONDS], 0, sizeof(r->n[0]));
	r->second = now;
	return r->n[now % RECENT_SECONDS];
}

void totals_add(struct queue *q, struct binding *b, enum total what)
{
	q->totals.n[what]++;
	b->totals.n[what]++;
	slot_of_now(q)[what]++;
	if (b->metrics && b->metrics->totals[what])
		metric_add(b->metrics->totals[what], 1);
}

void totals_recent(struct queue *q, struct totals *sum)
{
	*sum = (struct totals){0};
	slot_of_now(q);
	for (unsigned s = 0; s < RECENT_SECONDS; s++) {
		for (unsigned i = 0; i < N_TOTALS; i++)
			sum->n[i] += q->recent.n[s][i];
	}
}

/* Label values are names of the configuration, so their number is bounded. */
static void binding_metrics_add(struct binding *b)
{
	struct queue *q = b->q;
	struct str label;
	if (b->metrics)
		return;
	struct binding_metrics *m = b->metrics = mem_zalloc(sizeof(*m));
	str_init(&label);
	metrics_label(&label, "binding", binding_name(q, b));
	for (unsigned i = 0; i < N_TOTALS; i++) {
		if (families[i].name)
			m->totals[i] =
			        metrics_counter(q->metrics, families[i].name, label.data, families[i].help);
	}
	m->active = metrics_gauge(q->metrics, "bindpost_binding_active", label.data,
	        "Deliveries of a binding being sent or about to be.");
	m->deferred = metrics_gauge(q->metrics, "bindpost_binding_deferred", label.data,
	        "Deliveries of a binding that wait for a retry.");
	m->held = metrics_gauge(
	        q->metrics, "bindpost_binding_held", label.data, "Deliveries of a binding that are held.");
	m->bytes = metrics_gauge(
	        q->metrics, "bindpost_binding_queued_bytes", label.data, "Size of what is queued for a binding.");
	m->connections = metrics_gauge(
	        q->metrics, "bindpost_binding_connections", label.data, "Connections from a binding.");
	str_free(&label);
	for (unsigned i = 0; i < N_TOTALS; i++) {
		if (m->totals[i]) /* it may have been in use before its metrics are */
			metric_add(m->totals[i], b->totals.n[i]);
	}
	binding_metrics_set(b);
}

bool binding_metrics_some(struct queue *q, struct slice *slice)
{
	while (q->measure_next < q->bindings.n) {
		struct binding *b = binding_at(q, q->measure_next++);
		if (!b->conf || b->metrics)
			continue;
		binding_metrics_add(b);
		if (slice && slice_over(slice))
			return false;
	}
	return true;
}

void binding_metrics_set(const struct binding *b)
{
	if (!b->metrics)
		return;
	metric_set(b->metrics->active, b->counts.active);
	metric_set(b->metrics->deferred, b->counts.deferred);
	metric_set(b->metrics->held, b->counts.held);
	metric_set(b->metrics->bytes, b->queued_bytes);
	metric_set(b->metrics->connections, b->counts.connections);
}
