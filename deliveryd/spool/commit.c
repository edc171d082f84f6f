/*
 * Group commit. At the end of each turn of the spool loop what has come is written as one batch and synced; then, and
 * only then, its places enter the index and its writers are answered.
 *
 * What holds:
 *   - One batch is on its way at a time: a batch that does not check is the last one, or the disk is damaged.
 *   - Nothing is answered, freed or handed on that a sync has not confirmed. A sync is never repeated: after a failed
 *     one the kernel may call pages clean which the disk does not have. Then nothing is written any more, everybody
 *     who waits is told, and the process ends; replay decides what became of the batch.
 *   - Results go before new messages, so that a flood of these does not hold them up; results that belong to a
 *     message (a DSN and the end of what it reports) go behind it, in the same batch unless that is full.
 *   - The cleaner's copies have batches of their own, made when all results have been applied: a copy has the newest
 *     state merged in, and no state recorded before it can come after it in the log.
 *   - A message in several parts may stretch over batches and segments. Its parts count as living as soon as they are
 *     written, so that no head states their segment to be unneeded before the last of them has come.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/log.h"
#include "spool/body_int.h"
#include "spool/payload.h"
#include "spool/spool_int.h"

#define RESULTS_DELAY_US 5000
#define RESULTS_DELAY_SCARCE_US                                                                              \
	200000 /* when the ballast is in use: a block for each result would eat it up */
#define RESULTS_BYTES ((size_t)64 * 1024)

/* ---- answers ---- */

static void answer(struct spool_add *request, enum spool_result result)
{
	bool reply = request->reply_loop != NULL;

	request->result = result;
	if (request->message != NULL && request->message->body != NULL)
		body_settle(request->message->body);
	if (result == SPOOL_STORED) {
		atomic_store(&request->refs, reply ? 2 : 1);
		loop_post(request->queue_loop, &request->queue_mail);
	} else {
		atomic_store(&request->refs, 1);
		message_unref(&request->message);
	}
	if (reply)
		loop_post(request->reply_loop, &request->reply);
	else if (result != SPOOL_STORED)
		mem_free(&request);
}

static void results_finish(struct spool *s, struct spool_results **results, bool durable)
{
	struct spool_results *r = *results;

	(void)atomic_fetch_sub(&s->uncommitted, r->count);
	if (r->commit_loop != NULL && durable && !s->closing)
		loop_post(r->commit_loop, r->committed);
	spool_results_free(results);
}

/* Done with the first, and with empty ones behind it: they wait only for what stands before them. */
static void results_pop(struct spool *s, bool all_of_first)
{
	while (s->results != NULL && (all_of_first || s->results->bytes.len == 0)) {
		struct spool_results *r = s->results;

		s->results = r->next;
		if (s->results == NULL)
			s->results_tail = &s->results;
		results_finish(s, &r, true);
		all_of_first = false;
	}
}

static void add_finish(struct spool *s, enum spool_result result)
{
	struct pending_add *add = s->adds;

	s->adds = add->next;
	if (s->adds == NULL)
		s->adds_tail = &s->adds;
	if (add->request->results != NULL)
		results_finish(s, &add->request->results, result == SPOOL_STORED);
	answer(add->request, result);
	version_free(&add->version);
	mem_free(&add);
}

/* Parts that are in the log already will never be a message. */
static void version_give_up(struct spool *s, struct version *v, uint16_t written)
{
	for (uint16_t i = 0; i < written; i++)
		segment_live(s, &v->places[i], false);
}

static void refuse_adds(struct spool *s, enum spool_result result)
{
	while (s->adds != NULL) {
		version_give_up(s, &s->adds->version, s->adds->held);
		metric_add(s->m.refused, 1);
		add_finish(s, result);
	}
}

void spool_fail(struct spool *s, const struct error *err)
{
	if (s->failed)
		return;
	s->failed = true;
	health_update(s);
	log_error("spool: %s: stopping", err->text);
	if (s->in_replay)
		return;
	refuse_adds(s, SPOOL_IO_ERROR);
	if (s->cfg.on_fatal != NULL)
		s->cfg.on_fatal(s->cfg.ctx, err);
}

struct fail_mail {
	struct mail mail;
	struct spool *spool;
	struct error error;
};

static void fail_take(struct mail *mail)
{
	struct fail_mail *fail = container_of(mail, struct fail_mail, mail);

	spool_fail(fail->spool, &fail->error);
	mem_free(&fail);
}

