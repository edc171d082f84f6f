#include "config.h"
#include "spool/view_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>
#include "base/mem.h"
#include "base/str.h"
#include "message.h"
#include "spool/payload.h"
#include "spool/view_schema.h"

/* A record of the slice, in order. */
struct item {
	struct item *next;
	uint64_t id;
	const uint8_t *meta; /* in the slice's pool */
	uint32_t meta_len, part;
	uint16_t parts;
	uint8_t type;
};

/* A message whose first version is in the slice: how much of it is done already. */
struct fresh {
	uint64_t id;
	uint32_t n, n_done, next_part; /* n: deliveries */
	uint16_t parts;
	uint8_t *done; /* a byte each */
	UT_hash_handle hh;
};

enum statement {
	POSITION_DELETE,
	POSITION_INSERT,
	MESSAGE_DELETE,
	MESSAGE_INSERT,
	MESSAGE_DELETE_EMPTY,
	DELIVERIES_DELETE,
	DELIVERY_DELETE,
	DELIVERY_INSERT,
	DELIVERY_STATE,
	DELIVERY_MOVE,
	DELIVERY_RECIPIENTS,
	RECIPIENTS_DELETE,
	RECIPIENTS_DELETE_OF,
	RECIPIENTS_OPEN,
	RECIPIENT_INSERT,
	SETTING_DELETE,
	SETTING_PUT,
	STATEMENTS
};

static const char *const texts[STATEMENTS] = {
        [POSITION_DELETE] = "DELETE FROM t_position",
        [POSITION_INSERT] = "INSERT INTO t_position VALUES (?, ?, ?, ?)",
        [MESSAGE_DELETE] = "DELETE FROM t_message WHERE id = ?",
        [MESSAGE_INSERT] = "INSERT INTO t_message VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [MESSAGE_DELETE_EMPTY] =
                "DELETE FROM t_message WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM t_delivery WHERE id = ?1)",
        [DELIVERIES_DELETE] = "DELETE FROM t_delivery WHERE id = ?",
        [DELIVERY_DELETE] = "DELETE FROM t_delivery WHERE id = ? AND number = ?",
        [DELIVERY_INSERT] =
                "INSERT INTO t_delivery VALUES (?1, ?2, ?3, ?4, ?3, ?4, ?5, ?6, 0, 0, 0, 0, NULL)",
        [DELIVERY_STATE] = "UPDATE t_delivery SET attempts = ?3, next_attempt = ?4, last_attempt = ?5, "
                           "held = ?6, last_reply = ?7 WHERE id = ?1 AND number = ?2",
        [DELIVERY_MOVE] = "UPDATE t_delivery SET binding = coalesce(?3, accepted_binding), "
                          "domain = coalesce(?4, accepted_domain) WHERE id = ?1 AND number = ?2",
        [DELIVERY_RECIPIENTS] = "SELECT recipients FROM t_delivery WHERE id = ? AND number = ?",
        [RECIPIENTS_DELETE] = "DELETE FROM t_recipient WHERE id = ?",
        [RECIPIENTS_DELETE_OF] = "DELETE FROM t_recipient WHERE id = ? AND number = ?",
        [RECIPIENTS_OPEN] = "UPDATE t_recipient SET open = NOT open WHERE id = ?1 AND number = ?2 AND "
                            "open <> (?3 IS NULL OR place IN (SELECT value FROM json_each(?3)))",
        [RECIPIENT_INSERT] = "INSERT INTO t_recipient VALUES (?, ?, ?, ?, 1)",
        [SETTING_DELETE] = "DELETE FROM t_setting WHERE key = ?",
        [SETTING_PUT] = "INSERT OR REPLACE INTO t_setting VALUES (?, ?)",
};

struct view_rows {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	char *ahead_path; /* owns: the write-ahead file's */
	int failed;       /* the first SQLite error of a transaction; SQLITE_OK = none */
	/* the slice */
	struct pool *pool;
	struct item *items, **items_tail;
	struct fresh *fresh;
	size_t bytes;
	unsigned partial; /* messages without their end */
};

/* ---- SQLite ---- */

static enum view_result result_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return VIEW_OK;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return VIEW_BUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* no such table, say */
	case SQLITE_SCHEMA:
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
		return VIEW_BAD;
	default:
		return VIEW_FAILED;
	}
}

static enum view_result outcome(struct view_rows *v, int code, struct error *err)
{
	enum view_result result = result_of(code);

	if (result != VIEW_OK)
		error_set(err, "%s", v->db != NULL ? sqlite3_errmsg(v->db) : sqlite3_errstr(code));
	return result;
}

