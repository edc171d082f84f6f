/* dns_pace - see dns_pace.h */
#include "config.h"
#include "route/resolver/dns_pace.h"

bool dns_pace_next(struct dns_pace *p, uint64_t now_us)
{
	if (!p->enabled)
		return true;
	if (!p->begun || now_us >= dns_pace_renewal_us(p)) {
		p->begun = true;
		p->began_us = now_us;
		p->n = 0;
	}
	if (p->n >= p->most)
		return false;
	p->n++;
	return true;
}

enum dns_pace_answer dns_pace_ask(struct dns_pace *p, uint32_t n_waiting, uint64_t now_us)
{
	/* those who wait go first */
	if (n_waiting == 0 && dns_pace_next(p, now_us))
		return DNS_PACE_GO;
	return n_waiting < p->max_waiting ? DNS_PACE_WAIT : DNS_PACE_OVERFLOW;
}

uint64_t dns_pace_renewal_us(const struct dns_pace *p)
{
	return p->began_us + p->period_us;
}
