#include "config.h"
#include "handoff/lmtp_command.h"
#include "handoff/xforward.h"
#include "t/lib/test.h"
#include "base/mem.h"

static enum reply parse(const char *line, struct lmtp_command *command)
{
	return lmtp_command_parse(line, strlen(line), command);
}

static void test_lines(void **state)
{
	static const struct {
		const char *line;
		enum reply reply;
		enum lmtp_verb verb;
		const char *arg;
	} cases[] = {
	        {"LHLO mx.example", REPLY_NONE, LMTP_LHLO, "mx.example"},
	        {"lHlO   mx.example  ", REPLY_NONE, LMTP_LHLO, "mx.example"},
	        {"EHLO", REPLY_NONE, LMTP_EHLO, ""},
	        {"NOOP", REPLY_NONE, LMTP_NOOP, ""},
	        {"NOOP any thing", REPLY_NONE, LMTP_NOOP, "any thing"},
	        {"  QUIT", REPLY_NONE, LMTP_QUIT, ""},
	        {"QUIT now", REPLY_BAD_ARGUMENT, 0, ""},
	        {"DATA x", REPLY_BAD_ARGUMENT, 0, ""},
	        {"RSET x", REPLY_BAD_ARGUMENT, 0, ""},
	        {"MAIL", REPLY_BAD_ARGUMENT, 0, ""},
	        {"RCPT ", REPLY_BAD_ARGUMENT, 0, ""},
	        {"VRFY", REPLY_BAD_ARGUMENT, 0, ""},
	        {"XFORWARD", REPLY_BAD_ARGUMENT, 0, ""},
	        {"", REPLY_NO_COMMAND, 0, ""},
	        {"   ", REPLY_NO_COMMAND, 0, ""},
	        {"MAIL\tFROM:<a@b>", REPLY_BAD_BYTES, 0, ""},
	        {"NOOP \x7f", REPLY_BAD_BYTES, 0, ""},
	        {"NOOP \xc3\xa9", REPLY_BAD_BYTES, 0, ""},
	        {"FOO\xc3\xa9", REPLY_BAD_BYTES, 0, ""},
	        {"MAIL FROM:<\xe9@b>", REPLY_BAD_BYTES, 0, ""},
	        {"MAIL FROM:<\xc2\x85@b>", REPLY_BAD_BYTES, 0, ""}, /* a control character, too */
	        {"NOOP\r", REPLY_BAD_BYTES, 0, ""},
	        {"NOOP\nMAIL FROM:<a@b>", REPLY_BAD_BYTES, 0, ""},
	        {"BDAT 10 LAST", REPLY_NOT_IMPLEMENTED, 0, ""},
	        {"STARTTLS", REPLY_NOT_IMPLEMENTED, 0, ""},
	        {"AUTH PLAIN x", REPLY_NOT_IMPLEMENTED, 0, ""},
	        {"EXPN list", REPLY_NOT_IMPLEMENTED, 0, ""},
	        {"MAILFROM:<a@b>", REPLY_UNKNOWN_COMMAND, 0, ""},
	        {"MAIL: FROM", REPLY_UNKNOWN_COMMAND, 0, ""},
	        {"DAT", REPLY_UNKNOWN_COMMAND, 0, ""},
	        {"DATAA", REPLY_UNKNOWN_COMMAND, 0, ""},
	};
	struct lmtp_command command;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		enum reply reply = parse(cases[i].line, &command);

		if (reply != cases[i].reply)
			fail_msg("%s: reply %d, not %d", cases[i].line, reply_code(reply),
			        reply_code(cases[i].reply));
		if (reply != REPLY_NONE)
			continue;
		assert_int_equal(command.verb, cases[i].verb);
		assert_int_equal(command.arg_len, strlen(cases[i].arg));
		assert_memory_equal(command.arg, cases[i].arg, command.arg_len);
	}
	/* NUL is a control character like any other */
	assert_int_equal(lmtp_command_parse("NOOP\0x", 6, &command), REPLY_BAD_BYTES);
}

