/*
 * control_in - what the control socket's own .c files share
 */
#ifndef CONTROL_CONTROL_IN_H
#define CONTROL_CONTROL_IN_H

#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "control/control.h"
#include "queue/change.h"

void control_send_json(struct evhttp_request *, int code, const struct str *json);
void control_send_error(struct evhttp_request *, int code, const char *why);

/* For close callbacks: evhttp lets go of a request that is not answered yet when its connection fails, and leaves it to
 * whoever was to answer. */
void control_request_gone(struct evhttp_request *);

/* Who is at the other end: "root (uid 0)" by the socket's peer credentials, or the address of a TCP client. */
void control_who(struct evhttp_request *, struct str *who);

/* Changes of mail and bindings under way. */
struct changing;
struct changes {
	struct loop *loop;
	struct queue *queue;
	struct changing *first;
};
void control_change(
        struct changes *, struct evhttp_request *, enum queue_change_kind, struct evkeyvalq *query);
void control_changes_forget(struct changes *); /* their clients: the answers are still due */

/* Messages' bytes being read back and sent. */
struct reading;
struct readings {
	struct loop *loop;
	struct spool *spool;
	struct reading *first;
	unsigned n;
};
/* `part`: headers, body, raw */
void control_raw(struct readings *, struct evhttp_request *, uint64_t id, const char *part,
        const struct evkeyvalq *query);
void control_readings_forget(struct readings *);

/* Who looks at sessions' dialogues. */
struct tracing;
struct tracings {
	struct loop *loop;
	struct trace *trace;
	struct tracing *first;
};
void control_trace(struct tracings *, struct evhttp_request *, struct evkeyvalq *query);
void control_tracings_forget(struct tracings *);

/* Only what we know, and each at most once: a typing mistake must not select everything, or do something else. */
bool control_check_keys(const struct evkeyvalq *query, const char *const *known, size_t n);

/* name=value&name=value. Values are strings from here on: one that an encoded NUL would cut short is refused. */
bool control_read_query(const char *text, struct evkeyvalq *params);

#endif
