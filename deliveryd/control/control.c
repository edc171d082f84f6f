/*
 * One evhttp per access class; a request becomes one question to the queue and one answer. A client that goes away
 * while its question is under way leaves `request` NULL behind; the question itself always comes back and is freed.
 */
#include "control/control_dns.h"
#include "control/control_in.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/names.h"
#include "queue/queue.h"

#define CONTROL_TIMEOUT_S 30
#define CONTROL_HEADERS_MAX (16 << 10)
#define CONTROL_BODY_MAX (64 << 10)
#define ASK_ONE UINT64_C(1) /* the binding named, not a list */
#define CONTROL_ROWS_MAX 500u

struct access {
	struct control *control;
	enum control_access level;
	struct evhttp *http;
};

/* Clients that open connections and never close them must not take the descriptors that mail needs. */
#define LISTENERS_MAX 64
#define DESCRIPTORS_LEFT 1000
#define PAUSE_US SECOND_US

struct control {
	struct control_config conf;
	struct evconnlistener *listeners[LISTENERS_MAX]; /* borrows: the evhttps own them */
	unsigned n_listeners;
	bool paused;
	struct timer pause;
	struct access access[CONTROL_FULL + 1];
	struct pending *pending; /* questions under way */
	struct control_dns *dns;
	struct changes changes;
	struct readings readings;
	struct tracings tracings;
};

/* A question under way. */
struct pending {
	struct queue_ask ask;
	struct evhttp_request *request; /* NULL once the client has gone */
	struct pending *next, **link;
};

/* evhttp takes the end of what a client sends for its going away, and cuts the answer off: so nothing is read while it
 * is on its way. A client that has really gone is noticed by writing. */
static void send_text(struct evhttp_request *req, int code, const char *type, const struct str *text)
{
	struct bufferevent *stream = evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));
	struct evbuffer *out = evbuffer_new();

	evbuffer_add(out, text->data, text->len);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", type);
	evhttp_send_reply(req, code, NULL, out);
	bufferevent_disable(stream, EV_READ);
	evbuffer_free(out);
}

void control_send_json(struct evhttp_request *req, int code, const struct str *json)
{
	send_text(req, code, "application/json", json);
}

void control_request_gone(struct evhttp_request *req)
{
	if (!evhttp_request_get_connection(req))
		evhttp_request_free(req);
}

void control_send_error(struct evhttp_request *req, int code, const char *why)
{
	struct json_out j;
	struct str text;

	str_init(&text);
	json_out_init(&j, &text);
	jw_object(&j, NULL);
	jw_str(&j, "error", why);
	jw_end_object(&j);
	str_add_char(&text, '\n');
	control_send_json(req, code, &text);
	str_free(&text);
}

/* --- questions to the queue ------------------------------------------------------------------------------- */

static void pending_unlink(struct pending *p)
{
	if (!p->link)
		return;
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	p->link = NULL;
}

static void client_gone(struct evhttp_connection *conn, void *arg)
{
	struct pending *p = arg;

	(void)conn;
	control_request_gone(p->request);
	p->request = NULL;
}

static void forget_client(struct pending *p)
{
	if (p->request)
		evhttp_connection_set_closecb(evhttp_request_get_connection(p->request), NULL, NULL);
}

static void take_answer(struct mail *mail)
{
	struct pending *p = container_of(mail, struct pending, ask.reply);

	forget_client(p);
	if (p->request) {
		if (p->ask.found)
			control_send_json(p->request, 200, &p->ask.json);
		else
			control_send_error(p->request, 404, "no such message, queue or binding");
	}
	pending_unlink(p);
	str_free(&p->ask.json);
	mem_free(&p);
}

static bool copy_filter(const char *value, char *out, size_t size)
{
	if (!value)
		return true;
	if (strlen(value) >= size)
		return false;
	strcpy(out, value);
	return true;
}

/* In the form the queue has domains in; what is none may be a next hop, "10.0.0.1:2525". */
static bool copy_domain(const char *value, char *out, size_t size)
{
	char normal[DOMAIN_MAX + 64];
	bool is_domain = value && domain_normalize(value, strlen(value), normal, NULL);

	return copy_filter(is_domain ? normal : value, out, size);
}

static bool parse_number(const char *value, uint64_t *out)
{
	char *end;

	if (!value)
		return true;
	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	*out = strtoull(value, &end, 10);
	return *end == 0 && errno == 0;
}

bool control_read_query(const char *text, struct evkeyvalq *params)
{
	return !strstr(text, "%00") && evhttp_parse_query_str(text, params) == 0;
}

