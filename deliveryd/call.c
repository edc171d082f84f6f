#include "call.h"

#include <errno.h>
#include <semaphore.h>

#include "base/mem.h"

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

void call_on(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = {.mail.take = call_take, .fn = fn, .arg = arg};

	sem_init(&call.done, 0, 0);
	loop_post(loop, &call.mail);
	while (sem_wait(&call.done) < 0 && errno == EINTR)
		;
	sem_destroy(&call.done);
}
