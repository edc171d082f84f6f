/*
 * Stamps, good and bad, and mail without: which binding gets it, which reply, which event (design section 6).
 */
#include "config.h"
#include "base/log.h"
#include "base/mem.h"
#include "t/lib/handoff_rig.h"
#include "t/lib/test.h"

#include <sys/stat.h>

#define HEAD                                                                                                 \
	"{\"hostname\": \"mta1.example.net\", \"handoff\": {\"unstamped\": \"%s\", \"bad_stamp\": \"%s\"}}"
#define BIND                                                                                                 \
	"\"bindings\": {\"default\": {\"bind_address\": \"192.0.2.1\"},"                                     \
	" \"acme\": {\"bind_address\": \"192.0.2.20\", \"match_domain\": [\"acme.example\"]},"               \
	" \"beta\": {\"bind_address\": \"192.0.2.30\"}},"                                                    \
	" \"binding_groups\": {\"shared\": {\"bindings\": {\"s1\": {\"bind_address\": \"192.0.2.31\"}}}}"
#define POLICY "{" BIND "}"

static void configure(struct rig *rig, const char *unstamped, const char *bad_stamp, const char *policy)
{
	char *json = mem_printf(HEAD, unstamped, bad_stamp);

	assert_true(rig_configure(rig, json, policy, NULL));
	mem_free(&json);
}

/* Sends one message from a new session and returns the replies after data. */
static char *send_message(
        struct rig *rig, const char *before, const char *sender, const char *rcpts, const char *message)
{
	struct rig_client client;
	struct str replies;
	char *commands =
	        mem_printf("LHLO mx.example\r\n%sMAIL FROM:<%s>\r\n%sDATA\r\n", before, sender, rcpts);

	fake_spool_forget(&rig->spool);
	str_clear(&rig->event_lines);
	rig_connect(rig, &client);
	rig_say(rig, &client, commands);
	if (!strstr(client.said.data, "\r\n354 "))
		fail_msg("no DATA: %s", client.said.data);
	str_clear(&client.said);
	rig_say(rig, &client, message);
	rig_say(rig, &client, ".\r\n");
	str_init(&replies);
	rig_replies(&client, &replies);
	rig_hang_up(rig, &client);
	mem_free(&commands);
	return str_steal(&replies);
}

static void expect(
        struct rig *rig, const char *sender, const char *message, const char *reply, const char *target)
{
	char *got = send_message(rig, "", sender, "RCPT TO:<r@d.example>\r\n", message);

	if (strcmp(got, reply) != 0)
		fail_msg("%s: %s, not %s", message, got, reply);
	if (target) {
		assert_int_equal(rig->spool.n_stored, 1);
		assert_string_equal(rig->spool.stored[0].message->deliveries[0].target, target);
		assert_null(strcasestr(rig->spool.stored[0].body, "x-binding"));
	} else {
		assert_int_equal(rig->spool.n_stored, 0);
	}
	mem_free(&got);
}