bool control_check_keys(const struct evkeyvalq *query, const char *const *known, size_t n)
{
	const struct evkeyval *kv;
	unsigned seen = 0;

	TAILQ_FOREACH(kv, query, next)
	{
		size_t i = 0;

		while (i < n && strcmp(kv->key, known[i]) != 0)
			i++;
		if (i == n || seen & 1u << i)
			return false;
		seen |= 1u << i;
	}
	return true;
}

static const char *parse_filters(struct queue_ask *ask, enum queue_question question, struct evkeyvalq *query)
{
	static const char *const known[] = {"binding", "cursor", "limit", "domain"};
	bool has_domain =
	        question != QUEUE_BINDINGS && question != QUEUE_SUMMARY && question != QUEUE_MESSAGE;
	uint64_t limit = CONTROL_ROWS_MAX;

	if (!control_check_keys(query, known, array_len(known) - !has_domain))
		return has_domain ? "unknown filter, or one given twice; known are binding, domain, cursor, "
		                    "limit"
		                  : "unknown filter, or one given twice; known are binding, cursor, limit";
	if (!copy_filter(evhttp_find_header(query, "binding"), ask->binding, sizeof(ask->binding)))
		return "binding: longer than any name";
	if (!copy_domain(evhttp_find_header(query, "domain"), ask->domain, sizeof(ask->domain)))
		return "domain: longer than any domain";
	if (!parse_number(evhttp_find_header(query, "cursor"), &ask->cursor))
		return "cursor: not a number";
	if (!parse_number(evhttp_find_header(query, "limit"), &limit) || limit == 0)
		return "limit: not a number above 0";
	ask->limit = limit < CONTROL_ROWS_MAX ? (unsigned)limit : CONTROL_ROWS_MAX;
	return NULL;
}

static void ask_queue(struct access *a, struct evhttp_request *req, enum queue_question question, uint64_t id,
        struct evkeyvalq *query)
{
	struct control *c = a->control;
	struct pending *p = mem_zalloc(sizeof(*p));
	const char *wrong = parse_filters(&p->ask, question, query);

	if (wrong) {
		control_send_error(req, 400, wrong);
		mem_free(&p);
		return;
	}
	p->request = req;
	p->next = c->pending;
	p->link = &c->pending;
	if (p->next)
		p->next->link = &p->next;
	c->pending = p;
	p->ask.queue = c->conf.queue;
	p->ask.question = question;
	p->ask.id = id;
	p->ask.must_exist = question == QUEUE_BINDINGS && id == ASK_ONE;
	p->ask.reply_loop = c->conf.loop;
	p->ask.reply.take = take_answer;
	str_init(&p->ask.json);
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), client_gone, p);
	queue_ask(&p->ask);
}

/* --- paths ------------------------------------------------------------------------------------------------- */

static void get_metrics(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	struct str text;

	(void)rest;
	(void)query;
	str_init(&text);
	metrics_print(a->control->conf.metrics, &text);
	send_text(req, 200, "text/plain; version=0.0.4", &text);
	str_free(&text);
}

static void get_summary(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	ask_queue(a, req, QUEUE_SUMMARY, 0, query);
}

static void get_queues(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	ask_queue(a, req, QUEUE_QUEUES, 0, query);
}

static void get_bindings(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	ask_queue(a, req, QUEUE_BINDINGS, 0, query);
}

static void get_binding(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	size_t len;
	char *name = evhttp_uridecode(rest, 0, &len);

	if (evhttp_find_header(query, "binding"))
		control_send_error(req, 400, "the binding is named twice");
	else if (!name || strlen(name) != len || len > sizeof(((struct queue_ask *)NULL)->binding) - 1 ||
	         evhttp_add_header(query, "binding", name) != 0) /* a line break is in it */
		control_send_error(req, 404, "no such binding");
	else
		ask_queue(a, req, QUEUE_BINDINGS, ASK_ONE, query);
	free(name);
}

static void get_messages(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	ask_queue(a, req, QUEUE_MESSAGES, 0, query);
}

static void get_message(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	const char *slash = strchr(rest, '/');
	char text[ID_TEXT_SIZE];
	uint64_t id;

	snprintf(text, sizeof(text), "%s", rest);
	if (slash && slash - rest == ID_TEXT_SIZE - 1)
		rest = text; /* ID/PART */
	if (!id_parse(rest, &id))
		control_send_error(req, 400, "a message id is 16 hexadecimal digits");
	else if (slash)
		control_raw(&a->control->readings, req, id, slash + 1, query);
	else
		ask_queue(a, req, QUEUE_MESSAGE, id, query);
}

static void get_connections(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	ask_queue(a, req, QUEUE_CONNECTIONS, 0, query);
}

