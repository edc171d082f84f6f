#include "queue/queue_in.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"
#include "report/dsn.h"

/*
 * Reports of failure, and of delivery where the sender asked for them and the next hop does not take over that duty
 * (RFC 3461 5.2.2). What was asked (NOTIFY, RET) is in the original's envelope, so it is looked at when that is read.
 *
 * The way of a DSN: the original's envelope and header are read back, the report is rendered and written as a body,
 * then the message and the results of what it reports go to the spool as one batch, the DSN first: a crash leaves
 * either both or neither, and then the delivery fails once more. Until then the delivery waits in BOUNCING with its
 * failed recipients here. A full or sick disk only makes it wait.
 */

#define UNDER_WAY_MAX 200
#define WAITING_MAX 10000
#define HEADER_MAX (64 * 1024)
#define RETRY_US (60 * SECOND_US)
#define LOADS_MAX 3 /* then the report goes without what could not be read */

enum told { TOLD_FAILED, TOLD_RELAYED, TOLD_DELIVERED };

struct failed {
	enum told told;
	uint32_t number;
	char *address, *diagnostic, *remote_mta;
	char enhanced[12];
	bool remote;
};

struct bounce {
	struct queue *q;
	struct link link; /* in q->bounces */
	uint32_t no;
	uint64_t id;
	struct failed *failed; /* and delivered ones, when that is to be told */
	uint32_t n, size, n_failed;
	bool record_when_read; /* all is delivered: once the original has been read nothing holds it any more */
	enum delivery_state then;
	uint64_t due_us;
	unsigned loads;
	struct timer retry;
	struct spool_load load;
	bool loading, writing, adding; /* an answer is due */
	struct message *original;
	struct body_cursor *cursor;
	struct str header; /* of the original; all of it if `whole` */
	bool whole;
	struct message *dsn;
};

bool bounce_wanted(const struct queue *q, const struct delivery *d, const struct deliv_options *o)
{
	(void)q;
	return o->generate_bounces && !(d->flags & MESSAGE_DSN) && packed_sender(d->packed)[0];
}

bool bounces_full(const struct queue *q)
{
	return q->n_bounces >= UNDER_WAY_MAX;
}

bool bounces_overfull(const struct queue *q)
{
	return q->n_bounces >= WAITING_MAX;
}

void bounces_wait(struct hop_queue *hq)
{
	link_remove(&hq->work);
	link_add_tail(&hq->q->bounce_blocked, &hq->work);
}

static void load(void *ctx);

struct bounce *bounce_new(struct queue *q, uint32_t no)
{
	struct bounce *b = mem_zalloc(sizeof(*b));
	b->q = q;
	b->no = no;
	b->id = delivery_at(q->slab, no)->id;
	link_init(&b->link);
	link_add_tail(&q->bounces, &b->link);
	q->n_bounces++;
	timer_init(&b->retry, load, b);
	str_init(&b->header);
	return b;
}

static struct failed *add(
        struct bounce *b, const struct packed_recipient *r, const struct outcome *o, const char *mx)
{
	if (b->n == b->size) {
		b->size = b->size ? b->size * 2 : 4;
		b->failed = mem_array(b->failed, b->size, sizeof(*b->failed));
	}
	struct failed *f = &b->failed[b->n++];
	*f = (struct failed){.number = r->number};
	f->address = mem_strdup(r->address);
	f->remote = !o->ours;
	f->remote_mta = mx && !o->ours ? mem_strdup(mx) : NULL;
	struct str said;
	str_init(&said);
	outcome_print(o, &said);
	f->diagnostic = str_steal(&said);
	return f;
}

void bounce_add(struct bounce *b, const struct packed_recipient *r, const struct outcome *o,
        const char *enhanced, const char *mx)
{
	struct failed *f = add(b, r, o, mx);
	b->n_failed++;
	const char *text = enhanced ? enhanced : o->enhanced[0] ? o->enhanced : "5.0.0";
	/* a report of failure says 5.x.x, whatever class the last reply had */
	snprintf(f->enhanced, sizeof(f->enhanced), "%s", text);
	f->enhanced[0] = '5';
}

