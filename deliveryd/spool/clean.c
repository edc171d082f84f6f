/*
 * The cleaner: keeps the log within twice of what lives in it.
 *
 * Strictly from the oldest segment. That is why a record of done needs no copy: the message it ends is in an older
 * segment, or in the same, and goes with it. What lives in the oldest segment is found by sweeping the index, read by
 * a worker, and copied forward as the message merged with its newest state and moves, with what is done marked. A
 * copy is encoded at the moment it enters a batch, after all results before it have been applied; one whose message
 * has changed since it was read is dropped, and the next sweep finds it again. The old place counts as living until
 * the sync of the copy, so the segment cannot go before.
 *
 * Pace: to win a segment, all that lives in front of it has to be copied (`need`). While the room that is left to
 * the log (`slack`) is less than half of that, new mail gets half of what the cleaner copies, so that the bound holds.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "spool/payload.h"
#include "spool/spool_int.h"

#define SWEEP_SLOTS ((size_t)16 * 1024) /* well under a millisecond */
#define FETCH_BYTES ((size_t)COPIES_BYTES)
#define PRESSED_BYTES ((uint64_t)512 * 1024) /* of new mail for each fetch, when room is short */
#define PAUSE_US (60 * SECOND_US)            /* after a read error */
#define LOG_EXTRA 3u /* segments the log may have beyond 2 x live; the stock has the rest of the 8 */

struct copy_delivery {
	struct where state, move; /* as seen; nowhere: in the old version, or none */
	size_t state_read, move_read;
};

struct message_copy {
	struct copy copy;
	struct message_copy *next;
	uint64_t id;
	struct where at; /* as seen */
	uint32_t n_deliveries, n_parts;
	size_t first_read;                /* of its parts, in a row */
	struct copy_delivery *deliveries; /* owns */
	struct str meta;                  /* the old version's, whole */
	struct payload_head head;
	struct iovec body;
	struct version_body body_info;
	struct reads *reads; /* shares */
};

/* What one fetch brings; counted by the copies that point into it. */
struct reads {
	struct fetch *fetch;
	unsigned refs;
};

struct found {
	uint64_t id;
	uint32_t offset;
};

struct cleaner {
	struct spool *spool;
	enum { CLEAN_IDLE, CLEAN_SWEEP, CLEAN_FETCH, CLEAN_COPY } phase;
	uint64_t segment;
	size_t sweep_at;
	struct found *found; /* owns */
	size_t n_found, found_size, next_found;
	struct reads *reading;
	struct message_copy *ready, **ready_tail;
	struct mail again;
	bool again_posted;
	uint64_t not_before_us;
	uint64_t new_bytes; /* of mail stored since the last fetch */
	uint64_t copied;    /* bytes, since anything else was written */
};

static void step(struct cleaner *);

/* ---- copies ---- */

static struct message_copy *copy_of(struct copy *copy)
{
	return container_of(copy, struct message_copy, copy);
}

static void reads_unref(struct reads **reads_ptr)
{
	struct reads *r = *reads_ptr;

	*reads_ptr = NULL;
	if (r == NULL || --r->refs > 0)
		return;
	fetch_free(&r->fetch);
	mem_free(&r);
}

static void ready_remove(struct cleaner *cl, struct message_copy *c)
{
	struct message_copy **at = &cl->ready;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (cl->ready_tail == &c->next)
		cl->ready_tail = at;
	version_free(&c->copy.version);
	reads_unref(&c->reads);
	str_free(&c->meta);
	mem_free(&c->deliveries);
	mem_free(&c);
}

static bool still_as_seen(const struct message_copy *c, const struct index_entry *e)
{
	if (e == NULL || !where_equal(&e->at, &c->at) || index_deliveries(e) != c->n_deliveries)
		return false;
	for (uint32_t i = 0; i < c->n_deliveries; i++) {
		const struct where state = index_newest_state(e, i), move = index_newest_move(e, i);

		if (!where_equal(&state, &c->deliveries[i].state) ||
		        !where_equal(&move, &c->deliveries[i].move))
			return false;
	}
	return true;
}

