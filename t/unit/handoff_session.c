/*
 * What a client may do to the handoff, and what it says: each case whole, a byte at a time and in random chunks; the
 * replies and what is stored must be the same.
 */
#include "config.h"
#include "base/mem.h"
#include "handoff/lmtp_command.h"
#include "t/lib/handoff_rig.h"
#include "t/lib/test.h"

#include <sys/socket.h>
#include <unistd.h>

#define LHLO "LHLO mx.example\r\n"
#define HELLO "220|250"
#define MAIL "MAIL FROM:<a@acme.example>\r\n"
#define RCPT "RCPT TO:<r@d.example>\r\n"
#define BEGIN LHLO MAIL RCPT "DATA\r\n"
#define BEGUN HELLO "|250 2.1.0|250 2.1.5|354"
#define ACCEPTED "250 2.0.0"

struct test_case {
	const char *name, *input;
	size_t len;
	const char *replies;
	unsigned n_stored;
	const char *body; /* the last one's, without our Received; NULL = not looked at */
	bool closed;
};
#define INPUT(text) text, sizeof(text) - 1

static const struct test_case cases[] = {
        /* the normal path */
        {"plain", INPUT(BEGIN "Subject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n"), BEGUN "|" ACCEPTED "|221 2.0.0", 1,
                "Subject: x\r\n\r\nhi\r\n", true},
        {"two transactions pipelined",
                INPUT(BEGIN "\r\none\r\n.\r\n" MAIL RCPT "DATA\r\n\r\ntwo\r\n.\r\nQUIT\r\n"),
                BEGUN "|" ACCEPTED "|250 2.1.0|250 2.1.5|354|" ACCEPTED "|221 2.0.0", 2, "\r\ntwo\r\n", true},
        {"a reply for each recipient",
                INPUT(LHLO MAIL RCPT "RCPT TO:<bad>\r\nRCPT TO:<s@e.example>\r\nDATA\r\nx: y\r\n\r\n.\r\n"),
                HELLO "|250 2.1.0|250 2.1.5|501 5.1.3|250 2.1.5|354|" ACCEPTED "|" ACCEPTED, 1,
                "x: y\r\n\r\n", false},
        {"one reply in SMTP",
                INPUT("EHLO mx.example\r\n" MAIL RCPT "RCPT TO:<s@e.example>\r\nDATA\r\nx: y\r\n\r\n.\r\n"),
                HELLO "|250 2.1.0|250 2.1.5|250 2.1.5|354|" ACCEPTED, 1, "x: y\r\n\r\n", false},
        {"HELO", INPUT("HELO mx.example\r\n" MAIL RCPT "DATA\r\n.\r\n"), BEGUN "|" ACCEPTED, 1, "", false},
        {"HELO announces nothing", INPUT("HELO mx.example\r\nMAIL FROM:<a@b> SIZE=1\r\n"), HELLO "|555 5.5.4",
                0, NULL, false},
        {"empty message", INPUT(BEGIN ".\r\n"), BEGUN "|" ACCEPTED, 1, "", false},
        {"dots", INPUT(BEGIN "..a\r\n\r\n...\r\n.b\r\n.\r\n"), BEGUN "|" ACCEPTED, 1, ".a\r\n\r\n..\r\nb\r\n",
                false},
        {"null reverse-path", INPUT(LHLO "MAIL FROM:<>\r\n" RCPT "DATA\r\n\r\n.\r\n"), BEGUN "|" ACCEPTED, 1,
                "\r\n", false},
        {"parameters", INPUT(LHLO "MAIL FROM:<a@b> SIZE=1000 BODY=8BITMIME\r\n"), HELLO "|250 2.1.0", 0, NULL,
                false},
        {"verbs in any case",
                INPUT("lhlo mx.example\r\nmail from:<a@b>\r\nrcpt to:<a@b.example>\r\nrset\r\nquit\r\n"),
                HELLO "|250 2.1.0|250 2.1.5|250 2.0.0|221 2.0.0", 0, NULL, true},
        {"other commands", INPUT(LHLO "NOOP x\r\nHELP\r\nVRFY root\r\nEXPN root\r\nTURN\r\n"),
                HELLO "|250 2.0.0|214 2.0.0|252 2.0.0|502 5.5.1|502 5.5.1", 0, NULL, false},
        {"postmaster", INPUT(LHLO MAIL "RCPT TO:<postmaster>\r\nDATA\r\n\r\n.\r\n"), BEGUN "|" ACCEPTED, 1,
                "\r\n", false},

        /* order */
        {"MAIL without LHLO", INPUT(MAIL), "220|503 5.5.1", 0, NULL, false},
        {"RCPT without LHLO", INPUT(RCPT), "220|503 5.5.1", 0, NULL, false},
        {"DATA without LHLO", INPUT("DATA\r\n"), "220|503 5.5.1", 0, NULL, false},
        {"XFORWARD without LHLO", INPUT("XFORWARD NAME=x\r\n"), "220|503 5.5.1", 0, NULL, false},
        {"RSET, NOOP, QUIT without LHLO", INPUT("RSET\r\nNOOP\r\nQUIT\r\n"),
                "220|250 2.0.0|250 2.0.0|221 2.0.0", 0, NULL, true},
        {"RCPT without MAIL", INPUT(LHLO RCPT), HELLO "|503 5.5.1", 0, NULL, false},
        {"DATA without MAIL", INPUT(LHLO "DATA\r\n"), HELLO "|503 5.5.1", 0, NULL, false},
        {"DATA without RCPT", INPUT(LHLO MAIL "DATA\r\n" RCPT), HELLO "|250 2.1.0|503 5.5.1|250 2.1.5", 0,
                NULL, false},
        {"DATA after refused RCPT", INPUT(LHLO MAIL "RCPT TO:<x>\r\nDATA\r\n"),
                HELLO "|250 2.1.0|501 5.1.3|503 5.5.1", 0, NULL, false},
        {"DATA after refused RCPT in SMTP", INPUT("EHLO a\r\n" MAIL "RCPT TO:<x>\r\nDATA\r\n"),
                HELLO "|250 2.1.0|501 5.1.3|554 5.5.1", 0, NULL, false},
        {"nested MAIL", INPUT(LHLO MAIL MAIL RCPT MAIL), HELLO "|250 2.1.0|503 5.5.1|250 2.1.5|503 5.5.1", 0,
                NULL, false},
        {"XFORWARD within a transaction", INPUT(LHLO MAIL "XFORWARD NAME=x\r\n"),
                HELLO "|250 2.1.0|503 5.5.1", 0, NULL, false},
        {"RSET ends the transaction", INPUT(LHLO MAIL RCPT "RSET\r\nDATA\r\n" MAIL),
                HELLO "|250 2.1.0|250 2.1.5|250 2.0.0|503 5.5.1|250 2.1.0", 0, NULL, false},
        {"LHLO ends the transaction", INPUT(LHLO MAIL RCPT LHLO "DATA\r\n" MAIL),
                HELLO "|250 2.1.0|250 2.1.5|250|503 5.5.1|250 2.1.0", 0, NULL, false},
        {"malformed LHLO does not", INPUT(LHLO MAIL "LHLO\r\n" RCPT), HELLO "|250 2.1.0|501 5.5.4|250 2.1.5",
                0, NULL, false},
        {"EHLO after LHLO counts as SMTP", INPUT(LHLO "EHLO a\r\n" MAIL RCPT RCPT "DATA\r\n\r\n.\r\n"),
                HELLO "|250|250 2.1.0|250 2.1.5|250 2.1.5|354|" ACCEPTED, 1, "\r\n", false},
        {"LHLO after EHLO counts as LMTP", INPUT("EHLO a\r\n" LHLO MAIL RCPT RCPT "DATA\r\n\r\n.\r\n"),
                HELLO "|250|250 2.1.0|250 2.1.5|250 2.1.5|354|" ACCEPTED "|" ACCEPTED, 1, "\r\n", false},

        /* malformed commands */
        {"malformed LHLO", INPUT("LHLO\r\nLHLO \r\nLHLO a b\r\nLHLO [1.2.3\r\nEHLO\r\nHELO <x>\r\n"),
                "220|501 5.5.4|501 5.5.4|501 5.5.4|501 5.5.4|501 5.5.4|501 5.5.4", 0, NULL, false},
        {"control and 8-bit bytes",
                INPUT("LHLO a\tb\r\nLHLO a\0b\r\nLHLO caf\xc3\xa9\r\n" LHLO
                      "MAIL FROM:<\xc3\xa9@b>\r\nMAIL FROM:<a\x01@b>\r\n"
                      "NOOP \x80\r\n\x7fNOOP\r\n"),
                "220|501 5.5.4|501 5.5.4|501 5.5.4|250|501 5.5.4|501 5.5.4|501 5.5.4|501 5.5.4", 0, NULL,
                false},
        {"bare LF ends no command", INPUT(LHLO "NOOP\nMAIL FROM:<a@b>\nRCPT TO:<a@b>\r\n" RCPT),
                HELLO "|501 5.5.4|503 5.5.1", 0, NULL, false},
        {"bare CR ends no command", INPUT(LHLO "NOOP\rQUIT\r\r\nNOOP\r\n"), HELLO "|501 5.5.4|250 2.0.0", 0,
                NULL, false},
        {"command hidden in an address", INPUT(LHLO "MAIL FROM:<a@b\rRCPT TO:<c@d>>\r\n" RCPT),
                HELLO "|501 5.5.4|503 5.5.1", 0, NULL, false},
        {"empty lines", INPUT("\r\n  \r\n"), "220|500 5.5.2|500 5.5.2", 0, NULL, false},
        {"unknown command", INPUT("FOO\r\nMAILX\r\nSTARTTLS\r\n"), "220|500 5.5.1|500 5.5.1|502 5.5.1", 0,
                NULL, false},
        {"BDAT is not announced", INPUT(LHLO MAIL RCPT "BDAT 4 LAST\r\nNOOP\r\n"),
                HELLO "|250 2.1.0|250 2.1.5|502 5.5.1|250 2.0.0", 0, NULL, false},
        {"bad parameters",
                INPUT(LHLO "MAIL FROM:<a@b> SIZE=1 SIZE=2\r\nMAIL FROM:<a@b> BODY=7BIT BODY=7BIT\r\n"
                           "MAIL FROM:<a@b> SIZE=x\r\nMAIL FROM:<a@b> BY=1;R\r\nMAIL FROM:<a@b> "
                           "SMTPUTF8=x\r\n"),
                HELLO "|501 5.5.4|501 5.5.4|501 5.5.4|555 5.5.4|501 5.5.4", 0, NULL, false},
        {"SMTPUTF8 is for its own transaction",
                INPUT(LHLO "MAIL FROM:<\xc3\xa4@b.example> SMTPUTF8\r\nRCPT "
                           "TO:<\xc3\xb6@\xc3\xb6.example>\r\nRSET\r\n"
                           "MAIL FROM:<a@b.example>\r\nRCPT TO:<\xc3\xb6@b.example>\r\n"),
                HELLO "|250 2.1.0|250 2.1.5|250 2.0.0|250 2.1.0|501 5.5.4", 0, NULL, false},
        {"bad RCPT parameters",
                INPUT(LHLO MAIL "RCPT TO:<a@b.example> NOTIFY=ALWAYS\r\nRCPT TO:<a@b.example> X=1\r\n"),
                HELLO "|250 2.1.0|501 5.5.4|555 5.5.4", 0, NULL, false},
        {"SIZE over the limit",
                INPUT(LHLO "MAIL FROM:<a@b> SIZE=1048577\r\nMAIL FROM:<a@b> SIZE=1048576\r\n"),
                HELLO "|552 5.3.4|250 2.1.0", 0, NULL, false},
        {"DATA with an argument", INPUT(LHLO MAIL RCPT "DATA now\r\n"),
                HELLO "|250 2.1.0|250 2.1.5|501 5.5.4", 0, NULL, false},
        {"arguments where none belong", INPUT("QUIT x\r\nRSET x\r\nVRFY\r\n"),
                "220|501 5.5.4|501 5.5.4|501 5.5.4", 0, NULL, false},
        {"a web browser", INPUT("POST / HTTP/1.1\r\nHost: x\r\n\r\n" LHLO MAIL), "220|421 4.7.0", 0, NULL,
                true},

        /* data */
        {"bare LF in data", INPUT(BEGIN "a\nb\r\n.\r\nNOOP\r\n"), BEGUN "|550 5.6.0|250 2.0.0", 0, NULL,
                false},
        {"bare CR in data", INPUT(BEGIN "a\rb\r\n.\r\n"), BEGUN "|550 5.6.0", 0, NULL, false},
        {"NUL in data", INPUT(BEGIN "a\0b\r\n.\r\n"), BEGUN "|550 5.6.0", 0, NULL, false},
        {"smuggled by LF.CRLF", INPUT(BEGIN "\r\na\n.\r\n" MAIL RCPT "DATA\r\nevil\r\n.\r\nNOOP\r\n"),
                BEGUN "|550 5.6.0|250 2.0.0", 0, NULL, false},
        {"smuggled by CRLF.LF", INPUT(BEGIN "\r\na\r\n.\n" MAIL RCPT "DATA\r\nevil\r\n.\r\nNOOP\r\n"),
                BEGUN "|550 5.6.0|250 2.0.0", 0, NULL, false},
        {"smuggled by CR.CR", INPUT(BEGIN "\r\na\r.\r" MAIL "\r\n.\r\nNOOP\r\n"),
                BEGUN "|550 5.6.0|250 2.0.0", 0, NULL, false},
        {"refused for each recipient", INPUT(LHLO MAIL RCPT RCPT "DATA\r\na\nb\r\n.\r\n"),
                HELLO "|250 2.1.0|250 2.1.5|250 2.1.5|354|550 5.6.0|550 5.6.0", 0, NULL, false},
        {"8-bit data", INPUT(BEGIN "\r\n\xff\xfe\r\n.\r\n"), BEGUN "|" ACCEPTED, 1, "\r\n\xff\xfe\r\n",
                false},
        {"data that looks like commands", INPUT(BEGIN "QUIT\r\nRSET\r\n.\r\nNOOP\r\n"),
                BEGUN "|" ACCEPTED "|250 2.0.0", 1, "QUIT\r\nRSET\r\n", false},
        {"commands after refused DATA", INPUT(LHLO MAIL "DATA\r\nSubject: x\r\n.\r\nNOOP\r\n"),
                HELLO "|250 2.1.0|503 5.5.1|500 5.5.1|500 5.5.1|250 2.0.0", 0, NULL, false},

        /* XFORWARD */
        {"XFORWARD",
                INPUT(LHLO "XFORWARD NAME=c.example ADDR=192.0.2.9\r\nXFORWARD FOO=x\r\nXFORWARD NAME\r\n"),
                HELLO "|250 2.0.0|501 5.5.4|501 5.5.4", 0, NULL, false},
};

