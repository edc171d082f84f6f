#include "queue/queue_in.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * One change after the other, each a slice at a time. Its cursor is the number of a delivery, or of an id it was given;
 * what has come since it began has a higher id. Results are written down as it goes, and no faster than the spool
 * commits, so that fresh mail goes on.
 */

#define ITEMS_MAX 25
#define CHANGES_MAX 16
#define READS_MAX 32 /* headers being read back at once */

struct change {
	struct queue *q;
	struct queue_change *c;
	struct link link;
	uint64_t before_id;
	uint32_t at;    /* the next delivery, or the next of its ids */
	uint32_t of_id; /* the next delivery of that id */
	uint32_t top;   /* of the slab when it began */
	uint64_t matched, changed, sending;
	uint64_t began_us;
	struct json_out out;
	unsigned items;
	struct link reads; /* of headers */
	unsigned n_reads;
	uint64_t unreadable, unknown;
	const char *to;    /* the request's, or where the policy sends the delivery at hand */
	uint64_t wait_seq; /* answered when so many notes are back */
};

const char *queue_change_name(enum queue_change_kind kind)
{
	static const char *const names[] = {"flush", "delay", "hold", "release", "fail", "delete", "rebind",
	        "reroute", "suspend", "resume", "drain"};
	return names[kind];
}

/* --- one delivery ----------------------------------------------------------------------------------------- */

static bool with_others(const struct delivery *d)
{
	return d->state == DELIVERY_OUT || d->state == DELIVERY_BOUNCING;
}

/* Whether the change means a delivery in that state at all. */
static bool applies(enum queue_change_kind kind, const struct delivery *d)
{
	switch (kind) {
	case QUEUE_FLUSH:
	case QUEUE_DELAY:
	case QUEUE_HOLD:
		return d->state != DELIVERY_HELD && !d->hold;
	case QUEUE_RELEASE:
		return d->state == DELIVERY_HELD || d->hold;
	default:
		return true;
	}
}

/* Many at once may be spread; who names messages wants them now. */
static void released(struct change *c, uint32_t no)
{
	if (c->c->select.n_id > 0)
		delivery_enter(c->q, no, DELIVERY_READY, 0);
	else
		place_spread(c->q, no);
}

/* Mail at a group's own place waits for any of its members. */
static void recall_proxies(struct queue *q, struct binding *b)
{
	proxies_recall(b);
	if (b->kind != BINDING_GROUP)
		return;
	const struct conf_group *group = conf_group_named(q->conf, binding_name(q, b) + strlen("group:"));
	for (size_t i = 0; group && i < group->n_members; i++) {
		struct binding *member = binding_find(q, conf_binding(q->conf, group->members[i])->name);
		if (member)
			proxies_recall(member);
	}
}

static void now_ready(struct change *c, uint32_t no)
{
	struct queue *q = c->q;
	struct delivery *d = delivery_at(q->slab, no);
	struct traffic *t = d->hq->traffic;
	health_recall(q->health, d->binding, c->began_us);
	recall_proxies(q, binding_at(q, d->binding));
	if (t && t->backoff_until_us) {
		t->backoff_until_us = 0;
		timer_cancel(q->loop, &t->backoff);
		hop_queue_work(d->hq);
	}
	if (d->state != DELIVERY_READY)
		released(c, no);
}

static void fail_one(struct change *c, uint32_t no)
{
	struct outcome o;
	outcome_own(&o, OUTCOME_PERMANENT, STATE_RESOLVE, c->c->code, c->c->enhanced, "%s", c->c->text);
	result_fail(c->q, no, &o, &c->c->select, !c->c->no_dsn);
}

static void change_one(struct change *c, uint32_t no)
{
	struct queue *q = c->q;
	uint64_t due;
	switch (c->c->kind) {
	case QUEUE_FLUSH: /* not written down: a restart finds the old time */
		now_ready(c, no);
		break;
	case QUEUE_DELAY:
		due = queue_now(q) + c->c->for_us;
		delivery_forget_body(delivery_at(q->slab, no));
		delivery_enter(q, no, DELIVERY_DEFERRED, due);
		result_record(q, queue_results(q), no, due, false, NULL);
		break;
	case QUEUE_HOLD:
		delivery_forget_body(delivery_at(q->slab, no));
		delivery_enter(q, no, DELIVERY_HELD, 0);
		result_record(q, queue_results(q), no, 0, true, NULL);
		break;
	case QUEUE_RELEASE:
		released(c, no);
		result_record(q, queue_results(q), no, 0, false, NULL);
		break;
	case QUEUE_FAIL:
		fail_one(c, no);
		break;
	case QUEUE_DELETE:
		result_delete(q, no, &c->c->select);
		break;
	case QUEUE_REBIND:
		place_move(q, no, c->to);
		break;
	case QUEUE_REROUTE:
		place_reroute(q, no, c->to);
		break;
	case QUEUE_SUSPEND:
	case QUEUE_RESUME:
	case QUEUE_DRAIN:
		assert(!"no change of deliveries");
	}
	c->changed++;
}

