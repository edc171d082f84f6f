/*
 * STARTTLS: when it is done, what is sent over it, what a failure comes to. No misfortune of TLS ends in clear text
 * where the operator did not allow it.
 */
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <unistd.h>
#include "base/mem.h"
#include "session/smtp_session.h"
#include "t/lib/session_rig.h"
#include "t/lib/test.h"
#include "t/lib/tls_certs.h"

#define BODY "Subject: x\r\n\r\nHello\r\n"
#define SENT "MAIL FROM:<a@acme.test> SIZE=21|RCPT TO:<x@example.test>|DATA|(21 bytes)"

struct tls_rig {
	struct rig r;
	struct tls_ca *ca, *other_ca;
	char *folder, *ca_file, *other_ca_file, *cert_file, *key_file;
	struct tls_cert good, wrong_name, expired, client;
};

static char *file_in(const char *folder, const char *name, const char *text)
{
	char *path = mem_printf("%s/%s", folder, name);

	test_file_write(path, text, strlen(text));
	return path;
}

static void begin(struct tls_rig *t)
{
	rig_init(&t->r);
	session_net_read_at_once(t->r.net);
	t->r.profile.o.tls = TLS_IFAVAILABLE;
	t->r.profile.o.tls_ifavailable_fallback = true;
	t->r.profile.o.tls_min_version = TLS_VERSION_1_2;
	t->ca = tls_ca_new("Test CA");
	t->other_ca = tls_ca_new("Other CA");
	tls_cert_issue(t->ca, "mx.test", 30, &t->good);
	tls_cert_issue(t->ca, "other.test", 30, &t->wrong_name);
	tls_cert_issue(t->ca, "mx.test", -1, &t->expired);
	tls_cert_issue(t->ca, "client.test", 30, &t->client);
	t->folder = test_folder_new();
	t->ca_file = file_in(t->folder, "ca.pem", tls_ca_pem(t->ca));
	t->other_ca_file = file_in(t->folder, "other.pem", tls_ca_pem(t->other_ca));
	t->cert_file = file_in(t->folder, "cert.pem", t->client.certificate);
	t->key_file = file_in(t->folder, "key.pem", t->client.key);
	t->r.profile.o.tls_ca = t->ca_file;
	scripted_mx_tls(t->r.mx, t->good.certificate, t->good.key, NULL);
}

static void end(struct tls_rig *t)
{
	rig_end(&t->r);
	tls_cert_free(&t->good);
	tls_cert_free(&t->wrong_name);
	tls_cert_free(&t->expired);
	tls_cert_free(&t->client);
	tls_ca_free(&t->ca);
	tls_ca_free(&t->other_ca);
	mem_free(&t->ca_file);
	mem_free(&t->other_ca_file);
	mem_free(&t->cert_file);
	mem_free(&t->key_file);
	test_folder_remove(&t->folder);
}

