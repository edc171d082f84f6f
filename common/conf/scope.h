/*
 * scope - one container of options ("global", a group, a binding, a domain or host in one of them)
 *
 * Purpose    Holds only what is set in it: a bit per option and the values of the set bits, in the order of
 * the options. A table of names holds the domains (or hosts) of one container: exact names, then patterns.
 * Ownership  Scopes and values live in the conf's pool; a table is freed with names_free().
 * Threads    Any, once loaded.
 */
#ifndef CONF_SCOPE_H
#define CONF_SCOPE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/mem.h"
#include "base/str.h"
#include "conf/option_table.h"
#include "conf/strmap.h"
#include "conf/value.h"

#define OPT_WORDS ((OPT_COUNT + 63) / 64)

struct option_set { /* one bit per option */
	uint64_t word[OPT_WORDS];
};

struct scope_value {
	union value v;
	uint32_t file; /* which file of the configuration it stands in */
};

struct scope {
	enum scope_kind kind;
	bool declared;    /* stands in a file */
	uint32_t file;    /* the first one */
	const char *name; /* as it is looked up; NULL for global */
	const struct scope
	        *owner; /* the container it stands in: also the next one asked, for domains and bindings */
	struct option_set set;
	struct scope_value *values; /* as many as bits are set */
};

struct names;

static inline bool option_set_has(const struct option_set *s, unsigned id)
{
	return (s->word[id / 64] >> (id % 64)) & 1;
}
static inline void option_set_add(struct option_set *s, unsigned id)
{
	s->word[id / 64] |= (uint64_t)1 << (id % 64);
}
static inline bool option_set_empty(const struct option_set *s)
{
	uint64_t any = 0;
	for (unsigned i = 0; i < OPT_WORDS; i++)
		any |= s->word[i];
	return any == 0;
}

/* NULL if it is not set in this very scope */
const struct scope_value *scope_get(const struct scope *, unsigned id);
/* Adds one that is not set yet. */
void scope_set(struct scope *, struct pool *, unsigned id, const struct scope_value *);
/* The scope's own value or that of the scopes it stands in (no domains of those); NULL = built-in */
const struct scope_value *scope_get_inherited(const struct scope *, unsigned id, const struct scope **where);
/* "bindings.acme.domains.gmail.com" */
void scope_path(const struct scope *, struct str *);

/* What a resolution has found so far: for each option wanted the value and the scope it came from. */
struct found {
	struct option_set wanted; /* still */
	const struct scope_value *value[OPT_COUNT];
	const struct scope *from[OPT_COUNT];
	unsigned n_asked;
	uint16_t step[OPT_COUNT]; /* the how-manieth scope asked had it: a smaller one is more specific */
};
void found_take(struct found *, const struct scope *);
/* The scopes of that name: the exact one, then patterns in file order, each only while it has something
 * wanted. */
void found_take_named(struct found *, const struct names *, const char *name, uint64_t hash);

/* --- names: the domains or hosts of a container --------------------------------------------------------- */

struct names *names_new(void);
void names_free(struct names **);
/* The scope of an exact name, or NULL */
struct scope *names_exact(const struct names *, const char *name);
void names_add_exact(struct names *, struct scope *);
/* The scope of this very pattern text ("/.../"), or NULL */
struct scope *names_pattern(const struct names *, const char *text);
/* Compiles; `scope->name` is the text with its slashes. */
bool names_add_pattern(struct names *, struct scope *, struct error *);
/* To be called when all scopes are filled in */
void names_finish(struct names *);
void names_each(const struct names *, void (*fn)(void *ctx, const struct scope *), void *ctx);
/* Patterns in another order: the first that matches decides */
bool names_order_differs(const struct names *, const struct names *);

#endif
