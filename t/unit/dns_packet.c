/* dns_packet - what is read from packets of every kind of peer */
#include "config.h"
#include "t/lib/test.h"

#include "base/mem.h"
#include "route/resolver/dns_name.h"
#include "route/resolver/dns_packet.h"
#include "t/lib/dns_wire.h"

#define ANSWER_FLAGS (DNS_WIRE_QR | DNS_WIRE_RD | DNS_WIRE_RA)
#define ID 0x1234

static struct dns_wire w;
static struct dns_chain chain;
static struct dns_read got;

static enum dns_reading read_as(const char *name, enum dns_type type, const uint8_t *raw, size_t len)
{
	struct dns_question q;
	uint8_t *copy = malloc(len ? len : 1); /* of exactly this size, for AddressSanitizer */
	enum dns_reading reading;

	assert_true(dns_question_set(&q, name, type, NULL));
	dns_chain_start(&chain, &q);
	if (len)
		memcpy(copy, raw, len);
	reading = dns_packet_read(copy, len, &q, ID, true, false, &chain, &got);
	free(copy);
	return reading;
}

static enum dns_reading read_mx(void)
{
	return read_as("d.test", DNS_MX, w.bytes, w.len);
}

static void drop(void)
{
	dns_result_unref(&got.result);
}

static void begin(unsigned flags, unsigned type)
{
	wire_header(&w, ID, ANSWER_FLAGS | flags);
	wire_question(&w, "d.test", type);
}

static void query_as_rfcs_want_it(void **state)
{
	struct dns_question q;
	uint8_t out[DNS_QUERY_MAX];
	static const uint8_t expect[] = {0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1, 1, 'd', 4, 't', 'e',
	        's', 't', 0, 0, 15, 0, 1, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0};

	(void)state;
	assert_true(dns_question_set(&q, "D.Test.", DNS_MX, NULL));
	assert_string_equal(q.text, "d.test");
	assert_int_equal(dns_packet_query(&q, ID, true, out), sizeof(expect));
	assert_memory_equal(out, expect, sizeof(expect));
	assert_int_equal(dns_packet_query(&q, ID, false, out), sizeof(expect) - 11);
	assert_int_equal(out[11], 0);
	assert_true(dns_question_set(&q, ".", DNS_NS, NULL));
	assert_int_equal(dns_packet_query(&q, ID, false, out), 17);
}

static void names_dns_cannot_hold(void **state)
{
	char long_label[70], long_name[300];
	const char *bad[] = {
	        "", "a..b", ".a", "a\\.b", "a b", "a\tb", "\xc3\xa4.test", long_label, long_name};
	struct dns_question q;

	(void)state;
	memset(long_label, 'a', 64);
	long_label[64] = '\0';
	for (int i = 0; i < 260; i++)
		long_name[i] = i % 10 == 9 ? '.' : 'a';
	long_name[259] = '\0';
	for (size_t i = 0; i < array_len(bad); i++)
		if (dns_question_set(&q, bad[i], DNS_A, NULL))
			fail_msg("\"%s\" taken", bad[i]);
	long_label[63] = '\0';
	assert_true(dns_question_set(&q, long_label, DNS_A, NULL));
	long_name[253] = '\0'; /* the longest there is */
	assert_true(dns_question_set(&q, long_name, DNS_A, NULL));
	assert_int_equal(q.name.len, 255);
	long_name[253] = 'a';
	long_name[254] = '\0';
	assert_false(dns_question_set(&q, long_name, DNS_A, NULL));
}

static void plain_answer(void **state)
{
	(void)state;
	begin(DNS_WIRE_AD, DNS_MX);
	wire_mx(&w, "D.test", 600, 20, "B.test");
	wire_mx(&w, "d.TEST", 300, 10, "a.test");
	wire_opt(&w, 1232, 0);
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.outcome, DNS_ANSWER);
	assert_int_equal(got.result->answer.n, 2);
	assert_string_equal(got.result->answer.records[0].mx.host, "b.test");
	assert_int_equal(got.result->answer.records[0].mx.preference, 20);
	assert_string_equal(got.result->answer.name, "d.test");
	assert_int_equal(got.result->answer.ttl_s, 300);
	assert_true(got.result->answer.authentic);
	drop();
}

static void compressed_names(void **state)
{
	(void)state;
	begin(0, DNS_MX);
	wire_count(&w, 1, 1);
	wire_pointer(&w, 12);
	wire_u16(&w, DNS_MX);
	wire_u16(&w, 1);
	wire_u32(&w, 60);
	wire_u16(&w, 7);
	wire_u16(&w, 5);
	wire_bytes(&w, "\2mx", 3);
	wire_pointer(&w, 12);
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_string_equal(got.result->answer.records[0].mx.host, "mx.d.test");
	drop();
}

