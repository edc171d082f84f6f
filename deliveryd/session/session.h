/*
 * session - one outgoing connection: SMTP, ESMTP or LMTP client
 *
 * Purpose    Connects from the binding's address to one MX address, says EHLO, sends jobs, reports per recipient.
 *            It knows no queue and no limit: the queue picked the address and holds the leases.
 * Ownership  session_open() takes the session_open struct; jobs belong to the session from session_job() until
 *            on_job_done(). Profile and message references are shared.
 * Threads    The session lives on a net loop; session_open(), session_job(), session_quit() post mail to it from the
 *            queue's loop; the callbacks in struct session_owner are run on the queue's loop.
 * Order      on_ready (once, connected and EHLO done) - then for each job: on_want (end of data is about to be sent:
 *            the next job may be given) and on_job_done - at last on_closed, exactly once, after every job has come
 *            back. No callback runs from inside a call.
 * Jobs       Each comes back by on_job_done, whatever happens, with an outcome for each recipient:
 *              begun, !connection_lost   what the peer (or our own check: size, SMTPUTF8) said about this mail
 *              begun, connection_lost    recipients without `lost` have their answer; those with it (transient) met
 *                                        421, a lost connection, silence, or what is not SMTP before end of data:
 *                                        next MX at once
 *              !begun, connection_lost   the session came to nothing before it was of any use; the outcomes say why
 *              !begun, !connection_lost  costs nothing, outcomes are OUTCOME_NONE: quit, stopped, or the peer gave
 *                                        up a connection that had been of use, between two messages
 *            A recipient with `put_off` was one too many for the transaction that others had their answer in.
 *            OUTCOME_UNCERTAIN (state dot) never comes with connection_lost: another MX would make a duplicate.
 *            Our own outcomes with enhanced 4.3.x (4.3.5 source, 4.3.0 this machine, 4.3.2 stopping) say nothing
 *            about the peer: its health is not in question. With `proxy` it is the egress proxy that failed.
 */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "base/addr.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "message.h"
#include "queue/profile.h"
#include "session/outcome.h"
#include "session/tlsa.h"
#include "spool/body.h"

struct session;     /* handle, valid until on_closed has run */
struct session_net; /* a net loop's sessions */
struct local_addrs; /* session/local_addrs.h: this machine's addresses, by netlink */

/* What a connection turned out to be; events print it. */
struct session_facts {
	struct addr source, peer; /* getsockname(), getpeername(); AF_UNSPEC before connect */
	struct addr proxy;        /* went through it: source is what it was told (claimed) or answered, peer the MX */
	bool claimed;
	const char *mx, *ehlo;    /* host name connected to; EHLO name used */
	const char *tls_version, *tls_cipher, *tls_verified, *tls_sni; /* NULL = clear */
	bool dsn; /* it takes RFC 3461's parameters, so reports of success are its business */
	bool lmtp;
	bool tls_resumed, tls_insecure_mx; /* judged by DANE, but the host's name came unsigned */
};

struct session_job {
	struct mail mail; /* the session's while under way */
	/* set by the queue */
	uint64_t message_id;
	uint64_t ref;       /* the queue's own handle */
	const char *sender; /* owned by the job's memory (see job_free) */
	uint32_t flags;     /* enum message_flags */
	uint64_t body_size;
	struct body *body; /* owns a reference; NULL = read back by id */
	uint32_t n_recipients;
	const char **recipients;
	uint32_t delivery; /* where they stand in the message: its delivery, and */
	uint32_t *numbers; /* their numbers in it; NULL = from 0 on */
	/* set by the session */
	struct outcome *outcomes; /* n_recipients; allocated by the session, freed by session_job_free() */
	bool begun;               /* MAIL was sent: false = nothing happened, costs no retry */
	bool connection_lost;     /* class is due to the connection (421, loss): next MX at once */
	uint64_t done_mono_us;
	struct session *session;
	void *mem; /* owns sender, recipients and numbers; mem_free()d */
};
void session_job_free(struct session_job **);

struct session_owner { /* callbacks, on owner_loop */
	void (*on_ready)(void *ctx, struct session *, const struct session_facts *);
	void (*on_want)(void *ctx, struct session *);
	void (*on_job_done)(
	        void *ctx, struct session *, struct session_job *takes, const struct session_facts *);
	/* why: OUTCOME_OK = closed in good order (QUIT, idle); else what went wrong and where, class transient.
	 * completed: transactions that ran to their end in it, whatever the replies. The peer's close has been
	 * read (or reset 5 s after QUIT): leases may be freed. */
	void (*on_closed)(void *ctx, struct session *, const struct outcome *why, uint32_t completed,
	        const struct session_facts *);
};

/* What a message demands of TLS, beyond its profile (RFC 8689) */
enum session_tls_demand {
	SESSION_TLS_PROFILE,
	SESSION_TLS_REQUIRED, /* REQUIRETLS: a certificate for the host or the next hop, and a host that does REQUIRETLS */
	SESSION_TLS_OPTIONAL, /* TLS-Required: No: no certificate is refused, and clear text will do for ifavailable */
};

struct session_open {
	struct addr peer;     /* with port */
	const char *mx;       /* host name, for EHLO-independent uses (TLS, events); copied */
	const char *next_hop; /* its domain or gateway: a certificate may be for it as well; NULL; copied */
	struct tlsa *tlsa;    /* DANE: TLS, with a certificate that these let pass; NULL = none; shared */
	enum session_tls_demand tls_demand;
	const char *unix_path; /* lmtp:unix: NULL otherwise; copied */
	struct addr source;    /* AF_UNSPEC only with any_source, unix_path, or a DSN as first job */
	bool any_source;
	const char *binding;                /* copied */
	struct profile *profile;            /* shared */
	const enum delivery_method *method; /* in place of the profile's; NULL = that one */
	const char *ehlo;                   /* in place of the profile's; NULL = that one; copied */
	const char *xclient;                /* "ADDR=192.0.2.1 HELO=x", values encoded; NULL = none; copied */
	struct session_job *first;          /* may be NULL; takes */
	struct loop *owner_loop;
	const struct session_owner *owner;
	void *ctx;
};

struct session_net *session_net_new(
        struct loop *net_loop, struct spool *, struct local_addrs *, struct metrics *, const char *hostname);
void session_net_free(struct session_net **); /* no session open any more */
/* Any thread. Sessions before MAIL quit; running transactions get until the first deadline, those past end of data
 * until the final one. */
void session_net_stop(
        struct session_net *, uint64_t transaction_deadline_mono_us, uint64_t final_deadline_mono_us);

/* Before the loops run: who looks at the dialogue (report/trace.h); borrowed. */
struct trace;
void session_net_set_trace(struct session_net *, struct trace *);
/* Any thread: certificates and keys are read anew. */
void session_net_reload(struct session_net *);
/* Tests: files are read on the loop itself. */
void session_net_read_at_once(struct session_net *);

struct session *session_open(struct session_net *, const struct session_open *);
/* At any time until on_closed; several may wait their turn. */
void session_job(struct session *, struct session_job *takes);
/* The answer to on_want when there is none: stay idle up to idle_timeout */
void session_no_job(struct session *);
void session_quit(struct session *); /* finish the running job, QUIT, close */

#endif
