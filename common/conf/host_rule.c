/* host_rule - see host_rule.h */
#include "config.h"
#include "conf/host_rule.h"

#include <stdlib.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/names.h"
#include "conf/value_list.h"

#define MATCH_LIMIT 100000
#define DEPTH_LIMIT 10000
#define TEXT_MAX 400 /* bytes of a reply's text */

/* --- patterns --- */

struct host_pattern {
	char *name;                  /* owns; without "*." */
	bool below;                  /* any host below it */
	pcre2_code *code;            /* owns; NULL = a name */
	pcre2_match_context *limits; /* owns */
};

static bool compile(struct host_pattern *p, const char *text, struct error *err)
{
	size_t len = strlen(text);
	int code;
	PCRE2_SIZE offset;

	if (len < 3 || text[len - 1] != '/')
		return error_set(err, "a pattern stands between two slashes, as /\\.example\\.net$/");
	p->code = pcre2_compile((PCRE2_SPTR)text + 1, len - 2,
	        PCRE2_CASELESS | PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
	if (!p->code) {
		char why[200];
		pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
		return error_set(err, "not a pattern: %s at character %zu", why, offset + 1);
	}
	pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* speed only */
	p->limits = pcre2_match_context_create(NULL);
	if (!p->limits)
		abort();
	pcre2_set_match_limit(p->limits, MATCH_LIMIT);
	pcre2_set_depth_limit(p->limits, DEPTH_LIMIT);
	return true;
}

/* Letters are needed, or an address mistyped would pass as a name. */
static bool set_name(struct host_pattern *p, const char *text, struct error *err)
{
	char name[DOMAIN_MAX + 64];

	p->below = strncmp(text, "*.", 2) == 0;
	if (p->below)
		text += 2;
	if (text[strspn(text, "0123456789./")] == '\0' || strpbrk(text, "*[]:/\\ ") ||
	        !domain_normalize(text, strlen(text), name, NULL))
		return error_set(err, "not a network, a host name, *.DOMAIN or /pattern/");
	p->name = mem_strdup(name);
	return true;
}

struct host_pattern *host_pattern_new(const char *text, struct error *err)
{
	struct host_pattern *p = mem_zalloc(sizeof(*p));

	if (!(*text == '/' ? compile(p, text, err) : set_name(p, text, err)))
		host_pattern_free(&p);
	return p;
}

void host_pattern_free(struct host_pattern **p)
{
	if (!*p)
		return;
	mem_free(&(*p)->name);
	pcre2_code_free((*p)->code);
	pcre2_match_context_free((*p)->limits);
	mem_free(p);
}

bool host_pattern_matches(const struct host_pattern *p, const char *name)
{
	size_t len = strlen(name), tail;

	if (!p->code) {
		if (!p->below)
			return strcmp(name, p->name) == 0;
		tail = strlen(p->name);
		return len > tail + 1 && name[len - tail - 1] == '.' &&
		       strcmp(name + len - tail, p->name) == 0;
	}
	pcre2_match_data *md = pcre2_match_data_create(1, NULL);
	if (!md)
		abort();
	bool is = pcre2_match(p->code, (PCRE2_SPTR)name, len, 0, 0, md, p->limits) >= 0;
	pcre2_match_data_free(md);
	return is;
}

/* --- items --- */

struct item_reader {
	struct value_reader *r;
	bool waits; /* skip_hosts: 4yz; prohibited_hosts: 5yz */
	struct host_rule *out;
};

static const char *below_name(struct pool *pool, const char *name)
{
	char *text = mem_printf("*.%s", name);
	const char *copy = pool_strdup(pool, text);

	mem_free(&text);
	return copy;
}

/* Where both may stand: a name without a dot is rather a word mistyped. */
static bool looks_like_host(const char *text)
{
	if (*text == '/' || *text == '*')
		return true;
	return strchr(text, '.') && !strpbrk(text, ":/") && text[strspn(text, "0123456789.")];
}

static bool set_which(struct item_reader *ir, const struct place *p, const char *text, bool net, bool host)
{
	struct error err;
	struct host_rule *o = ir->out;

	if (net && strcmp(text, "own") == 0) {
		o->kind = HOST_RULE_OWN;
		return true;
	}
	if (net && !(host && looks_like_host(text))) {
		o->kind = HOST_RULE_NET;
		return addr_net_parse(text, &o->net, &err) || place_error(ir->r->errors, p, "%s", err.text);
	}
	struct host_pattern *pattern = host_pattern_new(text, &err);
	if (!pattern) {
		struct str q;
		str_init(&q);
		quote_text(text, &q);
		place_error(ir->r->errors, p, "%s is %s", q.data, err.text);
		str_free(&q);
		return false;
	}
	o->kind = HOST_RULE_NAME;
	o->host = *text == '/'     ? pool_strdup(ir->r->pool, text)
	          : pattern->below ? below_name(ir->r->pool, pattern->name)
	                           : pool_strdup(ir->r->pool, pattern->name);
	host_pattern_free(&pattern);
	return true;
}

/* RFC 3463: class "." subject "." detail */
static bool is_enhanced(const char *s, char class)
{
	if (*s++ != class)
		return false;
	for (int i = 0; i < 2; i++) {
		size_t n = *s == '.' ? strspn(s + 1, "0123456789") : 0;
		if (n < 1 || n > 3)
			return false;
		s += n + 1;
	}
	return *s == '\0';
}

static bool is_text(const char *s)
{
	if (!*s || strlen(s) > TEXT_MAX)
		return false;
	for (; *s; s++)
		if (*s < ' ' || *s > '~')
			return false;
	return true;
}

static bool set_key(struct item_reader *ir, const struct place *at, const char *key, const json_t *value)
{
	struct errors *errors = ir->r->errors;
	const char *text = json_string_value(value);
	int class = ir->waits ? 4 : 5;

	if (strcmp(key, "net") == 0 || strcmp(key, "host") == 0) {
		if (!text)
			return place_error(errors, at, "not a text");
		return set_which(ir, at, text, *key == 'n', *key == 'h');
	}
	if (strcmp(key, "code") == 0) {
		json_int_t n = json_integer_value(value);
		if (!json_is_integer(value) || n / 100 != class)
			return place_error(errors, at, "not a reply code from %d00 to %d99", class, class);
		ir->out->code = (uint16_t)n;
		return true;
	}
	if (strcmp(key, "enhanced") == 0) {
		if (!text || !is_enhanced(text, (char)('0' + class)))
			return place_error(errors, at, "not an enhanced status code as in \"%d.4.6\"", class);
		ir->out->enhanced = pool_strdup(ir->r->pool, text);
		return true;
	}
	if (strcmp(key, "text") == 0) {
		if (!text || !is_text(text))
			return place_error(
			        errors, at, "not a text of 1 to %d printable ASCII characters", TEXT_MAX);
		ir->out->text = pool_strdup(ir->r->pool, text);
		return true;
	}
	if (strcmp(key, "comment") == 0)
		return true;
	return place_error(errors, at,
	        "unknown key; \"net\", \"host\", \"code\", \"enhanced\" and \"text\" can stand here");
}

static bool read_object(struct item_reader *ir, const struct place *p, const json_t *j)
{
	bool net = json_object_get(j, "net"), host = json_object_get(j, "host"), ok = true;
	const char *key;
	json_t *value;

	if (net == host)
		return place_error(ir->r->errors, p, "one of \"net\" and \"host\" has to be there");
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		ok &= set_key(ir, &at, key, value);
	}
	return ok;
}

