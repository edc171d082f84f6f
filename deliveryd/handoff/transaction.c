#include "config.h"
#include "handoff/transaction.h"

#include <string.h>
#include "base/names.h"
#include "base/xtext.h"
#include "handoff/trace_field.h"

#define OWN_RECEIVED_MAX 10
#define RECEIVED_MAX 100

void transaction_init(struct transaction *t, struct handoff_shared *shared)
{
	memset(t, 0, sizeof(*t));
	t->shared = shared;
}

void transaction_begin(struct transaction *t, const struct policy_view *view, const struct lmtp_mail *mail)
{
	struct message *m = message_new();

	t->view = view;
	t->o = conf_process(policy_conf(view->policy));
	t->message = m;
	t->announced = mail->size;
	m->sender = pool_strndup(m->pool, mail->path.address, mail->path.address_len);
	if (mail->body_8bitmime)
		m->flags |= MESSAGE_BODY_8BITMIME;
	if (mail->smtputf8)
		m->flags |= MESSAGE_SMTPUTF8;
	if (mail->requiretls)
		m->flags |= MESSAGE_REQUIRETLS;
	m->ret = mail->ret;
	if (mail->envid)
		m->envid = pool_strndup(m->pool, mail->envid, mail->envid_len);
}

/* The domain to queue by, in normal form; the previous recipient's text when it is the same. NULL = none. */
static const char *rcpt_domain(struct transaction *t, const struct mail_path *path)
{
	const char *previous = t->n_rcpts ? t->rcpts[t->n_rcpts - 1].domain : NULL;
	const char *raw = path->domain_len ? path->domain : t->o->hostname;
	size_t len = path->domain_len ? path->domain_len : strlen(raw);
	char domain[DOMAIN_MAX + 64];

	if (!domain_normalize(raw, len, domain, NULL))
		return NULL;
	if (previous && strcmp(previous, domain) == 0)
		return previous;
	return pool_strdup(t->message->pool, domain);
}

/* An MTA says ORCPT for every recipient, and nearly always it is the address itself. */
static bool orcpt_is_address(const struct lmtp_rcpt *rcpt)
{
	static const char type[] = "rfc822;";
	size_t type_len = strlen(type);
	struct str decoded;
	bool same;

	if (rcpt->orcpt_len < type_len || !ascii_ieq_mem(rcpt->orcpt, type_len, type, type_len))
		return false;
	str_init(&decoded);
	xtext_decode(&decoded, rcpt->orcpt + type_len, rcpt->orcpt_len - type_len);
	same = decoded.len == rcpt->path.address_len &&
	       memcmp(decoded.data, rcpt->path.address, decoded.len) == 0;
	str_free(&decoded);
	return same;
}

static void set_dsn(struct transaction *t, const struct lmtp_rcpt *given, struct transaction_rcpt *rcpt)
{
	rcpt->notify = given->notify;
	if (!given->orcpt)
		return;
	if (orcpt_is_address(given))
		rcpt->notify |= NOTIFY_ORCPT_SAME;
	else
		rcpt->orcpt = pool_strndup(t->message->pool, given->orcpt, given->orcpt_len);
}

enum reply transaction_add_rcpt(struct transaction *t, const struct lmtp_rcpt *rcpt)
{
	const struct mail_path *path = &rcpt->path;
	const char *domain;

	if (t->n_rcpts >= t->o->handoff_max_recipients)
		return REPLY_TOO_MANY_RCPTS;
	domain = rcpt_domain(t, path);
	if (!domain)
		return REPLY_BAD_RCPT;
	if (t->n_rcpts == t->max_rcpts) {
		t->max_rcpts = t->max_rcpts ? t->max_rcpts * 2 : 8;
		t->rcpts = mem_array(t->rcpts, t->max_rcpts, sizeof(*t->rcpts));
	}
	t->rcpts[t->n_rcpts++] = (struct transaction_rcpt){
	        .address = pool_strndup(t->message->pool, path->address, path->address_len),
	        .domain = domain,
	};
	set_dsn(t, rcpt, &t->rcpts[t->n_rcpts - 1]);
	return REPLY_NONE;
}

/* What this message holds for rules counts with all that is received and not yet durable. */
static void count_captured(struct transaction *t, uint64_t now)
{
	if (now != t->captured)
		atomic_fetch_add_explicit(&t->shared->captured, now - t->captured, memory_order_relaxed);
	t->captured = now;
}

