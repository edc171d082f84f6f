#include "config.h"
#include "t/lib/spool_model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum effect_kind { EFFECT_STATE, EFFECT_MOVE, EFFECT_DONE, EFFECT_SETTING };
struct effect {
	enum effect_kind kind;
	struct model_message *message;
	uint32_t delivery, value;
};

struct model_post {
	struct mail committed;
	struct model *model;
	struct model_post *next;
	struct effect effects[16];
	unsigned n;
	bool with_add;
};

uint64_t model_random(struct model *m, uint64_t below)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (m->random >> 11) % below;
}

static bool fault(struct model *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool fault(struct model *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (m->fault[0] == '\0')
		(void)vsnprintf(m->fault, sizeof(m->fault), fmt, ap);
	va_end(ap);
	return false;
}

void model_init(struct model *m, struct rig *rig, uint64_t seed)
{
	*m = (struct model){
	        .rig = rig,
	        .random = seed * 0x9e3779b97f4a7c15u + 99,
	        .body_max = 3000,
	        .done_share = 4,
	        .max_live = 60,
	};
}

/* ---- results ---- */

static void effect_kept(struct model *m, const struct effect *e)
{
	struct model_delivery *d;

	if (e->kind == EFFECT_SETTING) {
		if (e->value > m->setting_kept[e->delivery])
			m->setting_kept[e->delivery] = e->value;
		return;
	}
	d = &e->message->d[e->delivery];
	if (e->kind == EFFECT_DONE)
		d->done_kept = true;
	else if (e->kind == EFFECT_STATE && e->value > d->state_kept)
		d->state_kept = e->value;
	else if (e->kind == EFFECT_MOVE && e->value > d->move_kept)
		d->move_kept = e->value;
}

static void post_remove(struct model_post *p)
{
	struct model_post **at = &p->model->posts;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	mem_free(&p);
}

static void post_kept(struct model_post *p)
{
	for (unsigned i = 0; i < p->n; i++)
		effect_kept(p->model, &p->effects[i]);
	post_remove(p);
}

static void on_committed(struct mail *mail)
{
	post_kept(container_of(mail, struct model_post, committed));
}

static struct model_post *post_new(struct model *m)
{
	struct model_post *p = mem_zalloc(sizeof(*p));

	p->model = m;
	p->next = m->posts;
	p->committed.take = on_committed;
	m->posts = p;
	return p;
}

static void post_effect(struct model_post *p, struct effect e)
{
	p->effects[p->n++] = e;
}

static void record_state(
        struct model_post *p, struct spool_results *r, struct model_message *msg, uint32_t delivery)
{
	uint32_t value = ++msg->d[delivery].state, open[4], n = 0;
	char reply[64];

	for (uint32_t i = 0; i < msg->n_recipients && i < 4; i += 1 + value % 2)
		open[n++] = i;
	(void)snprintf(reply, sizeof(reply), "451 4.7.1 attempt %u", value);
	spool_results_state(r, msg->id, delivery,
	        &(struct spool_state){
	                .attempts = value,
	                .next_attempt_wall_us = value * 17,
	                .held = value % 3 == 0,
	                .last_reply = value % 5 == 0 ? NULL : reply,
	                .open = value % 4 == 0 ? NULL : open,
	                .n_open = value % 4 == 0 ? 0 : n,
	        });
	post_effect(p, (struct effect){EFFECT_STATE, msg, delivery, value});
}

static void record_move(
        struct model_post *p, struct spool_results *r, struct model_message *msg, uint32_t delivery)
{
	uint32_t value = ++msg->d[delivery].move;
	char binding[32];

	(void)snprintf(binding, sizeof(binding), "b%u", value);
	spool_results_move(r, msg->id, delivery, binding, value % 2 == 0 ? "moved.example" : NULL);
	post_effect(p, (struct effect){EFFECT_MOVE, msg, delivery, value});
}

static void record_done(
        struct model_post *p, struct spool_results *r, struct model_message *msg, uint32_t delivery)
{
	msg->d[delivery].done = true;
	spool_results_done(r, msg->id, delivery);
	post_effect(p, (struct effect){EFFECT_DONE, msg, delivery, 0});
}

static void record_setting(struct model *m, struct model_post *p, struct spool_results *r)
{
	uint32_t key = (uint32_t)model_random(m, MODEL_SETTINGS), value = ++m->setting[key];
	char name[32], text[64];

	(void)snprintf(name, sizeof(name), "key/%u", key);
	(void)snprintf(text, sizeof(text), "%u", value);
	spool_results_setting(r, name, value % 7 == 0 ? NULL : text);
	post_effect(p, (struct effect){EFFECT_SETTING, NULL, key, value});
}

static bool open_delivery(const struct model_message *msg, uint32_t delivery)
{
	return msg->fate == MODEL_STORED && !msg->d[delivery].done;
}

static struct model_message *pick(struct model *m, uint32_t *delivery)
{
	for (unsigned tries = 0; m->n > 0 && tries < 8; tries++) {
		struct model_message *msg = m->messages[model_random(m, m->n)];

		*delivery = (uint32_t)model_random(m, msg->n_deliveries);
		if (open_delivery(msg, *delivery))
			return msg;
	}
	return NULL;
}

static void add_result(struct model *m, struct model_post *p, struct spool_results *r)
{
	unsigned kind = (unsigned)model_random(m, 10);
	struct model_message *msg;
	uint32_t delivery;

	if (kind == 9) {
		record_setting(m, p, r);
		return;
	}
	msg = pick(m, &delivery);
	if (msg == NULL)
		return;
	if (kind < m->done_share || model_live(m) > m->max_live)
		record_done(p, r, msg, delivery);
	else if (kind < 8)
		record_state(p, r, msg, delivery);
	else
		record_move(p, r, msg, delivery);
}

static void step_results(struct model *m)
{
	struct model_post *p = post_new(m);
	struct spool_results *r = spool_results_new();

	for (uint64_t n = 1 + model_random(m, 5); n > 0; n--)
		add_result(m, p, r);
	spool_results_on_commit(r, m->rig->loop, &p->committed);
	spool_results_post(m->rig->spool, &r);
}

/* All that is open ends at once: many segments die together. */
static void step_finish(struct model *m)
{
	struct spool_results *r = NULL;
	struct model_post *p = NULL;

	for (size_t i = 0; i < m->n; i++) {
		for (uint32_t k = 0; k < m->messages[i]->n_deliveries; k++) {
			if (!open_delivery(m->messages[i], k) || model_random(m, 20) == 0)
				continue;
			if (p == NULL) {
				p = post_new(m);
				r = spool_results_new();
			}
			record_done(p, r, m->messages[i], k);
			if (p->n < array_len(p->effects))
				continue;
			spool_results_on_commit(r, m->rig->loop, &p->committed);
			spool_results_post(m->rig->spool, &r);
			p = NULL;
		}
	}
	if (p != NULL) {
		spool_results_on_commit(r, m->rig->loop, &p->committed);
		spool_results_post(m->rig->spool, &r);
	}
}

/* ---- messages ---- */

static void step_add(struct model *m, bool with_results)
{
	struct model_message *msg = mem_zalloc(sizeof(*msg)), *reported;
	struct rig_message spec = {.n_deliveries = 1, .n_recipients = 1};
	struct spool_results *r = NULL;
	uint32_t delivery;

	if (model_random(m, 4) == 0)
		spec.n_deliveries = 1 + (uint32_t)model_random(m, MODEL_DELIVERIES);
	if (model_random(m, 4) == 0)
		spec.n_recipients = 1 + (uint32_t)model_random(m, 5);
	if (model_random(m, 30) == 0)
		spec.n_recipients = 100 + (uint32_t)model_random(m, 900); /* several records */
	spec.body = model_random(m, m->body_max);
	if (model_random(m, 20) == 0)
		spec.body = m->body_max * (1 + model_random(m, 20)); /* a file of its own */
	if (with_results) {
		msg->with = post_new(m);
		msg->with->with_add = true;
		r = spool_results_new();
		reported = pick(m, &delivery);
		if (reported != NULL)
			record_done(msg->with, r, reported, delivery);
	}
	msg->n_deliveries = spec.n_deliveries;
	msg->n_recipients = spec.n_recipients;
	msg->body = spec.body;
	m->messages = mem_array(m->messages, m->n + 1, sizeof(struct model_message *));
	m->messages[m->n++] = msg;
	msg->add = rig_add_start(m->rig, &spec, r);
	msg->id = msg->add->id;
}

/* A message refused never came to be, nor did what was to end with it. */
static void not_stored(struct model_message *msg)
{
	if (msg->with == NULL)
		return;
	for (unsigned i = 0; i < msg->with->n; i++)
		if (msg->add->result == SPOOL_NO_SPACE)
			msg->with->effects[i].message->d[msg->with->effects[i].delivery].done = false;
	post_remove(msg->with);
	msg->with = NULL;
}

void model_settle(struct model *m)
{
	for (size_t i = 0; i < m->n; i++) {
		struct model_message *msg = m->messages[i];

		if (msg->add == NULL || !msg->add->answered)
			continue;
		if (msg->add->result == SPOOL_STORED) {
			msg->fate = MODEL_STORED;
			if (!msg->add->queued)
				(void)fault(m, "%llx: answered, but not queued", (unsigned long long)msg->id);
			if (msg->with != NULL)
				post_kept(msg->with);
			msg->with = NULL;
		} else {
			msg->fate = msg->add->result == SPOOL_NO_SPACE ? MODEL_REFUSED : MODEL_UNKNOWN;
			not_stored(msg);
		}
		rig_add_free(&msg->add);
	}
}

void model_unanswered(struct model *m)
{
	model_settle(m);
	for (size_t i = 0; i < m->n; i++) {
		struct model_message *msg = m->messages[i];

		if (msg->add == NULL)
			continue;
		msg->fate = MODEL_UNKNOWN;
		msg->with = NULL;
		spool_results_free(&msg->add->results);
		message_unref(&msg->add->message);
		rig_add_free(&msg->add);
	}
	while (m->posts != NULL)
		post_remove(m->posts);
}

size_t model_live(const struct model *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++) {
		bool open = false;

		for (uint32_t k = 0; k < m->messages[i]->n_deliveries; k++)
			open = open || open_delivery(m->messages[i], k);
		n += open;
	}
	return n;
}

