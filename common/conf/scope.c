#include "config.h"
#include "conf/scope.h"

#include <stdlib.h>
#include <string.h>

/* Patterns meet names from DNS and from mail: bounds as for rules, though names are short. */
#define PATTERN_MATCH_LIMIT 100000
#define PATTERN_DEPTH_LIMIT 10000

struct pattern {
	pcre2_code *code; /* owns */
	struct scope *scope;
};

struct names {
	struct strmap exact;
	struct scope **order; /* owns the array: all scopes, in file order */
	size_t n_order;
	struct pattern *patterns; /* owns */
	size_t n_patterns;
	struct option_set pattern_options; /* set in any of them */
	pcre2_match_context *limits;       /* owns; NULL without patterns */
};

static unsigned rank(const struct option_set *s, unsigned id)
{
	unsigned n = 0;

	for (unsigned i = 0; i < id / 64; i++)
		n += (unsigned)__builtin_popcountll(s->word[i]);
	return n + (unsigned)__builtin_popcountll(s->word[id / 64] & (((uint64_t)1 << (id % 64)) - 1));
}

static unsigned count(const struct option_set *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < OPT_WORDS; i++)
		n += (unsigned)__builtin_popcountll(s->word[i]);
	return n;
}

const struct scope_value *scope_get(const struct scope *s, unsigned id)
{
	return option_set_has(&s->set, id) ? &s->values[rank(&s->set, id)] : NULL;
}

void scope_set(struct scope *s, struct pool *pool, unsigned id, const struct scope_value *v)
{
	unsigned n = count(&s->set), at = rank(&s->set, id);
	/* Grown in steps of four; what is left behind in the pool is little, since scopes have few options.
	 */
	if (n % 4 == 0) {
		struct scope_value *more = pool_alloc(pool, (n + 4) * sizeof(*more));
		if (n)
			memcpy(more, s->values, n * sizeof(*more));
		s->values = more;
	}
	memmove(&s->values[at + 1], &s->values[at], (n - at) * sizeof(*s->values));
	s->values[at] = *v;
	option_set_add(&s->set, id);
}

const struct scope_value *scope_get_inherited(const struct scope *s, unsigned id, const struct scope **where)
{
	for (; s; s = s->owner) {
		const struct scope_value *v = scope_get(s, id);
		if (v) {
			if (where)
				*where = s;
			return v;
		}
	}
	return NULL;
}

void scope_path(const struct scope *s, struct str *out)
{
	bool at_top = !s->owner || (s->kind == SCOPE_GROUP) ||
	              (s->kind != SCOPE_BINDING && s->owner->kind == SCOPE_GLOBAL) ||
	              (s->kind == SCOPE_BINDING && strcmp(s->owner->name, "default") == 0);

	if (!at_top) {
		scope_path(s->owner, out);
		str_add_char(out, '.');
	}
	str_add(out, scope_kind_name(s->kind));
	if (s->name) {
		str_add_char(out, '.');
		str_add(out, s->name);
	}
}

/* --- resolution ----------------------------------------------------------------------------------------- */

void found_take(struct found *f, const struct scope *s)
{
	f->n_asked++;
	for (unsigned w = 0; w < OPT_WORDS; w++) {
		uint64_t bits = s->set.word[w] & f->wanted.word[w];
		f->wanted.word[w] &= ~bits;
		for (; bits; bits &= bits - 1) {
			unsigned id = w * 64 + (unsigned)__builtin_ctzll(bits);
			f->value[id] = &s->values[rank(&s->set, id)];
			f->from[id] = s;
			f->step[id] = (uint16_t)f->n_asked;
		}
	}
}

static bool wants_any(const struct found *f, const struct option_set *s)
{
	uint64_t any = 0;

	for (unsigned w = 0; w < OPT_WORDS; w++)
		any |= f->wanted.word[w] & s->word[w];
	return any != 0;
}

