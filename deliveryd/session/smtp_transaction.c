/*
 * Jobs: from the queue's hands into a transaction, and back with an outcome for each recipient.
 */
#include <assert.h>
#include <string.h>
#include "base/mem.h"
#include "queue/profile.h"
#include "session/smtp_session.h"

#define NO_BDAT_US (24 * 3600 * SECOND_US)
#define PIPED_MAX (64 * 1024) /* more is sent only to who has accepted a recipient */

void session_job_free(struct session_job **pjob)
{
	struct session_job *job = *pjob;

	if (!job)
		return;
	if (job->body)
		body_unref(&job->body);
	mem_free(&job->outcomes);
	mem_free(&job->mem);
	mem_free(pjob);
}

void smtp_jobs_add(struct session *s, struct session_job *job)
{
	job->mail.next = NULL;
	*s->jobs_end = &job->mail;
	s->jobs_end = &job->mail.next;
}

static struct session_job *jobs_pop(struct session *s)
{
	struct session_job *job = container_of(s->jobs, struct session_job, mail);

	s->jobs = job->mail.next;
	if (!s->jobs)
		s->jobs_end = &s->jobs;
	return job;
}

static void job_back(struct session *s, struct session_job *job)
{
	job->done_mono_us = loop_now_us(s->net->loop);
	session_post_job(s, job);
}

void smtp_jobs_return(struct session *s, const struct outcome *why)
{
	struct session_job *job;
	uint32_t i;

	while (s->jobs) {
		job = jobs_pop(s);
		job->begun = false;
		job->connection_lost = why != NULL && why->lost;
		for (i = 0; why && i < job->n_recipients; i++) {
			job->outcomes[i] = *why;
			job->outcomes[i].class = OUTCOME_TRANSIENT;
		}
		job_back(s, job);
	}
}

/* --- one transaction --------------------------------------------------------------------------------- */

uint32_t smtp_transaction_recipient(const struct session_job *job, uint32_t from)
{
	while (from < job->n_recipients && job->outcomes[from].class != OUTCOME_NONE)
		from++;
	return from;
}

void smtp_transaction_done(struct session *s)
{
	struct smtp_transaction *t = &s->t;
	struct session_job *job = t->job;

	t->job = NULL;
	smtp_envelope_drop(s);
	body_cursor_free(&t->cursor);
	s->body_waits = false;
	job_back(s, job);
}

void smtp_transaction_answer(struct session *s, const struct outcome *said)
{
	struct session_job *job = s->t.job;
	uint32_t i;

	if (!job)
		return;
	for (i = smtp_transaction_recipient(job, 0); i < job->n_recipients;
	        i = smtp_transaction_recipient(job, i + 1))
		job->outcomes[i] = *said;
	smtp_transaction_done(s);
}

void smtp_transaction_note(struct session *s, const struct outcome *said)
{
	struct session_job *job = s->t.job;

	for (uint32_t i = smtp_transaction_recipient(job, 0); i < job->n_recipients;
	        i = smtp_transaction_recipient(job, i + 1))
		job->outcomes[i] = *said;
}

bool smtp_transaction_sends(const struct session *s)
{
	const struct smtp_transaction *t = &s->t;

	if (s->state == SMTP_BODY || s->state == SMTP_CHUNK)
		return true;
	return (s->state == SMTP_MAIL || s->state == SMTP_RCPT) && t->cursor && t->body_piped && !t->body_out;
}

bool smtp_transaction_ended(const struct session *s)
{
	const struct smtp_transaction *t = &s->t;

	return s->state == SMTP_DOT ||
	       ((s->state == SMTP_MAIL || s->state == SMTP_RCPT) && t->job && t->body_out);
}

/*
 * After end of data the peer's word decides: it may be 421, then nothing was delivered; without one nobody
 * knows. Before, the message costs nothing if it met a connection that had been of use and went away under it
 * unasked, or if it is we who stop.
 */
