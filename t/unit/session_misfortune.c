/*
 * Every misfortune in every state of an outgoing session: what each job comes back as, when, and how the session ends.
 *
 * The rows are states, the columns what the peer does there. A column is one of a few kinds, and what must come of a
 * kind in a state stands in the table `expected`.
 */
#include "t/lib/session_rig.h"
#include "t/lib/test.h"

#define BODY "Subject: x\r\n\r\nHello\r\n"

enum kind { K_4YZ, K_5YZ, K_421, K_LOST, K_TIMEOUT, K_NOT_SMTP, K_WRONG, K_EXTRA, N_KINDS };

static const struct misfortune {
	const char *name, *actions; /* of K_EXTRA: put behind the good reply */
	enum kind kind;
} misfortunes[] = {
        {"450", "450 4.7.1 later", K_4YZ},
        {"450 in two lines", "450-4.7.1 wait\\n450 4.7.1 later", K_4YZ},
        {"450 in two pieces", "send 450 4.7; wait 1; send .1 later\\r\\n", K_4YZ},
        {"250- but 450", "250-2.0.0 fine\\n450 4.7.1 later", K_4YZ},
        {"550", "550 5.7.1 no", K_5YZ},
        {"550 without text", "send 550\\r\\n", K_5YZ},
        {"550 with bare LF", "send 550 no\\n", K_5YZ},
        {"421", "421 4.3.2 closing; close", K_421},
        {"421, not closed", "421 4.3.2 closing", K_421},
        {"closed", "close", K_LOST},
        {"reset", "reset", K_LOST},
        {"half a reply, closed", "send 25; close", K_LOST},
        {"half a line, closed", "send 250 fi; close", K_LOST},
        {"half a multi-line reply, closed", "250-one\\n250-two; close", K_LOST},
        {"half a reply, reset", "send 25; reset", K_LOST},
        {"silent", "silent", K_TIMEOUT},
        {"half a reply, silent", "send 250; silent", K_TIMEOUT},
        {"half a multi-line reply, silent", "250-one; silent", K_TIMEOUT},
        {"trickle",
                "trickle 250 this takes longer than anybody waits for a reply, although something always "
                "comes\\r\\n",
                K_TIMEOUT},
        {"trickle of lines",
                "trickle "
                "250-a\\r\\n250-b\\r\\n250-c\\r\\n250-d\\r\\n250-e\\r\\n250-f\\r\\n250-g\\r\\n250-h\\r\\n250-"
                "i\\r\\n250 j\\r\\n",
                K_TIMEOUT},
        {"words", "send hello\\r\\n", K_NOT_SMTP},
        {"empty line", "send \\r\\n", K_NOT_SMTP},
        {"two digits", "send 25\\r\\n", K_NOT_SMTP},
        {"two digits and a letter", "send 25o fine\\r\\n", K_NOT_SMTP},
        {"first digit 1", "send 150 wait\\r\\n", K_NOT_SMTP},
        {"first digit 6", "send 650 what\\r\\n", K_NOT_SMTP},
        {"blank before", "send  250 fine\\r\\n", K_NOT_SMTP},
        {"NUL", "send \\0250 fine\\r\\n", K_NOT_SMTP},
        {"second line without digits", "send 250-fine\\r\\nand so on\\r\\n250 fine\\r\\n", K_NOT_SMTP},
        {"endless lines", "endless 250-and so on\\r\\n", K_NOT_SMTP},
        {"endless line", "endless 250 and so on without an end", K_NOT_SMTP},
        {"endless digits", "endless 2", K_NOT_SMTP},
        {"TLS", "send \\x16\\x03\\x01\\x02\\0\\x01", K_NOT_SMTP},
        {"3yz", "334 go on", K_WRONG},
        {"an extra reply", "250 and another", K_EXTRA},
        {"half an extra reply", "send 25", K_EXTRA},
        {"extra words", "send hello\\r\\n", K_EXTRA},
};

struct row {
	const char *name;
	const char *lines[4];     /* the script that leads there */
	const char *point, *good; /* where it happens; the reply that would be right */
	bool lmtp;
	unsigned timeout;
	enum outcome_state state;      /* of what went wrong */
	const char *expected[N_KINDS]; /* NULL = does not apply */
};

