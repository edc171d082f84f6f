/* tls_dane - TLSA records against certificates: RFC 6698, 7671, 7672 as a table */
#include "config.h"
#include "t/lib/test.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include "base/mem.h"
#include "base/str.h"
#include "session/tls_dane.h"
#include "t/lib/tls_certs.h"

#define CHAIN_MAX 24

/* Certificates by letters: r(oot) i(ntermediate) o(ther root) e(xpired intermediate), and those of hosts: l(eaf)
 * x(pired) w(rong name) n(ext hop's) s(elf-signed) f(rom the expired intermediate) d(irectly from the root) */
struct certs {
	struct tls_ca *root, *below, *other, *old;
	struct tls_cert leaf, expired, wrong, next_hop, from_old, direct;
	gnutls_datum_t der[256], key[256];
};

static void import(struct certs *c, char letter, const char *pem)
{
	gnutls_datum_t text = {(unsigned char *)(uintptr_t)pem, (unsigned)strlen(pem)};
	gnutls_x509_crt_t crt;
	gnutls_pubkey_t key;

	gnutls_x509_crt_init(&crt);
	assert_int_equal(gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM), 0);
	assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &c->der[(int)letter]), 0);
	gnutls_pubkey_init(&key);
	assert_int_equal(gnutls_pubkey_import_x509(key, crt, 0), 0);
	assert_int_equal(gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &c->key[(int)letter]), 0);
	gnutls_pubkey_deinit(key);
	gnutls_x509_crt_deinit(crt);
}

static void begin(struct certs *c)
{
	memset(c, 0, sizeof(*c));
	c->root = tls_ca_new("Root");
	c->other = tls_ca_new("Other");
	c->below = tls_ca_below(c->root, "Below", 30);
	c->old = tls_ca_below(c->root, "Old", -1);
	tls_cert_issue(c->below, "mx.test", 30, &c->leaf);
	tls_cert_issue(c->below, "mx.test", -1, &c->expired);
	tls_cert_issue(c->below, "elsewhere.test", 30, &c->wrong);
	tls_cert_issue(c->below, "example.test", 30, &c->next_hop);
	tls_cert_issue(c->old, "mx.test", 30, &c->from_old);
	tls_cert_issue(c->root, "mx.test", 30, &c->direct);
	import(c, 'r', tls_ca_pem(c->root));
	import(c, 'i', tls_ca_pem(c->below));
	import(c, 'o', tls_ca_pem(c->other));
	import(c, 'e', tls_ca_pem(c->old));
	import(c, 'l', c->leaf.certificate);
	import(c, 'x', c->expired.certificate);
	import(c, 'w', c->wrong.certificate);
	import(c, 'n', c->next_hop.certificate);
	import(c, 'f', c->from_old.certificate);
	import(c, 'd', c->direct.certificate);
}

static void end(struct certs *c)
{
	for (int i = 0; i < 256; i++) {
		gnutls_free(c->der[i].data);
		gnutls_free(c->key[i].data);
	}
	tls_cert_free(&c->leaf);
	tls_cert_free(&c->expired);
	tls_cert_free(&c->wrong);
	tls_cert_free(&c->next_hop);
	tls_cert_free(&c->from_old);
	tls_cert_free(&c->direct);
	tls_ca_free(&c->below);
	tls_ca_free(&c->old);
	tls_ca_free(&c->other);
	tls_ca_free(&c->root);
}

/* "3 1 1 l": the record that certificate has; behind it '-': a byte short, '+': a byte more, '!': another digest,
 * '0'..: only that many bytes of rdata. */
static void make_record(const struct certs *c, const char *text, struct str *out)
{
	const gnutls_datum_t *whole = text[2] == '1' ? &c->key[(int)text[6]] : &c->der[(int)text[6]];
	char digest[64];

	str_clear(out);
	for (int i = 0; i < 3; i++)
		str_add_char(out, (char)(text[2 * i] - '0'));
	if (text[4] == '1' || text[4] == '2') {
		gnutls_hash_fast(text[4] == '1' ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA512, whole->data,
		        whole->size, digest);
		str_add_mem(out, digest, text[4] == '1' ? 32 : 64);
	} else {
		str_add_mem(out, (const char *)whole->data, whole->size);
	}
	if (text[7] == '-')
		out->len--;
	else if (text[7] == '+')
		str_add_char(out, 'x');
	else if (text[7] == '!')
		out->data[out->len - 1] ^= 1;
	else if (text[7] >= '0' && text[7] <= '9')
		out->len = (size_t)(text[7] - '0');
}

