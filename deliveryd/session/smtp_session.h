/*
 * smtp_session - inside of an outgoing session: the dialogue, on its net loop
 *
 * Purpose    What session_net.c (threads, mail), session_io.c (socket, clock), smtp_session.c (states) and
 *            smtp_transaction.c (jobs and outcomes) share. Nobody outside deliveryd/session includes it.
 * Ownership  struct session is made and freed on the owner's loop (session_net.c); between, each field belongs to
 *            the side it is listed under.
 */
#ifndef SESSION_SMTP_SESSION_H
#define SESSION_SMTP_SESSION_H

#include <event2/event_struct.h>
#include <stdatomic.h>
#include "base/str.h"
#include "session/host_memory.h"
#include "session/secrets.h"
#include "session/session.h"
#include "session/smtp_commands.h"
#include "session/smtp_data.h"
#include "session/smtp_reply.h"
#include "session/smtp_trace.h"
#include "session/socks5.h"
#include "session/source.h"
#include "session/stream.h"
#include "session/tls_memory.h"
#include "session/tls_stream.h"

#define SESSION_MAGIC 0x5e551074u
#define SESSION_INPUT_SIZE (32 * 1024)

enum smtp_state {
#define STATE(name, enter, on_reply, timeout, event_state, from, words) SMTP_##name,
#include "session/smtp_state.def"
#undef STATE
};

/* Who is to blame for the end of a session. */
enum smtp_cause {
	SMTP_PEER_GONE, /* the peer closed, reset, or said 421 */
	SMTP_PEER,      /* anything else of the connection's: refused, silent, not SMTP */
	SMTP_OURS,      /* source address, disk, stopping */
};
/* How it ends. */
enum smtp_ending { SMTP_END_RESET, SMTP_END_QUIT, SMTP_END_WAIT };

struct smtp_transaction {
	struct session_job *job;    /* owns; NULL once handed back */
	struct body_cursor *cursor; /* owns */
	struct smtp_data data;
	struct smtp_mail_params params;
	struct message *envelope; /* shares; read back, NULL = not needed */
	struct smtp_envelope_load *envelope_load;
	bool piped;         /* MAIL, RCPTs and DATA went out together */
	bool chunked;       /* by BDAT */
	bool body_piped;    /* it goes out behind RCPT, whatever the replies */
	bool body_out;      /* all of it */
	bool refused;       /* MAIL was; the job waits for the reply to BDAT */
	bool chunk_answered; /* LMTP: at least once */
	bool mail_accepted; /* so the server has a transaction open */
	bool wanted;        /* on_want was posted */
	uint32_t rcpt;      /* place of the recipient whose reply is due */
	uint32_t rcpt_due;  /* replies to RCPT still to come */
	uint32_t accepted;
	bool delivered, said_421; /* LMTP: of the replies so far, one was 2yz, one was 421 */
	uint64_t deadline_us;     /* of MAIL to end of data */
};

/* What a certificate showed, best first; the events' words (smtp_tls_proof()) */
#define SMTP_TLS_PROOFS 5

struct session_metrics {
	metric *open, *connections, *connect_failures, *protocol_errors, *transactions, *bytes;
	metric *tls_handshakes[SMTP_TLS_PROOFS], *tls_resumed, *tls_failures;
};

struct session_net {
	struct loop *loop;
	struct spool *spool;
	struct local_addrs *local;
	struct trace *trace; /* borrows; may be NULL */
	char *hostname;
	struct session_metrics metrics;
	struct session *sessions; /* all on this loop */
	bool stopping;
	uint64_t stop_transactions_us, stop_final_us;
	struct mail stop_mail;
	_Atomic uint64_t stop_mail_transactions_us, stop_mail_final_us; /* written by whoever stops us */
	atomic_bool stop_posted;
	struct tls_creds_cache *tls_creds;
	struct tls_memory *tls_memory;
	struct secrets *secrets;
	struct host_memory *no_bdat; /* hosts that offer CHUNKING and do not know BDAT */
	struct mail reload_mail;
	atomic_bool reload_posted;
	char *input; /* one buffer for all: nothing stays in it between two events */
};

