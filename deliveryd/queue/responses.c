#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "conf/response_rule.h"
#include "policy/pattern.h"

/*
 * response_rules: which of them a reply means, and whether so many came that it acts. Only replies of failures are looked
 * at, and only where there are rules. Patterns are compiled when first met and kept until the configuration changes; each
 * match has its limits, and what patterns that gave up once may waste is bounded for each minute.
 *
 * Replies are counted for (rule, binding, recipient domain): up to EXACT_MAX by their times, more in sixteenths of the
 * window. Of these counts there are no more than COUNTS_MAX, the one used longest ago gives way.
 */
#define PARTS 16u
#define EXACT_MAX 128u
#define COUNTS_MAX 10000u
#define SUSPENSIONS_MAX 100000u /* with more, mail of yet others is only deferred */
#define SCRATCH_US (60 * SECOND_US)
#define REPLY_KEPT 200

struct compiled {
	char *text;              /* owns */
	struct pattern *pattern; /* owns; NULL = it does not compile, which the configuration has told */
	UT_hash_handle hh;
};

struct count_key {
	uint32_t rule, domain; /* interned */
	uint32_t binding;
};
struct count {
	struct count_key key;
	uint64_t *times; /* owns: a ring of the newest, as many as the threshold; NULL = counted in parts */
	uint32_t at, n_times; /* of the ring: where the next goes, which is the oldest once it is full */
	uint64_t part;        /* number of the newest sixteenth */
	uint32_t n[PARTS];
	uint64_t acts_until_us; /* what it began lasts until then */
	UT_hash_handle hh;
};

struct responses {
	struct compiled *compiled;
	struct pattern_scratch *scratch;
	uint64_t scratch_until_us;
	struct count *counts; /* the one used longest ago first */
};

struct responses *responses_new(void)
{
	return mem_zalloc(sizeof(struct responses));
}

static void forget_count(struct queue *q, struct count *c)
{
	HASH_DEL(q->responses->counts, c);
	intern_drop(q->names, c->key.rule);
	intern_drop(q->names, c->key.domain);
	free(c->times);
	free(c);
}

void responses_forget_patterns(struct queue *q)
{
	struct compiled *c, *next;
	HASH_ITER (hh, q->responses->compiled, c, next) {
		HASH_DEL(q->responses->compiled, c);
		pattern_free(&c->pattern);
		free(c->text);
		free(c);
	}
}

void responses_free(struct queue *q)
{
	struct count *c, *next;
	responses_forget_patterns(q);
	HASH_ITER (hh, q->responses->counts, c, next)
		forget_count(q, c);
	pattern_scratch_free(&q->responses->scratch);
	mem_free(&q->responses);
}

/* --- matching ----------------------------------------------------------------------------------------------------- */

/* What lists and events call it. */
static void label(const struct response_rule *rule, struct str *out)
{
	if (rule->name) {
		str_add(out, rule->name);
		return;
	}
	if (rule->code)
		str_printf(out, "%s%s", rule->code, rule->match ? " " : "");
	if (rule->match)
		str_add(out, rule->match);
}

static struct pattern *compiled(struct queue *q, const struct response_rule *rule)
{
	struct compiled *c;
	struct error err;
	HASH_FIND_STR(q->responses->compiled, rule->match, c);
	if (c)
		return c->pattern;
	struct str text;
	str_init(&text);
	response_pattern(rule, &text);
	c = mem_zalloc(sizeof(*c));
	c->text = mem_strdup(rule->match);
	c->pattern = pattern_new(text.data, "response_rules", &err);
	HASH_ADD_KEYPTR(hh, q->responses->compiled, c->text, strlen(c->text), c);
	str_free(&text);
	return c->pattern;
}

static bool means(
        struct queue *q, const struct response_rule *rule, const struct outcome *o, const struct str *text)
{
	struct responses *r = q->responses;
	if (!response_code_is(rule->code, o->code, o->enhanced))
		return false;
	if (!rule->match)
		return true;
	struct pattern *p = compiled(q, rule);
	if (r->scratch && r->scratch_until_us <= queue_now(q))
		pattern_scratch_free(&r->scratch);
	if (!r->scratch)
		r->scratch_until_us = queue_now(q) + SCRATCH_US;
	return p && pattern_match(p, &r->scratch, text->data, text->len);
}

/* --- counting ------------------------------------------------------------------------------------------------------ */

static struct count *count_get(struct queue *q, const struct response_rule *rule, const struct delivery *d)
{
	struct responses *r = q->responses;
	struct count_key key = {.domain = d->domain, .binding = d->binding};
	struct count *c;
	struct str text;
	str_init(&text);
	label(rule, &text);
	response_then_print(rule, &text);
	str_printf(&text, " %u/%u", (unsigned)rule->count, (unsigned)rule->seconds);
	key.rule = intern_get(q->names, text.data);
	str_free(&text);
	HASH_FIND(hh, r->counts, &key, sizeof(key), c);
	if (c) {
		intern_drop(q->names, key.rule);
		HASH_DEL(r->counts, c); /* to the end */
	} else {
		if (HASH_COUNT(r->counts) >= COUNTS_MAX)
			forget_count(q, r->counts);
		c = mem_zalloc(sizeof(*c));
		c->key = key;
		if (rule->count <= EXACT_MAX)
			c->times = mem_array(NULL, rule->count, sizeof(*c->times));
		intern_ref(q->names, key.domain);
	}
	HASH_ADD(hh, r->counts, key, sizeof(key), c);
	return c;
}

