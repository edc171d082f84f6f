/*
 * The rule language alone: what parses, what the errors say, the normal text, splitting.
 */
#include "t/lib/test.h"

#include "base/str.h"
#include "policy/rule.h"

static struct rule_expr *parse(const char *text, struct pool *pool)
{
	struct error err = {.text = ""};
	struct rule_expr *e = rule_expr_parse(text, "policy.json: rules[0]", pool, &err);
	if (e == NULL)
		fail_msg("%s: %s", text, err.text);
	return e;
}

static void assert_normal(const char *text, const char *normal)
{
	struct pool *pool = pool_new(1024);
	struct rule_expr *e = parse(text, pool);
	struct str s;
	str_init(&s);
	rule_expr_print(e, &s);
	assert_string_equal(s.data, normal);
	rule_expr_release(e);
	/* the normal text is its own normal text */
	e = parse(normal, pool);
	str_clear(&s);
	rule_expr_print(e, &s);
	assert_string_equal(s.data, normal);
	rule_expr_release(e);
	str_free(&s);
	pool_free(&pool);
}

static void normal_text(void **state)
{
	(void)state;
	assert_normal("mailfrom=='a@b'", "mailfrom == 'a@b'");
	assert_normal("  header:X-Customer  ==\t'acme'  ", "header:x-customer == 'acme'");
	assert_normal("header:X-Customer=='acme'AND NOT rcptto_domain=='gmail.com'",
	        "header:x-customer == 'acme' AND NOT rcptto_domain == 'gmail.com'");
	assert_normal("helo =~ '\\.com$'", "helo =~ '\\\\.com$'");
	assert_normal("helo =~ '\\\\.com$'", "helo =~ '\\\\.com$'");
	assert_normal("helo == 'it\\'s'", "helo == 'it\\'s'");
	assert_normal("NOT (helo == 'a')", "NOT helo == 'a'");
	assert_normal("NOT (NOT helo == 'a')", "NOT (NOT helo == 'a')");
	assert_normal("((helo == 'a'))", "helo == 'a'");
}

static void precedence(void **state)
{
	(void)state;
	/* NOT > AND > OR: only the parentheses that change something stay */
	assert_normal(
	        "(helo == 'a' AND helo == 'b') OR helo == 'c'", "helo == 'a' AND helo == 'b' OR helo == 'c'");
	assert_normal("helo == 'a' AND (helo == 'b' OR helo == 'c')",
	        "helo == 'a' AND (helo == 'b' OR helo == 'c')");
	assert_normal("helo == 'a' AND (helo == 'b' AND helo == 'c')",
	        "helo == 'a' AND helo == 'b' AND helo == 'c'");
	assert_normal(
	        "(helo == 'a' OR helo == 'b') OR helo == 'c'", "helo == 'a' OR helo == 'b' OR helo == 'c'");
	assert_normal("NOT (helo == 'a' OR helo == 'b')", "NOT (helo == 'a' OR helo == 'b')");
	assert_normal("NOT helo == 'a' OR helo == 'b'", "NOT helo == 'a' OR helo == 'b'");
}

static void shape(void **state)
{
	(void)state;
	struct pool *pool = pool_new(1024);
	struct rule_expr *e = parse("helo == 'a' OR helo == 'b' AND NOT helo == 'c'", pool);
	assert_int_equal(e->type, EXPR_OR);
	assert_int_equal(e->n, 2);
	assert_int_equal(e->args[1]->type, EXPR_AND);
	assert_int_equal(e->args[1]->args[1]->type, EXPR_NOT);
	assert_false(e->has_recipient);
	assert_true(e->has_other);
	rule_expr_release(e);
	pool_free(&pool);
}

