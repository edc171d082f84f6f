/*
 * The dialogue's states. smtp_state.def has the table and what always holds.
 */
#include "session/smtp_session.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "queue/profile.h"

#define SMTP_DISCARD_MAX (64 * 1024)

static void enter_wait(struct session *);
static void enter_ehlo(struct session *);
static void enter_helo(struct session *);
static void enter_lhlo(struct session *);
static void enter_starttls(struct session *);
static void enter_handshake(struct session *);
static void enter_secret(struct session *);
static void enter_auth(struct session *);
static void enter_xclient(struct session *);
static void enter_idle(struct session *);
static void enter_envelope(struct session *);
static void enter_quit(struct session *);
static void enter_closing(struct session *);
static void enter_closed(struct session *);
static void reply_none(struct session *);
static void reply_banner(struct session *);
static void reply_ehlo(struct session *);
static void reply_helo(struct session *);
static void reply_lhlo(struct session *);
static void reply_starttls(struct session *);
static void reply_auth(struct session *);
static void reply_xclient(struct session *);
static void reply_idle(struct session *);

#define S(name) (1u << SMTP_##name)
static const struct {
	const char *name;
	void (*enter)(struct session *);
	void (*on_reply)(struct session *);
	enum outcome_state event_state;
	unsigned from;
	const char *words;
} states[] = {
#define STATE(name, enter, on_reply, timeout, event_state, from, words)                                      \
	[SMTP_##name] = {#name, enter, on_reply, event_state, from, words},
#include "session/smtp_state.def"
#undef STATE
};
#undef S

uint64_t smtp_state_timeout_us(const struct session *s)
{
	const struct conn_options *o = s->o;

	switch (s->state) {
#define STATE(name, enter, on_reply, timeout, event_state, from, words)                                      \
	case SMTP_##name:                                                                                    \
		return (timeout)*SECOND_US;
#include "session/smtp_state.def"
#undef STATE
	}
	return 0;
}

const char *smtp_state_words(enum smtp_state state)
{
	return states[state].words;
}

enum outcome_state smtp_state_outcome(enum smtp_state state)
{
	return states[state].event_state;
}

void smtp_session_enter(struct session *s, enum smtp_state state)
{
	assert(state == SMTP_CONNECT || (states[state].from & (1u << s->state)) != 0);
	assert(s->state != SMTP_CLOSED || state == SMTP_CONNECT);
	s->state = state;
	if (state >= SMTP_QUIT)
		secret_cancel(&s->secret_wait);
	log_debug("session %p %s: %s", (void *)s, s->mx, states[state].name);
	if (state != SMTP_CLOSED)
		smtp_io_arm(s);
	smtp_trace_state(s);
	states[state].enter(s);
}

/* --- endings ----------------------------------------------------------------------------------------- */

void smtp_session_fail(
        struct session *s, const struct outcome *why, enum smtp_cause cause, enum smtp_ending ending)
{
	struct outcome said;

	if (s->state >= SMTP_QUIT) { /* the end was decided before, its reason too */
		if (s->state != SMTP_CLOSED && ending == SMTP_END_RESET)
			smtp_session_enter(s, SMTP_CLOSED);
		return;
	}
	said = *why;
	said.class = OUTCOME_TRANSIENT; /* a connection's failure never bounces mail */
	said.lost = cause != SMTP_OURS;
	/* The peer may close an idle connection: that is good order, as long as it was of use. */
	if (!(s->state == SMTP_IDLE && cause == SMTP_PEER_GONE && s->completed > 0))
		s->why = said;
	smtp_transaction_lost(s, &said, cause);
	smtp_jobs_return(s, s->completed == 0 ? &said : NULL);
	smtp_session_enter(s, ending == SMTP_END_QUIT   ? SMTP_QUIT
	                      : ending == SMTP_END_WAIT ? SMTP_CLOSING
	                                                : SMTP_CLOSED);
}

void smtp_session_protocol_error(struct session *s, const char *what)
{
	struct outcome why;

	metric_add(s->net->metrics.protocol_errors, 1);
	outcome_own(&why, OUTCOME_TRANSIENT, smtp_state_outcome(s->state), 451, "4.5.0",
	        "protocol error while %s: %s", smtp_state_words(s->state), what);
	smtp_session_fail(s, &why, SMTP_PEER, SMTP_END_RESET);
}

/* error 0: the peer closed */
void smtp_session_eof(struct session *s, int error)
{
	struct outcome why;

	s->peer_closed = error == 0;
	if (s->state >= SMTP_QUIT) {
		if (s->state != SMTP_CLOSED)
			smtp_session_enter(s, SMTP_CLOSED);
		return;
	}
	if (s->state == SMTP_FALLBACK) {
		smtp_io_reconnect(s);
		return;
	}
	if (s->state == SMTP_PROXY) {
		smtp_egress_lost(s, error);
		return;
	}
	if (s->state == SMTP_HANDSHAKE) {
		smtp_tls_lost(s, "lost connection");
		return;
	}
	outcome_own(&why, OUTCOME_TRANSIENT, smtp_state_outcome(s->state), 451, "4.4.2",
	        "lost connection while %s%s%s%s", smtp_state_words(s->state), smtp_egress_via(s),
	        error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
	smtp_session_fail(s, &why, SMTP_PEER_GONE, SMTP_END_RESET);
}

static void stopped(struct session *s)
{
	struct outcome why;

	outcome_own(&why, OUTCOME_TRANSIENT, smtp_state_outcome(s->state), 451, "4.3.2", "stopped while %s",
	        smtp_state_words(s->state));
	smtp_session_fail(s, &why, SMTP_OURS, SMTP_END_RESET);
}

void smtp_session_timed_out(struct session *s)
{
	struct session_net *net = s->net;
	struct outcome why;

	if (s->state == SMTP_IDLE) {
		smtp_session_quit(s);
		return;
	}
	if (s->state >= SMTP_QUIT || (s->quitting && s->state < SMTP_IDLE)) {
		smtp_session_enter(s, SMTP_CLOSED);
		return;
	}
	if (net->stopping &&
	        loop_now_us(net->loop) >=
	                (smtp_transaction_ended(s) ? net->stop_final_us : net->stop_transactions_us)) {
		stopped(s);
		return;
	}
	if (s->state == SMTP_ENVELOPE || (smtp_transaction_sends(s) && s->body_waits)) {
		smtp_session_body_failed(s);
		return;
	}
	if (s->state == SMTP_FALLBACK) {
		smtp_io_reconnect(s);
		return;
	}
	if (s->state == SMTP_HANDSHAKE) {
		smtp_tls_lost(s, "timed out");
		return;
	}
	if (s->where.proxy && s->state <= SMTP_PROXY) {
		smtp_egress_lost(s, ETIMEDOUT);
		return;
	}
	outcome_own(&why, OUTCOME_TRANSIENT, smtp_state_outcome(s->state), 451,
	        s->state == SMTP_SECRET    ? "4.3.0"
	        : s->state == SMTP_CONNECT ? "4.4.1"
	                                   : "4.4.2",
	        "timed out while %s%s", smtp_state_words(s->state), smtp_egress_via(s));
	smtp_session_fail(s, &why, s->state == SMTP_SECRET ? SMTP_OURS : SMTP_PEER, SMTP_END_RESET);
}

/* Our own bytes cannot be had. The connection ends before end of data, so that the peer takes nothing. */
void smtp_session_body_failed(struct session *s)
{
	struct outcome why;
	const char *error = s->body_waits || s->state == SMTP_ENVELOPE ? "the spool does not answer"
	                                                               : body_cursor_error(s->t.cursor);

	outcome_own(&why, OUTCOME_TRANSIENT, STATE_DATA, 451, "4.3.0", "message could not be read back: %s",
	        error ? error : "it is shorter than recorded");
	smtp_session_fail(s, &why, SMTP_OURS, SMTP_END_RESET);
}

/* A reply that ends the session: 421 anywhere, a refused banner or EHLO. */
void smtp_session_refused(struct session *s, enum smtp_ending ending)
{
	struct outcome why;

	smtp_reply_outcome(&s->reply, smtp_state_outcome(s->state), &why);
	if (s->state == SMTP_AUTH)
		smtp_auth_hide(s, &why);
	why.class = OUTCOME_TRANSIENT;
	smtp_session_fail(s, &why, s->reply.code == 421 ? SMTP_PEER_GONE : SMTP_PEER, ending);
}

void smtp_session_wrong_code(struct session *s)
{
	char what[64];

	snprintf(what, sizeof(what), "unexpected reply %u", s->reply.code);
	smtp_session_protocol_error(s, what);
}

/* --- our side of the dialogue ------------------------------------------------------------------------ */

/* False if octets wait although no reply is due: then nothing may be sent any more. */
bool smtp_session_may_send(struct session *s)
{
	if (s->rest == 0)
		return true;
	smtp_session_protocol_error(s, "more octets than the replies that were due");
	return false;
}

static void ehlo_line(void *ctx, unsigned number, const char *text, size_t len)
{
	struct session *s = ctx;

	if (number > 0) /* the first line has the server's name */
		smtp_offer_line(&s->offer, text, len);
}

static void hello(struct session *s, const char *verb)
{
	s->offer = (struct smtp_offer){0}; /* what was offered before counts no more */
	smtp_reply_init(&s->reply, s->state == SMTP_HELO ? NULL : ehlo_line, s);
	if (smtp_session_may_send(s))
		smtp_command_hello(&s->out, verb, s->ehlo);
}

static void enter_wait(struct session *s)
{
	(void)s;
}

static void enter_ehlo(struct session *s)
{
	hello(s, "EHLO");
}

static void enter_helo(struct session *s)
{
	hello(s, "HELO");
}

static void enter_lhlo(struct session *s)
{
	hello(s, "LHLO");
}

static void enter_starttls(struct session *s)
{
	if (smtp_session_may_send(s))
		smtp_command_plain(&s->out, "STARTTLS");
}

static void enter_handshake(struct session *s)
{
	smtp_tls_begin(s);
}

static void enter_secret(struct session *s)
{
	if (smtp_session_may_send(s))
		smtp_auth_secret(s);
}

static void enter_auth(struct session *s)
{
	if (smtp_session_may_send(s))
		smtp_auth_command(s, &s->out);
}

static void enter_xclient(struct session *s)
{
	if (smtp_session_may_send(s))
		smtp_xclient_command(s, &s->out);
}

static void enter_idle(struct session *s)
{
	if (s->out.size > 4096) /* thousands of sessions may be idle */
		str_free(&s->out);
}

static void enter_envelope(struct session *s)
{
	smtp_envelope_load(s);
}

static void enter_quit(struct session *s)
{
	smtp_command_plain(&s->out, "QUIT");
}

static void enter_closing(struct session *s)
{
	str_clear(&s->out);
	s->out_sent = 0;
}

static void enter_closed(struct session *s)
{
	smtp_auth_forget(s);
	smtp_tls_end(s);
	/* Without the peer's close: reset, so that it stops counting the connection now. */
	smtp_io_close(s, !s->peer_closed);
	session_post_closed(s);
}

void smtp_session_connected(struct session *s)
{
	metric_add(s->net->metrics.connections, 1);
	if (s->where.proxy)
		smtp_egress_connected(s);
	else
		smtp_session_enter(s, SMTP_BANNER);
}

/* --- the peer's side --------------------------------------------------------------------------------- */

static void reply_none(struct session *s)
{
	smtp_session_protocol_error(s, "reply to nothing");
}

static void reply_banner(struct session *s)
{
	if (smtp_first_digit(s) == 3) {
		smtp_session_wrong_code(s);
	} else if (smtp_first_digit(s) != 2) {
		smtp_session_refused(
		        s, SMTP_END_QUIT); /* RFC 5321 3.1: after 554 the server waits for our QUIT */
	} else if (s->method == DELIVERY_LMTP) {
		smtp_session_enter(s, SMTP_LHLO);
	} else {
		/* where DANE demands TLS, delivery_method smtp cannot mean to do without */
		smtp_session_enter(s, s->method == DELIVERY_SMTP && !s->tlsa ? SMTP_HELO : SMTP_EHLO);
	}
}

static void ready(struct session *s)
{
	s->facts.dsn = (s->offer.extensions & SMTP_EXT_DSN) != 0;
	s->facts.lmtp = s->method == DELIVERY_LMTP;
	smtp_tls_keep_ticket(s);
	s->owner_thinks = s->jobs == NULL;
	session_post_ready(s);
	smtp_session_next(s);
}

/* All that may stand between EHLO and AUTH has been done. */
static void introduce(struct session *s)
{
	switch (smtp_xclient_choose(s)) {
	case SMTP_XCLIENT_DONE:
		ready(s);
		break;
	case SMTP_XCLIENT_SAY:
		smtp_session_enter(s, SMTP_XCLIENT);
		break;
	case SMTP_XCLIENT_FAILED:
		break;
	}
}

/* EHLO or LHLO was accepted: in clear text, or under TLS, or TLS first. */
static void greeted(struct session *s)
{
	/* after XCLIENT the server has begun anew, but we have not */
	switch (s->xclient_said > 0 ? SMTP_TLS_CLEAR : smtp_tls_choose(s)) {
	case SMTP_TLS_CLEAR:
		if (!smtp_tls_demand_met(s))
			break;
		if (!s->authenticated && smtp_auth_wanted(s))
			smtp_session_enter(s, s->o->outbound_smtp_auth_pass_file ? SMTP_SECRET : SMTP_AUTH);
		else if (s->state < SMTP_QUIT)
			introduce(s);
		break;
	case SMTP_TLS_START:
		smtp_session_enter(s, SMTP_STARTTLS);
		break;
	case SMTP_TLS_MISSING:
		smtp_tls_fail(s, SMTP_TLS_UNFIT, "4.7.6", "STARTTLS is required, and not offered");
		break;
	}
}

static void reply_starttls(struct session *s)
{
	struct str said;

	if (s->quitting) { /* either side may now speak TLS */
		smtp_session_enter(s, SMTP_CLOSED);
	} else if (smtp_first_digit(s) == 2) {
		if (smtp_session_may_send(
		            s)) /* what stands behind the reply would survive into TLS: not ours */
			smtp_session_enter(s, SMTP_HANDSHAKE);
	} else if (smtp_first_digit(s) == 3) {
		smtp_session_wrong_code(s);
	} else if (smtp_tls_may_do_without(s)) {
		introduce(s);
	} else {
		str_init(&said);
		str_printf(&said, "STARTTLS was refused: %u %s", s->reply.code, s->reply.text);
		smtp_tls_fail(
		        s, smtp_first_digit(s) == 5 ? SMTP_TLS_UNFIT : SMTP_TLS_FOR_NOW, "4.7.5", said.data);
		str_free(&said);
	}
}

static void reply_auth(struct session *s)
{
	if (s->quitting) { /* in the middle of it nothing but its end makes sense */
		smtp_session_enter(s, SMTP_CLOSED);
	} else if (smtp_first_digit(s) == 2) {
		s->authenticated = true;
		introduce(s);
	} else if (s->reply.code == 334) {
		if (!smtp_session_may_send(s))
			return;
		if (smtp_auth_respond(s, &s->out))
			smtp_io_arm(s);
		else
			smtp_session_wrong_code(s);
	} else if (smtp_first_digit(s) == 3) {
		smtp_session_wrong_code(s);
	} else {
		if (s->o->outbound_smtp_auth_pass_file)
			secret_doubt(s->net->secrets, s->o->outbound_smtp_auth_pass_file);
		smtp_session_refused(s, SMTP_END_QUIT); /* the mail waits, whatever the class */
	}
}

static void reply_xclient(struct session *s)
{
	if (s->quitting)
		smtp_session_next(s);
	else if (smtp_first_digit(s) == 2)
		smtp_session_enter(s, s->method == DELIVERY_LMTP ? SMTP_LHLO : SMTP_EHLO);
	else if (smtp_first_digit(s) == 3)
		smtp_session_wrong_code(s);
	else if (smtp_xclient_may_do_without(s))
		ready(s);
	else
		smtp_session_refused(s, SMTP_END_QUIT);
}

static void reply_ehlo(struct session *s)
{
	if (s->quitting) {
		smtp_session_next(s);
	} else if (smtp_first_digit(s) == 2) {
		greeted(s);
	} else if (smtp_first_digit(s) == 5) {
		smtp_session_enter(s, SMTP_HELO);
	} else if (smtp_first_digit(s) == 3) {
		smtp_session_wrong_code(s);
	} else {
		smtp_session_refused(s, SMTP_END_QUIT);
	}
}

static void reply_helo(struct session *s)
{
	if (s->quitting)
		smtp_session_next(s);
	else if (smtp_first_digit(s) == 2)
		greeted(s);
	else if (smtp_first_digit(s) == 3)
		smtp_session_wrong_code(s);
	else
		smtp_session_refused(s, SMTP_END_QUIT);
}

static void reply_lhlo(struct session *s)
{
	reply_helo(s);
}

static void reply_idle(struct session *s)
{
	smtp_session_protocol_error(s, "reply to nothing");
}

bool smtp_session_used_up(const struct session *s, uint32_t delivered)
{
	const struct conn_options *o = s->o;

	if (s->quitting || s->net->stopping)
		return true;
	if (o->max_deliveries_per_connection > 0 && delivered >= o->max_deliveries_per_connection)
		return true;
	if (o->max_recipients_per_connection > 0 && s->named >= o->max_recipients_per_connection)
		return true;
	/* of reuse: the first message has all the time it takes to get here */
	return o->connection_reuse_time_limit_s > 0 && (s->completed > 0 || s->t.job) &&
	       loop_now_us(s->net->loop) - s->opened_us >= o->connection_reuse_time_limit_s * SECOND_US;
}

static bool used_up(const struct session *s)
{
	return smtp_session_used_up(s, s->delivered);
}

static void handle_reply(struct session *s)
{
	bool lmtp_dot = s->state == SMTP_DOT && s->method == DELIVERY_LMTP;

	if (s->reply.code == 421 && !lmtp_dot)
		smtp_session_refused(s, SMTP_END_WAIT);
	else
		states[s->state].on_reply(s);
}

void smtp_session_input(struct session *s, const char *raw, size_t len)
{
	size_t used;

	if (s->state == SMTP_PROXY) {
		used = smtp_egress_input(s, raw, len);
		raw += used;
		len -= used;
	}
	smtp_trace_input(s, raw, len);
	while (len > 0 && s->state < SMTP_QUIT && s->state != SMTP_FALLBACK) {
		switch (smtp_reply_feed(&s->reply, raw, len, &used)) {
		case SMTP_REPLY_MORE:
			return;
		case SMTP_REPLY_BAD:
			smtp_session_protocol_error(s, s->reply.bytes > SMTP_REPLY_MAX_BYTES ||
			                                               s->reply.lines >= SMTP_REPLY_MAX_LINES
			                                       ? "endless reply"
			                                       : "not an SMTP reply");
			return;
		case SMTP_REPLY_DONE:
			break;
		}
		raw += used;
		len -= used;
		s->rest = len;
		handle_reply(s);
		s->rest = 0;
		smtp_reply_init(
		        &s->reply, s->state == SMTP_EHLO || s->state == SMTP_LHLO ? ehlo_line : NULL, s);
	}
	if (s->state < SMTP_QUIT || s->state == SMTP_CLOSED || len == 0)
		return;
	s->discarded += len;
	if (s->discarded > SMTP_DISCARD_MAX)
		smtp_session_enter(s, SMTP_CLOSED);
}

/* --- between transactions ---------------------------------------------------------------------------- */

void smtp_session_next(struct session *s)
{
	if (s->rest > 0) { /* what follows the last reply comes first: 421, or it is not SMTP */
		smtp_session_enter(s, SMTP_IDLE);
		return;
	}
	while (!used_up(s) && s->jobs) {
		if (smtp_transaction_begin(s)) {
			smtp_session_enter(s, smtp_envelope_wanted(s) ? SMTP_ENVELOPE : SMTP_MAIL);
			return;
		}
	}
	if (used_up(s) || (s->o->idle_timeout_s == 0 && !s->owner_thinks)) {
		smtp_jobs_return(s, NULL);
		smtp_session_enter(s, SMTP_QUIT);
	} else if (s->state != SMTP_IDLE) {
		smtp_session_enter(s, SMTP_IDLE);
	}
}

void smtp_session_envelope(struct session *s, bool ok)
{
	struct outcome why;

	if (ok) {
		smtp_session_enter(s, SMTP_MAIL);
		return;
	}
	outcome_own(&why, OUTCOME_TRANSIENT, STATE_MAIL, 451, "4.3.0", "envelope could not be read back");
	smtp_transaction_answer(s, &why);
	smtp_session_next(s);
}

void smtp_session_body_sent(struct session *s)
{
	smtp_trace_body(s);
	s->t.body_out = true;
	if (s->state != SMTP_BODY && s->state != SMTP_CHUNK)
		return; /* the replies to MAIL and RCPT come first */
	s->t.rcpt = smtp_transaction_recipient(s->t.job, 0);
	smtp_session_enter(s, SMTP_DOT);
}

void smtp_session_quit(struct session *s)
{
	s->quitting = true;
	switch (s->state) {
	case SMTP_CONNECT:
	case SMTP_PROXY:
	case SMTP_HANDSHAKE:
	case SMTP_FALLBACK:
	case SMTP_BANNER: /* nothing may be said before the banner */
		smtp_jobs_return(s, NULL);
		smtp_session_enter(s, SMTP_CLOSED);
		return;
	case SMTP_SECRET:
	case SMTP_IDLE:
		smtp_jobs_return(s, NULL);
		smtp_session_enter(s, SMTP_QUIT);
		smtp_io_pump(s);
		return;
	case SMTP_EHLO: /* QUIT has to wait for the reply, for as long as a peer may take to close */
	case SMTP_HELO:
	case SMTP_LHLO:
	case SMTP_STARTTLS:
	case SMTP_AUTH:
	case SMTP_XCLIENT:
		smtp_jobs_return(s, NULL);
		smtp_io_arm(s);
		return;
	default: /* after the transaction */
		smtp_jobs_return(s, NULL);
	}
}

void smtp_session_stop(struct session *s)
{
	smtp_session_quit(s);
	if (s->state != SMTP_CLOSED)
		smtp_io_arm(s);
}
