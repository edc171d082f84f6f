/*
 * diff - what a reload changed
 */
#include "config.h"
#include <string.h>
#include "conf/conf_internal.h"

/* Options set in either of two scopes whose values differ; fn is told each */
static bool scopes_differ(
        const struct scope *a, const struct scope *b, void (*fn)(void *ctx, const char *option), void *ctx)
{
	bool differ = false;

	for (unsigned id = 0; id < OPT_COUNT; id++) {
		const struct scope_value *va = a ? scope_get(a, id) : NULL, *vb = b ? scope_get(b, id) : NULL;
		if (!va && !vb)
			continue;
		if (va && vb && value_equal(&option_rows[id], va->v, vb->v))
			continue;
		differ = true;
		if (fn)
			fn(ctx, option_rows[id].name);
	}
	return differ;
}

/* The scopes of two tables, by name; a pattern's place in the order counts too, since the first match
 * decides. */
struct names_walk {
	const struct names *other;
	bool differ, missing_only;
	void (*fn)(void *ctx, const struct scope *, const char *option);
	void *ctx;
	const struct scope *now;
};

static void tell(void *ctx, const char *option)
{
	struct names_walk *w = ctx;

	if (w->fn)
		w->fn(w->ctx, w->now, option);
}

static void walk_one(void *ctx, const struct scope *s)
{
	struct names_walk *w = ctx;
	const struct scope *o = NULL;

	if (w->other)
		o = *s->name == '/' ? names_pattern(w->other, s->name) : names_exact(w->other, s->name);
	if (w->missing_only && o)
		return;
	w->now = s;
	w->differ |= scopes_differ(o, s, tell, w);
}

/* fn(ctx, NULL, NULL): only the order differs. Scopes without options are no difference but for that. */
static bool names_differ(const struct names *a, const struct names *b,
        void (*fn)(void *ctx, const struct scope *, const char *option), void *ctx)
{
	struct names_walk forth = {.other = a, .fn = fn, .ctx = ctx};
	struct names_walk back = {.other = b, .fn = fn, .ctx = ctx, .missing_only = true};

	names_each(b, walk_one, &forth);
	names_each(a, walk_one, &back);
	bool order = names_order_differs(a, b);
	if (order && fn && !forth.differ && !back.differ)
		fn(ctx, NULL, NULL);
	return forth.differ || back.differ || order;
}

static bool matches_differ(const struct conf_binding *a, const struct conf_binding *b)
{
	if (a->n_match_domain != b->n_match_domain || a->n_match_from != b->n_match_from ||
	        a->match_from_set != b->match_from_set ||
	        a->match_from_authenticated != b->match_from_authenticated)
		return true;
	for (size_t i = 0; i < a->n_match_domain; i++)
		if (strcmp(a->match_domain[i], b->match_domain[i]) != 0)
			return true;
	for (size_t i = 0; i < a->n_match_from; i++)
		if (a->match_from[i].bits != b->match_from[i].bits ||
		        !addr_equal_ip(&a->match_from[i].base, &b->match_from[i].base))
			return true;
	return false;
}

static bool groups_differ(const struct group *a, const struct group *b)
{
	return strcmp(a->pub.name, b->pub.name) != 0 || scopes_differ(&a->scope, &b->scope, NULL, NULL) ||
	       names_differ(a->domains, b->domains, NULL, NULL) ||
	       names_differ(a->hosts, b->hosts, NULL, NULL);
}

/* Its own section; what it inherits from its group and from the rest is told by itself. */
static bool bindings_differ(const struct binding *a, const struct binding *b)
{
	for (size_t f = 0; f < 2; f++)
		if (a->pub.source[f].family != b->pub.source[f].family ||
		        (a->pub.source[f].family != AF_UNSPEC &&
		                !addr_equal_ip(&a->pub.source[f], &b->pub.source[f])))
			return true;
	return a->pub.any_source != b->pub.any_source || a->weight != b->weight ||
	       strcmp(a->group->pub.name, b->group->pub.name) != 0 || matches_differ(&a->pub, &b->pub) ||
	       scopes_differ(&a->scope, &b->scope, NULL, NULL) ||
	       names_differ(a->domains, b->domains, NULL, NULL) ||
	       names_differ(a->hosts, b->hosts, NULL, NULL);
}

/* --- lists ---------------------------------------------------------------------------------------------- */

static void add_path(json_t *list, const struct scope *s, const char *option)
{
	struct str path;

	str_init(&path);
	scope_path(s, &path);
	if (option)
		str_printf(&path, ".%s", option);
	json_array_append_new(list, json_string(path.data));
	str_free(&path);
}

struct path_list_ctx {
	json_t *list;
	const struct scope *scope;
	const char *table; /* "domains" or "hosts": for a change of order */
};

static void add_option(void *ctx, const char *option)
{
	struct path_list_ctx *p = ctx;

	add_path(p->list, p->scope, option);
}

static void add_named_option(void *ctx, const struct scope *s, const char *option)
{
	struct path_list_ctx *p = ctx;

	if (s)
		add_path(p->list, s, option);
	else
		json_array_append_new(p->list, json_string(p->table));
}

