/*
 * dns_lookup - one name and type, from the first server asked to the result
 *
 * Purpose    Servers in turn, each up to 2, 4, then 8 s, all in all 20 s; TCP after a cut answer; without
 * EDNS where it is not known; CNAMEs up to 8, over several queries if need be. Ownership  The handle is the
 * caller's until done() or dns_lookup_cancel(). Threads    The queue's loop only.
 */
#ifndef ROUTE_DNS_LOOKUP_H
#define ROUTE_DNS_LOOKUP_H

#include "base/metrics.h"
#include "route/resolver/dns_servers.h"
#include "route/resolver/dns_tcp.h"
#include "route/resolver/dns_udp.h"

#define DNS_LOOKUP_SECONDS 20

struct dns_lookup_env {
	struct loop *loop;
	struct rnd *rnd;
	struct dns_udp *udp;
	struct dns_tcp *tcp;
	metric *n_udp, *n_tcp, *n_silent, *n_foreign, *n_bad;
};
struct dns_lookup;
typedef void dns_lookup_done(void *ctx, struct dns_result *takes);
/* Borrows env. done() once, never from inside. The result's TTL is as received, `authentic` already judged.
 */
struct dns_lookup *dns_lookup_start(const struct dns_lookup_env *, struct dns_servers *shares,
        const struct dns_question *, dns_lookup_done *, void *ctx);
void dns_lookup_cancel(struct dns_lookup **);

#endif