struct dane_case {
	const char *records, *chain,
	        *expect; /* records: by ", "; expect: "dane-ee" ..., "N" = N usable ones, refused */
	const char *why; /* in the text */
};

/* clang-format off */
static const struct dane_case cases[] = {
	/* usage 3: by certificate or key, in full or as a digest */
	{"3 0 0 l", "li", "dane-ee", NULL},
	{"3 0 1 l", "li", "dane-ee", NULL},
	{"3 0 2 l", "li", "dane-ee", NULL},
	{"3 1 0 l", "li", "dane-ee", NULL},
	{"3 1 1 l", "li", "dane-ee", NULL},
	{"3 1 2 l", "li", "dane-ee", NULL},
	{"3 1 1 l", "l", "dane-ee", NULL},
	{"3 1 1 l!", "li", "1", "none of the TLSA records of mx.test"},
	{"3 0 0 l!", "li", "1", NULL},
	{"3 1 1 i", "li", "1", NULL}, /* only the host's own */
	{"3 1 1 l", "wl", "1", NULL},
	/* neither dates nor names count */
	{"3 1 1 x", "xi", "dane-ee", NULL},
	{"3 1 1 w", "wi", "dane-ee", NULL},
	{"3 0 1 x", "x", "dane-ee", NULL},
	/* rollover */
	{"3 1 1 l, 3 1 1 d", "li", "dane-ee", NULL},
	{"3 1 1 d, 3 1 1 l", "li", "dane-ee", NULL},
	{"3 1 1 d, 3 1 1 l", "dr", "dane-ee", NULL},
	{"3 1 1 d, 3 1 1 w", "li", "2", NULL},
	{"3 1 1 w, 2 0 1 r", "lir", "dane-ta", NULL},
	/* usage 2: an authority of the chain, at any height */
	{"2 0 0 i", "li", "dane-ta", NULL},
	{"2 0 1 i", "li", "dane-ta", NULL},
	{"2 0 2 i", "li", "dane-ta", NULL},
	{"2 1 0 i", "li", "dane-ta", NULL},
	{"2 1 1 i", "li", "dane-ta", NULL},
	{"2 1 2 i", "li", "dane-ta", NULL},
	{"2 0 1 r", "lir", "dane-ta", NULL},
	{"2 1 1 r", "lir", "dane-ta", NULL},
	{"2 0 1 r", "lri", "dane-ta", NULL},
	{"2 0 1 i", "lir", "dane-ta", NULL},
	{"2 0 1 r", "dr", "dane-ta", NULL},
	{"2 0 1 r", "li", "1", "none of the TLSA"}, /* it has to be sent, or */
	{"2 0 0 r", "li", "dane-ta", NULL},         /* stand in DNS in full */
	{"2 0 0 r", "d", "dane-ta", NULL},
	{"2 0 0 i", "l", "dane-ta", NULL},
	{"2 0 0 r", "l", "1", NULL}, /* the one between is missing */
	{"2 1 0 r", "li", "1", NULL},
	{"2 0 0 o", "lir", "1", NULL},
	{"2 0 1 o", "lio", "1", NULL}, /* it is there and has nothing to do with it */
	{"2 0 1 o, 2 0 1 r", "liro", "dane-ta", NULL},
	{"2 0 1 i!", "li", "1", NULL},
	{"2 0 1 l", "li", "1", NULL}, /* the host's own is no authority */
	{"2 0 0 l", "li", "1", NULL},
	{"2 0 1 l", "ll", "1", NULL},
	/* dates and names count */
	{"2 0 1 i", "xi", "1", "expired"},
	{"2 0 1 i", "wi", "1", "not for mx.test"},
	{"2 0 1 i", "ni", "dane-ta", NULL}, /* the next hop's domain will do */
	{"2 0 1 r", "fer", "1", "expired"},
	/* what cannot be used */
	{"0 0 1 r", "lir", "0", NULL},
	{"1 1 1 l", "li", "0", NULL},
	{"3 2 1 l", "li", "0", NULL},
	{"3 1 3 l", "li", "0", NULL},
	{"4 1 1 l", "li", "0", NULL},
	{"3 1 1 l-", "li", "0", NULL},
	{"3 1 1 l+", "li", "0", NULL},
	{"3 1 2 l-", "li", "0", NULL},
	{"3 1 2 l+", "li", "0", NULL},
	{"3 0 0 l-", "li", "0", NULL},
	{"3 1 0 l-", "li", "0", NULL},
	{"2 0 0 r-", "li", "0", NULL},
	{"3 1 1 l0", "li", "0", NULL},
	{"3 1 1 l1", "li", "0", NULL},
	{"3 1 1 l2", "li", "0", NULL},
	{"3 1 1 l3", "li", "0", NULL},
	{"3 0 0 l3", "li", "0", NULL},
	{"3 0 0 l4", "li", "0", NULL},
	{"1 1 1 l, 3 1 1 l", "li", "dane-ee", NULL},
	{"1 1 1 l, 3 1 1 w", "li", "1", NULL},
	{"3 1 1 l2, 3 1 1 l", "li", "dane-ee", NULL},
	/* of digests under one usage and selector only the strongest; what stands in full always counts */
	{"3 1 1 l, 3 1 2 l", "li", "dane-ee", NULL},
	{"3 1 1 l, 3 1 2 w", "li", "1", NULL},
	{"3 1 2 w, 3 1 1 l", "li", "1", NULL},
	{"3 1 1 w, 3 1 2 l", "li", "dane-ee", NULL},
	{"3 1 1 l, 3 0 2 w", "li", "dane-ee", NULL},
	{"3 0 1 l, 3 1 2 w", "li", "dane-ee", NULL},
	{"3 1 0 l, 3 1 2 w", "li", "dane-ee", NULL},
	{"3 1 1 l, 3 1 0 w", "li", "dane-ee", NULL},
	{"2 0 1 i, 2 0 2 o", "li", "1", NULL},
	{"2 0 1 i, 3 0 2 w", "li", "dane-ta", NULL},
	{"3 1 1 l, 3 1 2 w-", "li", "dane-ee", NULL}, /* one that is malformed is none */
	/* no certificate, or none that can be read */
	{"3 1 1 l", "", "1", "none that can be read"},
	{"3 1 1 l", "?li", "1", "none that can be read"},
	{"3 1 1 l", "l?", "dane-ee", NULL},
	{"2 0 1 i", "l?i", "1", NULL},
	{"2 0 1 r", "liooooooooooooooooooor", "1", NULL}, /* too far away */
};
/* clang-format on */

