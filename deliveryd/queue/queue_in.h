/*
 * queue_in - the inside of the queue module, shared by its own .c files only
 *
 * Who does what:
 *   queue.c       the module's life; the turn: due deliveries, work, results
 *   binding.c     bindings by name, beyond snapshots; their totals and source addresses
 *   demand.c      what a single message asks of its connection
 *   dest.c        what holds for (binding, recipient domain): resolved options, next hop
 *   place.c       puts a delivery into the queue it belongs to (and its group's member)
 *   hop_queue.c   queues (binding x next hop x profile): lists, counts, life
 *   proxy.c       egress proxies that do not work, and who waits for them
 *   attempt.c     sessions for a queue: route, address, limits, back-off; dead.c  what nobody answers at
 *   conn.c        one session as the queue sees it: jobs out, leases
 *   quota.c       what is taken over for a binding; quotas_adopt.c  as the configuration has it
 *   throttle.c    throttles, by their place; gates.c  a session at them; scopes.c  which ones hold for a queue
 *   conn_key.c    what must be the same for a connection to be used again; idle ones by it
 *   result.c      outcomes to events, results, retries
 *   bounce.c      DSNs
 *   responses.c   response_rules: what replies change; reduce.c  connections they reduced
 *   activity.c    what moves most just now
 *   totals.c      what was done since the start, per binding and in all
 *   last_reply.c  why a delivery is still here
 *   move.c        deliveries that change their binding by command
 *   alias.c       bindings that are drained: what names them goes elsewhere
 *   curfew.c      windows of time in which nothing is attempted
 *   suspend.c     suspensions by command; change.c, select.c  flush, hold, fail and the like
 *   reconfigure.c a new snapshot; answers.c, waits.c  the control role's questions
 *
 * What always holds:
 *   - A delivery is in exactly one state; delivery_enter() alone changes it and keeps every count.
 *   - A limit with room and waiters is in q->freed until its waiters have been served.
 *   - A queue with something to do is in q->work; nothing else looks for work.
 *   - Results of a turn go to the spool together, at its end.
 */
#ifndef QUEUE_QUEUE_IN_H
#define QUEUE_QUEUE_IN_H

#include <pthread.h>

#include "base/mem.h"
#include "base/names.h"
#include "queue/change.h"
#include "queue/delivery.h"
#include "queue/due.h"
#include "queue/health.h"
#include "queue/intern.h"
#include "queue/lease.h"
#include "queue/packed.h"
#include "queue/profile.h"
#include "queue/quota.h"
#include "queue/queue.h"
#include "queue/schedule.h"
#include "queue/throttle.h"

#define NOTIFY_BINDING ":notify" /* no configured binding can be called so (name_check()) */
#define SLICE_US 4000            /* no longer in one go; design section 4 says 5 ms */
#define SLICE_MIN_US 250
#define SLICE_STEPS 2000         /* the same where a fake clock stands still */
#define FAMILIES 2               /* 0 = IPv4, 1 = IPv6 */
#define HOST_BUCKETS 1024
#define IDLE_BUCKETS 1024
#define WAITERS 4

struct counts {
	uint32_t active, deferred, held, connections;
};

/* What happened since the start, in recipients. */
enum total {
	TOTAL_RECEIVED,
	TOTAL_DELIVERED,
	TOTAL_DEFERRALS,
	TOTAL_BOUNCED,
	TOTAL_EXPIRED,
	TOTAL_UNCERTAIN,
	N_TOTALS
};
struct totals {
	uint64_t n[N_TOTALS];
};
#define RECENT_SECONDS 60
struct recent { /* the last minute, second by second */
	uint64_t second;
	uint32_t n[RECENT_SECONDS][N_TOTALS];
};

/* --- bindings ------------------------------------------------------------------------------------------- */

enum binding_kind {
	BINDING_NAMED,  /* one of the configuration, now or once */
	BINDING_NOTIFY, /* carries our DSNs to notify.via */
	BINDING_GROUP,  /* where mail of a group waits that has no usable member */
};

struct binding {
	struct queue *q;
	uint32_t number; /* in q->bindings; never changes */
	uint32_t name;   /* interned */
	enum binding_kind kind;
	const struct conf_binding *conf; /* borrows from `snapshot`; NULL = in none we know */
	const struct conf *snapshot; /* the one in force, or one it replaced and that is not dropped yet */
	struct limit total;          /* binding_total() */
	uint32_t total_generation;
	struct quota *quota, *group_quota; /* NULL = not in the configuration; ungrouped */
	uint64_t queued, queued_bytes;     /* what it has, in whatever state */
	struct counts counts;
	struct totals totals;
	struct binding_metrics *metrics; /* owns; NULL = not one of the configuration's */
	struct link queues;              /* of struct hop_queue */
	bool down[FAMILIES];             /* the operator was told, */
	struct addr told[FAMILIES];      /* of this address */
	uint64_t down_until_us
	        [FAMILIES]; /* bind was refused though the address is here; 0 = until it is back */
	struct timer retry_source;
	struct proxy *proxies; /* owns: those that ever failed */
};

