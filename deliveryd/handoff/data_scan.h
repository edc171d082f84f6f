/*
 * data_scan - the bytes after DATA, as they come: finds their end, takes the dots off
 *
 * Purpose    Only CRLF.CRLF ends data (design section 9, SMTP smuggling). Bare CR, bare LF and NUL are noticed wherever
 *            a chunk was cut. Unstuffed bytes go to the sink in runs as long as the chunk allows: this is where most
 *            of the handoff's time would go, so there is one memchr() a line and no copying.
 * Follows    RFC 5321 4.5.2, 2.3.8.
 * Threads    Belongs to its session.
 */
#ifndef HANDOFF_DATA_SCAN_H
#define HANDOFF_DATA_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum data_scan_flags {
	SCAN_BARE_CR = 1 << 0,
	SCAN_BARE_LF = 1 << 1,
	SCAN_NUL = 1 << 2,
	SCAN_8BIT = 1 << 3,
	SCAN_DOT_LINES = 1 << 4, /* an unstuffed line begins with a dot */
	SCAN_REFUSED = SCAN_BARE_CR | SCAN_BARE_LF | SCAN_NUL,
};

struct data_scan {
	uint8_t at; /* enum in data_scan.c; 0 = at the start of a line */
	unsigned flags;
	uint64_t size; /* unstuffed bytes so far */
	void (*sink)(
	        void *ctx, const char *, size_t); /* once a byte that is refused was seen it gets no more */
	void *ctx;
};

void data_scan_init(struct data_scan *, void (*sink)(void *ctx, const char *, size_t), void *ctx);
/* Returns how many bytes belong to the data; *end when they were the last. What follows is the next command. */
size_t data_scan_feed(struct data_scan *, const char *, size_t, bool *end);

#endif
