/*
 * bindpost spool import: puts what was exported into a spool that no deliveryd uses.
 *
 * Messages keep their ids (and with them the group member they chose), so what is there already is told and left alone.
 * Each is stored as deliveryd stores it: durable when it is counted. As root, what is written is given to whom the spool's
 * folder belongs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/names.h"
#include "conf/conf.h"
#include "control/cli_spool.h"

#define AT_ONCE 32
#define SETTINGS_WAIT_US (30 * SECOND_US) /* for a disk that is full */
#define SETTING_MAX ((size_t)65536)
#define ENVELOPE_MAX ((off_t)1 << 30)

struct import;

/* One on its way in. */
struct entry {
	struct import *import;
	struct spool_add add;
	struct message *message; /* until the body is there */
	struct spool_results *states;
	char id[ID_TEXT_SIZE];
	bool refused, queued, answered, ended;
};

struct import {
	struct spool *spool;
	struct loop *loop;
	struct workers *disk;
	struct metrics *metrics;
	const char *from;
	int dir;
	uint64_t *live; /* owns; in order */
	size_t n_live;
	char **names; /* own: the ids in the folder, in order */
	size_t n_names;
	unsigned under_way;
	json_t *settings; /* owns: keys the spool has */
	uint64_t stored, there, failed, set;
	bool fatal;
};

static void tell(struct import *x, const char *id, const char *why)
{
	fprintf(stderr, "bindpost: %s/%s: %s\n", x->from, id, why);
	x->failed++;
}

/* --- what is there ------------------------------------------------------------------------------------------------- */

static void note_live(void *ctx, const struct spool_live *live)
{
	struct import *x = ctx;

	if ((x->n_live & (x->n_live + 1)) == 0)
		x->live = mem_array(x->live, 2 * x->n_live + 1, sizeof(*x->live));
	x->live[x->n_live++] = live->message->id;
}