static void errors_name_column_and_expectation(void **state)
{
	(void)state;
	static const struct {
		const char *text, *error;
	} cases[] = {
	        {"", "column 1: expected a field (mailfrom"},
	        {"mailform == 'a'", "column 1: expected a field (mailfrom, mailfrom_domain, rcptto, "
	                            "rcptto_domain, header:NAME, "
	                            "body, size, sender_ip, sender_host, helo, auth_user, recv_ip, "
	                            "recv_port, daemon_name), found "
	                            "\"mailform\""},
	        {"mailfrom = 'a'", "column 10: expected an operator (=~ !~ == != < > in), found \"=\""},
	        {"mailfrom inside 'a'",
	                "column 10: expected an operator (=~ !~ == != < > in), found \"inside\""},
	        {"mailfrom ==", "column 12: expected text in single quotes, found the end"},
	        {"mailfrom == a", "column 13: expected text in single quotes, found \"a\""},
	        {"mailfrom == \"a\"", "column 13: expected text in single quotes, found \"\\x22\""},
	        {"mailfrom == 'a", "column 13: the text that begins here is not closed: expected '"},
	        {"mailfrom == 'a\\'", "column 13: the text that begins here is not closed: expected '"},
	        {"mailfrom == 'a' and helo == 'b'",
	                "column 17: \"and\": AND, OR and NOT are written in upper case"},
	        {"not mailfrom == 'a'", "column 1: \"not\": AND, OR and NOT are written in upper case"},
	        {"(mailfrom == 'a' or helo == 'b')",
	                "column 18: \"or\": AND, OR and NOT are written in upper case"},
	        {"mailfrom == 'a' helo == 'b'",
	                "column 17: expected AND, OR or the end of the rule, found \"helo\""},
	        {"(mailfrom == 'a'",
	                "column 17: expected AND, OR or the ) that closes column 1, found the end"},
	        {"mailfrom == 'a')", "column 16: expected AND, OR or the end of the rule, found \")\""},
	        {"mailfrom == 'a' AND", "column 20: expected a field"},
	        {"mailfrom == 'a' AND OR helo == 'b'", "column 21: expected a field"},
	        {"NOT NOT helo == 'b'", "column 5: expected a test or ( after NOT, found \"NOT\""},
	        {"header == 'a'",
	                "column 7: expected \":\" and the name of a header (header:X-Customer), found \" \""},
	        {"header:== 'a'", "column 8: expected the name of a header, found \"=\""},
	        {"mailfrom < 'a'", "column 1: < compares numbers: only size and recv_port have it"},
	        {"size > 'much'", "column 8: \"much\" is not a number"},
	        {"size > '12XB'", "column 8: \"12XB\" is not a size"},
	        {"recv_port == '25x'", "column 14: \"25x\" is not a number"},
	        {"sender_ip in '10.0.0.1/8'", "column 14: "},
	        {"sender_ip in '10.0.0.0/8,,::1'", "column 14: an item of the list is empty"},
	        {"sender_ip == 'localhost'", "column 14: "},
	        {"mailfrom_domain == 'a..b'", "column 20: "},
	        {"mailfrom =~ '('", "column 13: pattern: "},
	        {"mailfrom =~ '(*UTF)a'", "column 13: pattern: "},
	        /* columns are characters */
	        {"helo == '\xc3\xa4\xc3\xb6' oops",
	                "column 14: expected AND, OR or the end of the rule, found \"oops\""},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct pool *pool = pool_new(1024);
		struct error err = {.text = ""};
		struct rule_expr *e = rule_expr_parse(cases[i].text, "x", pool, &err);
		if (e != NULL)
			fail_msg("%s: parsed", cases[i].text);
		if (strncmp(err.text, cases[i].error, strlen(cases[i].error)) != 0)
			fail_msg("%s: says \"%s\"", cases[i].text, err.text);
		pool_free(&pool);
	}
}

static void nesting_is_bounded(void **state)
{
	(void)state;
	struct pool *pool = pool_new(1024);
	struct error err;
	char deep[400];
	memset(deep, '(', 200);
	strcpy(deep + 200, "helo == 'a'");
	assert_null(rule_expr_parse(deep, "x", pool, &err));
	assert_non_null(strstr(err.text, "more than 64 parentheses inside each other"));
	pool_free(&pool);
}