/* A record that was read: its meta in place of what the old version has merged. One that is damaged counts as none. */
static void merge_read(const struct message_copy *c, size_t read, uint8_t bit, struct merged *m)
{
	struct record r;

	if (fetch_record(c->reads->fetch, read, &r) != FETCH_OK) {
		m->bits &= (uint8_t)~bit;
		return;
	}
	m->bits |= bit;
	if (bit == MERGED_STATE) {
		m->state = r.meta;
		m->state_len = r.meta_len;
	} else {
		m->move = r.meta;
		m->move_len = r.meta_len;
	}
}

static void add_merged(const struct message_copy *c, const struct index_entry *e, struct str *meta)
{
	struct cursor old;
	bool has_old;

	cursor_init(&old, c->meta.data + c->head.fixed_len, c->meta.len - c->head.fixed_len);
	has_old = cursor_left(&old) > 0;
	for (uint32_t i = 0; i < c->n_deliveries; i++) {
		const struct copy_delivery *d = &c->deliveries[i];
		struct merged m = {0};

		if (has_old && !payload_get_merged(&old, &m))
			m = (struct merged){0};
		if (d->state.segment != 0)
			merge_read(c, d->state_read, MERGED_STATE, &m);
		if (d->move.segment != 0)
			merge_read(c, d->move_read, MERGED_MOVE, &m);
		if (index_is_done(e, i))
			m = (struct merged){.bits = MERGED_DONE};
		payload_put_merged(meta, &m);
	}
}

static bool encode(struct spool *s, struct message_copy *c, const struct index_entry *e)
{
	static const uint8_t head[RECORD_HEAD];
	struct str meta;
	bool ok;

	version_free(&c->copy.version);
	str_init(&meta);
	str_add_mem(&meta, head, sizeof(head));
	str_add_mem(&meta, c->meta.data, c->head.fixed_len);
	add_merged(c, e, &meta);
	ok = version_encode(&c->copy.version, c->id, c->n_deliveries, &meta, &c->body_info, s->record_max);
	str_free(&meta);
	assert(ok); /* it has been written before */
	return ok;
}

struct copy *clean_next(struct spool *s, const struct copy *after)
{
	struct cleaner *cl = s->cleaner;
	struct message_copy *c, *next;

	if (cl->phase != CLEAN_COPY)
		return NULL;
	c = after != NULL ? container_of(after, struct message_copy, copy)->next : cl->ready;
	for (; c != NULL; c = next) {
		const struct index_entry *e = index_find(&s->index, c->id);

		next = c->next;
		if (still_as_seen(c, e) && encode(s, c, e))
			return &c->copy;
		ready_remove(cl, c);
	}
	return NULL;
}

void clean_copied(struct spool *s, struct copy *copy)
{
	metric_add(s->m.copied, version_bytes(&copy->version));
	s->cleaner->copied += version_bytes(&copy->version);
	ready_remove(s->cleaner, copy_of(copy));
}

struct spool_results *clean_settings(struct spool *s)
{
	struct cleaner *cl = s->cleaner;
	struct spool_results *r = NULL;
	struct setting *setting, *next;

	if (cl->phase != CLEAN_COPY)
		return NULL;
	HASH_ITER (hh, s->settings.table, setting, next) {
		if (setting->at.segment != cl->segment)
			continue;
		if (r == NULL)
			r = spool_results_new();
		spool_results_setting(r, setting->key, setting->value);
	}
	return r;
}

/* ---- reading ---- */

static void link_failed(struct spool *s, const char *aside)
{
	int error_number = errno;
	struct error err;

	error_sys(&err, "%s/%s: link", s->path, aside);
	if (disk_errno_is_fatal(error_number))
		spool_fail(s, &err);
	else
		log_warning("spool: %s", err.text);
}

static void lost(struct spool *s, struct segment *seg, uint64_t id)
{
	char name[FORMAT_NAME_SIZE], aside[FORMAT_NAME_SIZE];
	struct index_entry *e = index_find(&s->index, id);

	(void)format_name(name, FILE_SEGMENT, seg->number);
	(void)format_name(aside, FILE_DAMAGED, seg->number);
	log_error("spool: %s/%s: damaged: message %016llx cannot be read; a copy of the file stays as %s",
	        s->path, name, (unsigned long long)id, aside);
	metric_add(s->m.damaged, 1);
	if (!seg->damaged && s->io->link(s->io, s->dir, name, aside) < 0 && errno != EEXIST)
		link_failed(s, aside);
	seg->damaged = true;
	if (e != NULL)
		index_remove(&s->index, e);
}

