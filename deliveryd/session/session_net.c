/*
 * A net loop's outgoing sessions, and the mail between them and their owners.
 *
 * A session is made and freed on its owner's loop and lives on the net loop between. Its mails are parts of
 * it, so none can fail to be sent, and it is freed only when none can be under way any more: closed (net to
 * owner: all is back), ack (owner to net: whatever I sent before has reached you), gone (net to owner: and
 * came back before this).
 */
#include <assert.h>
#include <string.h>
#include "base/mem.h"
#include "queue/profile.h"
#include "session/smtp_session.h"

/* --- on the owner's loop ----------------------------------------------------------------------------- */

static struct session *session_check(struct session *s)
{
	assert(s->magic == SESSION_MAGIC);
	return s;
}

static void owner_free(struct session *s)
{
	profile_unref(&s->profile);
	tlsa_unref(&s->tlsa);
	mem_free(&s->mx);
	mem_free(&s->next_hop);
	mem_free(&s->ehlo);
	mem_free(&s->binding);
	mem_free(&s->unix_path);
	mem_free(&s->xclient);
	s->magic = 0;
	mem_free(&s);
}

static void owner_finish(struct session *s)
{
	if (!s->gone || s->returning > 0)
		return;
	s->owner->on_closed(s->ctx, s, &s->why, s->completed, &s->facts);
	owner_free(s);
}

static void owner_take_ready(struct mail *mail)
{
	struct session *s = session_check(container_of(mail, struct session, ready_mail));

	s->owner->on_ready(s->ctx, s, &s->facts);
}

static void owner_take_want(struct mail *mail)
{
	struct session *s = session_check(container_of(mail, struct session, want_mail));

	atomic_store_explicit(&s->want_posted, false, memory_order_release);
	s->owner->on_want(s->ctx, s);
}

static void owner_take_job(struct mail *mail)
{
	struct session_job *job = container_of(mail, struct session_job, mail);
	struct session *s = session_check(job->session);

	s->owner->on_job_done(s->ctx, s, job, &s->facts);
}

static void owner_take_returned(struct mail *mail)
{
	struct session_job *job = container_of(mail, struct session_job, mail);
	struct session *s = session_check(job->session);

	s->returning--;
	s->owner->on_job_done(s->ctx, s, job, &s->facts);
	owner_finish(s);
}

static void owner_take_closed(struct mail *mail)
{
	struct session *s = session_check(container_of(mail, struct session, closed_mail));

	s->net_done = true;
	loop_post(s->net->loop, &s->ack_mail);
}

static void owner_take_gone(struct mail *mail)
{
	struct session *s = session_check(container_of(mail, struct session, gone_mail));

	s->gone = true;
	owner_finish(s);
}

/* --- to the owner ------------------------------------------------------------------------------------ */

void session_post_ready(struct session *s)
{
	loop_post(s->owner_loop, &s->ready_mail);
}

void session_post_want(struct session *s)
{
	/* The owner has not yet taken the last one: that one will do, it asks for one more job all the same.
	 */
	if (!atomic_exchange_explicit(&s->want_posted, true, memory_order_acq_rel))
		loop_post(s->owner_loop, &s->want_mail);
}

void session_post_job(struct session *s, struct session_job *job)
{
	job->mail.take = owner_take_job;
	loop_post(s->owner_loop, &job->mail);
}

void session_post_closed(struct session *s)
{
	loop_post(s->owner_loop, &s->closed_mail);
}

/* --- on the net loop --------------------------------------------------------------------------------- */

static void list_add(struct session_net *net, struct session *s)
{
	s->next = net->sessions;
	s->prev = NULL;
	if (s->next)
		s->next->prev = s;
	net->sessions = s;
	metric_add(net->metrics.open, 1);
}

static void list_remove(struct session_net *net, struct session *s)
{
	if (s->next)
		s->next->prev = s->prev;
	if (s->prev)
		s->prev->next = s->next;
	else
		net->sessions = s->next;
	metric_sub(net->metrics.open, 1);
}

