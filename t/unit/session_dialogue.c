/*
 * The dialogue when the peer behaves, and its ordinary refusals: what is sent, what each recipient gets.
 */
#include "t/lib/session_rig.h"
#include "t/lib/test.h"

#define BODY "From: a@acme.test\r\nSubject: x\r\n\r\nHello\r\n"
#define EHLO_PLAIN "EHLO: 250 mx.test"

static void check_log(struct rig *r, const char *expected)
{
	assert_string_equal(scripted_mx_log(r->mx), expected);
}

static void check_story(struct rig *r, const char *expected)
{
	assert_string_equal(r->story.data, expected);
}

static void check_outcome(const struct outcome *o, enum outcome_class class, enum outcome_state state,
        unsigned code, const char *enhanced, const char *reply)
{
	assert_int_equal(o->class, class);
	assert_int_equal(o->state, state);
	assert_int_equal(o->code, code);
	assert_string_equal(o->enhanced, enhanced);
	assert_string_equal(o->reply, reply);
}

static void test_one_message(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	check_log(&r, "+|EHLO client.test|MAIL FROM:<a@acme.test> SIZE=40|RCPT TO:<x@example.test>|DATA|(40 "
	              "bytes)");
	check_story(&r, "ready want done:ok");
	check_outcome(&r.jobs[0]->outcomes[0], OUTCOME_OK, STATE_DOT, 250, "2.0.0", "2.0.0 taken");
	assert_false(r.jobs[0]->outcomes[0].ours);
	assert_int_equal(scripted_mx_n_mails(r.mx), 1);
	assert_string_equal(scripted_mx_mail(r.mx, 0)->source, RIG_SOURCE);
	assert_string_equal(scripted_mx_mail(r.mx, 0)->hello, "client.test");
	assert_string_equal(scripted_mx_mail(r.mx, 0)->body, BODY);
	rig_advance(&r, 8); /* idle_timeout 7 */
	check_log(&r, "+|EHLO client.test|MAIL FROM:<a@acme.test> SIZE=40|RCPT TO:<x@example.test>|DATA|(40 "
	              "bytes)|QUIT");
	check_story(&r, "ready want done:ok closed");
	assert_int_equal(r.completed, 1);
	assert_string_equal(r.ehlo, "client.test");
	assert_int_equal(r.source.family, AF_INET);
	rig_end(&r);
}

static void test_without_pipelining(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	scripted_mx_line(r.mx, EHLO_PLAIN);
	rig_open(&r, rig_job("", "x@example.test y@example.test", BODY));
	rig_run(&r);
	check_log(&r, "+|EHLO client.test|MAIL FROM:<>|RCPT TO:<x@example.test>|RCPT "
	              "TO:<y@example.test>|DATA|(40 bytes)");
	check_story(&r, "ready want done:ok,ok");
	rig_end(&r);
}

static void test_smtp_says_helo(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.delivery_method = DELIVERY_SMTP;
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	check_log(&r, "+|HELO client.test|MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|(40 bytes)");
	rig_end(&r);
}

static void test_helo_when_ehlo_is_refused(void **state)
{
	static const char *const refusals[] = {
	        "EHLO: 500 what?", "EHLO: 502 5.5.1 not here", "EHLO: 550-no\\n550-PIPELINING\\n550 SIZE 10"};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < 3; i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, refusals[i]);
		rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&r);
		check_log(&r, "+|EHLO client.test|HELO client.test|MAIL FROM:<a@acme.test>|RCPT "
		              "TO:<x@example.test>|DATA|(40 bytes)");
		check_story(&r, "ready want done:ok");
		rig_end(&r);
	}
}

static void test_helo_refused_too(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	scripted_mx_line(r.mx, "EHLO: 502 no");
	scripted_mx_line(r.mx, "HELO: 504 5.5.2 nor this");
	rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&r);
	check_log(&r, "+|EHLO client.test|HELO client.test|QUIT");
	check_story(&r, "back/lost failed");
	check_outcome(&r.why, OUTCOME_TRANSIENT, STATE_EHLO, 504, "5.5.2", "5.5.2 nor this");
	check_outcome(&r.jobs[0]->outcomes[0], OUTCOME_TRANSIENT, STATE_EHLO, 504, "5.5.2", "5.5.2 nor this");
	rig_end(&r);
}

