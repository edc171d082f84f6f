/*
 * Records read back for the spool loop (the cleaner, spool_load()): their segments are pinned, a worker reads and
 * checks, the loop gets them back.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/log.h"
#include "spool/payload.h"
#include "spool/spool_int.h"

struct fetch_item {
	uint64_t id;
	struct where at;
	int fd;
	uint32_t seed, record_max;
	uint8_t *bytes; /* owns */
	struct record record;
	enum fetch_result result;
	int error_number;
};

struct fetch {
	struct work work;
	struct spool *spool;
	struct fetch_item *items; /* owns */
	size_t n, size, bytes;
	void (*done)(void *ctx, struct fetch *);
	void *ctx;
};

void segment_unpin(struct spool *s, uint64_t number)
{
	struct segment *seg = segment_get(s, number);

	assert(seg != NULL && seg->pins > 0);
	if (--seg->pins == 0 && number < s->oldest_stated)
		stock_tend(s);
}

struct fetch *fetch_new(struct spool *s, void (*done)(void *ctx, struct fetch *), void *ctx)
{
	struct fetch *f = mem_zalloc(sizeof(*f));

	f->spool = s;
	f->done = done;
	f->ctx = ctx;
	return f;
}

size_t fetch_add(struct fetch *f, uint64_t id, const struct where *at)
{
	struct segment *seg = segment_get(f->spool, at->segment);

	assert(seg != NULL);
	if (f->n == f->size) {
		f->size = f->size * 2 + 8;
		f->items = mem_array(f->items, f->size, sizeof(*f->items));
	}
	f->items[f->n] = (struct fetch_item){
	        .id = id,
	        .at = *at,
	        .fd = seg->fd,
	        .seed = seg->seed,
	        .record_max = seg->record_max,
	};
	seg->pins++;
	f->bytes += at->length;
	return f->n++;
}

size_t fetch_bytes(const struct fetch *f)
{
	return f->bytes;
}

static void item_read(struct disk_io *io, struct fetch_item *item)
{
	ssize_t got;

	item->bytes = mem_alloc(item->at.length);
	got = disk_read_full(io, item->fd, item->bytes, item->at.length, item->at.offset);
	if (got < 0) {
		item->result = FETCH_ERROR;
		item->error_number = errno;
	} else if (!record_read(
	                   item->bytes, (size_t)got, true, item->record_max, item->seed, &item->record) ||
	           item->record.id != item->id || item->record.length != item->at.length) {
		item->result = FETCH_DAMAGED;
	} else {
		item->result = record_body_ok(&item->record) ? FETCH_OK : FETCH_BODY_DAMAGED;
	}
}

static void fetch_run(struct work *work)
{
	struct fetch *f = container_of(work, struct fetch, work);

	for (size_t i = 0; i < f->n; i++)
		item_read(f->spool->io, &f->items[i]);
}

static void fetch_done(struct mail *mail)
{
	struct fetch *f = container_of(mail, struct fetch, work.done);

	for (size_t i = 0; i < f->n; i++)
		segment_unpin(f->spool, f->items[i].at.segment);
	f->done(f->ctx, f);
}

void fetch_start(struct fetch *f)
{
	f->work.run = fetch_run;
	f->work.reply = f->spool->loop;
	f->work.done.take = fetch_done;
	workers_do(f->spool->cfg.disk, &f->work);
}

enum fetch_result fetch_record(const struct fetch *f, size_t i, struct record *r)
{
	*r = f->items[i].record;
	return f->items[i].result;
}

int fetch_error(const struct fetch *f, size_t i)
{
	return f->items[i].error_number;
}

void fetch_free(struct fetch **fetch_ptr)
{
	struct fetch *f = *fetch_ptr;

	if (f == NULL)
		return;
	for (size_t i = 0; i < f->n; i++)
		mem_free(&f->items[i].bytes);
	mem_free(&f->items);
	mem_free(fetch_ptr);
}

/* ---- spool_load() ---- */

static void load_answer(struct spool_load *load)
{
	loop_post(load->reply_loop, &load->reply);
}

static void load_done(void *ctx, struct fetch *f)
{
	struct spool_load *load = ctx;
	struct str meta;

	str_init(&meta);
	for (size_t i = 0; i < f->n; i++) {
		struct record r;
		enum fetch_result result = fetch_record(f, i, &r);

		if (result == FETCH_ERROR || result == FETCH_DAMAGED) {
			errno = fetch_error(f, i);
			if (result == FETCH_ERROR)
				error_sys(&load->error, "reading it");
			else
				error_set(&load->error, "it is damaged on the disk");
			break;
		}
		str_add_mem(&meta, r.meta, r.meta_len);
		if (i + 1 < f->n)
			continue;
		load->message = payload_get_message((const uint8_t *)meta.data, meta.len, load->id);
		if (load->message == NULL)
			error_set(&load->error, "its envelope cannot be read");
	}
	str_free(&meta);
	fetch_free(&f);
	load_answer(load);
}

static void load_take(struct mail *mail)
{
	struct spool_load *load = container_of(mail, struct spool_load, mail);
	struct spool *s = load->spool;
	struct index_entry *e = index_find(&s->index, load->id);
	const struct where *more;
	struct fetch *f;
	uint32_t n;

	load->message = NULL;
	if (e == NULL || s->failed) {
		error_set(&load->error, e == NULL ? "not in the spool" : "the spool has failed");
		load_answer(load);
		return;
	}
	f = fetch_new(s, load_done, load);
	(void)fetch_add(f, load->id, &e->at);
	n = index_more(e, &more);
	for (uint32_t i = 0; i < n; i++)
		(void)fetch_add(f, load->id, &more[i]);
	fetch_start(f);
}

void spool_load(struct spool *s, struct spool_load *load)
{
	load->spool = s;
	load->mail.take = load_take;
	loop_post(s->loop, &load->mail);
}