static void get_top(struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	ask_queue(a, req, QUEUE_TOP, 0, query);
}

static void get_trace(struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	control_trace(&a->control->tracings, req, query);
}

static void get_rules(struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	ask_queue(a, req, QUEUE_RULES, 0, query);
}

static void get_status(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	struct str json;

	(void)rest;
	(void)query;
	str_init(&json);
	a->control->conf.status(a->control->conf.ctx, &json);
	control_send_json(req, 200, &json);
	str_free(&json);
}

static void get_dns_stats(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	control_dns_ask(a->control->dns, req, DNS_ASK_STATS, query);
}

static void get_dns_lookup(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	control_dns_ask(a->control->dns, req, DNS_ASK_LOOKUP, query);
}

static void post_dns_refresh(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	(void)rest;
	control_dns_ask(a->control->dns, req, DNS_ASK_REFRESH, query);
}

static void post_reload(
        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)
{
	static const char *const known[] = {"step", "force"};
	const char *step = evhttp_find_header(query, "step");
	const char *force = evhttp_find_header(query, "force");
	struct str json;
	bool ok;

	(void)rest;
	if (!control_check_keys(query, known, array_len(known)) ||
	        (force && strcmp(force, "0") != 0 && strcmp(force, "1") != 0)) {
		control_send_error(req, 400, "a reload takes step and force=0 or 1, each once");
		return;
	}
	str_init(&json);
	ok = a->control->conf.reload(
	        a->control->conf.ctx, step ? step : "all", force && strcmp(force, "1") == 0, &json);
	control_send_json(req, ok ? 200 : 409, &json);
	str_free(&json);
}

#define POST_CHANGE(name, kind)                                                                              \
	static void name(                                                                                    \
	        struct access *a, struct evhttp_request *req, const char *rest, struct evkeyvalq *query)     \
	{                                                                                                    \
		(void)rest;                                                                                  \
		control_change(&a->control->changes, req, kind, query);                                      \
	}
POST_CHANGE(post_flush, QUEUE_FLUSH)
POST_CHANGE(post_delay, QUEUE_DELAY)
POST_CHANGE(post_hold, QUEUE_HOLD)
POST_CHANGE(post_release, QUEUE_RELEASE)
POST_CHANGE(post_fail, QUEUE_FAIL)
POST_CHANGE(post_delete, QUEUE_DELETE)
POST_CHANGE(post_rebind, QUEUE_REBIND)
POST_CHANGE(post_reroute, QUEUE_REROUTE)
POST_CHANGE(post_drain, QUEUE_DRAIN)
POST_CHANGE(post_suspend, QUEUE_SUSPEND)
POST_CHANGE(post_resume, QUEUE_RESUME)

static const struct path {
	enum evhttp_cmd_type method;
	enum control_access needs;
	const char *path;
	bool takes_rest; /* "/v1/messages/" + ID */
	void (*answer)(struct access *, struct evhttp_request *, const char *rest, struct evkeyvalq *query);
} paths[] = {
        {EVHTTP_REQ_GET, CONTROL_METRICS, "/metrics", false, get_metrics},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/summary", false, get_summary},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/queues", false, get_queues},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/bindings", false, get_bindings},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/bindings/", true, get_binding},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/messages", false, get_messages},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/messages/", true, get_message},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/connections", false, get_connections},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/top", false, get_top},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/trace", false, get_trace},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/rules", false, get_rules},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/status", false, get_status},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/dns/stats", false, get_dns_stats},
        {EVHTTP_REQ_GET, CONTROL_OBSERVE, "/v1/dns/lookup", false, get_dns_lookup},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/dns/refresh", false, post_dns_refresh},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/reload", false, post_reload},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/flush", false, post_flush},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/delay", false, post_delay},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/hold", false, post_hold},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/release", false, post_release},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/fail", false, post_fail},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/delete", false, post_delete},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/rebind", false, post_rebind},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/reroute", false, post_reroute},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/drain", false, post_drain},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/suspend", false, post_suspend},
        {EVHTTP_REQ_POST, CONTROL_FULL, "/v1/resume", false, post_resume},
};

