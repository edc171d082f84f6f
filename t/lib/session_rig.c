#include "t/lib/session_rig.h"

#include <sched.h>
#include "base/mem.h"
#include "t/lib/test.h"

/* The sessions' profile is a part of the rig: nothing to count. */
struct profile *profile_ref(struct profile *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void profile_unref(struct profile **pp)
{
	if (*pp)
		atomic_fetch_sub(&(*pp)->refs, 1);
	*pp = NULL;
}

static void story(struct rig *r, const char *word)
{
	if (r->story.len > 0)
		str_add_char(&r->story, ' ');
	str_add(&r->story, word);
}

static void give_next(struct rig *r)
{
	if (r->next_given < r->n_next)
		session_job(r->session, r->next[r->next_given++]);
	else if (r->says_no)
		session_no_job(r->session);
}

static void on_ready(void *ctx, struct session *s, const struct session_facts *facts)
{
	struct rig *r = ctx;

	assert_ptr_equal(s, r->session);
	assert_int_equal(facts->peer.port, r->open.peer.port);
	r->ready++;
	story(r, "ready");
	if (!r->open.first)
		give_next(r);
}

static void on_want(void *ctx, struct session *s)
{
	struct rig *r = ctx;

	assert_ptr_equal(s, r->session);
	r->wants++;
	story(r, "want");
	give_next(r);
}

static void on_job_done(
        void *ctx, struct session *s, struct session_job *job, const struct session_facts *facts)
{
	struct rig *r = ctx;
	uint32_t i;

	(void)facts;
	assert_ptr_equal(s, r->session);
	assert_ptr_equal(s, job->session);
	assert_true(r->n_jobs < array_len(r->jobs));
	r->jobs[r->n_jobs++] = job;
	story(r, job->begun ? "done" : "back");
	for (i = 0; job->begun && i < job->n_recipients; i++) {
		str_add_char(&r->story, i == 0 ? ':' : ',');
		str_add(&r->story, outcome_class_name(job->outcomes[i].class));
		assert_int_not_equal(job->outcomes[i].class, OUTCOME_NONE);
		if (job->outcomes[i].lost) {
			assert_true(job->connection_lost);
			assert_int_equal(job->outcomes[i].class, OUTCOME_TRANSIENT);
		}
	}
	if (job->connection_lost)
		str_add(&r->story, "/lost");
}

static void on_closed(void *ctx, struct session *s, const struct outcome *why, uint32_t completed,
        const struct session_facts *facts)
{
	struct rig *r = ctx;

	assert_ptr_equal(s, r->session);
	r->session = NULL;
	r->closed++;
	r->why = *why;
	r->completed = completed;
	r->source = facts->source;
	r->peer = facts->peer;
	snprintf(r->ehlo, sizeof(r->ehlo), "%s", facts->ehlo);
	snprintf(r->tls_version, sizeof(r->tls_version), "%s", facts->tls_version ? facts->tls_version : "");
	snprintf(r->tls_verified, sizeof(r->tls_verified), "%s",
	        facts->tls_verified ? facts->tls_verified : "");
	r->tls_resumed = facts->tls_resumed;
	story(r, why->class == OUTCOME_OK ? "closed" : "failed");
}

static void options(struct conn_options *o)
{
	o->ehlo_hostname = "client.test";
	o->delivery_method = DELIVERY_ESMTP;
	o->connect_timeout_s = 30;
	o->ehlo_timeout_s = 31;
	o->mailfrom_timeout_s = 32;
	o->rcptto_timeout_s = 33;
	o->data_timeout_s = 34;
	o->send_timeout_s = 35;
	o->body_timeout_s = 600;
	o->rset_timeout_s = 36;
	o->quit_timeout_s = 5;
	o->idle_timeout_s = 7;
	o->transaction_timeout_s = 3600;
}

void rig_init(struct rig *r)
{
	struct addr source;

	memset(r, 0, sizeof(*r));
	fake_clock_init(&r->clock, 1700000000 * SECOND_US);
	r->loop = loop_new("test", &r->clock.clock);
	r->metrics = metrics_new();
	r->local = local_addrs_fake();
	assert_true(addr_parse(RIG_SOURCE, &source, NULL));
	local_addrs_fake_set(r->local, &source, true);
	r->net = session_net_new(r->loop, NULL, r->local, r->metrics, "host.test");
	atomic_init(&r->profile.refs, 1);
	options(&r->profile.o);
	r->mx = scripted_mx_new(r->loop, "127.0.0.2");
	r->owner = (struct session_owner){on_ready, on_want, on_job_done, on_closed};
	r->open = (struct session_open){.peer = *scripted_mx_addr(r->mx),
	        .mx = "mx.test",
	        .source = source,
	        .binding = "acme",
	        .profile = &r->profile,
	        .owner_loop = r->loop,
	        .owner = &r->owner,
	        .ctx = r};
	str_init(&r->story);
}

void rig_forget(struct rig *r)
{
	unsigned i;

	for (i = 0; i < r->n_jobs; i++)
		session_job_free(&r->jobs[i]);
	r->n_jobs = 0;
	str_clear(&r->story);
	scripted_mx_log_clear(r->mx);
}

void rig_end(struct rig *r)
{
	if (r->session) {
		session_quit(r->session);
		rig_run(r);
		if (r->session)
			rig_advance(r, 6);
	}
	assert_null(r->session);
	if (scripted_mx_offence(r->mx))
		fail_msg("the client: %s", scripted_mx_offence(r->mx));
	rig_forget(r);
	while (r->next_given < r->n_next)
		session_job_free(&r->next[r->next_given++]);
	assert_int_equal(fake_body_cursors(), 0);
	assert_int_equal(atomic_load(&r->profile.refs), 1);
	scripted_mx_free(&r->mx);
	session_net_free(&r->net);
	local_addrs_free(&r->local);
	metrics_free(&r->metrics);
	loop_free(&r->loop);
	str_free(&r->story);
}

struct session_job *rig_job_body(
        const char *sender, const char *recipients, struct body *body, uint32_t flags)
{
	struct session_job *job = mem_zalloc(sizeof(*job));
	const char **list = mem_zalloc(256 * sizeof(char *) + strlen(sender) + strlen(recipients) + 2);
	char *text = (char *)(list + 256);
	char *word, *rest;

	job->message_id = 1;
	job->sender = strcpy(text, sender);
	text += strlen(sender) + 1;
	strcpy(text, recipients);
	for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		assert_true(job->n_recipients < 256);
		list[job->n_recipients++] = word;
	}
	job->recipients = list;
	job->mem = list;
	job->body = body;
	job->body_size = body ? body_size(body) : 0;
	job->flags = flags;
	return job;
}

