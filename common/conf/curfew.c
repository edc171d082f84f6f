/* The option curfew: windows, each from one crontab moment to another, in a time zone. */
#include "config.h"
#include "conf/value_list.h"

#include <stdlib.h>
#include <string.h>

struct item_reader {
	struct value_reader *r;
	struct curfew_window *out;
};

static bool read_moment(
        struct item_reader *ir, const struct place *p, const char *text, const char **kept, struct cron *cron)
{
	struct error err;
	struct time_zone *utc = timezone_new("UTC", NULL);
	int64_t at;

	bool ok = text && cron_parse(text, cron, &err);
	if (!text)
		place_error(ir->r->errors, p, "not a text such as \"0 22 * * 1-5\"");
	else if (!ok)
		place_error(ir->r->errors, p, "%s (as in \"0 22 * * 1-5\")", err.text);
	else if (!cron_next(cron, utc, 0, &at))
		ok = place_error(ir->r->errors, p, "there is no such day");
	else
		*kept = pool_strdup(ir->r->pool, text);
	timezone_free(&utc);
	return ok;
}

static bool read_zone(struct item_reader *ir, const struct place *p, const char *text)
{
	struct error err;
	struct time_zone *tz = text ? timezone_new(text, &err) : NULL;

	if (!text)
		return place_error(ir->r->errors, p, "not a text such as \"Europe/Berlin\"");
	if (!tz)
		return place_error(ir->r->errors, p, "no time zone of this machine: %s", err.text);
	timezone_free(&tz);
	ir->out->timezone = pool_strdup(ir->r->pool, text);
	return true;
}

static bool read_key(struct item_reader *ir, const struct place *at, const char *key, const json_t *value)
{
	const char *text = json_string_value(value);

	if (strcmp(key, "from") == 0)
		return read_moment(ir, at, text, &ir->out->from_text, &ir->out->from);
	if (strcmp(key, "to") == 0)
		return read_moment(ir, at, text, &ir->out->to_text, &ir->out->to);
	if (strcmp(key, "timezone") == 0)
		return read_zone(ir, at, text);
	if (strcmp(key, "comment") == 0)
		return true;
	return place_error(
	        ir->r->errors, at, "unknown key; \"from\", \"to\" and \"timezone\" can stand here");
}

static bool read_window(struct item_reader *ir, const struct place *p, const json_t *j)
{
	const char *key;
	json_t *value;
	bool ok = true;

	*ir->out = (struct curfew_window){.timezone = "local"};
	if (!json_is_object(j))
		return place_error(ir->r->errors, p, "not an object with \"from\" and \"to\"");
	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		ok &= read_key(ir, &at, key, value);
	}
	if (ok && (!ir->out->from_text || !ir->out->to_text))
		ok = place_error(ir->r->errors, p, "\"from\" and \"to\" have to be there");
	return ok;
}

bool read_curfew(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	struct curfew_list *list = pool_alloc(r->pool, sizeof(*list));
	struct curfew_window *windows = it.n ? pool_alloc(r->pool, it.n * sizeof(*windows)) : NULL;
	const struct place *at;
	const json_t *item;
	struct str where;
	bool ok = true;

	*list = (struct curfew_list){.windows = windows};
	while ((item = items_next(&it, &at))) {
		struct item_reader ir = {r, &windows[list->n]};
		if (read_window(&ir, at, item))
			list->n++;
		else
			ok = false;
	}
	str_init(&where);
	place_print(p, &where);
	list->where = pool_strdup(r->pool, where.data);
	str_free(&where);
	out->curfew = list;
	return ok;
}

json_t *curfew_json(const struct curfew_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++) {
		const struct curfew_window *w = &l->windows[i];
		json_array_append_new(a, json_pack("{s:s, s:s, s:s}", "from", w->from_text, "to", w->to_text,
		                                 "timezone", w->timezone));
	}
	return a;
}
