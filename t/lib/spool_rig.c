#include "config.h"
#include "t/lib/spool_rig.h"

#include "spool/offline.h"

#include <stdio.h>
#include <string.h>

void rig_init(struct rig *rig, const char *path, struct disk_io *io, uint64_t segment_size)
{
	*rig = (struct rig){0};
	fake_clock_init(&rig->clock, 1700000000 * SECOND_US);
	fake_rnd_init(&rig->rnd, 1);
	rig->loop = loop_new("spool", &rig->clock.clock);
	rig->workers = workers_new("disk", 0);
	rig->metrics = metrics_new();
	rig->cfg = (struct spool_config){
	        .path = path,
	        .segment_size = segment_size,
	        .memory = 1 << 20,
	        .io = io,
	        .clock = &rig->clock.clock,
	        .rnd = &rig->rnd.rnd,
	        .disk = rig->workers,
	        .metrics = rig->metrics,
	        .lock_wait_s = 1,
	        .ctx = rig,
	};
}

static char *dup_or_null(const char *text)
{
	return text != NULL ? mem_strdup(text) : NULL;
}

static void forget(struct rig *rig)
{
	for (size_t i = 0; i < rig->n_live; i++) {
		struct rig_live *l = &rig->live[i];

		for (uint32_t k = 0; k < l->n_deliveries; k++) {
			mem_free(&l->deliveries[k].binding);
			mem_free(&l->deliveries[k].domain);
			mem_free(&l->deliveries[k].reply);
			mem_free(&l->deliveries[k].open);
		}
		mem_free(&l->deliveries);
		mem_free(&l->n_recipients);
		mem_free(&l->sender);
	}
	mem_free(&rig->live);
	rig->n_live = 0;
	for (size_t i = 0; i < rig->n_settings; i++) {
		mem_free(&rig->settings[i].key);
		mem_free(&rig->settings[i].value);
	}
	mem_free(&rig->settings);
	rig->n_settings = 0;
}

static void on_live(void *ctx, const struct spool_live *live)
{
	struct rig *rig = ctx;
	const struct message *m = live->message;
	struct rig_live *l;

	rig->live = mem_array(rig->live, rig->n_live + 1, sizeof(*rig->live));
	l = &rig->live[rig->n_live++];
	*l = (struct rig_live){.id = m->id, .body_size = m->body_size, .sender = mem_strdup(m->sender)};
	l->n_all = m->n_deliveries;
	l->n_recipients = mem_array(NULL, m->n_deliveries, sizeof(*l->n_recipients));
	for (uint32_t i = 0; i < m->n_deliveries; i++)
		l->n_recipients[i] = m->deliveries[i].n_recipients;
	l->n_deliveries = live->n_deliveries;
	l->deliveries = mem_zalloc(live->n_deliveries * sizeof(*l->deliveries));
	for (uint32_t i = 0; i < live->n_deliveries; i++) {
		const struct spool_live_delivery *from = &live->deliveries[i];
		struct rig_delivery *to = &l->deliveries[i];

		*to = (struct rig_delivery){
		        .index = from->index,
		        .attempts = from->attempts,
		        .next = from->next_attempt_wall_us,
		        .held = from->held,
		        .binding = dup_or_null(from->binding),
		        .domain = dup_or_null(from->domain),
		        .reply = dup_or_null(from->last_reply),
		        .n_open = from->n_open,
		};
		if (from->open != NULL) {
			to->open = mem_array(NULL, from->n_open, sizeof(*to->open));
			if (from->n_open > 0)
				memcpy(to->open, from->open, from->n_open * sizeof(*to->open));
		}
	}
}

static void on_setting(void *ctx, const char *key, const char *value)
{
	struct rig *rig = ctx;

	rig->settings = mem_array(rig->settings, rig->n_settings + 1, sizeof(*rig->settings));
	rig->settings[rig->n_settings++] = (struct rig_setting){mem_strdup(key), mem_strdup(value)};
}

static void on_fatal(void *ctx, const struct error *err)
{
	struct rig *rig = ctx;

	rig->fatal = true;
	rig->error = *err;
}

struct looking {
	struct offline *spool;
	uint64_t messages, bodies_lost;
};

static bool any_bytes(void *ctx, const void *bytes, size_t n)
{
	(void)ctx;
	(void)bytes;
	(void)n;
	return true;
}

static void look_at(void *ctx, const struct spool_live *live)
{
	struct looking *l = ctx;
	struct error err;

	l->messages++;
	if (!offline_body(l->spool, live->message->id, any_bytes, NULL, &err))
		l->bodies_lost++;
}

static void no_setting(void *ctx, const char *key, const char *value)
{
	(void)ctx;
	(void)key;
	(void)value;
}

