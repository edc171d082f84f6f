/*
 * log_thread - log lines written by a thread of their own
 *
 * Purpose    In a daemon no loop may wait for whoever reads its stderr. From log_thread_start() on lines are handed over,
 *            at most 1 MB of them; past that they are dropped, and a line says how many.
 * Threads    log_thread_take(): any. Start and stop: the main thread.
 */
#ifndef BASE_LOG_THREAD_H
#define BASE_LOG_THREAD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

bool log_thread_start(struct error *);
/* Writes what is left, but does not wait for ever for it to be read; lines are written at once again from then on. */
void log_thread_stop(void);
/* log.c: false = there is no thread, write it yourself. One whole line. */
bool log_thread_take(const char *line, size_t len);

#endif
