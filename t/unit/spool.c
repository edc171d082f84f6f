#include "config.h"
#include "t/lib/test.h"

#include "t/lib/spool_rig.h"

#define SMALL ((uint64_t)64 * 1024)

struct fixture {
	char *path;
	struct rig rig;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->path = test_folder_new();
	rig_init(&f->rig, f->path, NULL, SMALL);
	*state = f;
	return rig_open(&f->rig) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rig_free(&f->rig);
	test_folder_remove(&f->path);
	free(f);
	return 0;
}

static void reopen(struct rig *rig)
{
	rig_close(rig);
	assert_true(rig_open(rig));
}

static const struct rig_message plain = {.n_deliveries = 1, .n_recipients = 1, .body = 1000};

static void test_stored_and_found_again(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	uint64_t id = rig_store(rig, &plain);
	const struct rig_live *l;

	assert_true(id != 0);
	assert_true(rig_body_ok(rig, id, plain.body));
	reopen(rig);
	assert_int_equal(rig->n_live, 1);
	l = rig_find(rig, id);
	assert_non_null(l);
	assert_int_equal(l->body_size, plain.body);
	assert_int_equal(l->n_deliveries, 1);
	assert_int_equal(l->deliveries[0].attempts, 0);
	assert_null(l->deliveries[0].open);
	assert_true(rig_body_ok(rig, id, plain.body));
}

static void test_done_does_not_come_back(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	uint64_t a = rig_store(rig, &plain), b = rig_store(rig, &plain);
	size_t n;

	rig_done(rig, a, 0);
	assert_null(rig_read(rig, a, 0, &n));
	reopen(rig);
	assert_int_equal(rig->n_live, 1);
	assert_null(rig_find(rig, a));
	assert_non_null(rig_find(rig, b));
	rig_done(rig, b, 0);
	reopen(rig);
	assert_int_equal(rig->n_live, 0);
}

static void test_newest_state_wins(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	uint64_t id = rig_store(rig, &plain);
	char longest[3000];
	const struct rig_live *l;

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	rig_state(rig, id, 0, 1, "451 4.7.1 later");
	rig_state(rig, id, 0, 2, longest);
	reopen(rig);
	l = rig_find(rig, id);
	assert_non_null(l);
	assert_int_equal(l->deliveries[0].attempts, 2);
	assert_int_equal(strlen(l->deliveries[0].reply), 1024);
	rig_state(rig, id, 0, 3, NULL);
	reopen(rig);
	l = rig_find(rig, id);
	assert_int_equal(l->deliveries[0].attempts, 3);
	assert_null(l->deliveries[0].reply);
}

static void woken(void *ctx)
{
	++*(unsigned *)ctx;
}

/* How much of the body can be read without waiting; runs what there is to run in between. */
static size_t read_some(struct rig *rig, struct body_cursor *c, enum body_peek *last)
{
	struct iovec iov[4];
	unsigned n;
	size_t sum = 0;

	while ((*last = body_cursor_peek(c, iov, 4, &n)) == BODY_READY || *last == BODY_WAIT) {
		if (*last == BODY_WAIT) {
			rig_run(rig);
			*last = body_cursor_peek(c, iov, 4, &n);
		}
		if (*last != BODY_READY)
			break;
		for (unsigned i = 0; i < n; i++) {
			sum += iov[i].iov_len;
			body_cursor_advance(c, iov[i].iov_len);
		}
	}
	return sum;
}

/* Bodies are read back up to a mark, then in the order of asking; who has begun comes to his end. */
static void test_what_is_read_back_is_bounded(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message large = {.n_deliveries = 1, .n_recipients = 1, .body = 200000};
	uint64_t ids[4];
	struct body_cursor *c[4];
	enum body_peek last;
	unsigned wakes[4] = {0};

	rig->cfg.read_max = 1500;
	reopen(rig);
	ids[0] = rig_store(rig, &large);
	for (unsigned i = 1; i < 4; i++)
		ids[i] = rig_store(rig, &plain);
	for (unsigned i = 0; i < 4; i++)
		c[i] = body_cursor_new(rig->spool, rig->loop, ids[i], NULL, 0, woken, &wakes[i]);
	rig_run(rig);
	assert_int_equal(wakes[0], 1);
	assert_int_equal(wakes[1] + wakes[2] + wakes[3], 0);
	assert_int_equal(read_some(rig, c[0], &last), large.body);
	assert_int_equal(last, BODY_END);
	assert_int_equal(wakes[1] + wakes[2] + wakes[3], 0);
	body_cursor_free(&c[2]); /* while it waits */
	body_cursor_free(&c[0]);
	rig_run(rig);
	assert_int_equal(wakes[1], 1);
	assert_int_equal(wakes[3], 1); /* two of 1000 bytes: the mark is passed by one at most */
	assert_int_equal(read_some(rig, c[1], &last), plain.body);
	body_cursor_free(&c[1]);
	body_cursor_free(&c[3]);
	c[0] = body_cursor_new(rig->spool, rig->loop, ids[1], NULL, 0, woken, &wakes[0]);
	rig_run(rig);
	assert_int_equal(wakes[0], 5); /* four pieces, none ahead, and this one */
	body_cursor_free(&c[0]);
	rig_run(rig);
}

