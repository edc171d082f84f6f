#include "t/lib/scripted_mx.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <event2/event_struct.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"

#define COMMAND_MAX 4096
#define RECIPIENTS_MAX 1024
#define TRICKLE_GAP_US (10 * SECOND_US)

struct rule {
	char *point, *text, *actions; /* text NULL = any */
	unsigned nth;                 /* 0 = every time */
};

struct count {
	char *point;
	unsigned n;
};

struct conn;
struct scripted_mx {
	struct loop *loop;
	struct addr addr;
	int fd;
	struct event accepts;
	struct rule *rules;
	size_t n_rules;
	struct count *counts;
	size_t n_counts;
	struct conn *conns;
	unsigned connections, open, most;
	struct scripted_mail *mails;
	unsigned n_mails;
	struct str log, offence;
	gnutls_certificate_credentials_t tls_certificates; /* NULL = knows no TLS */
	gnutls_datum_t tls_ticket_key;
	bool tls_asks; /* for the client's certificate */
};

/* Where the dialogue is; the peer's bytes are read on in any. */
enum phase { COMMANDS, BODY, CHUNK, HANDSHAKE, DEAF };

struct conn {
	struct conn *next, *prev;
	struct scripted_mx *mx;
	int fd;
	unsigned number;
	struct event readable, writable;
	struct timer timer;
	struct str in, out, said; /* said: the reply line begun */
	size_t out_sent;
	bool close_after;

	enum phase phase;
	/* the command being answered */
	char *point, *text;
	char *actions, *action; /* NULL = none under way; the one that comes next */
	bool waits;
	char *trickle, *endless; /* what is left; what is repeated */
	size_t trickle_len, endless_len;
	unsigned code; /* of the last reply line */

	bool lmtp, pipelining, body_point_done;
	gnutls_session_t tls; /* NULL = clear */
	char *tls_priority;   /* of the handshake that begins when all is sent; NULL = none */
	bool kept;            /* this message counts: it was said to be taken */
	char *source, *hello, *sender, *params;
	char *accepted[RECIPIENTS_MAX];
	unsigned n_accepted, n_dots;
	struct str body;
	size_t chunk_left; /* of a BDAT */
	bool no_bdat;      /* it takes a chunk for commands */
};

static void conn_work(struct conn *);
static void tls_begin(struct conn *);
static void mail_keep(struct conn *);

static void offend(struct scripted_mx *mx, const char *what, const char *line)
{
	if (mx->offence.len == 0)
		str_printf(&mx->offence, "%s: %s", what, line);
}

static void log_line(struct scripted_mx *mx, const char *line)
{
	if (mx->log.len > 0)
		str_add_char(&mx->log, '|');
	str_add(&mx->log, line);
}

/* --- connections ------------------------------------------------------------------------------------- */

static void transaction_clear(struct conn *c)
{
	unsigned i;

	for (i = 0; i < c->n_accepted; i++)
		mem_free(&c->accepted[i]);
	c->n_accepted = 0;
	c->n_dots = 0;
	c->kept = false;
	mem_free(&c->sender);
	mem_free(&c->params);
	str_clear(&c->body);
}

static void conn_free(struct conn *c, bool reset)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	struct scripted_mx *mx = c->mx;

	if (c->tls) {
		if (!reset && c->phase != HANDSHAKE)
			gnutls_bye(c->tls, GNUTLS_SHUT_WR);
		gnutls_deinit(c->tls);
	}
	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	event_del(&c->readable);
	event_del(&c->writable);
	timer_cancel(mx->loop, &c->timer);
	close(c->fd);
	if (c->prev)
		c->prev->next = c->next;
	else
		mx->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	mx->open--;
	transaction_clear(c);
	str_free(&c->in);
	str_free(&c->out);
	str_free(&c->said);
	str_free(&c->body);
	mem_free(&c->point);
	mem_free(&c->text);
	mem_free(&c->actions);
	mem_free(&c->trickle);
	mem_free(&c->endless);
	mem_free(&c->tls_priority);
	mem_free(&c->source);
	mem_free(&c->hello);
	mem_free(&c);
}