static void literals_in_normal_form(void **state)
{
	(void)state;
	struct pool *pool = pool_new(1024);
	struct rule_expr *e = parse("mailfrom in '<Bob@Example.COM> , @a:x@B\xc3\xbc"
	                            "cher.example'",
	        pool);
	assert_int_equal(e->test->n_literals, 2);
	assert_string_equal(e->test->literals[0], "Bob@example.com");
	assert_string_equal(e->test->literals[1], "x@xn--bcher-kva.example");
	rule_expr_release(e);
	e = parse("mailfrom_domain == 'EXAMPLE.com.'", pool);
	assert_string_equal(e->test->literals[0], "example.com");
	rule_expr_release(e);
	e = parse("mailfrom == '<>'", pool);
	assert_string_equal(e->test->literals[0], "");
	rule_expr_release(e);
	e = parse("size > '2MB'", pool);
	assert_int_equal(e->test->numbers[0], 2 << 20);
	rule_expr_release(e);
	pool_free(&pool);
}

static void assert_split(const char *text, const char *rules)
{
	struct pool *pool = pool_new(1024);
	struct rule_expr *e = parse(text, pool);
	struct str s;
	str_init(&s);
	assert_true(rule_expr_print_split(e, &s));
	assert_string_equal(s.data, rules);
	str_free(&s);
	rule_expr_release(e);
	pool_free(&pool);
}

static void split(void **state)
{
	(void)state;
	assert_split("helo == 'a' OR rcptto == 'b'", "\"helo == 'a'\" and \"rcptto == 'b'\"");
	assert_split("helo == 'a' AND (helo == 'b' OR rcptto == 'c')",
	        "\"helo == 'a' AND helo == 'b'\" and \"helo == 'a' AND rcptto == 'c'\"");
	assert_split("NOT (helo == 'a' AND rcptto == 'b')", "\"NOT helo == 'a'\" and \"NOT rcptto == 'b'\"");
	assert_split("helo == 'a' AND helo == 'b' AND rcptto == 'x' OR rcptto == 'y' OR helo == 'c'",
	        "\"helo == 'a' AND helo == 'b' AND rcptto == 'x'\", \"rcptto == 'y'\" and \"helo == 'c'\"");
	assert_split("(helo == 'a' OR helo == 'b') AND (helo == 'c' OR rcptto == 'd')",
	        "\"(helo == 'a' OR helo == 'b') AND helo == 'c'\" and \"(helo == 'a' OR helo == 'b') AND "
	        "rcptto == 'd'\"");
}

static size_t literal(size_t i, char *key)
{
	int n = snprintf(key, 400, "%zu", i);
	memset(key + n, 'x', i % 200); /* shorter and longer than a cache line; with NUL behind some */
	key[(size_t)n + i % 200] = '\0';
	return (size_t)n + i % 200 + i % 2;
}

/* Keys of all lengths, the empty one too, while the table grows; what is not there is not found. */
static void literals_are_found(void **state)
{
	(void)state;
	struct lit_table *t = lit_table_new();
	char key[400];
	bool added;
	uint32_t value;
	assert_false(lit_table_get(t, "", 0, &value));
	for (size_t i = 0; i < 20000; i++) {
		size_t len = literal(i, key);
		assert_false(lit_table_get(t, key, len, &value));
		assert_int_equal(*lit_table_put(t, key, len, (uint32_t)i, &added), i);
		assert_true(added);
	}
	assert_int_equal(*lit_table_put(t, "", 0, 7, &added), 7);
	for (size_t i = 0; i < 20000; i++) {
		size_t len = literal(i, key);
		uint32_t hash = lit_table_hash(key, len);
		lit_table_expect(t, hash);
		lit_table_expect_record(t, hash);
		assert_true(lit_table_get_hashed(t, hash, key, len, &value));
		assert_int_equal(value, i);
		assert_int_equal(*lit_table_put(t, key, len, 1, &added), i);
		assert_false(added);
	}
	assert_true(lit_table_get(t, "", 0, &value));
	assert_int_equal(value, 7);
	assert_int_equal(lit_table_count(t), 20001);
	lit_table_free(&t);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_text),
        cmocka_unit_test(precedence),
        cmocka_unit_test(shape),
        cmocka_unit_test(errors_name_column_and_expectation),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(literals_in_normal_form),
        cmocka_unit_test(split),
        cmocka_unit_test(literals_are_found),
};
TEST_MAIN("policy_rule", tests)
