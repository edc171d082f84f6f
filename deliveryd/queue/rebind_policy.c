#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/*
 * rebind --policy: the rules in force are asked again about mail that is queued, with what is known of it here: envelope,
 * header, size. Mail stays where it is when a rule on the way needs more than that, or when its recipients (of one
 * delivery) would have to go different ways.
 */

/* Longer header sections are cut by who reads them (select_header.c). */
#define HEADER_WHOLE_MAX ((size_t)256 << 10)

struct fields {
	struct fact_header *at; /* owns; text borrows from the header */
	size_t n, size, first_size;
};

static void add_field(struct fields *f, const char *text, size_t len)
{
	const char *colon = memchr(text, ':', len);
	if (!colon)
		return;
	size_t name_len = (size_t)(colon - text);
	while (name_len > 0 && (text[name_len - 1] == ' ' || text[name_len - 1] == '\t'))
		name_len--;
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	if (f->n == f->size) {
		f->size = f->size ? f->size * 2 : 32;
		f->at = mem_array(f->at, f->size, sizeof(*f->at));
	}
	f->at[f->n++] = (struct fact_header){.name = text,
	        .name_len = name_len,
	        .value = colon + 1,
	        .value_len = text + len > colon ? (size_t)(text + len - colon - 1) : 0};
}

/* Our own Received comes first, and the milter has not seen it. */
static void read_fields(const char *header, size_t len, struct fields *f)
{
	bool first = true;
	while (len > 0) {
		size_t n = header_field_length(header, len);
		if (n == 2 && memcmp(header, "\r\n", 2) == 0)
			return;
		if (first && n > 9 && strncasecmp(header, "Received:", 9) == 0)
			f->first_size = n;
		else
			add_field(f, header, n);
		first = false;
		header += n;
		len -= n;
	}
}

/* One target for all recipients, or NULL. It borrows from the decision. */
static const char *target_of_all(
        struct queue *q, const struct delivery *d, const struct decision *decision, bool *claimed)
{
	struct packed_walk w;
	const char *target = NULL;
	packed_walk_init(&w, d->packed);
	for (uint32_t i = 0; i < d->n_open; i++) {
		struct recipient_choice choice;
		policy_recipient(q->policy, decision, packed_walk_next(&w).address, &choice);
		if (i > 0 && strcmp(choice.target, target) != 0)
			return NULL;
		target = choice.target;
		*claimed = choice.claimed;
	}
	return target;
}

static char *present_target(const struct queue *q, const struct delivery *d)
{
	if (d->group)
		return mem_printf("group:%s", intern_text(q->names, d->group));
	return mem_strdup(binding_name(q, binding_at(q, d->binding)));
}

char *rebind_by_policy(struct queue *q, uint32_t no, const char *header, size_t len, bool *known)
{
	const struct delivery *d = delivery_at(q->slab, no);
	struct facts facts = {.mailfrom = packed_sender(d->packed), .recv_port = -1, .size = -1};
	struct fields f = {0};
	struct fake_rnd chance;
	struct decision decision;
	char *present = present_target(q, d), *to = NULL;
	bool claimed = true;
	*known = false;
	if (len >= HEADER_WHOLE_MAX || binding_at(q, d->binding)->kind == BINDING_NOTIFY) {
		mem_free(&present);
		return NULL;
	}
	read_fields(header, len, &f);
	facts.headers = f.at;
	facts.n_headers = f.n;
	facts.size = (int64_t)(d->size - f.first_size);
	fake_rnd_init(
	        &chance, hash_stable(&d->id, sizeof(d->id), 0)); /* the same whenever it is asked again */
	if (policy_eval_again(q->policy, &facts, present, &chance.rnd, &decision)) {
		const char *target = target_of_all(q, d, &decision, &claimed);
		bool refused = !claimed && q->global->default_binding == DEFAULT_BINDING_NONE;
		*known = target != NULL && !refused;
		if (*known && strcmp(target, present) != 0)
			to = mem_strdup(target);
	}
	decision_free(&decision);
	free(f.at);
	mem_free(&present);
	return to;
}
