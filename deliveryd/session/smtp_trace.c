#include "session/smtp_trace.h"

#include <string.h>

#include "base/mem.h"
#include "base/names.h"
#include "queue/profile.h"
#include "report/trace.h"
#include "session/smtp_session.h"

#define LINE_MAX_SHOWN 1000 /* bytes; of a longer line the rest is counted */

struct smtp_trace {
	uint64_t number;
	char domain[DOMAIN_MAX + 64]; /* of the recipients at hand, or those before */
	struct str line;              /* of a reply, as far as it has come */
	size_t cut;                   /* bytes of it that are not kept */
};

void smtp_trace_free(struct smtp_trace **p)
{
	if (!*p)
		return;
	str_free(&(*p)->line);
	mem_free(p);
}

static bool looked_at(struct session *s)
{
	struct smtp_trace *t;

	if (!trace_on(s->net->trace))
		return false;
	if (s->trace)
		return true;
	t = s->trace = mem_zalloc(sizeof(*t));
	t->number = trace_number(s->net->trace);
	str_init(&t->line);
	return true;
}

static const struct session_job *job_at_hand(const struct session *s)
{
	return s->t.job ? s->t.job : s->jobs ? container_of(s->jobs, struct session_job, mail) : NULL;
}

static void find_domain(struct session *s)
{
	const struct session_job *job = job_at_hand(s);
	char domain[DOMAIN_MAX + 64];
	struct mailaddr split;

	if (job && mailaddr_split(job->recipients[0], strlen(job->recipients[0]), &split) &&
	        domain_normalize(split.domain, split.domain_len, domain, NULL))
		memcpy(s->trace->domain, domain, sizeof(domain));
}

static void post(struct session *s, char direction, const char *text, size_t len)
{
	struct trace_line line = {
	        .session = s->trace->number,
	        .since_us = loop_now_us(s->net->loop) - s->opened_us,
	        .binding = s->binding,
	        .next_hop = s->next_hop,
	        .domain = s->trace->domain,
	        .mx = s->mx,
	        .peer = s->where.peer,
	        .source = s->facts.source.family != AF_UNSPEC ? s->facts.source : s->where.source,
	        .direction = direction,
	        .text = text,
	        .len = len,
	};

	find_domain(s);
	trace_post(s->net->trace, &line);
}

static void happens(struct session *s, const struct str *text)
{
	post(s, '*', text->data, text->len);
}

/* --- what we say -------------------------------------------------------------------------------------------------- */

static bool starts(const char *p, size_t len, const char *word)
{
	size_t n = strlen(word);

	return len >= n && ascii_ieq_mem(p, n, word, n);
}

/* "AUTH PLAIN AGpvZQBzZWNyZXQ=" and what answers a 334 */
static void post_auth(struct session *s, const char *p, size_t len)
{
	struct str text;
	size_t shown = 0;

	if (starts(p, len, "AUTH ")) {
		const char *end = memchr(p + 5, ' ', len - 5);

		shown = end ? (size_t)(end - p) : len;
	}
	str_init(&text);
	str_add_mem(&text, p, shown);
	if (shown < len)
		str_add(&text, shown ? " (hidden)" : "(hidden)");
	post(s, '>', text.data, text.len);
	str_free(&text);
}

/* A secret may still be on its way out when an early reply has ended AUTH: it is no command. */
static bool is_command(const char *p, size_t len)
{
	static const char *const verbs[] = {"EHLO", "HELO", "LHLO", "STARTTLS", "MAIL", "RCPT", "DATA",
	        "BDAT", ".", "RSET", "NOOP", "QUIT", "XCLIENT"};

	for (size_t i = 0; i < array_len(verbs); i++) {
		size_t n = strlen(verbs[i]);

		if (starts(p, len, verbs[i]) && (len == n || p[n] == ' '))
			return true;
	}
	return false;
}

static void post_command(struct session *s, const char *p, size_t len)
{
	if (s->state == SMTP_AUTH || !is_command(p, len))
		post_auth(s, p, len);
	else
		post(s, '>', p, len < LINE_MAX_SHOWN ? len : LINE_MAX_SHOWN);
}

