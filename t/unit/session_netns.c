/*
 * Source addresses as the kernel really has them, in a network of the test's own: AnyIP ranges, addresses that go and
 * come back, and more connections from one address than it has ports.
 */
#include <errno.h>
#include "base/mem.h"
#include "session/source.h"
#include "t/lib/netns.h"
#include "t/lib/session_rig.h"
#include "t/lib/test.h"

#define BODY "Subject: x\r\n\r\nHello\r\n"

/* A rig with this machine's real table of addresses. */
static void real_rig(struct rig *r, const char *source, struct scripted_mx *mx)
{
	struct error err;

	rig_init(r);
	session_net_free(&r->net);
	local_addrs_free(&r->local);
	r->local = local_addrs_new(r->loop, &err);
	assert_non_null(r->local);
	r->net = session_net_new(r->loop, NULL, r->local, r->metrics, "host.test");
	assert_true(addr_parse(source, &r->open.source, NULL));
	if (mx)
		r->open.peer = *scripted_mx_addr(mx);
}

static void send_one(struct rig *r, const char *expected)
{
	rig_forget(r);
	rig_open(r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(r);
	if (r->session) {
		session_quit(r->session);
		rig_run(r);
	}
	assert_string_equal(r->story.data, expected);
}

static void follow_kernel(struct rig *r)
{
	rig_run(r);
	rig_advance(r, 2); /* changes are read in bursts */
}

static void check_any_ip(const char *network, const char *source)
{
	struct scripted_mx *mx;
	struct rig r;
	char place[64];

	assert_true(netns_local_route(network, true));
	real_rig(&r, source, NULL);
	mx = scripted_mx_new(r.loop, r.open.source.family == AF_INET6 ? "::1" : "127.0.0.2");
	r.open.peer = *scripted_mx_addr(mx);
	follow_kernel(&r);
	send_one(&r, "ready want done:ok closed");
	assert_string_equal(scripted_mx_mail(mx, 0)->source, source);
	assert_string_equal(addr_print(&r.source, place), source);

	assert_true(netns_local_route(network, false));
	follow_kernel(&r);
	send_one(&r, "back failed");
	assert_string_equal(r.why.enhanced, "4.3.5");
	assert_int_equal(scripted_mx_connections(mx), 1);

	assert_true(netns_local_route(network, true));
	follow_kernel(&r);
	send_one(&r, "ready want done:ok closed");
	assert_string_equal(scripted_mx_mail(mx, 1)->source, source);
	assert_true(netns_local_route(network, false));
	scripted_mx_free(&mx);
	rig_end(&r);
}

static void test_any_ip_v4(void **state)
{
	(void)state;
	check_any_ip("192.0.2.0/24", "192.0.2.50");
}

/* Only IPV6_FREEBIND gets past the kernel here, so our own check is the only one. */
static void test_any_ip_v6(void **state)
{
	(void)state;
	check_any_ip("2001:db8:1::/64", "2001:db8:1::50");
}

/* --- the way there ------------------------------------------------------------------------------------------ */

static void expect_no_way(struct rig *r, const char *peer, const char *reply)
{
	assert_true(addr_parse_port(peer, 25, &r->open.peer, NULL));
	send_one(r, "back/lost failed");
	assert_string_equal(r->why.enhanced, "4.4.1");
	assert_int_equal(r->why.state, STATE_CONNECT);
	assert_string_equal(r->why.reply, reply);
	assert_false(source_fault(&r->why)); /* of that destination alone */
}

static void test_no_way(void **state)
{
	struct rig r;

	(void)state;
	assert_true(netns_local_route("192.0.2.0/24", true));
	assert_true(netns_prohibit("198.51.100.0/24"));
	real_rig(&r, "192.0.2.50", NULL);
	follow_kernel(&r);
	expect_no_way(&r, "203.0.113.1:25",
	        "no route for binding acme from 192.0.2.50 to 203.0.113.1:25: Network is unreachable");
	expect_no_way(&r, "198.51.100.7:25",
	        "connection for binding acme from 192.0.2.50 to 198.51.100.7:25 forbidden (firewall): Permission denied");
	assert_true(netns_local_route("192.0.2.0/24", false));
	rig_end(&r);
}

/* --- ports ------------------------------------------------------------------------------------------------- */

#define PORTS 50
#define N_MX 4
#define EACH 45 /* sessions to each MX: together more than there are ports */

struct crowd {
	unsigned ready, closed, exhausted, other;
};

static void crowd_ready(void *ctx, struct session *s, const struct session_facts *facts)
{
	struct crowd *c = ctx;

	(void)s;
	(void)facts;
	c->ready++;
}

static void crowd_want(void *ctx, struct session *s)
{
	(void)ctx;
	(void)s;
}

static void crowd_job(
        void *ctx, struct session *s, struct session_job *job, const struct session_facts *facts)
{
	(void)ctx;
	(void)s;
	(void)facts;
	session_job_free(&job);
}

static void crowd_closed(void *ctx, struct session *s, const struct outcome *why, uint32_t completed,
        const struct session_facts *facts)
{
	struct crowd *c = ctx;

	(void)s;
	(void)completed;
	(void)facts;
	c->closed++;
	if (why->class == OUTCOME_TRANSIENT && strcmp(why->enhanced, "4.3.0") == 0 &&
	        strstr(why->reply, "no free local port for binding acme from 127.0.0.77 to 127.0.0."))
		c->exhausted++;
	else if (why->class != OUTCOME_OK)
		c->other++;
}

static const struct session_owner crowd_owner = {crowd_ready, crowd_want, crowd_job, crowd_closed};

static void test_ports(void **state)
{
	struct scripted_mx *mx[N_MX];
	struct crowd crowd = {0};
	unsigned i, more;
	char text[32];
	struct rig r;

	(void)state;
	rig_init(&r);
	assert_true(netns_port_range(40001, 40000 + PORTS)); /* the rig's own MX took its port before */
	r.profile.o.idle_timeout_s = 3000;
	r.open.owner = &crowd_owner;
	r.open.ctx = &crowd;
	for (i = 0; i < N_MX; i++) {
		snprintf(text, sizeof(text), "127.0.0.%u:%u", 10 + i, 2525); /* outside the range */
		mx[i] = scripted_mx_new(r.loop, text);
	}
	for (i = 0; i < N_MX * EACH; i++) {
		r.open.peer = *scripted_mx_addr(mx[i % N_MX]);
		session_open(r.net, &r.open);
	}
	rig_run(&r);
	assert_int_equal(crowd.ready, N_MX * EACH);
	/* to one of them alone: as many as there are ports, then it is said what is missing */
	for (i = 0; i < PORTS; i++) {
		r.open.peer = *scripted_mx_addr(mx[0]);
		session_open(r.net, &r.open);
	}
	rig_run(&r);
	/* the kernel does not always find the very last one */
	more = crowd.ready - N_MX * EACH;
	assert_in_range(more, 1, PORTS - EACH);
	assert_int_equal(crowd.exhausted, PORTS - more);
	assert_int_equal(crowd.closed, PORTS - more);
	assert_int_equal(crowd.other, 0);
	session_net_stop(r.net, loop_now_us(r.loop), loop_now_us(r.loop) + SECOND_US);
	rig_run(&r);
	assert_int_equal(crowd.closed, N_MX * EACH + PORTS);
	for (i = 0; i < N_MX; i++)
		scripted_mx_free(&mx[i]);
	rig_end(&r);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_ip_v4),
        cmocka_unit_test(test_any_ip_v6),
        cmocka_unit_test(test_no_way),
        cmocka_unit_test(test_ports),
};

int main(void)
{
	if (!netns_enter()) {
		printf("1..1\nnot ok 1 - a network namespace of its own: %s (run as root)\n", strerror(errno));
		return 1;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("session_netns", tests, NULL, NULL);
}
