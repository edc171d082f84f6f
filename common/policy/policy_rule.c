/*
 * policy_rule - one object of "rules": its keys, its name, the division into N and R
 */
#include "policy/policy_internal.h"

#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>
#include <string.h>
#include "base/names.h"

static bool rule_error(struct errors *errors, const char *where, const char *key, const char *text)
{
	errors_add(errors, ERROR_ERROR, "%s.%s: %s", where, key, text);
	return false;
}

static void check_keys(const json_t *json, const char *where, struct errors *errors)
{
	static const char *const known[] = {"name", "when", "bind", "sticky", "priority", "comment"};
	const char *key;
	json_t *value;
	json_object_foreach ((json_t *)json, key, value) {
		size_t i = 0;
		while (i < array_len(known) && strcmp(key, known[i]) != 0)
			i++;
		if (i == array_len(known))
			rule_error(errors, where, key,
			        "unknown key; a rule has name, when, bind, sticky, priority, comment");
	}
}

static bool is_digest(const char *name)
{
	return strlen(name) == 8 && strspn(name, "0123456789abcdefABCDEF") == 8;
}

static bool compile_name(
        struct policy *p, const json_t *json, const char *where, struct rule *out, struct errors *errors)
{
	const json_t *value = json_object_get(json, "name");
	if (value == NULL)
		return true;
	struct error err;
	if (!json_is_string(value))
		return rule_error(errors, where, "name", "must be text");
	const char *name = json_string_value(value);
	if (!name_check("a rule's name", name, &err))
		return rule_error(errors, where, "name", err.text);
	if (strcmp(name, "default") == 0 || strcmp(name, "match_domain") == 0)
		return rule_error(errors, where, "name",
		        "\"default\" and \"match_domain\" say in logs and stamps that no rule "
		        "decided; choose another name");
	if (is_digest(name))
		return rule_error(errors, where, "name",
		        "8 hexadecimal digits stand for rules without a name; choose another");
	out->name = pool_strdup(p->pool, name);
	out->named = true;
	return true;
}

static bool compile_priority(const json_t *json, const char *where, struct rule *out, struct errors *errors)
{
	const json_t *value = json_object_get(json, "priority");
	if (value == NULL)
		return true;
	const char *text = json_is_string(value) ? json_string_value(value) : "";
	out->priority = priority_parse(text);
	return out->priority != PRIORITY_NONE ||
	       rule_error(errors, where, "priority", "must be \"high\", \"normal\" or \"low\"");
}

static void set_digest(struct rule *out)
{
	uint8_t sum[32];
	gnutls_hash_fast(GNUTLS_DIG_SHA256, out->when, strlen(out->when), sum);
	for (int i = 0; i < 4; i++) {
		out->digest[2 * i] = "0123456789abcdef"[sum[i] >> 4];
		out->digest[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
	}
	out->digest[8] = '\0';
}

static const char *normal_text(struct policy *p, const struct rule_expr *e)
{
	struct str s;
	str_init(&s);
	rule_expr_print(e, &s);
	const char *text = pool_strndup(p->pool, s.data, s.len);
	str_free(&s);
	return text;
}

static bool mixed_error(const struct rule_expr *operand, const struct rule_expr *whole, const char *where,
        struct errors *errors)
{
	struct str s;
	str_init(&s);
	str_printf(&s,
	        "column %u: tests on recipients (rcptto, rcptto_domain) stand together with others in one "
	        "part; recipients "
	        "are decided after the milter, so a rule with them must have the form N AND R, each part "
	        "joined by the "
	        "outermost AND having only recipient tests or none",
	        operand->column);
	str_add(&s, "; split it into rules with the same bind");
	size_t before = s.len;
	str_add(&s, ": ");
	if (!rule_expr_print_split(whole, &s))
		s.data[s.len = before] = '\0';
	rule_error(errors, where, "when", s.data);
	str_free(&s);
	return false;
}

/* Divides the operands of the top-level AND; a rule that is no AND is its own only operand. */
static bool divide(struct policy *p, const char *where, struct rule *out, struct errors *errors)
{
	struct rule_expr *e = out->expr, **args = e->type == EXPR_AND ? e->args : &out->expr;
	size_t n = e->type == EXPR_AND ? e->n : 1;
	out->n_args = pool_alloc(p->pool, n * sizeof(*out->n_args));
	out->r_args = pool_alloc(p->pool, n * sizeof(*out->r_args));
	for (size_t i = 0; i < n; i++) {
		if (args[i]->has_recipient && args[i]->has_other)
			return mixed_error(args[i], e, where, errors);
		if (args[i]->has_recipient)
			out->r_args[out->n_r++] = args[i];
		else
			out->n_args[out->n_n++] = args[i];
	}
	return true;
}

static void header_index(struct policy *p, struct rule_field_ref *ref)
{
	bool added;
	size_t len = strlen(ref->header);
	ref->header_index = *lit_table_put(p->headers, ref->header, len, p->n_headers, &added);
	p->n_headers += added;
	if (len > p->header_name_max)
		p->header_name_max = len;
}

#define NO_NEED SIZE_MAX
#define NEED(member) offsetof(struct policy_needs, member)
static const size_t needs[] = {
#define FIELD(id, name, kind, need) need,
#include "policy/rule_field.def"
};

/* What looking at this field asks of the milter, and of struct eval. */
void policy_note_field(struct policy *p, struct rule_field_ref *ref)
{
	if (ref->field == FIELD_HEADER)
		header_index(p, ref);
	if (needs[ref->field] != NO_NEED)
		*(bool *)((char *)&p->needs + needs[ref->field]) = true;
}

static void note_test(void *ctx, struct rule_test *t)
{
	policy_note_field(ctx, &t->ref);
}

static bool compile_when(
        struct policy *p, const json_t *json, const char *where, struct rule *out, struct errors *errors)
{
	const json_t *value = json_object_get(json, "when");
	if (value == NULL)
		return rule_error(errors, where, "when",
		        "is missing; for a rule that matches every message write \"mailfrom =~ ''\"");
	if (!json_is_string(value))
		return rule_error(errors, where, "when", "must be text");
	struct error err;
	out->expr = rule_expr_parse(json_string_value(value), out->where, p->pool, &err);
	if (out->expr == NULL)
		return rule_error(errors, where, "when", err.text);
	out->when = normal_text(p, out->expr);
	set_digest(out);
	if (out->name == NULL)
		out->name = out->digest; /* the rule does not move */
	rule_expr_each_test(out->expr, note_test, p);
	return divide(p, where, out, errors);
}

bool policy_rule_compile(
        struct policy *p, const json_t *json, const char *where, struct rule *out, struct errors *errors)
{
	*out = (struct rule){.where = pool_strdup(p->pool, where), .same_digest = NO_RULE};
	if (!json_is_object(json)) {
		errors_add(errors, ERROR_ERROR, "%s: must be an object with when and bind", where);
		return false;
	}
	check_keys(json, where, errors);
	bool ok = compile_name(p, json, where, out, errors);
	ok &= compile_when(p, json, where, out, errors);
	ok &= compile_priority(json, where, out, errors);
	ok &= policy_bind_compile(
	        p, json_object_get(json, "bind"), json_object_get(json, "sticky"), where, &out->bind, errors);
	if (out->bind.type == BIND_TARGETS && out->bind.n == 1 && !out->bind.has_sticky)
		out->only_target = out->bind.targets[0];
	return ok;
}
