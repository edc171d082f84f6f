/* A header section, whole and in chunks (the first byte says how): the same result, and nothing lost but stamps. */
#include "config.h"
#include "base/mem.h"
#include "handoff/message_header.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void to_str(void *ctx, const char *p, size_t len)
{
	str_add_mem(ctx, p, len);
}

static void run(const uint8_t *bytes, size_t len, size_t chunk, struct message_header *h, struct str *out)
{
	str_init(out);
	message_header_init(h, "X-Binding", "by mta1.example.net (bindpost)", to_str, out);
	h->capture_fields = h->capture_body = true;
	h->body_max = 100;
	for (size_t i = 0; i < len; i += chunk)
		message_header_feed(h, (const char *)bytes + i, len - i < chunk ? len - i : chunk);
	message_header_end(h);
}

static bool same(const struct str *a, const struct str *b)
{
	return a->len == b->len && a->failed == b->failed && memcmp(a->data, b->data, a->len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct message_header a, b;
	struct str out_a, out_b;
	struct fact_header *facts;
	size_t n, total = 0;

	if (len < 2)
		return 0;
	run(bytes + 1, len - 1, len, &a, &out_a);
	run(bytes + 1, len - 1, 1 + bytes[0] % 64, &b, &out_b);
	if (!same(&out_a, &out_b) || !same(&a.stamp, &b.stamp) || !same(&a.message_id, &b.message_id) ||
	        !same(&a.fields, &b.fields) || !same(&a.body, &b.body) || a.n_stamps != b.n_stamps ||
	        a.n_received != b.n_received || a.n_own_received != b.n_own_received || a.done != b.done ||
	        a.kept != b.kept || a.cut != b.cut || a.n_places != b.n_places)
		abort();
	if (out_a.len + a.cut != len - 1 || (a.cut > 0) != (a.n_stamps > 0))
		abort();
	facts = message_header_facts(&a, &n);
	for (size_t i = 0; i < n; i++)
		total += facts[i].name_len + facts[i].value_len;
	if (total > a.fields.len)
		abort();
	mem_free(&facts);
	message_header_free(&a);
	message_header_free(&b);
	str_free(&out_a);
	str_free(&out_b);
	return 0;
}
