/*
 * policy_index - which rules a message can match at all
 *
 * A rule that holds only if a certain field has one of certain literal values (`header:X-Customer == 'acme'`, alone or
 * joined by AND, also `in` or an OR of such tests) is filed under those literals. A message then looks up its own
 * values and meets only the rules filed there, besides those that no literal stands before (patterns, networks).
 * So ten thousand rules for ten thousand customers cost one look.
 */
#include "policy/policy_internal.h"

#include <string.h>

struct literal {
	enum rule_field field;
	uint32_t header_index;
	const char *text;
};
struct literals {
	struct literal *items;
	size_t n, size;
};

static void add(struct literals *l, const struct rule_test *t, const char *text)
{
	if (l->n == l->size) {
		l->size = l->size ? l->size * 2 : 8;
		l->items = mem_array(l->items, l->size, sizeof(*l->items));
	}
	l->items[l->n++] =
	        (struct literal){.field = t->ref.field, .header_index = t->ref.header_index, .text = text};
}

static bool collect_test(struct policy *p, const struct rule_test *t, struct literals *out)
{
	if (t->op != OP_EQ && t->op != OP_IN)
		return false;
	switch (rule_field_kind(t->ref.field)) {
	case KIND_NUMBER:
		return false;
	case KIND_IP:
		if (t->op != OP_EQ)
			return false;
		char buf[ADDR_TEXT_SIZE];
		add(out, t, pool_strdup(p->pool, addr_print(&t->addr, buf)));
		return true;
	default:
		if (t->ref.field == FIELD_BODY)
			return false;
		for (size_t i = 0; i < t->n_literals; i++)
			add(out, t, t->literals[i]);
		return true;
	}
}

/* True if e can hold only where one of the literals added to `out` does. */
static bool collect(struct policy *p, const struct rule_expr *e, struct literals *out)
{
	if (e->type == EXPR_TEST)
		return collect_test(p, e->test, out);
	if (e->type == EXPR_NOT)
		return false;
	struct literals best = {.n = 0};
	bool found = false;
	for (size_t i = 0; i < e->n; i++) {
		struct literals arg = {.n = 0};
		bool ok = collect(p, e->args[i], e->type == EXPR_OR ? out : &arg);
		if (e->type == EXPR_OR && !ok)
			return false;
		if (e->type == EXPR_AND && ok && (!found || arg.n < best.n)) {
			mem_free(&best.items);
			best = arg;
			found = true;
		} else {
			mem_free(&arg.items);
		}
	}
	for (size_t i = 0; i < best.n; i++) {
		struct rule_test t = {
		        .ref = {.field = best.items[i].field, .header_index = best.items[i].header_index}};
		add(out, &t, best.items[i].text);
	}
	mem_free(&best.items);
	return e->type == EXPR_OR || found;
}

static struct lit_table *table_of(struct policy_index *x, enum rule_field field, uint32_t header_index)
{
	for (size_t i = 0; i < x->n_spaces; i++)
		if (x->spaces[i].field == field && x->spaces[i].header_index == header_index)
			return x->spaces[i].table;
	x->spaces = mem_array(x->spaces, x->n_spaces + 1, sizeof(*x->spaces));
	x->spaces[x->n_spaces] =
	        (struct index_space){.field = field, .header_index = header_index, .table = lit_table_new()};
	return x->spaces[x->n_spaces++].table;
}

static uint32_t new_posting(struct policy_index *x, uint32_t first)
{
	if ((x->n_postings & (x->n_postings - 1)) == 0)
		x->postings =
		        mem_array(x->postings, x->n_postings ? x->n_postings * 2 : 1, sizeof(*x->postings));
	struct posting *list = &x->postings[x->n_postings];
	*list = (struct posting){.rules = mem_array(NULL, 2, sizeof(*list->rules)), .n = 1, .size = 2};
	list->rules[0] = first;
	return POSTING_LIST | (uint32_t)x->n_postings++;
}

/* Rules come in order, so the lists are ascending. */
static void file_rule(struct policy_index *x, const struct literal *l, uint32_t rule)
{
	bool added;
	struct lit_table *table = table_of(x, l->field, l->header_index);
	uint32_t *at = lit_table_put(table, l->text, strlen(l->text), rule, &added);
	if (added || *at == rule)
		return;
	if (!(*at & POSTING_LIST))
		*at = new_posting(x, *at);
	struct posting *list = &x->postings[*at & ~POSTING_LIST];
	if (list->rules[list->n - 1] == rule)
		return;
	if (list->n == list->size) {
		list->size *= 2;
		list->rules = mem_array(list->rules, list->size, sizeof(*list->rules));
	}
	list->rules[list->n++] = rule;
}

/* Whether finding the rule by a literal is the whole of N: no operand but the test that was filed. */
static bool is_its_literal(const struct rule *r)
{
	return r->n_n == 1 && r->n_args[0]->type == EXPR_TEST;
}

static bool collect_rule(struct policy *p, const struct rule *r, struct literals *best)
{
	bool found = false;
	for (size_t i = 0; i < r->n_n; i++) {
		struct literals arg = {.n = 0};
		if (collect(p, r->n_args[i], &arg) && (!found || arg.n < best->n)) {
			mem_free(&best->items);
			*best = arg;
			found = true;
		} else {
			mem_free(&arg.items);
		}
	}
	return found;
}

static void note_headers(struct policy *p)
{
	struct policy_index *x = &p->index;
	x->by_header = mem_zalloc((p->n_headers + 1) * sizeof(struct lit_table *));
	for (size_t i = 0; i < x->n_spaces; i++)
		if (x->spaces[i].field == FIELD_HEADER)
			x->by_header[x->spaces[i].header_index] = x->spaces[i].table;
}

void policy_index_build(struct policy *p)
{
	struct policy_index *x = &p->index;
	x->always = mem_array(NULL, p->n_rules + 1, sizeof(*x->always));
	for (uint32_t r = 0; r < p->n_rules; r++) {
		struct literals found = {.n = 0};
		if (collect_rule(p, &p->rules[r], &found)) {
			p->rules[r].is_its_literal = is_its_literal(&p->rules[r]);
			for (size_t i = 0; i < found.n; i++)
				file_rule(x, &found.items[i], r);
		} else {
			x->always[x->n_always++] = r;
		}
		mem_free(&found.items);
	}
	note_headers(p);
}

void policy_index_free(struct policy_index *x)
{
	for (size_t i = 0; i < x->n_spaces; i++)
		lit_table_free(&x->spaces[i].table);
	for (size_t i = 0; i < x->n_postings; i++)
		mem_free(&x->postings[i].rules);
	mem_free(&x->postings);
	mem_free(&x->spaces);
	mem_free(&x->by_header);
	mem_free(&x->always);
}
