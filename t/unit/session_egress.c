/*
 * Sessions through an egress proxy: what the proxy is told, the address it must have taken, and what each of its failures
 * is told as: the proxy's, or the peer's behind it.
 */
#include "base/mem.h"
#include "session/socks5.h"
#include "t/lib/fake_proxy.h"
#include "t/lib/session_rig.h"
#include "t/lib/test.h"

#define BODY "Subject: x\r\n\r\nHello\r\n"
#define AWAY "127.0.0.66" /* not in the rig's table: lives on another machine */

struct egress {
	struct rig rig;
	struct fake_proxy *proxy;
	char option[96], proxy_text[ADDR_TEXT_SIZE], mx_text[ADDR_TEXT_SIZE];
};

static void begin(struct egress *e, bool socks)
{
	struct rig *r = &e->rig;

	rig_init(r);
	e->proxy = fake_proxy_new(r->loop, socks);
	e->proxy->source = AWAY;
	addr_print_port(&e->proxy->addr, e->proxy_text);
	addr_print_port(&r->open.peer, e->mx_text);
	snprintf(e->option, sizeof(e->option), "%s://%s", socks ? "socks5" : "proxy", e->proxy_text);
	r->profile.o.egress_proxy = e->option;
	assert_true(addr_parse(AWAY, &r->open.source, NULL));
}

static void end(struct egress *e)
{
	fake_proxy_free(&e->proxy);
	rig_end(&e->rig);
}

static void open_one(struct egress *e)
{
	rig_open(&e->rig, rig_job("a@acme.test", "x@example.test", BODY));
	rig_run(&e->rig);
}

static void check_sent(struct egress *e, const char *source)
{
	struct rig *r = &e->rig;
	char text[ADDR_TEXT_SIZE];

	open_one(e);
	rig_advance(r, 8);
	assert_string_equal(r->story.data, "ready want done:ok closed");
	assert_string_equal(scripted_mx_mail(r->mx, 0)->source, source);
	assert_string_equal(addr_print(&r->source, text), source);
	assert_string_equal(addr_print_port(&r->peer, text), e->mx_text);
}

static void expect_got(const struct egress *e, const void *octets, size_t len)
{
	assert_int_equal(e->proxy->got.len, len);
	assert_memory_equal(e->proxy->got.data, octets, len);
}

/* --- what is sent ---------------------------------------------------------------------------------------------- */

static void put_port(uint8_t *at, uint16_t port)
{
	at[0] = (uint8_t)(port >> 8);
	at[1] = (uint8_t)(port & 0xff);
}

static void test_proxy_v2(void **state)
{
	uint8_t header[28] = {0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11,
	        0, 12, 127, 0, 0, 66, 127, 0, 0, 2, 0, 0};
	struct egress e;

	(void)state;
	begin(&e, false);
	put_port(header + 26, e.rig.open.peer.port);
	check_sent(&e, AWAY);
	expect_got(&e, header, sizeof(header));
	end(&e);
}

static void test_socks5(void **state)
{
	uint8_t said[13] = {5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 2};
	struct egress e;

	(void)state;
	begin(&e, true);
	put_port(said + 11, e.rig.open.peer.port);
	check_sent(&e, AWAY);
	expect_got(&e, said, sizeof(said));
	end(&e);
}

static void test_socks5_credentials(void **state)
{
	uint8_t said[24] = {5, 1, 2, 1, 4, 'a', 'c', 'm', 'e', 3, 'p', 'w', '!', 5, 1, 0, 1, 127, 0, 0, 2};
	struct egress e;

	(void)state;
	begin(&e, true);
	e.proxy->user = "acme";
	e.rig.profile.o.egress_proxy_user = "acme";
	e.rig.profile.o.egress_proxy_pass = "pw!";
	put_port(said + 21, e.rig.open.peer.port);
	check_sent(&e, AWAY);
	expect_got(&e, said, 23);
	end(&e);
}

static void test_ipv6(void **state)
{
	static const bool kinds[] = {true, false};
	struct scripted_mx *mx;
	struct egress e;

	(void)state;
	for (size_t i = 0; i < array_len(kinds); i++) {
		begin(&e, kinds[i]);
		mx = scripted_mx_new(e.rig.loop, "::1");
		e.rig.open.peer = *scripted_mx_addr(mx);
		assert_true(addr_parse("::1", &e.rig.open.source, NULL));
		e.proxy->source = "::1";
		open_one(&e);
		assert_string_equal(e.rig.story.data, "ready want done:ok");
		assert_string_equal(scripted_mx_mail(mx, 0)->source, "::1");
		assert_int_equal(e.proxy->got.len, kinds[i] ? 3 + 22 : 16 + 36);
		session_quit(e.rig.session);
		rig_run(&e.rig);
		scripted_mx_free(&mx);
		end(&e);
	}
}

