/*
 * resolve - values in force for a binding and a recipient domain
 *
 * Most specific first: domain in the binding, domain in its group, binding, group, global domain, global,
 * built-in. Each container is asked for what is still wanted, so the work is one hash look-up a table and one
 * copy an option.
 */
#include "config.h"
#include <string.h>
#include "base/names.h"
#include "conf/conf_internal.h"

/* How a value becomes a field: as a number, a string, or by copying a list */
#define NUM(to, v) (to) = (__typeof__(to))(v).u
#define STR(to, v) (to) = (v).s
#define NETS(to, v) (to) = *(v).nets
#define HRULES(to, v) (to) = *(v).host_rules
#define RRULES(to, v) (to) = *(v).responses
#define CURFEW_LIST(to, v) (to) = *(v).curfew
#define SOCK(to, v) (to) = (v).socket
#define SOCKS(to, v) (to) = *(v).sockets
#define SERVS(to, v) (to) = *(v).servers
#define PATHL(to, v) (to) = *(v).paths

#define STORE_UINT NUM
#define STORE_UINT_NONE NUM
#define STORE_DURATION NUM
#define STORE_SIZE NUM
#define STORE_BOOL NUM
#define STORE_ENUM(tag) NUM
#define STORE_EHLO STR
#define STORE_GATEWAY STR
#define STORE_HOSTNAME STR
#define STORE_FIELDNAME STR
#define STORE_USERNAME STR
#define STORE_PRIORITY STR
#define STORE_WORD STR
#define STORE_SECRET STR
#define STORE_PATH STR
#define STORE_NETLIST NETS
#define STORE_HOSTRULES HRULES
#define STORE_ROUTES STR
#define STORE_PROXY STR
#define STORE_RESPONSES RRULES
#define STORE_CURFEW CURFEW_LIST
#define STORE_SOCKET SOCK
#define STORE_SOCKETS SOCKS
#define STORE_SERVERS SERVS
#define STORE_PATHS PATHL

#define STORE(out, type, name, v) STORE_##type((out)->OPT_N_##type(name), v);
#define STORE_NOT(out, type, name, v)

/* Rows of one part only, as in options.h */
#define ONLY_CONN_CONN STORE
#define ONLY_CONN_DELIV STORE_NOT
#define ONLY_CONN_SCHED STORE_NOT
#define ONLY_CONN_GLOBAL STORE_NOT
#define ONLY_CONN_SPECIAL STORE_NOT
#define ONLY_DELIV_CONN STORE_NOT
#define ONLY_DELIV_DELIV STORE
#define ONLY_DELIV_SCHED STORE_NOT
#define ONLY_DELIV_GLOBAL STORE_NOT
#define ONLY_DELIV_SPECIAL STORE_NOT
#define ONLY_SCHED_CONN STORE_NOT
#define ONLY_SCHED_DELIV STORE_NOT
#define ONLY_SCHED_SCHED STORE
#define ONLY_SCHED_GLOBAL STORE_NOT
#define ONLY_SCHED_SPECIAL STORE_NOT
#define ONLY_GLOBAL_CONN STORE_NOT
#define ONLY_GLOBAL_DELIV STORE_NOT
#define ONLY_GLOBAL_SCHED STORE_NOT
#define ONLY_GLOBAL_GLOBAL STORE
#define ONLY_GLOBAL_SPECIAL STORE_NOT

static union value found_value(const struct conf *c, const struct found *f, unsigned id)
{
	return f->value[id] ? f->value[id]->v : c->builtin[id];
}

static void fill_conn(const struct conf *c, const struct found *f, struct conn_options *out)
{
	memset(out, 0, sizeof(*out));
#define OPTION(name, type, part, scopes, def, min, max, text)                                                \
	ONLY_CONN_##part(out, type, name, found_value(c, f, OPT_##name))
#include "conf/options.def"
	if (strcmp(out->ehlo_hostname, "__hostname__") == 0)
		out->ehlo_hostname = c->process.hostname;
	if (out->outbound_smtp_auth_pass && out->outbound_smtp_auth_pass_file) {
		if (f->step[OPT_outbound_smtp_auth_pass] < f->step[OPT_outbound_smtp_auth_pass_file])
			out->outbound_smtp_auth_pass_file = NULL;
		else
			out->outbound_smtp_auth_pass = NULL;
	}
	if (out->routes && out->gateway) { /* the more specific place decides */
		if (f->step[OPT_gateway] < f->step[OPT_routes])
			out->routes = NULL;
		else
			out->gateway = NULL;
	}
}

