/*
 * dns_pace - how many look-ups may begin in a period (dns_rate_limit_*)
 *
 * Purpose    A number for each period; what comes beyond it waits in line, as far as the line goes, and past its end
 *            goes out at once, so that mail is never stuck behind its own look-ups.
 * Threads    The queue's loop only.
 */
#ifndef ROUTE_DNS_PACE_H
#define ROUTE_DNS_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct dns_pace {
	bool enabled;
	uint32_t most; /* in one period */
	uint64_t period_us;
	uint32_t max_waiting;
	/* dns_pace's own */
	bool begun;
	uint64_t began_us; /* the period */
	uint32_t n;        /* in it so far */
};

enum dns_pace_answer { DNS_PACE_GO, DNS_PACE_WAIT, DNS_PACE_OVERFLOW /* goes, and is not counted */ };
enum dns_pace_answer dns_pace_ask(struct dns_pace *, uint32_t n_waiting, uint64_t now_us);
/* One that waited may go: counted. */
bool dns_pace_next(struct dns_pace *, uint64_t now_us);
/* When the next period begins. */
uint64_t dns_pace_renewal_us(const struct dns_pace *);

#endif