/* Of results that do not fit, the rest goes into the next batch: what came behind them, with a message, waits too. */
static void test_results_with_a_message_do_not_overtake(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message tiny = {.n_deliveries = 1, .n_recipients = 1, .body = 1};
	uint64_t id = rig_store(rig, &plain);
	struct spool_results *before = spool_results_new(), *with = spool_results_new();
	struct rig_add *add;
	char text[1000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (uint32_t i = 1; i <= 100; i++)
		spool_results_state(before, id, 0, &(struct spool_state){.attempts = i, .last_reply = text});
	spool_results_state(with, id, 0, &(struct spool_state){.attempts = 101});
	spool_results_post(rig->spool, &before);
	add = rig_add_start(rig, &tiny, with);
	rig_run(rig);
	assert_true(add->answered);
	rig_add_free(&add);
	reopen(rig);
	assert_int_equal(rig_find(rig, id)->deliveries[0].attempts, 101);
}

/* One among others that cannot be stored: it alone is refused, and the others are stored once. */
static void test_one_of_several_is_bad(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	uint64_t ended = rig_store(rig, &plain);
	struct rig_add *adds[5];
	struct spool_results *with = spool_results_new();

	spool_results_done(with, ended, 0);
	for (int i = 0; i < 5; i++)
		adds[i] = rig_add_start(rig, &plain, i == 2 ? with : NULL);
	adds[1]->message->sender = "a@example.org>\r\nDATA";
	adds[2]->message->sender = "a\tb@example.org";
	rig_run(rig);
	for (int i = 0; i < 5; i++) {
		assert_true(adds[i]->answered);
		assert_int_equal(adds[i]->result, i == 1 || i == 2 ? SPOOL_IO_ERROR : SPOOL_STORED);
		assert_int_equal(adds[i]->queued, i != 1 && i != 2);
	}
	assert_int_equal(spool_uncommitted(rig->spool), 0);
	reopen(rig);
	assert_int_equal(rig->n_live, 4);
	assert_non_null(rig_find(rig, ended)); /* its end did not come to be */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(rig_find(rig, adds[i]->id) != NULL, i != 1 && i != 2);
		rig_add_free(&adds[i]);
	}
}

static void test_deliveries_are_told_apart(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message three = {
	        .n_deliveries = 3, .n_recipients = 5, .body = 100, .has_envid = true};
	const uint32_t open[] = {0, 4};
	uint64_t id = rig_store(rig, &three);
	struct spool_results *r = spool_results_new();
	const struct rig_live *l;

	spool_results_done(r, id, 1);
	spool_results_state(
	        r, id, 2, &(struct spool_state){.attempts = 7, .held = true, .open = open, .n_open = 2});
	spool_results_move(r, id, 2, "other", "moved.example");
	spool_results_done(r, id, 9); /* has no such delivery: ignored */
	rig_commit(rig, r);
	reopen(rig);
	l = rig_find(rig, id);
	assert_non_null(l);
	assert_int_equal(l->n_all, 3);
	assert_int_equal(l->n_deliveries, 2);
	assert_int_equal(l->deliveries[0].index, 0);
	assert_int_equal(l->deliveries[1].index, 2);
	assert_int_equal(l->deliveries[1].attempts, 7);
	assert_true(l->deliveries[1].held);
	assert_int_equal(l->deliveries[1].n_open, 2);
	assert_int_equal(l->deliveries[1].open[1], 4);
	assert_string_equal(l->deliveries[1].binding, "other");
	assert_string_equal(l->deliveries[1].domain, "moved.example");
	rig_done(rig, id, 0);
	rig_done(rig, id, 2);
	reopen(rig);
	assert_int_equal(rig->n_live, 0);
}

static void test_settings(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	struct spool_results *r = spool_results_new();

	spool_results_setting(r, "suspend/acme", "until=5");
	spool_results_setting(r, "suspend/other", "x");
	spool_results_setting(r, "suspend/acme", "until=9");
	spool_results_setting(r, "suspend/other", NULL);
	rig_commit(rig, r);
	reopen(rig);
	assert_int_equal(rig->n_settings, 1);
	assert_string_equal(rig_setting(rig, "suspend/acme"), "until=9");
}