/* False when the disk did not let it be read: that is not damage, and the segment stays. */
static bool take_parts(struct spool *s, struct message_copy *c, bool *damaged)
{
	*damaged = false;
	for (uint32_t i = 0; i < c->n_parts; i++) {
		struct record r;
		enum fetch_result result = fetch_record(c->reads->fetch, c->first_read + i, &r);

		if (result == FETCH_ERROR)
			return false;
		*damaged = *damaged || result == FETCH_DAMAGED;
		if (*damaged)
			return true;
		str_add_mem(&c->meta, (const char *)r.meta, r.meta_len);
		if (i > 0)
			continue;
		c->body_info.flags = r.flags;
		c->body_info.len = record_body_len(&r);
		c->body_info.crc = r.body_crc;
		if (result == FETCH_BODY_DAMAGED) {
			log_error("spool: %s: the body of message %016llx is damaged", s->path,
			        (unsigned long long)c->id);
			metric_add(s->m.damaged, 1);
			c->body_info.flags |= RECORD_BODY_LOST;
			c->body_info.len = c->body_info.crc = 0;
		}
		c->body = (struct iovec){.iov_base = (void *)(uintptr_t)r.body, .iov_len = c->body_info.len};
		c->body_info.iov = &c->body;
		c->body_info.n = c->body_info.len > 0;
	}
	*damaged = !payload_get_head((const uint8_t *)c->meta.data, c->meta.len, &c->head) ||
	           c->head.fixed_len > c->meta.len || c->head.n_deliveries != c->n_deliveries;
	c->body_info.file = c->head.file.number;
	return true;
}

static bool piece_readable(struct spool *s, const struct message_copy *c, const struct where *at, size_t read)
{
	struct record r;
	enum fetch_result result = at->segment != 0 ? fetch_record(c->reads->fetch, read, &r) : FETCH_OK;

	if (result == FETCH_DAMAGED) {
		log_error("spool: %s: a state of message %016llx is damaged: it starts afresh", s->path,
		        (unsigned long long)c->id);
		metric_add(s->m.damaged, 1);
	}
	return result != FETCH_ERROR;
}

static bool states_readable(struct spool *s, const struct message_copy *c)
{
	for (uint32_t i = 0; i < c->n_deliveries; i++) {
		const struct copy_delivery *d = &c->deliveries[i];

		if (!piece_readable(s, c, &d->state, d->state_read) ||
		        !piece_readable(s, c, &d->move, d->move_read))
			return false;
	}
	return true;
}

static void pause_cleaning(struct cleaner *cl)
{
	struct spool *s = cl->spool;
	char name[FORMAT_NAME_SIZE];

	log_error("spool: %s/%s: read error: the segment is kept, cleaning goes on in a minute", s->path,
	        format_name(name, FILE_SEGMENT, cl->segment));
	cl->phase = CLEAN_IDLE;
	cl->not_before_us = loop_now_us(s->loop) + PAUSE_US;
	while (cl->ready != NULL)
		ready_remove(cl, cl->ready);
}

static void fetched(void *ctx, struct fetch *f)
{
	struct cleaner *cl = ctx;
	struct spool *s = cl->spool;
	struct message_copy *c, *next;
	struct segment *seg = segment_get(s, cl->segment);

	(void)f;
	reads_unref(&cl->reading); /* the copies have it */
	cl->phase = CLEAN_COPY;
	cl->new_bytes = 0;
	for (c = cl->ready; c != NULL; c = next) {
		bool damaged;

		next = c->next;
		if (!take_parts(s, c, &damaged) || !states_readable(s, c)) {
			pause_cleaning(cl);
			return;
		}
		if (damaged) {
			if (seg != NULL) /* else they died meanwhile, all of them */
				lost(s, seg, c->id);
			ready_remove(cl, c);
		}
	}
	commit_again(s);
}