/* As in the rows: 4YZ, 5YZ, 421, LOST, TIMEOUT, NOT_SMTP, WRONG, EXTRA */
#define ALL(text) text, text, text, text, text, text, text, text
#define LOST_ "ready done:transient/lost failed"
#define PLAIN "EHLO: 250 mx.test"

static const struct row rows[] = {
        {"banner", {NULL}, "CONNECT", "220 mx.test", false, 31, STATE_BANNER, {ALL("back/lost failed")}},
        {"EHLO", {NULL}, "EHLO", "250 mx.test", false, 31, STATE_EHLO,
                {"back/lost failed", "ready want done:ok", "back/lost failed", "back/lost failed",
                        "back/lost failed", "back/lost failed", "back/lost failed", NULL}},
        {"HELO", {"EHLO: 502 no"}, "HELO", "250 mx.test", false, 31, STATE_EHLO,
                {"back/lost failed", "back/lost failed", "back/lost failed", "back/lost failed",
                        "back/lost failed", "back/lost failed", "back/lost failed", NULL}},
        {"LHLO", {NULL}, "LHLO", "250 mx.test", true, 31, STATE_EHLO,
                {"back/lost failed", "back/lost failed", "back/lost failed", "back/lost failed",
                        "back/lost failed", "back/lost failed", "back/lost failed", NULL}},
        {"MAIL", {PLAIN}, "MAIL", "250 ok", false, 32, STATE_MAIL,
                {"ready done:transient", "ready done:permanent", LOST_, LOST_, LOST_, LOST_, LOST_, LOST_}},
        {"MAIL with PIPELINING", {NULL}, "MAIL", "250 ok", false, 32, STATE_MAIL,
                {"ready done:transient", "ready done:permanent", LOST_, LOST_, LOST_, LOST_, LOST_, NULL}},
        {"RCPT", {PLAIN}, "RCPT", "250 ok", false, 33, STATE_RCPT,
                {"ready done:transient", "ready done:permanent", LOST_, LOST_, LOST_, LOST_, LOST_, LOST_}},
        {"RCPT with PIPELINING", {NULL}, "RCPT", "250 ok", false, 33, STATE_RCPT,
                {"ready done:transient", "ready done:permanent", LOST_, LOST_, LOST_, LOST_, LOST_, NULL}},
        {"DATA", {PLAIN}, "DATA", "354 go", false, 34, STATE_DATA,
                {"ready done:transient", "ready done:permanent", LOST_, LOST_, LOST_, LOST_, LOST_, NULL}},
        {"DATA with PIPELINING", {NULL}, "DATA", "354 go", false, 34, STATE_DATA,
                {"ready done:transient", "ready done:permanent", LOST_, LOST_, LOST_, LOST_, LOST_, NULL}},
        {"end of data", {NULL}, "DOT", "250 ok", false, 600, STATE_DOT,
                {"ready want done:transient", "ready want done:permanent",
                        "ready want done:transient/lost failed", "ready want done:uncertain failed",
                        "ready want done:uncertain failed", "ready want done:uncertain failed",
                        "ready want done:transient failed", "ready want done:ok failed"}},
        {"end of data of LMTP", {NULL}, "DOT", "250 ok", true, 600, STATE_DOT,
                {"ready want done:transient", "ready want done:permanent", "ready want done:transient failed",
                        "ready want done:uncertain failed", "ready want done:uncertain failed",
                        "ready want done:uncertain failed", "ready want done:transient failed",
                        "ready want done:ok failed"}},
        {"RSET", {"RCPT: 450 4.2.2 full"}, "RSET", "250 ok", false, 36, STATE_MAIL,
                {"ready done:transient failed", "ready done:transient failed", "ready done:transient failed",
                        "ready done:transient failed", "ready done:transient failed",
                        "ready done:transient failed", "ready done:transient failed",
                        "ready done:transient failed"}},
        {"a message for nobody", {"RCPT: 550 5.1.1 nobody", "DATA: 354 all the same"}, "DOT", "250 ok", false,
                34, STATE_DATA,
                {"ready done:permanent", "ready done:permanent", "ready done:permanent failed",
                        "ready done:permanent failed", "ready done:permanent failed",
                        "ready done:permanent failed", "ready done:permanent",
                        "ready done:permanent failed"}},
};

