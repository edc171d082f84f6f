/*
 * bindpost spool export: each message as ID.eml and ID.json in a new folder.
 *
 * The envelope is written last: a message without one was not taken out whole. All is synced before it is called done,
 * for the spool may be thrown away then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/names.h"
#include "control/cli_spool.h"

struct export
{
	struct offline *spool;
	const char *to;
	int dir;
	uint64_t messages, bodies_lost;
	struct str settings;
	struct json_out settings_json;
	int fd; /* the file being written */
	bool failed;
	struct error error;
};

static bool write_all(void *ctx, const void *bytes, size_t n)
{
	struct export *x = ctx;
	const char *p = bytes;

	while (n > 0) {
		ssize_t written = write(x->fd, p, n);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			x->failed = true;
			return error_sys(&x->error, "%s: write", x->to);
		}
		p += written;
		n -= (size_t)written;
	}
	return true;
}

static bool file_open(struct export *x, const char *name)
{
	x->fd = openat(x->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	x->failed = x->fd < 0;
	return !x->failed || error_sys(&x->error, "%s/%s", x->to, name);
}

static void file_close(struct export *x)
{
	if (close(x->fd) < 0 && !x->failed) {
		x->failed = true;
		error_sys(&x->error, "%s: close", x->to);
	}
}

static void write_text(struct export *x, const char *name, const struct str *text)
{
	if (!file_open(x, name))
		return;
	(void)write_all(x, text->data, text->len);
	file_close(x);
}

/* False: its body cannot be read, and there is no such file; or the export failed. */
static bool write_body(struct export *x, uint64_t id, const char *name)
{
	struct error err = {.text = ""};
	bool ok;

	if (!file_open(x, name))
		return false;
	ok = offline_body(x->spool, id, write_all, x, &err);
	file_close(x);
	if (ok || x->failed)
		return ok && !x->failed;
	x->bodies_lost++;
	fprintf(stderr, "bindpost: message %.16s: %s: only its envelope is taken out\n", name, err.text);
	(void)unlinkat(x->dir, name, 0);
	return false;
}

static void export_message(void *ctx, const struct spool_live *live)
{
	struct export *x = ctx;
	char id[ID_TEXT_SIZE], name[ID_TEXT_SIZE + 8];
	struct str text;
	bool has_body;

	if (x->failed)
		return;
	(void)id_print(live->message->id, id);
	snprintf(name, sizeof(name), "%s.eml", id);
	has_body = write_body(x, live->message->id, name);
	if (x->failed)
		return;
	str_init(&text);
	envelope_print(live, has_body, &text);
	snprintf(name, sizeof(name), "%s.json", id);
	write_text(x, name, &text);
	str_free(&text);
	x->messages++;
}

static void export_setting(void *ctx, const char *key, const char *value)
{
	jw_str(&((struct export *)ctx)->settings_json, key, value);
}

static bool folder_make(struct export *x)
{
	if (mkdir(x->to, 0700) < 0 && errno != EEXIST)
		return error_sys(&x->error, "%s: mkdir", x->to);
	x->dir = open(x->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return x->dir >= 0 || error_sys(&x->error, "%s", x->to);
}

static bool export_all(struct export *x, const char *path)
{
	bool ok;

	x->spool = offline_open(path, NULL, &x->error);
	if (!x->spool || !folder_make(x))
		return false;
	json_out_init(&x->settings_json, &x->settings);
	jw_object(&x->settings_json, NULL);
	ok = offline_walk(x->spool, export_message, export_setting, x, &x->error);
	jw_end_object(&x->settings_json);
	str_add_char(&x->settings, '\n');
	if (ok && !x->failed)
		write_text(x, SPOOL_SETTINGS_FILE, &x->settings);
	if (ok && !x->failed && syncfs(x->dir) < 0)
		return error_sys(&x->error, "%s: sync", x->to);
	return ok && !x->failed;
}

int cli_spool_export(struct cli *cli, const char *path, const char *to)
{
	struct export x = {.to = to, .dir = -1};
	struct offline_found found = {0};
	bool ok, whole;

	str_init(&x.settings);
	ok = export_all(&x, path);
	if (!ok)
		fprintf(stderr, "bindpost: %s\n", x.error.text);
	if (x.spool)
		offline_found(x.spool, &found);
	whole = found.unreadable == 0 && found.damaged == 0 && x.bodies_lost == 0;
	if (ok && cli->json)
		printf("{\"messages\":%llu,\"damaged_places\":%llu,\"unreadable_envelopes\":%llu,"
		       "\"unreadable_bodies\":%llu}\n",
		        (unsigned long long)x.messages, (unsigned long long)found.damaged,
		        (unsigned long long)found.unreadable, (unsigned long long)x.bodies_lost);
	else if (ok)
		printf("%llu messages to %s%s\n", (unsigned long long)x.messages, to,
		        whole ? "" : ": what was damaged is missing there");
	str_free(&x.settings);
	if (x.dir >= 0)
		close(x.dir);
	offline_close(&x.spool);
	return ok && whole ? CLI_DONE : CLI_REFUSED;
}
