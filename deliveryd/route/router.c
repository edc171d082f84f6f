/*
 * router - from a next hop to a route; see route.h, router_in.h
 *
 * MX first, then A and AAAA of every MX host at once (or of the name itself when it has no MX).
 */
#include "config.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/names.h"
#include "route/router_in.h"

#define ROUTE_WHY_MAX 512
#define TLSA_HELP "Hosts with signed TLSA records, by whether any can be used; failed: DNS could not tell"

/* --- life of a query --- */

static void free_hosts(struct route_part *p, struct dns *dns)
{
	for (unsigned i = 0; i < p->n_hosts; i++) {
		for (unsigned f = 0; f < N_FAMILIES; f++) {
			struct host_lookup *l = &p->hosts[i].lookups[f];
			dns_cancel(dns, &l->pending);
			mem_free(&l->addrs);
			mem_free(&l->canonical);
			mem_free(&l->why);
		}
		host_free_dane(&p->hosts[i]);
		mem_free(&p->hosts[i].name);
	}
	mem_free(&p->hosts);
}

static void free_query(struct route_query *q)
{
	struct dns *dns = q->router->dns;

	timer_cancel(q->router->loop, &q->ready);
	for (unsigned i = 0; i < q->n_parts; i++) {
		dns_cancel(dns, &q->parts[i].mx);
		free_hosts(&q->parts[i], dns);
		mem_free(&q->parts[i].failure.why);
		mem_free(&q->parts[i].mx_canonical);
	}
	mem_free(&q->parts);
	mem_free(&q);
}

void query_finish(struct route_query *q, struct route *takes, const struct outcome *why)
{
	route_done *done = q->done;
	void *ctx = q->ctx;
	struct router *r = q->router;

	metric_add(takes ? r->found : why->class == OUTCOME_PERMANENT ? r->permanent : r->transient, 1);
	free_query(q);
	done(ctx, takes, why);
}

void query_use_ttl(struct route_query *q, uint32_t ttl_s)
{
	if (ttl_s < q->ttl_s)
		q->ttl_s = ttl_s;
}

void part_fail(struct route_part *p, bool permanent, int code, const char *enhanced, const char *fmt, ...)
{
	char text[ROUTE_WHY_MAX];
	va_list ap;

	if (p->failure.why)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->failure = (struct part_failure){.permanent = permanent, .code = code, .why = mem_strdup(text)};
	snprintf(p->failure.enhanced, sizeof(p->failure.enhanced), "%s", enhanced);
}

void query_answered(struct route_query *q)
{
	assert(q->n_pending > 0);
	if (--q->n_pending == 0)
		query_judge(q);
}

/* --- addresses --- */

static void ask(struct route_host *, enum family);

/* True if nothing is known to be there but AAAA was not asked: only it can tell "no address" from "IPv6 only". */
static bool aaaa_decides(const struct host_lookup *a)
{
	const struct route_host *h = a->host;

	return h->part->implicit && !h->lookups[FAMILY_V6].asked &&
	       (a->outcome == DNS_NODATA || a->outcome == DNS_NXDOMAIN);
}

static void addrs_done(void *ctx, const struct dns_answer *a)
{
	struct host_lookup *l = ctx;
	struct route_query *q = l->host->part->query;

	l->pending = NULL;
	l->outcome = a->outcome;
	l->authentic = a->authentic;
	if (a->outcome == DNS_FAILED)
		l->why = mem_strdup(a->why);
	else
		query_use_ttl(q, a->ttl_s);
	if (a->outcome == DNS_ANSWER) {
		l->addrs = mem_array(NULL, a->n, sizeof(*l->addrs));
		for (l->n = 0; l->n < a->n; l->n++)
			l->addrs[l->n] = a->records[l->n].addr;
	}
	if (a->name && !ascii_ieq(a->name, l->host->name))
		l->canonical = mem_strdup(a->name);
	if (aaaa_decides(l))
		ask(l->host, FAMILY_V6);
	else if (!l->host->lookups[FAMILY_V4].pending && !l->host->lookups[FAMILY_V6].pending)
		host_ask_dane(l->host);
	query_answered(q);
}

static void ask(struct route_host *h, enum family f)
{
	struct host_lookup *l = &h->lookups[f];
	struct route_query *q = h->part->query;

	l->host = h;
	l->asked = true;
	q->n_pending++;
	l->pending = dns_lookup(q->router->dns, h->name, f == FAMILY_V4 ? DNS_A : DNS_AAAA, addrs_done, l);
}

