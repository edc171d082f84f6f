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

static void test_timer_for_now_waits_a_turn(void **state)
{
	struct fake_clock clock;
	struct loop *loop;
	struct str story;
	struct note a, b;

	(void)state;
	fake_clock_init(&clock, 0);
	str_init(&story);
	loop = loop_new("test", &clock.clock);
	a = note_new(loop, &story, "a");
	b = note_new(loop, &story, "b");
	a.again = true;
	note_timer(&a, 0);
	expect(&story, "");
	fake_clock_advance(&clock, 5);
	note_timer(&b, 0);
	assert_true(loop_step(loop));
	expect(&story, "a b ");
	assert_true(loop_step(loop));
	expect(&story, "a ");
	/* one whose time is long past does not overtake those that wait */
	timer_cancel(loop, &a.timer);
	note_timer(&a, 0);
	timer_arm(loop, &b.timer, 1);
	assert_true(loop_step(loop));
	expect(&story, "a b ");
	loop_free(&loop);
	str_free(&story);
}

static struct timer *victim;
static struct loop *victim_loop;

static void cancel_victim(void *ctx)
{
	note_it(ctx);
	timer_cancel(victim_loop, victim);
}

static void test_timer_cancelled_by_another(void **state)
{
	struct fake_clock clock;
	struct loop *loop;
	struct str story;
	struct note a, b;

	(void)state;
	fake_clock_init(&clock, 0);
	str_init(&story);
	loop = loop_new("test", &clock.clock);
	a = note_new(loop, &story, "a");
	b = note_new(loop, &story, "b");
	timer_init(&a.timer, cancel_victim, &a);
	timer_arm_in(loop, &a.timer, 1);
	note_timer(&b, 1);
	victim = &b.timer;
	victim_loop = loop;
	fake_clock_advance(&clock, 1);
	assert_true(loop_step(loop));
	expect(&story, "a ");
	assert_false(timer_armed(&b.timer));
	loop_free(&loop);
	str_free(&story);
}

/* A heap of many timers against a plain array: moved, cancelled, run in order of time and arming. */
struct many {
	struct timer timer;
	uint64_t due, order;
	bool armed;
	struct many_all *all;
};

struct many_all {
	struct many items[500];
	struct loop *loop;
	struct fake_clock *clock;
	uint64_t last_due, last_order;
	unsigned n_run;
};

static void many_run(void *ctx)
{
	struct many *m = ctx;

	assert_true(m->armed);
	assert_true(m->due <= m->all->clock->mono);
	assert_true(
	        m->due > m->all->last_due || (m->due == m->all->last_due && m->order > m->all->last_order));
	m->all->last_due = m->due;
	m->all->last_order = m->order;
	m->armed = false;
	m->all->n_run++;
}

static unsigned many_due(const struct many_all *all)
{
	unsigned n = 0;

	for (size_t i = 0; i < array_len(all->items); i++)
		n += all->items[i].armed && all->items[i].due <= all->clock->mono;
	return n;
}

static void test_many_timers(void **state)
{
	static struct many_all all;
	struct fake_clock clock;
	struct fake_rnd rnd;
	uint64_t order = 0;

	(void)state;
	fake_clock_init(&clock, 0);
	fake_rnd_init(&rnd, 7);
	all.clock = &clock;
	all.loop = loop_new("test", &clock.clock);
	for (size_t i = 0; i < array_len(all.items); i++) {
		all.items[i].all = &all;
		timer_init(&all.items[i].timer, many_run, &all.items[i]);
	}
	for (int round = 0; round < 300; round++) {
		for (int i = 0; i < 60; i++) {
			struct many *m = &all.items[rnd_below(&rnd.rnd, array_len(all.items))];

			m->armed = rnd_below(&rnd.rnd, 4) > 0;
			m->due = clock.mono + rnd_below(&rnd.rnd, 200);
			m->order = order++;
			if (m->armed)
				timer_arm(all.loop, &m->timer, m->due);
			else
				timer_cancel(all.loop, &m->timer);
		}
		fake_clock_advance(&clock, rnd_below(&rnd.rnd, 30));
		unsigned due = many_due(&all);

		all.n_run = 0;
		all.last_due = 0;
		assert_int_equal(loop_step(all.loop), due > 0);
		assert_int_equal(all.n_run, due);
	}
	loop_free(&all.loop);
}

