/*
 * check - rules across options, one small function each; what they say names both options
 *
 * An error where one of the two cannot have been meant; a warning where both can, and the effect may
 * surprise.
 */
#include "config.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "conf/conf_internal.h"

/* --- bindpost.json -------------------------------------------------------------------------------------- */

static struct place process_place(const struct loader *l, struct place steps[2], enum process_id id)
{
	const struct option_row *row = &process_rows[id];

	steps[0] = (struct place){.file = l->conf->files[0]};
	if (!row->section)
		return (struct place){.up = &steps[0], .key = row->name};
	steps[1] = (struct place){.up = &steps[0], .key = row->section};
	return (struct place){.up = &steps[1], .key = row->name};
}

static void check_stamp_lifetime(struct loader *l)
{
	struct place steps[2], at = process_place(l, steps, PROC_stamp_lifetime);

	if (l->conf->proc_set[PROC_stamp_lifetime] && !l->conf->process.stamp_key_file)
		place_warning(l->errors, &at,
		        "has no effect without stamp.key_file: only authenticated stamps have an age");
}

/* Every field of this name is deleted, from the message too: one that messages have of their own cannot be meant. */
static void check_stamp_header(struct loader *l)
{
	static const char *const taken[] = {"Received", "Return-Path", "Delivered-To", "From", "Sender",
	        "Reply-To", "To", "Cc", "Bcc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	        "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "DKIM-Signature",
	        "Authentication-Results", "List-Unsubscribe"};
	struct place steps[2], at = process_place(l, steps, PROC_stamp_header);
	const char *name = l->conf->process.stamp_header;

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (strcasecmp(name, taken[i]) == 0)
			place_error(l->errors, &at,
			        "\"%s\" is a field of the message itself: it would be lost; choose another "
			        "name",
			        name);
}

struct named_socket {
	const char *option;
	struct str text;
};

static void add_socket(struct named_socket *list, size_t *n, const char *option, const struct sockspec *s)
{
	if (!s)
		return;
	struct sockspec bare = *s; /* who may connect does not make it another socket */
	bare.mode = 0;
	bare.group[0] = bare.user[0] = '\0';
	list[*n].option = option;
	str_init(&list[*n].text);
	sockspec_print(&bare, &list[(*n)++].text);
}

/* Two listeners at the same place: the second to start would fail, and only then */
static void check_listeners(struct loader *l)
{
	const struct process_options *o = &l->conf->process;
	struct named_socket *list = mem_array(NULL, o->handoff_listen.n + 5, sizeof(*list));
	struct place top = {.file = l->conf->files[0]};
	size_t n = 0;

	for (size_t i = 0; i < o->handoff_listen.n; i++)
		add_socket(list, &n, "handoff.listen", &o->handoff_listen.items[i]);
	add_socket(list, &n, "milter.listen", o->milter_listen);
	add_socket(list, &n, "milter.control", o->milter_control);
	add_socket(list, &n, "control.listen", o->control_listen);
	add_socket(list, &n, "control.observe", o->control_observe);
	add_socket(list, &n, "control.metrics", o->control_metrics);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(list[i].text.data, list[j].text.data) == 0)
				place_error(l->errors, &top, "%s and %s are the same socket: %s",
				        list[j].option, list[i].option, list[i].text.data);
	for (size_t i = 0; i < n; i++)
		str_free(&list[i].text);
	mem_free(&list);
}

/* Without a listener deliveryd has nothing to do */
static void check_handoff_listen(struct loader *l)
{
	struct place steps[2], at = process_place(l, steps, PROC_handoff_listen);

	if (l->conf->process.handoff_listen.n == 0)
		place_error(l->errors, &at, "no socket: name at least one");
}

/* --- global --------------------------------------------------------------------------------------------- */

static struct place global_place(const struct loader *l, struct place steps[2], enum option_id id)
{
	const struct scope_value *v = scope_get(&l->conf->global, id);

	steps[0] = (struct place){.file = l->conf->files[v ? v->file : 0]};
	steps[1] = (struct place){.up = &steps[0], .key = "global"};
	return (struct place){.up = &steps[1], .key = option_rows[id].name};
}

/* `none` refuses what nothing claims; delivering just that from `default` contradicts it. */
static void check_default_binding(struct loader *l)
{
	const struct process_options *o = &l->conf->process;
	struct place steps[2], at = global_place(l, steps, OPT_default_binding);

	if (l->conf->globals.default_binding != DEFAULT_BINDING_NONE)
		return;
	if (o->handoff_unstamped == UNCLAIMED_DEFAULT)
		place_error(l->errors, &at,
		        "\"none\" contradicts handoff.unstamped \"default\": choose \"policy\", "
		        "\"tempfail\" or \"reject\" there, or another default_binding");
	if (o->handoff_bad_stamp == UNCLAIMED_DEFAULT)
		place_error(l->errors, &at,
		        "\"none\" contradicts handoff.bad_stamp \"default\": choose \"policy\", "
		        "\"tempfail\" or \"reject\" there, or another default_binding");
}

