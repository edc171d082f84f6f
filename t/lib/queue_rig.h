/*
 * queue_rig - the queue alone: its own loop and fake clock, a spool, a router and MX hosts out of tables
 *
 * Purpose    Implements spool/spool.h, spool/body.h, session/session.h and route_start() in memory, so that what is
 *            tested is the queue and nothing else. Linked instead of libspool.a and libsession.a's net part.
 *            The MX hosts count their sessions at every instant, as a peer would.
 * Threads    One.
 */
#ifndef T_LIB_QUEUE_RIG_H
#define T_LIB_QUEUE_RIG_H

#include "base/mem.h"
#include "base/names.h"
#include "queue/queue.h"

/* --- MX hosts -------------------------------------------------------------------------------------------- */

enum mx_mode {
	MX_OK,
	MX_REFUSE,   /* connect fails */
	MX_BANNER,   /* 554 in the banner */
	MX_SILENT,   /* never answers the connect */
	MX_DROP,     /* closes in MAIL, every time */
	MX_NO_BIND,  /* the source address is refused */
	MX_NO_PORT,  /* no port is free */
	MX_NO_PROXY, /* the egress proxy is down */
};

struct rig_mx {
	char ip[64];
	enum mx_mode mode;
	uint64_t connect_us, job_us;       /* how long things take; 1 ms, 10 ms */
	uint64_t idle_us;                  /* closes idle sessions after; 5 s */
	unsigned sessions, most, connects; /* open now, at most at once, attempts so far */
	unsigned jobs, recipients;
	enum tls_use tls; /* of the newest session to it */
	/* what it says to recipient i of a job; NULL = 250 to all */
	void (*says)(struct rig_mx *, struct session_job *, uint32_t i, struct outcome *);
	unsigned drop_after; /* closes instead of answering MAIL after so many jobs in a session; 0 = never */
	const char *text;
	unsigned n;
};

/* --- what the spool knows ---------------------------------------------------------------------------------- */

struct rig_delivery {
	struct message *message; /* a reference */
	uint32_t index;
	bool done;
	unsigned times_done, states, moves;
	uint32_t attempts, n_open; /* of the newest state */
	uint64_t next_wall_us;
	bool held;
	char binding[80], domain[80]; /* of the newest move */
	char last_reply[256];
};

struct rig_event {
	char *line;
	char type[20], binding[80], recipient[128], state[12], enhanced[12], source[64], mx[128], reason[80];
	char reply[256];
	uint64_t id;
	int code, attempt;
};

struct rig {
	struct fake_clock clock;
	struct fake_rnd rnd;
	struct loop *loop;
	struct metrics *metrics;
	struct event_log *events;
	struct local_addrs *local;
	struct handoff_shared handoff;
	struct session_net *net;
	struct spool *spool;
	void *spool_part; /* of the rig with a real spool */
	struct router *router;
	struct policy *policy;
	struct queue *queue;

	struct rig_mx *mx[64];
	unsigned n_mx;
	struct rig_event *log;
	unsigned n_log, size_log;
	bool keep_log; /* off for heavy loads */
	uint64_t n_events[32];

	/* told of each connection (recipient NULL) and message as an MX host counts them; NULL = nobody */
	void (*seen)(void *ctx, uint64_t us, const char *binding, const char *mx, const char *recipient);
	/* told of each session that opens (+1) or closes (-1) at an MX host */
	void (*counted)(void *ctx, const char *binding, const char *mx, int change);
	void *seen_ctx;

	/* all sessions together, and by source address */
	unsigned sessions, most_sessions;
	struct rig_source {
		char ip[64];
		unsigned sessions, most;
	} sources[64];
	unsigned n_sources;
	struct session *all_sessions;
};

#define RIG_TWO_BINDINGS                                                                                     \
	"{'bindings': {'acme': {'bind_address': ['192.0.2.20', '2001:db8::2']}, 'other': {'bind_address': "  \
	"'192.0.2.30'}, 'default': {'bind_address': '192.0.2.10'}}}"

/* `policy_json`: ' stands for ". The addresses 192.0.2.1 to .99 and 2001:db8::1 to ::9 are on this machine. */
struct rig *rig_new(const char *policy_json);
void rig_start(struct rig *);
void rig_free(struct rig **);                       /* all sessions have closed: rig_stop() */
struct policy *rig_policy(const char *policy_json); /* caller: policy_unref() */
void rig_reload(struct rig *, const char *policy_json);
void rig_local(struct rig *, const char *ip, bool present);

struct rig_mx *rig_mx(struct rig *, const char *ip); /* made when new */
/* For `says`: 451 4.7.1 to each recipient, with `text` or "later" */
void rig_says_later(struct rig_mx *, struct session_job *, uint32_t i, struct outcome *);
/* A domain's MX: "10 192.0.2.201, 10 192.0.2.202, 20 2001:db8:1::1". With "ttl=0 " in front it has expired when it comes. */
void rig_route(struct rig *, const char *next_hop, const char *addrs);
void rig_route_all(struct rig *, const char *addrs); /* every next hop's */
void rig_route_fails(
        struct rig *, const char *next_hop, enum outcome_class, const char *enhanced, const char *text);
unsigned rig_routes_asked(struct rig *, const char *next_hop);

/* A message to recipients (separated by blanks, all of one domain). Returns its id. */
uint64_t rig_send(struct rig *, const char *target, const char *sender, const char *recipients);
uint64_t rig_send_flags(struct rig *, const char *target, const char *sender, const char *recipients,
        uint32_t flags, enum priority priority);
/* n messages to x@domain */
void rig_send_many(struct rig *, const char *target, const char *domain, unsigned n);

void rig_settle(struct rig *);           /* all that happens without time passing */
void rig_run(struct rig *, uint64_t us); /* lets time pass, from event to event */
/* Until nothing is queued any more or so much time has passed. True if it is empty. */
bool rig_run_out(struct rig *, uint64_t us);

struct rig_delivery *rig_delivery(struct rig *, uint64_t id, uint32_t index); /* NULL if unknown */
unsigned rig_open(struct rig *); /* deliveries that are not done */
/* The spool holds its commits back until told otherwise. */
void rig_hold_commits(struct rig *, bool);
void rig_no_space(struct rig *, bool); /* DSNs cannot be stored */
/* The newest DSN's text, borrowed; NULL if there is none */
const char *rig_dsn(struct rig *);
uint32_t rig_dsn_flags(struct rig *);                            /* enum message_flags of it */
void rig_header(struct rig *, const char *header /* borrows */); /* what originals are read back with */

unsigned rig_count(const struct rig *, const char *type);
unsigned rig_count_for(const struct rig *, const char *type, uint64_t id);
/* The nth (from 0) of that type; NULL if there are fewer */
const struct rig_event *rig_event(const struct rig *, const char *type, unsigned nth);
char *rig_ask(
        struct rig *, enum queue_question, const char *binding, uint64_t id, uint64_t cursor, unsigned limit);

/* What is queued goes through a restart: a new queue from what the spool knows. */
void rig_restart(struct rig *);

/* inside */
void rig_session_count(struct rig *, struct session *, int change);
void rig_sessions_free(struct rig *);
void rig_spool_free(struct rig *);
void rig_router_free(struct rig *);
struct spool *rig_spool_new(struct rig *);
void rig_spool_close(struct rig *); /* before the loop goes */
struct router *rig_router_new(struct rig *);
struct session_net *rig_net_new(struct rig *);
void rig_spool_send(struct rig *, struct message *takes); /* stored, then the queue has it */
void rig_spool_restore(struct rig *, struct queue *);

#endif
