/*
 * Time, memory, load and accidents: what the handoff does when something runs out (design sections 4 and 7).
 */
#include "config.h"
#include "base/mem.h"
#include "base/sockspec.h"
#include "t/lib/handoff_rig.h"
#include "t/lib/test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LHLO "LHLO mx.example\r\n"
#define MAIL "MAIL FROM:<a@b.example>\r\n"
#define RCPT "RCPT TO:<r@d.example>\r\n"
#define BEGIN LHLO MAIL RCPT "DATA\r\n"

static void expect(struct rig *rig, struct rig_client *client, const char *want)
{
	struct str replies;

	str_init(&replies);
	rig_read(rig, client);
	rig_replies(client, &replies);
	if (strcmp(replies.data, want) != 0)
		fail_msg("replies %s\n not %s\n%s", replies.data, want, client->said.data);
	str_free(&replies);
	str_clear(&client->said);
}

static void begin(struct rig *rig, struct rig_client *client, const char *commands)
{
	rig_connect(rig, client);
	rig_say(rig, client, commands);
	str_clear(&client->said);
}

/* --- time ---------------------------------------------------------------------------------------------------- */

static void test_idle(void **state)
{
	static const char *const starts[] = {"", LHLO, LHLO MAIL, LHLO MAIL RCPT, BEGIN, BEGIN "A: b\r\n"};

	(void)state;
	for (size_t i = 0; i < array_len(starts); i++) {
		struct rig rig;
		struct rig_client client;

		rig_init(&rig, NULL, NULL);
		begin(&rig, &client, starts[i]);
		rig_advance(&rig, 299);
		expect(&rig, &client, "");
		rig_advance(&rig, 2);
		expect(&rig, &client, "421 4.4.2");
		assert_true(client.closed);
		assert_int_equal(rig.spool.writers, 0);
		assert_int_equal(rig.shared.sessions, 1); /* until the client closes too, or for 5 s */
		rig_advance(&rig, 6);
		assert_int_equal(rig.shared.sessions, 0);
		assert_int_equal(rig.shared.closing, 0);
		rig_hang_up(&rig, &client);
		rig_free(&rig);
	}
}

