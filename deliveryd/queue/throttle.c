#include "queue/queue_in.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/*
 * What a throttle let through outlives the process as a setting "throttle:KIND PLACE" = "COUNT/SECONDS WALL +AHEAD
 * AGE:N AGE:N ...": what was done before WALL (µs), in some groups (ages in ms), and how many more may have been let
 * through since. More than AHEAD are not, before the next such record is durable. After a restart AHEAD counts as done
 * at that moment, which is on the safe side. For short windows AHEAD is the whole rate: one record for as long as the
 * throttle is in use, and after a restart a wait of no more than SHORT_S. One that has been
 * empty for KEPT_US takes its record away.
 */
#define KEY_PREFIX "throttle:"
#define SHORT_S 10
#define AHEAD_SHARE 16
#define RECORD_GROUPS 16
#define NO_RECORD UINT64_MAX
#define KEPT_US (60 * SECOND_US)

static const char *const kind_names[N_THROTTLE_KINDS] = {
        [THROTTLE_MESSAGES] = "outbound_throttle_messages",
        [THROTTLE_CONNECTIONS] = "outbound_throttle_connections",
};

struct throttle {
	struct throttles *all;
	char *key; /* owns: KEY_PREFIX, kind, blank, place */
	enum throttle_kind kind;
	struct limit limit; /* the line: used = max when full */
	struct rate_window window;
	struct timer timer; /* room, or empty */
	uint64_t until_us;  /* while full */
	uint32_t users;
	bool told;              /* the operator, that it holds mail back */
	uint64_t taken;         /* since the start */
	uint64_t covered;       /* so many may be taken: durable */
	uint64_t written, note; /* covered when that commit is back; NO_RECORD = there is none */
	bool has_record;
	struct link uncovered;
	uint64_t used_us; /* when the newest was taken, or a record asked for because one was about to be */
	UT_hash_handle hh;
};

struct throttles {
	struct queue *q;
	struct throttle *table;
	struct link
	        uncovered; /* of struct throttle: would have room, but for the record that is on its way */
	metric *waits[N_THROTTLE_KINDS];
};

struct throttles *throttles_new(struct queue *q)
{
	struct throttles *all = mem_zalloc(sizeof(*all));
	all->q = q;
	link_init(&all->uncovered);
	for (unsigned i = 0; i < N_THROTTLE_KINDS; i++) {
		struct str label;
		str_init(&label);
		metrics_label(&label, "option", kind_names[i]);
		all->waits[i] = metrics_counter(q->metrics, "bindpost_throttled_total", label.data,
		        "How often a throttle began to hold mail back.");
		str_free(&label);
	}
	return all;
}

static void forget(struct throttle *t)
{
	HASH_DEL(t->all->table, t);
	timer_cancel(t->all->q->loop, &t->timer);
	link_remove(&t->limit.wake_link);
	link_remove(&t->uncovered);
	rate_window_free(&t->window);
	free(t->key);
	free(t);
}

void throttles_free(struct throttles **pall)
{
	struct throttle *t, *next;
	HASH_ITER (hh, (*pall)->table, t, next)
		forget(t);
	mem_free(pall);
}

static const char *place_of(const struct throttle *t)
{
	return t->key + strlen(KEY_PREFIX) + 2;
}

void throttle_print(const struct throttle *t, struct str *out)
{
	str_printf(out, "%s %u/%u of %s", kind_names[t->kind], t->window.rate.count, t->window.rate.seconds,
	        place_of(t));
}

uint64_t throttle_until_us(const struct throttle *t)
{
	return t->until_us;
}

/* --- records ------------------------------------------------------------------------------------------------------- */

static uint32_t ahead_of(const struct throttle *t)
{
	const struct rate *r = &t->window.rate;
	if (r->seconds <= SHORT_S)
		return r->count;
	return r->count / AHEAD_SHARE ? r->count / AHEAD_SHARE : 1;
}

/* Groups next to each other become one, as late as its last. */
static void print_groups(const struct throttle *t, uint64_t now_us, struct str *out)
{
	const struct rate_window *w = &t->window;
	uint32_t step = w->n_groups / RECORD_GROUPS + 1, n = 0;
	for (uint32_t i = 0; i < w->n_groups; i++) {
		const struct rate_group *g = &w->groups[(w->first + i) % w->size];
		n += g->n;
		if ((i + 1) % step && i + 1 < w->n_groups)
			continue;
		str_printf(out, " %" PRIu64 ":%u", (now_us - g->first_us - g->length_us) / 1000, n);
		n = 0;
	}
}

static void write_record(struct throttle *t)
{
	struct queue *q = t->all->q;
	uint32_t ahead = ahead_of(t);
	struct str value;
	bool whole = ahead == t->window.rate.count;
	str_init(&value);
	str_printf(&value, "%u/%u %" PRIu64 " +%" PRIu64, t->window.rate.count, t->window.rate.seconds,
	        loop_wall_us(q->loop), whole ? ahead : ahead + t->window.under_way);
	if (!whole)
		print_groups(t, queue_now(q), &value);
	spool_results_setting(queue_results(q), t->key, value.data);
	str_free(&value);
	t->written = whole ? UINT64_MAX : t->taken + ahead;
	t->note = q->notes_posted + 1;
	t->has_record = true;
	t->used_us = queue_now(q);
	queue_kick(q);
}

