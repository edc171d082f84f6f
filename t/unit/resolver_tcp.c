/* resolver - what UDP cuts comes by TCP, and how that may go wrong */
#include "config.h"
#include "t/lib/test.h"

#include "t/lib/resolver_world.h"

static void cut_everywhere(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, DNS_WIRE_TC);
}

static void tcp_for_what_udp_cuts(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_cut_on_udp});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(a.n, 90);
	assert_true(w.last[0].tcp);
	assert_int_equal(world_counter(&w, "bindpost_dns_queries_total", "transport=\"tcp\""), 1);
	w.scripts[0] = cut_everywhere;
	world_ask(&w, "e.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "truncated"));
	world_teardown(&w);
}

static void tcp_silent(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	if (!q->tcp)
		answer_cut_on_udp(ctx, q, out);
}

static void tcp_that_is_silent(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){tcp_silent, answer_good});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_false(a.done);
	world_advance(&w, 4000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	world_teardown(&w);
}

static void hang_up(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	answer_cut_on_udp(ctx, q, out);
	if (q->tcp)
		out->len = 0;
}

static void tcp_closed_under_us(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){hang_up, answer_good});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_false(a.done);
	dns_server_fake_close(w.servers[0]);
	world_settle(&w);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	world_teardown(&w);
}

/* Somebody else's answer in the stream, then ours */
static void two_on_tcp(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world *w = ctx;
	struct dns_request other = *q;

	if (!q->tcp) {
		answer_cut_on_udp(ctx, q, out);
		return;
	}
	other.id ^= 1;
	answer_good(ctx, &other, out);
	dns_server_fake_send_tcp(w->servers[0], out);
	out->len = 0;
	answer_good(ctx, q, out);
}

static void tcp_waits_past_foreign_messages(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){two_on_tcp});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(a.n, 1);
	assert_int_equal(world_counter(&w, "bindpost_dns_ignored_total", NULL), 1);
	world_teardown(&w);
}

static void tcp_that_nobody_listens_on(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_cut_on_udp});
	dns_server_fake_close_tcp(w.servers[0]);
	world_ask(&w, "d.test", DNS_A, &a);
	for (int i = 0; i < 20; i++)
		world_advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "TCP to 127.0.0.1:"));
	assert_non_null(strstr(a.why, "Connection refused"));
	world_teardown(&w);
}

static void tcp_short(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	answer_cut_on_udp(ctx, q, out);
	if (q->tcp)
		out->len = 11; /* less than a header */
}

static void tcp_flood(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world *w = ctx;
	struct dns_request other = *q;

	answer_cut_on_udp(ctx, q, out);
	if (!q->tcp)
		return;
	other.id ^= 1;
	for (int i = 0; i < 20; i++) {
		answer_good(ctx, &other, out);
		dns_server_fake_send_tcp(w->servers[0], out);
	}
	answer_good(ctx, q, out);
}

static void tcp_formerr(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	if (q->tcp && q->edns)
		answer_formerr(ctx, q, out);
	else
		answer_cut_on_udp(ctx, q, out);
}

static void tcp_misfortunes(void **state)
{
	static const struct {
		dns_server_answer *script;
		enum dns_outcome outcome;
		const char *why;
	} cases[] = {{tcp_short, DNS_ANSWER, ""}, {tcp_flood, DNS_ANSWER, ""}, {tcp_formerr, DNS_ANSWER, ""}};
	struct world w;
	struct answer a;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		world_setup(&w, 2, (dns_server_answer *const[]){cases[i].script, answer_good});
		world_ask(&w, "d.test", DNS_A, &a);
		assert_true(a.done); /* at once, by the second server or by a second try */
		assert_int_equal(a.outcome, cases[i].outcome);
		assert_int_equal(a.n, cases[i].script == tcp_formerr ? 90 : 1);
		world_teardown(&w);
	}
}

static void many_on_tcp(void **state)
{
	static struct answer a[400];
	struct world w;
	struct dns_query *q[array_len(a)];
	char name[32];

	(void)state;
	memset(a, 0, sizeof(a));
	world_setup(&w, 1, (dns_server_answer *const[]){tcp_silent});
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		q[i] = dns_lookup(world_dns(&w), name, DNS_A, answer_keep, &a[i]);
	}
	world_settle(&w); /* 128 have a connection, the others stand in line */
	for (size_t i = 0; i < array_len(a); i += 3)
		dns_cancel(world_dns(&w), &q[i]);
	w.scripts[0] = answer_cut_on_udp;
	for (int i = 0; i < 30; i++)
		world_advance(&w, 1000);
	for (size_t i = 0; i < array_len(a); i++)
		assert_int_equal(a[i].done && a[i].n == 90, i % 3 != 0);
	world_teardown(&w);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_for_what_udp_cuts),
        cmocka_unit_test(tcp_that_is_silent),
        cmocka_unit_test(tcp_closed_under_us),
        cmocka_unit_test(tcp_waits_past_foreign_messages),
        cmocka_unit_test(tcp_that_nobody_listens_on),
        cmocka_unit_test(tcp_misfortunes),
        cmocka_unit_test(many_on_tcp),
};
TEST_MAIN("resolver_tcp", tests)