static struct tlsa *make_tlsa(const struct certs *c, const char *records)
{
	static const char *const names[] = {"example.test", NULL};
	struct tlsa_rdata rdata[128] = {{0}};
	struct str texts[128];
	struct tlsa *t;
	unsigned n = 0;

	for (const char *p = records; p; p = strstr(p, ", ") ? strstr(p, ", ") + 2 : NULL, n++) {
		str_init(&texts[n]);
		make_record(c, p, &texts[n]);
		rdata[n] = (struct tlsa_rdata){(const uint8_t *)texts[n].data, (uint16_t)texts[n].len};
	}
	t = tlsa_new("mx.test", names, true, rdata, n);
	while (n > 0)
		str_free(&texts[--n]);
	return t;
}

static void check(const struct certs *c, const struct dane_case *d)
{
	struct tlsa *t = make_tlsa(c, d->records);
	gnutls_datum_t chain[CHAIN_MAX];
	unsigned n = (unsigned)strlen(d->chain);
	unsigned char junk[] = "junk";
	const char *verified = NULL;
	struct error err = {""};
	char got[32];

	for (unsigned i = 0; i < n; i++)
		chain[i] = d->chain[i] == '?' ? (gnutls_datum_t){junk, 4} : c->der[(int)d->chain[i]];
	if (tls_dane_verify(chain, n, t, &verified, &err)) {
		snprintf(got, sizeof(got), "%s", verified);
	} else {
		assert_string_equal(verified, "no");
		snprintf(got, sizeof(got), "%u", t->n_records);
	}
	if (strcmp(got, d->expect) != 0 || (d->why && !strstr(err.text, d->why)))
		fail_msg("%s against %s: %s (%s)", d->records, d->chain, got, err.text);
	tlsa_unref(&t);
	assert_null(t);
}

