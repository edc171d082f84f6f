/*
 * smtp_data - a message body on its way out: dot-stuffed, ended by CRLF.CRLF, or as it is (BDAT); never copied
 *
 * Purpose    Turns what a body_cursor has at hand into iovecs for one gathered write: the body's own bytes, a dot
 *            in front of each line that begins with one (when the message has such lines), and the end of data.
 * Follows    RFC 5321 4.5.2, 4.1.1.4.
 * Ownership  Borrows the cursor. The iovecs point into the body and into constants; good until smtp_data_sent().
 */
#ifndef SESSION_SMTP_DATA_H
#define SESSION_SMTP_DATA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "spool/body.h"

#define SMTP_DATA_IOV 60

struct smtp_data {
	struct body_cursor *cursor; /* borrows */
	uint64_t left;              /* bytes of the body not yet sent */
	bool stuff;                 /* lines may begin with a dot */
	bool chunk;                 /* for BDAT: nothing is added */
	bool line_start;            /* the next byte begins a line */
	bool dot_sent;              /* the extra dot of the next byte is out already */
	char tail[2];               /* the last two bytes sent */
	const char *end;            /* what remains of the end of data, once the body is out; NULL before */
	/* of the last smtp_data_fill() */
	unsigned n_iov;
	enum { DATA_BODY, DATA_DOT, DATA_END } kind[SMTP_DATA_IOV];
	const char *end_next;
	bool ends; /* contained the last byte */
};

void smtp_data_init(struct smtp_data *, struct body_cursor *, uint64_t size, bool stuff);
void smtp_data_init_chunk(struct smtp_data *, struct body_cursor *, uint64_t size);
/* BODY_READY: *n iovecs, at most max. BODY_END: all is sent, end of data too. BODY_WAIT, BODY_FAILED: as the
 * cursor says; a body that is shorter than `size` has failed. */
enum body_peek smtp_data_fill(struct smtp_data *, struct iovec *, unsigned max, unsigned *n);
/* So many bytes of what the last fill gave are with the stream. */
void smtp_data_sent(struct smtp_data *, const struct iovec *, size_t bytes);
/* The last fill contained the end of data. */
bool smtp_data_ends(const struct smtp_data *);

#endif
