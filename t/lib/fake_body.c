#include "t/lib/fake_body.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>
#include "base/mem.h"
#include "message.h"
#include "spool/spool.h"

struct body {
	atomic_uint refs;
	char *bytes;
	size_t len, piece;
	uint64_t claim, wait_at, fail_at;
	struct body_cursor *cursor; /* the last one made */
	struct iovec iov;
};

struct body_cursor {
	struct body *body;
	struct loop *loop;
	uint64_t at;
	void (*wake)(void *ctx);
	void *ctx;
	struct timer later;
};

static struct body *in_spool;
static atomic_uint cursors;

struct body *fake_body_new(const void *bytes, size_t len)
{
	struct body *b = mem_zalloc(sizeof(*b));

	atomic_init(&b->refs, 1);
	b->bytes = mem_alloc(len + 1);
	memcpy(b->bytes, bytes, len);
	b->len = len;
	b->claim = len;
	b->wait_at = UINT64_MAX;
	b->fail_at = UINT64_MAX;
	return b;
}

void fake_body_pieces(struct body *b, size_t bytes)
{
	b->piece = bytes;
}

void fake_body_wait_at(struct body *b, uint64_t offset)
{
	b->wait_at = offset;
}

void fake_body_go(struct body *b)
{
	b->wait_at = UINT64_MAX;
	if (b->cursor)
		timer_arm_in(b->cursor->loop, &b->cursor->later, 0);
}

void fake_body_fail_at(struct body *b, uint64_t offset)
{
	b->fail_at = offset;
}

void fake_body_claim(struct body *b, uint64_t size)
{
	b->claim = size;
}

void fake_body_in_spool(struct body *b)
{
	in_spool = b;
}

unsigned fake_body_cursors(void)
{
	return cursors;
}

/* --- spool/body.h ------------------------------------------------------------------------------------ */

struct body *body_ref(struct body *b)
{
	atomic_fetch_add(&b->refs, 1);
	return b;
}

void body_unref(struct body **pb)
{
	struct body *b = *pb;

	*pb = NULL;
	if (!b || atomic_fetch_sub(&b->refs, 1) > 1)
		return;
	assert(!b->cursor);
	mem_free(&b->bytes);
	mem_free(&b);
}

uint64_t body_size(const struct body *b)
{
	return b->claim;
}

unsigned body_iov(const struct body *b, const struct iovec **iov)
{
	struct body *mine = (struct body *)b;

	mine->iov = (struct iovec){.iov_base = b->bytes, .iov_len = b->len};
	*iov = &mine->iov;
	return 1;
}

static void later(void *ctx)
{
	struct body_cursor *c = ctx;

	c->wake(c->ctx);
}

struct body_cursor *body_cursor_new(struct spool *spool, struct loop *loop, uint64_t message_id,
        struct body *body, uint64_t from_offset, void (*wake)(void *ctx), void *ctx)
{
	struct body_cursor *c = mem_zalloc(sizeof(*c));

	(void)spool;
	(void)message_id;
	c->body = body ? body : in_spool;
	assert(c->body);
	c->loop = loop;
	c->at = from_offset;
	c->wake = wake;
	c->ctx = ctx;
	timer_init(&c->later, later, c);
	c->body->cursor = c;
	cursors++;
	return c;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

enum body_peek body_cursor_peek(struct body_cursor *c, struct iovec *iov, unsigned max, unsigned *n)
{
	const struct body *b = c->body;
	uint64_t end = least(least(b->len, b->wait_at), b->fail_at);
	uint64_t at = c->at, piece;

	*n = 0;
	if (at >= b->fail_at)
		return BODY_FAILED;
	if (at >= b->wait_at)
		return BODY_WAIT;
	while (at < end && *n < max) {
		piece = b->piece > 0 ? least(b->piece, end - at) : end - at;
		iov[(*n)++] = (struct iovec){.iov_base = b->bytes + at, .iov_len = (size_t)piece};
		at += piece;
	}
	return *n > 0 ? BODY_READY : BODY_END;
}

void body_cursor_advance(struct body_cursor *c, size_t bytes)
{
	c->at += bytes;
	assert(c->at <= c->body->len);
}

const char *body_cursor_error(const struct body_cursor *c)
{
	return c->at >= c->body->fail_at ? "checksum does not match" : NULL;
}

void body_cursor_free(struct body_cursor **pc)
{
	struct body_cursor *c = *pc;

	if (!c)
		return;
	timer_cancel(c->loop, &c->later);
	if (c->body->cursor == c)
		c->body->cursor = NULL;
	cursors--;
	mem_free(pc);
}

/* Every third envelope cannot be read back; the others have something to say of each recipient. */
void spool_load(struct spool *spool, struct spool_load *load)
{
	struct message *m = NULL;

	(void)spool;
	if (load->id % 3 != 0) {
		m = message_new();
		m->envid = "a+2Bb";
		m->ret = RET_HDRS;
		m->n_deliveries = 1;
		m->deliveries = pool_alloc(m->pool, sizeof(*m->deliveries));
		m->deliveries->n_recipients = 2;
		m->deliveries->recipients = pool_alloc(m->pool, 2 * sizeof(struct recipient));
		m->deliveries->recipients[0] = (struct recipient){.address = "", .notify = NOTIFY_NEVER};
		m->deliveries->recipients[1] = (struct recipient){.address = "", .orcpt = "rfc822;x@y.test"};
	}
	load->message = m;
	loop_post(load->reply_loop, &load->reply);
}
