#include "config.h"
#include "handoff/message_header.h"

#include <string.h>
#include "base/mem.h"

#define RECEIVED_SEEN_MAX 2048 /* of a Received value; our own token stands well before */
#define FIELDS_MAX 10000
#define TLS_REQUIRED_MAX 256

void message_header_init(struct message_header *h, const char *stamp_name, const char *own_token,
        void (*sink)(void *ctx, const char *, size_t), void *ctx)
{
	memset(h, 0, sizeof(*h));
	h->stamp_name = stamp_name;
	h->own_token = own_token;
	h->sink = sink;
	h->ctx = ctx;
	str_init_max(&h->stamp, HEADER_VALUE_MAX);
	str_init_max(&h->message_id, HEADER_VALUE_MAX);
	str_init_max(&h->tls_required, TLS_REQUIRED_MAX);
	str_init(&h->line);
	str_init(&h->received);
	str_init_max(&h->fields, HEADER_CAPTURE_MAX);
	str_init(&h->body);
}

void message_header_free(struct message_header *h)
{
	str_free(&h->stamp);
	str_free(&h->message_id);
	str_free(&h->tls_required);
	str_free(&h->line);
	str_free(&h->received);
	str_free(&h->fields);
	str_free(&h->body);
	mem_free(&h->places);
}

size_t message_header_captured(const struct message_header *h)
{
	return h->fields.len + h->body.len + h->n_places * sizeof(*h->places);
}

void message_header_drop_capture(struct message_header *h)
{
	str_free(&h->fields);
	str_free(&h->body);
	str_init_max(&h->fields, HEADER_CAPTURE_MAX);
	str_init(&h->body);
	mem_free(&h->places);
	h->n_places = h->max_places = 0;
	h->capture_fields = h->capture_body = false;
}

/* --- fields ------------------------------------------------------------------------------------------------- */

/*
 * field = name *WSP ":" value; name = 1*(33-57 / 59-126). How long the name at the start of the line is; 0 = there is
 * none. *colon is its place, or the line's length when the line ends (or is cut) before a colon and all after the name
 * is blank.
 */
static size_t field_name(const char *line, size_t len, size_t *colon)
{
	size_t name = 0;

	while (name < len && line[name] > ' ' && line[name] <= '~' && line[name] != ':')
		name++;
	*colon = name;
	while (*colon < len && (line[*colon] == ' ' || line[*colon] == '\t'))
		(*colon)++;
	return *colon == len || line[*colon] == ':' ? name : 0;
}

static enum header_class classify(const struct message_header *h, const char *name, size_t len)
{
	if (ascii_ieq_mem(name, len, h->stamp_name, strlen(h->stamp_name)))
		return HEADER_STAMP;
	if (ascii_ieq_mem(name, len, "Received", strlen("Received")))
		return HEADER_RECEIVED;
	if (ascii_ieq_mem(name, len, "Message-ID", strlen("Message-ID")))
		return HEADER_MESSAGE_ID;
	if (ascii_ieq_mem(name, len, "TLS-Required", strlen("TLS-Required")))
		return HEADER_TLS_REQUIRED;
	return HEADER_OTHER;
}

/* Folded and with runs of blanks as one blank, as the token is written. */
static bool contains_token(struct str *value, const char *token)
{
	size_t n = 0;

	for (size_t i = 0; i < value->len; i++) {
		char c = value->data[i];

		if (c == '\t' || c == '\r' || c == '\n')
			c = ' ';
		if (c != ' ' || (n && value->data[n - 1] != ' '))
			value->data[n++] = c;
	}
	return memmem(value->data, n, token, strlen(token)) != NULL;
}

static void finish_field(struct message_header *h)
{
	if (h->class == HEADER_RECEIVED && contains_token(&h->received, h->own_token))
		h->n_own_received++;
	h->class = HEADER_NONE;
	h->field_kept = h->field_captured = false;
}

static void begin_field(struct message_header *h, enum header_class class)
{
	h->class = class;
	switch (class) {
	case HEADER_STAMP:
		h->field_kept = h->n_stamps++ == 0;
		break;
	case HEADER_RECEIVED:
		h->n_received++;
		str_clear(&h->received);
		break;
	case HEADER_MESSAGE_ID:
		h->field_kept = !h->has_message_id;
		h->has_message_id = true;
		break;
	case HEADER_TLS_REQUIRED:
		h->field_kept = h->n_tls_required++ == 0;
		break;
	default:
		break;
	}
}

