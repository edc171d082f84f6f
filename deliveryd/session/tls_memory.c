#include "session/tls_memory.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define ENTRIES 4096
#define TICKET_LIFE_US (3600 * SECOND_US)

struct entry {
	char *key; /* NULL = free */
	gnutls_datum_t ticket;
	uint64_t ticket_us;       /* when it came */
	uint64_t broken_until_us; /* 0 = it is not */
};

struct tls_memory {
	struct entry entries[ENTRIES];
};

struct tls_memory *tls_memory_new(void)
{
	return mem_zalloc(sizeof(struct tls_memory));
}

static void ticket_drop(struct entry *e)
{
	gnutls_free(e->ticket.data);
	e->ticket = (gnutls_datum_t){0};
}

void tls_memory_free(struct tls_memory **pm)
{
	struct tls_memory *m = *pm;
	size_t i;

	if (!m)
		return;
	for (i = 0; i < ENTRIES; i++) {
		ticket_drop(&m->entries[i]);
		mem_free(&m->entries[i].key);
	}
	mem_free(pm);
}

static void key_print(const struct tls_place *p, struct str *out)
{
	const struct conn_options *o = p->demand;
	char addr[ADDR_TEXT_SIZE];

	str_printf(out, "%s %s %s %016llx %d %d %s %s %s %s", p->binding, p->mx,
	        addr_print_port(p->peer, addr), p->tlsa ? (unsigned long long)p->tlsa->hash : 0,
	        (int)p->verify, (int)o->tls_min_version, o->tls_priority ? o->tls_priority : "",
	        o->tls_ca ? o->tls_ca : "", o->tls_certificate ? o->tls_certificate : "",
	        o->tls_key ? o->tls_key : "");
}

/* The entry of this place; NULL if there is none and `make` is not set. */
static struct entry *find(struct tls_memory *m, const struct tls_place *p, bool make)
{
	struct entry *e;
	struct str key;

	str_init(&key);
	key_print(p, &key);
	e = &m->entries[hash_bytes(key.data, key.len) % ENTRIES];
	if (e->key && strcmp(e->key, key.data) == 0) {
		str_free(&key);
		return e;
	}
	if (!make) {
		str_free(&key);
		return NULL;
	}
	ticket_drop(e);
	mem_free(&e->key);
	*e = (struct entry){.key = str_steal(&key)};
	return e;
}

gnutls_datum_t tls_memory_ticket(struct tls_memory *m, const struct tls_place *p, uint64_t now_us)
{
	struct entry *e = find(m, p, false);

	if (!e || e->ticket.size == 0 || now_us > e->ticket_us + TICKET_LIFE_US)
		return (gnutls_datum_t){0};
	return e->ticket;
}

void tls_memory_keep_ticket(
        struct tls_memory *m, const struct tls_place *p, gnutls_datum_t takes, uint64_t now_us)
{
	struct entry *e = find(m, p, true);

	ticket_drop(e);
	e->ticket = takes;
	e->ticket_us = now_us;
}

void tls_memory_forget_ticket(struct tls_memory *m, const struct tls_place *p)
{
	struct entry *e = find(m, p, false);

	if (e)
		ticket_drop(e);
}

void tls_memory_set_broken(struct tls_memory *m, const struct tls_place *p, uint64_t until_us)
{
	struct entry *e = find(m, p, true);

	ticket_drop(e);
	e->broken_until_us = until_us;
}

bool tls_memory_is_broken(struct tls_memory *m, const struct tls_place *p, uint64_t now_us)
{
	struct entry *e = find(m, p, false);

	return e && now_us < e->broken_until_us;
}