/* --- queues --------------------------------------------------------------------------------------------- */

enum hold { HOLD_NONE, HOLD_SUSPENDED, HOLD_CURFEW, HOLD_REMOVED, HOLD_NO_MEMBER, HOLD_SOURCE };
const char *hold_name(enum hold);

struct hop_key {
	uint32_t binding; /* number */
	uint32_t hop;     /* interned name of the next hop */
	uint16_t port;
	uint8_t hop_type; /* enum next_hop_type */
	bool suspended;
	uint32_t scopes; /* interned: the combined limits its sessions count in; 0 = none (scopes.c) */
	const struct profile *profile; /* NULL when nothing can be sent */
	uint32_t demand;               /* interned: of single messages (demand.c); 0 = none */
};

/* Deliveries with the same key. Kept small: there may be as many as destinations. */
struct hop_queue {
	struct queue *q;
	struct hop_queue *hash_next;
	struct hop_key key;
	struct profile *profile; /* shares */
	uint32_t number;         /* in q->hop_queues */
	uint32_t generation;     /* of the configuration that put mail here last */
	struct link of_binding;
	struct link work;              /* in q->work */
	struct delivery_list ready[3]; /* high, normal, low */
	struct delivery_list deferred; /* in the order they were deferred */
	uint32_t n[DELIVERY_N_STATES];
	uint32_t turns; /* jobs taken: gives low priority its share */
	enum hold hold;
	uint32_t source_charged;    /* HOLD_SOURCE: the delivery that was deferred for it; 0 = none */
	uint64_t source_charged_id; /* its message: numbers are given again */
	struct traffic *traffic;    /* NULL while nothing moves */
};

/* What a queue has only while mail moves in it. */
struct traffic {
	struct hop_queue *hq;
	struct route *route; /* shares */
	uint64_t route_until_us;
	struct route_query *query;
	struct pair *pair;
	struct link of_pair;
	struct limit own;
	struct throttle *throttles[N_THROTTLE_KINDS]; /* uses; NULL = none */
	struct proxy *proxy; /* waits for it, by `of_proxy`; NULL = for none */
	struct link of_proxy;
	struct waiter waiters[WAITERS]; /* in the lines of full limits: of one, or of several hosts' */
	struct link conns, idle;        /* of struct conn; longest idle first */
	uint32_t n_conns, n_opening, n_leaving;
	uint32_t n_slow; /* of those opening: so long that the other family is tried beside them */
	uint32_t rotor;  /* takes turns among equal addresses */
	bool proven;     /* some session got ready since the last back-off */
	uint64_t backoff_until_us;
	struct timer backoff;
	struct failure *failure; /* owns: the last session's that failed, until one succeeds */
	uint32_t n_charge;       /* how many deliveries it is charged to when no other address is left */
	struct failure *drain;   /* owns: what the next `n_drain` waiting deliveries are told */
	uint32_t n_drain;
};

/* Why deliveries could not be attempted, or an attempt ended before theirs began. */
struct failure {
	struct outcome outcome;
	struct session_facts facts; /* texts are owned below */
	char *mx, *ehlo, *tls_version, *tls_cipher, *tls_verified, *tls_sni;
};
struct failure *failure_new(const struct outcome *, const struct session_facts *);
void failure_free(struct failure **);

/* binding x next hop: the sessions of all its queues together */
struct pair {
	struct pair *hash_next;
	uint32_t binding, hop;
	uint16_t port;
	uint8_t hop_type;
	struct link traffics; /* of struct traffic: its queues in which mail moves */
	uint32_t generation;  /* in which `max` was looked at */
	struct limit limit;
};

/*
 * Limits by name: sessions to an MX host, per binding or over all (hosts stanza), and those that a place's
 * scope_max_outbound_connections covers; then `mx` is the place's path.
 */
#define NO_BINDING UINT32_MAX
#define SCOPE_BINDING (UINT32_MAX - 1)
#define ROLLUP_MAX 4
#define ROLLUP_PREFIX "rollup:" /* no host name has a colon, no path begins like this */
#define NAMED_LIMITS_MAX (2 + SCOPE_LIMITS_MAX + ROLLUP_MAX)
struct host_limit {
	struct host_limit *hash_next;
	uint32_t binding, mx; /* interned */
	uint32_t generation;  /* rollup: in which `max` was looked at */
	struct limit limit;
};

/* --- sessions -------------------------------------------------------------------------------------------- */

enum conn_state {
	CONN_OPENING, /* until on_ready */
	CONN_BUSY,    /* has a job, has not asked for more */
	CONN_WANTING, /* has asked; waits for a spool commit */
	CONN_IDLE,    /* has asked, there was nothing */
	CONN_LEAVING, /* was told to quit */
};
const char *conn_state_name(enum conn_state);

