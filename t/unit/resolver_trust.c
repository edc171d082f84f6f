/* resolver - who may answer, and about what; CNAMEs over several queries */
#include "config.h"
#include "t/lib/test.h"

#include "t/lib/resolver_world.h"

/* --- who may answer --- */

static void forger(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	static const char evil[] = "198.51.100.66";
	struct world *w = ctx;
	struct dns_request f = *q;

	f.id = q->id ^ 0x5555;
	answer_begin(&f, out, 0);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* wrong id */
	wire_header(out, q->id, DNS_WIRE_RD);
	wire_question(out, q->name, q->type);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* QR = 0 */
	answer_begin(q, out, 5 << 11);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* opcode */
	wire_header(out, q->id, ANSWER_FLAGS);
	wire_question(out, "other.test", q->type);
	wire_a(out, "other.test", 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* question */
	answer_begin(q, out, 0);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[1], &q->from, out); /* source address */
	dns_server_fake_send(w->servers[2], &q->from, out); /* source port */
	wire_header(out, q->id, ANSWER_FLAGS);
	out->len = 5;
	dns_server_fake_send(w->servers[0], &q->from, out); /* too short */
	out->len = 0;
	if (w->extra)
		answer_good(ctx, q, out);
}

static void what_is_no_answer_is_waited_past(void **state)
{
	struct world w;
	struct answer a;
	struct resolver_server only;

	(void)state;
	world_setup(&w, 3, (dns_server_answer *const[]){forger, answer_silent, answer_silent});
	only = (struct resolver_server){.addr = dns_server_fake_addr(w.servers[0])};
	resolver_set_servers(w.resolver, &only, 1);
	w.extra = &w; /* the right one comes last */
	world_ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(a.addr.ip[0], 192);
	w.extra = NULL; /* or not at all */
	world_ask(&w, "e.test", DNS_A, &a);
	assert_false(a.done);
	for (int i = 0; i < 20; i++)
		world_advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	/* first id, QR, opcode, question and length; then the first three rounds' of the second; the kernel keeps what
	 * comes from elsewhere */
	assert_int_equal(world_counter(&w, "bindpost_dns_ignored_total", NULL), 5 * w.n_asked);
	world_teardown(&w);
}

static void poisoner(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, 0);
	if (strcmp(q->name, "victim.test") == 0) {
		wire_a(out, q->name, 300, "192.0.2.7");
		return;
	}
	wire_a(out, "victim.test", 300, "198.51.100.66");
	wire_a(out, q->name, 300, "192.0.2.1");
	wire_rr(out, 3, "victim.test", DNS_A, 300, "\306\063\144\102", 4);
}

static void what_comes_along_poisons_nothing(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){poisoner});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.n, 1);
	assert_int_equal(a.addr.ip[3], 1);
	world_ask(&w, "victim.test", DNS_A, &a);
	assert_int_equal(a.addr.ip[3], 7);
	world_teardown(&w);
}

/* --- CNAMEs over several queries --- */

static void chain_link(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world *w = ctx;
	unsigned i, end = *(unsigned *)w->extra;
	char next[32];

	assert_int_equal(sscanf(q->name, "c%u.test", &i), 1);
	answer_begin(q, out, i == 2 ? 0 : DNS_WIRE_AD);
	if (i == end) {
		wire_a(out, q->name, 300, "192.0.2.1");
		return;
	}
	snprintf(next, sizeof(next), "c%u.test", i + 1);
	wire_cname(out, q->name, 60, next);
}

static void a_chain_over_several_queries(void **state)
{
	struct world w;
	struct answer a;
	unsigned end = 8;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){chain_link});
	w.extra = &end;
	world_ask(&w, "c0.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_string_equal(a.name, "c8.test");
	assert_int_equal(a.ttl_s, 60);
	assert_false(a.authentic); /* one link was not signed */
	end = 10;
	world_ask(&w, "c1.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "too many CNAMEs"));
	end = 5;
	world_ask(&w, "c3.test", DNS_A, &a);
	assert_true(a.authentic);
	world_teardown(&w);
}

static void a_loop_over_several_queries(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){answer_loop_link, answer_loop_link});
	world_ask(&w, "a.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "CNAME loop"));
	assert_int_equal(w.n_asked, 2);
	world_teardown(&w);
}

static void keep_result(void *ctx, struct dns_result *takes)
{
	answer_keep(ctx, &takes->answer);
	dns_result_unref(&takes);
}

static void ad_is_believed_from_trusted_servers_only(void **state)
{
	static const struct {
		const char *addr;
		bool declared, trusted;
	} cases[] = {{"192.0.2.53", false, false}, {"192.0.2.53", true, true}, {"127.0.0.1", false, true},
	        {"::1", false, true}};
	struct world w;
	struct answer a = {.done = false};
	metric none = 0;
	struct dns_lookup_env env = {.rnd = &rnd_system,
	        .n_udp = &none,
	        .n_tcp = &none,
	        .n_silent = &none,
	        .n_foreign = &none,
	        .n_bad = &none};
	struct dns_question q;
	struct resolver_server s = {.trust_ad = false};
	struct dns_servers *servers;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		assert_true(addr_parse(cases[i].addr, &s.addr, NULL));
		s.trust_ad = cases[i].declared;
		servers = dns_servers_new(&s, 1);
		assert_int_equal(servers->servers[0].trust_ad, cases[i].trusted);
		assert_int_equal(servers->servers[0].addr.port, 53);
		dns_servers_unref(&servers);
	}
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	env.loop = w.loop;
	env.udp = dns_udp_new(w.loop, &rnd_system, &none);
	env.tcp = dns_tcp_new(w.loop);
	s.addr = dns_server_fake_addr(w.servers[0]);
	servers = dns_servers_new(&s, 1);
	servers->servers[0].trust_ad = false; /* as if it were not on loopback */
	assert_true(dns_question_set(&q, "d.test", DNS_A, NULL));
	dns_lookup_start(&env, servers, &q, keep_result, &a);
	world_settle(&w);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_false(a.authentic);
	dns_servers_unref(&servers);
	dns_udp_free(&env.udp);
	dns_tcp_free(&env.tcp);
	world_teardown(&w);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_answer_is_waited_past),
        cmocka_unit_test(what_comes_along_poisons_nothing),
        cmocka_unit_test(a_chain_over_several_queries),
        cmocka_unit_test(a_loop_over_several_queries),
        cmocka_unit_test(ad_is_believed_from_trusted_servers_only),
};
TEST_MAIN("resolver_trust", tests)
