/*
 * A queued message's own bytes: the spool says how long it is, a cursor brings it in pieces as the client takes them.
 *
 * No disk is read on the control loop: spool_load() and the cursor go to the spool's workers. What has been read and not
 * yet sent counts against what deliveries may read back, so it is copied out at once, no more of it than WAITING_MAX a
 * client, and of clients there are few. The length is announced: a message that ends early (it was delivered meanwhile,
 * or its file is damaged) is a connection that is cut, which no client takes for the whole.
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/names.h"
#include "control/control_in.h"
#include "message.h"
#include "spool/body.h"
#include "spool/spool.h"

#define READINGS_MAX 16
#define WAITING_MAX ((size_t)512 << 10) /* a body that lies in the log is smaller, so it is copied whole */

enum part { PART_HEADERS, PART_BODY, PART_WHOLE };

struct reading {
	struct readings *all;
	struct spool_load load;
	struct evhttp_request *request; /* NULL once the client has gone */
	enum part part;
	struct body_cursor *cursor; /* owns; NULL until its length is known, and when all has been copied */
	uint64_t left;
	bool loading;
	struct reading *next, **link;
};

static void reading_free(struct reading *r)
{
	body_cursor_free(&r->cursor);
	if (r->link) {
		*r->link = r->next;
		if (r->next)
			r->next->link = r->link;
		r->all->n--;
	}
	mem_free(&r);
}

static struct bufferevent *stream_of(const struct reading *r)
{
	return evhttp_connection_get_bufferevent(evhttp_request_get_connection(r->request));
}

static void forget_client(struct reading *r)
{
	if (r->request)
		evhttp_connection_set_closecb(evhttp_request_get_connection(r->request), NULL, NULL);
	r->request = NULL;
}

static void client_gone(struct evhttp_connection *conn, void *arg)
{
	struct reading *r = arg;

	(void)conn;
	control_request_gone(r->request);
	r->request = NULL;
	if (!r->loading) /* else the answer is due */
		reading_free(r);
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static void cut(struct reading *r)
{
	struct evhttp_connection *conn = evhttp_request_get_connection(r->request);

	forget_client(r);
	reading_free(r);
	evhttp_connection_free(conn);
}

static void finish(struct reading *r)
{
	struct evhttp_request *req = r->request;
	struct bufferevent *stream = stream_of(r);

	forget_client(r);
	reading_free(r);
	evhttp_send_reply_end(req);
	bufferevent_disable(stream, EV_READ);
}

static void pump(struct reading *r);

static void drained(struct evhttp_connection *conn, void *arg)
{
	(void)conn;
	pump(arg);
}

static void cursor_woke(void *ctx)
{
	pump(ctx);
}

/* What the cursor has at hand, up to WAITING_MAX on the way. */
static enum body_peek copy(struct reading *r, struct evbuffer *out)
{
	size_t waiting = evbuffer_get_length(bufferevent_get_output(stream_of(r)));

	while (r->left > 0 && waiting + evbuffer_get_length(out) < WAITING_MAX) {
		struct iovec iov[16];
		unsigned n = 0;
		uint64_t taken = 0;
		enum body_peek peek = body_cursor_peek(r->cursor, iov, array_len(iov), &n);

		if (peek != BODY_READY)
			return peek;
		for (unsigned i = 0; i < n && r->left > 0; i++) {
			size_t len = iov[i].iov_len < r->left ? iov[i].iov_len : (size_t)r->left;

			evbuffer_add(out, iov[i].iov_base, len);
			taken += len;
			r->left -= len;
		}
		body_cursor_advance(r->cursor, taken);
	}
	return BODY_READY;
}

static void pump(struct reading *r)
{
	struct evbuffer *out = evbuffer_new();
	enum body_peek peek = copy(r, out);

	if (r->left == 0)
		body_cursor_free(&r->cursor);
	if (evbuffer_get_length(out) > 0) {
		evhttp_send_reply_chunk_with_cb(r->request, out, drained, r);
		bufferevent_disable(stream_of(r), EV_READ);
	}
	evbuffer_free(out);
	if (peek == BODY_FAILED || peek == BODY_END)
		cut(r);
	else if (r->left == 0)
		finish(r);
}

static void begin(struct reading *r, const struct message *m)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(r->request);
	uint64_t header = m->header_size < m->body_size ? m->header_size : m->body_size;
	uint64_t from = r->part == PART_BODY ? header : 0;
	char length[24];

	r->left = (r->part == PART_HEADERS ? header : m->body_size) - from;
	snprintf(length, sizeof(length), "%" PRIu64, r->left);
	evhttp_add_header(headers, "Content-Type", "message/rfc822");
	evhttp_add_header(headers, "Content-Length", length);
	evhttp_send_reply_start(r->request, 200, NULL);
	bufferevent_disable(stream_of(r), EV_READ);
	if (r->left == 0) {
		finish(r);
		return;
	}
	r->cursor = body_cursor_new(r->all->spool, r->all->loop, m->id, NULL, from, cursor_woke, r);
	pump(r);
}

static void take_message(struct mail *mail)
{
	struct reading *r = container_of(mail, struct reading, load.reply);
	struct evhttp_request *req = r->request;
	struct message *m = r->load.message;
	struct str why;

	r->loading = false;
	if (req && m) {
		begin(r, m);
		message_unref(&m);
		return;
	}
	if (req) {
		str_init(&why);
		str_printf(&why, "no such message: %s", r->load.error.text);
		forget_client(r);
		control_send_error(req, 404, why.data);
		str_free(&why);
	}
	message_unref(&m);
	reading_free(r);
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

static bool part_named(const char *name, enum part *part)
{
	static const char *const names[] = {
	        [PART_HEADERS] = "headers", [PART_BODY] = "body", [PART_WHOLE] = "raw"};

	for (size_t i = 0; i < array_len(names); i++)
		if (strcmp(name, names[i]) == 0) {
			*part = (enum part)i;
			return true;
		}
	return false;
}

void control_raw(struct readings *all, struct evhttp_request *req, uint64_t id, const char *part_name,
        const struct evkeyvalq *query)
{
	struct reading *r;
	enum part part;

	if (!part_named(part_name, &part)) {
		control_send_error(req, 404, "of a message there are headers, body and raw");
		return;
	}
	if (query->tqh_first) {
		control_send_error(req, 400, "a message's bytes take no parameters");
		return;
	}
	if (all->n == READINGS_MAX) {
		control_send_error(req, 503, "as many messages as may be are being read already");
		return;
	}
	r = mem_zalloc(sizeof(*r));
	r->all = all;
	r->part = part;
	r->request = req;
	r->next = all->first;
	r->link = &all->first;
	if (r->next)
		r->next->link = &r->next;
	all->first = r;
	all->n++;
	r->loading = true;
	r->load.id = id;
	r->load.reply_loop = all->loop;
	r->load.reply.take = take_message;
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), client_gone, r);
	spool_load(all->spool, &r->load);
}

void control_readings_forget(struct readings *all)
{
	struct reading *next;

	for (struct reading *r = all->first; r; r = next) {
		next = r->next;
		forget_client(r);
		if (r->loading)
			r->link = NULL;
		else
			reading_free(r);
	}
	all->first = NULL;
}