static void test_banner_refused(void **state)
{
	static const char *const banners[] = {"CONNECT: 554 5.7.1 go away", "CONNECT: 450 4.7.1 later"};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < 2; i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, banners[i]);
		rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&r);
		check_log(&r, "+|QUIT");
		check_story(&r, "back/lost failed");
		assert_int_equal(r.why.class, OUTCOME_TRANSIENT);
		assert_int_equal(r.why.state, STATE_BANNER);
		assert_int_equal(r.completed, 0);
		rig_end(&r);
	}
}

/* LMTP: LHLO, no fallback, a reply for each accepted recipient. */
static void test_lmtp(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.delivery_method = DELIVERY_LMTP;
	scripted_mx_line(r.mx, "RCPT b@: 550 5.1.1 nobody");
	scripted_mx_line(r.mx, "DOT c@: 452 4.2.2 full");
	rig_open(&r, rig_job("s@acme.test", "a@x.test b@x.test c@x.test d@x.test", BODY));
	rig_run(&r);
	check_log(&r, "+|LHLO client.test|MAIL FROM:<s@acme.test>|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|"
	              "RCPT TO:<c@x.test>|RCPT TO:<d@x.test>|DATA|(40 bytes)");
	check_story(&r, "ready want done:ok,permanent,transient,ok");
	check_outcome(&r.jobs[0]->outcomes[1], OUTCOME_PERMANENT, STATE_RCPT, 550, "5.1.1", "5.1.1 nobody");
	check_outcome(&r.jobs[0]->outcomes[2], OUTCOME_TRANSIENT, STATE_DOT, 452, "4.2.2", "4.2.2 full");
	assert_false(r.jobs[0]->connection_lost);
	rig_end(&r);
}

static void test_lhlo_refused(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.delivery_method = DELIVERY_LMTP;
	scripted_mx_line(r.mx, "LHLO: 500 5.5.1 this is not LMTP");
	rig_open(&r, rig_job("s@acme.test", "a@x.test", BODY));
	rig_run(&r);
	check_log(&r, "+|LHLO client.test|QUIT");
	check_story(&r, "back/lost failed");
	rig_end(&r);
}

/* LMTP: 421 for one recipient is this recipient's; the others have theirs. */
static void test_lmtp_421_in_the_middle(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.delivery_method = DELIVERY_LMTP;
	scripted_mx_line(r.mx, "DOT b@: 421 4.3.2 closing");
	scripted_mx_line(r.mx, "DOT c@: 421 4.3.2 closing; close");
	rig_open(&r, rig_job("s@acme.test", "a@x.test b@x.test c@x.test", BODY));
	rig_run(&r);
	check_story(&r, "ready want done:ok,transient,transient failed");
	rig_end(&r);
	rig_init(&r);
	r.profile.o.delivery_method = DELIVERY_LMTP;
	scripted_mx_line(r.mx, "DOT b@: 421 4.3.2 closing; close");
	rig_open(&r, rig_job("s@acme.test", "a@x.test b@x.test c@x.test", BODY));
	rig_run(&r);
	check_story(&r, "ready want done:ok,transient,uncertain failed");
	rig_end(&r);
}

