#include "reload.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

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
	struct policy *next;
	bool may_drop;
	struct error why;
};

static void ask_may_drop(void *arg)
{
	struct question *q = arg;

	q->may_drop = queue_may_drop(q->reload->parts.queue, q->next, &q->why);
}

static void put_in_force(void *arg)
{
	struct question *q = arg;

	queue_reconfigure(q->reload->parts.queue, policy_ref(q->next));
	q->reload->parts.apply(q->reload->parts.ctx, q->next);
}

/* --- the answer ------------------------------------------------------------------------------------------------ */

static void add_errors(json_t *answer, const struct errors *errors)
{
	json_t *bad = json_array(), *warnings = json_array();

	for (size_t i = 0; i < errors->n; i++) {
		bool warning = errors->items[i].level == ERROR_WARNING;

		json_array_append_new(warning ? warnings : bad, json_string(errors->items[i].text));
		if (warning)
			log_warning("reload: %s", errors->items[i].text);
		else
			log_error("reload: %s", errors->items[i].text);
	}
	json_object_set_new(answer, "errors", bad);
	json_object_set_new(answer, "warnings", warnings);
}

static void refuse(json_t *answer, const char *why)
{
	json_t *errors = json_object_get(answer, "errors");

	log_error("reload: %s", why);
	json_array_append_new(errors, json_string(why));
}

static struct policy *load(struct reload *r, json_t *answer)
{
	struct errors errors = {0};
	struct policy *next = policy_load(r->parts.config_path, &errors);

	add_errors(answer, &errors);
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

/* Everything that can fail has succeeded before the first thing changes. */
static bool take(struct reload *r, struct policy *next, const char *step, bool force, json_t *answer)
{
	const struct process_options *p = conf_process(policy_conf(next));
	struct question q = {.reload = r, .next = next};
	struct stamp_keys *keys;

	conf_diff_json(policy_conf(r->in_force), policy_conf(next), answer);
	loop_call(r->parts.queue_loop, ask_may_drop, &q);
	if (!q.may_drop && !force) {
		refuse(answer, q.why.text);
		return false;
	}
	if (!load_keys(p, &keys, answer))
		return false;
	if (strcmp(step, "check") == 0) {
		stamp_keys_free(&keys);
		return true;
	}
	loop_call(r->parts.queue_loop, put_in_force, &q);
	policy_cell_set(r->parts.cell, policy_ref(next), keys);
	reopen_events(r, p->log_events);
	policy_unref(&r->in_force);
	r->in_force = policy_ref(next);
	log_notice("configuration reloaded");
	return true;
}

bool reload_run(struct reload *r, const char *step, bool force, struct str *out)
{
	json_t *answer = json_object();
	struct policy *next = load(r, answer);
	bool ok = next && take(r, next, step, force, answer);
	char *text;

	if (!ok)
		log_error("reload: refused; the configuration in force stays");
	if (strcmp(step, "check") != 0)
		post_event(r, ok);
	json_object_set_new(answer, "ok", json_boolean(ok));
	text = json_dumps(answer, JSON_COMPACT);
	str_add(out, text);
	str_add_char(out, '\n');
	free(text);
	json_decref(answer);
	policy_unref(&next);
	return ok;
}