static void test_hello(void **state)
{
	static const struct {
		const char *name;
		bool good;
	} cases[] = {
	        {"localhost", true},
	        {"mx.example.com", true},
	        {"under_score.example", true},
	        {"a-b.example", true},
	        {"127.0.0.1", true},
	        {"[127.0.0.1]", true},
	        {"[IPv6:2001:db8::1]", true},
	        {"[ipv6:::1]", true},
	        {"[]", false},
	        {"[127.0.0.1", false},
	        {"[127.0.0.256]", false},
	        {"[2001:db8::1]", false},
	        {"[IPv6:127.0.0.1]", false},
	        {"[[127.0.0.1]]", false},
	        {"[fe80::1%lo]", false},
	        {"a..b", false},
	        {".a", false},
	        {"a.", false},
	        {"a b", false},
	        {"<a>", false},
	        {"a(b)", false},
	        {"a/b", false},
	};
	char name[400], line[500];
	struct lmtp_command command;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		snprintf(line, sizeof(line), "LHLO %s", cases[i].name);
		assert_int_equal(parse(line, &command), REPLY_NONE);
		if ((lmtp_hello_parse(&command) == REPLY_NONE) != cases[i].good)
			fail_msg("%s", cases[i].name);
	}
	assert_int_equal(parse("LHLO", &command), REPLY_NONE);
	assert_int_equal(lmtp_hello_parse(&command), REPLY_BAD_HELLO);
	/* 253 octets are a name, 254 are not; 63 are a label, 64 are not */
	memset(name, 'a', sizeof(name));
	for (int i = 63; i < 253; i += 64)
		name[i] = '.';
	snprintf(line, sizeof(line), "LHLO %.253s", name);
	assert_int_equal(parse(line, &command), REPLY_NONE);
	assert_int_equal(lmtp_hello_parse(&command), REPLY_NONE);
	snprintf(line, sizeof(line), "LHLO %.254s", name);
	assert_int_equal(parse(line, &command), REPLY_NONE);
	assert_int_equal(lmtp_hello_parse(&command), REPLY_BAD_HELLO);
	name[63] = 'a';
	snprintf(line, sizeof(line), "LHLO %.100s", name);
	assert_int_equal(parse(line, &command), REPLY_NONE);
	assert_int_equal(lmtp_hello_parse(&command), REPLY_BAD_HELLO);
}

