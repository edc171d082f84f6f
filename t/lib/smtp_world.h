/*
 * smtp_world - everything between an accepted message and an MX host, on one thread under a fake clock
 *
 * Purpose    The real queue, router, sessions, spool (in a folder of its own) and event log; DNS out of a table, MX
 *            hosts out of scripts, this machine's addresses out of a table. t/smtp scripts and tests of several modules
 *            together live in it.
 * Ownership  world_free() ends it all; it stops the queue first, as the daemon does.
 */
#ifndef T_LIB_SMTP_WORLD_H
#define T_LIB_SMTP_WORLD_H

#include <jansson.h>
#include "queue/queue.h"
#include "report/event.h"
#include "t/lib/fake_dns.h"
#include "t/lib/scripted_mx.h"
#include "t/lib/tls_certs.h"

struct world_host {
	char *name, *certificate; /* PEM, NULL = none */
	struct scripted_mx *mx;
};

/* A line of the event log. */
struct world_event {
	json_t *json;
	bool seen; /* a script has expected it */
};

struct world {
	struct fake_clock clock;
	struct fake_rnd rnd;
	struct loop *mx_loop;           /* of the MX hosts */
	struct loop *loop, *spool_loop; /* the daemon's: queue and net; spool. NULL while stopped */
	struct workers *disk;
	struct metrics *metrics;
	struct fake_dns *dns;
	char **dns_lines; /* its table, for the next start */
	unsigned n_dns_lines;
	struct local_addrs *local;
	struct event_log *events;
	struct router *router;
	struct session_net *net;
	struct spool *spool;
	struct queue *queue;
	struct handoff_shared handoff;
	struct policy *policy;
	json_t *config;    /* policy.json */
	struct tls_ca *ca; /* of the hosts' certificates */
	char *folder;
	unsigned port; /* of all MX hosts */
	struct world_host *hosts;
	unsigned n_hosts;
	struct world_event *log;
	unsigned n_log;
	bool started, stopped, spool_failed;
};

struct world *world_new(void);
void world_free(struct world **);
/* "domains/example.com/gateway" "\"127.0.0.9\"": before world_start(), or in front of world_reload() */
bool world_set(struct world *, const char *path, const char *json, struct error *);
/* A file that the configuration may name. */
bool world_file(struct world *, const char *name, unsigned mode, const char *text, struct error *);
bool world_start(struct world *, struct error *);
bool world_reload(struct world *, struct error *);
/* Stops in order and starts again on what the spool has. */
bool world_restart(struct world *, struct error *);
/* A line as fake_dns_script() takes it. */
bool world_dns(struct world *, const char *line, struct error *);
/* The host of that name; made, with an address of its own, when it is new and `make`. */
struct scripted_mx *world_host(struct world *, const char *name, bool make);

/* The host does STARTTLS with a certificate for `name`, signed by the world's authority; the latter is "ca.pem" in
 * the configuration. */
bool world_host_tlsa(struct world *, const char *host, const char *numbers, bool wrong, struct error *);
void world_host_tls(struct world *, struct scripted_mx *, const char *name);

struct world_message {
	const char *binding; /* or "group:NAME" */
	const char *sender;
	const char *recipients; /* separated by blanks */
	const char *body;
	size_t body_len;
	uint32_t flags;
	/* RFC 3461, for all recipients */
	uint8_t ret, notify;
	const char *envid, *orcpt;
	/* of XFORWARD */
	const char *client_name, *client_helo, *client_proto;
	struct addr client_addr;
};
uint64_t world_send(
        struct world *, const struct world_message *); /* durable and with the queue; 0 = not stored */

void world_run(struct world *); /* until nothing more happens; time stands */
void world_advance(struct world *, uint64_t us);
json_t *world_summary(struct world *); /* what `bindpost summary` is told; to be dropped */

#endif
