/*
 * Quotas at the handoff: which recipients are refused, and that what was counted is given back whenever it is not stored.
 */
#include "config.h"
#include "base/mem.h"
#include "queue/quota.h"
#include "t/lib/handoff_rig.h"
#include "t/lib/test.h"

#include <string.h>

#define BODY "X-Binding: acme\r\nSubject: x\r\n\r\nhello\r\n.\r\n"
#define LMTP(rcpts) "LHLO mx.example\r\nMAIL FROM:<a@b.example>\r\n" rcpts "DATA\r\n"
#define TO(address) "RCPT TO:<" address ">\r\n"

/* A queue that has room for so many, whatever the target; what it counts comes back when the test says so. */
static struct room {
	int left, counted;
	enum quota_verdict refuses;
	char target[80];
} room;

static enum quota_verdict take(void *queue, const char *target, uint64_t bytes)
{
	(void)queue;
	assert_true(bytes > 20);
	if (room.left == 0)
		return room.refuses;
	snprintf(room.target, sizeof(room.target), "%s", target);
	room.left--;
	room.counted++;
	return QUOTA_TAKEN;
}

static void give_back(void *queue, const char *target, uint64_t bytes)
{
	(void)queue;
	(void)bytes;
	assert_string_equal(target, room.target);
	room.left++;
	room.counted--;
}

static void begin(struct rig *rig, int left, enum quota_verdict refuses)
{
	rig_init(rig, NULL, NULL);
	room = (struct room){.left = left, .refuses = refuses};
	rig->shared.quota_take = take;
	rig->shared.quota_give_back = give_back;
}

static void expect(struct rig *rig, struct rig_client *client, const char *want)
{
	struct str replies;

	str_init(&replies);
	rig_read(rig, client);
	rig_replies(client, &replies);
	assert_string_equal(replies.data, want);
	str_free(&replies);
	str_clear(&client->said);
}

static void say(struct rig *rig, struct rig_client *client, const char *commands)
{
	rig_connect(rig, client);
	rig_say(rig, client, commands);
	str_clear(&client->said);
}

/* Per recipient: those of one domain share a fate. */
static void test_some_refused(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	begin(&rig, 2, QUOTA_MESSAGES);
	say(&rig, &client, LMTP(TO("r@a.example") TO("s@b.example") TO("t@c.example") TO("u@a.example")));
	rig_say(&rig, &client, BODY);
	expect(&rig, &client, "250 2.0.0|250 2.0.0|451 4.7.1|250 2.0.0");
	assert_int_equal(rig.spool.n_stored, 1);
	struct message *m = rig.spool.stored[0].message;
	assert_int_equal(m->n_deliveries, 2);
	assert_string_equal(m->deliveries[0].domain, "a.example");
	assert_int_equal(m->deliveries[0].n_recipients, 2);
	assert_string_equal(m->deliveries[0].recipients[1].address, "u@a.example");
	assert_string_equal(m->deliveries[1].domain, "b.example");
	assert_true(m->deliveries[0].counted && m->deliveries[1].counted);
	assert_int_equal(room.counted, 2); /* the queue's to settle */
	assert_non_null(strstr(rig.event_lines.data, "\"event\":\"throttle\""));
	assert_non_null(strstr(rig.event_lines.data, "\"binding\":\"acme\""));
	assert_non_null(strstr(rig.event_lines.data, "\"domain\":\"c.example\""));
	assert_non_null(strstr(rig.event_lines.data, "\"reason\":\"max_queued_messages\""));
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* The first is refused: the others find their places. */
static void test_first_refused(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	begin(&rig, 0, QUOTA_BYTES);
	say(&rig, &client, LMTP(TO("r@a.example") TO("s@b.example")));
	rig_say(&rig, &client, BODY);
	expect(&rig, &client, "451 4.7.1|451 4.7.1");
	assert_int_equal(rig.spool.n_stored, 0);
	assert_int_equal(room.counted, 0);
	/* the session goes on */
	room.left = 1;
	rig_say(&rig, &client, "MAIL FROM:<a@b.example>\r\n" TO("r@a.example") TO("r@b.example") "DATA\r\n");
	str_clear(&client.said);
	rig_say(&rig, &client, BODY);
	expect(&rig, &client, "250 2.0.0|451 4.7.1");
	assert_int_equal(rig.spool.n_stored, 1);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* SMTP has one reply for all: nothing is stored, and nothing stays counted. */
static void test_smtp(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	begin(&rig, 1, QUOTA_RATE);
	say(&rig, &client,
	        "EHLO mx.example\r\nMAIL FROM:<a@b.example>\r\n" TO("r@a.example")
	                TO("s@b.example") "DATA\r\n");
	rig_say(&rig, &client, BODY);
	expect(&rig, &client, "451 4.7.1");
	assert_int_equal(rig.spool.n_stored, 0);
	assert_int_equal(room.counted, 0);
	assert_non_null(strstr(rig.event_lines.data, "\"reason\":\"inbound_throttle_messages\""));
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

static void test_not_stored(void **state)
{
	(void)state;
	for (int how = 0; how < 4; how++) {
		struct rig rig;
		struct rig_client client;

		begin(&rig, 5, QUOTA_MESSAGES);
		say(&rig, &client, LMTP(TO("r@a.example") TO("s@b.example")));
		rig.spool.result = how == 0 ? SPOOL_NO_SPACE : SPOOL_STORED;
		rig.spool.body_error = how == 1 ? BODY_NO_SPACE : BODY_OK;
		rig.spool.hold_bodies = how == 2;
		rig.spool.hold_adds = how == 3;
		rig_say(&rig, &client, BODY);
		assert_int_equal(room.counted, how < 2 ? 0 : 2);
		rig_hang_up(&rig, &client);
		rig_settle(&rig);
		fake_spool_release(&rig.spool);
		rig_settle(&rig);
		assert_int_equal(room.counted, how < 2 ? 0 : 2); /* stored though nobody waits */
		rig_free(&rig);
	}
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_some_refused),
        cmocka_unit_test(test_first_refused),
        cmocka_unit_test(test_smtp),
        cmocka_unit_test(test_not_stored),
};

TEST_MAIN("handoff_quota", tests)
