/*
 * A message's envelope as JSON, and back.
 *
 * What is read back may have been written by anybody: each value is checked as the handoff would, and what the spool
 * could not store is refused.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/names.h"
#include "control/cli_spool.h"

#define TEXT_MAX 2048
#define LIST_MAX ((size_t)10000000)

struct word {
	const char *word;
	uint32_t bit;
};
static const struct word flag_words[] = {
        {"smtputf8", MESSAGE_SMTPUTF8},
        {"8bitmime", MESSAGE_BODY_8BITMIME},
        {"requiretls", MESSAGE_REQUIRETLS},
        {"tls_optional", MESSAGE_TLS_OPTIONAL},
        {"dsn", MESSAGE_DSN},
        {"utf8_header", MESSAGE_UTF8_HEADER},
        {"client_name_later", MESSAGE_CLIENT_NAME_LATER},
};
static const struct word notify_words[] = {
        {"never", NOTIFY_NEVER},
        {"success", NOTIFY_SUCCESS},
        {"failure", NOTIFY_FAILURE},
        {"delay", NOTIFY_DELAY},
        {"orcpt_same", NOTIFY_ORCPT_SAME},
};

/* --- printing ------------------------------------------------------------------------------------------------------- */

static void print_words(
        struct json_out *j, const char *key, const struct word *words, size_t n, uint32_t bits)
{
	jw_array(j, key);
	for (size_t i = 0; i < n; i++)
		if (bits & words[i].bit)
			jw_str(j, NULL, words[i].word);
	jw_end_array(j);
}

static void print_recipient(struct json_out *j, const struct recipient *r)
{
	jw_object(j, NULL);
	jw_str(j, "address", r->address);
	if (r->orcpt)
		jw_str(j, "orcpt", r->orcpt);
	if (r->notify)
		print_words(j, "notify", notify_words, array_len(notify_words), r->notify);
	jw_end_object(j);
}

static void print_recipients(
        struct json_out *j, const struct delivery_spec *spec, const struct spool_live_delivery *d)
{
	uint32_t n = d->open ? d->n_open : spec->n_recipients;

	jw_array(j, "recipients");
	for (uint32_t i = 0; i < n; i++)
		print_recipient(j, &spec->recipients[d->open ? d->open[i] : i]);
	jw_end_array(j);
}

static void print_delivery(
        struct json_out *j, const struct delivery_spec *spec, const struct spool_live_delivery *d)
{
	jw_object(j, NULL);
	jw_str(j, "binding", d->binding ? d->binding : spec->target);
	jw_str(j, "domain", d->domain ? d->domain : spec->domain);
	if (spec->rule)
		jw_str(j, "rule", spec->rule);
	if (spec->has_sticky)
		jw_uint(j, "sticky", spec->sticky);
	if (spec->priority != PRIORITY_NONE)
		jw_str(j, "priority", priority_name((enum priority)spec->priority));
	jw_uint(j, "attempts", d->attempts);
	if (d->next_attempt_wall_us)
		jw_time(j, "next_attempt", d->next_attempt_wall_us);
	if (d->last_attempt_wall_us)
		jw_time(j, "last_attempt", d->last_attempt_wall_us);
	jw_bool(j, "held", d->held);
	if (d->last_reply)
		jw_str(j, "last_reply", d->last_reply);
	print_recipients(j, spec, d);
	jw_end_object(j);
}

static void print_client(struct json_out *j, const struct message *m)
{
	char text[ADDR_TEXT_SIZE];

	jw_object(j, "client");
	if (m->client_addr.family != AF_UNSPEC) {
		jw_str(j, "address", addr_print(&m->client_addr, text));
		if (m->client_addr.port)
			jw_uint(j, "port", m->client_addr.port);
	}
	if (m->client_name)
		jw_str(j, "name", m->client_name);
	if (m->client_helo)
		jw_str(j, "helo", m->client_helo);
	if (m->client_proto)
		jw_str(j, "protocol", m->client_proto);
	jw_end_object(j);
}

void envelope_print(const struct spool_live *live, bool has_body, struct str *out)
{
	const struct message *m = live->message;
	struct json_out j;
	char id[ID_TEXT_SIZE];

	json_out_init(&j, out);
	jw_object(&j, NULL);
	jw_str(&j, "id", id_print(m->id, id));
	jw_time(&j, "received", m->received_wall_us);
	jw_str(&j, "sender", m->sender);
	jw_uint(&j, "size", m->body_size);
	jw_bool(&j, "body", has_body);
	print_words(&j, "flags", flag_words, array_len(flag_words), m->flags);
	if (m->envid)
		jw_str(&j, "envid", m->envid);
	if (m->ret != RET_NONE)
		jw_str(&j, "ret", m->ret == RET_FULL ? "full" : "hdrs");
	print_client(&j, m);
	jw_array(&j, "deliveries");
	for (uint32_t i = 0; i < live->n_deliveries; i++)
		print_delivery(&j, &m->deliveries[live->deliveries[i].index], &live->deliveries[i]);
	jw_end_array(&j);
	jw_end_object(&j);
	str_add_char(out, '\n');
}

