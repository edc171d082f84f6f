/*
 * load_binding - what a binding has besides options: the domains it claims, whom it believes, its weight, its
 * address
 */
#include "config.h"
#include <string.h>
#include "base/names.h"
#include "conf/conf_internal.h"
#include "conf/value_list.h"

#define MAX_WEIGHT 1e6

/* True, and remembered, if the key is met for the first time */
static bool set_once(struct loader *l, const struct conf_file **file, const struct place *p)
{
	if (*file)
		return place_error(l->errors, p, "set twice: it is set already in %s", (*file)->name);
	*file = place_file(p);
	return true;
}

/* --- match_domain --------------------------------------------------------------------------------------- */

static void add_match(struct binding *b, const char *domain)
{
	size_t n = b->pub.n_match_domain;

	if ((n & (n - 1)) == 0)
		b->match = mem_array(b->match, n ? n * 2 : 1, sizeof(*b->match));
	b->match[n] = domain;
	b->pub.match_domain = b->match;
	b->pub.n_match_domain = n + 1;
}

/*
 * A domain belongs to one binding: with two, chance or file order would decide whose reputation pays. Named
 * twice for the same binding it is kept once, since lists of other systems repeat themselves.
 */
static bool claim(struct loader *l, struct binding *b, const char *raw, size_t len, struct error *err)
{
	char name[DOMAIN_MAX + 64];

	if (!domain_normalize(raw, len, name, err))
		return false;
	uint64_t hash = strmap_hash(name);
	struct binding *other = strmap_find(&l->claims, name, hash);
	if (other == b)
		return true;
	if (other)
		return error_set(err, "%s is claimed already by match_domain of %s", name,
		        scope_where(l->conf, &other->scope));
	const char *kept = pool_strdup(l->conf->pool, name);
	strmap_add(&l->claims, kept, b);
	add_match(b, kept);
	return true;
}

static void load_match_domain(struct loader *l, struct binding *b, const struct place *p, const json_t *j)
{
	struct items it = items_of(j, p);
	const struct place *at;
	const json_t *item;
	struct error err;

	while ((item = items_next(&it, &at)))
		if (!json_is_string(item))
			place_error(l->errors, at, "not a domain: write \"example.com\" or a list of such");
		else if (!claim(l, b, json_string_value(item), json_string_length(item), &err))
			place_error(l->errors, at, "%s%s", err.text,
			        strchr(json_string_value(item), '*') ? "; each domain is named by itself, "
			                                               "and subdomains are a rule's matter: "
			                                               "mailfrom_domain =~ '...'"
			                                             : "");
}

/* One domain a line, blank lines and # comments. Bad lines are named with their number. */
static void load_match_lines(
        struct loader *l, struct binding *b, const struct place *p, const char *name, const struct str *text)
{
	const char *end = text->data + text->len, *line = text->data;
	struct error err;

	for (unsigned number = 1; line < end; number++) {
		const char *next = memchr(line, '\n', (size_t)(end - line)), *stop = next ? next : end;
		const char *hash = memchr(line, '#', (size_t)(stop - line));
		const char *last = hash ? hash : stop;
		while (line < last && strchr(" \t\r", *line) && *line)
			line++;
		while (last > line && strchr(" \t\r", last[-1]) && last[-1])
			last--;
		if (last > line && !claim(l, b, line, (size_t)(last - line), &err))
			place_error(l->errors, p, "%s line %u: %s", name, number, err.text);
		line = stop + 1;
	}
}

static void load_match_file(struct loader *l, struct binding *b, const struct place *p, const json_t *j)
{
	struct items it = items_of(j, p);
	const struct place *at;
	const json_t *item;

	while ((item = items_next(&it, &at))) {
		const char *name = json_string_value(item), *dir = place_file(p)->dir;
		struct str text;
		struct error err;
		if (!name || !*name) {
			place_error(l->errors, at, "not a file: write its path");
			continue;
		}
		char *path = mem_printf("%s%s", *name == '/' ? "" : dir, name);
		str_init(&text);
		if (read_whole_file(path, &text, &err))
			load_match_lines(l, b, at, name, &text);
		else
			place_error(l->errors, at, "%s %s", name, err.text);
		str_free(&text);
		mem_free(&path);
	}
}