/* One message, and the end of its connection. */
static void deliver(struct tls_rig *t, const char *story, const char *log)
{
	struct rig *r = &t->r;

	rig_forget(r);
	rig_open(r, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(r);
	if (r->session) {
		session_quit(r->session);
		rig_run(r);
	}
	rig_advance(r, 6);
	assert_string_equal(r->story.data, story);
	if (log)
		assert_string_equal(scripted_mx_log(r->mx), log);
}

static void test_ifavailable(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	deliver(&t, "ready want done:ok closed",
	        "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|" SENT "|QUIT");
	assert_string_equal(scripted_mx_mail(t.r.mx, 0)->body, BODY);
	assert_string_equal(t.r.tls_version, "TLSv1.3");
	assert_string_equal(t.r.tls_verified, "no");
	end(&t);
}

static void test_not_offered(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	scripted_mx_line(t.r.mx, "EHLO: 250-mx\\n250-PIPELINING\\n250 SIZE");
	deliver(&t, "ready want done:ok closed", "+|EHLO client.test|" SENT "|QUIT");
	assert_string_equal(t.r.tls_version, "");
	t.r.profile.o.tls = TLS_REQUIRED;
	deliver(&t, "back/lost failed", "+|EHLO client.test|QUIT");
	assert_int_equal(t.r.why.state, STATE_STARTTLS);
	assert_string_equal(t.r.why.enhanced, "4.7.6");
	assert_int_equal(t.r.why.code, 451);
	t.r.profile.o.delivery_method = DELIVERY_SMTP;
	deliver(&t, "back/lost failed", "+|HELO client.test|QUIT");
	end(&t);
}

static void test_no(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	t.r.profile.o.tls = TLS_NO;
	deliver(&t, "ready want done:ok closed", "+|EHLO client.test|" SENT "|QUIT");
	end(&t);
}

/* AUTH: the whole of a session for each mechanism, and that mail waits whenever it does not come about. */
#define OFFER "EHLO: 250-mx\\n250-PIPELINING\\n250-STARTTLS\\n250-SIZE\\n250 AUTH PLAIN LOGIN XOAUTH2"
#define UNDER_TLS "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|"

static void credentials(struct tls_rig *t, enum auth_type type)
{
	struct conn_options *o = &t->r.profile.o;

	o->outbound_smtp_auth_type = type;
	o->outbound_smtp_auth_user = "user";
	o->outbound_smtp_auth_pass = "pass";
}

static void test_auth(void **state)
{
	static const struct {
		enum auth_type type;
		const char *script[3], *story, *log;
	} cases[] = {
	        {AUTH_PLAIN, {"AUTH: 235 2.7.0 yes"}, "ready want done:ok closed",
	                UNDER_TLS "AUTH PLAIN AHVzZXIAcGFzcw==|" SENT "|QUIT"},
	        {AUTH_LOGIN,
	                {"AUTH: 334 VXNlcm5hbWU6", "SASL dXNlcg==: 334 UGFzc3dvcmQ6",
	                        "SASL cGFzcw==: 235 2.7.0 yes"},
	                "ready want done:ok closed", UNDER_TLS "AUTH LOGIN|dXNlcg==|cGFzcw==|" SENT "|QUIT"},
	        {AUTH_XOAUTH2, {"AUTH: 235 2.7.0 yes"}, "ready want done:ok closed",
	                UNDER_TLS "AUTH XOAUTH2 dXNlcj11c2VyAWF1dGg9QmVhcmVyIHBhc3MBAQ==|" SENT "|QUIT"},
	        {AUTH_PLAIN, {"AUTH: 535 5.7.8 no"}, "back/lost failed",
	                UNDER_TLS "AUTH PLAIN AHVzZXIAcGFzcw==|QUIT"},
	        {AUTH_PLAIN, {"AUTH: 454 4.7.0 later"}, "back/lost failed",
	                UNDER_TLS "AUTH PLAIN AHVzZXIAcGFzcw==|QUIT"},
	        {AUTH_PLAIN, {"AUTH: 421 4.7.0 too often; close"}, "back/lost failed",
	                UNDER_TLS "AUTH PLAIN AHVzZXIAcGFzcw=="},
	        {AUTH_PLAIN, {"AUTH: 334 "}, "back/lost failed", UNDER_TLS "AUTH PLAIN AHVzZXIAcGFzcw=="},
	        {AUTH_PLAIN, {"AUTH: close"}, "back/lost failed", UNDER_TLS "AUTH PLAIN AHVzZXIAcGFzcw=="},
	        {AUTH_PLAIN, {"AUTH: silent"}, "back/lost failed", UNDER_TLS "AUTH PLAIN AHVzZXIAcGFzcw=="},
	        {AUTH_LOGIN, {"AUTH: 334 VXNlcm5hbWU6", "SASL dXNlcg==: 535 5.7.8 no"}, "back/lost failed",
	                UNDER_TLS "AUTH LOGIN|dXNlcg==|QUIT"},
	        {AUTH_LOGIN,
	                {"AUTH: 334 VXNlcm5hbWU6", "SASL dXNlcg==: 334 UGFzc3dvcmQ6",
	                        "SASL cGFzcw==: 334 more"},
	                "back/lost failed", UNDER_TLS "AUTH LOGIN|dXNlcg==|cGFzcw=="},
	        {AUTH_XOAUTH2, {"AUTH: 334 eyJzdGF0dXMiOiI0MDEifQ=="}, "back/lost failed",
	                UNDER_TLS "AUTH XOAUTH2 dXNlcj11c2VyAWF1dGg9QmVhcmVyIHBhc3MBAQ==||QUIT"},
	        /* not offered under TLS, whatever was in clear text; another mechanism; after HELO */
	        {AUTH_PLAIN, {"EHLO/2: 250 mx"}, "back/lost failed", UNDER_TLS "QUIT"},
	        {AUTH_PLAIN, {"EHLO/2: 250-mx\\n250 AUTH LOGIN CRAM-MD5"}, "back/lost failed",
	                UNDER_TLS "QUIT"},
	        {AUTH_PLAIN, {"EHLO/2: 500 no"}, "back/lost failed", UNDER_TLS "HELO client.test|QUIT"},
	        /* never in clear text */
	        {AUTH_PLAIN, {"EHLO: 250-mx\\n250 AUTH PLAIN"}, "back/lost failed",
	                "+|EHLO client.test|QUIT"},
	        {AUTH_PLAIN, {"STARTTLS: 454 4.7.0 no"}, "back/lost failed",
	                "+|EHLO client.test|STARTTLS|QUIT"},
	        {AUTH_PLAIN, {"STARTTLS: 220 go; close"}, "back/lost failed", "+|EHLO client.test|STARTTLS"},
	};
	struct tls_rig t;
	unsigned i, j;

	(void)state;
	for (i = 0; i < array_len(cases); i++) {
		begin(&t);
		credentials(&t, cases[i].type);
		scripted_mx_line(t.r.mx, OFFER);
		for (j = 0; j < 3 && cases[i].script[j]; j++)
			assert_true(scripted_mx_line(t.r.mx, cases[i].script[j]));
		rig_forget(&t.r);
		rig_open(&t.r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&t.r);
		if (t.r.session && t.r.ready) {
			session_quit(t.r.session);
			rig_run(&t.r);
		}
		rig_advance(&t.r, 100);
		if (strcmp(t.r.story.data, cases[i].story) != 0 ||
		        strncmp(scripted_mx_log(t.r.mx), cases[i].log, strlen(cases[i].log)) != 0)
			fail_msg("case %u: \"%s\", %s", i, t.r.story.data, scripted_mx_log(t.r.mx));
		assert_true((t.r.ready > 0) == (scripted_mx_n_mails(t.r.mx) > 0));
		end(&t);
	}
}

/* What the other side makes of our secret is not ours to tell. */
static void test_auth_echo(void **state)
{
	static const char *const echo[] = {"AUTH: 535 5.7.8 AUTH PLAIN AHVzZXIAcGFzcw== is wrong",
	        "AUTH: 535 5.7.8 no pass for you", "AUTH: 421 4.7.0 cGFzcw==; close"};
	struct tls_rig t;
	unsigned i;

	(void)state;
	for (i = 0; i < array_len(echo); i++) {
		begin(&t);
		credentials(&t, AUTH_PLAIN);
		scripted_mx_line(t.r.mx, OFFER);
		scripted_mx_line(t.r.mx, echo[i]);
		deliver(&t, "back/lost failed", NULL);
		assert_int_equal(t.r.why.state, STATE_AUTH);
		assert_null(strstr(t.r.why.reply, "pass"));
		assert_null(strstr(t.r.why.reply, "cGFzcw"));
		assert_null(strstr(t.r.jobs[0]->outcomes[0].reply, "GFzcw"));
		end(&t);
	}
}

/* outbound_smtp_auth_clear: where TLS is not offered or not wanted. Never in place of one that failed. */
static void test_auth_clear(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	credentials(&t, AUTH_PLAIN);
	t.r.profile.o.outbound_smtp_auth_clear = true;
	scripted_mx_line(t.r.mx, "AUTH: 235 2.7.0 yes");
	scripted_mx_line(t.r.mx, "EHLO: 250-mx\\n250-PIPELINING\\n250-SIZE\\n250 AUTH=PLAIN");
	deliver(&t, "ready want done:ok closed",
	        "+|EHLO client.test|AUTH PLAIN AHVzZXIAcGFzcw==|" SENT "|QUIT");
	scripted_mx_line(t.r.mx, OFFER);
	scripted_mx_line(t.r.mx, "STARTTLS: 454 4.7.0 no");
	deliver(&t, "back/lost failed", "+|EHLO client.test|STARTTLS|QUIT");
	scripted_mx_line(t.r.mx, "STARTTLS: 220 go; close");
	deliver(&t, "back/lost failed", NULL);
	deliver(&t, "back/lost failed", NULL);
	assert_int_equal(scripted_mx_n_mails(t.r.mx), 1);
	end(&t);
}

/* A request for a new handshake is passed over, a stream of them ends the session. */
static void test_renegotiation(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	scripted_mx_line(t.r.mx, "STARTTLS: 220 go; tls NORMAL:-VERS-ALL:+VERS-TLS1.2");
	scripted_mx_line(t.r.mx, "MAIL/1: renegotiate 3; 250 ok");
	scripted_mx_line(t.r.mx, "MAIL/2: renegotiate 4; 250 ok");
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "TLSv1.2");
	deliver(&t, "ready done:transient/lost failed", NULL);
	end(&t);
}