struct session {
	uint32_t magic;

	/* set before the session is posted, then only read */
	struct session_net *net;
	struct loop *owner_loop;
	const struct session_owner *owner;
	void *ctx;
	struct source_connect where; /* strings owned here */
	struct egress_proxy proxy;   /* where.proxy points to it if there is one */
	char *mx, *next_hop, *ehlo, *binding, *unix_path, *xclient;
	struct profile *profile; /* shares */
	struct tlsa *tlsa;       /* shares; NULL = no DANE */
	enum session_tls_demand tls_demand;
	const struct conn_options *o;
	enum delivery_method method;

	/* the owner's */
	bool net_done; /* on_closed is on its way: jobs given now come back at once */
	bool gone;     /* the net loop has let go of the session */
	bool quit_posted;
	unsigned returning; /* jobs on their way back within the owner's loop */

	/* mail; each is posted by one side, taken by the other */
	struct mail open_mail, quit_mail, no_job_mail, ack_mail;   /* to the net loop */
	struct mail ready_mail, want_mail, closed_mail, gone_mail; /* to the owner */
	atomic_bool want_posted, no_job_posted;

	/* the net loop's */
	struct session *prev, *next;
	enum smtp_state state;
	struct stream stream;
	struct event readable, writable;
	bool events_made;
	struct timer timer;
	uint64_t deadline_us;
	struct smtp_reply reply;
	struct smtp_trace *trace; /* owns; NULL = nobody has looked yet */
	size_t rest;              /* bytes read that lie behind the reply being handled */
	struct str out;           /* commands to send */
	size_t out_sent;
	size_t discarded;
	bool peer_closed;  /* its end of stream was read */
	bool quitting;     /* no further job */
	bool owner_thinks; /* on_ready or on_want is not answered yet */
	bool body_waits;   /* for the spool */
	bool tls;          /* TLS is up */
	bool clear_only;   /* TLS has failed with this host: clear text has to do */
	struct tls_creds_wait tls_wait;
	struct tls_facts tls_facts;
	struct socks5 socks;
	struct smtp_offer offer;
	unsigned auth_step; /* 334s answered */
	bool authenticated;
	struct secret_wait secret_wait;
	char *secret;                  /* owns; of outbound_smtp_auth_pass_file */
	size_t xclient_at;             /* how much of `xclient` has been said, */
	unsigned xclient_said;         /* in so many commands */
	struct mail *jobs, **jobs_end; /* jobs given, not begun, by their mails */
	struct smtp_transaction t;
	uint32_t completed; /* transactions that ran to their end, whatever the replies */
	uint32_t delivered; /* of these, those whose end of data was accepted */
	uint32_t named;     /* recipients, in all transactions */
	uint64_t opened_us;
	struct outcome why;         /* of the end; class OK = in good order */
	struct session_facts facts; /* written before the first mail to the owner, then only read */
};

/* --- session_net.c: mail to the owner ---------------------------------------------------------------- */
void session_post_ready(struct session *);
void session_post_want(struct session *);
void session_post_job(struct session *, struct session_job *);
void session_post_closed(struct session *);

/* --- session_io.c: socket and clock ------------------------------------------------------------------ */
void smtp_io_init(struct session *);
void smtp_io_connect(struct session *);
/* Sends what there is to send: commands, then the body. */
void smtp_io_pump(struct session *);
/* Reads what is there. The session may be closed afterwards. */
void smtp_io_read(struct session *);
void smtp_io_close(struct session *, bool reset);
/* The same address again, on a new connection. */
void smtp_io_reconnect(struct session *);
/* Wakes smtp_tls_handshake() when the descriptor can be written to, besides read from. */
void smtp_io_want_write(struct session *);
/* Whether the descriptor is read at all. */
void smtp_io_listen(struct session *, bool on);
/* We send no more, and no TLS; the peer's close is what is waited for. */
void smtp_io_shutdown(struct session *);
/* The state's time begins anew. */
void smtp_io_arm(struct session *);

/* --- smtp_session.c: states ------------------------------------------------------------------------------
 */
