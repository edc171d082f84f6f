#include "config.h"
#include "spool/payload.h"

#include <string.h>
#include "spool/record.h"

/* ---- numbers and texts ---- */

static void add_u8(struct str *s, uint8_t v)
{
	str_add_char(s, (char)v);
}

static void add_u32(struct str *s, uint32_t v)
{
	uint8_t bytes[4];

	put_u32(bytes, v);
	str_add_mem(s, bytes, sizeof(bytes));
}

static void add_u64(struct str *s, uint64_t v)
{
	uint8_t bytes[8];

	put_u64(bytes, v);
	str_add_mem(s, bytes, sizeof(bytes));
}

static void add_number(struct str *s, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (uint8_t)(v | 0x80);
	bytes[n++] = (uint8_t)v;
	str_add_mem(s, bytes, n);
}

static void add_text_n(struct str *s, const char *text, size_t len)
{
	add_number(s, (uint64_t)len + 1);
	str_add_mem(s, text, len);
}

static void add_text(struct str *s, const char *text)
{
	if (text == NULL)
		add_number(s, 0);
	else
		add_text_n(s, text, strlen(text));
}

static uint64_t take_number(struct cursor *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		unsigned byte = cursor_u8(c);

		if (shift == 63 && byte > 1)
			break;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return v;
	}
	c->failed = true;
	return 0;
}

static uint32_t take_u32_number(struct cursor *c)
{
	uint64_t v = take_number(c);

	if (v > UINT32_MAX)
		c->failed = true;
	return (uint32_t)v;
}

/* NULL for none, and after a failure. A NUL inside would make two texts of one: refused. */
static const char *take_text(struct cursor *c, struct pool *pool)
{
	uint64_t n = take_number(c);
	const char *bytes;

	if (n == 0 || c->failed)
		return NULL;
	if (n - 1 > cursor_left(c)) {
		c->failed = true;
		return NULL;
	}
	bytes = cursor_bytes(c, (size_t)n - 1);
	if (n > 1 && memchr(bytes, '\0', (size_t)n - 1) != NULL) {
		c->failed = true;
		return NULL;
	}
	return n > 1 ? pool_strndup(pool, bytes, (size_t)n - 1) : pool_strdup(pool, "");
}

