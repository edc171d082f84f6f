/*
 * load_policy - walks one policy file: containers, their options, names of domains and hosts
 *
 * Objects of several files merge; the same option twice is an error that names both files; rules append.
 */
#include "config.h"
#include <string.h>
#include "base/names.h"
#include "conf/conf_internal.h"

#define MAX_KNOWN (OPT_COUNT + 16)

/* What may stand in a container besides its options */
static const struct key_row {
	unsigned scopes;
	const char *key;
} extra_keys[] = {
        {SCOPE_GROUP, "bindings"},
        {SCOPE_GROUP | SCOPE_BINDING, "domains"},
        {SCOPE_GROUP | SCOPE_BINDING, "hosts"},
        {SCOPE_BINDING, "match_domain"},
        {SCOPE_BINDING, "match_domain_file"},
        {SCOPE_BINDING, "match_domain_from"},
        {SCOPE_BINDING, "weight"},
        {SCOPE_GLOBAL | SCOPE_GROUP | SCOPE_BINDING | SCOPE_DOMAIN | SCOPE_HOST, "comment"},
};

static void unknown_in(struct loader *l, const struct place *p, enum scope_kind kind, const char *key)
{
	const char *known[MAX_KNOWN];
	size_t n = 0;

	for (size_t i = 0; i < OPT_COUNT; i++)
		if (option_rows[i].scopes & kind)
			known[n++] = option_rows[i].name;
	for (size_t i = 0; i < array_len(extra_keys); i++) {
		if (extra_keys[i].scopes & kind)
			known[n++] = extra_keys[i].key;
		else if (strcmp(extra_keys[i].key, key) == 0) {
			place_error(l->errors, p, "cannot stand in %s", scope_kind_name(kind));
			return;
		}
	}
	unknown_key(l, p, key, known, n);
}

static bool expect_object(struct loader *l, const struct place *p, const json_t *j)
{
	if (json_is_object(j))
		return true;
	return place_error(l->errors, p, "not an object: write { ... }");
}

/* --- options -------------------------------------------------------------------------------------------- */

static void load_option(
        struct loader *l, struct scope *s, const struct place *p, unsigned id, const json_t *j)
{
	struct value_reader r = {l->conf->pool, l->errors};
	struct scope_value v = {.file = place_file(p)->index};
	const struct scope_value *there = scope_get(s, id);

	if (there) {
		place_error(l->errors, p, "set twice: it is set already in %s",
		        l->conf->files[there->file]->name);
		return;
	}
	/* A wrong address is still one that was set: it shall not be called missing as well. */
	if (value_read(&r, p, &option_rows[id], j, &v.v) || id == OPT_bind_address)
		scope_set(s, l->conf->pool, id, &v);
}

static void declare(struct scope *s, const struct place *p)
{
	if (!s->declared)
		s->file = place_file(p)->index;
	s->declared = true;
}

/* True if the key was an option of this scope (or a comment) */
static bool load_scope_key(
        struct loader *l, struct scope *s, const struct place *at, const char *key, const json_t *value)
{
	int id = option_find(key);

	if (strcmp(key, "comment") == 0)
		return true;
	if (id < 0 || !(option_rows[id].scopes & s->kind))
		return false;
	load_option(l, s, at, (unsigned)id, value);
	return true;
}

static void load_plain_scope(struct loader *l, struct scope *s, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;

	if (!expect_object(l, p, j))
		return;
	declare(s, p);
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		if (!load_scope_key(l, s, &at, key, value))
			unknown_in(l, &at, s->kind, key);
	}
}

/* --- domains and hosts ---------------------------------------------------------------------------------- */

static struct scope *new_named_scope(
        struct loader *l, enum scope_kind kind, const char *name, const struct scope *owner)
{
	struct scope *s = pool_alloc(l->conf->pool, sizeof(*s));

	s->kind = kind;
	s->name = pool_strdup(l->conf->pool, name);
	s->owner = owner;
	return s;
}

static struct scope *named_scope(struct loader *l, struct names *names, enum scope_kind kind,
        const struct scope *owner, const struct place *p)
{
	char name[DOMAIN_MAX + 64];
	struct error err;
	bool pattern = *p->key == '/';

	if (!pattern && !domain_normalize(p->key, strlen(p->key), name, &err)) {
		place_error(l->errors, p, "%s", err.text);
		return NULL;
	}
	struct scope *s = pattern ? names_pattern(names, p->key) : names_exact(names, name);
	if (s)
		return s;
	s = new_named_scope(l, kind, pattern ? p->key : name, owner);
	if (!pattern)
		names_add_exact(names, s);
	else if (!names_add_pattern(names, s, &err)) {
		place_error(l->errors, p, "%s", err.text);
		return NULL;
	}
	return s;
}

static void load_names(struct loader *l, struct names **names, enum scope_kind kind,
        const struct scope *owner, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;

	if (!expect_object(l, p, j))
		return;
	if (!*names)
		*names = names_new();
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		if (strcmp(key, "comment") == 0 && !json_is_object(value))
			continue;
		struct scope *s = named_scope(l, *names, kind, owner, &at);
		if (s)
			load_plain_scope(l, s, &at, value);
	}
	names_finish(*names);
}