/* With a session or a DSN: it cannot be taken back, but a hold or a move can wait for it. */
static void change_later(struct change *c, uint32_t no)
{
	struct delivery *d = delivery_at(c->q->slab, no);
	if (c->c->kind == QUEUE_REBIND) {
		move_later(c->q, no, c->to);
		c->changed++;
	} else if (c->c->kind == QUEUE_REROUTE) {
		reroute_later(c->q, no, c->to);
		c->changed++;
	} else if (c->c->kind == QUEUE_HOLD || c->c->kind == QUEUE_RELEASE) {
		d->hold = c->c->kind == QUEUE_HOLD;
		c->changed++;
	} else {
		c->sending++;
	}
}

static void take_one(struct change *c, uint32_t no)
{
	struct delivery *d = delivery_at(c->q->slab, no);
	c->matched++;
	if (c->c->dry_run) {
		if (c->items++ < ITEMS_MAX)
			answer_row(c->q, &c->out, d);
	} else if (with_others(d)) {
		change_later(c, no);
	} else {
		change_one(c, no);
	}
}

static bool is_there(const struct change *c, uint32_t no)
{
	if (c->c->kind == QUEUE_REBIND)
		return c->to && move_is_there(c->q, no, c->to);
	return c->c->kind == QUEUE_REROUTE && reroute_is_there(c->q, no, c->to);
}

static bool wanted(const struct change *c, uint32_t no)
{
	const struct delivery *d = delivery_at(c->q->slab, no);
	return d->state != DELIVERY_FREE && d->id < c->before_id && applies(c->c->kind, d) &&
	       !is_there(c, no) && select_delivery(c->q, &c->c->select, d);
}

static void take_read(struct change *c, uint32_t no, const char *header, size_t len)
{
	bool known;
	if (!c->c->policy) {
		take_one(c, no);
		return;
	}
	char *to = rebind_by_policy(c->q, no, header, len, &known);
	c->unknown += !known;
	c->to = to;
	if (to && !is_there(c, no))
		take_one(c, no);
	c->to = NULL;
	mem_free(&to);
}

static void header_come(void *ctx, uint32_t no, const char *header, size_t len)
{
	struct change *c = ctx;
	c->n_reads--;
	if (!header)
		c->unreadable++;
	else if (no && wanted(c, no) && (!c->c->select.header.n || select_header(&c->c->select, header, len)))
		take_read(c, no, header, len);
	queue_kick(c->q);
}

static void take_or_read(struct change *c, uint32_t no)
{
	if (c->c->select.header.n == 0 && !c->c->policy) {
		take_one(c, no);
		return;
	}
	c->n_reads++;
	header_read_start(c->q, &c->reads, no, header_come, c);
}

/* --- all of them -------------------------------------------------------------------------------------------- */

/* The next number to look at; 0 = the end. */
static uint32_t next_number(struct change *c)
{
	const struct selection *s = &c->c->select;
	struct delivery_slab *slab = c->q->slab;
	if (c->q->stopping)
		return 0; /* what was done is told */
	if (s->n_id == 0)
		return c->at < c->top ? c->at++ : 0;
	while (!c->of_id && c->at < s->n_id)
		c->of_id = delivery_index_find(slab, s->id[c->at++]);
	uint32_t no = c->of_id;
	if (no)
		c->of_id = delivery_index_next(slab, no); /* `no` may be gone after this */
	return no;
}

/* The spool keeps up, and so do the DSNs. */
static bool may_go_on(const struct change *c)
{
	if (c->n_reads >= READS_MAX)
		return false;
	if (c->c->dry_run)
		return true;
	return queue_may_record(c->q) && !(c->c->kind == QUEUE_FAIL && bounces_full(c->q));
}

static void answer(struct change *c)
{
	struct queue_change *request = c->c;
	link_remove(&c->link);
	free(c);
	loop_post(request->reply_loop, &request->reply);
}