const char *smtp_state_words(enum smtp_state);
enum outcome_state smtp_state_outcome(enum smtp_state);
uint64_t smtp_state_timeout_us(const struct session *);
void smtp_session_enter(struct session *, enum smtp_state);
void smtp_session_connected(struct session *);
void smtp_session_input(struct session *, const char *raw, size_t len);
void smtp_session_eof(struct session *, int error);
void smtp_session_timed_out(struct session *);
void smtp_session_body_sent(struct session *);
void smtp_session_body_failed(struct session *);
void smtp_session_envelope(struct session *, bool ok); /* has been read back */
/* Once so many messages have been delivered no further transaction may begin. */
bool smtp_session_used_up(const struct session *, uint32_t delivered);
/* A reply that ends the session: 421 anywhere, a refused banner or EHLO. */
void smtp_session_refused(struct session *, enum smtp_ending);
void smtp_session_wrong_code(struct session *);
/* False if octets wait although no reply is due: then nothing may be sent any more. */
bool smtp_session_may_send(struct session *);
static inline unsigned smtp_first_digit(const struct session *s)
{
	return s->reply.code / 100;
}
/* At rest: the next job, or IDLE, or QUIT. */
void smtp_session_next(struct session *);
void smtp_session_quit(struct session *);
void smtp_session_stop(struct session *);
/* Hands all jobs back and ends the session. */
void smtp_session_fail(struct session *, const struct outcome *why, enum smtp_cause, enum smtp_ending);
void smtp_session_protocol_error(struct session *, const char *what);

/* --- smtp_egress.c: the proxy between us and the peer ------------------------------------------------------ */
void smtp_egress_connected(struct session *);                            /* with the proxy */
size_t smtp_egress_input(struct session *, const char *raw, size_t len); /* in PROXY; the bytes taken */
/* The proxy went away, or was silent, before it had connected. */
void smtp_egress_lost(struct session *, int error /* ETIMEDOUT; 0 = closed */);
/* For what is said of a banner that does not come: with PROXY v2 that may as well be the proxy's doing. */
const char *smtp_egress_via(const struct session *);

/* --- smtp_tls.c: STARTTLS ------------------------------------------------------------------------------ */
enum smtp_tls_choice { SMTP_TLS_CLEAR, SMTP_TLS_START, SMTP_TLS_MISSING };
const char *smtp_tls_proof(unsigned i); /* "dane-ee" ... "no" */
/* After the reply to EHLO: what the profile, the peer's offer and what is remembered of it come to. */
enum smtp_tls_choice smtp_tls_choose(struct session *);
enum smtp_tls_failure { SMTP_TLS_FOR_NOW, SMTP_TLS_UNFIT };
/* Required, and not to be had; or refused: 451 4.7.5 or 4.7.6, next MX. How: whether a message that demands REQUIRETLS
 * can hope for another time. */
void smtp_tls_fail(struct session *, enum smtp_tls_failure, const char *enhanced, const char *what);
/* EHLO is through, TLS up if need be: false if a demanded REQUIRETLS is not offered; then the session has ended. */
bool smtp_tls_demand_met(struct session *);
/* 530 to MAIL (RFC 3207 4) although STARTTLS was given up for this host: true if the session has ended for it, and TLS
 * is tried again the next time. */
bool smtp_tls_missed(struct session *);
/* STARTTLS was refused: true if clear text will do. */
bool smtp_tls_may_do_without(struct session *);
void smtp_tls_begin(struct session *);     /* entering HANDSHAKE */
void smtp_tls_handshake(struct session *); /* the descriptor is ready */
/* The peer went away, or was silent, in the handshake. */
void smtp_tls_lost(struct session *, const char *what);
void smtp_tls_keep_ticket(struct session *);
void smtp_tls_end(struct session *); /* closed, or about to connect again */