static const struct {
	const char *line, *story;
	enum outcome_class class;
	enum outcome_state state;
	unsigned code;
	const char *enhanced, *reply;
	const char *log_after_ehlo; /* with PIPELINING */
} refusals[] = {
        {"MAIL: 450 4.7.1 greylisted", "ready done:transient", OUTCOME_TRANSIENT, STATE_MAIL, 450, "4.7.1",
                "4.7.1 greylisted", "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA"},
        {"MAIL: 553 5.1.8 bad sender", "ready done:permanent", OUTCOME_PERMANENT, STATE_MAIL, 553, "5.1.8",
                "5.1.8 bad sender", "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA"},
        {"RCPT: 451 4.7.1 later", "ready done:transient", OUTCOME_TRANSIENT, STATE_RCPT, 451, "4.7.1",
                "4.7.1 later", "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|RSET"},
        {"RCPT: 550-5.1.1 no\\n550 5.1.1 such user", "ready done:permanent", OUTCOME_PERMANENT, STATE_RCPT,
                550, "5.1.1", "5.1.1 no 5.1.1 such user",
                "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|RSET"},
        {"DATA: 452 4.3.1 full", "ready done:transient", OUTCOME_TRANSIENT, STATE_DATA, 452, "4.3.1",
                "4.3.1 full", "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|RSET"},
        {"DATA: 554 no", "ready done:permanent", OUTCOME_PERMANENT, STATE_DATA, 554, "", "no",
                "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|RSET"},
        {"DOT: 451 4.3.0 disk", "ready want done:transient", OUTCOME_TRANSIENT, STATE_DOT, 451, "4.3.0",
                "4.3.0 disk", "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|(40 bytes)"},
        {"DOT: 550 5.7.1 spam", "ready want done:permanent", OUTCOME_PERMANENT, STATE_DOT, 550, "5.7.1",
                "5.7.1 spam", "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|(40 bytes)"},
        /* the last line decides, and the digits over the enhanced code */
        {"DOT: 250-2.0.0 fine\\n450 4.2.0 but no", "ready want done:transient", OUTCOME_TRANSIENT, STATE_DOT,
                450, "4.2.0", "2.0.0 fine 4.2.0 but no",
                "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|(40 bytes)"},
        {"DOT: 450 5.7.1 which?", "ready want done:transient", OUTCOME_TRANSIENT, STATE_DOT, 450, "",
                "5.7.1 which?", "MAIL FROM:<a@acme.test>|RCPT TO:<x@example.test>|DATA|(40 bytes)"},
};

/* A refused message costs the next nothing: the connection is used again. */
static void test_refusals(void **state)
{
	char log[512];
	struct rig r;
	unsigned i, piped;

	(void)state;
	for (i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		for (piped = 0; piped < 2; piped++) {
			rig_init(&r);
			if (!piped)
				scripted_mx_line(r.mx, EHLO_PLAIN);
			else
				scripted_mx_line(r.mx, "EHLO: 250-mx.test\\n250 PIPELINING");
			scripted_mx_line(r.mx, refusals[i].line);
			rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
			rig_run(&r);
			check_story(&r, refusals[i].story);
			check_outcome(&r.jobs[0]->outcomes[0], refusals[i].class, refusals[i].state,
			        refusals[i].code, refusals[i].enhanced, refusals[i].reply);
			assert_false(r.jobs[0]->connection_lost);
			if (piped) {
				snprintf(log, sizeof(log), "+|EHLO client.test|%s",
				        refusals[i].log_after_ehlo);
				check_log(&r, log);
			}
			rig_forget(&r);
			scripted_mx_forget(r.mx);
			session_job(r.session, rig_job("a@acme.test", "z@example.test", BODY));
			rig_run(&r);
			check_story(&r, "want done:ok");
			assert_int_equal(scripted_mx_connections(r.mx), 1);
			rig_end(&r);
		}
	}
}

static void test_some_recipients_refused(void **state)
{
	struct rig r;
	unsigned piped;

	(void)state;
	for (piped = 0; piped < 2; piped++) {
		rig_init(&r);
		if (!piped)
			scripted_mx_line(r.mx, EHLO_PLAIN);
		scripted_mx_line(r.mx, "RCPT b@: 550 5.1.1 nobody");
		scripted_mx_line(r.mx, "RCPT c@: 452 4.5.3 too many");
		rig_open(&r, rig_job("s@acme.test", "a@x.test b@x.test c@x.test d@x.test", BODY));
		rig_run(&r);
		check_story(&r, "ready want done:ok,permanent,transient,ok");
		assert_string_equal(scripted_mx_mail(r.mx, 0)->recipients, "a@x.test d@x.test");
		check_outcome(&r.jobs[0]->outcomes[2], OUTCOME_TRANSIENT, STATE_RCPT, 452, "4.5.3",
		        "4.5.3 too many");
		rig_end(&r);
	}
}

