/*
 * The spool's parts by themselves: heads, records, payloads, versions, batches, the index, large writes.
 */
#include "config.h"
#include "t/lib/test.h"

#include <errno.h>
#include "base/clock.h"
#include "base/mem.h"
#include "spool/batch.h"
#include "spool/crc.h"
#include "spool/disk_io.h"
#include "spool/format.h"
#include "spool/index.h"
#include "spool/payload.h"
#include "spool/record.h"
#include "spool/scan.h"
#include "spool/version.h"

#define RECORD_MAX 8192u

/* ---- checksums, numbers, names ---- */

static void test_crc_is_crc32c(void **state)
{
	(void)state;
	/* RFC 3720 B.4 */
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
	assert_int_equal(crc32c(0, "", 0), 0);
}

static void test_names(void **state)
{
	static const char *const others[] = {"", ".", "lock", "0000000000000001", "0000000000000001.seg.old",
	        "000000000000000g.seg", "000000000000001.seg", "00000000000000001.seg", "spare-1",
	        "SPARE-0000000000000001"};
	char name[FORMAT_NAME_SIZE];
	uint64_t number;

	(void)state;
	for (unsigned kind = FILE_SEGMENT; kind <= FILE_BODY; kind++) {
		assert_int_equal(
		        format_name_parse(format_name(name, (enum file_kind)kind, 0xabcdef0123), &number),
		        kind);
		assert_int_equal(number, 0xabcdef0123);
	}
	for (size_t i = 0; i < array_len(others); i++)
		assert_int_equal(format_name_parse(others[i], &number), FILE_OTHER);
}

static void test_heads(void **state)
{
	const struct segment_head seg = {1, 8192, 65536, 5, 0x1122334455667788, 9, 3, 77, 4, 12};
	const struct batch_head batch = {5, 0x1122334455667788, 9, 64 + 40, 1, 3, 78};
	struct segment_head seg_read;
	struct batch_head batch_read;
	uint8_t block[4096];

	(void)state;
	segment_head_write(block, &seg);
	assert_int_equal(segment_head_read(block, sizeof(block), &seg_read), HEAD_OK);
	assert_memory_equal(&seg_read, &seg, sizeof(seg));
	for (size_t n = 0; n < 80; n++) {
		assert_int_equal(segment_head_read(block, n, &seg_read), HEAD_BAD);
		block[n] ^= 1;
		assert_int_equal(segment_head_read(block, sizeof(block), &seg_read), HEAD_BAD);
		block[n] ^= 1;
	}
	batch_head_write(block, &batch);
	assert_true(batch_head_read(block, sizeof(block), &batch_read));
	assert_memory_equal(&batch_read, &batch, sizeof(batch));
	for (size_t n = 0; n < BATCH_HEAD; n++) {
		assert_false(batch_head_read(block, n, &batch_read));
		block[n] ^= 1;
		assert_false(batch_head_read(block, sizeof(block), &batch_read));
		block[n] ^= 1;
	}
}

static void test_limits_scale(void **state)
{
	(void)state;
	assert_int_equal(format_record_max(64 << 20), 512 * 1024);
	assert_int_equal(format_record_max(4 << 20), 512 * 1024);
	assert_int_equal(format_record_max(64 << 10), 8192);
	assert_int_equal(format_batch_max(64 << 20), 8 << 20);
	assert_int_equal(format_batch_max(4 << 20), 2 << 20);
}

/* ---- records ---- */

