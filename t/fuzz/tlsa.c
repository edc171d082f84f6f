/*
 * TLSA records and certificates, both from strangers. The input: a byte with the number of certificates, then
 * certificates and records, each behind its length in two bytes.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "session/tls_dane.h"

#define ITEMS_MAX 120

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Copies of their exact size, so that a read behind it is seen */
static unsigned take_items(const uint8_t *data, size_t size, gnutls_datum_t items[ITEMS_MAX])
{
	unsigned n;

	for (n = 0; n < ITEMS_MAX && size >= 2; n++) {
		size_t len = (size_t)data[0] << 8 | data[1];
		if (len > size - 2)
			len = size - 2;
		items[n].data = malloc(len + !len);
		items[n].size = (unsigned)len;
		assert(items[n].data);
		memcpy(items[n].data, data + 2, len);
		data += 2 + len;
		size -= 2 + len;
	}
	return n;
}

static void check(const gnutls_datum_t *items, unsigned n_certs, unsigned n)
{
	static const char *const names[] = {"example.test", NULL};
	struct tlsa_rdata rdata[ITEMS_MAX];
	const char *verified = NULL;
	struct tlsa *t, *again;
	struct error err;
	bool ok;

	for (unsigned i = n_certs; i < n; i++)
		rdata[i - n_certs] = (struct tlsa_rdata){items[i].data, (uint16_t)items[i].size};
	t = tlsa_new("mx.test", names, true, rdata, n - n_certs);
	again = tlsa_new("mx.test", names, true, rdata, n - n_certs);
	assert(t->n_records <= n - n_certs && tlsa_equal(t, again));
	for (unsigned i = 0; i < t->n_records; i++)
		assert(t->records[i].matching == TLSA_FULL ||
		        t->records[i].len == 32 * t->records[i].matching);
	ok = tls_dane_verify(items, n_certs, t, &verified, &err);
	assert(ok == (strcmp(verified, "no") != 0));
	assert(!ok || (n_certs > 0 && t->n_records > 0));
	tlsa_unref(&t);
	tlsa_unref(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	gnutls_datum_t items[ITEMS_MAX];
	unsigned n, n_certs;

	if (size < 1)
		return 0;
	n = take_items(data + 1, size - 1, items);
	n_certs = data[0] % 8 < n ? data[0] % 8 : n;
	check(items, n_certs, n);
	while (n > 0)
		free(items[--n].data);
	return 0;
}
