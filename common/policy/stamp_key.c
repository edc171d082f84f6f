/*
 * stamp_key - the key file and the MAC
 */
#include "policy/stamp_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_BYTES 32

struct stamp_keys {
	uint8_t (*keys)[KEY_BYTES];
	size_t n;
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_key(const char *text, size_t len, uint8_t out[KEY_BYTES])
{
	if (len != 2 * KEY_BYTES)
		return false;
	for (size_t i = 0; i < KEY_BYTES; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool add_line(struct stamp_keys *k, struct str *line, unsigned number, struct error *err)
{
	char *hash = strchr(line->data, '#');
	if (hash != NULL) {
		line->len = (size_t)(hash - line->data);
		line->data[line->len] = '\0';
	}
	str_trim(line);
	if (line->len == 0)
		return true;
	k->keys = mem_array(k->keys, k->n + 1, sizeof(*k->keys));
	if (!parse_key(line->data, line->len, k->keys[k->n]))
		return error_set(err, "line %u: a key is 64 hexadecimal digits", number);
	k->n++;
	return true;
}

static bool read_keys(FILE *file, struct stamp_keys *k, struct error *err)
{
	struct stat st;
	char buf[512];
	unsigned number = 0;
	bool ok = true;
	if (fstat(fileno(file), &st) != 0)
		return error_sys(err, "fstat");
	if (!S_ISREG(st.st_mode))
		return error_set(err, "is not a regular file");
	if (st.st_mode & (S_IRWXO | S_IWGRP))
		return error_set(err,
		        "its mode is %04o: keys must be neither readable by others nor writable by its group "
		        "(chmod 0640)",
		        (unsigned)(st.st_mode & 07777));
	while (ok && fgets(buf, sizeof(buf), file) != NULL) {
		struct str line;
		str_init(&line);
		str_add(&line, buf);
		ok = add_line(k, &line, ++number, err);
		gnutls_memset(line.data, 0, line.len);
		str_free(&line);
	}
	gnutls_memset(buf, 0, sizeof(buf));
	if (ok && ferror(file))
		return error_sys(err, "read");
	return ok && (k->n > 0 || error_set(err, "has no key; `bindpost stamp --new-key` prints one"));
}

struct stamp_keys *stamp_keys_load(const char *path, struct error *err)
{
	FILE *file = fopen(path, "re");
	if (file == NULL && errno == EACCES) {
		error_set(err,
		        "%s: Permission denied: the user of both daemons must be able to read it (chgrp, "
		        "chmod 0640)",
		        path);
		return NULL;
	}
	if (file == NULL) {
		error_sys(err, "%s", path);
		return NULL;
	}
	struct stamp_keys *k = mem_zalloc(sizeof(*k));
	setvbuf(file, NULL, _IONBF, 0); /* no copy of the keys in a buffer of stdio's */
	if (!read_keys(file, k, err)) {
		error_at(err, "%s", path);
		stamp_keys_free(&k);
	}
	fclose(file);
	return k;
}

struct stamp_keys *stamp_keys_of(const struct conf *conf, struct errors *errors)
{
	const char *path = conf_process(conf)->stamp_key_file;
	struct conf_origin origin;
	struct stamp_keys *keys;
	struct error err;
	if (path == NULL || (keys = stamp_keys_load(path, &err)) != NULL)
		return path == NULL ? NULL : keys;
	conf_eval(conf, "stamp.key_file", NULL, NULL, &origin, NULL);
	errors_add(errors, ERROR_ERROR, "%s.key_file: %s", origin.where, err.text);
	return NULL;
}

void stamp_keys_free(struct stamp_keys **pp)
{
	struct stamp_keys *k = *pp;
	if (k == NULL)
		return;
	if (k->keys != NULL)
		gnutls_memset(k->keys, 0, k->n * sizeof(*k->keys));
	mem_free(&k->keys);
	mem_free(pp);
}

size_t stamp_keys_count(const struct stamp_keys *k)
{
	return k->n;
}

static void base64url(const uint8_t *in, size_t n, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t bits = 0;
	int have = 0;
	for (size_t i = 0; i < n; i++) {
		bits = bits << 8 | in[i];
		for (have += 8; have >= 6; have -= 6)
			*out++ = digits[bits >> (have - 6) & 63];
	}
	if (have > 0)
		*out++ = digits[bits << (6 - have) & 63];
	*out = '\0';
}

/* Unfolded and trimmed: the MTA may hand the milter other line breaks and blanks than it sends on. */
static void add_unfolded(struct str *out, const char *raw)
{
	struct str s;
	str_init(&s);
	for (; *raw != '\0'; raw++)
		if (*raw != '\r' && *raw != '\n')
			str_add_char(&s, *raw);
	str_trim(&s);
	str_add_mem(out, s.data, s.len);
	str_free(&s);
}

void stamp_mac(const struct stamp_keys *k, size_t key, const char *value, size_t len, const char *message_id,
        char out[STAMP_MAC_LEN + 1])
{
	struct str text;
	uint8_t sum[32];
	str_init(&text);
	str_add_mem(&text, value, len);
	str_add_char(&text, '\n');
	if (message_id != NULL)
		add_unfolded(&text, message_id);
	gnutls_hmac_fast(GNUTLS_MAC_SHA256, k->keys[key], KEY_BYTES, text.data, text.len, sum);
	str_free(&text);
	base64url(sum, sizeof(sum), out);
}
