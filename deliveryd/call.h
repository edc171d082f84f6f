/*
 * call - runs a function on another loop's thread and waits for it
 *
 * For the main and control threads only, at start, reload and stop: no queue or net role ever waits like this.
 */
#ifndef DELIVERYD_CALL_H
#define DELIVERYD_CALL_H

#include "base/loop.h"

void call_on(struct loop *, void (*fn)(void *arg), void *arg);

#endif
