/*
 * place - where in the configuration we are, so that an error can say so
 *
 * Purpose    A chain on the stack, one link per step into the JSON: nothing is printed unless something is
 * wrong. Threads    Values.
 */
#ifndef CONF_PLACE_H
#define CONF_PLACE_H

#include <jansson.h>
#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

struct conf_file {
	const char *name; /* as errors say it */
	const char *dir;  /* what its relative paths are relative to: "" or with a slash at the end */
	uint32_t index;
};

struct place {
	const struct place *up; /* NULL at the file */
	const char *key;        /* NULL: index */
	size_t index;
	const struct conf_file *file; /* of the top one */
};

/* "policy.json: bindings.acme.domains.gmail.com", "policy.json: rules[3]" */
void place_print(const struct place *, struct str *);
const struct conf_file *place_file(const struct place *);
/* A value or key as it is quoted in an error: JSON, cut when long. */
void quote_json(const json_t *, struct str *);
void quote_text(const char *, struct str *);

/* Adds "PLACE: text" to the list. place_error() returns false. */
bool place_error(struct errors *, const struct place *, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void place_warning(struct errors *, const struct place *, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

#endif
