/* response_rule - see response_rule.h */
#include "config.h"
#include "conf/response_rule.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "conf/value_list.h"

#define NAME_MAX_LEN 64
#define PATTERN_MAX 1000
#define CONNECTIONS_MAX 100000
#define COUNT_MAX 1000000
#define WINDOW_MAX_S 86400
#define LASTS_MAX_S (30 * 86400)
#define LASTS_S 3600 /* reduce_connections without "for" */

/* By enum response_then; `takes` says what stands behind the word. */
enum takes { TAKES_NOTHING, TAKES_DURATION, TAKES_NUMBER };
static const struct action {
	const char *word;
	enum takes takes;
} actions[] = {
        [RESPONSE_SUSPEND] = {"suspend", TAKES_DURATION},
        [RESPONSE_REDUCE] = {"reduce_connections", TAKES_NUMBER},
        [RESPONSE_ELSEWHERE] = {"retry_elsewhere", TAKES_NOTHING},
        [RESPONSE_FAIL] = {"fail", TAKES_NOTHING},
        [RESPONSE_RETRY_IN] = {"retry_in", TAKES_DURATION},
};

/* --- codes --- */

static bool is_digit_or_any(char c)
{
	return isdigit((unsigned char)c) || c == 'x' || c == 'y' || c == 'z';
}

/* "421", "4yz" */
static bool is_code(const char *s)
{
	return (*s == '4' || *s == '5') && is_digit_or_any(s[1]) && s[1] && is_digit_or_any(s[2]) && !s[3];
}

/* "4.7.1", "5.7.x" */
static bool is_enhanced(const char *s)
{
	if (*s != '4' && *s != '5')
		return false;
	s++;
	for (int i = 0; i < 2; i++) {
		size_t n = *s == '.' ? strspn(s + 1, "0123456789") : 0;
		if (*s == '.' && s[1] == 'x')
			n = 1;
		if (n < 1 || n > 3)
			return false;
		s += n + 1;
	}
	return *s == '\0';
}

static bool part_is(const char **pattern, const char **text)
{
	size_t np = strcspn(*pattern, "."), nt = strcspn(*text, ".");
	bool same = **pattern == 'x' || (np == nt && strncmp(*pattern, *text, np) == 0);

	*pattern += np + ((*pattern)[np] == '.');
	*text += nt + ((*text)[nt] == '.');
	return same && nt > 0;
}

bool response_code_is(const char *pattern, unsigned code, const char *enhanced)
{
	char text[16];

	if (!pattern)
		return true;
	if (strchr(pattern, '.')) {
		bool is = true;
		for (int i = 0; i < 3; i++)
			is &= part_is(&pattern, &enhanced);
		return is;
	}
	snprintf(text, sizeof(text), "%03u", code);
	for (int i = 0; i < 3; i++)
		if (isdigit((unsigned char)pattern[i]) && pattern[i] != text[i])
			return false;
	return true;
}

/* --- reading --- */

struct item_reader {
	struct value_reader *r;
	struct response_rule *out;
	bool has_then, has_for;
};

void response_pattern(const struct response_rule *rule, struct str *out)
{
	str_printf(out, "(?i)%s", rule->match);
}

static bool read_match(struct item_reader *ir, const struct place *p, const char *text)
{
	struct str pattern;
	int code;
	PCRE2_SIZE offset;

	if (!text || !*text || strlen(text) > PATTERN_MAX)
		return place_error(ir->r->errors, p, "not a pattern of 1 to %d bytes", PATTERN_MAX);
	ir->out->match = pool_strdup(ir->r->pool, text);
	str_init(&pattern);
	response_pattern(ir->out, &pattern);
	pcre2_code *re = pcre2_compile(
	        (PCRE2_SPTR)pattern.data, PCRE2_ZERO_TERMINATED, PCRE2_NEVER_UTF, &code, &offset, NULL);
	str_free(&pattern);
	if (!re) {
		char why[200];
		pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
		return place_error(ir->r->errors, p, "not a pattern: %s at character %zu", why,
		        offset > 4 ? offset - 3 : 1);
	}
	pcre2_code_free(re);
	return true;
}

