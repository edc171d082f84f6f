#include "config.h"
#include "t/lib/test.h"

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/json_write.h"
#include "base/log.h"
#include "base/log_thread.h"
#include "base/mem.h"
#include "base/metrics.h"

static void test_json(void **state)
{
	struct json_out j;
	struct str s;

	(void)state;
	str_init(&s);
	json_out_init(&j, &s);
	jw_object(&j, NULL);
	jw_str(&j, "event", "delivery");
	jw_str(&j, "group", NULL);
	jw_uint(&j, "code", UINT64_MAX);
	jw_int(&j, "low", INT64_MIN);
	jw_int(&j, "one", 1);
	jw_seconds(&j, "delay", 12345000);
	jw_seconds(&j, "round", 999999);
	jw_seconds(&j, "zero", 0);
	jw_bool(&j, "tls", true);
	jw_time(&j, "time", UINT64_C(1795191041000123));
	jw_array(&j, "list");
	jw_object(&j, NULL);
	jw_end_object(&j);
	jw_uint(&j, NULL, 0);
	jw_bool(&j, NULL, false);
	jw_array(&j, NULL);
	jw_end_array(&j);
	jw_end_array(&j);
	jw_strn(&j, "end", "abc", 2);
	jw_end_object(&j);
	assert_string_equal(s.data,
	        "{\"event\":\"delivery\",\"group\":null,\"code\":18446744073709551615,\"low\":-"
	        "9223372036854775808,"
	        "\"one\":1,\"delay\":12.345,\"round\":1.000,\"zero\":0.000,\"tls\":true,"
	        "\"time\":\"2026-11-20T16:10:41.000123Z\",\"list\":[{},0,false,[]],\"end\":\"ab\"}");
	str_free(&s);
}

