/* local_addrs - against a real kernel table, in a network namespace of our own */
#include "config.h"
#include "t/lib/test.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/mem.h"
#include "session/local_addrs.h"

struct world {
	struct fake_clock clock;
	struct loop *loop;
	struct local_addrs *local;
	unsigned n_changes;
};

/* --- what an operator does with ip(8) --- */

struct request {
	struct nlmsghdr h;
	union {
		struct ifaddrmsg ifa;
		struct rtmsg rt;
	};
	char attrs[128];
};

static void attr(struct request *r, unsigned short type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	r->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->h.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

static void talk(struct request *r)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char rest[512];
	} reply;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	assert_true(fd >= 0);
	r->h.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	assert_int_equal(send(fd, r, r->h.nlmsg_len, 0), r->h.nlmsg_len);
	assert_true(recv(fd, &reply, sizeof(reply), 0) > 0);
	assert_int_equal(reply.h.nlmsg_type, NLMSG_ERROR);
	if (reply.e.error)
		fail_msg("netlink: %s", strerror(-reply.e.error));
	close(fd);
}

static struct addr addr(const char *text)
{
	struct addr a;

	assert_true(addr_parse(text, &a, NULL));
	return a;
}

static size_t size_of(const struct addr *a)
{
	return a->family == AF_INET ? 4 : 16;
}

static void address_of_lo(unsigned short type, const char *text, unsigned bits)
{
	struct addr a = addr(text);
	struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(r.ifa)), .nlmsg_type = type}};

	if (type == RTM_NEWADDR)
		r.h.nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	r.ifa.ifa_family = a.family;
	r.ifa.ifa_prefixlen = (unsigned char)bits;
	r.ifa.ifa_flags = a.family == AF_INET6 ? IFA_F_NODAD : 0;
	r.ifa.ifa_index = if_nametoindex("lo");
	attr(&r, IFA_LOCAL, a.ip, size_of(&a));
	attr(&r, IFA_ADDRESS, a.ip, size_of(&a));
	talk(&r);
}

static void route_to_lo(unsigned short what, unsigned char type, unsigned char table, const char *text,
        unsigned bits, uint32_t metric)
{
	struct addr a = addr(text);
	struct request r = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(r.rt)), .nlmsg_type = what}};
	uint32_t lo = if_nametoindex("lo");

	if (what == RTM_NEWROUTE)
		r.h.nlmsg_flags = NLM_F_CREATE | NLM_F_APPEND;
	r.rt = (struct rtmsg){.rtm_family = a.family,
	        .rtm_dst_len = (unsigned char)bits,
	        .rtm_table = table,
	        .rtm_type = type,
	        .rtm_scope = type == RTN_LOCAL ? RT_SCOPE_HOST : RT_SCOPE_LINK,
	        .rtm_protocol = RTPROT_STATIC};
	attr(&r, RTA_DST, a.ip, size_of(&a));
	attr(&r, RTA_OIF, &lo, sizeof(lo));
	attr(&r, RTA_PRIORITY, &metric, sizeof(metric));
	talk(&r);
}

static void lo_up(bool up)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

/* --- */

static void on_change(void *ctx)
{
	struct world *w = ctx;

	w->n_changes++;
}

static void settle(struct world *w)
{
	for (int i = 0; i < 3; i++) {
		while (loop_step(w->loop))
			;
		fake_clock_advance(&w->clock, SECOND_US / 10);
	}
	while (loop_step(w->loop))
		;
}

static void setup(struct world *w)
{
	struct error err;

	memset(w, 0, sizeof(*w));
	/* a namespace that nobody else sees, without addresses */
	if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
		fail_msg("unshare: %s", strerror(errno));
	fake_clock_init(&w->clock, 1700000000 * SECOND_US);
	w->clock.mono = 5 * SECOND_US;
	w->loop = loop_new("net", &w->clock.clock);
	w->local = local_addrs_new(w->loop, &err);
	if (!w->local)
		fail_msg("%s", err.text);
	local_addrs_on_change(w->local, on_change, w);
}

static void teardown(struct world *w)
{
	local_addrs_free(&w->local);
	assert_null(w->local);
	loop_free(&w->loop);
}

static bool has(struct world *w, const char *text)
{
	struct addr a = addr(text);

	return local_addrs_has(w->local, &a);
}

