#include "t/lib/smtp_world.h"

#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/names.h"
#include "conf/conf.h"
#include "t/lib/test.h"

#define HOST_ADDRESS "127.0.1.%u"
#define MTA_ADDRESS "127.0.9.9" /* notify.via */
#define BASE_POLICY                                                                                          \
	"{\"global\": {\"prohibited_hosts\": []}, \"bindings\": {"                                           \
	"\"acme\": {\"bind_address\": \"127.0.0.21\", \"ehlo_hostname\": \"acme.test\"}, "                   \
	"\"beta\": {\"bind_address\": \"127.0.0.22\", \"ehlo_hostname\": \"beta.test\"}, "                   \
	"\"default\": {\"bind_address\": \"127.0.0.20\"}}}"

/* --- configuration ----------------------------------------------------------------------------------- */

static bool json_set_path(json_t *at, const char *path, json_t *takes)
{
	const char *slash = strchr(path, '/');
	char *key = slash ? mem_strndup(path, (size_t)(slash - path)) : mem_strdup(path);
	json_t *child;
	bool ok;

	if (!slash) {
		ok = json_object_set_new(at, key, takes) == 0;
		mem_free(&key);
		return ok;
	}
	child = json_object_get(at, key);
	if (!child) {
		json_object_set_new(at, key, json_object());
		child = json_object_get(at, key);
	}
	mem_free(&key);
	return json_set_path(child, slash + 1, takes);
}

bool world_set(struct world *w, const char *path, const char *json, struct error *err)
{
	json_error_t why;
	json_t *value = json_loads(json, JSON_DECODE_ANY, &why);
	char *file;

	if (value && json_is_string(value)) { /* the name of a file there */
		file = mem_printf("%s/%s", w->folder, json_string_value(value));
		if (*json_string_value(value) && access(file, F_OK) == 0)
			json_string_set(value, file);
		mem_free(&file);
	}

	if (!value)
		return error_set(err, "%s: %s", json, why.text);
	return json_set_path(w->config, path, value) || error_set(err, "cannot set %s", path);
}

bool world_file(struct world *w, const char *name, unsigned mode, const char *text, struct error *err)
{
	char *path = mem_printf("%s/%s", w->folder, name);
	bool ok;

	test_file_write(path, text, strlen(text));
	ok = chmod(path, mode) == 0 || error_sys(err, "%s", path);
	mem_free(&path);
	return ok;
}

static struct policy *load_policy(struct world *w, struct error *err)
{
	struct errors errors = {0};
	char *text = json_dumps(w->config, 0);
	char *process = mem_printf(
	        "{\"hostname\": \"host.test\", \"notify\": {\"via\": \"inet:" MTA_ADDRESS ":%u\"}}", w->port);
	struct conf *conf = conf_load_text(process, text, &errors);
	struct policy *policy = conf ? policy_new(conf, &errors) : NULL;

	if (!policy)
		error_set(err, "%s", errors.n > 0 ? errors.items[0].text : "no policy");
	errors_free(&errors);
	free(text);
	mem_free(&process);
	return policy;
}

/* --- parts --------------------------------------------------------------------------------------------- */

/* A port that is free for every host: 127.0.0.0/8 has plenty of addresses, so only this one number must do. */
static unsigned free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&in, len) != 0 ||
	        getsockname(fd, (struct sockaddr *)&in, &len) != 0)
		abort();
	close(fd);
	return ntohs(in.sin_port);
}

static void on_event(void *ctx, const char *line)
{
	struct world *w = ctx;

	w->log = mem_array(w->log, w->n_log + 1, sizeof(*w->log));
	w->log[w->n_log] = (struct world_event){.json = json_loads(line, 0, NULL)};
	if (!w->log[w->n_log].json) {
		fprintf(stderr, "not JSON: %s\n", line);
		abort();
	}
	w->n_log++;
}

static void on_fatal(void *ctx, const struct error *err)
{
	struct world *w = ctx;

	fprintf(stderr, "spool: %s\n", err->text);
	w->spool_failed = true;
}

static void add_host(struct world *w, const char *name, const char *address)
{
	char *where = mem_printf("%s:%u", address, w->port);

	w->hosts = mem_array(w->hosts, w->n_hosts + 1, sizeof(*w->hosts));
	w->hosts[w->n_hosts++] =
	        (struct world_host){.name = mem_strdup(name), .mx = scripted_mx_new(w->mx_loop, where)};
	mem_free(&where);
}