static ssize_t tls_result(ssize_t n)
{
	if (n >= 0)
		return n;
	errno = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? EAGAIN : ECONNRESET;
	return n == GNUTLS_E_PREMATURE_TERMINATION ? 0 : -1;
}

static ssize_t conn_send(struct conn *c, const void *bytes, size_t len)
{
	if (c->tls)
		return tls_result(gnutls_record_send(c->tls, bytes, len));
	return send(c->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t conn_recv(struct conn *c, void *buf, size_t size)
{
	if (c->tls)
		return tls_result(gnutls_record_recv(c->tls, buf, size));
	return recv(c->fd, buf, size, MSG_DONTWAIT);
}

/* False when the connection is gone. */
static bool conn_flush(struct conn *c)
{
	ssize_t n;

	for (;;) {
		if (c->out_sent == c->out.len) {
			str_clear(&c->out);
			c->out_sent = 0;
			if (c->close_after) {
				conn_free(c, false);
				return false;
			}
			if (c->tls_priority)
				tls_begin(c);
			if (!c->endless)
				return true;
			while (c->out.len < 16384)
				str_add_mem(&c->out, c->endless, c->endless_len);
		}
		n = conn_send(c, c->out.data + c->out_sent, c->out.len - c->out_sent);
		if (n < 0 && errno == EAGAIN) {
			event_add(&c->writable, NULL);
			return true;
		}
		if (n < 0) { /* the client is gone: reading will tell */
			mem_free(&c->endless);
			str_clear(&c->out);
			c->out_sent = 0;
			return true;
		}
		c->out_sent += (size_t)n;
	}
}

/* Asks for a new handshake, of TLS 1.2, and does not wait for it. */
static void conn_renegotiate(struct conn *c, unsigned times)
{
	while (c->tls && times-- > 0)
		(void)gnutls_rehandshake(c->tls);
}

/* --- the script --------------------------------------------------------------------------------------- */

static unsigned count_up(struct scripted_mx *mx, const char *point)
{
	size_t i;

	for (i = 0; i < mx->n_counts; i++) {
		if (strcmp(mx->counts[i].point, point) == 0)
			return ++mx->counts[i].n;
	}
	mx->counts = mem_array(mx->counts, mx->n_counts + 1, sizeof(*mx->counts));
	mx->counts[mx->n_counts++] = (struct count){.point = mem_strdup(point), .n = 1};
	return 1;
}

static const char *default_actions(const struct conn *c, const char *point)
{
	static const char *const table[][2] = {
	        {"CONNECT", "220 mx.test ESMTP"},
	        {"EHLO", "250-mx.test\\n250-PIPELINING\\n250-8BITMIME\\n250 SIZE 104857600"},
	        {"LHLO", "250-mx.test\\n250-PIPELINING\\n250 8BITMIME"},
	        {"HELO", "250 mx.test"},
	        {"MAIL", "250 2.1.0 sender ok"},
	        {"RCPT", "250 2.1.5 recipient ok"},
	        {"DATA", "354 go ahead"},
	        {"DOT", "250 2.0.0 taken"},
	        {"RSET", "250 2.0.0 reset"},
	        {"QUIT", "221 2.0.0 bye; close"},
	        {"BODY", ""},
	        {"BDAT", ""},
	        {"IDLE", ""},
	};
	size_t i;

	if (c->mx->tls_certificates && !c->tls && strcmp(point, "EHLO") == 0)
		return "250-mx.test\\n250-PIPELINING\\n250-8BITMIME\\n250-STARTTLS\\n250 SIZE 104857600";
	if (c->mx->tls_certificates && !c->tls && strcmp(point, "STARTTLS") == 0)
		return "220 go ahead; tls";
	if (strcmp(point, "DATA") == 0 && c->n_accepted == 0)
		return c->sender ? "554 5.5.1 no valid recipients" : "503 5.5.1 no transaction";
	if (strcmp(point, "DOT") == 0 && c->n_accepted == 0)
		return "503 5.5.1 no valid recipients"; /* only after BDAT */
	if (strcmp(point, "RCPT") == 0 && !c->sender)
		return "503 5.5.1 no transaction";
	for (i = 0; i < array_len(table); i++) {
		if (strcmp(table[i][0], point) == 0)
			return table[i][1];
	}
	return "502 5.5.1 not known";
}

static const char *find_actions(struct conn *c, const char *point, const char *text)
{
	struct scripted_mx *mx = c->mx;
	unsigned nth = count_up(mx, point);
	size_t i;

	for (i = mx->n_rules; i-- > 0;) {
		const struct rule *r = &mx->rules[i];

		if (strcmp(r->point, point) == 0 && (r->nth == 0 || r->nth == nth) &&
		        (!r->text || strstr(text, r->text)))
			return *r->actions ? r->actions : default_actions(c, point);
	}
	return default_actions(c, point);
}

/* Escapes as in C. */
static char *unescape(const char *text, size_t *len)
{
	char *out = mem_alloc(strlen(text) + 1);
	size_t n = 0;

	for (; *text; text++) {
		if (*text != '\\' || text[1] == '\0') {
			out[n++] = *text;
			continue;
		}
		switch (*++text) {
		case 'r':
			out[n++] = '\r';
			break;
		case 'n':
			out[n++] = '\n';
			break;
		case 't':
			out[n++] = '\t';
			break;
		case '0':
			out[n++] = '\0';
			break;
		case 'x': {
			char hex[3] = {text[1], text[1] ? text[2] : '\0', '\0'};

			out[n++] = (char)strtoul(hex, NULL, 16);
			text += strlen(hex);
			break;
		}
		default:
			out[n++] = *text;
		}
	}
	out[n] = '\0';
	*len = n;
	return out;
}

static void point_begin(struct conn *c, const char *point, const char *text)
{
	mem_free(&c->point);
	mem_free(&c->text);
	mem_free(&c->actions);
	c->point = mem_strdup(point);
	c->text = mem_strdup(text);
	c->actions = mem_strdup(find_actions(c, point, text));
	c->action = c->actions;
	c->code = 0;
	str_clear(&c->said);
}

/* What the client will make of the bytes: the code of each reply line that is complete, and what follows from it. */
static void say(struct conn *c, const char *bytes, size_t len)
{
	size_t i;

	str_add_mem(&c->out, bytes, len);
	for (i = 0; i < len; i++) {
		str_add_char(&c->said, bytes[i]);
		if (bytes[i] != '\n')
			continue;
		c->code = (unsigned)atoi(c->said.data);
		if (c->said.len < 4 || c->said.data[3] != '-')
			mail_keep(c);
		str_clear(&c->said);
	}
}

static void reply(struct conn *c, const char *text)
{
	size_t len, i;
	char *raw = unescape(text, &len);

	for (i = 0; i < len; i++) {
		if (raw[i] == '\n')
			say(c, "\r", 1);
		say(c, raw + i, 1);
	}
	say(c, "\r\n", 2);
	mem_free(&raw);
}

static const char *word_after(const char *action, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(action, word, len) != 0 || (action[len] != ' ' && action[len] != '\0'))
		return NULL;
	return action[len] == ' ' ? action + len + 1 : action + len;
}

/* False when the connection is gone. */
static bool action_run(struct conn *c, const char *action)
{
	const char *text;
	char *raw;
	size_t len;

	if (isdigit((unsigned char)*action)) {
		reply(c, action);
	} else if ((text = word_after(action, "send"))) {
		raw = unescape(text, &len);
		say(c, raw, len);
		mem_free(&raw);
	} else if ((text = word_after(action, "trickle"))) {
		c->trickle = unescape(text, &c->trickle_len);
		c->waits = true;
		timer_arm_in(c->mx->loop, &c->timer, TRICKLE_GAP_US);
	} else if ((text = word_after(action, "endless"))) {
		c->endless = unescape(text, &c->endless_len);
		c->phase = DEAF;
	} else if ((text = word_after(action, "wait"))) {
		c->waits = true;
		timer_arm_in(c->mx->loop, &c->timer, (uint64_t)atoi(text) * SECOND_US);
	} else if ((text = word_after(action, "tls"))) {
		c->tls_priority = mem_strdup(*text ? text : "NORMAL");
	} else if ((text = word_after(action, "renegotiate"))) {
		conn_renegotiate(c, (unsigned)atoi(text));
	} else if (strcmp(action, "silent") == 0) {
		c->phase = DEAF;
	} else if (strcmp(action, "stall") == 0) {
		event_del(&c->readable);
		c->phase = DEAF;
	} else if (strcmp(action, "close") == 0) {
		c->close_after = true;
	} else if (strcmp(action, "reset") == 0) {
		if (conn_flush(c))
			conn_free(c, true);
		return false;
	} else {
		offend(c->mx, "unknown action in the script", action);
	}
	return true;
}

/* Runs what is to be done at this point as far as it goes. False when the connection is gone. */
static bool actions_run(struct conn *c)
{
	char *action, *end;

	while (c->action && !c->waits && !c->close_after && c->phase != DEAF) {
		action = c->action + strspn(c->action, " ");
		end = strchr(action, ';');
		c->action = end ? end + 1 : NULL;
		if (end)
			*end = '\0';
		if (*action != '\0' && !action_run(c, action))
			return false;
	}
	return conn_flush(c);
}

static void on_timer(void *ctx)
{
	struct conn *c = ctx;

	if (c->trickle && c->trickle_len > 0) {
		say(c, c->trickle, 1);
		memmove(c->trickle, c->trickle + 1, --c->trickle_len);
		if (!conn_flush(c))
			return;
		if (c->trickle_len > 0) {
			timer_arm_in(c->mx->loop, &c->timer, TRICKLE_GAP_US);
			return;
		}
	}
	mem_free(&c->trickle);
	c->waits = false;
	conn_work(c);
}

/* --- the dialogue -------------------------------------------------------------------------------------- */

static char *between(const char *line, const char **behind)
{
	const char *open = strchr(line, '<');
	const char *close = open ? strrchr(open, '>') : NULL;

	if (!close) {
		*behind = "";
		return mem_strdup("");
	}
	*behind = close[1] == ' ' ? close + 2 : close + 1;
	return mem_strndup(open + 1, (size_t)(close - open - 1));
}

/* A message is kept once it was said to be taken, whatever becomes of the connection. */
static void mail_keep(struct conn *c)
{
	struct scripted_mx *mx = c->mx;
	struct scripted_mail *m;
	struct str list;
	unsigned i;

	if (c->kept || c->n_accepted == 0 || c->code / 100 != 2 || strcmp(c->point, "DOT") != 0)
		return;
	c->kept = true;
	mx->mails = mem_array(mx->mails, mx->n_mails + 1, sizeof(*mx->mails));
	m = &mx->mails[mx->n_mails++];
	str_init(&list);
	for (i = 0; i < c->n_accepted; i++) {
		if (i > 0)
			str_add_char(&list, ' ');
		str_add(&list, c->accepted[i]);
	}
	m->connection = c->number;
	m->source = mem_strdup(c->source);
	m->hello = mem_strdup(c->hello ? c->hello : "");
	m->sender = mem_strdup(c->sender ? c->sender : "");
	m->params = mem_strdup(c->params ? c->params : "");
	m->recipients = str_steal(&list);
	m->body = mem_alloc(c->body.len + 1);
	memcpy(m->body, c->body.data, c->body.len);
	m->body[c->body.len] = '\0';
	m->body_len = c->body.len;
}

static void dot_done(struct conn *c)
{
	if (c->lmtp && ++c->n_dots < c->n_accepted) {
		point_begin(c, "DOT", c->accepted[c->n_dots]);
		return;
	}
	transaction_clear(c);
	point_begin(c, "IDLE", "");
}

/* The replies to a command are out: what it means for the transaction. */
static void point_done(struct conn *c)
{
	bool ok = c->code / 100 == 2;
	const char *behind;
	char *point = c->point, *text = c->text;

	c->point = NULL;
	c->text = NULL;
	if (strcmp(point, "EHLO") == 0 || strcmp(point, "LHLO") == 0 || strcmp(point, "HELO") == 0) {
		mem_free(&c->hello);
		c->hello = mem_strdup(text + (strlen(text) > 5 ? 5 : 4));
		c->lmtp = *point == 'L';
	} else if (strcmp(point, "MAIL") == 0 && ok) {
		transaction_clear(c);
		c->sender = between(text, &behind);
		c->params = mem_strdup(behind);
	} else if (strcmp(point, "RCPT") == 0 && ok && c->n_accepted < RECIPIENTS_MAX) {
		c->accepted[c->n_accepted++] = between(text, &behind);
	} else if (strcmp(point, "DATA") == 0 && c->code == 354) {
		c->phase = BODY;
		c->body_point_done = false;
	} else if (strcmp(point, "BDAT") == 0 && c->code != 0) {
		c->no_bdat = true;
	} else if (strcmp(point, "BDAT") == 0) {
		c->phase = CHUNK;
		c->chunk_left = (size_t)strtoull(text + strlen("BDAT "), NULL, 10);
		if (!strstr(text, " LAST"))
			offend(c->mx, "BDAT without LAST", text);
	} else if (strcmp(point, "DOT") == 0) {
		dot_done(c);
	} else if (strcmp(point, "RSET") == 0) {
		transaction_clear(c);
	}
	mem_free(&point);
	mem_free(&text);
}

/* May bytes follow this command before its reply? RFC 2920 3.1. */
static void check_ahead(struct conn *c, const char *line, bool more)
{
	if (!more)
		return;
	if (!c->pipelining)
		offend(c->mx, "sent ahead without PIPELINING", line);
	else if (strncmp(line, "MAIL", 4) != 0 && strncmp(line, "RCPT", 4) != 0 &&
	         strncmp(line, "RSET", 4) != 0)
		offend(c->mx, "sent ahead of a reply", line);
}

static void take_command(struct conn *c, char *line, size_t len, bool more)
{
	char point[16];
	size_t n = 0;

	if (memchr(line, '\r', len) || memchr(line, '\n', len) || memchr(line, '\0', len))
		offend(c->mx, "bare CR, LF or NUL in a command", line);
	if (len > COMMAND_MAX && !c->no_bdat)
		offend(c->mx, "overlong command", line);
	if (strncmp(line, "BDAT", 4) != 0 && !c->no_bdat)
		check_ahead(c, line, more);
	log_line(c->mx, line);
	while (n < sizeof(point) - 1 && isalpha((unsigned char)line[n])) {
		point[n] = line[n];
		n++;
	}
	point[n] = '\0';
	point_begin(c, c->code == 334 ? "SASL" : point, line);
	if (strcmp(point, "EHLO") == 0 || strcmp(point, "LHLO") == 0)
		c->pipelining = strstr(c->actions, "PIPELINING") != NULL;
}

/* One line of the body; true at the end of data. */
static bool take_body_line(struct conn *c, char *line, size_t len)
{
	char text[64];

	if (len == 1 && *line == '.') {
		snprintf(text, sizeof(text), "(%zu bytes)", c->body.len);
		log_line(c->mx, text);
		return true;
	}
	if (memchr(line, '\r', len) || memchr(line, '\n', len))
		offend(c->mx, "bare CR or LF in a body", "");
	if (*line == '.' && len > 0) {
		line++;
		len--;
	}
	str_add_mem(&c->body, line, len);
	str_add_mem(&c->body, "\r\n", 2);
	return false;
}

/* What a BDAT announced, as it is. */
static bool take_chunk(struct conn *c)
{
	size_t len = c->in.len < c->chunk_left ? c->in.len : c->chunk_left;
	char text[64];

	str_add_mem(&c->body, c->in.data, len);
	memmove(c->in.data, c->in.data + len, c->in.len - len);
	c->in.len -= len;
	if (c->in.data)
		c->in.data[c->in.len] = '\0';
	c->chunk_left -= len;
	if (c->chunk_left > 0)
		return false;
	snprintf(text, sizeof(text), "(%zu bytes)", c->body.len);
	log_line(c->mx, text);
	c->phase = COMMANDS;
	point_begin(c, "DOT", c->lmtp && c->n_accepted > 0 ? c->accepted[0] : "");
	return true;
}

static bool take_line(struct conn *c)
{
	char *end = memmem(c->in.data, c->in.len, "\r\n", 2);
	size_t len;
	bool more, body = c->phase == BODY, done;

	if (!end)
		return false;
	len = (size_t)(end - c->in.data);
	*end = '\0';
	more = c->in.len > len + 2;
	if (body) {
		done = take_body_line(c, c->in.data, len);
		if (done) {
			check_ahead(c, ".", more);
			c->phase = COMMANDS;
			point_begin(c, "DOT", c->lmtp && c->n_accepted > 0 ? c->accepted[0] : "");
		}
	} else {
		take_command(c, c->in.data, len, more);
	}
	memmove(c->in.data, c->in.data + len + 2, c->in.len - len - 2);
	c->in.len -= len + 2;
	c->in.data[c->in.len] = '\0';
	return true;
}

static void conn_work(struct conn *c)
{
	for (;;) {
		if (c->actions) {
			if (!actions_run(c))
				return;
			if (c->waits || c->close_after || c->phase == DEAF)
				return;
			if (c->action)
				continue;
			mem_free(&c->actions);
			point_done(c);
			continue;
		}
		if (c->phase == DEAF)
			return;
		if (c->phase == BODY && !c->body_point_done && c->in.len > 0) {
			c->body_point_done = true;
			point_begin(c, "BODY", "");
			continue;
		}
		if (c->phase == CHUNK ? !take_chunk(c) : !take_line(c))
			return;
	}
}

/* --- TLS ------------------------------------------------------------------------------------------------- */

static void tls_begin(struct conn *c)
{
	struct scripted_mx *mx = c->mx;
	const char *at;

	if (!mx->tls_certificates ||
	        gnutls_init(&c->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0 ||
	        gnutls_priority_set_direct(c->tls, c->tls_priority, &at) != 0)
		abort();
	mem_free(&c->tls_priority);
	gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, mx->tls_certificates);
	gnutls_certificate_server_set_request(
	        c->tls, mx->tls_asks ? GNUTLS_CERT_REQUEST : GNUTLS_CERT_IGNORE);
	gnutls_session_ticket_enable_server(c->tls, &mx->tls_ticket_key);
	gnutls_transport_set_int(c->tls, c->fd);
	c->phase = HANDSHAKE;
	if (c->in.len > 0)
		offend(mx, "sent ahead of the TLS handshake", c->in.data);
}

static void tls_log(struct conn *c)
{
	char name[256] = "", text[600];
	size_t size = sizeof(name);
	unsigned type, n = 0;
	const gnutls_datum_t *peer = gnutls_certificate_get_peers(c->tls, &n);
	gnutls_x509_crt_t crt;

	gnutls_server_name_get(c->tls, name, &size, &type, 0);
	snprintf(text, sizeof(text), "TLS[%s]%s", name, gnutls_session_is_resumed(c->tls) ? " resumed" : "");
	if (peer && n > 0 && gnutls_x509_crt_init(&crt) == 0) {
		size = sizeof(name);
		if (gnutls_x509_crt_import(crt, peer, GNUTLS_X509_FMT_DER) == 0 &&
		        gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) ==
		                0)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), " client %s", name);
		gnutls_x509_crt_deinit(crt);
	}
	log_line(c->mx, text);
}

