#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "spool/start_int.h"

static bool sweep_idx(struct start *st, struct error *err)
{
	char name[FORMAT_NAME_SIZE];

	for (size_t i = 0; i < st->n; i++)
		if (st->files[i].kind == FILE_IDX && segment_get(st->spool, st->files[i].number) == NULL &&
		        !start_unlink(st->spool, format_name(name, FILE_IDX, st->files[i].number), err))
			return false;
	return true;
}

struct body_sweep {
	const uint64_t *named;
	size_t n_named;
	uint64_t *unnamed; /* owns */
	size_t n_unnamed, found;
};

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void each_body(void *ctx, const char *name)
{
	struct body_sweep *sweep = ctx;
	uint64_t number;

	if (format_name_parse(name, &number) != FILE_BODY)
		return;
	if (sweep->n_named > 0 &&
	        bsearch(&number, sweep->named, sweep->n_named, sizeof(number), by_number) != NULL) {
		sweep->found++;
		return;
	}
	sweep->unnamed = mem_array(sweep->unnamed, sweep->n_unnamed + 1, sizeof(*sweep->unnamed));
	sweep->unnamed[sweep->n_unnamed++] = number;
}

static bool sweep_bodies(struct spool *s, uint64_t *named, size_t n, struct error *err)
{
	struct body_sweep sweep = {.named = named, .n_named = n};
	char name[FORMAT_NAME_SIZE];
	bool ok = true;

	if (n > 0)
		qsort(named, n, sizeof(*named), by_number);
	if (s->io->list(s->io, s->bodies_dir, each_body, &sweep) < 0)
		ok = error_sys(err, "%s/bodies: reading the folder", s->path);
	for (size_t i = 0; ok && i < sweep.n_unnamed; i++) {
		(void)format_name(name, FILE_BODY, sweep.unnamed[i]);
		if (s->io->unlink(s->io, s->bodies_dir, name) < 0 && errno != ENOENT)
			ok = error_sys(err, "%s/bodies/%s: unlink", s->path, name);
	}
	if (ok && sweep.found < n)
		log_error("spool: %s/bodies: %zu files that messages name are missing", s->path,
		        n - sweep.found);
	mem_free(&sweep.unnamed);
	return ok;
}

bool start_sweep(struct start *st, uint64_t *named, size_t n_named, struct error *err)
{
	return sweep_idx(st, err) && sweep_bodies(st->spool, named, n_named, err);
}
