#include "queue/queue_in.h"

#include <assert.h>
#include <string.h>

/* How many deliveries place_first() moves away in one go. */
#define MOVED_MAX 200
/* When enough DSNs are under way, mail that expires while it waits does so a little later. */
#define BOUNCE_LATER_US (5 * SECOND_US)

/* --- states and counts --------------------------------------------------------------------------------------- */

static uint32_t *count_for(struct counts *c, const struct hop_queue *hq, enum delivery_state state)
{
	if (state == DELIVERY_DEFERRED)
		return &c->deferred;
	if (state == DELIVERY_HELD || (state == DELIVERY_READY && hq->hold != HOLD_NONE))
		return &c->held;
	return &c->active;
}

static void count(struct queue *q, struct hop_queue *hq, enum delivery_state state, int change)
{
	if (state == DELIVERY_FREE)
		return;
	struct binding *b = binding_at(q, hq->key.binding);
	hq->n[state] += (uint32_t)change;
	q->n_state[state] += (uint32_t)change;
	*count_for(&b->counts, hq, state) += (uint32_t)change;
	*count_for(&q->counts, hq, state) += (uint32_t)change;
	binding_metrics_set(b);
}

static struct delivery_list *list_for(struct hop_queue *hq, const struct delivery *d)
{
	return &hq->ready[d->line];
}

/* Of high, normal and low: what the rule says, else the option. It stays as long as the delivery is in the list. */
static unsigned line_for(struct queue *q, const struct delivery *d)
{
	static const uint8_t lines[] = {[PRIORITY_HIGH] = 0, [PRIORITY_NORMAL] = 1, [PRIORITY_LOW] = 2};
	if (d->priority != PRIORITY_NONE)
		return lines[d->priority];
	return (unsigned)delivery_options(q, d)->priority; /* enum queue_priority is in that order */
}

static void change_state(struct queue *q, uint32_t no, enum delivery_state to, uint64_t due_us, bool at_head)
{
	struct delivery *d = delivery_at(q->slab, no);
	struct hop_queue *hq = d->hq;
	if (d->state == DELIVERY_READY)
		delivery_list_remove(q->slab, list_for(hq, d), no);
	else if (d->state == DELIVERY_DEFERRED)
		delivery_list_remove(q->slab, &hq->deferred, no);
	if ((d->state == DELIVERY_FREE) != (to == DELIVERY_FREE))
		binding_queued(binding_at(q, hq->key.binding), to == DELIVERY_FREE ? -1 : 1, d->size);
	count(q, hq, d->state, -1);
	d->state = to & 7;
	if (to == DELIVERY_HELD)
		d->hold = 0;
	count(q, hq, to, +1);
	if (to == DELIVERY_READY) {
		d->line = line_for(q, d) & 3;
		if (at_head)
			delivery_list_add_head(q->slab, list_for(hq, d), no);
		else
			delivery_list_add_tail(q->slab, list_for(hq, d), no);
	} else if (to == DELIVERY_DEFERRED) {
		delivery_list_add_tail(q->slab, &hq->deferred, no);
	}
	due_set(q->due, no, due_us);
	hop_queue_work(hq);
}

static struct hop_queue *queue_for(struct queue *q, struct delivery *d);

/* Back from a session or from its DSN: a reload may have come meanwhile. Or it goes to another member of its group. */
static void come_home(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	bool other_member = d->hq && d->binding != d->hq->key.binding;
	if (d->state != DELIVERY_OUT && d->state != DELIVERY_BOUNCING && !other_member)
		return;
	if (!move_pending(q, no) && !alias_means(q, d) &&
	        hop_key_same_place(&dest_get(q, binding_at(q, d->binding), d->domain)->key, &d->hq->key))
		return;
	struct hop_queue *to = queue_for(q, d);
	delivery_leave(q, no);
	d->hq = to;
}

void delivery_enter(struct queue *q, uint32_t no, enum delivery_state to, uint64_t due_us)
{
	if (to == DELIVERY_READY || to == DELIVERY_DEFERRED || to == DELIVERY_HELD)
		come_home(q, no);
	if (to == DELIVERY_READY)
		due_us = delivery_expiry_us(q, delivery_at(q->slab, no));
	else if (to != DELIVERY_DEFERRED)
		due_us = DUE_NEVER;
	change_state(q, no, to, due_us, false);
}

void delivery_put_back(struct queue *q, uint32_t no)
{
	come_home(q, no);
	change_state(q, no, DELIVERY_READY, delivery_expiry_us(q, delivery_at(q->slab, no)), true);
}