/* --- what goes wrong -------------------------------------------------------------------------------------------- */

/* text has the proxy's address for the first %s and the MX's for the second, if it names them. */
static void expect_failed(struct egress *e, bool proxy, const char *enhanced, const char *what)
{
	struct rig *r = &e->rig;
	const struct outcome *why = &r->why;

	assert_string_equal(
	        r->story.data, strcmp(enhanced, "4.4.1") == 0 ? "back/lost failed" : "back failed");
	assert_int_equal(why->class, OUTCOME_TRANSIENT);
	assert_int_equal(why->state, STATE_CONNECT);
	assert_true(why->ours);
	assert_int_equal(why->proxy, proxy);
	assert_string_equal(why->enhanced, enhanced);
	if (!strstr(why->reply, what) || !strstr(why->reply, e->proxy_text) ||
	        !strstr(why->reply, "binding acme"))
		fail_msg("%s; expected %s", why->reply, what);
	assert_int_equal(scripted_mx_connections(r->mx), 0);
}

static void test_unreachable(void **state)
{
	static const bool kinds[] = {true, false};
	struct egress e;

	(void)state;
	for (size_t i = 0; i < array_len(kinds); i++) {
		begin(&e, kinds[i]);
		fake_proxy_down(e.proxy);
		open_one(&e);
		expect_failed(&e, true, "4.3.5", "cannot be reached: Connection refused");
		end(&e);
	}
}

struct answer {
	enum fake_proxy_stage stage;
	const char *octets;
	size_t len;
	bool closes, proxy;
	const char *enhanced, *what;
};
#define SAYS(text) (text), sizeof(text) - 1

static void check_answer(const struct answer *a, bool credentials)
{
	struct egress e;

	begin(&e, true);
	fake_proxy_says(e.proxy, a->stage, a->octets, a->len, a->closes);
	if (credentials) {
		e.rig.profile.o.egress_proxy_user = "acme";
		e.rig.profile.o.egress_proxy_pass = "pw!";
		e.proxy->user = "acme";
	}
	open_one(&e);
	expect_failed(&e, a->proxy, a->enhanced, a->what);
	assert_null(strstr(e.rig.why.reply, "pw!"));
	end(&e);
}

#define REFUSES(code) FAKE_PROXY_CONNECT, SAYS("\5" code "\0\1\0\0\0\0\0\0"), false

static void test_each_reply(void **state)
{
	static const struct answer answers[] = {
	        {REFUSES("\1"), false, "4.4.1", "general SOCKS server failure"},
	        {REFUSES("\2"), false, "4.4.1", "not allowed by its rules"},
	        {REFUSES("\3"), false, "4.4.1", "network unreachable"},
	        {REFUSES("\4"), false, "4.4.1", "host unreachable"},
	        {REFUSES("\5"), false, "4.4.1", "connection refused"},
	        {REFUSES("\6"), false, "4.4.1", "TTL expired"},
	        {REFUSES("\7"), true, "4.3.5", "command not supported"},
	        {REFUSES("\10"), false, "4.4.1", "address type not supported"},
	        {REFUSES("\11"), true, "4.3.5", "RFC 1928 does not know"},
	        {REFUSES("\377"), true, "4.3.5", "RFC 1928 does not know"},
	        {FAKE_PROXY_CONNECT, SAYS("\5\5"), true, false, "4.4.1", "connection refused"},
	};

	(void)state;
	for (size_t i = 0; i < array_len(answers); i++)
		check_answer(&answers[i], false);
}

static void test_misbehaving(void **state)
{
	static const struct answer answers[] = {
	        {FAKE_PROXY_METHOD, SAYS("\5\377"), false, true, "4.3.5", "wants credentials"},
	        {FAKE_PROXY_METHOD, SAYS("\5\2"), false, true, "4.3.5", "not offered"},
	        {FAKE_PROXY_METHOD, SAYS("\4\0"), false, true, "4.3.5", "does not speak SOCKS5"},
	        {FAKE_PROXY_METHOD, SAYS("HTTP/1.1 400 Bad Request\r\n\r\n"), true, true, "4.3.5",
	                "does not speak SOCKS5"},
	        {FAKE_PROXY_METHOD, SAYS("220 mx.test ESMTP\r\n"), false, true, "4.3.5",
	                "does not speak SOCKS5"},
	        {FAKE_PROXY_METHOD, SAYS("\5"), true, true, "4.3.5", "choice of authentication"},
	        {FAKE_PROXY_METHOD, SAYS(""), true, true, "4.3.5",
	                "connection closed while waiting for its choice"},
	        {FAKE_PROXY_CONNECT, SAYS(""), true, false, "4.3.0", "connection closed"},
	        {FAKE_PROXY_CONNECT, SAYS("\5\0"), true, true, "4.3.5",
	                "connection closed while waiting until"},
	        {FAKE_PROXY_CONNECT, SAYS("\4\0\0\1\0\0\0\0\0\0"), false, true, "4.3.5",
	                "does not speak SOCKS5"},
	        {FAKE_PROXY_CONNECT, SAYS("\5\0\0\3\4host\0\0"), false, true, "4.3.5",
	                "does not tell the address"},
	        /* another address than the binding's, and none: both as bad */
	        {FAKE_PROXY_CONNECT, SAYS("\5\0\0\1\177\0\0\103\0\0"), false, true, "4.3.5",
	                "connected from 127.0.0.67 instead of " AWAY ": closed"},
	        {FAKE_PROXY_CONNECT, SAYS("\5\0\0\1\0\0\0\0\0\0"), false, true, "4.3.5",
	                "connected from 0.0.0.0 instead of"},
	};

	(void)state;
	for (size_t i = 0; i < array_len(answers); i++)
		check_answer(&answers[i], false);
}