static void note_setting(void *ctx, const char *key, const char *value)
{
	(void)value;
	(void)json_object_set_new(((struct import *)ctx)->settings, key, json_true());
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ID.json, the id in its own spelling. */
static bool is_envelope(const char *name, char id[ID_TEXT_SIZE])
{
	uint64_t number;

	if (strlen(name) != ID_TEXT_SIZE - 1 + 5 || strcmp(name + ID_TEXT_SIZE - 1, ".json") != 0)
		return false;
	memcpy(id, name, ID_TEXT_SIZE - 1);
	id[ID_TEXT_SIZE - 1] = '\0';
	return id_parse(id, &number);
}

static bool read_folder(struct import *x, struct error *err)
{
	char id[ID_TEXT_SIZE];
	struct dirent *entry;
	DIR *d = opendir(x->from);

	if (!d)
		return error_sys(err, "%s", x->from);
	for (errno = 0; (entry = readdir(d)) != NULL; errno = 0) {
		if (!is_envelope(entry->d_name, id))
			continue;
		if ((x->n_names & (x->n_names + 1)) == 0)
			x->names = mem_array(x->names, 2 * x->n_names + 1, sizeof(*x->names));
		x->names[x->n_names++] = mem_strdup(id);
	}
	x->dir = errno == 0 ? dup(dirfd(d)) : -1;
	closedir(d);
	if (x->dir < 0)
		return error_sys(err, "%s: reading the folder", x->from);
	if (x->n_names > 0)
		qsort(x->names, x->n_names, sizeof(*x->names), by_text);
	return true;
}

static int open_file(struct import *x, const char *id, const char *end, off_t *size)
{
	char name[64];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "%s%s", id, end);
	fd = openat(x->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	if (fd >= 0)
		*size = st.st_size;
	return fd;
}

static bool read_envelope(struct import *x, const char *id, struct str *text)
{
	off_t size;
	int fd = open_file(x, id, ".json", &size);
	char buf[65536];
	ssize_t n = -1;

	if (fd >= 0 && size <= ENVELOPE_MAX)
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			str_add_mem(text, buf, (size_t)n);
	if (fd >= 0)
		close(fd);
	return n == 0;
}

/* --- one message ---------------------------------------------------------------------------------------------------- */

static void entry_end(struct entry *e)
{
	if (!e->answered || (e->add.result == SPOOL_STORED && !e->queued) || e->ended)
		return;
	e->ended = true;
	e->import->under_way--;
	if (e->add.result == SPOOL_STORED)
		e->import->stored++;
	else
		tell(e->import, e->id,
		        e->add.result == SPOOL_NO_SPACE ? "no space in the spool"
		                                        : "the spool did not take it");
}

static void on_queue(struct mail *mail)
{
	struct entry *e = container_of(mail, struct entry, add.queue_mail);

	e->queued = true;
	message_unref(&e->add.message);
	entry_end(e);
}

static void on_reply(struct mail *mail)
{
	struct entry *e = container_of(mail, struct entry, add.reply);

	e->answered = true;
	entry_end(e);
}

static void refuse(struct entry *e, enum spool_result result)
{
	e->answered = true;
	e->add.result = result;
	message_unref(&e->message);
	spool_results_free(&e->states);
	entry_end(e);
}

static void on_body(void *ctx, struct body *body, enum body_error error)
{
	struct entry *e = ctx;

	if (error != BODY_OK) {
		refuse(e, error == BODY_NO_SPACE ? SPOOL_NO_SPACE : SPOOL_IO_ERROR);
		return;
	}
	e->message->body = body;
	e->add.message = e->message;
	e->message = NULL;
	e->add.results = e->states;
	e->states = NULL;
	spool_add(e->import->spool, &e->add);
}

/* What the handoff finds out while bytes come in. */
struct look {
	uint32_t flags, header_size;
	uint64_t n;
	char tail[4];
	bool in_line, bad;
};

static void look_at(struct look *l, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char before = l->n > 0 ? l->tail[3] : '\n';

		if (p[i] == '.' && before == '\n')
			l->flags |= MESSAGE_DOT_LINES;
		if ((unsigned char)p[i] > 127)
			l->flags |= MESSAGE_8BIT;
		/* rule 5 of the design: only CRLF, and no NUL */
		l->bad |= p[i] == '\0' || (p[i] == '\n' && before != '\r' && l->n > 0) ||
		          (l->n > 0 && before == '\r' && p[i] != '\n') || (l->n == 0 && p[i] == '\n');
		memmove(l->tail, l->tail + 1, 3);
		l->tail[3] = p[i];
		l->n++;
		if (l->header_size == 0 && (memcmp(l->tail, "\r\n\r\n", 4) == 0 ||
		                                   (l->n == 2 && memcmp(l->tail + 2, "\r\n", 2) == 0)))
			l->header_size = (uint32_t)(l->n <= UINT32_MAX ? l->n : UINT32_MAX);
	}
}

static bool read_body(struct import *x, struct entry *e, struct look *look, struct body_writer *w, int fd)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		look_at(look, buf, (size_t)n);
		body_writer_add(w, buf, (size_t)n);
		while (body_writer_backlog(w) > sizeof(buf) * 16 && loop_step(x->loop))
			;
	}
	look->bad |= look->n > 0 && look->tail[3] != '\n';
	if (n < 0)
		tell(x, e->id, strerror(errno));
	else if (look->bad)
		tell(x, e->id,
		        "its lines do not end in CRLF, or it has a NUL: not a message as it was exported");
	return n == 0 && !look->bad;
}

