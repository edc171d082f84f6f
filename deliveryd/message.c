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