static const struct {
	const char *header, *reason; /* NULL = good */
	const char *target;
} stamps[] = {
        {"X-Binding: acme\r\n", NULL, "acme"},
        {"x-binding:acme\r\n", NULL, "acme"},
        {"X-BINDING \t: acme\r\n", NULL, "acme"},
        {"X-Binding: group:shared; b=match_domain\r\n", NULL, "group:shared"},
        {"X-Binding:\r\n\tacme;\r\n b=news\r\n", NULL, "acme"},
        {"X-Binding: s1\r\n", NULL, "s1"},
        {"X-Binding: default; b=default\r\n", NULL, "default"},
        {"A: b\r\nX-Binding: beta\r\nC: d\r\n", NULL, "beta"},
        {"X-Binding: acme; b=news; s=0123abcd; p=low\r\n", NULL, "acme"},
        {"X-Binding: acme; t=1; m=0; h=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n", NULL,
                "acme"}, /* no key here */
        {"X-Binding: acme\r\nX-Binding: acme\r\n", "two", NULL},
        {"X-Binding: acme\r\nA: b\r\nx-binding : beta\r\n", "two", NULL},
        {"X-Binding: acme\r\nX-Binding: \r\nX-Binding: y\r\n", "two", NULL},
        {"X-Binding:\r\n", "syntax", NULL},
        {"X-Binding: \r\n \t\r\n", "syntax", NULL},
        {"X-Binding: acme beta\r\n", "syntax", NULL},
        {"X-Binding: acme, beta\r\n", "syntax", NULL},
        {"X-Binding: acme;\r\n", "syntax", NULL},
        {"X-Binding: acme; x=1\r\n", "syntax", NULL},
        {"X-Binding: acme; b=a; b=a\r\n", "syntax", NULL},
        {"X-Binding: acme; p=urgent\r\n", "syntax", NULL},
        {"X-Binding: acme; s=123\r\n", "syntax", NULL},
        {"X-Binding: acme (comment)\r\n", "syntax", NULL},
        {"X-Binding: acme\x01\r\n", "syntax", NULL},
        {"X-Binding: acm\xe9\r\n", "syntax", NULL},
        {"X-Binding: \"acme\"\r\n", "syntax", NULL},
        {"X-Binding: group:\r\n", "syntax", NULL},
        {"X-Binding: nobody\r\n", "unknown_binding", NULL},
        {"X-Binding: ACME\r\n", "unknown_binding", NULL},
        {"X-Binding: group:acme\r\n", "unknown_binding", NULL},
        {"X-Binding: group:default\r\n", "unknown_binding", NULL},
};

static void test_stamps(void **state)
{
	static const struct {
		const char *bad_stamp, *reply, *target;
	} ways[] = {
	        {"tempfail", "451 4.7.1", NULL},
	        {"reject", "550 5.7.1", NULL},
	        {"default", "250 2.0.0", "default"},
	        {"policy", "250 2.0.0", "acme"},
	};
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	for (size_t w = 0; w < array_len(ways); w++) {
		configure(&rig, "reject", ways[w].bad_stamp, POLICY);
		for (size_t i = 0; i < array_len(stamps); i++) {
			char *message = mem_printf("%sSubject: x\r\n\r\nbody\r\n", stamps[i].header);
			char *reason =
			        mem_printf("\"reason\":\"%s\"", stamps[i].reason ? stamps[i].reason : "");

			if (!stamps[i].reason) {
				expect(&rig, "a@acme.example", message, "250 2.0.0", stamps[i].target);
				assert_string_equal(rig.event_lines.data, "");
			} else {
				expect(&rig, "a@acme.example", message, ways[w].reply, ways[w].target);
				if (!strstr(rig.event_lines.data, "\"event\":\"bad_stamp\"") ||
				        !strstr(rig.event_lines.data, reason))
					fail_msg("%s: %s", stamps[i].header, rig.event_lines.data);
			}
			mem_free(&reason);
			mem_free(&message);
		}
	}
	rig_free(&rig);
}

/* After the first empty line it is body, and stays there. */
static void test_stamp_in_the_body(void **state)
{
	struct rig rig;
	char *got;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "default", "reject", POLICY);
	got = send_message(
	        &rig, "", "a@acme.example", "RCPT TO:<r@d.example>\r\n", "A: b\r\n\r\nX-Binding: acme\r\n");
	assert_string_equal(got, "250 2.0.0");
	assert_string_equal(rig.spool.stored[0].message->deliveries[0].target, "default");
	assert_non_null(strstr(rig.spool.stored[0].body, "\r\n\r\nX-Binding: acme\r\n"));
	mem_free(&got);
	rig_free(&rig);
}