void bounce_add_delivered(struct bounce *b, const struct packed_recipient *r, const struct outcome *o,
        const struct session_facts *facts)
{
	struct failed *f = add(b, r, o, facts->mx);
	f->told = facts->lmtp ? TOLD_DELIVERED : TOLD_RELAYED;
	snprintf(f->enhanced, sizeof(f->enhanced), "%s", o->enhanced[0] == '2' ? o->enhanced : "2.0.0");
}

static void bounce_free(struct bounce *b)
{
	assert(!b->loading && !b->writing && !b->adding);
	link_remove(&b->link);
	b->q->n_bounces--;
	timer_cancel(b->q->loop, &b->retry);
	for (uint32_t i = 0; i < b->n; i++) {
		free(b->failed[i].address);
		free(b->failed[i].diagnostic);
		free(b->failed[i].remote_mta);
	}
	free(b->failed);
	body_cursor_free(&b->cursor);
	message_unref(&b->original);
	str_free(&b->header);
	free(b);
}

static void again_later(struct bounce *b)
{
	body_cursor_free(&b->cursor);
	message_unref(&b->original);
	str_clear(&b->header);
	timer_arm_in(b->q->loop, &b->retry, RETRY_US);
}

static void unblock(struct queue *q)
{
	queue_kick(q); /* a change may wait for it */
	while (link_linked(&q->bounce_blocked)) {
		struct hop_queue *hq = container_of(q->bounce_blocked.next, struct hop_queue, work);
		link_remove(&hq->work);
		hop_queue_work(hq);
	}
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */

static void go_on(struct bounce *b)
{
	struct queue *q = b->q;
	bool hold = delivery_at(q->slab, b->no)->hold;
	if (b->then != DELIVERY_FREE && hold != (b->then == DELIVERY_HELD)) {
		/* held, or released, meanwhile */
		b->then = hold ? DELIVERY_HELD : DELIVERY_READY;
		result_record(q, queue_results(q), b->no, 0, hold, NULL);
	}
	if (b->then == DELIVERY_FREE)
		delivery_drop(q, b->no);
	else if (b->then == DELIVERY_READY)
		delivery_put_back(q, b->no);
	else
		delivery_enter(q, b->no, b->then, b->due_us);
	bounce_free(b);
	unblock(q);
}

static void dsn_event(struct bounce *b, uint64_t dsn_id)
{
	struct queue *q = b->q;
	const struct delivery *d = delivery_at(q->slab, b->no);
	char id[ID_TEXT_SIZE];
	struct event e = {
	        .type = EVENT_DSN,
	        .id = b->id,
	        .binding = binding_name(q, binding_at(q, d->binding)),
	        .group = binding_group_name(binding_at(q, d->binding)),
	        .sender = "",
	        .recipient = packed_sender(d->packed),
	        .count = b->n,
	        .detail = id_print(dsn_id, id),
	};
	event_post(q->events, &e);
	metric_add(q->m.dsns, 1);
}

/* First member, because whoever takes the last of the two mails frees the struct by it. */
struct dsn_add {
	struct spool_add add;
	struct bounce *b;
	uint64_t id;
};

static void added(struct mail *mail)
{
	struct dsn_add *a = container_of(mail, struct dsn_add, add.reply);
	struct bounce *b = a->b;
	enum spool_result result = a->add.result;
	uint64_t dsn_id = a->id;
	if (atomic_fetch_sub(&a->add.refs, 1) == 1)
		mem_free(&a);
	b->adding = false;
	if (result != SPOOL_STORED) {
		again_later(b);
		return;
	}
	dsn_event(b, dsn_id);
	go_on(b);
}

static void store(struct bounce *b, struct body *takes)
{
	struct queue *q = b->q;
	struct dsn_add *a = mem_zalloc(sizeof(*a));
	struct spool_add *add = &a->add;
	a->b = b;
	a->id = b->dsn->id;
	add->message = b->dsn;
	b->dsn = NULL;
	add->message->body = takes;
	add->message->body_size = body_size(takes);
	add->queue_loop = q->loop;
	add->queue_mail.take = queue_enqueue_mail;
	add->ctx = q;
	add->reply_loop = q->loop;
	add->reply.take = added;
	add->results = spool_results_new();
	if (b->n_failed > 0 || b->then != DELIVERY_FREE)
		result_record(q, add->results, b->no, b->due_us, b->then == DELIVERY_HELD, NULL);
	atomic_init(&add->refs, 2);
	b->adding = true;
	spool_add(q->spool, add);
}

static void written(void *ctx, struct body *takes, enum body_error error)
{
	struct bounce *b = ctx;
	b->writing = false;
	if (error != BODY_OK) {
		body_unref(&takes);
		message_unref(&b->dsn);
		again_later(b);
		return;
	}
	store(b, takes);
}

/* --- the report ------------------------------------------------------------------------------------------------------- */

static struct message *dsn_message(struct bounce *b, const char *to)
{
	struct queue *q = b->q;
	struct mailaddr parts;
	char domain[DOMAIN_MAX + 64] = "";
	struct message *m = message_new();
	struct delivery_spec *spec = pool_alloc(m->pool, sizeof(*spec));
	struct recipient *r = pool_alloc(m->pool, sizeof(*r));
	if (mailaddr_split(to, strlen(to), &parts) && parts.domain_len &&
	        !domain_normalize(parts.domain, parts.domain_len, domain, NULL))
		domain[0] = 0;
	m->id = spool_new_id(q->spool);
	m->received_wall_us = loop_wall_us(q->loop);
	m->flags = MESSAGE_DSN;
	if (!utf8_is_ascii(to)) /* then its header names it, too */
		m->flags |= MESSAGE_SMTPUTF8 | MESSAGE_UTF8_HEADER;
	m->sender = "";
	r->address = pool_strdup(m->pool, to);
	spec->target = pool_strdup(m->pool, NOTIFY_BINDING);
	spec->rule = "";
	spec->domain = pool_strdup(m->pool, domain);
	spec->recipients = r;
	spec->n_recipients = 1;
	m->deliveries = spec;
	m->n_deliveries = 1;
	return m;
}

/* The recipient as it came in; NULL if that could not be read. */
static const struct recipient *original_of(const struct bounce *b, const struct failed *f)
{
	const struct delivery *d = delivery_at(b->q->slab, b->no);
	const struct message *m = b->original;
	if (d->index >= m->n_deliveries || f->number >= m->deliveries[d->index].n_recipients)
		return NULL;
	return &m->deliveries[d->index].recipients[f->number];
}

/* RFC 3461 4.1: without NOTIFY failures are told. */
static bool asked_for(const struct bounce *b, const struct failed *f)
{
	const struct recipient *r = original_of(b, f);
	unsigned notify = r ? r->notify & (NOTIFY_NEVER | NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY) : 0;
	if (f->told != TOLD_FAILED)
		return (notify & NOTIFY_SUCCESS) != 0;
	return notify == 0 || (notify & NOTIFY_FAILURE) != 0;
}

/* Those that nobody wants to hear of go; true if some are left. */
static bool drop_unwanted(struct bounce *b)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < b->n; i++) {
		struct failed f = b->failed[i];
		if (asked_for(b, &f)) {
			b->failed[n++] = f;
			continue;
		}
		free(f.address);
		free(f.diagnostic);
		free(f.remote_mta);
	}
	b->n = n;
	return n > 0;
}

