/*
 * What a request to change something asks for: its parameters to a struct queue_change, the queue's answer to HTTP.
 */
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/names.h"
#include "conf/value.h"
#include "control/control_in.h"

#define WORDS_MAX 4096
#define TEXT_MAX 400 /* of a bounce, bytes */
#define FOR_MAX_S ((uint64_t)366 * 86400)

struct changing {
	struct queue_change change;
	struct pool *pool;              /* owns; all that `change` borrows */
	struct evhttp_request *request; /* NULL once the client has gone */
	struct changing *next, **link;
};

/* --- parameters ------------------------------------------------------------------------------------------------ */

struct parsing {
	struct changing *c;
	struct error *err;
};

#define OF(kind) (1u << (kind))
#define OF_MAIL                                                                                              \
	(OF(QUEUE_FLUSH) | OF(QUEUE_DELAY) | OF(QUEUE_HOLD) | OF(QUEUE_RELEASE) | OF(QUEUE_FAIL) |           \
	        OF(QUEUE_DELETE) | OF(QUEUE_REBIND) | OF(QUEUE_REROUTE))
#define OF_BINDINGS (OF(QUEUE_SUSPEND) | OF(QUEUE_RESUME) | OF(QUEUE_DRAIN))

static bool add_word(struct parsing *p, struct words *w, const char *text)
{
	if (w->n == WORDS_MAX)
		return error_set(p->err, "more than %d of one selector", WORDS_MAX);
	if ((w->n & (w->n - 1)) == 0) { /* room for as many again */
		const char **at = pool_alloc(p->c->pool, (w->n ? w->n * 2 : 1) * sizeof(*at));

		if (w->n)
			memcpy(at, w->at, w->n * sizeof(*at));
		w->at = at;
	}
	w->at[w->n++] = pool_strdup(p->c->pool, text);
	return true;
}

static bool take_binding(struct parsing *p, const char *value)
{
	const char *name = strncmp(value, "group:", 6) == 0 ? value + 6 : value;

	return name_check("binding", name, p->err) && add_word(p, &p->c->change.select.binding, value);
}

static bool take_to(struct parsing *p, const char *value)
{
	const char *name = strncmp(value, "group:", 6) == 0 ? value + 6 : value;
	char domain[DOMAIN_MAX + 64];

	if (p->c->change.kind == QUEUE_REROUTE) {
		if (!domain_normalize(value, strlen(value), domain, p->err))
			return false;
		p->c->change.to = pool_strdup(p->c->pool, domain);
		return true;
	}
	p->c->change.to = pool_strdup(p->c->pool, value);
	return name_check("binding", name, p->err);
}

static bool take_domain(struct parsing *p, const char *value)
{
	char domain[DOMAIN_MAX + 64];

	return domain_normalize(value, strlen(value), domain, p->err) &&
	       add_word(p, &p->c->change.select.domain, domain);
}

static bool take_address(struct parsing *p, struct words *w, const char *value)
{
	char domain[DOMAIN_MAX + 64];
	struct str text;
	bool ok;

	str_init(&text);
	if (value[0] == '@') {
		ok = domain_normalize(value + 1, strlen(value + 1), domain, p->err);
		str_printf(&text, "@%s", domain);
	} else {
		mailaddr_normalize(value, strlen(value), &text);
		ok = true;
	}
	ok = ok && add_word(p, w, text.len ? text.data : "");
	str_free(&text);
	return ok;
}

static bool take_sender(struct parsing *p, const char *value)
{
	return take_address(p, &p->c->change.select.sender, value);
}

static bool take_recipient(struct parsing *p, const char *value)
{
	return take_address(p, &p->c->change.select.recipient, value);
}

static bool take_header(struct parsing *p, const char *value)
{
	const char *colon = strchr(value, ':');
	size_t len = colon ? (size_t)(colon - value) : strlen(value);

	while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	if (len == 0)
		return error_set(p->err, "\"%.40s\" is neither \"Name: value\" nor \"Name\"", value);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)value[i] <= 32 || (unsigned char)value[i] > 126)
			return error_set(p->err, "\"%.40s\" is no name of a header field", value);
	return add_word(p, &p->c->change.select.header, value);
}

static bool take_id(struct parsing *p, const char *value)
{
	struct selection *s = &p->c->change.select;
	uint64_t id, *ids;

	if (!id_parse(value, &id))
		return error_set(p->err, "\"%.40s\" is not a message id (16 hexadecimal digits)", value);
	for (unsigned i = 0; i < s->n_id; i++)
		if (s->id[i] == id)
			return true;
	if (s->n_id == WORDS_MAX)
		return error_set(p->err, "more than %d ids", WORDS_MAX);
	ids = (uint64_t *)s->id;
	if ((s->n_id & (s->n_id - 1)) == 0) {
		ids = pool_alloc(p->c->pool, (s->n_id ? s->n_id * 2 : 1) * sizeof(*ids));
		if (s->n_id)
			memcpy(ids, s->id, s->n_id * sizeof(*ids));
		s->id = ids;
	}
	ids[s->n_id++] = id;
	return true;
}