static void test_mail(void **state)
{
	static const struct {
		const char *arg;
		enum reply reply;
		const char *address;
		uint64_t size;
		bool eight;
	} cases[] = {
	        {"FROM:<>", REPLY_NONE, "", 0, false},
	        {"FROM:<a@b.example>", REPLY_NONE, "a@b.example", 0, false},
	        {"from: <a@b.example>", REPLY_NONE, "a@b.example", 0, false},
	        {"FROM:<a@b.example> SIZE=123", REPLY_NONE, "a@b.example", 123, false},
	        {"FROM:<a@b.example>  size=0  body=8bitmime", REPLY_NONE, "a@b.example", 0, true},
	        {"FROM:<> BODY=7BIT", REPLY_NONE, "", 0, false},
	        {"FROM:<a@b> SIZE=99999999999999999999", REPLY_NONE, "a@b", UINT64_MAX, false},
	        {"FROM:<nodomain>", REPLY_NONE, "nodomain", 0, false},
	        {"FROM:<@r1.example,@[192.0.2.1]:a@b.example>", REPLY_NONE, "a@b.example", 0, false},
	        {"FROM:<\"quoted \\\" @ <x>\"@b.example>", REPLY_NONE, "\"quoted \\\" @ <x>\"@b.example", 0,
	                false},
	        {"FROM:<\"\"@b.example>", REPLY_NONE, "\"\"@b.example", 0, false},
	        {"FROM:<a..b.@c.example>", REPLY_NONE, "a..b.@c.example", 0, false},
	        {"FROM:<a+b=c=d/e@f.example>", REPLY_NONE, "a+b=c=d/e@f.example", 0, false},
	        {"FROM:<a@[192.0.2.1]>", REPLY_NONE, "a@[192.0.2.1]", 0, false},
	        {"FROM:<a@[IPv6:2001:db8::1]>", REPLY_NONE, "a@[IPv6:2001:db8::1]", 0, false},
	        {"FROM", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM <a@b>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:a@b", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@b", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<@b>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@b@c>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a b@c>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@b.>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@.b>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@b..c>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@b c>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@[1.2.3]>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a(c)@b>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<\"open@b.example>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<\"a\"b@c.example>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<\"a\\", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<@r1.example:>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<@r1.example,a@b>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<@r1.example@b>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<<a@b>>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"TO:<a@b>", REPLY_BAD_SENDER, NULL, 0, false},
	        {"FROM:<a@b>SIZE=1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b>>", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=-1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=1x", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=0x10", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=999999999999999999999", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=9999999999999999999x", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=1 SIZE=1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> BODY=7BIT body=7bit", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> BODY=BINARYMIME", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> BODY", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> =1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> -X=1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> X_Y=1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SMTPUTF8", REPLY_NONE, "a@b", 0, false},
	        {"FROM:<\xc3\xa4@\xc3\xb6.example> SIZE=1 smtputf8", REPLY_NONE, "\xc3\xa4@\xc3\xb6.example",
	                1, false},
	        {"FROM:<\"\xc3\xa4 b\"@b.example> SMTPUTF8", REPLY_NONE, "\"\xc3\xa4 b\"@b.example", 0,
	                false},
	        {"FROM:<\xc3\xa4@b.example>", REPLY_BAD_BYTES, NULL, 0, false},
	        {"FROM:<a@\xc3\xb6.example> BODY=8BITMIME", REPLY_BAD_BYTES, NULL, 0, false},
	        {"FROM:<a@b> SMTPUTF8 SMTPUTF8", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SMTPUTF8=1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SMTPUTF8 BODY=\xc3\xa4", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SMTPUTF8 \xc3\xa4=1", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> RET=HDRS", REPLY_NONE, "a@b", 0, false},
	        {"FROM:<a@b> ret=full ENVID=a+2Bb", REPLY_NONE, "a@b", 0, false},
	        {"FROM:<a@b> RET=BOTH", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> RET=FULL RET=FULL", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> RET", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> ENVID=", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> ENVID", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> ENVID=a=b", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> ENVID=a+2b", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> ENVID=a+4", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> ENVID=x ENVID=x", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> ENVID=0123456789012345678901234567890123456789012345678901234567890123456789"
	         "012345678901234567890123456789",
	                REPLY_NONE, "a@b", 0, false},
	        {"FROM:<a@b> ENVID=0123456789012345678901234567890123456789012345678901234567890123456789"
	         "0123456789012345678901234567890",
	                REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> AUTH=<>", REPLY_UNKNOWN_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> requiretls", REPLY_NONE, "a@b", 0, false},
	        {"FROM:<a@b> REQUIRETLS=yes", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> REQUIRETLS REQUIRETLS", REPLY_BAD_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> MT-PRIORITY=3", REPLY_UNKNOWN_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZE=1 X-Y=1", REPLY_UNKNOWN_PARAMETER, NULL, 0, false},
	        {"FROM:<a@b> SIZES=1", REPLY_UNKNOWN_PARAMETER, NULL, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		struct lmtp_command command = {LMTP_MAIL, cases[i].arg, strlen(cases[i].arg)};
		struct lmtp_mail mail;
		enum reply reply = lmtp_mail_parse(&command, true, &mail);

		if (reply != cases[i].reply)
			fail_msg("%s: reply %d", cases[i].arg, reply_code(reply));
		if (reply != REPLY_NONE)
			continue;
		if (mail.path.address_len != strlen(cases[i].address) ||
		        memcmp(mail.path.address, cases[i].address, mail.path.address_len) != 0)
			fail_msg("%s: address %.*s", cases[i].arg, (int)mail.path.address_len,
			        mail.path.address);
		assert_int_equal(mail.size, cases[i].size);
		assert_int_equal(mail.body_8bitmime, cases[i].eight);
	}
}

/* HELO announces nothing, so nothing may be used. */
static void test_mail_after_helo(void **state)
{
	struct lmtp_command command = {LMTP_MAIL, "FROM:<a@b> SIZE=1", 17};
	struct lmtp_mail mail;

	(void)state;
	assert_int_equal(lmtp_mail_parse(&command, false, &mail), REPLY_UNKNOWN_PARAMETER);
	command.arg_len = 10;
	assert_int_equal(lmtp_mail_parse(&command, false, &mail), REPLY_NONE);
}

static void test_rcpt(void **state)
{
	static const struct {
		const char *arg;
		enum reply reply;
		const char *address, *domain;
	} cases[] = {
	        {"TO:<a@b.example>", REPLY_NONE, "a@b.example", "b.example"},
	        {"to: <a@b.example>", REPLY_NONE, "a@b.example", "b.example"},
	        {"TO:<@r.example:a@b.example>", REPLY_NONE, "a@b.example", "b.example"},
	        {"TO:<\"x@y\"@b.example>", REPLY_NONE, "\"x@y\"@b.example", "b.example"},
	        {"TO:<a@[192.0.2.1]>", REPLY_NONE, "a@[192.0.2.1]", "[192.0.2.1]"},
	        {"TO:<utf8\xc3\xa4@\xc3\xb6.example>", REPLY_NONE, "utf8\xc3\xa4@\xc3\xb6.example",
	                "\xc3\xb6.example"},
	        {"TO:<\xc3\xa4@b.example>", REPLY_BAD_BYTES, NULL, NULL},
	        {"TO:<PostMaster>", REPLY_NONE, "PostMaster", ""},
	        {"TO:<>", REPLY_BAD_RCPT, NULL, NULL},
	        {"TO:<local>", REPLY_BAD_RCPT, NULL, NULL},
	        {"TO:<\"postmaster\">", REPLY_BAD_RCPT, NULL, NULL},
	        {"TO:a@b.example", REPLY_BAD_RCPT, NULL, NULL},
	        {"FROM:<a@b>", REPLY_BAD_RCPT, NULL, NULL},
	        {"TO:<a@b> NOTIFY=NEVER", REPLY_NONE, "a@b", "b"},
	        {"TO:<a@b> notify=success,DELAY,failure", REPLY_NONE, "a@b", "b"},
	        {"TO:<a@b> ORCPT=rfc822;a@b NOTIFY=FAILURE", REPLY_NONE, "a@b", "b"},
	        {"TO:<a@b> ORCPT=utf-8;utf8\xc3\xa4@b", REPLY_NONE, "a@b", "b"},
	        {"TO:<a@b> ORCPT=utf-8;\xc3\xa4@b", REPLY_BAD_BYTES, NULL, NULL},
	        {"TO:<a@b> ORCPT=rfc822;utf8\xc3\xa4@b", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> NOTIFY", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> NOTIFY=NEVER,FAILURE", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> NOTIFY=FAILURE,", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> NOTIFY=,", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> NOTIFY=SOMETIMES", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> NOTIFY=DELAY NOTIFY=DELAY", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> ORCPT=rfc822;a ORCPT=rfc822;a", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> ORCPT=rfc822;", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> ORCPT=;a@b", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> ORCPT=a@b", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> ORCPT=rfc(822;a@b", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> ORCPT=rfc822;a+b@b", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> ORCPT=rfc822;a+2Bb@b", REPLY_NONE, "a@b", "b"},
	        {"TO:<a@b> SIZE=1", REPLY_UNKNOWN_PARAMETER, NULL, NULL},
	        {"TO:<a@b> x", REPLY_UNKNOWN_PARAMETER, NULL, NULL},
	        {"TO:<a@b>x", REPLY_BAD_PARAMETER, NULL, NULL},
	        {"TO:<a@b> NOTIFY=", REPLY_BAD_PARAMETER, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		struct lmtp_command command = {LMTP_RCPT, cases[i].arg, strlen(cases[i].arg)};
		struct lmtp_rcpt rcpt;
		const struct mail_path *path = &rcpt.path;
		enum reply reply =
		        lmtp_rcpt_parse(&command, true, strstr(cases[i].arg, "utf8") != NULL, &rcpt);

		if (reply != cases[i].reply)
			fail_msg("%s: reply %d", cases[i].arg, reply_code(reply));
		if (reply != REPLY_NONE)
			continue;
		assert_int_equal(path->address_len, strlen(cases[i].address));
		assert_memory_equal(path->address, cases[i].address, path->address_len);
		assert_int_equal(path->domain_len, strlen(cases[i].domain));
		if (path->domain_len)
			assert_memory_equal(path->domain, cases[i].domain, path->domain_len);
	}
}

static enum reply forward(struct xforward *x, const char *arg)
{
	struct lmtp_command command = {LMTP_XFORWARD, arg, strlen(arg)};

	return xforward_parse(&command, x);
}

static void test_xforward(void **state)
{
	struct xforward x;
	char text[ADDR_TEXT_SIZE];

	(void)state;
	xforward_clear(&x);
	assert_int_equal(forward(&x, "NAME=mail.example ADDR=192.0.2.7 PORT=4711"), REPLY_NONE);
	assert_int_equal(forward(&x, "proto=ESMTP helo=[192.0.2.7] ident=ABC source=REMOTE"), REPLY_NONE);
	assert_true(x.given);
	assert_false(x.local);
	assert_string_equal(x.name, "mail.example");
	assert_string_equal(x.helo, "[192.0.2.7]");
	assert_string_equal(x.proto, "ESMTP");
	assert_string_equal(addr_print(&x.client, text), "192.0.2.7");
	/* what a later command names is replaced, the rest stays */
	assert_int_equal(forward(&x, "NAME=[UNAVAILABLE] HELO=[TempUnavail]"), REPLY_NONE);
	assert_string_equal(x.name, "");
	assert_string_equal(x.helo, "");
	assert_string_equal(addr_print(&x.client, text), "192.0.2.7");
	assert_int_equal(forward(&x, "ADDR=IPv6:2001:db8::7"), REPLY_NONE);
	assert_string_equal(addr_print(&x.client, text), "2001:db8::7");
	assert_int_equal(forward(&x, "ADDR=IPv6:::ffff:192.0.2.8"), REPLY_NONE);
	assert_string_equal(addr_print(&x.client, text), "192.0.2.8");
	assert_int_equal(forward(&x, "NAME=a+2Bb"), REPLY_NONE);
	assert_string_equal(x.name, "a+b");
	/* mail by SMTP from the MTA's own machine: its client is known */
	assert_int_equal(forward(&x, "ADDR=127.0.0.1 SOURCE=LOCAL"), REPLY_NONE);
	assert_false(x.local);
	assert_int_equal(forward(&x, "ADDR=[UNAVAILABLE]"), REPLY_NONE);
	assert_true(x.local);
	assert_int_equal(x.client.family, AF_UNSPEC);
	xforward_clear(&x);
	assert_false(x.given);
}

/* A command that is refused changes nothing. */
static void test_xforward_refused(void **state)
{
	static const char *const cases[] = {
	        "NAME",
	        "NAME=",
	        "FOO=bar",
	        "NAME=a NAME=b",
	        "=x",
	        "NAME=a+",
	        "NAME=a+2",
	        "NAME=a+zz",
	        "NAME=a+0Ab",
	        "NAME=a+00",
	        "NAME=a+20b",
	        "NAME=a+E9",
	        "HELO=a(b",
	        "HELO=a+29",
	        "HELO=a\"b",
	        "ADDR=1.2.3",
	        "ADDR=host",
	        "ADDR=[192.0.2.1]",
	        "ADDR=fe80::1+25lo",
	        "ADDR=192.0.2.1:25",
	        "PORT=0",
	        "PORT=65536",
	        "PORT=x",
	        "SOURCE=NEAR",
	        "PROTO=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	        "HELO=good NAME=a+0D+0AMAIL",
	};
	struct xforward x, before;
	char arg[600];

	(void)state;
	xforward_clear(&x);
	assert_int_equal(forward(&x, "NAME=before HELO=before ADDR=192.0.2.1"), REPLY_NONE);
	before = x;
	for (size_t i = 0; i < array_len(cases); i++) {
		if (forward(&x, cases[i]) != REPLY_BAD_XFORWARD)
			fail_msg("%s", cases[i]);
		assert_memory_equal(&x, &before, sizeof(x));
	}
	memset(arg, 'a', sizeof(arg));
	memcpy(arg, "NAME=", 5);
	arg[5 + XFORWARD_VALUE_MAX] = '\0';
	assert_int_equal(forward(&x, arg), REPLY_NONE);
	arg[5 + XFORWARD_VALUE_MAX] = 'a';
	arg[6 + XFORWARD_VALUE_MAX] = '\0';
	assert_int_equal(forward(&x, arg), REPLY_BAD_XFORWARD);
}

static void test_replies_well_formed(void **state)
{
	(void)state;
	for (int i = REPLY_NONE + 1; i < REPLY_N; i++) {
		struct str line;
		int code;
		unsigned class, subject, detail;

		str_init(&line);
		reply_add(&line, (enum reply)i);
		assert_true(line.len > 6 && line.len < 512);
		assert_string_equal(line.data + line.len - 2, "\r\n");
		assert_int_equal(sscanf(line.data, "%d", &code), 1);
		assert_int_equal(code, reply_code((enum reply)i));
		/* RFC 2034: the class of the enhanced code is the reply's */
		if (code != 354) {
			assert_int_equal(sscanf(line.data + 4, "%u.%u.%u ", &class, &subject, &detail), 3);
			assert_int_equal(class, code / 100);
		}
		str_free(&line);
	}
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_mail),
        cmocka_unit_test(test_mail_after_helo),
        cmocka_unit_test(test_rcpt),
        cmocka_unit_test(test_xforward),
        cmocka_unit_test(test_xforward_refused),
        cmocka_unit_test(test_replies_well_formed),
};

TEST_MAIN("handoff_command", tests)
