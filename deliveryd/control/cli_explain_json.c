/*
 * Rules tried, decision, stamp and recipients, as JSON. The keys are documented in bindpost(1).
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/names.h"
#include "control/cli_explain.h"
#include "policy/stamp.h"

json_t *explain_string(const char *text, size_t len)
{
	json_t *j = json_stringn(text, len);
	struct str plain;

	if (j)
		return j;
	str_init(&plain);
	for (size_t i = 0; i < len; i++)
		str_add_char(&plain, (unsigned char)text[i] < 0x80 ? text[i] : '?');
	j = json_stringn(plain.data, plain.len);
	str_free(&plain);
	return j;
}

static json_t *text_or_null(const char *text)
{
	return text ? explain_string(text, strlen(text)) : json_null();
}

static void set_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, text_or_null(text));
}

/* --- rules -------------------------------------------------------------------------------------------------------- */

static json_t *test_json(const struct trace_test *t)
{
	json_t *j = json_object();

	set_text(j, "test", t->text);
	json_object_set_new(j, "known", json_boolean(t->known));
	json_object_set_new(j, "result", json_boolean(t->result));
	json_object_set_new(j, "value", t->value ? explain_string(t->value, t->value_len) : json_null());
	return j;
}

static json_t *choices_json(const struct trace_rule *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->n_choices; i++)
		json_array_append_new(
		        list, json_pack("{s:s, s:f}", "target", r->choices[i], "weight", r->weights[i]));
	return list;
}

static json_t *rule_json(const struct trace_rule *r)
{
	json_t *j = json_object(), *tests = json_array();

	set_text(j, "rule", r->name);
	set_text(j, "where", r->where);
	set_text(j, "when", r->when);
	json_object_set_new(j, "matched", json_boolean(r->matched));
	json_object_set_new(j, "open", json_boolean(r->open));
	set_text(j, "target", r->target);
	for (size_t i = 0; i < r->n_tests; i++)
		json_array_append_new(tests, test_json(&r->tests[i]));
	json_object_set_new(j, "tests", tests);
	if (r->n_choices > 0)
		json_object_set_new(j, "choices", choices_json(r));
	if (r->chosen_by)
		set_text(j, "chosen_by", r->chosen_by);
	return j;
}

static json_t *rules_json(const struct policy_trace *t)
{
	json_t *list = json_array();

	for (size_t i = 0; i < t->n_rules; i++)
		json_array_append_new(list, rule_json(t->rules[i]));
	return list;
}

/* What some rule asks for and this command line does not say: tests on it were false. */
static json_t *unknown_json(const struct explain *x)
{
	const struct facts *f = &x->facts;
	struct policy_needs n;
	json_t *list = json_array();

	policy_needs(x->policy, &n);
	const struct {
		bool missing;
		const char *option;
	} facts[] = {{n.sender_ip && !f->sender_ip, "--client"},
	        {n.sender_host && !f->sender_host, "--client-name"}, {n.helo && !f->helo, "--helo"},
	        {n.auth_user && !f->auth_user, "--auth"}, {n.recv_ip && !f->recv_ip, "--recv-ip"},
	        {n.recv_port && f->recv_port < 0, "--recv-port"},
	        {n.daemon_name && !f->daemon_name, "--daemon-name"}, {n.body && !f->body, "--body-file"},
	        {n.size && f->size < 0, "--size"}};
	for (size_t i = 0; i < array_len(facts); i++)
		if (facts[i].missing)
			json_array_append_new(list, json_string(facts[i].option));
	return list;
}

/* --- decision and stamp ------------------------------------------------------------------------------------------- */

static void set_target(json_t *j, const char *target, bool has_sticky, uint32_t sticky)
{
	char hex[9];

	set_text(j, "target", target);
	snprintf(hex, sizeof(hex), "%08x", (unsigned)sticky);
	if (has_sticky)
		set_text(j, "sticky", hex);
}