static void step_read(struct model *m)
{
	uint32_t delivery;
	struct model_message *msg = pick(m, &delivery);

	if (msg != NULL && !m->rig->fatal && !rig_body_ok(m->rig, msg->id, msg->body) && !m->rig->fatal)
		m->unreadable++;
}

void model_step(struct model *m)
{
	uint64_t what = model_random(m, 20);

	if (m->finishes && model_random(m, 60) == 0)
		step_finish(m);

	if (what < 6)
		step_add(m, false);
	else if (what < 7)
		step_add(m, true);
	else if (what < 13)
		step_results(m);
	else if (what < 14)
		step_read(m);
	else if (what < 16)
		(void)loop_step(m->rig->loop);
	else if (what < 18)
		rig_advance(m->rig, 5000);
	else if (what < 19)
		rig_advance(m->rig, SECOND_US);
	else
		rig_run(m->rig);
	model_settle(m);
}

/* ---- comparing ---- */

static const struct rig_delivery *find_delivery(const struct rig_live *l, uint32_t index)
{
	for (uint32_t i = 0; l != NULL && i < l->n_deliveries; i++)
		if (l->deliveries[i].index == index)
			return &l->deliveries[i];
	return NULL;
}

static bool check_delivery(
        struct model *m, struct model_message *msg, uint32_t i, const struct rig_delivery *l)
{
	struct model_delivery *d = &msg->d[i];
	unsigned long long id = msg->id;
	uint32_t move;

