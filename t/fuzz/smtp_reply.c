/*
 * Replies of SMTP servers: the same bytes, whole and in pieces, must come to the same; nothing grows past its bounds.
 * The first byte of the input is the size of the pieces.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "session/smtp_commands.h"
#include "session/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void offer_line(void *ctx, unsigned number, const char *text, size_t len)
{
	(void)number;
	assert(len <= SMTP_REPLY_LINE_MAX);
	smtp_offer_line(ctx, text, len);
}

static enum smtp_reply_result feed(struct smtp_reply *r, struct smtp_offer *offer, const uint8_t *data,
        size_t size, size_t piece, size_t *at)
{
	enum smtp_reply_result result = SMTP_REPLY_MORE;
	size_t used;

	*offer = (struct smtp_offer){0};
	smtp_reply_init(r, offer_line, offer);
	for (*at = 0; *at < size && result == SMTP_REPLY_MORE; *at += used) {
		size_t n = size - *at < piece ? size - *at : piece;
		char *exact = malloc(n); /* so that a read behind it is seen */

		assert(exact);
		memcpy(exact, data + *at, n);
		used = n;
		result = smtp_reply_feed(r, exact, n, &used);
		free(exact);
		assert(used <= n);
	}
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_reply whole, pieces;
	struct smtp_offer offers[2];
	struct outcome o;
	size_t ends[2];
	enum smtp_reply_result result, in_pieces;

	if (size < 2)
		return 0;
	result = feed(&whole, &offers[0], data + 1, size - 1, size, &ends[0]);
	in_pieces = feed(&pieces, &offers[1], data + 1, size - 1, data[0] % 16 + 1u, &ends[1]);
	assert(result == in_pieces);
	if (result != SMTP_REPLY_DONE)
		return 0;
	assert(ends[0] == ends[1]);
	assert(whole.code == pieces.code && whole.code >= 200 && whole.code <= 599);
	assert(strcmp(whole.text, pieces.text) == 0 && strlen(whole.text) == whole.text_len);
	assert(strcmp(whole.enhanced, pieces.enhanced) == 0);
	assert(whole.enhanced[0] == '\0' || (unsigned)(whole.enhanced[0] - '0') == whole.code / 100);
	assert(offers[0].extensions == offers[1].extensions && offers[0].max_size == offers[1].max_size);
	smtp_reply_outcome(&whole, STATE_EHLO, &o);
	assert(strcmp(o.reply, whole.text) == 0);
	return 0;
}
