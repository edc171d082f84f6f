/* The rig itself: time, events, messages. */
#include "t/lib/queue_rig.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define WALL_START_US (1800000000 * SECOND_US)

static void copy(char *to, size_t size, const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));
	snprintf(to, size, "%s", text ? text : "");
}

static void take_event(void *ctx, const char *line)
{
	struct rig *rig = ctx;
	if (!rig->keep_log)
		return;
	if (rig->n_log == rig->size_log) {
		rig->size_log = rig->size_log ? rig->size_log * 2 : 64;
		rig->log = mem_array(rig->log, rig->size_log, sizeof(*rig->log));
	}
	struct rig_event *e = &rig->log[rig->n_log++];
	json_t *o = json_loads(line, 0, NULL);
	assert(o);
	memset(e, 0, sizeof(*e));
	e->line = mem_strdup(line);
	copy(e->type, sizeof(e->type), o, "event");
	copy(e->binding, sizeof(e->binding), o, "binding");
	copy(e->recipient, sizeof(e->recipient), o, "recipient");
	copy(e->state, sizeof(e->state), o, "state");
	copy(e->enhanced, sizeof(e->enhanced), o, "enhanced");
	copy(e->source, sizeof(e->source), o, "source");
	copy(e->mx, sizeof(e->mx), o, "mx");
	copy(e->reason, sizeof(e->reason), o, "reason");
	copy(e->reply, sizeof(e->reply), o, "reply");
	const char *id = json_string_value(json_object_get(o, "id"));
	if (id)
		id_parse(id, &e->id);
	e->code = (int)json_integer_value(json_object_get(o, "code"));
	e->attempt = (int)json_integer_value(json_object_get(o, "attempt"));
	json_decref(o);
}

struct policy *rig_policy(const char *text)
{
	struct errors errors = {0};
	char *json = mem_strdup(text);
	for (char *p = json; *p; p++) {
		if (*p == '\'')
			*p = '"';
	}
	struct conf *conf = conf_load_text("{\"hostname\":\"mta.example.net\"}", json, &errors);
	struct policy *policy = conf ? policy_new(conf, &errors) : NULL;
	for (size_t i = 0; i < errors.n; i++) {
		if (!policy || errors.items[i].level == ERROR_ERROR)
			fprintf(stderr, "%s\n", errors.items[i].text);
	}
	assert(policy);
	errors_free(&errors);
	free(json);
	return policy;
}

void rig_local(struct rig *rig, const char *ip, bool present)
{
	struct addr addr;
	bool ok = addr_parse(ip, &addr, NULL);
	assert(ok);
	(void)ok;
	local_addrs_fake_set(rig->local, &addr, present);
}

static void queue_make(struct rig *rig)
{
	struct queue_config c = {
	        .loop = rig->loop,
	        .rnd = &rig->rnd.rnd,
	        .spool = rig->spool,
	        .router = rig->router,
	        .local = rig->local,
	        .events = rig->events,
	        .metrics = rig->metrics,
	        .nets = &rig->net,
	        .n_nets = 1,
	        .handoff = &rig->handoff,
	        .policy = rig->policy,
	};
	rig->queue = queue_new(&c);
}

/* A process's loop and its view of the machine: they end with it. */
static void loop_make(struct rig *rig)
{
	char ip[32];
	rig->loop = loop_new("queue", &rig->clock.clock);
	rig->local = local_addrs_fake();
	for (int i = 1; i < 100; i++) {
		snprintf(ip, sizeof(ip), "192.0.2.%d", i);
		rig_local(rig, ip, true);
		snprintf(ip, sizeof(ip), "2001:db8::%d", i);
		if (i < 10)
			rig_local(rig, ip, true);
	}
}

struct rig *rig_new(const char *policy_json)
{
	struct rig *rig = mem_zalloc(sizeof(*rig));
	fake_clock_init(&rig->clock, WALL_START_US);
	rig->clock.mono = 1000 * SECOND_US;
	fake_rnd_init(&rig->rnd, 42);
	loop_make(rig);
	rig->metrics = metrics_new();
	rig->events = event_log_open("/dev/null", &rig->clock.clock, rig->metrics, false, NULL);
	event_log_tap(rig->events, take_event, rig);
	rig->keep_log = true;
	rig->net = rig_net_new(rig);
	rig->spool = rig_spool_new(rig);
	rig->router = rig_router_new(rig);
	rig->policy = rig_policy(policy_json);
	queue_make(rig);
	return rig;
}

void rig_start(struct rig *rig)
{
	rig_spool_restore(rig, rig->queue);
	queue_start(rig->queue);
}

void rig_reload(struct rig *rig, const char *policy_json)
{
	policy_unref(&rig->policy);
	rig->policy = rig_policy(policy_json);
	queue_reconfigure(rig->queue, policy_ref(rig->policy));
}

static void stopped(void *ctx)
{
	*(bool *)ctx = true;
}

static void stop(struct rig *rig)
{
	bool done = false;
	uint64_t limit = rig->clock.mono + 7200 * SECOND_US;
	queue_stop(rig->queue, limit, limit, stopped, &done);
	rig_hold_commits(rig, false);
	while (!done && rig->clock.mono < limit)
		rig_run(rig, SECOND_US);
	assert(done);
	rig_run(rig, SECOND_US);
	queue_free(&rig->queue);
}

