/*
 * log - the daemons' own words on stderr, one line each, journal-friendly
 *
 * Lines carry the sd-daemon priority prefix ("<4>") when stderr is a journal stream (JOURNAL_STREAM), else
 * the program's name. Text from the network passes log_quote(). Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

void log_init(const char *program, enum log_level up_to);
void log_set_level(enum log_level up_to); /* a reload; any thread */
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Tests: lines go here instead of stderr */
void log_capture(void (*fn)(void *ctx, enum log_level, const char *line), void *ctx);

/* Foreign bytes in double quotes; control characters, '"', '\\' and non-UTF-8 as \xNN; cut to fit. Returns
 * buf. */
const char *log_quote(const char *raw, size_t len, char *buf, size_t size);

#endif
