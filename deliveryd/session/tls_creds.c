#include "session/tls_creds.h"

#include <assert.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

#define FAILED_RETRY_US (60 * SECOND_US)

/* What makes two sets different. */
struct demand {
	char *ca, *certificate, *key, *priority; /* NULL = none; owns */
	bool verify;
	enum tls_version min;
};

struct tls_creds {
	unsigned refs;
	gnutls_certificate_credentials_t certificates;
	gnutls_priority_t priority;
};

/* Never goes before the cache: there are as many as the configuration has different demands. */
struct entry {
	struct entry *next;
	struct tls_creds_cache *cache;
	struct demand demand;
	struct tls_creds *creds; /* NULL = none yet */
	bool stale;              /* read again at the next need */
	bool loading;
	uint64_t failed_us; /* when the last reading failed, 0 = it did not */
	struct error error; /* its reason */
	struct tls_creds_wait *waits;
	struct mail again; /* tells once more what is known to be wrong */
	bool again_posted;
	/* the worker's while loading */
	struct work work;
	struct tls_creds *loaded;
	struct error load_error;
};

struct tls_creds_cache {
	struct loop *loop;
	struct workers *workers; /* made when first needed */
	unsigned threads;
	struct entry *entries;
};

/* --- a set ---------------------------------------------------------------------------------------------- */

static void creds_free(struct tls_creds *creds)
{
	gnutls_certificate_free_credentials(creds->certificates);
	if (creds->priority)
		gnutls_priority_deinit(creds->priority);
	mem_free(&creds);
}

void tls_creds_unref(struct tls_creds **pcreds)
{
	struct tls_creds *creds = *pcreds;

	*pcreds = NULL;
	if (creds && --creds->refs == 0)
		creds_free(creds);
}

gnutls_certificate_credentials_t tls_creds_certificates(const struct tls_creds *creds)
{
	return creds->certificates;
}

gnutls_priority_t tls_creds_priority(const struct tls_creds *creds)
{
	return creds->priority;
}

/* "NORMAL:-VERS-ALL:+VERS-TLS1.3:..." from tls_priority and tls_min_version */
static void priority_text(const struct demand *d, struct str *out)
{
	static const char *const versions[] = {
	        [TLS_VERSION_1_0] = "TLS1.0",
	        [TLS_VERSION_1_1] = "TLS1.1",
	        [TLS_VERSION_1_2] = "TLS1.2",
	        [TLS_VERSION_1_3] = "TLS1.3",
	};
	int v;

	if (d->priority) { /* the operator's choice of versions stands, but for those below the oldest */
		str_add(out, d->priority);
		for (v = TLS_VERSION_1_0; v < (int)d->min; v++)
			str_printf(out, ":-VERS-%s", versions[v]);
		return;
	}
	str_add(out, "NORMAL:-VERS-ALL");
	for (v = TLS_VERSION_1_3; v >= (int)d->min; v--)
		str_printf(out, ":+VERS-%s", versions[v]);
}

static bool set_priority(const struct demand *d, struct tls_creds *creds, struct error *err)
{
	struct str text;
	int rc;

	str_init(&text);
	priority_text(d, &text);
	rc = gnutls_priority_init(&creds->priority, text.data, NULL);
	if (rc != GNUTLS_E_SUCCESS)
		error_set(err, "tls_priority \"%s\": %s", text.data, gnutls_strerror(rc));
	str_free(&text);
	return rc == GNUTLS_E_SUCCESS;
}

static bool set_trust(const struct demand *d, struct tls_creds *creds, struct error *err)
{
	int n;

	if (!d->verify)
		return true;
	if (d->ca)
		n = gnutls_certificate_set_x509_trust_file(creds->certificates, d->ca, GNUTLS_X509_FMT_PEM);
	else
		n = gnutls_certificate_set_x509_system_trust(creds->certificates);
	if (n > 0)
		return true;
	return error_set(err, "%s: %s", d->ca ? d->ca : "the system's certificate authorities",
	        n < 0 ? gnutls_strerror(n) : "no certificate in it");
}

static bool set_own(const struct demand *d, struct tls_creds *creds, struct error *err)
{
	int rc;

	if (!d->certificate || !d->key)
		return true;
	rc = gnutls_certificate_set_x509_key_file(
	        creds->certificates, d->certificate, d->key, GNUTLS_X509_FMT_PEM);
	return rc >= 0 || error_set(err, "%s with %s: %s", d->certificate, d->key, gnutls_strerror(rc));
}

static struct tls_creds *creds_load(const struct demand *d, struct error *err)
{
	struct tls_creds *creds = mem_zalloc(sizeof(*creds));

	creds->refs = 1;
	if (gnutls_certificate_allocate_credentials(&creds->certificates) != GNUTLS_E_SUCCESS)
		abort();
	if (set_priority(d, creds, err) && set_trust(d, creds, err) && set_own(d, creds, err))
		return creds;
	creds_free(creds);
	return NULL;
}

/* --- the cache --------------------------------------------------------------------------------------------- */