static void test_credentials_refused(void **state)
{
	static const struct answer answers[] = {
	        {FAKE_PROXY_METHOD, SAYS("\5\377"), false, true, "4.3.5", "takes no user name"},
	        {FAKE_PROXY_METHOD, SAYS("\5\0"), false, true, "4.3.5", "not offered"},
	        {FAKE_PROXY_LOGIN, SAYS("\1\1"), true, true, "4.3.5", "refused user name and password"},
	        {FAKE_PROXY_LOGIN, SAYS("\2\0"), false, true, "4.3.5", "does not speak SOCKS5"},
	        {FAKE_PROXY_LOGIN, SAYS(""), true, true, "4.3.5", "word on user name and password"},
	};

	(void)state;
	for (size_t i = 0; i < array_len(answers); i++)
		check_answer(&answers[i], true);
}

/* connect_timeout is for all of it together. */
static void check_silent(enum fake_proxy_stage stage, bool proxy, const char *enhanced, const char *what)
{
	struct egress e;

	begin(&e, true);
	fake_proxy_says(e.proxy, stage, "", 0, false);
	open_one(&e);
	rig_advance(&e.rig, 29);
	assert_string_equal(e.rig.story.data, "");
	rig_advance(&e.rig, 2);
	expect_failed(&e, proxy, enhanced, what);
	end(&e);
}

static void test_silent(void **state)
{
	(void)state;
	check_silent(FAKE_PROXY_METHOD, true, "4.3.5", "timed out while waiting for its choice");
	check_silent(FAKE_PROXY_CONNECT, false, "4.4.1", "timed out");
}

/* With PROXY v2 nobody says why there is no banner. */
static void test_proxy_v2_no_banner(void **state)
{
	struct egress e;

	(void)state;
	begin(&e, false);
	assert_true(scripted_mx_line(e.rig.mx, "CONNECT: close"));
	open_one(&e);
	assert_string_equal(e.rig.story.data, "back/lost failed");
	assert_string_equal(
	        e.rig.why.reply, "lost connection while waiting for the banner through the egress proxy");
	assert_string_equal(e.rig.why.enhanced, "4.4.2");
	assert_false(e.rig.why.proxy);
	end(&e);
}

/* Without an address of that family there is nothing to tell the proxy. */
static void test_no_source(void **state)
{
	struct egress e;

	(void)state;
	begin(&e, false);
	e.rig.open.source = (struct addr){.family = AF_UNSPEC};
	e.rig.open.any_source = true;
	open_one(&e);
	assert_string_equal(e.rig.story.data, "back failed");
	assert_string_equal(e.rig.why.reply, "binding acme has no IPv4 source address");
	assert_int_equal(e.proxy->connections, 0);
	end(&e);
}

static void test_cancelled(void **state)
{
	struct egress e;

	(void)state;
	begin(&e, true);
	fake_proxy_says(e.proxy, FAKE_PROXY_METHOD, "", 0, false);
	open_one(&e);
	session_quit(e.rig.session);
	rig_run(&e.rig);
	assert_string_equal(e.rig.story.data, "back closed");
	end(&e);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proxy_v2),
        cmocka_unit_test(test_socks5),
        cmocka_unit_test(test_socks5_credentials),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_unreachable),
        cmocka_unit_test(test_each_reply),
        cmocka_unit_test(test_misbehaving),
        cmocka_unit_test(test_credentials_refused),
        cmocka_unit_test(test_silent),
        cmocka_unit_test(test_proxy_v2_no_banner),
        cmocka_unit_test(test_no_source),
        cmocka_unit_test(test_cancelled),
};

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("session_egress", tests, NULL, NULL);
}
