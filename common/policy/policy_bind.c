/*
 * policy_bind - "bind" and "sticky": what a rule binds to, and the choice among several
 */
#include "policy/policy_internal.h"

#include <math.h>
#include <string.h>

static bool bind_error(struct errors *errors, const char *where, const char *key, const char *text)
{
	errors_add(errors, ERROR_ERROR, "%s.%s: %s", where, key, text);
	return false;
}

bool policy_target_known(const struct conf *conf, const char *target)
{
	if (strncmp(target, "group:", 6) != 0)
		return conf_binding_named(conf, target) != NULL;
	/* the group `default` holds the ungrouped bindings for inheritance only */
	return strcmp(target + 6, "default") != 0 && conf_group_named(conf, target + 6) != NULL;
}

static bool check_target(struct policy *p, const char *target, const char *where, struct errors *errors)
{
	bool known = policy_target_known(p->conf, target);
	const struct conf_group *g =
	        known && strncmp(target, "group:", 6) == 0 ? conf_group_named(p->conf, target + 6) : NULL;

	if (known && (g == NULL || g->n_members > 0))
		return true;
	if (conf_incomplete(p->conf))
		return false; /* it may stand in the file that could not be read, which is told */
	if (known) {
		errors_add(
		        errors, ERROR_ERROR, "%s.bind: the group \"%s\" has no bindings", where, target + 6);
	} else if (strcmp(target, "group:default") == 0) {
		bind_error(errors, where, "bind",
		        "\"group:default\" is no target: it holds the ungrouped bindings for inheritance "
		        "only");
	} else if (strncmp(target, "group:", 6) == 0) {
		errors_add(
		        errors, ERROR_ERROR, "%s.bind: there is no binding group \"%s\"", where, target + 6);
	} else if (conf_group_named(p->conf, target) != NULL) {
		errors_add(errors, ERROR_ERROR,
		        "%s.bind: there is no binding \"%s\"; for the group write \"group:%s\"", where,
		        target, target);
	} else {
		errors_add(errors, ERROR_ERROR, "%s.bind: there is no binding \"%s\"", where, target);
	}
	return false;
}

/* One copy of each name, so that messages of many rules meet the same memory. */
static const char *intern(struct policy *p, const char *target)
{
	bool added;
	size_t len = strlen(target);
	uint32_t at;
	if (lit_table_get(p->targets, target, len, &at))
		return p->target_names[at];
	const char *copy = pool_strdup(p->names, target);
	if ((p->n_targets & (p->n_targets - 1)) == 0)
		p->target_names =
		        mem_array(p->target_names, p->n_targets ? p->n_targets * 2 : 1, sizeof(char *));
	p->target_names[p->n_targets] = copy;
	lit_table_put(p->targets, copy, len, (uint32_t)p->n_targets++, &added);
	return copy;
}

static bool add_target(struct policy *p, struct bind *b, const char *target, double weight, const char *where,
        struct errors *errors)
{
	if (!check_target(p, target, where, errors))
		return false;
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(b->targets[i], target) == 0) {
			errors_add(errors, ERROR_ERROR,
			        "%s.bind: \"%s\" stands there twice; to give it more mail write an object "
			        "with weights: "
			        "{\"%s\": 2, ...}",
			        where, target, target);
			return false;
		}
	b->targets[b->n] = intern(p, target);
	b->weights[b->n++] = weight;
	b->total += weight;
	return true;
}

static bool compile_list(
        struct policy *p, const json_t *bind, const char *where, struct bind *b, struct errors *errors)
{
	size_t i;
	json_t *value;
	bool ok = true;
	if (json_array_size(bind) == 0)
		return bind_error(errors, where, "bind", "the list is empty");
	json_array_foreach (bind, i, value) {
		if (!json_is_string(value))
			ok = bind_error(
			        errors, where, "bind", "a list holds names of bindings, or group:NAME");
		else
			ok &= add_target(p, b, json_string_value(value), 1, where, errors);
	}
	return ok;
}

static bool compile_weights(
        struct policy *p, const json_t *bind, const char *where, struct bind *b, struct errors *errors)
{
	const char *key;
	json_t *value;
	bool ok = true;
	json_object_foreach ((json_t *)bind, key, value) {
		if (strcmp(key, "comment") == 0 && !json_is_number(value))
			continue;
		double weight = json_number_value(value);
		if (!json_is_number(value) || !(weight > 0) || weight > 1e9) {
			errors_add(errors, ERROR_ERROR, "%s.bind.%s: a weight is a number greater than 0",
			        where, key);
			ok = false;
		} else {
			ok &= add_target(p, b, key, weight, where, errors);
		}
	}
	if (ok && b->n == 0)
		return bind_error(errors, where, "bind",
		        "the object is empty; it gives targets their weights, or is {\"header\": NAME}");
	return ok;
}

/* {"header": "X-Customer"}, as against {"header": 3}: the weight of a binding of that name */
static const json_t *header_form(const json_t *bind)
{
	const json_t *name = json_object_get(bind, "header");
	return json_is_string(name) ? name : NULL;
}

static bool compile_header(
        struct policy *p, const json_t *bind, const char *where, struct bind *b, struct errors *errors)
{
	struct error err;
	const char *key;
	json_t *value;
	json_object_foreach ((json_t *)bind, key, value) {
		if (strcmp(key, "header") != 0 && strcmp(key, "comment") != 0)
			return bind_error(errors, where, "bind", "beside \"header\" there is nothing else");
	}
	char *text = mem_printf("header:%s", json_string_value(header_form(bind)));
	b->type = BIND_HEADER;
	bool ok = rule_field_parse(text, p->pool, &b->header, &err);
	mem_free(&text);
	if (!ok) {
		error_set(&err, "\"%s\" is not the name of a header", json_string_value(header_form(bind)));
		return bind_error(errors, where, "bind.header", err.text);
	}
	policy_note_field(p, &b->header);
	return true;
}

