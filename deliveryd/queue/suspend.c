#include "queue/queue_in.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

/*
 * Suspensions by command stand beside those of the configuration (suspend_delivery). Each is a setting of the spool,
 * "suspend:TARGET" or "suspend:TARGET/DOMAIN" = when it ends (wall clock, µs; 0 = when resumed), TARGET a binding or
 * group:NAME. Behind the time stands the cause, if a response rule did it. A suspended destination's queue is another
 * queue, so a change re-keys what waits.
 */
#define KEY_PREFIX "suspend:"
#define PRINTED_MAX 20 /* `bindpost rules` has all that rules did */

struct suspension {
	char *key; /* owns: TARGET or TARGET/DOMAIN */
	uint64_t until_wall_us;
	struct cause *why; /* owns; NULL = by command */
	struct suspended_target *of;
	struct suspension *prev, *next; /* of its target */
	UT_hash_handle hh;
};

/* Response rules may suspend many domains: who asks about one binding does not look at all. */
struct suspended_target {
	char *name; /* owns */
	struct suspension *all;
	UT_hash_handle hh;
};

static char *key_of(const char *target, const char *domain)
{
	return domain ? mem_printf("%s/%s", target, domain) : mem_strdup(target);
}

static struct suspension *find(const struct queue *q, const char *target, const char *domain)
{
	struct suspension *s;
	char *key = key_of(target, domain);
	HASH_FIND_STR(q->suspensions, key, s);
	mem_free(&key);
	return s;
}

unsigned suspensions_count(const struct queue *q)
{
	return HASH_COUNT(q->suspensions);
}

bool suspended_target(const struct queue *q, const char *target, const char *domain)
{
	return find(q, target, domain) != NULL;
}

static bool of_target(const struct queue *q, const char *target, const char *domain)
{
	return find(q, target, NULL) || (domain && *domain && find(q, target, domain));
}

bool suspended_by_command(const struct queue *q, const struct binding *b, const char *domain)
{
	const char *group = binding_group_name(b);
	if (!q->suspensions)
		return false;
	if (of_target(q, binding_name(q, b), domain))
		return true;
	if (!group)
		return false;
	char *target = mem_printf("group:%s", group);
	bool is = of_target(q, target, domain);
	mem_free(&target);
	return is;
}

static struct suspended_target *suspended_target_get(struct queue *q, const char *key)
{
	struct suspended_target *t;
	size_t len = strcspn(key, "/");
	HASH_FIND(hh, q->suspended_targets, key, len, t);
	if (t)
		return t;
	t = mem_zalloc(sizeof(*t));
	t->name = mem_strndup(key, len);
	HASH_ADD_KEYPTR(hh, q->suspended_targets, t->name, len, t);
	return t;
}

static void forget(struct queue *q, struct suspension *s)
{
	DL_DELETE(s->of->all, s);
	if (!s->of->all) {
		HASH_DEL(q->suspended_targets, s->of);
		free(s->of->name);
		free(s->of);
	}
	HASH_DEL(q->suspensions, s);
	cause_free(&s->why);
	free(s->key);
	free(s);
}

static void remember(struct queue *q, const char *key, uint64_t until_wall_us, const struct cause *why)
{
	struct suspension *s;
	HASH_FIND_STR(q->suspensions, key, s);
	if (!s) {
		s = mem_zalloc(sizeof(*s));
		s->key = mem_strdup(key);
		HASH_ADD_KEYPTR(hh, q->suspensions, s->key, strlen(s->key), s);
		s->of = suspended_target_get(q, key);
		DL_APPEND(s->of->all, s);
	}
	s->until_wall_us = until_wall_us;
	cause_free(&s->why);
	s->why = why ? cause_copy(why) : NULL;
}

static void record(struct queue *q, const char *key, const char *value)
{
	char *name = mem_printf(KEY_PREFIX "%s", key);
	spool_results_setting(queue_results(q), name, value);
	mem_free(&name);
	queue_kick(q);
}

/*
 * What is resolved for a destination holds a generation long; a binding's to one domain is forgotten alone. A group's may
 * be any member's: the binding that has its name is no more than where its mail waits.
 */
static void changed(struct queue *q, const char *target, const char *domain)
{
	const struct binding *b = target ? binding_find(q, target) : NULL;
	if (b && b->kind == BINDING_NAMED && domain)
		dest_forget(q, b, domain);
	else
		q->generation++;
	rekey_begin(q);
}

/* One that ends then has come; those that end sooner are in the timer. */
static void schedule_by(struct queue *q, uint64_t until_wall_us)
{
	uint64_t now = loop_wall_us(q->loop);
	if (!until_wall_us)
		return;
	uint64_t due = queue_now(q) + (until_wall_us > now ? until_wall_us - now : 0);
	if (!timer_armed(&q->suspension_timer) || due < q->suspension_timer.due_us)
		timer_arm(q->loop, &q->suspension_timer, due);
}

