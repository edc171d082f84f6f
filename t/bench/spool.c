/*
 * bench/spool - the spool alone: messages per second, batch size, commit latency, CPU per message
 *
 * usage: t/bench/spool [-d FOLDER] [-s SECONDS] [-n MESSAGES]     (folder: on the file system to be measured; $TMPDIR)
 *
 * A writer thread keeps so many messages waiting for their 250; each is ended (done) as soon as it has entered the queue,
 * as in steady traffic. Spool loop and disk workers have threads of their own. "spool" is the CPU of the spool loop,
 * "disk" that of the workers (new segments), "writer" that of the thread that makes the bodies and takes the answers.
 * Then how long a start takes with so many messages waiting, with the index files and without them.
 */
#include "config.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "spool/spool.h"

#define LATENCIES ((size_t)1 << 22)

struct bench;

struct slot {
	struct spool_add add;
	struct bench *bench;
	struct body_writer *writer;
	struct message *message;
	uint64_t begun_us;
};

struct bench {
	struct spool *spool;
	struct loop *spool_loop, *loop;
	struct spool_results *results;
	struct slot *slots;
	unsigned n_slots, busy;
	size_t body;
	char *bytes;
	uint64_t until_us;
	uint64_t stored, refused, wanted; /* wanted: so many, and none of them ends */
	uint64_t live;
	uint32_t *latency;
	size_t n_latency;
	pthread_t spool_thread;
};

static uint64_t now_us(void)
{
	return clock_system.mono_us(&clock_system);
}

static void *run_loop(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

static struct message *make_message(struct bench *b)
{
	struct message *m = message_new();

	m->id = spool_new_id(b->spool);
	m->received_wall_us = m->id;
	m->sender = "news-4711@customer.example";
	m->client_name = "app1.customer.example";
	m->client_helo = "app1.customer.example";
	m->client_proto = "ESMTP";
	m->n_deliveries = 1;
	m->deliveries = pool_alloc(m->pool, sizeof(*m->deliveries));
	m->deliveries->target = "acme";
	m->deliveries->rule = "newsletters";
	m->deliveries->domain = "destination.example";
	m->deliveries->n_recipients = 1;
	m->deliveries->recipients = pool_alloc(m->pool, sizeof(struct recipient));
	m->deliveries->recipients->address = "somebody.with.a.name@destination.example";
	m->body_size = b->body;
	return m;
}

static void start(struct slot *slot);

static void on_queue(struct mail *mail)
{
	struct slot *slot = container_of(mail, struct slot, add.queue_mail);
	struct bench *b = slot->bench;

	if (b->results == NULL)
		b->results = spool_results_new();
	if (b->wanted == 0)
		spool_results_done(b->results, slot->add.message->id, 0);
	message_unref(&slot->add.message);
}

static void on_reply(struct mail *mail)
{
	struct slot *slot = container_of(mail, struct slot, add.reply);
	struct bench *b = slot->bench;
	uint64_t now = now_us();

	b->busy--;
	if (slot->add.result != SPOOL_STORED) {
		b->refused++;
		return;
	}
	b->stored++;
	if (b->n_latency < LATENCIES)
		b->latency[b->n_latency++] = (uint32_t)(now - slot->begun_us);
	if (b->wanted != 0 ? b->stored + b->busy < b->wanted : now < b->until_us)
		start(slot);
	else if (b->wanted != 0 && b->busy == 0)
		loop_stop(b->loop);
}

static void on_body(void *ctx, struct body *body, enum body_error error)
{
	struct slot *slot = ctx;
	struct bench *b = slot->bench;

	if (error != BODY_OK)
		abort();
	slot->message->body = body;
	slot->add = (struct spool_add){
	        .message = slot->message,
	        .queue_loop = b->loop,
	        .queue_mail.take = on_queue,
	        .reply_loop = b->loop,
	        .reply.take = on_reply,
	};
	slot->begun_us = now_us();
	spool_add(b->spool, &slot->add);
}

static void start(struct slot *slot)
{
	struct bench *b = slot->bench;

	slot->message = make_message(b);
	slot->writer = body_writer_new(b->spool, b->loop, b->body);
	if (slot->writer == NULL) {
		fprintf(stderr, "no space\n");
		exit(1);
	}
	b->busy++;
	body_writer_add(slot->writer, b->bytes, b->body);
	body_writer_finish(slot->writer, on_body, slot);
}

static void post_results(void *ctx)
{
	struct bench *b = ctx;

	spool_results_post(b->spool, &b->results);
}

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void count_live(void *ctx, const struct spool_live *live)
{
	struct bench *b = ctx;

	(void)live;
	b->live++;
}

static void ignore_setting(void *ctx, const char *key, const char *value)
{
	(void)ctx;
	(void)key;
	(void)value;
}

static void on_fatal(void *ctx, const struct error *err)
{
	(void)ctx;
	fprintf(stderr, "%s\n", err->text);
	exit(1);
}

static void report(struct bench *b, struct metrics *metrics, double seconds, uint64_t spool_cpu,
        uint64_t disk_cpu, uint64_t writer_cpu)
{
	metric *batches = metrics_counter(metrics, "bindpost_spool_batches_total", NULL, "");
	double n = (double)b->stored;

	qsort(b->latency, b->n_latency, sizeof(*b->latency), by_value);
	printf("%6zu %8u %10.0f %8.1f %8.2f %8.2f %9.2f %9.2f %9.2f\n", b->body, b->n_slots, n / seconds,
	        n / (double)metric_get(batches), b->latency[b->n_latency / 2] / 1e3,
	        b->latency[b->n_latency * 99 / 100] / 1e3, (double)spool_cpu / n, (double)disk_cpu / n,
	        (double)writer_cpu / n);
	fflush(stdout);
}

/* CPU of this thread, which runs b->loop by steps. */
static uint64_t own_cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SECOND_US + (uint64_t)ts.tv_nsec / 1000;
}

