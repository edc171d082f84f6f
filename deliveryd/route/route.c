/* route - the counted result; see route.h */
#include "config.h"
#include <assert.h>

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

bool route_add(struct route *r, const struct addr *addr, uint16_t preference, const char *mx, bool secure)
{
	struct route_owner *o = container_of(r, struct route_owner, route);

	for (unsigned i = 0; i < r->n; i++)
		if (r->addrs[i].addr.port == addr->port && addr_equal_ip(&r->addrs[i].addr, addr))
			return false;
	if (r->n == o->size)
		grow(o);
	r->addrs[r->n++] = (struct route_addr){
	        .addr = *addr, .preference = preference, .mx = pool_strdup(o->pool, mx), .secure = secure};
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
	struct pool *pool = container_of(r, struct route_owner, route)->pool;
	pool_free(&pool);
}