static void load_match_from(struct loader *l, struct binding *b, const struct place *p, const json_t *j)
{
	struct value_reader r = {l->conf->pool, l->errors};
	struct net_list nets;

	b->pub.match_from_set = true;
	if (!read_nets_or_word(&r, p, j, "authenticated", &nets, &b->pub.match_from_authenticated))
		return;
	b->pub.match_from = nets.nets;
	b->pub.n_match_from = nets.n;
	if (!nets.n && !b->pub.match_from_authenticated)
		place_error(
		        l->errors, p, "an empty list believes nobody: write networks or \"authenticated\"");
}

static void load_weight(struct loader *l, struct binding *b, const struct place *p, const json_t *j)
{
	double w = json_number_value(j);

	if (b->group->pub.index == 0)
		place_error(l->errors, p,
		        "a weight counts among the members of a group: the binding stands in none");
	else if (!json_is_number(j) || !(w > 0) || w > MAX_WEIGHT)
		place_error(
		        l->errors, p, "not a weight: write a number above 0, at most %d", (int)MAX_WEIGHT);
	else
		b->weight = w;
}

bool load_binding_key(
        struct loader *l, struct binding *b, const struct place *p, const char *key, const json_t *j)
{
	if (strcmp(key, "match_domain") == 0) {
		if (set_once(l, &b->match_domain_file, p))
			load_match_domain(l, b, p, j);
	} else if (strcmp(key, "match_domain_file") == 0) {
		if (set_once(l, &b->match_domain_file_file, p))
			load_match_file(l, b, p, j);
	} else if (strcmp(key, "match_domain_from") == 0) {
		if (set_once(l, &b->match_from_file, p))
			load_match_from(l, b, p, j);
	} else if (strcmp(key, "weight") == 0) {
		if (set_once(l, &b->weight_file, p))
			load_weight(l, b, p, j);
	} else {
		return false;
	}
	return true;
}

/* --- addresses ------------------------------------------------------------------------------------------ */

/* A place for errors about a binding (or group) as a whole; `steps` has room for four links. */
static const struct place *binding_place(struct loader *l, const struct binding *b, struct place steps[5])
{
	struct conf *c = l->conf;
	uint32_t file = b->scope.declared ? b->scope.file : c->n_files > 1 ? 1 : 0;

	steps[0] = (struct place){.file = c->files[file]};
	if (b->group->pub.index == 0) {
		steps[1] = (struct place){.up = &steps[0], .key = "bindings"};
		steps[2] = (struct place){.up = &steps[1], .key = b->pub.name};
		return &steps[2];
	}
	steps[1] = (struct place){.up = &steps[0], .key = "binding_groups"};
	steps[2] = (struct place){.up = &steps[1], .key = b->group->pub.name};
	steps[3] = (struct place){.up = &steps[2], .key = "bindings"};
	steps[4] = (struct place){.up = &steps[3], .key = b->pub.name};
	return &steps[4];
}

static void resolve_source(struct loader *l, struct binding *b)
{
	const struct scope_value *v = scope_get_inherited(&b->scope, OPT_bind_address, NULL);
	bool alone = l->conf->n_bindings == 1;
	struct place steps[5];

	if (v && !v->v.addresses->any) {
		memcpy(b->pub.source, v->v.addresses->source, sizeof(b->pub.source));
		return;
	}
	b->pub.any_source = alone;
	if (alone)
		return;
	const struct place *p = binding_place(l, b, steps);
	if (v)
		place_error(l->errors, p,
		        "bind_address \"*\" (the kernel chooses) is only for the binding \"default\" while "
		        "there is no "
		        "other; write an address");
	else if (b->pub.index == 0)
		place_error(l->errors, p,
		        "no bind_address, though there are other bindings: set one here or in \"global\", or "
		        "the kernel "
		        "could choose an address of theirs");
	else
		place_error(l->errors, p, "no bind_address: set one here, in its group or in \"global\"");
}

