#include "queue/queue_in.h"

#include <ctype.h>
#include <string.h>

/*
 * A million deliveries wait for a few reasons: equal texts are kept once. Where a receiver puts something of its own
 * into each reply, only so much of them is kept here; past it the codes alone are, and the text is in the spool and in
 * the event log.
 */
#define TEXTS_MAX ((size_t)32 << 20)

/* "451 4.7.1", of "451 4.7.1 try later (id 4711)" */
static void codes_alone(const char *text, char *out, size_t size)
{
	size_t n = 0;
	while (text[n] && n + 1 < size && (isdigit((unsigned char)text[n]) || strchr(" .", text[n])))
		n++;
	while (n > 0 && text[n - 1] == ' ')
		n--;
	memcpy(out, text, n);
	out[n] = 0;
}

void last_reply_set(struct queue *q, struct delivery *d, const char *text, uint64_t wall_us)
{
	char codes[16];
	uint32_t was = d->last;
	if (text && intern_bytes(q->replies) > TEXTS_MAX && !intern_find(q->replies, text)) {
		codes_alone(text, codes, sizeof(codes));
		text = codes;
	}
	d->last = intern_get(q->replies, text);
	d->last_s = (uint32_t)(wall_us / SECOND_US);
	intern_drop(q->replies, was);
}

const char *last_reply_text(const struct queue *q, const struct delivery *d)
{
	return d->last ? intern_text(q->replies, d->last) : NULL;
}
