#include "config.h"
#include "milter/milter_callbacks.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "milter/milter_message.h"
#include "milter/milter_negotiate.h"

/* libmilter hands its callbacks no context of ours: the one global, set once before it runs. */
static struct milter *the_milter;

#define CONN_MAGIC 0x62706d63u
/* More stamps than this in one message is an attack on the MTA, which looks for each from the start of the message. */
#define STAMPS_MAX 1000

struct conn {
	unsigned magic;
	struct milter *m;
	struct negotiated negotiated;
	struct addr client; /* AF_UNSPEC = none */
	char *host, *helo;  /* owns; NULL = unknown */
	struct milter_message *msg;
};

static struct conn *conn_new(SMFICTX *ctx)
{
	struct conn *c = mem_zalloc(sizeof(*c));
	c->magic = CONN_MAGIC;
	c->m = the_milter;
	atomic_fetch_add(&c->m->counts.connections, 1);
	smfi_setpriv(ctx, c);
	return c;
}

/* A connection that libmilter keeps for another SMTP session (QUIT_NC) comes without negotiation: nothing was asked
 * for, so a policy that needs anything answers 421 and gets a fresh one. */
static struct conn *conn_of(SMFICTX *ctx)
{
	struct conn *c = smfi_getpriv(ctx);
	if (c == NULL)
		return conn_new(ctx);
	assert(c->magic == CONN_MAGIC);
	return c;
}

static void end_message(struct conn *c)
{
	if (c->msg == NULL)
		return;
	milter_message_free(&c->msg);
	if (atomic_fetch_sub(&c->m->active, 1) == 1 && atomic_load(&c->m->stopping)) {
		uint64_t one = 1;
		(void)!write(c->m->wake_fd, &one, sizeof(one));
	}
}

static void conn_free(SMFICTX *ctx, struct conn *c)
{
	end_message(c);
	atomic_fetch_sub(&c->m->counts.connections, 1);
	smfi_setpriv(ctx, NULL);
	mem_free(&c->host);
	mem_free(&c->helo);
	c->magic = 0;
	mem_free(&c);
}

static sfsistat reply(SMFICTX *ctx, const char *code, const char *enhanced, const char *text, sfsistat status)
{
	/* libmilter copies, but declares its arguments char * */
	smfi_setreply(ctx, (char *)code, (char *)enhanced, (char *)text);
	return status;
}

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2,
        unsigned long f3, unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
	(void)f2;
	(void)f3;
	struct conn *c = conn_of(ctx);
	struct snapshot *s = milter_snapshot(c->m);
	bool ok = milter_negotiate(ctx, &s->needs, f0, f1, pf0, pf1, &c->negotiated);
	snapshot_unref(&s);
	*pf2 = *pf3 = 0;
	if (ok)
		return SMFIS_CONTINUE;
	log_error("the MTA does not let milters insert and delete headers: nothing can be stamped");
	conn_free(ctx, c);
	return SMFIS_REJECT;
}

static sfsistat on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *sa)
{
	struct conn *c = conn_of(ctx);
	mem_free(&c->host);
	c->host = host != NULL ? mem_strdup(host) : NULL;
	c->client = (struct addr){.family = AF_UNSPEC};
	/* NULL or a Unix socket: submitted without the network, there is no address */
	if (sa != NULL && addr_from_sockaddr((const struct sockaddr *)sa, &c->client))
		addr_unmap(&c->client);
	return negotiated_continue(&c->negotiated, SMFIP_NR_CONN);
}

static sfsistat on_helo(SMFICTX *ctx, char *helo)
{
	struct conn *c = conn_of(ctx);
	mem_free(&c->helo);
	c->helo = helo != NULL ? mem_strdup(helo) : NULL;
	return negotiated_continue(&c->negotiated, SMFIP_NR_HELO);
}

