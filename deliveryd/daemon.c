/*
 * The daemon's life: what is made in which order, and unmade in the reverse one.
 *
 * Loops      queue (and net 0 on it when there are two cores or fewer), net 0..n-1, spool, control. Each runs on one
 *            thread. The disk workers and the log thread are no loops.
 * Order      The spool is replayed into the queue before any loop runs and before anything is accepted; listeners
 *            come last. At the end: no new mail, sessions out, last commit, log.
 */
#include "daemon.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "config.h"
#include "control/control.h"
#include "handoff/handoff.h"
#include "queue/queue.h"
#include "reload.h"
#include "report/event.h"
#include "report/trace.h"
#include "route/dns_control.h"
#include "route/resolver/resolver.h"
#include "route/route.h"
#include "session/local_addrs.h"
#include "session/session.h"
#include "spool/spool.h"
#include "spool/view.h"

#define NETS_MAX 64
#define LISTEN_BACKLOG 1024
#define SERVERS_MAX CONF_DNS_SERVERS_MAX
#define DISK_THREADS 2
#define OTHER_DESCRIPTORS 4000
#define TRANSACTION_GRACE_S 30 /* design 8: running transactions when stopping */

struct role_thread {
	struct loop *loop;
	pthread_t thread;
	bool running;
};

struct daemon {
	char *config_path;
	void (*fatal)(void *ctx, const struct error *);
	void *fatal_ctx;
	uint64_t started_wall_us;
	_Atomic uint64_t stop_timeout_us; /* a reload may change it */

	struct role_thread queue_role, spool_role, control_role, net_roles[NETS_MAX];
	unsigned n_nets, n_net_threads; /* n_net_threads is 0 when net 0 shares the queue's loop */
	struct loop *net_loops[NETS_MAX];

	struct metrics *metrics;
	struct event_log *events;
	struct trace *trace;
	struct workers *disk;
	struct spool *spool;
	struct view *view; /* NULL = not wanted */
	struct local_addrs *local;
	struct resolver *resolver;
	struct router *router;
	struct dns_control dns;
	struct session_net *nets[NETS_MAX];
	struct policy_cell *policy;
	struct handoff_shared handoff;
	struct handoff *handoffs[NETS_MAX];
	struct handoff_listener *listener;
	struct queue *queue;
	struct control *control;
	struct addr listeners[64];
	unsigned n_listeners;
	struct resolver_server servers[SERVERS_MAX]; /* found by a reload, for apply_policy() */
	unsigned n_servers;
	struct reload *reload;
	sem_t stopped; /* counts who has stopped; here, because who is too late for drain() counts all the same */
	struct mail hup; /* SIGHUP's way to the control loop */
	_Atomic bool hup_posted;
};

/* --- sockets ----------------------------------------------------------------------------------------------- */

static bool open_list(const char *what, const struct sockspec *specs, size_t n, int *fds, unsigned *n_fds,
        unsigned max, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		int got = sockspec_listen(&specs[i], LISTEN_BACKLOG, fds + *n_fds, (int)(max - *n_fds), err);

		if (got < 0)
			return error_at(err, "%s", what);
		*n_fds += (unsigned)got;
	}
	return true;
}

bool daemon_sockets_open(const struct process_options *p, struct daemon_sockets *s, struct error *err)
{
	return open_list("handoff.listen", p->handoff_listen.items, p->handoff_listen.n, s->handoff,
	               &s->n_handoff, array_len(s->handoff), err) &&
	       open_list("control.listen", p->control_listen, p->control_listen != NULL, s->control,
	               &s->n_control, array_len(s->control), err) &&
	       open_list("control.observe", p->control_observe, p->control_observe != NULL, s->observe,
	               &s->n_observe, array_len(s->observe), err) &&
	       open_list("control.metrics", p->control_metrics, p->control_metrics != NULL, s->metrics,
	               &s->n_metrics, array_len(s->metrics), err);
}

