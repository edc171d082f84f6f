/*
 * Choosing a binding: every field and operator, order, open rules, selection, match_domain, what `check` says.
 */
#include "t/lib/test.h"

#include <math.h>
#include <time.h>
#include "policy/policy_internal.h"
#include "policy/policy_trace.h"
#include "t/lib/policy_text.h"

/* One message, built up by the tests. */
struct message {
	struct facts facts;
	struct fact_header headers[8];
	struct addr ip;
};

static void message_init(struct message *m, const char *mailfrom)
{
	*m = (struct message){.facts = {.mailfrom = mailfrom, .recv_port = -1, .size = -1}};
	m->facts.headers = m->headers;
}

static void message_ip(struct message *m, const char *ip)
{
	assert_true(addr_parse(ip, &m->ip, NULL));
	m->facts.sender_ip = &m->ip;
}

static void message_header(struct message *m, const char *name, const char *value)
{
	m->headers[m->facts.n_headers++] = (struct fact_header){name, value, strlen(name), strlen(value)};
}

static void decide(const struct policy *p, const struct message *m, struct decision *d)
{
	struct fake_rnd rnd;
	fake_rnd_init(&rnd, 1);
	policy_eval(p, &m->facts, &rnd.rnd, d, NULL);
}

static bool holds_with(const char *when, const struct message *m)
{
	char *rules = mem_printf("[{'when': '%s', 'bind': 'c'}]", when);
	struct policy *p = policy_of_rules(rules);
	struct decision d;
	struct policy_trace trace;
	decide(p, m, &d);
	bool held = strcmp(d.target.name, "c") == 0;
	decision_free(&d);
	/* explain must come to the same without the index */
	struct fake_rnd rnd;
	fake_rnd_init(&rnd, 1);
	policy_trace_init(&trace);
	policy_eval(p, &m->facts, &rnd.rnd, &d, &trace);
	assert_int_equal(held, strcmp(d.target.name, "c") == 0);
	assert_int_equal(trace.n_rules, 1);
	assert_int_equal(trace.rules[0]->matched, held);
	decision_free(&d);
	policy_trace_free(&trace);
	policy_unref(&p);
	mem_free(&rules);
	return held;
}

static void assert_holds(const char *when, const struct message *m)
{
	if (!holds_with(when, m))
		fail_msg("does not hold: %s", when);
}

static void assert_not(const char *when, const struct message *m)
{
	if (holds_with(when, m))
		fail_msg("holds: %s", when);
}

static void addresses(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "<Bob@News.Example>");
	assert_holds("mailfrom == `Bob@news.example`", &m);
	assert_holds("mailfrom == `<Bob@NEWS.example>`", &m);
	assert_not("mailfrom == `bob@news.example`", &m);
	assert_holds("mailfrom != `bob@news.example`", &m);
	assert_holds("mailfrom =~ `@news\\\\.example$`", &m);
	assert_not("mailfrom =~ `^bob@`", &m);
	assert_holds("mailfrom =~ `(?i)^bob@`", &m);
	assert_not("mailfrom !~ `(?i)^bob@`", &m);
	assert_holds("mailfrom in `x@y, Bob@news.example`", &m);
	assert_holds("mailfrom_domain == `News.Example`", &m);
	assert_holds("mailfrom_domain in `a.example,news.example`", &m);
	assert_not("mailfrom_domain == `example`", &m);
	message_init(&m, "x@b\xc3\xbc"
	                 "cher.example");
	assert_holds("mailfrom_domain == `xn--bcher-kva.example`", &m);
	assert_holds("mailfrom_domain == `b\xc3\xbc"
	             "cher.example`",
	        &m);
	message_init(&m, "<postmaster>");
	assert_holds("mailfrom == `postmaster`", &m);
	assert_holds("mailfrom_domain == ``", &m);
	message_init(&m, "<@relay.example:bob@news.example>");
	assert_holds("mailfrom == `bob@news.example`", &m);
}

static void null_sender(void **state)
{
	(void)state;
	struct message m;
	for (int i = 0; i < 2; i++) {
		message_init(&m, i == 0 ? "<>" : "");
		assert_holds("mailfrom == ``", &m);
		assert_holds("mailfrom == `<>`", &m);
		assert_holds("mailfrom_domain == ``", &m);
		assert_holds("mailfrom =~ `^$`", &m);
		assert_holds("mailfrom =~ ``", &m);
		assert_holds("mailfrom != `a@b`", &m);
	}
}