static void test_mail_order(void **state)
{
	struct loop *a = loop_new("a", &clock_system), *b = loop_new("b", &clock_system);
	struct str story;
	struct note first, second, to_b1, to_b2, back;

	(void)state;
	str_init(&story);
	to_b1 = note_new(b, &story, "b1");
	to_b2 = note_new(b, &story, "b2");
	back = note_new(a, &story, "back");
	first = note_new(a, &story, "a1");
	second = note_new(a, &story, "a2");
	first.then = &to_b1;
	second.then = &to_b2;
	to_b2.then = &back;
	/* from outside; the loops have not run yet */
	loop_post(a, &first.mail);
	loop_post(a, &second.mail);
	assert_false(loop_step(b));
	assert_true(loop_step(a));
	expect(&story, "a1 a2 ");
	assert_true(loop_step(b));
	expect(&story, "b1 b2 ");
	assert_false(loop_step(b));
	assert_true(loop_step(a));
	expect(&story, "back ");
	assert_false(loop_step(a));
	loop_free(&a);
	loop_free(&b);
	str_free(&story);
}

static void test_mail_to_oneself(void **state)
{
	struct loop *loop = loop_new("a", &clock_system);
	struct str story;
	struct note a, b, c;

	(void)state;
	str_init(&story);
	a = note_new(loop, &story, "a");
	b = note_new(loop, &story, "b");
	c = note_new(loop, &story, "c");
	a.then = &c;
	a.mail.next = &b.mail;
	b.mail.next = NULL;
	loop_post_chain(loop, &a.mail);
	loop_post_chain(loop, NULL);
	assert_true(loop_step(loop));
	expect(&story, "a b ");
	assert_true(loop_step(loop));
	expect(&story, "c ");
	assert_false(loop_step(loop));
	loop_free(&loop);
	str_free(&story);
}

static void *run_there(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

struct caller {
	struct mail mail;
	struct loop *to;
	bool called, called_before_return;
};

/* On the caller's loop: the answer has come before loop_call() returns, although this turn has not ended. */
static void call_other(struct mail *mail)
{
	struct caller *c = container_of(mail, struct caller, mail);

	loop_call(c->to, set_true, &c->called);
	c->called_before_return = c->called;
}

static void test_call_and_count(void **state)
{
	struct loop *here = loop_new("here", &clock_system), *there = loop_new("there", &clock_system);
	struct caller c = {.mail.take = call_other, .to = there};
	struct loop_stats stats;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, run_there, there), 0);
	loop_post(here, &c.mail);
	assert_true(loop_step(here));
	assert_true(c.called_before_return);
	loop_stop(there);
	pthread_join(thread, NULL);
	stats = loop_stats(here);
	assert_int_equal(stats.mail, 1);
	assert_int_equal(stats.own_mail, 0);
	stats = loop_stats(there);
	assert_int_equal(stats.mail, 1);
	loop_free(&here);
	loop_free(&there);
}

static void test_take_all(void **state)
{
	struct loop *loop = loop_new("a", &clock_system);
	struct note a = {.mail.take = on_mail}, b = {.mail.take = on_mail};

	(void)state;
	assert_null(loop_take_all_for_test(loop));
	loop_post(loop, &a.mail);
	loop_post(loop, &b.mail);
	assert_ptr_equal(loop_take_all_for_test(loop), &a.mail);
	assert_ptr_equal(a.mail.next, &b.mail);
	assert_null(b.mail.next);
	assert_false(loop_step(loop));
	loop_free(&loop);
}

