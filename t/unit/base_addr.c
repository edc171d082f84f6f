#include "config.h"
#include "t/lib/test.h"

#include <arpa/inet.h>
#include "base/addr.h"
#include "base/mem.h"

static struct addr addr(const char *text)
{
	struct addr a;
	struct error err;

	if (!addr_parse(text, &a, &err))
		fail_msg("%s", err.text);
	return a;
}

static void test_parse(void **state)
{
	static const char *const cases[][2] = {
	        {"192.0.2.1", "192.0.2.1"},
	        {"[192.0.2.1]", "192.0.2.1"},
	        {"2001:DB8::1", "2001:db8::1"},
	        {"[2001:db8:0:0::1]", "2001:db8::1"},
	        {"IPv6:2001:db8::1", "2001:db8::1"},
	        {"[ipv6:::1]", "::1"},
	        {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
	        {"fe80::1%7", "fe80::1%7"},
	        {"192.0.2.300", NULL},
	        {"192.0.2", NULL},
	        {"192.0.2.01", NULL},
	        {"IPv6:192.0.2.1", NULL},
	        {"192.0.2.1 ", NULL},
	        {"", NULL},
	        {"[]", NULL},
	        {"[::1", NULL},
	        {"fe80::1%nosuchif0", NULL},
	        {"localhost", NULL},
	        {"::1:25:", NULL},
	};
	char text[ADDR_TEXT_SIZE];
	struct error err;
	struct addr a;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		bool good = addr_parse(cases[i][0], &a, &err);

		if (good != (cases[i][1] != NULL) || (good && strcmp(addr_print(&a, text), cases[i][1]) != 0))
			fail_msg("%s gave %s", cases[i][0], good ? text : err.text);
	}
	assert_false(addr_parse("192.0.2.300", &a, &err));
	assert_string_equal(err.text, "\"192.0.2.300\" is not an IP address");
}

static void test_ports(void **state)
{
	static const char *const cases[][2] = {
	        {"192.0.2.1", "192.0.2.1:25"},
	        {"192.0.2.1:2525", "192.0.2.1:2525"},
	        {"[::1]", "[::1]:25"},
	        {"[::1]:65535", "[::1]:65535"},
	        {"::1", "[::1]:25"},
	        {"2001:db8::1:53", "[2001:db8::1:53]:25"}, /* a bare v6 has no port */
	        {"192.0.2.1:0", NULL},
	        {"192.0.2.1:65536", NULL},
	        {"192.0.2.1:", NULL},
	        {"192.0.2.1:2x", NULL},
	        {"[::1]:", NULL},
	        {"[::1]x", NULL},
	        {"[192.0.2.1]:25", NULL},
	        {":25", NULL},
	};
	char text[ADDR_TEXT_SIZE];
	struct error err;
	struct addr a;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		bool good = addr_parse_port(cases[i][0], 25, &a, &err);

		if (good != (cases[i][1] != NULL) ||
		        (good && strcmp(addr_print_port(&a, text), cases[i][1]) != 0))
			fail_msg("%s gave %s", cases[i][0], good ? text : err.text);
	}
	/* the longest there is */
	a = addr("fe80:1111:2222:3333:4444:5555:6666:7777");
	a.scope = UINT32_MAX;
	a.port = 65535;
	assert_string_equal(
	        addr_print_port(&a, text), "[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535");
}

static void test_kinds(void **state)
{
	struct addr a = addr("::ffff:127.0.0.9"), b = addr("127.0.0.9");

	(void)state;
	assert_true(addr_is_loopback(&a));
	assert_false(addr_equal_ip(&a, &b));
	addr_unmap(&a);
	assert_true(addr_equal_ip(&a, &b));
	b.port = 25;
	assert_true(addr_equal_ip(&a, &b));
	assert_true(addr_hash(&a) != addr_hash(&b));
	a.port = 25;
	assert_true(addr_hash(&a) == addr_hash(&b));
	a = addr("::1");
	assert_true(addr_is_loopback(&a));
	a = addr("::2");
	assert_false(addr_is_loopback(&a));
	assert_false(addr_is_any(&a));
	a = addr("::");
	assert_true(addr_is_any(&a));
	a = addr("0.0.0.0");
	assert_true(addr_is_any(&a));
}

static void test_sockaddr(void **state)
{
	static const char *const cases[] = {"192.0.2.1", "2001:db8::1", "fe80::1%3"};
	struct sockaddr_storage ss;
	struct sockaddr unix_sa = {.sa_family = AF_UNIX};
	struct addr a, b;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		a = addr(cases[i]);
		a.port = 2525;
		assert_int_not_equal(addr_to_sockaddr(&a, &ss), 0);
		assert_true(addr_from_sockaddr((struct sockaddr *)&ss, &b));
		assert_true(addr_equal_ip(&a, &b));
		assert_int_equal(b.port, 2525);
	}
	assert_false(addr_from_sockaddr(&unix_sa, &b));
	assert_int_equal(b.family, AF_UNSPEC);
	assert_int_equal(addr_to_sockaddr(&b, &ss), 0);
}