static void copy_start(struct cleaner *cl, struct reads *reads, const struct index_entry *e)
{
	struct message_copy *c = mem_zalloc(sizeof(*c));
	const struct where *more;
	uint32_t n_more = index_more(e, &more);

	c->id = e->id;
	c->at = e->at;
	c->n_parts = 1 + n_more;
	c->n_deliveries = index_deliveries(e);
	c->deliveries = mem_zalloc(c->n_deliveries * sizeof(*c->deliveries));
	c->reads = reads;
	reads->refs++;
	str_init(&c->meta);
	c->first_read = fetch_add(reads->fetch, e->id, &e->at);
	for (uint32_t i = 0; i < n_more; i++)
		(void)fetch_add(reads->fetch, e->id, &more[i]);
	for (uint32_t i = 0; i < c->n_deliveries; i++) {
		struct copy_delivery *d = &c->deliveries[i];

		d->state = index_newest_state(e, i);
		d->move = index_newest_move(e, i);
		if (d->state.segment != 0)
			d->state_read = fetch_add(reads->fetch, e->id, &d->state);
		if (d->move.segment != 0)
			d->move_read = fetch_add(reads->fetch, e->id, &d->move);
	}
	*cl->ready_tail = c;
	cl->ready_tail = &c->next;
}

/* The next FETCH_BYTES of what was found. */
static void fetch_some(struct cleaner *cl)
{
	struct spool *s = cl->spool;
	struct reads *reads = mem_zalloc(sizeof(*reads));

	reads->refs = 1;
	reads->fetch = fetch_new(s, fetched, cl);
	while (cl->next_found < cl->n_found && fetch_bytes(reads->fetch) < FETCH_BYTES) {
		const struct index_entry *e = index_find(&s->index, cl->found[cl->next_found++].id);

		if (e != NULL && e->at.segment == cl->segment)
			copy_start(cl, reads, e);
	}
	cl->reading = reads;
	cl->phase = CLEAN_FETCH;
	fetch_start(reads->fetch);
}

/* ---- finding ---- */

static void found_one(void *ctx, const struct index_entry *e)
{
	struct cleaner *cl = ctx;

	if (e->at.segment != cl->segment)
		return;
	if (cl->n_found == cl->found_size) {
		cl->found_size = cl->found_size * 2 + 256;
		cl->found = mem_array(cl->found, cl->found_size, sizeof(*cl->found));
	}
	cl->found[cl->n_found++] = (struct found){.id = e->id, .offset = e->at.offset};
}