static void test_record(void **state)
{
	uint8_t bytes[RECORD_HEAD + 5 + 7], copy[sizeof(bytes)];
	struct record r = {.id = 99,
	        .length = sizeof(bytes),
	        .meta_len = 5,
	        .part = 2,
	        .parts = 3,
	        .type = RECORD_MESSAGE};
	struct record got;

	(void)state;
	r.body_crc = crc32c(0, "a body.", 7);
	memcpy(bytes + RECORD_HEAD, "meta.a body.", 12);
	record_write_head(bytes, &r);
	record_seal(bytes, 42);
	assert_true(record_read(bytes, sizeof(bytes), true, RECORD_MAX, 42, &got));
	assert_true(record_body_ok(&got));
	assert_int_equal(got.id, 99);
	assert_int_equal(record_body_len(&got), 7);
	assert_memory_equal(got.meta, "meta.", 5);
	/* another segment, another use of it, a shorter limit, less of it */
	assert_false(record_read(bytes, sizeof(bytes), true, RECORD_MAX, 43, &got));
	assert_false(record_read(bytes, sizeof(bytes), true, sizeof(bytes) - 1, 42, &got));
	assert_false(record_read(bytes, sizeof(bytes) - 1, true, RECORD_MAX, 42, &got));
	assert_true(record_read(bytes, sizeof(bytes) - 1, false, RECORD_MAX, 42, &got));
	assert_false(record_body_ok(&got));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		memcpy(copy, bytes, sizeof(bytes));
		copy[i] ^= 0x10;
		if (i < RECORD_HEAD + 5)
			assert_false(record_read(copy, sizeof(copy), true, RECORD_MAX, 42, &got));
		else
			assert_false(record_read(copy, sizeof(copy), true, RECORD_MAX, 42, &got) &&
			             record_body_ok(&got));
	}
}

/* ---- payloads ---- */

static struct message *some_message(void)
{
	struct message *m = message_new();

	m->id = 7;
	m->received_wall_us = 1700000000123456;
	m->flags = MESSAGE_8BIT | MESSAGE_DOT_LINES;
	m->sender = "";
	m->client_name = "client.example";
	m->client_proto = "ESMTP";
	m->client_addr =
	        (struct addr){.family = AF_INET6, .ip = {0x20, 1, 0xd, 0xb8}, .port = 2525, .scope = 3};
	m->envid = "QQ314159";
	m->ret = 2;
	m->n_deliveries = 2;
	m->deliveries = pool_alloc(m->pool, 2 * sizeof(*m->deliveries));
	for (uint32_t i = 0; i < 2; i++) {
		struct delivery_spec *d = &m->deliveries[i];

		d->target = i == 0 ? "acme" : "group:shared";
		d->rule = i == 0 ? NULL : "newsletters";
		d->has_sticky = i == 1;
		d->sticky = 0xdeadbeef;
		d->priority = (uint8_t)i;
		d->domain = "example.org";
		d->n_recipients = i + 1;
		d->recipients = pool_alloc(m->pool, d->n_recipients * sizeof(*d->recipients));
		for (uint32_t k = 0; k < d->n_recipients; k++) {
			d->recipients[k].address = "j\xc3\xb6rg@example.org";
			d->recipients[k].orcpt = k == 1 ? "rfc822;joerg@example.com" : NULL;
			d->recipients[k].notify = (uint8_t)(k + 1);
		}
	}
	m->body_size = 4711;
	m->header_size = 500;
	return m;
}

static void test_message_there_and_back(void **state)
{
	const struct payload_file none = {0};
	struct message *m = some_message(), *got;
	struct str s;

	(void)state;
	str_init(&s);
	assert_true(payload_put_message(&s, m, &none));
	got = payload_get_message((const uint8_t *)s.data, s.len, 7);
	assert_non_null(got);
	assert_int_equal(got->id, 7);
	assert_int_equal(got->received_wall_us, m->received_wall_us);
	assert_int_equal(got->flags, m->flags);
	assert_int_equal(got->body_size, 4711);
	assert_int_equal(got->header_size, 500);
	assert_int_equal(got->ret, 2);
	assert_string_equal(got->sender, "");
	assert_string_equal(got->client_name, "client.example");
	assert_null(got->client_helo);
	assert_string_equal(got->client_proto, "ESMTP");
	assert_memory_equal(&got->client_addr, &m->client_addr, sizeof(m->client_addr));
	assert_string_equal(got->envid, "QQ314159");
	assert_int_equal(got->n_deliveries, 2);
	assert_null(got->deliveries[0].rule);
	assert_true(got->deliveries[1].has_sticky);
	assert_int_equal(got->deliveries[1].sticky, 0xdeadbeef);
	assert_int_equal(got->deliveries[1].priority, 1);
	assert_string_equal(got->deliveries[1].target, "group:shared");
	assert_string_equal(got->deliveries[1].domain, "example.org");
	assert_int_equal(got->deliveries[1].n_recipients, 2);
	assert_null(got->deliveries[1].recipients[0].orcpt);
	assert_string_equal(got->deliveries[1].recipients[1].orcpt, "rfc822;joerg@example.com");
	assert_int_equal(got->deliveries[1].recipients[1].notify, 2);
	message_unref(&got);
	/* whatever is cut off or changed: an answer, and nothing read beyond */
	for (size_t n = 0; n < s.len; n++) {
		uint8_t *cut = malloc(n > 0 ? n : 1);

		memcpy(cut, s.data, n);
		got = payload_get_message(cut, n, 7);
		assert_null(got);
		free(cut);
	}
	for (size_t i = 0; i < s.len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			s.data[i] ^= (char)(1 << bit);
			got = payload_get_message((const uint8_t *)s.data, s.len, 7);
			message_unref(&got);
			s.data[i] ^= (char)(1 << bit);
		}
	}
	str_free(&s);
	message_unref(&m);
}

