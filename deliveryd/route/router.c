/*
 * router - from a next hop to a route; see route.h
 *
 * A query looks up MX, then A and AAAA of every MX host at once (or of the domain itself when it has no MX),
 * and when the last answer is in, judges: what is there is used, and only what DNS positively denies is
 * permanent.
 *
 *     start ──literal──────────────────────────▶ ready ──▶ done
 *       └─▶ mx ──MX records, or NODATA──▶ hosts ───┘
 *            └──NXDOMAIN, null MX, failure──▶ done
 */
#include "config.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/log.h"
#include "base/names.h"
#include "route/next_hop.h"
#include "route/prohibited.h"
#include "route/route_build.h"

#define ROUTE_TTL_MIN_S 5 /* shorter ones would ask DNS for every message */
#define ROUTE_TTL_MAX_S 86400
#define ROUTE_TTL_LITERAL_S 3600
#define ROUTE_TTL_PARTIAL_S 60 /* some MX hosts could not be resolved: look again soon */
#define ROUTE_ADDRS_MAX 500    /* hostile domains: 100 hosts of 200 addresses */
#define ROUTE_WHY_MAX 512

struct router {
	struct loop *loop;
	struct dns *dns;
	struct rnd *rnd;
	struct prohibited_set *prohibited;
	metric none; /* without a metrics registry */
	metric *found, *permanent, *transient, *refused;
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
	char *why; /* owns; of a failure */
};

struct route_host {
	struct route_query *query;
	char *name; /* owns */
	uint16_t preference;
	bool is_literal; /* the MX record names an address */
	struct addr literal;
	struct host_lookup lookups[N_FAMILIES];
};

struct route_query {
	struct router *router;
	enum next_hop_type type;
	bool use_ipv6;
	struct next_hop_target target;
	char *bad_name; /* owns; why it is no next hop */
	struct timer ready;
	struct dns_query *mx;
	bool mx_secure, implicit;
	uint32_t ttl_s;
	struct route_host *hosts;
	unsigned n_hosts, n_pending;
	route_done *done;
	void *ctx;
};

/* What the filter left out, and why */
struct verdict {
	unsigned n_found, n_prohibited, n_listener;
	struct addr example;
	const char *example_mx;
};

static void free_query(struct route_query *q)
{
	struct dns *dns = q->router->dns;

	timer_cancel(q->router->loop, &q->ready);
	dns_cancel(dns, &q->mx);
	for (unsigned i = 0; i < q->n_hosts; i++) {
		for (unsigned f = 0; f < N_FAMILIES; f++) {
			struct host_lookup *l = &q->hosts[i].lookups[f];
			dns_cancel(dns, &l->pending);
			mem_free(&l->addrs);
			mem_free(&l->why);
		}
		mem_free(&q->hosts[i].name);
	}
	mem_free(&q->hosts);
	mem_free(&q->bad_name);
	mem_free(&q);
}

static void finish(struct route_query *q, struct route *takes, const struct outcome *why)
{
	route_done *done = q->done;
	void *ctx = q->ctx;
	struct router *r = q->router;

	metric_add(takes ? r->found : why->class == OUTCOME_PERMANENT ? r->permanent : r->transient, 1);
	free_query(q);
	done(ctx, takes, why);
}

static void fail_transient(struct route_query *q, const char *enhanced, const char *text)
{
	struct outcome o;

	outcome_own(&o, OUTCOME_TRANSIENT, STATE_RESOLVE, 451, enhanced, "%s", text);
	finish(q, NULL, &o);
}

/* A gateway is the operator's word: nothing DNS says about it bounces mail. */
static void fail_permanent(struct route_query *q, int code, const char *enhanced, const char *text)
{
	struct outcome o;

	if (q->type == NEXT_HOP_GATEWAY) {
		fail_transient(q, strcmp(enhanced, "5.4.6") == 0 ? "4.4.6" : "4.4.3", text);
		return;
	}
	outcome_own(&o, OUTCOME_PERMANENT, STATE_RESOLVE, code, enhanced, "%s", text);
	finish(q, NULL, &o);
}

static const char *what(const struct route_query *q)
{
	return q->type == NEXT_HOP_GATEWAY ? "gateway" : "domain";
}

static void use_ttl(struct route_query *q, uint32_t ttl_s)
{
	if (ttl_s < q->ttl_s)
		q->ttl_s = ttl_s;
}

/* --- judging what the look-ups brought --- */

static bool lookup_failed(const struct route_query *q, const struct host_lookup **first)
{
	for (unsigned i = 0; i < q->n_hosts; i++)
		for (unsigned f = 0; f < N_FAMILIES; f++) {
			const struct host_lookup *l = &q->hosts[i].lookups[f];
			if (l->asked && l->outcome == DNS_FAILED) {
				*first = l;
				return true;
			}
		}
	return false;
}

