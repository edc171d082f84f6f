#include "config.h"
#include "t/lib/test.h"

#include "base/mem.h"
#include "base/names.h"

struct domain_case {
	const char *raw, *wanted; /* NULL = refused */
};

static void test_domains(void **state)
{
	static const struct domain_case cases[] = {
	        {"example.com", "example.com"},
	        {"EXAMPLE.Com.", "example.com"},
	        {"_dmarc.Example.com", "_dmarc.example.com"},
	        {"localhost", "localhost"},
	        {"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
	        {"xn--not-punycode-at-all-!", NULL},
	        {"b\xC3\xBC"
	         "cher.example",
	                "xn--bcher-kva.example"},
	        {"B\xC3\x9C"
	         "CHER.Example.",
	                "xn--bcher-kva.example"},
	        {"bu\xCC\x88"
	         "cher.example",
	                "xn--bcher-kva.example"},   /* u and combining diaeresis: NFC */
	        {"fa\xC3\x9F.de", "xn--fa-hia.de"}, /* not "fass": nontransitional */
	        {"_x.b\xC3\xBC"
	         "cher.example",
	                "_x.xn--bcher-kva.example"},
	        {"example\xE3\x80\x82"
	         "com",
	                "example.com"},         /* ideographic full stop */
	        {"\xE2\x98\x83.example", NULL}, /* a snowman: IDNA 2008 refuses symbols */
	        {"b\xFC"
	         "cher.example",
	                NULL}, /* Latin-1 */
	        {"\xC3\xBC..example", NULL},
	        {"", NULL},
	        {".", NULL},
	        {"a..b", NULL},
	        {".a", NULL},
	        {"a..", NULL},
	        {"a b", NULL},
	        {"a@b", NULL},
	        {"a\nb", NULL},
	        {"[192.0.2.1]", "[192.0.2.1]"},
	        {"[IPV6:2001:DB8::1]", "[IPv6:2001:db8::1]"},
	        {"[ipv6:::ffff:192.0.2.1]", "[IPv6:::ffff:192.0.2.1]"},
	        {"[X400:Some/Thing]", "[x400:some/thing]"},
	        {"[192.0.2.300]", NULL},
	        {"[2001:db8::1]", NULL},
	        {"[IPv6:192.0.2.1]", NULL},
	        {"[IPv6:fe80::1%1]", NULL},
	        {"[]", NULL},
	        {"[", NULL},
	        {"[192.0.2.1", NULL},
	        {"[192.0.2.1].com", NULL},
	};
	char out[DOMAIN_MAX + 64];
	struct error err;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		bool good = domain_normalize(cases[i].raw, strlen(cases[i].raw), out, &err);

		if (good != (cases[i].wanted != NULL) || (good && strcmp(out, cases[i].wanted) != 0))
			fail_msg("\"%s\" gave %s, wanted %s", cases[i].raw, good ? out : err.text,
			        cases[i].wanted != NULL ? cases[i].wanted : "a refusal");
	}
}

static void test_domain_lengths(void **state)
{
	char raw[300], out[DOMAIN_MAX + 64];

	(void)state;
	memset(raw, 'a', sizeof(raw));
	assert_true(domain_normalize(raw, 63, out, NULL));
	assert_false(domain_normalize(raw, 64, out, NULL));
	raw[63] = raw[127] = raw[191] = '.';
	raw[253] = '.';
	assert_true(domain_normalize(raw, 253, out, NULL));
	assert_int_equal(strlen(out), 253);
	assert_true(domain_normalize(raw, 254, out, NULL)); /* the final dot does not count */
	raw[253] = 'a';
	assert_false(domain_normalize(raw, 254, out, NULL));
	assert_false(domain_normalize("a\0b.example", 11, out, NULL));
	assert_false(domain_normalize("\xC3\xBC\0b.example", 12, out, NULL));
}

struct mailaddr_case {
	const char *raw, *local, *domain, *normal; /* local NULL = not an address */
};