	if (l == NULL) {
		if (!d->done && msg->fate == MODEL_STORED)
			return fault(m, "%llx.%u: lost", id, i);
		d->done = d->done_kept = true;
		return true;
	}
	if (d->done_kept)
		return fault(m, "%llx.%u: done, and back again", id, i);
	if (l->attempts < d->state_kept || l->attempts > d->state)
		return fault(
		        m, "%llx.%u: state %u, not %u to %u", id, i, l->attempts, d->state_kept, d->state);
	move = l->binding == NULL ? 0 : (uint32_t)strtoul(l->binding + 1, NULL, 10);
	if (move < d->move_kept || move > d->move)
		return fault(m, "%llx.%u: move %u, not %u to %u", id, i, move, d->move_kept, d->move);
	if (l->attempts > 0 && (l->next != l->attempts * 17u || l->held != (l->attempts % 3 == 0) ||
	                               (l->reply == NULL) != (l->attempts % 5 == 0) ||
	                               (l->open == NULL) != (l->attempts % 4 == 0)))
		return fault(m, "%llx.%u: a state of several", id, i);
	if (move > 0 && (l->domain == NULL) != (move % 2 != 0))
		return fault(m, "%llx.%u: a move of several", id, i);
	d->state = d->state_kept = l->attempts;
	d->move = d->move_kept = move;
	d->done = d->done_kept = false;
	return true;
}

