#include "config.h"
#include "milter/milter_message.h"

#include <string.h>
#include "base/mem.h"

struct milter_message *milter_message_new(struct snapshot *snapshot, const char *mailfrom)
{
	struct milter_message *msg = mem_zalloc(sizeof(*msg));
	msg->snapshot = snapshot;
	msg->pool = pool_new(1024);
	msg->mailfrom = pool_strdup(msg->pool, mailfrom);
	str_init(&msg->body);
	if (snapshot->needs.body)
		msg->body_limit = (size_t)conf_process(policy_conf(snapshot->policy))->milter_body_limit;
	msg->size = 2; /* the empty line */
	return msg;
}

void milter_message_free(struct milter_message **pp)
{
	struct milter_message *msg = *pp;
	if (msg == NULL)
		return;
	snapshot_unref(&msg->snapshot);
	mem_free(&msg->headers);
	str_free(&msg->body);
	pool_free(&msg->pool);
	mem_free(pp);
}

/* Blanks before the colon belong to neither name nor value ("X-Binding : a" is a stamp too). */
static size_t name_length(const char *name)
{
	size_t n = strlen(name);
	while (n > 0 && (name[n - 1] == ' ' || name[n - 1] == '\t'))
		n--;
	return n;
}

static void keep_header(struct milter_message *msg, const char *name, size_t name_len, const char *value)
{
	size_t len = strlen(value);
	if (msg->header_bytes + name_len + len > MESSAGE_HEADERS_MAX) {
		msg->overflow = true;
		return;
	}
	msg->header_bytes += name_len + len + sizeof(struct fact_header);
	if ((msg->n_headers & (msg->n_headers - 1)) == 0)
		msg->headers = mem_array(
		        msg->headers, msg->n_headers ? msg->n_headers * 2 : 1, sizeof(*msg->headers));
	msg->headers[msg->n_headers++] = (struct fact_header){.name = pool_strndup(msg->pool, name, name_len),
	        .value = pool_strndup(msg->pool, value, len),
	        .name_len = name_len,
	        .value_len = len};
}

/* Bytes of the line as it was sent: libmilter gives line breaks inside as LF or CRLF. */
static int64_t sent_size(const char *name, const char *value, bool lead_space)
{
	size_t n = strlen(name) + 1 + !lead_space + strlen(value) + 2;
	for (const char *p = strchr(value, '\n'); p != NULL; p = strchr(p + 1, '\n'))
		n += p == value || p[-1] != '\r';
	return (int64_t)n;
}

void milter_message_header(struct milter_message *msg, const struct milter *m, const char *name,
        const char *value, bool lead_space)
{
	size_t len = name_length(name);
	if (ascii_ieq_mem(name, len, m->header, m->header_len)) {
		msg->n_stamps++;
		return;
	}
	msg->size += sent_size(name, value, lead_space);
	if (msg->message_id == NULL && ascii_ieq_mem(name, len, "Message-ID", 10))
		msg->message_id = pool_strdup(msg->pool, value);
	if (policy_looks_at_header(msg->snapshot->policy, name, len))
		keep_header(msg, name, len, value);
}

bool milter_message_body(struct milter_message *msg, const unsigned char *chunk, size_t len)
{
	msg->size += (int64_t)len;
	size_t room = msg->body_limit - msg->body.len;
	str_add_mem(&msg->body, chunk, len < room ? len : room);
	return msg->body.len == msg->body_limit;
}

void milter_message_facts(const struct milter_message *msg, struct facts *f)
{
	f->mailfrom = msg->mailfrom;
	f->headers = msg->headers;
	f->n_headers = msg->n_headers;
	f->body = msg->snapshot->needs.body ? msg->body.data : NULL;
	f->body_len = msg->body.len;
	f->size = msg->snapshot->needs.size ? msg->size : -1;
}