/* Runs one cell up to the misfortune and beyond; the caller looks at what came of it. */
static void cell_run(struct rig *r, const struct row *row, const struct misfortune *m)
{
	char line[512];
	unsigned i;

	rig_init(r);
	if (row->lmtp)
		r->profile.o.delivery_method = DELIVERY_LMTP;
	for (i = 0; i < 4 && row->lines[i]; i++)
		assert_true(scripted_mx_line(r->mx, row->lines[i]));
	if (m->kind == K_EXTRA)
		snprintf(line, sizeof(line), "%s/1: %s; %s", row->point, row->good, m->actions);
	else
		snprintf(line, sizeof(line), "%s/1: %s", row->point, m->actions);
	assert_true(scripted_mx_line(r->mx, line));
	rig_open(r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(r);
}

static void check_ended(struct rig *r, const struct row *row, const struct misfortune *m)
{
	bool failed = strstr(r->story.data, "failed") != NULL;

	if (!failed)
		return;
	assert_int_equal(r->why.class, OUTCOME_TRANSIENT);
	assert_true(r->why.reply[0] != '\0' || r->why.code != 0);
	if (row->state == STATE_BANNER && r->why.state == STATE_CONNECT) { /* reset before we looked */
		assert_int_equal(m->kind, K_LOST);
		return;
	}
	if (m->kind != K_EXTRA && !(m->kind == K_TIMEOUT && row->state == STATE_DOT))
		if (r->why.state != row->state)
			fail_msg("%s, %s: state %s", row->name, m->name, outcome_state_name(r->why.state));
	switch (m->kind) {
	case K_421:
		assert_int_equal(r->why.code, 421);
		assert_false(r->why.ours);
		break;
	case K_LOST:
	case K_TIMEOUT:
		assert_string_equal(r->why.enhanced, "4.4.2");
		break;
	case K_NOT_SMTP:
		assert_string_equal(r->why.enhanced, "4.5.0");
		break;
	default:
		break;
	}
}

static void cell_check(const struct row *row, const struct misfortune *m, unsigned jitter)
{
	const char *expected = row->expected[m->kind];
	struct rig r;

	cell_run(&r, row, m);
	if (m->kind == K_TIMEOUT) {
		rig_advance(&r, row->timeout - 1 - jitter);
		if (strstr(r.story.data, "failed") || r.closed)
			fail_msg("%s, %s: too early: %s", row->name, m->name, r.story.data);
		rig_advance(&r, 1 + jitter);
	} else {
		rig_advance(&r, 1); /* what comes in two pieces */
		if (strstr(expected, "failed"))
			rig_advance(&r, 5); /* 421 and no close, QUIT and no close: then reset */
	}
	if (strcmp(r.story.data, expected) != 0)
		fail_msg("%s, %s: %s instead of %s (%s)", row->name, m->name, r.story.data, expected,
		        scripted_mx_log(r.mx));
	check_ended(&r, row, m);
	if (r.closed)
		assert_int_equal(scripted_mx_open(r.mx), 0);
	rig_end(&r);
}

static void test_matrix(void **state)
{
	unsigned i, j;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (j = 0; j < sizeof(misfortunes) / sizeof(misfortunes[0]); j++) {
			/* at rest half a reply is waited for: test_idle */
			bool rest = strcmp(rows[i].point, "DOT") == 0 || strcmp(rows[i].point, "RSET") == 0;

			if (rest && strcmp(misfortunes[j].name, "half an extra reply") == 0)
				continue;
			if (rows[i].expected[misfortunes[j].kind])
				cell_check(&rows[i], &misfortunes[j], 0);
		}
	}
}

/* Cancelled by us, in every state in which a reply is awaited. */
static void test_quit_in_every_state(void **state)
{
	static const struct misfortune silent = {"silent", "silent", K_TIMEOUT};
	unsigned i;
	struct rig r;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool begun = i >= 4;

		cell_run(&r, &rows[i], &silent);
		session_quit(r.session);
		session_quit(r.session); /* once more does no harm */
		rig_run(&r);
		if (!begun)
			rig_advance(&r, 5); /* for the close after QUIT, then reset */
		else
			rig_advance(&r, rows[i].timeout);
		assert_int_equal(r.closed, 1);
		if (!begun)
			assert_string_equal(r.story.data, "back closed");
		else
			assert_string_equal(r.story.data, rows[i].expected[K_TIMEOUT]);
		assert_int_equal(scripted_mx_open(r.mx), 0);
		rig_end(&r);
	}
}

