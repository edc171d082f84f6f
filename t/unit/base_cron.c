/* Calendar, time zones against the C library's, moments of crontab lines across changes of the clocks. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/calendar.h"
#include "base/cron.h"
#include "base/mem.h"
#include "t/lib/test.h"

static int64_t utc(int year, int month, int day, int hour, int minute)
{
	return calendar_days(year, month, day) * 86400 + hour * 3600 + minute * 60;
}

static void test_calendar(void **state)
{
	(void)state;
	assert_int_equal(calendar_days(1970, 1, 1), 0);
	assert_int_equal(calendar_days(2000, 3, 1), 11017);
	for (int64_t days = -200000; days < 200000; days++) {
		struct calendar_day d;
		calendar_of_days(days, &d);
		assert_int_equal(calendar_days(d.year, d.month, d.day), days);
	}
	time_t now = 1800000000;
	struct tm tm;
	for (int i = 0; i < 1000; i++, now += 86400) {
		struct calendar_day d;
		gmtime_r(&now, &tm);
		calendar_of_days(now / 86400, &d);
		assert_true(d.year == tm.tm_year + 1900 && d.month == tm.tm_mon + 1 && d.day == tm.tm_mday);
		assert_int_equal(calendar_weekday(now / 86400), tm.tm_wday);
	}
}

/* Each hour of many years: as localtime(3) has it. */
static void test_zones(void **state)
{
	(void)state;
	static const char *const zones[] = {"Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
	        "Asia/Kolkata", "Africa/Casablanca", "America/Sao_Paulo", "Pacific/Apia", "Asia/Tehran",
	        "Europe/Dublin", "Etc/GMT+5", "America/Nuuk", "Asia/Gaza"};
	char *before = getenv("TZ") ? mem_strdup(getenv("TZ")) : NULL;
	for (size_t i = 0; i < array_len(zones); i++) {
		struct error err;
		struct time_zone *tz = timezone_new(zones[i], &err);
		if (!tz)
			fail_msg("%s: %s", zones[i], err.text);
		setenv("TZ", zones[i], 1);
		tzset();
		/* from 1960 over the end of what files list (2037) far into what their rules say */
		for (int64_t t = -300000000; t < 4000000000; t += 3 * 3600 + 1800) {
			struct tm tm;
			time_t at = (time_t)t;
			localtime_r(&at, &tm);
			if (timezone_offset(tz, t) != tm.tm_gmtoff)
				fail_msg("%s at %lld: %d, not %ld", zones[i], (long long)t,
				        (int)timezone_offset(tz, t), tm.tm_gmtoff);
		}
		timezone_free(&tz);
	}
	if (before)
		setenv("TZ", before, 1);
	else
		unsetenv("TZ");
	tzset();
	mem_free(&before);
}

static void test_zone_names(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "/etc/passwd", "../../etc/passwd", "Europe/../../x",
	        "Europe/Atlantis", "Europe", "a b", "Europe/Berlin\n"};
	for (size_t i = 0; i < array_len(bad); i++)
		assert_null(timezone_new(bad[i], NULL));
	struct time_zone *tz = timezone_new("UTC", NULL);
	assert_int_equal(timezone_offset(tz, 1800000000), 0);
	timezone_free(&tz);
	tz = timezone_new("local", NULL);
	assert_non_null(tz);
	timezone_free(&tz);
}

/* What is cut anywhere is refused or read, never beyond its end. */
static void test_broken_files(void **state)
{
	(void)state;
	FILE *file = fopen("/usr/share/zoneinfo/Europe/Berlin", "rb");
	assert_non_null(file);
	unsigned char bytes[8192];
	size_t n = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	for (size_t len = 0; len < n; len++) {
		unsigned char *cut = mem_alloc(len + 1);
		memcpy(cut, bytes, len);
		struct time_zone *tz = timezone_parse(cut, len, NULL);
		if (tz)
			(void)timezone_offset(tz, 1800000000);
		timezone_free(&tz);
		free(cut);
	}
	for (size_t at = 0; at < n; at++) {
		bytes[at] ^= 0xff;
		struct time_zone *tz = timezone_parse(bytes, n, NULL);
		if (tz)
			(void)timezone_to_utc(tz, 4000000000);
		timezone_free(&tz);
		bytes[at] ^= 0xff;
	}
}

static void test_parse(void **state)
{
	(void)state;
	static const char *const good[] = {
	        "* * * * *", "0 22 * * 1-5", " 30  6 1,15 jan-mar Sun ", "*/5 0-23/2 * * 7", "59 23 31 12 6"};
	static const char *const bad[] = {"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *",
	        "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "5/2 * * * *", "*/0 * * * *",
	        "5-1 * * * *", "a * * * *", "1, * * * *", "1-* * * * *", "* * * janu *", "-1 * * * *",
	        "99999999999999999999 * * * *"};
	struct cron c;
	struct error err;
	for (size_t i = 0; i < array_len(good); i++)
		if (!cron_parse(good[i], &c, &err))
			fail_msg("%s: %s", good[i], err.text);
	for (size_t i = 0; i < array_len(bad); i++)
		if (cron_parse(bad[i], &c, NULL))
			fail_msg("%s was taken", bad[i]);
	assert_true(cron_parse("0 0 * * 7", &c, NULL));
	assert_int_equal(c.weekdays, 1);
}

