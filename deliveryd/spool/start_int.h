/*
 * start_int - what the files of the spool's start share
 */
#ifndef SPOOL_START_INT_H
#define SPOOL_START_INT_H

#include "spool/replay.h"
#include "spool/scan.h"
#include "spool/spool_int.h"
#include "spool/start.h"

/* What becomes of a file once all has been read: until then nothing is freed or set aside. */
enum start_fate { FATE_STAYS, FATE_GIVEN_BACK, FATE_SET_ASIDE };

struct start_file {
	uint64_t number;
	enum file_kind kind;
	struct segment_head head; /* FILE_SEGMENT */
	enum head_check check;
	bool damaged; /* its head was lost */
	enum start_fate fate;
};

struct start {
	struct spool *spool;
	struct start_file *files; /* owns; by kind, then number */
	size_t n, size;
	struct replay *replay;
	uint32_t reading; /* number of the segment being replayed */
	uint64_t highest_id;
	size_t last; /* of files: the last segment with a valid head */
	bool has_last;
	bool whole; /* every byte is read, index files or not */
};

/* Adds its place to what errno says, false. EIO is not damage: nothing is freed or set aside on its account. */
bool start_read_failed(const struct spool *, uint64_t number, uint64_t offset, struct error *);
/* The segment's bytes, *n of them: to be freed. NULL: it cannot be read. */
uint8_t *start_read_image(struct spool *, int fd, const struct start_file *, size_t *n, struct error *);

/* ---- start_new.c ---- */
bool start_collect_stock(struct start *, struct error *);
/* A segment file that nobody needs becomes a spare, or goes. */
bool start_give_back(struct spool *, uint64_t number, struct error *);
bool start_unlink(struct spool *, const char *name, struct error *);
bool start_open_new(struct start *, struct error *);

/* ---- start_sweep.c ---- */
/* Files that nothing refers to; named: the body files of living messages, to be sorted. */
bool start_sweep(struct start *, uint64_t *named, size_t n_named, struct error *);

#endif