static void render(struct bounce *b, struct str *out)
{
	static const char *const actions[] = {
	        [TOLD_FAILED] = "failed", [TOLD_RELAYED] = "relayed", [TOLD_DELIVERED] = "delivered"};
	struct queue *q = b->q;
	const char *hostname = conf_process(q->conf)->hostname;
	char *from = mem_printf("MAILER-DAEMON@%s", hostname);
	struct dsn_recipient *recipients = mem_array(NULL, b->n, sizeof(*recipients));
	for (uint32_t i = 0; i < b->n; i++) {
		const struct failed *f = &b->failed[i];
		const struct recipient *r = original_of(b, f);
		recipients[i] = (struct dsn_recipient){
		        .final_recipient = f->address,
		        .orcpt = r ? r->orcpt : NULL,
		        .orcpt_is_final = r && (r->notify & NOTIFY_ORCPT_SAME) != 0,
		        .action = actions[f->told],
		        .status = f->enhanced,
		        .diagnostic = f->diagnostic,
		        .diagnostic_is_remote = f->remote,
		        .remote_mta = f->remote_mta,
		};
	}
	struct dsn dsn = {
	        .original = b->original,
	        .recipients = recipients,
	        .n_recipients = b->n,
	        .reporting_mta = hostname,
	        .from = from,
	        .now_wall_us = loop_wall_us(q->loop),
	        .dsn_id = b->dsn->id,
	        .headers = b->header.len ? b->header.data : NULL,
	        .headers_len = b->header.len,
	        .whole = b->whole,
	};
	dsn_print(&dsn, out);
	mem_free(&recipients);
	mem_free(&from);
}