static void test_json_strings(void **state)
{
	static const struct {
		const char *raw;
		size_t len;
		const char *wanted;
	} cases[] = {
	        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
	        {"\b\f\n\r\t\0\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0000\\u001f\\u007f\""},
	        {"\xC3\xBC\xF0\x9F\x93\xA7", 6, "\"\xC3\xBC\xF0\x9F\x93\xA7\""},
	        {"\xC2\x9B"
	         "1m",
	                4, "\"\\u009b1m\""}, /* CSI, to a terminal */
	        {"a\xFF"
	         "b",
	                3,
	                "\"a\xEF\xBF\xBD"
	                "b\""},
	        {"\xE2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
	        {"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
	        {"", 0, "\"\""},
	};
	struct json_out j;
	struct str s;

	(void)state;
	str_init(&s);
	for (size_t i = 0; i < array_len(cases); i++) {
		str_clear(&s);
		json_out_init(&j, &s);
		jw_strn(&j, NULL, cases[i].raw, cases[i].len);
		assert_string_equal(s.data, cases[i].wanted);
	}
	str_free(&s);
}

/* Whatever the bytes, a JSON reader takes the result, and it is one line. */
static void test_json_any_bytes(void **state)
{
	struct json_out j;
	struct str s;

	(void)state;
	str_init(&s);
	for (unsigned i = 0; i < 65536; i++) {
		char raw[4] = {(char)(i >> 8), (char)i, 'x', (char)(i * 7)};
		json_error_t error;
		json_t *json;

		str_clear(&s);
		json_out_init(&j, &s);
		jw_array(&j, NULL);
		jw_strn(&j, NULL, raw, sizeof(raw));
		jw_end_array(&j);
		json = json_loadb(s.data, s.len, JSON_ALLOW_NUL, &error);
		if (json == NULL || memchr(s.data, '\n', s.len) != NULL)
			fail_msg("%04x: %s", i, s.data);
		json_decref(json);
	}
	str_free(&s);
}

static void test_json_full(void **state)
{
	struct json_out j;
	struct str s;

	(void)state;
	str_init_max(&s, 10);
	json_out_init(&j, &s);
	jw_object(&j, NULL);
	jw_str(&j, "key", "far too long");
	jw_end_object(&j);
	assert_true(s.failed);
	str_free(&s);
}

/* ---- log ---- */

struct seen {
	unsigned n;
	enum log_level level;
	char line[8192];
};

static void see(void *ctx, enum log_level level, const char *line)
{
	struct seen *seen = ctx;

	seen->n++;
	seen->level = level;
	(void)snprintf(seen->line, sizeof(seen->line), "%s", line);
}

static void test_log_levels(void **state)
{
	static struct seen seen;
	char big[6000];

	(void)state;
	log_init("prog", LOG_LEVEL_INFO);
	log_capture(see, &seen);
	log_debug("hidden");
	assert_int_equal(seen.n, 0);
	log_info("queue=%d", 7);
	assert_int_equal(seen.level, LOG_LEVEL_INFO);
	assert_string_equal(seen.line, "queue=7");
	log_error("two\nlines\x1b[31m");
	assert_string_equal(seen.line, "two lines [31m");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_warning("%s", big);
	assert_true(strlen(seen.line) < 4096);
	assert_string_equal(seen.line + strlen(seen.line) - 6, "xxx...");
	log_init("prog", LOG_LEVEL_DEBUG);
	log_debug("shown");
	log_notice("shown");
	assert_int_equal(seen.n, 5);
	log_capture(NULL, NULL);
}

/* What fn() writes to stderr. */
static char *stderr_of(void (*fn)(void), bool ours)
{
	int fds[2], saved = dup(STDERR_FILENO);
	struct stat st;
	char *text = mem_zalloc(4096), stream[64];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fstat(fds[1], &st), 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	(void)snprintf(stream, sizeof(stream), "%lu:%lu", (unsigned long)st.st_dev,
	        (unsigned long)st.st_ino + (ours ? 0 : 1));
	assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
	fn();
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
	(void)close(saved);
	(void)close(fds[1]);
	assert_true(read(fds[0], text, 4095) >= 0);
	(void)close(fds[0]);
	return text;
}

static void log_three(void)
{
	log_init("prog", LOG_LEVEL_INFO);
	log_error("bad");
	log_warning("hm");
	log_info("fine");
}

static void test_log_stderr(void **state)
{
	char *text = stderr_of(log_three, true);

	(void)state;
	assert_string_equal(text, "<3>bad\n<4>hm\n<6>fine\n");
	mem_free(&text);
	/* the variable is inherited, but stderr is something else now */
	text = stderr_of(log_three, false);
	assert_string_equal(text, "prog: error: bad\nprog: warning: hm\nprog: fine\n");
	mem_free(&text);
}

/* Nobody reads: no caller waits, and afterwards it is told how much is missing. */
static void test_log_thread(void **state)
{
	static char text[4 << 20];
	int fds[2], saved = dup(STDERR_FILENO);
	size_t len = 0;
	struct error err;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	log_init("prog", LOG_LEVEL_INFO);
	assert_true(log_thread_start(&err));
	for (int i = 0; i < 50000; i++)
		log_info("line %d, which nobody reads for now, whatever it may say of importance", i);
	while (!strstr(text, " lines of this log were dropped")) {
		ssize_t n = read(fds[0], text + len, sizeof(text) - 1 - len);

		assert_true(n > 0);
		len += (size_t)n;
	}
	assert_non_null(strstr(text, "prog: line 0, which"));
	assert_non_null(strstr(text, "prog: warning: "));
	log_info("the last");
	log_thread_stop();
	log_info("afterwards");
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	close(fds[1]);
	while (len < sizeof(text) - 1) {
		ssize_t n = read(fds[0], text + len, sizeof(text) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fds[0]);
	assert_non_null(strstr(text, "prog: the last\nprog: afterwards\n"));
}

static void test_log_quote(void **state)
{
	char buf[64], small[16], tiny[6], none[1];

	(void)state;
	assert_string_equal(log_quote("a b", 3, buf, sizeof(buf)), "\"a b\"");
	assert_string_equal(log_quote("", 0, buf, sizeof(buf)), "\"\"");
	assert_string_equal(
	        log_quote("\"\\\r\n\0\x7f", 6, buf, sizeof(buf)), "\"\\x22\\x5c\\x0d\\x0a\\x00\\x7f\"");
	assert_string_equal(
	        log_quote("\xC3\xBC\xFF\xC2\x9B", 5, buf, sizeof(buf)), "\"\xC3\xBC\\xff\\xc2\\x9b\"");
	assert_string_equal(log_quote("0123456789", 10, small, sizeof(small)), "\"0123456789\"");
	assert_string_equal(log_quote("0123456789abcdef", 16, small, sizeof(small)), "\"0123456789\"...");
	assert_string_equal(log_quote("012345678\n", 10, small, sizeof(small)), "\"012345678\"...");
	assert_string_equal(log_quote("abc", 3, tiny, sizeof(tiny)), "\"\"...");
	assert_string_equal(log_quote("abc", 3, none, sizeof(none)), "");
	(void)log_quote("abc", 3, none, 0);
}

/* ---- metrics ---- */

static void test_metrics(void **state)
{
	struct metrics *m = metrics_new();
	struct str labels, out;
	metric *a, *b, *gauge;

	(void)state;
	str_init(&labels);
	str_init(&out);
	metrics_label(&labels, "binding", "acme");
	metrics_label(&labels, "odd", "\"\\\n\xFF\x01\xC3\xBC");
	a = metrics_counter(m, "bindpost_deliveries_total", labels.data, "What\nleft \\ us");
	gauge = metrics_gauge(m, "bindpost_queued", NULL, "Waiting");
	b = metrics_counter(m, "bindpost_deliveries_total", "binding=\"b\"", "What left us");
	assert_ptr_equal(metrics_counter(m, "bindpost_deliveries_total", labels.data, NULL), a);
	assert_ptr_not_equal(a, b);
	metric_add(a, 3);
	metric_set(gauge, 10);
	metric_sub(gauge, 3);
	assert_int_equal(metric_get(gauge), 7);
	metrics_print(m, &out);
	assert_string_equal(out.data, "# HELP bindpost_deliveries_total What\\nleft \\\\ us\n"
	                              "# TYPE bindpost_deliveries_total counter\n"
	                              "bindpost_deliveries_total{binding=\"acme\",odd="
	                              "\"\\\"\\\\\\n\xEF\xBF\xBD\xEF\xBF\xBD\xC3\xBC\"} 3\n"
	                              "bindpost_deliveries_total{binding=\"b\"} 0\n"
	                              "# HELP bindpost_queued Waiting\n"
	                              "# TYPE bindpost_queued gauge\n"
	                              "bindpost_queued 7\n");
	str_free(&labels);
	str_free(&out);
	metrics_free(&m);
	assert_null(m);
	metrics_free(&m);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_json_any_bytes),
        cmocka_unit_test(test_json_full),
        cmocka_unit_test(test_log_levels),
        cmocka_unit_test(test_log_stderr), cmocka_unit_test(test_log_thread),
        cmocka_unit_test(test_log_quote),
        cmocka_unit_test(test_metrics),
};
TEST_MAIN("base_output", tests)