static void headers(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "a@b");
	assert_not("header:X-Customer == `acme`", &m);
	assert_holds("header:X-Customer != `acme`", &m);
	assert_not("header:X-Customer =~ ``", &m);
	assert_holds("header:X-Customer !~ ``", &m);
	message_header(&m, "x-customer", "  ac\r\n\tme \r\n");
	assert_holds("header:X-Customer == `ac\\tme`", &m);
	message_header(&m, "X-CUSTOMER", "acme");
	assert_holds("header:X-Customer == `acme`", &m);
	assert_not("header:X-Customer != `acme`", &m);
	assert_not("header:X-Customer == `customer: acme`", &m);
	assert_not("header:X-Custom == `acme`", &m);
	assert_holds("header:X-Customer in `beta, acme`", &m);
	assert_holds("header:X-Customer == `acme` AND NOT header:X-Customer == `ACME`", &m);
	/* encoded words stay as they are */
	message_header(&m, "Subject", "=?utf-8?q?caf=C3=A9?=");
	assert_holds("header:subject == `=?utf-8?q?caf=C3=A9?=`", &m);
}

static void eight_bit_headers(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "a@b");
	message_header(&m, "Subject", "caf\xc3\xa9 \xff");
	assert_holds("header:subject =~ `^caf\xc3\xa9 \\\\xff$`", &m);
	assert_holds("header:subject =~ `^caf..\\\\s.$`", &m);
}

static void unknown_makes_false(void **state)
{
	(void)state;
	static const char *const fields[] = {"sender_ip =~ `.`", "sender_ip !~ `.`",
	        "sender_ip == `10.0.0.1`", "sender_ip != `10.0.0.1`", "sender_ip in `0.0.0.0/0`",
	        "sender_host == `x`", "sender_host != `x`", "helo != `x`", "auth_user != `x`",
	        "auth_user == ``", "recv_ip != `10.0.0.1`", "recv_port != `25`", "recv_port < `26`",
	        "size < `1000`", "size != `1`", "daemon_name != `x`", "body !~ `x`"};
	struct message m;
	message_init(&m, "a@b");
	for (size_t i = 0; i < array_len(fields); i++) {
		char *negated = mem_printf("NOT %s", fields[i]);
		assert_not(fields[i], &m);
		assert_holds(negated, &m);
		mem_free(&negated);
	}
}

static void addresses_of_hosts(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "a@b");
	message_ip(&m, "10.1.2.3");
	m.facts.recv_ip = "IPv6:2001:db8::1";
	m.facts.recv_port = 587;
	assert_holds("sender_ip in `10.0.0.0/8`", &m);
	assert_holds("sender_ip in `192.0.2.0/24, 10.1.2.3`", &m);
	assert_not("sender_ip in `192.0.2.0/24`", &m);
	assert_holds("sender_ip == `10.1.2.3`", &m);
	assert_holds("sender_ip == `::ffff:10.1.2.3`", &m);
	assert_holds("sender_ip != `10.1.2.4`", &m);
	assert_holds("sender_ip =~ `^10\\\\.1`", &m);
	assert_holds("recv_ip == `2001:DB8:0::1`", &m);
	assert_holds("recv_ip in `2001:db8::/32`", &m);
	assert_holds("recv_port == `587`", &m);
	assert_holds("recv_port in `25, 587`", &m);
	assert_holds("recv_port > `25` AND recv_port < `1024`", &m);
	assert_not("recv_port > `587`", &m);
	assert_holds("recv_port =~ `^58`", &m);
	/* IPv4 in IPv6 clothes is IPv4 */
	message_ip(&m, "::ffff:10.9.9.9");
	assert_holds("sender_ip in `10.0.0.0/8`", &m);
	assert_holds("sender_ip == `10.9.9.9`", &m);
}

static void names_of_hosts(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "a@b");
	m.facts.helo = "Client.Example";
	m.facts.sender_host = "Mail.Example.COM";
	m.facts.auth_user = "Bob";
	m.facts.daemon_name = "submission";
	assert_holds("helo == `client.EXAMPLE`", &m);
	assert_holds("helo =~ `^Client`", &m);
	assert_holds("sender_host == `mail.example.com`", &m);
	assert_holds("sender_host in `x.example, mail.example.com`", &m);
	assert_holds("auth_user == `Bob`", &m);
	assert_not("auth_user == `bob`", &m);
	assert_holds("daemon_name == `submission`", &m);
	m.facts.sender_host = "unknown";
	assert_not("sender_host != `x`", &m);
	m.facts.sender_host = "[10.0.0.1]";
	assert_not("sender_host !~ `x`", &m);
	m.facts.auth_user = "";
	assert_holds("auth_user == ``", &m);
}