static void records_and_certificates(void **state)
{
	struct certs c;

	(void)state;
	begin(&c);
	for (size_t i = 0; i < array_len(cases); i++)
		check(&c, &cases[i]);
	end(&c);
}

/* A hundred records are as good as one. */
static void many_records(void **state)
{
	struct tlsa_rdata rdata[100];
	struct certs c;
	struct str good;
	uint8_t bad[100][35];
	const char *verified;
	struct error err;

	(void)state;
	begin(&c);
	str_init(&good);
	make_record(&c, "3 1 1 l", &good);
	for (unsigned i = 0; i < 100; i++) {
		memset(bad[i], (int)i, sizeof(bad[i]));
		memcpy(bad[i], "\2\0\1", 3);
		rdata[i] = (struct tlsa_rdata){bad[i], sizeof(bad[i])};
	}
	rdata[99] = (struct tlsa_rdata){(const uint8_t *)good.data, (uint16_t)good.len};
	struct tlsa *t = tlsa_new("mx.test", NULL, true, rdata, 100);
	assert_int_equal(t->n_records, 100);
	assert_true(tls_dane_verify(&c.der['l'], 1, t, &verified, &err));
	tlsa_unref(&t);
	str_free(&good);
	end(&c);
}

static void equal_demands(void **state)
{
	static const char *const sets[] = {
	        "3 1 1 l", "3 1 1 l, 3 1 1 w", "3 1 1 w", "3 0 1 l", "2 1 1 l", "1 1 1 l"};
	struct certs c;

	(void)state;
	begin(&c);
	for (size_t i = 0; i < array_len(sets); i++)
		for (size_t j = 0; j < array_len(sets); j++) {
			struct tlsa *a = make_tlsa(&c, sets[i]), *b = make_tlsa(&c, sets[j]);
			assert_int_equal(tlsa_equal(a, b), i == j);
			assert_int_equal(a->hash == b->hash, i == j);
			assert_false(tlsa_equal(a, NULL));
			assert_false(tlsa_equal(NULL, b));
			tlsa_unref(&a);
			tlsa_unref(&b);
		}
	assert_true(tlsa_equal(NULL, NULL));
	/* with usage 2 names are part of it: what one domain's mail may use another's may not */
	static const char *const more[] = {"other.test", NULL};
	struct str record;
	str_init(&record);
	for (int usage = 2; usage <= 3; usage++) {
		make_record(&c, usage == 2 ? "2 1 1 i" : "3 1 1 l", &record);
		struct tlsa_rdata rdata = {(const uint8_t *)record.data, (uint16_t)record.len};
		struct tlsa *a = tlsa_new("mx.test", NULL, true, &rdata, 1),
		            *b = tlsa_new("mx.test", more, true, &rdata, 1),
		            *d = tlsa_new("mx.test", NULL, false, &rdata, 1);
		assert_int_equal(tlsa_equal(a, b), usage == 3);
		assert_false(tlsa_equal(a, d));
		tlsa_unref(&a);
		tlsa_unref(&b);
		tlsa_unref(&d);
	}
	str_free(&record);
	end(&c);
}

static void where_records_stand(void **state)
{
	char name[300], host[260];

	(void)state;
	assert_true(tlsa_name("mx.test", 25, name, sizeof(name)));
	assert_string_equal(name, "_25._tcp.mx.test");
	memset(host, 'a', sizeof(host));
	host[244] = '\0';
	assert_true(tlsa_name(host, 25, name, sizeof(name)));
	host[244] = 'a';
	host[245] = '\0';
	assert_false(tlsa_name(host, 25, name, sizeof(name)));
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_and_certificates),
        cmocka_unit_test(many_records),
        cmocka_unit_test(equal_demands),
        cmocka_unit_test(where_records_stand),
};
TEST_MAIN("tls_dane", tests)