static void test_nets(void **state)
{
	struct addr_net net;
	struct error err;
	struct addr a;

	(void)state;
	assert_true(addr_net_parse("10.0.0.0/8", &net, &err));
	a = addr("10.255.255.255");
	assert_true(addr_net_contains(&net, &a));
	a = addr("::ffff:10.1.2.3");
	assert_true(addr_net_contains(&net, &a));
	a = addr("11.0.0.0");
	assert_false(addr_net_contains(&net, &a));
	a = addr("::1");
	assert_false(addr_net_contains(&net, &a));
	assert_true(addr_net_parse("::1", &net, &err));
	assert_int_equal(net.bits, 128);
	assert_true(addr_net_contains(&net, &a));
	assert_true(addr_net_parse("0.0.0.0/0", &net, &err));
	a = addr("255.255.255.255");
	assert_true(addr_net_contains(&net, &a));
	assert_true(addr_net_parse("2001:db8::/33", &net, &err));
	a = addr("2001:db8:7fff::1");
	assert_true(addr_net_contains(&net, &a));
	a = addr("2001:db8:8000::1");
	assert_false(addr_net_contains(&net, &a));
	assert_true(addr_net_parse("::ffff:10.0.0.0/104", &net, &err));
	assert_int_equal(net.bits, 8);
	assert_false(addr_net_parse("10.0.0.1/8", &net, &err));
	assert_string_equal(err.text, "\"10.0.0.1/8\" has bits behind its prefix; the network is 10.0.0.0/8");
	assert_false(addr_net_parse("10.0.0.0/33", &net, &err));
	assert_false(addr_net_parse("10.0.0.0/", &net, &err));
	assert_false(addr_net_parse("10.0.0.0/0x8", &net, &err));
	assert_false(addr_net_parse("10.0.0.0/-1", &net, &err));
	assert_false(addr_net_parse("2001:db8::/129", &net, &err));
	assert_false(addr_net_parse("/8", &net, &err));
	assert_false(addr_net_parse("", &net, &err));
	assert_string_equal(err.text, "\"\" is not a network (ADDR or ADDR/BITS)");
}

static void set_add(struct addr_set *set, const char *text, uint32_t value)
{
	struct addr_net net;

	assert_true(addr_net_parse(text, &net, NULL));
	addr_set_add(set, &net, value);
}

static uint32_t set_find(const struct addr_set *set, const char *text)
{
	struct addr a = addr(text);
	uint32_t value = 0;

	return addr_set_find(set, &a, &value) ? value : 0;
}

static void test_set(void **state)
{
	struct addr_set *set = addr_set_new();

	(void)state;
	assert_int_equal(set_find(set, "10.0.0.1"), 0);
	set_add(set, "10.0.0.0/8", 1);
	set_add(set, "10.1.0.0/16", 2);
	set_add(set, "10.1.2.3", 3);
	set_add(set, "10.1.0.0/16", 4); /* the first stays */
	set_add(set, "10.2.0.0/16", 5);
	set_add(set, "::/0", 6);
	set_add(set, "2001:db8::/32", 7);
	set_add(set, "10.1.2.4", 8);
	assert_int_equal(set_find(set, "10.9.9.9"), 1);
	assert_int_equal(set_find(set, "10.1.9.9"), 2);
	assert_int_equal(set_find(set, "10.1.2.3"), 3);
	assert_int_equal(set_find(set, "::ffff:10.1.2.3"), 3);
	assert_int_equal(set_find(set, "10.1.2.4"), 8);
	assert_int_equal(set_find(set, "10.1.2.2"), 2);
	assert_int_equal(set_find(set, "10.2.0.1"), 5);
	assert_int_equal(set_find(set, "11.0.0.1"), 0);
	assert_int_equal(set_find(set, "2001:db8::1"), 7);
	assert_int_equal(set_find(set, "2001:db9::1"), 6);
	addr_set_free(&set);
	assert_null(set);
	addr_set_free(&set);
}

/* Every lookup agrees with asking all networks one by one. */
static void test_set_against_scan(void **state)
{
	enum { N = 300 };
	struct addr_set *set = addr_set_new();
	struct addr_net nets[N];
	uint32_t seed = 1;

	(void)state;
	for (uint32_t i = 0; i < N; i++) {
		char text[64];
		unsigned bits;

		seed = seed * 1664525 + 1013904223;
		bits = 4 + seed % 29;
		seed = seed * 1664525 + 1013904223;
		struct in_addr in = {htonl((seed >> 3) & ~(uint32_t)((UINT64_C(1) << (32 - bits)) - 1))};
		(void)snprintf(text, sizeof(text), "%s/%u", inet_ntoa(in), bits);
		assert_true(addr_net_parse(text, &nets[i], NULL));
		addr_set_add(set, &nets[i], i);
	}
	for (uint32_t i = 0; i < 5000; i++) {
		struct addr a = nets[i % N].base;
		uint32_t wanted = 0, got = 0;
		int best = -1;

		seed = seed * 1664525 + 1013904223;
		a.ip[3] ^= (uint8_t)(seed >> 8);
		a.ip[i % 4] ^= (uint8_t)(seed >> 20);
		for (uint32_t k = 0; k < N; k++) {
			if (addr_net_contains(&nets[k], &a) && nets[k].bits > best) {
				best = nets[k].bits;
				wanted = k;
			}
		}
		assert_int_equal(addr_set_find(set, &a, &got), best >= 0);
		assert_int_equal(got, wanted);
	}
	addr_set_free(&set);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_sockaddr),
        cmocka_unit_test(test_nets),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_set_against_scan),
};
TEST_MAIN("base_addr", tests)