static void body_and_size(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "a@b");
	m.facts.body = "one\r\ntwo\0three";
	m.facts.body_len = 14;
	m.facts.size = 20000;
	assert_holds("body =~ `two\\\\x00three$`", &m);
	assert_holds("body =~ `one\\\\r\\\\ntwo`", &m);
	assert_not("body =~ `^two`", &m);
	assert_holds("body =~ `(?m)^two`", &m);
	assert_holds("size > `19999` AND size < `20001`", &m);
	assert_not("size > `20000`", &m);
	assert_holds("size == `20000`", &m);
	assert_holds("size < `1MB`", &m);
	m.facts.body = "";
	m.facts.body_len = 0;
	assert_holds("body == ``", &m);
	assert_holds("body =~ `^$`", &m);
}

static void quotes_and_backslashes(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "a@b");
	m.facts.helo = "it's \\d";
	/* JSON's own backslashes are doubled here */
	assert_holds("helo == `it\\\\`s \\\\d`", &m);
	assert_holds("helo == `it\\\\`s \\\\\\\\d`", &m);
}

static void booleans(void **state)
{
	(void)state;
	struct message m;
	message_init(&m, "a@b");
	/* T and F stand for themselves */
	assert_holds("mailfrom == `a@b` OR mailfrom == `x` AND mailfrom == `x`", &m);
	assert_not("(mailfrom == `a@b` OR mailfrom == `x`) AND mailfrom == `x`", &m);
	assert_holds("NOT mailfrom == `x` AND mailfrom == `a@b`", &m);
	assert_not("NOT (mailfrom == `x` OR mailfrom == `a@b`)", &m);
	assert_holds("NOT mailfrom == `x` OR mailfrom == `x`", &m);
	assert_holds("(NOT (mailfrom == `x`))", &m);
}

static void assert_target(struct policy *p, const struct message *m, const char *target, const char *rule)
{
	struct decision d;
	decide(p, m, &d);
	assert_string_equal(d.target.name, target);
	assert_string_equal(d.rule, rule);
	decision_free(&d);
}

static void first_match_decides(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules(
	        "[{'name': 'one', 'when': 'helo == `x`', 'bind': 'a', 'priority': 'high'},"
	        " {'name': 'two', 'when': 'mailfrom =~ `@b$`', 'bind': 'b'},"
	        " {'name': 'three', 'when': 'mailfrom == `a@b`', 'bind': 'c'},"
	        " {'name': 'four', 'when': 'mailfrom_domain == `d` OR helo == `y`', 'bind': 'default'}]");
	struct message m;
	message_init(&m, "a@b");
	assert_target(p, &m, "b", "two");
	m.facts.helo = "X";
	assert_target(p, &m, "a", "one");
	message_init(&m, "a@c");
	assert_target(p, &m, "default", "default");
	m.facts.helo = "y";
	struct decision d;
	decide(p, &m, &d);
	assert_string_equal(d.target.name, "default");
	assert_string_equal(d.rule, "four");
	assert_true(d.claimed);
	decision_free(&d);
	policy_unref(&p);
}

static void match_domain(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules("[]");
	struct message m;
	message_init(&m, "x@A.Example");
	assert_target(p, &m, "a", "match_domain");
	message_init(&m, "x@a2.example");
	assert_target(p, &m, "a", "match_domain");
	message_init(&m, "x@sub.a.example");
	assert_target(p, &m, "default", "default");
	/* b believes only its own network, and who authenticated */
	message_init(&m, "x@b.example");
	assert_target(p, &m, "default", "default");
	m.facts.auth_user = "";
	assert_target(p, &m, "default", "default");
	m.facts.auth_user = "bob";
	assert_target(p, &m, "b", "match_domain");
	m.facts.auth_user = NULL;
	message_ip(&m, "11.0.0.1");
	assert_target(p, &m, "default", "default");
	message_ip(&m, "10.0.0.1");
	assert_target(p, &m, "b", "match_domain");
	message_init(&m, "<>");
	struct decision d;
	decide(p, &m, &d);
	assert_false(d.claimed);
	assert_true(decision_is_final_unclaimed(&d));
	decision_free(&d);
	struct policy_needs needs;
	policy_needs(p, &needs);
	assert_true(needs.sender_ip);
	assert_true(needs.auth_user);
	assert_false(needs.body);
	assert_false(needs.headers);
	policy_unref(&p);
}