static void remove_record(struct throttle *t)
{
	if (!t->has_record)
		return;
	spool_results_setting(queue_results(t->all->q), t->key, NULL);
	t->has_record = false;
	t->covered = t->taken;
	t->note = NO_RECORD;
	queue_kick(t->all->q);
}

/* Room without a record that covers it is none until there is one. */
static bool covered(struct throttle *t)
{
	struct queue *q = t->all->q;
	if (t->note != NO_RECORD && t->note <= q->notes_back) {
		t->covered = t->written;
		t->note = NO_RECORD;
	}
	bool soon_used_up = t->covered <= t->taken || t->covered - t->taken <= ahead_of(t) / 2;
	if (soon_used_up && t->note == NO_RECORD)
		write_record(t);
	return t->taken < t->covered;
}

/* --- the line -------------------------------------------------------------------------------------------------------- */

static void look(struct throttle *t)
{
	struct queue *q = t->all->q;
	uint64_t until = 0;
	bool room = rate_window_allows(&t->window, queue_now(q), &until);
	t->limit.max = t->window.rate.count;
	t->until_us = 0;
	if (!room) {
		t->until_us = until;
		timer_arm(q->loop, &t->timer, until);
	} else if (!covered(t)) {
		room = false; /* the commit brings us back */
		if (!link_linked(&t->uncovered))
			link_add_tail(&t->all->uncovered, &t->uncovered);
	}
	t->limit.used = room ? 0 : t->limit.max;
	if (room)
		limit_freed(q, &t->limit);
	else if (t->limit.n_waiting)
		throttle_held_back(t); /* those who wait may have come when there was only no record yet */
}

/* When it can be of no more use: empty, and not used for so long that its record may go too. */
static uint64_t over_us(struct throttle *t)
{
	uint64_t empty = rate_window_empty_us(&t->window, queue_now(t->all->q));
	uint64_t kept = t->used_us ? t->used_us + KEPT_US : 0;
	return empty > kept ? empty : kept;
}

static void look_later(struct throttle *t)
{
	if (!timer_armed(&t->timer))
		timer_arm(t->all->q->loop, &t->timer, over_us(t));
}

/* There may be room again, or it may be over. */
static void timer_over(void *ctx)
{
	struct throttle *t = ctx;
	if (t->limit.n_waiting > 0) {
		look(t); /* with room those who wait are served, and arm it again */
		return;
	}
	if (over_us(t) > queue_now(t->all->q)) {
		look_later(t);
		return;
	}
	t->told = false;
	remove_record(t);
	if (t->users == 0)
		forget(t);
}

static struct throttle *add(struct throttles *all, const char *key, struct rate rate)
{
	struct throttle *t = mem_zalloc(sizeof(*t));
	t->all = all;
	t->key = mem_strdup(key);
	t->kind = key[strlen(KEY_PREFIX)] == 'm' ? THROTTLE_MESSAGES : THROTTLE_CONNECTIONS;
	t->note = NO_RECORD;
	limit_init(&t->limit, rate.count);
	t->limit.is_throttle = true;
	rate_window_init(&t->window, rate);
	timer_init(&t->timer, timer_over, t);
	link_init(&t->uncovered);
	HASH_ADD_KEYPTR(hh, all->table, t->key, strlen(t->key), t);
	return t;
}

static char *key_of(enum throttle_kind kind, const char *place)
{
	return mem_printf(KEY_PREFIX "%c %s", kind == THROTTLE_MESSAGES ? 'm' : 'c', place);
}

struct throttle *throttle_find(struct throttles *all, enum throttle_kind kind, const char *place)
{
	struct throttle *t;
	char *key = key_of(kind, place);
	HASH_FIND_STR(all->table, key, t);
	mem_free(&key);
	return t;
}

struct throttle *throttle_get(
        struct throttles *all, enum throttle_kind kind, const char *place, struct rate rate)
{
	struct throttle *t = throttle_find(all, kind, place);
	if (!t) {
		char *key = key_of(kind, place);
		t = add(all, key, rate);
		mem_free(&key);
	}
	if (t->window.rate.count != rate.count || t->window.rate.seconds != rate.seconds) {
		rate_window_set(&t->window, rate);
		timer_cancel(all->q->loop, &t->timer);
		if (t->has_record)
			write_record(t);
		look(t);
	}
	look_later(t);
	return t;
}

struct throttle *throttle_use(struct throttle *t)
{
	t->users++;
	return t;
}

void throttle_unuse(struct throttle **pt)
{
	if (!*pt)
		return;
	assert((*pt)->users > 0);
	(*pt)->users--;
	look_later(*pt);
	*pt = NULL;
}

