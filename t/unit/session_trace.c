/*
 * What is told to those who look at a session: the whole dialogue, the message as its size, no secret.
 */
#include "t/lib/session_rig.h"
#include "t/lib/test.h"

#include <jansson.h>

#include "report/trace.h"

#define BODY "From: a@acme.test\r\nSubject: secretsubject\r\n\r\nHello\r\n"

struct fixture {
	struct rig rig;
	struct trace *trace;
	struct trace_reader *reader;
	struct str raw, said; /* as it came; "direction text" joined by '|' */
};

static void nothing(void *ctx)
{
	(void)ctx;
}

static void setup(struct fixture *f, bool look)
{
	rig_init(&f->rig);
	f->trace = trace_new(&f->rig.clock.clock);
	session_net_set_trace(f->rig.net, f->trace);
	f->reader = look ? trace_read(f->trace, NULL, NULL, f->rig.loop, nothing, NULL) : NULL;
	str_init(&f->raw);
	str_init(&f->said);
}

static void teardown(struct fixture *f)
{
	trace_end(&f->reader);
	rig_run(&f->rig);
	str_free(&f->raw);
	str_free(&f->said);
	rig_end(&f->rig);
	trace_free(&f->trace);
}

static void look(struct fixture *f)
{
	char *line, *rest;

	str_clear(&f->raw);
	trace_take(f->reader, &f->raw);
	rest = f->raw.data;
	while ((line = strsep(&rest, "\n")) && *line) {
		json_t *row = json_loads(line, 0, NULL);

		assert_non_null(row);
		str_printf(&f->said, "%s%s %s", f->said.len ? "|" : "",
		        json_string_value(json_object_get(row, "direction")),
		        json_string_value(json_object_get(row, "text")));
		json_decref(row);
	}
}

static void has(const struct fixture *f, const char *part)
{
	if (!strstr(f->said.data, part))
		fail_msg("no \"%s\" in %s", part, f->said.data);
}

static void has_not(const struct fixture *f, const char *part)
{
	if (strstr(f->said.data, part))
		fail_msg("\"%s\" in %s", part, f->said.data);
}

static void test_dialogue(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f, true);
	scripted_mx_line(f.rig.mx, "EHLO: 250-mx.test\\n250-PIPELINING\\n250 SIZE 1000000");
	scripted_mx_line(f.rig.mx, "RCPT bad@: 550-5.1.1 none\\n550 5.1.1 such");
	rig_open(&f.rig, rig_job("a@acme.test", "x@example.test bad@example.test", BODY));
	rig_run(&f.rig);
	rig_advance(&f.rig, 8);
	look(&f);
	has(&f, "* connecting to ");
	has(&f, "|* connected|< 220 ");
	has(&f, "|> EHLO client.test|< 250-mx.test|< 250-PIPELINING|< 250 SIZE 1000000|> MAIL "
	        "FROM:<a@acme.test> SIZE=");
	has(&f, "|> RCPT TO:<x@example.test>|> RCPT TO:<bad@example.test>|> DATA|< 250");
	has(&f, "|< 550-5.1.1 none|< 550 5.1.1 such|< 354");
	has(&f, "|> (message of 52 bytes)|< 250 2.0.0 taken|> QUIT|< 221");
	has(&f, "|* closed");
	has_not(&f, "secretsubject");
	teardown(&f);
}

static void test_nobody_looks(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f, false);
	rig_open(&f.rig, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&f.rig);
	f.reader = trace_read(f.trace, NULL, NULL, f.rig.loop, nothing, NULL);
	rig_advance(&f.rig, 8); /* looked at from here on */
	look(&f);
	has(&f, "> QUIT|< 221");
	has_not(&f, "EHLO");
	teardown(&f);
}

/* The password, plain or encoded, in no line of either side. */
static void no_secret(struct fixture *f)
{
	look(f);
	has_not(f, "hunter2");
	has_not(f, "aHVudGVyMg==");              /* hunter2 */
	has_not(f, "AHVzZXIAaHVudGVyMg==");      /* PLAIN */
	has_not(f, "dXNlcj11c2VyAWF1dGg9QmVhc"); /* XOAUTH2's beginning */
}

static void use_auth(struct fixture *f, enum auth_type type)
{
	struct conn_options *o = &f->rig.profile.o;

	o->outbound_smtp_auth_type = type;
	o->outbound_smtp_auth_user = "user";
	o->outbound_smtp_auth_pass = "hunter2";
	o->outbound_smtp_auth_clear = true;
	scripted_mx_line(f->rig.mx, "EHLO: 250-mx.test\\n250 AUTH PLAIN LOGIN XOAUTH2");
}

static void test_auth(void **state)
{
	static const struct {
		enum auth_type type;
		const char *script, *expected;
	} cases[] = {
	        {AUTH_PLAIN, "AUTH: 235 2.7.0 welcome", "|> AUTH PLAIN (hidden)|< 235 2.7.0 welcome|"},
	        {AUTH_PLAIN, "AUTH: 535 5.7.8 not AHVzZXIAaHVudGVyMg==",
	                "|> AUTH PLAIN (hidden)|< (hidden: it repeats the password)|"},
	        {AUTH_PLAIN, "AUTH: 535-5.7.8 not\\n535 5.7.8 hunter2 again",
	                "|< 535-5.7.8 not|< (hidden: it repeats the password)|"},
	        {AUTH_LOGIN, "AUTH: 334 VXNlcm5hbWU6", "|> AUTH LOGIN|< 334 VXNlcm5hbWU6|> (hidden)|"},
	        {AUTH_XOAUTH2, "AUTH: 235 2.7.0 welcome", "|> AUTH XOAUTH2 (hidden)|< 235"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;

		setup(&f, true);
		use_auth(&f, cases[i].type);
		scripted_mx_line(f.rig.mx, cases[i].script);
		scripted_mx_line(f.rig.mx, "SASL/1: 334 UGFzc3dvcmQ6");
		scripted_mx_line(f.rig.mx, "SASL/2: 235 2.7.0 welcome");
		scripted_mx_line(f.rig.mx, "MAIL: 450 4.0.0 hunter2 is your password"); /* later, too */
		rig_open(&f.rig, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&f.rig);
		rig_advance(&f.rig, 8);
		no_secret(&f);
		has(&f, cases[i].expected);
		teardown(&f);
	}
}

/* A reply without end costs no memory, and one without sense is shown for what it is. */
static void test_hostile(void **state)
{
	static const struct {
		const char *script, *expected;
	} cases[] = {
	        {"EHLO: endless 250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
	                "* closed: 451 4.5.0 protocol error"},
	        {"EHLO: send \\x1b[2J\\xff\\0secret\\r\\n", "* closed: 451 4.5.0 protocol error"},
	        {"EHLO: reset", "* closed: 451 4.4.2 lost connection"},
	        {"CONNECT: close", "* closed: 451 4.4.2 lost connection"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;

		setup(&f, true);
		assert_true(scripted_mx_line(f.rig.mx, cases[i].script));
		rig_open(&f.rig, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&f.rig);
		rig_advance(&f.rig, 8);
		look(&f);
		has(&f, cases[i].expected);
		assert_true(f.raw.len < 100000);
		teardown(&f);
	}
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialogue),
        cmocka_unit_test(test_nobody_looks),
        cmocka_unit_test(test_auth),
        cmocka_unit_test(test_hostile),
};
TEST_MAIN("session_trace", tests)