struct conn {
	struct queue *q;
	struct hop_queue *hq;
	struct session *session;
	uint32_t number; /* in q->conns */
	enum conn_state state;
	uint32_t jobs_out, jobs_done; /* done: completed transactions, */
	uint32_t delivered;           /* and those of them that delivered something */
	uint32_t recipients;          /* named, or to be named by jobs out */
	uint32_t generation;
	struct leases leases;
	struct gates *gates; /* owns; NULL = no throttle counts it */
	struct host_limit *named_limits[NAMED_LIMITS_MAX];
	unsigned n_named_limits;
	struct link of_traffic, idle;
	struct link offered; /* in q->idle_conns */
	struct link wanting; /* in q->wanting */
	bool was_idle;       /* had nothing to do before its present job */
	bool slow;           /* counts in n_slow */
	bool probation;      /* its address has failed before: this one finds out whether it is back */
	bool undane;         /* opened under another demand of DANE than now holds */
	struct timer slow_timer;
	bool probe; /* tries an egress proxy that was down */
	bool lost_job; /* a job came back because the connection went */
	uint64_t opened_us, ready_us;
	uint64_t turn_us;     /* since when it serves this queue, */
	uint32_t turn_jobs;   /* and after how many jobs */
	struct addr source;   /* asked for */
	struct route_addr to; /* owns its strings */
	char *mx, *unix_path;
};

/* --- the module ------------------------------------------------------------------------------------------ */

struct dest_cache;
struct numbered { /* objects by small numbers that are given again */
	void **at;
	uint32_t n, size;
	uint32_t *free;
	uint32_t n_free, size_free;
};
uint32_t numbered_add(struct numbered *, void *);
void numbered_remove(struct numbered *, uint32_t);
void numbered_free(struct numbered *);

struct queue {
	struct loop *loop;
	struct clock *clock;
	struct rnd *rnd;
	struct spool *spool;
	struct router *router;
	struct local_addrs *local;
	struct event_log *events;
	struct session_net *const *nets;
	unsigned n_nets, next_net;
	struct handoff_shared *handoff;

	struct policy *policy;                /* shares */
	struct conf *conf;                    /* borrows from policy */
	struct policy *kept[POLICY_KEPT_MAX]; /* shares; replaced but not dropped, newest first */
	unsigned n_kept;
	const struct global_options *global;
	uint32_t generation;
	bool xclient_used; /* somewhere in `conf` */

	struct intern *names, *replies;
	struct profile_table *profiles;
	struct health *health;
	struct dead_table *dead;
	struct throttles *throttles;
	struct quotas *quotas;
	struct delivery_slab *slab;
	struct due_heap *due;
	struct dest_cache *dests;
	struct numbered bindings;   /* of struct binding; never removed */
	struct numbered hop_queues; /* of struct hop_queue */
	struct numbered conns;      /* of struct conn */
	uint32_t *binding_of_name;  /* interned id -> number + 1 */
	uint32_t n_binding_of_name;
	struct hop_queue **hop_buckets;
	uint32_t n_hop_buckets, size_hop_buckets, n_hop_queues;
	struct pair **pair_buckets;
	uint32_t n_pair_buckets, size_pair_buckets, n_pairs;
	struct host_limit **host_buckets;
	struct link *idle_conns; /* IDLE_BUCKETS of struct conn, by key */
	uint32_t n_idle_conns;

	struct limit server;  /* server_max_outbound_connections */
	struct limit reserve; /* server_reserve_outbound_connections: for queues without a session */
	uint32_t sessions_max;
	struct counts counts;
	struct totals totals;
	struct recent recent;
	struct activity *activity; /* owns */
	uint64_t started_us;
	struct metrics *metrics;
	uint32_t n_state[DELIVERY_N_STATES];
	size_t packed_bytes;
	size_t memory_max;

	struct link work;    /* of struct hop_queue: something to do */
	struct link freed;   /* of struct limit: room, and somebody waits */
	struct link wanting; /* of struct conn: want a job, the spool is behind */
	struct link drains;  /* of struct hop_queue, by `work`: the same for those that have mail to defer */
	struct timer kick;   /* another turn, for what a slice left */
	struct timer due_timer, stop_timer;
	struct spool_results *results; /* of this turn */
	uint32_t notes_out;            /* commit notes not yet back */
	uint64_t notes_posted, notes_back;

	struct move *moves; /* of deliveries that are out */
	struct alias *aliases; /* what is drained, and where to */
	pthread_mutex_t alias_lock; /* the loop alone changes them; net threads look */
	struct timer alias_timer;
	uint64_t beside_cpu_us;	/* of the loop, when changes last had their share */
	struct link changes, changes_done; /* of struct change: under way; waiting for their commit */
	struct suspension *suspensions;    /* by command and by response rules */
	struct suspended_target *suspended_targets;  /* the same by binding or group */
	struct timer suspension_timer;
	struct curfew *curfews;
	struct zone *zones;
	struct timer curfew_timer;
	struct responses *responses;
	struct reduction *reductions; /* by response rules */
	struct timer reduction_timer;

