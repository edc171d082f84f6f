#include "config.h"
#include "t/lib/test.h"

#include <pthread.h>
#include <unistd.h>
#include "base/loop.h"
#include "base/mem.h"
#include "base/str.h"

/* What happened, in order: "a b c " */
struct note {
	struct mail mail;
	struct timer timer;
	struct loop *loop;
	struct str *story;
	const char *word;
	struct note *then; /* posted to then->loop, or its timer armed for now */
	bool again;
};

static void note_it(struct note *note)
{
	str_printf(note->story, "%s ", note->word);
	if (note->then != NULL)
		loop_post(note->then->loop, &note->then->mail);
}

static void on_mail(struct mail *mail)
{
	note_it(container_of(mail, struct note, mail));
}

static void on_timer(void *ctx)
{
	struct note *note = ctx;

	note_it(note);
	if (note->again)
		timer_arm_in(note->loop, &note->timer, 0);
}

static struct note note_new(struct loop *loop, struct str *story, const char *word)
{
	struct note note = {.mail.take = on_mail, .loop = loop, .story = story, .word = word};

	return note;
}

static void note_timer(struct note *note, uint64_t in_us)
{
	timer_init(&note->timer, on_timer, note);
	timer_arm_in(note->loop, &note->timer, in_us);
}

static void expect(struct str *story, const char *wanted)
{
	assert_string_equal(story->data, wanted);
	str_clear(story);
}

static void test_timers(void **state)
{
	struct fake_clock clock;
	struct loop *loop;
	struct str story;
	struct note a, b, c;

	(void)state;
	fake_clock_init(&clock, 0);
	str_init(&story);
	loop = loop_new("test", &clock.clock);
	a = note_new(loop, &story, "a");
	b = note_new(loop, &story, "b");
	c = note_new(loop, &story, "c");
	assert_false(loop_step(loop));
	note_timer(&b, 20);
	note_timer(&c, 20);
	note_timer(&a, 10);
	assert_true(timer_armed(&a.timer));
	assert_int_equal(loop_next_timer_us(loop), clock.mono + 10);
	assert_false(loop_step(loop));
	fake_clock_advance(&clock, 10);
	assert_true(loop_step(loop));
	expect(&story, "a ");
	assert_false(timer_armed(&a.timer));
	timer_arm_in(loop, &b.timer, 50); /* moves it behind c */
	fake_clock_advance(&clock, 10);
	assert_true(loop_step(loop));
	expect(&story, "c ");
	timer_cancel(loop, &b.timer);
	timer_cancel(loop, &b.timer);
	fake_clock_advance(&clock, 100);
	assert_false(loop_step(loop));
	assert_int_equal(loop_next_timer_us(loop), UINT64_MAX);
	loop_free(&loop);
	assert_null(loop);
	str_free(&story);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),
};
TEST_MAIN("base_loop", tests)
