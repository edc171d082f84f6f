/*
 * policy_again - the decision for a message that has had one already (rebind --policy)
 *
 * What the milter knew and nobody kept (the client, who authenticated, the body) is unknown now. A test on it is then
 * neither true nor false, AND, OR and NOT follow Kleene's logic, and a rule that is in doubt ends the asking: whether it
 * decided is not known. Where a rule chooses among several targets and the message has one of them, it keeps it: to draw
 * lots again would move mail that the policy does not mean to move.
 */
#include "policy/policy_internal.h"

#include <stdlib.h>
#include <string.h>

enum answer { NO, DOUBT, YES };

static enum answer ask_test(struct eval *ev, const struct rule_test *t)
{
	bool known;
	bool result = eval_test_known(ev, t, &known);
	return !known ? DOUBT : result ? YES : NO;
}

static enum answer ask(struct eval *ev, const struct rule_expr *e)
{
	enum answer result = e->type == EXPR_OR ? NO : YES;
	switch (e->type) {
	case EXPR_TEST:
		return ask_test(ev, e->test);
	case EXPR_NOT:
		return YES - ask(ev, e->args[0]);
	case EXPR_AND:
	case EXPR_OR:
		break;
	}
	for (size_t i = 0; i < e->n; i++) {
		enum answer a = ask(ev, e->args[i]);
		if (e->type == EXPR_AND ? a < result : a > result)
			result = a;
	}
	return result;
}

static enum answer ask_all(struct eval *ev, struct rule_expr *const *args, size_t n)
{
	enum answer result = YES;
	for (size_t i = 0; i < n && result != NO; i++) {
		enum answer a = ask(ev, args[i]);
		result = a < result ? a : result;
	}
	return result;
}

/* Its present target, if the rule may choose it; else as for a new message. */
static bool bind_again(
        struct eval *ev, const struct rule *r, const char *present, struct decision_target *target)
{
	*target = (struct decision_target){.name = r->only_target};
	if (r->only_target)
		return true;
	for (size_t i = 0; r->bind.type != BIND_HEADER && i < r->bind.n; i++) {
		if (strcmp(r->bind.targets[i], present) == 0) {
			target->name = r->bind.targets[i];
			return true;
		}
	}
	return eval_bind(ev, r, target);
}

/* match_domain; false = in doubt */
static bool ask_domain(struct eval *ev, struct decision *d)
{
	enum claim claim;
	const char *binding = eval_claimant(ev, &claim);
	d->claimed = binding != NULL;
	d->target.name = pool_strdup(d->pool, binding ? binding : "default");
	d->rule = binding ? "match_domain" : "default";
	return claim != CLAIM_UNKNOWN;
}

static bool ask_rules(struct eval *ev, const char *present, struct decision *d)
{
	const struct policy *p = ev->policy;
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct rule *r = &p->rules[i];
		struct decision_target target;
		enum answer a = ask_all(ev, r->n_args, r->n_n);
		if (a == DOUBT)
			return false;
		if (a == NO || !bind_again(ev, r, present, &target))
			continue;
		if (r->n_r > 0) {
			decision_add_open(d, r, &target);
			continue;
		}
		decision_set_target(d, &d->target, &target);
		d->rule = pool_strdup(d->pool, r->name);
		d->priority = r->priority;
		d->claimed = true;
		return true;
	}
	return ask_domain(ev, d);
}

bool policy_eval_again(const struct policy *p, const struct facts *facts, const char *present,
        struct rnd *choose, struct decision *d)
{
	struct eval ev;
	struct pool *work = pool_new(4096);
	eval_init(&ev, p, facts, work);
	*d = (struct decision){.pool = pool_new(512)};
	ev.choose = choose;
	bool sure = ask_rules(&ev, present, d);
	eval_done(&ev);
	pool_free(&work);
	return sure;
}
