#include "config.h"
#include "handoff/data_scan.h"

#include <string.h>

/*
 * Where the scan stands between two bytes. Dot and CR at the start of a line are held back (by the state alone) until
 * it is known whether they are the end of data.
 *
 *   LINE_START --'.'--> DOT --CR--> DOT_CR --LF--> end
 *        |               |            '--other--> IN_LINE, bare CR
 *        |               '--other--> IN_LINE (the dot was stuffing)
 *        '--other--> IN_LINE --CR--> AFTER_CR --LF--> LINE_START
 *                                       '--other--> IN_LINE, bare CR
 */
enum { LINE_START, DOT, DOT_CR, IN_LINE, AFTER_CR };

void data_scan_init(struct data_scan *scan, void (*sink)(void *ctx, const char *, size_t), void *ctx)
{
	*scan = (struct data_scan){.at = LINE_START, .sink = sink, .ctx = ctx};
}

static void give(struct data_scan *scan, const char *p, size_t len)
{
	scan->size += len;
	if (len && !(scan->flags & SCAN_REFUSED))
		scan->sink(scan->ctx, p, len);
}

/* From within a line to behind its end, or to the end of the chunk. */
static const char *scan_line(struct data_scan *scan, const char *p, const char *end)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));
	const char *stop = lf ? lf : end; /* up to here nothing is LF */
	bool cr_last = stop > p && stop[-1] == '\r';

	if (memchr(p, '\r', (size_t)(stop - p) - cr_last))
		scan->flags |= SCAN_BARE_CR;
	if (!lf) {
		scan->at = cr_last ? AFTER_CR : IN_LINE;
		return end;
	}
	if (!cr_last)
		scan->flags |= SCAN_BARE_LF;
	scan->at = cr_last ? LINE_START : IN_LINE;
	return lf + 1;
}

/* One byte in one of the states in which the byte decides. Returns false at the end of data. */
static bool scan_byte(struct data_scan *scan, const char **p)
{
	switch (scan->at) {
	case DOT:
		if (**p == '\r') {
			scan->at = DOT_CR;
			(*p)++;
			return true;
		}
		if (**p == '.')
			scan->flags |= SCAN_DOT_LINES;
		scan->at = IN_LINE;
		return true;
	case DOT_CR:
		if (**p == '\n') {
			scan->at = LINE_START;
			(*p)++;
			return false;
		}
		scan->size++; /* the CR */
		scan->flags |= SCAN_BARE_CR;
		scan->at = IN_LINE;
		return true;
	default: /* AFTER_CR */
		if (**p == '\n') {
			scan->at = LINE_START;
			(*p)++;
		} else {
			scan->flags |= SCAN_BARE_CR;
			scan->at = IN_LINE;
		}
		return true;
	}
}

/* Eight bytes at a time: a line of plain text costs nothing noticeable. */
static bool has_8bit(const char *p, size_t len)
{
	uint64_t all = 0, word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		all |= word;
	}
	for (; len; p++, len--)
		all |= (unsigned char)*p;
	return (all & 0x8080808080808080u) != 0;
}

/*
 * `run` is where the bytes begin that the sink has not had; a dot that is stuffing, or may be the end, ends a run. NUL
 * and 8-bit bytes are looked for at the end, over all of it at once: a message with NUL is refused as a whole, so it
 * does no harm that its bytes have been given on.
 */
size_t data_scan_feed(struct data_scan *scan, const char *chunk, size_t len, bool *end)
{
	const char *p = chunk, *run = chunk, *stop = chunk + len;

	*end = false;
	while (p < stop && !*end) {
		switch (scan->at) {
		case LINE_START:
			if (*p != '.') {
				scan->at = IN_LINE;
				break;
			}
			give(scan, run, (size_t)(p - run));
			run = ++p;
			scan->at = DOT;
			break;
		case IN_LINE:
			p = scan_line(scan, p, stop);
			break;
		case DOT:
		case DOT_CR:
			*end = !scan_byte(scan, &p);
			if (scan->at == DOT_CR || *end)
				run = p;
			break;
		default:
			scan_byte(scan, &p);
		}
	}
	give(scan, run, (size_t)(p - run));
	if (!(scan->flags & SCAN_NUL) && p > chunk && memchr(chunk, '\0', (size_t)(p - chunk)))
		scan->flags |= SCAN_NUL;
	if (!(scan->flags & SCAN_8BIT) && has_8bit(chunk, (size_t)(p - chunk)))
		scan->flags |= SCAN_8BIT;
	return (size_t)(p - chunk);
}