/* --- parsing -------------------------------------------------------------------------------------------------------- */

/* The first thing that is wrong; after that nothing is looked at. */
struct reading {
	struct message *message;
	struct error *err;
	bool failed;
};

static void wrong(struct reading *r, const char *key, const char *what)
{
	if (!r->failed)
		error_set(r->err, "%s: %s", key, what);
	r->failed = true;
}

static const json_t *get(struct reading *r, const json_t *object, const char *key, bool needed)
{
	const json_t *value = r->failed ? NULL : json_object_get(object, key);

	if (json_is_null(value))
		value = NULL;
	if (value == NULL && needed)
		wrong(r, key, "is missing");
	return value;
}

/* NULL: not there. Text for the log: no control characters. */
static const char *get_text(struct reading *r, const json_t *object, const char *key, bool needed)
{
	const json_t *value = get(r, object, key, needed);
	const char *text = json_string_value(value);

	if (value == NULL)
		return NULL;
	if (text == NULL || json_string_length(value) != strlen(text) || strlen(text) > TEXT_MAX) {
		wrong(r, key, "must be text, not too long");
		return NULL;
	}
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 32 || *p == 127) {
			wrong(r, key, "has control characters");
			return NULL;
		}
	return pool_strdup(r->message->pool, text);
}

static uint64_t get_number(struct reading *r, const json_t *object, const char *key, uint64_t max)
{
	const json_t *value = get(r, object, key, false);

	if (value == NULL)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	        (uint64_t)json_integer_value(value) > max) {
		wrong(r, key, "must be a number in its range");
		return 0;
	}
	return (uint64_t)json_integer_value(value);
}

static bool get_bool(struct reading *r, const json_t *object, const char *key)
{
	const json_t *value = get(r, object, key, false);

	if (value != NULL && !json_is_boolean(value))
		wrong(r, key, "must be true or false");
	return json_is_true(value);
}

/* As jw_time() prints it. */
static uint64_t get_time(struct reading *r, const json_t *object, const char *key, bool needed)
{
	const char *text = get_text(r, object, key, needed);
	struct tm tm = {0};
	unsigned us = 0;
	int end = 0;
	time_t t;

	if (text == NULL)
		return 0;
	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6uZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
	            &tm.tm_min, &tm.tm_sec, &us, &end) != 7 ||
	        end == 0 || text[end] != '\0') {
		wrong(r, key, "must be a time like 2026-11-20T17:00:00.000000Z");
		return 0;
	}
	tm.tm_year -= 1900;
	tm.tm_mon--;
	t = timegm(&tm);
	if (t <= 0)
		wrong(r, key, "is not a time since 1970");
	return (uint64_t)t * SECOND_US + us;
}

static uint32_t get_words(
        struct reading *r, const json_t *object, const char *key, const struct word *words, size_t n)
{
	const json_t *list = get(r, object, key, false), *value;
	uint32_t bits = 0;
	size_t i;

	if (list != NULL && !json_is_array(list))
		wrong(r, key, "must be a list of words");
	json_array_foreach (list, i, value) {
		const char *word = json_is_string(value) ? json_string_value(value) : "";
		size_t k = 0;

		while (k < n && strcmp(words[k].word, word) != 0)
			k++;
		if (k < n)
			bits |= words[k].bit;
		else
			wrong(r, key, "has a word that is not known");
	}
	return bits;
}

/* NULL: not a list, or an empty one. */
static const json_t *get_list(struct reading *r, const json_t *object, const char *key)
{
	const json_t *list = get(r, object, key, true);

	if (list == NULL)
		return NULL;
	if (json_is_array(list) && json_array_size(list) > 0 && json_array_size(list) <= LIST_MAX)
		return list;
	wrong(r, key, "must be a list that is not empty");
	return NULL;
}

static void parse_recipient(struct reading *r, const json_t *json, struct recipient *out)
{
	out->address = get_text(r, json, "address", true);
	out->orcpt = get_text(r, json, "orcpt", false);
	out->notify = (uint8_t)get_words(r, json, "notify", notify_words, array_len(notify_words));
	if (!r->failed && (out->address[0] == '\0' || strchr(out->address, '<') || strchr(out->address, '>')))
		wrong(r, "address", "must be an address without < and >");
}

static void parse_target(struct reading *r, const json_t *json, struct delivery_spec *d)
{
	struct error err;

	d->target = get_text(r, json, "binding", true);
	if (d->target == NULL)
		return;
	if (!name_check("binding", strncmp(d->target, "group:", 6) == 0 ? d->target + 6 : d->target, &err))
		wrong(r, "binding", err.text);
}

