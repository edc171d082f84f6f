/*
 * schema - the JSON Schema (draft 2020-12) of both files, from options.def
 *
 * For editors, and for those who generate configurations: structure, types, words and ranges. What only the
 * loader can judge (two bindings with one name, options that contradict each other) it does not say.
 */
#include "config.h"
#include <string.h>
#include "conf/conf.h"
#include "conf/option_table.h"
#include "conf/value.h"

/* Printable ASCII without space : ; , / " ' */
#define NAME_PATTERN "^[!#-&(-+\\-.0-9<-~]{1,64}$"
#define TARGET_PATTERN "^(group:)?[!#-&(-+\\-.0-9<-~]{1,64}$"
#define DRAFT "https://json-schema.org/draft/2020-12/schema"

static json_t *ref(const char *type)
{
	return json_pack("{s:o}", "$ref", json_sprintf("#/$defs/%s", type));
}

static json_t *one_or_list(json_t *item, int min)
{
	json_t *list = json_pack("{s:s, s:O}", "type", "array", "items", item);

	if (min)
		json_object_set_new(list, "minItems", json_integer(min));
	return json_pack("{s:[o, o]}", "anyOf", item, list);
}

static json_t *pattern(const char *re)
{
	return json_pack("{s:s, s:s}", "type", "string", "pattern", re);
}

static json_t *whole_number(const struct option_row *row)
{
	uint64_t min, max;

	value_range(row, &min, &max);
	json_t *j = json_pack("{s:s, s:I}", "type", "integer", "minimum", (json_int_t)min);
	if (max <= INT64_MAX)
		json_object_set_new(j, "maximum", json_integer((json_int_t)max));
	return j;
}

static json_t *number_or(const struct option_row *row, json_t *other)
{
	return json_pack("{s:[o, o]}", "anyOf", whole_number(row), other);
}

static json_t *words_of(const char *tag)
{
	json_t *list = json_array();
	size_t n;
	const struct option_word *w = option_words(&n);

	for (size_t i = 0; i < n; i++)
		if (strcmp(w[i].tag, tag) == 0)
			json_array_append_new(list, json_string(w[i].word));
	return json_pack("{s:o}", "enum", list);
}

static json_t *type_schema(const struct option_row *row)
{
	switch (row->type) {
	case TYPE_UINT:
		return whole_number(row);
	case TYPE_UINT_NONE:
		return number_or(row, json_pack("{s:s}", "const", "none"));
	case TYPE_DURATION:
		return number_or(row, ref("duration"));
	case TYPE_SIZE:
		return number_or(row, ref("size"));
	case TYPE_RATE:
		return json_pack("{s:[{s:s, s:i, s:i}, o, {s:s}]}", "anyOf", "type", "integer", "minimum", 0, "maximum",
		        RATE_COUNT_MAX, pattern("^[0-9]+(/[0-9]+[smhdw]?)?$"), "type", "null");
	case TYPE_BOOL:
		return json_pack("{s:[b, b, s, s]}", "enum", 1, 0, "on", "off");
	case TYPE_ENUM:
		return words_of(row->tag);
	case TYPE_EHLO:
		return json_pack("{s:s, s:i}", "type", "string", "minLength", 1);
	case TYPE_HOSTNAME:
	case TYPE_PRIORITY:
	case TYPE_WORD:
	case TYPE_SECRET:
	case TYPE_GATEWAY:
		return json_pack("{s:[s, s], s:i}", "type", "string", "null", "minLength", 1);
	case TYPE_FIELDNAME:
		return pattern("^[!-9;-~]{1,64}$");
	case TYPE_USERNAME:
		return pattern("^[A-Za-z0-9_.$-]{1,32}$");
	case TYPE_PATH:
		if (strcmp(row->def, "null") == 0)
			return json_pack("{s:[s, s], s:i}", "type", "string", "null", "minLength", 1);
		return json_pack("{s:s, s:i}", "type", "string", "minLength", 1);
	case TYPE_NETLIST:
		return one_or_list(json_pack("{s:s}", "type", "string"), 0);
	case TYPE_HOSTRULES:
		return one_or_list(ref("host_rule"), 0);
	case TYPE_CURFEW:
		return one_or_list(ref("curfew"), 0);
	case TYPE_RESPONSES:
		return one_or_list(ref("response_rule"), 0);
	case TYPE_ROUTES:
		return json_pack(
		        "{s:[o, {s:s}]}", "anyOf", one_or_list(pattern("^[^ ]+$"), 1), "type", "null");
	case TYPE_PROXY:
		return json_pack("{s:[o, {s:s}]}", "anyOf", pattern("^(proxy|socks5)://[^@]+:[0-9]+$"), "type",
		        "null");
	case TYPE_SOCKET:
		if (strcmp(row->def, "null") == 0)
			return json_pack("{s:[o, {s:s}]}", "anyOf", ref("socket"), "type", "null");
		return ref("socket");
	case TYPE_SOCKETS:
		return one_or_list(ref("socket"), 1);
	case TYPE_SERVERS:
		return json_pack("{s:[o, {s:s}]}", "anyOf", one_or_list(ref("server"), 1), "type", "null");
	case TYPE_PATHS:
		return one_or_list(json_pack("{s:s, s:i}", "type", "string", "minLength", 1), 0);
	case TYPE_ADDRESSES:
		return one_or_list(json_pack("{s:s, s:i}", "type", "string", "minLength", 1), 1);
	}
	return json_true();
}

