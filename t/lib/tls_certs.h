/*
 * tls_certs - a certificate authority of the test's own, and what it signs
 */
#ifndef T_LIB_TLS_CERTS_H
#define T_LIB_TLS_CERTS_H

struct tls_ca;
struct tls_ca *tls_ca_new(const char *name);
/* Below another one. */
struct tls_ca *tls_ca_below(struct tls_ca *, const char *name, int days);
void tls_ca_free(struct tls_ca **);
const char *tls_ca_pem(const struct tls_ca *);

struct tls_cert {
	char *certificate, *key; /* PEM */
};
/* For one host name. days: how long from now; negative = has expired. */
void tls_cert_issue(struct tls_ca *, const char *host, int days, struct tls_cert *);
/* What a TLSA record of it has behind its three numbers; in hexadecimal, to be freed. */
char *tls_cert_tlsa(const char *pem, unsigned selector, unsigned matching);
void tls_cert_free(struct tls_cert *);

#endif
