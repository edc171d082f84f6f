/*
 * rule_print - trees back to text: the normal form, and how a mixed rule would be split
 */
#include "policy/rule_internal.h"

#include <string.h>

void rule_test_print(const struct rule_test *t, struct str *out)
{
	str_add(out, rule_field_name(t->ref.field));
	if (t->ref.header != NULL)
		str_add(out, t->ref.header);
	str_printf(out, " %s '", rule_op_name(t->op));
	for (const char *p = t->text; *p != '\0'; p++) {
		if (*p == '\'' || *p == '\\')
			str_add_char(out, '\\');
		str_add_char(out, *p);
	}
	str_add_char(out, '\'');
}

static void print_within(const struct rule_expr *e, enum rule_expr_type outer, struct str *out)
{
	/* OR < AND < NOT: only what binds less tightly than its surroundings needs parentheses */
	bool parens = e->type < outer && e->type != EXPR_TEST;
	if (parens)
		str_add_char(out, '(');
	rule_expr_print(e, out);
	if (parens)
		str_add_char(out, ')');
}

void rule_expr_print(const struct rule_expr *e, struct str *out)
{
	switch (e->type) {
	case EXPR_TEST:
		rule_test_print(e->test, out);
		return;
	case EXPR_NOT:
		str_add(out, "NOT ");
		/* NOT (NOT x) keeps its parentheses: the grammar has no NOT NOT */
		print_within(e->args[0], EXPR_TEST, out);
		return;
	default:
		for (size_t i = 0; i < e->n; i++) {
			if (i > 0)
				str_add(out, e->type == EXPR_AND ? " AND " : " OR ");
			print_within(e->args[i], e->type, out);
		}
	}
}

/*
 * The split is the disjunctive normal form, taking parts with only one kind of test as they are: each term is then
 * a rule N AND R. Terms are lists of texts joined by AND; the product of an AND is taken one operand at a time.
 */
#define SPLIT_MAX 6

struct terms {
	char *text[SPLIT_MAX];
	size_t n;
	bool too_many;
};

static void terms_add(struct terms *t, char *text)
{
	if (t->n == SPLIT_MAX) {
		t->too_many = true;
		mem_free(&text);
		return;
	}
	t->text[t->n++] = text;
}

static void terms_clear(struct terms *t)
{
	for (size_t i = 0; i < t->n; i++)
		mem_free(&t->text[i]);
	t->n = 0;
}

static void terms_of(const struct rule_expr *e, bool negated, struct terms *out);

static void leaf_terms(const struct rule_expr *e, bool negated, struct terms *out)
{
	struct str s;
	str_init(&s);
	if (negated) {
		str_add(&s, "NOT ");
		print_within(e, EXPR_TEST, &s);
	} else {
		print_within(e, EXPR_AND, &s);
	}
	terms_add(out, str_steal(&s));
}

static void product_terms(const struct rule_expr *e, bool negated, struct terms *out)
{
	struct terms sum = {.n = 0};
	for (size_t i = 0; i < e->n; i++) {
		struct terms arg = {.n = 0}, next = {.n = 0};
		terms_of(e->args[i], negated, &arg);
		next.too_many = sum.too_many || arg.too_many;
		for (size_t a = 0; a < (i == 0 ? 1 : sum.n); a++)
			for (size_t b = 0; b < arg.n; b++)
				terms_add(&next, i == 0 ? mem_strdup(arg.text[b])
				                        : mem_printf("%s AND %s", sum.text[a], arg.text[b]));
		terms_clear(&sum);
		terms_clear(&arg);
		sum = next;
	}
	out->too_many |= sum.too_many;
	for (size_t i = 0; i < sum.n; i++)
		terms_add(out, sum.text[i]);
}

static void terms_of(const struct rule_expr *e, bool negated, struct terms *out)
{
	if (!(e->has_recipient && e->has_other) || e->type == EXPR_TEST) {
		leaf_terms(e, negated, out);
	} else if (e->type == EXPR_NOT) {
		terms_of(e->args[0], !negated, out);
	} else if ((e->type == EXPR_AND) != negated) {
		product_terms(e, negated, out);
	} else {
		for (size_t i = 0; i < e->n; i++)
			terms_of(e->args[i], negated, out);
	}
}

bool rule_expr_print_split(const struct rule_expr *e, struct str *out)
{
	struct terms t = {.n = 0};
	terms_of(e, false, &t);
	for (size_t i = 0; i < t.n && !t.too_many; i++)
		str_printf(out, "%s\"%s\"", i == 0 ? "" : i + 1 < t.n ? ", " : " and ", t.text[i]);
	bool ok = !t.too_many;
	terms_clear(&t);
	return ok;
}
