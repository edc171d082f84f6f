/*
 * stamp_read - the value of the header back to a decision, strictly
 *
 * stamp  = target [";" "b=" name] [";" "s=" 8HEXDIG] [";" "p=" ("high" / "normal" / "low")]
 *          [";" "r=" open *("," open)] [";" "t=" 1*19DIGIT ";" "m=" ("0" / "1") ";" "h=" 43base64url]
 * open   = name "/" 8HEXDIG "/" target ["/" 8HEXDIG]
 * target = ["group:"] name
 * name   = 1*64(%x21-7E except : ; , / " ')
 *
 * White space may stand behind ";" and ",", and around the whole; anything else is a syntax error, as is another
 * order, a parameter twice, or one that is not listed.
 */
#include "policy/stamp_internal.h"

#include <gnutls/gnutls.h>
#include <string.h>
#include "policy/policy_internal.h"

#define DAY_US (86400 * SECOND_US)

static const char *const reasons[] = {
        "ok", "syntax", "two", "no_mac", "bad_mac", "expired", "future", "unknown_binding"};

const char *stamp_reason_name(enum stamp_reason r)
{
	return reasons[r];
}

struct reader {
	const char *begin, *p, *end;
	struct decision *d;
	size_t open_size;
	const char *signed_end; /* the ";" before h= */
	const char *mac;        /* STAMP_MAC_LEN bytes; NULL = none */
	bool with_message_id;
	uint64_t time;
};