static void net_take_open(struct mail *mail)
{
	struct session *s = session_check(container_of(mail, struct session, open_mail));

	list_add(s->net, s);
	s->opened_us = loop_now_us(s->net->loop);
	smtp_io_init(s);
	smtp_session_enter(s, SMTP_CONNECT);
	if (s->net->stopping)
		smtp_session_stop(s);
	else
		smtp_io_connect(s);
}

static void net_take_job(struct mail *mail)
{
	struct session_job *job = container_of(mail, struct session_job, mail);
	struct session *s = session_check(job->session);

	smtp_jobs_add(s, job);
	s->owner_thinks = false;
	if (s->quitting || s->net->stopping || s->state >= SMTP_QUIT) {
		smtp_jobs_return(s, NULL);
		return;
	}
	if (s->state != SMTP_IDLE)
		return;
	/* Descriptors come before mail in a turn: had the peer closed, or said 421, the session would not be idle. */
	if (s->state == SMTP_IDLE && !smtp_reply_begun(&s->reply))
		smtp_session_next(s);
	smtp_io_pump(s);
}

static void net_take_no_job(struct mail *mail)
{
	struct session *s = session_check(container_of(mail, struct session, no_job_mail));

	atomic_store_explicit(&s->no_job_posted, false, memory_order_release);
	s->owner_thinks = false;
	if (s->state == SMTP_IDLE && s->o->idle_timeout_s == 0) {
		smtp_session_next(s);
		smtp_io_pump(s);
	}
}

static void net_take_quit(struct mail *mail)
{
	smtp_session_quit(session_check(container_of(mail, struct session, quit_mail)));
}

static void net_take_ack(struct mail *mail)
{
	struct session *s = session_check(container_of(mail, struct session, ack_mail));

	assert(s->state == SMTP_CLOSED && !s->jobs);
	smtp_trace_free(&s->trace);
	list_remove(s->net, s);
	loop_post(s->owner_loop, &s->gone_mail);
}

/* --- session.h --------------------------------------------------------------------------------------- */

/* "__message__" stands for itself only where a message has no name to give. */
static char *ehlo_name(const struct session_net *net, const struct session_open *open)
{
	const char *name = open->ehlo ? open->ehlo : open->profile->o.ehlo_hostname;

	if (!name || strncmp(name, "__", 2) == 0 || !smtp_ehlo_name_ok(name))
		return mem_strdup(net->hostname);
	return mem_strdup(name);
}

static bool proxy_of(struct session *s)
{
	bool ok = s->o->egress_proxy && !s->unix_path;

	if (ok && !egress_proxy_parse(s->o->egress_proxy, &s->proxy, NULL))
		assert(!"the configuration has only proxies that can be read");
	return ok;
}

static void set_mail(struct session *s)
{
	s->open_mail.take = net_take_open;
	s->quit_mail.take = net_take_quit;
	s->no_job_mail.take = net_take_no_job;
	s->ack_mail.take = net_take_ack;
	s->ready_mail.take = owner_take_ready;
	s->want_mail.take = owner_take_want;
	s->closed_mail.take = owner_take_closed;
	s->gone_mail.take = owner_take_gone;
}

static void job_prepare(struct session *s, struct session_job *job)
{
	uint32_t i;

	assert(job->n_recipients > 0);
	job->session = s;
	job->begun = false;
	job->connection_lost = false;
	job->outcomes = mem_array(job->outcomes, job->n_recipients, sizeof(job->outcomes[0]));
	for (i = 0; i < job->n_recipients; i++) { /* the text's kilobyte is left alone until there is one */
		job->outcomes[i].class = OUTCOME_NONE;
		job->outcomes[i].state = STATE_MAIL;
		job->outcomes[i].ours = false;
		job->outcomes[i].lost = false;
		job->outcomes[i].proxy = false;
		job->outcomes[i].unfit = false;
		job->outcomes[i].put_off = false;
		job->outcomes[i].code = 0;
		job->outcomes[i].enhanced[0] = '\0';
		job->outcomes[i].reply[0] = '\0';
	}
}

