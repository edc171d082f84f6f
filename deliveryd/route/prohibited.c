/* prohibited - see prohibited.h */
#include "config.h"
#include <string.h>

#include "base/mem.h"
#include "conf/host_rule.h"
#include "conf/strmap.h"
#include "route/prohibited.h"
#include "session/local_addrs.h"

struct rule {
	struct host_rule rule; /* strings in the pool */
	struct host_pattern *pattern;
};

struct rules {
	struct rule *items;
	unsigned n;
};

struct prohibited_set {
	struct pool *pool;
	struct rules prohibited, skipped;
	bool own_addresses;
	struct strmap own_names;
	struct addr *listeners;
	unsigned n_listeners;
	const struct local_addrs *local; /* borrows; may be NULL */
};

static const char *keep(struct pool *pool, const char *text)
{
	return text ? pool_strdup(pool, text) : NULL;
}

static void copy_rules(struct prohibited_set *s, struct rules *to, const struct host_rule *rules, unsigned n)
{
	to->items = pool_alloc(s->pool, (n + 1) * sizeof(*to->items));
	to->n = n;
	for (unsigned i = 0; i < n; i++) {
		struct rule *r = &to->items[i];
		r->rule = rules[i];
		r->rule.host = keep(s->pool, rules[i].host);
		r->rule.enhanced = keep(s->pool, rules[i].enhanced);
		r->rule.text = keep(s->pool, rules[i].text);
		if (rules[i].kind == HOST_RULE_NAME)
			r->pattern = host_pattern_new(rules[i].host, NULL);
	}
}

struct prohibited_set *prohibited_set_new(const struct prohibited *p)
{
	struct prohibited_set *s = mem_zalloc(sizeof(*s));

	s->pool = pool_new(1024);
	copy_rules(s, &s->prohibited, p->rules, p->n_rules);
	copy_rules(s, &s->skipped, p->skips, p->n_skips);
	for (unsigned i = 0; i < p->n_rules; i++)
		s->own_addresses |= p->rules[i].kind == HOST_RULE_OWN;
	for (unsigned i = 0; i < p->n_own_names; i++)
		if (!strmap_get(&s->own_names, p->own_names[i]))
			strmap_add(&s->own_names, pool_strdup(s->pool, p->own_names[i]), s);
	s->listeners = mem_array(NULL, p->n_own_listeners + 1, sizeof(*s->listeners));
	for (unsigned i = 0; i < p->n_own_listeners; i++) {
		s->listeners[i] = p->own_listeners[i];
		addr_unmap(&s->listeners[i]);
	}
	s->n_listeners = p->n_own_listeners;
	s->local = p->local;
	return s;
}

static void free_patterns(struct rules *r)
{
	for (unsigned i = 0; i < r->n; i++)
		host_pattern_free(&r->items[i].pattern);
}

void prohibited_set_free(struct prohibited_set **p)
{
	if (!*p)
		return;
	free_patterns(&(*p)->prohibited);
	free_patterns(&(*p)->skipped);
	strmap_free(&(*p)->own_names);
	mem_free(&(*p)->listeners);
	pool_free(&(*p)->pool);
	mem_free(p);
}

static bool on_this_machine(const struct prohibited_set *s, const struct addr *a)
{
	if (addr_is_loopback(a) || addr_is_any(a))
		return true;
	return s->local && local_addrs_has(s->local, a);
}

/* Connecting to the unspecified address reaches loopback. A listener on [::] takes IPv4 as well. */
static bool reaches(const struct prohibited_set *s, const struct addr *listener, const struct addr *a)
{
	if (listener->port != a->port)
		return false;
	if (addr_is_any(listener))
		return (listener->family == a->family || listener->family == AF_INET6) &&
		       on_this_machine(s, a);
	if (addr_is_any(a))
		return listener->family == a->family && addr_is_loopback(listener);
	return addr_equal_ip(listener, a);
}

static bool hits(const struct prohibited_set *s, const struct rule *r, const char *host, const struct addr *a)
{
	switch (r->rule.kind) {
	case HOST_RULE_NET:
		return addr_net_contains(&r->rule.net, a);
	case HOST_RULE_OWN:
		return s->local && local_addrs_has(s->local, a);
	case HOST_RULE_NAME:
		return r->pattern && host_pattern_matches(r->pattern, host);
	}
	return false;
}

static const struct host_rule *first_hit(
        const struct prohibited_set *s, const struct rules *r, const char *host, const struct addr *a)
{
	for (unsigned i = 0; i < r->n; i++)
		if (hits(s, &r->items[i], host, a))
			return &r->items[i].rule;
	return NULL;
}

/* Loopback as MX host is anybody's trick, and says nothing of us: it is left out and no more. */
static bool is_us(const struct prohibited_set *s, const struct addr *a)
{
	return s->own_addresses && s->local && !addr_is_loopback(a) && !addr_is_any(a) &&
	       local_addrs_has(s->local, a);
}

struct judgement prohibited_judge(
        const struct prohibited_set *s, const char *host, const struct addr *addr, bool of_domain)
{
	struct judgement j = {.why = PROHIBITED_NOT};
	struct addr a = *addr;

	addr_unmap(&a);
	for (unsigned i = 0; i < s->n_listeners; i++)
		if (reaches(s, &s->listeners[i], &a))
			return (struct judgement){.why = PROHIBITED_OWN_LISTENER, .us = of_domain};
	if (!of_domain)
		return j;
	j.us = is_us(s, &a);
	j.rule = first_hit(s, &s->prohibited, host, &a);
	if (j.rule) {
		j.why = PROHIBITED_HOST;
		return j;
	}
	j.rule = first_hit(s, &s->skipped, host, &a);
	if (j.rule)
		j.why = PROHIBITED_SKIPPED;
	return j;
}

bool prohibited_own_name(const struct prohibited_set *s, const char *host)
{
	return strmap_get(&s->own_names, host) != NULL;
}
