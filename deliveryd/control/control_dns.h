/*
 * control_dns - /v1/dns/stats, /v1/dns/lookup?name=&type=, /v1/dns/refresh?name=
 *
 * Threads    The control loop's; questions go to the queue's loop and come back by mail.
 */
#ifndef CONTROL_CONTROL_DNS_H
#define CONTROL_CONTROL_DNS_H

#include "route/dns_control.h"

struct evhttp_request;
struct evkeyvalq;
struct control_dns; /* questions under way */

struct control_dns *control_dns_new(struct loop *control_loop, const struct dns_control *borrows);
/* Clients are let go; questions come back and are freed. */
void control_dns_free(struct control_dns **);
void control_dns_ask(
        struct control_dns *, struct evhttp_request *, enum dns_question_kind, struct evkeyvalq *query);

#endif