static bool take_duration(struct parsing *p, const char *value, uint64_t *us)
{
	uint64_t seconds;

	if (!duration_parse(value, &seconds) || seconds == 0 || seconds > FOR_MAX_S)
		return error_set(p->err,
		        "\"%.40s\" is not a duration such as 90, \"20m\", \"4h\" or \"5d\", up to a year",
		        value);
	*us = seconds * SECOND_US;
	return true;
}

static bool take_older_than(struct parsing *p, const char *value)
{
	return take_duration(p, value, &p->c->change.select.older_than_us);
}

static bool take_for(struct parsing *p, const char *value)
{
	return take_duration(p, value, &p->c->change.for_us);
}

static bool take_bool(struct parsing *p, const char *value, bool *flag)
{
	*flag = strcmp(value, "1") == 0;
	return *flag || strcmp(value, "0") == 0 || error_set(p->err, "\"%.40s\" is neither 0 nor 1", value);
}

static bool take_all(struct parsing *p, const char *value)
{
	return take_bool(p, value, &p->c->change.select.all);
}

static bool take_dry_run(struct parsing *p, const char *value)
{
	return take_bool(p, value, &p->c->change.dry_run);
}

static bool take_no_dsn(struct parsing *p, const char *value)
{
	return take_bool(p, value, &p->c->change.no_dsn);
}

static bool take_policy(struct parsing *p, const char *value)
{
	return take_bool(p, value, &p->c->change.policy);
}

static bool take_code(struct parsing *p, const char *value)
{
	if (strlen(value) != 3 || value[0] != '5' || strspn(value, "0123456789") != 3 || value[1] > '5')
		return error_set(p->err, "\"%.40s\" is not a code from 500 to 559", value);
	p->c->change.code = atoi(value);
	return true;
}

static bool take_enhanced(struct parsing *p, const char *value)
{
	size_t a, b;

	if (strncmp(value, "5.", 2) != 0 || !(a = strspn(value + 2, "0123456789")) || a > 3 ||
	        value[2 + a] != '.' || !(b = strspn(value + 3 + a, "0123456789")) || b > 3 ||
	        value[3 + a + b])
		return error_set(p->err, "\"%.40s\" is not an enhanced status code such as 5.7.1", value);
	p->c->change.enhanced = pool_strdup(p->c->pool, value);
	return true;
}

static bool take_text(struct parsing *p, const char *value)
{
	size_t len = strlen(value);

	if (len == 0 || len > TEXT_MAX)
		return error_set(p->err, "a text has 1 to %d bytes", TEXT_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)value[i] < 32 || (unsigned char)value[i] > 126)
			return error_set(p->err, "a text is printable ASCII");
	p->c->change.text = pool_strdup(p->c->pool, value);
	return true;
}

static const struct parameter {
	const char *name;
	unsigned kinds;
	bool repeated;
	bool (*take)(struct parsing *, const char *value);
} parameters[] = {
        {"binding", OF_MAIL | OF_BINDINGS, true, take_binding},
        {"domain", OF_MAIL | OF_BINDINGS, true, take_domain},
        {"sender", OF_MAIL, true, take_sender},
        {"recipient", OF_MAIL, true, take_recipient},
        {"header", OF_MAIL, true, take_header},
        {"id", OF_MAIL, true, take_id},
        {"older_than", OF_MAIL, false, take_older_than},
        {"all", OF_MAIL, false, take_all},
        {"for", OF(QUEUE_DELAY) | OF(QUEUE_SUSPEND), false, take_for},
        {"code", OF(QUEUE_FAIL), false, take_code},
        {"enhanced", OF(QUEUE_FAIL), false, take_enhanced},
        {"text", OF(QUEUE_FAIL), false, take_text},
        {"no_dsn", OF(QUEUE_FAIL), false, take_no_dsn},
        {"to", OF(QUEUE_REBIND) | OF(QUEUE_REROUTE) | OF(QUEUE_DRAIN), false, take_to},
        {"policy", OF(QUEUE_REBIND), false, take_policy},
        {"dry_run", OF_MAIL | OF_BINDINGS, false, take_dry_run},
};

static bool take_parameters(struct parsing *p, const struct evkeyvalq *from, unsigned *seen)
{
	const struct evkeyval *kv;

	TAILQ_FOREACH(kv, from, next)
	{
		const struct parameter *known = NULL;
		size_t i;

		for (i = 0; i < array_len(parameters) && !known; i++)
			if (strcmp(kv->key, parameters[i].name) == 0 &&
			        parameters[i].kinds & OF(p->c->change.kind))
				known = &parameters[i];
		if (!known)
			return error_set(p->err, "%s takes no parameter \"%.40s\"",
			        queue_change_name(p->c->change.kind), kv->key);
		if (!known->repeated && *seen & OF(i))
			return error_set(p->err, "%s is given twice", known->name);
		*seen |= OF(i);
		if (!known->take(p, kv->value))
			return error_at(p->err, "%s", known->name);
	}
	return true;
}