static void await_commit(struct change *c)
{
	struct queue *q = c->q;
	link_remove(&c->link);
	c->wait_seq = q->notes_posted + (q->results ? 1 : 0);
	if (c->wait_seq <= q->notes_back)
		answer(c);
	else
		link_add_tail(&q->changes_done, &c->link);
}

void changes_committed(struct queue *q)
{
	while (link_linked(&q->changes_done)) {
		struct change *c = container_of(q->changes_done.next, struct change, link);
		if (c->wait_seq > q->notes_back)
			return;
		answer(c);
	}
}

static void admin_event(struct queue *q, const struct queue_change *c, uint64_t count)
{
	struct str what;
	str_init(&what);
	select_print(&c->select, &what);
	if (c->to)
		str_printf(&what, " to %s", c->to);
	if (c->policy)
		str_add(&what, " by policy");
	struct event e = {.type = EVENT_ADMIN,
	        .reason = queue_change_name(c->kind),
	        .who = c->who,
	        .has_count = true,
	        .count = count,
	        .detail = what.data};
	event_post(q->events, &e);
	log_notice("%s by %s: %llu changed (%s)", e.reason, c->who, (unsigned long long)count, what.data);
	str_free(&what);
}

static void finish(struct change *c)
{
	struct json_out *out = &c->out;
	if (c->c->dry_run)
		jw_end_array(out);
	jw_bool(out, "dry_run", c->c->dry_run);
	jw_uint(out, "matched", c->matched);
	jw_uint(out, "changed", c->changed);
	jw_uint(out, "sending", c->sending);
	if (c->c->select.header.n || c->c->policy)
		jw_uint(out, "unreadable", c->unreadable);
	if (c->c->policy)
		jw_uint(out, "unknown", c->unknown);
	jw_end_object(out);
	if (!c->c->dry_run && c->changed > 0) {
		if (c->c->kind == QUEUE_REBIND)
			event_rebind(c->q, c->c->to, &c->c->select, c->changed, c->c->who);
		if (c->c->kind == QUEUE_REROUTE)
			event_reroute(c->q, c->c->to, &c->c->select, c->changed, c->c->who);
		admin_event(c->q, c->c, c->changed);
	}
	await_commit(c);
}

void changes_some(struct queue *q, struct slice *slice)
{
	while (link_linked(&q->changes)) {
		struct change *c = container_of(q->changes.next, struct change, link);
		uint32_t no;
		if (!may_go_on(c))
			return; /* a commit, or the end of a DSN, brings us back */
		if (slice_over(slice)) {
			queue_kick(q);
			return;
		}
		if (!(no = next_number(c))) {
			if (c->n_reads > 0)
				return;
			finish(c);
			continue;
		}
		if (wanted(c, no))
			take_or_read(c, no);
	}
}

/* --- suspend, resume ------------------------------------------------------------------------------------------ */

static void refuse(struct queue_change *c, enum queue_change_result result, char *takes)
{
	struct json_out out;
	json_out_init(&out, &c->json);
	jw_object(&out, NULL);
	jw_str(&out, "error", takes);
	jw_end_object(&out);
	c->result = result;
	free(takes);
}

static bool target_known(const struct queue *q, const char *target)
{
	if (strncmp(target, "group:", 6) == 0)
		return conf_group_named(q->conf, target + 6) != NULL;
	const struct binding *b = binding_find(q, target);
	return b && b->conf;
}

/* True if something was done, so that there is something to wait for. */
static bool suspend_or_resume(struct queue *q, struct queue_change *c)
{
	const char *target = c->select.binding.at[0];
	const char *domain = c->select.domain.n ? c->select.domain.at[0] : NULL;
	struct json_out out;
	uint64_t until = 0;
	bool done = true;
	if (!target_known(q, target) && !suspended_target(q, target, domain)) {
		refuse(c, CHANGE_UNKNOWN, mem_printf("there is no binding %s", target));
		return false;
	}
	if (!c->dry_run && c->kind == QUEUE_SUSPEND)
		until = suspend_begin(q, target, domain, c->for_us, c->who, NULL);
	else if (!c->dry_run)
		done = suspend_end(q, target, domain, c->who);
	if (!done) {
		refuse(c, CHANGE_REFUSED,
		        mem_printf("%s is not suspended by command or by a response rule (what "
		                   "suspend_delivery in "
		                   "the configuration suspends is resumed there)",
		                target));
		return false;
	}
	if (!c->dry_run)
		admin_event(q, c, 1);
	json_out_init(&out, &c->json);
	jw_object(&out, NULL);
	jw_str(&out, "binding", target);
	if (domain)
		jw_str(&out, "domain", domain);
	jw_str(&out, "state", c->kind == QUEUE_SUSPEND ? "suspended" : "normal");
	if (until)
		jw_time(&out, "until", until);
	jw_end_object(&out);
	return true;
}

