/* route - the counted result; see route.h */
#include "config.h"
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "route/route_build.h"

struct route_owner {
	struct route route; /* what others see */
	struct pool *pool;  /* owns everything, this struct too */
	unsigned size;
};

struct route *route_new(void)
{
	struct pool *pool = pool_new(1024);
	struct route_owner *o = pool_alloc(pool, sizeof(*o));

	o->pool = pool;
	atomic_init(&o->route.refs, 1);
	return &o->route;
}

/* Growing leaves the old array in the pool: at most twice the memory, gone with the route. */
static void grow(struct route_owner *o)
{
	unsigned size = o->size ? 2 * o->size : 8;
	struct route_addr *addrs = pool_alloc(o->pool, size * sizeof(*addrs));

	for (unsigned i = 0; i < o->route.n; i++)
		addrs[i] = o->route.addrs[i];
	o->route.addrs = addrs;
	o->size = size;
}

static struct route_addr *add(struct route_owner *o)
{
	if (o->route.n == o->size)
		grow(o);
	return &o->route.addrs[o->route.n++];
}

bool route_add(struct route *r, const struct route_new_addr *a)
{
	struct route_owner *o = container_of(r, struct route_owner, route);

	for (unsigned i = 0; i < r->n; i++)
		if (!r->addrs[i].unix_path && r->addrs[i].addr.port == a->addr.port &&
		        addr_equal_ip(&r->addrs[i].addr, &a->addr))
			return false;
	*add(o) = (struct route_addr){.addr = a->addr,
	        .preference = a->preference,
	        .mx = pool_strdup(o->pool, a->mx),
	        .method = a->method,
	        .secure = a->secure,
	        .mx_secure = a->mx_secure,
	        .tlsa = tlsa_ref(a->tlsa)};
	return true;
}

bool route_add_unix(struct route *r, const char *path, uint16_t preference, enum route_method method)
{
	struct route_owner *o = container_of(r, struct route_owner, route);
	const char *copy = pool_strdup(o->pool, path);

	for (unsigned i = 0; i < r->n; i++)
		if (r->addrs[i].unix_path && strcmp(r->addrs[i].unix_path, path) == 0)
			return false;
	*add(o) = (struct route_addr){.addr = {.family = AF_UNSPEC},
	        .preference = preference,
	        .mx = copy,
	        .unix_path = copy,
	        .method = method};
	return true;
}

static void swap(struct route_addr *a, struct route_addr *b)
{
	struct route_addr t = *a;
	*a = *b;
	*b = t;
}

void route_shuffle(struct route *r, struct rnd *rnd)
{
	for (unsigned from = 0, to; from < r->n; from = to) {
		for (to = from + 1; to < r->n && r->addrs[to].preference == r->addrs[from].preference; to++)
			;
		for (unsigned i = to - 1; i > from; i--)
			swap(&r->addrs[i], &r->addrs[from + rnd_below(rnd, i - from + 1)]);
	}
}

struct route *route_ref(struct route *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

void route_unref(struct route **p)
{
	struct route *r = *p;

	*p = NULL;
	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < r->n; i++)
		tlsa_unref(&r->addrs[i].tlsa);
	struct pool *pool = container_of(r, struct route_owner, route)->pool;
	pool_free(&pool);
}
