/*
 * Replies, whole and in pieces; the bounds; what is no reply.
 */
#include "session/smtp_reply.h"
#include "t/lib/test.h"
#include "base/mem.h"

static const struct {
	const char *raw;
	unsigned code;
	const char *enhanced, *text;
} good[] = {
        {"250 ok\r\n", 250, "", "ok"},
        {"250\r\n", 250, "", ""},
        {"250 \r\n", 250, "", ""},
        {"250-\r\n250 \r\n", 250, "", " "},
        {"250 ok\n", 250, "", "ok"},
        {"250\n", 250, "", ""},
        {"250ok\r\n", 250, "", "ok"},
        {"250\tok\r\n", 250, "", "ok"},
        {"250-a\r\n250-b\r\n250 c\r\n", 250, "", "a b c"},
        {"250-a\r\n550 c\r\n", 550, "", "a c"},
        {"550-a\r\n250 c\r\n", 250, "", "a c"},
        {"250-a\n250-b\r\n250 c\n", 250, "", "a b c"},
        {"550 5.1.1 no such user\r\n", 550, "5.1.1", "5.1.1 no such user"},
        {"550 5.1.1\r\n", 550, "5.1.1", "5.1.1"},
        {"450 4.123.456 x\r\n", 450, "4.123.456", "4.123.456 x"},
        {"450 5.7.1 x\r\n", 450, "", "5.7.1 x"},
        {"354 3.0.0 x\r\n", 354, "", "3.0.0 x"},
        {"250 2.0.0x\r\n", 250, "", "2.0.0x"},
        {"250 2.0.1234 x\r\n", 250, "", "2.0.1234 x"},
        {"250 2.0. x\r\n", 250, "", "2.0. x"},
        {"250 2..0 x\r\n", 250, "", "2..0 x"},
        {"250 2.0\r\n", 250, "", "2.0"},
        {"550-5.7.1 blocked\r\n550 see http://x.test\r\n", 550, "5.7.1", "5.7.1 blocked see http://x.test"},
        {"550-5.7.1 blocked\r\n550 5.7.2 really\r\n", 550, "5.7.2", "5.7.1 blocked 5.7.2 really"},
        {"450-4.7.1 wait\r\n550 no\r\n", 550, "", "4.7.1 wait no"},
        {"250 a\rb\r\n", 250, "", "a\rb"},
        {"250 \x01\xff\r\n", 250, "", "\x01\xff"},
        {"599 x\r\n", 599, "", "x"},
        {"200 x\r\n", 200, "", "x"},
};

static void check(unsigned i, size_t piece)
{
	const char *raw = good[i].raw;
	size_t len = strlen(raw), at, used;
	struct smtp_reply r;
	enum smtp_reply_result result = SMTP_REPLY_MORE;

	smtp_reply_init(&r, NULL, NULL);
	assert_false(smtp_reply_begun(&r));
	for (at = 0; at < len; at += used) {
		size_t n = len - at < piece ? len - at : piece;

		assert_int_equal(result, SMTP_REPLY_MORE);
		result = smtp_reply_feed(&r, raw + at, n, &used);
		assert_true(used > 0 && used <= n);
		assert_true(smtp_reply_begun(&r));
	}
	assert_int_equal(result, SMTP_REPLY_DONE);
	assert_int_equal(r.code, good[i].code);
	assert_string_equal(r.enhanced, good[i].enhanced);
	assert_string_equal(r.text, good[i].text);
}

static void test_good(void **state)
{
	unsigned i;
	size_t piece;

	(void)state;
	for (i = 0; i < array_len(good); i++) {
		for (piece = 1; piece <= strlen(good[i].raw); piece++)
			check(i, piece);
	}
}

static void test_bad(void **state)
{
	static const char *const bad[] = {"x", "\r\n", "\n", " 250 ok\r\n", "25\r\n", "2\r\n", "25x ok\r\n",
	        "2500 ok\r\n", "25220 ok\r\n", "150 x\r\n", "050 x\r\n", "650 x\r\n", "950 x\r\n",
	        "-250 x\r\n", "250-a\r\nb\r\n", "250-a\r\n\r\n", "250-a\r\n650 b\r\n", "250-a\r\n25 b\r\n",
	        "\xff"};
	struct smtp_reply r;
	unsigned i;
	size_t used, at;

	(void)state;
	for (i = 0; i < array_len(bad); i++) {
		smtp_reply_init(&r, NULL, NULL);
		assert_int_equal(smtp_reply_feed(&r, bad[i], strlen(bad[i]), &used), SMTP_REPLY_BAD);
		smtp_reply_init(&r, NULL, NULL);
		for (at = 0; at < strlen(bad[i]) - 1; at++) {
			if (smtp_reply_feed(&r, bad[i] + at, 1, &used) == SMTP_REPLY_BAD)
				break;
		}
		if (at == strlen(bad[i]) - 1)
			assert_int_equal(smtp_reply_feed(&r, bad[i] + at, 1, &used), SMTP_REPLY_BAD);
	}
}