static void store(struct import *x, struct entry *e)
{
	off_t size = 0;
	int fd = open_file(x, e->id, ".eml", &size);
	struct body_writer *w = fd >= 0 ? body_writer_new(x->spool, x->loop, (uint64_t)size) : NULL;
	struct look look = {0};

	if (w == NULL) {
		tell(x, e->id, fd < 0 ? "its .eml cannot be read" : "no space in the spool");
		e->refused = true;
	} else if (!read_body(x, e, &look, w, fd)) {
		body_writer_abort(&w);
		e->refused = true;
	} else {
		e->message->flags |= look.flags;
		e->message->header_size = look.header_size != 0 ? look.header_size : (uint32_t)look.n;
		e->message->body_size = look.n;
		x->under_way++;
		body_writer_finish(w, on_body, e);
	}
	if (fd >= 0)
		close(fd);
}

static bool is_there(const struct import *x, uint64_t id)
{
	return x->n_live > 0 && bsearch(&id, x->live, x->n_live, sizeof(id), by_number) != NULL;
}

static void entry_start(struct import *x, struct entry *e, const char *id)
{
	struct error err;
	struct str text;
	char own[ID_TEXT_SIZE];

	*e = (struct entry){.import = x, .refused = true};
	memcpy(e->id, id, sizeof(e->id));
	e->add.queue_loop = e->add.reply_loop = x->loop;
	e->add.queue_mail.take = on_queue;
	e->add.reply.take = on_reply;
	e->states = spool_results_new();
	str_init(&text);
	if (!read_envelope(x, id, &text))
		tell(x, id, "its .json cannot be read");
	else if ((e->message = envelope_parse(text.data, text.len, e->states, &err)) == NULL)
		tell(x, id, err.text);
	else if (strcmp(id_print(e->message->id, own), id) != 0)
		tell(x, id, "has another id inside");
	else if (is_there(x, e->message->id))
		x->there++;
	else
		e->refused = false;
	str_free(&text);
	if (!e->refused)
		store(x, e);
}

static void import_some(struct import *x, size_t from, size_t n)
{
	static struct entry entries[AT_ONCE];

	for (size_t i = 0; i < n; i++)
		entry_start(x, &entries[i], x->names[from + i]);
	while (x->under_way > 0)
		(void)loop_step(x->loop);
	for (size_t i = 0; i < n; i++) {
		if (!entries[i].refused)
			continue;
		message_unref(&entries[i].message);
		spool_results_free(&entries[i].states);
	}
}

/* --- settings ------------------------------------------------------------------------------------------------------- */

/* Suspensions above all: without them mail would leave that is to stay. What the spool has itself stays as it is. */
static void import_settings(struct import *x)
{
	off_t size = 0;
	int fd = open_file(x, SPOOL_SETTINGS_FILE, "", &size);
	json_error_t where;
	json_t *all, *value;
	struct spool_results *r;
	const char *key;
	uint64_t until;

	if (fd < 0)
		return;
	all = json_loadfd(fd, JSON_REJECT_DUPLICATES, &where);
	close(fd);
	if (!json_is_object(all))
		tell(x, SPOOL_SETTINGS_FILE, all ? "not an object" : where.text);
	r = spool_results_new();
	json_object_foreach (all, key, value) {
		if (!json_is_string(value) || strlen(key) + json_string_length(value) > SETTING_MAX ||
		        json_string_length(value) != strlen(json_string_value(value)))
			tell(x, SPOOL_SETTINGS_FILE, "has something that is no setting");
		else if (!json_object_get(x->settings, key))
			spool_results_setting(r, key, json_string_value(value));
	}
	x->set = spool_results_count(r);
	if (x->set > 0)
		spool_results_post(x->spool, &r);
	else
		spool_results_free(&r);
	until = clock_system.mono_us(&clock_system) + SETTINGS_WAIT_US;
	while (!x->fatal && spool_uncommitted(x->spool) > 0) {
		(void)loop_step(x->loop);
		if (clock_system.mono_us(&clock_system) > until) {
			tell(x, SPOOL_SETTINGS_FILE, "no space in the spool");
			x->fatal = true; /* without them no mail goes in */
		}
	}
	json_decref(all);
}

/* --- all of it ------------------------------------------------------------------------------------------------------ */

