#include "config.h"
#include "t/lib/fake_spool.h"

#include <assert.h>
#include <string.h>

struct body {
	atomic_uint refs;
	struct spool *spool;
	struct str bytes;
	struct iovec iov;
};

struct body_writer {
	struct spool *spool;
	struct str bytes;
	void (*room)(void *ctx);
	void *room_ctx;
	struct body_writer *next;
};

/* An answer that waits: a body that is complete, or an add */
struct fake_held {
	struct fake_held *next;
	struct body *body;
	void (*done)(void *ctx, struct body *takes, enum body_error);
	void *ctx;
	struct spool_add *add;
};

void fake_spool_init(struct spool *spool, struct loop *loop)
{
	*spool = (struct spool){.loop = loop, .room = UINT64_MAX, .last_id = 0x100};
}

/* --- bodies ------------------------------------------------------------------------------------------------- */

struct body *body_ref(struct body *body)
{
	atomic_fetch_add(&body->refs, 1);
	return body;
}

void body_unref(struct body **p)
{
	struct body *body = *p;

	*p = NULL;
	if (body == NULL || atomic_fetch_sub(&body->refs, 1) != 1)
		return;
	body->spool->bodies--;
	str_free(&body->bytes);
	mem_free(&body);
}

uint64_t body_size(const struct body *body)
{
	return body->bytes.len;
}

unsigned body_iov(const struct body *body, const struct iovec **iov)
{
	*iov = &body->iov;
	return 1;
}

struct body_writer *body_writer_new(struct spool *spool, struct loop *loop, uint64_t announced)
{
	struct body_writer *w;

	assert(loop == spool->loop);
	if (spool->no_writer || announced > spool->room)
		return NULL;
	w = mem_zalloc(sizeof(*w));
	w->spool = spool;
	str_init(&w->bytes);
	w->next = spool->all_writers;
	spool->all_writers = w;
	spool->writers++;
	return w;
}

void body_writer_add(struct body_writer *w, const void *p, size_t len)
{
	str_add_mem(&w->bytes, p, len);
}

uint64_t body_writer_size(const struct body_writer *w)
{
	return w->bytes.len;
}

uint64_t body_writer_backlog(const struct body_writer *w)
{
	return w->spool->backlog;
}

void body_writer_on_room(struct body_writer *w, void (*room)(void *ctx), void *ctx)
{
	w->room = room;
	w->room_ctx = ctx;
}

static void unlink_writer(struct body_writer *w)
{
	struct body_writer **p = &w->spool->all_writers;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	w->spool->writers--;
}

void body_writer_abort(struct body_writer **p)
{
	unlink_writer(*p);
	str_free(&(*p)->bytes);
	mem_free(p);
}

static void complete(struct spool *spool, struct fake_held *h)
{
	enum body_error error = spool->body_error;

	if (error != BODY_OK)
		body_unref(&h->body);
	h->done(h->ctx, h->body, error);
	mem_free(&h);
}

void body_writer_finish(
        struct body_writer *w, void (*done)(void *ctx, struct body *takes, enum body_error), void *ctx)
{
	struct spool *spool = w->spool;
	struct fake_held *h = mem_zalloc(sizeof(*h));
	struct body *body = mem_zalloc(sizeof(*body));

	unlink_writer(w);
	body->spool = spool;
	body->bytes = w->bytes;
	body->iov = (struct iovec){body->bytes.data, body->bytes.len};
	atomic_init(&body->refs, 1);
	spool->bodies++;
	mem_free(&w);
	*h = (struct fake_held){.body = body, .done = done, .ctx = ctx};
	if (!spool->hold_bodies) {
		complete(spool, h);
		return;
	}
	h->next = spool->held;
	spool->held = h;
}

/* --- the spool ---------------------------------------------------------------------------------------------- */

uint64_t spool_new_id(struct spool *spool)
{
	return ++spool->last_id;
}

enum spool_health spool_health(const struct spool *spool)
{
	return spool->health;
}

bool spool_has_room_for(const struct spool *spool, uint64_t bytes)
{
	return bytes <= spool->room;
}

uint64_t spool_pending_bytes(const struct spool *spool)
{
	return spool->pending;
}

static void keep(struct spool *spool, struct message *m)
{
	const struct iovec *iov;
	struct fake_stored *stored;

	body_iov(m->body, &iov);
	spool->stored = mem_array(spool->stored, spool->n_stored + 1, sizeof(*spool->stored));
	stored = &spool->stored[spool->n_stored++];
	stored->message = message_ref(m);
	stored->body = mem_alloc(iov->iov_len + 1);
	memcpy(stored->body, iov->iov_base, iov->iov_len);
	stored->body[iov->iov_len] = '\0';
	stored->len = iov->iov_len;
}

static void answer(struct spool *spool, struct spool_add *add)
{
	add->result = spool->result;
	if (add->result == SPOOL_STORED) {
		keep(spool, add->message);
		atomic_store(&add->refs, 2);
		loop_post(add->queue_loop, &add->queue_mail);
	} else {
		atomic_store(&add->refs, 1);
		message_unref(&add->message);
	}
	loop_post(add->reply_loop, &add->reply);
}

void spool_add(struct spool *spool, struct spool_add *add)
{
	struct fake_held *h;

	if (!spool->hold_adds) {
		answer(spool, add);
		return;
	}
	h = mem_zalloc(sizeof(*h));
	h->add = add;
	h->next = spool->held;
	spool->held = h;
}

void fake_spool_enqueue(struct mail *queue_mail)
{
	struct spool_add *add = container_of(queue_mail, struct spool_add, queue_mail);
	struct spool *spool = add->ctx;

	spool->queued++;
	message_unref(&add->message);
	if (atomic_fetch_sub(&add->refs, 1) == 1)
		mem_free(&add);
}

void fake_spool_release(struct spool *spool)
{
	struct fake_held *h = spool->held, *next;

	spool->held = NULL;
	for (; h; h = next) {
		next = h->next;
		if (h->add) {
			answer(spool, h->add);
			mem_free(&h);
		} else {
			complete(spool, h);
		}
	}
}

void fake_spool_room(struct spool *spool)
{
	struct body_writer *w, *next;

	for (w = spool->all_writers; w; w = next) {
		next = w->next;
		if (w->room)
			w->room(w->room_ctx);
	}
}

void fake_spool_forget(struct spool *spool)
{
	for (unsigned i = 0; i < spool->n_stored; i++) {
		message_unref(&spool->stored[i].message);
		mem_free(&spool->stored[i].body);
	}
	mem_free(&spool->stored);
	spool->n_stored = 0;
}

void fake_spool_close(struct spool *spool)
{
	fake_spool_forget(spool);
	assert(!spool->held);
	assert(spool->writers == 0);
	assert(spool->bodies == 0);
}