	bool rekeying;
	uint32_t rekey_next, rekey_left, measure_next;
	struct link bounces; /* of struct bounce */
	uint32_t n_bounces;
	struct link bounce_blocked; /* of struct hop_queue, by `work` */

	bool started, stopping;
	void (*stopped)(void *ctx);
	void *stopped_ctx;

	struct queue_metrics {
		metric *active, *deferred, *held, *queues, *sessions, *sessions_max, *reserve, *memory;
		metric *delivered, *deferrals, *bounced, *expired, *uncertain, *received, *dsns;
		metric *dead, *by_rule[RESPONSE_N_THENS];
		metric *spool_live, *spool_free, *spool_messages; /* the spool's */
	} m;
};

/* queue.c */
uint64_t queue_now(const struct queue *);
void queue_kick(struct queue *); /* another turn is needed */
void queue_schedule_due(struct queue *);
bool queue_may_hand_out(
        const struct queue *); /* the spool is not too far behind (design section 8, repeats) */
/* The same for results of which there may be a million at once (mail put off, changed by command): room is left for those of
 * sessions, or mail that moves would wait for mail that does not. */
bool queue_may_record(const struct queue *);
struct spool_results *queue_results(struct queue *);
size_t queue_memory(const struct queue *);
void queue_check_stopped(struct queue *);
struct slice { /* how long a piece of work may go on */
	struct queue *q;
	uint64_t end_us;
	unsigned steps;
};
struct slice slice_begin(struct queue *);
bool slice_over(struct slice *);

/* binding.c */
struct binding *binding_at(const struct queue *, uint32_t number);
struct binding *binding_get(struct queue *, const char *name, enum binding_kind); /* made when new */
struct binding *binding_find(const struct queue *, const char *name);
const char *binding_name(const struct queue *, const struct binding *);
const char *binding_group_name(const struct binding *); /* NULL for the ungrouped */
struct limit *binding_total(struct binding *);          /* of the configuration in force */
bool binding_suspended(struct binding *);               /* for every domain */
bool binding_in_curfew(struct binding *);               /* the same */
void bindings_adopt(struct queue *);                    /* the snapshots in q->policy and q->kept */
/* Whether a source address of that family may be used now; tells the operator when that changes. Behind an egress proxy
 * (elsewhere) it need not be on this machine. */
enum source_state { SOURCE_OK, SOURCE_MISSING, SOURCE_DOWN };
enum source_state binding_source(struct binding *, int family, bool elsewhere, struct addr *source, bool *any);
void binding_source_refused(struct binding *, int family); /* bind failed */
void bindings_check_sources(struct queue *);               /* this machine's addresses changed */
void binding_release_source(struct binding *, bool is_back /* the address, for certain */);

/* proxy.c; family is the source's */
struct proxy *proxy_for(
        const struct binding *, const struct conn_options *, int family); /* NULL = none, or it never failed */
bool proxy_blocks(const struct proxy *); /* it is down: wait. NULL is fine */
const char *proxy_why(const struct proxy *);
void proxy_wait(struct proxy *, struct traffic *);
void proxy_stop_waiting(struct traffic *);
bool proxy_probe_begin(struct proxy *); /* true: the session about to be opened finds out for all */
void proxy_probe_end(struct binding *, const struct conn_options *, int family);
void proxy_worked(struct proxy *);
/* True: this is the attempt that found out, so its mail is told. */
bool proxy_failed(
        struct binding *, const struct conn_options *, int family, bool probe, const struct outcome *why);
bool proxies_down(const struct binding *);
void proxies_recall(struct binding *); /* flush: not left alone any longer */
void proxies_reloaded(struct queue *);
void proxies_free(struct binding *);

/* dest.c */
struct dest {
	uint32_t binding, domain; /* key; domain interned, a reference */
	uint32_t generation;
	struct hop_key key; /* `hop` a reference; `profile` shared */
	struct profile *profile;
	struct deliv_options deliv;
	int64_t curfew_until_s; /* suspended for a curfew only: wall clock, when that may end; 0 = not for that */
};
struct dest_cache *dest_cache_new(void);
void dest_cache_free(struct queue *);
void dest_forget(struct queue *, const struct binding *, const char *domain); /* it is resolved anew */
const struct dest *dest_get(
        struct queue *, struct binding *, uint32_t domain); /* valid until the next call */

/* demand.c */
struct demand {
	char *ehlo, *xclient; /* own; NULL = none */
};
uint32_t demand_client(struct queue *, const struct message *); /* for delivery->client; a new reference */
uint32_t demand_get(struct queue *, const struct delivery *, const struct profile *); /* a new reference */
enum session_tls_demand demand_tls(const struct queue *, uint32_t id);
/* A host that could not do what this queue's mail demands of TLS, credentials or XCLIENT is not to blame for other mail. */
struct health_who demand_health(const struct hop_queue *);
void demand_parse(const struct queue *, uint32_t id, struct demand *);
void demand_free(struct demand *);

