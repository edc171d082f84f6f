#include "t/lib/tls_certs.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/str.h"

#define DAY 86400

struct tls_ca {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
	char *pem;
	unsigned serial;
};

static void must(int rc)
{
	if (rc < 0)
		abort();
}

static char *pem_of(gnutls_x509_crt_t crt)
{
	gnutls_datum_t out;
	char *pem;

	must(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &out));
	pem = mem_strdup((const char *)out.data);
	gnutls_free(out.data);
	return pem;
}

static gnutls_x509_privkey_t key_new(void)
{
	gnutls_x509_privkey_t key;

	must(gnutls_x509_privkey_init(&key));
	must(gnutls_x509_privkey_generate(
	        key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
	return key;
}

static gnutls_x509_crt_t crt_new(
        const char *name, gnutls_x509_privkey_t key, unsigned serial, time_t from, time_t to)
{
	unsigned char number[4] = {(unsigned char)(serial >> 24), (unsigned char)(serial >> 16),
	        (unsigned char)(serial >> 8), (unsigned char)serial};
	gnutls_x509_crt_t crt;

	must(gnutls_x509_crt_init(&crt));
	must(gnutls_x509_crt_set_version(crt, 3));
	must(gnutls_x509_crt_set_serial(crt, number, sizeof(number)));
	must(gnutls_x509_crt_set_activation_time(crt, from));
	must(gnutls_x509_crt_set_expiration_time(crt, to));
	must(gnutls_x509_crt_set_dn_by_oid(
	        crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned)strlen(name)));
	must(gnutls_x509_crt_set_key(crt, key));
	return crt;
}

struct tls_ca *tls_ca_new(const char *name)
{
	struct tls_ca *ca = mem_zalloc(sizeof(*ca));
	time_t now = time(NULL);

	ca->key = key_new();
	ca->serial = 1;
	ca->crt = crt_new(name, ca->key, ca->serial, now - DAY, now + 3650 * DAY);
	must(gnutls_x509_crt_set_basic_constraints(ca->crt, 1, -1));
	must(gnutls_x509_crt_set_key_usage(ca->crt, GNUTLS_KEY_KEY_CERT_SIGN));
	must(gnutls_x509_crt_sign2(ca->crt, ca->crt, ca->key, GNUTLS_DIG_SHA256, 0));
	ca->pem = pem_of(ca->crt);
	return ca;
}

struct tls_ca *tls_ca_below(struct tls_ca *above, const char *name, int days)
{
	struct tls_ca *ca = mem_zalloc(sizeof(*ca));
	time_t now = time(NULL);

	ca->key = key_new();
	ca->serial = 1;
	ca->crt = crt_new(name, ca->key, ++above->serial, now - 60 * DAY, now + days * DAY);
	must(gnutls_x509_crt_set_basic_constraints(ca->crt, 1, -1));
	must(gnutls_x509_crt_set_key_usage(ca->crt, GNUTLS_KEY_KEY_CERT_SIGN));
	must(gnutls_x509_crt_sign2(ca->crt, above->crt, above->key, GNUTLS_DIG_SHA256, 0));
	ca->pem = pem_of(ca->crt);
	return ca;
}

void tls_ca_free(struct tls_ca **pca)
{
	struct tls_ca *ca = *pca;

	if (!ca)
		return;
	gnutls_x509_crt_deinit(ca->crt);
	gnutls_x509_privkey_deinit(ca->key);
	mem_free(&ca->pem);
	mem_free(pca);
}

const char *tls_ca_pem(const struct tls_ca *ca)
{
	return ca->pem;
}

void tls_cert_issue(struct tls_ca *ca, const char *host, int days, struct tls_cert *cert)
{
	gnutls_x509_privkey_t key = key_new();
	time_t now = time(NULL);
	gnutls_x509_crt_t crt = crt_new(host, key, ++ca->serial, now - 30 * DAY, now + days * DAY);
	gnutls_datum_t out;

	must(gnutls_x509_crt_set_subject_alt_name(
	        crt, GNUTLS_SAN_DNSNAME, host, (unsigned)strlen(host), GNUTLS_FSAN_SET));
	must(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE));
	must(gnutls_x509_crt_sign2(crt, ca->crt, ca->key, GNUTLS_DIG_SHA256, 0));
	cert->certificate = pem_of(crt);
	must(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &out));
	cert->key = mem_strdup((const char *)out.data);
	gnutls_free(out.data);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

static gnutls_datum_t key_der(gnutls_x509_crt_t crt)
{
	gnutls_pubkey_t key;
	gnutls_datum_t der;

	must(gnutls_pubkey_init(&key));
	must(gnutls_pubkey_import_x509(key, crt, 0));
	must(gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &der));
	gnutls_pubkey_deinit(key);
	return der;
}

char *tls_cert_tlsa(const char *pem, unsigned selector, unsigned matching)
{
	gnutls_datum_t text = {(unsigned char *)(uintptr_t)pem, (unsigned)strlen(pem)}, der;
	unsigned char digest[64], *bytes = digest;
	size_t n = matching == 1 ? 32 : 64, i;
	gnutls_x509_crt_t crt;
	struct str hex;

	must(gnutls_x509_crt_init(&crt));
	must(gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM));
	if (selector == 1)
		der = key_der(crt);
	else
		must(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der));
	if (matching == 0)
		bytes = der.data, n = der.size;
	else
		must(gnutls_hash_fast(
		        matching == 1 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA512, der.data, der.size, digest));
	str_init(&hex);
	for (i = 0; i < n; i++)
		str_printf(&hex, "%02x", bytes[i]);
	gnutls_free(der.data);
	gnutls_x509_crt_deinit(crt);
	return str_steal(&hex);
}

void tls_cert_free(struct tls_cert *cert)
{
	mem_free(&cert->certificate);
	mem_free(&cert->key);
}