static void close_all(const int *fds, unsigned *n)
{
	for (unsigned i = 0; i < *n; i++)
		close(fds[i]);
	*n = 0;
}

void daemon_sockets_close(struct daemon_sockets *s)
{
	close_all(s->handoff, &s->n_handoff);
	close_all(s->control, &s->n_control);
	close_all(s->observe, &s->n_observe);
	close_all(s->metrics, &s->n_metrics);
}

/* --- threads ----------------------------------------------------------------------------------------------- */

static void *role_main(void *arg)
{
	struct role_thread *role = arg;

	pthread_setname_np(pthread_self(), loop_name(role->loop));
	loop_run(role->loop);
	return NULL;
}

static bool role_start(struct role_thread *role, struct error *err)
{
	errno = pthread_create(&role->thread, NULL, role_main, role);
	role->running = errno == 0;
	return role->running || error_sys(err, "cannot start the %s thread", loop_name(role->loop));
}

static void role_stop(struct role_thread *role)
{
	if (!role->running)
		return;
	loop_stop(role->loop);
	pthread_join(role->thread, NULL);
	role->running = false;
}

static void make_loops(struct daemon *d, unsigned threads)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	static const char *const names[] = {
	        "net-0", "net-1", "net-2", "net-3", "net-4", "net-5", "net-6", "net-7"};

	d->queue_role.loop = loop_new("queue", &clock_system);
	d->spool_role.loop = loop_new("spool", &clock_system);
	d->control_role.loop = loop_new("control", &clock_system);
	d->n_nets = threads ? threads : cores > 2 ? (unsigned)cores - 1 : 1;
	if (d->n_nets > NETS_MAX)
		d->n_nets = NETS_MAX;
	d->n_net_threads = threads == 0 && cores <= 2 ? 0 : d->n_nets;
	for (unsigned i = 0; i < d->n_nets; i++) {
		if (d->n_net_threads)
			d->net_roles[i].loop =
			        loop_new(i < array_len(names) ? names[i] : "net-n", &clock_system);
		d->net_loops[i] = d->n_net_threads ? d->net_roles[i].loop : d->queue_role.loop;
	}
}

/* --- parts -------------------------------------------------------------------------------------------------- */

static void spool_failed(void *ctx, const struct error *err)
{
	struct daemon *d = ctx;

	d->fatal(d->fatal_ctx, err);
}

static bool make_spool(struct daemon *d, const struct process_options *p, struct error *err)
{
	struct spool_config conf = {
	        .path = p->spool_path,
	        .segment_size = p->spool_segment_size,
	        .min_free = p->spool_min_free,
	        .memory = p->spool_memory,
	        .clock = &clock_system,
	        .rnd = &rnd_system,
	        .disk = d->disk,
	        .metrics = d->metrics,
	        .on_fatal = spool_failed,
	        .ctx = d,
	};

	d->spool = spool_open(&conf, err);
	return d->spool != NULL;
}

static void make_view(struct daemon *d, const struct process_options *p)
{
	char *path = mem_printf("%s/" VIEW_FILE, p->spool_path);

	if (p->spool_view)
		d->view = view_new(d->spool, path);
	mem_free(&path);
}

static unsigned dns_servers(const struct process_options *p, struct resolver_server out[SERVERS_MAX])
{
	unsigned n = 0;

	for (; n < p->dns_servers.n && n < SERVERS_MAX; n++) {
		out[n].addr = p->dns_servers.items[n].addr;
		out[n].trust_ad = p->dns_servers.items[n].trust_ad;
	}
	return n ? n : resolver_system_servers(out, SERVERS_MAX);
}

static void make_resolver(struct daemon *d, const struct process_options *p)
{
	struct resolver_server servers[SERVERS_MAX];
	unsigned n = dns_servers(p, servers);

	d->resolver = resolver_new(d->queue_role.loop, &rnd_system, d->metrics, servers, n);
	d->router = router_new(d->queue_role.loop, resolver_dns(d->resolver), &rnd_system, d->metrics);
	d->dns = (struct dns_control){
	        .loop = d->queue_role.loop, .resolver = d->resolver, .router = d->router};
}

