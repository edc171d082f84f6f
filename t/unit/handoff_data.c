#include "config.h"
#include "base/clock.h"
#include "base/mem.h"
#include "handoff/data_scan.h"
#include "handoff/message_header.h"
#include "handoff/trace_field.h"
#include "t/lib/test.h"

static void to_str(void *ctx, const char *p, size_t len)
{
	str_add_mem(ctx, p, len);
}

/* Feeds in chunks of at most `chunk` bytes (0: random ones); a block of its own each, so that tools see overruns. */
static size_t next_chunk(struct rnd *rnd, size_t chunk, size_t left)
{
	size_t n = chunk ? chunk : 1 + (size_t)rnd_below(rnd, left);

	return n < left ? n : left;
}

/* --- data_scan ---------------------------------------------------------------------------------------------- */

struct scanned {
	struct str bytes;
	unsigned flags;
	size_t used;
	bool end;
	uint64_t size;
};

static void scan(const char *data, size_t len, size_t chunk, struct rnd *rnd, struct scanned *out)
{
	struct data_scan s;

	str_init(&out->bytes);
	out->used = 0;
	out->end = false;
	data_scan_init(&s, to_str, &out->bytes);
	while (out->used < len && !out->end) {
		size_t n = next_chunk(rnd, chunk, len - out->used);
		char *copy = mem_alloc(n);

		memcpy(copy, data + out->used, n);
		out->used += data_scan_feed(&s, copy, n, &out->end);
		mem_free(&copy);
	}
	out->flags = s.flags;
	out->size = s.size;
}

static const struct scan_case {
	const char *data;
	size_t len;
	const char *bytes; /* NULL = refused: they do not matter */
	unsigned flags;
	int rest; /* what is left behind the end; -1 = no end */
} scan_cases[] = {
#define DATA(text) text, sizeof(text) - 1
        {DATA(".\r\n"), "", 0, 0},
        {DATA(".\r\nQUIT\r\n"), "", 0, 6},
        {DATA("a\r\n.\r\n"), "a\r\n", 0, 0},
        {DATA("a\r\n.\r\n.\r\n"), "a\r\n", 0, 3},
        {DATA("\r\n\r\n.\r\n"), "\r\n\r\n", 0, 0},
        {DATA("..\r\n.\r\n"), ".\r\n", SCAN_DOT_LINES, 0},
        {DATA("a\r\n..b\r\n...\r\n.\r\n"), "a\r\n.b\r\n..\r\n", SCAN_DOT_LINES, 0},
        {DATA(".a\r\n.\r\n"), "a\r\n", 0, 0},
        {DATA("a.\r\n.b.\r\nc..\r\n.\r\n"), "a.\r\nb.\r\nc..\r\n", 0, 0},
        {DATA("a\r\n. \r\n.\r\n"), "a\r\n \r\n", 0, 0},
        {DATA("\xc3\xa9\r\n.\r\n"), "\xc3\xa9\r\n", SCAN_8BIT, 0},
        {DATA("0123456789abcde\xff\r\n.\r\n"), "0123456789abcde\xff\r\n", SCAN_8BIT, 0},
        {DATA("a\r\n.\r\n\xff"), "a\r\n", 0, 1},
        /* smuggling: none of these is the end */
        {DATA("a\n.\n"), NULL, SCAN_BARE_LF, -1},
        {DATA("a\n.\r\n"), NULL, SCAN_BARE_LF, -1},
        {DATA("a\r\n.\n"), NULL, SCAN_BARE_LF, -1},
        {DATA("a\r.\r\n"), NULL, SCAN_BARE_CR, -1},
        {DATA("a\r\n.\r"), NULL, 0, -1},
        {DATA("a\r\n.\r\rb"), NULL, SCAN_BARE_CR, -1},
        {DATA("a\r.\rb"), NULL, SCAN_BARE_CR, -1},
        {DATA("a\n\n.\n\n"), NULL, SCAN_BARE_LF, -1},
        {DATA("a\r\n\0.\r\n"), NULL, SCAN_NUL, -1},
        {DATA("a\r\n.\0\r\n"), NULL, SCAN_NUL, -1},
        {DATA("a\n.\r\nMAIL FROM:<x@y>\r\n.\r\n"), NULL, SCAN_BARE_LF, 0},
        {DATA("a\r\r\n.\r\n"), NULL, SCAN_BARE_CR, 0},
        {DATA("a\r\n\n.\r\n.\r\n"), NULL, SCAN_BARE_LF, 0},
        {DATA(".\r.\r\n.\r\n"), NULL, SCAN_BARE_CR, 0},
        {DATA(".\n\r\n.\r\n"), NULL, SCAN_BARE_LF, 0},
        {DATA("\n.\r\n.\r\n"), NULL, SCAN_BARE_LF, 0},
        {DATA("\r.\r\n.\r\n"), NULL, SCAN_BARE_CR, 0},
        {DATA("a\0b\r\n.\r\n"), NULL, SCAN_NUL, 0},
        {DATA("a\r\n.\r\n\0"), "a\r\n", 0, 1},
        {DATA("\n\r\0\xff.\r\n..\r\n.\r\n"), NULL, SCAN_REFUSED | SCAN_8BIT | SCAN_DOT_LINES, 0},
};