void smtp_transaction_lost(struct session *s, const struct outcome *why, enum smtp_cause cause)
{
	struct session_job *job = s->t.job;
	struct outcome said;

	if (!job)
		return;
	/*
	 * With BDAT the end may be out before there is a reply to MAIL. Who closes then has not come to it: else there
	 * would be replies. But when it is we who give up the other side goes on reading.
	 */
	bool ended = smtp_transaction_ended(s) && (s->state == SMTP_DOT || cause != SMTP_PEER_GONE);
	if ((s->state == SMTP_MAIL || s->state == SMTP_ENVELOPE) && cause == SMTP_PEER_GONE &&
	        s->completed > 0 && !(ended && why->ours))
		job->begun = false;
	/* one that is lost at BDAT may be so because of it: the next try goes without */
	if (s->t.chunked && s->t.accepted > 0 && s->delivered == 0 && cause != SMTP_OURS && why->ours)
		smtp_transaction_forget_bdat(s);
	if (!ended && s->net->stopping && cause == SMTP_OURS)
		job->begun = false;
	if (!job->begun) {
		smtp_transaction_done(s);
		return;
	}
	said = *why;
	said.class = ended && why->ours ? OUTCOME_UNCERTAIN : OUTCOME_TRANSIENT;
	if (said.class == OUTCOME_UNCERTAIN)
		said.state = STATE_DOT;
	said.lost = cause != SMTP_OURS && said.class == OUTCOME_TRANSIENT;
	job->connection_lost = said.lost;
	smtp_transaction_answer(s, &said);
}

/* --- what our own checks say ------------------------------------------------------------------------- */

static bool refuse(struct session *s, int code, const char *enhanced, const char *text)
{
	struct outcome own;

	outcome_own(&own, OUTCOME_PERMANENT, STATE_MAIL, code, enhanced, "%s", text);
	smtp_transaction_answer(s, &own);
	return false;
}

/* RFC 6531 3.1, 3.6: needed if the message says so and an address or the header is not ASCII. */
static bool check_utf8(struct session *s, struct session_job *job)
{
	bool may = (job->flags & MESSAGE_SMTPUTF8) != 0;
	bool offered = (s->offer.extensions & SMTP_EXT_SMTPUTF8) != 0;
	bool needed = may && ((job->flags & MESSAGE_UTF8_HEADER) != 0 || !smtp_address_is_ascii(job->sender));
	uint32_t i;

	if (needed && !offered)
		return refuse(s, 553, "5.6.7", "message needs SMTPUTF8, which the receiver does not offer");
	if (!smtp_address_ok(job->sender, needed))
		return refuse(s, 553, "5.1.7", "envelope sender cannot be sent: control or 8-bit characters");
	for (i = 0; i < job->n_recipients; i++) {
		bool ascii = smtp_address_is_ascii(job->recipients[i]);

		if (may && !ascii && !offered)
			outcome_own(&job->outcomes[i], OUTCOME_PERMANENT, STATE_RCPT, 553, "5.6.7",
			        "address needs SMTPUTF8, which the receiver does not offer");
		else if (job->recipients[i][0] == '\0' || !smtp_address_ok(job->recipients[i], may))
			outcome_own(&job->outcomes[i], OUTCOME_PERMANENT, STATE_RCPT, 553, "5.1.3",
			        "address cannot be sent: control or 8-bit characters");
		else
			needed = needed || !ascii;
	}
	s->t.params.smtputf8 = needed;
	return true;
}

static uint64_t size_of(const struct session_job *job)
{
	return job->body ? body_size(job->body) : job->body_size;
}

