/*
 * The event log: keys, hostile text, order across threads, the bound on the backlog, reopening.
 */
#include "t/lib/test.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "report/event.h"

static char last[65536];

static void keep_line(void *ctx, const char *line)
{
	(void)ctx;
	snprintf(last, sizeof(last), "%s", line);
}

struct fixture {
	char path[64];
	struct metrics *metrics;
	struct fake_clock clock;
	struct event_log *log;
};

static void open_log(struct fixture *f, bool threaded)
{
	int fd;

	strcpy(f->path, "/tmp/bindpost-event-XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	close(fd);
	f->metrics = metrics_new();
	fake_clock_init(&f->clock, 1795192698000123u);
	f->log = event_log_open(f->path, &f->clock.clock, f->metrics, threaded, NULL);
	assert_non_null(f->log);
	event_log_tap(f->log, keep_line, NULL);
}

static void close_log(struct fixture *f)
{
	event_log_close(&f->log);
	metrics_free(&f->metrics);
	unlink(f->path);
}

static const char *text(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void keys_are_the_designs(void **state)
{
	struct fixture f;
	struct event e = {
	        .type = EVENT_DELIVERY,
	        .id = 0x1234,
	        .binding = "acme",
	        .sender = "",
	        .recipient = "u@x.example",
	        .domain = "x.example",
	        .mx = "mx1.x.example",
	        .has_attempt = true,
	        .attempt = 1,
	        .state = "dot",
	        .code = 250,
	        .enhanced = "2.0.0",
	        .reply = "250 2.0.0 ok",
	        .has_size = true,
	        .size = 5120,
	        .has_delay = true,
	        .delay_us = 1500000,
	        .tls_version = "TLS1.3",
	        .tls_verified = "no",
	};
	json_t *o;

	(void)state;
	assert_true(addr_parse("192.0.2.20", &e.source, NULL));
	open_log(&f, false);
	event_post(f.log, &e);
	o = json_loads(last, 0, NULL);
	assert_non_null(o);
	assert_string_equal(text(o, "time"), "2026-11-20T16:38:18.000123Z");
	assert_string_equal(text(o, "event"), "delivery");
	assert_string_equal(text(o, "id"), "0000000000001234");
	assert_string_equal(text(o, "sender"), "");
	assert_string_equal(text(o, "source"), "192.0.2.20");
	assert_null(json_object_get(o, "peer"));
	assert_null(json_object_get(o, "group"));
	assert_int_equal(json_integer_value(json_object_get(o, "attempt")), 1);
	assert_int_equal(json_integer_value(json_object_get(o, "size")), 5120);
	assert_true(json_real_value(json_object_get(o, "delay")) == 1.5);
	assert_string_equal(text(json_object_get(o, "tls"), "version"), "TLS1.3");
	assert_true(json_is_false(json_object_get(json_object_get(o, "tls"), "resumed")));
	json_decref(o);
	close_log(&f);
}

static void hostile_text_stays_one_line(void **state)
{
	struct fixture f;
	struct event e = {.type = EVENT_DEFERRAL,
	        .reply = "550 \"x\"\r\n{\"event\":\"delivery\"}\x01\xff\xc3\x28 \xc3\xa9"};
	json_t *o;

	(void)state;
	open_log(&f, false);
	event_post(f.log, &e);
	assert_null(strchr(last, '\n'));
	o = json_loads(last, 0, NULL);
	assert_non_null(o);
	assert_string_equal(text(o, "event"), "deferral");
	assert_non_null(strstr(text(o, "reply"), "\xc3\xa9"));
	json_decref(o);
	close_log(&f);
}

#define POSTERS 4
#define EACH 5000

static void *post_many(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < EACH; i++) {
		struct event e = {.type = EVENT_ADMIN, .has_attempt = true, .attempt = i, .detail = "x"};

		event_post(f->log, &e);
	}
	return NULL;
}

static unsigned count_good(const char *path, unsigned *bad)
{
	FILE *in = fopen(path, "re");
	char line[4096];
	unsigned n = 0;

	*bad = 0;
	assert_non_null(in);
	while (fgets(line, sizeof(line), in)) {
		json_t *o = json_loads(line, 0, NULL);

		if (o)
			n++;
		else
			(*bad)++;
		json_decref(o);
	}
	fclose(in);
	return n;
}

static unsigned count_lines(const char *path)
{
	unsigned bad, n = count_good(path, &bad);

	assert_int_equal(bad, 0);
	return n;
}

static void nothing_is_lost_between_threads(void **state)
{
	struct fixture f;
	pthread_t threads[POSTERS];

	(void)state;
	open_log(&f, true);
	for (int i = 0; i < POSTERS; i++)
		pthread_create(&threads[i], NULL, post_many, &f);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	event_log_close(&f.log);
	assert_int_equal(count_lines(f.path), POSTERS * EACH);
	metrics_free(&f.metrics);
	unlink(f.path);
}

static void reopening_follows_logrotate(void **state)
{
	struct fixture f;
	struct event e = {.type = EVENT_START};
	char moved[80];

	(void)state;
	open_log(&f, false);
	event_post(f.log, &e);
	snprintf(moved, sizeof(moved), "%s.1", f.path);
	assert_int_equal(rename(f.path, moved), 0);
	assert_true(event_log_reopen(f.log, f.path, NULL));
	event_post(f.log, &e);
	event_post(f.log, &e);
	assert_int_equal(count_lines(moved), 1);
	assert_int_equal(count_lines(f.path), 2);
	assert_false(event_log_reopen(f.log, "/nonexistent/x", NULL));
	event_post(f.log, &e);
	assert_int_equal(count_lines(f.path), 3);
	unlink(moved);
	close_log(&f);
}

/* A disk that was full for a while costs events, but no line that comes after is spoilt. */
static void what_is_cut_short_spoils_no_other_line(void **state)
{
	struct fixture f;
	struct event e = {.type = EVENT_START};
	struct rlimit was, small = {.rlim_cur = 100};
	unsigned bad;

	(void)state;
	open_log(&f, false);
	event_post(f.log, &e);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small.rlim_max = was.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	event_post(f.log, &e);
	event_post(f.log, &e);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	event_post(f.log, &e);
	event_post(f.log, &e);
	assert_int_equal(count_good(f.path, &bad), 3);
	assert_int_equal(bad, 1);
	close_log(&f);
}

/* Shippers of logs read it by its group; nobody else does. */
static void a_new_file_is_for_its_group(void **state)
{
	struct fixture f;
	struct stat st;
	mode_t before = umask(0077);

	(void)state;
	open_log(&f, false);
	assert_int_equal(unlink(f.path), 0);
	assert_true(event_log_reopen(f.log, f.path, NULL));
	umask(before);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	close_log(&f);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_cut_short_spoils_no_other_line),
        cmocka_unit_test(a_new_file_is_for_its_group),
        cmocka_unit_test(keys_are_the_designs),
        cmocka_unit_test(hostile_text_stays_one_line),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(reopening_follows_logrotate),
};

TEST_MAIN("event", tests)
