/*
 * load - reads bindpost.json, finds the policy files, hands them on, checks the whole
 */
#include "config.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/names.h"
#include "conf/conf_internal.h"

/* --- unknown keys --------------------------------------------------------------------------------------- */

#define NAME_COMPARED 64

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein, blind to case and to - for _ : how Momentum's spelling and typing slips differ from ours */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_COMPARED + 1];
	size_t na = strlen(a), nb = strlen(b);

	if (na > NAME_COMPARED || nb > NAME_COMPARED)
		return NAME_COMPARED;
	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			char ca = ascii_lower(a[i - 1]);
			unsigned cost = (ca == '-' ? '_' : ca) != b[j - 1];
			unsigned above = row[j];
			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + cost);
			diagonal = above;
		}
	}
	return row[nb];
}

const char *nearest_name(const char *mistyped, const char *const *known, size_t n)
{
	const char *best = NULL;
	unsigned least = (unsigned)strlen(mistyped) / 4 + 2;

	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(mistyped, known[i]);
		if (d < least) {
			least = d;
			best = known[i];
		}
	}
	return best;
}

/* An option that exists, but not here: where it may stand */
static bool misplaced(struct loader *l, const struct place *p, const char *key)
{
	int id = option_find(key);
	struct str where;

	if (id < 0)
		return false;
	str_init(&where);
	for (unsigned kind = SCOPE_GLOBAL; kind <= SCOPE_HOST; kind <<= 1)
		if (option_rows[id].scopes & kind)
			str_printf(&where, "%s%s", where.len ? ", " : "", scope_kind_name(kind));
	place_error(l->errors, p, "cannot stand here, only in %s of a policy file", where.data);
	str_free(&where);
	return true;
}

void unknown_key(struct loader *l, const struct place *p, const char *key, const char *const *known, size_t n)
{
	if (misplaced(l, p, key))
		return;
	const char *guess = nearest_name(key, known, n);
	if (guess)
		place_error(l->errors, p, "unknown key; did you mean \"%s\"?", guess);
	else
		place_error(l->errors, p, "unknown key");
}

/* --- bindpost.json -------------------------------------------------------------------------------------- */

/* The names that may stand in a section (NULL: at the top), as guesses for a mistyped one */
static size_t known_names(const char *section, const char **out)
{
	size_t n = 0;

	for (int i = 0; i < PROC_COUNT; i++) {
		const struct option_row *row = &process_rows[i];
		if (section ? (row->section && strcmp(row->section, section) == 0) : !row->section)
			out[n++] = row->name;
		else if (!section && (i == 0 || process_rows[i - 1].section != row->section))
			out[n++] = row->section;
	}
	out[n++] = "comment";
	return n;
}

static void load_section(struct loader *l, const struct place *p, const char *section, const json_t *j)
{
	struct value_reader r = {l->conf->pool, l->errors};
	const char *names[PROC_COUNT + 1], *key;
	json_t *value;

	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		int id = process_find(section, key);
		if (strcmp(key, "comment") == 0)
			continue;
		if (id >= 0) {
			union value v;
			if (value_read(&r, &at, &process_rows[id], value, &v))
				l->conf->proc[id] = v;
			l->conf->proc_set[id] = true;
		} else if (section || !process_section_exists(key)) {
			unknown_key(l, &at, key, names, known_names(section, names));
		} else if (!json_is_object(value)) {
			place_error(l->errors, &at, "not an object: a section is written as { ... }");
		} else {
			load_section(l, &at, key, value);
		}
	}
}

static void load_process(struct loader *l, const json_t *j)
{
	struct conf *c = l->conf;
	struct place top = {.file = c->files[0]};

	for (int i = 0; i < PROC_COUNT; i++)
		c->proc[i] = value_default(c->pool, &top, &process_rows[i]);
	if (j)
		load_section(l, &top, NULL, j);
	if (c->proc[PROC_hostname].s)
		return;
	char name[256] = "", normal[DOMAIN_MAX + 64];
	struct error err;
	if (gethostname(name, sizeof(name) - 1) != 0 || !*name)
		strcpy(name, "localhost");
	if (!domain_normalize(name, strlen(name), normal, &err)) {
		place_error(l->errors, &top, "hostname is not set, and the machine's cannot be used: %s",
		        err.text);
		strcpy(normal, "localhost");
	}
	c->proc[PROC_hostname].s = pool_strdup(c->pool, normal);
}

/* --- policy files --------------------------------------------------------------------------------------- */

static void load_policy_file(struct loader *l, const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');
	char *dir = mem_strndup(path, slash ? (size_t)(slash + 1 - path) : 0);
	uint32_t file = conf_add_file(l->conf, name, dir);
	json_t *j = load_json_file(l, path, file);

	if (j)
		load_policy_json(l, file, j);
	json_decref(j);
	mem_free(&dir);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* *.json of a folder in the order of their bytes, so that 10-a.json comes before 20-b.json wherever it is
 * read */
static void load_policy_folder(struct loader *l, const struct place *p, const char *path, const char *name)
{
	char **names = NULL;
	size_t n = 0;
	DIR *dir = opendir(path);

	if (!dir) {
		l->incomplete = !place_error(l->errors, p, "%s: cannot be read: %s", name, strerror(errno));
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		size_t len = strlen(e->d_name);
		if (e->d_name[0] == '.' || len < 6 || strcmp(e->d_name + len - 5, ".json") != 0)
			continue;
		names = mem_array(names, n + 1, sizeof(*names));
		names[n++] = mem_strdup(e->d_name);
	}
	closedir(dir);
	if (n)
		qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
		char *file_path = mem_printf("%s%s%s", path, slash, names[i]);
		char *file_name =
		        mem_printf("%s%s%s", name, name[strlen(name) - 1] == '/' ? "" : "/", names[i]);
		load_policy_file(l, file_path, file_name);
		mem_free(&file_path);
		mem_free(&file_name);
		mem_free(&names[i]);
	}
	mem_free(&names);
}