/* A forged or real refusal: clear text where it will do, else the next MX host; never a bounce. */
static void test_starttls_refused(void **state)
{
	static const char *const lines[] = {
	        "STARTTLS: 454 4.7.0 not now", "STARTTLS: 502 5.5.1 what?", "STARTTLS: 554 5.7.3 no"};
	struct tls_rig t;
	unsigned i;

	(void)state;
	for (i = 0; i < 3; i++) {
		begin(&t);
		scripted_mx_line(t.r.mx, lines[i]);
		deliver(&t, "ready want done:ok closed", "+|EHLO client.test|STARTTLS|" SENT "|QUIT");
		t.r.profile.o.tls_ifavailable_fallback = false;
		deliver(&t, "back/lost failed", "+|EHLO client.test|STARTTLS|QUIT");
		assert_string_equal(t.r.why.enhanced, "4.7.5");
		assert_int_equal(t.r.why.class, OUTCOME_TRANSIENT);
		t.r.profile.o.tls = TLS_REQUIRED;
		t.r.profile.o.tls_ifavailable_fallback = true;
		deliver(&t, "back/lost failed", "+|EHLO client.test|STARTTLS|QUIT");
		assert_int_equal(t.r.why.class, OUTCOME_TRANSIENT);
		end(&t);
	}
}

