#include "config.h"

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static bool within(const char *part, size_t part_len, const char *whole, size_t len)
{
	return part_len == 0 || (part >= whole && part + part_len <= whole + len);
}

/* What was accepted once is its own normal form, and lower case but for the tag of IPv6. */
static void check_domain(const char *raw, size_t len)
{
	char once[DOMAIN_MAX + 64], twice[DOMAIN_MAX + 64];

	if (!domain_normalize(raw, len, once, NULL)) {
		must(once[0] == '\0');
		return;
	}
	must(strlen(once) > 0 && strlen(once) < DOMAIN_MAX);
	must(domain_normalize(once, strlen(once), twice, NULL));
	must(strcmp(once, twice) == 0);
	for (const char *p = once; *p != '\0'; p++)
		must(*p > ' ' && *p < 0x7F);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *raw = (const char *)data;
	struct str once, twice;
	struct mailaddr a;

	check_domain(raw, size);
	str_init(&once);
	str_init(&twice);
	mailaddr_normalize(raw, size, &once);
	if (mailaddr_split(raw, size, &a)) {
		must(within(a.local, a.local_len, raw, size));
		must(within(a.domain, a.domain_len, raw, size));
		must(a.domain_len == 0 || a.local_len > 0);
		check_domain(a.domain, a.domain_len);
		mailaddr_normalize(once.data, once.len, &twice);
		/* a local part may itself look like a path; without these marks it must stand */
		if (a.local_len > 0 && strchr("<@", a.local[0]) == NULL && once.data[once.len - 1] != '>')
			must(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
	}
	str_free(&once);
	str_free(&twice);
	return 0;
}