static void test_unstamped(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "policy", "tempfail", POLICY);
	expect(&rig, "a@acme.example", "A: b\r\n\r\n", "250 2.0.0", "acme");
	expect(&rig, "a@other.example", "A: b\r\n\r\n", "250 2.0.0", "default");
	configure(&rig, "default", "tempfail", POLICY);
	expect(&rig, "a@acme.example", "A: b\r\n\r\n", "250 2.0.0", "default");
	configure(&rig, "tempfail", "tempfail", POLICY);
	expect(&rig, "a@acme.example", "A: b\r\n\r\n", "451 4.7.1", NULL);
	configure(&rig, "reject", "tempfail", POLICY);
	expect(&rig, "a@acme.example", "A: b\r\n\r\n", "550 5.7.1", NULL);
	assert_string_equal(rig.event_lines.data, ""); /* no stamp is no bad stamp */
	rig_free(&rig);
}

/* The null reverse-path is never refused for its stamp, nor by default_binding none. */
static void test_null_sender(void **state)
{
	static const char none[] = "{\"global\": {\"default_binding\": \"none\"}, " BIND ","
	                           " \"rules\": [{\"when\": \"header:X-C == 'beta'\", \"bind\": \"beta\"}]}";
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		configure(&rig, "reject", "reject", none);
		expect(&rig, "", "A: b\r\n\r\n", "250 2.0.0", "default");
		expect(&rig, "", "X-C: beta\r\n\r\n", "250 2.0.0", "beta");
		expect(&rig, "", "X-Binding: nobody\r\nX-C: beta\r\n\r\n", "250 2.0.0", "beta");
		expect(&rig, "", "X-Binding: a\r\nX-Binding: b\r\n\r\n", "250 2.0.0", "default");
		expect(&rig, "", "X-Binding: acme\r\n\r\n", "250 2.0.0", "acme");
		expect(&rig, "a@x.example", "A: b\r\n\r\n", "550 5.7.1", NULL);
		expect(&rig, "a@x.example", "X-Binding: default; b=default\r\n\r\n", "451 4.7.1", NULL);
		expect(&rig, "a@x.example", "X-Binding: default; b=rule\r\n\r\n", "250 2.0.0", "default");
	}
	configure(&rig, "policy", "reject", none);
	expect(&rig, "a@x.example", "A: b\r\n\r\n", "451 4.7.1", NULL);
	expect(&rig, "a@acme.example", "A: b\r\n\r\n", "250 2.0.0", "acme");
	rig_free(&rig);
}

/* Rules that deliveryd evaluates: header, body, size, XFORWARD's facts; unknown facts make tests false. */
static void test_rules(void **state)
{
	static const char policy[] =
	        "{" BIND ", \"rules\": ["
	        "{\"name\": \"body\", \"when\": \"body =~ 'needle'\", \"bind\": \"beta\"},"
	        "{\"name\": \"head\", \"when\": \"header:X-Customer == 'ac me'\", \"bind\": \"acme\"},"
	        "{\"name\": \"size\", \"when\": \"size == '27'\", \"bind\": \"s1\"},"
	        "{\"name\": \"ip\", \"when\": \"sender_ip in '192.0.2.0/24'\", \"bind\": \"acme\"},"
	        "{\"name\": \"not-ip\", \"when\": \"sender_host != 'x.example'\", \"bind\": \"beta\"},"
	        "{\"name\": \"helo\", \"when\": \"helo == 'mx.example'\", \"bind\": \"beta\"}]}";
	static const char to[] = "RCPT TO:<r@d.example>\r\n";
	static const struct {
		const char *xforward, *message, *rule;
	} rows[] = {
	        {"", "A: b\r\n\r\nthe needle\r\n", "body"}, {"", "A: b\r\n\r\nneed\r\nle\r\n", "default"},
	        {"", "x-customer : ac me \r\n\r\n", "head"}, {"", "X-Customer:\r\n ac me\r\n\r\n", "head"},
	        {"", "X-Customer: x\r\nX-Customer: ac me\r\n\r\n", "head"},
	        {"", "X-Binding: bad bad\r\n\tbad\r\nSubject: 12345678901\r\n\r\n\r\n", "default"}, /* 26 */
	        {"", "X-Binding: bad bad\r\n\tbad\r\nSubject: 123456789012\r\n\r\n\r\n", "size"},
	        {"XFORWARD ADDR=192.0.2.3\r\n", "A: b\r\n\r\n", "ip"},
	        {"XFORWARD NAME=y.example ADDR=198.51.100.1\r\n", "A: b\r\n\r\n", "not-ip"},
	        {"XFORWARD NAME=x.example\r\n", "A: b\r\n\r\n", "default"},
	        {"XFORWARD HELO=mx.example\r\n", "A: b\r\n\r\n", "helo"},
	        {"XFORWARD NAME=y.example ADDR=[UNAVAILABLE]\r\n", "A: b\r\n\r\n",
	                "default"},              /* local submission */
	        {"", "A: b\r\n\r\n", "default"}, /* our own client's LHLO name is not the sender's */
	};
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "policy", "policy", policy);
	for (size_t i = 0; i < array_len(rows); i++) {
		char *got = send_message(&rig, rows[i].xforward, "a@b.example", to, rows[i].message);

		assert_string_equal(got, "250 2.0.0");
		if (strcmp(rig.spool.stored[0].message->deliveries[0].rule, rows[i].rule) != 0)
			fail_msg("row %zu: %s, not %s", i, rig.spool.stored[0].message->deliveries[0].rule,
			        rows[i].rule);
		mem_free(&got);
	}
	rig_free(&rig);
}

