#include "session/smtp_data.h"

#include <assert.h>
#include <string.h>

static const char dot[] = ".";
static const char end_of_data[] = "\r\n.\r\n";

void smtp_data_init(struct smtp_data *d, struct body_cursor *cursor, uint64_t size, bool stuff)
{
	*d = (struct smtp_data){.cursor = cursor, .left = size, .stuff = stuff, .line_start = true};
	memcpy(d->tail, "\r\n", 2); /* an empty body needs no line end of its own */
}

void smtp_data_init_chunk(struct smtp_data *d, struct body_cursor *cursor, uint64_t size)
{
	smtp_data_init(d, cursor, size, false);
	d->chunk = true;
}

static void add_iov(struct smtp_data *d, struct iovec *iov, int kind, const void *p, size_t len)
{
	iov[d->n_iov].iov_base = (void *)p;
	iov[d->n_iov].iov_len = len;
	d->kind[d->n_iov] = kind;
	d->n_iov++;
}

/*
 * One chunk of the body, with a dot put in where a line begins with one. False when the iovecs ran out in the
 * middle. `start`: the chunk begins a line; `dotted`: the dot in front of its first byte is out already.
 */
static bool add_stuffed(struct smtp_data *d, struct iovec *iov, unsigned max, const char *p, size_t len,
        bool start, bool dotted)
{
	const char *end = p + len;
	const char *next;

	while (p < end) {
		if (d->n_iov + 2 > max)
			return false;
		if (start && *p == '.' && !dotted)
			add_iov(d, iov, DATA_DOT, dot, 1);
		dotted = false;
		next = memmem(p, (size_t)(end - p), "\n.", 2);
		next = next ? next + 1 : end;
		add_iov(d, iov, DATA_BODY, p, (size_t)(next - p));
		start = true;
		p = next;
	}
	return true;
}

/* Which end of data follows the bytes in iov: the body's own last CRLF serves as the first. */
static const char *find_end(const struct smtp_data *d, const struct iovec *iov)
{
	char tail[2] = {d->tail[0], d->tail[1]};
	unsigned i;

	for (i = 0; i < d->n_iov; i++) {
		const char *p = iov[i].iov_base;
		size_t len = iov[i].iov_len;

		if (d->kind[i] != DATA_BODY)
			continue;
		tail[0] = len > 1 ? p[len - 2] : tail[1];
		tail[1] = p[len - 1];
	}
	return tail[0] == '\r' && tail[1] == '\n' ? end_of_data + 2 : end_of_data;
}

static enum body_peek fill_end(struct smtp_data *d, struct iovec *iov)
{
	if (*d->end == '\0')
		return BODY_END;
	d->end_next = d->end;
	d->ends = true;
	add_iov(d, iov, DATA_END, d->end, strlen(d->end));
	return BODY_READY;
}

enum body_peek smtp_data_fill(struct smtp_data *d, struct iovec *iov, unsigned max, unsigned *n)
{
	struct iovec chunks[SMTP_DATA_IOV];
	unsigned n_chunks = 0, i;
	uint64_t left = d->left;
	bool start = d->line_start, dotted = d->dot_sent, whole = true;
	enum body_peek peek;

	if (max > SMTP_DATA_IOV)
		max = SMTP_DATA_IOV;
	assert(max >= 4);
	d->n_iov = 0;
	d->end_next = NULL;
	d->ends = false;
	*n = 0;
	if (d->chunk && left == 0)
		return BODY_END;
	if (!d->end && left > 0) {
		peek = body_cursor_peek(d->cursor, chunks, max - 1, &n_chunks);
		if (peek != BODY_READY)
			return peek == BODY_END ? BODY_FAILED : peek;
	}
	for (i = 0; i < n_chunks && whole && left > 0; i++) {
		const char *p = chunks[i].iov_base;
		size_t len = chunks[i].iov_len;

		if (len > left)
			len = left; /* never more than was announced */
		if (d->stuff)
			whole = add_stuffed(d, iov, max - 1, p, len, start, dotted);
		else
			add_iov(d, iov, DATA_BODY, p, len);
		start = p[len - 1] == '\n';
		dotted = false;
		left -= len;
	}
	if (d->end) {
		peek = fill_end(d, iov);
		*n = d->n_iov;
		return peek;
	}
	d->ends = whole && left == 0;
	if (d->ends && !d->chunk) {
		d->end_next = find_end(d, iov);
		add_iov(d, iov, DATA_END, d->end_next, strlen(d->end_next));
	}
	*n = d->n_iov;
	return BODY_READY;
}

static void sent_body(struct smtp_data *d, const char *p, size_t len)
{
	d->tail[0] = len > 1 ? p[len - 2] : d->tail[1];
	d->tail[1] = p[len - 1];
	d->line_start = p[len - 1] == '\n';
	d->dot_sent = false;
	d->left -= len;
}

void smtp_data_sent(struct smtp_data *d, const struct iovec *iov, size_t bytes)
{
	size_t advance = 0;
	unsigned i;

	/* the end of data is chosen before the body's bytes are given back: p below is borrowed from the
	 * cursor */
	if (d->end_next)
		d->end = d->end_next;
	for (i = 0; i < d->n_iov && bytes > 0; i++) {
		size_t len = iov[i].iov_len < bytes ? iov[i].iov_len : bytes;

		bytes -= len;
		switch (d->kind[i]) {
		case DATA_BODY:
			sent_body(d, iov[i].iov_base, len);
			advance += len;
			break;
		case DATA_DOT:
			d->dot_sent = true;
			break;
		case DATA_END:
			d->end += len;
			break;
		}
	}
	assert(bytes == 0);
	if (d->left > 0)
		d->end = NULL; /* not there yet */
	if (advance > 0)
		body_cursor_advance(d->cursor, advance);
}

bool smtp_data_ends(const struct smtp_data *d)
{
	return d->ends;
}
