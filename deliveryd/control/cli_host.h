/*
 * cli_host - `bindpost check --host`: whether this machine can do what the configuration asks of it
 *
 * Purpose    Warnings, never errors: the files may be checked elsewhere than where they will be used.
 * Threads    One; waits for name servers, 30 s at most.
 */
#ifndef CONTROL_CLI_HOST_H
#define CONTROL_CLI_HOST_H

#include "conf/conf.h"

/* User, groups, folders of sockets, spool and log; as root, whether the user can read the files again at a reload. */
void host_check_access(const struct conf *, struct errors *);
/* Source addresses, ways from them, descriptors. control: the daemon's socket, to look at its own limit. */
void host_check(const struct conf *, struct errors *);
/* PTR and EHLO names. */
void host_check_names(const struct conf *, struct errors *);

#endif
