/*
 * view_check - compares the operators' file with what a replay found
 */
#ifndef T_LIB_VIEW_CHECK_H
#define T_LIB_VIEW_CHECK_H

#include "t/lib/spool_rig.h"

/* Says what differs in `fault`; true = nothing. */
bool view_check(const char *path, const struct rig *, char *fault, size_t n);
/* One number; UINT64_MAX when the query fails. */
uint64_t view_number(const char *path, const char *sql);
/* One text, to be freed; NULL = null, no row, or the query fails. */
char *view_text(const char *path, const char *sql);

#endif
