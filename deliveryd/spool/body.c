/*
 * Bodies in memory, and the writer that makes either kind.
 */
#include "config.h"
#include <assert.h>
#include <string.h>
#include "spool/body_file.h"
#include "spool/body_int.h"
#include "spool/crc.h"
#include "spool/spool_int.h"

#define IOV_FEW 4

struct body {
	atomic_uint refs;
	struct chunks *chunks;     /* lives while a chunk is out */
	_Atomic uint64_t pending;  /* counted as not yet durable */
	_Atomic uint64_t reserved; /* of the disk, from DATA to the reply */
	uint64_t size;
	uint32_t crc;
	struct payload_file file;        /* number 0: in memory */
	struct iovec *iov, few[IOV_FEW]; /* chunks; iov_len is what is used of each */
	unsigned n_iov, iov_size;
};

static size_t chunk_size(unsigned i)
{
	return i == 0 ? CHUNK_SMALL : CHUNK_LARGE;
}

static struct body *body_new(struct spool *s)
{
	struct body *b = mem_zalloc(sizeof(*b));

	atomic_init(&b->refs, 1);
	b->chunks = chunks_ref(s->chunks);
	b->iov = b->few;
	b->iov_size = IOV_FEW;
	return b;
}

struct body *body_ref(struct body *b)
{
	(void)atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

static void chunks_drop(struct body *b)
{
	for (unsigned i = 0; i < b->n_iov; i++)
		chunk_put(b->chunks, b->iov[i].iov_base, chunk_size(i));
	b->n_iov = 0;
	if (b->iov != b->few)
		mem_free(&b->iov);
	b->iov = b->few;
	b->iov_size = IOV_FEW;
}

void body_unref(struct body **body_ptr)
{
	struct body *b = *body_ptr;

	*body_ptr = NULL;
	if (b == NULL || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	body_settle(b);
	chunks_drop(b);
	chunks_unref(&b->chunks);
	mem_free(&b);
}

uint64_t body_size(const struct body *b)
{
	return b->size;
}

unsigned body_iov(const struct body *b, const struct iovec **iov)
{
	*iov = b->iov;
	return b->n_iov;
}

uint32_t body_crc(const struct body *b)
{
	return b->crc;
}

struct payload_file body_file(const struct body *b)
{
	return b->file;
}

static void count_back(_Atomic uint64_t *of_all, _Atomic uint64_t *own)
{
	uint64_t bytes = atomic_exchange_explicit(own, 0, memory_order_relaxed);

	if (bytes > 0)
		(void)atomic_fetch_sub_explicit(of_all, bytes, memory_order_relaxed);
}

void body_settle(struct body *b)
{
	struct chunks_counts *counts = chunks_counts(b->chunks);

	count_back(&counts->pending, &b->pending);
	count_back(&counts->reserved, &b->reserved);
}

/* ---- writing ---- */

struct body_writer {
	struct spool *spool;
	struct loop *loop;
	struct body *body;
	struct body_file_writer *file; /* once it is large */
	void (*room)(void *ctx);
	void *room_ctx;
	void (*done)(void *ctx, struct body *takes, enum body_error);
	void *done_ctx;
	struct mail finished; /* of a small one */
};

struct body_writer *body_writer_new(struct spool *s, struct loop *loop, uint64_t announced)
{
	struct body_writer *w;

	if (!spool_has_room_for(s, announced))
		return NULL;
	w = mem_zalloc(sizeof(*w));
	w->spool = s;
	w->loop = loop;
	w->body = body_new(s);
	atomic_init(&w->body->reserved, announced);
	(void)atomic_fetch_add_explicit(&chunks_counts(s->chunks)->reserved, announced, memory_order_relaxed);
	return w;
}

static struct iovec *chunk_add(struct body *b)
{
	if (b->n_iov == b->iov_size) {
		struct iovec *more = mem_array(NULL, b->iov_size * 2, sizeof(*more));

		memcpy(more, b->iov, b->n_iov * sizeof(*more));
		if (b->iov != b->few)
			mem_free(&b->iov);
		b->iov = more;
		b->iov_size *= 2;
	}
	b->iov[b->n_iov] =
	        (struct iovec){.iov_base = chunk_get(b->chunks, chunk_size(b->n_iov)), .iov_len = 0};
	return &b->iov[b->n_iov++];
}

static void memory_add(struct body *b, const uint8_t *bytes, size_t n)
{
	b->crc = crc32c(b->crc, bytes, n);
	b->size += n;
	while (n > 0) {
		struct iovec *last = b->n_iov > 0 ? &b->iov[b->n_iov - 1] : NULL;
		size_t room = last != NULL ? chunk_size(b->n_iov - 1) - last->iov_len : 0, part;

		if (room == 0) {
			last = chunk_add(b);
			room = chunk_size(b->n_iov - 1);
		}
		part = n < room ? n : room;
		memcpy((uint8_t *)last->iov_base + last->iov_len, bytes, part);
		last->iov_len += part;
		bytes += part;
		n -= part;
	}
}

/* It has become large: what is in memory goes to a file of its own, and so does the rest. */
static void go_to_file(struct body_writer *w)
{
	struct body *b = w->body;

	w->file = body_file_writer_new(w->spool, w->loop);
	if (w->room != NULL)
		body_file_writer_on_room(w->file, w->room, w->room_ctx);
	for (unsigned i = 0; i < b->n_iov; i++)
		body_file_writer_add(w->file, b->iov[i].iov_base, b->iov[i].iov_len);
	chunks_drop(b);
	count_back(&chunks_counts(b->chunks)->pending, &b->pending);
}

void body_writer_add(struct body_writer *w, const void *bytes, size_t n)
{
	struct body *b = w->body;

	if (w->file == NULL && b->size + n > w->spool->inline_max)
		go_to_file(w);
	if (w->file != NULL) {
		b->size += n;
		if (b->size > atomic_load_explicit(&b->reserved, memory_order_relaxed) &&
		        !spool_has_room_for(w->spool, 0))
			body_file_writer_refuse(w->file);
		body_file_writer_add(w->file, bytes, n);
		return;
	}
	memory_add(b, bytes, n);
	(void)atomic_fetch_add_explicit(&b->pending, n, memory_order_relaxed);
	(void)atomic_fetch_add_explicit(&chunks_counts(b->chunks)->pending, n, memory_order_relaxed);
}

uint64_t body_writer_size(const struct body_writer *w)
{
	return w->body->size;
}

uint64_t body_writer_backlog(const struct body_writer *w)
{
	return w->file != NULL ? body_file_writer_backlog(w->file) : 0;
}

void body_writer_on_room(struct body_writer *w, void (*room)(void *ctx), void *ctx)
{
	w->room = room;
	w->room_ctx = ctx;
	if (w->file != NULL)
		body_file_writer_on_room(w->file, room, ctx);
}

static void small_finished(struct mail *mail)
{
	struct body_writer *w = container_of(mail, struct body_writer, finished);
	void (*done)(void *ctx, struct body *takes, enum body_error) = w->done;
	void *ctx = w->done_ctx;
	struct body *b = w->body;

	mem_free(&w);
	done(ctx, b, BODY_OK);
}

static void file_finished(void *ctx, const struct payload_file *file, enum body_error error)
{
	struct body_writer *w = ctx;
	void (*done)(void *ctx, struct body *takes, enum body_error) = w->done;
	void *done_ctx = w->done_ctx;
	struct body *b = w->body;

	b->file = *file;
	if (error != BODY_OK)
		body_unref(&b);
	mem_free(&w);
	done(done_ctx, b, error);
}

void body_writer_finish(
        struct body_writer *w, void (*done)(void *ctx, struct body *takes, enum body_error), void *ctx)
{
	w->done = done;
	w->done_ctx = ctx;
	if (w->file != NULL) {
		body_file_writer_finish(w->file, file_finished, w);
		return;
	}
	w->finished.take = small_finished;
	loop_post(w->loop, &w->finished);
}

void body_writer_abort(struct body_writer **writer_ptr)
{
	struct body_writer *w = *writer_ptr;

	*writer_ptr = NULL;
	if (w == NULL)
		return;
	if (w->file != NULL)
		body_file_writer_abort(&w->file);
	body_unref(&w->body);
	mem_free(&w);
}
