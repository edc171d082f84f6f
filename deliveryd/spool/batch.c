#include "config.h"
#include "spool/batch.h"

#include "base/mem.h"
#include "spool/disk_io.h"
#include "spool/record.h"

void batch_init(struct batch *b)
{
	*b = (struct batch){0};
}

void batch_free(struct batch *b)
{
	mem_free(&b->iov);
	mem_free(&b->taken);
}

static void add_iov(struct batch *b, const void *bytes, size_t n)
{
	if (b->n_iov == b->iov_size) {
		b->iov_size = b->iov_size * 2 + 64;
		b->iov = mem_array(b->iov, b->iov_size, sizeof(*b->iov));
	}
	b->iov[b->n_iov++] = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
}

static struct taken *add_taken(struct batch *b, enum taken_kind kind, void *item)
{
	if (b->n_taken == b->taken_size) {
		b->taken_size = b->taken_size * 2 + 64;
		b->taken = mem_array(b->taken, b->taken_size, sizeof(*b->taken));
	}
	b->taken[b->n_taken] = (struct taken){.kind = kind, .item = item};
	return &b->taken[b->n_taken++];
}

void batch_begin(struct batch *b, uint32_t segment, uint32_t seed, uint64_t base, uint64_t limit)
{
	b->n_iov = b->n_taken = 0;
	b->limit = limit;
	b->length = BATCH_HEAD;
	b->count = 0;
	b->segment = segment;
	b->base = (uint32_t)base;
	b->seed = seed;
	add_iov(b, b->head, BATCH_HEAD);
}

bool batch_take_version(struct batch *b, struct version *v, enum taken_kind kind, void *item)
{
	struct taken *taken = NULL;

	for (; v->next < v->n_parts; v->next++) {
		const struct version_part *part = &v->parts[v->next];

		if (!batch_fits(b, part->length))
			break;
		if (taken == NULL)
			taken = add_taken(b, kind, item);
		record_seal(v->bytes + part->start, b->seed);
		v->places[v->next] = (struct where){
		        .segment = b->segment,
		        .offset = b->base + (uint32_t)b->length,
		        .length = part->length,
		};
		add_iov(b, v->bytes + part->start, part->head_len);
		for (unsigned i = 0; v->next == 0 && i < v->n_body; i++)
			add_iov(b, v->body[i].iov_base, v->body[i].iov_len);
		b->length += part->length;
		b->count++;
	}
	if (taken != NULL)
		taken->last = v->next == v->n_parts;
	return v->next == v->n_parts;
}

bool batch_take_records(
        struct batch *b, uint8_t *bytes, size_t from, size_t n, enum taken_kind kind, void *item)
{
	size_t to = from;
	struct taken *taken;

	while (to < n) {
		struct record r;

		record_peek(bytes + to, &r);
		if (!batch_fits(b, to - from + r.length))
			break;
		record_seal(bytes + to, b->seed);
		to += r.length;
		b->count++;
	}
	if (to > from) {
		taken = add_taken(b, kind, item);
		taken->from = from;
		taken->to = to;
		taken->offset = b->base + (uint32_t)b->length;
		taken->last = to == n;
		add_iov(b, bytes + from, to - from);
		b->length += to - from;
	}
	return to == n;
}

uint64_t batch_finish(struct batch *b, const struct batch_head *head)
{
	static const uint8_t zeros[DISK_BLOCK];
	uint64_t whole = format_blocks(b->length);

	batch_head_write(b->head, head);
	if (whole > b->length)
		add_iov(b, zeros, whole - b->length);
	return whole;
}
