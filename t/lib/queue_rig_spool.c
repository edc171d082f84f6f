/* The spool of the queue's tests: what was stored, what became of it. */
#include "t/lib/queue_rig.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct body {
	unsigned refs;
	struct str bytes;
};

enum what { DONE, STATE, MOVE, SETTING };
struct result {
	enum what what;
	uint64_t id;
	uint32_t index;
	uint32_t attempts, n_open;
	uint64_t next_wall_us;
	bool held;
	char binding[80], domain[80], reply[256];
	char *key, *value; /* owns; SETTING */
};

struct setting {
	struct setting *next;
	char *key, *value; /* owns */
};

struct spool_results {
	struct spool_results *next;
	struct result *items;
	size_t n, size;
	struct loop *loop;
	struct mail *committed;
};

struct spool {
	struct rig *rig;
	uint64_t last_id;
	struct rig_delivery *
	        *at; /* hash by id, open addressing is not needed: tests are small or ids are dense */
	unsigned n, size;
	uint32_t *by_id; /* id - first id -> first delivery + 1 */
	uint64_t first_id;
	size_t size_by_id;
	bool hold, no_space;
	struct spool_results *held, **held_end;
	uint64_t uncommitted, since_us;
	char *dsn;
	uint32_t dsn_flags;
	const char *header; /* of each original; NULL = a plain one */
	struct timer commit;
	struct spool_load *loads;
	struct setting *settings;
};

static void commit_now(void *ctx);

struct spool *rig_spool_new(struct rig *rig)
{
	struct spool *s = mem_zalloc(sizeof(*s));
	s->rig = rig;
	s->last_id = s->first_id = 1000;
	s->held_end = &s->held;
	timer_init(&s->commit, commit_now, s);
	return s;
}

enum spool_health spool_health(const struct spool *s)
{
	return s->no_space ? SPOOL_LOW_SPACE : SPOOL_OK;
}

uint64_t spool_new_id(struct spool *s)
{
	return ++s->last_id;
}

/* --- results ------------------------------------------------------------------------------------------------- */

struct spool_results *spool_results_new(void)
{
	return mem_zalloc(sizeof(struct spool_results));
}

static struct result *add(struct spool_results *r, enum what what, uint64_t id, uint32_t index)
{
	if (r->n == r->size) {
		r->size = r->size ? r->size * 2 : 8;
		r->items = mem_array(r->items, r->size, sizeof(*r->items));
	}
	r->items[r->n] = (struct result){.what = what, .id = id, .index = index};
	return &r->items[r->n++];
}

void spool_results_done(struct spool_results *r, uint64_t id, uint32_t index)
{
	add(r, DONE, id, index);
}

void spool_results_state(
        struct spool_results *r, uint64_t id, uint32_t index, const struct spool_state *state)
{
	struct result *x = add(r, STATE, id, index);
	x->attempts = state->attempts;
	x->n_open = state->open ? state->n_open : UINT32_MAX;
	x->next_wall_us = state->next_attempt_wall_us;
	x->held = state->held;
	if (state->last_reply)
		snprintf(x->reply, sizeof(x->reply), "%s", state->last_reply);
}

void spool_results_move(
        struct spool_results *r, uint64_t id, uint32_t index, const char *binding, const char *domain)
{
	struct result *x = add(r, MOVE, id, index);
	snprintf(x->binding, sizeof(x->binding), "%s", binding);
	snprintf(x->domain, sizeof(x->domain), "%s", domain);
}

void spool_results_setting(struct spool_results *r, const char *key, const char *value)
{
	struct result *x = add(r, SETTING, 0, 0);
	x->key = mem_strdup(key);
	x->value = value ? mem_strdup(value) : NULL;
}

size_t spool_results_count(const struct spool_results *r)
{
	return r->n;
}

void spool_results_on_commit(struct spool_results *r, struct loop *loop, struct mail *committed)
{
	r->loop = loop;
	r->committed = committed;
}

struct rig_delivery *rig_delivery(struct rig *rig, uint64_t id, uint32_t index)
{
	struct spool *s = rig->spool;
	if (id <= s->first_id || id - s->first_id >= s->size_by_id)
		return NULL;
	uint32_t at = s->by_id[id - s->first_id];
	for (; at && at <= s->n && s->at[at - 1]->message->id == id; at++) {
		if (s->at[at - 1]->index == index)
			return s->at[at - 1];
	}
	return NULL;
}

static void setting_free(struct setting *s)
{
	free(s->key);
	free(s->value);
	free(s);
}

static void apply_setting(struct spool *s, const struct result *x)
{
	struct setting **at = &s->settings, *old;
	while (*at && strcmp((*at)->key, x->key) != 0)
		at = &(*at)->next;
	if ((old = *at)) {
		*at = old->next;
		setting_free(old);
	}
	if (!x->value)
		return;
	struct setting *new = mem_zalloc(sizeof(*new));
	new->key = mem_strdup(x->key);
	new->value = mem_strdup(x->value);
	new->next = s->settings;
	s->settings = new;
}