static json_t *decision_json(const struct explain *x, const struct decision *d)
{
	json_t *j = json_object(), *open = json_array();
	bool refused = conf_global(policy_conf(x->policy))->default_binding == DEFAULT_BINDING_NONE &&
	               decision_is_final_unclaimed(d) && *x->from && strcmp(x->from, "<>") != 0;

	set_target(j, d->target.name, d->target.has_sticky, d->target.sticky);
	set_text(j, "rule", d->rule);
	json_object_set_new(j, "claimed", json_boolean(d->claimed));
	set_text(j, "priority", priority_name(d->priority));
	for (size_t i = 0; i < d->n_open; i++) {
		json_t *o = json_object();

		set_text(o, "rule", d->open[i].name);
		set_text(o, "digest", d->open[i].digest);
		set_target(o, d->open[i].target.name, d->open[i].target.has_sticky, d->open[i].target.sticky);
		json_array_append_new(open, o);
	}
	json_object_set_new(j, "open", open);
	set_text(j, "reply", refused ? "451 4.7.1 no binding claims this message" : NULL);
	return j;
}

static json_t *match_domain_json(const struct policy_trace *t)
{
	json_t *j;

	if (!t->domain)
		return json_null();
	j = json_object();
	set_text(j, "domain", t->domain);
	set_text(j, "binding", t->match_domain);
	json_object_set_new(j, "believed", json_boolean(t->believed));
	return j;
}

/* As the milter would write it now. Who may not read the keys sees it unsigned, and why. */
static void set_stamp(const struct explain *x, const struct decision *d, json_t *answer)
{
	const struct process_options *o = conf_process(policy_conf(x->policy));
	struct stamp_keys *keys = NULL;
	struct error err;
	struct str text;

	str_init(&text);
	str_printf(&text, "%s: ", o->stamp_header);
	if (o->stamp_key_file && !(keys = stamp_keys_load(o->stamp_key_file, &err)))
		set_text(answer, "stamp_unsigned", err.text);
	stamp_print(d, keys, clock_system.wall_us(&clock_system), x->message_id, &text);
	set_text(answer, "stamp", text.data);
	stamp_keys_free(&keys);
	str_free(&text);
}

/* --- recipients --------------------------------------------------------------------------------------------------- */

static json_t *members_json(const struct conf *c, const struct conf_group *g)
{
	json_t *list = json_array();

	for (size_t i = 0; i < g->n_members; i++)
		json_array_append_new(
		        list, json_pack("{s:s, s:f}", "binding", conf_binding(c, g->members[i])->name,
		                      "weight", g->weights[i]));
	return list;
}

/* With what depends on the message itself filled in */
static json_t *binding_json(const struct explain *x, const struct conf_binding *b, const char *domain)
{
	json_t *j = explain_binding(policy_conf(x->policy), b, domain);
	const char *ehlo = json_string_value(json_object_get(j, "ehlo"));
	char name[DOMAIN_MAX + 64];
	struct mailaddr split;

	if (ehlo && strcmp(ehlo, "__message__") == 0) {
		bool known = x->from && mailaddr_split(x->from, strlen(x->from), &split) &&
		             split.domain_len > 0 &&
		             domain_normalize(split.domain, split.domain_len, name, NULL);
		json_object_set_new(j, "ehlo",
		        json_string(known ? name : conf_process(policy_conf(x->policy))->hostname));
	}
	return j;
}

/* The member, as far as it can be known; else what holds for each. */
static void add_group(
        const struct explain *x, json_t *j, const struct recipient_choice *choice, const char *domain)
{
	const struct conf *c = policy_conf(x->policy);
	const struct conf_group *g = conf_group_named(c, choice->target + strlen("group:"));
	struct explain_member may = {x, domain};
	json_t *bindings = json_array();
	int member = -1;

	set_text(j, "group", g->name);
	set_text(j, "chosen_by", choice->has_sticky ? "sticky" : "id");
	json_object_set_new(j, "members", members_json(c, g));
	if (choice->has_sticky || x->id)
		member = policy_group_member(
		        c, g, choice->has_sticky ? choice->sticky : x->queue_id, explain_member_usable, &may);
	json_object_set_new(j, "member_live", json_boolean(x->live_row != NULL));
	set_text(j, "member", member >= 0 ? conf_binding(c, (uint32_t)member)->name : NULL);
	for (size_t i = 0; i < g->n_members; i++)
		if (member < 0 || g->members[i] == (uint32_t)member)
			json_array_append_new(
			        bindings, binding_json(x, conf_binding(c, g->members[i]), domain));
	json_object_set_new(j, "bindings", bindings);
}

