/*
 * Mail leaves from its binding's address, or stays: what each accident with the source is told as.
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/mem.h"
#include "session/source.h"
#include "t/lib/session_rig.h"
#include "t/lib/test.h"

#define BODY "Subject: x\r\n\r\nHello\r\n"

static struct addr address(const char *text)
{
	struct addr a;

	assert_true(addr_parse_port(text, 0, &a, NULL));
	return a;
}

/* One session that must fail before anything is said, and how it is told. */
static void check_held(struct rig *r, const char *enhanced, const char *reply)
{
	unsigned connections = scripted_mx_connections(r->mx);

	rig_open(r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(r);
	assert_string_equal(r->story.data, "back failed");
	assert_int_equal(r->why.class, OUTCOME_TRANSIENT);
	assert_int_equal(r->why.state, STATE_CONNECT);
	assert_int_equal(r->why.code, 451);
	assert_true(r->why.ours);
	assert_string_equal(r->why.enhanced, enhanced);
	assert_string_equal(r->why.reply, reply);
	assert_string_equal(r->jobs[0]->outcomes[0].reply, reply);
	assert_int_equal(scripted_mx_connections(r->mx), connections);
}

static void test_not_on_this_machine(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.open.source = address("127.0.0.78");
	check_held(&r, "4.3.5", "source address 127.0.0.78 of binding acme is not on this machine");
	rig_end(&r);
}

/* It was there when the session was opened, and goes before the next. */
static void test_address_goes_and_comes_back(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	rig_advance(&r, 8);
	assert_string_equal(r.story.data, "ready want done:ok closed");
	rig_forget(&r);
	local_addrs_fake_set(r.local, &r.open.source, false);
	check_held(&r, "4.3.5", "source address " RIG_SOURCE " of binding acme is not on this machine");
	rig_forget(&r);
	local_addrs_fake_set(r.local, &r.open.source, true);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	assert_string_equal(r.story.data, "ready want done:ok");
	assert_string_equal(scripted_mx_mail(r.mx, 1)->source, RIG_SOURCE);
	rig_end(&r);
}

static void test_family_is_missing(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.open.source = (struct addr){.family = AF_UNSPEC};
	check_held(&r, "4.3.5", "binding acme has no IPv4 source address");
	rig_forget(&r);
	r.open.source = address("::1");
	local_addrs_fake_set(r.local, &r.open.source, true);
	check_held(&r, "4.3.5", "binding acme has no IPv4 source address");
	rig_forget(&r);
	r.open.source = address(RIG_SOURCE);
	r.open.peer = address("[::1]:25");
	check_held(&r, "4.3.5", "binding acme has no IPv6 source address");
	rig_end(&r);
}

/* The kernel has the last word: no other address is taken instead. */
static void test_bind_refused(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.open.source = address("192.0.2.77");
	local_addrs_fake_set(r.local, &r.open.source, true);
	check_held(&r, "4.3.5",
	        "bind to source address 192.0.2.77 of binding acme: Cannot assign requested address");
	rig_end(&r);
}

static void test_any_source(void **state)
{
	struct session_job *job;
	struct rig r;

	(void)state;
	rig_init(&r);
	r.open.source = (struct addr){.family = AF_UNSPEC};
	r.open.any_source = true;
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	rig_advance(&r, 8);
	assert_string_equal(r.story.data, "ready want done:ok closed");
	assert_int_equal(r.source.family, AF_INET);
	rig_end(&r);
	/* a report of our own to the MTA in front */
	rig_init(&r);
	r.open.source = (struct addr){.family = AF_UNSPEC};
	job = rig_job("", "x@example.test", BODY);
	job->flags |= MESSAGE_DSN;
	rig_open(&r, job);
	rig_run(&r);
	assert_string_equal(r.story.data, "ready want done:ok");
	rig_end(&r);
}

static void test_ipv6(void **state)
{
	struct scripted_mx *mx;
	struct rig r;

	(void)state;
	rig_init(&r);
	mx = scripted_mx_new(r.loop, "::1");
	r.open.peer = *scripted_mx_addr(mx);
	r.open.source = address("::1");
	local_addrs_fake_set(r.local, &r.open.source, true);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	assert_string_equal(r.story.data, "ready want done:ok");
	assert_string_equal(scripted_mx_mail(mx, 0)->source, "::1");
	session_quit(r.session);
	rig_run(&r);
	scripted_mx_free(&mx);
	rig_end(&r);
}

/* The peer's or the way's fault is told as such, and counts against the host. */
static void test_peer_is_to_blame(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	scripted_mx_line(r.mx, "CONNECT: refuse");
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	assert_string_equal(r.story.data, "back/lost failed");
	assert_string_equal(r.why.enhanced, "4.4.1");
	assert_non_null(strstr(r.why.reply, "Connection refused"));
	rig_forget(&r);
	r.open.peer = address("255.255.255.255:25"); /* no packet leaves for it */
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	assert_string_equal(r.story.data, "back/lost failed");
	assert_string_equal(r.why.enhanced, "4.4.1");
	assert_string_equal(r.why.reply, "no route for binding acme from " RIG_SOURCE
	                                 " to 255.255.255.255:25: Network is unreachable");
	rig_end(&r);
}

/* A listener whose backlog is full does not answer. */
static void test_connect_timeout(void **state)
{
	int fds[8], listener = socket(AF_INET, SOCK_STREAM, 0);
	struct addr a = address("127.0.0.3");
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);
	struct rig r;
	unsigned i;

	(void)state;
	rig_init(&r);
	assert_int_equal(bind(listener, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(listen(listener, 0), 0);
	getsockname(listener, (struct sockaddr *)&ss, &len);
	for (i = 0; i < 8; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&ss, len);
	}
	addr_from_sockaddr((struct sockaddr *)&ss, &r.open.peer);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	rig_advance(&r, 29);
	assert_string_equal(r.story.data, "");
	rig_advance(&r, 1);
	assert_string_equal(r.story.data, "back/lost failed");
	assert_string_equal(r.why.enhanced, "4.4.1");
	assert_string_equal(r.why.reply, "timed out while connecting");
	rig_forget(&r);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	session_quit(r.session);
	rig_run(&r);
	assert_string_equal(r.story.data, "back closed");
	for (i = 0; i < 8; i++)
		close(fds[i]);
	close(listener);
	rig_end(&r);
}

static void test_no_descriptors(void **state)
{
	struct rlimit was, none;
	struct rig r;

	(void)state;
	rig_init(&r);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_string_equal(r.story.data, "back failed");
	assert_string_equal(r.why.enhanced, "4.3.0");
	assert_non_null(strstr(r.why.reply, "Too many open files"));
	rig_end(&r);
}

/* Were the socket to come out with another address after all, nothing is said on it. */
static void test_other_address_after_connect(void **state)
{
	struct rig r;
	struct source_connect c;
	struct addr local, remote;
	struct outcome why;
	int fd;

	(void)state;
	rig_init(&r);
	c = (struct source_connect){
	        .binding = "acme", .source = address("127.0.0.78"), .peer = r.open.peer, .local = r.local};
	local_addrs_fake_set(r.local, &c.source, true);
	fd = source_connect(&c, &why);
	assert_true(fd >= 0);
	rig_run(&r);
	assert_true(source_connected(&c, fd, &local, &remote, &why));
	assert_true(addr_equal_ip(&local, &c.source));
	assert_int_equal(remote.port, r.open.peer.port);
	c.source = address("127.0.0.79");
	assert_false(source_connected(&c, fd, &local, &remote, &why));
	assert_string_equal(why.enhanced, "4.3.5");
	assert_true(source_fault(&why));
	assert_string_equal(why.reply,
	        "the connection of binding acme has source address 127.0.0.78 instead of 127.0.0.79: closed");
	close(fd);
	rig_run(&r);
	rig_end(&r);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_on_this_machine),
        cmocka_unit_test(test_address_goes_and_comes_back),
        cmocka_unit_test(test_family_is_missing),
        cmocka_unit_test(test_bind_refused),
        cmocka_unit_test(test_any_source),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_peer_is_to_blame),
        cmocka_unit_test(test_connect_timeout),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_other_address_after_connect),
};
TEST_MAIN("session_source", tests)