uint64_t rig_look_through(struct rig *rig, uint64_t *damaged)
{
	struct looking l = {.spool = offline_open(rig->cfg.path, rig->cfg.io, &rig->error)};
	struct offline_found found;
	uint64_t n = UINT64_MAX;

	*damaged = 0;
	if (l.spool != NULL && offline_walk(l.spool, look_at, no_setting, &l, &rig->error)) {
		offline_found(l.spool, &found);
		*damaged = found.damaged + found.unreadable + l.bodies_lost;
		n = l.messages;
	}
	offline_close(&l.spool);
	return n;
}

bool rig_open(struct rig *rig)
{
	forget(rig);
	rig->fatal = false;
	fake_clock_advance(&rig->clock, SECOND_US); /* ids given but not stored may come again otherwise */
	rig->cfg.on_fatal = on_fatal;
	rig->spool = spool_open(&rig->cfg, &rig->error);
	if (rig->spool == NULL)
		return false;
	if (!spool_replay(rig->spool, on_live, on_setting, rig, &rig->error)) {
		spool_close(&rig->spool);
		return false;
	}
	spool_start(rig->spool, rig->loop);
	rig_run(rig);
	if (rig->view_path != NULL) {
		rig->view = view_new(rig->spool, rig->view_path);
		(void)view_round(rig->view);
	}
	return true;
}

void rig_run(struct rig *rig)
{
	while (loop_step(rig->loop))
		;
}

void rig_advance(struct rig *rig, uint64_t us)
{
	fake_clock_advance(&rig->clock, us);
	rig_run(rig);
	if (rig->view != NULL && ++rig->view_turns % 7 == 0)
		(void)view_round(rig->view);
}

void rig_close(struct rig *rig)
{
	if (rig->spool == NULL)
		return;
	rig_run(rig);
	view_stop(&rig->view);
	spool_close(&rig->spool);
	loop_free(&rig->loop); /* its hooks go with it */
	rig->loop = loop_new("spool", &rig->clock.clock);
}

void rig_free(struct rig *rig)
{
	rig_close(rig);
	forget(rig);
	loop_free(&rig->loop);
	workers_free(&rig->workers);
	metrics_free(&rig->metrics);
}

const struct rig_live *rig_find(const struct rig *rig, uint64_t id)
{
	const struct rig_live *found = NULL;

	for (size_t i = 0; i < rig->n_live; i++) {
		if (rig->live[i].id != id)
			continue;
		if (found != NULL)
			return NULL; /* twice */
		found = &rig->live[i];
	}
	return found;
}

const char *rig_setting(const struct rig *rig, const char *key)
{
	for (size_t i = 0; i < rig->n_settings; i++)
		if (strcmp(rig->settings[i].key, key) == 0)
			return rig->settings[i].value;
	return NULL;
}

/* ---- storing ---- */

void rig_body(uint64_t id, size_t n, uint8_t *out)
{
	uint64_t x = id * 0x9e3779b97f4a7c15u + n;

	for (size_t i = 0; i < n; i++) {
		if (i % 8 == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		out[i] = (uint8_t)(x >> i % 8 * 8);
	}
}

static struct message *make_message(struct rig *rig, const struct rig_message *spec)
{
	struct message *m = message_new();
	char text[128];

	m->id = spool_new_id(rig->spool);
	m->received_wall_us = rig->clock.wall;
	(void)snprintf(text, sizeof(text), "sender-%llx@example.org", (unsigned long long)m->id);
	m->sender = pool_strdup(m->pool, text);
	m->client_name = "client.example";
	m->client_helo = NULL;
	m->envid = spec->has_envid ? "envid+2B1" : NULL;
	m->client_addr = (struct addr){.family = AF_INET, .ip = {192, 0, 2, 7}};
	m->n_deliveries = spec->n_deliveries;
	m->deliveries = pool_alloc(m->pool, m->n_deliveries * sizeof(*m->deliveries));
	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		struct delivery_spec *d = &m->deliveries[i];

		d->target = i % 2 == 0 ? "acme" : "group:shared";
		d->rule = i % 2 == 0 ? "newsletters" : NULL;
		d->has_sticky = i % 3 == 0;
		d->sticky = i;
		(void)snprintf(text, sizeof(text), "d%u.example", i);
		d->domain = pool_strdup(m->pool, text);
		d->n_recipients = spec->n_recipients;
		d->recipients = pool_alloc(m->pool, d->n_recipients * sizeof(*d->recipients));
		for (uint32_t k = 0; k < d->n_recipients; k++) {
			(void)snprintf(text, sizeof(text), "user%u@d%u.example", k, i);
			d->recipients[k].address = pool_strdup(m->pool, text);
		}
	}
	m->body_size = spec->body;
	return m;
}

static void on_queue(struct mail *mail)
{
	struct rig_add *a = container_of(mail, struct rig_add, add.queue_mail);

	a->queued = true;
	message_unref(&a->add.message);
}

