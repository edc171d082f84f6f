/* tls_dane - see tls_dane.h */
#include "config.h"
#include "session/tls_dane.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <string.h>
#include "base/mem.h"

#define CHAIN_MAX 16 /* what GnuTLS follows as well */
#define DIGEST_MAX 64
#define TRIES_MAX                                                                                            \
	32 /* of whole chains: both sides of the comparison are a stranger's, and the net loop waits */

/* A certificate and what records may say of it; each digest is made once. */
struct cert {
	gnutls_x509_crt_t crt;
	gnutls_datum_t text[TLSA_N_SELECTORS]; /* of the key: owns; size 0 = none */
	bool made[TLSA_N_SELECTORS][TLSA_N_MATCHINGS];
	uint8_t digest[TLSA_N_SELECTORS][TLSA_N_MATCHINGS][DIGEST_MAX];
};
struct chain {
	struct cert certs[CHAIN_MAX];
	gnutls_x509_crt_t crts[CHAIN_MAX]; /* the same, for GnuTLS */
	unsigned n;
	unsigned tries; /* left */
};

/* --- the chain --- */

static gnutls_datum_t key_of(gnutls_x509_crt_t crt)
{
	gnutls_datum_t der = {NULL, 0};
	gnutls_pubkey_t key;

	if (gnutls_pubkey_init(&key) != GNUTLS_E_SUCCESS)
		return der;
	if (gnutls_pubkey_import_x509(key, crt, 0) != GNUTLS_E_SUCCESS ||
	        gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &der) != GNUTLS_E_SUCCESS)
		der = (gnutls_datum_t){NULL, 0};
	gnutls_pubkey_deinit(key);
	return der;
}

static gnutls_x509_crt_t import(const gnutls_datum_t *der)
{
	gnutls_x509_crt_t crt;

	if (gnutls_x509_crt_init(&crt) != GNUTLS_E_SUCCESS)
		return NULL;
	if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS)
		return crt;
	gnutls_x509_crt_deinit(crt);
	return NULL;
}

/* As far as it can be read */
static void chain_read(struct chain *c, const gnutls_datum_t *raw, unsigned n)
{
	c->tries = TRIES_MAX;
	for (c->n = 0; c->n < n && c->n < CHAIN_MAX; c->n++) {
		struct cert *cert = &c->certs[c->n];
		memset(cert->made, 0, sizeof(cert->made));
		cert->crt = c->crts[c->n] = import(&raw[c->n]);
		if (!cert->crt)
			return;
		cert->text[TLSA_CERTIFICATE] = raw[c->n];
		cert->text[TLSA_KEY] = key_of(cert->crt);
	}
}

static void chain_free(struct chain *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		gnutls_free(c->certs[i].text[TLSA_KEY].data);
		gnutls_x509_crt_deinit(c->certs[i].crt);
	}
}

/* --- records and certificates --- */

static const uint8_t *digest_of(struct cert *c, enum tlsa_selector selector, enum tlsa_matching matching)
{
	gnutls_digest_algorithm_t algorithm = matching == TLSA_SHA256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA512;
	uint8_t *digest = c->digest[selector][matching];

	if (!c->made[selector][matching] &&
	        gnutls_hash_fast(algorithm, c->text[selector].data, c->text[selector].size, digest) != 0)
		return NULL;
	c->made[selector][matching] = true;
	return digest;
}

static bool matches(const struct tlsa_record *r, struct cert *c)
{
	const gnutls_datum_t *text = &c->text[r->selector];
	const uint8_t *digest;

	if (text->size == 0)
		return false;
	if (r->matching == TLSA_FULL)
		return r->len == text->size && memcmp(r->data, text->data, r->len) == 0;
	digest = digest_of(c, r->selector, r->matching);
	return digest && memcmp(r->data, digest, r->len) == 0;
}

/* Whether a record of that usage matches. */
static bool any_matches(const struct tlsa *t, enum tlsa_usage usage, struct cert *c)
{
	for (unsigned i = 0; i < t->n_records; i++)
		if (t->records[i].usage == usage && matches(&t->records[i], c))
			return true;
	return false;
}

/* --- usage 2 --- */

static bool name_fits(gnutls_x509_crt_t leaf, const char *const *names)
{
	for (; *names; names++)
		if (gnutls_x509_crt_check_hostname(leaf, *names) != 0)
			return true;
	return false;
}

