#include "t/lib/policy_text.h"

#include "base/mem.h"
#include "base/str.h"
#include "t/lib/test.h"

/* ' becomes ", ` becomes ', so that JSON full of quotes can be read in C */
static char *requote(const char *text)
{
	char *out = mem_strdup(text);
	for (char *p = out; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p == '`' ? '\'' : *p;
	return out;
}

struct policy *policy_of_text(const char *policy_json, struct errors *errors)
{
	char *json = requote(policy_json);
	struct conf *conf = conf_load_text("{\"hostname\": \"mta.example\"}", json, errors);
	mem_free(&json);
	return conf != NULL ? policy_new(conf, errors) : NULL;
}

struct policy *policy_try_rules(const char *rules, struct errors *errors)
{
	char *json =
	        mem_printf("{'bindings': {"
	                   "'a': {'bind_address': '192.0.2.1', 'match_domain': ['a.example', 'a2.example']},"
	                   "'b': {'bind_address': '192.0.2.2', 'match_domain': 'b.example', "
	                   "'match_domain_from': ['10.0.0.0/8', 'authenticated']},"
	                   "'c': {'bind_address': '192.0.2.3'},"
	                   "'default': {'bind_address': '192.0.2.9'}},"
	                   "'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': '192.0.2.4'}, "
	                   "'p2': {'bind_address': '192.0.2.5', 'weight': 3}}}},"
	                   "'rules': %s}",
	                rules);
	struct policy *p = policy_of_text(json, errors);
	mem_free(&json);
	return p;
}

char *errors_text(const struct errors *errors)
{
	struct str s;
	str_init(&s);
	for (size_t i = 0; i < errors->n; i++)
		str_printf(&s, "%s%s", i > 0 ? "\n" : "", errors->items[i].text);
	return str_steal(&s);
}

struct policy *policy_of_rules(const char *rules)
{
	struct errors errors = {.n = 0};
	struct policy *p = policy_try_rules(rules, &errors);
	if (p == NULL)
		fail_msg("%s: %s", rules, errors_text(&errors));
	errors_free(&errors);
	return p;
}
