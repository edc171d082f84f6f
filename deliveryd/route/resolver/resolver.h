/*
 * resolver - stub resolver on libevent sockets, ldns for the wire format
 *
 * Purpose    Several servers with port, UDP with random ids and source ports, EDNS0, TCP on truncation, retries,
 *            positive and negative cache by TTL, one query for equal concurrent look-ups, at most 10,000 in flight.
 * Follows    RFC 1035, 2181, 2308 (negative TTL), 5452 (accepting answers), 6891 (EDNS0), 7766 (TCP).
 * Threads    The queue's loop only.
 */
#ifndef ROUTE_RESOLVER_H
#define ROUTE_RESOLVER_H

#include "base/error.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "route/resolver/dns.h"

struct resolver_server {
	struct addr addr; /* with port */
	bool trust_ad;	  /* loopback or declared */
};
struct resolver;
struct resolver *resolver_new(struct loop *, struct rnd *, struct metrics *, const struct resolver_server *, unsigned n);
void resolver_set_servers(struct resolver *, const struct resolver_server *, unsigned n); /* reload */
struct dns *resolver_dns(struct resolver *);
/* Forgets all answers (bindpost dns refresh) */
void resolver_flush(struct resolver *);
void resolver_free(struct resolver **);
/* Servers of /etc/resolv.conf; returns the number (at least one: 127.0.0.1) */
unsigned resolver_system_servers(struct resolver_server *out, unsigned max);

#endif
