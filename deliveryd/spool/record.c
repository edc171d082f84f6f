#include "config.h"
#include "spool/record.h"

#include <endian.h>
#include <string.h>
#include "spool/crc.h"

void put_u16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

void put_u32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

void put_u64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

uint16_t get_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

uint32_t get_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

uint64_t get_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

uint32_t record_seed(uint64_t segment, uint64_t nonce)
{
	uint8_t bytes[16];

	put_u64(bytes, segment);
	put_u64(bytes + 8, nonce);
	return crc32c(0, bytes, sizeof(bytes));
}

void record_write_head(uint8_t at[RECORD_HEAD], const struct record *r)
{
	put_u32(at, 0);
	put_u32(at + 4, r->length);
	put_u32(at + 8, r->meta_len);
	put_u32(at + 12, r->body_crc);
	put_u64(at + 16, r->id);
	put_u32(at + 24, r->part);
	at[28] = r->type;
	at[29] = r->flags;
	put_u16(at + 30, r->parts);
}

void record_seal(uint8_t *at, uint32_t seed)
{
	put_u32(at, crc32c(seed, at + 4, RECORD_HEAD - 4 + get_u32(at + 8)));
}

void record_peek(const uint8_t *at, struct record *r)
{
	r->length = get_u32(at + 4);
	r->meta_len = get_u32(at + 8);
	r->body_crc = get_u32(at + 12);
	r->id = get_u64(at + 16);
	r->part = get_u32(at + 24);
	r->type = at[28];
	r->flags = at[29];
	r->parts = get_u16(at + 30);
	r->meta = at + RECORD_HEAD;
	r->body = NULL;
}

bool record_read(const uint8_t *p, size_t n, bool whole, uint32_t record_max, uint32_t seed, struct record *r)
{
	if (n < RECORD_HEAD)
		return false;
	record_peek(p, r);
	if (r->type < RECORD_MESSAGE || r->type > RECORD_TYPE_LAST)
		return false;
	if (r->length > record_max || r->length < RECORD_HEAD || r->meta_len > r->length - RECORD_HEAD)
		return false;
	if (n < RECORD_HEAD + (size_t)r->meta_len || (whole && n < r->length))
		return false;
	if (r->type == RECORD_MESSAGE && (r->parts == 0 || r->part >= r->parts))
		return false;
	if (get_u32(p) != crc32c(seed, p + 4, RECORD_HEAD - 4 + (size_t)r->meta_len))
		return false;
	if (whole)
		r->body = p + RECORD_HEAD + r->meta_len;
	return true;
}

bool record_body_ok(const struct record *r)
{
	return r->body != NULL && crc32c(0, r->body, record_body_len(r)) == r->body_crc;
}
