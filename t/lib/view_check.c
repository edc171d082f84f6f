#include "config.h"
#include "t/lib/view_check.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

static sqlite3 *open_db(const char *path)
{
	sqlite3 *db;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK)
		return db;
	(void)sqlite3_close(db);
	return NULL;
}

static sqlite3_stmt *first_row(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *s = NULL;

	if (db == NULL || sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
		return NULL;
	if (sqlite3_step(s) == SQLITE_ROW)
		return s;
	(void)sqlite3_finalize(s);
	return NULL;
}

static uint64_t number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *s = first_row(db, sql);
	uint64_t n = s != NULL ? (uint64_t)sqlite3_column_int64(s, 0) : UINT64_MAX;

	(void)sqlite3_finalize(s);
	return n;
}

uint64_t view_number(const char *path, const char *sql)
{
	sqlite3 *db = open_db(path);
	uint64_t n = number(db, sql);

	(void)sqlite3_close(db);
	return n;
}

char *view_text(const char *path, const char *sql)
{
	sqlite3 *db = open_db(path);
	sqlite3_stmt *s = first_row(db, sql);
	const char *text = s != NULL ? (const char *)sqlite3_column_text(s, 0) : NULL;
	char *copy = text != NULL ? mem_strdup(text) : NULL;

	(void)sqlite3_finalize(s);
	(void)sqlite3_close(db);
	return copy;
}

static bool same_text(sqlite3_stmt *s, int column, const char *wanted)
{
	const char *text = (const char *)sqlite3_column_text(s, column);

	return wanted == NULL ? text == NULL : text != NULL && strcmp(text, wanted) == 0;
}

/* The rig's messages: binding and domain by the delivery's number unless moved. */
static bool delivery_row(sqlite3_stmt *s, const struct rig_delivery *d, uint32_t n_recipients)
{
	char domain[32];
	uint32_t open = d->open != NULL ? d->n_open : n_recipients;

	(void)snprintf(domain, sizeof(domain), "d%u.example", d->index);
	return same_text(s, 0,
	               d->binding != NULL  ? d->binding
	               : d->index % 2 == 0 ? "acme"
	                                   : "group:shared") &&
	       same_text(s, 1, d->domain != NULL ? d->domain : domain) &&
	       (uint32_t)sqlite3_column_int64(s, 2) == d->attempts &&
	       (uint64_t)sqlite3_column_int64(s, 3) == d->next &&
	       (sqlite3_column_int(s, 4) != 0) == d->held && same_text(s, 5, d->reply) &&
	       (uint32_t)sqlite3_column_int64(s, 6) == open;
}

static bool check_live(sqlite3 *db, const struct rig_live *l, char *fault, size_t n)
{
	char sql[512];

	for (uint32_t i = 0; i < l->n_deliveries; i++) {
		sqlite3_stmt *s;
		bool ok;

		(void)snprintf(sql, sizeof(sql),
		        "SELECT binding, domain, attempts, next_attempt, held, last_reply, (SELECT count(*) "
		        "FROM "
		        "t_recipient r WHERE r.id = d.id AND r.number = d.number AND r.open) FROM t_delivery "
		        "d "
		        "JOIN t_message m ON m.id = d.id WHERE d.id = %" PRIu64
		        " AND number = %u AND m.size = %" PRIu64 " AND m.sender = '%s'",
		        l->id, l->deliveries[i].index, l->body_size, l->sender);
		s = first_row(db, sql);
		ok = s != NULL && delivery_row(s, &l->deliveries[i], l->n_recipients[l->deliveries[i].index]);
		if (!ok)
			(void)snprintf(fault, n, "view: %" PRIx64 ".%u: %s", l->id, l->deliveries[i].index,
			        s != NULL ? "another row" : "no row");
		(void)sqlite3_finalize(s);
		if (!ok)
			return false;
	}
	return true;
}

bool view_check(const char *path, const struct rig *rig, char *fault, size_t n)
{
	sqlite3 *db = open_db(path);
	uint64_t deliveries = 0, messages = number(db, "SELECT count(*) FROM t_message"),
	         rows = number(db, "SELECT count(*) FROM t_delivery"),
	         settings = number(db, "SELECT count(*) FROM t_setting");
	bool ok = true;

	for (size_t i = 0; ok && i < rig->n_live; i++) {
		deliveries += rig->live[i].n_deliveries;
		ok = check_live(db, &rig->live[i], fault, n);
	}
	if (ok && (messages != rig->n_live || rows != deliveries || settings != rig->n_settings)) {
		(void)snprintf(fault, n,
		        "view: %" PRIu64 " messages, %" PRIu64 " deliveries, %" PRIu64
		        " settings; replay: %zu, %" PRIu64 ", %zu",
		        messages, rows, settings, rig->n_live, deliveries, rig->n_settings);
		ok = false;
	}
	(void)sqlite3_close(db);
	return ok;
}