static void on_fatal(void *ctx, const struct error *err)
{
	((struct import *)ctx)->fatal = true;
	fprintf(stderr, "bindpost: %s\n", err->text);
}

static bool spool_ready(struct import *x, struct cli *cli, const char *path, struct error *err)
{
	struct errors errors = {0};
	struct conf *conf = conf_load_anyway(cli->config_path, &errors);
	struct spool_config cfg = {
	        .path = path,
	        .segment_size = conf ? conf_process(conf)->spool_segment_size : (uint64_t)64 << 20,
	        .memory = (uint64_t)64 << 20,
	        .lock_wait_s = 1,
	        .clock = &clock_system,
	        .rnd = &rnd_system,
	        .disk = x->disk,
	        .metrics = x->metrics,
	        .on_fatal = on_fatal,
	        .ctx = x,
	};

	conf_unref(&conf);
	errors_free(&errors);
	x->spool = spool_open(&cfg, err);
	if (!x->spool || !spool_replay(x->spool, note_live, note_setting, x, err))
		return false;
	spool_start(x->spool, x->loop);
	return true;
}

/* What was made by root belongs to the daemon's user, as all that is in its folder. */
static void give_away(const char *path, const struct stat *owner)
{
	DIR *d = opendir(path);
	struct dirent *entry;

	while (d && (entry = readdir(d)) != NULL)
		if (strcmp(entry->d_name, "..") != 0 && fchownat(dirfd(d), entry->d_name, owner->st_uid,
		                                                owner->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
			fprintf(stderr, "bindpost: %s/%s: chown: %s\n", path, entry->d_name, strerror(errno));
	if (d)
		closedir(d);
}

static void give_all_away(const char *path)
{
	char *bodies = mem_printf("%s/bodies", path);
	struct stat st;

	if (geteuid() == 0 && stat(path, &st) == 0) {
		give_away(path, &st);
		give_away(bodies, &st);
	}
	mem_free(&bodies);
}

static bool import_all(struct import *x, struct cli *cli, const char *path)
{
	struct error err;

	if (!read_folder(x, &err) || !spool_ready(x, cli, path, &err)) {
		fprintf(stderr, "bindpost: %s\n", err.text);
		return false;
	}
	import_settings(x); /* first: they say what may leave */
	for (size_t i = 0; i < x->n_names && !x->fatal; i += AT_ONCE)
		import_some(x, i, x->n_names - i < AT_ONCE ? x->n_names - i : AT_ONCE);
	return !x->fatal;
}

static void import_free(struct import *x)
{
	while (loop_step(x->loop)) /* spares under way, say */
		;
	spool_close(&x->spool);
	workers_free(&x->disk);
	loop_free(&x->loop);
	metrics_free(&x->metrics);
	for (size_t i = 0; i < x->n_names; i++)
		mem_free(&x->names[i]);
	mem_free(&x->names);
	mem_free(&x->live);
	json_decref(x->settings);
	if (x->dir >= 0)
		close(x->dir);
}

int cli_spool_import(struct cli *cli, const char *path, const char *from)
{
	struct import x = {.from = from, .dir = -1};
	bool ok;

	x.loop = loop_new("import", &clock_system);
	x.disk = workers_new("disk", 0); /* all on this thread */
	x.metrics = metrics_new();
	x.settings = json_object();
	ok = import_all(&x, cli, path);
	import_free(&x);
	give_all_away(path);
	if (cli->json)
		printf("{\"imported\":%llu,\"settings\":%llu,\"there_already\":%llu,\"refused\":%llu}\n",
		        (unsigned long long)x.stored, (unsigned long long)x.set, (unsigned long long)x.there,
		        (unsigned long long)x.failed);
	else
		printf("%llu messages to %s; %llu were there already, %llu were refused\n",
		        (unsigned long long)x.stored, path, (unsigned long long)x.there,
		        (unsigned long long)x.failed);
	return ok && x.failed == 0 ? CLI_DONE : CLI_REFUSED;
}