static bool check_message(struct model *m, struct model_message *msg, bool bodies)
{
	const struct rig_live *l = rig_find(m->rig, msg->id);
	unsigned long long id = msg->id;

	if (l != NULL && msg->fate == MODEL_REFUSED)
		return fault(m, "%llx: refused for space, and there", id);
	if (l != NULL) {
		if (l->n_all != msg->n_deliveries || l->body_size != msg->body ||
		        l->n_recipients[0] != msg->n_recipients)
			return fault(m, "%llx: another envelope", id);
		if (bodies && !rig_body_ok(m->rig, msg->id, msg->body))
			return fault(m, "%llx: body of %zu not intact", id, msg->body);
		if (msg->fate == MODEL_UNKNOWN)
			msg->fate = MODEL_STORED; /* from now on */
	} else if (msg->fate == MODEL_UNKNOWN) {
		msg->fate = MODEL_REFUSED;
	}
	for (uint32_t i = 0; i < msg->n_deliveries && msg->fate == MODEL_STORED; i++)
		if (!check_delivery(m, msg, i, find_delivery(l, i)))
			return false;
	return true;
}

static bool known(const struct model *m, uint64_t id)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->messages[i]->id == id)
			return true;
	return false;
}

static bool check_settings(struct model *m)
{
	for (uint32_t i = 0; i < MODEL_SETTINGS; i++) {
		char name[32];
		const char *text;
		uint32_t value;

		(void)snprintf(name, sizeof(name), "key/%u", i);
		text = rig_setting(m->rig, name);
		if (text != NULL) {
			value = (uint32_t)strtoul(text, NULL, 10);
			if (value < m->setting_kept[i] || value > m->setting[i])
				return fault(m, "%s: %u, not %u to %u", name, value, m->setting_kept[i],
				        m->setting[i]);
			m->setting[i] = m->setting_kept[i] = value;
			continue;
		}
		/* not there: the newest confirmed, or one posted later, took it away */
		for (value = m->setting_kept[i]; value <= m->setting[i] && value % 7 != 0; value++)
			;
		if (value > m->setting[i])
			return fault(m, "%s: lost (%u to %u)", name, m->setting_kept[i], m->setting[i]);
		m->setting[i] = m->setting_kept[i] = value;
	}
	return true;
}

bool model_check(struct model *m, bool bodies)
{
	for (size_t i = 0; i < m->n; i++)
		if (!check_message(m, m->messages[i], bodies))
			return false;
	for (size_t i = 0; i < m->rig->n_live; i++) {
		uint64_t id = m->rig->live[i].id;

		if (!known(m, id))
			return fault(m, "%llx: nobody asked for it", (unsigned long long)id);
		if (i > 0 && m->rig->live[i - 1].id >= id)
			return fault(m, "%llx: not in order", (unsigned long long)id);
	}
	return check_settings(m);
}

void model_free(struct model *m)
{
	model_unanswered(m);
	for (size_t i = 0; i < m->n; i++)
		mem_free(&m->messages[i]);
	mem_free(&m->messages);
	m->n = 0;
}
