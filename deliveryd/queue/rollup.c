#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

/*
 * Destinations whose mail goes to the same hosts share max_outbound_connections when they are asked to (rollup). Each
 * session counts at every best MX host of its destination, by name or by address, whichever of them it goes to: so
 * destinations that have one in common are bound together. The queues stay their own, and with them all that is said of
 * TLS.
 */

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

#define NAME_SIZE 264
#define LOOKED_AT_MAX 32

static bool name_of(enum rollup how, const struct route_addr *a, char name[NAME_SIZE])
{
	char ip[ADDR_TEXT_SIZE];
	const char *text = how == ROLLUP_MX              ? a->mx
	                   : a->addr.family == AF_UNSPEC ? NULL
	                                                 : addr_print(&a->addr, ip);
	if (!text || !*text)
		return false;
	snprintf(name, NAME_SIZE, ROLLUP_PREFIX "%s", text);
	return true;
}

/* The names of the best level, each once, in an order that all who share them agree on. */
static unsigned best_names(enum rollup how, const struct route *r, char names[LOOKED_AT_MAX][NAME_SIZE])
{
	unsigned n = 0, kept = 0;
	for (unsigned i = 0;
	        i < r->n && n < LOOKED_AT_MAX && r->addrs[i].preference == r->addrs[0].preference; i++)
		n += name_of(how, &r->addrs[i], names[n]);
	qsort(names, n, NAME_SIZE, by_text);
	for (unsigned i = 0; i < n && kept < ROLLUP_MAX; i++) {
		if (kept > 0 && strcmp(names[i], names[kept - 1]) == 0)
			continue;
		if (i != kept)
			memcpy(names[kept], names[i], NAME_SIZE);
		kept++;
	}
	return kept;
}

/* Of several who share it the largest value holds, as for a next hop. */
static struct host_limit *limit_get(struct hop_queue *hq, const char *name)
{
	struct queue *q = hq->q;
	uint32_t max = hq->profile->o.max_outbound_connections;
	struct host_limit *h = host_limit_find(q, hq->key.binding, name);
	if (h && h->generation == q->generation && h->limit.max > max)
		max = h->limit.max;
	h = host_limit_get(q, hq->key.binding, name, max);
	h->generation = q->generation;
	return h;
}

unsigned rollup_limits(struct hop_queue *hq, struct host_limit *out[ROLLUP_MAX])
{
	enum rollup how = hq->profile->o.rollup;
	char names[LOOKED_AT_MAX][NAME_SIZE];
	if (how == ROLLUP_NONE || hq->key.hop_type != NEXT_HOP_DOMAIN)
		return 0;
	unsigned n = best_names(how, hq->traffic->route, names);
	for (unsigned i = 0; i < n; i++)
		out[i] = limit_get(hq, names[i]);
	return n;
}