/* DATA is accepted although no recipient was: a lone dot, whose reply means nothing. */
static void test_data_accepted_for_nobody(void **state)
{
	static const char *const dots[] = {"DOT: 554 5.5.1 no recipients", "DOT: 250 ok, nobody got it"};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < 2; i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, "RCPT: 550 5.1.1 nobody");
		scripted_mx_line(r.mx, "DATA: 354 all the same");
		scripted_mx_line(r.mx, dots[i]);
		rig_open(&r, rig_job("s@acme.test", "a@x.test b@x.test", BODY));
		rig_run(&r);
		check_log(&r, "+|EHLO client.test|MAIL FROM:<s@acme.test> SIZE=40|RCPT TO:<a@x.test>|RCPT "
		              "TO:<b@x.test>|"
		              "DATA|(0 bytes)");
		check_story(&r, "ready done:permanent,permanent");
		rig_forget(&r);
		scripted_mx_forget(r.mx);
		session_job(r.session, rig_job("s@acme.test", "z@x.test", BODY));
		rig_run(&r);
		check_story(&r, "want done:ok");
		rig_end(&r);
	}
}

static void test_parameters(void **state)
{
	static const struct {
		const char *ehlo, *sender, *params;
		uint32_t flags;
	} cases[] = {
	        {"EHLO: 250-x\\n250-SIZE\\n250 8BITMIME", "a@b.test", "SIZE=40", 0},
	        {"EHLO: 250-x\\n250-SIZE 0\\n250 8BITMIME", "a@b.test", "SIZE=40 BODY=8BITMIME",
	                MESSAGE_8BIT},
	        {"EHLO: 250-x\\n250 8bitmime", "a@b.test", "BODY=8BITMIME", MESSAGE_BODY_8BITMIME},
	        {"EHLO: 250-x\\n250 SIZE 40", "a@b.test", "SIZE=40", MESSAGE_8BIT},
	        {"EHLO: 250 x", "a@b.test", "", MESSAGE_8BIT},
	        {"EHLO: 250 8BITMIME", "a@b.test", "", MESSAGE_8BIT}, /* the first line is a name */
	        {"EHLO: 250-x\\n250-8BITMIME\\n250 SMTPUTF8", "\xc3\xa4@b.test", "BODY=8BITMIME SMTPUTF8",
	                MESSAGE_8BIT | MESSAGE_SMTPUTF8},
	        {"EHLO: 250-x\\n250-8BITMIME\\n250 SMTPUTF8", "a@b.test", "", MESSAGE_SMTPUTF8},
	};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, cases[i].ehlo);
		rig_open(&r, rig_job_body(cases[i].sender, "x@y.test", fake_body_new(BODY, strlen(BODY)),
		                     cases[i].flags));
		rig_run(&r);
		check_story(&r, "ready want done:ok");
		assert_string_equal(scripted_mx_mail(r.mx, 0)->params, cases[i].params);
		rig_end(&r);
	}
}

/* Our own word before anything is sent. */
static void test_own_refusals(void **state)
{
	static const struct {
		const char *ehlo, *sender, *recipients;
		uint32_t flags;
		const char *story, *enhanced; /* of the first recipient */
	} cases[] = {
	        {"EHLO: 250-x\\n250 SIZE 39", "a@b.test", "x@y.test", 0, "ready done:permanent", "5.3.4"},
	        {"EHLO: 250 x", "\xc3\xa4@b.test", "x@y.test", MESSAGE_SMTPUTF8, "ready done:permanent",
	                "5.6.7"},
	        {"EHLO: 250 x", "a@b.test", "x@y.test", MESSAGE_SMTPUTF8 | MESSAGE_8BIT | MESSAGE_UTF8_HEADER,
	                "ready done:permanent", "5.6.7"},
	        {"EHLO: 250 x", "a@b.test", "\xc3\xa4@y.test x@y.test", MESSAGE_SMTPUTF8,
	                "ready want done:permanent,ok", "5.6.7"},
	        {"EHLO: 250-x\\n250 SMTPUTF8", "\xc3\xa4@b.test", "x@y.test", 0, "ready done:permanent",
	                "5.1.7"},
	        {"EHLO: 250 x", "a@b.test> SIZE=1\r\nRSET", "x@y.test", 0, "ready done:permanent", "5.1.7"},
	        {"EHLO: 250 x", "a@b.test", "x>y@y.test x@y.test", 0, "ready want done:permanent,ok",
	                "5.1.3"},
	};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, cases[i].ehlo);
		rig_open(&r, rig_job_body(cases[i].sender, cases[i].recipients,
		                     fake_body_new(BODY, strlen(BODY)), cases[i].flags));
		rig_run(&r);
		check_story(&r, cases[i].story);
		assert_string_equal(r.jobs[0]->outcomes[0].enhanced, cases[i].enhanced);
		assert_true(r.jobs[0]->outcomes[0].ours);
		assert_int_equal(r.jobs[0]->outcomes[0].class, OUTCOME_PERMANENT);
		assert_non_null(r.session); /* it may be used for the next */
		rig_end(&r);
	}
}