static void open_rules(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules(
	        "[{'when': 'rcptto_domain == `gmail.com` AND helo == `x`', 'bind': 'a', 'priority': 'low'},"
	        " {'name': 'vip', 'when': 'rcptto in `ceo@x.example, cfo@x.example`', 'bind': 'group:pool', "
	        "'sticky': 'mailfrom'},"
	        " {'name': 'front', 'when': 'mailfrom == `s@t`', 'bind': 'c', 'priority': 'high'},"
	        " {'name': 'late', 'when': 'rcptto_domain == `late.example`', 'bind': 'b'}]");
	struct message m;
	struct decision d;
	struct recipient_choice c;
	message_init(&m, "s@t");
	m.facts.helo = "x";
	decide(p, &m, &d);
	assert_string_equal(d.target.name, "c");
	assert_int_equal(d.priority, PRIORITY_HIGH);
	assert_int_equal(d.n_open, 2);
	assert_string_equal(d.open[0].name, d.open[0].digest);
	assert_string_equal(d.open[1].name, "vip");
	assert_true(d.open[1].target.has_sticky);
	policy_recipient(p, &d, "<u@GMAIL.com>", &c);
	assert_string_equal(c.target, "a");
	assert_int_equal(c.priority, PRIORITY_LOW);
	policy_recipient(p, &d, "ceo@X.example", &c);
	assert_string_equal(c.target, "group:pool");
	assert_string_equal(c.rule, "vip");
	assert_int_equal(c.priority, PRIORITY_NONE);
	assert_int_equal(c.sticky, d.open[1].target.sticky);
	policy_recipient(p, &d, "u@late.example", &c);
	assert_string_equal(c.target, "c");
	assert_string_equal(c.rule, "front");
	assert_int_equal(c.priority, PRIORITY_HIGH);
	assert_int_equal(c.stale_rules, 0);
	/* a digest nobody knows is skipped and counted */
	memcpy(d.open[0].digest, "00000000", 8);
	policy_recipient(p, &d, "u@gmail.com", &c);
	assert_string_equal(c.target, "c");
	assert_int_equal(c.stale_rules, 1);
	decision_free(&d);
	/* N false: not open; nobody in front: unclaimed, but not for good */
	message_init(&m, "x@y");
	decide(p, &m, &d);
	assert_int_equal(d.n_open, 2);
	assert_string_equal(d.open[0].name, "vip");
	assert_string_equal(d.open[1].name, "late");
	assert_false(d.claimed);
	assert_false(decision_is_final_unclaimed(&d));
	policy_recipient(p, &d, "u@late.example", &c);
	assert_true(c.claimed);
	policy_recipient(p, &d, "u@other.example", &c);
	assert_false(c.claimed);
	decision_free(&d);
	policy_unref(&p);
}

static void header_names_the_target(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules("[{'name': 'own', 'when': 'sender_ip in `10.0.0.0/8`', 'bind': "
	                                   "{'header': 'X-Pool'}, 'sticky': 'header:X-Pool'}]");
	static const struct {
		const char *value, *target;
	} cases[] = {{"c", "c"}, {" b \r\n", "b"}, {"group:pool", "group:pool"}, {"group:default", "default"},
	        {"default", "default"}, {"nobody", "default"}, {"", "default"}, {"group:", "default"},
	        {"C", "default"}};
	struct message m;
	struct decision d;
	for (size_t i = 0; i < array_len(cases); i++) {
		message_init(&m, "x@y");
		message_ip(&m, "10.0.0.1");
		message_header(&m, "x-pool", cases[i].value);
		decide(p, &m, &d);
		assert_string_equal(d.target.name, cases[i].target);
		assert_int_equal(d.target.has_sticky, strcmp(d.target.name, "group:pool") == 0);
		assert_int_equal(d.claimed,
		        strcmp(cases[i].target, "default") != 0 || strcmp(cases[i].value, "default") == 0);
		decision_free(&d);
	}
	/* twice: not exactly one instance */
	message_init(&m, "x@y");
	message_ip(&m, "10.0.0.1");
	message_header(&m, "x-pool", "c");
	message_header(&m, "X-Pool", "c");
	assert_target(p, &m, "default", "default");
	/* from elsewhere nobody is believed */
	message_init(&m, "x@y");
	message_ip(&m, "11.0.0.1");
	message_header(&m, "x-pool", "c");
	assert_target(p, &m, "default", "default");
	policy_unref(&p);
}

#define N_DRAWS 20000

static void count_choices(
        struct policy *p, struct message *m, struct rnd *rnd, const char *const *names, unsigned *counts)
{
	for (int i = 0; i < N_DRAWS; i++) {
		struct decision d;
		size_t k = 0;
		policy_eval(p, &m->facts, rnd, &d, NULL);
		while (strcmp(names[k], d.target.name) != 0)
			k++;
		counts[k]++;
		decision_free(&d);
	}
}

