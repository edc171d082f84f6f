/*
 * spool_int - what the spool's files share
 *
 * Threads    Fields belong to the spool loop (before it runs: to spool_open() and spool_replay()), except those that
 *            say otherwise. Disk workers get copies of what they need, and pinned segments' descriptors.
 */
#ifndef SPOOL_SPOOL_INT_H
#define SPOOL_SPOOL_INT_H

#include <stdatomic.h>
#include "base/mem.h"
#include "spool/batch.h"
#include "spool/chunk.h"
#include "spool/disk_io.h"
#include "spool/format.h"
#include "spool/index.h"
#include "spool/record.h"
#include "spool/settings.h"
#include "spool/spool.h"
#include "spool/version.h"

/* ---- segments ---- */

struct segment {
	uint64_t number, nonce, size;
	uint64_t first_sequence, next_sequence; /* of its first batch; behind its last */
	uint64_t end;                           /* bytes that count */
	uint64_t live;                          /* bytes of records that still matter */
	uint32_t seed, record_max;
	unsigned pins; /* reads under way */
	int fd;
	bool damaged;      /* a copy is set aside: the file is not reused */
	bool idx_complete; /* idx has all of it */
	struct str idx;    /* what the .idx file will say; empty once written */
};

/* All segments that are not freed, oldest first, without gaps but for NULLs (unborn, or set aside at start). */
struct segments {
	struct segment **list;
	uint64_t first; /* number of list[0] */
	size_t n, size;
};

/* Pre-written, synced files that may become a segment. The last STOCK_BALLAST are for results and the cleaner. */
#define STOCK_BALLAST 2u
#define STOCK_WANTED 4u
#define STOCK_MAX 16u
struct stock {
	uint64_t spares[STOCK_MAX];
	unsigned n;
	unsigned coming;    /* segments being recycled, spares being made */
	uint64_t next_name; /* for new-N, spare-N */
	bool making;        /* a worker pre-writes one */
	bool no_space;      /* the last one could not be made */
	bool no_space_told; /* logged, until one could */
};

/* ---- requests waiting ---- */

struct pending_add {
	struct pending_add *next;
	struct spool *spool;
	struct spool_add *request;
	struct version version;
	uint16_t held; /* parts that count as living before the whole does */
	bool bad;      /* cannot be encoded */
};

struct spool_results {
	struct mail mail;
	struct spool_results *next;
	struct spool *spool;
	struct str bytes; /* records, not sealed */
	size_t written;   /* of these bytes, in batches already */
	size_t count;
	uint32_t longest; /* record */
	uint64_t posted_us;
	struct loop *commit_loop; /* NULL = nobody waits */
	struct mail *committed;
};

struct spool {
	/* set at open, then read by any thread */
	struct spool_config cfg;
	struct disk_io *io;
	char *path; /* owns */
	int dir, bodies_dir;
	uint32_t record_max, batch_max;
	uint64_t inline_max;
	struct chunks *chunks;
	struct loop *loop; /* NULL until spool_start() */

	/* any thread */
	_Atomic uint64_t last_id;
	_Atomic uint64_t uncommitted, uncommitted_since_us;
	_Atomic uint64_t min_free, memory; /* as in cfg, until spool_set_limits() */
	_Atomic uint64_t free_bytes;       /* as last asked */
	_Atomic uint64_t committed;        /* all before is synced: segment << 32 | offset */
	_Atomic int health;
	_Atomic uint64_t read_bytes; /* read back for cursors, and still with them */
	_Atomic uint64_t reads_waiting;
	_Atomic bool reads_posted;
	struct mail reads_mail;

	/* the spool loop's */
	struct segments segments;
	struct segment *current;
	uint64_t sequence;      /* of the next batch */
	uint64_t number_floor;  /* next segment's number at least */
	_Atomic uint64_t oldest_stated; /* others may look; in a head that is synced: what is older may go */
	struct stock stock;
	struct index index;
	struct settings settings;
	uint64_t live_bytes;
	struct batch batch;
	struct pending_add *adds, **adds_tail;
	struct spool_results *results, **results_tail;
	size_t results_bytes;
	bool results_due;
	struct timer results_timer, second_timer;
	struct mail again; /* another batch waits */
	bool again_posted, in_replay;
	bool closing; /* loops may be gone: nothing is posted any more */
	bool failed, low_space;
	bool stuck_told;         /* logged, until something was written again */
	struct body_read *reads, **reads_tail; /* not begun: too much is read already (cursor.c) */
	struct cleaner *cleaner; /* clean.c's */
	struct start *start;     /* until replay is done */
	struct spool_metrics {
		metric *batches, *bytes, *messages, *records, *syncs_us, *segments, *spares, *live, *indexed,
		        *damaged, *copied, *refused, *pending, *bodies, *read, *uncommitted, *free_space,
		        *health;
	} m;
};

