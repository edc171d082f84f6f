/*
 * cli_spool - `bindpost spool`: what its parts share
 *
 * The portable form of a message is two files: ID.eml has its bytes as they were received (CRLF, without the stamp),
 * ID.json its envelope and what became of it so far (bindpost-spool(7)).
 */
#ifndef CONTROL_CLI_SPOOL_H
#define CONTROL_CLI_SPOOL_H

#include "control/cli.h"
#include "spool/offline.h"

#define SPOOL_SETTINGS_FILE "settings.json"

int cli_spool_check(struct cli *, const char *path);
int cli_spool_export(struct cli *, const char *path, const char *to);
int cli_spool_import(struct cli *, const char *path, const char *from);

/* cli_spool_envelope.c */
void envelope_print(const struct spool_live *, bool has_body, struct str *out);
/* Foreign text, checked; what its deliveries had come to is added to `states`. NULL with the reason. */
struct message *envelope_parse(const char *text, size_t n, struct spool_results *states, struct error *);

#endif
