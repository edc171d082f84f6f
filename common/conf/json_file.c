/*
 * json_file - reads one JSON file of the configuration
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "conf/conf_internal.h"

#define FILE_MAX_BYTES ((size_t)512 << 20)

/* A daemon reads its files as root at the start, and as another user at each reload: say who may not. */
static bool cannot_open(struct error *err)
{
	int code = errno;
	const struct passwd *who = code == EACCES ? getpwuid(geteuid()) : NULL;

	if (who)
		return error_set(err,
		        "cannot be read: %s: user %s must be able to read it, and to enter its folders",
		        strerror(code), who->pw_name);
	return error_set(err, "cannot be read: %s", strerror(code));
}

/* Only regular files: a FIFO or a terminal would make a reload wait for ever. */
bool read_whole_file(const char *path, struct str *out, struct error *err)
{
	struct stat st;
	char buf[65536];
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return cannot_open(err);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return error_set(err, "not a regular file");
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0 && out->len < FILE_MAX_BYTES)
		str_add_mem(out, buf, (size_t)n);
	int code = errno;
	close(fd);
	if (n < 0)
		return error_set(err, "cannot be read: %s", strerror(code));
	if (n > 0)
		return error_set(err, "too large: more than %zu MB", FILE_MAX_BYTES >> 20);
	return true;
}

/* --- what is wrong with text that is no JSON, beyond what the parser says ------------------------------------------- */

static bool starts(const char *text, size_t len, const char *with, size_t n)
{
	return len >= n && memcmp(text, with, n) == 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Of the file as a whole; NULL: it may well be JSON. */
static const char *not_json_at_all(const char *text, size_t len)
{
	size_t i = 0;

	while (i < len && is_blank(text[i]))
		i++;
	if (i == len)
		return "the file is empty; without any options it would be {}";
	if (starts(text, len, "\xef\xbb\xbf", 3))
		return "the file begins with a byte order mark; save it as UTF-8 without one";
	if (starts(text, len, "\xff\xfe", 2) || starts(text, len, "\xfe\xff", 2))
		return "the file is UTF-16; save it as UTF-8";
	if (text[i] == '\0')
		return "the file begins with NUL bytes: its content was lost, perhaps when the machine went "
		       "down";
	return NULL;
}

/* Habits of other languages, by what stands where the parser stopped */
static const char *remedy(const char *text, size_t len, const json_error_t *err)
{
	size_t at = err->position > 0 && (size_t)err->position <= len ? (size_t)err->position - 1 : 0,
	       before = at;
	char c = at < len ? text[at] : '\0';

	if (json_error_code(err) == json_error_invalid_utf8)
		return "; the file must be UTF-8";
	while (before > 0 && is_blank(text[before - 1]))
		before--;
	if ((c == '}' || c == ']') && before > 0 && text[before - 1] == ',')
		return "; JSON has no comma behind the last item";
	if (c == '/' || c == '#')
		return "; JSON has no comments: write \"comment\": \"...\"";
	if (c == '\'')
		return "; JSON has text in double quotes";
	if (c == '"')
		return "; is there a comma missing before it?";
	return "";
}

static void report_no_json(
        struct loader *l, const struct place *top, const char *text, size_t len, const json_error_t *err)
{
	const char *whole = not_json_at_all(text, len);

	if (whole)
		place_error(l->errors, top, "%s", whole);
	else
		place_error(l->errors, top, "line %d, column %d: %s%s", err->line, err->column, err->text,
		        remedy(text, len, err));
}

json_t *load_json_text(struct loader *l, const char *text, size_t len, uint32_t file)
{
	struct place top = {.file = l->conf->files[file]};
	json_error_t err;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
	if (!j && json_error_code(&err) == json_error_duplicate_key) {
		report_duplicate_keys(l->errors, top.file, text, len);
		j = json_loadb(text, len, 0, &err);
	}
	if (!j) {
		l->incomplete = true;
		report_no_json(l, &top, text, len, &err);
		return NULL;
	}
	if (!json_is_object(j)) {
		l->incomplete = true;
		place_error(l->errors, &top, "not a JSON object: the file begins with { and ends with }");
		json_decref(j);
		return NULL;
	}
	return j;
}

json_t *load_json_file(struct loader *l, const char *path, uint32_t file)
{
	struct place top = {.file = l->conf->files[file]};
	struct str text;
	struct error err;
	json_t *j = NULL;

	str_init(&text);
	if (read_whole_file(path, &text, &err))
		j = load_json_text(l, text.data, text.len, file);
	else
		l->incomplete = !place_error(l->errors, &top, "%s", err.text);
	str_free(&text);
	return j;
}
