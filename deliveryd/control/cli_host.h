/*
 * cli_host - `bindpost check --host`: whether this machine can do what the configuration asks of it
 *
 * Purpose    Warnings, never errors: the files may be checked elsewhere than where they will be used.
 * Threads    One; waits for name servers, 30 s at most.
 */
#ifndef CONTROL_CLI_HOST_H
#define CONTROL_CLI_HOST_H

#include "conf/conf.h"

/* Source addresses, ways from them, descriptors. control: the daemon's socket, to look at its own limit. */
void host_check(const struct conf *, struct errors *);
/* PTR and EHLO names. */
void host_check_names(const struct conf *, struct errors *);

#endif
