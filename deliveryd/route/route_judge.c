/*
 * route_judge - what the answers of DNS make: a route, or why there is none
 *
 * What is there is used, and only what DNS positively denies of a recipient's domain is permanent.
 */
#include "config.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "route/router_in.h"

#define ROUTE_TTL_MIN_S 5 /* shorter ones would ask DNS for every message */
#define ROUTE_TTL_MAX_S 86400
#define ROUTE_TTL_LITERAL_S 3600
#define CODE_LOOP 551

/* What was left out of a part, and why */
struct verdict {
	unsigned n_found, n_added;
	unsigned n_skipped, n_loop;
	uint32_t own;           /* hosts of this preference and worse are ourselves or behind us */
	struct judgement first; /* of the first address left out */
	struct addr example;
	const char *example_mx;
	struct judgement skip;           /* of the first that waits */
	const struct route_host *undane; /* the first that DANE forbids */
	bool own_listener;
};

static bool found_secure(const struct route_host *h)
{
	for (unsigned f = 0; f < N_FAMILIES; f++)
		if (h->lookups[f].asked && h->lookups[f].outcome == DNS_ANSWER && h->lookups[f].authentic)
			return true;
	return false;
}

static bool lookup_failed(
        const struct route_part *p, const struct verdict *v, const struct host_lookup **first)
{
	for (unsigned i = 0; i < p->n_hosts; i++)
		for (unsigned f = 0; f < N_FAMILIES && p->hosts[i].preference < v->own; f++) {
			const struct host_lookup *l = &p->hosts[i].lookups[f];
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

/* --- addresses, one by one --- */

typedef void with_addr(struct route_part *, struct route_host *, const struct addr *, bool secure, void *ctx);

static void each_addr(struct route_part *p, struct route_host *h, with_addr *fn, void *ctx)
{
	const struct route_query *q = p->query;

	for (int f = -1; f < N_FAMILIES; f++) {
		const struct host_lookup *l = &h->lookups[f < 0 ? 0 : f];
		unsigned n = f < 0 ? h->is_literal : f == FAMILY_V6 && !q->use_ipv6 ? 0 : l->n;
		for (unsigned i = 0; i < n; i++) {
			struct addr a = f < 0 ? h->literal : l->addrs[i];
			addr_unmap(&a); /* ::ffff:127.0.0.1 must not pass as IPv6 */
			a.port = p->target.port;
			fn(p, h, &a, f >= 0 && l->authentic, ctx);
		}
	}
}

static void look_for_us(
        struct route_part *p, struct route_host *h, const struct addr *a, bool secure, void *ctx)
{
	struct verdict *v = ctx;
	struct judgement j = prohibited_judge(p->query->router->prohibited, h->name, a, p->of_domain);

	(void)secure;
	if (!j.us || h->preference >= v->own)
		return;
	v->own = h->preference;
	v->first = j;
	v->example = *a;
	v->example_mx = h->name;
	v->own_listener = j.why == PROHIBITED_OWN_LISTENER;
}

/* The best preference at which this machine stands among the MX hosts */
static void find_us(struct route_part *p, struct verdict *v)
{
	for (unsigned i = 0; i < p->n_hosts; i++) {
		struct route_host *h = &p->hosts[i];
		if (h->preference >= v->own)
			return;
		if (prohibited_own_name(p->query->router->prohibited, h->name)) {
			v->own = h->preference;
			v->example_mx = h->name;
			return;
		}
		each_addr(p, h, look_for_us, v);
	}
}

struct adding {
	struct route *route;
	struct verdict *v;
	uint16_t preference;
};

/* True: TLSA records could not be had, or are demanded and there are none to use. */
static bool dane_forbids(const struct route_host *h)
{
	if (h->dane.why)
		return true;
	return h->part->query->dane == DANE_REQUIRED && (!h->dane.tlsa || h->dane.tlsa->n_records == 0);
}

static void add_addr(struct route_part *p, struct route_host *h, const struct addr *a, bool secure, void *ctx)
{
	struct adding *to = ctx;
	struct verdict *v = to->v;
	struct judgement j = prohibited_judge(p->query->router->prohibited, h->name, a, p->of_domain);
	struct route_new_addr add = {.addr = *a,
	        .preference = to->preference,
	        .mx = h->name,
	        .secure = secure,
	        .mx_secure = p->mx_secure,
	        .tlsa = h->dane.tlsa,
	        .method = p->target.method};

	v->n_found++;
	if (j.why == PROHIBITED_NOT && dane_forbids(h)) {
		if (!v->undane)
			v->undane = h;
		return;
	}
	if (j.why == PROHIBITED_NOT) {
		if (to->route->n < ROUTE_ADDRS_MAX)
			route_add(to->route, &add);
		v->n_added++;
		return;
	}
	metric_add(p->query->router->refused, 1);
	if (j.why == PROHIBITED_SKIPPED && v->n_skipped++ == 0)
		v->skip = j;
	if (v->example_mx)
		return;
	v->first = j;
	v->example = *a;
	v->example_mx = h->name;
	v->own_listener = j.why == PROHIBITED_OWN_LISTENER;
}

/* --- why a part has none --- */

static void say_rule(struct route_part *p, const struct verdict *v, const struct judgement *j)
{
	const struct host_rule *r = j->rule;
	bool waits = j->why == PROHIBITED_SKIPPED;
	int code = r->code ? r->code : waits ? 451 : CODE_LOOP;
	const char *enhanced = r->enhanced ? r->enhanced : waits ? "4.4.4" : "5.4.6";
	char ip[ADDR_TEXT_SIZE];

	if (r->text)
		part_fail(p, !waits, code, enhanced, "%s", r->text);
	else if (waits)
		part_fail(p, false, code, enhanced, "%s %s: its mail hosts are to be skipped (skip_hosts)",
		        p->what, p->target.host);
	else if (r->kind == HOST_RULE_NAME)
		part_fail(p, true, code, enhanced, "%s %s: mail host %s is prohibited", p->what,
		        p->target.host, v->example_mx);
	else
		part_fail(p, true, code, enhanced, "%s %s: mail host %s has the prohibited address %s",
		        p->what, p->target.host, v->example_mx, addr_print(&v->example, ip));
}

static void say_undane(struct route_part *p, const struct route_host *h)
{
	if (h->dane.why)
		part_fail(p, false, 451, "4.7.5", "%s %s: mail host %s: %s", p->what, p->target.host, h->name,
		        h->dane.why);
	else
		part_fail(p, false, 451, "4.7.5",
		        "%s %s: DANE is required, and mail host %s has no TLSA records that can be used%s",
		        p->what, p->target.host, h->name,
		        h->is_literal || found_secure(h) ? "" : ": its address is not signed by DNSSEC");
}

static void say_left_out(struct route_part *p, const struct verdict *v)
{
	char ip[ADDR_TEXT_SIZE];

	if (v->n_skipped)
		say_rule(p, v, &v->skip);
	else if (v->own_listener)
		part_fail(p, true, CODE_LOOP, "5.4.6", "%s %s: %s is a listener of our own: mail would loop",
		        p->what, p->target.host, addr_print_port(&v->example, ip));
	else if (v->first.rule)
		say_rule(p, v, &v->first);
	else
		part_fail(p, true, CODE_LOOP, "5.4.6",
		        "%s %s: mail would loop: its best mail host %s is this machine", p->what,
		        p->target.host, v->example_mx);
}

static void say_none_of_mx(struct route_part *p)
{
	const struct route_host *odd = NULL;

	for (unsigned i = 0; i < p->n_hosts && !odd; i++)
		if (!host_is(&p->hosts[i], DNS_NXDOMAIN))
			odd = &p->hosts[i];
	if (!odd)
		part_fail(p, true, 550, "5.4.4", "%s %s: none of its mail hosts exists (%s: NXDOMAIN)",
		        p->what, p->target.host, p->hosts[0].name);
	else
		part_fail(p, false, 451, "4.4.3", "%s %s: mail host %s has no %s", p->what, p->target.host,
		        odd->name, p->query->use_ipv6 ? "address" : "IPv4 address (use_ipv6 is off)");
}

/* No MX, and no address that we may use. With use_ipv6 off, one that has IPv6 only waits for the operator. */
static void say_none_implicit(struct route_part *p)
{
	const struct route_host *h = &p->hosts[0];

	if (host_is(h, DNS_NXDOMAIN))
		part_fail(p, true, 550, "5.1.2", "%s %s does not exist (NXDOMAIN)", p->what, p->target.host);
	else if (h->lookups[FAMILY_V6].outcome == DNS_ANSWER)
		part_fail(p, false, 451, "4.4.3", "%s %s has IPv6 addresses only, and use_ipv6 is off",
		        p->what, p->target.host);
	else
		part_fail(p, true, 550, "5.4.4", "%s %s has neither mail hosts nor addresses in DNS", p->what,
		        p->target.host);
}

/* Unless it brought an address, or failed already */
static void judge_part(struct route_part *p, const struct verdict *v)
{
	const struct host_lookup *failed = NULL;

	p->partial = p->failure.why || lookup_failed(p, v, &failed) || v->undane;
	if (p->failure.why) {
		if (!p->failure.permanent || !p->of_domain)
			query_use_ttl(p->query, ROUTE_TTL_PARTIAL_S);
		return;
	}
	if (p->partial)
		query_use_ttl(p->query, ROUTE_TTL_PARTIAL_S);
	if (v->n_added)
		return;
	if (v->undane)
		say_undane(p, v->undane);
	else if (failed)
		part_fail(p, false, 451, "4.4.3", "%s %s: address of %s: %s", p->what, p->target.host,
		        failed->host->name, failed->why);
	else if (v->n_found || v->own != UINT32_MAX)
		say_left_out(p, v);
	else if (p->implicit)
		say_none_implicit(p);
	else
		say_none_of_mx(p);
}

/* --- all parts together --- */

/* A host of a part in its place; NULL = the part is a Unix socket */
struct candidate {
	struct route_part *part;
	struct route_host *host;
	struct verdict *verdict;
	uint32_t pref, level; /* sorted by these */
	unsigned order;       /* then as they came */
};

static int by_place(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	if (a->pref != b->pref)
		return a->pref < b->pref ? -1 : 1;
	if (a->level != b->level)
		return a->level < b->level ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

static void add_candidate(
        struct candidate *c, unsigned *n, struct route_part *p, struct route_host *h, struct verdict *v)
{
	c[*n] = (struct candidate){p, h, v, p->target.pref, h ? h->level : 0, *n};
	++*n;
}

static struct candidate *sort_candidates(struct route_query *q, struct verdict *verdicts, unsigned *n)
{
	struct candidate *c;
	unsigned most = 0;

	for (unsigned i = 0; i < q->n_parts; i++)
		most += q->parts[i].n_hosts + 1;
	c = mem_array(NULL, most, sizeof(*c));
	*n = 0;
	for (unsigned i = 0; i < q->n_parts; i++) {
		struct route_part *p = &q->parts[i];
		verdicts[i].own = UINT32_MAX;
		if (p->failure.why)
			continue;
		if (p->target.unix_socket)
			add_candidate(c, n, p, NULL, &verdicts[i]);
		if (p->of_domain)
			find_us(p, &verdicts[i]);
		for (unsigned h = 0; h < p->n_hosts; h++)
			if (p->hosts[h].preference < verdicts[i].own)
				add_candidate(c, n, p, &p->hosts[h], &verdicts[i]);
	}
	qsort(c, *n, sizeof(*c), by_place);
	return c;
}

/* Of a single part the preferences are those of DNS; of a list they count its levels. */
static void add_all(struct route_query *q, struct route *route, struct verdict *verdicts)
{
	unsigned n;
	uint16_t level = 0;
	struct candidate *c = sort_candidates(q, verdicts, &n);

	for (unsigned i = 0; i < n; i++) {
		struct adding to = {.route = route, .v = c[i].verdict};
		if (i && (c[i].pref != c[i - 1].pref || c[i].level != c[i - 1].level))
			level++;
		to.preference = q->type == NEXT_HOP_ROUTES || !c[i].host ? level : c[i].host->preference;
		if (c[i].host) {
			each_addr(c[i].part, c[i].host, add_addr, &to);
			continue;
		}
		route_add_unix(route, c[i].part->target.host, to.preference, c[i].part->target.method);
		c[i].verdict->n_added++;
	}
	mem_free(&c);
}

static void hand_out(struct route_query *q, struct route *route)
{
	uint32_t ttl_s = q->ttl_s;

	if (ttl_s == UINT32_MAX)
		ttl_s = ROUTE_TTL_LITERAL_S;
	if (ttl_s < ROUTE_TTL_MIN_S)
		ttl_s = ROUTE_TTL_MIN_S;
	if (ttl_s > ROUTE_TTL_MAX_S)
		ttl_s = ROUTE_TTL_MAX_S;
	route->expires_mono_us = loop_now_us(q->router->loop) + ttl_s * SECOND_US;
	route->epoch = q->router->epoch;
	route->mx_secure = true;
	for (unsigned i = 0; i < q->n_parts; i++) {
		route->mx_secure &= q->parts[i].mx_secure;
		route->partial |= q->parts[i].partial;
	}
	for (unsigned i = 0; i < route->n; i++)
		if (route->addrs[i].tlsa) /* whatever their order */
			route->dane += addr_hash(&route->addrs[i].addr) ^ route->addrs[i].tlsa->hash;
	route_shuffle(route, q->router->rnd);
	query_finish(q, route, NULL);
}

/* An operator's word is an operator's accident: nothing DNS says about it bounces mail. */
static void give_up(struct route_query *q)
{
	const struct part_failure *say = NULL;
	bool permanent = true;
	struct outcome o;
	struct str why;

	assert(q->n_parts > 0);
	str_init(&why);
	for (unsigned i = 0; i < q->n_parts; i++) {
		const struct part_failure *f = &q->parts[i].failure;
		bool waits = !f->permanent || !q->parts[i].of_domain;
		str_printf(&why, "%s%s", i ? "; " : "", f->why);
		if (!say || (waits && permanent))
			say = f;
		if (waits)
			permanent = false;
	}
	if (permanent)
		outcome_own(&o, OUTCOME_PERMANENT, STATE_RESOLVE, say->code, say->enhanced, "%s", why.data);
	else if (say->permanent)
		outcome_own(&o, OUTCOME_TRANSIENT, STATE_RESOLVE, 451,
		        strcmp(say->enhanced, "5.4.6") == 0 ? "4.4.6" : "4.4.3", "%s", why.data);
	else
		outcome_own(&o, OUTCOME_TRANSIENT, STATE_RESOLVE, say->code, say->enhanced, "%s", why.data);
	str_free(&why);
	query_finish(q, NULL, &o);
}

void query_judge(struct route_query *q)
{
	struct route *route = route_new();
	struct verdict *verdicts = mem_zalloc(q->n_parts * sizeof(*verdicts));

	add_all(q, route, verdicts);
	for (unsigned i = 0; i < q->n_parts; i++)
		judge_part(&q->parts[i], &verdicts[i]);
	mem_free(&verdicts);
	if (route->n) {
		hand_out(q, route);
		return;
	}
	route_unref(&route);
	give_up(q);
}
