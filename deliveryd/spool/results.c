/*
 * Results: records of done, state, move and setting, written down as they happen and committed as one list.
 */
#include "config.h"
#include <assert.h>
#include <string.h>
#include "base/log.h"
#include "spool/payload.h"
#include "spool/spool_int.h"

struct spool_results *spool_results_new(void)
{
	struct spool_results *r = mem_zalloc(sizeof(*r));

	str_init(&r->bytes);
	return r;
}

void spool_results_free(struct spool_results **results_ptr)
{
	if (*results_ptr == NULL)
		return;
	str_free(&(*results_ptr)->bytes);
	mem_free(results_ptr);
}

/* The head goes first, but its lengths are known last. */
static size_t record_begin(struct spool_results *r)
{
	static const uint8_t head[RECORD_HEAD];
	size_t start = r->bytes.len;

	str_add_mem(&r->bytes, head, sizeof(head));
	return start;
}

static void record_end(
        struct spool_results *r, size_t start, enum record_type type, uint64_t id, uint32_t delivery)
{
	uint32_t length = (uint32_t)(r->bytes.len - start);
	const struct record record = {
	        .id = id,
	        .length = length,
	        .meta_len = length - RECORD_HEAD,
	        .part = delivery,
	        .parts = 1,
	        .type = (uint8_t)type,
	};

	record_write_head((uint8_t *)r->bytes.data + start, &record);
	if (length > r->longest)
		r->longest = length;
	r->count++;
}

void spool_results_done(struct spool_results *r, uint64_t id, uint32_t delivery)
{
	record_end(r, record_begin(r), RECORD_DONE, id, delivery);
}

void spool_results_state(
        struct spool_results *r, uint64_t id, uint32_t delivery, const struct spool_state *state)
{
	size_t start = record_begin(r);

	payload_put_state(&r->bytes, state);
	record_end(r, start, RECORD_STATE, id, delivery);
}

void spool_results_move(
        struct spool_results *r, uint64_t id, uint32_t delivery, const char *binding, const char *domain)
{
	size_t start = record_begin(r);

	payload_put_move(&r->bytes, binding, domain);
	record_end(r, start, RECORD_MOVE, id, delivery);
}

void spool_results_setting(struct spool_results *r, const char *key, const char *value)
{
	size_t start = record_begin(r);

	payload_put_setting(&r->bytes, key, value);
	record_end(r, start, RECORD_SETTING, 0, 0);
}

size_t spool_results_count(const struct spool_results *r)
{
	return r->count;
}

void spool_results_on_commit(struct spool_results *r, struct loop *loop, struct mail *committed)
{
	r->commit_loop = loop;
	r->committed = committed;
}

/* ---- after the sync ---- */

static void apply_setting(struct spool *s, const struct record *r, const struct where *at)
{
	struct pool *pool = pool_new(256);
	const char *key, *value;

	if (payload_get_setting(r->meta, r->meta_len, pool, &key, &value))
		settings_put(&s->settings, key, value, at, segment_live, s);
	pool_free(&pool);
}

static void apply_done(struct spool *s, struct index_entry *e, uint32_t delivery)
{
	uint64_t file;

	if (!index_done(&s->index, e, delivery))
		return;
	file = index_body_file(e);
	index_remove(&s->index, e);
	if (file != 0)
		body_file_unlink(s, file);
}

static void apply_one(struct spool *s, const struct record *r, const struct where *at)
{
	struct index_entry *e;

	if (r->type == RECORD_SETTING) {
		apply_setting(s, r, at);
		return;
	}
	e = index_find(&s->index, r->id);
	if (e == NULL || r->part >= index_deliveries(e) || index_is_done(e, r->part))
		return; /* e.g. deleted by command while its session ran */
	if (r->type == RECORD_DONE)
		apply_done(s, e, r->part);
	else if (r->type == RECORD_STATE)
		index_state(&s->index, e, r->part, at);
	else
		index_move(&s->index, e, r->part, at);
}

void results_apply(struct spool *s, const uint8_t *bytes, size_t n, uint32_t segment, uint32_t offset)
{
	for (size_t at = 0; at < n;) {
		struct record r;
		struct where w;

		record_peek(bytes + at, &r);
		w = (struct where){.segment = segment, .offset = offset + (uint32_t)at, .length = r.length};
		apply_one(s, &r, &w);
		at += r.length;
	}
}