/* False when the connection is gone. */
static bool tls_go_on(struct conn *c)
{
	int rc;

	do
		rc = gnutls_handshake(c->tls);
	while (rc < 0 && rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED && !gnutls_error_is_fatal(rc));
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
		return true;
	if (rc < 0) {
		log_line(c->mx, "TLS failed");
		log_line(c->mx, "-");
		conn_free(c, false);
		return false;
	}
	c->phase = COMMANDS;
	c->pipelining = false;
	tls_log(c);
	return true;
}

void scripted_mx_tls(struct scripted_mx *mx, const char *certificate, const char *key, const char *client_ca)
{
	gnutls_datum_t cert = {(unsigned char *)certificate, (unsigned)strlen(certificate)};
	gnutls_datum_t priv = {(unsigned char *)key, (unsigned)strlen(key)};
	gnutls_datum_t ca = {(unsigned char *)client_ca, client_ca ? (unsigned)strlen(client_ca) : 0};

	if (mx->tls_certificates)
		gnutls_certificate_free_credentials(mx->tls_certificates);
	gnutls_free(mx->tls_ticket_key.data); /* tickets from before resume nothing */
	if (gnutls_session_ticket_key_generate(&mx->tls_ticket_key) != 0 ||
	        gnutls_certificate_allocate_credentials(&mx->tls_certificates) != 0 ||
	        gnutls_certificate_set_x509_key_mem(mx->tls_certificates, &cert, &priv, GNUTLS_X509_FMT_PEM) <
	                0 ||
	        (client_ca && gnutls_certificate_set_x509_trust_mem(
	                              mx->tls_certificates, &ca, GNUTLS_X509_FMT_PEM) < 1))
		abort();
	mx->tls_asks = client_ca != NULL;
}