static void apply(struct spool *s, const struct result *x)
{
	struct rig_delivery *d = x->what == SETTING ? NULL : rig_delivery(s->rig, x->id, x->index);
	assert(d || x->what == SETTING);
	switch (x->what) {
	case DONE:
		d->done = true;
		d->times_done++;
		break;
	case STATE:
		assert(!d->done);
		d->states++;
		d->attempts = x->attempts;
		d->n_open = x->n_open;
		d->next_wall_us = x->next_wall_us;
		d->held = x->held;
		memcpy(d->last_reply, x->reply, sizeof(d->last_reply));
		break;
	case MOVE:
		d->moves++;
		memcpy(d->binding, x->binding, sizeof(d->binding));
		memcpy(d->domain, x->domain, sizeof(d->domain));
		break;
	case SETTING:
		apply_setting(s, x);
		break;
	}
}

static void results_free(struct spool_results *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->items[i].key);
		free(r->items[i].value);
	}
	free(r->items);
	free(r);
}

static void commit_now(void *ctx)
{
	struct spool *s = ctx;
	while (!s->hold && s->held) {
		struct spool_results *r = s->held;
		s->held = r->next;
		for (size_t i = 0; i < r->n; i++)
			apply(s, &r->items[i]);
		s->uncommitted -= r->n;
		if (r->committed)
			loop_post(r->loop, r->committed);
		results_free(r);
	}
	if (!s->held) {
		s->held_end = &s->held;
		s->since_us = 0;
	}
}

void spool_results_post(struct spool *s, struct spool_results **takes)
{
	struct spool_results *r = *takes;
	*takes = NULL;
	r->next = NULL;
	if (!s->held)
		s->since_us = loop_now_us(s->rig->loop);
	*s->held_end = r;
	s->held_end = &r->next;
	s->uncommitted += r->n;
	if (!timer_armed(&s->commit))
		timer_arm_in(s->rig->loop, &s->commit, 1000);
}

uint64_t spool_uncommitted(const struct spool *s)
{
	return s->uncommitted;
}

uint64_t spool_uncommitted_since_us(const struct spool *s)
{
	return s->since_us;
}

void rig_hold_commits(struct rig *rig, bool hold)
{
	rig->spool->hold = hold;
	if (!hold)
		timer_arm_in(rig->loop, &rig->spool->commit, 0);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static void store(struct rig *rig, struct message *m)
{
	struct spool *s = rig->spool;
	size_t place = m->id - s->first_id;
	if (place >= s->size_by_id) {
		size_t size = place * 2 + 64;
		s->by_id = mem_array(s->by_id, size, sizeof(*s->by_id));
		memset(s->by_id + s->size_by_id, 0, (size - s->size_by_id) * sizeof(*s->by_id));
		s->size_by_id = size;
	}
	s->by_id[place] = s->n + 1;
	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		if (s->n == s->size) {
			s->size = s->size ? s->size * 2 : 64;
			s->at = mem_array(s->at, s->size, sizeof(*s->at));
		}
		struct rig_delivery *d = mem_zalloc(sizeof(*d));
		d->message = message_ref(m);
		d->index = i;
		d->n_open = UINT32_MAX;
		s->at[s->n++] = d;
	}
	message_unref(&m);
}

void rig_spool_send(struct rig *rig, struct message *m)
{
	struct spool_add *add = mem_zalloc(sizeof(*add));
	add->message = message_ref(m);
	add->ctx = rig->queue;
	add->queue_mail.take = queue_enqueue_mail;
	atomic_init(&add->refs, 1);
	store(rig, m);
	loop_post(rig->loop, &add->queue_mail);
}

void rig_spool_close(struct rig *rig)
{
	timer_cancel(rig->loop, &rig->spool->commit);
}

unsigned rig_open(struct rig *rig)
{
	unsigned n = 0;
	for (unsigned i = 0; i < rig->spool->n; i++)
		n += !rig->spool->at[i]->done;
	return n;
}

void rig_no_space(struct rig *rig, bool no_space)
{
	rig->spool->no_space = no_space;
}

const char *rig_dsn(struct rig *rig)
{
	return rig->spool->dsn;
}

uint32_t rig_dsn_flags(struct rig *rig)
{
	return rig->spool->dsn_flags;
}

void rig_header(struct rig *rig, const char *header)
{
	rig->spool->header = header;
}

void spool_add(struct spool *s, struct spool_add *add)
{
	bool hold = s->hold;
	s->hold = false;
	commit_now(s); /* what came before is durable before */
	s->hold = hold;
	add->result = s->no_space ? SPOOL_NO_SPACE : SPOOL_STORED;
	if (add->result == SPOOL_STORED) {
		free(s->dsn);
		s->dsn = mem_strndup(add->message->body->bytes.data, add->message->body->bytes.len);
		s->dsn_flags = add->message->flags;
		store(s->rig, message_ref(add->message));
		for (size_t i = 0; i < add->results->n; i++)
			apply(s, &add->results->items[i]);
		loop_post(add->queue_loop, &add->queue_mail);
	} else {
		atomic_fetch_sub(&add->refs, 1);
		message_unref(&add->message);
	}
	results_free(add->results);
	loop_post(add->reply_loop, &add->reply);
}

