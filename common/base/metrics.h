/*
 * metrics - counters and gauges by name, written by their owners, read by the control role
 *
 * Purpose    A module registers its numbers at start; each is an atomic that its owner bumps (relaxed). Label
 * sets are bounded: values come from configuration or fixed lists, never from the network. Threads
 * metrics_counter()/metrics_gauge() at start or from any thread (locked, returns the same pointer for the
 * same name and labels); reading the values needs no lock; metrics_print() any thread.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/str.h"

struct metrics;
typedef _Atomic uint64_t metric;

struct metrics *metrics_new(void);
void metrics_free(struct metrics **);
/* name: "bindpost_deliveries_total"; labels NULL or `binding="acme"` (values already escaped by
 * metrics_label()) */
metric *metrics_counter(struct metrics *, const char *name, const char *labels, const char *help);
metric *metrics_gauge(struct metrics *, const char *name, const char *labels, const char *help);
void metrics_label(
        struct str *out, const char *key, const char *value); /* appends key="escaped" with comma if needed */
void metrics_print(struct metrics *, struct str *out);        /* Prometheus text format */
static inline void metric_add(metric *m, uint64_t n)
{
	atomic_fetch_add_explicit(m, n, memory_order_relaxed);
}
static inline void metric_sub(metric *m, uint64_t n)
{
	atomic_fetch_sub_explicit(m, n, memory_order_relaxed);
}
static inline void metric_set(metric *m, uint64_t n)
{
	atomic_store_explicit(m, n, memory_order_relaxed);
}
static inline uint64_t metric_get(metric *m)
{
	return atomic_load_explicit(m, memory_order_relaxed);
}

#endif
