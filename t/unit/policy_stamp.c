/*
 * The stamp: what is printed is read back; what the grammar does not cover is refused; the MAC.
 */
#include "t/lib/test.h"

#include <gnutls/crypto.h>
#include <sys/stat.h>
#include "base/mem.h"
#include "policy/policy_internal.h"
#include "policy/stamp.h"
#include "t/lib/policy_text.h"

#define NOW_S UINT64_C(1800000000)
#define NOW_US (NOW_S * SECOND_US)
#define KEY_1 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_2 "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static bool any(void *ctx, const char *target)
{
	return strcmp(target, ctx != NULL ? ctx : "") != 0;
}

static enum stamp_reason read_text(
        const char *text, const struct stamp_keys *keys, const char *mid, struct decision *d)
{
	return stamp_read_known(text, strlen(text), any, NULL, keys, 3600, NOW_US, mid, d);
}

static void assert_reason(const char *text, enum stamp_reason reason)
{
	struct decision d;
	enum stamp_reason got = read_text(text, NULL, NULL, &d);
	if (got != reason)
		fail_msg("%s: %s", text, stamp_reason_name(got));
	decision_free(&d);
}

#define MAC43 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_"

static void grammar(void **state)
{
	(void)state;
	static const char *const good[] = {"acme", " acme ", "group:shared", "acme; b=rule", "acme;b=rule",
	        "acme;\r\n\tb=rule", "acme; b=match_domain", "default; b=default", "acme; b=0123abcd",
	        "acme; s=00000000", "acme; s=DEADbeef", "acme; p=high", "acme; p=normal; r=a/01234567/acme",
	        "acme; r=a/01234567/group:x/01234567, b/01234567/y", "acme; t=1; m=0; h=" MAC43,
	        "acme; b=x; s=01234567; p=low; r=a/01234567/b; t=1; m=1; h=" MAC43 "\r\n", "a=b; b=c=d",
	        "r; r=r/01234567/r"};
	static const char *const bad[] = {"", " ", ";", "acme;", "acme; ", "acme b=x", "acme ; b=x",
	        "acme; b", "acme; b=", "acme; b =x", "acme; b= x", "acme; b=x y", "acme; b=x,y",
	        "acme; b=a/b", "acme; b=x; b=y", "acme; s=01234567; b=x", "acme; B=x", "acme; x=1",
	        "acme; b=x; x=1", "acme; s=1234567", "acme; s=012345678", "acme; s=0123456g",
	        "acme; p=urgent", "acme; p=High", "acme; p=higher", "acme; r=", "acme; r=a",
	        "acme; r=a/01234567", "acme; r=a/0123456/b", "acme; r=a/01234567/b,", "acme; r=a/01234567/b/",
	        "acme; r=a/01234567/b/0123", "acme; r=a/01234567/b c/01234567/d", "acme; t=1",
	        "acme; t=1; m=1", "acme; m=1; h=" MAC43, "acme; h=" MAC43, "acme; t=; m=1; h=" MAC43,
	        "acme; t=x; m=1; h=" MAC43, "acme; t=-1; m=1; h=" MAC43,
	        "acme; t=12345678901234567890; m=1; h=" MAC43, "acme; t=1; m=2; h=" MAC43,
	        "acme; t=1; m=01; h=" MAC43, "acme; t=1; m=1; h=" MAC43 "A", "acme; t=1; m=1; h=AAAA",
	        "acme; t=1; m=1; h=" MAC43 "=",
	        "acme; t=1; m=1; h=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+",
	        "acme; t=1; m=1; h=" MAC43 "; b=x", "ac me", "group:", "group:a:b", "other:a", "ac\"me",
	        "ac'me", "ac\x01me", "ac\xc3\xa4me", "acme; b=x;", "acme;; b=x", "acme (comment)",
	        "acme; b=x (comment)"};
	for (size_t i = 0; i < array_len(good); i++)
		assert_reason(good[i], STAMP_OK);
	for (size_t i = 0; i < array_len(bad); i++)
		assert_reason(bad[i], STAMP_SYNTAX);
	char name[80];
	memset(name, 'n', sizeof(name));
	name[64] = '\0';
	assert_reason(name, STAMP_OK);
	name[64] = 'n';
	name[65] = '\0';
	assert_reason(name, STAMP_SYNTAX);
	struct decision d;
	assert_int_equal(stamp_read_known("ac\0me", 5, any, NULL, NULL, 1, 1, NULL, &d), STAMP_SYNTAX);
}

