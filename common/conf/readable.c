/*
 * readable - which of the configuration's files this process may not read
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "conf/conf_internal.h"

struct asked {
	conf_unreadable_fn *fn;
	void *ctx;
};

/* With the ids in force now, which access() would not look at. What is not there is not meant: it may come to be. */
static void ask(const struct asked *a, const char *dir, const char *name, int mode)
{
	char *path = mem_printf("%s%s", *name == '/' ? "" : dir, name);

	if (faccessat(AT_FDCWD, path, mode, AT_EACCESS) != 0 && errno != ENOENT)
		a->fn(a->ctx, path, errno);
	mem_free(&path);
}

static bool is_folder(const char *dir, const char *name)
{
	char *path = mem_printf("%s%s", *name == '/' ? "" : dir, name);
	struct stat st;
	bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);

	mem_free(&path);
	return folder;
}

void conf_each_unreadable(const struct conf *c, conf_unreadable_fn *fn, void *ctx)
{
	struct asked a = {fn, ctx};
	const struct path_list *policy = c->proc[PROC_policy].paths;
	const char *dir = c->files[0]->dir;

	ask(&a, "", c->files[0]->name, R_OK);
	for (size_t i = 0; policy && i < policy->n; i++)
		if (is_folder(dir, policy->items[i]))
			ask(&a, dir, policy->items[i], R_OK | X_OK);
	for (uint32_t i = 1; i < c->n_files; i++)
		ask(&a, dir, c->files[i]->name, R_OK);
	if (c->process.stamp_key_file)
		ask(&a, "", c->process.stamp_key_file, R_OK);
}
