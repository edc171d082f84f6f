/*
 * cli_explain - `bindpost explain`: why a message gets its binding, and what holds for it then
 *
 * Purpose    Asks the rules as milter and deliveryd would, from the files, and shows what they said. The answer is made
 *            as JSON (bindpost(1) documents its keys); the text is printed from it, so both always say the same.
 * Parts      cli_explain.c the command line, --live; cli_explain_facts.c the message; cli_explain_json.c rules, decision,
 *            stamp, recipients; cli_explain_member.c a group's; cli_explain_binding.c what holds for a binding and a recipient's domain;
 *            cli_explain_text.c the text.
 */
#ifndef CONTROL_CLI_EXPLAIN_H
#define CONTROL_CLI_EXPLAIN_H

#include "control/cli.h"
#include "policy/policy.h"
#include "policy/policy_trace.h"

struct explain {
	/* as given; NULL = not given, which for the rules is unknown */
	const char *from, *client, *client_name, *helo, *auth, *recv_ip, *recv_port, *daemon_name, *size, *id;
	const char *body_file, *message_file;
	const char **recipients, **headers;
	size_t n_recipients, n_headers;
	bool live;
	/* --live: what deliveryd says of a binding (caller: json_decref()); NULL = it does not answer */
	json_t *(*live_row)(void *ctx, const char *binding);
	void *live_ctx;

	/* made of it */
	struct pool *pool;
	struct policy *policy; /* owns */
	struct facts facts;    /* borrows from the pool and the fields here */
	struct addr client_addr;
	struct fact_header *fact_headers; /* owns */
	struct str body;
	const char *message_id; /* the first; NULL = none */
	uint64_t queue_id;      /* of --id */
};

/* For policy_group_member(): whether a message to the domain can get that member */
struct explain_member {
	const struct explain *x;
	const char *domain;
};
bool explain_member_usable(void *ctx, const struct conf_binding *);
/* With or without <>; false with the reason, to be put behind the address. */
bool explain_address(const char *text, struct error *);
bool explain_facts(struct explain *, struct error *);
/* The whole answer but for "live"; caller: json_decref(). */
json_t *explain_json(const struct explain *);
/* {"binding", "source", "route", "limits", "options", ...} */
json_t *explain_binding(const struct conf *, const struct conf_binding *, const char *domain);
void explain_text(const json_t *answer);

/* A string of any bytes: what is not UTF-8 is shown as "?". */
json_t *explain_string(const char *, size_t len);

#endif