/* What would be refused when read back is not taken in. */
static void test_message_with_control_bytes(void **state)
{
	const struct payload_file none = {0};
	struct message *m = some_message();
	struct str s;

	(void)state;
	str_init(&s);
	m->deliveries[1].recipients[1].address = "a\r\nRCPT TO:<b@example.org>";
	assert_false(payload_put_message(&s, m, &none));
	m->deliveries[1].recipients[1].address = "a@example.org";
	m->sender = "x\ny@example.org";
	assert_false(payload_put_message(&s, m, &none));
	m->sender = NULL;
	assert_false(payload_put_message(&s, m, &none));
	str_free(&s);
	message_unref(&m);
}

static void test_state_there_and_back(void **state)
{
	const uint32_t open[] = {0, 7, 8, 200};
	struct spool_state in = {.attempts = 300,
	        .next_attempt_wall_us = 5,
	        .held = true,
	        .last_reply = "450 x",
	        .open = open,
	        .n_open = 4};
	struct spool_state out;
	struct pool *pool = pool_new(100);
	struct str s;

	(void)state;
	str_init(&s);
	payload_put_state(&s, &in);
	assert_true(payload_get_state((const uint8_t *)s.data, s.len, 201, pool, &out));
	assert_int_equal(out.attempts, 300);
	assert_true(out.held);
	assert_string_equal(out.last_reply, "450 x");
	assert_int_equal(out.n_open, 4);
	assert_memory_equal(out.open, open, sizeof(open));
	assert_false(
	        payload_get_state((const uint8_t *)s.data, s.len, 200, pool, &out)); /* no such recipient */
	for (size_t n = 0; n < s.len; n++)
		assert_false(payload_get_state((const uint8_t *)s.data, n, 201, pool, &out));
	str_clear(&s);
	in = (struct spool_state){.open = open, .n_open = 0}; /* none is open: not the same as all */
	payload_put_state(&s, &in);
	assert_true(payload_get_state((const uint8_t *)s.data, s.len, 201, pool, &out));
	assert_non_null(out.open);
	assert_int_equal(out.n_open, 0);
	str_free(&s);
	pool_free(&pool);
}

/* ---- versions, batches, scanning ---- */

static void taken_record(void *ctx, const struct record *r, uint32_t offset)
{
	uint64_t *sum = ctx;

	(void)offset;
	sum[0]++;
	sum[1] += r->id;
	sum[2] += r->meta_len;
}

/* Writes batches into an image as the spool does into a segment. */
static uint64_t write_batch(
        uint8_t *image, struct batch *b, const struct segment_head *head, uint64_t at, uint64_t sequence)
{
	const struct batch_head bh = {
	        .segment = head->number,
	        .nonce = head->nonce,
	        .sequence = sequence,
	        .length = (uint32_t)b->length,
	        .count = b->count,
	};
	uint64_t bytes = batch_finish(b, &bh), to = at;

	for (size_t i = 0; i < b->n_iov; i++) {
		memcpy(image + to, b->iov[i].iov_base, b->iov[i].iov_len);
		to += b->iov[i].iov_len;
	}
	assert_int_equal(to, at + bytes);
	assert_int_equal(bytes % 4096, 0);
	return to;
}

