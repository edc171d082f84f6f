/*
 * GET /v1/trace: a stream of JSON lines, as long as the client stays.
 *
 * One batch is on its way to the client at a time; the next is taken when that one has gone, and what comes meanwhile
 * waits in the reader, within its bound. A client that takes nothing is cut off after STALLED_S. One that has gone is
 * noticed by looking for it, since there may be nothing to write for hours.
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/names.h"
#include "control/control_in.h"
#include "report/trace.h"

#define STALLED_S 600
#define LOOK_US (2 * SECOND_US)

struct tracing {
	struct tracings *all;
	struct trace_reader *reader;
	struct evhttp_request *request;
	bool sending, waits; /* a batch is on its way; another waits for that */
	struct timer look;
	struct tracing *next, **link;
};

static struct evhttp_connection *connection_of(const struct tracing *t)
{
	return evhttp_request_get_connection(t->request);
}

static void tracing_free(struct tracing *t)
{
	trace_end(&t->reader);
	timer_cancel(t->all->loop, &t->look);
	*t->link = t->next;
	if (t->next)
		t->next->link = t->link;
	mem_free(&t);
}

static void client_gone(struct evhttp_connection *conn, void *arg)
{
	struct tracing *t = arg;

	(void)conn;
	control_request_gone(t->request);
	tracing_free(t);
}

/* A Unix socket's other end that only sends no more may still read; TCP cannot tell. */
static void look_for_client(void *ctx)
{
	struct tracing *t = ctx;
	struct pollfd p = {.fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection_of(t)))};
	struct sockaddr_storage own;
	socklen_t len = sizeof(own);

	if (getsockname(p.fd, (struct sockaddr *)&own, &len) == 0 && own.ss_family != AF_UNIX)
		p.events = POLLRDHUP;
	if (poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR | POLLRDHUP)) {
		evhttp_connection_free(connection_of(t)); /* and client_gone() */
		return;
	}
	timer_arm_in(t->all->loop, &t->look, LOOK_US);
}

static void send_some(struct tracing *t);

static void drained(struct evhttp_connection *conn, void *arg)
{
	struct tracing *t = arg;

	(void)conn;
	t->sending = false;
	if (t->waits)
		send_some(t);
}

static void send_text(struct tracing *t, const struct str *text)
{
	struct evbuffer *out = evbuffer_new();

	evbuffer_add(out, text->data, text->len);
	t->sending = true;
	t->waits = false;
	evhttp_send_reply_chunk_with_cb(t->request, out, drained, t);
	bufferevent_disable(evhttp_connection_get_bufferevent(connection_of(t)), EV_READ);
	evbuffer_free(out);
}

static void send_some(struct tracing *t)
{
	struct str text;

	str_init(&text);
	trace_take(t->reader, &text);
	if (text.len)
		send_text(t, &text);
	str_free(&text);
}

static void ready(void *ctx)
{
	struct tracing *t = ctx;

	t->waits = true;
	if (!t->sending)
		send_some(t);
}

/* So that the client knows from when on nothing is missing. */
static void say_begun(struct tracing *t)
{
	struct json_out j;
	struct str text;

	str_init(&text);
	json_out_init(&j, &text);
	jw_object(&j, NULL);
	jw_time(&j, "time", loop_wall_us(t->all->loop));
	jw_str(&j, "direction", "*");
	jw_str(&j, "text", "tracing");
	jw_end_object(&j);
	str_add_char(&text, '\n');
	send_text(t, &text);
	str_free(&text);
}

static const char *read_query(
        struct evkeyvalq *query, const char **binding, const char **domain, char normal[DOMAIN_MAX + 64])
{
	static const char *const known[] = {"binding", "domain"};
	const char *value;

	if (!control_check_keys(query, known, array_len(known)))
		return "trace takes binding and domain, each once";
	*binding = evhttp_find_header(query, "binding");
	if (*binding && !name_check("binding", *binding, NULL))
		return "binding: not a binding's name";
	value = evhttp_find_header(query, "domain");
	if (!value)
		return NULL;
	*domain = normal;
	return domain_normalize(value, strlen(value), normal, NULL) ? NULL : "domain: not a domain";
}

static void begin(struct tracing *t)
{
	static const struct timeval stalled = {.tv_sec = STALLED_S};
	struct bufferevent *stream = evhttp_connection_get_bufferevent(connection_of(t));
	int on = 1;

	evhttp_connection_set_closecb(connection_of(t), client_gone, t);
	(void)setsockopt(bufferevent_getfd(stream), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	evhttp_add_header(
	        evhttp_request_get_output_headers(t->request), "Content-Type", "application/x-ndjson");
	evhttp_send_reply_start(t->request, 200, NULL);
	bufferevent_set_timeouts(stream, NULL, &stalled);
	say_begun(t);
	timer_init(&t->look, look_for_client, t);
	timer_arm_in(t->all->loop, &t->look, LOOK_US);
}

void control_trace(struct tracings *all, struct evhttp_request *req, struct evkeyvalq *query)
{
	const char *binding = NULL, *domain = NULL, *wrong;
	char normal[DOMAIN_MAX + 64];
	struct tracing *t;

	wrong = read_query(query, &binding, &domain, normal);
	if (wrong) {
		control_send_error(req, 400, wrong);
		return;
	}
	t = mem_zalloc(sizeof(*t));
	t->all = all;
	t->request = req;
	t->reader = trace_read(all->trace, binding, domain, all->loop, ready, t);
	if (!t->reader) {
		control_send_error(req, 503, "as many as may be are tracing already");
		mem_free(&t);
		return;
	}
	t->next = all->first;
	t->link = &all->first;
	if (t->next)
		t->next->link = &t->next;
	all->first = t;
	begin(t);
}

void control_tracings_forget(struct tracings *all)
{
	while (all->first) {
		evhttp_connection_set_closecb(connection_of(all->first), NULL, NULL);
		tracing_free(all->first);
	}
}