void spool_load(struct spool *s, struct spool_load *load)
{
	struct rig_delivery *d = rig_delivery(s->rig, load->id, 0);
	load->message = d && !d->done ? message_ref(d->message) : NULL;
	loop_post(load->reply_loop, &load->reply);
}

bool spool_keep_in_memory(struct spool *s, uint64_t bytes)
{
	(void)s;
	return bytes < 100000;
}

void rig_spool_restore(struct rig *rig, struct queue *q)
{
	struct spool *s = rig->spool;
	for (unsigned i = 0; i < s->n; i++) {
		struct rig_delivery *d = s->at[i];
		if (d->done)
			continue;
		struct spool_live_delivery live = {
		        .index = d->index,
		        .binding = d->binding[0] ? d->binding : NULL,
		        .domain = d->domain[0] ? d->domain : NULL,
		        .held = d->held,
		        .attempts = d->attempts,
		        .next_attempt_wall_us = d->next_wall_us,
		        .last_reply = d->last_reply[0] ? d->last_reply : NULL,
		};
		struct spool_live of = {.message = d->message, .deliveries = &live, .n_deliveries = 1};
		queue_restore(q, &of);
	}
	for (struct setting *x = s->settings; x; x = x->next)
		queue_restore_setting(q, x->key, x->value);
}

void rig_spool_free(struct rig *rig)
{
	struct spool *s = rig->spool;
	s->hold = false;
	while (s->held) {
		struct spool_results *r = s->held;
		s->held = r->next;
		results_free(r);
	}
	timer_cancel(rig->loop, &s->commit);
	for (unsigned i = 0; i < s->n; i++) {
		message_unref(&s->at[i]->message);
		free(s->at[i]);
	}
	free(s->at);
	while (s->settings) {
		struct setting *x = s->settings;
		s->settings = x->next;
		setting_free(x);
	}
	free(s->by_id);
	free(s->dsn);
	mem_free(&rig->spool);
}

/* --- bodies ------------------------------------------------------------------------------------------------------------ */

struct body *body_ref(struct body *b)
{
	b->refs++;
	return b;
}

void body_unref(struct body **pb)
{
	struct body *b = *pb;
	*pb = NULL;
	if (!b || --b->refs > 0)
		return;
	str_free(&b->bytes);
	free(b);
}

uint64_t body_size(const struct body *b)
{
	return b->bytes.len;
}

struct body_writer {
	struct body *body;
	struct loop *loop;
	struct timer timer;
	void (*done)(void *ctx, struct body *, enum body_error);
	void *ctx;
};

static void writer_done(void *ctx)
{
	struct body_writer *w = ctx;
	struct body *b = w->body;
	void (*done)(void *, struct body *, enum body_error) = w->done;
	void *done_ctx = w->ctx;
	free(w);
	done(done_ctx, b, BODY_OK);
}

struct body_writer *body_writer_new(struct spool *s, struct loop *loop, uint64_t announced)
{
	(void)s;
	(void)announced;
	struct body_writer *w = mem_zalloc(sizeof(*w));
	w->body = mem_zalloc(sizeof(*w->body));
	w->body->refs = 1;
	str_init(&w->body->bytes);
	w->loop = loop;
	return w;
}

void body_writer_add(struct body_writer *w, const void *bytes, size_t n)
{
	str_add_mem(&w->body->bytes, bytes, n);
}

void body_writer_finish(
        struct body_writer *w, void (*done)(void *, struct body *, enum body_error), void *ctx)
{
	w->done = done;
	w->ctx = ctx;
	timer_init(&w->timer, writer_done, w);
	timer_arm_in(w->loop, &w->timer, 0);
}

struct body_cursor {
	const char *header;
	bool read;
};

struct body_cursor *body_cursor_new(struct spool *s, struct loop *loop, uint64_t id, struct body *body,
        uint64_t from, void (*wake)(void *), void *ctx)
{
	struct body_cursor *c = mem_zalloc(sizeof(*c));
	(void)loop;
	(void)id;
	(void)body;
	(void)from;
	(void)wake;
	(void)ctx;
	c->header = s->header ? s->header : "From: a@b\r\nSubject: original\r\n\r\n";
	return c;
}

enum body_peek body_cursor_peek(struct body_cursor *c, struct iovec *iov, unsigned max, unsigned *n)
{
	(void)max;
	if (c->read)
		return BODY_END;
	iov[0].iov_base = (char *)(uintptr_t)c->header;
	iov[0].iov_len = strlen(c->header);
	*n = 1;
	return BODY_READY;
}

void body_cursor_advance(struct body_cursor *c, size_t bytes)
{
	c->read = bytes > 0;
}

void body_cursor_free(struct body_cursor **c)
{
	mem_free(c);
}
