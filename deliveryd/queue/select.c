#include "queue/queue_in.h"

#include <string.h>
#include <strings.h>

static bool binding_matches(const struct queue *q, const struct delivery *d, const char *word)
{
	if (strncmp(word, "group:", 6) == 0)
		return d->group && strcmp(intern_text(q->names, d->group), word + 6) == 0;
	return strcmp(binding_name(q, binding_at(q, d->binding)), word) == 0;
}

/* "@domain" or an address: the local part as given, the domain in any case. */
static bool address_matches(const char *address, const char *word)
{
	const char *at = strrchr(address, '@'), *word_at = strrchr(word, '@');
	if (!at || !word_at)
		return strcmp(address, word) == 0;
	if (strcasecmp(at, word_at) != 0)
		return false;
	if (word_at == word)
		return true;
	return at - address == word_at - word && memcmp(address, word, (size_t)(word_at - word)) == 0;
}

static bool any_binding(const struct queue *q, const struct delivery *d, const struct words *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (binding_matches(q, d, w->at[i]))
			return true;
	}
	return w->n == 0;
}

static bool any_domain(const struct queue *q, const struct delivery *d, const struct words *w)
{
	const char *domain = intern_text(q->names, d->domain);
	for (unsigned i = 0; i < w->n; i++) {
		if (strcmp(domain, w->at[i]) == 0)
			return true;
	}
	return w->n == 0;
}

static bool any_address(const char *address, const struct words *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (address_matches(address, w->at[i]))
			return true;
	}
	return w->n == 0;
}

bool select_recipient(const struct selection *s, const char *address)
{
	return any_address(address, &s->recipient);
}

static bool any_recipient(const struct delivery *d, const struct selection *s)
{
	struct packed_walk w;
	if (s->recipient.n == 0)
		return true;
	packed_walk_init(&w, d->packed);
	for (uint32_t i = 0; i < d->n_open; i++) {
		if (select_recipient(s, packed_walk_next(&w).address))
			return true;
	}
	return false;
}

static bool any_id(const struct delivery *d, const struct selection *s)
{
	for (unsigned i = 0; i < s->n_id; i++) {
		if (s->id[i] == d->id)
			return true;
	}
	return s->n_id == 0;
}

bool select_delivery(const struct queue *q, const struct selection *s, const struct delivery *d)
{
	return any_id(d, s) && any_binding(q, d, &s->binding) && any_domain(q, d, &s->domain) &&
	       any_address(packed_sender(d->packed), &s->sender) &&
	       (!s->older_than_us || delivery_age_us(q, d) > s->older_than_us) && any_recipient(d, s);
}

static void print_words(struct str *out, const char *name, const struct words *w)
{
	for (unsigned i = 0; i < w->n; i++)
		str_printf(out, "%s%s %s", out->len ? " " : "", name, w->at[i][0] ? w->at[i] : "<>");
}

void select_print(const struct selection *s, struct str *out)
{
	char id[ID_TEXT_SIZE];
	print_words(out, "binding", &s->binding);
	print_words(out, "domain", &s->domain);
	print_words(out, "sender", &s->sender);
	print_words(out, "recipient", &s->recipient);
	print_words(out, "header", &s->header);
	for (unsigned i = 0; i < s->n_id && i < 10; i++)
		str_printf(out, "%sid %s", out->len ? " " : "", id_print(s->id[i], id));
	if (s->n_id > 10)
		str_printf(out, " and %u more", s->n_id - 10);
	if (s->older_than_us)
		str_printf(out, "%solder_than %llus", out->len ? " " : "",
		        (unsigned long long)(s->older_than_us / SECOND_US));
	if (s->all)
		str_printf(out, "%sall", out->len ? " " : "");
}