static void test_long_message_in_batches(void **state)
{
	const struct segment_head head = {.version = 1,
	        .record_max = RECORD_MAX,
	        .size = 256 * 1024,
	        .number = 3,
	        .nonce = 11,
	        .first_sequence = 5};
	const uint32_t seed = record_seed(3, 11);
	uint8_t *image = calloc(1, head.size), body[3000] = "body";
	const struct iovec iov = {.iov_base = body, .iov_len = sizeof(body)};
	const struct version_body vb = {
	        .iov = &iov, .n = 1, .len = sizeof(body), .crc = crc32c(0, body, sizeof(body))};
	uint64_t at = 8192, sequence = 5, sum[3] = {0};
	struct scan scan = {.head = &head,
	        .image = image,
	        .n = head.size,
	        .stop_sequence = UINT64_MAX,
	        .record = taken_record,
	        .ctx = sum};
	struct version v;
	struct batch b;
	struct str meta;

	(void)state;
	str_init(&meta);
	for (size_t i = 0; i < RECORD_HEAD + 50000; i++)
		str_add_char(&meta, (char)i);
	assert_true(version_encode(&v, 77, 1, &meta, &vb, RECORD_MAX));
	assert_true(v.n_parts > 6);
	for (uint16_t i = 0; i < v.n_parts; i++)
		assert_true(v.parts[i].length <= RECORD_MAX);
	batch_init(&b);
	for (bool all = false; !all;) {
		batch_begin(&b, 3, seed, at, 32 * 1024);
		all = batch_take_version(&b, &v, TAKEN_ADD, &v);
		assert_int_equal(b.n_taken, 1);
		assert_int_equal(b.taken[0].last, all);
		at = write_batch(image, &b, &head, at, sequence++);
	}
	assert_int_equal(sequence, 7); /* two batches */
	scan_segment(&scan);
	assert_int_equal(scan.end, at);
	assert_int_equal(scan.next_sequence, 7);
	assert_int_equal(scan.damaged, 0);
	assert_int_equal(sum[0], v.n_parts);
	assert_int_equal(sum[1], 77 * v.n_parts);
	assert_int_equal(sum[2], 50000);
	for (uint16_t i = 0; i < v.n_parts; i++)
		assert_int_equal(get_u64(image + v.places[i].offset + 16), 77);
	version_free(&v);
	batch_free(&b);
	free(image);
}

/* Somebody's body holds what looks like batches of this very segment: but the nonce is not to be known. */
static void test_image_of_a_batch_in_a_body(void **state)
{
	const struct segment_head head = {.version = 1,
	        .record_max = RECORD_MAX,
	        .size = 128 * 1024,
	        .number = 3,
	        .nonce = 11,
	        .first_sequence = 1};
	struct segment_head guessed = head;
	uint8_t *image = calloc(1, head.size);
	uint64_t sum[3] = {0};
	struct scan scan = {.head = &head,
	        .image = image,
	        .n = head.size,
	        .stop_sequence = UINT64_MAX,
	        .record = taken_record,
	        .ctx = sum};
	struct spool_results *r = spool_results_new();
	uint8_t record[RECORD_HEAD];
	struct batch b;

	(void)state;
	record_write_head(
	        record, &(struct record){.id = 5, .length = RECORD_HEAD, .parts = 1, .type = RECORD_DONE});
	batch_init(&b);
	guessed.nonce = 12;
	for (uint64_t at = 12288, sequence = 1; at < head.size; at += 4096) {
		batch_begin(&b, 3, record_seed(3, guessed.nonce), at, 4096);
		assert_true(batch_take_records(&b, record, 0, sizeof(record), TAKEN_RESULTS, r));
		(void)write_batch(image, &b, &guessed, at, sequence++);
	}
	scan_segment(&scan);
	assert_int_equal(scan.damaged, 0);
	assert_int_equal(scan.next_sequence, 1);
	assert_int_equal(sum[0], 0);
	/* with the true one it is what was written behind damage */
	batch_begin(&b, 3, record_seed(3, 11), 12288, 4096);
	assert_true(batch_take_records(&b, record, 0, sizeof(record), TAKEN_RESULTS, r));
	(void)write_batch(image, &b, &head, 12288, 2);
	scan_segment(&scan);
	assert_int_equal(scan.damaged, 1);
	assert_int_equal(sum[0], 1);
	batch_free(&b);
	spool_results_free(&r);
	free(image);
}