/* Each changes one thing so that the packet answers no question of ours */
static void not_an_answer_at_all(void **state)
{
	(void)state;
	wire_header(&w, ID + 1, ANSWER_FLAGS); /* id */
	wire_question(&w, "d.test", DNS_MX);
	wire_mx(&w, "d.test", 60, 10, "evil.test");
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	wire_header(&w, ID, DNS_WIRE_RD); /* a query */
	wire_question(&w, "d.test", DNS_MX);
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	for (unsigned opcode = 1; opcode < 16; opcode++) {
		wire_header(&w, ID, ANSWER_FLAGS | opcode << 11);
		wire_question(&w, "d.test", DNS_MX);
		assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	}
	wire_header(&w, ID, ANSWER_FLAGS);
	wire_question(&w, "e.test", DNS_MX); /* name */
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	wire_header(&w, ID, ANSWER_FLAGS);
	wire_question(&w, "d.test", DNS_A); /* type */
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	begin(0, DNS_MX);
	w.bytes[w.len - 1] = 3; /* class */
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	begin(0, DNS_MX);
	wire_question(&w, "d.test", DNS_MX); /* two questions */
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	wire_header(&w, ID, ANSWER_FLAGS); /* none */
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	wire_header(&w, ID, ANSWER_FLAGS | 3); /* none, and NXDOMAIN */
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
	wire_header(&w, ID, ANSWER_FLAGS | 1); /* but the bare header with FORMERR is what old servers send */
	assert_int_equal(read_mx(), DNS_READ_NO_EDNS);
}

static void truncated(void **state)
{
	(void)state;
	begin(DNS_WIRE_TC, DNS_MX);
	wire_mx(&w, "d.test", 60, 10, "a.test");
	assert_int_equal(read_mx(), DNS_READ_TRUNCATED);
}

/* However much is cut off: never an answer, never "no such thing" */
static void cut_at_every_length(void **state)
{
	size_t question_end;

	(void)state;
	begin(0, DNS_MX);
	question_end = w.len;
	wire_mx(&w, "d.test", 60, 10, "a.test");
	wire_soa(&w, "test", 60, 60);
	wire_opt(&w, 1232, 0);
	for (size_t len = 0; len < w.len; len++) {
		enum dns_reading reading = read_as("d.test", DNS_MX, w.bytes, len);
		assert_int_equal(reading, len < question_end ? DNS_READ_FOREIGN : DNS_READ_FAILED);
		assert_null(got.result);
	}
}

static void counts_that_lie(void **state)
{
	(void)state;
	for (unsigned section = 1; section <= 3; section++)
		for (int by = -1; by <= 1; by += 2) {
			begin(0, DNS_MX);
			wire_mx(&w, "d.test", 60, 10, "a.test");
			wire_soa(&w, "test", 60, 60);
			wire_opt(&w, 1232, 0);
			wire_count(&w, section, by);
			if (read_mx() == DNS_READ_RESULT)
				assert_int_equal(got.result->answer.outcome,
				        DNS_ANSWER); /* shifted by one section: still whole */
			drop();
		}
	begin(0, DNS_MX); /* records that are not counted must not read as "no data" */
	wire_mx(&w, "d.test", 60, 10, "a.test");
	wire_count(&w, 1, -1);
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	begin(0, DNS_MX);
	wire_count(&w, 1, 65535);
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	begin(0, DNS_MX);
	wire_mx(&w, "d.test", 60, 10, "a.test");
	wire_u8(&w, 0);
	assert_int_equal(read_mx(), DNS_READ_FAILED); /* left over */
}

static void pointers_that_loop(void **state)
{
	static const struct {
		const char *what;
		unsigned to;
	} cases[] = {{"itself", 24}, {"forward", 26}, {"beyond", 0x3fff}, {"header", 2}};

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		begin(0, DNS_MX);
		assert_int_equal(w.len, 24);
		wire_count(&w, 1, 1);
		wire_pointer(&w, cases[i].to);
		wire_u16(&w, DNS_MX);
		wire_u16(&w, 1);
		wire_u32(&w, 60);
		wire_u16(&w, 0);
		if (read_mx() != DNS_READ_FAILED)
			fail_msg("pointer to %s", cases[i].what);
	}
	begin(0, DNS_MX); /* a label, then back to it */
	wire_count(&w, 1, 1);
	wire_bytes(&w, "\1x", 2);
	wire_pointer(&w, 24);
	wire_u16(&w, DNS_MX);
	wire_u16(&w, 1);
	wire_u32(&w, 60);
	wire_u16(&w, 0);
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	wire_header(&w, ID, ANSWER_FLAGS); /* the question itself */
	wire_count(&w, 0, 1);
	wire_pointer(&w, 12);
	wire_u16(&w, DNS_MX);
	wire_u16(&w, 1);
	assert_int_equal(read_mx(), DNS_READ_FOREIGN);
}

