/* The table of options and what is made from it: defaults, connection options as values, differences, maps */
#include "config.h"
#include "t/lib/test.h"
#include "base/mem.h"
#include "conf/conf_internal.h"

/* Each default, printed as it would be written and read again, is itself, and within its own range. */
static void check_default(struct pool *pool, const struct place *top, const struct option_row *row)
{
	struct errors errors = {0};
	struct value_reader r = {pool, &errors};
	union value def = value_default(pool, top, row), again;
	json_t *j = value_json(row, def);

	if (!value_read(&r, top, row, j, &again))
		print_message("# %s: %s\n", row->full_name, errors.items[0].text);
	assert_int_equal(errors.n, 0);
	assert_true(value_equal(row, def, again));
	json_decref(j);
}

static void test_defaults(void **state)
{
	const struct conf_file file = {"x.json", "", 0};
	const struct place top = {.file = &file};
	struct pool *pool = pool_new(4096);

	(void)state;
	for (size_t i = 0; i < OPT_COUNT; i++)
		if (i != OPT_bind_address)
			check_default(pool, &top, &option_rows[i]);
	for (size_t i = 0; i < PROC_COUNT; i++)
		check_default(pool, &top, &process_rows[i]);
	pool_free(&pool);
}

/* A secret is compared, and never shown: not as a value, not in what is said about a bad one. */
static void test_secret(void **state)
{
	const struct conf_file file = {"x.json", "", 0};
	const struct place top = {.file = &file};
	const struct option_row *row = &option_rows[OPT_outbound_smtp_auth_pass];
	struct pool *pool = pool_new(4096);
	struct errors errors = {0};
	struct value_reader r = {pool, &errors};
	union value a, b;
	json_t *good = json_string("tiger"), *other = json_string("lion"), *bad = json_string("tig\ner");
	json_t *shown;

	(void)state;
	assert_true(value_read(&r, &top, row, good, &a));
	assert_string_equal(a.s, "tiger");
	assert_true(value_read(&r, &top, row, other, &b));
	assert_false(value_equal(row, a, b));
	assert_true(value_equal(row, a, a));
	shown = value_json(row, a);
	assert_string_equal(json_string_value(shown), "(not shown)");
	assert_false(value_read(&r, &top, row, bad, &b));
	assert_int_equal(errors.n, 1);
	assert_null(strstr(errors.items[0].text, "tig"));
	json_decref(good);
	json_decref(other);
	json_decref(bad);
	json_decref(shown);
	errors_free(&errors);
	pool_free(&pool);
}

/* "N" is a second's, "N/S" any S seconds'; null and 0 are none. */
static void test_rates(void **state)
{
	static const struct {
		const char *json, *printed; /* NULL = an error */
	} cases[] = {
	        {"\"60/3\"", "\"60/3\""},
	        {"\"60\"", "\"60/1\""},
	        {"7", "\"7/1\""},
	        {"\"1000/1h\"", "\"1000/3600\""},
	        {"\"1000000/1d\"", "\"1000000/86400\""},
	        {"null", "null"},
	        {"0", "null"},
	        {"\"0/5\"", "null"},
	        {"\"1000001/5\"", NULL},
	        {"1000001", NULL},
	        {"-1", NULL},
	        {"1.5", NULL},
	        {"\"5/0\"", NULL},
	        {"\"5/2d\"", NULL},
	        {"\"5/\"", NULL},
	        {"\"/5\"", NULL},
	        {"\"5/3/1\"", NULL},
	        {"\" 5/3\"", NULL},
	        {"\"5/3 \"", NULL},
	        {"\"\"", NULL},
	        {"\"99999999999999999999/3\"", NULL},
	        {"\"3/99999999999999999999\"", NULL},
	        {"true", NULL},
	};
	const struct conf_file file = {"x.json", "", 0};
	const struct place top = {.file = &file};
	const struct option_row *row = &option_rows[OPT_outbound_throttle_messages];
	struct pool *pool = pool_new(4096);

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		struct errors errors = {0};
		struct value_reader r = {pool, &errors};
		json_t *j = json_loads(cases[i].json, JSON_DECODE_ANY, NULL), *shown;
		union value v;
		char *text;

		assert_int_equal(value_read(&r, &top, row, j, &v), cases[i].printed != NULL);
		json_decref(j);
		errors_free(&errors);
		if (!cases[i].printed)
			continue;
		shown = value_json(row, v);
		text = json_dumps(shown, JSON_ENCODE_ANY);
		assert_string_equal(text, cases[i].printed);
		free(text);
		json_decref(shown);
	}
	pool_free(&pool);
}

