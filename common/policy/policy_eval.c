/*
 * policy_eval - the decision for a message: open rules, the target in front
 *
 * Rules are asked in order. One without recipient tests that holds ends the list; one with them whose other part
 * holds stays open. If none ended the list, match_domain is asked for the envelope sender's domain, then `default`.
 */
#include "policy/policy_internal.h"

#include <stdlib.h>
#include <string.h>
#include "policy/policy_trace.h"

static const char *const priority_names[] = {NULL, "high", "normal", "low"};

enum priority priority_parse(const char *text)
{
	for (size_t i = 1; i < array_len(priority_names); i++)
		if (strcmp(text, priority_names[i]) == 0)
			return (enum priority)i;
	return PRIORITY_NONE;
}

const char *priority_name(enum priority p)
{
	return priority_names[p];
}

void decision_set_target(struct decision *d, struct decision_target *to, const struct decision_target *from)
{
	*to = *from;
	to->name = pool_strdup(d->pool, from->name);
}

void decision_add_open(struct decision *d, const struct rule *r, const struct decision_target *target)
{
	if ((d->n_open & (d->n_open - 1)) == 0) {
		struct open_rule *more = pool_alloc(d->pool, (d->n_open ? d->n_open * 2 : 1) * sizeof(*more));
		if (d->n_open > 0)
			memcpy(more, d->open, d->n_open * sizeof(*more));
		d->open = more;
	}
	struct open_rule *o = &d->open[d->n_open++];
	o->name = pool_strdup(d->pool, r->name);
	memcpy(o->digest, r->digest, sizeof(o->digest));
	decision_set_target(d, &o->target, target);
}

/* True if the rule ends the list. `found`: by the index. */
static bool try_rule(struct eval *ev, const struct rule *r, bool found, struct decision *d)
{
	struct decision_target target = {.name = r->only_target};
	if (ev->trace != NULL)
		ev->trace_rule = trace_add_rule(ev->trace, r);
	bool matched = (found && r->is_its_literal) || eval_all(ev, r->n_args, r->n_n);
	matched = matched && (r->only_target != NULL || eval_bind(ev, r, &target));
	if (ev->trace_rule != NULL) {
		ev->trace_rule->matched = matched;
		ev->trace_rule->open = matched && r->n_r > 0;
		ev->trace_rule->target = matched ? pool_strdup(ev->trace->pool, target.name) : NULL;
		ev->trace_rule = NULL;
	}
	if (!matched)
		return false;
	if (r->n_r > 0) {
		decision_add_open(d, r, &target);
		return false;
	}
	decision_set_target(d, &d->target, &target);
	d->rule = pool_strdup(d->pool, r->name);
	d->priority = r->priority;
	d->claimed = true;
	return true;
}

/* --- candidates: rule numbers from the index, in order ------------------------------------------------------------ */

struct candidates {
	uint32_t few[64];
	uint32_t *list;
	size_t n, size;
};

static void add_candidates(struct eval *ev, struct candidates *c, const uint32_t *rules, size_t n)
{
	if (c->n + n > c->size) {
		size_t size = c->size;
		while (size < c->n + n)
			size *= 2;
		uint32_t *more = pool_alloc(ev->pool, size * sizeof(*more));
		memcpy(more, c->list, c->n * sizeof(*more));
		c->list = more;
		c->size = size;
	}
	memcpy(c->list + c->n, rules, n * sizeof(*rules));
	c->n += n;
}