struct limit *throttle_limit(struct throttle *t)
{
	look(t);
	return &t->limit;
}

bool limit_is_throttle(const struct limit *l)
{
	return l->is_throttle;
}

struct throttle *throttle_of_limit(struct limit *l)
{
	assert(l->is_throttle);
	return container_of(l, struct throttle, limit);
}

void throttle_held_back(struct throttle *t)
{
	struct queue *q = t->all->q;
	if (t->told || t->until_us == 0)
		return;
	t->told = true;
	metric_add(t->all->waits[t->kind], 1);
	struct str detail;
	str_init(&detail);
	throttle_print(t, &detail);
	struct event e = {
	        .type = EVENT_THROTTLE,
	        .reason = kind_names[t->kind],
	        .detail = detail.data,
	        .until_wall_us = loop_wall_us(q->loop) + (t->until_us - queue_now(q)),
	};
	event_post(q->events, &e);
	str_free(&detail);
}

/* --- tickets ----------------------------------------------------------------------------------------------------------- */

static struct throttle *throttle_of(const struct rate_ticket *ticket)
{
	return container_of(ticket->of, struct throttle, window);
}

bool throttle_has(const struct throttle *t, const struct rate_ticket *ticket)
{
	return ticket->state != TICKET_NONE && ticket->of == &t->window;
}

void throttle_reserve(struct throttle *t, struct rate_ticket *ticket)
{
	rate_ticket_reserve(ticket, &t->window, queue_now(t->all->q));
	t->taken++;
	t->used_us = queue_now(t->all->q);
	look(t);
	look_later(t);
}

void throttle_begin(struct throttles *all, struct rate_ticket *ticket)
{
	if (ticket->state == TICKET_RESERVED)
		rate_ticket_begin(ticket, queue_now(all->q));
}

/* What comes to its end sooner than was feared may give way sooner. */
void throttle_done(struct throttles *all, struct rate_ticket *ticket)
{
	if (ticket->state == TICKET_NONE)
		return;
	struct throttle *t = throttle_of(ticket);
	rate_ticket_done(ticket, queue_now(all->q));
	if (t->limit.n_waiting)
		look(t);
}

void throttle_give_back(struct throttles *all, struct rate_ticket *ticket)
{
	if (ticket->state == TICKET_NONE)
		return;
	struct throttle *t = throttle_of(ticket);
	rate_ticket_give_back(ticket);
	(void)all;
	if (t->limit.n_waiting)
		look(t);
}

/* --- restart ------------------------------------------------------------------------------------------------------------- */

static void restore_groups(struct throttle *t, const char *text, uint64_t before_us)
{
	uint64_t now = queue_now(t->all->q), age_ms;
	uint32_t n;
	int used;
	while (sscanf(text, " %" SCNu64 ":%" SCNu32 "%n", &age_ms, &n, &used) == 2) {
		uint64_t age_us = age_ms < UINT32_MAX ? age_ms * 1000 + before_us : UINT64_MAX;
		text += used;
		if (n <= RATE_COUNT_MAX) /* from before this machine's start: later than it was */
			rate_window_restore(&t->window, age_us < now ? now - age_us : 0, n);
	}
}

bool throttle_restore(struct throttles *all, const char *key, const char *value)
{
	struct queue *q = all->q;
	struct rate rate;
	uint64_t wall, wall_now = loop_wall_us(q->loop);
	uint32_t ahead;
	struct throttle *t;
	int used = 0;
	if (strncmp(key, KEY_PREFIX, strlen(KEY_PREFIX)) != 0)
		return false;
	bool good = strlen(key) > strlen(KEY_PREFIX) + 2 &&
	            sscanf(value, "%" SCNu32 "/%" SCNu32 " %" SCNu64 " +%" SCNu32 "%n", &rate.count,
	                    &rate.seconds, &wall, &ahead, &used) == 4 &&
	            rate.count && rate.count <= RATE_COUNT_MAX && rate.seconds &&
	            rate.seconds <= RATE_SECONDS_MAX && ahead <= 2 * RATE_COUNT_MAX;
	if (!good) {
		log_warning("the spool's setting %s cannot be read: %s", key, value);
		return true;
	}
	HASH_FIND_STR(all->table, key, t);
	if (!t)
		t = add(all, key, rate);
	restore_groups(t, value + used, wall_now > wall ? wall_now - wall : 0);
	rate_window_restore(&t->window, queue_now(q), ahead);
	t->has_record = true;
	return true;
}

void throttles_start(struct throttles *all)
{
	struct throttle *t, *next;
	HASH_ITER (hh, all->table, t, next)
		look_later(t);
}

void throttles_committed(struct throttles *all)
{
	for (struct link *l = all->uncovered.next, *next; l != &all->uncovered; l = next) {
		struct throttle *t = container_of(l, struct throttle, uncovered);
		next = l->next;
		if (t->note != NO_RECORD && t->note > all->q->notes_back)
			continue;
		link_remove(&t->uncovered);
		look(t);
		look_later(t);
	}
}