static void expect(const char *line, const char *zone, int64_t at, int64_t last, int64_t next)
{
	struct cron c;
	int64_t got = 0;
	struct time_zone *tz = timezone_new(zone, NULL);
	assert_true(cron_parse(line, &c, NULL));
	if (!cron_last(&c, tz, at, &got) || got != last)
		fail_msg("%s in %s: last %lld, not %lld", line, zone, (long long)got, (long long)last);
	if (!cron_next(&c, tz, at, &got) || got != next)
		fail_msg("%s in %s: next %lld, not %lld", line, zone, (long long)got, (long long)next);
	timezone_free(&tz);
}

static void test_moments(void **state)
{
	(void)state;
	int64_t noon = utc(2026, 11, 20, 12, 0); /* a Friday */
	expect("0 22 * * *", "UTC", noon, utc(2026, 11, 19, 22, 0), utc(2026, 11, 20, 22, 0));
	expect("0 12 * * *", "UTC", noon, noon, utc(2026, 11, 21, 12, 0));
	expect("30 6 * * mon", "UTC", noon, utc(2026, 11, 16, 6, 30), utc(2026, 11, 23, 6, 30));
	expect("0 0 29 2 *", "UTC", noon, utc(2024, 2, 29, 0, 0), utc(2028, 2, 29, 0, 0));
	/* either kind of day */
	expect("0 0 1 * sun", "UTC", noon, utc(2026, 11, 15, 0, 0), utc(2026, 11, 22, 0, 0));
	expect("0 0 25 * sat", "UTC", utc(2026, 11, 24, 1, 0), utc(2026, 11, 21, 0, 0),
	        utc(2026, 11, 25, 0, 0));
	expect("0 22 * * *", "Europe/Berlin", noon, utc(2026, 11, 19, 21, 0), utc(2026, 11, 20, 21, 0));
	expect("0 1 * * *", "Asia/Tokyo", noon, utc(2026, 11, 19, 16, 0), utc(2026, 11, 20, 16, 0));
}

/* Berlin 2026: forward on March 29, 02:00 to 03:00 (01:00 UTC); back on October 25, 03:00 to 02:00 (01:00 UTC). */
static void test_changes_of_the_clocks(void **state)
{
	(void)state;
	const char *zone = "Europe/Berlin";
	/* 02:30 is left out: it is the moment of the change */
	expect("30 2 * * *", zone, utc(2026, 3, 28, 12, 0), utc(2026, 3, 28, 1, 30), utc(2026, 3, 29, 1, 0));
	expect("30 2 * * *", zone, utc(2026, 3, 29, 12, 0), utc(2026, 3, 29, 1, 0), utc(2026, 3, 30, 0, 30));
	/* 02:30 comes twice: once, the first time */
	expect("30 2 * * *", zone, utc(2026, 10, 24, 12, 0), utc(2026, 10, 24, 0, 30),
	        utc(2026, 10, 25, 0, 30));
	expect("30 2 * * *", zone, utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 0, 30),
	        utc(2026, 10, 26, 1, 30));
	/* 22:00 to 06:00 is a night of seven, eight or nine hours */
	expect("0 6 * * *", zone, utc(2026, 3, 28, 21, 0), utc(2026, 3, 28, 5, 0), utc(2026, 3, 29, 4, 0));
	expect("0 6 * * *", zone, utc(2026, 10, 24, 20, 0), utc(2026, 10, 24, 4, 0), utc(2026, 10, 25, 5, 0));
}

/* Stepping from moment to moment, forward and back, gives the same ones. */
static void test_there_and_back(void **state)
{
	(void)state;
	static const char *const lines[] = {"*/30 * * * *", "15 1,2,3 * * *", "0 0 * * 0", "59 23 28-31 * *"};
	static const char *const zones[] = {
	        "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"};
	for (size_t i = 0; i < array_len(lines); i++) {
		for (size_t z = 0; z < array_len(zones); z++) {
			struct cron c;
			struct time_zone *tz = timezone_new(zones[z], NULL);
			int64_t at = utc(2026, 3, 1, 0, 0), next, back;
			assert_true(cron_parse(lines[i], &c, NULL));
			for (int n = 0; n < 3000 && at < utc(2026, 11, 30, 0, 0); n++, at = next) {
				assert_true(cron_next(&c, tz, at, &next));
				assert_true(next > at);
				assert_true(cron_last(&c, tz, next, &back));
				assert_int_equal(back, next);
				assert_true(cron_last(&c, tz, next - 1, &back));
				assert_true(n == 0 || back == at);
			}
			timezone_free(&tz);
		}
	}
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_zones),
        cmocka_unit_test(test_zone_names),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_changes_of_the_clocks),
        cmocka_unit_test(test_there_and_back),
};

TEST_MAIN("base_cron", tests)
