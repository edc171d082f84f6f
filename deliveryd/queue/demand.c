/*
 * What single messages ask of their connection beyond the profile: the sender's domain as EHLO name, XCLIENT data.
 *
 * As one interned text it is part of a queue's key, so a connection never serves two demands: "tls required\nehlo
 * NAME\nxclient ATTRIBUTE=VALUE ...\n". Most mail has none, which is 0.
 */
#include "queue/queue_in.h"

#include <string.h>
#include "base/xtext.h"
#include "session/smtp_commands.h"

#define UNKNOWN "[UNAVAILABLE]"

/* --- what is kept of a message's client -------------------------------------------------------------------------- */

static void add_attribute(struct str *out, const char *name, const char *value)
{
	str_printf(out, "%s%s=", out->len ? " " : "", name);
	if (value && *value)
		xtext_encode(out, value);
	else
		str_add(out, UNKNOWN);
}

static void add_address(struct str *out, const struct addr *a)
{
	char text[ADDR_TEXT_SIZE];
	struct addr bare = *a;
	char *value;
	if (a->family != AF_INET && a->family != AF_INET6) {
		add_attribute(out, "ADDR", NULL);
		return;
	}
	bare.port = 0;
	bare.scope = 0;
	value = mem_printf("%s%s", a->family == AF_INET6 ? "IPV6:" : "", addr_print(&bare, text));
	add_attribute(out, "ADDR", value);
	mem_free(&value);
	if (a->port)
		str_printf(out, " PORT=%u", (unsigned)a->port);
}

/* XCLIENT knows these two only. */
static const char *protocol(const char *proto)
{
	if (!proto)
		return NULL;
	return strncmp(proto, "ESMTP", 5) == 0 ? "ESMTP" : strncmp(proto, "SMTP", 4) == 0 ? "SMTP" : NULL;
}

uint32_t demand_client(struct queue *q, const struct message *m)
{
	struct str text;
	uint32_t id;
	if (!q->xclient_used)
		return 0;
	str_init(&text);
	if (!m->client_name && (m->flags & MESSAGE_CLIENT_NAME_LATER) != 0)
		str_add(&text, "NAME=[TEMPUNAVAIL]");
	else
		add_attribute(&text, "NAME", m->client_name);
	add_address(&text, &m->client_addr);
	if (protocol(m->client_proto))
		add_attribute(&text, "PROTO", protocol(m->client_proto));
	if (m->client_helo)
		add_attribute(&text, "HELO", m->client_helo);
	id = intern_get(q->names, text.data);
	str_free(&text);
	return id;
}

/* --- the demand ------------------------------------------------------------------------------------------------------ */

static void add_ehlo(struct str *out, const char *sender)
{
	char domain[DOMAIN_MAX + 64];
	struct mailaddr split;
	if (mailaddr_split(sender, strlen(sender), &split) && split.domain_len > 0 &&
	        domain_normalize(split.domain, split.domain_len, domain, NULL) && smtp_ehlo_name_ok(domain))
		str_printf(out, "ehlo %s\n", domain);
}

/* Where there is no TLS anyway, a message that could do without asks for nothing. */
static const char *tls_word(const struct delivery *d, const struct profile *p)
{
	if ((d->flags & MESSAGE_REQUIRETLS) != 0)
		return "required";
	return (d->flags & MESSAGE_TLS_OPTIONAL) != 0 && p->o.tls != TLS_NO ? "optional" : NULL;
}

uint32_t demand_get(struct queue *q, const struct delivery *d, const struct profile *p)
{
	struct str text;
	uint32_t id;
	bool ehlo = p && p->o.ehlo_hostname && strcmp(p->o.ehlo_hostname, "__message__") == 0;
	bool xclient = p && p->o.xclient != XCLIENT_NO;
	const char *tls = p ? tls_word(d, p) : NULL;
	if (!ehlo && !xclient && !tls)
		return 0;
	str_init(&text);
	if (tls)
		str_printf(&text, "tls %s\n", tls);
	if (ehlo)
		add_ehlo(&text, packed_sender(d->packed));
	if (xclient)
		str_printf(&text, "xclient %s\n",
		        d->client ? intern_text(q->names, d->client) : "NAME=" UNKNOWN " ADDR=" UNKNOWN);
	id = intern_get(q->names, text.data);
	str_free(&text);
	return id;
}

static char *line_of(const char *text, const char *word)
{
	size_t len = strlen(word);
	while (*text) {
		size_t line = strcspn(text, "\n");
		if (line > len && memcmp(text, word, len) == 0)
			return mem_strndup(text + len, line - len);
		text += line + (text[line] == '\n');
	}
	return NULL;
}

enum session_tls_demand demand_tls(const struct queue *q, uint32_t id)
{
	char *tls = id ? line_of(intern_text(q->names, id), "tls ") : NULL;
	enum session_tls_demand demand = !tls                           ? SESSION_TLS_PROFILE
	                                 : strcmp(tls, "required") == 0 ? SESSION_TLS_REQUIRED
	                                                                : SESSION_TLS_OPTIONAL;
	mem_free(&tls);
	return demand;
}

struct health_who demand_health(const struct hop_queue *hq)
{
	uint64_t what[3] = {(uintptr_t)hq->profile, hq->key.hop, hq->key.demand};
	return (struct health_who){hq->key.binding, (uint32_t)(hash_bytes(what, sizeof(what)) >> 32) | 1};
}

void demand_parse(const struct queue *q, uint32_t id, struct demand *out)
{
	const char *text = intern_text(q->names, id);
	out->ehlo = line_of(text, "ehlo ");
	out->xclient = line_of(text, "xclient ");
}

void demand_free(struct demand *d)
{
	mem_free(&d->ehlo);
	mem_free(&d->xclient);
}