static sfsistat on_mail(SMFICTX *ctx, char **argv)
{
	struct conn *c = conn_of(ctx);
	end_message(c); /* an MTA may begin anew without abort */
	if (atomic_load(&c->m->stopping))
		return reply(ctx, "421", "4.3.2", "bindpost-milter is shutting down", SMFIS_TEMPFAIL);
	struct snapshot *s = milter_snapshot(c->m);
	if (!negotiated_covers(&c->negotiated, &s->needs)) {
		snapshot_unref(&s);
		atomic_fetch_add(&c->m->counts.reconnect, 1);
		return reply(ctx, "421", "4.3.2", "policy has changed, please reconnect", SMFIS_TEMPFAIL);
	}
	c->msg = milter_message_new(s, argv[0] != NULL ? argv[0] : "");
	atomic_fetch_add(&c->m->active, 1);
	return SMFIS_CONTINUE;
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
	struct conn *c = conn_of(ctx);
	if (c->msg != NULL)
		milter_message_header(c->msg, c->m, name, value, c->negotiated.steps & SMFIP_HDR_LEADSPC);
	return negotiated_continue(&c->negotiated, SMFIP_NR_HDR);
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *chunk, size_t len)
{
	struct conn *c = conn_of(ctx);
	bool enough = c->msg == NULL || milter_message_body(c->msg, chunk, len);
	if (enough && (c->negotiated.steps & SMFIP_SKIP))
		return SMFIS_SKIP;
	return negotiated_continue(&c->negotiated, SMFIP_NR_BODY);
}

/* --- end of message ----------------------------------------------------------------------------------------------- */

static const char *macro(SMFICTX *ctx, const char *name)
{
	return smfi_getsymval(ctx, (char *)name);
}

/* Postfix: {daemon_addr} is the connection's. Sendmail: that is where the daemon listens, {if_addr} the connection's. */
static const char *receiving_ip(SMFICTX *ctx)
{
	static const char *const names[] = {"{if_addr}", "{daemon_addr}"};
	for (size_t i = 0; i < array_len(names); i++) {
		struct addr a;
		const char *text = macro(ctx, names[i]);
		if (text != NULL && addr_parse(text, &a, NULL) && !addr_is_any(&a))
			return text;
	}
	return NULL;
}

static int receiving_port(SMFICTX *ctx)
{
	const char *text = macro(ctx, "{daemon_port}");
	int port = 0;
	if (text == NULL || text[0] == '\0' || strlen(text) > 5)
		return -1;
	for (; *text >= '0' && *text <= '9'; text++)
		port = port * 10 + *text - '0';
	return *text == '\0' && port <= 65535 ? port : -1;
}

static void collect_facts(SMFICTX *ctx, const struct conn *c, struct facts *f)
{
	const struct policy_needs *n = &c->msg->snapshot->needs;
	*f = (struct facts){.recv_port = -1};
	milter_message_facts(c->msg, f);
	f->sender_ip = c->client.family != AF_UNSPEC ? &c->client : NULL;
	f->sender_host = c->host;
	f->helo = c->helo;
	f->auth_user = n->auth_user ? macro(ctx, "{auth_authen}") : NULL;
	f->recv_ip = n->recv_ip ? receiving_ip(ctx) : NULL;
	f->recv_port = n->recv_port ? receiving_port(ctx) : -1;
	f->daemon_name = n->daemon_name ? macro(ctx, "{daemon_name}") : NULL;
}

static const char *queue_id(SMFICTX *ctx)
{
	const char *id = macro(ctx, "i");
	return id != NULL ? id : "-";
}

/* From the highest index down, so that those still to go keep theirs. */
static bool remove_stamps(SMFICTX *ctx, const struct conn *c)
{
	for (unsigned i = c->msg->n_stamps; i > 0; i--)
		if (smfi_chgheader(ctx, (char *)c->m->header, (int)i, NULL) != MI_SUCCESS)
			return false;
	atomic_fetch_add(&c->m->counts.removed, c->msg->n_stamps);
	if (c->msg->n_stamps > 0)
		log_debug("%s: removed=%u header=%s", queue_id(ctx), c->msg->n_stamps, c->m->header);
	return true;
}

static bool insert_stamp(SMFICTX *ctx, const struct conn *c, const struct decision *d)
{
	struct str s;
	str_init(&s);
	if (c->negotiated.steps & SMFIP_HDR_LEADSPC)
		str_add_char(&s, ' ');
	stamp_print(d, c->msg->snapshot->keys, c->m->clock->wall_us(c->m->clock), c->msg->message_id, &s);
	bool ok = s.len <= STAMP_MAX_BYTES &&
	          smfi_insheader(ctx, 0, (char *)c->m->header, s.data) == MI_SUCCESS;
	if (s.len > STAMP_MAX_BYTES)
		log_error("%s: %zu rules on recipients are open for one message: the stamp would have %zu "
		          "bytes",
		        queue_id(ctx), d->n_open, s.len);
	str_free(&s);
	return ok;
}