/* The daemon stops, in every state. */
static void test_stop_in_every_state(void **state)
{
	static const struct misfortune silent = {"silent", "silent", K_TIMEOUT};
	unsigned i;
	struct rig r;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool dot = rows[i].state == STATE_DOT;

		cell_run(&r, &rows[i], &silent);
		session_net_stop(
		        r.net, loop_now_us(r.loop) + 30 * SECOND_US, loop_now_us(r.loop) + 60 * SECOND_US);
		rig_run(&r);
		rig_advance(&r, 29);
		if (i < 4)
			assert_string_equal(r.story.data, "back closed");
		else
			assert_int_equal(r.closed, 0);
		rig_advance(&r, 1);
		assert_int_equal(r.closed, dot ? 0 : 1);
		rig_advance(&r, 29);
		assert_int_equal(r.closed, dot ? 0 : 1);
		rig_advance(&r, 1);
		assert_int_equal(r.closed, 1);
		if (dot) {
			assert_string_equal(r.story.data, "ready want done:uncertain failed");
		} else if (rows[i].state != STATE_EHLO && rows[i].state != STATE_BANNER) {
			/* the running transaction costs nothing: it is we who stop */
			bool over = strncmp(r.story.data, "ready done:", 11) == 0;

			if (!over)
				assert_string_equal(r.story.data, "ready back failed");
		}
		rig_end(&r);
	}
}

/* A connection that has been of use fails the second message: what it costs it. */
static void test_second_message(void **state)
{
	static const struct {
		const char *line, *story;
	} cases[] = {
	        /* gone before anything was said about it: costs nothing */
	        {"MAIL/2: 421 4.3.2 closing; close", "back failed"},
	        {"MAIL/2: 421 4.3.2 closing", "back failed"},
	        {"MAIL/2: close", "back failed"},
	        {"MAIL/2: reset", "back failed"},
	        {"MAIL/2: send 421 clos; close", "back failed"},
	        {"IDLE/1: wait 1; close", "back closed|back failed"},
	        {"IDLE/1: wait 1; reset", "back closed|back failed"},
	        {"IDLE/1: wait 1; 421 4.3.2 idle too long; close", "back closed|back failed"},
	        {"IDLE/1: wait 1; 421 4.3.2 idle too long", "back closed|back failed"},
	        /* anything else is an attempt, and for the next MX */
	        {"MAIL/2: silent", "done:transient/lost failed"},
	        {"MAIL/2: send what\\r\\n", "done:transient/lost failed"},
	        {"RCPT/2: 421 4.3.2 closing; close", "done:transient/lost failed"},
	        {"RCPT/2: close", "done:transient/lost failed"},
	        {"DATA/2: close", "done:transient/lost failed"},
	        {"DATA/2: 250 what", "done:transient/lost failed"},
	        {"DOT/2: close", "want done:uncertain failed"},
	        {"DOT/2: 421 4.3.2 closing; close", "want done:transient/lost failed"},
	};
	struct rig r;
	unsigned i, piped, at_hand;

	(void)state;
	for (i = 0; i < 4 * sizeof(cases) / sizeof(cases[0]); i++) {
		const char *line = cases[i / 4].line;

		piped = i % 2;
		at_hand = i / 2 % 2 && *line != 'I';
		rig_init(&r);
		if (!piped)
			scripted_mx_line(r.mx, PLAIN);
		scripted_mx_line(r.mx, line);
		if (at_hand)
			rig_give(&r, rig_job("a@acme.test", "y@example.test", BODY));
		rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&r);
		if (!at_hand) {
			assert_non_null(r.session);
			session_job(r.session, rig_job("a@acme.test", "y@example.test", BODY));
			if (*line == 'I') /* at the same moment */
				fake_clock_advance(&r.clock, SECOND_US);
			rig_run(&r);
		}
		rig_advance(&r, 40);
		rig_advance(&r, *line == 'D' ? 600 : 0);
		assert_true(strncmp(r.story.data, "ready want done:ok ", 19) == 0);
		if (!strstr(cases[i / 4].story, r.story.data + 19))
			fail_msg("%s: %s", line, r.story.data);
		if (strstr(r.story.data, "back"))
			assert_int_equal(r.jobs[1]->outcomes[0].class, OUTCOME_NONE);
		assert_int_equal(r.completed, 1);
		rig_end(&r);
	}
}

