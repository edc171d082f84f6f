/*
 * The answer of `bindpost explain` as text: in the order mail takes, the outcome of each part in its first line.
 */
#include <stdio.h>
#include <string.h>

#include "control/cli_explain.h"

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* Scalars and lists as cli_print_value() does: nothing in them reaches the terminal as a control character. */
static void put(const json_t *value)
{
	struct str text;

	str_init(&text);
	cli_print_value(value, &text);
	fputs(text.data ? text.data : "", stdout);
	str_free(&text);
}

static void put_list(const json_t *list)
{
	size_t i;
	json_t *item;

	json_array_foreach ((json_t *)list, i, item) {
		if (i)
			fputs(", ", stdout);
		put(item);
	}
}

static void put_key(const json_t *object, const char *key)
{
	put(json_object_get(object, key));
}

static bool is(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* --- rules -------------------------------------------------------------------------------------------------------- */

static void print_test(const json_t *test)
{
	const json_t *value = json_object_get(test, "value");

	printf("      %-5s  ", is(test, "result") ? "true" : "false");
	put_key(test, "test");
	if (!is(test, "known")) {
		fputs("    (unknown)", stdout);
	} else if (json_is_string(value)) {
		fputs("    (is \"", stdout);
		if (json_string_length(value) > 0)
			put(value);
		fputs("\")", stdout);
	} else {
		fputs("    (there is none)", stdout);
	}
	putchar('\n');
}

static void print_weights(const json_t *list, const char *key)
{
	size_t i;
	json_t *item;

	json_array_foreach ((json_t *)list, i, item) {
		if (i)
			fputs(", ", stdout);
		put_key(item, key);
		printf(" (weight %g)", json_number_value(json_object_get(item, "weight")));
	}
}

static void print_choice(const json_t *rule)
{
	const json_t *choices = json_object_get(rule, "choices");
	const char *by = text_of(rule, "chosen_by");

	if (!*by)
		return;
	if (!choices) {
		printf("\n         named by %s", by);
		return;
	}
	fputs("\n         chosen among ", stdout);
	print_weights(choices, "target");
	printf(", %s", strcmp(by, "random") == 0 ? "at random for each message: this is one draw" : by);
}

static void print_rule(const json_t *rule, bool of_recipient)
{
	size_t i;
	json_t *test;

	fputs("  rule ", stdout);
	put_key(rule, "rule");
	fputs("    ", stdout);
	put_key(rule, "where");
	putchar('\n');
	json_array_foreach (json_object_get(rule, "tests"), i, test)
		print_test(test);
	if (!is(rule, "matched")) {
		puts("      does not match");
		return;
	}
	printf("      %s ", is(rule, "open") ? "stays open, decided per recipient:"
	                    : of_recipient   ? "matches:"
	                                     : "matches, ends the list:");
	put_key(rule, "target");
	print_choice(rule);
	putchar('\n');
}

static void print_rules(const json_t *rules, bool of_recipient)
{
	size_t i;
	json_t *rule;

	json_array_foreach ((json_t *)rules, i, rule)
		print_rule(rule, of_recipient);
}

static void print_match_domain(const json_t *m)
{
	if (!json_is_object(m))
		return;
	fputs("  match_domain\n      ", stdout);
	if (*text_of(m, "domain"))
		put_key(m, "domain");
	else
		fputs("no domain", stdout);
	if (!json_is_string(json_object_get(m, "binding"))) {
		puts(" is claimed by no binding");
		return;
	}
	fputs(" is claimed by ", stdout);
	put_key(m, "binding");
	puts(is(m, "believed") ? "" : ", but its match_domain_from does not believe this client");
}

/* --- decision ----------------------------------------------------------------------------------------------------- */

static void print_message(const json_t *m)
{
	const json_t *unknown = json_object_get(m, "unknown");

	fputs("Message from ", stdout);
	put_key(m, "sender");
	if (json_is_string(json_object_get(m, "client"))) {
		fputs(", client ", stdout);
		put_key(m, "client");
	}
	putchar('\n');
	if (json_array_size(unknown)) {
		fputs("  rules also ask for what was not given here, so these tests are false: ", stdout);
		put_list(unknown);
		putchar('\n');
	}
}

static void print_decision(const json_t *answer)
{
	const json_t *d = json_object_get(answer, "decision");

	fputs("\nDecision: ", stdout);
	put_key(d, "target");
	fputs(", by ", stdout);
	put_key(d, "rule");
	if (json_array_size(json_object_get(d, "open")))
		fputs(", for recipients that no open rule claims", stdout);
	putchar('\n');
	if (json_is_string(json_object_get(d, "reply"))) {
		fputs("  the milter answers ", stdout);
		put_key(d, "reply");
		puts(" (default_binding is none)");
		return;
	}
	printf("  %s\n", text_of(answer, "stamp"));
	if (json_is_string(json_object_get(answer, "stamp_unsigned"))) {
		fputs("  not signed here: ", stdout);
		put_key(answer, "stamp_unsigned");
		putchar('\n');
	}
}

/* --- recipients --------------------------------------------------------------------------------------------------- */

static void print_route(const json_t *r, const char *domain)
{
	const char *type = text_of(r, "type");

	fputs("    route    ", stdout);
	if (strcmp(type, "gateway") == 0 || strcmp(type, "routes") == 0) {
		printf("%s ", type);
		put_key(r, "next_hop");
		fputs(", from ", stdout);
		put_key(r, "origin");
	} else {
		printf("%s %s", strcmp(type, "mx") == 0 ? "MX hosts of" : "the address", domain);
	}
	fputs("; ", stdout);
	put_key(r, "method");
	fputs(", port ", stdout);
	put_key(r, "port");
	puts(strcmp(type, "gateway") == 0     ? " unless the gateway names one"
	        : strcmp(type, "routes") == 0 ? " unless the route names one"
	                                      : "");
}

static void print_tls(const json_t *t)
{
	fputs("    TLS      ", stdout);
	put_key(t, "tls");
	if (strcmp(text_of(t, "tls"), "no") == 0) {
		puts(", and so no DANE");
		return;
	}
	fputs(", from version ", stdout);
	put_key(t, "tls_min_version");
	fputs(" on, tls_verify ", stdout);
	put_key(t, "tls_verify");
	fputs("; DANE ", stdout);
	put_key(t, "dane");
	puts(strcmp(text_of(t, "dane"), "no") == 0 ? "" : ", which goes before them");
}

static void print_limits(const json_t *l)
{
	fputs("    limits   ", stdout);
	put_key(l, "max_outbound_connections");
	fputs(" connections to this next hop, ", stdout);
	if (json_is_integer(json_object_get(l, "binding_total"))) {
		put_key(l, "binding_total");
		fputs(" of this binding, ", stdout);
	}
	put_key(l, "server_total");
	fputs(" in all; ", stdout);
	put_key(l, "max_recipients_per_batch");
	puts(" recipients at a time");
}

static void print_options(const json_t *options)
{
	size_t i;
	json_t *o;

	if (json_array_size(options))
		puts("    options that differ from the built-in ones");
	json_array_foreach ((json_t *)options, i, o) {
		char *value = json_dumps(json_object_get(o, "value"), JSON_ENCODE_ANY | JSON_COMPACT);

		printf("      %s = %s    ", text_of(o, "option"), value ? value : "");
		put_key(o, "origin");
		putchar('\n');
		free(value);
	}
}

static void print_counts(const json_t *row)
{
	static const char *const keys[] = {"active", "deferred", "held", "connections"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		printf("%s%s ", i ? ", " : "", keys[i]);
		put_key(row, keys[i]);
	}
	if (is(row, "source_down"))
		fputs(", SOURCE DOWN", stdout);
	if (strcmp(text_of(row, "state"), "suspended") == 0)
		fputs(", SUSPENDED", stdout);
	if (is(row, "removed"))
		fputs(", not in the configuration in force", stdout);
	if (json_is_string(json_object_get(row, "reason"))) {
		fputs(", waits: ", stdout);
		put_key(row, "reason");
	}
	if (json_is_string(json_object_get(row, "next_attempt"))) {
		fputs(", next attempt ", stdout);
		put_key(row, "next_attempt");
	}
	if (json_is_string(json_object_get(row, "reply"))) {
		fputs(", last said: ", stdout);
		put_key(row, "reply");
	}
	putchar('\n');
}

static void print_live(const json_t *live)
{
	const json_t *binding = json_object_get(live, "binding");
	size_t i;
	json_t *row;

	if (!live)
		return;
	fputs("    now      binding: ", stdout);
	if (json_is_object(binding))
		print_counts(binding);
	else
		puts("deliveryd does not know it: it has not taken this configuration");
	json_array_foreach (json_object_get(live, "queues"), i, row) {
		fputs("             queue: ", stdout);
		print_counts(row);
	}
	if (!json_array_size(json_object_get(live, "queues")))
		puts("             no queue: nothing waits for this next hop");
}

static void print_binding(const json_t *b, const char *domain)
{
	fputs("  binding ", stdout);
	put_key(b, "binding");
	fputs(is(b, "suspended") ? "    SUSPENDED (mail is kept)    " : "    ", stdout);
	put_key(b, "where");
	fputs("\n    source   ", stdout);
	put_key(b, "source");
	fputs("    ", stdout);
	put_key(b, "source_origin");
	fputs("\n    EHLO     ", stdout);
	put_key(b, "ehlo");
	fputs("    ", stdout);
	put_key(b, "ehlo_origin");
	putchar('\n');
	print_route(json_object_get(b, "route"), domain);
	print_tls(json_object_get(b, "tls"));
	print_limits(json_object_get(b, "limits"));
	print_options(json_object_get(b, "options"));
	print_live(json_object_get(b, "live"));
}

static void print_group(const json_t *r)
{
	bool sticky = strcmp(text_of(r, "chosen_by"), "sticky") == 0;

	if (!json_is_string(json_object_get(r, "group")))
		return;
	fputs("  one of group ", stdout);
	put_key(r, "group");
	fputs(": chosen among ", stdout);
	print_weights(json_object_get(r, "members"), "binding");
	printf(" by %s, without those that are suspended or whose address is not here\n",
	        sticky ? "the rule's sticky field" : "the queue id");
	if (json_is_string(json_object_get(r, "member"))) {
		printf("  %s ", sticky ? "this message gets" : "the id given gets");
		put_key(r, "member");
		puts(is(r, "member_live") ? ""
		                          : ", if its address is here and it is not suspended by command "
		                            "(--live asks)");
	} else {
		puts("  (--id says which one a message gets)");
	}
}

static void print_recipient(const json_t *r)
{
	size_t i;
	json_t *b;

	fputs("\nRecipient ", stdout);
	put_key(r, "recipient");
	if (json_is_string(json_object_get(r, "error"))) {
		fputs(": ", stdout);
		put_key(r, "error");
		putchar('\n');
		return;
	}
	fputs(": ", stdout);
	put_key(r, "target");
	fputs(", by ", stdout);
	put_key(r, "rule");
	if (json_is_string(json_object_get(r, "priority"))) {
		fputs(", priority ", stdout);
		put_key(r, "priority");
	}
	putchar('\n');
	print_rules(json_object_get(r, "rules"), true);
	if (json_is_string(json_object_get(r, "reply"))) {
		fputs("  deliveryd answers ", stdout);
		put_key(r, "reply");
		puts(" (default_binding is none)");
		return;
	}
	print_group(r);
	json_array_foreach (json_object_get(r, "bindings"), i, b)
		print_binding(b, text_of(r, "domain"));
}

void explain_text(const json_t *answer)
{
	size_t i;
	json_t *r;

	print_message(json_object_get(answer, "message"));
	puts("\nRules");
	print_rules(json_object_get(answer, "rules"), false);
	print_match_domain(json_object_get(answer, "match_domain"));
	print_decision(answer);
	json_array_foreach (json_object_get(answer, "recipients"), i, r)
		print_recipient(r);
}
