#include "reload.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

enum reload_step { RELOAD_ALL, RELOAD_CHECK, RELOAD_TAKE, RELOAD_DROP };

struct reload {
	struct reload_parts parts;
	struct policy *in_force;
};

struct reload *reload_new(const struct reload_parts *parts, struct policy *in_force)
{
	struct reload *r = mem_zalloc(sizeof(*r));

	r->parts = *parts;
	r->in_force = in_force;
	return r;
}

void reload_free(struct reload **p)
{
	if (*p)
		policy_unref(&(*p)->in_force);
	mem_free(p);
}

/* --- on the queue's loop --------------------------------------------------------------------------------------- */

struct question {
	struct reload *reload;
	struct policy *next; /* borrows; NULL = the one in force */
	struct errors why;
	bool may_drop;
};

static void ask_may_drop(void *arg)
{
	struct question *q = arg;

	q->may_drop = queue_may_drop(q->reload->parts.queue, q->next, &q->why);
}

static void put_in_force(void *arg)
{
	struct question *q = arg;

	queue_take(q->reload->parts.queue, policy_ref(q->next));
	q->reload->parts.apply(q->reload->parts.ctx, q->next);
}

static void forget_previous(void *arg)
{
	struct question *q = arg;

	queue_drop(q->reload->parts.queue);
}

/* --- the answer ------------------------------------------------------------------------------------------------ */

/* Of a check warnings go to who asked: the journal has them when they come into force. */
static void add_errors(json_t *answer, const struct errors *errors, enum reload_step step)
{
	json_t *bad = json_object_get(answer, "errors"), *warnings = json_object_get(answer, "warnings");

	for (size_t i = 0; i < errors->n; i++) {
		bool warning = errors->items[i].level == ERROR_WARNING;

		json_array_append_new(warning ? warnings : bad, json_string(errors->items[i].text));
		if (warning && step == RELOAD_CHECK)
			continue;
		if (warning)
			log_warning("reload: %s", errors->items[i].text);
		else
			log_error("reload: %s", errors->items[i].text);
	}
}

/* After a SIGHUP nobody reads the answer. */
static void warn_restart(const json_t *answer)
{
	size_t i;
	json_t *option;

	json_array_foreach (json_object_get(answer, "restart"), i, option) {
		if (strncmp(json_string_value(option), "milter.", 7) != 0)
			log_warning("reload: %s: keeps its old value until deliveryd is restarted",
			        json_string_value(option));
	}
}

static void refuse(json_t *answer, const char *why)
{
	log_error("reload: %s", why);
	json_array_append_new(json_object_get(answer, "errors"), json_string(why));
}

static struct policy *load(struct reload *r, enum reload_step step, json_t *answer)
{
	struct errors errors = {0};
	struct policy *next = policy_reload(r->parts.config_path, r->in_force, answer, &errors);

	add_errors(answer, &errors, step);
	errors_free(&errors);
	return next;
}

static bool load_keys(const struct process_options *p, struct stamp_keys **keys, json_t *answer)
{
	struct error err;

	*keys = NULL;
	if (!p->stamp_key_file || (*keys = stamp_keys_load(p->stamp_key_file, &err)))
		return true;
	error_at(&err, "stamp.key_file");
	refuse(answer, err.text);
	return false;
}

static void reopen_events(struct reload *r, const char *path)
{
	struct error err;

	if (!event_log_reopen(r->parts.events, path, &err))
		log_error("reload: %s; the old event log stays in use", err.text);
}

static void post_event(struct reload *r, bool ok)
{
	struct event event = {.type = EVENT_RELOAD, .reason = ok ? "done" : "refused"};

	event_post(r->parts.events, &event);
}

/* What the step takes away must have no mail, unless the operator says so. */
static bool may_drop(struct reload *r, struct policy *next, bool force, json_t *answer)
{
	struct question q = {.reload = r, .next = next};

	if (force)
		return true;
	loop_call(r->parts.queue_loop, ask_may_drop, &q);
	add_errors(answer, &q.why, RELOAD_TAKE);
	errors_free(&q.why);
	return q.may_drop;
}

static void drop(struct reload *r)
{
	struct question q = {.reload = r};

	policy_cell_drop(r->parts.cell);
	loop_call(r->parts.queue_loop, forget_previous, &q);
}

/* The queue first: it must know a binding before the handoff lets mail for it in. */
static void take(struct reload *r, struct policy *next, struct stamp_keys *keys)
{
	struct question q = {.reload = r, .next = next};

	r->parts.prepare(r->parts.ctx, next);
	loop_call(r->parts.queue_loop, put_in_force, &q);
	policy_cell_take(r->parts.cell, policy_ref(next), keys);
	reopen_events(r, conf_process(policy_conf(next))->log_events);
	policy_unref(&r->in_force);
	r->in_force = policy_ref(next);
}

/* Everything that can fail has succeeded before the first thing changes. */
static bool run_files(struct reload *r, enum reload_step step, bool force, json_t *answer)
{
	struct policy *next = load(r, step, answer);
	struct stamp_keys *keys = NULL;
	bool ok = next && may_drop(r, next, force, answer) &&
	          load_keys(conf_process(policy_conf(next)), &keys, answer);

	if (ok && step != RELOAD_CHECK) {
		take(r, next, keys);
		keys = NULL;
		warn_restart(answer);
		if (step == RELOAD_ALL)
			drop(r);
		log_notice(step == RELOAD_ALL
		                   ? "configuration reloaded"
		                   : "configuration reloaded; what it no longer has stays known for now");
	}
	stamp_keys_free(&keys);
	policy_unref(&next);
	return ok;
}

/* Mail for what goes may have come since the step "take": it then stays known until that is gone or drained. */
static bool run_drop(struct reload *r, bool force, json_t *answer)
{
	if (!may_drop(r, NULL, force, answer))
		return false;
	drop(r);
	log_notice("what the previous configuration had is dropped");
	return true;
}

static const char *const step_names[] = {"all", "check", "take", "drop"};

static bool run_step(struct reload *r, const char *name, bool force, json_t *answer)
{
	for (size_t i = 0; i < array_len(step_names); i++)
		if (strcmp(name, step_names[i]) == 0)
			return i == RELOAD_DROP ? run_drop(r, force, answer)
			                        : run_files(r, (enum reload_step)i, force, answer);
	refuse(answer, "step is check, take, drop or all");
	return false;
}

bool reload_run(struct reload *r, const char *step, bool force, struct str *out)
{
	json_t *answer = json_object();
	bool ok;
	char *text;

	json_object_set_new(answer, "errors", json_array());
	json_object_set_new(answer, "warnings", json_array());
	ok = run_step(r, step, force, answer);
	if (!ok)
		log_error("reload: refused; the configuration in force stays");
	if (!ok && strcmp(step, "all") == 0) /* SIGHUP may come from logrotate */
		reopen_events(r, conf_process(policy_conf(r->in_force))->log_events);
	if (strcmp(step, "take") == 0 || strcmp(step, "all") == 0)
		post_event(r, ok);
	json_object_set_new(answer, "ok", json_boolean(ok));
	text = json_dumps(answer, JSON_COMPACT);
	str_add(out, text);
	str_add_char(out, '\n');
	free(text);
	json_decref(answer);
	return ok;
}