void delivery_leave(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	if (!d->hq)
		return;
	change_state(q, no, DELIVERY_FREE, DUE_NEVER, false);
	d->hq = NULL;
}

void delivery_forget_body(struct delivery *d)
{
	body_unref(&d->body);
}

void delivery_drop(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	delivery_leave(q, no);
	move_forget(q, no);
	delivery_index_remove(q->slab, no);
	if (d->packed)
		q->packed_bytes -= packed_size(d->packed, d->n_open);
	packed_free(&d->packed);
	if (d->body)
		body_unref(&d->body);
	intern_drop(q->names, d->domain);
	intern_drop(q->names, d->rule);
	intern_drop(q->names, d->group);
	intern_drop(q->names, d->client);
	intern_drop(q->replies, d->last);
	delivery_give(q->slab, no);
}

/* --- time ------------------------------------------------------------------------------------------------------ */

uint64_t delivery_age_us(const struct queue *q, const struct delivery *d)
{
	int64_t age = (int64_t)queue_now(q) - d->received_us;
	return age > 0 ? (uint64_t)age : 0;
}

const struct deliv_options *delivery_options(struct queue *q, const struct delivery *d)
{
	return &dest_get(q, binding_at(q, d->binding), d->domain)->deliv;
}

uint64_t delivery_expiry_us(struct queue *q, const struct delivery *d)
{
	int64_t at = d->received_us + (int64_t)(delivery_options(q, d)->message_expiration_s * SECOND_US);
	return at > 0 ? (uint64_t)at : 0;
}

bool delivery_not_to_be_attempted(struct queue *q, const struct delivery *d)
{
	return delivery_options(q, d)->never_attempt_expired_messages &&
	       delivery_expiry_us(q, d) <= queue_now(q);
}

/*
 * Mail that waits past its expiry: for a source address that is not here, or for a next hop nobody answers at, it is
 * given up. Else it has its attempt before it, and is given up when that fails.
 */
static void expired_waiting(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	const struct traffic *t = d->hq->traffic;
	struct outcome o;
	if (delivery_options(q, d)->never_attempt_expired_messages) {
		const char *last = last_reply_text(q, d);
		outcome_own(&o, OUTCOME_TRANSIENT, STATE_RESOLVE, 554, "5.4.7",
		        "Delivery not attempted (message expired)%s%s", last ? "; last reply: " : "",
		        last ? last : "");
		result_expire_waiting(q, no, &o, NULL);
	} else if (d->hq->hold == HOLD_SOURCE) {
		outcome_own(&o, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5",
		        "source address of binding %s is not on this machine",
		        binding_name(q, binding_at(q, d->binding)));
		result_expire_waiting(q, no, &o, NULL);
	} else if (d->hq->hold == HOLD_NONE && t && t->proxy) {
		outcome_own(&o, OUTCOME_TRANSIENT, STATE_CONNECT, 451, "4.3.5", "%s", proxy_why(t->proxy));
		result_expire_waiting(q, no, &o, NULL);
	} else if (d->hq->hold == HOLD_NONE && t && t->failure && t->backoff_until_us > queue_now(q)) {
		result_expire_waiting(q, no, &t->failure->outcome, &t->failure->facts);
	} else {
		due_remove(q->due, no);
	}
}

void deliveries_due(struct queue *q, struct slice *slice)
{
	uint32_t no;
	while ((no = due_first(q->due)) && delivery_at(q->slab, no)->due_us <= queue_now(q)) {
		if (slice_over(slice)) {
			queue_kick(q);
			return;
		}
		if (delivery_at(q->slab, no)->state == DELIVERY_DEFERRED)
			delivery_enter(q, no, DELIVERY_READY, 0);
		else if (bounces_full(q))
			due_set(q->due, no, queue_now(q) + BOUNCE_LATER_US);
		else
			expired_waiting(q, no);
	}
}

/* --- where a delivery belongs ------------------------------------------------------------------------------------ */

struct member_check {
	struct queue *q;
	uint32_t domain;
};

static bool member_usable(void *ctx, const struct conf_binding *c)
{
	struct member_check *m = ctx;
	struct queue *q = m->q;
	struct binding *b = binding_find(q, c->name);
	const struct dest *dest = b ? dest_get(q, b, m->domain) : NULL;
	if (!dest || dest->key.suspended)
		return false;
	if (c->any_source)
		return true;
	for (int family = 0; family < FAMILIES; family++) {
		if (c->source[family].family == AF_UNSPEC)
			continue;
		const struct conn_options *o = dest->profile ? &dest->profile->o : NULL;
		if (o && o->egress_proxy ? !proxy_blocks(proxy_for(b, o, family))
		                         : local_addrs_has(q->local, &c->source[family]))
			return true;
	}
	return false;
}

