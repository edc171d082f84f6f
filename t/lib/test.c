#include "config.h"
#include "t/lib/test.h"

#include <ftw.h>
#include "base/mem.h"

char *test_source_path(const char *fmt, ...)
{
	const char *srcdir = getenv("srcdir");
	char *rest, *path;
	va_list ap;

	va_start(ap, fmt);
	rest = mem_vprintf(fmt, ap);
	va_end(ap);
	path = mem_printf("%s/%s", srcdir != NULL ? srcdir : ".", rest);
	free(rest);
	return path;
}

char *test_folder_new(void)
{
	const char *tmp = getenv("TMPDIR");
	char *path = mem_printf("%s/bindpost-test-XXXXXX", tmp != NULL ? tmp : "/tmp");

	if (mkdtemp(path) == NULL)
		fail_msg("mkdtemp: %s", path);
	return path;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void test_folder_remove(char **path)
{
	if (*path == NULL)
		return;
	(void)nftw(*path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	mem_free(path);
}

char *test_file_read(const char *path, size_t *len)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t n = 0, size = 0, got;

	if (f == NULL)
		fail_msg("cannot open %s", path);
	do {
		if (size - n < 4096) {
			size = size > 0 ? size * 2 : 8192;
			text = mem_array(text, size, 1);
		}
		got = fread(text + n, 1, size - n - 1, f);
		n += got;
	} while (got > 0);
	(void)fclose(f);
	text[n] = '\0';
	if (len != NULL)
		*len = n;
	return text;
}

void test_file_write(const char *path, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		fail_msg("cannot write %s", path);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}