static unsigned listener_addrs(const struct daemon_sockets *s, struct addr *out, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->n_handoff && n < max; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);

		if (getsockname(s->handoff[i], (struct sockaddr *)&ss, &len) == 0 &&
		        addr_from_sockaddr((struct sockaddr *)&ss, &out[n]))
			n++;
	}
	return n;
}

static void set_prohibited(struct daemon *d, const struct policy *policy)
{
	const struct conf *conf = policy_conf(policy);
	const struct global_options *o = conf_global(conf);
	struct prohibited prohibited = {
	        .rules = o->prohibited_hosts.items,
	        .n_rules = (unsigned)o->prohibited_hosts.n,
	        .skips = o->skip_hosts.items,
	        .n_skips = (unsigned)o->skip_hosts.n,
	        .own_listeners = d->listeners,
	        .n_own_listeners = d->n_listeners,
	        .local = d->local,
	};

	prohibited.n_own_names = (unsigned)conf_own_names(conf, &prohibited.own_names);
	router_set_prohibited(d->router, &prohibited);
}

static void set_resolver_limits(struct daemon *d, const struct policy *policy)
{
	const struct global_options *o = conf_global(policy_conf(policy));
	struct resolver_limits limits = {
	        .min_ttl_s = (uint32_t)o->min_dns_ttl_s,
	        .max_ttl_s = (uint32_t)o->max_dns_ttl_s,
	        .mx_limited = o->dns_rate_limit_enabled,
	        .mx_queries = o->dns_rate_limit_mx_queries,
	        .mx_max_queue = o->dns_rate_limit_max_queue,
	        .mx_period_us = o->dns_rate_limit_period_s * SECOND_US,
	};

	resolver_set_limits(d->resolver, &limits);
}

static void make_nets(struct daemon *d, const struct process_options *p)
{
	d->trace = trace_new(&clock_system);
	for (unsigned i = 0; i < d->n_nets; i++) {
		d->nets[i] = session_net_new(d->net_loops[i], d->spool, d->local, d->metrics, p->hostname);
		session_net_set_trace(d->nets[i], d->trace);
	}
}

/*
 * How many outgoing sessions our descriptors are enough for, with the handoff's sessions (accept pauses at twice its mark),
 * the spool's segments and bodies, DNS and control beside them. Without this bound the first to go without one would be
 * whoever asks next: a segment, an incoming session.
 */
static uint32_t sessions_max(void)
{
	struct rlimit limit;
	rlim_t others = OTHER_DESCRIPTORS;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return 0;
	if (others > limit.rlim_cur / 2)
		others = limit.rlim_cur / 2;
	return limit.rlim_cur - others < UINT32_MAX ? (uint32_t)(limit.rlim_cur - others) : 0;
}

static void make_queue(struct daemon *d, struct policy *policy)
{
	struct queue_config conf = {
	        .loop = d->queue_role.loop,
	        .rnd = &rnd_system,
	        .spool = d->spool,
	        .router = d->router,
	        .local = d->local,
	        .events = d->events,
	        .metrics = d->metrics,
	        .nets = d->nets,
	        .n_nets = d->n_nets,
	        .sessions_max = sessions_max(),
	        .handoff = &d->handoff,
	        .policy = policy,
	};

	d->queue = queue_new(&conf);
}

static void make_handoffs(struct daemon *d, const struct daemon_sockets *s)
{
	d->handoff.spool = d->spool;
	d->handoff.policy = d->policy;
	d->handoff.events = d->events;
	d->handoff.metrics = d->metrics;
	d->handoff.queue_loop = d->queue_role.loop;
	d->handoff.enqueue = queue_enqueue_mail;
	d->handoff.queue = d->queue;
	d->handoff.drained = queue_has_alias;
	d->handoff.quota_take = queue_quota_take;
	d->handoff.quota_give_back = queue_quota_give_back;
	for (unsigned i = 0; i < d->n_nets; i++)
		d->handoffs[i] = handoff_new(&d->handoff, d->net_loops[i]);
	d->listener = handoff_listener_new(
	        &d->handoff, d->net_loops[0], s->handoff, s->n_handoff, d->handoffs, d->net_loops, d->n_nets);
}

