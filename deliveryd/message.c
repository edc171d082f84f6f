#include "config.h"
#include "message.h"

#include <string.h>

#include "spool/body.h"

#define MESSAGE_POOL_BYTES 1024

struct message *message_new(void)
{
	struct pool *pool = pool_new(MESSAGE_POOL_BYTES);
	struct message *m = pool_alloc(pool, sizeof(*m));

	m->pool = pool;
	m->sender = "";
	atomic_init(&m->refs, 1);
	return m;
}

struct message *message_ref(struct message *m)
{
	(void)atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void message_unref(struct message **message_ptr)
{
	struct message *m = *message_ptr;
	struct pool *pool;

	*message_ptr = NULL;
	if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	body_unref(&m->body);
	pool = m->pool;
	pool_free(&pool);
}

uint32_t message_text_flags(const char *text, size_t len)
{
	uint32_t flags = 0;

	if (len > 0 && (text[0] == '.' || memmem(text, len, "\n.", 2) != NULL))
		flags |= MESSAGE_DOT_LINES;
	for (size_t i = 0; i < len && (flags & MESSAGE_8BIT) == 0; i++)
		if ((unsigned char)text[i] > 127)
			flags |= MESSAGE_8BIT;
	return flags;
}

uint32_t message_dsn_flags(const struct message *m)
{
	bool all_same = true, none = true;
	uint32_t flags = 0;

	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		const struct delivery_spec *d = &m->deliveries[i];

		for (uint32_t r = 0; r < d->n_recipients; r++) {
			const struct recipient *rcpt = &d->recipients[r];

			all_same = all_same && !rcpt->orcpt && rcpt->notify == NOTIFY_ORCPT_SAME;
			none = none && !rcpt->orcpt && rcpt->notify == 0;
			if (rcpt->notify & NOTIFY_SUCCESS)
				flags |= MESSAGE_NOTIFY_SUCCESS;
		}
	}
	if (m->envid || m->ret != RET_NONE || (!all_same && !none))
		return flags | MESSAGE_DSN_KEPT;
	return all_same ? flags | MESSAGE_ORCPT : flags;
}
