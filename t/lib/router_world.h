/*
 * router_world - a router over a scripted resolver, and the last answer it gave
 *
 * Purpose    What the router's tests start from: a fake clock, a seeded random source, a table for DNS.
 * Ownership  The world is the caller's; `route` is the world's reference, replaced by each answer.
 */
#ifndef T_ROUTER_WORLD_H
#define T_ROUTER_WORLD_H

#include "route/route.h"
#include "t/lib/fake_dns.h"
#include "t/lib/test.h"

struct world {
	struct fake_clock clock;
	struct fake_rnd rnd;
	struct loop *loop;
	struct fake_dns *dns;
	struct router *router;
	enum dane_use dane;
	/* the last answer */
	unsigned n_done;
	struct route *route;
	struct outcome why;
};

void world_setup(struct world *);
void world_teardown(struct world *); /* asserts that no look-up is left */
void world_on_route(void *ctx /* struct world */, struct route *takes, const struct outcome *why);
void world_run(struct world *); /* all that happens without time passing */
/* Asks and waits for the answer, which must not come from inside. Port 25; `dane` of the world. */
void world_ask(struct world *, enum next_hop_type, const char *name, bool use_ipv6);
void world_script(struct world *, const char *lines /* of fake_dns_script(), ";" between them */);
uint64_t world_lifetime_s(const struct world *); /* of the last route */

#endif