static void values(void **state)
{
	(void)state;
	struct decision d;
	assert_int_equal(read_text("group:shared; b=news; s=0badf00d; p=low; "
	                           "r=vip/01ABcdef/group:x/00000001,\r\n\t01234567/01234567/b",
	                         NULL, NULL, &d),
	        STAMP_OK);
	assert_string_equal(d.target.name, "group:shared");
	assert_true(d.target.has_sticky);
	assert_int_equal(d.target.sticky, 0x0badf00d);
	assert_string_equal(d.rule, "news");
	assert_int_equal(d.priority, PRIORITY_LOW);
	assert_true(d.claimed);
	assert_int_equal(d.n_open, 2);
	assert_string_equal(d.open[0].name, "vip");
	assert_string_equal(d.open[0].digest, "01abcdef");
	assert_string_equal(d.open[0].target.name, "group:x");
	assert_int_equal(d.open[0].target.sticky, 1);
	assert_string_equal(d.open[1].target.name, "b");
	assert_false(d.open[1].target.has_sticky);
	decision_free(&d);
	assert_int_equal(read_text("default; b=default", NULL, NULL, &d), STAMP_OK);
	assert_false(d.claimed);
	decision_free(&d);
	assert_int_equal(read_text("acme", NULL, NULL, &d), STAMP_OK);
	assert_true(d.claimed);
	assert_null(d.rule);
	decision_free(&d);
}

static const char *random_name(struct pool *pool, struct rnd *rnd, bool target)
{
	static const char chars[] = "abcXYZ019!#$%&()*+-.<=>?@[]^_`{|}~\\";
	char buf[80];
	size_t n = 0;
	if (target && rnd_below(rnd, 3) == 0) {
		memcpy(buf, "group:", 6);
		n = 6;
	}
	for (size_t len = 1 + rnd_below(rnd, 64); len > 0; len--)
		buf[n++] = chars[rnd_below(rnd, sizeof(chars) - 1)];
	return pool_strndup(pool, buf, n);
}

static struct decision_target random_target(struct pool *pool, struct rnd *rnd)
{
	struct decision_target t = {.name = random_name(pool, rnd, true), .has_sticky = rnd_below(rnd, 2)};
	t.sticky = t.has_sticky ? (uint32_t)rnd_u64(rnd) : 0;
	return t;
}

static void random_decision(struct decision *d, struct rnd *rnd)
{
	*d = (struct decision){.pool = pool_new(1024)};
	d->target = random_target(d->pool, rnd);
	d->rule = rnd_below(rnd, 4) == 0 ? "default" : random_name(d->pool, rnd, false);
	d->priority = (enum priority)rnd_below(rnd, 4);
	d->n_open = rnd_below(rnd, 3) == 0 ? 0 : rnd_below(rnd, 60);
	d->open = pool_alloc(d->pool, (d->n_open + 1) * sizeof(*d->open));
	for (size_t i = 0; i < d->n_open; i++) {
		d->open[i].name = random_name(d->pool, rnd, false);
		snprintf(d->open[i].digest, 9, "%08x", (unsigned)rnd_below(rnd, UINT32_MAX));
		d->open[i].target = random_target(d->pool, rnd);
	}
}

static void assert_same_target(const struct decision_target *a, const struct decision_target *b)
{
	assert_string_equal(a->name, b->name);
	assert_int_equal(a->has_sticky, b->has_sticky);
	assert_int_equal(a->sticky, b->sticky);
}