/* Turn-end hooks: after everything else, in their order, before the outbox goes; only if something ran. */
static void hook_one(void *ctx)
{
	struct note *note = ctx;

	str_add(note->story, "hook1 ");
	if (note->then != NULL)
		loop_post(note->then->loop, &note->then->mail);
}

static void hook_two(void *ctx)
{
	struct note *note = ctx;

	str_add(note->story, "hook2 ");
}

static void test_hooks(void **state)
{
	struct loop *a = loop_new("a", &clock_system), *b = loop_new("b", &clock_system);
	struct str story;
	struct note note, to_b, to_b_from_hook;

	(void)state;
	str_init(&story);
	note = note_new(a, &story, "a");
	to_b = note_new(b, &story, "b");
	to_b_from_hook = note_new(b, &story, "from-hook");
	note.then = &to_b;
	struct note hook = note_new(a, &story, "");
	hook.then = &to_b_from_hook;
	loop_on_turn_end(a, hook_one, &hook);
	loop_on_turn_end(a, hook_two, &hook);
	assert_false(loop_step(a));
	expect(&story, "");
	loop_post(a, &note.mail);
	assert_true(loop_step(a));
	expect(&story, "a hook1 hook2 ");
	assert_true(loop_step(b));
	expect(&story, "b from-hook ");
	assert_false(loop_step(a));
	expect(&story, "");
	loop_free(&a);
	loop_free(&b);
	str_free(&story);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	char byte;

	(void)what;
	assert_int_equal(read(fd, &byte, 1), 1);
	note_it(ctx);
}

static void test_events_count_as_run(void **state)
{
	struct loop *loop = loop_new("a", &clock_system);
	struct event *event;
	struct str story;
	struct note note;
	int fds[2];

	(void)state;
	str_init(&story);
	note = note_new(loop, &story, "byte");
	assert_int_equal(pipe(fds), 0);
	event = event_new(loop_base(loop), fds[0], EV_READ | EV_PERSIST, on_readable, &note);
	event_add(event, NULL);
	assert_false(loop_step(loop));
	assert_int_equal(write(fds[1], "xy", 2), 2);
	assert_true(loop_step(loop));
	expect(&story, "byte ");
	assert_true(loop_step(loop));
	expect(&story, "byte ");
	assert_false(loop_step(loop));
	/* activated by hand, between turns */
	assert_int_equal(write(fds[1], "z", 1), 1);
	event_active(event, EV_READ, 1);
	assert_true(loop_step(loop));
	expect(&story, "byte ");
	event_free(event);
	(void)close(fds[0]);
	(void)close(fds[1]);
	loop_free(&loop);
	str_free(&story);
}

static uint64_t seen_now[3];
static struct fake_clock *seen_clock;

static void see_now(void *ctx)
{
	struct loop *loop = ctx;

	seen_now[0] = loop_now_us(loop);
	fake_clock_advance(seen_clock, 7);
	seen_now[1] = loop_now_us(loop);
	seen_now[2] = loop_wall_us(loop);
}

static void test_time_stands_in_a_turn(void **state)
{
	struct fake_clock clock;
	struct timer timer;
	struct loop *loop;

	(void)state;
	fake_clock_init(&clock, 5000);
	loop = loop_new("a", &clock.clock);
	assert_int_equal(loop_now_us(loop), clock.mono);
	fake_clock_advance(&clock, 3);
	assert_int_equal(loop_now_us(loop), clock.mono);
	assert_int_equal(loop_wall_us(loop), 5003);
	timer_init(&timer, see_now, loop);
	timer_arm_in(loop, &timer, 0);
	seen_clock = &clock;
	assert_true(loop_step(loop));
	assert_int_equal(seen_now[0], clock.mono - 7);
	assert_int_equal(seen_now[1], clock.mono - 7);
	assert_int_equal(loop_now_us(loop), clock.mono);
	loop_free(&loop);
}

/* ---- threads ---- */

