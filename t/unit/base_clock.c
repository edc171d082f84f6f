#include "config.h"
#include "t/lib/test.h"

#include <time.h>
#include "base/clock.h"
#include "base/mem.h"

static void test_fake_clock(void **state)
{
	struct fake_clock fake;
	uint64_t mono;

	(void)state;
	fake_clock_init(&fake, 1000);
	mono = fake.clock.mono_us(&fake.clock);
	fake_clock_advance(&fake, 5);
	assert_int_equal(fake.clock.mono_us(&fake.clock), mono + 5);
	assert_int_equal(fake.clock.wall_us(&fake.clock), 1005);
}

static void test_system_clock(void **state)
{
	uint64_t mono = clock_system.mono_us(&clock_system), wall = clock_system.wall_us(&clock_system);

	(void)state;
	assert_true(clock_system.mono_us(&clock_system) >= mono);
	assert_in_range(wall / SECOND_US, (uint64_t)time(NULL) - 5, (uint64_t)time(NULL) + 5);
}

static void test_print(void **state)
{
	char text[TIME_TEXT_SIZE];

	(void)state;
	assert_string_equal(time_print(UINT64_C(1795191041000123), text), "2026-11-20T16:10:41.000123Z");
	assert_string_equal(
	        time_print_rfc5322(UINT64_C(1795191041999999), text), "Fri, 20 Nov 2026 16:10:41 +0000");
	assert_string_equal(time_print(0, text), "1970-01-01T00:00:00.000000Z");
	assert_string_equal(time_print_rfc5322(0, text), "Thu, 1 Jan 1970 00:00:00 +0000");
}

/* Every day of 240 years, as the C library has it. */
static void test_print_all_days(void **state)
{
	char text[TIME_TEXT_SIZE], wanted[64];

	(void)state;
	for (time_t day = 0; day < 240 * 366; day++) {
		time_t t = day * 86400 + day % 86400;
		struct tm tm;

		assert_non_null(gmtime_r(&t, &tm));
		(void)strftime(wanted, sizeof(wanted), "%Y-%m-%dT%H:%M:%S.000000Z", &tm);
		assert_string_equal(time_print((uint64_t)t * SECOND_US, text), wanted);
		(void)strftime(wanted, sizeof(wanted), "%a, %-d %b %Y %H:%M:%S +0000", &tm);
		assert_string_equal(time_print_rfc5322((uint64_t)t * SECOND_US, text), wanted);
	}
}

static void test_rnd(void **state)
{
	struct fake_rnd a, b;
	unsigned seen[6] = {0};
	unsigned char bytes[3];

	(void)state;
	fake_rnd_init(&a, 1);
	fake_rnd_init(&b, 1);
	for (int i = 0; i < 100; i++)
		assert_true(rnd_u64(&a.rnd) == rnd_u64(&b.rnd));
	fake_rnd_init(&b, 2);
	assert_true(rnd_u64(&a.rnd) != rnd_u64(&b.rnd));
	a.rnd.bytes(&a.rnd, bytes, sizeof(bytes));
	for (int i = 0; i < 6000; i++) {
		uint64_t v = rnd_below(&a.rnd, 6);

		assert_true(v < 6);
		seen[v]++;
	}
	for (int i = 0; i < 6; i++)
		assert_in_range(seen[i], 850, 1150);
	assert_int_equal(rnd_below(&rnd_system, 1), 0);
	assert_true(rnd_u64(&rnd_system) != rnd_u64(&rnd_system));
}

/* The test vectors of the SipHash paper and reference: key 00 01 .. 0f, message 00 01 .. */
static void test_siphash(void **state)
{
	const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
	unsigned char message[64];

	(void)state;
	for (unsigned i = 0; i < sizeof(message); i++)
		message[i] = (unsigned char)i;
	assert_true(hash_siphash(message, 0, key) == 0x726fdb47dd0e0e31);
	assert_true(hash_siphash(message, 1, key) == 0x74f839c593dc67fd);
	assert_true(hash_siphash(message, 8, key) == 0x93f5f5799a932462);
	assert_true(hash_siphash(message, 15, key) == 0xa129ca6149be45e5);
	assert_true(hash_siphash(message, 63, key) == 0x958a324ceb064572);
	assert_true(hash_bytes(message, 9) == hash_bytes(message, 9));
	assert_true(hash_bytes(message, 9) != hash_bytes(message, 10));
	assert_true(hash_bytes(message, 9) != hash_siphash(message, 9, key));
}

/* Frozen: a change of any of these moves queued mail to other group members. */
static void test_hash_stable(void **state)
{
	static const struct {
		const char *text;
		uint64_t seed, wanted;
	} cases[] = {
	        {"", 0, 0x0000000000000000},
	        {"", 1, 0x7ab40e090f363a7d},
	        {"a", 0, 0x7f97d446f6edb415},
	        {"shared1", 0, 0xaa7a708c53c34714},
	        {"shared12", 0, 0x9ed55bbe2f38e718},
	        {"shared12x", 0x0123456789abcdef, 0x96cc6e11f8984ff8},
	        {"0000018f5d2a4c3b\nmember", UINT64_MAX, 0x3f89556539dc9499},
	};

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		uint64_t got = hash_stable(cases[i].text, strlen(cases[i].text), cases[i].seed);

		if (got != cases[i].wanted)
			print_message("case %zu: 0x%016llx\n", i, (unsigned long long)got);
		assert_true(got == cases[i].wanted);
	}
}

/* One bit of the input or the seed changes about half of the output. */
static void test_hash_stable_spreads(void **state)
{
	unsigned char bytes[20] = "rendezvous of queue";
	unsigned flips = 0, n = 0;

	(void)state;
	for (unsigned bit = 0; bit < sizeof(bytes) * 8; bit++) {
		uint64_t before = hash_stable(bytes, sizeof(bytes), 5), after;

		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		after = hash_stable(bytes, sizeof(bytes), 5);
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_in_range(__builtin_popcountll(before ^ after), 12, 52);
		flips += (unsigned)__builtin_popcountll(before ^ after);
		n++;
	}
	assert_in_range(flips / n, 30, 34);
	assert_in_range(__builtin_popcountll(hash_stable("a", 1, 0) ^ hash_stable("a", 1, 1)), 12, 52);
	assert_true(hash_stable("a", 1, 0) != hash_stable("a\0", 2, 0));
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_clock),
        cmocka_unit_test(test_system_clock),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_print_all_days),
        cmocka_unit_test(test_rnd),
        cmocka_unit_test(test_siphash),
        cmocka_unit_test(test_hash_stable),
        cmocka_unit_test(test_hash_stable_spreads),
};
TEST_MAIN("base_clock", tests)