/* --- the socket ---------------------------------------------------------------------------------------- */

static void conn_gone(struct conn *c, bool reset)
{
	char text[64];

	if (c->phase == BODY || c->phase == CHUNK) {
		snprintf(text, sizeof(text), "(%zu bytes...)", c->body.len + c->in.len);
		log_line(c->mx, text);
	}
	log_line(c->mx, reset ? "!" : "-");
	conn_free(c, false);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct conn *c = ctx;
	char buf[16384];
	ssize_t n;

	(void)what;
	(void)fd;
	if (c->phase == HANDSHAKE && (!tls_go_on(c) || c->phase == HANDSHAKE))
		return;
	n = conn_recv(c, buf, sizeof(buf));
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_gone(c, n < 0);
		return;
	}
	if (c->phase == DEAF)
		return;
	str_add_mem(&c->in, buf, (size_t)n);
	if (!c->waits)
		conn_work(c);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	conn_flush(ctx);
}

static void on_accept(evutil_socket_t fd, short what, void *ctx)
{
	struct scripted_mx *mx = ctx;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr from;
	char text[ADDR_TEXT_SIZE];
	struct conn *c;
	int on = 1;
	int client = accept4(fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)what;
	if (client < 0)
		return;
	setsockopt(client, SOL_TCP, TCP_NODELAY, &on, sizeof(on)); /* no test waits for a delayed ACK */
	c = mem_zalloc(sizeof(*c));
	c->mx = mx;
	c->fd = client;
	addr_from_sockaddr((struct sockaddr *)&ss, &from);
	c->source = mem_strdup(addr_print(&from, text));
	str_init(&c->in);
	str_init(&c->out);
	str_init(&c->said);
	str_init(&c->body);
	timer_init(&c->timer, on_timer, c);
	event_assign(&c->readable, loop_base(mx->loop), client, EV_READ | EV_PERSIST, on_readable, c);
	event_assign(&c->writable, loop_base(mx->loop), client, EV_WRITE, on_writable, c);
	event_add(&c->readable, NULL);
	c->next = mx->conns;
	if (c->next)
		c->next->prev = c;
	mx->conns = c;
	c->number = ++mx->connections;
	if (++mx->open > mx->most)
		mx->most = mx->open;
	log_line(mx, "+");
	point_begin(c, "CONNECT", "");
	conn_work(c);
}

