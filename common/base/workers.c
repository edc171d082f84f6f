#include "config.h"
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "base/mem.h"

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct work *first, **tail;
	bool ending;
	char name[16];
	unsigned n_threads;
	pthread_t threads[];
};

static void work_run(struct work *work)
{
	struct loop *reply = work->reply;

	work->run(work);
	loop_post(reply, &work->done);
}

static struct work *work_next(struct workers *w)
{
	struct work *work;

	(void)pthread_mutex_lock(&w->lock);
	while (w->first == NULL && !w->ending)
		(void)pthread_cond_wait(&w->wanted, &w->lock);
	work = w->first;
	if (work != NULL) {
		w->first = work->next;
		if (w->first == NULL)
			w->tail = &w->first;
	}
	(void)pthread_mutex_unlock(&w->lock);
	return work;
}

static void *worker_main(void *ctx)
{
	struct workers *w = ctx;
	struct work *work;

	while ((work = work_next(w)) != NULL)
		work_run(work);
	return NULL;
}

static void worker_start(struct workers *w, unsigned i)
{
	sigset_t all, before;

	/* signals are for main() */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&w->threads[i], NULL, worker_main, w) != 0) {
		(void)fprintf(stderr, "%s: no thread for %s\n", program_invocation_short_name, w->name);
		abort();
	}
	(void)pthread_setname_np(w->threads[i], w->name);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct workers *workers_new(const char *name, unsigned threads)
{
	struct workers *w = mem_zalloc(sizeof(*w) + threads * sizeof(w->threads[0]));

	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->wanted, NULL);
	w->tail = &w->first;
	w->n_threads = threads;
	(void)snprintf(w->name, sizeof(w->name), "%s", name);
	for (unsigned i = 0; i < threads; i++)
		worker_start(w, i);
	return w;
}

void workers_do(struct workers *w, struct work *work)
{
	if (w->n_threads == 0) {
		work_run(work);
		return;
	}
	work->next = NULL;
	(void)pthread_mutex_lock(&w->lock);
	*w->tail = work;
	w->tail = &work->next;
	(void)pthread_cond_signal(&w->wanted);
	(void)pthread_mutex_unlock(&w->lock);
}

void workers_free(struct workers **workers)
{
	struct workers *w = *workers;

	if (w == NULL)
		return;
	(void)pthread_mutex_lock(&w->lock);
	w->ending = true;
	(void)pthread_cond_broadcast(&w->wanted);
	(void)pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->n_threads; i++)
		(void)pthread_join(w->threads[i], NULL);
	(void)pthread_cond_destroy(&w->wanted);
	(void)pthread_mutex_destroy(&w->lock);
	mem_free(workers);
}

uint64_t workers_cpu_us(struct workers *w)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < w->n_threads; i++) {
		struct timespec ts;
		clockid_t id;

		if (pthread_getcpuclockid(w->threads[i], &id) == 0 && clock_gettime(id, &ts) == 0)
			total += (uint64_t)ts.tv_sec * SECOND_US + (uint64_t)ts.tv_nsec / 1000;
	}
	return total;
}
