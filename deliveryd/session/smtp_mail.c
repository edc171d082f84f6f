/*
 * A transaction's commands and replies: MAIL, RCPT, then DATA and the message, or the message in one chunk by BDAT.
 *
 * BDAT (RFC 3030) goes out with MAIL and RCPT when the server does PIPELINING and the message is small, and then the
 * message travels whatever becomes of them: the server reads it in any case, and its reply to BDAT is waited for, so that
 * both stay in step. One that offers CHUNKING and does not know BDAT takes the message for commands: the connection ends,
 * and the same message goes over a new one by DATA, as all do to this host for a day.
 */
#include "session/smtp_session.h"

#include <string.h>
#include "queue/profile.h"

/* --- our side ---------------------------------------------------------------------------------------- */

void smtp_mail_enter_mail(struct session *s)
{
	if (smtp_session_may_send(s))
		smtp_transaction_commands(s, &s->out);
}

void smtp_mail_enter_rcpt(struct session *s)
{
	if (!s->t.piped && smtp_session_may_send(s))
		smtp_transaction_rcpt(s, s->t.rcpt, &s->out);
}

void smtp_mail_enter_data(struct session *s)
{
	if (!s->t.piped && smtp_session_may_send(s))
		smtp_command_plain(&s->out, "DATA");
}

void smtp_mail_enter_chunk(struct session *s)
{
	if (s->t.body_piped || !smtp_session_may_send(s))
		return;
	smtp_transaction_start_body(s);
	smtp_command_bdat(&s->out, s->t.data.left);
}

void smtp_mail_enter_drop(struct session *s)
{
	if (smtp_session_may_send(s))
		smtp_command_plain(&s->out, ".");
}

void smtp_mail_enter_rset(struct session *s)
{
	if (smtp_session_may_send(s))
		smtp_command_plain(&s->out, "RSET");
}

/* --- the peer's side --------------------------------------------------------------------------------- */

/* The transaction is over and its job is back; the server may still have it open. */
static void transaction_over(struct session *s, bool rset)
{
	s->completed++;
	if (rset && !smtp_session_used_up(s, s->delivered))
		smtp_session_enter(s, SMTP_RSET);
	else
		smtp_session_next(s);
}

void smtp_mail_reply_mail(struct session *s)
{
	struct outcome said;

	if (smtp_first_digit(s) == 3) {
		smtp_session_wrong_code(s);
		return;
	}
	if (smtp_tls_missed(s))
		return;
	s->t.mail_accepted = smtp_first_digit(s) == 2;
	if (!s->t.mail_accepted) {
		smtp_reply_outcome(&s->reply, STATE_MAIL, &said);
		s->t.refused = s->t.body_piped;
		if (s->t.body_piped)
			smtp_transaction_note(s, &said);
		else
			smtp_transaction_answer(s, &said);
		if (!s->t.piped) {
			transaction_over(s, false);
			return;
		}
	}
	smtp_session_enter(s, SMTP_RCPT);
}

/* Or on its way, behind BDAT. */
static void message_is_out(struct session *s)
{
	s->t.rcpt = smtp_transaction_recipient(s->t.job, 0);
	smtp_session_enter(s, s->t.body_out ? SMTP_DOT : SMTP_CHUNK);
}

static void next_recipient(struct session *s)
{
	struct smtp_transaction *t = &s->t;

	if (t->rcpt_due > 0) {
		if (t->job && !t->refused)
			t->rcpt = smtp_transaction_recipient(t->job, t->rcpt + 1);
		smtp_session_enter(s, SMTP_RCPT);
		return;
	}
	if (t->body_piped) {
		message_is_out(s);
		return;
	}
	if (t->job && t->accepted == 0)
		smtp_transaction_done(s);
	if (!t->job && (t->chunked || !t->piped))
		transaction_over(s, t->mail_accepted);
	else
		smtp_session_enter(s, t->chunked ? SMTP_CHUNK : SMTP_DATA);
}

/* RFC 5321 4.5.3.1.10: 452 asks for the rest in another transaction, and 552 is to be taken for it. */
static bool too_many(const struct smtp_reply *reply)
{
	return reply->code == 452 || reply->code == 552 ||
	       (reply->enhanced[0] != '\0' && strcmp(reply->enhanced + 1, ".5.3") == 0);
}

void smtp_mail_reply_rcpt(struct session *s)
{
	struct smtp_transaction *t = &s->t;

	if (smtp_first_digit(s) == 3) {
		smtp_session_wrong_code(s);
		return;
	}
	t->rcpt_due--;
	if (t->job && !t->refused && smtp_first_digit(s) == 2) {
		if (t->accepted++ == 0 && !t->chunked)
			smtp_transaction_start_body(s);
	} else if (t->job && !t->refused) {
		smtp_reply_outcome(&s->reply, STATE_RCPT, &t->job->outcomes[t->rcpt]);
		t->job->outcomes[t->rcpt].put_off = t->accepted > 0 && too_many(&s->reply);
	}
	next_recipient(s);
}