/* How many bindings have the same address: one warning an address, however many they are */
struct address_use {
	struct address_use *next; /* in order of first use */
	char text[ADDR_TEXT_SIZE];
	const struct binding *first, *second;
	size_t n;
};

static void note_use(struct pool *pool, struct strmap *uses, struct address_use ***tail,
        const struct binding *b, const struct addr *a)
{
	char text[ADDR_TEXT_SIZE];

	addr_print(a, text);
	struct address_use *u = strmap_get(uses, text);
	if (!u) {
		u = pool_alloc(pool, sizeof(*u));
		memcpy(u->text, text, sizeof(text));
		u->first = b;
		strmap_add(uses, u->text, u);
		**tail = u;
		*tail = &u->next;
	}
	if (++u->n == 2)
		u->second = b;
}

static void warn_shared_addresses(struct loader *l)
{
	struct conf *c = l->conf;
	struct strmap uses = {0};
	struct pool *pool = pool_new(4096);
	struct address_use *list = NULL, **tail = &list;
	struct place steps[5];

	for (size_t i = 0; i < c->n_bindings; i++)
		for (size_t f = 0; f < 2; f++)
			if (c->bindings[i]->pub.source[f].family != AF_UNSPEC)
				note_use(pool, &uses, &tail, c->bindings[i], &c->bindings[i]->pub.source[f]);
	for (const struct address_use *u = list; u; u = u->next) {
		if (u->n < 2)
			continue;
		const struct place *p = binding_place(l, u->second, steps);
		if (u->n == 2)
			place_warning(l->errors, p, "bind_address %s is that of binding \"%s\" too", u->text,
			        u->first->pub.name);
		else
			place_warning(l->errors, p,
			        "bind_address %s is that of binding \"%s\" too, and of %zu more", u->text,
			        u->first->pub.name, u->n - 2);
	}
	strmap_free(&uses);
	pool_free(&pool);
}

/* --- members -------------------------------------------------------------------------------------------- */

static void fill_members(struct loader *l)
{
	struct conf *c = l->conf;

	for (size_t i = 0; i < c->n_bindings; i++)
		c->bindings[i]->group->pub.n_members++;
	for (size_t i = 0; i < c->n_groups; i++) {
		struct conf_group *g = &c->groups[i]->pub;
		struct place top = {.file = c->files[c->groups[i]->scope.file]};
		struct place all = {.up = &top, .key = "binding_groups"};
		struct place at = {.up = &all, .key = g->name};
		g->members = pool_alloc(c->pool, (g->n_members + 1) * sizeof(*g->members));
		g->weights = pool_alloc(c->pool, (g->n_members + 1) * sizeof(*g->weights));
		if (!g->n_members)
			place_warning(
			        l->errors, &at, "has no bindings: mail assigned to it would wait for ever");
		g->n_members = 0;
	}
	for (size_t i = 0; i < c->n_bindings; i++) {
		const struct binding *b = c->bindings[i];
		struct conf_group *g = &b->group->pub;
		((uint32_t *)g->members)[g->n_members] = b->pub.index;
		((double *)g->weights)[g->n_members++] = b->weight;
	}
}

static void warn_useless_match_from(struct loader *l, const struct binding *b)
{
	struct place steps[5];

	if (b->pub.match_from_set && !b->match_domain_file && !b->match_domain_file_file)
		place_warning(l->errors, binding_place(l, b, steps),
		        "match_domain_from has no effect without match_domain or match_domain_file");
}

void load_finish_bindings(struct loader *l)
{
	struct conf *c = l->conf;

	for (size_t i = 0; i < c->n_bindings; i++) {
		struct binding *b = c->bindings[i];
		b->pub.where = scope_where(c, &b->scope);
		resolve_source(l, b);
		warn_useless_match_from(l, b);
	}
	fill_members(l);
	warn_shared_addresses(l);
}