void found_take_named(struct found *f, const struct names *names, const char *name, uint64_t hash)
{
	if (!names)
		return;
	const struct scope *exact = strmap_find(&names->exact, name, hash);
	if (exact)
		found_take(f, exact);
	if (!names->n_patterns || !wants_any(f, &names->pattern_options))
		return;

	pcre2_match_data *md = pcre2_match_data_create(1, NULL);
	if (!md)
		abort(); /* out of memory, as in mem_alloc(): "no pattern matches" would be a wrong answer */
	for (size_t i = 0; i < names->n_patterns; i++) {
		const struct pattern *p = &names->patterns[i];
		if (wants_any(f, &p->scope->set) &&
		        pcre2_match(p->code, (PCRE2_SPTR)name, strlen(name), 0, 0, md, names->limits) >= 0)
			found_take(f, p->scope);
	}
	pcre2_match_data_free(md);
}

/* --- names ---------------------------------------------------------------------------------------------- */

struct names *names_new(void)
{
	return mem_zalloc(sizeof(struct names));
}

void names_free(struct names **np)
{
	struct names *n = *np;

	if (!n)
		return;
	strmap_free(&n->exact);
	for (size_t i = 0; i < n->n_patterns; i++)
		pcre2_code_free(n->patterns[i].code);
	mem_free(&n->patterns);
	mem_free(&n->order);
	pcre2_match_context_free(n->limits);
	mem_free(np);
}

struct scope *names_exact(const struct names *n, const char *name)
{
	return strmap_get(&n->exact, name);
}

static void add_order(struct names *n, struct scope *s)
{
	if ((n->n_order & (n->n_order - 1)) == 0)
		n->order = mem_array(n->order, n->n_order ? n->n_order * 2 : 1, sizeof(*n->order));
	n->order[n->n_order++] = s;
}

void names_add_exact(struct names *n, struct scope *s)
{
	strmap_add(&n->exact, s->name, s);
	add_order(n, s);
}

struct scope *names_pattern(const struct names *n, const char *text)
{
	for (size_t i = 0; i < n->n_patterns; i++)
		if (strcmp(n->patterns[i].scope->name, text) == 0)
			return n->patterns[i].scope;
	return NULL;
}

/*
 * Domains are compared in lower case, so a pattern is caseless: /^Gmail/ would never match otherwise. Bytes,
 * no UTF: names are A-labels. JIT is a matter of speed only, so its failure is none.
 */
bool names_add_pattern(struct names *n, struct scope *s, struct error *err)
{
	size_t len = strlen(s->name);
	int code;
	PCRE2_SIZE offset;

	if (len < 3 || s->name[len - 1] != '/')
		return error_set(err, "a pattern stands between two slashes, as /\\.example\\.net$/");
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)s->name + 1, len - 2,
	        PCRE2_CASELESS | PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
	if (!re) {
		char text[200];
		pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
		return error_set(err, "not a pattern: %s at character %zu", text, offset + 1);
	}
	pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
	if (!n->limits) {
		n->limits = pcre2_match_context_create(NULL);
		if (!n->limits)
			abort();
		pcre2_set_match_limit(n->limits, PATTERN_MATCH_LIMIT);
		pcre2_set_depth_limit(n->limits, PATTERN_DEPTH_LIMIT);
	}
	n->patterns = mem_array(n->patterns, n->n_patterns + 1, sizeof(*n->patterns));
	n->patterns[n->n_patterns++] = (struct pattern){re, s};
	add_order(n, s);
	return true;
}

void names_finish(struct names *n)
{
	for (size_t i = 0; i < n->n_patterns; i++)
		for (unsigned w = 0; w < OPT_WORDS; w++)
			n->pattern_options.word[w] |= n->patterns[i].scope->set.word[w];
}

void names_each(const struct names *n, void (*fn)(void *ctx, const struct scope *), void *ctx)
{
	for (size_t i = 0; n && i < n->n_order; i++)
		fn(ctx, n->order[i]);
}

bool names_order_differs(const struct names *a, const struct names *b)
{
	size_t na = a ? a->n_patterns : 0, nb = b ? b->n_patterns : 0;

	if (na != nb)
		return true;
	for (size_t i = 0; i < na; i++)
		if (strcmp(a->patterns[i].scope->name, b->patterns[i].scope->name) != 0)
			return true;
	return false;
}
