#include "config.h"
#include "spool/settings.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/mem.h"

struct setting *settings_find(struct settings *s, const char *key)
{
	struct setting *found;

	HASH_FIND_STR(s->table, key, found);
	return found;
}

static void setting_free(struct setting *setting)
{
	mem_free(&setting->key);
	mem_free(&setting->value);
	mem_free(&setting);
}

void settings_put(struct settings *s, const char *key, const char *value, const struct where *at,
        void (*live)(void *ctx, const struct where *, bool more), void *ctx)
{
	struct setting *setting = settings_find(s, key);

	if (setting != NULL) {
		live(ctx, &setting->at, false);
		if (value == NULL) {
			HASH_DEL(s->table, setting);
			setting_free(setting);
			return;
		}
		mem_free(&setting->value);
	} else {
		if (value == NULL)
			return;
		setting = mem_zalloc(sizeof(*setting));
		setting->key = mem_strdup(key);
		HASH_ADD_KEYPTR(hh, s->table, setting->key, strlen(setting->key), setting);
	}
	setting->value = mem_strdup(value);
	setting->at = *at;
	live(ctx, at, true);
}

void settings_free(struct settings *s)
{
	struct setting *setting, *next;

	HASH_ITER (hh, s->table, setting, next) {
		HASH_DEL(s->table, setting);
		setting_free(setting);
	}
}