static const char *without_trace(const struct fake_stored *stored)
{
	const char *end = strstr(stored->body, " +0000\r\n");

	assert_non_null(end);
	assert_memory_equal(stored->body, "Received: from ", 15);
	return end + 8;
}

static void run_case(const struct test_case *c, size_t chunk, struct rnd *rnd)
{
	struct rig rig;
	struct rig_client client;
	struct str replies;
	size_t used = 0;

	rig_init(&rig, NULL, NULL);
	str_init(&replies);
	rig_connect(&rig, &client);
	while (used < c->len) {
		size_t n = chunk ? chunk : 1 + (size_t)rnd_below(rnd, 40);

		n = n < c->len - used ? n : c->len - used;
		rig_send(&rig, &client, c->input + used, n);
		used += n;
	}
	rig_replies(&client, &replies);
	if (strcmp(replies.data, c->replies) != 0)
		fail_msg("%s (chunks %zu):\n is %s\n not %s", c->name, chunk, replies.data, c->replies);
	if (rig.spool.n_stored != c->n_stored)
		fail_msg("%s: %u stored", c->name, rig.spool.n_stored);
	if (c->body)
		assert_string_equal(without_trace(&rig.spool.stored[c->n_stored - 1]), c->body);
	if (client.closed != c->closed && !(c->closed && rig.shared.sessions == 0))
		fail_msg("%s: closed %d", c->name, client.closed);
	assert_int_equal(rig.spool.queued, rig.spool.n_stored);
	str_free(&replies);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

static void test_cases(void **state)
{
	struct fake_rnd rnd;

	(void)state;
	fake_rnd_init(&rnd, 5);
	for (size_t i = 0; i < array_len(cases); i++) {
		run_case(&cases[i], cases[i].len, NULL);
		run_case(&cases[i], 1, NULL);
		for (int again = 0; again < 5; again++)
			run_case(&cases[i], 0, &rnd.rnd);
	}
}

static void expect_replies(struct rig_client *client, const char *want)
{
	struct str replies;

	str_init(&replies);
	rig_replies(client, &replies);
	if (strcmp(replies.data, want) != 0)
		fail_msg("replies %s\n not %s\n%s", replies.data, want, client->said.data);
	str_free(&replies);
	str_clear(&client->said);
}

static void test_announced(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &client);
	assert_string_equal(client.said.data, "220 mta1.example.net ESMTP LMTP bindpost\r\n");
	str_clear(&client.said);
	rig_say(&rig, &client, "LHLO mx.example\r\n");
	assert_string_equal(client.said.data,
	        "250-mta1.example.net\r\n250-PIPELINING\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n"
	        "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-REQUIRETLS\r\n250 XFORWARD NAME ADDR PORT PROTO "
	        "HELO IDENT "
	        "SOURCE\r\n");
	str_clear(&client.said);
	rig_say(&rig, &client, "HELO mx.example\r\n");
	assert_string_equal(client.said.data, "250 mta1.example.net\r\n");
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* --- long lines --------------------------------------------------------------------------------------------- */

static void test_overlong_lines(void **state)
{
	static const size_t chunks[] = {1, 3, 100, 2047, 2048, 2049, 100000};
	struct str line;

	(void)state;
	str_init(&line);
	for (size_t i = 0; i < array_len(chunks); i++) {
		static const size_t lengths[] = {2047, 2048, 2049, 2050, 4096, 70000};

		for (size_t k = 0; k < array_len(lengths); k++) {
			struct test_case c = {"overlong", NULL, 0, NULL, 0, NULL, false};

			str_clear(&line);
			str_add(&line, "NOOP ");
			while (line.len < lengths[k] - 2)
				str_add_char(&line, line.len % 100 ? 'x' : '\r'); /* bare CR: no end */
			if (lengths[k] <= LMTP_LINE_MAX)
				for (char *p = line.data; *p; p++)
					*p = *p == '\r' ? 'y' : *p;
			str_add(&line, "\r\nNOOP\r\n");
			c.input = line.data;
			c.len = line.len;
			c.replies = lengths[k] <= LMTP_LINE_MAX ? "220|250 2.0.0|250 2.0.0"
			                                        : "220|500 5.5.2|250 2.0.0";
			run_case(&c, chunks[i], NULL);
		}
	}
	str_free(&line);
}

/* A line that never ends takes no memory to speak of. */
static void test_endless_line(void **state)
{
	struct rig rig;
	struct rig_client client;
	char block[5000];

	(void)state;
	memset(block, 'a', sizeof(block));
	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &client);
	for (int i = 0; i < 1000; i++)
		rig_send(&rig, &client, block, sizeof(block));
	rig_say(&rig, &client, "\n\r\nNOOP\r\n");
	expect_replies(&client, "220|500 5.5.2|250 2.0.0");
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* --- many recipients, big messages -------------------------------------------------------------------------- */

static void test_recipient_limit(void **state)
{
	struct rig rig;
	struct rig_client client;
	struct str replies;

	(void)state;
	rig_init(&rig, NULL, NULL); /* max_recipients 20 */
	str_init(&replies);
	rig_connect(&rig, &client);
	rig_say(&rig, &client, LHLO MAIL);
	str_clear(&client.said);
	for (int i = 0; i < 25; i++)
		rig_say(&rig, &client, RCPT);
	rig_replies(&client, &replies);
	assert_non_null(strstr(replies.data, "250 2.1.5|452 4.5.3|452 4.5.3|452 4.5.3|452 4.5.3|452 4.5.3"));
	str_clear(&client.said);
	rig_say(&rig, &client, "DATA\r\n\r\n.\r\n");
	str_clear(&replies);
	rig_replies(&client, &replies);
	assert_int_equal(replies.len, 3 + 20 * 10);
	assert_int_equal(rig.spool.stored[0].message->deliveries[0].n_recipients, 20);
	str_free(&replies);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* 12,000 recipients in 3,000 domains: grouped, each with its reply, in order. */
static void test_many_recipients(void **state)
{
	struct rig rig;
	struct rig_client client;
	struct str commands;
	const struct message *m;
	uint32_t total = 0;

	(void)state;
	rig_init(
	        &rig, "{\"hostname\": \"mta1.example.net\", \"handoff\": {\"max_recipients\": 12000}}", NULL);
	str_init(&commands);
	str_add(&commands, LHLO MAIL);
	for (int i = 0; i < 12000; i++)
		str_printf(&commands, "RCPT TO:<u%d@D%d.example>\r\n", i, i % 3000);
	str_add(&commands, "RCPT TO:<one@too.example>\r\nDATA\r\n\r\n.\r\nNOOP\r\n");
	rig_connect(&rig, &client);
	rig_send(&rig, &client, commands.data, commands.len);
	assert_int_equal(rig.spool.n_stored, 1);
	m = rig.spool.stored[0].message;
	assert_int_equal(m->n_deliveries, 3000);
	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		char domain[20];

		snprintf(domain, sizeof(domain), "d%u.example", i);
		assert_string_equal(m->deliveries[i].domain, domain);
		assert_int_equal(m->deliveries[i].n_recipients, 4);
		total += m->deliveries[i].n_recipients;
	}
	assert_int_equal(total, 12000);
	assert_string_equal(m->deliveries[7].recipients[1].address, "u3007@D7.example");
	assert_non_null(strstr(client.said.data, "452 4.5.3"));
	assert_string_equal(client.said.data + client.said.len - 14, "250 2.0.0 Ok\r\n");
	str_free(&commands);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

static void send_body(struct rig *rig, struct rig_client *client, size_t bytes)
{
	char line[1000];

	memset(line, 'x', sizeof(line));
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	for (; bytes >= sizeof(line); bytes -= sizeof(line))
		rig_send(rig, client, line, sizeof(line));
	if (bytes >= 2)
		rig_send(rig, client, line + sizeof(line) - bytes, bytes);
	rig_say(rig, client, ".\r\n");
}

static void test_size_limit(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL); /* 1 MB */
	rig_connect(&rig, &client);
	rig_say(&rig, &client, LHLO "MAIL FROM:<a@b> SIZE=10\r\n" RCPT RCPT "DATA\r\n");
	send_body(&rig, &client, 1048577);
	expect_replies(&client, HELLO "|250 2.1.0|250 2.1.5|250 2.1.5|354|552 5.3.4|552 5.3.4");
	assert_int_equal(rig.spool.n_stored, 0);
	rig_say(&rig, &client, MAIL RCPT "DATA\r\n");
	send_body(&rig, &client, 1048576);
	expect_replies(&client, "250 2.1.0|250 2.1.5|354|" ACCEPTED);
	assert_int_equal(rig.spool.n_stored, 1);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* A client that sends commands and takes no replies is not read from any more, and comes to no harm. */
static void test_replies_not_taken(void **state)
{
	struct rig rig;
	struct rig_client client;
	char commands[4000];
	size_t sent = 0, n_replies = 0;

	(void)state;
	for (size_t i = 0; i + 5 < sizeof(commands); i += 6)
		memcpy(commands + i, "NOOP\r\n", 6);
	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &client);
	str_clear(&client.said);
	for (int stuck = 0; stuck < 3;) {
		ssize_t n = send(client.fd, commands, 3996, MSG_NOSIGNAL);

		rig_settle(&rig);
		stuck = n > 0 ? 0 : stuck + 1;
		sent += n > 0 ? (size_t)n : 0;
		assert_true(sent < 10 * 1000 * 1000);
	}
	rig_read(&rig, &client);
	for (size_t i = 0; i < client.said.len; i++)
		n_replies += client.said.data[i] == '\n';
	assert_int_equal(n_replies, sent / 6);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* --- what goes into the message ------------------------------------------------------------------------------ */

static void test_message(void **state)
{
	struct rig rig;
	struct rig_client client;
	const struct message *m;
	char text[ADDR_TEXT_SIZE];

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &client);
	rig_say(&rig, &client,
	        LHLO
	        "XFORWARD NAME=c.example ADDR=192.0.2.9 PORT=1\r\nXFORWARD PROTO=ESMTP HELO=helo.example\r\n"
	        "MAIL FROM:<@r.example:\"A B\"@Acme.Example> BODY=8BITMIME\r\nRCPT TO:<x@D.Example>\r\n"
	        "RCPT TO:<@r.example:y@d.example>\r\nRCPT TO:<z@E.example>\r\nDATA\r\n"
	        "A: b\r\n\r\n..\xff\r\n.\r\n");
	assert_int_equal(rig.spool.n_stored, 1);
	m = rig.spool.stored[0].message;
	assert_string_equal(m->sender, "\"A B\"@Acme.Example");
	assert_string_equal(m->client_name, "c.example");
	assert_string_equal(m->client_helo, "helo.example");
	assert_string_equal(m->client_proto, "ESMTP");
	assert_string_equal(addr_print(&m->client_addr, text), "192.0.2.9");
	assert_int_equal(m->flags, MESSAGE_8BIT | MESSAGE_DOT_LINES | MESSAGE_BODY_8BITMIME);
	assert_int_equal(m->received_wall_us, rig.clock.wall);
	assert_int_equal(m->id, 0x101);
	assert_int_equal(m->n_deliveries, 2);
	assert_string_equal(m->deliveries[0].target, "acme");
	assert_string_equal(m->deliveries[0].rule, "match_domain");
	assert_string_equal(m->deliveries[0].domain, "d.example");
	assert_int_equal(m->deliveries[0].n_recipients, 2);
	assert_string_equal(m->deliveries[0].recipients[0].address, "x@D.Example");
	assert_string_equal(m->deliveries[0].recipients[1].address, "y@d.example");
	assert_string_equal(m->deliveries[1].domain, "e.example");
	assert_string_equal(m->deliveries[1].recipients[0].address, "z@E.example");
	assert_int_equal(m->body_size, rig.spool.stored[0].len);
	assert_memory_equal(rig.spool.stored[0].body + m->header_size, ".\xff\r\n", 5);
	assert_non_null(strstr(rig.spool.stored[0].body,
	        "Received: from helo.example (c.example [192.0.2.9])\r\n\tby mta1.example.net (bindpost) "
	        "with LMTP id "
	        "0000000000000101;\r\n"));
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* What of it needs SMTPUTF8 is remembered: an address shows it, the header is gone when it is asked for. */
static void test_smtputf8_flags(void **state)
{
	static const struct {
		const char *parameter, *text;
		uint32_t flags;
	} sent[] = {
	        {"", "A: \xc3\xa4\r\n\r\nx", MESSAGE_8BIT},
	        {" SMTPUTF8", "A: x\r\n\r\nx", MESSAGE_SMTPUTF8},
	        {" SMTPUTF8", "A: x\r\n\r\n\xc3\xa4", MESSAGE_SMTPUTF8 | MESSAGE_8BIT},
	        {" SMTPUTF8", "A: x\r\nB: \xc3\xa4\r\n\r\nx",
	                MESSAGE_SMTPUTF8 | MESSAGE_8BIT | MESSAGE_UTF8_HEADER},
	        {" SMTPUTF8", "A: \xc3\xa4", MESSAGE_SMTPUTF8 | MESSAGE_8BIT | MESSAGE_UTF8_HEADER},
	};

	(void)state;
	for (size_t i = 0; i < array_len(sent); i++) {
		struct rig rig;
		struct rig_client client;
		char *say = mem_printf(LHLO "MAIL FROM:<a@b.example>%s\r\n" RCPT "DATA\r\n%s\r\n.\r\n",
		        sent[i].parameter, sent[i].text);

		rig_init(&rig, NULL, NULL);
		rig_connect(&rig, &client);
		rig_say(&rig, &client, say);
		assert_int_equal(rig.spool.n_stored, 1);
		assert_int_equal(rig.spool.stored[0].message->flags, sent[i].flags);
		rig_hang_up(&rig, &client);
		rig_free(&rig);
		mem_free(&say);
	}
}

/* REQUIRETLS, and the header field that asks for the contrary; the former wins (RFC 8689 4.1). */
static void test_tls_flags(void **state)
{
	static const struct {
		const char *parameter, *text;
		uint32_t flags;
	} sent[] = {
	        {"", "A: x\r\n\r\nTLS-Required: No\r\n", 0},
	        {" REQUIRETLS", "A: x\r\n\r\nx", MESSAGE_REQUIRETLS},
	        {"", "A: x\r\nTLS-Required: No\r\n\r\nx", MESSAGE_TLS_OPTIONAL},
	        {"", "tls-required:\r\n no \r\n\r\nx", MESSAGE_TLS_OPTIONAL},
	        {"", "TLS-Required: No", MESSAGE_TLS_OPTIONAL},
	        {" REQUIRETLS", "TLS-Required: No\r\n\r\nx", MESSAGE_REQUIRETLS},
	        {"", "TLS-Required: Yes\r\n\r\nx", 0},
	        {"", "TLS-Required: Nothing\r\n\r\nx", 0},
	        {"", "TLS-Required:\r\n\r\nx", 0},
	        {"", "TLS-Required: No\r\nTLS-Required: No\r\n\r\nx", 0},
	        {"", "TLS-Required: Yes\r\nTLS-Required: No\r\n\r\nx", 0},
	        {"", "TLS-Required No\r\nX-TLS-Required: No\r\n\r\nx", 0},
	};

	(void)state;
	for (size_t i = 0; i < array_len(sent); i++) {
		struct rig rig;
		struct rig_client client;
		char *say = mem_printf(LHLO "MAIL FROM:<a@b.example>%s\r\n" RCPT "DATA\r\n%s\r\n.\r\n",
		        sent[i].parameter, sent[i].text);

		rig_init(&rig, NULL, NULL);
		rig_connect(&rig, &client);
		rig_say(&rig, &client, say);
		assert_int_equal(rig.spool.n_stored, 1);
		if (rig.spool.stored[0].message->flags != sent[i].flags)
			fail_msg("%s: flags %x", sent[i].text, rig.spool.stored[0].message->flags);
		rig_hang_up(&rig, &client);
		rig_free(&rig);
		mem_free(&say);
	}
}

/* Facts of one transaction never reach the next. */
static void test_xforward_ends(void **state)
{
	static const char *const between[] = {MAIL RCPT "DATA\r\n\r\n.\r\n", "RSET\r\n", MAIL "RSET\r\n",
	        LHLO, MAIL RCPT "DATA\r\na\nb\r\n.\r\n", MAIL RCPT LHLO};

	(void)state;
	for (size_t i = 0; i < array_len(between); i++) {
		struct rig rig;
		struct rig_client client;
		const struct fake_stored *last;

		rig_init(&rig, NULL, NULL);
		rig_connect(&rig, &client);
		rig_say(&rig, &client,
		        LHLO "XFORWARD NAME=secret.example ADDR=192.0.2.9 HELO=secret PROTO=X\r\n");
		rig_say(&rig, &client, between[i]);
		rig_say(&rig, &client, MAIL RCPT "DATA\r\n\r\n.\r\n");
		assert_true(rig.spool.n_stored > 0);
		last = &rig.spool.stored[rig.spool.n_stored - 1];
		assert_null(strstr(last->body, "secret"));
		assert_null(last->message->client_name);
		assert_string_equal(last->message->client_helo, "mx.example");
		assert_string_equal(last->message->client_proto, "LMTP");
		assert_int_equal(last->message->client_addr.family, AF_UNSPEC);
		rig_hang_up(&rig, &client);
		rig_free(&rig);
	}
}

/* Real and forwarded facts are not mixed; local submission has no client at all. */
static void test_xforward_not_mixed(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig_connect_from(&rig, &client, "127.0.0.1");
	rig_say(&rig, &client, LHLO "XFORWARD HELO=only.helo\r\n" MAIL RCPT "DATA\r\n\r\n.\r\n");
	assert_null(rig.spool.stored[0].message->client_name);
	assert_int_equal(rig.spool.stored[0].message->client_addr.family, AF_UNSPEC);
	assert_string_equal(rig.spool.stored[0].message->client_helo, "only.helo");
	rig_say(&rig, &client, "XFORWARD NAME=x ADDR=[UNAVAILABLE] HELO=y\r\n" MAIL RCPT "DATA\r\n\r\n.\r\n");
	assert_null(rig.spool.stored[1].message->client_name);
	assert_null(rig.spool.stored[1].message->client_helo);
	assert_non_null(strstr(rig.spool.stored[1].body, "Received: from mx.example (local)"));
	rig_say(&rig, &client, MAIL RCPT "DATA\r\n\r\n.\r\n");
	assert_non_null(strstr(rig.spool.stored[2].body, "Received: from mx.example ([127.0.0.1])"));
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

static void test_relay_hosts(void **state)
{
	static const struct {
		const char *ip;
		bool allowed;
	} peers[] = {{"", true}, {"127.0.0.1", true}, {"127.9.9.9", true}, {"::1", true},
	        {"::ffff:127.0.0.1", true}, {"192.0.2.1", false}, {"2001:db8::1", false},
	        {"::ffff:192.0.2.1", false}};

	(void)state;
	for (size_t i = 0; i < array_len(peers); i++) {
		struct rig rig;
		struct rig_client client;

		rig_init(&rig, NULL, NULL);
		rig_connect_from(&rig, &client, peers[i].ip);
		rig_say(&rig, &client, LHLO "XFORWARD NAME=x\r\n" MAIL RCPT "NOOP\r\n");
		expect_replies(&client, peers[i].allowed ? HELLO "|250 2.0.0|250 2.1.0|250 2.1.5|250 2.0.0"
		                                         : HELLO "|550 5.7.1|550 5.7.1|503 5.5.1|250 2.0.0");
		rig_hang_up(&rig, &client);
		rig_free(&rig);
	}
}

/* Announced only to whom nobody can listen on the way: Unix socket and loopback */
static void test_requiretls_is_for_neighbours(void **state)
{
	static const struct {
		const char *ip;
		bool near;
	} peers[] = {{"", true}, {"127.0.0.1", true}, {"::1", true}, {"::ffff:127.0.0.1", true},
	        {"192.0.2.1", false}, {"2001:db8::1", false}};

	(void)state;
	for (size_t i = 0; i < array_len(peers); i++) {
		struct rig rig;
		struct rig_client client;

		rig_init(&rig, NULL, NULL);
		rig_connect_from(&rig, &client, peers[i].ip);
		rig_say(&rig, &client, LHLO);
		assert_int_equal(strstr(client.said.data, "250-REQUIRETLS\r\n") != NULL, peers[i].near);
		str_clear(&client.said);
		rig_say(&rig, &client, "MAIL FROM:<a@b.example> REQUIRETLS\r\n");
		if (!peers[i].near)
			assert_string_equal(client.said.data, "555 5.5.4 Parameter not recognised\r\n");
		else
			assert_memory_equal(client.said.data, "250 2.1.0", 9);
		rig_hang_up(&rig, &client);
		rig_free(&rig);
	}
}

/* The MTA in front goes on with the next transaction only after the replies to this one. */
static void test_order_while_storing(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	for (int which = 0; which < 2; which++) {
		rig_init(&rig, NULL, NULL);
		rig.spool.hold_bodies = which == 0;
		rig.spool.hold_adds = which == 1;
		rig_connect(&rig, &client);
		rig_say(&rig, &client, BEGIN "\r\none\r\n.\r\n" MAIL RCPT "DATA\r\n\r\ntwo\r\n.\r\nNOOP\r\n");
		expect_replies(&client, BEGUN);
		rig_say(&rig, &client, "NOOP\r\n"); /* not even read */
		fake_spool_release(&rig.spool);
		rig_read(&rig, &client);
		expect_replies(&client, ACCEPTED "|250 2.1.0|250 2.1.5|354");
		fake_spool_release(&rig.spool);
		rig_read(&rig, &client);
		expect_replies(&client, ACCEPTED "|250 2.0.0|250 2.0.0");
		assert_int_equal(rig.spool.n_stored, 2);
		rig_hang_up(&rig, &client);
		rig_free(&rig);
	}
}

/* The client goes: whatever the state, nothing is left behind, and what the spool has is finished. */
static void test_client_vanishes(void **state)
{
	static const char whole[] = LHLO "XFORWARD NAME=x\r\n" MAIL RCPT
	                                 "DATA\r\nX-Binding: acme\r\nA: b\r\n\r\n..x\r\n.\r\n" MAIL;

	(void)state;
	for (size_t cut = 0; cut < sizeof(whole); cut++) {
		struct rig rig;
		struct rig_client client;

		rig_init(&rig, NULL, NULL);
		rig.spool.hold_bodies = cut % 3 == 0;
		rig.spool.hold_adds = cut % 3 == 1;
		rig_connect(&rig, &client);
		rig_send(&rig, &client, whole, cut);
		rig_hang_up(&rig, &client);
		fake_spool_release(&rig.spool);
		rig_settle(&rig);
		fake_spool_release(&rig.spool);
		rig_settle(&rig);
		assert_int_equal(rig.shared.sessions, 0);
		assert_int_equal(rig.spool.n_stored, cut >= sizeof(whole) - sizeof(MAIL) ? 1 : 0);
		rig_free(&rig);
	}
}

/* A handoff that is freed with all of it under way */
static void test_freed_in_the_middle(void **state)
{
	struct rig rig;
	struct rig_client clients[4];

	(void)state;
	rig_init(&rig, NULL, NULL);
	for (int i = 0; i < 4; i++)
		rig_connect(&rig, &clients[i]);
	rig_say(&rig, &clients[1], LHLO MAIL RCPT);
	rig_say(&rig, &clients[2], BEGIN "abc");
	rig.spool.hold_adds = true;
	rig_say(&rig, &clients[3], BEGIN ".\r\n");
	handoff_free(&rig.handoff);
	for (int i = 0; i < 4; i++)
		rig_hang_up(&rig, &clients[i]);
	rig_free(&rig);
}

/* Two sessions at once: neither waits for the other. */
static void test_sessions_are_apart(void **state)
{
	struct rig rig;
	struct rig_client a, b;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &a);
	rig_connect(&rig, &b);
	rig_say(&rig, &a, LHLO "XFORWARD NAME=a.example\r\n" MAIL RCPT "DATA\r\nfrom a");
	rig.spool.hold_adds = true;
	rig_say(&rig, &b, BEGIN "from b\r\n.\r\n");
	expect_replies(&b, BEGUN);
	rig.spool.hold_adds = false;
	rig_say(&rig, &a, "\r\n.\r\n");
	expect_replies(&a, HELLO "|250 2.0.0|250 2.1.0|250 2.1.5|354|" ACCEPTED);
	fake_spool_release(&rig.spool);
	rig_read(&rig, &b);
	expect_replies(&b, ACCEPTED);
	assert_string_equal(without_trace(&rig.spool.stored[0]), "from a\r\n");
	assert_string_equal(without_trace(&rig.spool.stored[1]), "from b\r\n");
	rig_hang_up(&rig, &a);
	rig_hang_up(&rig, &b);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_announced),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_overlong_lines),
        cmocka_unit_test(test_endless_line),
        cmocka_unit_test(test_recipient_limit),
        cmocka_unit_test(test_many_recipients),
        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_replies_not_taken),
        cmocka_unit_test(test_message),
        cmocka_unit_test(test_smtputf8_flags),
        cmocka_unit_test(test_tls_flags),
        cmocka_unit_test(test_xforward_ends),
        cmocka_unit_test(test_xforward_not_mixed),
        cmocka_unit_test(test_relay_hosts),
        cmocka_unit_test(test_requiretls_is_for_neighbours),
        cmocka_unit_test(test_order_while_storing),
        cmocka_unit_test(test_client_vanishes),
        cmocka_unit_test(test_freed_in_the_middle),
        cmocka_unit_test(test_sessions_are_apart),
};

TEST_MAIN("handoff_session", tests)
