/*
 * STARTTLS: whether, with what, and what comes of it.
 *
 * What must hold: a certificate that was refused is never followed by clear text; what was read before the handshake is
 * gone with it, and EHLO is said again; clear text in place of a failed handshake only on a new connection.
 */
#include "session/smtp_session.h"

#include <string.h>
#include "base/mem.h"
#include "queue/profile.h"

#define BROKEN_US (3600 * SECOND_US) /* how long a host whose handshake failed is spared another one */

/* What is demanded: of DANE, of the message, of the profile. */
static enum tls_use use_of(const struct session *s)
{
	if (s->tlsa || (s->tls_demand == SESSION_TLS_REQUIRED && !s->unix_path))
		return TLS_REQUIRED;
	return s->o->tls;
}

static enum tls_verify verify_of(const struct session *s)
{
	switch (s->tls_demand) {
	case SESSION_TLS_REQUIRED:
		return TLS_VERIFY_HOST;
	case SESSION_TLS_OPTIONAL:
		return s->o->tls_verify == TLS_VERIFY_NO ? TLS_VERIFY_NO : TLS_VERIFY_OPTIONAL;
	case SESSION_TLS_PROFILE:
		break;
	}
	return s->o->tls_verify;
}

/* Authorities are not asked where TLSA records judge: that they are missing must not hold the mail up. */
static bool needs_trust(const struct session *s)
{
	return verify_of(s) != TLS_VERIFY_NO && !(s->tlsa && s->tlsa->n_records > 0);
}

static struct tls_place place_of(const struct session *s)
{
	return (struct tls_place){.binding = s->binding,
	        .mx = s->mx,
	        .peer = &s->where.peer,
	        .demand = s->o,
	        .verify = verify_of(s),
	        .tlsa = s->tlsa};
}

/* A certificate may be for the MX host or for the next hop; an address stands for itself. */
static void names_of(const struct session *s, const char *names[3], char ip[ADDR_TEXT_SIZE])
{
	struct addr a;
	unsigned n = 0;

	if (s->mx[0] != '\0' && s->mx[0] != '[' && !addr_parse(s->mx, &a, NULL))
		names[n++] = s->mx;
	if (s->next_hop && s->next_hop[0] != '[' && !addr_parse_port(s->next_hop, 0, &a, NULL))
		names[n++] = s->next_hop;
	if (n == 0 && s->where.peer.family != AF_UNSPEC)
		names[n++] = addr_print(&s->where.peer, ip);
	names[n] = NULL;
}

static const char *sni_of(const struct session *s)
{
	struct addr a;

	if (s->tlsa)
		return s->tlsa->base;
	return s->mx[0] != '\0' && s->mx[0] != '[' && !addr_parse(s->mx, &a, NULL) ? s->mx : NULL;
}

enum smtp_tls_choice smtp_tls_choose(struct session *s)
{
	bool offered = (s->offer.extensions & SMTP_EXT_STARTTLS) != 0;
	struct tls_place place = place_of(s);

	if (s->tls || use_of(s) == TLS_NO)
		return SMTP_TLS_CLEAR;
	if (use_of(s) == TLS_REQUIRED)
		return offered ? SMTP_TLS_START : SMTP_TLS_MISSING;
	if (!offered || s->clear_only || s->unix_path)
		return SMTP_TLS_CLEAR;
	if (smtp_tls_may_do_without(s) &&
	        tls_memory_is_broken(s->net->tls_memory, &place, loop_now_us(s->net->loop)))
		return SMTP_TLS_CLEAR;
	return SMTP_TLS_START;
}

bool smtp_tls_may_do_without(struct session *s)
{
	/* with credentials a forged refusal would be worth something */
	return use_of(s) == TLS_IFAVAILABLE &&
	       (s->o->tls_ifavailable_fallback || s->tls_demand == SESSION_TLS_OPTIONAL) &&
	       s->o->outbound_smtp_auth_type == AUTH_NONE;
}