/* Fields that no rule looks at do not fill what is kept for rules, however many there are. */
static void test_rule_behind_many_fields(void **state)
{
	static const char policy[] =
	        "{" BIND ", \"rules\": [{\"when\": \"header:X-C == 'beta'\", \"bind\": \"beta\"}]}";
	struct rig rig;
	struct str message;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "policy", "tempfail", policy);
	str_init(&message);
	for (unsigned i = 0; i < 20000; i++)
		str_printf(&message,
		        "X-Other-%u: a value so that it is more than a megabyte in all: %080u\r\n", i, i);
	str_add(&message, "X-C: beta\r\n\r\nbody\r\n");
	expect(&rig, "a@b.example", message.data, "250 2.0.0", "beta");
	str_free(&message);
	rig_free(&rig);
}

static void test_body_limit(void **state)
{
	static const char policy[] =
	        "{" BIND ", \"rules\": [{\"when\": \"body =~ 'needle'\", \"bind\": \"beta\"}]}";
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	assert_true(rig_configure(&rig,
	        "{\"hostname\": \"mta1.example.net\", \"milter\": {\"body_limit\": 10}}", policy, NULL));
	expect(&rig, "a@b.example", "A: b\r\n\r\n1234needle\r\n", "250 2.0.0", "beta");
	expect(&rig, "a@b.example", "A: b\r\n\r\n12345needle\r\n", "250 2.0.0", "default");
	rig_free(&rig);
}

