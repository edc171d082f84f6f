/*
 * Reading a body: from memory, from its record in the log, or from its file.
 *
 * A cursor that has to read sends a `body_read` round: cursor's loop -> spool loop (where is it; pin the segment) ->
 * disk worker -> cursor's loop -> spool loop (unpin). Only the read goes round; a cursor that is freed meanwhile is
 * taken out of it. Nothing is handed out before the record's id and checksums, or the piece's, have been compared.
 *
 * What is read and not yet sent is counted. Above cfg.read_max no reading begins, in the order of asking, and nobody
 * reads ahead; but the next piece of a body that has begun to go out is read as soon as it is needed, so that those who
 * hold memory always come to their end.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "spool/body_file.h"
#include "spool/crc.h"
#include "spool/spool_int.h"

/* An open body file. Closed by a worker: the last close of an unlinked file frees its blocks. */
struct open_file {
	struct work work;
	struct spool *spool;
	int fd;
	struct payload_file file;
	uint8_t *table; /* owns; a CRC32C per piece */
};

struct body_read {
	struct mail mail;       /* to the spool loop, there and back */
	struct body_read *next; /* in spool.reads */
	struct work work;
	struct spool *spool;
	struct loop *loop;
	struct body_cursor *cursor; /* NULL: freed meanwhile */
	uint64_t id;                /* 0: nothing to be resolved */
	struct where at;
	uint32_t seed, record_max;
	int segment_fd;
	bool pinned;
	uint64_t expected; /* counted from its beginning until its end, for what it will bring */
	/* what was read */
	uint8_t *bytes; /* owns */
	const uint8_t *body;
	uint64_t body_n;
	struct open_file *file; /* whose piece is read: the cursor's, or opened by this read */
	bool owns_file;
	struct payload_file info; /* to be opened */
	uint64_t piece;
	bool failed;
	struct error error;
};

struct body_cursor {
	struct spool *spool;
	struct loop *loop;
	void (*wake)(void *ctx);
	void *ctx;
	uint64_t from;     /* still to be skipped */
	struct body *body; /* shares; memory */
	const struct iovec *iov;
	unsigned n_iov;
	size_t iov_at;
	struct iovec shown; /* of what was read */
	uint8_t *bytes;     /* owns: record, or the piece being read from */
	struct open_file *file;
	uint64_t next_piece; /* to be asked for */
	uint8_t *ahead;      /* owns: the piece behind */
	uint64_t ahead_n;
	struct body_read *read; /* under way; one at a time */
	enum { CURSOR_FIRST, CURSOR_STARTED, CURSOR_FAILED } state;
	struct error error;
};

/* ---- memory ---- */

struct buffer {
	uint64_t n;
	_Alignas(16) uint8_t bytes[];
};

static uint8_t *buffer_new(struct spool *s, uint64_t n)
{
	struct buffer *b = mem_alloc(sizeof(*b) + n);

	b->n = n;
	(void)atomic_fetch_add(&s->read_bytes, n);
	return b->bytes;
}

static bool reads_full(const struct spool *s)
{
	return atomic_load(&s->read_bytes) > s->cfg.read_max;
}

/* Both sides look after they have written: one of them sees the other. */
static void uncount(struct spool *s, uint64_t n)
{
	(void)atomic_fetch_sub(&s->read_bytes, n);
	if (atomic_load(&s->reads_waiting) > 0 && !reads_full(s) && !atomic_exchange(&s->reads_posted, true))
		loop_post(s->loop, &s->reads_mail);
}

static void buffer_free(struct spool *s, uint8_t **bytes)
{
	struct buffer *b;

	if (*bytes == NULL)
		return;
	b = container_of(*bytes, struct buffer, bytes[0]);
	*bytes = NULL;
	uncount(s, b->n);
	mem_free(&b);
}

/* ---- on a worker ---- */

static uint64_t n_pieces(const struct payload_file *file)
{
	return (file->size + BODY_PIECE - 1) / BODY_PIECE;
}

static bool read_exact(struct body_read *r, int fd, void *buf, size_t n, uint64_t at, const char *what)
{
	ssize_t got = disk_read_full(r->spool->io, fd, buf, n, at);

	if (got == (ssize_t)n)
		return true;
	r->failed = true;
	if (got < 0)
		return error_sys(&r->error, "reading %s", what);
	return error_set(&r->error, "%s is cut short on the disk", what);
}