void smtp_tls_fail(struct session *s, enum smtp_tls_failure failure, const char *enhanced, const char *what)
{
	struct outcome why;
	bool clear = s->state != SMTP_HANDSHAKE;

	if (!clear)
		metric_add(s->net->metrics.tls_failures, 1);
	outcome_own(&why, OUTCOME_TRANSIENT, STATE_STARTTLS, 451, enhanced, "%s%s",
	        s->tls_demand == SESSION_TLS_REQUIRED ? "the message demands REQUIRETLS: " : "", what);
	why.unfit = s->tls_demand == SESSION_TLS_REQUIRED && failure == SMTP_TLS_UNFIT;
	smtp_session_fail(s, &why, SMTP_PEER, clear ? SMTP_END_QUIT : SMTP_END_RESET);
}

bool smtp_tls_demand_met(struct session *s)
{
	if (s->tls_demand != SESSION_TLS_REQUIRED || s->unix_path ||
	        (s->offer.extensions & SMTP_EXT_REQUIRETLS) != 0)
		return true;
	smtp_tls_fail(s, SMTP_TLS_UNFIT, "4.7.30", "it is not offered");
	return false;
}

/* A handshake that failed once, or a STARTTLS refused for now, must not make mail bounce. */
bool smtp_tls_missed(struct session *s)
{
	struct tls_place place = place_of(s);
	struct outcome why;

	if (s->reply.code != 530 || s->tls || use_of(s) == TLS_NO ||
	        (s->offer.extensions & SMTP_EXT_STARTTLS) == 0)
		return false;
	tls_memory_set_broken(s->net->tls_memory, &place, 0);
	outcome_own(&why, OUTCOME_TRANSIENT, STATE_STARTTLS, 451, "4.7.5",
	        "TLS failed, and in clear text the host says: 530 %.500s", s->reply.text);
	smtp_session_fail(s, &why, SMTP_PEER, SMTP_END_QUIT);
	return true;
}

/* The handshake came to nothing. */
static void handshake_failed(struct session *s, const char *what)
{
	struct tls_place place = place_of(s);
	struct str text;

	tls_memory_forget_ticket(s->net->tls_memory, &place);
	if (smtp_tls_may_do_without(s)) {
		metric_add(s->net->metrics.tls_failures, 1);
		tls_memory_set_broken(s->net->tls_memory, &place, loop_now_us(s->net->loop) + BROKEN_US);
		s->clear_only = true;
		smtp_session_enter(s, SMTP_FALLBACK);
		smtp_io_shutdown(s);
		return;
	}
	str_init(&text);
	str_printf(&text, "TLS handshake failed: %s", what);
	smtp_tls_fail(s, SMTP_TLS_FOR_NOW, "4.7.5", text.data);
	str_free(&text);
}

void smtp_tls_lost(struct session *s, const char *what)
{
	handshake_failed(s, what);
	if (s->state == SMTP_FALLBACK && s->peer_closed)
		smtp_io_reconnect(s);
}

const char *smtp_tls_proof(unsigned i)
{
	static const char *const words[SMTP_TLS_PROOFS] = {"dane-ee", "dane-ta", "host", "ca", "no"};

	return words[i];
}

static void count_handshake(struct session *s)
{
	unsigned i = 0;

	while (i < SMTP_TLS_PROOFS - 1 && strcmp(smtp_tls_proof(i), s->facts.tls_verified) != 0)
		i++;
	metric_add(s->net->metrics.tls_handshakes[i], 1);
}

/* For events, of a certificate that is refused as well */
static void take_facts(struct session *s)
{
	tls_stream_facts(&s->stream, &s->tls_facts);
	s->facts.tls_version = s->tls_facts.version;
	s->facts.tls_cipher = s->tls_facts.cipher;
	s->facts.tls_sni = sni_of(s);
	s->facts.tls_resumed = s->tls_facts.resumed;
	s->facts.tls_insecure_mx = s->tlsa && !s->tlsa->mx_secure;
}