/* What the peer says or does while nothing is under way. */
static void test_idle(void **state)
{
	static const struct {
		const char *line, *story;
	} cases[] = {
	        {"IDLE/1: 421 4.3.2 idle too long; close", "closed"},
	        {"IDLE/1: 421 4.3.2 idle too long", "closed"},
	        {"IDLE/1: close", "closed"},
	        {"IDLE/1: reset", "closed"},
	        {"IDLE/1: send 421 closi; close", "closed"},
	        {"IDLE/1: send 421 closi", "closed"}, /* idle_timeout */
	        {"IDLE/1: 250 and another", "failed"},
	        {"IDLE/1: wait 1; 250 and another", "failed"},
	        {"IDLE/1: 550 5.7.1 changed my mind", "failed"},
	        {"IDLE/1: send hello\\r\\n", "failed"},
	        {"IDLE/1: endless 250-x\\r\\n", "failed"},
	};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, cases[i].line);
		rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&r);
		rig_advance(&r, 13);
		assert_true(strncmp(r.story.data, "ready want done:ok ", 19) == 0);
		assert_string_equal(r.story.data + 19, cases[i].story);
		assert_int_equal(r.completed, 1);
		rig_end(&r);
	}
}

/* Before it was of any use, a connection that goes away counts against the host. */
static void test_gone_behind_ehlo(void **state)
{
	static const char *const lines[] = {"EHLO: 250 mx.test; 421 4.3.2 not today; close",
	        "EHLO: 250 mx.test; close", "EHLO: 250 mx.test; 250 and another"};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < 3; i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, lines[i]);
		rig_open(&r, NULL);
		rig_run(&r);
		rig_advance(&r, 6);
		assert_string_equal(r.story.data, "ready failed");
		assert_int_equal(r.completed, 0);
		rig_end(&r);
		rig_init(&r);
		scripted_mx_line(r.mx, lines[i]);
		rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&r);
		rig_advance(&r, 6);
		if (i == 1) /* MAIL was out when the close was read */
			assert_string_equal(r.story.data, "ready done:transient/lost failed");
		else
			assert_string_equal(r.story.data, "ready back/lost failed");
		rig_end(&r);
	}
}

/* A job that waits behind a failed one comes back untouched. */
static void test_jobs_behind(void **state)
{
	static const struct {
		const char *line, *story;
	} cases[] = {
	        {"CONNECT: close", "back/lost back/lost failed"},
	        {"MAIL: close", "ready done:transient/lost back/lost failed"},
	        {"RCPT: 421 no", "ready done:transient/lost back/lost failed"},
	        {"DOT: close", "ready want done:uncertain back/lost failed"},
	        {"RCPT/1: 550 5.1.1 nobody", "ready done:permanent want done:ok"},
	        {"RSET: close", "ready want done:ok want done:ok"},
	};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, cases[i].line);
		rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
		session_job(r.session, rig_job("a@acme.test", "y@example.test", BODY));
		rig_run(&r);
		rig_advance(&r, 6);
		assert_string_equal(r.story.data, cases[i].story);
		rig_end(&r);
	}
}

/* A job given to a session that has ended meanwhile comes back before on_closed. */
static void test_job_meets_the_end(void **state)
{
	struct rig r;
	unsigned turns;

	(void)state;
	for (turns = 0; turns < 12; turns++) {
		unsigned i;

		rig_init(&r);
		scripted_mx_line(r.mx, "CONNECT: refuse");
		rig_open(&r, NULL);
		for (i = 0; i < turns && r.session; i++)
			loop_step(r.loop);
		if (r.session) {
			session_job(r.session, rig_job("a@acme.test", "y@example.test", BODY));
			session_no_job(r.session);
			session_quit(r.session);
			rig_run(&r);
			if (strcmp(r.story.data, "back/lost failed") != 0)
				assert_string_equal(r.story.data, turns == 0 ? "back closed" : "back failed");
		}
		assert_int_equal(r.closed, 1);
		rig_end(&r);
	}
}

/* --- while the message is on its way --------------------------------------------------------------- */

static struct session_job *waiting_job(struct body **body)
{
	*body = fake_body_new(BODY, strlen(BODY));
	fake_body_wait_at(*body, 5);
	return rig_job_body("a@acme.test", "x@example.test", *body, 0);
}

