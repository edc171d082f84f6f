/*
 * option_table - the rows of options.def as data
 *
 * Threads    Constant.
 */
#ifndef CONF_OPTION_TABLE_H
#define CONF_OPTION_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include "conf/options.h"

enum option_type {
	TYPE_UINT,
	TYPE_UINT_NONE,
	TYPE_DURATION,
	TYPE_SIZE,
	TYPE_RATE,
	TYPE_BOOL,
	TYPE_ENUM,
	TYPE_EHLO,
	TYPE_GATEWAY,
	TYPE_HOSTNAME,
	TYPE_FIELDNAME,
	TYPE_USERNAME,
	TYPE_PRIORITY,
	TYPE_WORD,
	TYPE_SECRET,
	TYPE_PATH,
	TYPE_NETLIST,
	TYPE_HOSTRULES,
	TYPE_ROUTES,
	TYPE_PROXY,
	TYPE_RESPONSES,
	TYPE_CURFEW,
	TYPE_SOCKET,
	TYPE_SOCKETS,
	TYPE_SERVERS,
	TYPE_PATHS,
	TYPE_ADDRESSES,
};

/* The kinds of container an option may stand in */
enum scope_kind { SCOPE_GLOBAL = 1, SCOPE_GROUP = 2, SCOPE_BINDING = 4, SCOPE_DOMAIN = 8, SCOPE_HOST = 16 };

enum option_part { PART_CONN, PART_DELIV, PART_SCHED, PART_GLOBAL, PART_SPECIAL, PART_PROCESS };
enum option_reload { RELOAD_AT_ONCE, RELOAD_RESTART };

struct option_word {
	const char *tag, *word;
	int value;
};

struct option_row {
	const char *section; /* NULL in policy files and at the top of bindpost.json */
	const char *name;
	const char *full_name; /* "handoff.listen" */
	enum option_type type;
	const char *tag; /* the enum's, for TYPE_ENUM */
	enum option_part part;
	enum option_reload reload;
	unsigned scopes;
	const char *def, *min, *max, *text;
};

/* Numbers of the rows: policy files */
enum option_id {
#define OPTION(name, type, part, scopes, def, min, max, text) OPT_##name,
#include "conf/options.def"
	OPT_COUNT
};
/* ... and bindpost.json */
enum process_id {
#define PROCESS(section, name, type, def, min, max, reload, text) PROC_##section##_##name,
#define PROCESS_TOP(name, type, def, min, max, reload, text) PROC_##name,
#include "conf/options.def"
	PROC_COUNT
};

extern const struct option_row option_rows[OPT_COUNT];
extern const struct option_row process_rows[PROC_COUNT];

/* -1 if there is none */
int option_find(const char *name);
int process_find(const char *section /* NULL = top */, const char *name);
bool process_section_exists(const char *section);
/* Words of an enum: calls fn for each in order */
const struct option_word *option_word_named(const char *tag, const char *word);
const struct option_word *option_word_of(const char *tag, int value);
const struct option_word *option_words(size_t *n); /* all of all enums */
/* "global", "binding_groups", ...: where containers of that kind stand */
const char *scope_kind_name(enum scope_kind);

#endif