/* Sentences, for the manual; scopes, or a reload word */
static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < OPT_COUNT; i++) {
		const char *text = option_rows[i].text;
		assert_int_equal(text[strlen(text) - 1], '.');
		assert_true(option_rows[i].scopes & SCOPE_GLOBAL);
		assert_int_equal(option_find(option_rows[i].name), i);
		assert_int_equal(process_find(NULL, option_rows[i].name), -1);
	}
	for (size_t i = 0; i < PROC_COUNT; i++) {
		const char *text = process_rows[i].text;
		assert_int_equal(text[strlen(text) - 1], '.');
		assert_int_equal(process_find(process_rows[i].section, process_rows[i].name), i);
	}
}

/* --- connection options ------------------------------------------------------------------------------------------ */

static void differ(const struct conn_options *a, const struct conn_options *b, const char *name)
{
	if (conn_options_equal(a, b) || conn_options_hash(a) == conn_options_hash(b))
		print_message("# %s is not compared\n", name);
	assert_false(conn_options_equal(a, b));
	assert_true(conn_options_hash(a) != conn_options_hash(b));
}

/* A change of any one field makes another profile; text counts by content. */
static void test_conn_options(void **state)
{
	struct conf *c = conf_load_text("{}", NULL, &(struct errors){0});
	struct conn_options a, b;
	char name[] = "other.example";

	(void)state;
	conf_resolve(c, conf_binding(c, 0), NULL, &a, NULL, NULL);
	b = a;
#define CHANGE_NUMBER(field) b.field = !a.field
#define CHANGE_TEXT(field) b.field = name
#define CHANGE_UINT CHANGE_NUMBER
#define CHANGE_DURATION CHANGE_NUMBER
#define CHANGE_BOOL CHANGE_NUMBER
#define CHANGE_ENUM(tag) CHANGE_NUMBER
#define CHANGE_EHLO CHANGE_TEXT
#define CHANGE_GATEWAY CHANGE_TEXT
#define CHANGE_ROUTES CHANGE_TEXT
#define CHANGE_PROXY CHANGE_TEXT
#define CHANGE_PRIORITY CHANGE_TEXT
#define CHANGE_WORD CHANGE_TEXT
#define CHANGE_SECRET CHANGE_TEXT
#define CHANGE_PATH CHANGE_TEXT
#define IF_CONN(type, name)                                                                                  \
	CHANGE_##type(OPT_N_##type(name));                                                                   \
	differ(&a, &b, #name);                                                                               \
	b = a;
#define IF_DELIV(type, name)
#define IF_SCHED(type, name)
#define IF_GLOBAL(type, name)
#define IF_SPECIAL(type, name)
#define OPTION(name, type, part, scopes, def, min, max, text) IF_##part(type, name)
#include "conf/options.def"
	a.gateway = name;
	conn_options_copy(&b, &a);
	assert_true(b.gateway != a.gateway);
	assert_true(conn_options_equal(&a, &b));
	assert_true(conn_options_hash(&a) == conn_options_hash(&b));
	name[0] = 'O';
	differ(&a, &b, "gateway");
	conn_options_free(&b);
	conf_unref(&c);
}

/* --- differences --------------------------------------------------------------------------------------------------- */

static struct conf *text_conf(const char *process, const char *policy)
{
	struct errors errors = {0};
	struct conf *c = conf_load_text(process, policy, &errors);

	for (size_t i = 0; i < errors.n; i++)
		print_message("# %s\n", errors.items[i].text);
	assert_non_null(c);
	errors_free(&errors);
	return c;
}

static void check_diff(const char *p1, const char *b1, const char *p2, const char *b2, const char *expected)
{
	struct conf *a = text_conf(p1, b1), *b = text_conf(p2, b2);
	json_t *into = json_object();

	conf_diff_json(a, b, into);
	char *text = json_dumps(into, JSON_COMPACT);
	assert_string_equal(text, expected);
	free(text);
	json_decref(into);
	conf_unref(&a);
	conf_unref(&b);
}

static void test_diff(void **state)
{
	(void)state;
	check_diff("{}", "{}", "{}", "{}",
	        "{\"added\":[],\"removed\":[],\"changed\":[],\"options\":[],\"restart\":[],\"rules\":false"
	        ",\"rules_added\":[],\"rules_removed\":[],\"rules_changed\":[]}");
	check_diff("{ \"hostname\": \"a.example\", \"log\": { \"level\": \"info\" } }",
	        "{ \"bindings\": { \"default\": { \"bind_address\": \"192.0.2.1\" }, \"a\": { "
	        "\"bind_address\": \"192.0.2.2\" },"
	        " \"b\": { \"bind_address\": \"192.0.2.3\", \"domains\": { \"x.example\": { \"lmtp_port\": "
	        "24 } } },"
	        " \"c\": { \"bind_address\": \"192.0.2.4\" }, \"d\": { \"bind_address\": \"192.0.2.5\", "
	        "\"match_domain\": \"d.example\" } },"
	        " \"domains\": { \"/a/\": { \"lmtp_port\": 24 }, \"/b/\": { \"lmtp_port\": 25 } } }",
	        "{ \"hostname\": \"a.example\", \"log\": { \"level\": \"debug\" }, \"spool\": { \"path\": "
	        "\"/x\" } }",
	        "{ \"global\": { \"retry_interval\": \"20m\" }, \"rules\": [ {} ],"
	        " \"bindings\": { \"default\": { \"bind_address\": \"192.0.2.1\" }, \"n\": { "
	        "\"bind_address\": \"192.0.2.9\" },"
	        " \"b\": { \"bind_address\": \"192.0.2.3\", \"domains\": { \"x.example\": { \"lmtp_port\": "
	        "26 } } },"
	        " \"c\": { \"bind_address\": \"192.0.2.4\", \"comment\": \"x\" }, \"d\": { \"bind_address\": "
	        "\"192.0.2.5\", \"match_domain\": \"e.example\" } },"
	        " \"domains\": { \"/b/\": { \"lmtp_port\": 25 }, \"/a/\": { \"lmtp_port\": 24 } } }",
	        "{\"added\":[\"n\"],\"removed\":[\"a\"],\"changed\":[\"b\",\"d\"],\"options\":[\"global."
	        "retry_interval\",\"domains\","
	        "\"log.level\"],\"restart\":[\"spool.path\"],\"rules\":true"
	        ",\"rules_added\":[\"\"],\"rules_removed\":[],\"rules_changed\":[]}");
	check_diff("{}",
	        "{ \"bindings\": { \"default\": { \"bind_address\": \"192.0.2.1\" } }, \"binding_groups\": { "
	        "\"g\": { \"bind_address\": "
	        "\"192.0.2.2\", \"bindings\": { \"m\": {} } }, \"h\": { \"bindings\": { \"k\": { "
	        "\"bind_address\": \"192.0.2.5\" } } } },"
	        " \"hosts\": { \"mx.example\": { \"max_outbound_connections\": 2 } } }",
	        "{}",
	        "{ \"bindings\": { \"default\": { \"bind_address\": \"192.0.2.1\" }, \"k\": { "
	        "\"bind_address\": \"192.0.2.5\" } },"
	        " \"binding_groups\": { \"g\": { \"bind_address\": \"192.0.2.3\", \"bindings\": { \"m\": {} "
	        "} } } }",
	        "{\"added\":[],\"removed\":[],\"changed\":[\"k\",\"m\"],\"options\":[\"hosts.mx.example.max_"
	        "outbound_connections\","
	        "\"binding_groups.g\",\"binding_groups.h\"],\"restart\":[],\"rules\":false"
	        ",\"rules_added\":[],\"rules_removed\":[],\"rules_changed\":[]}");
}

#define RULES(list) "{ \"rules\": [" list "] }"
#define RULE_A "{ \"name\": \"a\", \"when\": \"x\", \"bind\": \"default\" }"
#define RULE_A2 "{ \"name\": \"a\", \"when\": \"y\", \"bind\": \"default\" }"
#define RULE_B "{ \"when\": \"b\", \"bind\": \"default\" }"
#define RULE_B2 "{ \"when\": \"b\", \"bind\": \"other\" }"
#define NO_OTHER "{\"added\":[],\"removed\":[],\"changed\":[],\"options\":[],\"restart\":[],\"rules\":"

static void test_diff_rules(void **state)
{
	(void)state;
	check_diff("{}", RULES(RULE_A ", " RULE_B), "{}", RULES(RULE_A2 ", { \"when\": \"c\" }"),
	        NO_OTHER "true,\"rules_added\":[\"c\"],\"rules_removed\":[\"b\"],\"rules_changed\":[\"a\"]}");
	check_diff("{}", RULES(RULE_B ", " RULE_B2), "{}", RULES(RULE_B2),
	        NO_OTHER "true,\"rules_added\":[],\"rules_removed\":[],\"rules_changed\":[\"b\"]}");
	check_diff("{}", RULES(RULE_B), "{}", RULES(RULE_B ", " RULE_B2),
	        NO_OTHER "true,\"rules_added\":[],\"rules_removed\":[],\"rules_changed\":[\"b\"]}");
	check_diff("{}", RULES(RULE_A ", " RULE_B), "{}", RULES(RULE_B ", " RULE_A),
	        NO_OTHER "true,\"rules_added\":[],\"rules_removed\":[],\"rules_changed\":[]}");
}

/* What needs a restart stays as it is in the running process, over any number of reloads; the rest is new. */
static void test_keep_running(void **state)
{
	static const char *const files[] = {
	        "{ \"hostname\": \"a.example\", \"stamp\": { \"header\": \"X-A\" } }",
	        ("{ \"hostname\": \"b.example\", \"stamp\": { \"header\": \"X-B\" },"
	         " \"spool\": { \"path\": \"/b\" } }"),
	        "{ \"hostname\": \"c.example\", \"stamp\": { \"header\": \"X-C\" } }"};
	struct errors errors = {0};
	struct conf *running = conf_load_text(files[0], NULL, &errors);
	(void)state;
	for (int i = 1; i < 3; i++) {
		json_t *diff = json_object();
		struct conf *next = conf_load_text(files[i], NULL, &errors);
		conf_diff_json(running, next, diff);
		assert_int_equal(json_array_size(json_object_get(diff, "restart")), i == 1 ? 2 : 1);
		conf_keep_running(next, running);
		conf_unref(&running);
		running = next;
		assert_string_equal(conf_process(running)->stamp_header, "X-A");
		assert_string_equal(conf_process(running)->spool_path, "/var/spool/bindpost");
		assert_string_equal(conf_process(running)->hostname, i == 1 ? "b.example" : "c.example");
		json_decref(diff);
	}
	conf_unref(&running);
	assert_int_equal(errors.n, 0);
	errors_free(&errors);
}

/* --- small parts ------------------------------------------------------------------------------------------------------ */

static void test_strmap(void **state)
{
	struct strmap m = {0};
	struct pool *pool = pool_new(4096);
	char key[16];

	(void)state;
	assert_null(strmap_get(&m, "x"));
	for (uintptr_t i = 1; i <= 5000; i++) {
		snprintf(key, sizeof(key), "key%zu", (size_t)i);
		assert_null(strmap_get(&m, key));
		strmap_add(&m, pool_strdup(pool, key), (void *)i);
	}
	for (uintptr_t i = 1; i <= 5000; i++) {
		snprintf(key, sizeof(key), "key%zu", (size_t)i);
		assert_true(strmap_get(&m, key) == (void *)i);
	}
	assert_null(strmap_get(&m, "key5001"));
	strmap_free(&m);
	pool_free(&pool);
}

static void test_units(void **state)
{
	uint64_t n;

	(void)state;
	assert_true(duration_parse("0", &n) && n == 0);
	assert_true(duration_parse("1w", &n) && n == 604800);
	assert_true(duration_parse("90", &n) && n == 90);
	assert_false(duration_parse("", &n));
	assert_false(duration_parse("m", &n));
	assert_false(duration_parse("1.5h", &n));
	assert_false(duration_parse("-1s", &n));
	assert_false(duration_parse("1H", &n));
	assert_true(size_parse("64KB", &n) && n == 65536);
	assert_true(size_parse("1TB", &n) && n == (uint64_t)1 << 40);
	assert_false(size_parse("1mb", &n));
	assert_false(size_parse("18446744073709551616", &n));
	assert_false(size_parse("18446744073709551615KB", &n));
}

static void test_eval_errors(void **state)
{
	struct conf *c = text_conf("{}", NULL);
	struct conf_origin origin;
	struct error err;

	(void)state;
	assert_false(conf_eval(c, "max_outbound_conections", NULL, NULL, &origin, &err));
	assert_string_equal(err.text,
	        "\"max_outbound_conections\" is not an option; did you mean \"max_outbound_connections\"?");
	assert_false(conf_eval(c, "x\n", NULL, NULL, &origin, &err));
	assert_string_equal(err.text, "\"x\\x0a\" is not an option");
	assert_false(conf_eval(c, "lmtp_port", NULL, "a..b", &origin, &err));
	assert_string_equal(err.text, "\"a..b\" is not a domain: a label is empty");
	conf_unref(&c);
}

static void test_print_errors(void **state)
{
	struct errors errors = {0};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	errors_add(&errors, ERROR_ERROR, "policy.json: x: wrong");
	errors_add(&errors, ERROR_WARNING, "policy.json: y: odd");
	conf_print_errors(&errors, out);
	fclose(out);
	assert_string_equal(text, "policy.json: x: wrong\nwarning: policy.json: y: odd\n");
	free(text);
	errors_free(&errors);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_secret),
        cmocka_unit_test(test_conn_options),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_diff_rules),
        cmocka_unit_test(test_keep_running),
        cmocka_unit_test(test_strmap),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_eval_errors),
        cmocka_unit_test(test_print_errors),
};
TEST_MAIN("conf_table", tests)