/*
 * We could not decide. Also `accept` takes forged stamps off: deliveryd then sees mail without one (handoff.unstamped).
 * If not even that succeeds the message must not pass.
 */
static sfsistat fail(SMFICTX *ctx, struct conn *c, const char *why)
{
	enum milter_failure how = conf_process(policy_conf(c->msg->snapshot->policy))->milter_on_error;
	atomic_fetch_add(&c->m->counts.errors, 1);
	log_error("%s: not stamped: %s", queue_id(ctx), why);
	if (how == MILTER_REJECT)
		return SMFIS_REJECT;
	if (how == MILTER_ACCEPT && remove_stamps(ctx, c))
		return SMFIS_ACCEPT;
	return SMFIS_TEMPFAIL;
}

static bool is_null_sender(const char *mailfrom)
{
	return mailfrom[0] == '\0' || strcmp(mailfrom, "<>") == 0;
}

/* Nothing claims it, and nothing behind us can: deliveryd decides where a rule on recipients is still open. */
static bool must_refuse(const struct conn *c, const struct decision *d)
{
	return conf_global(policy_conf(c->msg->snapshot->policy))->default_binding == DEFAULT_BINDING_NONE &&
	       decision_is_final_unclaimed(d) && !is_null_sender(c->msg->mailfrom);
}

static sfsistat decide(SMFICTX *ctx, struct conn *c)
{
	struct facts facts;
	struct decision d;
	sfsistat status = SMFIS_ACCEPT;
	if (c->msg->overflow)
		return fail(ctx, c, "more than 4 MB of headers that rules look at");
	if (c->msg->n_stamps > STAMPS_MAX)
		return reply(ctx, "550", "5.6.0", "too many stamps of ours in one message", SMFIS_REJECT);
	collect_facts(ctx, c, &facts);
	policy_eval(c->msg->snapshot->policy, &facts, c->m->rnd, &d, NULL);
	if (must_refuse(c, &d)) {
		atomic_fetch_add(&c->m->counts.unclaimed, 1);
		status = reply(ctx, "451", "4.7.1", "no binding claims this message", SMFIS_TEMPFAIL);
	} else if (!remove_stamps(ctx, c)) {
		status = fail(ctx, c, "the MTA does not take changes of the header");
	} else if (!insert_stamp(ctx, c, &d)) {
		c->msg->n_stamps = 0; /* they are gone already */
		status = fail(ctx, c, "the stamp could not be inserted");
	} else {
		atomic_fetch_add(&c->m->counts.messages, 1);
		log_debug("%s: binding=%s rule=%s open=%zu", queue_id(ctx), d.target.name, d.rule, d.n_open);
	}
	decision_free(&d);
	return status;
}

static sfsistat on_eom(SMFICTX *ctx)
{
	struct conn *c = conn_of(ctx);
	if (c->msg == NULL)
		return SMFIS_TEMPFAIL; /* no MAIL, no policy: nothing may pass unbound */
	sfsistat status = decide(ctx, c);
	end_message(c);
	return status;
}

static sfsistat on_abort(SMFICTX *ctx)
{
	struct conn *c = smfi_getpriv(ctx);
	if (c != NULL)
		end_message(c);
	return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *ctx)
{
	struct conn *c = smfi_getpriv(ctx);
	if (c != NULL)
		conn_free(ctx, c);
	return SMFIS_CONTINUE;
}

bool milter_callbacks_register(struct milter *m)
{
	static char name[] = "bindpost";
	struct smfiDesc d = {.xxfi_name = name,
	        .xxfi_version = SMFI_VERSION,
	        .xxfi_flags = SMFIF_ADDHDRS | SMFIF_CHGHDRS,
	        .xxfi_connect = on_connect,
	        .xxfi_helo = on_helo,
	        .xxfi_envfrom = on_mail,
	        .xxfi_header = on_header,
	        .xxfi_body = on_body,
	        .xxfi_eom = on_eom,
	        .xxfi_abort = on_abort,
	        .xxfi_close = on_close,
	        .xxfi_negotiate = on_negotiate};
	the_milter = m;
	return smfi_register(d) == MI_SUCCESS;
}