static void add_value(struct message_header *h, const char *p, size_t len)
{
	if (h->class == HEADER_STAMP && h->field_kept)
		str_add_mem(&h->stamp, p, len);
	else if (h->class == HEADER_MESSAGE_ID && h->field_kept)
		str_add_mem(&h->message_id, p, len);
	else if (h->class == HEADER_TLS_REQUIRED && h->field_kept)
		str_add_mem(&h->tls_required, p, len);
	else if (h->class == HEADER_RECEIVED && h->received.len < RECEIVED_SEEN_MAX)
		str_add_mem(&h->received, p, len < RECEIVED_SEEN_MAX ? len : RECEIVED_SEEN_MAX);
}

/* --- capture ------------------------------------------------------------------------------------------------ */

static struct field_place *open_place(struct message_header *h)
{
	if (h->n_places == h->max_places) {
		h->max_places = h->max_places ? h->max_places * 2 : 32;
		h->places = mem_array(h->places, h->max_places, sizeof(*h->places));
	}
	return &h->places[h->n_places++];
}

/* A field's first line (with the place of its colon) or a part of it that follows (colon 0). */
static void capture_line(struct message_header *h, const char *line, size_t len, size_t name, size_t colon)
{
	uint32_t start = (uint32_t)h->fields.len;

	if (!h->capture_fields || !h->field_captured || h->fields.failed)
		return;
	if (name && h->n_places == FIELDS_MAX)
		h->fields.failed = true;
	str_add_mem(&h->fields, line, len);
	if (h->fields.failed)
		return;
	if (name) {
		*open_place(h) =
		        (struct field_place){start, start + (uint32_t)colon, (uint32_t)h->fields.len};
	} else if (h->n_places) {
		h->places[h->n_places - 1].end = (uint32_t)h->fields.len;
	}
}

static void capture_body(struct message_header *h, const char *p, size_t len)
{
	size_t room = h->body_max > h->body.len ? h->body_max - h->body.len : 0;

	if (h->capture_body && room)
		str_add_mem(&h->body, p, len < room ? len : room);
}

struct fact_header *message_header_facts(const struct message_header *h, size_t *n)
{
	struct fact_header *facts = mem_array(NULL, h->n_places + 1, sizeof(*facts));

	*n = h->n_places;
	for (uint32_t i = 0; i < h->n_places; i++) {
		const struct field_place *place = &h->places[i];
		const char *name = h->fields.data + place->start, *value = h->fields.data + place->colon + 1;
		const char *end = h->fields.data + place->end, *name_end = h->fields.data + place->colon;

		while (name_end > name && (name_end[-1] == ' ' || name_end[-1] == '\t'))
			name_end--;
		if (end - value >= 2 && end[-1] == '\n' && end[-2] == '\r')
			end -= 2;
		facts[i] =
		        (struct fact_header){name, value, (size_t)(name_end - name), (size_t)(end - value)};
	}
	return facts;
}

/* --- lines -------------------------------------------------------------------------------------------------- */

/* The first line of a field, `text` of it before its end. One without a colon stays as it is, and is no field. */
static void take_field(struct message_header *h, const char *line, size_t len, size_t text, bool whole)
{
	size_t colon, name = field_name(line, text, &colon);
	enum header_class class = name ? classify(h, line, name) : HEADER_NONE;

	if (name && colon == text) {
		/* No colon: in a whole line that makes it no field. When thousands of blanks follow the stamp's name and
		 * nobody can say yet, it is taken for a stamp, which will not be valid. */
		if (whole || class != HEADER_STAMP)
			class = HEADER_NONE;
		name = 0;
	}
	begin_field(h, class);
	h->field_captured = class != HEADER_STAMP && class != HEADER_NONE &&
	                    (!h->looks || policy_looks_at_header(h->looks, line, name));
	capture_line(h, line, len, name, colon);
	if (name)
		add_value(h, line + colon + 1, len - colon - 1);
}