struct session *session_open(struct session_net *net, const struct session_open *open)
{
	struct session *s = mem_zalloc(sizeof(*s));
	bool report = open->first && (open->first->flags & MESSAGE_DSN) != 0;

	s->magic = SESSION_MAGIC;
	s->net = net;
	s->owner_loop = open->owner_loop;
	s->owner = open->owner;
	s->ctx = open->ctx;
	s->profile = profile_ref(open->profile);
	s->o = &s->profile->o;
	s->tlsa = tlsa_ref(open->tlsa);
	s->tls_demand = open->tls_demand;
	s->method = open->method ? *open->method : s->o->delivery_method;
	s->mx = mem_strdup(open->mx ? open->mx : "");
	s->next_hop = open->next_hop ? mem_strdup(open->next_hop) : NULL;
	s->binding = mem_strdup(open->binding ? open->binding : "default");
	s->unix_path = open->unix_path ? mem_strdup(open->unix_path) : NULL;
	s->ehlo = ehlo_name(net, open);
	s->xclient = open->xclient ? mem_strdup(open->xclient) : NULL;
	s->where = (struct source_connect){.binding = s->binding,
	        .source = open->source,
	        .any_source = open->any_source || (report && open->source.family == AF_UNSPEC),
	        .peer = open->peer,
	        .proxy = proxy_of(s) ? &s->proxy : NULL,
	        .unix_path = s->unix_path,
	        .local = net->local};
	s->facts.mx = s->mx;
	s->facts.ehlo = s->ehlo;
	if (s->where.proxy)
		s->facts.proxy = s->proxy.addr;
	s->why.class = OUTCOME_OK;
	s->jobs_end = &s->jobs;
	stream_init(&s->stream);
	str_init(&s->out);
	smtp_reply_init(&s->reply, NULL, NULL);
	set_mail(s);
	if (open->first) {
		job_prepare(s, open->first);
		smtp_jobs_add(s, open->first);
	}
	loop_post(net->loop, &s->open_mail);
	return s;
}

void session_job(struct session *s, struct session_job *job)
{
	job_prepare(session_check(s), job);
	if (s->net_done) {
		s->returning++;
		job->done_mono_us = loop_now_us(s->owner_loop);
		job->mail.take = owner_take_returned;
		loop_post(s->owner_loop, &job->mail);
		return;
	}
	job->mail.take = net_take_job;
	loop_post(s->net->loop, &job->mail);
}

void session_no_job(struct session *s)
{
	session_check(s);
	if (!s->net_done && !atomic_exchange_explicit(&s->no_job_posted, true, memory_order_acq_rel))
		loop_post(s->net->loop, &s->no_job_mail);
}

void session_quit(struct session *s)
{
	session_check(s);
	if (s->net_done || s->quit_posted)
		return;
	s->quit_posted = true;
	loop_post(s->net->loop, &s->quit_mail);
}

static void net_take_stop(struct mail *mail)
{
	struct session_net *net = container_of(mail, struct session_net, stop_mail);
	struct session *s, *next;

	atomic_store(&net->stop_posted, false);
	net->stopping = true;
	net->stop_transactions_us = atomic_load(&net->stop_mail_transactions_us);
	net->stop_final_us = atomic_load(&net->stop_mail_final_us);
	for (s = net->sessions; s; s = next) {
		next = s->next; /* no session leaves the list before its owner's ack */
		smtp_session_stop(s);
	}
}

void session_net_stop(
        struct session_net *net, uint64_t transaction_deadline_mono_us, uint64_t final_deadline_mono_us)
{
	atomic_store(&net->stop_mail_transactions_us, transaction_deadline_mono_us);
	atomic_store(&net->stop_mail_final_us, final_deadline_mono_us);
	if (!atomic_exchange(&net->stop_posted, true))
		loop_post(net->loop, &net->stop_mail);
}

