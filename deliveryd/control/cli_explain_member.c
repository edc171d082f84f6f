/*
 * Which members of a group a message can get: from the files those that are not suspended there for its domain; with --live
 * those that deliveryd sends from, too, and whose address is on this machine.
 */
#include "control/cli_explain.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket can be bound to an address only where it is. */
static bool is_here(const struct addr *a)
{
	struct sockaddr_storage ss;
	struct addr at = *a;
	int fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool here;

	if (fd < 0)
		return false;
	at.port = 0;
	here = bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&at, &ss)) == 0;
	close(fd);
	return here;
}

static bool has_an_address(const struct explain *x, const struct conf_binding *b, const char *domain)
{
	struct conn_options o;

	conf_resolve(policy_conf(x->policy), b, domain, &o, NULL, NULL);
	if (o.egress_proxy)
		return true;
	for (int i = 0; i < 2; i++)
		if (b->source[i].family != AF_UNSPEC && is_here(&b->source[i]))
			return true;
	return false;
}

static bool row_allows(const json_t *row, const char *domain)
{
	const char *state = json_string_value(json_object_get(row, "state"));
	json_t *item;
	size_t i;

	if (state && (strcmp(state, "suspended") == 0 || strcmp(state, "source_down") == 0))
		return false;
	json_array_foreach (json_object_get(row, "suspensions"), i, item) {
		const char *what = json_string_value(json_object_get(item, "domain"));

		if (!what || strcmp(what, domain) == 0)
			return false;
	}
	return true;
}

bool explain_member_usable(void *ctx, const struct conf_binding *b)
{
	const struct explain_member *m = ctx;
	const struct explain *x = m->x;
	struct sched_options sched;
	json_t *row;
	bool usable;

	conf_resolve(policy_conf(x->policy), b, m->domain, NULL, NULL, &sched);
	if (sched.suspend_delivery)
		return false;
	if (!x->live_row || !(row = x->live_row(x->live_ctx, b->name)))
		return true;
	usable = row_allows(row, m->domain) && has_an_address(x, b, m->domain);
	json_decref(row);
	return usable;
}
