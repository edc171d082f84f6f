#include "config.h"
#include "conf/option_table.h"

#include <string.h>
#include "base/mem.h"

/* The scope letters of options.def */
enum { G = SCOPE_GLOBAL, BG = SCOPE_GROUP, B = SCOPE_BINDING, D = SCOPE_DOMAIN, H = SCOPE_HOST };
enum { AT_ONCE = RELOAD_AT_ONCE, RESTART = RELOAD_RESTART };

/* type -> "TYPE_x, tag": ENUM(tag) is the only one with a tag */
#define TYPE_AND_TAG_UINT TYPE_UINT, NULL
#define TYPE_AND_TAG_UINT_NONE TYPE_UINT_NONE, NULL
#define TYPE_AND_TAG_DURATION TYPE_DURATION, NULL
#define TYPE_AND_TAG_SIZE TYPE_SIZE, NULL
#define TYPE_AND_TAG_RATE TYPE_RATE, NULL
#define TYPE_AND_TAG_BOOL TYPE_BOOL, NULL
#define TYPE_AND_TAG_ENUM(tag) TYPE_ENUM, #tag
#define TYPE_AND_TAG_EHLO TYPE_EHLO, NULL
#define TYPE_AND_TAG_GATEWAY TYPE_GATEWAY, NULL
#define TYPE_AND_TAG_HOSTNAME TYPE_HOSTNAME, NULL
#define TYPE_AND_TAG_FIELDNAME TYPE_FIELDNAME, NULL
#define TYPE_AND_TAG_USERNAME TYPE_USERNAME, NULL
#define TYPE_AND_TAG_PRIORITY TYPE_PRIORITY, NULL
#define TYPE_AND_TAG_WORD TYPE_WORD, NULL
#define TYPE_AND_TAG_SECRET TYPE_SECRET, NULL
#define TYPE_AND_TAG_PATH TYPE_PATH, NULL
#define TYPE_AND_TAG_NETLIST TYPE_NETLIST, NULL
#define TYPE_AND_TAG_HOSTRULES TYPE_HOSTRULES, NULL
#define TYPE_AND_TAG_ROUTES TYPE_ROUTES, NULL
#define TYPE_AND_TAG_PROXY TYPE_PROXY, NULL
#define TYPE_AND_TAG_RESPONSES TYPE_RESPONSES, NULL
#define TYPE_AND_TAG_CURFEW TYPE_CURFEW, NULL
#define TYPE_AND_TAG_SOCKET TYPE_SOCKET, NULL
#define TYPE_AND_TAG_SOCKETS TYPE_SOCKETS, NULL
#define TYPE_AND_TAG_SERVERS TYPE_SERVERS, NULL
#define TYPE_AND_TAG_PATHS TYPE_PATHS, NULL
#define TYPE_AND_TAG_ADDRESSES TYPE_ADDRESSES, NULL

const struct option_row option_rows[OPT_COUNT] = {
#define OPTION(name, type, part, scopes, def, min, max, text)                                                \
	{NULL, #name, #name, TYPE_AND_TAG_##type, PART_##part, RELOAD_AT_ONCE, scopes, def, min, max, text},
#include "conf/options.def"
};

const struct option_row process_rows[PROC_COUNT] = {
#define PROCESS(section, name, type, def, min, max, reload, text)                                            \
	{#section, #name, #section "." #name, TYPE_AND_TAG_##type, PART_PROCESS, (enum option_reload)reload, \
	        0, def, min, max, text},
#define PROCESS_TOP(name, type, def, min, max, reload, text)                                                 \
	{NULL, #name, #name, TYPE_AND_TAG_##type, PART_PROCESS, (enum option_reload)reload, 0, def, min,     \
	        max, text},
#include "conf/options.def"
};

static const struct option_word words[] = {
#define ENUM_VALUE(tag, constant, word) {#tag, word, constant},
#define KNOWN_VALUE(tag, constant, word) {#tag, word, constant},
#include "conf/options.def"
};

int option_find(const char *name)
{
	for (int i = 0; i < OPT_COUNT; i++)
		if (strcmp(option_rows[i].name, name) == 0)
			return i;
	return -1;
}

int process_find(const char *section, const char *name)
{
	for (int i = 0; i < PROC_COUNT; i++) {
		const char *own = process_rows[i].section;
		if (!own != !section || (own && strcmp(own, section) != 0))
			continue;
		if (strcmp(process_rows[i].name, name) == 0)
			return i;
	}
	return -1;
}

bool process_section_exists(const char *section)
{
	for (int i = 0; i < PROC_COUNT; i++)
		if (process_rows[i].section && strcmp(process_rows[i].section, section) == 0)
			return true;
	return false;
}

const struct option_word *option_word_named(const char *tag, const char *word)
{
	for (size_t i = 0; i < array_len(words); i++)
		if (strcmp(words[i].tag, tag) == 0 && strcmp(words[i].word, word) == 0)
			return &words[i];
	return NULL;
}

const struct option_word *option_word_of(const char *tag, int value)
{
	for (size_t i = 0; i < array_len(words); i++)
		if (strcmp(words[i].tag, tag) == 0 && words[i].value == value)
			return &words[i];
	return NULL;
}

const struct option_word *option_words(size_t *n)
{
	*n = array_len(words);
	return words;
}

const char *scope_kind_name(enum scope_kind kind)
{
	switch (kind) {
	case SCOPE_GLOBAL:
		return "global";
	case SCOPE_GROUP:
		return "binding_groups";
	case SCOPE_BINDING:
		return "bindings";
	case SCOPE_DOMAIN:
		return "domains";
	case SCOPE_HOST:
		return "hosts";
	}
	return "";
}