/* Commands start the clock anew, bytes alone do not. */
static void test_trickle(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL);
	begin(&rig, &client, LHLO);
	for (int i = 0; i < 4; i++) {
		rig_advance(&rig, 200);
		rig_say(&rig, &client, "NOOP\r\n");
		expect(&rig, &client, "250 2.0.0");
	}
	for (int i = 0; i < 29; i++) {
		rig_advance(&rig, 10);
		rig_say(&rig, &client, "x");
	}
	expect(&rig, &client, "");
	rig_advance(&rig, 20);
	expect(&rig, &client, "421 4.4.2");
	rig_hang_up(&rig, &client);

	begin(&rig, &client, BEGIN);
	for (int i = 0; i < 29; i++) {
		rig_advance(&rig, 10);
		rig_say(&rig, &client, "x\r\n");
	}
	expect(&rig, &client, "");
	rig_advance(&rig, 20);
	expect(&rig, &client, "421 4.4.2");
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* A few KB now and then keep a message going, but not for ever. */
static void test_slow_message(void **state)
{
	struct rig rig;
	struct rig_client client;
	char line[1000];
	int minutes;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	rig_init(&rig, NULL, NULL);
	begin(&rig, &client, BEGIN);
	for (minutes = 0; minutes < 100 && !client.closed; minutes += 4) {
		for (int i = 0; i < 5; i++)
			rig_send(&rig, &client, line, sizeof(line));
		rig_advance(&rig, 240);
		rig_read(&rig, &client);
	}
	assert_in_range(minutes, 60, 64);
	expect(&rig, &client, "421 4.4.2");
	rig_hang_up(&rig, &client);
	/* nor do NOOPs hold a transaction */
	begin(&rig, &client, LHLO MAIL);
	for (minutes = 0; minutes < 100 && !client.closed; minutes += 4) {
		rig_say(&rig, &client, "NOOP\r\n");
		rig_advance(&rig, 240);
		rig_read(&rig, &client);
	}
	assert_in_range(minutes, 60, 64);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* The client does not close after 421: we do. */
static void test_close_is_bounded(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL);
	begin(&rig, &client, LHLO);
	rig_advance(&rig, 301);
	for (int i = 0; i < 7; i++) {
		(void)!send(client.fd, "x", 1, MSG_NOSIGNAL);
		rig_advance(&rig, 1);
	}
	assert_int_equal(send(client.fd, "x", 1, MSG_NOSIGNAL), -1);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* --- load ---------------------------------------------------------------------------------------------------- */

static void test_too_many_sessions(void **state)
{
	struct rig rig;
	struct rig_client busy[3], late;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig.shared.max_sessions = 3;
	for (int i = 0; i < 3; i++)
		begin(&rig, &busy[i], LHLO MAIL);
	/* greeted, but no mail; those within the mark go on */
	rig_connect(&rig, &late);
	rig_say(&rig, &late, LHLO MAIL RCPT "NOOP\r\n");
	expect(&rig, &late, "220|250|451 4.3.2|503 5.5.1|250 2.0.0");
	rig_say(&rig, &busy[0], RCPT "DATA\r\n\r\n.\r\n" MAIL);
	expect(&rig, &busy[0], "250 2.1.5|354|250 2.0.0|250 2.1.0");
	/* room again */
	rig_say(&rig, &busy[1], "QUIT\r\n");
	rig_say(&rig, &late, MAIL);
	expect(&rig, &late, "250 2.1.0");
	for (int i = 0; i < 3; i++)
		rig_hang_up(&rig, &busy[i]);
	rig_hang_up(&rig, &late);
	rig_free(&rig);
}

static void test_idle_session_makes_room(void **state)
{
	struct rig rig;
	struct rig_client a, b, c, d, e;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig.shared.max_sessions = 3;
	begin(&rig, &a, LHLO);
	rig_advance(&rig, 1);
	begin(&rig, &b, LHLO);
	rig_advance(&rig, 1);
	begin(&rig, &c, LHLO MAIL);
	rig_say(&rig, &a, "NOOP\r\n"); /* now b has been idle longest */
	str_clear(&a.said);
	begin(&rig, &d, LHLO);
	expect(&rig, &b, "421 4.3.2");
	assert_true(b.closed);
	/* b is over the mark until it has really gone, but nobody else has to go for it */
	rig_say(&rig, &d, MAIL MAIL);
	expect(&rig, &d, "451 4.3.2|451 4.3.2");
	expect(&rig, &a, "");
	rig_hang_up(&rig, &b);
	assert_int_equal(rig.shared.sessions, 3);
	rig_say(&rig, &d, MAIL);
	expect(&rig, &d, "250 2.1.0");
	/* then a; c and d are in transactions */
	begin(&rig, &e, LHLO MAIL);
	expect(&rig, &a, "421 4.3.2");
	expect(&rig, &c, "");
	expect(&rig, &d, "");
	rig_hang_up(&rig, &a);
	rig_hang_up(&rig, &c);
	rig_hang_up(&rig, &d);
	rig_hang_up(&rig, &e);
	rig_free(&rig);
}

/* The longest idle one of all loops goes, wherever the new one came in. */
static void test_idle_session_of_another_loop(void **state)
{
	struct rig rig;
	struct rig_client a, b, c;
	struct handoff *first, *second;

	(void)state;
	rig_init(&rig, NULL, NULL);
	first = rig.handoff;
	second = handoff_new(&rig.shared, rig.loop);
	rig.shared.max_sessions = 2;
	begin(&rig, &a, LHLO);
	rig.handoff = second;
	rig_advance(&rig, 1);
	begin(&rig, &b, LHLO);
	begin(&rig, &c, LHLO MAIL);
	expect(&rig, &a, "421 4.3.2");
	expect(&rig, &b, "");
	rig_hang_up(&rig, &a);
	rig_hang_up(&rig, &b);
	rig_hang_up(&rig, &c);
	handoff_free(&second);
	rig.handoff = first;
	rig_free(&rig);
}

/* 421 must never answer connect or LHLO: a session that just came is left alone. */
static void test_new_session_is_not_sent_away(void **state)
{
	struct rig rig;
	struct rig_client a, b, c;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig.shared.max_sessions = 1;
	rig_connect(&rig, &a);
	rig_connect(&rig, &b);
	rig_say(&rig, &a, LHLO);
	expect(&rig, &a, "220|250");
	rig_say(&rig, &b, LHLO);
	expect(&rig, &b, "220|250");
	rig_hang_up(&rig, &b);
	rig_hang_up(&rig, &a);
	/* one that has said nothing for long is no such session */
	rig_connect(&rig, &a);
	rig_advance(&rig, 6);
	rig_connect(&rig, &c);
	expect(&rig, &a, "220|421 4.3.2");
	rig_hang_up(&rig, &a);
	rig_hang_up(&rig, &c);
	rig_free(&rig);
}

static void test_spool_says_no(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL);
	begin(&rig, &client, LHLO);
	rig.spool.health = SPOOL_LOW_SPACE;
	rig_say(&rig, &client, MAIL);
	expect(&rig, &client, "452 4.3.1");
	rig.spool.health = SPOOL_FAILED;
	rig_say(&rig, &client, MAIL);
	expect(&rig, &client, "451 4.3.0");
	rig.spool.health = SPOOL_OK;
	rig.shared.queue_full = true;
	rig_say(&rig, &client, MAIL);
	expect(&rig, &client, "452 4.3.1");
	rig.shared.queue_full = false;
	rig.spool.room = 1000;
	rig_say(&rig, &client, "MAIL FROM:<a@b> SIZE=1001\r\n");
	expect(&rig, &client, "452 4.3.1");
	rig_say(&rig, &client, "MAIL FROM:<a@b> SIZE=1000\r\n" RCPT);
	expect(&rig, &client, "250 2.1.0|250 2.1.5");
	rig.spool.no_writer = true;
	rig_say(&rig, &client, "DATA\r\n");
	expect(&rig, &client, "452 4.3.1");
	rig.spool.no_writer = false;
	rig_say(&rig, &client, "DATA\r\n\r\n.\r\n");
	expect(&rig, &client, "354|250 2.0.0");
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* After all: each accepted recipient hears it, and the session goes on. */
static void test_not_stored_after_all(void **state)
{
	static const struct {
		enum body_error body;
		enum spool_result result;
		const char *reply;
	} rows[] = {{BODY_NO_SPACE, SPOOL_STORED, "452 4.3.1"}, {BODY_IO, SPOOL_STORED, "451 4.3.0"},
	        {BODY_OK, SPOOL_NO_SPACE, "452 4.3.1"}, {BODY_OK, SPOOL_IO_ERROR, "451 4.3.0"}};

	(void)state;
	for (size_t i = 0; i < array_len(rows); i++)
		for (int hold = 0; hold < 2; hold++) {
			struct rig rig;
			struct rig_client client;
			char *want = mem_printf("354|%s|%s", rows[i].reply, rows[i].reply);

			rig_init(&rig, NULL, NULL);
			begin(&rig, &client, LHLO MAIL RCPT RCPT);
			rig.spool.body_error = rows[i].body;
			rig.spool.result = rows[i].result;
			rig.spool.hold_bodies = rig.spool.hold_adds = hold;
			rig_say(&rig, &client, "DATA\r\nA: b\r\n\r\n.\r\n");
			fake_spool_release(&rig.spool);
			rig_settle(&rig);
			fake_spool_release(&rig.spool);
			expect(&rig, &client, want);
			assert_int_equal(rig.spool.n_stored, 0);
			rig_say(&rig, &client, MAIL);
			expect(&rig, &client, "250 2.1.0");
			mem_free(&want);
			rig_hang_up(&rig, &client);
			rig_free(&rig);
		}
}

static size_t fill(struct rig *rig, struct rig_client *client)
{
	char block[4096];
	size_t sent = 0;

	memset(block, 'x', sizeof(block));
	for (int stuck = 0; stuck < 3;) {
		ssize_t n = send(client->fd, block, sizeof(block), MSG_NOSIGNAL);

		stuck = n > 0 ? 0 : stuck + 1;
		sent += n > 0 ? (size_t)n : 0;
		if (sent > 8 * 1024 * 1024)
			break; /* it reads */
		rig_settle(rig);
	}
	return sent;
}

/* More received than is durable: stop reading; go on when there is room. */
static void test_back_pressure(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, "{\"hostname\": \"mta1.example.net\"}", NULL);
	rig.shared.max_pending = 1000;
	begin(&rig, &client, BEGIN "A: b\r\n\r\n");
	rig.spool.pending = 1001;
	assert_true(fill(&rig, &client) < 4 * 1024 * 1024);
	rig_advance(&rig, 30);
	expect(&rig, &client, "");
	rig.spool.pending = 0;
	rig_advance(&rig, 1);
	rig_say(&rig, &client, "\r\n.\r\n");
	expect(&rig, &client, "250 2.0.0");
	assert_int_equal(rig.spool.n_stored, 1);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* Not for more than 60 s: then read on, discard, 452. */
static void test_back_pressure_is_bounded(void **state)
{
	struct rig rig;
	struct rig_client client, other;

	(void)state;
	rig_init(&rig, "{\"hostname\": \"mta1.example.net\"}", NULL);
	rig.shared.max_pending = 1000;
	begin(&rig, &client, BEGIN "A: b\r\n\r\n");
	begin(&rig, &other, BEGIN "A: b\r\n\r\n");
	rig.spool.pending = 1001;
	assert_true(fill(&rig, &client) < 4 * 1024 * 1024);
	rig_advance(&rig, 59);
	assert_int_equal(rig.spool.writers, 2);
	rig_advance(&rig, 2);
	assert_int_equal(rig.spool.writers, 1); /* its memory is given back at once */
	assert_true(fill(&rig, &client) > 4 * 1024 * 1024);
	rig_say(&rig, &client, "\r\n.\r\nNOOP\r\n");
	expect(&rig, &client, "452 4.3.1|250 2.0.0");
	rig.spool.pending = 0;
	rig_say(&rig, &other, ".\r\n");
	expect(&rig, &other, "250 2.0.0");
	rig_hang_up(&rig, &client);
	rig_hang_up(&rig, &other);
	rig_free(&rig);
}

/* The disk is slower than the client: the body says when it has room. */
static void test_backlog(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, "{\"hostname\": \"mta1.example.net\"}", NULL);
	begin(&rig, &client, BEGIN "A: b\r\n\r\n");
	rig.spool.backlog = 2 * 1024 * 1024;
	assert_true(fill(&rig, &client) < 4 * 1024 * 1024);
	rig.spool.backlog = 0;
	fake_spool_room(&rig.spool);
	rig_say(&rig, &client, "\r\n.\r\n");
	expect(&rig, &client, "250 2.0.0");
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* What is kept for rules counts with what is received, and is given back. */
static void test_captured_is_counted(void **state)
{
	static const char policy[] =
	        "{\"bindings\": {\"default\": {\"bind_address\": \"192.0.2.1\"}, \"acme\": "
	        "{\"bind_address\": \"192.0.2.2\"}},"
	        " \"rules\": [{\"when\": \"header:X == 'y' AND body =~ 'z'\", \"bind\": \"acme\"}]}";
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, policy);
	begin(&rig, &client, BEGIN "X: b\r\n\r\n");
	assert_true(rig.shared.captured > 0);
	rig_say(&rig, &client, "0123456789");
	assert_true(rig.shared.captured > 10);
	rig_say(&rig, &client, "\r\n.\r\n");
	assert_int_equal(rig.shared.captured, 0);
	rig_say(&rig, &client, MAIL RCPT "DATA\r\nX: b\r\n\r\n0123456789");
	assert_true(rig.shared.captured > 10);
	rig_hang_up(&rig, &client);
	assert_int_equal(rig.shared.captured, 0);
	/* a stamp makes it needless, as long as a bad one is not judged by the rules */
	begin(&rig, &client, BEGIN "X-Binding: acme\r\nX: b\r\n\r\n");
	assert_int_equal(rig.shared.captured, 0);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* --- stopping ------------------------------------------------------------------------------------------------ */

static void count_done(void *ctx)
{
	++*(int *)ctx;
}

static void test_stop(void **state)
{
	struct rig rig;
	struct rig_client idle, open, data, storing;
	int done = 0;

	(void)state;
	rig_init(&rig, NULL, NULL);
	begin(&rig, &idle, LHLO);
	begin(&rig, &open, LHLO MAIL RCPT);
	begin(&rig, &data, BEGIN "A: b\r\n");
	rig.spool.hold_adds = true;
	begin(&rig, &storing, BEGIN ".\r\n");
	handoff_stop(rig.handoff, count_done, &done);
	expect(&rig, &idle, "421 4.3.2");
	assert_true(idle.closed);
	/* running transactions finish */
	rig.spool.hold_adds = false;
	rig_say(&rig, &data, "\r\n.\r\n");
	expect(&rig, &data, "250 2.0.0");
	rig_say(&rig, &data, MAIL);
	expect(&rig, &data, "421 4.3.2");
	rig_advance(&rig, 20);
	expect(&rig, &open, "");
	rig_say(&rig, &open, "DATA\r\n");
	rig_advance(&rig, 11); /* 30 s are over */
	expect(&rig, &open, "354|421 4.3.2");
	rig_hang_up(&rig, &idle);
	rig_hang_up(&rig, &open);
	rig_hang_up(&rig, &data);
	/* what the spool has is waited for */
	rig_advance(&rig, 60);
	assert_int_equal(done, 0);
	fake_spool_release(&rig.spool);
	expect(&rig, &storing, "250 2.0.0");
	rig_advance(&rig, 3);
	expect(&rig, &storing, "421 4.3.2");
	rig_hang_up(&rig, &storing);
	rig_settle(&rig);
	assert_int_equal(done, 1);
	rig_advance(&rig, 10);
	assert_int_equal(done, 1);
	rig_free(&rig);
}

/* Connect and LHLO are answered 2yz to the end. */
static void test_stop_and_hello(void **state)
{
	struct rig rig;
	struct rig_client before, after, silent;
	int done = 0;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &before);
	rig_connect(&rig, &silent);
	handoff_stop(rig.handoff, count_done, &done);
	rig_connect(&rig, &after);
	rig_say(&rig, &before, LHLO);
	expect(&rig, &before, "220|250");
	rig_say(&rig, &after, LHLO MAIL);
	expect(&rig, &after, "220|250|421 4.3.2");
	rig_say(&rig, &before, MAIL);
	expect(&rig, &before, "421 4.3.2");
	rig_advance(&rig, 6);
	expect(&rig, &silent, "220|421 4.3.2");
	rig_hang_up(&rig, &before);
	rig_hang_up(&rig, &after);
	rig_hang_up(&rig, &silent);
	assert_int_equal(done, 1);
	rig_free(&rig);
}