/* ---- segment.c ---- */
struct segment *segment_get(const struct spool *, uint64_t number); /* NULL: not there */
struct segment *segment_add(struct spool *, const struct segment_head *, int takes_fd);
struct segment *segment_oldest(const struct spool *);
uint64_t segment_oldest_needed(const struct spool *); /* the first in which something lives, or the current */
unsigned segment_count(const struct spool *);
void segment_live(void *spool, const struct where *, bool more); /* index.live */
void segment_drop(struct spool *, struct segment *);             /* out of the list; closes and frees it */
enum roll { ROLL_OK, ROLL_NO_SPARE, ROLL_FATAL };
enum roll segment_roll(struct spool *, unsigned leave, struct error *); /* takes a spare, leaving so many */
enum roll segment_roll_replacing(struct spool *, const struct segment *last, struct error *);
void segments_trim(struct spool *); /* holes at the new end go: at start only */
void segments_free(struct spool *);
static inline bool where_equal(const struct where *a, const struct where *b)
{
	return a->segment == b->segment && a->offset == b->offset && a->length == b->length;
}

/* ---- cursor.c ---- */
void reads_init(struct spool *);
void reads_free(struct spool *);

/* ---- stock.c ---- */
bool stock_make(struct spool *, uint64_t name, struct error *, int *error_number); /* blocks; any thread */
void stock_tend(struct spool *); /* has what is missing made, frees what is dead, unlinks what is too much */
void stock_add(struct spool *, uint64_t name);
void space_look(struct spool *); /* free space, health */
void health_update(struct spool *);

/* ---- commit.c ---- */
void commit_init(struct spool *);
void commit_free(struct spool *);
void commit_turn_end(void *spool);
bool commit_flush(struct spool *);                     /* all that waits, now: false when it failed */
void spool_fail(struct spool *, const struct error *); /* the end: once */
void commit_again(struct spool *);                     /* another turn */
bool commit_statement(struct spool *); /* a batch that only states the oldest segment needed */

/* ---- clean.c ---- */
#define COPIES_BYTES (1024u * 1024u) /* in a batch, about: no 250 waits long for them */
struct copy {                        /* a message on its way to the front, or settings */
	struct version version;
	uint16_t held;
};
void clean_init(struct spool *);
void clean_free(struct spool *);
void clean_tend(struct spool *); /* after each commit and each second */
bool clean_has_copies(const struct spool *);
/* The copy after this one (NULL: the first) that still holds, encoded as of now; NULL if there is none. */
struct copy *clean_next(struct spool *, const struct copy *after);
void clean_copied(struct spool *, struct copy *); /* its sync succeeded, the index knows */
/* The settings that have to leave the segment, as they are now: NULL if none has to. To be freed. */
struct spool_results *clean_settings(struct spool *);
/* It could win a segment with the last spare: results leave it that. */
bool clean_needs_spare(const struct spool *);
/* Bytes of new mail that may go into a batch now. */
uint64_t clean_allows(const struct spool *);
void clean_written(struct spool *, uint64_t bytes_of_mail);

/* ---- results.c ---- */
void results_apply(struct spool *, const uint8_t *bytes, size_t n, uint32_t segment, uint32_t offset);

/* ---- idx.c ---- */
void idx_add_record(struct segment *, uint32_t offset, const uint8_t *head_and_meta, size_t n);
void idx_add_records(
        struct segment *, uint32_t offset, const uint8_t *records, size_t n); /* without bodies */
void idx_seal(struct spool *, struct segment *);      /* has the file written by a worker */
void idx_write_now(struct spool *, struct segment *); /* blocks */
/* The file's head, and its entries (each offset u32, record's head and meta). False: none, or not whole, or not to be
 * read (*error_number, else 0). */
bool idx_read(struct spool *, uint64_t number, struct segment_head *, uint64_t *next_sequence, uint64_t *end,
        uint8_t **entries, size_t *n, int *error_number);

/* ---- read.c ---- */
struct fetch; /* records read by a worker, for the spool loop */
struct fetch *fetch_new(struct spool *, void (*done)(void *ctx, struct fetch *), void *ctx);
/* Pins its segment. Its number for fetch_record(). */
size_t fetch_add(struct fetch *, uint64_t id, const struct where *);
size_t fetch_bytes(const struct fetch *); /* so far */
void fetch_start(struct fetch *);         /* done() on the spool loop; the fetch stays until fetch_free() */
enum fetch_result { FETCH_OK, FETCH_DAMAGED, FETCH_BODY_DAMAGED, FETCH_ERROR /* of the disk: not damage */ };
enum fetch_result fetch_record(const struct fetch *, size_t i, struct record *);
int fetch_error(const struct fetch *, size_t i); /* errno */
void fetch_free(struct fetch **);
void segment_unpin(struct spool *, uint64_t number);

/* ---- body_file.c ---- */
void body_file_unlink(struct spool *, uint64_t number);
/* From any loop: the spool is to stop. */
void spool_fail_from(struct spool *, const struct error *);

#endif
