/*
 * dns_name - domain names in packets
 *
 * Purpose    Bounds, pointers and lengths are checked here, then ldns expands. A compression pointer may only
 * point backwards, so that reading ends; at most 126 of them (no valid name needs more). Threads    Pure
 * functions.
 */
#ifndef ROUTE_DNS_NAME_H
#define ROUTE_DNS_NAME_H

#include "route/resolver/dns_packet.h"

/* Both leave *pos behind the name. False: it runs out of `len`, loops or is too long. */
bool dns_name_skip(const uint8_t *raw, size_t len, size_t *pos);
bool dns_name_read(const uint8_t *raw, size_t len, size_t *pos, struct dns_name *);
bool dns_name_from_text(const char *, struct dns_name *, struct error *);
bool dns_name_equal(const struct dns_name *, const struct dns_name *);
bool dns_name_under(const struct dns_name *, const struct dns_name *zone); /* equal, or below it */
/* As text without final dot; the root is "". False: bytes that text would blur (dots in labels, blanks,
 * 8-bit). */
bool dns_name_text(const struct dns_name *, char out[DNS_NAME_TEXT_MAX]);
/* Stricter: letters, digits, hyphen, underscore */
bool dns_name_host(const struct dns_name *, char out[DNS_NAME_TEXT_MAX]);

#endif
