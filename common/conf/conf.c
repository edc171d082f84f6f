#include "config.h"
#include "conf/conf.h"

#include <stdlib.h>
#include <string.h>
#include "conf/conf_internal.h"

/* --- making --------------------------------------------------------------------------------------------- */

uint32_t conf_add_file(struct conf *c, const char *name, const char *dir)
{
	struct conf_file *f = pool_alloc(c->pool, sizeof(*f));

	f->name = pool_strdup(c->pool, name);
	f->dir = pool_strdup(c->pool, dir);
	f->index = c->n_files;
	c->files = mem_array(c->files, c->n_files + 1, sizeof(*c->files));
	c->files[c->n_files] = f;
	return c->n_files++;
}

struct group *conf_add_group(struct conf *c, const char *name)
{
	struct group *g = pool_alloc(c->pool, sizeof(*g));

	g->pub.name = pool_strdup(c->pool, name);
	g->pub.index = (uint32_t)c->n_groups;
	g->scope = (struct scope){.kind = SCOPE_GROUP, .name = g->pub.name, .owner = &c->global};
	c->groups = mem_array(c->groups, c->n_groups + 1, sizeof(*c->groups));
	c->groups[c->n_groups++] = g;
	strmap_add(&c->group_names, g->pub.name, g);
	return g;
}

struct binding *conf_add_binding(struct conf *c, struct group *g, const char *name)
{
	struct binding *b = pool_alloc(c->pool, sizeof(*b));

	b->pub.name = pool_strdup(c->pool, name);
	b->pub.index = (uint32_t)c->n_bindings;
	b->pub.group = &g->pub;
	b->group = g;
	b->weight = 1;
	b->scope = (struct scope){.kind = SCOPE_BINDING, .name = b->pub.name, .owner = &g->scope};
	if ((c->n_bindings & (c->n_bindings - 1)) == 0)
		c->bindings =
		        mem_array(c->bindings, c->n_bindings ? c->n_bindings * 2 : 1, sizeof(*c->bindings));
	c->bindings[c->n_bindings++] = b;
	strmap_add(&c->binding_names, b->pub.name, b);
	return b;
}

/* `default`, binding and group, always exist and come first. */
struct conf *conf_new(void)
{
	struct conf *c = mem_zalloc(sizeof(*c));

	atomic_init(&c->refs, 1);
	c->pool = pool_new(65536);
	c->global = (struct scope){.kind = SCOPE_GLOBAL};
	conf_add_binding(c, conf_add_group(c, DEFAULT_NAME), DEFAULT_NAME);
	return c;
}

const char *scope_where(struct conf *c, const struct scope *s)
{
	struct str text;
	/* What stands in no file is as if it stood in the first policy file */
	uint32_t file = s->declared ? s->file : c->n_files > 1 ? 1 : 0;

	str_init(&text);
	str_printf(&text, "%s: ", c->files[file]->name);
	scope_path(s, &text);
	const char *kept = pool_strdup(c->pool, text.data);
	str_free(&text);
	return kept;
}

/* --- references ----------------------------------------------------------------------------------------- */

struct conf *conf_ref(struct conf *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

static void conf_free(struct conf *c)
{
	for (size_t i = 0; i < c->n_bindings; i++) {
		names_free(&c->bindings[i]->domains);
		names_free(&c->bindings[i]->hosts);
		mem_free(&c->bindings[i]->match);
	}
	for (size_t i = 0; i < c->n_groups; i++) {
		names_free(&c->groups[i]->domains);
		names_free(&c->groups[i]->hosts);
	}
	names_free(&c->domains);
	names_free(&c->hosts);
	for (size_t i = 0; i < c->n_documents; i++)
		json_decref(c->documents[i]);
	mem_free(&c->documents);
	mem_free(&c->rules);
	mem_free(&c->bindings);
	mem_free(&c->groups);
	mem_free(&c->files);
	conf_unref(&c->started);
	strmap_free(&c->binding_names);
	strmap_free(&c->group_names);
	pool_free(&c->pool);
	mem_free(&c);
}

void conf_unref(struct conf **cp)
{
	struct conf *c = *cp;

	*cp = NULL;
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		conf_free(c);
}

/* --- reading -------------------------------------------------------------------------------------------- */

const struct process_options *conf_process(const struct conf *c)
{
	return &c->process;
}

const struct global_options *conf_global(const struct conf *c)
{
	return &c->globals;
}

bool conf_incomplete(const struct conf *c)
{
	return c->incomplete;
}

size_t conf_n_rules(const struct conf *c)
{
	return c->n_rules;
}

const json_t *conf_rule(const struct conf *c, size_t i, const char **where)
{
	if (where)
		*where = c->rules[i].where;
	return c->rules[i].json;
}

size_t conf_n_bindings(const struct conf *c)
{
	return c->n_bindings;
}

const struct conf_binding *conf_binding(const struct conf *c, uint32_t index)
{
	return index < c->n_bindings ? &c->bindings[index]->pub : NULL;
}

const struct conf_binding *conf_binding_named(const struct conf *c, const char *name)
{
	const struct binding *b = strmap_get(&c->binding_names, name);

	return b ? &b->pub : NULL;
}

size_t conf_n_groups(const struct conf *c)
{
	return c->n_groups;
}

const struct conf_group *conf_group(const struct conf *c, uint32_t index)
{
	return index < c->n_groups ? &c->groups[index]->pub : NULL;
}

const struct conf_group *conf_group_named(const struct conf *c, const char *name)
{
	const struct group *g = strmap_get(&c->group_names, name);

	return g ? &g->pub : NULL;
}

void conf_print_errors(const struct errors *e, FILE *out)
{
	for (size_t i = 0; i < e->n; i++)
		fprintf(out, "%s%s\n", e->items[i].level == ERROR_WARNING ? "warning: " : "",
		        e->items[i].text);
}