/* --- control ------------------------------------------------------------------------------------------------- */

static void jw_hand_overs(struct json_out *j, const char *key, struct loop *loop)
{
	struct loop_stats stats = loop_stats(loop);

	jw_object(j, key);
	jw_uint(j, "mail", stats.mail);
	jw_uint(j, "own_mail", stats.own_mail);
	jw_uint(j, "wakes", stats.wakes);
	jw_end_object(j);
}

static void status_json(void *ctx, struct str *out)
{
	struct daemon *d = ctx;
	struct json_out j;
	uint64_t net_cpu = 0;

	for (unsigned i = 0; i < d->n_net_threads; i++)
		net_cpu += loop_cpu_us(d->net_loops[i]);
	json_out_init(&j, out);
	jw_object(&j, NULL);
	jw_str(&j, "version", PACKAGE_VERSION);
	jw_time(&j, "started", d->started_wall_us);
	jw_str(&j, "config", d->config_path);
	jw_object(&j, "cpu_us"); /* per thread; queue holds net too when they share one */
	jw_uint(&j, d->n_net_threads ? "queue" : "queue_and_net", loop_cpu_us(d->queue_role.loop));
	if (d->n_net_threads)
		jw_uint(&j, "net", net_cpu);
	jw_uint(&j, "spool", loop_cpu_us(d->spool_role.loop));
	jw_uint(&j, "disk", workers_cpu_us(d->disk));
	jw_uint(&j, "control", loop_cpu_us(d->control_role.loop));
	jw_end_object(&j);
	jw_object(&j, "hand_overs");
	jw_hand_overs(&j, "queue", d->queue_role.loop);
	jw_hand_overs(&j, "spool", d->spool_role.loop);
	for (unsigned i = 0; i < d->n_net_threads; i++)
		jw_hand_overs(&j, loop_name(d->net_loops[i]), d->net_loops[i]);
	jw_end_object(&j);
	jw_end_object(&j);
	str_add_char(out, '\n');
}

static bool reload_request(void *ctx, const char *step, bool force, struct str *json)
{
	struct daemon *d = ctx;

	return reload_run(d->reload, step, force, json);
}

/* On the control loop, because the servers may stand in resolv.conf. */
static void prepare_policy(void *ctx, const struct policy *policy)
{
	struct daemon *d = ctx;

	d->n_servers = dns_servers(conf_process(policy_conf(policy)), d->servers);
}

/* On the queue's loop: what of a new configuration is neither the queue's nor the handoff's. */
static void apply_policy(void *ctx, const struct policy *policy)
{
	struct daemon *d = ctx;
	const struct process_options *p = conf_process(policy_conf(policy));

	set_prohibited(d, policy);
	set_resolver_limits(d, policy);
	for (unsigned i = 0; i < d->n_nets; i++)
		session_net_reload(d->nets[i]);
	resolver_set_servers(d->resolver, d->servers, d->n_servers);
	spool_set_limits(d->spool, p->spool_min_free, p->spool_memory);
	d->stop_timeout_us = p->stop_timeout_s * SECOND_US;
	log_set_level(p->log_level);
}

static void make_reload(struct daemon *d, struct policy *takes)
{
	struct reload_parts parts = {
	        .config_path = d->config_path,
	        .queue_loop = d->queue_role.loop,
	        .queue = d->queue,
	        .cell = d->policy,
	        .events = d->events,
	        .prepare = prepare_policy,
	        .apply = apply_policy,
	        .ctx = d,
	};

	d->reload = reload_new(&parts, takes);
}

