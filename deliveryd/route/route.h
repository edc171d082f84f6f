/*
 * route - from a next hop to the addresses to try, in order
 *
 * Purpose    A next hop is a recipient domain (MX), or a gateway the operator named (MX, then A), or an address
 *            literal, or a list of such (routes). The result is an immutable counted list of hosts by preference with their addresses; choosing
 *            among equals, health and limits belong to the queue.
 * Follows    RFC 5321 5.1, 7505 (null MX), 3596.
 * Threads    The queue's loop only; a struct route may be read anywhere.
 * Errors     What DNS says is enum route_outcome: only ROUTE_PERMANENT may bounce, and only for a recipient's domain;
 *            for a gateway everything is transient (the operator's word, the operator's accident).
 */
#ifndef ROUTE_ROUTE_H
#define ROUTE_ROUTE_H

#include <stdatomic.h>
#include "base/loop.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "conf/conf.h"
#include "conf/route_item.h"
#include "route/resolver/dns.h"
#include "session/outcome.h"
#include "session/tlsa.h"

#define ROUTE_ADDRS_MAX 500 /* hostile domains: 100 hosts of 200 addresses */

struct route_addr {
	struct addr addr; /* with port */
	uint16_t preference;
	const char *mx; /* host name as in the MX record (normal form), or the domain, or the literal */
	const char *unix_path;    /* NULL */
	enum route_method method; /* ROUTE_METHOD_OPTION: the profile's delivery_method */
	bool secure;              /* the address came DNSSEC-signed; the name did if mx_secure */
	bool mx_secure;
	struct tlsa *tlsa; /* the route's; NULL = no DANE */
};
struct route {
	atomic_uint refs;
	struct route_addr *addrs; /* by preference, shuffled within one; families mixed */
	unsigned n;
	uint64_t expires_mono_us;
	uint32_t epoch; /* router_is_current() */
	bool mx_secure; /* of all */
	uint64_t dane;  /* a hash of what DANE demands; 0 = nothing of any host */
	bool partial;   /* of some hosts DNS could not tell what is to be known */
};
struct route *route_ref(struct route *);
void route_unref(struct route **);

/* What a queue's mail is routed by: part of its key. */
enum next_hop_type { NEXT_HOP_DOMAIN, NEXT_HOP_GATEWAY, NEXT_HOP_ROUTES };
struct next_hop {
	enum next_hop_type type;
	/* domain in normal form or "[literal]"; gateway: HOST, ADDR, [v6]:PORT, HOST:PORT, /path; list: routes_expand() */
	const char *name;
	uint16_t port; /* used where the name carries none */
};

struct prohibited {                    /* judged for what recipients' domains name; own listeners for all */
	const struct host_rule *rules; /* prohibited_hosts */
	unsigned n_rules;
	const struct host_rule *skips; /* skip_hosts */
	unsigned n_skips;
	const char *const *own_names; /* conf_own_names() */
	unsigned n_own_names;
	const struct addr *own_listeners; /* with ports; 0.0.0.0 / :: = every own address at that port */
	unsigned n_own_listeners;
	const struct local_addrs *local;
};

typedef void route_done(
        void *ctx, struct route *takes /* NULL unless found */, const struct outcome *why /* else */);
struct router;
struct router *router_new(struct loop *, struct dns *, struct rnd *, struct metrics *);
void router_set_prohibited(struct router *, const struct prohibited *); /* copied */
/* Routes handed out before are not current any more: asked for again, they are judged anew. */
void router_refresh(struct router *);
bool router_is_current(const struct router *, const struct route *);
void router_free(struct router **);
struct route_query;
/* use_ipv6 false: AAAA is asked only where nothing else is there, to tell "no address" from "IPv6 only" (transient);
 * its addresses are not used. dane: hosts whose TLSA records cannot be had, and with DANE_REQUIRED those without usable
 * ones, are left out. done() once, never from inside. */
struct route_query *route_start(struct router *, const struct next_hop *, bool use_ipv6, enum dane_use dane,
        route_done *, void *ctx);
void route_cancel(struct route_query **);

#endif