void spool_fail_from(struct spool *s, const struct error *err)
{
	struct fail_mail *fail = mem_zalloc(sizeof(*fail));

	fail->spool = s;
	fail->error = *err;
	fail->mail.take = fail_take;
	loop_post(s->loop, &fail->mail);
}

/* ---- what comes ---- */

static void add_take(struct mail *mail)
{
	struct spool_add *request = container_of(mail, struct spool_add, mail);
	struct pending_add *add = request->pending;
	struct spool *s = add->spool;

	*s->adds_tail = add;
	s->adds_tail = &add->next;
	if (s->failed)
		refuse_adds(s, SPOOL_IO_ERROR);
}

static bool add_encode(struct spool *s, struct pending_add *add, const struct message *m)
{
	const struct payload_file file = body_file(m->body);
	struct version_body body = {.file = file.number, .flags = file.number != 0 ? RECORD_BODY_FILE : 0};
	static const uint8_t head[RECORD_HEAD];
	struct str meta;
	bool ok;

	if (file.number == 0) {
		body.n = body_iov(m->body, &body.iov);
		body.len = (uint32_t)body_size(m->body);
		body.crc = body_crc(m->body);
	}
	str_init(&meta);
	str_add_mem(&meta, head, sizeof(head));
	ok = payload_put_message(&meta, m, &file) &&
	     version_encode(&add->version, m->id, m->n_deliveries, &meta, &body, s->record_max);
	str_free(&meta);
	return ok;
}

void spool_add(struct spool *s, struct spool_add *request)
{
	struct pending_add *add = mem_zalloc(sizeof(*add));

	assert(s->loop != NULL && request->message->body != NULL && request->message->id != 0);
	add->spool = s;
	add->request = request;
	add->bad = !add_encode(s, add, request->message);
	if (request->results != NULL)
		(void)atomic_fetch_add(&s->uncommitted, request->results->count);
	request->pending = add;
	request->mail.take = add_take;
	loop_post(s->loop, &request->mail);
}

static void results_take(struct mail *mail)
{
	struct spool_results *r = container_of(mail, struct spool_results, mail);
	struct spool *s = r->spool;
	uint64_t none = 0;

	(void)atomic_compare_exchange_strong(&s->uncommitted_since_us, &none, r->posted_us);
	*s->results_tail = r;
	s->results_tail = &r->next;
	s->results_bytes += r->bytes.len;
	if (!s->failed)
		results_pop(s, false);
}

void spool_results_post(struct spool *s, struct spool_results **results)
{
	struct spool_results *r = *results;
	uint64_t none = 0;

	*results = NULL;
	if (r == NULL)
		return;
	assert(s->loop != NULL && r->longest <= s->record_max);
	r->spool = s;
	r->posted_us = s->cfg.clock->mono_us(s->cfg.clock);
	(void)atomic_fetch_add(&s->uncommitted, r->count);
	(void)atomic_compare_exchange_strong(&s->uncommitted_since_us, &none, r->posted_us);
	r->mail.take = results_take;
	loop_post(s->loop, &r->mail);
}

/* ---- a batch ---- */

/* New mail keeps out of the ballast. */
static bool adds_may_enter(const struct spool *s)
{
	return s->stock.n >= STOCK_BALLAST;
}

static bool space_may_come(const struct spool *s)
{
	return !s->stock.no_space && !s->low_space;
}

/* False when some did not fit. */
static bool gather_results(struct spool *s, struct batch *b)
{
	for (struct spool_results *r = s->results; r != NULL; r = r->next)
		if (!batch_take_records(
		            b, (uint8_t *)r->bytes.data, r->written, r->bytes.len, TAKEN_RESULTS, r))
			return false;
	return true;
}

/* A message with results of its own begins only where all fits, if it fits anywhere. */
static bool add_fits(const struct spool *s, const struct batch *b, const struct pending_add *add)
{
	const struct spool_results *r = add->request->results;
	uint64_t bytes;

	if (r == NULL || add->version.next > 0)
		return true;
	bytes = version_bytes(&add->version) + r->bytes.len;
	return batch_fits(b, bytes) || BATCH_HEAD + bytes > s->batch_max;
}