static bool read_code(struct item_reader *ir, const struct place *p, const json_t *j)
{
	const char *text = json_string_value(j);
	char number[24];

	if (json_is_integer(j)) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(j));
		text = number;
	}
	if (!text || (!is_code(text) && !is_enhanced(text)))
		return place_error(
		        ir->r->errors, p, "not a code of a failure: 421, \"4xx\", \"5.7.1\" or \"4.7.x\"");
	ir->out->code = pool_strdup(ir->r->pool, text);
	return true;
}

static bool number_parse(const char *text, uint64_t max, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*text) || strlen(text) > 9)
		return false;
	*out = strtoull(text, &end, 10);
	return *end == '\0' && *out >= 1 && *out <= max;
}

static bool read_then(struct item_reader *ir, const struct place *p, const char *text)
{
	struct response_rule *o = ir->out;

	for (size_t i = 0; text && i < array_len(actions); i++) {
		const struct action *a = &actions[i];
		size_t len = strlen(a->word);
		if (strncmp(text, a->word, len) != 0 || (text[len] && text[len] != ' '))
			continue;
		const char *rest = text + len + (text[len] == ' ');
		bool ok = a->takes == TAKES_NOTHING    ? !text[len]
		          : a->takes == TAKES_DURATION ? duration_parse(rest, &o->argument) && o->argument &&
		                                                 o->argument <= LASTS_MAX_S
		                                       : number_parse(rest, CONNECTIONS_MAX, &o->argument);
		if (!ok)
			break;
		o->then = (enum response_then)i;
		return ir->has_then = true;
	}
	return place_error(ir->r->errors, p,
	        "not \"suspend 30m\", \"reduce_connections N\", \"retry_elsewhere\", \"fail\" or \"retry_in "
	        "10m\" (at "
	        "most 30d)");
}

/* "5/60": so many replies within so many seconds */
static bool read_threshold(struct item_reader *ir, const struct place *p, const json_t *j)
{
	const char *text = json_string_value(j);
	char count[24];
	const char *slash = text ? strchr(text, '/') : NULL;
	uint64_t n = 0, seconds = WINDOW_MAX_S;

	if (json_is_integer(j) && json_integer_value(j) == 1)
		text = "1";
	bool ok = text && (slash || strcmp(text, "1") == 0);
	if (ok) {
		size_t len = slash ? (size_t)(slash - text) : strlen(text);
		snprintf(count, sizeof(count), "%.*s", (int)(len < sizeof(count) ? len : sizeof(count) - 1),
		        text);
		ok = number_parse(count, COUNT_MAX, &n) &&
		     (!slash || (duration_parse(slash + 1, &seconds) && seconds && seconds <= WINDOW_MAX_S));
	}
	if (!ok)
		return place_error(ir->r->errors, p,
		        "not a threshold: \"1\" (each reply), or \"COUNT/SECONDS\" within a day, as "
		        "\"5/60\"");
	ir->out->count = (uint32_t)n;
	ir->out->seconds = (uint32_t)seconds;
	return true;
}

static bool read_for(struct item_reader *ir, const struct place *p, const json_t *j)
{
	const char *text = json_string_value(j);
	uint64_t s = json_is_integer(j) && json_integer_value(j) > 0 ? (uint64_t)json_integer_value(j) : 0;

	if ((text && !duration_parse(text, &s)) || s == 0 || s > LASTS_MAX_S)
		return place_error(ir->r->errors, p, "not a duration of at most 30d");
	ir->out->lasts_s = s;
	return ir->has_for = true;
}

static bool read_name(struct item_reader *ir, const struct place *p, const char *text)
{
	bool ok = text && *text && strlen(text) <= NAME_MAX_LEN;

	for (const char *c = text; ok && *c; c++)
		ok = *c > ' ' && *c <= '~' && !strchr(":;,/\"'", *c);
	if (!ok)
		return place_error(
		        ir->r->errors, p, "not a name: 1 to 64 printable bytes without space : ; , / \" '");
	ir->out->name = pool_strdup(ir->r->pool, text);
	return true;
}