static void assert_near(unsigned count, double share)
{
	double expected = share * N_DRAWS, sigma = sqrt(N_DRAWS * share * (1 - share));
	if (fabs(count - expected) > 5 * sigma)
		fail_msg("%u draws where %.0f are expected", count, expected);
}

static void lists_are_even_and_weights_hold(void **state)
{
	(void)state;
	static const char *const names[] = {"a", "b", "c"};
	struct fake_rnd rnd;
	struct message m;
	unsigned even[3] = {0}, weighed[3] = {0};
	message_init(&m, "x@y");
	fake_rnd_init(&rnd, 7);
	struct policy *p = policy_of_rules("[{'when': 'mailfrom =~ ``', 'bind': ['a', 'b', 'c']}]");
	count_choices(p, &m, &rnd.rnd, names, even);
	policy_unref(&p);
	for (int i = 0; i < 3; i++)
		assert_near(even[i], 1.0 / 3);
	p = policy_of_rules(
	        "[{'when': 'mailfrom =~ ``', 'bind': {'a': 1, 'b': 2.5, 'c': 0.5, 'comment': 'warm-up'}}]");
	count_choices(p, &m, &rnd.rnd, names, weighed);
	policy_unref(&p);
	assert_near(weighed[0], 0.25);
	assert_near(weighed[1], 0.625);
	assert_near(weighed[2], 0.125);
}

static void sticky_choice(struct policy *p, int sender, char out[32])
{
	char from[40];
	struct message m;
	struct decision d;
	struct fake_rnd rnd;
	snprintf(from, sizeof(from), "user%d@x.example", sender);
	message_init(&m, from);
	fake_rnd_init(&rnd, (uint64_t)sender * 77 + 5);
	policy_eval(p, &m.facts, &rnd.rnd, &d, NULL);
	snprintf(out, 32, "%s", d.target.name);
	decision_free(&d);
}

static void sticky_lists_move_few(void **state)
{
	(void)state;
	struct policy *two =
	        policy_of_rules("[{'when': 'mailfrom =~ ``', 'bind': ['a', 'b'], 'sticky': 'mailfrom'}]");
	struct policy *three = policy_of_rules(
	        "[{'when': 'mailfrom =~ ``', 'bind': ['c', 'a', 'b'], 'sticky': 'mailfrom'}]");
	unsigned moved = 0;
	for (int i = 0; i < 3000; i++) {
		char before[32], again[32], after[32];
		sticky_choice(two, i, before);
		sticky_choice(two, i, again);
		assert_string_equal(before, again);
		sticky_choice(three, i, after);
		if (strcmp(before, after) == 0)
			continue;
		assert_string_equal(after, "c"); /* nobody moves between the old ones */
		moved++;
	}
	assert_in_range(moved, 870, 1130); /* a third */
	policy_unref(&two);
	policy_unref(&three);
}

static bool not_p1(void *ctx, const struct conf_binding *b)
{
	(void)ctx;
	return strcmp(b->name, "p1") != 0;
}

static bool nobody(void *ctx, const struct conf_binding *b)
{
	(void)ctx;
	(void)b;
	return false;
}

static void group_members(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules("[]");
	const struct conf *conf = policy_conf(p);
	const struct conf_group *g = conf_group_named(conf, "pool");
	unsigned p2 = 0;
	for (uint64_t key = 0; key < N_DRAWS; key++) {
		int member = policy_group_member(conf, g, key, NULL, NULL);
		assert_true(member >= 0);
		const char *name = conf_binding(conf, (uint32_t)member)->name;
		p2 += strcmp(name, "p2") == 0;
		/* who did not choose the one that went away stays */
		int other = policy_group_member(conf, g, key, not_p1, NULL);
		assert_string_equal(conf_binding(conf, (uint32_t)other)->name, "p2");
	}
	assert_near(p2, 0.75);
	assert_int_equal(policy_group_member(conf, g, 1, nobody, NULL), -1);
	policy_unref(&p);
}

static void sticky_of_what_is_not_there_is_random(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules(
	        "[{'when': 'mailfrom =~ ``', 'bind': 'group:pool', 'sticky': 'header:X-Campaign'}]");
	struct message m;
	struct decision d;
	message_init(&m, "x@y");
	decide(p, &m, &d);
	assert_false(d.target.has_sticky);
	decision_free(&d);
	message_header(&m, "X-Campaign", "summer");
	message_header(&m, "X-Campaign", "winter"); /* the first counts */
	decide(p, &m, &d);
	assert_true(d.target.has_sticky);
	uint32_t summer = d.target.sticky;
	decision_free(&d);
	m.facts.n_headers = 1;
	decide(p, &m, &d);
	assert_int_equal(d.target.sticky, summer);
	decision_free(&d);
	policy_unref(&p);
}

