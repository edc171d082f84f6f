/*
 * Runs the scripts of t/smtp, one TAP line each: all, or those named on the command line.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "t/lib/smtp_script.h"
#include "t/lib/test.h"

static int is_script(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && strcmp(dot, ".smtp") == 0;
}

static bool run_file(unsigned number, const char *path, const char *name)
{
	struct error err;
	char *text = test_file_read(path, NULL);
	bool ok = smtp_script_run(name, text, &err);

	printf("%s %u - %s\n", ok ? "ok" : "not ok", number, name);
	if (!ok)
		printf("# %s\n", err.text);
	fflush(stdout);
	mem_free(&text);
	return ok;
}

static unsigned run_all(void)
{
	char *folder = test_source_path("t/smtp"), *path;
	struct dirent **entries;
	int i, n = scandir(folder, &entries, is_script, alphasort);
	unsigned failed = n <= 0;

	printf("1..%d\n", n > 0 ? n : 1);
	if (n <= 0)
		printf("not ok 1 - no scripts in %s\n", folder);
	for (i = 0; i < n; i++) {
		path = mem_printf("%s/%s", folder, entries[i]->d_name);
		failed += !run_file((unsigned)i + 1, path, entries[i]->d_name);
		mem_free(&path);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	mem_free(&folder);
	return failed;
}

static void to_comment(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	printf("# %s\n", line);
}

int main(int argc, char **argv)
{
	unsigned failed = 0;
	int i;

	log_init("scripts", getenv("SMTP_SCRIPT_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING);
	log_capture(to_comment, NULL);
	if (argc < 2)
		return run_all() > 0;
	printf("1..%d\n", argc - 1);
	for (i = 1; i < argc; i++)
		failed += !run_file((unsigned)i, argv[i], argv[i]);
	return failed > 0;
}
