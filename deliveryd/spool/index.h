/*
 * index - where in the log the living are
 *
 * Purpose    id -> the places of a message's newest version and of what was recorded about it since. A message with
 *            one delivery, in one record, costs 40 bytes in an open-addressed table; the rest has an extra.
 *            A place that is replaced or dies is reported, so that each segment knows how much lives in it.
 * Threads    The spool loop (replay before it runs).
 */
#ifndef SPOOL_INDEX_H
#define SPOOL_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct where {
	uint32_t segment; /* its number; 0 = nowhere */
	uint32_t offset, length;
};

struct index_delivery {
	struct where state, move; /* newer than the message's own merged section; 0 = there, or none */
	bool done;
};

struct index_extra {
	uint64_t body_file; /* 0 = none */
	uint32_t n_deliveries, n_open;
	uint32_t n_more;    /* further records of the message */
	struct where *more; /* owns */
	struct index_delivery d[];
};

struct index_entry {
	uint64_t id; /* 0 = free slot */
	struct where at;
	bool has_extra;
	union {
		struct where state; /* of the one delivery */
		struct index_extra *extra;
	};
};

/* Many small tables in place of a large one: each grows by itself, and none of them is long about it. */
#define INDEX_TABLES 64
struct index_table {
	struct index_entry *slots;
	size_t n_slots, n;
};
struct index {
	struct index_table tables[INDEX_TABLES];
	size_t n_slots, n; /* of all */
	void (*live)(
	        void *ctx, const struct where *, bool more); /* a place begins to count, or no longer does */
	void *ctx;
};

void index_init(struct index *, void (*live)(void *ctx, const struct where *, bool more), void *ctx);
void index_free(struct index *);
struct index_entry *index_find(const struct index *, uint64_t id);

/*
 * A new version of a message: the places of its records, `at` first. A known id forgets its old places and the states
 * and moves recorded since (the new version has them merged); what is done stays done.
 */
struct index_version {
	struct where at;
	const struct where *more;
	uint32_t n_more;
	uint32_t n_deliveries;
	uint64_t body_file;
};
struct index_entry *index_put(struct index *, uint64_t id, const struct index_version *);
void index_state(struct index *, struct index_entry *, uint32_t delivery, const struct where *);
void index_move(struct index *, struct index_entry *, uint32_t delivery, const struct where *);
/* True when that was the last open delivery: the caller removes the entry. */
bool index_done(struct index *, struct index_entry *, uint32_t delivery);
bool index_is_done(const struct index_entry *, uint32_t delivery);
void index_remove(struct index *, struct index_entry *);

/* All places in one segment are now in another, at the same offsets. live() hears of both. */
void index_renumber(struct index *, uint32_t from, uint32_t to);

uint32_t index_deliveries(const struct index_entry *);
uint64_t index_body_file(const struct index_entry *);
uint32_t index_more(const struct index_entry *, const struct where **more);
/* Nowhere (segment 0) if the message's merged section has the newest. */
struct where index_newest_state(const struct index_entry *, uint32_t delivery);
struct where index_newest_move(const struct index_entry *, uint32_t delivery);

/* Calls each() for entries from slot *at on, at most n slots; false at the end. Nothing may be changed meanwhile,
 * but between two calls anything may: an entry that moved may be missed, so who needs all sweeps again. */
bool index_sweep(const struct index *, size_t *at, size_t n,
        void (*each)(void *ctx, const struct index_entry *), void *ctx);

#endif