/* Up to and including the empty line. */
static uint32_t header_bytes(const char *text, size_t len)
{
	const char *end = memmem(text, len, "\r\n\r\n", 4);
	return end ? (uint32_t)(end - text + 4) : (uint32_t)len;
}

static void record_gone(struct bounce *b);

static void write_report(struct bounce *b)
{
	struct queue *q = b->q;
	const struct delivery *d = delivery_at(q->slab, b->no);
	struct str text;
	if (b->record_when_read)
		record_gone(b);
	b->record_when_read = false;
	if (!drop_unwanted(b)) {
		if (b->n_failed > 0 || b->then != DELIVERY_FREE)
			result_record(q, queue_results(q), b->no, b->due_us, b->then == DELIVERY_HELD, NULL);
		go_on(b);
		return;
	}
	b->dsn = dsn_message(b, packed_sender(d->packed));
	str_init(&text);
	render(b, &text);
	b->dsn->flags |= message_text_flags(text.data, text.len); /* the original's header is in it */
	struct body_writer *w = body_writer_new(q->spool, q->loop, text.len);
	if (w) {
		b->dsn->header_size = header_bytes(text.data, text.len);
		body_writer_add(w, text.data, text.len);
		b->writing = true;
		body_writer_finish(w, written, b);
	} else {
		message_unref(&b->dsn);
		again_later(b);
	}
	str_free(&text);
}

/* --- the original ------------------------------------------------------------------------------------------------------- */

static void read_header(void *ctx)
{
	struct bounce *b = ctx;
	struct iovec iov[8];
	unsigned n;
	uint64_t want = b->whole ? b->original->body_size : b->original->header_size;
	if (want > HEADER_MAX)
		want = HEADER_MAX;
	while (b->header.len < want) {
		enum body_peek peek = body_cursor_peek(b->cursor, iov, array_len(iov), &n);
		if (peek == BODY_WAIT)
			return;
		if (peek != BODY_READY)
			break; /* a report without the header is better than none */
		size_t taken = 0;
		for (unsigned i = 0; i < n && b->header.len < want; i++) {
			size_t bytes = iov[i].iov_len;
			if (bytes > want - b->header.len)
				bytes = want - b->header.len;
			str_add_mem(&b->header, iov[i].iov_base, bytes);
			taken += iov[i].iov_len;
		}
		body_cursor_advance(b->cursor, taken);
	}
	body_cursor_free(&b->cursor);
	b->whole = b->whole && b->header.len == b->original->body_size;
	write_report(b);
}

static void wake_header(void *ctx)
{
	struct bounce *b = ctx;
	if (b->cursor)
		read_header(b);
}