static void assert_same(const struct decision *a, const struct decision *b)
{
	assert_same_target(&a->target, &b->target);
	assert_string_equal(a->rule, b->rule);
	assert_int_equal(a->priority, b->priority);
	assert_int_equal(a->n_open, b->n_open);
	for (size_t i = 0; i < a->n_open; i++) {
		assert_string_equal(a->open[i].name, b->open[i].name);
		assert_string_equal(a->open[i].digest, b->open[i].digest);
		assert_same_target(&a->open[i].target, &b->open[i].target);
	}
}

static void assert_lines(const char *value)
{
	size_t line = strlen("X-Binding: ");
	for (const char *p = value; *p != '\0'; p++) {
		line = *p == '\n' ? 0 : line + 1;
		assert_true(line <= 900);
		if (*p == '\n') {
			assert_int_equal(p[1], '\t');
			assert_true(p[-1] == ';' || p[-1] == ',');
		}
	}
}

static struct stamp_keys *keys_of(const char *text, mode_t mode, struct error *err)
{
	char *folder = test_folder_new(), *path = mem_printf("%s/stamp.key", folder);
	test_file_write(path, text, strlen(text));
	assert_int_equal(chmod(path, mode), 0);
	struct stamp_keys *k = stamp_keys_load(path, err);
	mem_free(&path);
	test_folder_remove(&folder);
	return k;
}

static void round_trip(void **state)
{
	(void)state;
	struct fake_rnd rnd;
	struct error err;
	struct stamp_keys *keys = keys_of(KEY_1 "\n", 0600, &err);
	fake_rnd_init(&rnd, 42);
	for (int i = 0; i < 500; i++) {
		struct decision d, back;
		struct str s;
		const char *mid = i % 3 == 0 ? NULL : "<1@x>";
		str_init(&s);
		random_decision(&d, &rnd.rnd);
		stamp_print(&d, i % 2 ? keys : NULL, NOW_US, mid, &s);
		assert_lines(s.data);
		enum stamp_reason r = read_text(s.data, i % 2 ? keys : NULL, mid, &back);
		if (r != STAMP_OK)
			fail_msg("%s: %s", s.data, stamp_reason_name(r));
		assert_same(&d, &back);
		decision_free(&back);
		/* MTAs fold with CRLF and may turn the tab into a blank */
		struct str other;
		str_init(&other);
		for (const char *p = s.data; *p != '\0'; p++)
			str_add(&other, *p == '\n' ? "\r\n" : *p == '\t' ? " " : (char[]){*p, '\0'});
		assert_int_equal(read_text(other.data, i % 2 ? keys : NULL, mid, &back), STAMP_OK);
		decision_free(&back);
		str_free(&other);
		str_free(&s);
		decision_free(&d);
	}
	stamp_keys_free(&keys);
}

static void keys_file(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		mode_t mode;
		const char *error; /* NULL = fine */
	} cases[] = {
	        {KEY_1 "\n", 0600, NULL},
	        {"# one\n\n  " KEY_1 " # first\r\n" KEY_2, 0640, NULL},
	        {KEY_1 "\n", 0644, "its mode is 0644"},
	        {KEY_1 "\n", 0660, "its mode is 0660"},
	        {"# none\n", 0600, "has no key"},
	        {"", 0600, "has no key"},
	        {KEY_1 "\n\nabc\n", 0600, "line 3: a key is 64 hexadecimal digits"},
	        {KEY_1 KEY_1 "\n", 0600, "line 1: a key is"},
	        {"zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", 0600,
	                "line 1: a key is"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct error err = {.text = ""};
		struct stamp_keys *k = keys_of(cases[i].text, cases[i].mode, &err);
		assert_int_equal(k != NULL, cases[i].error == NULL);
		if (cases[i].error != NULL && strstr(err.text, cases[i].error) == NULL)
			fail_msg("says \"%s\"", err.text);
		stamp_keys_free(&k);
	}
	struct error err;
	assert_null(stamp_keys_load("/nonexistent/stamp.key", &err));
}