static void refuse(struct scripted_mx *mx)
{
	if (mx->fd < 0)
		return;
	event_del(&mx->accepts);
	close(mx->fd);
	mx->fd = -1;
}

/* Listens, on the same port again after refuse(). */
static void listen_again(struct scripted_mx *mx)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&mx->addr, &ss);
	int on = 1, small = 16384;

	if (mx->fd >= 0)
		return;
	mx->fd = socket(mx->addr.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(mx->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(
	        mx->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)); /* so that who stalls is felt soon */
	if (mx->fd < 0 || bind(mx->fd, (struct sockaddr *)&ss, len) != 0 || listen(mx->fd, 1024) != 0) {
		perror("scripted_mx");
		abort();
	}
	len = sizeof(ss);
	getsockname(mx->fd, (struct sockaddr *)&ss, &len);
	addr_from_sockaddr((struct sockaddr *)&ss, &mx->addr);
	event_assign(&mx->accepts, loop_base(mx->loop), mx->fd, EV_READ | EV_PERSIST, on_accept, mx);
	event_add(&mx->accepts, NULL);
}

/* --- the interface ------------------------------------------------------------------------------------- */

struct scripted_mx *scripted_mx_new(struct loop *loop, const char *address)
{
	struct scripted_mx *mx = mem_zalloc(sizeof(*mx));