static void names_too_long_or_odd_labels(void **state)
{
	(void)state;
	begin(0, DNS_MX);
	wire_count(&w, 1, 1);
	for (int i = 0; i < 5; i++) {
		wire_u8(&w, 63);
		for (int j = 0; j < 63; j++)
			wire_u8(&w, 'a');
	}
	wire_u8(&w, 0);
	wire_u16(&w, DNS_MX);
	wire_u16(&w, 1);
	wire_u32(&w, 60);
	wire_u16(&w, 0);
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	for (unsigned type = 0x40; type <= 0x80; type += 0x40) { /* label types of old experiments */
		begin(0, DNS_MX);
		wire_count(&w, 1, 1);
		wire_u8(&w, type | 1);
		wire_bytes(&w, "a\0", 2);
		wire_u16(&w, DNS_MX);
		wire_u16(&w, 1);
		wire_u32(&w, 60);
		wire_u16(&w, 0);
		assert_int_equal(read_mx(), DNS_READ_FAILED);
	}
}

static void rdata_that_does_not_fit(void **state)
{
	static const struct {
		unsigned type;
		const char *rdata;
		size_t len;
	} cases[] = {{DNS_MX, "", 0}, {DNS_MX, "\0\12", 2}, {DNS_MX, "\0\12\1a", 4},
	        {DNS_MX, "\0\12\1a\0x", 6}, {DNS_MX, "\0\12\77a\0", 5}, {DNS_A, "\1\2\3", 3},
	        {DNS_A, "\1\2\3\4\5", 5}, {DNS_AAAA, "\1\2\3\4", 4}};

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		begin(0, cases[i].type);
		wire_rr(&w, 1, "d.test", cases[i].type, 60, cases[i].rdata, cases[i].len);
		if (read_as("d.test", (enum dns_type)cases[i].type, w.bytes, w.len) != DNS_READ_FAILED)
			fail_msg("case %zu", i);
	}
	begin(0, DNS_MX);
	wire_rr(&w, 1, "d.test", DNS_MX, 60, "\0\12\1a\0", 5);
	w.bytes[w.len - 5 - 1] = 200; /* rdlength beyond the packet */
	assert_int_equal(read_mx(), DNS_READ_FAILED);
}

static void odd_names_are_no_hosts(void **state)
{
	static const char *const wire[] = {"evil\\046test", "a\\000b.test", "mx\\0321.test", "mx1.test\\010",
	        "\\195\\164.test", "a\\092b.test", "<script>.test", "a;b.test"};

	(void)state;
	for (size_t i = 0; i < array_len(wire); i++) {
		begin(0, DNS_MX);
		wire_mx(&w, "d.test", 60, 10, wire[i]);
		if (read_mx() != DNS_READ_FAILED) /* not "no data": the record is there */
			fail_msg("%s taken", wire[i]);
		wire_mx(&w, "d.test", 60, 10, "good_1-x.test");
		assert_int_equal(read_mx(), DNS_READ_RESULT);
		assert_int_equal(got.result->answer.n, 1);
		assert_string_equal(got.result->answer.records[0].mx.host, "good_1-x.test");
		drop();
	}
	begin(0, DNS_A);
	wire_cname(&w, "d.test", 60, "x\\046y.test");
	wire_a(&w, "x\\046y.test", 60, "192.0.2.1");
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_FAILED);
}

static void null_mx(void **state)
{
	(void)state;
	begin(0, DNS_MX);
	wire_mx(&w, "d.test", 60, 0, "");
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_string_equal(got.result->answer.records[0].mx.host, "");
	drop();
}

static void strangers_are_never_used(void **state)
{
	(void)state;
	begin(0, DNS_MX);
	wire_mx(&w, "evil.test", 60, 0, "evil.test");
	wire_mx(&w, "d.test", 60, 10, "a.test");
	wire_mx(&w, "sub.d.test", 60, 0, "evil.test");
	wire_rr(&w, 3, "a.test", DNS_A, 60, "\6\6\6\6", 4);
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.n, 1);
	assert_string_equal(got.result->answer.records[0].mx.host, "a.test");
	drop();
	begin(0, DNS_MX); /* only strangers */
	wire_mx(&w, "evil.test", 60, 0, "evil.test");
	wire_soa(&w, "test", 60, 60);
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.outcome, DNS_NODATA);
	drop();
	begin(0, DNS_MX); /* of another class */
	wire_mx(&w, "d.test", 60, 0, "evil.test");
	w.bytes[24 + 8 + 3] = 3;
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.outcome, DNS_NODATA);
	drop();
}