void rig_restart(struct rig *rig)
{
	stop(rig);
	rig_spool_close(rig);
	local_addrs_free(&rig->local);
	loop_free(&rig->loop);
	loop_make(rig);
	if (!rig->spool)
		rig->spool = rig_spool_new(rig);
	queue_make(rig);
	rig_start(rig);
}

void rig_free(struct rig **prig)
{
	struct rig *rig = *prig;
	stop(rig);
	rig_spool_close(rig);
	rig_spool_free(rig);
	rig_router_free(rig);
	free(rig->net);
	for (unsigned i = 0; i < rig->n_mx; i++)
		free(rig->mx[i]);
	for (unsigned i = 0; i < rig->n_log; i++)
		free(rig->log[i].line);
	free(rig->log);
	policy_unref(&rig->policy);
	local_addrs_free(&rig->local);
	event_log_close(&rig->events);
	metrics_free(&rig->metrics);
	loop_free(&rig->loop);
	mem_free(prig);
}

/* --- messages ------------------------------------------------------------------------------------------------------- */

uint64_t rig_send_flags(struct rig *rig, const char *target, const char *sender, const char *recipients,
        uint32_t flags, enum priority priority)
{
	struct message *m = message_new();
	struct delivery_spec *spec = pool_alloc(m->pool, sizeof(*spec));
	char *words = pool_strdup(m->pool, recipients), *save, *word;
	spec->recipients = pool_alloc(m->pool, (strlen(recipients) / 2 + 1) * sizeof(*spec->recipients));
	for (word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
		spec->recipients[spec->n_recipients++].address = word;
	const char *at = strrchr(spec->recipients[0].address, '@');
	spec->domain = at + 1;
	spec->target = pool_strdup(m->pool, target);
	spec->rule = "a-rule";
	spec->priority = priority;
	m->id = spool_new_id(rig->spool);
	m->received_wall_us = rig->clock.wall;
	m->flags = flags;
	m->sender = pool_strdup(m->pool, sender);
	m->deliveries = spec;
	m->n_deliveries = 1;
	m->body_size = 5000;
	m->header_size = 40;
	uint64_t id = m->id;
	rig_spool_send(rig, m);
	return id;
}

uint64_t rig_send(struct rig *rig, const char *target, const char *sender, const char *recipients)
{
	return rig_send_flags(rig, target, sender, recipients, 0, PRIORITY_NONE);
}

void rig_send_many(struct rig *rig, const char *target, const char *domain, unsigned n)
{
	char to[100];
	snprintf(to, sizeof(to), "x@%s", domain);
	for (unsigned i = 0; i < n; i++)
		rig_send(rig, target, "a@acme.example", to);
}

/* --- time --------------------------------------------------------------------------------------------------------------- */

void rig_settle(struct rig *rig)
{
	while (loop_step(rig->loop))
		;
}

void rig_run(struct rig *rig, uint64_t us)
{
	uint64_t end = rig->clock.mono + us;
	for (;;) {
		rig_settle(rig);
		uint64_t next = loop_next_timer_us(rig->loop);
		if (next > end)
			break;
		if (next > rig->clock.mono)
			fake_clock_advance(&rig->clock, next - rig->clock.mono);
	}
	fake_clock_advance(&rig->clock, end - rig->clock.mono);
}

bool rig_run_out(struct rig *rig, uint64_t us)
{
	uint64_t end = rig->clock.mono + us;
	while (rig_open(rig) > 0 && rig->clock.mono < end)
		rig_run(rig, SECOND_US);
	return rig_open(rig) == 0;
}

/* --- events ----------------------------------------------------------------------------------------------------------------- */

unsigned rig_count(const struct rig *rig, const char *type)
{
	unsigned n = 0;
	for (unsigned i = 0; i < rig->n_log; i++)
		n += strcmp(rig->log[i].type, type) == 0;
	return n;
}

unsigned rig_count_for(const struct rig *rig, const char *type, uint64_t id)
{
	unsigned n = 0;
	for (unsigned i = 0; i < rig->n_log; i++)
		n += rig->log[i].id == id && strcmp(rig->log[i].type, type) == 0;
	return n;
}

const struct rig_event *rig_event(const struct rig *rig, const char *type, unsigned nth)
{
	for (unsigned i = 0; i < rig->n_log; i++) {
		if (strcmp(rig->log[i].type, type) == 0 && nth-- == 0)
			return &rig->log[i];
	}
	return NULL;
}

static void answered(struct mail *mail)
{
	*(bool *)container_of(mail, struct queue_ask, reply)->ctx = true;
}

char *rig_ask(struct rig *rig, enum queue_question question, const char *binding, uint64_t id,
        uint64_t cursor, unsigned limit)
{
	bool done = false;
	struct queue_ask ask = {
	        .queue = rig->queue, .question = question, .id = id, .cursor = cursor, .limit = limit};
	snprintf(ask.binding, sizeof(ask.binding), "%s", binding);
	ask.reply_loop = rig->loop;
	ask.reply.take = answered;
	ask.ctx = &done;
	queue_ask(&ask);
	while (!done)
		rig_settle(rig);
	if (!ask.found) {
		str_free(&ask.json);
		return NULL;
	}
	return str_steal(&ask.json);
}