static int by_offset(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool settings_in(const struct cleaner *cl)
{
	struct setting *setting, *next;

	HASH_ITER (hh, cl->spool->settings.table, setting, next)
		if (setting->at.segment == cl->segment)
			return true;
	return false;
}

static void sweep_more(struct cleaner *cl)
{
	if (index_sweep(&cl->spool->index, &cl->sweep_at, SWEEP_SLOTS, found_one, cl))
		return;
	if (cl->n_found > 0) {
		qsort(cl->found, cl->n_found, sizeof(*cl->found), by_offset);
		fetch_some(cl);
	} else if (settings_in(cl)) {
		fetch_some(cl);
	} else { /* parts of a message not yet whole: they move on, or end */
		cl->phase = CLEAN_IDLE;
		cl->not_before_us = loop_now_us(cl->spool->loop) + SECOND_US;
	}
}

/* ---- deciding ---- */

#define NO_GAIN UINT64_MAX

/* Of a segment's bytes, those that copies will fill: not heads, ends of blocks, and the room too short for the next
 * record at its end. */
static uint64_t usable(const struct spool *s)
{
	uint64_t size = s->cfg.segment_size, batches = 1 + size / COPIES_BYTES;

	return size - (SEGMENT_HEADS + 1) * DISK_BLOCK - batches * DISK_BLOCK / 2 - s->record_max / 4;
}

/* What has to be copied, from the oldest on, until a segment is won. */
static uint64_t need(const struct spool *s)
{
	uint64_t copied = 0, freed = 0;

	for (size_t i = 0; i < s->segments.n; i++) {
		const struct segment *seg = s->segments.list[i];

		if (seg == NULL || seg == s->current)
			continue;
		copied += seg->live;
		freed += seg->size;
		if (freed >= copied * s->cfg.segment_size / usable(s) + s->cfg.segment_size)
			return copied;
	}
	return NO_GAIN;
}

static uint64_t slack(const struct spool *s)
{
	uint64_t may = 2 * s->live_bytes + (uint64_t)LOG_EXTRA * s->cfg.segment_size;
	/* those in front of the oldest needed are as good as gone */
	uint64_t n = s->segments.first + s->segments.n - segment_oldest_needed(s),
	         has = n * s->cfg.segment_size;

	return may > has ? may - has : 0;
}

static bool wanted(const struct cleaner *cl)
{
	const struct spool *s = cl->spool;
	uint64_t n = need(s), left = slack(s);

	/* all that lives has been round once, and nobody has written since: there is nothing to be won */
	if (n == NO_GAIN || cl->copied > s->live_bytes + 2 * s->cfg.segment_size)
		return false;
	if (left < n / 2 + s->cfg.segment_size)
		return true;
	/* a full disk: what can be won without new space is won */
	return (s->low_space || s->stock.no_space) && s->stock.n + s->stock.coming < STOCK_WANTED;
}

/* With nothing but the ballast left the cleaner writes only when it can surely come to the end of its segment, and so
 * win it back. */
static bool has_room(const struct spool *s, uint64_t segment)
{
	const struct segment *seg = segment_get(s, segment);
	uint64_t room = s->current->size - s->current->end;

	if (s->stock.n > STOCK_BALLAST || seg == NULL)
		return true;
	return room + s->stock.n * usable(s) >= seg->live + seg->live / 8 + 3 * DISK_BLOCK;
}

bool clean_needs_spare(const struct spool *s)
{
	const struct cleaner *cl = s->cleaner;

	if (cl->phase != CLEAN_IDLE)
		return has_room(s, cl->segment);
	return loop_now_us(s->loop) >= cl->not_before_us && wanted(cl) &&
	       has_room(s, segment_oldest_needed(s));
}

bool clean_has_copies(const struct spool *s)
{
	return s->cleaner->phase == CLEAN_COPY && has_room(s, s->cleaner->segment);
}

uint64_t clean_allows(const struct spool *s)
{
	const struct cleaner *cl = s->cleaner;
	uint64_t n;

	if (cl->phase == CLEAN_IDLE ||
	        !has_room(s, cl->segment)) /* it does not get on: nobody waits for it */
		return UINT64_MAX;
	n = need(s);
	if (n == NO_GAIN || slack(s) >= n / 2)
		return UINT64_MAX;
	return cl->new_bytes < PRESSED_BYTES ? PRESSED_BYTES - cl->new_bytes : 0;
}

void clean_written(struct spool *s, uint64_t bytes_of_mail)
{
	s->cleaner->new_bytes += bytes_of_mail;
	s->cleaner->copied = 0;
}

static void begin(struct cleaner *cl)
{
	struct spool *s = cl->spool;
	struct segment *oldest = segment_get(s, segment_oldest_needed(s));

	if (oldest == NULL || oldest == s->current || loop_now_us(s->loop) < cl->not_before_us ||
	        !wanted(cl) || !has_room(s, oldest->number))
		return;
	cl->phase = CLEAN_SWEEP;
	cl->segment = oldest->number;
	cl->sweep_at = cl->n_found = cl->next_found = 0;
}

static void again_take(struct mail *mail)
{
	struct cleaner *cl = container_of(mail, struct cleaner, again);

	cl->again_posted = false;
	step(cl);
}

static void step(struct cleaner *cl)
{
	struct spool *s = cl->spool;

	if (s->failed || s->closing)
		return;
	if (cl->phase == CLEAN_COPY && cl->ready == NULL && !settings_in(cl)) {
		if (cl->next_found < cl->n_found)
			fetch_some(cl);
		else
			cl->phase = CLEAN_IDLE;
	}
	if (cl->phase == CLEAN_IDLE)
		begin(cl);
	if (cl->phase == CLEAN_SWEEP)
		sweep_more(cl);
	if (cl->phase == CLEAN_SWEEP && !cl->again_posted) {
		cl->again_posted = true;
		loop_post(s->loop, &cl->again);
	}
}

void clean_tend(struct spool *s)
{
	step(s->cleaner);
}

void clean_init(struct spool *s)
{
	struct cleaner *cl = mem_zalloc(sizeof(*cl));

	cl->spool = s;
	cl->ready_tail = &cl->ready;
	cl->again.take = again_take;
	s->cleaner = cl;
}

void clean_free(struct spool *s)
{
	struct cleaner *cl = s->cleaner;

	while (cl->ready != NULL)
		ready_remove(cl, cl->ready);
	reads_unref(&cl->reading);
	mem_free(&cl->found);
	mem_free(&s->cleaner);
}
