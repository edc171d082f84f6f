/*
 * each_scope - every place of a configuration where options may stand, hosts aside
 */
#include "config.h"
#include "conf/conf_internal.h"

void conf_each_scope(const struct conf *c, void (*fn)(void *ctx, const struct scope *), void *ctx)
{
	fn(ctx, &c->global);
	names_each(c->domains, fn, ctx);
	for (size_t i = 0; i < c->n_groups; i++) {
		fn(ctx, &c->groups[i]->scope);
		names_each(c->groups[i]->domains, fn, ctx);
	}
	for (size_t i = 0; i < c->n_bindings; i++) {
		fn(ctx, &c->bindings[i]->scope);
		names_each(c->bindings[i]->domains, fn, ctx);
	}
}

static void look_for_xclient(void *ctx, const struct scope *s)
{
	const struct scope_value *v = scope_get(s, OPT_xclient);
	bool *found = ctx;

	*found = *found || (v && v->v.u != XCLIENT_NO);
}

bool conf_uses_xclient(const struct conf *c)
{
	bool found = false;

	conf_each_scope(c, look_for_xclient, &found);
	return found;
}

struct routed {
	void (*fn)(void *ctx, const char *domain);
	void *ctx;
};

static void look_for_route(void *ctx, const struct scope *s)
{
	struct routed *r = ctx;

	if (s->kind == SCOPE_DOMAIN && s->name[0] != '/' && (scope_get(s, OPT_gateway) || scope_get(s, OPT_routes)))
		r->fn(r->ctx, s->name);
}

void conf_each_routed_domain(const struct conf *c, void (*fn)(void *ctx, const char *domain), void *ctx)
{
	struct routed r = {fn, ctx};

	conf_each_scope(c, look_for_route, &r);
}