/* --- drain ----------------------------------------------------------------------------------------------------- */

/* NULL, or why not (to be freed) */
static char *cannot_drain(const struct queue *q, const char *target, const char *to)
{
	const struct binding *b = binding_find(q, target), *other = binding_find(q, to);
	const char *further = alias_of(q, to), *group = other ? binding_group_name(other) : NULL;
	if (!target_known(q, target) && !(b && b->counts.active + b->counts.deferred + b->counts.held > 0) &&
	        !alias_of(q, target))
		return mem_printf("there is no binding %s", target);
	if (strcmp(target, to) == 0)
		return mem_printf("%s cannot be drained to itself", target);
	if (further)
		return mem_printf("%s is itself drained to %s: resume it first", to, further);
	if (group && strncmp(target, "group:", 6) == 0 && strcmp(target + 6, group) == 0)
		return mem_printf("%s is one of %s, which is to be drained", to, target);
	return NULL;
}

static bool drain(struct queue *q, struct queue_change *c)
{
	const char *target = c->select.binding.at[0];
	const struct binding *b = binding_find(q, target);
	uint64_t queued = b ? (uint64_t)b->counts.active + b->counts.deferred + b->counts.held : 0;
	char *why = cannot_drain(q, target, c->to);
	struct json_out out;
	uint64_t until = 0;
	if (why) {
		refuse(c, CHANGE_REFUSED, why);
		return false;
	}
	if (!c->dry_run) {
		(void)suspend_begin(q, target, NULL, 0, c->who, NULL);
		until = alias_begin(q, target, c->to, c->who);
		admin_event(q, c, queued);
	}
	json_out_init(&out, &c->json);
	jw_object(&out, NULL);
	jw_str(&out, "binding", target);
	jw_str(&out, "to", c->to);
	jw_uint(&out, "queued", queued);
	if (until)
		jw_time(&out, "until", until);
	jw_end_object(&out);
	return true;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static unsigned length(const struct link *head)
{
	unsigned n = 0;
	for (const struct link *l = head->next; l != head; l = l->next)
		n++;
	return n;
}

static void begin(struct mail *mail)
{
	struct queue_change *request = container_of(mail, struct queue_change, mail);
	struct queue *q = request->queue;
	bool binding = request->kind >= QUEUE_SUSPEND;
	str_init(&request->json);
	request->result = CHANGE_DONE;
	if (q->stopping || length(&q->changes) >= CHANGES_MAX) {
		refuse(request, CHANGE_REFUSED,
		        mem_strdup(q->stopping ? "deliveryd is stopping" : "too many changes are under way"));
		loop_post(request->reply_loop, &request->reply);
		return;
	}
	bool to_binding = request->to && request->kind != QUEUE_REROUTE;
	if (to_binding && !policy_target_known(q->conf, request->to)) {
		refuse(request, CHANGE_UNKNOWN, mem_printf("there is no binding %s", request->to));
		loop_post(request->reply_loop, &request->reply);
		return;
	}
	if (binding && !(request->kind == QUEUE_DRAIN ? drain(q, request) : suspend_or_resume(q, request))) {
		loop_post(request->reply_loop, &request->reply);
		return;
	}
	struct change *c = mem_zalloc(sizeof(*c));
	c->q = q;
	c->c = request;
	c->to = request->to;
	c->began_us = queue_now(q);
	link_init(&c->link);
	link_init(&c->reads);
	if (binding) {
		await_commit(c);
		return;
	}
	c->before_id = spool_new_id(q->spool);
	c->top = delivery_top(q->slab);
	c->at = request->select.n_id ? 0 : 1;
	json_out_init(&c->out, &request->json);
	jw_object(&c->out, NULL);
	if (request->dry_run)
		jw_array(&c->out, "items");
	link_add_tail(&q->changes, &c->link);
	queue_kick(q);
}

void queue_change(struct queue_change *c)
{
	c->mail.take = begin;
	loop_post(c->queue->loop, &c->mail);
}

void changes_free(struct queue *q)
{
	struct link *lists[] = {&q->changes, &q->changes_done};
	for (unsigned i = 0; i < array_len(lists); i++) {
		while (link_linked(lists[i])) {
			struct change *c = container_of(lists[i]->next, struct change, link);
			link_remove(&c->link);
			header_reads_cancel(&c->reads);
			free(c);
		}
	}
}
