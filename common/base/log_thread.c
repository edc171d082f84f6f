/*
 * The thread that writes a daemon's log lines: a pipe or journal that nobody empties holds it up, and nobody else.
 *
 * Its state belongs to the process as stderr does (log.c). A line waits at most until the ones before it are written.
 */
#include "config.h"
#include "base/log_thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"

#define BACKLOG_MAX ((size_t)1 << 20)
#define LAST_WORDS_S 2

static struct {
	pthread_t thread;
	atomic_bool running;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	pthread_cond_t end;
	struct str waiting;
	uint64_t dropped;
	bool stopping;
	bool ended; /* all is written: a join does not wait */
} writer = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .end = PTHREAD_COND_INITIALIZER};

/* A stderr that is gone is nobody's business. */
static void write_all(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

/* Line by line: a journal's or syslog's socket and other writers take each write for one. */
static void write_lines(const struct str *lines)
{
	const char *p = lines->data, *end = p + lines->len;

	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)((lf ? lf + 1 : end) - p);

		write_all(p, len);
		p += len;
	}
}

static void *writer_main(void *arg)
{
	struct str lines;
	bool stopping;

	(void)arg;
	pthread_setname_np(pthread_self(), "log");
	str_init(&lines);
	do {
		uint64_t dropped;
		struct str swap;

		pthread_mutex_lock(&writer.lock);
		while (writer.waiting.len == 0 && !writer.stopping)
			pthread_cond_wait(&writer.wake, &writer.lock);
		swap = writer.waiting;
		writer.waiting = lines;
		lines = swap;
		dropped = writer.dropped;
		writer.dropped = 0;
		stopping = writer.stopping;
		pthread_mutex_unlock(&writer.lock);
		write_lines(&lines);
		if (dropped) /* they came after those */
			log_warning("%llu lines of this log were dropped: it was not read fast enough",
			        (unsigned long long)dropped);
		str_clear(&lines);
	} while (!stopping);
	str_free(&lines);
	pthread_mutex_lock(&writer.lock);
	writer.ended = true;
	pthread_cond_signal(&writer.end);
	pthread_mutex_unlock(&writer.lock);
	return NULL;
}

bool log_thread_start(struct error *err)
{
	sigset_t all, before;

	str_init(&writer.waiting);
	writer.stopping = writer.ended = false;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	errno = pthread_create(&writer.thread, NULL, writer_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (errno != 0)
		return error_sys(err, "cannot start the log's thread");
	atomic_store(&writer.running, true);
	return true;
}

bool log_thread_take(const char *line, size_t len)
{
	if (!atomic_load_explicit(&writer.running, memory_order_acquire))
		return false;
	pthread_mutex_lock(&writer.lock);
	if (writer.dropped || writer.waiting.len + len > BACKLOG_MAX)
		writer.dropped++;
	else
		str_add_mem(&writer.waiting, line, len);
	pthread_cond_signal(&writer.wake);
	pthread_mutex_unlock(&writer.lock);
	return true;
}

void log_thread_stop(void)
{
	struct timespec until;
	bool ended;
	int rc = 0;

	if (!atomic_exchange(&writer.running, false))
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LAST_WORDS_S;
	pthread_mutex_lock(&writer.lock);
	writer.stopping = true;
	pthread_cond_signal(&writer.wake);
	while (!writer.ended && rc == 0)
		rc = pthread_cond_clockwait(&writer.end, &writer.lock, CLOCK_MONOTONIC, &until);
	ended = writer.ended;
	pthread_mutex_unlock(&writer.lock);
	if (!ended)
		return; /* it may still look at what it owns: the process ends */
	pthread_join(writer.thread, NULL);
	str_free(&writer.waiting);
}