static void stop_timer(void *ctx)
{
	struct bench *b = ctx;

	loop_stop(b->loop);
}

/* A short rest, so that the last answers and the workers come to their end. */
static void rest(struct bench *b, uint64_t us)
{
	struct timer timer;

	timer_init(&timer, stop_timer, b);
	timer_arm_in(b->loop, &timer, us);
	loop_run(b->loop);
}

struct stand { /* what both kinds of run need */
	char *path;
	struct workers *workers;
	struct metrics *metrics;
};

static void stand_open(struct stand *st, struct bench *b)
{
	struct spool_config cfg = {
	        .path = st->path,
	        .segment_size = 64 << 20,
	        .memory = 256 << 20,
	        .clock = &clock_system,
	        .rnd = &rnd_system,
	        .disk = st->workers = workers_new("disk", 2),
	        .metrics = st->metrics = metrics_new(),
	        .on_fatal = on_fatal,
	};
	struct error err;

	b->spool_loop = loop_new("spool", &clock_system);
	b->loop = loop_new("writer", &clock_system);
	b->spool = spool_open(&cfg, &err);
	b->live = 0;
	if (b->spool == NULL || !spool_replay(b->spool, count_live, ignore_setting, b, &err)) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	spool_start(b->spool, b->spool_loop);
	loop_on_turn_end(b->loop, post_results, b);
	pthread_create(&b->spool_thread, NULL, run_loop, b->spool_loop);
}

static void stand_close(struct stand *st, struct bench *b)
{
	loop_stop(b->spool_loop);
	pthread_join(b->spool_thread, NULL);
	workers_free(&st->workers);
	spool_close(&b->spool);
	loop_free(&b->loop);
	loop_free(&b->spool_loop);
	metrics_free(&st->metrics);
}

static void stand_remove(struct stand *st)
{
	char *command = mem_printf("rm -rf '%s'", st->path);

	if (system(command) != 0)
		fprintf(stderr, "%s is left\n", st->path);
	mem_free(&command);
	mem_free(&st->path);
}

static void bench_new(struct bench *b, size_t body, unsigned outstanding)
{
	*b = (struct bench){.body = body, .n_slots = outstanding};
	b->bytes = mem_alloc(body);
	for (size_t i = 0; i < body; i++)
		b->bytes[i] = (char)rnd_u64(&rnd_system);
	b->latency = mem_array(NULL, LATENCIES, sizeof(*b->latency));
	b->slots = mem_zalloc(outstanding * sizeof(*b->slots));
}

