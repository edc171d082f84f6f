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
#include "base/json_write.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "route/resolver/dns.h"

struct resolver_server {
	struct addr addr; /* with port */
	bool trust_ad;    /* loopback or declared */
};
struct resolver_limits {
	uint32_t min_ttl_s, max_ttl_s; /* of what routes are made of: MX, A, AAAA */
	bool mx_limited;               /* dns_rate_limit_enabled */
	uint32_t mx_queries, mx_max_queue;
	uint64_t mx_period_us;
};
struct resolver;
struct resolver *resolver_new(
        struct loop *, struct rnd *, struct metrics *, const struct resolver_server *, unsigned n);
void resolver_set_servers(struct resolver *, const struct resolver_server *, unsigned n); /* reload */
struct dns *resolver_dns(struct resolver *);
void resolver_set_limits(struct resolver *, const struct resolver_limits *);
/*
 * Asks each server that is trusted for AD for ". NS", now, after each change of the servers, and every ten minutes while
 * it failed. A failure is told and counted, and changes nothing: each answer's own AD bit decides.
 */
void resolver_probe(struct resolver *);
/* Forgets all answers */
void resolver_flush(struct resolver *);
/* Forgets what it knows of a name and of the MX hosts it had; how many answers that were (bindpost dns refresh) */
unsigned resolver_forget(struct resolver *, const char *name);
/* Servers with their health, cache, what is under way (bindpost dns stats): members of an open object */
void resolver_print_stats(struct resolver *, struct json_out *);
void resolver_free(struct resolver **);
/* Servers of /etc/resolv.conf; returns the number (at least one: 127.0.0.1) */
unsigned resolver_system_servers(struct resolver_server *out, unsigned max);

#endif
