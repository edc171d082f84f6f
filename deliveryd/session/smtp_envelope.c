/*
 * What RFC 3461 brought with a message, on its way on: RET and ENVID with MAIL, NOTIFY and ORCPT with RCPT.
 *
 * The queue does not keep them. For nearly all mail there is nothing to tell but that ORCPT is the recipient's address,
 * for which a flag will do; else the envelope is read back from the spool before MAIL, without holding up the net loop.
 */
#include <assert.h>
#include "base/mem.h"
#include "session/smtp_session.h"
#include "spool/spool.h"

struct smtp_envelope_load {
	struct spool_load load;
	struct session *session; /* NULL = it could not wait */
};

static void loaded(struct mail *mail)
{
	struct spool_load *load = container_of(mail, struct spool_load, reply);
	struct smtp_envelope_load *l = container_of(load, struct smtp_envelope_load, load);
	struct session *s = l->session;
	struct message *message = load->message;

	mem_free(&l);
	if (!s) {
		message_unref(&message);
		return;
	}
	assert(s->magic == SESSION_MAGIC && s->state == SMTP_ENVELOPE);
	s->t.envelope_load = NULL;
	s->t.envelope = message;
	smtp_session_envelope(s, message != NULL);
	smtp_io_pump(s);
}

bool smtp_envelope_wanted(const struct session *s)
{
	return (s->offer.extensions & SMTP_EXT_DSN) != 0 && (s->t.job->flags & MESSAGE_DSN_KEPT) != 0;
}

void smtp_envelope_load(struct session *s)
{
	struct smtp_envelope_load *l = mem_zalloc(sizeof(*l));

	l->session = s;
	l->load.id = s->t.job->message_id;
	l->load.reply_loop = s->net->loop;
	l->load.reply.take = loaded;
	s->t.envelope_load = l;
	spool_load(s->net->spool, &l->load);
}

void smtp_envelope_drop(struct session *s)
{
	if (s->t.envelope_load)
		s->t.envelope_load->session = NULL;
	s->t.envelope_load = NULL;
	message_unref(&s->t.envelope);
}

const struct recipient *smtp_envelope_recipient(const struct session *s, uint32_t i, struct recipient *own)
{
	const struct session_job *job = s->t.job;
	const struct message *m = s->t.envelope;
	uint32_t number = job->numbers ? job->numbers[i] : i;

	if (m && job->delivery < m->n_deliveries && number < m->deliveries[job->delivery].n_recipients)
		return &m->deliveries[job->delivery].recipients[number];
	if (m || (s->offer.extensions & SMTP_EXT_DSN) == 0 || (job->flags & MESSAGE_ORCPT) == 0)
		return NULL;
	*own = (struct recipient){.notify = NOTIFY_ORCPT_SAME};
	return own;
}
