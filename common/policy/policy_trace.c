#include "policy/policy_trace.h"

#include "policy/policy_internal.h"

void policy_trace_init(struct policy_trace *t)
{
	*t = (struct policy_trace){.pool = pool_new(4096)};
}

void policy_trace_free(struct policy_trace *t)
{
	for (size_t i = 0; i < t->n_rules; i++)
		mem_free(&t->rules[i]->tests);
	mem_free(&t->rules);
	pool_free(&t->pool);
}

static void note_choice(struct policy_trace *t, const struct bind *b, struct trace_rule *out)
{
	struct str how;
	str_init(&how);
	if (b->type == BIND_HEADER) {
		str_printf(&how, "header %s", b->header.header);
	} else if (b->n > 1) {
		out->n_choices = b->n;
		out->choices = pool_alloc(t->pool, b->n * sizeof(*out->choices));
		out->weights = pool_alloc(t->pool, b->n * sizeof(*out->weights));
		for (size_t i = 0; i < b->n; i++) {
			out->choices[i] = pool_strdup(t->pool, b->targets[i]);
			out->weights[i] = b->weights[i];
		}
		if (b->has_sticky)
			str_printf(&how, "sticky %s%s", rule_field_name(b->sticky.field),
			        b->sticky.header != NULL ? b->sticky.header : "");
		else
			str_add(&how, "random");
	}
	if (how.len > 0)
		out->chosen_by = pool_strdup(t->pool, how.data);
	str_free(&how);
}

struct trace_rule *trace_add_rule(struct policy_trace *t, const struct rule *r)
{
	struct trace_rule *out = pool_alloc(t->pool, sizeof(*out));
	if ((t->n_rules & (t->n_rules - 1)) == 0)
		t->rules = mem_array(t->rules, t->n_rules ? t->n_rules * 2 : 1, sizeof(struct trace_rule *));
	t->rules[t->n_rules++] = out;
	out->name = pool_strdup(t->pool, r->name);
	out->where = pool_strdup(t->pool, r->where);
	out->when = pool_strdup(t->pool, r->when);
	note_choice(t, &r->bind, out);
	return out;
}

void trace_add_test(struct eval *ev, const struct rule_test *t, bool known, bool result)
{
	struct trace_rule *r = ev->trace_rule;
	struct pool *pool = ev->trace->pool;
	struct str text;
	const char *value;
	size_t len;
	if ((r->n_tests & (r->n_tests - 1)) == 0)
		r->tests = mem_array(r->tests, r->n_tests ? r->n_tests * 2 : 1, sizeof(*r->tests));
	struct trace_test *out = &r->tests[r->n_tests++];
	*out = (struct trace_test){.known = known, .result = result};
	str_init(&text);
	rule_test_print(t, &text);
	out->text = pool_strdup(pool, text.data);
	str_free(&text);
	if (eval_tested_text(ev, t, &value, &len)) {
		out->value_len = len < 200 ? len : 200;
		out->value = pool_strndup(pool, value, out->value_len);
	}
}