/* Hosts at and behind our own name are not used (RFC 5321 5.1): their addresses need no look-up. */
static uint32_t own_preference(const struct route_part *p)
{
	const struct prohibited_set *s = p->query->router->prohibited;

	for (unsigned i = 0; p->of_domain && i < p->n_hosts; i++)
		if (prohibited_own_name(s, p->hosts[i].name))
			return p->hosts[i].preference;
	return UINT32_MAX;
}

static void ask_hosts(struct route_part *p)
{
	uint32_t own = own_preference(p);

	for (unsigned i = 0; i < p->n_hosts; i++) {
		struct route_host *h = &p->hosts[i];
		h->part = p;
		h->level = (uint16_t)(i == 0 ? 0 : h[-1].level + (h[-1].preference != h->preference));
		/* as Postfix, a dotted quad as MX host works */
		h->is_literal = addr_parse(h->name, &h->literal, NULL);
		if (h->is_literal || h->preference >= own)
			continue;
		ask(h, FAMILY_V4);
		if (p->query->use_ipv6)
			ask(h, FAMILY_V6);
	}
}

/* --- MX --- */

static int by_preference(const void *pa, const void *pb)
{
	const struct route_host *a = pa, *b = pb;

	return (int)a->preference - (int)b->preference;
}

static void use_mx(struct route_part *p, const struct dns_answer *a)
{
	if (a->n == 1 && a->records[0].mx.host[0] == '\0') {
		part_fail(p, true, 556, "5.1.10", "%s %s does not accept mail (null MX)", p->what,
		        p->target.host);
		return;
	}
	p->hosts = mem_array(NULL, a->n, sizeof(*p->hosts));
	for (unsigned i = 0; i < a->n; i++)
		if (a->records[i].mx.host[0] != '\0') /* RFC 7505 3: beside others it means nothing */
			p->hosts[p->n_hosts++] =
			        (struct route_host){.name = mem_strdup(a->records[i].mx.host),
			                .preference = a->records[i].mx.preference};
	if (p->n_hosts == 0) {
		part_fail(p, false, 451, "4.4.3", "%s %s: malformed MX records", p->what, p->target.host);
		return;
	}
	qsort(p->hosts, p->n_hosts, sizeof(*p->hosts), by_preference);
	ask_hosts(p);
}

static void use_implicit_mx(struct route_part *p)
{
	p->implicit = true;
	p->hosts = mem_array(NULL, 1, sizeof(*p->hosts));
	p->hosts[0] = (struct route_host){.name = mem_strdup(p->target.host)};
	p->n_hosts = 1;
	ask_hosts(p);
}

static void mx_done(void *ctx, const struct dns_answer *a)
{
	struct route_part *p = ctx;

	p->mx = NULL;
	p->mx_secure = a->authentic && a->outcome != DNS_FAILED;
	if (a->outcome != DNS_FAILED)
		query_use_ttl(p->query, a->ttl_s);
	if (a->name && !ascii_ieq(a->name, p->target.host))
		p->mx_canonical = mem_strdup(a->name);
	switch (a->outcome) {
	case DNS_ANSWER:
		use_mx(p, a);
		break;
	case DNS_NODATA:
		use_implicit_mx(p);
		break;
	case DNS_NXDOMAIN:
		part_fail(p, true, 550, "5.1.2", "%s %s does not exist (NXDOMAIN)", p->what, p->target.host);
		break;
	case DNS_FAILED:
		part_fail(p, false, 451, "4.4.3", "%s %s: MX: %s", p->what, p->target.host, a->why);
		break;
	}
	query_answered(p->query);
}

/* --- parts --- */

static void use_literal(struct route_part *p)
{
	if (p->target.addr.family == AF_INET6 && !p->query->use_ipv6) {
		part_fail(p, false, 451, "4.4.3", "%s %s is an IPv6 address, and use_ipv6 is off", p->what,
		        p->target.host);
		return;
	}
	p->hosts = mem_array(NULL, 1, sizeof(*p->hosts));
	p->hosts[0] = (struct route_host){
	        .part = p, .name = mem_strdup(p->target.host), .is_literal = true, .literal = p->target.addr};
	p->n_hosts = 1;
}