static void schedule(struct queue *q)
{
	uint64_t first = UINT64_MAX, now = loop_wall_us(q->loop);
	struct suspension *s, *next;
	HASH_ITER (hh, q->suspensions, s, next) {
		if (s->until_wall_us && s->until_wall_us < first)
			first = s->until_wall_us;
	}
	if (first == UINT64_MAX)
		timer_cancel(q->loop, &q->suspension_timer);
	else
		timer_arm_in(q->loop, &q->suspension_timer, first > now ? first - now : 0);
}

static void post_event(struct queue *q, enum event_type type, const char *key, uint64_t until_wall_us,
        const char *who, const char *reason, const struct cause *why)
{
	char *target = mem_strdup(key), *domain = strchr(target, '/');
	if (domain)
		*domain++ = 0;
	struct event e = {
	        .type = type, .domain = domain, .who = who, .reason = reason, .until_wall_us = until_wall_us};
	if (strncmp(target, "group:", 6) == 0)
		e.group = target + 6;
	else
		e.binding = target;
	if (why) {
		e.rule = why->rule;
		e.detail = why->then;
		e.reply = type == EVENT_SUSPEND ? why->reply : NULL;
	}
	event_post(q->events, &e);
	mem_free(&target);
}

void suspensions_expire(void *ctx)
{
	struct queue *q = ctx;
	uint64_t now = loop_wall_us(q->loop);
	struct suspension *s, *next;
	bool any = false;
	HASH_ITER (hh, q->suspensions, s, next) {
		if (!s->until_wall_us || s->until_wall_us > now)
			continue;
		post_event(q, EVENT_RESUME, s->key, 0, NULL, "its time is over", s->why);
		record(q, s->key, NULL);
		forget(q, s);
		any = true;
	}
	if (any)
		changed(q, NULL, NULL);
	schedule(q);
}

uint64_t suspend_begin(struct queue *q, const char *target, const char *domain, uint64_t for_us,
        const char *who, const struct cause *why)
{
	char *key = key_of(target, domain);
	struct str value;
	uint64_t until = for_us ? loop_wall_us(q->loop) + for_us : 0;
	remember(q, key, until, why);
	str_init(&value);
	str_printf(&value, "%" PRIu64, until);
	if (why)
		cause_print(why, &value);
	record(q, key, value.data);
	str_free(&value);
	post_event(q, EVENT_SUSPEND, key, until, who, why ? "response rule" : "by command", why);
	mem_free(&key);
	changed(q, target, domain);
	schedule_by(q, until);
	return until;
}

bool suspend_end(struct queue *q, const char *target, const char *domain, const char *who)
{
	struct suspension *s = find(q, target, domain);
	bool reduced = reductions_end(q, target, domain, who);
	const struct binding *b = binding_find(q, target);
	if (b)
		responses_forget(q, b, domain);
	if (!s)
		return reduced;
	post_event(q, EVENT_RESUME, s->key, 0, who, "by command", s->why);
	record(q, s->key, NULL);
	forget(q, s);
	if (!domain)
		alias_end(q, target); /* what was drained is in use again */
	changed(q, target, domain);
	return true; /* the timer may come for nothing */
}

/* "suspensions": [{"domain": "example.com", "until": ...}]; no domain = all of it. With many, the first of them. */
void suspensions_print(const struct queue *q, const char *target, struct json_out *out)
{
	const struct suspended_target *t;
	unsigned n = 0;
	HASH_FIND_STR(q->suspended_targets, target, t);
	if (!t)
		return;
	jw_array(out, "suspensions");
	for (const struct suspension *s = t->all; s && n < PRINTED_MAX; s = s->next, n++) {
		const char *slash = strchr(s->key, '/');
		jw_object(out, NULL);
		if (slash)
			jw_str(out, "domain", slash + 1);
		if (s->until_wall_us)
			jw_time(out, "until", s->until_wall_us);
		if (s->why)
			jw_str(out, "rule", s->why->rule);
		jw_end_object(out);
	}
	jw_end_array(out);
}

bool suspensions_by_rule(const struct queue *q, reduction_row *row, void *ctx)
{
	struct suspension *s, *next;
	HASH_ITER (hh, q->suspensions, s, next) {
		const char *slash = strchr(s->key, '/');
		if (!s->why || !slash)
			continue;
		char *target = mem_strndup(s->key, (size_t)(slash - s->key));
		bool go_on = row(ctx, target, slash + 1, NULL, s->why, s->until_wall_us);
		mem_free(&target);
		if (!go_on)
			return false;
	}
	return true;
}

bool suspension_restore(struct queue *q, const char *key, const char *value)
{
	if (strncmp(key, KEY_PREFIX, strlen(KEY_PREFIX)) != 0)
		return false;
	char *rest;
	uint64_t until = strtoull(value, &rest, 10);
	struct cause *why = cause_parse(rest);
	remember(q, key + strlen(KEY_PREFIX), until, why);
	cause_free(&why);
	q->generation++;
	return true;
}

void suspensions_start(struct queue *q)
{
	if (!q->suspensions)
		return;
	changed(q, NULL, NULL); /* mail restored before the setting was read */
	schedule(q);
}

void suspensions_free(struct queue *q)
{
	struct suspension *s, *next;
	HASH_ITER (hh, q->suspensions, s, next)
		forget(q, s);
}