/* The handshake fails: clear text at once, on a new connection, and remembered; or the mail waits. */
static void test_handshake_fails(void **state)
{
	static const char *const lines[] = {"STARTTLS: 220 go; wait 1; send hello\\r\\n",
	        "STARTTLS: 220 go; close", "STARTTLS: 220 go; reset", "STARTTLS: 220 go; silent",
	        "STARTTLS: 220 go; wait 1; send \\x15\\x03\\x01\\0\\x02\\x02\\x28; wait 1; close",
	        "STARTTLS: 220 go; tls NORMAL:-VERS-ALL:+VERS-TLS1.1"};
	struct tls_rig t;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		begin(&t);
		scripted_mx_line(t.r.mx, lines[i]);
		rig_open(&t.r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&t.r);
		rig_advance(
		        &t.r, 38); /* ehlo_timeout 31, the wait for the close 5, and before idle_timeout 7 */
		if (!strstr(t.r.story.data, "ready want done:ok"))
			fail_msg("%s: %s: %s", lines[i], t.r.story.data, scripted_mx_log(t.r.mx));
		assert_non_null(strstr(scripted_mx_log(t.r.mx), "|+|EHLO client.test|" SENT));
		assert_int_equal(scripted_mx_connections(t.r.mx), 2);
		rig_advance(&t.r, 20);
		/* the next one is spared the detour */
		deliver(&t, "ready want done:ok closed", "+|EHLO client.test|" SENT "|QUIT");
		/* and after an hour it is tried again */
		scripted_mx_forget(t.r.mx);
		rig_advance(&t.r, 3600);
		deliver(&t, "ready want done:ok closed",
		        "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|" SENT "|QUIT");
		end(&t);
	}
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		begin(&t);
		t.r.profile.o.tls = i % 2 ? TLS_REQUIRED : TLS_IFAVAILABLE;
		t.r.profile.o.tls_ifavailable_fallback = i % 2;
		scripted_mx_line(t.r.mx, lines[i]);
		rig_open(&t.r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&t.r);
		rig_advance(&t.r, 31);
		assert_string_equal(t.r.story.data, "back/lost failed");
		assert_string_equal(t.r.why.enhanced, "4.7.5");
		assert_int_equal(t.r.why.state, STATE_STARTTLS);
		assert_int_equal(scripted_mx_n_mails(t.r.mx), 0);
		end(&t);
	}
}

/* Whatever comes in place of a handshake, a byte at a time or without end, it is over when its time is. */
static void test_handshake_is_bounded(void **state)
{
	static const char *const lines[] = {
	        "STARTTLS: 220 go; wait 1; trickle \\x16\\x03\\x03\\x40\\0aaaaaaaaaaaaaaaaaaaa",
	        "STARTTLS: 220 go; wait 1; trickle \\x15\\x03\\x03\\0\\x02\\x01\\x5a",
	        "STARTTLS: 220 go; wait 1; endless \\x15\\x03\\x03\\0\\x02\\x01\\x5a",
	        "STARTTLS: 220 go; wait 1; endless \\x17\\x03\\x03\\0\\x02aa",
	        "STARTTLS: 220 go; wait 1; endless \\x14\\x03\\x03\\0\\x01\\x01",
	        "STARTTLS: 220 go; wait 1; endless 220 more\\r\\n",
	        "STARTTLS: 220 go; wait 1; endless \\0",
	        "STARTTLS: 220 go; wait 1; send \\x16\\x03\\x03\\xff\\xff; endless a",
	};
	struct tls_rig t;
	unsigned i, seconds;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		begin(&t);
		t.r.profile.o.tls = TLS_REQUIRED;
		assert_true(scripted_mx_line(t.r.mx, lines[i]));
		rig_open(&t.r, rig_job("a@acme.test", "x@example.test", BODY));
		for (seconds = 0; seconds <= t.r.profile.o.ehlo_timeout_s; seconds++)
			rig_advance(&t.r, 1);
		if (strcmp(t.r.story.data, "back/lost failed") != 0)
			fail_msg("%s: %s", lines[i], t.r.story.data);
		assert_string_equal(t.r.why.enhanced, "4.7.5");
		assert_int_equal(scripted_mx_n_mails(t.r.mx), 0);
		end(&t);
	}
}

/* Old versions: better than clear text as long as the operator has nothing against them. */
static void test_old_versions(void **state)
{
	static const char *const lines[] = {"STARTTLS: 220 go; tls NORMAL:-VERS-ALL:+VERS-TLS1.0",
	        "STARTTLS: 220 go; tls NORMAL:-VERS-ALL:+VERS-TLS1.1",
	        "STARTTLS: 220 go; tls NORMAL:-VERS-ALL:+VERS-TLS1.2", "STARTTLS: 220 go; tls"};
	struct tls_rig t;
	unsigned offered, min;

	(void)state;
	for (offered = 0; offered < 4; offered++) {
		for (min = TLS_VERSION_1_0; min <= TLS_VERSION_1_3; min++) {
			char version[16];

			begin(&t);
			t.r.profile.o.tls_min_version = (enum tls_version)min;
			scripted_mx_line(t.r.mx, lines[offered]);
			deliver(&t, "ready want done:ok closed", NULL);
			snprintf(version, sizeof(version), "TLSv1.%u", offered);
			assert_string_equal(t.r.tls_version, offered < min ? "" : version);
			t.r.profile.o.tls = TLS_REQUIRED;
			deliver(&t, offered < min ? "back/lost failed" : "ready want done:ok closed", NULL);
			end(&t);
		}
	}
}