void world_host_tls(struct world *w, struct scripted_mx *mx, const char *name)
{
	struct tls_cert cert;

	tls_cert_issue(w->ca, name, 30, &cert);
	scripted_mx_tls(mx, cert.certificate, cert.key, NULL);
	for (unsigned i = 0; i < w->n_hosts; i++) {
		if (w->hosts[i].mx != mx)
			continue;
		free(w->hosts[i].certificate);
		w->hosts[i].certificate = mem_strdup(cert.certificate);
	}
	tls_cert_free(&cert);
}

/* Of the certificate it has; a wrong one has its last digit changed. */
bool world_host_tlsa(struct world *w, const char *host, const char *numbers, bool wrong, struct error *err)
{
	const char *pem = NULL;
	unsigned usage, selector, matching;
	char *hex, *line, *name;
	bool ok;

	for (unsigned i = 0; i < w->n_hosts; i++)
		if (strcmp(w->hosts[i].name, host) == 0)
			pem = w->hosts[i].certificate;
	if (!pem || sscanf(numbers, "%u %u %u", &usage, &selector, &matching) != 3)
		return error_set(err, "HOST tlsa \"USAGE SELECTOR MATCHING\" [wrong], behind HOST tls");
	hex = tls_cert_tlsa(usage == 2 ? tls_ca_pem(w->ca) : pem, selector, matching);
	if (wrong)
		hex[strlen(hex) - 1] = hex[strlen(hex) - 1] == '0' ? '1' : '0';
	name = mem_printf("_%u._tcp.%s", w->port, host);
	line = mem_printf("secure %s", name);
	ok = world_dns(w, line, err);
	mem_free(&line);
	line = mem_printf("tlsa %s %u %u %u %s", name, usage, selector, matching, hex);
	ok = ok && world_dns(w, line, err);
	mem_free(&line);
	mem_free(&name);
	mem_free(&hex);
	return ok;
}

bool world_dns(struct world *w, const char *line, struct error *err)
{
	struct fake_dns *table =
	        w->dns ? w->dns : fake_dns_new(w->mx_loop); /* to look at the line, when stopped */
	bool ok = fake_dns_script(table, line, err);

	if (!w->dns)
		fake_dns_free(&table);
	if (!ok)
		return false;
	w->dns_lines = mem_array(w->dns_lines, w->n_dns_lines + 1, sizeof(*w->dns_lines));
	w->dns_lines[w->n_dns_lines++] = mem_strdup(line);
	return true;
}

struct scripted_mx *world_host(struct world *w, const char *name, bool make)
{
	char address[32], *line;
	unsigned i;

	for (i = 0; i < w->n_hosts; i++) {
		if (strcmp(w->hosts[i].name, name) == 0)
			return w->hosts[i].mx;
	}
	if (!make)
		return NULL;
	snprintf(address, sizeof(address), HOST_ADDRESS, w->n_hosts);
	add_host(w, name, address);
	line = mem_printf("addr %s %s", name, address);
	if (!world_dns(w, line, NULL))
		abort();
	mem_free(&line);
	return w->hosts[w->n_hosts - 1].mx;
}

static void set_addresses(struct world *w)
{
	static const char *const own[] = {"127.0.0.20", "127.0.0.21", "127.0.0.22"};
	struct addr a;
	unsigned i;

	for (i = 0; i < array_len(own); i++) {
		if (!addr_parse(own[i], &a, NULL))
			abort();
		local_addrs_fake_set(w->local, &a, true);
	}
}

struct world *world_new(void)
{
	struct world *w = mem_zalloc(sizeof(*w));
	char *path;