/* ---- the index, against a plain table ---- */

#define MODEL 300

struct plain {
	bool there;
	uint32_t n_deliveries;
	bool done[4];
	struct where at, state[4], move[4];
};

struct counted {
	int64_t bytes;
};

static void count_live(void *ctx, const struct where *w, bool more)
{
	struct counted *c = ctx;

	c->bytes += more ? w->length : -(int64_t)w->length;
}

static bool same(const struct where *a, const struct where *b)
{
	return a->segment == b->segment && a->offset == b->offset && a->length == b->length;
}

static int64_t plain_bytes(const struct plain *p)
{
	int64_t sum = 0;

	for (int i = 0; i < MODEL; i++) {
		if (!p[i].there)
			continue;
		sum += p[i].at.length;
		for (uint32_t k = 0; k < p[i].n_deliveries; k++)
			sum += (int64_t)p[i].state[k].length + p[i].move[k].length;
	}
	return sum;
}

static void one_index_step(struct fake_rnd *rnd, struct index *ix, struct plain *p, uint32_t *next)
{
	uint64_t i = rnd_below(&rnd->rnd, MODEL), id = 1000 + i * 3, k;
	const struct where w = {.segment = 1 + *next / 100,
	        .offset = ++*next,
	        .length = 1 + (uint32_t)rnd_below(&rnd->rnd, 500)};
	struct index_entry *e = index_find(ix, id);

	assert_int_equal(e != NULL, p[i].there);
	if (e == NULL || rnd_below(&rnd->rnd, 6) == 0) {
		if (e == NULL)
			p[i] = (struct plain){.there = true,
			        .n_deliveries = rnd_below(&rnd->rnd, 3) == 0
			                                ? 1 + (uint32_t)rnd_below(&rnd->rnd, 4)
			                                : 1};
		p[i].at = w;
		memset(p[i].state, 0, sizeof(p[i].state));
		memset(p[i].move, 0, sizeof(p[i].move));
		(void)index_put(ix, id, &(struct index_version){.at = w, .n_deliveries = p[i].n_deliveries});
		return;
	}
	k = rnd_below(&rnd->rnd, p[i].n_deliveries);
	assert_int_equal(index_is_done(e, (uint32_t)k), p[i].done[k]);
	if (p[i].done[k])
		return;
	switch (rnd_below(&rnd->rnd, 3)) {
	case 0:
		index_state(ix, e, (uint32_t)k, &w);
		p[i].state[k] = w;
		break;
	case 1:
		index_move(ix, e, (uint32_t)k, &w);
		p[i].move[k] = w;
		break;
	default:
		p[i].done[k] = true;
		p[i].state[k] = p[i].move[k] = (struct where){0};
		p[i].there = false;
		for (uint32_t d = 0; d < p[i].n_deliveries; d++)
			p[i].there = p[i].there || !p[i].done[d];
		assert_int_equal(index_done(ix, e, (uint32_t)k), !p[i].there);
		if (!p[i].there)
			index_remove(ix, e);
	}
}

