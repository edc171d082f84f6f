/*
 * json_dup - keys that stand twice in one object
 *
 * Jansson stops at the first one. Here all are named with their path and both lines. Runs only on text that
 * is valid JSON but for them, and only when there are some: so it is simple, and trusts the syntax.
 */
#include "config.h"
#include <string.h>
#include "conf/conf_internal.h"

#define MAX_DEPTH 2048 /* as Jansson's */

struct key_seen {
	unsigned line;
	bool told;
};

struct dup_scan {
	const char *p, *end;
	unsigned line;
	struct errors *errors;
	struct pool *pool;
	unsigned depth;
};

static void scan_value(struct dup_scan *, const struct place *);

static void skip_blank(struct dup_scan *s)
{
	for (; s->p < s->end && strchr(" \t\r\n,:", *s->p) && *s->p; s->p++)
		s->line += *s->p == '\n';
}

/* At a quote: the string decoded (by Jansson: escapes), in the pool; NULL if it is none */
static char *scan_string(struct dup_scan *s)
{
	const char *start = s->p++;
	char *text = NULL;

	while (s->p < s->end && *s->p != '"')
		s->p += *s->p == '\\' ? 2 : 1;
	if (s->p >= s->end)
		return NULL;
	s->p++;
	json_t *j = json_loadb(start, (size_t)(s->p - start), JSON_DECODE_ANY, NULL);
	if (json_is_string(j))
		text = pool_strdup(s->pool, json_string_value(j));
	json_decref(j);
	return text;
}

/* Remembers the key, or reports it, once. */
static void note_key(struct dup_scan *s, struct strmap *seen, const struct place *at)
{
	struct key_seen *k = strmap_get(seen, at->key);

	if (!k) {
		k = pool_alloc(s->pool, sizeof(*k));
		k->line = s->line;
		strmap_add(seen, at->key, k);
		return;
	}
	if (!k->told)
		place_error(s->errors, at, "the key stands twice, in lines %u and %u; keep one of them",
		        k->line, s->line);
	k->told = true;
}

static void scan_object(struct dup_scan *s, const struct place *p)
{
	struct strmap seen = {0};

	s->p++;
	for (skip_blank(s); s->p < s->end && *s->p == '"'; skip_blank(s)) {
		struct place at = {.up = p, .key = scan_string(s)};
		if (!at.key)
			break;
		note_key(s, &seen, &at);
		skip_blank(s);
		scan_value(s, &at);
	}
	if (s->p < s->end)
		s->p++;
	strmap_free(&seen);
}

static void scan_array(struct dup_scan *s, const struct place *p)
{
	struct place at = {.up = p};

	s->p++;
	for (skip_blank(s); s->p < s->end && *s->p != ']'; skip_blank(s), at.index++)
		scan_value(s, &at);
	if (s->p < s->end)
		s->p++;
}

static void scan_value(struct dup_scan *s, const struct place *p)
{
	if (s->p >= s->end || s->depth >= MAX_DEPTH) {
		s->p = s->end;
		return;
	}
	s->depth++;
	switch (*s->p) {
	case '{':
		scan_object(s, p);
		break;
	case '[':
		scan_array(s, p);
		break;
	case '"':
		scan_string(s);
		break;
	default:
		s->p++;
		while (s->p < s->end && !strchr(" \t\r\n,:]}", *s->p))
			s->p++;
	}
	s->depth--;
}

void report_duplicate_keys(struct errors *errors, const struct conf_file *file, const char *text, size_t len)
{
	struct place top = {.file = file};
	struct dup_scan s = {.p = text, .end = text + len, .line = 1, .errors = errors};
	size_t before = errors->n;

	s.pool = pool_new(4096);
	skip_blank(&s);
	scan_value(&s, &top);
	pool_free(&s.pool);
	if (errors->n == before) /* what follows them is not JSON: the parser's own word must do */
		place_error(errors, &top, "a key stands twice in one object");
}
