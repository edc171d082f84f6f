/*
 * The DSN: its parts, and that nothing foreign can break out of them.
 */
#include "t/lib/test.h"

#include <string.h>

#include "base/str.h"
#include "report/dsn.h"

static struct str print(const char *diagnostic, const char *headers)
{
	static struct pool *pool;
	struct message original = {.id = 0x63f0,
	        .received_wall_us = 1795192698000123u,
	        .sender = "boss@acme.example",
	        .pool = pool};
	struct dsn_recipient recipients[] = {
	        {.final_recipient = "u@x.example",
	                .action = "failed",
	                .status = "5.1.1",
	                .diagnostic = diagnostic,
	                .diagnostic_is_remote = true,
	                .remote_mta = "mx1.x.example"},
	        {.final_recipient = "v@x.example",
	                .action = "failed",
	                .status = "5.4.7",
	                .diagnostic = "expired"},
	};
	struct dsn d = {
	        .original = &original,
	        .recipients = recipients,
	        .n_recipients = 2,
	        .reporting_mta = "mta1.example.net",
	        .from = "mailer-daemon@mta1.example.net",
	        .now_wall_us = 1795192798000123u,
	        .dsn_id = 0x99,
	        .headers = headers,
	        .headers_len = headers ? strlen(headers) : 0,
	};
	struct str out;

	str_init(&out);
	dsn_print(&d, &out);
	return out;
}

static void has(const struct str *s, const char *part)
{
	if (!strstr(s->data, part))
		fail_msg("missing: %s\nin:\n%s", part, s->data);
}

static void says_what_rfc3464_asks(void **state)
{
	struct str s = print("550 5.1.1 no such user", "Subject: hi\r\nFrom: a@b\r\n\r\n");

	(void)state;
	has(&s, "To: <boss@acme.example>\r\n");
	has(&s, "Auto-Submitted: auto-replied\r\n");
	has(&s, "Content-Type: multipart/report; report-type=delivery-status;\r\n");
	has(&s, "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mta1.example.net\r\n");
	has(&s, "\r\n\r\nFinal-Recipient: rfc822; u@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
	        "Remote-MTA: dns; mx1.x.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n");
	has(&s, "Diagnostic-Code: x-bindpost; expired\r\n");
	has(&s, "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\nFrom: a@b\r\n\r\n--=_bindpost_");
	str_free(&s);
}

static void lines_end_in_crlf_and_are_short(void **state)
{
	char longest[5000];
	struct str s;
	size_t start = 0;

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	s = print(longest, NULL);
	for (size_t i = 0; i < s.len; i++) {
		if (s.data[i] != '\n')
			continue;
		assert_true(i > 0 && s.data[i - 1] == '\r');
		assert_true(i + 1 - start <= 1000);
		start = i + 1;
	}
	assert_int_equal(start, s.len);
	str_free(&s);
}

static void a_reply_cannot_break_out(void **state)
{
	struct str s =
	        print("550 x\r\n\r\n--=_bindpost_0000000000000099\r\nX-Evil: 1\x80", "X: \xc3\xa9\r\n\r\n");

	(void)state;
	assert_null(strstr(s.data, "\nX-Evil"));
	assert_null(strstr(s.data, "\x80"));
	has(&s, "text/rfc822-headers; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
	has(&s, "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n");
	str_free(&s);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_rfc3464_asks),
        cmocka_unit_test(lines_end_in_crlf_and_are_short),
        cmocka_unit_test(a_reply_cannot_break_out),
};

TEST_MAIN("dsn", tests)