static void fill_deliv(const struct conf *c, const struct found *f, struct deliv_options *out)
{
	memset(out, 0, sizeof(*out));
#define OPTION(name, type, part, scopes, def, min, max, text)                                                \
	ONLY_DELIV_##part(out, type, name, found_value(c, f, OPT_##name))
#include "conf/options.def"
}

/* A binding's total is its own or its group's; the global one is the machine's and no binding's. */
static uint32_t binding_total(const struct binding *b)
{
	const struct scope_value *v = NULL;

	if (b)
		v = scope_get(&b->scope, OPT_server_max_outbound_connections);
	if (b && !v)
		v = scope_get(&b->group->scope, OPT_server_max_outbound_connections);
	return v ? (uint32_t)v->v.u : 0;
}

static void fill_sched(
        const struct conf *c, const struct binding *b, const struct found *f, struct sched_options *out)
{
	memset(out, 0, sizeof(*out));
#define OPTION(name, type, part, scopes, def, min, max, text)                                                \
	ONLY_SCHED_##part(out, type, name, found_value(c, f, OPT_##name))
#include "conf/options.def"
	out->server_total = c->globals.server_max_outbound_connections;
	out->binding_total = binding_total(b);
}

/* A reserve is a little more than the total, not a multiple of a small one. */
static uint32_t default_reserve(const struct global_options *o)
{
	uint32_t part = o->server_max_outbound_connections / 100;

	return part < o->server_reserve_outbound_connections ? part : o->server_reserve_outbound_connections;
}

void fill_global_options(struct conf *c)
{
	struct global_options *out = &c->globals;
	struct found f = {0};

	memset(&f.wanted, 0xff, sizeof(f.wanted));
	found_take(&f, &c->global);
#define OPTION(name, type, part, scopes, def, min, max, text)                                                \
	ONLY_GLOBAL_##part(out, type, name, found_value(c, &f, OPT_##name))
#include "conf/options.def"
	out->server_max_outbound_connections =
	        (uint32_t)found_value(c, &f, OPT_server_max_outbound_connections).u;
	if (!f.value[OPT_server_reserve_outbound_connections])
		out->server_reserve_outbound_connections = default_reserve(out);
}