/* A line, or as much of it as is held at most. Returns whether it is passed on. */
static bool take_line(struct message_header *h, const char *line, size_t len, bool whole)
{
	size_t text = len;

	if (text && line[text - 1] == '\n')
		text--;
	if (text && text < len && line[text - 1] == '\r')
		text--;
	if (whole && text == 0) {
		finish_field(h);
		h->done = true;
		return true;
	}
	if (line[0] == ' ' || line[0] == '\t') {
		capture_line(h, line, len, 0, 0);
		add_value(h, line, len);
	} else {
		finish_field(h);
		take_field(h, line, len, text, whole);
	}
	return h->class != HEADER_STAMP;
}

static void pass(struct message_header *h, const char *p, size_t len)
{
	h->kept += len;
	for (size_t i = 0; h->find_8bit && !h->has_8bit && i < len; i++)
		h->has_8bit = (unsigned char)p[i] > 127;
	if (len)
		h->sink(h->ctx, p, len);
}

/* Adds to the line that a border cut, and takes it when it is whole or as long as is held. Returns bytes used. */
static size_t hold_line(struct message_header *h, const char *p, size_t len, bool has_end)
{
	size_t room = HEADER_LINE_HELD - h->line.len, n = len < room ? len : room;
	bool whole = has_end && n == len;

	str_add_mem(&h->line, p, n);
	if (!whole && h->line.len < HEADER_LINE_HELD)
		return n;
	h->in_long_line = !whole;
	if (take_line(h, h->line.data, h->line.len, whole))
		pass(h, h->line.data, h->line.len);
	else
		h->cut += h->line.len;
	str_clear(&h->line);
	return n;
}

/* More of a line whose beginning has been taken already. */
static bool take_rest(struct message_header *h, const char *p, size_t len, bool has_end)
{
	capture_line(h, p, len, 0, 0);
	add_value(h, p, len);
	h->in_long_line = !has_end;
	return h->class != HEADER_STAMP;
}

static void feed_body(struct message_header *h, const char *p, size_t len)
{
	capture_body(h, p, len);
	h->sink(h->ctx, p, len);
}

/*
 * Lines that are whole within the chunk are looked at where they are; `run` is where the bytes begin that are to be
 * passed on in one go. What is decided about a line must not depend on where chunks end: so a line is looked at whole,
 * or by its first HEADER_LINE_HELD bytes, either way.
 */
static const char *feed_fields(struct message_header *h, const char *p, const char *end)
{
	const char *run = p;

	while (p < end && !h->done) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)((lf ? lf + 1 : end) - p);
		bool keep;

		if (!h->in_long_line && (h->line.len || !lf || len > HEADER_LINE_HELD)) {
			pass(h, run, (size_t)(p - run));
			p += hold_line(h, p, len, lf != NULL);
			run = p;
			continue;
		}
		keep = h->in_long_line ? take_rest(h, p, len, lf != NULL) : take_line(h, p, len, true);
		if (!keep) {
			pass(h, run, (size_t)(p - run));
			h->cut += len;
			run = p + len;
		}
		p += len;
	}
	pass(h, run, (size_t)(p - run));
	return p;
}

void message_header_feed(struct message_header *h, const char *p, size_t len)
{
	const char *end = p + len;

	if (!h->done)
		p = feed_fields(h, p, end);
	if (p < end)
		feed_body(h, p, (size_t)(end - p));
}

/* Takes the line breaks out, keeps the white space, trims both ends. */
static void unfold(struct str *value)
{
	size_t n = 0;

	for (size_t i = 0; i < value->len; i++)
		if (value->data[i] != '\r' && value->data[i] != '\n')
			value->data[n++] = value->data[i];
	if (value->len)
		value->data[n] = '\0';
	value->len = n;
	str_trim(value);
}

void message_header_end(struct message_header *h)
{
	if (h->line.len) {
		if (take_line(h, h->line.data, h->line.len, false))
			pass(h, h->line.data, h->line.len);
		else
			h->cut += h->line.len;
		str_clear(&h->line);
	}
	finish_field(h);
	str_trim(&h->stamp);
	unfold(&h->message_id);
	unfold(&h->tls_required);
}

bool message_header_tls_optional(const struct message_header *h)
{
	const struct str *value = &h->tls_required;

	return h->n_tls_required == 1 && !value->failed && ascii_ieq_mem(value->data, value->len, "No", 2);
}