static void make_control(struct daemon *d, const struct daemon_sockets *s)
{
	struct control_config conf = {
	        .loop = d->control_role.loop,
	        .metrics = d->metrics,
	        .queue = d->queue,
	        .spool = d->spool,
	        .trace = d->trace,
	        .dns = &d->dns,
	        .reload = reload_request,
	        .status = status_json,
	        .ctx = d,
	};

	d->control = control_new(&conf);
	for (unsigned i = 0; i < s->n_control; i++)
		control_listen(d->control, s->control[i], CONTROL_FULL);
	for (unsigned i = 0; i < s->n_observe; i++)
		control_listen(d->control, s->observe[i], CONTROL_OBSERVE);
	for (unsigned i = 0; i < s->n_metrics; i++)
		control_listen(d->control, s->metrics[i], CONTROL_METRICS);
}

static void take_hup(struct mail *mail)
{
	struct daemon *d = container_of(mail, struct daemon, hup);
	struct str json;

	d->hup_posted = false;
	sd_notify(0, "RELOADING=1");
	str_init(&json);
	reload_run(d->reload, "all", false, &json);
	str_free(&json);
	sd_notify(0, "READY=1");
}

void daemon_post_reload(struct daemon *d)
{
	if (!atomic_exchange(&d->hup_posted, true)) /* one under way is enough */
		loop_post(d->control_role.loop, &d->hup);
}

/* --- start ----------------------------------------------------------------------------------------------------- */

static bool make_parts(
        struct daemon *d, struct policy *policy, const struct daemon_sockets *s, struct error *err)
{
	const struct process_options *p = conf_process(policy_conf(policy));
	struct stamp_keys *keys = NULL;

	d->metrics = metrics_new();
	d->events = event_log_open(p->log_events, &clock_system, d->metrics, true, err);
	if (!d->events)
		return false;
	if (p->stamp_key_file && !(keys = stamp_keys_load(p->stamp_key_file, err)))
		return error_at(err, "stamp.key_file");
	d->policy = policy_cell_new(policy_ref(policy), keys);
	d->disk = workers_new("disk", DISK_THREADS);
	if (!make_spool(d, p, err))
		return false;
	d->local = local_addrs_new(d->queue_role.loop, err);
	if (!d->local)
		return false;
	make_resolver(d, p);
	d->n_listeners = listener_addrs(s, d->listeners, array_len(d->listeners));
	set_prohibited(d, policy);
	set_resolver_limits(d, policy);
	resolver_probe(d->resolver);
	make_nets(d, p);
	make_queue(d, policy);
	return true;
}

static bool start_threads(struct daemon *d, struct error *err)
{
	if (!role_start(&d->spool_role, err) || !role_start(&d->queue_role, err) ||
	        !role_start(&d->control_role, err))
		return false;
	for (unsigned i = 0; i < d->n_net_threads; i++)
		if (!role_start(&d->net_roles[i], err))
			return false;
	return d->view == NULL || view_start(d->view, err);
}

static void post_event(struct daemon *d, enum event_type type, const char *reason)
{
	struct event event = {.type = type, .reason = reason, .detail = PACKAGE_VERSION};

	event_post(d->events, &event);
}

struct daemon *daemon_start(const char *config_path, struct policy *policy, struct daemon_sockets *sockets,
        void (*fatal)(void *ctx, const struct error *), void *ctx, struct error *err)
{
	const struct process_options *p = conf_process(policy_conf(policy));
	struct daemon *d = mem_zalloc(sizeof(*d));

	d->config_path = mem_strdup(config_path);
	d->fatal = fatal;
	d->fatal_ctx = ctx;
	d->started_wall_us = clock_system.wall_us(&clock_system);
	d->stop_timeout_us = p->stop_timeout_s * SECOND_US;
	log_set_level(p->log_level);
	d->hup.take = take_hup;
	make_loops(d, p->delivery_threads);
	if (!make_parts(d, policy, sockets, err) ||
	        !spool_replay(d->spool, queue_restore, queue_restore_setting, d->queue, err))
		return NULL; /* the process ends: nothing was accepted, nothing is lost by not unmaking it */
	make_reload(d, policy);
	spool_start(d->spool, d->spool_role.loop);
	queue_start(d->queue);
	make_handoffs(d, sockets);
	make_control(d, sockets);
	make_view(d, p);
	post_event(d, EVENT_START, NULL);
	return start_threads(d, err) ? d : NULL;
}