static void check_scan(const struct scan_case *c, size_t chunk, struct rnd *rnd)
{
	struct scanned got;

	scan(c->data, c->len, chunk, rnd, &got);
	if (got.end != (c->rest >= 0) || got.flags != c->flags ||
	        (c->rest >= 0 && got.used != c->len - (size_t)c->rest))
		fail_msg("case %d, chunks %zu: end %d flags %#x used %zu", (int)(c - scan_cases), chunk,
		        got.end, got.flags, got.used);
	if (c->bytes) {
		assert_int_equal(got.bytes.len, strlen(c->bytes));
		assert_memory_equal(got.bytes.data, c->bytes, got.bytes.len);
		assert_int_equal(got.size, got.bytes.len);
	}
	str_free(&got.bytes);
}

static void test_scan(void **state)
{
	struct fake_rnd rnd;

	(void)state;
	fake_rnd_init(&rnd, 1);
	for (size_t i = 0; i < array_len(scan_cases); i++) {
		for (size_t chunk = 1; chunk <= scan_cases[i].len; chunk++)
			check_scan(&scan_cases[i], chunk, &rnd.rnd);
		for (int again = 0; again < 50; again++)
			check_scan(&scan_cases[i], 0, &rnd.rnd);
	}
}

/* The obvious way, a byte at a time over all of it: where data ends and what it holds. */
static size_t plain_scan(const char *p, size_t len, struct str *out, unsigned *flags)
{
	bool line_start = true;

	*flags = 0;
	for (size_t i = 0; i < len; i++) {
		if (line_start && p[i] == '.') {
			if (i + 2 < len && p[i + 1] == '\r' && p[i + 2] == '\n')
				return i + 3;
			if (++i == len)
				break;
			if (p[i] == '.')
				*flags |= SCAN_DOT_LINES;
		}
		line_start = false;
		if (p[i] == '\r' && i + 1 < len && p[i + 1] != '\n')
			*flags |= SCAN_BARE_CR;
		if (p[i] == '\n') {
			line_start = i > 0 && p[i - 1] == '\r';
			if (!line_start)
				*flags |= SCAN_BARE_LF;
		}
		if (p[i] == '\0')
			*flags |= SCAN_NUL;
		if (p[i] & 0x80)
			*flags |= SCAN_8BIT;
		str_add_mem(out, p + i, 1);
	}
	return 0;
}

static void test_scan_random(void **state)
{
	static const char alphabet[] = "\r\n.\r\n.\r\n.ab\xff";
	struct fake_rnd rnd;

	(void)state;
	fake_rnd_init(&rnd, 2);
	for (int round = 0; round < 20000; round++) {
		char data[64];
		size_t len = 1 + (size_t)rnd_below(&rnd.rnd, sizeof(data)), used;
		struct scanned got;
		struct str want;
		unsigned flags;

		str_init(&want);
		for (size_t i = 0; i < len; i++)
			data[i] = rnd_below(&rnd.rnd, 40)
			                  ? alphabet[rnd_below(&rnd.rnd, sizeof(alphabet) - 1)]
			                  : '\0';
		used = plain_scan(data, len, &want, &flags);
		scan(data, len, 0, &rnd.rnd, &got);
		assert_int_equal(got.end, used > 0);
		if (used) {
			assert_int_equal(got.used, used);
			assert_int_equal(got.flags, flags);
			if (!(flags & SCAN_REFUSED)) {
				assert_int_equal(got.bytes.len, want.len);
				assert_memory_equal(got.bytes.data, want.data, want.len);
			}
		}
		str_free(&want);
		str_free(&got.bytes);
	}
}

/* --- message_header ----------------------------------------------------------------------------------------- */

#define OWN "by mta1.example.net (bindpost)"

