#include "config.h"
#include "spool/replay.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "spool/payload.h"

/* A piece of a record that is the newest of its kind; owns the bytes. */
struct piece {
	struct where at;
	uint8_t *bytes;
	uint32_t n;
};

struct replay_delivery {
	struct piece state, move;
	bool done;
};

/* A version whose parts are coming in. */
struct assembly {
	uint16_t parts, next;
	struct str meta;
	struct where *places; /* owns */
};

struct replay_message {
	uint64_t id;
	struct where at, *more; /* owns */
	uint32_t n_more;
	uint32_t n_deliveries, n_open; /* 0: no version is complete */
	uint8_t *meta;                 /* owns */
	size_t meta_len;
	uint64_t file;
	struct assembly *assembly; /* owns */
	struct replay_delivery *d, one;
};

struct replay {
	struct spool *spool;
	struct replay_message **slots; /* open addressed by id */
	size_t n_slots, n;
	uint64_t highest_id;
};

struct replay *replay_new(struct spool *s)
{
	struct replay *r = mem_zalloc(sizeof(*r));

	r->spool = s;
	r->n_slots = 4096;
	r->slots = mem_zalloc(r->n_slots * sizeof(struct replay_message *));
	return r;
}

/* ---- the table ---- */

static struct replay_message gone; /* where one was removed: a search goes on behind it */

static size_t find_slot(const struct replay *r, uint64_t id)
{
	size_t i = (size_t)(((unsigned __int128)(id * 0x9e3779b97f4a7c15u) * r->n_slots) >> 64);

	while (r->slots[i] != NULL && (r->slots[i] == &gone || r->slots[i]->id != id))
		i = i + 1 < r->n_slots ? i + 1 : 0;
	return i;
}

static void resize(struct replay *r)
{
	struct replay_message **old = r->slots;
	size_t n_old = r->n_slots, living = 0;

	for (size_t i = 0; i < n_old; i++)
		living += old[i] != NULL && old[i] != &gone;
	while (r->n_slots < living * 2)
		r->n_slots *= 2;
	r->slots = mem_zalloc(r->n_slots * sizeof(struct replay_message *));
	for (size_t i = 0; i < n_old; i++)
		if (old[i] != NULL && old[i] != &gone)
			r->slots[find_slot(r, old[i]->id)] = old[i];
	r->n = living;
	mem_free(&old);
}

static struct replay_message *find(const struct replay *r, uint64_t id)
{
	return r->slots[find_slot(r, id)];
}

static struct replay_message *find_or_add(struct replay *r, uint64_t id)
{
	struct replay_message *m = find(r, id);

	if (m != NULL)
		return m;
	if (r->n >= r->n_slots / 4 * 3)
		resize(r);
	m = mem_zalloc(sizeof(*m));
	m->id = id;
	m->d = &m->one;
	r->slots[find_slot(r, id)] = m;
	r->n++;
	return m;
}

static void piece_free(struct piece *p)
{
	mem_free(&p->bytes);
	*p = (struct piece){0};
}

static void assembly_free(struct assembly **assembly_ptr)
{
	if (*assembly_ptr == NULL)
		return;
	str_free(&(*assembly_ptr)->meta);
	mem_free(&(*assembly_ptr)->places);
	mem_free(assembly_ptr);
}

static void pieces_free(struct replay_message *m)
{
	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		piece_free(&m->d[i].state);
		piece_free(&m->d[i].move);
	}
}

static void message_free(struct replay_message *m)
{
	pieces_free(m);
	assembly_free(&m->assembly);
	if (m->d != &m->one)
		mem_free(&m->d);
	mem_free(&m->more);
	mem_free(&m->meta);
	mem_free(&m);
}

static void remove_message(struct replay *r, struct replay_message *m)
{
	r->slots[find_slot(r, m->id)] = &gone;
	message_free(m);
}

void replay_free(struct replay **replay_ptr)
{
	struct replay *r = *replay_ptr;

	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_slots; i++)
		if (r->slots[i] != NULL && r->slots[i] != &gone)
			message_free(r->slots[i]);
	mem_free(&r->slots);
	mem_free(replay_ptr);
}

uint64_t replay_highest_id(const struct replay *r)
{
	return r->highest_id;
}

/* ---- records ---- */

static void delivery_done(struct replay_message *m, uint32_t delivery)
{
	struct replay_delivery *d = &m->d[delivery];

	if (d->done)
		return;
	d->done = true;
	m->n_open--;
	piece_free(&d->state);
	piece_free(&d->move);
}

/* The cleaner's copies carry what was done; a first version has no merged section. */
static void merged_done(struct replay_message *m, const struct payload_head *head)
{
	struct cursor c;
	struct merged merged;

	cursor_init(&c, m->meta + head->fixed_len, m->meta_len - head->fixed_len);
	for (uint32_t i = 0; cursor_left(&c) > 0 && i < m->n_deliveries; i++)
		if (payload_get_merged(&c, &merged) && (merged.bits & MERGED_DONE) != 0)
			delivery_done(m, i);
}