/* place.c */
/* Chooses binding (for a group's) and queue by the configuration in force; the delivery is in no queue before. */
void place_delivery(struct queue *, uint32_t no, enum delivery_state, uint64_t due_us);
void place_again(struct queue *, uint32_t no); /* waiting: moves it if its queue is another one now */
void place_target(struct queue *, struct delivery *, const char *target);
void place_spread(struct queue *, uint32_t no); /* released with many others: ready, now or a little later */
/* Its next attempt is made by another member of its group; false: it stays. It moves when it enters its next state. */
bool place_other_member(struct queue *, struct delivery *, enum retry_source);
uint32_t place_first(
        struct hop_queue *); /* the queue's first, after moving away what no longer belongs into it */
bool hop_key_equal(const struct hop_key *, const struct hop_key *);
bool hop_key_same_place(const struct hop_key *, const struct hop_key *); /* leaving demands aside */
void delivery_enter(struct queue *, uint32_t no, enum delivery_state, uint64_t due_us /* DEFERRED only */);
void delivery_put_back(struct queue *, uint32_t no); /* OUT -> READY, first in line */
void delivery_leave(struct queue *, uint32_t no);    /* out of its queue and its counts */
void delivery_drop(struct queue *, uint32_t no);     /* done: gone from memory */
uint64_t delivery_age_us(const struct queue *, const struct delivery *);
uint64_t delivery_expiry_us(struct queue *, const struct delivery *);
bool delivery_not_to_be_attempted(struct queue *, const struct delivery *); /* has expired: will be given up */
const struct deliv_options *delivery_options(struct queue *, const struct delivery *);
void delivery_forget_body(struct delivery *);
void deliveries_due(struct queue *, struct slice *);

/* hop_queue.c */
struct hop_queue *hop_queue_get(struct queue *, const struct hop_key *, struct profile *, enum hold);
void hop_queue_free_if_empty(struct hop_queue *); /* may free it */
void hop_queue_work(struct hop_queue *);          /* something may be to be done */
void hop_queue_hold(struct hop_queue *, enum hold);
uint32_t hop_queue_first(
        const struct hop_queue *); /* the next delivery to send, 0 = none; still in the list */
uint32_t hop_queue_active(const struct hop_queue *);
struct traffic *traffic_get(struct hop_queue *);
/* Of its queues in which mail moves. */
struct counts pairs_counts(struct queue *, uint32_t binding, uint32_t hop);
void pairs_bound(struct queue *, uint32_t binding, uint32_t hop); /* its limit has changed */
void traffic_wait(struct traffic *, struct limit *);
void traffic_stop_waiting(struct traffic *);
struct limit *traffic_pair_limit(struct traffic *); /* for a new session: as it is to be by now */
void hop_queues_free(struct queue *);
void next_hop_of(const struct hop_queue *, struct next_hop *);

/* attempt.c */
void attempt_service(struct hop_queue *, struct slice *); /* do what there is to do */
bool attempt_route_settled(struct hop_queue *);           /* else it is being asked for */
void attempt_wake(struct queue *, struct slice *);        /* serve those who wait for freed limits */
/* An idle session's limit is what this queue waits for: takes it over if it can. */
bool attempt_take_over(struct hop_queue *, struct conn *, const struct limit *woken);
/* A session failed for its address: the next address is tried, or `charge` deliveries are told and the queue waits; all
 * of them when the destination is known to be dead, and is looked at again at `recover_us` at the earliest (0 = it is not). */
void attempt_failed(struct hop_queue *, const struct outcome *, const struct session_facts *, uint32_t charge,
        uint64_t recover_us);
void attempt_wait(struct traffic *, struct limit *); /* in its line */
void drains_resume(struct queue *); /* the spool has caught up */
/* The egress proxy failed; told: one delivery is told. The queue waits for it. */
void attempt_proxy_failed(
        struct hop_queue *, const struct outcome *, const struct session_facts *, bool told);
/* The machine itself has no socket or port to give: one delivery is told, the queue waits a little. */
void attempt_pause(struct hop_queue *, const struct outcome *, const struct session_facts *);
void limits_adopt(struct queue *);
void limit_freed(void *queue, struct limit *);

/* dead.c: a binding's next hop at which nothing works */
struct dead_table *dead_new(void);
void dead_free(struct queue *);
/* A session that began then failed, after an answer or without; true: all mail of the queue is to wait. */
bool dead_failed(struct hop_queue *, uint64_t began_us, bool answered);
/* All its MX hosts have failed, the first recovers then: until when a dead one is left alone, 0 = it is not dead. */
uint64_t dead_round(struct hop_queue *, uint64_t recover_us, uint64_t most_us);
bool dead_is(const struct hop_queue *);
uint32_t dead_count(const struct queue *);
void dead_answered(struct hop_queue *); /* a session got ready */
void dead_works(struct hop_queue *);    /* a transaction was completed */