void smtp_mail_reply_data(struct session *s)
{
	struct outcome said;

	if (s->reply.code == 354) {
		smtp_session_enter(s, s->t.job ? SMTP_BODY : SMTP_DROP);
	} else if (smtp_first_digit(s) < 4) {
		smtp_session_wrong_code(s);
	} else {
		smtp_reply_outcome(&s->reply, STATE_DATA, &said);
		smtp_transaction_answer(s, &said);
		transaction_over(s, s->t.mail_accepted);
	}
}

/* What those say who offer CHUNKING for a proxy in front that knows no BDAT, or the other way round. */
static bool knows_no_bdat(const struct session *s)
{
	unsigned code = s->reply.code;

	return code == 500 || code == 502 || code == 503 || code == 504;
}

/* It takes the message for commands: nothing it says from here on means anything. What was tried costs nothing. */
static void without_bdat(struct session *s)
{
	smtp_transaction_forget_bdat(s);
	s->t.job->begun = false;
	smtp_transaction_done(s);
	smtp_jobs_return(s, NULL);
	smtp_session_enter(s, SMTP_CLOSED);
}

/*
 * A reply while the message is being sent. A refusal counts for the message, but the server now reads the
 * rest of it as who knows what, so the connection ends. Anything else is no answer to anything.
 */
void smtp_mail_reply_body(struct session *s)
{
	struct outcome said;

	if (smtp_first_digit(s) < 4) {
		smtp_session_wrong_code(s);
		return;
	}
	if (s->t.chunked && s->t.accepted > 0 && knows_no_bdat(s)) {
		without_bdat(s);
		return;
	}
	smtp_reply_outcome(&s->reply, STATE_DATA, &said);
	smtp_transaction_answer(s, &said);
	s->completed++;
	smtp_jobs_return(s, NULL);
	smtp_session_enter(s, SMTP_CLOSED);
}

/* LMTP: one reply for each accepted recipient, in the order of their RCPTs. */
static bool more_dots(struct session *s)
{
	struct smtp_transaction *t = &s->t;

	if (s->method != DELIVERY_LMTP)
		return false;
	smtp_reply_outcome(&s->reply, STATE_DOT, &t->job->outcomes[t->rcpt]);
	if (s->reply.code == 421)
		t->said_421 = true;
	t->rcpt = smtp_transaction_recipient(t->job, t->rcpt + 1);
	return t->rcpt < t->job->n_recipients;
}

/* False if no recipient was left for the message that went out all the same: the reply says nothing new. */
static bool chunk_counts(struct session *s)
{
	if (!s->t.chunked || s->t.accepted > 0)
		return true;
	smtp_transaction_done(s);
	if (s->reply.code == 421) {
		s->completed++;
		smtp_session_refused(s, SMTP_END_WAIT);
	} else {
		transaction_over(s, s->t.mail_accepted);
	}
	return false;
}

void smtp_mail_reply_dot(struct session *s)
{
	struct smtp_transaction *t = &s->t;
	struct outcome said;

	if (!chunk_counts(s))
		return;
	if (t->chunked && !t->chunk_answered && knows_no_bdat(s)) {
		without_bdat(s);
		return;
	}
	t->chunk_answered = true;
	if (more_dots(s)) {
		t->delivered |= smtp_first_digit(s) == 2;
		smtp_session_enter(s, SMTP_DOT);
		return;
	}
	smtp_reply_outcome(&s->reply, STATE_DOT, &said);
	if (smtp_first_digit(s) == 2 || t->delivered)
		s->delivered++;
	smtp_transaction_answer(s, &said);
	if (smtp_first_digit(s) == 3) { /* out of step: what it says next would be taken for something else */
		s->completed++;
		smtp_session_wrong_code(s);
	} else if (t->said_421) {
		s->completed++;
		smtp_session_refused(s, SMTP_END_WAIT);
	} else { /* RFC 3030 2: after a refused chunk the transaction is still there */
		transaction_over(s, t->chunked && smtp_first_digit(s) != 2);
	}
}

void smtp_mail_reply_drop(struct session *s)
{
	transaction_over(s, false);
}

void smtp_mail_reply_rset(struct session *s)
{
	if (smtp_first_digit(s) == 2)
		smtp_session_next(s);
	else if (smtp_first_digit(s) == 3)
		smtp_session_wrong_code(s);
	else
		smtp_session_refused(s, SMTP_END_QUIT);
}
