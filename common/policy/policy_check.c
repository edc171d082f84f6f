/*
 * policy_check - warnings: what loads, but cannot be what was meant (bindings by themselves are conf's to judge)
 *
 * unreachable rule      An earlier rule decides every message that would reach it: one whose tests (operands of the
 *                       outermost AND) are all among its own. Found by filing each rule under the text of one of its
 *                       operands, so that ten thousand rules stay cheap.
 * unassigned binding    No rule, match_domain or group target can choose it.
 * header rule           {"header": NAME} believes whoever writes the header; without a test on the client anyone may.
 * size of the stamp     Rules that test recipients only may all be open for one message; each has its place in the stamp.
 * stamp header          A rule that looks at the stamp's own header never sees it.
 */
#include "policy/policy_internal.h"
#include "policy/stamp.h"

#include <string.h>

/* --- unreachable rules -------------------------------------------------------------------------------------------- */

/* Normal texts of a rule's operands. Those that are always true are left out: they do not narrow a rule. */
struct operands {
	const char **texts;
	size_t n;
};

static bool always_true(const struct rule_expr *e)
{
	if (e->type != EXPR_TEST || e->test->op != OP_MATCH)
		return false;
	enum rule_field f = e->test->ref.field;
	static const char *const patterns[] = {"", ".*", "^", "^.*", "$", ".*$", "^.*$"};
	if (f != FIELD_MAILFROM && f != FIELD_MAILFROM_DOMAIN && !rule_field_is_recipient(f))
		return false; /* may be unknown, or a header that is not there */
	for (size_t i = 0; i < array_len(patterns); i++)
		if (strcmp(e->test->text, patterns[i]) == 0)
			return true;
	return false;
}

/* Literals as they are compared, so that 'Example.COM' and 'example.com' are one. Only used here: digests keep to what
 * was written. */
static void operand_print(const struct rule_expr *e, struct str *out)
{
	const struct rule_test *t = e->test;
	if (e->type != EXPR_TEST || t->n_literals != 1) {
		rule_expr_print(e, out);
		return;
	}
	str_add(out, rule_field_name(t->ref.field));
	for (const char *p = t->ref.header; p != NULL && *p != '\0'; p++)
		str_add_char(out, ascii_lower(*p));
	str_printf(out, " %s '%s'", t->op == OP_NE ? "!=" : "==", t->literals[0]); /* or `in` of one */
}

static void add_operands(struct operands *out, struct rule_expr *const *args, size_t n, struct pool *pool)
{
	struct str s;
	str_init(&s);
	for (size_t i = 0; i < n; i++) {
		if (always_true(args[i]))
			continue;
		str_clear(&s);
		operand_print(args[i], &s);
		out->texts[out->n++] = pool_strndup(pool, s.data, s.len);
	}
	str_free(&s);
}

static bool has_all(const struct operands *of, const struct operands *in)
{
	for (size_t i = 0; i < in->n; i++) {
		size_t k = 0;
		while (k < of->n && strcmp(of->texts[k], in->texts[i]) != 0)
			k++;
		if (k == of->n)
			return false;
	}
	return true;
}

struct reach {
	const struct policy *p;
	struct operands *operands; /* by rule */
	struct lit_table *by_text; /* operand -> last rule filed under it */
	uint32_t *previous;        /* rule -> the one filed there before */
	uint32_t all;              /* a rule that takes everything, NO_RULE while none */
	uint32_t all_recipients;   /* one that takes everything by recipient tests */
};

static uint32_t find_cover(const struct reach *x, uint32_t rule)
{
	const struct operands *own = &x->operands[rule];
	if (x->all != NO_RULE)
		return x->all;
	if (x->all_recipients != NO_RULE && x->p->rules[rule].n_r > 0)
		return x->all_recipients;
	for (size_t i = 0; i < own->n; i++) {
		uint32_t at;
		if (!lit_table_get(x->by_text, own->texts[i], strlen(own->texts[i]), &at))
			continue;
		for (; at != NO_RULE; at = x->previous[at])
			if (has_all(own, &x->operands[at]) &&
			        (x->p->rules[at].n_r == 0 || x->p->rules[rule].n_r > 0))
				return at;
	}
	return NO_RULE;
}

static void file_rule(struct reach *x, uint32_t rule)
{
	const struct rule *r = &x->p->rules[rule];
	const struct operands *own = &x->operands[rule];
	if (r->bind.type == BIND_HEADER)
		return; /* may fail to match after all */
	if (own->n == 0) {
		if (r->n_r == 0)
			x->all = rule;
		else
			x->all_recipients = rule;
		return;
	}
	bool added;
	uint32_t *last = lit_table_put(x->by_text, own->texts[0], strlen(own->texts[0]), rule, &added);
	x->previous[rule] = added ? NO_RULE : *last;
	*last = rule;
}