static void test_mailaddrs(void **state)
{
	static const struct mailaddr_case cases[] = {
	        {"Joe@Example.COM", "Joe", "Example.COM", "Joe@example.com"},
	        {"<Joe@Example.COM.>", "Joe", "Example.COM.", "Joe@example.com"},
	        {"<>", "", "", ""},
	        {"", "", "", ""},
	        {"postmaster", "postmaster", "", "postmaster"},
	        {"<postmaster>", "postmaster", "", "postmaster"},
	        {"\"a@b\"@c", "\"a@b\"", "c", "\"a@b\"@c"},
	        {"\"a\\\"@b\"@C", "\"a\\\"@b\"", "C", "\"a\\\"@b\"@c"},
	        {"a@b@c", "a@b", "c", "a@b@c"},
	        {"<@a,@b:c@D>", "c", "D", "c@d"},
	        {"@a:c@d", "c", "d", "c@d"},
	        {"<@[IPv6:2001:db8::1],@b:c@d>", "c", "d", "c@d"},
	        {"joe@[192.0.2.1]", "joe", "[192.0.2.1]", "joe@[192.0.2.1]"},
	        {"joe@[ipv6:2001:DB8::1]", "joe", "[ipv6:2001:DB8::1]", "joe@[IPv6:2001:db8::1]"},
	        {"j\xC3\xB6@B\xC3\x9C"
	         "cher.example",
	                "j\xC3\xB6",
	                "B\xC3\x9C"
	                "cher.example",
	                "j\xC3\xB6@xn--bcher-kva.example"},
	        {"joe@B\xFC"
	         "CHER",
	                "joe",
	                "B\xFC"
	                "CHER",
	                "joe@b\xFC"
	                "cher"}, /* refused: only lowered */
	        {"\"<>\"@d", "\"<>\"", "d", "\"<>\"@d"},
	        {"\"unended@d", NULL, NULL, "\"unended@d"},
	        {"<joe@d", NULL, NULL, "<joe@d"},
	        {"joe@d>", NULL, NULL, "joe@d>"},
	        {"<", NULL, NULL, "<"},
	        {"@d", NULL, NULL, "@d"},
	        {"joe@", NULL, NULL, "joe@"},
	        {"<@a:>", NULL, NULL, "@a:"},
	        {"<@a:@b>", NULL, NULL, "@a:@b"},
	};

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		const struct mailaddr_case *c = &cases[i];
		size_t len = strlen(c->raw);
		char *raw = mem_alloc(len); /* not terminated */
		struct mailaddr a;
		struct str normal;
		bool good;

		memcpy(raw, c->raw, len);
		str_init(&normal);
		good = mailaddr_split(raw, len, &a);
		if (good != (c->local != NULL) ||
		        (good && (a.local_len != strlen(c->local) ||
		                         memcmp(a.local, c->local, a.local_len) != 0 ||
		                         a.domain_len != strlen(c->domain) ||
		                         memcmp(a.domain, c->domain, a.domain_len) != 0)))
			fail_msg("\"%s\" gave %d \"%.*s\" \"%.*s\"", c->raw, good, (int)a.local_len, a.local,
			        (int)a.domain_len, a.domain);
		mailaddr_normalize(raw, len, &normal);
		assert_string_equal(normal.data, c->normal);
		str_free(&normal);
		mem_free(&raw);
	}
}

static void test_names(void **state)
{
	static const char *const good[] = {"a", "acme", "A-b_c.1+(x)!@#$%^&*=[]{}|\\<>?~`",
	        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	static const char *const bad[] = {"", "a b", "a:b", "a;b", "a,b", "a/b", "a\"b", "a'b", "a\tb",
	        "\xC3\xBC", "a\x7f", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	struct error err;

	(void)state;
	for (size_t i = 0; i < array_len(good); i++)
		assert_true(name_check("binding", good[i], &err));
	for (size_t i = 0; i < array_len(bad); i++)
		assert_false(name_check("binding", bad[i], &err));
	assert_false(name_check("binding", "a b", &err));
	assert_string_equal(err.text,
	        "binding \"a b\": a name is 1 to 64 bytes of printable ASCII without space : ; , / \" '");
}

static void test_ids(void **state)
{
	char text[ID_TEXT_SIZE];
	uint64_t id = 1;

	(void)state;
	assert_string_equal(id_print(0, text), "0000000000000000");
	assert_string_equal(id_print(0x0123456789abcdef, text), "0123456789abcdef");
	assert_true(id_parse(text, &id));
	assert_int_equal(id, 0x0123456789abcdef);
	assert_true(id_parse("ffffffffffffffff", &id));
	assert_int_equal(id, UINT64_MAX);
	assert_false(id_parse("0123456789ABCDEF", &id));
	assert_false(id_parse("0123456789abcde", &id));
	assert_false(id_parse("0123456789abcdef0", &id));
	assert_false(id_parse("", &id));
	assert_int_equal(id, UINT64_MAX);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_domain_lengths),
        cmocka_unit_test(test_mailaddrs),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_ids),
};
TEST_MAIN("base_names", tests)