/* --- bindings and groups -------------------------------------------------------------------------------- */

static void load_binding(struct loader *l, struct binding *b, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;

	if (!expect_object(l, p, j))
		return;
	declare(&b->scope, p);
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		if (load_scope_key(l, &b->scope, &at, key, value) || load_binding_key(l, b, &at, key, value))
			continue;
		if (strcmp(key, "domains") == 0)
			load_names(l, &b->domains, SCOPE_DOMAIN, &b->scope, &at, value);
		else if (strcmp(key, "hosts") == 0)
			load_names(l, &b->hosts, SCOPE_HOST, &b->scope, &at, value);
		else
			unknown_in(l, &at, SCOPE_BINDING, key);
	}
}

/* A new one, or the one of an earlier file; NULL if the name cannot be */
static struct binding *binding_at(struct loader *l, struct group *g, const struct place *p)
{
	struct error err;
	struct binding *b = strmap_get(&l->conf->binding_names, p->key);

	if (!b) {
		if (name_check("binding", p->key, &err))
			return conf_add_binding(l->conf, g, p->key);
		place_error(l->errors, p, "%s", err.text);
		return NULL;
	}
	if (b->group == g)
		return b;
	if (b->pub.index == 0)
		place_error(l->errors, p, "the binding \"default\" stands in no group, but in \"bindings\"");
	else
		place_error(l->errors, p,
		        "the name is taken by %s; names of bindings are unique across groups",
		        scope_where(l->conf, &b->scope));
	return NULL;
}

static void load_bindings(struct loader *l, struct group *g, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;

	if (!expect_object(l, p, j))
		return;
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		if (strcmp(key, "comment") == 0 && !json_is_object(value))
			continue;
		struct binding *b = binding_at(l, g, &at);
		if (b)
			load_binding(l, b, &at, value);
	}
}

static void load_group(struct loader *l, struct group *g, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;

	if (!expect_object(l, p, j))
		return;
	declare(&g->scope, p);
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		if (load_scope_key(l, &g->scope, &at, key, value))
			continue;
		if (strcmp(key, "bindings") == 0 && g->pub.index == 0)
			place_error(l->errors, &at,
			        "group \"default\" holds the bindings without a group: they stand in "
			        "\"bindings\" at the top");
		else if (strcmp(key, "bindings") == 0)
			load_bindings(l, g, &at, value);
		else if (strcmp(key, "domains") == 0)
			load_names(l, &g->domains, SCOPE_DOMAIN, &g->scope, &at, value);
		else if (strcmp(key, "hosts") == 0)
			load_names(l, &g->hosts, SCOPE_HOST, &g->scope, &at, value);
		else
			unknown_in(l, &at, SCOPE_GROUP, key);
	}
}

static void load_groups(struct loader *l, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;
	struct error err;

	if (!expect_object(l, p, j))
		return;
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		struct group *g = strmap_get(&l->conf->group_names, key);
		if (strcmp(key, "comment") == 0 && !json_is_object(value))
			continue;
		if (!g && name_check("binding group", key, &err))
			g = conf_add_group(l->conf, key);
		if (g)
			load_group(l, g, &at, value);
		else
			place_error(l->errors, &at, "%s", err.text);
	}
}

/* --- the file ------------------------------------------------------------------------------------------- */

static void load_rules(struct loader *l, const struct place *p, const json_t *j)
{
	struct conf *c = l->conf;

	if (!json_is_array(j)) {
		place_error(l->errors, p, "not a list: write [ ... ]");
		return;
	}
	size_t n = json_array_size(j);
	c->documents = mem_array(c->documents, c->n_documents + 1, sizeof(*c->documents));
	c->documents[c->n_documents++] = json_incref((json_t *)j);
	if (n)
		c->rules = mem_array(c->rules, c->n_rules + n, sizeof(*c->rules));
	for (size_t i = 0; i < n; i++) {
		struct place at = {.up = p, .index = i};
		struct str where;
		str_init(&where);
		place_print(&at, &where);
		c->rules[c->n_rules++] =
		        (struct rule){json_array_get(j, i), pool_strdup(c->pool, where.data)};
		str_free(&where);
	}
}

void load_policy_json(struct loader *l, uint32_t file, const json_t *j)
{
	static const char *const known[] = {
	        "global", "bindings", "binding_groups", "domains", "hosts", "rules", "comment"};
	struct conf *c = l->conf;
	struct place top = {.file = c->files[file]};
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = &top, .key = key};
		if (strcmp(key, "global") == 0)
			load_plain_scope(l, &c->global, &at, value);
		else if (strcmp(key, "bindings") == 0)
			load_bindings(l, c->groups[0], &at, value);
		else if (strcmp(key, "binding_groups") == 0)
			load_groups(l, &at, value);
		else if (strcmp(key, "domains") == 0)
			load_names(l, &c->domains, SCOPE_DOMAIN, &c->global, &at, value);
		else if (strcmp(key, "hosts") == 0)
			load_names(l, &c->hosts, SCOPE_HOST, &c->global, &at, value);
		else if (strcmp(key, "rules") == 0)
			load_rules(l, &at, value);
		else if (strcmp(key, "comment") != 0)
			unknown_key(l, &at, key, known, array_len(known));
	}
}
