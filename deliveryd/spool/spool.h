/*
 * spool - the durable store: what is answered 250 is here
 *
 * Purpose    An append-only log of segments with group commit (spool.md of the design is the contract; the rules that
 *            argue durability stand above the functions they bind, in the .c files).
 * Ownership  One spool per folder; main owns it. Requests embed a mail that comes back exactly once.
 * Threads    spool_open() and spool_replay() before loops run; requests from any loop; the log itself belongs to the
 *            spool loop, which blocks in its sync; reads and large bodies to the disk workers.
 * Errors     See enum spool_result. A failed sync or EIO stops acceptance and calls on_fatal once, on the spool loop.
 */
#ifndef SPOOL_SPOOL_H
#define SPOOL_SPOOL_H

#include "base/error.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "message.h"
#include "spool/body.h"

struct disk_io; /* spool/disk_io.h: the system's calls, or the simulated disk of the tests */

struct spool_config {
	const char *path;
	uint64_t segment_size;	 /* bytes; 64 MB, tests down to 64 KB (record and inline limits scale with it) */
	uint64_t min_free;	 /* bytes free on the file system below which mail is refused */
	uint64_t memory;	 /* bytes of fresh bodies kept for delivery */
	uint64_t read_max;	 /* bytes read back and not yet sent, above which no reading begins; 0 = 128 MB */
	uint64_t inline_max;	 /* bytes; larger bodies get a file; 0 = built-in 256 KB (scaled) */
	unsigned lock_wait_s;	 /* built-in 10 */
	struct disk_io *io;	 /* NULL = the system's */
	struct clock *clock;
	struct rnd *rnd;
	struct workers *disk;
	struct metrics *metrics;
	void (*on_fatal)(void *ctx, const struct error *); /* the process must end */
	void *ctx;
};

struct spool;
struct spool *spool_open(const struct spool_config *, struct error *); /* locks, checks version; reads nothing yet */

/* What replay finds, oldest message first: each live message with its open deliveries. */
struct spool_live {
	const struct message *message; /* borrowed; body NULL; deliveries as they stood at reception */
	struct spool_live_delivery {
		uint32_t index;		   /* which of message->deliveries */
		const char *binding;	   /* moved or chosen binding/target and domain, NULL = as in the message */
		const char *domain;
		uint32_t attempts;
		uint64_t next_attempt_wall_us; /* 0 = at once */
		bool held;
		const char *last_reply;	   /* NULL = none */
		uint64_t last_attempt_wall_us; /* 0 = unknown */
		const uint32_t *open;	   /* recipients still open (numbers); NULL = all */
		uint32_t n_open;
	} *deliveries;
	uint32_t n_deliveries;
};
typedef void spool_live_fn(void *ctx, const struct spool_live *);
typedef void spool_setting_fn(void *ctx, const char *key, const char *value);
/* Replays, repairs, opens a new segment. Then the spool may be used. Damage found is logged and counted. */
bool spool_replay(struct spool *, spool_live_fn *, spool_setting_fn *, void *ctx, struct error *);
void spool_start(struct spool *, struct loop *spool_loop); /* commits happen at that loop's turn end */
/* Last commit, index file: the loop no longer runs. */
void spool_finish(struct spool *);
/* The same if it was not done, then unlocks and frees: the disk workers have come to their end by then, or have none of
 * its work. */
void spool_close(struct spool **);

uint64_t spool_new_id(struct spool *); /* any thread; sorts by time, never repeats */

/* --- state any thread may look at (atomics) -------------------------------------------------------------- */
enum spool_health { SPOOL_OK, SPOOL_LOW_SPACE /* 452 */, SPOOL_FAILED /* 451 */ };
enum spool_health spool_health(const struct spool *);
bool spool_has_room_for(const struct spool *, uint64_t bytes); /* MAIL SIZE= against min_free and reservations */
uint64_t spool_pending_bytes(const struct spool *);	       /* received, not yet durable */
uint64_t spool_uncommitted(const struct spool *);	       /* results posted, not yet durable */
uint64_t spool_uncommitted_since_us(const struct spool *);     /* mono time of the oldest, 0 = none */

/* --- requests ---------------------------------------------------------------------------------------------- */
enum spool_result { SPOOL_STORED, SPOOL_NO_SPACE, SPOOL_IO_ERROR };
/*
 * Stores a message. When its batch is durable: first `queue_mail` (posted to queue_loop; skipped when not stored),
 * then `reply` (posted to reply_loop) with `result` set. The struct lives until both have been taken. When it is not
 * stored, the spool drops its reference and `message` is NULL in the reply; nothing of `results` is done.
 */
struct spool_add {
	struct mail mail; /* the spool's while under way */
	struct message *message; /* owns one reference; the reader of queue_mail takes it over */
	struct loop *queue_loop;
	struct mail queue_mail;
	struct loop *reply_loop; /* NULL = no reply wanted; then the queue_mail's taker frees the struct */
	struct mail reply;
	enum spool_result result;
	atomic_uint refs; /* set by the spool: how many of the two are still to be taken; the last frees */
	/* Results that go into the same batch, behind this message: a DSN and the `done` of what it reports. */
	struct spool_results *results; /* takes; may be NULL */
	void *ctx;
	struct pending_add *pending; /* the spool's */
};
void spool_add(struct spool *, struct spool_add *);

/*
 * Results: a growing list, filled by the queue during a turn, posted once. `committed` (if set) is posted to its loop
 * when durable. Frees itself otherwise.
 */
struct spool_results;
struct spool_results *spool_results_new(void);
void spool_results_done(struct spool_results *, uint64_t id, uint32_t delivery);
struct spool_state {
	uint32_t attempts;
	uint64_t next_attempt_wall_us;
	bool held;
	const char *last_reply;	    /* stored up to 1 KB */
	uint64_t last_attempt_wall_us; /* 0 = unknown */
	const uint32_t *open;	    /* recipient numbers still open */
	uint32_t n_open;
};
void spool_results_state(struct spool_results *, uint64_t id, uint32_t delivery, const struct spool_state *);
/* The newest replaces all of those before it: NULL = as in the message. */
void spool_results_move(struct spool_results *, uint64_t id, uint32_t delivery, const char *binding, const char *domain);
void spool_results_setting(struct spool_results *, const char *key, const char *value /* NULL = removed */);
size_t spool_results_count(const struct spool_results *);
void spool_results_free(struct spool_results **); /* those never posted; NULL is fine */
void spool_results_on_commit(struct spool_results *, struct loop *, struct mail *committed);
void spool_results_post(struct spool *, struct spool_results **takes);

/* Reads a live message's envelope back (DSN, `message ID`). message NULL in the reply = not there or unreadable. */
struct spool_load {
	struct mail mail;
	uint64_t id;
	struct loop *reply_loop;
	struct mail reply;
	struct message *message; /* body NULL */
	struct error error;
	void *ctx;
	struct spool *spool; /* the spool's */
};
void spool_load(struct spool *, struct spool_load *);

/* After a reload: any thread; free space is judged anew within a second. */
void spool_set_limits(struct spool *, uint64_t min_free, uint64_t memory);
/* The queue drops its reference to a fresh body when this says so (spool.memory): any thread, cheap. */
bool spool_keep_in_memory(struct spool *, uint64_t bytes);

#endif