static bool host_is(const struct route_host *h, enum dns_outcome outcome)
{
	for (unsigned f = 0; f < N_FAMILIES; f++)
		if (h->lookups[f].asked && h->lookups[f].outcome != outcome)
			return false;
	return !h->is_literal;
}

static void add_addr(struct route_query *q, struct route *route, const struct route_host *h,
        const struct addr *a, bool secure, struct verdict *v)
{
	struct addr addr = *a;
	enum prohibited_why why;

	addr_unmap(&addr); /* ::ffff:127.0.0.1 must not pass as IPv6 */
	addr.port = q->target.port;
	v->n_found++;
	why = prohibited_judge(q->router->prohibited, &addr, q->type);
	if (why == PROHIBITED_NOT) {
		if (route->n < ROUTE_ADDRS_MAX)
			route_add(route, &addr, h->preference, h->name, secure);
		return;
	}
	metric_add(q->router->refused, 1);
	v->n_prohibited += why == PROHIBITED_ADDRESS;
	v->n_listener += why == PROHIBITED_OWN_LISTENER;
	v->example = addr;
	v->example_mx = h->name;
}

static void add_host(
        struct route_query *q, struct route *route, const struct route_host *h, struct verdict *v)
{
	if (h->is_literal)
		add_addr(q, route, h, &h->literal, false, v);
	for (unsigned f = 0; f < N_FAMILIES; f++) {
		const struct host_lookup *l = &h->lookups[f];
		if (f == FAMILY_V6 && !q->use_ipv6)
			continue;
		for (unsigned i = 0; i < l->n; i++)
			add_addr(q, route, h, &l->addrs[i], l->authentic, v);
	}
}

static void hand_out(struct route_query *q, struct route *route)
{
	uint32_t ttl_s = q->ttl_s;

	if (ttl_s < ROUTE_TTL_MIN_S)
		ttl_s = ROUTE_TTL_MIN_S;
	if (ttl_s > ROUTE_TTL_MAX_S)
		ttl_s = ROUTE_TTL_MAX_S;
	route->expires_mono_us = loop_now_us(q->router->loop) + ttl_s * SECOND_US;
	route->mx_secure = q->mx_secure;
	route_shuffle(route, q->router->rnd);
	finish(q, route, NULL);
}

static void say_left_out(struct route_query *q, const struct verdict *v)
{
	char text[ROUTE_WHY_MAX], ip[ADDR_TEXT_SIZE];

	if (v->n_listener)
		snprintf(text, sizeof(text), "%s %s: %s is a listener of our own: mail would loop", what(q),
		        q->target.host, addr_print_port(&v->example, ip));
	else
		snprintf(text, sizeof(text), "%s %s: mail host %s has the prohibited address %s", what(q),
		        q->target.host, v->example_mx, addr_print(&v->example, ip));
	fail_permanent(q, 551, "5.4.6", text);
}

static void say_none_of_mx(struct route_query *q)
{
	char text[ROUTE_WHY_MAX];
	const struct route_host *odd = NULL;

	for (unsigned i = 0; i < q->n_hosts && !odd; i++)
		if (!host_is(&q->hosts[i], DNS_NXDOMAIN))
			odd = &q->hosts[i];
	if (!odd) {
		snprintf(text, sizeof(text), "%s %s: none of its mail hosts exists (%s: NXDOMAIN)", what(q),
		        q->target.host, q->hosts[0].name);
		fail_permanent(q, 550, "5.4.4", text);
		return;
	}
	snprintf(text, sizeof(text), "%s %s: mail host %s has no %s", what(q), q->target.host, odd->name,
	        q->use_ipv6 ? "address" : "IPv4 address (use_ipv6 is off)");
	fail_transient(q, "4.4.3", text);
}

/* No MX, and no address that we may use. With use_ipv6 off, one that has IPv6 only waits for the operator. */
static void say_none_implicit(struct route_query *q)
{
	char text[ROUTE_WHY_MAX];
	const struct route_host *h = &q->hosts[0];

	if (host_is(h, DNS_NXDOMAIN)) {
		snprintf(text, sizeof(text), "%s %s does not exist (NXDOMAIN)", what(q), q->target.host);
		fail_permanent(q, 550, "5.1.2", text);
	} else if (h->lookups[FAMILY_V6].outcome == DNS_ANSWER) {
		snprintf(text, sizeof(text), "%s %s has IPv6 addresses only, and use_ipv6 is off", what(q),
		        q->target.host);
		fail_transient(q, "4.4.3", text);
	} else {
		snprintf(text, sizeof(text), "%s %s has neither mail hosts nor addresses in DNS", what(q),
		        q->target.host);
		fail_permanent(q, 550, "5.4.4", text);
	}
}

