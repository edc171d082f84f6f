/*
 * view_schema - the tables (t_...), and the views operators look at
 *
 * Times are microseconds since 1970 in the tables, and text in the views. A version that needs other tables counts
 * VIEW_VERSION up: the file is then made anew.
 */
#ifndef SPOOL_VIEW_SCHEMA_H
#define SPOOL_VIEW_SCHEMA_H

#define VIEW_VERSION 1

/* clang-format off */
#define VIEW_TIME(t) \
	"CASE WHEN " t " > 0 THEN strftime('%Y-%m-%dT%H:%M:%SZ', " t " / 1000000, 'unixepoch') END"
#define VIEW_OPEN "t_delivery d JOIN t_message m ON m.id = d.id"
#define VIEW_COUNTS \
	"sum(m.size) AS bytes, sum(d.attempts > 0) AS deferred, sum(d.held) AS held, " \
	VIEW_TIME("min(m.received)") " AS oldest"

#define VIEW_SCHEMA \
	"CREATE TABLE t_position (segment INTEGER, nonce INTEGER, offset INTEGER, sequence INTEGER);" \
	"CREATE TABLE t_message (id INTEGER PRIMARY KEY, received INTEGER, sender TEXT, size INTEGER," \
	" client TEXT, client_name TEXT, helo TEXT, envid TEXT);" \
	"CREATE TABLE t_delivery (id INTEGER, number INTEGER, binding TEXT, domain TEXT," \
	" accepted_binding TEXT, accepted_domain TEXT, rule TEXT, recipients INTEGER, attempts INTEGER," \
	" next_attempt INTEGER, last_attempt INTEGER, held INTEGER, last_reply TEXT," \
	" PRIMARY KEY (id, number)) WITHOUT ROWID;" \
	"CREATE TABLE t_recipient (id INTEGER, number INTEGER, place INTEGER, address TEXT, open INTEGER," \
	" PRIMARY KEY (id, number, place)) WITHOUT ROWID;" \
	"CREATE TABLE t_setting (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;" \
	\
	"CREATE VIEW messages AS SELECT printf('%016x', id) AS id, " VIEW_TIME("received") " AS received," \
	" sender, size, client, client_name, helo, envid FROM t_message;" \
	"CREATE VIEW deliveries AS SELECT printf('%016x', d.id) AS id, d.number AS delivery, d.binding," \
	" d.domain, d.rule, m.sender, m.size," \
	" (SELECT count(*) FROM t_recipient r WHERE r.id = d.id AND r.number = d.number AND r.open) AS recipients, " \
	VIEW_TIME("m.received") " AS received, d.attempts, " VIEW_TIME("d.last_attempt") " AS last_attempt, " \
	VIEW_TIME("d.next_attempt") " AS next_attempt, d.held, d.last_reply FROM " VIEW_OPEN ";" \
	"CREATE VIEW recipients AS SELECT printf('%016x', r.id) AS id, r.number AS delivery, r.address," \
	" d.binding, d.domain, d.attempts, d.held, d.last_reply" \
	" FROM t_recipient r JOIN t_delivery d ON d.id = r.id AND d.number = r.number WHERE r.open;" \
	"CREATE VIEW by_binding AS SELECT d.binding, count(*) AS deliveries," \
	" count(DISTINCT d.id) AS messages, " VIEW_COUNTS " FROM " VIEW_OPEN \
	" GROUP BY d.binding ORDER BY deliveries DESC;" \
	"CREATE VIEW by_domain AS SELECT d.domain, count(*) AS deliveries," \
	" count(DISTINCT d.binding) AS bindings, " VIEW_COUNTS " FROM " VIEW_OPEN \
	" GROUP BY d.domain ORDER BY deliveries DESC;" \
	"CREATE VIEW oldest AS SELECT printf('%016x', d.id) AS id, d.binding, d.domain, m.sender, " \
	VIEW_TIME("m.received") " AS received, d.attempts, " VIEW_TIME("d.next_attempt") " AS next_attempt," \
	" d.held, d.last_reply FROM t_message m JOIN t_delivery d ON d.id = m.id ORDER BY m.id LIMIT 100;" \
	"CREATE VIEW settings AS SELECT key, value FROM t_setting;"
/* clang-format on */

#endif
