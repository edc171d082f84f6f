/*
 * fuzz_replay - runs a fuzz target over its corpus, without a fuzzer
 *
 * Purpose    The main() of t/fuzz/NAME.t: one TAP line for each file of $srcdir/t/fuzz/corpus/NAME. The
 * target gets the file, each beginning of a small one, and some spoiled copies, the same ones in each run.
 * Each input is a block of its own of exactly its size, so that AddressSanitizer sees a read past the end.
 *            Under --enable-fuzz libFuzzer brings its own main().
 */
#include "config.h"

#ifndef FUZZ_WITH_LIBFUZZER

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

#define PREFIX_MAX ((size_t)2048) /* of larger files only some beginnings */
#define N_SPOILED 64

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void feed(const uint8_t *bytes, size_t n)
{
	uint8_t *copy = malloc(n > 0 ? n : 1);

	if (copy == NULL)
		abort();
	if (n > 0)
		memcpy(copy, bytes, n);
	(void)LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static void feed_beginnings(const uint8_t *bytes, size_t n)
{
	size_t step = n <= PREFIX_MAX ? 1 : n / PREFIX_MAX + 1;

	for (size_t i = 0; i < n; i += step)
		feed(bytes, i);
}

/* A changed byte, a byte that means something to parsers, a hole, a repetition. */
static void feed_spoiled(const uint8_t *bytes, size_t n, struct rnd *rnd)
{
	static const char special[] = "\0\r\n\t \"\\<>@[]():;,.=/%'{}\x7f\x80\xff";
	uint8_t *copy = mem_alloc(2 * n);
	size_t at = rnd_below(rnd, n), len = rnd_below(rnd, n - at < 16 ? n - at : 16) + 1;

	memcpy(copy, bytes, n);
	switch (rnd_below(rnd, 4)) {
	case 0:
		copy[at] ^= (uint8_t)(1u << rnd_below(rnd, 8));
		break;
	case 1:
		copy[at] = (uint8_t)special[rnd_below(rnd, sizeof(special) - 1)];
		break;
	case 2:
		memmove(copy + at, copy + at + len, n - at - len);
		n -= len;
		break;
	default:
		memmove(copy + at + len, copy + at, n - at);
		n += len;
		break;
	}
	feed(copy, n);
	mem_free(&copy);
}

static int replay(const char *path)
{
	FILE *f = fopen(path, "re");
	struct fake_rnd rnd;
	uint8_t *bytes;
	size_t n;
	long size;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0) {
		if (f != NULL)
			(void)fclose(f);
		return -1;
	}
	rewind(f);
	bytes = mem_alloc((size_t)size);
	n = fread(bytes, 1, (size_t)size, f);
	(void)fclose(f);
	feed(bytes, n);
	feed_beginnings(bytes, n);
	fake_rnd_init(&rnd, n);
	if (n > 0)
		for (int i = 0; i < N_SPOILED; i++)
			feed_spoiled(bytes, n, &rnd.rnd);
	mem_free(&bytes);
	return n == (size_t)size ? 0 : -1;
}

/* "t/fuzz/NAME.t" is the target NAME */
static char *target_name(const char *program)
{
#ifdef FUZZ_NAME
	(void)program;
	return mem_strdup(FUZZ_NAME);
#else
	const char *slash = strrchr(program, '/');
	char *name = mem_strdup(slash != NULL ? slash + 1 : program);
	char *dot = strchr(name, '.');

	if (dot != NULL)
		*dot = '\0';
	return name;
#endif
}

static int not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int replay_folder(const char *folder)
{
	struct dirent **entries;
	int n = scandir(folder, &entries, not_hidden, alphasort), failed = 0;

	if (n <= 0) {
		printf("1..1\nnot ok 1 - no corpus in %s\n", folder);
		return 1;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		char *path = mem_printf("%s/%s", folder, entries[i]->d_name);
		int result = replay(path);

		failed += result != 0;
		printf("%sok %d - %s\n", result != 0 ? "not " : "", i + 1, entries[i]->d_name);
		(void)fflush(stdout); /* the next one may end us */
		mem_free(&path);
		free(entries[i]);
	}
	free(entries);
	return failed != 0;
}

/* Without arguments the corpus; else these files, e.g. one on which a fuzzer stopped. */
int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir");
	char *name, *folder;
	int result = 0;

	for (int i = 1; i < argc; i++)
		result |= replay(argv[i]) != 0;
	if (argc > 1)
		return result;
	name = target_name(argv[0]);
	folder = mem_printf("%s/t/fuzz/corpus/%s", srcdir != NULL ? srcdir : ".", name);
	result = replay_folder(folder);
	mem_free(&folder);
	mem_free(&name);
	return result;
}

#endif