static void start_part(struct route_part *p)
{
	struct route_query *q = p->query;

	query_use_ttl(q, p->target.ttl_s);
	if (p->target.literal) {
		use_literal(p);
	} else if (p->target.unix_socket) {
		return;
	} else if (p->target.only_address) {
		use_implicit_mx(p);
	} else {
		q->n_pending++;
		p->mx = dns_lookup(q->router->dns, p->target.host, DNS_MX, mx_done, p);
	}
}

static void bad_name(struct route_query *q, const char *name, const struct error *err)
{
	char quoted[320];

	part_fail(&q->parts[0], false, 451, "4.4.3", "%s: %s: %s", q->parts[0].what,
	        log_quote(name, strlen(name), quoted, sizeof(quoted)), err->text);
}

static void make_parts(struct route_query *q, const struct next_hop *hop)
{
	static const char *const words[] = {"domain", "gateway", "route"};
	unsigned n = next_hop_count(hop);
	struct error err = {""};

	q->n_parts = n ? n : 1;
	q->parts = mem_zalloc(q->n_parts * sizeof(*q->parts));
	for (unsigned i = 0; i < q->n_parts; i++) {
		struct route_part *p = &q->parts[i];
		p->query = q;
		p->what = words[hop->type];
		if (!next_hop_parse(hop, i, &p->target, &err)) {
			q->n_parts = 1;
			bad_name(q, hop->name, &err);
			return;
		}
		p->of_domain = p->target.of_domain;
		if (p->of_domain)
			p->what = words[NEXT_HOP_DOMAIN];
	}
}

static void ready(void *ctx)
{
	query_judge(ctx);
}

struct route_query *route_start(struct router *r, const struct next_hop *hop, bool use_ipv6,
        enum dane_use dane, route_done *done, void *ctx)
{
	struct route_query *q = mem_zalloc(sizeof(*q));

	*q = (struct route_query){.router = r,
	        .type = hop->type,
	        .use_ipv6 = use_ipv6,
	        .dane = dane,
	        .ttl_s = UINT32_MAX,
	        .done = done,
	        .ctx = ctx};
	timer_init(&q->ready, ready, q);
	make_parts(q, hop);
	for (unsigned i = 0; i < q->n_parts; i++)
		if (!q->parts[i].failure.why)
			start_part(&q->parts[i]);
	if (q->n_pending == 0)
		timer_arm_in(r->loop, &q->ready, 0);
	return q;
}

void route_cancel(struct route_query **p)
{
	struct route_query *q = *p;

	*p = NULL;
	if (q)
		free_query(q);
}

/* --- the router --- */

struct router *router_new(struct loop *loop, struct dns *dns, struct rnd *rnd, struct metrics *m)
{
	struct router *r = mem_zalloc(sizeof(*r));
	struct prohibited nothing = {0};

	r->loop = loop;
	r->dns = dns;
	r->rnd = rnd;
	r->prohibited = prohibited_set_new(&nothing);
	r->found = r->permanent = r->transient = r->refused = &r->none;
	r->dane_usable = r->dane_unusable = r->dane_failed = &r->none;
	if (!m)
		return r;
	r->found = metrics_counter(
	        m, "bindpost_routes_total", "result=\"found\"", "Next hops resolved, by result");
	r->permanent = metrics_counter(
	        m, "bindpost_routes_total", "result=\"permanent\"", "Next hops resolved, by result");
	r->transient = metrics_counter(
	        m, "bindpost_routes_total", "result=\"transient\"", "Next hops resolved, by result");
	r->refused = metrics_counter(m, "bindpost_route_prohibited_total", NULL,
	        "Addresses left out: prohibited_hosts, skip_hosts or own listeners");
	r->dane_usable = metrics_counter(m, "bindpost_route_tlsa_total", "result=\"usable\"", TLSA_HELP);
	r->dane_unusable = metrics_counter(m, "bindpost_route_tlsa_total", "result=\"unusable\"", TLSA_HELP);
	r->dane_failed = metrics_counter(m, "bindpost_route_tlsa_total", "result=\"failed\"", TLSA_HELP);
	return r;
}

void router_set_prohibited(struct router *r, const struct prohibited *p)
{
	prohibited_set_free(&r->prohibited);
	r->prohibited = prohibited_set_new(p);
	router_refresh(r);
}

void router_refresh(struct router *r)
{
	r->epoch++;
}

bool router_is_current(const struct router *r, const struct route *route)
{
	return route->epoch == r->epoch;
}

void router_free(struct router **p)
{
	if (!*p)
		return;
	prohibited_set_free(&(*p)->prohibited);
	mem_free(p);
}
