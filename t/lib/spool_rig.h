/*
 * spool_rig - a spool on one loop under a fake clock, and what a replay found
 */
#ifndef T_LIB_SPOOL_RIG_H
#define T_LIB_SPOOL_RIG_H

#include "base/mem.h"
#include "spool/disk_io.h"
#include "spool/spool.h"
#include "spool/view.h"

struct rig_delivery {
	uint32_t index, attempts;
	uint64_t next;
	bool held;
	char *binding, *domain, *reply; /* own */
	uint32_t *open;                 /* owns; NULL = all */
	uint32_t n_open;
};
struct rig_live {
	uint64_t id;
	uint64_t body_size;
	char *sender; /* owns */
	uint32_t n_all;
	uint32_t *n_recipients;          /* owns; of each of n_all */
	struct rig_delivery *deliveries; /* owns; the open ones */
	uint32_t n_deliveries;
};
struct rig_setting {
	char *key, *value;
};

struct rig {
	struct spool_config cfg;
	struct fake_clock clock;
	struct fake_rnd rnd;
	struct loop *loop;
	struct workers *workers;
	struct metrics *metrics;
	struct spool *spool;
	bool fatal;
	struct error error; /* of open, replay, or fatal */
	struct rig_live *live;
	size_t n_live;
	struct rig_setting *settings;
	size_t n_settings;
	/* the operators' file, if a path is set before rig_open(): read on at opening, then now and then */
	const char *view_path;
	struct view *view;
	unsigned view_turns;
};

void rig_init(struct rig *, const char *path, struct disk_io *, uint64_t segment_size);
/* Looks through the closed spool: how many messages `spool check` finds, UINT64_MAX when it cannot. */
uint64_t rig_look_through(struct rig *, uint64_t *damaged);
bool rig_open(struct rig *); /* opens, replays, starts */
void rig_run(struct rig *);  /* until nothing is left to do */
void rig_advance(struct rig *, uint64_t us);
void rig_close(struct rig *); /* in order */
void rig_free(struct rig *);
const struct rig_live *rig_find(const struct rig *, uint64_t id);
const char *rig_setting(const struct rig *, const char *key);

/* A message being stored. */
struct rig_add {
	struct spool_add add;
	struct mail finished;
	bool answered, queued, refused_writer;
	enum spool_result result;
	uint64_t id;
	struct rig *rig;
	struct message *message;
	struct spool_results *results;
};
struct rig_message {
	uint32_t n_deliveries, n_recipients;
	size_t body;
	bool has_envid;
};
/* Begins; answered after rig_run(). The body's bytes are rig_body() of the id. */
struct rig_add *rig_add_start(struct rig *, const struct rig_message *, struct spool_results *takes);
void rig_add_free(struct rig_add **);
/* All in one go; the id, 0 when it was not stored. */
uint64_t rig_store(struct rig *, const struct rig_message *);
void rig_body(uint64_t id, size_t n, uint8_t *out);
/* Reads the body back; NULL if it cannot be read. To be freed. */
uint8_t *rig_read(struct rig *, uint64_t id, uint64_t from, size_t *n);
bool rig_body_ok(struct rig *, uint64_t id, uint64_t size);
/* Posts results, runs until they are committed. */
void rig_done(struct rig *, uint64_t id, uint32_t delivery);
void rig_state(struct rig *, uint64_t id, uint32_t delivery, uint32_t attempts, const char *reply);
void rig_commit(struct rig *, struct spool_results *takes);

#endif