/* Recipient rules split a message; each recipient gets its own reply. */
static void test_recipient_rules(void **state)
{
	static const char policy[] = "{\"global\": {\"default_binding\": \"none\"}, " BIND ","
	                             " \"rules\": [{\"name\": \"gmail\", \"when\": \"rcptto_domain == "
	                             "'gmail.example'\", \"bind\": \"beta\","
	                             " \"priority\": \"high\"}]}";
	static const char to[] =
	        "RCPT TO:<a@gmail.example>\r\nRCPT TO:<b@other.example>\r\nRCPT TO:<c@GMAIL.example>\r\n";
	struct rig rig;
	const struct message *m;
	char *got;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "policy", "tempfail", policy);
	got = send_message(&rig, "", "a@b.example", to, "A: b\r\n\r\n");
	assert_string_equal(got, "250 2.0.0|451 4.7.1|250 2.0.0");
	m = rig.spool.stored[0].message;
	assert_int_equal(m->n_deliveries, 1);
	assert_int_equal(m->deliveries[0].n_recipients, 2);
	assert_string_equal(m->deliveries[0].rule, "gmail");
	assert_int_equal(m->deliveries[0].priority, PRIORITY_HIGH);
	assert_string_equal(m->deliveries[0].recipients[1].address, "c@GMAIL.example");
	mem_free(&got);
	got = send_message(&rig, "", "a@acme.example", to, "A: b\r\n\r\n");
	assert_string_equal(got, "250 2.0.0|250 2.0.0|250 2.0.0");
	m = rig.spool.stored[0].message;
	assert_int_equal(m->n_deliveries, 2);
	assert_string_equal(m->deliveries[0].target, "beta");
	assert_string_equal(m->deliveries[1].target, "acme");
	mem_free(&got);
	/* SMTP: one refused, nothing stored */
	got = send_message(&rig, "EHLO x\r\n", "a@b.example", to, "A: b\r\n\r\n");
	assert_string_equal(got, "451 4.7.1");
	assert_int_equal(rig.spool.n_stored, 0);
	mem_free(&got);
	rig_free(&rig);
}

/* An open rule of another configuration than ours: skipped, and said so. */
static void test_stale_rule(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "policy", "tempfail", POLICY);
	expect(&rig, "a@b.example", "X-Binding: acme; b=x; r=old/0123abcd/beta\r\n\r\n", "250 2.0.0", "acme");
	assert_non_null(strstr(rig.event_lines.data, "\"event\":\"stale_rule\""));
	rig_free(&rig);
}

/* --- with a key ---------------------------------------------------------------------------------------------- */

static char *signed_stamp(const struct stamp_keys *keys, uint64_t wall_us, const char *message_id)
{
	struct decision d = {.target = {.name = "acme"}, .rule = "match_domain", .claimed = true};
	struct str value, header;

	str_init(&value);
	str_init(&header);
	stamp_print(&d, keys, wall_us, message_id, &value);
	str_add(&header, "X-Binding: ");
	for (size_t i = 0; i < value.len; i++) {
		if (value.data[i] == '\n')
			str_add_char(&header, '\r');
		str_add_char(&header, value.data[i]);
	}
	str_add(&header, "\r\n");
	str_free(&value);
	return str_steal(&header);
}

static void check_signed(struct rig *rig, const char *stamp, const char *rest, const char *reason)
{
	char *message = mem_printf("%s%s\r\n", stamp, rest);

	expect(rig, "a@b.example", message, reason ? "451 4.7.1" : "250 2.0.0", reason ? NULL : "acme");
	if (reason) {
		char *key = mem_printf("\"reason\":\"%s\"", reason);

		if (!strstr(rig->event_lines.data, key))
			fail_msg("%s: %s", key, rig->event_lines.data);
		mem_free(&key);
	}
	mem_free(&message);
}