static void stop_receiving(struct transaction *t)
{
	if (t->writer)
		body_writer_abort(&t->writer);
	if (t->receiving)
		message_header_free(&t->header);
	count_captured(t, 0);
	t->receiving = false;
}

/* What was counted is not stored. */
static void give_quotas_back(struct transaction *t)
{
	for (uint32_t i = 0; i < t->deliveries.n; i++) {
		struct delivery_spec *d = &t->deliveries.specs[i];

		if (d->counted)
			t->shared->quota_give_back(t->shared->queue, d->target, d->counted_bytes);
		d->counted = false;
	}
}

void transaction_clear(struct transaction *t)
{
	struct handoff_shared *shared = t->shared;

	stop_receiving(t);
	give_quotas_back(t); /* the targets are in the message's pool */
	if (t->message)
		message_unref(&t->message);
	policy_view_unref(&t->view);
	mem_free(&t->rcpts);
	mem_free(&t->own_token);
	deliveries_free(&t->deliveries);
	transaction_init(t, shared);
}

/* --- data --------------------------------------------------------------------------------------------------- */

static void to_body(void *ctx, const char *p, size_t len)
{
	struct transaction *t = ctx;

	if (t->writer)
		body_writer_add(t->writer, p, len);
}

static void to_header(void *ctx, const char *p, size_t len)
{
	struct transaction *t = ctx;

	if (t->refusal == REPLY_NONE)
		message_header_feed(&t->header, p, len);
}

/* Real and forwarded facts are never mixed (XFORWARD_README). */
static void set_client(struct transaction *t, const struct transaction_client *client, struct trace *trace)
{
	struct message *m = t->message;
	const struct xforward *x = &t->xforward;

	trace->local = client->addr->family == AF_UNSPEC || x->local;
	trace->helo = client->helo;
	if (x->given && x->local)
		return;
	if (x->given) {
		trace->name = x->name;
		trace->helo = x->helo;
		trace->client = &x->client;
		trace->local = false;
		m->client_proto = x->proto[0] ? pool_strdup(m->pool, x->proto) : NULL;
		m->flags |= x->name_later ? MESSAGE_CLIENT_NAME_LATER : 0;
	} else {
		trace->client = client->addr;
		m->client_proto = client->protocol;
	}
	if (trace->name && trace->name[0])
		m->client_name = pool_strdup(m->pool, trace->name);
	if (trace->helo && trace->helo[0])
		m->client_helo = pool_strdup(m->pool, trace->helo);
	m->client_addr = *trace->client;
	if (x->given)
		m->client_addr.port = x->port;
}

static void write_trace(struct transaction *t, const struct transaction_client *client)
{
	struct trace trace = {
	        .hostname = t->o->hostname,
	        .protocol = client->protocol,
	        .id = t->message->id,
	        .wall_us = t->message->received_wall_us,
	};
	struct str text, token;

	str_init(&text);
	str_init(&token);
	set_client(t, client, &trace);
	trace_field_print(&trace, &text);
	body_writer_add(t->writer, text.data, text.len);
	t->trace_size = (uint32_t)text.len;
	trace_field_token(t->o->hostname, &token);
	t->own_token = str_steal(&token);
	str_free(&text);
}

enum reply transaction_start_data(
        struct transaction *t, struct loop *loop, const struct transaction_client *client)
{
	t->writer = body_writer_new(t->shared->spool, loop, t->announced);
	if (!t->writer)
		return REPLY_NO_SPACE;
	t->message->id = spool_new_id(t->shared->spool);
	t->message->received_wall_us = loop_wall_us(loop);
	t->receiving = true;
	t->refusal = REPLY_NONE;
	write_trace(t, client);
	decide_needs(t->view, t->message->sender, &t->needs);
	data_scan_init(&t->scan, to_header, t);
	message_header_init(&t->header, t->o->stamp_header, t->own_token, to_body, t);
	t->header.capture_fields = t->needs.fields;
	t->header.looks = t->view->policy;
	t->header.capture_body = t->needs.body;
	t->header.find_8bit = (t->message->flags & MESSAGE_SMTPUTF8) != 0;
	t->header.body_max = t->needs.body_max;
	return REPLY_NONE;
}

void transaction_refuse(struct transaction *t, enum reply reply)
{
	if (t->refusal == REPLY_NONE)
		t->refusal = reply;
	if (t->writer)
		body_writer_abort(&t->writer);
	message_header_drop_capture(&t->header);
	count_captured(t, 0);
}