static bool read_key(struct item_reader *ir, const struct place *at, const char *key, const json_t *value)
{
	if (strcmp(key, "name") == 0)
		return read_name(ir, at, json_string_value(value));
	if (strcmp(key, "match") == 0)
		return read_match(ir, at, json_string_value(value));
	if (strcmp(key, "code") == 0)
		return read_code(ir, at, value);
	if (strcmp(key, "then") == 0)
		return read_then(ir, at, json_string_value(value));
	if (strcmp(key, "threshold") == 0)
		return read_threshold(ir, at, value);
	if (strcmp(key, "for") == 0)
		return read_for(ir, at, value);
	if (strcmp(key, "comment") == 0)
		return true;
	return place_error(ir->r->errors, at,
	        "unknown key; \"name\", \"match\", \"code\", \"threshold\", \"then\" and \"for\" can stand "
	        "here");
}

static bool read_item(struct item_reader *ir, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;
	bool ok = true;

	*ir->out = (struct response_rule){.count = 1, .seconds = WINDOW_MAX_S, .lasts_s = LASTS_S};
	if (!json_is_object(j))
		return place_error(
		        ir->r->errors, p, "not an object with \"match\" or \"code\", and \"then\"");
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		ok &= read_key(ir, &at, key, value);
	}
	if (ok && !ir->out->match && !ir->out->code)
		ok = place_error(ir->r->errors, p, "\"match\" or \"code\" has to be there");
	if (ok && !ir->has_then)
		ok = place_error(ir->r->errors, p, "\"then\" has to be there");
	if (ok && ir->has_for && ir->out->then != RESPONSE_REDUCE)
		ok = place_error(ir->r->errors, p, "\"for\" belongs to reduce_connections");
	return ok;
}

bool read_response_rules(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	struct response_rule_list *list = pool_alloc(r->pool, sizeof(*list));
	struct response_rule *items = it.n ? pool_alloc(r->pool, it.n * sizeof(*items)) : NULL;
	const struct place *at;
	const json_t *item;
	bool ok = true;

	*list = (struct response_rule_list){.items = items};
	while ((item = items_next(&it, &at))) {
		struct item_reader ir = {.r = r, .out = &items[list->n]};
		if (read_item(&ir, at, item))
			list->n++;
		else
			ok = false;
	}
	out->responses = list;
	return ok;
}

/* --- printing --- */

const char *response_then_word(enum response_then then)
{
	return actions[then].word;
}

static void print_duration(uint64_t s, struct str *out)
{
	static const struct {
		uint64_t s;
		char letter;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	size_t i = 0;

	while (s % units[i].s)
		i++;
	str_printf(out, " %llu%c", (unsigned long long)(s / units[i].s), units[i].letter);
}

void response_then_print(const struct response_rule *rule, struct str *out)
{
	str_add(out, actions[rule->then].word);
	if (actions[rule->then].takes == TAKES_NUMBER)
		str_printf(out, " %llu", (unsigned long long)rule->argument);
	else if (actions[rule->then].takes == TAKES_DURATION)
		print_duration(rule->argument, out);
}

static json_t *item_json(const struct response_rule *rule)
{
	json_t *o = json_object();
	struct str text;

	str_init(&text);
	if (rule->name)
		json_object_set_new(o, "name", json_string(rule->name));
	if (rule->match)
		json_object_set_new(o, "match", json_string(rule->match));
	if (rule->code)
		json_object_set_new(o, "code", json_string(rule->code));
	if (rule->count > 1 || rule->seconds != WINDOW_MAX_S) {
		str_printf(&text, "%u/%u", (unsigned)rule->count, (unsigned)rule->seconds);
		json_object_set_new(o, "threshold", json_string(text.data));
		str_clear(&text);
	}
	response_then_print(rule, &text);
	json_object_set_new(o, "then", json_string(text.data));
	if (rule->then == RESPONSE_REDUCE)
		json_object_set_new(o, "for", json_integer((json_int_t)rule->lasts_s));
	str_free(&text);
	return o;
}

json_t *response_rules_json(const struct response_rule_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, item_json(&l->items[i]));
	return a;
}
