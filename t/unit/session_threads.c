/*
 * Sessions on two net loops with threads of their own, the owner on a third, MX hosts on a fourth: jobs, quits and
 * lost connections cross each other. Every job comes back once, then on_closed, once. For ThreadSanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>
#include "base/mem.h"
#include "t/lib/session_rig.h"
#include "t/lib/test.h"
#include "t/lib/tls_certs.h"

#define N_NETS 2
#define N_SLOTS 12
#define N_JOBS 1500

struct slot {
	struct fleet *fleet;
	struct session *session;
	unsigned given, back; /* of this session */
	bool quit;
};

struct fleet {
	struct loop *owner, *nets[N_NETS], *mx_loop;
	struct session_net *net[N_NETS];
	struct metrics *metrics;
	struct local_addrs *local;
	struct profile profile;
	struct scripted_mx *mx;
	struct fake_rnd rnd;
	struct addr source;
	struct slot slots[N_SLOTS];
	unsigned jobs_made, jobs_done, jobs_back, open;
	struct timer start;
};

static void slot_open(struct slot *);

static struct session_job *job_new(struct fleet *f)
{
	f->jobs_made++;
	return rig_job("a@acme.test", "x@example.test y@example.test", "Subject: x\r\n\r\nHello\r\n");
}

static void give(struct slot *slot)
{
	struct fleet *f = slot->fleet;
	unsigned n = (unsigned)rnd_below(&f->rnd.rnd, 3);

	if (f->jobs_made >= N_JOBS || n == 0) {
		session_no_job(slot->session);
		return;
	}
	for (; n > 0; n--) {
		slot->given++;
		session_job(slot->session, job_new(f));
	}
	if (rnd_below(&f->rnd.rnd, 20) == 0)
		session_quit(slot->session);
}

static void on_ready(void *ctx, struct session *s, const struct session_facts *facts)
{
	struct slot *slot = ctx;

	assert_ptr_equal(s, slot->session);
	assert_true(addr_equal_ip(&facts->source, &slot->fleet->source));
	give(slot);
}

static void on_want(void *ctx, struct session *s)
{
	struct slot *slot = ctx;

	assert_ptr_equal(s, slot->session);
	give(slot);
}

static void on_job_done(
        void *ctx, struct session *s, struct session_job *job, const struct session_facts *facts)
{
	struct slot *slot = ctx;

	(void)facts;
	assert_ptr_equal(s, slot->session);
	slot->back++;
	if (job->begun)
		slot->fleet->jobs_done++;
	else
		slot->fleet->jobs_back++;
	session_job_free(&job);
}

static void on_closed(void *ctx, struct session *s, const struct outcome *why, uint32_t completed,
        const struct session_facts *facts)
{
	struct slot *slot = ctx;
	struct fleet *f = slot->fleet;

	(void)why;
	(void)completed;
	(void)facts;
	assert_ptr_equal(s, slot->session);
	assert_int_equal(slot->given, slot->back);
	slot->session = NULL;
	f->open--;
	if (f->jobs_made < N_JOBS)
		slot_open(slot);
	else if (f->open == 0)
		loop_stop(f->owner);
}

static const struct session_owner owner = {on_ready, on_want, on_job_done, on_closed};

static void slot_open(struct slot *slot)
{
	struct fleet *f = slot->fleet;
	struct session_open open = {.peer = *scripted_mx_addr(f->mx),
	        .mx = "mx.test",
	        .source = f->source,
	        .binding = "acme",
	        .profile = &f->profile,
	        .first = rnd_below(&f->rnd.rnd, 2) ? job_new(f) : NULL,
	        .owner_loop = f->owner,
	        .owner = &owner,
	        .ctx = slot};

	slot->given = open.first ? 1 : 0;
	slot->back = 0;
	f->open++;
	slot->session = session_open(f->net[rnd_below(&f->rnd.rnd, N_NETS)], &open);
}

static void start(void *ctx)
{
	struct fleet *f = ctx;
	unsigned i;

	for (i = 0; i < N_SLOTS; i++) {
		f->slots[i].fleet = f;
		slot_open(&f->slots[i]);
	}
}

static void *thread(void *loop)
{
	loop_run(loop);
	return NULL;
}

