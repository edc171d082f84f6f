/*
 * The spool as others see it: opening, starting, closing, and the state that any thread may look at.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include "base/log.h"
#include "spool/spool_int.h"
#include "spool/start.h"

#define LOCK_WAIT_S 10
#define READ_MAX ((uint64_t)128 * 1024 * 1024)
#define INLINE_MAX ((uint64_t)256 * 1024)

static void metrics_register(struct spool *s)
{
	struct metrics *m = s->cfg.metrics;
	struct spool_metrics *sm = &s->m;

	sm->batches = metrics_counter(m, "bindpost_spool_batches_total", NULL, "Batches synced.");
	sm->records = metrics_counter(m, "bindpost_spool_records_total", NULL, "Records synced.");
	sm->bytes = metrics_counter(m, "bindpost_spool_bytes_total", NULL, "Bytes synced, in whole blocks.");
	sm->messages = metrics_counter(m, "bindpost_spool_messages_total", NULL, "Messages stored.");
	sm->refused =
	        metrics_counter(m, "bindpost_spool_refused_total", NULL, "Messages not stored after all.");
	sm->syncs_us = metrics_counter(m, "bindpost_spool_sync_microseconds_total", NULL,
	        "Time spent in writing and syncing batches.");
	sm->copied = metrics_counter(
	        m, "bindpost_spool_copied_bytes_total", NULL, "Bytes the cleaner copied forward.");
	sm->damaged = metrics_counter(m, "bindpost_spool_damaged_total", NULL, "Damaged places found.");
	sm->segments = metrics_gauge(m, "bindpost_spool_segments", NULL, "Segments in use.");
	sm->spares = metrics_gauge(
	        m, "bindpost_spool_spare_segments", NULL, "Spare segments, the ballast included.");
	sm->live = metrics_gauge(m, "bindpost_spool_live_bytes", NULL, "Bytes of records that still matter.");
	sm->indexed = metrics_gauge(m, "bindpost_spool_messages", NULL, "Messages in the spool.");
	sm->pending = metrics_gauge(
	        m, "bindpost_spool_pending_bytes", NULL, "Bytes of messages received and not yet durable.");
	sm->bodies = metrics_gauge(m, "bindpost_spool_memory_bytes", NULL, "Memory of message bodies.");
	sm->uncommitted =
	        metrics_gauge(m, "bindpost_spool_uncommitted", NULL, "Results posted and not yet durable.");
	sm->read = metrics_gauge(m, "bindpost_spool_read_bytes", NULL, "Bytes read back and not yet sent.");
	sm->free_space =
	        metrics_gauge(m, "bindpost_spool_free_bytes", NULL, "Free space on the file system.");
	sm->health = metrics_gauge(m, "bindpost_spool_health", NULL, "0 well, 1 low on space, 2 failed.");
}

static void limits_set(struct spool *s)
{
	s->cfg.segment_size = format_blocks(s->cfg.segment_size);
	assert(s->cfg.segment_size >= 64 * 1024 && s->cfg.segment_size <= UINT32_MAX);
	s->record_max = format_record_max(s->cfg.segment_size);
	s->batch_max = format_batch_max(s->cfg.segment_size);
	if (s->cfg.read_max == 0)
		s->cfg.read_max = READ_MAX;
	s->inline_max = s->cfg.inline_max != 0 ? s->cfg.inline_max : INLINE_MAX;
	if (s->inline_max > s->record_max / 2)
		s->inline_max = s->record_max / 2;
}

static bool folder_open(struct spool *s, struct error *err)
{
	struct disk_io *io = s->io;
	unsigned wait = s->cfg.lock_wait_s != 0 ? s->cfg.lock_wait_s : LOCK_WAIT_S;

	if (io->mkdir(io, AT_FDCWD, s->path, 0700) < 0 && errno != EEXIST)
		return error_sys(err, "%s: mkdir", s->path);
	s->dir = io->open(io, AT_FDCWD, s->path, O_RDONLY | O_DIRECTORY, 0);
	if (s->dir < 0)
		return error_sys(err, "%s: open", s->path);
	if (io->lock(io, s->dir, wait) < 0) {
		if (errno == EWOULDBLOCK)
			return error_set(
			        err, "%s: another deliveryd uses this spool (waited %u s)", s->path, wait);
		return error_sys(err, "%s: flock", s->path);
	}
	if (io->mkdir(io, s->dir, "bodies", 0700) == 0) {
		if (io->sync_dir(io, s->dir) < 0)
			return error_sys(err, "%s: fsync", s->path);
	} else if (errno != EEXIST) {
		return error_sys(err, "%s/bodies: mkdir", s->path);
	}
	s->bodies_dir = io->open(io, s->dir, "bodies", O_RDONLY | O_DIRECTORY, 0);
	return s->bodies_dir >= 0 || error_sys(err, "%s/bodies: open", s->path);
}

struct spool *spool_open(const struct spool_config *cfg, struct error *err)
{
	struct spool *s = mem_zalloc(sizeof(*s));

	s->cfg = *cfg;
	s->min_free = cfg->min_free;
	s->memory = cfg->memory;
	s->io = cfg->io != NULL ? cfg->io : &disk_io_system;
	s->path = mem_strdup(cfg->path);
	s->dir = s->bodies_dir = -1;
	s->sequence = 1;
	limits_set(s);
	metrics_register(s);
	s->chunks = chunks_new();
	index_init(&s->index, segment_live, s);
	commit_init(s);
	clean_init(s);
	reads_init(s);
	if (!folder_open(s, err) || !start_look(s, &s->start, err))
		spool_close(&s);
	return s;
}

bool spool_replay(
        struct spool *s, spool_live_fn *live, spool_setting_fn *setting, void *ctx, struct error *err)
{
	bool ok;

	s->in_replay = true;
	ok = start_replay(s->start, live, setting, ctx, err);
	s->in_replay = false;
	start_free(&s->start);
	if (!ok) {
		s->failed = true;
		return false;
	}
	atomic_store(&s->committed, s->current->number << 32 | s->current->end);
	(void)malloc_trim(0); /* all envelopes were in memory at once */
	space_look(s);
	return true;
}

