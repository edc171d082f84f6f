#include "config.h"
#include "t/lib/test.h"

#include <errno.h>
#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "base/xtext.h"

static void test_error(void **state)
{
	struct error err;

	(void)state;
	assert_false(error_set(&err, "\"%s\" is not an IP address", "192.0.2.300"));
	assert_false(error_at(&err, "bindings.%s.bind_address", "acme"));
	assert_false(error_at(&err, "policy.json"));
	assert_string_equal(
	        err.text, "policy.json: bindings.acme.bind_address: \"192.0.2.300\" is not an IP address");
	errno = ENOENT;
	assert_false(error_sys(&err, "open %s", "x"));
	assert_string_equal(err.text, "open x: No such file or directory");
	assert_int_equal(errno, ENOENT);
	assert_false(error_set(&err, "again: %s", err.text));
	assert_string_equal(err.text, "again: open x: No such file or directory");
	assert_false(error_set(NULL, "x"));
	assert_false(error_sys(NULL, "x"));
	assert_false(error_at(NULL, "x"));
}

static void test_error_cut(void **state)
{
	struct error err;
	char big[3000];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_false(error_set(&err, "%s", big));
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	assert_string_equal(err.text + sizeof(err.text) - 7, "xxx...");
	assert_false(error_set(&err, "%.1023s", big)); /* just fits */
	assert_string_equal(err.text + sizeof(err.text) - 7, "xxxxxx");
	assert_false(error_at(&err, "place"));
	assert_memory_equal(err.text, "place: xxx", 10);
	assert_string_equal(err.text + sizeof(err.text) - 7, "xxx...");
}

static void test_errors(void **state)
{
	struct errors errors = {0};

	(void)state;
	errors_add(&errors, ERROR_ERROR, "%s: one", "a.json");
	errors_add(&errors, ERROR_WARNING, "two");
	errors_add(&errors, ERROR_ERROR, "three");
	errors_add(NULL, ERROR_ERROR, "nobody listens");
	assert_int_equal(errors.n, 3);
	assert_int_equal(errors.n_errors, 2);
	assert_string_equal(errors.items[0].text, "a.json: one");
	assert_int_equal(errors.items[1].level, ERROR_WARNING);
	errors_free(&errors);
	assert_int_equal(errors.n, 0);
	errors_free(&errors);
}

static void test_mem(void **state)
{
	char *p = mem_printf("%d-%s", 7, "x"), *q = mem_strndup("abcdef", 3);
	unsigned char *z = mem_zalloc(64);

	(void)state;
	assert_string_equal(p, "7-x");
	assert_string_equal(q, "abc");
	for (int i = 0; i < 64; i++)
		assert_int_equal(z[i], 0);
	mem_free(&p);
	assert_null(p);
	mem_free(&p);
	mem_free(&q);
	mem_free(&z);
	p = mem_alloc(0);
	mem_free(&p);
}

static void test_pool(void **state)
{
	struct pool *pool = pool_new(100);
	unsigned char *blocks[200];

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		size_t size = i % 50 == 49 ? 100000 : i;

		blocks[i] = pool_alloc(pool, size);
		assert_int_equal((uintptr_t)blocks[i] % 8, 0);
		for (size_t k = 0; k < size; k++)
			assert_int_equal(blocks[i][k], 0);
		memset(blocks[i], (int)i, size);
	}
	for (unsigned i = 0; i < 200; i++)
		for (size_t k = 0; k < (i % 50 == 49 ? 100000 : i); k++)
			assert_int_equal(blocks[i][k], i);
	assert_string_equal(pool_strdup(pool, "text"), "text");
	assert_string_equal(pool_strndup(pool, "text", 2), "te");
	pool_free(&pool);
	assert_null(pool);
	pool_free(&pool);
}

static void test_str(void **state)
{
	struct str s;
	char *text;

	(void)state;
	str_init(&s);
	assert_string_equal(s.data, "");
	str_trim(&s);
	str_clear(&s);
	str_add(&s, " \tab");
	str_add_char(&s, 'c');
	str_add_mem(&s, "\0d", 2);
	str_printf(&s, "%u\r\n", 7u);
	assert_int_equal(s.len, 10);
	str_trim(&s);
	assert_int_equal(s.len, 6);
	assert_memory_equal(s.data, "abc\0d7", 7);
	str_clear(&s);
	assert_string_equal(s.data, "");
	for (int i = 0; i < 100; i++)
		str_printf(&s, "%0100d", i);
	str_printf(&s, "%01000d", 1);
	assert_int_equal(s.len, 11000);
	text = str_steal(&s);
	assert_int_equal(strlen(text), 11000);
	mem_free(&text);
	text = str_steal(&s);
	assert_string_equal(text, "");
	mem_free(&text);
	str_free(&s);
	str_free(&s);
}