	fake_clock_init(&w->clock, 1700000000 * SECOND_US);
	fake_rnd_init(&w->rnd, 7);
	w->mx_loop = loop_new("mx", &w->clock.clock);
	w->disk = workers_new("disk", 0);
	w->metrics = metrics_new();
	w->local = local_addrs_fake();
	set_addresses(w);
	w->folder = test_folder_new();
	w->ca = tls_ca_new("The world's CA");
	path = mem_printf("%s/ca.pem", w->folder);
	test_file_write(path, tls_ca_pem(w->ca), strlen(tls_ca_pem(w->ca)));
	mem_free(&path);
	path = mem_printf("%s/events.jsonl", w->folder);
	w->events = event_log_open(path, &w->clock.clock, w->metrics, false, NULL);
	event_log_tap(w->events, on_event, w);
	mem_free(&path);
	w->port = free_port();
	w->config = json_loads(BASE_POLICY, 0, NULL);
	json_object_set_new(json_object_get(w->config, "global"), "remote_smtp_port", json_integer(w->port));
	json_object_set_new(json_object_get(w->config, "global"), "lmtp_port", json_integer(w->port));
	add_host(w, "mta", MTA_ADDRESS);
	return w;
}

static bool open_spool(struct world *w, struct error *err)
{
	char *path = mem_printf("%s/spool", w->folder);
	struct spool_config conf = {.path = path,
	        .segment_size = 1 << 20,
	        .memory = 1 << 22,
	        .clock = &w->clock.clock,
	        .rnd = &w->rnd.rnd,
	        .disk = w->disk,
	        .metrics = w->metrics,
	        .on_fatal = on_fatal,
	        .ctx = w};

	w->spool = spool_open(&conf, err);
	mem_free(&path);
	return w->spool != NULL;
}

static void set_prohibited(struct world *w)
{
	const struct conf *conf = policy_conf(w->policy);
	const struct global_options *o = conf_global(conf);
	struct prohibited p = {.rules = o->prohibited_hosts.items,
	        .n_rules = (unsigned)o->prohibited_hosts.n,
	        .skips = o->skip_hosts.items,
	        .n_skips = (unsigned)o->skip_hosts.n,
	        .local = w->local};

	p.n_own_names = (unsigned)conf_own_names(conf, &p.own_names);
	router_set_prohibited(w->router, &p);
}

static void make_loops(struct world *w)
{
	unsigned i;

	w->loop = loop_new("queue", &w->clock.clock);
	w->spool_loop = loop_new("spool", &w->clock.clock);
	w->dns = fake_dns_new(w->loop);
	for (i = 0; i < w->n_dns_lines; i++)
		fake_dns_script(w->dns, w->dns_lines[i], NULL);
	w->router = router_new(w->loop, fake_dns_dns(w->dns), &w->rnd.rnd, w->metrics);
}

bool world_start(struct world *w, struct error *err)
{
	struct queue_config conf = {0};

	if (w->started)
		return true;
	if (!w->policy && !(w->policy = load_policy(w, err)))
		return false;
	make_loops(w);
	if (!open_spool(w, err))
		return false;
	set_prohibited(w);
	w->net = session_net_new(w->loop, w->spool, w->local, w->metrics, "host.test");
	session_net_read_at_once(w->net);
	conf = (struct queue_config){.loop = w->loop,
	        .rnd = &w->rnd.rnd,
	        .spool = w->spool,
	        .router = w->router,
	        .local = w->local,
	        .events = w->events,
	        .metrics = w->metrics,
	        .nets = &w->net,
	        .n_nets = 1,
	        .handoff = &w->handoff,
	        .policy = w->policy};
	w->queue = queue_new(&conf);
	if (!spool_replay(w->spool, queue_restore, queue_restore_setting, w->queue, err))
		return false;
	spool_start(w->spool, w->spool_loop);
	queue_start(w->queue);
	w->started = true;
	w->stopped = false;
	return true;
}

static void on_stopped(void *ctx)
{
	struct world *w = ctx;

	w->stopped = true;
}

static void stop(struct world *w)
{
	unsigned rounds;

	if (!w->started)
		return;
	queue_stop(w->queue, w->clock.mono + 30 * SECOND_US, w->clock.mono + 90 * SECOND_US, on_stopped, w);
	for (rounds = 0; rounds < 100 && !w->stopped; rounds++)
		world_advance(w, SECOND_US);
	world_run(w);
	if (!w->stopped) {
		fprintf(stderr, "the queue does not stop\n");
		abort();
	}
	queue_free(&w->queue);
	session_net_free(&w->net);
	spool_close(&w->spool);
	router_free(&w->router);
	fake_dns_free(&w->dns);
	loop_free(&w->spool_loop); /* with what the parts left on them */
	loop_free(&w->loop);
	w->started = false;
}