static void check_ipv6(struct loader *l)
{
	struct place steps[2], at = global_place(l, steps, OPT_use_ipv6);

	if (l->conf->globals.use_ipv6)
		return;
	for (size_t i = 0; i < l->conf->n_bindings; i++) {
		const struct conf_binding *b = &l->conf->bindings[i]->pub;
		if (b->source[1].family != AF_UNSPEC && b->source[0].family == AF_UNSPEC)
			place_warning(l->errors, &at,
			        "is off, but bind_address of binding \"%s\" is IPv6 only: its mail cannot "
			        "leave",
			        b->name);
	}
}

static void check_dns_ttl(struct loader *l)
{
	struct place steps[2], at = global_place(l, steps, OPT_min_dns_ttl);
	const struct global_options *o = &l->conf->globals;

	if (o->min_dns_ttl_s > o->max_dns_ttl_s)
		place_error(l->errors, &at, "is more than max_dns_ttl");
}

/* --- any scope ------------------------------------------------------------------------------------------ */

/* The value that holds where only this scope's own chain is looked at; the scopes' `owner` is that chain. */
static uint64_t number_in(const struct loader *l, const struct scope *s, enum option_id id)
{
	const struct scope_value *v = scope_get_inherited(s, id, NULL);

	return v ? v->v.u : l->conf->builtin[id].u;
}

static char *text_in(const struct loader *l, const struct scope *s, enum option_id id)
{
	const struct scope_value *v = scope_get_inherited(s, id, NULL);
	json_t *j = value_json(&option_rows[id], v ? v->v : l->conf->builtin[id]);
	char *text = json_dumps(j, JSON_ENCODE_ANY);

	json_decref(j);
	return text;
}

/* "policy.json: bindings.acme: a (1d) is more than b (12h): consequence" */
static void report_pair(struct loader *l, const struct scope *s, enum error_level level, enum option_id a,
        enum option_id b, const char *relation, const char *so)
{
	char *va = text_in(l, s, a), *vb = text_in(l, s, b);

	errors_add(l->errors, level, "%s: %s (%s) %s %s (%s): %s", scope_where(l->conf, s),
	        option_rows[a].name, va, relation, option_rows[b].name, vb, so);
	free(va);
	free(vb);
}

static bool sets_either(const struct scope *s, enum option_id a, enum option_id b)
{
	return scope_get(s, a) || scope_get(s, b);
}

static void check_retry_cap(struct loader *l, const struct scope *s)
{
	if (sets_either(s, OPT_retry_interval, OPT_max_retry_interval) &&
	        number_in(l, s, OPT_retry_interval) > number_in(l, s, OPT_max_retry_interval))
		report_pair(l, s, ERROR_WARNING, OPT_retry_interval, OPT_max_retry_interval, "is more than",
		        "the latter is every wait");
}

static void check_retry_expiry(struct loader *l, const struct scope *s)
{
	if (sets_either(s, OPT_retry_interval, OPT_message_expiration) &&
	        number_in(l, s, OPT_retry_interval) > number_in(l, s, OPT_message_expiration))
		report_pair(l, s, ERROR_WARNING, OPT_retry_interval, OPT_message_expiration, "is more than",
		        "mail expires before its first retry");
}

/* RFC 2033 5: LMTP must not be used on the SMTP port, or an MX host could be taken for a mail store. */
static void check_lmtp_port(struct loader *l, const struct scope *s)
{
	if (sets_either(s, OPT_delivery_method, OPT_lmtp_port) &&
	        number_in(l, s, OPT_delivery_method) == DELIVERY_LMTP && number_in(l, s, OPT_lmtp_port) == 25)
		report_pair(l, s, ERROR_ERROR, OPT_delivery_method, OPT_lmtp_port, "cannot be used with",
		        "RFC 2033 forbids it");
}

static void check_port_unused(struct loader *l, const struct scope *s)
{
	if (scope_get(s, OPT_delivery_method) && scope_get(s, OPT_remote_smtp_port) &&
	        !scope_get(s, OPT_lmtp_port) && number_in(l, s, OPT_delivery_method) == DELIVERY_LMTP)
		report_pair(l, s, ERROR_WARNING, OPT_delivery_method, OPT_remote_smtp_port, "does not use",
		        "the port of LMTP is lmtp_port");
}

