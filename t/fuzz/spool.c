/*
 * Fuzz target: what a start finds in the spool. The first byte says what the rest is:
 *   'r'  records, to be sealed and put into batches: what stands in them is then as bad as it can be under a good
 *        checksum. Each is: type, id, part, parts, flags, length of its body, length of its meta (u16), meta. A type of
 *        'b' (and nothing more) begins the next batch; 'x' (with an offset, u16) spoils a byte of the segment.
 *   's'  a segment, as it is        'i'  its index file, beside a segment that has nothing
 * The spool must open or refuse; what it then says is live can be read, ended, and is gone with the next start.
 */
#include "config.h"

#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "spool/batch.h"
#include "spool/crc.h"
#include "spool/format.h"
#include "spool/record.h"
#include "t/lib/sim_disk.h"
#include "t/lib/spool_rig.h"

#define SEGMENT ((size_t)64 * 1024)
#define NONCE 0x1234u

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

struct image {
	uint8_t bytes[SEGMENT];
	size_t at, batch; /* where to write; where the batch began */
	uint32_t count;
	uint64_t sequence;
};

static void quiet(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static void image_heads(struct image *im)
{
	const struct segment_head head = {
	        .version = FORMAT_VERSION,
	        .record_max = format_record_max(SEGMENT),
	        .size = SEGMENT,
	        .number = 1,
	        .nonce = NONCE,
	        .first_sequence = 1,
	        .oldest = 1,
	};

	segment_head_write(im->bytes, &head);
	segment_head_write(im->bytes + 4096, &head);
	im->batch = 8192;
	im->at = im->batch + BATCH_HEAD;
	im->sequence = 1;
}

static void batch_end(struct image *im)
{
	const struct batch_head b = {
	        .segment = 1,
	        .nonce = NONCE,
	        .sequence = im->sequence,
	        .length = (uint32_t)(im->at - im->batch),
	        .count = im->count,
	        .oldest = 1,
	};

	if (im->batch + 4096 > SEGMENT)
		return;
	batch_head_write(im->bytes + im->batch, &b);
	im->sequence++;
	im->count = 0;
	im->batch = format_blocks(im->at);
	im->at = im->batch + BATCH_HEAD;
}

static void add_record(struct image *im, uint8_t type, struct cursor *c)
{
	struct record r = {.type = type, .id = cursor_u8(c), .part = cursor_u8(c)};
	size_t body;
	const void *meta;

	r.parts = (uint16_t)cursor_u8(c);
	r.flags = (uint8_t)cursor_u8(c);
	body = cursor_u8(c);
	r.meta_len = cursor_u16(c);
	if (r.meta_len > cursor_left(c))
		r.meta_len = (uint32_t)cursor_left(c);
	meta = cursor_bytes(c, r.meta_len);
	r.length = (uint32_t)(RECORD_HEAD + r.meta_len + body);
	if (c->failed || im->at + r.length > SEGMENT)
		return;
	if (r.meta_len > 0)
		memcpy(im->bytes + im->at + RECORD_HEAD, meta, r.meta_len);
	memset(im->bytes + im->at + RECORD_HEAD + r.meta_len, 'b', body);
	r.body_crc = crc32c(0, im->bytes + im->at + RECORD_HEAD + r.meta_len, body);
	record_write_head(im->bytes + im->at, &r);
	record_seal(im->bytes + im->at, record_seed(1, NONCE));
	im->at += r.length;
	im->count++;
}

static void image_records(struct image *im, const uint8_t *data, size_t size)
{
	struct cursor c;

	cursor_init(&c, data, size);
	while (cursor_left(&c) > 0 && im->batch + 4096 <= SEGMENT) {
		uint8_t type = (uint8_t)cursor_u8(&c);
		size_t at;

		if (type == 'b') {
			batch_end(im);
		} else if (type == 'x') {
			at = 8192 + cursor_u16(&c) % (SEGMENT - 8192);
			im->bytes[at] ^= 0x11;
		} else {
			add_record(im, type, &c);
		}
	}
	batch_end(im);
}

static void put_file(struct sim_disk *disk, const char *name, const void *bytes, size_t n)
{
	struct disk_io *io = &disk->io;
	int dir = io->open(io, AT_FDCWD, "spool", O_RDONLY, 0);
	int fd = io->open(io, dir, name, O_RDWR | O_CREAT, 0600);
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};

	if (n > 0)
		(void)disk_write_all(io, fd, &iov, 1, 0);
	(void)io->datasync(io, fd);
	(void)io->sync_dir(io, dir);
	sim_disk_kill(disk);
}

static void end_all(struct rig *rig)
{
	struct spool_results *r = spool_results_new();

	for (size_t i = 0; i < rig->n_live; i++) {
		size_t n;
		uint8_t *body = rig_read(rig, rig->live[i].id, 0, &n);

		mem_free(&body);
		for (uint32_t k = 0; k < rig->live[i].n_deliveries; k++)
			spool_results_done(r, rig->live[i].id, rig->live[i].deliveries[k].index);
	}
	rig_commit(rig, r);
}

static void live_with_it(struct sim_disk *disk)
{
	const struct rig_message m = {.n_deliveries = 1, .n_recipients = 1, .body = 100};
	struct rig rig;
	uint64_t id;

	rig_init(&rig, "spool", &disk->io, SEGMENT);
	if (rig_open(&rig)) {
		id = rig_store(&rig, &m);
		assert(id != 0);
		end_all(&rig);
		rig_close(&rig);
		assert(rig_open(&rig));
		assert(rig.n_live == 1 && rig_body_ok(&rig, id, m.body));
	}
	rig_free(&rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sim_disk *disk;
	struct image *im;

	if (size == 0 || size > SEGMENT)
		return 0;
	log_capture(quiet, NULL);
	disk = sim_disk_new(1);
	im = calloc(1, sizeof(*im));
	if (im == NULL)
		abort();
	if (data[0] == 's') {
		memcpy(im->bytes, data + 1, size - 1);
	} else {
		image_heads(im);
		if (data[0] == 'r')
			image_records(im, data + 1, size - 1);
	}
	put_file(disk, "0000000000000001.seg", im->bytes, SEGMENT);
	if (data[0] == 'i')
		put_file(disk, "0000000000000001.idx", data + 1, size - 1);
	live_with_it(disk);
	free(im);
	sim_disk_free(&disk);
	return 0;
}
