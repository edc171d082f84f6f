/* dns_control - see dns_control.h */
#include "config.h"
#include "route/dns_control.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/json_write.h"
#include "base/mem.h"
#include "route/resolver/dns_name.h"

#define TXT_MAX 1024 /* bytes of a record that are shown */

static const struct {
	const char *name;
	enum dns_type type;
} types[] = {{"A", DNS_A}, {"AAAA", DNS_AAAA}, {"MX", DNS_MX}, {"TLSA", DNS_TLSA}, {"TXT", DNS_TXT},
        {"NS", DNS_NS}, {"PTR", DNS_PTR}, {"CNAME", DNS_CNAME}};

bool dns_type_named(const char *name, enum dns_type *type)
{
	for (size_t i = 0; i < array_len(types); i++)
		if (strcasecmp(types[i].name, name) == 0) {
			*type = types[i].type;
			return true;
		}
	return false;
}

const char *dns_type_text(enum dns_type type)
{
	for (size_t i = 0; i < array_len(types); i++)
		if (types[i].type == type)
			return types[i].name;
	return "?";
}

/* --- records as text --- */

static void put_name(const struct dns_record *r, struct str *out)
{
	struct dns_name name = {.len = (uint8_t)r->raw.len};
	char text[DNS_NAME_TEXT_MAX];

	memcpy(name.wire, r->raw.data, name.len);
	str_add(out, dns_name_text(&name, text) ? text : "(a name that text would blur)");
}

static void put_hex(const uint8_t *data, size_t len, struct str *out)
{
	for (size_t i = 0; i < len && i < TXT_MAX; i++)
		str_printf(out, "%02x", data[i]);
}

static void put_tlsa(const struct dns_record *r, struct str *out)
{
	const uint8_t *d = r->raw.data;

	if (r->raw.len < 3) {
		put_hex(d, r->raw.len, out);
		return;
	}
	str_printf(out, "%u %u %u ", d[0], d[1], d[2]);
	put_hex(d + 3, r->raw.len - 3u, out);
}

/* The character strings one behind the other; what is not printable as '?' */
static void put_txt(const struct dns_record *r, struct str *out)
{
	size_t at = 0;

	while (at < r->raw.len && at < TXT_MAX) {
		size_t n = r->raw.data[at++];
		for (; n && at < r->raw.len; n--, at++)
			str_add_char(out, r->raw.data[at] >= ' ' && r->raw.data[at] < 0x7f
			                          ? (char)r->raw.data[at]
			                          : '?');
	}
}

static void put_record(enum dns_type type, const struct dns_record *r, struct str *out)
{
	char ip[ADDR_TEXT_SIZE];

	switch (type) {
	case DNS_A:
	case DNS_AAAA:
		str_add(out, addr_print(&r->addr, ip));
		break;
	case DNS_MX:
		str_printf(out, "%u %s", r->mx.preference, r->mx.host[0] ? r->mx.host : ".");
		break;
	case DNS_TLSA:
		put_tlsa(r, out);
		break;
	case DNS_TXT:
		put_txt(r, out);
		break;
	case DNS_NS:
	case DNS_PTR:
	case DNS_CNAME:
		put_name(r, out);
		break;
	}
}

/* --- questions --- */

static void reply(struct dns_ask *ask)
{
	loop_post(ask->reply_loop, &ask->reply);
}

static void print_records(const struct dns_ask *ask, const struct dns_answer *a, struct json_out *j)
{
	struct str text;

	str_init(&text);
	jw_array(j, "records");
	for (unsigned i = 0; a->outcome == DNS_ANSWER && i < a->n; i++) {
		str_clear(&text);
		put_record(ask->type, &a->records[i], &text);
		jw_str(j, NULL, text.data ? text.data : "");
	}
	jw_end_array(j);
	str_free(&text);
}

static void looked_up(void *ctx, const struct dns_answer *a)
{
	static const char *const words[] = {"answer", "nodata", "nxdomain", "failed"};
	struct dns_ask *ask = ctx;
	struct json_out j;

	json_out_init(&j, &ask->json);
	jw_object(&j, NULL);
	jw_str(&j, "name", ask->name);
	jw_str(&j, "type", dns_type_text(ask->type));
	jw_str(&j, "result", words[a->outcome]);
	if (a->outcome == DNS_FAILED) {
		jw_str(&j, "reason", a->why);
	} else {
		jw_str(&j, "canonical", a->name ? a->name : ask->name);
		jw_bool(&j, "authentic", a->authentic);
		jw_uint(&j, "ttl", a->ttl_s);
	}
	print_records(ask, a, &j);
	jw_end_object(&j);
	str_add_char(&ask->json, '\n');
	reply(ask);
}

static void print_stats(struct dns_ask *ask)
{
	struct json_out j;

	json_out_init(&j, &ask->json);
	jw_object(&j, NULL);
	resolver_print_stats(ask->dns->resolver, &j);
	jw_end_object(&j);
	str_add_char(&ask->json, '\n');
	reply(ask);
}

/* Routes that queues hold are looked up again; what is still in the cache costs them no question. */
static void refresh(struct dns_ask *ask)
{
	struct json_out j;
	unsigned n = resolver_forget(ask->dns->resolver, ask->name);

	router_refresh(ask->dns->router);
	json_out_init(&j, &ask->json);
	jw_object(&j, NULL);
	jw_str(&j, "name", ask->name);
	jw_uint(&j, "forgotten", n);
	jw_end_object(&j);
	str_add_char(&ask->json, '\n');
	reply(ask);
}

static void take_ask(struct mail *mail)
{
	struct dns_ask *ask = container_of(mail, struct dns_ask, mail);

	switch (ask->kind) {
	case DNS_ASK_STATS:
		print_stats(ask);
		break;
	case DNS_ASK_REFRESH:
		refresh(ask);
		break;
	case DNS_ASK_LOOKUP:
		dns_lookup(resolver_dns(ask->dns->resolver), ask->name, ask->type, looked_up, ask);
		break;
	}
}

void dns_control_ask(struct dns_ask *ask)
{
	ask->mail.take = take_ask;
	loop_post(ask->dns->loop, &ask->mail);
}
