/*
 * json_file - reads one JSON file of the configuration
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "conf/conf_internal.h"

#define FILE_MAX_BYTES ((size_t)512 << 20)

/* Only regular files: a FIFO or a terminal would make a reload wait for ever. */
bool read_whole_file(const char *path, struct str *out, struct error *err)
{
	struct stat st;
	char buf[65536];
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return error_set(err, "cannot be read: %s", strerror(errno));
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
		place_error(l->errors, &top, "line %d, column %d: %s", err.line, err.column, err.text);
		return NULL;
	}
	if (!json_is_object(j)) {
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
		place_error(l->errors, &top, "%s", err.text);
	str_free(&text);
	return j;
}
