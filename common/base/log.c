#include "config.h"
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log_thread.h"
#include "base/utf8.h"

/* stderr belongs to the process, and so does this: set once by log_init(), before there are threads. */
static struct {
	char program[32];
	_Atomic int up_to; /* enum log_level */
	bool journal;
	void (*capture)(void *ctx, enum log_level, const char *line);
	void *capture_ctx;
} log_state = {.up_to = LOG_LEVEL_INFO};

/* systemd names the socket it gave us as stderr; a redirected stderr is another file (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;
	char *end;

	if (stream == NULL || fstat(STDERR_FILENO, &st) != 0)
		return false;
	device = strtoull(stream, &end, 10);
	if (*end != ':')
		return false;
	inode = strtoull(end + 1, &end, 10);
	return *end == '\0' && st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_set_level(enum log_level up_to)
{
	atomic_store_explicit(&log_state.up_to, (int)up_to, memory_order_relaxed);
}

void log_init(const char *program, enum log_level up_to)
{
	(void)snprintf(log_state.program, sizeof(log_state.program), "%s", program);
	log_set_level(up_to);
	log_state.journal = stderr_is_journal();
}

void log_capture(void (*fn)(void *ctx, enum log_level, const char *line), void *ctx)
{
	log_state.capture = fn;
	log_state.capture_ctx = ctx;
}

static const char *log_level_word(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error: ";
	case LOG_LEVEL_WARNING:
		return "warning: ";
	case LOG_LEVEL_DEBUG:
		return "debug: ";
	case LOG_LEVEL_NOTICE:
	case LOG_LEVEL_INFO:
		break;
	}
	return "";
}

/* One write per line: lines of several threads do not mix. A stderr that is gone or full is nobody's
 * business. */
static void log_write(const char *line, size_t len)
{
	ssize_t n;

	if (log_thread_take(line, len))
		return;
	do
		n = write(STDERR_FILENO, line, len);
	while (n < 0 && errno == EINTR);
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	char line[4096];
	const size_t room = sizeof(line) - 2; /* for the line feed and the NUL */
	size_t start, len;
	int n;

	if ((int)level > atomic_load_explicit(&log_state.up_to, memory_order_relaxed))
		return;
	if (log_state.journal)
		n = snprintf(line, room, "<%d>", level);
	else
		n = snprintf(line, room, "%s%s%s",
		        log_state.program[0] != '\0' ? log_state.program : program_invocation_short_name,
		        ": ", log_level_word(level));
	start = n > 0 && (size_t)n < room ? (size_t)n : 0;
	n = vsnprintf(line + start, room - start, fmt, ap);
	len = start + (n > 0 ? (size_t)n : 0);
	if (len >= room) {
		len = room - 1;
		memcpy(line + len - 3, "...", 3);
	}
	/* A line is one line, also if a text has slipped in unquoted. */
	for (size_t i = start; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
			line[i] = ' ';
	line[len] = '\0';
	if (log_state.capture != NULL) {
		log_state.capture(log_state.capture_ctx, level, line + start);
		return;
	}
	line[len] = '\n';
	log_write(line, len + 1);
}

#define LOG_FUNCTION(name, level)                                                                            \
	void name(const char *fmt, ...)                                                                      \
	{                                                                                                    \
		va_list ap;                                                                                  \
		int code = errno; /* logging is no call that callers expect to change it */                  \
                                                                                                             \
		va_start(ap, fmt);                                                                           \
		log_line(level, fmt, ap);                                                                    \
		va_end(ap);                                                                                  \
		errno = code;                                                                                \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_notice, LOG_LEVEL_NOTICE)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

/* One character as it shall stand between the quotes: at most 8 bytes (two of \xNN). */
static size_t quote_one(const char *p, size_t left, char out[16], size_t *taken)
{
	uint32_t code;
	size_t n = utf8_next(p, left, &code);

	*taken = n > 0 ? n : 1;
	if (n == 0 || utf8_is_control(code) || code == '"' || code == '\\') {
		static const char hex[] = "0123456789abcdef";
		size_t len = 0;

		for (size_t i = 0; i < *taken; i++) {
			unsigned char c = (unsigned char)p[i];

			out[len++] = '\\';
			out[len++] = 'x';
			out[len++] = hex[c >> 4];
			out[len++] = hex[c & 15];
		}
		return len;
	}
	memcpy(out, p, n);
	return n;
}

const char *log_quote(const char *raw, size_t len, char *buf, size_t size)
{
	size_t at = 0, done = 0, n, taken;
	char one[16];

	if (size < sizeof("\"\"...")) { /* not even room to say that it was cut */
		if (size > 0)
			buf[0] = '\0';
		return buf;
	}
	buf[at++] = '"';
	while (done < len) {
		n = quote_one(raw + done, len - done, one, &taken);
		if (at + n + sizeof("\"...") > size)
			break;
		memcpy(buf + at, one, n);
		at += n;
		done += taken;
	}
	buf[at++] = '"';
	if (done < len) {
		memcpy(buf + at, "...", 3);
		at += 3;
	}
	buf[at] = '\0';
	return buf;
}
