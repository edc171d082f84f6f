/*
 * milter_snapshot - policy and keys: loaded, counted, swapped
 */
#include "config.h"
#include "milter/milter.h"

#include <string.h>
#include "base/log.h"
#include "base/mem.h"

struct snapshot *snapshot_load(
        const char *conf_path, const struct policy *running, json_t *changes, struct errors *errors)
{
	struct policy *policy = policy_reload(conf_path, running, changes, errors);
	if (policy == NULL)
		return NULL;
	struct snapshot *s = mem_zalloc(sizeof(*s));
	s->refs = 1;
	s->policy = policy;
	s->keys = stamp_keys_of(policy_conf(policy), errors);
	s->loaded_us = clock_system.wall_us(&clock_system);
	policy_needs(policy, &s->needs);
	if (errors->n_errors > 0)
		snapshot_unref(&s);
	return s;
}

void snapshot_unref(struct snapshot **pp)
{
	struct snapshot *s = *pp;
	*pp = NULL;
	if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	policy_unref(&s->policy);
	stamp_keys_free(&s->keys);
	mem_free(&s);
}

struct snapshot *milter_snapshot(struct milter *m)
{
	pthread_mutex_lock(&m->lock);
	struct snapshot *s = m->current;
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	pthread_mutex_unlock(&m->lock);
	return s;
}

/* Options of the other daemon are in the answer too; it speaks for them itself. */
static bool is_ours(const char *option)
{
	return strchr(option, '.') == NULL || strncmp(option, "milter.", 7) == 0 ||
	       strncmp(option, "stamp.", 6) == 0;
}

static void warn_restart(const json_t *changes)
{
	size_t i;
	json_t *option;
	json_array_foreach (json_object_get(changes, "restart"), i, option)
		if (is_ours(json_string_value(option)))
			log_warning("%s: keeps its old value until bindpost-milter is restarted",
			        json_string_value(option));
}

static bool reload_locked(struct milter *m, struct errors *errors, json_t *changes)
{
	struct snapshot *fresh = snapshot_load(m->conf_path, m->current->policy, changes, errors);
	if (fresh == NULL) {
		atomic_fetch_add(&m->counts.reloads_refused, 1);
		return false;
	}
	warn_restart(changes);
	pthread_mutex_lock(&m->lock);
	struct snapshot *old = m->current;
	m->current = fresh;
	pthread_mutex_unlock(&m->lock);
	log_set_level(conf_process(policy_conf(fresh->policy))->log_level);
	snapshot_unref(&old);
	atomic_fetch_add(&m->counts.reloads, 1);
	return true;
}

bool milter_reload(struct milter *m, struct errors *errors, json_t *changes)
{
	json_t *told = changes != NULL ? json_incref(changes) : json_object();
	pthread_mutex_lock(&m->reload_lock);
	bool ok = reload_locked(m, errors, told);
	pthread_mutex_unlock(&m->reload_lock);
	json_decref(told);
	for (size_t i = 0; i < errors->n; i++) {
		if (errors->items[i].level == ERROR_ERROR)
			log_error("%s", errors->items[i].text);
		else
			log_warning("%s", errors->items[i].text);
	}
	if (ok)
		log_notice("reloaded %s", m->conf_path);
	else
		log_error("reload refused: %zu error%s; the configuration in force stays", errors->n_errors,
		        errors->n_errors == 1 ? "" : "s");
	return ok;
}