static void keys_of_configuration(void **state)
{
	(void)state;
	struct errors errors = {0};
	struct conf *conf =
	        conf_load_text("{ \"stamp\": { \"key_file\": \"/nonexistent/k\" } }", NULL, &errors);
	assert_null(stamp_keys_of(conf, &errors));
	assert_int_equal(errors.n_errors, 1);
	assert_string_equal(errors.items[0].text,
	        "bindpost.json: stamp.key_file: /nonexistent/k: No such file or directory");
	conf_unref(&conf);
	errors_free(&errors);
	conf = conf_load_text("{}", NULL, &errors);
	assert_null(stamp_keys_of(conf, &errors));
	assert_int_equal(errors.n_errors, 0);
	conf_unref(&conf);
	errors_free(&errors);
}

/* The MAC as the design words it, computed apart from the code under test. */
static void mac_is_as_designed(void **state)
{
	(void)state;
	struct error err;
	struct stamp_keys *keys = keys_of(KEY_1 "\n", 0600, &err);
	struct pool *pool = pool_new(64);
	struct decision d = {.target = {.name = "acme"}, .rule = "news", .pool = pool};
	struct str s;
	uint8_t key[32], sum[32];
	str_init(&s);
	stamp_print(&d, keys, NOW_US, " <id@x>\r\n", &s);
	const char *text = "acme;b=news;t=1800000000;m=1\n<id@x>";
	for (int i = 0; i < 32; i++)
		key[i] = (uint8_t)i;
	gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, 32, text, strlen(text), sum);
	gnutls_datum_t in = {sum, 32}, out;
	gnutls_base64_encode2(&in, &out);
	for (unsigned i = 0; i < out.size; i++)
		out.data[i] = out.data[i] == '+' ? '-' : out.data[i] == '/' ? '_' : out.data[i];
	char *expected = mem_printf("acme; b=news; t=1800000000; m=1; h=%.43s", (char *)out.data);
	assert_string_equal(s.data, expected);
	gnutls_free(out.data);
	mem_free(&expected);
	str_free(&s);
	decision_free(&d);
	stamp_keys_free(&keys);
}

static void mac_guards(void **state)
{
	(void)state;
	struct error err;
	struct stamp_keys *one = keys_of(KEY_1 "\n", 0600, &err), *two = keys_of(KEY_2 "\n", 0600, &err),
	                  *both = keys_of(KEY_2 "\n" KEY_1 "\n", 0600, &err);
	struct decision d = {.target = {.name = "acme"}, .rule = "news", .pool = pool_new(64)}, back;
	struct str s;
	str_init(&s);
	stamp_print(&d, one, NOW_US, "<id@x>", &s);
	assert_int_equal(read_text(s.data, one, "<id@x>", &back), STAMP_OK);
	decision_free(&back);
	/* folded and padded Message-ID is the same one */
	assert_int_equal(read_text(s.data, one, "\r\n <id@x> ", &back), STAMP_OK);
	decision_free(&back);
	assert_int_equal(read_text(s.data, both, "<id@x>", &back), STAMP_OK); /* rotation: all are accepted */
	decision_free(&back);
	assert_int_equal(
	        read_text(s.data, NULL, NULL, &back), STAMP_OK); /* without a key t, m, h are ignored */
	decision_free(&back);
	assert_int_equal(read_text(s.data, two, "<id@x>", &back), STAMP_BAD_MAC);
	assert_int_equal(read_text(s.data, one, "<other@x>", &back), STAMP_BAD_MAC);
	assert_int_equal(read_text(s.data, one, NULL, &back), STAMP_BAD_MAC);
	assert_int_equal(read_text("acme; b=news", one, "<id@x>", &back), STAMP_NO_MAC);
	/* every byte of what is signed counts */
	for (size_t i = 0; i < s.len; i++) {
		char *copy = mem_strdup(s.data);
		copy[i] = copy[i] == 'x' ? 'y' : 'x';
		enum stamp_reason r = read_text(copy, one, "<id@x>", &back);
		if (r != STAMP_BAD_MAC && r != STAMP_SYNTAX)
			fail_msg("%s: %s", copy, stamp_reason_name(r));
		mem_free(&copy);
	}
	/* m=0: the MTA may add a Message-ID later */
	str_clear(&s);
	stamp_print(&d, one, NOW_US, NULL, &s);
	assert_int_equal(read_text(s.data, one, "<added@mta>", &back), STAMP_OK);
	decision_free(&back);
	/* rotation signs with the first */
	str_clear(&s);
	stamp_print(&d, both, NOW_US, NULL, &s);
	assert_int_equal(read_text(s.data, two, NULL, &back), STAMP_OK);
	decision_free(&back);
	str_free(&s);
	decision_free(&d);
	stamp_keys_free(&one);
	stamp_keys_free(&two);
	stamp_keys_free(&both);
}