	mx->loop = loop;
	mx->fd = -1;
	if (!addr_parse_port(address, 0, &mx->addr, NULL))
		abort();
	str_init(&mx->log);
	str_init(&mx->offence);
	listen_again(mx);
	return mx;
}

void scripted_mx_forget(struct scripted_mx *mx)
{
	size_t i;

	for (i = 0; i < mx->n_rules; i++) {
		mem_free(&mx->rules[i].point);
		mem_free(&mx->rules[i].text);
		mem_free(&mx->rules[i].actions);
	}
	mx->n_rules = 0;
	listen_again(mx);
}

void scripted_mx_free(struct scripted_mx **pmx)
{
	struct scripted_mx *mx = *pmx;
	struct scripted_mail *m;
	size_t i;

	if (!mx)
		return;
	while (mx->conns)
		conn_free(mx->conns, true);
	scripted_mx_forget(mx);
	refuse(mx);
	for (i = 0; i < mx->n_counts; i++)
		mem_free(&mx->counts[i].point);
	for (i = 0; i < mx->n_mails; i++) {
		m = &mx->mails[i];
		mem_free(&m->source);
		mem_free(&m->hello);
		mem_free(&m->sender);
		mem_free(&m->recipients);
		mem_free(&m->params);
		mem_free(&m->body);
	}
	if (mx->tls_certificates) {
		gnutls_certificate_free_credentials(mx->tls_certificates);
		gnutls_free(mx->tls_ticket_key.data);
	}
	mem_free(&mx->rules);
	mem_free(&mx->counts);
	mem_free(&mx->mails);
	str_free(&mx->log);
	str_free(&mx->offence);
	mem_free(pmx);
}