static void gather_adds(struct spool *s, struct batch *b)
{
	uint64_t allowed = clean_allows(s), before = b->length;

	/* one that cannot be stored is answered in its turn */
	for (struct pending_add *add = s->adds; add != NULL && !add->bad && b->length - before < allowed;
	        add = add->next) {
		struct spool_results *r = add->request->results;

		if (!add_fits(s, b, add) || !batch_take_version(b, &add->version, TAKEN_ADD, add))
			break;
		if (r != NULL && !batch_take_records(b, (uint8_t *)r->bytes.data, r->written, r->bytes.len,
		                         TAKEN_ADD_RESULTS, add))
			break;
	}
}

/* A segment's last block is kept for a statement of what is no longer needed: on a full disk that wins segments. */
static void begin(struct spool *s, struct batch *b)
{
	struct segment *seg = s->current;
	uint64_t room = seg->end + DISK_BLOCK < seg->size ? seg->size - seg->end - DISK_BLOCK : 0;

	batch_begin(b, (uint32_t)seg->number, seg->seed, seg->end, room < s->batch_max ? room : s->batch_max);
}

static void gather(struct spool *s, struct batch *b)
{
	begin(s, b);
	/* the results of a DSN must not overtake older ones of the same delivery: the newest wins */
	if (gather_results(s, b) && adds_may_enter(s))
		gather_adds(s, b);
}

static bool batch_write(struct spool *s, struct batch *b)
{
	struct segment *seg = s->current;
	const struct batch_head head = {
	        .segment = seg->number,
	        .nonce = seg->nonce,
	        .sequence = s->sequence,
	        .length = (uint32_t)b->length,
	        .count = b->count,
	        .oldest = segment_oldest_needed(s),
	        .highest_id = atomic_load(&s->last_id),
	};
	uint64_t bytes = batch_finish(b, &head), before = s->cfg.clock->mono_us(s->cfg.clock);
	struct error err;

	assert(b->length <= b->limit && seg->end + bytes <= seg->size);
	if (!disk_write_all(s->io, seg->fd, b->iov, b->n_iov, seg->end) ||
	        s->io->datasync(s->io, seg->fd) < 0) {
		error_sys(&err, "%s: segment %llu: write at %llu", s->path, (unsigned long long)seg->number,
		        (unsigned long long)seg->end);
		spool_fail(s, &err);
		return false;
	}
	seg->end += bytes;
	seg->next_sequence = ++s->sequence;
	s->oldest_stated = head.oldest;
	atomic_store(&s->committed, seg->number << 32 | seg->end);
	metric_add(s->m.batches, 1);
	metric_add(s->m.records, b->count);
	metric_add(s->m.bytes, bytes);
	metric_add(s->m.syncs_us, s->cfg.clock->mono_us(s->cfg.clock) - before);
	return true;
}

/* ---- after the sync ---- */

/* `held` parts of it count as living already. True when the message is whole. */
static bool apply_version(struct spool *s, struct version *v, uint16_t *held, bool last)
{
	struct segment *seg = s->current;

	for (uint16_t i = *held; i < v->next; i++)
		idx_add_record(seg, v->places[i].offset, v->bytes + v->parts[i].start, v->parts[i].head_len);
	if (!last) {
		for (; *held < v->next; (*held)++)
			segment_live(s, &v->places[*held], true);
		return false;
	}
	version_give_up(s, v, *held);
	(void)index_put(&s->index, v->id,
	        &(struct index_version){
	                .at = v->places[0],
	                .more = v->places + 1,
	                .n_more = (uint32_t)v->n_parts - 1,
	                .n_deliveries = v->n_deliveries,
	                .body_file = v->body_file,
	        });
	return true;
}

static void apply_results(struct spool *s, const struct spool_results *r, const struct taken *t)
{
	const uint8_t *bytes = (const uint8_t *)r->bytes.data + t->from;

	idx_add_records(s->current, t->offset, bytes, t->to - t->from);
	results_apply(s, bytes, t->to - t->from, (uint32_t)s->current->number, t->offset);
}

static void apply_add(struct spool *s, const struct taken *t)
{
	struct pending_add *add = t->item;

	assert(add == s->adds); /* all that stood before it has been answered */
	if (!apply_version(s, &add->version, &add->held, t->last))
		return;
	add->held = 0;
	clean_written(s, version_bytes(&add->version));
	metric_add(s->m.messages, 1);
	if (add->request->results == NULL || add->request->results->bytes.len == 0)
		add_finish(s, SPOOL_STORED);
}

