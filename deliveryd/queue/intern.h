/*
 * intern - names that many deliveries share, as 32-bit ids
 *
 * Purpose    Domains, bindings, rules and next hops: each text is kept once and counted, so that a delivery costs four
 *            bytes for it and comparing is comparing numbers.
 * Ownership  intern_get() and intern_ref() take a reference, intern_drop() gives it back; at zero the text goes and
 *            the id may be given again. Id 0 is "no name" and prints as "".
 * Threads    The queue's loop only.
 */
#ifndef QUEUE_INTERN_H
#define QUEUE_INTERN_H

#include <stddef.h>
#include <stdint.h>

struct intern;
struct intern *intern_new(void);
void intern_free(struct intern **);
uint32_t intern_get(struct intern *, const char *text);        /* a new reference; "" and NULL give 0 */
uint32_t intern_find(const struct intern *, const char *text); /* borrowed; 0 = unknown */
void intern_ref(struct intern *, uint32_t id);
void intern_drop(struct intern *, uint32_t id);
const char *intern_text(const struct intern *, uint32_t id);
uint32_t intern_count(const struct intern *);
size_t intern_bytes(const struct intern *);

#endif