static void diff_options(const struct conf *a, const struct conf *b, json_t *options)
{
	struct path_list_ctx p = {.list = options, .scope = &b->global};

	scopes_differ(&a->global, &b->global, add_option, &p);
	p.table = "domains";
	names_differ(a->domains, b->domains, add_named_option, &p);
	p.table = "hosts";
	names_differ(a->hosts, b->hosts, add_named_option, &p);
	for (size_t i = 0; i < b->n_groups; i++) {
		const struct group *old = strmap_get(&a->group_names, b->groups[i]->pub.name);
		if (!old || groups_differ(old, b->groups[i]))
			add_path(options, &b->groups[i]->scope, NULL);
	}
	for (size_t i = 0; i < a->n_groups; i++)
		if (!strmap_get(&b->group_names, a->groups[i]->pub.name))
			add_path(options, &a->groups[i]->scope, NULL);
}

static void diff_process(const struct conf *a, const struct conf *b, json_t *options, json_t *restart)
{
	for (int i = 0; i < PROC_COUNT; i++) {
		const struct option_row *row = &process_rows[i];
		if (!value_equal(row, a->proc[i], b->proc[i]))
			json_array_append_new(row->reload == RELOAD_RESTART ? restart : options,
			        json_string(row->full_name));
	}
}

static bool rules_differ(const struct conf *a, const struct conf *b)
{
	if (a->n_rules != b->n_rules)
		return true;
	for (size_t i = 0; i < a->n_rules; i++)
		if (!json_equal(a->rules[i].json, b->rules[i].json))
			return true;
	return false;
}

/* What operators call a rule: its name; without one its condition. */
static const char *rule_label(const json_t *rule)
{
	const char *name = json_string_value(json_object_get(rule, "name"));
	const char *when = json_string_value(json_object_get(rule, "when"));

	return name ? name : when ? when : "";
}

/* Label -> list of the rules that have it, in order. Labels are few to a list: mostly one. */
static json_t *rules_by_label(const struct conf *c)
{
	json_t *map = json_object();

	for (size_t i = 0; i < c->n_rules; i++) {
		const char *label = rule_label(c->rules[i].json);
		json_t *list = json_object_get(map, label);

		if (!list) {
			list = json_array();
			json_object_set_new_nocheck(map, label, list);
		}
		json_array_append(list, (json_t *)c->rules[i].json);
	}
	return map;
}

static bool list_has(const json_t *list, const json_t *rule)
{
	size_t i;
	json_t *item;

	json_array_foreach ((json_t *)list, i, item)
		if (json_equal(item, rule))
			return true;
	return false;
}

/* Labels of a's rules that b does not have (into gone), or has with other content (into changed). */
static void rules_beyond(json_t *a, json_t *b, json_t *gone, json_t *changed)
{
	const char *label;
	json_t *list;

	json_object_foreach (a, label, list) {
		const json_t *others = json_object_get(b, label);
		bool all = others && json_array_size(others) >= json_array_size(list);
		size_t i;
		json_t *rule;

		if (!others) {
			json_array_append_new(gone, json_string_nocheck(label));
			continue;
		}
		json_array_foreach (list, i, rule)
			all &= list_has(others, rule);
		if (!all && changed)
			json_array_append_new(changed, json_string_nocheck(label));
	}
}

static bool holds(const json_t *names, const char *name)
{
	size_t i;
	json_t *item;

	json_array_foreach ((json_t *)names, i, item)
		if (strcmp(json_string_value(item), name) == 0)
			return true;
	return false;
}

static void diff_rules(const struct conf *old, const struct conf *new, json_t *into)
{
	json_t *added = json_array(), *removed = json_array(), *changed = json_array(), *back = json_array();
	json_t *before = rules_by_label(old), *after = rules_by_label(new);
	size_t i;
	json_t *item;

	if (rules_differ(old, new)) {
		rules_beyond(before, after, removed, changed);
		rules_beyond(after, before, added, back);
		json_array_foreach (back, i, item)
			if (!holds(changed, json_string_value(item)))
				json_array_append(changed, item);
	}
	json_object_set_new(into, "rules", json_boolean(rules_differ(old, new)));
	json_object_set_new(into, "rules_added", added);
	json_object_set_new(into, "rules_removed", removed);
	json_object_set_new(into, "rules_changed", changed);
	json_decref(back);
	json_decref(before);
	json_decref(after);
}

void conf_diff_json(const struct conf *old, const struct conf *new, json_t *into)
{
	json_t *added = json_array(), *removed = json_array(), *changed = json_array();
	json_t *options = json_array(), *restart = json_array();

	for (size_t i = 0; i < new->n_bindings; i++) {
		const char *name = new->bindings[i]->pub.name;
		const struct binding *was = strmap_get(&old->binding_names, name);
		if (!was)
			json_array_append_new(added, json_string(name));
		else if (bindings_differ(was, new->bindings[i]))
			json_array_append_new(changed, json_string(name));
	}
	for (size_t i = 0; i < old->n_bindings; i++)
		if (!strmap_get(&new->binding_names, old->bindings[i]->pub.name))
			json_array_append_new(removed, json_string(old->bindings[i]->pub.name));
	diff_options(old, new, options);
	diff_process(old, new, options, restart);
	json_object_set_new(into, "added", added);
	json_object_set_new(into, "removed", removed);
	json_object_set_new(into, "changed", changed);
	json_object_set_new(into, "options", options);
	json_object_set_new(into, "restart", restart);
	diff_rules(old, new, into);
}

void conf_keep_running(struct conf *fresh, struct conf *running)
{
	for (int i = 0; i < PROC_COUNT; i++)
		if (process_rows[i].reload == RELOAD_RESTART) {
			fresh->proc[i] = running->proc[i];
			fresh->proc_set[i] = running->proc_set[i];
		}
	fill_process_options(fresh);
	/* the values may already be borrowed from the snapshot of the start */
	fresh->started = conf_ref(running->started ? running->started : running);
}