static void apply_add_results(struct spool *s, const struct taken *t)
{
	struct pending_add *add = t->item;

	assert(add == s->adds);
	apply_results(s, add->request->results, t);
	add->request->results->written = t->to;
	if (t->last)
		add_finish(s, SPOOL_STORED);
}

static void apply_plain_results(struct spool *s, const struct taken *t)
{
	struct spool_results *r = t->item;

	apply_results(s, r, t);
	clean_written(s, 0);
	r->written = t->to;
	s->results_bytes -= t->to - t->from;
	if (t->last)
		results_pop(s, true);
}

static void apply_copy(struct spool *s, const struct taken *t)
{
	struct copy *copy = t->item;

	if (apply_version(s, &copy->version, &copy->held, t->last)) {
		copy->held = 0;
		clean_copied(s, copy);
	}
}

static void apply(struct spool *s, const struct batch *b)
{
	for (size_t i = 0; i < b->n_taken; i++) {
		const struct taken *t = &b->taken[i];

		switch (t->kind) {
		case TAKEN_ADD:
			apply_add(s, t);
			break;
		case TAKEN_ADD_RESULTS:
			apply_add_results(s, t);
			break;
		case TAKEN_RESULTS:
			apply_plain_results(s, t);
			break;
		case TAKEN_SETTINGS:
			apply_results(s, t->item, t);
			break;
		case TAKEN_COPY:
			apply_copy(s, t);
			break;
		}
	}
	atomic_store(&s->uncommitted_since_us, s->results != NULL ? s->results->posted_us : 0);
	metric_set(s->m.indexed, s->index.n);
	metric_set(s->m.pending, spool_pending_bytes(s));
}

/* ---- turns ---- */

static bool roll(struct spool *s, unsigned leave)
{
	struct error err;

	switch (segment_roll(s, leave, &err)) {
	case ROLL_OK:
		stock_tend(s);
		return true;
	case ROLL_FATAL:
		spool_fail(s, &err);
		return false;
	case ROLL_NO_SPARE:
		stock_tend(s);
		return false;
	}
	return false;
}

/* Refused by ourselves: never written, and nothing to be found of it. */
static void drop_bad_adds(struct spool *s)
{
	while (s->adds != NULL && s->adds->bad) {
		log_error("spool: a message of %u deliveries cannot be stored",
		        s->adds->request->message->n_deliveries);
		add_finish(s, SPOOL_IO_ERROR);
	}
}

/* Of the ballast one segment is for results, one for the cleaner, as long as it can do something with it. */
static unsigned may_leave(const struct spool *s)
{
	if (s->results == NULL)
		return STOCK_BALLAST;
	return s->stock.n <= 1 && !s->closing && clean_needs_spare(s) ? 1 : 0;
}

/* No segment to be had. What was dead without being stated so may give one; results wait for it, or for better days. */
static void stuck(struct spool *s)
{
	if (segment_oldest_needed(s) > s->oldest_stated && commit_statement(s))
		stock_tend(s);
	clean_tend(s);
	if (space_may_come(s))
		return;
	refuse_adds(s, SPOOL_NO_SPACE);
	if (s->results != NULL && !s->stuck_told)
		log_error("spool: %s: the disk is full: results cannot be recorded, delivery waits for space",
		        s->path);
	s->stuck_told = s->results != NULL;
}

/* One batch of results and new messages. False when there is nothing to be done, or it has to wait. */
static bool commit_requests(struct spool *s)
{
	struct batch *b = &s->batch;

	drop_bad_adds(s);
	if (s->results == NULL && s->adds == NULL)
		return false;
	gather(s, b);
	if (b->count == 0 && clean_allows(s) == 0 && s->results == NULL)
		return false; /* the cleaner goes first */
	if (b->count == 0 && roll(s, may_leave(s)))
		gather(s, b);
	if (s->failed)
		return false;
	if (b->count == 0) {
		stuck(s);
		return false;
	}
	s->stuck_told = false;
	if (!batch_write(s, b))
		return false;
	apply(s, b);
	if (!adds_may_enter(s) && !space_may_come(s))
		refuse_adds(s, SPOOL_NO_SPACE);
	return true;
}

/* Returns the first copy that has not all its parts in the batch. */
static struct copy *gather_copies(struct spool *s, struct batch *b, struct copy *copy, uint64_t *taken)
{
	while (copy != NULL && batch_take_version(b, &copy->version, TAKEN_COPY, copy)) {
		*taken += version_bytes(&copy->version);
		copy = *taken < COPIES_BYTES ? clean_next(s, copy) : NULL;
	}
	return copy;
}

