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
bool route_add(struct route *, const struct addr *, uint16_t preference, const char *mx, bool secure);
/* Random order within each preference */
void route_shuffle(struct route *, struct rnd *);

#endif