/* The kernel adds IPv6 addresses from a work queue of its own: it says when, we cannot ask it to hurry. */
static bool comes_to(struct world *w, const char *text, bool there)
{
	uint64_t end = clock_system.mono_us(&clock_system) + 10 * SECOND_US;

	do
		settle(w);
	while (has(w, text) != there && clock_system.mono_us(&clock_system) < end && sched_yield() == 0);
	return has(w, text) == there;
}

static void addresses_come_and_go(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	assert_false(has(&w, "127.0.0.1"));
	lo_up(true);
	settle(&w);
	assert_true(w.n_changes > 0);
	assert_true(has(&w, "127.0.0.1") && has(&w, "127.1.2.3"));
	assert_true(comes_to(&w, "::1", true));
	assert_false(has(&w, "192.0.2.10"));
	w.n_changes = 0;
	address_of_lo(RTM_NEWADDR, "192.0.2.10", 32);
	address_of_lo(RTM_NEWADDR, "2001:db8::10", 128);
	assert_true(comes_to(&w, "2001:db8::10", true));
	assert_true(has(&w, "192.0.2.10") && has(&w, "::ffff:192.0.2.10"));
	assert_false(has(&w, "192.0.2.11") || has(&w, "2001:db8::11"));
	assert_in_range(w.n_changes, 1, 6);
	address_of_lo(RTM_DELADDR, "192.0.2.10", 32);
	settle(&w);
	assert_false(has(&w, "192.0.2.10"));
	assert_true(has(&w, "2001:db8::10"));
	teardown(&w);
}

static void what_stood_at_start(void **state)
{
	struct world w;
	struct local_addrs *second;
	struct addr a = addr("192.0.2.10");
	struct error err;

	(void)state;
	setup(&w);
	lo_up(true);
	address_of_lo(RTM_NEWADDR, "192.0.2.10", 32);
	second = local_addrs_new(w.loop, &err);
	assert_non_null(second);
	assert_true(local_addrs_has(second, &a)); /* at once */
	local_addrs_free(&second);
	teardown(&w);
}

static void anyip_ranges_count(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	lo_up(true);
	route_to_lo(RTM_NEWROUTE, RTN_LOCAL, RT_TABLE_LOCAL, "198.51.100.0", 24, 0);
	route_to_lo(RTM_NEWROUTE, RTN_LOCAL, RT_TABLE_LOCAL, "2001:db8:1::", 48, 0);
	settle(&w);
	assert_true(has(&w, "198.51.100.1") && has(&w, "198.51.100.255") && has(&w, "2001:db8:1:ffff::1"));
	assert_false(has(&w, "198.51.101.1") || has(&w, "2001:db8:2::1"));
	route_to_lo(RTM_DELROUTE, RTN_LOCAL, RT_TABLE_LOCAL, "198.51.100.0", 24, 0);
	settle(&w);
	assert_false(has(&w, "198.51.100.1"));
	teardown(&w);
}

static void other_routes_do_not(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	lo_up(true);
	assert_true(comes_to(&w, "::1", true));
	w.n_changes = 0;
	route_to_lo(RTM_NEWROUTE, RTN_UNICAST, RT_TABLE_MAIN, "203.0.113.0", 24, 0);
	route_to_lo(RTM_NEWROUTE, RTN_LOCAL, RT_TABLE_MAIN, "198.51.100.0", 24, 0);
	route_to_lo(RTM_NEWROUTE, RTN_UNICAST, RT_TABLE_LOCAL, "192.0.2.0", 24, 0);
	settle(&w);
	assert_false(has(&w, "203.0.113.1") || has(&w, "198.51.100.1") || has(&w, "192.0.2.1"));
	assert_int_equal(w.n_changes, 0);
	teardown(&w);
}