/* What the queue itself knows, when the original cannot be read. */
static struct message *original_from_memory(struct bounce *b)
{
	const struct delivery *d = delivery_at(b->q->slab, b->no);
	struct message *m = message_new();
	m->id = b->id;
	m->sender = pool_strdup(m->pool, packed_sender(d->packed));
	m->received_wall_us = loop_wall_us(b->q->loop) - delivery_age_us(b->q, d);
	m->body_size = d->size;
	return m;
}

static void loaded(struct mail *mail)
{
	struct spool_load *l = container_of(mail, struct spool_load, reply);
	struct bounce *b = container_of(l, struct bounce, load);
	const struct delivery *d = delivery_at(b->q->slab, b->no);
	b->loading = false;
	if (!l->message && b->record_when_read)
		b->loads = LOADS_MAX; /* a report of success is not worth delivering twice */
	if (!l->message && ++b->loads < LOADS_MAX) {
		log_warning("cannot read back message %016llx for its DSN: %s", (unsigned long long)b->id,
		        l->error.text);
		again_later(b);
		return;
	}
	b->original = l->message ? l->message : original_from_memory(b);
	l->message = NULL;
	if (b->loads >= LOADS_MAX) {
		write_report(b);
		return;
	}
	/* RFC 3461 4.3, as long as it is small; of what was delivered the header will do, and of what demanded REQUIRETLS
	 * nothing more may be told where it may not be kept up (RFC 8689 5) */
	b->whole = b->n_failed > 0 && b->original->ret == RET_FULL && b->original->body_size <= HEADER_MAX &&
	           (b->original->flags & MESSAGE_REQUIRETLS) == 0;
	b->cursor = body_cursor_new(b->q->spool, b->q->loop, b->id, d->body, 0, wake_header, b);
	read_header(b);
}

static void load(void *ctx)
{
	struct bounce *b = ctx;
	b->load = (struct spool_load){.id = b->id, .reply_loop = b->q->loop};
	b->load.reply.take = loaded;
	b->loading = true;
	spool_load(b->q->spool, &b->load);
}

/* --- the beginning -------------------------------------------------------------------------------------------------------- */

/* Delivered recipients must not be tried again after a crash; the failed ones are still open. */
static void record_gone(struct bounce *b)
{
	struct queue *q = b->q;
	struct delivery *d = delivery_at(q->slab, b->no);
	struct packed_walk w;
	uint32_t n = 0, *open = mem_array(NULL, d->n_open + b->n, sizeof(*open));
	packed_walk_init(&w, d->packed);
	for (uint32_t i = 0; i < d->n_open; i++)
		open[n++] = packed_walk_next(&w).number;
	for (uint32_t i = 0; i < b->n; i++) {
		if (b->failed[i].told == TOLD_FAILED)
			open[n++] = b->failed[i].number;
	}
	struct spool_state state = {
	        .attempts = d->attempts,
	        .last_reply = last_reply_text(q, d),
	        .last_attempt_wall_us = d->last_s * SECOND_US,
	        .open = open,
	        .n_open = n,
	};
	if (n > 0)
		spool_results_state(queue_results(q), d->id, d->index, &state);
	else
		spool_results_done(queue_results(q), d->id, d->index);
	mem_free(&open);
}

void bounce_start(struct bounce *b, enum delivery_state then, uint64_t due_us, bool some_gone)
{
	b->then = then;
	b->due_us = due_us;
	delivery_enter(b->q, b->no, DELIVERY_BOUNCING, 0);
	b->record_when_read = some_gone && b->n_failed == 0 && delivery_at(b->q->slab, b->no)->n_open == 0;
	if (some_gone && !b->record_when_read)
		record_gone(b);
	load(b);
}

/* The loop no longer runs: answers will not come. What is open will fail again after the next start. */
void bounces_free(struct queue *q)
{
	while (link_linked(&q->bounces)) {
		struct bounce *b = container_of(q->bounces.next, struct bounce, link);
		b->loading = b->writing = b->adding = false;
		message_unref(&b->dsn);
		bounce_free(b);
	}
}
