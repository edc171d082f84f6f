/*
 * conf_internal - the snapshot as its own files see it
 *
 * Layout     Everything lives in one pool but what libraries allocate (patterns, JSON of the rules) and the
 * hash tables: conf_free() knows those. Groups and bindings never move once made: scopes point to each other.
 */
#ifndef CONF_CONF_INTERNAL_H
#define CONF_CONF_INTERNAL_H

#include <stdatomic.h>
#include "conf/conf.h"
#include "conf/scope.h"

#define DEFAULT_NAME "default"

struct group {
	struct conf_group pub;
	struct scope scope;
	struct names *domains, *hosts; /* owns; NULL = none */
};

struct binding {
	struct conf_binding pub;
	struct scope scope;
	struct group *group;
	struct names *domains, *hosts; /* owns; NULL = none */
	double weight;
	const char **match; /* pub.match_domain; owns the array */
	/* The file in which a key that is no option was set, NULL = not yet */
	const struct conf_file *weight_file, *match_domain_file, *match_domain_file_file, *match_from_file;
};

struct rule {
	const json_t *json; /* borrows from conf->documents */
	const char *where;
};

struct conf {
	atomic_uint refs;
	struct pool *pool;
	struct conf_file **files; /* owns the array; [0] is bindpost.json */
	uint32_t n_files;
	json_t **documents; /* owns; the "rules" of each file that has some */
	size_t n_documents;
	struct rule *rules; /* owns the array */
	size_t n_rules;

	union value proc[PROC_COUNT];
	bool proc_set[PROC_COUNT]; /* stands in the file */
	struct process_options process;
	struct global_options globals;
	const char **own_names; /* in the pool */
	size_t n_own_names;
	struct conf
	        *started; /* shares; whose values of options that need a restart are used here; NULL = own */

	union value builtin[OPT_COUNT];
	struct scope global;
	struct names *domains, *hosts; /* owns; NULL = none */
	struct group **groups;         /* owns the array */
	size_t n_groups;
	struct binding **bindings; /* owns the array */
	size_t n_bindings;
	struct strmap group_names, binding_names;
	bool incomplete; /* a file could not be read */
};

/* --- load ----------------------------------------------------------------------------------------------- */

struct loader {
	struct conf *conf;
	struct errors *errors;
	struct strmap claims; /* domain -> struct binding that match_domain gives it to */
	bool incomplete;      /* a file could not be read: what is missing elsewhere may stand there */
};

struct conf *conf_new(void);
struct group *conf_add_group(struct conf *, const char *name);
struct binding *conf_add_binding(struct conf *, struct group *, const char *name);
uint32_t conf_add_file(struct conf *, const char *name, const char *dir);

/* One policy file's content; keeps what it needs of it. */
void load_policy_json(struct loader *, uint32_t file, const json_t *);
/* Keys of a binding that are not options; false if it is none of them. load_binding.c */
bool load_binding_key(
        struct loader *, struct binding *, const struct place *, const char *key, const json_t *);
/* After all files: fallback of addresses, members, claims */
void load_finish_bindings(struct loader *);
/* Across options: check.c */
void conf_check(struct loader *);
/* Values in force of bindpost.json and of "global", for the structs handed out */
void fill_process_options(struct conf *);
void fill_global_options(struct conf *);
void fill_own_names(struct conf *); /* own_names.c */
void conf_each_scope(
        const struct conf *, void (*fn)(void *ctx, const struct scope *), void *ctx); /* each_scope.c */

/* An error, with the nearest of `known` (a list of n) as a guess. */
void unknown_key(struct loader *, const struct place *, const char *key, const char *const *known, size_t n);
/* The known name nearest to a mistyped one, NULL if none is near */
const char *nearest_name(const char *mistyped, const char *const *known, size_t n);

/* "policy.json: bindings.acme": in the pool */
const char *scope_where(struct conf *, const struct scope *);
/* The JSON text of a file. NULL on error (added). Duplicate keys are errors, but the rest is still returned.
 */
json_t *load_json_file(struct loader *, const char *path, uint32_t file);
json_t *load_json_text(struct loader *, const char *text, size_t len, uint32_t file);
/* Each key that stands twice in one object, with its place and both lines. The text has to be valid
 * otherwise. */
void report_duplicate_keys(struct errors *, const struct conf_file *, const char *text, size_t len);
/* A regular file, whole; false with the reason */
bool read_whole_file(const char *path, struct str *out, struct error *);

#endif