static void add_option(json_t *properties, const struct option_row *row)
{
	json_t *j = type_schema(row);

	json_object_set_new(j, "description", json_string(row->text));
	json_object_set_new(properties, row->name, j);
}

/* An object with these properties and a comment, and nothing else */
static json_t *object(json_t *properties)
{
	json_object_set_new(properties, "comment", json_object());
	return json_pack(
	        "{s:s, s:o, s:b}", "type", "object", "properties", properties, "additionalProperties", 0);
}

/* An object of objects by name */
static json_t *by_name(const char *type, bool binding_names)
{
	json_t *j = json_pack("{s:s, s:o, s:{s:{}}}", "type", "object", "additionalProperties", ref(type),
	        "properties", "comment");

	if (binding_names)
		json_object_set_new(j, "propertyNames", pattern(NAME_PATTERN));
	return j;
}

static json_t *scope_schema(enum scope_kind kind)
{
	json_t *p = json_object();

	for (int i = 0; i < OPT_COUNT; i++)
		if (option_rows[i].scopes & kind)
			add_option(p, &option_rows[i]);
	if (kind == SCOPE_GROUP)
		json_object_set_new(p, "bindings", by_name("binding", true));
	if (kind & (SCOPE_GROUP | SCOPE_BINDING)) {
		json_object_set_new(p, "domains", by_name("domain", false));
		json_object_set_new(p, "hosts", by_name("host", false));
	}
	if (kind == SCOPE_BINDING) {
		json_t *text = json_pack("{s:s, s:i}", "type", "string", "minLength", 1);
		json_object_set_new(p, "match_domain", one_or_list(json_incref(text), 0));
		json_object_set_new(p, "match_domain_file", one_or_list(json_incref(text), 0));
		json_object_set_new(p, "match_domain_from", one_or_list(text, 1));
		json_object_set_new(p, "weight",
		        json_pack("{s:s, s:i, s:i}", "type", "number", "exclusiveMinimum", 0, "maximum",
		                1000000));
	}
	return object(p);
}

/* Design section 6; what "when" says only the rule language's own parser can judge. */
static json_t *rule_schema(void)
{
	json_t *p = json_object(), *bind = json_array();

	json_array_append_new(bind, one_or_list(pattern(TARGET_PATTERN), 1));
	json_array_append_new(
	        bind, object(json_pack("{s:{s:s, s:i}}", "header", "type", "string", "minLength", 1)));
	json_array_append_new(
	        bind, json_pack("{s:s, s:i, s:{s:{}}, s:o, s:{s:s, s:i}}", "type", "object", "minProperties",
	                      1, "properties", "comment", "propertyNames", pattern(TARGET_PATTERN),
	                      "additionalProperties", "type", "number", "exclusiveMinimum", 0));
	json_object_set_new(p, "name", pattern(NAME_PATTERN));
	json_object_set_new(p, "when", json_pack("{s:s, s:i}", "type", "string", "minLength", 1));
	json_object_set_new(p, "bind", json_pack("{s:o}", "anyOf", bind));
	json_object_set_new(p, "sticky", json_pack("{s:s, s:i}", "type", "string", "minLength", 1));
	json_object_set_new(p, "priority", json_pack("{s:[s, s, s]}", "enum", "high", "normal", "low"));
	json_t *j = object(p);
	json_object_set_new(j, "required", json_pack("[s, s]", "when", "bind"));
	return j;
}

static json_t *policy_schema(void)
{
	json_t *p = json_object(), *defs = json_object();

	json_object_set_new(p, "global", ref("global"));
	json_object_set_new(p, "bindings", by_name("binding", true));
	json_object_set_new(p, "binding_groups", by_name("group", true));
	json_object_set_new(p, "domains", by_name("domain", false));
	json_object_set_new(p, "hosts", by_name("host", false));
	json_object_set_new(p, "rules", json_pack("{s:s, s:o}", "type", "array", "items", ref("rule")));
	json_object_set_new(defs, "global", scope_schema(SCOPE_GLOBAL));
	json_object_set_new(defs, "group", scope_schema(SCOPE_GROUP));
	json_object_set_new(defs, "binding", scope_schema(SCOPE_BINDING));
	json_object_set_new(defs, "domain", scope_schema(SCOPE_DOMAIN));
	json_object_set_new(defs, "host", scope_schema(SCOPE_HOST));
	json_object_set_new(defs, "rule", rule_schema());
	json_t *j = object(p);
	json_object_set_new(j, "$defs", defs);
	return j;
}

