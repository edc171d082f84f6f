/*
 * options - equality, hash and copy of connection options, field by field from options.def
 *
 * Not memcmp() over the struct: padding and pointers are no values.
 */
#include "config.h"
#include "conf/options.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static uint64_t mix_number(uint64_t seed, uint64_t n)
{
	return hash_stable(&n, sizeof(n), seed);
}

/* None and "" differ */
static uint64_t mix_text(uint64_t seed, const char *s)
{
	return s ? hash_stable(s, strlen(s), seed + 1) : mix_number(seed, 0);
}

/* What each type is for comparing: a number or a text. Lists are no connection options. */
#define KIND_UINT NUMBER
#define KIND_UINT_NONE NUMBER
#define KIND_DURATION NUMBER
#define KIND_SIZE NUMBER
#define KIND_BOOL NUMBER
#define KIND_ENUM(tag) NUMBER
#define KIND_EHLO TEXT
#define KIND_GATEWAY TEXT
#define KIND_ROUTES TEXT
#define KIND_PROXY TEXT
#define KIND_HOSTNAME TEXT
#define KIND_PRIORITY TEXT
#define KIND_WORD TEXT
#define KIND_SECRET TEXT
#define KIND_PATH TEXT

#define SAME_NUMBER(field) equal &= a->field == b->field;
#define SAME_TEXT(field) equal &= same_text(a->field, b->field);
#define HASH_NUMBER(field) h = mix_number(h, (uint64_t)o->field);
#define HASH_TEXT(field) h = mix_text(h, o->field);
#define COPY_NUMBER(field)
#define COPY_TEXT(field) to->field = from->field ? mem_strdup(from->field) : NULL;
#define FREE_NUMBER(field)
#define FREE_TEXT(field) mem_free(&o->field);

#define APPLY2(verb, kind, field) verb##_##kind(field)
#define APPLY(verb, kind, field) APPLY2(verb, kind, field)
#define IF_CONN(verb, type, name) APPLY(verb, KIND_##type, OPT_N_##type(name))
#define IF_DELIV(verb, type, name)
#define IF_SCHED(verb, type, name)
#define IF_GLOBAL(verb, type, name)
#define IF_SPECIAL(verb, type, name)

bool conn_options_equal(const struct conn_options *a, const struct conn_options *b)
{
	bool equal = true;

#define OPTION(name, type, part, scopes, def, min, max, text) IF_##part(SAME, type, name)
#include "conf/options.def"
	return equal;
}

uint64_t conn_options_hash(const struct conn_options *o)
{
	uint64_t h = 0;

#define OPTION(name, type, part, scopes, def, min, max, text) IF_##part(HASH, type, name)
#include "conf/options.def"
	return h;
}

void conn_options_copy(struct conn_options *to, const struct conn_options *from)
{
	*to = *from;
#define OPTION(name, type, part, scopes, def, min, max, text) IF_##part(COPY, type, name)
#include "conf/options.def"
}

void conn_options_free(struct conn_options *o)
{
#define OPTION(name, type, part, scopes, def, min, max, text) IF_##part(FREE, type, name)
#include "conf/options.def"
}
