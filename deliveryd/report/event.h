/*
 * event - the event log: one JSON object a line (design section 10)
 *
 * Purpose    What happened to mail and bindings, for billing, support and monitoring. event_post() prints the line at
 *            once and hands it to the log thread; it never waits. Past 64 MB of backlog events are dropped, counted,
 *            and a line says how many.
 * Threads    event_post() any thread.
 */
#ifndef REPORT_EVENT_H
#define REPORT_EVENT_H

#include "base/addr.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/metrics.h"

/* clang-format off */
enum event_type {
	EVENT_RECEPTION, EVENT_DELIVERY, EVENT_DEFERRAL, EVENT_BOUNCE, EVENT_EXPIRATION, EVENT_UNCERTAIN, EVENT_DSN,
	EVENT_SUSPEND, EVENT_RESUME, EVENT_THROTTLE, EVENT_SOURCE_DOWN, EVENT_SOURCE_UP, EVENT_STALE_RULE,
	EVENT_BAD_STAMP, EVENT_REBIND, EVENT_REROUTE, EVENT_ADMIN, EVENT_RELOAD, EVENT_START, EVENT_STOP,
};
/* clang-format on */

/* NULL, 0 or AF_UNSPEC = the key is left out (has_x where 0 is a value). Everything is borrowed during the call. */
struct event {
	enum event_type type;
	uint64_t time_wall_us; /* 0 = now */
	uint64_t id;
	const char *binding, *group, *rule;
	const char *sender; /* "" is printed (null reverse-path); NULL left out */
	const char *recipient, *domain, *next_hop, *mx;
	struct addr peer, source; /* peer: remote ip; source: from getsockname() */
	struct addr proxy;        /* with port */
	bool claimed;             /* `source` is what the proxy was told, not what a socket says */
	const char *ehlo;
	bool has_attempt;
	uint32_t attempt;  /* 1 for the first */
	const char *state; /* resolve connect banner ehlo starttls auth xclient mail rcpt data dot */
	int code;
	const char *enhanced, *reply, *class_;
	bool has_size, has_delay;
	uint64_t size, delay_us;
	const char *reason;
	bool has_count;
	uint64_t count;  /* how many, admin and dropped */
	const char *who; /* the operator: "root (uid 0)" */
	uint64_t until_wall_us;
	/* object "tls" when tls_version is set */
	const char *tls_version, *tls_cipher, *tls_verified, *tls_sni;
	bool tls_resumed, tls_insecure_mx; /* DANE, of a host that an unsigned MX record names */
	const char *detail; /* free text of ours */
};

struct event_log;
/* Opens (creates, 0640) the file for append and starts the log thread (threaded = false in tests: written at once). */
struct event_log *event_log_open(
        const char *path, struct clock *, struct metrics *, bool threaded, struct error *);
void event_post(struct event_log *, const struct event *);
bool event_log_reopen(struct event_log *, const char *path, struct error *); /* SIGHUP: after logrotate */
void event_log_close(struct event_log **);                                   /* writes what is left */
/* Tests: each line is also given to fn */
void event_log_tap(struct event_log *, void (*fn)(void *ctx, const char *line), void *ctx);
const char *event_type_name(enum event_type);

#endif
