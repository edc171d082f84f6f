#include "config.h"
#include "milter/milter_negotiate.h"

#include <stdio.h>
#include <string.h>

static bool needs_connect(const struct policy_needs *n)
{
	return n->sender_ip || n->sender_host || n->recv_ip || n->recv_port || n->daemon_name;
}

static unsigned long wanted_steps(const struct policy_needs *n, unsigned long offered)
{
	unsigned long steps = SMFIP_NORCPT | SMFIP_NODATA | SMFIP_NOEOH | SMFIP_NOUNKNOWN | SMFIP_NR_CONN |
	                      SMFIP_NR_HELO | SMFIP_NR_HDR | SMFIP_HDR_LEADSPC;
	if (!needs_connect(n))
		steps |= SMFIP_NOCONNECT;
	if (!n->helo)
		steps |= SMFIP_NOHELO;
	if (!n->body && !n->size)
		steps |= SMFIP_NOBODY;
	/* Past body_limit we can say "skip the rest" only where the MTA listens for a reply; size needs all of it. */
	if (n->size || !(offered & SMFIP_SKIP))
		steps |= SMFIP_NR_BODY;
	else
		steps |= SMFIP_SKIP;
	return steps & offered;
}

static void set_macros(SMFICTX *ctx, const struct policy_needs *n)
{
	char connect[128] = "", mail[64];
	/* Postfix names the receiving address {daemon_addr}, Sendmail {if_addr} */
	if (n->recv_ip)
		strcat(connect, "{daemon_addr} {if_addr} ");
	if (n->recv_port)
		strcat(connect, "{daemon_port} ");
	if (n->daemon_name)
		strcat(connect, "{daemon_name} ");
	/* An empty list is not possible; the queue id does not exist yet, so this asks for nothing. */
	strcat(connect, "i");
	snprintf(mail, sizeof(mail), "i%s", n->auth_user ? " {auth_authen}" : "");
	char id[] = "i";
	smfi_setsymlist(ctx, SMFIM_CONNECT, connect);
	smfi_setsymlist(ctx, SMFIM_HELO, id);
	smfi_setsymlist(ctx, SMFIM_ENVFROM, mail);
	smfi_setsymlist(ctx, SMFIM_EOM, id);
}

bool milter_negotiate(SMFICTX *ctx, const struct policy_needs *needs, unsigned long offered_actions,
        unsigned long offered_steps, unsigned long *actions, unsigned long *steps, struct negotiated *out)
{
	unsigned long wanted = SMFIF_ADDHDRS | SMFIF_CHGHDRS;
	*out = (struct negotiated){.needs = *needs};
	if ((offered_actions & wanted) != wanted)
		return false;
	*actions = wanted | (offered_actions & SMFIF_SETSYMLIST);
	*steps = out->steps = wanted_steps(needs, offered_steps);
	if (offered_actions & SMFIF_SETSYMLIST)
		set_macros(ctx, needs);
	return true;
}

bool negotiated_covers(const struct negotiated *had, const struct policy_needs *now)
{
	const bool *h = (const bool *)&had->needs, *n = (const bool *)now;
	_Static_assert(
	        sizeof(struct policy_needs) % sizeof(bool) == 0, "policy_needs holds nothing but bool");
	for (size_t i = 0; i < sizeof(*now) / sizeof(bool); i++)
		if (n[i] && !h[i])
			return false;
	return true;
}

sfsistat negotiated_continue(const struct negotiated *n, unsigned long no_reply_flag)
{
	return n->steps & no_reply_flag ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}
