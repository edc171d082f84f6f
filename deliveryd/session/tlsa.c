/* tlsa - see tlsa.h */
#include "config.h"
#include "session/tlsa.h"

#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define HEADER_SIZE 3 /* usage, selector, matching type */
#define DNS_NAME_TEXT 253

struct owner {
	struct tlsa tlsa;  /* what others see */
	struct pool *pool; /* owns everything, this struct too */
};

/* --- records --- */

static bool is_certificate(const gnutls_datum_t *der)
{
	gnutls_x509_crt_t crt;
	bool ok;

	if (gnutls_x509_crt_init(&crt) != GNUTLS_E_SUCCESS)
		return false;
	ok = gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS;
	gnutls_x509_crt_deinit(crt);
	return ok;
}

static bool is_key(const gnutls_datum_t *der)
{
	gnutls_pubkey_t key;
	bool ok;

	if (gnutls_pubkey_init(&key) != GNUTLS_E_SUCCESS)
		return false;
	ok = gnutls_pubkey_import(key, der, GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS;
	gnutls_pubkey_deinit(key);
	return ok;
}

static bool data_ok(const struct tlsa_record *r)
{
	gnutls_datum_t der = {(unsigned char *)(uintptr_t)r->data, r->len};

	switch (r->matching) {
	case TLSA_SHA256:
		return r->len == 32;
	case TLSA_SHA512:
		return r->len == 64;
	default:
		return r->selector == TLSA_CERTIFICATE ? is_certificate(&der) : is_key(&der);
	}
}

bool tlsa_record_parse(const uint8_t *rdata, size_t len, struct tlsa_record *r)
{
	if (len <= HEADER_SIZE || len > UINT16_MAX)
		return false;
	if ((rdata[0] != TLSA_USAGE_TA && rdata[0] != TLSA_USAGE_EE) || rdata[1] >= TLSA_N_SELECTORS ||
	        rdata[2] >= TLSA_N_MATCHINGS)
		return false;
	*r = (struct tlsa_record){.usage = rdata[0],
	        .selector = rdata[1],
	        .matching = rdata[2],
	        .len = (uint16_t)(len - HEADER_SIZE),
	        .data = rdata + HEADER_SIZE};
	return data_ok(r);
}

/* RFC 7671 9: a digest counts only if there is no stronger one beside it; what is told in full always does. */
static bool outdone(const struct tlsa_record *r, const struct tlsa_record *all, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (r->matching != TLSA_FULL && all[i].usage == r->usage && all[i].selector == r->selector &&
		        all[i].matching > r->matching)
			return true;
	return false;
}

static void take_records(struct owner *o, const struct tlsa_rdata *raw, unsigned n)
{
	struct tlsa_record *usable = mem_array(NULL, n + 1, sizeof(*usable));
	struct tlsa_record *kept = pool_alloc(o->pool, (n + 1) * sizeof(*kept));
	unsigned n_usable = 0;

	for (unsigned i = 0; i < n; i++)
		n_usable += tlsa_record_parse(raw[i].data, raw[i].len, &usable[n_usable]);
	for (unsigned i = 0; i < n_usable; i++) {
		struct tlsa_record *r = &kept[o->tlsa.n_records];
		uint8_t *data;
		if (outdone(&usable[i], usable, n_usable))
			continue;
		*r = usable[i];
		data = pool_alloc(o->pool, r->len);
		memcpy(data, usable[i].data, r->len);
		r->data = data;
		o->tlsa.n_records++;
	}
	o->tlsa.records = kept;
	mem_free(&usable);
}

/* --- the set --- */

static bool known(const char *const *names, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (ascii_ieq(names[i], name))
			return true;
	return false;
}

static bool names_count(const struct tlsa *t)
{
	for (unsigned i = 0; i < t->n_records; i++)
		if (t->records[i].usage == TLSA_USAGE_TA)
			return true;
	return false;
}

/* Without usage 2 no name is looked at: demands that differ in nothing else are one, and connections can be shared. */
static void take_names(struct owner *o, const char *base, const char *const *more)
{
	const char **names;
	unsigned n = 0, all = 0;

	while (more && more[all] && names_count(&o->tlsa))
		all++;
	names = pool_alloc(o->pool, (all + 2) * sizeof(*names));
	names[n++] = o->tlsa.base = pool_strdup(o->pool, base);
	for (unsigned i = 0; i < all; i++)
		if (!known(names, n, more[i]))
			names[n++] = pool_strdup(o->pool, more[i]);
	names[n] = NULL;
	o->tlsa.names = names;
}

static uint64_t hash_all(const struct tlsa *t)
{
	struct str all;
	uint64_t hash;

	str_init(&all);
	for (unsigned i = 0; t->names[i]; i++)
		str_printf(&all, "%s ", t->names[i]);
	str_printf(&all, "%d", t->mx_secure);
	for (unsigned i = 0; i < t->n_records; i++) {
		const struct tlsa_record *r = &t->records[i];
		str_printf(&all, " %d %d %d %u ", (int)r->usage, (int)r->selector, (int)r->matching, r->len);
		str_add_mem(&all, (const char *)r->data, r->len);
	}
	hash = hash_bytes(all.data, all.len);
	str_free(&all);
	return hash;
}

struct tlsa *tlsa_new(
        const char *base, const char *const *names, bool mx_secure, const struct tlsa_rdata *raw, unsigned n)
{
	struct pool *pool = pool_new(1024);
	struct owner *o = pool_alloc(pool, sizeof(*o));

	o->pool = pool;
	atomic_init(&o->tlsa.refs, 1);
	o->tlsa.mx_secure = mx_secure;
	take_records(o, raw, n);
	take_names(o, base, names);
	o->tlsa.hash = hash_all(&o->tlsa);
	return &o->tlsa;
}

struct tlsa *tlsa_ref(struct tlsa *t)
{
	if (t)
		atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void tlsa_unref(struct tlsa **p)
{
	struct tlsa *t = *p;

	*p = NULL;
	if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	struct pool *pool = container_of(t, struct owner, tlsa)->pool;
	pool_free(&pool);
}

static bool records_equal(const struct tlsa *a, const struct tlsa *b)
{
	for (unsigned i = 0; i < a->n_records; i++) {
		const struct tlsa_record *x = &a->records[i], *y = &b->records[i];
		if (x->usage != y->usage || x->selector != y->selector || x->matching != y->matching ||
		        x->len != y->len || memcmp(x->data, y->data, x->len) != 0)
			return false;
	}
	return true;
}

bool tlsa_equal(const struct tlsa *a, const struct tlsa *b)
{
	unsigned i;

	if (a == b || !a || !b)
		return a == b;
	if (a->hash != b->hash || a->n_records != b->n_records || a->mx_secure != b->mx_secure)
		return false;
	for (i = 0; a->names[i] && b->names[i]; i++)
		if (strcmp(a->names[i], b->names[i]) != 0)
			return false;
	return !a->names[i] && !b->names[i] && records_equal(a, b);
}

bool tlsa_name(const char *host, uint16_t port, char *out, size_t size)
{
	int n = snprintf(out, size, "_%u._tcp.%s", (unsigned)port, host);

	return n > 0 && (size_t)n < size && n <= DNS_NAME_TEXT;
}