static void judge(struct route_query *q)
{
	struct route *route = route_new();
	struct verdict v = {0};
	const struct host_lookup *failed = NULL;
	bool any_failed = lookup_failed(q, &failed);
	char text[ROUTE_WHY_MAX];

	for (unsigned i = 0; i < q->n_hosts; i++)
		add_host(q, route, &q->hosts[i], &v);
	if (any_failed)
		use_ttl(q, ROUTE_TTL_PARTIAL_S);
	if (route->n) {
		hand_out(q, route);
		return;
	}
	route_unref(&route);
	if (any_failed) {
		snprintf(text, sizeof(text), "%s %s: address of %s: %s", what(q), q->target.host,
		        failed->host->name, failed->why);
		fail_transient(q, "4.4.3", text);
	} else if (v.n_found) {
		say_left_out(q, &v);
	} else if (q->implicit) {
		say_none_implicit(q);
	} else {
		say_none_of_mx(q);
	}
}

/* --- addresses --- */

static void ask(struct route_host *, enum family);

/* True if nothing is known to be there but AAAA was not asked: only it can tell "no address" from "IPv6
 * only". */
static bool aaaa_decides(const struct route_query *q, const struct host_lookup *a)
{
	const struct route_host *h = a->host;

	return q->implicit && !h->lookups[FAMILY_V6].asked &&
	       (a->outcome == DNS_NODATA || a->outcome == DNS_NXDOMAIN);
}

static void addrs_done(void *ctx, const struct dns_answer *a)
{
	struct host_lookup *l = ctx;
	struct route_query *q = l->host->query;

	l->pending = NULL;
	l->outcome = a->outcome;
	l->authentic = a->authentic;
	if (a->outcome == DNS_FAILED)
		l->why = mem_strdup(a->why);
	else
		use_ttl(q, a->ttl_s);
	if (a->outcome == DNS_ANSWER) {
		l->addrs = mem_array(NULL, a->n, sizeof(*l->addrs));
		for (l->n = 0; l->n < a->n; l->n++)
			l->addrs[l->n] = a->records[l->n].addr;
	}
	if (aaaa_decides(q, l))
		ask(l->host, FAMILY_V6);
	assert(q->n_pending > 0);
	if (--q->n_pending == 0)
		judge(q);
}

static void ask(struct route_host *h, enum family f)
{
	struct host_lookup *l = &h->lookups[f];

	l->host = h;
	l->asked = true;
	h->query->n_pending++;
	l->pending =
	        dns_lookup(h->query->router->dns, h->name, f == FAMILY_V4 ? DNS_A : DNS_AAAA, addrs_done, l);
}

static void ask_hosts(struct route_query *q)
{
	for (unsigned i = 0; i < q->n_hosts; i++) {
		struct route_host *h = &q->hosts[i];
		h->query = q;
		h->is_literal = addr_parse(
		        h->name, &h->literal, NULL); /* as Postfix, a dotted quad as MX host works */
		if (h->is_literal)
			continue;
		ask(h, FAMILY_V4);
		if (q->use_ipv6)
			ask(h, FAMILY_V6);
	}
	if (q->n_pending == 0)
		judge(q);
}

/* --- MX --- */

static int by_preference(const void *pa, const void *pb)
{
	const struct route_host *a = pa, *b = pb;

	return (int)a->preference - (int)b->preference;
}

static void use_mx(struct route_query *q, const struct dns_answer *a)
{
	char text[ROUTE_WHY_MAX];

	if (a->n == 1 && a->records[0].mx.host[0] == '\0') {
		snprintf(text, sizeof(text), "%s %s does not accept mail (null MX)", what(q), q->target.host);
		fail_permanent(q, 556, "5.1.10", text);
		return;
	}
	q->hosts = mem_array(NULL, a->n, sizeof(*q->hosts));
	for (unsigned i = 0; i < a->n; i++)
		if (a->records[i].mx.host[0] != '\0') /* RFC 7505 3: beside others it means nothing */
			q->hosts[q->n_hosts++] =
			        (struct route_host){.name = mem_strdup(a->records[i].mx.host),
			                .preference = a->records[i].mx.preference};
	if (q->n_hosts == 0) {
		snprintf(text, sizeof(text), "%s %s: malformed MX records", what(q), q->target.host);
		fail_transient(q, "4.4.3", text);
		return;
	}
	qsort(q->hosts, q->n_hosts, sizeof(*q->hosts), by_preference);
	ask_hosts(q);
}

