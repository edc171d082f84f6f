/* Files: which are read, in which order, how they merge, what their relative paths mean */
#include "config.h"
#include "t/lib/test.h"
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/str.h"
#include "conf/conf.h"

struct folder {
	char *path;
	struct errors errors;
	struct conf *conf;
};

static void put(struct folder *f, const char *name, const char *text)
{
	char *path = mem_printf("%s/%s", f->path, name), *slash = strrchr(path, '/');

	*slash = '\0';
	mkdir(path, 0755);
	*slash = '/';
	test_file_write(path, text, strlen(text));
	mem_free(&path);
}

static void load(struct folder *f)
{
	char *path = mem_printf("%s/bindpost.json", f->path);

	errors_free(&f->errors);
	conf_unref(&f->conf);
	f->errors = (struct errors){0};
	f->conf = conf_load(path, &f->errors);
	mem_free(&path);
}

/* The complaints, without the folder's own path */
static void expect(struct folder *f, const char *expected)
{
	struct str all;

	load(f);
	str_init(&all);
	for (size_t i = 0; i < f->errors.n; i++) {
		const char *text = f->errors.items[i].text;
		size_t n = strlen(f->path);
		if (strncmp(text, f->path, n) == 0 && text[n] == '/')
			text += n + 1;
		str_printf(&all, "%s\n", text);
	}
	assert_string_equal(all.data, expected);
	assert_int_equal(f->conf == NULL, f->errors.n_errors > 0);
	str_free(&all);
}

static int setup(void **state)
{
	struct folder *f = mem_zalloc(sizeof(*f));

	f->path = test_folder_new();
	put(f, "bindpost.json", "{ \"hostname\": \"mta.example\" }");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;

	conf_unref(&f->conf);
	errors_free(&f->errors);
	test_folder_remove(&f->path);
	mem_free(&f);
	return 0;
}

#define NO_POLICY                                                                                            \
	"bindpost.json: policy: neither policy.json nor policy.d/*.json is there: all mail leaves by the "   \
	"binding \"default\"\n"

static void test_built_in_names(void **state)
{
	struct folder *f = *state;

	expect(f, NO_POLICY);
	assert_int_equal(conf_n_bindings(f->conf), 1);
	put(f, "policy.json", "{ \"bindings\": { \"default\": { \"bind_address\": \"192.0.2.1\" } } }");
	put(f, "policy.d/a.json", "{ \"bindings\": { \"a\": { \"bind_address\": \"192.0.2.2\" } } }");
	expect(f, "");
	assert_int_equal(conf_n_bindings(f->conf), 2);
	assert_string_equal(conf_binding(f->conf, 1)->where, "policy.d/a.json: bindings.a");
}

static void test_named_files(void **state)
{
	struct folder *f = *state;

	put(f, "bindpost.json", "{ \"policy\": [\"policy.json\", \"policy.d\", \"more/\"] }");
	expect(f, "bindpost.json: policy: policy.json: cannot be read: No such file or directory\n");
	put(f, "policy.json", "{}");
	expect(f, "");
	put(f, "bindpost.json", "{ \"policy\": \"other.json\" }");
	put(f, "other.json", "{ \"rules\": [ { \"name\": \"x\" } ] }");
	expect(f, "");
	assert_int_equal(conf_n_rules(f->conf), 1);
}

/* A folder emptied or a list cleared by accident must not move all customers to the default address. */
static void test_no_policy_at_all(void **state)
{
	struct folder *f = *state;
	const char *empty =
	        "bindpost.json: policy: names no file with a policy: all mail would leave by the binding "
	        "\"default\"; name one (\"policy.json\", even if it is only {}), or leave the option out\n";

	put(f, "bindpost.json", "{ \"policy\": [] }");
	expect(f, empty);
	put(f, "bindpost.json", "{ \"policy\": [\"policy.d\", \"more/\"] }");
	expect(f, empty);
	put(f, "policy.d/notes.txt", "{}");
	expect(f, empty);
	put(f, "policy.d/a.json", "{}");
	expect(f, "");
	put(f, "bindpost.json", "{ \"policy\": \"gone.json\" }");
	expect(f, "bindpost.json: policy: gone.json: cannot be read: No such file or directory\n");
}

static void test_missing_main(void **state)
{
	struct folder *f = *state;
	char *path = mem_printf("%s/bindpost.json", f->path);

	unlink(path);
	mem_free(&path);
	expect(f, "bindpost.json: cannot be read: No such file or directory\n");
}

/* A pipe nobody writes to must not hold up a reload */
static void test_pipe(void **state)
{
	struct folder *f = *state;
	char *path = mem_printf("%s/policy.json", f->path);

	assert_int_equal(mkfifo(path, 0600), 0);
	mem_free(&path);
	expect(f, "policy.json: not a regular file\n");
}