void fill_process_options(struct conf *c)
{
	struct process_options *out = &c->process;

#define PROCESS(section, name, type, def, min, max, reload, text)                                            \
	STORE(out, type, section##_##name, c->proc[PROC_##section##_##name])
#define PROCESS_TOP(name, type, def, min, max, reload, text) STORE(out, type, name, c->proc[PROC_##name])
#include "conf/options.def"
}

static const struct binding *binding_of(const struct conf_binding *pub)
{
	return pub ? container_of(pub, struct binding, pub) : NULL;
}

/* The chain of design section 5 */
static void find(const struct conf *c, const struct binding *b, const char *domain, struct found *f)
{
	uint64_t hash = domain ? strmap_hash(domain) : 0;

	if (b) {
		if (domain) {
			found_take_named(f, b->domains, domain, hash);
			found_take_named(f, b->group->domains, domain, hash);
		}
		found_take(f, &b->scope);
		found_take(f, &b->group->scope);
	}
	if (domain)
		found_take_named(f, c->domains, domain, hash);
	found_take(f, &c->global);
}

void conf_resolve(const struct conf *c, const struct conf_binding *pub, const char *domain,
        struct conn_options *conn, struct deliv_options *deliv, struct sched_options *sched)
{
	const struct binding *b = binding_of(pub);
	struct found f = {0};

	memset(&f.wanted, 0xff, sizeof(f.wanted));
	find(c, b, domain, &f);
	if (conn)
		fill_conn(c, &f, conn);
	if (deliv)
		fill_deliv(c, &f, deliv);
	if (sched)
		fill_sched(c, b, &f, sched);
}

/* --- throttles: by reference ------------------------------------------------------------------------------------ */

static struct conf_throttle throttle_of(const struct found *f, unsigned id)
{
	if (!f->value[id] || f->value[id]->v.rate.count == 0)
		return (struct conf_throttle){0};
	return (struct conf_throttle){f->value[id]->v.rate, f->from[id]};
}

static void take_throttles(const struct found *f, struct conf_throttles *out)
{
	out->messages = throttle_of(f, OPT_outbound_throttle_messages);
	out->connections = throttle_of(f, OPT_outbound_throttle_connections);
}

void conf_resolve_throttles(const struct conf *c, const struct conf_binding *pub, const char *domain,
        struct conf_throttles *out)
{
	struct found f = {0};

	option_set_add(&f.wanted, OPT_outbound_throttle_messages);
	option_set_add(&f.wanted, OPT_outbound_throttle_connections);
	find(c, binding_of(pub), domain, &f);
	take_throttles(&f, out);
}

static void take_quota(const struct found *f, struct conf_quota *out)
{
	const struct scope_value *messages = f->value[OPT_max_queued_messages];
	const struct scope_value *bytes = f->value[OPT_max_queued_bytes];

	out->max_messages = messages ? messages->v.u : 0;
	out->max_bytes = bytes ? bytes->v.u : 0;
	out->inbound = throttle_of(f, OPT_inbound_throttle_messages);
}

void conf_resolve_quota(const struct conf *c, const struct conf_binding *pub, struct conf_quota *out)
{
	struct found f = {0};

	option_set_add(&f.wanted, OPT_max_queued_messages);
	option_set_add(&f.wanted, OPT_max_queued_bytes);
	option_set_add(&f.wanted, OPT_inbound_throttle_messages);
	find(c, binding_of(pub), NULL, &f);
	take_quota(&f, out);
}

void conf_group_quota(const struct conf *c, const struct conf_group *pub, struct conf_quota *out)
{
	struct found f = {0};

	option_set_add(&f.wanted, OPT_inbound_throttle_messages);
	found_take(&f, &container_of(pub, struct group, pub)->scope);
	found_take(&f, &c->global);
	take_quota(&f, out);
}

void conf_scope_path(const struct scope *s, struct str *out)
{
	scope_path(s, out);
}

/* Hosts have a chain of their own and no built-in: what is not set there is no limit. */
void conf_resolve_host(
        const struct conf *c, const struct conf_binding *pub, const char *mx_name, struct host_limits *out)
{
	const struct binding *b = binding_of(pub);
	uint64_t hash = strmap_hash(mx_name);
	struct found f = {0};

	memset(&f.wanted, 0xff, sizeof(f.wanted));
	if (b) {
		found_take_named(&f, b->hosts, mx_name, hash);
		found_take_named(&f, b->group->hosts, mx_name, hash);
	}
	found_take_named(&f, c->hosts, mx_name, hash);
	*out = (struct host_limits){0};
	take_throttles(&f, &out->throttles);
	if (f.value[OPT_max_outbound_connections])
		out->max_outbound_connections = (uint32_t)f.value[OPT_max_outbound_connections]->v.u;
	if (f.value[OPT_scope_max_outbound_connections] &&
	        f.value[OPT_scope_max_outbound_connections]->v.u != UINT32_MAX) {
		out->scope_max_outbound_connections =
		        (uint32_t)f.value[OPT_scope_max_outbound_connections]->v.u;
		out->scope_from = f.from[OPT_scope_max_outbound_connections];
	}
}

/* --- combined limits: every place counts, none hides another --------------------------------------------------- */

static void add_scope_limit(const struct found *f, struct scope_limit *out, unsigned *n)
{
	const struct scope_value *v = f->value[OPT_scope_max_outbound_connections];
	struct str path;

	if (!v || v->v.u == UINT32_MAX) /* "none" */
		return;
	str_init(&path);
	scope_path(f->from[OPT_scope_max_outbound_connections], &path);
	snprintf(out[*n].where, sizeof(out[*n].where), "%s", path.data);
	out[(*n)++].max = (uint32_t)v->v.u;
	str_free(&path);
}

static void scope_limit_of(const struct scope *s, struct scope_limit *out, unsigned *n)
{
	struct found f = {0};

	option_set_add(&f.wanted, OPT_scope_max_outbound_connections);
	found_take(&f, s);
	add_scope_limit(&f, out, n);
}

static void scope_limit_named(
        const struct names *names, const char *domain, struct scope_limit *out, unsigned *n)
{
	struct found f = {0};

	option_set_add(&f.wanted, OPT_scope_max_outbound_connections);
	found_take_named(&f, names, domain, strmap_hash(domain));
	add_scope_limit(&f, out, n);
}

unsigned conf_scope_limits(const struct conf *c, const struct conf_binding *pub, const char *domain,
        struct scope_limit out[SCOPE_LIMITS_MAX])
{
	const struct binding *b = binding_of(pub);
	unsigned n = 0;

	if (b && domain) {
		scope_limit_named(b->domains, domain, out, &n);
		scope_limit_named(b->group->domains, domain, out, &n);
	}
	if (b) {
		scope_limit_of(&b->scope, out, &n);
		scope_limit_of(&b->group->scope, out, &n);
	}
	if (domain)
		scope_limit_named(c->domains, domain, out, &n);
	scope_limit_of(&c->global, out, &n);
	return n;
}

/* --- one option, and where it comes from ---------------------------------------------------------------- */

static void print_value(const struct option_row *row, union value v, struct conf_origin *out)
{
	json_t *j = value_json(row, v);
	char *text = json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT);

	snprintf(out->value, sizeof(out->value), "%s", text ? text : "");
	free(text);
	json_decref(j);
}