/* A host that takes nothing in clear text: mail that a failed handshake drove there is put off, not bounced. */
static void test_clear_is_not_taken(void **state)
{
	static const char *const lines[] = {"STARTTLS/1: 220 go; close", "STARTTLS/1: 454 4.7.0 not now"};
	struct tls_rig t;
	unsigned i;

	(void)state;
	for (i = 0; i < 2; i++) {
		begin(&t);
		scripted_mx_line(t.r.mx, lines[i]);
		scripted_mx_line(t.r.mx, "MAIL/1: 530 5.7.0 Must issue a STARTTLS command first");
		deliver(&t, "ready done:transient/lost failed", NULL);
		assert_string_equal(t.r.why.enhanced, "4.7.5");
		assert_non_null(strstr(t.r.why.reply, "530 5.7.0 Must issue"));
		/* and is not driven there again */
		deliver(&t, "ready want done:ok closed", NULL);
		assert_string_equal(t.r.tls_version, "TLSv1.3");
		end(&t);
	}
	begin(&t); /* nothing of ours has failed: it is the host's word */
	scripted_mx_line(t.r.mx, "EHLO: 250 mx");
	scripted_mx_line(t.r.mx, "MAIL: 530 5.7.0 Must issue a STARTTLS command first");
	deliver(&t, "ready done:permanent closed", NULL);
	end(&t);
	begin(&t);
	t.r.profile.o.tls = TLS_NO;
	scripted_mx_line(t.r.mx, "MAIL: 530 5.7.0 Must issue a STARTTLS command first");
	deliver(&t, "ready done:permanent closed", NULL);
	end(&t);
}

/* What is remembered of a host says nothing of another one, of another port, or for another binding. */
static void test_broken_is_per_host(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	scripted_mx_line(t.r.mx, "STARTTLS/1: 220 go; close");
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "");
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "");
	t.r.open.mx = "other.test";
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "TLSv1.3");
	t.r.open.mx = "mx.test";
	t.r.open.binding = "beta";
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "TLSv1.3");
	end(&t);
}

/* What was read before the handshake must not count after it (CVE-2011-0411, the client's side). */
static void test_injection(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	scripted_mx_line(t.r.mx, "STARTTLS: 220 go; 250 injected; tls");
	deliver(&t, "back/lost failed", NULL);
	assert_string_equal(t.r.why.enhanced, "4.5.0");
	assert_null(strstr(scripted_mx_log(t.r.mx), "MAIL"));
	end(&t);
	/* and what was offered in clear text counts no more */
	begin(&t);
	scripted_mx_line(t.r.mx, "EHLO/1: 250-mx\\n250-STARTTLS\\n250-PIPELINING\\n250 SIZE 5");
	scripted_mx_line(t.r.mx, "EHLO/2: 250 mx");
	deliver(&t, "ready want done:ok closed",
	        "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|MAIL FROM:<a@acme.test>|"
	        "RCPT TO:<x@example.test>|DATA|(21 bytes)|QUIT");
	end(&t);
}

struct verify_case {
	const char *cert; /* good, name, expired */
	bool other_ca;
	const char *mx, *next_hop;
	const char
	        *accepted[4]; /* by tls_verify no, ca, host, optional: what the event says; NULL = refused */
};

static const struct verify_case verify_cases[] = {
        {"good", false, "mx.test", "example.test", {"no", "host", "host", "host"}},
        {"good", false, "MX.test", NULL, {"no", "host", "host", "host"}},
        {"name", false, "mx.test", "example.test", {"no", "ca", NULL, "ca"}},
        {"name", false, "mx.test", "other.test", {"no", "host", "host", "host"}},
        {"expired", false, "mx.test", NULL, {"no", NULL, NULL, "no"}},
        {"good", true, "mx.test", NULL, {"no", NULL, NULL, "no"}},
        {"good", false, "127.0.0.2", NULL, {"no", "ca", NULL, "ca"}},
};

static void test_verify(void **state)
{
	struct tls_rig t;
	unsigned i, how;

	(void)state;
	for (i = 0; i < sizeof(verify_cases) / sizeof(verify_cases[0]); i++) {
		for (how = 0; how < 4; how++) {
			const struct verify_case *c = &verify_cases[i];
			const struct tls_cert *cert;

			begin(&t);
			cert = *c->cert == 'g' ? &t.good : *c->cert == 'n' ? &t.wrong_name : &t.expired;
			scripted_mx_tls(t.r.mx, cert->certificate, cert->key, NULL);
			t.r.profile.o.tls_verify = (enum tls_verify)how;
			t.r.profile.o.tls_ca = c->other_ca ? t.other_ca_file : t.ca_file;
			t.r.open.mx = c->mx;
			t.r.open.next_hop = c->next_hop;
			deliver(&t, c->accepted[how] ? "ready want done:ok closed" : "back/lost failed",
			        NULL);
			if (c->accepted[how]) {
				assert_string_equal(t.r.tls_verified, c->accepted[how]);
			} else {
				/* never answered with clear text, though tls is ifavailable */
				assert_int_equal(scripted_mx_connections(t.r.mx), 1);
				assert_null(strstr(scripted_mx_log(t.r.mx), "MAIL"));
				assert_string_equal(t.r.why.enhanced, "4.7.5");
				assert_non_null(strstr(t.r.why.reply, "certificate refused"));
			}
			end(&t);
		}
	}
}