static void bench_free(struct bench *b)
{
	mem_free(&b->bytes);
	mem_free(&b->latency);
	mem_free(&b->slots);
}

static void start_all(struct bench *b)
{
	for (unsigned i = 0; i < b->n_slots; i++) {
		b->slots[i].bench = b;
		start(&b->slots[i]);
	}
}

static void bench_traffic(const char *folder, size_t body, unsigned outstanding, double seconds)
{
	struct stand st = {.path = mem_printf("%s/bench-spool-%d", folder, (int)getpid())};
	struct bench b;
	uint64_t begun, spool_cpu, disk_cpu, cpu;

	bench_new(&b, body, outstanding);
	stand_open(&st, &b);
	rest(&b, 2 * SECOND_US); /* spares */
	begun = now_us();
	b.until_us = begun + (uint64_t)(seconds * 1e6);
	spool_cpu = loop_cpu_us(b.spool_loop);
	disk_cpu = workers_cpu_us(st.workers);
	cpu = own_cpu_us();
	start_all(&b);
	rest(&b, (uint64_t)(seconds * 1e6));
	double took = (double)(now_us() - begun) / 1e6;
	while (b.busy > 0)
		rest(&b, 10000);
	rest(&b, 100000);
	report(&b, st.metrics, took, loop_cpu_us(b.spool_loop) - spool_cpu,
	        workers_cpu_us(st.workers) - disk_cpu, own_cpu_us() - cpu);
	stand_close(&st, &b);
	stand_remove(&st);
	bench_free(&b);
}

static unsigned long memory_mb(const char *field)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	unsigned long kb = 0;

	while (status != NULL && fgets(line, sizeof(line), status) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			kb = strtoul(line + strlen(field), NULL, 10);
	if (status != NULL)
		(void)fclose(status);
	return kb / 1024;
}

static void time_start(struct stand *st, struct bench *b, const char *how)
{
	uint64_t before = now_us();

	stand_open(st, b);
	printf("start with %llu messages of %zu bytes %s: %.2f s, memory %lu MB, at most %lu MB\n",
	        (unsigned long long)b->live, b->body, how, (double)(now_us() - before) / 1e6,
	        memory_mb("VmRSS:"), memory_mb("VmHWM:"));
	fflush(stdout);
	stand_close(st, b);
}

static void bench_start(const char *folder, size_t body, uint64_t messages)
{
	struct stand st = {.path = mem_printf("%s/bench-spool-%d", folder, (int)getpid())};
	struct bench b;
	char *no_idx = mem_printf("rm '%s'/*.idx", st.path);

	bench_new(&b, body, 256);
	stand_open(&st, &b);
	b.wanted = messages;
	start_all(&b);
	loop_run(b.loop);
	stand_close(&st, &b);
	time_start(&st, &b, "and their index files");
	if (system(no_idx) == 0)
		time_start(&st, &b, "without index files");
	stand_remove(&st);
	bench_free(&b);
	mem_free(&no_idx);
}

int main(int argc, char **argv)
{
	static const size_t bodies[] = {5 * 1024, 10 * 1024};
	static const unsigned outstanding[] = {1, 8, 64, 256};
	const char *folder = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
	double seconds = 3;
	uint64_t messages = 200000;
	int option;

	while ((option = getopt(argc, argv, "d:s:n:")) != -1) {
		if (option == 'd')
			folder = optarg;
		else if (option == 's')
			seconds = strtod(optarg, NULL);
		else if (option == 'n')
			messages = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	printf("%6s %8s %10s %8s %8s %8s %9s %9s %9s\n", "", "", "", "messages", "p50", "p99", "spool",
	        "disk", "writer");
	printf("%6s %8s %10s %8s %8s %8s %9s %9s %9s\n", "body", "waiting", "messages/s", "/batch", "ms",
	        "ms", "us/msg", "us/msg", "us/msg");
	for (size_t i = 0; i < array_len(bodies); i++)
		for (size_t k = 0; k < array_len(outstanding); k++)
			bench_traffic(folder, bodies[i], outstanding[k], seconds);
	if (messages > 0)
		bench_start(folder, 1024, messages);
	return 0;
}