static void on_reply(struct mail *mail)
{
	struct rig_add *a = container_of(mail, struct rig_add, add.reply);

	a->answered = true;
	a->result = a->add.result;
}

static void on_body(void *ctx, struct body *body, enum body_error error)
{
	struct rig_add *a = ctx;

	if (error != BODY_OK) {
		a->answered = true;
		a->result = error == BODY_NO_SPACE ? SPOOL_NO_SPACE : SPOOL_IO_ERROR;
		message_unref(&a->message);
		spool_results_free(&a->results);
		return;
	}
	a->message->body = body;
	a->add.message = a->message;
	a->message = NULL;
	a->add.results = a->results;
	a->results = NULL;
	spool_add(a->rig->spool, &a->add);
}

struct rig_add *rig_add_start(struct rig *rig, const struct rig_message *spec, struct spool_results *results)
{
	struct rig_add *a = mem_zalloc(sizeof(*a));
	struct body_writer *w;
	uint8_t *bytes;

	a->rig = rig;
	a->message = make_message(rig, spec);
	a->id = a->message->id;
	a->results = results;
	a->add.queue_loop = a->add.reply_loop = rig->loop;
	a->add.queue_mail.take = on_queue;
	a->add.reply.take = on_reply;
	w = body_writer_new(rig->spool, rig->loop, 0);
	if (w == NULL) {
		a->answered = a->refused_writer = true;
		a->result = SPOOL_NO_SPACE;
		message_unref(&a->message);
		spool_results_free(&a->results);
		return a;
	}
	bytes = mem_alloc(spec->body);
	rig_body(a->id, spec->body, bytes);
	for (size_t at = 0, part; at < spec->body; at += part) {
		part = spec->body - at < 1500 ? spec->body - at : 1500;
		body_writer_add(w, bytes + at, part);
	}
	mem_free(&bytes);
	body_writer_finish(w, on_body, a);
	return a;
}

void rig_add_free(struct rig_add **add)
{
	mem_free(add);
}

uint64_t rig_store(struct rig *rig, const struct rig_message *spec)
{
	struct rig_add *a = rig_add_start(rig, spec, NULL);
	uint64_t id;

	rig_run(rig);
	id = a->answered && a->queued && a->result == SPOOL_STORED ? a->id : 0;
	if (a->answered)
		rig_add_free(&a);
	return id;
}

/* ---- reading ---- */

static void on_wake(void *ctx)
{
	(void)ctx;
}

uint8_t *rig_read(struct rig *rig, uint64_t id, uint64_t from, size_t *n)
{
	struct body_cursor *c = body_cursor_new(rig->spool, rig->loop, id, NULL, from, on_wake, NULL);
	struct str out;
	struct iovec iov[2];
	unsigned n_iov;
	enum body_peek peek;
	uint8_t *bytes = NULL;

	str_init(&out);
	rig_run(rig);
	while ((peek = body_cursor_peek(c, iov, 2, &n_iov)) == BODY_READY) {
		str_add_mem(&out, iov[0].iov_base, iov[0].iov_len);
		body_cursor_advance(c, iov[0].iov_len);
		rig_run(rig);
	}
	if (peek == BODY_END) {
		*n = out.len;
		bytes = (uint8_t *)str_steal(&out);
	}
	str_free(&out);
	body_cursor_free(&c);
	rig_run(rig);
	return bytes;
}

bool rig_body_ok(struct rig *rig, uint64_t id, uint64_t size)
{
	size_t n = 0;
	uint8_t *got = rig_read(rig, id, 0, &n), *wanted = mem_alloc(size);
	bool ok;

	rig_body(id, size, wanted);
	ok = got != NULL && n == size && memcmp(got, wanted, size) == 0;
	mem_free(&got);
	mem_free(&wanted);
	return ok;
}

/* ---- results ---- */

void rig_commit(struct rig *rig, struct spool_results *results)
{
	spool_results_post(rig->spool, &results);
	rig_run(rig);
	rig_advance(rig, 5000);
	if (spool_uncommitted(rig->spool) > 0)
		rig_advance(rig, 200000); /* space is scarce: they wait for company */
}

void rig_done(struct rig *rig, uint64_t id, uint32_t delivery)
{
	struct spool_results *r = spool_results_new();

	spool_results_done(r, id, delivery);
	rig_commit(rig, r);
}

void rig_state(struct rig *rig, uint64_t id, uint32_t delivery, uint32_t attempts, const char *reply)
{
	struct spool_results *r = spool_results_new();

	spool_results_state(r, id, delivery,
	        &(struct spool_state){
	                .attempts = attempts,
	                .next_attempt_wall_us = rig->clock.wall + attempts * SECOND_US,
	                .last_reply = reply,
	        });
	rig_commit(rig, r);
}