size_t transaction_feed(struct transaction *t, const char *p, size_t len, bool *end)
{
	size_t used = data_scan_feed(&t->scan, p, len, end);

	if (t->refusal != REPLY_NONE)
		return used;
	if (t->needs.until_stamp && t->header.n_stamps)
		message_header_drop_capture(&t->header);
	count_captured(t, message_header_captured(&t->header));
	if (t->scan.size > t->o->handoff_max_message_size)
		transaction_refuse(t, REPLY_TOO_BIG);
	else if (t->scan.flags & SCAN_REFUSED)
		transaction_refuse(t, REPLY_BARE_BYTES);
	return used;
}

/* --- the end ------------------------------------------------------------------------------------------------ */

/* Why the whole message is refused. What was noticed first depends on how the bytes came in; what is said does not. */
static enum reply message_verdict(struct transaction *t)
{
	if (t->scan.size > t->o->handoff_max_message_size)
		return REPLY_TOO_BIG;
	if (t->scan.flags & SCAN_REFUSED)
		return REPLY_BARE_BYTES;
	if (t->refusal != REPLY_NONE)
		return t->refusal;
	message_header_end(&t->header);
	if (t->header.n_own_received > OWN_RECEIVED_MAX || t->header.n_received > RECEIVED_MAX)
		return REPLY_LOOP;
	return REPLY_NONE;
}

/* One event for the message, whatever its recipients. */
static void report(struct transaction *t, enum event_type type, const char *reason, uint64_t count)
{
	struct event event = {
	        .type = type,
	        .id = t->message->id,
	        .sender = t->message->sender,
	        .peer = t->message->client_addr,
	        .reason = reason,
	        .count = count,
	};

	if (t->shared->events)
		event_post(t->shared->events, &event);
}

static void decide_each(struct transaction *t, const struct decide_input *in, const struct decision *decision)
{
	struct recipient_choice choice;
	unsigned stale = 0;

	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct transaction_rcpt *rcpt = &t->rcpts[i];

		rcpt->verdict = decide_recipient(in, decision, rcpt->address, &choice);
		if (choice.stale_rules > stale)
			stale = choice.stale_rules;
		if (rcpt->verdict != REPLY_NONE)
			continue;
		rcpt->delivery = deliveries_find(&t->deliveries, t->message->pool, &choice, rcpt->domain);
		t->n_taken++;
	}
	if (stale)
		report(t, EVENT_STALE_RULE, "unknown_digest", stale);
}

static void report_quota(struct transaction *t, const struct delivery_spec *d, enum quota_verdict verdict)
{
	struct event event = {
	        .type = EVENT_THROTTLE,
	        .id = t->message->id,
	        .sender = t->message->sender,
	        .domain = d->domain,
	        .peer = t->message->client_addr,
	        .has_size = true,
	        .size = t->scan.size,
	        .code = reply_code(REPLY_QUEUE_FULL),
	        .reason = quota_option(verdict),
	        .count = d->n_recipients,
	};

	if (strncmp(d->target, "group:", strlen("group:")) == 0)
		event.group = d->target + strlen("group:");
	else
		event.binding = d->target;
	if (t->shared->events)
		event_post(t->shared->events, &event);
}

/* The recipients of one that is refused get its verdict, those of the others their new place in the list. */
static void drop_refused(struct transaction *t, const enum reply *verdicts)
{
	struct deliveries *list = &t->deliveries;
	uint32_t *place = mem_array(NULL, list->n, sizeof(*place)), kept = 0;

	for (uint32_t i = 0; i < list->n; i++) {
		place[i] = kept;
		if (verdicts[i] == REPLY_NONE)
			list->specs[kept++] = list->specs[i];
	}
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		struct transaction_rcpt *rcpt = &t->rcpts[i];

		if (rcpt->verdict != REPLY_NONE)
			continue;
		rcpt->verdict = verdicts[rcpt->delivery];
		rcpt->delivery = place[rcpt->delivery];
		t->n_taken -= rcpt->verdict != REPLY_NONE;
	}
	list->n = kept;
	mem_free(&place);
}

