/*
 * error - what our surroundings refused, with the place where
 *
 * Purpose    A `struct error` lives on the caller's stack and holds one sentence. Each caller puts its place
 *            in front with error_at(); the one who decides what happens next logs it, once.
 *            A `struct errors` collects many (a configuration reports all its errors at once).
 * Ownership  error: nothing to free. errors: errors_free().
 * Errors     All functions that fill in an error return false, so that `return error_set(...)` reads well.
 *            A NULL err is allowed everywhere and drops the text.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

struct error {
	char text[1024]; /* always terminated; cut with "..." when longer */
};

bool error_set(struct error *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As error_set(), with ": strerror(errno)" behind. */
bool error_sys(struct error *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts "place: " in front of the text. Places nest: policy.json: bindings.acme.bind_address: ... */
bool error_at(struct error *, const char *place_fmt, ...) __attribute__((format(printf, 2, 3)));

enum error_level { ERROR_WARNING, ERROR_ERROR };

struct errors_item {
	enum error_level level;
	char *text; /* "policy.json: bindings.acme.bind_address: ..." */
};

struct errors {
	struct errors_item *items; /* owns */
	size_t n, n_errors;        /* all; those that are not warnings */
};

void errors_add(struct errors *, enum error_level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void errors_free(struct errors *);

#endif
