#include "session/tls_stream.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "session/tls_dane.h"

#define RECORD_MAX 16384
#define RENEGOTIATIONS_MAX 3 /* asked for in one session; then it is no mail server that asks */
#define WARNINGS_MAX 16      /* alerts and the like in a handshake: a stream of them would keep the loop */

struct layer {
	gnutls_session_t session;
	struct tls_creds *creds; /* shares */
	bool established, failed;
	unsigned renegotiations, warnings;
	bool unsent; /* GnuTLS has taken a record and not yet sent all of it */
};

static struct layer *layer_of(const struct stream *s)
{
	return s->layer;
}

/* --- stream_ops ----------------------------------------------------------------------------------------- */

static ssize_t not_now(struct layer *l, int rc)
{
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED) {
		errno = EAGAIN;
		return -1;
	}
	l->failed = true;
	errno = rc == GNUTLS_E_PUSH_ERROR || rc == GNUTLS_E_PULL_ERROR ? ECONNRESET : EPROTO;
	return -1;
}

static ssize_t tls_read(struct stream *s, void *buf, size_t size)
{
	struct layer *l = layer_of(s);
	ssize_t n;

	/* Renegotiation (TLS 1.2) is not answered: the request is dropped. Who goes on asking would keep the loop here. */
	do
		n = gnutls_record_recv(l->session, buf, size);
	while (n == GNUTLS_E_REHANDSHAKE && ++l->renegotiations <= RENEGOTIATIONS_MAX);
	if (n >= 0)
		return n;
	if (n == GNUTLS_E_PREMATURE_TERMINATION) /* SMTP says itself what is whole */
		return 0;
	return not_now(l, (int)n);
}

static bool flush(struct layer *l)
{
	ssize_t rc;

	if (!l->unsent)
		return true;
	rc = gnutls_record_send(l->session, NULL, 0); /* on with the record it has taken */
	if (rc < 0)
		return not_now(l, (int)rc) >= 0;
	l->unsent = false;
	return true;
}

/* Gathered into records: one write of the dialogue is one record up to 16 KB. */
static ssize_t tls_writev(struct stream *s, const struct iovec *iov, int n)
{
	struct layer *l = layer_of(s);
	char record[RECORD_MAX]; /* GnuTLS keeps nothing of it */
	size_t len = 0, part;
	ssize_t rc;
	int i;

	if (!flush(l))
		return -1;
	for (i = 0; i < n && len < sizeof(record); i++) {
		part = iov[i].iov_len < sizeof(record) - len ? iov[i].iov_len : sizeof(record) - len;
		memcpy(record + len, iov[i].iov_base, part);
		len += part;
	}
	if (len == 0)
		return 0;
	rc = gnutls_record_send(l->session, record, len);
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED) {
		l->unsent = true; /* encrypted and queued within GnuTLS: as good as taken */
		return (ssize_t)len;
	}
	return rc < 0 ? not_now(l, (int)rc) : rc;
}

static bool tls_unsent(const struct stream *s)
{
	return layer_of(s)->unsent;
}

static bool tls_unread(const struct stream *s)
{
	return gnutls_record_check_pending(layer_of(s)->session) > 0;
}

static void tls_end(struct stream *s)
{
	struct layer *l = layer_of(s);

	if (l->established && !l->failed)
		gnutls_bye(l->session, GNUTLS_SHUT_WR); /* if there is room for it */
	gnutls_deinit(l->session);
	tls_creds_unref(&l->creds);
	mem_free(&l);
	s->layer = NULL;
}

static const struct stream_ops tls_ops = {
        .read = tls_read, .writev = tls_writev, .unsent = tls_unsent, .unread = tls_unread, .end = tls_end};

/* --- the handshake ---------------------------------------------------------------------------------------- */

void tls_stream_start(
        struct stream *s, struct tls_creds *creds, const char *sni, const gnutls_datum_t *ticket)
{
	struct layer *l = mem_alloc(sizeof(*l));

	l->creds = creds;
	l->established = false;
	l->failed = false;
	l->renegotiations = l->warnings = 0;
	l->unsent = false;
	if (gnutls_init(&l->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != GNUTLS_E_SUCCESS)
		abort(); /* memory only */
	gnutls_priority_set(l->session, tls_creds_priority(creds));
	gnutls_credentials_set(l->session, GNUTLS_CRD_CERTIFICATE, tls_creds_certificates(creds));
	gnutls_transport_set_int(l->session, s->fd);
	gnutls_handshake_set_timeout(l->session, 0); /* the state's timer */
	if (sni)
		gnutls_server_name_set(l->session, GNUTLS_NAME_DNS, sni, strlen(sni));
	if (ticket->size > 0)
		gnutls_session_set_data(l->session, ticket->data, ticket->size);
	stream_replace(s, &tls_ops, l);
}

enum tls_step tls_stream_handshake(struct stream *s, struct error *err)
{
	struct layer *l = layer_of(s);
	int rc;

