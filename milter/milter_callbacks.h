/*
 * milter_callbacks - the functions libmilter calls
 *
 * Follows    libmilter's API; Postfix's MILTER_README for what its milters see. Deletes every header of the stamp's name
 *            that came, and inserts exactly one.
 */
#ifndef MILTER_CALLBACKS_H
#define MILTER_CALLBACKS_H

#include "milter/milter.h"

/* smfi_register(); the milter must outlive libmilter. False if libmilter refuses. */
bool milter_callbacks_register(struct milter *);

#endif