static uint64_t sum(struct count *c, uint64_t part)
{
	uint64_t n = 0;
	if (part >= c->part + PARTS)
		memset(c->n, 0, sizeof(c->n));
	for (; c->part < part; c->part++)
		c->n[(c->part + 1) % PARTS] = 0;
	for (unsigned i = 0; i < PARTS; i++)
		n += c->n[i];
	return n;
}

static bool reached_exactly(struct count *c, const struct response_rule *rule, uint64_t now, bool counts)
{
	if (counts) {
		c->times[c->at] = now;
		c->at = (c->at + 1) % rule->count;
		c->n_times += c->n_times < rule->count;
	}
	return c->n_times == rule->count && now - c->times[c->at] <= rule->seconds * SECOND_US;
}

static bool reached_in_parts(struct count *c, const struct response_rule *rule, uint64_t now, bool counts)
{
	uint64_t n = sum(c, now / (rule->seconds * SECOND_US / PARTS));
	c->n[c->part % PARTS] += counts;
	return n + counts >= rule->count;
}

static bool lasts(const struct response_rule *rule)
{
	return rule->then == RESPONSE_SUSPEND || rule->then == RESPONSE_REDUCE;
}

/* Whether enough have come. What a rule began lasts, and then takes as many again. */
static bool reached(struct queue *q, const struct response_rule *rule, const struct delivery *d, bool counts)
{
	if (rule->count <= 1)
		return true;
	struct count *c = count_get(q, rule, d);
	uint64_t now = queue_now(q);
	if (c->acts_until_us > now)
		return true;
	if (!(c->times ? reached_exactly(c, rule, now, counts) : reached_in_parts(c, rule, now, counts)))
		return false;
	if (lasts(rule)) {
		uint64_t s = rule->then == RESPONSE_SUSPEND ? rule->argument : rule->lasts_s;
		c->acts_until_us = now + s * SECOND_US;
		memset(c->n, 0, sizeof(c->n));
		c->n_times = c->at = 0;
	}
	return true;
}

void responses_forget(struct queue *q, const struct binding *b, const char *domain)
{
	struct count *c, *next;
	HASH_ITER (hh, q->responses->counts, c, next) {
		if (c->key.binding == b->number &&
		        (!domain || strcmp(intern_text(q->names, c->key.domain), domain) == 0))
			forget_count(q, c);
	}
}

/* --- acting -------------------------------------------------------------------------------------------------------- */

const struct response_rule *response_judge(
        struct queue *q, const struct delivery *d, const struct outcome *o, bool counts)
{
	const struct response_rule_list *l = &delivery_options(q, d)->response_rules;
	const struct response_rule *acting = NULL;
	struct str text;
	if (l->n == 0 || o->ours || o->code < 400 || o->code > 599)
		return NULL;
	str_init(&text);
	outcome_print(o, &text);
	for (size_t i = 0; i < l->n && !acting; i++) {
		if (means(q, &l->items[i], o, &text) && reached(q, &l->items[i], d, counts))
			acting = &l->items[i];
	}
	str_free(&text);
	if (acting)
		metric_add(q->m.by_rule[acting->then], 1);
	return acting;
}

void response_act(struct queue *q, struct hop_queue *hq, const struct delivery *d,
        const struct response_rule *rule, const struct outcome *o)
{
	const char *domain = intern_text(q->names, d->domain);
	struct binding *b = binding_at(q, d->binding);
	if (!lasts(rule) || b->kind != BINDING_NAMED)
		return;
	struct str name, then, reply;
	str_init(&name);
	str_init(&then);
	str_init(&reply);
	label(rule, &name);
	response_then_print(rule, &then);
	outcome_print(o, &reply);
	struct cause why = {.rule = name.data, .then = then.data, .reply = reply.data};
	if (rule->then == RESPONSE_REDUCE)
		reduce_begin(q, hq, domain, (uint32_t)rule->argument, rule->lasts_s * SECOND_US, &why);
	else if (suspensions_count(q) < SUSPENSIONS_MAX && !suspended_target(q, binding_name(q, b), domain))
		(void)suspend_begin(q, binding_name(q, b), domain, rule->argument * SECOND_US, NULL, &why);
	str_free(&name);
	str_free(&then);
	str_free(&reply);
}

/* --- causes: what a rule did it for, as settings keep it: "\tRULE\tTHEN\tREPLY" ------------------------------------ */

static void add_plain(struct str *out, const char *text)
{
	for (size_t n = 0; *text && n < REPLY_KEPT; text++, n++)
		str_add_char(out, (unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

void cause_print(const struct cause *c, struct str *out)
{
	const char *const parts[] = {c->rule, c->then, c->reply};
	for (unsigned i = 0; i < array_len(parts); i++) {
		str_add_char(out, '\t');
		add_plain(out, parts[i]);
	}
}

struct cause *cause_parse(const char *text)
{
	const char *then = *text == '\t' ? strchr(text + 1, '\t') : NULL;
	const char *reply = then ? strchr(then + 1, '\t') : NULL;
	if (!reply)
		return NULL;
	struct cause *c = mem_zalloc(sizeof(*c));
	c->rule = mem_strndup(text + 1, (size_t)(then - text - 1));
	c->then = mem_strndup(then + 1, (size_t)(reply - then - 1));
	c->reply = mem_strdup(reply + 1);
	return c;
}

struct cause *cause_copy(const struct cause *c)
{
	struct str text;
	str_init(&text);
	cause_print(c, &text);
	struct cause *copy = cause_parse(text.data);
	str_free(&text);
	return copy;
}

void cause_free(struct cause **pc)
{
	if (!*pc)
		return;
	free((*pc)->rule);
	free((*pc)->then);
	free((*pc)->reply);
	mem_free(pc);
}
