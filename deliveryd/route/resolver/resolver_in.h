/*
 * resolver_in - the inside of the resolver: resolver.c asks and answers, resolver_probe.c tries the servers,
 * resolver_stats.c tells
 */
#ifndef ROUTE_RESOLVER_IN_H
#define ROUTE_RESOLVER_IN_H

#include "route/resolver/dns_cache.h"
#include "route/resolver/dns_hash.h"
#include "route/resolver/dns_lookup.h"
#include "route/resolver/dns_pace.h"
#include "route/resolver/resolver.h"

struct query_list {
	struct dns_query *first, *last;
};

struct dns_query {
	struct resolver *resolver;
	struct query_list *list; /* a flight's, or those to be told */
	struct dns_query *prev, *next;
	struct flight *flight;     /* NULL: the answer is known */
	struct dns_result *result; /* shares */
	uint64_t expires_us;
	dns_done *done;
	void *ctx;
};

/* Look-ups that wait */
struct line {
	struct flight *first, *last;
	uint32_t n;
	metric *metric;
};

struct flight {
	UT_hash_handle hh;
	struct resolver *resolver;
	struct dns_question question;
	struct dns_key key;
	struct query_list waiting;
	unsigned generation;       /* of the list of servers asked */
	struct dns_lookup *lookup; /* NULL: in a line */
	struct line *line;
	struct flight *prev, *next; /* in it */
};

/* A server being tried */
struct probe {
	struct resolver *resolver;
	struct dns_lookup *lookup;
	unsigned server; /* of r->servers */
};

struct resolver {
	struct dns dns;
	struct loop *loop;
	struct dns_servers *servers;
	unsigned generation; /* of servers and of what the cache may hold */
	struct dns_cache *cache;
	struct dns_lookup_env env;
	struct flight *flights; /* table */
	unsigned n_in_flight;
	struct line line;  /* for a place in flight */
	struct line paced; /* for the next period of the rate limit */
	struct dns_pace pace;
	struct timer pace_timer;
	struct resolver_limits limits;
	struct query_list told; /* to be told, in this order */
	struct timer tell;
	bool probing;
	struct probe probes[DNS_SERVERS_MAX];
	struct timer probe_timer;
	metric none;
	metric *n_hits, *n_misses, *n_answered, *n_failed, *in_flight, *cached;
	metric *n_immediate, *n_queued, *n_drained, *n_overflow, *not_validating, *n_probes_failed;
};

void resolver_probe_init(struct resolver *);
void resolver_probe_stop(struct resolver *);

#endif
