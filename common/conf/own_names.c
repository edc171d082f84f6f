/*
 * own_names - the names this machine goes by: hostname, and every ehlo_hostname
 *
 * An MX host of one of these names is this machine (RFC 5321 5.1).
 */
#include "config.h"
#include <string.h>
#include "conf/conf_internal.h"

struct collector {
	const char **names; /* NULL: only count */
	size_t n;
};

static void collect_text(struct collector *c, const char *name)
{
	if (c->names)
		c->names[c->n] = name;
	c->n++;
}

static void collect_scope(void *ctx, const struct scope *s)
{
	const struct scope_value *v = scope_get(s, OPT_ehlo_hostname);

	if (v && v->v.s && *v->v.s != '[' && strncmp(v->v.s, "__", 2) != 0)
		collect_text(ctx, v->v.s);
}

static void collect(const struct conf *c, struct collector *into)
{
	if (c->process.hostname)
		collect_text(into, c->process.hostname);
	conf_each_scope(c, collect_scope, into);
}

void fill_own_names(struct conf *c)
{
	struct collector count = {0}, fill = {0};

	collect(c, &count);
	fill.names = pool_alloc(c->pool, (count.n + 1) * sizeof(*fill.names));
	collect(c, &fill);
	c->own_names = fill.names;
	c->n_own_names = fill.n;
}

size_t conf_own_names(const struct conf *c, const char *const **names)
{
	*names = c->own_names;
	return c->n_own_names;
}