static void check_total(struct loader *l, const struct scope *s)
{
	if (scope_get(s, OPT_max_outbound_connections) && scope_get(s, OPT_server_max_outbound_connections) &&
	        number_in(l, s, OPT_max_outbound_connections) >
	                number_in(l, s, OPT_server_max_outbound_connections))
		report_pair(l, s, ERROR_WARNING, OPT_max_outbound_connections,
		        OPT_server_max_outbound_connections, "is more than",
		        "one next hop can never have that many");
}

static const char *path_in(const struct loader *l, const struct scope *s, enum option_id id)
{
	const struct scope_value *v = scope_get_inherited(s, id, NULL);

	return v ? v->v.s : l->conf->builtin[id].s;
}

static void check_tls_pair(struct loader *l, const struct scope *s)
{
	bool certificate = path_in(l, s, OPT_tls_certificate) != NULL,
	     key = path_in(l, s, OPT_tls_key) != NULL;

	if (sets_either(s, OPT_tls_certificate, OPT_tls_key) && certificate != key)
		report_pair(l, s, ERROR_ERROR, certificate ? OPT_tls_certificate : OPT_tls_key,
		        certificate ? OPT_tls_key : OPT_tls_certificate, "is of no use without",
		        "name both, or neither");
}

static void check_auth(struct loader *l, const struct scope *s)
{
	const struct scope_value *pass = scope_get(s, OPT_outbound_smtp_auth_pass),
	                         *file = scope_get(s, OPT_outbound_smtp_auth_pass_file);

	if (pass && file && pass->v.s && file->v.s)
		report_pair(l, s, ERROR_ERROR, OPT_outbound_smtp_auth_pass, OPT_outbound_smtp_auth_pass_file,
		        "excludes", "name one of them");
	if (!scope_get(s, OPT_outbound_smtp_auth_type) ||
	        number_in(l, s, OPT_outbound_smtp_auth_type) == AUTH_NONE)
		return;
	if (!path_in(l, s, OPT_outbound_smtp_auth_user))
		report_pair(l, s, ERROR_ERROR, OPT_outbound_smtp_auth_type, OPT_outbound_smtp_auth_user,
		        "is of no use without", "name both, or \"none\"");
	if (!path_in(l, s, OPT_outbound_smtp_auth_pass) && !path_in(l, s, OPT_outbound_smtp_auth_pass_file))
		report_pair(l, s, ERROR_ERROR, OPT_outbound_smtp_auth_type, OPT_outbound_smtp_auth_pass,
		        "is of no use without", "name both, or \"none\"");
}

/* HELO offers nothing: mail that needs an extension would wait for ever. */
static void check_hello(struct loader *l, const struct scope *s)
{
	if (number_in(l, s, OPT_delivery_method) != DELIVERY_SMTP)
		return;
	if (sets_either(s, OPT_delivery_method, OPT_xclient) &&
	        number_in(l, s, OPT_xclient) == XCLIENT_REQUIRED)
		report_pair(l, s, ERROR_ERROR, OPT_xclient, OPT_delivery_method, "cannot be had with",
		        "HELO offers no extensions; write \"esmtp\"");
	if (sets_either(s, OPT_delivery_method, OPT_outbound_smtp_auth_type) &&
	        number_in(l, s, OPT_outbound_smtp_auth_type) != AUTH_NONE)
		report_pair(l, s, ERROR_ERROR, OPT_outbound_smtp_auth_type, OPT_delivery_method,
		        "cannot be had with", "HELO offers no extensions; write \"esmtp\"");
}

static void check_tls_verify(struct loader *l, const struct scope *s)
{
	if (sets_either(s, OPT_tls, OPT_tls_verify) && number_in(l, s, OPT_tls) == TLS_NO &&
	        number_in(l, s, OPT_tls_verify) != TLS_VERIFY_NO)
		report_pair(l, s, ERROR_WARNING, OPT_tls_verify, OPT_tls, "has no effect with",
		        "without TLS there is no certificate");
}

/* TLSA records stand at names. */
static bool gateway_is_address(const struct loader *l, const struct scope *s)
{
	const char *gateway = path_in(l, s, OPT_gateway);
	struct addr a;

	return gateway && (gateway[0] == '/' || addr_parse_port(gateway, 0, &a, NULL));
}

