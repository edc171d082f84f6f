#include "config.h"
#include "spool/version.h"

#include <string.h>
#include "base/mem.h"
#include "spool/payload.h"
#include "spool/record.h"

static void part_head(struct version *v, uint16_t i, uint32_t meta_len, const struct version_body *body)
{
	struct version_part *part = &v->parts[i];
	struct record r = {
	        .id = v->id,
	        .length = RECORD_HEAD + meta_len + (i == 0 ? body->len : 0),
	        .meta_len = meta_len,
	        .body_crc = i == 0 ? body->crc : 0,
	        .part = i,
	        .parts = v->n_parts,
	        .type = RECORD_MESSAGE,
	        .flags = body->flags,
	};

	part->head_len = RECORD_HEAD + meta_len;
	part->length = r.length;
	record_write_head(v->bytes + part->start, &r);
}

static bool encode_many(
        struct version *v, struct str *meta, const struct version_body *body, uint32_t record_max)
{
	size_t left = meta->len - RECORD_HEAD, others = record_max - RECORD_HEAD, first, n, to = 0;
	const char *from = meta->data + RECORD_HEAD;

	if (body->len > others - PAYLOAD_MESSAGE_HEAD)
		return false;
	first = others - body->len;
	n = 1 + (left > first ? (left - first + others - 1) / others : 0);
	if (n > UINT16_MAX)
		return false;
	v->n_parts = (uint16_t)n;
	v->parts = mem_array(NULL, n, sizeof(*v->parts));
	v->places = mem_array(NULL, n, sizeof(*v->places));
	v->bytes = mem_alloc(left + n * RECORD_HEAD);
	for (uint16_t i = 0; i < v->n_parts; i++) {
		size_t room = i == 0 ? first : others, slice = left < room ? left : room;

		v->parts[i].start = (uint32_t)to;
		part_head(v, i, (uint32_t)slice, body);
		memcpy(v->bytes + to + RECORD_HEAD, from, slice);
		from += slice;
		left -= slice;
		to += RECORD_HEAD + slice;
	}
	str_free(meta);
	return true;
}

bool version_encode(struct version *v, uint64_t id, uint32_t n_deliveries, struct str *meta,
        const struct version_body *body, uint32_t record_max)
{
	uint32_t meta_len;

	*v = (struct version){
	        .id = id,
	        .n_deliveries = n_deliveries,
	        .body_file = body->file,
	        .body = body->iov,
	        .n_body = body->n,
	};
	if (meta->len + body->len > record_max)
		return meta->len <= UINT32_MAX && encode_many(v, meta, body, record_max);
	v->n_parts = 1;
	v->parts = &v->one;
	v->places = &v->one_place;
	meta_len = (uint32_t)(meta->len - RECORD_HEAD);
	v->bytes = (uint8_t *)str_steal(meta);
	part_head(v, 0, meta_len, body);
	return true;
}

uint64_t version_bytes(const struct version *v)
{
	uint64_t bytes = 0;

	for (uint16_t i = 0; i < v->n_parts; i++)
		bytes += v->parts[i].length;
	return bytes;
}

void version_free(struct version *v)
{
	mem_free(&v->bytes);
	if (v->parts != &v->one)
		mem_free(&v->parts);
	if (v->places != &v->one_place)
		mem_free(&v->places);
	*v = (struct version){0};
}