/* line = point ["/" nth] [" " text] ":" actions */
bool scripted_mx_line(struct scripted_mx *mx, const char *line)
{
	const char *colon = strchr(line, ':');
	size_t point = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
	const char *p = line + point;
	struct rule r = {0};

	if (!colon || point == 0)
		return false;
	if (*p == '/')
		r.nth = (unsigned)strtoul(p + 1, (char **)&p, 10);
	if (*p != ' ' && *p != ':')
		return false;
	if (*p == ' ')
		r.text = mem_strndup(p + 1, (size_t)(colon - p - 1));
	r.point = mem_strndup(line, point);
	colon++;
	r.actions = mem_strdup(colon + strspn(colon, " "));
	if (strcmp(r.point, "CONNECT") == 0 && strcmp(r.actions, "refuse") == 0)
		refuse(mx);
	else
		listen_again(mx);
	mx->rules = mem_array(mx->rules, mx->n_rules + 1, sizeof(*mx->rules));
	mx->rules[mx->n_rules++] = r;
	return true;
}

const struct addr *scripted_mx_addr(const struct scripted_mx *mx)
{
	return &mx->addr;
}

unsigned scripted_mx_connections(const struct scripted_mx *mx)
{
	return mx->connections;
}

unsigned scripted_mx_open(const struct scripted_mx *mx)
{
	return mx->open;
}

unsigned scripted_mx_most(const struct scripted_mx *mx)
{
	return mx->most;
}

unsigned scripted_mx_n_mails(const struct scripted_mx *mx)
{
	return mx->n_mails;
}

const struct scripted_mail *scripted_mx_mail(const struct scripted_mx *mx, unsigned i)
{
	assert(i < mx->n_mails);
	return &mx->mails[i];
}

const char *scripted_mx_log(const struct scripted_mx *mx)
{
	return mx->log.data;
}

void scripted_mx_log_clear(struct scripted_mx *mx)
{
	str_clear(&mx->log);
}

const char *scripted_mx_offence(const struct scripted_mx *mx)
{
	return mx->offence.len > 0 ? mx->offence.data : NULL;
}