static bool member_any(void *ctx, const struct conf_binding *c)
{
	(void)ctx;
	(void)c;
	return true;
}

/* A binding is for good; a group's member is written down as "group:NAME/MEMBER" (no name has a slash). */
static void record_move(struct queue *q, struct delivery *d, const struct binding *b)
{
	char *name = d->group ? mem_printf("group:%s/%s", intern_text(q->names, d->group), binding_name(q, b))
	                      : mem_strdup(binding_name(q, b));
	spool_results_move(queue_results(q), d->id, d->index, name, intern_text(q->names, d->domain));
	mem_free(&name);
	d->moved = 1;
}

/* The waiting place of a group: a binding of the group's target name that can send nothing. */
static struct binding *group_place(struct queue *q, const char *group)
{
	char *name = mem_printf("group:%s", group);
	struct binding *b = binding_get(q, name, BINDING_GROUP);
	mem_free(&name);
	return b;
}

/*
 * Mail of a binding, or of a group and the member it was with, that the configuration dropped: held, or Momentum's way.
 * A member that lives on without its group keeps its mail.
 */
static void removed_target(struct queue *q, struct delivery *d, struct binding *b)
{
	if (b->conf || b->kind == BINDING_NOTIFY || q->global->removed_bindings != REMOVED_DEFAULT)
		return;
	struct binding *to = binding_get(q, "default", BINDING_NAMED);
	event_moved(q, d, b, to, "binding is not in the configuration");
	intern_drop(q->names, d->group);
	d->group = 0;
	record_move(q, d, to);
	d->binding = to->number;
}

/* The group as the newest snapshot has it that has it at all. */
static const struct conf_group *find_group(
        const struct queue *q, const char *name, const struct conf **snapshot)
{
	const struct conf_group *group = conf_group_named(*snapshot = q->conf, name);
	for (unsigned i = 0; !group && i < q->n_kept; i++)
		group = conf_group_named(*snapshot = policy_conf(q->kept[i]), name);
	return group;
}

/*
 * A member is kept until it becomes unusable. The choice is a hash, the same after a restart, so only a choice that
 * differs from the undisturbed one needs a record.
 */
static void choose_member(struct queue *q, struct delivery *d, struct binding *now)
{
	const char *name = intern_text(q->names, d->group);
	const struct conf *snapshot;
	const struct conf_group *group = find_group(q, name, &snapshot);
	struct member_check check = {q, d->domain};
	uint64_t key = d->has_sticky ? d->sticky : d->id;
	if (!group) {
		removed_target(q, d, now);
		return;
	}
	if (now && now->conf && now->conf->group == group && member_usable(&check, now->conf)) {
		d->binding = now->number;
		return;
	}
	int chosen = policy_group_member(snapshot, group, key, member_usable, &check);
	if (chosen < 0) {
		d->binding = group_place(q, name)->number;
		return;
	}
	struct binding *b = binding_get(q, conf_binding(snapshot, (uint32_t)chosen)->name, BINDING_NAMED);
	bool undisturbed = policy_group_member(snapshot, group, key, member_any, NULL) == chosen;
	if (!undisturbed || d->moved || (now && now->kind == BINDING_NAMED && now != b))
		record_move(q, d, b);
	d->binding = b->number;
}

/* In the order of the file, after the one it is with. */
static int next_member(
        const struct conf *conf, const struct conf_group *group, const char *now, struct member_check *check)
{
	size_t n = group->n_members, at = 0;
	while (at < n && strcmp(conf_binding(conf, group->members[at])->name, now) != 0)
		at++;
	for (size_t i = 1; i <= n; i++) {
		uint32_t member = group->members[(at + i) % n];
		if (member_usable(check, conf_binding(conf, member)))
			return (int)member;
	}
	return -1;
}

bool place_other_member(struct queue *q, struct delivery *d, enum retry_source how)
{
	const struct conf *snapshot;
	struct binding *now = binding_at(q, d->binding);
	struct member_check check = {q, d->domain};
	if (how == RETRY_SOURCE_SAME || !d->group || d->moves || now->kind != BINDING_NAMED)
		return false;
	const struct conf_group *group = find_group(q, intern_text(q->names, d->group), &snapshot);
	if (!group)
		return false;
	uint64_t chance = ((uint64_t)rnd_below(q->rnd, UINT32_MAX) << 32) | rnd_below(q->rnd, UINT32_MAX);
	int chosen = how == RETRY_SOURCE_NEXT
	                     ? next_member(snapshot, group, binding_name(q, now), &check)
	                     : policy_group_member(snapshot, group, chance, member_usable, &check);
	if (chosen < 0)
		return false;
	struct binding *b = binding_get(q, conf_binding(snapshot, (uint32_t)chosen)->name, BINDING_NAMED);
	if (b == now)
		return false;
	record_move(q, d, b);
	d->binding = b->number;
	return true;
}

