#include "config.h"
#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <event2/thread.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/timer_heap.h"

/*
 * The mailbox is a stack: writers push chains with one compare-and-swap, newest first; the reader takes all
 * of it and turns it round. A reader that is about to sleep leaves `asleep` in the empty stack, and only who
 * finds that there writes to the eventfd. A busy loop is thus never woken, and no wake-up is lost: between
 * the reader's leaving the mark and its sleep the eventfd remembers.
 */
static struct mail asleep;

struct chain {
	struct mail *newest, *oldest;
};

struct outbox {
	struct loop *to;
	struct chain chain;
};

struct hook {
	void (*fn)(void *ctx);
	void *ctx;
};

struct loop {
	_Alignas(64) _Atomic(struct mail *) inbox; /* other threads write here, and nowhere else */
	atomic_bool stop;
	atomic_bool cpu_running; /* cpu_clock is the running thread's */
	_Atomic uint64_t cpu_done_us;
	clockid_t cpu_clock;

	_Alignas(64) const char *name; /* borrows, as the clock */
	struct clock *clock;
	struct event_base *base; /* owns, as the events */
	struct event *wake_event, *timer_event;
	int wake_fd;
	bool has_now, has_wall;
	uint64_t now_us, wall_us;
	struct timer_heap timers;
	uint64_t timer_event_due_us; /* UINT64_MAX: not armed */
	struct chain self;           /* mail to itself, for the next turn */
	struct outbox *outboxes;
	size_t n_outboxes, last_outbox;
	size_t n_mail_out;
	struct hook *hooks;
	size_t n_hooks;
	struct {
		_Atomic uint64_t mail, own_mail, wakes; /* written by the loop's thread alone */
	} stats;
};

static _Thread_local struct loop *current;

static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
	struct loop *loop = ctx;
	uint64_t count;

	(void)what;
	loop->stats.wakes++;
	/* Only lowers the flag; what came is taken after all descriptors had their turn. */
	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

static void on_timer_event(evutil_socket_t fd, short what, void *ctx)
{
	struct loop *loop = ctx;

	(void)fd;
	(void)what;
	loop->timer_event_due_us = UINT64_MAX;
}

static void use_pthreads(void)
{
	if (evthread_use_pthreads() != 0)
		abort();
}

/* Only its own thread touches a base, so it needs no lock; other threads write to the eventfd. */
static struct event_base *base_new(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct event_config *config;
	struct event_base *base;

	(void)pthread_once(&once, use_pthreads);
	config = event_config_new();
	if (config == NULL)
		abort();
	(void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	base = event_base_new_with_config(config);
	event_config_free(config);
	if (base == NULL)
		abort();
	return base;
}

struct loop *loop_new(const char *name, struct clock *clock)
{
	struct loop *loop = aligned_alloc(64, sizeof(*loop));

	if (loop == NULL)
		abort();
	memset(loop, 0, sizeof(*loop));
	loop->name = name;
	loop->clock = clock;
	loop->timer_event_due_us = UINT64_MAX;
	loop->base = base_new();
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake_fd < 0)
		abort();
	loop->wake_event = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
	loop->timer_event = event_new(loop->base, -1, 0, on_timer_event, loop);
	if (loop->wake_event == NULL || loop->timer_event == NULL || event_add(loop->wake_event, NULL) != 0)
		abort();
	return loop;
}