static void cname_chains(void **state)
{
	char from[32], to[32];

	(void)state;
	for (int n = 1; n <= 9; n++) {
		begin(0, DNS_A);
		wire_cname(&w, "d.test", 100, "c1.test");
		for (int i = 1; i < n; i++) {
			snprintf(from, sizeof(from), "c%d.test", i);
			snprintf(to, sizeof(to), "C%d.test", i + 1);
			wire_cname(&w, from, 50, to);
		}
		snprintf(to, sizeof(to), "c%d.test", n);
		wire_a(&w, to, 70, "192.0.2.1");
		assert_int_equal(
		        read_as("d.test", DNS_A, w.bytes, w.len), n <= 8 ? DNS_READ_RESULT : DNS_READ_FAILED);
		if (n <= 8) {
			assert_string_equal(got.result->answer.name, to);
			assert_int_equal(got.result->answer.ttl_s, n == 1 ? 70 : 50);
		} else {
			assert_true(got.loop);
		}
		drop();
	}
}

static void cname_loops(void **state)
{
	(void)state;
	begin(0, DNS_A);
	wire_cname(&w, "d.test", 60, "d.test");
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_FAILED);
	assert_true(got.loop);
	begin(0, DNS_A);
	wire_cname(&w, "d.test", 60, "e.test");
	wire_cname(&w, "e.test", 60, "D.test");
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_FAILED);
	assert_string_equal(got.why, "CNAME loop");
	begin(0, DNS_A); /* two targets */
	wire_cname(&w, "d.test", 60, "e.test");
	wire_cname(&w, "d.test", 60, "f.test");
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_FAILED);
}

static void cname_without_its_target(void **state)
{
	(void)state;
	begin(DNS_WIRE_AD, DNS_A);
	wire_cname(&w, "d.test", 60, "far.example");
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_FOLLOW);
	assert_string_equal(got.next.text, "far.example");
	assert_int_equal(got.next.type, DNS_A);
	assert_int_equal(got.ttl_s, 60);
	assert_true(got.ad);
	assert_int_equal(chain.n, 2);
	begin(0, DNS_A); /* the SOA says there is nothing */
	wire_cname(&w, "d.test", 60, "far.example");
	wire_soa(&w, "example", 500, 40);
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.outcome, DNS_NODATA);
	assert_int_equal(got.result->answer.ttl_s, 40);
	drop();
	begin(0, DNS_A); /* another zone's SOA says nothing about it */
	wire_cname(&w, "d.test", 60, "far.example");
	wire_soa(&w, "test", 500, 40);
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_FOLLOW);
	begin(3, DNS_A); /* RFC 6604: the rcode is about the last name */
	wire_cname(&w, "d.test", 60, "far.example");
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.outcome, DNS_NXDOMAIN);
	drop();
}

static void negative_answers(void **state)
{
	(void)state;
	begin(0, DNS_MX);
	wire_soa(&w, "test", 900, 300);
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.outcome, DNS_NODATA);
	assert_int_equal(got.result->answer.ttl_s, 300);
	drop();
	begin(3, DNS_MX);
	wire_soa(&w, "", 200, 300);
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.outcome, DNS_NXDOMAIN);
	assert_int_equal(got.result->answer.ttl_s, 200);
	drop();
	begin(3, DNS_MX); /* without SOA: not to be kept */
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.ttl_s, 0);
	drop();
	begin(3, DNS_MX); /* an unrelated SOA */
	wire_soa(&w, "example", 200, 300);
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.ttl_s, 0);
	drop();
	begin(3, DNS_MX); /* denies and answers at once */
	wire_mx(&w, "d.test", 60, 10, "a.test");
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	begin(0, DNS_MX); /* SOA that does not fit its rdata */
	wire_rr(&w, 2, "test", 6, 60, "\0\0\0\0\0\0", 6);
	assert_int_equal(read_mx(), DNS_READ_FAILED);
}

/* A server that does not recurse points elsewhere: that denies nothing. */
static void a_referral_is_no_denial(void **state)
{
	(void)state;
	wire_header(&w, ID, DNS_WIRE_QR | DNS_WIRE_RD);
	wire_question(&w, "d.test", DNS_MX);
	wire_ns(&w, "test", 3600, "ns.test");
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	assert_non_null(strstr(got.why, "referral"));
}

