#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

/*
 * Limits by name: of an MX host (hosts stanza), for a binding or for all that the stanza covers; of a place
 * (scope_max_outbound_connections); of all that share an MX host (rollup). They are there while somebody holds or awaits
 * them.
 */

static struct host_limit **host_bucket(const struct queue *q, uint32_t binding, uint32_t mx)
{
	uint64_t h = (((uint64_t)binding << 32) | mx) * UINT64_C(0x9e3779b97f4a7c15);
	return &q->host_buckets[(h >> 40) % HOST_BUCKETS];
}

static struct host_limit *find(const struct queue *q, uint32_t binding, uint32_t name)
{
	struct host_limit *h = *host_bucket(q, binding, name);
	while (h && (h->binding != binding || h->mx != name))
		h = h->hash_next;
	return h;
}

struct host_limit *host_limit_find(const struct queue *q, uint32_t binding, const char *mx)
{
	uint32_t name = intern_find(q->names, mx);
	return name ? find(q, binding, name) : NULL;
}

struct host_limit *host_limit_get(struct queue *q, uint32_t binding, const char *mx, uint32_t max)
{
	uint32_t name = intern_get(q->names, mx);
	struct host_limit **bucket = host_bucket(q, binding, name);
	struct host_limit *h = find(q, binding, name);
	if (h) {
		intern_drop(q->names, name);
		if (h->limit.max != max) {
			h->limit.max = max;
			limit_freed(q, &h->limit);
		}
		return h;
	}
	h = mem_zalloc(sizeof(*h));
	h->binding = binding;
	h->mx = name;
	limit_init(&h->limit, max);
	h->hash_next = *bucket;
	*bucket = h;
	return h;
}

void host_limit_put(struct queue *q, struct host_limit *h)
{
	if (!limit_idle(&h->limit))
		return;
	struct host_limit **at = host_bucket(q, h->binding, h->mx);
	while (*at != h)
		at = &(*at)->hash_next;
	*at = h->hash_next;
	link_remove(&h->limit.wake_link);
	intern_drop(q->names, h->mx);
	free(h);
}

/* --- the hosts stanza ------------------------------------------------------------------------------------------------ */

/* The place's path names what is counted in common: of a pattern, all hosts it matches. */
static struct host_limit *combined_limit(struct queue *q, const struct host_limits *limits)
{
	struct str path;
	str_init(&path);
	conf_scope_path(limits->scope_from, &path);
	struct host_limit *h =
	        host_limit_get(q, NO_BINDING, path.data, limits->scope_max_outbound_connections);
	str_free(&path);
	return h;
}

static struct throttle *host_throttle(
        struct queue *q, enum throttle_kind kind, const struct conf_throttle *of)
{
	struct str path;
	if (of->rate.count == 0)
		return NULL;
	str_init(&path);
	conf_scope_path(of->from, &path);
	struct throttle *t = throttle_get(q->throttles, kind, path.data, of->rate);
	str_free(&path);
	return t;
}

void host_marks(struct queue *q, const struct binding *b, const char *mx, struct host_marks *out)
{
	struct host_limits limits;
	*out = (struct host_marks){0};
	if (!mx || !*mx || !b->conf)
		return;
	conf_resolve_host(b->snapshot, b->conf, mx, &limits);
	if (limits.max_outbound_connections)
		out->limits[0] = host_limit_get(q, b->number, mx, limits.max_outbound_connections);
	if (limits.scope_max_outbound_connections)
		out->limits[1] = combined_limit(q, &limits);
	out->throttles[THROTTLE_MESSAGES] = host_throttle(q, THROTTLE_MESSAGES, &limits.throttles.messages);
	out->throttles[THROTTLE_CONNECTIONS] =
	        host_throttle(q, THROTTLE_CONNECTIONS, &limits.throttles.connections);
}

static bool holds(const struct conn *c, const struct host_limit *h)
{
	for (unsigned i = 0; i < c->n_named_limits; i++) {
		if (c->named_limits[i] == h)
			return true;
	}
	return false;
}

/* Of the hosts stanza: a binding's for the very host, or that of a place in it */
static bool is_of_host(const struct conn *c, const struct host_limit *h)
{
	const char *name = intern_text(c->q->names, h->mx);
	return h->binding == NO_BINDING || (h->binding == c->hq->key.binding && strcmp(name, c->mx) == 0);
}

bool host_limits_renew(struct conn *c)
{
	struct queue *q = c->q;
	struct host_marks marks;
	bool counted = true;
	host_marks(q, binding_at(q, c->hq->key.binding), c->mx, &marks);
	for (unsigned i = 0; i < 2; i++) {
		if (!marks.limits[i] || holds(c, marks.limits[i]))
			continue;
		counted = false;
		host_limit_put(q, marks.limits[i]); /* it may have been made for the question */
	}
	for (unsigned i = 0; i < c->n_named_limits; i++) {
		struct host_limit *h = c->named_limits[i];
		if (h == marks.limits[0] || h == marks.limits[1] || !is_of_host(c, h))
			continue;
		h->limit.max = LIMIT_NONE; /* the stanza is gone */
		limit_freed(q, &h->limit);
	}
	return counted;
}
