/*
 * control - the control socket: HTTP + JSON over a Unix socket, and Prometheus metrics
 *
 * Purpose    What the `bindpost` command, monitoring and scripts talk to. It holds no rows: it asks the queue for
 *            answers of at most 500 rows, by cursor, as the client takes them.
 * Paths      GET /v1/summary /v1/queues /v1/bindings /v1/bindings/NAME /v1/messages /v1/messages/ID (and ID/headers, ID/body, ID/raw: its bytes)
 *            /v1/connections /v1/status
 *            /metrics /v1/dns/stats /v1/dns/lookup (name= type=); POST /v1/dns/refresh (name=) /v1/reload /v1/flush /v1/delay /v1/hold /v1/release /v1/fail /v1/delete /v1/suspend
 *            /v1/resume, whose parameters stand in the query or, like a form's, in the body. Filters as query: binding= domain= cursor= limit= . What changes something is
 *            answered on `control.listen` only, never on `control.observe` or `control.metrics`.
 * Threads    Belongs to its loop. Answers of the queue come by mail.
 * Errors     {"error": "..."} with 400, 403, 404, 405, 500 or 503.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "base/loop.h"
#include "base/metrics.h"
#include "base/str.h"

struct queue;
struct spool;
struct trace;
struct dns_control;

enum control_access {
	CONTROL_METRICS, /* GET /metrics */
	CONTROL_OBSERVE, /* everything that reads */
	CONTROL_FULL,
};

struct control_config {
	struct loop *loop;
	struct metrics *metrics;
	struct queue *queue;
	struct spool *spool; /* for messages' bytes */
	struct trace *trace;
	/*
	 * Reload, on the control loop; may read files. `step` is "all", "check", "take" or "drop" (design 5: the three steps of
	 * `bindpost reload`). Fills in the answer (a JSON object); false = refused, nothing changed.
	 */
	bool (*reload)(void *ctx, const char *step, bool force, struct str *json);
	const struct dns_control *dns;
	void (*status)(void *ctx, struct str *json); /* version, start time, CPU per role */
	void *ctx;
};

struct control;
struct control *control_new(const struct control_config *);
/* Takes a listening descriptor. */
bool control_listen(struct control *, int fd, enum control_access);
void control_free(struct control **); /* open requests are dropped */

#endif
