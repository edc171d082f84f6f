/*
 * bench/base - what one event line and one mail between threads cost
 *
 * The budget (design 4) allows the log role 3 µs and hand-overs 4 µs per message, each message having several of
 * both.
 */
#include "config.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include "base/json_write.h"
#include "base/loop.h"
#include "base/mem.h"

static void print_event(struct str *out, uint64_t i)
{
	struct json_out j;

	json_out_init(&j, out);
	jw_object(&j, NULL);
	jw_time(&j, "time", 1795191041000123 + i);
	jw_str(&j, "event", "delivery");
	jw_str(&j, "id", "00065e1f2a3b4c5d");
	jw_str(&j, "binding", "acme");
	jw_str(&j, "rule", "newsletters");
	jw_str(&j, "sender", "bounce-12345@acme.example");
	jw_str(&j, "recipient", "somebody.with.a.name@example.com");
	jw_str(&j, "domain", "example.com");
	jw_str(&j, "next_hop", "example.com");
	jw_str(&j, "mx", "mx1.example.com");
	jw_str(&j, "peer", "192.0.2.77:25");
	jw_str(&j, "source", "192.0.2.20");
	jw_str(&j, "ehlo", "acme.mta.example.net");
	jw_uint(&j, "attempt", 1);
	jw_str(&j, "state", "dot");
	jw_uint(&j, "code", 250);
	jw_str(&j, "enhanced", "2.0.0");
	jw_str(&j, "reply", "250 2.0.0 Ok: queued as 4F2A81C0DE");
	jw_uint(&j, "size", 5120);
	jw_seconds(&j, "delay", 345678 + i % 1000);
	jw_end_object(&j);
	str_add_char(out, '\n');
}

static void bench_events(void)
{
	enum { N = 500000 };
	struct str out;
	uint64_t start = clock_system.mono_us(&clock_system), bytes = 0;

	str_init(&out);
	for (uint64_t i = 0; i < N; i++) {
		str_clear(&out);
		print_event(&out, i);
		bytes += out.len;
	}
	start = clock_system.mono_us(&clock_system) - start;
	printf("event line      %6.3f us  (%" PRIu64 " bytes)\n", (double)start / N, bytes / N);
	str_free(&out);
}

/* Two loops with a window of mails that go to and fro, as jobs and results do. */
struct player {
	struct loop *loop;
	uint64_t taken;
};

struct ball {
	struct mail mail;
	struct player *players;
	unsigned at;
	uint64_t left;
	unsigned *n_left;
};

static void take_ball(struct mail *mail)
{
	struct ball *ball = container_of(mail, struct ball, mail);

	ball->players[ball->at].taken++;
	if (--ball->left == 0) {
		/* the same player takes all balls last, since all have the same count */
		if (--*ball->n_left == 0) {
			loop_stop(ball->players[0].loop);
			loop_stop(ball->players[1].loop);
		}
		return;
	}
	ball->at ^= 1;
	loop_post(ball->players[ball->at].loop, mail);
}

static void *play(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

static void bench_mail(unsigned window)
{
	const uint64_t each = window < 100 ? 20000 : 2000000 / window;
	struct player players[2] = {
	        {.loop = loop_new("one", &clock_system)}, {.loop = loop_new("two", &clock_system)}};
	struct ball *balls = mem_array(NULL, window, sizeof(*balls));
	unsigned n_left = window;
	pthread_t threads[2];
	uint64_t start, cpu, n = each * window;

	for (unsigned i = 0; i < window; i++) {
		balls[i] = (struct ball){
		        .mail.take = take_ball, .players = players, .left = each, .n_left = &n_left};
		loop_post(players[0].loop, &balls[i].mail);
	}
	start = clock_system.mono_us(&clock_system);
	for (unsigned i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, play, players[i].loop) != 0)
			return;
	for (unsigned i = 0; i < 2; i++)
		(void)pthread_join(threads[i], NULL);
	start = clock_system.mono_us(&clock_system) - start;
	cpu = loop_cpu_us(players[0].loop) + loop_cpu_us(players[1].loop);
	printf("mail, %4u out  %6.3f us  (CPU %.3f us)\n", window, (double)start / (double)n,
	        (double)cpu / (double)n);
	loop_free(&players[0].loop);
	loop_free(&players[1].loop);
	mem_free(&balls);
}

int main(void)
{
	bench_events();
	bench_mail(1);
	bench_mail(16);
	bench_mail(256);
	return 0;
}