static void test_stop_with_nothing_open(void **state)
{
	struct rig rig;
	int done = 0;

	(void)state;
	rig_init(&rig, NULL, NULL);
	handoff_stop(rig.handoff, count_done, &done);
	assert_int_equal(done, 0); /* never from inside the call */
	rig_settle(&rig);
	assert_int_equal(done, 1);
	rig_free(&rig);
}

static void test_stopping_mark(void **state)
{
	struct rig rig;
	struct rig_client client;

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig_connect(&rig, &client);
	rig.shared.stopping = true;
	rig_say(&rig, &client, LHLO MAIL);
	expect(&rig, &client, "220|250|421 4.3.2");
	assert_true(client.closed);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

/* --- the listener -------------------------------------------------------------------------------------------- */

static int dial(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		close(fd);
		return -1;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Past twice the mark, accept waits: connections stay in the kernel's queue, unharmed. */
static void test_listener(void **state)
{
	char *folder = test_folder_new(), *text = mem_printf("unix:%s/handoff.sock", folder);
	struct sockspec spec;
	struct error error;
	struct rig rig;
	struct handoff_listener *listener;
	int fds[8], listen_fd;
	char buffer[100];

	(void)state;
	rig_init(&rig, NULL, NULL);
	rig.shared.max_sessions = 2;
	assert_true(sockspec_parse(text, &spec, &error));
	assert_int_equal(sockspec_listen(&spec, 16, &listen_fd, 1, &error), 1);
	listener = handoff_listener_new(&rig.shared, rig.loop, &listen_fd, 1, &rig.handoff, &rig.loop, 1);
	for (int i = 0; i < 8; i++) {
		fds[i] = dial(spec.path);
		assert_true(fds[i] >= 0);
	}
	rig_settle(&rig);
	assert_int_equal(rig.shared.sessions, 4);
	for (int i = 0; i < 8; i++)
		assert_int_equal(read(fds[i], buffer, sizeof(buffer)) > 0, i < 4);
	close(fds[0]);
	close(fds[1]);
	rig_settle(&rig);
	rig_advance(&rig, 1);
	assert_int_equal(rig.shared.sessions, 4);
	assert_true(read(fds[4], buffer, sizeof(buffer)) > 0);
	assert_memory_equal(buffer, "220 ", 4);
	for (int i = 2; i < 8; i++)
		close(fds[i]);
	rig_advance(&rig, 1);
	assert_int_equal(rig.shared.sessions, 0);
	handoff_listener_free(&listener);
	rig_free(&rig);
	mem_free(&text);
	test_folder_remove(&folder);
}

static void test_metrics(void **state)
{
	static const char *const names[] = {"bindpost_handoff_sessions 1\n",
	        "bindpost_handoff_sessions_max 1000\n", "bindpost_handoff_pending_max_bytes 268435456\n",
	        "bindpost_handoff_connections_total 1\n", "bindpost_handoff_messages_total 1\n",
	        "bindpost_handoff_unstamped_total 1\n",
	        "bindpost_handoff_bad_stamp_total{reason=\"two\"} 1\n",
	        "bindpost_handoff_replies_total{class=\"2yz\"} 1\n",
	        "bindpost_handoff_replies_total{class=\"4yz\"} 1\n",
	        "bindpost_handoff_replies_total{class=\"5yz\"} 1\n"};
	struct rig rig;
	struct rig_client client;
	struct str text;

	(void)state;
	rig_init(&rig, NULL, NULL);
	str_init(&text);
	begin(&rig, &client,
	        BEGIN ".\r\n" MAIL RCPT "DATA\r\na\nb\r\n.\r\n" MAIL RCPT
	              "DATA\r\nX-Binding: a\r\nX-Binding: a\r\n\r\n.\r\n");
	metrics_print(rig.metrics, &text);
	for (size_t i = 0; i < array_len(names); i++)
		if (!strstr(text.data, names[i]))
			fail_msg("%s not in\n%s", names[i], text.data);
	str_free(&text);
	rig_hang_up(&rig, &client);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_trickle),
        cmocka_unit_test(test_slow_message),
        cmocka_unit_test(test_close_is_bounded),
        cmocka_unit_test(test_too_many_sessions),
        cmocka_unit_test(test_idle_session_makes_room),
        cmocka_unit_test(test_idle_session_of_another_loop),
        cmocka_unit_test(test_new_session_is_not_sent_away),
        cmocka_unit_test(test_spool_says_no),
        cmocka_unit_test(test_not_stored_after_all),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_back_pressure_is_bounded),
        cmocka_unit_test(test_backlog),
        cmocka_unit_test(test_captured_is_counted),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_and_hello),
        cmocka_unit_test(test_stop_with_nothing_open),
        cmocka_unit_test(test_stopping_mark),
        cmocka_unit_test(test_listener),
        cmocka_unit_test(test_metrics),
};

TEST_MAIN("handoff_bounds", tests)