/* The second connection resumes; the certificate is judged all the same, and another demand starts anew. */
static void test_resumption(void **state)
{
	static const char *const versions[] = {NULL, "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
	struct tls_rig t;
	unsigned i;

	(void)state;
	for (i = 0; i < 2; i++) {
		begin(&t);
		t.r.profile.o.tls_priority = versions[i];
		t.r.profile.o.tls_verify = TLS_VERIFY_HOST;
		deliver(&t, "ready want done:ok closed",
		        "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|" SENT "|QUIT");
		assert_false(t.r.tls_resumed);
		deliver(&t, "ready want done:ok closed",
		        "+|EHLO client.test|STARTTLS|TLS[mx.test] resumed|EHLO client.test|" SENT "|QUIT");
		assert_true(t.r.tls_resumed);
		assert_string_equal(t.r.tls_verified, "host");
		assert_string_equal(t.r.tls_version, i ? "TLSv1.2" : "TLSv1.3");
		t.r.profile.o.tls_verify = TLS_VERIFY_CA;
		deliver(&t, "ready want done:ok closed",
		        "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|" SENT "|QUIT");
		t.r.open.binding = "beta";
		deliver(&t, "ready want done:ok closed",
		        "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|" SENT "|QUIT");
		end(&t);
	}
}

static void test_client_certificate(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	scripted_mx_tls(t.r.mx, t.good.certificate, t.good.key, tls_ca_pem(t.ca));
	deliver(&t, "ready want done:ok closed",
	        "+|EHLO client.test|STARTTLS|TLS[mx.test]|EHLO client.test|" SENT "|QUIT");
	t.r.profile.o.tls_certificate = t.cert_file;
	t.r.profile.o.tls_key = t.key_file;
	deliver(&t, "ready want done:ok closed",
	        "+|EHLO client.test|STARTTLS|TLS[mx.test] client client.test|EHLO client.test|" SENT "|QUIT");
	end(&t);
}

/* Files that are missing or wrong are our own accident; what was read before a reload stays in use. */
static void test_files(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	t.r.profile.o.tls_verify = TLS_VERIFY_HOST;
	t.r.profile.o.tls_ca = "/nonexistent/ca.pem";
	deliver(&t, "back failed", NULL);
	assert_string_equal(t.r.why.enhanced, "4.3.0");
	assert_non_null(strstr(t.r.why.reply, "/nonexistent/ca.pem"));
	deliver(&t, "back failed", NULL); /* said again, without reading it again */
	t.r.profile.o.tls_ca = t.ca_file;
	deliver(&t, "ready want done:ok closed", NULL);
	test_file_write(t.ca_file, "spoiled", 7);
	deliver(&t, "ready want done:ok closed", NULL);
	session_net_reload(t.r.net);
	rig_run(&t.r);
	deliver(&t, "ready want done:ok closed", NULL);
	test_file_write(t.ca_file, tls_ca_pem(t.other_ca), strlen(tls_ca_pem(t.other_ca)));
	session_net_reload(t.r.net);
	rig_run(&t.r);
	deliver(&t, "back/lost failed", NULL);
	assert_string_equal(t.r.why.enhanced, "4.7.5");
	end(&t);
}

static void test_min_version(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	t.r.profile.o.tls = TLS_REQUIRED;
	t.r.profile.o.tls_min_version = TLS_VERSION_1_3;
	scripted_mx_line(t.r.mx, "STARTTLS: 220 go; tls NORMAL:-VERS-ALL:+VERS-TLS1.2");
	deliver(&t, "back/lost failed", NULL);
	t.r.profile.o.tls_min_version = TLS_VERSION_1_2;
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "TLSv1.2");
	end(&t);
}

/* Megabytes under TLS, more than the sockets hold; and the misfortunes of the dialogue are the same as without. */
static void test_dialogue_under_tls(void **state)
{
	struct tls_rig t;
	struct str text;
	unsigned i;

	(void)state;
	str_init(&text);
	for (i = 0; text.len < 6 * 1024 * 1024; i++)
		str_printf(&text, "%s%u line of a long message, so that the sockets fill up\r\n",
		        i % 7 ? "" : ".", i);
	begin(&t);
	rig_open(&t.r,
	        rig_job_body("a@b.test", "x@y.test", fake_body_new(text.data, text.len), MESSAGE_DOT_LINES));
	rig_run(&t.r);
	assert_string_equal(t.r.story.data, "ready want done:ok");
	assert_int_equal(scripted_mx_mail(t.r.mx, 0)->body_len, text.len);
	assert_memory_equal(scripted_mx_mail(t.r.mx, 0)->body, text.data, text.len);
	scripted_mx_line(t.r.mx, "BODY/2: 552 5.3.4 too big; close");
	session_job(t.r.session,
	        rig_job_body("a@b.test", "x@y.test", fake_body_new(text.data, text.len), MESSAGE_DOT_LINES));
	rig_run(&t.r);
	assert_string_equal(t.r.story.data, "ready want done:ok done:permanent closed");
	end(&t);
	str_free(&text);
	begin(&t);
	scripted_mx_line(t.r.mx, "DOT/1: 421 4.3.2 bye; close");
	deliver(&t, "ready want done:transient/lost failed", NULL);
	scripted_mx_line(t.r.mx, "DOT/2: close");
	deliver(&t, "ready want done:uncertain failed", NULL);
	scripted_mx_line(t.r.mx, "DOT/3: 250 ok; 250 more");
	deliver(&t, "ready want done:ok failed", NULL);
	scripted_mx_line(t.r.mx, "RCPT/4: reset");
	deliver(&t, "ready done:transient/lost failed", NULL);
	end(&t);
}