static const struct header_case {
	const char *data;
	const char *bytes; /* what is passed on */
	const char *stamp; /* first, NULL = none */
	unsigned n_stamps, n_received, n_own;
	const char *message_id; /* NULL = none */
	bool done;
} header_cases[] = {
        {"", "", NULL, 0, 0, 0, NULL, false},
        {"\r\n", "\r\n", NULL, 0, 0, 0, NULL, true},
        {"Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n\r\nbody\r\n", NULL, 0, 0, 0, NULL, true},
        {"Subject: x\r\n", "Subject: x\r\n", NULL, 0, 0, 0, NULL, false},
        {"X-Binding: acme\r\n\r\n", "\r\n", "acme", 1, 0, 0, NULL, true},
        {"x-BINDING:acme\r\nA: b\r\n\r\n", "A: b\r\n\r\n", "acme", 1, 0, 0, NULL, true},
        {"A: b\r\nX-Binding \t : acme\r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n\r\n", "acme", 1, 0, 0, NULL, true},
        {"A: b\r\nX-Binding: acme;\r\n\tb=rule\r\n C: d\r\nE: f\r\n\r\n", "A: b\r\nE: f\r\n\r\n",
                "acme;\r\n\tb=rule\r\n C: d", 1, 0, 0, NULL, true},
        {"X-Binding:\r\n acme\r\n\r\n", "\r\n", "acme", 1, 0, 0, NULL, true},
        {"X-Binding:\r\n\r\n", "\r\n", "", 1, 0, 0, NULL, true},
        {"X-Binding: a\r\nX-Binding: b\r\n\r\n", "\r\n", "a", 2, 0, 0, NULL, true},
        {"X-Binding: a\r\nB: c\r\n\td\r\nx-binding : b\r\n e\r\n\r\n", "B: c\r\n\td\r\n\r\n", "a", 2, 0, 0,
                NULL, true},
        /* after the first empty line it is body */
        {"A: b\r\n\r\nX-Binding: acme\r\n", "A: b\r\n\r\nX-Binding: acme\r\n", NULL, 0, 0, 0, NULL, true},
        {"\r\nX-Binding: acme\r\n", "\r\nX-Binding: acme\r\n", NULL, 0, 0, 0, NULL, true},
        /* a line of blanks is not empty, and goes on with what was before */
        {"A: b\r\n \r\nX-Binding: acme\r\n\r\n", "A: b\r\n \r\n\r\n", "acme", 1, 0, 0, NULL, true},
        {"X-Binding: acme\r\n \t\r\nA: b\r\n\r\n", "A: b\r\n\r\n", "acme", 1, 0, 0, NULL, true},
        /* none of these is a stamp */
        {" X-Binding: acme\r\n\r\n", " X-Binding: acme\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"X-Binding\r\n : acme\r\n\r\n", "X-Binding\r\n : acme\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"X-Binding\r\n\r\n", "X-Binding\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"X-Binding \t\r\n\r\n", "X-Binding \t\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"X-Binding2: acme\r\n\r\n", "X-Binding2: acme\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"X-Bindin: acme\r\n\r\n", "X-Bindin: acme\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"X-Binding x: acme\r\n\r\n", "X-Binding x: acme\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"X-Binding\x01: acme\r\n\r\n", "X-Binding\x01: acme\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {"A: b\r\n\tX-Binding: acme\r\n\r\n", "A: b\r\n\tX-Binding: acme\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        {": acme\r\nno field\r\n\r\n", ": acme\r\nno field\r\n\r\n", NULL, 0, 0, 0, NULL, true},
        /* Received */
        {"Received: from a by b\r\nreceived : x\r\nReceived-SPF: y\r\n\r\n",
                "Received: from a by b\r\nreceived : x\r\nReceived-SPF: y\r\n\r\n", NULL, 0, 2, 0, NULL,
                true},
        {"Received: from a\r\n\tby mta1.example.net\r\n  (bindpost) with LMTP\r\nA: " OWN "\r\n\r\n",
                "Received: from a\r\n\tby mta1.example.net\r\n  (bindpost) with LMTP\r\nA: " OWN "\r\n\r\n",
                NULL, 0, 1, 1, NULL, true},
        {"Received: from a by mta2.example.net (bindpost)\r\n\r\n",
                "Received: from a by mta2.example.net (bindpost)\r\n\r\n", NULL, 0, 1, 0, NULL, true},
        {"Received: " OWN, "Received: " OWN, NULL, 0, 1, 1, NULL, false},
        /* Message-ID */
        {"Message-ID: <1@x>\r\nMESSAGE-id: <2@x>\r\n\r\n", "Message-ID: <1@x>\r\nMESSAGE-id: <2@x>\r\n\r\n",
                NULL, 0, 0, 0, "<1@x>", true},
        {"message-id :\r\n <1\r\n\t@x> \r\n\r\n", "message-id :\r\n <1\r\n\t@x> \r\n\r\n", NULL, 0, 0, 0,
                "<1\t@x>", true},
        {"Message-ID:\r\n\r\n", "Message-ID:\r\n\r\n", NULL, 0, 0, 0, "", true},
};

static void feed_header(struct message_header *h, const char *data, size_t len, size_t chunk, struct rnd *rnd)
{
	for (size_t used = 0; used < len;) {
		size_t n = next_chunk(rnd, chunk, len - used);
		char *copy = mem_alloc(n);

		memcpy(copy, data + used, n);
		message_header_feed(h, copy, n);
		mem_free(&copy);
		used += n;
	}
	message_header_end(h);
}

static void check_header(const struct header_case *c, size_t chunk, struct rnd *rnd)
{
	struct message_header h;
	struct str out;

	str_init(&out);
	message_header_init(&h, "X-Binding", OWN, to_str, &out);
	h.capture_fields = h.capture_body = chunk != 1;
	h.body_max = 3;
	feed_header(&h, c->data, strlen(c->data), chunk, rnd);
	if (strcmp(out.data, c->bytes) != 0 || h.n_stamps != c->n_stamps || h.n_received != c->n_received ||
	        h.n_own_received != c->n_own || h.done != c->done)
		fail_msg("case %d, chunks %zu: \"%s\" stamps %u received %u own %u done %d",
		        (int)(c - header_cases), chunk, out.data, h.n_stamps, h.n_received, h.n_own_received,
		        h.done);
	if (c->stamp)
		assert_string_equal(h.stamp.data, c->stamp);
	assert_int_equal(h.has_message_id, c->message_id != NULL);
	if (c->message_id)
		assert_string_equal(h.message_id.data, c->message_id);
	assert_int_equal(strlen(c->data), out.len + h.cut);
	message_header_free(&h);
	str_free(&out);
}

static void test_header(void **state)
{
	struct fake_rnd rnd;

	(void)state;
	fake_rnd_init(&rnd, 3);
	for (size_t i = 0; i < array_len(header_cases); i++) {
		for (size_t chunk = 1; chunk <= strlen(header_cases[i].data) + 1; chunk++)
			check_header(&header_cases[i], chunk, &rnd.rnd);
		for (int again = 0; again < 30; again++)
			check_header(&header_cases[i], 0, &rnd.rnd);
	}
}

/* Lines longer than is held: what they are must not depend on where chunks end. */
static void check_long(const char *start, size_t n, char fill, const char *end, bool kept, unsigned n_stamps)
{
	static const size_t chunks[] = {
	        1, 7, 1000, HEADER_LINE_HELD - 1, HEADER_LINE_HELD, HEADER_LINE_HELD + 1, 1 << 20};
	struct str data;

	str_init(&data);
	str_add(&data, "A: b\r\n");
	str_add(&data, start);
	for (size_t i = 0; i < n; i++)
		str_add_char(&data, fill);
	str_add(&data, end);
	str_add(&data, "\r\nC: d\r\n\r\n");
	for (size_t i = 0; i < array_len(chunks); i++) {
		struct message_header h;
		struct str out;

		str_init(&out);
		message_header_init(&h, "X-Binding", OWN, to_str, &out);
		feed_header(&h, data.data, data.len, chunks[i], NULL);
		assert_int_equal(h.n_stamps, n_stamps);
		if (kept)
			assert_string_equal(out.data, data.data);
		else
			assert_string_equal(out.data, "A: b\r\nC: d\r\n\r\n");
		assert_true(h.done);
		assert_int_equal(h.kept, out.len);
		message_header_free(&h);
		str_free(&out);
	}
	str_free(&data);
}

static void test_header_long_lines(void **state)
{
	(void)state;
	for (size_t n = HEADER_LINE_HELD - 20; n < HEADER_LINE_HELD + 20; n++) {
		check_long("D: ", n, 'x', "", true, 0);
		check_long("X-Binding:", n, 'x', "", false, 1);
		check_long("X-Binding", n, 'x', ": y", true, 0);
		check_long("", n, 'x', "", true, 0);
	}
	check_long("X-Binding", 100, ' ', ": acme", false, 1);
	check_long("X-Binding", 3 * HEADER_LINE_HELD, ' ', ": acme", false, 1);
	check_long("X-Binding:", 10 * HEADER_LINE_HELD, 'x', "\r\n more", false, 1);
	check_long("D: ", 10 * HEADER_LINE_HELD, 'x', "\r\n\tX-Binding: no", true, 0);
}

/* A stamp of megabytes costs bounded memory and is not valid. */
static void test_header_endless_stamp(void **state)
{
	struct message_header h;
	struct str out;
	char block[1000];

	(void)state;
	str_init(&out);
	memset(block, 'x', sizeof(block));
	message_header_init(&h, "X-Binding", OWN, to_str, &out);
	message_header_feed(&h, "X-Binding: ", 11);
	for (int i = 0; i < 10000; i++)
		message_header_feed(&h, block, sizeof(block));
	message_header_feed(&h, "\r\n\r\n", 4);
	message_header_end(&h);
	assert_true(h.stamp.failed);
	assert_true(h.stamp.size <= 2 * HEADER_VALUE_MAX);
	assert_string_equal(out.data, "\r\n");
	message_header_free(&h);
	str_free(&out);
}

static void check_fact(const struct fact_header *fact, const char *name, const char *value)
{
	assert_int_equal(fact->name_len, strlen(name));
	assert_memory_equal(fact->name, name, fact->name_len);
	assert_int_equal(fact->value_len, strlen(value));
	assert_memory_equal(fact->value, value, fact->value_len);
}

static void test_header_facts(void **state)
{
	static const char data[] =
	        "Subject : one\r\n two\r\nX-Binding: acme\r\n more\r\nno field\r\n of these\r\nX:\r\n"
	        "X-Customer:\tacme\r\n\r\nbody as sent";
	struct fake_rnd rnd;

	(void)state;
	fake_rnd_init(&rnd, 4);
	for (int round = 0; round < 200; round++) {
		struct message_header h;
		struct fact_header *facts;
		struct str out;
		size_t n;

		str_init(&out);
		message_header_init(&h, "X-Binding", OWN, to_str, &out);
		h.capture_fields = h.capture_body = true;
		h.body_max = 7;
		feed_header(&h, data, sizeof(data) - 1, round ? 0 : 1, &rnd.rnd);
		facts = message_header_facts(&h, &n);
		assert_int_equal(n, 3);
		check_fact(&facts[0], "Subject", " one\r\n two");
		check_fact(&facts[1], "X", "");
		check_fact(&facts[2], "X-Customer", "\tacme");
		assert_string_equal(h.body.data, "body as");
		assert_true(message_header_captured(&h) > 0);
		message_header_drop_capture(&h);
		assert_int_equal(message_header_captured(&h), 0);
		mem_free(&facts);
		message_header_free(&h);
		str_free(&out);
	}
}

/* --- trace_field -------------------------------------------------------------------------------------------- */

static void test_trace(void **state)
{
	struct addr v4, v6;
	struct trace t = {.hostname = "mta1.example.net",
	        .protocol = "LMTP",
	        .id = 0x1234,
	        .wall_us = 1763654400 * SECOND_US};
	struct str out, token;

	(void)state;
	str_init(&out);
	str_init(&token);
	assert_true(addr_parse("192.0.2.7", &v4, NULL));
	assert_true(addr_parse("2001:db8::7", &v6, NULL));
	t.helo = "mail.example";
	t.name = "host.example";
	t.client = &v4;
	trace_field_print(&t, &out);
	assert_string_equal(out.data, "Received: from mail.example (host.example [192.0.2.7])\r\n"
	                              "\tby mta1.example.net (bindpost) with LMTP id 0000000000001234;\r\n"
	                              "\tThu, 20 Nov 2025 16:00:00 +0000\r\n");
	str_clear(&out);
	t.helo = "a\r\nX-Evil: b";
	t.name = "x) by evil (y";
	t.client = &v6;
	trace_field_print(&t, &out);
	assert_non_null(strstr(out.data, "from a??X-Evil:?b (x??by?evil??y [IPv6:2001:db8::7])"));
	str_clear(&out);
	t.helo = t.name = NULL;
	t.client = NULL;
	t.local = true;
	trace_field_print(&t, &out);
	assert_non_null(strstr(out.data, "Received: from unknown (local)\r\n\tby mta1"));
	trace_field_token("mta1.example.net", &token);
	assert_non_null(strstr(out.data, token.data));
	str_free(&out);
	str_free(&token);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_scan_random),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_header_long_lines),
        cmocka_unit_test(test_header_endless_stamp),
        cmocka_unit_test(test_header_facts),
        cmocka_unit_test(test_trace),
};

TEST_MAIN("handoff_data", tests)