static void fleet_options(struct conn_options *o)
{
	o->ehlo_hostname = "client.test";
	o->connect_timeout_s = o->ehlo_timeout_s = o->mailfrom_timeout_s = o->rcptto_timeout_s = 60;
	o->data_timeout_s = o->send_timeout_s = o->body_timeout_s = o->rset_timeout_s = o->quit_timeout_s =
	        60;
	o->transaction_timeout_s = 600;
	o->idle_timeout_s = 0; /* close when there is no next job */
	o->max_deliveries_per_connection = 20;
}

/* tls: every connection under TLS, its certificate judged, the files read by a worker thread. */
static void run_fleet(bool tls)
{
	static const char *const script[] = {"MAIL/100: close", "RCPT/300: 421 no; close", "DOT/200: reset",
	        "DATA/250: close", "CONNECT/9: close", "CONNECT/20: 554 no; close", "EHLO/12: reset",
	        "IDLE/50: close", "IDLE/90: 421 enough; close", "IDLE/130: reset", "RCPT/500: 550 nobody"};
	pthread_t threads[N_NETS + 1];
	struct fleet f = {0};
	struct tls_ca *ca = tls_ca_new("Test CA");
	char *folder = test_folder_new(), *ca_file = mem_printf("%s/ca.pem", folder);
	struct tls_cert cert;
	unsigned i;

	test_file_write(ca_file, tls_ca_pem(ca), strlen(tls_ca_pem(ca)));
	tls_cert_issue(ca, "mx.test", 30, &cert);
	f.owner = loop_new("owner", &clock_system);
	f.mx_loop = loop_new("mx", &clock_system);
	f.metrics = metrics_new();
	f.local = local_addrs_fake();
	assert_true(addr_parse(RIG_SOURCE, &f.source, NULL));
	local_addrs_fake_set(f.local, &f.source, true);
	fake_rnd_init(&f.rnd, 42);
	atomic_init(&f.profile.refs, 1);
	fleet_options(&f.profile.o);
	f.mx = scripted_mx_new(f.mx_loop, "127.0.0.2");
	if (tls) {
		scripted_mx_tls(f.mx, cert.certificate, cert.key, NULL);
		f.profile.o.tls = TLS_REQUIRED;
		f.profile.o.tls_verify = TLS_VERIFY_HOST;
		f.profile.o.tls_ca = ca_file;
	}
	for (i = 0; i < array_len(script); i++)
		assert_true(scripted_mx_line(f.mx, script[i]));
	for (i = 0; i < N_NETS; i++) {
		f.nets[i] = loop_new("net", &clock_system);
		f.net[i] = session_net_new(f.nets[i], NULL, f.local, f.metrics, "host.test");
		pthread_create(&threads[i], NULL, thread, f.nets[i]);
	}
	pthread_create(&threads[N_NETS], NULL, thread, f.mx_loop);
	timer_init(&f.start, start, &f);
	timer_arm_in(f.owner, &f.start, 0);
	loop_run(f.owner);

	for (i = 0; i < N_NETS; i++)
		loop_stop(f.nets[i]);
	loop_stop(f.mx_loop);
	for (i = 0; i < N_NETS + 1; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(f.jobs_done + f.jobs_back, f.jobs_made);
	assert_true(f.jobs_done > N_JOBS / 2);
	assert_true(f.jobs_back > 0);
	assert_int_equal(atomic_load(&f.profile.refs), 1);
	assert_null(scripted_mx_offence(f.mx));
	scripted_mx_free(&f.mx);
	for (i = 0; i < N_NETS; i++) {
		session_net_free(&f.net[i]);
		loop_free(&f.nets[i]);
	}
	local_addrs_free(&f.local);
	metrics_free(&f.metrics);
	loop_free(&f.mx_loop);
	loop_free(&f.owner);
	assert_int_equal(fake_body_cursors(), 0);
	tls_cert_free(&cert);
	tls_ca_free(&ca);
	mem_free(&ca_file);
	test_folder_remove(&folder);
}

static void test_threads(void **state)
{
	(void)state;
	run_fleet(false);
}

static void test_threads_with_tls(void **state)
{
	(void)state;
	run_fleet(true);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_threads_with_tls),
};
TEST_MAIN("session_threads", tests)