/* What goes into commands and file names may hold no control bytes. */
static bool text_clean(const char *text)
{
	for (; text != NULL && *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static const char *take_clean(struct cursor *c, struct pool *pool)
{
	const char *text = take_text(c, pool);

	if (!text_clean(text))
		c->failed = true;
	return text;
}

static const char *take_needed(struct cursor *c, struct pool *pool)
{
	const char *text = take_clean(c, pool);

	if (text == NULL)
		c->failed = true;
	return text;
}

/* ---- messages ---- */

static void add_addr(struct str *s, const struct addr *a)
{
	add_u8(s, a->family);
	if (a->family != AF_INET && a->family != AF_INET6)
		return;
	str_add_mem(s, a->ip, a->family == AF_INET ? 4 : 16);
	add_number(s, a->port);
	add_number(s, a->scope);
}

static void take_addr(struct cursor *c, struct addr *a)
{
	const void *ip;
	uint32_t port;

	a->family = (uint8_t)cursor_u8(c);
	if (a->family == AF_UNSPEC)
		return;
	if (a->family != AF_INET && a->family != AF_INET6) {
		c->failed = true;
		return;
	}
	ip = cursor_bytes(c, a->family == AF_INET ? 4 : 16);
	if (ip != NULL)
		memcpy(a->ip, ip, a->family == AF_INET ? 4 : 16);
	port = take_u32_number(c);
	if (port > UINT16_MAX)
		c->failed = true;
	a->port = (uint16_t)port;
	a->scope = take_u32_number(c);
}

static bool add_delivery(struct str *s, const struct delivery_spec *d)
{
	bool clean = d->target != NULL && d->domain != NULL && text_clean(d->target) &&
	             text_clean(d->domain) && text_clean(d->rule);

	add_text(s, d->target);
	add_text(s, d->rule);
	add_text(s, d->domain);
	add_u8(s, d->has_sticky);
	add_u32(s, d->sticky);
	add_u8(s, d->priority);
	add_number(s, d->n_recipients);
	for (uint32_t i = 0; i < d->n_recipients; i++) {
		const struct recipient *r = &d->recipients[i];

		clean = clean && r->address != NULL && text_clean(r->address) && text_clean(r->orcpt);
		add_text(s, r->address);
		add_text(s, r->orcpt);
		add_u8(s, r->notify);
	}
	return clean;
}

bool payload_put_message(struct str *s, const struct message *m, const struct payload_file *file)
{
	size_t start = s->len;
	bool clean =
	        m->n_deliveries > 0 && m->sender != NULL && text_clean(m->sender) && text_clean(m->envid);

	add_u32(s, 0); /* fixed_len: below */
	add_u32(s, m->n_deliveries);
	add_u64(s, file->number);
	add_u64(s, file->number != 0 ? file->size : m->body_size);
	add_u32(s, file->table_crc);
	add_u64(s, m->received_wall_us);
	add_u32(s, m->flags);
	add_u32(s, m->header_size);
	add_u8(s, m->ret);
	add_addr(s, &m->client_addr);
	add_text(s, m->sender);
	add_text(s, m->client_name);
	add_text(s, m->client_helo);
	add_text(s, m->client_proto);
	add_text(s, m->envid);
	for (uint32_t i = 0; i < m->n_deliveries; i++)
		clean = add_delivery(s, &m->deliveries[i]) && clean;
	if (s->len - start > UINT32_MAX)
		return false;
	put_u32((uint8_t *)s->data + start, (uint32_t)(s->len - start));
	return clean;
}

bool payload_get_head(const uint8_t *meta, size_t n, struct payload_head *h)
{
	if (n < PAYLOAD_MESSAGE_HEAD)
		return false;
	h->fixed_len = get_u32(meta);
	h->n_deliveries = get_u32(meta + 4);
	h->file.number = get_u64(meta + 8);
	h->file.size = get_u64(meta + 16);
	h->file.table_crc = get_u32(meta + 24);
	/* a delivery takes 10 bytes at the least */
	return h->fixed_len >= PAYLOAD_MESSAGE_HEAD && h->n_deliveries > 0 &&
	       h->n_deliveries <= h->fixed_len / 10;
}

static void take_delivery(struct cursor *c, struct pool *pool, struct delivery_spec *d)
{
	d->target = take_needed(c, pool);
	d->rule = take_clean(c, pool);
	d->domain = take_needed(c, pool);
	d->has_sticky = cursor_u8(c) != 0;
	d->sticky = cursor_u32(c);
	d->priority = (uint8_t)cursor_u8(c);
	d->n_recipients = take_u32_number(c);
	if (d->n_recipients > cursor_left(c) / 3) /* the least a recipient takes */
		c->failed = true;
	if (c->failed)
		return;
	d->recipients = pool_alloc(pool, d->n_recipients * sizeof(*d->recipients));
	for (uint32_t i = 0; i < d->n_recipients && !c->failed; i++) {
		d->recipients[i].address = take_needed(c, pool);
		d->recipients[i].orcpt = take_clean(c, pool);
		d->recipients[i].notify = (uint8_t)cursor_u8(c);
	}
}

struct message *payload_get_message(const uint8_t *meta, size_t n, uint64_t id)
{
	struct payload_head head;
	struct message *m;
	struct cursor c;

	if (!payload_get_head(meta, n, &head) || head.fixed_len > n)
		return NULL;
	m = message_new();
	m->id = id;
	m->body_size = head.file.size;
	cursor_init(&c, meta + PAYLOAD_MESSAGE_HEAD, head.fixed_len - PAYLOAD_MESSAGE_HEAD);
	m->received_wall_us = cursor_u64(&c);
	m->flags = cursor_u32(&c);
	m->header_size = cursor_u32(&c);
	m->ret = (uint8_t)cursor_u8(&c);
	take_addr(&c, &m->client_addr);
	m->sender = take_needed(&c, m->pool);
	m->client_name = take_text(&c, m->pool);
	m->client_helo = take_text(&c, m->pool);
	m->client_proto = take_text(&c, m->pool);
	m->envid = take_clean(&c, m->pool);
	m->n_deliveries = head.n_deliveries;
	m->deliveries = pool_alloc(m->pool, m->n_deliveries * sizeof(*m->deliveries));
	for (uint32_t i = 0; i < m->n_deliveries && !c.failed; i++)
		take_delivery(&c, m->pool, &m->deliveries[i]);
	if (c.failed || cursor_left(&c) > 0)
		message_unref(&m);
	return m;
}

/* ---- states and moves ---- */

void payload_put_merged(struct str *s, const struct merged *m)
{
	add_u8(s, m->bits);
	if ((m->bits & MERGED_STATE) != 0) {
		add_number(s, m->state_len);
		str_add_mem(s, m->state, m->state_len);
	}
	if ((m->bits & MERGED_MOVE) != 0) {
		add_number(s, m->move_len);
		str_add_mem(s, m->move, m->move_len);
	}
}

bool payload_get_merged(struct cursor *c, struct merged *m)
{
	*m = (struct merged){.bits = (uint8_t)cursor_u8(c)};
	if ((m->bits & MERGED_STATE) != 0) {
		m->state_len = take_u32_number(c);
		m->state = cursor_bytes(c, m->state_len);
	}
	if ((m->bits & MERGED_MOVE) != 0) {
		m->move_len = take_u32_number(c);
		m->move = cursor_bytes(c, m->move_len);
	}
	return !c->failed;
}

enum state_bits { STATE_HELD = 1, STATE_OPEN = 2, STATE_WHEN = 4 };

static void add_bitmap(struct str *s, const uint32_t *numbers, uint32_t n)
{
	uint32_t last = 0, n_bytes;
	size_t start;

	for (uint32_t i = 0; i < n; i++)
		if (numbers[i] > last)
			last = numbers[i];
	n_bytes = n > 0 ? last / 8 + 1 : 0;
	add_number(s, n_bytes);
	start = s->len;
	for (uint32_t i = 0; i < n_bytes; i++)
		add_u8(s, 0);
	for (uint32_t i = 0; i < n; i++)
		s->data[start + numbers[i] / 8] |= (char)(1 << numbers[i] % 8);
}

void payload_put_state(struct str *s, const struct spool_state *state)
{
	add_u8(s, (uint8_t)((state->held ? STATE_HELD : 0) | (state->open != NULL ? STATE_OPEN : 0) |
	                    (state->last_attempt_wall_us != 0 ? STATE_WHEN : 0)));
	add_number(s, state->attempts);
	add_u64(s, state->next_attempt_wall_us);
	if (state->last_reply == NULL)
		add_text(s, NULL);
	else
		add_text_n(s, state->last_reply, strnlen(state->last_reply, PAYLOAD_REPLY_MAX));
	if (state->last_attempt_wall_us != 0)
		add_u64(s, state->last_attempt_wall_us);
	if (state->open != NULL)
		add_bitmap(s, state->open, state->n_open);
}

static void take_bitmap(struct cursor *c, uint32_t n_recipients, struct pool *pool, struct spool_state *state)
{
	uint32_t n_bytes = take_u32_number(c), *open, n = 0;
	const uint8_t *bits = cursor_bytes(c, n_bytes);

	if (bits == NULL || n_bytes > (n_recipients + 7) / 8) {
		c->failed = true;
		return;
	}
	open = pool_alloc(pool, ((size_t)n_bytes * 8 + 1) * sizeof(*open));
	for (uint32_t i = 0; i < n_bytes * 8; i++) {
		if ((bits[i / 8] >> i % 8 & 1) == 0)
			continue;
		if (i >= n_recipients)
			c->failed = true;
		open[n++] = i;
	}
	state->open = open;
	state->n_open = n;
}

bool payload_get_state(
        const uint8_t *bytes, size_t n, uint32_t n_recipients, struct pool *pool, struct spool_state *state)
{
	struct cursor c;
	unsigned bits;

	*state = (struct spool_state){0};
	cursor_init(&c, bytes, n);
	bits = cursor_u8(&c);
	state->held = (bits & STATE_HELD) != 0;
	state->attempts = take_u32_number(&c);
	state->next_attempt_wall_us = cursor_u64(&c);
	state->last_reply = take_text(&c, pool);
	if (bits & STATE_WHEN)
		state->last_attempt_wall_us = cursor_u64(&c);
	if ((bits & STATE_OPEN) != 0)
		take_bitmap(&c, n_recipients, pool, state);
	return !c.failed && cursor_left(&c) == 0;
}

void payload_put_move(struct str *s, const char *binding, const char *domain)
{
	add_text(s, binding);
	add_text(s, domain);
}

bool payload_get_move(
        const uint8_t *bytes, size_t n, struct pool *pool, const char **binding, const char **domain)
{
	struct cursor c;

	cursor_init(&c, bytes, n);
	*binding = take_clean(&c, pool);
	*domain = take_clean(&c, pool);
	return !c.failed && cursor_left(&c) == 0;
}

void payload_put_setting(struct str *s, const char *key, const char *value)
{
	add_text(s, key);
	add_text(s, value);
}

bool payload_get_setting(
        const uint8_t *bytes, size_t n, struct pool *pool, const char **key, const char **value)
{
	struct cursor c;

	cursor_init(&c, bytes, n);
	*key = take_text(&c, pool);
	*value = take_text(&c, pool);
	return !c.failed && cursor_left(&c) == 0 && *key != NULL;
}
