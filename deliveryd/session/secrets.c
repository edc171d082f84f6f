#include "session/secrets.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"

#define LOOK_US (5 * SECOND_US)

/* Never goes before the cache: there are as many as the configuration has ever named. */
struct entry {
	struct entry *next;
	struct secrets *secrets;
	char *path;
	char *secret; /* owns; NULL = it could not be read: */
	struct error error;
	uint64_t read_us; /* when; 0 = to be read */
	bool reading;
	struct secret_wait *waits;
	struct mail tell;
	bool tell_posted;
	/* the worker's while reading */
	struct work work;
	char *fresh;
	struct error fresh_error;
};

struct secrets {
	struct loop *loop;
	struct workers *workers; /* made when first needed */
	unsigned threads;
	struct entry *entries;
};

static void wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	mem_free(text);
}

/* --- a file ----------------------------------------------------------------------------------------------- */

static bool mode_ok(int fd, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return error_sys(err, "fstat");
	if (!S_ISREG(st.st_mode))
		return error_set(err, "is not a regular file");
	if (st.st_mode & (S_IRWXO | S_IWGRP))
		return error_set(err,
		        "its mode is %04o: it must be neither accessible by others nor writable by its group "
		        "(chmod 0640)",
		        (unsigned)(st.st_mode & 07777));
	return true;
}

/* The first line, without blanks around it. */
static char *first_line(const char *text, size_t len, struct error *err)
{
	const char *end = memchr(text, '\n', len);
	size_t i;

	if (end)
		len = (size_t)(end - text);
	while (len > 0 && (text[len - 1] == '\r' || text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	while (len > 0 && (*text == ' ' || *text == '\t')) {
		text++;
		len--;
	}
	for (i = 0; i < len; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 127) {
			error_set(err, "its first line has control characters");
			return NULL;
		}
	}
	if (len > 0)
		return mem_strndup(text, len);
	error_set(err, "its first line is empty");
	return NULL;
}

static char *read_secret(const char *path, struct error *err)
{
	char text[SECRET_MAX + 1], *secret = NULL;
	size_t len = 0;
	ssize_t n = 1;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		error_sys(err, "%s", path);
		return NULL;
	}
	if (mode_ok(fd, err)) {
		while (n > 0 && len < sizeof(text)) {
			n = read(fd, text + len, sizeof(text) - len);
			len += n > 0 ? (size_t)n : 0;
		}
		if (n < 0)
			error_sys(err, "read");
		else if (len > SECRET_MAX)
			error_set(err, "is longer than %d bytes", SECRET_MAX);
		else
			secret = first_line(text, len, err);
	}
	explicit_bzero(text, sizeof(text));
	close(fd);
	if (!secret)
		error_at(err, "%s", path);
	return secret;
}

/* --- the cache ---------------------------------------------------------------------------------------------- */

struct secrets *secrets_new(struct loop *loop, unsigned threads)
{
	struct secrets *secrets = mem_zalloc(sizeof(*secrets));

	secrets->loop = loop;
	secrets->threads = threads;
	return secrets;
}

void secrets_free(struct secrets **psecrets)
{
	struct secrets *secrets = *psecrets;
	struct entry *e, *next;

	if (!secrets)
		return;
	workers_free(&secrets->workers);
	for (e = secrets->entries; e; e = next) {
		next = e->next;
		assert(!e->waits);
		wipe(&e->secret);
		wipe(&e->fresh);
		mem_free(&e->path);
		mem_free(&e);
	}
	mem_free(psecrets);
}

static void entry_tell(struct entry *e)
{
	struct secret_wait *w;

	while ((w = e->waits)) {
		secret_cancel(w);
		w->ready(w->ctx, e->secret, e->secret ? NULL : &e->error);
	}
}

static void entry_run(struct work *work)
{
	struct entry *e = container_of(work, struct entry, work);

	e->fresh = read_secret(e->path, &e->fresh_error);
}

static void entry_done(struct mail *mail)
{
	struct work *work = container_of(mail, struct work, done);
	struct entry *e = container_of(work, struct entry, work);

	wipe(&e->secret);
	e->secret = e->fresh;
	e->fresh = NULL;
	e->error = e->fresh_error;
	e->reading = false;
	e->read_us = loop_now_us(e->secrets->loop) + 1;
	entry_tell(e);
}

static void entry_read(struct entry *e)
{
	struct secrets *secrets = e->secrets;

	if (!secrets->workers)
		secrets->workers = workers_new("secrets", secrets->threads);
	e->reading = true;
	e->work.run = entry_run;
	e->work.reply = secrets->loop;
	e->work.done.take = entry_done;
	workers_do(secrets->workers, &e->work);
}

static void take_tell(struct mail *mail)
{
	struct entry *e = container_of(mail, struct entry, tell);

	e->tell_posted = false;
	if (!e->reading)
		entry_tell(e);
}

static struct entry *entry_get(struct secrets *secrets, const char *path)
{
	struct entry *e;

	for (e = secrets->entries; e; e = e->next)
		if (strcmp(e->path, path) == 0)
			return e;
	e = mem_zalloc(sizeof(*e));
	e->secrets = secrets;
	e->path = mem_strdup(path);
	e->tell.take = take_tell;
	e->next = secrets->entries;
	secrets->entries = e;
	return e;
}

void secret_get(struct secrets *secrets, const char *path, struct secret_wait *w)
{
	struct entry *e = entry_get(secrets, path);

	w->next = e->waits;
	w->link = &e->waits;
	if (w->next)
		w->next->link = &w->next;
	e->waits = w;
	if (e->reading)
		return;
	if (e->read_us == 0 || loop_now_us(secrets->loop) >= e->read_us + LOOK_US) {
		entry_read(e);
	} else if (!e->tell_posted) {
		e->tell_posted = true;
		loop_post(secrets->loop, &e->tell);
	}
}

void secret_cancel(struct secret_wait *w)
{
	if (!w->link)
		return;
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->next = NULL;
	w->link = NULL;
}

void secret_doubt(struct secrets *secrets, const char *path)
{
	entry_get(secrets, path)->read_us = 0;
}

void secrets_reload(struct secrets *secrets)
{
	struct entry *e;

	for (e = secrets->entries; e; e = e->next)
		e->read_us = 0;
}
