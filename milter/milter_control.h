/*
 * milter_control - the milter's own small control socket: HTTP + JSON over a Unix socket
 *
 * Paths      GET /v1/status; POST /v1/reload, with ?step=check only to see whether the configuration would load.
 *            Reload answers 200, or 409 when it was refused, with an object: "errors", "warnings", and what
 *            conf_diff_json() adds.
 * Threads    A thread of its own, from start to free.
 */
#ifndef MILTER_CONTROL_H
#define MILTER_CONTROL_H

#include "milter/milter.h"

struct milter_control;
/* Takes the listening descriptors. NULL with err if HTTP cannot be served. */
struct milter_control *milter_control_start(struct milter *, const int *fds, int n, struct error *);
void milter_control_free(struct milter_control **);

#endif
