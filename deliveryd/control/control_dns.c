/* control_dns - see control_dns.h */
#include "config.h"
#include "control/control_dns.h"

#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <sys/queue.h>
#include <string.h>
#include "base/mem.h"
#include "control/control_in.h"

struct asked {
	struct dns_ask ask;
	struct evhttp_request *request; /* NULL once the client has gone */
	struct asked *next, **link;
};

struct control_dns {
	struct loop *loop;
	const struct dns_control *dns;
	struct asked *asked;
};

static void unlink_asked(struct asked *a)
{
	if (!a->link)
		return;
	*a->link = a->next;
	if (a->next)
		a->next->link = a->link;
	a->link = NULL;
}

static void client_gone(struct evhttp_connection *conn, void *arg)
{
	struct asked *a = arg;

	(void)conn;
	control_request_gone(a->request);
	a->request = NULL;
}

static void forget_client(struct asked *a)
{
	if (a->request)
		evhttp_connection_set_closecb(evhttp_request_get_connection(a->request), NULL, NULL);
}

static void take_answer(struct mail *mail)
{
	struct asked *a = container_of(mail, struct asked, ask.reply);

	forget_client(a);
	if (a->request)
		control_send_json(a->request, 200, &a->ask.json);
	unlink_asked(a);
	str_free(&a->ask.json);
	mem_free(&a);
}

static const char *read_query(struct dns_ask *ask, struct evkeyvalq *query)
{
	const char *name = evhttp_find_header(query, "name"), *type = evhttp_find_header(query, "type");
	struct evkeyval *kv;
	unsigned names = 0, n_types = 0;

	TAILQ_FOREACH(kv, query, next)
	if (strcmp(kv->key, "name") == 0)
		names++;
	else if (strcmp(kv->key, "type") == 0)
		n_types++;
	else
		return "unknown parameter; known are name and type";
	if (names > 1 || n_types > 1)
		return "name and type may stand once";
	if (ask->kind == DNS_ASK_STATS)
		return name || type ? "stats takes no parameters" : NULL;
	if (!name || !*name)
		return "name is missing";
	if (strlen(name) >= sizeof(ask->name))
		return "name: longer than any domain";
	for (const char *c = name; *c; c++)
		if (*c <= ' ' || *c > '~')
			return "name: not a domain name";
	strcpy(ask->name, name);
	if (ask->kind == DNS_ASK_REFRESH)
		return type ? "refresh takes a name only" : NULL;
	if (!type || !dns_type_named(type, &ask->type))
		return "type: one of A, AAAA, MX, TLSA, TXT, NS, PTR, CNAME";
	return NULL;
}

void control_dns_ask(struct control_dns *d, struct evhttp_request *req, enum dns_question_kind kind,
        struct evkeyvalq *query)
{
	struct asked *a = mem_zalloc(sizeof(*a));
	const char *wrong;

	a->ask.kind = kind;
	wrong = read_query(&a->ask, query);
	if (wrong) {
		control_send_error(req, 400, wrong);
		mem_free(&a);
		return;
	}
	a->request = req;
	a->next = d->asked;
	a->link = &d->asked;
	if (a->next)
		a->next->link = &a->next;
	d->asked = a;
	a->ask.dns = d->dns;
	a->ask.reply_loop = d->loop;
	a->ask.reply.take = take_answer;
	str_init(&a->ask.json);
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), client_gone, a);
	dns_control_ask(&a->ask);
}

struct control_dns *control_dns_new(struct loop *loop, const struct dns_control *dns)
{
	struct control_dns *d = mem_zalloc(sizeof(*d));

	d->loop = loop;
	d->dns = dns;
	return d;
}

void control_dns_free(struct control_dns **p)
{
	if (!*p)
		return;
	while ((*p)->asked) {
		struct asked *a = (*p)->asked;
		forget_client(a);
		a->request = NULL;
		unlink_asked(a);
	}
	mem_free(p);
}