/* conn_key.c */
struct conn_key {
	uint32_t binding, demand;
	const struct profile *profile;
	enum route_method method;
	struct addr source, peer;
	bool secure, mx_secure;
	const struct tlsa *tlsa;
	const char *mx, *unix_path, *next_hop; /* these are borrowed */
};
void conn_key_of(const struct hop_queue *, const struct route_addr *, const struct addr *source,
        bool any_source, struct conn_key *);
bool conn_key_equal(const struct conn_key *, const struct conn_key *);
void sibling_offer(struct conn *);                                  /* idle: may be taken over */
void sibling_withdraw(struct conn *);                               /* no more */
struct conn *sibling_find(struct queue *, const struct conn_key *); /* NULL = none */

/* conn.c */
/* The idle session serves this queue from now on; the limits have room. */
void conn_take_over(struct conn *, struct hop_queue *to, struct limit *const *wanted, unsigned n,
        struct host_limit *const *named, unsigned n_named, const struct limit *woken);
bool conn_used_up(struct conn *); /* must not begin another job */
/* Idle, and somebody waits for what it holds: serves him if it can, else quits. */
void conn_make_room(struct conn *);
struct conn *conn_open(struct hop_queue *, const struct route_addr *, const struct addr *source,
        bool any_source, struct limit *const *wanted, unsigned n, struct host_limit *const *named,
        unsigned n_named, struct throttle *const host[N_THROTTLE_KINDS]);

/* scopes.c: the interned list of combined limits of a binding and domain, and the limits themselves. */
uint32_t scopes_get(
        struct queue *, const struct binding *, const char *domain); /* a new reference; 0 = none */
unsigned scopes_limits(struct queue *, uint32_t scopes, struct host_limit *out[SCOPE_LIMITS_MAX]);
/* A new route may demand another certificate than the one a session was opened for: such a session takes no more. */
void conns_adopt_route(struct hop_queue *, const struct route *);
void scopes_throttles(struct queue *, uint32_t scopes, struct throttle *out[N_THROTTLE_KINDS]); /* used */

/* host_limits.c */
struct host_limit *host_limit_get(struct queue *, uint32_t binding, const char *mx, uint32_t max);
struct host_limit *host_limit_find(const struct queue *, uint32_t binding, const char *mx); /* NULL if there is none */
void host_limit_put(struct queue *, struct host_limit *);
/* What the hosts stanza has for a binding's sessions to an MX host; NULL = nothing. The throttles are not used yet. */
struct host_marks {
	struct host_limit *limits[2];
	struct throttle *throttles[N_THROTTLE_KINDS];
};
void host_marks(struct queue *, const struct binding *, const char *mx, struct host_marks *);
/* After a reload. False: there is a limit now that the session does not count in. */
bool host_limits_renew(struct conn *);

/* rollup.c: the limits that sessions of the queue share with all whose best MX hosts are among its own */
unsigned rollup_limits(struct hop_queue *, struct host_limit *out[ROLLUP_MAX]);

/* gates.c */
#define GATES_MAX (2 * N_THROTTLE_KINDS)
/* Those a new session of the queue to that host would have to pass. */
unsigned gates_limits(
        const struct traffic *, struct throttle *const host[N_THROTTLE_KINDS], struct limit *out[GATES_MAX]);
void gates_open(struct conn *, struct throttle *const host[N_THROTTLE_KINDS]); /* all have room */
void gates_ready(struct conn *);
void gates_no_job(struct conn *); /* what was reserved for its first message is not needed, or not soon */
struct limit *gates_blocking(struct conn *, const struct limit *woken); /* NULL = the next message may go */
bool gates_is_host(const struct conn *, const struct limit *); /* the throttle of its MX host, for some time */
void gates_job(struct conn *, uint32_t no);
void gates_job_done(struct conn *, uint32_t no, bool begun);
void gates_renew(struct conn *);
void gates_free(struct conn *);
bool conn_feed_woken(struct conn *, const struct limit *woken /* whose turn it is to serve us */);
bool conn_feed(struct conn *); /* has asked: a job, or idle, or quit. True if it got a job */
void conn_quit(struct conn *);
/* The host is left alone for a while, for what it said to a message; the session ends. */
void conn_avoid_host(struct conn *, const struct outcome *, const struct session_facts *);
void conns_leave_outdated(struct queue *);
void conns_feed_wanting(struct queue *, struct slice *);
struct conn *conn_of_leases(struct leases *);