void loop_free(struct loop **loop_ptr)
{
	struct loop *loop = *loop_ptr;

	if (loop == NULL)
		return;
	assert(loop != current);
	event_free(loop->wake_event);
	event_free(loop->timer_event);
	event_base_free(loop->base);
	(void)close(loop->wake_fd);
	timer_heap_free(&loop->timers);
	mem_free(&loop->outboxes);
	mem_free(&loop->hooks);
	mem_free(loop_ptr);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

struct clock *loop_clock(struct loop *loop)
{
	return loop->clock;
}

const char *loop_name(struct loop *loop)
{
	return loop->name;
}

/* Outside a turn nobody says when the time has moved on: it is read each time. */
uint64_t loop_now_us(struct loop *loop)
{
	if (!loop->has_now) {
		loop->now_us = loop->clock->mono_us(loop->clock);
		loop->has_now = loop == current;
	}
	return loop->now_us;
}

uint64_t loop_wall_us(struct loop *loop)
{
	if (!loop->has_wall) {
		loop->wall_us = loop->clock->wall_us(loop->clock);
		loop->has_wall = loop == current;
	}
	return loop->wall_us;
}

uint64_t loop_cpu_us(struct loop *loop)
{
	uint64_t done = atomic_load(&loop->cpu_done_us);
	struct timespec ts;

	if (!atomic_load(&loop->cpu_running) || clock_gettime(loop->cpu_clock, &ts) != 0)
		return done;
	return done + (uint64_t)ts.tv_sec * SECOND_US + (uint64_t)ts.tv_nsec / 1000;
}

struct loop_stats loop_stats(struct loop *loop)
{
	return (struct loop_stats){
	        .mail = atomic_load_explicit(&loop->stats.mail, memory_order_relaxed),
	        .own_mail = atomic_load_explicit(&loop->stats.own_mail, memory_order_relaxed),
	        .wakes = atomic_load_explicit(&loop->stats.wakes, memory_order_relaxed),
	};
}

/* ---- mail ---- */

static void wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* EAGAIN: the counter is full, so it is awake */
	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void chain_add(struct chain *chain, struct mail *mail)
{
	mail->next = chain->newest;
	chain->newest = mail;
	if (chain->oldest == NULL)
		chain->oldest = mail;
}

static void chain_push(struct loop *to, struct chain *chain)
{
	struct mail *old = atomic_load_explicit(&to->inbox, memory_order_relaxed);

	do
		chain->oldest->next = old == &asleep ? NULL : old;
	while (!atomic_compare_exchange_weak_explicit(
	        &to->inbox, &old, chain->newest, memory_order_acq_rel, memory_order_relaxed));
	if (old == &asleep)
		wake(to);
	*chain = (struct chain){0};
}

static struct chain *outbox_to(struct loop *from, struct loop *to)
{
	if (from->last_outbox < from->n_outboxes && from->outboxes[from->last_outbox].to == to)
		return &from->outboxes[from->last_outbox].chain;
	for (size_t i = 0; i < from->n_outboxes; i++) {
		if (from->outboxes[i].to == to) {
			from->last_outbox = i;
			return &from->outboxes[i].chain;
		}
	}
	from->outboxes = mem_array(from->outboxes, from->n_outboxes + 1, sizeof(*from->outboxes));
	from->last_outbox = from->n_outboxes++;
	from->outboxes[from->last_outbox] = (struct outbox){.to = to};
	return &from->outboxes[from->last_outbox].chain;
}

void loop_post(struct loop *to, struct mail *mail)
{
	struct loop *from = current;

	assert(mail->take != NULL);
	if (from == NULL) {
		struct chain one = {.newest = mail, .oldest = mail};

		chain_push(to, &one);
	} else if (from == to) {
		chain_add(&to->self, mail);
	} else {
		chain_add(outbox_to(from, to), mail);
		from->n_mail_out++;
	}
}

void loop_post_chain(struct loop *to, struct mail *first)
{
	struct chain chain = {0};
	struct mail *next;

	if (current != NULL) {
		for (; first != NULL; first = next) {
			next = first->next;
			loop_post(to, first);
		}
		return;
	}
	for (; first != NULL; first = next) {
		next = first->next;
		chain_add(&chain, first);
	}
	if (chain.newest != NULL)
		chain_push(to, &chain);
}

static void outboxes_push(struct loop *loop)
{
	if (loop->n_mail_out == 0)
		return;
	loop->n_mail_out = 0;
	for (size_t i = 0; i < loop->n_outboxes; i++)
		if (loop->outboxes[i].chain.newest != NULL)
			chain_push(loop->outboxes[i].to, &loop->outboxes[i].chain);
}

struct call {
	struct mail mail;
	void (*fn)(void *arg);
	void *arg;
	sem_t done;
};

static void call_take(struct mail *mail)
{
	struct call *call = container_of(mail, struct call, mail);

	call->fn(call->arg);
	sem_post(&call->done);
}

void loop_call(struct loop *to, void (*fn)(void *arg), void *arg)
{
	struct call call = {.mail.take = call_take, .fn = fn, .arg = arg};

	assert(current != to);
	sem_init(&call.done, 0, 0);
	loop_post(to, &call.mail);
	if (current != NULL)
		outboxes_push(current); /* now: this turn does not end before the answer */
	while (sem_wait(&call.done) < 0 && errno == EINTR)
		;
	sem_destroy(&call.done);
}

/* A counter that only the loop's own thread writes. */
static void add_own(_Atomic uint64_t *count, uint64_t n)
{
	atomic_store_explicit(
	        count, atomic_load_explicit(count, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Newest first becomes oldest first. */
static struct mail *turned_round(struct mail *newest, _Atomic uint64_t *count)
{
	struct mail *list = NULL, *next;

	for (; newest != NULL; newest = next) {
		next = newest->next;
		add_own(count, 1);
		newest->next = list;
		list = newest;
	}
	return list;
}

static struct mail *inbox_take(struct loop *loop)
{
	struct mail *newest = atomic_load_explicit(&loop->inbox, memory_order_relaxed);

	if (newest == NULL) /* spares the bus when there is nothing */
		return NULL;
	newest = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acq_rel);
	return newest == &asleep ? NULL : turned_round(newest, &loop->stats.mail);
}

static struct mail *self_take(struct loop *loop)
{
	struct mail *newest = loop->self.newest;

	loop->self = (struct chain){0};
	return turned_round(newest, &loop->stats.own_mail);
}

struct mail *loop_take_all_for_test(struct loop *loop)
{
	struct mail *list = inbox_take(loop), **end = &list;

	while (*end != NULL)
		end = &(*end)->next;
	*end = self_take(loop);
	return list;
}

static bool deliver(struct mail *mail)
{
	struct mail *next;
	bool any = mail != NULL;

	for (; mail != NULL; mail = next) {
		next = mail->next; /* take() may free it */
		mail->take(mail);
	}
	return any;
}

/* ---- timers ---- */

void timer_init(struct timer *timer, void (*fn)(void *ctx), void *ctx)
{
	*timer = (struct timer){.fn = fn, .ctx = ctx};
}

/* Nothing is due before now: a timer armed late stands behind those whose time has come already. */
void timer_arm(struct loop *loop, struct timer *timer, uint64_t due_mono_us)
{
	uint64_t now = loop_now_us(loop);

	timer_heap_put(&loop->timers, timer, due_mono_us > now ? due_mono_us : now);
}

void timer_arm_in(struct loop *loop, struct timer *timer, uint64_t delay_us)
{
	uint64_t due;

	if (__builtin_add_overflow(loop_now_us(loop), delay_us, &due))
		due = UINT64_MAX;
	timer_heap_put(&loop->timers, timer, due);
}

void timer_cancel(struct loop *loop, struct timer *timer)
{
	timer_heap_remove(&loop->timers, timer);
}

bool timer_armed(const struct timer *timer)
{
	return timer->slot != 0;
}

uint64_t loop_next_timer_us(struct loop *loop)
{
	return loop->timers.n > 0 ? loop->timers.entries[0].due_us : UINT64_MAX;
}

/* Those that were armed before this turn: who arms itself for now has its turn in the next one. */
static bool timers_run(struct loop *loop, uint64_t order)
{
	struct timer *timer;
	bool any = false;

	if (loop->timers.n == 0)
		return false;
	while ((timer = timer_heap_take(&loop->timers, loop_now_us(loop), order)) != NULL) {
		timer->fn(timer->ctx);
		any = true;
	}
	return any;
}

/* libevent's wake-up is moved only to an earlier time: one that comes too early costs less than moving it. */
static void timer_event_arm(struct loop *loop, uint64_t now)
{
	uint64_t due = loop_next_timer_us(loop), wait;
	struct timeval tv;

	if (due >= loop->timer_event_due_us)
		return;
	wait = due > now ? due - now : 0;
	if (wait > 86400 * SECOND_US)
		wait = 86400 * SECOND_US;
	tv.tv_sec = (time_t)(wait / SECOND_US);
	tv.tv_usec = (suseconds_t)(wait % SECOND_US);
	if (event_add(loop->timer_event, &tv) == 0)
		loop->timer_event_due_us = now + wait;
}

/* ---- turns ---- */

void loop_on_turn_end(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	loop->hooks = mem_array(loop->hooks, loop->n_hooks + 1, sizeof(*loop->hooks));
	loop->hooks[loop->n_hooks++] = (struct hook){.fn = fn, .ctx = ctx};
}

static void forget_time(struct loop *loop)
{
	loop->has_now = loop->has_wall = false;
}

/* True if nothing is to be done now; the mark for other threads is then in the mailbox. */
static bool may_sleep(struct loop *loop)
{
	struct mail *empty = NULL;
	uint64_t due = loop_next_timer_us(loop), now;

	if (loop->self.newest != NULL)
		return false;
	if (due != UINT64_MAX) {
		now = loop->clock->mono_us(loop->clock);
		if (due <= now)
			return false;
		timer_event_arm(loop, now);
	}
	return atomic_compare_exchange_strong_explicit(
	               &loop->inbox, &empty, &asleep, memory_order_acq_rel, memory_order_relaxed) ||
	       empty == &asleep;
}

/* Lets libevent's callbacks run; true if there were any. It tells only how many were active at most: those
 * that became active before the call count from the first question, those since from the second. */
static bool events_run(struct loop *loop, bool wait)
{
	bool any = event_base_get_num_events(loop->base, EVENT_BASE_COUNT_ACTIVE) > 0;

	(void)event_base_get_max_events(loop->base, EVENT_BASE_COUNT_ACTIVE, 1);
	(void)event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
	return event_base_get_max_events(loop->base, EVENT_BASE_COUNT_ACTIVE, 1) > 0 || any;
}

/* What this turn posts to itself or arms for now waits for the next one, so that nobody who posts in a circle
 * keeps the others from their turn. */
static bool turn(struct loop *loop, bool wait)
{
	uint64_t order = loop->timers.armed;
	struct mail *own;
	bool any;

	wait = wait && may_sleep(loop);
	forget_time(loop);
	own = self_take(loop);
	any = events_run(loop, wait);
	if (timers_run(loop, order))
		any = true;
	if (deliver(inbox_take(loop)))
		any = true;
	if (deliver(own))
		any = true;
	for (size_t i = 0; any && i < loop->n_hooks; i++)
		loop->hooks[i].fn(loop->hooks[i].ctx);
	outboxes_push(loop);
	return any;
}

bool loop_step(struct loop *loop)
{
	struct loop *outer = current;
	bool any;

	current = loop;
	any = turn(loop, false);
	current = outer;
	forget_time(loop);
	return any;
}

static void cpu_start(struct loop *loop)
{
	struct timespec ts = {0};

	if (pthread_getcpuclockid(pthread_self(), &loop->cpu_clock) != 0)
		return;
	/* what the thread used before it ran us is not ours */
	(void)clock_gettime(loop->cpu_clock, &ts);
	atomic_fetch_sub(&loop->cpu_done_us, (uint64_t)ts.tv_sec * SECOND_US + (uint64_t)ts.tv_nsec / 1000);
	atomic_store(&loop->cpu_running, true);
}

static void cpu_end(struct loop *loop)
{
	uint64_t total = loop_cpu_us(loop);

	atomic_store(&loop->cpu_running, false);
	atomic_store(&loop->cpu_done_us, total);
}

void loop_run(struct loop *loop)
{
	struct loop *outer = current;

	current = loop;
	cpu_start(loop);
	while (!atomic_load_explicit(&loop->stop, memory_order_acquire))
		(void)turn(loop, true);
	atomic_store(&loop->stop, false);
	cpu_end(loop);
	current = outer;
	forget_time(loop);
}

void loop_stop(struct loop *loop)
{
	atomic_store_explicit(&loop->stop, true, memory_order_release);
	wake(loop);
}
