/*
 * handoff_session - one connection of the MTA in front (internal to the handoff)
 *
 * Purpose    The state machine of handoff_state.def. handoff_io.c moves bytes, handoff_commands.c answers commands,
 *            handoff_data.c takes the message to the spool; only handoff_session_enter() writes the state.
 * Ownership  A session belongs to its handoff and frees itself, always from handoff_session_settle(), never within a
 *            command. What the spool has of it is a `struct store`, which outlives it.
 * Threads    Its handoff's loop.
 */
#ifndef HANDOFF_HANDOFF_SESSION_H
#define HANDOFF_HANDOFF_SESSION_H

#include <sys/queue.h>
#include "handoff/stamp_alarm.h"
#include "handoff/transaction.h"

#define READ_MAX (64 * 1024)
/* What may stay unread by us: one read, begun while a part of a command line was left */
#define LEFT_MAX (READ_MAX + LMTP_LINE_MAX)
#define OUT_MAX (64 * 1024)       /* replies the client does not take: no more commands until it does */
#define BACKLOG_MAX (1024 * 1024) /* of one body, on its way to its file */
#define PROGRESS_MIN 4096         /* bytes of data that start the clock anew */
#define TRANSACTION_MAX_US (3600 * SECOND_US)

enum handoff_state {
#define STATE(name, input, seconds, on_timeout, words) HANDOFF_##name,
#include "handoff/handoff_state.def"
#undef STATE
	HANDOFF_N_STATES
};
enum handoff_input { INPUT_COMMANDS, INPUT_DATA, INPUT_HOLD, INPUT_SINK };

/* What the client said last of LHLO, EHLO, HELO: that is how it counts replies. */
enum handoff_protocol { PROTOCOL_NONE, PROTOCOL_LMTP, PROTOCOL_ESMTP, PROTOCOL_SMTP };

struct handoff_session {
	uint32_t magic;
	struct handoff *handoff;                /* borrows */
	int fd;                                 /* owns */
	struct event *read_event, *write_event; /* owns */
	struct addr peer;                       /* AF_UNSPEC = Unix socket */
	struct addr self;                       /* our end of it */

	enum handoff_state state;
	enum handoff_protocol protocol;
	struct timer timer;
	uint64_t deadline_us; /* when on_timeout is due; the timer may be armed for earlier */
	uint64_t transaction_deadline_us;
	uint64_t since_us; /* in CONNECTED and READY: idle since */
	uint32_t progress; /* bytes of data since the clock was last started */
	bool counted;      /* among shared->sessions */
	bool is_closing;   /* among shared->closing */
	bool over_mark;    /* came when there were too many */
	bool consuming;    /* commands are being taken from the buffer right now */
	bool overlong;     /* inside a command line that is too long */
	bool quit;         /* the client has said that it goes */
	bool broken;       /* the connection is no more: nothing can be read or written */
	bool half_closed;  /* our last reply has been sent and the writing end closed */

	char *left; /* owns; bytes read that wait for their turn */
	size_t left_len;
	struct str out; /* replies; the first out_sent bytes are sent */
	size_t out_sent;

	char helo[XFORWARD_VALUE_MAX + 1];
	struct transaction t;
	struct store *store; /* what the spool has under way; it knows us until we go */
	TAILQ_ENTRY(handoff_session) all_link, idle_link, paused_link;
	bool is_idle, is_paused; /* in the list */
};
TAILQ_HEAD(session_list, handoff_session);

/*
 * A message with the spool. First member, because whoever takes the last of the two mails frees the struct by it.
 * Session and handoff are NULL when they have gone; only the handoff's loop looks at them.
 */
struct store {
	struct spool_add add;
	uint64_t id;
	struct message *message; /* shares: what it counts goes back if it is not stored; NULL = nothing counted */
	struct handoff_session *session;
	struct handoff *handoff;
	struct handoff_shared *shared;
	TAILQ_ENTRY(store) link;
};
TAILQ_HEAD(store_list, store);

struct handoff {
	struct handoff_shared *shared;
	struct loop *loop;
	struct session_list all, idle, paused; /* idle: longest first */
	struct store_list stores;
	struct timer paused_timer;
	struct handoff *next;                   /* of shared->handoffs */
	_Atomic uint64_t longest_idle_since_us; /* of `idle`; UINT64_MAX = none. Read by all loops */
	struct mail evict_mail;
	atomic_bool evict_asked; /* evict_mail is on its way */
	bool stopping;
	uint64_t stop_deadline_us;
	struct timer stopped_timer;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
	struct stamp_alarm stamp_alarm;
	char *buffer; /* owns; what is being consumed: no session keeps one for itself */
	struct {
		metric *sessions, *connections, *messages, *bytes, *overload, *evicted, *pauses, *discarded;
		metric *quota[N_QUOTA_VERDICTS]; /* by option; some are NULL */
		metric *unstamped, *bad_stamp[STAMP_N_REASONS], *replies[6]; /* after data, by first digit */
	} metrics;
};

/* handoff_session.c */
void handoff_session_new(struct handoff *, int fd, const struct sockaddr *peer);
void handoff_session_enter(struct handoff_session *, enum handoff_state);
enum handoff_input handoff_session_input(const struct handoff_session *);
bool handoff_session_in_transaction(const struct handoff_session *);
void handoff_session_restart_clock(struct handoff_session *); /* a command, or enough data, has come */
/* Says it and ends the session. */
void handoff_session_end(struct handoff_session *, enum reply);
/* Stopping: what the state calls for */
void handoff_session_stop(struct handoff_session *);
/* Last call of each entry from the loop: sends replies, wants what is to be read, frees the session when it is over. */
void handoff_session_settle(struct handoff_session *);
void handoff_session_free(struct handoff_session *);
const char *handoff_state_words(enum handoff_state);

/* handoff_io.c */
void handoff_io_open(struct handoff_session *);
void handoff_io_close(struct handoff_session *);
void handoff_io_send(struct handoff_session *); /* as much as goes */
bool handoff_io_sent(const struct handoff_session *);
void handoff_io_want(struct handoff_session *); /* reading and writing as the state has it */
/* Takes what was left, after HOLD; settles. */
void handoff_io_resume(struct handoff_session *);

/* handoff_commands.c: one line without its CRLF */
void handoff_command(struct handoff_session *, const char *line, size_t len);

/* handoff_data.c */
void handoff_data_start(struct handoff_session *);
size_t handoff_data_feed(struct handoff_session *, const char *, size_t);
void handoff_data_give_up(struct handoff_session *);      /* PAUSED for too long */
void handoff_data_check_paused(struct handoff_session *); /* goes on if it may */
void handoff_data_forget(struct handoff_session *); /* the session goes: the spool's answer finds nobody */

/* handoff.c */
uint64_t handoff_session_mark(const struct handoff *);
bool handoff_under_pressure(const struct handoff *);
void handoff_idle(struct handoff_session *, bool is);
void handoff_paused(struct handoff_session *, bool is);
void handoff_count(struct handoff_session *, bool is);
void handoff_count_closing(struct handoff_session *, bool is);
/* Too many sessions, but for those that have been told to go? Then one more is told. */
void handoff_make_room(struct handoff *);
/* A session or store has gone */
void handoff_gone(struct handoff *);

#endif