static bool check_whole(const struct queue_change *c, struct error *err)
{
	const struct selection *s = &c->select;

	if (c->kind == QUEUE_REROUTE && !c->to)
		return error_set(err, "reroute needs to: the domain whose way the mail is to go");
	if (c->policy && c->to)
		return error_set(err, "rebind takes to or policy, not both");
	if (((c->kind == QUEUE_REBIND && !c->policy) || c->kind == QUEUE_DRAIN) && !c->to)
		return error_set(err, "%s needs to: the binding, or group:NAME", queue_change_name(c->kind));
	if (c->kind == QUEUE_DRAIN)
		return (s->binding.n == 1 && s->domain.n == 0) || error_set(err, "drain takes one binding");
	if (OF(c->kind) & OF_BINDINGS)
		return (s->binding.n == 1 && s->domain.n <= 1) ||
		       error_set(err, "%s takes one binding, and at most one domain",
		               queue_change_name(c->kind));
	if (!s->all && !s->binding.n && !s->domain.n && !s->sender.n && !s->recipient.n && !s->header.n &&
	        !s->n_id && !s->older_than_us)
		return error_set(err,
		        "at least one selector is needed: binding, domain, sender, recipient, header, id, "
		        "older_than, all");
	if (c->kind == QUEUE_DELAY && !c->for_us)
		return error_set(err, "delay needs for: how long");
	return true;
}

/* The body is like a form's, for what is too long for a query. */
static bool take_body(struct parsing *p, struct evhttp_request *req, unsigned *seen)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(req);
	size_t len = evbuffer_get_length(in);
	struct evkeyvalq form;
	char *text;
	bool ok;

	if (len == 0)
		return true;
	text = mem_alloc(len + 1);
	evbuffer_remove(in, text, len);
	text[len] = 0;
	TAILQ_INIT(&form);
	if (strlen(text) != len || !control_read_query(text, &form))
		ok = error_set(p->err, "the body is not name=value&name=value, as a form is");
	else
		ok = take_parameters(p, &form, seen);
	evhttp_clear_headers(&form);
	mem_free(&text);
	return ok;
}

static bool parse(
        struct changing *c, struct evhttp_request *req, const struct evkeyvalq *query, struct error *err)
{
	struct parsing p = {.c = c, .err = err};
	unsigned seen = 0;

	c->change.code = 554;
	c->change.enhanced = "5.0.0";
	c->change.text = "given up by the operator";
	return take_parameters(&p, query, &seen) && take_body(&p, req, &seen) && check_whole(&c->change, err);
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

static void changing_free(struct changing *c)
{
	if (c->link) {
		*c->link = c->next;
		if (c->next)
			c->next->link = c->link;
	}
	pool_free(&c->pool);
	mem_free(&c);
}

static void forget_client(struct changing *c)
{
	if (c->request)
		evhttp_connection_set_closecb(evhttp_request_get_connection(c->request), NULL, NULL);
}

static void client_gone(struct evhttp_connection *conn, void *arg)
{
	struct changing *c = arg;

	(void)conn;
	control_request_gone(c->request);
	c->request = NULL;
}

static void take_answer(struct mail *mail)
{
	static const int status[] = {[CHANGE_DONE] = 200, [CHANGE_UNKNOWN] = 404, [CHANGE_REFUSED] = 409};
	struct changing *c = container_of(mail, struct changing, change.reply);

	forget_client(c);
	if (c->request)
		control_send_json(c->request, status[c->change.result], &c->change.json);
	str_free(&c->change.json);
	changing_free(c);
}

void control_change(
        struct changes *all, struct evhttp_request *req, enum queue_change_kind kind, struct evkeyvalq *query)
{
	struct changing *c = mem_zalloc(sizeof(*c));
	struct error err;
	struct str who;

	c->pool = pool_new(1024);
	c->change.kind = kind;
	if (!parse(c, req, query, &err)) {
		control_send_error(req, 400, err.text);
		changing_free(c);
		return;
	}
	str_init(&who);
	control_who(req, &who);
	c->change.who = pool_strdup(c->pool, who.data);
	str_free(&who);
	c->request = req;
	c->next = all->first;
	c->link = &all->first;
	if (c->next)
		c->next->link = &c->next;
	all->first = c;
	c->change.queue = all->queue;
	c->change.reply_loop = all->loop;
	c->change.reply.take = take_answer;
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), client_gone, c);
	queue_change(&c->change);
}

void control_changes_forget(struct changes *all)
{
	while (all->first) {
		struct changing *c = all->first;

		forget_client(c);
		c->request = NULL;
		all->first = c->next;
		if (c->next)
			c->next->link = &all->first;
		c->link = NULL;
	}
}
