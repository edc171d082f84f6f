/*
 * router_in - the inside of the router: router.c asks DNS, route_judge.c decides what the answers make
 *
 * A query has parts: one for a domain or a gateway, one for each item of a list of routes. Parts are looked up at the
 * same time and judged together when the last answer is in.
 *
 * With DANE a host's TLSA records are asked for when its addresses are known, and their names are signed.
 *
 *     start ──address, socket───────────────────▶ ready ──▶ judge ──▶ done
 *       └─▶ mx ──MX records, or NODATA──▶ hosts ───┘
 *            └──NXDOMAIN, null MX, failure──────────┘
 */
#ifndef ROUTE_ROUTER_IN_H
#define ROUTE_ROUTER_IN_H

#include "base/loop.h"
#include "base/metrics.h"
#include "route/next_hop.h"
#include "route/prohibited.h"
#include "route/route_build.h"

#define ROUTE_TTL_PARTIAL_S 60 /* something could not be resolved: look again soon */

struct router {
	struct loop *loop;
	struct dns *dns;
	struct rnd *rnd;
	struct prohibited_set *prohibited;
	uint32_t epoch; /* of what routes are judged by */
	metric none;    /* without a metrics registry */
	metric *found, *permanent, *transient, *refused;
	metric *dane_usable, *dane_unusable, *dane_failed;
};

enum family { FAMILY_V4, FAMILY_V6, N_FAMILIES };

struct host_lookup {
	struct route_host *host;
	struct dns_query *pending;
	bool asked;
	enum dns_outcome outcome;
	struct addr *addrs; /* owns */
	unsigned n;
	bool authentic;
	char *canonical; /* owns; behind CNAMEs, NULL = the host's own name */
	char *why;       /* owns; of a failure */
};

/* The TLSA records of a host: looked for at the first name, then at the second (RFC 7672 2.1.3, 2.2.2) */
struct tlsa_lookup {
	struct dns_query *pending;
	const char *bases[2]; /* borrowed of the host */
	unsigned n_bases, base;
	struct tlsa *tlsa; /* owns a reference; NULL = none */
	char *why;         /* owns; of a failure: the host must not be used */
};

struct route_host {
	struct route_part *part;
	char *name; /* owns */
	uint16_t preference;
	uint16_t level;  /* 0 for the best preference of its part, 1 for the next, ... */
	bool is_literal; /* the MX record names an address */
	struct addr literal;
	struct host_lookup lookups[N_FAMILIES];
	struct tlsa_lookup dane;
};

/* Why a part has no address */
struct part_failure {
	bool permanent;
	int code;
	char enhanced[12];
	char *why; /* owns; NULL = none */
};

struct route_part {
	struct route_query *query;
	bool of_domain;   /* what the recipient's domain says; else the operator's word */
	const char *what; /* "domain", "gateway", "route" */
	struct next_hop_target target;
	struct dns_query *mx;
	bool mx_secure, implicit;
	bool partial; /* of some of it DNS could not tell what is to be known */
	char *mx_canonical; /* owns; of the name whose MX were asked for, behind CNAMEs; NULL = its own */
	struct route_host *hosts;
	unsigned n_hosts;
	struct part_failure failure;
};

struct route_query {
	struct router *router;
	enum next_hop_type type;
	bool use_ipv6;
	enum dane_use dane;
	struct timer ready; /* judges when nothing had to be asked */
	uint32_t ttl_s;
	struct route_part *parts;
	unsigned n_parts, n_pending;
	route_done *done;
	void *ctx;
};

/* route_dane.c: the host's addresses are known. */
void host_ask_dane(struct route_host *);
void host_free_dane(struct route_host *);
/* One answer is in. */
void query_answered(struct route_query *);

/* The first one stays. */
void part_fail(struct route_part *, bool permanent, int code, const char *enhanced, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));
void query_use_ttl(struct route_query *, uint32_t ttl_s);
void query_finish(struct route_query *, struct route *takes, const struct outcome *why);
void query_judge(struct route_query *); /* ends it */

#endif
