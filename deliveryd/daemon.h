/*
 * daemon - deliveryd's parts, their loops and threads, in the order they live
 *
 * Purpose    Maps roles to loops and loops to threads (design 4); starts everything from one configuration, reloads,
 *            stops. main.c and daemon*.c are the only places that know all parts.
 * Threads    The main thread; daemon_post_reload() any.
 */
#ifndef DELIVERYD_DAEMON_H
#define DELIVERYD_DAEMON_H

#include "base/error.h"
#include "base/str.h"
#include "policy/policy.h"

struct daemon;

/* fds opened as root, before the user changes */
struct daemon_sockets {
	int handoff[64], control[16], observe[16], metrics[16];
	unsigned n_handoff, n_control, n_observe, n_metrics;
};
bool daemon_sockets_open(const struct process_options *, struct daemon_sockets *, struct error *);
void daemon_sockets_close(struct daemon_sockets *);

/* Takes the policy reference and the sockets. fatal() is called once, from any thread, when the process must end. */
struct daemon *daemon_start(const char *config_path, struct policy *, struct daemon_sockets *,
        void (*fatal)(void *ctx, const struct error *), void *ctx, struct error *);
/* Asks for a reload from any thread (SIGHUP); the result is logged. */
void daemon_post_reload(struct daemon *);
/* Orderly: design 8, "Stopping". Returns when everything is durable and closed. */
void daemon_stop(struct daemon **);
/* After fatal(): lets replies go out for a moment, closes what needs no disk. The process ends after it. */
void daemon_abandon(struct daemon *);

#endif
