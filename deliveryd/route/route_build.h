/*
 * route_build - makes a struct route; afterwards it is immutable
 *
 * Threads    The queue's loop, until the route is handed out.
 */
#ifndef ROUTE_ROUTE_BUILD_H
#define ROUTE_ROUTE_BUILD_H

#include "base/clock.h"
#include "route/route.h"

struct route *route_new(void); /* one reference, no addresses */
/* To be called in the order of preference. An address already there stays as it is (its preference is no
 * worse): false. mx is copied. */
struct route_new_addr {
	struct addr addr;
	uint16_t preference;
	const char *mx;
	bool secure, mx_secure;
	struct tlsa *tlsa; /* shared */
	enum route_method method;
};
bool route_add(struct route *, const struct route_new_addr *);
bool route_add_unix(struct route *, const char *path, uint16_t preference, enum route_method);
/* Random order within each preference */
void route_shuffle(struct route *, struct rnd *);

#endif