static void net_take_reload(struct mail *mail)
{
	struct session_net *net = container_of(mail, struct session_net, reload_mail);

	atomic_store(&net->reload_posted, false);
	tls_creds_reload(net->tls_creds);
	secrets_reload(net->secrets);
}

void session_net_reload(struct session_net *net)
{
	if (!atomic_exchange(&net->reload_posted, true))
		loop_post(net->loop, &net->reload_mail);
}

void session_net_set_trace(struct session_net *net, struct trace *trace)
{
	net->trace = trace;
}

void session_net_read_at_once(struct session_net *net)
{
	tls_creds_cache_free(&net->tls_creds);
	net->tls_creds = tls_creds_cache_new(net->loop, 0);
	secrets_free(&net->secrets);
	net->secrets = secrets_new(net->loop, 0);
}

struct session_net *session_net_new(struct loop *loop, struct spool *spool, struct local_addrs *local,
        struct metrics *metrics, const char *hostname)
{
	struct session_net *net = mem_zalloc(sizeof(*net));
	struct session_metrics *m = &net->metrics;

	net->loop = loop;
	net->spool = spool;
	net->local = local;
	net->hostname = mem_strdup(smtp_ehlo_name_ok(hostname) ? hostname : "localhost");
	net->input = mem_alloc(SESSION_INPUT_SIZE);
	net->stop_mail.take = net_take_stop;
	net->reload_mail.take = net_take_reload;
	net->tls_creds = tls_creds_cache_new(loop, 1);
	net->tls_memory = tls_memory_new();
	net->secrets = secrets_new(loop, 1);
	net->no_bdat = host_memory_new();
	m->open = metrics_gauge(
	        metrics, "bindpost_outgoing_sessions", NULL, "Outgoing connections open or opening.");
	m->connections = metrics_counter(
	        metrics, "bindpost_outgoing_connections_total", NULL, "Outgoing connections made.");
	m->connect_failures = metrics_counter(
	        metrics, "bindpost_outgoing_connect_failures_total", NULL, "Outgoing connections not made.");
	m->protocol_errors = metrics_counter(metrics, "bindpost_outgoing_protocol_errors_total", NULL,
	        "Outgoing connections closed because the other side did not speak SMTP.");
	m->transactions = metrics_counter(
	        metrics, "bindpost_outgoing_transactions_total", NULL, "Outgoing transactions begun.");
	for (unsigned i = 0; i < SMTP_TLS_PROOFS; i++) {
		char label[32];
		snprintf(label, sizeof(label), "verified=\"%s\"", smtp_tls_proof(i));
		m->tls_handshakes[i] =
		        metrics_counter(metrics, "bindpost_outgoing_tls_handshakes_total", label,
		                "TLS handshakes of outgoing connections that succeeded, by what the "
		                "certificate showed.");
	}
	m->tls_resumed = metrics_counter(metrics, "bindpost_outgoing_tls_resumed_total", NULL,
	        "Of these, those that resumed an earlier session.");
	m->tls_failures = metrics_counter(metrics, "bindpost_outgoing_tls_failures_total", NULL,
	        "TLS handshakes of outgoing connections that failed, or whose certificate was refused.");
	m->bytes = metrics_counter(
	        metrics, "bindpost_outgoing_bytes_total", NULL, "Bytes sent on outgoing connections.");
	return net;
}

void session_net_free(struct session_net **pnet)
{
	struct session_net *net = *pnet;

	if (!net)
		return;
	assert(!net->sessions);
	tls_creds_cache_free(&net->tls_creds);
	host_memory_free(&net->no_bdat);
	tls_memory_free(&net->tls_memory);
	secrets_free(&net->secrets);
	mem_free(&net->hostname);
	mem_free(&net->input);
	mem_free(pnet);
}
