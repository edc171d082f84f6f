#include "config.h"
#include "handoff/deliveries.h"

#include <string.h>
#include "base/clock.h"

static bool same(const struct delivery_spec *d, const struct recipient_choice *choice, const char *domain)
{
	return (d->domain == domain || strcmp(d->domain, domain) == 0) &&
	       strcmp(d->target, choice->target) == 0 && strcmp(d->rule, choice->rule) == 0 &&
	       d->has_sticky == choice->has_sticky && (!d->has_sticky || d->sticky == choice->sticky) &&
	       d->priority == choice->priority;
}

/* Keyed (hash_bytes): domains are foreign text, and a transaction may name many. */
static uint64_t hash(const char *target, const char *rule, const char *domain)
{
	return hash_bytes(domain, strlen(domain)) ^ hash_bytes(target, strlen(target)) * 3 ^
	       hash_bytes(rule, strlen(rule)) * 5;
}

static void put(struct deliveries *list, uint32_t index)
{
	const struct delivery_spec *d = &list->specs[index];
	uint32_t slot = (uint32_t)hash(d->target, d->rule, d->domain) & (list->n_slots - 1);

	while (list->slots[slot])
		slot = (slot + 1) & (list->n_slots - 1);
	list->slots[slot] = index + 1;
}

/* At most half full */
static void grow(struct deliveries *list)
{
	list->max = list->max ? list->max * 2 : 4;
	list->specs = mem_array(list->specs, list->max, sizeof(*list->specs));
	list->n_slots = list->max * 2;
	mem_free(&list->slots);
	list->slots = mem_zalloc(list->n_slots * sizeof(*list->slots));
	for (uint32_t i = 0; i < list->n; i++)
		put(list, i);
}

static uint32_t add(
        struct deliveries *list, struct pool *pool, const struct recipient_choice *choice, const char *domain)
{
	if (list->n == list->max)
		grow(list);
	list->specs[list->n] = (struct delivery_spec){
	        .target = pool_strdup(pool, choice->target),
	        .rule = pool_strdup(pool, choice->rule),
	        .sticky = choice->has_sticky ? choice->sticky : 0,
	        .has_sticky = choice->has_sticky,
	        .priority = (uint8_t)choice->priority,
	        .domain = domain,
	        .n_recipients = 1,
	};
	put(list, list->n);
	return list->n++;
}

uint32_t deliveries_find(
        struct deliveries *list, struct pool *pool, const struct recipient_choice *given, const char *domain)
{
	struct recipient_choice choice = *given;
	uint32_t slot;

	if (!choice.rule) /* a stamp need not name it */
		choice.rule = "";
	if (list->n_slots == 0)
		return add(list, pool, &choice, domain);
	slot = (uint32_t)hash(choice.target, choice.rule, domain) & (list->n_slots - 1);
	while (list->slots[slot]) {
		uint32_t index = list->slots[slot] - 1;

		if (same(&list->specs[index], &choice, domain)) {
			list->specs[index].n_recipients++;
			return index;
		}
		slot = (slot + 1) & (list->n_slots - 1);
	}
	return add(list, pool, &choice, domain);
}

void deliveries_free(struct deliveries *list)
{
	mem_free(&list->specs);
	mem_free(&list->slots);
	*list = (struct deliveries){0};
}