static void check_dane(struct loader *l, const struct scope *s)
{
	if (sets_either(s, OPT_tls, OPT_dane) && number_in(l, s, OPT_tls) == TLS_NO &&
	        number_in(l, s, OPT_dane) != DANE_NO && !gateway_is_address(l, s))
		report_pair(l, s, ERROR_WARNING, OPT_dane, OPT_tls, "has no effect with",
		        "mail goes out in clear text even where TLSA records forbid it");
	if (sets_either(s, OPT_dane, OPT_gateway) && number_in(l, s, OPT_dane) == DANE_REQUIRED &&
	        number_in(l, s, OPT_tls) != TLS_NO && gateway_is_address(l, s))
		report_pair(l, s, ERROR_WARNING, OPT_dane, OPT_gateway, "cannot be had of",
		        "an address has no TLSA records, and the mail will wait");
}

static void check_egress(struct loader *l, const struct scope *s)
{
	const char *proxy = path_in(l, s, OPT_egress_proxy);
	bool user = path_in(l, s, OPT_egress_proxy_user) != NULL,
	     pass = path_in(l, s, OPT_egress_proxy_pass) != NULL;

	if (scope_get(s, OPT_egress_proxy) && proxy && l->conf->n_bindings == 1 &&
	        l->conf->bindings[0]->pub.any_source)
		errors_add(l->errors, ERROR_ERROR,
		        "%s: egress_proxy (\"%s\") is of no use without bind_address: write the address that "
		        "mail is "
		        "to leave from",
		        scope_where(l->conf, s), proxy);
	if (sets_either(s, OPT_egress_proxy_user, OPT_egress_proxy_pass) && user != pass)
		report_pair(l, s, ERROR_ERROR, user ? OPT_egress_proxy_user : OPT_egress_proxy_pass,
		        user ? OPT_egress_proxy_pass : OPT_egress_proxy_user, "is of no use without",
		        "name both, or neither");
	if (scope_get(s, OPT_egress_proxy_user) && user && proxy && strncmp(proxy, "socks5:", 7) != 0)
		report_pair(l, s, ERROR_WARNING, OPT_egress_proxy_user, OPT_egress_proxy,
		        "has no effect with", "only SOCKS5 has a user name");
}

static void check_length(struct loader *l, const struct scope *s, enum option_id id, size_t max)
{
	const struct scope_value *v = scope_get(s, id);

	if (v && v->v.s && strlen(v->v.s) > max)
		errors_add(l->errors, ERROR_ERROR, "%s: %s: longer than %zu octets", scope_where(l->conf, s),
		        option_rows[id].name, max);
}

/* A warning: who checks may not be who will read it */
static void check_tls_file(struct loader *l, const struct scope *s, enum option_id id)
{
	const struct scope_value *v = scope_get(s, id);

	if (v && v->v.s && access(v->v.s, R_OK) != 0)
		errors_add(l->errors, ERROR_WARNING, "%s: %s: %s: %s; mail that needs it will wait",
		        scope_where(l->conf, s), option_rows[id].name, v->v.s, strerror(errno));
}

static void check_scope(void *ctx, const struct scope *s)
{
	struct loader *l = ctx;

	if (option_set_empty(&s->set))
		return;
	check_retry_cap(l, s);
	check_retry_expiry(l, s);
	check_lmtp_port(l, s);
	check_port_unused(l, s);
	check_total(l, s);
	check_tls_pair(l, s);
	check_auth(l, s);
	check_hello(l, s);
	check_tls_verify(l, s);
	check_dane(l, s);
	check_egress(l, s);
	check_length(l, s, OPT_egress_proxy_user, 255);
	check_length(l, s, OPT_egress_proxy_pass, 255);
	check_tls_file(l, s, OPT_tls_ca);
	check_tls_file(l, s, OPT_tls_certificate);
	check_tls_file(l, s, OPT_tls_key);
	check_tls_file(l, s, OPT_outbound_smtp_auth_pass_file);
}

static void check_scopes(struct loader *l)
{
	struct conf *c = l->conf;

	check_scope(l, &c->global);
	names_each(c->domains, check_scope, l);
	for (size_t i = 0; i < c->n_groups; i++) {
		check_scope(l, &c->groups[i]->scope);
		names_each(c->groups[i]->domains, check_scope, l);
	}
	for (size_t i = 0; i < c->n_bindings; i++) {
		check_scope(l, &c->bindings[i]->scope);
		names_each(c->bindings[i]->domains, check_scope, l);
	}
}

void conf_check(struct loader *l)
{
	check_stamp_lifetime(l);
	check_stamp_header(l);
	check_handoff_listen(l);
	check_listeners(l);
	check_default_binding(l);
	check_ipv6(l);
	check_dns_ttl(l);
	check_scopes(l);
}
