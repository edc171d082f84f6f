#include "queue/queue_in.h"

#include <string.h>
#include <strings.h>

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static void trim(const char **text, size_t *len)
{
	while (*len > 0 && blank(**text)) {
		(*text)++;
		(*len)--;
	}
	while (*len > 0 && blank((*text)[*len - 1]))
		(*len)--;
}

/* A field and its continuation lines; its length with them. */
size_t header_field_length(const char *text, size_t len)
{
	const char *end = text;
	do {
		end = memmem(end, len - (size_t)(end - text), "\r\n", 2);
		if (!end)
			return len;
		end += 2;
	} while ((size_t)(end - text) < len && blank(*end));
	return (size_t)(end - text);
}

/* Line breaks are taken out, the blanks after them stay, both ends are trimmed (design section 6). */
static void unfold(const char *text, size_t len, struct str *out)
{
	trim(&text, &len);
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '\r' && text[i] != '\n')
			str_add_char(out, text[i]);
	}
	while (out->len > 0 && blank(out->data[out->len - 1]))
		out->data[--out->len] = 0;
}

/* "Name: value" or "Name" */
static bool field_matches(const char *field, size_t len, const char *word)
{
	const char *colon = memchr(field, ':', len), *word_colon = strchr(word, ':');
	size_t name_len = colon ? (size_t)(colon - field) : 0;
	size_t word_len = word_colon ? (size_t)(word_colon - word) : strlen(word);
	const char *word_name = word;
	struct str value, wanted;
	if (!colon)
		return false;
	trim(&field, &name_len);
	trim(&word_name, &word_len);
	if (name_len != word_len || strncasecmp(field, word_name, name_len) != 0)
		return false;
	if (!word_colon)
		return true;
	str_init(&value);
	str_init(&wanted);
	unfold(colon + 1, len - (size_t)(colon + 1 - field), &value);
	unfold(word_colon + 1, strlen(word_colon + 1), &wanted);
	bool equal = value.len == wanted.len && memcmp(value.data, wanted.data, value.len) == 0;
	str_free(&value);
	str_free(&wanted);
	return equal;
}

static bool any_word(const char *field, size_t len, const struct words *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (field_matches(field, len, w->at[i]))
			return true;
	}
	return false;
}

bool select_header(const struct selection *s, const char *header, size_t len)
{
	while (len > 0) {
		size_t n = header_field_length(header, len);
		if (n == 2 && memcmp(header, "\r\n", 2) == 0)
			break; /* the empty line */
		if (any_word(header, n, &s->header))
			return true;
		header += n;
		len -= n;
	}
	return false;
}

/* --- reading it ------------------------------------------------------------------------------------------------- */

#define HEADER_MAX ((size_t)256 << 10)

struct header_reading {
	struct queue *q;
	struct link link;
	struct body_cursor *cursor;
	struct str text;
	uint32_t no, index;
	uint64_t id;
	header_read *done;
	void *ctx;
};

static void end(struct header_reading *r, bool read)
{
	const struct delivery *d = delivery_at(r->q->slab, r->no);
	/* the number may have been given again */
	bool same = d->state != DELIVERY_FREE && d->id == r->id && d->index == r->index;
	body_cursor_free(&r->cursor);
	link_remove(&r->link);
	r->done(r->ctx, same ? r->no : 0, read ? r->text.data : NULL, r->text.len);
	str_free(&r->text);
	mem_free(&r);
}

static bool complete(const struct header_reading *r)
{
	return r->text.len >= HEADER_MAX || (r->text.len && memmem(r->text.data, r->text.len, "\r\n\r\n", 4));
}

static void read_on(void *ctx)
{
	struct header_reading *r = ctx;
	struct iovec iov[8];
	unsigned n;
	if (!r->cursor)
		return;
	while (!complete(r)) {
		enum body_peek peek = body_cursor_peek(r->cursor, iov, array_len(iov), &n);
		size_t taken = 0;
		if (peek == BODY_WAIT)
			return;
		if (peek != BODY_READY) {
			end(r, peek == BODY_END);
			return;
		}
		for (unsigned i = 0; i < n; i++) {
			size_t room = r->text.len < HEADER_MAX ? HEADER_MAX - r->text.len : 0;
			str_add_mem(&r->text, iov[i].iov_base, iov[i].iov_len < room ? iov[i].iov_len : room);
			taken += iov[i].iov_len;
		}
		body_cursor_advance(r->cursor, taken);
	}
	end(r, true);
}

void header_read_start(struct queue *q, struct link *all, uint32_t no, header_read *done, void *ctx)
{
	const struct delivery *d = delivery_at(q->slab, no);
	struct header_reading *r = mem_zalloc(sizeof(*r));
	r->q = q;
	r->no = no;
	r->id = d->id;
	r->index = d->index;
	r->done = done;
	r->ctx = ctx;
	str_init(&r->text);
	link_init(&r->link);
	link_add_tail(all, &r->link);
	r->cursor = body_cursor_new(q->spool, q->loop, d->id, d->body, 0, read_on, r);
	read_on(r);
}

void header_reads_cancel(struct link *all)
{
	while (link_linked(all)) {
		struct header_reading *r = container_of(all->next, struct header_reading, link);
		link_remove(&r->link);
		body_cursor_free(&r->cursor);
		str_free(&r->text);
		mem_free(&r);
	}
}