static void use_implicit_mx(struct route_query *q)
{
	q->implicit = true;
	q->hosts = mem_array(NULL, 1, sizeof(*q->hosts));
	q->hosts[0] = (struct route_host){.name = mem_strdup(q->target.host)};
	q->n_hosts = 1;
	ask_hosts(q);
}

static void mx_done(void *ctx, const struct dns_answer *a)
{
	struct route_query *q = ctx;
	char text[ROUTE_WHY_MAX];

	q->mx = NULL;
	q->mx_secure = a->authentic && a->outcome != DNS_FAILED;
	if (a->outcome != DNS_FAILED)
		use_ttl(q, a->ttl_s);
	switch (a->outcome) {
	case DNS_ANSWER:
		use_mx(q, a);
		return;
	case DNS_NODATA:
		use_implicit_mx(q);
		return;
	case DNS_NXDOMAIN:
		snprintf(text, sizeof(text), "%s %s does not exist (NXDOMAIN)", what(q), q->target.host);
		fail_permanent(q, 550, "5.1.2", text);
		return;
	case DNS_FAILED:
		break;
	}
	snprintf(text, sizeof(text), "%s %s: MX: %s", what(q), q->target.host, a->why);
	fail_transient(q, "4.4.3", text);
}

/* --- literals, and names that are none --- */

static void ready(void *ctx)
{
	struct route_query *q = ctx;
	const struct addr *a = &q->target.addr;
	struct route *route;
	struct route_host h = {.name = q->target.host};
	struct verdict v = {0};
	char text[ROUTE_WHY_MAX];

	if (q->bad_name) {
		snprintf(text, sizeof(text), "%s: %s", what(q), q->bad_name);
		fail_transient(q, "4.4.3", text);
		return;
	}
	if (a->family == AF_INET6 && !q->use_ipv6) {
		snprintf(text, sizeof(text), "%s %s is an IPv6 address, and use_ipv6 is off", what(q),
		        q->target.host);
		fail_transient(q, "4.4.3", text);
		return;
	}
	route = route_new();
	add_addr(q, route, &h, a, false, &v);
	q->ttl_s = ROUTE_TTL_LITERAL_S;
	if (route->n) {
		hand_out(q, route);
		return;
	}
	route_unref(&route);
	say_left_out(q, &v);
}

struct route_query *route_start(
        struct router *r, const struct next_hop *hop, bool use_ipv6, route_done *done, void *ctx)
{
	struct route_query *q = mem_zalloc(sizeof(*q));
	struct error err = {""};
	char quoted[320];

	*q = (struct route_query){.router = r,
	        .type = hop->type,
	        .use_ipv6 = use_ipv6,
	        .ttl_s = UINT32_MAX,
	        .done = done,
	        .ctx = ctx};
	timer_init(&q->ready, ready, q);
	if (!next_hop_parse(hop, &q->target, &err)) {
		q->bad_name = mem_printf(
		        "%s: %s", log_quote(hop->name, strlen(hop->name), quoted, sizeof(quoted)), err.text);
		timer_arm_in(r->loop, &q->ready, 0);
	} else if (q->target.literal) {
		timer_arm_in(r->loop, &q->ready, 0);
	} else {
		q->mx = dns_lookup(r->dns, q->target.host, DNS_MX, mx_done, q);
	}
	return q;
}

void route_cancel(struct route_query **p)
{
	struct route_query *q = *p;

	*p = NULL;
	if (q)
		free_query(q);
}

struct router *router_new(struct loop *loop, struct dns *dns, struct rnd *rnd, struct metrics *m)
{
	struct router *r = mem_zalloc(sizeof(*r));
	struct prohibited nothing = {0};

	r->loop = loop;
	r->dns = dns;
	r->rnd = rnd;
	r->prohibited = prohibited_set_new(&nothing);
	r->found = r->permanent = r->transient = r->refused = &r->none;
	if (!m)
		return r;
	r->found = metrics_counter(
	        m, "bindpost_routes_total", "result=\"found\"", "Next hops resolved, by result");
	r->permanent = metrics_counter(
	        m, "bindpost_routes_total", "result=\"permanent\"", "Next hops resolved, by result");
	r->transient = metrics_counter(
	        m, "bindpost_routes_total", "result=\"transient\"", "Next hops resolved, by result");
	r->refused = metrics_counter(m, "bindpost_route_prohibited_total", NULL,
	        "Addresses left out: prohibited_hosts or own listeners");
	return r;
}

void router_set_prohibited(struct router *r, const struct prohibited *p)
{
	prohibited_set_free(&r->prohibited);
	r->prohibited = prohibited_set_new(p);
}

void router_free(struct router **p)
{
	if (!*p)
		return;
	prohibited_set_free(&(*p)->prohibited);
	mem_free(p);
}