static void test_str_max(void **state)
{
	struct str s;

	(void)state;
	str_init_max(&s, 5);
	str_add(&s, "abc");
	assert_false(s.failed);
	str_add(&s, "def");
	assert_true(s.failed);
	assert_string_equal(s.data, "abc");
	str_add_char(&s, 'd'); /* would fit, but something is missing before it */
	assert_string_equal(s.data, "abc");
	str_clear(&s);
	str_printf(&s, "%s", "12345");
	assert_false(s.failed);
	assert_string_equal(s.data, "12345");
	str_printf(&s, "%0500d", 1);
	assert_true(s.failed);
	assert_string_equal(s.data, "12345");
	str_free(&s);
}

static void test_ascii(void **state)
{
	(void)state;
	assert_true(ascii_ieq("X-Binding", "x-bINDING"));
	assert_false(ascii_ieq("a", "ab"));
	assert_false(ascii_ieq("[", "{"));
	assert_false(ascii_ieq("\xC4", "\xE4"));
	assert_true(ascii_ieq_mem("a\0B", 3, "A\0b", 3));
	assert_int_equal(ascii_lower('@'), '@');
}

static void test_cursor(void **state)
{
	static const unsigned char bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};
	struct cursor c;

	(void)state;
	cursor_init(&c, bytes, sizeof(bytes));
	assert_int_equal(cursor_u8(&c), 1);
	assert_int_equal(cursor_u16(&c), 0x0302);
	assert_int_equal(cursor_u32(&c), 0x07060504);
	assert_int_equal(cursor_left(&c), 10);
	assert_true(cursor_u64(&c) == 0x0F0E0D0C0B0A0908);
	assert_ptr_equal(cursor_bytes(&c, 0), bytes + 15);
	cursor_skip(&c, 1);
	assert_int_equal(cursor_u16(&c), 0);
	assert_true(c.failed);
	assert_int_equal(cursor_u8(&c), 0); /* one is left, but we are lost */
	assert_int_equal(cursor_left(&c), 0);
	assert_null(cursor_bytes(&c, 0));
	cursor_init(&c, NULL, 0);
	assert_int_equal(cursor_left(&c), 0);
	assert_false(c.failed);
	assert_null(cursor_bytes(&c, SIZE_MAX));
	assert_true(c.failed);
}

static void test_utf8(void **state)
{
	static const char *const good[] = {"", "a", "\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
	        "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
	        "z\xC3\xBCz"};
	static const char *const bad[] = {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xC3z", "\xE0\x9F\xBF",
	        "\xED\xA0\x80", "\xE2\x82", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
	        "\xFF", "\xF0\x90\x80"};
	uint32_t code = 0;

	(void)state;
	for (size_t i = 0; i < array_len(good); i++)
		assert_true(utf8_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < array_len(bad); i++)
		assert_false(utf8_valid(bad[i], strlen(bad[i])));
	assert_int_equal(utf8_next("\xF0\x9F\x93\xA7", 4, &code), 4);
	assert_int_equal(code, 0x1F4E7);
	assert_int_equal(utf8_next("\xE2\x82\xAC", 2, &code), 0);
	assert_true(utf8_is_control(0x9F));
	assert_false(utf8_is_control(0xA0));
}

static void test_xtext(void **state)
{
	static const char *const good[] = {"", "a", "a+2Bb", "!~", "+00", "+3D"};
	static const char *const bad[] = {"a b", "a=b", "+", "+2", "+2b", "+GG", "a+", "\x7f", "\xc3\xa4"};
	struct str s, back;

	(void)state;
	for (size_t i = 0; i < array_len(good); i++)
		assert_true(xtext_ok(good[i], strlen(good[i])));
	for (size_t i = 0; i < array_len(bad); i++)
		assert_false(xtext_ok(bad[i], strlen(bad[i])));
	str_init(&s);
	str_init(&back);
	xtext_encode(&s, "a+b=c d\r\n\xff");
	assert_string_equal(s.data, "a+2Bb+3Dc+20d+0D+0A+FF");
	assert_true(xtext_ok(s.data, s.len));
	xtext_decode(&back, s.data, s.len);
	assert_string_equal(back.data, "a+b=c d\r\n\xff");
	str_free(&s);
	str_free(&back);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xtext),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_error_cut),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_mem),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_str),
        cmocka_unit_test(test_str_max),
        cmocka_unit_test(test_ascii),
        cmocka_unit_test(test_cursor),
        cmocka_unit_test(test_utf8),
};
TEST_MAIN("base_text", tests)
