#include "config.h"
#include "handoff/decide.h"

#include <string.h>

static const struct conf *conf_of(const struct policy_view *view)
{
	return policy_conf(view->policy);
}

void decide_needs(const struct policy_view *view, const char *sender, struct decide_needs *needs)
{
	const struct process_options *o = conf_process(conf_of(view));
	bool for_bad = !sender[0] || o->handoff_bad_stamp == UNCLAIMED_POLICY;
	bool for_none = !sender[0] || o->handoff_unstamped == UNCLAIMED_POLICY;
	struct policy_needs wanted;

	*needs = (struct decide_needs){0};
	if (!for_bad && !for_none)
		return;
	policy_needs(view->policy, &wanted);
	needs->fields = wanted.headers;
	needs->body = wanted.body;
	needs->until_stamp = !for_bad;
	needs->body_max = (size_t)o->milter_body_limit;
}

/* The rules, with what is known here: the message and XFORWARD's facts. Chance is a hash of the id: the same whenever
 * it is asked again. */
static void evaluate(const struct decide_input *in, struct decision *out)
{
	const struct xforward *x = in->xforward;
	bool known = x->given && !x->local;
	struct facts facts = {.mailfrom = in->sender, .recv_port = -1, .size = (int64_t)in->size};
	struct fact_header *fields = message_header_facts(in->header, &facts.n_headers);
	struct fake_rnd chance;

	facts.headers = fields;
	facts.body = in->header->body.data;
	facts.body_len = in->header->body.len;
	if (known && x->client.family != AF_UNSPEC)
		facts.sender_ip = &x->client;
	if (known && x->name[0])
		facts.sender_host = x->name;
	if (known && x->helo[0])
		facts.helo = x->helo;
	fake_rnd_init(&chance, hash_stable(&in->id, sizeof(in->id), 0));
	policy_eval(in->view->policy, &facts, &chance.rnd, out, NULL);
	mem_free(&fields);
}

static void take_default(struct decision *out)
{
	memset(out, 0, sizeof(*out));
	out->pool = pool_new(256);
	out->target.name = pool_strdup(out->pool, "default");
	out->rule = pool_strdup(out->pool, "default");
	out->claimed = true;
}

static enum stamp_reason read_stamp_by(const struct decide_input *in, const struct policy *policy,
        const struct stamp_keys *keys, struct decision *out)
{
	const struct message_header *h = in->header;
	uint64_t lifetime_s = conf_process(conf_of(in->view))->stamp_lifetime_s;

	return stamp_read(h->stamp.data, h->stamp.len, policy, keys, lifetime_s, in->wall_us,
	        h->has_message_id ? h->message_id.data : NULL, out);
}

/* A name or a key that the policy in force does not know: it may be of the one it replaced a moment ago. */
static bool may_be_previous(enum stamp_reason reason)
{
	return reason == STAMP_UNKNOWN_BINDING || reason == STAMP_BAD_MAC || reason == STAMP_NO_MAC;
}

/* A name of the view's policies, or of a binding that was drained: the queue knows where its mail goes. */
static bool known_or_drained(void *ctx, const char *target)
{
	const struct decide_input *in = ctx;
	const struct policy_view *v = in->view;

	if (in->shared->drained(in->shared->queue, target) || policy_target_known(conf_of(v), target))
		return true;
	for (unsigned i = 0; i < v->n_previous; i++)
		if (policy_target_known(policy_conf(v->previous[i].policy), target))
			return true;
	return false;
}

static enum stamp_reason read_drained(const struct decide_input *in, struct decision *out)
{
	const struct message_header *h = in->header;
	struct decide_input copy = *in;

	if (!in->shared || !in->shared->drained)
		return STAMP_UNKNOWN_BINDING;
	return stamp_read_known(h->stamp.data, h->stamp.len, known_or_drained, &copy, in->view->keys,
	        conf_process(conf_of(in->view))->stamp_lifetime_s, in->wall_us,
	        h->has_message_id ? h->message_id.data : NULL, out);
}

static enum stamp_reason read_stamp(const struct decide_input *in, struct decision *out)
{
	const struct policy_view *v = in->view;
	enum stamp_reason reason;

	if (in->header->n_stamps > 1)
		return STAMP_TWO;
	if (in->header->stamp.failed)
		return STAMP_SYNTAX;
	reason = read_stamp_by(in, v->policy, v->keys, out);
	if (!may_be_previous(reason))
		return reason;
	for (unsigned i = 0; i < v->n_previous; i++)
		if (read_stamp_by(in, v->previous[i].policy, v->previous[i].keys, out) == STAMP_OK)
			return STAMP_OK;
	return reason == STAMP_UNKNOWN_BINDING ? read_drained(in, out) : reason;
}

enum reply decide_message(const struct decide_input *in, struct decision *out, enum stamp_reason *reason)
{
	const struct process_options *o = conf_process(conf_of(in->view));
	bool stamped = in->header->n_stamps > 0;
	enum unclaimed way = stamped ? o->handoff_bad_stamp : o->handoff_unstamped;

	*reason = STAMP_OK;
	if (stamped && (*reason = read_stamp(in, out)) == STAMP_OK)
		return REPLY_NONE;
	if (!in->sender[0])
		way = UNCLAIMED_POLICY;
	switch (way) {
	case UNCLAIMED_POLICY:
		evaluate(in, out);
		return REPLY_NONE;
	case UNCLAIMED_DEFAULT:
		take_default(out);
		return REPLY_NONE;
	case UNCLAIMED_REJECT:
		return stamped ? REPLY_BAD_STAMP_REJECT : REPLY_UNSTAMPED_REJECT;
	default:
		return stamped ? REPLY_BAD_STAMP_LATER : REPLY_UNSTAMPED_LATER;
	}
}

enum reply decide_recipient(const struct decide_input *in, const struct decision *decision, const char *rcpt,
        struct recipient_choice *choice)
{
	const struct policy *policies[1 + POLICY_KEPT_MAX] = {in->view->policy};

	for (unsigned i = 0; i < in->view->n_previous; i++)
		policies[1 + i] = in->view->previous[i].policy;
	policy_recipient_among(policies, 1 + in->view->n_previous, decision, rcpt, choice, NULL);
	if (choice->claimed || !in->sender[0])
		return REPLY_NONE;
	if (conf_global(conf_of(in->view))->default_binding == DEFAULT_BINDING_NONE)
		return REPLY_UNCLAIMED_LATER;
	return REPLY_NONE;
}
