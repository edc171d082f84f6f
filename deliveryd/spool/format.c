#include "config.h"
#include "spool/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "spool/crc.h"
#include "spool/disk_io.h"
#include "spool/record.h"

#define SEGMENT_MAGIC 0x47535042u /* "BPSG" */
#define BATCH_MAGIC 0x54425042u   /* "BPBT" */
#define SEGMENT_HEAD_BYTES 80u

/* magic u32, crc u32, version u32: these stay where they are whatever the version */
void segment_head_write(uint8_t block[4096], const struct segment_head *h)
{
	memset(block, 0, DISK_BLOCK);
	put_u32(block, SEGMENT_MAGIC);
	put_u32(block + 8, h->version);
	put_u32(block + 12, h->record_max);
	put_u64(block + 16, h->size);
	put_u64(block + 24, h->number);
	put_u64(block + 32, h->nonce);
	put_u64(block + 40, h->first_sequence);
	put_u64(block + 48, h->oldest);
	put_u64(block + 56, h->highest_id);
	put_u64(block + 64, h->replaces);
	put_u64(block + 72, h->replaces_until);
	put_u32(block + 4, crc32c(0, block + 8, SEGMENT_HEAD_BYTES - 8));
}

enum head_check segment_head_read(const uint8_t *p, size_t n, struct segment_head *h)
{
	if (n < SEGMENT_HEAD_BYTES || get_u32(p) != SEGMENT_MAGIC ||
	        get_u32(p + 4) != crc32c(0, p + 8, SEGMENT_HEAD_BYTES - 8))
		return HEAD_BAD;
	h->version = get_u32(p + 8);
	h->record_max = get_u32(p + 12);
	h->size = get_u64(p + 16);
	h->number = get_u64(p + 24);
	h->nonce = get_u64(p + 32);
	h->first_sequence = get_u64(p + 40);
	h->oldest = get_u64(p + 48);
	h->highest_id = get_u64(p + 56);
	h->replaces = get_u64(p + 64);
	h->replaces_until = get_u64(p + 72);
	return h->version > FORMAT_VERSION ? HEAD_NEWER : HEAD_OK;
}

void batch_head_write(uint8_t at[BATCH_HEAD], const struct batch_head *h)
{
	put_u32(at, BATCH_MAGIC);
	put_u64(at + 8, h->segment);
	put_u64(at + 16, h->nonce);
	put_u64(at + 24, h->sequence);
	put_u32(at + 32, h->length);
	put_u32(at + 36, h->count);
	put_u64(at + 40, h->oldest);
	put_u64(at + 48, h->highest_id);
	put_u64(at + 56, 0);
	put_u32(at + 4, crc32c(0, at + 8, BATCH_HEAD - 8));
}

bool batch_head_read(const uint8_t *p, size_t n, struct batch_head *h)
{
	if (n < BATCH_HEAD || get_u32(p) != BATCH_MAGIC || get_u32(p + 4) != crc32c(0, p + 8, BATCH_HEAD - 8))
		return false;
	h->segment = get_u64(p + 8);
	h->nonce = get_u64(p + 16);
	h->sequence = get_u64(p + 24);
	h->length = get_u32(p + 32);
	h->count = get_u32(p + 36);
	h->oldest = get_u64(p + 40);
	h->highest_id = get_u64(p + 48);
	return h->length >= BATCH_HEAD && h->count <= (h->length - BATCH_HEAD) / RECORD_HEAD;
}

uint32_t format_record_max(uint64_t segment_size)
{
	return segment_size / 8 < 512 * 1024 ? (uint32_t)(segment_size / 8) : 512 * 1024;
}

uint32_t format_batch_max(uint64_t segment_size)
{
	return segment_size / 2 < 8 * 1024 * 1024 ? (uint32_t)(segment_size / 2) : 8 * 1024 * 1024;
}

/* ---- names ---- */

struct name_form {
	const char *before, *after;
};
static const struct name_form name_forms[] = {
        [FILE_SEGMENT] = {"", ".seg"},
        [FILE_IDX] = {"", ".idx"},
        [FILE_SPARE] = {"spare-", ""},
        [FILE_NEW] = {"new-", ""},
        [FILE_DAMAGED] = {"", ".damaged"},
        [FILE_BODY] = {"", ".body"},
};
#define NAME_DIGITS 16

const char *format_name(char name[FORMAT_NAME_SIZE], enum file_kind kind, uint64_t number)
{
	const struct name_form *form = &name_forms[kind];

	(void)snprintf(name, FORMAT_NAME_SIZE, "%s%016" PRIx64 "%s", form->before, number, form->after);
	return name;
}

static bool digits_parse(const char *text, uint64_t *number)
{
	*number = 0;
	for (int i = 0; i < NAME_DIGITS; i++) {
		char c = text[i];

		if (c >= '0' && c <= '9')
			*number = *number << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*number = *number << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	return true;
}

enum file_kind format_name_parse(const char *name, uint64_t *number)
{
	size_t len = strlen(name);

	for (unsigned kind = FILE_SEGMENT; kind <= FILE_BODY; kind++) {
		const struct name_form *form = &name_forms[kind];
		size_t before = strlen(form->before);

		if (len == before + NAME_DIGITS + strlen(form->after) &&
		        strncmp(name, form->before, before) == 0 &&
		        strcmp(name + before + NAME_DIGITS, form->after) == 0 &&
		        digits_parse(name + before, number))
			return (enum file_kind)kind;
	}
	return FILE_OTHER;
}