static bool is_white(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool take(struct reader *r, char c)
{
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	if (c == ';' || c == ',')
		while (r->p < r->end && is_white(*r->p))
			r->p++;
	return true;
}

static bool take_word(struct reader *r, const char *word)
{
	size_t n = strlen(word);
	if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
		return false;
	r->p += n;
	return true;
}

static size_t name_len(const struct reader *r)
{
	const char *p = r->p;
	while (p<r->end && * p> ' ' && *p < 0x7f && strchr(":;,/\"'", *p) == NULL)
		p++;
	return (size_t)(p - r->p);
}

static bool read_name(struct reader *r, const char **out)
{
	size_t n = name_len(r);
	if (n < 1 || n > 64)
		return false;
	*out = pool_strndup(r->d->pool, r->p, n);
	r->p += n;
	return true;
}

static bool read_target(struct reader *r, const char **out)
{
	const char *begin = r->p, *name;
	take_word(r, "group:");
	if (!read_name(r, &name))
		return false;
	*out = pool_strndup(r->d->pool, begin, (size_t)(r->p - begin));
	return true;
}

static bool read_hex8(struct reader *r, uint32_t *out)
{
	uint32_t v = 0;
	if (r->end - r->p < 8)
		return false;
	for (int i = 0; i < 8; i++, r->p++) {
		char c = ascii_lower(*r->p);
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	*out = v;
	return true;
}

static struct open_rule *add_open(struct reader *r)
{
	struct decision *d = r->d;
	if (d->n_open == r->open_size) {
		r->open_size = r->open_size ? r->open_size * 2 : 4;
		struct open_rule *more = pool_alloc(d->pool, r->open_size * sizeof(*more));
		if (d->n_open > 0)
			memcpy(more, d->open, d->n_open * sizeof(*more));
		d->open = more;
	}
	return &d->open[d->n_open++];
}

static bool read_open(struct reader *r)
{
	struct open_rule *o = add_open(r);
	if (!read_name(r, &o->name) || !take(r, '/'))
		return false;
	const char *digest = r->p;
	uint32_t ignored;
	if (!read_hex8(r, &ignored) || !take(r, '/') || !read_target(r, &o->target.name))
		return false;
	for (int i = 0; i < 8; i++)
		o->digest[i] = ascii_lower(digest[i]);
	o->digest[8] = '\0';
	o->target.has_sticky = take(r, '/');
	return !o->target.has_sticky || read_hex8(r, &o->target.sticky);
}

static bool read_b(struct reader *r)
{
	if (!read_name(r, &r->d->rule))
		return false;
	r->d->claimed = strcmp(r->d->rule, "default") != 0;
	return true;
}

static bool read_s(struct reader *r)
{
	r->d->target.has_sticky = true;
	return read_hex8(r, &r->d->target.sticky);
}

static bool read_p(struct reader *r)
{
	for (enum priority p = PRIORITY_HIGH; p <= PRIORITY_LOW; p++)
		if (take_word(r, priority_name(p))) {
			r->d->priority = p;
			return true;
		}
	return false;
}

static bool read_r(struct reader *r)
{
	do {
		if (!read_open(r))
			return false;
	} while (take(r, ','));
	return true;
}

static bool read_t(struct reader *r)
{
	const char *begin = r->p;
	for (; r->p < r->end && *r->p >= '0' && *r->p <= '9' && r->p - begin < 19; r->p++)
		r->time = r->time * 10 + (uint64_t)(*r->p - '0');
	return r->p > begin;
}

static bool read_m(struct reader *r)
{
	r->with_message_id = r->p < r->end && *r->p == '1';
	return take(r, '0') || take(r, '1');
}

static bool is_base64url(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '_';
}

static bool read_h(struct reader *r)
{
	r->mac = r->p;
	if (r->end - r->p < STAMP_MAC_LEN)
		return false;
	for (int i = 0; i < STAMP_MAC_LEN; i++, r->p++)
		if (!is_base64url(*r->p))
			return false;
	return true;
}

static const struct {
	const char *name;
	bool (*read)(struct reader *);
} params[] = {{"b=", read_b}, {"s=", read_s}, {"p=", read_p}, {"r=", read_r}, {"t=", read_t}, {"m=", read_m},
        {"h=", read_h}};
enum { PARAM_T = 4, PARAM_M, PARAM_H };

static bool read_all(struct reader *r)
{
	size_t next = 0;
	unsigned seen = 0;
	if (!read_target(r, &r->d->target.name))
		return false;
	while (r->p < r->end) {
		const char *semicolon = r->p;
		if (!take(r, ';'))
			return false;
		while (next < array_len(params) && !take_word(r, params[next].name))
			next++;
		if (next == array_len(params))
			return false;
		if (next == PARAM_H)
			r->signed_end = semicolon;
		if (!params[next].read(r))
			return false;
		seen |= 1u << next++;
	}
	seen >>= PARAM_T;
	return seen == 0 || seen == 7; /* t, m and h: all or none */
}

static void trim(struct reader *r)
{
	while (r->p < r->end && is_white(*r->p))
		r->p++;
	while (r->end > r->p && is_white(r->end[-1]))
		r->end--;
	r->begin = r->p;
}

static bool mac_is_right(const struct reader *r, const struct stamp_keys *keys, const char *message_id)
{
	struct str value;
	char mac[STAMP_MAC_LEN + 1];
	bool right = false;
	str_init(&value);
	for (const char *p = r->begin; p < r->signed_end; p++)
		if (!is_white(*p))
			str_add_char(&value, *p);
	for (size_t i = 0; i < stamp_keys_count(keys); i++) {
		stamp_mac(keys, i, value.data, value.len, r->with_message_id ? message_id : NULL, mac);
		right |= gnutls_memcmp(mac, r->mac, STAMP_MAC_LEN) == 0;
	}
	str_free(&value);
	return right;
}

static enum stamp_reason check_mac(const struct reader *r, const struct stamp_keys *keys, uint64_t lifetime_s,
        uint64_t wall_us, const char *message_id)
{
	if (r->mac == NULL)
		return STAMP_NO_MAC;
	if (r->with_message_id && message_id == NULL)
		return STAMP_BAD_MAC;
	if (!mac_is_right(r, keys, message_id))
		return STAMP_BAD_MAC;
	uint64_t now = wall_us / SECOND_US;
	if (r->time > now)
		return r->time - now > DAY_US / SECOND_US ? STAMP_FUTURE : STAMP_OK;
	return now - r->time > lifetime_s ? STAMP_EXPIRED : STAMP_OK;
}

static bool names_known(const struct decision *d, stamp_known *known, void *ctx)
{
	bool ok = known(ctx, d->target.name);
	for (size_t i = 0; ok && i < d->n_open; i++)
		ok = known(ctx, d->open[i].target.name);
	return ok;
}

enum stamp_reason stamp_read_known(const char *raw, size_t len, stamp_known *known, void *ctx,
        const struct stamp_keys *keys, uint64_t lifetime_s, uint64_t wall_us, const char *message_id,
        struct decision *out)
{
	struct reader r = {.p = raw, .end = raw + len, .d = out};
	enum stamp_reason reason = STAMP_OK;
	*out = (struct decision){.pool = pool_new(512), .claimed = true};
	trim(&r);
	if (!read_all(&r))
		reason = STAMP_SYNTAX;
	if (reason == STAMP_OK && keys != NULL)
		reason = check_mac(&r, keys, lifetime_s, wall_us, message_id);
	if (reason == STAMP_OK && !names_known(out, known, ctx))
		reason = STAMP_UNKNOWN_BINDING;
	if (reason != STAMP_OK)
		decision_free(out);
	return reason;
}

static bool known_to_conf(void *ctx, const char *target)
{
	return policy_target_known(ctx, target);
}

enum stamp_reason stamp_read(const char *raw, size_t len, const struct policy *p,
        const struct stamp_keys *keys, uint64_t lifetime_s, uint64_t wall_us, const char *message_id,
        struct decision *out)
{
	return stamp_read_known(
	        raw, len, known_to_conf, policy_conf(p), keys, lifetime_s, wall_us, message_id, out);
}