static bool goes_on(const struct copy *copy, uint64_t taken)
{
	return copy != NULL && (taken < COPIES_BYTES || copy->version.next > 0);
}

/* Copies of about COPIES_BYTES. One that was begun is ended before anything else: no result may come between its
 * parts, for its merged state would then be older than its end. */
static void commit_copies(struct spool *s)
{
	struct spool_results *settings = clean_settings(s);
	struct copy *copy = clean_next(s, NULL), *rest;
	uint64_t taken = 0;

	while (settings != NULL || goes_on(copy, taken)) {
		begin(s, &s->batch);
		if (settings != NULL)
			(void)batch_take_records(&s->batch, (uint8_t *)settings->bytes.data, 0,
			        settings->bytes.len, TAKEN_SETTINGS, settings);
		rest = gather_copies(s, &s->batch, copy, &taken);
		if (s->batch.count == 0 && !roll(s, 0))
			break;
		if (s->batch.count == 0)
			continue;
		if (!batch_write(s, &s->batch))
			break;
		apply(s, &s->batch);
		spool_results_free(&settings); /* those left over come again */
		copy = rest;
	}
	spool_results_free(&settings);
	if (copy != NULL && copy->version.next > 0 && !s->failed) {
		version_give_up(s, &copy->version, copy->held);
		copy->held = 0;
	}
}

bool commit_statement(struct spool *s)
{
	struct segment *seg = s->current;
	struct batch *b = &s->batch;

	if (s->failed || seg->end + DISK_BLOCK > seg->size)
		return false;
	batch_begin(b, (uint32_t)seg->number, seg->seed, seg->end, DISK_BLOCK);
	return batch_write(s, b);
}

static bool results_are_due(const struct spool *s)
{
	return s->results != NULL && (s->results_due || s->results_bytes >= RESULTS_BYTES);
}

static void again_take(struct mail *mail)
{
	container_of(mail, struct spool, again)->again_posted = false;
}

void commit_again(struct spool *s)
{
	if (s->again_posted || s->loop == NULL)
		return;
	s->again_posted = true;
	loop_post(s->loop, &s->again);
}

static void results_timer(void *ctx)
{
	struct spool *s = ctx;

	s->results_due = true;
}

void commit_turn_end(void *ctx)
{
	struct spool *s = ctx;
	bool wrote = false, copies = clean_has_copies(s);

	if (s->failed) {
		refuse_adds(s, SPOOL_IO_ERROR);
		return;
	}
	if (s->adds != NULL || results_are_due(s))
		wrote = commit_requests(s);
	if (!s->failed && copies)
		commit_copies(s);
	if (s->failed)
		return;
	if (wrote || copies)
		clean_tend(s);
	if (s->results == NULL) {
		s->results_due = false;
		timer_cancel(s->loop, &s->results_timer);
	} else if (!s->results_due && !timer_armed(&s->results_timer)) {
		timer_arm_in(s->loop, &s->results_timer,
		        s->stock.n < STOCK_BALLAST && !space_may_come(s) ? RESULTS_DELAY_SCARCE_US
		                                                         : RESULTS_DELAY_US);
	}
	if (wrote && (s->adds != NULL || results_are_due(s) || clean_has_copies(s)))
		commit_again(s);
}

/* New messages whose writers can no longer be answered are not stored: they would come twice. */
static void drop_adds(struct spool *s)
{
	while (s->adds != NULL) {
		struct pending_add *add = s->adds;

		s->adds = add->next;
		message_unref(&add->request->message);
		spool_results_free(&add->request->results);
		version_free(&add->version);
		mem_free(&add);
	}
	s->adds_tail = &s->adds;
}

bool commit_flush(struct spool *s)
{
	drop_adds(s);
	while (!s->failed && s->results != NULL && commit_requests(s))
		;
	return !s->failed && s->results == NULL;
}

void commit_init(struct spool *s)
{
	batch_init(&s->batch);
	s->adds_tail = &s->adds;
	s->results_tail = &s->results;
	s->again.take = again_take;
	timer_init(&s->results_timer, results_timer, s);
}

void commit_free(struct spool *s)
{
	drop_adds(s);
	while (s->results != NULL) {
		struct spool_results *r = s->results;

		s->results = r->next;
		spool_results_free(&r);
	}
	batch_free(&s->batch);
}