static void *run_loop(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

enum { N_POSTERS = 4, N_MAILS = 20000 };

struct reader {
	struct loop *loop;
	unsigned next[N_POSTERS], n;
	bool wrong;
};

struct numbered {
	struct mail mail;
	struct reader *reader;
	unsigned poster, number;
};

struct poster {
	struct loop *loop; /* its own, or NULL */
	struct reader *reader;
	struct numbered *mails;
	unsigned poster, posted;
	struct timer timer;
};

static void take_numbered(struct mail *mail)
{
	struct numbered *m = container_of(mail, struct numbered, mail);
	struct reader *reader = m->reader;

	if (reader->next[m->poster]++ != m->number)
		reader->wrong = true;
	if (++reader->n == N_POSTERS * N_MAILS)
		loop_stop(reader->loop);
}

static void post_some(struct poster *poster, unsigned n)
{
	for (; n > 0 && poster->posted < N_MAILS; n--) {
		struct numbered *m = &poster->mails[poster->posted];

		*m = (struct numbered){.mail.take = take_numbered,
		        .reader = poster->reader,
		        .poster = poster->poster,
		        .number = poster->posted++};
		loop_post(poster->reader->loop, &m->mail);
	}
}

/* Without a loop: straight into the mailbox. */
static void *poster_bare(void *ctx)
{
	struct poster *poster = ctx;

	while (poster->posted < N_MAILS)
		post_some(poster, 1);
	return NULL;
}

/* With a loop: by way of its outbox, some each turn. */
static void poster_turn(void *ctx)
{
	struct poster *poster = ctx;

	post_some(poster, 1 + poster->posted % 50);
	if (poster->posted < N_MAILS)
		timer_arm_in(poster->loop, &poster->timer, poster->posted % 3);
	else
		loop_stop(poster->loop);
}

static void *poster_loop(void *ctx)
{
	struct poster *poster = ctx;

	loop_run(poster->loop);
	return NULL;
}

static void test_many_threads_post_in_order(void **state)
{
	struct reader reader = {.loop = loop_new("reader", &clock_system)};
	struct poster posters[N_POSTERS] = {0};
	pthread_t threads[N_POSTERS], reader_thread;

	(void)state;
	for (unsigned i = 0; i < N_POSTERS; i++) {
		posters[i].reader = &reader;
		posters[i].poster = i;
		posters[i].mails = mem_array(NULL, N_MAILS, sizeof(struct numbered));
		if (i % 2 > 0) {
			posters[i].loop = loop_new("poster", &clock_system);
			timer_init(&posters[i].timer, poster_turn, &posters[i]);
			timer_arm_in(posters[i].loop, &posters[i].timer, 0);
		}
		assert_int_equal(
		        pthread_create(&threads[i], NULL, i % 2 > 0 ? poster_loop : poster_bare, &posters[i]),
		        0);
	}
	assert_int_equal(pthread_create(&reader_thread, NULL, run_loop, reader.loop), 0);
	for (unsigned i = 0; i < N_POSTERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(pthread_join(reader_thread, NULL), 0);
	assert_false(reader.wrong);
	assert_int_equal(reader.n, N_POSTERS * N_MAILS);
	assert_true(loop_cpu_us(reader.loop) > 0);
	for (unsigned i = 0; i < N_POSTERS; i++) {
		loop_free(&posters[i].loop);
		mem_free(&posters[i].mails);
	}
	loop_free(&reader.loop);
}

/* Two loops throw a ball: each falls asleep and is woken each time. */
struct ball {
	struct mail mail;
	struct loop *at[2];
	unsigned throws;
};

static void take_ball(struct mail *mail)
{
	struct ball *ball = container_of(mail, struct ball, mail);

	if (++ball->throws == 2000) {
		loop_stop(ball->at[0]);
		loop_stop(ball->at[1]);
		return;
	}
	loop_post(ball->at[ball->throws % 2], mail);
}

static void test_no_wakeup_is_lost(void **state)
{
	struct ball ball = {.mail.take = take_ball};
	pthread_t threads[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		ball.at[i] = loop_new("player", &clock_system);
		assert_int_equal(pthread_create(&threads[i], NULL, run_loop, ball.at[i]), 0);
	}
	loop_post(ball.at[0], &ball.mail);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(ball.throws, 2000);
	loop_free(&ball.at[0]);
	loop_free(&ball.at[1]);
}

static void stop_loop(void *ctx)
{
	loop_stop(ctx);
}

static void test_run_until_timer(void **state)
{
	struct loop *loop = loop_new("a", &clock_system);
	struct timer early, late;
	uint64_t start = loop_now_us(loop);

	(void)state;
	timer_init(&early, stop_loop, loop);
	timer_init(&late, stop_loop, loop);
	timer_arm_in(loop, &late, 3600 * SECOND_US);
	timer_arm_in(loop, &early, 2000);
	loop_run(loop);
	assert_true(loop_now_us(loop) - start >= 2000);
	assert_false(timer_armed(&early));
	assert_true(timer_armed(&late));
	/* stopped before it runs: it does not start; and it can be run again */
	loop_stop(loop);
	loop_run(loop);
	timer_arm_in(loop, &early, 0);
	loop_run(loop);
	assert_false(timer_armed(&early));
	loop_free(&loop);
}

/* ---- workers ---- */

struct sum {
	struct work work;
	unsigned value, result;
	unsigned *n_done;
	struct loop *loop;
};

static void sum_run(struct work *work)
{
	struct sum *sum = container_of(work, struct sum, work);

	sum->result = sum->value * 2;
}

static void sum_done(struct mail *mail)
{
	struct sum *sum = container_of(container_of(mail, struct work, done), struct sum, work);

	assert_int_equal(sum->result, sum->value * 2);
	if (++*sum->n_done == 100)
		loop_stop(sum->loop);
}

static void work_with(unsigned threads)
{
	struct loop *loop = loop_new("a", &clock_system);
	struct workers *workers = workers_new("disk", threads);
	struct sum sums[100];
	unsigned n_done = 0;

	for (unsigned i = 0; i < 100; i++) {
		sums[i] = (struct sum){.work.run = sum_run,
		        .work.reply = loop,
		        .work.done.take = sum_done,
		        .value = i,
		        .n_done = &n_done,
		        .loop = loop};
		workers_do(workers, &sums[i].work);
	}
	assert_int_equal(n_done, 0);
	loop_run(loop);
	assert_int_equal(n_done, 100);
	(void)workers_cpu_us(workers);
	workers_free(&workers);
	assert_null(workers);
	loop_free(&loop);
}

static void test_workers(void **state)
{
	(void)state;
	work_with(0);
	work_with(1);
	work_with(3);
}

static void test_workers_finish_what_is_queued(void **state)
{
	struct loop *loop = loop_new("a", &clock_system);
	struct workers *workers = workers_new("disk", 2);
	struct sum sums[50];
	unsigned n_done = 0;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		sums[i] = (struct sum){.work.run = sum_run,
		        .work.reply = loop,
		        .work.done.take = sum_done,
		        .value = i,
		        .n_done = &n_done,
		        .loop = loop};
		workers_do(workers, &sums[i].work);
	}
	workers_free(&workers);
	assert_true(loop_step(loop));
	assert_int_equal(n_done, 50);
	loop_free(&loop);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_timer_for_now_waits_a_turn),
        cmocka_unit_test(test_timer_cancelled_by_another),
        cmocka_unit_test(test_many_timers),
        cmocka_unit_test(test_mail_order),
        cmocka_unit_test(test_mail_to_oneself),
        cmocka_unit_test(test_call_and_count),
        cmocka_unit_test(test_take_all),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_events_count_as_run),
        cmocka_unit_test(test_time_stands_in_a_turn),
        cmocka_unit_test(test_many_threads_post_in_order),
        cmocka_unit_test(test_no_wakeup_is_lost),
        cmocka_unit_test(test_run_until_timer),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_workers_finish_what_is_queued),
};
TEST_MAIN("base_loop", tests)
