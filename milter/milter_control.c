#include "config.h"
#include "milter/milter_control.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/json_write.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"

#define HEADERS_MAX 8192
#define BODY_MAX 8192
#define TIMEOUT_S 30

struct milter_control {
	struct milter *m;
	struct loop *loop;
	struct evhttp *http;
	pthread_t thread;
};

static void send_json(struct evhttp_request *req, int code, const char *json)
{
	struct evbuffer *out = evbuffer_new();
	evbuffer_add_printf(out, "%s\n", json);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json");
	evhttp_send_reply(req, code, NULL, out);
	evbuffer_free(out);
}

static void send_error(struct evhttp_request *req, int code, const char *why)
{
	char *json = mem_printf("{\"error\": \"%s\"}", why); /* our own words: nothing to quote */
	send_json(req, code, json);
	mem_free(&json);
}

static json_t *texts_of(const struct errors *errors, enum error_level level)
{
	json_t *list = json_array();
	for (size_t i = 0; i < errors->n; i++)
		if (errors->items[i].level == level)
			json_array_append_new(list,
			        json_stringn_nocheck(errors->items[i].text, strlen(errors->items[i].text)));
	return list;
}

static bool reload(struct milter *m, const char *step, struct errors *errors, json_t *answer)
{
	if (strcmp(step, "check") != 0)
		return milter_reload(m, errors, answer);
	struct snapshot *s = snapshot_load(m->conf_path, NULL, NULL, errors);
	bool ok = s != NULL;
	snapshot_unref(&s);
	return ok;
}

static void post_reload(struct milter_control *c, struct evhttp_request *req, struct evkeyvalq *query)
{
	const char *step = evhttp_find_header(query, "step");
	struct errors errors = {.n = 0};
	if (step == NULL)
		step = "all";
	if (strcmp(step, "all") != 0 && strcmp(step, "check") != 0) {
		send_error(req, 400, "step is all or check");
		return;
	}
	json_t *answer = json_object();
	bool ok = reload(c->m, step, &errors, answer);
	json_object_set_new(answer, "errors", texts_of(&errors, ERROR_ERROR));
	json_object_set_new(answer, "warnings", texts_of(&errors, ERROR_WARNING));
	char *text = json_dumps(answer, JSON_COMPACT | JSON_ENSURE_ASCII);
	send_json(req, ok ? 200 : 409, text != NULL ? text : "{}");
	free(text);
	json_decref(answer);
	errors_free(&errors);
}

static void put_counts(struct json_out *j, struct milter *m)
{
	struct milter_counts *c = &m->counts;
	jw_uint(j, "connections", atomic_load(&c->connections));
	jw_uint(j, "active", atomic_load(&m->active));
	jw_uint(j, "stamped", atomic_load(&c->messages));
	jw_uint(j, "stamps_removed", atomic_load(&c->removed));
	jw_uint(j, "unclaimed", atomic_load(&c->unclaimed));
	jw_uint(j, "reconnect", atomic_load(&c->reconnect));
	jw_uint(j, "errors", atomic_load(&c->errors));
	jw_uint(j, "reloads", atomic_load(&c->reloads));
	jw_uint(j, "reloads_refused", atomic_load(&c->reloads_refused));
}

static void get_status(struct milter_control *c, struct evhttp_request *req)
{
	struct json_out j;
	struct str text;
	struct snapshot *s = milter_snapshot(c->m);
	const struct conf *conf = policy_conf(s->policy);
	str_init(&text);
	json_out_init(&j, &text);
	jw_object(&j, NULL);
	jw_str(&j, "program", "bindpost-milter");
	jw_str(&j, "version", PACKAGE_VERSION);
	jw_uint(&j, "pid", (uint64_t)getpid());
	jw_time(&j, "started", c->m->started_us);
	jw_time(&j, "loaded", s->loaded_us);
	jw_uint(&j, "bindings", conf_n_bindings(conf));
	jw_uint(&j, "rules", conf_n_rules(conf));
	jw_bool(&j, "signs", s->keys != NULL);
	put_counts(&j, c->m);
	jw_uint(&j, "pattern_limit_hits", policy_pattern_limit_hits(s->policy));
	jw_end_object(&j);
	send_json(req, 200, text.data);
	str_free(&text);
	snapshot_unref(&s);
}

static void on_request(struct evhttp_request *req, void *ctx)
{
	struct milter_control *c = ctx;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL,
	           *text = uri != NULL ? evhttp_uri_get_query(uri) : NULL;
	bool get = evhttp_request_get_command(req) == EVHTTP_REQ_GET;
	struct evkeyvalq query;
	if (path == NULL || evhttp_parse_query_str(text != NULL ? text : "", &query) < 0) {
		send_error(req, 400, "not a path and query");
		return;
	}
	if (strcmp(path, "/v1/status") == 0 && get)
		get_status(c, req);
	else if (strcmp(path, "/v1/reload") == 0 && !get)
		post_reload(c, req, &query);
	else if (strcmp(path, "/v1/status") == 0 || strcmp(path, "/v1/reload") == 0)
		send_error(req, 405, "GET /v1/status, POST /v1/reload");
	else
		send_error(req, 404, "no such path");
	evhttp_clear_headers(&query);
}

static void *run(void *arg)
{
	struct milter_control *c = arg;
	loop_run(c->loop);
	return NULL;
}

struct milter_control *milter_control_start(struct milter *m, const int *fds, int n, struct error *err)
{
	struct milter_control *c = mem_zalloc(sizeof(*c));
	c->m = m;
	c->loop = loop_new("control", m->clock);
	c->http = evhttp_new(loop_base(c->loop));
	evhttp_set_max_headers_size(c->http, HEADERS_MAX);
	evhttp_set_max_body_size(c->http, BODY_MAX);
	evhttp_set_timeout(c->http, TIMEOUT_S);
	evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_gencb(c->http, on_request, c);
	for (int i = 0; i < n; i++)
		if (evhttp_accept_socket(c->http, fds[i]) < 0) {
			error_set(err, "milter.control: cannot be served");
			evhttp_free(c->http);
			loop_free(&c->loop);
			mem_free(&c);
			return NULL;
		}
	int code = pthread_create(&c->thread, NULL, run, c);
	if (code != 0)
		abort(); /* as with memory */
	return c;
}

void milter_control_free(struct milter_control **pp)
{
	struct milter_control *c = *pp;
	if (c == NULL)
		return;
	loop_stop(c->loop);
	pthread_join(c->thread, NULL);
	evhttp_free(c->http);
	loop_free(&c->loop);
	mem_free(pp);
}