static void each_second(void *ctx)
{
	struct spool *s = ctx;

	timer_arm_in(s->loop, &s->second_timer, SECOND_US);
	if (s->failed)
		return;
	space_look(s);
	metric_set(s->m.pending, spool_pending_bytes(s));
	metric_set(s->m.bodies, chunks_bytes(s->chunks));
	metric_set(s->m.uncommitted, spool_uncommitted(s));
	metric_set(s->m.read, atomic_load(&s->read_bytes));
	if (segment_oldest_needed(s) > s->oldest_stated)
		(void)commit_statement(s);
	stock_tend(s);
	clean_tend(s);
}

void spool_start(struct spool *s, struct loop *loop)
{
	assert(s->start == NULL && s->current != NULL);
	s->loop = loop;
	timer_init(&s->second_timer, each_second, s);
	timer_arm_in(loop, &s->second_timer, SECOND_US);
	loop_on_turn_end(loop, commit_turn_end, s);
	stock_tend(s);
	clean_tend(s);
}

void spool_finish(struct spool *s)
{
	if (s->closing)
		return;
	s->closing = true;
	if (s->current == NULL || s->failed)
		return;
	if (!commit_flush(s))
		log_error("spool: %s: results were left uncommitted", s->path);
	if (!s->failed)
		idx_write_now(s, s->current);
}

void spool_close(struct spool **spool_ptr)
{
	struct spool *s = *spool_ptr;

	*spool_ptr = NULL;
	if (s == NULL)
		return;
	spool_finish(s);
	clean_free(s);
	reads_free(s);
	commit_free(s);
	start_free(&s->start);
	index_free(&s->index);
	settings_free(&s->settings);
	segments_free(s);
	if (s->bodies_dir >= 0)
		(void)s->io->close(s->io, s->bodies_dir);
	if (s->dir >= 0)
		(void)s->io->close(s->io, s->dir); /* and with it goes the lock */
	chunks_unref(&s->chunks);
	mem_free(&s->path);
	mem_free(&s);
}

uint64_t spool_new_id(struct spool *s)
{
	uint64_t now = s->cfg.clock->wall_us(s->cfg.clock), last = atomic_load(&s->last_id), id;

	do
		id = now > last ? now : last + 1;
	while (!atomic_compare_exchange_weak(&s->last_id, &last, id));
	return id;
}

enum spool_health spool_health(const struct spool *s)
{
	return (enum spool_health)atomic_load_explicit(&s->health, memory_order_relaxed);
}

bool spool_has_room_for(const struct spool *s, uint64_t bytes)
{
	uint64_t taken =
	        atomic_load_explicit(&chunks_counts(s->chunks)->reserved, memory_order_relaxed) + s->min_free;
	uint64_t free_bytes = atomic_load_explicit(&s->free_bytes, memory_order_relaxed);

	return free_bytes >= taken && free_bytes - taken >= bytes;
}

uint64_t spool_pending_bytes(const struct spool *s)
{
	return atomic_load_explicit(&chunks_counts(s->chunks)->pending, memory_order_relaxed);
}

uint64_t spool_uncommitted(const struct spool *s)
{
	return atomic_load_explicit(&s->uncommitted, memory_order_relaxed);
}

uint64_t spool_uncommitted_since_us(const struct spool *s)
{
	return atomic_load_explicit(&s->uncommitted_since_us, memory_order_relaxed);
}

void spool_set_limits(struct spool *s, uint64_t min_free, uint64_t memory)
{
	atomic_store(&s->min_free, min_free);
	atomic_store(&s->memory, memory);
}

bool spool_keep_in_memory(struct spool *s, uint64_t bytes)
{
	(void)bytes; /* counted already, with the chunks they are in */
	return chunks_bytes(s->chunks) <= s->memory;
}
