/*
 * policy - the snapshot: loading, counting, what it needs
 */
#include "policy/policy_internal.h"

#include <string.h>
#include "policy/policy_trace.h"

static void compile_rules(struct policy *p, struct errors *errors)
{
	struct lit_table *names = lit_table_new();
	p->n_rules = conf_n_rules(p->conf);
	p->rules = mem_table((p->n_rules + 1) * sizeof(*p->rules));
	memset(p->rules, 0, (p->n_rules + 1) * sizeof(*p->rules));
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const char *where;
		bool added;
		const json_t *json = conf_rule(p->conf, i, &where);
		struct rule *r = &p->rules[i];
		if (!policy_rule_compile(p, json, where, r, errors) || !r->named)
			continue;
		uint32_t first = *lit_table_put(names, r->name, strlen(r->name), i, &added);
		if (!added)
			errors_add(errors, ERROR_ERROR, "%s.name: \"%s\" is already the name of %s", where,
			        r->name, p->rules[first].where);
	}
	lit_table_free(&names);
}

static void file_digests(struct policy *p)
{
	p->digests = lit_table_new();
	/* from the last to the first, so that each list begins with the first rule */
	for (uint32_t i = (uint32_t)p->n_rules; i-- > 0;) {
		bool added;
		struct rule *r = &p->rules[i];
		if (r->n_r == 0)
			continue;
		uint32_t *first = lit_table_put(p->digests, r->digest, 8, i, &added);
		if (!added) {
			r->same_digest = *first;
			*first = i;
		}
	}
}

static struct policy *policy_empty(struct conf *conf)
{
	struct policy *p = mem_zalloc(sizeof(*p));
	p->refs = 1;
	p->conf = conf;
	p->pool = pool_new(16384);
	p->headers = lit_table_new();
	p->domains = lit_table_new();
	p->targets = lit_table_new();
	p->names = pool_new(1024);
	return p;
}

struct policy *policy_new(struct conf *conf, struct errors *errors)
{
	size_t n_before = errors->n_errors;
	struct policy *p = policy_empty(conf);
	compile_rules(p, errors);
	policy_claimants_build(p, errors);
	if (errors->n_errors == n_before) {
		file_digests(p);
		policy_index_build(p);
		policy_check(p, errors);
		return p;
	}
	policy_unref(&p);
	return NULL;
}

struct policy *policy_load(const char *path, struct errors *errors)
{
	return policy_reload(path, NULL, NULL, errors);
}

struct policy *policy_reload(
        const char *path, const struct policy *running, json_t *changes, struct errors *errors)
{
	size_t n_before = errors->n_errors;
	struct conf *conf = conf_load_anyway(path, errors);
	if (errors->n_errors == n_before) {
		/* in this order: what needs a restart is told by what the files say */
		if (changes != NULL)
			conf_diff_json(running->conf, conf, changes);
		if (running != NULL)
			conf_keep_running(conf, running->conf);
		return policy_new(conf, errors);
	}
	/* the rules' errors in the same answer; the rest would only repeat what is said already */
	struct policy *p = policy_empty(conf);
	compile_rules(p, errors);
	policy_unref(&p);
	return NULL;
}

struct policy *policy_ref(struct policy *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

static void policy_free(struct policy *p)
{
	for (size_t i = 0; i < p->n_rules; i++)
		if (p->rules[i].expr != NULL)
			rule_expr_release(p->rules[i].expr);
	policy_claimants_free(p);
	pool_free(&p->names);
	lit_table_free(&p->targets);
	mem_free(&p->target_names);
	policy_index_free(&p->index);
	lit_table_free(&p->headers);
	lit_table_free(&p->digests);
	lit_table_free(&p->domains);
	mem_free(&p->rules);
	pool_free(&p->pool);
	conf_unref(&p->conf);
	mem_free(&p);
}

void policy_unref(struct policy **pp)
{
	struct policy *p = *pp;
	*pp = NULL;
	if (p != NULL && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
		policy_free(p);
}

struct conf *policy_conf(const struct policy *p)
{
	return p->conf;
}

void policy_needs(const struct policy *p, struct policy_needs *out)
{
	*out = p->needs;
}

static void add_hits(void *ctx, struct rule_test *t)
{
	if (t->pattern != NULL)
		*(uint64_t *)ctx += pattern_limit_hits(t->pattern);
}

uint64_t policy_pattern_limit_hits(const struct policy *p)
{
	uint64_t hits = 0;
	for (size_t i = 0; i < p->n_rules; i++)
		rule_expr_each_test(p->rules[i].expr, add_hits, &hits);
	return hits;
}