static bool damaged(struct body_read *r, const char *what)
{
	r->failed = true;
	return error_set(&r->error, "%s is damaged on the disk", what);
}

static bool read_piece(struct body_read *r)
{
	const struct open_file *f = r->file;
	uint64_t at = r->piece * BODY_PIECE, left = f->file.size > at ? f->file.size - at : 0;

	if (left == 0) /* asked for from the very end */
		return true;
	r->body_n = left < BODY_PIECE ? left : BODY_PIECE;
	r->bytes = buffer_new(r->spool, r->body_n);
	if (!read_exact(r, f->fd, r->bytes, r->body_n, at, "the body file"))
		return false;
	if (crc32c(0, r->bytes, r->body_n) != get_u32(f->table + r->piece * 4))
		return damaged(r, "the body file");
	return true;
}

static bool open_body(struct body_read *r)
{
	struct spool *s = r->spool;
	char name[FORMAT_NAME_SIZE];
	size_t table_n = n_pieces(&r->info) * 4;
	struct open_file *f;
	int fd = s->io->open(s->io, s->bodies_dir, format_name(name, FILE_BODY, r->info.number), O_RDONLY, 0);

	if (fd < 0) {
		r->failed = true;
		return error_sys(&r->error, "%s/bodies/%s: open", s->path, name);
	}
	r->file = f = mem_zalloc(sizeof(*f));
	r->owns_file = true;
	f->spool = s;
	f->fd = fd;
	f->file = r->info;
	f->table = mem_alloc(table_n);
	if (!read_exact(r, fd, f->table, table_n, f->file.size, "the body file"))
		return false;
	if (crc32c(0, f->table, table_n) != f->file.table_crc)
		return damaged(r, "the body file");
	return read_piece(r);
}

static bool read_record(struct body_read *r)
{
	struct record rec;
	struct payload_head head;

	r->bytes = buffer_new(r->spool, r->at.length);
	if (!read_exact(r, r->segment_fd, r->bytes, r->at.length, r->at.offset, "the message"))
		return false;
	if (!record_read(r->bytes, r->at.length, true, r->record_max, r->seed, &rec) || rec.id != r->id ||
	        rec.type != RECORD_MESSAGE || rec.part != 0 || (rec.flags & RECORD_BODY_LOST) != 0 ||
	        !record_body_ok(&rec))
		return damaged(r, "the message");
	if ((rec.flags & RECORD_BODY_FILE) == 0) {
		r->body = rec.body;
		r->body_n = record_body_len(&rec);
		return true;
	}
	if (!payload_get_head(rec.meta, rec.meta_len, &head) || head.file.number == 0)
		return damaged(r, "the message");
	r->info = head.file;
	buffer_free(r->spool, &r->bytes);
	return true;
}

static void read_run(struct work *work)
{
	struct body_read *r = container_of(work, struct body_read, work);

	if (r->at.segment != 0 && !read_record(r))
		return;
	if (r->file != NULL)
		(void)read_piece(r);
	else if (r->info.number != 0)
		(void)open_body(r);
}

static void close_run(struct work *work)
{
	struct open_file *f = container_of(work, struct open_file, work);

	(void)f->spool->io->close(f->spool->io, f->fd);
}

static void close_done(struct mail *mail)
{
	struct open_file *f = container_of(mail, struct open_file, work.done);

	mem_free(&f->table);
	mem_free(&f);
}

static void open_file_close(struct open_file **file_ptr, struct loop *loop)
{
	struct open_file *f = *file_ptr;

	*file_ptr = NULL;
	if (f == NULL)
		return;
	f->work.run = close_run;
	f->work.reply = loop;
	f->work.done.take = close_done;
	workers_do(f->spool->cfg.disk, &f->work);
}

/* ---- on the spool loop ---- */

static void read_unpin(struct mail *mail)
{
	struct body_read *r = container_of(mail, struct body_read, mail);

	segment_unpin(r->spool, r->at.segment);
	mem_free(&r);
}

static void read_done(struct mail *mail);