/* --- smtp_auth.c: AUTH --------------------------------------------------------------------------------- */
/* After the reply to EHLO: true if AUTH is to be entered; false if there is nothing to do, or the session has ended. */
bool smtp_auth_wanted(struct session *);
void smtp_auth_secret(struct session *);                /* entering SECRET; ends in AUTH */
void smtp_auth_forget(struct session *);                /* the session is over */
void smtp_auth_command(struct session *, struct str *); /* entering AUTH */
/* The answer to a 334; false if none is due. */
bool smtp_auth_respond(struct session *, struct str *);
/* Takes the text out of what the other side said in AUTH if it repeats a secret. */
void smtp_auth_hide(struct session *, struct outcome *said);
/* Whether a line of the other side has the password in it, plain or encoded; there need be none. */
bool smtp_auth_repeats(const struct session *, const char *text);

/* --- smtp_xclient.c: XCLIENT --------------------------------------------------------------------------- */
enum smtp_xclient_choice {
	SMTP_XCLIENT_DONE,
	SMTP_XCLIENT_SAY,
	SMTP_XCLIENT_FAILED /* the session has ended */
};
/* After each reply to EHLO. */
enum smtp_xclient_choice smtp_xclient_choose(struct session *);
void smtp_xclient_command(struct session *, struct str *); /* entering XCLIENT */
bool smtp_xclient_may_do_without(const struct session *);  /* it was refused */

/* --- smtp_envelope.c: RFC 3461's parameters -------------------------------------------------------------- */
struct smtp_envelope_load;
bool smtp_envelope_wanted(const struct session *); /* it has to be read back before MAIL */
void smtp_envelope_load(struct session *);         /* entering ENVELOPE; ends in smtp_session_envelope() */
void smtp_envelope_drop(struct session *);
/* What to say of the job's i-th recipient; NULL = nothing. `own` is room for it. */
const struct recipient *smtp_envelope_recipient(const struct session *, uint32_t i, struct recipient *own);

/* --- smtp_mail.c: a transaction's commands and replies -------------------------------------------------- */
void smtp_mail_enter_mail(struct session *);
void smtp_mail_enter_rcpt(struct session *);
void smtp_mail_enter_data(struct session *);
void smtp_mail_enter_chunk(struct session *);
void smtp_mail_enter_drop(struct session *);
void smtp_mail_enter_rset(struct session *);
void smtp_mail_reply_mail(struct session *);
void smtp_mail_reply_rcpt(struct session *);
void smtp_mail_reply_data(struct session *);
void smtp_mail_reply_body(struct session *);
void smtp_mail_reply_dot(struct session *);
void smtp_mail_reply_drop(struct session *);
void smtp_mail_reply_rset(struct session *);

/* --- smtp_transaction.c: jobs -----------------------------------------------------------------------------
 */
void smtp_jobs_add(struct session *, struct session_job *takes);
/* Takes the next job; false if it came back at once because it cannot be sent here (size, addresses). */
bool smtp_transaction_begin(struct session *);
/* The commands of a transaction: all with PIPELINING, else MAIL. */
void smtp_transaction_commands(struct session *, struct str *);
void smtp_transaction_rcpt(struct session *, uint32_t i, struct str *);
/* The next recipient to be named or answered, from `from` on; n_recipients if there is none. */
uint32_t smtp_transaction_recipient(const struct session_job *, uint32_t from);
/* What was said counts for every recipient without an outcome; the job goes back. Nothing if it is back
 * already. */
void smtp_transaction_answer(struct session *, const struct outcome *);
/* Every recipient has its outcome: the job goes back. */
void smtp_transaction_done(struct session *);
/* The session ended under it. */
void smtp_transaction_lost(struct session *, const struct outcome *why, enum smtp_cause);
/* The jobs not begun go back; why: the session came to nothing, NULL = it costs them nothing. */
void smtp_jobs_return(struct session *, const struct outcome *why);
/* A recipient was accepted: the body will be needed. */
void smtp_transaction_start_body(struct session *);
/* Bytes of the message may go out now. */
bool smtp_transaction_sends(const struct session *);
/* The end of data is out. */
bool smtp_transaction_ended(const struct session *);
/* What was said counts for every recipient, and the job stays. */
void smtp_transaction_note(struct session *, const struct outcome *said);
/* To this host DATA is used for a day. */
void smtp_transaction_forget_bdat(struct session *);
/* End of data is about to be sent. */
void smtp_transaction_want(struct session *);

#endif