/* Each delivery counts in its target's quota until the queue has it, and then there. */
static void take_quotas(struct transaction *t)
{
	struct deliveries *list = &t->deliveries;
	enum reply *verdicts;
	bool any = false;

	if (!t->shared->quota_take || list->n == 0)
		return;
	verdicts = mem_array(NULL, list->n, sizeof(*verdicts));
	for (uint32_t i = 0; i < list->n; i++) {
		struct delivery_spec *d = &list->specs[i];
		enum quota_verdict verdict = t->shared->quota_take(t->shared->queue, d->target, t->scan.size);

		verdicts[i] = REPLY_NONE;
		d->counted = verdict == QUOTA_TAKEN;
		d->counted_bytes = t->scan.size;
		if (verdict == QUOTA_NONE || verdict == QUOTA_TAKEN)
			continue;
		verdicts[i] = verdict == QUOTA_RATE ? REPLY_TOO_FAST : REPLY_QUEUE_FULL;
		t->refused_by_quota[verdict]++;
		report_quota(t, d, verdict);
		any = true;
	}
	if (any)
		drop_refused(t, verdicts);
	mem_free(&verdicts);
}

bool transaction_decide(struct transaction *t, bool all_or_none)
{
	struct decide_input in = {
	        .view = t->view,
	        .shared = t->shared,
	        .header = &t->header,
	        .xforward = &t->xforward,
	        .sender = t->message->sender,
	        .id = t->message->id,
	        .wall_us = t->message->received_wall_us,
	};
	enum reply verdict = message_verdict(t);
	struct decision decision;

	t->stamp_reason = STAMP_OK;
	t->n_taken = 0;
	if (verdict == REPLY_NONE) {
		t->unstamped = t->header.n_stamps == 0;
		in.size = t->scan.size - t->header.cut;
		verdict = decide_message(&in, &decision, &t->stamp_reason);
	}
	if (t->stamp_reason != STAMP_OK)
		report(t, EVENT_BAD_STAMP, stamp_reason_name(t->stamp_reason), 0);
	if (verdict == REPLY_NONE) {
		decide_each(t, &in, &decision);
		decision_free(&decision);
		if (!all_or_none || t->n_taken == t->n_rcpts)
			take_quotas(t);
	} else {
		for (uint32_t i = 0; i < t->n_rcpts; i++)
			t->rcpts[i].verdict = verdict;
	}
	if (t->n_taken == 0 || (all_or_none && t->n_taken < t->n_rcpts)) {
		give_quotas_back(t);
		transaction_refuse(t, verdict);
	}
	message_header_drop_capture(&t->header);
	count_captured(t, 0);
	return t->writer != NULL;
}

static void add_recipients(struct transaction *t)
{
	struct message *m = t->message;
	struct recipient *all = pool_alloc(m->pool, t->n_taken * sizeof(*all));

	for (uint32_t i = 0; i < m->n_deliveries; i++) {
		struct delivery_spec *d = &m->deliveries[i];

		d->recipients = all;
		all += d->n_recipients;
		d->n_recipients = 0;
	}
	for (uint32_t i = 0; i < t->n_rcpts; i++) {
		const struct transaction_rcpt *rcpt = &t->rcpts[i];
		struct delivery_spec *d;

		if (rcpt->verdict != REPLY_NONE)
			continue;
		d = &m->deliveries[rcpt->delivery];
		d->recipients[d->n_recipients++] = (struct recipient){
		        .address = rcpt->address,
		        .orcpt = rcpt->orcpt,
		        .notify = rcpt->notify,
		};
	}
}

struct message *transaction_take_message(struct transaction *t, struct body *takes)
{
	struct message *m = t->message;

	m->n_deliveries = t->deliveries.n;
	m->deliveries = pool_alloc(m->pool, t->deliveries.n * sizeof(*m->deliveries));
	memcpy(m->deliveries, t->deliveries.specs, t->deliveries.n * sizeof(*m->deliveries));
	t->deliveries.n = 0; /* what they count is the message's now */
	add_recipients(t);
	if (t->scan.flags & SCAN_8BIT)
		m->flags |= MESSAGE_8BIT;
	if (t->header.has_8bit)
		m->flags |= MESSAGE_UTF8_HEADER;
	if (t->scan.flags & SCAN_DOT_LINES)
		m->flags |= MESSAGE_DOT_LINES;
	if (message_header_tls_optional(&t->header) && (m->flags & MESSAGE_REQUIRETLS) == 0)
		m->flags |= MESSAGE_TLS_OPTIONAL;
	m->flags |= message_dsn_flags(m);
	m->body = takes;
	m->body_size = body_size(takes);
	m->header_size = t->trace_size + (uint32_t)t->header.kept;
	t->message = NULL;
	return m;
}