static void check_reach(const struct policy *p, struct errors *errors)
{
	struct pool *pool = pool_new(16384);
	struct reach x = {.p = p, .by_text = lit_table_new(), .all = NO_RULE, .all_recipients = NO_RULE};
	x.operands = pool_alloc(pool, (p->n_rules + 1) * sizeof(*x.operands));
	x.previous = pool_alloc(pool, (p->n_rules + 1) * sizeof(*x.previous));
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct rule *r = &p->rules[i];
		x.operands[i].texts = pool_alloc(pool, (r->n_n + r->n_r) * sizeof(char *));
		add_operands(&x.operands[i], r->n_args, r->n_n, pool);
		add_operands(&x.operands[i], r->r_args, r->n_r, pool);
		uint32_t cover = find_cover(&x, i);
		if (cover != NO_RULE)
			errors_add(errors, ERROR_WARNING,
			        "%s: can never be reached: %s (\"%s\") matches all it matches", r->where,
			        p->rules[cover].where, p->rules[cover].name);
		else
			file_rule(&x, i);
	}
	lit_table_free(&x.by_text);
	pool_free(&pool);
}

/* --- bindings ----------------------------------------------------------------------------------------------------- */

static void mark_target(const struct policy *p, const char *target, bool *assigned)
{
	if (strncmp(target, "group:", 6) != 0) {
		assigned[conf_binding_named(p->conf, target)->index] = true;
		return;
	}
	const struct conf_group *g = conf_group_named(p->conf, target + 6);
	for (size_t i = 0; i < g->n_members; i++)
		assigned[g->members[i]] = true;
}

static void check_assigned(const struct policy *p, struct errors *errors)
{
	size_t n = conf_n_bindings(p->conf);
	bool *assigned = mem_zalloc(n * sizeof(*assigned) + 1);
	bool by_header = false; /* any binding may be named there */
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct bind *b = &p->rules[i].bind;
		by_header |= b->type == BIND_HEADER;
		for (size_t k = 0; k < b->n; k++)
			mark_target(p, b->targets[k], assigned);
	}
	for (uint32_t i = 1; i < n && !by_header; i++) {
		const struct conf_binding *b = conf_binding(p->conf, i);
		if (!assigned[i] && b->n_match_domain == 0)
			errors_add(errors, ERROR_WARNING,
			        "%s: nothing assigns mail to it: no rule, group target or match_domain",
			        b->where);
	}
	mem_free(&assigned);
}

/* --- single rules ------------------------------------------------------------------------------------------------- */

static void note_client_test(void *ctx, struct rule_test *t)
{
	switch (t->ref.field) {
	case FIELD_SENDER_IP:
	case FIELD_SENDER_HOST:
	case FIELD_AUTH_USER:
	case FIELD_RECV_IP:
	case FIELD_RECV_PORT:
	case FIELD_DAEMON_NAME:
		*(bool *)ctx = true;
		break;
	default:
		break;
	}
}

struct own_header {
	const char *name;
	bool seen;
};

static void note_own_header(void *ctx, struct rule_test *t)
{
	struct own_header *own = ctx;
	own->seen |= t->ref.header != NULL && ascii_ieq(t->ref.header, own->name);
}

static void check_rule(const struct policy *p, const struct rule *r, struct errors *errors)
{
	struct own_header own = {.name = conf_process(p->conf)->stamp_header};
	bool client = false;
	rule_expr_each_test(r->expr, note_client_test, &client);
	if (r->bind.type == BIND_HEADER && !client)
		errors_add(errors, ERROR_WARNING,
		        "%s: lets whoever writes the header %s choose the binding; add a test on the client, "
		        "as "
		        "\"AND sender_ip in '10.0.0.0/8'\"",
		        r->where, r->bind.header.header);
	rule_expr_each_test(r->expr, note_own_header, &own);
	if (r->bind.type == BIND_HEADER)
		own.seen |= ascii_ieq(r->bind.header.header, own.name);
	if (own.seen)
		errors_add(errors, ERROR_WARNING,
		        "%s: looks at %s, the stamp itself: it is taken off before rules are asked", r->where,
		        own.name);
}

/* What one open rule adds to a stamp at most: "NAME/DIGEST/TARGET/STICKY," */
static size_t size_in_stamp(const struct rule *r)
{
	size_t target = r->bind.type == BIND_HEADER ? strlen("group:") + 64 : 0;
	for (size_t i = 0; i < r->bind.n; i++)
		target = strlen(r->bind.targets[i]) > target ? strlen(r->bind.targets[i]) : target;
	return strlen(r->name) + 1 + 8 + 1 + target + (r->bind.has_sticky ? 9 : 0) + 1;
}

/* Rules that test nothing but recipients are open for each message that comes to them. */
static void check_stamp_size(const struct policy *p, struct errors *errors)
{
	size_t n = 0, size = 0;
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct rule *r = &p->rules[i];
		if (r->n_n > 0 || r->n_r == 0)
			continue;
		n++;
		size += size_in_stamp(r);
	}
	if (size > STAMP_MAX_BYTES)
		errors_add(errors, ERROR_WARNING,
		        "%s: %zu rules test recipients and nothing else, so that all may be open for one "
		        "message; its stamp "
		        "would have %zu bytes, more than the %d that can be inserted, and the message would "
		        "have to wait: put "
		        "the recipients of one target into one rule, as \"rcptto in 'a@b.example, "
		        "c@d.example'\"",
		        p->rules[p->n_rules - 1].where, n, size, STAMP_MAX_BYTES);
}

void policy_check(const struct policy *p, struct errors *errors)
{
	check_reach(p, errors);
	for (size_t i = 0; i < p->n_rules; i++)
		check_rule(p, &p->rules[i], errors);
	check_assigned(p, errors);
	check_stamp_size(p, errors);
}
