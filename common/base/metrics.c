#include "config.h"
#include "base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/mem.h"
#include "base/utf8.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

struct sample {
	/* Each on its own cache line: owners on different threads do not slow each other down. */
	_Alignas(64) metric value;
	char *key;          /* owns; name, '{', labels */
	const char *labels; /* into key; "" = none */
	struct sample *next;
	UT_hash_handle hh;
};

struct family {
	char *name, *help; /* owns */
	enum metric_type type;
	struct sample *first, **tail; /* in the order they were registered */
	struct family *next;
	UT_hash_handle hh;
};

struct metrics {
	pthread_mutex_t lock;
	struct sample *samples;  /* owns; by key */
	struct family *families; /* owns; by name */
	struct family *first, **tail;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = mem_zalloc(sizeof(*m));

	(void)pthread_mutex_init(&m->lock, NULL);
	m->tail = &m->first;
	return m;
}

void metrics_free(struct metrics **metrics)
{
	struct metrics *m = *metrics;
	struct sample *sample, *next_sample;
	struct family *family, *next_family;

	if (m == NULL)
		return;
	HASH_ITER (hh, m->samples, sample, next_sample) {
		HASH_DEL(m->samples, sample);
		mem_free(&sample->key);
		free(sample);
	}
	HASH_ITER (hh, m->families, family, next_family) {
		HASH_DEL(m->families, family);
		mem_free(&family->name);
		mem_free(&family->help);
		free(family);
	}
	(void)pthread_mutex_destroy(&m->lock);
	mem_free(metrics);
}

static struct family *metrics_family(
        struct metrics *m, const char *name, enum metric_type type, const char *help)
{
	struct family *family;

	HASH_FIND_STR(m->families, name, family);
	if (family == NULL) {
		family = mem_zalloc(sizeof(*family));
		family->name = mem_strdup(name);
		family->help = mem_strdup(help != NULL ? help : "");
		family->type = type;
		family->tail = &family->first;
		HASH_ADD_KEYPTR(hh, m->families, family->name, strlen(family->name), family);
		*m->tail = family;
		m->tail = &family->next;
	}
	assert(family->type == type);
	return family;
}

static struct sample *sample_new(struct family *family, char *key)
{
	struct sample *sample = aligned_alloc(_Alignof(struct sample), sizeof(*sample));

	if (sample == NULL)
		abort();
	memset(sample, 0, sizeof(*sample));
	sample->key = key;
	sample->labels = key + strlen(family->name) + 1;
	*family->tail = sample;
	family->tail = &sample->next;
	return sample;
}

static metric *metrics_get(
        struct metrics *m, const char *name, enum metric_type type, const char *labels, const char *help)
{
	char *key = mem_printf("%s{%s", name, labels != NULL ? labels : "");
	struct sample *sample;

	(void)pthread_mutex_lock(&m->lock);
	HASH_FIND_STR(m->samples, key, sample);
	if (sample == NULL) {
		sample = sample_new(metrics_family(m, name, type, help), key);
		HASH_ADD_KEYPTR(hh, m->samples, sample->key, strlen(sample->key), sample);
		key = NULL;
	}
	(void)pthread_mutex_unlock(&m->lock);
	mem_free(&key);
	return &sample->value;
}

metric *metrics_counter(struct metrics *m, const char *name, const char *labels, const char *help)
{
	return metrics_get(m, name, METRIC_COUNTER, labels, help);
}

metric *metrics_gauge(struct metrics *m, const char *name, const char *labels, const char *help)
{
	return metrics_get(m, name, METRIC_GAUGE, labels, help);
}

/* Backslash, double quote and line feed are all that the text format can escape; other control characters and
 * bytes that are not UTF-8 become U+FFFD. */
static void add_escaped(struct str *out, const char *text, bool quotes)
{
	size_t left = strlen(text);

	while (left > 0) {
		uint32_t code = 0;
		size_t n = utf8_next(text, left, &code);

		if (n == 0 || (utf8_is_control(code) && code != '\n'))
			str_add(out, "\xEF\xBF\xBD");
		else if (code == '\n')
			str_add(out, "\\n");
		else if (code == '\\')
			str_add(out, "\\\\");
		else if (code == '"' && quotes)
			str_add(out, "\\\"");
		else
			str_add_mem(out, text, n);
		n = n > 0 ? n : 1;
		text += n;
		left -= n;
	}
}

void metrics_label(struct str *out, const char *key, const char *value)
{
	if (out->len > 0)
		str_add_char(out, ',');
	str_add(out, key);
	str_add(out, "=\"");
	add_escaped(out, value, true);
	str_add_char(out, '"');
}

void metrics_print(struct metrics *m, struct str *out)
{
	(void)pthread_mutex_lock(&m->lock);
	for (struct family *family = m->first; family != NULL; family = family->next) {
		str_printf(out, "# HELP %s ", family->name);
		add_escaped(out, family->help, false);
		str_printf(out, "\n# TYPE %s %s\n", family->name,
		        family->type == METRIC_COUNTER ? "counter" : "gauge");
		for (struct sample *sample = family->first; sample != NULL; sample = sample->next) {
			str_add(out, family->name);
			if (sample->labels[0] != '\0') {
				str_add_char(out, '{');
				str_add(out, sample->labels);
				str_add_char(out, '}');
			}
			str_printf(out, " %" PRIu64 "\n", metric_get(&sample->value));
		}
	}
	(void)pthread_mutex_unlock(&m->lock);
}