static void test_signed(void **state)
{
	char *folder = test_folder_new(), *path = mem_printf("%s/key", folder), *stamp;
	char line[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
	struct stamp_keys *keys;
	struct error error;
	struct rig rig;
	uint64_t now;

	(void)state;
	test_file_write(path, line, sizeof(line) - 1);
	chmod(path, 0600);
	keys = stamp_keys_load(path, &error);
	assert_non_null(keys);
	rig_init(&rig, NULL, NULL);
	now = rig.clock.wall;
	assert_true(rig_configure(&rig, NULL, POLICY, keys));

	stamp = signed_stamp(keys, now, "<1@x>");
	check_signed(&rig, stamp, "Message-ID: <1@x>\r\n", NULL);
	check_signed(&rig, stamp, "message-id : <1@x> \r\nMessage-ID: <2@x>\r\n", NULL);
	check_signed(&rig, stamp, "Message-ID:\r\n\t<1@x>\r\n", NULL);
	check_signed(&rig, stamp, "Message-ID: <2@x>\r\nMessage-ID: <1@x>\r\n", "bad_mac");
	check_signed(&rig, stamp, "A: b\r\n", "bad_mac");
	mem_free(&stamp);
	stamp = signed_stamp(keys, now, NULL); /* the MTA may add one later */
	check_signed(&rig, stamp, "A: b\r\n", NULL);
	check_signed(&rig, stamp, "Message-ID: <9@x>\r\n", NULL);
	*strstr(stamp, "acme") = 'b';
	check_signed(&rig, stamp, "A: b\r\n", "bad_mac");
	mem_free(&stamp);
	check_signed(&rig, "X-Binding: acme\r\n", "A: b\r\n", "no_mac");
	stamp = signed_stamp(keys, now - 31 * 86400 * SECOND_US, NULL);
	check_signed(&rig, stamp, "A: b\r\n", "expired");
	mem_free(&stamp);
	stamp = signed_stamp(keys, now + 2 * 86400 * SECOND_US, NULL);
	check_signed(&rig, stamp, "A: b\r\n", "future");
	mem_free(&stamp);
	rig_free(&rig);
	mem_free(&path);
	test_folder_remove(&folder);
}

/* --- between the steps of a reload ---------------------------------------------------------------------------- */

#define WITHOUT_ACME                                                                                         \
	"{\"bindings\": {\"default\": {\"bind_address\": \"192.0.2.1\"}, \"beta\": {\"bind_address\": "      \
	"\"192.0.2.30\"}, \"gamma\": {\"bind_address\": \"192.0.2.40\"}}}"

static struct stamp_keys *keys_of(const char *folder, char digit)
{
	char *path = mem_printf("%s/key", folder), line[66];
	struct stamp_keys *keys;
	struct error error;

	memset(line, digit, 64);
	line[64] = '\n';
	test_file_write(path, line, 65);
	chmod(path, 0600);
	keys = stamp_keys_load(path, &error);
	assert_non_null(keys);
	mem_free(&path);
	return keys;
}

/* The milter goes on stamping by what it has: an old key, or none, and a binding that is to go. */
static void test_previous_is_known_until_dropped(void **state)
{
	char *folder = test_folder_new(), *stamp;
	struct stamp_keys *signing = keys_of(folder, '1');
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	assert_true(rig_configure(&rig, NULL, POLICY, NULL));
	assert_true(rig_take(&rig, POLICY, keys_of(folder, '1')));
	check_signed(&rig, "X-Binding: acme\r\n", "A: b\r\n", NULL); /* as before there was a key */
	assert_true(rig_take(&rig, WITHOUT_ACME, keys_of(folder, '2')));
	stamp = signed_stamp(signing, rig.clock.wall, NULL);
	check_signed(&rig, stamp, "A: b\r\n", NULL);
	check_signed(&rig, "X-Binding: acme\r\n", "A: b\r\n", NULL);
	expect(&rig, "a@b.example", "X-Binding: gamma; b=x; t=1; m=0; h=\r\n\r\n", "451 4.7.1", NULL);
	policy_cell_drop(rig.shared.policy);
	check_signed(&rig, stamp, "A: b\r\n", "bad_mac");
	check_signed(&rig, "X-Binding: acme\r\n", "A: b\r\n", "no_mac");
	assert_true(rig_configure(&rig, NULL, WITHOUT_ACME, NULL));
	check_signed(&rig, "X-Binding: acme\r\n", "A: b\r\n", "unknown_binding");
	mem_free(&stamp);
	stamp_keys_free(&signing);
	rig_free(&rig);
	test_folder_remove(&folder);
}

/* More reloads than are kept, none of which came to its last step: the oldest stays, and the newest. */
static void test_previous_are_bounded(void **state)
{
	static const char only[] = "{\"bindings\": {\"default\": {\"bind_address\": \"192.0.2.1\"}, \"b%u\": "
	                           "{\"bind_address\": \"192.0.2.30\"}}}";
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	assert_true(rig_configure(&rig, NULL, POLICY, NULL));
	for (unsigned i = 0; i < 2 * POLICY_KEPT_MAX; i++) {
		char json[200];

		snprintf(json, sizeof(json), only, i);
		assert_true(rig_take(&rig, json, NULL));
	}
	expect(&rig, "a@b.example", "X-Binding: acme\r\n\r\n", "250 2.0.0", "acme");
	expect(&rig, "a@b.example", "X-Binding: b7\r\n\r\n", "250 2.0.0", "b7");
	expect(&rig, "a@b.example", "X-Binding: b6\r\n\r\n", "250 2.0.0", "b6");
	expect(&rig, "a@b.example", "X-Binding: b0\r\n\r\n", "451 4.7.1", NULL);
	rig_free(&rig);
}

/* An open rule that only the replaced policy has decides as it did there; one that both have, by the newer. */
static void test_previous_recipient_rules(void **state)
{
	static const char rule[] =
	        "\"rules\": [{\"name\": \"r\", \"when\": \"mailfrom_domain == 'b.example' AND "
	        "rcptto_domain == 'd.example'\", \"bind\": \"beta\"}]";
	char *with = mem_printf("{%s, %s}", BIND, rule), stamp[200];
	struct fake_rnd chance;
	struct facts facts = {.mailfrom = "a@b.example", .recv_port = -1, .size = -1};
	struct decision d;
	struct policy *policy;
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	assert_true(rig_configure(&rig, NULL, with, NULL));
	policy = policy_cell_get(rig.shared.policy);
	fake_rnd_init(&chance, 1);
	policy_eval(policy, &facts, &chance.rnd, &d, NULL);
	assert_int_equal(d.n_open, 1);
	snprintf(
	        stamp, sizeof(stamp), "X-Binding: default; b=default; r=r/%s/beta\r\n\r\n", d.open[0].digest);
	assert_true(rig_take(&rig, POLICY, NULL));
	expect(&rig, "a@b.example", stamp, "250 2.0.0", "beta");
	assert_null(strstr(rig.event_lines.data, "stale_rule"));
	policy_cell_drop(rig.shared.policy);
	expect(&rig, "a@b.example", stamp, "250 2.0.0", "default");
	assert_non_null(strstr(rig.event_lines.data, "stale_rule"));
	decision_free(&d);
	policy_unref(&policy);
	mem_free(&with);
	rig_free(&rig);
}

/* --- loops --------------------------------------------------------------------------------------------------- */

static void test_loops(void **state)
{
	static const char own[] =
	        "Received: from a\r\n\tby mta1.example.net (bindpost) with LMTP id 1;\r\n\tdate\r\n";
	static const char other[] = "Received: from a by b; date\r\n";
	static const struct {
		int own, other;
		const char *reply;
	} rows[] = {{10, 0, "250 2.0.0"}, {11, 0, "554 5.4.6"}, {0, 100, "250 2.0.0"}, {0, 101, "554 5.4.6"},
	        {10, 90, "250 2.0.0"}, {10, 91, "554 5.4.6"}};
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	for (size_t i = 0; i < array_len(rows); i++) {
		struct str message;

		str_init(&message);
		for (int n = 0; n < rows[i].own; n++)
			str_add(&message, own);
		for (int n = 0; n < rows[i].other; n++)
			str_add(&message, other);
		str_add(&message, "\r\nReceived: in the body does not count\r\n");
		expect(&rig, "a@b.example", message.data, rows[i].reply,
		        rows[i].reply[0] == '2' ? "default" : NULL);
		str_free(&message);
	}
	rig_free(&rig);
}

/* What we write is what we count: a message that comes back eleven times is stopped. */
static void test_real_loop(void **state)
{
	struct rig rig;
	char *message = mem_strdup("Subject: round and round\r\n\r\n"), *got;
	int rounds;

	(void)state;
	rig_init(&rig, NULL, NULL);
	for (rounds = 0; rounds < 20; rounds++) {
		got = send_message(&rig,
		        "XFORWARD HELO=a.very.long.name.that.makes.the.field.fold.somewhere.else.example\r\n",
		        "a@b.example", "RCPT TO:<r@d.example>\r\n", message);
		if (strcmp(got, "250 2.0.0") != 0)
			break;
		mem_free(&got);
		mem_free(&message);
		message = mem_strdup(rig.spool.stored[0].body);
	}
	assert_int_equal(rounds, 11);
	assert_string_equal(got, "554 5.4.6");
	mem_free(&got);
	mem_free(&message);
	rig_free(&rig);
}

/* The policy of MAIL holds to the end of the transaction, whatever a reload does meanwhile. */
static void test_reload_within_a_transaction(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "policy", "tempfail", POLICY);
	rig_connect(&rig, &client);
	rig_say(&rig, &client,
	        "LHLO a\r\nMAIL FROM:<a@acme.example>\r\nRCPT TO:<r@d.example>\r\nDATA\r\nA: b\r\n");
	configure(&rig, "reject", "reject", POLICY);
	rig_say(&rig, &client, "\r\n.\r\n");
	assert_int_equal(rig.spool.n_stored, 1);
	rig_say(&rig, &client,
	        "MAIL FROM:<a@acme.example>\r\nRCPT TO:<r@d.example>\r\nDATA\r\nA: b\r\n\r\n.\r\n");
	assert_int_equal(rig.spool.n_stored, 1);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

struct journal {
	unsigned n;
	char last[500];
};

static void keep_line(void *ctx, enum log_level level, const char *line)
{
	struct journal *j = ctx;

	assert_int_equal(level, LOG_LEVEL_WARNING);
	j->n++;
	snprintf(j->last, sizeof(j->last), "%s", line);
}

/* The journal says why mail waits and what to do, once a minute for each reason. */
static void test_told_in_the_journal(void **state)
{
	struct journal journal = {0};
	struct rig rig;

	(void)state;
	rig_init(&rig, NULL, NULL);
	configure(&rig, "tempfail", "tempfail", POLICY);
	log_capture(keep_line, &journal);
	expect(&rig, "a@acme.example", "X-Binding: acme\r\n\r\nx\r\n", "250 2.0.0", "acme");
	assert_int_equal(journal.n, 0);
	for (int i = 0; i < 3; i++)
		expect(&rig, "a@acme.example", "X-Binding: nobody\r\n\r\nx\r\n", "451 4.7.1", NULL);
	assert_int_equal(journal.n, 1);
	assert_non_null(strstr(journal.last, "has a stamp that names a binding or group there is not: "));
	expect(&rig, "a@acme.example", "Subject: x\r\n\r\nx\r\n", "451 4.7.1", NULL);
	assert_int_equal(journal.n, 2);
	assert_non_null(strstr(journal.last, "has no stamp: does the MTA ask bindpost-milter"));
	rig_advance(&rig, 61);
	expect(&rig, "a@acme.example", "X-Binding: nobody\r\n\r\nx\r\n", "451 4.7.1", NULL);
	assert_int_equal(journal.n, 3);
	assert_non_null(strstr(journal.last, "(and 2 more since this was last said)"));
	log_capture(NULL, NULL);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stamps),
        cmocka_unit_test(test_told_in_the_journal),
        cmocka_unit_test(test_stamp_in_the_body),
        cmocka_unit_test(test_unstamped),
        cmocka_unit_test(test_null_sender),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_rule_behind_many_fields),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_recipient_rules),
        cmocka_unit_test(test_stale_rule),
        cmocka_unit_test(test_signed),
        cmocka_unit_test(test_previous_is_known_until_dropped),
        cmocka_unit_test(test_previous_are_bounded),
        cmocka_unit_test(test_previous_recipient_rules),
        cmocka_unit_test(test_loops),
        cmocka_unit_test(test_real_loop),
        cmocka_unit_test(test_reload_within_a_transaction),
};

TEST_MAIN("handoff_stamp", tests)