static void pattern_gives_up(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules("[{'when': 'header:x =~ `^(a+)+$`', 'bind': 'a'}]");
	struct message m;
	char hostile[4001];
	memset(hostile, 'a', 4000);
	memcpy(hostile + 3999, "!", 2);
	message_init(&m, "x@y");
	message_header(&m, "X", hostile);
	assert_int_equal(policy_pattern_limit_hits(p), 0);
	assert_target(p, &m, "default", "default");
	assert_int_equal(policy_pattern_limit_hits(p), 1);
	assert_target(p, &m, "default", "default");
	assert_int_equal(policy_pattern_limit_hits(p), 2);
	policy_unref(&p);
}

/* What giving up costs is bounded for the message, not only for each of its fields. */
static void pattern_gives_up_on_many_fields(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules("[{'when': 'header:x =~ `^(a+)+$`', 'bind': 'a'},"
	                                   " {'name': 'n', 'when': 'header:x =~ `^b+$`', 'bind': 'b'}]");
	size_t n = 100000;
	struct fact_header *fields = mem_array(NULL, n, sizeof(*fields));
	struct message m;
	clock_t begin = clock();
	message_init(&m, "x@y");
	for (size_t i = 0; i < n; i++)
		fields[i] = (struct fact_header){"X", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", 1, 40};
	fields[n - 1] = (struct fact_header){"X", "bbb", 1, 3};
	m.facts.headers = fields;
	m.facts.n_headers = n;
	assert_target(p, &m, "b", "n");
	assert_int_equal(policy_pattern_limit_hits(p), n);
	/* unbounded it would take a hundred times what is allowed: no need to look closely */
	assert_true((clock() - begin) / CLOCKS_PER_SEC < 5);
	mem_free(&fields);
	policy_unref(&p);
}

static void long_subjects_in_slices(void **state)
{
	(void)state;
	struct policy *p =
	        policy_of_rules("[{'name': 'n', 'when': 'body =~ `^needle|[^x]needle\\\\z`', 'bind': 'a'}]");
	struct message m;
	size_t n = 300000;
	char *body = mem_alloc(n + 8);
	memset(body, 'x', n);
	memcpy(body + n - 7, "-needle", 8);
	message_init(&m, "x@y");
	m.facts.body = body;
	m.facts.body_len = n;
	assert_target(p, &m, "a", "n");
	m.facts.body_len = n - 1;
	assert_target(p, &m, "default", "default");
	mem_free(&body);
	policy_unref(&p);
}

static void assert_says(const char *rules, bool loads, const char *words)
{
	struct errors errors = {.n = 0};
	struct policy *p = policy_try_rules(rules, &errors);
	char *text = errors_text(&errors);
	if ((p != NULL) != loads)
		fail_msg("%s: %s: %s", rules, loads ? "refused" : "accepted", text);
	if (words == NULL ? errors.n != 0 : strstr(text, words) == NULL)
		fail_msg("%s: says \"%s\"", rules, text);
	mem_free(&text);
	policy_unref(&p);
	errors_free(&errors);
}

#define EVERY "{'when': 'mailfrom =~ ``', 'bind': ['c', 'group:pool']}"

static void errors_of_rules(void **state)
{
	(void)state;
	assert_says("[{'when': 'mailfrom', 'bind': 'c'}]", false,
	        "rules[0].when: column 9: expected an operator");
	assert_says("[{'bind': 'c'}]", false, "rules[0].when: is missing");
	assert_says("[{'when': 'mailfrom == `x`'}]", false, "rules[0].bind: is missing");
	assert_says("[" EVERY ", {'when': 'helo == `x`', 'bind': 'nobody'}]", false,
	        "rules[1].bind: there is no binding \"nobody\"");
	assert_says("[{'when': 'helo == `x`', 'bind': 'pool'}]", false, "for the group write \"group:pool\"");
	assert_says("[{'when': 'helo == `x`', 'bind': 'group:nobody'}]", false,
	        "there is no binding group \"nobody\"");
	assert_says("[{'when': 'helo == `x`', 'bind': 'group:default'}]", false,
	        "\"group:default\" is no target");
	assert_says("[{'when': 'helo == `x`', 'bind': []}]", false, "the list is empty");
	assert_says("[{'when': 'helo == `x`', 'bind': {}}]", false, "the object is empty");
	assert_says("[{'when': 'helo == `x`', 'bind': {'a': 0}}]", false,
	        "rules[0].bind.a: a weight is a number greater than 0");
	assert_says("[{'when': 'helo == `x`', 'bind': ['a', 'a']}]", false, "\"a\" stands there twice");
	assert_says(
	        "[{'when': 'helo == `x`', 'bind': {'header': 'X Y'}}]", false, "not the name of a header");
	assert_says("[{'when': 'helo == `x`', 'bind': 'c', 'sticky': 'rcptto'}]", false,
	        "recipient fields cannot be used");
	assert_says("[{'when': 'helo == `x`', 'bind': 'c', 'sticky': 'who'}]", false,
	        "rules[0].sticky: column 1: expected a field");
	assert_says("[{'when': 'helo == `x`', 'bind': 'c', 'priority': 'urgent'}]", false,
	        "rules[0].priority: must be");
	assert_says("[{'when': 'helo == `x`', 'bind': 'c', 'then': 1}]", false, "rules[0].then: unknown key");
	assert_says("[{'name': 'default', 'when': 'helo == `x`', 'bind': 'c'}]", false, "rules[0].name: ");
	assert_says(
	        "[{'name': 'match_domain', 'when': 'helo == `x`', 'bind': 'c'}]", false, "rules[0].name: ");
	assert_says("[{'name': '0123abCD', 'when': 'helo == `x`', 'bind': 'c'}]", false,
	        "rules[0].name: 8 hexadecimal digits");
	assert_says("[{'name': 'a b', 'when': 'helo == `x`', 'bind': 'c'}]", false, "rules[0].name: ");
	assert_says("[{'name': 'n', 'when': 'helo == `x`', 'bind': 'c'}, {'name': 'n', 'when': 'helo == "
	            "`y`', 'bind': 'c'}]",
	        false, "rules[1].name: \"n\" is already the name of ");
	assert_says("[{'when': 'helo == `x` OR rcptto == `y`', 'bind': 'c'}]", false,
	        "split it into rules with the same bind: \"helo == 'x'\" and \"rcptto == 'y'\"");
	/* all at once */
	assert_says(
	        "[{'when': 'x', 'bind': 'c'}, {'when': 'y', 'bind': 'c'}]", false, "rules[1].when: column 1");
}

static void warnings_of_check(void **state)
{
	(void)state;
	assert_says("[" EVERY "]", true, NULL);
	assert_says("[]", true, "bindings.c: nothing assigns mail to it");
	assert_says("[{'when': 'helo == `x`', 'bind': 'c'}]", true, "p1: nothing assigns mail to it");
	assert_says(
	        "[" EVERY ", {'when': 'helo == `x`', 'bind': 'c'}]", true, "rules[1]: can never be reached");
	assert_says("[{'when': 'helo == `x`', 'bind': ['c', 'group:pool']}, {'when': 'size > `1` AND helo  "
	            "==  `x`', 'bind': 'a'}]",
	        true, "rules[1]: can never be reached");
	assert_says("[{'when': 'helo == `x` AND size > `1`', 'bind': ['c', 'group:pool']}, {'when': 'helo == "
	            "`x`', 'bind': 'a'}]",
	        true, NULL);
	/* spelled in another way */
	assert_says("[{'when': 'mailfrom_domain == `Example.COM`', 'bind': ['c', 'group:pool']}, {'when': "
	            "'mailfrom_domain in `example.com`', 'bind': 'a'}]",
	        true, "rules[1]: can never be reached");
	assert_says("[{'when': 'header:X-A == `x`', 'bind': ['c', 'group:pool']}, {'when': 'header:x-a == "
	            "`x` AND "
	            "helo == `h`', 'bind': 'a'}]",
	        true, "rules[1]: can never be reached");
	assert_says(
	        "[{'when': 'header:X-A == `x`', 'bind': ['c', 'group:pool']}, {'when': 'header:X-A == `X`', "
	        "'bind': 'a'}]",
	        true, NULL);
	assert_says("[{'when': 'helo != `x`', 'bind': ['c', 'group:pool']}, {'when': 'helo == `x`', 'bind': "
	            "'a'}]",
	        true, NULL);
	assert_says("[{'when': 'rcptto == `x`', 'bind': ['c', 'group:pool']}, {'when': 'rcptto == `x` AND "
	            "size > `1`', 'bind': 'a'}]",
	        true, "rules[1]: can never be reached");
	assert_says("[{'when': 'rcptto =~ `.*`', 'bind': ['c', 'group:pool']}, {'when': 'size > `1`', "
	            "'bind': 'a'}]",
	        true, NULL);
	assert_says("[{'when': 'sender_ip in `::1`', 'bind': {'header': 'X'}}]", true, NULL);
	assert_says("[{'when': 'mailfrom =~ `x`', 'bind': {'header': 'X'}}]", true,
	        "lets whoever writes the header");
	assert_says("[{'when': 'header:x-binding == `x`', 'bind': ['c', 'group:pool']}]", true,
	        "the stamp itself");
}

static void needs(void **state)
{
	(void)state;
	struct policy_needs n;
	struct policy *p = policy_of_rules(
	        "[{'when': 'body =~ `x` AND recv_port == `25`', 'bind': 'a', 'sticky': 'daemon_name'}]");
	policy_needs(p, &n);
	assert_true(n.body && n.recv_port && n.daemon_name);
	assert_false(n.headers || n.size || n.sender_host || n.helo || n.recv_ip);
	policy_unref(&p);
	p = policy_of_rules("[{'when': 'size > `1`', 'bind': {'header': 'X'}}]");
	policy_needs(p, &n);
	assert_true(n.headers && n.size);
	policy_unref(&p);
}

static void claimed_twice(void **state)
{
	(void)state;
	struct errors errors = {.n = 0};
	struct policy *p = policy_of_text(
	        "{'bindings': {'a': {'bind_address': '192.0.2.1', 'match_domain': 'x.example'},"
	        "'b': {'bind_address': '192.0.2.2', 'match_domain': 'X.example'},"
	        "'default': {'bind_address': '192.0.2.3'}}}",
	        &errors);
	assert_null(p);
	char *text = errors_text(&errors);
	assert_non_null(strstr(text, "x.example"));
	assert_int_equal(errors.n_errors, 1);
	mem_free(&text);
	errors_free(&errors);
}

/* All of them may be open for one message, and stand in its stamp. */
static void many_recipient_rules(void **state)
{
	(void)state;
	static const struct {
		int rules;
		const char *first, *says;
	} cases[] = {
	        {2000, "", NULL},
	        {3500, "", "rules[3500]: 3500 rules test recipients and nothing else"},
	        {3500, "mailfrom_domain == `x.example` AND ", NULL},
	};
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		struct str rules;
		str_init(&rules);
		str_add(&rules, "[");
		for (int i = 0; i < cases[c].rules; i++)
			str_printf(&rules, "{'when': '%srcptto == `u%d@d.example`', 'bind': 'a'},",
			        cases[c].first, i);
		str_add(&rules, EVERY "]");
		assert_says(rules.data, true, cases[c].says);
		str_free(&rules);
	}
}