/* Takes meta and more. */
static void version_complete(struct replay *r, struct replay_message *m, uint8_t *meta, size_t meta_len,
        const struct where *at, struct where *more, uint32_t n_more)
{
	struct payload_head head;

	if (!payload_get_head(meta, meta_len, &head) || head.fixed_len > meta_len ||
	        (m->n_deliveries != 0 && m->n_deliveries != head.n_deliveries)) {
		log_error("spool: a record of message %016llx cannot be read", (unsigned long long)m->id);
		mem_free(&meta);
		mem_free(&more);
		if (m->n_deliveries == 0)
			remove_message(r, m);
		return;
	}
	pieces_free(m); /* merged into this version */
	mem_free(&m->meta);
	mem_free(&m->more);
	m->meta = meta;
	m->meta_len = meta_len;
	m->at = *at;
	m->more = more;
	m->n_more = n_more;
	m->file = head.file.number;
	if (m->n_deliveries == 0) {
		m->n_deliveries = m->n_open = head.n_deliveries;
		if (m->n_deliveries > 1)
			m->d = mem_zalloc(m->n_deliveries * sizeof(*m->d));
	}
	merged_done(m, &head);
	if (m->n_open == 0)
		remove_message(r, m);
}

static void message_part(struct replay *r, const struct record *rec, const struct where *at)
{
	struct replay_message *m;
	struct assembly *a;
	struct where *more;

	m = rec->part == 0 ? find_or_add(r, rec->id) : find(r, rec->id);
	if (m == NULL)
		return;
	if (rec->part == 0) {
		assembly_free(&m->assembly);
		m->assembly = a = mem_zalloc(sizeof(*a));
		a->parts = rec->parts;
		str_init(&a->meta);
		a->places = mem_array(NULL, rec->parts, sizeof(*a->places));
	}
	a = m->assembly;
	if (a == NULL)
		return;
	if (rec->part != a->next || rec->parts != a->parts) {
		assembly_free(&m->assembly);
		return;
	}
	str_add_mem(&a->meta, (const char *)rec->meta, rec->meta_len);
	a->places[a->next++] = *at;
	if (a->next < a->parts)
		return;
	m->assembly = NULL;
	more = a->parts > 1 ? mem_array(NULL, a->parts - 1u, sizeof(*more)) : NULL;
	if (more != NULL)
		memcpy(more, a->places + 1, (a->parts - 1u) * sizeof(*more));
	size_t meta_len = a->meta.len;
	version_complete(r, m, (uint8_t *)str_steal(&a->meta), meta_len, &a->places[0], more, a->parts - 1u);
	assembly_free(&a);
}

/* The plain case without a detour. */
static void message_whole(struct replay *r, const struct record *rec, const struct where *at)
{
	struct replay_message *m = find_or_add(r, rec->id);
	uint8_t *meta = mem_alloc(rec->meta_len);

	assembly_free(&m->assembly);
	memcpy(meta, rec->meta, rec->meta_len);
	version_complete(r, m, meta, rec->meta_len, at, NULL, 0);
}

static void piece_set(struct piece *p, const struct record *rec, const struct where *at)
{
	piece_free(p);
	p->at = *at;
	p->bytes = mem_alloc(rec->meta_len);
	p->n = rec->meta_len;
	memcpy(p->bytes, rec->meta, rec->meta_len);
}

static void delivery_record(struct replay *r, const struct record *rec, const struct where *at)
{
	struct replay_message *m = find(r, rec->id);
	struct replay_delivery *d;

	if (m == NULL || rec->part >= m->n_deliveries || m->d[rec->part].done)
		return;
	d = &m->d[rec->part];
	if (rec->type == RECORD_STATE) {
		piece_set(&d->state, rec, at);
	} else if (rec->type == RECORD_MOVE) {
		piece_set(&d->move, rec, at);
	} else {
		delivery_done(m, rec->part);
		if (m->n_open == 0)
			remove_message(r, m);
	}
}

static void setting_record(struct replay *r, const struct record *rec, const struct where *at)
{
	struct pool *pool = pool_new(256);
	const char *key, *value;

	if (payload_get_setting(rec->meta, rec->meta_len, pool, &key, &value))
		settings_put(&r->spool->settings, key, value, at, segment_live, r->spool);
	pool_free(&pool);
}

void replay_record(struct replay *r, uint32_t segment, const struct record *rec, uint32_t offset)
{
	const struct where at = {.segment = segment, .offset = offset, .length = rec->length};

	if (rec->type == RECORD_SETTING) {
		setting_record(r, rec, &at);
		return;
	}
	if (rec->id == 0)
		return;
	if (rec->id > r->highest_id)
		r->highest_id = rec->id;
	if (rec->type != RECORD_MESSAGE)
		delivery_record(r, rec, &at);
	else if (rec->parts == 1)
		message_whole(r, rec, &at);
	else
		message_part(r, rec, &at);
}

