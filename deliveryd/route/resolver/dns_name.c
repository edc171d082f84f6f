/* dns_name - see dns_name.h */
#include "config.h"
#include "route/resolver/dns_name.h" /* before ldns, which else makes a bool of its own */

#include <ctype.h>
#include <ldns/ldns.h>
#include <string.h>

#include "base/str.h"

#define POINTERS_MAX 126

/*
 * Walks one name as ldns will, but within bounds: each pointer must point before the run of labels it ends,
 * so the position of the runs falls strictly and the walk ends.
 */
static bool measure(const uint8_t *raw, size_t len, size_t *pos)
{
	size_t at = *pos, run = at, total = 1, after = 0;
	unsigned pointers = 0;

	for (;;) {
		if (at >= len)
			return false;
		uint8_t label = raw[at];
		if (label >= 0xc0) {
			size_t target;
			if (len - at < 2 || ++pointers > POINTERS_MAX)
				return false;
			target = (size_t)(label & 0x3f) << 8 | raw[at + 1];
			if (target >= run || target < 12)
				return false;
			if (!after)
				after = at + 2;
			at = run = target;
			continue;
		}
		if (label > 63)
			return false;
		if (label == 0)
			break;
		total += label + 1u;
		if (total > DNS_NAME_MAX || len - at <= label)
			return false;
		at += label + 1u;
	}
	*pos = after ? after : at + 1;
	return true;
}

bool dns_name_skip(const uint8_t *raw, size_t len, size_t *pos)
{
	return measure(raw, len, pos);
}

static bool take(ldns_rdf *rdf, struct dns_name *name)
{
	size_t size = ldns_rdf_size(rdf);

	if (size == 0 || size > DNS_NAME_MAX)
		return false;
	ldns_dname2canonical(rdf);
	memcpy(name->wire, ldns_rdf_data(rdf), size);
	name->len = (uint8_t)size;
	return true;
}

bool dns_name_read(const uint8_t *raw, size_t len, size_t *pos, struct dns_name *name)
{
	size_t start = *pos;
	ldns_rdf *rdf = NULL;
	bool ok;

	if (!measure(raw, len, pos))
		return false;
	if (ldns_wire2dname(&rdf, raw, len, &start) != LDNS_STATUS_OK)
		return false;
	ok = start == *pos && take(rdf, name);
	ldns_rdf_deep_free(rdf);
	return ok;
}

bool dns_name_from_text(const char *text, struct dns_name *name, struct error *err)
{
	size_t len = strlen(text);
	ldns_rdf *rdf;
	bool ok;

	/* ldns reads \. and \DDD as one byte; names that need them are none of ours */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f || text[i] == '\\')
			return error_set(err, "not a domain name");
	if (len == 0 || len > 254)
		return error_set(err, "not a domain name");
	rdf = ldns_dname_new_frm_str(text);
	if (!rdf)
		return error_set(err, "not a domain name");
	ok = take(rdf, name);
	ldns_rdf_deep_free(rdf);
	return ok || error_set(err, "not a domain name");
}

bool dns_name_equal(const struct dns_name *a, const struct dns_name *b)
{
	return a->len == b->len && memcmp(a->wire, b->wire, a->len) == 0;
}

bool dns_name_under(const struct dns_name *name, const struct dns_name *zone)
{
	for (size_t at = 0; at < name->len; at += name->wire[at] + 1u)
		if ((size_t)name->len - at == zone->len &&
		        memcmp(name->wire + at, zone->wire, zone->len) == 0)
			return true;
	return false;
}

static bool host_byte(uint8_t c)
{
	return isalnum(c) || c == '-' || c == '_';
}

static bool text_byte(uint8_t c)
{
	return c > ' ' && c < 0x7f && !strchr(".\\\"();@$", c);
}

static bool print_name(const struct dns_name *name, char out[DNS_NAME_TEXT_MAX], bool (*allowed)(uint8_t))
{
	size_t n = 0;

	for (size_t at = 0; name->wire[at]; at += name->wire[at] + 1u) {
		if (n)
			out[n++] = '.';
		for (unsigned i = 1; i <= name->wire[at]; i++) {
			if (!allowed(name->wire[at + i]))
				return false;
			out[n++] = (char)name->wire[at + i];
		}
	}
	out[n] = '\0';
	return true;
}

bool dns_name_text(const struct dns_name *name, char out[DNS_NAME_TEXT_MAX])
{
	return print_name(name, out, text_byte);
}

bool dns_name_host(const struct dns_name *name, char out[DNS_NAME_TEXT_MAX])
{
	return print_name(name, out, host_byte);
}

bool dns_question_set(struct dns_question *q, const char *name, enum dns_type type, struct error *err)
{
	size_t n;

	memset(q, 0, sizeof(*q));
	q->type = type;
	if (!dns_name_from_text(name, &q->name, err))
		return false;
	for (n = 0; name[n]; n++)
		q->text[n] = ascii_lower(name[n]);
	if (n && q->text[n - 1] == '.')
		n--;
	q->text[n] = '\0';
	return true;
}