/* Cancelled, or stopped, in the middle of it. */
static void test_cancelled(void **state)
{
	static const char *const lines[] = {"STARTTLS: silent", "STARTTLS: 220 go; silent"};
	struct tls_rig t;
	unsigned i;

	(void)state;
	for (i = 0; i < 4; i++) {
		begin(&t);
		scripted_mx_line(t.r.mx, lines[i % 2]);
		rig_open(&t.r, rig_job("a@acme.test", "x@example.test", BODY));
		rig_run(&t.r);
		if (i < 2)
			session_quit(t.r.session);
		else
			session_net_stop(
			        t.r.net, t.r.clock.mono + 30 * SECOND_US, t.r.clock.mono + 60 * SECOND_US);
		rig_run(&t.r);
		rig_advance(&t.r, 5);
		assert_string_equal(t.r.story.data, "back closed");
		assert_int_equal(scripted_mx_open(t.r.mx), 0);
		end(&t);
	}
}

/* --- DANE ------------------------------------------------------------------------------------------------------------ */

/* The record of a certificate's key: 3 1 1; of another one with `wrong`; unusable with `usage` 1. */
static struct tlsa *tlsa_of(const struct tls_cert *cert, unsigned usage, bool wrong)
{
	gnutls_datum_t text = {(unsigned char *)cert->certificate, (unsigned)strlen(cert->certificate)}, der;
	uint8_t rdata[35] = {(uint8_t)usage, 1, 1};
	struct tlsa_rdata record = {rdata, sizeof(rdata)};
	gnutls_x509_crt_t crt;
	gnutls_pubkey_t key;

	gnutls_x509_crt_init(&crt);
	gnutls_pubkey_init(&key);
	assert_int_equal(gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM), 0);
	assert_int_equal(gnutls_pubkey_import_x509(key, crt, 0), 0);
	assert_int_equal(gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &der), 0);
	gnutls_hash_fast(GNUTLS_DIG_SHA256, der.data, der.size, rdata + 3);
	rdata[34] ^= wrong;
	gnutls_free(der.data);
	gnutls_pubkey_deinit(key);
	gnutls_x509_crt_deinit(crt);
	return tlsa_new("base.test", NULL, !wrong, &record, 1);
}

static void begin_dane(struct tls_rig *t, unsigned usage, bool wrong)
{
	begin(t);
	t->r.open.tlsa = tlsa_of(&t->good, usage, wrong);
}

static void end_dane(struct tls_rig *t)
{
	tlsa_unref(&t->r.open.tlsa);
	end(t);
}

/* Goes before tls and tls_verify, whatever they say; SNI is where the records were found. */
static void test_dane(void **state)
{
	struct tls_rig t;
	int use, how;

	(void)state;
	for (use = TLS_NO; use <= TLS_REQUIRED; use++) {
		for (how = TLS_VERIFY_NO; how <= TLS_VERIFY_OPTIONAL; how++) {
			begin_dane(&t, TLSA_USAGE_EE, false);
			t.r.profile.o.tls = (enum tls_use)use;
			t.r.profile.o.tls_verify = (enum tls_verify)how;
			t.r.profile.o.tls_ca = t.other_ca_file;
			deliver(&t, "ready want done:ok closed",
			        "+|EHLO client.test|STARTTLS|TLS[base.test]|EHLO client.test|" SENT "|QUIT");
			assert_string_equal(t.r.tls_verified, "dane-ee");
			end_dane(&t);
		}
	}
	/* authorities that cannot be had are not missed */
	begin_dane(&t, TLSA_USAGE_EE, false);
	t.r.profile.o.tls_verify = TLS_VERIFY_HOST;
	t.r.profile.o.tls_ca = "/nonexistent/ca.pem";
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_verified, "dane-ee");
	end_dane(&t);
	/* without extensions there is no STARTTLS: delivery_method smtp cannot mean that here */
	begin_dane(&t, TLSA_USAGE_EE, false);
	t.r.profile.o.delivery_method = DELIVERY_SMTP;
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_verified, "dane-ee");
	end_dane(&t);
}

/* Records that cannot be used demand TLS; of the certificate they say nothing, so tls_verify does. */
static void test_dane_unusable(void **state)
{
	struct tls_rig t;

	(void)state;
	begin_dane(&t, 1, false);
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "TLSv1.3");
	assert_string_equal(t.r.tls_verified, "no");
	scripted_mx_tls(t.r.mx, t.expired.certificate, t.expired.key, NULL);
	deliver(&t, "ready want done:ok closed", NULL);
	scripted_mx_line(t.r.mx, "EHLO: 250 mx");
	deliver(&t, "back/lost failed", "+|EHLO client.test|QUIT");
	end_dane(&t);
	begin_dane(&t, 1, false);
	t.r.profile.o.tls_verify = TLS_VERIFY_HOST;
	t.r.profile.o.tls_ca = t.other_ca_file;
	deliver(&t, "back/lost failed", NULL);
	end_dane(&t);
}