	do
		rc = gnutls_handshake(l->session);
	while (rc < 0 && rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED && !gnutls_error_is_fatal(rc) &&
	        ++l->warnings <= WARNINGS_MAX);
	if (rc == GNUTLS_E_SUCCESS) {
		l->established = true;
		return TLS_STEP_DONE;
	}
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
		return gnutls_record_get_direction(l->session) ? TLS_STEP_WRITE : TLS_STEP_READ;
	l->failed = true;
	if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
		error_set(
		        err, "the other side says: %s", gnutls_alert_get_name(gnutls_alert_get(l->session)));
	else
		error_set(err, "%s", gnutls_strerror(rc));
	return TLS_STEP_FAILED;
}

/* --- the certificate ------------------------------------------------------------------------------------------ */

static bool name_fits(gnutls_session_t session, const char *const *names)
{
	unsigned n = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
	gnutls_x509_crt_t leaf;
	bool fits = false;

	if (!chain || n == 0 || gnutls_x509_crt_init(&leaf) != GNUTLS_E_SUCCESS)
		return false;
	if (gnutls_x509_crt_import(leaf, &chain[0], GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS) {
		for (; *names && !fits; names++)
			fits = gnutls_x509_crt_check_hostname(leaf, *names) != 0;
	}
	gnutls_x509_crt_deinit(leaf);
	return fits;
}

static bool chain_ok(gnutls_session_t session, struct error *err)
{
	gnutls_datum_t text;
	unsigned status = 0;
	int rc = gnutls_certificate_verify_peers2(session, &status);

	if (rc != GNUTLS_E_SUCCESS)
		return error_set(err, "%s", gnutls_strerror(rc));
	if (status == 0)
		return true;
	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) ==
	        GNUTLS_E_SUCCESS) {
		error_set(err, "%s", (const char *)text.data);
		gnutls_free(text.data);
		return false;
	}
	return error_set(err, "not to be trusted");
}

bool tls_stream_verify(struct stream *s, enum tls_verify how, const char *const *names, const char **verified,
        struct error *err)
{
	gnutls_session_t session = layer_of(s)->session;

	*verified = "no";
	if (how == TLS_VERIFY_NO)
		return true;
	if (!chain_ok(session, err))
		return how == TLS_VERIFY_OPTIONAL;
	*verified = "ca";
	if (name_fits(session, names))
		*verified = "host";
	if (how == TLS_VERIFY_HOST && strcmp(*verified, "host") != 0)
		return error_set(err, "the certificate is not for %s", names[0] ? names[0] : "an address");
	return true;
}

bool tls_stream_verify_dane(struct stream *s, const struct tlsa *t, const char **verified, struct error *err)
{
	unsigned n = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(layer_of(s)->session, &n);

	return tls_dane_verify(chain, chain ? n : 0, t, verified, err);
}

/* --- facts ------------------------------------------------------------------------------------------------------ */

void tls_stream_facts(struct stream *s, struct tls_facts *facts)
{
	gnutls_session_t session = layer_of(s)->session;
	const char *version = gnutls_protocol_get_name(gnutls_protocol_get_version(session));
	const char *cipher = gnutls_ciphersuite_get(session);

	snprintf(facts->version, sizeof(facts->version), "TLSv%s",
	        version && strlen(version) > 3 ? version + 3 : "?");
	snprintf(facts->cipher, sizeof(facts->cipher), "%s", cipher ? cipher : "");
	facts->resumed = gnutls_session_is_resumed(session) != 0;
}

bool tls_stream_ticket(struct stream *s, gnutls_datum_t *data)
{
	gnutls_session_t session = layer_of(s)->session;

	/* asked before the ticket has come (TLS 1.3: behind the handshake) GnuTLS would wait for it */
	if (gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 &&
	        !(gnutls_session_get_flags(session) & GNUTLS_SFLAGS_SESSION_TICKET))
		return false;
	return gnutls_session_get_data2(session, data) == GNUTLS_E_SUCCESS;
}