/* The digits alone are enough to see that it is not SMTP: no line end is waited for. */
static void test_bad_at_once(void **state)
{
	struct smtp_reply r;
	size_t used;

	(void)state;
	smtp_reply_init(&r, NULL, NULL);
	assert_int_equal(smtp_reply_feed(&r, "\x16\x03", 2, &used), SMTP_REPLY_BAD);
	smtp_reply_init(&r, NULL, NULL);
	assert_int_equal(smtp_reply_feed(&r, "HTTP/1.1 200 OK", 15, &used), SMTP_REPLY_BAD);
}

static enum smtp_reply_result feed_lines(unsigned lines, size_t line_len, size_t *bytes)
{
	char line[SMTP_REPLY_MAX_BYTES];
	struct smtp_reply r;
	enum smtp_reply_result result = SMTP_REPLY_MORE;
	size_t used;
	unsigned i;

	assert_true(line_len >= 6 && line_len <= sizeof(line));
	memset(line, 'x', line_len);
	memcpy(line + line_len - 2, "\r\n", 2);
	*bytes = 0;
	smtp_reply_init(&r, NULL, NULL);
	for (i = 0; i < lines && result == SMTP_REPLY_MORE; i++) {
		memcpy(line, i + 1 == lines ? "250 " : "250-", 4);
		result = smtp_reply_feed(&r, line, line_len, &used);
		*bytes += line_len;
	}
	return result;
}

static void test_bounds(void **state)
{
	size_t bytes;

	(void)state;
	assert_int_equal(feed_lines(500, 10, &bytes), SMTP_REPLY_DONE);
	assert_int_equal(feed_lines(501, 10, &bytes), SMTP_REPLY_BAD);
	assert_int_equal(bytes, 5010);
	assert_int_equal(feed_lines(1, SMTP_REPLY_MAX_BYTES, &bytes), SMTP_REPLY_DONE);
	assert_int_equal(feed_lines(256, 256, &bytes), SMTP_REPLY_DONE); /* 64 KB */
	assert_int_equal(feed_lines(257, 256, &bytes), SMTP_REPLY_BAD);
	assert_int_equal(feed_lines(400, 1000, &bytes), SMTP_REPLY_BAD);
	assert_int_equal(bytes, 66000);
}

static void test_long_text_is_cut(void **state)
{
	char line[5000];
	struct smtp_reply r;
	size_t used;

	(void)state;
	memset(line, 'y', sizeof(line));
	memcpy(line, "250-", 4);
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	smtp_reply_init(&r, NULL, NULL);
	assert_int_equal(smtp_reply_feed(&r, line, sizeof(line), &used), SMTP_REPLY_MORE);
	assert_int_equal(smtp_reply_feed(&r, line, sizeof(line), &used), SMTP_REPLY_MORE);
	assert_int_equal(smtp_reply_feed(&r, line, sizeof(line), &used), SMTP_REPLY_MORE);
	assert_int_equal(smtp_reply_feed(&r, "550 5.1.1 no\r\n", 14, &used), SMTP_REPLY_DONE);
	assert_int_equal(r.code, 550);
	assert_string_equal(r.enhanced, "5.1.1");
	assert_int_equal(strlen(r.text), OUTCOME_REPLY_MAX - 1);
}

static void count_line(void *ctx, unsigned number, const char *text, size_t len)
{
	unsigned *n = ctx;

	assert_int_equal(number, *n);
	assert_int_equal(len, 1);
	assert_int_equal(*text, (int)('a' + *n));
	(*n)++;
}

static void test_lines(void **state)
{
	struct smtp_reply r;
	unsigned n = 0;
	size_t used;
	const char *raw = "250-a\r\n250-b\r\n250 c\r\n250 next\r\n";

	(void)state;
	smtp_reply_init(&r, count_line, &n);
	assert_int_equal(smtp_reply_feed(&r, raw, strlen(raw), &used), SMTP_REPLY_DONE);
	assert_int_equal(n, 3);
	assert_string_equal(raw + used, "250 next\r\n");
}

static void test_outcome(void **state)
{
	struct smtp_reply r;
	struct outcome o;
	struct str text;
	size_t used;

	(void)state;
	smtp_reply_init(&r, NULL, NULL);
	assert_int_equal(smtp_reply_feed(&r, "550 5.1.1 a\0b\r\n", 15, &used), SMTP_REPLY_DONE);
	smtp_reply_outcome(&r, STATE_RCPT, &o);
	assert_int_equal(o.class, OUTCOME_PERMANENT);
	str_init(&text);
	outcome_print(&o, &text);
	assert_string_equal(text.data, "550 5.1.1 a?b");
	str_clear(&text);
	outcome_own(&o, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.4.1", "no route to %s", "mx.test");
	outcome_print(&o, &text);
	assert_string_equal(text.data, "451 4.4.1 no route to mx.test");
	assert_string_equal(outcome_state_name(o.state), "connect");
	str_free(&text);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bad_at_once),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_outcome),
};
TEST_MAIN("smtp_reply", tests)
