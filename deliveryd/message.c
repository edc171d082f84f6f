#include "config.h"
#include "message.h"

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