static void say_status(unsigned status, struct error *err)
{
	gnutls_datum_t text;

	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) ==
	        GNUTLS_E_SUCCESS) {
		error_set(err, "%s", (const char *)text.data);
		gnutls_free(text.data);
	} else {
		error_set(err, "not to be trusted");
	}
}

/* The chain leads to this authority, and there is no other one. */
static bool leads_to(struct chain *c, gnutls_x509_crt_t anchor, struct error *err)
{
	gnutls_x509_trust_list_t list;
	unsigned status = ~0u;
	int rc;

	if (c->tries == 0)
		return error_set(err, "too many TLSA records and certificates");
	c->tries--;
	if (gnutls_x509_trust_list_init(&list, 1) != GNUTLS_E_SUCCESS)
		return error_set(err, "out of memory");
	rc = gnutls_x509_trust_list_add_cas(list, &anchor, 1, 0);
	if (rc == 1)
		rc = gnutls_x509_trust_list_verify_crt(list, c->crts, c->n, 0, &status, NULL);
	if (rc < 0)
		error_set(err, "%s", gnutls_strerror(rc));
	else if (status != 0)
		say_status(status, err);
	gnutls_x509_trust_list_deinit(list, 0);
	return rc == 0 && status == 0;
}

/* The host's own certificate is never the authority: who means that says usage 3. */
static bool by_chain(struct chain *c, const struct tlsa *t, struct error *err)
{
	for (unsigned i = 1; i < c->n; i++) {
		if (gnutls_x509_crt_equals(c->crts[0], c->crts[i]) ||
		        !any_matches(t, TLSA_USAGE_TA, &c->certs[i]))
			continue;
		if (leads_to(c, c->crts[i], err))
			return true;
	}
	return false;
}

static bool has_issued_any(const struct chain *c, gnutls_x509_crt_t anchor)
{
	for (unsigned i = 0; i < c->n; i++)
		if (gnutls_x509_crt_check_issuer(c->crts[i], anchor))
			return true;
	return false;
}

static bool by_record(struct chain *c, const struct tlsa_record *r, struct error *err)
{
	gnutls_datum_t der = {(unsigned char *)(uintptr_t)r->data, r->len};
	gnutls_x509_crt_t anchor = import(&der);
	bool ok;

	if (!anchor)
		return false;
	ok = !gnutls_x509_crt_equals(c->crts[0], anchor) && has_issued_any(c, anchor) &&
	     leads_to(c, anchor, err);
	gnutls_x509_crt_deinit(anchor);
	return ok;
}

/* 2 0 0: the server need not send the authority's certificate (RFC 7671 5.2.1). */
static bool by_dns(struct chain *c, const struct tlsa *t, struct error *err)
{
	for (unsigned i = 0; i < t->n_records; i++) {
		const struct tlsa_record *r = &t->records[i];
		if (r->usage != TLSA_USAGE_TA || r->selector != TLSA_CERTIFICATE || r->matching != TLSA_FULL)
			continue;
		if (by_record(c, r, err))
			return true;
	}
	return false;
}

static bool by_authority(struct chain *c, const struct tlsa *t, struct error *err)
{
	error_set(err, "it matches none of the TLSA records of %s", t->base);
	if (!by_chain(c, t, err) && !by_dns(c, t, err))
		return false;
	if (name_fits(c->crts[0], t->names))
		return true;
	return error_set(err, "it is not for %s", t->base);
}

static bool verify(struct chain *c, const struct tlsa *t, const char **verified, struct error *err)
{
	if (c->n == 0)
		return error_set(err, "there is none that can be read");
	if (any_matches(t, TLSA_USAGE_EE, &c->certs[0])) {
		*verified = "dane-ee";
		return true;
	}
	if (!by_authority(c, t, err))
		return false;
	*verified = "dane-ta";
	return true;
}

bool tls_dane_verify(
        const gnutls_datum_t *raw, unsigned n, const struct tlsa *t, const char **verified, struct error *err)
{
	struct chain *c = mem_alloc(sizeof(*c)); /* more than belongs on a stack */
	bool ok;

	*verified = "no";
	chain_read(c, raw, n);
	ok = verify(c, t, verified, err);
	chain_free(c);
	mem_free(&c);
	return ok;
}