static void rcodes(void **state)
{
	(void)state;
	for (unsigned rcode = 0; rcode < 16; rcode++) {
		begin(rcode, DNS_MX);
		wire_opt(&w, 1232, 0);
		enum dns_reading reading = read_mx();
		if (rcode == 0 || rcode == 3)
			assert_int_equal(reading, DNS_READ_RESULT);
		else
			assert_int_equal(
			        reading, rcode == 1 || rcode == 4 ? DNS_READ_NO_EDNS : DNS_READ_FAILED);
		drop();
	}
	begin(2, DNS_MX);
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	assert_string_equal(got.why, "SERVFAIL");
	begin(0, DNS_MX); /* extended: 16 = BADVERS */
	wire_opt(&w, 1232, 1);
	assert_int_equal(read_mx(), DNS_READ_NO_EDNS);
	begin(3, DNS_MX); /* 16 + 3 is not NXDOMAIN */
	wire_opt(&w, 1232, 1);
	assert_int_equal(read_mx(), DNS_READ_FAILED);
	assert_string_equal(got.why, "rcode 19");
	begin(0, DNS_MX);
	wire_opt(&w, 1232, 0);
	wire_opt(&w, 1232, 0); /* two OPT */
	assert_int_equal(read_mx(), DNS_READ_FAILED);
}

static void at_most_100_records(void **state)
{
	char host[32];

	(void)state;
	begin(0, DNS_MX);
	for (int i = 0; i < 1500; i++) {
		snprintf(host, sizeof(host), "m%d.test", i);
		wire_mx(&w, "d.test", 60, 10, host);
	}
	assert_int_equal(read_mx(), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.n, 100);
	for (int i = 0; i < 100; i++) {
		snprintf(host, sizeof(host), "m%d.test", i);
		assert_string_equal(got.result->answer.records[i].mx.host, host);
	}
	drop();
}

static void ttls(void **state)
{
	(void)state;
	begin(0, DNS_A);
	wire_a(&w, "d.test", 0xffffffff, "192.0.2.1"); /* RFC 2181 8: as 0 */
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.ttl_s, 0);
	drop();
	begin(0, DNS_A);
	wire_a(&w, "d.test", 65535, "192.0.2.1");
	assert_int_equal(read_as("d.test", DNS_A, w.bytes, w.len), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.ttl_s, 65535);
	drop();
}

static void raw_rdata(void **state)
{
	(void)state;
	begin(0, DNS_TLSA);
	wire_rr(&w, 1, "d.test", DNS_TLSA, 60, "\3\1\1abcd", 7);
	assert_int_equal(read_as("d.test", DNS_TLSA, w.bytes, w.len), DNS_READ_RESULT);
	assert_int_equal(got.result->answer.records[0].raw.len, 7);
	assert_memory_equal(got.result->answer.records[0].raw.data, "\3\1\1abcd", 7);
	drop();
	begin(0, DNS_CNAME);
	wire_cname(&w, "d.test", 60, "E.test");
	assert_int_equal(read_as("d.test", DNS_CNAME, w.bytes, w.len), DNS_READ_RESULT);
	assert_memory_equal(got.result->answer.records[0].raw.data, "\1e\4test", 8);
	drop();
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_as_rfcs_want_it),
        cmocka_unit_test(names_dns_cannot_hold),
        cmocka_unit_test(plain_answer),
        cmocka_unit_test(compressed_names),
        cmocka_unit_test(not_an_answer_at_all),
        cmocka_unit_test(truncated),
        cmocka_unit_test(cut_at_every_length),
        cmocka_unit_test(counts_that_lie),
        cmocka_unit_test(pointers_that_loop),
        cmocka_unit_test(names_too_long_or_odd_labels),
        cmocka_unit_test(rdata_that_does_not_fit),
        cmocka_unit_test(odd_names_are_no_hosts),
        cmocka_unit_test(null_mx),
        cmocka_unit_test(strangers_are_never_used),
        cmocka_unit_test(cname_chains),
        cmocka_unit_test(cname_loops),
        cmocka_unit_test(cname_without_its_target),
        cmocka_unit_test(negative_answers),
        cmocka_unit_test(a_referral_is_no_denial),
        cmocka_unit_test(rcodes),
        cmocka_unit_test(at_most_100_records),
        cmocka_unit_test(ttls),
        cmocka_unit_test(raw_rdata),
};
TEST_MAIN("dns_packet", tests)