static void print_where(const struct conf *c, const struct scope *s, uint32_t file, struct conf_origin *out)
{
	struct str path;

	str_init(&path);
	scope_path(s, &path);
	snprintf(out->where, sizeof(out->where), "%s: %s", c->files[file]->name, path.data);
	str_free(&path);
}

static bool eval_process(const struct conf *c, int id, struct conf_origin *out)
{
	const struct option_row *row = &process_rows[id];

	print_value(row, c->proc[id], out);
	out->differs = c->proc_set[id]; /* some built-in ones are this machine's */
	if (!c->proc_set[id])
		snprintf(out->where, sizeof(out->where), "built-in");
	else if (row->section)
		snprintf(out->where, sizeof(out->where), "%s: %s", c->files[0]->name, row->section);
	else
		snprintf(out->where, sizeof(out->where), "%s", c->files[0]->name);
	return true;
}

static bool no_such_option(const char *option, struct error *err)
{
	const char *known[OPT_COUNT + PROC_COUNT];
	size_t n = 0;

	for (size_t i = 0; i < OPT_COUNT; i++)
		known[n++] = option_rows[i].name;
	for (size_t i = 0; i < PROC_COUNT; i++)
		known[n++] = process_rows[i].full_name;
	const char *guess = nearest_name(option, known, n);
	struct str q;
	str_init(&q);
	quote_text(option, &q);
	if (guess)
		error_set(err, "%s is not an option; did you mean \"%s\"?", q.data, guess);
	else
		error_set(err, "%s is not an option", q.data);
	str_free(&q);
	return false;
}

bool conf_eval(const struct conf *c, const char *option, const struct conf_binding *pub, const char *domain,
        struct conf_origin *out, struct error *err)
{
	const struct binding *b = binding_of(pub);
	struct found f = {0};
	int id = option_find(option);

	for (int i = 0; id < 0 && i < PROC_COUNT; i++)
		if (strcmp(process_rows[i].full_name, option) == 0)
			return eval_process(c, i, out);
	if (id < 0)
		return no_such_option(option, err);
	char name[DOMAIN_MAX + 64];
	if (domain && !domain_normalize(domain, strlen(domain), name, err))
		return false;
	domain = domain ? name : NULL;
	option_set_add(&f.wanted, (unsigned)id);
	find(c, b, domain, &f);
	/* The global total is no binding's */
	bool total = id == OPT_server_max_outbound_connections && b && f.from[id] == &c->global;
	if (total || (id == OPT_server_max_outbound_connections && b && !f.value[id])) {
		snprintf(out->value, sizeof(out->value), "null");
		snprintf(out->where, sizeof(out->where), "built-in");
		out->differs = false;
		return true;
	}
	union value v = found_value(c, &f, (unsigned)id);
	if (id == OPT_server_reserve_outbound_connections)
		v.u = c->globals.server_reserve_outbound_connections;
	print_value(&option_rows[id], v, out);
	out->differs = !value_equal(&option_rows[id], found_value(c, &f, (unsigned)id), c->builtin[id]);
	if (f.value[id])
		print_where(c, f.from[id], f.value[id]->file, out);
	else
		snprintf(out->where, sizeof(out->where), "built-in");
	return true;
}