/* What a suspension held back and is let go comes at a random moment, if it is to. */
static bool spread(struct queue *q, const struct delivery *d, uint64_t *due_us)
{
	uint64_t fuzz_us = delivery_options(q, d)->delayed_binding_domain_fuzz_s * SECOND_US;
	if (fuzz_us == 0)
		return false;
	*due_us = queue_now(q) + rnd_below(q->rnd, fuzz_us);
	return true;
}

void place_spread(struct queue *q, uint32_t no)
{
	uint64_t due_us;
	if (spread(q, delivery_at(q->slab, no), &due_us))
		delivery_enter(q, no, DELIVERY_DEFERRED, due_us);
	else
		delivery_enter(q, no, DELIVERY_READY, 0);
}

static struct hop_queue *queue_for(struct queue *q, struct delivery *d)
{
	alias_apply(q, d);
	struct binding *b = binding_at(q, d->binding);
	if (d->group)
		choose_member(q, d, b);
	else
		removed_target(q, d, b);
	b = binding_at(q, d->binding);
	const struct dest *dest = dest_get(q, b, d->domain);
	enum hold hold = HOLD_NONE;
	const struct conf *snapshot;
	if (b->kind == BINDING_GROUP)
		hold = d->group && find_group(q, intern_text(q->names, d->group), &snapshot) ? HOLD_NO_MEMBER
		                                                                             : HOLD_REMOVED;
	else if (b->kind == BINDING_NAMED && !b->conf)
		hold = HOLD_REMOVED;
	else if (dest->key.suspended)
		hold = dest->curfew_until_s ? HOLD_CURFEW : HOLD_SUSPENDED;
	struct hop_key key = dest->key;
	key.demand = demand_get(q, d, dest->profile);
	struct hop_queue *hq = hop_queue_get(q, &key, dest->profile, hold);
	intern_drop(q->names, key.demand);
	return hq;
}

void place_target(struct queue *q, struct delivery *d, const char *target)
{
	intern_drop(q->names, d->group);
	d->group = 0;
	if (strncmp(target, "group:", 6) == 0) {
		const char *name = target + 6, *member = strchr(name, '/');
		char *group = mem_strndup(name, member ? (size_t)(member - name) : strlen(name));
		d->group = intern_get(q->names, group);
		d->binding = member ? binding_get(q, member + 1, BINDING_NAMED)->number
		                    : group_place(q, group)->number;
		d->moved = member != NULL;
		mem_free(&group);
	} else if (strcmp(target, NOTIFY_BINDING) == 0) {
		d->binding = binding_get(q, target, BINDING_NOTIFY)->number;
	} else {
		d->binding = binding_get(q, target, BINDING_NAMED)->number;
	}
}

void place_delivery(struct queue *q, uint32_t no, enum delivery_state state, uint64_t due_us)
{
	struct delivery *d = delivery_at(q->slab, no);
	d->hq = queue_for(q, d);
	delivery_enter(q, no, state, due_us);
}

static bool is_suspended(const struct hop_queue *hq)
{
	return hq->hold == HOLD_SUSPENDED || hq->hold == HOLD_CURFEW;
}

void place_again(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	enum delivery_state state = d->state;
	uint64_t due_us = d->due_us;
	assert(state == DELIVERY_READY || state == DELIVERY_DEFERRED || state == DELIVERY_HELD);
	struct hop_queue *to = queue_for(q, d);
	if (to == d->hq) {
		if (state == DELIVERY_READY && d->line != line_for(q, d))
			delivery_enter(q, no, state, due_us);
		return;
	}
	bool released = state == DELIVERY_READY && is_suspended(d->hq) && to->hold == HOLD_NONE;
	delivery_leave(q, no);
	d->hq = to;
	if (released)
		place_spread(q, no);
	else
		delivery_enter(q, no, state, due_us);
}

uint32_t place_first(struct hop_queue *hq)
{
	struct queue *q = hq->q;
	uint32_t no = hop_queue_first(hq);
	for (unsigned moved = 0; no && q->rekeying; moved++) {
		if (moved == MOVED_MAX) {
			hop_queue_work(hq);
			return 0;
		}
		place_again(q, no);
		if (delivery_at(q->slab, no)->hq == hq)
			break;
		no = hop_queue_first(hq);
	}
	return no;
}