static void look_up(struct eval *ev, struct candidates *c, const struct lit_table *table, uint32_t hash,
        const char *value, size_t len)
{
	uint32_t at;
	if (!lit_table_get_hashed(table, hash, value, len, &at))
		return;
	if (!(at & POSTING_LIST)) {
		add_candidates(ev, c, &at, 1);
		return;
	}
	const struct posting *p = &ev->policy->index.postings[at & ~POSTING_LIST];
	add_candidates(ev, c, p->rules, p->n);
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void find_candidates(struct eval *ev, struct candidates *c)
{
	const struct policy_index *x = &ev->policy->index;
	const char *value;
	size_t len;
	c->list = c->few;
	c->size = array_len(c->few);
	for (uint32_t s = 0; s < x->n_spaces; s++) {
		struct rule_field_ref ref = {
		        .field = x->spaces[s].field, .header_index = x->spaces[s].header_index};
		if (ref.field == FIELD_HEADER) {
			for (const struct header_value *v = ev->headers[ref.header_index].first; v != NULL;
			        v = v->next)
				look_up(ev, c, x->spaces[s].table, v->hash, v->value, v->len);
		} else if (eval_field_text(ev, &ref, &value, &len)) {
			look_up(ev, c, x->spaces[s].table, lit_table_hash(value, len), value, len);
		}
	}
	if (c->n > 1)
		qsort(c->list, c->n, sizeof(*c->list), compare_u32);
}

static bool ask_rules(struct eval *ev, struct decision *d)
{
	const struct policy *p = ev->policy;
	const struct policy_index *x = &p->index;
	if (ev->trace != NULL) {
		for (size_t i = 0; i < p->n_rules; i++)
			if (try_rule(ev, &p->rules[i], false, d))
				return true;
		return false;
	}
	struct candidates c = {.n = 0};
	find_candidates(ev, &c);
	size_t a = 0, b = 0;
	while (a < c.n || b < x->n_always) {
		uint32_t next;
		bool found = true;
		if (b == x->n_always || (a < c.n && c.list[a] < x->always[b])) {
			next = c.list[a];
			while (a < c.n && c.list[a] == next) /* the same rule by several headers */
				a++;
		} else {
			next = x->always[b++];
			found = false;
		}
		if (try_rule(ev, &p->rules[next], found, d))
			return true;
	}
	return false;
}

/* --- match_domain ------------------------------------------------------------------------------------------------- */

static bool believed(const struct eval *ev, const struct claimant *c)
{
	if (c->anyone)
		return true;
	if (c->nets != NULL && ev->sender_ip.family != AF_UNSPEC &&
	        addr_set_find(c->nets, &ev->sender_ip, NULL))
		return true;
	return c->authenticated && ev->facts->auth_user != NULL && ev->facts->auth_user[0] != '\0';
}

static const struct claimant *find_claimant(const struct eval *ev)
{
	const struct policy *p = ev->policy;
	uint32_t at;
	if (ev->mailfrom_domain[0] != '\0' && lit_table_get_hashed(p->domains, ev->domain_hash,
	                                              ev->mailfrom_domain, strlen(ev->mailfrom_domain), &at))
		return policy_claimant(p, at);
	return NULL;
}

const char *eval_claimant(struct eval *ev, enum claim *claim)
{
	const struct claimant *c = find_claimant(ev);
	bool ip_unknown = c != NULL && c->nets != NULL && ev->sender_ip.family == AF_UNSPEC;
	bool user_unknown = c != NULL && c->authenticated && ev->facts->auth_user == NULL;
	bool ok = c != NULL && believed(ev, c);
	*claim = ok ? CLAIM_YES : ip_unknown || user_unknown ? CLAIM_UNKNOWN : CLAIM_NO;
	return ok ? c->name : NULL;
}

/* The name of the binding that claims the envelope sender's domain and is believed; NULL = none. */
static const char *ask_domains(struct eval *ev)
{
	const struct claimant *c = find_claimant(ev);
	bool ok = c != NULL && believed(ev, c);
	if (ev->trace != NULL) {
		ev->trace->domain = pool_strdup(ev->trace->pool, ev->mailfrom_domain);
		ev->trace->match_domain = c != NULL ? pool_strdup(ev->trace->pool, c->name) : NULL;
		ev->trace->believed = ok;
	}
	return ok ? c->name : NULL;
}

/*
 * Slots were announced while the facts were collected; now the records they point to. They arrive while other things
 * are done: with a hundred thousand entries waiting for them would be a third of a message's time.
 */
static void expect_records(const struct eval *ev)
{
	const struct policy_index *x = &ev->policy->index;
	lit_table_expect_record(ev->policy->domains, ev->domain_hash);
	for (uint32_t s = 0; s < x->n_spaces; s++) {
		if (x->spaces[s].field != FIELD_HEADER)
			continue;
		const struct header_value *v = ev->headers[x->spaces[s].header_index].first;
		for (; v != NULL; v = v->next)
			lit_table_expect_record(x->spaces[s].table, v->hash);
	}
}

void policy_eval(const struct policy *p, const struct facts *facts, struct rnd *choose, struct decision *d,
        struct policy_trace *trace)
{
	struct eval ev;
	struct pool *work = pool_new(4096);
	eval_init(&ev, p, facts, work);
	expect_records(&ev);
	*d = (struct decision){.pool = pool_new(512)};
	ev.choose = choose;
	ev.trace = trace;
	if (!ask_rules(&ev, d)) {
		const char *binding = ask_domains(&ev);
		d->claimed = binding != NULL;
		d->target.name = pool_strdup(d->pool, binding != NULL ? binding : "default");
		d->rule = binding != NULL ? "match_domain" : "default";
	}
	eval_done(&ev);
	pool_free(&work);
}

void decision_free(struct decision *d)
{
	pool_free(&d->pool);
	*d = (struct decision){.pool = NULL};
}

bool decision_is_final_unclaimed(const struct decision *d)
{
	return !d->claimed && d->n_open == 0;
}