static bool check(struct session *s, struct session_job *job)
{
	struct smtp_mail_params *params = &s->t.params;
	uint64_t size = size_of(job);

	if ((s->offer.extensions & SMTP_EXT_SIZE) != 0) {
		if (s->offer.max_size > 0 && size > s->offer.max_size)
			return refuse(s, 552, "5.3.4", "message is larger than the receiver takes");
		params->size = true;
		params->bytes = size;
	}
	/* RFC 8689 4.2.1: the queue never mixes it with other mail */
	assert((job->flags & MESSAGE_REQUIRETLS) == 0 || s->tls_demand == SESSION_TLS_REQUIRED);
	params->requiretls =
	        (job->flags & MESSAGE_REQUIRETLS) != 0 && (s->offer.extensions & SMTP_EXT_REQUIRETLS) != 0;
	params->body_8bitmime = (s->offer.extensions & SMTP_EXT_8BITMIME) != 0 &&
	                        (job->flags & (MESSAGE_8BIT | MESSAGE_BODY_8BITMIME)) != 0;
	if (!check_utf8(s, job))
		return false;
	if ((job->flags & MESSAGE_8BIT) != 0 && (s->offer.extensions & SMTP_EXT_8BITMIME) == 0 &&
	        s->o->eight_bit == EIGHT_BIT_FAIL)
		return refuse(s, 554, "5.6.3",
		        "message has 8-bit characters, and the receiver does not offer 8BITMIME");
	if (smtp_transaction_recipient(job, 0) == job->n_recipients) {
		smtp_transaction_done(s);
		return false;
	}
	return true;
}

void smtp_transaction_forget_bdat(struct session *s)
{
	host_memory_set(s->net->no_bdat, &s->where.peer, loop_now_us(s->net->loop) + NO_BDAT_US);
}

static bool may_chunk(const struct session *s)
{
	return (s->offer.extensions & SMTP_EXT_CHUNKING) != 0 && s->o->chunking &&
	       !host_memory_has(s->net->no_bdat, &s->where.peer, loop_now_us(s->net->loop));
}

bool smtp_transaction_begin(struct session *s)
{
	struct session_job *job = jobs_pop(s);
	struct smtp_transaction *t = &s->t;

	assert(!t->job && !t->cursor);
	*t = (struct smtp_transaction){.job = job};
	job->begun = true;
	job->connection_lost = false;
	if (!check(s, job))
		return false;
	metric_add(s->net->metrics.transactions, 1);
	t->piped = (s->offer.extensions & SMTP_EXT_PIPELINING) != 0;
	t->chunked = may_chunk(s);
	t->body_piped = t->chunked && t->piped && size_of(job) <= PIPED_MAX;
	t->deadline_us = loop_now_us(s->net->loop) + s->o->transaction_timeout_s * SECOND_US;
	t->rcpt = smtp_transaction_recipient(job, 0);
	return true;
}

void smtp_transaction_rcpt(struct session *s, uint32_t i, struct str *out)
{
	struct recipient room;

	smtp_command_rcpt(
	        out, s->t.job->recipients[i], smtp_envelope_recipient(s, i, &room), s->t.params.smtputf8);
}

void smtp_transaction_commands(struct session *s, struct str *out)
{
	struct smtp_transaction *t = &s->t;
	const struct session_job *job = t->job;
	uint32_t i;

	smtp_command_mail(out, job->sender, &t->params, t->envelope);
	for (i = t->rcpt; i < job->n_recipients; i = smtp_transaction_recipient(job, i + 1)) {
		t->rcpt_due++;
		s->named++;
		if (t->piped)
			smtp_transaction_rcpt(s, i, out);
	}
	if (t->body_piped) {
		smtp_transaction_start_body(s);
		smtp_command_bdat(out, size_of(job));
	} else if (t->piped && !t->chunked) {
		smtp_command_plain(out, "DATA");
	}
}

static void body_wake(void *ctx)
{
	struct session *s = ctx;

	assert(s->magic == SESSION_MAGIC);
	if (smtp_transaction_sends(s))
		smtp_io_pump(s);
}

void smtp_transaction_start_body(struct session *s)
{
	struct session_job *job = s->t.job;
	uint64_t size = size_of(job);

	s->t.cursor =
	        body_cursor_new(s->net->spool, s->net->loop, job->message_id, job->body, 0, body_wake, s);
	if (s->t.chunked)
		smtp_data_init_chunk(&s->t.data, s->t.cursor, size);
	else
		smtp_data_init(&s->t.data, s->t.cursor, size, (job->flags & MESSAGE_DOT_LINES) != 0);
}

void smtp_transaction_want(struct session *s)
{
	if (s->t.wanted || smtp_session_used_up(s, s->delivered + 1))
		return;
	s->t.wanted = true;
	s->owner_thinks = true;
	session_post_want(s);
}