/* result.c */
void result_take(struct conn *, struct session_job *, const struct session_facts *);
/* A waiting delivery meets this outcome without a session: all its recipients get it. */
void result_waiting(struct queue *, uint32_t no, const struct outcome *, const struct session_facts *);
void result_expire_waiting(struct queue *, uint32_t no, const struct outcome *, const struct session_facts *);
/* What the spool is to know of the delivery as it stands, `next` being where it goes. */
void result_record(struct queue *, struct spool_results *, uint32_t no, uint64_t due_us, bool held,
        const char *reply /* NULL = the last one known */);

/* bounce.c */
struct bounce; /* recipients of one delivery that failed together */
bool bounce_wanted(const struct queue *, const struct delivery *, const struct deliv_options *);
struct bounce *bounce_new(struct queue *, uint32_t no);
void bounce_add(struct bounce *, const struct packed_recipient *, const struct outcome *,
        const char *enhanced, const char *mx);
/* Delivered to a host that sends no reports; the sender may have asked for one. */
void bounce_add_delivered(struct bounce *, const struct packed_recipient *, const struct outcome *,
        const struct session_facts *);
/* The delivery, with the failed recipients taken out of it, waits in BOUNCING; once the DSN is stored it goes on to
 * `then` (READY, DEFERRED, HELD; FREE = it is done). some_gone: others were delivered just now, which the spool is to know
 * even if the DSN takes its time. */
void bounce_start(struct bounce *, enum delivery_state then, uint64_t due_us, bool some_gone);
bool bounces_overfull(const struct queue *); /* the disk takes none: mail had better fail again later */
bool bounces_full(const struct queue *);     /* enough are under way: produce no more for now, */
void bounces_wait(struct hop_queue *);       /* the queue's turn comes when one has ended */
void bounces_free(struct queue *);

/* events.c */
void event_recipient(struct queue *, const struct delivery *, enum event_type, const char *recipient,
        const struct outcome *, const char *enhanced /* NULL = the outcome's */,
        const struct session_facts *);
void event_reception(struct queue *, const struct delivery *, const char *recipient);
void event_moved(struct queue *, const struct delivery *, const struct binding *from,
        const struct binding *to, const char *reason);
void event_binding(struct queue *, const struct binding *, enum event_type, const struct addr *source,
        const char *reason);

void result_fail(struct queue *, uint32_t no, const struct outcome *, const struct selection *, bool dsn);
void result_delete(struct queue *, uint32_t no, const struct selection *);

/* select.c */
bool select_delivery(const struct queue *, const struct selection *, const struct delivery *);
bool select_recipient(const struct selection *, const char *address);
void select_print(const struct selection *, struct str *);

/* select_header.c: a message's header is read back; header NULL = it cannot be, no 0 = the delivery has gone */
bool select_header(const struct selection *, const char *header, size_t len);
size_t header_field_length(const char *text, size_t len); /* a field with its continuation lines */
typedef void header_read(void *ctx, uint32_t no, const char *header, size_t len);
void header_read_start(
        struct queue *, struct link *all, uint32_t no, header_read *, void *ctx); /* may be done at once */
void header_reads_cancel(struct link *all);

/* curfew.c: whether a window is open, and until when at least */
bool curfew_open(struct queue *, const struct curfew_list *, int64_t *until_s);
void curfews_look(void *queue);
void curfews_free(struct queue *);

/* responses.c: response_rules */
struct responses *responses_new(void);
void responses_free(struct queue *);
void responses_forget_patterns(struct queue *); /* the configuration has changed */
void responses_forget(struct queue *, const struct binding *, const char *domain /* NULL = all */); /* counts */
/* The rule that acts on a reply, NULL = none: borrows from the snapshot in force. `counts`: it has just been said. */
const struct response_rule *response_judge(
        struct queue *, const struct delivery *, const struct outcome *, bool counts);
/* What lasts: suspends, reduces. The rest is done to the delivery (result.c). */
void response_act(struct queue *, struct hop_queue *, const struct delivery *, const struct response_rule *,
        const struct outcome *);
struct cause { /* why something is in force */
	char *rule, *then, *reply; /* owns */
};
struct cause *cause_copy(const struct cause *);
void cause_print(const struct cause *, struct str *); /* as in settings, a tab before each part */
struct cause *cause_parse(const char *);              /* NULL = there is none */
void cause_free(struct cause **);

/* rules_list.c: from the how-manieth row on; where to go on, 0 = the end */
uint32_t rules_print(const struct queue *, struct json_out *, const char *binding, const char *domain,
        uint32_t from, uint32_t limit);

/* reduce.c: connections from a binding to a next hop */
void reduce_begin(struct queue *, const struct hop_queue *, const char *domain, uint32_t max, uint64_t for_us,
        const struct cause *);
uint32_t reduced_max(const struct queue *, uint32_t binding, uint32_t hop); /* LIMIT_NONE = as configured */
bool reductions_end(struct queue *, const char *target, const char *domain, const char *who); /* false: none */
/* False from a row ends the list; hop NULL = a suspension. */
typedef bool reduction_row(void *ctx, const char *target, const char *domain, const char *hop,
        const struct cause *, uint64_t until_wall_us);