/* --- stop ------------------------------------------------------------------------------------------------------ */

struct stopping {
	struct daemon *daemon;
	struct handoff *handoff;
	uint64_t transaction_deadline_us, final_deadline_us;
};

static void one_done(void *ctx)
{
	sem_post(ctx);
}

static void stop_listener(void *arg)
{
	struct stopping *s = arg;

	handoff_listener_free(&s->daemon->listener);
}

static void stop_handoff(void *arg)
{
	struct stopping *s = arg;

	handoff_stop(s->handoff, one_done, &s->daemon->stopped);
}

static void stop_queue(void *arg)
{
	struct stopping *s = arg;

	queue_stop(s->daemon->queue, s->transaction_deadline_us, s->final_deadline_us, one_done,
	        &s->daemon->stopped);
}

/* False when the time is over. */
static bool wait_until(sem_t *sem, uint64_t deadline_mono_us)
{
	struct timespec t = {.tv_sec = (time_t)(deadline_mono_us / SECOND_US),
	        .tv_nsec = (long)(deadline_mono_us % SECOND_US) * 1000};

	while (sem_clockwait(sem, CLOCK_MONOTONIC, &t) < 0)
		if (errno != EINTR)
			return false;
	return true;
}

/* No new mail first; what is under way gets its time; what is past end of data is recorded by the queue. */
static void drain(struct daemon *d)
{
	uint64_t now = clock_system.mono_us(&clock_system), timeout_us = d->stop_timeout_us;
	struct stopping s = {
	        .daemon = d,
	        .transaction_deadline_us = now + TRANSACTION_GRACE_S * SECOND_US,
	        .final_deadline_us = now + timeout_us - timeout_us / 10,
	};
	unsigned due = d->n_nets + 1;

	if (s.transaction_deadline_us > s.final_deadline_us)
		s.transaction_deadline_us = s.final_deadline_us;
	sem_init(&d->stopped, 0, 0);
	d->handoff.stopping = true;
	loop_call(d->net_loops[0], stop_listener, &s);
	for (unsigned i = 0; i < d->n_nets; i++) {
		s.handoff = d->handoffs[i];
		loop_call(d->net_loops[i], stop_handoff, &s);
	}
	loop_call(d->queue_role.loop, stop_queue, &s);
	while (due && wait_until(&d->stopped, s.final_deadline_us + SECOND_US))
		due--;
	if (due)
		log_warning("stop_timeout is over with sessions still open: they are closed");
}

void daemon_stop(struct daemon **p)
{
	/* Freeing a million deliveries one by one would only delay the end of the process. Leak checkers find from here
	 * what is left, and so tell only of what was really lost. */
	static struct daemon *volatile ended;
	struct daemon *d = ended = *p;

	*p = NULL;
	drain(d);
	role_stop(&d->control_role);
	for (unsigned i = 0; i < d->n_net_threads; i++)
		role_stop(&d->net_roles[i]);
	role_stop(&d->queue_role);
	role_stop(&d->spool_role);
	spool_finish(d->spool); /* the last commit, before anything that may take its time */
	view_stop(&d->view);
	workers_free(&d->disk);
	spool_close(&d->spool);
	post_event(d, EVENT_STOP, NULL);
	event_log_close(&d->events);
	log_notice("stopped");
}

void daemon_abandon(struct daemon *d)
{
	struct timespec moment = {.tv_sec = 1};

	d->handoff.stopping = true;
	nanosleep(&moment, NULL); /* the 451s of the failed batch go out */
	post_event(d, EVENT_STOP, "disk failure");
	event_log_close(&d->events);
}