struct session_job *rig_job(const char *sender, const char *recipients, const char *body)
{
	bool dots = *body == '.' || strstr(body, "\n.");

	return rig_job_body(
	        sender, recipients, fake_body_new(body, strlen(body)), dots ? MESSAGE_DOT_LINES : 0);
}

void rig_open(struct rig *r, struct session_job *first)
{
	assert_null(r->session);
	r->open.first = first;
	r->session = session_open(r->net, &r->open);
}

void rig_give(struct rig *r, struct session_job *job)
{
	assert_true(r->n_next < array_len(r->next));
	r->next[r->n_next++] = job;
}

/* Loopback delivers at once, as a rule; a few turns with the processor given away cover the exception. */
void rig_run(struct rig *r)
{
	unsigned quiet = 0, turns = 0;

	while (quiet < 8) {
		assert_true(++turns < 1000000);
		if (loop_step(r->loop)) {
			quiet = 0;
		} else {
			quiet++;
			sched_yield();
		}
	}
}

/* From timer to timer: nothing happens between them. */
void rig_advance(struct rig *r, unsigned seconds)
{
	uint64_t end = r->clock.mono + seconds * SECOND_US;
	uint64_t next;

	while (r->clock.mono < end) {
		next = loop_next_timer_us(r->loop);
		if (next < r->clock.mono + 1000)
			next = r->clock.mono + 1000;
		if (next > end)
			next = end;
		fake_clock_advance(&r->clock, next - r->clock.mono);
		rig_run(r);
	}
}