static void test_merge(void **state)
{
	struct folder *f = *state;
	const char *where;

	put(f, "policy.json",
	        "{ \"global\": { \"bind_address\": \"192.0.2.1\", \"retry_interval\": 60 }, \"rules\": [ { "
	        "\"name\": \"one\" }, "
	        "{ \"name\": \"two\" } ] }");
	put(f, "policy.d/20.json",
	        "{ \"global\": { \"lmtp_port\": 24 }, \"rules\": [ { \"name\": \"four\" } ], "
	        "\"bindings\": { \"a\": { \"domains\": { \"x.example\": { \"lmtp_port\": 26 } } } } }");
	put(f, "policy.d/10.json",
	        "{ \"rules\": [ { \"name\": \"three\" } ], \"bindings\": { \"a\": { \"bind_address\": "
	        "\"192.0.2.2\", \"domains\": { \"x.example\": { \"idle_timeout\": 3 } } } } }");
	put(f, "policy.d/.hidden.json", "{");
	put(f, "policy.d/notes.txt", "{");
	put(f, "policy.d/30.json~", "{");
	expect(f, "");
	struct conn_options o;
	conf_resolve(f->conf, conf_binding_named(f->conf, "a"), "x.example", &o, NULL, NULL);
	assert_int_equal(o.lmtp_port, 26);
	assert_int_equal(o.idle_timeout_s, 3);
	assert_int_equal(conf_n_rules(f->conf), 4);
	assert_string_equal(
	        json_string_value(json_object_get(conf_rule(f->conf, 2, &where), "name")), "three");
	assert_string_equal(where, "policy.d/10.json: rules[0]");
	assert_string_equal(json_string_value(json_object_get(conf_rule(f->conf, 1, &where), "name")), "two");
	assert_string_equal(where, "policy.json: rules[1]");
	struct conf_origin origin;
	assert_true(conf_eval(
	        f->conf, "lmtp_port", conf_binding_named(f->conf, "a"), "X.example", &origin, NULL));
	assert_string_equal(origin.where, "policy.d/20.json: bindings.a.domains.x.example");
}

static void test_set_twice(void **state)
{
	struct folder *f = *state;

	put(f, "policy.json",
	        "{ \"global\": { \"bind_address\": \"192.0.2.1\", \"retry_interval\": 60 }, \"bindings\": { "
	        "\"a\": { \"match_domain\": "
	        "\"a.example\", \"bind_address\": \"192.0.2.2\" } }, \"domains\": { \"x.example\": { "
	        "\"lmtp_port\": 26 } } }");
	put(f, "policy.d/10.json",
	        "{ \"global\": { \"retry_interval\": 60 }, \"bindings\": { \"a\": { \"match_domain\": "
	        "\"b.example\" } }, "
	        "\"domains\": { \"X.example\": { \"lmtp_port\": 26 } } }");
	expect(f, "policy.d/10.json: global.retry_interval: set twice: it is set already in policy.json\n"
	          "policy.d/10.json: bindings.a.match_domain: set twice: it is set already in policy.json\n"
	          "policy.d/10.json: domains.X.example.lmtp_port: set twice: it is set already in "
	          "policy.json\n");
}

/* Errors of all files at once, also behind one that is no JSON */
static void test_all_files(void **state)
{
	struct folder *f = *state;

	put(f, "bindpost.json", "{ \"user\": 3 }");
	put(f, "policy.json", "{ \"global\": ");
	put(f, "policy.d/1.json", "{ \"global\": { \"lmtp_port\": 0 } }");
	expect(f, "bindpost.json: user: 3 is not a user's name\n"
	          "policy.json: line 1, column 12: unexpected token near end of file\n"
	          "policy.d/1.json: global.lmtp_port: 0 is out of range: from 1 to 65535\n");
}

static void test_match_domain_file(void **state)
{
	struct folder *f = *state;

	put(f, "policy.d/1.json",
	        "{ \"global\": { \"bind_address\": \"192.0.2.1\" }, \"bindings\": { \"a\": { "
	        "\"bind_address\": \"192.0.2.2\", "
	        "\"match_domain\": \"a.example\", \"match_domain_file\": [\"lists/a.txt\", \"lists/b.txt\"] "
	        "} } }");
	put(f, "policy.d/lists/a.txt", "# customers\n\n  One.example  # first\r\na.example\n\ttwo.example.");
	put(f, "policy.d/lists/b.txt", "");
	expect(f, "");
	const struct conf_binding *a = conf_binding_named(f->conf, "a");
	assert_int_equal(a->n_match_domain, 3);
	assert_string_equal(a->match_domain[0], "a.example");
	assert_string_equal(a->match_domain[1], "one.example");
	assert_string_equal(a->match_domain[2], "two.example");
	put(f, "policy.d/lists/b.txt", "ok.example\nno domain\n#\nbad..example\n");
	expect(f, "policy.d/1.json: bindings.a.match_domain_file[1]: lists/b.txt line 2: \"no domain\" is "
	          "not a domain: it has "
	          "characters that no host name has\n"
	          "policy.d/1.json: bindings.a.match_domain_file[1]: lists/b.txt line 4: \"bad..example\" is "
	          "not a domain: a "
	          "label is empty\n");
}

