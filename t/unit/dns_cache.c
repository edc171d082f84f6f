/* dns_cache - TTL, bounds and who goes first */
#include "config.h"
#include "t/lib/test.h"

#include "route/resolver/dns_cache.h"

static struct dns_question question(const char *name, enum dns_type type)
{
	struct dns_question q;

	assert_true(dns_question_set(&q, name, type, NULL));
	return q;
}

static void put(struct dns_cache *c, const char *name, uint64_t expires_us)
{
	struct dns_question q = question(name, DNS_A);
	struct dns_result *r = dns_result_new(DNS_NODATA);

	dns_result_set_name(r, name);
	dns_cache_put(c, &q, r, expires_us);
	dns_result_unref(&r);
}

static bool has(struct dns_cache *c, const char *name, uint64_t now_us)
{
	struct dns_question q = question(name, DNS_A);
	uint64_t expires_us = 0;
	struct dns_result *r = dns_cache_find(c, &q, now_us, &expires_us);

	if (r) {
		assert_string_equal(r->answer.name, name);
		assert_true(expires_us > now_us);
	}
	return r != NULL;
}

static void entries_live_until_they_expire(void **state)
{
	struct dns_cache *c = dns_cache_new(10, 1 << 20);
	struct dns_question mx = question("a.test", DNS_MX);
	uint64_t expires_us;

	(void)state;
	put(c, "a.test", 100);
	assert_true(has(c, "a.test", 99));
	assert_null(dns_cache_find(c, &mx, 99, &expires_us));
	assert_false(has(c, "a.test", 100));
	assert_int_equal(dns_cache_entries(c), 0);
	assert_int_equal(dns_cache_bytes(c), 0);
	dns_cache_free(&c);
}

static void the_same_name_again_replaces(void **state)
{
	struct dns_cache *c = dns_cache_new(10, 1 << 20);

	(void)state;
	put(c, "a.test", 100);
	put(c, "a.test", 200);
	assert_int_equal(dns_cache_entries(c), 1);
	assert_true(has(c, "a.test", 150));
	dns_cache_free(&c);
}

static void the_one_used_longest_ago_goes_first(void **state)
{
	struct dns_cache *c = dns_cache_new(3, 1 << 20);

	(void)state;
	put(c, "a.test", 100);
	put(c, "b.test", 100);
	put(c, "c.test", 100);
	assert_true(has(c, "a.test", 1));
	put(c, "d.test", 100);
	assert_false(has(c, "b.test", 1));
	assert_true(has(c, "a.test", 1) && has(c, "c.test", 1) && has(c, "d.test", 1));
	dns_cache_free(&c);
}

static void bytes_are_bounded(void **state)
{
	struct dns_cache *c = dns_cache_new(100000, 65536);
	char name[32];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "n%d.test", i);
		put(c, name, 100);
		assert_true(dns_cache_bytes(c) <= 65536);
	}
	assert_in_range(dns_cache_entries(c), 20, 200);
	assert_true(has(c, name, 1));
	dns_cache_clear(c);
	assert_int_equal(dns_cache_entries(c), 0);
	dns_cache_free(&c);
}

static void an_answer_outlives_its_entry(void **state)
{
	struct dns_cache *c = dns_cache_new(1, 1 << 20);
	struct dns_question q = question("a.test", DNS_A);
	uint64_t expires_us;
	struct dns_result *mine;

	(void)state;
	put(c, "a.test", 100);
	mine = dns_result_ref(dns_cache_find(c, &q, 1, &expires_us));
	put(c, "b.test", 100);
	assert_string_equal(mine->answer.name, "a.test");
	dns_result_unref(&mine);
	dns_cache_free(&c);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_live_until_they_expire),
        cmocka_unit_test(the_same_name_again_replaces),
        cmocka_unit_test(the_one_used_longest_ago_goes_first),
        cmocka_unit_test(bytes_are_bounded),
        cmocka_unit_test(an_answer_outlives_its_entry),
};
TEST_MAIN("dns_cache", tests)