static void read_start(struct body_read *r, uint64_t expected)
{
	r->expected = expected;
	(void)atomic_fetch_add(&r->spool->read_bytes, expected);
	workers_do(r->spool->cfg.disk, &r->work);
}

static void read_resolve(struct body_read *r)
{
	struct spool *s = r->spool;
	const struct index_entry *e = index_find(&s->index, r->id);
	struct segment *seg = e != NULL ? segment_get(s, e->at.segment) : NULL;

	if (seg == NULL || s->failed) {
		r->failed = true;
		error_set(&r->error,
		        s->failed ? "the spool has failed" : "the message is no longer in the spool");
		loop_post(r->loop, &r->work.done);
		return;
	}
	r->at = e->at;
	r->seed = seg->seed;
	r->record_max = seg->record_max;
	r->segment_fd = seg->fd;
	r->pinned = true;
	seg->pins++;
	read_start(r, e->at.length + (index_body_file(e) != 0 ? BODY_PIECE : 0));
}

static void reads_begin(struct spool *s)
{
	struct body_read *r;

	while ((r = s->reads) != NULL && !reads_full(s)) {
		s->reads = r->next;
		if (s->reads == NULL)
			s->reads_tail = &s->reads;
		(void)atomic_fetch_sub(&s->reads_waiting, 1);
		if (r->id != 0)
			read_resolve(r);
		else
			read_start(r, BODY_PIECE);
	}
}

static void reads_take(struct mail *mail)
{
	struct spool *s = container_of(mail, struct spool, reads_mail);

	atomic_store(&s->reads_posted, false);
	reads_begin(s);
}

static void read_asked(struct mail *mail)
{
	struct body_read *r = container_of(mail, struct body_read, mail);
	struct spool *s = r->spool;

	*s->reads_tail = r;
	s->reads_tail = &r->next;
	(void)atomic_fetch_add(&s->reads_waiting, 1);
	reads_begin(s);
}

void reads_init(struct spool *s)
{
	s->reads_tail = &s->reads;
	s->reads_mail.take = reads_take;
}

void reads_free(struct spool *s)
{
	while (s->reads != NULL) {
		struct body_read *r = s->reads;

		s->reads = r->next;
		mem_free(&r);
	}
}

/* ---- on the cursor's loop ---- */

static void read_free(struct body_read *r)
{
	if (r->owns_file)
		open_file_close(&r->file, r->loop);
	buffer_free(r->spool, &r->bytes);
	uncount(r->spool, r->expected);
	if (!r->pinned) {
		mem_free(&r);
		return;
	}
	r->mail.take = read_unpin;
	loop_post(r->spool->loop, &r->mail);
}

static struct body_read *read_new(struct body_cursor *c)
{
	struct body_read *r = mem_zalloc(sizeof(*r));

	assert(c->read == NULL);
	c->read = r;
	r->spool = c->spool;
	r->loop = c->loop;
	r->cursor = c;
	r->work.run = read_run;
	r->work.reply = c->loop;
	r->work.done.take = read_done;
	return r;
}

static bool all_asked(const struct body_cursor *c)
{
	return c->file == NULL || c->next_piece >= n_pieces(&c->file->file);
}

static void ask_piece(struct body_cursor *c)
{
	struct body_read *r;

	if (c->read != NULL || c->ahead != NULL || c->state != CURSOR_STARTED || all_asked(c))
		return;
	r = read_new(c);
	r->file = c->file;
	r->piece = c->next_piece;
	workers_do(c->spool->cfg.disk, &r->work);
}

static void ask_ahead(struct body_cursor *c)
{
	if (!reads_full(c->spool))
		ask_piece(c);
}

static void show(struct body_cursor *c, uint8_t *bytes, const uint8_t *body, uint64_t n)
{
	buffer_free(c->spool, &c->bytes);
	c->bytes = bytes;
	c->shown = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = n};
	c->iov = &c->shown;
	c->n_iov = n > 0 ? 1 : 0;
	c->iov_at = 0;
}

static void forward(struct body_cursor *c, uint64_t bytes)
{
	while (bytes > 0 && c->n_iov > 0) {
		uint64_t left = c->iov->iov_len - c->iov_at, part = bytes < left ? bytes : left;

		bytes -= part;
		c->iov_at += part;
		if (c->iov_at == c->iov->iov_len) {
			c->iov++;
			c->n_iov--;
			c->iov_at = 0;
		}
	}
}