static bool compile_sticky(
        struct policy *p, const json_t *sticky, const char *where, struct bind *b, struct errors *errors)
{
	struct error err;
	if (sticky == NULL)
		return true;
	if (!json_is_string(sticky))
		return bind_error(errors, where, "sticky",
		        "must be the name of a field, as \"mailfrom\" or \"header:X-Campaign\"");
	if (!rule_field_parse(json_string_value(sticky), p->pool, &b->sticky, &err))
		return bind_error(errors, where, "sticky", err.text);
	if (rule_field_is_recipient(b->sticky.field))
		return bind_error(errors, where, "sticky",
		        "recipient fields cannot be used: the choice is made once, before the final "
		        "recipients are known");
	policy_note_field(p, &b->sticky);
	b->has_sticky = true;
	return true;
}

bool policy_bind_compile(struct policy *p, const json_t *bind, const json_t *sticky, const char *where,
        struct bind *b, struct errors *errors)
{
	bool ok;
	size_t max = json_is_array(bind)    ? json_array_size(bind)
	             : json_is_object(bind) ? json_object_size(bind)
	                                    : 1;
	b->targets = pool_alloc(p->pool, (max + 1) * sizeof(*b->targets));
	b->weights = pool_alloc(p->pool, (max + 1) * sizeof(*b->weights));
	if (json_is_string(bind))
		ok = add_target(p, b, json_string_value(bind), 1, where, errors);
	else if (json_is_array(bind))
		ok = compile_list(p, bind, where, b, errors);
	else if (json_is_object(bind))
		ok = header_form(bind) != NULL ? compile_header(p, bind, where, b, errors)
		                               : compile_weights(p, bind, where, b, errors);
	else
		ok = bind_error(errors, where, "bind",
		        bind == NULL ? "is missing: a binding, group:NAME, a list, an object of weights, or "
		                       "{\"header\": NAME}"
		                     : "must be a binding, group:NAME, a list, an object of weights, or "
		                       "{\"header\": NAME}");
	return compile_sticky(p, sticky, where, b, errors) && ok;
}

double policy_rendezvous_score(const char *name, double weight, uint64_t key)
{
	/* -ln(u)/w with u even in (0,1): the least wins with probability w / sum of w, whoever else takes part */
	double u = ((double)(hash_stable(name, strlen(name), key) >> 11) + 0.5) * 0x1p-53;
	return -log(u) / weight;
}

int policy_group_member(const struct conf *conf, const struct conf_group *group, uint64_t key,
        bool (*usable)(void *ctx, const struct conf_binding *), void *ctx)
{
	int best = -1;
	double least = 0;
	for (size_t i = 0; i < group->n_members; i++) {
		const struct conf_binding *b = conf_binding(conf, group->members[i]);
		if (usable != NULL && !usable(ctx, b))
			continue;
		double score = policy_rendezvous_score(b->name, group->weights[i], key);
		if (best < 0 || score < least) {
			best = (int)group->members[i];
			least = score;
		}
	}
	return best;
}

static const char *choose_by_key(const struct bind *b, uint64_t key)
{
	size_t best = 0;
	double least = 0;
	for (size_t i = 0; i < b->n; i++) {
		double score = policy_rendezvous_score(b->targets[i], b->weights[i], key);
		if (i == 0 || score < least) {
			best = i;
			least = score;
		}
	}
	return b->targets[best];
}

static const char *choose_by_chance(const struct bind *b, uint64_t chance)
{
	double at = (double)(chance >> 11) * 0x1p-53 * b->total;
	size_t i = 0;
	while (i + 1 < b->n && at >= b->weights[i])
		at -= b->weights[i++];
	return b->targets[i];
}

/* One draw per message; each rule makes its own of it, so that the choices of two open rules are independent and a
 * rule added elsewhere changes none. */
static uint64_t chance_of(struct eval *ev, const struct rule *r)
{
	if (!ev->have_chance) {
		ev->chance = rnd_u64(ev->choose);
		ev->have_chance = true;
	}
	return hash_stable(r->digest, 8, ev->chance);
}

static bool bind_by_header(struct eval *ev, const struct bind *b, const char **target)
{
	const struct header_chain *chain = &ev->headers[b->header.header_index];
	if (chain->n != 1 || memchr(chain->first->value, '\0', chain->first->len) != NULL)
		return false;
	*target = chain->first->value; /* ends with NUL */
	return policy_target_known(ev->policy->conf, *target);
}

bool eval_bind(struct eval *ev, const struct rule *r, struct decision_target *out)
{
	const struct bind *b = &r->bind;
	const char *value;
	size_t len;
	uint64_t sticky = 0;
	*out = (struct decision_target){.name = NULL};
	bool has_sticky = b->has_sticky && eval_field_text(ev, &b->sticky, &value, &len);
	if (has_sticky)
		sticky = hash_stable(value, len, 0);
	if (b->type == BIND_HEADER) {
		if (!bind_by_header(ev, b, &out->name))
			return false;
	} else if (b->n == 1) {
		out->name = b->targets[0];
	} else {
		out->name = has_sticky ? choose_by_key(b, sticky) : choose_by_chance(b, chance_of(ev, r));
	}
	if (has_sticky && strncmp(out->name, "group:", 6) == 0) {
		out->has_sticky = true;
		out->sticky = (uint32_t)(sticky >> 32);
	}
	return true;
}