static bool ends_with(const char *s, const char *tail)
{
	size_t n = strlen(s), m = strlen(tail);

	return n >= m && strcmp(s + n - m, tail) == 0;
}

static void load_policy_path(struct loader *l, const struct place *p, const char *name, bool named)
{
	const char *dir = *name == '/' ? "" : l->conf->files[0]->dir;
	char *path = mem_printf("%s%s", dir, name);
	struct stat st;
	/* A folder for what other systems drop in may come to be later; a file that was named is meant. */
	bool may_miss = !named || ends_with(name, ".d") || ends_with(name, "/");

	if (stat(path, &st) != 0) {
		if (!may_miss || errno != ENOENT)
			l->incomplete =
			        !place_error(l->errors, p, "%s: cannot be read: %s", name, strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		load_policy_folder(l, p, path, name);
	} else {
		load_policy_file(l, path, name);
	}
	mem_free(&path);
}

/* By accident (a folder emptied, a file moved away) all customers' mail would go to the default address. */
static void check_any_policy(struct loader *l, bool named)
{
	struct place top = {.file = l->conf->files[0]}, at = {.up = &top, .key = "policy"};

	if (l->conf->n_files > 1 || l->incomplete)
		return;
	if (named)
		l->incomplete = !place_error(l->errors, &at,
		        "names no file with a policy: all mail would leave by the binding \"default\"; name "
		        "one "
		        "(\"policy.json\", even if it is only {}), or leave the option out");
	else
		place_warning(l->errors, &at,
		        "neither policy.json nor policy.d/*.json is there: all mail leaves by the binding "
		        "\"default\"");
}

static void load_policies(struct loader *l)
{
	const struct path_list *list = l->conf->proc[PROC_policy].paths;
	bool named = l->conf->proc_set[PROC_policy];

	for (size_t i = 0; list && i < list->n; i++) {
		struct place top = {.file = l->conf->files[0]};
		struct place at = {.up = &top, .key = "policy"};
		load_policy_path(l, &at, list->items[i], named);
	}
	check_any_policy(l, named);
}

/* --- all together --------------------------------------------------------------------------------------- */

static void load_builtin(struct conf *c)
{
	struct place top = {.file = c->files[0]};

	for (int i = 0; i < OPT_COUNT; i++)
		c->builtin[i] = value_default(c->pool, &top, &option_rows[i]);
}

/* Everything that can be said across sections; then the conf is complete, but for what is in errors. Nothing is said
 * when a file is missing: most of it would be wrong. */
static struct conf *finish(struct loader *l)
{
	struct conf *c = l->conf;
	struct errors unsaid = {0};

	if (l->incomplete)
		l->errors = &unsaid;
	load_finish_bindings(l);
	strmap_free(&l->claims);
	fill_process_options(c);
	fill_global_options(c);
	fill_own_names(c);
	conf_check(l);
	errors_free(&unsaid);
	c->incomplete = l->incomplete;
	return c;
}

static struct conf *without_errors(struct conf *c, const struct errors *errors)
{
	if (errors->n_errors)
		conf_unref(&c);
	return c;
}

static void begin(struct loader *l, const char *name)
{
	const char *slash = strrchr(name, '/');
	char *dir = mem_strndup(name, slash ? (size_t)(slash + 1 - name) : 0);

	l->conf = conf_new();
	conf_add_file(l->conf, name, dir);
	mem_free(&dir);
	load_builtin(l->conf);
}

struct conf *conf_load_anyway(const char *path, struct errors *errors)
{
	struct loader l = {.errors = errors};

	begin(&l, path);
	json_t *j = load_json_file(&l, path, 0);
	load_process(&l, j);
	json_decref(j);
	load_policies(&l);
	return finish(&l);
}

struct conf *conf_load(const char *path, struct errors *errors)
{
	return without_errors(conf_load_anyway(path, errors), errors);
}

struct conf *conf_load_text(const char *bindpost_json, const char *policy_json, struct errors *errors)
{
	struct loader l = {.errors = errors};

	begin(&l, "bindpost.json");
	json_t *j = load_json_text(&l, bindpost_json, strlen(bindpost_json), 0);
	load_process(&l, j);
	json_decref(j);
	if (policy_json) {
		uint32_t file = conf_add_file(l.conf, "policy.json", "");
		j = load_json_text(&l, policy_json, strlen(policy_json), file);
		if (j)
			load_policy_json(&l, file, j);
		json_decref(j);
	}
	return without_errors(finish(&l), errors);
}