static void take_piece(struct body_cursor *c, struct body_read *r)
{
	uint8_t *bytes = r->bytes;

	r->bytes = NULL;
	if (r->owns_file) {
		c->file = r->file;
		r->owns_file = false;
		c->from %= BODY_PIECE;
	}
	c->next_piece = r->piece + 1;
	if (c->n_iov > 0) {
		c->ahead = bytes;
		c->ahead_n = r->body_n;
		return;
	}
	show(c, bytes, bytes, r->body_n);
	forward(c, c->from);
	c->from = 0;
}

static void cursor_took(struct body_cursor *c, struct body_read *r)
{
	bool waited = c->n_iov == 0;

	c->read = NULL;
	if (r->failed) {
		c->state = CURSOR_FAILED;
		c->error = r->error;
	} else if (r->file == NULL) {
		c->state = CURSOR_STARTED;
		show(c, r->bytes, r->body, r->body_n);
		r->bytes = NULL;
		forward(c, c->from);
	} else {
		c->state = CURSOR_STARTED;
		take_piece(c, r);
		ask_ahead(c);
	}
	/* a failure behind bytes that are at hand is told when these are used up */
	if (waited)
		c->wake(c->ctx);
}

static void read_done(struct mail *mail)
{
	struct body_read *r = container_of(mail, struct body_read, work.done);

	if (r->cursor != NULL)
		cursor_took(r->cursor, r);
	read_free(r);
}

static void start_memory(struct body_cursor *c, struct body *body)
{
	c->body = body_ref(body);
	c->n_iov = body_iov(body, &c->iov);
	c->state = CURSOR_STARTED;
	forward(c, c->from);
}

struct body_cursor *body_cursor_new(struct spool *s, struct loop *loop, uint64_t message_id,
        struct body *body, uint64_t from_offset, void (*wake)(void *ctx), void *ctx)
{
	struct body_cursor *c = mem_zalloc(sizeof(*c));
	struct body_read *r;

	c->spool = s;
	c->loop = loop;
	c->wake = wake;
	c->ctx = ctx;
	c->from = from_offset;
	if (body != NULL && body_file(body).number == 0) {
		start_memory(c, body);
		return c;
	}
	r = read_new(c);
	r->piece = from_offset / BODY_PIECE;
	if (body != NULL)
		r->info = body_file(body);
	else
		r->id = message_id;
	r->mail.take = read_asked;
	loop_post(s->loop, &r->mail);
	return c;
}

enum body_peek body_cursor_peek(struct body_cursor *c, struct iovec *iov, unsigned max, unsigned *n)
{
	*n = 0;
	if (c->n_iov == 0 && c->ahead != NULL) {
		show(c, c->ahead, c->ahead, c->ahead_n);
		c->ahead = NULL;
		ask_ahead(c);
	}
	for (; *n < max && *n < c->n_iov; (*n)++) {
		iov[*n] = c->iov[*n];
		if (*n == 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + c->iov_at;
			iov->iov_len -= c->iov_at;
		}
	}
	if (c->n_iov > 0)
		return BODY_READY;
	ask_piece(c); /* nobody has read it ahead */
	if (c->state == CURSOR_FAILED)
		return BODY_FAILED;
	return c->read == NULL && c->state == CURSOR_STARTED && all_asked(c) ? BODY_END : BODY_WAIT;
}

void body_cursor_advance(struct body_cursor *c, size_t bytes)
{
	forward(c, bytes);
}

const char *body_cursor_error(const struct body_cursor *c)
{
	return c->error.text;
}

void body_cursor_free(struct body_cursor **cursor_ptr)
{
	struct body_cursor *c = *cursor_ptr;

	*cursor_ptr = NULL;
	if (c == NULL)
		return;
	if (c->read != NULL) {
		c->read->cursor = NULL;
		if (c->file != NULL) { /* goes with the read that uses it */
			c->read->owns_file = true;
			c->file = NULL;
		}
	}
	open_file_close(&c->file, c->loop);
	body_unref(&c->body);
	buffer_free(c->spool, &c->bytes);
	buffer_free(c->spool, &c->ahead);
	mem_free(&c);
}
