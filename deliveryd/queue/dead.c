#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>

/*
 * Destinations that nobody answers at: a binding and next hop whose sessions all failed, until one works again. One that
 * was silent for connect_timeout_to_delay, or whose MX hosts all failed mx_failures_to_delay times in a row, is dead: all
 * its mail then waits for its own retry, as if each had been tried, and one session now and then tells whether anybody is
 * there again, ever more seldom. So a hundred thousand messages cost it as many connections as one.
 *
 * The record outlives the queue's traffic, which ends when all its mail is deferred. A restart forgets it.
 */
#define BUCKETS 1024u
#define RECORDS_MAX 65536u /* the one that failed longest ago gives way */
#define KEEP_US (2 * 86400 * SECOND_US)

struct dead {
	struct dead *hash_next;
	struct link by_age; /* the one that failed longest ago first */
	uint32_t binding, hop;
	uint16_t port;
	uint8_t hop_type;
	bool dead;
	uint32_t rounds;          /* in which all its MX hosts failed, one after the other */
	uint64_t silent_since_us; /* nobody has answered since; 0 = somebody did */
	uint64_t failed_us;       /* the last time */
	uint64_t wait_us;         /* the last back-off since it was found dead; 0 = none yet */
};

struct dead_table {
	struct dead *buckets[BUCKETS];
	struct link by_age;
	uint32_t n, n_dead; /* records; of them, dead */
};

struct dead_table *dead_new(void)
{
	struct dead_table *t = mem_zalloc(sizeof(*t));
	link_init(&t->by_age);
	return t;
}

static struct dead **bucket(struct dead_table *t, uint32_t binding, uint32_t hop)
{
	uint64_t h = (((uint64_t)binding << 32) | hop) * UINT64_C(0x9e3779b97f4a7c15);
	return &t->buckets[(h >> 40) % BUCKETS];
}

static struct dead *find(const struct hop_queue *hq)
{
	const struct hop_key *k = &hq->key;
	if (hq->q->dead->n == 0)
		return NULL;
	struct dead *d = *bucket(hq->q->dead, k->binding, k->hop);
	while (d && (d->binding != k->binding || d->hop != k->hop || d->port != k->port ||
	                    d->hop_type != k->hop_type))
		d = d->hash_next;
	return d;
}

static void forget(struct queue *q, struct dead *d)
{
	struct dead **at = bucket(q->dead, d->binding, d->hop);
	while (*at != d)
		at = &(*at)->hash_next;
	*at = d->hash_next;
	link_remove(&d->by_age);
	intern_drop(q->names, d->hop);
	q->dead->n--;
	q->dead->n_dead -= d->dead;
	free(d);
}

static void forget_old(struct queue *q)
{
	struct dead_table *t = q->dead;
	while (t->n > 0) {
		struct dead *oldest = container_of(t->by_age.next, struct dead, by_age);
		if (t->n < RECORDS_MAX && oldest->failed_us + KEEP_US > queue_now(q))
			return;
		forget(q, oldest);
	}
}

static struct dead *get(struct hop_queue *hq)
{
	struct queue *q = hq->q;
	struct dead *d = find(hq);
	if (d)
		return d;
	forget_old(q);
	d = mem_zalloc(sizeof(*d));
	d->binding = hq->key.binding;
	d->hop = hq->key.hop;
	d->port = hq->key.port;
	d->hop_type = hq->key.hop_type;
	link_init(&d->by_age);
	intern_ref(q->names, d->hop);
	struct dead **at = bucket(q->dead, d->binding, d->hop);
	d->hash_next = *at;
	*at = d;
	q->dead->n++;
	return d;
}

static const char *destination(const struct hop_queue *hq, char *buf, size_t size)
{
	const char *name = intern_text(hq->q->names, hq->key.hop);
	return log_quote(name, strlen(name), buf, size);
}

static void judge(struct hop_queue *hq, struct dead *d)
{
	const struct conn_options *o = &hq->profile->o;
	struct queue *q = hq->q;
	const char *binding = binding_name(q, binding_at(q, hq->key.binding));
	char name[300];
	if (d->dead)
		return;
	uint64_t silent_us = d->silent_since_us ? queue_now(q) - d->silent_since_us : 0;
	bool silent = d->silent_since_us && silent_us >= o->connect_timeout_to_delay_s * SECOND_US;
	if (silent)
		log_notice("%s has not answered binding %s for %llu s: its mail waits for its next attempt",
		        destination(hq, name, sizeof(name)), binding,
		        (unsigned long long)(silent_us / SECOND_US));
	else if (o->mx_failures_to_delay && d->rounds >= o->mx_failures_to_delay)
		log_notice("%s has failed binding %s %u times: its mail waits for its next attempt",
		        destination(hq, name, sizeof(name)), binding, (unsigned)d->rounds);
	else
		return;
	d->dead = true;
	q->dead->n_dead++;
}

uint32_t dead_count(const struct queue *q)
{
	return q->dead->n_dead;
}

bool dead_failed(struct hop_queue *hq, uint64_t began_us, bool answered)
{
	struct dead *d = get(hq);
	d->failed_us = queue_now(hq->q);
	link_remove(&d->by_age);
	link_add_tail(&hq->q->dead->by_age, &d->by_age);
	if (answered)
		d->silent_since_us = 0;
	else if (!d->silent_since_us)
		d->silent_since_us = began_us;
	judge(hq, d);
	return d->dead;
}

/* Twice as long each time, up to what a first retry waits for. */
uint64_t dead_round(struct hop_queue *hq, uint64_t recover_us, uint64_t most_us)
{
	struct dead *d = find(hq);
	uint64_t now = queue_now(hq->q), least = recover_us > now ? recover_us - now : 0;
	if (!d)
		return 0;
	d->rounds++;
	judge(hq, d);
	if (!d->dead)
		return 0;
	d->wait_us = d->wait_us * 2 < most_us ? d->wait_us * 2 : most_us;
	if (d->wait_us < least)
		d->wait_us = least;
	return now + d->wait_us;
}

bool dead_is(const struct hop_queue *hq)
{
	const struct dead *d = find(hq);
	return d && d->dead;
}

void dead_answered(struct hop_queue *hq)
{
	struct dead *d = find(hq);
	if (d)
		d->silent_since_us = 0;
}

void dead_works(struct hop_queue *hq)
{
	struct dead *d = find(hq);
	char name[300];
	if (!d)
		return;
	if (d->dead)
		log_notice("%s takes mail of binding %s again", destination(hq, name, sizeof(name)),
		        binding_name(hq->q, binding_at(hq->q, hq->key.binding)));
	forget(hq->q, d);
}

void dead_free(struct queue *q)
{
	while (link_linked(&q->dead->by_age))
		forget(q, container_of(q->dead->by_age.next, struct dead, by_age));
	mem_free(&q->dead);
}