bool world_restart(struct world *w, struct error *err)
{
	stop(w);
	return world_start(w, err);
}

bool world_reload(struct world *w, struct error *err)
{
	struct policy *next = load_policy(w, err);
	struct errors errors = {0};

	if (!next)
		return false;
	if (!queue_may_drop(w->queue, next, &errors)) {
		error_set(err, "%s", errors.items[0].text);
		errors_free(&errors);
		policy_unref(&next);
		return false;
	}
	policy_unref(&w->policy);
	w->policy = next;
	set_prohibited(w);
	queue_reconfigure(w->queue, policy_ref(next));
	return true;
}

void world_free(struct world **pw)
{
	struct world *w = *pw;
	unsigned i;

	stop(w);
	for (i = 0; i < w->n_hosts; i++) {
		scripted_mx_free(&w->hosts[i].mx);
		mem_free(&w->hosts[i].name);
		mem_free(&w->hosts[i].certificate);
	}
	mem_free(&w->hosts);
	policy_unref(&w->policy);
	event_log_close(&w->events);
	local_addrs_free(&w->local);
	workers_free(&w->disk);
	metrics_free(&w->metrics);
	loop_free(&w->mx_loop);
	for (i = 0; i < w->n_dns_lines; i++)
		mem_free(&w->dns_lines[i]);
	mem_free(&w->dns_lines);
	for (i = 0; i < w->n_log; i++)
		json_decref(w->log[i].json);
	mem_free(&w->log);
	json_decref(w->config);
	tls_ca_free(&w->ca);
	test_folder_remove(&w->folder);
	mem_free(pw);
}

/* --- steps --------------------------------------------------------------------------------------------- */

static bool step(struct world *w)
{
	bool any = loop_step(w->mx_loop);

	any = (w->loop && loop_step(w->loop)) || any;
	return (w->spool_loop && loop_step(w->spool_loop)) || any;
}

static uint64_t next_timer(struct world *w)
{
	struct loop *loops[] = {w->mx_loop, w->loop, w->spool_loop};
	uint64_t earliest = UINT64_MAX, due;
	size_t i;

	for (i = 0; i < array_len(loops); i++) {
		due = loops[i] ? loop_next_timer_us(loops[i]) : UINT64_MAX;
		if (due < earliest)
			earliest = due;
	}
	return earliest;
}

/* --- messages ------------------------------------------------------------------------------------------- */

struct answer {
	bool answered, stored;
};

/* Begins with the request: whoever takes the last of its two mails frees both. */
struct sending {
	struct spool_add add;
	struct answer *answer;
};

struct written {
	struct body *body;
	bool done;
};

static void on_body(void *ctx, struct body *takes, enum body_error error)
{
	struct written *written = ctx;

	(void)error;
	written->body = takes;
	written->done = true;
}

static struct body *make_body(struct world *w, const struct world_message *from)
{
	struct body_writer *writer = body_writer_new(w->spool, w->loop, from->body_len);
	struct written written = {0};

	if (!writer)
		return NULL;
	body_writer_add(writer, from->body, from->body_len);
	body_writer_finish(writer, on_body, &written);
	while (!written.done)
		step(w);
	return written.body;
}

static void on_reply(struct mail *mail)
{
	struct spool_add *add = container_of(mail, struct spool_add, reply);
	struct sending *s = container_of(add, struct sending, add);

	*s->answer = (struct answer){.answered = true, .stored = add->result == SPOOL_STORED};
	if (atomic_fetch_sub(&add->refs, 1) == 1)
		mem_free(&s);
}

/* One delivery for each domain among the recipients. */
static void add_recipient(struct message *m, const struct world_message *from, const char *address)
{
	char domain[DOMAIN_MAX + 64] = "";
	struct delivery_spec *d = NULL;
	struct mailaddr split;
	uint32_t i;

	if (!mailaddr_split(address, strlen(address), &split) ||
	        !domain_normalize(split.domain, split.domain_len, domain, NULL))
		abort();
	for (i = 0; i < m->n_deliveries; i++) {
		if (strcmp(m->deliveries[i].domain, domain) == 0)
			d = &m->deliveries[i];
	}
	if (!d) {
		d = &m->deliveries[m->n_deliveries++];
		d->target = pool_strdup(m->pool, from->binding);
		d->rule = "script";
		d->domain = pool_strdup(m->pool, domain);
		d->recipients = pool_alloc(m->pool, 256 * sizeof(*d->recipients));
	}
	if (d->n_recipients == 256)
		abort();
	d->recipients[d->n_recipients++] = (struct recipient){
	        .address = pool_strdup(m->pool, address),
	        .orcpt = from->orcpt ? pool_strdup(m->pool, from->orcpt) : NULL,
	        .notify = from->notify,
	};
}

