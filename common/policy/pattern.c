#include "policy/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include "base/log.h"
#include "base/mem.h"

/*
 * Limits hold for one start position, so a long subject is searched in slices of start positions with a look at the
 * clock between them: a body of 1 MB must not buy an hour of CPU with a pattern that is merely quadratic. And they hold
 * for one subject: what patterns known to give up spend on giving up is bounded for all of an evaluation, so that
 * neither 10,000 fields of a header do. Patterns that never gave up are always tried.
 */
#define MATCH_LIMIT 100000
#define DEPTH_LIMIT 1000
#define JIT_STACK_MAX (1024 * 1024)
#define SLICE_MIN 256       /* start positions between looks at the clock, at first */
#define SLICE_MAX 65536     /* and at most, while they go quickly */
#define BUDGET_US 200000    /* CPU time one pattern may spend on one subject */
#define WASTED_MAX_US 50000 /* and all that gave up before may spend on one message in vain */
#define SLICE_QUICK_US 500  /* a slice quicker than this doubles the next */

struct pattern {
	pcre2_code *code;
	char *text, *where;
	bool whole; /* \G or a verb: a search in slices would not mean the same */
	_Atomic uint64_t limit_hits;
};

struct pattern_scratch {
	pcre2_match_data *data;
	pcre2_match_context *context;
	pcre2_jit_stack *stack; /* only once the machine's own stack was too small */
	uint64_t wasted_us;     /* by patterns that had given up before, and did again */
};

struct pattern *pattern_new(const char *text, const char *where, struct error *err)
{
	int code;
	PCRE2_SIZE offset;
	uint32_t options = PCRE2_NEVER_UTF | PCRE2_USE_OFFSET_LIMIT;
	pcre2_code *re =
	        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, options, &code, &offset, NULL);
	if (re == NULL) {
		PCRE2_UCHAR words[256];
		pcre2_get_error_message(code, words, sizeof(words));
		error_set(err, "pattern: %s (at byte %zu of the pattern)", (const char *)words,
		        (size_t)offset + 1);
		return NULL;
	}
	/* Without JIT (a hardened kernel may refuse it) the interpreter does the same, slower. */
	pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
	struct pattern *p = mem_zalloc(sizeof(*p));
	p->code = re;
	p->text = mem_strdup(text);
	p->where = mem_strdup(where);
	p->whole = strstr(text, "\\G") != NULL || strstr(text, "(*") != NULL;
	return p;
}

void pattern_free(struct pattern **pp)
{
	struct pattern *p = *pp;
	if (p == NULL)
		return;
	pcre2_code_free(p->code);
	mem_free(&p->text);
	mem_free(&p->where);
	mem_free(pp);
}

uint64_t pattern_limit_hits(const struct pattern *p)
{
	return atomic_load_explicit(&p->limit_hits, memory_order_relaxed);
}

static struct pattern_scratch *scratch_new(void)
{
	struct pattern_scratch *s = mem_zalloc(sizeof(*s));
	s->data = pcre2_match_data_create(1, NULL);
	s->context = pcre2_match_context_create(NULL);
	if (s->data == NULL || s->context == NULL)
		abort(); /* as mem.h: allocation succeeds or ends the process */
	pcre2_set_match_limit(s->context, MATCH_LIMIT);
	pcre2_set_depth_limit(s->context, DEPTH_LIMIT);
	return s;
}

void pattern_scratch_free(struct pattern_scratch **pp)
{
	struct pattern_scratch *s = *pp;
	if (s == NULL)
		return;
	pcre2_match_data_free(s->data);
	pcre2_match_context_free(s->context);
	if (s->stack != NULL)
		pcre2_jit_stack_free(s->stack);
	mem_free(pp);
}

static uint64_t cpu_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int match_once(
        struct pattern *p, struct pattern_scratch *s, const char *subject, size_t len, size_t start)
{
	int rc = pcre2_match(p->code, (PCRE2_SPTR)subject, len, start, 0, s->data, s->context);
	if (rc != PCRE2_ERROR_JIT_STACKLIMIT || s->stack != NULL)
		return rc;
	s->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_MAX, NULL);
	if (s->stack == NULL)
		return rc;
	pcre2_jit_stack_assign(s->context, NULL, s->stack);
	return pcre2_match(p->code, (PCRE2_SPTR)subject, len, start, 0, s->data, s->context);
}

static int match_sliced(struct pattern *p, struct pattern_scratch *s, const char *subject, size_t len)
{
	uint64_t begin = cpu_us(), before = begin;
	size_t start = 0, slice = SLICE_MIN;
	int rc = PCRE2_ERROR_NOMATCH;
	while (start <= len) {
		size_t last = len - start < slice ? len : start + slice - 1;
		pcre2_set_offset_limit(s->context, last);
		rc = match_once(p, s, subject, len, start);
		if (rc != PCRE2_ERROR_NOMATCH)
			break;
		uint64_t now = cpu_us();
		if (now - begin > BUDGET_US && last < len) {
			rc = PCRE2_ERROR_MATCHLIMIT;
			break;
		}
		if (now - before < SLICE_QUICK_US && slice < SLICE_MAX)
			slice *= 2;
		before = now;
		start = last + 1;
	}
	pcre2_set_offset_limit(s->context, PCRE2_UNSET);
	return rc;
}

static int match(struct pattern *p, struct pattern_scratch *s, const char *subject, size_t len)
{
	if (len > SLICE_MIN && !p->whole)
		return match_sliced(p, s, subject, len);
	return match_once(p, s, subject, len, 0);
}

/* One that has given up before: on the clock. */
static int match_suspect(struct pattern *p, struct pattern_scratch *s, const char *subject, size_t len)
{
	if (s->wasted_us > WASTED_MAX_US)
		return PCRE2_ERROR_MATCHLIMIT;
	uint64_t begin = cpu_us();
	int rc = match(p, s, subject, len);
	if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
		s->wasted_us += cpu_us() - begin;
	return rc;
}

bool pattern_match(struct pattern *p, struct pattern_scratch **scratch, const char *subject, size_t len)
{
	if (*scratch == NULL)
		*scratch = scratch_new();
	if (subject == NULL)
		subject = "";
	int rc = pattern_limit_hits(p) == 0 ? match(p, *scratch, subject, len)
	                                    : match_suspect(p, *scratch, subject, len);
	if (rc >= 0)
		return true;
	if (rc == PCRE2_ERROR_NOMATCH)
		return false;
	if (atomic_fetch_add_explicit(&p->limit_hits, 1, memory_order_relaxed) == 0) {
		PCRE2_UCHAR words[128];
		char quoted[256];
		pcre2_get_error_message(rc, words, sizeof(words));
		log_warning(
		        "%s: pattern %s gave up (%s): taken as no match; not logged again for this pattern",
		        p->where, log_quote(p->text, strlen(p->text), quoted, sizeof(quoted)),
		        (const char *)words);
	}
	return false;
}