static void test_relative_paths(void **state)
{
	struct folder *f = *state;

	put(f, "bindpost.json",
	        "{ \"stamp\": { \"key_file\": \"stamp.key\" }, \"spool\": { \"path\": \"/var/x\" } }");
	expect(f, NO_POLICY);
	char *key = mem_printf("%s/stamp.key", f->path);
	assert_string_equal(conf_process(f->conf)->stamp_key_file, key);
	assert_string_equal(conf_process(f->conf)->spool_path, "/var/x");
	mem_free(&key);
}

/* Every field of bindpost.json at once */
static void test_process_fields(void **state)
{
	struct folder *f = *state;

	put(f, "bindpost.json",
	        "{ \"hostname\": \"MTA.example\", \"user\": \"mail\", \"stop_timeout\": \"2m\","
	        " \"stamp\": { \"header\": \"X-Mark\", \"key_file\": \"/k\", \"lifetime\": \"1d\" },"
	        " \"milter\": { \"listen\": \"inet:127.0.0.1:8891\", \"control\": \"unix:/m\", \"on_error\": "
	        "\"accept\", \"body_limit\": \"2MB\" },"
	        " \"handoff\": { \"listen\": [\"unix:/h?mode=0600\", \"inet:[::1]:24\"], \"relay_hosts\": "
	        "[\"10.0.0.0/8\", \"::1\"],"
	        "   \"max_message_size\": \"1MB\", \"max_recipients\": 7, \"unstamped\": \"reject\", "
	        "\"bad_stamp\": \"policy\" },"
	        " \"spool\": { \"path\": \"/s\", \"min_free\": \"2GB\", \"memory\": 5, \"segment_size\": "
	        "\"8MB\" },"
	        " \"dns\": { \"servers\": [\"127.0.0.1:53535\", \"192.0.2.53\", { \"address\": "
	        "\"[2001:db8::53]:5353\", \"trust_ad\": true }] },"
	        " \"delivery\": { \"threads\": 3 }, \"notify\": { \"via\": \"inet:127.0.0.2:2525\" },"
	        " \"control\": { \"listen\": \"unix:/c\", \"observe\": \"unix:/o\", \"metrics\": "
	        "\"inet:127.0.0.1:9125\" },"
	        " \"log\": { \"events\": \"/e\", \"level\": \"debug\" } }");
	expect(f, NO_POLICY);
	const struct process_options *p = conf_process(f->conf);
	assert_string_equal(p->hostname, "mta.example");
	assert_string_equal(p->user, "mail");
	assert_int_equal(p->stop_timeout_s, 120);
	assert_string_equal(p->stamp_header, "X-Mark");
	assert_int_equal(p->stamp_lifetime_s, 86400);
	assert_int_equal(p->milter_listen->addr.port, 8891);
	assert_string_equal(p->milter_control->path, "/m");
	assert_int_equal(p->milter_on_error, MILTER_ACCEPT);
	assert_int_equal(p->milter_body_limit, 2 << 20);
	assert_int_equal(p->handoff_listen.n, 2);
	assert_int_equal(p->handoff_listen.items[0].mode, 0600);
	assert_int_equal(p->handoff_relay_hosts.n, 2);
	assert_int_equal(p->handoff_max_message_size, 1 << 20);
	assert_int_equal(p->handoff_max_recipients, 7);
	assert_int_equal(p->handoff_unstamped, UNCLAIMED_REJECT);
	assert_int_equal(p->handoff_bad_stamp, UNCLAIMED_POLICY);
	assert_int_equal(p->spool_min_free, (uint64_t)2 << 30);
	assert_int_equal(p->spool_memory, 5);
	assert_int_equal(p->spool_segment_size, 8 << 20);
	assert_int_equal(p->dns_servers.n, 3);
	assert_true(p->dns_servers.items[0].trust_ad && p->dns_servers.items[0].addr.port == 53535);
	assert_false(p->dns_servers.items[1].trust_ad);
	assert_int_equal(p->dns_servers.items[1].addr.port, 53);
	assert_true(p->dns_servers.items[2].trust_ad && p->dns_servers.items[2].addr.port == 5353);
	assert_int_equal(p->delivery_threads, 3);
	assert_int_equal(p->notify_via->addr.port, 2525);
	assert_string_equal(p->control_observe->path, "/o");
	assert_int_equal(p->control_metrics->addr.port, 9125);
	assert_string_equal(p->log_events, "/e");
	assert_int_equal(p->log_level, LOG_LEVEL_DEBUG);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
        CASE(test_built_in_names),
        CASE(test_named_files),
        CASE(test_no_policy_at_all),
        CASE(test_missing_main),
        CASE(test_pipe),
        CASE(test_merge),
        CASE(test_set_twice),
        CASE(test_all_files),
        CASE(test_match_domain_file),
        CASE(test_relative_paths),
        CASE(test_process_fields),
};
TEST_MAIN("conf_files", tests)