static void test_early_reply(void **state)
{
	static const struct {
		const char *line, *story;
		unsigned code;
	} cases[] = {
	        {"BODY: 552 5.3.4 too big", "ready done:permanent closed", 552},
	        {"BODY: 552 5.3.4 too big; close", "ready done:permanent closed", 552},
	        {"BODY: 452 4.3.1 full", "ready done:transient closed", 452},
	        {"BODY: 421 4.3.2 closing", "ready done:transient/lost failed", 421},
	        {"BODY: 421 4.3.2 closing; close", "ready done:transient/lost failed", 421},
	        {"BODY: 250 2.0.0 taken already", "ready done:transient/lost failed", 451},
	        {"BODY: 354 still here", "ready done:transient/lost failed", 451},
	        {"BODY: send hello\\r\\n", "ready done:transient/lost failed", 451},
	        {"BODY: endless 552-\\r\\n", "ready done:transient/lost failed", 451},
	        {"BODY: close", "ready done:transient/lost failed", 451},
	        {"BODY: reset", "ready done:transient/lost failed", 451},
	        {"BODY: send 55; close", "ready done:transient/lost failed", 451},
	};
	struct body *body;
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, cases[i].line);
		rig_open(&r, waiting_job(&body));
		rig_run(&r);
		rig_advance(&r, 6);
		assert_string_equal(r.story.data, cases[i].story);
		assert_int_equal(r.jobs[0]->outcomes[0].code, cases[i].code);
		assert_int_equal(r.jobs[0]->outcomes[0].state, STATE_DATA);
		assert_int_equal(scripted_mx_n_mails(r.mx), 0);
		rig_end(&r);
	}
}

/* The same in the middle of so much that the sockets are full, and the peer closes with bytes unread: RST. */
static void test_refused_in_full_flow(void **state)
{
	struct str text;
	struct rig r;

	(void)state;
	str_init(&text);
	while (text.len < 16 * 1024 * 1024)
		str_add(&text, "a line of a long message\r\n");
	rig_init(&r);
	scripted_mx_line(r.mx, "BODY: 552 5.3.4 too big; close");
	rig_open(&r, rig_job_body("a@acme.test", "x@example.test", fake_body_new(text.data, text.len), 0));
	rig_run(&r);
	assert_string_equal(r.story.data, "ready done:permanent closed");
	assert_int_equal(r.jobs[0]->outcomes[0].code, 552);
	rig_end(&r);
	rig_init(&r);
	scripted_mx_line(r.mx, "BODY: stall");
	rig_open(&r, rig_job_body("a@acme.test", "x@example.test", fake_body_new(text.data, text.len), 0));
	rig_run(&r);
	rig_advance(&r, 34);
	assert_string_equal(r.story.data, "ready");
	rig_advance(&r, 1);
	assert_string_equal(r.story.data, "ready done:transient/lost failed");
	assert_string_equal(r.why.enhanced, "4.4.2");
	rig_end(&r);
	str_free(&text);
}

static void test_body_fails(void **state)
{
	struct body *body;
	struct rig r;
	unsigned at;

	(void)state;
	for (at = 0; at <= strlen(BODY); at += 5) {
		body = fake_body_new(BODY, strlen(BODY));
		fake_body_fail_at(body, at);
		rig_init(&r);
		rig_open(&r, rig_job_body("a@acme.test", "x@example.test", body, 0));
		session_job(r.session, rig_job("a@acme.test", "y@example.test", BODY));
		rig_run(&r);
		assert_string_equal(r.story.data, "ready done:transient back failed");
		assert_string_equal(r.jobs[0]->outcomes[0].enhanced, "4.3.0");
		assert_true(r.jobs[0]->outcomes[0].ours);
		assert_int_equal(scripted_mx_n_mails(r.mx), 0);
		rig_end(&r);
	}
}

/* A body shorter than recorded must not end as if it were whole; of a longer one no more is sent than announced. */
static void test_body_size_is_wrong(void **state)
{
	struct body *body = fake_body_new(BODY, strlen(BODY));
	struct rig r;

	(void)state;
	fake_body_claim(body, strlen(BODY) + 7);
	rig_init(&r);
	rig_open(&r, rig_job_body("a@acme.test", "x@example.test", body, 0));
	rig_run(&r);
	assert_string_equal(r.story.data, "ready done:transient failed");
	assert_int_equal(scripted_mx_n_mails(r.mx), 0);
	rig_end(&r);
}