static void many_literals_are_indexed(void **state)
{
	(void)state;
	struct str rules;
	str_init(&rules);
	str_add(&rules, "[");
	for (int i = 0; i < 5000; i++)
		str_printf(&rules,
		        "{'name': 'r%d', 'when': 'header:X-Customer == `c%d` AND NOT helo == `skip`', "
		        "'bind': '%s'},",
		        i, i, i % 2 ? "a" : "b");
	str_add(&rules, EVERY "]");
	struct policy *p = policy_of_rules(rules.data);
	assert_int_equal(p->index.n_always, 1);
	assert_int_equal(lit_table_count(p->index.spaces[0].table), 5000);
	assert_int_equal(p->index.n_postings, 0);
	struct message m;
	message_init(&m, "x@y");
	message_header(&m, "X-Customer", "c4711");
	message_header(&m, "X-Customer", "c4710");
	assert_target(p, &m, "b", "r4710"); /* the earlier rule */
	policy_unref(&p);
	str_free(&rules);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(many_recipient_rules),
        cmocka_unit_test(null_sender),
        cmocka_unit_test(headers),
        cmocka_unit_test(eight_bit_headers),
        cmocka_unit_test(unknown_makes_false),
        cmocka_unit_test(addresses_of_hosts),
        cmocka_unit_test(names_of_hosts),
        cmocka_unit_test(body_and_size),
        cmocka_unit_test(quotes_and_backslashes),
        cmocka_unit_test(booleans),
        cmocka_unit_test(first_match_decides),
        cmocka_unit_test(match_domain),
        cmocka_unit_test(open_rules),
        cmocka_unit_test(header_names_the_target),
        cmocka_unit_test(lists_are_even_and_weights_hold),
        cmocka_unit_test(sticky_lists_move_few),
        cmocka_unit_test(group_members),
        cmocka_unit_test(sticky_of_what_is_not_there_is_random),
        cmocka_unit_test(pattern_gives_up),
        cmocka_unit_test(pattern_gives_up_on_many_fields),
        cmocka_unit_test(long_subjects_in_slices),
        cmocka_unit_test(errors_of_rules),
        cmocka_unit_test(warnings_of_check),
        cmocka_unit_test(needs),
        cmocka_unit_test(claimed_twice),
        cmocka_unit_test(many_literals_are_indexed),
};
TEST_MAIN("policy_eval", tests)