bool read_host_rules(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	struct host_rule_list *list = pool_alloc(r->pool, sizeof(*list));
	struct host_rule *items = it.n ? pool_alloc(r->pool, it.n * sizeof(*items)) : NULL;
	const struct place *at;
	const json_t *item;
	bool ok = true;

	*list = (struct host_rule_list){.items = items};
	while ((item = items_next(&it, &at))) {
		struct item_reader ir = {r, strcmp(row->name, "skip_hosts") == 0, &items[list->n]};
		const char *text = json_string_value(item);
		*ir.out = (struct host_rule){.kind = HOST_RULE_NET};
		if (json_is_object(item) ? read_object(&ir, at, item)
		        : text           ? set_which(&ir, at, text, true, true)
		                         : place_error(r->errors, at, "neither a text nor an object"))
			list->n++;
		else
			ok = false;
	}
	out->host_rules = list;
	return ok;
}

static json_t *which_json(const struct host_rule *h)
{
	return h->kind == HOST_RULE_NET   ? net_json(&h->net)
	       : h->kind == HOST_RULE_OWN ? json_string("own")
	                                  : json_string(h->host);
}

static json_t *rule_json(const struct host_rule *h)
{
	if (!h->code && !h->enhanced && !h->text)
		return which_json(h);
	json_t *o = json_object();
	json_object_set_new(o, h->kind == HOST_RULE_NAME ? "host" : "net", which_json(h));
	if (h->code)
		json_object_set_new(o, "code", json_integer(h->code));
	if (h->enhanced)
		json_object_set_new(o, "enhanced", json_string(h->enhanced));
	if (h->text)
		json_object_set_new(o, "text", json_string(h->text));
	return o;
}

json_t *host_rules_json(const struct host_rule_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, rule_json(&l->items[i]));
	return a;
}