static void test_ehlo_names(void **state)
{
	static const struct {
		const char *option, *of_message, *said;
	} cases[] = {
	        {"__hostname__", NULL, "host.test"},
	        {"__message__", "acme.test", "acme.test"},
	        {"__message__", NULL, "host.test"},
	        {"mta.acme.test", NULL, "mta.acme.test"},
	};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < 4; i++) {
		rig_init(&r);
		r.profile.o.ehlo_hostname = cases[i].option;
		r.open.ehlo = cases[i].of_message;
		rig_open(&r, rig_job("a@b.test", "x@y.test", BODY));
		rig_run(&r);
		assert_string_equal(scripted_mx_mail(r.mx, 0)->hello, cases[i].said);
		session_quit(r.session);
		rig_run(&r);
		assert_string_equal(r.ehlo, cases[i].said);
		rig_end(&r);
	}
}

/* Whatever the pieces it comes in, the body arrives as it is. */
static void test_bodies(void **state)
{
	static const char *const bodies[] = {"", "\r\n", ".\r\n", "..\r\n", "a\r\n.\r\nb\r\n",
	        ".a\r\n..b\r\n.\r\n.\r\n", "no line end", ".no line end", "a\r\n.", "a.b\r\n.c.d\r\n",
	        "\r\n\r\n..\r\n\r\n"};
	struct rig r;
	unsigned i, piece;

	(void)state;
	for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		for (piece = 0; piece < 4; piece++) {
			struct body *body = fake_body_new(bodies[i], strlen(bodies[i]));
			struct str expected;

			str_init(&expected);
			str_add(&expected, bodies[i]);
			if (expected.len > 0 && expected.data[expected.len - 1] != '\n')
				str_add(&expected, "\r\n");
			fake_body_pieces(body, piece);
			rig_init(&r);
			rig_open(&r, rig_job_body("a@b.test", "x@y.test", body, MESSAGE_DOT_LINES));
			rig_run(&r);
			check_story(&r, "ready want done:ok");
			assert_int_equal(scripted_mx_mail(r.mx, 0)->body_len, expected.len);
			assert_memory_equal(scripted_mx_mail(r.mx, 0)->body, expected.data, expected.len);
			str_free(&expected);
			rig_end(&r);
		}
	}
}

/* More than the sockets hold: the session waits for room, and the peer gets every byte. */
static void test_large_body(void **state)
{
	struct str text;
	struct rig r;
	unsigned i;

	(void)state;
	str_init(&text);
	for (i = 0; text.len < 12 * 1024 * 1024; i++)
		str_printf(&text, "%s%u line of a long message, so that the sockets fill up\r\n",
		        i % 7 ? "" : ".", i);
	rig_init(&r);
	rig_open(&r,
	        rig_job_body("a@b.test", "x@y.test", fake_body_new(text.data, text.len), MESSAGE_DOT_LINES));
	rig_run(&r);
	check_story(&r, "ready want done:ok");
	assert_int_equal(scripted_mx_mail(r.mx, 0)->body_len, text.len);
	assert_memory_equal(scripted_mx_mail(r.mx, 0)->body, text.data, text.len);
	str_free(&text);
	rig_end(&r);
}