static void age(void **state)
{
	(void)state;
	static const struct {
		int64_t ahead_s;
		enum stamp_reason reason;
	} cases[] = {{0, STAMP_OK}, {-3600, STAMP_OK}, {-3601, STAMP_EXPIRED}, {86400, STAMP_OK},
	        {86401, STAMP_FUTURE}};
	struct error err;
	struct stamp_keys *keys = keys_of(KEY_1 "\n", 0600, &err);
	struct decision d = {.target = {.name = "acme"}, .rule = "news", .pool = pool_new(64)}, back;
	for (size_t i = 0; i < array_len(cases); i++) {
		struct str s;
		str_init(&s);
		stamp_print(&d, keys, (uint64_t)((int64_t)NOW_S + cases[i].ahead_s) * SECOND_US, NULL, &s);
		assert_int_equal(read_text(s.data, keys, NULL, &back), cases[i].reason);
		decision_free(&back);
		str_free(&s);
	}
	decision_free(&d);
	stamp_keys_free(&keys);
}

static void names_are_checked(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum stamp_reason reason;
	} cases[] = {{"a", STAMP_OK}, {"nobody", STAMP_UNKNOWN_BINDING}, {"group:pool", STAMP_OK},
	        {"pool", STAMP_UNKNOWN_BINDING}, {"group:default", STAMP_UNKNOWN_BINDING},
	        {"default", STAMP_OK}, {"A", STAMP_UNKNOWN_BINDING}, {"a; r=x/01234567/b", STAMP_OK},
	        {"a; r=x/01234567/nobody", STAMP_UNKNOWN_BINDING}};
	struct policy *p = policy_of_rules("[]");
	for (size_t i = 0; i < array_len(cases); i++) {
		struct decision d;
		assert_int_equal(
		        stamp_read(cases[i].text, strlen(cases[i].text), p, NULL, 1, NOW_US, NULL, &d),
		        cases[i].reason);
		decision_free(&d);
	}
	policy_unref(&p);
}

static void a_decision_survives_the_way(void **state)
{
	(void)state;
	struct policy *p = policy_of_rules(
	        "[{'when': 'rcptto_domain == `gmail.com`', 'bind': 'group:pool', 'sticky': 'mailfrom', "
	        "'priority': 'high'},"
	        " {'name': 'front', 'when': 'mailfrom == `s@t`', 'bind': 'c', 'priority': 'low'}]");
	struct facts f = {.mailfrom = "s@t", .recv_port = -1, .size = -1};
	struct decision d, back;
	struct recipient_choice x, y;
	struct str s;
	str_init(&s);
	policy_eval(p, &f, &rnd_system, &d, NULL);
	stamp_print(&d, NULL, NOW_US, NULL, &s);
	assert_int_equal(stamp_read(s.data, s.len, p, NULL, 1, NOW_US, NULL, &back), STAMP_OK);
	assert_same(&d, &back);
	policy_recipient(p, &back, "u@gmail.com", &x);
	policy_recipient(p, &d, "u@gmail.com", &y);
	assert_string_equal(x.target, "group:pool");
	assert_int_equal(x.sticky, y.sticky);
	assert_int_equal(x.priority, PRIORITY_HIGH);
	decision_free(&back);
	decision_free(&d);
	str_free(&s);
	policy_unref(&p);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammar),
        cmocka_unit_test(values),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(keys_file),
        cmocka_unit_test(keys_of_configuration),
        cmocka_unit_test(mac_is_as_designed),
        cmocka_unit_test(mac_guards),
        cmocka_unit_test(age),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(a_decision_survives_the_way),
};
TEST_MAIN("policy_stamp", tests)