static int exec(struct view_rows *v, const char *sql)
{
	return sqlite3_exec(v->db, sql, NULL, NULL, NULL);
}

static bool has_schema(struct view_rows *v)
{
	sqlite3_stmt *statement;
	bool has = false;

	if (sqlite3_prepare_v2(v->db, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK)
		return false;
	if (sqlite3_step(statement) == SQLITE_ROW)
		has = sqlite3_column_int(statement, 0) == VIEW_VERSION;
	sqlite3_finalize(statement);
	return has;
}

static int make_schema(struct view_rows *v)
{
	char version[64];
	int code = exec(v, "BEGIN IMMEDIATE;" VIEW_SCHEMA);

	snprintf(version, sizeof(version), "PRAGMA user_version = %d; COMMIT", VIEW_VERSION);
	return code == SQLITE_OK ? exec(v, version) : code;
}

static bool is_empty(struct view_rows *v)
{
	sqlite3_stmt *statement;
	bool empty = false;

	if (sqlite3_prepare_v2(v->db, "SELECT count(*) FROM sqlite_schema", -1, &statement, NULL) ==
	        SQLITE_OK)
		empty = sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_int(statement, 0) == 0;
	sqlite3_finalize(statement);
	return empty;
}

static int prepare(struct view_rows *v)
{
	int code = SQLITE_OK;

	for (int i = 0; i < STATEMENTS && code == SQLITE_OK; i++)
		code = sqlite3_prepare_v3(
		        v->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &v->statements[i], NULL);
	return code;
}

static int set_up(struct view_rows *v)
{
	int code;

	(void)sqlite3_busy_timeout(v->db, 0); /* nobody is waited for */
	code = exec(v, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;"
	               "PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096");
	if (code == SQLITE_OK && !has_schema(v))
		code = is_empty(v) ? make_schema(v) : SQLITE_NOTADB;
	return code == SQLITE_OK ? prepare(v) : code;
}

static void slice_new(struct view_rows *v)
{
	v->pool = pool_new(65536);
	v->items = NULL;
	v->items_tail = &v->items;
	v->bytes = 0;
	v->partial = 0;
}

struct view_rows *view_rows_open(const char *path, enum view_result *result, struct error *err)
{
	struct view_rows *v = mem_zalloc(sizeof(*v));
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640), code;

	v->ahead_path = mem_printf("%s-wal", path);
	slice_new(v);
	if (fd < 0) {
		*result = VIEW_FAILED;
		error_sys(err, "open");
		view_rows_close(&v);
		return NULL;
	}
	(void)close(fd); /* it only had to be there with the right mode */
	code = sqlite3_open_v2(
	        path, &v->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
	if (code == SQLITE_OK)
		code = set_up(v);
	*result = outcome(v, code, err);
	if (*result != VIEW_OK)
		view_rows_close(&v);
	return v;
}

void view_rows_close(struct view_rows **rows)
{
	struct view_rows *v = *rows;

	*rows = NULL;
	if (v == NULL)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(v->statements[i]);
	(void)sqlite3_close(v->db);
	view_rows_drop(v);
	pool_free(&v->pool);
	mem_free(&v->ahead_path);
	mem_free(&v);
}

bool view_rows_position(struct view_rows *v, struct view_position *at)
{
	sqlite3_stmt *s;
	bool found = false;

	if (sqlite3_prepare_v2(v->db, "SELECT segment, nonce, offset, sequence FROM t_position", -1, &s,
	            NULL) == SQLITE_OK &&
	        sqlite3_step(s) == SQLITE_ROW) {
		*at = (struct view_position){
		        .segment = (uint64_t)sqlite3_column_int64(s, 0),
		        .nonce = (uint64_t)sqlite3_column_int64(s, 1),
		        .offset = (uint64_t)sqlite3_column_int64(s, 2),
		        .sequence = (uint64_t)sqlite3_column_int64(s, 3),
		};
		found = true;
	}
	sqlite3_finalize(s);
	return found;
}

/* ---- the slice ---- */

static struct fresh *fresh_find(struct view_rows *v, uint64_t id)
{
	struct fresh *f;

	HASH_FIND(hh, v->fresh, &id, sizeof(id), f);
	return f;
}

static void fresh_done(struct fresh *f, uint32_t delivery)
{
	if (delivery >= f->n || f->done[delivery] != 0)
		return;
	f->done[delivery] = 1;
	f->n_done++;
}

/* The first part of a version says how many deliveries there are. */
static void fresh_begin(struct view_rows *v, const struct record *r)
{
	struct payload_head head;
	struct fresh *f = fresh_find(v, r->id);

	if (f != NULL && f->next_part < f->parts) /* begun and given up */
		v->partial--;
	if (f == NULL) {
		if (!payload_get_head(r->meta, r->meta_len, &head))
			return;
		f = pool_alloc(v->pool, sizeof(*f));
		f->id = r->id;
		f->n = head.n_deliveries;
		f->done = pool_alloc(v->pool, f->n);
		HASH_ADD(hh, v->fresh, id, sizeof(f->id), f);
	}
	f->parts = r->parts;
	f->next_part = 1;
	v->partial += r->parts > 1;
}

static void fresh_part(struct view_rows *v, const struct record *r)
{
	struct fresh *f = fresh_find(v, r->id);

	if (f == NULL || f->next_part >= f->parts)
		return;
	f->next_part++;
	v->partial -= f->next_part == f->parts;
}

void view_rows_take(struct view_rows *v, const struct record *r)
{
	struct item *item = pool_alloc(v->pool, sizeof(*item));
	uint8_t *meta = pool_alloc(v->pool, r->meta_len);
	struct fresh *f;

	memcpy(meta, r->meta, r->meta_len);
	*item = (struct item){
	        .id = r->id,
	        .meta = meta,
	        .meta_len = r->meta_len,
	        .part = r->part,
	        .parts = r->parts,
	        .type = r->type,
	};
	*v->items_tail = item;
	v->items_tail = &item->next;
	v->bytes += sizeof(*item) + r->meta_len;
	if (r->type == RECORD_MESSAGE && r->part == 0)
		fresh_begin(v, r);
	else if (r->type == RECORD_MESSAGE)
		fresh_part(v, r);
	else if (r->type == RECORD_DONE && (f = fresh_find(v, r->id)) != NULL)
		fresh_done(f, r->part);
}

size_t view_rows_bytes(const struct view_rows *v)
{
	return v->bytes;
}

bool view_rows_partial(const struct view_rows *v)
{
	return v->partial > 0;
}

void view_rows_drop(struct view_rows *v)
{
	HASH_CLEAR(hh, v->fresh);
	pool_free(&v->pool);
	slice_new(v);
}

/* ---- rows ---- */

static sqlite3_stmt *begin(struct view_rows *v, enum statement which)
{
	sqlite3_stmt *s = v->statements[which];

	(void)sqlite3_reset(s);
	(void)sqlite3_clear_bindings(s);
	return s;
}

static void put_int(sqlite3_stmt *s, int at, uint64_t value)
{
	(void)sqlite3_bind_int64(s, at, (sqlite3_int64)value);
}

static void put_text(sqlite3_stmt *s, int at, const char *value) /* NULL = null */
{
	(void)sqlite3_bind_text(s, at, value, -1, SQLITE_TRANSIENT);
}

static int run(struct view_rows *v, sqlite3_stmt *s)
{
	int code = v->failed == SQLITE_OK ? sqlite3_step(s) : SQLITE_ABORT;

	(void)sqlite3_reset(s);
	if (code != SQLITE_DONE && code != SQLITE_ROW && v->failed == SQLITE_OK)
		v->failed = code;
	return code;
}

static void run_on(struct view_rows *v, enum statement which, uint64_t id, int64_t delivery /* -1 = none */)
{
	sqlite3_stmt *s = begin(v, which);

	put_int(s, 1, id);
	if (delivery >= 0)
		put_int(s, 2, (uint64_t)delivery);
	(void)run(v, s);
}

static void put_done(struct view_rows *v, uint64_t id, uint32_t delivery)
{
	run_on(v, RECIPIENTS_DELETE_OF, id, delivery);
	run_on(v, DELIVERY_DELETE, id, delivery);
	if (sqlite3_changes(v->db) > 0)
		run_on(v, MESSAGE_DELETE_EMPTY, id, -1);
}

/* False: no such delivery. */
static bool recipients_of(struct view_rows *v, uint64_t id, uint32_t delivery, uint32_t *n)
{
	sqlite3_stmt *s = begin(v, DELIVERY_RECIPIENTS);
	bool found;

	put_int(s, 1, id);
	put_int(s, 2, delivery);
	found = v->failed == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW;
	if (found)
		*n = (uint32_t)sqlite3_column_int64(s, 0);
	(void)sqlite3_reset(s);
	return found;
}

/* The newest state says which are open: without a list, all. */
static void open_recipients(struct view_rows *v, uint64_t id, uint32_t delivery,
        const uint32_t *open /* NULL = all */, uint32_t n)
{
	sqlite3_stmt *s = begin(v, RECIPIENTS_OPEN);
	struct str list;

	str_init(&list);
	str_add(&list, "[");
	for (uint32_t i = 0; i < n; i++)
		str_printf(&list, "%s%u", i > 0 ? "," : "", open[i]);
	str_add(&list, "]");
	put_int(s, 1, id);
	put_int(s, 2, delivery);
	put_text(s, 3, open != NULL ? list.data : NULL);
	(void)run(v, s);
	str_free(&list);
}

static void put_state(struct view_rows *v, uint64_t id, uint32_t delivery, const uint8_t *bytes, size_t n)
{
	struct pool *pool = pool_new(512);
	struct spool_state state;
	uint32_t n_recipients;

	if (recipients_of(v, id, delivery, &n_recipients) &&
	        payload_get_state(bytes, n, n_recipients, pool, &state)) {
		sqlite3_stmt *s = begin(v, DELIVERY_STATE);

		put_int(s, 1, id);
		put_int(s, 2, delivery);
		put_int(s, 3, state.attempts);
		put_int(s, 4, state.next_attempt_wall_us);
		put_int(s, 5, state.last_attempt_wall_us);
		put_int(s, 6, state.held);
		put_text(s, 7, state.last_reply);
		(void)run(v, s);
		open_recipients(v, id, delivery, state.open, state.open != NULL ? state.n_open : 0);
	}
	pool_free(&pool);
}

static void put_move(struct view_rows *v, uint64_t id, uint32_t delivery, const uint8_t *bytes, size_t n)
{
	struct pool *pool = pool_new(512);
	const char *binding, *domain;

	if (payload_get_move(bytes, n, pool, &binding, &domain)) {
		sqlite3_stmt *s = begin(v, DELIVERY_MOVE);

		put_int(s, 1, id);
		put_int(s, 2, delivery);
		put_text(s, 3, binding);
		put_text(s, 4, domain);
		(void)run(v, s);
	}
	pool_free(&pool);
}

static void put_setting(struct view_rows *v, const struct item *item)
{
	struct pool *pool = pool_new(512);
	const char *key, *value;

	if (payload_get_setting(item->meta, item->meta_len, pool, &key, &value)) {
		sqlite3_stmt *s = begin(v, value != NULL ? SETTING_PUT : SETTING_DELETE);

		put_text(s, 1, key);
		if (value != NULL)
			put_text(s, 2, value);
		(void)run(v, s);
	}
	pool_free(&pool);
}

static void put_delivery(struct view_rows *v, uint64_t id, uint32_t number, const struct delivery_spec *d)
{
	sqlite3_stmt *s = begin(v, DELIVERY_INSERT);

	put_int(s, 1, id);
	put_int(s, 2, number);
	put_text(s, 3, d->target);
	put_text(s, 4, d->domain);
	put_text(s, 5, d->rule);
	put_int(s, 6, d->n_recipients);
	(void)run(v, s);
	for (uint32_t i = 0; i < d->n_recipients; i++) {
		s = begin(v, RECIPIENT_INSERT);
		put_int(s, 1, id);
		put_int(s, 2, number);
		put_int(s, 3, i);
		put_text(s, 4, d->recipients[i].address);
		(void)run(v, s);
	}
}

static void put_envelope(struct view_rows *v, const struct message *m)
{
	sqlite3_stmt *s = begin(v, MESSAGE_INSERT);
	char client[ADDR_TEXT_SIZE];

	put_int(s, 1, m->id);
	put_int(s, 2, m->received_wall_us);
	put_text(s, 3, m->sender);
	put_int(s, 4, m->body_size);
	put_text(s, 5, m->client_addr.family != AF_UNSPEC ? addr_print(&m->client_addr, client) : NULL);
	put_text(s, 6, m->client_name);
	put_text(s, 7, m->client_helo);
	put_text(s, 8, m->envid);
	(void)run(v, s);
}

/* What the cleaner merged into its copy. */
static void put_merged(struct view_rows *v, const struct message *m, const uint8_t *bytes, size_t n)
{
	struct cursor c;
	struct merged merged;

	cursor_init(&c, bytes, n);
	for (uint32_t i = 0; cursor_left(&c) > 0 && i < m->n_deliveries && payload_get_merged(&c, &merged);
	        i++) {
		if (merged.bits & MERGED_MOVE)
			put_move(v, m->id, i, merged.move, merged.move_len);
		if (merged.bits & MERGED_STATE)
			put_state(v, m->id, i, merged.state, merged.state_len);
		if (merged.bits & MERGED_DONE)
			put_done(v, m->id, i);
	}
}

static void put_version(struct view_rows *v, uint64_t id, const uint8_t *meta, size_t n)
{
	struct message *m = payload_get_message(meta, n, id);
	struct payload_head head;

	if (m == NULL || !payload_get_head(meta, n, &head))
		return;
	run_on(v, RECIPIENTS_DELETE, id, -1);
	run_on(v, DELIVERIES_DELETE, id, -1);
	run_on(v, MESSAGE_DELETE, id, -1);
	put_envelope(v, m);
	for (uint32_t i = 0; i < m->n_deliveries; i++)
		put_delivery(v, id, i, &m->deliveries[i]);
	put_merged(v, m, meta + head.fixed_len, n - head.fixed_len);
	message_unref(&m);
}

/* Nothing of the same message stands between the parts of a version: those that follow are its parts, or it was given up. */
static void put_parts(struct view_rows *v, const struct item *first)
{
	struct str meta;
	uint32_t next = 1;

	str_init(&meta);
	str_add_mem(&meta, first->meta, first->meta_len);
	for (const struct item *i = first->next; i != NULL && next < first->parts; i = i->next) {
		if (i->id != first->id || i->type == RECORD_SETTING)
			continue;
		if (i->type != RECORD_MESSAGE || i->part != next || i->parts != first->parts)
			break;
		str_add_mem(&meta, i->meta, i->meta_len);
		next++;
	}
	if (next == first->parts)
		put_version(v, first->id, (const uint8_t *)meta.data, meta.len);
	str_free(&meta);
}

static bool came_and_went(struct view_rows *v, uint64_t id)
{
	const struct fresh *f = fresh_find(v, id);

	return f != NULL && f->n_done == f->n;
}

static void put_item(struct view_rows *v, const struct item *item)
{
	switch (item->type) {
	case RECORD_MESSAGE:
		if (item->part == 0)
			put_parts(v, item);
		break;
	case RECORD_STATE:
		put_state(v, item->id, item->part, item->meta, item->meta_len);
		break;
	case RECORD_MOVE:
		put_move(v, item->id, item->part, item->meta, item->meta_len);
		break;
	case RECORD_DONE:
		put_done(v, item->id, item->part);
		break;
	default:
		put_setting(v, item);
	}
}

/* ---- transactions ---- */

enum view_result view_rows_begin(struct view_rows *v, struct error *err)
{
	v->failed = SQLITE_OK;
	return outcome(v, exec(v, "BEGIN IMMEDIATE"), err);
}

void view_rows_rollback(struct view_rows *v)
{
	if (!sqlite3_get_autocommit(v->db))
		(void)exec(v, "ROLLBACK");
}

enum view_result view_rows_clear(struct view_rows *v, struct error *err)
{
	return outcome(v,
	        exec(v, "DELETE FROM t_recipient; DELETE FROM t_delivery; DELETE FROM t_message;"
	                "DELETE FROM t_setting; DELETE FROM t_position"),
	        err);
}

static void put_position(struct view_rows *v, const struct view_position *at)
{
	sqlite3_stmt *s;

	(void)run(v, begin(v, POSITION_DELETE));
	s = begin(v, POSITION_INSERT);
	put_int(s, 1, at->segment);
	put_int(s, 2, at->nonce);
	put_int(s, 3, at->offset);
	put_int(s, 4, at->sequence);
	(void)run(v, s);
}

enum view_result view_rows_write(struct view_rows *v, const struct view_position *at, struct error *err)
{
	int code;

	for (const struct item *i = v->items; i != NULL && v->failed == SQLITE_OK; i = i->next) {
		/* of what came and went, an older version may have been written before */
		if (i->type == RECORD_SETTING || i->type == RECORD_DONE || !came_and_went(v, i->id))
			put_item(v, i);
	}
	put_position(v, at);
	code = v->failed == SQLITE_OK ? exec(v, "COMMIT") : v->failed;
	view_rows_drop(v);
	if (code == SQLITE_OK)
		return VIEW_OK;
	enum view_result result = outcome(v, code, err);
	view_rows_rollback(v);
	return result;
}

void view_rows_rest(struct view_rows *v)
{
	(void)sqlite3_db_release_memory(v->db);
}

bool view_rows_small(struct view_rows *v, uint64_t bytes)
{
	struct stat st;

	if (stat(v->ahead_path, &st) < 0 || (uint64_t)st.st_size <= bytes)
		return true;
	return sqlite3_wal_checkpoint_v2(v->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) == SQLITE_OK;
}
