/*
 * report/trace: who gets which lines, and what becomes of those that nobody takes.
 */
#include "t/lib/test.h"

#include <jansson.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "report/trace.h"

struct fixture {
	struct fake_clock clock;
	struct loop *loop;
	struct trace *trace;
};

static void setup(struct fixture *f)
{
	fake_clock_init(&f->clock, 1795192698000123u);
	f->loop = loop_new("test", &f->clock.clock);
	f->trace = trace_new(&f->clock.clock);
}

static void teardown(struct fixture *f)
{
	while (loop_step(f->loop))
		continue;
	trace_free(&f->trace);
	loop_free(&f->loop);
}

static void count(void *ctx)
{
	++*(unsigned *)ctx;
}

static void say(struct fixture *f, const char *binding, const char *domain, const char *hop, const char *text)
{
	struct trace_line line = {.session = 1,
	        .since_us = 12345,
	        .binding = binding,
	        .domain = domain,
	        .next_hop = hop,
	        .mx = "mx.example",
	        .direction = '>',
	        .text = text,
	        .len = strlen(text)};

	trace_post(f->trace, &line);
}

static unsigned lines_of(struct trace_reader *r, struct str *out)
{
	unsigned n = 0;

	str_clear(out);
	trace_take(r, out);
	for (size_t i = 0; i < out->len; i++)
		n += out->data[i] == '\n';
	return n;
}

static void test_filters(void **state)
{
	struct fixture f;
	struct trace_reader *all, *acme, *domain;
	unsigned n_all = 0, n_acme = 0, n_domain = 0;
	struct str out;

	(void)state;
	setup(&f);
	str_init(&out);
	assert_false(trace_on(f.trace));
	assert_false(trace_on(NULL));
	say(&f, "acme", "a.example", "a.example", "nobody looks");
	all = trace_read(f.trace, NULL, NULL, f.loop, count, &n_all);
	acme = trace_read(f.trace, "acme", NULL, f.loop, count, &n_acme);
	domain = trace_read(f.trace, NULL, "a.example", f.loop, count, &n_domain);
	assert_true(trace_on(f.trace));
	say(&f, "acme", "a.example", "gateway.example", "1");
	say(&f, "acme", "b.example", "b.example", "2");
	say(&f, "bravo", "b.example", "a.example", "3");
	say(&f, "bravo", NULL, NULL, "4");
	assert_int_equal(n_all, 0); /* never from inside the call */
	while (loop_step(f.loop))
		continue;
	assert_int_equal(n_all, 1);
	assert_int_equal(n_acme, 1);
	assert_int_equal(n_domain, 1);
	assert_int_equal(lines_of(all, &out), 4);
	assert_int_equal(lines_of(acme, &out), 2);
	assert_int_equal(lines_of(domain, &out), 2);
	assert_non_null(strstr(out.data, "\"ms\":12"));
	assert_int_equal(lines_of(domain, &out), 0);
	trace_end(&acme);
	say(&f, "acme", "a.example", "a.example", "5");
	while (loop_step(f.loop))
		continue;
	assert_int_equal(n_all, 2);
	assert_int_equal(n_acme, 1);
	trace_end(&all);
	trace_end(&domain);
	assert_false(trace_on(f.trace));
	str_free(&out);
	teardown(&f);
}

static void test_hostile_text(void **state)
{
	struct fixture f;
	struct trace_reader *r;
	struct trace_line line = {
	        .session = 7, .direction = '<', .text = "\x1b[2J\xff\r\n\"\\\0x", .len = 11};
	unsigned ready = 0;
	struct str out;
	json_t *row;

	(void)state;
	setup(&f);
	str_init(&out);
	r = trace_read(f.trace, NULL, NULL, f.loop, count, &ready);
	trace_post(f.trace, &line);
	assert_int_equal(lines_of(r, &out), 1);
	row = json_loads(out.data, JSON_ALLOW_NUL, NULL);
	assert_non_null(row);
	assert_string_equal(json_string_value(json_object_get(row, "time")), "2026-11-20T16:38:18.000123Z");
	assert_string_equal(json_string_value(json_object_get(row, "direction")), "<");
	assert_int_equal(json_integer_value(json_object_get(row, "session")), 7);
	assert_null(json_object_get(row, "peer"));
	json_decref(row);
	trace_end(&r);
	str_free(&out);
	teardown(&f);
}

/* Who takes nothing gets what came first, one gap, and how long it is; and then goes on. */
static void test_slow_reader(void **state)
{
	struct fixture f;
	struct trace_reader *r;
	unsigned ready = 0, kept;
	const char *last;
	struct str out;
	json_t *row;

	(void)state;
	setup(&f);
	str_init(&out);
	r = trace_read(f.trace, NULL, NULL, f.loop, count, &ready);
	for (unsigned i = 0; i < 10000; i++) {
		say(&f, "acme", "a.example", "a.example", "a line of some length, as they come");
		if (i % 100 == 0)
			loop_step(f.loop);
	}
	while (loop_step(f.loop))
		continue;
	assert_int_equal(ready, 1); /* it knows: nobody is woken for every line */
	kept = lines_of(r, &out) - 1;
	assert_true(out.len <= TRACE_WAITING_MAX + 500);
	out.data[out.len - 1] = 0;
	last = strrchr(out.data, '\n') + 1;
	row = json_loads(last, 0, NULL);
	assert_non_null(row);
	assert_int_equal(json_integer_value(json_object_get(row, "dropped")), 10000 - kept);
	json_decref(row);
	say(&f, "acme", "a.example", "a.example", "on again");
	while (loop_step(f.loop))
		continue;
	assert_int_equal(ready, 2);
	assert_int_equal(lines_of(r, &out), 1);
	say(&f, "acme", "a.example", "a.example", "its mail is on the way");
	trace_end(&r);
	str_free(&out);
	teardown(&f);
	assert_int_equal(ready, 2);
}

static void test_many_readers(void **state)
{
	struct fixture f;
	struct trace_reader *r[TRACE_READERS_MAX + 1];
	unsigned ready = 0;

	(void)state;
	setup(&f);
	for (unsigned i = 0; i < TRACE_READERS_MAX; i++)
		assert_non_null(r[i] = trace_read(f.trace, NULL, NULL, f.loop, count, &ready));
	assert_null(trace_read(f.trace, NULL, NULL, f.loop, count, &ready));
	trace_end(&r[3]);
	assert_non_null(r[3] = trace_read(f.trace, NULL, NULL, f.loop, count, &ready));
	for (unsigned i = 0; i < TRACE_READERS_MAX; i++)
		trace_end(&r[i]);
	assert_false(trace_on(f.trace));
	teardown(&f);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_many_readers),
};
TEST_MAIN("trace", tests)