/* Read back from the spool: late, then there. */
static void test_body_from_spool(void **state)
{
	struct body *body = fake_body_new(BODY, strlen(BODY));
	struct session_job *job;
	struct rig r;

	(void)state;
	rig_init(&r);
	fake_body_in_spool(body);
	fake_body_wait_at(body, 10);
	job = rig_job_body("a@b.test", "x@y.test", NULL, 0);
	job->body_size = strlen(BODY);
	rig_open(&r, job);
	rig_run(&r);
	check_story(&r, "ready");
	fake_body_go(body);
	rig_run(&r);
	check_story(&r, "ready want done:ok");
	assert_string_equal(scripted_mx_mail(r.mx, 0)->body, BODY);
	rig_end(&r);
	fake_body_in_spool(NULL);
	body_unref(&body);
}

static void test_next_messages(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	rig_give(&r, rig_job("b@acme.test", "y@example.test", "two\r\n"));
	rig_give(&r, rig_job("c@acme.test", "z@example.test", "three\r\n"));
	rig_open(&r, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	rig_run(&r);
	check_log(&r,
	        "+|EHLO client.test|MAIL FROM:<a@acme.test> SIZE=5|RCPT TO:<x@example.test>|DATA|(5 bytes)|"
	        "MAIL FROM:<b@acme.test> SIZE=5|RCPT TO:<y@example.test>|DATA|(5 bytes)|"
	        "MAIL FROM:<c@acme.test> SIZE=7|RCPT TO:<z@example.test>|DATA|(7 bytes)");
	check_story(&r, "ready want done:ok want done:ok want done:ok");
	rig_end(&r);
}

static void test_max_deliveries(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.max_deliveries_per_connection = 2;
	rig_give(&r, rig_job("b@acme.test", "y@example.test", "two\r\n"));
	rig_give(&r, rig_job("c@acme.test", "z@example.test", "three\r\n"));
	rig_open(&r, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	rig_run(&r);
	check_story(&r, "ready want done:ok done:ok closed");
	assert_int_equal(scripted_mx_n_mails(r.mx), 2);
	assert_int_equal(r.completed, 2);
	rig_end(&r);
}

/* What is given beyond the limit comes back untouched. */
static void test_max_deliveries_returns_the_rest(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.max_deliveries_per_connection = 1;
	rig_open(&r, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	session_job(r.session, rig_job("b@acme.test", "y@example.test", "two\r\n"));
	rig_run(&r);
	check_story(&r, "ready done:ok back closed");
	assert_int_equal(scripted_mx_n_mails(r.mx), 1);
	assert_int_equal(r.jobs[1]->outcomes[0].class, OUTCOME_NONE);
	rig_end(&r);
}

/* Those refused count as well: named is named. */
static void test_max_recipients(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.max_recipients_per_connection = 3;
	scripted_mx_line(r.mx, "RCPT/2: 550 5.1.1 nobody");
	rig_give(&r, rig_job("b@acme.test", "z@example.test", "two\r\n"));
	rig_give(&r, rig_job("c@acme.test", "z@example.test", "three\r\n"));
	rig_open(&r, rig_job("a@acme.test", "x@example.test y@example.test", "one\r\n"));
	rig_run(&r);
	check_story(&r, "ready want done:ok,permanent done:ok closed");
	assert_int_equal(scripted_mx_n_mails(r.mx), 2);
	rig_end(&r);
}

/* However long it takes to get to the first message; then no other begins past the limit. */
static void test_reuse_time_limit(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.connection_reuse_time_limit_s = 60;
	r.profile.o.idle_timeout_s = 50;
	r.profile.o.ehlo_timeout_s = 100;
	scripted_mx_line(r.mx, "EHLO: wait 61; 250 mx.test");
	rig_open(&r, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	rig_run(&r);
	rig_advance(&r, 62);
	check_story(&r, "ready done:ok closed");
	rig_forget(&r);
	scripted_mx_forget(r.mx);
	rig_open(&r, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	rig_run(&r);
	rig_advance(&r, 40);
	session_job(r.session, rig_job("b@acme.test", "x@example.test", "two\r\n"));
	rig_run(&r);
	rig_advance(&r, 20);
	check_story(&r, "ready want done:ok want done:ok");
	session_job(r.session, rig_job("c@acme.test", "x@example.test", "three\r\n"));
	rig_run(&r);
	check_story(&r, "ready want done:ok want done:ok back closed");
	rig_end(&r);
}

/* 8-bit characters where 8BITMIME is not offered: sent as they are, or not at all. */
static void test_eight_bit(void **state)
{
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < 4; i++) {
		rig_init(&r);
		r.profile.o.eight_bit = i & 1 ? EIGHT_BIT_FAIL : EIGHT_BIT_SEND;
		if (i < 2)
			scripted_mx_line(r.mx, "EHLO: 250 mx.test");
		rig_open(&r, rig_job_body("a@b.test", "x@y.test", fake_body_new("\xe4\r\n", 3), MESSAGE_8BIT));
		rig_run(&r);
		check_story(&r, i == 1 ? "ready done:permanent" : "ready want done:ok");
		if (i == 1)
			assert_string_equal(r.jobs[0]->outcomes[0].enhanced, "5.6.3");
		rig_forget(&r);
		/* what needs nothing goes in any case */
		session_job(r.session, rig_job("a@b.test", "x@y.test", "one\r\n"));
		rig_run(&r);
		check_story(&r, "want done:ok");
		rig_end(&r);
	}
}

static void test_idle_without_job(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	rig_open(&r, NULL);
	rig_run(&r);
	check_story(&r, "ready");
	session_job(r.session, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	rig_run(&r);
	check_story(&r, "ready want done:ok");
	rig_advance(&r, 6);
	check_story(&r, "ready want done:ok");
	session_job(r.session, rig_job("a@acme.test", "x@example.test", "two\r\n"));
	rig_run(&r);
	rig_advance(&r, 6);
	check_story(&r, "ready want done:ok want done:ok");
	rig_advance(&r, 1);
	check_story(&r, "ready want done:ok want done:ok closed");
	rig_end(&r);
}

static void test_idle_timeout_zero(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.idle_timeout_s = 0;
	r.says_no = true;
	rig_open(&r, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	rig_run(&r);
	check_story(&r, "ready want done:ok closed");
	rig_end(&r);
}

static void test_unix_socket_is_refused_in_words(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.open.unix_path = "/nonexistent/lmtp.sock";
	rig_open(&r, rig_job("a@acme.test", "x@example.test", "one\r\n"));
	rig_run(&r);
	check_story(&r, "back/lost failed");
	check_outcome(&r.why, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.4.1",
	        "connect to /nonexistent/lmtp.sock from " RIG_SOURCE ": No such file or directory");
	rig_end(&r);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_message),
        cmocka_unit_test(test_without_pipelining),
        cmocka_unit_test(test_smtp_says_helo),
        cmocka_unit_test(test_helo_when_ehlo_is_refused),
        cmocka_unit_test(test_helo_refused_too),
        cmocka_unit_test(test_banner_refused),
        cmocka_unit_test(test_lmtp),
        cmocka_unit_test(test_lhlo_refused),
        cmocka_unit_test(test_lmtp_421_in_the_middle),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_some_recipients_refused),
        cmocka_unit_test(test_data_accepted_for_nobody),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_own_refusals),
        cmocka_unit_test(test_ehlo_names),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_large_body),
        cmocka_unit_test(test_body_from_spool),
        cmocka_unit_test(test_next_messages),
        cmocka_unit_test(test_max_deliveries),
        cmocka_unit_test(test_max_deliveries_returns_the_rest),
        cmocka_unit_test(test_max_recipients),
        cmocka_unit_test(test_reuse_time_limit),
        cmocka_unit_test(test_eight_bit),
        cmocka_unit_test(test_idle_without_job),
        cmocka_unit_test(test_idle_timeout_zero),
        cmocka_unit_test(test_unix_socket_is_refused_in_words),
};
TEST_MAIN("session_dialogue", tests)
