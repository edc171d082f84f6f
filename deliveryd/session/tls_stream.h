/*
 * tls_stream - TLS on a session's stream (GnuTLS, client side)
 *
 * Purpose    Puts a TLS layer on the descriptor of a stream, does the handshake step by step, judges the certificate.
 *            Handshakes run on the net threads.
 * Follows    RFC 3207, 8446, 6125 (names in certificates).
 * Ownership  The layer belongs to the stream: stream_close() ends it.
 */
#ifndef SESSION_TLS_STREAM_H
#define SESSION_TLS_STREAM_H

#include "base/error.h"
#include "session/stream.h"
#include "session/tls_creds.h"
#include "session/tlsa.h"

/* sni: NULL = none (the host is an address). ticket: of an earlier session, size 0 = none. */
void tls_stream_start(
        struct stream *, struct tls_creds *takes_ref, const char *sni, const gnutls_datum_t *ticket);

enum tls_step { TLS_STEP_DONE, TLS_STEP_READ, TLS_STEP_WRITE, TLS_STEP_FAILED };
/* On: what must become possible on the descriptor, or done, or failed (err). */
enum tls_step tls_stream_handshake(struct stream *, struct error *);

/* After the handshake: whether the certificate shows what is demanded. names: any of them, NULL at the end.
 * *verified: "host", "ca" or "no". False: err says why not; with TLS_VERIFY_NO and _OPTIONAL it is never false. */
bool tls_stream_verify(
        struct stream *, enum tls_verify, const char *const *names, const char **verified, struct error *);

/* The same by TLSA records. */
bool tls_stream_verify_dane(struct stream *, const struct tlsa *, const char **verified, struct error *);

struct tls_facts {
	char version[16], cipher[64]; /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
	bool resumed;
};
void tls_stream_facts(struct stream *, struct tls_facts *);
/* What resumes this session; false if there is nothing (yet). To be gnutls_free()d. */
bool tls_stream_ticket(struct stream *, gnutls_datum_t *);

#endif
