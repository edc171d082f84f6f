/*
 * bindpost stamp --new-key: a key for stamp.key_file. With FILE it becomes the file's first line, the one that signs;
 * those already there stay, so that stamps signed by them are still accepted.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/conf.h"
#include "control/cli.h"
#include "policy/stamp.h"

#define KEY_BYTES 32
#define FILE_MAX ((size_t)1 << 20)

static bool new_key(char text[2 * KEY_BYTES + 2], struct error *err)
{
	unsigned char key[KEY_BYTES];

	if (gnutls_rnd(GNUTLS_RND_KEY, key, sizeof(key)) < 0)
		return error_set(err, "no random bytes to be had");
	for (size_t i = 0; i < sizeof(key); i++)
		snprintf(text + 2 * i, 3, "%02x", key[i]);
	strcpy(text + 2 * KEY_BYTES, "\n");
	gnutls_memset(key, 0, sizeof(key));
	return true;
}

/* Made by root for both daemons: they read it by their user's group. */
static void for_the_daemons(const char *config_path, struct stat *st)
{
	struct errors errors = {0};
	struct conf *conf = geteuid() == 0 ? conf_load(config_path, &errors) : NULL;
	const struct passwd *user = conf ? getpwnam(conf_process(conf)->user) : NULL;

	if (user && user->pw_uid != 0) {
		st->st_gid = user->pw_gid;
		st->st_mode = 0640;
	}
	conf_unref(&conf);
	errors_free(&errors);
}

/* What is there already; a missing file is empty. Its owner, group and mode are kept for the new one. */
static bool read_old(const char *path, struct str *text, struct stat *st, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char buf[4096];
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT || error_sys(err, "%s", path);
	bool ok = fstat(fd, st) == 0 || error_sys(err, "%s", path);
	if (ok && !S_ISREG(st->st_mode))
		ok = error_set(err, "%s is not a regular file", path);
	while (ok && (n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0)
			ok = error_sys(err, "%s", path);
		else if (text->len + (size_t)n > FILE_MAX)
			ok = error_set(err, "%s is larger than any key file", path);
		else
			str_add_mem(text, buf, (size_t)n);
	}
	close(fd);
	gnutls_memset(buf, 0, sizeof(buf));
	return ok;
}

static bool write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static bool write_new(int fd, const char *key, const struct str *old, const struct stat *st)
{
	bool same_owner = st->st_uid == geteuid() && st->st_gid == getegid();

	return (same_owner || fchown(fd, st->st_uid, st->st_gid) == 0) &&
	       fchmod(fd, st->st_mode & 0640) == 0 && write_all(fd, key, strlen(key)) &&
	       write_all(fd, old->data ? old->data : "", old->len) && fsync(fd) == 0;
}

/* The rename is durable when the folder is. */
static bool sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? mem_strndup(path, (size_t)(slash + 1 - path)) : mem_strdup(".");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	mem_free(&folder);
	return ok;
}

/* Nobody ever sees half a file, nor one that the daemons would refuse: it is loaded before it takes the place. */
static bool replace(
        const char *path, const char *key, const struct str *old, const struct stat *st, struct error *err)
{
	char *temp = mem_printf("%s.new", path);
	int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stamp_keys *keys = NULL;
	bool ok = fd >= 0 && write_new(fd, key, old, st);

	if (!ok)
		error_sys(err, "%s", temp);
	if (fd >= 0)
		close(fd);
	ok = ok && (keys = stamp_keys_load(temp, err)) != NULL;
	stamp_keys_free(&keys);
	if (ok && rename(temp, path) < 0)
		ok = error_sys(err, "%s", path);
	if (!ok && fd >= 0)
		unlink(temp);
	if (ok && !sync_folder(path))
		ok = error_sys(err, "%s is written, but its folder could not be synced", path);
	mem_free(&temp);
	return ok;
}

static bool prepend(const char *config_path, const char *path, const char *key, struct error *err)
{
	/* a symbolic link stays one: the file it leads to is replaced */
	char *real = realpath(path, NULL);
	const char *target = real ? real : path;
	struct stat st = {.st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid()};
	struct str old;

	for_the_daemons(config_path, &st);
	str_init(&old);
	bool ok = read_old(target, &old, &st, err) && replace(target, key, &old, &st, err);
	if (old.data)
		gnutls_memset(old.data, 0, old.len);
	str_free(&old);
	free(real);
	return ok;
}

int cmd_stamp(struct cli *cli)
{
	char key[2 * KEY_BYTES + 2];
	struct error err;
	bool ok;

	if (cli->argc < 1 || cli->argc > 2 || strcmp(cli->argv[0], "--new-key") != 0)
		return cli_usage("stamp: --new-key [FILE]");
	ok = new_key(key, &err);
	if (ok && cli->argc == 2)
		ok = prepend(cli->config_path, cli->argv[1], key, &err);
	else if (ok)
		fputs(key, stdout);
	gnutls_memset(key, 0, sizeof(key));
	if (!ok)
		fprintf(stderr, "bindpost: %s\n", err.text);
	else if (cli->argc == 2)
		fprintf(stderr, "bindpost: %s has a new first key; `bindpost reload` puts it into use\n",
		        cli->argv[1]);
	return ok ? CLI_DONE : CLI_REFUSED;
}
