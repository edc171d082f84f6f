#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

/*
 * Combined limits (scope_max_outbound_connections). Which ones a queue's sessions count in is part of its key, as one
 * interned text: a line "MAX PATH" for each. Domains that share a gateway but not their limits thus have queues of their
 * own. The limit itself is found by its path, so it is one for all who count in it.
 */

uint32_t scopes_get(struct queue *q, const struct binding *b, const char *domain)
{
	struct scope_limit found[SCOPE_LIMITS_MAX];
	unsigned n = conf_scope_limits(b->snapshot, b->conf, domain, found);
	struct str text;
	if (n == 0)
		return 0;
	str_init(&text);
	for (unsigned i = 0; i < n; i++) {
		for (char *p = found[i].where; *p; p++) {
			if (*p == '\n') /* a pattern may hold anything; a line is ours */
				*p = ' ';
		}
		str_printf(&text, "%u %s\n", found[i].max, found[i].where);
	}
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
		uint32_t max = (uint32_t)strtoul(line, &path, 10);
		out[n++] = host_limit_get(q, SCOPE_BINDING, path + 1, max);
	}
	free(copy);
	return n;
}