static void add_bindings(
        const struct explain *x, json_t *j, const struct recipient_choice *choice, const char *domain)
{
	const struct conf *c = policy_conf(x->policy);
	const struct conf_binding *b = conf_binding_named(c, choice->target);

	if (strncmp(choice->target, "group:", 6) == 0)
		add_group(x, j, choice, domain);
	else
		json_object_set_new(j, "bindings", json_pack("[o]", binding_json(x, b, domain)));
}

/* The domain a recipient is queued by; one without a domain belongs to this machine. False if it is none. */
static bool recipient_domain(
        const struct conf *c, const char *recipient, char domain[DOMAIN_MAX + 64], struct error *err)
{
	struct mailaddr split;
	const char *own = conf_process(c)->hostname;

	if (!mailaddr_split(recipient, strlen(recipient), &split) || split.local_len == 0)
		return error_set(err, "is not an address");
	if (!explain_address(recipient, err))
		return false;
	if (split.domain_len == 0)
		return domain_normalize(own, strlen(own), domain, err);
	return domain_normalize(split.domain, split.domain_len, domain, err);
}

static json_t *recipient_json(const struct explain *x, const struct decision *d, const char *recipient)
{
	const struct policy *const policies[] = {x->policy};
	const struct conf *c = policy_conf(x->policy);
	struct recipient_choice choice;
	struct policy_trace trace;
	struct error err;
	char domain[DOMAIN_MAX + 64];
	json_t *j = json_object();

	set_text(j, "recipient", recipient);
	if (!recipient_domain(c, recipient, domain, &err)) {
		set_text(j, "error", err.text);
		return j;
	}
	policy_trace_init(&trace);
	policy_recipient_among(policies, 1, d, recipient, &choice, &trace);
	set_text(j, "domain", domain);
	json_object_set_new(j, "rules", rules_json(&trace));
	set_target(j, choice.target, choice.has_sticky, choice.sticky);
	set_text(j, "rule", choice.rule);
	json_object_set_new(j, "claimed", json_boolean(choice.claimed));
	set_text(j, "priority", priority_name(choice.priority));
	bool refused = !choice.claimed && *x->from && strcmp(x->from, "<>") != 0 &&
	               conf_global(c)->default_binding == DEFAULT_BINDING_NONE;
	set_text(j, "reply", refused ? "451 4.7.1 no binding claims this message" : NULL);
	add_bindings(x, j, &choice, domain);
	policy_trace_free(&trace);
	return j;
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

static json_t *message_json(const struct explain *x)
{
	const struct facts *f = &x->facts;
	json_t *j = json_object();

	set_text(j, "sender", x->from);
	set_text(j, "client", x->client);
	set_text(j, "client_name", x->client_name);
	set_text(j, "helo", x->helo);
	set_text(j, "auth_user", x->auth);
	json_object_set_new(j, "headers", json_integer((json_int_t)f->n_headers));
	json_object_set_new(j, "size", f->size >= 0 ? json_integer(f->size) : json_null());
	json_object_set_new(j, "unknown", unknown_json(x));
	return j;
}

json_t *explain_json(const struct explain *x)
{
	json_t *answer = json_object(), *recipients = json_array();
	struct policy_trace trace;
	struct decision d;
	struct fake_rnd chance;

	/* The milter draws at random; asked twice, this command says the same twice. */
	fake_rnd_init(&chance, x->id ? hash_stable(&x->queue_id, sizeof(x->queue_id), 0) : 0);
	policy_trace_init(&trace);
	policy_eval(x->policy, &x->facts, &chance.rnd, &d, &trace);
	json_object_set_new(answer, "message", message_json(x));
	json_object_set_new(answer, "rules", rules_json(&trace));
	json_object_set_new(answer, "match_domain", match_domain_json(&trace));
	json_object_set_new(answer, "decision", decision_json(x, &d));
	set_stamp(x, &d, answer);
	for (size_t i = 0; i < x->n_recipients; i++)
		json_array_append_new(recipients, recipient_json(x, &d, x->recipients[i]));
	json_object_set_new(answer, "recipients", recipients);
	policy_trace_free(&trace);
	decision_free(&d);
	return answer;
}