static void parse_priority(struct reading *r, const json_t *json, struct delivery_spec *d)
{
	const char *text = get_text(r, json, "priority", false);

	d->priority = text ? (uint8_t)priority_parse(text) : PRIORITY_NONE;
	if (text && d->priority == PRIORITY_NONE)
		wrong(r, "priority", "must be high, normal or low");
}

static void parse_domain(struct reading *r, const json_t *json, struct delivery_spec *d)
{
	d->domain = get_text(r, json, "domain", true);
	if (d->domain != NULL && (d->domain[0] == '\0' || strlen(d->domain) >= DOMAIN_MAX + 64))
		wrong(r, "domain", "must be a domain");
}

static void parse_state(struct reading *r, const json_t *json, uint32_t number, struct spool_results *states)
{
	struct spool_state state = {
	        .attempts = (uint32_t)get_number(r, json, "attempts", UINT32_MAX),
	        .next_attempt_wall_us = get_time(r, json, "next_attempt", false),
	        .last_attempt_wall_us = get_time(r, json, "last_attempt", false),
	        .held = get_bool(r, json, "held"),
	        .last_reply = get_text(r, json, "last_reply", false),
	};

	if (r->failed)
		return;
	if (state.attempts || state.next_attempt_wall_us || state.held || state.last_reply)
		spool_results_state(states, r->message->id, number, &state);
}

static void parse_delivery(
        struct reading *r, const json_t *json, uint32_t number, struct spool_results *states)
{
	struct delivery_spec *d = &r->message->deliveries[number];
	const json_t *list, *value;
	size_t i;

	parse_target(r, json, d);
	parse_domain(r, json, d);
	d->rule = get_text(r, json, "rule", false);
	d->has_sticky = get(r, json, "sticky", false) != NULL;
	d->sticky = (uint32_t)get_number(r, json, "sticky", UINT32_MAX);
	parse_priority(r, json, d);
	list = get_list(r, json, "recipients");
	d->n_recipients = (uint32_t)json_array_size(list);
	d->recipients = pool_alloc(r->message->pool, d->n_recipients * sizeof(*d->recipients));
	json_array_foreach (list, i, value)
		parse_recipient(r, value, &d->recipients[i]);
	parse_state(r, json, number, states);
}

static void parse_client(struct reading *r, const json_t *json)
{
	struct message *m = r->message;
	const json_t *client = get(r, json, "client", false);
	const char *address = get_text(r, client, "address", false);
	struct error err;

	if (address && !addr_parse(address, &m->client_addr, &err))
		wrong(r, "client.address", "must be an IP address");
	m->client_addr.port = (uint16_t)get_number(r, client, "port", UINT16_MAX);
	m->client_name = get_text(r, client, "name", false);
	m->client_helo = get_text(r, client, "helo", false);
	m->client_proto = get_text(r, client, "protocol", false);
}

static void parse_ret(struct reading *r, const json_t *json)
{
	const char *text = get_text(r, json, "ret", false);

	if (text && strcmp(text, "full") != 0 && strcmp(text, "hdrs") != 0)
		wrong(r, "ret", "must be full or hdrs");
	r->message->ret = !text ? RET_NONE : strcmp(text, "full") == 0 ? RET_FULL : RET_HDRS;
}

static void parse_message(struct reading *r, const json_t *json, struct spool_results *states)
{
	struct message *m = r->message;
	const char *id = get_text(r, json, "id", true);
	const json_t *list, *value;
	size_t i;

	if (id && (!id_parse(id, &m->id) || m->id == 0 || m->id > INT64_MAX))
		wrong(r, "id", "must be 16 hexadecimal digits");
	m->received_wall_us = get_time(r, json, "received", true);
	m->sender = get_text(r, json, "sender", true);
	m->flags = get_words(r, json, "flags", flag_words, array_len(flag_words));
	m->envid = get_text(r, json, "envid", false);
	parse_ret(r, json);
	parse_client(r, json);
	list = get_list(r, json, "deliveries");
	m->n_deliveries = (uint32_t)json_array_size(list);
	m->deliveries = pool_alloc(m->pool, m->n_deliveries * sizeof(*m->deliveries));
	json_array_foreach (list, i, value)
		parse_delivery(r, value, (uint32_t)i, states);
}

struct message *envelope_parse(const char *text, size_t n, struct spool_results *states, struct error *err)
{
	struct reading r = {.message = message_new(), .err = err};
	json_error_t where;
	json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);

	if (!json_is_object(json)) {
		error_set(err, "line %d: %s", where.line, json ? "not an object" : where.text);
		r.failed = true;
	} else {
		parse_message(&r, json, states);
	}
	json_decref(json);
	if (r.failed)
		message_unref(&r.message);
	else
		r.message->flags |= message_dsn_flags(r.message);
	return r.message;
}