/* Nothing that goes wrong is answered with clear text, nor with a bounce. */
static void test_dane_misfortunes(void **state)
{
	static const struct {
		bool wrong;
		const char *line, *enhanced;
	} cases[] = {
	        {true, NULL, "4.7.5"},
	        {false, "EHLO: 250-mx\\n250 PIPELINING", "4.7.6"},
	        {false, "EHLO: 502 5.5.1 what", "4.7.6"},
	        {false, "STARTTLS: 454 4.7.0 not now", "4.7.5"},
	        {false, "STARTTLS: 502 5.5.1 what", "4.7.5"},
	        {false, "STARTTLS: 554 5.7.3 no", "4.7.5"},
	        {false, "STARTTLS: 220 go; close", "4.7.5"},
	        {false, "STARTTLS: 220 go; reset", "4.7.5"},
	        {false, "STARTTLS: 220 go; silent", "4.7.5"},
	        {false, "STARTTLS: 220 go; wait 1; send hello\\r\\n", "4.7.5"},
	        {false, "STARTTLS: 220 go; wait 1; send \\x15\\x03\\x01\\0\\x02\\x02\\x28; wait 1; close",
	                "4.7.5"},
	        {false, "STARTTLS: 220 go; tls NORMAL:-VERS-ALL:+VERS-TLS1.1", "4.7.5"},
	        {false, "STARTTLS: 220 go; 250 injected; tls", "4.5.0"},
	        {false, "STARTTLS: silent", "4.4.2"},
	        {false, "STARTTLS: close", "4.4.2"},
	        {false, "STARTTLS: 421 4.3.2 bye; close", ""},
	};
	struct tls_rig t;
	unsigned i, round;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin_dane(&t, TLSA_USAGE_EE, cases[i].wrong);
		if (cases[i].line)
			assert_true(scripted_mx_line(t.r.mx, cases[i].line));
		for (round = 0; round < 2;
		        round++) { /* a failure is not remembered in favour of clear text either */
			rig_forget(&t.r);
			rig_open(&t.r, rig_job("a@acme.test", "x@example.test", BODY));
			rig_run(&t.r);
			rig_advance(&t.r, 100);
			if (strcmp(t.r.story.data, "back/lost failed") != 0 ||
			        (*cases[i].enhanced && strcmp(t.r.why.enhanced, cases[i].enhanced) != 0))
				fail_msg("case %u: %s, %s %s", i, t.r.story.data, t.r.why.enhanced,
				        t.r.why.reply);
			assert_int_equal(t.r.why.class, OUTCOME_TRANSIENT);
		}
		assert_int_equal(scripted_mx_n_mails(t.r.mx), 0);
		assert_int_equal(scripted_mx_connections(t.r.mx), 2);
		end_dane(&t);
	}
}

/* What was resumed without DANE is not resumed under it, nor under other records; and records are looked at again. */
static void test_dane_resumption(void **state)
{
	static const char *const versions[] = {NULL, "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
	struct tls_rig t;
	unsigned i;

	(void)state;
	for (i = 0; i < 2; i++) {
		begin(&t);
		t.r.profile.o.tls_priority = versions[i];
		deliver(&t, "ready want done:ok closed", NULL);
		t.r.open.tlsa = tlsa_of(&t.good, TLSA_USAGE_EE, false);
		deliver(&t, "ready want done:ok closed", NULL);
		assert_false(t.r.tls_resumed);
		assert_string_equal(t.r.tls_verified, "dane-ee");
		deliver(&t, "ready want done:ok closed", NULL);
		assert_true(t.r.tls_resumed);
		assert_string_equal(t.r.tls_verified, "dane-ee");
		tlsa_unref(&t.r.open.tlsa);
		t.r.open.tlsa = tlsa_of(&t.good, TLSA_USAGE_EE, true);
		deliver(&t, "back/lost failed", NULL);
		assert_string_equal(t.r.why.enhanced, "4.7.5");
		assert_null(strstr(scripted_mx_log(t.r.mx), "resumed"));
		tlsa_unref(&t.r.open.tlsa);
		deliver(&t, "ready want done:ok closed", NULL);
		assert_true(t.r.tls_resumed); /* the ticket of the first one */
		end(&t);
	}
}

/* A host whose handshake failed gets clear text for an hour; DANE does not know of that. */
static void test_dane_after_broken(void **state)
{
	struct tls_rig t;

	(void)state;
	begin(&t);
	scripted_mx_line(t.r.mx, "STARTTLS/1: 220 go; close");
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_version, "");
	t.r.open.tlsa = tlsa_of(&t.good, TLSA_USAGE_EE, false);
	deliver(&t, "ready want done:ok closed", NULL);
	assert_string_equal(t.r.tls_verified, "dane-ee");
	end_dane(&t);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ifavailable),
        cmocka_unit_test(test_not_offered),
        cmocka_unit_test(test_no),
        cmocka_unit_test(test_auth),
        cmocka_unit_test(test_auth_echo),
        cmocka_unit_test(test_auth_clear),
        cmocka_unit_test(test_renegotiation),
        cmocka_unit_test(test_starttls_refused),
        cmocka_unit_test(test_handshake_fails),
        cmocka_unit_test(test_handshake_is_bounded),
        cmocka_unit_test(test_old_versions),
        cmocka_unit_test(test_clear_is_not_taken),
        cmocka_unit_test(test_broken_is_per_host),
        cmocka_unit_test(test_injection),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_min_version),
        cmocka_unit_test(test_dialogue_under_tls),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_dane),
        cmocka_unit_test(test_dane_unusable),
        cmocka_unit_test(test_dane_misfortunes),
        cmocka_unit_test(test_dane_resumption),
        cmocka_unit_test(test_dane_after_broken),
};
TEST_MAIN("session_tls", tests)