/* ---- the end ---- */

static int by_id(const void *a, const void *b)
{
	const struct replay_message *const *x = a, *const *y = b;

	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

/* Moves the complete ones to the front, in order; frees the rest. */
static size_t sort(struct replay *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_slots; i++) {
		struct replay_message *m = r->slots[i];

		r->slots[i] = NULL;
		if (m == NULL || m == &gone)
			continue;
		if (m->n_deliveries == 0)
			message_free(m);
		else
			r->slots[n++] = m;
	}
	qsort(r->slots, n, sizeof(struct replay_message *), by_id);
	return n;
}

static void into_index(struct spool *s, const struct replay_message *m)
{
	struct index_entry *e = index_put(&s->index, m->id,
	        &(struct index_version){
	                .at = m->at,
	                .more = m->more,
	                .n_more = m->n_more,
	                .n_deliveries = m->n_deliveries,
	                .body_file = m->file,
	        });

	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		const struct replay_delivery *d = &m->d[i];

		if (d->state.at.segment != 0)
			index_state(&s->index, e, i, &d->state.at);
		if (d->move.at.segment != 0)
			index_move(&s->index, e, i, &d->move.at);
		if (d->done)
			(void)index_done(&s->index, e, i);
	}
}

static bool live_delivery(const struct message *m, const struct replay_delivery *d, uint32_t i,
        const struct merged *merged, struct spool_live_delivery *out)
{
	struct spool_state state = {0};
	const uint8_t *state_bytes = d->state.bytes != NULL ? d->state.bytes : merged->state;
	const uint8_t *move_bytes = d->move.bytes != NULL ? d->move.bytes : merged->move;
	uint32_t state_n = d->state.bytes != NULL ? d->state.n : merged->state_len;
	uint32_t move_n = d->move.bytes != NULL ? d->move.n : merged->move_len;

	*out = (struct spool_live_delivery){.index = i};
	if (state_bytes != NULL &&
	        !payload_get_state(state_bytes, state_n, m->deliveries[i].n_recipients, m->pool, &state))
		return false;
	if (move_bytes != NULL && !payload_get_move(move_bytes, move_n, m->pool, &out->binding, &out->domain))
		return false;
	out->attempts = state.attempts;
	out->next_attempt_wall_us = state.next_attempt_wall_us;
	out->held = state.held;
	out->last_reply = state.last_reply;
	out->last_attempt_wall_us = state.last_attempt_wall_us;
	out->open = state.open;
	out->n_open = state.n_open;
	return true;
}

/* A state that cannot be read is as none: the message itself must not be lost over it. */
static void hand_out(const struct replay_message *rm, spool_live_fn *fn, void *ctx)
{
	struct message *m = payload_get_message(rm->meta, rm->meta_len, rm->id);
	struct spool_live live = {.message = m};
	bool has_merged;
	struct cursor c;

	if (m == NULL) {
		log_error(
		        "spool: the envelope of message %016llx cannot be read", (unsigned long long)rm->id);
		return;
	}
	cursor_init(&c, rm->meta + get_u32(rm->meta), rm->meta_len - get_u32(rm->meta));
	has_merged = cursor_left(&c) > 0;
	live.deliveries = pool_alloc(m->pool, rm->n_open * sizeof(*live.deliveries));
	for (uint32_t i = 0; i < rm->n_deliveries; i++) {
		struct merged merged = {0};

		if (has_merged)
			(void)payload_get_merged(&c, &merged);
		if (rm->d[i].done)
			continue;
		if (!live_delivery(m, &rm->d[i], i, &merged, &live.deliveries[live.n_deliveries])) {
			log_warning("spool: a state of message %016llx cannot be read: it starts afresh",
			        (unsigned long long)rm->id);
			live.deliveries[live.n_deliveries] = (struct spool_live_delivery){.index = i};
		}
		live.n_deliveries++;
	}
	fn(ctx, &live);
	message_unref(&m);
}

void replay_finish(struct replay *r, spool_live_fn *live, spool_setting_fn *setting, void *ctx,
        uint64_t **files, size_t *n_files)
{
	size_t n = sort(r);
	struct setting *st, *next;

	HASH_ITER (hh, r->spool->settings.table, st, next)
		setting(ctx, st->key, st->value);
	*files = NULL;
	*n_files = 0;
	for (size_t i = 0; i < n; i++) {
		struct replay_message *m = r->slots[i];

		into_index(r->spool, m);
		hand_out(m, live, ctx);
		if (m->file != 0) {
			*files = mem_array(*files, *n_files + 1, sizeof(**files));
			(*files)[(*n_files)++] = m->file;
		}
		r->slots[i] = NULL;
		message_free(m);
	}
}
