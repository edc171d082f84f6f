/*
 * sim_disk - a disk in memory that is as bad as disks may be
 *
 * Purpose    Keeps for each file what reads see and what the disk has. A power cut leaves of the writes not synced any
 *            subset, torn at 512 bytes, and of creates, renames, links and unlinks whose folder was not synced some. A
 *            failed sync drops what it did not write for good, though reads go on showing it. Any call can be made to
 *            fail, to write short, or to be the moment of the cut.
 * Threads    One.
 */
#ifndef T_LIB_SIM_DISK_H
#define T_LIB_SIM_DISK_H

#include "spool/disk_io.h"

enum sim_accident {
	SIM_NONE,
	SIM_EIO,
	SIM_ENOSPC,
	SIM_SHORT,
	SIM_CUT,
	SIM_SYNC_FAILS, /* the first sync of a file from the given call on */
};
#define SIM_ACCIDENTS 6

struct sim_disk {
	struct disk_io io;
	struct sim_inode **inodes; /* owns; [0] is the root */
	size_t n_inodes;
	uint64_t last_number;
	struct sim_handle *handles;
	size_t n_handles;
	uint64_t capacity; /* bytes */
	uint64_t held;     /* freed, but not yet to be had */
	bool delay_free;   /* space of unlinked files comes back with sim_disk_tick() */
	uint64_t random;
	uint64_t calls;
	uint64_t accident_at; /* the call that has it; 0 = none */
	enum sim_accident accident;
	bool happened; /* the accident */
	bool off;      /* cut: every call fails until sim_disk_restart() */
	/* EIO, again and again, for whoever creates, writes, links or removes a file whose name ends so; NULL = none */
	const char *sick;
	/* Called before a file is unlinked or renamed, if set. */
	void (*removing)(void *ctx, const char *name);
	void *removing_ctx;
};

struct sim_disk *sim_disk_new(uint64_t seed);
void sim_disk_free(struct sim_disk **);
void sim_disk_plan(struct sim_disk *, uint64_t calls_from_now, enum sim_accident);
/* The process is gone: descriptors and locks are. What is in the page cache stays. */
void sim_disk_kill(struct sim_disk *);
/* The power was cut, and is back. */
void sim_disk_restart(struct sim_disk *);
void sim_disk_tick(struct sim_disk *); /* the journal commits */
uint64_t sim_disk_used(const struct sim_disk *);
/* Bytes of all files whose name ends so. */
uint64_t sim_disk_used_by(const struct sim_disk *, const char *suffix);
/* A file's bytes as reads see them, to be spoiled; NULL = no such file. Spoiled bytes are spoiled on the disk too. */
uint8_t *sim_disk_bytes(struct sim_disk *, const char *folder, const char *name, size_t *n);
/* The same as the disk has them for certain: what a cut now could leave at worst. */
const uint8_t *sim_disk_durable(struct sim_disk *, const char *folder, const char *name, size_t *n);
void sim_disk_spoil(struct sim_disk *, const char *folder, const char *name, size_t at, size_t n);
/* Removes all files whose name ends so. */
void sim_disk_remove_all(struct sim_disk *, const char *suffix);
/* Calls fn for each name in the folder */
void sim_disk_names(
        struct sim_disk *, const char *folder, void (*fn)(void *ctx, const char *name), void *ctx);

#endif