static const struct path *find_path(const char *text, const char **rest)
{
	for (size_t i = 0; i < array_len(paths); i++) {
		size_t len = strlen(paths[i].path);

		if (strncmp(text, paths[i].path, len) != 0)
			continue;
		*rest = text + len;
		if (paths[i].takes_rest ? **rest != 0 : **rest == 0)
			return &paths[i];
	}
	return NULL;
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct access *a = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *text = uri ? evhttp_uri_get_path(uri) : NULL,
	           *query = uri ? evhttp_uri_get_query(uri) : NULL;
	struct evkeyvalq params;
	const struct path *p;
	const char *rest;

	if (!text) {
		control_send_error(req, 400, "not a path");
		return;
	}
	p = find_path(text, &rest);
	if (!p || (p->needs > a->level && p->method == EVHTTP_REQ_GET)) {
		control_send_error(req, 404, "no such path");
		return;
	}
	if (p->needs > a->level) {
		control_send_error(req, 403, "this listener only reads");
		return;
	}
	if (evhttp_request_get_command(req) != p->method) {
		control_send_error(req, 405, p->method == EVHTTP_REQ_GET ? "use GET" : "use POST");
		return;
	}
	memset(&params, 0, sizeof(params));
	TAILQ_INIT(&params);
	if (query && !control_read_query(query, &params))
		control_send_error(req, 400, "the query after ? cannot be read");
	else
		p->answer(a, req, rest, &params);
	evhttp_clear_headers(&params);
}

/* --- descriptors ------------------------------------------------------------------------------------------- */

/* The lowest free number is about how many are in use. */
static bool descriptors_short(void)
{
	struct rlimit limit;
	int fd;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return false;
	fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		close(fd);
	return fd < 0 ||
	       (rlim_t)fd + (limit.rlim_cur > 4 * DESCRIPTORS_LEFT ? DESCRIPTORS_LEFT : limit.rlim_cur / 4) >
	               limit.rlim_cur;
}

static void set_paused(struct control *c, bool paused)
{
	if (paused != c->paused)
		log_warning("control: %s", paused ? "few descriptors are left: no new connections for now"
		                                  : "connections are taken again");
	c->paused = paused;
	for (unsigned i = 0; i < c->n_listeners; i++) {
		if (paused)
			evconnlistener_disable(c->listeners[i]);
		else
			evconnlistener_enable(c->listeners[i]);
	}
	if (paused)
		timer_arm_in(c->conf.loop, &c->pause, PAUSE_US);
}

static void look_again(void *ctx)
{
	set_paused(ctx, descriptors_short());
}

/* For each new connection. */
static struct bufferevent *new_stream(struct event_base *base, void *arg)
{
	struct access *a = arg;

	if (descriptors_short())
		set_paused(a->control, true);
	return bufferevent_socket_new(base, -1, 0);
}

/* --- life -------------------------------------------------------------------------------------------------- */

static void access_init(struct control *c, enum control_access level)
{
	struct access *a = &c->access[level];

	a->control = c;
	a->level = level;
	a->http = evhttp_new(loop_base(c->conf.loop));
	evhttp_set_timeout(a->http, CONTROL_TIMEOUT_S);
	evhttp_set_max_headers_size(a->http, CONTROL_HEADERS_MAX);
	evhttp_set_max_body_size(a->http, CONTROL_BODY_MAX);
	evhttp_set_allowed_methods(a->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_gencb(a->http, on_request, a);
	evhttp_set_bevcb(a->http, new_stream, a);
}

struct control *control_new(const struct control_config *conf)
{
	struct control *c = mem_zalloc(sizeof(*c));

	c->conf = *conf;
	c->dns = control_dns_new(conf->loop, conf->dns);
	c->readings = (struct readings){.loop = conf->loop, .spool = conf->spool};
	c->tracings = (struct tracings){.loop = conf->loop, .trace = conf->trace};
	c->changes = (struct changes){.loop = conf->loop, .queue = conf->queue};
	timer_init(&c->pause, look_again, c);
	for (int level = CONTROL_METRICS; level <= CONTROL_FULL; level++)
		access_init(c, (enum control_access)level);
	return c;
}

bool control_listen(struct control *c, int fd, enum control_access level)
{
	struct evconnlistener *l = evconnlistener_new(
	        loop_base(c->conf.loop), NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);

	if (!l)
		return false;
	if (!evhttp_bind_listener(c->access[level].http, l)) {
		evconnlistener_free(l);
		return false;
	}
	if (c->n_listeners < LISTENERS_MAX)
		c->listeners[c->n_listeners++] = l;
	return true;
}

void control_free(struct control **p)
{
	struct control *c = *p;

	*p = NULL;
	if (!c)
		return;
	while (c->pending) {
		struct pending *q = c->pending;

		forget_client(q);
		q->request = NULL;
		pending_unlink(q);
	}
	control_changes_forget(&c->changes);
	control_readings_forget(&c->readings);
	control_tracings_forget(&c->tracings);
	control_dns_free(&c->dns);
	timer_cancel(c->conf.loop, &c->pause);
	for (int level = CONTROL_METRICS; level <= CONTROL_FULL; level++)
		evhttp_free(c->access[level].http);
	mem_free(&c);
}