static json_t *process_schema(void)
{
	json_t *p = json_object(), *sections = json_object(), *s;
	const char *name;

	for (int i = 0; i < PROC_COUNT; i++) {
		const struct option_row *row = &process_rows[i];
		if (row->section && !json_object_get(sections, row->section))
			json_object_set_new(sections, row->section, json_object());
		add_option(row->section ? json_object_get(sections, row->section) : p, row);
	}
	json_object_foreach (sections, name, s)
		json_object_set_new(p, name, object(json_incref(s)));
	json_decref(sections);
	json_t *j = object(p);
	json_object_set_new(j, "$defs", json_object());
	return j;
}

/* Of "net" and "host" one; prohibited_hosts takes 5yz, skip_hosts 4yz. */
static json_t *host_rule_schema(void)
{
	json_t *text = json_pack("{s:s, s:i}", "type", "string", "minLength", 1);
	json_t *o = object(json_pack("{s:O, s:O, s:{s:s, s:i, s:i}, s:o, s:O}", "net", text, "host", text,
	        "code", "type", "integer", "minimum", 400, "maximum", 599, "enhanced",
	        pattern("^[45]\\.[0-9]{1,3}\\.[0-9]{1,3}$"), "text", text));

	json_object_set_new(
	        o, "oneOf", json_pack("[{s:[s]}, {s:[s]}]", "required", "net", "required", "host"));
	return json_pack("{s:[o, o]}", "anyOf", text, o);
}

static json_t *response_rule_schema(void)
{
	json_t *o = object(json_pack("{s:{s:s, s:i, s:i}, s:{s:s, s:i}, s:{s:[o, {s:s, s:i, s:i}]}, s:{s:[o, {s:i}]}, s:o, s:o}",
	        "name", "type", "string", "minLength", 1, "maxLength", 64, "match", "type", "string",
	        "minLength", 1, "code", "anyOf",
	        pattern("^[45]([0-9xyz]{2}|\\.([0-9]{1,3}|x)\\.([0-9]{1,3}|x))$"), "type", "integer", "minimum",
	        400, "maximum", 599, "threshold", "anyOf", pattern("^(1|[0-9]{1,9}/[0-9]+[smhdw]?)$"), "const",
	        1, "then",
	        pattern("^(suspend [0-9]+[smhdw]?|reduce_connections [0-9]{1,9}|retry_elsewhere|fail|retry_in "
	                "[0-9]+[smhdw]?)$"),
	        "for", json_pack("{s:[o, {s:s, s:i}]}", "anyOf", ref("duration"), "type", "integer", "minimum", 1)));

	json_object_set_new(o, "required", json_pack("[s]", "then"));
	return o;
}

static json_t *curfew_schema(void)
{
	json_t *line = pattern("^[ \\t]*([^ \\t]+[ \\t]+){4}[^ \\t]+[ \\t]*$");
	json_t *o = object(json_pack("{s:O, s:O, s:o}", "from", line, "to", line, "timezone",
	        pattern("^[A-Za-z][A-Za-z0-9_+/-]*$")));

	json_object_set_new(o, "required", json_pack("[s, s]", "from", "to"));
	json_decref(line);
	return o;
}

json_t *conf_schema(bool policy_file)
{
	json_t *j = policy_file ? policy_schema() : process_schema();
	json_t *defs = json_object_get(j, "$defs");
	json_t *server = json_pack("{s:[{s:s, s:i}, {s:s, s:{s:{s:s}, s:{s:s}, s:{}}, s:[s], s:b}]}", "anyOf",
	        "type", "string", "minLength", 1, "type", "object", "properties", "address", "type", "string",
	        "trust_ad", "type", "boolean", "comment", "required", "address", "additionalProperties", 0);

	json_object_set_new(defs, "duration", pattern("^[0-9]+[smhdw]?$"));
	json_object_set_new(defs, "size", pattern("^[0-9]+(B|KB|MB|GB|TB)?$"));
	json_object_set_new(defs, "socket", pattern("^(inet|unix|systemd):."));
	json_object_set_new(defs, "server", server);
	if (policy_file) {
		json_object_set_new(defs, "host_rule", host_rule_schema());
		json_object_set_new(defs, "response_rule", response_rule_schema());
		json_object_set_new(defs, "curfew", curfew_schema());
	}
	json_object_set_new(j, "$schema", json_string(DRAFT));
	json_object_set_new(j, "title", json_string(policy_file ? "bindpost policy file" : "bindpost.json"));
	return j;
}