static struct message *make_message(struct world *w, const struct world_message *from, struct body *takes)
{
	struct message *m = message_new();
	char *list = mem_strdup(from->recipients);
	char *word, *rest;
	const char *header_end = strstr(from->body, "\r\n\r\n");

	m->id = spool_new_id(w->spool);
	m->received_wall_us = w->clock.wall;
	m->sender = pool_strdup(m->pool, from->sender);
	m->flags = from->flags;
	m->body = takes;
	m->body_size = body_size(takes);
	m->header_size = header_end ? (uint32_t)(header_end - from->body) + 4 : (uint32_t)from->body_len;
	m->deliveries = pool_alloc(m->pool, 64 * sizeof(*m->deliveries));
	for (word = strtok_r(list, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		add_recipient(m, from, word);
	mem_free(&list);
	m->ret = from->ret;
	m->envid = from->envid ? pool_strdup(m->pool, from->envid) : NULL;
	m->client_name = from->client_name ? pool_strdup(m->pool, from->client_name) : NULL;
	m->client_helo = from->client_helo ? pool_strdup(m->pool, from->client_helo) : NULL;
	m->client_proto = from->client_proto ? pool_strdup(m->pool, from->client_proto) : NULL;
	m->client_addr = from->client_addr;
	m->flags |= message_dsn_flags(m);
	return m;
}

uint64_t world_send(struct world *w, const struct world_message *from)
{
	struct body *body = make_body(w, from);
	struct answer answer = {0};
	struct sending *s;
	uint64_t id;

	if (!body)
		return 0;
	s = mem_zalloc(sizeof(*s));
	s->answer = &answer;
	s->add.message = make_message(w, from, body);
	id = s->add.message->id;
	s->add.queue_loop = w->loop;
	s->add.queue_mail.take = queue_enqueue_mail;
	s->add.reply_loop = w->loop;
	s->add.reply.take = on_reply;
	s->add.ctx = w->queue;
	atomic_init(&s->add.refs, 2);
	spool_add(w->spool, &s->add);
	while (!answer.answered)
		step(w);
	return answer.stored ? id : 0;
}

/* --- time ------------------------------------------------------------------------------------------------ */

void world_run(struct world *w)
{
	unsigned quiet = 0, turns = 0;

	while (quiet < 8) {
		if (++turns > 10 * 1000 * 1000) {
			fprintf(stderr, "it does not come to rest\n");
			abort();
		}
		if (step(w)) {
			quiet = 0;
		} else {
			quiet++;
			sched_yield();
		}
	}
}

void world_advance(struct world *w, uint64_t us)
{
	uint64_t end = w->clock.mono + us, next;

	while (w->clock.mono < end) {
		next = next_timer(w);
		if (next < w->clock.mono + 1000)
			next = w->clock.mono + 1000;
		if (next > end)
			next = end;
		fake_clock_advance(&w->clock, next - w->clock.mono);
		world_run(w);
	}
}

struct summary_ask {
	struct queue_ask ask;
	bool answered;
};

static void on_summary(struct mail *mail)
{
	struct queue_ask *ask = container_of(mail, struct queue_ask, reply);

	container_of(ask, struct summary_ask, ask)->answered = true;
}

json_t *world_summary(struct world *w)
{
	struct summary_ask a = {.ask = {.queue = w->queue,
	                                .question = QUEUE_SUMMARY,
	                                .reply_loop = w->loop,
	                                .reply.take = on_summary}};
	json_t *json;

	str_init(&a.ask.json);
	queue_ask(&a.ask);
	while (!a.answered)
		step(w);
	json = json_loads(a.ask.json.data, 0, NULL);
	str_free(&a.ask.json);
	return json;
}
