#include "config.h"
#include "handoff/handoff_session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/log.h"

#define ACCEPTS_PER_TURN 64
/* How soon to look again after accept paused: for too many sessions, or for want of descriptors. Rare, so a look at a
 * counter is simpler than being told by every session that ends on another loop. */
#define PAUSE_US (SECOND_US / 20)

struct listen_fd {
	struct handoff_listener *listener;
	int fd;              /* owns */
	struct event *event; /* owns */
};

struct handoff_listener {
	struct handoff_shared *shared;
	struct loop *loop;
	struct handoff *const *handoffs; /* borrows, as the loops */
	struct loop *const *loops;
	unsigned n_handoffs, next;
	struct timer pause;
	bool complained; /* about descriptors, since accept last worked */
	unsigned n_fds;
	struct listen_fd fds[];
};

/* A connection on its way to another loop */
struct parcel {
	struct mail mail;
	struct handoff *handoff;
	int fd;
	struct sockaddr_storage peer;
};

static void take_parcel(struct mail *mail)
{
	struct parcel *parcel = container_of(mail, struct parcel, mail);

	handoff_accept(parcel->handoff, parcel->fd, (const struct sockaddr *)&parcel->peer);
	mem_free(&parcel);
}

static void deal_out(struct handoff_listener *l, int fd, const struct sockaddr_storage *peer)
{
	unsigned to = l->next;
	struct parcel *parcel;

	l->next = (l->next + 1) % l->n_handoffs;
	if (l->loops[to] == l->loop) {
		handoff_accept(l->handoffs[to], fd, (const struct sockaddr *)peer);
		return;
	}
	parcel = mem_zalloc(sizeof(*parcel));
	parcel->mail.take = take_parcel;
	parcel->handoff = l->handoffs[to];
	parcel->fd = fd;
	parcel->peer = *peer;
	loop_post(l->loops[to], &parcel->mail);
}

static void pause_accepting(struct handoff_listener *l)
{
	for (unsigned i = 0; i < l->n_fds; i++)
		event_del(l->fds[i].event);
	timer_arm_in(l->loop, &l->pause, PAUSE_US);
}

static bool too_many(const struct handoff_listener *l)
{
	return atomic_load(&l->shared->sessions) >= 2 * handoff_session_mark(l->handoffs[0]);
}

static void go_on(void *ctx)
{
	struct handoff_listener *l = ctx;

	if (too_many(l)) {
		timer_arm_in(l->loop, &l->pause, PAUSE_US);
		return;
	}
	for (unsigned i = 0; i < l->n_fds; i++)
		event_add(l->fds[i].event, NULL);
}

/* Returns false when accepting is over for this turn. */
static bool accept_one(struct listen_fd *from)
{
	struct handoff_listener *l = from->listener;
	struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(peer);
	int fd;

	if (too_many(l)) {
		pause_accepting(l);
		return false;
	}
	fd = accept4(from->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		l->complained = false;
		deal_out(l, fd, &peer);
		return true;
	}
	if (errno == EAGAIN)
		return false;
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		if (!l->complained)
			log_error("handoff: accept: %s; connections wait", strerror(errno));
		l->complained = true;
		pause_accepting(l);
		return false;
	}
	return true; /* the client went away before we came to it */
}

static void on_acceptable(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	for (int i = 0; i < ACCEPTS_PER_TURN && accept_one(ctx); i++)
		;
}

struct handoff_listener *handoff_listener_new(struct handoff_shared *shared, struct loop *loop,
        const int *fds, unsigned n_fds, struct handoff *const *handoffs, struct loop *const *loops,
        unsigned n)
{
	struct handoff_listener *l = mem_zalloc(sizeof(*l) + n_fds * sizeof(l->fds[0]));

	l->shared = shared;
	l->loop = loop;
	l->handoffs = handoffs;
	l->loops = loops;
	l->n_handoffs = n;
	l->n_fds = n_fds;
	timer_init(&l->pause, go_on, l);
	for (unsigned i = 0; i < n_fds; i++) {
		struct listen_fd *from = &l->fds[i];

		from->listener = l;
		from->fd = fds[i];
		from->event = event_new(loop_base(loop), from->fd, EV_READ | EV_PERSIST, on_acceptable, from);
		event_add(from->event, NULL);
	}
	return l;
}

void handoff_listener_free(struct handoff_listener **p)
{
	struct handoff_listener *l = *p;

	if (!l)
		return;
	timer_cancel(l->loop, &l->pause);
	for (unsigned i = 0; i < l->n_fds; i++) {
		event_free(l->fds[i].event);
		close(l->fds[i].fd);
	}
	mem_free(p);
}