bool reductions_each(const struct queue *, reduction_row *, void *ctx);
bool reduction_restore(struct queue *, const char *key, const char *value); /* false: not one */
void reductions_start(struct queue *);
void reductions_expire(void *queue);
void reductions_free(struct queue *);

/* suspend.c: target is a binding or "group:NAME"; domain NULL = every one */
bool suspended_by_command(const struct queue *, const struct binding *, const char *domain);
uint64_t suspend_begin(struct queue *, const char *target, const char *domain, uint64_t for_us,
        const char *who, const struct cause * /* NULL = by command */);
bool suspensions_by_rule(const struct queue *, reduction_row *, void *ctx);
/* Also ends what response rules reduced there, and what they have counted. False: there was nothing. */
bool suspend_end(struct queue *, const char *target, const char *domain, const char *who);
unsigned suspensions_count(const struct queue *);
bool suspended_target(const struct queue *, const char *target, const char *domain);
void suspensions_print(const struct queue *, const char *target, struct json_out *);
bool suspension_restore(struct queue *, const char *key, const char *value); /* false: not one */
void suspensions_start(struct queue *);
void suspensions_expire(void *queue);
void suspensions_free(struct queue *);

/* rebind_policy.c: where the rules in force would send it now; NULL = it stays, and !known says that nobody can tell.
 * To be freed. */
char *rebind_by_policy(struct queue *, uint32_t no, const char *header, size_t len, bool *known);

/* move.c: to another binding, group or (routing) domain by command */
void place_reroute(struct queue *, uint32_t no, const char *domain);
void reroute_later(struct queue *, uint32_t no, const char *domain);
bool reroute_is_there(const struct queue *, uint32_t no, const char *domain);
void place_move(struct queue *, uint32_t no, const char *target);      /* waiting, or just back */
void move_later(struct queue *, uint32_t no, const char *target);      /* when it comes back; durable at once */
bool move_is_there(const struct queue *, uint32_t no, const char *target);
bool move_pending(struct queue *, uint32_t no); /* has come back: is given its new target. True if there was one */
void move_forget(struct queue *, uint32_t no);
void moves_free(struct queue *);
void event_reroute(struct queue *, const char *to, const struct selection *, uint64_t count, const char *who);
void event_rebind(struct queue *, const char *to, const struct selection *, uint64_t count, const char *who);

void move_record(struct queue *, const struct delivery *, const char *target);

/* alias.c: what names a drained binding goes to another one */
const char *alias_of(const struct queue *, const char *name); /* NULL = not drained */
uint64_t alias_begin(struct queue *, const char *name, const char *to, const char *who);
void alias_end(struct queue *, const char *name);
void aliases_expire(void *queue);
bool alias_means(const struct queue *, const struct delivery *);
void alias_apply(struct queue *, struct delivery *);
void aliases_swept(struct queue *);
bool alias_restore(struct queue *, const char *key, const char *value); /* false: not one */
void aliases_start(struct queue *);
void aliases_free(struct queue *);

/* change.c */
void changes_some(struct queue *, struct slice *);
void changes_committed(struct queue *);
void changes_free(struct queue *);

/* answers.c */
void answer_row(struct queue *, struct json_out *, const struct delivery *); /* as `messages` has it */

/* activity.c: what moves most just now */
struct activity *activity_new(void);
void activity_free(struct queue *);
void activity_note(struct queue *, uint32_t binding, uint32_t hop, enum total, const struct outcome *);
void activity_print(struct queue *, const struct queue_ask *, unsigned limit, struct json_out *);

/* totals.c */
void totals_add(struct queue *, struct binding *, enum total);
void totals_recent(struct queue *, struct totals *); /* of the last minute */
/* Gives those of the configuration their metrics, which costs 10 us each; NULL: all at once. False = not done yet. */
bool binding_metrics_some(struct queue *, struct slice *);
void binding_metrics_set(const struct binding *); /* its counts have changed */

/* quotas_adopt.c: quotas as the snapshots in q->policy and q->kept have them */
void quotas_adopt(struct queue *);
void binding_queued(struct binding *, int messages, uint64_t size); /* one more (+1) or less (-1) is queued */

/* last_reply.c */
void last_reply_set(struct queue *, struct delivery *, const char *text, uint64_t wall_us);
const char *last_reply_text(const struct queue *, const struct delivery *); /* NULL = none known */

/* waits.c */
bool waits_for(const struct hop_queue *, struct str *why); /* appends; false = nothing holds it up */
bool binding_waits_for(struct binding *, struct str *why, uint64_t *until_us);
uint64_t waits_until_us(const struct hop_queue *);         /* mono; until when its ready mail waits, 0 = unknown */
uint64_t next_attempt_us(const struct hop_queue *);        /* mono; 0 = nothing deferred */

/* reconfigure.c */
void rekey_some(struct queue *, struct slice *);
void rekey_begin(struct queue *);

#endif