static void test_spool_is_silent(void **state)
{
	struct body *body;
	struct rig r;

	(void)state;
	rig_init(&r);
	rig_open(&r, waiting_job(&body));
	rig_run(&r);
	rig_advance(&r, 35);
	assert_string_equal(r.story.data, "ready done:transient failed");
	assert_string_equal(r.why.enhanced, "4.3.0");
	rig_end(&r);
}

/* Every wait is within its own time, the whole is not. */
static void test_transaction_timeout(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	r.profile.o.transaction_timeout_s = 60;
	scripted_mx_line(r.mx, PLAIN);
	scripted_mx_line(r.mx, "RCPT: wait 20; 250 ok");
	rig_open(&r, rig_job("a@acme.test", "a@x.test b@x.test c@x.test d@x.test", BODY));
	rig_run(&r);
	rig_advance(&r, 59);
	assert_string_equal(r.story.data, "ready");
	rig_advance(&r, 1);
	assert_string_equal(r.story.data, "ready done:transient,transient,transient,transient/lost failed");
	rig_end(&r);
}

/* The recipients that have their answer keep it when the connection goes. */
static void test_partial_answers(void **state)
{
	struct rig r;
	unsigned piped;

	(void)state;
	for (piped = 0; piped < 2; piped++) {
		rig_init(&r);
		if (!piped)
			scripted_mx_line(r.mx, PLAIN);
		scripted_mx_line(r.mx, "RCPT b@: 550 5.1.1 nobody");
		scripted_mx_line(r.mx, "RCPT c@: 450 4.2.1 later");
		scripted_mx_line(r.mx, "RCPT d@: 421 4.3.2 enough; close");
		rig_open(&r, rig_job("s@acme.test", "a@x.test b@x.test c@x.test d@x.test e@x.test", BODY));
		rig_run(&r);
		assert_string_equal(r.story.data,
		        "ready done:transient,permanent,transient,transient,transient/lost failed");
		assert_true(r.jobs[0]->outcomes[0].lost);
		assert_int_equal(r.jobs[0]->outcomes[0].code, 421);
		assert_false(r.jobs[0]->outcomes[1].lost);
		assert_false(r.jobs[0]->outcomes[2].lost);
		assert_int_equal(r.jobs[0]->outcomes[2].code, 450);
		assert_true(r.jobs[0]->outcomes[3].lost);
		assert_true(r.jobs[0]->outcomes[4].lost);
		rig_end(&r);
	}
}

/* The lease lasts until the peer's close is read. */
static void test_close_after_quit(void **state)
{
	static const struct {
		const char *line;
		unsigned seconds;
	} cases[] = {
	        {"QUIT: 221 bye; close", 0},
	        {"QUIT: close", 0},
	        {"QUIT: reset", 0},
	        {"QUIT: 221 bye; wait 3; close", 3},
	        {"QUIT: 221 bye", 5},
	        {"QUIT: silent", 5},
	        {"QUIT: 421 me too", 5},
	        {"QUIT: 500 what?", 5},
	        {"QUIT: send hello", 5},
	        {"QUIT: trickle 221 bye bye bye bye\\r\\n", 5},
	        {"QUIT: endless 221-bye\\r\\n", 0},
	};
	struct rig r;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_init(&r);
		scripted_mx_line(r.mx, cases[i].line);
		rig_open(&r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&r);
		session_quit(r.session);
		rig_run(&r);
		if (cases[i].seconds > 0) {
			rig_advance(&r, cases[i].seconds - 1);
			assert_int_equal(r.closed, 0);
			assert_int_equal(scripted_mx_open(r.mx), 1);
			rig_advance(&r, 1);
		}
		assert_string_equal(r.story.data, "ready want done:ok closed");
		assert_int_equal(scripted_mx_open(r.mx), 0);
		rig_end(&r);
	}
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_quit_in_every_state),
        cmocka_unit_test(test_stop_in_every_state),
        cmocka_unit_test(test_second_message),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_gone_behind_ehlo),
        cmocka_unit_test(test_jobs_behind),
        cmocka_unit_test(test_job_meets_the_end),
        cmocka_unit_test(test_early_reply),
        cmocka_unit_test(test_refused_in_full_flow),
        cmocka_unit_test(test_body_fails),
        cmocka_unit_test(test_body_size_is_wrong),
        cmocka_unit_test(test_spool_is_silent),
        cmocka_unit_test(test_transaction_timeout),
        cmocka_unit_test(test_partial_answers),
        cmocka_unit_test(test_close_after_quit),
};
TEST_MAIN("session_misfortune", tests)