static void test_index_is_a_table(void **state)
{
	struct plain *p = calloc(MODEL, sizeof(*p));
	struct counted counted = {0};
	struct fake_rnd rnd;
	struct index ix;
	uint32_t next = 0;

	(void)state;
	fake_rnd_init(&rnd, 5);
	index_init(&ix, count_live, &counted);
	for (int step = 0; step < 60000; step++) {
		one_index_step(&rnd, &ix, p, &next);
		if (step % 1000 == 0)
			assert_int_equal(counted.bytes, plain_bytes(p));
	}
	for (uint64_t i = 0; i < MODEL; i++) {
		struct index_entry *e = index_find(&ix, 1000 + i * 3);

		assert_int_equal(e != NULL, p[i].there);
		assert_null(index_find(&ix, 1001 + i * 3));
		if (e == NULL)
			continue;
		assert_true(same(&e->at, &p[i].at));
		for (uint32_t k = 0; k < p[i].n_deliveries; k++) {
			const struct where s = index_newest_state(e, k), m = index_newest_move(e, k);

			assert_true(same(&s, &p[i].state[k]) && same(&m, &p[i].move[k]));
		}
		index_remove(&ix, e);
	}
	assert_int_equal(ix.n, 0);
	assert_int_equal(counted.bytes, 0);
	index_free(&ix);
	free(p);
}

static void test_index_grows_and_shrinks(void **state)
{
	struct counted counted = {0};
	struct index ix;

	(void)state;
	index_init(&ix, count_live, &counted);
	for (uint64_t id = 1; id <= 100000; id++)
		(void)index_put(
		        &ix, id, &(struct index_version){.at = {1, (uint32_t)id, 10}, .n_deliveries = 1});
	assert_int_equal(ix.n, 100000);
	assert_true(ix.n_slots * sizeof(struct index_entry) < 100000 * 75);
	for (uint64_t id = 1; id <= 100000; id++)
		assert_int_equal(index_find(&ix, id)->at.offset, id);
	for (uint64_t id = 1; id < 100000; id++)
		index_remove(&ix, index_find(&ix, id));
	for (uint64_t id = 200000; id < 200100; id++)
		(void)index_put(&ix, id, &(struct index_version){.at = {1, 1, 10}, .n_deliveries = 1});
	assert_true(ix.n_slots < 20000);
	assert_non_null(index_find(&ix, 100000));
	index_free(&ix);
}

/* ---- writing ---- */

struct stingy {
	struct disk_io io;
	uint8_t bytes[300000];
	size_t calls;
	int error;
};

static ssize_t stingy_pwritev(struct disk_io *io, int fd, const struct iovec *iov, int n, uint64_t at)
{
	struct stingy *s = container_of(io, struct stingy, io);
	size_t may = s->calls++ % 2 == 0 ? 7 : 20000, done = 0;

	(void)fd;
	assert_true(n <= 1024);
	if (s->error != 0 && s->calls > 3) {
		errno = s->error;
		return s->error < 0 ? 0 : -1;
	}
	for (int i = 0; i < n && done < may; i++) {
		size_t part = iov[i].iov_len < may - done ? iov[i].iov_len : may - done;

		memcpy(s->bytes + at + done, iov[i].iov_base, part);
		done += part;
	}
	return (ssize_t)done;
}

static void test_many_and_short_writes(void **state)
{
	struct stingy *s = calloc(1, sizeof(*s));
	static uint8_t from[250000];
	static struct iovec iov[5000];

	(void)state;
	s->io.pwritev = stingy_pwritev;
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(from); i++)
			from[i] = (uint8_t)(i * 7 + i / 256 + (size_t)round);
		for (size_t i = 0; i < 5000; i++)
			iov[i] = (struct iovec){.iov_base = from + i * 50, .iov_len = 50};
		s->error = round == 0 ? 0 : round == 1 ? EIO : -1;
		s->calls = 0;
		errno = 0;
		assert_int_equal(disk_write_all(&s->io, 1, iov, 5000, 100), round == 0);
		if (round == 0)
			assert_memory_equal(s->bytes + 100, from, sizeof(from));
		else
			assert_int_equal(errno, EIO); /* no progress is an error, too */
	}
	free(s);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc_is_crc32c),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_limits_scale),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_message_there_and_back),
        cmocka_unit_test(test_message_with_control_bytes),
        cmocka_unit_test(test_state_there_and_back),
        cmocka_unit_test(test_long_message_in_batches),
        cmocka_unit_test(test_image_of_a_batch_in_a_body),
        cmocka_unit_test(test_index_is_a_table),
        cmocka_unit_test(test_index_grows_and_shrinks),
        cmocka_unit_test(test_many_and_short_writes),
};

TEST_MAIN("spool_parts", tests)