static void test_long_recipient_list(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message many = {.n_deliveries = 2, .n_recipients = 3000, .body = 2000};
	uint64_t before = rig_store(rig, &plain), id = rig_store(rig, &many), after = rig_store(rig, &plain);

	assert_true(before != 0 && id != 0 && after != 0);
	assert_true(rig_body_ok(rig, id, many.body));
	reopen(rig);
	assert_int_equal(rig->n_live, 3);
	assert_non_null(rig_find(rig, id));
	assert_int_equal(rig_find(rig, id)->n_recipients[1], 3000);
	assert_true(rig_body_ok(rig, id, many.body));
	rig_done(rig, id, 0);
	rig_done(rig, id, 1);
	reopen(rig);
	assert_int_equal(rig->n_live, 2);
}

/* Its first parts stand in segments where nothing else lives when the last one is written. */
static void test_long_list_alone(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message many = {.n_deliveries = 2, .n_recipients = 4000, .body = 2000};
	uint64_t id = rig_store(rig, &many);

	assert_true(id != 0);
	rig_advance(rig, SECOND_US);
	reopen(rig);
	assert_non_null(rig_find(rig, id));
	assert_true(rig_body_ok(rig, id, many.body));
}

static void test_many_segments(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message m = {.n_deliveries = 1, .n_recipients = 2, .body = 3000};
	uint64_t ids[200];

	for (size_t i = 0; i < 200; i++) {
		ids[i] = rig_store(rig, &m);
		assert_true(ids[i] != 0);
		if (i % 2 == 1)
			rig_done(rig, ids[i], 0);
	}
	for (int round = 0; round < 3; round++) {
		reopen(rig);
		assert_int_equal(rig->n_live, 100);
		for (size_t i = 0; i < 200; i += 2) {
			assert_int_equal(rig->live[i / 2].id, ids[i]); /* oldest first */
			assert_true(rig_body_ok(rig, ids[i], m.body));
		}
	}
}

/* spool.segment_size may change: what there is stays readable, what is spare is made anew. */
static void test_segment_size_changes(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message m = {.n_deliveries = 1, .n_recipients = 2, .body = 3000};
	uint64_t ids[60];
	size_t n = 0;

	for (unsigned size = 1; size <= 3; size++) {
		rig_close(rig);
		rig->cfg.segment_size = (size % 2 == 0 ? 2 : 1) * SMALL;
		assert_true(rig_open(rig));
		assert_int_equal(rig->n_live, n);
		for (int i = 0; i < 20; i++)
			ids[n++] = rig_store(rig, &m);
		for (size_t i = 0; i < n; i++)
			assert_true(ids[i] != 0 && rig_body_ok(rig, ids[i], m.body));
	}
	for (size_t i = 0; i < n; i++)
		rig_done(rig, ids[i], 0);
	reopen(rig);
	assert_int_equal(rig->n_live, 0);
}

static void test_large_body(void **state)
{
	struct rig *rig = &((struct fixture *)*state)->rig;
	const struct rig_message large = {.n_deliveries = 1, .n_recipients = 1, .body = 300 * 1000};
	uint64_t id = rig_store(rig, &large);
	size_t n;
	uint8_t *part, *whole = malloc(large.body);

	assert_true(id != 0);
	assert_int_equal(spool_pending_bytes(rig->spool), 0);
	reopen(rig);
	assert_true(rig_body_ok(rig, id, large.body));
	rig_body(id, large.body, whole);
	for (uint64_t from = 0; from <= large.body; from += 12345) {
		part = rig_read(rig, id, from, &n);
		assert_non_null(part);
		assert_int_equal(n, large.body - from);
		assert_memory_equal(part, whole + from, n);
		mem_free(&part);
	}
	free(whole);
	rig_done(rig, id, 0);
	reopen(rig);
	assert_int_equal(rig->n_live, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
        TEST(test_stored_and_found_again),
        TEST(test_done_does_not_come_back),
        TEST(test_newest_state_wins),
        TEST(test_what_is_read_back_is_bounded),
        TEST(test_results_with_a_message_do_not_overtake),
        TEST(test_one_of_several_is_bad),
        TEST(test_deliveries_are_told_apart),
        TEST(test_settings),
        TEST(test_long_recipient_list),
        TEST(test_long_list_alone),
        TEST(test_many_segments),
        TEST(test_segment_size_changes),
        TEST(test_large_body),
};

TEST_MAIN("spool", tests)
