#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

/*
 * What a queue's sessions and messages count in besides the limits of its binding and next hop: combined limits
 * (scope_max_outbound_connections) and throttles. Which ones is part of its key, as one interned text, a line for each:
 * "s MAX PATH", "m N/S PATH", "c N/S PATH". Domains that share a gateway but not these thus have queues of their own. The
 * limit itself is found by its path, so it is one for all who count in it.
 */

static void add_line(struct str *text, const char *what, const char *path)
{
	size_t from = text->len;
	str_printf(text, "%s %s", what, path);
	for (char *p = text->data + from; *p; p++) {
		if (*p == '\n') /* a pattern may hold anything; a line is ours */
			*p = ' ';
	}
	str_add_char(text, '\n');
}

static void add_throttle(struct str *text, char kind, const struct conf_throttle *t)
{
	char what[40];
	struct str path;
	if (t->rate.count == 0)
		return;
	str_init(&path);
	conf_scope_path(t->from, &path);
	snprintf(what, sizeof(what), "%c %u/%u", kind, t->rate.count, t->rate.seconds);
	add_line(text, what, path.data);
	str_free(&path);
}

uint32_t scopes_get(struct queue *q, const struct binding *b, const char *domain)
{
	struct scope_limit found[SCOPE_LIMITS_MAX];
	struct conf_throttles throttles;
	unsigned n = conf_scope_limits(b->snapshot, b->conf, domain, found);
	conf_resolve_throttles(b->snapshot, b->conf, domain, &throttles);
	if (n == 0 && throttles.messages.rate.count == 0 && throttles.connections.rate.count == 0)
		return 0;
	struct str text;
	str_init(&text);
	for (unsigned i = 0; i < n; i++) {
		char what[40];
		snprintf(what, sizeof(what), "s %u", found[i].max);
		add_line(&text, what, found[i].where);
	}
	add_throttle(&text, 'm', &throttles.messages);
	add_throttle(&text, 'c', &throttles.connections);
	uint32_t id = intern_get(q->names, text.data);
	str_free(&text);
	return id;
}

unsigned scopes_limits(struct queue *q, uint32_t scopes, struct host_limit *out[SCOPE_LIMITS_MAX])
{
	char *rest, *path;
	unsigned n = 0;
	if (scopes == 0)
		return 0;
	char *copy = mem_strdup(intern_text(q->names, scopes));
	for (char *line = strtok_r(copy, "\n", &rest); line && n < SCOPE_LIMITS_MAX;
	        line = strtok_r(NULL, "\n", &rest)) {
		if (*line != 's')
			continue;
		uint32_t max = (uint32_t)strtoul(line + 2, &path, 10);
		out[n++] = host_limit_get(q, SCOPE_BINDING, path + 1, max);
	}
	free(copy);
	return n;
}

void scopes_throttles(struct queue *q, uint32_t scopes, struct throttle *out[N_THROTTLE_KINDS])
{
	char *rest, *path;
	if (scopes == 0)
		return;
	char *copy = mem_strdup(intern_text(q->names, scopes));
	for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (*line == 's')
			continue;
		enum throttle_kind kind = *line == 'm' ? THROTTLE_MESSAGES : THROTTLE_CONNECTIONS;
		struct rate rate = {.count = (uint32_t)strtoul(line + 2, &path, 10)};
		rate.seconds = (uint32_t)strtoul(path + 1, &path, 10);
		out[kind] = throttle_use(throttle_get(q->throttles, kind, path + 1, rate));
	}
	free(copy);
}
