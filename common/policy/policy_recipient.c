/*
 * policy_recipient - the open rules of a decision, asked for one final recipient
 */
#include "policy/policy_internal.h"

#include <string.h>
#include "policy/policy_trace.h"

/* The rule with this digest; of several with the same condition the one of that name. */
static const struct rule *find_rule(const struct policy *p, const struct open_rule *o)
{
	uint32_t first;
	if (!lit_table_get(p->digests, o->digest, 8, &first))
		return NULL;
	for (uint32_t i = first; i != NO_RULE; i = p->rules[i].same_digest)
		if (strcmp(p->rules[i].name, o->name) == 0)
			return &p->rules[i];
	return &p->rules[first];
}

static bool matches(struct eval *ev, const struct rule *r, const struct open_rule *o)
{
	if (ev->trace != NULL)
		ev->trace_rule = trace_add_rule(ev->trace, r);
	bool matched = eval_all(ev, r->r_args, r->n_r);
	if (ev->trace_rule != NULL) {
		ev->trace_rule->matched = matched;
		ev->trace_rule->target = matched ? pool_strdup(ev->trace->pool, o->target.name) : NULL;
		ev->trace_rule = NULL;
	}
	return matched;
}

static const struct rule *find_among(
        const struct policy *const *policies, size_t n, const struct open_rule *o)
{
	const struct rule *r = NULL;
	for (size_t i = 0; i < n && r == NULL; i++)
		r = find_rule(policies[i], o);
	return r;
}

void policy_recipient_among(const struct policy *const *policies, size_t n, const struct decision *d,
        const char *rcpt, struct recipient_choice *out, struct policy_trace *trace)
{
	*out = (struct recipient_choice){.target = d->target.name,
	        .has_sticky = d->target.has_sticky,
	        .sticky = d->target.sticky,
	        .rule = d->rule,
	        .priority = d->priority,
	        .claimed = d->claimed};
	if (d->n_open == 0)
		return;
	struct eval ev;
	struct facts none = {.mailfrom = "", .recv_port = -1, .size = -1};
	struct pool *work = pool_new(1024);
	eval_init(&ev, policies[0], &none, work); /* recipient tests look at nothing else of a policy */
	eval_set_recipient(&ev, rcpt);
	ev.trace = trace;
	for (size_t i = 0; i < d->n_open; i++) {
		const struct open_rule *o = &d->open[i];
		const struct rule *r = find_among(policies, n, o);
		if (r == NULL) {
			out->stale_rules++;
			continue;
		}
		if (!matches(&ev, r, o))
			continue;
		out->target = o->target.name;
		out->has_sticky = o->target.has_sticky;
		out->sticky = o->target.sticky;
		out->rule = o->name;
		out->priority = r->priority;
		out->claimed = true;
		break;
	}
	eval_done(&ev);
	pool_free(&work);
}

void policy_recipient(
        const struct policy *p, const struct decision *d, const char *rcpt, struct recipient_choice *out)
{
	policy_recipient_among(&p, 1, d, rcpt, out, NULL);
}