struct tls_creds_cache *tls_creds_cache_new(struct loop *loop, unsigned threads)
{
	struct tls_creds_cache *cache = mem_zalloc(sizeof(*cache));

	cache->loop = loop;
	cache->threads = threads;
	return cache;
}

static void demand_free(struct demand *d)
{
	mem_free(&d->ca);
	mem_free(&d->certificate);
	mem_free(&d->key);
	mem_free(&d->priority);
}

void tls_creds_cache_free(struct tls_creds_cache **pcache)
{
	struct tls_creds_cache *cache = *pcache;
	struct entry *e, *next;

	if (!cache)
		return;
	workers_free(&cache->workers);
	for (e = cache->entries; e; e = next) {
		next = e->next;
		assert(!e->waits);
		tls_creds_unref(&e->creds);
		tls_creds_unref(&e->loaded);
		demand_free(&e->demand);
		mem_free(&e);
	}
	mem_free(pcache);
}

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static struct entry *entry_get(struct tls_creds_cache *cache, const struct conn_options *o, bool verify)
{
	struct entry *e;

	for (e = cache->entries; e; e = e->next) {
		const struct demand *d = &e->demand;

		if (d->verify == verify && d->min == o->tls_min_version && same(d->ca, o->tls_ca) &&
		        same(d->certificate, o->tls_certificate) && same(d->key, o->tls_key) &&
		        same(d->priority, o->tls_priority))
			return e;
	}
	e = mem_zalloc(sizeof(*e));
	e->cache = cache;
	e->demand = (struct demand){.ca = o->tls_ca ? mem_strdup(o->tls_ca) : NULL,
	        .certificate = o->tls_certificate ? mem_strdup(o->tls_certificate) : NULL,
	        .key = o->tls_key ? mem_strdup(o->tls_key) : NULL,
	        .priority = o->tls_priority ? mem_strdup(o->tls_priority) : NULL,
	        .verify = verify,
	        .min = o->tls_min_version};
	e->next = cache->entries;
	cache->entries = e;
	return e;
}

static void entry_work(struct work *work)
{
	struct entry *e = container_of(work, struct entry, work);

	e->loaded = creds_load(&e->demand, &e->load_error);
}

static void entry_loaded(struct entry *e)
{
	e->loading = false;
	if (e->loaded) {
		tls_creds_unref(&e->creds);
		e->creds = e->loaded;
		e->loaded = NULL;
		e->failed_us = 0;
		return;
	}
	e->error = e->load_error;
	e->failed_us = loop_now_us(e->cache->loop) + 1;
	log_error("TLS: %s%s", e->error.text, e->creds ? "; what was read before stays in use" : "");
}

static void entry_tell(struct entry *e)
{
	struct tls_creds_wait *w;

	while ((w = e->waits)) {
		tls_creds_cancel(w);
		if (e->creds)
			e->creds->refs++;
		w->ready(w->ctx, e->creds, e->creds ? NULL : &e->error);
	}
}

static void entry_done(struct mail *mail)
{
	struct work *work = container_of(mail, struct work, done);
	struct entry *e = container_of(work, struct entry, work);

	entry_loaded(e);
	entry_tell(e);
}

static void entry_again(struct mail *mail)
{
	struct entry *e = container_of(mail, struct entry, again);

	e->again_posted = false;
	entry_tell(e);
}

static void entry_load(struct entry *e)
{
	struct tls_creds_cache *cache = e->cache;
	const struct demand *d = &e->demand;

	e->stale = false;

	if (!d->verify && !d->certificate) { /* no file to read */
		entry_work(&e->work);
		entry_loaded(e);
		return;
	}
	if (!cache->workers)
		cache->workers = workers_new("tls", cache->threads);
	e->loading = true;
	e->work.run = entry_work;
	e->work.reply = cache->loop;
	e->work.done.take = entry_done;
	workers_do(cache->workers, &e->work);
}

void tls_creds_reload(struct tls_creds_cache *cache)
{
	struct entry *e;

	for (e = cache->entries; e; e = e->next) {
		e->stale = true;
		e->failed_us = 0;
		if (e->creds && !e->loading)
			entry_load(e);
	}
}

struct tls_creds *tls_creds_get(
        struct tls_creds_cache *cache, const struct conn_options *o, bool verify, struct tls_creds_wait *w)
{
	struct entry *e = entry_get(cache, o, verify);
	bool failed = e->failed_us > 0 && loop_now_us(cache->loop) < e->failed_us + FAILED_RETRY_US;

	if (!e->loading && !failed && (!e->creds || e->stale))
		entry_load(e);
	if (e->creds) {
		e->creds->refs++;
		return e->creds;
	}
	w->next = e->waits;
	w->link = &e->waits;
	if (w->next)
		w->next->link = &w->next;
	e->waits = w;
	if (!e->loading && !e->again_posted) { /* it has failed before: said again, but not from in here */
		e->again_posted = true;
		e->again.take = entry_again;
		loop_post(cache->loop, &e->again);
	}
	return NULL;
}

void tls_creds_cancel(struct tls_creds_wait *w)
{
	if (!w->link)
		return;
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->next = NULL;
	w->link = NULL;
}