/* Two routes to one prefix: when one goes, the other still covers it. */
static void the_same_twice(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	lo_up(true);
	assert_true(comes_to(&w, "::1", true));
	route_to_lo(RTM_NEWROUTE, RTN_LOCAL, RT_TABLE_LOCAL, "198.51.100.0", 24, 1);
	route_to_lo(RTM_NEWROUTE, RTN_LOCAL, RT_TABLE_LOCAL, "198.51.100.0", 24, 2);
	settle(&w);
	w.n_changes = 0;
	route_to_lo(RTM_DELROUTE, RTN_LOCAL, RT_TABLE_LOCAL, "198.51.100.0", 24, 1);
	settle(&w);
	assert_true(has(&w, "198.51.100.1"));
	assert_int_equal(w.n_changes, 0); /* nothing anybody could notice */
	route_to_lo(RTM_DELROUTE, RTN_LOCAL, RT_TABLE_LOCAL, "198.51.100.0", 24, 2);
	settle(&w);
	assert_false(has(&w, "198.51.100.1"));
	assert_int_equal(w.n_changes, 1);
	teardown(&w);
}

/* More notifications than the socket holds: some are lost, the table is right all the same. */
static void a_flood_of_changes(void **state)
{
	struct world w;
	char text[32];

	(void)state;
	setup(&w);
	lo_up(true);
	for (int i = 0; i < 3000; i++) {
		snprintf(text, sizeof(text), "10.1.%d.%d", i / 250, i % 250);
		address_of_lo(RTM_NEWADDR, text, 32);
	}
	settle(&w);
	assert_true(has(&w, "10.1.0.0") && has(&w, "10.1.11.249"));
	assert_in_range(w.n_changes, 1, 10);
	for (int i = 0; i < 3000; i++) {
		snprintf(text, sizeof(text), "10.1.%d.%d", i / 250, i % 250);
		address_of_lo(RTM_DELADDR, text, 32);
	}
	settle(&w);
	assert_false(has(&w, "10.1.0.0") || has(&w, "10.1.11.249"));
	assert_true(has(&w, "127.0.0.1"));
	teardown(&w);
}

static void an_interface_goes_down(void **state)
{
	struct world w;

	(void)state;
	setup(&w);
	lo_up(true);
	assert_true(comes_to(&w, "::1", true));
	lo_up(false);
	assert_true(comes_to(&w, "::1", false));
	teardown(&w);
}

static void the_fake_table(void **state)
{
	struct world w = {.n_changes = 0};
	struct addr a = addr("192.0.2.1"), b = addr("2001:db8::1");

	(void)state;
	w.local = local_addrs_fake();
	local_addrs_on_change(w.local, on_change, &w);
	assert_false(has(&w, "192.0.2.1"));
	local_addrs_fake_set(w.local, &a, true);
	local_addrs_fake_set(w.local, &b, true);
	local_addrs_fake_set(w.local, &b, true);
	assert_int_equal(w.n_changes, 2);
	assert_true(has(&w, "192.0.2.1") && has(&w, "2001:db8::1"));
	local_addrs_fake_set(w.local, &a, false);
	assert_false(has(&w, "192.0.2.1"));
	assert_int_equal(w.n_changes, 3);
	local_addrs_free(&w.local);
}

struct reader {
	const struct local_addrs *local;
	atomic_bool stop;
	uint64_t n;
};

static void *read_on(void *ctx)
{
	struct reader *r = ctx;
	struct addr stays = addr("192.0.2.1");

	while (!atomic_load(&r->stop)) {
		if (!local_addrs_has(r->local, &stays))
			return ctx; /* it was gone for a moment */
		r->n++;
	}
	return NULL;
}

static void other_threads_may_ask(void **state)
{
	struct local_addrs *local = local_addrs_fake();
	struct reader r = {.local = local};
	struct addr stays = addr("192.0.2.1"), goes = addr("192.0.2.2");
	pthread_t thread;
	void *result;

	(void)state;
	local_addrs_fake_set(local, &stays, true);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
	for (int i = 0; i < 2000; i++)
		local_addrs_fake_set(local, &goes, i % 2 == 0);
	atomic_store(&r.stop, true);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	local_addrs_free(&local);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_come_and_go),
        cmocka_unit_test(what_stood_at_start),
        cmocka_unit_test(anyip_ranges_count),
        cmocka_unit_test(other_routes_do_not),
        cmocka_unit_test(the_same_twice),
        cmocka_unit_test(a_flood_of_changes),
        cmocka_unit_test(an_interface_goes_down),
        cmocka_unit_test(the_fake_table),
        cmocka_unit_test(other_threads_may_ask),
};
TEST_MAIN("local_addrs", tests)