void smtp_trace_commands(struct session *s)
{
	const char *p = s->out.data, *end = p + s->out.len;

	if (s->state <= SMTP_BANNER || !looked_at(s)) /* it was for the egress proxy, and may be a password */
		return;
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p)), *next = lf ? lf + 1 : end;
		size_t len = (size_t)((lf ? lf : end) - p);

		post_command(s, p, len && p[len - 1] == '\r' ? len - 1 : len);
		p = next;
	}
}

void smtp_trace_body(struct session *s)
{
	struct str text;

	if (!looked_at(s))
		return;
	str_init(&text);
	str_printf(&text, "(message of %llu bytes)", (unsigned long long)s->t.job->body_size);
	post(s, '>', text.data, text.len);
	str_free(&text);
}

/* --- what the other side says -------------------------------------------------------------------------------------- */

static void post_reply(struct session *s)
{
	struct smtp_trace *t = s->trace;
	size_t len = t->line.len;

	if (len && t->line.data[len - 1] == '\r')
		len--;
	if (smtp_auth_repeats(s, t->line.data)) {
		str_clear(&t->line);
		str_add(&t->line, "(hidden: it repeats the password)");
		len = t->line.len;
	} else if (t->cut) {
		str_printf(&t->line, "... (%zu more bytes)", t->cut);
		len = t->line.len;
	}
	post(s, '<', t->line.data, len);
	str_clear(&t->line);
	t->cut = 0;
}

void smtp_trace_input(struct session *s, const char *raw, size_t len)
{
	struct smtp_trace *t;

	if (!looked_at(s))
		return;
	t = s->trace;
	while (len > 0) {
		const char *lf = memchr(raw, '\n', len);
		size_t n = lf ? (size_t)(lf - raw) : len;
		size_t kept = t->line.len + n > LINE_MAX_SHOWN ? LINE_MAX_SHOWN - t->line.len : n;

		for (size_t i = 0; i < kept; i++) /* so that a secret behind a NUL is found */
			str_add_char(&t->line, raw[i] ? raw[i] : '?');
		t->cut += n - kept;
		if (lf)
			post_reply(s);
		n += lf != NULL;
		raw += n;
		len -= n;
	}
}

/* --- what happens ---------------------------------------------------------------------------------------------------- */

static void say_connecting(const struct session *s, struct str *text)
{
	char peer[ADDR_TEXT_SIZE], source[ADDR_TEXT_SIZE];

	str_printf(text, "connecting to %s", s->mx);
	if (s->where.peer.family != AF_UNSPEC)
		str_printf(text, " [%s]", addr_print_port(&s->where.peer, peer));
	else if (s->unix_path)
		str_printf(text, " %s", s->unix_path);
	if (s->where.source.family != AF_UNSPEC)
		str_printf(text, " from %s", addr_print(&s->where.source, source));
	if (s->where.proxy)
		str_printf(text, " through the egress proxy %s", addr_print_port(&s->proxy.addr, peer));
}

static void say_closed(const struct session *s, struct str *text)
{
	str_add(text, "closed");
	if (s->why.class != OUTCOME_OK)
		str_printf(text, ": %u %s %s", s->why.code, s->why.enhanced, s->why.reply);
}

void smtp_trace_state(struct session *s)
{
	struct str text;

	if (!looked_at(s))
		return;
	str_init(&text);
	switch (s->state) {
	case SMTP_CONNECT:
		say_connecting(s, &text);
		break;
	case SMTP_BANNER:
		str_add(&text, "connected");
		break;
	case SMTP_FALLBACK:
		str_add(&text, "TLS failed; again in clear text, on a new connection");
		break;
	case SMTP_CLOSED:
		say_closed(s, &text);
		break;
	default:
		break;
	}
	if (text.len)
		happens(s, &text);
	str_free(&text);
}

void smtp_trace_tls(struct session *s)
{
	struct str text;

	if (!looked_at(s))
		return;
	str_init(&text);
	str_printf(&text, "%s, %s%s%s%s", s->facts.tls_version, s->facts.tls_cipher,
	        s->facts.tls_verified ? ", " : "", s->facts.tls_verified ? s->facts.tls_verified : "",
	        s->facts.tls_resumed ? ", resumed" : "");
	happens(s, &text);
	str_free(&text);
}
