/*
 * dns_control - what operators ask of DNS: look a name up as deliveryd sees it, forget one, tell how the resolver stands
 *
 * Ownership  A question belongs to who asks; it is back with its reply, exactly once.
 * Threads    dns_control_ask() any thread. The rest happens on the queue's loop; the reply goes to `reply_loop`.
 */
#ifndef ROUTE_DNS_CONTROL_H
#define ROUTE_DNS_CONTROL_H

#include "base/loop.h"
#include "base/str.h"
#include "route/resolver/resolver.h"
#include "route/route.h"

struct dns_control { /* borrows all */
	struct loop *loop;
	struct resolver *resolver;
	struct router *router;
};

enum dns_question_kind { DNS_ASK_STATS, DNS_ASK_LOOKUP, DNS_ASK_REFRESH };
struct dns_ask {
	struct mail mail;
	const struct dns_control *dns;
	enum dns_question_kind kind;
	char name[256];
	enum dns_type type; /* DNS_ASK_LOOKUP */
	struct loop *reply_loop;
	struct mail reply;
	struct str json; /* the answer: an object */
};
void dns_control_ask(struct dns_ask *);
/* "a" "AAAA" "mx" "tlsa" "txt" "ns" "ptr" "cname" */
bool dns_type_named(const char *, enum dns_type *);
const char *dns_type_text(enum dns_type);

#endif