static void tls_is_up(struct session *s)
{
	count_handshake(s);
	if (s->tls_facts.resumed)
		metric_add(s->net->metrics.tls_resumed, 1);
	s->tls = true;
	smtp_trace_tls(s);
	s->offer = (struct smtp_offer){0}; /* what was offered in clear text counts no more */
	smtp_session_enter(s, s->method == DELIVERY_LMTP ? SMTP_LHLO : SMTP_EHLO);
}

static bool certificate_ok(struct session *s, struct error *err)
{
	char ip[ADDR_TEXT_SIZE];
	const char *names[3];

	if (s->tlsa && s->tlsa->n_records > 0)
		return tls_stream_verify_dane(&s->stream, s->tlsa, &s->facts.tls_verified, err);
	names_of(s, names, ip);
	return tls_stream_verify(&s->stream, verify_of(s), names, &s->facts.tls_verified, err);
}

static void check_certificate(struct session *s)
{
	struct tls_place place = place_of(s);
	struct error err;
	struct str text;

	take_facts(s);
	if (certificate_ok(s, &err)) {
		tls_is_up(s);
		return;
	}
	tls_memory_forget_ticket(s->net->tls_memory, &place);
	str_init(&text);
	str_printf(&text, "certificate refused: %s", err.text);
	smtp_tls_fail(s, SMTP_TLS_UNFIT, "4.7.5", text.data);
	str_free(&text);
}

void smtp_tls_handshake(struct session *s)
{
	struct error err;

	switch (tls_stream_handshake(&s->stream, &err)) {
	case TLS_STEP_DONE:
		check_certificate(s);
		break;
	case TLS_STEP_READ:
		break;
	case TLS_STEP_WRITE:
		smtp_io_want_write(s);
		break;
	case TLS_STEP_FAILED:
		handshake_failed(s, err.text);
		break;
	}
}

static void start(struct session *s, struct tls_creds *takes_ref)
{
	struct tls_place place = place_of(s);
	gnutls_datum_t ticket = tls_memory_ticket(s->net->tls_memory, &place, loop_now_us(s->net->loop));

	tls_stream_start(&s->stream, takes_ref, sni_of(s), &ticket);
	smtp_tls_handshake(s);
	smtp_io_pump(s);
}

/* Our own side is not ready: 4.3.0, the peer is not to blame. */
static void no_creds(struct session *s, const struct error *why)
{
	struct outcome own;

	outcome_own(
	        &own, OUTCOME_TRANSIENT, STATE_STARTTLS, 451, "4.3.0", "TLS cannot be used: %s", why->text);
	smtp_session_fail(s, &own, SMTP_OURS, SMTP_END_RESET);
}

static void on_creds(void *ctx, struct tls_creds *takes_ref, const struct error *why)
{
	struct session *s = ctx;

	smtp_io_listen(s, true);
	if (takes_ref)
		start(s, takes_ref);
	else
		no_creds(s, why);
}

void smtp_tls_begin(struct session *s)
{
	struct tls_creds *creds;

	s->tls_wait.ready = on_creds;
	s->tls_wait.ctx = s;
	creds = tls_creds_get(s->net->tls_creds, s->o, needs_trust(s), &s->tls_wait);
	if (creds)
		start(s, creds);
	else
		smtp_io_listen(s, false); /* nothing is due, and it would be looked at again and again */
}

void smtp_tls_keep_ticket(struct session *s)
{
	struct tls_place place = place_of(s);
	gnutls_datum_t ticket;

	if (s->tls && tls_stream_ticket(&s->stream, &ticket))
		tls_memory_keep_ticket(s->net->tls_memory, &place, ticket, loop_now_us(s->net->loop));
}

void smtp_tls_end(struct session *s)
{
	tls_creds_cancel(&s->tls_wait);
	s->tls = false;
}
